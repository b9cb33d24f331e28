"""What the tests of the compiler work on: a corpus of captured graphs, random programs, models and training steps.

Takes nothing; gives cases by name, the inputs of a graph, strategies for Hypothesis, and `close` to compare results.
What must hold of them is left to the tests.
"""

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

import sadl
import sadl.functional as F

rng = np.random.default_rng(7)
X, Y = rng.standard_normal((4, 6)).astype(np.float32), np.array([2, 0, 5, 1])
CUBE = rng.standard_normal((2, 3, 4)).astype(np.float32)
SQUARE = rng.standard_normal((3, 3))
INTS = np.arange(-6, 6).reshape(3, 4)
SMALL = np.array([[1, -128, 127], [0, 3, -3]], np.int8)
AXES = [None, *((i,) for i in range(3)), (0, 1), (0, 2), (1, 2), (0, 1, 2)]


def close(got: Any, expected: Any, scale: float = 1.0) -> bool:
    """Whether two arrays have the same shape, dtype and, up to rounding, values; `scale` widens the tolerance."""
    got, expected = np.asarray(got), np.asarray(expected)
    if (got.shape, got.dtype) != (expected.shape, expected.dtype):
        return False
    if got.dtype.kind not in "fc":
        return np.array_equal(got, expected)
    finite = np.abs(expected[np.isfinite(expected)])
    eps = scale * (2e-6 if got.dtype.itemsize <= 4 else 1e-13)
    return np.allclose(got, expected, rtol=eps, atol=eps * np.max(finite, initial=1), equal_nan=True)


def inputs_of(graph: Any, *args: Any) -> list[np.ndarray]:
    """Arrays for all inputs of `graph`: copies of `args`, then numbers above 0 for what the function held on to."""
    fill = np.random.default_rng(1)
    held = [np.asarray(fill.uniform(0.1, 1.0, v.aval.shape)).astype(v.aval.dtype) for v in graph.inputs[len(args) :]]
    return [*(np.array(a) for a in args), *held]


# ---- models and steps ----------------------------------------------------------------------------------------------


def mlp(dtype: Any = np.float32, sizes: tuple[int, ...] = (6, 5, 3)) -> sadl.Mlp:
    layers: list[Any] = []
    for n, (i, o) in enumerate(zip(sizes, sizes[1:], strict=False)):
        layers += [sadl.ReLU()] if layers else []
        layers.append(sadl.Linear(dim_in=i, dim_out=o, dtype=dtype, rng=n))
    return sadl.Mlp(layers)


