"""Tests of `sadl.kernels.vmath`: plain Python, NumPy and Numba-compiled kernels give the same numbers.

Takes the functions and a table of how accurate each has to be; the kernels are compiled with the
flags of generated ones. Fused kernels themselves are tested with the compiler.
"""

import ast
import ctypes
import functools
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from numba import cfunc, njit, types

from sadl.kernels import vmath, vmath_numba

FAST = {"nsz", "arcp", "contract", "afn"}
FLOATS = [np.float32, np.float64]
INTEGERS = [np.int8, np.int32, np.int64, np.uint8, np.uint32, np.uint64]
LONG = np.longdouble

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 1e-30, -1e-30, 1e4, -1e4]
SPECIAL += [np.inf, -np.inf, np.nan, 88.5, -88.5, 709.5, -745.0]


def sigmoid(x: Any) -> Any:
    z = np.exp(-np.absolute(x))
    return np.where(x < 0, z, 1) / (1 + z)


def erf(x: Any) -> Any:
    return np.array([math.erf(value) for value in x.astype(np.float64)])


class Case(NamedTuple):
    ulp: float  # largest error, in units of the last place of float32 and of float64
    arguments: int = 1
    reference: Callable[..., Any] | None = None  # NumPy's function of the same name
    floor: float = 0.0  # results smaller than this count as this large


CASES = {
    "exp": Case(1.5),
    "exp2": Case(1.5),
    "expm1": Case(2.5),
    "log": Case(1.5),
    "log2": Case(2.0),
    "log10": Case(2.5),
    "log1p": Case(1.5),
    "tanh": Case(1.5),
    "sigmoid": Case(2.5, reference=sigmoid),
    "sin": Case(1.5),
    "cos": Case(1.5),
    "tan": Case(2.5),
    "sinh": Case(2.5),
    "cosh": Case(2.0),
    "arcsin": Case(2.0),
    "arccos": Case(2.0),
    "arctan": Case(2.5),
    "arctan2": Case(2.5, 2),
    "arcsinh": Case(2.5),
    "arccosh": Case(2.5),
    "arctanh": Case(2.5),
    "erf": Case(2.5, reference=erf),
    "power": Case(1.5, 2),
    "sqrt": Case(0.5),
    "cbrt": Case(1.0),
    "hypot": Case(1.5, 2),
    "add_any_order": Case(0.5, 2, np.add),
    "multiply_any_order": Case(0.5, 2, np.multiply),
    "logaddexp": Case(2.5, 2, floor=1.0),  # where it is near 0, its larger argument was not
    "maximum": Case(0, 2),
    "minimum": Case(0, 2),
    "fmax": Case(0, 2),
    "fmin": Case(0, 2),
    "floor": Case(0),
    "ceil": Case(0),
    "trunc": Case(0),
    "rint": Case(0),
    "absolute": Case(0),
    "sign": Case(0),
    "copysign": Case(0, 2),
    "isnan": Case(0),
    "isinf": Case(0),
    "isfinite": Case(0),
}
# Rounded to the dtype on the way, so not comparable with more precise arithmetic.
STEPWISE = ["floor_divide", "remainder"]
VECTORISED = [n for n in CASES if n not in ("isnan", "isinf", "isfinite")] + ["where"]


def kernel_of(function: Callable[..., Any], count: int) -> Callable[..., None]:
    def one(x: Any, out: Any, lo: int, hi: int) -> None:
        for i in range(lo, hi):
            out[i] = function(x[i])

    def two(x: Any, y: Any, out: Any, lo: int, hi: int) -> None:
        for i in range(lo, hi):
            out[i] = function(x[i], y[i])

    def three(x: Any, y: Any, z: Any, out: Any, lo: int, hi: int) -> None:
        for i in range(lo, hi):
            out[i] = function(x[i], y[i], z[i])

    return (one, two, three)[count - 1]


def compile_kernel(kernel: Callable[..., None], *dtypes: Any) -> Any:
    # Numba cannot store through a pointer to booleans; their bytes are those of uint8.
    names = [np.dtype(dtype).name.replace("bool", "uint8") for dtype in dtypes]
    pointers = [types.CPointer(getattr(types, name)) for name in names]
    signature = types.void(*pointers, types.int64, types.int64)
    return cfunc(signature, fastmath=FAST, error_model="numpy")(kernel)


