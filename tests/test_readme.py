"""README.md says what is so: its code runs as printed, its tables agree with the code, its files and targets exist.

A `python` block runs in one namespace with those before it; a `text` block after it is what it prints, `...` standing
for what is left out. Names such as `%12` are compared as names, whatever their number.
"""

import contextlib
import doctest
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sadl
import sadl.functional as F
from sadl.config import SWITCHES
from sadl.data import DataLoader
from sadl.errors import CaptureError, GradientError, UnrecordedError

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[tuple[str, str, int]]:
    """(language, content, line of the first line) of every fenced block."""
    return [(m[1], m[2], text.count("\n", 0, m.start()) + 2) for m in BLOCK.finditer(text)]


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def run(code: str, line: int, space: dict[str, Any]) -> str:
    """What a block prints; errors and captured lines name README.md with the right line."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * (line - 1) + code, "README.md", "exec"), space)
    return printed.getvalue()


def anonymous(text: str) -> str:
    return re.sub(r"%\d+", "%", text)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_code_runs_as_printed(tmp_path: Path) -> None:
    space: dict[str, Any] = {}
    printed = ""
    agree = doctest.OutputChecker().check_output
    with sadl.config(cache_dir=tmp_path):
        for language, content, line in blocks(README):
            if language == "python":
                printed = run(content, line, space)
            elif language == "text":
                same = agree(anonymous(content), anonymous(printed), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
                assert same, f"README.md, line {line}, shows something else than what is printed now:\n{printed}"


def test_the_checker_sees_a_difference() -> None:
    assert run("print(1 + 1)", 1, {}) == "2\n"
    assert not doctest.OutputChecker().check_output("a ... c\n", "a b d\n", doctest.ELLIPSIS)


def test_quick_start_has_fifteen_lines() -> None:
    first = next(content for language, content, _ in blocks(README) if language == "python")
    assert len([line for line in first.splitlines() if line]) == 15


def test_switches_are_those_of_the_code() -> None:
    shown = {cells[0]: cells[1:] for cells in rows("Switches")}
    assert list(shown) == [f"`SADL_{name.upper()}`" for name in SWITCHES]
    for (values, default, meaning), (name, switch) in zip(shown.values(), SWITCHES.items(), strict=True):
        assert (values, meaning) == (switch.valid, switch.help)
        if name not in ("cache_dir", "threads"):  # these depend on the machine
            assert int(default) == int(switch.default())


def test_default_of_cache_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    shown = next(cells[2] for cells in rows("Switches") if cells[0] == "`SADL_CACHE_DIR`")
    assert SWITCHES["cache_dir"].default() == Path(shown.strip("`")).expanduser()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_files_and_targets_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", text)) <= targets
    named = set(re.findall(r"`((?:sadl|tests|benchmarks|examples|scripts)/[\w/.]+)`", text))
    assert not [name for name in named if not (ROOT / name).exists()]


# ---- sharp bits ----------------------------------------------------------------------------------------------------


def leaf() -> Any:
    return sadl.Tensor([1.0, 2.0, 3.0], requires_grad=True)


def compiled(fn: Any, *args: Any, calls: int = 3) -> Any:
    run = sadl.compile(fn)
    for _ in range(calls):
        result = run(*args)
    return result


def check_asarray() -> None:
    t = leaf() * 2
    assert type(np.asarray(t)) is type(np.array([t[0], t[1]])) is np.ndarray
    assert not getattr(np.sum([t[0], t[1]]), "requires_grad", False)
    with sadl.debug.leaks() as found:
        np.asarray(t)
    assert "test_readme.py" in found[0].where
    with pytest.raises(CaptureError):
        compiled(lambda x: np.array([x[0], x[1]]) * 2, np.ones(3))
    assert np.stack([t[0], t[1]]).requires_grad


def check_writing_into_an_ndarray() -> None:
    b, t = np.zeros(3), leaf()
    b[0] = t[1] * 2
    assert type(b) is np.ndarray and b[0] == 4
    with pytest.raises(UnrecordedError):
        b += t
    with pytest.raises(UnrecordedError):
        np.multiply(t, 2, out=b)

    def moved(x: Any) -> Any:
        y = x * b
        b[:2] = x[:2]
        return y

    with pytest.raises(CaptureError, match="an ndarray"):
        compiled(moved, np.ones(3))
    c = sadl.zeros(3, dtype=np.float64)
    c[0] = t[1] * 2
    c.sum().backward()
    assert t.grad.tolist() == [0, 2, 0]


def check_masked() -> None:
    for other in (np.ma.array(np.ones(3), mask=[0, 1, 0]), np.ones((3, 1)).view(np.matrix)):
        with pytest.raises(TypeError):
            leaf() * other


def check_subclass() -> None:
    class Other(np.ndarray):
        pass

    t, m = leaf(), np.ones(3).view(Other)
    assert not getattr(np.dot(m, t), "requires_grad", False)
    assert np.dot(np.asarray(m), t).requires_grad


def check_indexing_an_ndarray() -> None:
    table, i, j = np.array([10.0, 20.0, 30.0]), np.array([0, 1]), np.array([2, 2])
    rows = sadl.tensor(table)
    run, recorded = sadl.compile(lambda i: table[i] * 2), sadl.compile(lambda i: rows[i] * 2)
    for _ in range(2):
        assert run(i).tolist() == recorded(i).tolist() == [20, 40]
    assert run(j).tolist() == [20, 40] and recorded(j).tolist() == [60, 60]
    with pytest.raises(CaptureError):
        sadl.compile(lambda i: np.take(table, i))(i)
    run = sadl.compile(lambda i: table[i] * 2)
    run(i)
    with pytest.raises(CaptureError):
        run(j)


def check_number_in_a_list() -> None:
    held = [0.5]
    run = sadl.compile(lambda x: x * held[0])
    run(np.ones(2))
    held[0] = 0.7
    with pytest.raises(CaptureError, match=r"changed from 0\.5 to 0\.7"):
        run(np.ones(2))
    held[0] = 0.5
    run(np.ones(2)), run(np.ones(2))
    held[0] = 0.9
    assert run(np.ones(2)).tolist() == [0.5, 0.5]
    lr = sadl.Tensor(0.5)
    run = sadl.compile(lambda x: x * lr)
    run(np.ones(2)), run(np.ones(2))
    lr[...] = 0.9
    assert run(np.ones(2)).tolist() == [0.9, 0.9]


def check_print() -> None:
    def fn(x: Any) -> Any:
        print("here", x)
        return x + 1

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        compiled(fn, np.ones(2), calls=4)
    assert printed.getvalue().count("here") == 2


def check_branch_on_a_value() -> None:
    for fn in (lambda x: x if x[0] > 0 else -x, lambda x: x * float(x[0])):
        with pytest.raises(CaptureError, match=r"test_readme\.py:\d+"):
            compiled(fn, np.ones(2))


def check_open_sizes() -> None:
    t = leaf()
    t[t > 1].sum().backward()
    assert t.grad.tolist() == [0, 1, 1]
    run = sadl.compile(lambda x: x[x > 1])
    for k in range(12):
        assert run(np.arange(4.0) + k % 2).tolist() == [2.0, 3.0, 4.0][: 2 + k % 2]
    assert run.stats.programs == 2


def check_ties() -> None:
    t = sadl.Tensor([1.0, 3.0, 3.0], requires_grad=True)
    (np.max(t) + np.sum(np.maximum(t, 3.0))).backward()
    assert t.grad.tolist() == [0, 1, 1]


def check_detach() -> None:
    t = leaf() * 2
    d = t.detach()
    assert d.requires_grad and d.is_leaf() and not np.shares_memory(d, t)


def check_changing_a_leaf() -> None:
    t = leaf()
    with pytest.raises(GradientError):
        t += 1
    with sadl.no_grad():
        t += 1
    assert t.tolist() == [2, 3, 4]


def check_appended_layer() -> None:
    model = sadl.Mlp([sadl.ReLU()])
    compiled, x = sadl.compile(model), np.array([-1.0, 2.0])
    for _ in range(3):
        compiled(x)
    model.layers.append(sadl.Sigmoid())
    assert compiled(x).tolist() == [0, 2] != model(x).tolist()
    model.layers = list(model.layers)
    assert compiled(x).tolist() == model(x).tolist()


def check_leaving_a_loop() -> None:
    loader = DataLoader(np.arange(6), 2)
    next(iter(loader))
    assert loader.epoch == 0 and [b.tolist() for b in loader] == [[0, 1], [2, 3], [4, 5]] and loader.epoch == 2
    next(iter(loader))
    loader.load_state(loader.get_state())
    assert [b.tolist() for b in loader] == [[2, 3], [4, 5]]


def check_rate_under_a_schedule() -> None:
    optimizer = sadl.SGD([sadl.Parameter([1.0])], lr=1.0)
    schedule = sadl.schedules.StepLR(optimizer, 1, 0.5)
    optimizer.lr = 0.1
    assert float(optimizer.lr) == 0.1
    schedule.step()
    assert float(optimizer.lr) == 0.5
    optimizer.lr = 0.1
    sadl.schedules.StepLR(optimizer, 1, 0.5).step()
    assert float(optimizer.lr) == 0.05


def check_error_in_an_eager_step() -> None:
    """That a compiled one changes nothing is in test_bad_configuration."""
    norm = sadl.nn.BatchNorm(2)
    with pytest.raises(IndexError):
        F.cross_entropy(norm(np.arange(4.0).reshape(2, 2)), np.array([0, 2]))
    assert np.any(norm.mean)


def check_padding() -> None:
    layer, x = sadl.nn.LSTM(2, 3, bidirectional=True, rng=0), np.ones((1, 4, 2), np.float32)
    x[:, 2:] = 0
    _, (alone, _) = layer(x[:, :2])
    assert not np.allclose(layer(x)[1][0], alone) and np.allclose(layer(x, lengths=[2])[1][0], alone)


def check_integers_into_a_layer() -> None:
    layer, x = sadl.Linear(2, 3), np.arange(4).reshape(2, 2)
    assert layer(x).dtype == np.float32 and F.linear(x, layer.W).dtype == np.float64


SHARP_BITS = {
    "`np.asarray(t)`, `np.array([t, u])`, `np.sum([t, u])`": check_asarray,
    "`b[0] = t` for an ndarray `b`": check_writing_into_an_ndarray,
    "a layer appended to, or swapped in, a list of layers, compiled": check_appended_layer,
    "a number or array found through a list, a dict or an inner function, compiled": check_number_in_a_list,
    "`a[i]` for an ndarray `a` and an integer Tensor `i`, compiled": check_indexing_an_ndarray,
    "`print(t)` in a compiled function": check_print,
    "`if t > 0:` or `float(t)` in a compiled function": check_branch_on_a_value,
    "`t[mask]`, `np.unique(t)`, compiled": check_open_sizes,
    "ties in `max` and `maximum`": check_ties,
    "`t.detach()`": check_detach,
    "a masked array or an `np.matrix` beside a Tensor": check_masked,
    "`np.dot(m, t)` with `m` a memmap or another subclass of ndarray": check_subclass,
    "`t += 1` on a leaf that requires a gradient": check_changing_a_leaf,
    "an error in the middle of an eager step, as a class out of range": check_error_in_an_eager_step,
    "a padded batch given to a recurrent layer": check_padding,
    "integers given to a layer with parameters": check_integers_into_a_layer,
    "a loop over a DataLoader that is left early": check_leaving_a_loop,
    "`optimizer.lr = 0.1` under a schedule": check_rate_under_a_schedule,
}


def test_every_sharp_bit_is_checked() -> None:
    assert [cells[0] for cells in rows("Sharp bits")] == list(SHARP_BITS)


@pytest.mark.parametrize("what", SHARP_BITS)
def test_sharp_bit(what: str) -> None:
    SHARP_BITS[what]()
