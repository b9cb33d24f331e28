"""Linear systems, determinants and inverses, run by the LAPACK that NumPy carries.

Takes matrices in any number of leading dimensions. A singular matrix has NumPy's value; where its gradient does not exist, that is an error or not finite.
Products are in `products`, factors of one matrix in `decompositions`.
"""

import functools
from operator import index
from typing import Any

import numpy as np

from sadl.errors import GradientError, explain
from sadl.op import Aval, Op, call, numpy_function
from sadl.ops.products import conj, mH, mT
from sadl.ops.scans import shifted
from sadl.tape import Traced, as_array, bind

# ---- what the rules share ------------------------------------------------------------------------------------------


def linalg_dtype(*avals: Any) -> np.dtype:
    """The dtype in which np.linalg gives its result: what is not floating counts as float64."""
    return np.result_type(*(a.dtype if a.dtype.kind in "fc" else np.float64 for a in avals))


def real_dtype(dtype: np.dtype) -> np.dtype:
    return np.empty(0, dtype).real.dtype


def _infer_same(op: Op, a: Aval, *_: Any, **__: Any) -> Aval:
    return Aval(a.shape, linalg_dtype(a))


def _infer_number(op: Op, a: Aval) -> Aval:
    return Aval(a.shape[:-2], linalg_dtype(a))


def _refuse(bad: Any, *, who: str, what: str, instead: str) -> Any:
    if np.any(bad):
        raise GradientError(explain(who, what, instead))
    return bad


refuse = call("refuse", _refuse, [None], infer=lambda op, bad, **_: bad, checks=True)  # a gradient that does not exist


def on_diagonal(x: Any) -> Any:
    """Diagonal matrices with the elements of the rows of `x`."""
    return np.where(np.eye(x.shape[-1], dtype=bool), x[..., None, :], 0)


def diagonal_of(x: Any) -> Any:
    return np.diagonal(x, axis1=-2, axis2=-1)


# ---- linear systems ------------------------------------------------------------------------------------------------


def _pull_solve(g: Any, x: Any, a: Any, b: Any) -> list[Any]:
    share = np.linalg.solve(mT(a), g)
    return [-np.matmul(share, mT(x)), share]


def _infer_solve(op: Op, a: Aval, b: Aval) -> Aval:
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return Aval((*batch, *b.shape[-2:]), linalg_dtype(a, b))


def _inverse_or_nan(a: Any) -> Any:
    """The inverse of each matrix, NaN for a singular one: what NumPy's condition numbers are made of."""
    try:
        return np.linalg.inv(a)
    except np.linalg.LinAlgError:
        if a.ndim > 2:
            return np.stack([_inverse_or_nan(m) for m in a])
        return np.full_like(a, np.nan, dtype=linalg_dtype(a))


_vjp_inv = lambda g, y, a: -np.matmul(np.matmul(mT(y), g), mT(y))
solve = call("solve", np.linalg.solve, pullback=_pull_solve, infer=_infer_solve, fails=True)  # of matrices, not vectors
inv = call("inv", np.linalg.inv, [_vjp_inv], infer=_infer_same, fails=True)
inverse_or_nan = call("inverse_or_nan", _inverse_or_nan, [_vjp_inv], infer=_infer_same)


@numpy_function(np.linalg.solve)
def solve_(a: Any, b: Any) -> Any:
    """`b` is one vector if it has one dimension, else a matrix or a stack of them."""
    a, b = as_array(a), as_array(b)
    return bind(solve, a, b[:, None])[..., 0] if b.ndim == 1 else bind(solve, a, b)


@numpy_function(np.linalg.inv)
def inv_(a: Any) -> Any:
    return bind(inv, as_array(a))


