"""Pooling layers.

Takes images (N, C, H, W) or rows (N, C, L); gives as many channels, with a number per window.
The arithmetic is in `functional`.
"""

from typing import Any

from sadl import functional
from sadl.function import Function
from sadl.functional.checks import flag
from sadl.functional.convolution import sizes
from sadl.functional.pooling import output_sizes, window


class _Pool(Function):
    """What the four have in common: the windows."""

    NDIM: int

    def __init__(self, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool) -> None:
        how = window(type(self).__name__, self.NDIM, kernel_size, stride, padding)
        self.kernel_size, self.stride, self.padding = how
        self.ceil_mode = flag(type(self).__name__, "ceil_mode", ceil_mode)


class _MaxPool(_Pool):
    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.dilation = sizes(type(self).__name__, "dilation", dilation, self.NDIM)

    def __call__(self, x: Any) -> Any:
        pool = functional.max_pool1d if self.NDIM == 1 else functional.max_pool2d
        return pool(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)


class _AvgPool(_Pool):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = flag(type(self).__name__, "count_include_pad", count_include_pad)

    def __call__(self, x: Any) -> Any:
        pool = functional.avg_pool1d if self.NDIM == 1 else functional.avg_pool2d
        return pool(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class MaxPool1d(_MaxPool):
    """The maximum of each window of rows; see `functional.max_pool1d`."""

    NDIM = 1


class MaxPool2d(_MaxPool):
    """The maximum of each window of images; see `functional.max_pool2d`."""

    NDIM = 2


class AvgPool1d(_AvgPool):
    """The mean of each window of rows; see `functional.avg_pool1d`."""

    NDIM = 1


class AvgPool2d(_AvgPool):
    """The mean of each window of images; see `functional.avg_pool2d`."""

    NDIM = 2


class AdaptiveAvgPool2d(Function):
    """The means of windows that make a result of a given size; see `functional.adaptive_avg_pool2d`."""

    def __init__(self, output_size: Any) -> None:
        self.output_size = output_sizes("AdaptiveAvgPool2d", output_size)

    def __call__(self, x: Any) -> Any:
        return functional.adaptive_avg_pool2d(x, self.output_size)
