"""api: sadl.compile and sadl.make_ir.

Takes a Function, a plain function or a whole training step; gives a Compiled that runs it as programs, one for each
signature. The first two calls with a signature run the Python under capture, to see whether both do the same. What they
give is the program's already.
"""

import contextlib
import functools
import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sadl.compiler.cache import Kernel
from sadl.compiler.ir import Graph, print_graph, verify
from sadl.compiler.runner import Runner
from sadl.compiler.shot import Shot, same, take
from sadl.config import config
from sadl.errors import SizeChangedError, explain
from sadl.function import structure_epoch
from sadl.kernels import store
from sadl.tape import MODE, Traced, leaf_epoch
from sadl.tensor import CpuParameter, CpuTensor
from sadl.tree import Structure, flatten

log = logging.getLogger("sadl.compiler")


MAX_UNUSED = 64
MAX_ENTRIES = 16  # programs kept for one signature, for different modes and data-dependent sizes
ADVICE_SIZES = "Sizes that depend on values are better avoided: np.where(mask, t, 0) in place of t[mask]."
ADVICE_SIGNATURES = "A number that changes from call to call is better an array: np.float32(lr), or state in a Tensor."


@dataclass
class Stats:
    """What a compiled function has cost so far."""

    captures: int = 0  # calls that ran the Python under capture
    programs: int = 0
    kernels_compiled: int = 0
    cache_hits: int = 0  # kernels found on disk
    compile_seconds: float = 0.0  # from captures to programs that can run


def compile(fn: Callable[..., Any]) -> "Compiled":
    """Compile `fn`, a Function or a function of arrays, to fused kernels. Also a decorator.

    The first call with a new signature (shapes, dtypes, nesting, other arguments, modes) runs `fn` and records what it
    does; the second runs it again and compares, so that nothing that changed in between is baked in; later ones run
    the program alone. What `fn` returns, and every array it changes, are as in eager mode but for rounding, and are
    those of the program from the first call on: a run that is interrupted and goes on has the same bits.

    Raises (when called):
        CaptureError: `fn` reads a value into Python, or did something else the second time. Nothing is changed then,
            nor by an error that values cause while a program runs: an index out of range, a singular matrix.
    """
    if not callable(fn):
        raise TypeError(explain("compile", f"a Function or a function is needed, found a {type(fn).__name__}"))
    return Compiled(fn)


def make_ir(fn: Callable[..., Any]) -> Callable[..., Graph]:
    """A function that calls `fn` once, for real, under capture, and gives the graph of what it did."""
    return lambda *args, **kwargs: verify(take(fn, *flatten((args, kwargs))).graph)


