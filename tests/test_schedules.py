"""Tests of `sadl.schedules`: rates are those of torch, eager and in programs, and go on after a state was loaded."""

import copy
import re

import numpy as np
import pytest
from make_reference import SCHEDULE_STEPS, SCHEDULES, reference

import sadl
from sadl import SGD, Adam, Parameter, schedules

each = pytest.mark.parametrize("name", SCHEDULES)


@pytest.fixture(scope="module")
def torch_rates():
    return reference("schedules")


def optimizer_with_groups():
    a, b = Parameter([1.0]), Parameter([1.0])
    a.grad, b.grad = np.ones(1), np.ones(1)
    return SGD([{"params": [a]}, {"params": [b], "lr": 0.4}], lr=0.1)


def rates(optimizer):
    return [float(group.lr) for group in optimizer.groups]


@each
@pytest.mark.parametrize("compiled", ["eager", "the schedule", "with the step"])
def test_rates_are_those_of_torch(torch_rates, name, compiled):
    optimizer = optimizer_with_groups()
    schedule = SCHEDULES[name](schedules, optimizer)

    def both():
        optimizer.step()
        schedule.step()

    def only():
        schedule.step()

    step = {"eager": only, "the schedule": sadl.compile(only), "with the step": sadl.compile(both)}[compiled]
    found = [rates(optimizer)]
    for _ in range(SCHEDULE_STEPS):
        step()
        found.append(rates(optimizer))
    np.testing.assert_allclose(found, torch_rates[name], rtol=1e-12, atol=1e-15)
    if compiled != "eager":
        assert step.stats.captures == 2
        assert int(schedule.t) == SCHEDULE_STEPS


@each
def test_the_updates_follow_the_rates(torch_rates, name):
    optimizer = optimizer_with_groups()
    schedule = SCHEDULES[name](schedules, optimizer)
    step = sadl.compile(optimizer.step)
    for _ in range(SCHEDULE_STEPS):
        step()
        schedule.step()
    expected = 1 - np.sum(torch_rates[name][:-1], axis=0)
    np.testing.assert_allclose([p[0] for p in optimizer.params], expected, rtol=1e-12)
    assert step.stats.captures == 2  # a new rate is no new program


@each
def test_going_on_from_a_state(name):
    first, optimizer = SCHEDULES[name](schedules, o := optimizer_with_groups()), o
    for _ in range(7):
        first.step()
    again = optimizer_with_groups()
    again.load_state(optimizer.get_state())  # before the schedule is made, which then starts from a wrong base
    second = SCHEDULES[name](schedules, again)
    second.load_state(first.get_state())
    again.load_state(optimizer.get_state())
    for _ in range(7):
        assert rates(optimizer) == rates(again)
        first.step()
        second.step()
    assert rates(optimizer) == rates(again)


