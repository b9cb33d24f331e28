"""The table: every operation, defined once, one file per family. Importing the package fills the registry of `op`.

What only its own functions lead to is imported when one of them is first met: it takes a quarter of the time.
"""

import functools
import importlib

from sadl.ops import (
    checking,
    composed,
    elementwise,
    indexing,
    movement,
    products,
    rearranging,
    reductions,
    scans,
    sorting,
    ufunc_methods,
    unrecorded,
    weighted,
    writing,
)

REST = ("convolution", "decompositions", "fft", "linalg", "norms", "numeric", "pooling", "random")

__all__ = [
    "checking",
    "composed",
    "elementwise",
    "indexing",
    "load_rest",
    "movement",
    "products",
    "rearranging",
    "reductions",
    "scans",
    "sorting",
    "ufunc_methods",
    "unrecorded",
    "weighted",
    "writing",
]


@functools.cache
def load_rest() -> None:
    """Import the other families, so that the table is complete."""
    for name in REST:
        importlib.import_module(f"sadl.ops.{name}")
