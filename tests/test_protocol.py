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
    [
        (X, 1),
        (X, 2),
        (X, 0.5),
        (2.0, X),
        (X, 0, 1),
        (X, (1, 0)),
        (X, (4, 3)),
        (X, [0, 2], 0),
        (X, IX, 1),
        (V, [1.0] * 4),
    ],
    [
        (MASK, X),
        (MASK, X, Y),
        (X, MASK, Y),
        (X, MASK, 0.5),
        (X, V),
        (V, [0, 3], 0.5),
        (IX, [X, Y, Z, X]),
        ([MASK], [X]),
    ],
    [
        ("ij,kj", X, Y),
        ("ij->ji", X),
        (V, [V > 0.5], [0.5]),
        (V, V, W),
        (X, IX, Y, 1),
        (S.reshape(3, 3, 1, 1)[:, :, 0],),
    ],
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
UFUNC_METHODS = ["__call__", "reduce", "accumulate", "outer", "reduceat", "at"]
NUMERIC = [u for u in overrides.get_overridable_numpy_ufuncs() if "d" in "".join(u.types) or "l" in "".join(u.types)]
UFUNCS = {f"{u.__name__}.{m}": (u, m) for u in NUMERIC for m in UFUNC_METHODS}
CALLS = FUNCTIONS | {name: getattr(u, m) for name, (u, m) in UFUNCS.items()}

# Methods and attributes of ndarray that are not tried, and why they can do no harm.
HARMLESS = {
    "__array__ __array_interface__ __array_struct__ __dlpack__ base ctypes data": "the memory, asked for by name",
    "__array_finalize__ __array_function__ __array_ufunc__ __array_wrap__ __array_namespace__": "NumPy's protocols",
    "__dlpack_device__ device flags itemsize nbytes ndim size setflags to_device": "no values",
    "__reduce__ __reduce_ex__ __setstate__ __copy__ __deepcopy__": "a copy of a leaf is a leaf; tested below",
    "__class_getitem__ __array_priority__ __doc__ __new__": "of the class",
    "__delitem__": "an error in NumPy, too",
    "__repr__ __str__ __format__ __hash__ __len__ __iter__ __sizeof__ dump tofile": "text, files; tested below",
    "resize": "takes an array that owns its memory, which a Tensor does not",
    "T mT real imag flat shape dtype strides": "attributes; tested below",
}
READS = {
    "item",
    "tolist",
    "tobytes",
    "dumps",
    "__float__",
    "__int__",
    "__complex__",
    "__index__",
    "__bool__",
    "__contains__",
}
UNTRIED = (
    set(" ".join(HARMLESS).split()) | (set(dir(object)) - set(vars(np.ndarray))) | {"__class_getitem__", "__new__"}
)
METHODS = [name for name in dir(np.ndarray) if name not in UNTRIED]
METHOD_ARGUMENTS = [
    [
        (X,),
        (X, 0),
        (X, 1),
        (X, -1),
        (X, 0, 1),
        (X, (1, 0)),
        (X, [0, 2]),
        (X, 4, 3),
        (X, (2, 6)),
        (X, 1, 0),
        (X, 0.4, 0.6),
    ],
    [
        (X, float),
        (X, np.float32),
        (X, int),
        (X, Y),
        (X, X.T),
        (X, "F"),
        (X, MASK),
        (X, MASK[0], 1),
        (X, IX),
        (X, 0, 0.5),
    ],
    [(V,), (V, W), (V, 1), (V, [0, 2], [0.5, 0.6]), (IX[0], V), (IX[0], [X[0], X[1], X[2], X[0]]), (IX[:1, :1],)],
    [
        (2 * X, 0.5),
        (X, [1.0, 2.0, 3.0, 4.0]),
        (X, slice(1)),
        (X, MASK, 0.5),
        (X, Ellipsis, Y),
        (IX, IX),
        (IX, 1),
        (IX,),
    ],
    [(S, 0.7 * S), (np.array(2),), (X, Y, float)],
]


def by_name(name):
    def method(array, *args, **kwargs):
        return getattr(array, name)(*args, **kwargs)

    return method


CALLS |= {f"ndarray.{name}": by_name(name) for name in METHODS}
NAMED = {
    "reduceat": [(X, [0, 2]), (V, [0, 2, 1])],
    "at": [(X, 0, 0.5), (X, [0, 2], V), (V, [0, 0], [0.5, 0.6]), (X, 1)],
}


