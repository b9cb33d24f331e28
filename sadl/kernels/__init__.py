"""Machine code: compile generated source with Numba, keep it on disk, load it without Numba, run it by a table."""
