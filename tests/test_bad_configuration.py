"""Bad configuration: every layer and function says what was wrong, where in the model, and what to do instead.

Takes the rows of `bad_rows`: eagerly with arrays and Tensors, within a model, under capture. What values decide is
also asked of programs that run, and that these leave everything as it was.
"""

import re

import numpy as np
import pytest
from bad_rows import CALLED, FUNCTIONS, INITIALIZERS, MADE, OPTIMIZERS, SCHEDULES, X, bad, ones, parameters

import sadl
import sadl.functional as F
from sadl import Parameter, nn, optimizer, schedules
from sadl.data import ArrayDataset, DataLoader
from sadl.nn import init


class Call(sadl.Function):
    """A function as a layer."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *args, **settings):
        return self.function(*args, **settings)


class Model(sadl.Function):
    """A layer in a list in a dict in an attribute."""

    def __init__(self, layer):
        self.parts = {"deep": [nn.ReLU(), layer]}

    def __call__(self, *args, **settings):
        return self.parts["deep"][1](*args, **settings)


def as_tensor(x):
    is_array = isinstance(x, np.ndarray) and x.dtype.kind in "fiu"
    return sadl.tensor(x, requires_grad=x.dtype.kind == "f") if is_array else x


def of_tensors(layer):
    return lambda *args, **settings: layer(*map(as_tensor, args), **{k: as_tensor(v) for k, v in settings.items()})


MODES = {
    "arrays": lambda layer: layer,
    "tensors": of_tensors,
    "model": Model,
    "captured": lambda layer: sadl.compile(Model(layer)),
}
FORM = re.compile(r"^\[\w+\] [^\n]+\. Instead: [^\n]+\.$")


def rows_of(table):
    return [pytest.param(name, row, id=f"{name} {i}") for name, rows in table.items() for i, row in enumerate(rows)]


def refusal(row, call):
    """The message with which a call is refused: it is of the one form, and says what the row asks for."""
    with pytest.raises(row.error) as caught:
        call(*row.args, **row.settings)
    text = str(caught.value)
    assert FORM.match(text), text
    without_place = re.sub(r"\. In .*?(\)|__)\. Instead", ". Instead", text)
    assert re.search(row.message, without_place), text
    return text


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "row"), rows_of(FUNCTIONS))
def test_functions(name, row, mode):
    text = refusal(row, MODES[mode](Call(getattr(F, name))))
    assert text.startswith((f"[{name}]", "[attention]" if "attention" in name else "[random]"))
    assert (". In parts{deep}[1] (Call). " if mode in ("model", "captured") else "") in text


FLAGS = {  # what is given where True or False is needed, often because torch has another order
    "RNN bias='relu'": lambda: nn.RNN(2, 3, 1, "relu"),
    "RNN batch_first=1": lambda: nn.RNN(2, 3, batch_first=1),
    "LSTM bidirectional='False'": lambda: nn.LSTM(2, 3, bidirectional="False"),
    "LSTMCell bias=0": lambda: nn.LSTMCell(2, 3, 0),
    "Linear bias='no'": lambda: nn.Linear(2, 2, bias="no"),
    "Linear bias, a ndarray,": lambda: nn.Linear(2, 2, bias=ones(2)),
    "Conv2d bias='zeros'": lambda: nn.Conv2d(2, 2, 3, bias="zeros"),
    "LayerNorm affine=1": lambda: nn.LayerNorm(3, affine=1),
    "LayerNorm bias, a NoneType,": lambda: nn.LayerNorm(3, bias=None),
    "BatchNorm affine='False'": lambda: nn.BatchNorm(3, affine="False"),
    "TransformerBlock norm_first='yes'": lambda: nn.TransformerBlock(4, 2, norm_first="yes"),
    "MaxPool2d ceil_mode=1": lambda: nn.MaxPool2d(2, ceil_mode=1),
    "AvgPool1d count_include_pad=0": lambda: nn.AvgPool1d(2, count_include_pad=0),
    "max_pool1d ceil_mode=2": lambda: F.max_pool1d(ones(1, 2, 4), 2, ceil_mode=2),
    "avg_pool1d count_include_pad=''": lambda: F.avg_pool1d(ones(1, 2, 4), 2, count_include_pad=""),
    "attention is_causal=0.5": lambda: F.scaled_dot_product_attention(X, X, X, None, 0.5),
    "attention is_causal='no'": lambda: nn.MultiHeadAttention(4, 2)(ones(2, 3, 4), is_causal="no"),
    "kl_div log_target='mean'": lambda: F.kl_div(X, X, "sum", "mean"),
    "batch_norm training=0.1": lambda: F.batch_norm(X, None, None, None, None, 0.1),
    "dropout training=7": lambda: F.dropout(X, 0.5, 7),
    "DataLoader shuffle=5": lambda: DataLoader(ArrayDataset(X), 1, 5),
    "DataLoader drop_last='no'": lambda: DataLoader(ArrayDataset(X), drop_last="no"),
}


@pytest.mark.parametrize("what", FLAGS)
def test_what_is_neither_true_nor_false(what):
    op, _, named = what.partition(" ")
    with pytest.raises(TypeError, match=rf"^\[{op}\] {re.escape(named)} is neither True nor False.*Instead: True or"):
        FLAGS[what]()


def test_flags_of_numpy():
    assert nn.Linear(2, 2, bias=np.False_).b is None and nn.LSTM(2, 3, bidirectional=np.True_)(X[None, :, :2])


@pytest.mark.parametrize(("name", "row"), rows_of(MADE))
def test_making_layers(name, row):
    make = getattr(nn, name)

    class Outer(sadl.Function):
        def __init__(self, *args, **settings):
            self.layer = make(*args, **settings)

        def __call__(self):
            pass

    refusal(row, make)
    assert ". In Outer.__init__" in refusal(row, Outer)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("layer", "row"), [pytest.param(*pair, id=f"{type(pair[0]).__name__} {i}") for i, pair in enumerate(CALLED)]
)
def test_calling_layers(layer, row, mode):
    text = refusal(row, MODES[mode](layer))
    assert (". In parts{deep}[1]" if mode in ("model", "captured") else "") in text


def test_nothing_is_forgotten():
    layers = {name for name in nn.__all__ if name != "init"}
    assert set(FUNCTIONS) == set(F.__all__) and all(FUNCTIONS.values())
    assert set(MADE) == layers == {type(layer).__name__ for layer, _ in CALLED}
    assert all(MADE[name] for name in layers if getattr(nn, name).__init__ is not object.__init__)


# ---- first values, optimizers, schedules ---------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "row"), rows_of(INITIALIZERS))
def test_first_values(name, row):
    refusal(row, init.INITIALIZERS[name])


@pytest.mark.parametrize(("name", "row"), rows_of(OPTIMIZERS))
def test_optimizers(name, row):
    refusal(row, getattr(optimizer, name))


def test_a_generator_that_was_used_up_has_no_parameters():
    found = (p for p in parameters())
    optimizer.SGD(found)
    refusal(bad(ValueError, "a generator gives its items only once", found), optimizer.SGD)


@pytest.mark.parametrize(("name", "row"), rows_of(SCHEDULES))
def test_schedules(name, row):
    schedule = getattr(schedules, name)
    refusal(row, lambda *args, **settings: schedule(optimizer.SGD(parameters()), *args, **settings))


def test_a_schedule_needs_an_optimizer():
    refusal(bad(TypeError, r"a list is no Optimizer.*sadl\.SGD\(model\)", [], 0.5), schedules.ExponentialLR)


def test_no_initialiser_optimizer_or_schedule_is_forgotten():
    is_a = lambda module, base: {
        n for n, x in vars(module).items() if isinstance(x, type) and issubclass(x, base) and n[0] != "_"
    }
    assert set(INITIALIZERS) == set(init.INITIALIZERS)
    assert is_a(optimizer, optimizer.Optimizer) - {"Optimizer"} == set(OPTIMIZERS) - {
        "clip_grad_norm",
        "clip_grad_value",
    }
    assert is_a(schedules, schedules.Schedule) - {"Schedule"} == set(SCHEDULES)


def test_a_rate_that_is_none_changes_nothing():
    o = optimizer.SGD([{"params": parameters()}, {"params": parameters(), "lr": 1.0}])
    schedule = schedules.LambdaLR(o, [lambda t: 0.5**t, lambda t: 1 - t])
    schedule.step()
    before = [float(o.lr), float(o.groups[1].lr), int(schedule.t)]
    with pytest.raises(ValueError, match="the rate=-1.0"):
        schedule.step()
    assert [float(o.lr), float(o.groups[1].lr), int(schedule.t)] == before


# ---- where it happened ---------------------------------------------------------------------------------------------


def test_the_layer_is_found_from_any_method_and_behind_functions():
    class Encoder(sadl.Function):
        def __init__(self):
            self.first, hidden = nn.Linear(2, 3), nn.Linear(3, 4)
            self.then = nn.Sequential(lambda x: hidden(x))

        def __call__(self, x):
            return self.encode(x)

        def encode(self, x):
            return self.then(self.first(x))

    model = Encoder()
    with pytest.raises(ValueError, match=r"\. In first \(Linear\)\. "):
        model.encode(X)
    model.first = nn.Linear(3, 2)
    with pytest.raises(ValueError, match=r"\[Linear\] .*\. In then \(Sequential\)\. "):
        model(X)  # a layer that no attribute leads to is passed over for the one that called it
    with pytest.raises(ValueError) as caught:
        model.first(X[:, :2])
    assert "In " not in str(caught.value)


# ---- in programs that run ------------------------------------------------------------------------------------------

GOOD, TOO_LARGE, NEGATIVE = np.array([1, 0, 2]), np.array([1, 3, 9]), np.array([0, -2, -3])
RUNNING = {
    "embedding": lambda i, x: F.embedding(i, x),
    "one_hot": lambda i, x: F.one_hot(i, 3) * x,
    "cross_entropy": lambda i, x: F.cross_entropy(x, i),
    "cross_entropy of some": lambda i, x: F.cross_entropy(x, i, label_smoothing=0.1, ignore_index=1, weight=ones(3)),
    "nll_loss": lambda i, x: F.nll_loss(x, i, "sum"),
}


@pytest.mark.parametrize("wrong", [TOO_LARGE, NEGATIVE], ids=["large", "negative"])
@pytest.mark.parametrize("name", RUNNING)
def test_a_running_program_says_what_eager_code_says(name, wrong):
    model = Model(Call(RUNNING[name]))
    run = sadl.compile(model)
    for _ in range(3):
        run(GOOD, ones(3, 3))
    assert run.stats.programs == 1
    captures = run.stats.captures
    messages = []
    for call in (model, run):
        with pytest.raises(IndexError, match=rf"found {wrong[1]}\. In parts{{deep}}\[1\] \(Call\)\. ") as caught:
            call(wrong, ones(3, 3))
        messages.append(str(caught.value))
    eager, running = messages
    assert re.sub(r" Made at \S+test_bad_configuration\.py:\d+\.", "", running) == eager != running
    assert run.stats.captures == captures and np.all(np.isfinite(run(GOOD, ones(3, 3))))


def test_what_libraries_refuse_in_a_running_program_has_a_place():
    class Solve(sadl.Function):
        def __call__(self, a):
            return np.linalg.inv(a)

    run = sadl.compile(Model(Solve()))
    for _ in range(3):
        run(np.eye(2))
    with pytest.raises(
        np.linalg.LinAlgError, match=r"^\[inv\] Singular .*In parts{deep}\[1\] \(Solve\)\. Made at \S+:\d+"
    ):
        run(np.zeros((2, 2)))


class Network(sadl.Function):
    """Everything that has a state: statistics of batches, random numbers, a table, an index of the user's own."""

    def __init__(self):
        self.table = nn.Embedding(7, 4, rng=0)
        self.layers = [nn.BatchNorm1d(4), nn.Dropout(0.3), nn.Linear(4, 3, rng=1)]
        self.scale = Parameter(ones(5))

    def __call__(self, ids, rows, matrix):
        x = self.table(ids)
        for layer in self.layers:
            x = layer(x)
        return x * self.scale[rows][:, None] + np.sum(np.linalg.cholesky(matrix))


