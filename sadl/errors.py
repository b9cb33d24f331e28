"""The exceptions of sadl, each a subclass of what a NumPy user would expect, and the form of their messages.

Takes the operation, what happened and what to do instead; gives one text of the same form everywhere.
Deciding when something is wrong is left to the code that finds it.
"""

from collections.abc import Callable

PLACES: list[Callable[[], str]] = []  # asked, for each message, for the place in a model where it happened


class ShapeError(ValueError):
    """Operands whose shapes do not fit together."""


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


def explain(op: str, what: str, instead: str = "", made_at: str = "") -> str:
    """The one form of a message: `[op] what happened. In layers[1]. Made at file:line. Instead: ...`."""
    parts = [f"[{op}] {what.rstrip('.')}."]
    parts += [f"In {found}." for place in PLACES if (found := place())]
    parts += [f"Made at {made_at}."] if made_at else []
    parts += [f"Instead: {instead.rstrip('.')}."] if instead else []
    return " ".join(parts)
