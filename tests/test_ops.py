"""Tests of every operation: generated from the table for those that take arrays alone, a line each for the others.

Takes `sadl.op.OPS` and expressions in `np`, `x` and `y`; compares values and dtypes with NumPy's, gradients with
central differences to second order. What NumPy functions become on Tensors is in test_protocol.
"""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import sadl
from sadl import check_grads, tensor
from sadl.op import OPS, Aval

PAIRS = [
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((3, 1), (1, 4)),
    ((), (3,)),
    ((3,), ()),
    ((), ()),
    ((1,), (1, 1)),
    ((2, 1, 3), (2, 1)),
    ((0, 3), (3,)),
    ((2, 0), (1, 0)),
    ((1,), (0,)),
]
SCALARS = [1.5, 2, np.float64(1.5), np.float32(1.5), np.int64(2), True]
LAYOUTS = {
    "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "backward": lambda a: a[..., ::-1].copy()[..., ::-1],
    "transposed": lambda a: a.T.copy().T,
}

TESTED = [op for op in OPS.values() if op.fn is not None and op.tested]
DIFFERENTIABLE = [op for op in TESTED if op.differentiable]
BINARY = [op for op in TESTED if op.kind == "elementwise" and len(op.vjp) == 2]

each_op = pytest.mark.parametrize("op", TESTED, ids=repr)
each_differentiable = pytest.mark.parametrize("op", DIFFERENTIABLE, ids=repr)
each_binary = pytest.mark.parametrize("op", BINARY, ids=repr)


def inputs_of(op):
    return op.fn.nin if isinstance(op.fn, np.ufunc) else len(op.vjp)


def shapes_of(op):
    """The shapes to try: pairs that broadcast for elementwise operations, square matrices for others."""
    n = inputs_of(op)
    if op.kind != "elementwise":
        return [((3, 3),) * n]
    return PAIRS if n == 2 else list(dict.fromkeys((a,) * n for a, _ in PAIRS))


def sample(op, i, shape, dtype=np.float64):
    """Values for input `i` of `op`, from its domain."""
    low, high = op.domain[i] if i < len(op.domain) else (-2.0, 2.0)
    values = np.random.default_rng(7 + i).uniform(low, high, shape)
    whole = np.clip(np.rint(values), np.ceil(low), np.floor(high))
    return np.asarray(values if np.dtype(dtype).kind == "f" else whole, dtype)


def samples(op, shapes, dtype=np.float64):
    return [sample(op, i, shape, dtype) for i, shape in enumerate(shapes)]


def attempt(fn, *args):
    """What `fn` gives, or the error it raises."""
    try:
        return fn(*args)
    except (TypeError, ValueError) as error:
        return error


def aval_of(x):
    return x if isinstance(x, (bool, int, float)) else Aval(np.shape(x), np.result_type(x))


def leaf(x):
    return tensor(x, requires_grad=True)


def assert_same(result, expected):
    """`result` is a Tensor with the value, dtype and shape of the array (or NumPy scalar) `expected`."""
    assert isinstance(result, sadl.Tensor), type(result)
    assert (result.shape, result.dtype) == (np.shape(expected), expected.dtype)
    assert np.array_equal(np.asarray(result), expected, equal_nan=expected.dtype.kind in "fc")


# ---- generated from the table --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, bool], ids=["f64", "f32", "i64", "bool"])
@each_op
def test_value_and_dtype_are_numpys(op, dtype):
    for shapes in shapes_of(op):
        args = samples(op, shapes, dtype)
        expected = attempt(op.fn, *args)
        result = attempt(op.fn, *map(tensor, args))
        if isinstance(expected, Exception):
            assert isinstance(result, type(expected))
        else:
            assert_same(result, expected)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64], ids=["f64", "f32", "i64"])
