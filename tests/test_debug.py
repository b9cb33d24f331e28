"""Leaks: what leaves the graph is found and named by line, what stays is not, and everything is as before afterwards.

Takes the table of docs/leaks.md, each row of which is done here, eager, compiled and watched; its code is run, too.
"""

import asyncio
import contextlib
import copy
import doctest
import importlib
import io
import linecache
import math
import pickle
import re
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy import asarray

import sadl
import sadl.functional as F
from sadl import UnrecordedError
from sadl.debug import leaks
from sadl.errors import CaptureError
from sadl.op import CONSTANT, HOST, UFUNCS
from sadl.tape import plain
from sadl.tree import flatten

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/leaks.md").read_text()
X = np.array([1.0, 2.0, 3.0])
add, concatenate, float64, full, mean, square = np.add, np.concatenate, np.float64, np.full, np.mean, np.square


def leaf(data=X):
    return sadl.Tensor(np.array(data), requires_grad=True)


def line_of(fn, offset=0):
    """`file:line` of a line of a function, its first if there is no offset."""
    return f"{fn.__code__.co_filename}:{fn.__code__.co_firstlineno + offset}"


@pytest.fixture(autouse=True)
def _as_before():
    """After each test NumPy and the thread's trace function are what they were."""
    names = dict(vars(np))
    before = sys.gettrace(), type(np), type(np.linalg), np.vectorize.__call__, type(np.r_).__getitem__
    yield
    assert (sys.gettrace(), type(np), type(np.linalg), np.vectorize.__call__, type(np.r_).__getitem__) == before
    assert all(vars(np)[name] is value for name, value in names.items())


# ---- the table of docs/leaks.md ------------------------------------------------------------------------------------


class Memory(np.ndarray):
    """An array of a class of its own, as numpy.memmap is."""


MEMORY = np.ones((3, 3)).view(Memory)
BUFFER = np.zeros(3)
RNG = np.random.default_rng(0)
SOURCELESS = {"np": np, "a": np.zeros(3)}


def written(t):
    a = np.zeros(3)
    a[:] = t
    return a


def written_item(t):
    a = np.zeros(3)
    a[0] += t[0]
    return a


def filled(t):
    a = np.zeros(3)
    a.fill(t[0])
    return a


def copied_over(t):
    a = np.zeros(3)
    np.copyto(a, [t[0], t[1], t[2]])
    return a


def through_c(t):
    a = np.zeros(3)
    a[:] = max([t, t], key=len)
    return a


def without_source(t):
    exec("a[:] = t", {**SOURCELESS, "t": t})
    return SOURCELESS["a"]


ERROR, KEPT, RECORDED = "CaptureError", "not seen: kept", "recorded"
NOTHING = ""


@dataclass
class Row:
    """What a row of the table says: values that come out, how a compiled function takes it, and what `leaks` says."""

    take: Any
    compiled: str
    kind: str
    how: str = ""


