"""Operations that move data or look at it differently: reshape, transpose, broadcast, concatenate, flip.

Takes shapes and axes as NumPy does and normalises them, so that equal calls are equal params.
Indexing is in `indexing`.
"""

import math
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from sadl.op import Aval, Op, axes, call, numpy_function, view
from sadl.tape import arrayed, bind

# fmt: off
reshape   = view("reshape", lambda x, *, shape: x.reshape(shape), [lambda g, y, x, *, shape: g.reshape(x.shape)])
transpose = view("transpose", lambda x, *, order: x.transpose(order),
                 [lambda g, y, x, *, order: np.transpose(g, _inverse(order))])
broadcast_to = view("broadcast_to", lambda x, *, shape: np.broadcast_to(x, shape), [lambda g, y, x, *, shape: g])
flip      = view("flip", lambda x, *, axis: np.flip(x, axis), [lambda g, y, x, *, axis: np.flip(g, axis)])
# fmt: on


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argsort(order))


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


@numpy_function(np.reshape)
def reshape_(a: Any, /, shape: Any, order: str = "C", *, copy: bool | None = None) -> Any:
    if order not in ("C", "F"):
        raise ValueError(f"[reshape] order={order!r} depends on the memory layout. Instead: order='C' or order='F'.")
    shape = tuple(map(index, shape)) if isinstance(shape, (tuple, list)) else (index(shape),)
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


@numpy_function(np.flip)
def flip_(m: Any, axis: Any = None) -> Any:
    return bind(flip, m, axis=axes(axis, m.ndim))


@numpy_function(np.concatenate)
def concatenate_(arrays: Sequence[Any], /, axis: int | None = 0) -> Any:
    parts = [a if hasattr(a, "dtype") else np.asarray(a) for a in map(arrayed, arrays)]
    if axis is None:
        parts, axis = [np.ravel(a) for a in parts], 0
    return bind(concatenate, *parts, axis=axes(axis, parts[0].ndim)[0])


@numpy_function(np.stack)
def stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    return np.concatenate([np.expand_dims(arrayed(a), axis) for a in arrays], axis)


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