@numpy_function(np.linalg.tensorsolve)
def tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    a, b = as_array(a), as_array(b)
    for k in axes or ():
        a = np.moveaxis(a, k, -1)
    shape = a.shape[b.ndim - a.ndim :] if a.ndim > b.ndim else ()
    n = int(np.prod(shape, dtype=int))
    if a.size != n * n:
        raise np.linalg.LinAlgError(f"[tensorsolve] {a.shape} is not square against {b.shape}.")
    return np.reshape(np.linalg.solve(np.reshape(a, (n, n)), np.ravel(b)), shape)


@numpy_function(np.linalg.tensorinv)
def tensorinv(a: Any, ind: int = 2) -> Any:
    a = as_array(a)
    if ind <= 0:
        raise ValueError(f"[tensorinv] ind={ind} must be positive.")
    rows, columns = a.shape[:ind], a.shape[ind:]
    n = int(np.prod(columns, dtype=int))
    return np.reshape(np.linalg.inv(np.reshape(a, (n, -1))), (*columns, *rows))


@numpy_function(np.linalg.matrix_power)
def matrix_power(a: Any, n: Any) -> Any:
    """By squaring: log2(n) products."""
    a, n = as_array(a), index(n)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise np.linalg.LinAlgError(f"[matrix_power] a square matrix is needed, found shape {a.shape}.")
    if n == 0:
        return np.zeros_like(a) + np.eye(a.shape[-1], dtype=a.dtype)
    a, n = (np.linalg.inv(a), -n) if n < 0 else (a, n)
    result = None
    while n:
        if n & 1:
            result = a if result is None else np.matmul(result, a)
        n >>= 1
        a = np.matmul(a, a) if n else a
    return result


# ---- determinants --------------------------------------------------------------------------------------------------


def _before(s: Any) -> Any:
    """For each element of the rows the product of all before it."""
    return shifted(np.cumprod(s, axis=-1), s.ndim - 1, 1)


def _behind(s: Any) -> Any:
    return np.flip(_before(np.flip(s, -1)), -1)


def _without_two(s: Any) -> Any:
    """For each pair of different elements of the rows the product of all others, and 0 on the diagonal."""
    later = ~np.tri(s.shape[-1], dtype=bool)  # where the row comes before the column
    between = _before(np.where(later, s[..., None, :], 1))
    upper = np.where(later, _before(s)[..., :, None] * between * _behind(s)[..., None, :], 0)
    return upper + mT(upper)


def _turn(u: Any, vh: Any) -> Any:
    """The determinant of the two unitary factors of a matrix, which has the size 1."""
    return (np.linalg.slogdet(u)[0] * np.linalg.slogdet(vh)[0])[..., None, None]


def _cofactor(a: Any) -> Any:
    """The matrix of cofactors, also for a singular matrix: that of the singular values is diagonal, and that of a
    product is the product of those of the factors.

    Source: G. W. Stewart, On the adjugate matrix, 1998.
    """
    u, s, vh = np.linalg.svd(a)
    return np.matmul(_turn(u, vh) * conj(u) * (_before(s) * _behind(s))[..., None, :], conj(vh))


def _vjp_cofactor(g: Any, c: Any, a: Any) -> Any:
    """For a diagonal matrix s, dc[i,i] = sum_k m[i,k] da[k,k] and dc[i,j] = -m[i,j] da[j,i], with m = _without_two(s)."""
    u, s, vh = np.linalg.svd(a)
    inner = np.matmul(np.matmul(mH(u), _turn(u, vh) * g), mH(vh))
    m = _without_two(s)
    on = np.matmul(m, diagonal_of(inner)[..., None])
    slope = np.where(np.eye(s.shape[-1], dtype=bool), on, -m * mT(inner))
    return np.matmul(np.matmul(conj(u), slope), conj(vh))


cofactor = call("cofactor", _cofactor, [_vjp_cofactor], infer=_infer_same)
det = call("det", np.linalg.det, [lambda g, y, a: g[..., None, None] * bind(cofactor, a)], infer=_infer_number)