class Compiled:
    """A function, or a Function, that runs as compiled programs. Attributes of the original are reached through it."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        functools.update_wrapper(self, fn, updated=())
        self.fn = fn
        self.stats = Stats()
        self._entries: dict[Any, list[_Entry]] = {}
        self._latest: tuple[_Entry | None, Any] = None, None  # the last first capture, and the program of its call
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["fn"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        """An attribute of the original is set there: `compiled.requires_grad = False` freezes the model."""
        if "fn" in self.__dict__ and name not in self.__dict__ and hasattr(self.fn, name):
            setattr(self.fn, name, value)
        else:
            object.__setattr__(self, name, value)

    def __reduce__(self) -> Any:
        """A copy has programs of its own."""
        return Compiled, (self.fn,)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a decorator of methods: bound like any function."""
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        mode = MODE.get()
        if mode.recorder is not None or not config.compile:
            return self.fn(*args, **kwargs)
        leaves, structure = _flatten_call(args, kwargs)
        entries = self._entries.setdefault((structure, mode.grad, *map(_describe, leaves)), [])
        result = _run_program(entries, leaves)
        if result is not _NO_PROGRAM:
            return result
        with self._lock:
            result = _run_program(entries, leaves)  # another thread may have been faster
            return self._capture(entries, leaves, structure) if result is _NO_PROGRAM else result

    def prepare(self, *args: Any, **kwargs: Any) -> None:
        """Build the program for calls like this one, and put back everything that the function changes meanwhile.

        Runs the Python twice. Without it the first two calls do this, and take longer than later ones.
        """
        mode = MODE.get()
        if mode.recorder is not None or not config.compile:
            return
        leaves, structure = _flatten_call(args, kwargs)
        entries = self._entries.setdefault((structure, mode.grad, *map(_describe, leaves)), [])
        with self._lock:
            for _ in range(2):
                if not any(e.runner is not None and e.holds() for e in entries):
                    self._capture(entries, leaves, structure, run=False)

    def _capture(self, entries: "list[_Entry]", leaves: list[Any], structure: Structure, run: bool = True) -> Any:
        """Run the Python, put back what it has changed, and `run` the program in its place: the last bits of what a
        call gives do not depend on how often the function was called before. The second of two equal captures is
        enough for later calls.
        """
        waiting = [e for e in entries if e.runner is None and e.holds()]
        shot = take(self.fn, leaves, structure)
        self.stats.captures += 1
        entry = next((e for e in waiting if e.shot.sizes == shot.sizes), None)
        try:
            runner = self._first(entries, shot) if entry is None else self._second(entry, shot)
        finally:
            shot.capture.roll_back()
        try:
            return runner(leaves) if run else None
        except SizeChangedError:  # kernels may round otherwise than NumPy, so that a comparison comes out otherwise
            shot = take(self.fn, leaves, structure)
            shot.capture.commit()
            return shot.result

    def _first(self, entries: "list[_Entry]", shot: Shot) -> Runner:
        """Note a capture, and give a program for this call alone: what is constant in it is not known yet."""
        runner = self._build(shot, set())
        entries[:] = [e for e in entries if e.epoch == structure_epoch()][-MAX_ENTRIES:]
        entries.append(_Entry(shot, self.fn))
        self._latest = entries[-1], runner
        self._drop_unused()
        if len(entries) == MAX_ENTRIES:
            log.warning("%r: %d programs for one signature. %s", self, MAX_ENTRIES, ADVICE_SIZES)
        return runner

    def _second(self, entry: "_Entry", shot: Shot) -> Runner:
        """Compare with the first capture, and keep a program: that of the first call if it is at hand."""
        constants = same(entry.shot, shot)
        latest, runner = self._latest
        if constants or latest is not entry:
            runner = self._build(shot, constants)
        self._latest = None, None
        entry.runner, entry.shot = runner, runner.shot
        runner.shot.capture.before.clear()  # copies of all state, which nobody looks at any more
        self.stats.programs += 1
        if config.debug >= 1:
            kernels = sum(len(p.kernels) for p in runner.programs)
            text = f"{len(shot.graph.eqns)} operations -> {kernels} kernels; {self.stats}"
            print(f"[compile] {self!r}: {text}", file=sys.stderr)
        return runner

    def _drop_unused(self) -> None:
        """Forget the oldest signatures that came only once; many of them mean a number that should be an array."""
        once = [key for key, entries in self._entries.items() if all(e.runner is None for e in entries)]
        if len(once) > MAX_UNUSED:
            del self._entries[once[0]]
        if len(once) == MAX_UNUSED:
            log.warning("%r: %d signatures were called once only. %s", self, MAX_UNUSED, ADVICE_SIGNATURES)

    def _build(self, shot: Shot, constants: set[int]) -> Runner:
        start, before = time.perf_counter(), replace(store.stats)
        runner = Runner(shot, constants)
        stats = self.stats
        stats.kernels_compiled += store.stats.compiled - before.compiled
        stats.cache_hits += store.stats.loaded - before.loaded
        stats.compile_seconds += time.perf_counter() - start
        return runner

    def __repr__(self) -> str:
        return f"compile({getattr(self.fn, '__qualname__', None) or repr(self.fn)})"

    @property
    def _runners(self) -> list[Runner]:
        return [e.runner for entries in self._entries.values() for e in entries if e.runner is not None]

    @property
    def graph(self) -> Graph | None:
        """The captured graph of the newest program, or None before there is one."""
        return self._runners[-1].graph if self._runners else None

    @property
    def kernels(self) -> list[Kernel]:
        """The kernels of all programs, each once; `.source` is its text and `.path` its file."""
        return list({k.name: k for r in self._runners for p in r.programs for k in p.kernels}.values())

    def explain(self) -> str:
        """For each program: the operations with the user's lines, grouped into kernels, and the calls to libraries."""
        parts = [f"{self!r}: {self.stats}"]
        for runner in self._runners:
            for program in runner.programs:
                calls = ", ".join(f"{e.op.name} ({e.where})" for e in program.library_calls)
                n = len(program.library_calls)
                parts.append(print_graph(program.plan.graph, lines=True))
                parts.append(
                    f"{len(program.kernels)} kernels; {n} library calls{': ' if n else ''}{calls}; "
                    f"arena {program.plan.arena_bytes} bytes"
                )
        return "\n".join(parts)


