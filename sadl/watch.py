"""What user code asks of NumPy, told to whoever listens: for values that leave the graph where no protocol is asked.

Takes listeners, each in force in one context; wraps NumPy's functions while there are any and tells what they did.
What is a leak and what is done about it is left to `debug` and to the compiler's capture.
"""

import dis
import functools
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import numpy as np

from sadl.op import METADATA, WRITES
from sadl.tape import Traced
from sadl.tree import flatten

# Kinds of events.
CONVERTED, WRITTEN = "converted", "written into a plain array"
READ, EXPOSED = "read into Python", "handed out as memory"


@dataclass(slots=True)
class Event:
    """Something that may take values out of the graph: of which kind, as the user wrote it, with what."""

    kind: str
    how: str
    args: Any = ()  # with Tensors in it at any depth of lists, tuples and dicts
    kwargs: dict[str, Any] = field(default_factory=dict)
    result: Any = None
    function: Any = None  # of NumPy, if it was one
    in_lines: bool = False  # found by following the code, which is not done but for `leaks`


Listener = Callable[[Event], None]
LISTENERS: ContextVar[tuple[Listener, ...]] = ContextVar("sadl_listeners", default=())


def tell(kind: str, how: str, value: Any, result: Any = None, in_lines: bool = False) -> None:
    """Tell that the values in `value` are handed out, as sadl's own functions do when they read a Tensor."""
    for listener in LISTENERS.get():
        listener(Event(kind, how, (value,), result=result, in_lines=in_lines))


def start(listener: Listener) -> None:
    """From now on `listener` hears what user code does in this context, until `stop`."""
    LISTENERS.set((*LISTENERS.get(), listener))
    _change_watch(1)


def stop(listener: Listener) -> None:
    """`listener` hears nothing more, unless it was started more than once."""
    _change_watch(-1)
    listeners = list(LISTENERS.get())
    if listener in listeners:  # else it was started in another context
        del listeners[-1 - listeners[::-1].index(listener)]
    LISTENERS.set(tuple(listeners))


# ---- NumPy's namespaces --------------------------------------------------------------------------------------------

_NAMESPACES = {
    *("numpy", "numpy.linalg", "numpy.fft", "numpy.random", "numpy.ma", "numpy.rec", "numpy.ctypeslib"),
    *("numpy.lib", "numpy.lib.stride_tricks", "numpy.lib.scimath", "numpy.lib.array_utils", "numpy.polynomial"),
    *(f"numpy.polynomial.{n}" for n in ["polynomial", "chebyshev", "hermite", "hermite_e", "laguerre", "legendre"]),
}
_EXEMPT = {"sadl", "numpy", "numba", "llvmlite", "cupy", "importlib"}  # packages whose own calls are not looked at
DISPATCHED = (type(np.sum), np.ufunc)  # what NumPy asks the arguments of
_get = ModuleType.__getattribute__


class _Namespace(ModuleType):
    """What a module of NumPy is while somebody listens: user code finds functions in it that tell what they did.

    The module's own dictionary stays as it is: other threads, NumPy, sadl and modules that are just being imported find
    the originals, and so do `getattr` and pickling, which compare.
    """

    def __getattribute__(self, name: str) -> Any:
        frame = sys._getframe(1)
        if frame.f_code.co_filename in _exempt_files or not LISTENERS.get():  # the quickest first
            return _get(self, name)
        if is_exempt(frame) or getattr(frame.f_globals.get("__spec__"), "_initializing", False):
            return _get(self, name)
        value = _get(self, name)
        if isinstance(value, ModuleType):
            return _watch(value)
        return _as_seen(value, name, self, frame) if callable(value) else value


def is_exempt(frame: FrameType) -> bool:
    """Whether this is NumPy's or sadl's own code, or a compiler's."""
    filename, package = frame.f_code.co_filename, str(frame.f_globals.get("__name__", "")).partition(".")[0]
    exempt = filename.startswith("<frozen") or package in _EXEMPT
    if exempt and not filename.startswith("<"):
        _exempt_files.add(filename)
    return exempt


_exempt_files: set[str] = set()


def _as_seen(value: Any, name: str, module: ModuleType, frame: FrameType) -> Any:
    """`value` wrapped. Classes and ufuncs are so only where they are called at once: elsewhere they are compared."""
    use = _use(frame.f_code, frame.f_lasti)
    if not use or (use != "called" and isinstance(value, (type, np.ufunc))):
        return value
    wrapped = _wrappers.get((value, name))
    if wrapped is None:
        how = f"np{_get(module, '__name__').removeprefix('numpy')}.{name}"
        wrapped = _wrappers[value, name] = _telling(value, how)
    return wrapped


_wrappers: dict[tuple[Any, str], Callable[..., Any]] = {}


