"""Numerics: values and gradients at the extremes against 60 decimal digits; dtypes of odd inputs; no needless warnings.

Takes every number that is special to a dtype, and rows that are hard to normalise; eagerly, where a warning is an
error, and compiled. What functions give in ordinary places is compared with torch in test_nn.
"""

import decimal
import math
import warnings
from decimal import Decimal as D

import numpy as np
import pytest

import sadl
import sadl.functional as F
from sadl import nn

each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
each_way = pytest.mark.parametrize("way", ["eager", "compiled"])


@pytest.fixture(autouse=True)
def sixty_digits():
    with decimal.localcontext(prec=60) as context:
        for trap in (decimal.Overflow, decimal.InvalidOperation, decimal.DivisionByZero):
            context.traps[trap] = False
        yield


def both(f, x, g):
    y, pull = sadl.vjp(f, x)
    return y, pull(np.broadcast_to(g, y.shape).astype(x.dtype))[0]


def results(functions, x, g, way):
    """{name: (value, gradient)} of all functions; compiled as one program."""
    run = lambda x: {name: both(f, x, g) for name, f in functions.items()}
    if way == "compiled":
        run = sadl.compile(run)
        with np.errstate(all="ignore"):
            run(x), run(x)
    return {name: tuple(np.asarray(v) for v in pair) for name, pair in run(x).items()}


# ---- functions of one number ---------------------------------------------------------------------------------------

PI = D("3.14159265358979323846264338327950288419716939937510582097494")
ROOT, CUBE = (2 / PI).sqrt(), D("0.044715")  # of the tanh form of gelu


def sigmoid(x):
    e = (-abs(x)).exp()
    return (1 if x > 0 else e) / (1 + e)


def tanh(x):
    e = (-2 * abs(x)).exp()
    return ((1 - e) / (1 + e)).copy_sign(x) if abs(x) > D("1e-15") else x


def log1p(e):
    return (1 + e).ln() if e > D("1e-25") else e


def softplus(x):
    return max(x, D(0)) + log1p((-abs(x)).exp())


def slope_of_tanh(x):
    e = (-2 * abs(x)).exp()
    return 4 * e / (1 + e) ** 2


def normal(x):
    return D(math.erfc(-float(x) * math.sqrt(0.5))) / 2


def density(x):
    return (-x * x / 2).exp() / (2 * PI).sqrt()


def bent(x):
    return ROOT * (x + CUBE * x**3)


def slope_of_bent(x):
    return (1 + tanh(bent(x))) / 2 + x * slope_of_tanh(bent(x)) * ROOT * (1 + 3 * CUBE * x * x) / 2


def slope_of_sigmoid(x):
    return sigmoid(x) * sigmoid(-x)


yes = lambda x: F.binary_cross_entropy_with_logits(x, np.ones(x.shape, bool), "none")
no = lambda x: F.binary_cross_entropy_with_logits(x, np.zeros(x.shape, int), "none")
# The function, its value, its slope, and how many units of 1 these may be off by where it is made of parts that cancel:
# expm1 + 1, 1 - tanh**2, 1 + erf.
ONE = {
    "relu": (F.relu, lambda x: max(x, D(0)), lambda x: D(int(x > 0)), 0, 0),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.25), lambda x: max(x, x / 4), lambda x: D(1 if x > 0 else "0.25"), 0, 0),
    "elu": (F.elu, lambda x: x if x > D("-1e-20") else x.exp() - 1, lambda x: min(x, D(0)).exp(), 0, 1),
    "sigmoid": (F.sigmoid, sigmoid, slope_of_sigmoid, 0, 0),
    "silu": (F.silu, lambda x: x * sigmoid(x), lambda x: sigmoid(x) + x * slope_of_sigmoid(x), 0, 0),
    "tanh": (F.tanh, tanh, slope_of_tanh, 0, 1),
    "softplus": (F.softplus, softplus, sigmoid, 0, 0),
    "erf": (F.erf, lambda x: D(math.erf(x)), lambda x: 2 / PI.sqrt() * (-x * x).exp(), 0, 0),
    "gelu": (F.gelu, lambda x: x * normal(x), lambda x: normal(x) + x * density(x), 1, 1),
    "gelu tanh": (lambda x: F.gelu(x, "tanh"), lambda x: x * (1 + tanh(bent(x))) / 2, slope_of_bent, 1, 1),
    "entropy of yes": (yes, lambda x: softplus(-x), lambda x: -sigmoid(-x), 0, 0),
    "entropy of no": (no, softplus, sigmoid, 0, 0),
}
PLACES = [1e-30, 1e-10, 1e-4, 1e-3, 0.1, 0.5, 1, 1.5, 2, 3, 5, 8, 10, 17, 20, 30, 50, 80, 87, 88, 89, 100, 103, 104]
PLACES += [110, 300, 700, 709, 710, 740, 745, 750, 1e4, 1e10, 1e18, 1e20, 1e30]


