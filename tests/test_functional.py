"""Tests of `sadl.functional`: values against plain formulas, gradients against differences, dtypes, extremes, errors.

Takes random arrays of a fixed seed. The layers around these functions are tested in test_function.py.
"""

import math

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
WEIGHT = RNG.uniform(0.5, 2, 5)
MASK = RNG.random((4, 4)) < 0.7
OPTIONS = {"label_smoothing": 0.1, "ignore_index": int(CLASSES[0, 0]), "weight": WEIGHT}

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
    "cross_entropy options": lambda x: F.cross_entropy(x, CLASSES, **OPTIONS),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "elu": lambda x: F.elu(x, 0.7),
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, "tanh"),
    "silu": F.silu,
    "softplus": lambda x: F.softplus(x, 2.0),
    "erf": F.erf,
    "l1_loss": lambda x: F.l1_loss(x, Y.astype(x.dtype)),
    "huber_loss": lambda x: F.huber_loss(x, Y.astype(x.dtype), delta=0.8),
    "kl_div": lambda x: F.kl_div(x, PROBABILITIES.astype(x.dtype), "batchmean"),
    "binary_cross_entropy": lambda x: F.binary_cross_entropy_with_logits(x, PROBABILITIES.astype(x.dtype)),
    "binary_cross_entropy of ints": lambda x: F.binary_cross_entropy_with_logits(x, X > 0, weight=3, pos_weight=2),
    "layer_norm": lambda x: F.layer_norm(x, WEIGHT.astype(x.dtype), eps=0.1, axis=(-1,)),
    "rms_norm": lambda x: F.rms_norm(x, axis=(-2, -1)),
    "group_norm": lambda x: F.group_norm(x, 2, eps=0.1),
    "batch_norm": lambda x: F.batch_norm(x, training=True, eps=0.1),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "attention mask": lambda x: F.scaled_dot_product_attention(x, x, x, MASK),
    "dropout": lambda x: F.dropout(x, 0.4, rng=5),
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
    assert isinstance(plain, sadl.Tensor) == (name == "dropout") and isinstance(tensor, sadl.Tensor)
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


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, bool])
@pytest.mark.parametrize("f", [F.sigmoid, F.elu, F.gelu, F.silu, F.tanh, F.softplus, F.softmax, F.log_softmax])
def test_integers_and_bools_are_computed_in_float64(f, dtype):
    x = np.array([[0, 1, 100], [3, 0, 2]]).astype(dtype)
    assert f(x).dtype == np.float64 and np.array_equal(f(x), f(x.astype(float)))
    assert np.array_equal(f(x.tolist()), f(x.astype(float)))


@pytest.mark.parametrize("f", [F.sigmoid, F.elu, F.gelu, F.silu, F.softplus, F.relu, F.leaky_relu, F.erf])
def test_nan_stays_and_infinity_is_a_limit(f):
    y = f(np.array([np.nan, np.inf]))
    limit = 1 if f in (F.sigmoid, F.erf) else np.inf
    assert np.array_equal(y, [np.nan, limit], equal_nan=True)


def test_gradients_at_infinity():
    x = np.array([-np.inf, np.inf])
    for f, expected in ((F.relu, [0, 1]), (F.sigmoid, [0, 0]), (F.softplus, [0, 1]), (F.leaky_relu, [0.01, 1])):
        assert np.array_equal(sadl.vjp(f, x)[1](np.ones(2))[0], expected)


@pytest.mark.parametrize("f", [F.sigmoid, F.silu, F.elu, F.softplus, F.gelu])
def test_second_order_at_zero(f):
    sadl.check_grads(f, (np.array([1e-3, 0.5]),))
    slope = sadl.grad(lambda x: np.sum(sadl.grad(lambda x: np.sum(f(x)))(x)))
    assert np.allclose(slope(np.zeros(1)), slope(np.full(1, -1e-7)), atol=1e-6)


