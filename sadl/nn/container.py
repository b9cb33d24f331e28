"""Layers made of layers, and those that only change the form of what goes through.

Takes layers; gives one that applies them. What they compute is left to them. Plain lists and dicts of layers serve as
well: a Function finds what is in them.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from sadl.errors import ShapeError, explain
from sadl.function import Function
from sadl.functional.checks import is_whole, shape_of


class Mlp(Function):
    """Layers one after the other: each takes what the one before gives.

    Args:
        layers: Functions, in order; kept as the list `layers`.
    """

    def __init__(self, layers: Iterable[Function]) -> None:
        if not np.iterable(layers):
            what = f"layers are Functions in a list, found {_named(layers)}"
            raise TypeError(explain(type(self).__name__, what, f"{type(self).__name__}([layer, layer])"))
        self.layers = list(layers)
        wrong = [_named(f) for f in self.layers if not callable(f) or _is_class(f)]
        if wrong:
            what = f"layers are Functions, found {', '.join(wrong)}"
            raise TypeError(explain(type(self).__name__, what, "what can be called with the output before: ReLU()"))

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x


class Sequential(Mlp):
    """Layers one after the other: `Sequential(a, b)`, or `Sequential([a, b])`; also functions, as `np.tanh`.

    Args:
        layers: Functions or other callables, in order; kept as the list `layers`.
    """

    def __init__(self, *layers: Callable[..., Any] | Iterable[Callable[..., Any]]) -> None:
        only = layers[0] if len(layers) == 1 and isinstance(layers[0], Iterable) and not callable(layers[0]) else layers
        super().__init__(only)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: Any) -> Any:
        """The layer at this place, or for a slice a Sequential of the same layers."""
        return Sequential(self.layers[index]) if isinstance(index, slice) else self.layers[index]


def _is_class(layer: Any) -> bool:
    return isinstance(layer, type) and issubclass(layer, Function)


def _named(layer: Any) -> str:
    return f"the class {layer.__name__}" if _is_class(layer) else type(layer).__name__


class Flatten(Function):
    """The axes from `start` on as one: (n, a, b) -> (n, a * b) for start=1.

    Raises:
        TypeError: `start` is no integer.
        ShapeError: at the call, an input with fewer axes.
    """

    def __init__(self, start: int = 1) -> None:
        if not is_whole(start):
            raise TypeError(explain("Flatten", f"start={start!r} is no axis", "an integer"))
        self.start = start

    def __call__(self, x: Any) -> Any:
        shape = shape_of(x)
        start = self.start if self.start >= 0 else len(shape) + self.start
        if not 0 <= start <= len(shape):
            what = f"Flatten(start={self.start}) was given an input of shape {shape}"
            raise ShapeError(explain("Flatten", what, f"an input with at least {abs(self.start)} axes"))
        return np.reshape(x, (*shape[:start], math.prod(shape[start:])))
