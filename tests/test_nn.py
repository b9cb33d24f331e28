"""Functions and layers against torch: values, gradients, ten training steps; eager, compiled, in float64 and float32.

Takes the cases of `nn_cases` and torch's values of `make_reference`. What functions do with odd input is in
test_functional, what holds of layers as Functions in test_function.
"""

import functools
import inspect

import make_reference
import nn_cases
import numpy as np
import pytest
from nn_cases import LR, STEPS

import sadl
import sadl.functional as F
from sadl import nn

CASES, LAYERS = nn_cases.cases(), nn_cases.layer_cases()
# One case of each function runs in machine code, and in single precision of each layer. The others run as plain Python;
# so do layers that are a function, and those whose machine code other tests run.
ELSEWHERE = {case.layer for case in LAYERS.values() if hasattr(F, case.layer.lower())} | {
    *("LeakyReLU", "LogSoftmax", "Flatten", "RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"),
    *("Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d", "AdaptiveAvgPool2d"),
    *(f"{kind}Pool{n}d" for kind in ("Max", "Avg") for n in (1, 2)),
    *("rnn_cell", "lstm_cell", "gru_cell"),
}
JITTED = {name for name in (*CASES, *LAYERS) if name.endswith(" 0") and name.removesuffix(" 0") not in ELSEWHERE}
TOLERANCE = {np.float64: 1e-9, np.float32: 1e-4}
each_dtype = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["f64", "f32"])

reference = functools.cache(make_reference.reference)


def values_of(family, name):
    found = reference(family)
    return {key.removeprefix(f"{name}/"): v for key, v in found.items() if key.startswith(f"{name}/")}


def cast(x, dtype):
    return x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


def assert_close(found, expected, dtype, what):
    found = np.asarray(found)
    assert found.dtype in (dtype, np.int64) and found.shape == expected.shape, what
    finite = np.abs(expected[np.isfinite(expected)])
    tolerance = TOLERANCE[dtype]
    atol = tolerance * np.max(finite, initial=1e-3)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=atol, err_msg=what)


# ---- functions -----------------------------------------------------------------------------------------------------


def assert_equals_torch(name, dtype, run):
    """`run(call, leaf, arrays)` gives the result and the gradients, as `grads_of` does."""
    case = CASES[name]
    settings = {k: cast(v, dtype) for k, v in case.settings.items()}
    arrays = {k: cast(v, dtype) for k, v in case.arrays.items()}
    found = run(lambda **tensors: function_of(case)(**tensors, **settings), arrays)
    expected = values_of("functions", name)
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert_close(value, expected[key], dtype, key)


def function_of(case):
    if case.function == "lstm_cell":
        return lambda x, h, c, **weights: np.concatenate(F.lstm_cell(x, (h, c), **weights), -1)
    return getattr(F, case.function)


def eager(call, arrays):
    weights = lambda w: w.astype(next(a.dtype for a in arrays.values() if a.dtype.kind == "f"))
    return nn_cases.grads_of(call, lambda v: sadl.tensor(v, requires_grad=True), arrays, weights)


def compiled(call, arrays):
    dtype = next(a.dtype for a in arrays.values() if a.dtype.kind == "f")
    floats = [k for k, v in arrays.items() if v.dtype.kind == "f"]

    @sadl.compile
    def both(given):
        others = {k: v for k, v in given.items() if k not in floats}
        y, pullback = sadl.vjp(
            lambda *xs: call(**dict(zip(floats, xs, strict=True)), **others), *(given[k] for k in floats)
        )
        return y, pullback(nn_cases.weights_of(y.shape).astype(dtype))

    for _ in range(3):
        y, grads = both(arrays)
    assert both.stats.programs == 1
    return {"y": y, **dict(zip(floats, grads, strict=True))}


@each_dtype
@pytest.mark.parametrize("name", CASES)
def test_functions_equal_torch(name, dtype):
    with np.errstate(over="ignore"):  # of float32, at the extremes
        assert_equals_torch(name, dtype, eager)


@each_dtype
@pytest.mark.parametrize("name", CASES)
def test_compiled_functions_equal_torch(name, dtype):
    with np.errstate(all="ignore"), sadl.config(jit=name in JITTED):  # of plain Python, at the extremes
        assert_equals_torch(name, dtype, compiled)


# ---- layers --------------------------------------------------------------------------------------------------------