@functools.cache
def compiled(name: str, *dtypes: Any) -> Any:
    """A range kernel that applies a function of `vmath` to pointers of these dtypes."""
    output = vmath.resolve(name, tuple(map(np.dtype, dtypes)))[1]
    return compile_kernel(kernel_of(vmath.FUNCTIONS[name], len(dtypes)), *dtypes, output.type)


def launch(kernel: Any, output: Any, *arrays: Any) -> Any:
    out = np.empty(arrays[0].size, output)
    kinds = [ctypes.c_void_p] * (len(arrays) + 1) + [ctypes.c_int64] * 2
    entry = ctypes.CFUNCTYPE(None, *kinds)(kernel.address)
    entry(*(array.ctypes.data for array in arrays), out.ctypes.data, 0, out.size)
    return out


def jitted(name: str, *arrays: Any) -> Any:
    output = vmath.resolve(name, tuple(array.dtype for array in arrays))[1]
    return launch(compiled(name, *(array.dtype.type for array in arrays)), output, *arrays)


def plain(name: str, *arrays: Any) -> Any:
    return vmath.FUNCTIONS[name](*arrays)


def reference(name: str, *arrays: Any) -> Any:
    with np.errstate(all="ignore"):
        return (CASES[name].reference or getattr(np, name))(*(a.astype(LONG) for a in arrays))


def exact(name: str, *arrays: Any) -> Any:
    with np.errstate(all="ignore"):
        return (getattr(np, name, None) or CASES[name].reference)(*arrays)


def samples(dtype: Any, seed: int = 0) -> Any:
    """All exponents alike, the ranges where functions bend, near multiples of pi/2, special values."""
    random = np.random.default_rng(seed)
    width = np.dtype(dtype).itemsize
    spread = random.bytes(4000 * width)
    parts = [np.frombuffer(spread, dtype)]
    parts += [random.uniform(-s, s, 2000).astype(dtype) for s in (0.3, 1, 3, 10, 100, 1000, 1e5)]
    parts += [(1 + random.uniform(-1, 1, 2000) * 10.0 ** random.uniform(-8, 0, 2000)).astype(dtype)]
    parts += [(np.pi / 2 * random.integers(-9999, 9999, 2000)).astype(dtype)]
    parts += [np.array(SPECIAL, dtype), extremes(dtype)]
    return np.concatenate(parts)


def extremes(dtype: Any) -> Any:
    info = np.finfo(dtype)
    values = [info.max, info.tiny, info.smallest_subnormal]
    return np.array([*values, *(-v for v in values)], dtype)


def arguments(name: str, dtype: Any) -> tuple[Any, ...]:
    x = samples(dtype)
    if CASES[name].arguments == 1:
        return (x,)
    random = np.random.default_rng(1)
    few = random.choice(np.array(SPECIAL, dtype), x.size)
    return x, np.where(random.random(x.size) < 0.5, few, random.permutation(x))


def errors(got: Any, want: Any, floor: float) -> Any:
    """Distance in units of the last place; infinite where one is finite and the other is not."""
    with np.errstate(all="ignore"):
        rounded = want.astype(got.dtype)
        unit = np.spacing(np.maximum(np.absolute(rounded), got.dtype.type(floor)))
        distance = np.absolute(got.astype(LONG) - want) / unit.astype(LONG)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    finite = np.isfinite(got) & np.isfinite(rounded)
    return np.where(finite, distance, np.where(same, 0, np.inf))


def assert_close(name: str, got: Any, want: Any, arrays: tuple[Any, ...], ulp: float) -> None:
    if got.dtype == bool:
        np.testing.assert_array_equal(got, want)
        return
    error = errors(got, want, CASES[name].floor)
    worst = int(np.argmax(error))
    at = [array[worst] for array in arrays]
    assert error[worst] <= ulp, f"{name}{at} = {got[worst]!r}, not {want[worst]!r}"


