"""Tests of `sadl.checkpoints`: a run that was interrupted goes on as if it had not been, bit for bit.

A run here has all that has a state: parameters, buffers, an optimizer with groups, a schedule within the step, random
masks and noise, a shuffled loader with a transform, and counters.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sadl
from sadl import Buffer, Function, Linear, Parameter, load_checkpoint, random, save_checkpoint, schedules
from sadl.data import ArrayDataset, DataLoader

STEPS = 8
suffixes = pytest.mark.parametrize("suffix", [".sadl", ".safetensors"])
modes = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])


class Net(Function):
    """Two layers with a mask between them, and running statistics."""

    def __init__(self, rng):
        self.first, self.last = Linear(dim_in=4, dim_out=6, rng=rng), Linear(dim_in=6, dim_out=3, rng=rng)
        self.mean = Buffer(np.zeros(6, np.float32))

    def __call__(self, x):
        h = np.tanh(self.first(x))
        if self.is_training():
            with sadl.no_grad():
                self.mean[...] = 0.9 * self.mean + 0.1 * np.mean(h, axis=0)
        return self.last((h - self.mean) * random.bernoulli(0.7, h.shape))


class Run:
    """Everything of a run. What `seed` sets is only where it starts."""

    def __init__(self, compiled, seed=0):
        random.seed(seed)
        self.model = Net(random.generator())
        groups = [{"params": self.model.first}, {"params": self.model.last, "lr": 0.02, "weight_decay": 0.1}]
        self.optimizer = sadl.AdamW(groups, lr=0.05)
        warm_up = schedules.LinearLR(self.optimizer, 0.1, total_iters=3)
        falling = schedules.ExponentialLR(self.optimizer, 0.8)
        self.schedule = schedules.SequentialLR(self.optimizer, [warm_up, falling], [3])
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((30, 4)).astype(np.float32), rng.integers(0, 3, 30)
        self.loader = DataLoader(ArrayDataset(x, y), 8, True, True, seed=seed, transform=self.noisy)
        self.noise = random.Generator(seed)
        self.losses = []
        self.step = sadl.compile(self.eager_step) if compiled else self.eager_step

    @staticmethod
    def noisy(batch, rng):
        x, y = batch
        return x + rng.standard_normal(x.shape, np.float32), y

    def eager_step(self, x, y):
        self.optimizer.zero_grad()
        loss = sadl.functional.cross_entropy(self.model(x + self.noise.normal(x.shape, std=0.1)), y)
        self.optimizer.backward(loss)
        sadl.clip_grad_norm(self.model, 0.5)
        self.optimizer.step()
        self.schedule.step()
        return loss

    @property
    def parts(self):
        names = ("model", "optimizer", "schedule", "loader", "noise")
        return {name: getattr(self, name) for name in names}

    def go(self, steps):
        """Train until there are so many losses, from wherever the loader is."""
        while len(self.losses) < steps:
            for x, y in self.loader:
                augment = random.generator().uniform(0.9, 1.1)  # NumPy's generator has a state as well
                self.losses.append(float(self.step((x * augment).astype(np.float32), y)))
                if len(self.losses) == steps:
                    break
        return self

    def save(self, path):
        save_checkpoint(path, **self.parts, done=len(self.losses), best=min(self.losses, default=np.inf))

    def load(self, path):
        values = load_checkpoint(path, **self.parts)
        self.losses = [*self.losses, *[np.inf] * STEPS][: values["done"]]
        return values

    def state(self):
        return {**{k: v for name, p in self.parts.items() for k, v in p.get_state().items()}, **random.get_state()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


# ---- interrupted at every step ---------------------------------------------------------------------------------


@modes
@suffixes
def test_a_run_that_was_interrupted_goes_on_identically(compiled, suffix, tmp_path):
    whole = Run(compiled).go(STEPS)
    assert len(set(whole.losses)) == STEPS
    for k in range(STEPS + 1):
        path = tmp_path / f"at {k}{suffix}"
        Run(compiled).go(k).save(path)
        again = Run(compiled, seed=77)
        values = again.load(path)
        assert values == {"done": k, "best": min(whole.losses[:k], default=np.inf)}
        again.go(STEPS)
        assert again.losses[k:] == whole.losses[k:]
        assert same(again.state(), whole.state())


def test_twenty_compiled_steps_are_those_of_eager_code():
    eager, compiled = Run(False).go(20), Run(True).go(20)
    np.testing.assert_allclose(compiled.losses, eager.losses, rtol=1e-5)
    for k, v in compiled.state().items():
        np.testing.assert_allclose(v, eager.state()[k], rtol=1e-5, atol=1e-6, err_msg=k)


@modes
def test_saving_disturbs_nothing_and_loading_goes_back(compiled, tmp_path):
    whole, run = Run(compiled).go(STEPS), Run(compiled)
    for k in range(1, STEPS + 1):
        run.go(k).save(tmp_path / "last.sadl")  # each takes the place of the one before
        if k == 5:
            run.save(tmp_path / "five.sadl")
        run.load(tmp_path / "last.sadl")  # `go` has left the loop; without this the next one were another epoch
    assert same(run.state(), whole.state())
    run.load(tmp_path / "five.sadl")  # into the objects that have gone further, and the programs that exist
    assert run.go(STEPS).losses[5:] == whole.losses[5:]


PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from test_checkpoints import Run, STEPS
run = Run(sys.argv[3] == "True", seed=5)
run.load(sys.argv[2])
print(json.dumps(run.go(STEPS).losses))
"""


