"""What the functions of this package ask of their arguments, and how they say that it is not so.

Takes arguments; gives them back in the form that is computed with, or raises.
"""

from typing import Any

import numpy as np

from sadl.errors import ShapeError, explain
from sadl.tape import plain


def shape_of(x: Any) -> tuple[int, ...]:
    return np.shape(plain(x))  # np.shape of a Tensor goes a longer way


def class_indices(op: str, targets: Any) -> Any:
    targets = targets if hasattr(targets, "dtype") else np.asarray(targets)
    if targets.dtype.kind not in "iu":
        what = f"class indices must be integers, found {targets.dtype}"
        raise TypeError(explain(op, what, "targets.astype(np.int64)"))
    return targets.astype(np.int64)


def pick(op: str, x: Any, indices: Any) -> Any:
    """The element of each row of `x` (..., n) at its index (...): (...)."""
    n = x.shape[-1]
    checked = np.where(indices < 0, n, indices)  # NumPy would count a negative index from the back
    try:
        picked = np.take_along_axis(x, np.reshape(checked, (*checked.shape, 1)), -1)
    except IndexError:
        what = f"a class index is outside 0 .. {n - 1}, for rows of {x.dtype} {x.shape}"
        raise IndexError(explain(op, what)) from None
    return np.reshape(picked, checked.shape)


def require_fit(op: str, x: Any, targets: Any, shape: tuple[int, ...], need: str) -> None:
    if shape_of(x) == () or shape_of(targets) != shape:
        what = f"targets of shape {shape_of(targets)} do not fit an input of shape {shape_of(x)}"
        raise ShapeError(explain(op, what, need))
