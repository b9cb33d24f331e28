"""blocks: totals of large arrays in blocks, which the threads share.

Takes a graph of clusters; gives one in which a kernel that reduces all there is gives a total per block, and a small
one after it those of everything. Numbers that it works out by the way get a kernel before it. Blocks depend on sizes
alone, so that results do not depend on how many threads there are.
"""

from dataclasses import replace

from sadl.compiler.fuse import MAX_ARRAYS, Cluster, Dims, make_cluster, reads_total, runs_along
from sadl.compiler.ir import Eqn, Graph, Var
from sadl.op import OPS, Aval

LEAST = 1 << 16  # elements: fewer are done before another thread has woken up
FEWEST, MOST = 4, 64  # blocks


def blocks(graph: Graph) -> Graph:
    return graph.with_eqns(e for eqn in graph.eqns for e in _in_blocks(eqn))


def _in_blocks(eqn: Eqn) -> list[Eqn]:
    """The kernels to run instead of a cluster: itself, where blocks do not apply."""
    if "cluster" not in eqn.params or not _is_total(eqn):
        return [eqn]
    space: Cluster = eqn.params["cluster"]
    body: Graph = eqn.params["body"]
    count = _count(space.axes)
    numbers = {e.out for e in body.eqns if not runs_along(space.dims[e.out])}
    totals = [e for e in body.eqns if e.op.kind == "reduction"]
    partial = {e.out: _partial(e, space, count) for e in totals}
    late = _depending(body, {e.out for e in totals}) - set(partial)
    sums = [e for es in partial.values() for e in es]
    before = [e for e in body.eqns if e.out in numbers - late - set(partial)]
    large = [e for e in body.eqns if e.out not in numbers]
    after = [e for t in totals for e in _total(t, partial[t.out][-1].out)] + [e for e in body.eqns if e.out in late]
    needed = {*eqn.outs, *(x for e in (*large, *after) for x in e.inputs if isinstance(x, Var))}
    dims: dict[Var, Dims] = {es[-1].out: (0,) for es in partial.values()}
    parts = [
        make_cluster(before, needed, Cluster((), frozenset(), space.dims), eqn.where),
        make_cluster([*large, *sums], {*eqn.outs, *dims}, _cut(space, count, sums, dims), eqn.where),
        make_cluster(after, set(eqn.outs), Cluster((count,), frozenset({0}), _all_dims(after, space, dims)), eqn.where),
    ]
    fits = all(len(e.inputs) + len(e.outs) <= MAX_ARRAYS for e in parts)
    return [e for e in parts if e.outs] if fits else [eqn]


def _is_total(eqn: Eqn) -> bool:
    """Whether a cluster reduces all its axes, in one run through them."""
    space: Cluster = eqn.params["cluster"]
    eqns = eqn.params["body"].eqns
    if not space.reduced or space.kept or _count(space.axes) < FEWEST:
        return False
    large = max(v.aval.size for v in (*eqn.params["body"].inputs, *eqn.outs)) >= LEAST
    return large and not reads_total(eqns, space) and all(e.op.name != "iota" for e in eqns)


def _count(axes: tuple[int, ...]) -> int:
    """How many blocks: as many as the first axis has, or as divide the only one."""
    return axes[0] if len(axes) > 1 else next((b for b in range(MOST, 1, -1) if axes[0] % b == 0), 1)


def _depending(body: Graph, on: set[Var]) -> set[Var]:
    found = set(on)
    for e in body.eqns:
        if found.intersection(e.inputs):
            found.add(e.out)
    return found


def _partial(eqn: Eqn, space: Cluster, count: int) -> list[Eqn]:
    """The totals of the blocks, in place of that of everything."""
    (x,) = eqn.inputs
    out = Var(Aval((count,), eqn.out.aval.dtype))
    if len(space.axes) > 1:
        axes = tuple(i for i, d in enumerate(space.dims[x]) if d != 0)  # type: ignore[index]
        return [replace(eqn, params={"axis": axes, "keepdims": False}, outs=(out,))]
    shape = (count, space.axes[0] // count)
    rows = Var(Aval(shape, x.aval.dtype))
    view = Eqn(OPS["reshape"], (x,), {"shape": shape}, (rows,), eqn.where)
    return [view, replace(eqn, inputs=(rows,), params={"axis": (1,), "keepdims": False}, outs=(out,))]


def _total(eqn: Eqn, partial: Var) -> list[Eqn]:
    number = eqn.out if eqn.out.aval.shape == () else Var(Aval((), eqn.out.aval.dtype))
    total = replace(eqn, inputs=(partial,), params={"axis": (0,), "keepdims": False}, outs=(number,))
    if number is eqn.out:
        return [total]
    return [total, Eqn(OPS["reshape"], (number,), {"shape": eqn.out.aval.shape}, (eqn.out,), eqn.where)]


def _cut(space: Cluster, count: int, sums: list[Eqn], dims: dict[Var, Dims]) -> Cluster:
    """The same axes, the first of which is kept: cut off the only one, if there is no other."""
    if len(space.axes) > 1:
        return Cluster(space.axes, space.reduced - {0}, space.dims | dims)
    both = {v: tuple((0, 1) if d == 0 else d for d in lies) for v, lies in space.dims.items()}
    rows: dict[Var, Dims] = {e.out: (0, 1) for e in sums if e.op.kind == "view"}
    return Cluster((count, space.axes[0] // count), frozenset({1}), both | rows | dims)


def _all_dims(eqns: list[Eqn], space: Cluster, dims: dict[Var, Dims]) -> dict[Var, Dims]:
    return space.dims | {e.out: (None,) * len(e.out.aval.shape) for e in eqns} | dims