def test_erf_is_that_of_math():
    x = np.concatenate([RNG.uniform(-7, 7, 5000), 10.0 ** RNG.uniform(-300, 0, 5000), [0, 5.99, 6, 40]])
    exact = np.array([math.erf(v) for v in x])
    np.testing.assert_allclose(F.erf(x), exact, rtol=3e-16, atol=0)
    single = x[abs(x) > 1e-30].astype(np.float32)
    np.testing.assert_allclose(F.erf(single), [math.erf(v) for v in single], rtol=2e-7, atol=0)
    assert np.array_equal(F.erf(np.array([-np.inf, np.inf])), [-1, 1])
    assert math.copysign(1, F.erf(-0.0)) == -1 and F.erf(1) == math.erf(1)
    with pytest.raises(TypeError, match="complex"):
        F.erf(1j)


def test_bad_options_of_activations():
    with pytest.raises(ValueError, match=r"\[gelu\] no approximation 'fast'.*\"none\" or \"tanh\""):
        F.gelu(X, "fast")
    with pytest.raises(ValueError, match="beta=0"):
        F.softplus(X, 0)


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


def test_embedding_adds_up_gradients_of_rows():
    W = sadl.tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    y = F.embedding([[0, 2], [2, 2]], W)
    assert np.array_equal(y, W._plain()[[[0, 2], [2, 2]]])
    y.sum().backward()
    assert np.array_equal(W.grad, [[1, 1], [0, 0], [3, 3]])
    assert F.embedding(1, W).shape == (2,) and F.embedding(np.zeros((0, 3), int), W).shape == (0, 3, 2)


@pytest.mark.parametrize("bad", [-1, 3])
def test_embedding_out_of_range(bad):
    with pytest.raises(IndexError, match=rf"\[embedding\] an id is outside 0 \.\. 2, for .* \(3, 2\): found {bad}"):
        F.embedding([0, bad], np.zeros((3, 2)))
    step = sadl.compile(lambda ids, W: F.embedding(ids, W) * 2)
    for ids in ([0, 1], [1, 1], [2, 0]):
        step(np.array(ids), np.zeros((3, 2)))
    with pytest.raises(
        IndexError, match=rf"^\[embedding\] an id is outside .*: found {bad}\. Made at .*py:\d+\. Instead"
    ):
        step(np.array([0, bad]), np.zeros((3, 2)))


def test_embedding_of_other_things():
    with pytest.raises(TypeError, match=r"\[embedding\] ids must be integers, found float64"):
        F.embedding([0.5], np.zeros((3, 2)))
    with pytest.raises(ShapeError, match=r"W of shape \(3,\) is no table"):
        F.embedding([0], np.zeros(3))


# ---- normalisation, attention, dropout -------------------------------------------------------------------------


def test_norms_do_not_feel_an_offset_or_a_scale():
    for f in (F.layer_norm, lambda x: F.group_norm(x, 2), lambda x: F.batch_norm(x, training=True)):
        assert np.allclose(f(X * 1e4 + 1e6), f(X), atol=1e-4)


def test_norms_of_integers():
    x = np.arange(24).reshape(4, 6).astype(np.uint8)
    for f in (F.layer_norm, F.rms_norm, lambda x: F.group_norm(x, 3), lambda x: F.batch_norm(x, training=True)):
        assert f(x).dtype == np.float64 and np.array_equal(f(x), f(x.astype(float)))


def test_a_constant_row_normalises_to_zero():
    assert not np.any(F.layer_norm(np.full((2, 3), 7.0))) and not np.any(F.rms_norm(np.zeros((2, 3))))


