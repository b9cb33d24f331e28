"""program: a plan ready to run, as a table of launches over arguments that are packed once.

Takes a Plan; gives a callable from input arrays to output arrays. Only what changes from call to call is done in
Python: the addresses of inputs and outputs are filled in, runs of native steps are one call each, and library routines
are called in between. With SADL_JIT=0 the same kernels run as plain Python.
"""

import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from sadl.compiler import convolution, products, rows
from sadl.compiler.cache import Kernel, folder, get_kernel
from sadl.compiler.ir import Atom, Eqn, Literal, Var, results_of
from sadl.compiler.lower import Nest, Operand, lower, scratch_size
from sadl.compiler.memory import ALIGN, Buffer, Layout, Plan
from sadl.compiler.products import Launches
from sadl.compiler.render import render
from sadl.config import config
from sadl.errors import SizeChangedError, explain
from sadl.kernels import blas, store
from sadl.kernels.team import KERNEL, UNUSED, get_team

MSG_SIZE = (
    "its result has shape {}, but had {} when it was captured: in a compiled program shapes do not depend on values"
)

TILE_ELEMENTS = 1 << 17  # a tile of a kernel reads and writes at least so many elements: some microseconds
COLUMN_TILES, LEAST_COLUMNS = 8, 64  # a nest that adds up columns is cut less: into so many, at least so wide
LAUNCHES: dict[str, Callable[..., Launches | None]] = {  # operations that run as builtin loops
    "matmul": products.launches,
    **dict.fromkeys(convolution.LOOPS, convolution.launches),
    **dict.fromkeys(("gather_rows", "scatter_rows"), rows.launches),
}
_none: Callable[..., None] = lambda *_: None


