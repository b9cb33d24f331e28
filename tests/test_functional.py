"""Tests of `sadl.functional`: values against plain formulas, gradients against differences, dtypes, extremes, errors.

Takes random arrays of a fixed seed. The layers around these functions are tested in test_function.py.
"""

import numpy as np
import pytest

import sadl
from sadl import functional as F
from sadl.errors import ShapeError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 5))
Y = RNG.standard_normal((3, 4, 5))
CLASSES = RNG.integers(0, 5, (3, 4))
PROBABILITIES = np.exp(Y) / np.exp(Y).sum(-1, keepdims=True)

ON_ARRAYS = {
    "relu": F.relu,
    "sigmoid": F.sigmoid,
    "tanh": F.tanh,
    "softmax": F.softmax,
    "softmax axis": lambda x: F.softmax(x, axis=1),
    "softmax axes": lambda x: F.softmax(x, axis=(0, -1)),
    "log_softmax": F.log_softmax,
    "log_softmax axis": lambda x: F.log_softmax(x, axis=0),
    "logsumexp": F.logsumexp,
    "logsumexp keepdims": lambda x: F.logsumexp(x, axis=(0, 1), keepdims=True),
    "cross_entropy": lambda x: F.cross_entropy(x, CLASSES),
    "cross_entropy sum": lambda x: F.cross_entropy(x, CLASSES, reduction="sum"),
    "cross_entropy none": lambda x: F.cross_entropy(x, CLASSES, reduction="none"),
    "cross_entropy probabilities": lambda x: F.cross_entropy(x, PROBABILITIES.astype(x.dtype)),
    "nll_loss": lambda x: F.nll_loss(x, CLASSES),
    "mse_loss": lambda x: F.mse_loss(x, Y.astype(x.dtype)),
    "mse_loss none": lambda x: F.mse_loss(x, Y.astype(x.dtype), reduction="none"),
}


@pytest.mark.parametrize("name", ON_ARRAYS)
def test_gradients_to_the_second_order(name):
    sadl.check_grads(ON_ARRAYS[name], (X,))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", ON_ARRAYS)
def test_dtypes_stay(name, dtype):
    x = sadl.tensor(X, dtype=dtype, requires_grad=True)
    y = ON_ARRAYS[name](x)
    assert y.dtype == dtype
    y.sum().backward()
    assert x.grad.dtype == dtype and x.grad.shape == X.shape


@pytest.mark.parametrize("name", ON_ARRAYS)
def test_plain_arrays_give_what_tensors_give(name):
    plain, tensor = ON_ARRAYS[name](X), ON_ARRAYS[name](sadl.tensor(X))
    assert not isinstance(plain, sadl.Tensor) and isinstance(tensor, sadl.Tensor)
    assert plain.shape == tensor.shape and np.allclose(plain, tensor, rtol=1e-14)


def grad_of(f, x):
    t = sadl.tensor(x, requires_grad=True)
    f(t).sum().backward()
    return t.grad


# ---- activations -----------------------------------------------------------------------------------------------


def test_relu_at_zero_and_with_nan():
    x = np.array([-1.0, 0.0, -0.0, 2.0, np.nan, -np.inf, np.inf])
    assert np.array_equal(F.relu(x), [0, 0, 0, 2, np.nan, 0, np.inf], equal_nan=True)
    assert np.array_equal(grad_of(F.relu, x[:4]), [0, 0, 0, 1])
    assert np.array_equal(F.relu(np.array([-2, 3])), [0, 3])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sigmoid_at_extremes(dtype):
    x = np.array([-1e4, -100, -1, 0, 1, 100, 1e4, -np.inf, np.inf], dtype)
    y, g = F.sigmoid(x), grad_of(F.sigmoid, x)
    wide = lambda x: 1 / (1 + np.exp(-np.clip(x.astype(np.longdouble), -11000, 11000)))
    close = {"rtol": 4 * np.finfo(dtype).eps, "atol": np.finfo(dtype).tiny}
    assert np.allclose(y, wide(x), **close) and np.allclose(g, wide(x) * wide(-x), **close)
    assert g[3] == 0.25


def test_sigmoid_keeps_small_values():
    x = np.array([-30.0, -80.0], np.float32)
    assert np.allclose(F.sigmoid(x), np.exp(x.astype(float)), rtol=1e-5, atol=0)
    assert np.isnan(F.sigmoid(np.array(np.nan)))


# ---- along an axis ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [-1, 0, 1, (1, 2)])
def test_softmax_and_its_logarithms_agree(axis):
    e = np.exp(X)
    expected = e / e.sum(axis, keepdims=True)
    assert np.allclose(F.softmax(X, axis), expected)
    assert np.allclose(F.log_softmax(X, axis), np.log(expected))
    assert np.allclose(F.logsumexp(X, axis), np.log(e.sum(axis)))
    assert F.logsumexp(X, axis, keepdims=True).shape == e.sum(axis, keepdims=True).shape


@pytest.mark.parametrize("f", [F.softmax, F.log_softmax, F.logsumexp])
def test_large_values_do_not_overflow(f):
    x = np.array([[1e4, 1e4 - 1, -1e4], [-1e4, -1e4, -2e4]], np.float32)
    assert np.all(np.isfinite(f(x))) and np.all(np.isfinite(grad_of(f, x)))
    assert np.allclose(F.softmax(x)[1], [0.5, 0.5, 0])


def test_masked_values_get_no_gradient():
    x = np.array([[0.0, -np.inf, 1.0]])
    expected = np.array([[1, 0, np.e]]) / (1 + np.e)
    assert np.allclose(F.softmax(x), expected)
    assert np.allclose(grad_of(F.logsumexp, x), expected)
    assert np.allclose(grad_of(lambda t: F.cross_entropy(t, [2]), x), expected - [[0, 0, 1]])


