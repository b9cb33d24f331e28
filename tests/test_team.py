"""The thread team: the same bits for any number of threads, many callers at once, and a forked child.

Takes a training step large enough to be cut into tiles.
"""

import multiprocessing
import threading

import numpy as np
import pytest

import sadl
import sadl.functional as F
from sadl.compiler.products import tile_of


def make_step():
    """A step with products, row kernels with scratch, column sums and an update, all of them cut into tiles."""
    sadl.random.seed(0)
    model = sadl.Mlp([sadl.Linear(dim_in=256, dim_out=512), sadl.ReLU(), sadl.Linear(dim_in=512, dim_out=384)])
    optimizer = sadl.SGD(model, lr=0.1, momentum=0.9)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return model, sadl.compile(step)


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((512, 256)).astype(np.float32), rng.integers(0, 384, 512)


def train(threads, steps=4):
    with sadl.config(threads=threads):
        model, step = make_step()
        losses = [float(step(*data())) for _ in range(steps)]
    return losses, [np.array(p) for p in model.parameters], step


def test_the_step_is_cut_into_tiles():
    *_, step = train(1)
    rows = step._runners[0]._program._rows
    assert sum(tile < upper for _, _, upper, tile in rows) >= 5


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_same_bits_for_any_number_of_threads(threads):
    losses, parameters, _ = train(1)
    others, other_parameters, _ = train(threads)
    assert losses == others
    for a, b in zip(parameters, other_parameters, strict=True):
        assert a.tobytes() == b.tobytes()


def test_callers_in_many_threads_get_their_own_results():
    f = sadl.compile(lambda x: np.sum(np.exp(x - np.max(x, axis=1, keepdims=True)), axis=1))
    inputs = [np.random.default_rng(i).standard_normal((2048, 64)) for i in range(4)]
    with sadl.config(threads=2):
        expected = [np.array(f(x)) for x in inputs]
        results = [[] for _ in inputs]

        def run(i):
            results[i] += [np.array(f(inputs[i])) for _ in range(30)]

        workers = [threading.Thread(target=run, args=(i,)) for i in range(4)]
        for w in workers:
            w.start()
        for w in workers:
            w.join()
    for want, got in zip(expected, results, strict=True):
        assert len(got) == 30
        for g in got:
            np.testing.assert_allclose(g, want, rtol=1e-14)


def _child(queue, step):
    queue.put(float(step(*data())))


@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
def test_a_forked_child_has_a_team_of_its_own():
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system does not fork")
    with sadl.config(threads=2):
        _, step = make_step()
        for _ in range(3):
            step(*data())
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=_child, args=(queue, step))
        child.start()
        loss = queue.get(timeout=60)
        child.join(60)
        assert loss == float(step(*data()))


@pytest.mark.parametrize("upper", [1, 5, 64, 100, 1000, 4096])
@pytest.mark.parametrize("tiles", [0, 1, 3, 64, 1000])
def test_tiles_cover_the_range(upper, tiles):
    tile = tile_of(upper, tiles, 16)
    assert 1 <= tile <= upper
    assert -(-upper // tile) <= max(1, tiles)
