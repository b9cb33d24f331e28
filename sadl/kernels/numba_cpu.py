"""Compile kernels with Numba: the only module, besides `vmath_numba`, that imports it, and only when something is new.

Takes the text of a kernel and the types of its parameters; gives a symbol and the bytes of an object file.
Keeping and loading them is left to `store`.

Every kernel becomes a C function `int k(void*, void*, int64* block, int64 lo, int64 hi)`, whose block holds its
arguments in slots of eight bytes. Flags: NumPy's rules for division, and fast arithmetic that still honours NaN and
infinity. Without Numba's wrappers a kernel is a few kilobytes and needs nothing from Python.
"""

import linecache
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from sadl.kernels import vmath_numba  # noqa: F401  teaches Numba the functions of vmath

FAST = {"reassoc", "nsz", "arcp", "contract", "afn"}
FLAGS = {
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "nogil": True,
}
BLOCK = types.CPointer(types.int64)


@intrinsic
def as_pointer(context: Any, address: Any, kind: Any) -> Any:
    signature = types.CPointer(kind.dtype)(types.int64, kind)

    def emit(cgctx: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgctx.get_value_type(sig.return_type))

    return signature, emit


@intrinsic
def as_double(context: Any, slot: Any) -> Any:
    return types.float64(types.int64), lambda cgctx, builder, sig, args: builder.bitcast(args[0], ir.DoubleType())


@intrinsic
def call_kernel(context: Any, function: Any, block: Any, lo: Any, hi: Any) -> Any:
    """Call the kernel at address `function`."""

    def emit(cgctx: Any, builder: Any, sig: Any, args: Any) -> Any:
        i64, pointer = ir.IntType(64), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.IntType(32), [pointer, pointer, pointer, i64, i64])
        unused = builder.bitcast(builder.alloca(ir.IntType(64), 2), pointer)
        target = builder.inttoptr(args[0], kind.as_pointer())
        builder.call(target, [unused, unused, builder.inttoptr(args[1], pointer), args[2], args[3]])
        return cgctx.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), emit


def _gemm_intrinsic(real: ir.Type) -> Any:
    @intrinsic
    def call_gemm(context: Any, block: Any) -> Any:
        """cblas_?gemm at address block[0] with block[1:]: transA, transB, m, n, k, A, lda, B, ldb, C, ldc, alpha, beta."""

        def emit(cgctx: Any, builder: Any, sig: Any, args: Any) -> Any:
            i64, i32 = ir.IntType(64), ir.IntType(32)
            slot = lambda k: builder.load(builder.gep(args[0], [i64(k)]))  # noqa: E731
            real_slot = lambda k: _as_real(builder, slot(k), real)  # noqa: E731
            kinds = [i32, i32, i32, i64, i64, i64, real, i64, i64, i64, i64, real, i64, i64]
            target = builder.inttoptr(slot(0), ir.FunctionType(ir.VoidType(), kinds).as_pointer())
            trans = [builder.trunc(slot(k), i32) for k in (1, 2)]
            values = [
                i32(101),
                *trans,
                slot(3),
                slot(4),
                slot(5),
                real_slot(12),
                slot(6),
                slot(7),
                slot(8),
                slot(9),
            ]
            builder.call(target, [*values, real_slot(13), slot(10), slot(11)])
            return cgctx.get_dummy_value()

        return types.void(BLOCK), emit

    return call_gemm


def _as_real(builder: Any, slot: Any, real: ir.Type) -> Any:
    value = builder.bitcast(slot, ir.DoubleType())
    return value if real == ir.DoubleType() else builder.fptrunc(value, real)


gemm_float32 = _gemm_intrinsic(ir.FloatType())
gemm_float64 = _gemm_intrinsic(ir.DoubleType())


def run_table(table: Any, lo: Any, hi: Any) -> None:
    """Launch the rows lo..hi of a table of (function, block, lo, hi)."""
    for i in range(lo, hi):
        call_kernel(table[4 * i], table[4 * i + 1], table[4 * i + 2], table[4 * i + 3])


def _gemm_float32(block: Any, lo: Any, hi: Any) -> None:
    gemm_float32(block)


def _gemm_float64(block: Any, lo: Any, hi: Any) -> None:
    gemm_float64(block)


BUILTINS: dict[str, Callable[..., Any]] = {
    "run_table": run_table,
    "gemm_float32": _gemm_float32,
    "gemm_float64": _gemm_float64,
}


def compile_builtin(name: str) -> tuple[str, bytes]:
    return _emit(BUILTINS[name])


def compile_kernel(name: str, path: str, text: str, parameters: Sequence[tuple[str, str]]) -> tuple[str, bytes]:
    """The symbol and object code of the kernel `name` in `text`; `path` is the file that tracebacks are to show."""
    linecache.cache[path] = (len(text), None, text.splitlines(True), path)
    space: dict[str, Any] = {}
    exec(compile(text, path, "exec"), space)
    space["kernel"] = njit(fastmath=FAST, **FLAGS)(space[name])
    space.update(as_pointer=as_pointer, as_double=as_double, **{t: getattr(np, t) for t in _SCALARS})
    exec(_entry(name, parameters), space)
    return _emit(space[f"entry_{name}"])


_SCALARS = ("float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool_")


def _entry(name: str, parameters: Sequence[tuple[str, str]]) -> str:
    """The C function around a kernel: take the arguments out of the block."""
    arguments = ", ".join(_argument(k, kind) for k, (_, kind) in enumerate(parameters))
    return f"def entry_{name}(block, lo, hi):\n    kernel(lo, hi, {arguments})\n"


def _argument(k: int, kind: str) -> str:
    if kind.endswith("*"):
        return f"as_pointer(block[{k}], {kind[:-1]})"
    kind = "bool_" if kind == "bool" else kind
    return f"{kind}(as_double(block[{k}]))" if kind.startswith("float") else f"{kind}(block[{k}])"


def _emit(function: Callable[..., Any]) -> tuple[str, bytes]:
    compiled = njit(types.void(BLOCK, types.int64, types.int64), **FLAGS)(function)
    result = compiled.overloads[compiled.signatures[0]]
    library = result.library
    return result.fndesc.llvm_func_name, library.codegen._tm.emit_object(library._final_module)