@pytest.mark.parametrize("make", [np.array, sadl.tensor, sadl.Buffer])
def test_batch_norm_follows_with_the_unbiased_variance(make):
    mean, var = make(np.zeros(4)), make(np.ones(4))
    for x in (X, sadl.tensor(Y, requires_grad=True)):
        before = np.array(mean), np.array(var)
        y = F.batch_norm(x, mean, var, training=True, momentum=0.3)
        raw = np.asarray(x.detach() if isinstance(x, sadl.Tensor) else x)
        for now, old, batch in zip((mean, var), before, (raw.mean((0, 2)), raw.var((0, 2), ddof=1)), strict=True):
            assert np.allclose(now, 0.7 * old + 0.3 * batch)
        y.sum()
    y.sum().backward()
    kept = np.array(mean)
    assert np.allclose(F.batch_norm(X, mean, var), (X - kept[:, None]) / np.sqrt(np.array(var)[:, None] + 1e-5))
    assert np.array_equal(kept, mean)


@pytest.mark.parametrize(
    ("problem", "call"),
    [
        (r"\[layer_norm\] weight of shape \(4,\) does not fit", lambda: F.layer_norm(X, np.ones(4))),
        (r"\[layer_norm\] weight of shape \(1,\) does not fit", lambda: F.layer_norm(X, np.ones(1))),
        (r"\[layer_norm\] bias of shape .* axis=-1.*axes: \(\d+,\)", lambda: F.layer_norm(X, None, np.ones(X.shape))),
        (r"\[layer_norm\] axis=0 of .* is not the last", lambda: F.layer_norm(X, np.ones(X.shape[-1]), axis=0)),
        (r"\[layer_norm\] axis=0 of .* is not the last", lambda: F.layer_norm(X, np.ones(X.shape[0]), axis=0)),
        (r"\[rms_norm\] axis=\(0,\) of .* is not the last", lambda: F.rms_norm(X, np.ones(X.shape[0]), axis=(0,))),
        (r"\[rms_norm\] weight of shape \(2, 5\)", lambda: F.rms_norm(X, np.ones((2, 5)))),
        (r"\[group_norm\] 4 channels cannot be divided into 3", lambda: F.group_norm(X, 3)),
        (r"\[group_norm\] bias of shape \(3,\) .* shape \(4,\)", lambda: F.group_norm(X, 2, None, np.ones(3))),
        (r"\[batch_norm\] an input of shape \(3,\) has no channels", lambda: F.batch_norm(np.ones(3), training=True)),
        (r"\[batch_norm\] outside training", lambda: F.batch_norm(X)),
        (r"\[batch_norm\] .*\(1, 4\) has 1 element per channel", lambda: F.batch_norm(X[:1, :, 0], training=True)),
        (r"\[batch_norm\] running_var of shape \(5,\)", lambda: F.batch_norm(X, np.ones(4), np.ones(5))),
        (r"\[attention\] q .* do not fit", lambda: F.scaled_dot_product_attention(X, Y[..., :2], Y)),
        (r"\[attention\] .*nothing to attend to", lambda: F.scaled_dot_product_attention(X, X[:, :0], X[:, :0])),
        (r"a mask of shape \(2, 4\) does not", lambda: F.scaled_dot_product_attention(X, X, X, np.ones((2, 4), bool))),
        (
            r"dropout=2 is out of range.*a number from 0 to 1",
            lambda: F.scaled_dot_product_attention(X, X, X, dropout=2),
        ),
        (r"\[dropout\] p=-0.1 is out of range", lambda: F.dropout(X, -0.1)),
    ],
)
def test_what_does_not_fit_raises(problem, call):
    with pytest.raises(ValueError, match=problem):
        call()


def test_a_mask_of_integers_could_mean_two_things():
    with pytest.raises(TypeError, match=r"mask of int64.*astype\(bool\)"):
        F.scaled_dot_product_attention(X, X, X, np.ones((4, 4), int))


@pytest.mark.parametrize("hide", [lambda m: m, lambda m: np.where(m, 0.0, -np.inf)], ids=["bools", "floats"])
def test_a_query_that_sees_nothing_gets_zeros(hide):
    mask = MASK & False
    mask[2] = True
    f = lambda x: F.scaled_dot_product_attention(x, x, x, hide(mask))
    y, g = f(X), grad_of(f, X)
    assert not np.any(y[:, [0, 1, 3]])
    assert np.allclose(y[:, 2:3], F.softmax(X[:, 2:3] @ X.mT / 5**0.5) @ X)
    assert np.all(np.isfinite(g))
    assert not np.any(F.scaled_dot_product_attention(X, X, X, hide(mask & False)))


