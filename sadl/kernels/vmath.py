"""Scalar math for generated kernels, free of branches so that LLVM can vectorise it.

Takes and gives NumPy scalars (arrays work too); dtypes follow NumPy, so float32 stays float32.
How Numba comes to know these functions is left to `vmath_numba`; this file needs NumPy alone.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Function = Callable[..., Any]
FUNCTIONS: dict[str, Function] = {}

_F32, _F64, _I64 = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64)
_UNSIGNED = {_F32: np.uint32, _F64: np.uint64}
_FLOAT = {np.dtype(np.uint32): np.float32, np.dtype(np.uint64): np.float64}
_DTYPES_LIKE = {"sigmoid": "tanh", "erf": "tanh", "add_any_order": "add", "multiply_any_order": "multiply"}


def _by_dtype(single: Any, double: Any) -> dict[np.dtype, Any]:
    return {_F32: single, _F64: double}


def resolve(name: str, dtypes: Sequence[np.dtype]) -> tuple[Sequence[np.dtype], np.dtype]:
    """The dtypes a function converts its arguments to, and that of its result: NumPy's rules."""
    if name == "where":
        common = np.result_type(*dtypes[1:])
        return (np.dtype(bool), common, common), common
    if name == "philox":
        return (_I64,) * 3, _I64
    ufunc = getattr(np, _DTYPES_LIKE.get(name, name))
    *inputs, output = ufunc.resolve_dtypes((*dtypes, None))
    return tuple(inputs), output


def _public(body: Function) -> Function:
    """List a function, promote its arguments, and silence overflows on the way to a right result.

    Bodies also run on `vmath_numba.Lane`, which turns each NumPy operation into an instruction.
    Hence no `if` on values, unsigned integers throughout (they wrap, and shift cheaply on every
    machine), and Python literals, which take the dtype of what they meet.
    """
    name = body.__name__

    @functools.wraps(body)
    def function(*arguments: Any) -> Any:
        wanted, _ = resolve(name, tuple(a.dtype for a in arguments))
        with np.errstate(all="ignore"):
            return body(*map(_cast, arguments, wanted))

    FUNCTIONS[name] = function
    return function


def _cast(x: Any, dtype: Any) -> Any:
    return x if x.dtype == dtype else x.astype(dtype)


def _bits(x: Any) -> Any:
    return x.view(_UNSIGNED[x.dtype])


def _from_bits(bits: Any) -> Any:
    return bits.view(_FLOAT[bits.dtype])


def _select(condition: Any, a: Any, b: Any) -> Any:
    return np.where(condition, a, b)[()]


def _at_least(x: Any, low: Any) -> Any:
    """maximum(x, low) in one instruction; NaN stays."""
    return _select(x < low, low, x)


def _at_most(x: Any, high: Any) -> Any:
    return _select(x > high, high, x)


def _polynomial(x: Any, coefficients: Any) -> Any:
    """Horner's rule, the constant term first."""
    total = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    return total


# Bits of the mantissa, bias of the exponent.
_LAYOUT = _by_dtype((23, 127), (52, 1023))
# Adding 1.5 * 2**mantissa rounds to an integer, which is then found in the low bits.
_SHIFT = _by_dtype(1.5 * 2**23, 1.5 * 2**52)


def _nearest(x: Any) -> Any:
    """The nearest integer, as a float and as bits whose low end is that integer."""
    shifted = x + _SHIFT[x.dtype]
    return shifted - _SHIFT[x.dtype], _bits(shifted)


def _power_of_two(bits: Any) -> Any:
    """2**n from the bits that `_nearest` gives, where 2**n is a normal number."""
    mantissa, bias = _LAYOUT[np.dtype(_FLOAT[bits.dtype])]
    return _from_bits((bits + bias) << mantissa)


def _scale(x: Any, n: Any, bits: Any) -> Any:
    """x * 2**n in two steps, for any n that leads to overflow or to gradual underflow."""
    _, half = _nearest(n * 0.5)
    return x * _power_of_two(half) * _power_of_two(bits - half)


# ---- exp ----

