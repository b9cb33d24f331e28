"""The matrix product of the BLAS that NumPy has loaded, as an address that kernels can call.

Takes a dtype; gives the address of its cblas gemm, or None where NumPy does not carry OpenBLAS under the names known
here (then products run as np.matmul). Which operands can be passed without a copy is left to the compiler.
"""

import ctypes
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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


_lock = threading.Lock()
_alone = [0, 0]  # how many programs run, and how many threads BLAS had before the first of them


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it BLAS uses one thread per call, since the team of `team` cuts products into tiles; for all programs that
    run at the same time, the first to come and the last to go do the switching.
    """
    get, set_ = _threads_functions()
    with _lock:
        if _alone[0] == 0:
            _alone[1] = get()
            set_(1)
        _alone[0] += 1
    try:
        yield
    finally:
        with _lock:
            _alone[0] -= 1
            if _alone[0] == 0:
                set_(_alone[1])


@functools.cache
def _threads_functions() -> tuple[Callable[[], int], Callable[[int], object]]:
    """What tells and sets the number of threads; without OpenBLAS, functions that do nothing."""
    get = getattr(_library(), "scipy_openblas_get_num_threads64_", None)
    set_ = getattr(_library(), "scipy_openblas_set_num_threads64_", None)
    return (lambda: 0, lambda n: None) if get is None or set_ is None else (get, set_)
