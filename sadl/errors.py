"""The exceptions of sadl, each a subclass of what a NumPy user would expect, and the form of their messages.

Takes the operation, what happened and what to do instead; gives one text of the same form everywhere.
Deciding when something is wrong is left to the code that finds it.
"""

from collections.abc import Callable
from typing import Self

PLACES: list[Callable[[str], str]] = []  # asked, for each message of an op, where in a model it happened


class ShapeError(ValueError):
    """Operands whose shapes do not fit together."""


class _InParts(Exception):
    """Its message is known in `parts`, as `explain` takes them: whoever catches it where no model is being called,
    because a program runs, may know where in one it was.
    """

    parts = ("", "", "")

    @classmethod
    def of(cls, op: str, what: str, instead: str) -> Self:
        error = cls(explain(op, what, instead))
        error.parts = op, what, instead
        return error


class RangeError(_InParts, IndexError):
    """An index that is not in range."""


class NumberError(_InParts, ValueError):
    """A number that is not in range."""


class GradientError(ValueError):
    """A gradient that was asked for but cannot be given."""


class UnrecordedError(TypeError):
    """A NumPy function without a gradient rule was called on a Tensor that takes part in a graph."""


class StaleValueError(RuntimeError):
    """A value that the backward pass needs was overwritten in place after it had been used."""


class RuleError(RuntimeError):
    """A gradient rule returned a cotangent of the wrong shape or dtype."""


class CaptureError(RuntimeError):
    """The function given to `sadl.compile` did something that cannot be part of a program."""


class CompileError(RuntimeError):
    """A program could not be built from a captured graph."""


class SizeChangedError(CompileError):
    """A size that depends on values is another one than when the program was captured; another program is needed."""


class VerifyError(CompileError):
    """A graph broke one of the rules of the IR, usually because of a faulty pass."""


class FileFormatError(ValueError):
    """A file that is not what its name says, or is damaged."""


def here(op: str = "") -> str:
    """Where in a model this happens: `layers[1] (Linear)`, "" if in none; `op` is told anyway."""
    return next((found for place in PLACES if (found := place(op))), "")


def explain(op: str, what: str, instead: str = "", made_at: str = "", place: str | None = None) -> str:
    """The one form of a message: `[op] what happened. In layers[1]. Made at file:line. Instead: ...`.

    `place` is where in a model it happened; it is asked for if None.
    """
    place = here(op) if place is None else place
    parts = [f"[{op}] {what.rstrip('.')}."]
    parts += [f"In {place}."] if place else []
    parts += [f"Made at {made_at}."] if made_at else []
    parts += [f"Instead: {instead.rstrip('.')}."] if instead else []
    return " ".join(parts)
