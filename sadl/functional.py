"""Activations, normalising functions and losses, each a composition of NumPy functions.

Takes plain arrays or Tensors and gives the same kind; Python scalars are the only constants, so that float32 stays
float32. Gradients and fused kernels follow from the operations used; keeping parameters is left to `nn`.
"""

from typing import Any

import numpy as np

from sadl.errors import ShapeError, explain
from sadl.tape import no_grad, plain


def _shape(x: Any) -> tuple[int, ...]:
    return np.shape(plain(x))  # np.shape of a Tensor goes a longer way


# ---- activations ---------------------------------------------------------------------------------------------------


def relu(x: Any) -> Any:
    """max(0, x), element by element: shape and dtype of `x`. The gradient at 0 is 0; NaN stays NaN."""
    return np.where(x <= 0, 0, x)


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), element by element: shape of `x`, its dtype if floating, else float64.

    Written as exp(-|x|) / (1 + exp(-|x|)) where x < 0, so that nothing overflows and small values keep their digits.
    """
    positive = x >= 0
    e = np.exp(np.where(positive, -x, x))  # not abs(x), whose gradient at 0 would be 0
    return np.where(positive, 1, e) / (1 + e)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent, element by element: shape of `x`, its dtype if floating, else float64."""
    return np.tanh(x)


# ---- along an axis -------------------------------------------------------------------------------------------------


def _top(x: Any, axis: Any) -> Any:
    """The largest value along `axis`, as a constant: what is shifted by it does not depend on it."""
    with no_grad():
        return np.max(x, axis=axis, keepdims=True)


def softmax(x: Any, axis: Any = -1) -> Any:
    """exp(x) / sum(exp(x)) along `axis` (an integer or a tuple of them): shape of `x`, its dtype if floating.

    The maximum is subtracted first, so that nothing overflows. A row of -inf only has no distribution: it gives NaN.
    Raises:
        ValueError: `axis` is not one of `x`, or is of size 0.
    """
    e = np.exp(x - _top(x, axis))
    return e / np.sum(e, axis=axis, keepdims=True)


def log_softmax(x: Any, axis: Any = -1) -> Any:
    """log(softmax(x)) along `axis` = x - logsumexp(x): exact where softmax itself would round to 0 or 1.

    Shape, dtype and errors as in `softmax`.
    """
    shifted = x - _top(x, axis)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def logsumexp(x: Any, axis: Any = -1, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) along `axis`: shape of `x` without `axis` (size 1 if `keepdims`), its dtype if floating.

    A row of -inf only gives -inf, with gradient 0. Errors as in `softmax`.
    """
    with no_grad():
        top = np.max(x, axis=axis, keepdims=True)
        top = np.where(np.isfinite(top), top, 0)  # inf - inf would be NaN
    total = np.sum(np.exp(x - top), axis=axis, keepdims=True)
    empty = total == 0
    out = np.where(empty, -np.inf, np.log(np.where(empty, 1, total)) + top)
    return out if keepdims else np.squeeze(out, axis)


# ---- layers --------------------------------------------------------------------------------------------------------


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
    rows = np.broadcast_to(classes, (*_shape(indices), num_classes))  # costs no memory
    checked = _pick("one_hot", rows, _indices("one_hot", indices))
    return (np.reshape(checked, (*_shape(indices), 1)) == classes).astype(dtype)


def _indices(op: str, targets: Any) -> Any:
    targets = targets if hasattr(targets, "dtype") else np.asarray(targets)
    if targets.dtype.kind not in "iu":
        what = f"class indices must be integers, found {targets.dtype}"
        raise TypeError(explain(op, what, "targets.astype(np.int64)"))
    return targets.astype(np.int64)


def _pick(op: str, x: Any, indices: Any) -> Any:
    """The element of each row of `x` (..., n) at its index (...): (...)."""
    n = x.shape[-1]
    checked = np.where(indices < 0, n, indices)  # NumPy would count a negative index from the back
    try:
        picked = np.take_along_axis(x, np.reshape(checked, (*checked.shape, 1)), -1)
    except IndexError:
        what = f"a class index is outside 0 .. {n - 1}, for rows of {x.dtype} {x.shape}"
        raise IndexError(explain(op, what)) from None
    return np.reshape(picked, checked.shape)


# ---- losses --------------------------------------------------------------------------------------------------------

_REDUCTIONS = {"mean": np.mean, "sum": np.sum, "none": lambda losses: losses}


def _reduction(op: str, name: str) -> Any:
    if name not in _REDUCTIONS:
        raise ValueError(explain(op, f"no reduction {name!r}", '"mean", "sum" or "none"'))
    return _REDUCTIONS[name]


def _fit(op: str, x: Any, targets: Any, shape: tuple[int, ...], need: str) -> None:
    if _shape(x) == () or _shape(targets) != shape:
        what = f"targets of shape {_shape(targets)} do not fit an input of shape {_shape(x)}"
        raise ShapeError(explain(op, what, need))


def cross_entropy(logits: Any, targets: Any, reduction: str = "mean") -> Any:
    """-log(softmax(logits)) at the target: the loss of a classifier, from its unnormalised scores.

    Args:
        logits: floating, (..., classes).
        targets: class indices, integers of shape (...), or probabilities, floats of the shape of `logits`.
        reduction: "mean" over all but the classes, "sum", or "none" for losses of shape (...).
    Raises:
        ShapeError: the shape of `targets` is neither.
        IndexError: a class index is not in 0 .. classes - 1.
        TypeError: `targets` are neither integers nor floats.
        ValueError: another reduction.
    """
    targets = targets if hasattr(targets, "dtype") else np.asarray(targets)
    if targets.dtype.kind != "f":
        return _nll("cross_entropy", log_softmax(logits), targets, reduction)
    reduce = _reduction("cross_entropy", reduction)
    _fit("cross_entropy", logits, targets, _shape(logits), "probabilities of the shape of the logits")
    return reduce(-np.sum(targets * log_softmax(logits), axis=-1))


def nll_loss(log_probabilities: Any, targets: Any, reduction: str = "mean") -> Any:
    """-log_probabilities at the target class: `log_probabilities` (..., classes), integer `targets` (...).

    Reduction and errors as in `cross_entropy`, which is this after `log_softmax`.
    """
    return _nll("nll_loss", log_probabilities, targets, reduction)


def _nll(op: str, logp: Any, targets: Any, reduction: str) -> Any:
    reduce = _reduction(op, reduction)
    indices = _indices(op, targets)
    _fit(op, logp, indices, _shape(logp)[:-1], "one class index per row: the input's shape without its last axis")
    return reduce(-_pick(op, logp, indices))


def mse_loss(x: Any, targets: Any, reduction: str = "mean") -> Any:
    """(x - targets)**2: both of the same shape, which is also that of the losses for reduction="none".

    Raises:
        ShapeError: the shapes differ; they are not broadcast, since (n, 1) against (n,) is always a mistake.
        ValueError: a reduction other than "mean", "sum" and "none".
    """
    reduce = _reduction("mse_loss", reduction)
    if _shape(x) != _shape(targets):
        what = f"input of shape {_shape(x)} and targets of shape {_shape(targets)} differ"
        raise ShapeError(explain("mse_loss", what, "reshape one of them"))
    return reduce(np.square(x - targets))
