"""A run that is interrupted anywhere goes on bit for bit: eager, compiled, and in another process.

The run here has what makes this hard: batch statistics, dropout, noise, gradients that add up over two batches (also
across the end of an epoch), clipping, AdamW with groups under schedules one after the other, and a shuffled loader with
a thread, a transform and a last batch that is dropped. It is interrupted after every batch, so also between the two of
one step. The second part shows why compiled runs can: what a call gives does not depend on the calls before it.
"""

import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import sadl
import sadl.functional as F
from sadl import Gradients, Linear, Parameter, load_checkpoint, nn, random, save_checkpoint, schedules
from sadl.data import ArrayDataset, DataLoader

BATCHES = 14  # with 5 in an epoch
PARTS = 2  # batches of a step
modes = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])


def make_model():
    rng = random.generator()
    layers = [Linear(dim_in=4, dim_out=8, rng=rng), nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(0.3)]
    return nn.Sequential(*layers, Linear(dim_in=8, dim_out=3, rng=rng))


def noisy(batch, rng):
    x, y = batch
    return x + rng.standard_normal(x.shape, np.float32), y


class Run:
    """All of a training run; `seed` sets only where it starts."""

    def __init__(self, compiled, seed=0):
        random.seed(seed)
        self.model = make_model()
        first, norm, *_, last = self.model.layers
        groups = [{"params": first}, {"params": norm}, {"params": last, "lr": 0.02, "weight_decay": 0.1}]
        self.optimizer = sadl.AdamW(groups, lr=0.05)
        warm_up = schedules.LinearLR(self.optimizer, 0.1, total_iters=2)
        waves = schedules.CosineAnnealingLR(self.optimizer, 3, 0.001)
        falling = schedules.ExponentialLR(self.optimizer, 0.7)
        self.schedule = schedules.SequentialLR(self.optimizer, [warm_up, waves, falling], [2, 4])
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((44, 4)).astype(np.float32), rng.integers(0, 3, 44)
        self.loader = DataLoader(ArrayDataset(x, y), 8, shuffle=True, drop_last=True, seed=seed, transform=noisy)
        self.noise = random.Generator(seed)
        self.losses = []
        compile = sadl.compile if compiled else lambda f: f
        self.add, self.update = compile(self.add_gradients), compile(self.update_parameters)

    def add_gradients(self, x, y):
        x = x * random.uniform(x.shape, 0.9, 1.1) + self.noise.normal(x.shape, std=0.1)
        loss = F.cross_entropy(self.model(x), y, label_smoothing=0.1)
        (loss / PARTS).backward()
        return loss

    def update_parameters(self):
        sadl.clip_grad_norm(self.model, 0.5)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()

    def go(self, batches):
        """Train until there are so many losses."""
        while len(self.losses) < batches:
            for x, y in self.loader:
                self.losses.append(float(self.add(x, y)))
                if len(self.losses) % PARTS == 0:
                    self.update()
                if len(self.losses) == batches:
                    break
        return self

    @property
    def parts(self):
        names = ("model", "optimizer", "schedule", "loader", "noise")
        return {**{name: getattr(self, name) for name in names}, "gradients": Gradients(self.model)}

    def save(self, path):
        save_checkpoint(path, **self.parts, losses=np.array(self.losses))
        return self

    def load(self, path):
        self.losses = load_checkpoint(path, **self.parts)["losses"].tolist()
        return self

    def state(self):
        parts = {**self.parts, "random": random}
        return {f"{name}/{key}": np.array(v) for name, part in parts.items() for key, v in part.get_state().items()}


def assert_same(run, whole):
    assert run.losses == whole.losses
    expected = whole.state()
    assert run.state().keys() == expected.keys()
    for key, value in run.state().items():
        assert value.dtype == expected[key].dtype and value.tobytes() == expected[key].tobytes(), key


