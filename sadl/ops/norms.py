"""Norms of vectors and matrices in every order, and the condition number: compositions of other functions.

Takes axes as NumPy does. A norm that is 0 has the gradient 0, which is one of the slopes that fit there; equal largest
elements share the gradient equally, as in `max`.
Singular values and inverses are in `decompositions` and `linalg`.
"""

from typing import Any

import numpy as np

from sadl.op import axes, numpy_function
from sadl.ops.linalg import inverse_or_nan
from sadl.tape import as_array, bind


def _squares(x: Any) -> Any:
    return np.real(x * np.conjugate(x)) if x.dtype.kind == "c" else x * x


def _root(total: Any, p: float = 2) -> Any:
    """total**(1/p), with the gradient 0 where it is 0: of the slopes that fit there, the least."""
    if p < 0:
        return total ** (1 / p)
    zero = total == 0
    safe = np.where(zero, 1, total)
    return np.where(zero, 0, np.sqrt(safe) if p == 2 else safe ** (1 / p))


def _largest(x: Any, axis: Any, keepdims: bool) -> Any:
    """The largest of numbers that are not negative: 0 if there are none, as NumPy has it."""
    empty = 0 in [x.shape[i] for i in axes(axis, x.ndim)]
    return (np.sum if empty else np.max)(x, axis=axis, keepdims=keepdims)


_EXTREMES = {np.inf: _largest, -np.inf: lambda x, axis, keepdims: np.min(x, axis=axis, keepdims=keepdims)}


def _vector_norm(x: Any, order: Any, axis: Any, keepdims: bool) -> Any:
    if order is None or order == 2:
        return _root(np.sum(_squares(x), axis=axis, keepdims=keepdims))
    if isinstance(order, str) or np.ndim(order):
        raise ValueError(f"[norm] invalid norm order {order!r} for vectors.")
    sizes = np.abs(x)
    if order == 0:
        return np.sum((x != 0).astype(sizes.dtype), axis=axis, keepdims=keepdims)
    if order in _EXTREMES:
        return _EXTREMES[order](sizes, axis, keepdims)
    if order == 1:
        return np.sum(sizes, axis=axis, keepdims=keepdims)
    p = float(order)
    return _root(np.sum(sizes**p, axis=axis, keepdims=keepdims), p)


def _matrix_norm(x: Any, order: Any, rows: int, columns: int) -> Any:
    """The norm without `rows` and `columns`, the two axes of the matrices."""
    if order in (None, "fro", "f"):
        return _root(np.sum(_squares(x), axis=(rows, columns)))
    if order in (1, -1, np.inf, -np.inf):
        first, second = (rows, columns) if abs(order) == 1 else (columns, rows)
        sums = np.sum(np.abs(x), axis=first, keepdims=True)
        return np.squeeze(_EXTREMES[order * np.inf](sums, second, True), (rows, columns))
    if order not in (2, -2, "nuc"):
        raise ValueError(f"[norm] invalid norm order {order!r} for matrices.")
    s = np.linalg.svd(np.moveaxis(x, (rows, columns), (-2, -1)), compute_uv=False)
    return np.sum(s, axis=-1) if order == "nuc" else _EXTREMES[order * np.inf](s, -1, False)


@numpy_function(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    x = as_array(x)
    x = x if x.dtype.kind in "fc" else x.astype(float)
    if axis is None and (ord is None or (x.ndim, ord) in ((2, "f"), (2, "fro"), (1, 2))):
        return _vector_norm(x, 2, None, keepdims)
    given = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (int(axis),)
    if len(given) == 1:
        return _vector_norm(x, ord, given, keepdims)
    if len(given) != 2:
        raise ValueError(f"[norm] one axis or two are needed, found {given}.")
    rows, columns = (axes(i, x.ndim)[0] for i in given)
    if rows == columns:
        raise ValueError(f"[norm] duplicate axes in {axis}.")
    value = _matrix_norm(x, ord, rows, columns)
    return np.expand_dims(value, (rows, columns)) if keepdims else value


@numpy_function(np.linalg.matrix_norm)
def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    return np.linalg.norm(x, ord, (-2, -1), keepdims)


@numpy_function(np.linalg.vector_norm)
def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    """The norm of all elements along some axes, taken for one vector."""
    x = as_array(x)
    x = x if x.dtype.kind in "fc" else x.astype(float)
    return _vector_norm(x, ord, axes(axis, x.ndim), keepdims)


@numpy_function(np.linalg.cond)
def cond(x: Any, p: Any = None) -> Any:
    """Infinite, as in NumPy, where the matrix is singular."""
    x = as_array(x)
    if x.ndim < 2 or x.size == 0:
        raise np.linalg.LinAlgError(f"[cond] is not defined for shape {x.shape}.")
    with np.errstate(all="ignore"):
        if p in (None, 2, -2):
            s = np.linalg.svd(x, compute_uv=False)
            ratio = s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
        else:
            both = (x, bind(inverse_or_nan, x))
            ratio = np.multiply(*(np.linalg.norm(m, p, (-2, -1)) for m in both))
        lost = np.isnan(ratio) & ~np.any(np.isnan(x), axis=(-2, -1))
        return np.where(lost, np.inf, ratio)
