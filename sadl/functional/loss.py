"""Losses, each with a reduction: "mean", "sum" or "none".

Takes predictions and targets; gives a number, or one loss per example.
"""

from typing import Any

import numpy as np

from sadl.errors import ShapeError, explain
from sadl.functional.activation import log_softmax
from sadl.functional.checks import class_indices, pick, require_fit, shape_of

_REDUCTIONS = {"mean": np.mean, "sum": np.sum, "none": lambda losses: losses}


def _reduction(op: str, name: str) -> Any:
    if name not in _REDUCTIONS:
        raise ValueError(explain(op, f"no reduction {name!r}", '"mean", "sum" or "none"'))
    return _REDUCTIONS[name]


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
    require_fit("cross_entropy", logits, targets, shape_of(logits), "probabilities of the shape of the logits")
    return reduce(-np.sum(targets * log_softmax(logits), axis=-1))


def nll_loss(log_probabilities: Any, targets: Any, reduction: str = "mean") -> Any:
    """-log_probabilities at the target class: `log_probabilities` (..., classes), integer `targets` (...).

    Reduction and errors as in `cross_entropy`, which is this after `log_softmax`.
    """
    return _nll("nll_loss", log_probabilities, targets, reduction)


def _nll(op: str, logp: Any, targets: Any, reduction: str) -> Any:
    reduce = _reduction(op, reduction)
    indices = class_indices(op, targets)
    require_fit(
        op, logp, indices, shape_of(logp)[:-1], "one class index per row: the input's shape without its last axis"
    )
    return reduce(-pick(op, logp, indices))


def mse_loss(x: Any, targets: Any, reduction: str = "mean") -> Any:
    """(x - targets)**2: both of the same shape, which is also that of the losses for reduction="none".

    Raises:
        ShapeError: the shapes differ; they are not broadcast, since (n, 1) against (n,) is always a mistake.
        ValueError: a reduction other than "mean", "sum" and "none".
    """
    reduce = _reduction("mse_loss", reduction)
    if shape_of(x) != shape_of(targets):
        what = f"input of shape {shape_of(x)} and targets of shape {shape_of(targets)} differ"
        raise ShapeError(explain("mse_loss", what, "reshape one of them"))
    return reduce(np.square(x - targets))
