"""Products with weights, and looking up rows.

Takes inputs with any number of leading axes. What a layer keeps is left to `nn`.
"""

from typing import Any

import numpy as np

from sadl.errors import ShapeError, explain
from sadl.functional.checks import class_indices, is_whole, numbers, pick, require_sizes, shape_of
from sadl.ops.indexing import Asker, require_indices
from sadl.tape import no_grad


def linear(x: Any, W: Any, b: Any = None) -> Any:
    """x @ W + b: `x` (..., dim_in), `W` (dim_in, dim_out), `b` (dim_out,) or None, result (..., dim_out).

    The dtype is the one NumPy promotes the operands to.
    Raises:
        ShapeError: the shapes do not fit.
        TypeError: something that is not made of numbers.
    """
    x, W = numbers("linear", x), numbers("linear", W, "W")
    b = b if b is None else numbers("linear", b, "b")
    _require_fit(x.shape, W.shape, None if b is None else b.shape)
    y = np.matmul(x, W)
    return y if b is None else y + b


def _require_fit(x: tuple[int, ...], W: tuple[int, ...], b: tuple[int, ...] | None) -> None:
    if len(W) != 2:
        raise ShapeError(explain("linear", f"W of shape {W} is no matrix", "W of shape (dim_in, dim_out)"))
    if x[-1:] != W[:1]:
        what = f"an input of shape {x} does not fit W of shape {W}"
        raise ShapeError(explain("linear", what, f"an input of shape (..., {W[0]})"))
    if b is not None and b != W[1:]:
        raise ShapeError(explain("linear", f"b of shape {b} does not fit W of shape {W}", f"b of shape {W[1:]}"))


def one_hot(indices: Any, num_classes: int, dtype: Any = np.float32) -> Any:
    """1 at the class and 0 elsewhere: integer `indices` of any shape give (*shape, num_classes) in `dtype`.

    Raises:
        IndexError: an index is not in 0 .. num_classes - 1.
        TypeError: `indices` are not integers, or `dtype` is none.
        ValueError: `num_classes` is no whole number >= 1.
    """
    require_sizes("one_hot", num_classes=num_classes)
    indices, classes = class_indices("one_hot", indices, name="indices"), np.arange(num_classes)
    rows = np.broadcast_to(classes, (*shape_of(indices), num_classes))  # costs no memory
    checked = pick("one_hot", rows, indices, f"num_classes > {num_classes}", f"num_classes={num_classes}")
    return (np.reshape(checked, (*shape_of(indices), 1)) == classes).astype(dtype)


def embedding(ids: Any, W: Any, padding_idx: int | None = None) -> Any:
    """The row of `W` (n, dim) for each of the integer `ids`, of any shape: (*ids.shape, dim) in the dtype of `W`.

    Its gradient adds up the cotangents of each row, but for the one at `padding_idx`, if given, which is a constant.
    Raises:
        IndexError: an id is not in 0 .. n - 1.
        ShapeError: `W` is not a matrix.
        TypeError: `ids` are not integers.
        ValueError: `padding_idx` is not in 0 .. n - 1.
    """
    W = numbers("embedding", W, "W")
    if len(shape_of(W)) != 2:
        raise ShapeError(explain("embedding", f"W of shape {shape_of(W)} is no table of rows", "W of shape (n, dim)"))
    n, indices = W.shape[0], class_indices("embedding", ids, "ids", "ids")
    asker = Asker(
        "embedding",
        "an id",
        f"a table of {W.dtype} {W.shape}",
        f"ids from 0 to {n - 1}, or a table with more rows than {n}",
    )
    require_indices(indices, n, 0, asker=asker)  # NumPy would count a negative id from the back
    rows = np.take(W, indices, axis=0)
    if padding_idx is None:
        return rows
    require_padding("embedding", padding_idx, n)
    with no_grad():
        fixed = np.take(W, padding_idx, axis=0)
    return np.where(np.reshape(indices == padding_idx, (*shape_of(indices), 1)), fixed, rows)


def require_padding(op: str, padding_idx: Any, n: int) -> None:
    if not is_whole(padding_idx) or not 0 <= padding_idx < n:
        raise ValueError(explain(op, f"padding_idx={padding_idx!r} is no id", f"an integer from 0 to {n - 1}, or None"))
