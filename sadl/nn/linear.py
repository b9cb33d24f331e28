"""The linear layer and how its weights start.

Takes (..., dim_in) and gives (..., dim_out). The product itself is in `functional`.
"""

from math import sqrt
from typing import Any

import numpy as np

from sadl import functional, random
from sadl.errors import ShapeError, explain
from sadl.function import Function
from sadl.tape import plain
from sadl.tensor import Parameter


def glorot_uniform(shape: tuple[int, int], dtype: Any, rng: Any = None) -> np.ndarray:
    """Uniform in +-sqrt(6 / (fan_in + fan_out)), for a matrix (fan_in, fan_out), as an array of `dtype`.

    Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010,
    equation 16. Drawn in float64 and then rounded, so that all dtypes start from the same numbers.
    """
    bound = sqrt(6 / sum(shape))
    return random.generator(rng).uniform(-bound, bound, shape).astype(dtype)


class Linear(Function):
    """x @ W + b, for an input of any rank >= 1.

    Args:
        dim_in, dim_out: sizes of the last axis of the input and of the result, >= 1.
        bias: whether there is a `b`; it starts at zero.
        dtype: floating dtype of the parameters.
        rng: a numpy.random.Generator or a seed for the first values of `W`; that of `sadl.random` if None.
    Attributes:
        W: Parameter (dim_in, dim_out), Glorot uniform.
        b: Parameter (dim_out,), or None.
    Raises:
        ValueError: a size below 1 or a dtype that is not floating; at the call, an input that does not end in dim_in.
    """

    INPUT_N_DIM = 2

    def __init__(
        self, *, dim_in: int, dim_out: int, bias: bool = True, dtype: Any = np.float32, rng: Any = None
    ) -> None:
        if not all(isinstance(n, (int, np.integer)) and n >= 1 for n in (dim_in, dim_out)):
            what = f"sizes must be whole numbers >= 1, found dim_in={dim_in} and dim_out={dim_out}"
            raise ValueError(explain("Linear", what))
        self.dim_in, self.dim_out = dim_in, dim_out
        self.W = Parameter(glorot_uniform((dim_in, dim_out), dtype, rng))
        self.b = Parameter(np.zeros(dim_out, dtype)) if bias else None

    def __call__(self, x: Any) -> Any:
        """(..., dim_in) -> (..., dim_out)."""
        shape = np.shape(plain(x))
        if shape[-1:] != (self.dim_in,):
            what = f"Linear(dim_in={self.dim_in}, dim_out={self.dim_out}) was given an input of shape {shape}"
            raise ShapeError(explain("Linear", what, f"an input of shape (..., {self.dim_in})"))
        return functional.linear(x, self.W, self.b)
