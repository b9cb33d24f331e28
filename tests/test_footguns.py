"""What surprises about compiled functions: each case is a test, so that the list stays true.

case                                              what happens
------------------------------------------------  ----------------------------------------------------------------------
bool(t), if t, float(t), int(t), t.item(), f"{t}"  CaptureError at the line, with the alternative; so does a `while t`
np.allclose(t, u), np.repeat(t, u)                CaptureError: decisions, and sizes that NumPy must know
t[mask], np.unique(t), np.where(c)                a program for each size that comes up twice; the kernels are shared
print(t)                                          prints in the first two calls only
a Python counter, np.random data, a closure float  CaptureError if it changes between the first two calls; nothing stays
  that changes                                      changed
a closure float that changes later                seen in the function's own closure and globals (another program);
                                                    not seen in functions that it calls
a closure array that is written in place later    seen: arrays, and views of them, are inputs; a number held[0] is not
a closure variable that names another array later  the same
np.asarray(t), np.array([t, u]), np.float64(t)     CaptureError at the line; a plain view of a Parameter is an input
the same by a name that stands for NumPy's array  CaptureError if it is used as it is, or if its values change between
                                                    the first two calls; otherwise they are kept as constants
v, w = t[0], t[0]; v += 1; w * 2                   CaptureError at the use of w, which knows nothing of the change
a plain NumPy array written inside                written in the first two calls only
appending to a Python list inside                 twice, and what was appended stays as it was
a set or list of settings changed in place        not seen: such an argument stands for itself
a list or dict of parts, also a Function's        what is swapped or appended is not seen; a Function's attribute is
time.time(), random.random(), global counters     as a Python counter: CaptureError where the result depends on it
an argument with its own .grad                    CaptureError: let the function hold the Parameter
-0.0                                              loses its sign: x + 0.0 is x
float sums                                        differ from eager mode in the last bits, as any order of adding does
"""

import re

import numpy as np
import pytest

import sadl
from sadl.errors import CaptureError

X = np.arange(6.0).reshape(2, 3)


def line_of(fn, offset=0):
    """`file:line` of a function's first line, as a pattern."""
    return re.escape(f"{fn.__code__.co_filename}:{fn.__code__.co_firstlineno + offset}")


@pytest.fixture(autouse=True)
def _as_python():
    with sadl.config(jit=False):
        yield


# ---- values read into Python -----------------------------------------------------------------------------------------


def branch(x):
    return x * 2 if np.sum(x) > 0 else x


def loop(x):
    while np.max(x) < 10:
        x = x * 2
    return x


READS = {
    "bool": (lambda x: x * bool(x[0, 0]), r"bool\(t\)"),
    "branch": (branch, r"if t"),
    "loop": (loop, r"if t"),
    "float": (lambda x: x * float(x[0, 0]), r"float\(t\)"),
    "int": (lambda x: x * int(x[0, 0]), r"int\(t\)"),
    "item": (lambda x: x * x[0, 0].item(), r"t\.item\(\)"),
    "tolist": (lambda x: x * x[0, 0].tolist(), r"t\.tolist\(\)"),
    "format": (lambda x: (f"{x[0, 0]:.2f}", x)[1], "format"),
    "range": (lambda x: [x for _ in range(np.argmax(x))], "as an index or a count"),
    "max": (lambda x: max(x[0]), "bool"),
    "in": (lambda x: x * (2.0 in x), "bool"),
    "allclose": (lambda x: x * np.allclose(x, 0), "np.allclose"),
    "array_equal": (lambda x: x * np.array_equal(x, x), "np.array_equal"),
}


@pytest.mark.parametrize("name", READS)
def test_reading_a_value_is_an_error_at_the_line(name):
    fn, how = READS[name]
    with pytest.raises(CaptureError, match=rf"{how}.*Made at {line_of(fn)[:-1]}.*Instead: .*np\.where"):
        sadl.compile(fn)(X)


