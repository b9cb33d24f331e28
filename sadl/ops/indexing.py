"""Taking elements out and putting them in: `x[i]`, `x[i] = v`, take_along_axis, argmax, sorting by index.

Takes NumPy's indices; basic ones (integers, slices, None, Ellipsis) give views, index arrays give gathers whose
gradient is a scatter-add: their index is taken apart into a layout, in which each array is marked by `ARRAY`.
"""

from operator import index as whole
from typing import Any, NamedTuple

import numpy as np

from sadl.errors import RangeError
from sadl.op import Aval, Op, axes, call, numpy_function, view
from sadl.ops.elementwise import iota
from sadl.tape import bind

ARRAY = "array"


def encode(index: Any) -> tuple[tuple[Any, ...], list[Any]]:
    """A NumPy index as (hashable layout, the arrays in it)."""
    items = index if isinstance(index, tuple) else (index,)
    arrays: list[Any] = []
    return tuple(_encode(item, arrays) for item in items), arrays


def _encode(item: Any, arrays: list[Any]) -> Any:
    if item is None or item is Ellipsis:
        return item
    if isinstance(item, slice):
        return ("slice", *(None if v is None else whole(v) for v in (item.start, item.stop, item.step)))
    if isinstance(item, (int, np.integer)) and not isinstance(item, bool):
        return int(item)
    arrays.append(item if hasattr(item, "dtype") else np.asarray(item, None if np.size(item) else np.intp))
    return ARRAY


def decode(layout: tuple[Any, ...], arrays: Any = ()) -> tuple[Any, ...]:
    """The NumPy index that `encode` took apart."""
    left = iter(arrays)
    return tuple(_decode(item, left) for item in layout)


def _decode(item: Any, left: Any) -> Any:
    if item == ARRAY:
        return next(left)
    return slice(*item[1:]) if isinstance(item, tuple) else item


def _zeros(shape: tuple[int, ...], like: Any) -> Any:
    return np.zeros(shape, like.dtype) if like.__class__ is np.ndarray else np.zeros_like(like, shape=shape)


def _unslice(g: Any, *, shape: tuple[int, ...], index: Any) -> Any:
    out = _zeros(shape, g)
    out[index] = g
    return out


def _scatter_add(g: Any, *arrays: Any, shape: tuple[int, ...], layout: tuple[Any, ...]) -> Any:
    out = _zeros(shape, g)
    np.add.at(out, decode(layout, arrays), g)
    return out


def _put(x: Any, value: Any, *arrays: Any, layout: tuple[Any, ...]) -> Any:
    out = x.copy()
    out[decode(layout, arrays)] = value
    return out


def _vjp_put_target(g: Any, z: Any, x: Any, value: Any, *arrays: Any, layout: tuple[Any, ...]) -> Any:
    return bind(put, g, 0, *arrays, layout=layout)


def _vjp_put_value(g: Any, z: Any, x: Any, value: Any, *arrays: Any, layout: tuple[Any, ...]) -> Any:
    picked = g[decode(layout, arrays)]
    if all(a.dtype == bool for a in arrays):
        return picked
    return np.where(bind(last_writer, g, *arrays, layout=layout), picked, 0)


def _last_writer(x: Any, *arrays: Any, layout: tuple[Any, ...]) -> Any:
    """Which elements of `value` are still there after `x[index] = value`: of those with the same index, one."""
    index, positions = decode(layout, arrays), np.empty(x.shape, np.intp)
    order = np.arange(positions[index].size).reshape(positions[index].shape)
    positions[index] = order
    return positions[index] == order


def _infer_shape(op: Op, g: Aval, *_: Any, shape: tuple[int, ...], **__: Any) -> Aval:
    return Aval(shape, g.dtype)


def _has_mask(x: Any, *arrays: Any, layout: tuple[Any, ...]) -> bool:
    return any(getattr(a, "dtype", None) == bool for a in arrays)


# fmt: off
getitem = view("getitem", lambda x, *, index: x[index],
               [lambda g, y, x, *, index: bind(unslice, g, shape=x.shape, index=index)],
               unview=lambda x, part, *, index: bind(put, x, part, layout=encode(index)[0]))
unslice: Op = call("unslice", _unslice, [lambda g, y, x, *, shape, index: g[index]], infer=_infer_shape)
gather = call("gather", lambda x, *arrays, layout: x[decode(layout, arrays)], open_size=_has_mask, fails=True,
              expand=lambda x, *arrays, layout: _expand_gather(x, *arrays, layout=layout), vjp=
              [lambda g, y, x, *arrays, layout: bind(scatter_add, g, *arrays, shape=x.shape, layout=layout)])