@pytest.mark.parametrize("T_mult", [1, 2, 3, 10])
def test_restarts_are_at_the_very_step(T_mult):
    """However far on: whole numbers do not round."""
    schedule = schedules.CosineAnnealingWarmRestarts(SGD([Parameter([1.0])], lr=1.0), 7, T_mult)
    start, length = 0, 7
    for _ in range(12):
        for t in (0, 1, length // 2, length - 1):
            expected = (1 + np.cos(np.pi * t / length)) / 2
            np.testing.assert_allclose(schedule.rates([1.0], start + t), expected, rtol=1e-12, atol=1e-15)
        start, length = start + length, length * T_mult


def test_a_mixture_of_eager_and_compiled_steps():
    optimizer, other = optimizer_with_groups(), optimizer_with_groups()
    schedule, reference = (SCHEDULES["SequentialLR"](schedules, o) for o in (optimizer, other))
    compiled = sadl.compile(schedule.step)
    for n in range(SCHEDULE_STEPS):
        (compiled if n % 3 else schedule.step)()
        reference.step()
        np.testing.assert_allclose(rates(optimizer), rates(other), rtol=1e-14)


def test_the_base_is_the_rate_before_the_first_schedule():
    optimizer = SGD([Parameter([1.0])], lr=0.5)
    schedules.LinearLR(optimizer, 0.1)
    assert float(optimizer.lr) == 0.05
    assert schedules.ExponentialLR(optimizer, 0.9).base.tolist() == [0.5]
    optimizer.lr = 0.25
    schedule = schedules.ExponentialLR(optimizer, 0.5)
    assert schedule.base.tolist() == [0.25]
    optimizer.lr *= 4
    schedule.step()
    assert float(optimizer.lr) == 0.125  # overwritten
    optimizer.lr *= 4
    assert schedules.ExponentialLR(optimizer, 0.5).base.tolist() == [0.5]


def test_copied_together_with_its_optimizer():
    optimizer = SGD([Parameter([1.0])], lr=1.0)
    schedule = schedules.ExponentialLR(optimizer, 0.5)
    other, copied = copy.deepcopy((optimizer, schedule))
    copied.step()
    assert float(other.lr) == 0.5 and float(optimizer.lr) == 1


def test_a_lambda_that_decides_in_python():
    optimizer = Adam([Parameter([1.0])], lr=1.0)
    seen = []
    table = [1.0, 0.5, 0.25, 0.125]

    def factor(t):
        seen.append(type(t))
        return table[t] if t < 3 else 0.0

    schedule = schedules.LambdaLR(optimizer, factor)
    schedule.step()
    assert float(optimizer.lr) == 0.5 and set(seen) == {int}
    with pytest.raises(sadl.CaptureError, match="reads a value"):
        sadl.compile(schedule.step)()
    assert float(optimizer.lr) == 0.5 and int(schedule.t) == 1


def test_a_lambda_with_a_bad_rate():
    optimizer = SGD([Parameter([1.0])], lr=1.0)
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"LambdaLR.*the rate=.*finite number >= 0"):
            schedules.LambdaLR(optimizer, lambda t, bad=bad: bad)
    with pytest.raises(ValueError, match="2 functions were given for 1 rates"):
        schedules.LambdaLR(optimizer, [lambda t: 1, lambda t: 1])


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda o: schedules.StepLR(o, 0), "step_size=0"),
        (lambda o: schedules.StepLR(o, 1.5), "step_size=1.5"),
        (lambda o: schedules.StepLR(o, 2, -0.1), "gamma=-0.1"),
        (lambda o: schedules.MultiStepLR(o, [3, 2]), "not in order"),
        (lambda o: schedules.MultiStepLR(o, [0]), "milestones=0"),
        (lambda o: schedules.ExponentialLR(o, float("nan")), "gamma=nan"),
        (lambda o: schedules.CosineAnnealingLR(o, True), "T_max=True"),
        (lambda o: schedules.CosineAnnealingLR(o, 5, -0.5), "eta_min=-0.5"),
        (lambda o: schedules.CosineAnnealingWarmRestarts(o, 0), "T_0=0"),
        (lambda o: schedules.CosineAnnealingWarmRestarts(o, 3, 1.5), "T_mult=1.5"),
        (lambda o: schedules.LinearLR(o, total_iters=0), "total_iters=0"),
        (lambda o: schedules.LinearLR(o, start_factor=-1), "start_factor=-1"),
        (lambda o: schedules.SequentialLR(o, [schedules.ExponentialLR(o, 1)], [2]), "1 schedules and 1 milestones"),
        (lambda o: schedules.SequentialLR(o, [schedules.ExponentialLR(SGD([Parameter([1.0])]), 1)], []), "another"),
    ],
)
def test_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make(SGD([Parameter([1.0])]))


def test_what_is_no_number_is_refused():
    with pytest.raises(TypeError, match="CosineAnnealingLR.*eta_min=None is no number"):
        schedules.CosineAnnealingLR(SGD([Parameter([1.0])]), 5, None)


@pytest.mark.parametrize("factor", [lambda t: 4 - t, lambda t: 1 / np.maximum(5 - t, 0), lambda t: np.sqrt(4.5 - t)])
def test_a_running_program_refuses_a_rate_that_is_none_and_changes_nothing(factor):
    """Negative, infinite, NaN: with the words of eager code, and nothing is half done."""

    def made():
        optimizer = optimizer_with_groups()
        return optimizer, schedules.LambdaLR(optimizer, [lambda t: 0.5**t, factor])

    (one, eager), (other, schedule) = made(), made()
    program = sadl.compile(lambda: schedule.step())
    with np.errstate(all="ignore"):
        messages = []
        for step in (eager.step, program):
            for _ in range(6):
                before = rates(one), rates(other), int(eager.t), int(schedule.t)
                try:
                    step()
                except ValueError as error:
                    messages.append(str(error))
                    assert (rates(one), rates(other), int(eager.t), int(schedule.t)) == before
    said, again = [m for m in messages if "Made at" not in m], [m for m in messages if "Made at" in m]
    assert program.stats.programs == 1 and said and len(said) == len(again)
    assert [re.sub(r" Made at \S+:\d+\.", "", m) for m in again] == said
    assert all(re.match(r"\[LambdaLR\] the rate=(-0\.4|inf|nan) is out of range", m) for m in said), said
    assert rates(one) == rates(other)


def test_an_optimizer_is_needed():
    with pytest.raises(TypeError, match="is no Optimizer"):
        schedules.ExponentialLR(Parameter([1.0]), 0.5)


def test_a_bad_state_changes_nothing():
    schedule = schedules.ExponentialLR(SGD([Parameter([1.0])]), 0.5)
    with pytest.raises(KeyError, match=r'not found for "base".*Unexpected.*"x"'):
        schedule.load_state({"t": np.array(3), "x": np.array(1)})
    with pytest.raises(ValueError, match="Shape mismatch"):
        schedule.load_state({"t": np.array(3), "base": np.ones(2)})
    assert int(schedule.t) == 0
