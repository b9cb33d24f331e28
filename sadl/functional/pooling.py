"""Pooling: the maximum or the mean of each window of images or rows.

Takes images (N, C, H, W) or rows (N, C, L); gives as many channels, with a number per window.
Windows are what a kernel meets in a convolution. Sums and maxima over them are in the table of operations.
"""

import functools
import math
from typing import Any

import numpy as np

from sadl.errors import ShapeError, explain
from sadl.functional.checks import flag, floating, numbers, shape_of
from sadl.functional.convolution import Sizes, as_images, as_rows, of_images, require_axes, require_room, sizes
from sadl.ops import pooling as table
from sadl.tape import bind


def max_pool1d(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    """The maximum of each window: rows (N, C, L) give (N, C, L'). Arguments, sizes and errors as in `max_pool2d`."""
    return _maxima("max_pool1d", 1, x, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    """The maximum of each window: images (N, C, H, W) give (N, C, H', W'), dtype of `x`.

    H' = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1, and W' likewise. Elements that tie share the
    gradient equally, as in `np.max` (torch gives it to the first of them).
    Args:
        x: images.
        kernel_size: the size of a window, an integer or two.
        stride: how far windows are apart, an integer or two; `kernel_size` if None.
        padding: how much is put around the images, which never is the maximum: at most half of `kernel_size`.
        dilation: how far the elements of a window are apart, an integer or two.
        ceil_mode: round up instead: the last window may reach over the end, but starts before the padding behind.
    Raises:
        ShapeError: `x` is not of four dimensions, or a window is larger than the padded images.
        ValueError: a size that is not a whole number, or too much padding.
    """
    return _maxima("max_pool2d", 2, x, kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool1d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """The mean of each window: rows (N, C, L) give (N, C, L'). Arguments, sizes and errors as in `avg_pool2d`."""
    return _averages("avg_pool1d", 1, x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """The mean of each window: images (N, C, H, W) give (N, C, H', W'), dtype of `x` if floating.

    What is put around the images is 0, and counts as part of the window if `count_include_pad`; what a window reaches
    beyond that does not. Other arguments, sizes and errors as in `max_pool2d`.
    """
    return _averages("avg_pool2d", 2, x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def adaptive_avg_pool2d(x: Any, output_size: Any) -> Any:
    """The mean of windows that together cover the images: (N, C, H, W) give (N, C, *output_size), dtype of `x` if
    floating.

    Window i of m in a row of n reaches from floor(i n / m) up to ceil((i + 1) n / m), as in torch; they overlap where m
    does not divide n. `output_size` is an integer or two; None in place of one keeps the size.
    Raises:
        ShapeError: `x` is not of four dimensions, or without pixels.
        ValueError: a size that is not a whole number >= 1.
    """
    x = floating("adaptive_avg_pool2d", x)
    require_axes("adaptive_avg_pool2d", x, 2)
    size = shape_of(x)[2:]
    if 0 in size:
        raise ShapeError(explain("adaptive_avg_pool2d", f"images of size {size} have no mean", "images with pixels"))
    wanted = output_sizes("adaptive_avg_pool2d", output_size)
    goal = tuple(n if m is None else m for n, m in zip(size, wanted, strict=True))
    if all(n % m == 0 for n, m in zip(size, goal, strict=True)):
        return avg_pool2d(x, tuple(n // m for n, m in zip(size, goal, strict=True)))
    rows, columns = (_averaging(n, m, x.dtype) for n, m in zip(size, goal, strict=True))
    return np.matmul(np.matmul(rows, x), columns.T)


def output_sizes(op: str, output_size: Any) -> tuple[int | None, ...]:
    """Two sizes, or None for those that stay."""
    wanted = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * 2
    sizes(op, "output_size", [1 if m is None else m for m in wanted] if len(wanted) == 2 else output_size, 2)
    return wanted


def _averaging(n: int, m: int, dtype: np.dtype) -> np.ndarray:
    """The matrix (m, n) that makes of n numbers the means of m windows."""
    i, k = np.arange(m)[:, None], np.arange(n)
    inside = (k >= i * n // m) & (k < -(-(i + 1) * n // m))
    return (inside / np.sum(inside, axis=1, keepdims=True)).astype(dtype)


def _averages(
    op: str, ndim: int, x: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool
) -> Any:
    x = floating(op, x)
    require_axes(op, x, ndim)
    kernel, steps, around = window(op, ndim, kernel_size, stride, padding)
    size, one = shape_of(x)[2:], (1,) * ndim
    pads = _paddings(op, size, kernel, steps, around, one, ceil_mode)
    total = _over_windows(table.window_sum, x, kernel, steps, pads, one)
    counted = around if flag(op, "count_include_pad", count_include_pad) else (0,) * ndim
    counts = [_counts(*each) for each in zip(size, kernel, steps, pads, counted, strict=True)]
    if all(np.all(n == k) for n, k in zip(counts, kernel, strict=True)):
        return total / math.prod(kernel)
    return total / functools.reduce(np.multiply.outer, counts).astype(total.dtype)


def _counts(n: int, kernel: int, step: int, pad: tuple[int, int], around: int) -> np.ndarray:
    """How many elements of a row of `n` with `around` zeros before and behind each window has."""
    start = np.arange(0, n + sum(pad) - kernel + 1, step) - pad[0]
    return np.minimum(start + kernel, n + around) - np.maximum(start, -around)


def _maxima(
    op: str, ndim: int, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> Any:
    x = numbers(op, x, kinds="fiub")
    require_axes(op, x, ndim)
    kernel, steps, around = window(op, ndim, kernel_size, stride, padding)
    apart = sizes(op, "dilation", dilation, ndim)
    pads = _paddings(op, shape_of(x)[2:], kernel, steps, around, apart, ceil_mode)
    return _over_windows(table.window_max, x, kernel, steps, pads, apart)


def _over_windows(table_op: Any, x: Any, kernel: Sizes, stride: Sizes, padding: Any, dilation: Sizes) -> Any:
    how = {"kernel": of_images(kernel, 1), "stride": of_images(stride, 1)}
    how |= {"padding": of_images(padding, (0, 0)), "dilation": of_images(dilation, 1)}
    return as_rows(bind(table_op, as_images(x), **how), len(kernel))


def window(op: str, ndim: int, kernel_size: Any, stride: Any, padding: Any) -> tuple[Sizes, Sizes, Sizes]:
    """Size, stride and padding of windows, for each dimension."""
    kernel = sizes(op, "kernel_size", kernel_size, ndim)
    steps = kernel if stride is None else sizes(op, "stride", stride, ndim)
    pads = sizes(op, "padding", padding, ndim, least=0)
    if any(2 * p > k for p, k in zip(pads, kernel, strict=True)):
        what = f"padding={padding} is more than half of kernel_size={kernel_size}: some windows would see nothing else"
        raise ValueError(explain(op, what, "less padding"))
    return kernel, steps, pads


def _paddings(
    op: str, size: Sizes, kernel: Sizes, steps: Sizes, around: Sizes, dilation: Sizes, ceil_mode: bool
) -> tuple[tuple[int, int], ...]:
    """How much goes before and behind rows or images of this size."""
    ceil_mode = flag(op, "ceil_mode", ceil_mode)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    each = zip(size, reach, steps, around, strict=True)
    pads = tuple((p, _behind(n, r, s, p) if ceil_mode else p) for n, r, s, p in each)
    require_room(op, size, kernel, pads, dilation)
    return pads


def _behind(n: int, reach: int, step: int, pad: int) -> int:
    """How much has to be behind a row for the last window that starts before the padding there."""
    last = min(-(-(n + 2 * pad - reach) // step), (n + pad - 1) // step)
    return max(pad, last * step + reach - n - pad)