scatter_add: Op = call("scatter_add", _scatter_add,
                       [lambda g, y, x, *arrays, shape, layout: g[decode(layout, arrays)]], infer=_infer_shape,
                       expand=lambda g, *arrays, shape, layout: _expand_scatter(g, *arrays, shape=shape, layout=layout))
gather_rows: Op = call("gather_rows", lambda x, i: x[i], infer=lambda op, x, i: Aval((*i.shape, *x.shape[1:]), x.dtype),
                       vjp=[lambda g, y, x, i: bind(scatter_rows, g, i, shape=x.shape), None], tested=False)
scatter_rows: Op = call("scatter_rows", lambda g, i, *, shape: _scatter_add(g, i, shape=shape, layout=(ARRAY,)),
                        [lambda g, y, x, i, *, shape: g[i], None], infer=_infer_shape, tested=False)
last_writer = call("last_writer", _last_writer, [None])
put: Op = call("put", _put, [_vjp_put_target, _vjp_put_value], infer=lambda op, x, *_, layout: x, fails=True)
# fmt: on


_BASIC = {int, slice, type(None), type(Ellipsis)}


def is_basic(item: Any) -> bool:
    """Whether `x[item]` is a view: made of integers, slices, None and Ellipsis only."""
    return type(item) in _BASIC or (type(item) is tuple and _BASIC.issuperset(map(type, item)))


def take_item(x: Any, item: Any) -> Any:
    """`x[item]`, recorded also where `x` is a plain array and only the index a Tensor."""
    if is_basic(item):
        return bind(getitem, x, index=item)
    layout, arrays = encode(item)
    return bind(gather, x, *arrays, layout=layout) if arrays else bind(getitem, x, index=decode(layout))


# ---- along one axis -----------------------------------------------------------------------------------------------


def along(x: Any, i: Any, axis: int) -> tuple[Any, ...]:
    """The open grid that pairs `i` with the other axes of `x`."""
    grid = [np.arange(n).reshape([-1 if k == d else 1 for k in range(x.ndim)]) for d, n in enumerate(x.shape)]
    return (*grid[:axis], i, *grid[axis + 1 :])


def _put_along(g: Any, i: Any, *, axis: int, size: int, **_: Any) -> Any:
    shape = (*g.shape[:axis], size, *g.shape[axis + 1 :])
    out = _zeros(shape, g)
    np.add.at(out, along(out, i, axis), g)
    return out


class Asker(NamedTuple):
    """Who asks that indices are in range, and how they say that one is not: `noun` is outside 0 .. n - 1, for `of`."""

    op: str
    noun: str
    of: str
    instead: str

    def __str__(self) -> str:
        return self.op


def _check_index(outside: Any, i: Any, *, size: int, low: int, asker: Asker | None = None) -> Any:
    """Raise the error that NumPy, or `asker`, raises for the first index that is out of range, if there is one."""
    if outside:
        wrong = i[(i < low) | (i >= size)][0]
        if asker is None:
            raise IndexError(f"index {wrong} is out of bounds for an axis of size {size}")
        what = f"{asker.noun} is outside {low} .. {size - 1}, for {asker.of}: found {wrong}"
        raise RangeError.of(asker.op, what, asker.instead)
    return outside


check_index = call("check_index", _check_index, [None, None], infer=lambda op, outside, i, **_: outside, checks=True)


def require_indices(i: Any, size: int, low: int, **asker: Asker) -> None:
    """Raise IndexError, in programs as well, unless all `i` are in low .. size - 1."""
    bind(check_index, np.any((i < low) | (i >= size)), i, size=size, low=low, **asker)


def _is_rows(arrays: tuple[Any, ...], layout: tuple[Any, ...]) -> bool:
    return layout == (ARRAY,) and np.ndim(arrays[0]) > 0 and arrays[0].dtype.kind in "iu"


def _expand_gather(x: Any, *arrays: Any, layout: tuple[Any, ...]) -> Any:
    """Whole rows, for which there are loops; these touch no memory outside, but leave it to a check to say so."""
    if not _is_rows(arrays, layout):
        return None
    i = arrays[0].astype(np.int64)
    require_indices(i, x.shape[0], -x.shape[0])
    return bind(gather_rows, x, i)


