"""Tests of where kernels are kept: what counts as a miss, folders that cannot be written, many processes at once.

Takes folders of their own and, where a fresh start matters, processes of their own.
That a second process compiles nothing is in test_compile.py, what kernels compute in test_passes.py.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from corpus import batches, close, mlp, training_step

import sadl
from sadl.kernels import blas, store

CODE = b"\x7fELF" + bytes(range(200))

# ---- files -----------------------------------------------------------------------------------------------------------


def test_what_was_written_is_read(tmp_path):
    store.write(tmp_path / "new" / "k.o", store._pack("symbol", CODE))
    assert store._read(tmp_path / "new" / "k.o") == ("symbol", CODE)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["k.o"]


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGE = {
    "empty": lambda data: b"",
    "no header": lambda data: data[:10],
    "header only": lambda data: data[: store._HEADER.size],
    "truncated": lambda data: data[:-1],
    "half": lambda data: data[: len(data) // 2],
    "longer": lambda data: data + b"\0",
    "another format": lambda data: b"SADLOBJ9" + data[8:],
    "a bit of the digest": lambda data: flip(data, 12),
    "a bit of the symbol": lambda data: flip(data, store._HEADER.size),
    "a bit of the code": lambda data: flip(data, -9),
    "zeros": lambda data: bytes(len(data)),
    "text": lambda data: b"not an object file\n" * 30,
    "a foreign object": lambda data: CODE,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_a_miss(kind, tmp_path):
    path = tmp_path / "k.o"
    path.write_bytes(DAMAGE[kind](store._pack("symbol", CODE)))
    assert store._read(path) is None


def test_what_is_no_file_is_a_miss(tmp_path):
    (tmp_path / "folder.o").mkdir()
    assert store._read(tmp_path / "folder.o") is None and store._read(tmp_path / "missing.o") is None


@pytest.mark.parametrize("entry", range(5))
def test_another_processor_or_version_has_other_files(entry, monkeypatch):
    entries, before = store.target_entries(), store.target.__wrapped__()
    assert [name for name, _ in entries] == ["numba", "llvmlite", "processor", "features", "sadl.kernels"]
    entries[entry] = entries[entry][0], "another"
    monkeypatch.setattr(store, "target_entries", lambda: entries)
    assert store.target.__wrapped__() != before


# ---- folders ---------------------------------------------------------------------------------------------------------

X = np.arange(6.0).reshape(2, 3)


def run(fn):
    compiled = sadl.compile(fn)
    for k in range(3):
        assert close(compiled(X + k), fn(X + k))
    return compiled


def test_the_folder_holds_source_and_object(tmp_path):
    with sadl.config(cache_dir=tmp_path):
        compiled = run(lambda x: np.arctan(x) * x - np.square(x))
    (kernel,) = compiled.kernels
    assert compiled.stats.kernels_compiled == 1
    names = {p.name for p in (tmp_path / "kernels").iterdir()}
    assert {f"{kernel.name}.py", f"{kernel.name}.{store.target()}.o"} <= names
    assert kernel.path == tmp_path / "kernels" / f"{kernel.name}.py" and kernel.path.read_text() == kernel.source


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    with sadl.config(cache_dir=tmp_path / "file" / "below"):
        compiled = run(lambda x: np.arctan(x) * x + np.square(x))
    assert compiled.stats.kernels_compiled == 1 and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_is_full_is_done_without(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "replace", full)
    with sadl.config(cache_dir=tmp_path):
        compiled = run(lambda x: np.arctan(x) / (x + 1) + np.square(x))
    assert compiled.stats.kernels_compiled == 1 and list((tmp_path / "kernels").iterdir()) == []


def test_nothing_is_kept_with_the_cache_switched_off(tmp_path):
    with sadl.config(cache_dir=tmp_path, cache=False):
        compiled = run(lambda x: np.arctan(x) - x - np.square(x))
    (kernel,) = compiled.kernels
    assert kernel.path is None and kernel.source and list(tmp_path.iterdir()) == []
    assert close(sadl.compile(lambda x: np.arctan(x) - x - np.square(x))(X), np.arctan(X) - X - np.square(X))


# ---- processes -------------------------------------------------------------------------------------------------------

PROGRAM = """
import json, sys
import numpy as np
import sadl
weights = sadl.tensor(np.ones((3, 2), np.float32))
@sadl.compile
def step(x):
    y = np.tanh(x @ weights)
    weights[...] = weights - 0.1 * np.sum(y, axis=0)
    return np.sum(y)
