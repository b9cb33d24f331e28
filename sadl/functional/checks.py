"""What functions and layers ask of their arguments, and how they say that it is not so.

Takes arguments; gives them back in the form that is computed with, or raises: TypeError for what is of another kind,
ValueError (ShapeError, AxisError) or IndexError for what does not fit.
"""

import math
from typing import Any

import numpy as np

from sadl.errors import ShapeError, explain
from sadl.ops.indexing import Asker, take_along
from sadl.tape import Traced, as_array, bind, plain

Shape = tuple[int, ...]


def shape_of(x: Any) -> Shape:
    return np.shape(plain(x))  # np.shape of a Tensor goes a longer way


# ---- arrays --------------------------------------------------------------------------------------------------------


def numbers(op: str, x: Any, name: str = "an input", kinds: str = "biufc") -> Any:
    """`x` as an array of numbers of these kinds."""
    x = x if hasattr(x, "dtype") else as_array(x)
    if x.dtype.kind not in kinds:
        known = {"c": ("complex", "np.absolute(x), or its real and imaginary parts as two arrays")}
        what, instead = known.get(x.dtype.kind, (str(x.dtype), "an array of floats, integers or bools"))
        raise TypeError(explain(op, f"{name} of {what} {x.shape} was given", instead))
    return x


def floating(op: str, x: Any, name: str = "an input") -> Any:
    """`x` as an array of floats: integers and bools in float64, so that nothing wraps around."""
    x = x if hasattr(x, "dtype") else as_array(x)
    return x if x.dtype.kind == "f" else numbers(op, x, name, "biuf").astype(np.float64)


def in_dtype_of(x: Any, other: Any) -> Any:
    """`other` as an array, in the dtype of `x` if it is made of integers or bools, which float32 would give way to."""
    other = other if hasattr(other, "dtype") else as_array(other)
    return other.astype(x.dtype) if other.dtype.kind in "iub" else other


def require_same_shape(op: str, x: Any, targets: Any) -> None:
    if shape_of(x) != shape_of(targets):
        what = f"input of shape {shape_of(x)} and targets of shape {shape_of(targets)} differ"
        raise ShapeError(explain(op, what, "reshape one of them, or np.broadcast_to if that is meant"))


def require_broadcast(op: str, name: str, shape: Shape, to: Shape, instead: str) -> None:
    """Raise unless something of `shape` broadcasts to the shape `to`, without making it larger."""
    fits = len(shape) <= len(to) and all(n in (1, m) for n, m in zip(shape[::-1], to[::-1], strict=False))
    if not fits:
        raise ShapeError(explain(op, f"{name} of shape {shape} does not broadcast to {to}", instead))


