"""Functions that are compositions and belong to no other family: differences, polynomials, statistics, grids, repairs.

Takes what NumPy's functions take; each is written in terms of functions of the table, from NumPy's documentation of it.
Functions whose own NumPy code runs on Tensors are in `composed`.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from sadl.op import axes, numpy_function
from sadl.ops.indexing import ARRAY, put, scatter_add, take_item
from sadl.tape import as_array, bind, known

# ---- differences and repairs --------------------------------------------------------------------------------------


@numpy_function(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    flat = np.ravel(as_array(ary))
    ends = [None if x is None else np.ravel(as_array(x)).astype(flat.dtype) for x in (to_begin, to_end)]
    return np.concatenate([x for x in (ends[0], flat[1:] - flat[:-1], ends[1]) if x is not None])


@numpy_function(np.gradient)
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Differences of second order inside, of `edge_order` at the ends, along each axis (one: an array, more: a tuple).

    Source for uneven spacing: A. Quarteroni et al., Numerical Mathematics, 2007, chapter 10.
    """
    f = as_array(f)
    f = f if f.dtype.kind in "fc" else f.astype(float)
    along = axes(axis, f.ndim) if not isinstance(axis, tuple) else tuple(axes(a, f.ndim)[0] for a in axis)
    spacings = [1.0] * len(along) if not varargs else list(varargs) * (len(along) if len(varargs) == 1 else 1)
    if len(spacings) != len(along) or edge_order not in (1, 2):
        raise TypeError(f"[gradient] {len(varargs)} spacings for {len(along)} axes, edge_order={edge_order}.")
    found = tuple(_slopes(f, a, h, edge_order) for a, h in zip(along, spacings, strict=True))
    return found[0] if len(found) == 1 else found


def _slopes(f: Any, axis: int, spacing: Any, edge_order: int) -> Any:
    f = np.moveaxis(f, axis, -1)
    n = f.shape[-1]
    if n < edge_order + 1:
        raise ValueError(f"[gradient] an axis of size {n} is too short for edge_order={edge_order}.")
    h = np.diff(as_array(spacing)) if np.ndim(spacing) else np.broadcast_to(as_array(spacing), (n - 1,))
    if h.shape != (n - 1,):
        raise ValueError(f"[gradient] {h.shape[0] + 1} coordinates for an axis of size {n}.")
    p, q = h[:-1], h[1:]
    inner = -q / (p * (p + q)) * f[..., :-2] + (q - p) / (p * q) * f[..., 1:-1] + p / (q * (p + q)) * f[..., 2:]
    if edge_order == 1:
        first, last = (f[..., 1:2] - f[..., :1]) / h[:1], (f[..., -1:] - f[..., -2:-1]) / h[-1:]
    else:
        first, last = _end(f[..., :3], p[:1], q[:1]), _end(f[..., -3:][..., ::-1], -q[-1:], -p[-1:])
    return np.moveaxis(np.concatenate([first, inner, last], -1), -1, axis).astype(f.dtype)


def _end(f: Any, p: Any, q: Any) -> Any:
    """The slope at the first of three points that are `p` and `q` apart."""
    a, b, c = -(2 * p + q) / (p * (p + q)), (p + q) / (p * q), -p / (q * (p + q))
    return a * f[..., :1] + b * f[..., 1:2] + c * f[..., 2:3]


@numpy_function(np.nan_to_num)
def nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    x = as_array(x)
    if not copy:
        raise TypeError("[nan_to_num] copy=False writes in place. Instead: x[...] = np.nan_to_num(x).")
    if x.dtype.kind not in "fc":
        return x.copy()
    if x.dtype.kind == "c":
        parts = [nan_to_num(part, True, nan, posinf, neginf) for part in (np.real(x), np.imag(x))]
        return parts[0] + 1j * parts[1]
    limits = np.finfo(x.dtype)
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    return np.where(np.isnan(x), nan, np.where(x == np.inf, high, np.where(x == -np.inf, low, x)))


