"""Tests of `sadl.disk`: the bytes, round trips, atomic writes, damaged and hostile files.

Takes the format as described, through a second writer (`_reference`); gives nothing to other tests.
The Tensors that come back are taken as they are: their own tests are with `sadl.tensor`.
"""

import os
import struct
import sys
import tempfile
import tracemalloc
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sadl import disk
from sadl.creation import tensor
from sadl.disk import load, save
from sadl.errors import FileFormatError
from sadl.tensor import Tensor

CPU_TENSOR = type(tensor(0.0))

EXAMPLE = bytes.fromhex(
    "53 41 44 4c 01 01 00 00 00 0a 00 00 00 5f 5f 73 69 6e 67 6c 65 5f 5f 07 66 6c 6f 61 74 33 32"
    "02 02 00 00 00 00 00 00 00 03 00 00 00 00 00 00 00 00 00 00 00 00 00 80 3f 00 00 00 40 00 00"
    "40 40 00 00 80 40 00 00 a0 40"
)

DTYPES = (
    ["?", "<f2", "<f4", "<f8", "<c8", "<c16", "g", "G"]
    + [f"<{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)]
    + ["<M8", "<m8", "<M8[D]", "<M8[ns]", "<M8[25s]", "<m8[us]", "<m8[10Y]"]
)


def _as_tensor(array: np.ndarray) -> Tensor:
    """The very same memory as a Tensor: its order, strides and byte order are what is tested."""
    return array.view(CPU_TENSOR)


def _plain(value: Tensor) -> np.ndarray:
    return np.ndarray.view(value, np.ndarray)


def _record(key: bytes, dtype: bytes, shape: tuple[int, ...], data: bytes) -> bytes:
    """One tensor of a .sadl file, true or not."""
    head = struct.pack("<I", len(key)) + key + bytes([len(dtype)]) + dtype + bytes([len(shape)])
    return head + b"".join(struct.pack("<Q", size) for size in shape) + data


def _file(*records: bytes, version: int = 1, count: int | None = None) -> bytes:
    n = len(records) if count is None else count
    return b"SADL" + bytes([version]) + struct.pack("<I", n) + b"".join(records)


def _reference(entries: dict[str, np.ndarray]) -> bytes:
    """What the seed writes for little-endian arrays."""
    return _file(
        *(
            _record(key.encode(), array.dtype.name.encode(), array.shape, array.tobytes("C"))
            for key, array in entries.items()
        )
    )


def _assert_same(loaded: Tensor, array: np.ndarray) -> None:
    """Equal to the bit, NaN payloads included, whatever the order in memory."""
    assert type(loaded) is CPU_TENSOR
    assert loaded.dtype == array.dtype.newbyteorder("=")
    assert loaded.shape == array.shape
    assert loaded.flags.writeable
    assert _plain(loaded).tobytes() == array.astype(loaded.dtype).tobytes()


def _load_bytes(directory: Path, content: bytes) -> Tensor | OrderedDict[str, Tensor]:
    path = directory / "bytes.sadl"
    path.write_bytes(content)
    return load(path)


def _refusal(directory: Path, content: bytes) -> str:
    with pytest.raises(FileFormatError) as caught:
        _load_bytes(directory, content)
    message = str(caught.value)
    assert message.startswith(f"[load] {directory / 'bytes.sadl'}, byte ")
    assert "Instead: " in message
    return message


# The format


def test_worked_example(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    save(_as_tensor(array), tmp_path / "a.sadl")
    assert (tmp_path / "a.sadl").read_bytes() == EXAMPLE
    _assert_same(load(tmp_path / "a.sadl"), array)


def test_empty_dict(tmp_path: Path) -> None:
    save({}, tmp_path / "a.sadl")
    assert (tmp_path / "a.sadl").read_bytes() == b"SADL\x01\x00\x00\x00\x00"
    assert load(tmp_path / "a.sadl") == OrderedDict()


def test_mapping_keeps_its_order_and_keys(tmp_path: Path) -> None:
    arrays = {key: np.full(2, i, np.int16) for i, key in enumerate(["z", "", "ä[0].W", "__single__", "a\0"])}
    save({key: _as_tensor(array) for key, array in arrays.items()}, tmp_path / "a.sadl")
    assert (tmp_path / "a.sadl").read_bytes() == _reference(arrays)
    loaded = load(tmp_path / "a.sadl")
    assert type(loaded) is OrderedDict
    assert list(loaded) == list(arrays)
    for key, array in arrays.items():
        _assert_same(loaded[key], array)


@pytest.mark.parametrize("make", [str, Path])
def test_path_may_be_str_or_path(tmp_path: Path, make: type) -> None:
    save(tensor(np.ones(3)), make(tmp_path / "a.sadl"))
    _assert_same(load(make(tmp_path / "a.sadl")), np.ones(3))


@pytest.mark.parametrize("path", ["a", "a.npz", "a.sadl.bak", "a.SADL", "sadl"])
def test_other_suffixes_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match=r"\[save\].*Instead.*\.sadl or \.safetensors"):
        save(tensor(np.ones(3)), tmp_path / path)
    with pytest.raises(ValueError, match=r"\[load\].*Instead.*\.sadl or \.safetensors"):
        load(tmp_path / path)
    assert not any(tmp_path.iterdir())


# Round trips

_ORDERS = {
    "C": lambda array: np.array(array, order="C"),
    "F": lambda array: np.array(array, order="F"),
    "transposed": np.transpose,
    "reversed": lambda array: array[(slice(None, None, -1),) * array.ndim],
    "strided": lambda array: np.stack([array, array], axis=-1)[..., 0],
    "broadcast": lambda array: np.broadcast_to(array, (2, *array.shape)),
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "read-only": lambda array: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
}


@given(data=st.data(), order=st.sampled_from(sorted(_ORDERS)))
@settings(deadline=None)
def test_round_trip(data: st.DataObject, order: str) -> None:
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    raw = data.draw(st.binary(min_size=64, max_size=64))
    array = np.resize(np.frombuffer(raw, np.uint8), (*shape, dtype.itemsize)).astype(np.uint8)
    array = array.view(dtype)[..., 0] if dtype.kind != "b" else array[..., 0] > 127
    _assert_round_trip(_ORDERS[order](array))


def _assert_round_trip(array: np.ndarray) -> None:
    array = np.asarray(array)  # the reversal of a 0-d array is a scalar
    little = array.astype(array.dtype.newbyteorder("<"))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.sadl"
        save({"x": _as_tensor(array), "y": _as_tensor(array)}, path)
        assert path.read_bytes() == _reference({"x": little, "y": little})
        for loaded in load(path).values():
            _assert_same(loaded, array)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3), (1,) * 64])
