"""The intermediate representation: Var, Literal, Eqn, Graph; its printer, its verifier and its interpreter.

Takes operations of the table; a Graph is a flat, typed list of equations in single-assignment form.
`evaluate` is what a graph means: every pass and every program is tested against it. Changing graphs is left to passes.
"""

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sadl.errors import VerifyError, explain
from sadl.op import Aval, Op, loop_dtypes
from sadl.tape import bind


@dataclass(eq=False, frozen=True, slots=True)
class Var:
    """A value that an equation, or the caller, provides."""

    aval: Aval


@dataclass(frozen=True, slots=True)
class Literal:
    """A number known now: a Python scalar, whose dtype gives way to that of arrays, or a NumPy scalar, with its own."""

    value: Any

    @property
    def aval(self) -> Any:
        return Aval((), self.value.dtype) if isinstance(self.value, np.generic) else self.value

    def __str__(self) -> str:
        weak = not isinstance(self.value, np.generic)
        return repr(self.value) if weak else f"{self.value}:{self.value.dtype.kind}{self.value.dtype.itemsize * 8}"


Atom = Var | Literal


@dataclass(eq=False, frozen=True, slots=True)
class Eqn:
    """outs = op(*inputs, **params); `where` is the user's line that asked for it, `layer` the part of the model."""

    op: Op
    inputs: tuple[Atom, ...]
    params: dict[str, Any]
    outs: tuple[Var, ...]
    where: str = ""
    layer: str = ""  # of calls to libraries only, which can raise errors

    @property
    def out(self) -> Var:
        return self.outs[0]


