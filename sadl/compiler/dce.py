"""dce: drop what nobody uses.

Takes a graph; gives one in which every equation leads to an output, or can raise an error that the user must see.
"""

from sadl.compiler.ir import Eqn, Graph, Var


def dce(graph: Graph) -> Graph:
    used: set[Var] = {x for x in graph.outputs if isinstance(x, Var)}
    kept: list[Eqn] = []
    for eqn in reversed(graph.eqns):
        if eqn.op.checks or any(v in used for v in eqn.outs):
            kept.append(eqn)
            used.update(x for x in eqn.inputs if isinstance(x, Var))
    return graph.with_eqns(reversed(kept))