ROWS = {
    "`np.asarray(t)`, `np.array(t)`": Row(lambda t: np.asarray(t), ERROR, "converted", "np.asarray"),
    "`np.array([t, u])`": Row(lambda t: np.array([t, t * 2]), ERROR, "converted", "np.array"),
    "`np.sum([t, u])`, any function on a list of Tensors": Row(
        lambda t: np.sum([t, t * 2]), ERROR, "converted", "np.sum"
    ),
    "`np.square([t, u])`, any ufunc on a list of Tensors": Row(
        lambda t: np.square([t, t]), ERROR, "converted", "np.square"
    ),
    "`np.stack([[t[0], 1.0], [t[1], 2.0]])`, lists in the list": Row(
        lambda t: np.stack([[t[0], 1.0], [t[1], 2.0]]), ERROR, "converted", "np.stack"
    ),
    "`np.pad(a, 1, constant_values=t[0])`, `np.sum(a, initial=t[0])`, `np.select(c, [a], default=t)`": Row(
        lambda t: np.pad(np.ones(3), 1, constant_values=t[0]), ERROR, "converted", "np.pad"
    ),
    "`np.polynomial.polynomial.polyval(a, t)`, all of `np.polynomial`": Row(
        lambda t: np.polynomial.polynomial.polyval(np.ones(3), t),
        ERROR,
        "converted",
        "np.polynomial.polynomial.polyval",
    ),
    "`np.add.reduce([t, u])`": Row(lambda t: np.add.reduce([t, t]), KEPT, "converted", "np.add.reduce"),
    "`np.full(3, t)`": Row(lambda t: np.full(3, t), ERROR, "converted", "np.full"),
    "`np.float64(t[0])`": Row(lambda t: np.float64(t[0]), ERROR, "converted", "np.float64"),
    "`np.fromiter(t, float)`": Row(lambda t: np.fromiter(t, float), ERROR, "converted", "np.fromiter"),
    "`np.vectorize(f)(t)`": Row(lambda t: np.vectorize(math.sin)(t), ERROR, "converted", "np.vectorize"),
    "`np.lib.stride_tricks.as_strided(t)`": Row(
        lambda t: np.lib.stride_tricks.as_strided(t), ERROR, "converted", "np.lib.stride_tricks.as_strided"
    ),
    "`np.ma.array(t)`": Row(lambda t: np.ma.array(t), ERROR, "converted", "np.ma.array"),
    "`np.nditer(t)`": Row(lambda t: np.array([v * 2 for v in np.nditer(t)]), ERROR, "converted", "np.nditer"),
    "`np.random.normal(t)`": Row(lambda t: np.random.normal(t, 0.0), ERROR, "converted", "np.random.normal"),
    "`rng.normal(t)`": Row(lambda t: RNG.normal(t, 0.0), KEPT, "converted", "RNG.normal"),
    "`indices.choose([t, u])`, `a.dot(t)`": Row(lambda t: np.ones(3).dot(t), KEPT, "converted", "np.ones(3).dot"),
    "`np.dot(m, t)`, `m` of a subclass of ndarray": Row(lambda t: np.dot(MEMORY, t), ERROR, "converted", "np.dot"),
    "`asarray(t)`, by a name imported before": Row(lambda t: asarray(t) * 2, KEPT, "converted", "asarray"),
    '`getattr(np, "asarray")(t)`': Row(
        lambda t: getattr(np, "as" + "array")(t) * 2,
        KEPT,
        NOTHING,
    ),
    "`t.base`, `t.ctypes`, `t.__array_interface__`": Row(
        lambda t: t.base * 2 if type(t.base) is np.ndarray else t.base, KEPT, "handed out as memory", "t.base"
    ),
    "`memoryview(t)`, `t.data`": Row(
        lambda t: np.frombuffer(memoryview(t)) * 2, KEPT, "handed out as memory", "memoryview"
    ),
    "`a[:] = t`": Row(written, KEPT, "written into a plain array", "a[:] = ..."),
    "`a[0] += t[0]`": Row(written_item, ERROR, "written into a plain array", "a[0] = ..."),
    "`a.fill(t[0])`, `a.put(0, t[0])`": Row(filled, ERROR, "written into a plain array", "a.fill"),
    "`np.copyto(a, [t[0], 1, 2])`": Row(copied_over, ERROR, "written into a plain array", "np.copyto"),
    "`a[:] = max([t, u], key=len)`": Row(through_c, KEPT, NOTHING),
    "`a[:] = t` in code without source": Row(without_source, KEPT, NOTHING),
    "`sadl.Tensor(t)`, `sadl.tensor([t, u])`": Row(lambda t: sadl.tensor([t, t]), ERROR, "converted", "sadl.tensor"),
    "`float(t[0])`, `t.item()`, `t.tolist()`": Row(lambda t: float(t[0]), ERROR, "read into Python", "float(t)"),
    '`f"{t}"`, `t.tobytes()`': Row(lambda t: np.frombuffer(t.tobytes()), ERROR, "read into Python", "t.tobytes()"),
    "`pickle.dumps(t)` of a result": Row(
        lambda t: pickle.loads(pickle.dumps(t * 2)), ERROR, "read into Python", "pickling t"
    ),
}


