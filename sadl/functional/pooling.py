"""Pooling: the maximum or the mean of each window of images or rows.

Takes images (N, C, H, W) or rows (N, C, L); gives as many channels, with a number per window.
Windows are what a kernel meets in a convolution. Sums and maxima over them are in the table of operations.
"""

import math
from typing import Any

import numpy as np

from sadl.errors import explain
from sadl.functional.checks import shape_of
from sadl.functional.convolution import as_images, as_rows, of_images, require_axes, require_room, sizes
from sadl.ops import pooling as table
from sadl.tape import as_array, bind


def max_pool1d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0) -> Any:
    """The maximum of each window: rows (N, C, L) give (N, C, L'). Arguments, sizes and errors as in `max_pool2d`."""
    return _pool("max_pool1d", 1, table.window_max, x, kernel_size, stride, padding)


def max_pool2d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0) -> Any:
    """The maximum of each window: images (N, C, H, W) give (N, C, H', W'), dtype of `x`.

    H' = floor((H + 2 padding - kh) / stride) + 1, and W' likewise. Elements that tie share the gradient equally, as in
    `np.max` (torch gives it to the first of them).
    Args:
        x: images.
        kernel_size: the size of a window, an integer or two.
        stride: how far windows are apart, an integer or two; `kernel_size` if None.
        padding: how much is put around the images, which never is the maximum: at most half of `kernel_size`.
    Raises:
        ShapeError: `x` is not of four dimensions, or a window is larger than the padded images.
        ValueError: a size that is not a whole number, or too much padding.
    """
    return _pool("max_pool2d", 2, table.window_max, x, kernel_size, stride, padding)


def avg_pool1d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0) -> Any:
    """The mean of each window: rows (N, C, L) give (N, C, L'). Arguments, sizes and errors as in `avg_pool2d`."""
    return _averages("avg_pool1d", 1, x, kernel_size, stride, padding)


def avg_pool2d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0) -> Any:
    """The mean of each window: images (N, C, H, W) give (N, C, H', W'), dtype of `x` if floating.

    What is put around the images is 0 and counts as part of the window. Arguments, sizes and errors as in `max_pool2d`.
    """
    return _averages("avg_pool2d", 2, x, kernel_size, stride, padding)


def adaptive_avg_pool2d(x: Any, output_size: Any) -> Any:
    """The mean of windows that together cover the images: (N, C, H, W) give (N, C, *output_size), dtype of `x`.

    Window i of m in a row of n reaches from floor(i n / m) up to ceil((i + 1) n / m), as in torch; they overlap where m
    does not divide n. `output_size` is an integer or two; None in place of one keeps the size.
    Raises:
        ShapeError: `x` is not of four dimensions.
        ValueError: a size that is not a whole number >= 1.
    """
    x = as_array(x)
    require_axes("adaptive_avg_pool2d", x, 2)
    size = shape_of(x)[2:]
    wanted = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * 2
    filled = [n if m is None else m for n, m in zip(size, wanted, strict=False)]
    goal = sizes("adaptive_avg_pool2d", "output_size", filled if len(wanted) == 2 else output_size, 2)
    if all(m and n % m == 0 for n, m in zip(size, goal, strict=True)) and 0 not in size:
        return avg_pool2d(x, tuple(n // m for n, m in zip(size, goal, strict=True)))
    rows, columns = (_averaging(n, m, x.dtype) for n, m in zip(size, goal, strict=True))
    return np.matmul(np.matmul(rows, x), columns.T)


def _averaging(n: int, m: int, dtype: np.dtype) -> np.ndarray:
    """The matrix (m, n) that makes of n numbers the means of m windows."""
    i, k = np.arange(m)[:, None], np.arange(n)
    inside = (k >= i * n // m) & (k < -(-(i + 1) * n // m))
    return (inside / np.sum(inside, axis=1, keepdims=True)).astype(dtype)


def _averages(op: str, ndim: int, x: Any, kernel_size: Any, stride: Any, padding: Any) -> Any:
    total = _pool(op, ndim, table.window_sum, x, kernel_size, stride, padding)
    return total / math.prod(sizes(op, "kernel_size", kernel_size, ndim))


def _pool(op: str, ndim: int, table_op: Any, x: Any, kernel_size: Any, stride: Any, padding: Any) -> Any:
    x = as_array(x)
    require_axes(op, x, ndim)
    kernel = sizes(op, "kernel_size", kernel_size, ndim)
    steps = kernel if stride is None else sizes(op, "stride", stride, ndim)
    pads = sizes(op, "padding", padding, ndim, least=0)
    if any(2 * p > k for p, k in zip(pads, kernel, strict=True)):
        what = f"padding={padding} is more than half of kernel_size={kernel_size}: some windows would see nothing else"
        raise ValueError(explain(op, what, "less padding"))
    require_room(op, shape_of(x)[2:], kernel, [(p, p) for p in pads], (1,) * ndim)
    how = {"kernel": of_images(kernel, 1), "stride": of_images(steps, 1), "padding": of_images(pads, 0)}
    return as_rows(bind(table_op, as_images(x), **how), ndim)
