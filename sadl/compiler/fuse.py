"""fuse: group equations into clusters, each of which becomes one kernel.

Takes a simplified graph; gives one whose `cluster` equations carry their body (a graph) and a `Cluster`, which says
over which axes the kernel loops, which of them it reduces, and along which of them each value lies.
How the loops are written is left to `lower`.

Three shapes of cluster cover what is fused. A *map* has no reduced axis. A *row* cluster reduces the last axis: per row
it may run through the elements several times (softmax, cross entropy, normalisation) and compute on the row's results
in between. A *column* cluster reduces leading axes only (bias gradients): one pass, then work on the results.
"""

import functools
import operator
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sadl.compiler.dce import dce
from sadl.compiler.ir import Atom, Eqn, Graph, Literal, Var, in_order, operand_dtypes, used_inputs
from sadl.op import Op

MAX_ARRAYS = 16  # beyond this LLVM gives up its run-time alias checks, and with them vectorising
DTYPES = {"float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"}

# Per axis of a value: the axis of the cluster it runs along, or the two that it is cut into (by `blocks`), or None
# where its size is 1.
Dims = tuple[Any, ...]

CLUSTER = Op("cluster", lambda *a, **k: None, "call", outs=-1)


@dataclass(frozen=True)
class Cluster:
    """Loop axes (their sizes), the reduced ones among them, and how each value lies along them."""

    axes: tuple[int, ...]
    reduced: frozenset[int]
    dims: dict[Var, Dims] = field(compare=False)

    @property
    def kept(self) -> tuple[int, ...]:
        return tuple(i for i in range(len(self.axes)) if i not in self.reduced)

    @property
    def is_column(self) -> bool:
        return bool(self.reduced) and len(self.axes) - 1 not in self.reduced

    def __str__(self) -> str:
        return "x".join(f"{n}{'!' if i in self.reduced else ''}" for i, n in enumerate(self.axes)) or "scalar"


def runs_along(dims: Dims) -> set[int]:
    """The axes of a cluster along which a value varies."""
    return {axis for d in dims if d is not None for axis in (d if isinstance(d, tuple) else (d,))}


def reads_total(eqns: Iterable[Eqn], space: Cluster) -> bool:
    """Whether something that runs along reduced axes depends on a total, which exists only after a run along them."""
    totals: set[Var] = set()
    for eqn in eqns:
        if eqn.op.kind == "reduction" or any(x in totals for x in eqn.inputs):
            totals.add(eqn.out)
            if runs_along(space.dims[eqn.out]) & space.reduced:
                return True
    return False


@dataclass(eq=False)
class _Group:
    """A cluster being built: which equations, over which space."""

    members: set[int]
    space: Cluster


def fuse(graph: Graph) -> Graph:
    """Merge along every edge from a producer to its consumer where one loop nest can do both."""
    graph = _private_views(graph)
    groups = {i: _Group({i}, space) for i, e in enumerate(graph.eqns) if (space := _space(e)) is not None}
    fusion = _Fusion(graph, groups)
    for i, eqn in enumerate(graph.eqns):
        if i in groups and eqn.op.kind != "view":
            fusion.merge_inputs(i, i)
    return fusion.rebuild()


def as_cluster(eqn: Eqn) -> Eqn:
    """The equation as a cluster of its own, where it can be one."""
    space = _space(eqn)
    if space is None:
        return eqn
    return make_cluster([eqn], eqn.outs, space, eqn.where)


def make_cluster(eqns: Sequence[Eqn], wanted: Container[Var], space: Cluster, where: str) -> Eqn:
    """The equations as one, which gives those of their results that are `wanted`."""
    own = [v for e in eqns for v in e.outs]
    inputs = tuple(dict.fromkeys(x for e in eqns for x in e.inputs if isinstance(x, Var) and x not in own))
    outs = tuple(v for v in own if v in wanted)
    params = {"body": Graph(inputs, tuple(eqns), outs), "cluster": space, "over": str(space)}
    return Eqn(CLUSTER, inputs, params, outs, where)


