"""Finding values that leave the graph: where a Tensor that requires a gradient becomes something that has no history.

Takes the code within `with sadl.debug.leaks():`; gives a record for each line that lets values out, or raises there.
Seeing what NumPy is asked to do is left to `watch` and `lines`; docs/leaks.md lists what leaks and what does not.
"""

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sadl import watch
from sadl.errors import UnrecordedError, explain
from sadl.lines import Follower, is_harmless
from sadl.op import WRITES
from sadl.tape import MODE, user_line
from sadl.watch import CONVERTED, EXPOSED, READ, WRITTEN, Event


class Leak(NamedTuple):
    """Values that left the graph: by what kind of way, by which call, where, of which shape and dtype."""

    kind: str  # "converted", "written into a plain array", "read into Python" or "handed out as memory"
    how: str  # as in "np.array" or "float(t)"
    where: str  # file:line
    shape: tuple[int, ...]  # of the first Tensor that left
    dtype: np.dtype
    instead: str

    def __str__(self) -> str:
        what = f"a Tensor {self.dtype} {self.shape} that requires a gradient is {self.kind}, where its history ends"
        return explain(self.how, what, self.instead, made_at=self.where)


_INSTEAD = {
    CONVERTED: "stay with Tensors, np.stack([t, u]) for a list; or do it under sadl.no_grad() if it is a constant",
    WRITTEN: "let the array be a Tensor: sadl.zeros(shape, dtype=float)",
    READ: "keep the Tensor, or read under sadl.no_grad(); sadl.debug.leaks(reads=False) ignores this",
    EXPOSED: "use the Tensor itself, or do it under sadl.no_grad()",
}
_INSTEAD_OF: dict[Any, str] = {
    np.full: "np.broadcast_to(t, shape), or np.ones(shape) * t",
    np.fromiter: "np.stack([...]) of the Tensors",
    np.vectorize.__call__: "array operations and np.where",
    np.lib.stride_tricks.as_strided: "np.lib.stride_tricks.sliding_window_view(t, n), or indexing",
}


class leaks:
    """Look for values that leave the graph: `with sadl.debug.leaks() as found:`, or as a decorator.

    Each line that lets values of a Tensor out which requires a gradient is noted once, as a `Leak`, in the list that
    `with` gives, which is also the attribute `found` (a decorated function adds to it on each call). Under
    `sadl.no_grad()` nothing is a leak, nor is what is constant almost everywhere, like the result of np.argmax.

    This thread and context alone are watched, from their lines that start within the block. Three ways are seen:
    NumPy's functions called on Tensors, or on lists of them, that give no Tensor (the namespaces of NumPy hand out
    wrapped functions meanwhile); what sadl itself is asked to read, as by float(t); and, with the source of the code at
    hand, instruction by instruction: writes into plain arrays (`a[0] = t`), functions that were imported by name,
    methods of plain arrays, `memoryview(t)`, `t.base`. For the last, `sys.settrace` is used, beside a trace function
    that is there already, and Python code runs many times slower.

    Not seen: what installed libraries write into plain arrays; a value that reaches a write through C code alone
    (`a[:] = max([t, u], key=len)`); code without source, such as that of `exec`; NumPy's functions found by `getattr`.
    After an error was raised at an instruction, the rest of the block is not followed in this way.

    Args:
        error: raise at the first leak.
        reads: note values that are read into Python, too, as for logging.
    Raises:
        UnrecordedError: with `error`, at the line of a leak; it is a TypeError.
        TypeError: what is decorated is a generator or a coroutine, which runs later.
    """

    def __init__(self, *, error: bool = False, reads: bool = True) -> None:
        self.error, self.reads = error, reads
        self.found: list[Leak] = []

    def __enter__(self) -> list[Leak]:
        watch.start(self._hear)
        _follow()
        return self.found

    def __exit__(self, *_: Any) -> None:
        _leave()
        watch.stop(self._hear)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            what = f"{function.__name__} is a generator or a coroutine, which does its work after the call"
            raise TypeError(explain("leaks", what, "with sadl.debug.leaks(): in its body"))

        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return watched

    def _hear(self, event: Event) -> None:
        tensors = _leaking(event) if self.reads or event.kind != READ else []
        if not tensors:
            return
        kind = WRITTEN if event.function in WRITES else event.kind
        instead = _INSTEAD_OF.get(event.function, _INSTEAD[kind])
        leak = Leak(kind, event.how, user_line(), tensors[0].shape, tensors[0].dtype, instead)
        if leak not in self.found and not (leak.kind == READ and leak.where in {x.where for x in self.found}):
            self.found.append(leak)  # NumPy reads a Tensor while it is written: that is one leak
        if self.error:
            raise UnrecordedError(str(leak))


def _leaking(event: Event) -> list[Any]:
    """The Tensors that require a gradient and leave the graph."""
    if not MODE.get().grad or is_harmless(event.function):
        return []
    taken = watch.taken(event, "fc", lambda t: t._node is not None)
    return [t for t in taken if t._node is not None and not (event.how == "pickling t" and t.is_leaf())]


class _Thread(threading.local):
    """How many blocks this thread is in, and what follows its code meanwhile."""

    depth = 0
    follower: Any = None


_thread = _Thread()


def _follow() -> None:
    _thread.depth += 1
    if _thread.follower is None:
        _thread.follower = Follower()
        _thread.follower.start()


def _leave() -> None:
    _thread.depth -= 1
    if _thread.depth == 0 and _thread.follower is not None:
        follower, _thread.follower = _thread.follower, None
        follower.stop()
