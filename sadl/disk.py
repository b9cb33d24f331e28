"""Tensors on disk: `save` and `load` of .sadl and .safetensors files, told apart by their suffix.

Takes one Tensor or a mapping of names to Tensors; gives back the same, always as plain Tensors.
What the names stand for (parameters, the state of an optimizer) is left to those who own them.
"""

import importlib
import math
import os
import re
import shutil
import struct
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

from sadl.creation import tensor
from sadl.errors import FileFormatError, explain
from sadl.tape import MODE
from sadl.tensor import Tensor

_Device = Literal["cpu"] | int

_SINGLE = "__single__"
_MAGIC = b"SADL"
_VERSION = 1
_MAX_NDIM = 64  # NumPy's own limit

_KINDS = "biufcmM"  # what its name alone tells how to read
_CODES = "?" + np.typecodes["AllInteger"] + np.typecodes["AllFloat"]
_NUMBERS = frozenset(np.dtype(code).name for code in _CODES)
_UNITS = "Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as"
_TIMES = re.compile(rf"(datetime|timedelta)64(\[([1-9][0-9]*)?({_UNITS})\])?")

_SAFETENSORS_DTYPES = {
    "bool": "BOOL",
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    "complex64": "C64",
}

_SAVE_AGAIN = "save it again or fetch another copy, the file is damaged or is something else"


def save(data: Tensor | Mapping[str, Tensor], file_path: str | os.PathLike[str]) -> None:
    """Write one Tensor, or a mapping of names to Tensors, to a `.sadl` or `.safetensors` file.

    Values, shapes and dtypes are kept, the byte order becomes little endian; device,
    `requires_grad` and the class Parameter are not kept. The file appears whole or not at all: an
    older file of that name stays as it was if anything fails. A longdouble is written as this kind
    of machine has it, and can be read on that kind only. A `.safetensors` file keeps no order, has
    no complex128, longdouble or times, and is put together in memory first.

    Raises:
        TypeError: `data` is neither Tensor nor mapping, or a key is not a str.
        ValueError: another suffix; a value is not a Tensor; a dtype or key that the format cannot
            hold; a mapping with the only key `__single__`, which the file could not tell from a
            Tensor saved alone.
        ImportError: `.safetensors` without the package safetensors.
        OSError: the file cannot be written.
    """
    path = Path(file_path)
    chunks = _format_of(path, "save").encode(_entries(data))
    with replacing(path) as file:
        file.writelines(chunks)


def load(file_path: str | os.PathLike[str], device: _Device = "cpu") -> Any:
    """Read what `save` has written: a Tensor if one was saved alone, else an OrderedDict.

    The order is that of the file. The Tensors are new, on `device`, do not require gradients, and
    are never Parameters. No length that the file claims is allocated before it has been held
    against the size of the file.

    Raises:
        FileFormatError: the file is damaged or of another format; says where. It is a ValueError.
        ValueError: another suffix.
        ImportError: `.safetensors` without the package safetensors.
        OSError: the file cannot be read.
    """
    path = Path(file_path)
    tensors = _format_of(path, "load").read(path, device)
    return tensors[_SINGLE] if list(tensors) == [_SINGLE] else tensors


# What may be saved


