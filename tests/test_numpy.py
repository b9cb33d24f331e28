"""Tests that NumPy is differentiable: every expression of `numpy_rows`, eager and compiled, to second order.

Takes the rows; compares values with NumPy's, gradients with differences, single precision with double, compiled with
eager. What has no gradient, and whether everything NumPy has is in one of the tables, is in `test_protocol`.
"""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from expressions import by_parts, loss_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_rows import CONSTANTS, DECIDES, INPUTS, ROWS

import sadl
from sadl import check_grads
from sadl.tape import plain
from sadl.tree import flatten

TEXTS = [text for texts in ROWS.values() for text in texts]
each = pytest.mark.parametrize("text", TEXTS)


def function(text, dtype=np.float64):
    """The function that a row describes, of the arrays that occur in it, and these arrays."""
    names = [n for n in INPUTS if re.search(rf"(?<![\w.'\"]){n}\b(?!=)", text)]
    *statements, value = text.split("; ")
    body = "".join(f"    {s}\n" for s in statements)
    space = {"np": np, "sadl": sadl, **CONSTANTS}
    exec(f"def f({', '.join(names)}):\n{body}    return {value}\n", space)
    return space["f"], tuple(INPUTS[n].astype(dtype) for n in names)


def both(text, dtype=np.float64):
    f, args = function(text, dtype)
    real, arrays = by_parts(f, args)
    return loss_of(real), arrays


@each
def test_value_and_gradients_to_second_order(text):
    f, args = function(text)
    expected = f(*(a.copy() for a in args))
    result = f(*(sadl.Tensor(a.copy(), requires_grad=True) for a in args))
    for r, e in zip(flatten(result)[0], flatten(expected)[0], strict=True):
        np.testing.assert_allclose(plain(r), e, rtol=1e-11, atol=1e-13)
    real, arrays = by_parts(f, args)
    check_grads(real, arrays, order=2)


def derivatives(text, dtype=np.float64):
    """Value, gradients and the gradients of a weighted sum of these, as one function of the arrays of a row."""
    loss, arrays = both(text, dtype)
    argnums = tuple(range(len(arrays)))
    first = sadl.value_and_grad(loss, argnums)
    second = loss_of(lambda *xs: first(*xs)[1])
    return (lambda *xs: (*first(*xs), sadl.grad(second, argnums)(*xs))), arrays


