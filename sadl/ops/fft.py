"""Discrete Fourier transforms: np.fft whole.

Takes real or complex arrays and every argument of NumPy's functions; `out` stands in the signatures for its place only.
The transforms along one axis are ops, linear ones whose rules are transforms again; those along several are loops.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from sadl.op import Aval, Op, axes, call, numpy_function
from sadl.ops.indexing import unslice
from sadl.tape import as_array, bind

SWAPPED: dict[Any, Any] = {
    None: "forward",
    "backward": "forward",
    "ortho": "ortho",
    "forward": "backward",
}  # norms of the inverse

# ---- along one axis ------------------------------------------------------------------------------------------------


def _resized(x: Any, size: int, axis: int) -> Any:
    """`x` cut or filled up with zeros along `axis`, as transforms do with their input."""
    have, before = x.shape[axis], (slice(None),) * axis
    if have >= size:
        return x if have == size else x[(*before, slice(size))]
    shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
    return bind(unslice, x, shape=shape, index=(*before, slice(have)))


def _counts(like: Any, n: int, axis: int) -> Any:
    """How often each frequency of a real signal of `n` elements occurs in its whole spectrum: twice, mostly."""
    counts = np.full(n // 2 + 1, 2, np.empty(0, like.dtype).real.dtype)
    counts[0] = 1
    if n % 2 == 0:
        counts[-1] = 1
    return counts.reshape([-1 if i == axis else 1 for i in range(like.ndim)])


def _vjp_fft(inverse: Callable[..., Any]) -> Callable[..., Any]:
    def rule(g: Any, y: Any, x: Any, *, n: int, axis: int, norm: Any) -> Any:
        """The matrix of the transform is symmetric."""
        return _resized(inverse(g, None, axis, norm), x.shape[axis], axis)

    return rule


def _vjp_rfft(g: Any, y: Any, x: Any, *, n: int, axis: int, norm: Any) -> Any:
    share = np.fft.irfft(np.conjugate(g) / _counts(g, n, axis), n, axis, SWAPPED[norm])
    return _resized(share, x.shape[axis], axis)


def _vjp_irfft(g: Any, y: Any, x: Any, *, n: int, axis: int, norm: Any) -> Any:
    share = np.conjugate(np.fft.rfft(g, n, axis, SWAPPED[norm])) * _counts(g, n, axis)
    share = share if x.dtype.kind == "c" else np.real(share)
    share = share if share.dtype == x.dtype else share.astype(x.dtype)  # of float16, whose spectrum has no half
    return _resized(share, x.shape[axis], axis)


@functools.cache
def _dtype_of(fn: Callable[..., Any], dtype: np.dtype) -> np.dtype:
    return fn(np.ones(2, dtype)).dtype


def _transform(fn: Callable[..., Any], vjp: Callable[..., Any], size: Callable[[int], int] = int) -> Op:
    """The op of a transform along one axis; `size` is that of its result."""

    def infer(op: Op, x: Aval, *, n: int, axis: int, norm: Any) -> Aval:
        return Aval((*x.shape[:axis], size(n), *x.shape[axis + 1 :]), _dtype_of(fn, x.dtype))

    return call(fn.__name__, lambda x, *, n, axis, norm: fn(x, n, axis, norm), [vjp], infer=infer)


fft = _transform(np.fft.fft, _vjp_fft(np.fft.fft))
ifft = _transform(np.fft.ifft, _vjp_fft(np.fft.ifft))
rfft = _transform(np.fft.rfft, _vjp_rfft, lambda n: n // 2 + 1)
irfft = _transform(np.fft.irfft, _vjp_irfft)


def _bound(op: Op, n_of: Callable[[int], int] = int) -> Callable[..., Any]:
    """NumPy's function for `op`; `n_of` gives the number of elements if that is left to the size of the input."""

    def transform(a: Any, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None) -> Any:
        a = as_array(a)
        axis = axes(axis, a.ndim)[0]
        n = n_of(a.shape[axis]) if n is None else int(n)
        _check_norm(norm)
        return bind(op, a, n=n, axis=axis, norm=norm)

    return transform


def _check_norm(norm: Any) -> None:
    if norm not in SWAPPED:
        raise ValueError(f'[fft] invalid norm {norm!r}. Instead: "backward", "ortho" or "forward".')