def _private_views(graph: Graph) -> Graph:
    """Give each fusable use of a view a view of its own, which folds into that kernel's indices; others stay."""
    made = graph.producers()
    eqns: list[Eqn] = []

    def private(x: Atom) -> Atom:
        eqn = made.get(x) if isinstance(x, Var) else None
        if eqn is None or eqn.op.kind != "view" or _space(eqn) is None:
            return x
        eqns.append(replace(eqn, inputs=(private(eqn.inputs[0]),), outs=(Var(eqn.out.aval),)))
        return eqns[-1].out

    for eqn in graph.eqns:
        if eqn.op.kind != "view" and _space(eqn) is not None:
            eqn = replace(eqn, inputs=tuple(map(private, eqn.inputs)))
        eqns.append(eqn)
    return dce(graph.with_eqns(eqns))


# ---- the space of one equation -------------------------------------------------------------------------------------


def _space(eqn: Eqn) -> Cluster | None:
    """The loop space of an equation, or None if it cannot be part of a kernel."""
    values = [x for x in (*eqn.inputs, *eqn.outs) if isinstance(x, Var)]
    if any(v.aval.dtype.name not in DTYPES or not v.aval.dtype.isnative or v.aval.size == 0 for v in values):
        return None
    if eqn.op.name == "power" and eqn.out.aval.dtype.kind == "i":
        return None  # NumPy raises an error for negative exponents, a kernel cannot
    if eqn.op.kind == "elementwise":
        return _elementwise_space(eqn) if eqn.op.name == "iota" or (eqn.op.expr and _numbers_fit(eqn)) else None
    if eqn.op.kind == "reduction":
        return _reduction_space(eqn) if isinstance(eqn.inputs[0], Var) else None
    return _view_space(eqn) if eqn.op.name in _VIEWS and isinstance(eqn.inputs[0], Var) else None


def _numbers_fit(eqn: Eqn) -> bool:
    """Whether kernels know the dtypes that NumPy computes in, and each number is one of its dtype."""
    for (_, x), dtype in zip(used_inputs(eqn), operand_dtypes(eqn), strict=True):
        if dtype.name not in DTYPES:
            return False
        whole = isinstance(x, Literal) and isinstance(x.value, int) and dtype.kind in "iu"
        if whole and not np.iinfo(dtype).min <= x.value <= np.iinfo(dtype).max:  # type: ignore[union-attr]
            return False
    return True


def _number(shape: tuple[int, ...]) -> tuple[Dims, tuple[int, ...]]:
    """Axes of size 1 are no loops: the dims of a value that spans the space, and the space's sizes."""
    count = iter(range(len(shape)))
    dims = tuple(None if n == 1 else next(count) for n in shape)
    return dims, tuple(n for n in shape if n != 1)


def _aligned(shape: tuple[int, ...], dims: Dims) -> Dims:
    """Dims of an operand of `shape` that broadcasts, from the right, against a value with `dims`."""
    tail = dims[len(dims) - len(shape) :]
    return tuple(None if n == 1 else d for n, d in zip(shape, tail, strict=True))


def _elementwise_space(eqn: Eqn) -> Cluster:
    dims, axes = _number(eqn.out.aval.shape)
    lies: dict[Var, Dims] = {x: _aligned(x.aval.shape, dims) for x in eqn.inputs if isinstance(x, Var)}
    return Cluster(axes, frozenset(), lies | {eqn.out: dims})


def _reduction_space(eqn: Eqn) -> Cluster | None:
    (x,) = eqn.inputs
    dims, axes = _number(x.aval.shape)
    gone = eqn.params["axis"]
    reduced = frozenset(d for i, d in enumerate(dims) if i in gone and d is not None)
    out = tuple(None if i in gone else d for i, d in enumerate(dims) if eqn.params["keepdims"] or i not in gone)
    return Cluster(axes, reduced, {x: dims, eqn.out: out}) if reduced else None  # type: ignore[dict-item]


