"""Recurrent layers: cells, and stacks of them run along sequences in one or both directions.

Takes inputs (N, input) or sequences (N, T, input); gives states, or all outputs and the last states.
The arithmetic is in `functional`, first values are in `init`.
"""

import math
from typing import Any

import numpy as np

from sadl import functional, random
from sadl.errors import ShapeError, explain
from sadl.function import Function
from sadl.functional.checks import flag, floating_dtype, in_dtype_of, number, require_sizes, shape_of
from sadl.functional.recurrent import kind_of, parts_of, unroll
from sadl.nn.init import uniform
from sadl.ops.movement import unstack
from sadl.tape import bind
from sadl.tensor import Parameter

State = tuple[Any, ...]


class _Cell(Function):
    """The weights of `GATES` gates."""

    GATES, PARTS, kind = 1, 1, "rnn"  # the parts of the state; as `unroll` calls it

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, dtype: Any = np.float32, rng: Any = None
    ) -> None:
        require_sizes(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        dtype, bias = floating_dtype(type(self).__name__, dtype), flag(type(self).__name__, "bias", bias)
        rng = None if rng is None else random.generator(rng)
        bound, rows = 1 / math.sqrt(hidden_size), self.GATES * hidden_size
        draw = lambda *shape: Parameter(uniform(shape, dtype, rng, -bound, bound))
        self.input_size, self.hidden_size = input_size, hidden_size
        self.W_ih, self.W_hh = draw(rows, input_size), draw(rows, hidden_size)
        self.b_ih = draw(rows) if bias else None
        self.b_hh = draw(rows) if bias else None

    @property
    def weights(self) -> tuple[Any, Any, Any, Any]:
        return self.W_ih, self.W_hh, self.b_ih, self.b_hh

    def _given(self, x: Any, state: Any) -> tuple[Any, State]:
        """The input and the state before it, which is 0 if not given."""
        shape, name = shape_of(x), type(self).__name__
        if len(shape) != 2 or shape[1] != self.input_size:
            what = f"{name}({self.input_size}, {self.hidden_size}) was given an input of shape {shape}"
            raise ShapeError(explain(name, what, f"an input of shape (N, {self.input_size})"))
        return in_dtype_of(self.W_hh, x), self.zeros(shape[0]) if state is None else self.own(name, state)

    def own(self, op: str, state: Any) -> State:
        """The parts of a state; those of integers and bools in the dtype of the weights."""
        return tuple(in_dtype_of(self.W_hh, part) for part in parts_of(op, state))

    def zeros(self, n: int) -> State:
        """The state before the first input of `n` sequences, if none is given."""
        return (np.zeros((n, self.hidden_size), self.W_hh.dtype),) * self.PARTS


def _alone(op: str, h: Any) -> State | None:
    """A state of one part as a tuple."""
    if isinstance(h, tuple):
        raise TypeError(explain(op, f"a state of {len(h)} parts was given as a tuple", "h itself, not a tuple"))
    return None if h is None else (h,)


class RNNCell(_Cell):
    """One step of a simple recurrent network, (N, input_size) and (N, hidden_size) -> (N, hidden_size); see
    `functional.rnn_cell`. Arguments and attributes as for `LSTMCell`, with weights of one gate.

    Args:
        nonlinearity: "tanh" or "relu".
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        nonlinearity: str = "tanh",
        dtype: Any = np.float32,
        rng: Any = None,
    ) -> None:
        self.nonlinearity, self.kind = nonlinearity, kind_of(type(self).__name__, nonlinearity)
        super().__init__(input_size, hidden_size, bias, dtype=dtype, rng=rng)

    def __call__(self, x: Any, h: Any = None) -> Any:
        """The new state; the one before is 0 if not given."""
        x, (h,) = self._given(x, _alone(type(self).__name__, h))
        return functional.rnn_cell(x, h, *self.weights, self.nonlinearity)


class LSTMCell(_Cell):
    """One step of long short-term memory; see `functional.lstm_cell`.

    Args:
        input_size, hidden_size: the sizes of inputs and states, >= 1.
        bias: whether there are `b_ih` and `b_hh`.
        dtype: floating dtype of the parameters.
        rng: a numpy.random.Generator or a seed for their first values; that of `sadl.random` if None.
    Attributes:
        W_ih, W_hh: Parameters (4 hidden_size, input_size) and (4 hidden_size, hidden_size): gates i, f, g, o in turn.
        b_ih, b_hh: Parameters (4 hidden_size,), or None.
        All are uniform in +-1 / sqrt(hidden_size), as torch's are.
    Raises:
        ValueError: a size below 1; at the call, an input or a state of another shape.
    """

    GATES, PARTS, kind = 4, 2, "lstm"

    def __call__(self, x: Any, state: Any = None) -> State:
        """(N, input_size) and the state (h, c) of (N, hidden_size) each -> the new state; 0 before if not given."""
        x, state = self._given(x, state)
        return functional.lstm_cell(x, state, *self.weights)


class GRUCell(_Cell):
    """One step of a gated recurrent unit, (N, input_size) and (N, hidden_size) -> (N, hidden_size); see
    `functional.gru_cell`. Arguments and attributes as for `LSTMCell`, with the gates r, z, n.
    """

    GATES, PARTS, kind = 3, 1, "gru"

    def __call__(self, x: Any, h: Any = None) -> Any:
        """The new state; the one before is 0 if not given."""
        x, (h,) = self._given(x, _alone(type(self).__name__, h))
        return functional.gru_cell(x, h, *self.weights)


class _Recurrent(Function):
    """Layers of cells, each with one or two directions."""

    CELL: type[_Cell]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: Any = np.float32,
        rng: Any = None,
        **options: Any,
    ) -> None:
        name = type(self).__name__
        require_sizes(name, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        self.dropout, self.batch_first = number(name, "dropout", dropout, 0, 1), flag(name, "batch_first", batch_first)
        rng = None if rng is None else random.generator(rng)
        directions = 2 if flag(name, "bidirectional", bidirectional) else 1
        bias = flag(name, "bias", bias)
        cell = lambda size: self.CELL(size, hidden_size, bias, dtype=dtype, rng=rng, **options)
        inputs = [input_size] + [directions * hidden_size] * (num_layers - 1)
        self.layers = [[cell(size) for _ in range(directions)] for size in inputs]

    def _run(self, x: Any, parts: Any, lengths: Any) -> tuple[Any, list[Any]]:
        """All outputs of the last layer, and the parts of the last states, like the `parts` of the first or None."""
        x = in_dtype_of(self.layers[0][0].W_hh, x)
        self._require_fit(x)
        x, lasts = x if self.batch_first else np.swapaxes(x, 0, 1), []
        states = iter(self._states(len(x), parts))
        for k, cells in enumerate(self.layers):
            x = functional.dropout(x, self.dropout, self.is_training()) if k and self.dropout else x
            runs = [unroll(c.kind, x, next(states), *c.weights, i == 1, lengths) for i, c in enumerate(cells)]
            x = runs[0][0] if len(runs) == 1 else np.concatenate([outs for outs, _ in runs], -1)
            lasts += [last for _, last in runs]
        return x if self.batch_first else np.swapaxes(x, 0, 1), [np.stack(ps) for ps in zip(*lasts, strict=True)]

    def _states(self, n: int, parts: Any) -> list[State]:
        """The first state of each cell."""
        cell, cells = self.layers[0][0], len(self.layers) * len(self.layers[0])
        if parts is None:
            return [cell.zeros(n)] * cells
        need, parts = (cells, n, cell.hidden_size), cell.own(type(self).__name__, parts)
        shapes = [shape_of(p) for p in parts]
        if shapes != [need] * cell.PARTS:
            what = f"a state of shapes {shapes} was given for {n} sequences and {cells} cells"
            raise ShapeError(explain(type(self).__name__, what, f"{cell.PARTS} of shape {need}"))
        return list(zip(*(bind(unstack, p, axis=0) for p in parts), strict=True))

    def _require_fit(self, x: Any) -> None:
        shape, size, name = shape_of(x), self.layers[0][0].input_size, type(self).__name__
        if len(shape) != 3 or shape[2] != size or shape[self.batch_first] == 0:
            what = f"{name}({size}, {self.layers[0][0].hidden_size}) was given an input of shape {shape}"
            need = f"an input of shape ({'N, T' if self.batch_first else 'T, N'}, {size}) with T >= 1"
            raise ShapeError(explain(name, what, need))


class RNN(_Recurrent):
    """Simple recurrent networks run along sequences: see `functional.rnn_cell`, and `LSTM` for the arguments.

    Args:
        nonlinearity: "tanh" or "relu".
    """

    CELL = RNNCell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        nonlinearity: str = "tanh",
        dtype: Any = np.float32,
        rng: Any = None,
    ) -> None:
        how = input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        super().__init__(*how, dtype=dtype, rng=rng, nonlinearity=nonlinearity)

    def __call__(self, x: Any, h: Any = None, *, lengths: Any = None) -> tuple[Any, Any]:
        """(N, T, input_size) and a first state -> all outputs and the last state, as for `LSTM`."""
        outs, parts = self._run(x, _alone(type(self).__name__, h), lengths)
        return outs, parts[0]


class LSTM(_Recurrent):
    """Long short-term memory run along sequences: see `functional.lstm_cell`.

    Args:
        input_size, hidden_size: the sizes of inputs and states, >= 1.
        num_layers: so many, each of which takes the outputs of the one before.
        bias: whether cells have biases.
        batch_first: whether sequences are (N, T, ...), which is the default (it is not in torch), or (T, N, ...).
        dropout: the probability with which each output of a layer but the last is set to 0, in training.
        bidirectional: each layer has a second cell, which runs from the last input to the first; outputs are joined.
        dtype, rng: as for `LSTMCell`.
    Attributes:
        layers: for each layer the list of its cells, one per direction; their weights are torch's.
    Raises:
        ValueError: a size below 1, or `dropout` not in [0, 1]; at the call, an input or a state of another shape.
        IndexError: at the call, a length that is more than T, or negative.
    """

    CELL = LSTMCell

    def __call__(self, x: Any, state: Any = None, *, lengths: Any = None) -> tuple[Any, State]:
        """(N, T, input_size) and a first state -> all h of the last layer (N, T, directions * hidden_size), last state.

        States are (h, c), each (num_layers * directions, N, hidden_size); the first is 0 if not given.
        `lengths` (N,) are those of sequences that are padded at their ends: what is behind them counts for nothing, in
        either direction. Outputs there are 0, and last states are those at the ends of the sequences themselves.
        """
        outs, parts = self._run(x, state, lengths)
        return outs, tuple(parts)


class GRU(_Recurrent):
    """Gated recurrent units run along sequences: see `functional.gru_cell`, and `LSTM` for the arguments."""

    CELL = GRUCell

    def __call__(self, x: Any, h: Any = None, *, lengths: Any = None) -> tuple[Any, Any]:
        """(N, T, input_size) and a first state -> all outputs and the last state, as for `LSTM`."""
        outs, parts = self._run(x, _alone(type(self).__name__, h), lengths)
        return outs, parts[0]