def test_every_dtype_and_shape(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.resize(np.arange(1, 7).astype(dtype), shape)
    save(_as_tensor(array), tmp_path / "a.sadl")
    _assert_same(load(tmp_path / "a.sadl"), array)


def test_big_endian_keeps_its_values(tmp_path: Path) -> None:
    save(_as_tensor(np.array([1.5, -2.0, np.nan], ">f4")), tmp_path / "a.sadl")
    np.testing.assert_array_equal(_plain(load(tmp_path / "a.sadl")), [1.5, -2.0, np.nan])


def test_not_a_time_survives(tmp_path: Path) -> None:
    array = np.array(["2024-02-29", "NaT"], "M8[D]")
    save(_as_tensor(array), tmp_path / "a.sadl")
    np.testing.assert_array_equal(_plain(load(tmp_path / "a.sadl")), array)


def test_loaded_tensors_own_their_memory(tmp_path: Path) -> None:
    save({"a": tensor(np.ones(3)), "b": tensor(np.ones(3))}, tmp_path / "a.sadl")
    first, second = load(tmp_path / "a.sadl"), load(tmp_path / "a.sadl")
    _plain(first["a"])[:] = 7
    for untouched in (first["b"], second["a"]):
        _assert_same(untouched, np.ones(3))


def test_saving_leaves_the_tensor_alone(tmp_path: Path) -> None:
    array = np.arange(4.0).astype(">f8")
    save(_as_tensor(array), tmp_path / "a.sadl")
    assert array.dtype == ">f8"
    np.testing.assert_array_equal(array, np.arange(4.0))


class _OnGpu:
    """As much of a Tensor elsewhere as `save` may use."""

    shape, dtype = (3,), np.dtype(np.float32)

    def cpu(self) -> Tensor:
        return tensor(np.arange(3, dtype=np.float32))


def test_tensors_elsewhere_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "Tensor", (Tensor, _OnGpu))
    save(_OnGpu(), tmp_path / "a.sadl")
    _assert_same(load(tmp_path / "a.sadl"), np.arange(3, dtype=np.float32))