def _view_space(eqn: Eqn) -> Cluster | None:
    (x,) = eqn.inputs
    dims, axes = _number(eqn.out.aval.shape)
    inner = _VIEWS[eqn.op.name](eqn, x.aval.shape, dims)
    return None if inner is None else Cluster(axes, frozenset(), {x: inner, eqn.out: dims})  # type: ignore[dict-item]


def dims_of_inputs(eqn: Eqn, dims: Dims) -> dict[Var, Dims] | None:
    """How what an elementwise operation or a view reads lies along the axes of a cluster, if its result lies so."""
    read = [x for x in eqn.inputs if isinstance(x, Var)]
    if _space(eqn) is None:
        return None
    if eqn.op.kind == "elementwise":
        return {x: _aligned(x.aval.shape, dims) for x in read}
    inner = _VIEWS[eqn.op.name](eqn, read[0].aval.shape, dims)
    return None if inner is None else {read[0]: inner}


def _of_reshape(eqn: Eqn, shape: tuple[int, ...], dims: Dims) -> Dims | None:
    """Only axes of size 1 come and go."""
    big = [d for d in dims if d is not None]
    if [n for n in shape if n != 1] != [n for n in eqn.out.aval.shape if n != 1]:
        return None
    left = iter(big)
    return tuple(None if n == 1 else next(left) for n in shape)


def _of_transpose(eqn: Eqn, shape: tuple[int, ...], dims: Dims) -> Dims:
    order = eqn.params["order"]
    return tuple(dims[order.index(i)] for i in range(len(shape)))


def _of_broadcast(eqn: Eqn, shape: tuple[int, ...], dims: Dims) -> Dims:
    return _aligned(shape, dims)


_VIEWS = {"reshape": _of_reshape, "transpose": _of_transpose, "broadcast_to": _of_broadcast}


# ---- merging two spaces --------------------------------------------------------------------------------------------


def merge(a: Cluster, b: Cluster) -> Cluster | None:
    """One space for both, with the axes of the larger one; None if no single loop nest can serve both."""
    if len(a.axes) < len(b.axes):
        a, b = b, a
    place = _match(a, b)
    if place is None:
        return None
    reduced = frozenset(place[i] for i in b.reduced)
    if len(b.axes) < len(a.axes):
        if b.reduced or not a.reduced or set(place.values()) != set(a.kept):
            return None
    elif a.reduced and reduced and a.reduced != reduced:
        return None
    moved = {v: tuple(None if d is None else place[d] for d in dims) for v, dims in b.dims.items()}
    if any(v in a.dims and a.dims[v] != dims for v, dims in moved.items()):
        return None
    return Cluster(a.axes, a.reduced | reduced, a.dims | moved)


def _match(a: Cluster, b: Cluster) -> dict[int, int] | None:
    """Which axis of `a` each axis of `b` is, from the values they share; axes left over are matched in order."""
    place: dict[int, int] = {}
    for v in b.dims.keys() & a.dims.keys():
        for i, j in zip(b.dims[v], a.dims[v], strict=True):
            if i is not None and (j is None or place.setdefault(i, j) != j):
                return None
    free = [j for j in range(len(a.axes)) if j not in place.values()]
    rest = [i for i in range(len(b.axes)) if i not in place]
    if rest and len(rest) != len(free):
        return None
    place.update(zip(rest, free, strict=False))
    fits = len(set(place.values())) == len(place) and all(b.axes[i] == a.axes[j] for i, j in place.items())
    return place if fits else None


# ---- merging two groups of equations -------------------------------------------------------------------------------


