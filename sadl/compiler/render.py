"""render: write a loop nest as Python source that a person can read and Numba can compile.

Takes a Nest; gives a Source: the text of one function, its parameters with their types, and what each is bound to.
The text depends on structure alone (loops, dtypes, which strides are 0 or 1): sizes, strides, numbers are parameters.
"""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sadl.compiler.ir import Atom, Eqn, Literal, Var, operand_dtypes, used_inputs
from sadl.compiler.lower import Nest, Operand

BLOCK = 4096  # a long sum is a sum of sums of so many elements, which keeps float32 accurate
INDENT = "    "


@dataclass
class Source:
    """One kernel: `text` is the file, `parameters` are (name, type) after `lo, hi`, `bound` is what each stands for."""

    name: str
    text: str
    parameters: tuple[tuple[str, str], ...]
    bound: tuple[
        tuple[str, Any], ...
    ]  # ("size", loop), ("array", Var), ("stride", (Var, loop)), ("spread", Var), ("number", Literal)


@dataclass
class _Scope:
    """Lines at one depth of the nest, and the names of the values that are known there."""

    depth: int
    outer: "_Scope | None" = None
    lines: list[str] = field(default_factory=list)
    names: dict[Var, str] = field(default_factory=dict)

    def find(self, v: Var) -> str | None:
        return self.names.get(v) or (self.outer.find(v) if self.outer else None)

    def add(self, text: str, where: str = "") -> None:
        self.lines.append(INDENT * self.depth + text + (f"  # {_short(where)}" if where else ""))


def _short(where: str) -> str:
    path, _, line = where.rpartition(":")
    return "/".join(path.split("/")[-2:]) + ":" + line


def render(nest: Nest) -> Source:
    writer = _Writer(nest)
    if nest.space.is_column:
        writer.column()
    elif nest.space.reduced:
        writer.rows()
    else:
        writer.map()
    return writer.source()


