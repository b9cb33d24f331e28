"""Compile kernels with Numba: the only module, besides `vmath_numba`, that imports it, and only when something is new.

Takes the text of a kernel and the types of its parameters; gives a symbol and the bytes of an object file.
Keeping and loading them is left to `store`.

Every kernel becomes a C function `int k(void*, void*, int64* block, int64 lo, int64 hi)`, whose block holds its
arguments in slots of eight bytes. Flags: NumPy's rules for division, and fast arithmetic that still honours NaN and
infinity. Without Numba's wrappers a kernel is a few kilobytes and needs nothing from Python.
"""

import linecache
import platform
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from sadl.kernels import (
    convolution,
    rows,
    vmath_numba,  # noqa: F401  teaches Numba the functions of vmath
)

FAST = {"nsz", "arcp", "contract", "afn"}  # not reassoc: (x + y) - x is what NumPy makes of it
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
        unused = builder.bitcast(cgutils.alloca_once(builder, ir.ArrayType(i64, 2)), pointer)
        target = builder.inttoptr(args[0], kind.as_pointer())
        builder.call(target, [unused, unused, builder.inttoptr(args[1], pointer), args[2], args[3]])
        return cgctx.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), emit


# ---- matrix products -----------------------------------------------------------------------------------------------


def _gemm_intrinsic(real: ir.Type) -> Any:
    @intrinsic
    def call_gemm(
        context: Any,
        function: Any,
        trans_a: Any,
        trans_b: Any,
        m: Any,
        n: Any,
        k: Any,
        a: Any,
        lda: Any,
        b: Any,
        ldb: Any,
        add: Any,
        c: Any,
        ldc: Any,
    ) -> Any:
        """cblas_?gemm at an address, row-major: C = A B, or C += A B if `add` is 1; A, B and C are addresses."""

        def emit(cgctx: Any, builder: Any, sig: Any, args: Any) -> Any:
            i64, i32 = ir.IntType(64), ir.IntType(32)
            function, trans_a, trans_b, m, n, k, a, lda, b, ldb, add, c, ldc = args
            kinds = [i32, i32, i32, i64, i64, i64, real, i64, i64, i64, i64, real, i64, i64]
            target = builder.inttoptr(function, ir.FunctionType(ir.VoidType(), kinds).as_pointer())
            trans = [builder.trunc(flag, i32) for flag in (trans_a, trans_b)]
            one, beta = ir.Constant(real, 1.0), builder.sitofp(add, real)
            builder.call(target, [i32(101), *trans, m, n, k, one, a, lda, b, ldb, beta, c, ldc])
            return cgctx.get_dummy_value()

        return types.void(*[types.int64] * 13), emit

    return call_gemm


_call_sgemm = _gemm_intrinsic(ir.FloatType())
_call_dgemm = _gemm_intrinsic(ir.DoubleType())


def _gemm(call: Any) -> Callable[..., None]:
    """C = A B by BLAS, for a range of the rows of C or of its columns.

    block: function, transA, transB, m, n, k, A, lda, B, ldb, C, ldc, whether the range is of columns, and by how many
    bytes A, B and C move from one row or column to the next.
    """

    def gemm(block: Any, lo: Any, hi: Any) -> None:
        m, n = block[3], block[4]
        if block[12] == 0:
            m = hi - lo
        else:
            n = hi - lo
        a, b, c = block[6] + lo * block[13], block[8] + lo * block[14], block[10] + lo * block[15]
        call(block[0], block[1], block[2], m, n, block[5], a, block[7], b, block[9], 0, c, block[11])

    return gemm


def _gemm_stack(call: Any) -> Callable[..., None]:
    """C = A B by BLAS for a range of products of equal sizes.

    block: as above up to ldc, then for each product by how many bytes its A, B and C are further on.
    """

    def gemm_stack(block: Any, lo: Any, hi: Any) -> None:
        for i in range(lo, hi):
            a, b, c = block[6] + block[12 + 3 * i], block[8] + block[13 + 3 * i], block[10] + block[14 + 3 * i]
            call(block[0], block[1], block[2], block[3], block[4], block[5], a, block[7], b, block[9], 0, c, block[11])

    return gemm_stack


# ---- the thread team -----------------------------------------------------------------------------------------------


def _atomic(emit_value: Callable[[Any, Any], Any], arguments: int) -> Any:
    """An intrinsic on the int64 at state[index], with so many more int64 arguments, that gives an int64."""

    def typed(context: Any, state: Any, index: Any, *more: Any) -> Any:
        def emit(cgctx: Any, builder: Any, sig: Any, args: Any) -> Any:
            return emit_value(builder, [builder.gep(args[0], [args[1]]), *args[2:]])

        return types.int64(BLOCK, *[types.int64] * (1 + arguments)), emit

    wrappers = (
        lambda context, state, index: typed(context, state, index),
        lambda context, state, index, x: typed(context, state, index, x),
        lambda context, state, index, x, y: typed(context, state, index, x, y),
    )
    return intrinsic(wrappers[arguments])


def _emit_store(builder: Any, args: Any) -> Any:
    builder.store_atomic(args[1], args[0], "seq_cst", 8)
    return args[1]


