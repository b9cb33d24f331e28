"""bind(): the one place where an operation on Tensors runs, is differentiated later (Node) and is captured (recorder).

Takes an Op, its inputs and its params; gives the result in the inputs' own class, with a Node if a gradient is wanted.
What a Tensor offers is left to `tensor`, walking the nodes backward to `autograd`, building a graph to the compiler.
"""

import functools
import itertools
import sys
import weakref
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.lib.array_utils import byte_bounds

from sadl.errors import GradientError, ShapeError, StaleValueError, UnrecordedError, explain
from sadl.op import Op

F = TypeVar("F", bound=Callable[..., Any])


class Recorder(Protocol):
    """What `sadl.compile` installs to see every operation: same tape, second listener."""

    def record(self, op: Op, inputs: tuple[Any, ...], params: dict[str, Any], outs: tuple[Any, ...]) -> None: ...
    def rebind(self, pairs: list[tuple[Any, Any]], part: Any) -> None: ...
    def read(self, how: str, instead: str) -> None: ...
    def read_grad(self, tensor: Any) -> Any: ...
    def write_grad(self, tensor: Any) -> None: ...
    def read_mode(self, function: Any) -> None: ...
    def set_mode(self, function: Any, training: bool, parts: list[Any], undo: Callable[[], None]) -> None: ...
    def set_attribute(self, function: Any, name: str, old: Any, value: Any) -> None: ...
    def value(self, x: Any) -> Any: ...


class Mode:
    """What is in force in this context: recording gradients, and who else listens."""

    __slots__ = ("grad", "recorder", "before")

    def __init__(self, grad: bool, recorder: Recorder | None, before: "Mode | None" = None) -> None:
        self.grad, self.recorder = grad, recorder
        self.before = before  # what `no_grad` and `enable_grad` go back to


MODE: ContextVar[Mode] = ContextVar("sadl_mode", default=Mode(True, None))  # noqa: B039  never changed in place

_ticks = itertools.count(1)  # one clock for nodes and writes: later things have larger ticks
tick = _ticks.__next__


class Node:
    """One recorded operation. A leaf has no op and knows its Tensor; nobody else does, so no reference cycle arises."""

    __slots__ = ("op", "inputs", "parents", "params", "out", "tick", "tensor", "__weakref__")

    def __init__(self, op: Any, inputs: Any, parents: Any, params: dict[str, Any], out: Any) -> None:
        self.op, self.inputs, self.parents, self.params, self.out = op, inputs, parents, params, out
        self.tick = tick()
        self.tensor: Any = None  # weak reference to the Tensor whose .grad is to be filled, if any


class Traced:
    """The part of a Tensor that the tape knows: its plain array and its node."""

    if TYPE_CHECKING:  # what the array class of the device has, and what `tensor` adds to it
        dtype: np.dtype
        shape: tuple[int, ...]
        ndim: int
        size: int

        def __array__(self, dtype: Any = None, *, copy: bool | None = None) -> np.ndarray: ...
        def __getattr__(self, name: str) -> Any: ...
        def _operator(self, *other: Any) -> Any: ...

        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __matmul__ = __rmatmul__ = _operator
        __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = _operator
        __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __neg__ = __pos__ = __abs__ = _operator
        __invert__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _operator
    else:
        __slots__ = ()
    _raw: Any = None  # the same memory as a plain array; made on first use
    _node: Any = None  # its Node; None: no gradient flows here
    _base: Any = None  # of a view: weak reference to the Tensor it is a view of, the operation, its params
    _version: int = 0  # how often its memory had been written, under gradients, when it was last known to be current
    _array: type  # ndarray or cupy.ndarray

    def _plain(self) -> Any:
        raise NotImplementedError

    def _wrap(self, array: Any) -> Any:
        raise NotImplementedError


ITEM = Op(  # one result of an operation with several, whose cotangent is a list with one for each
    "item",
    lambda outs, *, index, of: outs[index],
    "call",
    (lambda g, y, outs, *, index, of: [g if i == index else None for i in range(of)],),
)
ALIAS = Op("alias", lambda x: x, "view", (lambda g, y, x: g,))  # the same value under a node of its own


def plain(x: Any) -> Any:
    """The plain array of a Tensor; anything else as it is."""
    if isinstance(x, Traced):
        return x._plain() if x._raw is None else x._raw
    return x


def arrayed(x: Any) -> Any:
    """Nested lists as one array, or as one Tensor if there is a Tensor in them; anything else as it is."""
    if not isinstance(x, (list, tuple)):
        return x
    parts = [arrayed(v) for v in x]
    return np.stack(parts) if any(isinstance(v, Traced) for v in parts) else np.asarray(x)


