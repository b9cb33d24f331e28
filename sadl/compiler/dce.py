"""dce: drop what nobody uses.

Takes a graph; gives one in which every equation leads to an output, can raise an error that the user must see, or has a
size that depends on values, which Python may have read.
"""

from sadl.compiler.ir import Eqn, Graph, Var, has_open_size


def dce(graph: Graph) -> Graph:
    used: set[Var] = {x for x in graph.outputs if isinstance(x, Var)}
    kept: list[Eqn] = []
    for eqn in reversed(graph.eqns):
        if eqn.op.checks or has_open_size(eqn) or any(v in used for v in eqn.outs):
            kept.append(eqn)
            used.update(x for x in eqn.inputs if isinstance(x, Var))
    return graph.with_eqns(reversed(kept))