def _telling(function: Callable[..., Any], name: str) -> Any:
    dispatched = isinstance(function, DISPATCHED)

    @functools.wraps(function, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if dispatched and isinstance(result, Traced) and result._raw is not None:
            return result  # by sadl, and so it is right
        listeners = LISTENERS.get()
        if listeners and holds_tensors((args, kwargs)):
            event = Event(CONVERTED, name, args, kwargs, result, function)
            for listener in listeners:
                listener(event)
        return result

    return call


_TELLING = _telling(len, "").__code__


def is_telling(function: FunctionType) -> bool:
    """Whether this is a function that tells what it did."""
    return function.__code__ is _TELLING


# Methods of NumPy's own Python classes that take Tensors in, whoever calls them, and how one writes that.
_METHODS = {(np.vectorize, "__call__"): "np.vectorize", (type(np.r_).__mro__[1], "__getitem__"): "np.r_ or np.c_"}

_lock = threading.Lock()
_watchers = [0]  # listeners in all threads together
_watched: list[ModuleType] = []


def _change_watch(change: int) -> None:
    with _lock:
        before = _watchers[0]
        _watchers[0] += change
        if before == 0:
            _begin()
        elif _watchers[0] == 0:
            _end()


def _begin() -> None:
    for name in _NAMESPACES & sys.modules.keys():
        _watch(sys.modules[name])
    for (cls, name), how in _METHODS.items():
        setattr(cls, name, _telling(getattr(cls, name), how))


def _watch(module: Any) -> Any:
    if type(module) is ModuleType and module.__name__ in _NAMESPACES:
        module.__class__ = _Namespace
        _watched.append(module)
    return module


def _end() -> None:
    _uses.clear()
    while _watched:
        _watched.pop().__class__ = ModuleType
    for cls, name in _METHODS:
        setattr(cls, name, getattr(cls, name).__wrapped__)


# ---- how an attribute is used --------------------------------------------------------------------------------------


def _use(code: CodeType, offset: int) -> str:
    found = _uses.get((id(code), offset))
    if found is None:
        found = _uses[id(code), offset] = use_of(code, offset), code
    return found[0]


_uses: dict[tuple[int, int], tuple[str, CodeType]] = {}  # with the code itself, so that no other gets its id


def use_of(code: CodeType, offset: int) -> str:
    """What becomes of the attribute that the instruction at `offset` loads: "called" at once or kept as a "value"; ""
    if it does not load one, as a call of `getattr` or of pickling does not.
    """
    raw, i = code.co_code, offset
    while _name(raw, i) == "CACHE":
        i -= 2
    op, arg = _name(raw, i), raw[i + 1]
    if op == "LOAD_METHOD" or (op == "LOAD_ATTR" and _is_called(raw, i, arg)):
        return "called"
    return "value" if op in ("LOAD_ATTR", "IMPORT_FROM") else ""


def _name(raw: bytes, offset: int) -> str:
    return dis.opname[raw[offset]] if 0 <= offset < len(raw) else ""


def _is_called(raw: bytes, i: int, arg: int) -> bool:
    """Whether a NULL stands beside the attribute on the stack, which is the mark of a call that is being prepared."""
    if sys.version_info >= (3, 12) and arg & 1:
        return True
    if sys.version_info >= (3, 13):
        return _name(raw, _next(raw, i)) == "PUSH_NULL"
    base = _previous(raw, i)
    return (_name(raw, base) == "LOAD_GLOBAL" and raw[base + 1] & 1 == 1) or (
        _name(raw, base) in _LOADS and _name(raw, _previous(raw, base)) == "PUSH_NULL"
    )


_LOADS = {"LOAD_NAME", "LOAD_FAST", "LOAD_DEREF", "LOAD_GLOBAL", "LOAD_FAST_CHECK", "LOAD_CLASSDEREF"}
_PADDING = {"CACHE", "EXTENDED_ARG"}


def _next(raw: bytes, i: int) -> int:
    i += 2
    while _name(raw, i) in _PADDING:
        i += 2
    return i


def _previous(raw: bytes, i: int) -> int:
    i -= 2
    while _name(raw, i) in _PADDING:
        i -= 2
    return i


# ---- what a call did -----------------------------------------------------------------------------------------------

_CONTAINERS = (list, tuple, dict)
_ATOMS = {int, float, bool, complex, str, bytes, type(None), slice, np.ndarray, np.dtype, np.float64, np.float32}
_LIKE = {np.zeros_like, np.ones_like, np.empty_like, np.full_like}  # only the shape and dtype of their first argument
OPAQUE = (np.nditer, np.ndenumerate, np.poly1d)  # objects that hand out values later


def holds_tensors(value: Any) -> bool:
    """Whether there is a Tensor in `value`, at any depth of lists, tuples and dicts."""
    if isinstance(value, Traced):
        return True
    if not isinstance(value, _CONTAINERS):
        return False
    values = value.values() if isinstance(value, dict) else value
    return not _ATOMS.issuperset(map(type, values)) and any(map(holds_tensors, values))


def tensors_in(value: Any) -> list[Any]:
    """The Tensors in `value`, at any depth of lists, tuples and dicts."""
    return [x for x in flatten(value)[0] if isinstance(x, Traced)] if holds_tensors(value) else []


def is_dispatched(event: Event) -> bool:
    """Whether NumPy asks about Tensors among the arguments of this function themselves (not about those in lists)."""
    return isinstance(event.function, DISPATCHED) or "like" in event.kwargs


def taken(event: Event, kinds: str, followed: Callable[[Any], bool]) -> list[Any]:
    """The Tensors whose values this call wrote, or gave in arrays or numbers of `kinds` that are not `followed`.

    A Tensor that sadl made as the result of a function that NumPy asks about is right as it is: sadl knew of the call.
    """
    function, args = event.function, event.args[1:] if event.function in _LIKE else event.args
    given = [] if function in METADATA else tensors_in((args, event.kwargs))
    if function is None or not given:
        return given
    if function in WRITES and event.result is None:
        return [] if holds_tensors(args[:1]) else given
    outs = [x for x in flatten(event.result)[0] if _is_value(x, kinds)]
    made = [x for x in outs if isinstance(x, Traced) and x._raw is not None]  # without _raw NumPy made it by itself
    return [] if not outs or (made and is_dispatched(event)) or any(map(followed, made)) else given


def _is_value(x: Any, kinds: str) -> bool:
    if isinstance(x, (np.ndarray, np.generic)):
        kind = x.dtype.kind
        return kind in kinds or kind == "V" or (kind == "O" and not holds_tensors(np.asarray(x).ravel().tolist()))
    return isinstance(x, (float, complex)) or (isinstance(x, OPAQUE) and not holds_tensors(getattr(x, "__dict__", {})))
