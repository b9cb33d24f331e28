"""Pooling: the sum and the maximum over windows of images, and the operations that their gradients are.

Takes images (N, C, H, W) and normalised params, like `convolution`; gives one number per window, (N, C, rows, columns).
Windows that lie side by side and cover the image are an axis of their own: then a compiled program sees a reduction over
it, which fuses with what is around it. Checking arguments, and one dimension, are left to `functional`.
"""

from typing import Any

import numpy as np

from sadl.op import Aval, Op, call
from sadl.ops.convolution import Geometry, Pair
from sadl.tape import bind


def _sums(x: Any, **how: Any) -> Any:
    geometry = Geometry(x.shape[2:], **how)
    first, *others = geometry.places(geometry.pad(x))
    out = np.copy(first)
    for elements in others:
        out += elements
    return out


def _spread(g: Any, *, size: Pair, **how: Any) -> Any:
    geometry = Geometry(size, **how)
    padded = np.zeros_like(g, order="C", shape=(*g.shape[:2], *geometry.padded))
    for elements in geometry.places(padded):
        elements += g
    return geometry.crop(padded)


def _maxima(x: Any, **how: Any) -> Any:
    geometry = Geometry(x.shape[2:], **how)
    least = -np.inf if x.dtype.kind == "f" else False if x.dtype == bool else np.iinfo(x.dtype).min
    first, *others = geometry.places(geometry.pad(x, least))
    out = np.copy(first)
    for elements in others:
        np.maximum(out, elements, out=out)
    return out


def _ties(y: Any, x: Any, geometry: Geometry) -> tuple[list[Any], Any]:
    """Per element of the kernel: where it meets the maximum; and how many do, at least 1: a NaN equals nothing."""
    ties = [elements == y for elements in geometry.places(geometry.pad(x, np.nan))]
    count: Any = np.zeros_like(y, np.uint8 if len(ties) < 256 else np.int32)
    for tie in ties:
        count += tie
    return ties, np.maximum(count, 1).astype(y.dtype)


def _shares(g: Any, y: Any, x: Any, **how: Any) -> Any:
    """The cotangent of each window, shared equally by the elements that are its maximum."""
    geometry = Geometry(x.shape[2:], **how)
    ties, count = _ties(y, x, geometry)
    share, padded = g / count, np.zeros_like(g, order="C", shape=(*g.shape[:2], *geometry.padded))
    (height, width), (sh, sw) = geometry.positions[-1], geometry.stride
    apart = height < sh and width < sw
    for elements, tie in zip(geometry.places(padded), ties, strict=True):
        if apart:
            np.multiply(share, tie, out=elements)
        else:
            elements += share * tie
    return geometry.crop(padded)


def _picked(t: Any, y: Any, x: Any, **how: Any) -> Any:
    """The mean of `t` over the elements that are the maximum of their window."""
    geometry = Geometry(x.shape[2:], **how)
    ties, count = _ties(y, x, geometry)
    out = np.zeros_like(y)
    for elements, tie in zip(geometry.places(geometry.pad(t)), ties, strict=True):
        out += elements * tie
    return out / count


# ---- windows side by side, for compiled programs -------------------------------------------------------------------


def _side_by_side(size: Any, kernel: Pair, stride: Pair, padding: Any, dilation: Pair) -> bool:
    whole = all(n % k == 0 for n, k in zip(size, kernel, strict=True))
    return kernel == stride and padding == ((0, 0), (0, 0)) and dilation == (1, 1) and whole


def _windows(x: Any, kernel: Pair) -> Any:
    """(kh, kw, N, C, rows, columns)"""
    (n, c, h, w), (kh, kw) = x.shape, kernel
    return np.transpose(np.reshape(x, (n, c, h // kh, kh, w // kw, kw)), (3, 5, 0, 1, 2, 4))


def _images(windows: Any) -> Any:
    """The inverse of that."""
    kh, kw, n, c, rows, columns = windows.shape
    return np.reshape(np.transpose(windows, (2, 3, 4, 0, 5, 1)), (n, c, rows * kh, columns * kw))


def _expand_sums(x: Any, **how: Any) -> Any:
    return np.sum(_windows(x, how["kernel"]), axis=(0, 1)) if _side_by_side(x.shape[2:], **how) else None


def _expand_spread(g: Any, *, size: Pair, **how: Any) -> Any:
    return _images(np.broadcast_to(g, (*how["kernel"], *g.shape))) if _side_by_side(size, **how) else None


def _expand_maxima(x: Any, **how: Any) -> Any:
    return np.max(_windows(x, how["kernel"]), axis=(0, 1)) if _side_by_side(x.shape[2:], **how) else None


def _ties_of_windows(y: Any, x: Any, kernel: Pair) -> tuple[Any, Any]:
    ties = (_windows(x, kernel) == y).astype(y.dtype)
    return ties, np.maximum(np.sum(ties, axis=(0, 1)), 1)


def _expand_shares(g: Any, y: Any, x: Any, **how: Any) -> Any:
    if not _side_by_side(x.shape[2:], **how):
        return None
    ties, count = _ties_of_windows(y, x, how["kernel"])
    return _images(g / count * ties)


def _expand_picked(t: Any, y: Any, x: Any, **how: Any) -> Any:
    if not _side_by_side(x.shape[2:], **how):
        return None
    ties, count = _ties_of_windows(y, x, how["kernel"])
    return np.sum(_windows(t, how["kernel"]) * ties, axis=(0, 1)) / count


# ---- the table -----------------------------------------------------------------------------------------------------


def _infer_window(op: Op, x: Aval, *_: Any, **how: Any) -> Aval:
    return Aval((*x.shape[:2], *Geometry((x.shape[2], x.shape[3]), **how).out), x.dtype)


# fmt: off
window_sum = call("window_sum", _sums, [lambda g, y, x, **how: bind(window_spread, g, size=x.shape[2:], **how)],
                  infer=_infer_window, expand=_expand_sums)
window_spread: Op = call("window_spread", _spread, [lambda t, s, g, *, size, **how: bind(window_sum, t, **how)],
                         infer=lambda op, g, *, size, **_: Aval((*g.shape[:2], *size), g.dtype), expand=_expand_spread)
window_max = call("window_max", _maxima, [lambda g, y, x, **how: bind(window_share, g, y, x, **how)],
                  infer=_infer_window, expand=_expand_maxima)
window_share: Op = call("window_share", _shares, [lambda t, s, g, y, x, **how: bind(window_pick, t, y, x, **how), None, None],
                        infer=lambda op, g, y, x, **_: x, expand=_expand_shares)
window_pick: Op = call("window_pick", _picked, [lambda g, s, t, y, x, **how: bind(window_share, g, y, x, **how), None, None],
                       infer=_infer_window, expand=_expand_picked)
# fmt: on
