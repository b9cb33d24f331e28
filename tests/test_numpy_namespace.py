"""Tests of `sadl.numpy`: NumPy's names, and the functions that NumPy offers no hook for, with their gradients.

Every function is compared with NumPy's own on plain arrays, its gradient with differences, eager and compiled.
"""

import functools
import importlib
import subprocess
import sys
from pathlib import Path

import numpy  # noqa: ICN001  as np is ours here
import pytest

import sadl
import sadl.numpy as np
from sadl import UnrecordedError, check_grads, grad

RNG = numpy.random.default_rng(0)
A = RNG.standard_normal((3, 4))
T = A.T.copy().T  # columns one after the other

MAKE = {  # from the namespace, and an array of shape (3, 4)
    "array": lambda np, x: np.array(x),
    "array of parts": lambda np, x: np.array([x[0], x[1] * 2]),
    "array of numbers": lambda np, x: np.array([[x[0, 0], 1.0], (2.0, x[1, 1] ** 2)]),
    "array, three deep": lambda np, x: np.array([[[x[0, 0]], [x[0, 1]]], [[x[1, 0]], [3]]]),
    "array of an array and a list": lambda np, x: np.array([x[0], [1.0, 2.0, 3.0, x[1, 1]]]),
    "array with dtype": lambda np, x, dtype=numpy.float32: np.array([x[0], x[1]], dtype=dtype),
    "array with ndmin": lambda np, x: np.array(x[0], ndmin=3),
    "array that is one already": lambda np, x: np.array(x, copy=False),
    "array in another order": lambda np, x: np.array(x, order="F"),
    "asarray": lambda np, x: np.asarray(x) * 2,
    "asarray with dtype": lambda np, x, dtype=numpy.float32: np.asarray(x, dtype),
    "asarray of parts": lambda np, x: np.asarray([x[0] * x[1], x[2]]),
    "asarray, a copy": lambda np, x: np.asarray(x, copy=True),
    "asanyarray": lambda np, x: np.asanyarray((x[0], x[1])),
    "ascontiguousarray": lambda np, x: np.ascontiguousarray(x.T),
    "ascontiguousarray of a number": lambda np, x: np.ascontiguousarray(x[0, 0]),
    "asfortranarray": lambda np, x: np.asfortranarray(x),
    "asfortranarray of a number": lambda np, x: np.asfortranarray(x[0, 0]),
    "full": lambda np, x: np.full((2, 3), x[0, 0]),
    "full of rows": lambda np, x: np.full((2, 3, 4), x[0]),
    "full with dtype": lambda np, x, dtype=numpy.float32: np.full(3, x[0, 0], dtype),
    "full of an integer shape": lambda np, x: np.full(4, x[0]),
    "full_like": lambda np, x: np.full_like(numpy.ones((2, 4)), x[0] * x[1]),
    "full_like of itself": lambda np, x: np.full_like(x, x[0, 1]),
    "full_like with shape": lambda np, x: np.full_like(x, x[0, 1], shape=(2, 2), order="F"),
}


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("x", [A, T], ids=["rows", "columns"])
def test_values_are_those_of_numpy(name, x):
    f = MAKE[name]
    expected, found = f(numpy, x), f(np, sadl.Tensor(x, requires_grad=True))
    assert isinstance(found, sadl.Tensor) and found.requires_grad
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    numpy.testing.assert_array_equal(numpy.asarray(found), expected)
    assert type(f(np, x)) is type(expected)


@pytest.mark.parametrize("name", MAKE)
def test_gradients(name):
    f, narrow = MAKE[name], "dtype" in name
    wide = functools.partial(f, dtype=float) if narrow else f
    check_grads(lambda x: wide(np, x) ** 2, (A,))
    expected = grad(lambda x: np.sum(np.sin(wide(np, x))))(A)
    tolerance = {"rtol": 1e-5 if narrow else 1e-12}
    g = grad(lambda x: np.sum(np.sin(f(np, x))))
    numpy.testing.assert_allclose(g(A), expected, **tolerance)
    assert g(A).dtype == A.dtype
    run = sadl.compile(g)
    for _ in range(4):
        found = run(A)
    assert run.stats.programs == 1
    numpy.testing.assert_allclose(found, expected, **tolerance)


