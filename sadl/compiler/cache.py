"""cache: where kernels are kept, and what was found there.

Takes a Source; gives a Kernel, with its file, its parameters and the address of its machine code.
Compiling and loading are left to `kernels.store`.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sadl.compiler.render import Source
from sadl.config import config
from sadl.errors import CompileError, explain
from sadl.kernels import store


@dataclass(frozen=True)
class Kernel:
    """One compiled loop nest. `source` is its text, `path` the file that holds it, `address` its machine code."""

    name: str
    source: str
    path: Path | None
    parameters: tuple[tuple[str, str], ...]
    address: int

    def python(self) -> Callable[..., None]:
        """The same kernel as a plain Python function on objects that can be indexed."""
        space: dict[str, Any] = {}
        exec(compile(self.source, str(self.path or self.name), "exec"), space)
        return space[self.name]


def folder() -> Path | None:
    """The folder for kernels, or None if nothing is to be kept."""
    return config.cache_dir / "kernels" if config.cache else None


def get_kernel(source: Source) -> Kernel:
    """Find the kernel or compile it; with SADL_JIT=0 only its source."""
    if config.debug >= 4:
        print(source.text, file=sys.stderr)
    where = folder()
    path = where / f"{source.name}.py" if where else None
    start = time.perf_counter()
    try:
        address = store.kernel(source.name, source.text, source.parameters, where) if config.jit else 0
    except Exception as error:  # whatever Numba or LLVM raise, the user needs the kernel and one sentence
        what = f"the kernel could not be compiled: {type(error).__name__}: {error}\n{source.text}"
        raise CompileError(explain("compile", what, "report it; SADL_JIT=0 runs the kernel as Python")) from None
    store.stats.seconds += time.perf_counter() - start
    return Kernel(source.name, source.text, path, source.parameters, address)
