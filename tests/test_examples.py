"""The examples do what they say: shortened runs reach a shortened result, compiled steps are the eager ones, and in the
programs of float32 there is no float64 but the numbers of optimizers and schedules.

Every file in examples/ that trains something is looked at; one without a row in SHORT is an error.
"""

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from test_readme import rows

import sadl
from sadl.compiler.ir import Eqn, Graph, Var, operand_dtypes
from sadl.compiler.pipeline import optimise
from sadl.optimizer import Optimizer
from sadl.schedules import Schedule

FOLDER = Path(__file__).parent.parent / "examples"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "side_by_side")
STEPS = 20

# Steps of a short run, and between what its result lies: the first number where nothing is learned, and what is asked.
SHORT = {
    "digits": (100, 0.1, 0.8),  # accuracy
    "lenet": (60, 0.1, 0.8),  # accuracy
    "gpt": (60, 4.6, 3.0),  # nats per character
    "lstm": (100, 0.5, 0.75),  # accuracy
    "vae": (150, 44.0, 28.0),  # nats per image
    "linear_regression": (200, 2.1, 0.05),  # standard deviations from the best
    "logistic_regression": (50, 0.5, 0.93),  # accuracy
}


@pytest.fixture(scope="module", autouse=True)
def folder() -> Iterator[None]:
    """Examples import what they share from their own folder, as Python does when it runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield


@pytest.fixture(scope="module", params=EXAMPLES)
def example(request: pytest.FixtureRequest, folder: None) -> ModuleType:
    return importlib.import_module(request.param)


def test_every_example_is_known() -> None:
    assert sorted(SHORT) == EXAMPLES, "give it a row in SHORT"
    assert [cells[0] for cells in rows("Examples")] == [f"`examples/{name}.py`" for name in SHORT]


def test_the_stated_result_is_the_one_that_is_checked(example: ModuleType) -> None:
    stated = next(cells[2] for cells in rows("Examples") if cells[0] == f"`examples/{example.__name__}.py`")
    assert f"{example.GOAL:g}" in re.findall(r"[\d.e-]+", stated)
    assert example.__doc__ and f"python examples/{example.__name__}.py" in example.__doc__


def test_short_run(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    steps, untrained, wanted = SHORT[example.__name__]
    found = example.main(["--steps", str(steps), "--eager-steps", "3"])
    assert (found - wanted) * (wanted - untrained) > 0, f"{found} is no better than {wanted}"
    printed = capsys.readouterr().out
    assert re.search(rf"^steps +3 +{steps}$", printed, re.MULTILINE) and "times as fast" in printed


# ---- eager and compiled --------------------------------------------------------------------------------------------


class Trained:
    """What so many steps have made of a new start."""

    def __init__(self, example: ModuleType, batches: Any, compile: bool) -> None:
        self.model, self.step = example.start()
        self.before = {name: np.array(a) for name, a in self.arrays().items()}
        if compile:
            self.step = sadl.compile(self.step)
            self.step.prepare(*batches[0])
        losses = [self.step(*batch) for batch in batches]
        self.dtypes = {loss.dtype for loss in losses}
        self.losses = np.array([float(loss) for loss in losses])
        self.random = {name: t.tolist() for name, t in sadl.random.get_state().items()}

    def arrays(self) -> dict[str, Any]:
        """Parameters and buffers."""
        return dict(self.model.get_state()) if isinstance(self.model, sadl.Function) else self.model

    def numbers(self) -> list[Any]:
        """The rates and counts of the optimizers and schedules that the step holds, which are no float32."""
        held = inspect.getclosurevars(getattr(self.step, "fn", self.step)).nonlocals.values()
        rates = [t for x in held if isinstance(x, Optimizer) for t in x.state if t.ndim == 0]
        return rates + [t for x in held if isinstance(x, Schedule) for t in (x.t, x.base)]


@pytest.fixture(scope="module")
def both(example: ModuleType) -> tuple[Trained, Trained]:
    batches = example.batches(STEPS)
    assert len(batches) == STEPS
    return Trained(example, batches, compile=False), Trained(example, batches, compile=True)


def test_twenty_steps(both: tuple[Trained, Trained]) -> None:
    eager, compiled = both
    assert compiled.step.stats.programs == 1 and compiled.step.stats.captures == 2
    np.testing.assert_allclose(compiled.losses, eager.losses, rtol=1e-5)
    assert compiled.random == eager.random
    for name, a in eager.arrays().items():
        b, start = compiled.arrays()[name], eager.before[name]
        assert a.dtype == b.dtype
        assert np.array_equal(start, compiled.before[name])
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4 * np.max(np.abs(a - start)), err_msg=name)


def test_steps_learn(both: tuple[Trained, Trained]) -> None:
    """Otherwise equal steps say little."""
    for trained in both:
        assert trained.losses[-3:].mean() < trained.losses[0]
        assert all(not np.array_equal(a, trained.before[name]) for name, a in trained.arrays().items())


def test_what_the_examples_cover(folder: None) -> None:
    """Dropout, statistics of batches and draws are among what is compared."""
    kinds = {name: dict(vars(importlib.import_module(name).start()[0])) for name in ("gpt", "lenet")}
    assert isinstance(kinds["gpt"]["drop"], sadl.nn.Dropout) and kinds["gpt"]["drop"].p > 0
    layers = {type(layer) for layer in kinds["lenet"]["layers"]}
    assert {sadl.nn.BatchNorm2d, sadl.nn.Dropout} <= layers
    assert "sadl.random.normal" in (FOLDER / "vae.py").read_text()


# ---- no float64 ----------------------------------------------------------------------------------------------------

WIDE = (np.dtype(np.float64), np.dtype(np.complex128))


def leaks(graph: Graph, numbers: set[Any]) -> list[str]:
    """What is float64, or computed in float64, but for what is made of `numbers` alone, which are added to."""
    found = [f"input or constant {v.aval}" for v in (*graph.inputs, *graph.consts) if is_wide(v) and v not in numbers]
    for eqn in graph.eqns:
        read = [x for x in eqn.inputs if isinstance(x, Var)]
        body = eqn.params.get("body")
        if isinstance(body, Graph):
            inner = {v for v, x in zip(body.inputs, eqn.inputs, strict=True) if x in numbers}
            found += leaks(body, inner)
            numbers |= {v for v, x in zip(eqn.outs, body.outputs, strict=True) if x in inner}
        elif read and numbers.issuperset(read):
            numbers |= set(eqn.outs)
        elif any(map(is_wide, eqn.outs)) or computes_wide(eqn):
            found.append(f"{eqn.op.name} gives {', '.join(str(v.aval) for v in eqn.outs)}  # {eqn.where}")
    return found


def is_wide(v: Var) -> bool:
    return v.aval.dtype in WIDE


def computes_wide(eqn: Eqn) -> bool:
    """Whether NumPy's loop for these operands is one of float64, as in float32 < int64."""
    return bool(eqn.op.expr) and any(dtype in WIDE for dtype in operand_dtypes(eqn))