def places(dtype):
    info = np.finfo(dtype)
    found = [info.smallest_subnormal, info.tiny / 3, info.tiny, *(v for v in PLACES if v < info.max), info.max]
    return np.array([-v for v in reversed(found)] + [-0.0, 0.0, *found], dtype)


def assert_close(name, x, found, exact, ulps, slack):
    """Each number right to so many units of the last place, of itself or, with `slack`, of 1 or x."""
    eps, least = (float(getattr(np.finfo(x.dtype), n)) for n in ("eps", "smallest_subnormal"))
    for at, y in zip(x.ravel(), found.ravel(), strict=True):
        want = exact(D(float(at)))
        size = max(1.0, abs(float(at)))
        allowed = ulps * (abs(want) * D(eps) + D(least) * D(size)) + slack * D(eps) * D(size)
        assert math.isfinite(y) and abs(D(float(y)) - want) <= allowed, (name, at, y, float(want))


@each_dtype
@each_way
def test_functions_of_one_number(way, dtype):
    x = places(dtype)
    found = results({name: row[0] for name, row in ONE.items()}, x, 1, way)
    for name, (_, value, slope, *slack) in ONE.items():
        for y, exact, k in zip(found[name], (value, slope), slack, strict=True):
            assert y.dtype == dtype
            assert_close(name, x, y, exact, 4, k)


@each_way
def test_limits(way):
    """Infinity gives the limit, NaN stays; gelu and silu of -inf are -inf times 0, which is NaN as in torch."""
    x = np.array([-np.inf, np.inf, np.nan], np.float32)
    functions = {name: row[0] for name, row in ONE.items() if not name.startswith(("gelu", "silu", "entropy"))}
    with np.errstate(invalid="ignore"):
        found = results(functions, x, 1, way)
        odd = results({"gelu": F.gelu, "silu": F.silu}, x, 1, way)
    low = {"elu": -1, "tanh": -1, "erf": -1, "leaky_relu": -np.inf}
    high = {"sigmoid": 1, "tanh": 1, "erf": 1}
    for name, (y, g) in found.items():
        assert np.array_equal(y, [low.get(name, 0), high.get(name, np.inf), np.nan], equal_nan=True), name
        if name != "elu":  # 1 + expm1(-inf) * ...
            assert not np.isnan(g[:2]).any(), name
    for y, _ in odd.values():
        assert np.array_equal(y, [np.nan, np.inf, np.nan], equal_nan=True)


# ---- rows ----------------------------------------------------------------------------------------------------------

G = [D(1), D("-0.5"), D(2), D("0.25")]  # the cotangent
SCORES = [
    [1e4, -1e4, 0, 3],
    [88, 89, 90, 90.5],
    [1e30, -1e30, 1e30, 0],
    [0, -np.inf, 1, -np.inf],
    [1e-40, 0, -1e-40, 1e-45],
    [5, 5, 5, 5],
    [0.1, 0.2, 0.3, -700],
    [-1e4, -1e4, -2e4, -1.0001e4],
    [1e-3, -1e-3, 17, -17],
    [-30.5, 12.25, 3, -0.125],
]
VALUES = [
    [1e4, 1e4 + 1, 1e4 - 1, 1e4],
    [1e-20, 2e-20, -1e-20, 0],
    [0, 0, 0, 0],
    [5, 5, 5, 5],
    [1e8, 1e8, 1e8, 1e8],
    [1e15, -1e15, 1e14, 0],
    [3, 4, 5, 6],
    [1e-40, 0, -1e-40, 1e-45],
    [-30.5, 12.25, 3, -0.125],
]
EPS = 1e-5


def exp(x):
    return D(0) if x == -D("Infinity") else x.exp()


def softmax(row):
    e = [exp(v - max(row)) for v in row]
    return [v / sum(e) for v in e]


def logsumexp(row):
    return max(row) + sum(exp(v - max(row)) for v in row).ln()


