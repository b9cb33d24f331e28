"""Function, the base of layers: what it holds (Parameters, Buffers, other Functions), their names, states and devices.

Takes plain attributes, lists and dicts, with no registration; gives each Tensor a path such as `layers[0].W`.
What a layer computes is left to its `__call__`, its file format to `disk`, its updates to `optimizer`.
"""

import inspect
import sys
from abc import ABCMeta, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, ValuesView
from typing import Any, NamedTuple, TypeVar

import numpy as np

from sadl.backend import Device
from sadl.errors import PLACES, explain
from sadl.tape import MODE, no_grad, owner, plain, tick
from sadl.tensor import CpuTensor, Parameter, Tensor
from sadl.utils import copy_array

Self = TypeVar("Self", bound="Function")


class Buffer(Tensor):
    """A Tensor that is state of a Function but not learned: saved and moved with it, without a gradient.

    Write into it under `sadl.no_grad()`: `self.mean[...] = value`.

    Args:
        data: an array, a number or nested sequences; memory is shared with an ndarray.
        dtype: convert to this dtype first.
    """

    __slots__ = ()

    def __new__(cls, data: Any, *, dtype: Any = None) -> Any:
        return np.ndarray.view(np.asarray(plain(data), dtype), CpuBuffer)


class CpuBuffer(Buffer, CpuTensor):  # type: ignore[misc]
    """A Buffer in the computer's own memory."""


# ---- when the structure changed ------------------------------------------------------------------------------------

_epoch = [0]


def structure_epoch() -> int:
    """A number that changes when a Function gets other parts after its `__init__`.

    Parts put into a list or dict that a Function holds already are not noticed.
    """
    return _epoch[0]


def _new_epoch() -> None:
    _epoch[0] = tick()  # never a value it had before, whatever other threads do


# ---- walking through what a Function holds -------------------------------------------------------------------------


class _Place(NamedTuple):
    """Where something stands: `holder.key`, `holder[key]`, or directly in a tuple or set."""

    path: str
    value: Any
    holder: Any
    key: Any

    def put(self, value: Any) -> None:
        if isinstance(self.holder, Function):
            setattr(self.holder, self.key, value)
        else:
            self.holder[self.key] = value
            _new_epoch()


_UNORDERED = (set, frozenset)


def _held(path: str, holder: Any) -> Iterator[_Place]:
    """What `holder` holds directly; nothing for what is no container."""
    if isinstance(holder, Function):
        for name, value in list(vars(holder).items()):
            yield _Place(f"{path}.{name}" if path else name, value, holder, name)
    elif isinstance(holder, dict):
        for key, value in list(holder.items()):
            yield _Place(f"{path}{{{key}}}", value, holder, key)
    elif isinstance(holder, (list, tuple, *_UNORDERED)):
        for i, value in enumerate(holder):
            yield _Place(f"{path}[{i}]", value, holder, i)


def _walk(place: _Place, seen: set[int]) -> Iterator[_Place]:
    """Every place of a Parameter, Buffer or Function; containers are entered once, so that cycles end."""
    inner = getattr(place.value, "__wrapped__", None)  # a compiled Function has the parts of the Function
    place = place._replace(value=inner) if isinstance(inner, Function) else place
    value = place.value
    if isinstance(value, (Parameter, Buffer, Function)):
        yield place
    if id(value) not in seen:
        seen.add(id(value))
        for part in _held(place.path, value):
            yield from _walk(part, seen)


def _places(root: Any) -> Iterator[_Place]:
    for place in _walk(_Place("", root, None, None), set()):
        if isinstance(place.holder, (tuple, *_UNORDERED)):
            raise TypeError(_not_here(place))
        yield place


def _not_here(place: _Place) -> str:
    kind, held = type(place.holder).__name__, type(place.value).__name__.removeprefix("Cpu")
    why = "has no stable ordering" if isinstance(place.holder, _UNORDERED) else "cannot take another in its place"
    return explain("Function", f"a {held} is directly in a {kind} ({place.path}), which {why}", "Use a list instead")


def device_of(tensor: Any) -> Device:
    """ "cpu", or the number of the GPU on which `tensor` is."""
    device = plain(tensor).device
    return "cpu" if device == "cpu" else int(device)


# ---- state as a mapping of paths to Tensors ------------------------------------------------------------------------