@each_op
def test_inferred_shape_and_dtype_are_the_real_ones(op, dtype):
    for shapes in shapes_of(op):
        args = samples(op, shapes, dtype)
        expected = attempt(op.run, *args)
        inferred = None if isinstance(expected, Exception) else op.aval(*map(aval_of, args))
        assert inferred is None or inferred == (np.shape(expected), expected.dtype)


@each_binary
def test_scalars_on_either_side(op):
    for scalar, dtype, side in itertools.product(SCALARS, (np.float64, np.float32), (0, 1)):
        args = [sample(op, 1 - side, (3,), dtype)]
        args.insert(side, scalar)
        expected = attempt(op.fn, *args)
        if isinstance(expected, Exception):
            continue
        assert_same(op.fn(*(leaf(a) if a is not scalar else a for a in args)), expected)
        assert op.aval(*map(aval_of, args)) == ((3,), expected.dtype)


@each_differentiable
def test_gradients_to_second_order(op):
    for shapes in shapes_of(op):
        check_grads(op.fn, tuple(samples(op, shapes)))


@each_binary
def test_gradients_with_a_scalar_on_either_side(op):
    if not op.differentiable:
        return
    for scalar, shape in itertools.product(SCALARS[:3], [(3,), ()]):
        check_grads(lambda x, c=scalar: op.fn(x, c), (sample(op, 0, shape),))
        check_grads(lambda x, c=scalar: op.fn(c, x), (sample(op, 1, shape),))


def grad_of(t):
    """Its gradient; one that no rule gave is 0."""
    return np.zeros(t.shape, t.dtype) if t.grad is None else t.grad


@each_differentiable
def test_gradients_have_the_dtype_of_their_inputs(op):
    for shapes in shapes_of(op):
        for dtypes in itertools.product((np.float32, np.float64), repeat=inputs_of(op)):
            leaves = [leaf(sample(op, i, s, dt)) for i, (s, dt) in enumerate(zip(shapes, dtypes, strict=True))]
            out = op.fn(*leaves)
            out.backward(np.ones(out.shape))
            for t in leaves:
                g = grad_of(t)
                assert type(g) is np.ndarray and (g.shape, g.dtype) == (t.shape, t.dtype)


@each_differentiable
def test_float32_gradients_with_a_scalar(op):
    if op not in BINARY:
        return
    for scalar, shape, side in itertools.product((1.5, 2, True), [(3,), ()], (0, 1)):
        t = leaf(sample(op, side, shape, np.float32))
        out = op.fn(t, scalar) if side == 0 else op.fn(scalar, t)
        if out.requires_grad:
            out.backward(np.ones(out.shape))
        assert grad_of(t).dtype == np.float32


@each_differentiable
def test_memory_layout_does_not_matter(op):
    shapes = ((3, 3),) * inputs_of(op)
    reference = None
    for layout in (np.ascontiguousarray, *LAYOUTS.values()):
        leaves = [sadl.Tensor(layout(a), requires_grad=True) for a in samples(op, shapes)]
        out = op.fn(*leaves)
        np.sum(out * np.arange(out.size, dtype=float).reshape(out.shape)).backward()
        found = [np.asarray(out), *map(grad_of, leaves)]
        reference = reference or found
        for a, b in zip(found, reference, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-14)


@each_op
def test_without_a_rule_nothing_is_tracked(op):
    args = samples(op, shapes_of(op)[0])
    out = op.fn(*map(leaf, args))
    assert out.requires_grad == op.differentiable
    if op.differentiable and op.pullback is None:
        for i, rule in enumerate(op.vjp):
            out = op.fn(*(leaf(a) if i == k else a for k, a in enumerate(args)))
            assert out.requires_grad and (rule is not None or not np.any(sadl.vjp(op.fn, *args)[1](out.detach())[i]))


def test_every_entry_of_the_table_is_complete():
    for name, op in OPS.items():
        assert op.name == name and op.kind in ("elementwise", "reduction", "view", "call")
        assert len(op.domain) <= len(op.vjp or op.domain)
        assert op.vjp is not None or op.pullback is not None or not op.tested or op.fn is None


