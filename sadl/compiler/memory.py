"""memory: decide in which order the equations run and where each value lives.

Takes a fused graph; gives a Plan: the order, for each value its layout in a buffer (views share that of their source),
and for each buffer an input, a constant, an output or a place in one arena. State is updated in the caller's own
memory where no reader of the old value is left; everywhere else it is copied there at the end.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from sadl.compiler.fuse import DTYPES, Cluster, as_cluster, reads_total, runs_along
from sadl.compiler.ir import Eqn, Graph, Literal, Var, has_open_size, in_order
from sadl.op import OPS, Aval, Op, inverse

ALIGN = 64  # bytes: a cache line, and the width of the widest vector registers


class Layout(NamedTuple):
    """Where a value lies in its buffer: `offset` and `strides` count elements."""

    root: Var
    offset: int
    strides: tuple[int, ...]


class Buffer(NamedTuple):
    """kind "input" or "output": the index-th of the program; "const": of the graph; "arena": a byte offset."""

    kind: str
    index: int  # type: ignore[assignment]


@dataclass(frozen=True)
class Plan:
    graph: Graph  # with every output a value of its own
    eqns: list[Eqn]  # in the order in which they run, without views
    layouts: dict[Var, Layout]
    buffers: dict[Var, Buffer]
    arena_bytes: int


def plan_memory(graph: Graph, shared: Sequence[tuple[Var, Var]] = ()) -> Plan:
    """`shared` are pairs of inputs whose arrays overlap: what is written to one must wait for readers of the other."""
    graph = _own_outputs(graph)
    consts = dict(graph.consts)
    layouts, eqns = _layouts(graph, consts)
    graph = replace(graph, eqns=tuple(eqns), consts=consts)
    order, in_place = _order(graph, layouts, shared)
    late = {i: p for i, p in graph.donated.items() if i not in in_place}
    copies = {i: as_cluster(_copy(graph.outputs[i])) for i in late}  # type: ignore[arg-type]
    order += copies.values()
    for eqn in copies.values():
        layouts[eqn.out] = contiguous(eqn.out)
    buffers = {v: Buffer("input", i) for i, v in enumerate(graph.inputs)}
    buffers |= {v: Buffer("const", i) for i, v in enumerate(graph.consts)}
    buffers |= {graph.outputs[i]: Buffer("input", p) for i, p in in_place.items()}  # type: ignore[misc]
    buffers |= {copies[i].out: Buffer("input", p) for i, p in late.items()}
    for i, v in enumerate(graph.outputs):
        if i not in graph.donated and isinstance(v, Var):
            buffers[layouts[v].root] = Buffer("output", i)
    size = _arena([e for e in order if e.op.kind != "view"], layouts, buffers)
    return Plan(graph, [e for e in order if e.op.kind != "view"], layouts, buffers, size)


def _copy(v: Var) -> Eqn:
    return Eqn(OPS["copy"], (v,), {}, (Var(v.aval),))


def _own_outputs(graph: Graph) -> Graph:
    """Copy an output that cannot have memory of its own: an input, a constant, a view, or an output already."""
    made = graph.producers()
    eqns, outputs, taken = list(graph.eqns), list(graph.outputs), set()
    for i, v in enumerate(outputs):
        if isinstance(v, Literal):
            continue
        root = v if i in graph.donated else _reshaped(v, made)
        if root not in made or made[root].op.kind == "view" or root in taken:
            eqn = as_cluster(_copy(v))
            eqns.append(eqn)
            outputs[i] = root = eqn.out
        taken.add(root)
    return replace(graph, eqns=tuple(eqns), outputs=tuple(outputs))


def _reshaped(v: Var, made: dict[Var, Eqn]) -> Var:
    """What `v` is a reshape of: all of the same memory, so that the output can be that memory."""
    while v in made and made[v].op.name == "reshape" and isinstance(made[v].inputs[0], Var):
        v = made[v].inputs[0]  # type: ignore[assignment]
    return v


# ---- layouts -------------------------------------------------------------------------------------------------------


def contiguous(v: Var) -> Layout:
    strides, n = [], 1
    for size in reversed(v.aval.shape):
        strides.append(n)
        n *= max(size, 1)
    return Layout(v, 0, tuple(reversed(strides)))


def is_contiguous(v: Var, layout: Layout) -> bool:
    return all(n == 1 or s == t for n, s, t in zip(v.aval.shape, layout.strides, contiguous(v).strides, strict=True))


def _layouts(graph: Graph, consts: dict[Var, np.ndarray]) -> tuple[dict[Var, Layout], list[Eqn]]:
    """The layout of every value. A reshape that its source's strides do not allow becomes a copy and a reshape."""
    layouts = {v: contiguous(v) for v in (*graph.inputs, *graph.consts)}
    pieces = {e.out: _pieces(e) for e in graph.eqns if len(e.outs) == 1}
    placed = _placed(graph, pieces)
    eqns: list[Eqn] = []
    for eqn in graph.eqns:
        if (parts := pieces.get(eqn.outs[0])) is not None:
            layouts[eqn.out] = contiguous(eqn.out)
            inputs = [_put_in_place(part, layout, layouts, consts, eqns) for part, layout in parts]
            eqn = replace(eqn, op=JOINED, inputs=tuple(inputs))
        elif eqn.op.kind == "view":
            source = eqn.inputs[0]
            if isinstance(source, Literal):
                source = Var(Aval((), eqn.out.aval.dtype))
                consts[source] = np.array(eqn.inputs[0].value, eqn.out.aval.dtype)  # type: ignore[union-attr]
                layouts[source] = contiguous(source)
                eqn = replace(eqn, inputs=(source,))
            layout = _of_view(eqn, layouts[source])
            if layout is None:
                copy = as_cluster(_copy(source))
                eqns.append(copy)
                layouts[copy.out] = contiguous(copy.out)
                eqn = replace(eqn, inputs=(copy.out,))
                layout = _of_view(eqn, layouts[copy.out])
            layouts[eqn.out] = layout  # type: ignore[assignment]
        else:
            layouts.update((v, placed.get(v) or contiguous(v)) for v in eqn.outs)
        eqns.append(eqn)
    return layouts, eqns