def _entries(data: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What to write under which key, after checking that `load` will be able to give it back."""
    entries = {_SINGLE: data} if isinstance(data, Tensor) else _mapping_entries(data)
    for key, value in entries.items():
        _check_key(key)
        _check_value(key, value)
    return entries


def _mapping_entries(data: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not isinstance(data, Mapping):
        what = f"A {type(data).__name__} cannot be saved"
        raise TypeError(explain("save", what, "pass a Tensor, or a mapping of str to Tensor"))
    if list(data) == [_SINGLE]:
        what = f"A mapping with the only key {_SINGLE!r} would be loaded as a lone Tensor"
        raise ValueError(explain("save", what, "use another key, or save the Tensor itself"))
    return dict(data)


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        what = f"The key {key!r} is of type {type(key).__name__}, not str"
        raise TypeError(explain("save", what, f"use {str(key)!r}"))
    try:
        key.encode()
    except UnicodeEncodeError as error:
        what = f"The key {key!r} has no UTF-8 form ({error.reason})"
        raise ValueError(explain("save", what, "use a key without lone surrogates")) from None


def _check_value(key: str, value: object) -> None:
    if not isinstance(value, Tensor):
        what = f"The value of {key!r} is of type {type(value).__name__}, not Tensor"
        raise ValueError(explain("save", what, "wrap it with sadl.tensor(...)"))
    if value.dtype.kind not in _KINDS:
        what = f"The Tensor {key!r} of shape {value.shape} has dtype {value.dtype}"
        instead = "convert it to numbers, bool, datetime64 or timedelta64"
        raise ValueError(explain("save", f"{what}, which no file can hold", instead))


def _host_array(value: Tensor) -> np.ndarray:
    """The elements in C order and little endian, copied only if they are not so already."""
    recorder = MODE.get().recorder
    if recorder is not None:
        recorder.read("sadl.save", "save outside the compiled function")
    local = value if isinstance(value, np.ndarray) else value.cpu()
    array = np.ndarray.view(local, np.ndarray)  # plain, so that nothing from here on is recorded
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` once all of it is on the disk, or never was."""
    target = Path(os.path.realpath(path))  # a symbolic link stays one, as with open(path, "wb")
    if not target.parent.is_dir():
        what = f"There is no directory {target.parent}"
        raise FileNotFoundError(explain("save", what, "create it first"))
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:  # mkstemp would let nobody else read it
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _loaded(array: np.ndarray, device: _Device) -> Tensor:
    if array.dtype.kind == "b":  # NumPy goes astray on bytes above 1: let all but 0 be True
        array = array.view(np.uint8) != 0
    return tensor(array, device=device)


# .sadl: all integers little endian, nothing aligned, no padding
#
#   "SADL", uint8 version, uint32 number of tensors, then for each tensor
#       uint32 length, key in UTF-8 ("__single__" for a Tensor saved alone)
#       uint8 length, NumPy's name of the dtype
#       uint8 ndim, uint64 for each dimension, the elements in C order


def _encode_sadl(entries: dict[str, Tensor]) -> Iterator[bytes | memoryview]:
    yield _MAGIC + struct.pack("<BI", _VERSION, len(entries))
    for key, value in entries.items():
        array = _host_array(value)
        yield _record_head(key, array)
        yield array.reshape(-1).view(np.uint8).data  # as bytes: buffers know no datetime64


def _record_head(key: str, array: np.ndarray) -> bytes:
    name, dtype = key.encode(), array.dtype.name.encode()
    layout = f"<I{len(name)}sB{len(dtype)}sB{array.ndim}Q"
    return struct.pack(layout, len(name), name, len(dtype), dtype, array.ndim, *array.shape)


def _read_sadl(path: Path, device: _Device) -> OrderedDict[str, Tensor]:
    tensors: OrderedDict[str, Tensor] = OrderedDict()
    with open(path, "rb") as file:
        fields = _Fields(file, path)
        for _ in range(_read_head(fields)):
            key = _read_key(fields, tensors)
            tensors[key] = _loaded(_read_array(fields), device)
        fields.check_end()
    return tensors


class _Fields:
    """The fields of a file, read once from front to back and never past its end."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path = file, path
        self.size = os.fstat(file.fileno()).st_size
        self.start = self.end = 0  # of the field read last
        self.key: str | None = None  # of the record being read

    def take(self, count: int, field: str) -> bytes:
        self.start, left = self.end, self.size - self.end
        if count > left or len(data := self.file.read(count)) < count:
            raise self.error(f"The {field} takes {count} bytes, but only {left} are left")
        self.end += count
        return data

    def uint(self, count: int, field: str) -> int:
        return int.from_bytes(self.take(count, field), "little")

    def text(self, length_bytes: int, field: str) -> str:
        data = self.take(self.uint(length_bytes, f"length of the {field}"), field)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise self.error(f"The {field} is not UTF-8 ({error.reason})") from None

    def check_end(self) -> None:
        self.start, self.key = self.end, None
        if self.end != self.size:
            raise self.error(f"{self.size - self.end} bytes follow the last tensor")

    def error(self, what: str) -> FileFormatError:
        place = f"byte {self.start}" + ("" if self.key is None else f", tensor {self.key!r:.200}")
        return FileFormatError(explain("load", f"{self.path}, {place}: {what}", _SAVE_AGAIN))


def _read_head(fields: _Fields) -> int:
    """The number of tensors, from a file that begins as it should."""
    magic = fields.take(len(_MAGIC), "magic")
    if magic != _MAGIC:
        raise fields.error(f"The file begins with {magic!r}, not with {_MAGIC!r}")
    version = fields.uint(1, "version")
    if version != _VERSION:
        raise fields.error(f"Unsupported version {version}. Expected {_VERSION}")
    return fields.uint(4, "number of tensors")


def _read_key(fields: _Fields, seen: Mapping[str, Tensor]) -> str:
    fields.key = None
    key = fields.text(4, "key")
    if key in seen:
        raise fields.error(f"The key {key!r:.200} occurs twice")
    fields.key = key
    return key


def _read_array(fields: _Fields) -> np.ndarray:
    dtype = _read_dtype(fields)
    shape = _read_shape(fields, dtype)
    size = math.prod(shape) * dtype.itemsize
    data = fields.take(size, f"data of shape {shape} and dtype {dtype}")
    stored = np.frombuffer(data, dtype.newbyteorder("<"))
    return stored.astype(dtype, copy=False).reshape(shape)


def _read_dtype(fields: _Fields) -> np.dtype:
    name = fields.text(1, "dtype name")
    # np.dtype(name) alone would also take aliases, byte orders, objects and lists of fields
    if name in _NUMBERS or _TIMES.fullmatch(name):
        try:
            return np.dtype(name)
        except TypeError:  # a unit of 2**31 seconds, say
            pass
    raise fields.error(f"Unknown dtype {name!r}")


def _read_shape(fields: _Fields, dtype: np.dtype) -> tuple[int, ...]:
    ndim = fields.uint(1, "number of dimensions")
    if ndim > _MAX_NDIM:
        raise fields.error(f"{ndim} dimensions are more than the {_MAX_NDIM} that NumPy knows")
    shape = struct.unpack(f"<{ndim}Q", fields.take(8 * ndim, "shape"))
    span = math.prod(filter(None, shape)) * dtype.itemsize  # as NumPy counts, which skips a 0
    if span > np.iinfo(np.intp).max:
        raise fields.error(f"No array can have shape {shape} and dtype {dtype}")
    return shape


# .safetensors, through the package of that name


def _safetensors(op: str, module: str = "safetensors") -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        what = "A .safetensors file needs the package safetensors, which cannot be imported"
        instead = "pip install safetensors, or use a .sadl file"
        raise ImportError(explain(op, what, instead)) from error


def _encode_safetensors(entries: dict[str, Tensor]) -> list[bytes]:
    encode = _safetensors("save", "safetensors.numpy").save
    for key, value in entries.items():
        _check_safetensors_entry(key, value)
    return [encode({key: _host_array(value) for key, value in entries.items()})]


def _check_safetensors_entry(key: str, value: Tensor) -> None:
    if key == "__metadata__":
        what = "The key '__metadata__' has another meaning in a .safetensors file"
        raise ValueError(explain("save", what, "use another key, or a .sadl file"))
    if value.dtype.name not in _SAFETENSORS_DTYPES:
        what = f"The Tensor {key!r} has dtype {value.dtype}, which a .safetensors file cannot hold"
        raise ValueError(explain("save", what, "use a .sadl file"))


def _read_safetensors(path: Path, device: _Device) -> OrderedDict[str, Tensor]:
    package = _safetensors("load")
    try:
        with package.safe_open(path, framework="numpy") as file:
            arrays = ((key, _safetensors_array(path, file, key)) for key in list(file.keys()))
            return OrderedDict((key, _loaded(array, device)) for key, array in arrays)
    except package.SafetensorError as error:
        raise FileFormatError(explain("load", f"{path}: {error}", _SAVE_AGAIN)) from error


def _safetensors_array(path: Path, file: Any, key: str) -> np.ndarray:
    dtype = file.get_slice(key).get_dtype()
    if dtype not in _SAFETENSORS_DTYPES.values():
        what = f"{path}, tensor {key!r:.200}: NumPy has no dtype {dtype}"
        raise FileFormatError(explain("load", what, "save it as float32 where it came from"))
    try:
        return file.get_tensor(key)
    except ValueError as error:  # an empty array of a shape that NumPy cannot have
        what = f"{path}, tensor {key!r:.200}: {error}"
        raise FileFormatError(explain("load", what, _SAVE_AGAIN)) from error


# The formats


class _Format(NamedTuple):
    encode: Callable[[dict[str, Tensor]], Iterable[bytes | memoryview]]
    read: Callable[[Path, _Device], OrderedDict[str, Tensor]]


_FORMATS = {
    ".sadl": _Format(_encode_sadl, _read_sadl),
    ".safetensors": _Format(_encode_safetensors, _read_safetensors),
}


def _format_of(path: Path, op: str) -> _Format:
    for suffix, found in _FORMATS.items():
        if path.name.endswith(suffix):
            return found
    what = f"The suffix of {path} names no known format"
    raise ValueError(explain(op, what, f"use a path that ends with {' or '.join(_FORMATS)}"))
