"""Functions of the order of elements: sort, partition, median, quantiles, searchsorted; arg-sorts are constants.

Takes what NumPy's functions take. A sorted array is a gather along the arg-sort. A quantile is NumPy's own; as long as the
order stays the same it is a weighted sum of elements, whose weights come from running it on steps.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sadl.op import Aval, Op, axes, call, numpy_function
from sadl.ops.indexing import take_item
from sadl.tape import MODE, Traced, as_array, bind, known, plain

Function = Callable[..., Any]


# ---- sort ----------------------------------------------------------------------------------------------------------


def _argsort(name: str, run: Function) -> Op:
    return call(name, run, [None], infer=lambda op, x, **_: Aval(x.shape, np.dtype(np.intp)))


argsort = _argsort("argsort", lambda x, *, axis, kind: np.argsort(x, axis=axis, kind=kind))
argpartition = _argsort("argpartition", lambda x, *, kth, axis: np.argpartition(x, kth, axis=axis))


def _whole(a: Any, axis: Any) -> tuple[Any, int]:
    """The array and axis meant by NumPy's `axis`: None is all elements in order."""
    a = as_array(a)
    if axis is not None and a.ndim == 0:
        raise np.exceptions.AxisError(axis, 0)
    return (np.ravel(a), 0) if axis is None else (a, axes(axis, a.ndim)[0])


@numpy_function(np.sort)
def sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    x, axis = _whole(a, axis)
    return np.take_along_axis(x, bind(argsort, x, axis=axis, kind="stable" if stable or kind is None else kind), axis)


@numpy_function(np.argsort, method="argsort")
def argsort_(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    x, axis = _whole(a, axis if np.ndim(a) else None)
    return np.reshape(bind(argsort, x, axis=axis, kind="stable" if stable else kind), x.shape)


@numpy_function(np.partition)
def partition(a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None) -> Any:
    x, axis = _whole(a, axis)
    return np.take_along_axis(x, bind(argpartition, x, kth=_kth(kth), axis=axis), axis)


@numpy_function(np.argpartition, method="argpartition")
def argpartition_(a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None) -> Any:
    x, axis = _whole(a, axis)
    return bind(argpartition, x, kth=_kth(kth), axis=axis)


def _kth(kth: Any) -> Any:
    return tuple(int(k) for k in np.ravel(known(kth)))


@numpy_function(np.sort_complex)
def sort_complex(a: Any) -> Any:
    x = np.sort(a)
    small = x.dtype.kind in "iu" and x.dtype.itemsize < 4
    return x if x.dtype.kind == "c" else x.astype(np.complex64 if small else np.complex128)


# ---- distinct elements ---------------------------------------------------------------------------------------------

unique_op = call(
    "unique",
    lambda x, *, axis, equal_nan: np.unique(x, True, True, True, axis, equal_nan=equal_nan)[1:],
    [None],
    outs=3,
    open_size=lambda *_, **__: True,
)


@numpy_function(np.unique)
def unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: Any = None,
    *,
    equal_nan: bool = True,
    sorted: bool = True,
) -> Any:
    """The first of equal elements each, gathered, so that it is that one to which a gradient goes."""
    x = np.ravel(as_array(ar)) if axis is None else as_array(ar)
    along = None if axis is None else axes(axis, x.ndim)[0]
    index, inverse, counts = bind(unique_op, x, axis=along, equal_nan=equal_nan)
    inverse = np.reshape(inverse, np.shape(ar)) if axis is None else inverse
    values = np.take(x, index, axis=0 if axis is None else along)
    pairs = ((return_index, index), (return_inverse, inverse), (return_counts, counts))
    more = [v for wanted, v in pairs if wanted]
    return (values, *more) if more else values


@numpy_function(np.setdiff1d)
def setdiff1d(ar1: Any, ar2: Any, assume_unique: bool = False) -> Any:
    x = np.ravel(as_array(ar1)) if assume_unique else np.unique(as_array(ar1))
    return take_item(x, np.isin(x, as_array(ar2), assume_unique=True, invert=True))


# ---- quantiles -----------------------------------------------------------------------------------------------------