_LN2, _LOG2_E = 0.6931471805599453, 1.4426950408889634
# ln(2) as a short number, so that its multiples are exact, and the rest: Cephes, fdlibm.
_LN2_PARTS = _by_dtype(
    (0.693359375, -2.12194440054690581e-4),
    (6.93147180369123816490e-01, 1.90821492927058770002e-10),
)
# exp(r) = 1 + r + r*r*P(r) for |r| <= ln(2)/2. Own minimax fits, 2**-26 and 2**-55 of r.
_EXP = _by_dtype(
    (0.5000000057, 0.1666654651, 0.04166629389, 0.008366246438, 0.001394581854),
    (
        0.5000000000000004,
        0.16666666666666682,
        0.04166666666658541,
        0.00833333333331605,
        0.001388888892928322,
        0.000198412699001147,
        2.4801507599449888e-05,
        2.755723037022641e-06,
        2.76252289283126e-07,
        2.5113759829348883e-08,
    ),
)
# Beyond these, exp and exp2 are 0 or inf, expm1 is -1, and sinh inf.
_EXP_RANGE = _by_dtype((-104, 89), (-746, 710))
_EXP2_RANGE = _by_dtype((-151, 129), (-1076, 1025))
_EXPM1_RANGE = _by_dtype((-18, 89.75), (-38, 710.75))
# Below this, odd functions with slope 1 return their argument, with its sign if it is zero.
_TINY = _by_dtype(1e-9, 1e-18)


def _series_exp(r: Any, coefficients: Any) -> Any:
    """exp(r) - 1 for |r| <= ln(2)/2, accurate relative to itself."""
    return r + r * r * _polynomial(r, coefficients)


def _reduced_exp(x: Any, rest: Any = 0.0) -> Any:
    """exp(x + rest) is (1 + q) * 2**n: q, and n as `_nearest` gives it."""
    ln2, ln2_rest = _LN2_PARTS[x.dtype]
    n, bits = _nearest(x * _LOG2_E)
    r = x - n * ln2 - (n * ln2_rest - rest)
    return _series_exp(r, _EXP[x.dtype]), n, bits


def _clamped_exp(x: Any, rest: Any = 0.0) -> Any:
    low, high = _EXP_RANGE[x.dtype]
    q, n, bits = _reduced_exp(_at_most(_at_least(x, low), high), rest)
    return _scale(1 + q, n, bits)


def _small_exp(x: Any) -> Any:
    """exp where neither it nor its inverse leaves the normal numbers."""
    q, _, bits = _reduced_exp(x)
    return (1 + q) * _power_of_two(bits)


def _half_expm1(x: Any) -> Any:
    """expm1(x) / 2, which overflows only where sinh does."""
    low, high = _EXPM1_RANGE[x.dtype]
    q, _, bits = _reduced_exp(_at_most(_at_least(x, low), high))
    quarter = _power_of_two(bits - 2)
    return 2 * (quarter * q + (quarter - 0.25))


def _keep_tiny(x: Any, y: Any) -> Any:
    return _select(np.absolute(x) < _TINY[x.dtype], x, y)


@_public
def exp(x: Any) -> Any:
    return _clamped_exp(x)


@_public
def exp2(x: Any) -> Any:
    low, high = _EXP2_RANGE[x.dtype]
    x = _at_most(_at_least(x, low), high)
    n, bits = _nearest(x)
    return _scale(1 + _series_exp((x - n) * _LN2, _EXP[x.dtype]), n, bits)


@_public
def expm1(x: Any) -> Any:
    half = _half_expm1(x)
    return _keep_tiny(x, half + half)


@_public
def sigmoid(x: Any) -> Any:
    z = _clamped_exp(-np.absolute(x))
    return _select(x < 0, z, 1) / (1 + z)


@_public
def sinh(x: Any) -> Any:
    half = _half_expm1(np.absolute(x))
    finite = _at_most(half, 1e30)
    return _keep_tiny(x, np.copysign(half + finite / (finite + finite + 1), x))


@_public
def cosh(x: Any) -> Any:
    _, high = _EXPM1_RANGE[x.dtype]
    q, _, bits = _reduced_exp(_at_most(np.absolute(x), high))
    quarter = (1 + q) * _power_of_two(bits - 2)
    return 2 * quarter + 0.125 / quarter


# tanh(x) = x + x*z*P(z)/Q(z) with z = x*x, for |x| < 0.625: Cephes tanhf and tanh.
_TANH = _by_dtype(
    (-3.33332819422e-1, 1.33314422036e-1, -5.37397155531e-2, 2.06390887954e-2, -5.70498872745e-3),
    (-1.61468768441708447952e3, -9.92877231001918586564e1, -9.64399179425052238628e-1),
)
_TANH_DIVISOR = _by_dtype(
    [1],
    (4.84406305325125486048e3, 2.23548839060100448583e3, 1.12811678491632931402e2, 1),
)
_TANH_HIGH = _by_dtype(10, 20)