def log_softmax(row):
    return [v - logsumexp(row) for v in row]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def normed(row, centred):
    mean = sum(row) / len(row) if centred else D(0)
    centre = [v - mean for v in row]
    scale = (dot(centre, centre) / len(row) + D(EPS)).sqrt()
    return [v / scale for v in centre], scale


def slope_of_normed(row, centred):
    y, scale = normed(row, centred)
    mean, along = sum(G) / len(G) if centred else D(0), dot(G, y) / len(G)
    return [(g - mean - v * along) / scale for g, v in zip(G, y, strict=True)]


def hit(row, at):
    return [p - (i == at) for i, p in enumerate(softmax(row))]


# The function, the value of a row, its gradient. Losses have a cotangent of 1.
ON_SCORES = {
    "softmax": (
        F.softmax,
        softmax,
        lambda r: [p * (g - dot(softmax(r), G)) for p, g in zip(softmax(r), G, strict=True)],
    ),
    "log_softmax": (F.log_softmax, log_softmax, lambda r: [g - sum(G) * p for p, g in zip(softmax(r), G, strict=True)]),
}
LOSSES = {
    "logsumexp": (F.logsumexp, lambda r: [logsumexp(r)], softmax),
    "cross_entropy": (
        lambda x: F.cross_entropy(x, [2] * len(x), "none"),
        lambda r: [-log_softmax(r)[2]],
        lambda r: hit(r, 2),
    ),
    "nll_loss": (
        lambda x: F.nll_loss(F.log_softmax(x), [0] * len(x), "none"),
        lambda r: [-log_softmax(r)[0]],
        lambda r: hit(r, 0),
    ),
    "probabilities": (
        lambda x: F.cross_entropy(x, np.broadcast_to(np.array([0.5, 0, 0.5, 0], x.dtype), x.shape), "none"),
        lambda r: [-(log_softmax(r)[0] + log_softmax(r)[2]) / 2],
        lambda r: [(a + b) / 2 for a, b in zip(hit(r, 0), hit(r, 2), strict=True)],
    ),
}
ON_VALUES = {
    "layer_norm": (
        lambda x: F.layer_norm(x, eps=EPS),
        lambda r: normed(r, True)[0],
        lambda r: slope_of_normed(r, True),
    ),
    "rms_norm": (lambda x: F.rms_norm(x, eps=EPS), lambda r: normed(r, False)[0], lambda r: slope_of_normed(r, False)),
}


@each_dtype
@each_way
@pytest.mark.parametrize(
    ("table", "rows", "g"),
    [(ON_SCORES, SCORES, [float(g) for g in G]), (LOSSES, SCORES, 1), (ON_VALUES, VALUES, [float(g) for g in G])],
    ids=["scores", "losses", "norms"],
)
def test_rows(table, rows, g, way, dtype):
    """To 8 units of the largest result of a row, or of the largest of its inputs where their digits cancel."""
    x, eps, least = np.array(rows, dtype), np.finfo(dtype).eps, D(float(np.finfo(dtype).tiny))
    found = results({name: row[0] for name, row in table.items()}, x, g, way)
    for name, (_, *exact) in table.items():
        for values, f in zip(found[name], exact, strict=True):
            for row, got in zip(x, values.reshape(len(x), -1), strict=True):
                want = f([D(float(v)) for v in row])
                size = max([D(1), *(abs(w) for w in want if w.is_finite())])
                close = [
                    a == float(w) or abs(D(float(a)) - w) <= 8 * D(float(eps)) * size + least
                    for a, w in zip(got, want, strict=True)
                ]
                assert all(close), (name, row, got, [float(w) for w in want])


@each_dtype
@each_way
def test_a_small_loss_beside_large_scores(way, dtype):
    """log(2) is not lost beside 1e30."""
    x = np.array([[1e30, 1e30, -1e30], [1e4, 1e4, 0]], dtype)
    (loss, _), (rows, _) = results({"loss": LOSSES["nll_loss"][0], "rows": F.log_softmax}, x, 1, way).values()
    np.testing.assert_allclose(loss, np.log([2, 2]), rtol=2 * np.finfo(dtype).eps)
    np.testing.assert_allclose(rows[:, 0], -np.log([2, 2]), rtol=2 * np.finfo(dtype).eps)


@each_way
def test_an_impossible_class_that_is_not_the_target_costs_nothing(way):
    x, targets = np.array([[0.0, -np.inf, 1.0]]), np.array([[0.25, 0, 0.75]])
    table = {
        "probabilities": lambda x: F.cross_entropy(x, targets),
        "divergence": lambda x: F.kl_div(F.log_softmax(x), targets, "sum"),
    }
    for y, g in results(table, x, 1, way).values():
        assert np.isfinite(y) and np.allclose(g, F.softmax(x) - targets)