@functools.lru_cache(256)
def _weights_of_sorted(n: int, q: bytes, method: str, ordered: bytes) -> np.ndarray:
    """How much each of `n` sorted elements counts in each quantile, of shape (quantiles, n).

    A quantile of the step that is 0 for the first k elements is the sum of the weights of the others.
    """
    steps = (np.arange(n)[:, None] >= n - np.arange(n + 1)).astype(float)  # column k: n - k zeros, then k ones
    run: Any = np.quantile
    given: Any = {} if not ordered else {"weights": np.broadcast_to(np.frombuffer(ordered)[:, None], steps.shape)}
    totals = run(steps, np.frombuffer(q), axis=0, method=method, **given)
    return np.diff(totals, axis=-1)[:, ::-1]


def _weights(x: Any, w: Any = None, *, q: tuple[float, ...], axis: tuple[int, ...], method: str, nan: bool) -> Any:
    """The weight of each element of `x` in each quantile over `axis`, of shape (quantiles, *x.shape)."""
    kept = [i for i in range(x.ndim) if i not in axis]
    rows = x.transpose([*kept, *axis]).reshape(math.prod(x.shape[i] for i in kept), -1 if x.size else 0)
    weights = None if w is None else np.broadcast_to(w, x.shape).transpose([*kept, *axis]).reshape(rows.shape)
    out = np.zeros((len(q), *rows.shape), x.dtype)
    order = np.argsort(rows, axis=-1, kind="stable")
    counts = np.sum(~np.isnan(rows), axis=-1) if nan else np.full(len(rows), rows.shape[-1])
    code = np.asarray(q, float).tobytes()
    for r, (places, n) in enumerate(zip(order, counts.tolist(), strict=True)):
        ordered = b"" if weights is None else weights[r, places[:n]].astype(float).tobytes()
        if n:
            out[:, r, places[:n]] = _weights_of_sorted(n, code, method, ordered)
    back = np.argsort([*kept, *axis])
    shape = (len(q), *(x.shape[i] for i in [*kept, *axis]))
    return out.reshape(shape).transpose([0, *(back + 1)])


def _infer_weights(op: Op, x: Aval, *_: Any, q: tuple[float, ...], **__: Any) -> Aval:
    return Aval((len(q), *x.shape), x.dtype)


quantile_weights = call("quantile_weights", _weights, [None, None], infer=_infer_weights)


def _run_quantile(x: Any, *w: Any, q: Any, axis: Any, method: str, nan: bool) -> Any:
    run: Any = np.nanquantile if nan else np.quantile
    given: Any = {"weights": np.broadcast_to(w[0], x.shape)} if w else {}
    return run(x, np.asarray(q, _real(x.dtype)), axis=axis, method=method, **given)


def _real(dtype: np.dtype) -> np.dtype:
    return dtype if dtype.kind == "f" else np.dtype(float)


def _vjp_quantile(g: Any, y: Any, x: Any, *w: Any, q: Any, axis: tuple[int, ...], method: str, nan: bool) -> Any:
    weights = bind(quantile_weights, x, *w, q=q, axis=axis, method=method, nan=nan)
    spread = np.reshape(g, (len(q), *(1 if i in axis else n for i, n in enumerate(x.shape))))
    return np.sum(spread * weights, axis=0)


def _infer_quantile(op: Op, x: Aval, *_: Any, q: Any, axis: tuple[int, ...], **__: Any) -> Aval:
    return Aval((len(q), *(n for i, n in enumerate(x.shape) if i not in axis)), _real(x.dtype))


quantile_op = call("quantile", _run_quantile, [_vjp_quantile, None], infer=_infer_quantile)


def _quantile(a: Any, q: Any, axis: Any, keepdims: Any, method: str, weights: Any, nan: bool) -> Any:
    a, q = as_array(a), as_array(q)
    captured = MODE.get().recorder is not None
    if isinstance(q, Traced) and (q.requires_grad or captured):
        if method == "linear" and not nan and weights is None:
            if not captured and np.any((plain(q) < 0) | (plain(q) > 1)):
                raise ValueError(f"[quantile] q is within 0 and 1, or 0 and 100 percent, found {q}.")
            return _lerp(a, q, axis, keepdims)
        if q.requires_grad:
            raise TypeError("[quantile] a gradient by q needs method='linear'. Instead: pass np.asarray(q).")
    q = known(q)
    along = axes(axis, a.ndim)
    w = [] if weights is None else [_spread(weights, a.shape, along)]
    found = bind(quantile_op, a, *w, q=tuple(q.ravel().tolist()), axis=along, method=method, nan=nan)
    left = [1 if i in along else n for i, n in enumerate(a.shape)] if keepdims not in (False, np._NoValue) else None
    return np.reshape(found, (*q.shape, *(found.shape[1:] if left is None else left)))


