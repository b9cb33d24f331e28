"""Nested lists, tuples, named tuples and dicts as a flat list of leaves and a hashable description of the nesting.

Takes any value; what is not one of these containers (or None, which has no leaves) is a leaf.
What the leaves mean is left to the caller.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

Structure = Any
LEAF = "leaf"


def flatten(value: Any) -> tuple[list[Any], Structure]:
    """The leaves of `value`, and the structure that `unflatten` needs. Dicts keep their own order."""
    leaves: list[Any] = []
    return leaves, _flatten(value, leaves)


def _flatten(value: Any, leaves: list[Any]) -> Structure:
    if value is None:
        return None
    if isinstance(value, dict):
        kind = (type(value), value.default_factory) if isinstance(value, defaultdict) else type(value)
        return kind, tuple(value), tuple(_flatten(v, leaves) for v in value.values())
    if isinstance(value, (list, tuple)):
        return type(value), None, tuple(_flatten(v, leaves) for v in value)
    leaves.append(value)
    return LEAF


def unflatten(structure: Structure, leaves: Any) -> Any:
    """The value with that structure and those leaves."""
    return _unflatten(structure, iter(leaves))


def _unflatten(structure: Structure, leaves: Iterator[Any]) -> Any:
    if structure is None:
        return None
    if structure == LEAF:
        return next(leaves)
    kind, keys, children = structure
    values = [_unflatten(child, leaves) for child in children]
    if isinstance(kind, tuple):
        return kind[0](kind[1], zip(keys, values, strict=True))
    if keys is not None:
        return kind(dict(zip(keys, values, strict=True)))
    return kind(*values) if hasattr(kind, "_fields") else kind(values)