@_public
def tanh(x: Any) -> Any:
    a = np.absolute(x)
    z = a * a
    e = _small_exp(2 * _at_most(a, _TANH_HIGH[x.dtype]))
    near = a < 0.625
    # One division for both cases: P/Q, and 1 - 2/(exp(2a) + 1).
    numerator = _select(near, a * z * _polynomial(z, _TANH[x.dtype]), -2)
    divisor = _select(near, _polynomial(z, _TANH_DIVISOR[x.dtype]), 1 + e)
    return np.copysign(_select(near, a, 1) + numerator / divisor, x)


# erf(x) = x + x*P(x*x) for |x| < 1. Own minimax fits, relative error 2**-29 and 2**-56.
_ERF_NEAR = _by_dtype(
    (
        0.1283791657,
        -0.3761262582,
        0.1128358515,
        -0.02685381199,
        0.005188327784,
        -0.0008010194475,
        7.8538641e-05,
    ),
    (
        0.12837916709551256,
        -0.3761263890318352,
        0.11283791670944185,
        -0.026866170643111503,
        0.005223977606118712,
        -0.0008548325929323979,
        0.00012055293577135585,
        -1.4924712305740118e-05,
        1.644713160924535e-06,
        -1.6206313997772758e-07,
        1.3710981246788567e-08,
        -7.779469781253706e-10,
    ),
)
# erf(x) = 1 - exp(-P(x)) for x >= 1. Own minimax fits, relative error of erf 2**-29 and 2**-59.
_ERF_FAR = _by_dtype(
    (
        0.000341528308,
        1.127089167,
        0.6381448732,
        0.1031067174,
        -0.02183804532,
        0.00294765342,
        -0.0001863786749,
    ),
    (
        1.7960779531604472e-07,
        1.1283773293844501,
        0.6366284883764907,
        0.10274725361959038,
        -0.019078157787807,
        -0.0002804859459170401,
        0.001768998013531724,
        -0.0006411706373269516,
        4.4821201318512896e-05,
        7.036722223120444e-05,
        -4.503757938080658e-05,
        1.6513993929984096e-05,
        -4.327055589404376e-06,
        8.505776023527141e-07,
        -1.2570569280614666e-07,
        1.3626824081143255e-08,
        -1.0257137155114953e-09,
        4.7961179850978363e-11,
        -1.0496436252716398e-12,
    ),
)
# Where erf has become 1.
_ERF_HIGH = _by_dtype(4, 5.95)


@_public
def erf(x: Any) -> Any:
    a = _at_most(np.absolute(x), _ERF_HIGH[x.dtype])
    near = a + a * _polynomial(a * a, _ERF_NEAR[x.dtype])
    far = 1 - _small_exp(-_polynomial(a, _ERF_FAR[x.dtype]))
    return np.copysign(_select(a < 1, near, far), x)


# ---- log ----

# The bits of 1, of sqrt(1/2) and of 2**mantissa.
_LOG_BITS = _by_dtype(
    (0x3F800000, 0x3F3504F3, 0x4B000000),
    (0x3FF0000000000000, 0x3FE6A09E667F3BCD, 0x4330000000000000),
)
# 2**mantissa + bias, with which bits become a number; the smallest normal number.
_LOG_OFFSET = _by_dtype(2**23 + 127, 2**52 + 1023)
_NORMAL = _by_dtype(2.0**-126, 2.0**-1022)
# log(1+f) = f - (f*f/2 - s*(f*f/2 + z*P(z))) with s = f/(2+f), z = s*s: fdlibm e_logf and e_log.
_LOG = _by_dtype(
    (0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841),
    (
        6.666666666666735130e-01,
        3.999999999940941908e-01,
        2.857142874366239149e-01,
        2.222219843214978396e-01,
        1.818357216161805012e-01,
        1.531383769920937332e-01,
        1.479819860511658591e-01,
    ),
)
_LOG10_E = 0.4342944819032518
# log10(2), split like ln(2).
_LOG10_2_PARTS = _by_dtype((0.301025390625, 4.605038981195214e-06), (0.30102999566395283, 2.8363394551044964e-14))


def _split_normal(x: Any) -> Any:
    """x = 2**k * (1+f), 1+f from sqrt(1/2) to sqrt(2): k and f of a normal x > 0."""
    one, root, power = _LOG_BITS[x.dtype]
    mantissa, _ = _LAYOUT[x.dtype]
    bits = _bits(x) + (one - root)
    fraction = _from_bits((bits & ((1 << mantissa) - 1)) + root)
    return _from_bits((bits >> mantissa) + power) - _LOG_OFFSET[x.dtype], fraction - 1


