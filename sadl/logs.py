"""Logs: the numbers of a training run, in files: lines of JSON, or what TensorBoard reads.

Takes values by name, and the step they belong to; appends them to a file at once. TensorBoard's format is left to the
package tensorboardX, showing numbers on the screen to `bars`, and what a run needs to go on to `checkpoints`.
"""

import json
import math
import os
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sadl.disk import replacing
from sadl.errors import FileFormatError, explain
from sadl.tape import MODE, plain

BINS = 30  # of a histogram in lines of JSON
OWN_NAMES = ("step", "histogram", "counts", "edges", "not_finite")  # in the entries of lines of JSON
LIMIT = 9e19  # of TensorBoard's bins, beyond which elements would be in none
FLUSH_SECONDS = 5  # after which what TensorBoard is to read is on the disk


class Log:
    """Writes down the numbers of a training run while it goes on.

    `log = sadl.Log("runs/first")`, then `log.scalars(step, loss=loss)` in the loop, and `log.close()`, or a `with`.

    Args:
        path: a file that ends with `.jsonl`, to which lines of JSON are appended: `{"step": 3, "loss": 0.25}`. Anything
            else is a folder for TensorBoard, which gets another file of events: `tensorboard --logdir runs`.
        from_step: for a run that goes on from a checkpoint: entries of this and later steps, which the interrupted run
            wrote behind its last checkpoint, are dropped.
    Raises:
        ImportError: a folder without the package tensorboardX.
        FileFormatError: a file that is no such log.
    """

    def __init__(self, path: str | os.PathLike[str], from_step: int | None = None) -> None:
        self.path = Path(path)
        start = None if from_step is None else _step("from_step", from_step)
        lines = self.path.suffix == ".jsonl"
        self._sink: _JsonLines | _Events | None = _JsonLines(self.path, start) if lines else _Events(self.path, start)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def scalars(self, step: int, /, **values: Any) -> None:
        """Write numbers, or Tensors of one number, of one step. What is not finite is `null` in JSON.

        Raises:
            TypeError: a value that is no number.
            ValueError: the step is no integer >= 0; the log was closed; a name that the entries themselves have.
        """
        taken = [name for name in values if name in OWN_NAMES]
        if taken:
            what = f"the name {taken[0]!r} is one of the entries' own, {', '.join(OWN_NAMES)}"
            raise ValueError(explain("Log", what, f"another name: {taken[0]}_"))
        self._open().scalars(_step("step", step), {name: _number(name, value) for name, value in values.items()})

    def histograms(self, step: int, arrays: Any, /) -> None:
        """Write how the elements of arrays are distributed: of a Function's Parameters, or of a mapping of arrays.

        `{path: p.grad for path, p in model.get_parameters().items()}` gives those of the gradients. None is left out,
        and so are elements that are not finite, whose number is written beside the others (JSON), or as a scalar.
        """
        found = arrays.get_parameters() if hasattr(arrays, "get_parameters") else arrays
        if not isinstance(found, Mapping):
            what = f"a {type(arrays).__name__} has no named arrays"
            raise TypeError(explain("Log", what, "a Function, or a mapping of names to arrays"))
        sink, step = self._open(), _step("step", step)
        for name, array in found.items():
            if array is not None:
                values = _reals(name, array)
                sink.histogram(step, name, values[np.isfinite(values)], int(np.sum(~np.isfinite(values))))

    def close(self) -> None:
        """Write what is still to be written. A second time nothing happens."""
        if self._sink is not None:
            self._sink.close()
        self._sink = None

    def _open(self) -> "_JsonLines | _Events":
        recorder = MODE.get().recorder
        if recorder is not None:
            recorder.read("sadl.Log", "return the value and write it outside")
        if self._sink is None:
            raise ValueError(explain("Log", f"the log {self.path} was closed", "another one: they append"))
        return self._sink


# ---- lines of JSON -------------------------------------------------------------------------------------------------