def _lerp(a: Any, q: Any, axis: Any, keepdims: Any) -> Any:
    """Quantiles of sorted elements, linear in `q` between two of them."""
    along = axes(axis, a.ndim)
    kept = [i for i in range(a.ndim) if i not in along]
    count = math.prod(a.shape[i] for i in along)
    rows = np.sort(np.reshape(np.transpose(a, (*along, *kept)), (count, *(a.shape[i] for i in kept))), axis=0)
    place = np.reshape(q * (len(rows) - 1), (-1, *(1,) * len(kept)))
    low = np.clip(np.floor(place), 0, max(len(rows) - 2, 0))
    index = np.reshape(low, -1).astype(np.intp)
    below, above = take_item(rows, index), take_item(rows, np.minimum(index + 1, len(rows) - 1))
    left = (
        [1 if i in along else n for i, n in enumerate(a.shape)]
        if keepdims not in (False, np._NoValue)
        else rows.shape[1:]
    )
    found = np.where(np.isnan(rows[-1]), np.nan, below + (above - below) * (place - low))
    return np.reshape(found, (*q.shape, *left))


def _spread(weights: Any, shape: tuple[int, ...], axis: tuple[int, ...]) -> Any:
    """Weights of one axis in the place of that axis."""
    w = as_array(weights)
    if w.shape == shape:
        return w
    return np.broadcast_to(np.reshape(w, [n if i in axis else 1 for i, n in enumerate(shape)]), shape)


def _quantiles(function: Function, scale: float, nan: bool) -> None:
    def quantile(
        a: Any,
        q: Any,
        axis: Any = None,
        out: Any = None,
        overwrite_input: bool = False,
        method: str = "linear",
        keepdims: Any = False,
        *,
        weights: Any = None,
    ) -> Any:
        return _quantile(a, np.true_divide(as_array(q), scale), axis, keepdims, method, weights, nan)

    numpy_function(function)(quantile)


_quantiles(np.quantile, 1, nan=False)
_quantiles(np.percentile, 100, nan=False)
_quantiles(np.nanquantile, 1, nan=True)
_quantiles(np.nanpercentile, 100, nan=True)


def _median(nan: bool) -> Function:
    def median(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False) -> Any:
        return _quantile(a, 0.5, axis, keepdims, "linear", None, nan)

    return median


numpy_function(np.median)(_median(nan=False))
numpy_function(np.nanmedian)(_median(nan=True))


# ---- positions -----------------------------------------------------------------------------------------------------


@numpy_function(np.interp)
def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    """Linear between the points (xp, fp); `left` and `right` of them the first and the last value."""
    x, xp, fp = map(as_array, (x, xp, fp))
    if period is not None:
        x, xp = np.remainder(x, period), np.remainder(xp, period)
        order = np.argsort(xp)
        xp, fp = take_item(xp, order), take_item(fp, order)
        xp = np.concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp = np.concatenate([fp[-1:], fp, fp[:1]])
    if len(xp) == 1:
        inner = np.broadcast_to(fp[0], x.shape)
    else:
        at = np.clip(np.searchsorted(xp, x, side="right") - 1, 0, len(xp) - 2)
        slope = (fp[1:] - fp[:-1]) / (xp[1:] - xp[:-1])
        inner = take_item(slope, at) * (x - take_item(xp, at)) + take_item(fp, at)
    inner = np.where(x < xp[0], fp[0] if left is None or period is not None else left, inner)
    return np.where(x > xp[-1], fp[-1] if right is None or period is not None else right, inner)


@numpy_function(np.searchsorted, method="searchsorted")
def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    a, v = as_array(a), as_array(v)
    more = [] if sorter is None else [as_array(sorter)]
    return bind(searchsorted_op, a, v, *more, side=side)


searchsorted_op = call(
    "searchsorted",
    lambda a, v, *sorter, side: np.searchsorted(a, v, side, *sorter),
    [None, None, None],
    infer=lambda op, a, v, *_, side: Aval(v.shape if isinstance(v, Aval) else (), np.dtype(np.intp)),
)
