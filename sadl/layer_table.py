"""A table of what a model is made of: each Function in it, what it gives for an input, how many parameters it has.

Takes a model and arguments for one call; gives text. The model is as it was afterwards.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from sadl.config import config
from sadl.errors import explain
from sadl.function import Function, _places
from sadl.op import Aval
from sadl.random import Generator, undrawn
from sadl.tape import no_grad, plain
from sadl.tensor import Parameter
from sadl.tree import flatten, unflatten

HEAD = ("path", "type", "output", "parameters")
MODEL = "(model)"


def summary(model: Any, *args: Any, **kwargs: Any) -> str:
    """A table of the Functions in `model`, for `print`: path, type, output and number of parameters, then totals.

    `model(*args, **kwargs)` is called once, in inference mode and without gradients; Buffers and random numbers are put
    back after it.
    An output is written as dtype and shape (`f32[8,10]`); where a Function was called several times, that of each
    different one. Parameters are counted where they stand, each once, also if they are used in several places.

    Raises:
        TypeError: `model` is no Function (a compiled one will do).
    """
    model = getattr(model, "__wrapped__", model)
    if not isinstance(model, Function):
        raise TypeError(
            explain("summary", f"a {type(model).__name__} is no Function", "the model, and what to call it with")
        )
    places = list(_places(model))
    functions = _first(places, Function)
    with _as_before(model, [p.value for p in functions.values()]), _heard(functions) as outputs:
        model(*args, **kwargs)
    owned = _owned([p.path for p in functions.values()], places)
    layers = {key: p for key, p in functions.items() if not isinstance(p.value, Generator)}
    rows = [_row(p, outputs[key], owned[p.path]) for key, p in layers.items()]
    return _table(rows) + "\n" + _totals(model)


def _first(places: list[Any], kind: type) -> dict[int, Any]:
    """Of all places of each object of a kind the first, by its id."""
    first: dict[int, Any] = {}
    for place in places:
        if isinstance(place.value, kind):
            first.setdefault(id(place.value), place)
    return first


def _row(place: Any, outputs: list[str], parameters: list[Any]) -> tuple[str, ...]:
    seen = ", ".join(dict.fromkeys(outputs)) or "not called"
    return place.path or MODEL, type(place.value).__name__, seen, f"{sum(p.size for p in parameters):,}"


def _owned(paths: list[str], places: Any) -> dict[str, list[Any]]:
    """The Parameters of each Function that no Function within it has."""
    owned: dict[str, list[Any]] = {path: [] for path in paths}
    for place in _first(places, Parameter).values():
        owner = max((path for path in paths if _is_within(place.path, path)), key=len)
        owned[owner].append(place.value)
    return owned


def _is_within(path: str, outer: str) -> bool:
    return not outer or (path.startswith(outer) and path[len(outer) :][:1] in (".", "[", "{"))


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(HEAD, *rows, strict=True)]
    lines = [
        "  ".join([*(t.ljust(w) for t, w in zip(row[:3], widths, strict=False)), row[3].rjust(widths[3])])
        for row in (HEAD, *rows)
    ]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:], rule])


def _totals(model: Function) -> str:
    parameters, buffers = list(model.parameters), list(model.get_buffers().values())
    size = sum(p.size for p in parameters)
    frozen = sum(p.size for p in parameters if not p.requires_grad)
    text = f"{size:,} parameters ({sum(p.nbytes for p in parameters):,} bytes), of which {frozen:,} are frozen"
    return text + (f"; {sum(b.size for b in buffers):,} numbers in buffers" if buffers else "")


# ---- one call ------------------------------------------------------------------------------------------------------


@contextmanager
def _as_before(model: Function, functions: list[Function]) -> Iterator[None]:
    """Within it, inference mode, no gradients and no compiled parts; modes and Buffers are put back."""
    holders = [(vars(part), "_is_training") for part in functions]
    holders += [(vars(p), "is_training") for p in model.parameters]
    modes = [(space, name, space.get(name)) for space, name in holders]
    buffers = [(b, np.array(plain(b))) for b in model.get_buffers().values()]
    with config(compile=False), no_grad(), undrawn():
        model.inference()
        try:
            yield
        finally:
            for space, name, mode in modes:
                if mode is None:
                    space.pop(name, None)
                else:
                    space[name] = mode
            for buffer, value in buffers:
                buffer[...] = value


@contextmanager
def _heard(functions: dict[int, Any]) -> Iterator[dict[int, list[str]]]:
    """Within it, note what each of these Functions gives: their class is one whose `__call__` does that."""
    outputs: dict[int, list[str]] = {key: [] for key in functions}
    classes = [(place.value, type(place.value)) for place in functions.values()]
    for function, cls in classes:
        object.__setattr__(function, "__class__", _listening(cls, outputs[id(function)]))
    try:
        yield outputs
    finally:
        for function, cls in classes:
            object.__setattr__(function, "__class__", cls)


def _listening(cls: type, outputs: list[str]) -> type:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = cls.__call__(self, *args, **kwargs)
        outputs.append(_described(result))
        return result

    return type(cls)(cls.__name__, (cls,), {"__call__": call, "__module__": cls.__module__})


def _described(result: Any) -> str:
    leaves, structure = flatten(result)
    texts = [str(Aval(np.shape(plain(x)), plain(x).dtype)) if hasattr(x, "dtype") else repr(x) for x in leaves]
    return texts[0] if structure == "leaf" else str(unflatten(structure, map(_Text, texts)))


class _Text(str):
    """A text that is shown without quotes."""

    def __repr__(self) -> str:
        return str(self)
