"""Gradients by name: look one up, or register one for an operation of your own.

Takes functions `f(*inputs, compute_grad, grad_out, **op_ctx)` that give one cotangent (or None) per input, and puts
them into the table of operations, where every other gradient rule is; running them is left to `autograd`.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import Any

import numpy as np

from sadl.autograd import vjp
from sadl.errors import RuleError, explain
from sadl.op import ALIASES, FUNCTIONS, OPS, UFUNCS, Op
from sadl.op import register as register_op
from sadl.ops import load_rest
from sadl.ops.reductions import axes
from sadl.tape import plain

GradOp = Callable[..., Sequence[Any]]


class OpType(Enum):
    """What an operation does with its elements."""

    ELEMENTWISE = auto()
    REDUCTION = auto()
    MOVEMENT = auto()
    LINALG = auto()


class OpInputs(IntEnum):
    """How many arrays an operation takes."""

    UNARY = 1
    BINARY = 2
    TERNARY = 3


@dataclass(frozen=True)
class GradOpSpec:
    """A gradient and what is known of its operation.

    Args:
        backward_fn: `f(*inputs, compute_grad, grad_out, **op_ctx)`: the plain input arrays, a tuple of one bool per
            input, the cotangent of the result, and the keyword arguments of the operation. It gives a tuple with one
            array, or None, per input.
        op_type, op_inputs: what the operation does, and with how many arrays.
        forward_names: the names it is looked up by.
        constraints: for tests, the range (low, high) of each input, if not all numbers will do.
        skip_test, skip_reason: leave it out of generated tests, and why.
    Raises:
        ValueError: `skip_test` without a reason.
    """

    backward_fn: GradOp
    op_type: OpType
    op_inputs: OpInputs
    forward_names: tuple[str, ...]
    constraints: Any = None
    skip_test: bool = False
    skip_reason: str | None = None

    def __post_init__(self) -> None:
        if self.skip_test and not self.skip_reason:
            raise ValueError(explain("GradOpSpec", "skip_test is set without a reason", "give skip_reason"))


# ---- registering ---------------------------------------------------------------------------------------------------

_registered: dict[str, GradOpSpec] = {}


def register_grad_op(
    *,
    op_type: OpType,
    op_inputs: OpInputs,
    forward_names: Sequence[str] | None = None,
    constraints: Any = None,
    skip_test: bool = False,
    skip_reason: str | None = None,
) -> Callable[[GradOp], GradOp]:
    """Decorator: the function is the gradient of the operations `forward_names`; see `GradOpSpec` for its contract.

    Without names, its own name without the last `_part` is taken: `cube_backward` is the gradient of `cube`. A Tensor
    made with `Tensor(data, src=inputs, creator_op="cube", op_ctx={...})` is then differentiated by it. For the name of
    a ufunc that sadl has no gradient of, calls of that ufunc are differentiated, too; for the name of an operation of
    sadl's own, the gradient is replaced.

    Raises:
        ValueError: the name is that of a NumPy function that sadl composes of other operations.
    """

    def register(fn: GradOp) -> GradOp:
        names = tuple(forward_names or [fn.__name__.rpartition("_")[0] or fn.__name__])
        spec = GradOpSpec(fn, op_type, OpInputs(op_inputs), names, constraints, skip_test, skip_reason)
        for name in names:
            _put_into_table(normalize_grad_op_name(name=name), fn)
            _registered[normalize_grad_op_name(name=name)] = spec
        return fn

    return register


def _put_into_table(name: str, fn: GradOp) -> None:
    op = _new_op(name) if name not in OPS or (getattr(np, name, None) in FUNCTIONS and name in _SPECIAL) else OPS[name]
    op.pullback = functools.partial(_pullback, name, fn)
    op.differentiable = True


def _new_op(name: str) -> Op:
    load_rest()
    forward = getattr(np, name, None)
    if forward in FUNCTIONS:
        what = f"np.{name} is composed of other operations, whose gradients are used"
        raise ValueError(explain("register_grad_op", what, "choose another name"))
    if not isinstance(forward, np.ufunc) or forward in UFUNCS:
        return register_op(Op(name, functools.partial(_no_forward, name), "call", tested=False))
    op = register_op(Op(name, forward, "call", fn=forward, tested=False))
    UFUNCS[forward] = op
    return op


def _no_forward(name: str, *_: Any, **__: Any) -> Any:
    what = "only the gradient of this operation is known, not the operation itself"
    raise NotImplementedError(explain(name, what, "compute the result, then Tensor(result, src=..., creator_op=...)"))


def _pullback(name: str, fn: GradOp, g: Any, out: Any, *inputs: Any, **params: Any) -> Sequence[Any]:
    """The contract of the table, kept by a function of the contract of this module."""
    compute = tuple(np.result_type(plain(x)).kind in "fc" for x in inputs)
    grads = fn(*inputs, compute_grad=compute, grad_out=g, **params)
    if not isinstance(grads, (tuple, list)) or len(grads) != len(inputs):
        what = f"its gradient must give a tuple with one array or None for each of {len(inputs)} inputs"
        raise RuleError(explain(name, f"{what}, but gave {type(grads).__name__}", "return (grad_x, None), say"))
    return [g if g is None or hasattr(g, "dtype") else np.asarray(g) for g in grads]


# ---- looking up ----------------------------------------------------------------------------------------------------

_REDUCES = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min"}
_SPECIAL: dict[str, tuple[Callable[..., Any], OpType, int]] = {
    "mean": (np.mean, OpType.REDUCTION, 1),
    "copy_to_device": (lambda x, **_: np.copy(x), OpType.MOVEMENT, 1),
}
_TYPES = {"elementwise": OpType.ELEMENTWISE, "reduction": OpType.REDUCTION, "view": OpType.MOVEMENT}


def normalize_grad_op_name(*, name: str, is_reduce: bool = False) -> str:
    """The one name of an operation: `mul` is `multiply`, and the `reduce` of a ufunc has its own (`add`: `sum`)."""
    name = ALIASES.get(name, name)
    return _REDUCES.get(name, name) if is_reduce else name


def get_grad_op(name: str) -> GradOp | None:
    """The gradient of the operation `name`, with the contract of `GradOpSpec.backward_fn`, or None."""
    spec = get_grad_op_spec(name)
    return None if spec is None else spec.backward_fn


def get_grad_op_spec(name: str) -> GradOpSpec | None:
    """That gradient with what is known of the operation: one that was registered, one of sadl's own, or None."""
    name = normalize_grad_op_name(name=name)
    return _registered.get(name) or _spec_of_table(name)


