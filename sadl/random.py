"""The random numbers of eager code: one NumPy generator for the process, which `seed` starts anew.

Takes a seed; gives the generator from which layers draw their first values.
Random numbers inside compiled programs are left to the table of operations.
"""

from typing import Any

import numpy as np

_current: dict[str, "np.random.Generator"] = {}


def seed(n: int) -> None:
    """Start the generator anew, so that what is drawn from now on is the same in every run.

    Args:
        n: an integer >= 0, or a sequence of them.
    Raises:
        ValueError: `n` is negative.
        TypeError: `n` is not an integer.
    """
    _current["generator"] = np.random.default_rng(n)


def generator(rng: Any = None) -> "np.random.Generator":
    """The generator of this process, or the one that `rng` (a Generator or a seed) stands for.

    Without a call of `seed` before, it starts from the operating system's entropy. Drawing is safe from several
    threads at once, but in which order they get their numbers is not fixed.
    """
    if rng is not None:
        return np.random.default_rng(rng)
    return _current.get("generator") or _current.setdefault("generator", np.random.default_rng())
