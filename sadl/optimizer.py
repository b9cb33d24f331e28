"""Optimizers: a pure update rule for one parameter each, in a shell that keeps the state and writes in place.

Takes the Parameters of a Function and their gradients; changes the Parameters' own memory, so that all references stay.
The rules call only `np.*`; running them compiled is left to the compiler, which sees the same calls.
"""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, ValuesView
from typing import Any

import numpy as np

from sadl import autograd
from sadl.backend import Device
from sadl.creation import tensor, zeros_like
from sadl.errors import GradientError, explain
from sadl.function import Function, check_paths, copy_state, device_of, snapshot
from sadl.tape import MODE, no_grad, plain
from sadl.tensor import Parameter, Tensor, as_recorded

Params = Function | Mapping[str, Any] | Iterable[Any]

# ---- the rules -----------------------------------------------------------------------------------------------------


def sgd(
    p: Any, g: Any, state: tuple[Any, ...], lr: Any, *, momentum: float, nesterov: bool, weight_decay: float
) -> tuple[Any, tuple[Any, ...]]:
    """m' = momentum m + g; p' = p - lr m' (Nesterov: p - lr (g + momentum m')); g includes weight_decay p.

    Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013, in the form that
    torch.optim.SGD has. All arrays of one shape and dtype, `lr` 0-d of that dtype; `state` is (m,), or () without
    momentum. Gives p' and the new state.
    """
    if weight_decay:
        g = g + weight_decay * p
    if not momentum:
        return p - lr * g, ()
    m = momentum * state[0] + g
    return p - lr * (g + momentum * m if nesterov else m), (m,)


