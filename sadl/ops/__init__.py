"""The table: every operation, defined once, one file per family. Importing the package fills the registry of `op`."""

from sadl.ops import elementwise, indexing, linalg, movement, reductions, unrecorded

__all__ = ["elementwise", "indexing", "linalg", "movement", "reductions", "unrecorded"]
