"""Tests that nothing leaves the graph silently: every function and ufunc method NumPy lets us override, on Tensors.

Takes NumPy's own lists of what can be overridden and calls each one in every way that works on arrays. On a Tensor that
requires a gradient a call gives the right gradient, or a declared constant, or a clear error; on others NumPy's result.
"""

import copy
import inspect
import io
import operator
import pickle
import warnings
from functools import partial

import numpy as np
import numpy.lib.recfunctions
import pytest
from numpy.testing import overrides

import sadl
from sadl import UnrecordedError, check_grads, tensor
from sadl.op import CONSTANT, HOST, METADATA
from sadl.tape import MODE, Mode, plain
from sadl.tree import flatten, unflatten

RNG = np.random.default_rng(3)


def spread(*shape, low=0.2, high=0.9):
    """Distinct numbers in random order, none of them round."""
    n = int(np.prod(shape))
    return RNG.permutation(np.linspace(low, high, n) + RNG.uniform(0, 0.01, n)).reshape(shape)


X, Y, Z = spread(3, 4), spread(3, 4, low=0.25, high=0.95), spread(3, 4, low=1.8, high=2.8)
V, W, U = spread(4), spread(4), spread(3)
S = np.eye(3) + X @ X.T
MASK, IX = X > 0.5, np.argsort(Y, axis=1)
RECORDS = np.array([(1.0, 2), (3.0, 4)], dtype=[("a", float), ("b", int)])
OTHERS = np.array([(1.0, 5.0), (3.0, 6.0)], dtype=[("a", float), ("c", float)])
DAYS = np.array(["2024-01-01", "2024-01-02"], dtype="M8[D]")

# What is tried on every function: whichever of these work on arrays are its plausible calls.
ARGUMENTS = [
    [(X,), (Z,), (S,), (V,), (X, Y), (Z, Y), (V, W), (S, U), (S, S + 1), (S, W[:3]), ([X, Y],), ((V, W),)],
    [(X, 1), (X, 2), (X, 0.5), (2.0, X), (X, 0, 1), (X, (1, 0)), (X, (4, 3)), (X, [0, 2], 0), (X, IX, 1), (V, [1.0] * 4)],
    [(MASK, X), (MASK, X, Y), (X, MASK, Y), (X, MASK, 0.5), (X, V), (V, [0, 3], 0.5), (IX, [X, Y, Z, X]), ([MASK], [X])],
    [("ij,kj", X, Y), ("ij->ji", X), (V, [V > 0.5], [0.5]), (V, V, W), (X, IX, Y, 1), (S.reshape(3, 3, 1, 1)[:, :, 0],)],
    [(X[0], MASK[0], [0.5, 0.6]), (X > 0.5, X < 0.7), (IX, IX + 1), (IX,), ((IX, 1.0),)],
]
OPTIONS = {
    "axis": [0, -1, (0, 1), None],
    "axes": [([0], [0]), (1, 0)],
    "keepdims": [True],
    "dtype": [np.float32, np.float64, int],
    "where": [MASK, MASK[0]],
    "initial": [0.5],
    "ddof": [1],
    "order": ["C", "F"],
    "out": [np.zeros((3, 4)), np.zeros(3), np.zeros(4), np.zeros((3, 3))],  # a 0-d one makes NumPy's cumsum crash
    "weights": [Y, V],
    "min": [0.4],
    "max": [0.6],
    "decimals": [1],
    "n": [2],
    "copy": [True],
    "return_index": [True],
    "return_inverse": [True],
    "return_counts": [True],
    "casting": ["same_kind"],
    "mode": ["wrap", "edge", "same"],
    "offset": [1],
    "k": [1],
    "optimize": [True],
    "subok": [True],
    "prepend": [0.0],
    "left": [0.0],
    "full": [True],
}


def structured(name, *args, **kwargs):
    return f"lib.recfunctions.{name}", args, kwargs


