"""Operations on each element by itself: arithmetic, comparisons, exponentials, trigonometry, selection, casts.

Takes arrays that broadcast against each other; each entry gives the NumPy function, its scalar expression for kernels
and one gradient rule per input. Un-broadcasting a cotangent is left to the sweep, vectorising to the kernels.

Ties in `maximum` and `minimum` share the gradient equally.
"""

import functools
import math
from typing import Any

import numpy as np

from sadl.op import UFUNCS, Aval, Op, _shape, call, elementwise, numpy_function
from sadl.tape import Traced, arrayed, as_array, bind

ANY, POSITIVE, UNIT, NONZERO = (-2.0, 2.0), (0.2, 3.0), (-0.9, 0.9), (0.5, 2.0)
DEGREE = 180 / float(np.pi)
LOG2, LOG10 = float(np.log(2.0)), float(np.log(10.0))


def _is_scalar(x: Any) -> bool:
    return isinstance(x, (int, float))


def _power_base(g: Any, z: Any, x: Any, y: Any) -> Any:
    """y * x**(y-1), and 0 where y is 0, also for x = 0."""
    if _is_scalar(y):
        return g * (y * x ** (y - 1)) if y else g * 0.0
    zero = y == 0
    return g * np.where(zero, 0, y * x ** (np.where(zero, 1, y) - 1))


def _power_exponent(g: Any, z: Any, x: Any, y: Any) -> Any:
    """z * log(x), taken as 0 where the base is not positive, where the derivative does not exist (complex: is 0)."""
    if _is_scalar(x) and z.dtype.kind != "c":
        return g * (z * float(np.log(x))) if x > 0 else g * 0.0
    if _is_scalar(x) or isinstance(x, complex):
        return g * z * complex(np.log(complex(x))) if x != 0 else g * 0.0
    positive = x > 0 if z.dtype.kind != "c" else x != 0
    x = x if z.dtype.kind != "c" or x.dtype.kind == "c" else x.astype(z.dtype)
    return g * np.where(positive, z * np.log(np.where(positive, x, 1)), 0)


def _slope_of_absolute(g: Any, y: Any, x: Any) -> Any:
    """The sign of `x`; for a complex `x` its conjugate, since dy = Re(conj(sign) dx)."""
    return g * np.sign(x) if x.dtype.kind != "c" else g * np.conjugate(x) / np.where(y == 0, 1, y)


def _turn(g: Any, y: Any, x: Any) -> Any:
    """The gradient of x / |x|: what g and dx have along the direction of y itself does not count."""
    size = np.absolute(x)
    along = np.real(g * y)
    return (g - along * np.conjugate(y)) / np.where(size == 0, 1, size)


def _root(square: Any, inverse: Any, y: Any) -> Any:
    """The square root that belongs to `y`: of complex numbers there are two, and `inverse` tells which it is."""
    return np.sqrt(square) if square.dtype.kind != "c" else inverse(y)


_zero = functools.cache(lambda dtype: np.zeros((), dtype))


def _only(c: Any, g: Any, *, otherwise: bool = False) -> Any:
    """`g` where `c` holds (or does not), else 0: as an array on plain ones, since NumPy is slow with Python numbers."""
    zero = _zero(g.dtype) if g.__class__ is np.ndarray else 0
    return np.where(c, zero, g) if otherwise else np.where(c, g, zero)


def _share(g: Any, tie: Any, wins: Any) -> Any:
    return np.where(tie, g * 0.5, np.where(wins, g, 0))


# fmt: off
add       = elementwise(np.add, "{x} + {y}", [lambda g, z, x, y: g, lambda g, z, x, y: g])
subtract  = elementwise(np.subtract, "{x} - {y}", [lambda g, z, x, y: g, lambda g, z, x, y: -g])
multiply  = elementwise(np.multiply, "{x} * {y}", [lambda g, z, x, y: g * y, lambda g, z, x, y: g * x])
divide    = elementwise(np.divide, "{x} / {y}", [lambda g, z, x, y: g / y, lambda g, z, x, y: -g * z / y],
                        domain=(ANY, NONZERO))