class _JsonLines:
    def __init__(self, path: Path, start: int | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _cut(path, math.inf if start is None else start)
        path.touch()
        self.path = path

    def scalars(self, step: int, values: dict[str, Any]) -> None:
        self._write({"step": step, **{k: v if math.isfinite(v) else None for k, v in values.items()}})

    def histogram(self, step: int, name: str, finite: np.ndarray, others: int) -> None:
        counts, edges = _histogram(finite)
        entry = {"step": step, "histogram": name, "counts": counts.tolist(), "edges": edges.tolist()}
        self._write({**entry, "not_finite": others})

    def _write(self, entry: dict[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        """Every entry is in the file already."""


def _histogram(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts and edges of `BINS` bins: of one if the values are too near to, or too far from, each other for more."""
    if not values.size:
        return np.zeros(0, int), np.zeros(0)
    low, high = float(np.min(values)), float(np.max(values))
    if BINS**2 * math.ulp(max(abs(low), abs(high))) < high - low < math.inf:
        return np.histogram(values, BINS)
    return np.array([values.size]), np.array([low, high])


def _cut(path: Path, start: float) -> None:
    """Drop entries from step `start` on, and a last line that was not finished."""
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    kept = [line for n, line in enumerate(lines, 1) if _step_of(path, n, line) < start]
    if sum(map(len, kept)) < path.stat().st_size:
        with replacing(path) as file:
            file.writelines(kept)


def _step_of(path: Path, n: int, line: bytes) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        what = f"{path}, line {n}, is no entry of a log"
        raise FileFormatError(explain("Log", what, "another file")) from None


# ---- events --------------------------------------------------------------------------------------------------------


class _Events:
    def __init__(self, path: Path, start: int | None) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            what = "a log for TensorBoard needs the package tensorboardX, which cannot be imported"
            raise ImportError(
                explain("Log", what, "pip install tensorboardX, or a path that ends with .jsonl")
            ) from error
        if path.exists() and not path.is_dir():
            raise FileExistsError(explain("Log", f"{path} is a file", "a folder, or a file that ends with .jsonl"))
        name = f".{uuid.uuid4().hex[:8]}"  # files are named by the second otherwise
        self.writer = SummaryWriter(str(path), purge_step=start, flush_secs=FLUSH_SECONDS, filename_suffix=name)

    def scalars(self, step: int, values: dict[str, Any]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(_tag(name), value, step)

    def histogram(self, step: int, name: str, finite: np.ndarray, others: int) -> None:
        if finite.size:
            self.writer.add_histogram(_tag(name), np.clip(finite, -LIMIT, LIMIT), step)
        if others:
            self.writer.add_scalar(_tag(f"{name}.not_finite"), others, step)

    def close(self) -> None:
        self.writer.close()


def _tag(name: str) -> str:
    """A name as TensorBoard can have it, which groups by what is in front of a slash: `layers[0].W` as `layers/0/W`."""
    return re.sub(r"[^\w-]+", "/", name).strip("/")


# ---- what is written -----------------------------------------------------------------------------------------------


def _step(name: str, value: Any) -> int:
    number = np.asarray(plain(value))
    if number.ndim or number.dtype.kind not in "iu" or number < 0:
        raise ValueError(explain("Log", f"{name}={value!r} is no step", "an integer >= 0"))
    return int(number)


def _number(name: str, value: Any) -> Any:
    array = np.asarray(plain(value))
    if array.size != 1 or array.dtype.kind not in "biuf":
        what = f"{name} is a {type(value).__name__} of shape {array.shape} and dtype {array.dtype}, not one number"
        raise TypeError(explain("Log", what, "np.mean(values)"))
    return array.item()


def _reals(name: str, array: Any) -> np.ndarray:
    values = np.asarray(plain(array)).reshape(-1)
    if values.dtype.kind not in "biuf":
        raise TypeError(explain("Log", f"{name} has dtype {values.dtype}", "real numbers: np.abs(z)"))
    return values.astype(np.float64)