losses = [float(step(np.full((4, 3), k / 10, np.float32))) for k in range(4)]
kept = [m for m in ("numba", "llvmlite") if m in sys.modules]
print(json.dumps([losses, step.stats.kernels_compiled, step.stats.cache_hits, kept]))
"""


def start(folder, text=PROGRAM, **switches):
    env = {**os.environ, "SADL_CACHE_DIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path), **switches}
    here = Path(__file__).parent
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", text], env=env, cwd=here, stdout=pipe, stderr=pipe, text=True)


def result(process):
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A folder in which the program has run once, and its losses."""
    folder = tmp_path_factory.mktemp("filled")
    losses, compiled, hits, _ = result(start(folder))
    assert compiled > 0 == hits
    return folder, losses, compiled


def test_a_warm_process_imports_no_numba(filled):
    folder, losses, n = filled
    assert result(start(folder)) == [losses, 0, n, ["llvmlite"]]


def test_without_machine_code_neither_numba_nor_llvm_is_needed(filled, tmp_path):
    _, losses, _ = filled
    got, compiled, hits, kept = result(start(tmp_path, SADL_JIT="0"))
    assert (compiled, hits, kept) == (0, 0, []) and close(got, losses, 1e6)


@pytest.mark.parametrize("kind", ["truncated", "text", "a bit of the code"])
def test_damaged_files_are_replaced(filled, kind, tmp_path):
    folder, losses, n = filled
    shutil.copytree(folder, tmp_path / "copy")
    objects = list((tmp_path / "copy" / "kernels").glob("*.o"))
    for path in objects:
        path.write_bytes(DAMAGE[kind](path.read_bytes()))
    assert result(start(tmp_path / "copy"))[:3] == [losses, n, 0]
    assert all(store._read(path) for path in objects)


def test_eight_processes_start_at_once_on_an_empty_folder(filled, tmp_path):
    _, losses, n = filled
    found = [result(p) for p in [start(tmp_path) for _ in range(8)]]
    assert all(f[0] == losses and f[1] + f[2] == n for f in found)
    left = [p.name for p in (tmp_path / "kernels").iterdir() if p.suffix not in (".py", ".o")]
    assert left == []


# ---- products without BLAS -------------------------------------------------------------------------------------------


def losses_of_training():
    model = mlp()
    compiled = sadl.compile(training_step(model, sadl.SGD(model, lr=0.1, momentum=0.9)))
    return [float(compiled(x, y)) for x, y in batches(6)], [
        e.op.name for e in compiled._runners[0].programs[0].library_calls
    ]


def test_products_run_by_numpy_where_blas_is_not_found(monkeypatch):
    expected, called = losses_of_training()
    assert "matmul" not in called
    monkeypatch.setattr(blas, "gemm_address", lambda dtype: None)
    losses, called = losses_of_training()
    assert called.count("matmul") == 5 and close(losses, expected)


def test_blas_is_looked_for_where_numpy_keeps_it(monkeypatch, tmp_path):
    monkeypatch.setattr(blas.np, "__file__", str(tmp_path / "numpy" / "__init__.py"))
    monkeypatch.setattr(blas, "_library", blas._library.__wrapped__)
    assert blas.gemm_address.__wrapped__("float32") is None


def test_blas_has_products_of_floats_only():
    assert blas.gemm_address("int64") is None and blas.gemm_address("float16") is None
