"""The matrix product of the BLAS that NumPy has loaded, as an address that kernels can call.

Takes a dtype; gives the address of its cblas gemm, or None where NumPy does not carry OpenBLAS under the names known
here (then products run as np.matmul). Which operands can be passed without a copy is left to the compiler.
"""

import ctypes
import functools
from pathlib import Path
from typing import Any

import numpy as np

NO_TRANS, TRANS = 111, 112
_LETTERS = {"float32": "s", "float64": "d"}
_PATTERNS = ("scipy_cblas_{}gemm64_", "cblas_{}gemm64_")


@functools.cache
def _library() -> ctypes.CDLL | None:
    """NumPy's own copy: the same file gives the same handle, and so the same threads."""
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        for path in sorted(folder.glob("libscipy_openblas64_*")):
            return ctypes.CDLL(str(path))
    return None


@functools.cache
def gemm_address(dtype: str) -> int | None:
    library, letter = _library(), _LETTERS.get(dtype)
    for pattern in _PATTERNS if library is not None and letter is not None else ():
        function = getattr(library, pattern.format(letter), None)
        if function is not None:
            return ctypes.cast(function, ctypes.c_void_p).value
    return None


@functools.cache
def threads_addresses() -> tuple[int, int]:
    """The addresses of the functions that get and set how many threads BLAS uses; zeros where they are not known."""
    names = ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_")
    found: list[Any] = [getattr(_library(), name, None) for name in names]
    if None in found:
        return 0, 0
    return tuple(ctypes.cast(f, ctypes.c_void_p).value or 0 for f in found)  # type: ignore[return-value]