def _emit_swap(builder: Any, args: Any) -> Any:
    done = builder.extract_value(builder.cmpxchg(args[0], args[1], args[2], "seq_cst"), 1)
    return builder.zext(done, ir.IntType(64))


atomic_load = _atomic(lambda builder, args: builder.load_atomic(args[0], "seq_cst", 8), 0)
atomic_store = _atomic(_emit_store, 1)
atomic_add = _atomic(lambda builder, args: builder.atomic_rmw("add", args[0], args[1], "seq_cst"), 1)
atomic_swap = _atomic(_emit_swap, 2)


@intrinsic
def pause(context: Any) -> Any:
    """Tell the processor that this is a loop that waits."""

    def emit(cgctx: Any, builder: Any, sig: Any, args: Any) -> Any:
        if platform.machine() in ("x86_64", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return cgctx.get_dummy_value()

    return types.void(), emit


@intrinsic
def give_way(context: Any) -> Any:
    """Let another thread have the processor, if one waits for it: perhaps the one that this one waits for."""

    def emit(cgctx: Any, builder: Any, sig: Any, args: Any) -> Any:
        if sys.platform != "win32":
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return cgctx.get_dummy_value()

    return types.void(), emit


# The words of the state that a team shares, each group on a cache line of its own.
TICKET, DONE, FUNCTION, ARGUMENTS, UPPER, TILE = 0, 8, 16, 17, 18, 19
COUNT_BITS = 16  # a ticket is the number of the job, then how many of its tiles nobody has taken yet
PATIENCE = 40_000  # turns for which a thread without work looks for some: about half a millisecond


def run_tiles(state: Any) -> Any:
    """Take tiles of the current job, one by one, until none is left; how many that were.

    Whoever takes a tile has swapped the ticket for one with a tile less, so nobody else has it, and the job cannot end
    before it is done: what the state says of the job stays true.
    """
    taken = 0
    ticket = atomic_load(state, TICKET)
    left = ticket & ((1 << COUNT_BITS) - 1)
    while left > 0:
        if atomic_swap(state, TICKET, ticket, ticket - 1):
            lo = (left - 1) * state[TILE]
            call_kernel(state[FUNCTION], state[ARGUMENTS], lo, min(lo + state[TILE], state[UPPER]))
            atomic_add(state, DONE, 1)
            taken += 1
        ticket = atomic_load(state, TICKET)
        left = ticket & ((1 << COUNT_BITS) - 1)
    return taken


_run_tiles = njit(**FLAGS)(run_tiles)


def wait(turns: Any) -> None:
    """One turn of a loop that waits; now and then it gives way, in case two threads share a processor."""
    if turns & 63 == 0:
        give_way()
    else:
        pause()


_wait = njit(**FLAGS)(wait)


def work(state: Any, lo: Any, hi: Any) -> None:
    """What the other threads of the team do: help with whatever job there is, until there was none for a while."""
    idle = 0
    while idle < PATIENCE:
        if _run_tiles(state) > 0:
            idle = 0
        else:
            idle += 1
            _wait(idle)


def run_table(block: Any, lo: Any, hi: Any) -> None:
    """Launch the rows lo..hi of a table of (function, arguments, upper, tile).

    block: the table, and the state of the team or 0 to work alone. A launch is cut into tiles by its own sizes, not by
    the number of threads, so that the results are the same bits for any number. The threads of the team take tiles as
    they can; this one waits for nobody who has none.
    """
    table, state = as_pointer(block[0], np.int64), as_pointer(block[1], np.int64)
    for i in range(lo, hi):
        function, arguments, upper, tile = table[4 * i], table[4 * i + 1], table[4 * i + 2], table[4 * i + 3]
        tiles = (upper + tile - 1) // tile
        if tiles < 2 or block[1] == 0:
            for t in range(tiles):
                call_kernel(function, arguments, t * tile, min((t + 1) * tile, upper))
        else:
            state[FUNCTION], state[ARGUMENTS], state[UPPER], state[TILE] = function, arguments, upper, tile
            atomic_store(state, DONE, 0)
            job = (atomic_load(state, TICKET) >> COUNT_BITS) + 1
            atomic_store(state, TICKET, (job << COUNT_BITS) | tiles)
            _run_tiles(state)
            waited = 0
            while atomic_load(state, DONE) < tiles:
                waited += 1
                _wait(waited)


BUILTINS: dict[str, Callable[..., Any]] = {
    "run_table": run_table,
    "work": work,
    "gemm_float32": _gemm(_call_sgemm),
    "gemm_float64": _gemm(_call_dgemm),
    "gemm_stack_float32": _gemm_stack(_call_sgemm),
    "gemm_stack_float64": _gemm_stack(_call_dgemm),
}
for _kind, _call in ((np.float32, _call_sgemm), (np.float64, _call_dgemm)):
    _loops = convolution.loops(_kind, np.dtype(_kind).itemsize, _call, as_pointer, njit(**FLAGS))
    _loops |= rows.loops(_kind, np.int64, as_pointer, njit(**FLAGS))
    BUILTINS.update((f"{name}_{_kind.__name__}", loop) for name, loop in _loops.items())


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
