"""Losses, each with a reduction: "mean", "sum" or "none".

Takes predictions and targets; gives a number, or one loss per example. Targets of integers and bools take part in the
dtype of the predictions.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from sadl.errors import ShapeError, explain
from sadl.functional.activation import decay, log_softmax, relu
from sadl.functional.checks import (
    class_indices,
    flag,
    floating,
    in_dtype_of,
    is_whole,
    number,
    numbers,
    pick,
    require_broadcast,
    require_fit,
    require_same_shape,
    shape_of,
)
from sadl.tape import as_array

_REDUCTIONS: dict[str, Callable[[Any], Any]] = {"mean": np.mean, "sum": np.sum, "none": lambda losses: losses}


def _reduction(op: str, name: str, **more: Callable[[Any], Any]) -> Any:
    known = _REDUCTIONS | more
    if not isinstance(name, str) or name not in known:
        *others, last = (f'"{n}"' for n in known)
        raise ValueError(explain(op, f"no reduction {name!r}", f"{', '.join(others)} or {last}"))
    return known[name]


# ---- classes -------------------------------------------------------------------------------------------------------


def cross_entropy(
    logits: Any,
    targets: Any,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    weight: Any = None,
) -> Any:
    """-log(softmax(logits)) at the target: the loss of a classifier, from its unnormalised scores.

    Args:
        logits: floating, (..., classes).
        targets: class indices, integers of shape (...), or probabilities, floats of the shape of `logits`, of which it
            is not checked that they are in [0, 1] and add up to 1.
        reduction: "mean", "sum", or "none" for losses of shape (...). The mean is the sum divided by that of the
            targets' weights, which is their number without `weight`; for probabilities it is always their number.
        label_smoothing: how much of each target is spread evenly over all classes, in [0, 1]: Szegedy et al.,
            "Rethinking the Inception architecture for computer vision", 2016, section 7.
        ignore_index: an index, also outside the classes, of targets that do not count. The mean of none is NaN.
        weight: (classes,), how much each class counts, in the dtype of `logits`; 1 each if None.
    Raises:
        ShapeError: the shape of `targets` is neither, or that of `weight` does not fit.
        IndexError: a class index is not in 0 .. classes - 1.
        TypeError: `targets` are neither integers nor floats.
        ValueError: another reduction, `label_smoothing` not in [0, 1], or `ignore_index` for probabilities.
    """
    logits, targets = floating("cross_entropy", logits), as_array(targets)
    smoothing = number("cross_entropy", "label_smoothing", label_smoothing, 0, 1)
    if targets.dtype.kind != "f":
        indices = _indices("cross_entropy", logits, targets)
        return _nll("cross_entropy", log_softmax(logits), indices, reduction, smoothing, ignore_index, weight)
    reduce = _reduction("cross_entropy", reduction)
    require_fit("cross_entropy", logits, targets, shape_of(logits), "probabilities of the shape of the logits")
    if ignore_index is not None:
        what = f"ignore_index={ignore_index} was given, but targets are probabilities"
        raise ValueError(explain("cross_entropy", what, "probabilities of 0 for what does not count"))
    targets = targets if smoothing == 0 else (1 - smoothing) * targets + smoothing / logits.shape[-1]
    targets = _scaled(targets, _class_weights("cross_entropy", logits, weight))
    # what cannot be (logit -inf) and is not said to be (probability 0) costs nothing: the limit of t * log(t) at 0
    return reduce(-np.sum(targets * np.where(targets == 0, 0, log_softmax(logits)), axis=-1))


def nll_loss(
    log_probabilities: Any,
    targets: Any,
    reduction: str = "mean",
    ignore_index: int | None = None,
    weight: Any = None,
) -> Any:
    """-log_probabilities at the target class: `log_probabilities` (..., classes), integer `targets` (...).

    Other arguments and errors as in `cross_entropy`, which is this after `log_softmax`.
    """
    logp = floating("nll_loss", log_probabilities)
    return _nll("nll_loss", logp, _indices("nll_loss", logp, targets), reduction, 0.0, ignore_index, weight)


def _indices(op: str, x: Any, targets: Any) -> Any:
    indices = class_indices(op, targets)
    require_fit(op, x, indices, shape_of(x)[:-1], "one class index per row: the input's shape without its last axis")
    return indices


def _nll(
    op: str, logp: Any, indices: Any, reduction: str, smoothing: float, ignore_index: int | None, weight: Any
) -> Any:
    reduce = _reduction(op, reduction)
    weight = _class_weights(op, logp, weight)
    if ignore_index is not None and not is_whole(ignore_index):
        raise TypeError(explain(op, f"ignore_index={ignore_index!r} is no index", "an integer, or None"))
    kept = None if ignore_index is None else indices != ignore_index
    indices = indices if kept is None else np.where(kept, indices, 0)
    counts = None if weight is None else pick(op, np.broadcast_to(weight, shape_of(logp)), indices, _IGNORE)
    losses = _smoothed(_scaled(-pick(op, logp, indices, _IGNORE), counts), logp, smoothing, weight)
    if kept is not None:
        losses = np.where(kept, losses, 0)
        counts = kept.astype(logp.dtype) if counts is None else np.where(kept, counts, 0)
    return reduce(losses) if counts is None or reduction != "mean" else np.sum(losses) / np.sum(counts)


_IGNORE = "ignore_index= that index, if it marks what does not count"


def _smoothed(losses: Any, logp: Any, smoothing: float, weight: Any) -> Any:
    """The losses with a part of each target spread evenly over all classes."""
    if smoothing == 0:
        return losses
    return (1 - smoothing) * losses - smoothing / logp.shape[-1] * np.sum(_scaled(logp, weight), axis=-1)


def _scaled(x: Any, factor: Any) -> Any:
    return x if factor is None else x * factor


def _class_weights(op: str, logp: Any, weight: Any) -> Any:
    if weight is None:
        return None
    weight = numbers(op, weight, "weight", "fiub")
    if weight.shape != shape_of(logp)[-1:]:
        what = f"weight of shape {weight.shape} does not fit an input of shape {shape_of(logp)}"
        raise ShapeError(explain(op, what, "one weight per class"))
    return weight.astype(logp.dtype)


# ---- numbers -------------------------------------------------------------------------------------------------------


def mse_loss(x: Any, targets: Any, reduction: str = "mean") -> Any:
    """(x - targets)**2: both of the same shape, which is also that of the losses for reduction="none".

    Raises:
        ShapeError: the shapes differ; they are not broadcast, since (n, 1) against (n,) is always a mistake.
        ValueError: a reduction other than "mean", "sum" and "none".
    """
    reduce = _reduction("mse_loss", reduction)
    return reduce(np.square(_difference("mse_loss", x, targets)))


def l1_loss(x: Any, targets: Any, reduction: str = "mean") -> Any:
    """|x - targets|, whose gradient is 0 where they are equal. Shapes and errors as in `mse_loss`."""
    reduce = _reduction("l1_loss", reduction)
    return reduce(np.absolute(_difference("l1_loss", x, targets)))


def huber_loss(x: Any, targets: Any, reduction: str = "mean", delta: float = 1.0) -> Any:
    """d**2 / 2 where d = |x - targets| is at most `delta`, else delta * (d - delta / 2): a line with the same slope.

    Huber, "Robust estimation of a location parameter", 1964. Shapes and errors as in `mse_loss`.
    Raises:
        ValueError: `delta` is 0 or negative.
    """
    reduce, delta = _reduction("huber_loss", reduction), number("huber_loss", "delta", delta, 0, above=True)
    size = np.absolute(_difference("huber_loss", x, targets))
    near = np.minimum(size, delta)
    return reduce(near * near * 0.5 + (size - near) * delta)


def _difference(op: str, x: Any, targets: Any) -> Any:
    x, targets = _predictions(op, x, targets)
    return x - targets


def _predictions(op: str, x: Any, targets: Any) -> tuple[Any, Any]:
    """Predictions and targets of one shape; targets of whole numbers in the dtype of the predictions."""
    x = floating(op, x)
    targets = in_dtype_of(x, numbers(op, targets, "targets", "fiub"))
    require_same_shape(op, x, targets)
    return x, targets


# ---- probabilities -------------------------------------------------------------------------------------------------


def binary_cross_entropy(probabilities: Any, targets: Any, reduction: str = "mean", weight: Any = None) -> Any:
    """-(t * log(p) + (1 - t) * log(1 - p)) for yes and no; from logits, `binary_cross_entropy_with_logits` is exact.

    A logarithm is -100 at least, as in torch, so that what was certain and is wrong costs 100; its gradient is 0 there.
    Arguments, shapes and errors as there; a probability outside [0, 1] gives NaN, and targets are not checked.
    """
    reduce = _reduction("binary_cross_entropy", reduction)
    p, targets = _predictions("binary_cross_entropy", probabilities, targets)
    weight = _weights("binary_cross_entropy", p, "weight", weight)
    never, always = p == 0, p == 1
    yes = np.where(never, 100, np.minimum(-np.log(np.where(never, 1, p)), 100))
    no = np.where(always, 100, -np.log1p(-np.where(always, 0, p)))
    return reduce(_scaled(targets * yes + (1 - targets) * no, weight))


def binary_cross_entropy_with_logits(
    logits: Any, targets: Any, reduction: str = "mean", weight: Any = None, pos_weight: Any = None
) -> Any:
    """-(t * log(p) + (1 - t) * log(1 - p)) with p = sigmoid(logits), for yes and no: exact for large logits, too.

    Args:
        logits: floating, of any shape.
        targets: of the same shape, the probability of yes: floats, bools, or integers 0 and 1. That they are in [0, 1]
            is not checked.
        reduction: "mean" over all elements, "sum", or "none" for losses of the shape of `logits`.
        weight: broadcasts to `logits`: how much each element counts.
        pos_weight: broadcasts to `logits`: how much a yes counts, where a no counts 1.
    Raises:
        ShapeError: shapes that do not fit; targets are not broadcast.
        ValueError: another reduction.
    """
    op = "binary_cross_entropy_with_logits"
    reduce = _reduction(op, reduction)
    logits, targets = _predictions(op, logits, targets)
    weight, pos_weight = _weights(op, logits, "weight", weight), _weights(op, logits, "pos_weight", pos_weight)
    tail = np.log1p(decay(logits))
    yes, no = np.where(logits > 0, 0, -logits) + tail, relu(logits) + tail  # -log(p) and -log(1 - p)
    return reduce(_scaled(targets * _scaled(yes, pos_weight) + (1 - targets) * no, weight))


def _weights(op: str, logits: Any, name: str, value: Any) -> Any:
    if value is None:
        return None
    value = in_dtype_of(logits, numbers(op, value, name, "fiub"))
    require_broadcast(op, name, shape_of(value), shape_of(logits), "one number, or one per element of the last axes")
    return value


def kl_div(log_probabilities: Any, targets: Any, reduction: str = "mean", log_target: bool = False) -> Any:
    """targets * (log(targets) - log_probabilities), 0 where the target is 0: how far a distribution is from another.

    Kullback & Leibler, "On information and sufficiency", 1951: the divergence is the sum over the last axis.

    Args:
        log_probabilities, targets: floating, of the same shape.
        reduction: "mean" over all elements, "sum", "none", or "batchmean": the sum divided by the size of axis 0, which
            is the divergence itself for inputs (n, classes).
        log_target: whether `targets` are logarithms.
    Raises:
        ShapeError: the shapes differ.
        ValueError: another reduction.
    """
    reduce = _reduction("kl_div", reduction, batchmean=_batchmean)
    logp, targets = _predictions("kl_div", log_probabilities, targets)
    if flag("kl_div", "log_target", log_target):
        return reduce(np.exp(targets) * (targets - logp))
    absent = targets == 0  # where neither logarithm counts
    return reduce(targets * (np.log(np.where(absent, 1, targets)) - np.where(absent, 0, logp)))


def _batchmean(losses: Any) -> Any:
    if losses.shape[:1] in ((), (0,)):
        what = f"an input of shape {losses.shape} has no examples along axis 0"
        raise ShapeError(explain("kl_div", what, 'shape (n, classes), or reduction="mean"'))
    return np.sum(losses) / losses.shape[0]