def options_of(function):
    try:
        names = set(inspect.signature(function).parameters)
    except ValueError:
        names = set()
    extra = {"where", "initial", "keepdims", "dtype", "axis", "out"} if is_open(function) else set()
    return [{k: v} for k, values in OPTIONS.items() if k in names | extra for v in values]


def is_open(function):
    """Whether a function does not tell which options it takes."""
    return isinstance(getattr(function, "__self__", None), np.ufunc) or function.__name__ == "method"


def plausible(name):
    """Every call of a function that works on plain arrays, as (args, kwargs)."""
    function = CALLS[name]
    calls = [(args, kwargs) for n, args, kwargs in SPECIAL if n == name]
    calls += [(args, {}) for args in NAMED.get(name.rpartition(".")[2], ())]
    table = METHOD_ARGUMENTS if name.startswith("ndarray.") else [] if name.startswith("save") else ARGUMENTS
    calls += [(args, {}) for row in table for args in row if len(args) < 3 or name != "ndarray.__ipow__"]
    working = [c for c in calls if not isinstance(attempt(function, *c), Exception)]
    varied = [(args, option) for args, kwargs in working[:4] if not kwargs for option in options_of(function)]
    varied += [(args, {**o, "out": X * 0}) for args, o in varied if "where" in o and is_open(function)]
    working += [c for c in varied if not isinstance(attempt(function, *c), Exception)]
    return [c for c in working if is_seen(function, c)]


def attempt(function, args, kwargs):
    """What a call on copies of its arguments gives, or its error."""
    try:
        with warnings.catch_warnings(action="error"):
            result = function(*copy.deepcopy(args), **copy.deepcopy(kwargs))
            return TypeError() if result is NotImplemented else result
    except Exception as error:
        return error


def undefined(name, kwargs):
    """Whether the result holds memory that was never written."""
    return "empty" in name or ("where" in kwargs and "out" not in kwargs and name.endswith(("__call__", "clip")))


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
    if function.__name__ == "method":
        return True
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

    def rebind(self, pairs, part):
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


ORDERED = "sort partition median quantile percentile trim unique union setxor intersect setdiff"
PER_ARGUMENT = {
    "compress",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_arrays",
    "ix_",
    "meshgrid",
}  # of a list a plain array
# On processors with AVX512 NumPy 2.4 gives a[0] ** a[-1]: its loops read the accumulator once only.
WRONG_IN_NUMPY = {f"{u}.{m}" for u in ("arctan2", "power") for m in ("reduce", "reduceat")}


def has_kinks(name, call):
    """Whether differences mean nothing: equal elements that change places, knots out of order, infinite results."""
    arrays = [x for x in flatten(call)[0] if type(x) is np.ndarray]
    if any(word in name for word in ORDERED.split()):
        return any(np.unique(x).size < x.size for x in arrays)
    if name == "interp":
        return np.any(np.diff(call[0][1]) < 0) or np.isin(*call[0][:2]).any()
    expected = CALLS[name](*over_arrays(np.copy, call)[0], **over_arrays(np.copy, call)[1])
    return not all(np.all(np.isfinite(x)) for x in flatten(expected)[0] if is_float(x))


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
    for call in plausible(name) if name not in WRONG_IN_NUMPY | {"unique_values"} else ():  # in no certain order
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
        lost = [
            r for i, r in enumerate(flatten(result)[0]) if i not in outs and is_float(r) and name not in PER_ARGUMENT
        ]
        assert not lost or is_declared(function, tracked), f"{call} gives {lost} without a gradient"
        if outs and name not in WRONG_IN_NUMPY and not has_kinks(name, call):
            try:
                check_call(function, call, outs)
            except sadl.GradientError as error:  # that a result has none is found out when it is asked for
                assert str(error).startswith("[") and "Instead" in str(error)


def is_declared(function, call):
    """Whether a call is known to have no gradient: by its name, or since an operation in it has none."""
    if any(function is CALLS[f"ndarray.{name}"] for name in READS):
        return True
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


# ---- what ndarray has beyond functions ----------------------------------------------------------------------------


def leaf(value=X):
    return tensor(value, requires_grad=True)


def test_every_method_of_ndarray_is_tried_or_known_to_be_harmless():
    assert set(" ".join(HARMLESS).split()) <= set(dir(np.ndarray)) and set(READS) <= set(METHODS)
    assert not {name for name in METHODS if not plausible(f"ndarray.{name}")}