class Program:
    """Runs a plan. One call at a time: the arena belongs to the program."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.kernels: list[Kernel] = []
        self.native = config.jit
        self.library_calls: list[Eqn] = []
        self.lock = threading.Lock()
        self._keep: list[Any] = []  # memory that packed addresses point to
        self._arena = _aligned(plan.arena_bytes)
        self._consts = [np.array(a, order="C") for a in plan.graph.consts.values()]
        self._blocks: list[list[int]] = []
        self._rows: list[tuple[int, int, int, int]] = []  # function, block, upper bound, size of a tile
        self._patches: dict[Buffer, list[tuple[int, int, int]]] = {}  # buffer -> (block, slot, byte offset)
        self._segments: list[Any] = []
        self._labels: list[tuple[str, int, str]] = []  # per step: its name, the bytes of its operands, the user's line
        self._scratch = 0
        for eqn in plan.eqns:
            self._add(eqn)
        self._finish()
        self._given: list[Any] = [None] * len(plan.graph.inputs)
        self._arrays: list[Any] = [None] * len(plan.graph.inputs)
        self._staged: set[int] = set()  # inputs that are copied because kernels need them contiguous
        self._returned = [i for i, v in enumerate(plan.graph.outputs) if i not in plan.graph.donated]
        self._outputs: dict[int, np.ndarray] = {}
        self._pools: dict[int, list[tuple[np.ndarray, int]]] = {i: [] for i in self._returned}
        self._output_at: dict[int, int] = {}

    # ---- building ------------------------------------------------------------------------------------------------

    def _add(self, eqn: Eqn) -> None:
        size = sum(v.aval.size * v.aval.dtype.itemsize for v in (*eqn.inputs, *eqn.outs) if isinstance(v, Var))
        self._labels.append((eqn.op.name, size, eqn.where))
        if "cluster" in eqn.params:
            self._add_kernel(eqn)
        elif self.native and (found := LAUNCHES.get(eqn.op.name, _none)(eqn, self.plan.layouts, self._address)):
            self._labels += [self._labels[-1]] * (len(found.rows) - 1)
            self._scratch = max(self._scratch, found.scratch)
            for name, block, upper, tile in found.rows:
                self._launch(store.builtin(name, folder()), block, upper, tile)
        else:
            self.library_calls.append(eqn)
            self._segments.append(self._library_call(eqn))

    def _add_kernel(self, eqn: Eqn) -> None:
        nest = lower(eqn, self.plan.layouts, self._replaced(eqn))
        source = render(nest)
        kernel = get_kernel(source)
        self.kernels.append(kernel)
        self._labels[-1] = (kernel.name, *self._labels[-1][1:])
        upper = nest.sizes[0] if nest.kept else 1
        size = sum(
            np.prod([n for n, s in zip(nest.sizes, o.strides, strict=True) if s]) for o in nest.operands.values()
        )
        tile = _tile(nest, upper, int(size) // TILE_ELEMENTS)
        scratch = self._scratch_places(nest, upper, tile)
        if self.native:
            types = [t for _, t in source.parameters]
            values = zip(source.bound, types, strict=True)
            block = [self._slot(k, what, nest, scratch, tile, t) for (k, what), t in values]
            self._launch(kernel.address, block, upper, tile)
        else:
            self._segments.append(self._python_launch(kernel, source.bound, nest, scratch, upper))

    def _replaced(self, eqn: Eqn) -> dict[Var, Var]:
        """Which results of the equation are written over which inputs."""
        held = {self.plan.buffers[v]: v for v in self.plan.graph.inputs}
        return {v: held[b] for v in eqn.outs if (b := self.plan.buffers.get(v)) in held}

    def _launch(self, function: int, block: list[Any], upper: int, tile: int) -> None:
        if not self._segments or not isinstance(self._segments[-1], tuple):
            self._segments.append((len(self._rows), len(self._rows)))
        index = len(self._blocks)
        for slot, value in enumerate(block):
            if isinstance(value, tuple):  # an address that is filled in on each call
                buffer, offset = value
                self._patches.setdefault(buffer, []).append((index, slot, offset))
        self._blocks.append([0 if isinstance(v, tuple) else v for v in block])
        self._rows.append((function, index, upper, tile))
        self._segments[-1] = (self._segments[-1][0], len(self._rows))

    def _slot(self, kind: str, what: Any, nest: Nest, scratch: dict[Var, int], tile: int, type_: str) -> Any:
        if kind == "size":
            return nest.sizes[what]
        if kind == "number":
            return _bits(what.value) if type_.startswith("float") else int(np.dtype(type_).type(what.value))
        if kind == "spread":
            return _spread(nest, nest.operands[what], tile)
        if kind == "stride":
            return nest.operands[what[0]].strides[what[1]]
        return ("scratch", scratch[what]) if what in scratch else self._address(what)

    def _scratch_places(self, nest: Nest, upper: int, tile: int) -> dict[Var, int]:
        """Byte offsets in the memory that all kernels use in turn; each tile of a row kernel has a row of its own."""
        places, end = {}, 0
        for v, operand in nest.operands.items():
            if operand.scratch:
                places[v] = end
                size = scratch_size(nest, operand) + (upper if tile < upper else 0) * _spread(nest, operand, tile)
                end += -(-size * v.aval.dtype.itemsize // ALIGN) * ALIGN
        self._scratch = max(self._scratch, end)
        return places

    def _address(self, v: Var) -> Any:
        """The address of a value, or (buffer, byte offset) where it changes from call to call."""
        layout = self.plan.layouts[v]
        buffer = self.plan.buffers[layout.root]
        offset = layout.offset * v.aval.dtype.itemsize
        if buffer.kind == "arena":
            return _pointer(self._arena) + buffer.index + offset
        if buffer.kind == "const":
            return _pointer(self._consts[buffer.index]) + offset
        return buffer, offset

    def _finish(self) -> None:
        """Put all blocks into one array and all launches into one table."""
        memory = _aligned(self._scratch)
        starts = np.cumsum([0, *map(len, self._blocks)]).tolist()
        self._args = np.array([v for block in self._blocks for v in block], np.int64)
        base = _pointer(self._args)
        for index, slot, offset in self._scratch_patches():
            self._args[starts[index] + slot] = _pointer(memory) + offset
        table = [(f, base + 8 * starts[block], upper, tile) for f, block, upper, tile in self._rows]
        self._table = np.array(table, np.int64).reshape(-1, 4)
        self._keep.append(memory)
        self._slots = {b: [(starts[i] + s, o) for i, s, o in places] for b, places in self._patches.items()}
        self._alone = np.array([_pointer(self._table), 0], np.int64)
        self._together = self._alone.copy()
        self._run = KERNEL(store.builtin("run_table", folder())) if self._rows else None
        self._multiplies = any(name == "matmul" or name in convolution.LOOPS for name, _, _ in self._labels)
        self._cuts = any(tile < upper for _, _, upper, tile in self._rows)

    def _scratch_patches(self) -> list[tuple[int, int, int]]:
        found = [b for b in self._patches if isinstance(b, str)]
        return [place for b in found for place in self._patches.pop(b)]

    # ---- running -------------------------------------------------------------------------------------------------

    def __call__(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """The outputs that are not donated, as new arrays; donated ones are written into their inputs' memory."""
        with self.lock:
            for i, x in enumerate(inputs):
                self.set_input(i, x)
            return self.run()

    def set_input(self, i: int, x: np.ndarray) -> bool:
        """Use `x` as input `i` from now on; whether it is another than before. Hold the lock."""
        if x is self._given[i]:
            return False
        self._given[i] = x
        if x.flags.c_contiguous and x.flags.aligned:
            self._staged.discard(i)
        else:
            self._staged.add(i)
            x = np.empty(x.shape, x.dtype)
        self._arrays[i] = x
        self._patch(Buffer("input", i), _pointer(x))
        return True

    @property
    def inputs(self) -> list[np.ndarray]:
        """The inputs as they were set."""
        return self._given

    def run(self) -> list[np.ndarray]:
        """Run on the inputs that were set. Hold the lock."""
        for i in self._staged:
            np.copyto(self._arrays[i], self._given[i])
        for i in self._returned:
            self._new_output(i)
        with blas.one_thread() if self._multiplies else nullcontext():
            self._run_with_team()
        for into in self.plan.graph.donated.values() if self._staged else ():
            if into in self._staged:
                np.copyto(self._given[into], self._arrays[into])
        results = [self._outputs[i] for i in self._returned]
        self._outputs.clear()
        return results

    def _run_with_team(self) -> None:
        team = get_team(config.threads, lambda: store.builtin("work", folder())) if self._cuts else None
        if team is None:
            self._run_segments(_pointer(self._alone))
        else:
            with team.held() as state:
                self._together[1] = state
                self._run_segments(_pointer(self._together))

    def _run_segments(self, block: int) -> None:
        if config.debug >= 2:
            self._run_timed(block)
            return
        for segment in self._segments:
            if isinstance(segment, tuple):
                self._run(UNUSED, UNUSED, block, *segment)  # type: ignore[misc]
            else:
                segment()

    def _run_timed(self, block: int) -> None:
        """The same, step by step, with the time of each on stderr and the bytes it moves at least per nanosecond."""
        labels = iter(self._labels)
        for segment in self._segments:
            for row in range(*segment) if isinstance(segment, tuple) else [None]:
                start = time.perf_counter_ns()
                segment() if row is None else self._run(UNUSED, UNUSED, block, row, row + 1)  # type: ignore[misc]
                took = time.perf_counter_ns() - start
                name, size, where = next(labels)
                print(f"{took / 1e3:9.1f} us {size / took:7.1f} GB/s  {name:22s} {where}", file=sys.stderr)

    def _patch(self, buffer: Buffer, at: int) -> None:
        for slot, offset in self._slots.get(buffer, ()):
            self._args[slot] = at + offset

    def _new_output(self, i: int) -> None:
        """Take an array for output `i`: one that was given out before and that nobody holds any more, or a new one."""
        for entry in self._pools[i]:
            if sys.getrefcount(entry[0]) == 2:  # the pool and this call; a variable would count or not, by version
                array, at = entry
                break
        else:
            array, at = self._allocate(i)
        self._outputs[i] = array
        if self._output_at.get(i) != at:
            self._output_at[i] = at
            self._patch(Buffer("output", i), at)

    def _allocate(self, i: int) -> tuple[np.ndarray, int]:
        atom = self.plan.graph.outputs[i]
        if isinstance(atom, Literal):
            return np.array(atom.value), 0
        array = np.empty(atom.aval.shape, atom.aval.dtype)  # of the size of its buffer, whose shape may be another
        entry = array, _pointer(array)
        if len(self._pools[i]) < 4:
            self._pools[i].append(entry)
        return entry

    # ---- steps that run in Python --------------------------------------------------------------------------------

    def _array(self, v: Var) -> np.ndarray:
        """The value as an array, wherever it lies."""
        layout = self.plan.layouts[v]
        base = self._base(self.plan.buffers[layout.root], layout.root)
        if layout.root is v:
            return base
        item = v.aval.dtype.itemsize
        strides = tuple(s * item for s in layout.strides)
        return np.ndarray(v.aval.shape, v.aval.dtype, base, layout.offset * item, strides)

    def _base(self, buffer: Buffer, root: Var) -> np.ndarray:
        if buffer.kind == "input":
            return self._arrays[buffer.index]
        if buffer.kind == "output":
            return self._outputs[buffer.index].reshape(root.aval.shape)
        if buffer.kind == "const":
            return self._consts[buffer.index]
        return np.ndarray(root.aval.shape, root.aval.dtype, self._arena, buffer.index)

    def _library_call(self, eqn: Eqn) -> Callable[[], None]:
        read = [self._reader(x) for x in eqn.inputs]

        def run() -> Any:
            try:
                return eqn.op.run(*[r() for r in read], **eqn.params)
            except (ValueError, IndexError, np.linalg.LinAlgError) as error:
                op, what, instead = getattr(error, "parts", (eqn.op.name, str(error), ""))
                raise type(error)(explain(op, what, instead, eqn.where, eqn.layer or None)) from None

        def step() -> None:
            results = results_of(run())
            for v, result in zip(eqn.outs, results, strict=True):
                if np.shape(result) != v.aval.shape:
                    what = MSG_SIZE.format(np.shape(result), v.aval.shape)
                    raise SizeChangedError(explain(eqn.op.name, what, "call it outside", eqn.where, eqn.layer or None))
                np.copyto(self._array(v), result)

        return run if eqn.op.checks else step

    def _reader(self, x: Atom) -> Callable[[], Any]:
        """What gives the value of an operand on each call; places that never move are looked up once."""
        if isinstance(x, Literal):
            return lambda: x.value
        if self.plan.buffers[self.plan.layouts[x].root].kind in ("arena", "const"):
            array = self._array(x)
            return lambda: array
        return lambda: self._array(x)

    def _python_launch(
        self, kernel: Kernel, bound: Any, nest: Nest, scratch: dict[Var, int], upper: int
    ) -> Callable[[], None]:
        function = kernel.python()
        memory = {v: np.empty(scratch_size(nest, nest.operands[v]), v.aval.dtype) for v in scratch}

        def argument(kind: str, what: Any, type_: str) -> Any:
            if kind == "array":
                return Pointer(memory[what], 0) if what in memory else self._python_pointer(what)
            if kind == "number":
                return np.dtype(type_).type(what.value)
            return self._slot(kind, what, nest, scratch, upper, type_)

        def step() -> None:
            types = [t for _, t in kernel.parameters]
            with np.errstate(all="ignore"):
                function(0, upper, *(argument(k, w, t) for (k, w), t in zip(bound, types, strict=True)))

        return step

    def _python_pointer(self, v: Var) -> "Pointer":
        layout: Layout = self.plan.layouts[v]
        base = self._base(self.plan.buffers[layout.root], layout.root)
        flat = base.reshape(-1)
        return Pointer(flat.view(np.uint8) if flat.dtype == bool else flat, layout.offset)