def table():
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


CELLS = {cells[0]: cells[1:] for cells in table()}


def test_rows_and_tests_correspond():
    assert list(CELLS) == list(ROWS)
    for (eager, compiled, says, instead), row in zip(CELLS.values(), ROWS.values(), strict=True):
        assert compiled.startswith(row.compiled) and says == (row.kind or "nothing") and eager and instead


each_row = pytest.mark.parametrize("name", ROWS)


@each_row
def test_footgun_what_comes_out_has_no_history(name):
    out = ROWS[name].take(leaf() * 1)
    assert not getattr(out, "requires_grad", False) or out.is_leaf()


@each_row
def test_footgun_compiled(name):
    """It is an error at the first call, or what came out in the first calls is kept."""
    take = ROWS[name].take
    run = sadl.compile(lambda x: np.sum(x) * np.sum(plain(take(x * 1))))
    with sadl.config(jit=False):
        if ROWS[name].compiled == ERROR:
            with pytest.raises(CaptureError, match="test_debug"):
                run(X)
        else:
            run(X), run(X)
            assert run(X + 1) == np.sum(X + 1) * np.sum(take(sadl.Tensor(X))) != np.sum(X + 1) * np.sum(X + 1)


@each_row
def test_leaks_says(name):
    row = ROWS[name]
    t = leaf() * 1
    with leaks() as found:
        row.take(t)
    if row.kind == NOTHING:
        return
    leak = found[-1]
    assert (leak.kind, leak.how, leak.dtype) == (row.kind, row.how, np.float64) and leak.shape in ((3,), ())
    start = row.take.__code__.co_firstlineno
    assert leak.where in {line_of(row.take, k) for k in range(4)}, start
    with pytest.raises(UnrecordedError, match=re.escape(f"Made at {leak.where}. Instead: ")), leaks(error=True):
        row.take(t)


@each_row
def test_no_leak_without_a_gradient(name):
    with leaks(error=True) as found:
        ROWS[name].take(sadl.Tensor(X) * 1)
        with sadl.no_grad():
            ROWS[name].take(leaf() * 1)
    assert not found


# ---- the page ------------------------------------------------------------------------------------------------------


def test_code_runs_as_printed():
    """The blocks of docs/leaks.md, as one program with the lines they have in the page."""
    name, space, printed = "docs/leaks.md", {"__name__": "leaks"}, ""
    blocks = [(m[1], m[2], PAGE.count("\n", 0, m.start()) + 1) for m in BLOCK.finditer(PAGE)]
    for language, content, line in blocks:
        if language == "python":
            source = "\n" * line + content
            linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(source, name, "exec"), space)
            printed = out.getvalue()
        else:
            same = doctest.OutputChecker().check_output(content, printed, doctest.NORMALIZE_WHITESPACE)
            assert same, f"{name}, line {line}, shows something else than what is printed now:\n{printed}"
    assert [language for language, *_ in blocks] == ["python", "text"] * 2


BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# ---- what is found -------------------------------------------------------------------------------------------------


class Holder:
    """An object with plain arrays in it."""

    def __init__(self, t):
        self.t, self.buffer, self.rows, self.by_name = t, np.zeros(3), [np.zeros(3)], {"x": np.zeros(3)}

    @property
    def double(self):
        return self.t * 2


def double(t):
    return t * 2


def pair(t):
    return t * 2, 1.0


