"""Recurrent cells and layers: equal to torch, eager and compiled, to the second order; what is refused.

Takes the cases of `window_cases` and torch's values of `make_reference`.
"""

import re
from functools import partial

import numpy as np
import pytest
import window_cases
from make_reference import reference

import sadl
from sadl import check_grads, nn
from sadl import functional as F
from sadl.functional.recurrent import unroll
from sadl.op import OPS

CASES = window_cases.layer_cases()
RNG = np.random.default_rng(0)
RTOL = {np.float64: 1e-9, np.float32: 1e-4}
NAMES = {"W_ih": "weight_ih", "W_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}  # here and in torch

each_case = pytest.mark.parametrize("name", CASES)
each_dtype = pytest.mark.parametrize("dtype", [np.float64, np.float32])


@pytest.fixture(scope="module")
def expected():
    return reference("recurrent")


def layer_of(case, dtype):
    """The layer with the weights of the case, and its Parameters by their names in torch."""
    layer = getattr(nn, case.kind)(**case.settings, dtype=dtype)
    weights = {}
    for k, cells in enumerate(layer.layers):
        for direction, cell in enumerate(cells):
            for here, there in NAMES.items():
                if getattr(cell, here) is not None:
                    weights[f"{there}_l{k}{'_reverse' * direction}"] = getattr(cell, here)
    with sadl.no_grad():
        for name, parameter in weights.items():
            parameter[...] = case.arrays[name]
    return layer, weights


def assert_equal_to_torch(name, outs, grads, expected, dtype):
    found = {f"out{i}": o for i, o in enumerate(outs)} | grads
    wanted = {key.removeprefix(f"{name}/"): v for key, v in expected.items() if key.startswith(f"{name}/")}
    assert found.keys() == wanted.keys()
    for key, value in found.items():
        assert (value.shape, value.dtype) == (wanted[key].shape, dtype), key
        scale = np.max(np.abs(wanted[key]), initial=1)
        np.testing.assert_allclose(value, wanted[key], RTOL[dtype], RTOL[dtype] * scale, err_msg=key)


@each_dtype
@each_case
def test_equal_to_torch(name, dtype, expected):
    case = CASES[name]
    layer, weights = layer_of(case, dtype)
    given = {k: sadl.tensor(case.arrays[k].astype(dtype), requires_grad=True) for k in "xhc" if k in case.arrays}
    run = partial(layer, lengths=case.lengths)
    outs, total = window_cases.outputs(run, case.kind, given, lambda v: v.astype(dtype))
    total.backward()
    assert_equal_to_torch(name, outs, {k: t.grad for k, t in (given | weights).items()}, expected, dtype)


@each_case
def test_compiled_is_equal_to_torch(name, expected):
    case = CASES[name]
    layer, weights = layer_of(case, np.float64)
    given = {k: sadl.tensor(case.arrays[k], requires_grad=True) for k in "xhc" if k in case.arrays}
    everything = given | weights

    @sadl.compile
    def run(lengths):
        for t in everything.values():
            t.grad = None
        outs, total = window_cases.outputs(partial(layer, lengths=lengths), case.kind, given, lambda v: v)
        total.backward()
        return [o.detach() for o in outs]

    with sadl.config(jit=name.endswith("0")):  # the others as plain Python, for want of time
        for _ in range(3):
            outs = run(case.lengths)
    assert run.graph is not None
    assert_equal_to_torch(name, outs, {k: t.grad for k, t in everything.items()}, expected, np.float64)


# ---- cells and sequences -------------------------------------------------------------------------------------------

SIZES = {"rnn": (1, 1), "lstm": (4, 2), "gru": (3, 1)}  # gates, parts of the state
CELLS = {"rnn": F.rnn_cell, "lstm": F.lstm_cell, "gru": F.gru_cell}


def arrays_of(kind, n=2, size=3, hidden=2, steps=None):
    gates, parts = SIZES[kind]
    shape = (n, size) if steps is None else (n, steps, size)
    shapes = [
        shape,
        *((n, hidden),) * parts,
        (gates * hidden, size),
        (gates * hidden, hidden),
        *((gates * hidden,),) * 2,
    ]
    return [RNG.standard_normal(s) for s in shapes]


def on_arrays(kind, f):
    """`f` of an input, the parts of a state, and weights."""
    parts = SIZES[kind][1]
    return lambda x, *rest: f(x, rest[:parts], *rest[parts:])


def cell(kind):
    return on_arrays(kind, lambda x, s, *ws: CELLS[kind](x, s if kind == "lstm" else s[0], *ws))


@pytest.mark.parametrize("kind", SIZES)
def test_cells_to_the_second_order(kind):
    check_grads(cell(kind), arrays_of(kind), order=2)
    check_grads(cell(kind), arrays_of(kind)[:-2], order=2)


@pytest.mark.parametrize("kind", SIZES)
def test_sequences_to_the_second_order(kind):
    f = on_arrays(kind, lambda x, s, *ws: unroll(kind, x, s, *ws)[0])
    check_grads(f, arrays_of(kind, steps=3), order=2)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", SIZES)
def test_sequences_are_steps_of_cells(kind, reverse):
    x, *rest = arrays_of(kind, steps=4)
    parts = SIZES[kind][1]
    state, weights = tuple(rest[:parts]), rest[parts:]
    outs, last = unroll(kind, x, state, *weights, reverse=reverse)
    for t in range(3, -1, -1) if reverse else range(4):
        new = cell(kind)(x[:, t], *state, *weights)
        state = new if kind == "lstm" else (new,)
        assert np.allclose(outs[:, t], state[0], rtol=1e-13)
    assert len(last) == parts and all(np.allclose(a, b, rtol=1e-13) for a, b in zip(last, state, strict=True))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_padding_counts_for_nothing(kind):
    """Whatever it is, also for the gradients; and a padded sequence gives what it gives alone."""
    layer = getattr(nn, kind)(3, 4, 2, bidirectional=True, dtype=np.float64, rng=0)
    x, lengths = RNG.standard_normal((4, 5, 3)), np.array([5, 2, 0, 3])
    parts = lambda last: last if kind == "LSTM" else (last,)
    found = []
    for padding in (0, np.nan):
        padded = sadl.tensor(np.where(np.arange(5)[:, None] < lengths[:, None, None], x, padding), requires_grad=True)
        for p in layer.parameters:
            p.grad = None
        y, last = layer(padded, lengths=lengths)
        (np.sum(y**2) + sum(np.sum(p**3) for p in parts(last))).backward()
        found.append([y, *parts(last), padded.grad, *(p.grad for p in layer.parameters)])
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True)) and np.any(found[0][-1])
    for i, n in enumerate(lengths):
        assert not np.any(y[i, n:]) and not np.any(padded.grad[i, n:])
        if n:
            alone, end = layer(x[i : i + 1, :n])
            assert np.allclose(y[i, :n], alone[0], rtol=1e-12)
            assert all(np.allclose(a[:, i], b[:, 0], rtol=1e-12) for a, b in zip(parts(last), parts(end), strict=True))
    assert all(not np.any(p[:, 2]) for p in parts(last))  # without inputs the first state stays


