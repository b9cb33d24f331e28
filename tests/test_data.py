"""Tests of `sadl.data`: batches, their order, what a thread may do to them, and going on in mid-epoch."""

import gc
import threading
import time
from collections import namedtuple

import numpy as np
import pytest

import sadl
from sadl.data import ArrayDataset, DataLoader, Dataset, GeneratorDataset, collate

X = np.arange(20, dtype=np.float32).reshape(10, 2)
Y = np.arange(10)
prefetches = pytest.mark.parametrize("prefetch", [0, 1, 3])


def epoch_of(loader):
    return [[np.asarray(part).tolist() for part in batch] for batch in loader]


def threads():
    return [t for t in threading.enumerate() if t.name == "sadl-data"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not threads()


class Squares(Dataset):
    def __len__(self):
        return 7

    def __getitem__(self, i):
        return {"x": np.full(2, i, np.float32), "y": (i * i, bool(i % 2))}


# ---- batches ---------------------------------------------------------------------------------------------------


@prefetches
def test_batches_in_order(prefetch):
    loader = DataLoader(ArrayDataset(X, Y), batch_size=4, prefetch=prefetch)
    batches = list(loader)
    assert [x.shape for x, _ in batches] == [(4, 2), (4, 2), (2, 2)] and len(loader) == 3
    assert np.array_equal(np.concatenate([x for x, _ in batches]), X)
    assert np.array_equal(np.concatenate([y for _, y in batches]), Y)
    assert all(type(a) is np.ndarray for batch in batches for a in batch) and batches[0][0].dtype == np.float32
    batches[0][0][...] = -1  # a copy
    assert X[0, 1] == 1


@prefetches
def test_the_last_batch(prefetch):
    loader = DataLoader(ArrayDataset(X, Y), batch_size=4, drop_last=True, prefetch=prefetch)
    assert [len(y) for _, y in loader] == [4, 4] and len(loader) == 2
    assert [len(y) for _, y in DataLoader(ArrayDataset(X, Y), 5, drop_last=True, prefetch=prefetch)] == [5, 5]


def test_samples_may_be_nested():
    first, second = DataLoader(Squares(), batch_size=4)
    assert first["x"].shape == (4, 2) and first["x"].dtype == np.float32
    assert first["y"][0].tolist() == [0, 1, 4, 9] and second["y"][1].dtype == bool


def test_lists_are_datasets():
    assert [b.tolist() for b in DataLoader([1.0, 2.0, 3.0], batch_size=2)] == [[1, 2], [3]]
    assert [b.tolist() for b in DataLoader(X, batch_size=9)] == [X[:9].tolist(), X[9:].tolist()]


def test_a_batch_of_ones_own():
    class Rows(Squares):
        def batch(self, indices):
            return indices * 10

    assert [b.tolist() for b in DataLoader(Rows(), batch_size=5)] == [[0, 10, 20, 30, 40], [50, 60]]


WORDS = [[3], [1, 4], [1, 5, 9], [2]]


class Words(Dataset):
    """Of several lengths."""

    def __len__(self):
        return len(WORDS)

    def __getitem__(self, i):
        return np.array(WORDS[i])


def padded(samples):
    out = np.zeros((len(samples), max(map(len, samples))), int)
    for row, sample in zip(out, samples, strict=True):
        row[: len(sample)] = sample
    return out


@prefetches
def test_samples_of_several_lengths(prefetch):
    with pytest.raises(ValueError, match=r"0 and 1 .* shapes \(1,\) and \(2,\).*pad or crop.*collate="):
        list(DataLoader(Words(), 2, prefetch=prefetch))
    for dataset in (Words(), lambda: map(np.array, WORDS)):
        loader = DataLoader(dataset, 2, prefetch=prefetch, collate=padded)
        assert [b.tolist() for b in loader] == [[[3, 0], [1, 4]], [[1, 5, 9], [2, 0, 0]]]


def test_collate_comes_before_batch():
    rows = DataLoader(ArrayDataset(X, Y), 4, collate=lambda samples: [int(y) for _, y in samples])
    assert list(rows) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_what_samples_may_be():
    """As torch's collation has it: numbers, arrays, text, nested in lists, tuples, named tuples and dicts."""
    Pair = namedtuple("Pair", "x y")
    samples = [
        {"pair": Pair(np.float32(i), [i, i > 0]), "image": np.full((2, 3), i, np.uint8), "name": f"n{i}", "r": i / 2}
        for i in range(2)
    ]
    batch = collate(samples)
    assert list(batch) == ["pair", "image", "name", "r"] and type(batch["pair"]) is Pair
    assert [a.dtype for a in (batch["pair"].x, batch["image"], batch["r"])] == [np.float32, np.uint8, np.float64]
    assert batch["image"].shape == (2, 2, 3) and batch["name"].tolist() == ["n0", "n1"]
    assert [a.tolist() for a in batch["pair"].y] == [[0, 1], [False, True]] and batch["r"].tolist() == [0, 0.5]


def test_keys_in_another_order():
    Pair = namedtuple("Pair", "x y")
    first, second = {"a": 1, "b": Pair([{"c": 2, "d": 3}], 4)}, {"b": Pair([{"d": 30, "c": 20}], 40), "a": 10}
    batch = collate([first, second, first])
    assert list(batch) == ["a", "b"] and batch["a"].tolist() == [1, 10, 1] and batch["b"].y.tolist() == [4, 40, 4]
    assert {k: v.tolist() for k, v in batch["b"].x[0].items()} == {"c": [2, 20, 2], "d": [3, 30, 3]}
    assert list(second) == ["b", "a"]
    for other in ({"a": 1, "b": Pair([{"c": 2}], 4)}, {"a": 1}, {"a": 1, "b": Pair([], 4)}):
        with pytest.raises(ValueError, match="samples 0 and 1 of a batch are nested in different ways"):
            collate([first, other])


def test_tensors_become_arrays():
    dataset = ArrayDataset(sadl.tensor(X, requires_grad=True), Y)
    assert type(dataset.arrays[0]) is np.ndarray and len(dataset) == 10
    assert [a.tolist() for a in dataset[3]] == [[6, 7], 3]
    assert type(collate([sadl.tensor([1.0]), sadl.tensor([2.0])])) is np.ndarray


# ---- order -----------------------------------------------------------------------------------------------------


@prefetches
def test_shuffling_depends_on_seed_and_epoch(prefetch):
    make = lambda seed: DataLoader(ArrayDataset(X, Y), 4, shuffle=True, seed=seed, prefetch=prefetch)
    loader = make(3)
    epochs = [epoch_of(loader) for _ in range(3)]
    assert loader.epoch == 3 and loader.position == 0
    orders = [[n for _, y in epoch for n in y] for epoch in epochs]
    assert all(sorted(order) == Y.tolist() for order in orders)
    assert len({tuple(order) for order in orders}) == 3 and Y.tolist() not in orders
    assert all(X[y].tolist() == x for epoch in epochs for x, y in epoch)
    again, other = make(3), make(4)
    assert [epoch_of(again) for _ in range(3)] == epochs and epoch_of(other) != epochs[0]


def test_the_order_is_fixed_for_good():
    """It is part of what a checkpoint means: neither NumPy's generators nor this file may change it."""
    loader = DataLoader(np.arange(8), 8, shuffle=True, seed=0)
    assert [b.tolist() for _ in range(2) for b in loader] == FIXED


FIXED = [[5, 6, 3, 7, 1, 2, 0, 4], [1, 7, 2, 4, 6, 0, 5, 3]]


def test_the_order_does_not_depend_on_other_random_numbers():
    loader = DataLoader(Y, 4, shuffle=True, seed=3)
    expected = [b.tolist() for b in loader]
    sadl.random.seed(9)
    before = sadl.random.get_state()["counter"]
    loader = DataLoader(Y, 4, shuffle=True, seed=3)
    assert [b.tolist() for b in loader] == expected
    assert sadl.random.get_state()["counter"] == before


def test_without_a_seed():
    orders = {tuple(DataLoader(np.arange(100), 100, shuffle=True).__iter__().__next__().tolist()) for _ in range(3)}
    assert len(orders) == 3


@prefetches
def test_transforms_repeat_with_seed_epoch_and_batch(prefetch):
    noisy = lambda batch, rng: batch + rng.standard_normal(len(batch))
    make = lambda: DataLoader(np.zeros(6), 2, seed=1, transform=noisy, prefetch=prefetch)
    first = make()
    epochs = [[b.tolist() for b in first] for _ in range(2)]
    assert len({n for epoch in epochs for batch in epoch for n in batch}) == 12
    second = make()
    next(iter(second))
    third = make()
    third.load_state(second.get_state())
    assert [b.tolist() for b in third] == epochs[0][1:] and [b.tolist() for b in third] == epochs[1]


# ---- loops that are left, and states ---------------------------------------------------------------------------


@prefetches
def test_a_loop_that_was_left_is_over(prefetch):
    make = lambda: DataLoader(ArrayDataset(X, Y), 4, shuffle=True, seed=3, prefetch=prefetch)
    whole = make()
    epochs = [epoch_of(whole) for _ in range(3)]
    loader = make()
    for x, y in loader:
        assert [x.tolist(), y.tolist()] == epochs[0][0] and (loader.epoch, loader.position) == (0, 1)
        break
    assert epoch_of(loader) == epochs[1] and epoch_of(loader) == epochs[2]
    iter(loader)  # not even begun
    assert loader.epoch == 3 and epoch_of(loader) == epoch_of(whole)


@prefetches
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("position", range(8))
def test_going_on_at_every_position(position, shuffle, prefetch, tmp_path):
    make = lambda seed: DataLoader(ArrayDataset(X, Y), 4, shuffle=shuffle, seed=seed, prefetch=prefetch)

    def batches(loader, epochs):
        while loader.epoch < epochs:
            for x, y in loader:
                yield x.tolist(), y.tolist()

    expected = list(batches(make(3), 3))
    loader = make(3)
    run = batches(loader, 3)
    assert [next(run) for _ in range(position)] == expected[:position]
    sadl.save(loader.get_state(), tmp_path / "state.sadl")
    run.close()
    again = make(99)
    again.load_state(sadl.load(tmp_path / "state.sadl"))
    assert list(batches(again, 3)) == expected[position:]


def test_going_on_behind_the_last_batch():
    loader = DataLoader(Y, 5)
    run = iter(loader)
    next(run), next(run)
    state = loader.get_state()
    assert (state["epoch"], state["position"]) == (0, 2)
    loader.load_state(state)
    assert list(loader) == [] and loader.epoch == 1 and len(list(loader)) == 2


def test_states_that_do_not_fit():
    loader = DataLoader(Y, 5, seed=0)
    state = loader.get_state()
    for other, match in (
        (DataLoader(Y, 4), r"batch_size=5 \(now 4\)"),
        (DataLoader(Y[1:], 5), r"samples=10 \(now 9\)"),
        (DataLoader(Y, 5, shuffle=True), r"shuffle=0 \(now 1\)"),
    ):
        before = other.get_state()
        with pytest.raises(ValueError, match=match):
            other.load_state(state)
        assert all(np.array_equal(before[k], v) for k, v in other.get_state().items())
    with pytest.raises(KeyError, match=r'"position".*"x"'):
        loader.load_state({**{k: v for k, v in state.items() if k != "position"}, "x": state["epoch"]})
    with pytest.raises(ValueError, match="negative"):
        loader.load_state({**state, "position": np.array(-1)})


@prefetches
def test_two_loops_at_once_are_refused(prefetch):
    loader = DataLoader(Y, 2, prefetch=prefetch)
    first = iter(loader)
    next(first)
    second = iter(loader)
    next(second)
    with pytest.raises(RuntimeError, match="another loop over this loader"):
        next(first)
    assert [b.tolist() for b in second] == [[2, 3], [4, 5], [6, 7], [8, 9]]
    third = iter(loader)
    next(third)
    loader.load_state(loader.get_state())
    with pytest.raises(RuntimeError, match="load_state"):
        next(third)


# ---- the thread ------------------------------------------------------------------------------------------------


def wait_for(condition):
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    assert condition()


class Counting(Dataset):
    """Notes what was asked for, and fails at one sample."""

    def __init__(self, n, bad=None):
        self.n, self.bad, self.asked = n, bad, []

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.asked.append((i, threading.current_thread().name))
        if i == self.bad:
            raise OSError(f"sample {i} cannot be read")
        return i


def test_the_thread_is_at_most_so_far_ahead():
    dataset = Counting(100)
    run = iter(DataLoader(dataset, prefetch=3))
    assert dataset.asked == []  # it starts with the loop
    next(run)
    wait_for(lambda: len(dataset.asked) == 5)  # one handed out, three that wait, one in the hand
    time.sleep(0.05)
    assert len(dataset.asked) == 5 and {name for _, name in dataset.asked} == {"sadl-data"}
    next(run)
    wait_for(lambda: len(dataset.asked) == 6)
    run.close()
    assert not threads()


def test_without_a_thread():
    dataset = Counting(10)
    run = iter(DataLoader(dataset, prefetch=0))
    next(run)
    assert dataset.asked == [(0, threading.current_thread().name)]
    assert not threads()


def test_the_thread_ends_with_the_loop():
    loader = DataLoader(Counting(100), prefetch=2)
    for _ in loader:
        break
    assert not threads()
    with pytest.raises(ZeroDivisionError):
        for _ in loader:
            raise ZeroDivisionError
    gc.collect()
    wait_for(lambda: not threads())
    run = iter(loader)
    next(run)
    assert len(threads()) == 1
    del run
    gc.collect()
    assert not threads()


@prefetches
def test_errors_are_raised_when_it_is_their_turn(prefetch):
    loader = DataLoader(Counting(10, bad=5), batch_size=2, prefetch=prefetch)
    found = []
    with pytest.raises(OSError, match="sample 5 cannot be read") as error:
        for batch in loader:
            found.append(batch.tolist())
            time.sleep(0.01)
    assert found == [[0, 1], [2, 3]] and loader.position == 2
    assert error.value.__notes__ == [
        "While a DataLoader made batch 2 of epoch 0, of 10 samples as len() of the dataset says."
    ]
    assert any(entry.name == "__getitem__" for entry in error.traceback)
    loader.dataset.bad = None
    loader.load_state(loader.get_state())
    assert [b.tolist() for b in loader] == [[4, 5], [6, 7], [8, 9]]  # the run can go on


def test_errors_that_nobody_waits_for():
    run = iter(DataLoader(Counting(10, bad=1), prefetch=5))
    next(run)
    run.close()
    assert not threads()


def test_grad_mode_is_that_of_the_loop():
    class Modes(Counting):
        def __getitem__(self, i):
            return sadl.get_current_global_grad_mode()

    loader = DataLoader(Modes(3))
    with sadl.no_grad():
        assert [b.tolist() for b in loader] == [[False]] * 3
    assert [b.tolist() for b in loader] == [[True]] * 3


# ---- generators ------------------------------------------------------------------------------------------------


def numbers(n):
    def make():
        yield from ((np.float32(i), i) for i in range(n))

    return make


@prefetches
def test_generators(prefetch):
    loader = DataLoader(numbers(5), batch_size=2, prefetch=prefetch)
    for _ in range(2):
        assert epoch_of(loader) == [[[0, 1], [0, 1]], [[2, 3], [2, 3]], [[4], [4]]]
    assert loader.epoch == 2
    with pytest.raises(TypeError, match="no known length"):
        len(loader)
    loader = DataLoader(GeneratorDataset(numbers(5), 4), batch_size=2, prefetch=prefetch)
    assert len(loader) == 2 and len(list(loader)) == 2
    loader = DataLoader(numbers(5), batch_size=2, drop_last=True, prefetch=prefetch)
    assert [len(y) for _, y in loader] == [2, 2]


@prefetches
def test_a_generator_that_ends_early(prefetch):
    loader = DataLoader(GeneratorDataset(numbers(5), 8), batch_size=2, prefetch=prefetch)
    found = []
    with pytest.raises(ValueError, match=r"ended after 5 samples, before the 8 that `length` says.*Instead: its true"):
        found.extend(len(y) for _, y in loader)
    assert found == [2, 2]
    loader = DataLoader(lambda: iter(()), prefetch=prefetch)
    with pytest.raises(ValueError, match="ended after 0 samples"):
        list(loader)
    loader = DataLoader(numbers(3), 4, drop_last=True, prefetch=prefetch)
    with pytest.raises(ValueError, match=r"before the first batch of 4.*drop_last=False"):
        list(loader)


class Stream:
    """Samples that can only be gone through, as of torch's IterableDataset."""

    def __iter__(self):
        return iter(range(5))


class Measured(Stream):
    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length


@prefetches
def test_what_can_be_iterated_again(prefetch):
    for dataset in (Stream(), Measured(5)):
        loader = DataLoader(dataset, 2, prefetch=prefetch)
        for _ in range(2):
            assert [b.tolist() for b in loader] == [[0, 1], [2, 3], [4]]
    assert len(loader) == 3 and [b.tolist() for b in DataLoader(Measured(4), 2)] == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="ended after 5 samples, before the 7"):
        list(DataLoader(Measured(7), 2, prefetch=prefetch))