# ---- everything that takes more than arrays: one expression each ---------------------------------------------------

RNG = np.random.default_rng(0)
X = RNG.uniform(0.3, 2.0, (3, 4))
Y = RNG.uniform(0.3, 2.0, (3, 4))
NAMES = {
    "np": np,
    "V": RNG.uniform(0.3, 2.0, 4),
    "MASK": X > 1,
    "I": np.array([[2, 0], [1, 2]]),
    "IX": np.argsort(Y, axis=1),
    "LAST": np.argmax(Y, axis=1)[:, None],
}

REDUCTIONS = """
x.sum() | np.sum(x) | np.sum(a=x) | x.sum(0) | x.sum(-1) | x.sum(axis=(0, 1)) | x.sum((1, 0), keepdims=True) | x.sum(())
np.sum(x, axis=None, keepdims=True) | np.sum(x, 1, np.float64) | np.sum(x, where=MASK) | np.sum(x, initial=2.5)
np.sum(x, 0, where=MASK, initial=1) | np.sum(x, axis=0, where=MASK[:, :1]) | np.add.reduce(x) | np.add.reduce(x, axis=None)
np.add.reduce(x, 1, keepdims=True) | np.add.reduce(x, where=MASK) | np.sum(x, dtype=np.float32) * 1.0 | x.sum(dtype=float)
x.max() | x.max(0) | x.max(-1, keepdims=True) | np.max(x, axis=(0, 1)) | np.max(x, 1, initial=1.0) | np.amax(x, 0)
np.max(x, where=MASK, initial=0.5) | np.maximum.reduce(x) | np.maximum.reduce(x, axis=None) | np.maximum.reduce(x, 1)
x.min() | x.min(0) | x.min(-1, keepdims=True) | np.min(x, axis=(0, 1)) | np.min(x, 1, initial=1.0) | np.amin(x, 0)
np.min(x, where=MASK, initial=9) | np.minimum.reduce(x) | np.minimum.reduce(x, axis=None) | np.minimum.reduce(x, 1)
x.mean() | x.mean(0) | x.mean((0, 1)) | x.mean(-1, keepdims=True) | np.mean(x, where=MASK) | np.mean(x, 0, where=MASK)
np.mean(x, dtype=np.float64) | x.var() | x.var(0) | x.var((0, 1), ddof=1) | x.var(-1, keepdims=True) | np.var(x, 1, ddof=2)
np.var(x, correction=1) | x.std() | x.std(0) | x.std((0, 1), ddof=1) | x.std(-1, keepdims=True) | np.std(x, axis=1)
np.sum(x * (x == x.max(1, keepdims=True))) | np.sum(x[:0]) | np.sum(x[:0], axis=0) | np.max(x[:, :0], axis=0)
"""
MOVEMENT = """
x.reshape(4, 3) | x.reshape((2, 6)) | x.reshape(-1) | x.reshape(2, -1) | np.reshape(x, (6, 2)) | np.reshape(x, shape=(12,))
x.ravel() | np.ravel(x) | x.flatten() | x.T | x.mT | x.transpose() | x.transpose(1, 0) | x.transpose((1, 0)) | np.transpose(x)
np.transpose(x, (-1, 0)) | np.permute_dims(x, (1, 0)) | np.matrix_transpose(x) | x.swapaxes(0, 1) | np.swapaxes(x, -1, 0)
np.moveaxis(x, 0, -1) | np.moveaxis(x[None], (0, 1), (2, 0)) | np.expand_dims(x, 1) | np.expand_dims(x, (0, -1))
x[None].squeeze() | np.squeeze(x[None, :, None], axis=2) | np.squeeze(x[None, :, None], (0, -2)) | np.broadcast_to(x, (2, 3, 4))
np.broadcast_to(x[:1], (3, 4)) | np.broadcast_to(x[0, 0], 3) | np.flip(x) | np.flip(x, 0) | np.flip(x, (0, -1))
np.concatenate([x, y]) | np.concatenate((x, y), axis=1) | np.concatenate([x, y, x], -1) | np.concatenate([x, y], axis=None)
np.concatenate([x, np.ones((2, 4))]) | np.concatenate([np.ones((2, 4)), x]) | np.concatenate([[[1.0] * 4], x]) | np.concatenate([x])
np.stack([x, y]) | np.stack([x, y], axis=1) | np.stack((x, y), -1) | np.stack([x, np.ones((3, 4))]) | np.stack([x[0, 0], 1.0])
np.stack(np.split(x, 2, axis=1)) | np.split(x, [1], axis=1)[1] | np.split(x, [1, 3], 1)[1] | np.split(x, 3)[2]
np.array_split(x, 3, axis=1)[0] | np.array_split(x, 2)[1] | np.concatenate(np.array_split(x, 5, 1)[::-1], 1) | x.copy() | np.copy(x)
x.astype(np.float64) | x.astype(np.float32).astype(np.float64) | np.astype(x, np.float64) | x.astype(float, copy=False)
"""
INDEXING = """
x[1] | x[-1] | x[1, 2] | x[np.int64(1)] | x[1:] | x[::2] | x[::-1] | x[:, 1:3] | x[2:0:-1, ::2] | x[..., 1] | x[None] | x[:, None, 2]
x[...] | x[()] | x[1, ..., None] | x[0:0] | x[[0, 2]] | x[[0, 0, 2]] | x[[-1, 0]] | x[I] | x[:, I] | x[[0, 1], [1, 2]] | x[I, 1]
x[[0, 1], :, None] | x[None, [0, 2], 1:] | x[1, [0, 3]] | x[np.array(1)] | x[np.ix_([0, 2], [1, 3])] | x[[[0], [1]], [0, 1]] | x[[]]
x[MASK] | x[~MASK] | x[MASK[:, 0]] | x[:, MASK[0]] | x[MASK[:, 0], 1] | x[MASK[:, 0], 1:] | x[True] | x[False] | x[[True, False, True]]
np.take(x, [0, 5, 5]) | x.take([1, 1], axis=1) | np.take(x, I, axis=0) | np.take(x, 3) | np.take(x, -1, 1) | np.take(x, [[0, -1]], -1)
np.take_along_axis(x, IX, 1) | np.take_along_axis(x, IX, axis=-1) | np.take_along_axis(x, IX[:1] % 3, 0) | np.take_along_axis(x, LAST, 1)
np.take_along_axis(x, np.array([5, 5, 0]), None) | np.take_along_axis(x, np.array([[0, 0, 0]]).T, 1) | np.stack(list(x))
np.where(MASK, x, y) | np.where(MASK, x, 0) | np.where(MASK, 1.0, y) | np.where(MASK[0], x[:, :1], y) | np.where(x > y, x, -y)
np.where(MASK[0], [1.0, 2.0, 3.0, 4.0], x)
"""
LINALG = """
x.dot(y.T) | np.dot(x, y.T) | np.dot(x, V) | np.dot(V, x.T) | np.dot(x[0], y[0]) | np.dot(x, 2.0) | np.dot(2.0, x) | np.dot(x[0], [1.0, 2, 3, 4])
x @ y.T | x.T @ y | x @ y[0] | x[:, 0] @ y | x[0] @ y[0] | x @ V | V @ x.T | x @ [1.0, 2.0, 3.0, 4.0] | [1.0, 2.0, 3.0] @ x
x[None] @ y.T | x @ np.stack([y.T, y.T]) | np.stack([x, y]) @ np.stack([y.T, x.T]) | x[:, None] @ y[:, :, None] | np.stack([x, y]) @ y[0]
x[0] @ np.stack([y.T, x.T]) | np.stack([x, y])[:, None] @ np.stack([y.T, x.T, y.T]) | x[:0] @ y.T | x[:, :0] @ y[:, :0].T | np.matmul(x, y.T)
x[:1] @ np.stack([x, y]).swapaxes(1, 2)
"""
ELEMENTWISE = """
np.clip(x, 0.5, 1.5) | x.clip(0.5) | np.clip(x, None, 1.5) | x.clip(max=1.5) | x.clip(min=0.5, max=y) | np.clip(x, y, y + 1)
x + y | x - y | x * y | x / y | x % y | x ** y | -x | +x | abs(x - 1) | x + 1 | 1 + x | x - 1 | 1 - x | 2 * x | x / 2 | 2 / x | x % 0.7
2.7 % x | x ** 2 | x ** -1 | x ** 0.5 | x ** 0 | 2 ** x | 0.5 ** x | [1.0, 2.0, 3.0, 4.0] * x | x - (1.0, 2.0, 3.0, 4.0) | V * x | V - x | V / x
np.float64(2) * x | np.int64(3) - x | np.float64(2) ** x | np.arange(4) * x | np.add(x, y, dtype=np.float64) | np.multiply(x, 2, dtype=float)
np.add.outer(x[0], y[0]) | np.multiply.outer(x[0], V) | np.subtract.outer(V, x) | np.power.outer(x[0], [2, 3]) | x * (x > 1) | x // 0.4 + x
np.add(x, y, where=MASK, out=np.zeros_like(x)) | np.divide(x, y * MASK, where=MASK, out=np.ones_like(x)) * 2.0
np.log(x * MASK, where=MASK, out=np.zeros_like(x)) | np.sqrt(x * MASK, where=MASK, out=np.zeros_like(x)) + x | np.zeros_like(x) + x
np.ones_like(x) * x | np.full_like(x, 2) * x | np.empty_like(x) * 0 + x | np.round(x, 1) + x | x.round() * x | np.sign(x) * x
"""


