"""What an operation is: the Op record, its kind, what it infers, and the registry NumPy's calls are looked up in.

Takes nothing but NumPy; gives `Op`, the four family constructors, `Aval` and the tables that `ops/` fills.
Running, recording and differentiating an operation are left to `tape` and `autograd`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

Rule = Callable[..., Any]  # vjp_i(g, out, *inputs, **params) -> the cotangent of input i


class Aval(NamedTuple):
    """What is known of a value without having it: shape and dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def __str__(self) -> str:
        return f"{self.dtype.kind}{self.dtype.itemsize * 8}[{','.join(map(str, self.shape))}]"

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(eq=False, slots=True)
class Op:
    """One operation, defined once: see "Adding an op" in CONTRIBUTING.md for each field at work."""

    name: str
    run: Callable[..., Any]  # on plain arrays, with normalised params
    kind: str  # elementwise | reduction | view | call
    vjp: tuple[Rule | None, ...] | None = None  # one per input; None: no gradient by that input
    pullback: Callable[..., Sequence[Any]] | None = None  # all cotangents at once, where rules share work
    expr: str = ""  # elementwise: the scalar expression; reduction: how {acc} takes in {x}
    identity: Any = None  # reduction: the start of the accumulator; None: the dtype's own extreme
    infer: Callable[..., Aval] | None = None  # (*avals, **params); for the kinds that cannot tell
    unview: Callable[..., Any] | None = None  # view(x, part, **params): the value of x once the view of it holds `part`
    expand: Callable[..., Any] | None = None  # the same in terms of other ops, or None where it does not apply
    fn: Any = None  # the public NumPy function, for tests and docs
    domain: tuple[tuple[float, float], ...] = ()  # where to sample each input in the generated tests
    tested: bool = True  # False: the generated tests cannot call it with arrays alone
    open_size: Callable[..., bool] = lambda *_, **__: False  # (*avals, **params): the shape depends on values
    outs: int = 1
    by_shape: bool = False  # only the shape of its input matters
    checks: bool = False  # it can raise an error about values, so it runs even if its result is not used
    fails: bool = False  # it can raise an error about values, but nobody misses that if its result is not used
    differentiable: bool = field(init=False)

    def __post_init__(self) -> None:
        self.differentiable = self.pullback is not None or any(rule is not None for rule in self.vjp or ())

    def __repr__(self) -> str:
        return self.name

    def aval(self, *avals: Any, **params: Any) -> Aval:
        """Shape and dtype of the result, from those of the inputs (an `Aval` or a Python scalar each)."""
        return (self.infer or _INFER[self.kind])(self, *avals, **params)


OPS: dict[str, Op] = {}
ALIASES = {"abs": "absolute", "mul": "multiply", "div": "divide"}  # other names by which an op may be asked for
UFUNCS: dict[np.ufunc, Op] = {}
FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {}  # NumPy function -> sadl's function of that signature
UFUNC_METHODS: dict[tuple[np.ufunc, str], Callable[..., Any]] = {}  # (np.add, "reduce") -> the same
METHODS: dict[str, Callable[..., Any]] = {}  # ndarray method -> the same
HOST: set[Callable[..., Any]] = set()  # functions that read values into Python: not differentiable, not capturable
CONSTANT: set[Callable[..., Any]] = set()  # functions whose result is constant almost everywhere: no gradient, allowed
METADATA: set[Callable[..., Any]] = set()  # functions of shape and dtype only
WRITES: dict[
    Any, Callable[..., Any]
] = {}  # function that changes its first argument, or method's name -> its new value


def register(op: Op) -> Op:
    if op.name in OPS:
        raise ValueError(f"[register] an op named {op.name!r} exists already. Instead: choose another name.")
    OPS[op.name] = op
    return op


def elementwise(
    fn: Callable[..., Any], expr: str = "", vjp: Sequence[Rule | None] | None = None, name: str = "", **more: Any
) -> Op:
    """An operation on each element by itself, with broadcasting: `expr` is its scalar expression."""
    more.setdefault("run", fn)
    op = register(Op(name or fn.__name__, kind="elementwise", vjp=_tuple(vjp), expr=expr, fn=fn, **more))
    if isinstance(fn, np.ufunc):
        UFUNCS[fn] = op
    return op


def reduction(
    name: str, ufunc: np.ufunc, expr: str, identity: Any, vjp: Sequence[Rule | None] | None, **more: Any
) -> Op:
    """A reduction over `axis` (a sorted tuple) with `keepdims`, combining by `expr` from `identity`."""
    return register(Op(name, ufunc.reduce, "reduction", _tuple(vjp), expr=expr, identity=identity, **more))


