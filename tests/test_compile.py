"""Tests of sadl.compile from the outside: a compiled function does what the function does, and costs what it should.

Takes models, plain functions and whole training steps, run twice from the same start: eager and compiled.
What surprises is in test_footguns.py, where kernels are kept in test_store.py.
"""

import collections
import copy
import json
import os
import pickle
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
from corpus import CORPUS, batches, close, mlp, of, training_step, values

import sadl
import sadl.functional as F
from sadl.errors import CaptureError, CompileError, StaleValueError
from sadl.kernels import store
from sadl.tree import flatten

X = np.arange(6.0).reshape(2, 3) / 10
SGD = lambda model: sadl.SGD(model, lr=0.1, momentum=0.9)


def both(make):
    """The same thing twice, made by `make`, which gives a function and what it changes: eager and compiled."""
    (fn, *eager), (other, *changed) = make(), make()
    return fn, sadl.compile(other), eager, changed


def make_step(optimizer=SGD, dtype=np.float32):
    model = mlp(dtype)
    opt = optimizer(model)
    return training_step(model, opt), model, opt


def gradients(model):
    return [None if p.grad is None else np.array(p.grad) for p in model.parameters]


def all_close(got, expected, scale=1.0):
    return len(got) == len(expected) and all(close(a, b, scale) for a, b in zip(got, expected, strict=True))