@numpy_function(np.unwrap)
def unwrap(p: Any, discont: Any = None, axis: int = -1, *, period: Any = 2 * np.pi) -> Any:
    """Jumps of half a period or more are taken back by whole periods, which are constants."""
    p = as_array(p)
    p = p if p.dtype.kind == "f" else p.astype(float)
    step = np.diff(p, axis=axis)
    half = period / 2
    low = np.remainder(step + half, period) - half
    low = np.where((low == -half) & (step > 0), half, low)
    jump = np.where(np.absolute(step) < (half if discont is None else discont), 0, low - step)
    jump = np.rint(jump / period) * period
    before = (slice(None),) * axes(axis, p.ndim)[0]
    first = p[(*before, slice(0, 1))]
    return np.concatenate([first, p[(*before, slice(1, None))] + np.cumsum(jump, axis=axis)], axis)


@numpy_function(np.fix)
def fix(x: Any, out: Any = None) -> Any:
    return np.trunc(x)


@numpy_function(np.piecewise)
def piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Any:
    """Each function sees the elements for which its condition is the last to hold."""
    x = as_array(x)
    single = not isinstance(condlist, (list, tuple)) and np.ndim(condlist) <= max(x.ndim, 1)
    single = single or (isinstance(condlist, (list, tuple)) and x.ndim > 0 and np.ndim(condlist[0]) == 0)
    conditions = [as_array(c) for c in ([condlist] if single else condlist)]
    if len(funclist) not in (len(conditions), len(conditions) + 1):
        raise ValueError(f"[piecewise] {len(conditions)} conditions and {len(funclist)} functions do not fit.")
    if len(funclist) > len(conditions):
        conditions.append(~np.any(np.stack(conditions), axis=0))
    y = np.zeros_like(x)
    for condition, f in zip(conditions, funclist, strict=True):
        value = f(take_item(x, condition), *args, **kw) if callable(f) else f
        y = bind(put, y, as_array(value).astype(y.dtype), condition, layout=(ARRAY,))
    return y


@numpy_function(np.apply_over_axes)
def apply_over_axes(func: Callable[..., Any], a: Any, axes: Any) -> Any:
    value = as_array(a)
    for axis in np.ravel(axes).tolist():
        result = func(value, axis)
        value = result if result.ndim == value.ndim else np.expand_dims(result, axis)
    return value


# ---- grids --------------------------------------------------------------------------------------------------------


@numpy_function(np.linspace)
def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    *,
    device: Any = None,
) -> Any:
    number = (int, float, complex)  # which have no dtype of their own
    kind = np.result_type(*(x if isinstance(x, number) else as_array(x).dtype for x in (start, stop)), 0.0)
    start, stop = as_array(start).astype(kind), as_array(stop).astype(kind)
    parts = max(num - 1 if endpoint else num, 1)
    step = (stop - start) / parts
    shape = np.broadcast_shapes(start.shape, stop.shape)
    k = np.reshape(np.arange(num), (num, *(1,) * len(shape))).astype(kind)
    grid = np.broadcast_to(start, shape) + k * step
    if endpoint and num > 1:
        grid = np.where(k == num - 1, stop, grid)
    grid = np.moveaxis(grid, 0, axis).astype(kind if dtype is None else dtype)
    return (grid, step) if retstep else grid


@numpy_function(np.logspace)
def logspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: Any = 10.0, dtype: Any = None, axis: int = 0
) -> Any:
    powers = np.power(base, np.linspace(start, stop, num, endpoint, axis=axis))
    return powers if dtype is None else powers.astype(dtype)


@numpy_function(np.geomspace)
def geomspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0) -> Any:
    start, stop = as_array(start), as_array(stop)
    if start.dtype.kind == "c" or stop.dtype.kind == "c":
        raise TypeError(
            "[geomspace] complex ends are not supported. Instead: np.exp(np.linspace(np.log(a), np.log(b)))."
        )
    sign = np.sign(start)
    logs = np.linspace(np.log(np.absolute(start)), np.log(np.absolute(stop)), num, endpoint, axis=axis)
    grid = np.exp(logs) * (sign if np.ndim(sign) == 0 else np.expand_dims(sign, axis))
    return grid if dtype is None else grid.astype(dtype)


