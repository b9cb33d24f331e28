"""Normalisations: inputs with mean 0 and variance 1 along some axes, scaled and shifted by what a layer learns.

Takes inputs, weights and, for batches, running statistics, which it updates in place. Keeping these is left to `nn`.
"""

import math
from typing import Any

import numpy as np

from sadl.errors import ShapeError, explain
from sadl.functional.checks import floating, require_broadcast, shape_of
from sadl.tape import no_grad


def _standardised(x: Any, axis: Any, eps: float) -> tuple[Any, Any, Any]:
    """(x - mean) / sqrt(variance + eps), the mean and the variance, both with axes of size 1."""
    mean = np.mean(x, axis=axis, keepdims=True)
    centred = x - mean
    variance = np.mean(np.square(centred), axis=axis, keepdims=True)
    return centred / np.sqrt(variance + eps), mean, variance


def _affine(y: Any, weight: Any, bias: Any) -> Any:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _require_affine(op: str, weight: Any, bias: Any, to: tuple[int, ...], need: str) -> None:
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None:
            require_broadcast(op, name, shape_of(value), to, need)


def layer_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, axis: Any = -1) -> Any:
    """(x - mean) / sqrt(variance + eps) * weight + bias, with mean and variance along `axis`: shape of `x`.

    Ba, Kiros & Hinton, "Layer normalization", 2016; the variance is that of NumPy, divided by the number of elements.

    Args:
        x: (..., dim); integers are computed in float64.
        weight, bias: (dim,), or the sizes of `x` along several last axes; None for 1 and 0.
        axis: the last axis, or a tuple of several last ones.
    Raises:
        ShapeError: `weight` or `bias` do not fit.
    """
    x = floating(x)
    _require_affine("layer_norm", weight, bias, shape_of(x), "the sizes of the normalised axes")
    return _affine(_standardised(x, axis, eps)[0], weight, bias)


def rms_norm(x: Any, weight: Any = None, eps: float | None = None, axis: Any = -1) -> Any:
    """x / sqrt(mean(x**2) + eps) * weight, with the mean along `axis`: shape of `x`.

    Zhang & Sennrich, "Root mean square layer normalization", 2019. `eps` is that of the dtype if None; other
    arguments and errors as in `layer_norm`.
    """
    x = floating(x)
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    _require_affine("rms_norm", weight, None, shape_of(x), "the sizes of the normalised axes")
    return _affine(x / np.sqrt(np.mean(np.square(x), axis=axis, keepdims=True) + eps), weight, None)


def _per_channel(value: Any, ndim: int) -> Any:
    """(c,) as (c, 1, 1): for an input with channels on axis 1."""
    return None if value is None else np.reshape(value, (-1, *(1,) * (ndim - 2)))


def _require_channels(op: str, x: Any, least: int = 2, **given: Any) -> None:
    shape = shape_of(x)
    if len(shape) < least:
        raise ShapeError(explain(op, f"an input of shape {shape} has no channels", "an input of shape (n, c, ...)"))
    for name, value in given.items():
        if value is not None and shape_of(value) != shape[1:2]:
            what = f"{name} of shape {shape_of(value)} does not fit an input of shape {shape}"
            raise ShapeError(explain(op, what, f"one element per channel: shape {shape[1:2]}"))


def group_norm(x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """`layer_norm` of each of so many groups of channels, scaled and shifted per channel: shape of `x`.

    Wu & He, "Group normalization", 2018.

    Args:
        x: (n, c, ...); integers are computed in float64.
        groups: how many, dividing c.
        weight, bias: (c,), or None for 1 and 0.
    Raises:
        ShapeError: `weight` or `bias` do not fit, or there are no channels.
        ValueError: `groups` does not divide c.
    """
    x = floating(x)
    _require_channels("group_norm", x, weight=weight, bias=bias)
    n, c, *rest = shape_of(x)
    if groups < 1 or c % groups:
        raise ValueError(explain("group_norm", f"{c} channels cannot be divided into {groups} groups"))
    rows = np.reshape(x, (n, groups, c // groups * math.prod(rest)))
    y = np.reshape(_standardised(rows, -1, eps)[0], (n, c, *rest))
    return _affine(y, _per_channel(weight, x.ndim), _per_channel(bias, x.ndim))


def batch_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Each channel with mean 0 and variance 1 over the batch, scaled and shifted: shape of `x`.

    Ioffe & Szegedy, "Batch normalization", 2015, algorithms 1 and 2. In training the statistics are those of the batch,
    and the running ones become (1 - momentum) * running + momentum * batch, with the unbiased variance; else the
    running ones are used, and stay.

    Args:
        x: (n, c, ...); integers are computed in float64.
        running_mean, running_var: (c,), written in place in training; None for neither, in training only.
        weight, bias: (c,), or None for 1 and 0.
    Raises:
        ShapeError: an argument does not fit, or there are no channels.
        ValueError: in training, a channel has one element only; else, there are no running statistics.
    """
    x = floating(x)
    given = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    _require_channels("batch_norm", x, **given)
    scale, shift, mean, var = (_per_channel(v, x.ndim) for v in (weight, bias, running_mean, running_var))
    if not training:
        if mean is None or var is None:
            raise ValueError(explain("batch_norm", "outside training running statistics are needed", "training=True"))
        return _affine((x - mean) / np.sqrt(var + eps), scale, shift)
    count = _count_per_channel(x)
    y, mean, var = _standardised(x, (0, *range(2, x.ndim)), eps)
    _follow(running_mean, mean, momentum)
    _follow(running_var, var * (count / (count - 1)), momentum)
    return _affine(y, scale, shift)


def _count_per_channel(x: Any) -> int:
    count = x.size // max(x.shape[1], 1)
    if count < 2:
        elements = "1 element" if count else "no elements"
        what = f"an input of shape {x.shape} has {elements} per channel, whose variance says nothing"
        raise ValueError(explain("batch_norm", what, "a larger batch, or training=False"))
    return count


@no_grad()
def _follow(running: Any, batch: Any, momentum: float) -> None:
    """running = (1 - momentum) * running + momentum * batch, in place."""
    if running is not None:
        value = (1 - momentum) * running + momentum * np.reshape(batch, shape_of(running))
        np.copyto(running, value if running.dtype == value.dtype else value.astype(running.dtype))