# ---- values that are made where they are wanted --------------------------------------------------------------------

JOINED = Op("joined", lambda *parts, **params: None, "view")  # parts that lie in one value already


def _pieces(eqn: Eqn) -> list[tuple[Var, Layout]] | None:
    """For values that kernels can put together, the parts and where in the whole each lies; what nobody makes is 0."""
    if eqn.op.name not in ("concatenate", "unslice") or not all(isinstance(x, Var) for x in eqn.inputs):
        return None
    parts, dtype = [x for x in eqn.inputs if isinstance(x, Var)], eqn.out.aval.dtype
    if eqn.out.aval.size == 0 or dtype.name not in DTYPES or any(x.aval.dtype != dtype for x in parts):
        return None
    return _among_zeros(eqn) if eqn.op.name == "unslice" else list(zip(parts, _side_by_side(eqn), strict=True))


def _side_by_side(eqn: Eqn) -> list[Layout]:
    whole, axis = contiguous(eqn.out), eqn.params["axis"]
    starts = np.cumsum([0, *(x.aval.shape[axis] for x in eqn.inputs)])
    return [whole._replace(offset=int(start) * whole.strides[axis]) for start in starts[:-1]]


def _among_zeros(eqn: Eqn) -> list[tuple[Var, Layout]] | None:
    """The slice, and along each axis what is before and behind it: none where a slice leaves gaps."""
    shape, index, whole = eqn.params["shape"], eqn.params["index"], contiguous(eqn.out)
    index = index if isinstance(index, tuple) else (index,)
    known = all(type(i) is int or (isinstance(i, slice) and i.step in (None, 1)) for i in index)
    if not known or not shape:
        return None
    view = Eqn(OPS["getitem"], (eqn.out,), {"index": index}, (eqn.inputs[0],))  # type: ignore[arg-type]
    pieces: list[tuple[Var, Layout]] = [(eqn.inputs[0], _of_view(view, whole))]  # type: ignore[list-item]
    ends = [(i % n, i % n + 1) if type(i) is int else i.indices(n)[:2] for i, n in zip(index, shape, strict=False)]
    sizes, offset = list(shape), 0
    for axis, (start, stop) in enumerate((i, max(i, j)) for i, j in ends):
        for first, last in ((0, start), (stop, shape[axis])):
            sizes[axis] = last - first
            if last > first:
                zeros = Var(Aval(tuple(sizes), eqn.out.aval.dtype))
                pieces.append((zeros, whole._replace(offset=offset + first * whole.strides[axis])))
        sizes[axis], offset = stop - start, offset + start * whole.strides[axis]
    return pieces


