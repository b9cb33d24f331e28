"""Tests of changes in place: each is differentiated as what it means, or is an error; a gradient is never wrong.

Takes programs that write into Tensors by every spelling there is; compares with central differences of the same program
on arrays. The last test makes up such programs.
"""

import gc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sadl
from sadl import GradientError, StaleValueError, UnrecordedError, check_grads, no_grad, tensor

RNG = np.random.default_rng(2)
A, B = RNG.uniform(0.5, 2.0, (3, 4)), RNG.uniform(0.5, 2.0, (3, 4))
MASK, IX = A > 1.2, np.array([2, 0])


def leaf(value=A):
    return tensor(value, requires_grad=True)


def filled(like, *rows):
    """An array of the kind of `like`: a Tensor under differentiation, else an array."""
    return sadl.zeros(rows, dtype=like.dtype) if isinstance(like, sadl.Tensor) else np.zeros(rows, like.dtype)


def program(text):
    """A function of x and y from statements that end with a value `r`."""
    lines = "\n".join(f"    {line}" for line in text.strip().split("; "))
    names = {"np": np, "sadl": sadl, "A": A, "B": B, "MASK": MASK, "IX": IX, "filled": filled, "no_grad": no_grad}
    exec(f"def run(x, y):\n{lines}\n    return r", names)
    return names["run"]


