"""User code, followed instruction by instruction while leaks are sought: what wrapping NumPy's functions cannot see.

Takes a thread's frames (by `sys.settrace`) and their source; tells the listeners of `watch` about Tensors that are
written into plain arrays, and about calls and attributes of C code that take them in. It changes nothing they do.
"""

import array
import ast
import builtins
import functools
import inspect
import itertools
import linecache
import operator
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dis import opname
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from sadl.calls import is_constant
from sadl.op import HOST, METADATA, WRITES
from sadl.tape import Traced
from sadl.watch import (
    CONVERTED,
    DISPATCHED,
    EXPOSED,
    LISTENERS,
    OPAQUE,
    WRITTEN,
    Event,
    holds_tensors,
    is_exempt,
    is_telling,
    tell,
)

# ---- what the source says ------------------------------------------------------------------------------------------

Span = tuple[Any, ...]  # (first line, last line, first column, last column), as code objects and syntax trees have it
_PARTS = {"flat", "real", "imag"}  # attributes of an array that can be assigned to
_MEMORY = {"base", "data", "ctypes", "__array_interface__", "__array_struct__", "__dlpack__", "__array__"}


class Item(NamedTuple):
    """The value of one of several targets: `a[0], b[0] = f(x)`."""

    of: Any
    place: int
    places: int


class Store(NamedTuple):
    """An assignment to an item or a part of something."""

    target: Any
    value: Any


def span(node: Any) -> Span:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def points_in_source(source: str) -> dict[tuple[str, Span], Any]:
    """Where in a file something may leave the graph: ("store" | "call" | "load", span) -> what stands there."""
    found: dict[tuple[str, Span], Any] = {}
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return found
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found["call", span(node)] = node
        elif isinstance(node, ast.Attribute) and node.attr in _MEMORY:
            found["load", span(node)] = node
        elif isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            found.update(_stores(node))
    return found


def _stores(node: Any) -> Iterator[tuple[tuple[str, Span], Any]]:
    value = node if isinstance(node, ast.AugAssign) else node.value
    pairs = [(target, value) for target in getattr(node, "targets", [getattr(node, "target", None)])]
    while pairs:
        target, value = pairs.pop()
        if isinstance(target, (ast.Tuple, ast.List)):
            pairs += _each(target.elts, value)
        elif isinstance(target, ast.Subscript) or (isinstance(target, ast.Attribute) and target.attr in _PARTS):
            yield ("store", span(target)), Store(target, value)


def _each(targets: list[Any], value: Any) -> list[tuple[Any, Any]]:
    values: list[Any] = value.elts if isinstance(value, (ast.Tuple, ast.List)) else []
    if len(values) != len(targets) or any(isinstance(v, ast.Starred) for v in values):
        values = [Item(value, i, len(targets)) for i in range(len(targets))]
    return list(zip(targets, values, strict=True))


class Script(NamedTuple):
    """What is to be looked at in a code object: by the offset of the instruction; and the span of each instruction."""

    points: dict[int, tuple[str, Any]]
    spans: list[Span]
    code: CodeType  # kept, so that no other gets its id


def script(frame: FrameType) -> Script:
    code = frame.f_code
    found = _scripts.get(id(code))
    if found is None:
        found = _scripts[id(code)] = _read(code, frame.f_globals) if is_users(frame) else Script({}, [], code)
    return found


MAX_SCRIPTS = 4096
_scripts: dict[int, Script] = {}
_files: dict[str, tuple[Any, dict[tuple[str, Span], Any]]] = {}


def _read(code: CodeType, names: dict[str, Any]) -> Script:
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename, names)
    known = _files.get(code.co_filename)
    if known is None or known[0] is not lines:
        known = _files[code.co_filename] = lines, points_in_source("".join(lines))
    spans = list(code.co_positions())
    raw = code.co_code
    found = ((2 * i, (action(raw[2 * i]), known[1].get((action(raw[2 * i]), s)))) for i, s in enumerate(spans))
    return Script({offset: point for offset, point in found if point[1] is not None}, spans, code)


def action(op: int) -> str:
    name = opname[op]
    return "call" if name.startswith("CALL") else _ACTIONS.get(name, "")