def expressions(*texts):
    return [e.strip() for text in texts for line in text.strip().splitlines() for e in line.split("|") if e.strip()]


def function(expression):
    """The expression as a function of x, and of y if it is in it."""
    names = [n for n in "xy" if n in compile(expression, "", "eval").co_names]
    return eval(f"lambda {', '.join(names)}: {expression}", NAMES), {"x": X, "y": Y}, names


@pytest.mark.parametrize("expression", expressions(REDUCTIONS, MOVEMENT, INDEXING, LINALG, ELEMENTWISE))
def test_expression(expression):
    f, values, names = function(expression)
    for dtype in (np.float64, np.float32):
        args = [values[n].astype(dtype) for n in names]
        expected = np.asarray(f(*args))
        untracked, leaves = f(*map(tensor, args)), [leaf(a) for a in args]
        out = f(*leaves)
        for result in (untracked, out):
            assert isinstance(result, sadl.Tensor) and (result.shape, result.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_allclose(result, expected, rtol=1e-5 if dtype is np.float32 else 1e-13)
        assert out.requires_grad and not untracked.requires_grad
        out.backward(np.ones(out.shape))
        assert all((t.grad.shape, t.grad.dtype) == (t.shape, dtype) for t in leaves)
    if "float32" in expression:
        check_grads(f, tuple(a.astype(np.float32) for a in args), order=1)
    else:
        check_grads(f, tuple(values[n] for n in names))


# ---- what gradients cannot show by differences ---------------------------------------------------------------------


@pytest.mark.parametrize("f", [np.max, np.min, np.maximum.reduce, np.minimum.reduce, lambda x, axis: x.max(axis)])
def test_ties_share_the_gradient_equally(f):
    t = leaf([[1.0, 2, 2, 1], [3, 3, 3, 3]])
    np.sum(f(t, axis=1)).backward()
    assert np.array_equal(t.grad.sum(axis=1), [1, 1]) and np.array_equal(t.grad[1], [0.25] * 4)
    assert set(t.grad[0]) == {0.0, 0.5}


@pytest.mark.parametrize("f", [np.maximum, np.minimum])
def test_ties_of_two_operands_share_the_gradient_equally(f):
    a, b = leaf([1.0, 2.0]), leaf([1.0, 3.0])
    np.sum(f(a, b)).backward()
    assert a.grad[0] == b.grad[0] == 0.5 and np.array_equal(a.grad + b.grad, [1, 1])


def test_repeated_indices_accumulate():
    t = leaf(np.arange(3.0))
    np.sum(t[[0, 0, 2, 0]] * np.array([1.0, 2, 3, 4])).backward()
    assert np.array_equal(t.grad, [7, 0, 3])


@pytest.mark.parametrize(
    "index", [3, -4, (0, 4), [3], [[-4]], (slice(None), [0, 4]), 1.5, "a", slice(0.5, 2)], ids=repr
)
def test_a_wrong_index_is_numpys_error(index):
    for t in (tensor(X), leaf(X)):
        with pytest.raises((IndexError, TypeError)):
            t[index]
    for call in (lambda t: np.take(t, 12), lambda t: np.take_along_axis(t, np.full((3, 1), 4), 1)):
        with pytest.raises(IndexError):
            call(leaf(X))


@pytest.mark.parametrize(
    "expression",
    expressions("""
    x @ x | x + x.T | x.reshape(5) | x.reshape(-1, 7) | x.transpose(0, 0) | x.swapaxes(0, 2) | x.sum(2) | x.sum((0, 0)) | x.max(5)
    np.concatenate([x, x.T]) | np.stack([x, x.T]) | np.split(x, 2) | np.squeeze(x, 0) | np.expand_dims(x, 5) | np.moveaxis(x, 0, 3)
    np.broadcast_to(x, (2, 2)) | x[:, :0].max() | np.max(x[:0], axis=0) | np.flip(x, 2) | np.where(MASK, x, x.T) | x.astype(int, casting="safe")
    """),
)
def test_a_wrong_shape_is_an_error_that_names_what_went_wrong(expression):
    f = function(expression)[0]
    with pytest.raises((ValueError, IndexError, TypeError)):
        f(X)
    for t in (tensor(X), leaf(X)):
        with pytest.raises((ValueError, IndexError, TypeError)) as caught:
            f(t)
        assert len(str(caught.value)) > 10


def test_casts_to_whole_numbers_and_comparisons_are_constants():
    t = leaf(X)
    for out in (
        t.astype(int),
        t.astype(bool),
        t > 1,
        t == t,
        t.argmax(0),
        np.argmin(t),
        np.isnan(t),
        np.any(t),
        t.all(1),
    ):
        assert isinstance(out, sadl.Tensor) and not out.requires_grad


def test_mixed_precision_follows_numpy():
    x32, y64 = leaf(X.astype(np.float32)), leaf(Y)
    out = x32 * y64
    np.sum(out).backward()
    assert out.dtype == np.float64 and x32.grad.dtype == np.float32 and y64.grad.dtype == np.float64
    half = leaf(X.astype(np.float16))
    np.sum(np.exp(half) * 2.0).backward()
    assert half.grad.dtype == np.float16


def test_a_custom_op_with_several_results():
    both = SimpleNamespace(op=sadl.op.Op("both", lambda x: (x * x, x**3), "call", outs=2, pullback=_both_pullback))

    def f(x):
        a, b = sadl.tape.bind(both.op, x)
        return a * b

    check_grads(f, (X,))
    check_grads(lambda x: sadl.tape.bind(both.op, x)[1], (X,))


def _both_pullback(g, out, x):
    parts = [0 if g[0] is None else g[0] * 2 * x, 0 if g[1] is None else g[1] * 3 * x * x]
    return [parts[0] + parts[1]]


@pytest.mark.parametrize(
    "f", [np.abs, lambda z: np.abs(z) ** 3, lambda z: np.abs(z * z + 1), lambda z: np.sum(z) * z, np.exp]
)
def test_complex_values_on_the_way(f):
    check_grads(lambda x: f(x * (1 + 0.5j) - 0.3j), (X,), order=1)


# ---- made up -------------------------------------------------------------------------------------------------------


def check_linear(f, x):
    """The gradient of a linear function is its transpose: no differences, no tolerance to speak of."""
    out, pullback = sadl.vjp(f, x)
    rng = np.random.default_rng(0)
    ct, direction = rng.standard_normal(out.shape), rng.standard_normal(x.shape)
    np.testing.assert_array_equal(out, f(x))
    (g,) = pullback(ct)
    assert g.shape == x.shape and np.isclose(np.sum(g * direction), np.sum(ct * f(direction)))


shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)
filled = hnp.array_shapes(min_dims=1, max_dims=4, max_side=4)