def _split(x: Any) -> Any:
    """The same for any finite x > 0."""
    mantissa, _ = _LAYOUT[x.dtype]
    subnormal = x < _NORMAL[x.dtype]
    k, f = _split_normal(_select(subnormal, x * (1 << mantissa), x))
    return _select(subnormal, k - mantissa, k), f


def _series_log(f: Any, coefficients: Any) -> Any:
    """log(1+f) = f - (h - t): h and t."""
    s = f / (2 + f)
    z = s * s
    h = 0.5 * f * f
    return h, s * (h + z * _polynomial(z, coefficients))


def _log_edges(x: Any, y: Any) -> Any:
    """y, or the logarithm of x where that is 0, infinite or NaN."""
    return _select(x == 0, -np.inf, _select(x < np.inf, y, x))


def _log_domain(x: Any, y: Any) -> Any:
    return _select(x < 0, np.nan, _log_edges(x, y))


def _log_of(x: Any, correction: Any = 0.0) -> Any:
    """log(x) + correction, for a small correction."""
    ln2, ln2_rest = _LN2_PARTS[x.dtype]
    k, f = _split(x)
    h, t = _series_log(f, _LOG[x.dtype])
    return _log_domain(x, k * ln2 - (((h - (t + k * ln2_rest)) - correction) - f))


@_public
def log(x: Any) -> Any:
    return _log_of(x)


@_public
def log1p(x: Any) -> Any:
    u = 1 + x
    # What the sum lost, times the derivative of log.
    return _keep_tiny(x, _log_of(u, (x - (u - 1)) / u))


@_public
def log2(x: Any) -> Any:
    k, f = _split(x)
    h, t = _series_log(f, _LOG[x.dtype])
    return _log_domain(x, k + (f - (h - t)) * _LOG2_E)


@_public
def log10(x: Any) -> Any:
    high, low = _LOG10_2_PARTS[x.dtype]
    k, f = _split(x)
    h, t = _series_log(f, _LOG[x.dtype])
    return _log_domain(x, k * high + (k * low + (f - (h - t)) * _LOG10_E))


@_public
def logaddexp(a: Any, b: Any) -> Any:
    larger = np.maximum(a, b)
    difference = np.absolute(a - b)
    return _select(a == b, a + _LN2, larger + log1p(exp(-difference)))


@_public
def arcsinh(x: Any) -> Any:
    a = np.absolute(x)
    huge = a > 1e17
    z = a * a
    y = log1p(_select(huge, a, a + z / (1 + np.sqrt(1 + z))))
    return np.copysign(_select(huge, y + _LN2, y), x)


@_public
def arccosh(x: Any) -> Any:
    huge = x > 1e17
    t = x - 1
    y = log1p(_select(huge, x, t + np.sqrt(t * (t + 2))))
    return _select(x < 1, np.nan, _select(huge, y + _LN2, y))


@_public
def arctanh(x: Any) -> Any:
    a = np.absolute(x)
    return np.copysign(0.5 * log1p(2 * a / (1 - a)), x)


# ---- power ----

# log((1+s)/(1-s)) = 2*s + s*z*(2/3 + z*P(z)) with z = s*s. Own minimax fit, 2**-53 of P.
_LOG_TAIL = (
    0.40000000000000285,
    0.28571428571082913,
    0.22222222340290523,
    0.1818180026149071,
    0.1538602291300439,
    0.13273875580589783,
    0.13039040690631346,
)
_TWO_THIRDS, _TWO_THIRDS_REST = 0.6666666666666666, 3.700743415417188e-17
_HIGH_HALF = 0xFFFFFFFFF8000000


def _residue(a: Any, b: Any, product: Any) -> Any:
    """a*b - product without error, for float64: Dekker's way, as not every machine has an FMA."""
    a_high, b_high = _from_bits(_bits(a) & _HIGH_HALF), _from_bits(_bits(b) & _HIGH_HALF)
    a_low, b_low = a - a_high, b - b_high
    return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _product(a: Any, a_rest: Any, b: Any, b_rest: Any) -> Any:
    """The product of two numbers given as sums, as a sum."""
    product = a * b
    return product, _residue(a, b, product) + (a * b_rest + a_rest * b)