def layer_of(case, dtype):
    make = getattr(nn, case.layer)
    dtypes = {"dtype": dtype} if "dtype" in inspect.signature(make).parameters else {}
    layer = make(*case.args, **dtypes, **case.settings)
    shapes = {path: p.shape for path, p in layer.get_parameters().items()}
    return layer.load_parameters(nn_cases.first_state(case, dict(sorted(shapes.items()))))


def weighted(y):
    return np.mean(y * y * (2 + nn_cases.weights_of(y.shape)).astype(y.dtype))


def train(case, layer, x, wrap):
    """What `torch_training` does, here."""
    call = {k: cast(v, x.dtype) for k, v in case.call.items()}
    x = sadl.Parameter(x) if x.dtype.kind == "f" else x
    learned = {"x": x} if isinstance(x, sadl.Parameter) else {}
    learned |= layer.get_parameters()

    def step():
        y = nn_cases.first_of(layer(x, **call))
        kept, loss = np.copy(y), weighted(y)  # the result of some layers shares memory with `x`
        loss.backward()
        grads = {path: p.grad * 1 for path, p in learned.items()}
        with sadl.no_grad():
            for p in learned.values():
                p -= LR * p.grad
                p.grad = None
        return loss, kept, grads

    found = {}
    run = wrap(step)
    for i in range(STEPS):
        loss, y, grads = run()
        found[f"loss/{i}"] = loss
        if i == 0:
            found |= {"y": np.array(y), **{f"grad/{path}": np.array(g) for path, g in grads.items()}}
    layer.inference()
    found["inference"] = nn_cases.first_of(layer(x, **call))
    return found | {f"last/{path}": v for path, v in (learned | layer.get_state()).items()}


@each_dtype
@pytest.mark.parametrize("name", LAYERS)
def test_layers_train_as_torchs(name, dtype):
    assert_trains_as_torchs(name, dtype, lambda f: f)


@each_dtype
@pytest.mark.parametrize("name", LAYERS)
def test_compiled_layers_train_as_torchs(name, dtype):
    with sadl.config(jit=name in JITTED and dtype is np.float32):
        assert_trains_as_torchs(name, dtype, sadl.compile)


def assert_trains_as_torchs(name, dtype, wrap):
    case, expected = LAYERS[name], values_of("layers", name)
    found = train(case, layer_of(case, dtype), cast(case.x, dtype), wrap)
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert_close(value, expected[key], dtype, key)


# ---- compiled training is eager training ---------------------------------------------------------------------------


class Classifier(sadl.Function):
    """Batch norm, dropout and a few activations."""

    def __init__(self, dtype):
        self.layers = nn.Sequential(
            nn.Linear(6, 8, dtype=dtype, rng=0),
            nn.BatchNorm1d(8, dtype=dtype),
            nn.ELU(),
            nn.Dropout(0.3),
            nn.Linear(8, 8, bias=False, dtype=dtype, rng=1, init="orthogonal"),
            nn.GroupNorm(2, 8, dtype=dtype),
            nn.LeakyReLU(0.2),
            nn.Linear(8, 3, dtype=dtype, rng=2),
        )

    def __call__(self, x, y):
        return F.cross_entropy(self.layers(x), y, label_smoothing=0.1, ignore_index=2)


class Language(sadl.Function):
    """A transformer whose last layer shares the weights of its first."""

    def __init__(self, dtype):
        self.embedding = nn.Embedding(7, 8, dtype=dtype, rng=0)
        self.positions = nn.SinusoidalPositions(8, 5, dtype=dtype)
        self.blocks = [nn.TransformerBlock(8, 2, 12, 0.2, dtype=dtype, rng=i) for i in range(2)]
        self.norm = nn.RMSNorm(8, dtype=dtype)
        self.head = {"W": self.embedding.W}

    def __call__(self, x, y):
        h = self.positions(self.embedding(x))
        for block in self.blocks:
            h = block(h, is_causal=True)
        return F.cross_entropy(F.linear(self.norm(h), self.head["W"].T), y)


class Autoencoder(sadl.Function):
    """Smooth activations, and a loss for numbers in [0, 1]."""

    def __init__(self, dtype):
        sizes = ((6, 5), (5, 2), (2, 5), (5, 6))
        linear = [nn.Linear(a, b, dtype=dtype, rng=i) for i, (a, b) in enumerate(sizes)]
        self.layers = nn.Sequential(linear[0], nn.GELU(), linear[1], nn.Tanh(), linear[2], nn.SiLU(), linear[3])
        self.norm = nn.LayerNorm(6, dtype=dtype)

    def __call__(self, x, y):
        target = F.sigmoid(x)
        losses = F.binary_cross_entropy_with_logits(self.layers(self.norm(x)), target, "none")
        return np.mean(losses) + 0.1 * F.huber_loss(F.softplus(losses), target)


