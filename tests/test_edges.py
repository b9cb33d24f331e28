"""Where compiled mode is easily wrong: state behind a gradient, odd numbers and dtypes, shared and read-only memory.

Takes small functions; each is compared with what it does eagerly, or must raise and leave everything as it was.
"""

import threading

import numpy as np
import pytest

import sadl
from sadl import CaptureError
from sadl.kernels import blas


def agrees(fn, *args, calls=3):
    compiled = sadl.compile(fn)
    for _ in range(calls):
        np.testing.assert_array_equal(compiled(*args), fn(*args))


def test_a_gradient_sees_the_state_before_its_update():
    state = sadl.Buffer(np.array([2.0]))

    def fn(x):
        y = x * state.copy()
        with sadl.no_grad():
            state[...] = state + 1
        return y

    compiled = sadl.compile(fn)
    for _ in range(4):
        p, before = sadl.Parameter(np.array([1.0])), float(state[0])
        compiled(p).sum().backward()
        assert p.grad.tolist() == [before]


@pytest.mark.parametrize("fn", [lambda t: t < 300, lambda t: t > -1, lambda t: t < 2**70, lambda t: t + 0 == 300])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_numbers_that_the_dtype_does_not_hold(fn, dtype):
    agrees(fn, np.arange(5, dtype=dtype))


@pytest.mark.parametrize("fn", [np.logical_and, np.logical_or, np.logical_xor])
def test_fractions_as_truth_values(fn):
    agrees(lambda t: fn(t, 0.5), np.arange(-1, 3, dtype=np.int32))


@pytest.mark.parametrize("number", [np.uint64(1), np.float16(0.5), np.longdouble(1.5), np.complex128(1)])
def test_numbers_of_dtypes_that_kernels_do_not_know(number):
    agrees(lambda t: t == number, np.arange(3, dtype=np.int8))


@pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
@pytest.mark.parametrize("fn", [lambda t: t[::-1] * 2, lambda t: np.flip(t) + 1, lambda t: t.T[::-1, ::-1] * 2])
def test_empty_arrays_backwards(fn, shape):
    agrees(fn, np.ones(shape))


def test_gradient_of_item_assignment_by_index_arrays():
    def fn(v):
        z = sadl.zeros(3, dtype=np.float64)
        z[np.array([0, 2])] = v
        return (z * z).sum()

    agrees(sadl.grad(fn), np.ones(2))


def test_held_state_that_is_also_an_argument_later():
    state = sadl.tensor(np.ones(3))

    def fn(b):
        state[...] = state + 1
        return state + b

    compiled = sadl.compile(fn)
    for _ in range(3):
        compiled(np.ones(3))
    for _ in range(2):
        with pytest.raises(CaptureError, match="shares memory with an argument"):
            compiled(state)
    assert state.tolist() == [4, 4, 4]


def test_read_only_arguments_are_not_written():
    def fn(a):
        a[...] = a + 1
        return a.sum()

    compiled = sadl.compile(fn)
    for _ in range(3):
        compiled(np.ones(3))
    x = np.ones(3)
    x.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        compiled(x)
    assert x.tolist() == [1, 1, 1]


def test_large_constants_of_library_calls_are_compared():
    n = [0]

    def fn(t):
        n[0] += 1
        values = np.zeros(3000)
        values[1500] = n[0]
        return np.interp(t, np.arange(3000.0), values)

    compiled = sadl.compile(fn)
    compiled(np.array([1500.0]))
    with pytest.raises(CaptureError, match="changed its values"):
        compiled(np.array([1500.0]))


def test_blas_threads_are_as_they_were():
    get, _ = blas._threads_functions()
    before = get()
    functions = [sadl.compile(lambda x, k=k: (x @ x.T) * k) for k in (1.0, 2.0)]
    x = np.ones((64, 64), np.float32)
    workers = [threading.Thread(target=lambda f=f: [f(x) for _ in range(200)]) for f in functions]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert get() == before


def test_arguments_are_not_kept_alive():
    compiled = sadl.compile(lambda x, k: x * k)
    for k in range(200):
        compiled(np.ones(1000), k / 7)
    shots = [e.shot for entries in compiled._entries.values() for e in entries]
    assert len(shots) <= 64
    assert all(raw is None or raw.size < 1000 for shot in shots for raw in shot.capture.raws)