def as_array(x: Any) -> Any:
    """Anything as an array, or as a Tensor if there is one in it."""
    x = arrayed(x)
    return x if hasattr(x, "dtype") else np.asarray(x)


def known(x: Any) -> Any:
    """The plain value of `x`, where it decides what is done or about shapes; an error under capture."""
    if isinstance(x, Traced):
        x.tolist()
    return plain(x)


def bind(op: Op, *inputs: Any, **params: Any) -> Any:
    """Run `op` on plain arrays, wrap the result like the first Tensor among `inputs`, and record it where needed."""
    raws: list[Any] = []
    parents: list[Node | None] = []
    first = None
    tracked = False
    for x in inputs:
        if isinstance(x, Traced):
            first = x
            node = x._node
            if node is not None:
                tracked = True
            parents.append(node)
            raw = x._raw
            raws.append(x._plain() if raw is None else raw)
        elif x.__class__ in _SEQUENCES:
            return bind(op, *map(arrayed, inputs), **params)
        else:
            parents.append(None)
            raws.append(x)
    if first is None:
        return op.run(*raws, **params)
    mode = MODE.get()
    tracked = tracked and mode.grad
    if tracked and op.vjp is None and op.pullback is None:
        raise UnrecordedError(_no_gradient(op))
    if versions and op.differentiable:
        check_current(op.name, *inputs if op.pullback else itertools.compress(inputs, op.vjp or ()))
    try:
        out = op.run(*raws, **params) if params else op.run(*raws)
    except (ValueError, TypeError, IndexError) as error:
        raise _located(op, raws, error) from None
    tracked = tracked and op.differentiable
    if op.outs != 1:
        return _bind_many(op, inputs, raws, parents, params, out, first, mode, tracked)
    result = first._wrap(out)
    if op.unview is not None:
        result._base = (weakref.ref(first), op, params)
    if tracked and (raw := result._raw).dtype.kind in "fc":
        result._node = Node(op, raws, parents, params, raw)
    if mode.recorder is not None:
        mode.recorder.record(op, inputs, params, (result,))
    return result


_SEQUENCES = {list, tuple}


def _bind_many(
    op: Op, inputs: Any, raws: Any, parents: Any, params: Any, out: Any, first: Traced, mode: Mode, tracked: bool
) -> Any:
    """The same for an operation with several results: one node for all, and one that picks each."""
    results = tuple(first._wrap(o) for o in out)
    if tracked:
        node = Node(op, raws, parents, params, tuple(r._raw for r in results))
        for i, result in enumerate(results):
            if result.dtype.kind in "fc":
                result._node = item_node(node, i)
    if mode.recorder is not None:
        mode.recorder.record(op, inputs, params, results)
    return results


def item_node(node: Node, index: int) -> Node:
    """The node of one of the results of `node`."""
    return Node(ITEM, [None], [node], {"index": index, "of": len(node.out)}, node.out[index])


def _no_gradient(op: Op) -> str:
    what = "has no gradient rule, so its result on a Tensor that requires a gradient would be wrong"
    return explain(op.name, what, "call it under sadl.no_grad(), or add a rule (CONTRIBUTING.md, 'Adding an op')")


def _located(op: Op, raws: Any, error: Exception) -> Exception:
    """NumPy's error with the operation and the operands in front of it."""
    operands = " and ".join(f"{x.dtype} {x.shape}" for x in raws if hasattr(x, "dtype"))
    text = explain(op.name, f"{error}; operands: {operands}")
    if type(error) is ValueError:
        return ShapeError(text)
    return type(error)(text) if type(error) in (TypeError, IndexError) else error


# ---- grad mode -------------------------------------------------------------------------------------------------


def is_grad_enabled() -> bool:
    return MODE.get().grad


def set_global_grad_mode(enabled: bool) -> None:
    """Switch the recording of gradients on or off, in this thread and context, until it is changed again."""
    mode = MODE.get()
    MODE.set(Mode(bool(enabled), mode.recorder, mode.before))


