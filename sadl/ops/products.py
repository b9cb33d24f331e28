"""Sums of products: matmul, dot, einsum, tensordot, inner, outer, kron, cross, convolve, the vector ufuncs, multi_dot.

Takes what NumPy's functions take. Whatever is a product of two matrices becomes `matmul`, which is BLAS's, and whose
transposes are views that compiled programs turn into flags; einsum and convolve are ops whose gradients are of the same
kind. Solvers are in `linalg`, factors in `decompositions`.
"""

import functools
import string
from typing import Any

import numpy as np

from sadl.op import UFUNC_METHODS, UFUNCS, Aval, Op, axes, call, numpy_function
from sadl.tape import as_array, bind

# ---- products of matrices -----------------------------------------------------------------------------------------


def mT(x: Any) -> Any:
    return x.swapaxes(-1, -2)


def conj(x: Any) -> Any:
    return np.conjugate(x) if x.dtype.kind == "c" else x


def mH(x: Any) -> Any:
    """The conjugate transpose of the last two axes."""
    return conj(mT(x))


def _vjp_left(g: Any, z: Any, a: Any, b: Any) -> Any:
    if b.ndim == 1:
        return np.expand_dims(g, -1) * b
    if a.ndim == 1:
        return np.matmul(b, np.expand_dims(g, -1))[..., 0] if b.ndim > 2 else np.matmul(b, g)
    return np.matmul(g, mT(b))


def _vjp_right(g: Any, z: Any, a: Any, b: Any) -> Any:
    if a.ndim == 1:
        return np.expand_dims(a, -1) * np.expand_dims(g, -2) if b.ndim > 1 else g * a
    if b.ndim == 1:
        return np.matmul(mT(a), np.expand_dims(g, -1))[..., 0]
    if b.ndim == 2 and a.ndim > 2:  # one product of all rows, which is also their sum over the stack
        return np.matmul(mT(np.reshape(a, (-1, a.shape[-1]))), np.reshape(g, (-1, g.shape[-1])))
    return np.matmul(mT(a), g)


def _infer_matmul(op: Op, a: Aval, b: Aval) -> Aval:
    rows, columns = a.shape[-2:-1], b.shape[-1:] if len(b.shape) > 1 else ()
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return Aval((*batch, *rows, *columns), np.result_type(a.dtype, b.dtype))


matmul = call("matmul", np.matmul, [_vjp_left, _vjp_right], infer=_infer_matmul, fn=np.matmul)
UFUNCS[np.matmul] = matmul


@numpy_function(np.dot, method="dot")
def dot(a: Any, b: Any, out: Any = None) -> Any:
    a, b = as_array(a), as_array(b)
    if a.ndim == 0 or b.ndim == 0:
        return np.multiply(a, b)
    return bind(matmul, a, b) if b.ndim <= 2 else np.tensordot(a, b, (-1, -2))


# ---- tensordot and its special cases ------------------------------------------------------------------------------