@each_way
def test_rows_without_anything(way):
    """-inf only: no distribution (NaN, as in torch), but a sum, and attention that finds zeros."""
    x = np.array([[-np.inf, -np.inf], [0.0, 0.0]])
    with np.errstate(invalid="ignore"):
        found = results({"softmax": F.softmax, "log_softmax": F.log_softmax}, x, 1, way)
    for y, _ in found.values():
        assert np.isnan(y[0]).all() and np.isfinite(y[1]).all()
    (y, g) = results({"logsumexp": F.logsumexp}, x, 1, way)["logsumexp"]
    assert np.array_equal(y, [-np.inf, np.log(2)]) and np.array_equal(g, [[0, 0], [0.5, 0.5]])
    q, hidden = np.arange(6.0).reshape(2, 3), np.array([[False, False], [True, True]])
    attend = lambda x: F.scaled_dot_product_attention(x, x, x, hidden)
    (y, g) = results({"attention": attend}, q, 1, way)["attention"]
    assert not y[0].any() and np.isfinite(g).all() and y[1].any()


@each_way
def test_an_infinite_score_gives_an_infinite_sum(way):
    x = np.array([[np.inf, 1e4, -np.inf]], np.float32)
    run = sadl.compile(F.logsumexp) if way == "compiled" else F.logsumexp
    assert [float(run(x)[0]) for _ in range(3)] == [np.inf] * 3


@each_way
def test_norms_of_float32_beyond_1e19_are_zero(way):
    """Their squares overflow, which NumPy warns of, and torch has it so as well; float64 has them."""
    x = np.array([[1e30, -1e30, 2e30, 0]], np.float32)
    with np.errstate(over="ignore"):
        found = results({name: row[0] for name, row in ON_VALUES.items()}, x, 1, way)
    assert all(not y.any() and np.isfinite(g).all() for y, g in found.values())
    with pytest.warns(RuntimeWarning, match="overflow"):
        F.layer_norm(x)


@each_dtype
@each_way
@pytest.mark.parametrize("n", [7, 1000])
def test_constant_rows(n, way, dtype):
    """What rounding leaves of x - mean(x) is small beside sqrt(eps) as long as x is not large beside it."""
    x = np.repeat(np.array([[0], [0.1], [-3.3], [70]], dtype), n, 1)
    y, g = results({"layer_norm": F.layer_norm}, x, 1, way)["layer_norm"]
    assert np.all(np.abs(y) <= 32 * np.finfo(dtype).eps * np.abs(x) / math.sqrt(EPS)) and np.isfinite(g).all()


# ---- dtypes --------------------------------------------------------------------------------------------------------

DRAW = np.random.default_rng(0)
SMALL = DRAW.integers(0, 2, (2, 4, 4, 4))
WHOLE = {  # of integers and bools: like NumPy's own functions of them, or in float64
    "float64": {
        **{n: getattr(F, n) for n in ("elu", "erf", "gelu", "leaky_relu", "sigmoid", "silu", "softplus", "tanh")},
        **{n: getattr(F, n) for n in ("softmax", "log_softmax", "logsumexp", "layer_norm", "rms_norm")},
        "group_norm": lambda x: F.group_norm(x, 2),
        "batch_norm": lambda x: F.batch_norm(x, training=True),
        "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
        "cross_entropy": lambda x: F.cross_entropy(x[0, 0], np.array([0, 1, 2, 3])),
        "nll_loss": lambda x: F.nll_loss(x[0, 0], np.array([0, 1, 2, 3])),
        "mse_loss": lambda x: F.mse_loss(x, x[::-1]),
        "l1_loss": lambda x: F.l1_loss(x, x[::-1]),
        "huber_loss": lambda x: F.huber_loss(x, x[::-1]),
        "binary_cross_entropy": lambda x: F.binary_cross_entropy_with_logits(x, x > 0),
        "kl_div": lambda x: F.kl_div(x, x[::-1]),
        "avg_pool2d": lambda x: F.avg_pool2d(x, 2),
        "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, 3),
        "rnn_cell": lambda x: F.rnn_cell(*[x[0, 0]] * 4),
    },
    "same": {
        "linear": lambda x: F.linear(x, x[0, 0]),
        "embedding": lambda x: F.embedding([0, 3], x[0, 0]),
        "conv2d": lambda x: F.conv2d(x, x[:, :, :2, :2]),
        "max_pool2d": lambda x: F.max_pool2d(x, 2),
        "unfold": lambda x: F.unfold(x, 2),
    },
}
INTEGERS = [np.int64, np.int8, np.uint8, bool]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", WHOLE["float64"])
def test_whole_numbers_are_computed_in_float64(name, dtype):
    f, x = WHOLE["float64"][name], (100 * SMALL).astype(dtype)
    y = f(x)
    assert y.dtype == np.float64 and np.array_equal(y, f(x.astype(float)), equal_nan=True)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", WHOLE["same"])