def leaks_of(trained: Trained) -> list[str]:
    """In the captured graph, and in those of all programs after all passes."""
    found = []
    for runner in trained.step._runners:
        numbers = set(map(id, trained.numbers()))
        places = [k for k, source in enumerate(runner._sources) if id(source.held) in numbers]
        for graph in (runner.graph, *(program.plan.graph for program in runner.programs)):
            found += leaks(graph, {graph.inputs[k] for k in places})
    return found


def test_no_float64(both: tuple[Trained, Trained]) -> None:
    assert not leaks_of(both[1])
    for trained in both:
        assert trained.dtypes == {np.dtype(np.float32)}
        assert {a.dtype for a in trained.arrays().values()} == {np.dtype(np.float32)}


def test_rates_and_counts_are_found(both: tuple[Trained, Trained]) -> None:
    """The checker allows for nothing that a step does not have."""
    graph, numbers = both[1].step.graph, both[1].numbers()
    assert sum(map(is_wide, graph.inputs)) == sum(t.dtype in WIDE for t in numbers)


WEIGHTS, COUNTS = np.ones(3, np.float32), np.arange(3)


@sadl.custom_vjp
def wide_backwards(x: Any) -> Any:
    return x * 2


wide_backwards.defvjp(lambda x: (x * 2, None), lambda _, g: ((g * np.float64(2)).astype(np.float32),))