WRITES = """
a[0] = t[0] | a[:] = t * 2 | a[1:] = double(t)[1:] | a[0] += t[0] | a[::2] = t[0] | h.buffer[0] = t[0]
h.buffer[:] = h.double | h.rows[0][:] = t | h.by_name["x"][:] = h.t | a.flat[0] = t[0] | a.flat = t | a.real[:] = t
a.real = t | a.T[:] = t | a[:] = [t[0], t[1], t[2]] | a[0], b[0] = t[0], 1.0 | b[0], a[0] = 1.0, t[0]
a[0], q = double(t)[0], 2 | a[:], q = pair(t) | a[:] = b[:] = t | a[0] = t[0] if t.size else 1.0 | a[:] = ts[0]
a[:] = ts[i - 1] | a[:] = ts[-1] | a[i] = t[i] | a[:] = (v := t) | a[:] = None or t | a[:] = t if i else None
a[np.argmax(t)] = double(t[0]) | a[int(i)] = double(t)[int(i)] | a[0]: float = t[0]
a[:] = [double(t)[k] for k in range(3)] | a[:] = t.T | a[:] = sum(ts) | a[:] = np.sum(t) | a[:] = abs(t)
a[:] = next(iter(ts)) * 1 | a[:] = {"x": t}["x"] | a[:] = (lambda: t)() | i = 1; a[:] = t | if i: a[:] = t
for k in range(2): a[k] = t[k] | c[...] = t | c[0] = t[0] | t32[:] = t | a[(0)] = (t[0]) | a[:] = +t | b[:2] = t[0],
"""
SPARED = """
a[0] = 1.0 | a[:] = X | q = t | ts[0] = t | d["x"] = t | T[0] = t[0] | T[:] = t | objects[0] = [t] | ints[:] = t
a[:] = np.argmax(t) | a[:] = t.shape[0] | a[:] = t > 0 | a[:] = 1.0 if i else t | q, a[:] = pair(t) | T += t | h.t = t
a[:] = plain_of(t) | a[i] = ts[0].size | if not i: a[:] = t | a[:] = t.detach().grad or 1.0 | a[:] = constant(t)
a[:] = None and t or 2.0
"""
EACH = lambda text: [s.strip() for line in text.strip().splitlines() for s in line.split(" | ")]


def run_lines(code, **names):
    """Run lines of source as a function of a file of their own; what leaks, reading apart."""
    space = {**globals(), **names}
    source = f"def f({', '.join(names)}):\n    {code}\n"
    linecache.cache[code] = len(source), None, source.splitlines(keepends=True), code
    exec(compile(source, code, "exec"), space)
    with leaks(reads=False) as found:
        space["f"](**names)
    return found


def places(t):
    """Arrays and other places to write to."""
    a, b, c, T = np.zeros(3), np.zeros(3), np.zeros(3, complex), sadl.zeros(3, dtype=float)
    t32, ints, objects = np.zeros(3, np.float32), np.zeros(3, int), np.empty(3, object)
    arrays = {"a": a, "b": b, "c": c, "T": T, "t32": t32, "ints": ints, "objects": objects}
    return {**arrays, "h": Holder(t), "ts": [t, t], "d": {}, "i": 1, "t": t}


def plain_of(t):
    return t.sum().size


def constant(t):
    with sadl.no_grad():
        return np.asarray(t)


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize("code", EACH(WRITES))
def test_writes_into_plain_arrays_are_found(code):
    found = run_lines(code, **places(leaf()))
    assert found and {leak.kind for leak in found} == {"written into a plain array"}
    assert {leak.where for leak in found} == {f"{code}:2"}


@pytest.mark.parametrize("code", EACH(SPARED))
def test_other_assignments_are_not(code):
    assert not run_lines(code, **places(leaf()))


SPREAD = """a[
        0
    ] = double(
        t[0]
    )
    a[1:] = [
        t[0],
        1.0,
    ]"""


