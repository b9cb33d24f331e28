"""Functions that NumPy itself composes of others: its own Python code runs on Tensors, and what it calls is recorded.

Takes NumPy's functions of the list; gives what they give. Whether the code of a NumPy version converts an argument to a
plain array, and so loses its gradient, is checked on every call: then the call is an error.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from sadl.errors import UnrecordedError, explain
from sadl.op import numpy_function
from sadl.tape import MODE, Node, Traced, tick
from sadl.tree import flatten

COMPOSED = (
    np.angle,
    np.append,
    np.apply_along_axis,
    np.atleast_1d,
    np.atleast_2d,
    np.atleast_3d,
    np.cumulative_prod,
    np.cumulative_sum,
    np.diff,
    np.dsplit,
    np.dstack,
    np.extract,
    np.fliplr,
    np.flipud,
    np.hsplit,
    np.hstack,
    np.i0,
    np.intersect1d,
    np.ix_,
    np.polyadd,
    np.polysub,
    np.ptp,
    np.real_if_close,
    np.rollaxis,
    np.rot90,
    np.setxor1d,
    np.sinc,
    np.trapezoid,
    np.trim_zeros,
    np.union1d,
    np.unique_all,
    np.unique_counts,
    np.unique_inverse,
    np.unique_values,
    np.unstack,
    np.vsplit,
    np.vstack,
)


def composed(function: Any) -> Callable[..., Any]:
    """The Python code of a NumPy function, followed by a look whether all arguments are still in the graph."""
    code = function._implementation

    @functools.wraps(code)
    def run(*args: Any, **kwargs: Any) -> Any:
        start = tick()
        result = code(*args, **kwargs)
        mode = MODE.get()
        if mode.grad:
            _require_all(function.__name__, flatten((args, kwargs))[0], flatten(result)[0], start)
        return result

    return run


def _require_all(name: str, given: list[Any], results: list[Any], start: int) -> None:
    """Whether each floating argument with a gradient was used by a result with one, where there are such results."""
    nodes = {id(x._node): x for x in given if isinstance(x, Traced) and x._node is not None}
    floats = [x for x in results if getattr(x, "dtype", np.dtype(int)).kind in "fc"]
    if not nodes or not floats:
        return
    found = _ancestors([x._node for x in floats if isinstance(x, Traced) and x._node is not None], start)
    if not nodes.keys() <= found:
        what = f"NumPy's own code of {name} lost the gradient by an argument"
        raise UnrecordedError(explain(name, what, "call it under sadl.no_grad(), or compose it of other functions"))


def _ancestors(nodes: list[Node], start: int) -> set[int]:
    """The ids of all nodes on the way back to what was there at `start`."""
    seen = {id(node) for node in nodes}
    stack = [node for node in nodes if node.tick > start]
    while stack:
        for parent in stack.pop().parents or ():
            if parent is not None and id(parent) not in seen:
                seen.add(id(parent))
                if parent.tick > start:
                    stack.append(parent)
    return seen


for _function in COMPOSED:
    numpy_function(_function)(composed(_function))
