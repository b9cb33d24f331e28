"""runner: a program bound to the objects of the caller.

Takes a shot, and which of its inputs are constants; builds its programs. On each call fetches the inputs, runs, and
puts back what the function would have changed: state in place, `.grad`s, and results, which the surroundings can
differentiate where they could.
"""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np

from sadl.autograd import vjp
from sadl.compiler.dce import dce
from sadl.compiler.ir import Atom, Graph, Var, evaluate, verify
from sadl.compiler.joint import split
from sadl.compiler.pipeline import plan
from sadl.compiler.program import Program
from sadl.compiler.shot import Shot
from sadl.config import config
from sadl.errors import CaptureError, explain
from sadl.op import Op
from sadl.tape import Node, Traced, item_node, plain, touch, toucher
from sadl.tensor import CpuTensor, Tensor
from sadl.tree import LEAF, unflatten


class Runner:
    """Runs calls of one signature. `programs` are the forward and, where a gradient may flow, the backward."""

    def __init__(self, shot: Shot, constants: set[int]) -> None:
        shot = self.shot = replace(_returned_once(shot, constants), result=None)
        graph, self._live_inputs = _without_constants(shot, constants)
        if config.verify:
            verify(graph)
        self.graph = graph
        self._tracked = _Gradient(shot, graph, self._live_inputs) if shot.live else None
        forward = self._tracked.forward if self._tracked else graph
        overlaps = _overlaps(shot)
        self._program = Program(plan(forward, overlaps))
        backward = [self._tracked.program] if self._tracked else []
        self.programs = [self._program, *backward]
        sources = self._sources = [s for i in self._live_inputs if (s := shot.capture.sources[i]).kind != "cotangent"]
        for k, source in enumerate(sources):
            if source.kind == "held":
                self._program.set_input(k, plain(source.held))
        self._arguments = [(k, s.index) for k, s in enumerate(sources) if s.kind == "arg"]
        self._grad_inputs = [(k, s.held) for k, s in enumerate(sources) if s.kind == "grad"]
        self._overwritten = [] if self._grad_inputs else shot.grads
        written = [(t, shot.capture.sources[i]) for t, i in shot.writes if i not in constants]
        self._touch = toucher(plain(t) for t, source in written if source.kind == "held")
        self._written_arguments = [source.index for _, source in written if source.kind == "arg"]
        self._written = set(forward.donated.values())
        self._keeps_grads = bool(self._program.library_calls)  # only these can fail
        place = {v: k for k, v in enumerate(forward.inputs)}
        self._overlaps = {frozenset((place[a], place[b])) for a, b in overlaps if a in place and b in place}
        self._as_tensor = [isinstance(shot.outs[i], Tensor) for i in shot.returned]
        dynamic = {*shot.returned, *(i for i, place in shot.kept.items() if place not in constants)}
        self._kept = {i: place for i, place in shot.kept.items() if place not in constants or i not in shot.returned}
        self._is_one_array = shot.structure == LEAF and bool(shot.returned) and not self._kept
        self._statics = [None if i in dynamic else x for i, x in enumerate(shot.outs)]
        shot.capture.forget_arguments()
        shot.outs = []  # results of the captured call, which nobody needs any more

    def __call__(self, leaves: list[Any]) -> Any:
        program, shot = self._program, self.shot
        with program.lock:
            new = [k for k, index in self._arguments if program.set_input(k, plain(leaves[index]))]
            for k, tensor in self._grad_inputs:
                program.set_input(k, plain(tensor._grad))
            if (new and self._written) or self._written_arguments:
                self._check_memory(new)
            arrays = self._run_without_grads()
        self._touch()
        for index in self._written_arguments:
            touch(plain(leaves[index]))
        n = len(shot.returned)
        for tensor, array in zip(shot.grads, arrays[n:], strict=False):
            tensor._grad = array
        for tensor in shot.cleared:
            tensor._grad = None
        for function, training in shot.capture.modes:
            function.train() if training else function.inference()
        results = [_tensor(a) if t else a for t, a in zip(self._as_tensor, arrays, strict=False)]
        if self._tracked:
            self._tracked.attach(results, arrays[n + len(shot.grads) :], self._holders(leaves))
        return results[0] if self._is_one_array else self._result(results, leaves)

    def _run_without_grads(self) -> list[np.ndarray]:
        """Run with the old `.grad`s put away, so that their arrays can be used again; where it fails they come back."""
        before = [tensor._grad for tensor in self._overwritten] if self._keeps_grads else []
        for tensor in self._overwritten:
            tensor._grad = None
        try:
            return self._program.run()
        except BaseException:
            for tensor, grad in zip(self._overwritten, before, strict=False):
                tensor._grad = grad
            raise

    def _check_memory(self, new: list[int]) -> None:
        """What is written may share memory with the arguments only as under capture, and must be writeable."""
        arrays = self._program.inputs
        for index in self._written_arguments:
            if not any(arrays[k].flags.writeable for k, i in self._arguments if i == index):
                raise ValueError(explain("compile", "an argument that the function writes is read-only", "pass a copy"))
        for j in new:
            for k in self._written:
                if j != k and frozenset((j, k)) not in self._overlaps and np.may_share_memory(arrays[k], arrays[j]):
                    self._program.inputs[j] = None  # type: ignore[call-overload]  # to be looked at again next time
                    what = "an array that is written shares memory with an argument, which it did not at first"
                    raise CaptureError(explain("compile", what, "pass a copy of one of them"))

    def _holders(self, leaves: list[Any]) -> list[Any]:
        """The objects the inputs were taken from on this call."""
        return [leaves[s.index] if s.kind == "arg" else s.held for s in self._sources]

    def _result(self, results: list[Any], leaves: list[Any]) -> Any:
        shot = self.shot
        outs = self._statics.copy()
        for i, result in zip(shot.returned, results, strict=False):
            outs[i] = result
        if self._kept:
            holders = dict(zip(self._live_inputs, self._holders(leaves), strict=False))
            for i, place in self._kept.items():
                outs[i] = holders[place] if place in holders else outs[i].copy()  # type: ignore[union-attr]
        return unflatten(shot.structure, outs)