MATRIX = np.eye(2, dtype=np.float32)
MISTAKES = {
    "id": {"ids": np.array([0, 9, 1, 2])},
    "class": {"targets": np.array([0, 1, 5, 2])},
    "row": {"rows": np.array([0, 1, 2, 8])},
    "matrix": {"matrix": -MATRIX},
}
BATCH = {"ids": np.arange(4), "targets": np.array([0, 1, 2, 1]), "rows": np.arange(4), "matrix": MATRIX}


def trained(make):
    sadl.random.seed(0)
    model = Network()
    o = make(model)
    schedule = schedules.ExponentialLR(o, 0.9)

    @sadl.compile
    def step(ids, targets, rows, matrix):
        o.zero_grad()
        loss = F.cross_entropy(model(ids, rows, matrix), targets)
        loss.backward()
        o.step()
        schedule.step()
        return loss

    def state():
        grads = [p.grad for p in model.parameters]
        kept = (model.get_state(), o.get_state(), schedule.get_state(), sadl.random.get_state())
        return [np.array(x) for x in (*grads, *(x for values in kept for x in values.values()))]

    return step, state


@pytest.mark.parametrize(
    "make", [lambda f: optimizer.SGD(f, 0.1, momentum=0.9, nesterov=True), optimizer.AdamW], ids=["SGD", "AdamW"]
)
def test_an_error_in_a_running_step_leaves_everything_as_it_was(make):
    """Parameters, gradients, statistics, the state of optimizer, schedule and generator: to the bit."""
    step, state = trained(make)
    for _ in range(3):
        step(**BATCH)
    assert step.stats.programs == 1
    before = state()
    for name, mistake in MISTAKES.items():
        with pytest.raises((IndexError, np.linalg.LinAlgError)):
            step(**{**BATCH, **mistake})
        assert all(np.array_equal(a, b) for a, b in zip(before, state(), strict=True)), name
    step(**BATCH)
    after = state()
    assert not all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    other, other_state = trained(make)
    for _ in range(4):
        other(**BATCH)
    assert all(np.array_equal(a, b) for a, b in zip(after, other_state(), strict=True))