def test_many_sizes_that_depend_on_values_are_many_programs(caplog):
    compiled = sadl.compile(lambda x: x[x > 0])  # instead: np.where(x > 0, x, 0)
    for k in range(40):
        compiled(np.arange(40.0) - k)
    assert compiled.stats.programs == 0 and compiled.stats.captures == 40
    assert any("np.where(mask, t, 0)" in message for message in caplog.messages)


def test_print_shows_the_first_two_calls_only(capsys):
    def fn(x):
        print("sum", np.sum(x))
        return x * 2

    compiled = sadl.compile(fn)
    for k in range(5):
        compiled(X + k)
    assert capsys.readouterr().out == "sum 15.0\nsum 21.0\n"


# ---- what changes between the two captures ---------------------------------------------------------------------------


def counter():
    n = [0]

    def fn(x):
        n[0] += 1
        return x * n[0]

    return fn, 2, r"a number given to multiply changed from 1 to 2"


def random_data():
    rng = np.random.default_rng(0)

    def fn(x):
        return x + rng.standard_normal((2, 3))

    return fn, 1, "an array that is made anew on each call changed its values"


def random_number():
    rng = np.random.default_rng(0)

    def fn(x):
        return x * float(rng.random())

    return fn, 1, r"a number given to multiply changed from \S+ to \S+"


def growing():
    seen = []

    def fn(x):
        for _ in seen:
            x = x + 1
        seen.append(1)
        return x * 2

    return fn, 2, r"the operation changed from multiply to add"


def other_operation():
    functions = [np.sin, np.cos]

    def fn(x):
        return functions.pop()(x)

    return fn, 1, "the operation changed from cos to sin"


def other_array():
    arrays = [np.zeros(3), np.ones(3)]

    def fn(x):
        return x + arrays.pop()

    return fn, 1, "changed its values"


def other_axis():
    axes = [0, 1]

    def fn(x):
        return np.sum(x[:, :2], axis=axes.pop())

    return fn, 1, "an argument of sum changed"


def other_result():
    n = [0]

    def fn(x):
        n[0] += 1
        return x, n[0]

    return fn, None, "a returned value changed from 1 to 2"


def other_form():
    n = [0]

    def fn(x):
        n[0] += 1
        return [x * 2] * n[0]

    return fn, None, "the form of the result changed"


@pytest.mark.parametrize(
    "make",
    [counter, random_data, random_number, growing, other_operation, other_array, other_axis, other_result, other_form],
)
def test_what_changes_between_the_captures_is_an_error(make):
    """It names the line, and the state that the second call changed is put back."""
    fn, offset, text = make()
    state = sadl.tensor(np.zeros(3))

    def step(x):
        result = fn(x)
        state[...] = state + 1
        return result

    compiled = sadl.compile(step)
    compiled(X)
    where = rf".*Made at {line_of(fn, offset)}\." if offset else ""
    with pytest.raises(CaptureError, match=rf"{text} between two calls.*nothing was changed{where}"):
        compiled(X)
    assert state.tolist() == [1, 1, 1]


def test_an_operation_done_once_only_is_an_error():
    often = [1]
    compiled = sadl.compile(lambda x: (y := x * 2, [y + 1 for _ in often])[0])
    compiled(X)
    often.clear()
    with pytest.raises(
        CaptureError, match=rf"number of operations changed \(add .* once only\).*{line_of(compiled.fn)}"
    ):
        compiled(X)


def test_a_closure_float_that_changes_between_the_captures_is_an_error():
    scale = 0.5
    compiled = sadl.compile(lambda x: x * scale)
    compiled(X)
    scale = 0.7
    with pytest.raises(CaptureError, match=r"changed from 0\.5 to 0\.7"):
        compiled(X)


def test_a_closure_float_that_changes_later_needs_another_program():
    scale = 0.5
    compiled = sadl.compile(lambda x: x * scale)
    compiled(X), compiled(X)
    scale = 0.7
    assert all(np.array_equal(compiled(X), X * 0.7) for _ in range(3)) and compiled.stats.programs == 2
    scale = float("0.5")  # another object, the same number
    assert np.array_equal(compiled(X), X * 0.5) and compiled.stats.captures == 4