def numbers(shape):
    return np.random.default_rng(1).standard_normal(shape)


@given(shapes.flatmap(lambda s: st.tuples(st.just(s), hnp.basic_indices(s, allow_newaxis=True, allow_ellipsis=True))))
def test_any_basic_index(case):
    shape, index = case
    check_linear(lambda x: x[index], numbers(shape))


@given(filled.flatmap(lambda s: st.tuples(st.just(s), hnp.integer_array_indices(s), st.integers(0, 3))))
def test_any_index_array(case):
    shape, index, at = case
    mixed = (*index[: at % len(index)], slice(None), *index[at % len(index) + 1 :])
    check_linear(lambda x: x[index], numbers(shape))
    check_linear(lambda x: x[mixed], numbers(shape))


@given(filled.flatmap(lambda s: st.tuples(st.just(s), hnp.arrays(bool, s))))
def test_any_mask(case):
    shape, mask = case
    check_linear(lambda x: x[mask], numbers(shape))
    check_linear(lambda x: np.where(mask, x, 0), numbers(shape))


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3, min_side=0))
def test_any_broadcast(case):
    (left, right), out = case
    check_linear(lambda x: x * numbers(right), numbers(left))
    check_linear(lambda x: np.zeros(left) - x, numbers(right))
    check_linear(lambda x: np.broadcast_to(x, out), numbers(left))