def _pull_slogdet(g: Any, out: Any, a: Any) -> list[Any]:
    """With t = tr(inv(a) da): the logarithm changes by Re(t), the sign of a complex determinant by i Im(t) sign."""
    turn, size = g
    factor = size
    if turn is not None and a.dtype.kind == "c":
        turned = np.imag(turn * out[0]) * 1j
        factor = turned if size is None else size + turned
    return [None if factor is None else factor[..., None, None] * mT(np.linalg.inv(a))]


slogdet = call("slogdet", np.linalg.slogdet, pullback=_pull_slogdet, outs=2, infer=_infer_number)


@numpy_function(np.linalg.det)
def det_(a: Any) -> Any:
    return bind(det, as_array(a))


@functools.cache
def result_type(fn: Any) -> Any:
    """The named tuple that a function of np.linalg returns."""
    return type(fn(np.eye(1)))


@numpy_function(np.linalg.slogdet)
def slogdet_(a: Any) -> Any:
    return result_type(np.linalg.slogdet)(*bind(slogdet, as_array(a)))


# ---- pseudoinverses and least squares ------------------------------------------------------------------------------


def _product(x: Any, y: Any, z: Any) -> Any:
    """x @ y @ z for `x` and `z` of the same shape and `y` of the transposed one, with the smaller matrix between."""
    if y.shape[-2] <= y.shape[-1]:
        return np.matmul(x, np.matmul(y, z))
    return np.matmul(np.matmul(x, y), z)


def _noise(a: Any) -> float:
    """How large singular values that should be 0 may be, relative to the largest."""
    return 10 * max(a.shape[-2:], default=1) * float(np.finfo(linalg_dtype(a)).eps)


def _kept(s: Any, rcond: Any) -> Any:
    return s > as_array(rcond)[..., None] * np.max(s, axis=-1, keepdims=True)


def _vjp_pinv(g: Any, p: Any, a: Any, rcond: Any, *, cuts: bool) -> Any:
    """As long as the rank stays what it is.

    Source: G. Golub and V. Pereyra, The differentiation of pseudo-inverses and nonlinear least squares problems whose
    variables separate, 1973.
    """
    gt, ph = mT(g), mH(p)
    left = _product(gt - np.matmul(a, np.matmul(p, gt)), p, ph)
    right = _product(ph, p, gt - np.matmul(np.matmul(gt, p), a))
    share = conj(left + right) - _product(mT(p), g, mT(p))
    return share + bind(pinv_of_cut, g, a, rcond) if cuts else share


def _pinv_of_cut(g: Any, a: Any, rcond: Any) -> Any:
    """What is to be added to that where singular values were cut off that are not 0: `p` is a function of singular
    values, and its derivative consists of divided differences of that, of which only those between a value that is
    kept and one that is not are others.

    Source: V. Noferini, A formula for the Frechet derivative of a generalized matrix function, 2017.
    """
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    kept = _kept(s, rcond)
    f = np.where(kept, 1 / np.where(kept, s, 1), 0)
    (si, sj), (fi, fj), (ki, kj) = ((x[..., :, None], x[..., None, :]) for x in (s, f, kept))
    less, more = ((fi + t * fj) / np.where(ki != kj, si + t * sj, 1) - (fi + fj) ** 2 for t in (-1, 1))
    x = np.matmul(np.matmul(conj(vh), g), conj(u))
    inner = less * (x + mH(x)) - more * (x - mH(x))
    return np.matmul(conj(u) * 0.5, np.matmul(np.where(ki != kj, inner, 0), conj(vh)))


CUT = {
    "who": "pinv",
    "what": "singular values that are not 0 were cut off, where only the first derivative is known",
    "instead": "a smaller rcond, or a function of np.linalg.svd",
}


def _pull_cut(by_share: Any, share: Any, g: Any, a: Any, rcond: Any) -> list[Any]:
    """That is 0, with all its derivatives, unless something was cut off."""
    s = np.linalg.svdvals(a)
    bind(refuse, ~_kept(s, rcond) & _kept(s, _noise(a)), **CUT)
    return [None, None, None]


