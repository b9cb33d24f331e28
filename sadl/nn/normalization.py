"""Normalisation layers: what they learn, and the running statistics of batches.

Takes inputs with a known size of the last axis, or of axis 1 (channels); gives the same shape. The formulas, and where
they come from, are in `functional`. Scales start at 1 and shifts at 0, as in the papers.
"""

from typing import Any

import numpy as np

from sadl import functional
from sadl.errors import ShapeError, explain
from sadl.function import Buffer, Function
from sadl.functional.checks import flag, floating_dtype, in_dtype_of, number, require_sizes, shape_of
from sadl.functional.normalization import require_groups
from sadl.tape import no_grad
from sadl.tensor import Parameter


class _Norm(Function):
    """What all have in common: `eps`, a dtype in which integers and bools are computed, and an affine map."""

    def __init__(self, shape: Any, eps: float | None, affine: bool, bias: bool, dtype: Any) -> None:
        name = type(self).__name__
        self.eps: Any = eps if eps is None else number(name, "eps", eps, 0)
        self.dtype = floating_dtype(name, dtype)
        affine, bias = flag(name, "affine", affine), flag(name, "bias", bias)
        self.weight = Parameter(np.ones(shape, self.dtype)) if affine else None
        self.bias = Parameter(np.zeros(shape, self.dtype)) if affine and bias else None


class LayerNorm(_Norm):
    """Mean 0 and variance 1 along the last axis, or several last ones, then `weight` and `bias`.

    Args:
        dim: the size of the last axis, or a tuple of the sizes of the last ones.
        eps: added to the variance.
        affine: whether there are a `weight` and a `bias`.
        bias: whether there is a `bias`.
        dtype: floating dtype of the parameters.
    Attributes:
        weight, bias: Parameters of shape `dim`, or None.
    Raises:
        ValueError: a size below 1; at the call, an input that does not end in `dim`.
    """

    def __init__(
        self, dim: Any, eps: float = 1e-5, *, affine: bool = True, bias: bool = True, dtype: Any = np.float32
    ) -> None:
        self.dim = _sizes("LayerNorm", dim)
        super().__init__(self.dim, number("LayerNorm", "eps", eps, 0), affine, bias, dtype)

    def __call__(self, x: Any) -> Any:
        axes = _last_axes("LayerNorm", self.dim, x)
        return functional.layer_norm(in_dtype_of(self, x), self.weight, self.bias, self.eps, axes)


class RMSNorm(_Norm):
    """Mean square 1 along the last axis, or several last ones, then `weight`. Arguments and errors as `LayerNorm`.

    Args:
        eps: added to the mean square; that of the input's dtype if None.
    """

    def __init__(self, dim: Any, eps: float | None = None, *, affine: bool = True, dtype: Any = np.float32) -> None:
        self.dim = _sizes("RMSNorm", dim)
        super().__init__(self.dim, eps, affine, False, dtype)

    def __call__(self, x: Any) -> Any:
        axes = _last_axes("RMSNorm", self.dim, x)
        return functional.rms_norm(in_dtype_of(self, x), self.weight, self.eps, axes)


def _sizes(op: str, dim: Any) -> tuple[int, ...]:
    sizes = tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    require_sizes(op, **{"dim" if len(sizes) == 1 else f"dim[{i}]": n for i, n in enumerate(sizes or (0,))})
    return sizes


def _last_axes(op: str, sizes: tuple[int, ...], x: Any) -> tuple[int, ...]:
    shape = shape_of(x)
    if shape[-len(sizes) :] != sizes:
        dim = sizes[0] if len(sizes) == 1 else sizes
        need = f"an input of shape (..., {', '.join(map(str, sizes))})"
        raise ShapeError(explain(op, f"{op}(dim={dim}) was given an input of shape {shape}", need))
    return tuple(range(-len(sizes), 0))