_ACTIONS = {
    **dict.fromkeys(("STORE_SUBSCR", "STORE_SLICE", "STORE_ATTR"), "store"),
    **dict.fromkeys(("LOAD_ATTR", "LOAD_METHOD"), "load"),
}


def is_users(frame: FrameType) -> bool:
    """Whether this is neither a library's code nor Python's own."""
    return not frame.f_code.co_filename.startswith(_installed()) and not is_exempt(frame)


@functools.cache
def _installed() -> tuple[str, ...]:
    """Where Python's own modules and installed packages are."""
    return tuple({path + "/" for name, path in sysconfig.get_paths().items() if name.endswith(("lib", "stdlib"))})


# ---- what an expression has as its value ---------------------------------------------------------------------------

_UNKNOWN: Any = type("Unknown", (), {"__repr__": lambda self: "unknown"})()


class Run:
    """A frame of user code that is being followed: what Python code that it called gave back, and in which order."""

    __slots__ = ("calls", "frame", "order", "script", "values")

    def __init__(self, script: Script) -> None:
        self.script = script
        self.frame: Any = None
        self.values: dict[Span, Any] = {}  # the last value of an expression that was computed by Python code
        self.order: dict[Span, int] = {}  # when the last instruction of an expression ran
        self.calls: list[tuple[Span, Event]] = []  # calls of C code that have not returned yet


def value_of(node: Any, run: Run) -> Any:
    """The value that an expression just had, without evaluating anything that might do more than look."""
    if isinstance(node, Item):
        return _item(value_of(node.of, run), node)
    found = run.values.get(span(node), _UNKNOWN)
    rule = _RULES.get(type(node))
    return rule(node, run) if found is _UNKNOWN and rule is not None else found


def _item(values: Any, item: Item) -> Any:
    return values[item.place] if type(values) in (tuple, list) and len(values) == item.places else values


def _name(node: ast.Name, run: Run) -> Any:
    for names in (run.frame.f_locals, run.frame.f_globals, vars(builtins)):
        if node.id in names:
            return names[node.id]
    return _UNKNOWN


def _attribute(node: ast.Attribute, run: Run) -> Any:
    return attribute(value_of(node.value, run), node.attr)


def attribute(base: Any, name: str) -> Any:
    """An attribute, if looking it up runs no Python code."""
    if isinstance(base, ModuleType):
        return vars(base).get(name, _UNKNOWN)
    if base is _UNKNOWN or isinstance(type(base).__getattribute__, FunctionType):
        return _UNKNOWN
    found = inspect.getattr_static(base, name, _UNKNOWN)
    by_python = isinstance(found, property) or isinstance(getattr(type(found), "__get__", None), FunctionType)
    return _UNKNOWN if found is _UNKNOWN or by_python else getattr(base, name, _UNKNOWN)


def _subscript(node: ast.Subscript, run: Run) -> Any:
    base, index = value_of(node.value, run), value_of(node.slice, run)
    if type(base) not in (list, tuple, dict, np.ndarray) or not isinstance(index, (int, str, tuple)):
        return _UNKNOWN
    try:
        return base[index]
    except (LookupError, TypeError):
        return _UNKNOWN


def _chosen(nodes: list[Any], run: Run) -> Any:
    """Of several expressions, the value of the one that was evaluated last."""
    return value_of(max(nodes, key=lambda node: run.order.get(span(node), -1)), run)


def _binary(node: ast.BinOp, run: Run) -> Any:
    left, right, compute = value_of(node.left, run), value_of(node.right, run), _INTEGER.get(type(node.op))
    return compute(left, right) if compute and type(left) is type(right) is int else _UNKNOWN