def test_several_lines():
    assert [(leak.how, leak.where) for leak in run_lines(SPREAD, **places(leaf()))] == [
        ("a[0] = ...", f"{SPREAD}:2"),
        ("a[1:] = ...", f"{SPREAD}:7"),
    ]


CALLS = """
asarray(t) | square([t, t]) | add.reduce([t, t]) | add.outer([t[0]], [t[1]]) | full(3, t)
concatenate([[t[0]], [t[1]]]) | mean([t, t]) | float64(t[0]) | list(map(np.asarray, [t])) | array_of(t)
memoryview(t) | bytes(t) | np.arange(3).choose([t, t, t]) | np.ones(3).dot(t) | np.random.default_rng(0).normal(t)
np.random.default_rng(0).uniform(0, t) | np.linalg.norm([t, t]) | np.fft.fft([t, t]) | np.float32(t)
np.ndarray(3, buffer=t) | np.array([[t[0], 1.0], [2.0, t[1]]]) | np.array([(t, t)]) | np.array(t, dtype=object)
np.array(t, subok=True) | np.rec.fromarrays([t, t]) | np.ndenumerate(t) | np.poly1d([t[0], 1.0])
np.polynomial.polynomial.polyval([1.0, 2.0], t) | np.dot([t], [t, t, t]) | np.r_[[t[0], 1.0], 2.0]
np.where([True, False, True], [t[0], t[1], t[2]], 0.0) | np.hypot(1.0, [t, t]) | np.asarray(a=t) | np.dot(MEMORY, t)
np.where(MEMORY > 0, MEMORY, t) | np.concatenate([MEMORY[0], t]) | np.full_like(MEMORY, [t, t, t]) | t.base | t.data
t.ctypes | t.__array__() | np.ma.masked_array(t, [0, 1, 0]) | np.emath.sqrt([t, t]) | np.vectorize(double)(t)
sadl.Tensor([t[0], 1.0]) | sadl.Parameter(t) | sadl.tensor(t) | np.asarray(t).sum() | (lambda t: np.array(t))(t)
[np.array(v) for v in [t]] | getattr(t, "base") if False else t.base | np.lib.stride_tricks.as_strided(t)
np.require(t, dtype=np.float32) | np.asarray_chkfinite(t)
"""
FINE = """
np.stack([t, t]) | np.concatenate([t, t]) | np.sum(t) | add.reduce(t) | square(t) | mean(t) | asarray([1.0])
np.asarray([1.0]) | np.array(X) | np.shape([t, t]) | np.ndim([t]) | np.argmax([t, t]) | np.zeros_like([t, t])
np.full_like([t, t], 1.0) | np.isclose([t], [t]) | np.sort(t) | np.array([t, t]) > 0 if False else None
np.asarray(t, dtype=int) | np.array([t, t], dtype=bool) | np.floor([t, t]) | np.zeros(t.shape) | np.where(t > 0)
np.nonzero([t]) | np.may_share_memory(t, t) | np.result_type(t, 1.0) | np.isscalar(t) | np.iterable(t)
t.shape, t.dtype | np.r_[t, t] | np.linspace(0.0, t[0], 3) | np.fromfunction(lambda i: t[i], (3,), dtype=int)
np.frexp(t) | np.linalg.qr(np.outer(t, t))[0] | t.astype(np.float32) | t.flat | t.copy() | copy.copy(t)
copy.deepcopy(t) | pickle.dumps(leaf()) | isinstance(t, np.ndarray) | max(t) | sorted(t) | list(t) | sum(t)
np.broadcast(t, t).shape | np.errstate(all="ignore") | np.testing.assert_equal(1, 1) | np.dtype(float)
np.finfo(t.dtype) | np.random.default_rng(0).normal(size=t.shape) * t | np.float64(1.0) * t | np.einsum("i,i", t, t)
np.choose([0, 1, 0], [t, t]) | concatenate([t, t]) | constant(t) | np.add(t, 1.0, out=sadl.zeros(3, dtype=float))
np.isnan(t) | sadl.Tensor(X) | sadl.Parameter(X) | sadl.tensor([1.0]) | repr(t)
sadl.grad(lambda x: np.sum(np.exp(x)))(X) | sadl.check_grads(np.tanh, (X,)) | F.softmax(t)
np.linalg.solve(np.eye(3), t) | t.grad
"""