LEAKY = {  # what a loss or an update has in it, and the operation that the checker names
    "nothing": (lambda x: x, lambda g: 0.1 * g, ""),
    "a number of NumPy's": (lambda x: x * np.float64(2), lambda g: 0.1 * g, "multiply"),
    "a number of NumPy's in the update": (lambda x: x, lambda g: np.float64(0.1) * g, "multiply"),
    "there and back": (lambda x: np.exp(x.astype(np.float64)).astype(np.float32), lambda g: g, "cast"),
    "a sum": (lambda x: np.sum(x, dtype=np.float64).astype(np.float32), lambda g: g, "cast"),
    "a comparison": (lambda x: np.where(x < COUNTS, x, 0), lambda g: g, "less"),
    "a mean of integers": (lambda x: x * np.mean(COUNTS * (x > 0)).astype(np.float32), lambda g: g, "sum"),
    "an array from outside": (lambda x: (x * np.ones(3)).astype(np.float32), lambda g: g, "input"),
    "backwards": (wide_backwards, lambda g: g, "multiply"),
}


@pytest.mark.parametrize("what", LEAKY)
def test_the_checker_sees(what: str) -> None:
    in_loss, in_update, named = LEAKY[what]
    weights = WEIGHTS.copy()

    def step(x: Any) -> Any:
        loss, slope = sadl.value_and_grad(lambda w: np.sum(in_loss(w * x)))(weights)
        np.subtract(weights, in_update(slope), out=weights, casting="same_kind")
        return loss

    graph = sadl.make_ir(step)(np.ones(3, np.float32))
    for shown in (graph, optimise(graph)):
        found = leaks(shown, set())
        assert bool(found) == bool(named), found
        assert named in " ".join(found)


# ---- what the examples share ---------------------------------------------------------------------------------------


def runs_of(folder: None, second_rate: float, steps: int) -> Any:
    """A descent to 0 whose compiled run may have another rate."""
    rates = iter([0.1, second_rate])

    def start() -> Any:
        w, rate = np.ones(3, np.float32), next(rates)

        def step(x: Any) -> Any:
            loss, slope = sadl.value_and_grad(lambda w: np.sum((w * x) ** 2))(w)
            np.subtract(w, rate * slope, out=w)
            return loss

        return w, step

    shared = importlib.import_module("side_by_side")
    batches = lambda n: [(np.ones(3, np.float32),)] * n
    return shared, shared.train("A descent.", start, batches, 30, args=["--steps", str(steps)])


def test_steps_that_differ_are_an_error(folder: None) -> None:
    shared, runs = runs_of(folder, 0.1, 30)
    assert shared.report(runs, "largest", np.max, at_most=0.01) == np.max(runs.compiled.model) < 0.01
    shared, runs = runs_of(folder, 0.1001, 30)
    with pytest.raises(SystemExit, match="differ by more than"):
        shared.report(runs, "largest", np.max, at_most=0.01)


def test_a_promise_is_for_full_runs(folder: None) -> None:
    shared, runs = runs_of(folder, 0.1, 30)
    with pytest.raises(SystemExit, match="largest: 0.00.*, but at most 0.001 is promised"):
        shared.report(runs, "largest", np.max, at_most=0.001)
    with pytest.raises(SystemExit, match="at least 0.5 is promised"):
        shared.report(runs, "largest", np.max, at_least=0.5)
    shared, runs = runs_of(folder, 0.1, 5)
    assert shared.report(runs, "largest", np.max, at_most=0.001) > 0.1
    with pytest.raises(SystemExit, match="2"):
        runs_of(folder, 0.1, 0)


def test_batches_go_on_in_the_next_epoch(folder: None) -> None:
    loader = sadl.data.DataLoader(sadl.data.ArrayDataset(np.arange(6)), batch_size=2, shuffle=True, seed=0)
    found = [batch.tolist() for (batch,) in importlib.import_module("side_by_side").first_batches(loader, 7)]
    assert len(found) == 7 and found[:3] != found[3:6]
    assert all(np.array_equal(np.sort(epoch, axis=None), np.arange(6)) for epoch in (found[:3], found[3:6]))