def assert_same(got: Any, want: Any) -> None:
    """Equal to the bit, except that one NaN is as good as another."""
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)
    if got.dtype.kind == "f":
        known = ~np.isnan(want)
        np.testing.assert_array_equal(np.signbit(got)[known], np.signbit(want)[known])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", CASES)
def test_plain_is_accurate(name: str, dtype: Any) -> None:
    arrays = arguments(name, dtype)
    if name == "tan":  # beyond the range of our own reduction it is NumPy's, with NumPy's error
        arrays = (arrays[0][~(np.absolute(arrays[0]) > 1e4)],)
    got = plain(name, *arrays)
    assert got.dtype == (bool if name.startswith("is") else dtype)
    assert_close(name, got, reference(name, *arrays), arrays, CASES[name].ulp)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", CASES)
def test_jitted_is_accurate(name: str, dtype: Any) -> None:
    arrays = arguments(name, dtype)
    want = reference(name, *arrays)
    assert_close(name, jitted(name, *arrays), want, arrays, CASES[name].ulp)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", CASES)
def test_jitted_agrees_with_plain(name: str, dtype: Any) -> None:
    """Apart from fused multiply-adds they do the same arithmetic."""
    arrays = arguments(name, dtype)
    if name == "tan":
        arrays = (arrays[0][~(np.absolute(arrays[0]) > 1e4)],)
    ulp = 0 if CASES[name].ulp == 0 else CASES[name].ulp + 0.5
    assert_close(name, jitted(name, *arrays), plain(name, *arrays), arrays, ulp)


@pytest.mark.parametrize("run", [plain, jitted])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [n for n in CASES if n not in ("sigmoid", "erf")])
def test_special_values_are_numpys(name: str, dtype: Any, run: Any) -> None:
    """Where the result is 0, infinite or NaN, it is NumPy's to the sign."""
    special = np.array(SPECIAL, dtype)
    arrays: tuple[Any, ...] = (special,)
    if CASES[name].arguments == 2:
        arrays = tuple(np.ascontiguousarray(a.ravel()) for a in np.meshgrid(special, special))
    got, want = run(name, *arrays), exact(name, *arrays)
    chosen = (want == 0) | ~np.isfinite(want)
    if name in ("maximum", "minimum", "fmax", "fmin"):  # of two zeros NumPy takes either
        got, want = got + 0, want + 0
    assert_same(got[chosen], want[chosen])


@pytest.mark.parametrize("run", [plain, jitted])
@pytest.mark.parametrize("dtype", FLOATS)
def test_sigmoid_and_erf_at_special_values(dtype: Any, run: Any) -> None:
    x = np.array([-np.inf, -1e4, 0.0, 1e4, np.inf, np.nan], dtype)
    assert_same(run("sigmoid", x), np.array([0, 0, 0.5, 1, 1, np.nan], dtype))
    x[2] = -0.0
    assert_same(run("erf", x), np.array([-1, -1, -0.0, 1, 1, np.nan], dtype))


@pytest.mark.parametrize("run", [plain, jitted])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", STEPWISE)
def test_division_of_floats_is_numpys(name: str, dtype: Any, run: Any) -> None:
    x, y = arguments("power", dtype)
    assert_same(run(name, x, y), exact(name, x, y))


@pytest.mark.parametrize("dtype", FLOATS)
def test_far_powers_are_accurate(dtype: Any) -> None:
    """A base next to 1 and a huge exponent: every error of the logarithm shows."""
    random = np.random.default_rng(2)
    base = (1 + random.uniform(-1, 1, 5000) * 10.0 ** random.uniform(-6, -0.5, 5000)).astype(dtype)
    slope = np.log(base.astype(np.float64))
    limit = 87 if dtype is np.float32 else 700
    exponent = (random.uniform(-limit, limit, 5000) / np.where(slope == 0, 1, slope)).astype(dtype)
    for run in (plain, jitted):
        got = run("power", base, exponent)
        assert_close("power", got, reference("power", base, exponent), (base, exponent), 1.5)


def integer_pairs(dtype: Any) -> tuple[Any, Any]:
    info = np.iinfo(dtype)
    values = [0, 1, 2, 3, 5, 7, 100, info.max, info.max - 1, info.min, info.min + 1]
    values += [-1, -2, -3, -7, -100] if info.min else []
    a, b = np.meshgrid(np.array(values, dtype), np.array(values, dtype))
    return np.ascontiguousarray(a.ravel()), np.ascontiguousarray(b.ravel())