# ---- training steps --------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "sgd": lambda model: sadl.SGD(model, lr=0.1),
    "momentum": SGD,
    "nesterov": lambda model: sadl.SGD(model, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda model: sadl.Adam(model, lr=0.01),
    "adam_decay": lambda model: sadl.Adam(model, lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_steps(name, dtype, tolerance):
    eager, compiled, held, other = both(lambda: make_step(OPTIMIZERS[name], dtype))
    for x, y in batches(20, dtype=dtype):
        assert float(compiled(x, y)) == pytest.approx(float(eager(x, y)), rel=tolerance)
    for a, b in zip(values(*other), values(*held), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    assert (compiled.stats.captures, compiled.stats.programs) == (2, 1)


def test_eager_and_compiled_steps_mix():
    """Eager steps before, between and after compiled ones see the same memory."""
    eager, compiled, held, other = both(lambda: make_step(OPTIMIZERS["adam"]))
    plain = compiled.fn
    for k, (x, y) in enumerate(batches(12)):
        assert close((plain if k % 4 == 0 else compiled)(x, y), eager(x, y))
        assert all_close(gradients(other[0]), gradients(held[0]), 10)
    assert all_close(values(*other), values(*held), 10)
    assert compiled.stats.captures == 2


def test_gradients_after_a_step_are_plain_arrays_of_their_own():
    step, model, _ = make_step()
    compiled = sadl.compile(step)
    for x, y in batches(4):
        compiled(x, y)
        grads = [p.grad for p in model.parameters]
        assert all(type(g) is np.ndarray and g.dtype == np.float32 for g in grads)
    kept, before = grads[0], grads[0].copy()
    compiled(*batches(1)[0])
    assert np.array_equal(kept, before)


def test_a_learning_rate_takes_effect_without_a_new_capture():
    eager, compiled, (_, opt), (_, other) = both(make_step)
    for k, (x, y) in enumerate(batches(8)):
        opt.lr = other.lr = 0.1 / (k + 1)
        assert close(compiled(x, y), eager(x, y))
    assert all_close(values(other), values(opt), 10) and compiled.stats.captures == 2


def test_changes_by_numpy_are_seen():
    eager, compiled, (model, _), (other, _) = both(make_step)
    for k, (x, y) in enumerate(batches(8)):
        for m in (model, other):
            np.asarray(m.layers[0].W)[k % 3] *= 0.5
            m.load_parameters({"layers[2].b": np.full(3, k / 10)}, partial=True)
        assert close(compiled(x, y), eager(x, y))


def test_gradients_accumulate_over_two_calls():
    def make():
        model = mlp(np.float64)

        def accumulate(x, y):
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        return accumulate, model

    eager, compiled, (model,), (other,) = both(make)
    for k, (x, y) in enumerate(batches(12, dtype=np.float64)):
        if k % 3 == 0:
            for p in (*model.parameters, *other.parameters):
                p.grad = None
        assert close(compiled(x, y), eager(x, y))
        assert all_close(gradients(other), gradients(model))
    assert compiled.stats.captures == 4  # with and without a gradient to add to


def test_only_the_optimizer_is_compiled():
    step, model, opt = make_step()
    other = mlp()
    optimizer = SGD(other)
    update = sadl.compile(optimizer.step)
    for x, y in batches(6):
        step(x, y)
        optimizer.zero_grad()
        F.cross_entropy(other(x), y).backward()
        update()
    assert all_close(values(other), values(model), 10) and update.stats.captures == 2


def test_an_optimizer_step_may_be_repeated_with_the_same_gradients():
    p = sadl.Parameter(np.ones(3))
    opt = sadl.SGD([p], lr=0.1)
    update = sadl.compile(opt.step)
    (p * 2).sum().backward()
    for _ in range(4):
        update()
    assert close(p, np.full(3, 1 - 4 * 0.2)) and type(p.grad) is np.ndarray


# ---- steps of all kinds ----------------------------------------------------------------------------------------------


def stepping(make):
    """A maker of steps without gradients at first; `make` gives a model, an optimizer or None, and what to compute."""

    def maker():
        model, optimizer, compute = make()

        def step(*args):
            for p in model.parameters:
                p.grad = None
            result = compute(*args)
            if optimizer is not None:
                optimizer.step()
            return result

        return step, model

    return maker


class Normalised(sadl.Function):
    """A linear layer and normalisation, with running statistics as Buffers."""

    def __init__(self):
        self.linear = sadl.Linear(dim_in=6, dim_out=5, rng=0, dtype=np.float64)
        self.mean, self.var = sadl.Buffer(np.zeros(5)), sadl.Buffer(np.ones(5))

    def __call__(self, x):
        h = self.linear(x)
        mean, var = np.mean(h, axis=0), np.var(h, axis=0)
        with sadl.no_grad():
            self.mean[...] = 0.9 * self.mean + 0.1 * mean
            self.var[...] = 0.9 * self.var + 0.1 * var
        return (h - mean) / np.sqrt(var + 1e-5) + self.mean


class Table(sadl.Function):
    """Rows by number; `twin` is the same Parameter."""

    def __init__(self, rows, columns):
        self.W = self.twin = sadl.Parameter(np.random.default_rng(0).standard_normal((rows, columns)))

    def __call__(self, i):
        return self.W[i]


def backward(loss, **options):
    loss.backward(**options)
    return loss


def of_mlp(compute, optimizer=lambda m: sadl.SGD(m, lr=0.01, momentum=0.9)):
    def make():
        model = mlp(np.float64)
        return model, optimizer and optimizer(model), lambda x: compute(model, x)

    return stepping(make)


def _penalty(m, x):
    value, slope = sadl.value_and_grad(lambda x: np.sum(np.tanh(m(x))))(x)
    return backward(value + np.sum(np.square(slope)))


def _created(m, x):
    np.sum(np.tanh(m(x))).backward(create_graph=True)
    penalty = sum(np.sum(np.square(p.grad)) for p in m.parameters)
    for p in m.parameters:
        p.grad = None
    return backward(penalty)


def _kept(m, x):
    h = m.layers[0](x)
    h.keep_grad = True
    backward(np.sum(np.tanh(h)))
    return h.grad * 2


def _clipped(m, x):
    loss = backward(np.sum(np.square(m(x))))
    factor = np.minimum(1, 1 / np.sqrt(sum(np.sum(np.square(p.grad)) for p in m.parameters)))
    for p in m.parameters:
        p.grad *= factor
    return loss, factor


def _predictions(m, x):
    logits = m(x)
    return backward(F.cross_entropy(logits, np.argmax(x[:, :3], axis=1))), logits


def _recurrent():
    model = Table(6, 6)
    hidden = sadl.tensor(np.zeros(6))

    def compute(x):
        states = [hidden * 1]
        for row in x:
            states.append(np.tanh(row + states[-1] @ model.W))
        loss = backward(np.mean(np.square(np.stack(states[1:]) - x)))
        with sadl.no_grad():
            hidden[...] = states[-1]
        return loss

    return model, sadl.SGD(model, lr=0.1), compute


def _moving_average():
    model, average = mlp(np.float64), mlp(np.float64)
    optimizer = sadl.SGD(model, lr=0.1)

    def compute(x):
        with sadl.no_grad():
            target = average(x)
            for p, q in zip(model.parameters, average.parameters, strict=True):
                q[...] = 0.9 * q + 0.1 * p
        return backward(np.sum(np.square(model(x) - target + 1)))

    return model, optimizer, compute


def _of(model, loss):
    return stepping(lambda: ((m := model()), sadl.SGD(m, lr=0.1), lambda x: backward(loss(m, x))))


STEPS = {
    "gradient penalty": of_mlp(_penalty),
    "create_graph": of_mlp(_created),
    "two losses": of_mlp(lambda m, x: (h := m(x), backward(np.sum(h * h), retain_graph=True), backward(np.sum(h)))[1:]),
    "keep_grad": of_mlp(_kept, optimizer=None),
    "clipped gradients": of_mlp(_clipped),
    "predictions": of_mlp(_predictions),
    "predictions without update": of_mlp(_predictions, optimizer=None),
    "halves": of_mlp(lambda m, x: (h := np.split(m(x), 2), backward(np.sum(h[0] * h[1])))),
    "extremes": of_mlp(lambda m, x: backward(np.sum(np.max(m(x) * 1.7 + x[:, :3], axis=1)) + np.min(m(x)))),
    "deviations": of_mlp(
        lambda m, x: backward(np.sum(np.std(m(x), axis=0)) + np.mean(np.var(x @ x.T + np.sum(m(x)), 1)))
    ),
    "statistics": _of(Normalised, lambda m, x: np.mean(np.abs(m(x)) * x[:, :5])),
    "table": _of(lambda: Table(10, 4), lambda m, x: np.sum(np.square(m(np.argsort(x, axis=1)) - 1))),
    "tied weights": _of(lambda: Table(6, 5), lambda m, x: np.mean(np.square(np.tanh(x @ m.W) @ m.twin.T - x))),
    "recurrent": stepping(_recurrent),
    "moving average": stepping(_moving_average),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_of_all_kinds(name):
    eager, compiled, (model,), (other,) = both(STEPS[name])
    with sadl.config(jit=False):
        for k in range(5):
            x = np.random.default_rng(k).standard_normal((4, 6))
            assert all_close(flatten(compiled(x))[0], flatten(eager(x))[0], 1e3)
            assert all_close(values(other), values(model), 1e3)
            assert all_close([p.grad for p in other.parameters], [p.grad for p in model.parameters], 1e3)
    assert compiled.stats.captures == 2


# ---- what it costs ---------------------------------------------------------------------------------------------------


def test_counts_are_exact():
    before = store.stats.compiled
    step, model, _ = make_step(lambda model: sadl.SGD(model, lr=0.1, momentum=0.5, nesterov=True))
    compiled = sadl.compile(step)
    for x, y in batches(5):
        compiled(x, y)
    stats = compiled.stats
    assert (stats.captures, stats.programs) == (2, 1)
    assert store.stats.compiled - before == stats.kernels_compiled
    assert stats.kernels_compiled + stats.cache_hits <= len(compiled.kernels) <= 8
    for x, y in batches(3, size=16):  # a new batch size: a new program of the same kernels
        compiled(x, y)
    assert (stats.captures, stats.programs) == (4, 2)
    assert store.stats.compiled - before == stats.kernels_compiled <= len(compiled.kernels) <= 8


def test_another_model_of_the_same_structure_compiles_nothing():
    def train(sizes):
        model = mlp(sizes=sizes)
        compiled = sadl.compile(training_step(model, SGD(model)))
        for x, y in batches(3):
            compiled(x, y)
        return compiled.stats

    train((6, 5, 3))
    stats = train((6, 7, 7, 4))
    assert stats.kernels_compiled == 0 and stats.programs == 1


PROGRAM = """
import json, sys
from corpus import batches
from test_compile import make_step
import sadl
step, model, opt = make_step()
compiled = sadl.compile(step)
losses = [float(compiled(x, y)) for x, y in batches(4)]
loaded = sorted(m for m in ("numba", "llvmlite") if m in sys.modules)
print(json.dumps([losses, compiled.stats.kernels_compiled, compiled.stats.cache_hits, loaded]))
"""


def in_a_new_process(text, **environment):
    """What `text` prints as JSON, run beside the tests with another environment."""
    here = os.path.dirname(__file__)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    result = subprocess.run(
        [sys.executable, "-c", text], env=env, cwd=here, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_a_second_process_compiles_nothing(tmp_path):
    first, second = (in_a_new_process(PROGRAM, SADL_CACHE_DIR=str(tmp_path)) for _ in range(2))
    (losses, compiled, hits, _), (again, compiled_again, hits_again, loaded) = first, second
    assert compiled > 0 == hits and (compiled_again, hits_again) == (0, compiled)
    assert losses == again and "numba" not in loaded


# ---- compiled models and functions -----------------------------------------------------------------------------------


def test_a_compiled_model_is_trained_by_eager_code():
    def make():
        model = mlp()
        return model, SGD(model)

    model, opt = make()
    other, optimizer = make()
    compiled = sadl.compile(other)
    for x, y in batches(6):
        training_step(model, opt)(x, y)
        training_step(compiled, optimizer)(x, y)
        assert all_close(gradients(other), gradients(model), 10)
    assert all_close(values(other, optimizer), values(model, opt), 10)
    assert compiled.stats.captures == 2


def test_a_compiled_model_passes_for_the_model():
    model = mlp()
    compiled = sadl.compile(model)
    assert list(compiled.parameters) == list(model.parameters)
    assert sadl.SGD(compiled, lr=0.1).params == list(model.parameters)
    assert compiled.inference() is model and not compiled.is_training()
    compiled.requires_grad = False
    assert not model.requires_grad and "Mlp" in repr(compiled)


def test_gradients_by_inputs_and_parameters():
    model = mlp(np.float64)
    compiled = sadl.compile(model)
    for k in range(4):
        for p in model.parameters:
            p.grad = None
        found = []
        for f in (model, compiled):
            x = sadl.tensor(X[:, :3].repeat(2, axis=1) + k, requires_grad=True)
            np.sum(np.square(f(x))).backward()
            found.append([x.grad, *gradients(model)])
            for p in model.parameters:
                p.grad = None
        assert all_close(*found)


def test_a_compiled_function_has_derivatives_of_any_order():
    weights = sadl.Parameter(np.ones((3, 2)) / 3)
    f = lambda x: np.sum(np.tanh(x @ weights) * x[:, :2])
    compiled = sadl.compile(f)
    second = lambda f: sadl.grad(lambda x: np.sum(np.square(sadl.grad(f)(x))))
    for k in range(4):
        assert close(sadl.grad(compiled)(X + k), sadl.grad(f)(X + k))
        assert close(second(compiled)(X + k), second(f)(X + k))
    sadl.check_grads(compiled, (X,), order=2)


def test_several_results_and_only_some_of_them_used():
    f = lambda x: (np.sin(x), np.sum(x * x, axis=0), x > 0.2)
    compiled = sadl.compile(f)
    for k in range(4):
        for pick in (lambda r: np.sum(r[0]), lambda r: np.sum(r[1] * r[1]), lambda r: np.sum(r[0] * 2 + r[1])):
            x, y = (sadl.tensor(X + k, requires_grad=True) for _ in range(2))
            pick(f(x)).backward()
            pick(compiled(y)).backward()
            assert close(y.grad, x.grad)


def test_derivatives_inside():
    def f(x, y):
        value, grad = sadl.value_and_grad(lambda x: np.sum(np.exp(x) * y))(x)
        out, pullback = sadl.vjp(lambda a, b: np.sin(a) * b, x, y)
        return value, grad, pullback(out), sadl.grad(lambda x: np.sum(sadl.grad(lambda x: np.sum(x**3))(x)))(x)

    compiled = sadl.compile(f)
    for k in range(4):
        got, expected = compiled(X, X + k), f(sadl.Tensor(X), sadl.Tensor(X + k))
        assert close(got[0], expected[0]) and close(got[1], expected[1]) and close(got[3], expected[3])
        assert all_close(got[2], expected[2])


def test_a_compiled_function_in_a_compiled_function():
    inner = sadl.compile(lambda x: x * 2)
    outer = sadl.compile(lambda x: inner(x) + 1)
    for k in range(4):
        assert close(outer(X + k), (X + k) * 2 + 1)
    assert inner.stats.captures == 0 and outer.stats.captures == 2
    assert close(sadl.compile(inner)(X), X * 2)


def test_a_stale_value_is_an_error_as_in_eager_mode():
    step, model, _ = make_step()
    compiled = sadl.compile(step)
    for x, y in batches(3):
        compiled(x, y)
    loss = F.cross_entropy(model(x), y)
    compiled(x, y)  # writes the weights that `loss` needs
    with pytest.raises(StaleValueError):
        loss.backward()


def test_decorator_method_copy_and_pickle():
    class Scaler:
        factor = 3.0

        @sadl.compile
        def __call__(self, x):
            return x * self.factor

    assert close(Scaler()(X), X * 3)
    compiled = sadl.compile(mlp())
    batch = batches(1)[0][0]
    for again in (compiled, copy.copy(compiled), copy.deepcopy(compiled), pickle.loads(pickle.dumps(compiled))):
        for _ in range(3):
            assert close(again(batch), compiled.fn(batch))


# ---- signatures ------------------------------------------------------------------------------------------------------


class Noisy(sadl.Function):
    """Its result depends on the mode."""

    def __init__(self):
        self.W = sadl.Parameter(np.full(3, 2.0))

    def __call__(self, x):
        return x * self.W if self.is_training() else x


def captures(compiled, *calls, times=3):
    """How many captures each call costs, done `times` times."""
    found = []
    for call in calls:
        before = compiled.stats.captures
        for _ in range(times):
            call(compiled)
        found.append(compiled.stats.captures - before)
    return found


SIGNATURES = {  # calls that differ in what decides on the program, then one that does not
    "shape": ([lambda f: f(X), lambda f: f(X[0]), lambda f: f(X[None])], lambda f: f(X + 1)),
    "dtype": ([lambda f: f(X), lambda f: f(X.astype(np.float32))], lambda f: f(X * 2)),
    "nesting": ([lambda f: f([X, X]), lambda f: f((X, X)), lambda f: f({"a": X})], lambda f: f([X + 1, X])),
    "number": ([lambda f: f(X, 2), lambda f: f(X, 2.0), lambda f: f(X, 3), lambda f: f(X, True)], lambda f: f(X, 2)),
    "zero": ([lambda f: f(X, 0.0), lambda f: f(X, -0.0), lambda f: f(X, np.nan)], lambda f: f(X, float("nan"))),
    "text": ([lambda f: f(X, "a"), lambda f: f(X, "b"), lambda f: f(X, None)], lambda f: f(X, "a")),
    "keyword": ([lambda f: f(X, 2), lambda f: f(X, scale=2)], lambda f: f(X, scale=2)),
    "requires_grad": ([lambda f: f(X), lambda f: f(sadl.tensor(X, requires_grad=True))], lambda f: f(sadl.tensor(X))),
    "grad mode": ([lambda f: f(X), sadl.no_grad_fn(lambda f: f(X))], sadl.no_grad_fn(lambda f: f(X + 1))),
    "object": ([lambda f, s={1}: f(X, s), lambda f, s={1}: f(X, s)], None),  # no hash: itself alone is equal to it
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name):
    different, same = SIGNATURES[name]
    compiled = sadl.compile(lambda x, scale=1: x)
    with sadl.config(jit=False):
        assert captures(compiled, *different) == [2] * len(different)
        assert captures(compiled, *different, *([same] if same else [])) == [0] * (len(different) + bool(same))


def test_train_and_inference_have_their_own_programs():
    model = Noisy()
    compiled = sadl.compile(model)
    train, inference = lambda f: (f.train(), f(X)), lambda f: (f.inference(), f(X))
    assert captures(compiled, train, inference, train, inference) == [2, 2, 0, 0]
    assert close(compiled.train()(X), X * 2) and close(compiled.inference()(X), X)


def test_a_frozen_parameter_is_noticed():
    model = mlp(np.float64)
    compiled = sadl.compile(lambda x: np.sum(np.square(model(x))))
    weights, bias = model.layers[0].W, model.layers[0].b
    for k, frozen in enumerate([False] * 3 + [True] * 3 + [False] * 3):
        weights.requires_grad = not frozen
        for p in model.parameters:
            p.grad = None
        compiled(np.full((2, 6), k / 10)).backward()
        assert (weights.grad is None) == frozen and bias.grad is not None
    assert compiled.stats.captures == 4


def test_a_replaced_parameter_is_noticed():
    model = mlp(np.float64)
    compiled = sadl.compile(model)
    x = np.ones((2, 6))
    for k in range(3):
        model.layers[0].W = sadl.Parameter(np.full((6, 5), k / 10))
        for _ in range(4):
            assert close(compiled(x), model(x))
    assert compiled.stats.captures == 6


def test_a_step_under_no_grad_is_another_program():
    model = mlp()
    compiled = sadl.compile(model)
    x = batches(1)[0][0]
    for _ in range(4):
        assert compiled(x).requires_grad
        with sadl.no_grad():
            assert not compiled(x).requires_grad
    assert compiled.stats.programs == 2


# ---- results of any form ---------------------------------------------------------------------------------------------

Pair = collections.namedtuple("Pair", "a b")
WEIGHT = sadl.Parameter(np.ones(3))
FORMS = {
    "none": lambda x: None,
    "number": lambda x: 2.5,
    "text": lambda x: "text",
    "not a number": lambda x: (x * 2, [float("nan")]),
    "tensor": lambda x: x * 2,
    "tuple": lambda x: (x * 2, x + 1),
    "one in a list": lambda x: [x * 2],
    "dict": lambda x: {"y": x * 2, "n": 3, "none": None},
    "ordered dict": lambda x: collections.OrderedDict(b=x * 2, a=x),
    "named tuple": lambda x: Pair(x * 2, (x, [Pair(1, x + 1)])),
    "the argument": lambda x: x,
    "the parameter": lambda x: (x * 2, WEIGHT),
    "only the parameter": lambda x: WEIGHT,
    "the same twice": lambda x: (y := x * 2, y),
    "a view of the argument": lambda x: x[1:],
    "a constant": lambda x: (x * 2, np.arange(3)),
    "empty": lambda x: ((), [], {}),
    "0-d": lambda x: np.sum(x),
    "bool": lambda x: x > 0.2,
}


def form(value):
    """Structure and leaves, with arrays as lists."""
    if isinstance(value, dict):
        return type(value), {k: form(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [form(v) for v in value]
    is_array = isinstance(value, np.ndarray)
    return (isinstance(value, sadl.Tensor), np.asarray(value).tolist()) if is_array else repr(value)


@pytest.mark.parametrize("name", FORMS)
def test_results_of_any_form(name):
    compiled = sadl.compile(FORMS[name])
    x = sadl.Tensor(X)
    with sadl.config(jit=False):
        for _ in range(4):
            assert form(compiled(x)) == form(FORMS[name](x))


def test_what_is_handed_through_is_the_object_itself():
    compiled = sadl.compile(lambda x, y: [y, WEIGHT, x, x * 2])
    x, y = X.copy(), sadl.Tensor(X)
    for _ in range(4):
        assert [r is o for r, o in zip(compiled(x, y), [y, WEIGHT, x], strict=False)] == [True] * 3


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_an_index_out_of_range_raises_and_changes_nothing():
    eager, compiled, held, other = both(lambda: make_step(OPTIMIZERS["adam"]))
    for x, y in batches(4):
        eager(x, y), compiled(x, y)
    before = values(*other)
    for wrong in (3, -1, 100):
        y = np.array([0, 1, 2, wrong, 0, 1, 2, 0])
        messages = []
        for step in (eager, compiled):
            with pytest.raises(IndexError) as raised:
                step(x, y)
            messages.append(str(raised.value))
        assert all(np.array_equal(a, b) for a, b in zip(values(*other), before, strict=True))
    x, y = batches(1)[0]
    assert close(compiled(x, y), eager(x, y))


@pytest.mark.parametrize("call", [1, 2], ids=["first capture", "second capture"])
def test_an_exception_in_the_function_rolls_everything_back(call):
    step, model, opt = make_step(OPTIMIZERS["adam"])
    failing = [False]

    def fn(x, y):
        loss = step(x, y)
        if failing[0]:
            raise RuntimeError("failed")
        return loss

    compiled = sadl.compile(fn)
    (x, y) = batches(1)[0]
    step(x, y)
    for _ in range(call - 1):
        compiled(x, y)
    before, grads = values(model, opt), gradients(model)
    failing[0] = True
    with pytest.raises(RuntimeError, match="failed"):
        compiled(x, y)
    assert all(
        np.array_equal(a, b) for a, b in zip([*values(model, opt), *gradients(model)], [*before, *grads], strict=True)
    )
    assert all(type(p.grad) is np.ndarray for p in model.parameters)
    failing[0] = False
    for x, y in batches(4):
        compiled(x, y)
    assert compiled.stats.programs == 1


def test_a_library_call_that_fails_leaves_later_state_alone():
    count = sadl.tensor(0.0)

    @sadl.compile
    @sadl.no_grad_fn
    def solve(x):
        inverse = np.linalg.inv(x)
        count[...] = count + 1
        return inverse

    for k in range(3):
        assert close(solve(np.eye(2) * (k + 1)), np.eye(2) / (k + 1))
    with pytest.raises(np.linalg.LinAlgError):
        solve(np.zeros((2, 2)))
    assert count == 3 and close(solve(np.eye(2)), np.eye(2))


def test_negative_powers_of_integers_raise():
    compiled = sadl.compile(lambda x, y: x**y)
    for _ in range(3):
        assert close(compiled(np.arange(3), np.arange(3)), np.array([1, 1, 4]))
    with pytest.raises(ValueError, match="negative integer powers"):
        compiled(np.arange(3), -np.arange(3))


# ---- threads ---------------------------------------------------------------------------------------------------------


def in_threads(work, n=8):
    errors = []

    def guarded(k):
        try:
            work(k)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(k,)) for k in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors


def test_threads_call_the_same_function():
    compiled = sadl.compile(lambda x: np.exp(x) * 2 + np.sum(x, axis=0))
    expected = lambda x: np.exp(x) * 2 + np.sum(x, axis=0)

    def work(k):
        for i in range(20):
            x = X + k + i / 10
            assert close(compiled(x), expected(x))

    in_threads(work)
    assert compiled.stats.captures == 2


def test_threads_compile_the_same_kernel():
    def work(k):
        compiled = sadl.compile(lambda x: np.log(x + 1) * 7 - x)
        for i in range(4):
            assert close(compiled(X + k + i), np.log(X + k + i + 1) * 7 - X - k - i)

    in_threads(work)


# ---- any dtype and shape, any function -------------------------------------------------------------------------------

ANY = {
    "complex": (lambda x: np.sum(x * x, axis=0) + 1, X + 1j),
    "float16": (lambda x: np.tanh(x) * 2 - np.sum(x), X.astype(np.float16)),
    "uint16": (lambda x: x * 2 + x, np.arange(5, dtype=np.uint16)),
    "empty": (lambda x: (x * 2, np.sum(x, axis=0), x @ np.ones((3, 2)), np.sum(x)), np.zeros((0, 3))),
    "empty inside": (lambda x: np.concatenate([x[:0], x]) * 2, X),
    "0-d": (lambda x: (x * 2, np.sum(x), x[()], np.reshape(x, (1, 1))), np.array(2.5)),
    "NumPy number": (lambda x: x * 2, np.float32(2.5)),
    "mask": (lambda x: (np.where((x > 0.1) & ~(x > 0.4), x, 0), np.sum(x, where=x > 0.2), np.sum(x > 0.3)), X),
    "mask argument": (lambda m: (m | (m == 0), np.sum(m), m * 2.0, np.any(m, axis=0)), X > 0.2),
    "one element": (lambda x: x[0, 1] * x[1], X),
    "int8": (lambda x: (x + x, np.sum(x), np.max(x)), np.array([100, 100, -128], np.int8)),
    "special numbers": (lambda x: (x / x, np.maximum(x, 0), np.exp(x)), np.array([0, -0.0, np.inf, -np.inf, np.nan])),
}


@pytest.mark.parametrize("name", ANY)
def test_any_dtype_and_shape(name):
    fn, x = ANY[name]
    compiled = sadl.compile(fn)
    with np.errstate(all="ignore"):
        for _ in range(4):
            got, expected = compiled(x), fn(x)
            assert all_close(*((list(r) if isinstance(r, tuple) else [r]) for r in (got, expected)), 10)


LIBRARY = {
    "svd": (lambda x: np.linalg.svd(x)[1], "svd"),
    "sort": (lambda x: np.sort(x, axis=0) * 2, "sort"),
    "cumsum": (lambda x: np.cumsum(x * 2, axis=1), "cumsum"),
    "ufunc": (lambda x: np.nextafter(x, 1) + np.copysign(x, -1), "nextafter"),
    "one in a tuple": (lambda x: np.nonzero(x[0])[0] + 1, "nonzero"),
    "integer product": (lambda x: x.astype(int) @ x.T.astype(int), "matmul"),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_other_functions_run_as_library_calls(name):
    fn, called = LIBRARY[name]
    compiled = sadl.compile(sadl.no_grad_fn(fn))
    for k in range(4):
        x = X + k + 1
        assert close(compiled(x), fn(x))
    line = fn.__code__.co_firstlineno
    assert f"{called} ({__file__}:{line})" in compiled.explain()


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: x[x > 1] * 2,
        lambda x: np.sum(x[x > 1] ** 2) / np.sum(x > 1),
        lambda x: np.unique(np.round(x)) * 2,
        lambda x: np.where(x > 1)[0] + 1,
        lambda x: sadl.grad(lambda x: np.mean(np.exp(x[x > 1])))(x),
        lambda x: np.compress(x > 1, x),
    ],
)
def test_sizes_that_depend_on_values_have_a_program_each(fn):
    compiled = sadl.compile(fn)
    draws = [np.random.default_rng(k).uniform(0, 2, 5) for k in (0, 1, 2)]
    for x in draws * 4:
        assert close(compiled(x), fn(x))
    assert compiled.stats.captures == 2 * compiled.stats.programs <= 2 * len({np.sum(x > 1) for x in draws})


def test_a_size_that_does_not_fit_changes_nothing():
    """The program for one size finds out that it is another before it has written anything."""

    def make():
        w, seen = sadl.zeros(3, dtype=np.float64), sadl.zeros((), dtype=np.float64)

        def step(x):
            with sadl.no_grad():
                w[...] = w + x
                seen[...] = seen + np.sum(x[x > 1])
            return np.sum(w)

        return w, seen, step

    w, seen, step = make()
    w2, seen2, step2 = make()
    compiled = sadl.compile(step)
    for k in range(12):
        x = np.array([0.5, 1.5, 1.5 * (k % 3 == 0)])
        assert close(compiled(x), step2(x)) and close(w, w2) and close(seen, seen2)
    assert compiled.stats.programs == 2


# ---- copies, overlaps and containers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "detached", [lambda x: x.detach(), copy.copy, copy.deepcopy], ids=["detach", "copy", "deepcopy"]
)
def test_detached_values_are_followed(detached):
    compiled = sadl.compile(lambda x: detached(x) * 2)
    for x in (X, X, X + 1):
        assert close(compiled(x), x * 2)


def test_the_grad_of_an_argument_is_refused():
    """Each call has an argument of its own, whose .grad a program would not find."""
    p = sadl.Parameter(X)
    with pytest.raises(CaptureError, match=r"\.grad of an argument.*test_compile\.py.*hold the Parameter"):
        sadl.compile(lambda p, x: backward(np.sum(p * x)))(p, X)
    with pytest.raises(CaptureError, match=r"\.grad of an argument"):
        sadl.compile(lambda p: p.grad)(p)
    assert p.grad is None


def test_arguments_that_overlap_later_are_refused():
    def shift(x, y):
        x[...] = y * 2

    compiled = sadl.compile(shift)
    compiled(np.zeros(7), np.ones(7)), compiled(np.zeros(7), np.ones(7))
    memory = np.arange(8.0)
    with pytest.raises(CaptureError, match="shares memory with an argument"):
        compiled(memory[1:], memory[:-1])
    assert memory.tolist() == list(range(8))


@pytest.mark.parametrize("kind", [lambda d: collections.defaultdict(list, d), collections.Counter])
def test_other_dicts_as_arguments(kind):
    assert close(sadl.compile(lambda d: d["a"] * 2)(kind({"a": X})), X * 2)


def test_axis_of_a_0d_array():
    assert sadl.compile(lambda x: np.sum(x, axis=0))(np.array(2.0)) == 2


# ---- what it shows ---------------------------------------------------------------------------------------------------


def test_explain_graph_kernels():
    compiled = sadl.compile(lambda x: np.tanh(x) * 2)
    assert compiled.graph is None and compiled.kernels == [] and "captures=0" in compiled.explain()
    for _ in range(3):
        compiled(X)
    assert str(compiled.graph).count("tanh") == 1
    (kernel,) = compiled.kernels
    code = [re.sub("  # .*", "", text) for text in (kernel.path.read_text(), kernel.source)]
    assert code[0] == code[1] and "test_compile.py:" in kernel.source
    assert "1 kernels; 0 library calls; " in compiled.explain()
    assert str(sadl.make_ir(compiled.fn)(X)) == str(compiled.graph)


def test_switched_off_it_is_the_function():
    compiled = sadl.compile(lambda x: x * 2)
    with sadl.config(compile=False):
        assert close(compiled(X), X * 2) and type(compiled(X)) is np.ndarray
    assert compiled.stats.captures == 0


def test_debug_prints_what_was_compiled(capsys):
    with sadl.config(debug=1, jit=False):
        compiled = sadl.compile(lambda x: x * 2)
        for _ in range(3):
            compiled(X)
    assert "1 operations -> 1 kernels" in capsys.readouterr().err


def test_kernels_that_cannot_be_compiled_name_the_way_out(monkeypatch):
    def broken(*_, **__):
        raise ValueError("LLVM said no")

    monkeypatch.setattr(store, "kernel", broken)
    weights = sadl.tensor(np.ones(3))

    @sadl.compile
    def step(x):
        weights[...] = weights + np.sum(x, axis=0) * 1.5

    for _ in range(3):
        with pytest.raises(CompileError, match=r"LLVM said no[\s\S]*SADL_JIT=0"):
            step(X)
        assert np.array_equal(weights, np.ones(3))


def test_capture_errors_are_runtime_errors():
    assert issubclass(CaptureError, RuntimeError) and issubclass(CompileError, RuntimeError)


ANEW = {
    "square": of(lambda x: np.abs(x) ** np.array(2.0, x.dtype), np.linspace(-1, 2, 50, dtype=np.float32)),
    "root": of(lambda x: np.abs(x) ** np.array(0.5), np.linspace(-1, 2, 50)),
    "numbers": of(lambda x: x * (np.array(0.1) * 3 + 1) / np.array(7.0), np.linspace(-1, 2, 50)),
    "arrays": of(lambda x: np.tanh(x * np.arange(1, 6) / 3) + np.ones(5) * 0.3, np.linspace(-1, 2, 50).reshape(10, 5)),
}


@pytest.mark.parametrize("name", [*CORPUS, *ANEW])
def test_the_first_call_has_the_bits_of_later_ones(name):
    """So that a run that was interrupted and goes on is the same run."""
    make, args = (CORPUS | ANEW)[name]
    runs = []
    for prepared in (False, True):  # each with state of its own
        step = sadl.compile(make())
        given = [[np.array(a) for a in args] for _ in range(4)]
        with np.errstate(all="ignore"):
            if prepared:
                step.prepare(*given[-1])
            runs.append([[np.array(x).tobytes() for x in flatten(step(*a))[0]] for a in given[:3]])
        assert step.stats.programs == 1
    assert runs[0] == runs[1]
