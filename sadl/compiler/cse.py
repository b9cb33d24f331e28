"""cse: compute equal things once.

Takes a graph; gives one in which no two equations have the same operation, inputs and params.
"""

from typing import Any

from sadl.compiler.ir import Atom, Eqn, Graph, Literal, Var, resolve, substitute


def cse(graph: Graph) -> Graph:
    seen: dict[Any, Eqn] = {}
    replaced: dict[Var, Atom] = {}
    eqns = []
    for eqn in graph.eqns:
        eqn = substitute(eqn, replaced)
        first = seen.setdefault(_key(eqn), eqn)
        if first is eqn:
            eqns.append(eqn)
        else:
            replaced.update(zip(eqn.outs, first.outs, strict=True))
    return graph.with_eqns(eqns, [resolve(x, replaced) for x in graph.outputs])


def _key(eqn: Eqn) -> Any:
    inputs = [eqn.out.aval.shape] if eqn.op.by_shape else map(_atom, eqn.inputs)
    return eqn.op, tuple(inputs), repr(sorted(eqn.params.items()))


def _atom(x: Atom) -> Any:
    """Literals are equal only with equal type and bits: 1, 1.0 and True compare equal, and so do 0.0 and -0.0."""
    return ("literal", type(x.value), repr(x.value)) if isinstance(x, Literal) else x
