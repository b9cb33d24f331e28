"""Reductions over axes: sum, prod, max, min, any, all, and what is composed of them: mean, var, std.

Takes an axis, a tuple of axes or None; the ops themselves see a sorted tuple of non-negative axes and `keepdims`.
`out` stands in the signatures for its place only: whoever calls these functions has seen to it (`calls`).
Ties in `max` and `min` share the gradient equally. Arg-reductions are in `indexing`.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from sadl.op import UFUNC_METHODS, axes, inverse, numpy_function, reduction
from sadl.ops.scans import shifted
from sadl.tape import bind

F = TypeVar("F", bound=Callable[..., Any])


def keep(value: Any, x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """A reduced value with the reduced axes put back as size 1, so that it broadcasts against `x`."""
    return value if keepdims else value.reshape([1 if i in axis else n for i, n in enumerate(x.shape)])


SMALL = 4096  # elements that are copied sooner than np.broadcast_to gets going


def spread(value: Any, shape: tuple[int, ...]) -> Any:
    """np.broadcast_to for a gradient rule."""
    if value.__class__ is not np.ndarray or math.prod(shape) > SMALL:
        return np.broadcast_to(value, shape)
    out = np.empty(shape, value.dtype)
    out[...] = value
    return out


def _vjp_sum(g: Any, y: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    return spread(keep(g, x, axis, keepdims), x.shape)


def _vjp_extreme(g: Any, y: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    ties = (x == keep(y, x, axis, keepdims)).astype(g.dtype)
    return keep(g, x, axis, keepdims) * ties / np.sum(ties, axis=axis, keepdims=True)


def _vjp_prod(g: Any, y: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    """For each element the product of all others: of those before it and those behind it, since it may be 0 itself."""
    kept = tuple(i for i in range(x.ndim) if i not in axis)
    rows = np.transpose(x, (*kept, *axis))
    flat = np.reshape(rows, (*(x.shape[i] for i in kept), math.prod(x.shape[i] for i in axis)))
    before = shifted(np.cumprod(flat, axis=-1), len(kept), 1)
    behind = np.flip(shifted(np.cumprod(np.flip(flat, -1), axis=-1), len(kept), 1), -1)
    others = np.transpose(np.reshape(before * behind, rows.shape), inverse((*kept, *axis)))
    return keep(g, x, axis, keepdims) * others


reduce_sum = reduction("sum", np.add, "add_any_order({acc}, {x})", 0, [_vjp_sum])
reduce_prod = reduction("prod", np.multiply, "multiply_any_order({acc}, {x})", 1, [_vjp_prod])
reduce_max = reduction("max", np.maximum, "maximum({acc}, {x})", None, [_vjp_extreme])
reduce_min = reduction("min", np.minimum, "minimum({acc}, {x})", None, [_vjp_extreme])
reduce_any = reduction("any", np.logical_or, "{acc} | ({x} != 0)", False, [None])
reduce_all = reduction("all", np.logical_and, "{acc} & ({x} != 0)", True, [None])


def _reduce(op: Any, a: Any, axis: Any, keepdims: Any) -> Any:
    return bind(op, a, axis=axes(axis, a.ndim), keepdims=bool(keepdims))


def of_ufunc(ufunc: np.ufunc) -> Callable[[F], F]:
    """Decorator: this reduction is also `ufunc.reduce`, which reduces axis 0 unless told otherwise."""

    def add(body: F) -> F:
        def reduce(
            array: Any,
            axis: Any = 0,
            dtype: Any = None,
            out: Any = None,
            keepdims: Any = False,
            initial: Any = None,
            where: Any = True,
        ) -> Any:
            x = array if dtype is None else array.astype(dtype)
            return body(x, axis=axis, keepdims=keepdims, initial=initial, where=where)

        UFUNC_METHODS[ufunc, "reduce"] = reduce
        return body

    return add


@of_ufunc(np.add)
@numpy_function(np.sum, method="sum")
def sum_(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    a = a if dtype is None else a.astype(dtype)
    a = a if where is True else np.where(where, a, 0)
    total = bind(reduce_sum, a, axis=axes(axis, a.ndim), keepdims=bool(keepdims))
    return total if initial is None or initial is np._NoValue else total + initial


@of_ufunc(np.multiply)
@numpy_function(np.prod, method="prod")
def prod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    a = a if dtype is None else a.astype(dtype)
    a = a if where is True else np.where(where, a, 1)
    product = _reduce(reduce_prod, a, axis, keepdims)
    return product if initial is None or initial is np._NoValue else product * initial


def _extreme(op: Any, ufunc: np.ufunc) -> Any:
    def reduce(
        a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
    ) -> Any:
        if initial is not None and initial is not np._NoValue:
            a = np.where(where, a, initial)
            if 0 in [a.shape[i] for i in axes(axis, a.ndim)]:
                return np.full_like(np.sum(a, axis=axis, keepdims=keepdims), initial)
            return ufunc(_reduce(op, a, axis, keepdims), initial)
        if where is not True:
            raise ValueError(f"[{op.name}] where= needs initial=, the result where nothing is selected.")
        return _reduce(op, a, axis, keepdims)

    reduce.__name__ = op.name
    return reduce


max_ = of_ufunc(np.maximum)(numpy_function(np.max, np.amax, method="max")(_extreme(reduce_max, np.maximum)))
min_ = of_ufunc(np.minimum)(numpy_function(np.min, np.amin, method="min")(_extreme(reduce_min, np.minimum)))


def _truth(op: Any, neutral: bool) -> Any:
    def reduce(
        a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, where: Any = True, initial: Any = None
    ) -> Any:
        a = a if where is True else np.where(where, a != 0, neutral)
        truth = _reduce(op, a, axis, keepdims)
        return truth if initial is None else (op.run.__self__)(truth, initial)

    reduce.__name__ = op.name
    return reduce


any_ = of_ufunc(np.logical_or)(numpy_function(np.any, method="any")(_truth(reduce_any, False)))
all_ = of_ufunc(np.logical_and)(numpy_function(np.all, method="all")(_truth(reduce_all, True)))


def _count(a: Any, axis: Any) -> int:
    return math.prod([a.shape[i] for i in axes(axis, a.ndim)])


@numpy_function(np.mean, method="mean")
def mean(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, where: Any = True) -> Any:
    count = _count(a, axis)
    if where is not True:
        chosen = np.broadcast_to(where, a.shape)
        a, count = np.where(chosen, a, 0), np.sum(chosen, axis=axis, keepdims=keepdims)
    half = dtype is None and a.dtype == np.float16
    total = sum_(a, axis, np.float32 if half else _wide(a, dtype), keepdims=keepdims)
    return _divided(total, count, a.dtype if half else total.dtype)


def _wide(a: Any, dtype: Any) -> Any:
    """The dtype that means are computed in, if it is not that of `a`."""
    return np.float64 if dtype is None and a.dtype.kind in "iub" else dtype


def _divided(total: Any, count: Any, dtype: np.dtype) -> Any:
    value = total / (count if isinstance(count, (int, float)) else count.astype(total.dtype))
    return value if value.dtype == dtype else value.astype(dtype)


@numpy_function(np.var, method="var")
def var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    ddof = ddof if correction is None or correction is np._NoValue else correction
    if mean is None or mean is np._NoValue:
        mean = np.mean(a, axis=axis, dtype=dtype, keepdims=True, where=where)
    d = a - mean if where is True else np.where(where, a - mean, 0)
    square = d * d if d.dtype.kind != "c" else np.real(d * np.conjugate(d))
    total = sum_(square, axis, _wide(a, dtype), keepdims=keepdims)
    if where is True:
        return _divided(total, max(_count(a, axis) - ddof, 0), total.dtype)
    chosen = np.sum(np.broadcast_to(where, a.shape), axis=axis, keepdims=keepdims)
    return _divided(total, np.maximum(chosen - ddof, 0), total.dtype)


@numpy_function(np.std, method="std")
def std(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    square = var(a, axis, dtype, None, ddof, keepdims, where=where, mean=mean, correction=correction)
    value = np.sqrt(square)
    return value if value.dtype == square.dtype else value.astype(square.dtype)
