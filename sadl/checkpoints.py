"""A whole training run in one file: the states of a model, its optimizer, schedule, loader and random numbers.

Takes objects with `get_state` and `load_state`, and numbers; gives a file that `load` can read as well, and puts the
states back into objects built in the same way. Formats, and that files appear whole, are left to `disk`.
"""

import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from sadl import random
from sadl.creation import tensor
from sadl.disk import load, save
from sadl.errors import FileFormatError, explain
from sadl.function import copy_state, snapshot
from sadl.tape import plain
from sadl.tensor import Tensor

_MARK = "__checkpoint__"  # the key of the version
_VERSION = 1


def save_checkpoint(file_path: str | os.PathLike[str], /, **parts: Any) -> None:
    """Write the states of `parts` to one `.sadl` or `.safetensors` file, from which `load_checkpoint` goes on exactly.

    The file appears whole or not at all, and keeps no code: no pickle. Gradients are not in it, so take it behind
    `optimizer.step()`, or add `gradients=sadl.Gradients(model)`. Keys are `<part>/<key of its state>`, for `sadl.load`.

    Args:
        file_path: as for `sadl.save`.
        parts: under names of your own, objects with `get_state` and `load_state` (`model=`, `optimizer=`,
            `schedule=`, `loader=`, a `sadl.random.Generator`), and numbers or arrays. The state of `sadl.random` is
            among them as `random`, unless you pass `random=None`.
    Raises:
        TypeError: a part that is neither.
        ValueError: a name with "/" in it, or the one that marks the file; or as `sadl.save`.
        ImportError, OSError: as `sadl.save`.
    """
    entries = {_MARK: tensor(_VERSION)}
    for name, part in _with_random(parts).items():
        if "/" in name or name == _MARK:
            what = f"{name!r} cannot be the name of a part, as keys are '<part>/<key of its state>'"
            raise ValueError(explain("save_checkpoint", what, name.replace("/", "_").strip("_") + "="))
        if hasattr(part, "get_state"):
            entries |= {f"{name}/{key}": value for key, value in part.get_state().items()}
        elif part is not None:
            entries[name] = _value(name, part)
    save(entries, file_path)


def load_checkpoint(file_path: str | os.PathLike[str], /, **parts: Any) -> OrderedDict[str, Any]:
    """Put the states in a file back into `parts`, which are named as they were for `save_checkpoint`.

    Args:
        file_path: a file of `save_checkpoint`.
        parts: the objects; None leaves that part of the file alone: `optimizer=None`. `random` need not be passed.
    Returns:
        The numbers and arrays that were saved: numbers as Python has them, arrays as Tensors.
    Raises:
        KeyError: entries are missing or unexpected (this error is a ValueError, too).
        ValueError: an entry does not fit. All problems are in one message, and nothing was changed.
        TypeError: a part without `load_state`.
        FileFormatError, ImportError, OSError: as `sadl.load`; or the file is no checkpoint.
    """
    parts = _with_random(parts)
    states, values = _parts_of(file_path)
    for name, part in parts.items():
        if part is None:
            states.pop(name, None)
        elif not hasattr(part, "load_state"):
            what = f"{name} is a {type(part).__name__} without load_state"
            raise TypeError(explain("load_checkpoint", what, f"leave {name} away: what was saved is returned"))
    held = {name: part for name, part in parts.items() if part is not None}
    before = {name: part.get_state() for name, part in held.items()}
    copy_state("load_checkpoint", "State", snapshot(_flat(before)), _flat(states), match_device=True, partial=False)
    try:
        for name, part in held.items():
            part.load_state(states.get(name, {}))
    except BaseException:
        for name, part in held.items():
            part.load_state(before[name])
        raise
    return values


class Gradients:
    """The gradients of a model as a part of a checkpoint, for one that is taken while they still add up.

    Args:
        model: a Function.
    """

    def __init__(self, model: Any) -> None:
        if not hasattr(model, "get_parameters"):
            raise TypeError(explain("Gradients", f"a {type(model).__name__} is no Function", "the model"))
        self.model = model

    def get_state(self) -> OrderedDict[str, Any]:
        """Copies of all `.grad`s by path, with zeros for None, and `[present]` (n,): which are there."""
        named = self.model.get_parameters()
        return snapshot({**{path: _gradient(p) for path, p in named.items()}, "[present]": _present(named)})

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Put the gradients back, as arrays of their own.

        Raises:
            KeyError: keys are missing or unexpected.
            ValueError: an entry has another shape or kind of dtype. Nothing was changed then.
        """
        named, loaded = self.model.get_parameters(), self.get_state()
        copy_state("load_state", "State", loaded, state, match_device=True, partial=False)
        for (path, p), present in zip(named.items(), loaded["[present]"].tolist(), strict=True):
            p.grad = np.array(plain(loaded[path])) if present else None


def _gradient(p: Any) -> Tensor:
    return tensor(np.zeros(p.shape, p.dtype) if p.grad is None else p.grad)


def _present(named: Mapping[str, Any]) -> Tensor:
    return tensor(np.array([p.grad is not None for p in named.values()], bool))


def _with_random(parts: dict[str, Any]) -> dict[str, Any]:
    """The parts with `sadl.random`, which comes last."""
    return {**parts, "random": parts.get("random", random)}


def _value(name: str, value: Any) -> Tensor:
    array = np.asarray(plain(value)) if isinstance(value, (bool, int, float, complex, np.generic, np.ndarray)) else None
    if array is None or array.dtype == object:
        what = f"{name} is a {type(value).__name__}, neither a number or array nor an object with get_state"
        raise TypeError(explain("save_checkpoint", what))
    return tensor(array)


def _flat(states: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{name}/{key}": value for name, state in states.items() for key, value in state.items()}


def _parts_of(file_path: str | os.PathLike[str]) -> tuple[dict[str, dict[str, Any]], OrderedDict[str, Any]]:
    """The states in a file, by name and key, and what was saved besides."""
    entries = load(file_path)
    if not isinstance(entries, dict) or _MARK not in entries:
        what = f"{file_path} is no checkpoint"
        raise FileFormatError(explain("load_checkpoint", what, "sadl.load, for what sadl.save has written"))
    if (version := entries.pop(_MARK).tolist()) != _VERSION:
        what = f"{file_path} is a checkpoint of version {version}, expected {_VERSION}"
        raise FileFormatError(explain("load_checkpoint", what, "a newer sadl"))
    states: dict[str, dict[str, Any]] = {}
    values: OrderedDict[str, Any] = OrderedDict()
    for key, entry in entries.items():
        name, slash, inner = key.partition("/")
        if slash:
            states.setdefault(name, {})[inner] = entry
        else:
            values[name] = entry if entry.ndim else plain(entry).item()
    return states, values
