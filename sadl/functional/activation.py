"""Activations: functions of each element, and the normalised exponentials along an axis.

Takes plain arrays or Tensors and gives the same kind; Python scalars are the only constants, so that float32 stays
float32. Gradients and fused kernels follow from the operations used.

All but `relu` compute integers and bools in float64; complex numbers are refused. At -inf, `gelu` and `silu` are NaN,
as in torch, since they are products of x and 0.
"""

import math
from typing import Any

import numpy as np

from sadl.errors import explain
from sadl.functional.checks import factor, floating, number, numbers, rows, shape_of
from sadl.ops.elementwise import erf_
from sadl.tape import no_grad

__all__ = [
    "elu",
    "erf",
    "gelu",
    "leaky_relu",
    "log_softmax",
    "logsumexp",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]


def relu(x: Any) -> Any:
    """max(0, x), element by element: shape and dtype of `x`. The gradient at 0 is 0; NaN stays NaN."""
    x = numbers("relu", x, kinds="fiub")
    return np.where(x <= 0, 0, x)


def leaky_relu(x: Any, negative_slope: Any = 0.01) -> Any:
    """x where x > 0, else negative_slope * x: shape of `x`, its dtype if floating.

    Maas, Hannun & Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013. `negative_slope` is a
    number, or an array that broadcasts to `x`, which may be learned: He et al., "Delving deep into rectifiers", 2015.
    """
    x = floating("leaky_relu", x)
    return np.where(x > 0, x, factor("leaky_relu", "negative_slope", negative_slope, shape_of(x)) * x)


def elu(x: Any, alpha: Any = 1.0) -> Any:
    """x where x > 0, else alpha * (exp(x) - 1): shape of `x`, its dtype if floating.

    Clevert, Unterthiner & Hochreiter, "Fast and accurate deep network learning by exponential linear units", 2015.
    `alpha` is a number, or an array that broadcasts to `x`.
    """
    x = floating("elu", x)
    return np.where(x > 0, x, factor("elu", "alpha", alpha, shape_of(x)) * np.expm1(np.where(x > 0, 0, x)))


def gelu(x: Any, approximate: str = "none") -> Any:
    """x times the normal distribution's probability of less than x: shape of `x`, its dtype if floating.

    Hendrycks & Gimpel, "Gaussian error linear units", 2016. `approximate="tanh"` takes the probability as
    (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x**3))) / 2, as there.
    Raises:
        ValueError: `approximate` is neither "none" nor "tanh".
    """
    x = floating("gelu", x)
    if approximate == "none":
        return x * (0.5 + 0.5 * erf_(x * math.sqrt(0.5)))
    if approximate == "tanh":
        near = np.where(np.absolute(x) < 30, x, 0)  # beyond, tanh is 1 without the cube, which could overflow
        return x * (0.5 + 0.5 * np.tanh(x * (math.sqrt(2 / math.pi) * (1 + 0.044715 * near * near))))
    raise ValueError(explain("gelu", f"no approximation {approximate!r}", '"none" or "tanh"'))


def erf(x: Any) -> Any:
    """2/sqrt(pi) * integral of exp(-t*t) from 0 to x, the error function: shape of `x`, its dtype if floating.

    Accurate to two units of the last place of float32 and of float64.
    """
    return erf_(floating("erf", x))


def decay(x: Any) -> Any:
    """exp(-|x|); its gradient at 0 is that of exp(x), while that of exp(-abs(x)) would be 0."""
    return np.exp(np.where(x > 0, -x, x))


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), element by element: shape of `x`, its dtype if floating.

    Written as exp(-|x|) / (1 + exp(-|x|)) where x < 0, so that nothing overflows and small values keep their digits.
    """
    return _sigmoid(floating("sigmoid", x))


def _sigmoid(x: Any) -> Any:
    e = decay(x)
    return np.where(x > 0, 1, e) / (1 + e)


def silu(x: Any) -> Any:
    """x * sigmoid(x), also called swish: shape of `x`, its dtype if floating. Hendrycks & Gimpel, as for `gelu`."""
    x = floating("silu", x)
    return x * _sigmoid(x)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent, element by element: shape of `x`, its dtype if floating."""
    return np.tanh(floating("tanh", x))


def softplus(x: Any, beta: float = 1.0) -> Any:
    """log(1 + exp(beta * x)) / beta, a smooth `relu`: shape of `x`, its dtype if floating.

    Written as max(0, x) + log1p(exp(-|x|)), so that nothing overflows and small values keep their digits.
    Raises:
        ValueError: `beta` is 0 or negative.
    """
    x, beta = floating("softplus", x), number("softplus", "beta", beta, 0, above=True)
    x = x if beta == 1 else x * beta
    y = relu(x) + np.log1p(decay(x))
    return y if beta == 1 else y / beta


# ---- along an axis -------------------------------------------------------------------------------------------------


def _top(x: Any, axis: Any) -> Any:
    """The largest value along `axis`, as a constant: what is shifted by it does not depend on it."""
    with no_grad():
        return np.max(x, axis=axis, keepdims=True)


def _finite_top(x: Any, axis: Any) -> Any:
    """The same, but a finite number where it is infinite, since inf - inf would be NaN."""
    with no_grad():
        limit = float(np.finfo(x.dtype).max)
        return np.clip(_top(x, axis), -limit, limit)


def softmax(x: Any, axis: Any = -1) -> Any:
    """exp(x) / sum(exp(x)) along `axis` (an integer or a tuple of them): shape of `x`, its dtype if floating.

    The maximum is subtracted first, so that nothing overflows. A row of -inf only has no distribution: it gives NaN.
    Raises:
        AxisError, ValueError: `axis` is not one of `x`, or is of size 0.
        TypeError: it is no integer.
    """
    x = rows("softmax", x, axis)
    e = np.exp(x - _top(x, axis))
    return e / np.sum(e, axis=axis, keepdims=True)


def softmax_or_zero(x: Any, axis: Any = -1) -> Any:
    """`softmax` where a row of -inf only, from which everything is masked, gives zeros and has gradient 0."""
    e = np.exp(x - _finite_top(x, axis))
    total = np.sum(e, axis=axis, keepdims=True)
    return e / np.where(total == 0, 1, total)


def log_softmax(x: Any, axis: Any = -1) -> Any:
    """log(softmax(x)) along `axis` = x - logsumexp(x): exact where softmax itself would round to 0 or 1.

    Shape, dtype and errors as in `softmax`.
    """
    x = rows("log_softmax", x, axis)
    shifted = x - _top(x, axis)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def logsumexp(x: Any, axis: Any = -1, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) along `axis`: shape of `x` without `axis` (size 1 if `keepdims`), its dtype if floating.

    A row of -inf only gives -inf, with gradient 0. Errors as in `softmax`.
    """
    x = rows("logsumexp", x, axis)
    top = _finite_top(x, axis)
    total = np.sum(np.exp(x - top), axis=axis, keepdims=True)
    empty = total == 0
    out = np.where(empty, -np.inf, np.log(np.where(empty, 1, total)) + top)
    return out if keepdims else np.squeeze(out, axis)