GLOBAL = np.zeros(3)


def test_a_global_that_names_another_array_later_needs_another_program(monkeypatch):
    compiled = sadl.compile(lambda x: x + GLOBAL)
    compiled(X), compiled(X)
    monkeypatch.setitem(globals(), "GLOBAL", np.ones(3))
    assert all(np.array_equal(compiled(X), X + 1) for _ in range(3))


def test_a_closure_float_of_an_inner_function_is_not_seen():
    scale = 0.5

    def inner(x):
        return x * scale

    compiled = sadl.compile(lambda x: inner(x))
    compiled(X), compiled(X)
    scale = 0.7
    assert np.array_equal(compiled(X), X * 0.5)


def test_a_number_in_a_tensor_is_seen():
    scale = sadl.tensor(0.5)
    compiled = sadl.compile(lambda x: x * scale)
    compiled(X), compiled(X)
    scale[...] = 0.7
    assert np.array_equal(compiled(X), X * 0.7)


@pytest.mark.parametrize("make", [np.array, sadl.tensor], ids=["array", "tensor"])
def test_a_closure_array_is_an_input(make):
    held = make(np.ones(3))
    compiled = sadl.compile(lambda x: x + held + held[:1])
    for k in range(5):
        held[...] = k
        assert np.array_equal(compiled(X), X + 2 * k)


@pytest.mark.parametrize("part", [slice(0, 3), slice(0, 6, 2), slice(None, None, -2)], ids=str)
def test_a_view_of_a_closure_array_is_an_input(part):
    held = np.arange(6.0)
    compiled = sadl.compile(lambda x: x + held[part])
    for k in range(5):
        held[...] = np.arange(6.0) + k
        assert np.array_equal(compiled(X), X + held[part])


def test_a_number_from_a_closure_array_is_not():
    held = np.zeros(3)
    compiled = sadl.compile(lambda x: x + held[0])
    compiled(X), compiled(X)
    held[...] = 1
    assert np.array_equal(compiled(X), X)


def test_a_closure_variable_that_names_another_array_later_needs_another_program():
    held = np.zeros(3)
    compiled = sadl.compile(lambda x: x + held)
    compiled(X), compiled(X)
    held = np.ones(3)
    assert all(np.array_equal(compiled(X), X + 1) for _ in range(3))


def test_a_parameter_swapped_in_a_plain_list_is_not_seen():
    held = [sadl.tensor(np.zeros(3))]
    compiled = sadl.compile(lambda x: x + held[0])
    compiled(X), compiled(X)
    held[0] = sadl.tensor(np.ones(3))
    assert np.array_equal(compiled(X), X)


def test_settings_changed_in_place_are_not_seen():
    compiled = sadl.compile(lambda x, settings: x * max(settings))
    settings = {2}
    for _ in range(3):
        assert np.array_equal(compiled(X, settings), X * 2)
    settings.add(3)
    assert np.array_equal(compiled(X, settings), X * 2)
    assert np.array_equal(compiled(X, {3}), X * 3)  # another object is another signature


# ---- what leaves the graph -------------------------------------------------------------------------------------------

