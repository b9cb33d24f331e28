"""The linear layer.

Takes (..., dim_in) and gives (..., dim_out). The product itself is in `functional`, first values are in `init`.
"""

from typing import Any

import numpy as np

from sadl import functional
from sadl.errors import ShapeError, explain
from sadl.function import Function
from sadl.functional.checks import flag, floating_dtype, in_dtype_of, require_sizes, shape_of
from sadl.nn.init import Initializer, initial
from sadl.tensor import Parameter


class Linear(Function):
    """x @ W + b, for an input of any rank >= 1. Integers and bools are computed in the dtype of `W`.

    Args:
        dim_in, dim_out: sizes of the last axis of the input and of the result, >= 1.
        bias: whether there is a `b`; it starts at zero.
        dtype: floating dtype of the parameters.
        rng: a numpy.random.Generator or a seed for the first values of `W`; that of `sadl.random` if None.
        init: what `W` is drawn from: a name of `nn.init`, or a function (shape, dtype, rng).
    Attributes:
        W: Parameter (dim_in, dim_out), Glorot uniform (Glorot & Bengio 2010) by default.
        b: Parameter (dim_out,), or None.
    Raises:
        ValueError: a size below 1 or a dtype that is not floating; at the call, an input that does not end in dim_in.
    """

    INPUT_N_DIM = 2  # the rank that py-sadl asks of inputs; kept for code that reads it

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        *,
        bias: bool = True,
        dtype: Any = np.float32,
        rng: Any = None,
        init: str | Initializer = "xavier_uniform",
    ) -> None:
        require_sizes("Linear", dim_in=dim_in, dim_out=dim_out)
        dtype, bias = floating_dtype("Linear", dtype), flag("Linear", "bias", bias)
        self.dim_in, self.dim_out = dim_in, dim_out
        self.W = Parameter(initial(init, (dim_in, dim_out), dtype, rng))
        self.b = Parameter(np.zeros(dim_out, dtype)) if bias else None

    def __call__(self, x: Any) -> Any:
        """(..., dim_in) -> (..., dim_out)."""
        shape = shape_of(x)
        if shape[-1:] != (self.dim_in,):
            what = f"Linear(dim_in={self.dim_in}, dim_out={self.dim_out}) was given an input of shape {shape}"
            raise ShapeError(explain("Linear", what, f"an input of shape (..., {self.dim_in})"))
        return functional.linear(in_dtype_of(self.W, x), self.W, self.b)