def test_load_hands_the_device_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save({"a": tensor(np.ones(3)), "b": tensor(np.ones(3))}, tmp_path / "a.sadl")
    devices = []
    monkeypatch.setattr(disk, "tensor", lambda _, *, device: devices.append(device))
    load(tmp_path / "a.sadl", device=1)
    assert devices == [1, 1]


# What save refuses, before it touches the file

_UNSAVABLE = [
    np.array([None, 1]),
    np.zeros(2, "i4,f4"),
    np.zeros(2, "V3"),
    np.array("s"),
    np.array(b"s"),
]
if hasattr(np.dtypes, "StringDType"):
    _UNSAVABLE.append(np.array(["a"], np.dtypes.StringDType()))


def _assert_refused(path: Path, data: object, error: type[Exception], match: str) -> None:
    path.write_bytes(b"old")
    with pytest.raises(error, match=match) as caught:
        save(data, path)
    assert str(caught.value).startswith("[save] ")
    assert "Instead: " in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("array", _UNSAVABLE, ids=lambda array: array.dtype.name)
def test_dtypes_without_a_name_to_read_them_by(tmp_path: Path, array: np.ndarray) -> None:
    data = {"good": tensor(np.ones(2)), "bad": _as_tensor(array)}
    _assert_refused(tmp_path / "a.sadl", data, ValueError, "'bad'.*dtype")
    _assert_refused(tmp_path / "a.sadl", data["bad"], ValueError, "dtype")


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        ({"a": tensor(1.0), "b": 2.0}, ValueError, "'b' is of type float, not Tensor"),
        ({"a": np.ones(2)}, ValueError, "'a' is of type ndarray, not Tensor"),
        ({"a": tensor(1.0), 3: tensor(1.0)}, TypeError, "3 is of type int, not str"),
        ({b"a": tensor(1.0)}, TypeError, "of type bytes"),
        ({"\ud800": tensor(1.0)}, ValueError, "UTF-8"),
        ({"__single__": tensor(1.0)}, ValueError, "only key '__single__'"),
        (np.ones(2), TypeError, "A ndarray cannot be saved"),
        ([tensor(1.0)], TypeError, "A list cannot be saved"),
        (None, TypeError, "A NoneType cannot be saved"),
    ],
)
def test_data_that_cannot_come_back(tmp_path: Path, data: object, error: type[Exception], match: str) -> None:
    _assert_refused(tmp_path / "a.sadl", data, error, match)


# Atomic writes


def _fail(*_: object) -> None:
    raise OSError("the disk is gone")


