"""Functions and methods that change an array in place: what it holds afterwards, as a function of what it held before.

Takes the arguments of NumPy's functions; gives the new value, which `calls` writes. Assigning to items is in `tensor`,
ufunc.at in `ufunc_methods`.
"""

from typing import Any

import numpy as np

from sadl.op import axes, writing
from sadl.ops.indexing import ARRAY, along, put
from sadl.tape import as_array, bind


def _like(target: Any, value: Any) -> Any:
    """A value of as many elements as asked for in the dtype of the array it is written to."""
    value = as_array(value)
    return value if value.dtype == target.dtype else value.astype(target.dtype)


def _put_flat(a: Any, places: Any, values: Any) -> Any:
    """`a` with values, repeated as often as needed, at places counted through all elements."""
    values = np.resize(_like(a, values), np.shape(places))
    return np.reshape(bind(put, np.ravel(a), values, places, layout=(ARRAY,)), a.shape)


@writing(np.copyto)
def copyto(dst: Any, src: Any, casting: Any = "same_kind", where: Any = True) -> Any:
    src = as_array(src)
    if not np.can_cast(src.dtype, dst.dtype, casting):
        raise TypeError(f"[copyto] cannot write {src.dtype} into {dst.dtype} under casting={casting!r}.")
    value = np.broadcast_to(_like(dst, src), dst.shape)
    return value if where is True else np.where(where, value, dst)


@writing(np.put, "put")
def put_(a: Any, ind: Any, v: Any, mode: str = "raise") -> Any:
    places = np.ravel(as_array(ind))
    if mode == "wrap":
        places = np.remainder(places, a.size)
    elif mode == "clip":
        places = np.clip(places, 0, a.size - 1)
    return _put_flat(a, places, v) if places.size else a


@writing(np.place)
def place(arr: Any, mask: Any, vals: Any) -> Any:
    return _put_flat(arr, np.flatnonzero(as_array(mask)), vals)


@writing(np.putmask)
def putmask(a: Any, mask: Any, values: Any) -> Any:
    return np.where(np.reshape(as_array(mask), a.shape), np.resize(_like(a, values), a.shape), a)


@writing(np.put_along_axis)
def put_along_axis(arr: Any, indices: Any, values: Any, axis: int | None) -> Any:
    if axis is None:
        return np.reshape(put_along_axis(np.ravel(arr), np.ravel(indices), values, 0), arr.shape)
    axis = axes(axis, arr.ndim)[0]
    grid = along(arr, as_array(indices), axis)
    return bind(put, arr, _like(arr, values), *grid, layout=(ARRAY,) * arr.ndim)


@writing(np.fill_diagonal)
def fill_diagonal(a: Any, val: Any, wrap: bool = False) -> Any:
    marks = np.zeros(a.shape, bool)
    np.fill_diagonal(marks, True, wrap)
    return _put_flat(a, np.flatnonzero(marks), np.ravel(as_array(val)))


@writing("sort")
def sort(a: Any, axis: int = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    return np.sort(a, axis, kind, order, stable=stable)


@writing("partition")
def partition(a: Any, kth: Any, axis: int = -1, kind: str = "introselect", order: Any = None) -> Any:
    run: Any = np.partition
    return run(a, kth, axis, kind, order)