@pytest.mark.parametrize("text", ["t.T", "t.mT", "1.0 * t.flat[:5]", "1.0 * t.real", "t.imag + 1.0"])
def test_attributes_with_values_are_recorded_or_an_error(text):
    f = eval(f"lambda t: {text}")
    try:
        check_grads(lambda x: f(x) ** 2, (X,))
    except UnrecordedError as error:
        assert "Instead" in str(error)
    np.testing.assert_array_equal(f(tensor(X)), f(X))


@pytest.mark.parametrize(
    ("name", "value"), [("shape", (4, 3)), ("dtype", np.int64), ("strides", (8, 24)), ("flat", Y.ravel())]
)
def test_attributes_are_assigned_where_no_gradient_is_lost(name, value):
    a, t = X.copy(), tensor(X)
    with warnings.catch_warnings(action="ignore"):
        setattr(a, name, value)
        setattr(t, name, value)
        assert_same(t * 1, a * 1)
        with pytest.raises((UnrecordedError, sadl.GradientError)):
            setattr(leaf(), name, value)


def test_real_and_imaginary_parts_are_assigned():
    t = tensor(X + 0j)
    t.real, t.imag = 1.0, Y
    assert_same(t, 1.0 + 1j * Y)


def test_metadata_is_plain():
    for t in (tensor(X), leaf(), leaf() * 2):
        assert (t.shape, t.ndim, t.size, t.itemsize, t.nbytes) == ((3, 4), 2, 12, 8, 96) and t.device == "cpu"
        assert type(np.shape(t)[0]) is int and np.ndim(t) == 2 and np.size(t, 0) == 3 and np.result_type(t, 1) == float
        assert len(t) == 3 and not hasattr(t, "node") and t.flags.c_contiguous and t.strides == (32, 8)


@pytest.mark.parametrize("f", [np.sum, np.mean, np.max, np.std], ids=lambda f: f.__name__)
def test_tensors_passed_by_keyword_are_tracked(f):
    t = leaf()
    f(a=t).backward()
    assert t.grad is not None and np.any(t.grad)


# ---- what Python asks of a Tensor ----------------------------------------------------------------------------------


def test_results_without_dimensions_are_tensors():
    for t in (tensor(X), leaf()):
        for scalar in (
            t.sum(),
            t[0, 0],
            t.max(),
            np.dot(t[0], t[0]),
            t.mean(),
            t.argmax(),
            np.float64(2) * t[0, 0],
            abs(t[1, 1]),
        ):
            assert isinstance(scalar, sadl.Tensor) and isinstance(scalar, np.ndarray) and scalar.shape == ()


def test_reading_values():
    t = leaf([[2.5]])
    assert (float(t[0, 0]), int(t[0, 0]), complex(t[0, 0]), bool(t), t.item(), t.tolist()) == (
        2.5,
        2,
        2.5 + 0j,
        True,
        2.5,
        [[2.5]],
    )
    assert list(range(tensor(3))) == [0, 1, 2] and [10, 20, 30][tensor(1)] == 20 and operator.index(tensor(2)) == 2
    assert f"{t[0, 0]:.2f}" == "2.50" and f"{t}" == "[[2.5]]" == str(t) and "requires_grad=True" in repr(t)
    for wrong in (
        lambda: bool(leaf()),
        lambda: float(leaf()),
        lambda: operator.index(leaf([1.0])[0]),
        lambda: f"{leaf():.2f}",
    ):
        with pytest.raises((TypeError, ValueError)):
            wrong()


def test_iteration_membership_and_length():
    t = leaf()
    first, *_ = t
    assert len(list(t)) == len(t) == 3 and first.requires_grad and np.array_equal(first, X[0])
    assert X[0, 0] in t and 7.0 not in t and sum(1 for _ in reversed(t)) == 3
    check_grads(lambda x: sum(row * i for i, row in enumerate(x)), (X,))
    with pytest.raises(TypeError, match="0-d"):
        iter(t[0, 0])
    with pytest.raises(TypeError):
        len(t[0, 0])


