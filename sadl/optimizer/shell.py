"""The shell of every optimizer: which Parameters it has, their groups, rates and state, and how results are written.

Takes the Parameters of a Function and their gradients; changes the Parameters' own memory, so that all references stay.
Running it compiled is left to the compiler, which sees the same calls; the formulas are in `rules`.
"""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, ValuesView
from types import MappingProxyType
from typing import Any

import numpy as np

from sadl import autograd
from sadl.backend import Device
from sadl.creation import tensor, zeros_like
from sadl.errors import GradientError, explain
from sadl.function import Function, check_paths, copy_state, device_of, snapshot
from sadl.functional.checks import flag, number
from sadl.ops.checking import require_number
from sadl.tape import MODE, no_grad, plain
from sadl.tensor import Parameter, Tensor

Params = Function | Mapping[str, Any] | Iterable[Any]
Options = Mapping[str, Any]


class _Rated:
    """What has options, which nobody changes, and a learning rate: a Tensor behind a plain attribute."""

    _options: dict[str, Any]

    @property
    def options(self) -> Options:
        """By name, what is fixed once and for all: it can be read only."""
        return MappingProxyType(self._options)

    @property
    def lr(self) -> Any:
        return vars(self)["lr"]

    @lr.setter
    def lr(self, value: Any) -> None:
        self._require_own_rate()
        value = _rate(value)
        vars(self.lr).pop("initial", None)  # of which schedules made so far compute the rates
        with no_grad():
            self.lr[...] = value

    def _require_own_rate(self) -> None:
        """Raise ValueError where others have the same rate."""


class Group(_Rated):
    """Parameters with options of their own.

    Attributes:
        params: paths to Parameters.
        lr: the learning rate, a float64 Tensor of shape (): that of the optimizer unless the group was given one, which
            `group.lr = 0.1` writes into. One that is the optimizer's is set there.
        options: those of the optimizer, with what the group was given in their place; they can be read only.
    """

    def __init__(self, params: dict[str, Any], lr: Any, options: Options, shares_rate: bool) -> None:
        self.params, self._options, self._shares_rate = params, dict(options), shares_rate
        vars(self)["lr"] = lr

    def _require_own_rate(self) -> None:
        if self._shares_rate:
            what = "the rate of this group is that of the optimizer and of all groups without one of their own"
            instead = 'optimizer.lr = ... for all of them, or {"params": ..., "lr": ...} when the optimizer is made'
            raise ValueError(explain("Group", what, instead))