def _overlaps(shot: Shot) -> list[tuple[Var, Var]]:
    """Pairs of inputs that look at the same memory, of which one is written."""
    written = {i for _, i in shot.writes}
    pairs = itertools.combinations(enumerate(shot.capture.raws), 2) if written else ()
    inputs = shot.graph.inputs
    return [
        (inputs[i], inputs[j])
        for (i, a), (j, b) in pairs
        if (i in written or j in written) and np.may_share_memory(a, b)
    ]


def _tensor(array: np.ndarray) -> CpuTensor:
    tensor = np.ndarray.view(array, CpuTensor)
    tensor._raw = array
    return tensor


def _returned_once(shot: Shot, constants: set[int]) -> Shot:
    """The shot without outputs for results that are objects of the caller, which get the same values in place."""
    twice = {k for k, i in enumerate(shot.returned) if i in shot.kept and shot.kept[i] not in constants}
    twice -= {shot.returned.index(i) for i in shot.live}
    if not twice:
        return shot
    left = [k for k in range(len(shot.graph.outputs)) if k not in twice]
    outputs = tuple(shot.graph.outputs[k] for k in left)
    donated = {left.index(k): i for k, i in shot.graph.donated.items()}
    returned = [i for k, i in enumerate(shot.returned) if k not in twice]
    return replace(shot, returned=returned, graph=replace(shot.graph, outputs=outputs, donated=donated))


def _without_constants(shot: Shot, constants: set[int]) -> tuple[Graph, list[int]]:
    """The graph with constant inputs as constants; writing to one of them changes nothing that lasts."""
    graph = shot.graph
    live = [i for i in range(len(graph.inputs)) if i not in constants]
    place = {i: k for k, i in enumerate(live)}
    consts = {graph.inputs[i]: shot.capture.at_first(i) for i in constants}
    outputs: list[Atom] = []
    donated: dict[int, int] = {}
    for i, v in enumerate(graph.outputs):
        into = graph.donated.get(i)
        if into is None or into in place:
            if into is not None:
                donated[len(outputs)] = place[into]
            outputs.append(v)
    inputs = tuple(graph.inputs[i] for i in live)
    return replace(graph, inputs=inputs, consts=consts, outputs=tuple(outputs), donated=donated), live