def test_causal_attention_does_not_look_ahead():
    y = F.scaled_dot_product_attention(X, X, X, is_causal=True)
    later = X.copy()
    later[:, 2:] = 100
    assert np.allclose(F.scaled_dot_product_attention(later, later, later, is_causal=True)[:, :2], y[:, :2])
    both = F.scaled_dot_product_attention(X, X, X, MASK, is_causal=True)
    assert np.allclose(both, F.scaled_dot_product_attention(X, X, X, MASK & np.tri(4, dtype=bool)))


def test_large_products_do_not_overflow():
    q = 1e4 * X.astype(np.float32)
    assert np.all(np.isfinite(F.scaled_dot_product_attention(q, q, q)))


def test_sinusoidal_positions():
    table = F.sinusoidal_positions(6, 5, np.float64)
    assert table.shape == (6, 5) and np.array_equal(table[0], [0, 1, 0, 1, 0])
    assert np.allclose(
        table[3], [np.sin(3), np.cos(3), np.sin(3 / 1e4**0.4), np.cos(3 / 1e4**0.4), np.sin(3 / 1e4**0.8)]
    )
    assert F.sinusoidal_positions(2, 4).dtype == np.float32


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_expected_value(p):
    x = np.ones((200, 300), np.float32)
    y = F.dropout(x, p, rng=1)
    assert y.dtype == np.float32 and set(np.unique(np.asarray(y))) == {0, np.float32(1 / (1 - p))}
    assert abs(np.mean(y == 0) - p) < 5 * np.sqrt(p * (1 - p) / x.size)


def test_dropout_repeats_with_the_seed_and_differs_per_step():
    run = sadl.compile(lambda x: F.dropout(x, 0.5))
    x = np.ones((8, 8))
    sadl.random.seed(1)
    eager = [np.array(F.dropout(x, 0.5)) for _ in range(5)]
    sadl.random.seed(1)
    compiled = [np.array(run(x)) for _ in range(5)]
    assert np.array_equal(eager, compiled) and not np.array_equal(eager[0], eager[1])


def test_dropout_at_its_limits():
    assert F.dropout(X, 0) is X and F.dropout(X, 0.5, training=False) is X
    assert not np.any(F.dropout(X, 1)) and not np.any(grad_of(lambda x: F.dropout(x, 1), X))
    assert np.array_equal(np.unique(np.asarray(F.dropout(np.full(50, np.inf), 0.5, rng=0))), [0, np.inf])
    assert F.dropout(np.ones(3, int), 0.5).dtype == np.float64


# ---- losses ----------------------------------------------------------------------------------------------------

ON_NUMBERS = [F.mse_loss, F.l1_loss, F.huber_loss, F.binary_cross_entropy_with_logits, F.kl_div]


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


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss, *ON_NUMBERS])
def test_an_unknown_reduction_raises(loss):
    targets = Y if loss in ON_NUMBERS else CLASSES
    with pytest.raises(ValueError, match=rf'\[{loss.__name__}\] no reduction \'avg\'.*"mean", "sum"'):
        loss(X, targets, reduction="avg")


@pytest.mark.parametrize("loss", ON_NUMBERS)
def test_targets_of_another_shape_raise(loss):
    with pytest.raises(
        ShapeError, match=rf"\[{loss.__name__}\] input of shape \(3, 1\) and targets of shape \(3,\) differ"
    ):
        loss(np.zeros((3, 1)), np.zeros(3))