DRAW = np.random.default_rng(0)
WHOLE = {
    Classifier: (DRAW.standard_normal((12, 6)), DRAW.integers(0, 3, 12)),
    Language: (DRAW.integers(0, 7, (3, 5)), DRAW.integers(0, 7, (3, 5))),
    Autoencoder: (DRAW.standard_normal((12, 6)), np.zeros(1)),
}


def twenty_steps(make, dtype, wrap):
    sadl.random.seed(3)
    model = make(dtype)
    optimizer = sadl.SGD(model, lr=0.05, momentum=0.9)  # Adam makes much of gradients that are 0 but for rounding

    def step(x, y):
        loss = model(x, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    run = wrap(step)
    x, y = (cast(a, dtype) for a in WHOLE[make])
    losses = [float(run(x, y)) for _ in range(20)]
    losses.append(float(model.inference()(x, y)))
    return run, losses, {k: np.asarray(v) for k, v in model.get_state().items()}


@each_dtype
@pytest.mark.parametrize("make", WHOLE)
def test_twenty_compiled_steps_are_twenty_eager_steps(make, dtype):
    rtol = 1e-12 if dtype is np.float64 else 1e-5
    _, losses, state = twenty_steps(make, dtype, lambda f: f)
    compiled, other_losses, other_state = twenty_steps(make, dtype, sadl.compile)
    assert compiled.stats.programs == 1 and losses[-1] < losses[0]
    np.testing.assert_allclose(other_losses, losses, rtol=rtol)
    for path, value in state.items():
        np.testing.assert_allclose(other_state[path], value, rtol=rtol, atol=rtol, err_msg=path)


@pytest.mark.parametrize("make", WHOLE)
def test_no_float64_in_float32_programs(make):
    model = make(np.float32)
    x, y = (cast(a, np.float32) for a in WHOLE[make])
    graph = sadl.make_ir(sadl.value_and_grad(lambda x, w: model(x, y), 1))(x, np.ones(1, np.float32))
    wide = [e for e in graph.eqns for v in e.outs if v.aval.dtype == np.float64]
    assert len(graph.eqns) > 20 and not wide


# ---- what layers hold, and their modes -----------------------------------------------------------------------------


def test_statistics_are_buffers_and_part_of_the_state(tmp_path):
    layer, other = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    assert list(layer.get_buffers()) == ["mean", "var"] and list(layer.get_parameters()) == ["weight", "bias"]
    layer(np.ones((2, 3), np.float32) * [[0], [1]])
    assert np.allclose(layer.mean, 0.05) and np.allclose(layer.var, 0.9 + 0.1 * 0.5)
    sadl.save(layer.get_state(), tmp_path / "state.sadl")
    other.load_state(sadl.load(tmp_path / "state.sadl"))
    assert np.array_equal(other.mean, layer.mean) and np.array_equal(other.var, layer.var)


@pytest.mark.parametrize("wrap", [lambda f: f, sadl.compile], ids=["eager", "compiled"])
def test_inference_keeps_statistics_and_drops_nothing(wrap):
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Flatten(), nn.Dropout(0.5)).inference()
    run, x = wrap(model), DRAW.standard_normal((3, 2, 2, 2)).astype(np.float32)
    for _ in range(3):
        assert np.allclose(run(x), x.reshape(3, 8) / np.sqrt(1 + 1e-5))
    assert not np.any(model[0].mean)
    model.train()
    assert np.mean(np.asarray(run(x)) == 0) > 0.1 and np.any(model[0].mean)


def test_modes_reach_layers_without_parameters():
    model = nn.Sequential(nn.Dropout(0.5), [nn.Dropout(0.1)][0])
    assert not any(layer.is_training() for layer in model.inference().layers)
    assert all(layer.is_training() for layer in model.train().layers)


def test_tied_weights_count_once_and_get_both_gradients():
    model = Language(np.float64)
    paths = list(model.get_parameters())
    assert "embedding.W" in paths and "head{W}" not in paths
    x, y = WHOLE[Language]
    model.inference()(x, y).backward()
    both = model.embedding.W.grad
    model.head["W"] = sadl.Parameter(np.array(model.embedding.W))
    assert len(list(model.get_parameters())) == len(paths) + 1
    model.embedding.W.grad = None
    model(x, y).backward()
    assert np.allclose(both, model.embedding.W.grad + model.head["W"].grad)


