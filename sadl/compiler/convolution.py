"""convolution: how the three operations of a convolution run as launches of compiled loops around BLAS.

Takes an equation and where its values lie; gives launches and how much scratch memory they need, or nothing where the
operands are of another dtype or layout than the loops read: then it stays a library call.
The loops are in `kernels.convolution`. Images are shared out by their number alone, so that results do not depend on
how many threads there are.
"""

from collections.abc import Callable
from typing import Any

from sadl.compiler.ir import Eqn, Var
from sadl.compiler.memory import ALIGN, Layout, is_contiguous
from sadl.compiler.products import Launches
from sadl.kernels import blas
from sadl.kernels.convolution import SLOTS
from sadl.ops.convolution import Geometry

OPERANDS = {  # which operands are images, weights, bias and results; the last is what the operation gives
    "conv2d": ("images", "weights", "bias", "results"),
    "conv2d_input": ("results", "weights", "images"),
    "conv2d_weight": ("images", "results", "weights"),
}
LOOPS = {
    "conv2d": ("conv",),
    "conv2d_input": ("conv_by_images",),
    "conv2d_weight": ("conv_by_weights", "conv_sum_weights"),
}
MAX_TILES = 8
COLUMNS = 192  # so many columns, at least, are multiplied at once: BLAS packs the weights anew each time
SUMS = 1 << 22  # elements that the sums of all tiles for the weights may have


def launches(eqn: Eqn, layouts: dict[Var, Layout], address: Callable[[Var], Any]) -> Launches | None:
    """`address` gives the address of a value, or (buffer, offset) where that changes from call to call."""
    values = [*eqn.inputs, eqn.out]
    if not all(isinstance(v, Var) and is_contiguous(v, layouts[v]) for v in values):
        return None
    names = OPERANDS[eqn.op.name]
    names = names if len(names) == len(values) else names[:2] + names[3:]
    by_name: dict[str, Any] = dict(zip(names, values, strict=True))
    dtype = eqn.out.aval.dtype
    gemm = blas.gemm_address(dtype.name)
    if gemm is None or any(v.aval.dtype != dtype or v.aval.size == 0 for v in by_name.values()):
        return None
    numbers, area, sums = _sizes(eqn, by_name)
    area_bytes, item = -(-area * numbers["tiles"] * dtype.itemsize // ALIGN) * ALIGN, dtype.itemsize
    slots = {name: address(v) for name, v in by_name.items()}
    slots |= {"gemm": gemm, "area": ("scratch", 0), "sums": ("scratch", area_bytes), "area_size": area, **numbers}
    block = [slots.get(name, 0) for name in SLOTS]
    n, rows_of_sums = (
        by_name["images"].aval.shape[0],
        by_name["weights"].aval.size * numbers["groups"] // numbers["outer"],
    )
    ends = [(n, numbers["tile"]), (rows_of_sums, -(-rows_of_sums // MAX_TILES))]
    loops = LOOPS[eqn.op.name]
    rows = [(f"{name}_{dtype}", block, *end) for name, end in zip(loops, ends, strict=False)]
    return Launches(rows, area_bytes + sums * item)


def _sizes(eqn: Eqn, by_name: dict[str, Any]) -> tuple[dict[str, int], int, int]:
    """Numbers of the block, and how many elements the matrix of a part has, and all sums."""
    (n, channels, *size), (outer, inner, *kernel) = (by_name[name].aval.shape for name in ("images", "weights"))
    how = {k: eqn.params[k] for k in ("stride", "padding", "dilation")}
    geometry = Geometry(tuple(size), tuple(kernel), **how)
    pixels, width = geometry.out[0] * geometry.out[1], inner * kernel[0] * kernel[1]
    weights = outer * width
    has_sums = eqn.op.name == "conv2d_weight"
    tiles = min(n, MAX_TILES, max(2, SUMS // weights) if has_sums else MAX_TILES)
    tile = -(-n // tiles)
    part = min(tile, -(-COLUMNS // pixels))
    pairs = zip(("height", "width", "kh", "kw", "sh", "sw", "top", "left", "dh", "dw", "rows", "columns"), (
        *size, *kernel, *geometry.stride, *(p[0] for p in geometry.padding), *geometry.dilation, *geometry.out
    ), strict=True)  # fmt: skip
    numbers = dict(pairs) | {"channels": channels, "outer": outer, "groups": eqn.params["groups"]}
    numbers |= {"part": part, "tile": tile, "tiles": -(-n // tile)}
    area = (width + outer // eqn.params["groups"]) * part * pixels
    return numbers, area, weights * numbers["tiles"] if has_sums else 0