def array_of(t):
    from numpy import array

    return array(t)


@pytest.mark.parametrize("code", EACH(CALLS))
def test_calls_that_convert_are_found(code):
    found = run_lines(code, t=leaf())
    assert found and {leak.kind for leak in found} <= {"converted", "handed out as memory"}
    assert all(leak.where.startswith((f"{code}:", __file__)) for leak in found)


@pytest.mark.parametrize("code", EACH(FINE))
def test_other_calls_are_not(code):
    assert not run_lines(code, t=leaf())


def test_each_line_is_noted_once():
    def run(t):
        for _ in range(3):
            np.asarray(t)
            float(t[0])

    with leaks() as found:
        run(leaf())
    assert [(leak.kind, leak.where) for leak in found] == [
        ("converted", line_of(run, 2)),
        ("read into Python", line_of(run, 3)),
    ]


def test_reads_can_be_left_out():
    with leaks(reads=False, error=True) as found:
        assert float(leaf()[0]) == 1
    assert not found


def test_a_training_step_has_no_leak():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 3)), rng.integers(0, 2, 8)
    model = sadl.Mlp([sadl.Linear(dim_in=3, dim_out=4, rng=0), sadl.ReLU(), sadl.Linear(dim_in=4, dim_out=2, rng=1)])
    optimizer = sadl.Adam(model, lr=0.1)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    compiled = sadl.compile(step)
    with leaks(error=True), sadl.config(jit=False):
        for run in (step, compiled, compiled, compiled):
            run(x, y)
        pickle.loads(pickle.dumps(model))
        copy.deepcopy(model)