def _expand_scatter(g: Any, *arrays: Any, shape: tuple[int, ...], layout: tuple[Any, ...]) -> Any:
    if not _is_rows(arrays, layout):
        return None
    i = arrays[0].astype(np.int64)
    require_indices(i, shape[0], -shape[0])
    return bind(scatter_rows, g, i, shape=shape)


def _hit(i: Any, like: Any, axis: int, low: int | None, **asker: Asker) -> Any:
    """Where the position along `axis` of something shaped `like` is the one that `i` asks for."""
    size = like.shape[axis]
    i = i.astype(np.int64)
    require_indices(i, size, -size if low is None else low, **asker)
    return bind(iota, like, axis=axis) == (i if low == 0 else np.where(i < 0, i + size, i))


def _expand_take(x: Any, i: Any, *, axis: int, low: int | None = None, **asker: Asker) -> Any:
    """One index per row: a masked sum over the row, which fuses with whatever else reads the row."""
    if not _one_each(x, i, axis):
        return None
    return np.sum(np.where(_hit(i, x, axis, low, **asker), x, 0), axis=axis, keepdims=True)


def _expand_put(g: Any, i: Any, *, axis: int, size: int, low: int | None = None, **asker: Asker) -> Any:
    if not _one_each(g, i, axis):
        return None
    like = np.broadcast_to(g, (*g.shape[:axis], size, *g.shape[axis + 1 :]))
    return np.where(_hit(i, like, axis, low, **asker), g, 0)


def _one_each(x: Any, i: Any, axis: int) -> bool:
    others = [k for k in range(x.ndim) if k != axis]
    return i.shape[axis] == 1 and all(i.shape[k] == x.shape[k] for k in others)


def _infer_take(op: Op, x: Aval, i: Aval, *, axis: int, **_: Any) -> Aval:
    return Aval(tuple(i.shape[k] if k == axis else n for k, n in enumerate(x.shape)), x.dtype)


def _infer_put(op: Op, g: Aval, i: Aval, *, axis: int, size: int, **_: Any) -> Aval:
    return Aval((*g.shape[:axis], size, *g.shape[axis + 1 :]), g.dtype)


def _take_along(x: Any, i: Any, *, axis: int, low: int | None = None, **asker: Asker) -> Any:
    if low is not None:
        require_indices(i, x.shape[axis], low, **asker)
    return np.take_along_axis(x, i, axis)


take_along = call(
    "take_along_axis",
    _take_along,
    [lambda g, y, x, i, *, axis, **asks: bind(put_along, g, i, axis=axis, size=x.shape[axis], **asks), None],
    infer=_infer_take,
    expand=_expand_take,
    fails=True,
)
put_along: Op = call(
    "put_along_axis",
    _put_along,
    [lambda g, y, x, i, *, axis, size, **asks: bind(take_along, g, i, axis=axis, **asks), None],
    infer=_infer_put,
    expand=_expand_put,
)


@numpy_function(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    if axis is None:
        return np.take_along_axis(np.ravel(arr), np.ravel(indices), 0)
    return bind(take_along, arr, indices, axis=axes(axis, arr.ndim)[0])


@numpy_function(np.take, method="take")
def take(a: Any, indices: Any, axis: int | None = None, out: Any = None, mode: str = "raise") -> Any:
    a, axis = (np.ravel(a), 0) if axis is None or a.ndim == 0 else (a, axes(axis, a.ndim)[0])
    indices = indices if hasattr(indices, "dtype") else np.asarray(indices, None if np.size(indices) else np.intp)
    indices = indices.astype(np.intp) if indices.dtype == bool else indices
    if mode == "wrap":
        indices = np.remainder(indices, a.shape[axis])
    elif mode == "clip":
        indices = np.clip(indices, 0, a.shape[axis] - 1)
    return take_item(a, (*(slice(None),) * axis, indices))


def _arg(name: str, run: Any) -> Any:
    op = call(name, run, [None], infer=lambda op, x, **p: Aval(run(np.empty(x.shape), **p).shape, np.dtype(np.intp)))

    def arg(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
        axis = None if axis is None or a.ndim == 0 else axes(axis, a.ndim)[0]
        return bind(op, a, axis=axis, keepdims=bool(keepdims))

    return arg


argmax = numpy_function(np.argmax, method="argmax")(_arg("argmax", np.argmax))
argmin = numpy_function(np.argmin, method="argmin")(_arg("argmin", np.argmin))
