"""pipeline: the passes, in their order, each one printed and checked when asked for.

Takes a captured graph; gives a plan. SADL_DEBUG=3 prints the graph after each pass, SADL_VERIFY=1 checks it.
"""

import logging
import sys
from collections.abc import Sequence

from sadl.compiler.blocks import blocks
from sadl.compiler.cse import cse
from sadl.compiler.dce import dce
from sadl.compiler.fuse import fuse
from sadl.compiler.ir import Graph, Var, print_graph, verify
from sadl.compiler.memory import Plan, plan_memory
from sadl.compiler.recompute import recompute
from sadl.compiler.simplify import simplify
from sadl.config import config

PASSES = (simplify, cse, simplify, dce, fuse, recompute, blocks)  # the second simplify sees what cse has made equal

log = logging.getLogger("sadl.compiler")


def optimise(graph: Graph) -> Graph:
    """Run every pass."""
    for run in PASSES:
        graph = run(graph)
        if config.verify:
            verify(graph, run.__name__)
        if config.debug >= 3:
            print(f"--- after {run.__name__}\n{print_graph(graph, lines=True)}", file=sys.stderr)
    return graph


def plan(graph: Graph, shared: Sequence[tuple[Var, Var]] = ()) -> Plan:
    """Everything up to a plan; `shared` as for `plan_memory`."""
    return plan_memory(optimise(graph), shared)