RIGHT = """
r = x * 2; r += y
r = x * 2; r -= y; r *= x; r /= y
r = x * 2; r **= 2
r = x * 2; r %= 0.7
r = x * 2; r += 1; r = np.exp(r)
r = x * 2; r *= r
r = x @ y.T; r += x[:, :3]
r = x * 2; r @= np.eye(4)
r = x * 2; r += y[0]
r = x * 2; r[0] = 5.0; r = r**2
r = x * 2; r[0] = y[1]; r = r**2
r = x * 2; r[1:, ::2] = y[:2, :2] * x[:2, :2]; r = r**2
r = x * 2; r[...] = y; r = r**2
r = x * 2; r[:] = y * x; r = r**2
r = x * 2; r[MASK] = 0.0; r = r**2
r = x * 2; r[MASK] = y[MASK]; r = r**2
r = x * 2; r[IX] = y[IX]; r = r**2
r = x * 2; r[IX, IX] += y[0, :2]; r = r**2
r = x * 2; r[[0, 0, 1]] = y; r = r**2
r = x * 2; r[np.array([[0, 0], [0, 2]])] = np.stack([y[:2], y[1:]]); r = r**2
r = x * 2; r[0, 0] = y[1, 1]; r[0, 0] *= 3; r = r**2
r = x * 2; r[0] += y[1]; r[0] *= x[2]; r = r**2
r = x * 2; r[0] *= r[1]; r = r**2
r = x * 2; r[1:] /= y[1:]; r[:, 0] -= x[:, 1]; r = r**2
r = x * 2; np.put_along_axis(r, IX[None, :1], y[0, 0], 1); r = r**2
r = x * 2; np.add.at(r, [0, 0, 2], y); np.subtract.at(r, (0, [1, 1]), y[0, :2]); r = r**2
r = x * 2; np.multiply.at(r, [0, 0, 2], y); np.divide.at(r, ([1, 1], 0), y[0, :2]); r = r**2
r = x * 2; np.negative.at(r, [0, 0, 1]); np.sin.at(r, (2, [1, 1])); r = r**2
r = x * 2; np.maximum.at(r, [0, 0, 2], y); r = r**2
r = x * 2; r.sort(axis=0); r = r**2
r = x * 2; r.partition(1, axis=1); r = r * r[::-1]
r = x * 2; r.put([0, 5, 5], [y[0, 0], 2.0, y[1, 1]]); r = r**2
r = x * 2; np.put(r, [-1, 13], y[0, :2], mode="wrap"); r = r**2
r = x * 2; np.putmask(r, MASK, y[0, :3]); r = r**2
r = x * 2; np.place(r, MASK, [y[0, 0], y[2, 2]]); r = r**2
r = x * 2; np.fill_diagonal(r, y[0, 0]); r = r**2
r = x * 2; np.copyto(r, y, where=MASK); r = r**2
r = filled(x, 3, 4); np.copyto(r, x); r = r**2
r = x * 2; r[...] *= y; r = r**2
r = x * 2; r[:] *= y; r = r**2
r = x * 2; v = r[0]; v *= x[1]; r[0] = v; r = r**2
r = filled(x, 3, 4); r[0] += x[1]; r[0] += y[0]; r[1:] -= x[1:] * y[1:]; r = r**2
r = filled(x, 3, 4); r[0][1:] += 0.5; r = r + x
s = x * 2; v = s[0]; v *= 3; w = v[1:] * y[0, 1:]; r = w**2
r = x * 2; r[None, 0] = y[:1]; r = r**2
r = x * 2; r[0] = y[None, 1]; r = r**2
r = x * 2; r[...] = y[None]; r = r**2
r = x * 2; r[-1, ..., 1:3] = y[0, :2]; r = r**2
r = x * 2; r[1] = [1.0, 2.0, 3.0, 4.0]; r = r**2
r = x * 2; r.fill(3.0); r = r * y
r = x * 2; r.flat = y * 3; r = r**2
r = filled(x, 3, 4); r += x; r *= y
r = filled(x, 3, 4); r[0] = x[1]; r[2, 1] = y[0, 0]; r = r**2
r = filled(x, 3, 4); np.multiply(x, y, out=r); r = r**2
r = x * 2; np.multiply(x, y, out=r); r = r**2
r = x * 2; np.add(r, y, out=r); r = r**2
r = x * 2; np.add(x, y, out=r, where=MASK); r = r**2
r = filled(x, 4); np.sum(x * y, axis=0, out=r); r = r**2
r = filled(x, 4); (x * y).sum(0, None, r); r = r**2
r = filled(x, 3, 3); np.matmul(x, y.T, out=r); r = r**2
r = filled(x, 4); np.max(x, 0, r); r = r * y
r = filled(x, 3); np.mean(x, axis=1, out=r); r = r**2
s = x * 2; r = s; r += y; r = r * s
s = x * 2; t = s * 3; s += y; r = s * t
s = x[0, 0]; s += y[1, 1]; s *= 2; r = s * x
s = x * 2; t = s + 1; t *= 3; r = s * t
s = x.copy(); s[0] = 0; r = s * x
s = x.reshape(4, 3).copy(); s += 1; r = s.T * y
s = x[:, :1] * y; s[:, 0] = x[:, 0]; r = s * s
s = x * 2; v = s[0]; v *= 3; r = s * s
s = x * 2; v = s.T; v *= 3; r = s * s
s = x * 2; v = s.reshape(-1); v[0] = 3; r = s * s
s = x * 2; v = s.flat; v[3] = 1; r = s * s
s = x * 2; v = s[0]; w = v[1:]; w += 1; r = s * s
s = x * 2; r = s * 1; v = s[:1]; v += 1; r = r * s
s = x * 2; v = s[0]; v *= 3; r = s * 1; s += 1
s = x * 2; v = s[0]; v *= 3; s[1] = 0; r = s * s
s = x * 2; v = s[0]; v *= 3; r = s * 1; w = s[1]; w += 1
s = x * 2; v = s[0]; v *= 3; w = s[0]; w += 1; r = w * 1
s = x * 2; v = s[0]; v += 1; v += 1; s[1] = v; r = s * s
s = filled(x, 3, 4); [r.__iadd__(x[0]) for r in s]; r = s * 2 + x
s = filled(x, 3, 4); v = s[0]; v += x[0]; r = s * 1 + x
s = x * 2; v = np.diagonal(s); v = v * 1; w = s[::-1, ::2]; w *= y[:, ::2]; r = s * s
s = x * 2; v = np.flip(s, 0); v[0] = y[1]; r = s * s
r = filled(x, 3, 4); r[0] = x[0]; r[1] = np.tanh(r[0] * y[0]); r[2] = r[1] * r[0]
r = x * 2; r[1] = r[0] ** 2; r[2] = np.sin(r[1]) * y[0]; r = r * x
r = x * 2; s = r[0] ** 2; r[1:] *= s; r[2, 1:] = 1.5; r = r * r
""".strip().splitlines()