def adam(
    p: Any,
    g: Any,
    state: tuple[Any, ...],
    rate: Any,
    root: Any,
    *,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> tuple[Any, tuple[Any, ...]]:
    """m' = b1 m + (1 - b1) g; v' = b2 v + (1 - b2) g**2; p' = p - rate m' / (sqrt(v') / root + eps).

    Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1, with its bias corrections in
    rate = lr / (1 - b1**t) and root = sqrt(1 - b2**t); g includes weight_decay p. All arrays of one shape and dtype,
    `rate` and `root` 0-d of that dtype; `state` is (m, v). Gives p' and the new state.
    """
    m, v = state
    if weight_decay:
        g = g + weight_decay * p
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * np.square(g)
    return p - rate * m / (np.sqrt(v) / root + eps), (m, v)


# ---- the shell -----------------------------------------------------------------------------------------------------


class Optimizer(ABC):
    """Keeps Parameters, a learning rate and the state of an update rule; a subclass defines `step`.

    Args:
        params: Parameters to train: a Function, a mapping of names to Parameters, or any iterable of them. One that
            occurs twice counts once.
        lr: learning rate, a finite number >= 0.
    Attributes:
        params: the list of Parameters.
        lr: the learning rate, a float64 Tensor of shape (); `optimizer.lr = 0.1` writes into it.
    Raises:
        ValueError: no parameter, one with `keep_grad` off or with a history, or a bad learning rate.
        TypeError: something that is not a Parameter.
    """

    def __init__(self, params: Params, lr: Any = 1e-3) -> None:
        self._named = _checked(_named(params))
        self.params = list(self._named.values())
        self._state: dict[str, dict[str, Any]] = {path: {} for path in self._named}
        vars(self)["lr"] = tensor(_rate(lr), dtype=np.float64)

    @property
    def lr(self) -> Any:
        return vars(self)["lr"]

    @lr.setter
    def lr(self, value: Any) -> None:
        value = _rate(value)
        with no_grad():
            self.lr[...] = value

    @abstractmethod
    def step(self) -> None:
        """Update each Parameter that requires a gradient by its `.grad`."""

    def backward(self, loss: Any) -> None:
        """Add the gradients of `loss`, a Tensor of size 1, to `.grad` of all Tensors with `keep_grad`.

        Raises:
            ValueError: `loss` is something else, keeps its own gradient, has no graph or was used already.
        """
        array = plain(loss) if isinstance(loss, Tensor) else None
        if array is None or array.size != 1:
            found = f"a {type(loss).__name__}" if array is None else f"shape {array.shape}"
            what = f"the loss must be a Tensor of size 1, found {found}"
            raise GradientError(explain("backward", what, "loss.mean()"))
        if loss.keep_grad:
            raise GradientError(explain("backward", "the loss must not have keep_grad", "loss.keep_grad = False"))
        autograd.backward(loss, leaves=False)

    def zero_grad(self, additional_tensors: Iterable[Any] | None = None) -> None:
        """Set `.grad` of all Parameters, and of `additional_tensors`, to None."""
        for p in (*self.params, *(additional_tensors or ())):
            p.grad = None

    # ---- updating --------------------------------------------------------------------------------------------------

    def _add_state(self, *names: str) -> None:
        """Give every Parameter state Tensors of these names: zeros of its shape and the dtype of its updates."""
        for path, p in self._named.items():
            self._state[path].update((name, zeros_like(p, dtype=_wide(p.dtype))) for name in names)

    def _ready(self) -> list[tuple[str, Any, Any]]:
        """Path, Parameter and gradient of what is to be updated. Raises before anything was changed."""
        ready = [(path, p, p.grad) for path, p in self._named.items() if p.requires_grad]
        missing = ", ".join(path for path, _, g in ready if g is None)
        if missing:
            what = f"Gradient of parameter must not be None in step function, but is for {missing}"
            raise ValueError(explain("step", what, "call backward first, or freeze it: requires_grad = False"))
        return ready

    def _update(
        self, ready: list[tuple[str, Any, Any]], rule: Callable[..., Any], *scalars: Any, **constants: Any
    ) -> None:
        """Write what `rule` makes of each Parameter, all in its dtype, but half precision in single."""
        dtypes = dict.fromkeys(_wide(p.dtype) for _, p, _ in ready)
        cast = {dtype: [s.astype(dtype) for s in scalars] for dtype in dtypes}
        for path, p, g in ready:
            dtype, slots = _wide(p.dtype), self._state[path].values()
            new, state = rule(
                _as(_seen(p), dtype), _as(_seen(g), dtype), tuple(map(_seen, slots)), *cast[dtype], **constants
            )
            for target, value in zip((p, *slots), (new, *state), strict=True):
                target[...] = value

    # ---- state -----------------------------------------------------------------------------------------------------

    def _places(self) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Key, dict and name in it of each state Tensor."""
        for name, value in list(vars(self).items()):
            if isinstance(value, Tensor):
                yield name, vars(self), name
        for path, slots in self._state.items():
            for name in slots:
                yield f"_state{{params}}{{{path}}}{{{name}}}", slots, name

    def _tensors(self) -> OrderedDict[str, Any]:
        return OrderedDict((key, holder[name]) for key, holder, name in self._places())

    def get_state(self, to_device: Device | None = None) -> OrderedDict[str, Any]:
        """Copies of all state Tensors, for `sadl.save` and `load_state`; the parameters themselves are not in it.

        Keys are `lr`, `t` (the number of steps, where the rule has it) and `_state{params}{<path>}{<name>}`, where the
        path is that of the Function or mapping the optimizer was given, or the position in an iterable.
        """
        return snapshot(self._tensors(), to_device)

    @property
    def state(self) -> ValuesView[Any]:
        """The state Tensors themselves, in the order of `get_state`."""
        return self._tensors().values()

    def load_state(self, state: Mapping[str, Any], *, match_device: bool = False, partial: bool = False) -> None:
        """Copy a state, as from `get_state`, into this optimizer's own Tensors.

        Args:
            state: keys to Tensors or arrays of the same shapes; floats of another width are converted.
            match_device: move entries to the device of the Tensor they replace.
            partial: allow some keys to be missing; unexpected ones are always an error.
        Raises:
            KeyError: keys are missing or unexpected (this error is a ValueError, too).
            ValueError: an entry does not fit. All problems are in one message, and nothing was changed.
        """
        if "lr" in state:
            _rate(state["lr"])
        copy_state("load_state", "State", self._tensors(), state, match_device=match_device, partial=partial)

    @property
    def device(self) -> tuple[Device, ...]:
        """The devices of the Parameters, each once."""
        return tuple(dict.fromkeys(map(device_of, self.params)))

    def copy_to_device(self, device: Device) -> "Optimizer":
        """Move the state to `device`; the Parameters are moved by the Function they belong to.

        Raises:
            ValueError: there is no such device.
        """
        for _, holder, name in list(self._places()):
            holder[name] = holder[name].copy_to_device(device)
        return self


def _wide(dtype: np.dtype) -> np.dtype:
    """The dtype in which a Parameter is updated: squares of gradients do not fit into half precision."""
    return np.result_type(dtype, np.float32)


def _as(x: Any, dtype: np.dtype) -> Any:
    return x if x.dtype == dtype else x.astype(dtype)


def _constant(name: str, doc: str) -> Any:
    return property(lambda self: self._constants[name], doc=doc)


class SGD(Optimizer):
    """Stochastic gradient descent; the rule is `sgd`.

    Args:
        params, lr: as for `Optimizer`.
        momentum: how much of the last update goes on, >= 0. It and the following are fixed once and for all.
        nesterov: look ahead by the momentum; needs momentum.
        weight_decay: adds weight_decay * parameter to the gradient, >= 0.
    """

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr)
        momentum, weight_decay = _number("SGD", "momentum", momentum), _number("SGD", "weight_decay", weight_decay)
        _require("SGD", nesterov=momentum > 0 or not nesterov)
        self._constants = {
            "momentum": float(momentum),
            "nesterov": bool(nesterov),
            "weight_decay": float(weight_decay),
        }
        self._add_state(*(["m"] if momentum else []))

    momentum = _constant("momentum", "How much of the last update goes on.")
    nesterov = _constant("nesterov", "Whether to look ahead by the momentum.")
    weight_decay = _constant("weight_decay", "What of each parameter is added to its gradient.")

    def step(self) -> None:
        """Update each Parameter that requires a gradient.

        Raises:
            ValueError: one of them has no gradient; then nothing was changed.
        """
        ready = self._ready()
        with no_grad():
            self._update(ready, sgd, _seen(self.lr), **self._constants)


class Adam(Optimizer):
    """Adam; the rule is `adam`.

    Args:
        params, lr: as for `Optimizer`.
        betas: decay of the running means of the gradient and of its square, each in [0, 1). They and the following
            are fixed once and for all.
        eps: keeps the denominator from zero, >= 0.
        weight_decay: adds weight_decay * parameter to the gradient, >= 0.
    Attributes:
        t: the number of steps taken, a float64 Tensor of shape ().
    """

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr)
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ValueError(explain("Adam", f"betas are two numbers, found {betas!r}", "betas=(0.9, 0.999)"))
        b1, b2 = (_number("Adam", "betas", b) for b in betas)
        eps, weight_decay = _number("Adam", "eps", eps), _number("Adam", "weight_decay", weight_decay)
        _require("Adam", betas=b1 < 1 and b2 < 1)
        self._constants = {"betas": (b1, b2), "eps": float(eps), "weight_decay": float(weight_decay)}
        self.t = tensor(0.0, dtype=np.float64)
        self._add_state("m", "v")

    betas = _constant("betas", "Decay of the running means of the gradient and of its square.")
    eps = _constant("eps", "What keeps the denominator from zero.")
    weight_decay = _constant("weight_decay", "What of each parameter is added to its gradient.")

    def step(self) -> None:
        """Update each Parameter that requires a gradient.

        Raises:
            ValueError: one of them has no gradient; then nothing was changed.
        """
        ready = self._ready()
        with no_grad():
            self.t[...] = self.t + 1
            t, (b1, b2) = _seen(self.t), self.betas
            self._update(ready, adam, _seen(self.lr) / (1 - b1**t), np.sqrt(1 - b2**t), **self._constants)


# ---- checking what was given ---------------------------------------------------------------------------------------


def _named(params: Params) -> ValuesView[tuple[str, Any]]:
    """Each parameter once, with its path, name or position."""
    if isinstance(params, Function) or hasattr(params, "get_parameters"):  # the latter if it is compiled
        params = params.get_parameters()
    if not isinstance(params, Iterable):
        what = f"parameters are a Function, a mapping or an iterable of Parameters, found a {type(params).__name__}"
        raise TypeError(explain("Optimizer", what))
    named = params.items() if isinstance(params, Mapping) else enumerate(params)
    once: dict[int, tuple[str, Any]] = {}
    for name, p in named:
        once.setdefault(id(p), (str(name), p))
    return once.values()


def _checked(named: ValuesView[tuple[str, Any]]) -> OrderedDict[str, Any]:
    check_paths([path for path, _ in named])
    found = OrderedDict(named)
    if not found:
        raise ValueError("Must pass at least one parameter to optimize.")
    if not all(isinstance(p, Parameter) for p in found.values()):
        raise TypeError("All parameters passed to the optimizer must be of type Parameter.")
    bad = [path for path, p in found.items() if not p.keep_grad or not p.is_leaf()]
    if bad:
        what = f"parameters must keep their gradient and have no history, unlike {', '.join(bad)}"
        raise ValueError(explain("Optimizer", what, "sadl.Parameter(t.detach())"))
    return found


def _rate(value: Any) -> Any:
    """`value` as a learning rate; one that is being captured cannot be read and is taken as it is."""
    if isinstance(value, Tensor) and MODE.get().recorder is not None:
        return value
    array = np.asarray(plain(value))
    if array.size != 1 or array.dtype.kind not in "fiu" or not 0 <= array.item() < np.inf:
        raise ValueError(explain("lr", f"{value!r} is not a finite number >= 0"))
    return array.reshape(())


def _number(op: str, name: str, value: Any) -> float:
    """A hyper-parameter: a finite number >= 0."""
    if not isinstance(value, (int, float, np.number)) or not 0 <= value < np.inf:
        raise ValueError(explain(op, f"{name}={value!r} is out of range", "a finite number >= 0"))
    return float(value)


def _require(op: str, **holds: bool) -> None:
    wrong = ", ".join(name for name, good in holds.items() if not good)
    if wrong:
        raise ValueError(explain(op, f"out of range: {wrong}", "see its documentation for what is allowed"))


def _seen(x: Any) -> Any:
    """What a rule works on: plain arrays, which cost least; Tensors while a program is captured."""
    return plain(x) if MODE.get().recorder is None else x


# ---- the order of a graph ------------------------------------------------------------------------------------------


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