class StateKeyError(KeyError, ValueError):
    """A state that lacks entries, or has entries that nothing asks for."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show its repr


def snapshot(tensors: Mapping[str, Any], to_device: Device | None = None) -> OrderedDict[str, Any]:
    """Plain Tensors with copies of `tensors`, on their own devices or on `to_device`."""
    with no_grad():
        copies: OrderedDict[str, Any] = OrderedDict((path, np.copy(t)) for path, t in tensors.items())
    return copies if to_device is None else OrderedDict((k, t.copy_to_device(to_device)) for k, t in copies.items())


def copy_state(
    op: str, noun: str, targets: Mapping[str, Any], state: Any, *, match_device: bool, partial: bool
) -> None:
    """Copy `state` into the memory of `targets`, entry by entry, after everything was found to fit.

    Args:
        op, noun: who asks, and what an entry is called in messages.
        targets: paths to the Tensors that are written.
        state: paths to arrays of the same shape and of the same kind of dtype: float to float of any width,
            integer to integer, but never complex to real, integer to float or the other way round.
        match_device: move entries to the device of their target.
        partial: allow `state` to lack entries.
    Raises:
        StateKeyError: entries are missing or unexpected; it is a KeyError and a ValueError.
        ValueError: an entry has another shape, kind of dtype or device, or its target is read-only.
    Every problem is in the one message; nothing is changed where one is raised.
    """
    if not isinstance(state, Mapping):
        raise TypeError(explain(op, f"a {type(state).__name__} was given", "a mapping of paths to Tensors"))
    values = {path: v if hasattr(v, "__array_function__") else np.asarray(v) for path, v in state.items()}
    wrong_keys = [f'{noun} data not found for "{path}"' for path in targets if path not in values and not partial]
    wrong_keys += [f'Unexpected {noun.lower()} data for "{path}"' for path in values if path not in targets]
    common = [path for path in targets if path in values]
    misfits = [text for path in common for text in _misfits(noun, path, targets[path], values[path], match_device)]
    if wrong_keys or misfits:
        text = explain(op, "; ".join(wrong_keys + misfits) + " (nothing was changed)", "the state of an equal object")
        raise (StateKeyError if wrong_keys else ValueError)(text)
    _copy_all([(targets[path], values[path]) for path in common])


def _misfits(noun: str, path: str, target: Any, value: Any, match_device: bool) -> Iterator[str]:
    what = f'for {noun.lower()} "{path}"'
    if target.shape != value.shape:
        yield f"Shape mismatch {what}: expected {target.shape}, found {value.shape}"
    if target.dtype.kind != value.dtype.kind:
        yield f"Dtype mismatch {what}: expected {target.dtype}, found {value.dtype}"
    if not match_device and device_of(target) != device_of(value):
        yield f"Device mismatch {what}: expected {device_of(target)}, found {device_of(value)}"
    if isinstance(target, np.ndarray) and not target.flags.writeable:
        yield f'{noun} "{path}" is read-only'


@no_grad()
def _copy_all(pairs: list[tuple[Any, Any]]) -> None:
    """Convert everything first, so that nothing can fail halfway; then write."""
    written = {id(owner(plain(target))) for target, _ in pairs}
    staged = [(target, _staged(target, value, written)) for target, value in pairs]
    for target, value in staged:
        target[...] = value


def _staged(target: Any, value: Any, written: set[int]) -> Any:
    if device_of(value) != device_of(target):
        value = copy_array(value, device_of(target))
    if value.dtype != target.dtype or id(owner(plain(value))) in written:  # the latter would change under our hands
        return value.astype(target.dtype)
    return value


# ---- the base of layers --------------------------------------------------------------------------------------------


class _FunctionType(ABCMeta):
    """Notes when a Function is complete: what its own `__init__` sets is no change of structure."""

    @property
    def __signature__(cls) -> inspect.Signature:
        """That of `__init__`, for help() and editors."""
        signature = inspect.signature(getattr(cls, "__init__"))  # noqa: B009
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        function = super().__call__(*args, **kwargs)
        vars(function)["_complete"] = True
        return function


class Function(metaclass=_FunctionType):
    """Something with parameters that can be called: a layer, a model.

    Parameters, Buffers and other Functions are found in its attributes and in lists and dicts (and, inside these
    only, in tuples), in the order of the attributes. One that stands in several places counts once, under its first
    path; a reference back to an object that holds this one is not followed.
    """

    _is_training = True
    _complete = False

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output of this Function."""

    def __setattr__(self, name: str, value: Any) -> None:
        old = vars(self).get(name)
        recorder = MODE.get().recorder
        if recorder is not None and self._complete:
            recorder.set_attribute(self, name, old, value)
        object.__setattr__(self, name, value)
        if self._complete and old is not value and (_matters(old) or _matters(value)):
            _new_epoch()

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        _new_epoch()

    # ---- parameters and buffers -------------------------------------------------------------------------------------

    def traverse_parameters(self, on_parameter: Callable[[str, Any], Any]) -> None:
        """Call `on_parameter(path, parameter)` for each Parameter; a Parameter it returns takes that one's place.

        Raises:
            TypeError: a Parameter or Function stands directly in a tuple or set, or something else was returned.
            ValueError: two Parameters have the same path.
        """
        for places in self._grouped(Parameter):
            new = on_parameter(places[0].path, places[0].value)
            if new is not None and not isinstance(new, Parameter):
                what = f"on_parameter returned a {type(new).__name__} for {places[0].path}"
                raise TypeError(explain("traverse_parameters", what, "return a Parameter or None"))
            if new is not None:
                _put_all(places, new)

    def get_parameters(self, to_device: Device | None = None) -> OrderedDict[str, Any]:
        """The Parameters themselves by path, in order; on `to_device`, if given.

        Raises TypeError and ValueError as `traverse_parameters`.
        """
        found = OrderedDict((places[0].path, places[0].value) for places in self._grouped(Parameter))
        return found if to_device is None else OrderedDict((k, p.copy_to_device(to_device)) for k, p in found.items())

    def get_buffers(self) -> OrderedDict[str, Any]:
        """The Buffers themselves by path, in order."""
        return OrderedDict((places[0].path, places[0].value) for places in self._grouped(Buffer))

    @property
    def parameters(self) -> ValuesView[Any]:
        """The Parameters, each once."""
        return self.get_parameters().values()

    def load_parameters(
        self: Self, parameters: Mapping[str, Any], *, match_function_device: bool = False, partial: bool = False
    ) -> Self:
        """Copy values into the Parameters, which stay the same objects, so that optimizers keep hold of them.

        Args:
            parameters: paths to Tensors or arrays, as from `get_parameters`, of the same shapes. Floats of another
                width are converted; integers and complex numbers are refused.
            match_function_device: move values to the device of their Parameter first.
            partial: allow some paths to be missing; unexpected ones are always an error.
        Raises:
            KeyError: paths are missing or unexpected (this error is a ValueError, too).
            ValueError: a value does not fit. All problems are in one message, and nothing was changed.
        """
        targets = self.get_parameters()
        copy_state(
            "load_parameters", "Parameter", targets, parameters, match_device=match_function_device, partial=partial
        )
        return self

    def get_state(self, to_device: Device | None = None) -> OrderedDict[str, Any]:
        """Copies of all Parameters and Buffers by path, as plain Tensors, for `sadl.save` and `load_state`."""
        return snapshot(self._state_tensors(), to_device)

    def load_state(self: Self, state: Mapping[str, Any], *, match_device: bool = False, partial: bool = False) -> Self:
        """Copy values into Parameters and Buffers; arguments and errors as in `load_parameters`."""
        copy_state("load_state", "State", self._state_tensors(), state, match_device=match_device, partial=partial)
        return self

    def _state_tensors(self) -> dict[str, Any]:
        return {places[0].path: places[0].value for places in self._grouped((Parameter, Buffer))}

    def _grouped(self, kinds: Any) -> list[list[_Place]]:
        """All places of each Parameter or Buffer, in the order of the first ones."""
        groups: dict[int, list[_Place]] = {}
        for place in _places(self):
            if isinstance(place.value, kinds):
                groups.setdefault(id(place.value), []).append(place)
        check_paths([places[0].path for places in groups.values()])
        return list(groups.values())

    # ---- modes and devices ------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether all Parameters require a gradient; setting it sets each."""
        return all(p.requires_grad for p in self.parameters)

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        for p in self.parameters:
            p.requires_grad = wanted

    @property
    def device(self) -> tuple[Device, ...] | None:
        """The devices of the Parameters, each once; None without Parameters."""
        return tuple(dict.fromkeys(map(device_of, self.parameters))) or None

    def copy_to_device(self: Self, device: Device) -> Self:
        """Move Parameters and Buffers to `device`; those that are there stay the same objects.

        An optimizer holds the objects it was given: make it after moving to another device.
        Raises:
            ValueError: there is no such device.
        """
        for places in self._grouped((Parameter, Buffer)):
            moved = places[0].value.copy_to_device(device)
            if moved is not places[0].value:
                _put_all(places, moved)
        return self

    def is_training(self) -> bool:
        """Whether this Function is in training mode; each Function has a mode of its own, at first True."""
        recorder = MODE.get().recorder
        if recorder is not None:
            recorder.read_mode(self)
        return self._is_training

    def train(self: Self) -> Self:
        """Put this Function and all within it into training mode."""
        return _set_mode(self, True)

    def inference(self: Self) -> Self:
        """Put this Function and all within it into inference mode: no dropout, stored statistics."""
        return _set_mode(self, False)