WRONG = """
r = np.exp(x); r += 1
s = x * 2; r = s[0] * s[0]; s[0] = 0
s = x * 2; r = s[1] * s[0]; s[1, 2:] = 0
s = x * 2; r = s[0] ** 2; s[:, 1] = 0
s = x * 2; r = s[0] ** 2; s[[0, 2]] = 0
r = np.sqrt(x); r *= y
r = np.tanh(x); r[0] = 0
s = x * 2; r = s * s; s += 1
s = x * 2; r = s * y; s[0] = 0
s = x * 2; r = np.sin(s); s.fill(0)
s = x * 2; r = s**2; np.add(s, 1, out=s)
s = x * 2; r = np.maximum(s, y); s *= 2
s = x * 2; r = s.max(0); s += 1
s = x * 2; r = s @ y.T; s += 1
s = x * 2; v = s[1:]; s *= 3; r = v * 1
s = x * 2; v, w = s[0], s[0]; v += 1; r = w * 1
s = x * 2; v = s[0]; s[0] = v * 2; r = v * 1
s = x * 2; v = s[0]; w = s[1]; v += 1; s[1] = w; r = s * 1
s = filled(x, 3, 4); v = s[0]; s[0] = x[0]; r = v * 2 + x
s = filled(x, 3, 4); v = s.T; v += x.T; r = s * 1 + x
""".strip().splitlines()

AT_THE_LINE = """
x += 1
x[0] = 0
x[...] = 0
x.fill(0)
x.flat = 0
x *= y
x @= np.eye(4)
np.add(x, 1, out=x)
np.sum(y, axis=0, out=x[0])
v = x[0]; v += 1
v = x.T; v[0] = 1
v = x.reshape(-1)[2:]; v *= 2
v = np.broadcast_to(x, (3, 4)); v += 1
v = x.flat; v[0] = 1
np.add.at(x, 0, 1)
np.copyto(x, 0)
x.sort()
x.put(0, 1)
x.partition(1)
np.fill_diagonal(x, 0)
np.put(x, 0, 1)
np.putmask(x, MASK, 0)
s = x * 2; s.resize(12)
""".strip().splitlines()


@pytest.mark.parametrize("text", RIGHT)
def test_writes_that_are_differentiated(text):
    f = program(text)
    expected = f(A.copy(), B.copy())
    x, y = leaf(), leaf(B)
    np.testing.assert_allclose(f(x, y), expected)
    assert np.array_equal(x, A) and np.array_equal(y, B)
    check_grads(f, (A, B))


@pytest.mark.parametrize("text", WRONG)
def test_writes_that_spoil_a_gradient_are_an_error(text):
    for recorded in (False, True):
        x, y = leaf(), leaf(B)
        with pytest.raises(StaleValueError, match="changed in place"):
            np.sum(program(text)(x, y)).backward(create_graph=recorded)
        assert x.grad is None and y.grad is None


@pytest.mark.parametrize("text", AT_THE_LINE)
def test_writes_that_are_an_error_at_the_line(text):
    x, y = leaf(), tensor(B)
    with pytest.raises((GradientError, UnrecordedError, ValueError), match=r"^\[|own its|read-only"):
        program(f"{text}; r = None")(x, y)
    assert np.array_equal(x, A) and np.array_equal(y, B) and x.is_leaf()


@pytest.mark.parametrize("text", [t for t in AT_THE_LINE if "broadcast_to" not in t and "resize" not in t])
def test_the_same_writes_work_where_nothing_is_recorded(text):
    results = []
    for make in (tensor, np.copy):
        x, y = make(A), make(B)
        program(f"{text}; r = None")(x, y)
        results.append((x, y))
    for t, a in zip(*results, strict=True):
        assert np.array_equal(t, a)
    x = leaf()
    with no_grad():
        program(f"{text}; r = None")(x, tensor(B))
        assert np.array_equal(x, results[1][0]) and x.is_leaf() and x.requires_grad


