"""joint: append the backward of a captured function to its graph, and cut the two apart.

Takes a capture that is still running and the outputs that the surroundings may differentiate; runs the eager sweep and
its rules under the same capture, so that the backward is recorded like everything else.
Gives two graphs: one for the outputs and what the backward needs of the forward, one for the cotangents.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from sadl.autograd import sweep
from sadl.compiler.capture import Capture, fresh
from sadl.compiler.cse import cse
from sadl.compiler.dce import dce
from sadl.compiler.ir import Graph, Var
from sadl.compiler.simplify import simplify
from sadl.tape import Node, no_grad


def append_backward(capture: Capture, outs: list[Any], leaves: dict[int, Node]) -> dict[int, Any]:
    """The gradients by the inputs at the positions in `leaves`, where there are any, given stand-ins for cotangents."""
    seeds: dict[Node, Any] = {}
    for out in outs:
        cotangent = fresh(np.ones(out.shape, out.dtype))
        capture.cotangent(cotangent)
        seeds[out._node] = cotangent if out._node not in seeds else seeds[out._node] + cotangent
    with no_grad():
        found = sweep(seeds, leaves.values(), recorded=True)
    return {i: found[node] for i, node in leaves.items() if node in found}


def split(joint: Graph, n_outputs: int, n_cotangents: int) -> tuple[Graph, Graph, list[Var]]:
    """(forward, backward, residuals): the forward gives `n_outputs` outputs, then the residuals that are not its inputs
    or are inputs that it overwrites; the backward takes the residuals and the cotangents. In `joint` the cotangents are
    the last inputs and the gradients the last outputs.
    """
    joint = dce(cse(simplify(joint)))
    inputs, cotangents = joint.inputs[:-n_cotangents], joint.inputs[-n_cotangents:]
    outputs, grads = joint.outputs[:n_outputs], joint.outputs[n_outputs:]
    late = _depends_on(joint, set(cotangents))
    backward_eqns = tuple(e for e in joint.eqns if e.out in late)
    forward_eqns = tuple(e for e in joint.eqns if e.out not in late)
    backward_eqns = (*(e for e in forward_eqns if e.op.kind == "view"), *backward_eqns)  # made again: they cost nothing
    backward_eqns = dce(Graph((), backward_eqns, grads)).eqns
    known = {v for e in forward_eqns if e.op.kind != "view" for v in e.outs} | set(inputs)
    read = [x for e in backward_eqns for x in e.inputs] + list(grads)
    residuals = list(dict.fromkeys(x for x in read if isinstance(x, Var) and x in known))
    replaced = {joint.inputs[i] for i in joint.donated.values()}  # their memory holds the new state by then
    saved = [v for v in residuals if v not in inputs or v in replaced]
    forward = replace(joint, inputs=inputs, eqns=forward_eqns, outputs=(*outputs, *saved))
    backward = Graph((*residuals, *cotangents), backward_eqns, grads, joint.consts)
    return _own_consts(dce(forward)), _own_consts(dce(backward)), residuals


def _depends_on(graph: Graph, found: set[Var]) -> set[Var]:
    for eqn in graph.eqns:
        if any(x in found for x in eqn.inputs):
            found.update(eqn.outs)
    return found


def _own_consts(graph: Graph) -> Graph:
    read = {x for e in graph.eqns for x in e.inputs} | set(graph.outputs)
    return replace(graph, consts={v: a for v, a in graph.consts.items() if v in read})
