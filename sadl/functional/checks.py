"""What the functions of this package ask of their arguments, and how they say that it is not so.

Takes arguments; gives them back in the form that is computed with, or raises.
"""

from typing import Any

import numpy as np

from sadl.errors import ShapeError, explain
from sadl.ops.indexing import take_along
from sadl.tape import as_array, bind, plain


def shape_of(x: Any) -> tuple[int, ...]:
    return np.shape(plain(x))  # np.shape of a Tensor goes a longer way


def floating(x: Any) -> Any:
    """`x` as an array of floats: integers and bools in float64, so that nothing wraps around."""
    x = as_array(x)
    return x if x.dtype.kind in "fc" else x.astype(np.float64)


def in_dtype_of(x: Any, other: Any) -> Any:
    """`other` as an array, in the dtype of `x` if it is made of integers or bools, which float32 would give way to."""
    other = as_array(other)
    return other.astype(x.dtype) if other.dtype.kind in "iub" else other


def between(op: str, name: str, value: Any, low: float, high: float) -> float:
    """A Python number in [low, high]."""
    if not isinstance(value, (int, float, np.number)) or not low <= value <= high:
        raise ValueError(explain(op, f"{name}={value!r} is not a number from {low} to {high}"))
    return float(value)


def require_sizes(op: str, **sizes: Any) -> None:
    if not all(isinstance(n, (int, np.integer)) and n >= 1 for n in sizes.values()):
        found = " and ".join(f"{name}={n}" for name, n in sizes.items())
        raise ValueError(explain(op, f"sizes must be whole numbers >= 1, found {found}"))


def class_indices(op: str, targets: Any, noun: str = "class indices") -> Any:
    targets = as_array(targets)
    if targets.dtype.kind not in "iu":
        what = f"{noun} must be integers, found {targets.dtype}"
        raise TypeError(explain(op, what, "targets.astype(np.int64)"))
    return targets.astype(np.int64)


def pick(op: str, x: Any, indices: Any, instead: str = "") -> Any:
    """The element of each row of `x` (..., n) at its index (...): (...)."""
    try:  # not by np.take_along_axis, which would count a negative index from the back
        picked = bind(take_along, x, np.reshape(indices, (*indices.shape, 1)), axis=x.ndim - 1, low=0)
    except IndexError:
        what = f"rows of {x.dtype} {x.shape}"
        raise IndexError(outside(op, "a class index", indices, x.shape[-1], what, instead)) from None
    return np.reshape(picked, indices.shape)


def outside(op: str, noun: str, indices: Any, n: int, of: str, instead: str = "") -> str:
    """The message for the first of `indices` that is not in 0 .. n - 1."""
    values = np.asarray(plain(indices))
    wrong = values[(values < 0) | (values >= n)][0]
    return explain(op, f"{noun} is outside 0 .. {n - 1}, for {of}: found {wrong}", instead)


def require_fit(op: str, x: Any, targets: Any, shape: tuple[int, ...], need: str) -> None:
    if shape_of(x) == () or shape_of(targets) != shape:
        what = f"targets of shape {shape_of(targets)} do not fit an input of shape {shape_of(x)}"
        raise ShapeError(explain(op, what, need))


def require_same_shape(op: str, x: Any, targets: Any) -> None:
    if shape_of(x) != shape_of(targets):
        what = f"input of shape {shape_of(x)} and targets of shape {shape_of(targets)} differ"
        raise ShapeError(explain(op, what, "reshape one of them"))


def require_broadcast(op: str, name: str, shape: tuple[int, ...], to: tuple[int, ...], instead: str) -> None:
    """Raise unless something of `shape` broadcasts to the shape `to`, without making it larger."""
    fits = len(shape) <= len(to) and all(n in (1, m) for n, m in zip(shape[::-1], to[::-1], strict=False))
    if not fits:
        raise ShapeError(explain(op, f"{name} of shape {shape} does not broadcast to {to}", instead))