power     = elementwise(np.power, "power({x}, {y})", [_power_base, _power_exponent], domain=(POSITIVE, ANY))
float_power = elementwise(np.float_power, "power({x}, {y})", [_power_base, _power_exponent], domain=(POSITIVE, ANY))
negative  = elementwise(np.negative, "-{x}", [lambda g, y, x: -g])
positive  = elementwise(np.positive, "{x}", [lambda g, y, x: g])
absolute  = elementwise(np.absolute, "absolute({x})", [_slope_of_absolute], domain=(NONZERO,))
square    = elementwise(np.square, "{x} * {x}", [lambda g, y, x: g * 2 * x])
sqrt      = elementwise(np.sqrt, "sqrt({x})", [lambda g, y, x: g * 0.5 / y], domain=(POSITIVE,))
cbrt      = elementwise(np.cbrt, "cbrt({x})", [lambda g, y, x: g / (3 * y * y)], domain=(POSITIVE,))
reciprocal = elementwise(np.reciprocal, "{one} / {x}", [lambda g, y, x: -g * y * y], domain=(NONZERO,))
exp       = elementwise(np.exp, "exp({x})", [lambda g, y, x: g * y])
exp2      = elementwise(np.exp2, "exp2({x})", [lambda g, y, x: g * y * LOG2])
expm1     = elementwise(np.expm1, "expm1({x})", [lambda g, y, x: g * (y + 1)])
log       = elementwise(np.log, "log({x})", [lambda g, y, x: g / x], domain=(POSITIVE,))
log2      = elementwise(np.log2, "log2({x})", [lambda g, y, x: g / (x * LOG2)], domain=(POSITIVE,))
log10     = elementwise(np.log10, "log10({x})", [lambda g, y, x: g / (x * LOG10)], domain=(POSITIVE,))
log1p     = elementwise(np.log1p, "log1p({x})", [lambda g, y, x: g / (x + 1)], domain=(POSITIVE,))
sin       = elementwise(np.sin, "sin({x})", [lambda g, y, x: g * np.cos(x)])
cos       = elementwise(np.cos, "cos({x})", [lambda g, y, x: -g * np.sin(x)])
tan       = elementwise(np.tan, "tan({x})", [lambda g, y, x: g * (1 + y * y)], domain=(UNIT,))
arcsin    = elementwise(np.arcsin, "arcsin({x})", [lambda g, y, x: g / _root(1 - x * x, np.cos, y)], domain=(UNIT,))
arccos    = elementwise(np.arccos, "arccos({x})", [lambda g, y, x: -g / _root(1 - x * x, np.sin, y)], domain=(UNIT,))
arctan    = elementwise(np.arctan, "arctan({x})", [lambda g, y, x: g / (1 + x * x)])
arctan2   = elementwise(np.arctan2, "arctan2({x}, {y})", [lambda g, z, x, y: g * y / (x * x + y * y),
                                                          lambda g, z, x, y: -g * x / (x * x + y * y)],
                        domain=(NONZERO, NONZERO))
sinh      = elementwise(np.sinh, "sinh({x})", [lambda g, y, x: g * np.cosh(x)])
cosh      = elementwise(np.cosh, "cosh({x})", [lambda g, y, x: g * np.sinh(x)])
tanh      = elementwise(np.tanh, "tanh({x})", [lambda g, y, x: g * (1 - y * y)])
arcsinh   = elementwise(np.arcsinh, "arcsinh({x})", [lambda g, y, x: g / _root(x * x + 1, np.cosh, y)])
arccosh   = elementwise(np.arccosh, "arccosh({x})", [lambda g, y, x: g / _root(x * x - 1, np.sinh, y)], domain=((1.5, 3.0),))
arctanh   = elementwise(np.arctanh, "arctanh({x})", [lambda g, y, x: g / (1 - x * x)], domain=(UNIT,))
hypot     = elementwise(np.hypot, "hypot({x}, {y})", [lambda g, z, x, y: g * x / z, lambda g, z, x, y: g * y / z],
                        domain=(NONZERO, NONZERO))
