"""Find a kernel's machine code in memory, on disk, or by compiling it; give the address of a C function.

Takes a kernel's name, text and parameter types; keeps `<name>.py` (to be read by people and debuggers) and
`<name>.<target>.o` in the cache folder. Numba is imported only when something must be compiled.
A file that is damaged, or was made by other versions or for another processor, is a miss.
"""

import functools
import hashlib
import importlib.metadata
import os
import struct
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAGIC = b"SADLOBJ1"
_SOURCES = ("vmath.py", "vmath_numba.py", "convolution.py", "numba_cpu.py")  # what machine code is made of, besides
_HEADER = struct.Struct("<8s32sH")


@dataclass
class Stats:
    """How kernels were come by in this process."""

    compiled: int = 0
    loaded: int = 0
    seconds: float = 0.0


stats = Stats()
_addresses: dict[str, int] = {}
_libraries: list[Any] = []  # what owns the loaded machine code
_lock = threading.RLock()  # neither Numba nor the linker may be entered twice for one kernel


def target_entries() -> list[tuple[str, str]]:
    """What machine code depends on besides its source, by name, so that a miss can be explained."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    here = Path(__file__).parent
    sources = b"".join((here / f).read_bytes() for f in _SOURCES)
    return [
        ("numba", importlib.metadata.version("numba")),
        ("llvmlite", importlib.metadata.version("llvmlite")),
        ("processor", llvm.get_host_cpu_name()),
        ("features", hashlib.sha256(features.encode()).hexdigest()[:16]),
        ("sadl.kernels", hashlib.sha256(sources).hexdigest()[:16]),
    ]


@functools.cache
def target() -> str:
    return hashlib.sha256(repr(target_entries()).encode()).hexdigest()[:12]


def builtin(name: str, folder: Path | None) -> int:
    """The address of one of `numba_cpu.BUILTINS`."""
    return _address(name, folder, lambda: _numba().compile_builtin(name))


def kernel(name: str, text: str, parameters: Sequence[tuple[str, str]], folder: Path | None) -> int:
    """The address of a kernel; `folder` is the cache folder, None to keep nothing."""
    path = str(folder / f"{name}.py") if folder else f"<sadl {name}>"
    if folder and name not in _addresses and not Path(path).exists():
        write(Path(path), text.encode())
    return _address(name, folder, lambda: _numba().compile_kernel(name, path, text, parameters), counts=True)


def _address(name: str, folder: Path | None, build: Callable[[], tuple[str, bytes]], counts: bool = False) -> int:
    with _lock:
        if name not in _addresses:
            path = folder / f"{name}.{target()}.o" if folder else None
            found = _read(path) if path else None
            stats.loaded += counts and found is not None
            if found is None:
                found = build()
                stats.compiled += counts
                if path:
                    write(path, _pack(*found))
            _addresses[name] = _load(name, *found)
        return _addresses[name]


def _numba() -> Any:
    from sadl.kernels import numba_cpu

    return numba_cpu


# ---- files ---------------------------------------------------------------------------------------------------------


_TRUSTED = {0, os.getuid()} if hasattr(os, "getuid") else {0}


def _pack(symbol: str, code: bytes) -> bytes:
    body = symbol.encode() + code
    return _HEADER.pack(MAGIC, hashlib.sha256(body).digest(), len(symbol.encode())) + body


def _read(path: Path) -> tuple[str, bytes] | None:
    try:
        if path.stat().st_uid not in _TRUSTED:  # machine code is run: somebody else's is a miss
            return None
        data = path.read_bytes()
        magic, digest, length = _HEADER.unpack_from(data)
    except (OSError, struct.error):
        return None
    body = data[_HEADER.size :]
    if magic != MAGIC or hashlib.sha256(body).digest() != digest:
        return None
    return body[:length].decode(), body[length:]


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Where the folder cannot be written, nothing is kept."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)


# ---- loading -------------------------------------------------------------------------------------------------------


@functools.cache
def _linker() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.create_lljit_compiler(llvm.Target.from_default_triple().create_target_machine())


def _load(name: str, symbol: str, code: bytes) -> int:
    """Link object code into this process."""
    import llvmlite.binding as llvm

    builder = llvm.JITLibraryBuilder().add_object_img(code).export_symbol(symbol)
    builder.import_symbol("NRT_MemInfo_call_dtor", 0)  # named by Numba, never called: kernels own no memory
    library = builder.link(_linker(), name)
    _libraries.append(library)
    return library[symbol]