class GroupNorm(_Norm):
    """Mean 0 and variance 1 in each of so many groups of channels, then `weight` and `bias` per channel.

    Args:
        groups, channels: how many; `groups` divides `channels`. Inputs are (n, channels, ...).
        eps, affine, dtype: as for `LayerNorm`.
    Attributes:
        weight, bias: Parameters (channels,), or None.
    Raises:
        ValueError: a size below 1, or that does not divide; at the call, an input of other channels.
    """

    def __init__(
        self, groups: int, channels: int, eps: float = 1e-5, *, affine: bool = True, dtype: Any = np.float32
    ) -> None:
        require_sizes("GroupNorm", groups=groups, channels=channels)
        require_groups("GroupNorm", groups, channels)
        self.groups, self.channels = groups, channels
        super().__init__(channels, number("GroupNorm", "eps", eps, 0), affine, True, dtype)

    def __call__(self, x: Any) -> Any:
        who = f"GroupNorm(groups={self.groups}, channels={self.channels})"
        _require_channels("GroupNorm", who, self.channels, x, ())
        return functional.group_norm(in_dtype_of(self, x), self.groups, self.weight, self.bias, self.eps)


def _require_channels(op: str, who: str, channels: int, x: Any, ndims: tuple[int, ...]) -> None:
    shape = shape_of(x)
    if len(shape) < 2 or shape[1] != channels or (ndims and len(shape) not in ndims):
        forms = [f"(n, {channels}{', l' * (k == 3)}{', h, w' * (k == 4)})" for k in ndims] or [f"(n, {channels}, ...)"]
        raise ShapeError(explain(op, f"{who} was given an input of shape {shape}", f"shape {' or '.join(forms)}"))


class BatchNorm(_Norm):
    """Each channel with mean 0 and variance 1 over the batch, then `weight` and `bias`; see `functional.batch_norm`.

    In training by the statistics of the batch, which the running ones follow; else by the running ones. Inputs are
    (n, channels, ...).

    Args:
        channels: the size of axis 1.
        eps: added to the variance.
        momentum: how far the running statistics follow each batch, in [0, 1]; None for the mean of all batches.
        affine: whether there are a `weight` and a `bias`.
        dtype: floating dtype of parameters and statistics.
    Attributes:
        weight, bias: Parameters (channels,), or None.
        mean, var: Buffers (channels,), the running statistics, at first 0 and 1.
        batches: a Buffer () of int64: how many were seen in training. Only where `momentum` is None.
    Raises:
        ValueError: a size below 1; at the call, an input of another form, or in training one element per channel.
    """

    NDIMS: tuple[int, ...] = ()

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        *,
        affine: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        name = type(self).__name__
        require_sizes(name, channels=channels)
        self.channels = channels
        self.momentum = None if momentum is None else number(name, "momentum", momentum, 0, 1)
        super().__init__(channels, number(name, "eps", eps, 0), affine, True, dtype)
        self.mean, self.var = Buffer(np.zeros(channels, self.dtype)), Buffer(np.ones(channels, self.dtype))
        if momentum is None:
            self.batches = Buffer(np.array(0, np.int64))

    def __call__(self, x: Any) -> Any:
        name = type(self).__name__
        _require_channels(name, f"{name}(channels={self.channels})", self.channels, x, self.NDIMS)
        training, x = self.is_training(), in_dtype_of(self, x)
        momentum = self._share() if self.momentum is None and training else self.momentum or 0.0
        return functional.batch_norm(x, self.mean, self.var, self.weight, self.bias, training, momentum, self.eps)

    @no_grad()
    def _share(self) -> Any:
        """That of the next batch in the mean of all."""
        self.batches[...] = self.batches + 1
        return 1 / self.batches.astype(self.dtype)


class BatchNorm1d(BatchNorm):
    """`BatchNorm` for inputs (n, channels) or (n, channels, length)."""

    NDIMS = (2, 3)


class BatchNorm2d(BatchNorm):
    """`BatchNorm` for images (n, channels, height, width)."""

    NDIMS = (4,)
