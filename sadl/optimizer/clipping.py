"""Gradients made smaller before an update: by their common norm, or each element by itself.

Takes Parameters (or Tensors) whose `.grad` is there; replaces these `.grad`s.
"""

from typing import Any

import numpy as np

from sadl.errors import explain
from sadl.ops.checking import require_number
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
            are left out, and so are those that require none (frozen), which `step` does not update.
        max_norm: a number >= 0, or a Tensor of one.
        norm_type: 2, 1, or any p > 0; `numpy.inf` for the largest absolute value.
    Returns:
        The norm before, a Tensor () in the widest dtype of the gradients (at least float32).
    Raises:
        ValueError: `max_norm` or `norm_type` is out of range.
    """
    _require_bound("clip_grad_norm", "max_norm", max_norm)
    _require_power("clip_grad_norm", norm_type)
    with no_grad():
        found = _gradients(params)
        dtype = np.result_type(np.float32, *(g.dtype for _, g in found))
        norm = _norm([g.astype(dtype) if g.dtype != dtype else g for _, g in found], float(norm_type), dtype)
        factor = np.minimum(_in_dtype(max_norm, dtype) / (norm + TINY), 1)
        factors = {g.dtype: factor.astype(wide(g.dtype)) for _, g in found}
        for p, g in found:
            p.grad = (g * factors[g.dtype]).astype(g.dtype, copy=False)
        return norm if isinstance(norm, Tensor) else Tensor(np.asarray(norm))


def clip_grad_value(params: Params, clip_value: float) -> None:
    """Clip each element of each gradient to [-clip_value, clip_value].

    Args:
        params: as for `clip_grad_norm`.
        clip_value: a number >= 0, or a Tensor of one.
    Raises:
        ValueError: `clip_value` is out of range.
    """
    _require_bound("clip_grad_value", "clip_value", clip_value)
    with no_grad():
        for p, g in _gradients(params):
            bound = _in_dtype(clip_value, g.dtype)
            p.grad = np.clip(g, -bound, bound)


def _gradients(params: Params) -> list[tuple[Any, Any]]:
    """Each Parameter that is to be updated with its gradient, where it has one."""
    pairs = [(p, p.grad) for _, p in named_parameters(params) if p.requires_grad]
    return [(p, seen(g)) for p, g in pairs if g is not None]


def _norm(grads: list[Any], p: float, dtype: np.dtype) -> Any:
    if not grads:
        return np.zeros((), dtype)
    if p == np.inf:
        return np.max(np.stack([np.max(np.absolute(g)) for g in grads if g.size] or [np.zeros((), dtype)]))
    first, *rest = [np.sum(np.square(g) if p == 2 else np.absolute(g) ** p) for g in grads]
    total = sum(rest, first)
    return np.sqrt(total) if p == 2 else total ** (1 / p)


def _require_bound(op: str, name: str, value: Any) -> None:
    is_number = isinstance(value, (int, float, np.integer, np.floating))
    if not is_number and not (isinstance(value, Tensor) and value.size == 1 and value.dtype.kind in "fiu"):
        found = f"a Tensor of {value.dtype} {value.shape}" if isinstance(value, Tensor) else repr(value)
        raise TypeError(explain(op, f"{name}={found} is no number", "a number >= 0, or a Tensor of one"))
    require_number(op, name, value, finite=False)


def _require_power(op: str, value: Any) -> None:
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(explain(op, f"norm_type={value!r} is no number", "a number > 0"))
    if not value > 0:  # NaN included
        raise ValueError(explain(op, f"norm_type={value} is out of range", "a number > 0"))


def _in_dtype(bound: Any, dtype: np.dtype) -> Any:
    """A bound as it is computed with: a Tensor in this dtype, so that it decides that of no result."""
    return seen(bound).reshape(()).astype(dtype) if isinstance(bound, Tensor) else bound
