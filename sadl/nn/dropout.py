"""Dropout as a layer.

Takes an input of any shape; gives the same shape. The drawing is in `functional`.
"""

from typing import Any

from sadl import functional
from sadl.function import Function
from sadl.functional.checks import number


class Dropout(Function):
    """In training, each element 0 with probability `p`, else divided by 1 - p; see `functional.dropout`.

    Draws from the generator that `sadl.random.seed` seeds, whose state `sadl.random.get_state` gives.
    Raises:
        ValueError: `p` is not in [0, 1].
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = number("Dropout", "p", p, 0, 1)

    def __call__(self, x: Any) -> Any:
        return functional.dropout(x, self.p, self.is_training())