def _spec_of_table(name: str) -> GradOpSpec | None:
    load_rest()
    names = (name, *(alias for alias, full in ALIASES.items() if full == name))
    if name in _SPECIAL:
        forward, op_type, n = _SPECIAL[name]
        return GradOpSpec(functools.partial(_by_vjp, forward), op_type, OpInputs(n), names)
    op, fn = OPS.get(name), getattr(np, name, None)
    if op is None or fn is None or not any(op.vjp or ()) or not (fn in UFUNCS or fn in FUNCTIONS):
        return None
    op_type, n = _TYPES.get(op.kind, OpType.LINALG), len(op.vjp or ())
    return GradOpSpec(functools.partial(_by_vjp, fn), op_type, OpInputs(n), names, op.domain or None)


def _by_vjp(
    forward: Callable[..., Any], *inputs: Any, compute_grad: Sequence[bool], grad_out: Any, **op_ctx: Any
) -> tuple[Any, ...]:
    """The gradient by the inputs that ask for one, from running `forward` with the others held constant."""
    chosen = [i for i, wanted in enumerate(compute_grad) if wanted]

    def of_chosen(*xs: Any) -> Any:
        given = dict(zip(chosen, xs, strict=True))
        return forward(*(given.get(i, x) for i, x in enumerate(inputs)), **op_ctx)

    _, pullback = vjp(of_chosen, *(inputs[i] for i in chosen))
    grads = dict(zip(chosen, pullback(grad_out), strict=True))
    return tuple(plain(grads.get(i)) for i in range(len(inputs)))


for _name, _special in _SPECIAL.items():  # so that they can be the creator of a Tensor, too
    _rule = functools.partial(_pullback, _name, functools.partial(_by_vjp, _special[0]))
    register_op(Op(_name, functools.partial(_no_forward, _name), "call", pullback=_rule, tested=False))


# ---- for writing gradients -----------------------------------------------------------------------------------------


def broadcastable(fn: GradOp) -> GradOp:
    """Decorator for a gradient: what it gives is summed over the axes that broadcasting added to each input."""

    @functools.wraps(fn)
    def wrapped(*inputs: Any, compute_grad: Sequence[bool], grad_out: Any, **op_ctx: Any) -> tuple[Any, ...]:
        grads = fn(*inputs, compute_grad=compute_grad, grad_out=grad_out, **op_ctx)
        return tuple(None if g is None else _sum_to(g, np.shape(x)) for g, x in zip(grads, inputs, strict=True))

    return wrapped


def _sum_to(grad: Any, shape: tuple[int, ...]) -> Any:
    extra = np.ndim(grad) - len(shape)
    added = tuple(i for i, n in enumerate(np.shape(grad)) if i < extra or (shape[i - extra] == 1 and n != 1))
    return np.reshape(np.sum(grad, axis=added, keepdims=True), shape) if added else grad


def make_axis(ndim: int, axis_candidate: Any) -> tuple[int, ...]:
    """NumPy's `axis` argument (None, an integer or a tuple) for `ndim` dimensions: sorted, not negative.

    Raises:
        numpy.exceptions.AxisError: an axis that is not there; it is a ValueError and an IndexError.
        ValueError: an axis given twice.
    """
    return axes(axis_candidate, ndim)