_INTEGER: dict[type, Callable[[int, int], int]] = {ast.Add: operator.add, ast.Sub: operator.sub}
_RULES: dict[type, Callable[[Any, Run], Any]] = {
    ast.Name: _name,
    ast.Constant: lambda node, run: node.value,
    ast.Attribute: _attribute,
    ast.Subscript: _subscript,
    ast.BinOp: _binary,
    ast.UnaryOp: lambda node, run: ast.literal_eval(node) if isinstance(node.operand, ast.Constant) else _UNKNOWN,
    ast.Tuple: lambda node, run: tuple(value_of(v, run) for v in node.elts),
    ast.List: lambda node, run: [value_of(v, run) for v in node.elts],
    ast.Dict: lambda node, run: {
        getattr(k, "value", i): value_of(node.values[i], run) for i, k in enumerate(node.keys)
    },
    ast.ListComp: lambda node, run: [value_of(node.elt, run)],
    ast.Starred: lambda node, run: value_of(node.value, run),
    ast.NamedExpr: lambda node, run: value_of(node.value, run),
    ast.IfExp: lambda node, run: _chosen([node.body, node.orelse], run),
    ast.BoolOp: lambda node, run: _chosen(node.values, run),
}

# ---- what leaves the graph -----------------------------------------------------------------------------------------


def _store(run: Run, store: Store) -> None:
    base, value = value_of(store.target.value, run), value_of(store.value, run)
    array = base.base if isinstance(base, np.flatiter) else base
    if _is_plain(array) and array.dtype.kind in "fc" and holds_tensors(value):
        tell(WRITTEN, f"{ast.unparse(store.target)} = ...", value, in_lines=True)


def _is_plain(x: Any) -> bool:
    return isinstance(x, np.ndarray) and not isinstance(x, Traced)


def _load(run: Run, node: ast.Attribute) -> None:
    owner = value_of(node.value, run)
    if isinstance(owner, Traced):
        tell(EXPOSED, f"t.{node.attr}", owner, in_lines=True)


def _call(run: Run, node: ast.Call) -> None:
    """Before a call of C code that may convert: note it, to be looked at when it is known what it gave."""
    function = value_of(node.func, run)
    kind = _kind(function, node, run)
    args = [value_of(v, run) for v in node.args] + [value_of(v.value, run) for v in node.keywords] if kind else []
    if holds_tensors(args):
        run.values.pop(span(node), None)
        run.calls.append((span(node), Event(kind, _spelled(function, node), args, function=function, in_lines=True)))


def _kind(function: Any, node: ast.Call, run: Run) -> str:
    """What a call of this does to Tensors among its arguments, if it may take their values: a kind of event, or ""."""
    owner = getattr(function, "__self__", None) if isinstance(function, (BuiltinFunctionType, MethodType)) else None
    if isinstance(function, type):
        return _BUFFERS.get(function, CONVERTED if issubclass(function, _TYPES) and not _by_name(node, run) else "")
    if _is_plain(owner):
        return _METHODS.get(function.__name__, "")
    if isinstance(owner, (np.random.Generator, np.random.RandomState)):
        return CONVERTED
    if isinstance(owner, np.ufunc):
        return WRITTEN if function.__name__ == "at" else "" if is_constant(owner) else CONVERTED
    converts = _is_numpys(function) and not is_harmless(function) and not _by_name(node, run)
    return CONVERTED if converts else ""


def _by_name(node: ast.Call, run: Run) -> bool:
    """Whether the function was found in a module, and so in a namespace of NumPy that is watched: `np.asarray(...)`."""
    return isinstance(node.func, ast.Attribute) and isinstance(value_of(node.func.value, run), ModuleType)


def _is_numpys(function: Any) -> bool:
    """Whether this is a function of NumPy's that may convert; not one that tells itself what it did."""
    if isinstance(function, BuiltinFunctionType):
        return function in _CONVERTERS
    if isinstance(function, FunctionType) and not is_telling(function):
        return function.__module__.partition(".")[0] == "numpy"
    return isinstance(function, DISPATCHED)


_BUFFERS: dict[type, str] = {memoryview: EXPOSED, bytes: CONVERTED, bytearray: CONVERTED, array.array: CONVERTED}
_TYPES = (np.floating, np.complexfloating, np.ndarray, *OPAQUE)
_METHODS = {"choose": CONVERTED, "dot": CONVERTED, "fill": WRITTEN, "put": WRITTEN, "__setitem__": WRITTEN}


def is_harmless(function: Any) -> bool:
    """Whether the result of a function of NumPy's has no values in it that a gradient could go through."""
    if function in _CONVERTERS:
        return False
    return is_constant(function) or function in METADATA or function in HOST


_CONVERTERS = {np.array, np.asarray, np.asanyarray, np.ascontiguousarray, np.asfortranarray, np.fromiter, np.arange}
_CONVERTERS |= {np.frombuffer, np.from_dlpack}