def _precise_log(x: Any) -> Any:
    """log(x) of a float64 as a sum with 2**-66 relative error, for finite x > 0."""
    ln2, ln2_rest = _LN2_PARTS[x.dtype]
    k, f = _split(x)
    divisor = 2 + f
    divisor_rest = f - (divisor - 2)
    inverse = 1 / divisor
    s = f * inverse
    s_rest = -(_residue(s, divisor, f) + s * divisor_rest) * inverse
    z, z_rest = _product(s, s_rest, s, s_rest)
    tail = z * _polynomial(z, _LOG_TAIL)
    c = _TWO_THIRDS + tail
    c_rest = (_TWO_THIRDS - c) + tail + _TWO_THIRDS_REST
    cube, cube_rest = _product(z, z_rest, s, s_rest)
    cubic, cubic_rest = _product(cube, cube_rest, c, c_rest)
    linear = 2 * s
    y = linear + cubic
    y_rest = (linear - y) + cubic + (cubic_rest + 2 * s_rest)
    exponent = k * ln2
    total = exponent + y
    return total, (exponent - total) + y + (y_rest + k * ln2_rest)


def _single_power(a: Any, b: Any) -> Any:
    """a**b in float64 but no more accurate than float32 needs: its series serve."""
    low, high = _EXP_RANGE[_F32]
    k, f = _split_normal(a)
    h, t = _series_log(f, _LOG[_F32])
    exponent = b * _log_edges(a, k * _LN2 + (f - (h - t)))
    exponent = _at_most(_at_least(exponent, low), high)
    n, bits = _nearest(exponent * _LOG2_E)
    return (1 + _series_exp(exponent - n * _LN2, _EXP[_F32])) * _power_of_two(bits)


def _positive_power(a: Any, b: Any) -> Any:
    """a**b for a >= 0. An error of log(a) counts hundredfold: so twice float's precision."""
    if a.dtype == _F32:
        return _single_power(a.astype(np.float64), b.astype(np.float64)).astype(np.float32)
    y, y_rest = _precise_log(a)
    y = _log_edges(a, y)
    exponent = b * y
    rest = _residue(b, y, exponent) + b * y_rest
    return _clamped_exp(exponent, _select(np.absolute(exponent) < 1e3, rest, 0))


@_public
def power(a: Any, b: Any) -> Any:
    if a.dtype.kind != "f":
        return np.power(a, b)
    magnitude = np.absolute(a)
    whole = np.rint(b) == b
    odd = whole & (np.rint(b * 0.5) != b * 0.5)
    y = _select(magnitude == 1, 1, _positive_power(magnitude, b))
    y = _select(odd, np.copysign(y, a), y)
    y = _select((a < 0) & (a > -np.inf) & ~whole, np.nan, y)
    return _select((a == 1) | (b == 0), 1, y)


# ---- trigonometry ----

# 2/pi; pi/2 as two numbers of 33 bits, so that multiples are exact, and the rest: fdlibm.
# float32 needs the first alone, and what it lacks.
_TWO_OVER_PI = 0.6366197723675814
_HALF_PI = (1.57079632673412561417e00, 6.07710050630396597660e-11, 2.02226624879595063154e-21)
_HALF_PI_REST = 6.077100506506192e-11
# Up to here the reduction is accurate; above, the C library does it, for those elements alone.
_ANGLE_HIGH = _by_dtype(2**20, 2**14)
# sin(r) = r + r*z*P(z), cos(r) = 1 - z/2 + z*z*P(z) with z = r*r, |r| <= pi/4: Cephes, fdlibm.
_SIN = _by_dtype(
    (-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4),
    (
        -1.66666666666666324348e-01,
        8.33333333332248946124e-03,
        -1.98412698298579493134e-04,
        2.75573137070700676789e-06,
        -2.50507602534068634195e-08,
        1.58969099521155010221e-10,
    ),
)
_COS = _by_dtype(
    (4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5),
    (
        4.16666666666666019037e-02,
        -1.38888888888741095749e-03,
        2.48015872894767294178e-05,
        -2.75573143513906633035e-07,
        2.08757232129817482790e-09,
        -1.13596475577881948265e-11,
    ),
)


def _difference(a: Any, b: Any) -> Any:
    """a - b, and its rounding error."""
    d = a - b
    a_part = d + b
    return d, (a - a_part) - (b - (a_part - d))