def test_lengths_that_are_too_long_for_a_running_program():
    layer, x = nn.GRU(3, 4, bidirectional=True, rng=0), np.ones((2, 5, 3), np.float32)
    run = sadl.compile(lambda x, lengths: layer(x, lengths=lengths)[0])
    with sadl.config(jit=False):
        for lengths in ([5, 1], [4, 2], [3, 3]):
            assert np.allclose(run(x, np.array(lengths)), layer(x, lengths=lengths)[0], rtol=1e-5)
        assert run.stats.programs == 1
        with pytest.raises(IndexError, match=r"\[gru\] a length is outside 0 \.\. 5, .*: found 6"):
            run(x, np.array([6, 1]))


@pytest.mark.parametrize("kind", SIZES)
def test_cells_as_layers(kind):
    make = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}[kind]
    layer, x = make(3, 4, rng=0), RNG.standard_normal((2, 3)).astype(np.float32)
    zeros = (np.zeros((2, 4), np.float32),) * SIZES[kind][1]
    first = layer(x)
    again = layer(x, zeros if kind == "lstm" else zeros[0])
    for a, b, whole in zip(*((v if kind == "lstm" else (v,)) for v in (first, again, layer(x, first))), strict=True):
        assert (a.shape, a.dtype) == ((2, 4), np.float32) and np.array_equal(a, b) and not np.array_equal(a, whole)


