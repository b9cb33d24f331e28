"""Convolution as compiled loops around BLAS: a few images at a time are unfolded into a matrix, which is multiplied.

Takes a block of numbers (see `SLOTS`) and a range of images, or of rows of the weights; the loops are plain Python that
`numba_cpu` compiles. Where things lie in memory, and how images are shared out, is left to the compiler.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from sadl.kernels.blas import NO_TRANS, TRANS

# The block: addresses, then sizes. `part` is how many images are unfolded at once, `tile` how many have one `area` of
# scratch memory (of so many elements), `sums` where each of the `tiles` leaves its sum for the weights.
SLOTS = (
    *("gemm", "images", "weights", "bias", "results", "area", "sums"),
    *("channels", "height", "width", "outer", "groups", "kh", "kw", "sh", "sw", "top", "left", "dh", "dw"),
    *("rows", "columns", "part", "tile", "area_size", "tiles"),
)
GEMM, IMAGES, WEIGHTS, BIAS, RESULTS, AREA, SUMS = range(7)
CHANNELS, HEIGHT, WIDTH, OUTER, GROUPS, KH, KW, SH, SW, TOP, LEFT, DH, DW = range(7, 20)
ROWS, COLUMNS, PART, TILE, AREA_SIZE, TILES = range(20, 26)


def inside(first: Any, step: Any, size: Any, count: Any) -> Any:
    """From where to where k of 0 .. count have first + step k in 0 .. size."""
    start = 0 if first >= 0 else (step - 1 - first) // step
    stop = 0 if first >= size else min((size - 1 - first) // step + 1, count)
    return min(start, stop), stop


def unfold(block: Any, x: Any, image: Any, channels: Any, matrix: Any, column: Any, width: Any, inside: Any) -> None:
    """An image's `channels` from x[image] on, as columns from `column` on of a matrix with rows of `width`."""
    h, w, rows, columns, kw = block[HEIGHT], block[WIDTH], block[ROWS], block[COLUMNS], block[KW]
    sh, sw, top, left, dh, dw = block[SH], block[SW], block[TOP], block[LEFT], block[DH], block[DW]
    size = block[KH] * kw
    for k in range(channels * size):
        c, i, j = k // size, k % size // kw, k % kw
        first, here = j * dw - left, k * width + column
        start, stop = inside(first, sw, w, columns)
        for r in range(rows):
            y = r * sh + i * dh - top
            a, b = (start, stop) if 0 <= y < h else (0, 0)
            there = image + (c * h + y) * w + first
            for q in range(a):
                matrix[here + q] = 0
            if sw == 1:  # by itself, since it is a copy of what lies side by side
                for q in range(a, b):
                    matrix[here + q] = x[there + q]
            else:
                for q in range(a, b):
                    matrix[here + q] = x[there + q * sw]
            for q in range(b, columns):
                matrix[here + q] = 0
            here += columns


def fold(block: Any, x: Any, image: Any, channels: Any, matrix: Any, column: Any, width: Any, inside: Any) -> None:
    """The transpose of that: what the columns hold is added to the elements that they were taken from."""
    h, w, rows, columns, kw = block[HEIGHT], block[WIDTH], block[ROWS], block[COLUMNS], block[KW]
    sh, sw, top, left, dh, dw = block[SH], block[SW], block[TOP], block[LEFT], block[DH], block[DW]
    size = block[KH] * kw
    for k in range(channels * size):
        c, i, j = k // size, k % size // kw, k % kw
        first = j * dw - left
        start, stop = inside(first, sw, w, columns)
        from_row, to_row = inside(i * dh - top, sh, h, rows)
        for r in range(from_row, to_row):
            here = k * width + column + r * columns
            there = image + (c * h + r * sh + i * dh - top) * w + first
            if sw == 1:
                for q in range(start, stop):
                    x[there + q] += matrix[here + q]
            else:
                for q in range(start, stop):
                    x[there + q * sw] += matrix[here + q]


