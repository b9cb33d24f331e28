"""Normalisations: inputs with mean 0 and variance 1 along some axes, scaled and shifted by what a layer learns.

Takes inputs, weights and, for batches, running statistics, which it updates in place. Keeping these is left to `nn`.
"""

import math
from typing import Any

import numpy as np

from sadl.errors import ShapeError, explain
from sadl.functional.checks import flag, floating, number, numbers, require_sizes, rows, shape_of
from sadl.tape import Traced, no_grad, plain


def _standardised(x: Any, axis: Any, eps: float) -> tuple[Any, Any, Any]:
    """(x - mean) / sqrt(variance + eps), the mean and the variance, both with axes of size 1."""
    mean = np.mean(x, axis=axis, keepdims=True)
    centred = x - mean
    variance = np.mean(np.square(centred), axis=axis, keepdims=True)
    return centred / np.sqrt(variance + eps), mean, variance


def _vectors(op: str, x: Any, axis: Any) -> Any:
    """`x` as floats, if it has something to normalise along `axis`."""
    x = rows(op, x, axis)
    if shape_of(x) == ():
        raise ShapeError(explain(op, "an input of shape () has no axis to normalise along", "shape (..., dim)"))
    return x


def _affine(y: Any, weight: Any, bias: Any) -> Any:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _require_affine(op: str, x: Any, axis: Any, **given: Any) -> None:
    """Raise unless what is given has the sizes of the normalised axes, and these are the last ones."""
    shape = shape_of(x)
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    need = shape[len(shape) - len(axes) :]
    for name, value in given.items():
        if value is None:
            continue
        found = shape_of(numbers(op, value, name, "fiub"))
        if {a % len(shape) for a in axes} != {*range(len(shape) - len(axes), len(shape))}:
            what = f"axis={axis} of an input of shape {shape} is not the last, along which a {name} lies"
            raise ShapeError(explain(op, what, f"np.moveaxis, or no {name}"))
        if found != need:
            what = f"{name} of shape {found} does not fit an input of shape {shape} normalised along axis={axis}"
            raise ShapeError(explain(op, what, f"the sizes of the normalised axes: {need}"))


def layer_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, axis: Any = -1) -> Any:
    """(x - mean) / sqrt(variance + eps) * weight + bias, with mean and variance along `axis`: shape of `x`.

    Ba, Kiros & Hinton, "Layer normalization", 2016; the variance is that of NumPy, divided by the number of elements.
    Squares have to fit into the dtype: a float32 row with elements above 1e19 gives 0.

    Args:
        x: (..., dim); integers are computed in float64.
        weight, bias: (dim,), or the sizes of `x` along several last axes; None for 1 and 0.
        axis: the last axis, or a tuple of several last ones; without `weight` and `bias` any others, too.
    Raises:
        ShapeError: `weight` or `bias` do not fit, or are given where `axis` is not the last.
    """
    x, eps = _vectors("layer_norm", x, axis), number("layer_norm", "eps", eps, 0)
    _require_affine("layer_norm", x, axis, weight=weight, bias=bias)
    return _affine(_standardised(x, axis, eps)[0], weight, bias)


def rms_norm(x: Any, weight: Any = None, eps: float | None = None, axis: Any = -1) -> Any:
    """x / sqrt(mean(x**2) + eps) * weight, with the mean along `axis`: shape of `x`.

    Zhang & Sennrich, "Root mean square layer normalization", 2019. `eps` is that of the dtype if None; other
    arguments and errors as in `layer_norm`.
    """
    x = _vectors("rms_norm", x, axis)
    eps = float(np.finfo(x.dtype).eps) if eps is None else number("rms_norm", "eps", eps, 0)
    _require_affine("rms_norm", x, axis, weight=weight)
    return _affine(x / np.sqrt(np.mean(np.square(x), axis=axis, keepdims=True) + eps), weight, None)


def _per_channel(value: Any, ndim: int) -> Any:
    """(c,) as (c, 1, 1): for an input with channels on axis 1."""
    return None if value is None else np.reshape(value, (-1, *(1,) * (ndim - 2)))


def _require_channels(op: str, x: Any, least: int = 2, **given: Any) -> None:
    shape = shape_of(x)
    if len(shape) < least:
        raise ShapeError(explain(op, f"an input of shape {shape} has no channels", "an input of shape (n, c, ...)"))
    for name, value in given.items():
        if value is not None and shape_of(numbers(op, value, name, "fiub")) != shape[1:2]:
            what = f"{name} of shape {shape_of(value)} does not fit an input of shape {shape}"
            raise ShapeError(explain(op, what, f"one element per channel: shape {shape[1:2]}"))