# Functions that need arguments of their own.
SPECIAL = [
    ("apply_along_axis", (np.sort, 0, X), {}),
    ("apply_over_axes", (np.sum, X, [0, 1]), {}),
    ("arange", (3.0,), {"like": X}),
    ("array", (X,), {"like": Y}),
    ("asanyarray", (X,), {"like": Y}),
    ("asarray", (X,), {"like": Y}),
    ("ascontiguousarray", (X,), {"like": Y}),
    ("asfortranarray", (X,), {"like": Y}),
    ("astype", (X, np.float32), {}),
    ("astype", (X, int), {}),
    ("bincount", (IX[0],), {}),
    ("bincount", (IX[0], V), {}),
    ("broadcast_to", (X, (2, 3, 4)), {}),
    ("busday_count", (DAYS[:1], DAYS[1:]), {}),
    ("busday_offset", (DAYS, 1), {"roll": "forward"}),
    ("can_cast", (X, np.float32), {}),
    ("clip", (X, 0.4, 0.6), {}),
    ("clip", (X, None, Y), {}),
    ("copyto", (X, Y), {"where": MASK}),
    ("datetime_as_string", (DAYS,), {}),
    ("dsplit", (X[:, :, None], 1), {}),
    ("empty", (0,), {"like": X}),
    ("eye", (2,), {"like": X}),
    ("frombuffer", (b"12345678",), {"like": X}),
    ("fromfunction", (np.add, (2, 2)), {"like": X}),
    ("fromiter", ([1.0, 2.0], float), {"like": X}),
    ("fromstring", ("1 2",), {"sep": " ", "like": X}),
    ("full", (2, 3.0), {"like": X}),
    ("full_like", (X, 2.0), {}),
    ("genfromtxt", (["1 2"],), {"like": X}),
    ("identity", (2,), {"like": X}),
    ("insert", (X, 1, 0.5), {"axis": 0}),
    ("interp", (V, np.sort(W), V), {}),
    ("is_busday", (DAYS,), {}),
    ("linalg.matrix_power", (S, 3), {}),
    ("linalg.tensorinv", (S,), {"ind": 1}),
    ("loadtxt", (["1 2"],), {"like": X}),
    ("nan_to_num", (X,), {"copy": False}),
    ("ones", (2,), {"like": X}),
    ("packbits", (IX.astype(np.uint8),), {}),
    ("pad", (X, 1), {"constant_values": 0.5}),
    ("partition", (X, 1), {}),
    ("piecewise", (X, [X > 0.5], [np.sin, np.cos]), {}),
    ("polyfit", (V, W, 1), {}),
    ("put", (X, [0, 3], V[:2]), {}),
    ("ravel_multi_index", (IX[:2], (4, 4)), {}),
    ("require", (X,), {"like": Y}),
    ("save", (io.BytesIO(), X), {}),
    ("savetxt", (io.StringIO(), X), {}),
    ("savez", (io.BytesIO(), X), {}),
    ("savez_compressed", (io.BytesIO(), X), {}),
    ("searchsorted", (np.sort(V), W), {}),
    ("select", ([MASK], [X]), {"default": Y}),
    ("squeeze", (X[None],), {}),
    ("tri", (2,), {"like": X}),
    ("unpackbits", (IX.astype(np.uint8),), {}),
    ("unravel_index", (IX, (4, 4)), {}),
    ("zeros", (2,), {"like": X}),
    structured("append_fields", RECORDS, "c", V[:2], usemask=False),
    structured("append_fields", RECORDS, "c", V[:2], usemask=True),
    structured("apply_along_fields", np.mean, RECORDS),
    structured("assign_fields_by_name", RECORDS.copy(), RECORDS),
    structured("drop_fields", RECORDS, "a"),
    structured("join_by", "a", RECORDS, OTHERS, usemask=False),
    structured("rec_append_fields", RECORDS, "c", V[:2]),
    structured("rec_drop_fields", RECORDS, "a"),
    structured("rec_join", "a", RECORDS, OTHERS),
    structured("recursive_fill_fields", RECORDS[:1], RECORDS.copy()),
    structured("rename_fields", RECORDS, {"a": "z"}),
    structured("require_fields", RECORDS, [("a", float)]),
    structured("structured_to_unstructured", RECORDS),
]


NAMES = {f"{f.__module__}.{f.__name__}"[6:] for f in overrides.get_overridable_numpy_array_functions()}
NAMES |= {f"fft.{name}" for name in np.fft.__all__ if hasattr(getattr(np.fft, name), "__wrapped__")}
FUNCTIONS = {name: operator.attrgetter(name)(np) for name in NAMES}
METHODS = ["__call__", "reduce", "accumulate", "outer", "reduceat", "at"]
NUMERIC = [u for u in overrides.get_overridable_numpy_ufuncs() if "d" in "".join(u.types) or "l" in "".join(u.types)]
UFUNCS = {f"{u.__name__}.{m}": (u, m) for u in NUMERIC for m in METHODS}
CALLS = {name: f for name, f in FUNCTIONS.items()} | {name: getattr(u, m) for name, (u, m) in UFUNCS.items()}
NAMED = {"reduceat": [(X, [0, 2]), (V, [0, 2, 1])], "at": [(X, 0, 0.5), (X, [0, 2], V), (V, [0, 0], [0.5, 0.6]), (X, 1)]}