def gather(block: Any, results: Any, n: Any, m: Any, group: Any, product: Any, back: Any) -> None:
    """The results of `m` images from `n` on in a group, side by side in each row; `back`: from there."""
    pixels, outer = block[ROWS] * block[COLUMNS], block[OUTER]
    each = outer // block[GROUPS]
    for o in range(each):
        for i in range(m):
            here, there = (o * m + i) * pixels, ((n + i) * outer + group * each + o) * pixels
            if back:
                for q in range(pixels):
                    results[there + q] = product[here + q]
            else:
                for q in range(pixels):
                    product[here + q] = results[there + q]


class Tools(NamedTuple):
    """What the loops of one dtype are made of, compiled."""

    kind: Any  # the dtype,
    item: int  # its bytes
    gemm: Any  # calls BLAS
    as_pointer: Any
    inside: Any
    unfold: Any
    fold: Any
    gather: Any


def _unfold_part(tools: Tools) -> Callable[..., None]:
    kind, as_pointer, unfold, inside = tools.kind, tools.as_pointer, tools.unfold, tools.inside

    def unfold_part(block: Any, n: Any, m: Any, group: Any, area: Any) -> None:
        x, matrix = as_pointer(block[IMAGES], kind), as_pointer(area, kind)
        channels, pixels = block[CHANNELS] // block[GROUPS], block[ROWS] * block[COLUMNS]
        for i in range(m):
            image = ((n + i) * block[CHANNELS] + group * channels) * block[HEIGHT] * block[WIDTH]
            unfold(block, x, image, channels, matrix, i * pixels, m * pixels, inside)

    return unfold_part