# ---- polynomials, highest power first -----------------------------------------------------------------------------


def _row(p: Any) -> Any:
    p = np.atleast_1d(as_array(p))
    if p.ndim != 1:
        raise ValueError(f"[poly] the coefficients are a row, found shape {p.shape}.")
    return p


@numpy_function(np.polyval)
def polyval(p: Any, x: Any) -> Any:
    p, x = as_array(p), as_array(x)
    value = np.zeros_like(x)
    for k in range(len(p)):
        value = value * x + p[k]
    return value


@numpy_function(np.polyder)
def polyder(p: Any, m: int = 1) -> Any:
    p = as_array(p)
    for _ in range(m):
        p = p[:-1] * np.arange(len(p) - 1, 0, -1)
    return p


@numpy_function(np.polyint)
def polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    p = _row(p)
    constants = (
        np.zeros(m) if k is None else np.broadcast_to(np.ravel(as_array(k)), (m,)) if np.size(k) == 1 else as_array(k)
    )
    for i in range(m):
        p = np.concatenate([p / np.arange(len(p), 0, -1), np.reshape(constants[i], (1,))])
    return p


@numpy_function(np.polymul)
def polymul(a1: Any, a2: Any) -> Any:
    return np.convolve(_row(a1), _row(a2))


@numpy_function(np.polydiv)
def polydiv(u: Any, v: Any) -> Any:
    """Quotient and remainder by long division; leading zeros of the remainder are dropped, as NumPy does."""
    u, v = _row(u) + 0.0, _row(v) + 0.0
    m, n = len(u) - 1, len(v) - 1
    quotient = []
    for k in range(max(m - n + 1, 0)):
        factor = u[k] / v[0]
        quotient.append(factor)
        u = u - np.concatenate([np.zeros(k), factor * v, np.zeros(len(u) - k - n - 1)])
    rest = known(u)
    skip = next((i for i in range(len(rest) - 1) if not np.allclose(rest[i], 0, rtol=1e-14)), len(rest) - 1)
    return (np.stack(quotient) if quotient else np.zeros(1)), u[skip:]


@numpy_function(np.poly)
def poly(seq_of_zeros: Any) -> Any:
    zeros = np.atleast_1d(as_array(seq_of_zeros))
    if zeros.ndim == 2 and zeros.shape[0] == zeros.shape[1]:
        zeros = np.linalg.eigvals(zeros)
    product = np.ones(1, zeros.dtype)
    for k in range(len(zeros)):
        product = np.convolve(product, np.stack([np.ones((), zeros.dtype), -zeros[k]]))
    conjugates = product.dtype.kind == "c" and np.array_equal(np.sort(known(zeros)), np.sort(known(zeros).conj()))
    return np.real(product) if conjugates else product


@numpy_function(np.roots)
def roots(p: Any) -> Any:
    """The eigenvalues of the companion matrix; zeros at the end of `p` are roots that are 0."""
    p = np.ravel(as_array(p))
    used = np.flatnonzero(known(p))
    if not used.size:
        return np.zeros(0)
    trailing, p = len(p) - 1 - used[-1], p[used[0] : used[-1] + 1]
    n = len(p) - 1
    if n == 0:
        return np.zeros(trailing)
    companion = np.concatenate([np.reshape(-p[1:] / p[0], (1, n)), np.eye(n - 1, n)])
    found = np.linalg.eigvals(companion)
    return np.concatenate([found, np.zeros(trailing, found.dtype)]) if trailing else found


@numpy_function(np.vander)
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    x = as_array(x)
    x = x.astype(np.promote_types(x.dtype, int))
    n = len(x) if N is None else N
    columns = list(itertools.accumulate([x] * max(n - 1, 0), lambda a, b: a * b, initial=np.ones_like(x)))[:n]
    return np.stack(columns if increasing else columns[::-1], axis=1) if n else np.zeros((len(x), 0), x.dtype)