@pytest.mark.parametrize("step", ["replace", "fsync"])
@pytest.mark.parametrize("old", [b"old", None])
def test_a_failed_write_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, old: bytes | None
) -> None:
    path = tmp_path / "a.sadl"
    if old is not None:
        path.write_bytes(old)
    with monkeypatch.context() as patch:
        patch.setattr(os, step, _fail)
        with pytest.raises(OSError, match="disk is gone"):
            save(tensor(np.ones(3)), path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([] if old is None else [old])


def test_an_interrupt_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "a.sadl").write_bytes(b"old")
    monkeypatch.setattr(disk, "_record_head", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(tensor(np.ones(3)), tmp_path / "a.sadl")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_a_write_replaces_the_old_file_alone(tmp_path: Path) -> None:
    for size in (100, 3):
        save(tensor(np.ones(size)), tmp_path / "a.sadl")
        assert [file.name for file in tmp_path.iterdir()] == ["a.sadl"]
        _assert_same(load(tmp_path / "a.sadl"), np.ones(size))


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no directory .*missing"):
        save(tensor(np.ones(3)), tmp_path / "missing" / "a.sadl")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing" / "a.sadl")


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes and links")
def test_modes_and_links_are_as_with_open(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    target, link = tmp_path / "a.sadl", tmp_path / "link.sadl"
    save(tensor(np.ones(3)), target)
    assert target.stat().st_mode == (tmp_path / "usual").stat().st_mode
    target.chmod(0o640)
    link.symlink_to(target)
    save(tensor(np.zeros(3)), link)
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    _assert_same(load(target), np.zeros(3))


# Damaged and hostile files

SMALL = _reference(
    {
        "W": np.arange(4, dtype=np.float32).reshape(2, 2),
        "when": np.array([3], "M8[D]"),
        "mask": np.array([True, False]),
    }
)


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    assert len(_load_bytes(tmp_path, SMALL)) == 3
    for length in range(len(SMALL)):
        message = _refusal(tmp_path, SMALL[:length])
        assert "left" in message
        assert int(message.split("byte ")[1].split(",")[0].split(":")[0]) <= length


def test_every_damaged_byte_raises_or_loads(tmp_path: Path) -> None:
    for position in range(len(SMALL)):
        for flip in (*(1 << bit for bit in range(8)), 0xFF, SMALL[position]):
            damaged = bytearray(SMALL)
            damaged[position] ^= flip
            _assert_raises_or_loads(tmp_path, bytes(damaged))


def _assert_raises_or_loads(directory: Path, content: bytes) -> None:
    try:
        loaded = _load_bytes(directory, content)
    except FileFormatError:
        return
    for value in loaded.values():
        assert len(repr(_plain(value).tolist())) > 0


@given(content=st.binary(max_size=200))
@settings(deadline=None)
def test_noise_raises_or_loads(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        _assert_raises_or_loads(Path(directory), b"SADL\x01\x03\x00\x00\x00" + content)


def test_message_names_file_byte_and_key(tmp_path: Path) -> None:
    message = _refusal(tmp_path, SMALL[:40])
    assert f"{tmp_path / 'bytes.sadl'}, byte 39, tensor 'W': The data of shape (2, 2)" in message
    assert "takes 16 bytes, but only 1 are left" in message


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "byte 0: The magic takes 4 bytes, but only 0 are left"),
        (
            b"PK\x03\x04" + SMALL[4:],
            "byte 0: The file begins with b'PK\\x03\\x04', not with b'SADL'",
        ),
        (_file(version=2), "byte 4: Unsupported version 2. Expected 1"),
        (_file() + b"\0\0", "byte 9: 2 bytes follow the last tensor"),
        (_file(_record(b"a", b"int8", (), b"1"), count=2), "byte 21: The length of the key"),
        (_file(count=2**32 - 1), "The length of the key takes 4 bytes"),
        (
            _file(_record(b"a", b"int8", (), b"1"), _record(b"a", b"int8", (), b"1")),
            "'a' occurs twice",
        ),
        (_file(_record(b"\xff", b"int8", (), b"1")), "byte 13: The key is not UTF-8"),
        (_file(_record(b"a", b"\xff", (), b"1")), "tensor 'a': The dtype name is not UTF-8"),
        (_file(_record(b"a", b"int8", (1,) * 65, b"1")), "65 dimensions"),
        (_file(_record(b"a", b"int8", (2**64 - 1,) * 64, b"")), "No array can have shape"),
        (_file(_record(b"a", b"float32", (2**33, 2**31), b"")), "No array can have shape"),
        (_file(_record(b"a", b"float32", (0, 2**62, 2), b"")), "No array can have shape"),
        (_file(_record(b"a", b"float32", (2**60,), b"")), "byte 31, tensor 'a': The data"),
        (_file(_record(b"a", b"float32", (2,), b"1234567")), "takes 8 bytes, but only 7 are left"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: bytes, match: str) -> None:
    assert match in _refusal(tmp_path, content)


_UNKNOWN = (
    "object O float int f4 >f4 <f4 Float32 float3 str bytes8 void8 i4,i4 a a5 bool8 record "
    "datetime64[D datetime64[] datetime64[0D] datetime64[99999999999D] datetime64[D/2]"
)


@pytest.mark.parametrize("name", ["", "float32 ", "{'names': ['a']}", *_UNKNOWN.split()])
def test_unknown_dtypes(tmp_path: Path, name: str) -> None:
    message = _refusal(tmp_path, _file(_record(b"a", name.encode(), (1,), b"\0" * 16)))
    assert f"byte 15, tensor 'a': Unknown dtype {name!r}" in message


def test_bool_bytes_become_true_or_false(tmp_path: Path) -> None:
    loaded = _load_bytes(tmp_path, _file(_record(b"a", b"bool", (3,), b"\x00\x01\x82")))
    _assert_same(loaded["a"], np.array([False, True, True]))


def test_an_empty_array_may_have_a_long_side(tmp_path: Path) -> None:
    array = np.empty((0, 2**40), np.float32)
    save(_as_tensor(array), tmp_path / "a.sadl")
    _assert_same(load(tmp_path / "a.sadl"), array)


_HOSTILE = {
    "shape": _file(_record(b"a", b"float32", (2**20, 2**8), b"1234")),
    "key": _file(struct.pack("<I", 2**30) + b"abc"),
    "count": _file(count=2**32 - 1),
    "second": _file(_record(b"a", b"int8", (1,), b"1"), _record(b"b", b"int8", (2**30,), b"1")),
}


@pytest.mark.parametrize("claim", sorted(_HOSTILE))
def test_claims_are_not_allocated(tmp_path: Path, claim: str) -> None:
    _refusal(tmp_path, _HOSTILE[claim])  # once before, for what is allocated only the first time
    tracemalloc.start()
    try:
        _refusal(tmp_path, _HOSTILE[claim])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_a_file_is_read_with_one_tensor_to_spare(tmp_path: Path) -> None:
    save({str(i): tensor(np.ones(2**17)) for i in range(8)}, tmp_path / "a.sadl")
    tracemalloc.start()
    try:
        load(tmp_path / "a.sadl")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * 2**20


# .safetensors


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    for module in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"\[save\].*Instead: pip install safetensors"):
        save(tensor(np.ones(3)), path)
    with pytest.raises(ImportError, match=r"\[load\].*Instead: pip install safetensors"):
        load(path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("order", sorted(_ORDERS))
@pytest.mark.parametrize("dtype", sorted(disk._SAFETENSORS_DTYPES))
def test_safetensors_round_trip(tmp_path: Path, dtype: str, order: str) -> None:
    pytest.importorskip("safetensors")
    arrays = {
        "z": _ORDERS[order](np.arange(6).reshape(2, 3).astype(dtype)),
        "a": np.asarray(_ORDERS[order](np.array(1, dtype))),
        "": _ORDERS[order](np.zeros((0, 3), dtype)),
    }
    save({key: _as_tensor(array) for key, array in arrays.items()}, tmp_path / "a.safetensors")
    loaded = load(tmp_path / "a.safetensors")
    assert type(loaded) is OrderedDict
    assert loaded.keys() == arrays.keys()
    for key, array in arrays.items():
        _assert_same(loaded[key], array)


def test_safetensors_single_and_empty(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    save(tensor(np.ones(3)), tmp_path / "a.safetensors")
    _assert_same(load(tmp_path / "a.safetensors"), np.ones(3))
    save({}, tmp_path / "a.safetensors")
    assert load(tmp_path / "a.safetensors") == OrderedDict()


def test_safetensors_is_what_the_package_writes(tmp_path: Path) -> None:
    numpy_api = pytest.importorskip("safetensors.numpy")
    arrays = {"a": np.arange(3.0), "b": np.arange(4, dtype=np.int8)}
    save({key: _as_tensor(array) for key, array in arrays.items()}, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == numpy_api.save(arrays)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ({"a": tensor(np.ones(2, "c16"))}, "'a' has dtype complex128"),
        ({"a": _as_tensor(np.ones(2, "M8[D]"))}, "'a' has dtype datetime64"),
        ({"__metadata__": tensor(np.ones(2))}, "'__metadata__'"),
        ({"__single__": tensor(np.ones(2))}, "only key '__single__'"),
        ({"a": 3.0}, "not Tensor"),
    ],
)
def test_safetensors_refusals(tmp_path: Path, data: object, match: str) -> None:
    pytest.importorskip("safetensors")
    _assert_refused(tmp_path / "a.safetensors", data, ValueError, match)


def test_safetensors_damaged(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "a.safetensors"
    save({"a": tensor(np.ones(2)), "b": tensor(np.ones(2, np.int8))}, path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match=r"\[load\].*a\.safetensors.*Instead"):
            load(path)


@pytest.mark.parametrize(
    ("entry", "data", "match"),
    [
        ('"dtype":"BF16","shape":[1],"data_offsets":[0,2]', b"12", r"tensor 'a': .*BF16"),
        ('"dtype":"I8","shape":[9223372036854775808,0],"data_offsets":[0,0]', b"", "tensor 'a'"),
    ],
)
def test_safetensors_that_numpy_cannot_hold(tmp_path: Path, entry: str, data: bytes, match: str) -> None:
    pytest.importorskip("safetensors")
    _write_safetensors(tmp_path / "a.safetensors", entry, data)
    with pytest.raises(FileFormatError, match=match):
        load(tmp_path / "a.safetensors")


def test_safetensors_bool_bytes_become_true_or_false(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "a.safetensors"
    _write_safetensors(path, '"dtype":"BOOL","shape":[2],"data_offsets":[0,2]', b"\x00\x82")
    _assert_same(load(path)["a"], np.array([False, True]))


def _write_safetensors(path: Path, entry: str, data: bytes) -> None:
    header = f'{{"a":{{{entry}}}}}'.encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