def _results_of(tools: Tools) -> Callable[..., Any]:
    kind, item, as_pointer, gather = tools.kind, tools.item, tools.as_pointer, tools.gather

    def results_of(block: Any, n: Any, m: Any, group: Any, product: Any) -> Any:
        """The address of the results of a part as a matrix: their own, or that of `product`, where they are put."""
        pixels, outer = block[ROWS] * block[COLUMNS], block[OUTER]
        if m == 1:
            return block[RESULTS] + (n * outer + group * (outer // block[GROUPS])) * pixels * item
        gather(block, as_pointer(block[RESULTS], kind), n, m, group, as_pointer(product, kind), False)
        return product

    return results_of


def _conv(tools: Tools, unfold_part: Any) -> Callable[..., None]:
    kind, item, gemm, as_pointer, gather = tools.kind, tools.item, tools.gemm, tools.as_pointer, tools.gather

    def conv(block: Any, lo: Any, hi: Any) -> None:
        groups, pixels = block[GROUPS], block[ROWS] * block[COLUMNS]
        outer, inner = block[OUTER] // groups, block[CHANNELS] // groups * block[KH] * block[KW]
        results, bias = as_pointer(block[RESULTS], kind), as_pointer(block[BIAS], kind)
        area = block[AREA] + lo // block[TILE] * block[AREA_SIZE] * item
        for n in range(lo, hi, block[PART]):
            m = min(block[PART], hi - n)
            for g in range(groups):
                unfold_part(block, n, m, g, area)
                target = area + inner * m * pixels * item
                if m == 1:
                    target = block[RESULTS] + (n * block[OUTER] + g * outer) * pixels * item
                product = as_pointer(target, kind)
                w, add, width = block[WEIGHTS] + g * outer * inner * item, int(block[BIAS] != 0), m * pixels
                for o in range(outer * add):
                    start = bias[g * outer + o]
                    for k in range(o * width, (o + 1) * width):
                        product[k] = start
                gemm(block[GEMM], NO_TRANS, NO_TRANS, outer, width, inner, w, inner, area, width, add, target, width)
                if m > 1:
                    gather(block, results, n, m, g, product, True)

    return conv


def _by_images(tools: Tools, results_of: Any) -> Callable[..., None]:
    kind, item, gemm, as_pointer = tools.kind, tools.item, tools.gemm, tools.as_pointer
    fold, inside = tools.fold, tools.inside

    def by_images(block: Any, lo: Any, hi: Any) -> None:
        groups, pixels = block[GROUPS], block[ROWS] * block[COLUMNS]
        channels, outer = block[CHANNELS] // groups, block[OUTER] // groups
        inner, image = channels * block[KH] * block[KW], block[CHANNELS] * block[HEIGHT] * block[WIDTH]
        area = block[AREA] + lo // block[TILE] * block[AREA_SIZE] * item
        x, matrix = as_pointer(block[IMAGES], kind), as_pointer(area, kind)
        for k in range(lo * image, hi * image):
            x[k] = 0
        for n in range(lo, hi, block[PART]):
            m = min(block[PART], hi - n)
            for g in range(groups):
                w, width = block[WEIGHTS] + g * outer * inner * item, m * pixels
                source = results_of(block, n, m, g, area + inner * width * item)
                gemm(block[GEMM], TRANS, NO_TRANS, inner, width, outer, w, inner, source, width, 0, area, width)
                for i in range(m):
                    at = (n + i) * image + g * channels * block[HEIGHT] * block[WIDTH]
                    fold(block, x, at, channels, matrix, i * pixels, width, inside)

    return by_images


def _by_weights(tools: Tools, unfold_part: Any, results_of: Any) -> Callable[..., None]:
    item, gemm = tools.item, tools.gemm

    def by_weights(block: Any, lo: Any, hi: Any) -> None:
        """The sum over these images, transposed, which is the faster product."""
        groups, pixels = block[GROUPS], block[ROWS] * block[COLUMNS]
        outer, inner = block[OUTER] // groups, block[CHANNELS] // groups * block[KH] * block[KW]
        area = block[AREA] + lo // block[TILE] * block[AREA_SIZE] * item
        sums = block[SUMS] + lo // block[TILE] * block[OUTER] * inner * item
        for n in range(lo, hi, block[PART]):
            m = min(block[PART], hi - n)
            for g in range(groups):
                unfold_part(block, n, m, g, area)
                width, add, total = m * pixels, int(n > lo), sums + g * inner * outer * item
                source = results_of(block, n, m, g, area + inner * width * item)
                gemm(block[GEMM], NO_TRANS, TRANS, inner, outer, width, area, width, source, width, add, total, outer)

    return by_weights


def _sum_weights(tools: Tools) -> Callable[..., None]:
    kind, as_pointer = tools.kind, tools.as_pointer

    def sum_weights(block: Any, lo: Any, hi: Any) -> None:
        """The gradient by the weights from the sums of all tiles; the range is of their rows, which are its columns."""
        weights, sums = as_pointer(block[WEIGHTS], kind), as_pointer(block[SUMS], kind)
        outer, inner = block[OUTER] // block[GROUPS], block[CHANNELS] // block[GROUPS] * block[KH] * block[KW]
        for row in range(lo, hi):
            for t in range(1, block[TILES]):
                start = t * block[OUTER] * inner + row * outer
                for o in range(outer):
                    sums[row * outer + o] += sums[start + o]
            first, k = row // inner * outer, row % inner
            for o in range(outer):
                weights[(first + o) * inner + k] = sums[row * outer + o]

    return sum_weights


def loops(kind: Any, item: int, gemm: Any, as_pointer: Any, jit: Callable[..., Any]) -> dict[str, Callable[..., None]]:
    """The functions for a dtype `kind` of `item` bytes, by name; `gemm` calls BLAS, `jit` compiles what they call."""
    tools = Tools(kind, item, gemm, as_pointer, jit(inside), jit(unfold), jit(fold), jit(gather))
    unfold_part, results_of = jit(_unfold_part(tools)), jit(_results_of(tools))
    return {
        "conv": _conv(tools, unfold_part),
        "conv_by_images": _by_images(tools, results_of),
        "conv_by_weights": _by_weights(tools, unfold_part, results_of),
        "conv_sum_weights": _sum_weights(tools),
    }
