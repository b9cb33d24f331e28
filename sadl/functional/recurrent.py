"""Recurrent networks: one step of a cell, and a cell run along sequences.

Takes inputs (N, input) or sequences (N, T, input), a state, and weights as torch has them, gate after gate; gives the
new state, or all outputs and the last state. Layers and directions are left to `nn`.

The products of all inputs with their weights are one product; only that of the state has to wait for the step before.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from sadl.errors import ShapeError, explain
from sadl.functional.activation import relu
from sadl.functional.checks import class_indices, floating, shape_of
from sadl.ops.indexing import Asker, require_indices
from sadl.ops.movement import unstack
from sadl.tape import as_array, bind

State = tuple[Any, ...]


def rnn_cell(
    x: Any, h: Any, W_ih: Any, W_hh: Any, b_ih: Any = None, b_hh: Any = None, nonlinearity: str = "tanh"
) -> Any:
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh): `x` (N, input), `h` (N, hidden); result (N, hidden).

    Args:
        x, h: the input and the state before it.
        W_ih, W_hh: (hidden, input) and (hidden, hidden).
        b_ih, b_hh: (hidden,) each, or None.
        nonlinearity: "tanh", or "relu" in its place.
    Raises:
        ShapeError: the shapes do not fit together.
        ValueError: another nonlinearity.
    """
    return _cell("rnn_cell", kind_of("rnn_cell", nonlinearity), x, (h,), W_ih, W_hh, b_ih, b_hh)[0]


def lstm_cell(x: Any, state: Any, W_ih: Any, W_hh: Any, b_ih: Any = None, b_hh: Any = None) -> State:
    """One step of long short-term memory: `x` (N, input), state (h, c) of (N, hidden) each; the new state.

    With (i, f, g, o) = W_ih x + b_ih + W_hh h + b_hh: c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = sigmoid(o) tanh(c').
    Hochreiter & Schmidhuber, "Long short-term memory", 1997, with the forget gate of Gers et al., 2000.
    Args:
        x, state: the input and the state before it.
        W_ih, W_hh: (4 hidden, input) and (4 hidden, hidden), the rows of i before those of f, g and o.
        b_ih, b_hh: (4 hidden,) each, or None.
    Raises:
        ShapeError: the shapes do not fit together.
    """
    return _cell("lstm_cell", "lstm", x, state, W_ih, W_hh, b_ih, b_hh)