logaddexp = elementwise(np.logaddexp, "logaddexp({x}, {y})", [lambda g, z, x, y: g * np.exp(x - z),
                                                              lambda g, z, x, y: g * np.exp(y - z)])
logaddexp2 = elementwise(
    np.logaddexp2,
    "where({x} == {y}, {x} + {one}, maximum({x}, {y}) + log1p(exp2(-absolute({x} - {y}))) / log({one} + {one}))",
    [lambda g, z, x, y: g * np.exp2(x - z), lambda g, z, x, y: g * np.exp2(y - z)])
fabs      = elementwise(np.fabs, "absolute({x})", [lambda g, y, x: g * np.sign(x)], domain=(NONZERO,))
conjugate = elementwise(np.conjugate, "{x}", [lambda g, y, x: np.conjugate(g)])
degrees   = elementwise(np.degrees, "{x} * {type}(57.29577951308232)", [lambda g, y, x: g * DEGREE])
rad2deg   = elementwise(np.rad2deg, "{x} * {type}(57.29577951308232)", [lambda g, y, x: g * DEGREE])
radians   = elementwise(np.radians, "{x} * {type}(0.017453292519943295)", [lambda g, y, x: g / DEGREE])
deg2rad   = elementwise(np.deg2rad, "{x} * {type}(0.017453292519943295)", [lambda g, y, x: g / DEGREE])
copysign  = elementwise(np.copysign, "copysign({x}, {y})",
                        [lambda g, z, x, y: g * np.sign(x) * np.copysign(1.0, z), None], domain=(NONZERO, NONZERO))
nextafter = elementwise(np.nextafter, "", [lambda g, z, x, y: g, None])
heaviside = elementwise(np.heaviside, "where({x} == 0, {y}, where({x} > 0, {one}, {x} - {x}))",
                        [None, lambda g, z, x, y: _only(x == 0, g)], domain=(NONZERO, ANY))
ldexp     = elementwise(np.ldexp, "", [lambda g, z, x, y: np.ldexp(g, y), None], tested=False)
fmod      = elementwise(np.fmod, "", [lambda g, z, x, y: g, lambda g, z, x, y: -g * np.rint((x - z) / y)],
                        domain=(ANY, NONZERO))
fmax      = elementwise(np.fmax, "fmax({x}, {y})", [lambda g, z, x, y: _share(g, x == y, (x > y) | np.isnan(y)),
                                                    lambda g, z, x, y: _share(g, x == y, (y > x) | np.isnan(x))])
fmin      = elementwise(np.fmin, "fmin({x}, {y})", [lambda g, z, x, y: _share(g, x == y, (x < y) | np.isnan(y)),
                                                    lambda g, z, x, y: _share(g, x == y, (y < x) | np.isnan(x))])
maximum   = elementwise(np.maximum, "maximum({x}, {y})", [lambda g, z, x, y: _share(g, x == y, x > y),
                                                          lambda g, z, x, y: _share(g, x == y, y > x)])
minimum   = elementwise(np.minimum, "minimum({x}, {y})", [lambda g, z, x, y: _share(g, x == y, x < y),
                                                          lambda g, z, x, y: _share(g, x == y, y < x)])

# Constant almost everywhere, or not a floating-point result: no gradient by any input, allowed on any Tensor.
sign      = elementwise(np.sign, "sign({x})", [lambda g, y, x: _turn(g, y, x) if x.dtype.kind == "c" else None])
signbit   = elementwise(np.signbit, "", [None])
spacing   = elementwise(np.spacing, "", [None])
floor     = elementwise(np.floor, "floor({x})", [None])
ceil      = elementwise(np.ceil, "ceil({x})", [None])
trunc     = elementwise(np.trunc, "trunc({x})", [None])
rint      = elementwise(np.rint, "rint({x})", [None])
floor_divide = elementwise(np.floor_divide, "floor_divide({x}, {y})", [None, None], domain=(ANY, NONZERO))
remainder = elementwise(np.remainder, "remainder({x}, {y})", [lambda g, z, x, y: g,
                                                              lambda g, z, x, y: -g * np.floor_divide(x, y)],
                        domain=(ANY, NONZERO))
