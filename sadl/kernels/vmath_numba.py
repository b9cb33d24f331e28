"""Lowers `vmath` for Numba: each call becomes straight-line LLVM code inside the calling kernel.

Takes the functions of `vmath` and runs them on `Lane`, a number whose NumPy operations emit
instructions. Importing this module is all it takes; what is computed, and how, is in `vmath`.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import lower_builtin, type_callable
from numba.np.numpy_support import as_dtype, from_dtype

from sadl.kernels import vmath

# Contraction to a fused multiply-add is the one freedom the algorithms allow. Numba gives a kernel's
# fastmath flags only to instructions that have none of their own, so this also keeps those away.
_EXACT = ("contract",)
_ANY_ORDER = ("contract", "reassoc", "nsz")

Emitter = Callable[..., Any]

_FLOAT_TYPES = {4: ir.FloatType(), 8: ir.DoubleType()}


def _dtype(numba_type: Any) -> np.dtype:
    return as_dtype(types.unliteral(numba_type))


def _llvm_type(dtype: Any) -> ir.Type:
    if dtype.kind == "f":
        return _FLOAT_TYPES[dtype.itemsize]
    return ir.IntType(1 if dtype.kind == "b" else 8 * dtype.itemsize)


class Lane(np.lib.mixins.NDArrayOperatorsMixin):
    """A number in a kernel under construction: NumPy operations on it emit LLVM instructions."""

    def __init__(self, builder: Any, value: Any, dtype: Any) -> None:
        self.builder, self.value, self.dtype = builder, value, np.dtype(dtype)

    def __array_ufunc__(self, ufunc: Any, method: Any, *inputs: Any, **options: Any) -> Any:
        lane = next(value for value in inputs if isinstance(value, Lane))
        return _EMIT[ufunc](*map(lane.lift, inputs))

    def __array_function__(self, function: Any, kinds: Any, inputs: Any, options: Any) -> Any:
        condition, a, b = inputs  # the one such function in use is np.where
        lane = next((value for value in (a, b) if isinstance(value, Lane)), self)
        a = lane.lift(a)
        b = a.lift(b)
        return a.like(self.builder.select(condition.value, a.value, b.value))

    def __getitem__(self, key: Any) -> "Lane":
        return self  # an array of no dimensions and its element are the same here

    def like(self, value: Any, dtype: Any = None) -> "Lane":
        return Lane(self.builder, value, self.dtype if dtype is None else dtype)

    def lift(self, value: Any) -> "Lane":
        """A constant as a lane; plain Python numbers take this lane's dtype."""
        if isinstance(value, Lane):
            return value
        dtype = getattr(value, "dtype", self.dtype)
        number = float(value) if dtype.kind == "f" else int(value)
        return self.like(ir.Constant(_llvm_type(dtype), number), dtype)

    def view(self, dtype: Any) -> "Lane":
        dtype = np.dtype(dtype)
        return self.like(self.builder.bitcast(self.value, _llvm_type(dtype)), dtype)

    def astype(self, dtype: Any) -> "Lane":
        dtype = np.dtype(dtype)
        if dtype.kind == "b":
            return self != 0
        if _llvm_type(dtype) == _llvm_type(self.dtype):
            return self.like(self.value, dtype)
        cast = getattr(self.builder, _cast(self.dtype, dtype))
        return self.like(cast(self.value, _llvm_type(dtype)), dtype)


def _cast(old: np.dtype, new: np.dtype) -> str:
    """The instruction that converts between two different dtypes."""
    signed = old.kind == "i"
    if old.kind == "f":
        return "fptrunc" if new.itemsize < old.itemsize else "fpext"
    if new.kind == "f":
        return "sitofp" if signed else "uitofp"
    if new.itemsize < old.itemsize:
        return "trunc"
    return "sext" if signed else "zext"


def _operator(floating: str = "", integer: str = "", flags: tuple[str, ...] = _EXACT) -> Emitter:
    def emit(a: Any, b: Any) -> Any:
        if a.dtype.kind == "f":
            return a.like(getattr(a.builder, floating)(a.value, b.value, flags=flags))
        return a.like(getattr(a.builder, integer)(a.value, b.value))

    return emit


def _comparison(symbol: str) -> Emitter:
    def emit(a: Any, b: Any) -> Any:
        kind = {"f": "fcmp_ordered", "i": "icmp_signed"}.get(a.dtype.kind, "icmp_unsigned")
        if a.dtype.kind == "f" and symbol == "!=":
            kind = "fcmp_unordered"
        return a.like(getattr(a.builder, kind)(symbol, a.value, b.value), bool)

    return emit