def _placed(graph: Graph, pieces: dict[Var, Any]) -> dict[Var, Layout]:
    """Values that kernels make for one whole only, with their place in it."""
    made = graph.producers()
    uses = Counter(x for e in graph.eqns for x in e.inputs) + Counter(graph.outputs)
    found: dict[Var, Layout] = {}
    for part, layout in (piece for ps in pieces.values() for piece in ps or ()):
        while uses[part] == 1 and part in made and made[part].op.name in ("reshape", "transpose") and layout:
            layout, part = _before(made[part], layout), made[part].inputs[0]
        if uses[part] == 1 and part in made and "cluster" in made[part].params and layout is not None:
            found[part] = layout
    return found


def _put_in_place(part: Var, layout: Layout, layouts: Any, consts: dict[Var, np.ndarray], eqns: list[Eqn]) -> Var:
    """The part, if it was made in its place, else a copy there."""
    if layouts.get(part) == layout:
        return part
    if part not in layouts:  # zeros
        source = Var(Aval((), part.aval.dtype))
        consts[source] = np.zeros((), part.aval.dtype)
        layouts[source], layouts[part] = contiguous(source), Layout(source, 0, (0,) * len(part.aval.shape))
        eqns.append(Eqn(OPS["broadcast_to"], (source,), {"shape": part.aval.shape}, (part,)))
    copy = as_cluster(_copy(part))
    layouts[copy.out] = layout
    eqns.append(copy)
    return copy.out


def _before(eqn: Eqn, layout: Layout) -> Layout | None:
    """The layout of what a reshape or transpose looks at, if its result has this one."""
    (source,) = eqn.inputs
    if eqn.op.name == "transpose":
        return layout._replace(strides=tuple(layout.strides[k] for k in inverse(eqn.params["order"])))
    return _of_view(Eqn(OPS["reshape"], eqn.outs, {"shape": source.aval.shape}, (source,)), layout)  # type: ignore[arg-type]


def _of_view(eqn: Eqn, source: Layout) -> Layout | None:
    """Let NumPy say what the view does to the strides: on an array that is never read."""
    if eqn.out.aval.size == 0:
        return contiguous(eqn.out)._replace(root=source.root)
    aval = eqn.inputs[0].aval
    one = np.empty(1, np.int8)
    probe = np.lib.stride_tricks.as_strided(one, aval.shape, source.strides, writeable=False)
    if eqn.op.name == "reshape":
        try:
            out = np.reshape(probe, eqn.params["shape"], copy=False)
        except ValueError:
            return None
    else:
        out = eqn.op.run(probe, **eqn.params)
    if isinstance(out, np.generic):  # an index of integers alone gives a copy of the element, unless one axis is left
        out = eqn.op.run(probe[..., None], **eqn.params).reshape(())
    offset = out.__array_interface__["data"][0] - one.__array_interface__["data"][0]
    return Layout(source.root, source.offset + offset, out.strides)


# ---- order and donation --------------------------------------------------------------------------------------------


def _order(
    graph: Graph, layouts: dict[Var, Layout], shared: Sequence[tuple[Var, Var]]
) -> tuple[list[Eqn], dict[int, int]]:
    """An order in which as many donated outputs as possible can be written over the inputs they replace."""
    eqns = list(graph.eqns)
    at = {v: k for k, e in enumerate(eqns) for v in e.outs}
    needs = [{at[x] for x in e.inputs if x in at} for e in eqns]
    waits = _waits(graph, at, layouts, shared)
    chosen = list(waits)
    if len(in_order(_with(needs, waits, chosen))) < len(eqns):  # not all at once: take them one by one
        chosen = []
        for out in waits:
            if len(in_order(_with(needs, waits, [*chosen, out]))) == len(eqns):
                chosen.append(out)
    order = in_order(_with(needs, waits, chosen))
    return [eqns[k] for k in order], {out: graph.donated[out] for out in chosen}