def test_what_only_multiplies_or_moves_keeps_whole_numbers(name, dtype):
    y = WHOLE["same"][name](SMALL.astype(dtype))
    assert y.dtype == dtype and np.array_equal(y, WHOLE["same"][name](SMALL.astype(float)).astype(dtype))


def test_relu_of_whole_numbers_is_numpys_maximum():
    for dtype in INTEGERS:
        x = (SMALL * 3 - 1 if dtype != np.uint8 else SMALL).astype(dtype)
        assert F.relu(x).dtype == np.maximum(x, 0).dtype and np.array_equal(F.relu(x), np.maximum(x, 0))


def test_compiled_functions_of_whole_numbers():
    names = ("erf", "leaky_relu", "softmax", "kl_div", "avg_pool2d", "adaptive_avg_pool2d", "linear", "max_pool2d")
    functions = {name: f for table in WHOLE.values() for name, f in table.items() if name in names}
    for dtype in (np.uint8, bool):
        x = SMALL.astype(dtype)
        run = sadl.compile(lambda x: {name: f(x) for name, f in functions.items()})
        run(x), run(x)
        for name, y in run(x).items():
            expected = functions[name](x)
            assert y.dtype == expected.dtype, name
            np.testing.assert_allclose(y, expected, rtol=1e-12, err_msg=name)


LAYERS = [
    (nn.Linear(4, 3), (2, 4)),
    (nn.Embedding(2, 3), (2, 4)),
    (nn.SinusoidalPositions(4, 5), (2, 4)),
    (nn.LayerNorm(4), (2, 4)),
    (nn.LayerNorm(4, affine=False), (2, 4)),
    (nn.RMSNorm(4, np.float64(1e-5)), (2, 4)),
    (nn.GroupNorm(2, 4, eps=np.float64(1e-5)), (2, 4)),
    (nn.BatchNorm(4, np.float64(1e-5), np.float64(0.1)), (6, 4)),
    (nn.Conv1d(4, 3, 2), (2, 4, 5)),
    (nn.Conv2d(4, 3, 2), (2, 4, 5, 5)),
    (nn.ConvTranspose1d(4, 3, 2), (2, 4, 5)),
    (nn.ConvTranspose2d(4, 3, 2), (2, 4, 5, 5)),
    (nn.MultiHeadAttention(4, 2, np.float64(0.1)), (2, 3, 4)),
    (nn.TransformerBlock(4, 2, dropout=np.float64(0.1)), (2, 3, 4)),
    (nn.TransformerBlock(4, 2, norm_first=False), (2, 3, 4)),
    (nn.RNN(4, 3), (2, 5, 4)),
    (nn.LSTM(4, 3), (2, 5, 4)),
    (nn.GRU(4, 3, bidirectional=True), (2, 5, 4)),
    (nn.RNNCell(4, 3), (2, 4)),
    (nn.LSTMCell(4, 3), (2, 4)),
    (nn.GRUCell(4, 3), (2, 4)),
    (nn.Sequential(nn.LeakyReLU(np.float64(0.1)), nn.ELU(np.float64(2)), nn.Softplus(np.float64(2))), None),
    (nn.Sequential(nn.Dropout(np.float64(0.5)), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Softmax()), None),
]


GIVEN = [
    pytest.param(layer, shape, dtype, id=f"{type(layer).__name__} {np.dtype(dtype)}")
    for layer, shape in LAYERS
    for dtype in (np.int64, np.uint8, bool, np.float32)
    if not (shape is None and dtype != np.float32)
    and not (isinstance(layer, nn.Embedding) and dtype in (bool, np.float32))
]