def test_logsumexp_of_minus_infinity_only():
    x = np.array([[-np.inf, -np.inf], [0.0, 0.0]])
    assert np.array_equal(F.logsumexp(x), [-np.inf, np.log(2)])
    assert np.array_equal(grad_of(F.logsumexp, x), [[0, 0], [0.5, 0.5]])


def test_the_shift_takes_no_part_in_the_gradient():
    x = np.array([1.0, 1.0, 0.0])  # ties at the maximum
    sadl.check_grads(F.softmax, (x,))
    sadl.check_grads(F.logsumexp, (x,))


# ---- layers ----------------------------------------------------------------------------------------------------


def test_linear():
    W, b = RNG.standard_normal((5, 2)), RNG.standard_normal(2)
    assert np.allclose(F.linear(X, W, b), X @ W + b) and np.allclose(F.linear(X, W), X @ W)
    sadl.check_grads(F.linear, (X, W, b))
    with pytest.raises(ValueError):
        F.linear(sadl.tensor(X), sadl.tensor(W.T))


def test_one_hot():
    assert np.array_equal(F.one_hot(CLASSES, 5), np.eye(5)[CLASSES])
    assert F.one_hot(CLASSES, 5).dtype == np.float32 and F.one_hot(3, 5, dtype=bool).dtype == bool
    assert isinstance(F.one_hot(sadl.tensor(CLASSES), 5), sadl.Tensor)
    assert F.one_hot(np.zeros((0, 2), int), 3).shape == (0, 2, 3)


@pytest.mark.parametrize("bad", [-1, 5])
def test_one_hot_out_of_range(bad):
    with pytest.raises(IndexError, match=r"\[one_hot\] a class index is outside 0 \.\. 4"):
        F.one_hot([0, bad], 5)
    with pytest.raises(TypeError, match="float64"):
        F.one_hot([0.5], 5)


# ---- losses ----------------------------------------------------------------------------------------------------


def test_cross_entropy_is_the_negative_logarithm_of_the_probability():
    p = F.softmax(X)
    each = -np.log(np.take_along_axis(p, CLASSES[..., None], -1)[..., 0])
    assert np.allclose(F.cross_entropy(X, CLASSES, reduction="none"), each)
    assert np.allclose(F.cross_entropy(X, CLASSES), each.mean())
    assert np.allclose(F.cross_entropy(X, CLASSES, "sum"), each.sum())
    assert np.allclose(F.nll_loss(np.log(p), CLASSES), each.mean())


def test_probabilities_agree_with_indices():
    for reduction in ("mean", "sum", "none"):
        a, b = (F.cross_entropy(X, t, reduction) for t in (CLASSES, F.one_hot(CLASSES, 5, np.float64)))
        assert np.shape(a) == np.shape(b) and np.allclose(a, b)
    sadl.check_grads(F.cross_entropy, (X, PROBABILITIES))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_any_integer_dtype_counts_classes(dtype):
    logits = np.zeros((2, 300), np.float32)
    assert np.allclose(F.cross_entropy(logits, np.array([0, 100], dtype)), np.log(300))


def test_targets_may_be_a_list_a_tensor_or_of_no_dimension():
    expected = F.cross_entropy(X[0], CLASSES[0])
    assert F.cross_entropy(X[0], CLASSES[0].tolist()) == expected
    assert F.cross_entropy(X[0], sadl.tensor(CLASSES[0])) == expected
    assert F.cross_entropy(X[0, 0], 2).shape == ()


@pytest.mark.parametrize("bad", [-1, -100, 5, 1000])
@pytest.mark.parametrize("f", [F.cross_entropy, F.nll_loss])
def test_an_index_out_of_range_raises(f, bad):
    targets = CLASSES.copy()
    targets[1, 2] = bad
    with pytest.raises(IndexError, match=rf"\[{f.__name__}\] a class index is outside 0 \.\. 4"):
        f(sadl.tensor(X, requires_grad=True), targets)


@pytest.mark.parametrize("shape", [(3,), (3, 4, 5), (4, 3), (3, 4, 1), ()])
def test_indices_of_the_wrong_shape_raise(shape):
    with pytest.raises(ShapeError, match=r"targets of shape .* do not fit an input of shape \(3, 4, 5\)"):
        F.cross_entropy(X, np.zeros(shape, int))


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1), (5,)])
def test_probabilities_of_the_wrong_shape_raise(shape):
    with pytest.raises(ShapeError, match="probabilities of the shape of the logits"):
        F.cross_entropy(X, np.zeros(shape))


def test_other_misuse_raises():
    with pytest.raises(TypeError, match="integers"):
        F.nll_loss(X, np.zeros((3, 4)))
    with pytest.raises(TypeError, match="bool"):
        F.cross_entropy(X, np.zeros((3, 4), bool))
    with pytest.raises(ShapeError):
        F.cross_entropy(np.float64(1.0), np.int64(0))
    with pytest.raises(ShapeError, match=r"\(3, 1\) and targets of shape \(3,\) differ"):
        F.mse_loss(np.zeros((3, 1)), np.zeros(3))


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss, F.mse_loss])
def test_an_unknown_reduction_raises(loss):
    targets = Y if loss is F.mse_loss else CLASSES
    with pytest.raises(ValueError, match=rf'\[{loss.__name__}\] no reduction \'avg\'.*"mean", "sum" or "none"'):
        loss(X, targets, reduction="avg")


def test_mse_loss():
    assert np.allclose(F.mse_loss(X, Y), ((X - Y) ** 2).mean())
    assert F.mse_loss(X, Y, "none").shape == X.shape
    sadl.check_grads(F.mse_loss, (X, Y))
