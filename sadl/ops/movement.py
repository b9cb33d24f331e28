"""Operations that move data or look at it differently: reshape, transpose, broadcast, concatenate, flip.

Takes shapes and axes as NumPy does and normalises them, so that equal calls are equal params.
Indexing is in `indexing`.
"""

import math
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from sadl.op import OPS, Aval, Op, axes, call, inverse, numpy_function, view
from sadl.tape import as_array, bind


def _undiagonal(g: Any, x: Any, offset: int) -> Any:
    """`g` on the diagonal of the last two axes of something shaped like `x`, whose first two axes they are here."""
    placed = np.moveaxis(g, -1, 0)
    return bind(OPS["scatter_add"], placed, *_places(x, offset), shape=x.shape, layout=("array", "array"))


def _places(x: Any, offset: int) -> tuple[Any, Any]:
    """Rows and columns of the diagonal."""
    rows, columns = x.shape[:2]
    i = np.arange(max(0, min(rows + min(offset, 0), columns - max(offset, 0))))
    return i - min(offset, 0), i + max(offset, 0)


# fmt: off
reshape   = view("reshape", lambda x, *, shape: x.reshape(shape), [lambda g, y, x, *, shape: g.reshape(x.shape)],
                 unview=lambda x, part, *, shape: np.reshape(part, x.shape))
transpose = view("transpose", lambda x, *, order: x.transpose(order),
                 [lambda g, y, x, *, order: np.transpose(g, inverse(order))],
                 unview=lambda x, part, *, order: np.transpose(part, inverse(order)))
broadcast_to = view("broadcast_to", lambda x, *, shape: np.broadcast_to(x, shape), [lambda g, y, x, *, shape: g])
diagonal  = view("diagonal", lambda x, *, offset: x.diagonal(offset), [lambda g, y, x, *, offset: _undiagonal(g, x, offset)],
                 unview=lambda x, part, *, offset: bind(OPS["put"], x, np.moveaxis(part, -1, 0), *_places(x, offset), layout=("array", "array")))
flip      = view("flip", lambda x, *, axis: np.flip(x, axis), [lambda g, y, x, *, axis: np.flip(g, axis)],
                 unview=lambda x, part, *, axis: np.flip(part, axis))
# fmt: on


def _vjp_concatenate(g: Any, y: Any, *parts: Any, axis: int) -> list[Any]:
    ends = np.cumsum([p.shape[axis] for p in parts]).tolist()
    before = (slice(None),) * axis
    return [g[(*before, slice(end - p.shape[axis], end))] for p, end in zip(parts, ends, strict=True)]


def _infer_concatenate(op: Op, *avals: Any, axis: int) -> Aval:
    shape = list(avals[0].shape)
    shape[axis] = sum(a.shape[axis] for a in avals)
    return Aval(tuple(shape), np.result_type(*(a.dtype for a in avals)))


concatenate = call(
    "concatenate",
    lambda *parts, axis: np.concatenate(parts, axis=axis),
    pullback=_vjp_concatenate,
    infer=_infer_concatenate,
)


def _pull_unstack(g: Any, parts: Any, x: Any, *, axis: int) -> list[Any]:
    present = [np.zeros_like(part) if one is None else one for one, part in zip(g, parts, strict=True)]
    return [np.stack(present, axis)]


def _infer_part(op: Op, x: Aval, *, axis: int) -> Aval:
    return Aval((*x.shape[:axis], *x.shape[axis + 1 :]), x.dtype)


unstack = call(  # as np.unstack, whose parts can be written; what is only read has a gradient that is put together once
    "unstack",
    lambda x, *, axis: tuple(np.moveaxis(x, axis, 0)),
    pullback=_pull_unstack,
    infer=_infer_part,
    expand=lambda x, *, axis: tuple(x[(*(slice(None),) * axis, i)] for i in range(x.shape[axis])),
    outs=-1,
)