@pytest.mark.parametrize("suffix", [".sadl", ".safetensors"])
@modes
def test_a_run_that_is_interrupted_after_any_batch(compiled, suffix, tmp_path):
    whole = Run(compiled).go(BATCHES)
    assert len(set(whole.losses)) == BATCHES and whole.loader.epoch == 2
    for k in range(int(compiled and suffix == ".sadl"), BATCHES + 1, 2 if compiled else 1):  # together all of them
        path = tmp_path / f"{k}{suffix}"
        Run(compiled).go(k).save(path)
        assert_same(Run(compiled, seed=77).load(path).go(BATCHES), whole)


@modes
def test_a_run_that_is_interrupted_again_and_again(compiled, tmp_path):
    path = tmp_path / "run.sadl"
    Run(compiled).save(path)
    for k in range(1, BATCHES + 1):
        again = Run(compiled, seed=k).load(path).go(k).save(path)
    assert_same(again, Run(compiled).go(BATCHES))


def test_gradients_matter():
    """Without them a run that was interrupted in the middle of a step is another one."""
    whole, run = Run(False).go(BATCHES), Run(False).go(5)
    for p in run.model.parameters:
        p.grad = None
    run.loader.load_state(run.loader.get_state())
    with pytest.raises(AssertionError):
        assert_same(run.go(BATCHES), whole)


def test_compiled_runs_agree_with_eager_ones():
    np.testing.assert_allclose(Run(True).go(BATCHES).losses, Run(False).go(BATCHES).losses, rtol=1e-5)


PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from test_resume import BATCHES, Run
print(json.dumps(Run(sys.argv[3] == "True", seed=5).load(sys.argv[2]).go(BATCHES).losses))
"""


@modes
@pytest.mark.parametrize("k", [0, 3, 5], ids=["before the first", "within a step", "at the end of an epoch"])
def test_going_on_in_another_process(k, compiled, tmp_path):
    path = tmp_path / "run.sadl"
    Run(compiled).go(k).save(path)
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(path), str(compiled)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == Run(compiled).go(BATCHES).losses


# ---- a process that is killed ----------------------------------------------------------------------------------

SAVING = """
import sys, time
import numpy as np, sadl
from sadl import disk
encode = disk._FORMATS[".sadl"].encode
def slowly(entries):
    for n, chunk in enumerate(encode(entries)):
        yield chunk
        if n > 2:
            print("in the middle", flush=True)
            time.sleep(60)