@numpy_function(np.tensordot, np.linalg.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """A product of two matrices, whose inner side are the summed axes in order."""
    a, b = as_array(a), as_array(b)
    left, right = _summed_axes(axes, a.ndim, b.ndim)
    if [a.shape[i] for i in left] != [b.shape[i] for i in right]:
        raise ValueError(f"[tensordot] axes {left} of {a.shape} and {right} of {b.shape} differ in size.")
    free_a = [i for i in range(a.ndim) if i not in left]
    free_b = [i for i in range(b.ndim) if i not in right]
    inner = int(np.prod([a.shape[i] for i in left], dtype=int))
    rows, columns = [a.shape[i] for i in free_a], [b.shape[i] for i in free_b]
    x = np.reshape(np.transpose(a, (*free_a, *left)), (int(np.prod(rows, dtype=int)), inner))
    y = np.reshape(np.transpose(b, (*right, *free_b)), (inner, int(np.prod(columns, dtype=int))))
    return np.reshape(np.matmul(x, y), (*rows, *columns))


def _summed_axes(given: Any, n: int, m: int) -> tuple[list[int], list[int]]:
    if np.ndim(given) == 0:
        return list(range(n - int(given), n)), list(range(int(given)))
    left, right = ([int(i) for i in np.ravel(side)] for side in given)
    return [i % n for i in left], [i % m for i in right]


@numpy_function(np.inner)
def inner(a: Any, b: Any, /) -> Any:
    a, b = as_array(a), as_array(b)
    return np.multiply(a, b) if 0 in (a.ndim, b.ndim) else np.tensordot(a, b, (-1, -1))


@numpy_function(np.outer, np.linalg.outer)
def outer(a: Any, b: Any, out: Any = None) -> Any:
    return np.reshape(as_array(a), (-1, 1)) * np.ravel(as_array(b))


@numpy_function(np.vdot)
def vdot(a: Any, b: Any, /) -> Any:
    return np.matmul(conj(np.ravel(as_array(a))), np.ravel(as_array(b)))


@numpy_function(np.kron)
def kron(a: Any, b: Any) -> Any:
    a, b = as_array(a), as_array(b)
    n = max(a.ndim, b.ndim)
    p, q = ((1,) * (n - x.ndim) + tuple(x.shape) for x in (a, b))
    left = np.reshape(a, [k for size in p for k in (size, 1)])
    right = np.reshape(b, [k for size in q for k in (1, size)])
    return np.reshape(left * right, [i * j for i, j in zip(p, q, strict=True)])


@numpy_function(np.cross)
def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = np.moveaxis(as_array(a), axisa, -1), np.moveaxis(as_array(b), axisb, -1)
    if not {a.shape[-1], b.shape[-1]} <= {2, 3}:
        raise ValueError(f"[cross] vectors of 2 or 3 components are needed, found {a.shape[-1]} and {b.shape[-1]}.")
    x, y = ([v[..., i] for i in range(v.shape[-1])] for v in (a, b))
    last = x[0] * y[1] - x[1] * y[0]
    if len(x) == len(y) == 2:
        return last
    x, y = ([*v, np.zeros_like(v[0])] if len(v) == 2 else v for v in (x, y))
    return np.stack([x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], last], axes(axisc, last.ndim + 1)[0])


@numpy_function(np.linalg.cross)
def linalg_cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    if as_array(x1).shape[axis] != 3 or as_array(x2).shape[axis] != 3:
        raise ValueError("[linalg.cross] both vectors must have three components.")
    return np.cross(x1, x2, axis=axis)


@numpy_function(np.linalg.multi_dot)
def multi_dot(arrays: Any, *, out: Any = None) -> Any:
    """The product of all, in the order that takes the fewest multiplications (Cormen et al., ch. 15.2)."""
    parts = [as_array(a) for a in arrays]
    if len(parts) < 2 or any(p.ndim != 2 for p in parts[1:-1]) or not {parts[0].ndim, parts[-1].ndim} <= {1, 2}:
        raise ValueError("[linalg.multi_dot] two or more matrices are needed, of which the outer ones may be rows.")
    first = np.reshape(parts[0], (1, -1)) if parts[0].ndim == 1 else parts[0]
    last = np.reshape(parts[-1], (-1, 1)) if parts[-1].ndim == 1 else parts[-1]
    sizes = [first.shape[0], *(p.shape[0] for p in parts[1:-1]), last.shape[0], last.shape[1]]
    product = _chain([first, *parts[1:-1], last], tuple(sizes))
    gone = [i for i, p in ((0, parts[0]), (1, parts[-1])) if p.ndim == 1]
    return np.reshape(product, [n for i, n in enumerate(product.shape) if i not in gone])


def _chain(parts: list[Any], sizes: tuple[int, ...]) -> Any:
    if len(parts) == 1:
        return parts[0]
    k = _cheapest(sizes)[1]
    return np.matmul(_chain(parts[:k], sizes[: k + 1]), _chain(parts[k:], sizes[k:]))


@functools.lru_cache(1024)
def _cheapest(sizes: tuple[int, ...]) -> tuple[int, int]:
    """The fewest multiplications for a chain of matrices of these sizes, and where to cut it for that."""
    if len(sizes) == 2:
        return 0, 0
    costs = [
        (_cheapest(sizes[: k + 1])[0] + _cheapest(sizes[k:])[0] + sizes[0] * sizes[k] * sizes[-1], k)
        for k in range(1, len(sizes) - 1)
    ]
    return min(costs)


# ---- vector ufuncs ------------------------------------------------------------------------------------------------


def _vecdot(x: Any, y: Any) -> Any:
    return np.matmul(conj(x)[..., None, :], y[..., None])[..., 0, 0]


def _matvec(x: Any, y: Any) -> Any:
    return np.matmul(x, y[..., None])[..., 0]


def _vecmat(x: Any, y: Any) -> Any:
    return np.matmul(conj(x)[..., None, :], y)[..., 0, :]