def options_of(function):
    try:
        names = set(inspect.signature(function).parameters)
    except ValueError:
        names = set()
    extra = {"where", "initial", "keepdims", "dtype", "axis", "out"} if name_of_ufunc(function) else set()
    return [{k: v} for k, values in OPTIONS.items() if k in names | extra for v in values]


def name_of_ufunc(function):
    return isinstance(getattr(function, "__self__", None), np.ufunc)


def plausible(name):
    """Every call of a function that works on plain arrays, as (args, kwargs)."""
    function = CALLS[name]
    calls = [(args, kwargs) for n, args, kwargs in SPECIAL if n == name]
    calls += [(args, {}) for args in NAMED.get(name.rpartition(".")[2], ())]
    calls += [(args, {}) for row in ARGUMENTS for args in row]
    working = [c for c in calls if not isinstance(attempt(function, *c), Exception)]
    varied = [(args, option) for args, kwargs in working[:4] if not kwargs for option in options_of(function)]
    varied += [(args, {**o, "out": X * 0}) for args, o in varied if "where" in o and name_of_ufunc(function)]
    working += [c for c in varied if not isinstance(attempt(function, *c), Exception)]
    return [c for c in working if is_seen(function, c)]


def attempt(function, args, kwargs):
    """What a call on copies of its arguments gives, or its error."""
    try:
        with warnings.catch_warnings(action="error"):
            return function(*copy.deepcopy(args), **copy.deepcopy(kwargs))
    except Exception as error:
        return error


def undefined(name, kwargs):
    """Whether the result holds memory that was never written."""
    return "empty" in name or ("where" in kwargs and "out" not in kwargs and name.endswith("__call__"))


def over_arrays(fn, call):
    """The call with `fn` of every array in it."""
    leaves, structure = flatten(call)
    return unflatten(structure, [fn(x) if type(x) is np.ndarray else x for x in leaves])


class Probe(np.ndarray):
    """An array that tells when NumPy asks it what to do."""

    def __array_function__(self, *_, **__):
        raise InterruptedError

    __array_ufunc__ = __array_function__


def is_seen(function, call):
    """Whether NumPy lets a Tensor have a say: it does not look into lists, mostly (see the last test)."""
    args, kwargs = over_arrays(lambda a: a.copy().view(Probe), call)
    try:
        function(*args, **kwargs)
    except InterruptedError:
        return True
    except Exception:
        return False
    return False


def is_float(x):
    return isinstance(x, (float, complex)) or getattr(getattr(x, "dtype", None), "kind", "") in ("f", "c")


def assert_same(result, expected, values=True):
    """NumPy's result, with Tensors for arrays; containers, Python values and all others keep their type."""
    if isinstance(expected, (tuple, list)):
        assert type(result) is type(expected) and len(result) == len(expected)
        for r, e in zip(result, expected, strict=True):
            assert_same(r, e, values)
    elif isinstance(expected, dict):
        assert_same([*result, *result.values()], [*expected, *expected.values()], values)
    elif type(expected) is np.ndarray or (isinstance(expected, np.generic) and expected.dtype.kind in "fciub"):
        assert isinstance(result, sadl.Tensor), f"{type(result)} in place of a Tensor"
        assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
        if values:
            np.testing.assert_array_equal(plain(result), expected)
    else:
        assert type(result) is type(expected)
        assert repr(result) == repr(expected)


class Listener:
    """A recorder that lets everything pass and remembers which operations there were."""

    def __init__(self):
        self.ops = []

    def record(self, op, inputs, params, outs):
        self.ops.append(op)

    def rebind(self, target, value):
        pass

    def read(self, how, instead):
        pass


def listen(function, call):
    """What a call gives while something listens, and the operations that it heard."""
    before, listener = MODE.get(), Listener()
    MODE.set(Mode(True, listener))
    try:
        return function(*call[0], **call[1]), listener.ops
    finally:
        MODE.set(before)


