"""Convolution, pooling and their layers: equal to torch, eager and compiled, to the second order; what is refused.

Takes the cases of `window_cases` and torch's values of `make_reference`. Recurrent layers are in test_recurrent.
"""

import re

import nn_cases
import numpy as np
import pytest
import window_cases
from make_reference import reference

import sadl
from sadl import check_grads, nn
from sadl import functional as F
from sadl.errors import ShapeError
from sadl.op import Aval
from sadl.ops import convolution as table

CASES = window_cases.cases()
RNG = np.random.default_rng(0)
DTYPES = [np.float64, np.float32]
RTOL = {np.float64: 1e-9, np.float32: 1e-4}

each_case = pytest.mark.parametrize("name", CASES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture(scope="module")
def expected():
    return reference("windows")


def call_of(case):
    function = getattr(F, case.function)
    return lambda **tensors: function(**tensors, **case.settings)


def assert_equal_to_torch(name, found, expected, dtype):
    for key, value in found.items():
        wanted = expected[f"{name}/{key}"]
        assert (value.shape, value.dtype) == (wanted.shape, dtype)
        size = np.max(np.abs(wanted), initial=1)
        np.testing.assert_allclose(value, wanted, rtol=RTOL[dtype], atol=RTOL[dtype] * size)


def gradients(call, arrays):
    weights = lambda v: v.astype(next(iter(arrays.values())).dtype)
    return nn_cases.grads_of(call, lambda v: sadl.tensor(v, requires_grad=True), arrays, weights)


@each_dtype
@each_case
def test_equal_to_torch(name, dtype, expected):
    case = CASES[name]
    arrays = {k: v.astype(dtype) for k, v in case.arrays.items()}
    assert_equal_to_torch(name, gradients(call_of(case), arrays), expected, dtype)


@each_case
def test_compiled_is_equal_to_torch(name, expected):
    case = CASES[name]
    names = list(case.arrays)

    @sadl.compile
    def run(*arrays):
        y, pullback = sadl.vjp(lambda *a: call_of(case)(**dict(zip(names, a, strict=True))), *arrays)
        return y, pullback(nn_cases.weights_of(y.shape))

    with sadl.config(jit=name.endswith("0")):  # the others as plain Python, for want of time
        for _ in range(3):
            y, grads = run(*case.arrays.values())
    assert run.graph is not None
    assert_equal_to_torch(name, {"y": y, **dict(zip(names, grads, strict=True))}, expected, np.float64)


def test_larger_ones_are_equal_to_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for name, case in window_cases.cases(seed=11, rounds=25, channels=4, size=12).items():
        found = gradients(call_of(case), case.arrays)
        wanted = {f"{name}/{k}": v for k, v in window_cases.torch_values(torch, case).items()}
        assert_equal_to_torch(name, found, wanted, np.float64)


# ---- how it is computed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("saved", [0, 10**9], ids=["row by row", "rows run on"])
@pytest.mark.parametrize("unfolded", [1, 100, 1000])
def test_blocks_and_layouts_make_no_difference(unfolded, saved, monkeypatch, expected):
    monkeypatch.setattr(table, "UNFOLDED", unfolded)
    monkeypatch.setattr(table, "ADDED", saved)
    monkeypatch.setattr(table._blocks, "__defaults__", (saved,))
    for name, case in CASES.items():
        if case.function.startswith("conv"):
            assert_equal_to_torch(name, gradients(call_of(case), case.arrays), expected, np.float64)


def test_infinities_stay_where_they_are():
    """Rows that run on meet elements that they should not: these count for nothing."""
    x = np.zeros((1, 1, 4, 20))
    x[0, 0, 1, 19] = np.inf
    w = sadl.tensor(RNG.standard_normal((1, 1, 3, 3)), requires_grad=True)
    y = F.conv2d(x, w)
    assert np.isfinite(y[..., :17]).all() and not np.isfinite(y[..., 17:]).any()
    y.backward(np.ones(y.shape))
    assert np.isfinite(w.grad[0, 0, :, :2]).all() and (w.grad[0, 0, :2, 2] == np.inf).all()


SMALL = {
    "conv1d": (lambda x, w, b: F.conv1d(x, w, b, 2, 1, 2, 2), (2, 4, 6), (2, 2, 2), (2,)),
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b, (1, 2), (1, 0), (2, 1)), (2, 2, 4, 5), (3, 2, 2, 3), (3,)),
    "conv2d same": (lambda x, w: F.conv2d(x, w, padding="same"), (1, 2, 3, 4), (2, 2, 2, 3)),
    "conv_transpose1d": (lambda x, w, b: F.conv_transpose1d(x, w, b, 3, 1, 2), (2, 2, 3), (2, 2, 3), (2,)),
    "conv_transpose2d": (lambda x, w: F.conv_transpose2d(x, w, None, 2, 1, 1, 2), (1, 2, 2, 3), (2, 1, 3, 2)),
    "unfold": (lambda x: F.unfold(x, (2, 3), (1, 2), 1, (2, 1)), (1, 2, 4, 5)),
    "max_pool1d": (lambda x: F.max_pool1d(x, 3, 2, 1), (2, 2, 7)),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), (2, 2, 4, 6)),
    "max_pool2d overlapping": (lambda x: F.max_pool2d(x, 3, 1), (1, 2, 4, 5)),
    "max_pool2d over the end": (lambda x: F.max_pool2d(x, (3, 2), 2, (1, 0), (1, 2), True), (1, 2, 6, 6)),
    "avg_pool1d": (lambda x: F.avg_pool1d(x, 3, 2, 1), (2, 2, 7)),
    "avg_pool2d over the end": (lambda x: F.avg_pool2d(x, (3, 2), 2, 1, True, False), (1, 2, 6, 5)),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, (2, 3)), (2, 2, 4, 6)),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (2, 3)), (1, 2, 5, 4)),
}