class Optimizer(_Rated, ABC):
    """Keeps Parameters, learning rates and the state of an update rule; a subclass defines `step`.

    Gradients add up in `.grad` until `zero_grad`: for the gradient of a batch in several parts, call `backward` for
    each (of the loss divided by the number of parts) before `step`.

    Args:
        params: Parameters to train: a Function, a mapping of names to Parameters, or any iterable of them. One that
            occurs twice counts once. Or a list of groups: dicts with `params`, one of these, and options of their own
            such as `lr` and `weight_decay`; `[{"params": f.body}, {"params": f.head, "lr": 0.1}]`.
        lr: learning rate, a finite number >= 0, of all groups without one of their own.
    Attributes:
        params: the list of Parameters.
        groups: the list of groups, each a `Group`.
        lr: the learning rate, a float64 Tensor of shape (); `optimizer.lr = 0.1` writes into it.
        options: what the rule has besides, by name; it can be read only.
    Raises:
        ValueError: no parameter, one with `keep_grad` off or with a history or in two groups, a bad learning rate or
            option.
        TypeError: something that is not a Parameter.
    """

    def __init__(self, params: Params, lr: Any = 1e-3, **options: Any) -> None:
        given = _grouped(params)
        self._named = _checked(named for named, _ in given)
        self.params = list(self._named.values())
        self._state: dict[str, dict[str, Any]] = {path: {} for path in self._named}
        vars(self)["lr"] = tensor(_rate(lr), dtype=np.float64)
        self._options = self._checked_options(options)
        self.groups = [self._group(OrderedDict(named), own) for named, own in given]

    def _group(self, params: dict[str, Any], own: Options) -> Group:
        given = own.get("lr", self.lr)
        lr = given if given is self.lr else tensor(_rate(given), dtype=np.float64)
        own = {name: value for name, value in own.items() if name != "lr"}
        unknown = [name for name in own if name not in self.options]
        if unknown:
            what = f"{type(self).__name__} has no option {', '.join(map(repr, unknown))}"
            raise ValueError(explain("Optimizer", what, f"of {', '.join(('lr', *self.options))}"))
        return Group(params, lr, self._checked_options({**self.options, **own}), lr is self.lr)

    def _checked_options(self, options: Options) -> dict[str, Any]:
        checked = {name: _option(type(self).__name__, name, value) for name, value in options.items()}
        self._check(checked)
        return checked

    def _check(self, options: Options) -> None:
        """Raise ValueError where options are out of range; that they are numbers >= 0 is known."""

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

    def _ready(self) -> list[tuple[str, Any, Any]]:
        """Path, Parameter and gradient of what is to be updated. Raises before anything was changed."""
        ready = [(path, p, p.grad) for path, p in self._named.items() if p.requires_grad]
        missing = ", ".join(path for path, _, g in ready if g is None)
        if missing:
            what = f"Gradient of parameter must not be None in step function, but is for {missing}"
            raise ValueError(explain("step", what, "call backward first, or freeze it: requires_grad = False"))
        return ready

    def _update(
        self, ready: list[tuple[str, Any, Any]], rule: Callable[..., Any], *numbers: Any, **constants: Any
    ) -> None:
        """Write what `rule` makes of each Parameter, all in its dtype, but half precision in single."""
        dtypes = dict.fromkeys(wide(p.dtype) for _, p, _ in ready)
        cast = {dtype: [n.astype(dtype) for n in numbers] for dtype in dtypes}
        for path, p, g in ready:
            dtype, slots = wide(p.dtype), self._state[path].values()
            new, state = rule(
                _as(seen(p), dtype), _as(seen(g), dtype), tuple(map(seen, slots)), *cast[dtype], **constants
            )
            for target, value in zip((p, *slots), (new, *state), strict=True):
                target[...] = value

    # ---- state -----------------------------------------------------------------------------------------------------

    def _places(self) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Key, dict and name in it of each state Tensor."""
        for name, value in list(vars(self).items()):
            if isinstance(value, Tensor):
                yield name, vars(self), name
        for i, group in enumerate(self.groups):
            if group.lr is not self.lr:
                yield f"groups[{i}].lr", vars(group), "lr"
        for path, slots in self._state.items():
            for name in slots:
                yield f"_state{{params}}{{{path}}}{{{name}}}", slots, name

    def _tensors(self) -> OrderedDict[str, Any]:
        return OrderedDict((key, holder[name]) for key, holder, name in self._places())

    def get_state(self, to_device: Device | None = None) -> OrderedDict[str, Any]:
        """Copies of all state Tensors, for `sadl.save` and `load_state`; the parameters themselves are not in it.

        Keys are `lr`, `t` (the number of steps, where the rule has it), `groups[<i>].lr` of groups with a rate of their
        own, and `_state{params}{<path>}{<name>}`, where the path is that of the Function or mapping the optimizer was
        given, or the position in an iterable; behind `groups[<i>].` where it was given groups.
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
        for key in [key for key, _, name in self._places() if name == "lr" and key in state]:
            _rate(state[key])
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
        shared = [group for group in self.groups if group.lr is self.lr]
        for _, holder, name in list(self._places()):
            holder[name] = holder[name].copy_to_device(device)
        for group in shared:
            vars(group)["lr"] = self.lr
        return self


class RuleOptimizer(Optimizer):
    """An optimizer whose step is one rule for every Parameter; a subclass says which, and what it needs."""

    rule: Any
    counts = False  # whether the numbers depend on how many steps were taken

    def __init__(self, params: Params, lr: Any, **options: Any) -> None:
        super().__init__(params, lr, **options)
        if self.counts:
            self.t = tensor(0.0, dtype=np.float64)
        for group in self.groups:
            for path, p in group.params.items():
                slots = self._slots(group.options)
                self._state[path].update((name, zeros_like(p, dtype=wide(p.dtype))) for name in slots)

    @abstractmethod
    def _slots(self, options: Options) -> list[str]:
        """The names of the state Tensors of each Parameter: zeros of its shape and the dtype of its updates."""

    def _numbers(self, lr: Any, t: Any, options: Options) -> tuple[tuple[Any, ...], Options]:
        """What the rule takes behind the state: the numbers of this step, from float64, and by name the constants."""
        return (lr,), options

    def step(self) -> None:
        """Update each Parameter that requires a gradient.

        Raises:
            ValueError: one of them has no gradient; then nothing was changed.
        """
        ready = self._ready()
        with no_grad():
            if self.counts:
                self.t[...] = self.t + 1
            t = seen(self.t) if self.counts else None
            for group in self.groups:
                numbers, constants = self._numbers(seen(group.lr), t, group.options)
                self._update([r for r in ready if r[0] in group.params], self.rule, *numbers, **constants)


def wide(dtype: np.dtype) -> np.dtype:
    """The dtype in which a Parameter is updated: squares of gradients do not fit into half precision."""
    return np.result_type(dtype, np.float32)


def _as(x: Any, dtype: np.dtype) -> Any:
    return x if x.dtype == dtype else x.astype(dtype)