class _GradMode:
    """Context manager and decorator; one instance may be entered several times, also in several threads at once."""

    grad = True

    def __enter__(self) -> "_GradMode":
        before = MODE.get()
        MODE.set(Mode(self.grad, before.recorder, before))
        return self

    def __exit__(self, *_: Any) -> None:
        before = MODE.get().before
        assert before is not None
        MODE.set(before)

    def __call__(self, fn: F) -> F:
        @functools.wraps(fn)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return fn(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


class no_grad(_GradMode):
    """Within it nothing is recorded for gradients: `with sadl.no_grad(): ...` or `@sadl.no_grad()`."""

    grad = False


class enable_grad(_GradMode):
    """Within it gradients are recorded, even inside `no_grad`."""

    grad = True


def no_grad_fn(fn: F) -> F:
    """Decorator: `fn` runs without recording gradients; its name, documentation and signature stay."""
    return no_grad()(fn)


# ---- memory that was written in place --------------------------------------------------------------------------

# id of the owner of the memory -> weak reference to it, tick of the last write to anywhere in it, and later writes to
# parts of it, as (first byte, byte behind the last, tick)
_written: dict[int, tuple[Any, int, list[tuple[int, int, int]]]] = {}
_MOST_PARTS = 4096  # then they are taken for one write to all of it


def owner(array: Any) -> Any:
    """The array that owns the memory `array` looks at."""
    while isinstance(array.base, (array.__class__, np.ndarray)):
        array = array.base
    return array


def touch(array: Any) -> None:
    """Note that the elements of `array` were written in place just now."""
    root = owner(array)
    if array.size == root.size:
        toucher([array])()
        return
    if id(root) not in _written:
        _written[id(root)] = _forgetting(root), 0, []
    elif len(_written[id(root)][2]) == _MOST_PARTS:
        toucher([array])()
    now = _last_write[0] = tick()
    _written[id(root)][2].append((*byte_bounds(array), now))


_last_write = [0]  # the tick of the last write anywhere


def toucher(arrays: Iterable[Any]) -> Callable[[], None]:
    """A function that notes that the memory of all `arrays` was written, for those who write the same ones often."""
    owners = {id(root): root for root in map(owner, arrays)}
    refs = {key: _forgetting(root) for key, root in owners.items()}

    def touch_all() -> None:
        now = _last_write[0] = tick()
        for key, ref in refs.items():
            _written[key] = ref, now, []

    return touch_all


def _forgetting(root: Any) -> Any:
    """A weak reference with which what is known of the writes to this memory goes."""
    return weakref.ref(root, lambda _, key=id(root): _written.pop(key, None))  # type: ignore[misc]


class Version:
    """How often memory was written while gradients were recorded."""

    __slots__ = ("count", "owner")

    def __init__(self, root: Any) -> None:
        self.count = 0
        self.owner = weakref.ref(root, lambda _, key=id(root): versions.pop(key, None))  # type: ignore[misc]


versions: dict[int, Version] = {}  # by the id of the owner of the memory


def version(array: Any) -> int:
    """How often the memory of `array` was written while gradients were recorded."""
    found = versions.get(id(owner(array))) if versions else None
    return 0 if found is None else found.count


def new_version(array: Any) -> int:
    """Note that the memory of `array` was written: a Tensor on that memory that does not know of it is out of date."""
    root = owner(array)
    found = versions.setdefault(id(root), Version(root))
    found.count += 1
    return found.count


def check_current(name: str, *values: Any) -> None:
    """A Tensor must not be used after its memory was written through another: it and its node know nothing of that."""
    mode = MODE.get()
    if not mode.grad or mode.recorder is not None:
        return
    for x in values:
        if isinstance(x, Traced) and x._version != version(x._plain()):
            what = "an operand shares memory with another Tensor, which was changed in place since"
            raise StaleValueError(explain(name, what, "take the view again after the change, or change a copy"))


def written_last() -> int:
    """The tick of the last in-place write to any memory that still exists, 0 if there was none."""
    return _last_write[0] if _written else 0


def written_at(array: Any) -> int:
    """The tick of the last in-place write to the elements of `array`, or close to them, 0 if there was none."""
    if not _written or not hasattr(array, "base"):
        return 0
    root = owner(array)
    ref, when, parts = _written.get(id(root), (None, 0, []))
    if ref is None or ref() is not root:
        return 0
    if parts:
        start, end = byte_bounds(array)
        return next((at for first, last, at in reversed(parts) if first < end and start < last), when)
    return when


# ---- which Tensors are leaves that require a gradient ----------------------------------------------------------

_leaf_epoch = [0]


def leaf_epoch() -> int:
    """A number that changes whenever a Tensor starts or ceases to require a gradient other than by being computed."""
    return _leaf_epoch[0]


def new_leaf_epoch() -> None:
    _leaf_epoch[0] = tick()


# ---- where in the user's code ----------------------------------------------------------------------------------

_PACKAGE = str(Path(__file__).parent) + "/"
_NUMPY = str(Path(np.__file__).parent) + "/"


def user_line() -> str:
    """`file.py:line` of the innermost frame that is neither sadl's nor NumPy's."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith((_PACKAGE, _NUMPY, "<frozen")):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def require_float(dtype: np.dtype, who: str) -> None:
    """Only floating (or complex) values can carry a gradient."""
    if dtype.kind not in "fc":
        what = f"only floating-point values can require a gradient, found {dtype}"
        raise GradientError(explain(who, what, "convert with .astype(np.float32) first"))