@pytest.mark.parametrize("wrap", [lambda f: f, sadl.compile], ids=["eager", "compiled"])
def test_frozen_layers_stay(wrap):
    model = nn.Sequential(nn.Linear(4, 4, rng=0), nn.LayerNorm(4), nn.Linear(4, 2, rng=1))
    model[0].requires_grad = model[1].requires_grad = False
    before = {k: np.array(v) for k, v in model.get_state().items()}
    optimizer = sadl.SGD([p for p in model.parameters if p.requires_grad], lr=0.1)

    @wrap
    def step(x):
        optimizer.zero_grad()
        np.mean(np.square(model(x))).backward()
        optimizer.step()

    for _ in range(4):
        step(np.ones((3, 4), np.float32))
    changed = {k for k, v in model.get_state().items() if not np.array_equal(v, before[k])}
    assert changed == {"layers[2].W", "layers[2].b"}


def test_sequential():
    a, b = nn.Linear(2, 3, rng=0), nn.ReLU()
    model = nn.Sequential(a, b, np.tanh)
    x = np.ones((1, 2), np.float32)
    assert np.array_equal(model(x), np.tanh(b(a(x)))) and np.array_equal(nn.Sequential([a, b])(x), b(a(x)))
    assert len(model) == 3 and model[-1] is np.tanh and model[:2].layers == [a, b]
    assert list(model.get_parameters()) == ["layers[0].W", "layers[0].b"]
    assert nn.Sequential()(x) is x and isinstance(model, nn.Mlp)
    with pytest.raises(TypeError, match=r"\[Sequential\] layers are Functions, found int"):
        nn.Sequential(3)


@pytest.mark.parametrize(
    ("start", "shape"), [(1, (2, 60)), (0, (120,)), (2, (2, 3, 20)), (-1, (2, 3, 4, 5)), (4, (2, 3, 4, 5, 1))]
)
def test_flatten(start, shape):
    assert nn.Flatten(start)(np.zeros((2, 3, 4, 5))).shape == shape
    assert nn.Flatten()(np.zeros((0, 3, 4))).shape == (0, 12)


ACTIVATIONS = {
    nn.LeakyReLU(0.3): lambda x: F.leaky_relu(x, 0.3),
    nn.ELU(0.4): lambda x: F.elu(x, 0.4),
    nn.GELU(): F.gelu,
    nn.GELU("tanh"): lambda x: F.gelu(x, "tanh"),
    nn.SiLU(): F.silu,
    nn.Tanh(): F.tanh,
    nn.Softplus(2): lambda x: F.softplus(x, 2),
}


@pytest.mark.parametrize(("layer", "function"), ACTIVATIONS.items())
def test_activations_as_layers(layer, function):
    x = DRAW.standard_normal((2, 3))
    assert np.array_equal(layer(x), function(x)) and not layer.get_parameters()


def test_attention_to_something_else():
    layer = nn.MultiHeadAttention(6, 2, dtype=np.float64, rng=0)
    x, y = DRAW.standard_normal((2, 3, 6)), DRAW.standard_normal((2, 5, 6))
    assert layer(x, y).shape == (2, 3, 6)
    assert np.allclose(layer(x, x.copy()), layer(x)) and np.allclose(layer(x, y, y.copy()), layer(x, y))
    hidden = np.array([True, True, False, False, False])
    assert np.allclose(layer(x, y, mask=hidden), layer(x, y[:, :2]))
    each = np.array([hidden, ~hidden])[:, None, None]
    assert np.allclose(layer(x, y, mask=each)[1], layer(x[1], y[1, 2:]))


def test_dropout_of_attention_is_that_of_its_weights():
    q, k, v = DRAW.standard_normal((3, 2, 4, 4))
    weights = F.softmax(q @ np.swapaxes(k, -1, -2) / 2)
    found = F.scaled_dot_product_attention(q, k, v, dropout=0.4, rng=sadl.random.Generator(3))
    assert np.allclose(found, F.dropout(weights, 0.4, rng=sadl.random.Generator(3)) @ v, rtol=1e-12)


def test_dropout_of_attention_only_in_training():
    layer = nn.MultiHeadAttention(6, 2, 0.5, rng=0)
    x = DRAW.standard_normal((1, 8, 6)).astype(np.float32)
    assert not np.allclose(layer(x), layer(x))
    layer.inference()
    assert np.array_equal(layer(x), layer(x))