def test_shut_gates_stay_shut():
    """In float32 a gate of exp(-200) is 0 and no more: nothing overflows."""
    x, h, c, W_ih, W_hh, *_ = (a.astype(np.float32) for a in arrays_of("lstm"))
    bias = np.repeat(np.array([-200, -200, 200, -200], np.float32), 2)
    h, c = F.lstm_cell(x, (h, c), W_ih, W_hh, bias)
    assert not h.any() and not c.any()


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_weights_start_from_uniform_numbers_of_the_seed(kind):
    layer = getattr(nn, kind)(3, 16, 2, bidirectional=True, rng=5)
    gates = SIZES[kind.lower()][0]
    parameters = layer.get_parameters()
    assert len(parameters) == 16 and parameters["layers[1][0].W_ih"].shape == (gates * 16, 32)
    for p in parameters.values():
        assert 0.2 < np.max(np.abs(p)) <= 0.25 and p.dtype == np.float32 and len(np.unique(p)) > p.size * 0.9
    again = getattr(nn, kind)(3, 16, 2, bidirectional=True, rng=5).get_parameters()
    assert all(np.array_equal(again[k], p) for k, p in parameters.items())
    assert len(getattr(nn, kind)(3, 16, bias=False).get_parameters()) == 2


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_dropout_between_layers(kind):
    """With a probability of 1, the second layer sees zeros."""
    make = lambda p: getattr(nn, kind)(3, 4, 2, dropout=p, rng=0)
    x = RNG.standard_normal((2, 5, 3)).astype(np.float32)
    layer, plain = make(1.0), make(0.0)
    second = getattr(nn, kind)(4, 4)
    second.layers = layer.layers[1:]
    assert np.array_equal(layer(x)[0], second(np.zeros((2, 5, 4), np.float32))[0])
    assert np.array_equal(layer.inference()(x)[0], plain(x)[0])
    some = make(0.5)
    run = sadl.compile(lambda x: some(x)[0])
    with sadl.config(jit=False):
        found = []
        for call in (lambda x: some(x)[0], run):
            sadl.random.seed(4)
            found.append([np.asarray(call(x)) for _ in range(4)])
    assert np.allclose(*found, rtol=1e-5, atol=1e-6) and not np.allclose(found[1][2], found[1][3])


def test_unstack_gives_all_parts_with_one_gradient():
    x = sadl.tensor(RNG.standard_normal((3, 4, 2)), requires_grad=True)
    parts = sadl.tape.bind(OPS["unstack"], x, axis=1)
    assert len(parts) == 4 and np.array_equal(np.stack(parts, 1), x)
    np.sum(parts[1] ** 2 * parts[3]).backward()
    expected = np.zeros(x.shape)
    expected[:, 1], expected[:, 3] = 2 * x[:, 1] * x[:, 3], x[:, 1] ** 2
    assert np.allclose(x.grad, expected)


# ---- training ------------------------------------------------------------------------------------------------------


class Classifier(sadl.Function):
    def __init__(self, kind, dtype):
        self.body = getattr(nn, kind)(3, 5, 2, bidirectional=True, dtype=dtype, rng=0)
        self.head = nn.Linear(10, 4, dtype=dtype, rng=1)

    def __call__(self, x):
        return self.head(self.body(x)[0][:, -1])


def train(model, x, y, compiled):
    optimizer = sadl.SGD(model, lr=0.3, momentum=0.9)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run = sadl.compile(step) if compiled else step
    losses = [float(run(x, y)) for _ in range(20)]
    if compiled:
        assert not re.search("unstack", run.explain())
    return losses, {k: np.asarray(v) for k, v in model.get_parameters().items()}


@each_dtype
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_twenty_compiled_steps_are_twenty_eager_ones(kind, dtype):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((6, 5, 3)).astype(dtype), rng.integers(0, 4, 6)
    (losses, weights), (found, others) = (train(Classifier(kind, dtype), x, y, compiled) for compiled in (False, True))
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(found, losses, rtol=10 * tolerance)
    for path, w in weights.items():
        np.testing.assert_allclose(others[path], w, 10 * tolerance, tolerance * np.max(np.abs(w)), err_msg=path)


