"""Activations as layers, so that they can stand in a list of layers.

Takes an input of any shape; gives the same shape. The formulas are in `functional`.
"""

from typing import Any

from sadl import functional
from sadl.errors import explain
from sadl.function import Function
from sadl.functional.checks import factor, is_whole, number


class ReLU(Function):
    """max(0, x); see `functional.relu`."""

    def __call__(self, x: Any) -> Any:
        return functional.relu(x)


class LeakyReLU(Function):
    """x where x > 0, else negative_slope * x; see `functional.leaky_relu`. A Parameter as the slope is learned."""

    def __init__(self, negative_slope: Any = 0.01) -> None:
        self.negative_slope = factor("LeakyReLU", "negative_slope", negative_slope)

    def __call__(self, x: Any) -> Any:
        return functional.leaky_relu(x, self.negative_slope)


class ELU(Function):
    """x where x > 0, else alpha * (exp(x) - 1); see `functional.elu`."""

    def __init__(self, alpha: Any = 1.0) -> None:
        self.alpha = factor("ELU", "alpha", alpha)

    def __call__(self, x: Any) -> Any:
        return functional.elu(x, self.alpha)


class GELU(Function):
    """x times the normal distribution's probability of less than x; see `functional.gelu`."""

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(explain("GELU", f"no approximation {approximate!r}", '"none" or "tanh"'))
        self.approximate = approximate

    def __call__(self, x: Any) -> Any:
        return functional.gelu(x, self.approximate)


class SiLU(Function):
    """x * sigmoid(x); see `functional.silu`."""

    def __call__(self, x: Any) -> Any:
        return functional.silu(x)


class Sigmoid(Function):
    """1 / (1 + exp(-x)); see `functional.sigmoid`."""

    def __call__(self, x: Any) -> Any:
        return functional.sigmoid(x)


class Tanh(Function):
    """The hyperbolic tangent; see `functional.tanh`."""

    def __call__(self, x: Any) -> Any:
        return functional.tanh(x)


class Softplus(Function):
    """log(1 + exp(beta * x)) / beta; see `functional.softplus`."""

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = number("Softplus", "beta", beta, 0, above=True)

    def __call__(self, x: Any) -> Any:
        return functional.softplus(x, self.beta)


class Softmax(Function):
    """exp(x) / sum(exp(x)) along `axis`; see `functional.softmax`."""

    def __init__(self, axis: Any = -1) -> None:
        self.axis = _axis("Softmax", axis)

    def __call__(self, x: Any) -> Any:
        return functional.softmax(x, self.axis)


class LogSoftmax(Function):
    """log(softmax(x)) along `axis`; see `functional.log_softmax`."""

    def __init__(self, axis: Any = -1) -> None:
        self.axis = _axis("LogSoftmax", axis)

    def __call__(self, x: Any) -> Any:
        return functional.log_softmax(x, self.axis)


def _axis(op: str, axis: Any) -> Any:
    if not all(is_whole(a) for a in (axis if isinstance(axis, tuple) else (axis,))):
        raise TypeError(explain(op, f"axis={axis!r} is no axis", "an integer, or a tuple of them"))
    return axis