each_call = pytest.mark.parametrize("name", sorted(CALLS))


def test_every_function_has_a_plausible_call():
    assert len(FUNCTIONS) > 290 and len(UFUNCS) > 500
    without_arrays = {"fromfile", "lib.recfunctions.find_duplicates"}  # takes a file, a masked array
    assert {name for name in FUNCTIONS if not plausible(name)} <= without_arrays


@each_call
def test_without_gradients_everything_is_numpys(name):
    for call in plausible(name):
        expected_call, tensors = over_arrays(np.copy, call), over_arrays(lambda a: tensor(a), call)
        expected, result = CALLS[name](*expected_call[0], **expected_call[1]), CALLS[name](*tensors[0], **tensors[1])
        assert_same(result, expected, values=not undefined(name, call[1]))
        if not undefined(name, call[1]):
            assert_same(tensors, over_arrays(np.copy, expected_call))
        if isinstance(call[1].get("out"), np.ndarray):
            assert (result is tensors[1]["out"]) == (expected is expected_call[1]["out"])


@each_call
def test_what_listeners_hear_has_numpys_value(name):
    for call in plausible(name):
        expected = CALLS[name](*over_arrays(np.copy, call)[0], **over_arrays(np.copy, call)[1])
        try:
            result, _ = listen(CALLS[name], over_arrays(lambda a: tensor(a), call))
        except (TypeError, ValueError, IndexError) as error:
            assert str(error).startswith("[")
            continue
        for r, e in zip(flatten(result)[0], flatten(expected)[0], strict=True):
            if isinstance(e, (np.ndarray, np.generic)) and not undefined(name, call[1]):
                assert (np.shape(r), r.dtype) == (e.shape, e.dtype), call
                close = e.dtype.kind in "fc" and np.allclose(plain(r), e, rtol=1e-5 if e.itemsize < 8 else 1e-12)
                assert close or np.array_equal(plain(r), e)


@each_call
def test_with_gradients_nothing_is_lost(name):
    function = CALLS[name]
    for call in plausible(name):
        tracked = over_arrays(lambda a: tensor(a, requires_grad=is_float(a)), call)
        if not any(is_float(x) for x in flatten(tracked)[0] if isinstance(x, sadl.Tensor)):
            continue
        try:
            result = function(*tracked[0], **tracked[1])
        except (TypeError, ValueError, IndexError) as error:
            assert isinstance(error, (UnrecordedError, IndexError)) or str(error).startswith("["), error
            continue
        outs = [i for i, r in enumerate(flatten(result)[0]) if isinstance(r, sadl.Tensor) and r.requires_grad]
        lost = [r for i, r in enumerate(flatten(result)[0]) if i not in outs and is_float(r)]
        assert not lost or is_declared(function, tracked), f"{call} gives {lost} without a gradient"
        if outs:
            check_call(function, call, outs)


def is_declared(function, call):
    """Whether a call is known to have no gradient: by its name, or since an operation in it has none."""
    if {function, getattr(function, "__self__", None)} & (CONSTANT | HOST | METADATA):
        return True
    return any(not op.differentiable for op in listen(function, call)[1])


def check_call(function, call, outs):
    """Compare the gradients of the results at `outs` by all floating arrays in the call with differences.

    Where the call asks for single precision, differences are too coarse: there, with the gradients in double precision.
    """
    leaves, structure = flatten(call)
    places = [i for i, x in enumerate(leaves) if type(x) is np.ndarray and is_float(x)]
    arrays = tuple(leaves[i] for i in places)
    leaves = [tensor(x) if type(x) is np.ndarray else x for x in leaves]
    double = [np.float64 if x is np.float32 else x for x in leaves]

    def f(leaves, *arrays):
        filled = list(leaves)
        for i, a in zip(places, arrays, strict=True):
            filled[i] = a
        args, kwargs = unflatten(structure, filled)
        result = flatten(function(*args, **kwargs))[0]
        return [result[i] for i in outs]

    check_grads(partial(f, double), arrays, order=1)
    if any(x is np.float32 for x in leaves):
        pairs = [sadl.vjp(partial(f, given), *arrays) for given in (leaves, double)]
        grads = [pullback([np.ones(o.shape) for o in out]) for out, pullback in pairs]
        for single, exact in zip(*grads, strict=True):
            np.testing.assert_allclose(single, exact, rtol=1e-3, atol=1e-3)