# ---- what is refused -----------------------------------------------------------------------------------------------

X = np.zeros((2, 3), np.float32)
WEIGHTS = np.zeros((16, 3), np.float32), np.zeros((16, 4), np.float32)
STATE = (np.zeros((2, 4), np.float32),) * 2

REFUSED = [
    (lambda: F.lstm_cell(X[0], STATE, *WEIGHTS), r"\[lstm_cell\] an input of shape \(3,\) was given\. Instead: \(N, "),
    (lambda: F.lstm_cell(X, STATE, WEIGHTS[1], WEIGHTS[1]), r"W_ih of shape \(16, 4\), not \(16, 3\)"),
    (lambda: F.lstm_cell(X, STATE[:1], *WEIGHTS), r"a state of shapes \[\(2, 4\)\], not \[\(2, 4\), \(2, 4\)\]"),
    (lambda: F.lstm_cell(X, (STATE[0][:1],) * 2, *WEIGHTS), r"a state of shapes \[\(1, 4\), \(1, 4\)\], not"),
    (lambda: F.gru_cell(X, STATE[0], *WEIGHTS), r"\[gru_cell\] .*W_ih of shape \(16, 3\), not \(12, 3\)"),
    (lambda: F.rnn_cell(X, STATE[0], WEIGHTS[0][:4], WEIGHTS[1][:4], X[0]), r"b_ih of shape \(3,\), not \(4,\)"),
    (lambda: unroll("lstn", X, STATE, *WEIGHTS), r"no kind 'lstn'\. Instead: 'rnn', 'rnn_relu', 'lstm', 'gru'"),
    (lambda: unroll("lstm", X[:, None][:, :0], STATE, *WEIGHTS), r"\[lstm\] .*shape \(2, 0, 3\).*T >= 1"),
    (lambda: nn.LSTM(3, 4)(X), r"\[LSTM\] LSTM\(3, 4\) was given an input of shape \(2, 3\)\. Instead: .*\(N, T, 3\)"),
    (lambda: nn.LSTM(3, 4, batch_first=False)(X), r"an input of shape \(T, N, 3\)"),
    (lambda: nn.LSTM(3, 4, 2)(X[:, None], STATE), r"2 sequences and 2 cells\. Instead: 2 of shape \(2, 2, 4\)"),
    (lambda: nn.GRU(3, 4)(X[:, None], STATE[0]), r"\[GRU\] a state of shapes .* 1 of shape \(1, 2, 4\)"),
    (lambda: nn.GRU(3, 4)(X[:, None], lengths=[1]), r"\[gru\] lengths of shape \(1,\) were given for 2 sequences"),
    (lambda: nn.GRU(3, 0), r"\[GRU\] sizes must be whole numbers >= 1, found .*hidden_size=0"),
    (lambda: nn.RNN(3, 4, num_layers=0), r"num_layers=0"),
    (lambda: nn.LSTM(3, 4, 2, dropout=1.5), r"\[LSTM\] dropout=1.5 is out of range"),
    (lambda: nn.RNN(3, 4, nonlinearity="gelu"), r"no nonlinearity 'gelu'\..* Instead: \"tanh\" or \"relu\""),
    (lambda: F.rnn_cell(X, STATE[0], WEIGHTS[0][:4], WEIGHTS[1][:4], nonlinearity=3), r"\[rnn_cell\] no nonlin"),
    (lambda: nn.LSTMCell(4, 4)(X), r"\[LSTMCell\] LSTMCell\(4, 4\) was given an input of shape \(2, 3\)"),
]  # fmt: skip


@pytest.mark.parametrize("layer", [nn.GRU(3, 4), nn.RNN(3, 4), nn.GRUCell(3, 4), nn.RNNCell(3, 4)])
def test_a_state_of_one_part_is_no_tuple(layer):
    with pytest.raises(TypeError, match=r"a state of 1 parts was given as a tuple\. Instead: h itself, not a tuple"):
        layer(X[:, None] if hasattr(layer, "layers") else X, (STATE[0],))


@pytest.mark.parametrize("call, message", REFUSED, ids=[m for _, m in REFUSED])
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
