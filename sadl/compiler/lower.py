"""lower: turn a cluster into loops.

Takes a cluster equation and the layout of each value; gives a Nest: loops with adjacent ones collapsed where memory
allows it, an operand per array with its stride along each loop, and at which point of the nest each value is computed.
Writing the nest as Python source is left to `render`.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sadl.compiler.fuse import Cluster, Dims, runs_along
from sadl.compiler.ir import Atom, Eqn, Graph, Var, used_inputs
from sadl.compiler.memory import Layout
from sadl.op import Op

CHEAP = {"maximum", "minimum", "absolute", "where", "sign", "sqrt", "floor", "ceil", "trunc", "rint", "isnan"}


@dataclass(frozen=True)
class Operand:
    """An array of the kernel: its value, and its stride (in elements) along each loop. `scratch` is the kernel's."""

    var: Var
    strides: tuple[int, ...]
    scratch: bool = False
    replaces: Var | None = None  # the input whose memory this output is written over
    updated: bool = False  # an input that an output is written over


@dataclass
class Nest:
    """Loops around a body. The first `kept` are not reduced; in a column nest the reduced ones run outside them."""

    body: Graph
    space: Cluster
    sizes: tuple[int, ...]
    kept: int
    operands: dict[Var, Operand]
    positions: dict[Var, tuple[int, ...]]  # of an iota: its stride along each loop
    made: dict[Var, Eqn] = field(default_factory=dict)
    level: dict[Var, int] = field(default_factory=dict)  # which run over the reduced loops computes it, or follows it
    stored_in: dict[Var, int] = field(default_factory=dict)  # which run stores a value that lies along the row

    def on_rows(self, v: Var) -> bool:
        """Whether the value does not vary along the reduced loops."""
        return bool(self.space.reduced) and not runs_along(self.space.dims[v]) & self.space.reduced


def lower(eqn: Eqn, layouts: dict[Var, Layout], replaces: dict[Var, Var]) -> Nest:
    """`replaces` says which values are written over the memory of which inputs of the same equation."""
    body: Graph = eqn.params["body"]
    space: Cluster = eqn.params["cluster"]
    made = body.producers()
    arrays: list[Any] = [v for v in dict.fromkeys((*body.inputs, *body.outputs)) if v in made or _is_read(v, body)]
    strides = {v: _along(space.dims[v], layouts[v].strides, space.axes) for v in arrays}
    iotas = {e.out: _iota_strides(e, space) for e in body.eqns if e.op.name == "iota"}
    kept, reduced = space.kept, tuple(i for i in range(len(space.axes)) if i in space.reduced)
    groups = _collapse(kept, space.axes, [*strides.values(), *iotas.values()])
    kept_loops = len(groups)
    groups += _collapse(reduced, space.axes, [*strides.values(), *iotas.values()])
    sizes = tuple(int(np.prod([space.axes[i] for i in g])) for g in groups)
    pick = lambda s: tuple(s[g[-1]] for g in groups)
    over = {v: old for v, old in replaces.items() if v in strides and old in strides}
    operands = {v: Operand(v, pick(s), replaces=over.get(v), updated=v in over.values()) for v, s in strides.items()}
    nest = Nest(body, space, sizes, kept_loops, operands, {v: pick(s) for v, s in iotas.items()}, made)
    _assign_levels(nest)
    _add_scratch(nest)
    return nest


def _is_read(v: Atom, body: Graph) -> bool:
    return any(x is v for e in body.eqns for _, x in used_inputs(e))