def _waits(
    graph: Graph, at: dict[Var, int], layouts: dict[Var, Layout], shared: Sequence[tuple[Var, Var]]
) -> dict[int, tuple[int, set[int]]]:
    """For each donated output that may be written in place: who writes it, and who must have run before."""
    readers: dict[Var, set[int]] = {}
    for k, e in enumerate(graph.eqns):
        for root in _roots(e.inputs, layouts):
            readers.setdefault(root, set()).add(k)
    may_end = lambda e: e.op.checks or e.op.fails or has_open_size(e)  # the program, which then has written nothing
    checks = {k for k, e in enumerate(graph.eqns) if may_end(e)}
    waits = {}
    for out, into in graph.donated.items():
        old, new = graph.inputs[into], graph.outputs[out]
        same_memory = {old} | {b for a, b in shared if a is old} | {a for a, b in shared if b is old}
        writer = at.get(new)  # type: ignore[arg-type]
        if writer is not None and _may_replace(graph.eqns[writer], new, old, same_memory, layouts):  # type: ignore[arg-type]
            before = checks.union(*(readers.get(v, ()) for v in same_memory))
            waits[out] = writer, before - {writer}
    return waits


def _with(needs: list[set[int]], waits: dict[int, tuple[int, set[int]]], chosen: list[int]) -> list[set[int]]:
    needs = list(needs)
    for out in chosen:
        writer, before = waits[out]
        needs[writer] = needs[writer] | before
    return needs


def _roots(atoms: Iterable[object], layouts: dict[Var, Layout]) -> dict[Var, None]:
    """Each once, in order, so that the same plan is made each time."""
    return dict.fromkeys(layouts[x].root for x in atoms if isinstance(x, Var))


def _may_replace(eqn: Eqn, new: Var, old: Var, same_memory: set[Var], layouts: dict[Var, Layout]) -> bool:
    """Whether the kernel that makes `new` may write it over `old`: it reads each element before it writes there."""
    space = eqn.params.get("cluster")
    if not isinstance(space, Cluster):
        return False
    if any(x is not old and layouts[x].root in same_memory for x in eqn.inputs if isinstance(x, Var)):
        return False
    if old not in eqn.inputs:
        return True
    if eqn.params["body"].producers()[new].op.kind == "reduction":
        return False  # the accumulator would overwrite it before it is read
    on_rows = not runs_along(space.dims[old]) & space.reduced
    one_run = not reads_total(eqn.params["body"].eqns, space)  # then nobody comes back for the old value of an element
    return space.dims[old] == space.dims[new] and (on_rows or one_run)


# ---- the arena -----------------------------------------------------------------------------------------------------


def _arena(eqns: list[Eqn], layouts: dict[Var, Layout], buffers: dict[Var, Buffer]) -> int:
    """Give each value without a buffer the first gap that is free as long as it lives; give the whole size in bytes."""
    born: dict[Var, int] = {}
    dies: dict[Var, int] = {}
    for k, eqn in enumerate(eqns):
        for root in _roots((*eqn.inputs, *eqn.outs), layouts):
            if root not in buffers:
                born.setdefault(root, k)
                dies[root] = k
    size = 0
    placed: list[tuple[int, int, Var]] = []  # offset, end, value
    for v in sorted(born, key=lambda v: -v.aval.size * v.aval.dtype.itemsize):
        need = -(-v.aval.size * v.aval.dtype.itemsize // ALIGN) * ALIGN
        start = 0
        for begin, end, other in sorted(placed, key=lambda p: p[:2]):
            if born[other] <= dies[v] and born[v] <= dies[other]:
                if begin - start >= need:
                    break
                start = max(start, end)
        placed.append((start, start + need, v))
        buffers[v] = Buffer("arena", start)
        size = max(size, start + need)
    return size
