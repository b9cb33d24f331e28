"""Factors of one matrix: cholesky, qr, eigh, eig, svd, and the values alone, computed by the LAPACK NumPy carries.

Takes stacks of matrices, real or complex; gives NumPy's named tuples. A result that depends on how LAPACK chose among
factors that are equally right (bases of a null space, phases of complex vectors) is refused when it is differentiated.
Vectors of equal eigenvalues or singular values have no gradient: theirs is not finite. The values themselves have one.
"""

from typing import Any

import numpy as np

from sadl.errors import UnrecordedError, explain
from sadl.op import Aval, Op, call, numpy_function
from sadl.ops.linalg import (
    conj,
    diagonal_of,
    half_of,
    linalg_dtype,
    mH,
    mT,
    on_diagonal,
    real_dtype,
    refuse,
    result_type,
)
from sadl.tape import as_array, bind

BASIS = (
    "the result depends on the basis that was chosen for a null space, which is arbitrary, so that it has no gradient"
)
PHASE = "the result depends on the phases of complex vectors, which are arbitrary, so that it has no gradient"
THIN = "full_matrices=False, or mode='reduced'"
SAME = "what the phases do not change, as np.abs(v) or v * np.conj(v[:1])"


def _infer_same(op: Op, a: Aval, **_: Any) -> Aval:
    return Aval(a.shape, linalg_dtype(a))


def _infer_values(op: Op, a: Aval, **_: Any) -> Aval:
    return Aval(a.shape[:-1], real_dtype(linalg_dtype(a)))


def _refuse_choice(turned: Any, g: Any, who: str, what: str, instead: str) -> None:
    """`turned` is how the result changes with a choice that is arbitrary: 0 but for rounding, or there is no gradient."""
    tolerance = float(np.finfo(g.dtype).eps) ** 0.5
    size = np.sqrt(np.sum(np.abs(g) ** 2, axis=(-2, -1), keepdims=True))
    bind(refuse, np.any(np.abs(turned) > tolerance * size), who=who, what=what, instead=instead)


def _thin(g: Any, v: Any, k: int, who: str) -> Any:
    """The cotangent of all columns of the unitary `v` as one of the first `k`: with these, the others turn the opposite
    way. How they turn among themselves is not known; a single real one cannot.
    """
    if g is None or v.shape[-1] == k:
        return g
    first, others, rest = v[..., :k], v[..., k:], g[..., k:]
    inner = np.matmul(mT(others), rest)
    _refuse_choice(inner - mH(inner), rest, who, BASIS, THIN)
    return g[..., :k] - conj(np.matmul(others, np.matmul(mT(rest), first)))


def _gaps(w: Any) -> Any:
    """1 / (w[j] - w[i]), and 0 on the diagonal; not finite where two are equal."""
    same = np.eye(w.shape[-1], dtype=bool)
    return np.where(same, 0, 1 / np.where(same, 1, w[..., None, :] - w[..., :, None]))


def _or_zeros(g: Any, x: Any) -> Any:
    return np.zeros_like(x) if g is None else g


# ---- triangular factors --------------------------------------------------------------------------------------------


def _vjp_cholesky(g: Any, low: Any, a: Any) -> Any:
    """By the lower triangle of `a`, all that is read. Both systems are triangular.

    Source: I. Murray, Differentiation of the Cholesky decomposition, 2016.
    """
    inner = np.linalg.solve(mT(low), half_of(np.matmul(mT(low), g)))
    both = mT(np.linalg.solve(mH(low), mT(inner)))
    return half_of(both + mH(both))


cholesky = call("cholesky", np.linalg.cholesky, [_vjp_cholesky], infer=_infer_same, fails=True)


@numpy_function(np.linalg.cholesky)
def cholesky_(a: Any, /, *, upper: bool = False) -> Any:
    a = as_array(a)
    return mH(bind(cholesky, mH(a))) if upper else bind(cholesky, a)


def _share_qr(gq: Any, gr: Any, q: Any, r: Any) -> Any:
    """The cotangent of a matrix that is not wide.

    Source: S. Walter and L. Lehmann, Algorithmic differentiation of linear algebra functions with application in
    optimum experimental design, 2010; its complex form with real diagonal of `r`, as LAPACK has it.
    """
    half = half_of(mT(np.matmul(gr, mT(r)) - np.matmul(mT(q), gq)))
    return mT(np.linalg.solve(r, mT(gq + np.matmul(conj(q), mT(half) + conj(half)))))


def _pull_qr(g: Any, out: Any, a: Any, *, mode: str) -> list[Any]:
    """Of a wide matrix, the square part on the left is factorised, and the rest is conj(q.T) @ rest."""
    m, n = a.shape[-2:]
    k = min(m, n)
    q, r = out[0][..., :k], out[1][..., :k, :]
    gq, gr = _or_zeros(_thin(g[0], out[0], k, "qr"), q), _or_zeros(g[1], out[1])[..., :k, :]
    if m >= n:
        return [_share_qr(gq, gr, q, r)]
    gq = gq + conj(np.matmul(a[..., m:], mT(gr[..., m:])))
    left = _share_qr(gq, gr[..., :m], q, r[..., :m])
    return [np.concatenate([left, np.matmul(conj(q), gr[..., m:])], axis=-1)]