PLAIN = {
    "of an argument": lambda x: np.asarray(x) * x,
    "of a result": lambda x: np.asarray(x * 2) * x,
    "part of a result": lambda x: np.asarray(x * 2)[:1] * x,
    "its buffer": lambda x: np.frombuffer(memoryview(x)).reshape(2, 3) * x,
    "as a parameter": lambda x: sadl.Parameter(x) * 2,
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_array_on_the_memory_of_a_tensor_is_an_error(name):
    compiled = sadl.compile(PLAIN[name])
    with pytest.raises(CaptureError, match=rf"np\.asarray.*Made at {line_of(PLAIN[name])}.*use the Tensor itself"):
        compiled(X), compiled(X)


def test_a_plain_view_of_a_parameter_is_an_input():
    weights = sadl.Parameter(np.ones(3))
    compiled = sadl.compile(lambda x: x * np.asarray(weights)[:2].sum() + x * np.asarray(weights))
    with pytest.raises(CaptureError, match="changed from"):  # the sum is a number
        for k in range(2):
            np.asarray(weights)[...] = k
            compiled(X)
    compiled = sadl.compile(lambda x: x * np.asarray(weights))
    for k in range(4):
        np.asarray(weights)[...] = k
        assert np.array_equal(compiled(X), X * k)


TAKEN = {
    "np.array": lambda x: np.array(x) * x,
    "a list": lambda x: np.array([x, x * 2]) * x,
    "a list for a function": lambda x: np.mean([x, x]) * x,
    "a list for a ufunc": lambda x: np.exp([x, x]) * x,
    "as integers": lambda x: np.asarray(x, dtype=int) * x,
    "np.full": lambda x: np.full(3, x[0, 0]) * x,
    "np.float64": lambda x: np.float64(np.sum(x)) * x,
    "np.vectorize": lambda x: np.vectorize(abs)(x) * x,
    "np.copyto": lambda x: np.copyto(np.zeros((1, 3)), [x[0]]),
    "np.array_equal": lambda x: x * np.array_equal([x], [x]),
    "plain arithmetic": lambda x: np.exp(np.asarray(x)) * x,
    "sadl.tensor": lambda x: sadl.tensor(x) * x,
    "sadl.Tensor": lambda x: sadl.Tensor([x[0, 0], 1.0, 2.0]) * x,
    "a copy of a held one": lambda x: np.array(HELD) * x,
}
HELD = sadl.Parameter(np.ones(3))


@pytest.mark.parametrize("name", TAKEN)
def test_taking_values_out_is_an_error_at_the_first_call(name):
    with pytest.raises(CaptureError, match=rf"Made at {line_of(TAKEN[name])}"):
        sadl.compile(TAKEN[name])(X)


def test_plain_data_may_be_converted():
    compiled = sadl.compile(
        lambda x: x * np.asarray([1.0, 2.0, 3.0]) + np.full(3, 2.0) + np.array(ARRAY) + np.zeros(x.shape) + np.size([x])
    )
    for _ in range(3):
        assert np.array_equal(compiled(X), X * [1, 2, 3] + 2 + X.size)


def test_numpy_is_as_before_after_a_capture():
    before = np.array, np.float64, np.vectorize.__call__, type(np), dict(vars(np))
    sadl.compile(lambda x: np.array([1.0]) * x)(X)
    with pytest.raises(CaptureError):
        sadl.compile(TAKEN["np.array"])(X)
    assert (np.array, np.float64, np.vectorize.__call__, type(np), dict(vars(np))) == before


array, exp = np.array, np.exp  # names that a compiled function finds without asking NumPy's namespace
ARRAY = np.zeros((2, 3))
COPIES = {
    "np.array": lambda x: array(x) * x,
    "plain arithmetic": lambda x: exp([x])[0] * x,
}


@pytest.mark.parametrize("name", COPIES)
def test_a_plain_copy_of_a_tensor_is_found_if_it_changes(name):
    compiled = sadl.compile(COPIES[name])
    compiled(X)
    with pytest.raises(CaptureError, match=rf"changed.*Made at {line_of(COPIES[name])}"):
        compiled(X + 1)


@pytest.mark.parametrize("name", COPIES)
def test_a_plain_copy_of_a_tensor_is_kept_if_it_does_not_change(name):
    compiled = sadl.compile(COPIES[name])
    compiled(X), compiled(X)
    assert not np.array_equal(compiled(X + 1), COPIES[name](sadl.Tensor(X + 1)))


def test_a_parameter_made_anew_is_an_error():
    compiled = sadl.compile(lambda x: sadl.Parameter(np.ones(3)) * x)
    compiled(X)
    with pytest.raises(CaptureError, match="requires a gradient is made anew on each call"):
        compiled(X)


def plus_one(t):
    t += 1


VIEWS = {
    "augmented slice": lambda t: plus_one(t[1:]),
    "item of an item": lambda t: t[0].__setitem__(1, 5.0),
    "reshaped": lambda t: t.reshape(-1).__setitem__(2, 5.0),
    "transposed": lambda t: t.T.__setitem__(0, 5.0),
}


@pytest.mark.parametrize("name", VIEWS)
def test_writing_through_a_view_is_followed(name):
    def step(x):
        y = x * 1
        VIEWS[name](y)
        return y * y

    compiled = sadl.compile(step)
    for k in range(4):
        assert np.allclose(compiled(X + k), step(sadl.tensor(X + k)))
    assert compiled.stats.programs == 1


def test_writing_a_slice_of_state_is_followed():
    state, twin = sadl.tensor(X), X.copy()

    def step():
        state[1:] *= 2
        state[0] += state[1]

    compiled = sadl.compile(step)
    for _ in range(4):
        compiled()
        twin[1:] *= 2
        twin[0] += twin[1]
        assert np.array_equal(state, twin)


def test_two_views_of_the_same_memory_are_an_error():
    def step(x):
        y = x * 1
        v, w = y[0], y[0]
        v += 1
        return w * 2

    with pytest.raises(
        CaptureError, match="shares memory with one that was changed in place.*Instead: .*change a copy"
    ):
        sadl.compile(step)(X)


def test_a_view_read_after_its_base_was_written_is_an_error():
    def step(x):
        y = x * 1
        view = y[0]
        y += 1
        return view * 2

    with pytest.raises(CaptureError, match="shares memory"):
        sadl.compile(step)(X)


def test_assigning_a_slice_is_fine():
    def step(x):
        y = x * 1
        y[1:] = y[1:] + 1
        return y

    compiled = sadl.compile(step)
    for k in range(4):
        assert np.array_equal(compiled(X + k), step(X + k))


# ---- effects that only Python sees -----------------------------------------------------------------------------------


def test_a_plain_array_is_written_in_the_first_two_calls_only():
    calls = np.zeros(1)

    def fn(x):
        np.add(calls, 1, out=calls)
        return x * 2

    compiled = sadl.compile(fn)
    for _ in range(5):
        compiled(X)
    assert calls == 2


def test_a_tensor_is_written_on_every_call():
    calls = sadl.tensor(0)

    def fn(x):
        calls[...] = calls + 1
        return x * 2

    compiled = sadl.compile(fn)
    for _ in range(5):
        compiled(X)
    assert calls == 5


def test_a_list_grows_in_the_first_two_calls_only():
    seen = []

    def fn(x):
        y = x * 2
        seen.append(y)
        return y

    compiled = sadl.compile(fn)
    for k in range(5):
        compiled(X + k)
    assert len(seen) == 2 and np.array_equal(seen[0], X * 2) and np.array_equal(seen[1], (X + 1) * 2)


def test_an_argument_does_not_bring_its_grad():
    p = sadl.Parameter(X)
    for fn in (lambda p: np.sum(p * 2).backward(), lambda p: p.grad):
        with pytest.raises(CaptureError, match="the .grad of an argument"):
            sadl.compile(fn)(p)
    assert p.grad is None


def test_the_sign_of_zero_is_lost():
    compiled = sadl.compile(lambda x: x + 0.0)
    x = np.array([-0.0])
    signs = [bool(np.signbit(compiled(x)[0])) for _ in range(3)]
    assert signs == [True] * 3 and not np.signbit(x + 0.0)[0]


def test_compiled_arithmetic_keeps_its_order():
    """Sums of many elements are added in another order than NumPy's; what is written as x + y - x is not."""
    fn = sadl.compile(lambda x, y: (x + y) - x)
    x, y = np.full(4, 1e8, np.float32), np.ones(4, np.float32)
    assert [np.array(fn(x, y)).tolist() for _ in range(3)] == [[0.0] * 4] * 3