@pytest.mark.parametrize("run", [plain, jitted])
@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", ["maximum", "minimum", "floor_divide", "remainder", "power"])
def test_pairs_of_integers_are_numpys(name: str, dtype: Any, run: Any) -> None:
    """Division by 0 gives 0; the lowest integer by -1, and powers, wrap."""
    a, b = integer_pairs(dtype)
    if name == "power":
        a, b = a[b >= 0], b[b >= 0]
    assert_same(run(name, a, b), exact(name, a, b))


@pytest.mark.parametrize("run", [plain, jitted])
@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", ["absolute", "sign", "isnan", "isfinite", "isinf", "floor"])
def test_integers_are_numpys(name: str, dtype: Any, run: Any) -> None:
    a, _ = integer_pairs(dtype)
    assert_same(run(name, a), exact(name, a))


def test_negative_integer_powers() -> None:
    """NumPy raises, which a kernel cannot: there they are rounded towards zero."""
    a = np.array([2, 1, -1, -1], np.int64)
    b = np.array([-1, -2, -3, -4], np.int64)
    with pytest.raises(ValueError, match="negative integer powers"):
        plain("power", a, b)
    np.testing.assert_array_equal(jitted("power", a, b), [0, 1, -1, 1])


def test_booleans() -> None:
    @njit
    def larger(a: Any, b: Any, out: Any) -> None:
        for i in range(len(a)):
            out[i] = vmath.where(a[i], vmath.maximum(a[i], b[i]), vmath.minimum(a[i], b[i]))

    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    out = np.empty(4, bool)
    larger(a, b, out)
    np.testing.assert_array_equal(out, [True, True, False, False])


@pytest.mark.parametrize("dtype", [*FLOATS, np.int32, np.uint8])
def test_where(dtype: Any) -> None:
    condition = np.array([True, False, True])
    a, b = np.array([1, 1, 0], dtype), np.array([0, 0, 1], dtype)
    for run in (plain, jitted):
        assert_same(run("where", condition, a, b), np.where(condition, a, b))


@pytest.mark.parametrize(
    ("name", "dtypes"),
    [
        ("exp", [np.int32]),
        ("power", [np.float32, np.float64]),
        ("power", [np.float32, np.int32]),
        ("maximum", [np.int32, np.uint32]),
        ("where", [np.float32, np.float32, np.int64]),
        ("arctan2", [np.float32, np.uint8]),
        ("sign", [np.float32]),
    ],
)
def test_dtypes_are_promoted_like_numpys(name: str, dtypes: list[Any]) -> None:
    arrays = [np.array([1, 0, 1], dtype) for dtype in dtypes]
    want = exact(name, *arrays)
    for run in (plain, jitted):
        got = run(name, *arrays)
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [*CASES, *STEPWISE])
def test_a_scalar_gives_a_scalar_of_its_dtype(name: str, dtype: Any) -> None:
    count = CASES[name].arguments if name in CASES else 2
    y = vmath.FUNCTIONS[name](*[dtype(0.75)] * count)
    assert type(y) is (np.bool_ if name.startswith("is") else dtype)


def test_every_function_is_tested() -> None:
    assert set(vmath.FUNCTIONS) == {*CASES, *STEPWISE, "where", "philox"}  # the latter in test_random


def test_vmath_needs_numpy_alone() -> None:
    with open(vmath.__file__) as file:
        tree = ast.parse(file.read())
    modules = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    modules |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) if n.module}
    assert modules == {"functools", "collections.abc", "typing", "numpy"}


# ---- what LLVM makes of it ----


def calls(kernel: Any) -> set[str]:
    """The functions a kernel declares but does not define: what remains to call."""
    declared = re.findall(r"^declare .*@([\w.]+)\(", kernel.inspect_llvm(), re.MULTILINE)
    return {name for name in declared if not name.startswith("llvm.")}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", VECTORISED)