class _Entry:
    """What is known of one signature: a shot, then a runner. It holds while the modes it saw are as they were."""

    def __init__(self, shot: Shot, fn: Any) -> None:
        self.shot = shot
        self._surroundings = surroundings(fn)
        self.runner: Runner | None = None
        self.epoch = structure_epoch()
        self._guards = shot.capture.guards
        self._leaves = [(t, t._node is None) for t in shot.capture.held_leaves()]
        self._leaf_epoch = leaf_epoch()

    def holds(self) -> bool:
        if self.epoch != structure_epoch() or (self._leaf_epoch != leaf_epoch() and not self._same_leaves()):
            return False
        if self.runner is not None and any(_differs(read(), value) for read, value in self._surroundings):
            return False
        return all(check() == value for check, value in self._guards) if self._guards else True

    def _same_leaves(self) -> bool:
        """Whether the Tensors the function holds require gradients as they did."""
        now = leaf_epoch()
        if any((t._node is None) is not frozen for t, frozen in self._leaves):
            return False
        self._leaf_epoch = now
        return True


_NO_PROGRAM = object()


def _run_program(entries: list[_Entry], leaves: list[Any]) -> Any:
    """What the program gives that fits what the function reads; sizes that depend on values are seen on the way."""
    for entry in entries:
        if entry.runner is not None and entry.holds():
            with contextlib.suppress(SizeChangedError):
                return entry.runner(leaves)
    return _NO_PROGRAM


def surroundings(fn: Any) -> list[tuple[Callable[[], Any], Any]]:
    """How to read the numbers and arrays that a plain function finds in its closure and among its globals, and what
    they are now: another one in such a place needs another program.
    """
    code = getattr(fn, "__code__", None)
    if code is None:
        return []
    cells = [(lambda cell=cell: cell.cell_contents) for cell in fn.__closure__ or ()]
    names = [n for n in code.co_names if n in fn.__globals__]
    reads = [*cells, *(lambda n=n: fn.__globals__.get(n) for n in names)]
    found = [(read, _value(read)) for read in reads]
    return [(read, value) for read, value in found if isinstance(value, (np.ndarray, int, float, str))]


def _differs(now: Any, before: Any) -> bool:
    """Arrays are told apart by what they are, numbers by their value."""
    return now is not before and (isinstance(before, np.ndarray) or type(now) is not type(before) or now != before)


def _value(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except ValueError:  # a cell that is still empty
        return None


_SINGLE = {np.ndarray, CpuTensor, CpuParameter, bool, int, float, str}  # types that are leaves without looking


def _flatten_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], Structure]:
    if not kwargs and _SINGLE.issuperset(map(type, args)):
        return list(args), _positional(len(args))
    leaves, structure = flatten((args, kwargs))
    numbers = [isinstance(x, np.generic) and x.dtype.kind in "fciub" for x in leaves]  # arrays without dimensions
    return [np.asarray(x) if number else x for x, number in zip(leaves, numbers, strict=True)], structure


@functools.cache
def _positional(n: int) -> Structure:
    """The structure of a call with `n` leaves and no keyword."""
    return flatten(((0,) * n, {}))[1]


def _describe(leaf: Any) -> Any:
    """What of an argument decides which program runs: the type of an array, the value of anything else."""
    if isinstance(leaf, np.ndarray):
        return leaf.shape, leaf.dtype, isinstance(leaf, Traced) and leaf._node is not None
    if isinstance(leaf, (float, complex)):
        return type(leaf), repr(leaf)  # 0.0 and -0.0 are equal, and NaN is not
    try:
        hash(leaf)
    except TypeError:
        return _Itself(leaf)
    return type(leaf), leaf


@dataclass(eq=False)
class _Itself:
    """An argument that has no hash: equal to itself alone, and kept, so that no other gets its id."""

    leaf: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.leaf is other.leaf

    def __hash__(self) -> int:
        return id(self.leaf)