def arrays_of(name, dtype=np.float64):
    return [RNG.standard_normal(shape).astype(dtype) for shape in SMALL[name][1:]]


@pytest.mark.parametrize("name", SMALL)
def test_gradients_to_the_second_order(name):
    check_grads(SMALL[name][0], arrays_of(name), order=2)
    check_grads(lambda *args: np.sin(SMALL[name][0](*args)), arrays_of(name), order=2)


@pytest.mark.parametrize("name", SMALL)
def test_second_order_compiled_is_eager(name):
    f, args = SMALL[name][0], arrays_of(name)
    slope = sadl.grad(lambda *a: np.sum(np.sin(f(*a))), argnums=tuple(range(len(args))))
    both = sadl.grad(lambda *a: sum(np.sum(g**2) for g in slope(*a)), argnums=tuple(range(len(args))))
    run = sadl.compile(both)
    with sadl.config(jit=False):
        found = [run(*args) for _ in range(3)][-1]
    assert run.graph is not None
    for a, b in zip(found, both(*args), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", SMALL)
def test_dtypes_stay(name, dtype):
    tensors = [sadl.tensor(a, requires_grad=True) for a in arrays_of(name, dtype)]
    y = SMALL[name][0](*tensors)
    assert y.dtype == dtype
    y.sum().backward()
    assert all((t.grad.dtype, t.grad.shape) == (dtype, t.shape) for t in tensors)


@pytest.mark.parametrize("name", SMALL)
def test_plain_arrays_give_what_tensors_give(name):
    f, args = SMALL[name][0], arrays_of(name)
    plain, tensor = f(*args), f(*map(sadl.tensor, args))
    assert not isinstance(plain, sadl.Tensor) and isinstance(tensor, sadl.Tensor)
    assert np.array_equal(plain, tensor)


@pytest.mark.parametrize("name", SMALL)
def test_other_layouts_make_no_difference(name):
    f, args = SMALL[name][0], arrays_of(name)
    y, pullback = sadl.vjp(f, *args)
    g = RNG.standard_normal(y.shape)
    for layout in (np.asfortranarray, lambda a: np.repeat(a, 2, axis=-1)[..., ::2]):
        other, pull_other = sadl.vjp(f, *map(layout, args))
        for a, b in zip((other, *pull_other(layout(g))), (y, *pullback(g)), strict=True):
            assert np.allclose(a, b, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", SMALL)
def test_no_images_give_no_images(name):
    f, (x, *weights) = SMALL[name][0], arrays_of(name)
    t, weights = sadl.tensor(x[:0], requires_grad=True), [sadl.tensor(w, requires_grad=True) for w in weights]
    y = f(t, *weights)
    assert y.shape == (0, *f(x, *map(np.asarray, weights)).shape[1:])
    y.sum().backward()
    assert t.grad.shape == t.shape and all(not w.grad.any() for w in weights)


def test_inferred_types_are_the_real_ones():
    seen = set()
    for name, (f, *_) in SMALL.items():
        args = arrays_of(name, np.float32)
        for eqn in sadl.make_ir(lambda g, *a, f=f: sadl.vjp(f, *a)[1](g))(f(*args), *args).eqns:
            result = eqn.op.run(*(np.ones(*x.aval) for x in eqn.inputs), **eqn.params) if eqn.op.infer else eqn.out.aval
            assert Aval(result.shape, result.dtype) == eqn.out.aval
            seen.add(eqn.op.name)
    assert {"conv2d_input", "conv2d_weight", "unfold", "fold", "window_share", "window_spread"} <= seen


def test_integers_are_convolved_in_the_dtype_numpy_promotes_to():
    x, w = RNG.integers(0, 9, (1, 1, 4, 4)), RNG.integers(0, 9, (1, 1, 2, 2))
    assert F.conv2d(x, w).dtype == np.int64 and F.conv2d(x, w.astype(np.float32)).dtype == np.float64
    assert np.array_equal(F.conv2d(x, w), F.conv2d(x, w.astype(float)))
    assert F.max_pool2d(x, 2).dtype == np.int64 and F.avg_pool2d(x, 2).dtype == np.float64
    assert np.array_equal(F.max_pool2d(-x - 1, 3, 1, 1), F.max_pool2d(-x - 1.0, 3, 1, 1))
    assert F.max_pool2d(x > 4, 2).dtype == bool and F.conv2d(x > 4, w > 4).dtype == bool


def test_complex_images():
    x, w = (RNG.standard_normal(s) + 1j * RNG.standard_normal(s) for s in ((1, 2, 4, 4), (2, 2, 3, 3)))
    parts = [F.conv2d(a, b) for a in (x.real, x.imag) for b in (w.real, w.imag)]
    assert np.allclose(F.conv2d(x, w), parts[0] - parts[3] + 1j * (parts[1] + parts[2]))


# ---- compiled loops around BLAS --------------------------------------------------------------------------------------

LOOPS = {"conv2d", "conv2d_input", "conv2d_weight"}


def value_and_pullback(case, names, dtype):
    def both(*arrays):
        y, pullback = sadl.vjp(lambda *a: call_of(case)(**dict(zip(names, a, strict=True))), *arrays)
        return y, *pullback(nn_cases.weights_of(y.shape).astype(dtype))

    return both


def compiled(function, args, threads=2):
    """The results of a program, and which of the operations ran as library calls."""
    run = sadl.compile(function)
    with sadl.config(threads=threads, jit=True):
        found = [run(*args) for _ in range(3)][-1]
    return found, {eqn.op.name for eqn in run._runners[0]._program.library_calls}


@each_dtype
@pytest.mark.parametrize("n, size", [(1, 6), (9, 3), (17, 16)])
def test_compiled_loops_give_what_the_library_gives(n, size, dtype):
    for name, case in window_cases.cases(seed=n, rounds=4, channels=3, size=size).items():
        if case.function.startswith("conv"):
            x = RNG.standard_normal((n, *case.arrays["x"].shape[1:]))
            arrays = {k: v.astype(dtype) for k, v in (case.arrays | {"x": x}).items()}
            both = value_and_pullback(case, list(arrays), dtype)
            found, calls = compiled(both, arrays.values())
            assert not LOOPS & calls, name
            for a, b in zip(found, both(*arrays.values()), strict=True):
                scale = np.max(np.abs(b), initial=1)
                np.testing.assert_allclose(a, b, RTOL[dtype], RTOL[dtype] * scale * 1e-1, err_msg=name)


def test_compiled_loops_give_the_same_bits_for_any_number_of_threads():
    case = nn_cases.Case("conv2d", {}, {"padding": 1, "groups": 2})
    args = [RNG.standard_normal(s).astype(np.float32) for s in ((13, 4, 9, 9), (6, 2, 3, 3), (6,))]
    both = value_and_pullback(case, ["x", "w", "b"], np.float32)
    first, *others = (compiled(both, args, threads)[0] for threads in (1, 2, 3))
    for other in others:
        assert all(a.tobytes() == b.tobytes() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("unusual", ["float16", "layout", "empty", "mixed"])
def test_what_the_loops_do_not_read_stays_a_library_call(unusual):
    dtype = np.float16 if unusual == "float16" else np.float32
    x, w = (RNG.standard_normal(s).astype(dtype) for s in ((2, 3, 5, 5), (4, 3, 3, 3)))
    f = F.conv2d
    if unusual == "layout":
        f = lambda x, w: F.conv2d(np.swapaxes(x, 2, 3), w)
    x, w = x[:0] if unusual == "empty" else x, w.astype(float) if unusual == "mixed" else w
    found, calls = compiled(f, (x, w))
    assert "conv2d" in calls
    np.testing.assert_allclose(found, f(x, w), rtol=1e-6, atol=1e-6)


# ---- ties in pooling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel, stride, padding", [(2, 2, 0), (3, 1, 1), (2, 1, 0)])
def test_ties_share_the_gradient_equally(kernel, stride, padding):
    f = lambda x: F.max_pool2d(x, kernel, stride, padding)
    x = sadl.tensor(RNG.integers(0, 2, (1, 1, 6, 6)).astype(float), requires_grad=True)
    y = f(x)
    g = RNG.standard_normal(y.shape)
    y.backward(g)
    expected = np.zeros((6 + 2 * padding,) * 2)
    padded = np.pad(np.asarray(x)[0, 0], padding, constant_values=-np.inf)
    for r, c in np.ndindex(*y.shape[2:]):
        part = np.s_[r * stride : r * stride + kernel, c * stride : c * stride + kernel]
        ties = padded[part] == padded[part].max()
        expected[part] += g[0, 0, r, c] * ties / ties.sum()
    assert np.allclose(x.grad[0, 0], expected[padding : 6 + padding, padding : 6 + padding])
    run = sadl.compile(sadl.grad(lambda x: np.sum(f(x) * g)))
    with sadl.config(jit=False):
        assert np.allclose([run(np.asarray(x)) for _ in range(3)][-1], x.grad)


def test_maxima_of_infinities_and_nan():
    x = np.full((1, 1, 4, 4), -np.inf)
    x[0, 0, 2:, 2:] = [[np.nan, 1], [2, 3]]
    t = sadl.tensor(x, requires_grad=True)
    y = F.max_pool2d(t, 3, 1, 1)
    assert (y[0, 0, 0, :2] == -np.inf).all() and np.isnan(y[0, 0, 1:, 1:]).all()
    y.backward(np.ones(y.shape))
    assert t.grad[0, 0, 0, 0] == 1 / 4 + 2 / 6 + 0  # the corner's window of 4, and two of 6; that of 9 holds the NaN
    assert np.isfinite(t.grad).all()


# ---- training ------------------------------------------------------------------------------------------------------


def lenet(dtype):
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, dtype=dtype, rng=0),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1, dtype=dtype, rng=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * 3 * 3, 5, dtype=dtype, rng=2),
    )