@prefetches
def test_a_length_that_is_not_true(prefetch):
    class Liar(Dataset):
        def __len__(self):
            return 10

        def __getitem__(self, i):
            return [0, 1, 2, 3, 4, 5, 6][i]

    loader = DataLoader(Liar(), 4, prefetch=prefetch)
    found = []
    with pytest.raises(IndexError, match="out of range") as error:
        found.extend(b.tolist() for b in loader)
    assert found == [[0, 1, 2, 3]]
    assert error.value.__notes__ == [
        "While a DataLoader made batch 1 of epoch 0, of 10 samples as len() of the dataset says."
    ]


def test_a_generator_that_is_used_up():
    once = numbers(4)()
    with pytest.raises(TypeError, match=r"lasts for one epoch only.*lambda: make"):
        DataLoader(once, 2)
    with pytest.raises(TypeError, match=r"lasts for one epoch only"):
        GeneratorDataset(once)
    loader = DataLoader(lambda: once, 2)
    assert len(list(loader)) == 2
    with pytest.raises(ValueError, match="ended after 0 samples"):
        list(loader)


@prefetches
@pytest.mark.parametrize("length", [None, 7])
def test_going_on_in_a_generator(length, prefetch):
    make = lambda: DataLoader(GeneratorDataset(numbers(7), length), 3, prefetch=prefetch)
    expected = epoch_of(make())
    for position in range(4):
        loader = make()
        run = iter(loader)
        for _ in range(position):
            next(run)
        again = make()
        again.load_state(loader.get_state())
        assert epoch_of(again) == expected[position:] and epoch_of(again) == expected
        run.close()
    state = loader.get_state()
    shorter = DataLoader(numbers(5), 3, prefetch=prefetch)
    if length is None:
        shorter.load_state(state)
        with pytest.raises(ValueError, match="ended after 5 samples, before the batch 3 at which to go on"):
            list(shorter)