# ---- what stays what it is -----------------------------------------------------------------------------------------


def test_the_object_stays_the_same():
    r = middle = leaf() * 2
    r += 1
    assert r is middle and r.requires_grad
    out = tensor(np.zeros((3, 4)))
    assert np.add(r, 1, out=out) is out and out.requires_grad


def test_a_buffer_is_filled_in_a_loop():
    def f(x):
        rows = filled(x, 3)
        for i in range(3):
            rows[i] = np.sum(x[i] ** 2) * (rows[i - 1] + 1)
        return rows

    check_grads(f, (A,))


def test_a_buffer_may_be_written_again_and_again():
    def f(x):
        state, total = filled(x, 4), 0.0
        for i in range(3):
            state[...] = np.tanh(state + x[i])
            total = total + np.sum(state**2) if i == 2 else total
        return total

    check_grads(f, (A,))


def test_a_running_sum_of_elements_of_a_leaf():
    def f(x):
        total = x[0, 0]
        for i in range(1, 3):
            total += x[i, i] ** 2
        return total

    check_grads(f, (A,))


def test_a_constant_written_over_everything_ends_the_gradient():
    for index in (..., slice(None), ()):
        r = leaf() * 2
        r[index] = 1.0
        assert not r.requires_grad and r.is_leaf() and r.src == ()
    r = leaf() * 2
    for i in range(3):
        r[i] = 1.0
    np.sum(r).backward()


def test_a_state_that_is_overwritten_does_not_keep_its_history():
    state, x = tensor(np.zeros(4)), leaf()
    lengths = []
    for _ in range(3):
        state[...] = np.tanh(x[0] * 2)
        lengths.append(len(sadl.autograd.reachable([state._node], set())))
    assert lengths[0] == lengths[2]


def test_a_leaf_may_change_where_nothing_is_recorded():
    p = sadl.Parameter(A.copy())
    for _ in range(3):
        p.grad = None
        np.sum(p * p).backward()
        np.testing.assert_allclose(p.grad, 2 * np.asarray(p))
        with no_grad():
            p -= 0.1 * p.grad
            p[0] = 1.0


