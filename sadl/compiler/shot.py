"""shot: one call of a function under capture.

Takes a function and the leaves of its arguments; gives the result for the caller, and what a program for such calls
must take, give and change. If the call fails, everything it had written is put back.
`same` compares two shots and says what of the outside is constant; running programs is left to `runner`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from sadl.compiler.capture import MSG_LEFT, Capture, fresh
from sadl.compiler.ir import Eqn, Graph, Literal, Names, has_open_size
from sadl.compiler.joint import append_backward
from sadl.errors import CaptureError, StaleValueError, explain
from sadl.tape import ALIAS, Node, Traced, plain
from sadl.tensor import Tensor
from sadl.tree import Structure, flatten, unflatten

MSG_CHANGED = (
    "{what} between two calls with the same signature, so a program would keep the value of one of them; "
    "nothing was changed"
)
_PLAIN = (bool, int, float, complex, str, bytes, np.generic, np.dtype, Enum, type(None), type(Ellipsis))
MSG_ANEW = "a Tensor that requires a gradient is made anew on each call, by something that cannot be recorded"
ADVICE = "pass it as an array argument, or keep it in a Tensor that the function reads and writes"


@dataclass(eq=False)
class Shot:
    """A captured call. The outputs of its graph are `returned`, new state (`writes`), new `.grad`s, `gradients`."""

    capture: Capture
    result: Any  # for the caller
    structure: Structure  # of the result
    outs: list[Any]  # its leaves, as they were under capture
    returned: list[int]  # which of them are outputs of the graph; of arrays that were written, it is not known yet
    kept: dict[int, int]  # which of them are the object of an input, and of which
    writes: list[tuple[Any, int]]
    grads: list[Any]  # Tensors whose .grad was set to an array
    cleared: list[Any]  # Tensors whose .grad was set to None
    live: list[int]  # outs that the surroundings may differentiate
    gradients: dict[int, Any]  # position of an input -> its gradient
    graph: Graph

    @property
    def sizes(self) -> tuple[Any, ...]:
        """The shapes that may depend on values: where they differ, another program is needed."""
        return tuple(v.aval.shape for e in self.graph.eqns if has_open_size(e) for v in e.outs)

    @property
    def n_outputs(self) -> int:
        return len(self.returned) + len(self.writes) + len(self.grads)

    @property
    def n_cotangents(self) -> int:
        return len(self.live)


def take(fn: Callable[..., Any], leaves: list[Any], structure: Structure) -> Shot:
    """Call `fn` for real, under capture."""
    capture = Capture()
    given = list(leaves)
    try:
        with capture:
            for i, x in enumerate(leaves):
                if isinstance(x, np.ndarray):
                    given[i] = _stand_in(x)
                    capture.argument(given[i], i)
                    capture.argument_ids |= {id(x), id(given[i])}
            args, kwargs = unflatten(structure, given)
            shot = _describe(capture, fn(*args, **kwargs))
        capture.require_followed()
    except BaseException:
        capture.roll_back()
        raise
    own = {id(g): leaves[i] for i, g in enumerate(given)}
    shot.result = unflatten(shot.structure, [own.get(id(x), x) for x in shot.outs])
    for tensor in shot.grads:
        tensor._grad = np.array(plain(tensor._grad))
    capture.forget()
    return shot


def _stand_in(leaf: Any) -> Any:
    """What the function sees in place of an argument: the same memory, and a node of its own if it is tracked."""
    tensor = fresh(leaf)
    if isinstance(leaf, Traced) and leaf._node is not None:
        tensor._node = Node(ALIAS, [tensor._raw], [leaf._node], {}, tensor._raw)
    return tensor


def _describe(capture: Capture, result: Any) -> Shot:
    outs, structure = flatten(result)
    for x in outs:
        if isinstance(x, (Tensor, np.ndarray)):
            capture.value(x)  # what the function only hands on becomes an input as well
    known = {id(raw) for raw in capture.raws} - {id(plain(t)) for t, _ in capture.writes() if not _is_leaf(t)}
    returned = [i for i, x in enumerate(outs) if isinstance(x, (Tensor, np.ndarray)) and id(plain(x)) not in known]
    live = [i for i in returned if isinstance(outs[i], Tensor) and _is_live(outs[i]._node)]
    live, gradients = _differentiate(capture, outs, live) if live else ([], {})
    capture.cotangents_last()
    inputs = {id(raw): i for i, raw in enumerate(capture.raws)}
    kept = {i: inputs[id(plain(x))] for i, x in enumerate(outs) if id(plain(x)) in inputs}
    writes = capture.writes()
    touched = list(capture.grads.values())
    grads = [t for t in touched if t._grad is not None]
    results = [outs[i] for i in returned] + [t for t, _ in writes] + [t._grad for t in grads] + list(gradients.values())
    donated = {len(returned) + k: i for k, (_, i) in enumerate(writes)}
    values = tuple(capture.value(x) for x in results)
    graph = Graph(tuple(capture.inputs), tuple(capture.eqns), values, {}, donated)
    cleared = [t for t in touched if t._grad is None]
    return Shot(capture, None, structure, outs, returned, kept, writes, grads, cleared, live, gradients, graph)


def _differentiate(capture: Capture, outs: list[Any], live: list[int]) -> tuple[list[int], dict[int, Any]]:
    """Which outs have a gradient, and the gradients by the inputs. A training step that returns its predictions has
    overwritten the weights that theirs needs: they are returned without one.
    """
    leaves = _leaves(capture)
    try:
        with capture.attempt():
            return live, append_backward(capture, [outs[i] for i in live], leaves)
    except StaleValueError:
        good = [i for i in live if _can_be_differentiated(capture, outs[i], leaves)]
        return good, append_backward(capture, [outs[i] for i in good], leaves) if good else {}


def _can_be_differentiated(capture: Capture, out: Any, leaves: dict[int, Node]) -> bool:
    try:
        with capture.attempt(keep=False):
            append_backward(capture, [out], leaves)
    except StaleValueError:
        return False
    return True


def _is_leaf(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad and x.is_leaf()


def _is_live(node: Node | None) -> bool:
    """Whether a gradient can still flow: there is a graph, and no backward has used it up."""
    return node is not None and node.inputs is not None


def _leaves(capture: Capture) -> dict[int, Node]:
    """The nodes of the inputs that require a gradient: of arguments their stand-ins', of held Tensors their own."""
    return {i: node for i, node in enumerate(capture.nodes) if node is not None}


