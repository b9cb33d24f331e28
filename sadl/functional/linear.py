"""Products with weights, and looking up rows.

Takes inputs with any number of leading axes. What a layer keeps is left to `nn`.
"""

from typing import Any

import numpy as np

from sadl.errors import ShapeError, explain
from sadl.functional.checks import class_indices, outside, pick, shape_of
from sadl.ops.indexing import require_indices


def linear(x: Any, W: Any, b: Any = None) -> Any:
    """x @ W + b: `x` (..., dim_in), `W` (dim_in, dim_out), `b` (dim_out,) or None, result (..., dim_out).

    The dtype is the one NumPy promotes the operands to.
    Raises:
        ValueError: the shapes do not fit.
    """
    y = np.matmul(x, W)
    return y if b is None else y + b


def one_hot(indices: Any, num_classes: int, dtype: Any = np.float32) -> Any:
    """1 at the class and 0 elsewhere: integer `indices` of any shape give (*shape, num_classes) in `dtype`.

    Raises:
        IndexError: an index is not in 0 .. num_classes - 1.
        TypeError: `indices` are not integers.
    """
    classes = np.arange(num_classes)
    rows = np.broadcast_to(classes, (*shape_of(indices), num_classes))  # costs no memory
    checked = pick("one_hot", rows, class_indices("one_hot", indices))
    return (np.reshape(checked, (*shape_of(indices), 1)) == classes).astype(dtype)


def embedding(ids: Any, W: Any) -> Any:
    """The row of `W` (n, dim) for each of the integer `ids`, of any shape: (*ids.shape, dim) in the dtype of `W`.

    Its gradient adds up the cotangents of each row.
    Raises:
        IndexError: an id is not in 0 .. n - 1.
        ShapeError: `W` is not a matrix.
        TypeError: `ids` are not integers.
    """
    if len(shape_of(W)) != 2:
        raise ShapeError(explain("embedding", f"W of shape {shape_of(W)} is no table of rows", "W of shape (n, dim)"))
    n, indices = W.shape[0], class_indices("embedding", ids, "ids")
    try:
        require_indices(indices, n, 0)  # NumPy would count a negative id from the back
        return np.take(W, indices, axis=0)
    except IndexError:
        what = f"a table of {W.dtype} {W.shape}"
        raise IndexError(outside("embedding", "an id", indices, n, what, f"a table with more rows than {n}")) from None
