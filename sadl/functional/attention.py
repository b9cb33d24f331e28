"""Attention: averages of values, weighted by how well their keys fit a query; and positions as sines.

Takes queries, keys and values with any number of leading axes, among them one for heads. Projections are left to `nn`.
"""

import math
from typing import Any

import numpy as np

from sadl.errors import ShapeError, explain
from sadl.functional.activation import softmax, softmax_or_zero
from sadl.functional.checks import (
    factor,
    flag,
    floating,
    floating_dtype,
    number,
    numbers,
    require_broadcast,
    require_sizes,
    shape_of,
)
from sadl.functional.dropout import dropout as dropped


def scaled_dot_product_attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    is_causal: bool = False,
    dropout: float = 0.0,
    scale: Any = None,
    rng: Any = None,
) -> Any:
    """softmax(q @ k.T * scale + mask) @ v: the result is (..., targets, values).

    Vaswani et al., "Attention is all you need", 2017, equation 1. A query from which every key is hidden gets zeros,
    with gradient 0.

    Args:
        q, k, v: floating, (..., targets, dim), (..., sources, dim) and (..., sources, values); leading axes broadcast.
        mask: broadcasts to (..., targets, sources); bools say which keys are seen, floats are added to the products.
        is_causal: the i-th query sees the keys 0 to i only; together with a `mask`, those that both allow.
        dropout: the probability with which each weight is set to 0.
        scale: a number, or an array that broadcasts to `q`; 1/sqrt(dim) if None.
        rng: as for `dropout`.
    Raises:
        ShapeError: shapes that do not fit.
        TypeError: a mask of integers, or an `is_causal` that is neither True nor False.
        ValueError: `dropout` is not in [0, 1].
    """
    q, k, v = (floating("attention", x, name) for x, name in ((q, "q"), (k, "k"), (v, "v")))
    _require_fit(q, k, v)
    dropout = number("attention", "dropout", dropout, 0, 1)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else factor("attention", "scale", scale, q.shape)
    scores = np.matmul(q * scale, np.swapaxes(k, -1, -2))
    if flag("attention", "is_causal", is_causal):
        scores = np.where(_causal(*scores.shape[-2:]), scores, -np.inf)
    if mask is None:
        weights = softmax(scores)
    else:
        weights = softmax_or_zero(_masked(scores, numbers("attention", mask, "a mask")))
    return np.matmul(dropped(weights, dropout, rng=rng), v)


def _require_fit(q: Any, k: Any, v: Any) -> None:
    shapes = f"q {q.shape}, k {k.shape} and v {v.shape}"
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        what = f"{shapes} do not fit together"
        need = "q (..., targets, dim), k (..., sources, dim), v (..., sources, values)"
        raise ShapeError(explain("attention", what, need))
    try:
        np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    except ValueError:
        raise ShapeError(explain("attention", f"the leading axes of {shapes} do not broadcast", "equal ones")) from None
    if 0 in (q.shape[-1], k.shape[-2]):
        raise ShapeError(explain("attention", f"{shapes} leave nothing to attend to", "at least one key, and dim >= 1"))


def _causal(targets: int, sources: int) -> np.ndarray:
    return np.arange(targets)[:, None] >= np.arange(sources)


def _masked(scores: Any, mask: Any) -> Any:
    need = "True for keys that are seen, in a shape that broadcasts to (..., targets, sources)"
    require_broadcast("attention", "a mask", shape_of(mask), scores.shape, need)
    if mask.dtype == bool:
        return np.where(mask, scores, -np.inf)
    if mask.dtype.kind != "f":
        raise TypeError(explain("attention", f"a mask of {mask.dtype} could mean two things", "mask.astype(bool)"))
    return scores + mask.astype(scores.dtype)


def sinusoidal_positions(length: int, dim: int, dtype: Any = np.float32) -> np.ndarray:
    """sin(i / 10000**(2*j/dim)) at [i, 2*j], the cosine at [i, 2*j + 1]: an array (length, dim) of `dtype`.

    Vaswani et al., section 3.5.
    Raises:
        ValueError: a size that is no whole number >= 1, or a dtype that is not floating.
    """
    require_sizes("sinusoidal_positions", length=length, dim=dim)
    dtype = floating_dtype("sinusoidal_positions", dtype)
    angles = np.arange(length)[:, None] / 10000.0 ** (np.arange(0, dim, 2) / dim)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, -1)[:, :dim].astype(dtype)