def _infer_q(op: Op, a: Aval, *, mode: str) -> Aval:
    *batch, m, n = a.shape
    return Aval((*batch, m, m if mode == "complete" else min(m, n)), linalg_dtype(a))


qr = call("qr", lambda a, *, mode: np.linalg.qr(a, mode), pullback=_pull_qr, outs=2, infer=_infer_q)
qr_raw = call("qr_raw", lambda a: np.linalg.qr(a, "raw"), outs=2)


@numpy_function(np.linalg.qr)
def qr_(a: Any, mode: str = "reduced") -> Any:
    """More than one column that `mode="complete"` adds has a gradient only where the basis does not matter; the reflectors
    of `mode="raw"` have none."""
    a = as_array(a)
    if mode == "raw":
        return bind(qr_raw, a)
    if mode == "r":
        return bind(qr, a, mode="reduced")[1]
    if mode not in ("reduced", "complete"):
        raise UnrecordedError(explain("qr", f"mode={mode!r} has no gradient rule", "mode='reduced'"))
    return result_type(np.linalg.qr)(*bind(qr, a, mode=mode))


# ---- eigenvalues ---------------------------------------------------------------------------------------------------


def _of_triangle(share: Any, UPLO: str) -> Any:
    """The cotangent of a Hermitian matrix as one of the triangle that is read."""
    both = share + mH(share)
    return half_of(both) if UPLO == "L" else mT(half_of(mT(both)))


def _pull_eigh(g: Any, out: Any, a: Any, *, UPLO: str) -> list[Any]:
    """Source: M. Giles, An extended collection of matrix derivative results for forward and reverse mode algorithmic
    differentiation, 2008.
    """
    (gw, gv), (w, v) = g, out
    inner = 0 if gw is None else on_diagonal(gw)
    if gv is not None:
        along = np.matmul(mT(v), gv)
        if v.dtype.kind == "c":
            _refuse_choice(np.imag(diagonal_of(along))[..., None], gv, "eigh", PHASE, SAME)
        inner = inner + _gaps(w) * along
    return [_of_triangle(np.matmul(np.matmul(conj(v), inner), mT(v)), UPLO)]


def _vjp_eigvalsh(g: Any, w: Any, a: Any, *, UPLO: Any) -> Any:
    v = np.linalg.eigh(a, UPLO)[1]
    return _of_triangle(np.matmul(conj(v) * g[..., None, :], mT(v)), UPLO)


eigh = call(
    "eigh", lambda a, *, UPLO: np.linalg.eigh(a, UPLO), pullback=_pull_eigh, outs=2, infer=_infer_values, fails=True
)
eigvalsh = call(
    "eigvalsh", lambda a, *, UPLO: np.linalg.eigvalsh(a, UPLO), [_vjp_eigvalsh], infer=_infer_values, fails=True
)


@numpy_function(np.linalg.eigh)
def eigh_(a: Any, UPLO: Any = "L") -> Any:
    return result_type(np.linalg.eigh)(*bind(eigh, as_array(a), UPLO=UPLO.upper()))


@numpy_function(np.linalg.eigvalsh)
def eigvalsh_(a: Any, UPLO: Any = "L") -> Any:
    return bind(eigvalsh, as_array(a), UPLO=UPLO.upper())


def _real_place(v: Any) -> Any:
    """Which element of each column LAPACK made real: the largest one."""
    if v.size == 0:
        return np.zeros(v.shape, bool)
    size = np.where(v.imag == 0, np.abs(v), -1)
    return np.arange(v.shape[-1])[:, None] == np.argmax(size, axis=-2, keepdims=True)


real_place = call("real_place", _real_place, [None], infer=lambda op, v: Aval(v.shape, np.dtype(bool)))


def _of_free(g: Any, v: Any) -> Any:
    """The cotangent of eigenvectors before they are brought to length 1, with their largest element real."""
    along = diagonal_of(np.matmul(mT(v), g))[..., None, :]
    free = g - conj(v) * np.real(along)
    if v.dtype.kind != "c":
        return free
    place = bind(real_place, v)
    return free - np.where(place, np.imag(along) * 1j / np.where(place, v, 1), 0)


def _pull_eig(g: Any, out: Any, a: Any) -> list[Any]:
    """Source: C. Boeddeker, P. Hanebrink, L. Drude, J. Heymann and R. Haeb-Umbach, On the computation of complex-valued
    gradients with application to statistically optimum beamforming, 2017; here with LAPACK's normalisation.
    """
    (gw, gv), (w, v) = g, out
    if gv is None:
        return [np.linalg.solve(mT(v), gw[..., :, None] * mT(v))]
    inner = _gaps(w) * np.matmul(mT(v), _of_free(gv, v))
    inner = inner if gw is None else inner + on_diagonal(gw)
    return [np.linalg.solve(mT(v), np.matmul(inner, mT(v)))]