def test_the_coverage_page_is_current():
    """In another process, with the warnings that the program itself wants."""
    command = [sys.executable, str(Path(__file__).parent / "coverage_page.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "another NumPy" in done.stdout:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr


@each
def test_single_precision(text):
    f, values = function(text, np.float32)
    for r, e in zip(flatten(f(*map(sadl.tensor, values)))[0], flatten(f(*values))[0], strict=True):
        assert np.result_type(plain(r)) == np.result_type(e)
    run, arrays = derivatives(text)
    low, singles = derivatives(text, np.float32)
    exact = flatten(run(*arrays))[0]
    for r, e, kind in zip(flatten(low(*singles))[0], exact, [None, *singles, *singles], strict=False):
        assert kind is None or r.dtype == np.float32
        np.testing.assert_allclose(r, e, rtol=2e-2, atol=2e-2 * np.max(np.abs(e), initial=1))


@each
def test_compiled_is_eager(text):
    run, arrays = derivatives(text)
    if text in DECIDES:
        with pytest.raises(sadl.CaptureError, match="reads a value into Python"):
            sadl.compile(run)(*arrays)
        return
    compiled = sadl.compile(run)
    others = tuple(0.02 + 0.93 * a[tuple(slice(None, None, -1) for _ in a.shape)] for a in arrays)
    with sadl.config(jit=False, verify=True):
        for xs in (arrays, arrays, arrays, others, others):
            result, expected = flatten(compiled(*xs))[0], flatten(run(*xs))[0]
            for r, e in zip(result, expected, strict=True):
                np.testing.assert_allclose(plain(r), plain(e), rtol=1e-9, atol=1e-9 * np.max(np.abs(e), initial=1))
    assert 1 <= compiled.stats.programs <= 2  # another one for another size


@each
def test_compiled_in_parts_is_eager(text):
    """The value alone, which nobody differentiates, and in a buffer; and the gradients alone."""
    if text in DECIDES:
        return
    f, arrays = function(text)
    loss, _ = both(text)
    argnums = tuple(range(len(arrays)))

    def in_buffer(*xs):
        buffer = sadl.zeros(4, dtype=float)
        buffer[1] = loss(*xs)
        return buffer

    others = tuple(0.02 + 0.93 * a[tuple(slice(None, None, -1) for _ in a.shape)] for a in arrays)
    for run in (f, in_buffer, sadl.grad(loss, argnums)):
        compiled = sadl.compile(run)
        with sadl.config(jit=False, verify=True):
            for xs in (arrays, arrays, others):
                given = [sadl.tensor(x.copy()) for x in xs]
                result, expected = flatten(compiled(*given))[0], flatten(run(*(sadl.tensor(x) for x in xs)))[0]
                for r, e in zip(result, expected, strict=True):
                    np.testing.assert_allclose(plain(r), plain(e), rtol=1e-9, atol=1e-9 * np.max(np.abs(e), initial=1))


# ---- any shape, axis and memory layout ----------------------------------------------------------------------------

# Functions of one array `x` along one `axis`, and of one array as a whole.
ALONG = """
np.sum(x, axis) | np.prod(x, axis) | np.mean(x, axis, keepdims=True) | np.var(x, axis) | np.max(x, axis, initial=0.0)
np.min(x, axis, keepdims=True, initial=2.0) | np.cumsum(x, axis) | np.cumprod(x, axis) | np.sort(x, axis) | np.flip(x, axis)
np.roll(x, 2, axis) | np.diff(x, axis=axis) | np.median(x, axis) | np.quantile(x, [0.2, 0.9], axis=axis) | np.fft.fft(x, axis=axis)
np.fft.irfft(x, 6, axis) | np.repeat(x, 2, axis) | np.take(x, [0, -1], axis) | np.moveaxis(x, axis, 0) | np.expand_dims(x, axis)
np.stack([x, 2 * x], axis) | np.concatenate([x, x], axis) | np.delete(x, 0, axis) | np.insert(x, 0, 0.5, axis)
np.linalg.norm(x, axis=axis) | np.add.accumulate(x, axis) | np.maximum.accumulate(x, axis) | np.logaddexp.reduce(x, axis)
np.array_split(x, 2, axis) | np.trapezoid(x, axis=axis) | np.nansum(x, axis) | np.ptp(x, axis) | np.average(x, axis)
np.argmax(x, axis, keepdims=True) * x | np.gradient(x, axis=axis) | np.unstack(x, axis=axis) | np.cumulative_sum(x, axis=axis)
"""
WHOLE = """
np.ravel(x) | x.T | x.reshape(-1) | np.sum(x) | np.prod(x) | np.var(x + 1) | np.sort(x, None) | np.pad(x, 1) | np.pad(x, 1, "edge")
np.tile(x, 2) | np.repeat(x, 2) | np.atleast_3d(x) | np.squeeze(x) | np.flip(x) | np.roll(x, 1) | np.cumsum(x) | np.outer(x, x)
np.kron(x, x) | np.where(x > 0.5, x, 0) | x[x > 0.5123] | np.clip(x, 0.31, 0.72) | np.fft.fftn(x) | np.tensordot(x, x, 0) | np.inner(x, x)
np.einsum("...,...->...", x, x) | x[..., None] * x | np.max(x) | np.median(x) | np.linalg.norm(x) | np.unique(x) | np.ediff1d(x)
np.diagonal(x) | np.trace(x) | np.tril(x) | np.triu(x, 1) | np.rot90(x) | np.fliplr(x) | np.swapaxes(x, 0, -1) | np.vstack([x, x])
np.matmul(x, np.swapaxes(x, -1, -2)) | np.vecdot(x, x) | np.block([x, x]) | np.append(x, x) | np.resize(x, (2, 3)) | np.copy(x)
"""
LAYOUTS = (
    np.ascontiguousarray,
    np.asfortranarray,
    lambda a: np.repeat(a[..., None], 2, -1)[..., 0],
    lambda a: a[::-1] if a.ndim else a,
)
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)


def texts_of(table):
    return [text.strip() for line in table.strip().splitlines() for text in line.split(" | ")]


def compare(f, x):
    """The gradient of a function of one array to second order; where NumPy raises an error, so must sadl."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            expected = flatten(f(x))[0]
    except (ValueError, IndexError, TypeError, ZeroDivisionError):
        if x.ndim:  # NumPy's functions do not agree on the axes of a number
            with pytest.raises((ValueError, IndexError, TypeError, ZeroDivisionError)):
                f(sadl.Tensor(x, requires_grad=True))
        return
    if not all(np.all(np.isfinite(e)) for e in expected):
        return  # the mean of nothing
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        result = flatten(f(sadl.Tensor(x, requires_grad=True)))[0]
        for r, e in zip(result, expected, strict=True):
            np.testing.assert_allclose(plain(r), e, rtol=1e-12, atol=1e-13)
        check_grads(*by_parts(f, (x,)), order=2)


def spread(shape, layout):
    """Distinct numbers between 0.1 and 1."""
    n = int(np.prod(shape))
    return layout(np.random.default_rng(n).permutation(np.linspace(0.1, 1.0, n + 2)[1:-1]).reshape(shape))


@pytest.mark.parametrize("text", texts_of(ALONG))
@settings(max_examples=25)
@given(shape=shapes, axis=st.integers(-3, 2), layout=st.sampled_from(LAYOUTS))
def test_along_any_axis(text, shape, axis, layout):
    f = eval(f"lambda x: {text}", {"np": np, "axis": axis})
    compare(f, spread(shape, layout))


@pytest.mark.parametrize("text", texts_of(WHOLE))
@settings(max_examples=20)
@given(shape=shapes, layout=st.sampled_from(LAYOUTS))
def test_of_any_shape(text, shape, layout):
    compare(eval(f"lambda x: {text}", {"np": np}), spread(shape, layout))