def _reduced_angle(x: Any) -> Any:
    """x = n*pi/2 + r + rest: r, rest, and bits that end in n."""
    wide = x.astype(np.float64)
    n, bits = _nearest(wide * _TWO_OVER_PI)
    first, second, third = _HALF_PI
    r = wide - n * first
    if x.dtype == _F32:
        r = r - n * _HALF_PI_REST
        single = r.astype(np.float32)
        rest = (r - single.astype(np.float64)).astype(np.float32)
        return single, rest, bits.astype(np.uint32)
    r, rest = _difference(r, n * second)
    rest = rest - n * third
    total = r + rest
    return total, rest - (total - r), bits


def _sin_cos(x: Any) -> Any:
    """The sine and cosine of x reduced to a quarter turn, and bits that end in the quadrant."""
    r, rest, bits = _reduced_angle(x)
    z = r * r
    cubic = z * r
    first, *others = _SIN[x.dtype]
    half = 0.5 * z
    one_less = 1 - half
    sine = r - ((z * (0.5 * rest - cubic * _polynomial(z, others)) - rest) - cubic * first)
    cosine = one_less + (((1 - one_less) - half) + (z * z * _polynomial(z, _COS[x.dtype]) - r * rest))
    return sine, cosine, bits


def _unless_huge(function: Any, x: Any, y: Any) -> Any:
    """y, or function(x) of the C library where x is huge, infinite or NaN."""
    usual = np.absolute(x) < _ANGLE_HIGH[x.dtype]
    return _select(usual, y, function(_select(usual, 0, x)))


def _signed(negative: Any, x: Any) -> Any:
    return _select(negative, -x, x)


@_public
def sin(x: Any) -> Any:
    sine, cosine, bits = _sin_cos(x)
    y = _signed((bits & 2) != 0, _select((bits & 1) != 0, cosine, sine))
    return _keep_tiny(x, _unless_huge(np.sin, x, y))


@_public
def cos(x: Any) -> Any:
    sine, cosine, bits = _sin_cos(x)
    y = _signed(((bits + 1) & 2) != 0, _select((bits & 1) != 0, sine, cosine))
    return _unless_huge(np.cos, x, y)


@_public
def tan(x: Any) -> Any:
    sine, cosine, bits = _sin_cos(x)
    odd = (bits & 1) != 0
    y = _signed(odd, _select(odd, cosine, sine) / _select(odd, sine, cosine))
    return _keep_tiny(x, _unless_huge(np.tan, x, y))


# pi/4, pi/2 and pi, each with the rest that it lacks.
_PI_4 = _by_dtype((0.7853981852531433, -2.1855695e-08), (0.7853981633974483, 3.061616997868383e-17))
_PI_2 = _by_dtype((1.5707963705062866, -4.371139e-08), (1.5707963267948966, 6.123233995736766e-17))
_PI = _by_dtype((3.1415927410125732, -8.742278e-08), (3.141592653589793, 1.2246467991473532e-16))
_TAN_PI_8 = 0.41421356237309503
# arctan(t) = t + t*z*P(z) with z = t*t, t <= tan(pi/8). Own minimax fits, 2**-30 and 2**-59.
_ARCTAN = _by_dtype(
    (-0.3333331826, 0.1999862117, -0.1424593025, 0.1060938744, -0.06113707176),
    (
        -0.3333333333333328,
        0.1999999999997364,
        -0.14285714281933493,
        0.11111110860314753,
        -0.09090899751509095,
        0.07692092656172848,
        -0.06663444915455441,
        0.05850200820928805,
        -0.05049076215714251,
        0.038298762607144,
        -0.018150279321131273,
    ),
)
# arcsin(t) = t + t*z*P(z) with z = t*t, t <= 1/2. Own minimax fits, 2**-31 and 2**-59.
_ARCSIN = _by_dtype(
    (0.1666666093, 0.07500462188, 0.04452355631, 0.03176047568, 0.0145962422, 0.03731719301),
    (
        0.16666666666666705,
        0.07499999999983077,
        0.04464285716466926,
        0.03038194312629924,
        0.022372204414865052,
        0.0173517849656496,
        0.013978910179498745,
        0.011413447996692232,
        0.010703916438041859,
        0.003978267060789362,
        0.021080498751031424,
        -0.020154314660006323,
        0.03212367627887009,
    ),
)


def _minus(constant: Any, y: Any) -> Any:
    """constant - y, for a constant given with its rest."""
    value, rest = constant
    return value - (y - rest)


def _arctan_ratio(n: Any, d: Any) -> Any:
    """arctan(n/d) for 0 <= n <= d."""
    near = n < _TAN_PI_8 * d
    t = _select(near, n, n - d) / _select(near, d, n + d)
    z = t * t
    y = t + t * z * _polynomial(z, _ARCTAN[t.dtype])
    return _select(near, y, _minus(_PI_4[t.dtype], -y))