def training_step(model: Any, optimizer: Any) -> Any:
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def batches(n: int, size: int = 8, dtype: Any = np.float32) -> list[tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(0)
    return [(draw.standard_normal((size, 6)).astype(dtype), draw.integers(0, 3, size)) for _ in range(n)]


def values(*holders: Any) -> list[np.ndarray]:
    """Copies of everything that models and optimizers hold."""
    return [np.array(t) for holder in holders for t in holder.get_state().values()]


# ---- the corpus ----------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    make: Any  # gives a fresh function, with state of its own
    args: tuple[Any, ...]


def of(fn: Any, *args: Any) -> Case:
    return Case(lambda: fn, args)


def _xent(x: Any, y: Any) -> Any:
    return sadl.value_and_grad(lambda x: F.cross_entropy(x, y))(x)


def _layer_norm(x: Any, scale: Any, shift: Any) -> Any:
    def forward(x: Any, scale: Any, shift: Any) -> Any:
        d = x - np.mean(x, axis=-1, keepdims=True)
        return np.sum(np.square(d / np.sqrt(np.mean(d * d, axis=-1, keepdims=True) + 1e-5) * scale + shift))

    return sadl.value_and_grad(forward, (0, 1, 2))(x, scale, shift)


def _views(x: Any) -> Any:
    flipped = np.swapaxes(x, 0, 2)[::-1, 1:, None]
    return flipped * 2, np.reshape(np.transpose(x, (1, 0, 2)), (3, -1)) + 1, x[1, 2, 3] + x[0, ..., -1], x.T


def _indexed(x: Any, i: Any) -> Any:
    return x[i], np.take_along_axis(x, i[:, None], 1), sadl.grad(lambda x: np.sum(x[i] * x[i]))(x)


def _parts(x: Any) -> Any:
    """Splits, joins and margins, and the gradient through them."""

    def forward(x: Any) -> Any:
        a, b, c = np.split(x * 2, [1, 3], axis=1)
        joined = np.concatenate([np.tanh(a), np.exp(c.T).T, b, x[:, :1]], axis=1)
        rows = np.stack([x[:, 0], x[1, 2:], x[:, 3] * 2])
        return joined, rows, np.pad(x[1:, 1:3], ((1, 0), (2, 1))), np.concatenate([b.reshape(-1), c[0]])

    def total(x: Any) -> Any:
        left = sum((k + 1) * np.sum(x[:, k] ** 2) for k in range(x.shape[1]))
        return left + sum(np.sum(np.sin(y) * np.cos(np.arange(y.size)).reshape(y.shape)) for y in forward(x))

    return *forward(x), sadl.grad(total)(x)


def _gelu_norm(x: Any, w: Any) -> Any:
    """What a backward can compute again: cheap values that the forward has left."""

    def forward(x: Any, w: Any) -> Any:
        d = x - np.mean(x, axis=-1, keepdims=True)
        y = d / np.sqrt(np.mean(d * d, axis=-1, keepdims=True) + 1e-5)
        return np.sum(F.gelu(np.cumsum(y, axis=0) @ w, "tanh") ** 2)

    return sadl.value_and_grad(forward, (0, 1))(x, w)


def _in_place(x: Any) -> Any:
    y = x * 1
    y += 2
    y[1] = 0
    y[:, 2:] = y[:, 2:] * 3
    return y, x


@sadl.no_grad()
def _libraries(x: Any) -> Any:
    return np.sort(x, axis=1) * 2, np.cumsum(x, axis=0), np.linalg.svd(x)[1]


def _states(update: Any) -> Any:
    """A step that updates two states in place by `update(a, b, x)`, which gives their new values."""

    def make() -> Any:
        a, b = sadl.tensor(np.arange(9.0).reshape(3, 3)), sadl.tensor(np.ones((3, 3)))

        def step(x: Any) -> Any:
            a[...], b[...] = update(a, b, x)
            return a * 2

        return step

    return make


def _training(optimizer: Any, dtype: Any = np.float32) -> Any:
    def make() -> Any:
        model = mlp(dtype)
        return training_step(model, optimizer(model))

    return make


CORPUS: dict[str, Case] = {
    "elementwise": of(lambda x, b, c: np.tanh(x * b + c) / 2 - np.exp(-x * x), X, X[0], X[:, :1]),
    "softmax_xent": of(_xent, X, Y),
    "layer_norm": of(_layer_norm, X, X[0], X[1]),
    "sums": of(lambda x: [np.sum(x, axis=a, keepdims=k) for a in AXES for k in (False, True)], CUBE),
    "extremes": of(lambda x: [f(x, axis=a) for a in AXES for f in (np.max, np.min)], CUBE),
    "max_gradient": of(lambda x: sadl.grad(lambda x: np.sum(np.max(x, 1) * np.min(x, 0)))(x), SQUARE),
    "anys": of(lambda x: [f(x > 0, axis=a) for a in AXES for f in (np.any, np.all)], CUBE),
    "views": of(_views, CUBE),
    "products": of(lambda x: (x.T @ x, x @ x.T + 1, x[0] @ x[1], np.stack([x, x]) @ x.T), X),
    "sgd": Case(_training(lambda m: sadl.SGD(m, lr=0.1, momentum=0.9, weight_decay=0.01)), batches(1)[0]),
    "adam": Case(_training(lambda m: sadl.Adam(m, lr=0.1)), batches(1)[0]),
    "integers": of(lambda x, y: (x + y, x * y - 3, x // 3, x % 3, x / 4, -x, x**2, np.abs(x), x & 5), INTS, INTS[1]),
    "small_integers": of(lambda x: (x + x, x * x, x + np.int64(1), np.sum(x), np.max(x, 0), x / 2, -x), SMALL),
    "bools": of(lambda x: ((x > 0) | ~(x < 2), (x > 0) * x, np.sum(x > 1, axis=0), (x > 0) + (x < 1)), INTS),
    "where_clip": of(lambda x: (np.where(x > 0, x, 0), np.clip(x, -1, 0.5), np.where(x > 0, 1, x * 2.0)), X),
    "statistics": of(
        lambda x: (np.mean(x, 0), np.var(x, 1, ddof=1), np.std(x), np.mean(x, (0, 2), keepdims=True)), CUBE
    ),
    "indexed": of(_indexed, X, np.array([3, -1, 0, 0])),
    "rows": of(lambda x, i: (x[i], x[i[0]], sadl.grad(lambda x: np.sum(x[i] ** 2))(x)), X, np.array([[3, -1], [0, 0]])),
    "parts": of(_parts, SQUARE @ SQUARE[:, [0, 1, 2, 0, 1]][:3]),
    "recomputed": of(_gelu_norm, X, X.T),
    "totals": of(
        lambda x, y: (np.mean(x * y), np.max(x + 1), np.any(x > 2), np.sum(x, keepdims=True), x * 2 - 1), X, X[0]
    ),
    "total_of_a_row": of(lambda x: (np.sum(x * x) / 24, x * 3, np.min(x)), X.reshape(-1)),
    "in_place": of(_in_place, X),
    "libraries": of(_libraries, X),
    "state": Case(_states(lambda a, b, x: (a * 0.9 + x, b + a)), (SQUARE,)),
    "state_total": Case(_states(lambda a, b, x: (a * 0.9 + x, b + np.sum(a * x))), (SQUARE,)),
    "state_swap": Case(_states(lambda a, b, x: (b.copy(), a.copy())), (SQUARE,)),
    "state_reversed": Case(_states(lambda a, b, x: (a[::-1] + x, b.T * a)), (SQUARE,)),
    "casts": of(lambda x: (x.astype(np.float64) * x, np.float64(1) * x, (x > 0).astype(np.float32) - x), X),
    "nothing": of(lambda x: (x, x * 1, np.reshape(x, x.shape), np.full_like(x, 3)), X),
    "scalars": of(lambda x: (x * 2 + 1, np.sqrt(x), x[None], np.sum(x)), np.array(2.5)),
    "empty": of(lambda x: (x * 2, np.sum(x, axis=0), np.sum(x)), np.zeros((0, 3))),
}


def graph_of(name: str) -> tuple[Any, list[np.ndarray]]:
    """The captured graph of a case, and arrays for its inputs."""
    make, args = CORPUS[name]
    graph = sadl.make_ir(make())(*(np.array(a) for a in args))
    return graph, inputs_of(graph, *args)


# ---- random programs -----------------------------------------------------------------------------------------------

UNARY: dict[str, Any] = {
    "negative": lambda x: -x,
    "square": np.square,
    "exp": lambda x: np.exp(np.minimum(x, 3)),
    "tanh": np.tanh,
    "root": lambda x: np.sqrt(np.absolute(x) + 1),
    "relu": lambda x: np.where(x <= 0, 0, x),
    "clip": lambda x: np.clip(x, -1, 1),
    "positive": lambda x: x > 0.3,
    "half": lambda x: x * 0.5,
    "plus_one": lambda x: 1 + x,
    "double": lambda x: x * np.float64(1.0),
    "single": lambda x: np.astype(x, np.float32),
    "wide": lambda x: np.astype(x, np.float64),
    "rounded": lambda x: np.astype(np.rint(np.tanh(x) * 3), np.int64),
    "byte": lambda x: np.astype(np.rint(np.tanh(x) * 3), np.int8),
    "power": lambda x: (np.absolute(x) + 1) ** -1,
    "copy": np.copy,
    "flat": lambda x: np.reshape(x, -1),
    "transpose": np.transpose,
    "inner": lambda x: np.swapaxes(x, 0, 1),
    "more": lambda x: x[:, None],
    "last": lambda x: x[..., None],
    "first": lambda x: x[0],
    "element": lambda x: x[0, 1],
    "reversed": lambda x: x[::-1],
    "tail": lambda x: x[..., 1:],
    "spread": lambda x: np.broadcast_to(x, (2, *x.shape)),
    "squeeze": np.squeeze,
    "sum": np.sum,
    "sum_first": lambda x: np.sum(x, axis=0),
    "sum_last": lambda x: np.sum(x, axis=-1, keepdims=True),
    "sum_outer": lambda x: np.sum(x, axis=(0, 2)),
    "max_last": lambda x: np.max(x, axis=-1, keepdims=True),
    "min_first": lambda x: np.min(x, axis=0),
    "mean": lambda x: np.mean(x, axis=1, keepdims=True),
    "var": lambda x: np.var(x, axis=-1),
    "any": lambda x: np.any(x, axis=0, keepdims=True),
    "all": lambda x: np.all(x, axis=-1),
    "twice": lambda x: np.concatenate([x, x * 2], axis=-1),
    "running": lambda x: np.cumsum(x, axis=0),
    "set": lambda x: _set(x),
}
BINARY: dict[str, Any] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "ratio": lambda x, y: x / (1 + np.square(y)),
    "maximum": np.maximum,
    "less": np.less,
    "equal": np.equal,
    "choose": lambda x, y: np.where(x > 0, x, y),
    "both": np.logical_and,
    "product": np.matmul,
}


def _set(x: Any) -> Any:
    y = x * 1
    y[0] = 1
    y += 1
    return y


ALONG_ONE = {"sum_first", "sum_last", "max_last", "min_first", "var", "any", "all"}  # they need an axis, unlike NumPy's


class Drawn(NamedTuple):
    """A random function of one argument list, as the names of what it does to which of its values."""

    steps: tuple[tuple[str, tuple[int, ...]], ...]
    outs: tuple[int, ...]
    args: tuple[np.ndarray, ...]

    def __call__(self, *args: Any) -> list[Any]:
        found = list(args)
        for name, places in self.steps:
            found.append({**UNARY, **BINARY}[name](*(found[i] for i in places)))
        return [found[i] for i in self.outs]

    def graph(self) -> Any:
        with sadl.no_grad():
            return sadl.make_ir(self)(*(a.copy() for a in self.args))


_SHAPES, _DTYPES = [(3, 4), (4,), (3, 1), (2, 3, 4), ()], ["f4", "f4", "f8", "i8", "i1", "?"]


@st.composite
def programs(draw: Any, names: Any = (*UNARY, *BINARY, *BINARY)) -> Drawn:
    """Functions of one to three arrays that NumPy can run without an error."""
    args, found, steps = [], [], []
    for _ in range(draw(st.integers(1, 3))):
        shape, dtype = draw(st.sampled_from(_SHAPES)), np.dtype(draw(st.sampled_from(_DTYPES)))
        numbers = np.arange(np.prod(shape, dtype=int)) * draw(st.integers(-5, 5)) % 9 - draw(st.integers(0, 8))
        args.append(np.asarray(numbers / (2 if dtype.kind == "f" else 1)).reshape(shape).astype(dtype))
    found += args
    for name, i, j in draw(
        st.lists(st.tuples(st.sampled_from(names), st.integers(0, 9), st.integers(0, 9)), max_size=8)
    ):
        last = len(found) - 1
        places = (
            (last if i > 4 else i % len(found),)
            if name in UNARY
            else (i % len(found), last if j > 4 else j % len(found))
        )
        value = _tried(name, [found[p] for p in places])
        if value is not None:
            found.append(value)
            steps.append((name, places))
    outs = {len(found) - 1, *draw(st.lists(st.integers(len(args) - 1, len(found) - 1), max_size=2))}
    return Drawn(tuple(steps), tuple(sorted(outs)), tuple(args))


def _tried(name: str, operands: list[np.ndarray]) -> np.ndarray | None:
    """The result where NumPy gives one, of a size and dtype that are worth a test."""
    if name in ALONG_ONE and operands[0].ndim == 0:
        return None
    try:
        with np.errstate(all="ignore"):
            value = np.asarray({**UNARY, **BINARY}[name](*operands))
    except (ValueError, TypeError, IndexError):
        return None
    return value if value.size <= 200 and value.dtype.kind in "fib" and value.dtype != np.float16 else None