equal     = elementwise(np.equal, "{x} == {y}", [None, None])
not_equal = elementwise(np.not_equal, "{x} != {y}", [None, None])
less      = elementwise(np.less, "{x} < {y}", [None, None])
less_equal = elementwise(np.less_equal, "{x} <= {y}", [None, None])
greater   = elementwise(np.greater, "{x} > {y}", [None, None])
greater_equal = elementwise(np.greater_equal, "{x} >= {y}", [None, None])
logical_and = elementwise(np.logical_and, "({x} != 0) & ({y} != 0)", [None, None])
logical_or = elementwise(np.logical_or, "({x} != 0) | ({y} != 0)", [None, None])
logical_xor = elementwise(np.logical_xor, "({x} != 0) ^ ({y} != 0)", [None, None])
logical_not = elementwise(np.logical_not, "{x} == 0", [None])
bitwise_and = elementwise(np.bitwise_and, "{x} & {y}", [None, None], tested=False)
bitwise_or = elementwise(np.bitwise_or, "{x} | {y}", [None, None], tested=False)
bitwise_xor = elementwise(np.bitwise_xor, "{x} ^ {y}", [None, None], tested=False)
invert    = elementwise(np.invert, "", [None], tested=False)
isnan     = elementwise(np.isnan, "isnan({x})", [None])
isinf     = elementwise(np.isinf, "isinf({x})", [None])
isfinite  = elementwise(np.isfinite, "isfinite({x})", [None])

where     = elementwise(np.where, "where({c}, {x}, {y})", [None, lambda g, z, c, x, y: _only(c, g),
                                                           lambda g, z, c, x, y: _only(c, g, otherwise=True)], tested=False)
# fmt: on


@numpy_function(method="conj")
@numpy_function(method="conjugate")
def conjugate_(a: Any, out: Any = None) -> Any:
    return bind(conjugate, a) if a.dtype.kind == "c" else a


# ---- the error function, which NumPy lacks --------------------------------------------------------------------------

_PER_UNIT, _LAST = 32, 6  # Taylor series around each multiple of 1/32 up to 6, where erf is 1 in every dtype
_TERMS = {np.dtype(np.float32): 5, np.dtype(np.float64): 9}  # the first one left out is below half a unit


@functools.cache
def _erf_series(dtype: np.dtype) -> list[np.ndarray]:
    """For each power of h, the coefficients of erf(x + h) at all x: f = erf has f'' = -2*x*f', and so on by Leibniz."""
    x = np.arange(_LAST * _PER_UNIT + 1) / _PER_UNIT
    terms = [np.array([math.erf(v) for v in x]), 2 / math.sqrt(math.pi) * np.exp(-x * x)]
    for n in range(1, _TERMS[dtype] - 1):
        terms.append(-2 * (x * terms[n] + (n - 1) / n * terms[n - 1]) / (n + 1))
    return [term.astype(dtype) for term in terms]


def _infer_erf(op: Op, x: Aval) -> Aval:
    return Aval(_shape(x), np.tanh.resolve_dtypes((x.dtype, None))[-1])


def _run_erf(x: Any) -> Any:
    if x.dtype.kind == "c":
        raise TypeError("erf of complex numbers is not known here")
    out = np.tanh.resolve_dtypes((x.dtype, None))[-1]
    v = x.astype(np.float32 if out.itemsize <= 4 else np.float64)
    size = np.minimum(np.absolute(v), _LAST)
    nearest = np.rint(size * _PER_UNIT)
    h, k = size - nearest / _PER_UNIT, np.fmax(nearest, 0).astype(np.intp)  # NaN is no index, but stays in h
    *terms, y = _erf_series(v.dtype)
    y = y[k]
    for term in reversed(terms):
        y = y * h + term[k]
    return np.copysign(y, v).astype(out)