def gru_cell(x: Any, h: Any, W_ih: Any, W_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
    """One step of a gated recurrent unit: `x` (N, input), `h` (N, hidden); result (N, hidden).

    With (r, z, n) = W_ih x + b_ih and (r', z', n') = W_hh h + b_hh, and u = sigmoid(z + z'):
    h' = (1 - u) tanh(n + sigmoid(r + r') n') + u h.
    Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014, in the form of cuDNN and torch, which
    apply r after the product.
    Args:
        x, h: the input and the state before it.
        W_ih, W_hh: (3 hidden, input) and (3 hidden, hidden), the rows of r before those of z and n.
        b_ih, b_hh: (3 hidden,) each, or None.
    Raises:
        ShapeError: the shapes do not fit together.
    """
    return _cell("gru_cell", "gru", x, (h,), W_ih, W_hh, b_ih, b_hh)[0]


def unroll(
    kind: str,
    x: Any,
    state: Any,
    W_ih: Any,
    W_hh: Any,
    b_ih: Any = None,
    b_hh: Any = None,
    reverse: bool = False,
    lengths: Any = None,
) -> tuple[Any, State]:
    """A cell run along sequences `x` (N, T, input): (all h, of shape (N, T, hidden); the last state).

    Args:
        kind: "rnn", "rnn_relu", "lstm" or "gru"; what the weights are is said at `rnn_cell` and the other cells.
        x: T >= 1 inputs for each of N sequences.
        state: the state before the first input, (h,) or (h, c).
        reverse: begin with the last input; the outputs stay in the order of the inputs.
        lengths: (N,) integers from 0 to T: how many of the first inputs belong to each sequence. What is behind them
            counts for nothing: outputs there are 0, the last state is that at the end (with `reverse`, at the start)
            of the sequence itself. All T if None.
    Raises:
        ShapeError: the shapes do not fit together.
        ValueError: another kind.
        IndexError: a length is not in 0 .. T.
    """
    if kind not in _STEPS:
        raise ValueError(explain("unroll", f"no kind {kind!r}", ", ".join(map(repr, _STEPS))))
    x, state = floating(kind, x), _floats(kind, state)
    if len(shape_of(x)) != 3 or shape_of(x)[1] < 1:
        raise ShapeError(explain(kind, f"an input of shape {shape_of(x)} was given", "(N, T, input) with T >= 1"))
    seen = None if lengths is None else _within(kind, x, lengths)
    x = x if seen is None else np.where(seen, x, 0)  # NaN in what does not count would make gradients NaN
    gates, step = _prepare(kind, kind, x, state, W_ih, W_hh, b_ih, b_hh)
    inputs, outs = bind(unstack, gates, axis=1), []
    masks = [None] * len(inputs) if seen is None else bind(unstack, seen, axis=1)
    for z, mask in list(zip(inputs, masks, strict=True))[:: -1 if reverse else 1]:
        new = step(z, *state)
        state = new if mask is None else tuple(np.where(mask, a, b) for a, b in zip(new, state, strict=True))
        outs.append(state[0])
    y = np.stack(outs[::-1] if reverse else outs, 1)
    return y if seen is None else np.where(seen, y, 0), state


def _within(op: str, x: Any, lengths: Any) -> Any:
    """Which inputs belong to their sequences: (N, T, 1)."""
    lengths, (n, steps) = class_indices(op, lengths, "lengths", "lengths"), shape_of(x)[:2]
    if shape_of(lengths) != (n,):
        what = f"lengths of shape {shape_of(lengths)} were given for {n} sequences"
        raise ShapeError(explain(op, what, f"one integer per sequence: shape ({n},)"))
    asker = Asker(op, "a length", f"sequences of {steps} inputs", "the number of inputs before the padding")
    require_indices(lengths, steps + 1, 0, asker=asker)
    return np.arange(steps)[:, None] < np.reshape(lengths, (n, 1, 1))


def kind_of(op: str, nonlinearity: str) -> str:
    """The kind of a simple recurrent network by its nonlinearity."""
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(explain(op, f"no nonlinearity {nonlinearity!r}", '"tanh" or "relu"'))
    return "rnn" if nonlinearity == "tanh" else "rnn_relu"


def parts_of(op: str, state: Any) -> State:
    """A state as the tuple of its parts."""
    if not np.iterable(state) or isinstance(state, str):
        raise TypeError(explain(op, f"a state of type {type(state).__name__} was given", "the tuple of its parts"))
    return tuple(as_array(part) for part in state)


def _floats(op: str, state: Any) -> State:
    return tuple(floating(op, part, "a state") for part in parts_of(op, state))


def _cell(op: str, kind: str, x: Any, state: Any, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any) -> State:
    x, state = floating(op, x), _floats(op, state)
    if len(shape_of(x)) != 2:
        raise ShapeError(explain(op, f"an input of shape {shape_of(x)} was given", "(N, input)"))
    gates, step = _prepare(op, kind, x, state, W_ih, W_hh, b_ih, b_hh)
    return step(gates, *state)


# ---- one step, given the products of the inputs ---------------------------------------------------------------------


def _rnn_step(z: Any, u: Any, h: Any) -> State:
    return (np.tanh(z + u),)


def _rnn_relu_step(z: Any, u: Any, h: Any) -> State:
    return (relu(z + u),)


def _lstm_step(z: Any, u: Any, h: Any, c: Any) -> State:
    i, f, g, o = _gates(z + u, 4)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


def _gru_step(z: Any, u: Any, h: Any) -> State:
    (r, v, n), (r_h, v_h, n_h) = _gates(z, 3), _gates(u, 3)
    new, keep = np.tanh(n + _sigmoid(r + r_h) * n_h), _sigmoid(v + v_h)
    return (new + keep * (h - new),)


def _gates(z: Any, n: int) -> Any:
    """The n blocks of columns."""
    return bind(unstack, np.reshape(z, (len(z), n, z.shape[1] // n)), axis=1)


def _sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)) in three operations. Near 0 it has fewer digits than `sigmoid`, where a gate is shut."""
    return 0.5 * np.tanh(0.5 * x) + 0.5


_STEPS: dict[str, tuple[int, int, Callable[..., State]]] = {  # kind: (gates, parts of the state, step)
    "rnn": (1, 1, _rnn_step),
    "rnn_relu": (1, 1, _rnn_relu_step),
    "lstm": (4, 2, _lstm_step),
    "gru": (3, 1, _gru_step),
}


def _prepare(
    op: str, kind: str, x: Any, state: State, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any
) -> tuple[Any, Callable[..., State]]:
    """The gates as far as the inputs decide them, and the step from there."""
    gates, parts, step = _STEPS[kind]
    _require_fit(op, x, state, parts, gates, W_ih, W_hh, b_ih, b_hh)
    late = kind == "gru"  # b_hh belongs to the product with the state, which a gate multiplies
    biases = [b for b in (b_ih, None if late else b_hh) if b is not None]
    z, W = np.matmul(np.reshape(x, (-1, x.shape[-1])), np.transpose(W_ih)), np.transpose(W_hh)
    for b in biases:
        z = z + b
    product = (lambda h: np.matmul(h, W) + b_hh) if late and b_hh is not None else (lambda h: np.matmul(h, W))
    z = np.reshape(z, (*x.shape[:-1], len(W_ih)))
    return z, lambda z, *state: step(z, product(state[0]), *state)


def _require_fit(
    op: str, x: Any, state: Any, parts: int, gates: int, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any
) -> None:
    n, size = shape_of(x)[0], shape_of(x)[-1]
    hidden = shape_of(W_hh)[-1] if shape_of(W_hh) else 0
    need: dict[str, tuple[int, ...]] = {"W_ih": (gates * hidden, size), "W_hh": (gates * hidden, hidden)}
    need |= {name: (gates * hidden,) for name, b in (("b_ih", b_ih), ("b_hh", b_hh)) if b is not None}
    found = {"W_ih": W_ih, "W_hh": W_hh, "b_ih": b_ih, "b_hh": b_hh}
    wrong = [
        f"{k} of shape {shape_of(found[k])}, not {shape}" for k, shape in need.items() if shape_of(found[k]) != shape
    ]
    shapes = [shape_of(s) for s in state]
    if shapes != [(n, hidden)] * parts:
        wrong.append(f"a state of shapes {shapes}, not {[(n, hidden)] * parts}")
    if wrong:
        what = f"an input of shape {shape_of(x)} and {hidden} hidden units do not go with " + "; ".join(wrong)
        raise ShapeError(explain(op, what, "weights and states of those shapes"))