class _Writer:
    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self.loops = [("i" if k < nest.kept else "j") + str(k) for k in range(len(nest.sizes))]
        self.arrays: dict[Var, str] = {}
        self.bound: dict[str, tuple[str, str, Any]] = {}  # parameter -> (type, kind, what)
        self.scalars: dict[tuple[str, str], str] = {}
        self.stored: set[Var] = set()  # what a later part of the nest can read back from memory
        self.top = _Scope(1)  # numbers in memory are read once, before the loops
        self.lines: list[str] = []
        self.used: Counter[str] = Counter()  # how often each prefix of a name was given

    # ---- names ---------------------------------------------------------------------------------------------------

    def new(self, prefix: str) -> str:
        self.used[prefix] += 1
        return f"{prefix}{self.used[prefix] - 1}"

    def array(self, operand: Operand) -> str:
        if operand.replaces is not None:  # one pointer for both, or LLVM would not vectorise for fear of overlap
            return self.array(self.nest.operands[operand.replaces])
        v = operand.var
        if v not in self.arrays:
            prefix = "t" if operand.scratch else "y" if v in self.nest.made else "z" if operand.updated else "x"
            self.arrays[v] = name = self.new(prefix)
            self.bound[name] = (f"{_stored(v.aval.dtype)}*", "array", v)
        return self.arrays[v]

    def index(self, operand: Operand) -> str:
        """The position of the current element, as a sum over the loops along which it moves."""
        terms = []
        if operand.scratch and self.nest.kept and not self.nest.space.is_column:  # each range has a row of its own
            name = f"{self.array(operand)}_lo"
            self.bound[name] = ("int64", "spread", operand.var)
            terms.append(f"lo * {name}")
        for k, stride in enumerate(operand.strides):
            if stride == 1:
                terms.append(self.loops[k])
            elif stride:
                name = f"{self.array(operand)}_{self.loops[k]}"
                self.bound[name] = ("int64", "stride", (operand.replaces or operand.var, k))
                terms.append(f"{self.loops[k]} * {name}")
        return " + ".join(terms) or "0"

    def size(self, k: int) -> str:
        self.bound[f"n{k}"] = ("int64", "size", k)
        return f"n{k}"

    def number(self, literal: Literal, dtype: np.dtype) -> str:
        key = (repr(literal), dtype.name)
        if key not in self.scalars:
            self.scalars[key] = name = self.new("s")
            self.bound[name] = (dtype.name, "number", literal)
        return self.scalars[key]

    # ---- statements ----------------------------------------------------------------------------------------------

    def open_loops(self, scope: _Scope, which: range) -> _Scope:
        """`for` lines for the loops `which`; the first kept loop runs over the range the kernel is given."""
        for k in which:
            bounds = "lo, hi" if k == 0 and self.nest.kept else self.size(k)
            scope.add(f"for {self.loops[k]} in range({bounds}):")
            scope = _Scope(scope.depth + 1, scope, scope.lines)
        return scope

    def load(self, v: Var, scope: _Scope) -> str:
        operand = self.nest.operands[v]
        if v not in self.nest.made and not any(operand.strides):
            scope = self.top
        text = f"{self.array(operand)}[{self.index(operand)}]"
        scope.names[v] = name = self.new("v")
        scope.add(f"{name} = {text}" + (" != 0" if v.aval.dtype == bool else ""))
        return name

    def store(self, v: Var, scope: _Scope, rows: _Scope | None = None) -> None:
        operand = self.nest.operands[v]
        value = self.value(v, scope, rows)
        text = f"uint8({value})" if v.aval.dtype == bool else value
        scope.add(f"{self.array(operand)}[{self.index(operand)}] = {text}")

    def atom(self, x: Atom, dtype: np.dtype, scope: _Scope, rows: _Scope | None) -> str:
        if isinstance(x, Literal):
            return self.number(x, dtype)
        name = self.value(x, scope, rows)
        return name if x.aval.dtype == dtype else f"{_type(dtype)}({name})"

    def value(self, v: Var, scope: _Scope, rows: _Scope | None = None) -> str:
        """The name of a value in `scope`, computed there first if need be; a value of the row goes to `rows`."""
        name = scope.find(v)
        if name is not None:
            return name
        target = rows if rows is not None and self.nest.on_rows(v) else scope
        if v not in self.nest.made or v in self.stored:
            return self.load(v, target)
        return self.compute(self.nest.made[v], target, rows)

    def compute(self, eqn: Eqn, scope: _Scope, rows: _Scope | None) -> str:
        text = self.expression(eqn, scope, rows)
        scope.names[eqn.out] = name = self.new("v")
        scope.add(f"{name} = {text}", eqn.where)
        return name

    def expression(self, eqn: Eqn, scope: _Scope, rows: _Scope | None) -> str:
        out = eqn.out.aval.dtype
        if eqn.op.name == "iota":
            return self.position(eqn.out)
        if eqn.op.kind == "view":
            return self.value(eqn.inputs[0], scope, rows)  # type: ignore[arg-type]
        used = used_inputs(eqn)
        dtypes = operand_dtypes(eqn)
        names = {n: self.atom(x, d, scope, rows) for (n, x), d in zip(used, dtypes, strict=True)}
        text = eqn.op.expr.format(one=f"{_type(out)}(1)", type=_type(out), **names)
        same = out.kind == "f" and out in dtypes and all(d in (out, bool) for d in dtypes)
        return text if same or (out == bool and any(c in text for c in "<>=&|^")) else f"{_type(out)}({text})"

    def position(self, v: Var) -> str:
        strides = self.nest.positions[v]
        terms = [self.loops[k] if s == 1 else f"{self.loops[k]} * {s}" for k, s in enumerate(strides) if s]
        return f"int64({' + '.join(terms) or '0'})"

    def combine(self, eqn: Eqn, acc: str, scope: _Scope, rows: _Scope | None) -> str:
        x = eqn.inputs[0]
        keep = eqn.op.name in ("any", "all")
        name = self.atom(x, x.aval.dtype if keep else eqn.out.aval.dtype, scope, rows)
        text = eqn.op.expr.format(acc=acc, x=name)
        return text if eqn.out.aval.dtype.kind in "fb" else f"{_type(eqn.out.aval.dtype)}({text})"

    # ---- the three nests -----------------------------------------------------------------------------------------

    def map(self) -> None:
        top = _Scope(1, self.top)
        inner = self.open_loops(top, range(len(self.nest.sizes)))
        for v in self.nest.body.outputs:
            self.value(v, inner)  # type: ignore[arg-type]
        for v in self.nest.body.outputs:
            self.store(v, inner)  # type: ignore[arg-type]
        self.lines = self.top.lines + top.lines

    def rows(self) -> None:
        """Per row: as many runs over its elements as its results depend on each other, with work on the row between."""
        nest = self.nest
        top = _Scope(1, self.top)
        row = self.open_loops(top, range(nest.kept))
        for v in nest.body.inputs:
            if v in nest.operands and nest.on_rows(v):
                self.load(v, row)
        totals = [e for e in nest.body.eqns if e.op.kind == "reduction"]
        runs = {nest.level[e.out] - 1 for e in totals}
        runs |= {nest.level[v] for v in nest.body.outputs if not nest.on_rows(v)}  # type: ignore[arg-type, index]
        for run in sorted(runs):
            self.run(run, row, [e for e in totals if nest.level[e.out] - 1 == run])
        for v in nest.body.outputs:  # type: ignore[assignment]
            if nest.on_rows(v):
                self.value(v, row)
        for v in nest.body.outputs:  # type: ignore[assignment]
            if nest.on_rows(v):
                self.store(v, row)
        self.lines = self.top.lines + top.lines

    def run(self, run: int, row: _Scope, totals: list[Eqn]) -> None:
        """One run over the elements of the row: totals are accumulated, values along the row are stored."""
        nest = self.nest
        blocked = not nest.kept and all(e.op.name == "sum" and e.out.aval.dtype.kind == "f" for e in totals) and totals
        sums = {e.out: self.new("a") for e in totals}
        for e in totals:
            row.add(f"{sums[e.out]} = {_start(e)}")
        before = _Scope(row.depth, row, [], row.names)  # what the loop needs to know of the row comes before it
        loop = _Scope(row.depth, before)
        inner, parts = self.open_run(loop, totals, sums, bool(blocked))
        for e in totals:
            name = parts[e.out]
            inner.add(f"{name} = {self.combine(e, name, inner, before)}", e.where)
        for v in self.kept_along(run):
            self.store(v, inner, before)
        self.close_run(loop, totals, sums, parts)
        row.lines += before.lines + loop.lines
        self.stored |= set(self.kept_along(run))
        for e in totals:
            row.names[e.out] = sums[e.out]

    def open_run(
        self, loop: _Scope, totals: list[Eqn], sums: dict[Var, str], blocked: bool
    ) -> tuple[_Scope, dict[Var, str]]:
        nest = self.nest
        if not blocked:
            return self.open_loops(loop, range(nest.kept, len(nest.sizes))), sums
        last = len(nest.sizes) - 1
        scope = self.open_loops(loop, range(nest.kept, last))
        n, j = self.size(last), self.loops[last]
        scope.add(f"for b in range(0, {n}, {BLOCK}):")
        scope = _Scope(scope.depth + 1, scope, scope.lines)
        parts = {e.out: self.new("p") for e in totals}
        for e in totals:
            scope.add(f"{parts[e.out]} = {_start(e)}")
        self.after = scope
        scope.add(f"for {j} in range(b, min(b + {BLOCK}, {n})):")
        return _Scope(scope.depth + 1, scope, scope.lines), parts

    def close_run(self, loop: _Scope, totals: list[Eqn], sums: dict[Var, str], parts: dict[Var, str]) -> None:
        if parts is not sums:
            for e in totals:
                self.after.add(f"{sums[e.out]} += {parts[e.out]}")

    def kept_along(self, run: int) -> list[Var]:
        """Values along the row that this run stores: outputs, and what later runs need."""
        return [v for v, when in self.nest.stored_in.items() if when == run]

    def column(self) -> None:
        """Totals are rows in memory: set to the start, added to row by row, then worked on."""
        nest = self.nest
        totals = [e for e in nest.body.eqns if e.op.kind == "reduction"]
        top = _Scope(1, self.top)
        first = self.open_loops(top, range(nest.kept))
        for e in totals:
            operand = nest.operands[e.out]
            first.add(f"{self.array(operand)}[{self.index(operand)}] = {_start(e, stored=True)}")
        along = self.open_loops(self.open_loops(top, range(nest.kept, len(nest.sizes))), range(nest.kept))
        for v in nest.body.outputs:
            if not nest.on_rows(v):  # type: ignore[arg-type]
                self.store(v, along)  # type: ignore[arg-type]
        for e in totals:
            operand = nest.operands[e.out]
            place = f"{self.array(operand)}[{self.index(operand)}]"
            along.add(f"{place} = {self.combine(e, place, along, None)}", e.where)
        self.stored = {e.out for e in totals}
        rest = [v for v in nest.body.outputs if nest.on_rows(v) and v not in self.stored]  # type: ignore[arg-type]
        if rest:
            last = self.open_loops(top, range(nest.kept))
            for v in rest:
                self.value(v, last)  # type: ignore[arg-type]
            for v in rest:
                self.store(v, last)  # type: ignore[arg-type]
        self.lines = self.top.lines + top.lines

    # ---- the file ------------------------------------------------------------------------------------------------

    def source(self) -> Source:
        order = sorted(self.bound, key=lambda n: ("nxzyts".find(n[0]), n))
        steps = [n for n in order if self.bound[n][1] in ("stride", "spread")]
        names = [n for n in order if n not in steps] + steps
        parameters = tuple((n, self.bound[n][0]) for n in names)
        bound = tuple((self.bound[n][1], self.bound[n][2]) for n in names)
        code = "\n".join(line.partition("  #")[0] for line in self.lines)
        digest = hashlib.sha256(repr((parameters, code)).encode()).hexdigest()[:16]
        name = f"k_{digest}"
        return Source(name, _file(name, parameters, self.lines, code), parameters, bound)