class _Fusion:
    def __init__(self, graph: Graph, groups: dict[int, _Group]) -> None:
        self.graph, self.groups = graph, groups
        self.made_at = {v: i for i, e in enumerate(graph.eqns) for v in e.outs}
        self.before = [{self.made_at[x] for x in e.inputs if x in self.made_at} for e in graph.eqns]
        self.above: list[int] = []  # per equation a bit for each that must run before its group
        for before in self.before:
            self.above.append(_union(1 << p | self.above[p] for p in before))
        self.users: dict[Var, set[int]] = {}
        for i, e in enumerate(graph.eqns):
            for x in e.inputs:
                if isinstance(x, Var):
                    self.users.setdefault(x, set()).add(i)

    def merge_inputs(self, i: int, into: int) -> None:
        """Try to take the producers of equation `i` into the group of `into`; through a view, also what it looks at."""
        for x in self.graph.eqns[i].inputs:
            j = self.made_at.get(x) if isinstance(x, Var) else None
            if j is not None and j in self.groups:
                self.try_merge(j, into)
                if self.graph.eqns[j].op.kind == "view" and self.groups[j] is self.groups[into]:
                    self.merge_inputs(j, into)

    def try_merge(self, i: int, j: int) -> None:
        a, b = self.groups[i], self.groups[j]
        if a is b:
            return
        space = merge(a.space, b.space)
        if space is None:
            return
        members = a.members | b.members
        if self._legal(members, space) and not self._has_outside_path(members):
            group = _Group(members, space)
            for k in members:
                self.groups[k] = group
            self._put_below(members)

    def _legal(self, members: set[int], space: Cluster) -> bool:
        inputs, outs = self.boundary(members)
        return len(inputs) + len(outs) <= MAX_ARRAYS and not (
            space.is_column and reads_total(self._eqns(members), space)
        )

    def _eqns(self, members: set[int]) -> list[Eqn]:
        return [self.graph.eqns[i] for i in sorted(members)]

    def _has_outside_path(self, members: set[int]) -> bool:
        """Whether something outside must run after one member and before another."""
        own = _union(1 << k for k in members)
        outside = {p for k in members for p in self.before[k]} - members
        return any(self.above[p] & own for p in outside)

    def _put_below(self, members: set[int]) -> None:
        """All that runs after one of these has to run after all of them, now that they are one group."""
        own, above = _union(1 << k for k in members), _union(self.above[k] for k in members)
        self.above = [a | above | own if a & own else a for a in self.above]
        for k in members:
            self.above[k] = above

    def _together(self, i: int) -> set[int]:
        return self.groups[i].members if i in self.groups else {i}

    def boundary(self, members: set[int]) -> tuple[list[Var], list[Var]]:
        """What the members read from outside, and what of theirs is needed outside."""
        eqns = self._eqns(members)
        own = {v for e in eqns for v in e.outs}
        inputs = dict.fromkeys(x for e in eqns for x in e.inputs if isinstance(x, Var) and x not in own)
        returned = set(self.graph.outputs)
        outs = [v for e in eqns for v in e.outs if v in returned or self.users.get(v, set()) - members]
        return list(inputs), outs

    def rebuild(self) -> Graph:
        """The graph with one equation per group, in an order that respects all dependencies."""
        units: list[set[int]] = []
        for i in range(len(self.graph.eqns)):
            together = self._together(i)
            if min(together) == i:
                units.append(together)
        return self.graph.with_eqns(self._equation(u) for u in self._ordered(units))

    def _ordered(self, units: list[set[int]]) -> Iterable[set[int]]:
        unit_of = {i: k for k, unit in enumerate(units) for i in unit}
        needs = [{unit_of[p] for i in unit for p in self.before[i]} - {k} for k, unit in enumerate(units)]
        return (units[k] for k in in_order(needs, lambda k: max(units[k])))

    def _equation(self, unit: set[int]) -> Eqn:
        eqns = self._eqns(unit)
        group = self.groups.get(min(unit))
        if group is None or (len(eqns) == 1 and eqns[0].op.kind == "view"):
            return eqns[0]  # a view by itself costs nothing
        return make_cluster(eqns, self.boundary(unit)[1], group.space, eqns[-1].where)


def _union(sets: Iterable[int]) -> int:
    """Sets of small numbers as the bits of an integer."""
    return functools.reduce(operator.or_, sets, 0)