def erf_(x: Any) -> Any:
    """The error function 2/sqrt(pi) * integral of exp(-t*t) from 0 to x: shape of `x`, its dtype if floating.

    Integers give what np.tanh would give. Accurate to two units of the last place of float32 and of float64.
    Raises:
        TypeError: `x` is complex.
    """
    return bind(erf, as_array(x))


erf = elementwise(
    erf_,
    "erf({x})",
    [lambda g, y, x: g * (2 / math.sqrt(math.pi) * np.exp(-np.square(np.clip(x, -28, 28))))],  # beyond, it is 0
    name="erf",
    run=_run_erf,
    infer=_infer_erf,
)


# ---- with several results, or of complex numbers -------------------------------------------------------------------

modf: Op = call("modf", np.modf, pullback=lambda g, out, x: [g[0]], outs=2, fn=np.modf, tested=False)
frexp: Op = call(
    "frexp",
    np.frexp,
    pullback=lambda g, out, x: [None if g[0] is None else np.ldexp(g[0], -out[1])],
    outs=2,
    fn=np.frexp,
    tested=False,
)


def _pull_divmod(g: Any, out: Any, x: Any, y: Any) -> list[Any]:
    return [g[1], None if g[1] is None else -g[1] * out[0]]


divmod_: Op = call("divmod", np.divmod, pullback=_pull_divmod, outs=2, fn=np.divmod, tested=False)
UFUNCS.update({np.modf: modf, np.frexp: frexp, np.divmod: divmod_})

real: Op = call("real", lambda x: x.real, [lambda g, y, x: g], infer=lambda op, x: _part(x))
imag: Op = call("imag", lambda x: x.imag, [lambda g, y, x: g * -1j], infer=lambda op, x: _part(x))


def _part(x: Aval) -> Aval:
    return Aval(x.shape, np.empty(0, x.dtype).real.dtype)


@numpy_function(np.real)
def real_(val: Any) -> Any:
    return bind(real, val) if val.dtype.kind == "c" else val


@numpy_function(np.imag)
def imag_(val: Any) -> Any:
    return bind(imag, val) if val.dtype.kind == "c" else np.zeros_like(val)


# ---- casts, copies, constants --------------------------------------------------------------------------------------


def _infer_cast(op: Op, a: Any, *, dtype: np.dtype) -> Aval:
    return Aval(_shape(a), dtype)


cast = elementwise(
    np.asarray,
    "{x}",
    [lambda g, y, x, *, dtype: g if g.dtype.kind == "c" else g.astype(x.dtype)],  # the sweep takes the real part
    name="cast",
    run=lambda x, *, dtype: x.astype(dtype),
    infer=_infer_cast,
    tested=False,
)
copy = elementwise(np.copy, "{x}", [lambda g, y, x: g], run=lambda x: x.copy())
detach = elementwise(np.copy, "{x}", [None], name="detach", run=lambda x: x.copy(), tested=False)  # as a constant
assign = elementwise(  # the value of `old` after `old[...] = new`
    np.copyto,
    "{y}",
    [None, lambda g, z, x, y: g],
    name="assign",
    run=lambda old, new: np.broadcast_to(new, old.shape).astype(old.dtype),
    infer=lambda op, old, new: old,
    tested=False,
)
full_like = elementwise(  # a constant with the shape of `x`, whose values do not matter
    np.full_like,
    "{y}",
    [None, None],
    name="full_like",
    run=lambda x, value, *, dtype: np.full_like(x, value, dtype=dtype),
    infer=lambda op, x, value, *, dtype: Aval(_shape(x), dtype),
    tested=False,
)
iota = elementwise(  # the position along `axis` of something shaped like `x`, as int64; made by `expand` rules
    np.arange,
    "",
    [None],
    name="iota",
    run=lambda x, *, axis: np.broadcast_to(_column(np.arange(x.shape[axis]), axis, x.ndim), x.shape),
    infer=lambda op, x, *, axis: Aval(x.shape, np.dtype(np.int64)),
    by_shape=True,
    tested=False,
)