def train(model, x, y, compiled):
    optimizer = sadl.SGD(model, lr=0.05, momentum=0.9)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run = sadl.compile(step) if compiled else step
    return [float(run(x, y)) for _ in range(20)], {k: np.asarray(v) for k, v in model.get_parameters().items()}


@each_dtype
def test_twenty_compiled_steps_are_twenty_eager_ones(dtype):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((6, 1, 16, 16)).astype(dtype), rng.integers(0, 5, 6)
    (losses, weights), (found, others) = (train(lenet(dtype), x, y, compiled) for compiled in (False, True))
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    assert losses[-1] < losses[0] / 2
    np.testing.assert_allclose(found, losses, rtol=10 * tolerance, atol=tolerance)
    for path, w in weights.items():
        np.testing.assert_allclose(others[path], w, rtol=tolerance, atol=tolerance * np.max(np.abs(w)), err_msg=path)


def test_pooling_side_by_side_is_no_library_call():
    f = lambda x: np.sum(np.sin(F.max_pool2d(x, 2)) * F.avg_pool2d(x, 2))
    run = sadl.compile(sadl.value_and_grad(f))
    x = RNG.standard_normal((2, 3, 4, 6))
    found = [run(x) for _ in range(3)][-1]
    assert re.search(r"window", run.explain()) is None
    for a, b in zip(found, sadl.value_and_grad(f)(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


# ---- layers --------------------------------------------------------------------------------------------------------

LAYERS = {
    "Conv1d": (lambda **k: nn.Conv1d(4, 6, 3, 2, 1, 2, 2, **k), (2, 4, 9), (6, 2, 3), 6),
    "Conv2d": (lambda **k: nn.Conv2d(2, 3, (3, 2), padding="same", **k), (2, 2, 5, 5), (3, 2, 3, 2), 12),
    "ConvTranspose1d": (lambda **k: nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, 2, **k), (2, 4, 5), (4, 3, 3), 9),
    "ConvTranspose2d": (lambda **k: nn.ConvTranspose2d(2, 3, 2, 2, **k), (2, 2, 3, 4), (2, 3, 2, 2), 12),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_start_from_uniform_numbers_of_the_seed(name):
    make, shape, weights, fan_in = LAYERS[name]
    layer, x = make(rng=1), RNG.standard_normal(shape).astype(np.float32)
    assert (layer.W.shape, layer.b.shape, layer.W.dtype) == (weights, (layer.out_channels,), np.float32)
    for p in (layer.W, layer.b):
        assert 0 < np.max(np.abs(p)) <= 1 / np.sqrt(fan_in) and len(np.unique(p)) == p.size
    assert np.max(np.abs(layer.W)) > 0.6 / np.sqrt(fan_in)
    assert np.array_equal(make(rng=1).W, layer.W) and not np.array_equal(make(rng=2).W, layer.W)
    assert layer(x).shape[:2] == (2, layer.out_channels) and layer(x).dtype == np.float32
    plain = make(rng=1, bias=False, dtype=np.float64)
    assert plain.b is None and np.array_equal(plain.W.astype(np.float32), layer.W)
    assert list(plain.get_parameters()) == ["W"]
    assert np.allclose(make(init="ones").W, 1)


def test_layers_are_their_functions():
    x, rows = RNG.standard_normal((2, 4, 6, 7)).astype(np.float32), RNG.standard_normal((2, 4, 9)).astype(np.float32)
    a, b = nn.Conv2d(4, 6, 3, (1, 2), (1, 0), 2, 2), nn.ConvTranspose2d(4, 6, 3, 3, (1, 0), 2, 2, dilation=2)
    assert np.array_equal(a(x), F.conv2d(x, a.W, a.b, (1, 2), (1, 0), 2, 2))
    assert np.array_equal(b(x), F.conv_transpose2d(x, b.W, b.b, 3, (1, 0), 2, 2, 2))
    pools = [
        (nn.MaxPool2d((2, 3), 1, (1, 0)), F.max_pool2d(x, (2, 3), 1, (1, 0))),
        (nn.MaxPool2d(2, 2, 1, (2, 1), True), F.max_pool2d(x, 2, 2, 1, (2, 1), True)),
        (nn.AvgPool2d(3, 2, 1, True, False), F.avg_pool2d(x, 3, 2, 1, True, False)),
        (nn.AvgPool2d(2), F.avg_pool2d(x, 2)),
        (nn.AdaptiveAvgPool2d((None, 2)), F.adaptive_avg_pool2d(x, (6, 2))),
        (nn.AdaptiveAvgPool2d(1), np.mean(x, axis=(2, 3), keepdims=True)),
    ]
    for layer, expected in pools:
        assert np.allclose(layer(x), expected, rtol=1e-6, atol=1e-6)
    assert np.array_equal(nn.MaxPool1d(3, 2, 1)(rows), F.max_pool1d(rows, 3, 2, 1))
    assert np.array_equal(nn.AvgPool1d(3)(rows), F.avg_pool1d(rows, 3))


# ---- what is refused -----------------------------------------------------------------------------------------------

X, W = np.zeros((2, 4, 5, 6)), np.zeros((6, 4, 3, 3))

REFUSED = [
    (lambda: F.conv2d(X, np.zeros((6, 4, 6, 3))), r"\[conv2d\] a kernel of size \(6, 3\) .* \(5, 6\)\. Instead: a"),
    (lambda: F.conv2d(X, W, dilation=3), r"covers \(7, 7\), more than the padded input, \(5, 6\)"),
    (lambda: F.conv2d(X[0], W), r"an input of shape \(4, 5, 6\) was given\. Instead: an input of shape \(N, C, H, W\)"),
    (lambda: F.conv1d(X, W), r"\[conv1d\] .*Instead: an input of shape \(N, C, L\)"),
    (lambda: F.conv2d(X, W[..., 0]), r"weights of shape \(6, 4, 3\) were given"),
    (lambda: F.conv2d(X, W[:0]), r"weights of shape \(0, 4, 3, 3\) were given"),
    (lambda: F.conv2d(X, W[:, :3]), r"has 4 channels, weights of shape \(6, 3, 3, 3\) take 3 \(groups=1\)"),
    (lambda: F.conv2d(X, W, groups=2), r"has 4 channels, weights of shape \(6, 4, 3, 3\) take 8 \(groups=2\)"),
    (lambda: F.conv2d(X, W[:, :1], groups=4), r"4 input and 6 output channels do not divide into 4 groups"),
    (lambda: F.conv2d(X, W, groups=0), r"groups=0 was given\. Instead: a whole number >= 1"),
    (lambda: F.conv2d(X, W, np.zeros(4)), r"a bias of shape \(4,\) for 6 output channels"),
    (lambda: F.conv2d(X, W, stride=0), r"stride=0 was given\. Instead: a whole number >= 1, or 2 of them"),
    (lambda: F.conv2d(X, W, stride=(1, 2, 3)), r"stride=\(1, 2, 3\) was given"),
    (lambda: F.conv2d(X, W, padding=-1), r"padding=-1 was given\. Instead: a whole number >= 0"),
    (lambda: F.conv2d(X, W, padding=0.5), r"padding=0.5 was given"),
    (lambda: F.conv2d(X, W, padding="full"), r'no padding \'full\'\. Instead: numbers, "same" or "valid"'),
    (lambda: F.conv2d(X, W, stride=2, padding="same"), r'padding="same" with stride=\(2, 2\) cannot keep the size'),
    (lambda: F.conv_transpose2d(X, W), r"\[conv_transpose2d\] .* has 4 channels, weights of shape .* take 6"),
    (lambda: F.conv_transpose2d(X, W[:4], stride=2, output_padding=2), r"output_padding=2 is not smaller than"),
    (lambda: F.conv_transpose2d(X, W[:4], padding=4), r"padding=4 leaves a result of size \(-1, 0\)"),
    (lambda: F.conv_transpose2d(X, W[:4], padding="same"), r"padding='same' was given"),
    (lambda: F.unfold(X, 7), r"\[unfold\] a kernel of size \(7, 7\)"),
    (lambda: F.max_pool2d(X, 6), r"\[max_pool2d\] a kernel of size \(6, 6\)"),
    (lambda: F.max_pool2d(X, 2, padding=2), r"padding=2 is more than half of kernel_size=2"),
    (lambda: F.max_pool2d(X, 3, dilation=3), r"\[max_pool2d\] .* dilation=\(3, 3\) covers \(7, 7\), more than"),
    (lambda: F.max_pool2d(X, 7, 1, ceil_mode=True), r"\[max_pool2d\] a kernel of size \(7, 7\)"),
    (lambda: nn.MaxPool1d(2, dilation=0), r"\[MaxPool1d\] dilation=0 was given"),
    (lambda: F.avg_pool2d(X[0], 2), r"\[avg_pool2d\] an input of shape \(4, 5, 6\)"),
    (lambda: F.avg_pool1d(X[0], 0), r"kernel_size=0 was given"),
    (lambda: F.adaptive_avg_pool2d(X, 0), r"output_size=\[0, 0\] was given"),
    (lambda: F.adaptive_avg_pool2d(X, (1, 2, 3)), r"output_size=\(1, 2, 3\) was given"),
    (lambda: nn.Conv2d(3, 4, 3, groups=2), r"\[Conv2d\] in_channels=3 and out_channels=4 do not divide into groups=2"),
    (lambda: nn.Conv2d(0, 4, 3), r"\[Conv2d\] sizes must be whole numbers >= 1, found in_channels=0"),
    (lambda: nn.Conv1d(2, 4, (3, 3)), r"\[Conv1d\] kernel_size=\(3, 3\) was given\. Instead: a whole number >= 1\."),
    (lambda: nn.Conv2d(2, 4, 3, padding=-2), r"\[Conv2d\] padding=-2 was given"),
    (lambda: nn.Conv2d(2, 4, 3, 2, "same"), r"\[Conv2d\] padding=\"same\" with stride=\(2, 2\)"),
    (lambda: nn.ConvTranspose2d(2, 4, 3, dilation=0), r"\[ConvTranspose2d\] dilation=0 was given"),
    (lambda: nn.Conv2d(3, 4, 3)(X), r"Conv2d\(3, 4, \.\.\.\) was given .* \(2, 4, 5, 6\).*\(N, 3, H, W\)"),
    (lambda: nn.MaxPool2d(0), r"\[MaxPool2d\] kernel_size=0 was given"),
]  # fmt: skip


@pytest.mark.parametrize("call, message", REFUSED, ids=[m for _, m in REFUSED])
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_errors_name_the_layer():
    model = nn.Sequential(nn.Conv2d(4, 2, 3), nn.MaxPool2d(4))
    with pytest.raises(ShapeError, match=r"more than the padded input, \(3, 4\)\. In layers\[1\] \(MaxPool2d\)"):
        model(X.astype(np.float32))
