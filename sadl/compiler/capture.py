"""capture: run a function once, for real, and write down every operation as a graph.

Takes a function and its arguments; gives what it returned, and a Capture: the equations, where each input came from
(an argument, an array or Tensor the function holds on to, a `.grad`), and what was written where.
Comparing two captures and compiling one is left to `api`.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sadl import watch
from sadl.compiler.ir import Eqn, Literal, Var, results_of
from sadl.errors import CaptureError, explain
from sadl.function import layer_called
from sadl.op import HOST, WRITES, Aval, Op
from sadl.tape import MODE, Mode, Traced, owner, plain, user_line
from sadl.tensor import CpuTensor, Tensor

MSG_READ = (
    "{how} reads a value into Python, but a compiled program decides nothing in Python: "
    "it would keep the value of the first call"
)
MSG_TAKEN = (
    "{how} takes the values of a Tensor out: a compiled program does not follow plain arrays, as np.asarray(t) gives "
    "them, and would keep those of the first call"
)
MSG_LEFT = "a plain array on the memory of a Tensor, as np.asarray(t) gives it, is not followed by a compiled program"

MSG_UNSEEN = (
    "a plain array from outside was read and then written in a way that is not followed, as by w[...] = t for an "
    "ndarray w, so a compiled program would not write it again; nothing was changed"
)
ADVICE_UNSEEN = "w -= t, np.copyto(w, t), or let w be a Tensor: sadl.tensor(w)"


@dataclass(frozen=True)
class Source:
    """Where an input of the program comes from on every call."""

    kind: str  # "arg": the index-th leaf of the arguments; "held": an object; "grad": a Tensor's `.grad`; "cotangent"
    index: int = -1
    held: Any = None
    where: str = ""


@dataclass(frozen=True)
class _Plain:
    """A plain array from outside."""

    raw: Any
    first: Any  # a copy of what it held
    value: Any  # what it has to hold now
    when: int  # this was noted
    where: str


class Capture:
    """A recorder that builds a graph. One is in force from `__enter__` to `__exit__`, in this context only."""

    def __init__(self) -> None:
        self.eqns: list[Eqn] = []
        self.inputs: list[Var] = []
        self.sources: list[Source] = []
        self.raws: list[Any] = []  # the arrays that were the inputs in this capture
        self.argument_ids: set[int] = set()  # of the arguments and of what stands for them
        self.tensors: list[Any] = []  # the objects that held them
        self.nodes: list[Any] = []  # and their nodes, before anything was written into them
        self.before: dict[int, Any] = {}  # id of a plain array that was written -> what it had held
        self.written: dict[int, Any] = {}  # id of a plain array -> the Tensor whose memory was written
        self.grads: dict[int, Any] = {}  # id of a Tensor -> the Tensor whose .grad was set
        self.guards: list[tuple[Callable[[], Any], Any]] = []
        self.modes: list[tuple[Any, bool]] = []  # Functions that were put into training (True) or inference mode
        self._mode_of: set[int] = set()  # ids of all within these
        self._read: dict[int, Any] = {}  # id of a Tensor -> its .grad as a Tensor
        self._undo: list[Callable[[], None]] = []
        self._env: dict[int, Var] = {}  # id of a plain array -> the value it holds now
        self._bound_at: dict[int, int] = {}  # the same -> when that was noted
        self._clock = itertools.count()
        self._changed: list[tuple[Any, int]] = []  # plain arrays that were written, and when
        self._alive: list[Any] = []  # an array with its id in _env must not be freed
        self._plain: dict[int, _Plain] = {}  # id of a plain array from outside -> what is known of it
        self._paths: dict[int, dict[int, str]] = {}  # of the layers in Functions that were called

    def __enter__(self) -> "Capture":
        self._before = MODE.get()
        MODE.set(Mode(self._before.grad, self))
        watch.start(self._hear)
        return self

    def __exit__(self, *_: Any) -> None:
        watch.stop(self._hear)
        MODE.set(self._before)

    # ---- what the tape tells ------------------------------------------------------------------------------------

    def record(self, op: Op, inputs: tuple[Any, ...], params: dict[str, Any], outs: tuple[Any, ...]) -> None:
        if op.expand is not None:
            expanded = op.expand(*inputs, **params)
            if expanded is not None:
                for out, part in zip(outs, results_of(expanded), strict=True):
                    self._bind(out, self.value(part))
                return
        out_vars = tuple(Var(Aval(o.shape, o.dtype)) for o in outs)
        layer = layer_called(self._paths) if op.kind == "call" else ""
        self.eqns.append(Eqn(op, tuple(map(self.value, inputs)), dict(params), out_vars, user_line(), layer))
        for out, var in zip(outs, out_vars, strict=True):
            self._bind(out, var)

    def rebind(self, pairs: list[tuple[Any, Any]], part: Any) -> None:
        """Each of these Tensors, which are views of one another, is about to hold that value, new in that part."""
        for target, _ in pairs:
            self.value(target)  # an array from outside becomes an input before its memory changes
            if id(target) in self._plain:
                self._require_followed(self._plain[id(target)])
        for target, _ in pairs:
            raw = plain(target)
            if id(raw) not in self.written:
                self.before[id(raw)] = before = raw.copy()
                self._undo.append(functools.partial(np.copyto, raw, before))
            self.written[id(raw)] = target
        self._changed.append((part, now := next(self._clock)))
        for target, value in pairs:
            array = self._plain.get(id(target))
            if array is not None:
                self._plain[id(target)] = replace(array, value=plain(value), when=now)
        for target, value in pairs:
            self._note(plain(target), self._env[id(plain(value))])

    def read(self, how: str, instead: str) -> None:
        advice = instead or "return the value and read it outside, or choose with np.where"
        raise CaptureError(explain("compile", MSG_READ.format(how=how), advice, made_at=user_line()))

    def _hear(self, event: watch.Event) -> None:
        """Refuse what takes values out without being recorded. (What is read into Python is refused by `read`.)"""
        if event.kind == watch.READ or event.in_lines or self._was_written(event):
            return
        found = watch.tensors_in(event.args) if event.function in HOST else watch.taken(event, "fciub", self._is_own)
        if any(self._is_own(t) or not _looks_at(event.result, t) for t in found):
            what = MSG_TAKEN.format(how=event.how)
            advice = "use the Tensor itself, np.stack([t, u]) for a list of Tensors"
            raise CaptureError(explain("compile", what, advice, made_at=user_line()))

    def _was_written(self, event: watch.Event) -> bool:
        """Whether a function took values out only to put them where it was told, in arrays that are followed."""
        result = event.args[0] if event.function in WRITES else event.result
        return all(id(r) in self.written for r in (result if isinstance(result, tuple) else (result,)))

    def _refuse_argument(self, tensor: Any) -> None:
        """The `.grad` of an argument belongs to another object on each call."""
        if id(tensor) in self.argument_ids:
            what = "the .grad of an argument is read or written, but each call has an argument of its own"
            advice = "let the function hold the Parameter, or use sadl.grad by the argument"
            raise CaptureError(explain("compile", what, advice, made_at=user_line()))

    def read_grad(self, tensor: Any) -> Any:
        self._refuse_argument(tensor)
        grad = tensor._grad
        if id(tensor) in self.grads or isinstance(grad, Traced):
            return grad
        if id(tensor) not in self._read:
            if not self._made_here(tensor):
                self.guards.append((lambda: _kind(tensor._grad), _kind(grad)))
            self._read[id(tensor)] = wrapped = None if grad is None else tensor._wrap(grad)
            if grad is not None:
                self._hold(wrapped, Source("grad", held=tensor))
        return self._read[id(tensor)]

    def write_grad(self, tensor: Any) -> None:
        self._refuse_argument(tensor)
        if id(tensor) not in self.grads:
            before = plain(tensor._grad)
            self._undo.append(lambda: setattr(tensor, "_grad", before))
        self.grads[id(tensor)] = tensor

    @contextmanager
    def attempt(self, keep: bool = True) -> Iterator[None]:
        """Drop what is recorded within unless it is to be kept; drop it in any case where it ends in an error."""
        n_eqns, n_inputs = len(self.eqns), len(self.inputs)
        try:
            yield
        except BaseException:
            keep = False
            raise
        finally:
            if not keep:
                self._cut(n_eqns, n_inputs)

    def _cut(self, n_eqns: int, n_inputs: int) -> None:
        for raw in self.raws[n_inputs:]:
            del self._env[id(raw)]
        rows: list[list[Any]] = [self.inputs, self.sources, self.raws, self.tensors, self.nodes]
        for values in rows:
            del values[n_inputs:]
        del self.eqns[n_eqns:]

    def forget(self) -> None:
        """Let go of everything that was made on the way."""
        for values in (self._env, self._bound_at, self._alive, self._changed, self._plain):
            values.clear()

    def forget_arguments(self) -> None:
        """Let go of the arrays that belong to one call only."""
        for i, source in enumerate(self.sources):
            if source.kind != "held":
                self.raws[i] = self.tensors[i] = None

    def commit(self) -> None:
        """What was written stays."""
        self._undo.clear()

    def roll_back(self) -> None:
        """Put everything that was written back to what it was."""
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()

    def read_mode(self, function: Any) -> None:
        if id(function) not in self._mode_of:
            value = function._is_training
            self.guards.append((lambda: function._is_training, value))

    def set_mode(self, function: Any, training: bool, parts: list[Any], undo: Callable[[], None]) -> None:
        self.modes.append((function, training))
        self._mode_of.update(map(id, parts))
        self._undo.append(undo)

    def set_attribute(self, function: Any, name: str, old: Any, value: Any) -> None:
        if not (old is value or (isinstance(value, (bool, int, float, str, type(None))) and old == value)):
            what = f"{type(function).__name__}.{name} is set, which a compiled program would not do again"
            advice = "return the value, or keep it in a sadl.Buffer: self.buffer[...] = value"
            raise CaptureError(explain("compile", what, advice, made_at=user_line()))

    def cotangents_last(self) -> None:
        """Move the stand-ins for cotangents behind the other inputs, some of which only the backward brought up."""
        order = sorted(range(len(self.inputs)), key=lambda i: self.sources[i].kind == "cotangent")
        rows: list[list[Any]] = [self.inputs, self.sources, self.raws, self.tensors, self.nodes]
        for values in rows:
            values[:] = [values[i] for i in order]

    def at_first(self, i: int) -> Any:
        """What the i-th input held when it came up."""
        return self.before.get(id(self.raws[i]), self.raws[i])

    def held_leaves(self) -> list[Any]:
        """The Tensors from outside that are leaves, with or without a gradient."""
        held = [s.held for s in self.sources if s.kind == "held"]
        return [t for t in held if isinstance(t, Tensor) and t.is_leaf()]

    # ---- values -------------------------------------------------------------------------------------------------

    def value(self, x: Any) -> Var | Literal:
        """The graph's name for an operand; an array nobody made here becomes an input."""
        if not isinstance(x, (Traced, np.ndarray)):
            x = np.bool_(x) if isinstance(x, bool) else x  # the one Python number that NumPy does not take for weak
            return Literal(x) if isinstance(x, (int, float, complex, np.generic)) else self.value(np.asarray(x))
        raw = plain(x)
        var = self._env.get(id(raw))
        if self._changed:
            self._check_current(raw)
        if var is None and self._made_here(owner(raw)):  # by something that was not recorded
            raise CaptureError(explain("compile", MSG_LEFT, "use the Tensor itself", made_at=user_line()))
        return self._hold(x, Source("held", held=x, where=user_line())) if var is None else var

    def _made_here(self, x: Any) -> bool:
        """Whether an equation made this array, or the value it holds now."""
        var = self._env.get(id(plain(x)))
        return var is not None and var not in self.inputs

    def _is_own(self, x: Any) -> bool:
        """Whether the value of this Tensor is made here, or another one on each call."""
        var = self._env.get(id(x._raw))
        return var is not None and (var not in self.inputs or self.sources[self.inputs.index(var)].kind != "held")

    def _check_current(self, raw: Any) -> None:
        """Memory written through one array may not be read through another: the graph knows values, not memory."""
        since = self._bound_at.get(id(raw), -1)
        if any(when > since and np.may_share_memory(a, raw) for a, when in reversed(self._changed)):
            what = "this array shares memory with one that was changed in place, which a compiled program cannot follow"
            raise CaptureError(
                explain("compile", what, "read it before the change, or change a copy", made_at=user_line())
            )

    def argument(self, x: Any, index: int) -> Var:
        return self._hold(x, Source("arg", index))

    def cotangent(self, x: Any) -> Var:
        return self._hold(x, Source("cotangent"))

    def _hold(self, x: Any, source: Source) -> Var:
        raw = plain(x)
        var = Var(Aval(raw.shape, raw.dtype))
        self.inputs.append(var)
        self.sources.append(source)
        self.raws.append(raw)
        self.tensors.append(x)
        self.nodes.append(getattr(x, "_node", None))
        if source.kind == "held" and x is raw:
            first = raw.copy()
            self._plain[id(raw)] = _Plain(raw, first, first, next(self._clock), source.where)
        self._note(raw, var)
        return var

    def _note(self, raw: Any, var: Var) -> None:
        self._env[id(raw)] = var
        self._bound_at[id(raw)] = next(self._clock)

    def _bind(self, out: Any, var: Var | Literal) -> None:
        raw = plain(out)
        if id(raw) in self._env:  # the library gave back an array that has a name already
            out._raw = raw = raw.view()
        self._note(raw, var)  # type: ignore[arg-type]
        self._alive.append(raw)

    def require_followed(self) -> None:
        """Refuse changes of plain arrays that nobody was told of: `w[...] = t` for an ndarray `w`, or by NumPy."""
        for array in self._plain.values():
            self._require_followed(array)

    def _require_followed(self, array: "_Plain") -> None:
        partly = any(when > array.when and np.may_share_memory(array.raw, a) for a, when in self._changed)
        if not partly and array.raw.tobytes() != array.value.tobytes():
            self._undo.insert(0, functools.partial(np.copyto, array.raw, array.first))  # the last to be done
            raise CaptureError(explain("compile", MSG_UNSEEN, ADVICE_UNSEEN, made_at=array.where))

    # ---- the result ---------------------------------------------------------------------------------------------

    def writes(self) -> list[tuple[Any, int]]:
        """(Tensor, position of its input) for every array from outside that has another value now."""
        place = {id(raw): i for i, raw in enumerate(self.raws)}
        found = [(tensor, place[i]) for i, tensor in self.written.items() if i in place]
        return [(tensor, i) for tensor, i in found if self._env[id(plain(tensor))] is not self.inputs[i]]


def _kind(grad: Any) -> str | None:
    return None if grad is None else grad.dtype.str  # not the dtype itself: float64 is equal to None


def _looks_at(result: Any, tensor: Any) -> bool:
    """Whether a result is the memory of `tensor`, and so what that holds in later calls as well."""
    return isinstance(result, np.ndarray) and np.may_share_memory(result, plain(tensor))


def fresh(array: Any) -> Any:
    """A Tensor on the memory of `array` (an array or a Tensor) that the function under capture can be given."""
    raw = plain(array)
    tensor = np.ndarray.view(raw, CpuTensor)
    tensor._raw = raw.view()
    return tensor