def require_groups(op: str, groups: Any, channels: int) -> None:
    """Raise unless there can be so many groups of equally many channels."""
    require_sizes(op, groups=groups)
    if channels % groups:
        what = f"{channels} channels cannot be divided into {groups} groups"
        raise ValueError(explain(op, what, f"a number of groups that divides {channels}"))


def group_norm(x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """`layer_norm` of each of so many groups of channels, scaled and shifted per channel: shape of `x`.

    Wu & He, "Group normalization", 2018.

    Args:
        x: (n, c, ...); integers are computed in float64.
        groups: how many, dividing c.
        weight, bias: (c,), or None for 1 and 0.
    Raises:
        ShapeError: `weight` or `bias` do not fit, or there are no channels or empty ones.
        ValueError: `groups` does not divide c.
    """
    x, eps = floating("group_norm", x), number("group_norm", "eps", eps, 0)
    _require_channels("group_norm", x, weight=weight, bias=bias)
    n, c, *rest = shape_of(x)
    require_groups("group_norm", groups, c)
    if 0 in (c, *rest):
        raise ShapeError(explain("group_norm", f"an input of shape {shape_of(x)} has empty groups", "larger inputs"))
    grouped = np.reshape(x, (n, groups, c // groups * math.prod(rest)))
    y = np.reshape(_standardised(grouped, -1, eps)[0], (n, c, *rest))
    return _affine(y, _per_channel(weight, x.ndim), _per_channel(bias, x.ndim))


def batch_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Each channel with mean 0 and variance 1 over the batch, scaled and shifted: shape of `x`.

    Ioffe & Szegedy, "Batch normalization", 2015, algorithms 1 and 2. In training the statistics are those of the batch,
    and the running ones become (1 - momentum) * running + momentum * batch, with the unbiased variance; else the
    running ones are used, and stay.

    Args:
        x: (n, c, ...); integers are computed in float64.
        running_mean, running_var: (c,), floating arrays that are written in place in training; None for neither, in
            training only.
        weight, bias: (c,), or None for 1 and 0.
        momentum: a number in [0, 1], or a Tensor () of the dtype of the running statistics.
    Raises:
        ShapeError: an argument does not fit, or there are no channels.
        TypeError: running statistics that cannot be written in place.
        ValueError: in training, a channel has one element only; else, there are no running statistics.
    """
    x, eps = floating("batch_norm", x), number("batch_norm", "eps", eps, 0)
    momentum = momentum if isinstance(momentum, Traced) else number("batch_norm", "momentum", momentum, 0, 1)
    given = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    _require_channels("batch_norm", x, **given)
    scale, shift, mean, var = (_per_channel(v, x.ndim) for v in (weight, bias, running_mean, running_var))
    if not flag("batch_norm", "training", training):
        if mean is None or var is None:
            what = "outside training running statistics are needed"
            raise ValueError(explain("batch_norm", what, "running_mean= and running_var=, or training=True"))
        return _affine((x - mean) / np.sqrt(var + eps), scale, shift)
    _require_writable(running_mean, running_var)
    count = _count_per_channel(x)
    y, mean, var = _standardised(x, (0, *range(2, x.ndim)), eps)
    _follow(running_mean, mean, momentum)
    _follow(running_var, var * (count / (count - 1)), momentum)
    return _affine(y, scale, shift)


def _require_writable(mean: Any, var: Any) -> None:
    if (mean is None) is not (var is None):
        what = f"running_{'var' if var is None else 'mean'} alone is None"
        raise ValueError(explain("batch_norm", what, "both running statistics, or neither"))
    for name, value in (("running_mean", mean), ("running_var", var)):
        if value is None:
            continue
        if getattr(value, "dtype", np.dtype(object)).kind != "f":
            what = f"{name}, a {getattr(value, 'dtype', type(value).__name__)}, cannot follow floats in place"
            raise TypeError(explain("batch_norm", what, f"a floating array: np.asarray({name}, np.float32)"))
        if not getattr(plain(value).flags, "writeable", True):
            raise ValueError(explain("batch_norm", f"{name} is read-only", "a copy, or training=False"))


def _count_per_channel(x: Any) -> int:
    count = x.size // max(x.shape[1], 1)
    if count < 2:
        elements = "1 element" if count else "no elements"
        what = f"an input of shape {x.shape} has {elements} per channel, whose variance says nothing"
        raise ValueError(explain("batch_norm", what, "a larger batch, or training=False"))
    return count


@no_grad()
def _follow(running: Any, batch: Any, momentum: Any) -> None:
    """running = (1 - momentum) * running + momentum * batch, in place."""
    if running is not None:
        value = (1 - momentum) * running + momentum * np.reshape(batch, shape_of(running))
        np.copyto(running, value if running.dtype == value.dtype else value.astype(running.dtype))