@_public
def arctan(x: Any) -> Any:
    a = np.absolute(x)
    steep = a > 1
    y = _arctan_ratio(_select(steep, 1, a), _select(steep, a, 1))
    return np.copysign(_select(steep, _minus(_PI_2[x.dtype], y), y), x)


@_public
def arctan2(y: Any, x: Any) -> Any:
    a, b = np.absolute(y), np.absolute(x)
    steep = a > b
    n, d = _select(steep, b, a), _select(steep, a, b)
    # inf/inf counts as 1, 0/0 as 0, and n + d must stay finite.
    both = n == np.inf
    n, d = _select(both, 1, n), _select(both, 1, _select(d == 0, 1, d))
    huge = d > 1e30
    ratio = _arctan_ratio(_select(huge, 0.25 * n, n), _select(huge, 0.25 * d, d))
    angle = _select(steep, _minus(_PI_2[x.dtype], ratio), ratio)
    angle = _select(np.copysign(1, x) < 0, _minus(_PI[x.dtype], angle), angle)
    return _select(np.isnan(x) | np.isnan(y), np.nan, np.copysign(angle, y))


def _arcsin_core(x: Any) -> Any:
    """t + tail = arcsin(t), t being |x| or, above 1/2, sqrt((1-|x|)/2): t and tail."""
    a = np.absolute(x)
    far = a > 0.5
    z = _select(far, 0.5 * (1 - a), a * a)
    t = _select(far, np.sqrt(z), a)
    return far, t, t * z * _polynomial(z, _ARCSIN[x.dtype])


@_public
def arcsin(x: Any) -> Any:
    far, t, tail = _arcsin_core(x)
    quarter, quarter_rest = _PI_4[x.dtype]
    y = quarter + ((quarter - 2 * t) - 2 * (tail - quarter_rest))
    return np.copysign(_select(far, y, t + tail), x)


@_public
def arccos(x: Any) -> Any:
    far, t, tail = _arcsin_core(x)
    value, rest = _PI_2[x.dtype]
    near = value - (np.copysign(t, x) - (rest - np.copysign(tail, x)))
    double = 2 * (t + tail)
    return _select(far, _select(x < 0, _minus(_PI[x.dtype], double), double), near)


# ---- roots ----

# From the high words of x to those of cbrt(x), for normal and for subnormal x; a polynomial that
# brings the 5 bits of this guess to 23: FreeBSD s_cbrt.
_CBRT_GUESS, _CBRT_GUESS_SUBNORMAL = 715094163, 696219795
_CBRT = (1.87595182427177009643, -1.88497979543377169875, 1.621429720105354466140)
_CBRT_CUBIC = (-0.758397934778766047437, 0.145996192886612446982)


def _positive_cbrt(x: Any) -> Any:
    """The cube root of a finite float64 x > 0."""
    subnormal = x < 2.0**-1022
    words = _bits(_select(subnormal, x * 2.0**54, x)) >> 32
    third = words.astype(np.uint32) // 3
    guess = _select(subnormal, third + _CBRT_GUESS_SUBNORMAL, third + _CBRT_GUESS)
    t = _from_bits(guess.astype(np.uint64) << 32)
    r = t * t * (t / x)
    t = t * (_polynomial(r, _CBRT) + r * r * r * _polynomial(r, _CBRT_CUBIC))
    # Few enough bits for an exact square; then one step of Newton's method.
    t = _from_bits((_bits(t) + 0x80000000) & 0xFFFFFFFFC0000000)
    quotient = x / (t * t)
    return t + t * ((quotient - t) / (t + t + quotient))


@_public
def cbrt(x: Any) -> Any:
    y = np.copysign(_positive_cbrt(np.absolute(x).astype(np.float64)).astype(x.dtype), x)
    return _select((x == 0) | ~(np.absolute(x) < np.inf), x, y)


@_public
def sqrt(x: Any) -> Any:
    # In a fastmath kernel LLVM estimates a / sqrt(x), with NaN at 0 and at infinity, even without
    # `nnan`. It does so only where it finds the root itself, and here it finds a selection.
    return _select(x == 0, x, np.sqrt(x))