def test_hash_and_equality():
    a, b = leaf(), leaf()
    assert len({a: 1, b: 2}) == 2 and {a: 1}[a] == 1 and hash(a) != hash(b)
    assert np.all(a == b) and not np.any(a != b)
    for other in (None, "text", object(), float):
        try:
            expected = other == X
        except TypeError:
            continue
        assert np.array_equal(a == other, expected) and np.array_equal(a != other, ~expected)


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))], ids=["copy", "deep", "pickle"]
)
def test_copies(again):
    for t in (tensor(X), leaf(), sadl.Parameter(X)):
        twin = again(t)
        assert (
            type(twin) is type(t)
            and np.array_equal(twin, t)
            and twin.requires_grad == t.requires_grad
            and twin.is_leaf() == (again is not copy.copy or isinstance(t, sadl.Parameter) or not t.requires_grad)
        )
        assert not np.shares_memory(twin, t)
    middle = leaf() * 2
    assert again(middle).requires_grad == (again in (copy.copy, copy.deepcopy))


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy])
def test_copies_of_a_result_are_recorded(again):
    check_grads(lambda x: again(x * 2) ** 2, (X,))


# ---- other operands ------------------------------------------------------------------------------------------------


class Foreign:
    """Something that handles operators with arrays itself."""

    __array_ufunc__ = None

    def __radd__(self, other):
        return "mine"

    __rmatmul__ = __radd__


BESIDE = """
Y + t | Y - t | np.float64(2) * t | np.float32(3) / t | [1.0, 2.0, 3.0, 4.0] - t | (1.0, 2.0, 3.0, 4.0) * t | 2 - t
np.int64(2) ** t | Y @ t.T | np.add([1.0, 2.0, 3.0, 4.0], t) | [t[0, 0], t[1, 1], t[2, 2], 1.0] * t | t ** [1, 2, 3, 4]
np.multiply(t[0], [t[0, 0], 2.0, t[1, 1], t[2, 2]]) | np.concatenate([[t[0, 0], t[1, 1]], t[0]]) | t ** MASK | t * MASK
np.where(MASK[0], [t[0, 0], t[1, 1], 2.0, 3.0], t[0]) | t @ [t[0, 0], 1.0, 2, 3] | 7 % t
np.dot(t[0], [t[0, 1], 1.0, 2, 3])
"""
TEXTS = [text.strip() for line in BESIDE.strip().splitlines() for text in line.split("|")]


@pytest.mark.parametrize("expression", TEXTS)
def test_arrays_lists_and_scalars_beside_a_tensor(expression):
    f = eval(f"lambda t: {expression}", {"np": np, "Y": Y, "MASK": MASK})
    assert_same(f(tensor(X)), f(X))
    check_grads(f, (X,))


def test_operands_that_handle_operators_themselves():
    assert leaf() + Foreign() == "mine" and tensor(X) @ Foreign() == "mine"
    with pytest.raises(TypeError):
        leaf() - Foreign()
    for wrong in ("text", None, object()):
        with pytest.raises(TypeError):
            leaf() + wrong


def test_a_plain_array_cannot_take_a_gradient_in_silence():
    a, t = np.zeros((3, 4)), leaf()
    with pytest.raises(UnrecordedError, match="plain array"):
        a += t
    for call in (np.add, np.multiply):
        with pytest.raises(UnrecordedError, match="plain array"):
            call(t, 1.0, out=a)
    for call in (lambda: np.sum(t, out=np.zeros(())), lambda: t.sum(0, None, np.zeros(4)), lambda: np.copyto(a, t)):
        with pytest.raises(UnrecordedError):
            call()
    assert not a.any()


# ---- where NumPy does not ask --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda t: np.asarray(t),
        lambda t: np.array(t),
        lambda t: np.array([t[0], t[1]]),  # instead: np.stack([t[0], t[1]])
        lambda t: np.sum([t[0], t[1]]),  # instead: np.sum(np.stack(...)), or the sum of sums
        lambda t: np.square([t[0], t[1]]),
        lambda t: np.asanyarray(t, dtype=np.float32),  # instead: t.astype(np.float32)
        lambda t: np.vectorize(lambda v: v * 2)(t),
        lambda t: np.lib.stride_tricks.as_strided(t),
        lambda t: np.fromiter((v for v in t[0]), float),
        lambda t: np.ma.array(t),
        lambda t: next(iter(np.nditer(t))),
        lambda t: t.base,
        lambda t: memoryview(t),
    ],
)
def test_footgun_numpy_converts_without_asking(f):
    """Explicit conversions, and lists of Tensors: NumPy offers no hook, so what comes out is a constant."""
    assert not getattr(f(leaf()), "requires_grad", False)


def test_footgun_writing_into_a_plain_array_without_asking():
    a = np.zeros((3, 4))
    a[0] = leaf()[0]  # instead: a = sadl.zeros((3, 4), dtype=float)
    assert np.array_equal(a[0], X[0])
