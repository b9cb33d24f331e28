"""Checks of a value that programs make as eager code does: that a rate or a bound is a number >= 0.

Takes a number, or an array or Tensor of one; raises ValueError with the number in it. Checks of indices are in
`indexing`. What settings are asked before anything runs is left to `functional.checks`.
"""

from typing import Any

import numpy as np

from sadl.errors import NumberError
from sadl.op import call
from sadl.tape import bind


def _check_number(x: Any, *, who: str, name: str, finite: bool) -> Any:
    value = np.asarray(x).item()
    if not value >= 0 or (finite and value == np.inf):  # NaN included
        raise NumberError.of(who, f"{name}={value!r} is out of range", f"a {'finite ' * finite}number >= 0")
    return x


check_number = call("check_number", _check_number, [None], infer=lambda op, x, **_: x, checks=True)


def require_number(who: str, name: str, x: Any, finite: bool = True) -> None:
    """Raise ValueError, in programs as well, unless `x`, of size 1, is >= 0 (and finite)."""
    bind(check_number, x, who=who, name=name, finite=finite)