@_public
def hypot(a: Any, b: Any) -> Any:
    a, b = np.absolute(a), np.absolute(b)
    if a.dtype == _F32:
        u, v = a.astype(np.float64), b.astype(np.float64)
        y = np.sqrt(u * u + v * v).astype(np.float32)
    else:
        larger = _select(a > b, a, b)
        up = _select(larger < 2.0**-450, np.float64(2.0**600), np.float64(1))
        factor = _select(larger > 2.0**500, 2.0**-600, up)
        u, v = a * factor, b * factor
        y = np.sqrt(u * u + v * v) / factor
    return _select((a == np.inf) | (b == np.inf), np.inf, y)


# ---- rounding, comparison, selection, division ----


@_public
def add_any_order(a: Any, b: Any) -> Any:
    # How a sum takes in an element. Vectors need the freedom to add up in another order; operators do not have it.
    return a + b


@_public
def multiply_any_order(a: Any, b: Any) -> Any:
    return a * b


@_public
def floor(x: Any) -> Any:
    return np.floor(x)


@_public
def ceil(x: Any) -> Any:
    return np.ceil(x)


@_public
def trunc(x: Any) -> Any:
    return np.trunc(x)


@_public
def rint(x: Any) -> Any:
    return np.rint(x)


@_public
def absolute(x: Any) -> Any:
    return np.absolute(x)


@_public
def copysign(a: Any, b: Any) -> Any:
    return np.copysign(a, b)


@_public
def sign(x: Any) -> Any:
    if x.dtype.kind == "u":
        return _select(x > 0, 1, x)
    return _select(x > 0, 1, _select(x < 0, -1, _select(x == 0, 0, x)))


@_public
def maximum(a: Any, b: Any) -> Any:
    return np.maximum(a, b)


@_public
def minimum(a: Any, b: Any) -> Any:
    return np.minimum(a, b)


@_public
def fmax(a: Any, b: Any) -> Any:
    return np.fmax(a, b)


@_public
def fmin(a: Any, b: Any) -> Any:
    return np.fmin(a, b)


@_public
def where(condition: Any, a: Any, b: Any) -> Any:
    return _select(condition, a, b)


@_public
def isnan(x: Any) -> Any:
    return np.isnan(x)


@_public
def isinf(x: Any) -> Any:
    return np.absolute(x) == np.inf if x.dtype.kind == "f" else np.isnan(x)


@_public
def isfinite(x: Any) -> Any:
    return np.absolute(x) < np.inf if x.dtype.kind == "f" else ~np.isnan(x)


def _floor_and_rest(a: Any, b: Any) -> Any:
    """NumPy's divmod of floats: for b != 0, the floored quotient and a rest of b's sign."""
    rest = np.fmod(a, b)
    quotient = (a - rest) / b
    off = (rest != 0) & ((rest < 0) ^ (b < 0))
    quotient = _select(off, quotient - 1, quotient)
    whole = np.floor(quotient)
    whole = _select(quotient - whole > 0.5, whole + 1, whole)
    whole = _select(quotient == 0, np.copysign(0 * whole, a / b), whole)
    return whole, _select(off, rest + b, _select(rest == 0, np.copysign(rest, b), rest))


@_public
def floor_divide(a: Any, b: Any) -> Any:
    if a.dtype.kind != "f":
        return np.floor_divide(a, b)
    return _select(b == 0, a / b, _floor_and_rest(a, b)[0])


@_public
def remainder(a: Any, b: Any) -> Any:
    if a.dtype.kind != "f":
        return np.remainder(a, b)
    return _floor_and_rest(a, b)[1]


# ---- random bits ----

# Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3: Philox4x32-10.
_PHILOX_MULTIPLIERS, _PHILOX_WEYL = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF


@_public
def philox(place: Any, counter: Any, key: Any) -> Any:
    """Word number `place`, from 0, of the blocks of four that begin with block number `counter`."""
    place, counter, key = (x.astype(np.uint64) for x in (place, counter, key))
    block = counter + (place >> 2)
    a, b, c, d = block & _WORD, block >> 32, 0, 0
    low, high = key & _WORD, key >> 32
    for _ in range(10):
        p, q = a * _PHILOX_MULTIPLIERS[0], c * _PHILOX_MULTIPLIERS[1]
        a, b, c, d = (q >> 32) ^ b ^ low, q & _WORD, (p >> 32) ^ d ^ high, p & _WORD
        low, high = (low + _PHILOX_WEYL[0]) & _WORD, (high + _PHILOX_WEYL[1]) & _WORD
    word = place & 3
    return _select(word < 2, _select(word == 0, a, b), _select(word == 2, c, d)).astype(np.int64)