def _intrinsic(floating: str | None, signed: str | None = None, unsigned: str | None = None) -> Emitter:
    def emit(*lanes: Any) -> Any:
        first = lanes[0]
        name = {"f": floating, "i": signed}.get(first.dtype.kind, unsigned)
        if name is None:
            return first
        return _call(name, *lanes)

    return emit


def _call(name: str, *lanes: Any) -> Any:
    first = lanes[0]
    kind = first.value.type
    shape = ir.FunctionType(kind, [kind] * len(lanes))
    function = first.builder.module.declare_intrinsic(name, (kind,), shape)
    return first.like(first.builder.call(function, [lane.value for lane in lanes]))


def _absolute(x: Any) -> Any:
    return _call("llvm.fabs", x) if x.dtype.kind == "f" else np.where(x < 0, -x, x)


def _negative(x: Any) -> Any:
    return x.like(x.builder.fneg(x.value) if x.dtype.kind == "f" else x.builder.neg(x.value))


def _isnan(x: Any) -> Any:
    if x.dtype.kind != "f":
        return x.like(ir.IntType(1)(0), bool)
    return x.like(x.builder.fcmp_unordered("uno", x.value, x.value), bool)


def _safe_divisor(b: Any) -> Any:
    """b, or 1 where a machine division by b would trap: on 0, and on -1 for the lowest integer."""
    trap = b == 0
    if b.dtype.kind == "i":
        trap = trap | (b == -1)
    return np.where(trap, 1, b)


def _floor_divide(a: Any, b: Any) -> Any:
    divisor = _safe_divisor(b)
    if a.dtype.kind != "i":
        quotient = a.like(a.builder.udiv(a.value, divisor.value))
    else:
        quotient = a.like(a.builder.sdiv(a.value, divisor.value))
        rest = a - quotient * divisor
        off = (rest != 0) & ((rest ^ divisor) < 0)
        quotient = np.where(b == -1, -a, np.where(off, quotient - 1, quotient))
    return np.where(b == 0, 0, quotient)


def _remainder(a: Any, b: Any) -> Any:
    divisor = _safe_divisor(b)
    if a.dtype.kind != "i":
        rest = a.like(a.builder.urem(a.value, divisor.value))
    else:
        rest = a.like(a.builder.srem(a.value, divisor.value))
        rest = np.where((rest != 0) & ((rest ^ divisor) < 0), rest + divisor, rest)
    return np.where(b == 0, 0, rest)


_EMIT: dict[Any, Emitter] = {
    np.add: _operator("fadd", "add"),
    np.subtract: _operator("fsub", "sub"),
    np.multiply: _operator("fmul", "mul"),
    np.divide: _operator("fdiv"),
    np.fmod: _operator("frem"),
    np.floor_divide: _floor_divide,
    np.remainder: _remainder,
    np.left_shift: _operator(integer="shl"),
    np.right_shift: _operator(integer="lshr"),
    np.bitwise_and: _operator(integer="and_"),
    np.bitwise_or: _operator(integer="or_"),
    np.bitwise_xor: _operator(integer="xor"),
    np.invert: lambda x: x.like(x.builder.not_(x.value)),
    np.less: _comparison("<"),
    np.greater: _comparison(">"),
    np.less_equal: _comparison("<="),
    np.greater_equal: _comparison(">="),
    np.equal: _comparison("=="),
    np.not_equal: _comparison("!="),
    np.isnan: _isnan,
    np.negative: _negative,
    np.absolute: _absolute,
    np.copysign: _intrinsic("llvm.copysign"),
    np.sqrt: _intrinsic("llvm.sqrt"),
    np.rint: _intrinsic("llvm.rint"),
    np.floor: _intrinsic("llvm.floor"),
    np.ceil: _intrinsic("llvm.ceil"),
    np.trunc: _intrinsic("llvm.trunc"),
    np.maximum: _intrinsic("llvm.maximum", "llvm.smax", "llvm.umax"),
    np.minimum: _intrinsic("llvm.minimum", "llvm.smin", "llvm.umin"),
    np.fmax: _intrinsic("llvm.maxnum", "llvm.smax", "llvm.umax"),
    np.fmin: _intrinsic("llvm.minnum", "llvm.smin", "llvm.umin"),
}


def _integer_power(a: Any, b: Any) -> Any:
    """a**b, wrapping. Negative powers, which NumPy refuses, are rounded towards zero."""
    y = _power_by_squaring(a, b)
    if b.dtype.kind == "i":
        of_minus_one = np.where((b & 1) == 0, b.lift(1), -1)
        inverse = np.where(a == -1, of_minus_one, np.where(a == 1, b.lift(1), 0))
        y = np.where(b < 0, inverse, y)
    return y