def _along(dims: Dims, strides: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    along = [0] * len(axes)
    for d, stride in zip(dims, strides, strict=True):
        if isinstance(d, tuple):
            along[d[0]], along[d[1]] = stride * axes[d[1]], stride
        elif d is not None:
            along[d] = stride
    return tuple(along)


def _iota_strides(eqn: Eqn, space: Cluster) -> tuple[int, ...]:
    axis = space.dims[eqn.out][eqn.params["axis"]]
    return tuple(int(i == axis) for i in range(len(space.axes)))


def _collapse(axes: tuple[int, ...], sizes: tuple[int, ...], strides: list[tuple[int, ...]]) -> list[list[int]]:
    """Runs of adjacent axes that every operand walks through as if they were one."""
    groups: list[list[int]] = []
    for i in axes:
        last = groups[-1][-1] if groups else None
        if last is not None and all(s[last] == s[i] * sizes[i] for s in strides):
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


# ---- which run over the row computes what --------------------------------------------------------------------------


def _assign_levels(nest: Nest) -> None:
    """A value along the rows is computed in run `level`; a value of the row is known before run `level`."""
    for v in nest.body.inputs:
        nest.level[v] = 0
    for eqn in nest.body.eqns:
        level = max((nest.level[x] for _, x in used_inputs(eqn) if isinstance(x, Var)), default=0)
        nest.level[eqn.out] = level + (eqn.op.kind == "reduction")


def _needs(nest: Nest) -> dict[Var, set[int]]:
    """In which runs over the row each value along it is needed."""
    needs: dict[Var, set[int]] = {}
    for v in nest.body.outputs:
        if v in nest.made and not nest.on_rows(v):
            needs.setdefault(v, set()).add(nest.level[v])
    for eqn in reversed(nest.body.eqns):
        runs = {nest.level[eqn.out] - 1} if eqn.op.kind == "reduction" else needs.get(eqn.out, set())
        for _, x in used_inputs(eqn):
            if isinstance(x, Var) and not nest.on_rows(x):
                needs.setdefault(x, set()).update(runs)
    return needs


def _add_scratch(nest: Nest) -> None:
    """Keep an expensive value that several runs need; cheap ones are computed again. Multiplications and additions may
    be contracted in one run and not in the other, so what is compared is kept, too: x == max(x) has to find it.
    """
    if not nest.space.reduced or nest.space.is_column:
        _add_accumulators(nest)
        return
    row = _row_strides(nest.sizes, nest.kept)
    compared = {x for e in nest.body.eqns if is_step(e) for x in e.inputs if x in nest.made}
    compared = {x for x in compared if x.aval.dtype.kind == "f"}
    for v, runs in _needs(nest).items():
        if v in nest.made and v in nest.operands:
            nest.stored_in[v] = nest.level[v]
        elif v in nest.made and len(runs) > 1 and (is_expensive(nest.made[v].op) or v in compared):
            nest.operands[v] = Operand(v, row, scratch=True)
            nest.stored_in[v] = min(runs)


def _row_strides(sizes: tuple[int, ...], kept: int) -> tuple[int, ...]:
    strides, n = [0] * len(sizes), 1
    for k in reversed(range(kept, len(sizes))):
        strides[k], n = n, n * sizes[k]
    return tuple(strides)


def _add_accumulators(nest: Nest) -> None:
    """The totals of a column nest are rows in memory: an output where there is one, else scratch."""
    for eqn in nest.body.eqns:
        if eqn.op.kind == "reduction" and eqn.out not in nest.operands:
            strides, n = [0] * len(nest.sizes), 1
            for k in reversed(range(nest.kept)):
                strides[k], n = n, n * nest.sizes[k]
            nest.operands[eqn.out] = Operand(eqn.out, tuple(strides), scratch=True)


STEPS = {"sign", "floor", "ceil", "trunc", "rint", "floor_divide", "remainder", "fmod", "heaviside"}


def is_step(eqn: Eqn) -> bool:
    """Whether a result jumps somewhere, so that operands that differ in the last bit can give another one."""
    return not eqn.op.by_shape and (eqn.out.aval.dtype.kind != "f" or eqn.op.name in STEPS)


def is_expensive(op: Op) -> bool:
    return any(name not in CHEAP for name in re.findall(r"([a-z_0-9]+)\(", op.expr)) or "/" in op.expr


def scratch_size(nest: Nest, operand: Operand) -> int:
    """Elements of memory that a scratch operand needs."""
    return 1 + sum((n - 1) * s for n, s in zip(nest.sizes, operand.strides, strict=True))
