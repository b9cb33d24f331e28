"""Convolution layers and how their weights start.

Takes images (N, C, H, W) or rows (N, C, L); gives the same form with other channels and sizes.
The arithmetic is in `functional`, first values are in `init`.
"""

import math
from typing import Any

import numpy as np

from sadl import functional, random
from sadl.errors import ShapeError, explain
from sadl.function import Function
from sadl.functional.checks import flag, floating_dtype, in_dtype_of, require_sizes, shape_of
from sadl.functional.convolution import AXES, output_paddings, paddings, sizes
from sadl.nn.init import Initializer, initial, kaiming_uniform, uniform
from sadl.tensor import Parameter

Shape = tuple[int, ...]


def default_init(shape: Shape, dtype: Any = np.float32, rng: Any = None) -> np.ndarray:
    """Uniform in +-1 / sqrt(fan_in), which is He's with gain sqrt(1/3): the rule of torch (and of Lua Torch before it),
    after LeCun et al., "Efficient backprop", 1998, section 4.6.
    """
    return kaiming_uniform(shape, dtype, rng, gain=math.sqrt(1 / 3))


class _Convolution(Function):
    """What the four have in common; `NDIM` dimensions."""

    NDIM: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        weights: Shape,
        bias: bool,
        dtype: Any,
        rng: Any,
        init: str | Initializer,
    ) -> None:
        dtype, rng = floating_dtype(type(self).__name__, dtype), None if rng is None else random.generator(rng)
        bias = flag(type(self).__name__, "bias", bias)
        bound = 1 / math.sqrt(math.prod(weights[1:]))
        self.in_channels, self.out_channels = in_channels, out_channels
        self.W = Parameter(initial(init, weights, dtype, rng))
        self.b = Parameter(uniform((out_channels,), dtype, rng, -bound, bound)) if bias else None

    def _require_fit(self, x: Any) -> None:
        shape, name = shape_of(x), type(self).__name__
        if len(shape) != self.NDIM + 2 or shape[1] != self.in_channels:
            need = ", ".join(("N", str(self.in_channels), *AXES[self.NDIM][2:]))
            what = f"{name}({self.in_channels}, {self.out_channels}, ...) was given an input of shape {shape}"
            raise ShapeError(explain(name, what, f"an input of shape ({need})"))


class _Conv(_Convolution):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        dtype: Any = np.float32,
        rng: Any = None,
        init: str | Initializer = default_init,
    ) -> None:
        name = type(self).__name__
        _require_groups(name, in_channels, out_channels, groups)
        self.kernel_size = sizes(name, "kernel_size", kernel_size, self.NDIM)
        self.stride = sizes(name, "stride", stride, self.NDIM)
        self.dilation = sizes(name, "dilation", dilation, self.NDIM)
        paddings(name, padding, self.kernel_size, self.stride, self.dilation)  # raises what is wrong with it
        self.padding, self.groups = padding, groups
        weights = (out_channels, in_channels // groups, *self.kernel_size)
        super().__init__(in_channels, out_channels, weights, bias, dtype, rng, init)

    def __call__(self, x: Any) -> Any:
        """(N, in_channels, ...) -> (N, out_channels, ...)."""
        self._require_fit(x)
        convolve = functional.conv1d if self.NDIM == 1 else functional.conv2d
        return convolve(in_dtype_of(self.W, x), self.W, self.b, self.stride, self.padding, self.dilation, self.groups)


class _ConvTranspose(_Convolution):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        *,
        dtype: Any = np.float32,
        rng: Any = None,
        init: str | Initializer = default_init,
    ) -> None:
        name = type(self).__name__
        _require_groups(name, in_channels, out_channels, groups)
        self.kernel_size = sizes(name, "kernel_size", kernel_size, self.NDIM)
        self.stride = sizes(name, "stride", stride, self.NDIM)
        self.padding = sizes(name, "padding", padding, self.NDIM, least=0)
        self.output_padding = output_paddings(name, output_padding, self.stride)
        self.dilation, self.groups = sizes(name, "dilation", dilation, self.NDIM), groups
        weights = (in_channels, out_channels // groups, *self.kernel_size)
        super().__init__(in_channels, out_channels, weights, bias, dtype, rng, init)

    def __call__(self, x: Any) -> Any:
        """(N, in_channels, ...) -> (N, out_channels, ...)."""
        self._require_fit(x)
        transposed = functional.conv_transpose1d if self.NDIM == 1 else functional.conv_transpose2d
        how = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        return transposed(in_dtype_of(self.W, x), self.W, self.b, *how)


def _require_groups(name: str, in_channels: Any, out_channels: Any, groups: Any) -> None:
    require_sizes(name, in_channels=in_channels, out_channels=out_channels, groups=groups)
    if in_channels % groups or out_channels % groups:
        what = f"in_channels={in_channels} and out_channels={out_channels} do not divide into groups={groups}"
        raise ValueError(explain(name, what, "numbers of channels that groups divides"))


class Conv1d(_Conv):
    """Convolution of rows, (N, in_channels, L) -> (N, out_channels, L'); arguments and errors as for `Conv2d`.

    Attributes:
        W: Parameter (out_channels, in_channels / groups, k).
        b: Parameter (out_channels,), or None.
    """

    NDIM = 1


class Conv2d(_Conv):
    """Convolution of images, (N, in_channels, H, W) -> (N, out_channels, H', W'): see `functional.conv2d`.

    Args:
        in_channels, out_channels: how many, >= 1.
        kernel_size: an integer >= 1, or one for rows and one for columns.
        stride, padding, dilation, groups: as in `functional.conv2d`.
        bias: whether there is a `b`.
        dtype: floating dtype of the parameters.
        rng: a numpy.random.Generator or a seed for their first values; that of `sadl.random` if None.
        init: what `W` is drawn from: a name of `nn.init`, or a function (shape, dtype, rng).
    Attributes:
        W: Parameter (out_channels, in_channels / groups, kh, kw), uniform in +-1 / sqrt(fan_in) by default, where
            fan_in = in_channels / groups * kh * kw: torch's default, from LeCun et al., 1998.
        b: Parameter (out_channels,), uniform in the same bounds; or None.
    Raises:
        ValueError: sizes that are no whole numbers, channels that do not divide into groups; at the call, an input of
            another form, or smaller than the kernel.
    """

    NDIM = 2


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution of rows, (N, in_channels, L) -> (N, out_channels, L'); as `ConvTranspose2d`.

    Attributes:
        W: Parameter (in_channels, out_channels / groups, k).
        b: Parameter (out_channels,), or None.
    """

    NDIM = 1


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution of images, (N, in_channels, H, W) -> (N, out_channels, H', W'): see
    `functional.conv_transpose2d`.

    Args:
        in_channels, out_channels, kernel_size, bias, dtype, rng, init: as for `Conv2d`.
        stride, padding, output_padding, groups, dilation: as in `functional.conv_transpose2d`.
    Attributes:
        W: Parameter (in_channels, out_channels / groups, kh, kw), uniform in +-1 / sqrt(fan_in) by default, where
            fan_in = out_channels / groups * kh * kw, as torch counts it.
        b: Parameter (out_channels,), uniform in the same bounds; or None.
    Raises:
        ValueError: as for `Conv2d`; an output_padding that is not smaller than the stride.
    """

    NDIM = 2
