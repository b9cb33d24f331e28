"""rows: the rows of a matrix that indices ask for, as compiled loops, and the sums of rows by index.

Takes a block of numbers (see `SLOTS`) and a range; the loops are plain Python that `numba_cpu` compiles. Indices from
-size to size - 1 are meant; others, which a check reports, touch no memory outside. How a range is cut is left to the
compiler.
"""

from collections.abc import Callable
from typing import Any

# The block: addresses of the matrix, the int64 indices and the rows, then how many rows the matrix has, how many
# indices there are, and how long a row is.
SLOTS = ("matrix", "indices", "rows", "size", "count", "width")
MATRIX, INDICES, ROWS, SIZE, COUNT, WIDTH = range(6)


def row_of(index: Any, size: Any) -> Any:
    """The row that an index means, always one that exists."""
    return min(max(index + size if index < 0 else index, 0), size - 1)


def _gather(kind: Any, int64: Any, as_pointer: Any, row_of: Any) -> Callable[..., None]:
    def gather_rows(block: Any, lo: Any, hi: Any) -> None:
        """The range is of indices."""
        matrix, rows = as_pointer(block[MATRIX], kind), as_pointer(block[ROWS], kind)
        indices, width = as_pointer(block[INDICES], int64), block[WIDTH]
        for k in range(lo, hi):
            here, there = k * width, row_of(indices[k], block[SIZE]) * width
            for j in range(width):
                rows[here + j] = matrix[there + j]

    return gather_rows


def _scatter(kind: Any, int64: Any, as_pointer: Any, row_of: Any) -> Callable[..., None]:
    def scatter_rows(block: Any, lo: Any, hi: Any) -> None:
        """The range is of columns, so that each element is summed by one thread, in the order of the indices."""
        matrix, rows = as_pointer(block[MATRIX], kind), as_pointer(block[ROWS], kind)
        indices, width = as_pointer(block[INDICES], int64), block[WIDTH]
        for i in range(block[SIZE]):
            for j in range(i * width + lo, i * width + hi):
                matrix[j] = 0
        for k in range(block[COUNT]):
            here, there = k * width, row_of(indices[k], block[SIZE]) * width
            for j in range(lo, hi):
                matrix[there + j] += rows[here + j]

    return scatter_rows


def loops(kind: Any, int64: Any, as_pointer: Any, jit: Callable[..., Any]) -> dict[str, Callable[..., None]]:
    """The functions for a dtype, by name; `jit` compiles what they call."""
    tools = (kind, int64, as_pointer, jit(row_of))
    return {"gather_rows": _gather(*tools), "scatter_rows": _scatter(*tools)}