pinv_of_cut = call("pinv_of_cut", _pinv_of_cut, pullback=_pull_cut, infer=lambda op, g, a, rcond: a)
pinv = call(
    "pinv",
    lambda a, rcond, *, cuts: np.linalg.pinv(a, rcond),
    [_vjp_pinv, None],
    fails=True,
    infer=lambda op, a, rcond, *, cuts: Aval((*a.shape[:-2], a.shape[-1], a.shape[-2]), linalg_dtype(a)),
)


@numpy_function(np.linalg.pinv)
def pinv_(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = np._NoValue) -> Any:
    """The gradient is that for a constant rank: where singular values cross the limit, there is none."""
    a = as_array(a)
    if rcond is not None and rtol is not np._NoValue:
        raise ValueError("[pinv] rtol and rcond cannot both be given.")
    if rcond is None:
        rcond = 1e-15 if rtol is np._NoValue else _noise(a) / 10 if rtol is None else rtol
    cuts = isinstance(rcond, Traced) or bool(np.any(np.asarray(rcond) > _noise(a)))
    return bind(pinv, whole(a) if hermitian else a, rcond, cuts=cuts and a.size > 0)


def whole(a: Any) -> Any:
    """The Hermitian matrix whose lower triangle is that of `a`."""
    half = half_of(a)
    return half + mH(half)


def half_of(a: Any) -> Any:
    """The lower triangle with half the diagonal, which the conjugate transpose makes whole."""
    n = a.shape[-1]
    return np.where(np.tri(n, k=-1, dtype=bool), a, np.where(np.eye(n, dtype=bool), a * 0.5, 0))


RANK = {
    "who": "lstsq",
    "what": "the matrix does not have full rank, so that the solution is not differentiable",
    "instead": "np.linalg.pinv(a, rcond) @ b, whose gradient is that for a constant rank",
}


def _pull_lstsq(g: Any, out: Any, a: Any, b: Any, *, rcond: float | None) -> list[Any]:
    """x is pinv(a) @ b, see `_vjp_pinv`; the residuals change with a and b alone, since x makes them smallest."""
    of_x, of_residuals, _, of_s = g
    x, _, rank, _ = out
    by_a, by_b, rest = [], [], b - np.matmul(a, x)
    if of_x is not None:
        bind(refuse, rank < min(a.shape), **RANK)
        p, gt = np.linalg.pinv(a, 0.0), mT(of_x)
        ph, gp = mH(p), np.matmul(gt, p)
        by_b.append(mT(gp))
        left, right = np.matmul(rest, np.matmul(gp, ph)), np.matmul(np.matmul(ph, x), gt - np.matmul(gp, a))
        by_a.append(conj(left + right) - np.matmul(mT(gp), mT(x)))
    if of_residuals is not None and of_residuals.size:
        by_b.append(2 * conj(rest) * of_residuals)
        by_a.append(-np.matmul(by_b[-1], mT(x)))
    if of_s is not None:
        u, _, vh = np.linalg.svd(a, full_matrices=False)
        by_a.append(np.matmul(conj(u) * of_s[..., None, :], conj(vh)))
    return [functools.reduce(np.add, terms) if terms else None for terms in (by_a, by_b)]


lstsq = call(
    "lstsq",
    lambda a, b, *, rcond: np.linalg.lstsq(a, b, rcond),
    pullback=_pull_lstsq,
    outs=4,
    fails=True,
    infer=lambda op, a, b, *, rcond: Aval((a.shape[-1], b.shape[-1]), linalg_dtype(a, b)),
)


@numpy_function(np.linalg.lstsq)
def lstsq_(a: Any, b: Any, rcond: Any = None) -> Any:
    a, b = as_array(a), as_array(b)
    rcond = None if rcond is None else float(rcond)
    x, residuals, rank, s = bind(lstsq, a, b[:, None] if b.ndim == 1 else b, rcond=rcond)
    return (x[:, 0] if b.ndim == 1 else x), residuals, rank, s