@dataclass(eq=False, frozen=True, slots=True)
class Graph:
    """A pure function: outputs in terms of inputs and constant arrays.

    `donated` maps the position of an output to that of the input whose memory it replaces when the program has run.
    """

    inputs: tuple[Var, ...]
    eqns: tuple[Eqn, ...]
    outputs: tuple[Atom, ...]
    consts: dict[Var, np.ndarray] = field(default_factory=dict)
    donated: dict[int, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return print_graph(self)

    def producers(self) -> dict[Var, Eqn]:
        return {v: e for e in self.eqns for v in e.outs}

    def with_eqns(self, eqns: Iterable[Eqn], outputs: Sequence[Atom] | None = None) -> "Graph":
        return replace(self, eqns=tuple(eqns), outputs=self.outputs if outputs is None else tuple(outputs))


# ---- printing ------------------------------------------------------------------------------------------------------


def print_graph(graph: Graph, lines: bool = False) -> str:
    """The graph as text, with names by position: equal graphs print equally. `lines` adds the user's lines."""
    names = Names(graph)
    head = ", ".join(f"{names(v)}: {v.aval}" for v in graph.inputs)
    body = [f"  {names(v)}: {v.aval} = const" for v in graph.consts]
    for eqn in graph.eqns:
        body.append("  " + _print_eqn(eqn, names) + (f"  # {eqn.where}" if lines and eqn.where else ""))
    outs = ", ".join(
        names(v) + (f" -> {names(graph.inputs[graph.donated[i]])}" if i in graph.donated else "")
        for i, v in enumerate(graph.outputs)
    )
    return "\n".join([f"graph({head})", *body, f"  return {outs}"])


class Names:
    """%0, %1, ... in the order in which values come up."""

    def __init__(self, graph: Graph) -> None:
        self._names: dict[Var, str] = {}
        for v in (*graph.inputs, *graph.consts, *(v for e in graph.eqns for v in e.outs)):
            self._names[v] = f"%{len(self._names)}"

    def __call__(self, atom: Atom) -> str:
        return str(atom) if isinstance(atom, Literal) else self._names.get(atom, "%unbound")


def _print_eqn(eqn: Eqn, names: Names) -> str:
    outs = ", ".join(f"{names(v)}: {v.aval}" for v in eqn.outs)
    body = eqn.params.get("body")
    params = [f"{k}={_print_param(v)}" for k, v in eqn.params.items() if k not in ("body", "cluster")]
    text = f"{outs} = {eqn.op.name}({', '.join([*map(names, eqn.inputs), *params])})"
    if isinstance(body, Graph):
        text += " {\n" + "\n".join("    " + line for line in print_graph(body).splitlines()) + "\n  }"
    return text


def _print_param(value: Any) -> str:
    return str(value).replace(" ", "") if isinstance(value, tuple) else str(value)


# ---- checking ------------------------------------------------------------------------------------------------------


def verify(graph: Graph, after: str = "") -> Graph:
    """Check that each value is assigned once before its use and has the type its operation infers; give the graph back.

    Raises:
        VerifyError: naming the equation and the pass (`after`) that broke it.
    """
    known = set(graph.inputs) | set(graph.consts)
    for i, eqn in enumerate(graph.eqns):
        problem = _problem(eqn, known)
        if problem:
            raise VerifyError(explain("verify", f"{problem} in equation {i} after {after or 'capture'}:\n{graph}"))
        known.update(eqn.outs)
    for atom in graph.outputs:
        if isinstance(atom, Var) and atom not in known:
            raise VerifyError(explain("verify", f"an output is not bound after {after or 'capture'}:\n{graph}"))
    for out, into in graph.donated.items():
        if graph.outputs[out].aval != graph.inputs[into].aval:
            raise VerifyError(
                explain("verify", f"output {out} replaces an input of another type after {after}:\n{graph}")
            )
    return graph


def _problem(eqn: Eqn, known: set[Var]) -> str:
    if any(isinstance(x, Var) and x not in known for x in eqn.inputs):
        return "a value is used before it is assigned"
    if any(v in known for v in eqn.outs) or len(set(eqn.outs)) < len(eqn.outs):
        return "a value is assigned twice"
    body = eqn.params.get("body")
    if isinstance(body, Graph):
        verify(body, "fuse")
        inner = [x.aval for x in (*body.inputs, *body.outputs)]
        return "" if inner == [x.aval for x in (*eqn.inputs, *eqn.outs)] else "the body has other types"
    inferred = eqn.op.aval(*(x.aval for x in eqn.inputs), **eqn.params)
    if inferred is not None and (*inferred,) != (*eqn.out.aval,):
        return f"{eqn.op.name} gives {inferred}, not {eqn.out.aval},"
    return ""


# ---- meaning -------------------------------------------------------------------------------------------------------


def evaluate(graph: Graph, *args: Any) -> list[Any]:
    """The outputs of the graph for these inputs, by running one operation after the other; on Tensors, recorded."""
    env: dict[Var, Any] = dict(zip(graph.inputs, args, strict=True)) | graph.consts
    read: Callable[[Atom], Any] = lambda x: x.value if isinstance(x, Literal) else env[x]
    for eqn in graph.eqns:
        inputs = [read(x) for x in eqn.inputs]
        body = eqn.params.get("body")
        if isinstance(body, Graph):
            results: Any = evaluate(body, *inputs)
        else:
            results = results_of(bind(eqn.op, *inputs, **eqn.params))
        env.update(zip(eqn.outs, results, strict=True))
    return [read(x) for x in graph.outputs]


def results_of(value: Any) -> Any:
    """What an operation gave, as a sequence; some of NumPy's functions give a tuple of one."""
    return value if isinstance(value, (tuple, list)) else (value,)


def has_open_size(eqn: Eqn) -> bool:
    """Whether the shape of the result depends on values, so that it may be another one in the next call."""
    return eqn.op.open_size(*(x.aval for x in eqn.inputs), **eqn.params)


# ---- what an equation reads, and in which dtypes it computes -------------------------------------------------------

PLACES = {1: ("x",), 2: ("x", "y"), 3: ("c", "x", "y")}  # the names of the inputs in an expression


def used_inputs(eqn: Eqn) -> list[tuple[str, Atom]]:
    """The inputs that the expression mentions, with their names in it."""
    names = PLACES.get(len(eqn.inputs), ())
    if eqn.op.kind == "reduction" or eqn.op.kind == "view":
        return [("x", eqn.inputs[0])]
    return [(n, x) for n, x in zip(names, eqn.inputs, strict=True) if "{" + n + "}" in eqn.op.expr]


def operand_dtypes(eqn: Eqn) -> list[np.dtype]:
    """The dtype in which each used input takes part in the computation."""
    if eqn.op.kind == "reduction":
        return [eqn.out.aval.dtype]
    used = [x for _, x in used_inputs(eqn)]
    if isinstance(eqn.op.fn, np.ufunc) or eqn.op.name == "where":
        dtypes = loop_dtypes(eqn.op, *(x.aval for x in eqn.inputs))
        names = [n for n, _ in used_inputs(eqn)]
        return [d for n, d in zip(PLACES[len(eqn.inputs)], dtypes, strict=False) if n in names]
    return [x.aval.dtype if isinstance(x.aval, Aval) else eqn.out.aval.dtype for x in used]


# ---- rewriting -----------------------------------------------------------------------------------------------------


def substitute(eqn: Eqn, replaced: dict[Var, Atom]) -> Eqn:
    """The equation with some of its inputs replaced."""
    if not any(x in replaced for x in eqn.inputs if isinstance(x, Var)):
        return eqn
    return replace(eqn, inputs=tuple(resolve(x, replaced) for x in eqn.inputs))


def resolve(atom: Atom, replaced: dict[Var, Atom]) -> Atom:
    while isinstance(atom, Var) and atom in replaced:
        atom = replaced[atom]
    return atom


def in_order(needs: Sequence[set[int]], key: Callable[[int], int] = int) -> list[int]:
    """0..n-1 so that each comes after all it `needs`, the smallest `key` first; what lies on a cycle is left out."""
    waits_for = [len(n) for n in needs]
    users: list[list[int]] = [[] for _ in needs]
    for k, before in enumerate(needs):
        for b in before:
            users[b].append(k)
    ready = [(key(k), k) for k, n in enumerate(waits_for) if n == 0]
    heapq.heapify(ready)
    order = []
    while ready:
        _, k = heapq.heappop(ready)
        order.append(k)
        for user in users[k]:
            waits_for[user] -= 1
            if waits_for[user] == 0:
                heapq.heappush(ready, (key(user), user))
    return order
