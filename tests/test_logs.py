"""Tests of `sadl.Log`: what it writes can be read back, in JSON and by TensorBoard's own message classes."""

import json
import struct
import sys

import numpy as np
import pytest

import sadl
from sadl import Linear, Log, Mlp


def entries(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def events(folder):
    """All events of a folder, by the order of its files: each record is a length, a checksum, the message, another."""
    event = pytest.importorskip("tensorboardX.proto.event_pb2").Event
    found = []
    for path in sorted(folder.glob("*tfevents*"), key=lambda p: p.stat().st_mtime_ns):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            found.append(event.FromString(data[at + 12 : at + 12 + size]))
            at += 12 + size + 4
    return found


def values(folder):
    """(step, tag, number or histogram) of everything in the events."""
    return [
        (e.step, v.tag, v.histo if v.HasField("histo") else v.simple_value)
        for e in events(folder)
        for v in e.summary.value
    ]


# ---- lines of JSON ---------------------------------------------------------------------------------------------


def test_scalars_in_lines(tmp_path):
    path = tmp_path / "runs" / "first.jsonl"
    optimizer = sadl.SGD([sadl.Parameter([1.0])], lr=0.125)
    with Log(path) as log:
        log.scalars(0, loss=sadl.tensor([0.5]), lr=optimizer.lr, correct=np.int64(3), step_is_good=True)
        assert entries(path) == [{"step": 0, "loss": 0.5, "lr": 0.125, "correct": 3, "step_is_good": True}]  # at once
        log.scalars(np.int64(1), loss=float("nan"), other=np.inf)
    assert entries(path)[1] == {"step": 1, "loss": None, "other": None}
    log.close()
    with pytest.raises(ValueError, match=r"was closed"):
        log.scalars(2, loss=1)
    with Log(path) as log:
        log.scalars(2, loss=1)
    assert [e["step"] for e in entries(path)] == [0, 1, 2]


def test_histograms_in_lines(tmp_path):
    path = tmp_path / "x.jsonl"
    model = Mlp([Linear(dim_in=3, dim_out=4, rng=0)])
    bad = np.array([1.0, np.nan, -np.inf, 2.0])
    with Log(path) as log:
        log.histograms(3, model)
        log.histograms(4, {"bad": bad, "none": None, "all": bad[1:3], "flags": np.array([True, False])})
    first, second, third, nothing, flags = entries(path)
    assert (first["step"], first["histogram"], second["histogram"]) == (3, "layers[0].W", "layers[0].b")
    W = np.asarray(model.layers[0].W, np.float64)
    counts, edges = np.histogram(W, 30)
    assert first["counts"] == counts.tolist() and first["edges"] == edges.tolist() and first["not_finite"] == 0
    assert third["not_finite"] == 2 and sum(third["counts"]) == 2 and third["edges"][::30] == [1, 2]
    assert nothing == {"step": 4, "histogram": "all", "counts": [], "edges": [], "not_finite": 2}
    assert sum(flags["counts"]) == 2


def test_a_log_of_a_run_that_goes_on(tmp_path):
    path = tmp_path / "x.jsonl"
    with Log(path) as log:
        for step in range(6):
            log.scalars(step, loss=step)
    with open(path, "a") as file:
        file.write('{"step": 6, "lo')  # the process died here
    Log(path).close()
    assert [e["step"] for e in entries(path)] == [0, 1, 2, 3, 4, 5]
    with Log(path, from_step=4) as log:
        log.scalars(4, loss=-4)
    assert [e["loss"] for e in entries(path)] == [0, 1, 2, 3, -4]
    assert [p.name for p in tmp_path.iterdir()] == ["x.jsonl"]


@pytest.mark.parametrize("text", ["1\n", "{}\n", "hello\n", '{"step": "x"}\n', '{"step": 1}\n\n'])
def test_files_that_are_no_logs(text, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(sadl.FileFormatError, match=rf"line {text.count(chr(10))}, is no entry"):
        Log(path)
    assert path.read_text() == text


@pytest.mark.parametrize(
    "values",
    [[1, np.nextafter(1, 2)], [-1.7e308, 1.7e308], [0, 5e-324], [5, 5], [1e300], [1.041e-320, 1.083e-320]],
    ids=str,
)
@pytest.mark.parametrize("name", ["x.jsonl", "run"])
def test_histograms_of_values_too_near_or_too_far(name, values, tmp_path):
    pytest.importorskip("tensorboardX")
    with Log(tmp_path / name) as log:
        log.histograms(0, {"x": np.array(values)})
    if name == "x.jsonl":
        (entry,) = entries(tmp_path / name)
        assert (entry["counts"], entry["edges"]) == ([len(values)], [min(values), max(values)])
    else:
        assert sum(sum(e.summary.value[0].histo.bucket) for e in events(tmp_path / name)[1:]) == len(values)


# ---- events ----------------------------------------------------------------------------------------------------


def test_scalars_for_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    with Log(tmp_path / "run") as log:
        log.scalars(0, loss=sadl.tensor([0.5]), lr=0.125)
        log.scalars(7, **{"valid/loss": 0.25, "a b": float("inf")})
    assert values(tmp_path / "run") == [
        (0, "loss", 0.5),
        (0, "lr", 0.125),
        (7, "valid/loss", 0.25),
        (7, "a/b", np.inf),
    ]


def test_histograms_for_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    model = Mlp([Linear(dim_in=30, dim_out=4, rng=0)])
    with Log(tmp_path) as log:
        log.histograms(3, model)
        log.histograms(4, {"bad": np.array([1.0, np.nan, 2.0]), "all": np.full(2, np.nan)})
    W = np.asarray(model.layers[0].W, np.float64)
    first, second, *others = values(tmp_path)
    assert first[:2] == (3, "layers/0/W") and second[:2] == (3, "layers/0/b")
    assert first[2].num == 120 and (first[2].min, first[2].max) == (W.min(), W.max())
    assert first[2].sum == pytest.approx(W.sum()) and sum(first[2].bucket) == 120
    assert [(step, tag, getattr(value, "num", value)) for step, tag, value in others] == [
        (4, "bad", 2),
        (4, "bad/not_finite", 1),
        (4, "all/not_finite", 2),
    ]


def test_events_of_a_run_that_goes_on(tmp_path):
    pytest.importorskip("tensorboardX")
    for start in (None, 2, 2):  # within one second
        with Log(tmp_path, from_step=start) as log:
            for step in range(start or 0, 4):
                log.scalars(step, loss=step)
    assert len(list(tmp_path.glob("*tfevents*"))) == 3
    assert [v[0] for v in values(tmp_path)] == [0, 1, 2, 3, 2, 3, 2, 3]
    starts = [e.step for e in events(tmp_path) if e.HasField("session_log")]
    assert starts == [2, 2]  # from which TensorBoard hides what came before


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"needs the package tensorboardX.*pip install tensorboardX.*\.jsonl"):
        Log(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    Log(tmp_path / "run.jsonl").close()


def test_a_file_is_no_folder(tmp_path):
    pytest.importorskip("tensorboardX")
    path = tmp_path / "x.csv"
    path.write_text("")
    with pytest.raises(FileExistsError, match=r"is a file.*\.jsonl"):
        Log(path)


# ---- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.jsonl", "run"])
def test_refused(name, tmp_path):
    pytest.importorskip("tensorboardX")
    with Log(tmp_path / name) as log:
        for step in (-1, 0.5, [1], None):
            with pytest.raises(ValueError, match="is no step"):
                log.scalars(step, loss=1)
        for bad in ("text", np.ones(2), 1j, None):
            with pytest.raises(TypeError, match=r"bad is a .* not one number"):
                log.scalars(1, good=1, bad=bad)
        for own in ("step", "histogram", "counts", "edges", "not_finite"):
            with pytest.raises(ValueError, match=rf"the name '{own}' is one of the entries' own"):
                log.scalars(1, **{"loss": 1, own: 7})
        with pytest.raises(TypeError, match=r"a ndarray has no named arrays"):
            log.histograms(1, np.ones(2))
        with pytest.raises(TypeError, match=r"z has dtype complex128"):
            log.histograms(1, {"z": np.ones(2) * 1j})
        for call in (lambda x: log.scalars(0, loss=x), lambda x: log.histograms(0, {"x": x})):
            with pytest.raises(sadl.CaptureError, match=r"sadl\.Log.*outside"):
                sadl.compile(call)(np.ones(1))
    with pytest.raises(ValueError, match="from_step=-1 is no step"):
        Log(tmp_path / name, from_step=-1)
    assert (entries(tmp_path / name) if name == "x.jsonl" else values(tmp_path / name)) == []