eig = call("eig", np.linalg.eig, pullback=_pull_eig, outs=2, fails=True)


@numpy_function(np.linalg.eig)
def eig_(a: Any) -> Any:
    """Real or complex as in NumPy, which looks at the values; a compiled program keeps to what it was at first."""
    return result_type(np.linalg.eig)(*bind(eig, as_array(a)))


@numpy_function(np.linalg.eigvals)
def eigvals(a: Any) -> Any:
    """In the order of `np.linalg.eig`, which for large matrices is another one than that of `np.linalg.eigvals`."""
    return np.linalg.eig(a)[0]


# ---- singular values -----------------------------------------------------------------------------------------------


def _skew(x: Any) -> Any:
    return (x - mH(x)) * 0.5


def _inner_svd(gu: Any, gs: Any, gv: Any, u: Any, s: Any, vh: Any, x: Any, y: Any) -> Any:
    """The cotangent of mH(u) @ a @ mH(vh), where `x` and `y` are the cotangents of `u` and `v` in terms of them."""
    sums = s[..., None, :] + s[..., :, None]
    if u.dtype.kind == "c":
        turned = np.imag(diagonal_of(x + y))[..., None]
        _refuse_choice(turned, np.concatenate([gu, gv], axis=-2), "svd", PHASE, SAME)
    else:  # what would be divided by the sums of equal ones is 0
        sums = np.where(np.eye(s.shape[-1], dtype=bool), 1, sums)
    inner = _gaps(s) * _skew(x + y) + _skew(x - y) / sums
    return inner if gs is None else inner + on_diagonal(gs)


def _pull_svd(g: Any, out: Any, a: Any, *, full_matrices: bool) -> list[Any]:
    """Source: J. Townsend, Differentiating the singular value decomposition, 2016, and for complex matrices Z. Wan and
    S. Zhang, Automatic differentiation for complex valued SVD, 2019.
    """
    m, n = a.shape[-2:]
    k = min(m, n)
    u, s, vh = out[0][..., :k], out[1], out[2][..., :k, :]
    if g[0] is None and g[2] is None:
        return [np.matmul(conj(u) * g[1][..., None, :], conj(vh))]
    gu = _or_zeros(_thin(g[0], out[0], k, "svd"), u)
    gv = _or_zeros(None if g[2] is None else _thin(mH(g[2]), mH(out[2]), k, "svd"), mT(vh))
    x, y = np.matmul(mT(u), gu), np.matmul(conj(vh), gv)
    left = np.matmul(conj(u), _inner_svd(gu, g[1], gv, u, s, vh, x, y))
    if m > k:
        left = left + (gu - np.matmul(conj(u), x)) / s[..., None, :]
    share = np.matmul(left, conj(vh))
    if n > k:
        share = share + np.matmul(conj(u), mH(gv - np.matmul(mT(vh), y)) / s[..., :, None])
    return [share]


def _vjp_svdvals(g: Any, s: Any, a: Any) -> Any:
    u, _, vh = np.linalg.svd(a, full_matrices=False)
    return np.matmul(conj(u) * g[..., None, :], conj(vh))


def _infer_u(op: Op, a: Aval, *, full_matrices: bool) -> Aval:
    *batch, m, n = a.shape
    return Aval((*batch, m, m if full_matrices else min(m, n)), linalg_dtype(a))


def _infer_s(op: Op, a: Aval) -> Aval:
    return Aval((*a.shape[:-2], min(a.shape[-2:])), real_dtype(linalg_dtype(a)))


svd = call(
    "svd",
    lambda a, *, full_matrices: np.linalg.svd(a, full_matrices),
    pullback=_pull_svd,
    outs=3,
    infer=_infer_u,
    fails=True,
)
svdvals = call("svdvals", lambda a: np.linalg.svd(a, compute_uv=False), [_vjp_svdvals], infer=_infer_s, fails=True)


@numpy_function(np.linalg.svd)
def svd_(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    """More than one vector that `full_matrices` adds has a gradient only where the basis does not matter."""
    a = as_array(a)
    if isinstance(full_matrices, (list, tuple)):
        raise TypeError("[svd] full_matrices must be True or False.")
    if not compute_uv:
        return _sizes_of_eigenvalues(a) if hermitian else bind(svdvals, a)
    factors = _svd_hermitian(a) if hermitian else bind(svd, a, full_matrices=bool(full_matrices))
    return result_type(np.linalg.svd)(*factors)


def _sizes_of_eigenvalues(a: Any) -> Any:
    return np.flip(np.sort(np.abs(np.linalg.eigvalsh(a)), axis=-1), -1)


def _svd_hermitian(a: Any) -> Any:
    w, v = np.linalg.eigh(a)
    order = np.flip(np.argsort(np.abs(w), axis=-1), -1)
    w, u = np.take_along_axis(w, order, -1), np.take_along_axis(v, order[..., None, :], -1)
    return u, np.abs(w), mH(u * np.copysign(1, w)[..., None, :])


@numpy_function(np.linalg.svdvals)
def svdvals_(x: Any, /) -> Any:
    return bind(svdvals, as_array(x))