NAMESPACES = {"np": np, "np.linalg": np.linalg, "np.fft": np.fft, "np.lib.stride_tricks": np.lib.stride_tricks}
NAMES = [
    f"{path}.{name}"
    for path, module in NAMESPACES.items()
    for name in sorted(vars(module))
    if not name.startswith("_")
    and callable(getattr(module, name))
    and not name.startswith(("save", "set", "test"))  # these write files, change settings, run tests
]
ARGUMENTS = [
    "t",
    "[t, t]",
    "t, t",
    "[t, t], [t, t]",
    "a, [t, t, t]",
    "s",
    "[s, s]",
    "3, t",
    "[t, t], 1",
    "t, [t]",
    "b, [t, t, t], a",
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_every_function_records_raises_or_is_found(name):
    """Where floats come out that no Tensor has a history of, either sadl says that it is right, or a leak is found."""
    function = eval(name)
    for arguments in ARGUMENTS:
        if arguments == "3, t" and isinstance(function, np.ufunc) and function.nin == 1:
            continue  # the second argument is where the result goes
        t = leaf() * 1
        space = {"np": np, "t": t, "s": np.outer(t, t) + np.eye(3), "a": np.ones(3), "b": np.array([True, False, True])}
        with contextlib.redirect_stdout(io.StringIO()), leaks(reads=False) as found:
            try:
                result = eval(f"{name}({arguments})", space)
            except Exception:
                continue
        outs = [x for x in flatten(result)[0] if isinstance(x, (np.ndarray, np.generic, float)) and is_float(x)]
        followed = [x for x in outs if getattr(x, "requires_grad", False)]
        if followed:
            assert not found
        elif outs and not all(isinstance(x, sadl.Tensor) and x._raw is not None for x in outs):
            assert found or is_known_constant(function, arguments), arguments


def is_float(x):
    return np.asarray(plain(x)).dtype.kind in "fc"


def is_known_constant(function, arguments):
    by_shape = function in (
        np.zeros_like,
        np.ones_like,
        np.empty_like,
        np.zeros,
        np.ones,
        np.empty,
        np.eye,
        np.identity,
    )
    by_shape = by_shape or (function is np.full_like and arguments == "[t, t], 1")
    known = isinstance(function, np.ufunc) and UFUNCS.get(function)
    return by_shape or function in CONSTANT | HOST or (known and not known.differentiable)


# ---- everything is as before ---------------------------------------------------------------------------------------


def test_errors_and_nesting_give_everything_back():
    before = np.array
    with pytest.raises(ZeroDivisionError), leaks():
        raise ZeroDivisionError
    with leaks() as outer:
        np.array(leaf())
        with leaks(reads=False) as inner, pytest.raises(UnrecordedError), leaks(error=True):
            np.asarray(leaf())
        assert np.array is not before
        float(leaf()[0])
    assert [leak.how for leak in outer] == ["np.array", "np.asarray", "float(t)"]
    assert [leak.how for leak in inner] == ["np.asarray"] and np.array is before


def test_as_a_decorator():
    look = leaks()

    @look
    def convert(t, n=1):
        """Converts."""
        return np.asarray(t) if n == 0 else convert(t, n - 1)

    assert convert.__doc__ == "Converts." and not look.found
    convert(leaf()), convert(leaf(), n=2)
    assert [leak.how for leak in look.found] == ["np.asarray"]
    with pytest.raises(UnrecordedError, match=r"\[np\.asarray\] a Tensor float64 \(3,\).*test_debug\.py:\d+\. Instead"):
        leaks(error=True)(lambda t: np.asarray(t))(leaf())
    for later in (later_generator, later_coroutine):
        with pytest.raises(TypeError, match="with sadl.debug.leaks"):
            leaks()(later)


def later_generator():
    yield


async def later_coroutine():
    pass


def test_other_threads_and_contexts_are_left_alone():
    async def convert():
        np.asarray(leaf())
        a = np.zeros(3)
        a[:] = leaf()

    async def watch():
        with leaks() as found:
            await asyncio.sleep(0.01)
        return found

    async def both():
        return (await asyncio.gather(watch(), convert()))[0]

    assert not asyncio.run(both())
    seen = []
    with leaks(error=True):
        thread = threading.Thread(
            target=lambda: seen.append((np.asarray(leaf()), np.asarray is asarray, sys.gettrace()))
        )
        thread.start(), thread.join()
    assert seen[0][1:] == (True, None)


def test_many_threads_at_once():
    def work(k):
        for _ in range(30):
            with leaks(reads=False) as found:
                np.array(leaf()) if k % 2 else np.stack([leaf()])
            results[k] += len(found)

    results = [0] * 4
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [0, 30, 0, 30]


def test_classes_comparisons_and_pickling_work_within():
    with leaks() as found:
        assert isinstance(X, np.ndarray) and issubclass(np.float64, np.floating) and np.float64 is float64
        assert isinstance(np.add, np.ufunc) and np.add is add and np.dtype(np.float32).type is np.float32
        assert np.sum is np.sum and np.sum.__name__ == "sum" and np.zeros(3, np.float32).dtype == np.float32
        assert pickle.loads(pickle.dumps((asarray, mean, add, float64))) == (asarray, mean, add, float64)
        assert np.mean.__doc__ == mean.__doc__

        class Own(np.ndarray):
            pass

        with np.errstate(all="raise"):
            assert X.view(Own).sum() == 6
    assert not found


def test_modules_imported_within_get_the_originals(tmp_path, monkeypatch):
    (tmp_path / "imported_within.py").write_text("import numpy as np\nfrom numpy import array\nwhole = np.asarray\n")
    monkeypatch.syspath_prepend(tmp_path)
    with leaks():
        module = importlib.import_module("imported_within")
        assert (module.array, module.whole) == (np.array.__wrapped__, asarray)


def test_numba_compiles_within():
    numba = pytest.importorskip("numba")

    @numba.njit
    def norm(x):
        return np.sqrt(np.sum(x * x)) + mean(x)

    with leaks(error=True):
        assert norm(X) == np.sqrt(14) + 2


def test_a_trace_function_goes_on_and_comes_back():
    """A debugger or a coverage tool hears the same events, within and after."""

    def traced(look):
        events = []

        def local(frame, event, arg):
            events.append((frame.f_code.co_name, event, frame.f_lineno))
            return local

        def trace(frame, event, arg):
            return local(frame, event, arg) if frame.f_code in codes else None

        codes = {work.__code__, double.__code__}
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            with look:
                work()
            assert sys.gettrace() is trace
            work()
        finally:
            sys.settrace(before)
        return events

    def work():
        a = np.zeros(3)
        for i in range(2):
            a[i] = double(leaf())[i]
        with contextlib.suppress(ValueError):
            a[:] = double(leaf()[:2])
        return a

    look = leaks(reads=False)
    assert traced(contextlib.nullcontext()) == traced(look) and len(look.found) == 2


def test_a_debugger_that_starts_within_stays():
    def trace(frame, event, arg):
        return None

    before = sys.gettrace()
    try:
        with leaks():
            sys.settrace(trace)
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)