STEPS = {
    "augmented": lambda t: t.__iadd__(1),
    "item": lambda t: t.__setitem__(0, 5.0),
    "ellipsis": lambda t: t.__setitem__(..., 5.0),
    "fill": lambda t: t.fill(5.0),
    "flat": lambda t: setattr(t, "flat", 5.0),
    "view": lambda t: t[0].__iadd__(1),
    "reshaped view": lambda t: t.T.reshape(4, 3)[1:].fill(0.0),
    "out": lambda t: np.add(t, 1, out=t),
    "positional out": lambda t: np.clip(t, 1.0, 1.1, t),
    "out of a reduction": lambda t: np.sum(B, axis=0, out=t[0]),
    "out of a method": lambda t: t.clip(1.0, 1.1, out=t),
    "one of two outs": lambda t: np.modf(t, out=(t, None)),
    "out of a library function": lambda t: np.cumsum(B, axis=0, out=t),
    "at": lambda t: np.add.at(t, 0, 1),
    "copyto": lambda t: np.copyto(t, B),
    "copyto by keyword": lambda t: np.copyto(dst=t, src=B),
    "put": lambda t: np.put(t, 0, 5.0),
    "place": lambda t: np.place(t, MASK, 5.0),
    "putmask": lambda t: np.putmask(t, MASK, 5.0),
    "put_along_axis": lambda t: np.put_along_axis(t, IX[None, :1], 5.0, 1),
    "fill_diagonal": lambda t: np.fill_diagonal(t, 5.0),
    "sort": lambda t: t.sort(),
    "put method": lambda t: t.put(0, 5.0),
    "partition": lambda t: t.partition(1),
    "real": lambda t: setattr(t, "real", 5.0),
    "another Tensor on the memory": lambda t: sadl.Tensor(np.asarray(t)).fill(5.0),
    "detached": lambda t: setattr(t, "shape", t.shape) or t.view().fill(5.0),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("kind", ["constant", "parameter", "middle"])
def test_a_saved_value_that_changes_by_any_spelling_is_found(name, kind):
    """A value is saved by an operation, and changed where nothing is recorded."""
    x = leaf(B)
    saved = {
        "constant": lambda: tensor(A),
        "parameter": lambda: sadl.Parameter(A.copy()),
        "middle": lambda: leaf() * 1,
    }[kind]()
    loss = np.sum(x * saved)
    with no_grad():
        STEPS[name](saved)
    with pytest.raises(StaleValueError, match="changed in place"):
        loss.backward()
    assert x.grad is None


def test_what_only_looks_at_values_changes_nothing():
    x, saved = leaf(B), tensor(A)
    loss = np.sum(x * saved)
    saved.view(), saved.T, np.atleast_1d(saved), list(saved), saved.reshape(-1), np.asarray(saved), saved.astype(int)
    np.sum(saved, axis=0, out=np.zeros(4)), np.sort(saved), np.clip(saved, 0, 1), saved.byteswap(), np.real(saved)
    np.copyto(np.zeros((3, 4)), saved), np.add(saved, 1, out=tensor(B))
    loss.backward()
    assert np.array_equal(x.grad, A)


def test_memory_that_is_gone_is_forgotten():
    gc.collect()
    before = len(sadl.tape._written), len(sadl.tape.versions)
    for _ in range(100):
        t, r = tensor(A), leaf() * 2
        t += 1
        r[0] += 1
    del t, r
    gc.collect()
    assert (len(sadl.tape._written), len(sadl.tape.versions)) == before


def test_the_gradient_is_of_what_a_value_is_now():
    for change in (lambda r: r.__imul__(3), lambda r: r[0].__imul__(3)):
        r = leaf() * 2
        with no_grad():
            change(r)
        with pytest.raises(StaleValueError, match="changed in place"):
            r.backward(np.ones((3, 4)))
    view = (r := leaf() * 2)[0]
    r *= 3
    with pytest.raises(StaleValueError):
        view.backward(np.ones(4))
    r.backward(np.ones((3, 4)))


def test_keep_grad_follows_the_value():
    x = leaf()
    r = x * 2
    r.keep_grad = True
    r *= 3
    r[0] = 0.0
    np.sum(r * B).backward()
    np.testing.assert_allclose(r.grad, B)
    assert not np.any(x.grad[0]) and np.allclose(x.grad[1:], 6 * B[1:])


def test_writing_another_dtype():
    r = leaf(A.astype(np.float32)) * 2
    r += leaf(B)
    assert r.dtype == np.float32
    x, y = leaf(A.astype(np.float32)), leaf(B)
    r = x * 2
    r[0] = y[0]
    np.sum(r).backward()
    assert x.grad.dtype == np.float32 and y.grad.dtype == np.float64 and np.all(y.grad[0] == 1)
    for wrong in (lambda: r.__iadd__(1j), lambda: r.fill(1j), lambda: np.add(r, 1j, out=r)):
        with pytest.raises(TypeError):
            wrong()


def test_a_shape_that_does_not_fit_is_an_error_and_changes_nothing():
    r = leaf() * 2
    before, node = np.array(r), r._node
    for wrong in (
        lambda: r.__iadd__(np.ones((2, 3, 4))),
        lambda: r.__setitem__(0, np.ones(3)),
        lambda: r.__setitem__(0, np.ones((2, 4))),
        lambda: r.__setitem__(..., np.ones((2, 3, 4))),
        lambda: r.__setitem__(7, 1.0),
        lambda: np.add(r, 1, out=leaf()[0]),
        lambda: np.sum(r, axis=0, out=tensor(np.zeros(3))),
    ):
        with pytest.raises((ValueError, IndexError)):
            wrong()
    assert np.array_equal(r, before) and r._node is node


# ---- plain arrays that a compiled function writes ------------------------------------------------------------------


def rate(t):
    return np.float32(0.5) * t


def by_operator(w, v, t):
    w -= rate(t)


def by_operator_on_parts(w, v, t):
    w[:2] -= rate(t)[:2]
    w[2:] *= t[2:]


def by_out(w, v, t):
    np.subtract(w, rate(t), out=w)


def by_out_of_two(w, v, t):
    np.divmod(w, t * t + 1, out=(w, v))


def by_out_of_a_reduction(w, v, t):
    np.sum(np.stack([t, t]), axis=0, out=w)


def by_copyto(w, v, t):
    np.copyto(w, w - rate(t))


def twice(w, v, t):
    w += t
    v -= w * t
    w += np.add(v, t) - 1


def in_an_array_made_anew(w, v, t):
    k = np.zeros(3, np.float32)
    k += t
    w -= k * t


def in_another_dtype(w, v, t):
    w += t.astype(np.float64)


PLAIN_WRITES = [
    *(by_operator, by_out, by_out_of_two, by_out_of_a_reduction, by_copyto, twice),
    *(in_an_array_made_anew, in_another_dtype),
]


def five_calls(change, read):
    """Eager and compiled calls of a function that changes arrays, in the same way."""

    def started():
        w, v = np.array([1, 2, 3], np.float32), np.array([3, 2, 5], np.float32)

        def run(x):
            before = np.sum(x * w) + np.sum(v * x)
            change(w, v, x * 2)
            return before, np.sum(x * w) + np.sum(v * x) if read else before

        return w, v, run

    (w, v, eager), (w2, v2, run) = started(), started()
    compiled = sadl.compile(run)
    for k in range(5):
        x = tensor(np.array([0.5, 1.5, -1], np.float32) + np.float32(k / 4))
        assert np.allclose(eager(x), compiled(x), rtol=1e-6)
        assert np.allclose(w, w2, rtol=1e-6) and np.allclose(v, v2, rtol=1e-6)
    assert compiled.stats.programs == 1


@pytest.mark.parametrize("change", PLAIN_WRITES, ids=lambda change: change.__name__)
def test_plain_arrays_are_written_on_each_call(change):
    five_calls(change, read=True)


def test_parts_of_plain_arrays_are_written_on_each_call():
    five_calls(by_operator_on_parts, read=False)
    with pytest.raises(sadl.CaptureError, match="shares memory"):
        five_calls(by_operator_on_parts, read=True)


def by_item(w, v, t):
    w[...] = w - t


def by_numpy(w, v, t):
    w[0] += 1


def by_numpy_before(w, v, t):
    w[0] += 1
    w -= t


def by_numpy_after(w, v, t):
    w -= t
    w += v


@pytest.mark.parametrize("change", [by_item, by_numpy, by_numpy_before, by_numpy_after], ids=lambda f: f.__name__)
def test_a_plain_write_that_is_not_followed_is_an_error(change):
    w, v = np.array([1, 2, 3], np.float32), np.array([3, 2, 5], np.float32)

    def run(x):
        y = x * w
        change(w, v, x)
        return y

    with pytest.raises(sadl.CaptureError, match=r"ndarray.*np.copyto\(w, t\)"):
        sadl.compile(run)(tensor(w))
    assert w.tolist() == [1, 2, 3] and v.tolist() == [3, 2, 5]


def test_a_plain_write_of_another_kind_is_an_error():
    counts = np.zeros(3, int)

    def eager(x):
        np.add(counts, x, out=counts)
        return x * counts

    for run in (eager, sadl.compile(eager)):
        with pytest.raises(TypeError, match="same_kind"):
            run(tensor(B[0, :3]))
    assert counts.tolist() == [0, 0, 0]


# ---- programs made up ----------------------------------------------------------------------------------------------

# Statements on a list of registers, which may share memory; `a` and `b` choose two of them.
HALF = np.array([True, False, True, False])
STATEMENTS = [
    "put(x)",
    "put(y[::-1])",
    "put(r[a] * r[b])",
    "put(r[a] + 1.1)",
    "put(r[a] * 1)",
    "put(np.tanh(r[a]))",
    "put(r[a] / (r[b] * r[b] + 1.0))",
    "put(np.maximum(r[a], r[b] - 0.31))",
    "put(r[a].copy())",
    "put(r[a][::-1])",
    "put(r[a].reshape(2, 2).T.reshape(-1))",
    "put(r[a].reshape(2, 2)[:, ::-1].ravel())",
    "put(r[a][...])",
    "put(np.concatenate([r[a][:2], r[b][2:]]))",
    "put(np.where(HALF, r[a], r[b]))",
    "put(r[a] * np.sum(r[b]))",
    "put(np.broadcast_to(r[a][1:2], (4,)))",
    "r[a] += r[b]",
    "r[a] += 0.7",
    "r[a] -= r[b] * r[a]",
    "r[a] *= r[b]",
    "r[a] /= 2 + r[b] ** 2",
    "r[a] **= 2",
    "r[a][0] = r[b][3]",
    "r[a][1:3] = r[b][:2] * 1.2",
    "r[a][[3, 0, 3]] = r[b][:3]",
    "r[a][HALF] = r[b][HALF]",
    "r[a][...] = r[b] * 0.9",
    "r[a][:] = 0.25",
    "r[a].fill(0.4)",
    "r[a].flat = r[b].copy()",  # NumPy does not look whether they overlap
    "r[a][2] *= r[b][1]",
    "r[a][1:] *= r[b][1:]",
    "r[a][1:][0] = 0.3",
    "v = r[a][:2]; v += r[b][2:]",
    "v = r[a][:2]; v *= 1.3; r[a][:2] = v",
    "v = r[a][::2]; v[0] = r[b][1]; put(np.concatenate([v, v]))",
    "with no_grad(): r[a % 3] *= 1.2",
    "with no_grad(): r[a % 3][1:3] = 0.3",
    "with no_grad(): r[a % 3].fill(0.2)",
    "np.multiply(r[a], r[b], out=r[a])",
    "np.add(r[a], 1.0, out=r[b])",
    "np.sqrt(r[a] ** 2 + 1, out=r[b], where=HALF)",
    "np.sum(r[a] * r[b], keepdims=True, out=r[b][:1])",
]
CODE = [compile(text, "<statement>", "exec") for text in STATEMENTS]
steps = st.tuples(st.integers(0, len(CODE) - 1), st.integers(0, 9), st.integers(0, 9))
readings = st.tuples(
    st.integers(0, 9), st.sampled_from(["np.sum(v)", "np.sum(v * v)", "np.sum(np.sin(v))", "v[0] * 3 + v[2]"])
)


def run(program, reading, x, y):
    """The registers are two values computed from the inputs and a buffer at first."""
    r = [x * 1.5, filled(x, 4), y + 0.2]
    for step, a, b in program:
        names = {"x": x, "y": y, "r": r, "put": r.append, "a": a % len(r), "b": b % len(r)}
        exec(CODE[step], names | {"np": np, "HALF": HALF, "no_grad": no_grad})
    which, text = reading
    return eval(text, {"np": np, "v": r[-1 - which % len(r)]}) + 0.1 * np.sum(x) * np.sum(y)


@settings(max_examples=400)
@given(st.lists(steps, min_size=1, max_size=9), readings)
def test_a_program_is_right_or_an_error(program, reading):
    x, y = A[0], B[0]
    try:
        value, pullback = sadl.vjp(lambda *xs: run(program, reading, *xs), x.copy(), y.copy())
        grads = pullback(np.ones(()))
    except (GradientError, StaleValueError):
        return
    except ValueError as error:
        assert "read-only" in str(error)
        return
    assert np.isclose(float(value), run(program, reading, x.copy(), y.copy()))
    for g, by_x in zip(grads, (1, 0), strict=True):
        for i in range(4):
            step = 1e-6 * np.eye(4)[i]
            up, down = (run(program, reading, x + s * by_x * step, y + s * (1 - by_x) * step) for s in (1, -1))
            assert np.isclose(float(g[i]), (up - down) / 2e-6, rtol=1e-4, atol=1e-5 + 1e-9 * abs(up)), [
                STATEMENTS[k] for k, *_ in program
            ]
