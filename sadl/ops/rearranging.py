"""Functions that put the elements of arrays into other places: repeat, tile, pad, roll, insert, delete, diag, choose ...

Takes what NumPy's functions take. The function itself is run on the positions of the elements, which tells where each
element of the result comes from; a gather along them is the result, and its gradient a scatter-add.
Functions whose result is a view of their argument are in `movement`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from sadl.op import numpy_function, view
from sadl.ops.indexing import ARRAY, gather, scatter_add
from sadl.tape import arrayed, as_array, bind, known

Function = Callable[..., Any]


def by_position(function: Function, a: Any, *args: Any, **kwargs: Any) -> Any:
    """`function(a, *args, **kwargs)`, for one that only copies elements of `a`."""
    a = as_array(a)
    where = function(np.arange(a.size).reshape(a.shape), *args, **kwargs)
    if a.size == 0:  # from which NumPy makes zeros, if anything
        return np.zeros_like(a, shape=where.shape)
    return bind(gather, np.ravel(a), where, layout=(ARRAY,))


def with_zeros(function: Function, a: Any, *args: Any, **kwargs: Any) -> Any:
    """The same for one that writes zeros besides: what comes from nowhere is 0."""
    a = as_array(a)
    where = function(np.arange(1, a.size + 1).reshape(a.shape), *args, **kwargs)
    if a.size == 0:
        return np.zeros_like(a, shape=where.shape)
    return np.where(where > 0, bind(gather, np.ravel(a), np.maximum(where - 1, 0), layout=(ARRAY,)), 0)


def of_many(function: Function, arrays: Any, *args: Any) -> Any:
    """The same for one that takes its elements from several arrays."""
    parts = list(map(as_array, arrays))
    ends = np.cumsum([0, *(x.size for x in parts)])
    places = [np.arange(x.size).reshape(x.shape) + start for x, start in zip(parts, ends, strict=False)]
    return bind(gather, np.concatenate([np.ravel(x) for x in parts]), function(places, *args), layout=(ARRAY,))


# ---- one array in, rearranged -------------------------------------------------------------------------------------


@numpy_function(np.repeat, method="repeat")
def repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    return by_position(np.repeat, a, known(repeats), axis)


@numpy_function(np.tile)
def tile(A: Any, reps: Any) -> Any:
    return by_position(np.tile, A, known(reps))


@numpy_function(np.resize)
def resize(a: Any, new_shape: Any) -> Any:
    return by_position(np.resize, a, new_shape)


@numpy_function(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    return by_position(np.roll, a, known(arrayed(shift)), axis)


@numpy_function(np.delete)
def delete(arr: Any, obj: Any, axis: Any = None) -> Any:
    return by_position(np.delete, arr, known(obj), axis)


@numpy_function(np.diagflat)
def diagflat(v: Any, k: int = 0) -> Any:
    return with_zeros(np.diagflat, v, k)


@numpy_function(np.diag)
def diag(v: Any, k: int = 0) -> Any:
    return with_zeros(np.diag, v, k) if np.ndim(v) == 1 else np.diagonal(v, k)


@numpy_function(np.tril)
def tril(m: Any, k: int = 0) -> Any:
    return _triangle(np.tri(*_rows_and_columns(m), k=k, dtype=bool), m)


@numpy_function(np.triu)
def triu(m: Any, k: int = 0) -> Any:
    return _triangle(~np.tri(*_rows_and_columns(m), k=k - 1, dtype=bool), m)


def _rows_and_columns(m: Any) -> tuple[int, int]:
    """Of a matrix; a row stands for a square of equal rows, as in NumPy."""
    n = m.shape[-1]
    return (m.shape[-2] if m.ndim > 1 else n), n


def _triangle(mask: Any, m: Any) -> Any:
    return np.where(mask, m, 0)


# ---- pad ----------------------------------------------------------------------------------------------------------

_COPYING = {"edge", "reflect", "symmetric", "wrap"}


@numpy_function(np.pad)
def pad(
    array: Any,
    pad_width: Any,
    mode: Any = "constant",
    *,
    constant_values: Any = None,
    stat_length: Any = None,
    end_values: Any = None,
    reflect_type: Any = None,
) -> Any:
    array, pad_width = as_array(array), known(arrayed(pad_width))
    given = {
        "constant_values": constant_values,
        "stat_length": stat_length,
        "end_values": end_values,
        "reflect_type": reflect_type,
    }
    kwargs = {name: value for name, value in given.items() if value is not None}
    if mode in ("constant", "empty"):
        return _pad_constant(array, pad_width, kwargs.get("constant_values", 0))
    if mode in _COPYING and kwargs.get("reflect_type", "even") == "even":
        return by_position(np.pad, array, pad_width, mode, **kwargs)
    if callable(mode):
        raise TypeError("[pad] a function as mode writes into a plain array. Instead: np.concatenate.")
    return _pad_by_axis(array, pad_width, mode, **kwargs)


def _pad_constant(array: Any, pad_width: Any, values: Any) -> Any:
    """Along one axis after the other, as NumPy does, so that corners are those of the last axis."""
    pairs = np.broadcast_to(as_array(values).astype(array.dtype), (array.ndim, 2))
    for axis, (before, behind) in enumerate(_widths(pad_width, array.ndim)):
        sizes = [(*array.shape[:axis], n, *array.shape[axis + 1 :]) for n in (before, behind)]
        head, tail = (np.broadcast_to(pairs[axis, side], size) for side, size in enumerate(sizes))
        array = np.concatenate([head, array, tail], axis) if before or behind else array
    return array


def _pad_by_axis(array: Any, pad_width: Any, mode: str, **kwargs: Any) -> Any:
    """Modes that compute: along one axis after the other, like NumPy, pads that depend on what is there by then."""
    widths = _widths(pad_width, array.ndim)
    for axis, (before, behind) in enumerate(widths):
        if before or behind:
            array = _PADDERS[mode](array, axis, before, behind, **_of_axis(kwargs, axis, array.ndim))
    return array


def _widths(pad_width: Any, ndim: int) -> list[tuple[int, int]]:
    if isinstance(pad_width, dict):
        by_axis = {k % ndim: v if np.ndim(v) else (v, v) for k, v in pad_width.items()}
        return [tuple(map(int, by_axis.get(i, (0, 0)))) for i in range(ndim)]  # type: ignore[misc]
    return [(int(a), int(b)) for a, b in np.broadcast_to(pad_width, (ndim, 2))]


def _of_axis(kwargs: dict[str, Any], axis: int, ndim: int) -> dict[str, Any]:
    """Arguments that may differ by axis and side as they are for this axis."""
    pairs = {k: v for k, v in kwargs.items() if k in ("end_values", "stat_length") and v is not None}
    rest = {k: v for k, v in kwargs.items() if k == "reflect_type"}
    return rest | {k: tuple(np.broadcast_to(v, (ndim, 2))[axis]) for k, v in pairs.items()}


def _part(x: Any, axis: int, lo: int | None, hi: int | None) -> Any:
    return x[(*(slice(None),) * axis, slice(lo, hi))]


def _pad_ramp(x: Any, axis: int, before: int, behind: int, end_values: Any = (0, 0)) -> Any:
    along = lambda steps: np.reshape(steps, [-1 if i == axis else 1 for i in range(x.ndim)])
    first, last = _part(x, axis, 0, 1), _part(x, axis, -1, None)
    left = along(np.arange(before) / max(before, 1))
    right = along((np.arange(behind) + 1) / max(behind, 1))
    head = end_values[0] + (first - end_values[0]) * left.astype(x.dtype)
    tail = last + (end_values[1] - last) * right.astype(x.dtype)
    return np.concatenate([head, x, tail], axis)


def _pad_stat(statistic: Function) -> Function:
    def padded(x: Any, axis: int, before: int, behind: int, stat_length: Any = (None, None)) -> Any:
        n = x.shape[axis]
        lengths = [n if length is None else min(int(length), n) for length in stat_length]
        left = statistic(_part(x, axis, 0, lengths[0]), axis=axis, keepdims=True)
        right = statistic(_part(x, axis, n - lengths[1], n), axis=axis, keepdims=True)
        sizes = [(*x.shape[:axis], count, *x.shape[axis + 1 :]) for count in (before, behind)]
        return np.concatenate([np.broadcast_to(left, sizes[0]), x, np.broadcast_to(right, sizes[1])], axis)

    return padded


def _pad_odd(mode: str) -> Function:
    """Twice the edge minus the mirror image, chunk by chunk."""

    def padded(x: Any, axis: int, before: int, behind: int, reflect_type: str = "odd") -> Any:
        skip = int(mode == "reflect")
        while before or behind:
            n = x.shape[axis] - skip
            if n < 1:
                raise ValueError(f"[pad] mode={mode!r} with reflect_type='odd' cannot extend an axis of size 1.")
            left, right = min(before, n), min(behind, n)
            mirrored = np.flip(x, axis)
            size = x.shape[axis]
            head = 2 * _part(x, axis, 0, 1) - _part(mirrored, axis, size - skip - left, size - skip)
            tail = 2 * _part(x, axis, size - 1, size) - _part(mirrored, axis, skip, skip + right)
            x = np.concatenate([head, x, tail], axis)
            before, behind = before - left, behind - right
        return x

    return padded


_PADDERS: dict[str, Function] = {
    "linear_ramp": _pad_ramp,
    "maximum": _pad_stat(np.max),
    "minimum": _pad_stat(np.min),
    "mean": _pad_stat(np.mean),
    "median": _pad_stat(np.median),
    "reflect": _pad_odd("reflect"),
    "symmetric": _pad_odd("symmetric"),
}

# ---- several arrays in --------------------------------------------------------------------------------------------


@numpy_function(np.insert)
def insert(arr: Any, obj: Any, values: Any, axis: Any = None) -> Any:
    arr = np.ravel(as_array(arr)) if axis is None or np.ndim(arr) == 0 else as_array(arr)
    axis = 0 if axis is None else axis
    values = as_array(values).astype(arr.dtype)
    place = lambda parts: np.insert(parts[0], known(obj), parts[1], axis)
    return of_many(place, [arr, values])


@numpy_function(np.choose)
def choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    index, parts = as_array(a), list(map(as_array, choices))
    if mode == "clip":
        index = np.clip(index, 0, len(parts) - 1)
    elif mode == "wrap":
        index = np.remainder(index, len(parts))
    shape = np.broadcast_shapes(np.shape(index), *(x.shape for x in parts))
    rows = np.stack([np.broadcast_to(x, shape) for x in parts])
    return np.take_along_axis(rows, np.broadcast_to(index, shape)[None], 0)[0]


@numpy_function(np.select)
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    if len(condlist) != len(choicelist):
        raise ValueError("[select] list of cases must be same length as list of conditions.")
    result = arrayed(default)
    for condition, choice in zip(reversed(list(condlist)), reversed(list(choicelist)), strict=True):
        result = np.where(condition, arrayed(choice), result)
    return result


# ---- indices that decide about shapes -----------------------------------------------------------------------------


@numpy_function(np.compress)
def compress(condition: Any, a: Any, axis: Any = None, out: Any = None) -> Any:
    return np.take(a, np.flatnonzero(as_array(condition)), axis=axis)


def _unwindow(g: Any, y: Any, x: Any, *, shape: Any, axis: Any) -> Any:
    places = np.lib.stride_tricks.sliding_window_view(np.arange(x.size).reshape(x.shape), shape, axis)
    return np.reshape(bind(scatter_add, g, places, shape=(x.size,), layout=(ARRAY,)), x.shape)


windows = view(
    "sliding_window_view",
    lambda x, *, shape, axis: np.lib.stride_tricks.sliding_window_view(x, shape, axis),
    [_unwindow],
)


@numpy_function(np.lib.stride_tricks.sliding_window_view)
def sliding_window_view(
    x: Any, window_shape: Any, axis: Any = None, *, subok: bool = False, writeable: bool = False
) -> Any:
    shape = tuple(np.ravel(window_shape).tolist())
    return bind(windows, as_array(x), shape=shape, axis=None if axis is None else tuple(np.ravel(axis).tolist()))
