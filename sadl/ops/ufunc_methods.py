"""The methods of ufuncs that no other file of the table has: reduce, accumulate, reduceat and at, for any ufunc.

Takes a ufunc of the table; composes its method of calls of the ufunc itself, in the order in which NumPy works.
`np.add.reduce` and its like, which have ops of their own, are found first.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sadl.op import OPS, UFUNC_METHODS, UFUNCS, axes
from sadl.ops.indexing import ARRAY, decode, encode
from sadl.ops.reductions import of_ufunc
from sadl.tape import MODE, Traced, arrayed, bind, plain

Ufunc = Callable[..., Any]


def reduce(
    ufunc: np.ufunc,
    array: Any,
    axis: Any = 0,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """From the first element (or `initial`) on, one element after the other."""
    x = array if dtype is None else array.astype(dtype)
    gone = axes(axis, x.ndim)
    kept = tuple(i for i in range(x.ndim) if i not in gone)
    if len(gone) > 1 and ufunc.identity is None and ufunc not in _REORDERABLE:
        raise ValueError(f"[{ufunc.__name__}.reduce] only one axis, since the order matters, found axis={axis}.")
    count = math.prod(x.shape[i] for i in gone)
    rows = np.reshape(np.transpose(x, (*gone, *kept)), (count, *(x.shape[i] for i in kept)))
    mask = None if where is True else np.transpose(np.broadcast_to(where, x.shape), (*gone, *kept))
    chosen = None if mask is None else np.reshape(mask, rows.shape)
    total = _fold(ufunc, rows, chosen, None if initial is np._NoValue else initial)
    return np.reshape(total, [1 if i in gone else n for i, n in enumerate(x.shape)]) if keepdims else total


_REORDERABLE = {np.maximum, np.minimum, np.fmax, np.fmin}


def _fold(ufunc: np.ufunc, rows: Any, chosen: Any, initial: Any) -> Any:
    start = ufunc.identity if initial is None and (len(rows) == 0 or chosen is not None) else initial
    if start is None and (chosen is not None or len(rows) == 0):
        raise ValueError(f"[{ufunc.__name__}.reduce] where= and empty axes need initial=, as there is no identity.")
    if start is None:
        return functools.reduce(ufunc, [rows[k] for k in range(1, len(rows))], rows[0])
    total = np.full_like(rows, start, shape=rows.shape[1:], dtype=np.result_type(rows.dtype, start))
    for k in range(len(rows)):
        new = ufunc(total, rows[k])
        total = new if chosen is None else np.where(chosen[k], new, total)
    return total


def accumulate(ufunc: np.ufunc, array: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
    x = array if dtype is None else array.astype(dtype)
    axis = axes(axis, x.ndim)[0]
    before = (slice(None),) * axis
    totals = [x[(*before, slice(0, 1))]] if x.shape[axis] else [x]
    for k in range(1, x.shape[axis]):
        totals.append(ufunc(totals[-1], x[(*before, slice(k, k + 1))]))
    return np.concatenate(totals, axis)


def reduceat(ufunc: np.ufunc, array: Any, indices: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
    x = array if dtype is None else array.astype(dtype)
    axis = axes(axis, x.ndim)[0]
    starts = [int(i) for i in indices]
    if any(not 0 <= i < x.shape[axis] for i in starts):
        raise IndexError(f"[{ufunc.__name__}.reduceat] indices {starts} do not fit an axis of size {x.shape[axis]}.")
    ends = [*starts[1:], x.shape[axis]]
    before = (slice(None),) * axis
    pieces = [x[(*before, slice(i, j if j > i else i + 1))] for i, j in zip(starts, ends, strict=True)]
    return np.concatenate([ufunc.reduce(piece, axis=axis, keepdims=True) for piece in pieces], axis)


def at(ufunc: np.ufunc, a: Any, indices: Any, *values: Any) -> Any:
    """The value of `a` after ufunc.at(a, indices, *values): elements that are named more often change as often."""
    layout, arrays = encode(indices)
    values = tuple(map(arrayed, values))
    if ufunc in (np.add, np.subtract):
        value = np.broadcast_to(values[0], np.shape(a[indices])).astype(a.dtype)
        return ufunc(a, bind(OPS["scatter_add"], value, *arrays, shape=a.shape, layout=layout))
    recorder = MODE.get().recorder
    if recorder is not None and any(isinstance(i, Traced) for i in arrays):
        recorder.read(f"np.{ufunc.__name__}.at, which looks for places that come twice,", "")
    places = np.arange(a.size).reshape(a.shape)[decode(layout, map(plain, arrays))]
    values = tuple(np.ravel(np.broadcast_to(v, np.shape(places))) for v in values)
    flat = np.ravel(a)
    for chosen in _rounds(np.ravel(places)):
        index = np.ravel(places)[chosen]
        new = ufunc(flat[index], *(v[chosen] for v in values))
        flat = bind(OPS["put"], flat, new, index, layout=(ARRAY,))
    return np.reshape(flat, a.shape)


def _rounds(places: np.ndarray) -> list[np.ndarray]:
    """Positions in `places`, in groups in which no place comes twice, in order."""
    turn = np.empty(places.size, np.intp)
    count: dict[int, int] = {}
    for k, place in enumerate(places.tolist()):
        turn[k] = count[place] = count.get(place, -1) + 1
    return [np.flatnonzero(turn == t) for t in range(turn.max(initial=-1) + 1)]


ANY_UFUNC: dict[str, Ufunc] = {"reduce": reduce, "accumulate": accumulate, "reduceat": reduceat}


def find(ufunc: np.ufunc, method: str) -> Ufunc | None:
    """The function that stands for a method of a ufunc (or a call of one with keyword arguments), if there is one."""
    own = UFUNC_METHODS.get((ufunc, method))
    if own is not None or method not in ANY_UFUNC or ufunc not in UFUNCS or ufunc.nin != 2 or ufunc.signature:
        return own
    return functools.partial(ANY_UFUNC[method], ufunc)


@of_ufunc(np.logaddexp)
def logaddexp_reduce(a: Any, axis: Any = 0, keepdims: bool = False, initial: Any = None, where: Any = True) -> Any:
    """log(sum(exp(a))), with the largest element taken out first."""
    a = a if where is True else np.where(where, a, -np.inf)
    top = np.max(a, axis=axis, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(top), top, 0)
    total = np.sum(np.exp(a - shift), axis=axis, keepdims=True)
    total = np.where(total == 0, -np.inf, np.log(np.where(total == 0, 1, total)) + shift)
    total = total if keepdims else np.squeeze(total, axes(axis, a.ndim))
    return total if initial is None else np.logaddexp(total, initial)