# ---- the second look -----------------------------------------------------------------------------------------------


def same(first: Shot, second: Shot) -> set[int]:
    """Positions of inputs that are constants: arrays that are made anew on each call, with the same values.

    Raises:
        CaptureError: the two calls did not do the same.
    """
    _same_statics(first, second)
    _same_equations(first, second)
    return _constants(first, second)


def _changed(what: str, where: str = "") -> CaptureError:
    return CaptureError(explain("compile", MSG_CHANGED.format(what=what), ADVICE, made_at=where))


def _same_statics(first: Shot, second: Shot) -> None:
    if first.structure != second.structure or first.returned != second.returned or first.kept != second.kept:
        raise _changed("the form of the result changed")
    for i, (a, b) in enumerate(zip(first.outs, second.outs, strict=True)):
        if i in first.returned or i in first.kept or a is b:
            continue
        if type(a) is not type(b) or not isinstance(a, _PLAIN):
            what = f"the function returns a {type(b).__name__} made anew on each call, which is not looked into"
            raise CaptureError(explain("compile", what, "return arrays, or lists, tuples and dicts of them"))
        if a != b and repr(a) != repr(b):  # NaN
            raise _changed(f"a returned value changed from {a!r} to {b!r}")
    if first.capture.modes != second.capture.modes:
        raise _changed("which Functions are put into training mode or inference mode")


def _same_equations(first: Shot, second: Shot) -> None:
    names, other_names = Names(first.graph), Names(second.graph)
    for a, b in zip(first.graph.eqns, second.graph.eqns, strict=False):
        if _text(a, names) != _text(b, other_names):
            raise _changed(_difference(a, b), b.where)
    if len(first.graph.eqns) != len(second.graph.eqns):
        longer = max(first.graph.eqns, second.graph.eqns, key=len)
        extra = longer[min(len(first.graph.eqns), len(second.graph.eqns))]
        raise _changed(f"the number of operations changed ({extra.op.name} was done once only)", extra.where)
    if [v.aval for v in first.graph.inputs] != [
        v.aval for v in second.graph.inputs
    ] or first.graph.donated != second.graph.donated:
        raise _changed("the arrays from outside that are read or written changed")


def _text(eqn: Eqn, names: Names) -> Any:
    inputs = [(type(x.value), repr(x.value)) if isinstance(x, Literal) else names(x) for x in eqn.inputs]
    return eqn.op.name, inputs, eqn.params, [v.aval for v in eqn.outs]


def _difference(a: Eqn, b: Eqn) -> str:
    if a.op.name != b.op.name:
        return f"the operation changed from {a.op.name} to {b.op.name}"
    for x, y in zip(a.inputs, b.inputs, strict=False):
        if isinstance(x, Literal) and isinstance(y, Literal) and repr(x) != repr(y):
            return f"a number given to {a.op.name} changed from {x.value!r} to {y.value!r}"
    return f"an argument of {a.op.name} changed"


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _place(a: np.ndarray) -> Any:
    return a.__array_interface__["data"][0], a.shape, a.strides, a.dtype


def _constants(first: Shot, second: Shot) -> set[int]:
    constants = set()
    given = {_place(raw) for raw, s in zip(second.capture.raws, second.capture.sources, strict=True) if s.kind == "arg"}
    for i, (a, b) in enumerate(zip(first.capture.sources, second.capture.sources, strict=True)):
        if a.kind != b.kind or a.index != b.index:
            raise _changed("the arrays from outside that are read changed", b.where)
        if a.kind == "held" and a.held is not b.held:
            if _place(second.capture.raws[i]) in given:
                raise CaptureError(explain("compile", MSG_LEFT, "use the Tensor itself", b.where))
            again = _place(first.capture.raws[i]) == _place(second.capture.raws[i])  # a view like data[:8]
            if not again and not _equal(first.capture.at_first(i), second.capture.at_first(i)):
                raise _changed("an array that is made anew on each call changed its values", b.where)
            if i in second.gradients:
                raise CaptureError(
                    explain("compile", MSG_ANEW, "make it outside, or from recorded operations", b.where)
                )
            if not again:
                constants.add(i)
        elif a.held is not b.held:
            raise _changed("another Tensor's .grad is read", b.where)
    return constants