def test_loops_are_vectorised(name: str, dtype: Any) -> None:
    """Sine and cosine too, although they fall back on the C library where the angle is huge."""
    dtypes = [dtype] * (CASES[name].arguments if name in CASES else 2)
    kernel = compiled(name, *([np.bool_] if name == "where" else []), *dtypes)
    assert re.search(r"load <\d+ x (float|double)>", kernel.inspect_llvm())
    suffix = "f" if dtype is np.float32 else ""
    assert calls(kernel) <= ({name + suffix} if name in ("sin", "cos", "tan") else set())


def maximum_of_rows(x: Any, out: Any, lo: int, hi: int) -> None:
    for i in range(lo, hi):
        largest = np.float32(-np.inf)
        for j in range(100):
            largest = vmath.maximum(largest, x[100 * i + j])
        out[i] = largest


def sum_of_rows(x: Any, out: Any, lo: int, hi: int) -> None:
    for i in range(lo, hi):
        total = np.float32(0)
        for j in range(100):
            total = vmath.add_any_order(total, vmath.exp(x[100 * i + j]))
        out[i] = total


def inverse_root(x: Any, out: Any, lo: int, hi: int) -> None:
    for i in range(lo, hi):
        out[i] = np.float32(1) / vmath.sqrt(x[i])


def run_rows(kernel: Any, x: Any) -> Any:
    out = np.empty(len(x), x.dtype)
    kinds = [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 2
    ctypes.CFUNCTYPE(None, *kinds)(kernel.address)(x.ctypes.data, out.ctypes.data, 0, len(x))
    return out


@pytest.mark.parametrize(
    ("rows", "operation", "expected"),
    [
        (maximum_of_rows, "fmaximum", lambda x: x.max(axis=1)),
        (sum_of_rows, "fadd", lambda x: np.exp(x).sum(axis=1)),
    ],
)
def test_reductions_are_vectorised(rows: Any, operation: str, expected: Any) -> None:
    x = np.random.default_rng(0).uniform(-3, 3, (5, 100)).astype(np.float32)
    x[2, 7] = np.nan
    kernel = compile_kernel(rows, np.float32, np.float32)
    assert f"llvm.vector.reduce.{operation}.v" in kernel.inspect_llvm()
    np.testing.assert_allclose(run_rows(kernel, x), expected(x), rtol=1e-5)


def test_inverse_root_survives_fastmath() -> None:
    """LLVM would estimate 1/sqrt(x) for these flags, with NaN at 0 and at infinity."""
    x = np.array([0.0, -0.0, np.inf, 4.0] * 8, np.float32)
    kernel = compile_kernel(inverse_root, np.float32, np.float32)
    assert_same(launch(kernel, np.float32, x), exact("divide", np.float32(1), np.sqrt(x)))


@njit(fastmath=FAST, error_model="numpy")
def shifted_sine(x: Any) -> Any:
    return vmath.sin(x) + np.float32(1)


def two_modules(x: Any, out: Any, lo: int, hi: int) -> None:
    for i in range(lo, hi):
        out[i] = shifted_sine(x[i]) + vmath.sin(x[i]) + vmath.cos(x[i])


def test_huge_angles_in_functions_that_call_each_other() -> None:
    """The C library's sine is in both modules, with its vector versions; linking merges them."""
    x = np.random.default_rng(0).uniform(-3e6, 3e6, 1000).astype(np.float32)
    got = launch(compile_kernel(two_modules, np.float32, np.float32), np.float32, x)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(got, 2 * np.sin(wide) + np.cos(wide) + 1, atol=1e-6)


def test_an_operation_unknown_to_lanes_is_an_error() -> None:
    lane = vmath_numba.Lane(None, None, np.float32)
    with pytest.raises(KeyError):
        np.arctan(lane)


def test_the_comparison_notices_wrong_results() -> None:
    x = samples(np.float32)[:100]
    want = reference("exp", x)
    far = plain("exp", x) * np.float32(1 + 3e-7)
    with pytest.raises(AssertionError, match=r"exp\["):
        assert_close("exp", far, want, (x,), CASES["exp"].ulp)
    with pytest.raises(AssertionError):
        assert_same(np.array([0.0]), np.array([-0.0]))