def test_activation_of_a_block():
    x = DRAW.standard_normal((2, 3, 4)).astype(np.float32)
    gelu, other = (nn.TransformerBlock(4, 2, rng=0, activation=f) for f in (None, np.tanh))
    assert not np.allclose(gelu(x), other(x))
    gelu.layers.layers[1] = np.tanh
    assert np.array_equal(gelu(x), other(x))


def test_batch_norm_of_any_rank():
    layer, rows = nn.BatchNorm(3, 0.1, 0.3), nn.BatchNorm1d(3, 0.1, 0.3)
    x = DRAW.standard_normal((2, 3, 2, 1, 4)).astype(np.float32)
    for mode in (nn.BatchNorm.train, nn.BatchNorm.inference):
        a, b = mode(layer)(x), mode(rows)(x.reshape(2, 3, 8))
        assert np.allclose(a.reshape(2, 3, 8), b, rtol=1e-6, atol=1e-6)
    assert np.allclose(layer.var, rows.var) and not np.allclose(layer.mean, 0)


@pytest.mark.parametrize("wrap", [lambda f: f, sadl.compile], ids=["eager", "compiled"])
def test_statistics_of_all_batches(wrap):
    """Their means, which a state goes on with; what is not training is no batch."""
    layer, batches = nn.BatchNorm1d(2, momentum=None), DRAW.standard_normal((6, 5, 2)).astype(np.float32)
    with sadl.config(jit=False):
        run = wrap(layer)
        for x in batches[:4]:
            run(x)
        other = nn.BatchNorm1d(2, momentum=None)
        other.load_state(layer.get_state())
        for x in batches[4:]:
            other(x)
    other.inference()(batches[0])
    assert list(other.get_buffers()) == ["mean", "var", "batches"] and other.batches == 6 and layer.batches == 4
    assert other.mean.dtype == np.float32 and np.allclose(other.mean, batches.mean((0, 1)), atol=1e-6)
    assert np.allclose(other.var, batches.var(1, ddof=1).mean(0), rtol=1e-5)
    graph = sadl.make_ir(lambda x: layer(x))(batches[0])
    assert not [e for e in graph.eqns for v in e.outs if v.aval.dtype == np.float64]


def test_padding_is_not_learned():
    layer = nn.Embedding(4, 3, 2, rng=0)
    assert not np.any(layer.W[2]) and np.all(layer.W[[0, 1, 3]])
    optimizer = sadl.SGD(layer, lr=1.0)
    before = np.array(layer.W)
    np.sum(layer([2, 1, 2])).backward()
    optimizer.step()
    assert np.array_equal(layer.W, before - np.array([[0], [1], [0], [0]], np.float32))
    for wrong in (4, -1, 1.0):
        with pytest.raises(ValueError, match=rf"\[Embedding\] padding_idx={wrong} is no id.*from 0 to 3"):
            nn.Embedding(4, 3, wrong)


def test_binary_cross_entropy_of_what_is_certain():
    p, t = sadl.tensor([0.0, 1.0, 0.0, 1.0, 1e-60], requires_grad=True), np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    losses = F.binary_cross_entropy(p, t, "none")
    assert losses.tolist() == [0, 0, 100, 100, 100]
    np.sum(losses).backward()
    assert np.all(np.isfinite(p.grad))
    x = DRAW.standard_normal((3, 4))
    expected = F.binary_cross_entropy_with_logits(x, x > 0.3)
    assert np.allclose(F.binary_cross_entropy(F.sigmoid(x), x > 0.3), expected, rtol=1e-12)
    with np.errstate(invalid="ignore"):
        assert np.isnan(F.binary_cross_entropy(np.array([1.5]), np.ones(1)))


def test_positions():
    x = DRAW.standard_normal((2, 3, 4))
    layer = nn.SinusoidalPositions(4, 5, dtype=np.float64)
    assert np.array_equal(layer(x), x + F.sinusoidal_positions(3, 4, np.float64)) and not layer.get_state()


# ---- what is wrong is named ----------------------------------------------------------------------------------------