@given(hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=3, max_side=3))
def test_any_matmul(case):
    left, right = case.input_shapes
    if len(left) > 1 or len(right) > 1 or left == right:
        check_linear(lambda x: x @ numbers(right), numbers(left))
        check_linear(lambda x: numbers(left) @ x, numbers(right))


@given(shapes.flatmap(lambda s: st.tuples(st.just(s), hnp.valid_tuple_axes(len(s)), st.booleans())))
def test_any_axes(case):
    shape, axis, keepdims = case
    check_linear(lambda x: np.sum(x, axis=axis, keepdims=keepdims), numbers(shape))
    check_linear(lambda x: np.flip(x, axis), numbers(shape))
    if 0 not in shape:
        check_linear(lambda x: np.mean(x, axis=axis, keepdims=keepdims), numbers(shape))
        g = sadl.grad(lambda x: np.sum(np.max(x, axis=axis, keepdims=keepdims)))(numbers(shape))
        assert np.array_equal(g, numbers(shape) == np.max(numbers(shape), axis=axis, keepdims=True))


@settings(max_examples=50)
@given(shapes.flatmap(lambda s: st.tuples(st.just(s), st.permutations(range(len(s))))))
def test_any_permutation(case):
    shape, order = case
    check_linear(lambda x: np.transpose(x, order), numbers(shape))
    check_linear(lambda x: np.moveaxis(x, range(len(shape)), order), numbers(shape))
    check_linear(lambda x: np.transpose(x, order).reshape(-1), numbers(shape))
