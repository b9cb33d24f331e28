"""Activations as layers, so that they can stand in a list of layers.

Takes an input of any shape; gives the same shape. The formulas are in `functional`.
"""

from typing import Any

from sadl import functional
from sadl.function import Function


class ReLU(Function):
    """max(0, x); see `functional.relu`."""

    def __call__(self, x: Any) -> Any:
        return functional.relu(x)


class Sigmoid(Function):
    """1 / (1 + exp(-x)); see `functional.sigmoid`."""

    def __call__(self, x: Any) -> Any:
        return functional.sigmoid(x)


class Softmax(Function):
    """exp(x) / sum(exp(x)) along `axis`; see `functional.softmax`."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def __call__(self, x: Any) -> Any:
        return functional.softmax(x, self.axis)


class LogSoftmax(Function):
    """log(softmax(x)) along `axis`; see `functional.log_softmax`."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def __call__(self, x: Any) -> Any:
        return functional.log_softmax(x, self.axis)
