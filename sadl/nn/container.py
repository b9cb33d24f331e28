"""Layers made of layers.

Takes layers; gives one that applies them. What they compute is left to them.
"""

from collections.abc import Iterable
from typing import Any

from sadl.errors import explain
from sadl.function import Function


class Mlp(Function):
    """Layers one after the other: each takes what the one before gives.

    Args:
        layers: Functions, in order; kept as the list `layers`.
    """

    def __init__(self, layers: Iterable[Function]) -> None:
        self.layers = list(layers)
        wrong = [type(f).__name__ for f in self.layers if not callable(f)]
        if wrong:
            raise TypeError(explain("Mlp", f"layers are Functions, found {', '.join(wrong)}"))

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x