def view(name: str, run: Callable[..., Any], vjp: Sequence[Rule | None] | None, **more: Any) -> Op:
    """An operation that only changes how memory is looked at: shape, strides, offset."""
    return register(Op(name, run, "view", _tuple(vjp), **more))


def call(name: str, run: Callable[..., Any], vjp: Sequence[Rule | None] | None = None, **more: Any) -> Op:
    """A library routine, run as it is."""
    return register(Op(name, run, "call", _tuple(vjp), **more))


def numpy_function(*functions: Callable[..., Any], method: str = "", ufunc_method: Any = None) -> Callable[..., Any]:
    """Decorator: this function, of NumPy's own signature, stands for `functions` (and a method) on Tensors."""

    def add(body: Callable[..., Any]) -> Callable[..., Any]:
        FUNCTIONS.update((function, body) for function in functions)
        if method:
            METHODS[method] = body
        if ufunc_method:
            UFUNC_METHODS[ufunc_method] = body
        return body

    return add


def writing(*functions: Any) -> Callable[[Any], Any]:
    """Decorator: this function gives what the first argument of `functions` holds after a call with these arguments."""

    def add(body: Any) -> Any:
        WRITES.update(dict.fromkeys(functions, body))
        return body

    return add


def axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes meant by NumPy's `axis` argument: sorted, non-negative, each once."""
    if axis is None:
        return tuple(range(ndim))
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    given = axis if isinstance(axis, tuple) else (axis,)
    if ndim == 0 and given in ((0,), (-1,)):  # NumPy lets a number pass for a row
        return ()
    found = tuple(sorted(_axis(int(a), ndim) for a in given))
    if len(set(found)) != len(found):
        raise ValueError(f"[axis] duplicate value in axis={axis}.")
    return found


def _axis(a: int, ndim: int) -> int:
    if not -ndim <= a < ndim:
        raise np.exceptions.AxisError(a, ndim)
    return a % ndim


def inverse(order: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes `order`."""
    return tuple(int(i) for i in np.argsort(order))


def loop_dtypes(op: Op, *avals: Any) -> tuple[np.dtype, ...]:
    """The dtypes an elementwise op computes in: one per input, then the output's, as NumPy (NEP 50) decides."""
    kinds: list[Any] = [np.dtype(bool) if isinstance(a, bool) else getattr(a, "dtype", type(a)) for a in avals]
    if isinstance(op.fn, np.ufunc):
        return op.fn.resolve_dtypes((*kinds, None))
    if op.name == "where":
        value = np.result_type(*(_weak(a) for a in avals[1:]))
        return np.dtype(bool), value, value, value
    return kinds[0], kinds[0]


def _weak(a: Any) -> Any:
    return a.dtype if isinstance(a, Aval) else a


def _shape(a: Any) -> tuple[int, ...]:
    return a.shape if isinstance(a, Aval) else ()


def _infer_elementwise(op: Op, *avals: Any) -> Aval:
    return Aval(np.broadcast_shapes(*map(_shape, avals)), loop_dtypes(op, *avals)[-1])


def _infer_reduction(op: Op, a: Aval, *, axis: tuple[int, ...], keepdims: bool) -> Aval:
    kept = tuple(1 if i in axis else n for i, n in enumerate(a.shape) if keepdims or i not in axis)
    return Aval(kept, op.run(np.ones((1,), a.dtype), axis=(0,), keepdims=False).dtype)


def _infer_by_probe(op: Op, *avals: Any, **params: Any) -> Aval:
    """Views cost nothing, so run them on an array of that shape whose strides are all zero."""
    out = op.run(*(probe(a) for a in avals), **params)
    return Aval(out.shape, out.dtype)


def _infer_nothing(op: Op, *avals: Any, **params: Any) -> Any:
    return None  # a library routine without `infer=`: its result is taken as it was when captured


def probe(a: Any) -> Any:
    return np.broadcast_to(np.empty((), a.dtype), a.shape) if isinstance(a, Aval) else a


def _tuple(vjp: Sequence[Rule | None] | None) -> tuple[Rule | None, ...] | None:
    return None if vjp is None else tuple(vjp)


_INFER: dict[str, Callable[..., Any]] = {
    "elementwise": _infer_elementwise,
    "reduction": _infer_reduction,
    "view": _infer_by_probe,
    "call": _infer_nothing,
}