def test_generators_are_closed():
    closed = []

    def make():
        try:
            yield from range(100)
        finally:
            closed.append(True)

    for prefetch in (0, 2):
        for _ in DataLoader(make, prefetch=prefetch):
            break
        gc.collect()
        assert closed.pop()


# ---- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, error, match",
    [
        (lambda: DataLoader(Y, 0), ValueError, "batch_size=0"),
        (lambda: DataLoader(Y, 2.0), ValueError, "batch_size=2.0"),
        (lambda: DataLoader(Y, 2, prefetch=-1), ValueError, "prefetch=-1"),
        (lambda: DataLoader(Y, 11, drop_last=True), ValueError, "10 samples make no batch of 11"),
        (lambda: DataLoader([], 1), ValueError, "0 samples make no batch"),
        (lambda: DataLoader(Y, 1, seed=-1), ValueError, "negative"),
        (lambda: DataLoader(numbers(3), shuffle=True), ValueError, "its own order"),
        (lambda: DataLoader(3), TypeError, "a int is no dataset"),
        (lambda: GeneratorDataset(numbers(3), 0), ValueError, "length=0"),
        (lambda: ArrayDataset(), ValueError, "none"),
        (lambda: ArrayDataset(X, Y[1:]), ValueError, r"\(10, 2\), \(9,\)"),
        (lambda: ArrayDataset(np.float32(1)), ValueError, r"\(\)"),
        (lambda: collate([1, (2, 3)]), ValueError, "samples 0 and 1 of a batch are nested"),
        (lambda: collate([np.ones(2), np.ones(2), np.ones(3)]), ValueError, r"0 and 2 .* shapes \(2,\) and \(3,\)"),
        (lambda: collate([object(), object()]), TypeError, r"cannot be made of object.*Instead: samples of arrays"),
        (lambda: collate([{1}, {2}]), TypeError, "cannot be made of set"),
        (lambda: DataLoader((X, Y)), TypeError, r"a tuple of arrays.*ArrayDataset\(x, y\)"),
        (lambda: DataLoader((X, [1, 2, 3]), 2), TypeError, r"a tuple of arrays.*ArrayDataset\(x, y\)"),
        (lambda: DataLoader({"x": X}), TypeError, r"a dict of arrays.*ArrayDataset\(x, y\)"),
        (Dataset, TypeError, "abstract"),
    ],
)
def test_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_not_within_a_program():
    loader = DataLoader(ArrayDataset(X, Y), 5)

    def total():
        return sum(np.sum(sadl.tensor(x)) for x, _ in loader)

    with pytest.raises(sadl.CaptureError, match=r"loop over a DataLoader.*as an argument"):
        sadl.compile(total)()


def test_training_from_a_loader():
    def run(compiled):
        f = sadl.Linear(dim_in=2, dim_out=10, rng=0)
        optimizer = sadl.Adam(f, lr=0.01)

        def step(x, y):
            optimizer.zero_grad()
            loss = sadl.functional.cross_entropy(f(x), y)
            optimizer.backward(loss)
            optimizer.step()
            return loss

        step = sadl.compile(step) if compiled else step
        loader = DataLoader(ArrayDataset(X / 20, Y), 5, shuffle=True, seed=0)
        return [float(step(x, y)) for _ in range(10) for x, y in loader]

    np.testing.assert_allclose(run(True), run(False), rtol=1e-5)