# ---- where something happens ---------------------------------------------------------------------------------------


def layer_called(known: dict[int, dict[int, str]] | None = None) -> str:
    """The layer of which a method runs, by its path in the outermost Function of which one does: `layers[1] (Linear)`.

    Found from the stack, so that calls cost nothing for it; "" where no Function calls another. One that stands nowhere
    in the outermost is passed over for the one that called it. `known` keeps the paths for the next time.
    """
    layers = [function for name, function in _methods() if name != "__init__"]
    if len(layers) < 2:
        return ""
    known = {} if known is None else known
    paths = known.get(id(layers[-1])) or known.setdefault(id(layers[-1]), _paths(layers[-1]))
    return next((f"{paths[id(f)]} ({type(f).__name__})" for f in layers if paths.get(id(f))), "")


def _paths(root: Any) -> dict[int, str]:
    """The first path of each Function in `root`, by its id."""
    places = [p for p in _walk(_Place("", root, None, None), set()) if isinstance(p.value, Function)]
    return {id(place.value): place.path for place in reversed(places)}


def _methods() -> Iterator[tuple[str, Any]]:
    """Name and Function of each method of one that runs, the innermost first."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        code, first = frame.f_code, frame.f_code.co_varnames[:1]
        if code.co_argcount and (code.co_name == "__call__" or first == ("self",)):
            function = frame.f_locals.get(*first)
            if isinstance(function, Function):
                yield code.co_name, function
        frame = frame.f_back


def _place(op: str) -> str:
    """The layer that is called; or the classes of which one is made, as `Model.__init__`, but that of `op`."""
    found = layer_called()
    if found:
        return found
    made = {id(function): type(function).__name__ for name, function in _methods() if name == "__init__"}
    return ", ".join(f"{name}.__init__" for name in reversed(made.values()) if name != op)


PLACES.append(_place)


def _set_mode(function: Self, training: bool) -> Self:
    parts = [place.value for place in _places(function) if isinstance(place.value, (Function, Parameter))]
    before = [(vars(part), _MODE_NAME[isinstance(part, Function)]) for part in parts]
    old = [(space, name, space[name]) if name in space else (space, name, True) for space, name in before]
    recorder = MODE.get().recorder
    if recorder is not None:
        recorder.set_mode(function, training, parts, lambda: _restore(old))
    for space, name in before:
        space[name] = training
    return function


def _restore(values: list[tuple[dict[str, Any], str, Any]]) -> None:
    for space, name, value in values:
        space[name] = value


_MODE_NAME = {True: "_is_training", False: "is_training"}  # of a Function, of a Parameter


def _matters(value: Any) -> bool:
    """Whether a program may have been built around an attribute with this value: an array, a number, a part."""
    return isinstance(value, (np.ndarray, int, float, str)) or _holds_parts(value)


def _holds_parts(value: Any) -> bool:
    return next(_walk(_Place("", value, None, None), set()), None) is not None


def _put_all(places: list[_Place], value: Any) -> None:
    for place in places:
        place.put(value)


def check_paths(paths: list[str]) -> None:
    """Raise ValueError if a path occurs twice."""
    twice = {path for path in paths if paths.count(path) > 1} if len(set(paths)) < len(paths) else set()
    if twice:
        what = f"different Tensors have the same path: {', '.join(sorted(twice))}"
        raise ValueError(explain("Function", what, "keys of a dict that differ when written as text"))