def _with_axes(product: Any, ndims: tuple[int, int, int]) -> Any:
    """A generalised ufunc, whose core axes are the last ones unless `axes` or `axis` say otherwise."""

    def run(x: Any, y: Any, *, axes: Any = None, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> Any:
        x, y = as_array(x), as_array(y)
        if dtype is not None:
            x, y = x.astype(dtype), y.astype(dtype)
        if axis is not None:
            axes = [(axis,), (axis,), (axis,) if keepdims else ()]
        if axes is None:
            return np.expand_dims(product(x, y), -1) if keepdims else product(x, y)
        places = [a if isinstance(a, tuple) else (a,) for a in axes] + [()] * (3 - len(axes))
        x, y = (np.moveaxis(v, place, range(-n, 0)) for v, place, n in zip((x, y), places, ndims, strict=False))
        result = product(x, y)
        result = np.expand_dims(result, -1) if keepdims else result
        return np.moveaxis(result, range(-len(places[2]), 0), places[2]) if places[2] else result

    return run


for _name, _product, _ndims in (
    ("vecdot", _vecdot, (1, 1, 0)),
    ("matvec", _matvec, (2, 1, 1)),
    ("vecmat", _vecmat, (1, 2, 1)),
    ("matmul", np.matmul, (2, 2, 2)),
):
    if hasattr(np, _name):  # NumPy 2.2 brought the last two
        UFUNC_METHODS[getattr(np, _name), "__call__"] = _with_axes(_product, _ndims)


@numpy_function(np.linalg.vecdot)
def linalg_vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    run: Any = np.vecdot
    return run(x1, x2, axis=axis)


@numpy_function(np.linalg.matmul)
def linalg_matmul(x1: Any, x2: Any, /) -> Any:
    return np.matmul(as_array(x1), as_array(x2))


@numpy_function(np.linalg.diagonal)
def linalg_diagonal(x: Any, /, *, offset: int = 0) -> Any:
    return np.diagonal(x, offset, -2, -1)


@numpy_function(np.linalg.trace)
def linalg_trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    return np.trace(x, offset, -2, -1, dtype=dtype)


@numpy_function(np.linalg.matrix_transpose)
def linalg_matrix_transpose(x: Any, /) -> Any:
    return np.swapaxes(x, -1, -2)


# ---- einsum -------------------------------------------------------------------------------------------------------


def _run_einsum(*operands: Any, terms: tuple[str, ...], out: str, optimize: Any) -> Any:
    return np.einsum(f"{','.join(terms)}->{out}", *operands, optimize=optimize)


def _pull_einsum(g: Any, y: Any, *operands: Any, terms: tuple[str, ...], out: str, optimize: Any) -> list[Any]:
    return [_einsum_share(g, operands, i, terms, out, optimize) for i in range(len(terms))]


def _einsum_share(g: Any, operands: Any, i: int, terms: Any, out: str, optimize: Any) -> Any:
    """Put the cotangent in the place of operand i; an index that no other knows is one over which it was summed."""
    others = [(t, x) for k, (t, x) in enumerate(zip(terms, operands, strict=True)) if k != i]
    known = set(out).union(*(t for t, _ in others))
    want = "".join(c for c in terms[i] if c in known)
    inputs = [(out, g), *others]
    share = bind(einsum_op, *(x for _, x in inputs), terms=tuple(t for t, _ in inputs), out=want, optimize=optimize)
    if want == terms[i]:
        return share
    shape = [n if c in known else 1 for c, n in zip(terms[i], operands[i].shape, strict=True)]
    shape = [m if n == 1 else n for n, m in zip(shape, _sizes_of(share, want, terms[i]), strict=True)]
    full = [m if c in known else n for c, n, m in zip(terms[i], operands[i].shape, shape, strict=True)]
    return np.broadcast_to(np.reshape(share, shape), full)


def _sizes_of(x: Any, labels: str, term: str) -> list[int]:
    sizes = dict(zip(labels, x.shape, strict=True))
    return [sizes.get(c, 1) for c in term]


def _infer_einsum(op: Op, *avals: Aval, terms: tuple[str, ...], out: str, optimize: Any) -> Aval:
    sizes: dict[str, int] = {}
    for term, aval in zip(terms, avals, strict=True):
        for c, n in zip(term, aval.shape, strict=True):
            sizes[c] = max(n, sizes.get(c, n)) if 0 not in (n, sizes.get(c, n)) else 0
    return Aval(tuple(sizes[c] for c in out), np.result_type(*(a.dtype for a in avals)))


einsum_op: Op = call("einsum", _run_einsum, pullback=_pull_einsum, infer=_infer_einsum)


@numpy_function(np.einsum)
def einsum(
    *operands: Any, out: Any = None, optimize: Any = False, dtype: Any = None, order: str = "K", casting: str = "safe"
) -> Any:
    text, arrays = _as_text(operands)
    arrays = [as_array(a) if dtype is None else as_array(a).astype(dtype) for a in arrays]
    terms, result = _explicit(text, [a.ndim for a in arrays])
    pairs = [_without_repeats(t, a) for t, a in zip(terms, arrays, strict=True)]
    optimize = tuple(optimize) if isinstance(optimize, list) else optimize
    return bind(einsum_op, *(a for _, a in pairs), terms=tuple(t for t, _ in pairs), out=result, optimize=optimize)


def _as_text(operands: Any) -> tuple[str, list[Any]]:
    """The subscripts and the arrays, also where they are given as lists of numbers in turn."""
    if isinstance(operands[0], str):
        return operands[0].replace(" ", ""), list(operands[1:])
    letter = lambda k: "..." if k is Ellipsis else (string.ascii_uppercase + string.ascii_lowercase)[int(k)]
    arrays, lists = list(operands[: len(operands) // 2 * 2 : 2]), list(operands[1::2])
    text = ",".join("".join(map(letter, labels)) for labels in lists)
    if len(operands) % 2:
        text += "->" + "".join(map(letter, operands[-1]))
    return text, arrays


def _explicit(text: str, ndims: list[int]) -> tuple[list[str], str]:
    """Terms without dots and an output: dots become letters that are not used, counted from the right."""
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ndims):
        raise ValueError(f"[einsum] {len(terms)} terms in {text!r} for {len(ndims)} arrays.")
    spare = [c for c in string.ascii_letters if c not in text]
    hidden = [n - len(t.replace("...", "")) if "..." in t else 0 for t, n in zip(terms, ndims, strict=True)]
    dots = "".join(spare[: max(hidden, default=0)])
    terms = [t.replace("...", dots[len(dots) - n :]) for t, n in zip(terms, hidden, strict=True)]
    if any(len(t) != n for t, n in zip(terms, ndims, strict=True)):
        raise ValueError(f"[einsum] the terms of {text!r} do not fit arrays of {ndims} dimensions.")
    if arrow:
        return terms, right.replace("...", dots)
    count = "".join(terms)
    return terms, dots + "".join(sorted(c for c in set(count) - set(dots) if count.count(c) == 1))


def _without_repeats(term: str, x: Any) -> tuple[str, Any]:
    """An index that comes twice in one term stands for a diagonal, which goes last."""
    for c in dict.fromkeys(term):
        while term.count(c) > 1:
            i, j = term.index(c), term.rindex(c)
            x = np.diagonal(x, 0, i, j)
            term = "".join(t for k, t in enumerate(term) if k not in (i, j)) + c
    return term, x


# ---- convolution in one dimension ---------------------------------------------------------------------------------


def _pull_convolve(g: Any, y: Any, a: Any, v: Any) -> list[Any]:
    run: Any = np.convolve
    return [run(g, v[::-1], "valid"), run(g, a[::-1], "valid")]


convolve_op: Op = call(
    "convolve",
    lambda a, v: np.convolve(a, v, "full"),
    pullback=_pull_convolve,
    infer=lambda op, a, v: Aval((a.shape[0] + v.shape[0] - 1,), np.result_type(a.dtype, v.dtype)),
)


@numpy_function(np.convolve)
def convolve(a: Any, v: Any, mode: Any = "full") -> Any:
    a, v = (np.reshape(x, -1) if x.ndim == 0 else x for x in (as_array(a), as_array(v)))
    if a.ndim != 1 or v.ndim != 1 or 0 in (*a.shape, *v.shape):
        raise ValueError(f"[convolve] two rows that are not empty are needed, found {a.shape} and {v.shape}.")
    full = bind(convolve_op, a, v)
    short, long = sorted((len(a), len(v)))
    if mode in ("full", 2):
        return full
    if mode in ("same", 1):
        return full[(short - 1) // 2 :][:long]
    if mode in ("valid", 0):
        return full[short - 1 : long]
    raise ValueError(f"[convolve] mode is 'full', 'same' or 'valid', found {mode!r}.")


@numpy_function(np.correlate)
def correlate(a: Any, v: Any, mode: Any = "valid") -> Any:
    a, v = as_array(a), as_array(v)
    if mode in ("same", 1) and len(v) > len(a):  # NumPy centres what it keeps in the other direction then
        return np.conjugate(np.convolve(v, np.conjugate(a)[::-1], mode))[::-1]
    return np.convolve(a, np.conjugate(v)[::-1], mode)
