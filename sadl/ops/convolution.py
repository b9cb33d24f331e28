"""Convolution of images: the result, its gradient by the images, and its gradient by the weights.

Takes images (N, C, H, W), weights (O, C / groups, kh, kw) and normalised params; each of the three is bilinear, and the
other two are its gradient rules. Checking arguments, and one dimension, are left to `functional`.

A few images at a time are unfolded into a matrix with a column per element of the result, small enough to stay in the
processor's cache, and multiplied by BLAS. The matrix is channel by channel: of the layouts tried (images first, pixels
first, all images at once) it is the one that is copied fastest.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from sadl.op import Aval, Op, call
from sadl.tape import bind

Pair = tuple[int, int]

UNFOLDED = 1 << 19  # elements of the unfolded matrix that are in work at once
COPIED, ADDED = 300, 800  # how many products cost as much as copying a row by itself, or adding one (measured)


def out_size(n: int, kernel: int, stride: int, padding: Pair, dilation: int) -> int:
    """In how many places a kernel fits into a row of `n`; 0 or less: in none."""
    return (n + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1


class Geometry(NamedTuple):
    """What is the same for every image: sizes are (rows, columns)."""

    size: Pair  # of the images
    kernel: Pair
    stride: Pair
    padding: tuple[Pair, Pair]  # before and behind
    dilation: Pair

    @property
    def out(self) -> Pair:
        """The size of the result."""
        rows, columns = map(out_size, self.size, self.kernel, self.stride, self.padding, self.dilation)
        return rows, columns

    @property
    def padded(self) -> Pair:
        rows, columns = (n + sum(p) for n, p in zip(self.size, self.padding, strict=True))
        return rows, columns

    @property
    def positions(self) -> list[Pair]:
        """Where in the padded image each element of the kernel lies at first."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return [(i * dh, j * dw) for i in range(kh) for j in range(kw)]

    def places(self, x: Any) -> list[Any]:
        """The elements of padded images that each element of the kernel meets, as views (..., rows, columns)."""
        (rows, columns), (sh, sw) = self.out, self.stride
        height, width = sh * (rows - 1) + 1, sw * (columns - 1) + 1
        return [x[..., i : i + height : sh, j : j + width : sw] for i, j in self.positions]

    def inside(self, padded: Any) -> Any:
        """Padded images without their padding, as a view."""
        (top, _), (left, _) = self.padding
        return padded[..., top : top + self.size[0], left : left + self.size[1]]

    def pad(self, x: Any, value: Any = 0) -> Any:
        """Images with `value` around, to be read."""
        if self.padded == self.size:
            return x
        padded = np.full_like(x, value, order="C", shape=(*x.shape[:-2], *self.padded))
        self.inside(padded)[...] = x
        return padded

    def crop(self, padded: Any) -> Any:
        """Padded images without their padding, contiguous."""
        return padded if self.padded == self.size else np.copy(self.inside(padded))


class Work(NamedTuple):
    """Memory for some images, the matrix that they are unfolded into, and the product of that with the weights."""

    image: Any  # (C, images, H, W): where images are put, channel by channel; a part of
    padded: Any  # the same with zeros around
    parts: list[tuple[Any, Any]]  # per position of the kernel: (its rows of the matrix, the elements of `padded` there)
    matrix: Any  # (groups, C / groups * positions, columns)
    product: Any  # (groups, O / groups, columns)
    out: Any  # (O, images, rows, columns): the columns that are the result; the others are 0 or without meaning


def _runs_on(geometry: Geometry, outer: int, saved: int) -> bool:
    """Whether rows are read as if each ran on into the next, with columns between them that are computed for nothing.

    An image is one long row then. Each of these columns costs `outer` products, and a copy that costs as much as 32.
    """
    (h, w), (rows, columns) = geometry.padded, geometry.out
    return geometry.stride == (1, 1) and (h * w - rows * columns) * (outer + 32) <= saved * rows


def _sizes(channels: Pair, images: int, geometry: Geometry, runs_on: bool) -> tuple[int, int, Pair]:
    """Elements of the padded images and of the matrix, and the columns of one image as (rows, columns)."""
    (h, w), positions = geometry.padded, geometry.positions
    over = positions[-1][0] * w + positions[-1][1] if runs_on else 0  # how far the last row runs on
    grid = geometry.padded if runs_on else geometry.out
    return channels[0] * (images * h * w + over), channels[0] * len(positions) * images * grid[0] * grid[1], grid