def _power_by_squaring(a: Any, b: Any) -> Any:
    """The one function with a loop: a branch-free one would take as many steps as b has bits."""
    builder, kind = a.builder, a.value.type
    start = builder.block
    loop, end = (builder.append_basic_block(f"power.{part}") for part in ("loop", "end"))
    builder.branch(loop)
    builder.position_at_end(loop)
    square, left, y = (builder.phi(kind) for _ in range(3))
    factor = builder.select(builder.trunc(left, ir.IntType(1)), square, kind(1))
    following = builder.mul(square, square), builder.lshr(left, kind(1)), builder.mul(y, factor)
    initial = a.value, b.value, kind(1)
    for phi, first, then in zip((square, left, y), initial, following, strict=True):
        phi.add_incoming(first, start)
        phi.add_incoming(then, loop)
    builder.cbranch(builder.icmp_unsigned("!=", following[1], kind(0)), loop, end)
    builder.position_at_end(end)
    return a.like(following[2])


# ---- calls of the C library for single elements of a vectorised loop ----


def _rare(symbol: str) -> Emitter:
    """Emit a call of a C function that is worth making only where the argument is not 0.

    LLVM does not vectorise a loop with a call, unless a vector version of the function is in the
    module and announced. This one looks at a whole vector first, and seldom does more.
    """

    def emit(x: Any) -> Any:
        name = symbol + ("f" if x.dtype.itemsize == 4 else "")
        function = _rare_function(x.builder.module, name, x.value.type)
        return x.like(x.builder.call(function, [x.value]))

    return emit


def _rare_function(module: ir.Module, name: str, kind: ir.Type) -> Any:
    scalar_name = f"vmath.{name}"
    if scalar_name in module.globals:
        return module.globals[scalar_name]
    lanes = (2, 4, 8, 16) if kind == ir.FloatType() else (2, 4, 8)
    variants = ",".join(f"_ZGV_LLVM_N{n}v_{scalar_name}({scalar_name}.{n})" for n in lanes)
    scalar = _rare_scalar(module, name, scalar_name, kind)
    set.add(scalar.attributes, f'"vector-function-abi-variant"="{variants}"')
    for n in lanes:
        _rare_vector(module, scalar, f"{scalar_name}.{n}", ir.VectorType(kind, n))
    return scalar


def _function(module: ir.Module, name: str, kind: ir.Type) -> Any:
    """A function of one argument that the optimiser may drop, move and merge, but keeps in place."""
    function = ir.Function(module, ir.FunctionType(kind, [kind]), name)
    # Not `linkonce_odr`: until the loop is vectorised, nothing refers to the vector versions.
    function.linkage = "weak_odr"
    for attribute in ("noinline", "nounwind", "willreturn", "memory(none)"):
        set.add(function.attributes, attribute)  # llvmlite's own check knows only older ones
    return function, ir.IRBuilder(function.append_basic_block())


def _rare_scalar(module: ir.Module, name: str, scalar_name: str, kind: ir.Type) -> Any:
    function, builder = _function(module, scalar_name, kind)
    (x,) = function.args
    library = module.globals.get(name) or ir.Function(module, ir.FunctionType(kind, [kind]), name)
    with builder.if_then(builder.fcmp_unordered("!=", x, kind(0)), likely=False):
        builder.ret(builder.call(library, [x]))
    builder.ret(kind(0))
    return function


def _rare_vector(module: ir.Module, scalar: Any, name: str, kind: ir.Type) -> None:
    function, builder = _function(module, name, kind)
    (x,) = function.args
    some = builder.fcmp_unordered("!=", x, ir.Constant(kind, [0.0] * kind.count))
    mask = builder.bitcast(some, ir.IntType(kind.count))
    with builder.if_then(builder.icmp_unsigned("!=", mask, mask.type(0)), likely=False):
        y = x
        for lane in map(ir.IntType(32), range(kind.count)):
            element = builder.call(scalar, [builder.extract_element(x, lane)])
            y = builder.insert_element(y, element, lane)
        builder.ret(y)
    builder.ret(x)


_EMIT |= {
    np.power: _integer_power,
    np.sin: _rare("sin"),
    np.cos: _rare("cos"),
    np.tan: _rare("tan"),
}


_ACCUMULATE = {
    "add_any_order": _operator("fadd", "add", _ANY_ORDER),
    "multiply_any_order": _operator("fmul", "mul", _ANY_ORDER),
}


def _register(name: str, function: Any) -> None:
    @functools.wraps(function)
    def typer(*arguments: Any) -> Any:
        return from_dtype(vmath.resolve(name, tuple(map(_dtype, arguments)))[1])

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        lanes = map(functools.partial(Lane, builder), values, map(_dtype, signature.args))
        return _ACCUMULATE.get(name, function)(*lanes).value

    type_callable(function)(lambda context: typer)
    lower_builtin(function, types.VarArg(types.Any))(lower)


for _name in vmath.FUNCTIONS:
    _register(_name, vmath.FUNCTIONS[_name])
