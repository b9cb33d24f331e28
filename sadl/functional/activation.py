"""Activations: functions of each element, and the normalised exponentials along an axis.

Takes plain arrays or Tensors and gives the same kind; Python scalars are the only constants, so that float32 stays
float32. Gradients and fused kernels follow from the operations used.
"""

from typing import Any

import numpy as np

from sadl.tape import no_grad


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
