"""Tests of `sadl.random`: the bits are those of the paper, and the numbers are distributed as they should be.

The stream is the same in eager code and in programs, after a seed or a state, and when something runs twice.
"""

import copy
import json
import math
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import sadl
from sadl import random
from sadl.kernels import vmath
from sadl.ops.random import CHUNK, GROUP, random_bits_24, random_bits_26, random_bits_27, words
from sadl.tape import bind

DTYPES = [np.float16, np.float32, np.float64]


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)


# ---- bits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "counter, key, expected",
    [  # "kat_vectors" of Random123, philox4x32 with 10 rounds
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_known_answers(counter, key, expected):
    numbers = lambda text: np.array([int(word, 16) for word in text.split()], np.uint32)
    blocks = np.stack([np.zeros(4, np.uint32), numbers(counter)], axis=1)
    found = random.philox4x32(blocks, numbers(key))
    assert found.dtype == np.uint32 and found.shape == (4, 2)
    assert found[:, 1].tolist() == numbers(expected).tolist()


def philox_in_python(counter, key):
    """The definition, one block at a time."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


KEYS = [0, 123 + (2**31 - 1 << 32), -1, -(2**63)]
COUNTERS = [0, 7, GROUP - 2, 2**32 - 2, 2**40 + 5]


def expected_words(key, counter, n):
    halves = [key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF]
    return [w for b in range(counter, counter + n) for w in philox_in_python([b % 2**32, b >> 32, 0, 0], halves)]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("counter", COUNTERS)
def test_words_are_those_of_consecutive_blocks(counter, key):
    assert words(np.int64(key), np.array(counter), 13).tolist() == expected_words(key, counter, 4)[:13]
    places = np.arange(13).reshape(1, 13)
    for shift, op in ((8, random_bits_24), (6, random_bits_26), (5, random_bits_27)):
        bits = op.run(places, np.array(counter), np.int64(key))
        assert bits.dtype == np.int64 and bits.shape == (1, 13)
        assert bits[0].tolist() == [w >> shift for w in expected_words(key, counter, 4)[:13]]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("counter", COUNTERS)
def test_words_of_kernels(counter, key):
    expected = expected_words(key, counter, 4)
    state = [np.int64(v) for v in (counter, key)]
    assert [int(vmath.philox(np.int64(i), *state)) for i in range(16)] == expected
    compiled = sadl.compile(lambda place, counter, key: bind(random_bits_24, place, counter, key))
    for _ in range(3):
        found = compiled(sadl.tensor(np.arange(16)), *map(np.asarray, state))
    assert found.tolist() == [w >> 8 for w in expected] and "philox" in compiled.kernels[0].source


def test_words_do_not_depend_on_how_many_are_drawn():
    key, many = 5, words(5, 10, 4 * (2 * CHUNK + 3)).tolist()
    for n in (1, 4, 100, GROUP - 1, GROUP, GROUP + 1, 4 * GROUP + 5):
        for start in (0, 3, GROUP - 12, CHUNK - 2):
            assert words(key, 10 + start, n).tolist() == many[4 * start : 4 * start + n]
    assert words(key, 10, 0).tolist() == []


# ---- distributions ---------------------------------------------------------------------------------------------


def distance(sample, cdf):
    """The largest distance between the distribution of a sample and that of a function, times sqrt(n)."""
    x = np.sort(np.asarray(sample, np.float64).ravel())
    values = np.array([cdf(v) for v in x])
    steps = np.arange(len(x) + 1) / len(x)
    return max(np.max(np.abs(values - steps[1:])), np.max(np.abs(values - steps[:-1]))) * math.sqrt(len(x))


LIMIT = 1.95  # of Kolmogorov and Smirnov's test at 0.1 %


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_uniform(dtype):
    x = random.uniform((100, 200), dtype=dtype)
    assert isinstance(x, sadl.Tensor) and x.dtype == dtype and not x.requires_grad
    assert distance(x, lambda v: v) < LIMIT
    assert np.min(x) >= 0 and np.max(x) < 1


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_normal(dtype):
    x = random.normal(20001, dtype=dtype)
    assert isinstance(x, sadl.Tensor) and x.dtype == dtype and x.shape == (20001,)
    assert distance(x, lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2)))) < LIMIT
    x = np.asarray(x).reshape(3, -1)  # halves of pairs are uncorrelated, and so are their squares
    for v in (x, x**2):
        assert np.all(np.abs(np.corrcoef(v) - np.eye(3)) < 4 / math.sqrt(v.shape[1]))


def test_the_distance_sees_what_is_wrong():
    x = np.asarray(random.uniform(20000))
    assert distance(x**1.03, lambda v: v) > LIMIT and distance(x * 0.98, lambda v: v) > LIMIT


@pytest.mark.parametrize("dtype", DTYPES)
def test_ranges(dtype):
    x = random.uniform(100_000, low=-3.0, high=-2.0, dtype=dtype)
    assert x.dtype == dtype and np.min(x) >= -3 and np.max(x) < -2 and abs(float(np.mean(x, dtype=float)) + 2.5) < 0.01
    x = random.normal(100_000, mean=5.0, std=0.5, dtype=dtype)
    assert x.dtype == dtype
    assert abs(np.mean(x, dtype=float) - 5) < 0.01 and abs(np.std(x, dtype=float) - 0.5) < 0.01
    assert np.all(np.isfinite(random.normal(1_000_000, dtype=dtype)))
    assert np.array_equal(random.uniform(5, 2.0, 2.0, dtype), np.full(5, 2, dtype))
    assert np.array_equal(random.normal(5, 2.0, 0.0, dtype), np.full(5, 2, dtype))


def test_the_extremes_of_bits(monkeypatch):
    for value in (0, 2**32 - 1):
        constant = lambda key, counter, n, value=value: np.full(n, value, np.uint32)
        monkeypatch.setattr("sadl.ops.random.words", constant)
        for dtype in DTYPES:
            u = random.uniform(3, dtype=dtype)
            assert np.all(u == (0 if value == 0 else 1 - np.finfo(dtype).eps / 2))
            assert np.all(random.uniform(3, 0.1, 0.3, dtype) < np.asarray(0.3, dtype))
            z = random.normal(4, dtype=dtype)
            assert np.all(np.isfinite(z)) and np.all(np.abs(z) < 9)
        assert random.bernoulli(1.0, 2).tolist() == [1, 1] and random.bernoulli(0.0, 2).tolist() == [0, 0]


def test_bernoulli():
    x = random.bernoulli(0.3, (100, 1000))
    assert x.dtype == np.float32 and np.unique(x).tolist() == [0, 1] and abs(float(np.mean(x)) - 0.3) < 0.005
    assert random.bernoulli(0.5, 3, bool).dtype == bool and random.bernoulli(0.5, 3, np.int8).dtype == np.int8
    p = np.array([0.0, 0.25, 0.75, 1.0])
    means = np.mean(random.bernoulli(p, (20000, 4)), axis=0)
    np.testing.assert_allclose(means, p, atol=0.015)
    assert means[0] == 0 and means[3] == 1
    assert not random.bernoulli(sadl.Tensor(p, requires_grad=True), (4,)).requires_grad


def test_permutation():
    p = random.permutation(1000)
    assert p.dtype == np.int64 and np.array_equal(np.sort(p), np.arange(1000)) and not np.array_equal(p, np.sort(p))
    assert random.permutation(0).tolist() == [] and random.permutation(1).tolist() == [0]
    counts = {}
    for _ in range(2400):
        key = tuple(random.permutation(4).tolist())
        counts[key] = counts.get(key, 0) + 1
    chi2 = sum((n - 100) ** 2 / 100 for n in counts.values())
    assert len(counts) == 24 and chi2 < 50  # 0.1 % at 23 degrees of freedom


def test_gradients_by_the_parameters_of_a_distribution():
    m, s = sadl.tensor([1.0, 2.0], requires_grad=True), sadl.tensor(0.5, requires_grad=True)
    z = np.asarray(random.Generator(1).normal((3, 2), dtype=np.float64))
    x = random.normal((3, 2), m, s, np.float64, random.Generator(1))
    np.testing.assert_allclose(x, [1.0, 2.0] + 0.5 * z, rtol=1e-14)
    np.sum(x).backward()
    assert m.grad.tolist() == [3, 3] and np.allclose(s.grad, np.sum(z))
    high = sadl.tensor(3.0, requires_grad=True)
    np.sum(random.uniform(4, 1.0, high)).backward()
    assert 0 < high.grad < 4


@pytest.mark.parametrize(
    "call, error, match",
    [
        (lambda: random.uniform((2, -1)), ValueError, "shape"),
        (lambda: random.uniform(2.5), ValueError, "shape"),
        (lambda: random.uniform(2, 1.0, 0.0), ValueError, "low=1.0 and high=0.0"),
        (lambda: random.uniform(2, 0.0, float("nan")), ValueError, "no interval"),
        (lambda: random.uniform(2, dtype=np.int64), ValueError, "dtype=int64"),
        (lambda: random.normal(2, std=-1.0), ValueError, "std=-1.0"),
        (lambda: random.normal(2, dtype=np.complex64), ValueError, "dtype=complex64"),
        (lambda: random.bernoulli(1.5, 2), ValueError, "p=1.5"),
        (lambda: random.bernoulli(float("nan"), 2), ValueError, "p=nan"),
        (lambda: random.uniform(3, np.array([0, 2, 3]), 1), ValueError, "low=2 and high=1 .*2 of 3 elements"),
        (lambda: random.uniform((2, 2), np.zeros((2, 1)), np.array([1, np.nan])), ValueError, "high=nan .*2 of 4 el"),
        (lambda: random.normal(2, std=np.array([1.0, -0.5])), ValueError, "std=-0.5 .*1 of 2 elements"),
        (lambda: random.normal(2, std=sadl.tensor([1.0, -0.5])), ValueError, "std=-0.5"),
        (lambda: random.bernoulli(np.array([0.5, 1.5]), 2), ValueError, "p=1.5 .*1 of 2 elements"),
        (lambda: random.bernoulli([0.5, np.nan], 2), ValueError, "p=nan"),
        (lambda: sadl.compile(lambda: random.bernoulli(np.array([-0.5]), 2))(), ValueError, "p=-0.5"),
        (lambda: random.permutation(-1), ValueError, "n=-1"),
        (lambda: random.permutation(np.arange(3)), ValueError, "permutation"),
        (lambda: random.uniform(2, rng=np.random.default_rng(0)), TypeError, "NumPy's generators"),
        (lambda: random.Generator(-1), ValueError, "negative"),
        (lambda: random.Generator("a"), TypeError, "SeedSequence"),
    ],
)
def test_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_what_is_refused_uses_up_nothing():
    before = random.get_state()["counter"]
    with pytest.raises(ValueError):
        random.uniform((2, -1))
    assert random.get_state()["counter"] == before


def test_numbers_are_made_of_the_words():
    """What a seed stands for is part of what a checkpoint means."""
    g = random.Generator(0)
    assert g.key == FIRST_KEY
    bits = np.array(expected_words(FIRST_KEY, 0, 2), np.uint64)
    assert np.array_equal(g.uniform(5), (bits[:5] >> 8) / 2**24)
    g.seed(0)
    assert np.array_equal(
        g.uniform((2, 2), dtype=np.float64), ((bits[::2] >> 5) * 2**26 + (bits[1::2] >> 6)).reshape(2, 2) / 2**53
    )
    g.seed(0)
    assert np.array_equal(g.bernoulli(0.3, 8), bits < 0.3 * 2**32)
    g.seed(0)
    assert np.array_equal(g.permutation(4), np.argsort(bits[::2] * 2**32 + bits[1::2]))
    g.seed(0)
    u, v = (bits[:2] + 0.5) / 2**32
    z = [math.sqrt(-2 * math.log(u)) * f(2 * math.pi * v) for f in (math.cos, math.sin)]
    np.testing.assert_allclose(g.normal(2), z, rtol=1e-5)


FIRST_KEY = -2653508690321835842


# ---- seeds and states ------------------------------------------------------------------------------------------


def draws():
    """What all functions draw, and NumPy's generator."""
    return [
        random.uniform((3,)).tolist(),
        random.normal((2, 2), dtype=np.float64).tolist(),
        random.bernoulli(0.5, 7).tolist(),
        random.permutation(5).tolist(),
        random.generator().random(),
        random.generator().integers(2**20, dtype=np.uint32),
    ]


def test_a_seed_starts_anew():
    random.seed(5)
    first, second = draws(), draws()
    assert first != second
    random.seed(5)
    assert [draws(), draws()] == [first, second]
    random.seed([5, 1])
    assert draws() != first


def test_a_state_goes_on():
    draws()
    state = random.get_state()
    expected = [draws(), draws()]
    random.load_state(state)
    assert [draws(), draws()] == expected


def test_states_on_disk(tmp_path):
    for suffix in (".sadl", ".safetensors"):
        random.generator().integers(2**20, dtype=np.uint32)  # half of 64 bits are left over
        sadl.save(random.get_state(), tmp_path / f"state{suffix}")
        expected = draws()
        random.seed(77)
        random.load_state(sadl.load(tmp_path / f"state{suffix}"))
        assert draws() == expected


def test_a_bad_state_changes_nothing():
    state = random.get_state()
    with pytest.raises(KeyError, match=r'"numpy".*Unexpected.*"x"'):
        random.load_state({"key": state["key"], "counter": np.array(9), "x": state["numpy"]})
    with pytest.raises(ValueError, match="Shape mismatch"):
        random.load_state({**state, "counter": np.array(9), "key": np.ones(3, np.int64)})
    assert random.get_state()["counter"] == state["counter"]


def test_generators_of_ones_own():
    a, b, c = random.Generator(1), random.Generator(1), random.Generator(2)
    x, y, z = (g.uniform(100) for g in (a, b, c))
    assert np.array_equal(x, y) and not np.array_equal(x, z)
    assert np.array_equal(random.uniform(100, rng=1), x) and np.array_equal(random.uniform(100, rng=1), x)
    state = a.get_state()
    first = [a.normal(3).tolist(), a.bernoulli(0.5, 4).tolist(), a.permutation(4).tolist()]
    b.load_state(state)
    assert [b.normal(3).tolist(), b.bernoulli(0.5, 4).tolist(), b.permutation(4).tolist()] == first
    assert a.counter == b.counter == 25 + 1 + 1 + 2
    a.seed(1)
    assert np.array_equal(a.uniform(100), x)
    assert "counter=25" in repr(a)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_of_generators(again):
    a = random.Generator(1)
    a.uniform(5)
    b = again(a)
    assert np.array_equal(a.uniform(5), b.uniform(5)) and a.key is not b.key


def test_a_generator_is_part_of_what_holds_it():
    class Noisy(sadl.Function):
        def __init__(self, seed):
            self.rng = random.Generator(seed)

        def __call__(self, x):
            return x + self.rng(x.shape)

    f, g = Noisy(1), Noisy(2)
    f(np.ones(6))
    assert list(f.get_state()) == ["rng.key", "rng.counter"] and type(f(np.ones(2))) is type(sadl.tensor(1.0))
    g.load_state(f.get_state())
    run = sadl.compile(g)
    for _ in range(4):
        assert np.array_equal(run(np.ones(6)), f(np.ones(6)))
    assert f.rng.counter == g.rng.counter == 2 + 1 + 4 * 2
    assert sadl.summary(f, np.ones(6)).count("Generator") == 0 and f.rng.counter == 11


def test_layers_start_from_numpys_generators():
    first = sadl.Linear(dim_in=3, dim_out=2, rng=3).W.tolist()
    assert sadl.Linear(dim_in=3, dim_out=2, rng=np.random.default_rng(3)).W.tolist() == first
    a, b = random.Generator(3), random.Generator(3)
    both = [sadl.Linear(dim_in=3, dim_out=2, rng=a).W.tolist() for _ in range(2)]
    assert both == [sadl.Linear(dim_in=3, dim_out=2, rng=b).W.tolist() for _ in range(2)]
    assert both[0] != both[1] and isinstance(random.generator(a), np.random.Generator)


# ---- programs --------------------------------------------------------------------------------------------------


def draw_all(x):
    keep = random.bernoulli(0.5, x.shape)
    return x * keep, random.uniform(x.shape, 1.0, 2.0), random.normal(5, dtype=np.float64), random.permutation(6)


def test_the_stream_is_the_same_eager_and_compiled():
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = [draw_all(sadl.tensor(x)) for _ in range(6)]
    state = random.get_state()
    random.seed(0)
    compiled = sadl.compile(draw_all)
    for n, rows in enumerate(expected):
        for a, b in zip((compiled if n != 4 else draw_all)(sadl.tensor(x)), rows, strict=True):
            assert np.array_equal(a, b)
    assert compiled.stats.captures == 2
    assert all(np.array_equal(v, state[k]) for k, v in random.get_state().items())
    random.seed(0)  # programs see the seed, too
    assert all(np.array_equal(a, b) for a, b in zip(compiled(sadl.tensor(x)), expected[0], strict=True))


def test_generators_in_programs():
    a, b = random.Generator(4), random.Generator(4)
    compiled = sadl.compile(lambda x: x + a.normal(x.shape))
    x = np.zeros((3, 3), np.float32)
    for _ in range(5):
        assert np.array_equal(compiled(x), b.normal((3, 3)))
    assert a.counter == b.counter == 5 * 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_masks_are_drawn_in_the_kernel_that_uses_them(dtype):
    def f(x):
        return np.where(random.bernoulli(0.25, x.shape, bool), x * 4, 0) + random.uniform(x.shape, dtype=dtype)

    compiled = sadl.compile(f)
    for shape in ((5,), (3, 4, 5), (1, 7, 1), (1, 1), (300, 200)):
        found = []
        for run in (f, compiled):
            random.seed(5)
            found.append([run(sadl.tensor(np.ones(shape, dtype))).tolist() for _ in range(4)])
        assert found[0] == found[1]
    assert not any(p.library_calls for r in compiled._runners for p in r.programs)


def test_sizes_that_are_no_kernels():
    compiled = sadl.compile(lambda: (random.uniform(()), random.uniform((0, 3)), random.uniform(2, dtype=np.float16)))
    assert [[a.shape for a in compiled()] for _ in range(3)] == [[(), (0, 3), (2,)]] * 3


def test_no_float64_in_single_precision_programs():
    graph = sadl.make_ir(
        lambda x: x * random.bernoulli(0.5, x.shape) + random.uniform(x.shape) + random.normal(x.shape)
    )
    kinds = {v.aval.dtype.name for e in graph(np.ones(4, np.float32)).eqns for v in e.outs}
    assert kinds == {"float32", "bool", "int64"}


def test_a_seed_within_a_program():
    with pytest.raises(sadl.CaptureError, match=r"sadl\.random\.seed"):
        sadl.compile(lambda: random.seed(1))()
    g = random.Generator(1)

    def again():
        g.seed(7)
        return g.uniform(3)

    compiled = sadl.compile(again)
    expected = again().tolist()
    assert [compiled().tolist() for _ in range(4)] == [expected] * 4


PROGRAM = """
import json
import numpy as np
import sadl
sadl.random.seed(3)
x = np.ones((70, 1000), np.float32)
f = sadl.compile(lambda x: np.sum(x * sadl.random.bernoulli(0.5, x.shape) * sadl.random.normal(x.shape), axis=1))
print(json.dumps([np.asarray(f(x)).tolist() for _ in range(4)]))
"""


def test_numbers_do_not_depend_on_the_number_of_threads(monkeypatch):
    found = []
    for threads in "1", "2", "4":
        monkeypatch.setenv("SADL_THREADS", threads)
        done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    assert found[0] == found[1] == found[2] and found[0][2] != found[0][3]


def test_masks_differ_per_step_and_repeat_with_the_seed():
    w = sadl.Parameter(np.ones(50, np.float32))
    optimizer = sadl.SGD([w], lr=0.0)

    def step():
        optimizer.zero_grad()
        optimizer.backward(np.sum(w * random.bernoulli(0.5, (50,))))
        optimizer.step()

    def masks(step):
        random.seed(1)
        found = []
        for _ in range(5):
            step()
            found.append(np.asarray(w.grad).tolist())
        return found

    eager = masks(step)
    assert all(a != b for a, b in zip(eager, eager[1:], strict=False))
    assert masks(sadl.compile(step)) == eager == masks(step)


# ---- what runs twice -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [False, True], ids=["of the process", "of one's own"])
def test_checkpoint_draws_the_same_again(own):
    g = random.Generator(0) if own else None
    x = sadl.tensor(np.linspace(-1, 1, 20), requires_grad=True)

    def f(x):
        return np.sin(x) * random.bernoulli(0.5, x.shape, rng=g) + random.normal(x.shape, rng=g) * x

    def draw():
        return random.uniform(3, rng=g).tolist()

    random.seed(0)
    np.sum(f(x)).backward()
    expected, after = np.array(x.grad), draw()
    x.grad = None
    random.seed(0)
    if own:
        g.seed(0)
    loss = np.sum(sadl.checkpoint(f)(x))
    assert draw() == after
    following = copy.deepcopy(g or random._counting()).uniform(3).tolist()
    loss.backward()
    assert np.array_equal(x.grad, expected) and draw() == following


def test_nested_checkpoints():
    x = sadl.tensor(np.linspace(-1, 1, 20), requires_grad=True)
    inner = sadl.checkpoint(lambda x: x * random.bernoulli(0.5, x.shape))
    outer = sadl.checkpoint(lambda x: inner(np.sin(x)) + inner(np.cos(x)) * random.uniform(x.shape))
    plain = lambda x: inner.__wrapped__(np.sin(x)) + inner.__wrapped__(np.cos(x)) * random.uniform(x.shape)
    grads = []
    for f in (plain, outer):
        random.seed(2)
        x.grad = None
        np.sum(f(x)).backward()
        grads.append(np.array(x.grad))
        grads.append(random.uniform(2).tolist())
    assert np.array_equal(grads[0], grads[2]) and grads[1] == grads[3]


def test_threads_draw_different_numbers():
    found = []
    run = lambda: found.extend(tuple(random.uniform(4).tolist()) for _ in range(200))
    threads = [threading.Thread(target=run) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(found)) == 800 and random.get_state()["counter"] == 800