@numpy_function(np.reshape)
def reshape_(a: Any, /, shape: Any, order: str = "C", *, copy: bool | None = None) -> Any:
    if order not in ("C", "F"):
        raise ValueError(f"[reshape] order={order!r} depends on the memory layout. Instead: order='C' or order='F'.")
    shape = tuple(map(index, shape)) if isinstance(shape, (tuple, list)) or np.ndim(shape) else (index(shape),)
    shape = _fill(shape, a) if -1 in shape else shape
    if order == "F":
        return np.transpose(bind(reshape, np.transpose(a), shape=shape[::-1]))
    return bind(reshape, a, shape=shape)


def _fill(shape: tuple[int, ...], a: Any) -> tuple[int, ...]:
    """`shape` with its -1 replaced by the size that is left; where nothing fits, NumPy says so."""
    known = -math.prod(shape)
    return tuple(a.size // known if n == -1 and known > 0 else n for n in shape)


@numpy_function(np.ravel, method="ravel")
def ravel(a: Any, order: Any = "C") -> Any:
    return np.reshape(a, -1, order=order)


@numpy_function(np.transpose, np.permute_dims)
def transpose_(a: Any, axes: Any = None) -> Any:
    if axes is None:
        return bind(transpose, a, order=tuple(range(a.ndim - 1, -1, -1)))
    order = tuple(map(index, axes))
    if sorted(i % a.ndim if -a.ndim <= i < a.ndim else -1 for i in order) != list(range(a.ndim)):
        raise ValueError(f"[transpose] axes={order} is not a permutation of the {a.ndim} axes of shape {a.shape}.")
    return bind(transpose, a, order=tuple(i % a.ndim for i in order))


@numpy_function(np.swapaxes, method="swapaxes")
def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    order = list(range(a.ndim))
    i, j = axes(axis1, a.ndim)[0], axes(axis2, a.ndim)[0]
    order[i], order[j] = order[j], order[i]
    return bind(transpose, a, order=tuple(order))


@numpy_function(np.matrix_transpose)
def matrix_transpose(x: Any, /) -> Any:
    return np.swapaxes(x, -1, -2)


@numpy_function(np.moveaxis)
def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    probe = np.moveaxis(np.broadcast_to(np.empty(()), (1,) * a.ndim), source, destination)  # raises as NumPy would
    from_, to = (tuple(int(i) % probe.ndim for i in np.atleast_1d(s)) for s in (source, destination))
    order = [i for i in range(a.ndim) if i not in from_]
    for place, axis in sorted(zip(to, from_, strict=True)):
        order.insert(place, axis)
    return bind(transpose, a, order=tuple(order))


@numpy_function(np.expand_dims)
def expand_dims(a: Any, axis: Any) -> Any:
    return bind(reshape, a, shape=np.expand_dims(np.broadcast_to(np.empty(()), a.shape), axis).shape)


@numpy_function(np.squeeze, method="squeeze")
def squeeze(a: Any, axis: Any = None) -> Any:
    return bind(reshape, a, shape=np.squeeze(np.broadcast_to(np.empty(()), a.shape), axis).shape)


@numpy_function(np.broadcast_to)
def broadcast_to_(array: Any, shape: Any, subok: bool = False) -> Any:
    shape = (int(shape),) if np.ndim(shape) == 0 else tuple(int(n) for n in shape)
    return bind(broadcast_to, array, shape=shape)


@numpy_function(np.diagonal, method="diagonal")
def diagonal_(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """A view of the diagonal, which is the last axis of the result."""
    first, second = axes(axis1, a.ndim)[0], axes(axis2, a.ndim)[0]
    if first == second or a.ndim < 2:
        raise ValueError(f"[diagonal] two different axes are needed, found {axis1} and {axis2} for {a.ndim} axes.")
    rest = [i for i in range(a.ndim) if i not in (first, second)]
    return bind(diagonal, np.transpose(a, (first, second, *rest)), offset=int(offset))


@numpy_function(np.trace, method="trace")
def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype)


@numpy_function(np.broadcast_arrays)
def broadcast_arrays(*args: Any, subok: bool = False) -> tuple[Any, ...]:
    parts = list(map(as_array, args))
    shape = np.broadcast_shapes(*map(np.shape, parts))
    return tuple(np.broadcast_to(a, shape) for a in parts)


@numpy_function(np.meshgrid)
def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple[Any, ...]:
    if indexing not in ("xy", "ij"):
        raise ValueError(f"[meshgrid] indexing is 'xy' or 'ij', found {indexing!r}.")
    n = len(xi)
    grids = [np.reshape(as_array(x), [-1 if i == k else 1 for i in range(n)]) for k, x in enumerate(xi)]
    if indexing == "xy" and n > 1:
        grids = [np.swapaxes(x, 0, 1) for x in grids]
    grids = grids if sparse else list(np.broadcast_arrays(*grids))
    return tuple(np.copy(x) if copy else x for x in grids)


@numpy_function(np.column_stack)
def column_stack(tup: Any) -> Any:
    parts = list(map(as_array, tup))
    return np.concatenate([np.reshape(a, (-1, 1)) if np.ndim(a) < 2 else a for a in parts], 1)


@numpy_function(np.flip)
def flip_(m: Any, axis: Any = None) -> Any:
    return bind(flip, m, axis=axes(axis, m.ndim))


@numpy_function(np.concatenate)
def concatenate_(
    arrays: Sequence[Any], /, axis: int | None = 0, out: Any = None, *, dtype: Any = None, casting: Any = "same_kind"
) -> Any:
    parts = list(map(as_array, arrays))
    if dtype is not None:
        parts = [np.astype(a, dtype) if _may_cast(a, dtype, casting) else a for a in parts]
    if axis is None:
        parts, axis = [np.ravel(a) for a in parts], 0
    return bind(concatenate, *parts, axis=axes(axis, parts[0].ndim)[0])


@numpy_function(np.stack)
def stack(
    arrays: Sequence[Any], axis: int = 0, out: Any = None, *, dtype: Any = None, casting: Any = "same_kind"
) -> Any:
    parts = [np.expand_dims(as_array(a), axis) for a in arrays]
    return np.concatenate(parts, axis, dtype=dtype, casting=casting)


def _may_cast(a: Any, dtype: Any, casting: Any) -> bool:
    if not np.can_cast(a.dtype, dtype, casting):
        raise TypeError(f"[concatenate] cannot cast {a.dtype} to {np.dtype(dtype)} under casting={casting!r}.")
    return True


@numpy_function(np.block)
def block(arrays: Any) -> Any:
    """Nested lists of arrays: the innermost are joined along the last axis, those around them along the one before."""
    depth = _depth(arrays)
    return _join(arrays, depth, max(depth, _most_axes(arrays)))


def _depth(arrays: Any) -> int:
    if not isinstance(arrays, list):
        return 0
    depths = {_depth(a) for a in arrays}
    if len(depths) != 1:
        raise ValueError("[block] all lists must be nested equally deep, and none may be empty.")
    return 1 + depths.pop()


def _most_axes(arrays: Any) -> int:
    return max(map(_most_axes, arrays)) if isinstance(arrays, list) else np.ndim(arrays)


def _join(arrays: Any, depth: int, ndim: int) -> Any:
    if not isinstance(arrays, list):
        array = as_array(arrays)
        return np.reshape(array, (*(1,) * (ndim - array.ndim), *array.shape))
    return np.concatenate([_join(a, depth - 1, ndim) for a in arrays], axis=-depth)


@numpy_function(np.split)
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    n = ary.shape[axes(axis, ary.ndim)[0]]
    if np.ndim(indices_or_sections) == 0 and n % int(indices_or_sections):
        raise ValueError(f"[split] axis {axis} of size {n} does not divide into {indices_or_sections} equal parts.")
    return array_split(ary, indices_or_sections, axis)


@numpy_function(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    axis = axes(axis, ary.ndim)[0]
    n = ary.shape[axis]
    if np.ndim(indices_or_sections) == 0:
        parts = int(indices_or_sections)
        ends = [n // parts * i + min(i, n % parts) for i in range(1, parts)]
    else:
        ends = [int(i) for i in indices_or_sections]
    before = (slice(None),) * axis
    return [ary[(*before, slice(i, j))] for i, j in zip([0, *ends], [*ends, n], strict=True)]