disk._FORMATS[".sadl"] = disk._FORMATS[".sadl"]._replace(encode=slowly)
model = sadl.nn.Sequential(*[sadl.Linear(dim_in=30, dim_out=30) for _ in range(9)])
sadl.save_checkpoint(sys.argv[1], model=model, step=2)
"""


def test_a_process_that_is_killed_while_it_saves(tmp_path):
    path = tmp_path / "run.sadl"
    model = nn.Sequential(*[Linear(dim_in=30, dim_out=30) for _ in range(9)])
    save_checkpoint(path, model=model, step=1)
    before = path.read_bytes()
    process = subprocess.Popen([sys.executable, "-c", SAVING, str(path)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "in the middle\n"
        os.kill(process.pid, signal.SIGKILL)
    assert path.read_bytes() == before and load_checkpoint(path, model=model)["step"] == 1
    assert len(list(tmp_path.glob(".*.tmp"))) == 1  # what it had written so far, under another name


# ---- the same bits at every call -------------------------------------------------------------------------------

X = np.random.default_rng(1).standard_normal((64, 33)).astype(np.float32)


def bits(result):
    return [np.asarray(r).tobytes() for r in (result if isinstance(result, (tuple, list)) else [result])]


def with_backward(call):
    """The results of `call` on a leaf, and the gradient of their sum by it."""

    def run(x):
        x = sadl.tensor(x, requires_grad=True)
        y = call(x)
        np.sum(y * y).backward()
        return y, x.grad

    return run


def softmax_twice(x):
    return F.softmax(F.softmax(x * 3) * 40)


def masked(x):  # with arrays that are made anew on each call
    mask = np.tril(np.ones(x.shape, bool))
    return F.softmax(np.where(mask, x, -np.inf) * np.linspace(0, 1, x.shape[1], dtype=np.float32))


WAYS = {
    "results": (softmax_twice, lambda f: f),
    "constants": (masked, lambda f: f),
    "gradients": (softmax_twice, with_backward),
    "gradients with constants": (masked, with_backward),
    "value_and_grad": (sadl.value_and_grad(lambda x: np.sum(softmax_twice(x) ** 2)), lambda f: f),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_call_gives_the_same_bits(way):
    fn, around = WAYS[way]
    compiled = sadl.compile(fn)
    results = [bits(around(compiled)(X)) for _ in range(4)]
    assert all(r == results[0] for r in results)
    assert results[0] != bits(around(fn)(X))  # otherwise nothing is shown
    assert (compiled.stats.captures, compiled.stats.programs) == (2, 1)


@pytest.mark.parametrize("calls", list(itertools.permutations("abc")))
def test_the_order_of_signatures_does_not_matter(calls):
    sizes = {"a": 64, "b": 40, "c": 33}
    expected = {name: bits(sadl.compile(softmax_twice)(X[:n])) for name, n in sizes.items()}
    compiled = sadl.compile(softmax_twice)
    for name in (*calls, *calls[:2], *calls, *calls):
        assert bits(compiled(X[: sizes[name]])) == expected[name]
    assert (compiled.stats.captures, compiled.stats.programs) == (6, 3)


def test_gradients_that_are_there_or_not():
    """A step that adds to `.grad` has two programs; both give theirs from their first call on."""

    def make():
        w = Parameter(X[0])
        return w, sadl.compile(lambda x: np.sum(softmax_twice(x * w) ** 2).backward())

    def after(pattern):
        w, add = make()
        for clear in pattern:
            if clear:
                w.grad = None
            add(X)
        return bits(w.grad)

    assert after([1]) == after([1, 1, 1]) == after([1, 0, 1, 0, 1])
    assert after([1, 0]) == after([1, 1, 1, 0]) == after([1, 0, 0, 1, 0, 0, 1, 0])


def test_the_first_call_puts_back_what_the_capture_did():
    state, generator = sadl.Buffer(np.zeros(3)), random.Generator(0)

    def step(x):
        with sadl.no_grad():
            state[...] = state + 1
        return generator.uniform(3) + x

    twin = random.Generator(0)
    compiled = sadl.compile(step)
    for k in range(1, 5):
        assert np.array_equal(compiled(np.zeros(3)), twin.uniform(3)) and state.tolist() == [k] * 3


def test_a_first_program_that_cannot_run_changes_nothing():
    """Here the sizes of the program are not those of the capture, since kernels round otherwise than NumPy."""
    x = np.exp(np.linspace(-3, 3, 2000, dtype=np.float32))
    log = np.asarray(sadl.compile(np.log)(x))
    at = int(np.argmax(log != np.log(x)))
    assert log[at] != np.log(x[at])
    limit = max(log[at], np.log(x[at]))
    count = sadl.Buffer(np.zeros(()))

    def rows(x):
        with sadl.no_grad():
            count[...] = count + 1
        return x[np.log(x) >= limit]

    compiled = sadl.compile(rows)
    for k in range(1, 5):
        assert compiled(x[at : at + 1]).tolist() == x[at : at + 1][np.log(x[at : at + 1]) >= limit].tolist()
        assert count == k


def test_one_program_is_built_for_the_first_call_and_later_ones():
    """Unless something turned out to be constant."""
    for fn, times in ((sadl.value_and_grad(lambda x: np.sum(softmax_twice(x) ** 2)), 1), (masked, 2)):
        compiled = sadl.compile(fn)
        seconds = []
        for _ in range(3):
            compiled(X)
            seconds.append(compiled.stats.compile_seconds)
        assert len(set(seconds)) == times


def test_captures_keep_no_copies_of_the_state():
    size = 1 << 22
    state = sadl.Buffer(np.zeros(size // 8))

    def step(x):
        with sadl.no_grad():
            state[...] = state + x

    compiled = sadl.compile(step)
    tracemalloc.start()
    try:
        for _ in range(3):
            compiled(np.ones(()))
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < size / 2
    finally:
        tracemalloc.stop()
    assert state[0] == 3