@pytest.mark.parametrize("loss", ON_NUMBERS)
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
def test_whole_targets_do_not_widen_float32(loss, dtype):
    x, targets = X.astype(np.float32), (Y > 0).astype(dtype)
    assert loss(x, targets).dtype == np.float32
    assert np.allclose(loss(x, targets), loss(x, targets.astype(np.float32)))


def test_unsigned_inputs_do_not_wrap_around():
    a, b = np.array([3], np.uint8), np.array([5], np.uint8)
    assert F.mse_loss(a, b) == 4 and F.l1_loss(a, b) == 2


def test_ignored_targets_take_no_part():
    kept = CLASSES != 2
    weights = WEIGHT[CLASSES][kept]
    each = F.cross_entropy(X, CLASSES, "none", weight=WEIGHT)
    ignoring = {"ignore_index": 2, "weight": WEIGHT}
    assert np.allclose(F.cross_entropy(X, CLASSES, **ignoring), each[kept].sum() / weights.sum())
    assert np.allclose(F.cross_entropy(X, CLASSES, "sum", **ignoring), each[kept].sum())
    assert np.allclose(F.cross_entropy(X, CLASSES, "none", **ignoring), np.where(kept, each, 0))
    assert not np.any(grad_of(lambda x: F.cross_entropy(x, CLASSES, **ignoring), X)[~kept])


def test_the_mean_of_no_targets_is_nan():
    with np.errstate(invalid="ignore"):
        assert np.isnan(F.cross_entropy(X, np.full((3, 4), -100), ignore_index=-100))
    assert F.cross_entropy(X, np.full((3, 4), -100), "sum", ignore_index=-100) == 0


def test_an_index_out_of_range_names_its_value():
    with pytest.raises(IndexError, match=r"for rows of float64 \(3, 4, 5\): found -100\. Instead: ignore_index="):
        F.cross_entropy(X, np.full((3, 4), -100))
    step = sadl.compile(lambda x, y: F.cross_entropy(x, y))
    for _ in range(3):
        step(X, CLASSES)
    for wrong in (-100, -1, 5):
        with pytest.raises(
            IndexError, match=rf"^\[cross_entropy\] .*found {wrong}\. Made at .*py:\d+\. Instead: ignore"
        ):
            step(X, np.full((3, 4), wrong))


@pytest.mark.parametrize(
    ("problem", "options"),
    [
        ("label_smoothing=1.5 is out of range", {"label_smoothing": 1.5}),
        (r"weight of shape \(4,\) does not fit an input of shape \(3, 4, 5\)", {"weight": np.ones(4)}),
        ("ignore_index=0 was given, but targets are probabilities", {"ignore_index": 0, "targets": PROBABILITIES}),
    ],
)
def test_bad_options_of_cross_entropy(problem, options):
    with pytest.raises(ValueError, match=problem):
        F.cross_entropy(X, options.pop("targets", CLASSES), **options)


def test_weights_of_another_dtype_do_not_widen_float32():
    x = X.astype(np.float32)
    for weight in (WEIGHT, WEIGHT.tolist(), np.arange(1, 6)):
        assert F.cross_entropy(x, CLASSES, weight=weight).dtype == np.float32


def test_bad_options_of_other_losses():
    with pytest.raises(ValueError, match="delta=0"):
        F.huber_loss(X, Y, delta=0)
    with pytest.raises(ShapeError, match=r"pos_weight of shape \(4,\) does not broadcast to \(3, 4, 5\)"):
        F.binary_cross_entropy_with_logits(X, Y, pos_weight=np.ones(4))


def test_binary_cross_entropy_keeps_small_values():
    x = np.array([-50.0, 50.0])
    loss = F.binary_cross_entropy_with_logits(x, np.array([0.0, 1.0]), "none")
    assert np.allclose(loss, np.exp(-50.0), rtol=1e-12, atol=0)


def test_mse_loss():
    assert np.allclose(F.mse_loss(X, Y), ((X - Y) ** 2).mean())
    assert F.mse_loss(X, Y, "none").shape == X.shape
    sadl.check_grads(F.mse_loss, (X, Y))
