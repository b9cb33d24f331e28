"""Pooling layers.

Takes images (N, C, H, W) or rows (N, C, L); gives as many channels, with a number per window.
The arithmetic is in `functional`.
"""

from typing import Any

from sadl import functional
from sadl.function import Function
from sadl.functional.convolution import sizes


class _Pool(Function):
    """What the four have in common: the windows."""

    NDIM: int

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        name = type(self).__name__
        self.kernel_size = sizes(name, "kernel_size", kernel_size, self.NDIM)
        self.stride = self.kernel_size if stride is None else sizes(name, "stride", stride, self.NDIM)
        self.padding = sizes(name, "padding", padding, self.NDIM, least=0)


class MaxPool1d(_Pool):
    """The maximum of each window of rows; see `functional.max_pool1d`."""

    NDIM = 1

    def __call__(self, x: Any) -> Any:
        return functional.max_pool1d(x, self.kernel_size, self.stride, self.padding)


class MaxPool2d(_Pool):
    """The maximum of each window of images; see `functional.max_pool2d`."""

    NDIM = 2

    def __call__(self, x: Any) -> Any:
        return functional.max_pool2d(x, self.kernel_size, self.stride, self.padding)


class AvgPool1d(_Pool):
    """The mean of each window of rows; see `functional.avg_pool1d`."""

    NDIM = 1

    def __call__(self, x: Any) -> Any:
        return functional.avg_pool1d(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(_Pool):
    """The mean of each window of images; see `functional.avg_pool2d`."""

    NDIM = 2

    def __call__(self, x: Any) -> Any:
        return functional.avg_pool2d(x, self.kernel_size, self.stride, self.padding)


class AdaptiveAvgPool2d(Function):
    """The means of windows that make a result of a given size; see `functional.adaptive_avg_pool2d`."""

    def __init__(self, output_size: Any) -> None:
        self.output_size = output_size

    def __call__(self, x: Any) -> Any:
        return functional.adaptive_avg_pool2d(x, self.output_size)