def require_axis(op: str, shape: Shape, axis: Any) -> None:
    """Raise unless `axis`, an integer or a tuple of them or None for all, is in `shape`, and not of size 0."""
    if type(axis) is int and -len(shape) <= axis < len(shape) and shape[axis]:
        return  # as nearly always
    ndim = max(len(shape), 1)  # NumPy lets a number pass for a row
    given = range(ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if not all(is_whole(a) for a in given):
        raise TypeError(explain(op, f"axis={axis!r} is no axis", "an integer, or a tuple of them"))
    if any(not -ndim <= a < ndim for a in given):
        what = f"axis={axis} is none of an input of shape {shape}"
        raise np.exceptions.AxisError(explain(op, what, f"an axis from {-ndim} to {ndim - 1}"))
    if len({a % ndim for a in given}) < len(given):
        raise ValueError(explain(op, f"axis={axis} names an axis twice", "each axis once"))
    if any(shape[a] == 0 for a in given if shape):
        raise ShapeError(
            explain(op, f"axis={axis} of an input of shape {shape} has no elements", "one element or more")
        )


def rows(op: str, x: Any, axis: Any) -> Any:
    """`x` as floats, if it has something along `axis`."""
    x = floating(op, x)
    require_axis(op, shape_of(x), axis)
    return x


# ---- settings ------------------------------------------------------------------------------------------------------


def flag(op: str, name: str, value: Any) -> bool:
    """`value`, if it is True or False: anything else is likely to be another argument's."""
    if not isinstance(value, (bool, np.bool_)):
        what = f"{name}={value!r}" if isinstance(value, (str, int, float)) else f"{name}, a {type(value).__name__},"
        raise TypeError(explain(op, f"{what} is neither True nor False", "True or False"))
    return bool(value)


def is_whole(n: Any) -> bool:
    return isinstance(n, (int, np.integer)) and not isinstance(n, bool)


def number(
    op: str, name: str, value: Any, low: float = -math.inf, high: float = math.inf, above: bool = False
) -> float:
    """`value` as a Python number, which float32 does not give way to: finite, in [low, high], or `above` low."""
    need = f"a finite number >= {low}" if high == math.inf else f"a number from {low} to {high}"
    need = "a finite number" if low == -math.inf else f"a finite number > {low}" if above else need
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise TypeError(explain(op, f"{name}={value!r} is no number", need))
    if not low <= value <= high or math.isinf(value) or (above and value == low):  # NaN included
        raise ValueError(explain(op, f"{name}={value} is out of range", need))
    return float(value)


def factor(op: str, name: str, value: Any, shape: Shape | None = None) -> Any:
    """A number as a Python number; an array, which may be learned, as it is: it broadcasts to `shape`, if given."""
    if not isinstance(value, (np.ndarray, Traced)):
        return number(op, name, value)
    if shape is not None:
        require_broadcast(op, name, shape_of(value), shape, f"a number, or an array that broadcasts to {shape}")
    return numbers(op, value, name, "biuf")


def require_sizes(op: str, **sizes: Any) -> None:
    if not all(is_whole(n) and n >= 1 for n in sizes.values()):
        found = " and ".join(f"{name}={n!r}" for name, n in sizes.items())
        raise ValueError(explain(op, f"sizes must be whole numbers >= 1, found {found}", "int(n) of a size that is"))


def floating_dtype(op: str, dtype: Any) -> np.dtype:
    """The dtype of what is learned."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise TypeError(explain(op, f"dtype={dtype!r} is none of NumPy's", "np.float32, np.float64")) from None
    if found.kind not in "fc":
        raise ValueError(explain(op, f"dtype={found} is not floating", "np.float32, np.float64"))
    return found


# ---- indices -------------------------------------------------------------------------------------------------------


def class_indices(op: str, targets: Any, noun: str = "class indices", name: str = "targets") -> Any:
    targets = as_array(targets)
    if targets.dtype.kind not in "iu":
        what = f"{noun} must be integers, found {targets.dtype} {targets.shape}"
        raise TypeError(explain(op, what, f"{name}.astype(np.int64)"))
    return targets.astype(np.int64)


def pick(op: str, x: Any, indices: Any, instead: str, of: str = "") -> Any:
    """The element of each row of `x` (..., n) at its index (...): (...)."""
    asker = Asker(op, "a class index", of or f"rows of {x.dtype} {x.shape}", instead)
    column = np.reshape(indices, (*indices.shape, 1))  # np.take_along_axis would count a negative index from the back
    picked = bind(take_along, x, column, axis=x.ndim - 1, low=0, asker=asker)
    return np.reshape(picked, indices.shape)


def require_fit(op: str, x: Any, targets: Any, shape: Shape, need: str) -> None:
    if shape_of(x)[-1:] in ((), (0,)):
        raise ShapeError(explain(op, f"an input of shape {shape_of(x)} has no classes", "shape (..., classes)"))
    if shape_of(targets) != shape:
        what = f"targets of shape {shape_of(targets)} do not fit an input of shape {shape_of(x)}"
        raise ShapeError(explain(op, what, need))
