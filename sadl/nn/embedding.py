"""A vector for each of a number of things, and for each position.

Takes integer ids of any shape, or vectors in a row; gives vectors. Looking up and sines are in `functional`.
"""

from typing import Any

import numpy as np

from sadl import functional
from sadl.errors import ShapeError, explain
from sadl.function import Function
from sadl.functional.checks import floating_dtype, in_dtype_of, require_sizes, shape_of
from sadl.functional.linear import require_padding
from sadl.nn.init import Initializer, initial
from sadl.tensor import Parameter


class Embedding(Function):
    """The row of `W` for each id: integers of any shape give (*shape, dim).

    Args:
        num_embeddings: how many ids there are: 0 to num_embeddings - 1.
        dim: the size of each vector.
        padding_idx: an id whose vector starts as 0 and gets no gradient from being looked up; None for none.
        dtype, rng, init: as for `Linear`.
    Attributes:
        W: Parameter (num_embeddings, dim), normal with mean 0 and standard deviation 1 by default, as in torch.
    Raises:
        ValueError: a size below 1, a dtype that is not floating, or a `padding_idx` that is no id.
        IndexError, TypeError: at the call, an id that is out of range, or ids that are no integers.
    """

    def __init__(
        self,
        num_embeddings: int,
        dim: int,
        padding_idx: int | None = None,
        *,
        dtype: Any = np.float32,
        rng: Any = None,
        init: str | Initializer = "normal",
    ) -> None:
        require_sizes("Embedding", num_embeddings=num_embeddings, dim=dim)
        dtype = floating_dtype("Embedding", dtype)
        self.num_embeddings, self.dim, self.padding_idx = num_embeddings, dim, padding_idx
        first = initial(init, (num_embeddings, dim), dtype, rng)
        if padding_idx is not None:
            require_padding("Embedding", padding_idx, num_embeddings)
            first[padding_idx] = 0
        self.W = Parameter(first)

    def __call__(self, ids: Any) -> Any:
        return functional.embedding(ids, self.W, self.padding_idx)


class SinusoidalPositions(Function):
    """x plus sines and cosines of each position: (..., length, dim), for lengths up to `max_length`.

    Vaswani et al., 2017, section 3.5; see `functional.sinusoidal_positions`. There is nothing to learn or to save.
    Integers are computed in the layer's dtype.
    Raises:
        ValueError: a size below 1, or a dtype that is not floating.
        ShapeError: at the call, an input of another `dim`, or longer than `max_length`.
    """

    def __init__(self, dim: int, max_length: int, *, dtype: Any = np.float32) -> None:
        require_sizes("SinusoidalPositions", dim=dim, max_length=max_length)
        dtype = floating_dtype("SinusoidalPositions", dtype)
        self.dim, self.max_length = dim, max_length
        self.table = functional.sinusoidal_positions(max_length, dim, dtype)

    def __call__(self, x: Any) -> Any:
        shape = shape_of(x)
        if len(shape) < 2 or shape[-1] != self.dim or shape[-2] > self.max_length:
            who = f"SinusoidalPositions(dim={self.dim}, max_length={self.max_length})"
            need = f"an input of shape (..., length <= {self.max_length}, {self.dim})"
            raise ShapeError(explain("SinusoidalPositions", f"{who} was given an input of shape {shape}", need))
        return in_dtype_of(self.table, x) + self.table[: shape[-2]]