numpy_function(np.fft.fft)(_bound(fft))
numpy_function(np.fft.ifft)(_bound(ifft))
numpy_function(np.fft.rfft)(_bound(rfft))
numpy_function(np.fft.irfft)(_bound(irfft, lambda n: 2 * (n - 1)))


@numpy_function(np.fft.hfft)
def hfft(a: Any, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None) -> Any:
    _check_norm(norm)
    return np.fft.irfft(np.conjugate(as_array(a)), n, axis, SWAPPED[norm])


@numpy_function(np.fft.ihfft)
def ihfft(a: Any, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None) -> Any:
    _check_norm(norm)
    return np.conjugate(np.fft.rfft(as_array(a), n, axis, SWAPPED[norm]))


# ---- along several axes --------------------------------------------------------------------------------------------


def _plan(a: Any, s: Any, axes: Any, real: bool = False) -> list[tuple[Any, int]]:
    """(number of elements, axis) of each transform. `real`: the last one gives real numbers from half a spectrum."""
    if s is None:
        axes = range(a.ndim) if axes is None else axes
        sizes = [a.shape[i] for i in axes]
        if real:
            sizes[-1] = 2 * (sizes[-1] - 1)
    else:
        axes = range(-len(s), 0) if axes is None else axes
        sizes = list(s)
    if len(sizes) != len(axes):
        raise ValueError(f"[fft] s={tuple(sizes)} and axes={tuple(axes)} have different lengths.")
    return [(a.shape[i] if n == -1 else n, i) for n, i in zip(sizes, axes, strict=True)]


def _along(transform: Callable[..., Any], a: Any, plan: list[tuple[Any, int]], norm: Any) -> Any:
    for n, axis in plan:
        a = transform(a, n, axis, norm)
    return a


def _fftn(transform: Callable[..., Any], usual: Any) -> Callable[..., Any]:
    def fftn(a: Any, s: Any = None, axes: Any = usual, norm: Any = None, out: Any = None) -> Any:
        a = as_array(a)
        return _along(transform, a, _plan(a, s, axes)[::-1], norm)

    return fftn


def _rfftn(usual: Any) -> Callable[..., Any]:
    def rfftn(a: Any, s: Any = None, axes: Any = usual, norm: Any = None, out: Any = None) -> Any:
        a = as_array(a)
        *others, last = _plan(a, s, axes)
        return _along(np.fft.fft, np.fft.rfft(a, *last, norm), others[::-1], norm)

    return rfftn


def _irfftn(usual: Any) -> Callable[..., Any]:
    def irfftn(a: Any, s: Any = None, axes: Any = usual, norm: Any = None, out: Any = None) -> Any:
        a = as_array(a)
        *others, last = _plan(a, s, axes, real=True)
        return np.fft.irfft(_along(np.fft.ifft, a, others, norm), *last, norm)

    return irfftn


numpy_function(np.fft.fftn)(_fftn(np.fft.fft, None))
numpy_function(np.fft.fft2)(_fftn(np.fft.fft, (-2, -1)))
numpy_function(np.fft.ifftn)(_fftn(np.fft.ifft, None))
numpy_function(np.fft.ifft2)(_fftn(np.fft.ifft, (-2, -1)))
numpy_function(np.fft.rfftn)(_rfftn(None))
numpy_function(np.fft.rfft2)(_rfftn((-2, -1)))
numpy_function(np.fft.irfftn)(_irfftn(None))
numpy_function(np.fft.irfft2)(_irfftn((-2, -1)))


# ---- the zero frequency in the middle ------------------------------------------------------------------------------


def _shift(x: Any, places: Any, sign: int) -> Any:
    x = as_array(x)
    places = axes(None, x.ndim) if places is None else places if np.ndim(places) else (places,)
    return np.roll(x, tuple(sign * (x.shape[i] // 2) for i in places), tuple(places))


@numpy_function(np.fft.fftshift)
def fftshift(x: Any, axes: Any = None) -> Any:
    return _shift(x, axes, 1)


@numpy_function(np.fft.ifftshift)
def ifftshift(x: Any, axes: Any = None) -> Any:
    return _shift(x, axes, -1)