@modes
def test_going_on_in_another_process(compiled, tmp_path):
    whole, path = Run(compiled).go(STEPS), tmp_path / "run.sadl"
    Run(compiled).go(3).save(path)
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(path), str(compiled)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[3:] == whole.losses[3:]


def test_the_runs_see_what_is_missing(tmp_path):
    """Each part matters: without its state, the losses are others."""
    whole, path = Run(False).go(STEPS), tmp_path / "run.sadl"
    Run(False).go(3).save(path)
    for name in ("model", "optimizer", "schedule", "loader", "noise", "random"):
        again = Run(False, seed=77)
        load_checkpoint(path, **{**again.parts, name: None})
        again.losses = [np.inf] * 3
        assert again.go(STEPS).losses[3:] != whole.losses[3:], name


# ---- prepare ---------------------------------------------------------------------------------------------------


def test_a_prepared_step_runs_as_a_program_from_the_first_call():
    plain = Run(False)
    before, expected = plain.state(), plain.go(3).losses
    run, batch = Run(True), (np.ones((8, 4), np.float32), np.zeros(8, np.int64))
    run.step.prepare(*batch)
    assert run.step.stats.captures == 2 and run.step.stats.programs == 1
    assert same(run.state(), before) and all(p.grad is None for p in run.model.parameters)
    run.go(3)
    assert run.step.stats.captures == 2
    run.step.prepare(*batch)  # there is a program already
    assert run.step.stats.captures == 2
    np.testing.assert_allclose(run.losses, expected, rtol=1e-5)
    assert run.losses == Run(True).go(3).losses  # the same bits without it
    with sadl.config(compile=False):
        other = Run(True)
        other.step.prepare(*batch)
        assert other.step.stats.captures == 0


# ---- gradients -------------------------------------------------------------------------------------------------