@pytest.mark.parametrize(("layer", "shape", "dtype"), GIVEN)
def test_no_float64_comes_up_in_float32_layers(layer, shape, dtype):
    """Whatever whole numbers they are given, and whichever NumPy scalars they were made with."""
    x = DRAW.integers(0, 2, shape or (2, 4)).astype(dtype)
    text = str(sadl.make_ir(lambda x: sadl.tree.flatten(layer(x))[0])(x))
    assert "f32" in text and "f64" not in text, text


def test_no_float64_comes_up_through_settings():
    x, wide = DRAW.standard_normal((2, 4, 4)).astype(np.float32), np.float64
    calls = {
        "leaky_relu": lambda x: F.leaky_relu(x, wide(0.1)),
        "elu": lambda x: F.elu(x, wide(0.1)),
        "softplus": lambda x: F.softplus(x, wide(2)),
        "layer_norm": lambda x: F.layer_norm(x, eps=wide(1e-5)),
        "rms_norm": lambda x: F.rms_norm(x, eps=wide(1e-5)),
        "group_norm": lambda x: F.group_norm(x, 2, eps=wide(1e-5)),
        "batch_norm": lambda x: F.batch_norm(x, *np.ones((2, 4), np.float32), None, None, True, wide(0.1), wide(1e-5)),
        "dropout": lambda x: F.dropout(x, wide(0.5)),
        "attention": lambda x: F.scaled_dot_product_attention(x, x, x, scale=1 / np.sqrt(4.0), dropout=wide(0.1)),
        "huber_loss": lambda x: F.huber_loss(x, x * 2, delta=wide(1)),
        "cross_entropy": lambda x: F.cross_entropy(
            x, np.zeros((2, 4), int), label_smoothing=wide(0.1), weight=np.ones(4)
        ),
        "binary_cross_entropy": lambda x: F.binary_cross_entropy_with_logits(
            x, x > 0, weight=2, pos_weight=np.int64(3)
        ),
        "mse_loss": lambda x: F.mse_loss(x, np.arange(32).reshape(2, 4, 4)),
    }
    for name, f in calls.items():
        program = sadl.make_ir(sadl.value_and_grad(lambda x, f=f: np.sum(f(x))))(x)
        outs = [v.aval.dtype for e in program.eqns for v in e.outs]
        assert np.dtype(np.float32) in outs and np.dtype(np.float64) not in outs, f"{name}: {program}"


def test_an_initialiser_of_ones_own_does_not_widen_a_layer():
    layer = nn.Linear(3, 2, init=lambda shape, dtype, rng: np.random.default_rng(0).normal(size=shape))
    assert layer.W.dtype == np.float32


HALF = {name: row[0] for name, row in ONE.items() if "entropy" not in name}


def test_float16():
    """Stays float16, right to its last places where its range allows, and without a warning."""
    info = np.finfo(np.float16)
    found = [info.smallest_subnormal, info.tiny, 0.01, 0.5, 1, 2, 4, 8, 10, 17, 100, 255, 300, 1000, 3e4, info.max]
    x = np.array([-v for v in found] + [0.0, *found], np.float16)
    run = sadl.compile(lambda x: {name: f(x) for name, f in HALF.items()})
    run(x), run(x)
    compiled = run(x)
    for name, f in HALF.items():
        y, g = both(f, x, 1)
        wide, slope = both(f, x.astype(float), 1)
        slack = 2e-3 * np.maximum(1, np.abs(x)) * name.startswith("gelu")
        assert y.dtype == g.dtype == compiled[name].dtype == np.float16
        for v in (y, compiled[name]):
            assert np.all(np.abs(v - wide) <= 4e-3 * np.abs(wide) + slack + 1e-4), name
        assert np.all(np.abs(g - slope) <= 1e-2 + slack), name
    rows = np.array([[6e4, -6e4, 0], [1, 2, 3]], np.float16)
    for f in (F.softmax, F.log_softmax, F.logsumexp, lambda x: F.cross_entropy(x, [0, 1])):
        with np.errstate(over="ignore"):  # -6e4 - 6e4 is not there in float16
            y, wide = f(rows), np.asarray(f(rows.astype(float))).astype(np.float16)
        assert y.dtype == np.float16 and np.allclose(y, wide, rtol=2e-3, atol=1e-3)


def test_nothing_warns_where_the_result_is_right():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for dtype in (np.float16, np.float32, np.float64):
            for name, row in ONE.items():
                x = places(dtype) if dtype != np.float16 else np.array([-6e4, -300, -10, 0, 10, 300, 6e4], dtype)
                y, g = both(row[0], x, 1)
                assert np.isfinite(y).all() and np.isfinite(g).all(), name
