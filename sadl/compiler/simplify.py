"""simplify: replace equations by cheaper ones that give the same values.

Takes a verified graph; gives one without casts to the same dtype, broadcasts that the next operation does anyway,
chains of views, powers by small constants, and arithmetic on constants. Each rule is a function in `RULES` under the
operation it looks at: it sees the equation and how its inputs are made, and gives a replacement or None.
"""

import itertools
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from sadl.compiler.ir import Atom, Eqn, Graph, Literal, Var, resolve, substitute
from sadl.config import config
from sadl.op import OPS, Aval

Made = dict[Var, Eqn]  # what makes each value so far
New = Atom | Eqn | list[Eqn] | None  # a value to use instead, or one or more equations of which the last gives it
Rule = Callable[[Eqn, Made], New]

log = logging.getLogger("sadl.compiler")


def simplify(graph: Graph) -> Graph:
    replaced: dict[Var, Atom] = {}
    made: Made = {}
    eqns: list[Eqn] = []

    def emit(eqn: Eqn) -> None:
        eqn = substitute(eqn, replaced)
        new = _apply(eqn, made)
        if isinstance(new, (list, Eqn)):
            for e in new if isinstance(new, list) else [new]:
                emit(e)
        elif new is not None:
            replaced[eqn.out] = new
        else:
            eqns.append(eqn)
            made.update((v, eqn) for v in eqn.outs)

    for eqn in graph.eqns:
        emit(eqn)
    outputs = [resolve(x, replaced) for x in graph.outputs]
    return replace(graph, eqns=tuple(eqns), outputs=tuple(outputs))


def _apply(eqn: Eqn, made: Made) -> New:
    for rule in (*RULES.get(eqn.op.name, ()), *ALWAYS):
        new = rule(eqn, made)
        if new is not None and (isinstance(new, (Eqn, list)) or new.aval == eqn.out.aval):
            if config.debug >= 5:
                log.info("simplify: %s applied to %s", rule.__name__, eqn.op.name)
            return new
    return None


def _scalar(array: np.ndarray) -> Literal:
    return Literal(array[()])


def _is(atom: Atom, value: float) -> bool:
    return isinstance(atom, Literal) and not isinstance(atom.value, bool) and bool(atom.value == value)


def _made_by(atom: Atom, made: Made, name: str) -> Eqn | None:
    eqn = made.get(atom) if isinstance(atom, Var) else None
    return eqn if eqn is not None and eqn.op.name == name else None


def _shape(atom: Atom) -> tuple[int, ...]:
    return atom.aval.shape if isinstance(atom.aval, Aval) else ()


def _as(name: str, eqn: Eqn, *inputs: Atom, **params: Any) -> Eqn:
    return replace(eqn, op=OPS[name], inputs=inputs, params=params)


# ---- rules ---------------------------------------------------------------------------------------------------------


def join_slices(eqn: Eqn, made: Made) -> list[Eqn] | None:
    """A sum of slices put among zeros, which together fill an axis, is their concatenation: the gradient of a split."""
    parts = _summed_slices(eqn, eqn.out.aval, made)
    if parts is None:
        return None
    axis, size = parts[0].axis, _shape(eqn.out)[parts[0].axis]
    parts.sort(key=lambda part: part.start)
    fits = all(a.stop == b.start for a, b in itertools.pairwise(parts)) and {part.axis for part in parts} == {axis}
    if not fits or parts[0].start != 0 or parts[-1].stop != size:
        return None
    shapes = [(*_shape(eqn.out)[:axis], p.stop - p.start, *_shape(eqn.out)[axis + 1 :]) for p in parts]
    whole = [Var(Aval(shape, eqn.out.aval.dtype)) for shape in shapes]  # an axis that an integer took comes back
    eqns = [
        replace(_as("reshape", eqn, p.value, shape=v.aval.shape), outs=(v,)) for p, v in zip(parts, whole, strict=True)
    ]
    return [*eqns, _as("concatenate", eqn, *whole, axis=axis)]


class _Slice(NamedTuple):
    axis: int
    start: int
    stop: int
    value: Atom


