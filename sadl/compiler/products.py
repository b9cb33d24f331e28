"""products: how a matrix product runs as calls of BLAS, which the thread team shares.

Takes a matmul equation and where its values lie; gives launches, or nothing where BLAS cannot take the operands: then
it stays a library call. Transposed operands become flags; a stack of matrices times one matrix is a single product,
other stacks are a range of products. Work is cut by sizes alone, so that results do not depend on how many threads
there are.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sadl.compiler.ir import Eqn, Var
from sadl.compiler.memory import Layout
from sadl.kernels import blas

TILE_FLOPS = 2_000_000  # a tile of a product has at least so many operations,
LARGE_TILE_FLOPS = 64_000_000  # rather so many where tiles enough are left: BLAS packs its operands anew for each
MAX_TILES = 64
MAX_STACK = 1 << 16  # products of one equation


class Launches(NamedTuple):
    rows: list[tuple[str, list[Any], int, int]]  # builtin, block, upper end of the range, size of a tile
    scratch: int = 0  # bytes


class _Matrices(NamedTuple):
    """A stack of matrices: its sizes and strides (in elements), then those of each matrix."""

    stack: tuple[int, ...]
    steps: tuple[int, ...]
    shape: tuple[int, int]
    strides: tuple[int, int]


def launches(eqn: Eqn, layouts: dict[Var, Layout], address: Callable[[Var], Any]) -> Launches | None:
    """`address` gives the address of a value, or (buffer, offset) where that changes from call to call."""
    left, right, out, dtype = *eqn.inputs, eqn.out, eqn.out.aval.dtype
    gemm = blas.gemm_address(dtype.name)
    if gemm is None or not (isinstance(left, Var) and isinstance(right, Var)):
        return None
    if any(v.aval.dtype != dtype or v.aval.size == 0 for v in (left, right, out)):
        return None
    a, b = _matrices(left, layouts, row=True), _matrices(right, layouts, row=False)
    a = _as_one(a) if np.prod(b.stack, dtype=int) == 1 else a
    (m, k), n = a.shape, b.shape[1]
    flags = [_flag(x.shape, x.strides) for x in (a, b)]
    if None in flags:
        return None
    (trans_a, lda), (trans_b, ldb) = flags  # type: ignore[misc]
    block = [gemm, trans_a, trans_b, m, n, k, address(left), lda, address(right), ldb, address(out), n]
    places = _places(a, b, m * n) * dtype.itemsize
    if len(places) > MAX_STACK:
        return None
    if len(places) > 1:
        block += places.ravel().tolist()
        return Launches([(f"gemm_stack_{dtype}", block, len(places), cut(len(places), 2 * len(places) * m * n * k))])
    return Launches([(f"gemm_{dtype}", *_cut_one(block, dtype.itemsize))])


def _matrices(v: Var, layouts: dict[Var, Layout], row: bool) -> _Matrices:
    """A vector counts as a matrix of one row, or of one column."""
    shape, strides = v.aval.shape, layouts[v].strides
    if len(shape) == 1:
        shape, strides = ((1, *shape), (0, *strides)) if row else ((*shape, 1), (*strides, 0))
    return _Matrices(shape[:-2], strides[:-2], shape[-2:], strides[-2:])  # type: ignore[arg-type]


def _as_one(a: _Matrices) -> _Matrices:
    """The matrices below one another as one, if they lie so."""
    rows, step = a.shape[0], a.strides[0]
    for size, stride in zip(reversed(a.stack), reversed(a.steps), strict=True):
        if size == 1:
            continue
        if rows == 1:
            step = stride
        elif stride != rows * step:
            return a
        rows *= size
    return _Matrices((), (), (rows, a.shape[1]), (step, a.strides[1]))


def _places(a: _Matrices, b: _Matrices, size: int) -> np.ndarray:
    """(products, 3): where the operands and the result of each product begin, in elements."""
    stack = np.broadcast_shapes(a.stack, b.stack)
    found = [np.zeros((), np.int64)] * 2
    for k, x in enumerate((a, b)):
        steps = (0,) * (len(stack) - len(x.stack)) + tuple(
            0 if n == 1 else s for n, s in zip(x.stack, x.steps, strict=True)
        )
        for n, step in zip(stack, steps, strict=True):
            found[k] = found[k][..., None] + np.arange(n) * step
    here = [x.ravel() for x in found]
    return np.stack([*here, np.arange(len(here[0])) * size], axis=-1)


def _cut_one(block: list[Any], item: int) -> tuple[list[Any], int, int]:
    """The block, range and tile of one product, whose longer side is cut."""
    _, trans_a, trans_b, m, n, k, _, lda, _, ldb, *_ = block
    if m >= n:
        steps = [0, (1 if trans_a == blas.TRANS else lda) * item, 0, n * item]
    else:
        steps = [1, 0, (ldb if trans_b == blas.TRANS else 1) * item, item]
    return block + steps, max(m, n), cut(max(m, n), 2 * m * n * k, 64)


def cut(upper: int, flops: int, multiple: int = 1) -> int:
    """How much of a range, that is so much work, a tile has."""
    return tile_of(upper, min(flops // TILE_FLOPS, max(6, flops // LARGE_TILE_FLOPS)), multiple)


def tile_of(upper: int, tiles: int, multiple: int) -> int:
    """How much of the range 0..upper a tile has if there are to be about so many: a `multiple` where it is long."""
    tiles = max(1, min(tiles, MAX_TILES, upper))
    tile = -(-upper // tiles)
    return min(upper, -(-tile // multiple) * multiple) if upper > multiple else tile


def _flag(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int] | None:
    """(transpose flag, leading dimension) with which BLAS reads a matrix, or None."""
    (rows, columns), (s, t) = shape, strides
    if (t == 1 or columns == 1) and (s >= columns or rows == 1):
        return blas.NO_TRANS, max(s, columns)
    if (s == 1 or rows == 1) and (t >= rows or columns == 1):
        return blas.TRANS, max(t, rows)
    return None