def test_an_error_in_the_code_is_the_codes_own():
    def wrong(t):
        a = np.zeros(3)
        asarray(t, dtype="nonsense")
        a[:] = t

    with pytest.raises(TypeError, match="nonsense"), leaks() as found:
        wrong(leaf())
    assert not found


def test_inside_a_compiled_function():
    """Both look: the capture refuses what is taken out, and only leaks hears of writes."""
    a = np.zeros(3)

    def step(t):
        a[:] = t
        return t * 2

    run = sadl.compile(step)
    with leaks() as found, sadl.config(jit=False):
        run(leaf())
    assert [(leak.kind, leak.where) for leak in found] == [("written into a plain array", line_of(step, 1))]


def test_a_line_of_another_package_is_named():
    linalg = pytest.importorskip("scipy.linalg")
    with leaks() as found:
        linalg.expm(np.outer(leaf(), leaf()))
    assert found and found[0].kind == "converted"


# ---- arrays of other classes beside a Tensor -----------------------------------------------------------------------

MASKED, MATRIX = np.ma.array(X, mask=[False, True, False]), np.ones((3, 3)).view(np.matrix)
BESIDE = """
t * MASKED | t + MASKED | MASKED - t | MASKED * t | np.add(t, MASKED) | np.hypot(MASKED, t) | t == MASKED | t < MASKED
t / MASKED | t * MATRIX | t @ MATRIX | MATRIX @ t | MATRIX[:, :1] * t | np.multiply(MATRIX, t)
np.concatenate([t, MASKED]) | np.stack([t, MASKED])
"""


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("code", EACH(BESIDE))
def test_a_masked_array_or_a_matrix_is_an_error(code):
    with pytest.raises(UnrecordedError, match="Instead: "):
        eval(code, {**globals(), "t": leaf()})
    try:
        result = eval(code, {**globals(), "t": sadl.Tensor(X)})
    except UnrecordedError:
        return
    assert isinstance(result, (np.ma.MaskedArray, np.matrix)) and not isinstance(result, sadl.Tensor)


@pytest.mark.parametrize("make", [lambda x: x.view(np.recarray), lambda x: memory_map(x)])
def test_arrays_of_classes_that_add_nothing_are_fine(make):
    other = make(X)
    sadl.check_grads(lambda t: t * other + np.sum(t @ other) + np.stack([t, np.asarray(other)])[1], (X,))


def memory_map(x):
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, x.dtype, "w+", shape=x.shape)
    mapped[:] = x
    return mapped
