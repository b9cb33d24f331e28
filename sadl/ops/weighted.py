"""Reductions that leave something out, or weigh it: the nan family, average.

Takes what NumPy's functions of these names take; each is an ordinary reduction of filled in or weighted values.
Medians and quantiles are in `sorting`.
"""

from typing import Any

import numpy as np

from sadl.op import axes, numpy_function
from sadl.ops.reductions import of_ufunc
from sadl.tape import as_array


def _filled(a: Any, value: float, where: Any = True) -> tuple[Any, Any]:
    """`a` with `value` wherever it is not to count, and where it counts."""
    if a.dtype.kind not in "fc":
        counts = np.broadcast_to(_all(where), a.shape)
        return (a if _all(where) is True else np.where(counts, a, value).astype(a.dtype)), counts
    counts = ~np.isnan(a) if where is True or where is np._NoValue else ~np.isnan(a) & where
    return np.where(counts, a, value), counts


@numpy_function(np.nansum)
def nansum(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    return np.sum(_filled(a, 0)[0], axis, dtype, None, _flag(keepdims), initial, _all(where))


@numpy_function(np.nanprod)
def nanprod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    return np.prod(_filled(a, 1)[0], axis, dtype, None, _flag(keepdims), initial, _all(where))


@numpy_function(np.nancumsum)
def nancumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    return np.cumsum(_filled(a, 0)[0], axis, dtype)


@numpy_function(np.nancumprod)
def nancumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    return np.cumprod(_filled(a, 1)[0], axis, dtype)


def _flag(value: Any) -> Any:
    return False if value is np._NoValue else value


def _all(where: Any) -> Any:
    return True if where is np._NoValue else where


def _nan_extreme(extreme: Any, worst: float) -> Any:
    def reduce(
        a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
    ) -> Any:
        keepdims, where = _flag(keepdims), _all(where)
        if initial is None or initial is np._NoValue:
            value, counts = _filled(a, worst, where)
            found = extreme(value, axis=axis, keepdims=keepdims)
            nothing = ~np.any(counts, axis=axis, keepdims=keepdims)
            return np.where(nothing, np.nan, found) if a.dtype.kind == "f" else found
        return extreme(_filled(a, worst)[0], axis=axis, keepdims=keepdims, initial=initial, where=where)

    return reduce


nanmax = of_ufunc(np.fmax)(numpy_function(np.nanmax)(_nan_extreme(np.max, -np.inf)))
nanmin = of_ufunc(np.fmin)(numpy_function(np.nanmin)(_nan_extreme(np.min, np.inf)))


@numpy_function(np.nanmean)
def nanmean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, where: Any = True
) -> Any:
    value, counts = _filled(a, 0, where)
    total = np.sum(value, axis=axis, dtype=dtype, keepdims=_flag(keepdims))
    return total / np.sum(counts, axis=axis, keepdims=_flag(keepdims)).astype(_real(total))


def _real(x: Any) -> np.dtype:
    return np.empty(0, x.dtype).real.dtype


@numpy_function(np.nanvar)
def nanvar(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    ddof = ddof if correction is None or correction is np._NoValue else correction
    if mean is None or mean is np._NoValue:
        mean = np.nanmean(a, axis=axis, dtype=dtype, keepdims=True, where=where)
    counts = _filled(a, 0, where)[1]
    d = np.where(counts, a - mean, 0)
    square = d * d if d.dtype.kind != "c" else np.real(d * np.conjugate(d))
    keepdims = _flag(keepdims)
    total = np.sum(square, axis=axis, dtype=dtype, keepdims=keepdims)
    left = np.sum(counts, axis=axis, keepdims=keepdims) - ddof
    return total / np.where(left > 0, left, np.nan).astype(total.dtype)


@numpy_function(np.nanstd)
def nanstd(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    return np.sqrt(np.nanvar(a, axis, dtype, None, ddof, keepdims, where=where, mean=mean, correction=correction))


@numpy_function(np.average)
def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Any:
    """The weighted mean; a row of weights for one axis (or several, in order) of `a` will do."""
    keepdims = _flag(keepdims)
    if weights is None:
        mean = np.mean(a, axis=axis, keepdims=keepdims)
        scale = np.full_like(mean, a.size / mean.size)
        return (mean, scale) if returned else mean
    w = _spread_weights(a, axis, weights)
    w = w.astype(np.result_type(a.dtype, w.dtype, *([np.float64] if a.dtype.kind in "iub" else [])))
    scale = np.sum(w, axis=axis, keepdims=keepdims)
    mean = np.sum(np.multiply(a, w), axis=axis, keepdims=keepdims) / scale
    return (mean, np.broadcast_to(scale, mean.shape)) if returned else mean


def _spread_weights(a: Any, axis: Any, weights: Any) -> Any:
    w = as_array(weights)
    if w.shape == np.shape(a):
        return w
    along = axes(axis, a.ndim) if axis is not None else ()
    given = axis if isinstance(axis, tuple) else (axis,)
    if axis is None or w.shape != tuple(a.shape[i] for i in given):
        raise (TypeError if axis is None else ValueError)(
            f"[average] weights of shape {w.shape} do not fit shape {np.shape(a)} along axis={axis}."
        )
    order = np.argsort([i % a.ndim for i in given])
    w = np.transpose(w, tuple(int(i) for i in order))
    w = np.reshape(w, [n if i in along else 1 for i, n in enumerate(a.shape)])
    return np.broadcast_to(w, a.shape)
