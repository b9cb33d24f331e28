"""Tests of `sadl.progress`: the items come through unchanged, and what is shown, with tqdm and without it."""

import re
import sys

import numpy as np
import pytest

import sadl
from sadl import bars
from sadl.data import DataLoader

both = pytest.mark.parametrize("tqdm", [True, False], ids=["tqdm", "lines"])


@pytest.fixture
def without(monkeypatch):
    """A function that takes tqdm away, unless it is wanted."""

    def take(tqdm):
        if tqdm:
            pytest.importorskip("tqdm")
        else:
            monkeypatch.setitem(sys.modules, "tqdm", None)

    return take


@both
def test_items_come_through(tqdm, without, capsys):
    without(tqdm)
    loader = DataLoader(np.arange(10), 4)
    bar = sadl.progress(loader, "epoch 0")
    assert len(bar) == 3 and [b.tolist() for b in bar] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    shown = capsys.readouterr()
    assert shown.out == "" and re.search(r"epoch 0: .*3(/| of )3", shown.err.splitlines()[-1])
    assert len(list(bar)) == 3 and loader.epoch == 2  # again


@both
def test_a_generator_has_no_length(tqdm, without, capsys):
    without(tqdm)
    bar = sadl.progress(n for n in range(5))
    assert list(bar) == [0, 1, 2, 3, 4]
    assert re.search(r"^5(it|step| steps)", capsys.readouterr().err.replace("\r", "\n").splitlines()[-1])
    with pytest.raises(TypeError):
        len(bar)


@both
def test_values_beside_the_bar(tqdm, without, capsys):
    without(tqdm)
    optimizer = sadl.SGD([sadl.Parameter([1.0])], lr=0.125)
    for n in (bar := sadl.progress(range(3))):
        bar.show(loss=sadl.tensor([[1 / 3 + n]]), lr=optimizer.lr)
        bar.show(n=n, best=np.float32(0.5), note="fine")
    line = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
    assert line.rstrip("]").endswith("loss=2.333, lr=0.125, n=2, best=0.5, note=fine")


@both
def test_a_loop_that_is_left(tqdm, without, capsys):
    without(tqdm)
    loader = DataLoader(np.arange(10), 2)
    for n, _ in enumerate(sadl.progress(loader)):
        if n == 2:
            break
    assert re.search(r"\b2(/| of )5", capsys.readouterr().err.replace("\r", "\n").splitlines()[-1])
    assert (loader.epoch, loader.position) == (0, 3)
    with pytest.raises(ZeroDivisionError):
        for _ in sadl.progress(loader):
            raise ZeroDivisionError
    assert re.search(r"\b0(/| of )5", capsys.readouterr().err.replace("\r", "\n").splitlines()[-1])


@both
def test_a_loader_that_goes_on(tqdm, without, capsys):
    without(tqdm)
    loader = DataLoader(np.arange(10), 2)
    run = iter(loader)
    next(run), next(run)
    loader.load_state(loader.get_state())
    assert [b.tolist() for b in sadl.progress(loader)] == [[4, 5], [6, 7], [8, 9]]
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert re.search(r"\b5(/| of )5", lines[-1]) and (not tqdm or re.search(r"\b2/5", "\n".join(lines)))


def test_a_line_now_and_then(without, capsys, monkeypatch):
    without(False)
    monkeypatch.setattr(bars, "SECONDS", 0)
    for n in (bar := sadl.progress("abc", "letters")):
        bar.show(n=n)
    lines = capsys.readouterr().err.splitlines()
    assert [re.sub(r"in .* per second", "...", line) for line in lines] == [
        "letters: 1 of 3 steps ..., n=a",
        "letters: 2 of 3 steps ..., n=b",
        "letters: 3 of 3 steps ..., n=c",
        "letters: 3 of 3 steps ..., n=c",
    ]


def test_what_is_refused():
    with pytest.raises(TypeError, match=r"a int cannot be iterated.*range"):
        sadl.progress(3)
    bar = sadl.progress([1])
    bar.show(loss=1)  # before the loop: kept for it
    with pytest.raises(sadl.CaptureError, match=r"progress\.show.*outside"):
        sadl.compile(lambda x: bar.show(loss=x))(np.ones(2))