@suffixes
def test_gradients_as_a_part(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    model, other = Net(0), Net(1)
    some = list(model.parameters)[:3]
    for n, p in enumerate(some):
        p.grad = np.full(p.shape, n, np.float32)
    save_checkpoint(path, model=model, gradients=sadl.Gradients(model))
    for p in other.parameters:
        p.grad = np.ones(p.shape, np.float32)
    load_checkpoint(path, model=other, gradients=sadl.Gradients(other))
    first, second, third, last = [p.grad for p in other.parameters]
    assert [np.unique(g).tolist() for g in (first, second, third)] == [[0], [1], [2]] and last is None
    assert all(type(g) is np.ndarray and g.dtype == np.float32 for g in (first, second, third))
    assert not np.shares_memory(first, some[0].grad)
    load_checkpoint(path, model=other, gradients=None)
    with pytest.raises(KeyError, match='"gradients/first.W"'):
        load_checkpoint(path, model=other)
    small, wide = Linear(dim_in=2, dim_out=3), Linear(dim_in=2, dim_out=4)
    save_checkpoint(path, gradients=sadl.Gradients(small))
    with pytest.raises(ValueError, match=r'state "gradients/W": expected \(2, 4\), found \(2, 3\)'):
        load_checkpoint(path, gradients=sadl.Gradients(wide))
    with pytest.raises(TypeError, match="a list is no Function"):
        sadl.Gradients([p])


# ---- files -----------------------------------------------------------------------------------------------------


@suffixes
def test_what_is_in_a_file(suffix, tmp_path):
    p = Parameter([1.0, 2.0])
    optimizer = sadl.SGD([p], momentum=0.9)
    path = tmp_path / f"x{suffix}"
    save_checkpoint(path, optimizer=optimizer, step=3, rate=0.5, done=True, history=np.arange(3.0), random=None)
    keys = {"optimizer/lr", "optimizer/_state{params}{0}{m}", "step", "rate", "done", "history", "__checkpoint__"}
    assert set(sadl.load(path)) == keys
    values = load_checkpoint(path, optimizer=optimizer, random=None)
    history = values.pop("history")
    assert values == {"step": 3, "rate": 0.5, "done": True} and history.tolist() == [0, 1, 2]
    assert {k: type(v) for k, v in values.items()} == {"step": int, "rate": float, "done": bool}


@pytest.mark.parametrize("name", ["a/b", "/", "__checkpoint__"])
@pytest.mark.parametrize("part", [3, sadl.SGD([Parameter([1.0])])], ids=["number", "object"])
def test_names_that_could_not_be_read_back_are_refused(tmp_path, name, part):
    with pytest.raises(ValueError, match=rf"\[save_checkpoint\] '{name}' cannot be the name of a part"):
        save_checkpoint(tmp_path / "x.sadl", **{name: part})
    assert not list(tmp_path.iterdir())


def test_a_failing_save_leaves_the_older_file(tmp_path):
    model = Net(0)
    path = tmp_path / "x.sadl"
    save_checkpoint(path, model=model, step=1)
    before = path.read_bytes()
    for bad in (object(), "text", {"a": 1}, np.array([object()])):
        with pytest.raises(TypeError, match=r"save_checkpoint.*bad is a"):
            save_checkpoint(path, model=model, step=2, bad=bad)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_all_that_does_not_fit_is_listed_and_nothing_changed(tmp_path):
    path = tmp_path / "x.sadl"
    run = Run(False).go(2)
    run.save(path)

    class Wider(Net):
        def __init__(self, rng):
            super().__init__(rng)
            self.first.W = Parameter(np.ones((5, 6), np.float32))
            self.extra = Parameter(np.ones(1, np.float32))
            del self.mean

    other = Run(False, seed=1)
    parts = {**other.parts, "model": Wider(0), "moments": sadl.SGD([Parameter([1.0])])}
    before = {name: part.get_state() for name, part in {**parts, "random": random}.items()}
    match = (
        r'(?s)not found for "model/extra".*not found for "moments/lr".*Unexpected state data for "model/mean"'
        r'.*Shape mismatch for state "model/first.W": expected \(5, 6\), found \(4, 6\).*nothing was changed'
    )
    with pytest.raises(KeyError, match=match) as error:
        load_checkpoint(path, **parts)
    assert isinstance(error.value, ValueError)
    assert all(same(part.get_state(), before[name]) for name, part in {**parts, "random": random}.items())


def test_a_part_that_refuses_its_state_leaves_the_others_as_they_were(tmp_path):
    path = tmp_path / "x.sadl"
    Run(False).go(2).save(path)
    other = Run(False, seed=1)
    other.loader = DataLoader(other.loader.dataset, 7, True, True)
    before = other.state()
    with pytest.raises(ValueError, match=r"batch_size=8 \(now 7\)"):
        load_checkpoint(path, **other.parts)
    assert same(other.state(), before)


def test_parts_that_are_not_wanted(tmp_path):
    path = tmp_path / "x.sadl"
    run = Run(False).go(2)
    run.save(path)
    model = Net(9)
    with pytest.raises(KeyError, match='Unexpected state data for "optimizer/lr"'):
        load_checkpoint(path, model=model)
    left_out = dict.fromkeys(("optimizer", "schedule", "loader", "noise", "random"))
    assert load_checkpoint(path, model=model, **left_out)["done"] == 2
    assert same(model.get_state(), run.model.get_state())
    with pytest.raises(TypeError, match="done is a int without load_state"):
        load_checkpoint(path, model=model, done=3, **left_out)


def test_files_that_are_no_checkpoints(tmp_path):
    path = tmp_path / "x.sadl"
    for data in (sadl.tensor([1.0]), {"a": sadl.tensor([1.0])}):
        sadl.save(data, path)
        with pytest.raises(sadl.FileFormatError, match=r"is no checkpoint.*sadl\.load"):
            load_checkpoint(path)
    sadl.save({"__checkpoint__": sadl.tensor(2), "a": sadl.tensor([1.0])}, path)
    with pytest.raises(sadl.FileFormatError, match="version 2, expected 1"):
        load_checkpoint(path)
    path.write_bytes(b"SADL")
    with pytest.raises(sadl.FileFormatError):
        load_checkpoint(path)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "none.sadl")


def test_a_compiled_model_is_the_model(tmp_path):
    path = tmp_path / "x.sadl"
    model = Net(0)
    save_checkpoint(path, model=sadl.compile(model))
    other = Net(1)
    load_checkpoint(path, model=sadl.compile(other))
    assert same(model.get_state(), other.get_state())