def _file(name: str, parameters: tuple[tuple[str, str], ...], lines: list[str], code: str) -> str:
    calls = sorted(set(re.findall(r"\b([a-z_][a-z_0-9]*)\(", code)) - {"range", "min"})
    types = sorted({c for c in calls if c in _TYPES} | ({"inf"} if re.search(r"\binf\b", code) else set()))
    math = sorted(set(calls) - set(types))
    head = [f'"""{_summary(parameters)}"""', ""]
    head += [f"from numpy import {', '.join(types)}"] if types else []
    head += [f"from sadl.kernels.vmath import {', '.join(math)}"] if math else []
    table = ["", f"PARAMETERS = {parameters!r}", "", ""]
    signature = f"def {name}(lo, hi{''.join(', ' + n for n, _ in parameters)}):"
    return "\n".join([*head, *table, signature, *lines, ""])


def _summary(parameters: tuple[tuple[str, str], ...]) -> str:
    arrays = [f"{n} ({t[:-1]})" for n, t in parameters if t.endswith("*")]
    return (
        f"A kernel over {', '.join(arrays)}; x is read, y written, z both, t scratch; n sizes, s numbers, *_i strides."
    )


_TYPES = {"float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool_"}


def _type(dtype: np.dtype) -> str:
    return "bool_" if dtype == bool else dtype.name


def _stored(dtype: np.dtype) -> str:
    return "uint8" if dtype == bool else dtype.name


def _start(eqn: Eqn, stored: bool = False) -> str:
    """The accumulator before the first element: the identity, or the worst value of the dtype."""
    dtype = eqn.out.aval.dtype
    type_ = _stored(dtype) if stored else _type(dtype)
    if eqn.op.identity is not None:
        return f"{type_}({int(eqn.op.identity)})"
    worst = -1 if eqn.op.name == "max" else 1
    if dtype.kind == "f":
        return f"{type_}({'-' if worst < 0 else ''}inf)"
    limits = (0, 1) if dtype == bool else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return f"{type_}({limits[worst > 0]})"