def _spelled(function: Any, node: ast.Call) -> str:
    return ast.unparse(node.func) if isinstance(node.func, (ast.Name, ast.Attribute)) else function.__name__


def _judge(run: Run) -> None:
    """Tell of calls that have returned. What Python code of NumPy or sadl gave is known; what C code gave is a leak."""
    while run.calls:
        where, event = run.calls.pop()
        event.result = result = run.values.get(where, _UNKNOWN)
        function = event.function
        by_python = isinstance(getattr(function, "_implementation", function), FunctionType)
        if result is _UNKNOWN or not (by_python or holds_tensors(result)):
            writes = isinstance(function, DISPATCHED) and function in WRITES
            event.result, event.function = None, function if writes else None
        for listener in LISTENERS.get():
            listener(event)


_DO: dict[str, Callable[[Run, Any], None]] = {"store": _store, "load": _load, "call": _call}

# ---- following -----------------------------------------------------------------------------------------------------

_clock = itertools.count()


class Follower:
    """The trace function of a thread, beside the one that is there already: a debugger's, or one that counts lines."""

    def __init__(self) -> None:
        self.before: Any = None
        self.runs: dict[int, Run] = {}  # by the id of the frame
        self.given: list[tuple[FrameType, Any, Any]] = []  # frames that were running: with its trace function and ours

    def start(self) -> None:
        self.before = sys.gettrace()
        frame: Any = sys._getframe(1)
        while frame is not None:
            if script(frame).points:
                local = self._local(frame, frame.f_trace)
                self.given.append((frame, frame.f_trace, local))
                frame.f_trace, frame.f_trace_opcodes = local, True
            frame = frame.f_back
        sys.settrace(self)

    def stop(self) -> None:
        """Give everything back, unless a debugger was started meanwhile; an error raised here had taken it away."""
        for frame, theirs, ours in self.given:
            if frame.f_trace in (ours, None):
                frame.f_trace, frame.f_trace_opcodes = theirs, False
        if sys.gettrace() in (self, None):
            sys.settrace(self.before)
        if len(_scripts) > MAX_SCRIPTS:  # of code that is made anew again and again
            _scripts.clear()

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        theirs = None if self.before is None else self.before(frame, event, arg)
        if sys.gettrace() is not self:  # coverage's puts itself back
            sys.settrace(self)
        if not LISTENERS.get() or not (script(frame).points or id(frame.f_back) in self.runs):
            return theirs
        frame.f_trace = local = self._local(frame, theirs)
        frame.f_trace_opcodes = bool(script(frame).points)
        frame.f_trace_lines = frame.f_trace_opcodes or theirs is not None
        return local

    def _local(self, frame: FrameType, theirs: Any) -> Callable[..., Any]:
        """The trace function of one frame. `theirs` hears what it would hear without us."""
        run = None
        if script(frame).points:
            run = self.runs[id(frame)] = Run(script(frame))

        def local(frame: FrameType, event: str, arg: Any) -> Any:
            nonlocal theirs
            if event in ("opcode", "return"):
                self._follow(run, frame, event, arg)
            elif event == "exception" and run is not None:
                run.calls.clear()  # they did not return
            if theirs is not None and event != "opcode":
                theirs = theirs(frame, event, arg) or theirs
            return local

        return local

    def _follow(self, run: Run | None, frame: FrameType, event: str, arg: Any) -> None:
        if run is not None:
            run.frame = frame
            try:
                step(run, event)
            finally:
                run.frame = None
        if event == "return":
            self.runs.pop(id(frame), None)
            back = self.runs.get(id(frame.f_back))
            if back is not None and frame.f_back is not None and back.script.code is frame.f_back.f_code:
                back.values[back.script.spans[frame.f_back.f_lasti // 2]] = arg


def step(run: Run, event: str) -> None:
    """An instruction is about to run, or the frame about to be left."""
    if run.calls:
        _judge(run)
    if event == "opcode":
        offset = run.frame.f_lasti
        run.order[run.script.spans[offset // 2]] = next(_clock)
        point = run.script.points.get(offset)
        if point is not None:
            _DO[point[0]](run, point[1])
