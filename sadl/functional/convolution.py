"""Convolutions in one and two dimensions, their transposes, and unfolding into windows.

Takes images (N, C, H, W) or rows (N, C, L), and weights as torch has them; gives images or rows. A row is an image of
height 1. What is computed is in the table of operations.

As everywhere in this field, the kernel is not flipped: out[n, o, y, x] is the sum over c, i, j of
images[n, c, s y + d i - p, s x + d j - p] weights[o, c, i, j], with stride s, dilation d, padding p, plus bias[o].
"""

from typing import Any

import numpy as np

from sadl.errors import ShapeError, explain
from sadl.functional.checks import is_whole, numbers, shape_of
from sadl.ops import convolution as table
from sadl.tape import bind

Sizes = tuple[int, ...]

AXES = {1: ("N", "C", "L"), 2: ("N", "C", "H", "W")}


def conv1d(x: Any, w: Any, b: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """Convolution of rows: `x` (N, C, L), `w` (O, C / groups, k), `b` (O,) or None; result (N, O, L').

    Arguments, sizes and errors as in `conv2d`.
    """
    return _conv("conv1d", 1, x, w, b, stride, padding, dilation, groups)


def conv2d(x: Any, w: Any, b: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """Convolution of images: H' = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1, and W' likewise.

    Args:
        x: images (N, C, H, W).
        w: weights (O, C / groups, kh, kw).
        b: (O,), or None.
        stride, dilation: an integer >= 1, or one for rows and one for columns.
        padding: how many zeros are put around the images, an integer >= 0 or two; "valid" for none; "same" for as many
            as keep the size where the stride is 1, of which the odd one goes behind.
        groups: the channels are cut into so many groups, and output channels see only those of their own group.
    Returns:
        (N, O, H', W'), in the dtype that NumPy promotes the operands to.
    Raises:
        ShapeError: the shapes do not fit together, or the kernel is larger than the padded images.
        ValueError: a stride, padding, dilation or number of groups that makes no sense.
    """
    return _conv("conv2d", 2, x, w, b, stride, padding, dilation, groups)


def conv_transpose1d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """The transpose of `conv1d`: `x` (N, C, L), `w` (C, O / groups, k), `b` (O,) or None; result (N, O, L').

    Arguments, sizes and errors as in `conv_transpose2d`.
    """
    return _transposed("conv_transpose1d", 1, x, w, b, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """The transpose of `conv2d`, which is its gradient by the images:
    H' = (H - 1) stride - 2 padding + dilation (kh - 1) + 1 + output_padding, and W' likewise.

    Args:
        x: images (N, C, H, W).
        w: weights (C, O / groups, kh, kw): those with which `conv2d` makes C channels of O.
        b: (O,), or None.
        stride, padding, dilation, groups: those of that convolution; padding is a number or two.
        output_padding: which of the sizes that the convolution takes to (H, W) the result has; less than the stride.
    Returns:
        (N, O, H', W'), in the dtype that NumPy promotes the operands to.
    Raises:
        ShapeError: the shapes do not fit together, or the padding leaves nothing of the result.
        ValueError: a stride, padding, output_padding, dilation or number of groups that makes no sense.
    """
    return _transposed("conv_transpose2d", 2, x, w, b, stride, padding, output_padding, groups, dilation)


def unfold(x: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """The windows that a kernel meets, as columns: images (N, C, H, W) give (N, C kh kw, places), row by row.

    `kernel_size` is an integer or two, the rest as in `conv2d`, and so are the errors. Dtype of `x`.
    """
    x = numbers("unfold", x)
    require_axes("unfold", x, 2)
    kernel, stride = sizes("unfold", "kernel_size", kernel_size, 2), sizes("unfold", "stride", stride, 2)
    dilation = sizes("unfold", "dilation", dilation, 2)
    pads = paddings("unfold", padding, kernel, stride, dilation)
    require_room("unfold", shape_of(x)[2:], kernel, pads, dilation)
    windows = bind(table.unfold, x, kernel=kernel, stride=stride, padding=pads, dilation=dilation)
    n, channels, positions, rows, columns = windows.shape
    return np.reshape(windows, (n, channels * positions, rows * columns))


# ---- what both dimensions share ------------------------------------------------------------------------------------


def as_images(x: Any) -> Any:
    """Rows (N, C, L) as images of height 1, and weights of rows likewise."""
    return np.reshape(x, (*x.shape[:2], 1, *x.shape[2:])) if x.ndim == 3 else x


def as_rows(x: Any, ndim: int) -> Any:
    return np.reshape(x, (*x.shape[:2], x.shape[3])) if ndim == 1 else x


def _conv(op: str, ndim: int, x: Any, w: Any, b: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> Any:
    x, w = numbers(op, x), numbers(op, w, "weights")
    require_axes(op, x, ndim)
    stride, dilation = sizes(op, "stride", stride, ndim), sizes(op, "dilation", dilation, ndim)
    _require_weights(op, x, w, b, ndim, groups, out=0)
    pads = paddings(op, padding, shape_of(w)[2:], stride, dilation)
    require_room(op, shape_of(x)[2:], shape_of(w)[2:], pads, dilation)
    how = {"stride": of_images(stride, 1), "padding": of_images(pads, (0, 0)), "dilation": of_images(dilation, 1)}
    bias = () if b is None else (b,)
    return as_rows(bind(table.conv2d, as_images(x), as_images(w), *bias, **how, groups=int(groups)), ndim)


def _transposed(
    op: str,
    ndim: int,
    x: Any,
    w: Any,
    b: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
) -> Any:
    x, w = numbers(op, x), numbers(op, w, "weights")
    require_axes(op, x, ndim)
    stride, dilation = sizes(op, "stride", stride, ndim), sizes(op, "dilation", dilation, ndim)
    _require_weights(op, x, w, b, ndim, groups, out=1)
    pads = tuple((p, p) for p in sizes(op, "padding", padding, ndim, least=0))
    more = output_paddings(op, output_padding, stride)
    given = zip(shape_of(x)[2:], shape_of(w)[2:], stride, pads, dilation, more, strict=True)
    size = tuple((n - 1) * s - 2 * p[0] + d * (k - 1) + 1 + m for n, k, s, p, d, m in given)
    if min(size) < 1:
        what = f"padding={padding} leaves a result of size {size} of an input of shape {shape_of(x)}"
        raise ShapeError(explain(op, what, "less padding"))
    how = {"stride": of_images(stride, 1), "padding": of_images(pads, (0, 0)), "dilation": of_images(dilation, 1)}
    images = bind(table.conv2d_input, as_images(x), as_images(w), size=of_images(size, 1), **how, groups=int(groups))
    y = as_rows(images, ndim)
    return y if b is None else y + np.reshape(b, (-1, *(1,) * ndim))


def of_images(values: tuple[Any, ...], height: Any) -> tuple[Any, ...]:
    """Params of rows as those of images of height 1."""
    return values if len(values) == 2 else (height, *values)


# ---- what is asked of arguments ------------------------------------------------------------------------------------


def sizes(op: str, name: str, value: Any, ndim: int, least: int = 1) -> Sizes:
    """An integer for all dimensions, or one for each, as a tuple."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * ndim
    if len(values) != ndim or not all(is_whole(n) and n >= least for n in values):
        need = f"a whole number >= {least}" + (f", or {ndim} of them" if ndim > 1 else "")
        raise ValueError(explain(op, f"{name}={value!r} was given", need))
    return tuple(map(int, values))


def paddings(op: str, padding: Any, kernel: Sizes, stride: Sizes, dilation: Sizes) -> tuple[tuple[int, int], ...]:
    """How many zeros go before and behind, for each dimension."""
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding == "same":
        if max(stride) > 1:
            raise ValueError(explain(op, f'padding="same" with stride={stride} cannot keep the size', "a number"))
        lost = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple((n // 2, n - n // 2) for n in lost)
    if isinstance(padding, str):
        need = 'numbers, "same" or "valid"; or np.pad of the input, which has other modes'
        raise ValueError(explain(op, f"no padding {padding!r}", need))
    return tuple((p, p) for p in sizes(op, "padding", padding, len(kernel), least=0))


def output_paddings(op: str, output_padding: Any, stride: Sizes) -> Sizes:
    more = sizes(op, "output_padding", output_padding, len(stride), least=0)
    if any(m >= s for m, s in zip(more, stride, strict=True)):
        what = f"output_padding={output_padding} is not smaller than stride={stride}: no convolution has such an input"
        raise ValueError(explain(op, what, "a smaller output_padding, or np.pad of the result"))
    return more


def require_axes(op: str, x: Any, ndim: int) -> None:
    if len(shape_of(x)) != ndim + 2:
        need = f"an input of shape ({', '.join(AXES[ndim])})"
        raise ShapeError(explain(op, f"an input of shape {shape_of(x)} was given", need))


def require_room(op: str, size: Sizes, kernel: Sizes, pads: Any, dilation: Sizes) -> None:
    """The kernel has to fit into the padded input somewhere."""
    padded = tuple(n + sum(p) for n, p in zip(size, pads, strict=True))
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    if any(r > n for r, n in zip(reach, padded, strict=True)):
        what = (
            f"a kernel of size {kernel} with dilation={dilation} covers {reach}, more than the padded input, {padded}"
        )
        raise ShapeError(explain(op, what, "a smaller kernel, more padding, or larger inputs"))


def _require_weights(op: str, x: Any, w: Any, b: Any, ndim: int, groups: Any, out: int) -> None:
    """`out` is the axis of the weights that counts the channels of the result, in all groups or in one."""
    shape, channels = shape_of(w), shape_of(x)[1]
    if not is_whole(groups) or groups < 1:
        raise ValueError(explain(op, f"groups={groups!r} was given", "a whole number >= 1"))
    if len(shape) != ndim + 2 or 0 in shape:
        need = f"(O, C / groups, {'kh, kw' if ndim == 2 else 'k'})" if out == 0 else "(C, O / groups, ...)"
        raise ShapeError(explain(op, f"weights of shape {shape} were given", f"weights of shape {need}"))
    outer = shape[0] if out == 0 else shape[1] * groups
    if channels % groups or shape[0] % groups:
        what = f"{channels} input and {outer} output channels do not divide into {groups} groups"
        raise ShapeError(explain(op, what, "numbers of channels that groups divides"))
    need_channels = shape[1] * groups if out == 0 else shape[0]
    if channels != need_channels:
        what = f"an input of shape {shape_of(x)} has {channels} channels, weights of shape {shape} take {need_channels}"
        raise ShapeError(explain(op, f"{what} (groups={groups})", f"an input with {need_channels} channels"))
    if b is not None and shape_of(numbers(op, b, "a bias")) != (outer,):
        what = f"a bias of shape {shape_of(b)} for {outer} output channels"
        raise ShapeError(explain(op, what, f"a bias of shape ({outer},)"))