def _summed_slices(eqn: Eqn, aval: Aval, made: Made) -> list[_Slice] | None:
    """Each slice in a tree of sums; None where something else is in it."""
    found, left = [], [eqn]
    while left:
        e = left.pop()
        part = _one_slice(e) if e.op.name == "unslice" else None
        sides = [made.get(x) for x in e.inputs if isinstance(x, Var)] if e.op.name == "add" else []
        if e.out.aval != aval or not (part or (len(sides) == 2 and None not in sides)):
            return None
        if part:
            found.append(part)
        left += sides  # type: ignore[arg-type]
    return found


def _one_slice(eqn: Eqn) -> _Slice | None:
    """What an `unslice` puts where, if its index takes a part of one axis and all of the others."""
    shape, index = eqn.params["shape"], eqn.params["index"]
    index = index if isinstance(index, tuple) else (index,)
    parts = []
    for k, (i, n) in enumerate(zip(index, shape, strict=False)):
        if isinstance(i, int) and not isinstance(i, bool):
            parts.append((k, i % n, i % n + 1))
        elif not isinstance(i, slice) or i.step not in (None, 1):
            return None
        elif (ends := i.indices(n)[:2]) != (0, n):
            parts.append((k, *ends))
    return _Slice(*parts[0], eqn.inputs[0]) if len(parts) == 1 and parts[0][1] < parts[0][2] else None


def fold_constants(eqn: Eqn, made: Made) -> Atom | None:
    """Arithmetic on numbers alone is done now."""
    if eqn.op.kind != "elementwise" or not eqn.inputs or _shape(eqn.out) != ():
        return None
    if not all(isinstance(x, Literal) for x in eqn.inputs) or not eqn.op.expr:
        return None
    with np.errstate(all="ignore"):
        value = eqn.op.run(*(np.asarray(x.value)[()] if eqn.params else x.value for x in eqn.inputs), **eqn.params)  # type: ignore[union-attr]
    return Literal(np.asarray(value, eqn.out.aval.dtype)[()])


def fold_full(eqn: Eqn, made: Made) -> Atom | None:
    """One constant number, as the gradient that every backward starts from."""
    number = eqn.inputs[1]
    if _shape(eqn.out) != () or not isinstance(number, Literal) or eqn.out.aval.dtype.kind not in "fiub":
        return None
    return _scalar(np.asarray(number.value, eqn.out.aval.dtype))


def drop_broadcast(eqn: Eqn, made: Made) -> Eqn | None:
    """An elementwise operation broadcasts by itself; `broadcast_to` before it matters if it alone gives the shape."""
    if eqn.op.kind != "elementwise" or eqn.op.name in ("iota", "full_like", "assign"):
        return None
    for i, x in enumerate(eqn.inputs):
        source = _made_by(x, made, "broadcast_to")
        if source is None:
            continue
        shapes = [_shape(y) for k, y in enumerate(eqn.inputs) if k != i]
        small = source.inputs[0]
        if np.broadcast_shapes(*shapes, _shape(small)) == eqn.out.aval.shape and _same_dtype(eqn, i, small):
            return replace(eqn, inputs=(*eqn.inputs[:i], small, *eqn.inputs[i + 1 :]))
    return None


def late_broadcast(eqn: Eqn, made: Made) -> list[Eqn] | None:
    """A function of a broadcast value is the broadcast of the function of the value."""
    if eqn.op.kind != "elementwise" or eqn.op.by_shape or len(eqn.inputs) != 1:
        return None
    source = _made_by(eqn.inputs[0], made, "broadcast_to")
    if source is None or not isinstance(source.inputs[0].aval, Aval):
        return None
    small = Var(Aval(source.inputs[0].aval.shape, eqn.out.aval.dtype))
    inner = replace(eqn, inputs=source.inputs, outs=(small,))
    return [inner, _as("broadcast_to", eqn, small, shape=eqn.out.aval.shape)]


def _same_dtype(eqn: Eqn, i: int, atom: Atom) -> bool:
    """A Python scalar may not take the place of an array if the result's dtype would change with it."""
    if isinstance(atom.aval, Aval):
        return True
    inputs = [x.aval for x in (*eqn.inputs[:i], atom, *eqn.inputs[i + 1 :])]
    return any(isinstance(a, Aval) for a in inputs) and eqn.op.aval(*inputs, **eqn.params) == eqn.out.aval


def _neutral(value: float, side: int) -> Rule:
    def drop_neutral(eqn: Eqn, made: Made) -> Atom | None:
        return eqn.inputs[1 - side] if _is(eqn.inputs[side], value) else None

    return drop_neutral


