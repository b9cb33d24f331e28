"""Tests from tables of expressions: a text in `np` and names of arrays becomes a function of these arrays.

Takes the text and a dict of arrays, real or complex; compares value and dtype with NumPy's, gradients with differences
to second order, other layouts and single precision with double, and the compiled function with the eager one.
Complex arrays are checked by their real and imaginary parts. Which expressions there are is left to the tests.
"""

import re

import numpy as np

import sadl
from sadl import check_grads, tensor, value_and_grad
from sadl.tape import plain
from sadl.tree import flatten

LAYOUTS = [np.asfortranarray, lambda a: np.repeat(a, 2, axis=-1)[..., ::2], lambda a: a[..., ::-1].copy()[..., ::-1]]


def texts(table):
    """The expressions of a table, which `|` and the ends of lines divide."""
    return [text.strip() for line in table.splitlines() if line.strip() for text in line.split(" | ")]


def function(text, values, **more):
    """The function that the text describes, and its arguments."""
    names = [name for name in values if re.search(rf"(?<![\w.'\"]){name}\b(?!=)", text)]
    return eval(f"lambda {', '.join(names)}: {text}", {"np": np, **more}), tuple(values[name] for name in names)


def parts(x):
    """A real array, or the two of a complex one; nothing of one that has no gradient."""
    return (np.real(x), np.imag(x)) if x.dtype.kind == "c" else (x,) if x.dtype.kind == "f" else ()


def by_parts(f, args):
    """The same function of real arrays with real results, and its arguments."""

    def real(*xs):
        left = iter(xs)
        whole = [next(left) + 1j * next(left) if a.dtype.kind == "c" else next(left) for a in args]
        return [part for out in flatten(f(*whole))[0] for part in parts(out)]

    return real, tuple(part.copy() for a in args for part in parts(a))


def loss_of(f):
    """A number that every element of every result has a part in, phases of complex results included."""

    def loss(*args):
        outs = [part for out in flatten(f(*args))[0] for part in parts(out)]
        return sum(np.sum(o * np.cos(1.0 + np.arange(o.size)).reshape(o.shape).astype(o.dtype)) for o in outs)

    return loss


def both_of(f, args):
    """Value and gradients of that number."""
    return value_and_grad(loss_of(f), argnums=tuple(range(len(args))))


def assert_close(result, expected, rtol=1e-10):
    """The same leaves, with the same dtypes."""
    for r, e in zip(flatten(result)[0], flatten(expected)[0], strict=True):
        assert (np.shape(r), np.result_type(plain(r))) == (np.shape(e), np.result_type(plain(e)))
        size = np.max(np.abs(plain(e)), initial=1, where=np.isfinite(plain(e)))
        np.testing.assert_allclose(plain(r), plain(e), rtol=rtol, atol=rtol * size)


def assert_value_is_numpys(f, args, rtol=1e-10):
    """Containers have NumPy's types, with Tensors for arrays."""
    expected = f(*args)
    result = f(*(tensor(a, requires_grad=True) for a in args))
    if isinstance(expected, tuple):
        assert type(result) is type(expected)
    assert all(isinstance(r, sadl.Tensor) for r in flatten(result)[0])
    assert_close(result, expected, rtol)


def assert_gradients(f, args, order=2):
    check_grads(*by_parts(f, args), order=order)


def assert_gradients_of_any_layout(f, args):
    expected = both_of(f, args)(*args)
    for layout in LAYOUTS:
        assert_close(both_of(f, args)(*map(layout, args)), expected)


def single(a):
    return a.astype(np.complex64 if a.dtype.kind == "c" else np.float32)


def assert_single_precision(f, args, rtol=1e-2):
    """Values and gradients in single precision, near those in double precision."""
    low = tuple(map(single, args))
    assert_value_is_numpys(f, low, rtol)
    grads, expected = both_of(f, low)(*low)[1], both_of(f, args)(*args)[1]
    for g, e in zip(grads, expected, strict=True):
        assert g.dtype == single(np.asarray(e)).dtype
        np.testing.assert_allclose(g, e, rtol=rtol, atol=rtol * np.max(np.abs(e), initial=1))


def assert_compiled_is_eager(f, args, jit=False):
    """Value and gradients: captured twice, then run as a program."""
    run, expected = sadl.compile(both_of(f, args)), both_of(f, args)(*args)
    with sadl.config(jit=jit):
        for _ in range(3):
            result = run(*args)
    assert run.graph is not None
    assert_close(result, expected)