class Pointer:
    """What a C pointer is to a kernel, over a flat array, with its bounds checked."""

    def __init__(self, array: np.ndarray, offset: int) -> None:
        self.array, self.offset = array, offset

    def __getitem__(self, i: int) -> Any:
        return self.array[self._place(i)]

    def __setitem__(self, i: int, value: Any) -> None:
        self.array[self._place(i)] = value

    def _place(self, i: int) -> int:
        place = self.offset + int(i)
        if not 0 <= place < len(self.array):
            raise IndexError(f"kernel reads or writes element {place} of {len(self.array)}")
        return place


def _aligned(size: int) -> np.ndarray:
    memory = np.empty(size + ALIGN, np.uint8)
    skip = -_pointer(memory) % ALIGN
    return memory[skip : skip + size]


def _pointer(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _bits(value: float) -> int:
    """A floating number as the eight bytes of a slot."""
    return struct.unpack("<q", struct.pack("<d", float(value)))[0]


def _tile(nest: Nest, upper: int, tiles: int) -> int:
    """How much of its range a tile of a kernel has. Each row of a tile of columns costs a start of the inner loop."""
    if nest.space.is_column:
        return max(products.tile_of(upper, min(tiles, max(COLUMN_TILES, upper // 512)), 16), min(upper, LEAST_COLUMNS))
    return products.tile_of(upper, tiles, 16)


def _spread(nest: Nest, operand: Operand, tile: int) -> int:
    """The distance that puts the scratch rows of two tiles apart, per element of the range."""
    return -(-scratch_size(nest, operand) // tile)