@numpy_function(np.polyfit)
def polyfit(x: Any, y: Any, deg: int, rcond: Any = None, full: bool = False, w: Any = None, cov: Any = False) -> Any:
    """Least squares on powers of `x`, each scaled to length 1."""
    if full or cov:
        raise TypeError("[polyfit] full= and cov= have no gradient. Instead: np.linalg.lstsq on np.vander(x, deg + 1).")
    x, y = as_array(x) + 0.0, as_array(y) + 0.0
    left = np.vander(x, deg + 1)
    if w is not None:
        w = as_array(w) + 0.0
        left, y = left * w[:, None], y * (w if y.ndim == 1 else w[:, None])
    scale = np.sqrt(np.sum(left * left, axis=0))
    rcond = len(x) * np.finfo(x.dtype).eps if rcond is None else rcond
    found = np.linalg.lstsq(left / scale, y, rcond)[0]
    return found / (scale if found.ndim == 1 else scale[:, None])


# ---- statistics ---------------------------------------------------------------------------------------------------


@numpy_function(np.cov)
def cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: Any = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Any:
    x = _rows(m, rowvar)
    x = x if y is None else np.concatenate([x, _rows(y, rowvar)])
    x = x.astype(np.result_type(x.dtype, np.float64) if dtype is None else dtype)
    ddof = (0 if bias else 1) if ddof is None else ddof
    f, a = (None if w is None else as_array(w) * 1.0 for w in (fweights, aweights))
    w = f if a is None else a if f is None else f * a
    mean, total = np.average(x, axis=1, weights=w, returned=True)
    count = total[0] - ddof if ddof == 0 or a is None else total[0] - ddof * np.sum(w * a) / total[0]
    d = x - mean[:, None]
    return np.squeeze(np.matmul(d, np.conjugate((d if w is None else d * w).T)) / count)


def _rows(m: Any, rowvar: bool) -> Any:
    m = as_array(m)
    m = np.reshape(m, (1, -1)) if m.ndim < 2 else m
    return m if rowvar or m.shape[0] == 1 else m.T


@numpy_function(np.corrcoef)
def corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    c = np.cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    deviation = np.sqrt(np.real(np.diagonal(c)))
    c = c / deviation[:, None] / deviation[None, :]
    return np.clip(c, -1, 1) if c.dtype.kind == "f" else c


@numpy_function(np.bincount)
def bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Any:
    x = as_array(x)
    size = max(int(minlength), int(np.max(known(x), initial=-1)) + 1)
    weights = np.ones(x.shape, np.intp) if weights is None else as_array(weights).astype(float)
    return bind(scatter_add, weights, x, shape=(size,), layout=(ARRAY,))


# ---- where the real functions end, the complex ones go on -----------------------------------------------------------


def _beyond(function: Any, outside: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def run(x: Any) -> Any:
        x = as_array(x)
        x = x if x.dtype.kind in "fc" else x.astype(float)
        if x.dtype.kind == "f" and np.any(outside(known(x))):
            x = x.astype(np.result_type(x.dtype, np.complex64))
        return function(x)

    return run


_negative = lambda x: x < 0
_outside_unit = lambda x: np.absolute(x) > 1
for _name, _domain in {
    "sqrt": _negative,
    "log": _negative,
    "log2": _negative,
    "log10": _negative,
    "arccos": _outside_unit,
    "arcsin": _outside_unit,
    "arctanh": _outside_unit,
}.items():
    numpy_function(getattr(np.emath, _name))(_beyond(getattr(np, _name), _domain))


@numpy_function(np.emath.logn)
def logn(n: Any, x: Any) -> Any:
    return np.emath.log(x) / np.emath.log(n)


@numpy_function(np.emath.power)
def emath_power(x: Any, p: Any) -> Any:
    x, p = as_array(x), as_array(p)
    if x.dtype.kind != "c" and np.any(known(x) < 0):
        x = x.astype(np.result_type(x.dtype, np.complex64))
    p = p.astype(float) if p.dtype.kind in "iu" and np.any(known(p) < 0) else p
    return np.power(x, p)