rounded = elementwise(
    np.round,
    "",
    [None],
    name="round",
    run=lambda x, *, decimals: np.round(x, decimals),
    infer=lambda op, x, *, decimals: Aval(_shape(x), np.round(np.ones(1, x.dtype), decimals).dtype),
    tested=False,
)


def _column(x: Any, axis: int, ndim: int) -> Any:
    return x.reshape([-1 if i == axis else 1 for i in range(ndim)])


def _like(value: Any) -> Any:
    def like(a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None) -> Any:
        if shape is not None and shape != a.shape:
            plain = np.full(shape, value, dtype or a.dtype)
            return a._wrap(plain) if isinstance(a, Traced) else plain
        return bind(full_like, a, value, dtype=np.dtype(dtype or a.dtype))

    return like


numpy_function(np.zeros_like)(_like(0))
numpy_function(np.ones_like)(_like(1))
numpy_function(np.empty_like)(_like(0))


@numpy_function(np.full_like)
def full_like_(
    a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None
) -> Any:
    fill_value, dtype = arrayed(fill_value), np.dtype(dtype or a.dtype)
    if shape is not None and shape != a.shape:
        filler = fill_value if isinstance(fill_value, Traced) else np.zeros_like(a, shape=()) + fill_value
        return np.copy(np.broadcast_to(np.asanyarray(filler).astype(dtype), shape))
    if isinstance(fill_value, Traced) and fill_value._node is not None:  # its gradient is the sum over what it fills
        return np.copy(np.broadcast_to(fill_value.astype(dtype), a.shape))
    return bind(full_like, a, fill_value, dtype=dtype)


@numpy_function(np.array, np.asarray, np.asanyarray, np.ascontiguousarray, np.asfortranarray)
def array(
    a: Any,
    dtype: Any = None,
    *,
    copy: bool | None = True,
    order: Any = None,
    subok: bool = False,
    ndmin: int = 0,
    device: Any = None,
) -> Any:
    """With `like=` a Tensor: the only way in which NumPy lets these functions be handled."""
    x = as_array(a)
    x = x if dtype is None else x.astype(dtype)
    x = np.copy(x) if copy else x
    return np.reshape(x, (*(1,) * (ndmin - x.ndim), *x.shape)) if ndmin > x.ndim else x


@numpy_function(np.where)
def where_(condition: Any, x: Any = None, y: Any = None, /) -> Any:
    if x is None and y is None:
        return np.nonzero(condition)
    return bind(where, condition, x, y)


def _given(bound: Any, other: Any) -> Any:
    return other if bound is None or bound is np._NoValue else bound


@numpy_function(np.clip, method="clip")
def clip(a: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None, max: Any = None) -> Any:
    low = _given(a_min, min)
    high = _given(a_max, max)
    a = a if low is None or low is np._NoValue else np.maximum(a, low)
    return a if high is None or high is np._NoValue else np.minimum(a, high)


@numpy_function(np.astype, method="astype")
def astype(
    x: Any, dtype: Any, order: str = "K", casting: Any = "unsafe", subok: bool = True, copy: bool = True, **_: Any
) -> Any:
    dtype = np.dtype(dtype)
    if not copy and x.dtype == dtype:
        return x
    if not np.can_cast(x.dtype, dtype, casting):
        raise TypeError(f"[astype] cannot cast {x.dtype} to {dtype} under casting={casting!r}.")
    return bind(cast, x, dtype=dtype)


@numpy_function(np.copy, method="copy")
def copy_(a: Any, order: str = "K", subok: bool = False) -> Any:
    return bind(copy, a)


@numpy_function(np.round, np.around, method="round")
def round_(a: Any, decimals: int = 0) -> Any:
    return bind(rint, a) if decimals == 0 and a.dtype.kind == "f" else bind(rounded, a, decimals=int(decimals))
