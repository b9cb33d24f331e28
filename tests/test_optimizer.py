"""Tests of `sadl.optimizer`: the numbers of the rules, what is accepted, state, and that nothing is half done.

Takes the rules written out again with Python floats, one number at a time, as the reference; and torch's values.
"""

import copy
import functools
import math
import pickle
import re

import numpy as np
import pytest
from make_reference import (
    OPTIMIZER_LR,
    OPTIMIZER_STEPS,
    OPTIMIZERS,
    in_groups,
    optimizer_name,
    optimizer_problem,
    reference,
)

import sadl
from sadl import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Linear,
    Lion,
    Mlp,
    Optimizer,
    Parameter,
    ReLU,
    RMSprop,
    clip_grad_norm,
    clip_grad_value,
)
from sadl.optimizer import toposort
from sadl.tape import MODE, Mode

ALL = [
    (SGD, {}),
    (SGD, {"momentum": 0.9}),
    (SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (Adam, {}),
    (Adam, {"betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    (AdamW, {}),
    (AdamW, {"betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    (RMSprop, {}),
    (RMSprop, {"alpha": 0.9, "eps": 1e-4, "weight_decay": 0.1, "momentum": 0.5, "centered": True}),
    (Adagrad, {}),
    (Adagrad, {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.2, "eps": 1e-6}),
    (Lion, {}),
    (Lion, {"betas": (0.8, 0.9), "weight_decay": 0.1}),
]
IDS = [f"{cls.__name__}{sorted(options)}" for cls, options in ALL]
each = pytest.mark.parametrize("cls, options", ALL, ids=IDS)


def model(seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return Mlp(
        [Linear(dim_in=3, dim_out=4, dtype=dtype, rng=rng), ReLU(), Linear(dim_in=4, dim_out=2, dtype=dtype, rng=rng)]
    )


X = np.random.default_rng(1).standard_normal((8, 3)).astype(np.float32)
T = np.arange(8) % 2


def train(function, optimizer, steps):
    losses = []
    for _ in range(steps):
        loss = sadl.functional.cross_entropy(function(X), T)
        optimizer.zero_grad()
        optimizer.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    return losses


def with_grad(value, grad, dtype=np.float64):
    p = Parameter(np.array(value, dtype))
    p.grad = np.array(grad, dtype)
    return p


def same_state(a, b):
    a, b = a.get_state(), b.get_state()
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


# ---- the numbers -----------------------------------------------------------------------------------------------


def reference_sgd(p, grads, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    buffer = None  # as torch.optim.SGD documents it
    for g in grads:
        g = g + weight_decay * p
        if momentum:
            buffer = g if buffer is None else momentum * buffer + g
            g = g + momentum * buffer if nesterov else buffer
        p = p - lr * g
    return p


def reference_adam(p, grads, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    m = v = 0.0  # as torch.optim.Adam documents it
    for t, g in enumerate(grads, 1):
        g = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        p = p - lr * (m / (1 - betas[0] ** t)) / (math.sqrt(v / (1 - betas[1] ** t)) + eps)
    return p


def reference_adamw(p, grads, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    m = v = 0.0  # as torch.optim.AdamW documents it
    for t, g in enumerate(grads, 1):
        p = p - lr * weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        p = p - lr * (m / (1 - betas[0] ** t)) / (math.sqrt(v / (1 - betas[1] ** t)) + eps)
    return p


def reference_rmsprop(p, grads, lr, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False):
    v = b = mean = 0.0  # as torch.optim.RMSprop documents it
    for g in grads:
        g = g + weight_decay * p
        v = alpha * v + (1 - alpha) * g * g
        mean = alpha * mean + (1 - alpha) * g
        b = momentum * b + g / (math.sqrt(v - mean * mean * centered) + eps)
        p = p - lr * b
    return p


def reference_adagrad(p, grads, lr, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10):
    total = initial_accumulator_value  # as torch.optim.Adagrad documents it
    for t, g in enumerate(grads):
        g = g + weight_decay * p
        total += g * g
        p = p - lr / (1 + t * lr_decay) * g / (math.sqrt(total) + eps)
    return p


def reference_lion(p, grads, lr, betas=(0.9, 0.99), weight_decay=0.0):
    m = 0.0  # as in the paper
    for g in grads:
        c = betas[0] * m + (1 - betas[0]) * g
        p = p - lr * ((c > 0) - (c < 0) + weight_decay * p)
        m = betas[1] * m + (1 - betas[1]) * g
    return p


REFERENCE = {
    SGD: reference_sgd,
    Adam: reference_adam,
    AdamW: reference_adamw,
    RMSprop: reference_rmsprop,
    Adagrad: reference_adagrad,
    Lion: reference_lion,
}


@each
def test_numbers(cls, options):
    grads = [0.5, -2.0, 0.0, 1e-3, 3.0, 0.25]
    reference = REFERENCE[cls]
    p = with_grad([1.0, -0.5], [0, 0])
    optimizer = cls([p], lr=0.1, **options)
    for g in grads:
        p.grad = np.array([g, -g])
        optimizer.step()
    expected = [reference(1.0, grads, 0.1, **options), reference(-0.5, [-g for g in grads], 0.1, **options)]
    assert np.allclose(p, expected, rtol=1e-13)


@pytest.fixture(scope="module")
def torch_values():
    return reference("optimizers")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("case", OPTIMIZERS, ids=map(optimizer_name, OPTIMIZERS))
def test_ten_steps_are_those_of_torch(torch_values, case, compiled, dtype):
    params = [Parameter(p.astype(dtype)) for p, _, _ in optimizer_problem()]
    factors = [(a.astype(dtype), b.astype(dtype)) for _, a, b in optimizer_problem()]
    optimizer = getattr(sadl, case[0])(in_groups(case, params), lr=OPTIMIZER_LR, **case[1])

    def step():
        optimizer.zero_grad()
        loss = [np.sum(2 * a * np.sin(p) ** 2 + b * p) for p, (a, b) in zip(params, factors, strict=True)]
        optimizer.backward(loss[0] + loss[1])
        optimizer.step()

    step = sadl.compile(step) if compiled else step
    for n in range(OPTIMIZER_STEPS):
        step()
        for i, p in enumerate(params):
            expected = torch_values[f"{optimizer_name(case)}/{i}/{n}"]
            np.testing.assert_allclose(p, expected, rtol=1e-9 if dtype == np.float64 else 1e-4, atol=1e-12)


@each
@pytest.mark.parametrize("dtype, rtol", [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_twenty_compiled_steps_are_those_of_eager_code_in_few_kernels(cls, options, dtype, rtol):
    f, g = model(dtype=dtype), model(dtype=dtype)

    def stepper(f):
        optimizer = cls(f, lr=0.01, **options)

        def step():
            optimizer.zero_grad()
            loss = np.mean(np.square(f(X.astype(dtype))))
            optimizer.backward(loss)
            optimizer.step()
            return loss

        return step, optimizer

    eager, first = stepper(f)
    compiled, second = stepper(g)
    update = sadl.compile(lambda: second.step())
    compiled = sadl.compile(compiled)
    for _ in range(20):
        np.testing.assert_allclose(compiled(), eager(), rtol=rtol)
    for a, b in zip((*f.parameters, *first.state), (*g.parameters, *second.state), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * 1e-2)
    for _ in range(3):
        update()
    assert len(update.kernels) <= 3  # one for the numbers of the step, one for lr, one for all parameters


@each
def test_training_reduces_the_loss(cls, options):
    f = model()
    losses = train(f, cls(f, lr=0.05, **options), 100)
    assert losses[-1] < 0.7 * losses[0]


@each
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes_stay(cls, options, dtype):
    p = with_grad([1.0, 2.0], [0.5, 0.5], dtype)
    optimizer = cls([p], **options)
    optimizer.step()
    inner = np.result_type(dtype, np.float32)  # squares of gradients do not fit into half precision
    assert p.dtype == dtype and all(t.dtype == (inner if t.ndim else np.float64) for t in optimizer.state)


@each
def test_half_precision_stays_finite(cls, options):
    for g in (0.0, 1e-3, 1e4):
        p = with_grad([1.0, 2.0], [g, g], np.float16)
        cls([p], lr=1e-3, **options).step()
        assert np.all(np.isfinite(p))


@each
def test_parameters_of_different_dtypes_and_shapes(cls, options):
    values = [(np.float32, ()), (np.float64, (2, 3)), (np.float32, (0,)), (np.float64, ())]
    params = [with_grad(np.ones(shape), np.ones(shape), dtype) for dtype, shape in values]
    cls(params, lr=0.01, **options).step()
    assert [(p.dtype, p.shape) for p in params] == values
    assert np.allclose(params[0], params[1][0, 0]) and params[1][0, 0] < 1


@each
def test_updates_are_in_place_and_unrecorded(cls, options):
    p = with_grad([1.0, 2.0], [0.5, 0.5])
    memory = p._plain()
    cls([p], **options).step()
    assert p._plain() is memory and memory[0] < 1 and p.is_leaf() and p.requires_grad
    loss = np.sum(p * p)
    cls([p], **options).step()
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


def test_a_gradient_of_another_dtype_does_not_change_the_parameters():
    p = with_grad([1.0], [0.0], np.float32)
    p.grad = np.array([0.5])
    optimizer = Adam([p])
    optimizer.step()
    assert {t.dtype for t in optimizer.state if t.ndim} == {np.dtype(np.float32)}


def test_gradients_that_are_tensors():
    p = Parameter([2.0])
    np.sum(p**3).backward(create_graph=True)
    SGD([p], lr=0.1).step()
    assert np.allclose(p, 2 - 0.1 * 12) and p.is_leaf()


# ---- weight decay, as each paper says -------------------------------------------------------------------------


def decayed(cls, steps, **options):
    """What a parameter of 2, whose gradient is 0, becomes."""
    p = with_grad([2.0], [0.0])
    optimizer = cls([p], lr=0.1, weight_decay=0.5, **options)
    for _ in range(steps):
        optimizer.step()
    return p[0]


def test_decay_that_is_part_of_the_gradient():
    """That of half the square of the parameter: momentum adds it up, and Adam's division hides how large it is."""
    assert np.isclose(decayed(SGD, 1), 2 * (1 - 0.1 * 0.5))
    second = 2 * (1 - 0.05) - 0.1 * (0.9 * 0.5 * 2 + 0.5 * 2 * (1 - 0.05))
    assert np.isclose(decayed(SGD, 2, momentum=0.9), second)
    assert np.isclose(decayed(Adam, 1, eps=0.0), 2 - 0.1)
    assert np.isclose(decayed(Adagrad, 1, eps=0.0), 2 - 0.1)
    assert np.isclose(decayed(RMSprop, 1, alpha=0.75, eps=0.0), 2 - 0.1 / np.sqrt(0.25))


@pytest.mark.parametrize("cls", [AdamW, Lion])
def test_decay_that_is_apart_from_the_gradient(cls):
    """The parameter shrinks by the rate times the decay in each step; the means of the gradient know nothing of it."""
    assert np.isclose(decayed(cls, 3), 2 * (1 - 0.1 * 0.5) ** 3, rtol=1e-14)
    p = with_grad([2.0], [0.0])
    optimizer = cls([p], lr=0.1, weight_decay=0.5)
    optimizer.step()
    assert not any(np.any(t) for t in list(optimizer.state)[1 + hasattr(optimizer, "t") :])


# ---- what is accepted ------------------------------------------------------------------------------------------


def test_forms_of_params():
    f = model()
    named = f.get_parameters()
    for params in (
        f,
        named,
        dict(named),
        list(f.parameters),
        f.parameters,
        (p for p in f.parameters),
        iter(f.parameters),
    ):
        assert [id(p) for p in SGD(params).params] == [id(p) for p in f.parameters]
    assert list(Adam(f).get_state())[2] == "_state{params}{layers[0].W}{m}"
    assert list(Adam({"w": f.layers[0].W}).get_state())[2] == "_state{params}{w}{m}"
    assert list(Adam(list(f.parameters)).get_state())[2] == "_state{params}{0}{m}"


def test_a_compiled_function_as_params():
    f = model()
    assert [id(p) for p in SGD(sadl.compile(f)).params] == [id(p) for p in f.parameters]


def test_a_parameter_given_twice_is_stepped_once():
    a, b = with_grad([1.0], [1.0]), with_grad([1.0], [1.0])
    optimizer = SGD([a, b, a], lr=0.5)
    optimizer.step()
    assert len(optimizer.params) == 2 and a == 0.5 and b == 0.5


def test_refused_params():
    with pytest.raises(ValueError, match="Must pass at least one parameter to optimize"):
        SGD([])
    with pytest.raises(ValueError, match="Must pass at least one parameter to optimize"):
        SGD(ReLU())
    for wrong in ([sadl.tensor([1.0])], {"w": np.ones(1)}, Parameter([1.0])):
        with pytest.raises(TypeError, match="All parameters passed to the optimizer must be of type Parameter"):
            SGD(wrong)
    p = Parameter([1.0])
    p.keep_grad = False
    with pytest.raises(ValueError, match=r"must keep their gradient.*0"):
        SGD([p])
    with pytest.raises(ValueError, match="same path"):
        SGD({1: Parameter([1.0]), "1": Parameter([1.0])})


def test_the_base_is_abstract():
    with pytest.raises(TypeError):
        Optimizer([Parameter([1.0])])


@pytest.mark.parametrize(
    "cls, options",
    [
        (SGD, {"momentum": -0.1}),
        (SGD, {"nesterov": True}),
        (SGD, {"weight_decay": -1}),
        (Adam, {"betas": (1.0, 0.9)}),
        (Adam, {"betas": (0.9, -0.1)}),
        (Adam, {"eps": -1e-8}),
        (Adam, {"weight_decay": float("nan")}),
    ],
)
def test_refused_options(cls, options):
    with pytest.raises(
        ValueError, match=f"{cls.__name__}.*({next(iter(options))}.* out of range|out of range: {next(iter(options))})"
    ):
        cls([Parameter([1.0])], **options)


def test_what_is_fixed_cannot_be_set():
    optimizer = SGD([Parameter([1.0])], momentum=0.9)
    assert (optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (0.9, False, 0.0)
    assert Adam([Parameter([1.0])]).betas == (0.9, 0.999)
    with pytest.raises(
        AttributeError, match=r"\[SGD\] momentum is fixed.*Instead: another .*momentum=0\.5.*load_state"
    ):
        optimizer.momentum = 0.5
    for rated in (optimizer, *optimizer.groups):
        with pytest.raises(TypeError, match="does not support item assignment"):
            rated.options["momentum"] = 0.5
    assert optimizer.momentum == optimizer.groups[0].options["momentum"] == 0.9


# ---- groups ----------------------------------------------------------------------------------------------------


def test_groups_with_options_of_their_own():
    a, b, c = (with_grad([1.0, 2.0], [0.5, -0.5]) for _ in range(3))
    optimizer = Adam(
        [{"params": [a]}, {"params": {"b": b}, "lr": 0.5}, {"params": [c], "weight_decay": 0.3, "betas": [0.5, 0.6]}],
        lr=0.1,
        weight_decay=0.2,
    )
    alone = [(with_grad([1.0, 2.0], [0.5, -0.5]), options) for options in ({}, {"lr": 0.5}, {"weight_decay": 0.3})]
    alone[2][1]["betas"] = (0.5, 0.6)
    others = [Adam([p], **{"lr": 0.1, "weight_decay": 0.2, **options}) for p, options in alone]
    for _ in range(3):
        optimizer.step()
        for other in others:
            other.step()
    assert [p.tolist() for p in (a, b, c)] == [p.tolist() for p, _ in alone]
    assert optimizer.weight_decay == 0.2 and optimizer.groups[2].options["weight_decay"] == 0.3
    assert [id(p) for p in optimizer.params] == [id(a), id(b), id(c)]


def test_rates_of_groups():
    a, b = with_grad([1.0], [1.0]), with_grad([1.0], [1.0])
    optimizer = SGD([{"params": [a]}, {"params": [b], "lr": 0.5}], lr=0.25)
    first, second = optimizer.groups
    assert first.lr is optimizer.lr and second.lr is not optimizer.lr
    optimizer.lr, second.lr = 0.125, 0.75
    optimizer.step()
    assert a == 0.875 and b == 0.25
    assert list(optimizer.get_state()) == ["lr", "groups[1].lr"]
    with pytest.raises(ValueError, match="lr"):
        second.lr = -1
    with pytest.raises(ValueError, match="lr"):
        optimizer.load_state({"lr": np.array(0.5), "groups[1].lr": np.array(-1.0)})
    assert float(optimizer.lr) == 0.125


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copied_groups_keep_the_shared_rate(again):
    copied = again(SGD([{"params": [Parameter([1.0])]}, {"params": [Parameter([1.0])], "lr": 0.5}]))
    assert copied.groups[0].lr is copied.lr is not copied.groups[1].lr
    assert copied.copy_to_device("cpu").groups[0].lr is copied.lr


def test_a_shared_rate_is_set_at_the_optimizer():
    optimizer = SGD([{"params": [Parameter([1.0])]} for _ in range(2)] + [{"params": [Parameter([1.0])], "lr": 0.5}])
    for again in (optimizer, copy.deepcopy(optimizer)):
        with pytest.raises(
            ValueError, match=r"\[Group\].*rate of this group is that of the optimizer.*optimizer\.lr ="
        ):
            again.groups[0].lr = 5.0
        again.groups[2].lr = 0.25
        again.lr = 0.125
        assert [float(group.lr) for group in again.groups] == [0.125, 0.125, 0.25]


@pytest.mark.parametrize("bad", [-3.0, np.inf, np.nan])
def test_a_running_program_refuses_a_bad_rate_and_changes_nothing(bad):
    p = with_grad([1.0], [1.0])
    optimizer = SGD([p], lr=0.5)

    @sadl.compile
    def step(rate):
        optimizer.step()
        optimizer.lr = rate

    for _ in range(3):
        step(np.array(0.25))
    before = p.tolist(), float(optimizer.lr)
    with pytest.raises(ValueError) as eager:
        optimizer.lr = bad
    with pytest.raises(ValueError, match=r"\[lr\] lr=(-3\.0|inf|nan) is out of range.*Made at \S+:\d+") as running:
        step(np.array(bad))
    assert re.sub(r" Made at \S+:\d+\.", "", str(running.value)) == str(eager.value)
    assert (p.tolist(), float(optimizer.lr)) == before and step.stats.programs == 1
    step(np.array(0.0))
    assert float(optimizer.lr) == 0


def test_a_captured_rate_of_another_shape_is_refused():
    optimizer = SGD([Parameter([1.0])])
    for bad in (np.ones(2), np.array(True)):
        with pytest.raises(ValueError, match=r"\[lr\] lr=of "):
            sadl.compile(lambda rate: setattr(optimizer, "lr", rate))(bad)


def test_state_of_groups_goes_on_identically():
    def pair(seed):
        f = model(seed)
        first, last = {"params": f.layers[0]}, {"params": f.layers[2], "lr": 0.01, "momentum": 0.5}
        return f, SGD([first, last], lr=0.05)

    f, optimizer = pair(0)
    train(f, optimizer, 3)
    g, other = pair(1)
    g.load_state(f.get_state())
    other.load_state(optimizer.get_state())
    assert "_state{params}{groups[1].W}{m}" in optimizer.get_state()
    assert train(f, optimizer, 3) == train(g, other, 3)


@pytest.mark.parametrize(
    "groups, match",
    [
        ([{"params": [Parameter([1.0])], "momentun": 1}], "no option 'momentun'.*lr, momentum, nesterov, weight_decay"),
        ([{"params": [Parameter([1.0])], "weight_decay": -1}], "weight_decay"),
        ([{"params": [Parameter([1.0])], "nesterov": True}], "nesterov"),
        ([{"params": [Parameter([1.0])], "lr": -1}], "lr"),
        ([{"lr": 0.1}], "have 'params'"),
        ([{"params": [Parameter([1.0])]}, Parameter([1.0])], "have 'params'"),
        ([{"params": []}], "at least one parameter"),
    ],
)
def test_refused_groups(groups, match):
    with pytest.raises(ValueError, match=match):
        SGD(groups)


def test_a_parameter_in_two_groups_is_refused():
    p = Parameter([1.0])
    with pytest.raises(ValueError, match=r"in two groups: groups\[0\]\.0, groups\[1\]\.p"):
        SGD([{"params": [p]}, {"params": {"p": p}}])


# ---- gradients over several backwards --------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("whole", [False, True], ids=["parts are functions", "one function"])
def test_gradients_of_parts_add_up_to_that_of_the_batch(compiled, whole):
    x = np.random.default_rng(2).standard_normal((8, 3))
    f, g = model(dtype=np.float64), model(dtype=np.float64)
    a, b = Adam(f, lr=0.05), Adam(g, lr=0.05)

    def loss(f, x):
        return np.mean(np.square(f(x)))

    def together():
        a.zero_grad()
        a.backward(loss(f, x))
        a.step()

    def part(x):
        b.backward(loss(g, x) / 4)

    def update():
        b.step()
        b.zero_grad()

    def in_parts():
        for i in range(4):
            part(x[2 * i : 2 * i + 2])
        update()

    if compiled and whole:
        in_parts = sadl.compile(in_parts)
    elif compiled:
        part, update = sadl.compile(part), sadl.compile(update)
    for _ in range(6):
        together()
        in_parts()
        for p, q in zip(f.parameters, g.parameters, strict=True):
            np.testing.assert_allclose(p, q, rtol=1e-12)
    if compiled:
        assert (in_parts if whole else update).stats.captures == 2
        assert whole or part.stats.captures == 4  # with and without a gradient from before


# ---- clipping --------------------------------------------------------------------------------------------------


def clipping_problem(dtype):
    params = [Parameter(p.astype(dtype)) for p, _, _ in optimizer_problem()]
    for p, (_, a, _) in zip(params, optimizer_problem(), strict=True):
        p.grad = a.astype(dtype)
    return params


@pytest.mark.parametrize("dtype, rtol", [(np.float64, 1e-12), (np.float32, 1e-6)])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_clipping_by_norm_is_that_of_torch(compiled, dtype, rtol):
    expected = reference("gradient_clipping")
    for max_norm in (0.1, 2.0, 100.0):
        for norm_type in (1.0, 2.0, 3.0, np.inf):
            params = clipping_problem(dtype)
            clip = functools.partial(clip_grad_norm, params, max_norm, norm_type)
            clip = sadl.compile(clip) if compiled else clip
            for _ in range(3 if compiled else 1):
                for p, q in zip(params, clipping_problem(dtype), strict=True):
                    p.grad = q.grad
                norm = clip()
            assert norm.dtype == dtype and isinstance(norm, sadl.Tensor)
            for i, p in enumerate(params):
                np.testing.assert_allclose(p.grad, expected[f"{max_norm}/{norm_type}/{i}"], rtol=rtol)
            np.testing.assert_allclose(norm, expected[f"{max_norm}/{norm_type}/norm"], rtol=rtol)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("value", [0.2, 5.0])
def test_clipping_by_value_is_that_of_torch(value, compiled):
    expected, params = reference("gradient_clipping"), clipping_problem(np.float64)
    clip = functools.partial(clip_grad_value, params, value)
    clip = sadl.compile(clip) if compiled else clip
    for _ in range(3):
        for p, q in zip(params, clipping_problem(np.float64), strict=True):
            p.grad = q.grad
        clip()
    for i, p in enumerate(params):
        assert np.array_equal(p.grad, expected[f"value {value}/{i}"])


def test_clipping_leaves_out_what_is_frozen():
    p, frozen = with_grad([1.0, 1.0], [3.0, 4.0]), with_grad([1.0], [100.0])
    frozen.requires_grad = False
    assert clip_grad_norm([p, frozen], 2.5) == 5
    clip_grad_value([p, frozen], 2.0)
    np.testing.assert_allclose(p.grad, [1.5, 2.0], rtol=1e-6)
    assert frozen.grad == 100


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_bounds_that_are_tensors(dtype):
    """They do what numbers do, to the bit and in the same dtype, and are looked at in programs as well."""
    values = [Parameter(np.array([1.0, 1.0, 1.0], dtype)) for _ in range(3)]

    def clip(p, norm, value):
        p.grad = np.array([0.3, -0.4, 1.2], dtype)
        clip_grad_norm([p], norm)
        clip_grad_value([p], value)

    clip(values[0], 0.7, 0.3)
    norm, value = sadl.tensor(0.7, dtype=np.float64), sadl.tensor([0.3], dtype=np.float64)
    clip(values[1], norm, value)
    program = sadl.compile(functools.partial(clip, values[2]))
    for _ in range(3):
        program(norm, value)
    first, second, third = (p.grad for p in values)
    assert first.dtype == second.dtype == third.dtype == dtype
    assert np.array_equal(first, second)
    np.testing.assert_allclose(first, third, rtol=4 * np.finfo(dtype).eps)
    for call in (program, functools.partial(clip, values[1])):
        with pytest.raises(ValueError, match=r"max_norm=-1\.0 is out of range"):
            call(sadl.tensor(-1.0, dtype=np.float64), value)
        with pytest.raises(ValueError, match=r"\[clip_grad_value\] clip_value=nan is out of range"):
            call(norm, sadl.tensor([np.nan], dtype=np.float64))
    assert np.array_equal(values[2].grad, third)


def test_clipping_in_a_compiled_step():
    def stepper(f):
        optimizer = SGD(f, lr=0.5, momentum=0.9)

        def step():
            optimizer.zero_grad()
            optimizer.backward(100 * np.mean(np.square(f(X))))
            norm = clip_grad_norm(f, 0.5)
            clip_grad_value(f, 0.1)
            optimizer.step()
            return norm

        return step

    f, g = model(), model()
    eager, compiled = stepper(f), sadl.compile(stepper(g))
    for _ in range(20):
        norm, other = eager(), compiled()
        np.testing.assert_allclose(norm, other, rtol=1e-5)
        assert max(np.max(np.abs(p.grad)) for p in (*f.parameters, *g.parameters)) <= np.float32(0.1)
    for p, q in zip(f.parameters, g.parameters, strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-5, atol=1e-7)


def test_clipping_of_several_dtypes_and_of_none():
    a, b, c = with_grad([3.0], [3.0], np.float16), with_grad([4.0], [4.0]), Parameter([1.0])
    norm = clip_grad_norm([a, b, c], 1.0)
    assert norm == 5 and norm.dtype == np.float64 and c.grad is None
    assert a.grad.dtype == np.float16 and np.allclose([a.grad[0], b.grad[0]], [0.6, 0.8], rtol=1e-3)
    a.grad = np.array([3e4], np.float16)  # its square is no half-precision number
    clip_grad_norm({"a": a}, 1.0)
    assert np.allclose(a.grad, 1)
    assert clip_grad_norm([c], 1.0) == 0
    clip_grad_value([b, c], 0.25)
    assert b.grad == 0.25
    groups = [{"params": [b], "lr": 1.0}]
    assert clip_grad_norm(groups, 1.0) == 0.25


def test_clipping_shows_what_is_not_finite():
    p = with_grad([1.0, 1.0], [np.inf, 1.0])
    with np.errstate(invalid="ignore"):  # NumPy warns of infinity times 0
        assert clip_grad_norm([p], 1.0) == np.inf
    assert np.isnan(p.grad[0]) and p.grad[1] == 0
    p = with_grad([1.0, 1.0], [np.nan, 1.0])
    assert np.isnan(clip_grad_norm([p], 1.0)) and np.all(np.isnan(p.grad))


@pytest.mark.parametrize("bad", [-1.0, float("nan")])
def test_refused_limits(bad):
    p = with_grad([1.0], [1.0])
    with pytest.raises(ValueError, match="max_norm"):
        clip_grad_norm([p], bad)
    with pytest.raises(ValueError, match="norm_type"):
        clip_grad_norm([p], 1.0, bad)
    with pytest.raises(ValueError, match="clip_value"):
        clip_grad_value([p], bad)
    assert p.grad == 1


# ---- the learning rate -----------------------------------------------------------------------------------------


def test_lr_is_a_tensor_that_is_written_in_place():
    p = with_grad([1.0], [1.0])
    optimizer = SGD([p], lr=0.5)
    lr = optimizer.lr
    assert isinstance(lr, sadl.Tensor) and lr.shape == () and lr.dtype == np.float64 and float(lr) == 0.5
    optimizer.lr = 0.25
    assert optimizer.lr is lr and float(lr) == 0.25
    optimizer.lr *= 2
    assert optimizer.lr is lr and float(lr) == 0.5
    optimizer.lr = np.float32(0.125)
    optimizer.step()
    assert p == 0.875 and float(optimizer.get_state()["lr"]) == 0.125
    optimizer.lr = 0
    optimizer.step()
    assert p == 0.875


@pytest.mark.parametrize("bad", [-1e-9, float("nan"), float("inf"), "0.1", None, 1j, True, [0.1, 0.2]])
def test_refused_learning_rates(bad):
    with pytest.raises(ValueError, match="lr"):
        SGD([Parameter([1.0])], lr=bad)
    optimizer = SGD([Parameter([1.0])])
    with pytest.raises(ValueError, match="lr"):
        optimizer.lr = bad
    assert float(optimizer.lr) == 1e-3


@each
def test_rates_change_within_compiled_steps_without_another_capture(cls, options):
    """By a schedule that is part of the step, and by hand between two steps."""

    def stepper(f):
        optimizer = cls(f, lr=0.05, **options)
        schedule = sadl.schedules.CosineAnnealingLR(optimizer, 8, eta_min=0.001)

        def step():
            optimizer.zero_grad()
            optimizer.backward(np.mean(np.square(f(X))))
            optimizer.step()
            schedule.step()

        return step, optimizer

    (f, g), rates = (model(), model()), []
    (eager, first), (compiled, second) = stepper(f), stepper(g)
    compiled = sadl.compile(compiled)
    with sadl.config(jit=False):
        for n in range(10):
            eager(), compiled()
            rates.append(float(second.lr))
            assert np.isclose(rates[-1], float(first.lr), rtol=1e-14)
            if n == 5:
                first.lr = second.lr = 0.02  # for one step
    assert len(set(rates)) >= 8 and compiled.stats.captures == 2
    for a, b in zip(f.parameters, g.parameters, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


# ---- step: all or nothing --------------------------------------------------------------------------------------


@each
def test_a_missing_gradient_leaves_everything_as_it_was(cls, options):
    f = model()
    optimizer = cls(f, **options)
    train(f, optimizer, 2)
    f.layers[2].b.grad = None
    parameters, state = f.get_state(), optimizer.get_state()
    with pytest.raises(ValueError, match=r"Gradient of parameter must not be None in step function.*layers\[2\]\.b"):
        optimizer.step()
    assert all(np.array_equal(parameters[k], p) for k, p in f.get_parameters().items())
    assert all(np.array_equal(state[k], t) for k, t in optimizer.get_state().items())


@each
def test_frozen_parameters_are_skipped(cls, options):
    f = model()
    f.layers[0].requires_grad = False
    before = f.get_state()
    train(f, cls(f, **options), 3)
    changed = [not np.array_equal(before[k], p) for k, p in f.get_parameters().items()]
    assert changed == [False, False, True, True]


def test_zero_grad():
    f, extra = model(), sadl.tensor([1.0], requires_grad=True)
    extra.grad = np.ones(1)
    optimizer = SGD(f)
    optimizer.backward(np.sum(f(X)))
    optimizer.zero_grad([extra])
    assert extra.grad is None and all(p.grad is None for p in f.parameters)


# ---- backward --------------------------------------------------------------------------------------------------


def test_backward_accumulates_into_what_keeps_its_gradient():
    p = Parameter([2.0])
    t = sadl.tensor([3.0], requires_grad=True)
    kept = sadl.tensor([3.0], requires_grad=True, keep_grad=True)
    optimizer = SGD([p])
    for _ in range(2):
        hidden = p * t * kept
        hidden.keep_grad = True
        optimizer.backward(np.sum(hidden))
    assert p.grad == 18 and kept.grad == 12 and hidden.grad == 1
    assert t.grad is None


def test_loss_of_shape_one():
    p = Parameter([2.0])
    SGD([p]).backward(p * 3)
    assert p.grad == 3


def test_backward_refuses():
    p = Parameter([1.0, 2.0])
    optimizer = SGD([p])
    for bad in (1.0, np.float64(1), p * 2, None):
        with pytest.raises(ValueError, match="must be a Tensor of size 1"):
            optimizer.backward(bad)
    loss = np.sum(p)
    loss.keep_grad = True
    with pytest.raises(ValueError, match="keep_grad"):
        optimizer.backward(loss)
    with pytest.raises(ValueError, match="does not depend on"):
        optimizer.backward(sadl.tensor(1.0))
    loss = np.sum(p * p)
    optimizer.backward(loss)
    with pytest.raises(ValueError, match="earlier backward"):
        optimizer.backward(loss)


# ---- state -----------------------------------------------------------------------------------------------------


@each
def test_loading_a_state_into_a_fresh_optimizer_continues_identically(cls, options):
    f = model()
    optimizer = cls(f, lr=0.03, **options)
    train(f, optimizer, 5)
    g = model(seed=5)
    g.load_state(f.get_state())
    fresh = cls(g, lr=0.5, **options)
    fresh.load_state(state=optimizer.get_state())
    assert same_state(optimizer, fresh)
    assert train(f, optimizer, 5) == train(g, fresh, 5)
    assert all(np.array_equal(a, b) for a, b in zip(f.parameters, g.parameters, strict=True))


@each
def test_compiled_steps_go_on_identically_from_a_state(cls, options):
    """In a new program, whose first two calls are captured, as in the one that runs on."""

    def stepper(f):
        optimizer = cls(f, lr=0.01, **options)

        def step():  # the kernels of which were compiled for another test
            optimizer.zero_grad()
            loss = np.mean(np.square(f(X)))
            optimizer.backward(loss)
            optimizer.step()
            return loss

        return sadl.compile(step), optimizer

    f, g = model(), model(seed=5)
    (running, first), (fresh, second) = stepper(f), stepper(g)
    for _ in range(4):
        running()
    g.load_state(f.get_state())
    second.load_state(first.get_state())
    for _ in range(3):
        fresh()  # the first of these are captured
    g.load_state(f.get_state())
    second.load_state(first.get_state())
    for _ in range(3):
        running(), fresh()
        assert same_state(first, second) and same_state(f, g)


def test_state_on_disk(tmp_path):
    f = model()
    optimizer = Adam(f)
    train(f, optimizer, 3)
    sadl.save(optimizer.get_state(), tmp_path / "state.sadl")
    fresh = Adam(model())
    fresh.load_state(sadl.load(tmp_path / "state.sadl"))
    assert same_state(optimizer, fresh) and float(fresh.t) == 3


def test_get_state_copies_and_state_does_not():
    optimizer = Adam([with_grad([1.0], [1.0])])
    copies = optimizer.get_state()
    optimizer.step()
    assert copies["t"] == 0 and optimizer.get_state()["t"] == 1
    assert next(iter(optimizer.state)) is optimizer.lr
    assert list(copies) == ["lr", "t", "_state{params}{0}{m}", "_state{params}{0}{v}"]


def test_momentum_alone_makes_state():
    assert list(SGD([Parameter([1.0])]).get_state()) == ["lr"]
    assert list(SGD([Parameter([1.0])], momentum=0.1).get_state()) == ["lr", "_state{params}{0}{m}"]


def test_load_state_is_all_or_nothing():
    optimizer = Adam([with_grad([1.0], [1.0])])
    optimizer.step()
    before = optimizer.get_state()
    state = optimizer.get_state()
    state["lr"] = sadl.tensor(7.0)
    state["_state{params}{0}{v}"] = np.ones(2)
    state["x"] = state.pop("t")
    with pytest.raises(KeyError, match=r'State data not found for "t".*Unexpected.*"x".*Shape mismatch') as error:
        optimizer.load_state(state=state)
    assert isinstance(error.value, ValueError)
    assert all(np.array_equal(before[k], t) for k, t in optimizer.get_state().items())


def test_partial_state():
    optimizer = Adam([with_grad([1.0], [1.0])])
    optimizer.load_state(state={"lr": np.array(0.5)}, partial=True)
    assert float(optimizer.lr) == 0.5 and float(optimizer.t) == 0


def test_device():
    optimizer = Adam(model())
    m = list(optimizer.state)[2]
    assert optimizer.device == ("cpu",) and optimizer.copy_to_device("cpu") is optimizer
    assert list(optimizer.state)[2] is m
    with pytest.raises(ValueError, match="GPU 1"):
        optimizer.copy_to_device(1)
    with pytest.raises(ValueError, match="GPU 1"):
        optimizer.get_state(1)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copied_together_with_its_model(again):
    f = model()
    optimizer = Adam(f, lr=0.05)
    train(f, optimizer, 2)
    g, copied = again((f, optimizer))
    assert [id(p) for p in copied.params] == [id(p) for p in g.parameters]
    assert train(f, optimizer, 3) == train(g, copied, 3)


# ---- optimizers of one's own -----------------------------------------------------------------------------------


def test_a_subclass_with_only_a_step():
    class Sign(Optimizer):
        def __init__(self, params, lr=1e-3):
            super().__init__(params, lr)
            self.count = sadl.tensor(0.0)

        @sadl.no_grad_fn
        def step(self):
            for p in self.params:
                p -= self.lr * np.sign(p.grad)
            self.count += 1

    p = with_grad([1.0, 1.0], [5.0, -5.0], np.float32)
    optimizer = Sign([p], lr=0.5)
    optimizer.step()
    assert np.array_equal(p, [0.5, 1.5]) and p.dtype == np.float32
    assert list(optimizer.get_state()) == ["lr", "count"]


# ---- under capture ---------------------------------------------------------------------------------------------


class Listener:
    """Records what is seen, and fails where a program could not be built."""

    def __init__(self):
        self.ops, self.rebound = [], []

    def record(self, op, inputs, params, outs):
        self.ops.append(op.name)

    def rebind(self, pairs, *_):
        self.rebound += [target for target, _ in pairs]

    def read(self, how, instead):
        raise AssertionError(f"read a value: {how}")

    def read_grad(self, tensor):
        return sadl.tensor(tensor._grad)

    def write_grad(self, tensor):
        pass

    def guard(self, check, value):
        pass


@each
def test_a_captured_step_reads_no_value_and_writes_all_state(cls, options):
    p, eager = with_grad([1.0, 2.0], [0.5, 0.5]), with_grad([1.0, 2.0], [0.5, 0.5])
    optimizer, other = cls([p], **options), cls([eager], **options)
    listener, before = Listener(), MODE.get()
    MODE.set(Mode(True, listener))
    try:
        optimizer.lr = sadl.tensor(0.5)
        optimizer.step()
    finally:
        MODE.set(before)
    other.lr = 0.5
    other.step()
    written = {id(t) for t in listener.rebound}
    assert written == {id(t) for t in (p, *optimizer.state)}
    assert np.array_equal(p, eager) and same_state(optimizer, other)


# ---- toposort --------------------------------------------------------------------------------------------------


def test_toposort():
    a, b = (sadl.tensor([v], requires_grad=True) for v in (1.0, 2.0))
    c = a * b
    d = c + a
    order = toposort(d)
    assert order[-1] is d and any(t is a for t in order) and any(t is b for t in order) and len(order) == 4
    position = {id(t._node): i for i, t in enumerate(order)}
    for t in order:
        assert all(position[id(s._node)] < position[id(t._node)] for s in t.src)
    plain = sadl.tensor([1.0])
    assert toposort(plain) == [plain]


def test_toposort_of_a_deep_graph():
    x = t = sadl.tensor(1.0, requires_grad=True)
    for _ in range(5000):
        t = t + 1
    assert len(toposort(t)) == 5001 and toposort(t)[0] is x


def test_toposort_of_a_cycle():
    a = sadl.tensor([1.0], requires_grad=True)
    b = a + 1
    c = b + 1
    b._node.parents = [c._node, None]  # nothing that is public can do this
    with pytest.raises(ValueError, match="only DAG allowed"):
        toposort(c)
