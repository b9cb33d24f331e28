"""Gradients made smaller before an update: by their common norm, or each element by itself.

Takes Parameters (or Tensors) whose `.grad` is there; replaces these `.grad`s.
"""

from typing import Any

import numpy as np

from sadl.errors import explain
from sadl.optimizer.shell import Params, named_parameters, seen, wide
from sadl.tape import no_grad
from sadl.tensor import Tensor

TINY = 1e-6  # as torch has it, lest the norm be zero


def clip_grad_norm(params: Params, max_norm: float, norm_type: float = 2.0) -> Any:
    """Scale all gradients by one factor so that their norm, as of one vector, is at most about `max_norm`.

    The factor is min(1, max_norm / (norm + 1e-6)): Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent
    neural networks", ICML 2013, section 3.2. A norm that is not finite makes all gradients NaN or zero: look at what
    is returned.

    Args:
        params: a Function, a mapping of names to Parameters, an iterable of them, or groups; those without a gradient
            are left out.
        max_norm: a number >= 0.
        norm_type: 2, 1, or any p > 0; `numpy.inf` for the largest absolute value.
    Returns:
        The norm before, a Tensor () in the widest dtype of the gradients (at least float32).
    Raises:
        ValueError: `max_norm` or `norm_type` is out of range.
    """
    _require("clip_grad_norm", "max_norm", max_norm, ">= 0")
    _require("clip_grad_norm", "norm_type", norm_type, "> 0")
    with no_grad():
        found = _gradients(params)
        dtype = np.result_type(np.float32, *(g.dtype for _, g in found))
        norm = _norm([g.astype(dtype) if g.dtype != dtype else g for _, g in found], float(norm_type), dtype)
        factor = np.minimum(max_norm / (norm + TINY), 1)
        factors = {g.dtype: factor.astype(wide(g.dtype)) for _, g in found}
        for p, g in found:
            p.grad = (g * factors[g.dtype]).astype(g.dtype, copy=False)
        return norm if isinstance(norm, Tensor) else Tensor(np.asarray(norm))


def clip_grad_value(params: Params, clip_value: float) -> None:
    """Clip each element of each gradient to [-clip_value, clip_value].

    Args:
        params: as for `clip_grad_norm`.
        clip_value: a number >= 0.
    Raises:
        ValueError: `clip_value` is out of range.
    """
    _require("clip_grad_value", "clip_value", clip_value, ">= 0")
    with no_grad():
        for p, g in _gradients(params):
            p.grad = np.clip(g, -clip_value, clip_value)


def _gradients(params: Params) -> list[tuple[Any, Any]]:
    """Each Parameter with its gradient, where it has one."""
    pairs = [(p, p.grad) for _, p in named_parameters(params)]
    return [(p, seen(g)) for p, g in pairs if g is not None]


def _norm(grads: list[Any], p: float, dtype: np.dtype) -> Any:
    if not grads:
        return np.zeros((), dtype)
    if p == np.inf:
        return np.max(np.stack([np.max(np.absolute(g)) for g in grads if g.size] or [np.zeros((), dtype)]))
    first, *rest = [np.sum(np.square(g) if p == 2 else np.absolute(g) ** p) for g in grads]
    total = sum(rest, first)
    return np.sqrt(total) if p == 2 else total ** (1 / p)


def _require(op: str, name: str, value: Any, need: str) -> None:
    if not isinstance(value, (int, float, np.number)):
        raise TypeError(explain(op, f"{name}={value!r} is no number", f"a number {need}"))
    if not (value > 0 or (value == 0 and need == ">= 0")):  # NaN included
        raise ValueError(explain(op, f"{name}={value} is out of range", f"a number {need}"))
