"""Running totals along one axis: cumsum, cumprod, running maxima, and the linear recurrence that their gradients are.

Takes an axis (None: all elements in order), as NumPy does; one op each, whose rules are scans again.
Running any other ufunc along an axis is left to `ufunc_methods`.
"""

from typing import Any

import numpy as np

from sadl.op import Aval, Op, axes, call, numpy_function
from sadl.tape import bind

# ---- ops -----------------------------------------------------------------------------------------------------------


def _reverse(x: Any, axis: int) -> Any:
    return np.flip(x, axis)


def shifted(x: Any, axis: int, first: float) -> Any:
    """`x` moved on by one along `axis`, with `first` in the place that becomes free."""
    start = np.full_like(_slice(x, axis, 0, 1), first)
    return np.concatenate([start, _slice(x, axis, 0, -1)], axis)


def _slice(x: Any, axis: int, lo: int | None, hi: int | None) -> Any:
    return x[(*(slice(None),) * axis, slice(lo, hi))]


def _linear_scan(a: Any, b: Any, *, axis: int) -> Any:
    """s[k] = a[k] s[k-1] + b[k], with s[-1] = 0, by doubling the reach of each element log2(n) times.

    Source: W. Hillis and G. Steele, Data parallel algorithms, 1986.
    """
    a, b = (np.moveaxis(np.array(x), axis, 0) for x in (a, b))
    reach = 1
    while reach < len(b):
        b[reach:] = b[reach:] + a[reach:] * b[:-reach]
        a[reach:] = a[reach:] * a[:-reach]
        reach *= 2
    return np.moveaxis(b, 0, axis)


def _scan_back(g: Any, s: Any, a: Any, b: Any, *, axis: int) -> Any:
    """The cotangent of b: t[k] = g[k] + a[k+1] t[k+1], which runs backward."""
    a, g = _reverse(a, axis), _reverse(g, axis)
    return _reverse(bind(linear_scan, shifted(a, axis, 0), g, axis=axis), axis)


def _vjp_scan_a(g: Any, s: Any, a: Any, b: Any, *, axis: int) -> Any:
    return _scan_back(g, s, a, b, axis=axis) * shifted(s, axis, 0)


def _vjp_cumsum(g: Any, y: Any, x: Any, *, axis: int) -> Any:
    return _reverse(np.cumsum(_reverse(g, axis), axis=axis), axis)


def _vjp_cumprod(g: Any, y: Any, x: Any, *, axis: int) -> Any:
    """y[k] = x[k] y[k-1]: a recurrence, so that no division by x is needed where x is 0."""
    return _scan_back(g, y, x, x, axis=axis) * shifted(y, axis, 1)


def _same(op: Op, x: Aval, *_: Any, axis: int) -> Aval:
    return x


def _summed(op: Op, x: Aval, *, axis: int) -> Aval:
    return Aval(x.shape, op.run(np.empty(1, x.dtype), axis=0).dtype)


def _running_place(x: Any, y: Any, *, axis: int) -> Any:
    """For the running extreme `y` of `x`, the last position so far at which it was taken."""
    at = np.arange(x.shape[axis]).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    taken = (x == y) | (np.isnan(x) & np.isnan(y))
    return np.maximum.accumulate(np.where(taken, at, 0), axis=axis)


# fmt: off
linear_scan: Op = call("linear_scan", _linear_scan, [_vjp_scan_a, _scan_back], infer=_same)
cumsum  = call("cumsum", lambda x, *, axis: np.cumsum(x, axis=axis), [_vjp_cumsum], infer=_summed)
cumprod = call("cumprod", lambda x, *, axis: np.cumprod(x, axis=axis), [_vjp_cumprod], infer=_summed)
running_place = call("running_place", _running_place, [None, None],
                     infer=lambda op, x, y, *, axis: Aval(x.shape, np.dtype(np.intp)))
# fmt: on

# ---- NumPy's functions ---------------------------------------------------------------------------------------------


def _along(op: Op, a: Any, axis: Any, dtype: Any) -> Any:
    a = a if dtype is None else a.astype(dtype)
    if axis is None or a.ndim == 0:
        return bind(op, np.ravel(a), axis=0)
    return bind(op, a, axis=axes(axis, a.ndim)[0])


@numpy_function(np.cumsum, method="cumsum")
def cumsum_(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    return _along(cumsum, a, axis, dtype)


@numpy_function(np.cumprod, method="cumprod")
def cumprod_(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    return _along(cumprod, a, axis, dtype)


@numpy_function(ufunc_method=(np.add, "accumulate"))
def add_accumulate(array: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
    return _along(cumsum, array, axis, dtype)


@numpy_function(ufunc_method=(np.multiply, "accumulate"))
def multiply_accumulate(array: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
    return _along(cumprod, array, axis, dtype)


def _running(ufunc: np.ufunc) -> Any:
    """Running maxima and minima; a tie belongs to the last of the equal elements."""

    def accumulate(array: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        x = array if dtype is None else array.astype(dtype)
        axis = axes(axis, x.ndim)[0]
        y = bind(RUNNING[ufunc], x, axis=axis)
        return np.take_along_axis(x, bind(running_place, x, y, axis=axis), axis)

    return accumulate


def _extreme(ufunc: np.ufunc) -> Op:
    run = lambda x, *, axis: ufunc.accumulate(x, axis=axis)
    return call(f"running_{ufunc.__name__}", run, [None], infer=_same)


RUNNING: dict[Any, Op] = {ufunc: _extreme(ufunc) for ufunc in (np.maximum, np.minimum, np.fmax, np.fmin)}
for _ufunc in RUNNING:
    numpy_function(ufunc_method=(_ufunc, "accumulate"))(_running(_ufunc))