CONFIGURATIONS = {
    r"\[Linear\] sizes must be whole numbers >= 1, found dim_in=0 and dim_out=2": lambda: nn.Linear(0, 2),
    r"no initialiser 'glorot'.*xavier_uniform": lambda: nn.Linear(2, 2, init="glorot"),
    r"\[Embedding\] .*num_embeddings=2.5": lambda: nn.Embedding(2.5, 3),
    r"\[LayerNorm\] .*dim=-1": lambda: nn.LayerNorm(-1),
    r"\[RMSNorm\] .*dim\[1\]=0": lambda: nn.RMSNorm((3, 0)),
    r"\[GroupNorm\] 6 channels cannot be divided into 4 groups": lambda: nn.GroupNorm(4, 6),
    r"\[BatchNorm2d\] .*channels=0": lambda: nn.BatchNorm2d(0),
    r"\[BatchNorm1d\] momentum=2 is out of range\. Instead: a number from 0 to 1": lambda: nn.BatchNorm1d(
        3, momentum=2
    ),
    r"\[Dropout\] p=1.5 is out of range": lambda: nn.Dropout(1.5),
    r"\[MultiHeadAttention\] dim=6 features cannot be divided among heads=4": lambda: nn.MultiHeadAttention(6, 4),
    r"\[MultiHeadAttention\] dropout=-1": lambda: nn.MultiHeadAttention(6, 2, -1),
    r"\[GELU\] no approximation 'exact'": lambda: nn.GELU("exact"),
}


@pytest.mark.parametrize(("problem", "make"), CONFIGURATIONS.items())
def test_bad_configurations(problem, make):
    with pytest.raises(ValueError, match=problem):
        make()


INPUTS = {
    r"LayerNorm\(dim=4\) was given an input of shape \(2, 3\)": (nn.LayerNorm(4), (2, 3)),
    r"RMSNorm\(dim=\(3, 4\)\) was given": (nn.RMSNorm((3, 4)), (2, 4)),
    r"GroupNorm\(groups=2, channels=4\) was given an input of shape \(4,\)": (nn.GroupNorm(2, 4), (4,)),
    r"shape \(n, 3\) or \(n, 3, l\)": (nn.BatchNorm1d(3), (2, 3, 4, 5)),
    r"BatchNorm2d\(channels=3\) .*Instead: shape \(n, 3, h, w\)": (nn.BatchNorm2d(3), (2, 4, 5, 5)),
    r"has 1 element per channel.*Instead: a larger batch": (nn.BatchNorm1d(3), (1, 3)),
    r"MultiHeadAttention\(dim=6, heads=2\) was given inputs of shapes \(2, 5\)": (nn.MultiHeadAttention(6, 2), (2, 5)),
    r"max_length=3\) was given an input of shape \(1, 4, 2\)": (nn.SinusoidalPositions(2, 3), (1, 4, 2)),
    r"Flatten\(start=3\) was given an input of shape \(2, 2\)": (nn.Flatten(3), (2, 2)),
}


@pytest.mark.parametrize("wrap", [lambda f: f, sadl.compile], ids=["eager", "compiled"])
@pytest.mark.parametrize(("problem", "given"), INPUTS.items())
def test_bad_inputs_name_the_path_of_the_layer(problem, given, wrap):
    layer, shape = given
    model = nn.Sequential(lambda x: x, nn.Sequential(layer))
    with pytest.raises(ValueError, match=problem) as caught:
        wrap(model)(np.ones(shape, np.float32))
    assert f"In layers[1].layers[0] ({type(layer).__name__})." in str(caught.value)


def test_errors_of_functions_and_of_numpy_name_the_path_as_well():
    model = {"first": nn.Embedding(5, 4), "then": [nn.MultiHeadAttention(4, 2)]}

    class Model(sadl.Function):
        def __init__(self):
            self.parts = model

        def __call__(self, ids, mask):
            return self.parts["then"][0](self.parts["first"](ids), mask=mask)

    with pytest.raises(IndexError, match=r"found 5\. In parts\{first\} \(Embedding\)\. Instead: ids from 0 to 4"):
        Model()(np.array([[5]]), None)
    with pytest.raises(ValueError, match=r"\(3, 3\) does not broadcast .*In parts\{then\}\[0\] \(MultiHeadAttention\)"):
        Model()(np.array([[1, 2]]), np.ones((3, 3), bool))
    attention, model["then"][0] = model["then"][0], Adds()
    with pytest.raises(ValueError, match=r"\[add\].*In parts\{then\}\[0\] \(Adds\)"):
        Model()(np.array([[1, 2]]), None)
    with pytest.raises(ValueError) as caught:
        attention.out(np.zeros((2, 3)))
    assert "In " not in str(caught.value)


class Adds(sadl.Function):
    def __call__(self, x, mask):
        return x + np.ones(3)
