"""The order of a graph.

Takes a Tensor; gives what it was computed from, in an order in which each follows its inputs.
Walking backward with gradients is left to `autograd`, which needs no such list.
"""

from typing import Any

from sadl import autograd
from sadl.errors import explain
from sadl.tensor import as_recorded


def toposort(root: Any) -> list[Any]:
    """The Tensors that `root` was computed from as far as gradients flow, each after its inputs, `root` last.

    Raises:
        ValueError: the graph has a cycle.
    """
    if root._node is None:
        return [root]
    nodes = sorted(autograd.reachable([root._node], set()), key=lambda node: node.tick)
    if any(p is not None and p.tick >= node.tick for node in nodes for p in node.parents or ()):
        raise ValueError(explain("toposort", "the graph has a cycle, only DAG allowed"))
    return [root if n is root._node else as_recorded(n.out, n) for n in nodes if not isinstance(n.out, tuple)]
