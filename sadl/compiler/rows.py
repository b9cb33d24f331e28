"""rows: how gathering rows by index, and summing rows by index, run as launches of compiled loops.

Takes an equation and where its values lie; gives launches, or nothing where the operands are of another dtype or layout
than the loops read: then it stays a library call. The loops are in `kernels.rows`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from sadl.compiler.ir import Eqn, Var
from sadl.compiler.memory import Layout, is_contiguous
from sadl.compiler.products import Launches, tile_of
from sadl.kernels.rows import SLOTS

DTYPES = ("float32", "float64")
TILE_ELEMENTS = 1 << 15


def launches(eqn: Eqn, layouts: dict[Var, Layout], address: Callable[[Var], Any]) -> Launches | None:
    """`address` gives the address of a value, or (buffer, offset) where that changes from call to call."""
    source, indices, out = *eqn.inputs, eqn.out
    if not (isinstance(source, Var) and isinstance(indices, Var) and indices.aval.dtype == np.int64):
        return None
    values = (source, indices, out)
    if out.aval.dtype.name not in DTYPES or any(v.aval.size == 0 or not is_contiguous(v, layouts[v]) for v in values):
        return None
    matrix, rows = (source, out) if eqn.op.name == "gather_rows" else (out, source)
    size, count = matrix.aval.shape[0], indices.aval.size
    width = matrix.aval.size // size
    slots = {"matrix": address(matrix), "indices": address(indices), "rows": address(rows)}
    slots |= {"size": size, "count": count, "width": width}
    upper = count if matrix is source else width
    tile = tile_of(upper, rows.aval.size // TILE_ELEMENTS, 16)
    return Launches([(f"{eqn.op.name}_{out.aval.dtype}", [slots[name] for name in SLOTS], upper, tile)])