def test_layouts():
    t = sadl.Tensor(A, requires_grad=True)
    assert np.ascontiguousarray(t.T).flags.c_contiguous and np.asfortranarray(t).flags.f_contiguous
    assert np.array(t, order="F").flags.f_contiguous and np.asarray(t.T, order="C").flags.c_contiguous
    assert np.full((2, 3), t[0, 0], order="F").flags.f_contiguous


def test_copies_are_made_where_numpy_makes_them():
    t = sadl.Tensor(A, requires_grad=True)
    assert np.asarray(t) is t and np.asanyarray(t, np.float64) is t and np.ascontiguousarray(t) is t
    assert np.array(t, copy=None) is t and np.array(t, copy=False) is t
    for copied in (np.array(t), np.asarray(t, copy=True), np.array(t, np.float32), np.full((3, 4), t)):
        assert not np.shares_memory(copied, t)
    for make in (lambda: np.array([t, t], copy=False), lambda: np.asarray(t, np.float32, copy=False)):
        with pytest.raises(ValueError, match="copy"):
            make()


def test_float32_stays_float32():
    t = sadl.Tensor(A.astype(np.float32), requires_grad=True)
    assert np.array([t[0], t[1]]).dtype == np.full(3, t[0, 0]).dtype == np.float32
    np.sum(np.array([t[0], t[1]]) ** 2).backward()
    assert t.grad.dtype == np.float32


def test_a_tensor_without_a_gradient_stays_a_tensor():
    assert isinstance(np.array([sadl.Tensor(A), A]), sadl.Tensor)


def test_full_like_of_numpy_itself_has_the_gradient_by_what_it_fills_with():
    check_grads(lambda x, y: numpy.full_like(x, y[0]) ** 2 * x, (A, A[0]))
    assert not numpy.full_like(sadl.Tensor(A, requires_grad=True), 2.0).requires_grad


def test_arange_would_lose_a_gradient():
    t = sadl.Tensor(3.0, requires_grad=True)
    with pytest.raises(UnrecordedError, match="linspace"):
        np.arange(0.0, t)
    assert np.arange(2, 5, dtype=float).tolist() == [2, 3, 4] == np.arange(sadl.Tensor(2), 5).tolist()


def test_everything_else_is_numpys():
    ours = {"array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray", "full", "full_like", "arange"}
    for name in numpy.__all__:
        assert (getattr(np, name) is getattr(numpy, name)) == (name not in ours), name
    assert set(dir(np)) >= set(dir(numpy))
    space: dict = {}
    exec("from sadl.numpy import *", space)
    assert space["array"] is np.array and space["tanh"] is numpy.tanh and space["pi"] == numpy.pi
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = np.nothing


@pytest.mark.parametrize("name", ["linalg", "fft", "random", "polynomial"])
def test_submodules(name):
    assert importlib.import_module(f"sadl.numpy.{name}") is getattr(numpy, name) is getattr(np, name)


def test_ways_to_import():
    code = """
import sadl.numpy as np
import sadl.numpy.random as npr
from sadl.numpy.linalg import solve
from sadl import numpy as other
import numpy
assert npr is numpy.random and solve is numpy.linalg.solve and np is other and np.sin is numpy.sin
"""
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=root, check=True)


def test_old_signatures_still_work():
    """Arguments by position, and those that only NumPy knows."""
    numpy.testing.assert_array_equal(np.array([1, 2], float), [1.0, 2.0])
    assert np.array([1, 2], subok=True, ndmin=2).shape == (1, 2)
    assert np.asarray([1], float, "F").dtype == float and np.full(2, 1, int).tolist() == [1, 1]
    assert np.full_like(numpy.ones(2), 3, int, "K", True, (1,)).tolist() == [3]
    assert np.array(A, like=A) is not A
