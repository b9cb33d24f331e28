"""recompute: let kernels compute again what is dearer to keep.

Takes a fused graph; gives one in which a kernel that reads an array made by another one, as a backward reads what its
forward has left, computes it itself where that moves fewer bytes: from what it reads already, or is kept anyway.
What is compared, rounded or cast is read, since a value that is computed again may differ in its last bit.
"""

from collections.abc import Iterable
from dataclasses import replace

from sadl.compiler.dce import dce
from sadl.compiler.fuse import MAX_ARRAYS, Cluster, Dims, dims_of_inputs
from sadl.compiler.ir import Eqn, Graph, Var
from sadl.compiler.lower import is_expensive, is_step

EXPENSIVE = 4  # an operation such as exp counts as so many bytes per element


def recompute(graph: Graph) -> Graph:
    eqns = list(graph.eqns)
    for k, eqn in enumerate(eqns):
        for producer in _producers(eqn, eqns) if "cluster" in eqn.params else ():
            found = _inlined(eqns[k], eqns[producer], _users(eqns, graph))
            if found is not None:
                eqns[k], eqns[producer] = found
    return dce(graph.with_eqns(_pruned(eqns, graph)))


def _producers(eqn: Eqn, eqns: list[Eqn]) -> list[int]:
    """The clusters whose results a cluster reads."""
    inputs = set(eqn.inputs)
    return [j for j, e in enumerate(eqns) if "cluster" in e.params and inputs.intersection(e.outs)]


def _users(eqns: list[Eqn], graph: Graph) -> dict[Var, int]:
    """How many equations read each value; the caller counts as one."""
    users: dict[Var, int] = {}
    for inputs in (*(e.inputs for e in eqns), graph.outputs):
        for x in dict.fromkeys(inputs):
            if isinstance(x, Var):
                users[x] = users.get(x, 0) + 1
    return users


def _inlined(reader: Eqn, producer: Eqn, users: dict[Var, int]) -> tuple[Eqn, Eqn] | None:
    """Both clusters with as much computed again as pays; None where nothing does."""
    shared = [v for v in reader.params["body"].inputs if v in producer.outs and _may_repeat(v, producer)]
    for wanted in (shared, *([v] for v in shared)):
        copy = _Copy(reader, producer, wanted)
        if wanted and copy.fits and copy.saved(users) > 0:
            return copy.reader(), copy.producer()
    return None


def _may_repeat(v: Var, producer: Eqn) -> bool:
    return v.aval.dtype.kind == "f" and producer.params["body"].producers()[v].op.kind == "elementwise"


class _Copy:
    """The equations of a producer that give the `wanted` values, as equations of the reader."""

    def __init__(self, reader: Eqn, producer: Eqn, wanted: list[Var]) -> None:
        self._reader, self._producer, self._wanted = reader, producer, wanted
        self._made = producer.params["body"].producers()
        self._kept = set(producer.outs) - set(wanted)
        self._dims: dict[Var, Dims] = dict(reader.params["cluster"].dims)
        self._new: dict[Var, Var] = {}
        self._eqns: list[Eqn] = []
        self._read: dict[Var, None] = {}
        self.fits = all(self._take(v, self._dims[v]) for v in wanted) and self._may()

    def _take(self, v: Var, dims: Dims) -> bool:
        """Have `v`, which lies along the reader's axes as `dims` says: read it, or compute it; whether that works."""
        if self._dims.setdefault(v, dims) != dims:
            return False  # one nest has one place for each value
        if v in self._new:
            return True
        eqn = self._made.get(v)
        if eqn is None or v in self._kept or eqn.op.kind not in ("elementwise", "view") or v.aval.dtype.kind != "f":
            self._read[v] = None
            return True
        inner = dims_of_inputs(eqn, dims)
        if inner is None or not all(self._take(x, d) for x, d in inner.items()):
            return False
        self._new[v] = Var(v.aval)
        self._dims[self._new[v]] = dims
        self._eqns.append(replace(self._with_new(eqn), outs=(self._new[v],)))
        return True

    def _may(self) -> bool:
        """Whether there is room for it, and nothing that jumps depends on it."""
        changed = set(self._wanted)
        eqns = [*self._eqns]
        for e in self._reader.params["body"].eqns:
            if changed.intersection(e.inputs):
                changed.add(e.out)
                eqns.append(e)
        room = (
            max(self._count(), len(self._producer.inputs) + len(self._producer.outs) + len(self._more())) <= MAX_ARRAYS
        )
        return room and not any(map(is_step, eqns))

    def _with_new(self, eqn: Eqn) -> Eqn:
        return replace(eqn, inputs=tuple(self._new.get(x, x) if isinstance(x, Var) else x for x in eqn.inputs))

    def saved(self, users: dict[Var, int]) -> int:
        """How many bytes less are moved: a wanted value is read once less, and not written if nobody else reads it."""
        size = sum(_bytes(v) * (2 if users[v] == 1 else 1) for v in self._wanted)
        size -= sum(_bytes(v) * (1 if v in self._producer.outs or v not in self._made else 2) for v in self._added())
        return size - sum(EXPENSIVE * e.out.aval.size for e in self._eqns if is_expensive(e.op))

    def _added(self) -> list[Var]:
        return [v for v in self._read if v not in self._reader.inputs]

    def _count(self) -> int:
        return len(self._inputs()) + len(self._reader.outs)

    def _inputs(self) -> list[Var]:
        return [v for v in self._reader.params["body"].inputs if v not in self._new] + self._added()

    def reader(self) -> Eqn:
        body: Graph = self._reader.params["body"]
        taken = map(self._with_new, body.eqns)
        inputs = tuple(self._inputs())
        space: Cluster = self._reader.params["cluster"]
        params = self._reader.params | {
            "body": Graph(inputs, (*self._eqns, *taken), body.outputs),
            "cluster": replace(space, dims=self._dims),
        }
        return replace(self._reader, inputs=inputs, params=params)

    def _more(self) -> tuple[Var, ...]:
        return tuple(v for v in self._read if v in self._made and v not in self._producer.outs)

    def producer(self) -> Eqn:
        """It has to hand out what is read of it now."""
        more = self._more()
        body: Graph = self._producer.params["body"]
        params = self._producer.params | {"body": replace(body, outputs=(*body.outputs, *more))}
        return replace(self._producer, outs=(*self._producer.outs, *more), params=params)


def _bytes(v: Var) -> int:
    return v.aval.size * v.aval.dtype.itemsize


def _pruned(eqns: list[Eqn], graph: Graph) -> Iterable[Eqn]:
    """The clusters without results that nobody reads any more."""
    users = _users(eqns, graph)
    for eqn in eqns:
        if "cluster" in eqn.params and any(v not in users for v in eqn.outs):
            outs = tuple(v for v in eqn.outs if v in users)
            body = dce(replace(eqn.params["body"], outputs=outs))
            inputs = tuple(v for v in body.inputs if any(v in e.inputs for e in body.eqns) or v in outs)
            eqn = replace(eqn, inputs=inputs, outs=outs, params=eqn.params | {"body": replace(body, inputs=inputs)})
        yield eqn