def seen(x: Any) -> Any:
    """What a rule works on: plain arrays, which cost least; Tensors while a program is captured."""
    return plain(x) if MODE.get().recorder is None else x


# ---- checking what was given ---------------------------------------------------------------------------------------


_Named = list[tuple[str, Any]]


def _grouped(params: Params) -> list[tuple[_Named, Options]]:
    """The parameters of each group by path, name or position, and the group's own options."""
    if isinstance(params, type):
        raise TypeError(explain("Optimizer", f"the class {params.__name__} has no Parameters yet", "an object of it"))
    if isinstance(params, (Function, Mapping)) or hasattr(params, "get_parameters") or not isinstance(params, Iterable):
        return [(_named(params), {})]
    items = list(params)
    if not any(isinstance(item, Mapping) for item in items):
        return [(_named(items), {})]
    if not all(isinstance(item, Mapping) and "params" in item for item in items):
        what = "groups are dicts that each have 'params'"
        raise ValueError(explain("Optimizer", what, '[{"params": f.body}, {"params": f.head, "lr": 0.1}]'))
    named = [[(f"groups[{i}].{path}", p) for path, p in _named(g["params"])] for i, g in enumerate(items)]
    seen_ids = [id(p) for group in named for _, p in group]
    if len(set(seen_ids)) < len(seen_ids):
        twice = [path for group in named for path, p in group if seen_ids.count(id(p)) > 1]
        raise ValueError(explain("Optimizer", f"a parameter is in two groups: {', '.join(twice)}"))
    return [(pairs, {k: v for k, v in g.items() if k != "params"}) for pairs, g in zip(named, items, strict=True)]


def named_parameters(params: Params) -> _Named:
    """The parameters of all groups, as an optimizer takes them."""
    return [pair for named, _ in _grouped(params) for pair in named]


def _named(params: Params) -> _Named:
    """Each parameter once, with its path, name or position."""
    if isinstance(params, Function) or hasattr(params, "get_parameters"):  # the latter if it is compiled
        params = params.get_parameters()
    if not isinstance(params, Iterable):
        what = f"parameters are a Function, a mapping or an iterable of Parameters, found a {type(params).__name__}"
        raise TypeError(explain("Optimizer", what, "the model, or a list of its Parameters"))
    named = params.items() if isinstance(params, Mapping) else enumerate(params)
    once: dict[int, tuple[str, Any]] = {}
    for name, p in named:
        once.setdefault(id(p), (str(name), p))
    return list(once.values())


def _checked(groups: Iterable[_Named]) -> OrderedDict[str, Any]:
    named = [pair for group in groups for pair in group]
    check_paths([path for path, _ in named])
    found = OrderedDict(named)
    if not found:
        what = "Must pass at least one parameter to optimize, found none"
        raise ValueError(explain("Optimizer", what, "a list: a generator gives its items only once"))
    others = [f"{path}: a {type(p).__name__}" for path, p in found.items() if not isinstance(p, Parameter)]
    if others:
        what = f"All parameters passed to the optimizer must be of type Parameter, unlike {', '.join(others)}"
        raise TypeError(explain("Optimizer", what, "sadl.Parameter(array); and [p] for a single one"))
    bad = [path for path, p in found.items() if not p.keep_grad or not p.is_leaf()]
    if bad:
        what = f"parameters must keep their gradient and have no history, unlike {', '.join(bad)}"
        raise ValueError(explain("Optimizer", what, "sadl.Parameter(t.detach())"))
    return found


def _rate(value: Any) -> Any:
    """`value` as a learning rate; of one that is being captured, the program looks at the number."""
    array = seen(value) if isinstance(value, Tensor) else np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "fiu":
        found = f"of {array.dtype} {array.shape}" if isinstance(value, Tensor) else repr(value)
        raise ValueError(explain("lr", f"lr={found} is out of range", "a finite number >= 0"))
    require_number("lr", "lr", array)
    return array.reshape(())


_FLAGS = {"nesterov", "centered"}


def _option(op: str, name: str, value: Any) -> Any:
    """An option as it is kept: a bool, a pair of numbers (`betas`), or a number."""
    if name in _FLAGS:
        return flag(op, name, value)
    if name != "betas":
        return number(op, name, value, 0)
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(explain(op, f"betas are two numbers, found {value!r}", "betas=(0.9, 0.999)"))
    return tuple(number(op, name, v, 0) for v in value)


def require_below_one(op: str, **decays: Any) -> None:
    """Raise unless all numbers are below 1; that they are at least 0 is known."""
    for name, value in decays.items():
        if np.max(value) >= 1:
            raise ValueError(explain(op, f"{name}={value} is out of range", "a number >= 0 and < 1, or two of them"))