def drop_cast(eqn: Eqn, made: Made) -> Atom | None:
    return eqn.inputs[0]  # taken only if the type is the same


def drop_copy(eqn: Eqn, made: Made) -> Atom | None:
    return eqn.inputs[0]


def drop_view(eqn: Eqn, made: Made) -> Atom | None:
    """A reshape or broadcast to the same shape."""
    return eqn.inputs[0]


def merge_reshape(eqn: Eqn, made: Made) -> Eqn | None:
    source = _made_by(eqn.inputs[0], made, "reshape")
    return source and replace(eqn, inputs=source.inputs)


def merge_broadcast(eqn: Eqn, made: Made) -> Eqn | None:
    source = _made_by(eqn.inputs[0], made, "broadcast_to")
    return source and replace(eqn, inputs=source.inputs)


def merge_transpose(eqn: Eqn, made: Made) -> Atom | Eqn | None:
    order = eqn.params["order"]
    if order == tuple(range(len(order))):
        return eqn.inputs[0]
    source = _made_by(eqn.inputs[0], made, "transpose")
    if source is None:
        return None
    return _as("transpose", eqn, *source.inputs, order=tuple(source.params["order"][i] for i in order))


def power_to_product(eqn: Eqn, made: Made) -> Atom | Eqn | None:
    """x**2, x**0.5, x**1 and x**-1 have operations of their own, which NumPy uses as well."""
    x, y = eqn.inputs
    if not isinstance(x, Var) or x.aval.dtype != eqn.out.aval.dtype or x.aval.dtype.kind != "f":
        return None
    name = next((n for v, n in ((2, "square"), (0.5, "sqrt"), (-1, "reciprocal")) if _is(y, v)), None)
    if _is(y, 1):
        return x
    return _as(name, eqn, x) if name else None


def add_negative(eqn: Eqn, made: Made) -> Eqn | None:
    """x + -y is x - y, where both are of one dtype: a small integer wraps around when it is negated."""
    for i in (1, 0):
        source = _made_by(eqn.inputs[i], made, "negative")
        if source and source.out.aval.dtype == eqn.out.aval.dtype:
            return _as("subtract", eqn, eqn.inputs[1 - i], source.inputs[0])
    return None


def double_negative(eqn: Eqn, made: Made) -> New:
    source = _made_by(eqn.inputs[0], made, "negative")
    return source and source.inputs[0]


def reduce_nothing(eqn: Eqn, made: Made) -> Eqn | None:
    """A reduction over axes of size 1 is a reshape."""
    (x,) = eqn.inputs
    if eqn.op.name in ("any", "all") or any(_shape(x)[i] != 1 for i in eqn.params["axis"]):
        return None
    return _as("reshape", eqn, x, shape=eqn.out.aval.shape) if x.aval.dtype == eqn.out.aval.dtype else None


def constant_reshape(eqn: Eqn, made: Made) -> Eqn | None:
    """A number in any shape is a number that is broadcast."""
    source = _made_by(eqn.inputs[0], made, "broadcast_to")
    number = source.inputs[0] if source else eqn.inputs[0]
    return _as("broadcast_to", eqn, number, **eqn.params) if isinstance(number, Literal) else None


RULES: dict[str, list[Rule]] = {
    "add": [_neutral(0, 1), _neutral(0, 0), add_negative, join_slices],
    "subtract": [_neutral(0, 1)],
    "multiply": [_neutral(1, 1), _neutral(1, 0)],
    "divide": [_neutral(1, 1)],
    "power": [power_to_product],
    "negative": [double_negative],
    "positive": [drop_copy],
    "cast": [drop_cast],
    "copy": [drop_copy],
    "detach": [drop_copy],
    "full_like": [fold_full],
    "assign": [lambda eqn, made: eqn.inputs[1]],
    "reshape": [constant_reshape, drop_view, merge_reshape],
    "broadcast_to": [drop_view, merge_broadcast],
    "transpose": [merge_transpose],
    "sum": [reduce_nothing],
    "max": [reduce_nothing],
    "min": [reduce_nothing],
}
ALWAYS: list[Rule] = [fold_constants, drop_broadcast, late_broadcast]
RULES["assign"][0].__name__ = "drop_assign"