class _Gradient:
    """The differentiable side of a program: what the forward must keep, and the backward as a program of its own."""

    def __init__(self, shot: Shot, joint: Graph, live_inputs: list[int]) -> None:
        n_grads, n_cotangents = len(shot.gradients), shot.n_cotangents
        n_outputs = len(joint.outputs) - n_grads
        self.forward, backward, residuals = split(joint, n_outputs, n_cotangents)
        self.program = Program(plan(backward))
        place = {i: k for k, i in enumerate(live_inputs)}
        self._wanted = [place[i] for i in shot.gradients]
        self._live = [shot.returned.index(i) for i in shot.live]
        inputs = {v: k for k, v in enumerate(self.forward.inputs)}
        replaced = {self.forward.inputs[i] for i in self.forward.donated.values()}
        self._from_input = [None if v in replaced else inputs.get(v) for v in residuals]
        self._zeros = [np.zeros(shot.outs[i].shape, shot.outs[i].dtype) for i in shot.live]
        self._plain_forward = _outputs_only(joint, n_outputs, n_cotangents, self._live)
        self.op = Op("compiled", _not_run, "call", pullback=self._pull_back, outs=len(shot.live))

    def attach(self, results: list[Any], residuals: list[Any], holders: list[Any]) -> None:
        """Give the results their place in the graph of the surroundings; `holders` are the objects of the inputs."""
        inputs = [plain(h) for h in holders]
        parents = [h._node if isinstance(h, Traced) else None for h in holders]
        outs = tuple(results[k]._raw for k in self._live)
        node = Node(self.op, inputs, parents, {"residuals": residuals}, outs)
        for index, k in enumerate(self._live):
            results[k]._node = item_node(node, index)

    def _pull_back(self, gs: list[Any], out: Any, *inputs: Any, residuals: list[Any]) -> list[Any]:
        cotangents = [z if g is None else g for g, z in zip(gs, self._zeros, strict=True)]
        if any(isinstance(x, Traced) for x in (*inputs, *cotangents)):
            return self._pull_back_recorded(cotangents, inputs)
        saved = iter(residuals)
        values = [next(saved) if i is None else _present(inputs[i]) for i in self._from_input]
        grads = self.program([*values, *(np.asarray(plain(g)) for g in cotangents)])
        return self._spread(grads, len(inputs))

    def _pull_back_recorded(self, cotangents: list[Any], inputs: Any) -> list[Any]:
        """Where the gradient is differentiated again: the captured operations once more, by the eager rules."""
        chosen = [inputs[i] for i in self._wanted]

        def forward(*xs: Any) -> list[Any]:
            full = list(inputs)
            for i, x in zip(self._wanted, xs, strict=True):
                full[i] = x
            return evaluate(self._plain_forward, *full)

        _, pullback = vjp(forward, *chosen)
        return self._spread(list(pullback(cotangents)), len(inputs))

    def _spread(self, grads: list[Any], n: int) -> list[Any]:
        spread = dict(zip(self._wanted, grads, strict=True))
        return [spread.get(i) for i in range(n)]


def _outputs_only(joint: Graph, n_outputs: int, n_cotangents: int, live: list[int]) -> Graph:
    inputs = joint.inputs[: len(joint.inputs) - n_cotangents]
    outputs = tuple(joint.outputs[:n_outputs][k] for k in live)
    return dce(replace(joint, inputs=inputs, outputs=outputs, donated={}))


def _present(x: Any) -> Any:
    """The array, or the error of a value that was overwritten since."""
    return x if isinstance(x, np.ndarray) else x.__array__()


def _not_run(*_: Any, **__: Any) -> Any:
    raise AssertionError("a compiled operation is run by its program")