def _work(memory: Any, channels: Pair, images: int, groups: int, geometry: Geometry, runs_on: bool) -> Work:
    """These parts of the memory, of which all but the matrix is set to 0."""
    (h, w), (rows, columns), (inner, outer) = geometry.padded, geometry.out, channels
    first, second, grid = _sizes(channels, images, geometry, runs_on)
    flat, unfolded, product = memory[:first], memory[first : first + second], memory[first + second :]
    product = np.reshape(product[: outer * images * grid[0] * grid[1]], (outer, images, *grid))
    flat[...], product[...] = 0, 0
    flat, n, positions = np.reshape(flat, (inner, -1)), images * h * w, geometry.positions
    padded = np.reshape(flat[:, :n], (inner, images, h, w))
    if runs_on:
        sources = [flat[:, i * w + j : i * w + j + n] for i, j in positions]
    else:
        sources = geometry.places(padded)
    unfolded = np.reshape(unfolded, (inner, len(positions), *sources[0].shape[1:]))
    return Work(
        geometry.inside(padded),
        flat if runs_on else padded,
        [(unfolded[:, k], source) for k, source in enumerate(sources)],
        np.reshape(unfolded, (groups, inner // groups * len(positions), -1)),
        np.reshape(product, (groups, outer // groups, -1)),
        product[:, :, :rows, :columns],
    )


def _blocks(
    x: Any, dtype: np.dtype, channels: Pair, groups: int, geometry: Geometry, saved: int = COPIED
) -> Iterator[tuple[slice, Work]]:
    """Some of the images `x` after the other, and the memory for them; `channels` before and behind."""
    runs_on = _runs_on(geometry, channels[1] // groups, saved)
    each = channels[0] * len(geometry.positions) * geometry.out[0] * geometry.out[1]
    count = max(1, min(len(x), UNFOLDED // max(1, each)))
    first, second, grid = _sizes(channels, count, geometry, runs_on)
    with _memory(x, dtype, first + second + channels[1] * count * grid[0] * grid[1]) as memory:
        work = None
        for start in range(0, len(x), count):
            n = min(count, len(x) - start)
            if work is None or n < count:
                work = _work(memory, channels, n, groups, geometry, runs_on)
            yield slice(start, start + n), work


@contextmanager
def _memory(like: Any, dtype: np.dtype, size: int) -> Iterator[Any]:
    """Memory for so many elements. That of an earlier call, if there is one: new pages cost more than filling them."""
    if like.__class__ is not np.ndarray:  # other libraries have pools of their own
        yield np.empty_like(like, dtype, "C", shape=(size,))
        return
    need = size * dtype.itemsize
    try:
        buffer = _spare.pop()
    except IndexError:
        buffer = np.empty(0, np.uint8)
    buffer = buffer if buffer.nbytes >= need else np.empty(need, np.uint8)
    yield buffer[:need].view(dtype)
    if not _spare and buffer.nbytes <= MAX_SPARE:
        _spare.append(buffer)


_spare: list[np.ndarray] = []
MAX_SPARE = 1 << 25  # bytes


def _by_channel(x: Any) -> Any:
    return x.swapaxes(0, 1)


# ---- what the operations compute -----------------------------------------------------------------------------------


def _unfold(work: Work, x: Any) -> None:
    work.image[...] = _by_channel(x)
    for rows, elements in work.parts:
        rows[...] = elements


def _fold(work: Work) -> Any:
    """Add what each position of the kernel gives to an element: no two of one position meet."""
    work.padded[...] = 0
    for rows, elements in work.parts:
        elements += rows
    return _by_channel(work.image)


def _conv2d(x: Any, w: Any, b: Any = None, *, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    geometry = Geometry(x.shape[2:], w.shape[2:], stride, padding, dilation)
    dtype = np.result_type(x, w) if b is None else np.result_type(x, w, b)
    out = np.empty_like(x, dtype, "C", shape=(len(x), len(w), *geometry.out))
    matrix = np.reshape(w, (groups, len(w) // groups, -1))
    for part, work in _blocks(x, dtype, (x.shape[1], len(w)), groups, geometry):
        _unfold(work, x[part])
        np.matmul(matrix, work.matrix, out=work.product)
        if b is None:
            out[part] = _by_channel(work.out)
        else:
            np.add(_by_channel(work.out), b[:, None, None], out=out[part])
    return out


def _conv2d_input(g: Any, w: Any, *, size: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    geometry = Geometry(size, w.shape[2:], stride, padding, dilation)
    dtype, channels = np.result_type(g, w), w.shape[1] * groups
    out = np.empty_like(g, dtype, "C", shape=(len(g), channels, *size))
    matrix = np.reshape(w, (groups, len(w) // groups, -1)).swapaxes(1, 2)
    for part, work in _blocks(g, dtype, (channels, len(w)), groups, geometry, ADDED):
        work.out[...] = _by_channel(g[part])
        np.matmul(matrix, work.product, out=work.matrix)
        out[part] = _fold(work)
    return out


def _conv2d_weight(x: Any, g: Any, *, kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """Its transpose is computed, which is the faster product. Columns that do not count would, where 0 * inf is NaN."""
    geometry = Geometry(x.shape[2:], kernel, stride, padding, dilation)
    dtype, inner, outer = np.result_type(x, g), x.shape[1] // groups, g.shape[1] // groups
    total = np.zeros_like(x, dtype, "C", shape=(groups, inner * kernel[0] * kernel[1], outer))
    for part, work in _blocks(x, dtype, (x.shape[1], g.shape[1]), groups, geometry, saved=0):
        _unfold(work, x[part])
        work.out[...] = _by_channel(g[part])
        total += np.matmul(work.matrix, work.product.swapaxes(1, 2))
    return np.reshape(total.swapaxes(1, 2), (g.shape[1], inner, *kernel))


def _unfold_images(x: Any, *, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    geometry = Geometry(x.shape[2:], kernel, stride, padding, dilation)
    out = np.empty_like(x, order="C", shape=(*x.shape[:2], len(geometry.positions), *geometry.out))
    for k, elements in enumerate(geometry.places(geometry.pad(x))):
        out[:, :, k] = elements
    return out


def _fold_images(g: Any, *, size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    geometry = Geometry(size, kernel, stride, padding, dilation)
    padded = np.zeros_like(g, order="C", shape=(*g.shape[:2], *geometry.padded))
    for k, elements in enumerate(geometry.places(padded)):
        elements += g[:, :, k]
    return geometry.crop(padded)


# ---- the table -----------------------------------------------------------------------------------------------------


def _infer_conv2d(op: Op, x: Aval, w: Aval, *b: Aval, stride: Any, padding: Any, dilation: Any, groups: int) -> Aval:
    out = Geometry(x.shape[2:], w.shape[2:], stride, padding, dilation).out  # type: ignore[arg-type]
    return Aval((x.shape[0], w.shape[0], *out), np.result_type(x.dtype, w.dtype, *(a.dtype for a in b)))


def _infer_input(op: Op, g: Aval, w: Aval, *, size: Pair, groups: int, **_: Any) -> Aval:
    return Aval((g.shape[0], w.shape[1] * groups, *size), np.result_type(g.dtype, w.dtype))


def _infer_weight(op: Op, x: Aval, g: Aval, *, kernel: Pair, groups: int, **_: Any) -> Aval:
    return Aval((g.shape[1], x.shape[1] // groups, *kernel), np.result_type(x.dtype, g.dtype))


def _infer_unfold(op: Op, x: Aval, *, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Aval:
    out = Geometry(x.shape[2:], kernel, stride, padding, dilation).out  # type: ignore[arg-type]
    return Aval((*x.shape[:2], kernel[0] * kernel[1], *out), x.dtype)


def _by_image(g: Any, w: Any, x: Any, **how: Any) -> Any:
    return bind(conv2d_input, g, w, size=x.shape[2:], **how)


def _by_weight(x: Any, g: Any, w: Any, **how: Any) -> Any:
    return bind(conv2d_weight, x, g, kernel=w.shape[2:], **how)


def _by_result(x: Any, w: Any, **how: Any) -> Any:
    return bind(conv2d, x, w, **how)


def _without(name: str, rule: Callable[..., Any]) -> Callable[..., Any]:
    """The same rule, not asking for a param that follows from the shapes."""

    def applied(*args: Any, **how: Any) -> Any:
        return rule(*args, **{k: v for k, v in how.items() if k != name})

    return applied


# fmt: off
conv2d = call("conv2d", _conv2d,
              [lambda g, y, x, w, *b, **how: _by_image(g, w, x, **how),
               lambda g, y, x, w, *b, **how: _by_weight(x, g, w, **how),
               lambda g, y, x, w, b, **how: np.sum(g, axis=(0, 2, 3))],
              infer=_infer_conv2d)
conv2d_input: Op = call("conv2d_input", _conv2d_input,
                        [_without("size", lambda gx, x, g, w, **how: _by_result(gx, w, **how)),
                         _without("size", lambda gx, x, g, w, **how: _by_weight(gx, g, w, **how))],
                        infer=_infer_input)
conv2d_weight: Op = call("conv2d_weight", _conv2d_weight,
                         [_without("kernel", lambda gw, w, x, g, **how: _by_image(g, gw, x, **how)),
                          _without("kernel", lambda gw, w, x, g, **how: _by_result(x, gw, **how))],
                         infer=_infer_weight)
unfold = call("unfold", _unfold_images, [lambda g, y, x, **how: bind(fold, g, size=x.shape[2:], **how)],
              infer=_infer_unfold)
fold: Op = call("fold", _fold_images, [_without("size", lambda gx, x, g, **how: bind(unfold, gx, **how))],
                infer=lambda op, g, *, size, **_: Aval((*g.shape[:2], *size), g.dtype))
# fmt: on
