"""What a NumPy call on a Tensor becomes when it is more than one entry of the table.

Takes ufuncs with keyword arguments or by a method, functions without an entry, `out=` and writes in place; gives the
same as NumPy, recorded, or an error that says what to do. One plain entry goes to `tape.bind` directly.
"""

import functools
import inspect
import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sadl.errors import GradientError, UnrecordedError, explain
from sadl.op import ALIASES, CONSTANT, FUNCTIONS, METHODS, OPS, UFUNCS, WRITES, Op, axes
from sadl.ops import load_rest, ufunc_methods
from sadl.tape import (
    ALIAS,
    MODE,
    Node,
    Traced,
    arrayed,
    bind,
    check_current,
    is_grad_enabled,
    new_leaf_epoch,
    new_version,
    owner,
    plain,
    touch,
    version,
    versions,
)
from sadl.tree import flatten, unflatten
from sadl.watch import READ, tell

# ---- arguments that hold Tensors -----------------------------------------------------------------------------------


def plain_all(value: Any) -> Any:
    """`value` with plain arrays in place of Tensors, at any depth of lists, tuples and dicts."""
    if isinstance(value, Traced):
        return value._plain()
    if isinstance(value, (tuple, list)):
        return [plain_all(v) for v in value] if isinstance(value, list) else tuple(map(plain_all, value))
    return {k: plain_all(v) for k, v in value.items()} if isinstance(value, dict) else value


def plain_unless_tracked(args: Any, kwargs: dict[str, Any], grad: bool) -> tuple[list[Any], dict[str, Any]] | None:
    """`plain_all` of the arguments of a call; None if `grad` and a Tensor among them requires a gradient."""
    if versions:
        check_current("in-place", *leaves_of((args, kwargs)))
    plains = []
    for v in args:
        if isinstance(v, Traced):
            if v._node is not None and grad:
                return None
            raw = v._raw
            plains.append(v._plain() if raw is None else raw)
        elif v.__class__ in _NESTED:
            if grad and _is_tracked(v):
                return None
            plains.append(plain_all(v))
        else:
            plains.append(v)
    for v in kwargs.values():
        if v.__class__ in _NESTED or isinstance(v, Traced):
            return None if grad and _is_tracked(kwargs.values()) else (plains, plain_all(kwargs))
    return plains, kwargs


_NESTED = {list, tuple, dict}
_ndarray = np.ndarray


def adopt(tensor: Any, src: Sequence[Any], creator_op: str | None, op_ctx: dict[str, Any]) -> None:
    """Give `tensor` a place in the graph as the result of the op named `creator_op` on `src`."""
    op = OPS.get(ALIASES.get(creator_op or "", creator_op or ""))
    if op is None or not op.differentiable:
        raise GradientError(f'Gradient propagation not supported for op "{creator_op}"')
    if op.kind == "reduction":
        axis, keepdims = op_ctx.get("axis"), bool(op_ctx.get("keepdims", False))
        op_ctx = {"axis": axes(axis, np.ndim(src[0])), "keepdims": keepdims}
    parents = [x._node if isinstance(x, Traced) else None for x in src]
    if is_grad_enabled() and any(parents):
        tensor._node = Node(op, [plain(x) for x in src], parents, op_ctx, tensor._raw)


def leaves_of(value: Any) -> list[Any]:
    """The Tensors in `value`, at any depth."""
    return [x for x in flatten(value)[0] if isinstance(x, Traced)]


def is_heard(*values: Any) -> bool:
    """Whether anything wants to know of an operation on the Tensors in `values`: a gradient, or a capture."""
    mode = MODE.get()
    return mode.recorder is not None or (mode.grad and _is_tracked(values))


def _is_tracked(values: Any) -> bool:
    for v in values:
        if isinstance(v, Traced):
            if v._node is not None:
                return True
        elif (isinstance(v, (tuple, list)) and _is_tracked(v)) or (isinstance(v, dict) and _is_tracked(v.values())):
            return True
    return False


def read(tensor: Any, how: str, instead: str = "") -> None:
    recorder = MODE.get().recorder
    if recorder is not None:
        recorder.read(how, instead)
    tell(READ, how, tensor)


def rewrap(like: Any, result: Any) -> Any:
    """NumPy's result with its arrays as Tensors; what is not an array stays, and so do matrices and masked arrays."""
    if result is like._raw:
        return like
    if result.__class__ is _ndarray:
        return like._wrap(result)
    if isinstance(result, np.generic):
        return like._wrap(np.asarray(result)) if result.dtype.kind in "fciub" else result
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return type(result)(*(rewrap(like, r) for r in result))
    if isinstance(result, (tuple, list)):
        return type(result)(rewrap(like, r) for r in result)
    return result


def as_plain(array: Any) -> np.ndarray:
    """A result of NumPy's as an ndarray. Raises if it is of a class that means more than its elements."""
    if isinstance(array, np.ndarray) and not isinstance(array, (Traced, np.memmap, np.recarray)):
        name = f"{type(array).__module__.partition('.')[0]}.{type(array).__name__}"
        what = f"an operand is a {name}, and a Tensor of the result would not have what it adds to an array"
        raise UnrecordedError(explain("Tensor", what, _INSTEAD.get(type(array).__name__, "np.asarray(x)")))
    return np.asarray(array)


_INSTEAD = {
    "MaskedArray": "np.where(np.ma.getmaskarray(x), 0, t * x.data), or np.asarray(x) without its mask",
    "matrix": "np.asarray(x), and @ for products of matrices",
}


# ---- calls that are not a plain table entry ------------------------------------------------------------------------


def run_plain(like: Any, func: Callable[..., Any], args: Any, kwargs: Any, written: Any = ()) -> Any:
    """Run a function where nothing listens: its results as Tensors like `like`, or `out` itself where that is given."""
    out = without_out(func, args, kwargs)[0]
    overwrites = (
        func in WRITES or kwargs.get("overwrite_input") or (func is np.nan_to_num and not kwargs.get("copy", True))
    )
    changed = leaves_of([written, out, _target(func, args, kwargs) if overwrites else None])
    whole = out is not None and "where" not in kwargs
    if not whole:
        check_current(getattr(func, "__name__", "in-place"), *changed)
    result = func(*plain_all(args), **plain_all(kwargs))
    for tensor in changed:
        note_change(tensor, whole)
    if isinstance(out, tuple):
        return tuple(o if r is plain(o) else rewrap(like, r) for r, o in zip(result, out, strict=True))
    return out if out is not None and result is plain(out) else rewrap(like, result)


def _target(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The argument that a function of `WRITES` changes: its first."""
    return args[0] if args else kwargs.get(next(iter(inspect.signature(func).parameters)))


def without_out(func: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, Any, Any]:
    """What a call is to write its result to, if anything, and its other arguments."""
    place = place_written(func)
    if -1 < place < len(args):
        return args[place], (*args[:place], None, *args[place + 1 :]), kwargs
    out = kwargs.get("out")
    if "out" in kwargs:
        kwargs = {k: v for k, v in kwargs.items() if k != "out"}
    return out[0] if isinstance(out, tuple) and len(out) == 1 else out, args, kwargs


@functools.cache
def place_written(func: Callable[..., Any]) -> int:
    """The position of `out` among the arguments of a function; one beyond them all if it is given by keyword only."""
    twin = getattr(np, func.__name__, func)
    if isinstance(twin, np.ufunc):
        return twin.nin
    if func in WRITES:
        return -1  # the function itself is to be looked at
    try:
        parameters = list(inspect.signature(func).parameters.values())
    except ValueError:  # a method, before NumPy told what it takes
        return place_written(twin) if twin is not func else sys.maxsize
    places = [i for i, p in enumerate(parameters) if p.name == "out" and p.kind is p.POSITIONAL_OR_KEYWORD]
    return places[0] if places else sys.maxsize


class _Entries(dict[Callable[..., Any], tuple[Callable[..., Any] | None, set[str], int]]):
    """For a NumPy function: sadl's own if there is one, what that accepts by name, and the position of `out`."""

    def __missing__(self, func: Callable[..., Any]) -> tuple[Callable[..., Any] | None, set[str], int]:
        if func not in FUNCTIONS:
            load_rest()
        body = FUNCTIONS.get(func)
        self[func] = found = body, accepted(body) if body else set(), place_written(func)
        return found


ENTRIES = _Entries()


def write_call(func: Any, args: Any, kwargs: Any) -> None:
    """A function or method that changes its first argument, where something listens."""
    body = WRITES[func]
    given = inspect.signature(body).bind(*args, **kwargs)
    _store(given.args[0], body(*given.args, **given.kwargs))


def function_call(like: Any, func: Callable[..., Any], body: Any, args: Any, kwargs: Any) -> Any:
    """A NumPy function that something listens to: sadl's own of that signature, if it has one, or NumPy's."""
    if func in WRITES:
        return write_call(func, args, kwargs)
    out, args, rest = without_out(func, args, kwargs)
    if isinstance(out, Traced):
        args, rest = kept(func, args, out), dict(zip(rest, kept(func, rest.values(), out), strict=True))
    if body is not None and accepted(body).issuperset(rest):
        result = body(*args, **rest)
    elif "out" in kwargs and out is not None:
        result = library_call(like, _into_copy(func), (*args, out), rest)
    else:
        result = library_call(like, func, args, rest)
    return result if out is None else _store(out, result)


def spelled(func: Any) -> str:
    """How a user writes the function, without `np.`: `linalg.inv`, `add.accumulate`."""
    name = getattr(func, "__name__", str(func))
    if isinstance(getattr(func, "__self__", None), np.ufunc):
        return f"{func.__self__.__name__}.{name}"
    package = (getattr(func, "__module__", None) or "").removeprefix("numpy").strip(".")
    return f"{package}.{name}" if package and not package.startswith("_") else name


_FOLDS = ("reduce", "accumulate", "reduceat", "at")


def is_constant(func: Any) -> bool:
    """Whether the result is known to be constant almost everywhere."""
    ufunc = getattr(getattr(func, "__wrapped__", func), "__self__", func)
    if ufunc is not func and func.__name__ in _FOLDS and "dd->?" not in ufunc.types:
        return func in CONSTANT  # the first element may be the result as it is
    return func in CONSTANT or (ufunc in UFUNCS and not UFUNCS[ufunc].differentiable)


def library_call(like: Any, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Run a function that has no entry in the table. Raises if a gradient would be lost."""
    leaves, structure = flatten((args, kwargs))
    heard = MODE.get().recorder is not None
    tensors = [x for x in leaves if isinstance(x, Traced) or (heard and isinstance(x, np.ndarray))]
    name = spelled(func)
    if is_grad_enabled() and not is_constant(func) and _is_tracked(tensors):
        what = f"np.{name} has no gradient rule, so its result could not be differentiated"
        raise UnrecordedError(
            explain(name, what, "call it under sadl.no_grad(), or add it (CONTRIBUTING.md, 'Adding an op')")
        )

    def run(*raws: Any, constants: str = "") -> Any:
        values = iter(raws)
        filled = unflatten(structure, [next(values) if any(x is t for t in tensors) else x for x in leaves])
        return func(*filled[0], **filled[1])

    result = rewrap(like, run(*map(plain, tensors)))
    recorder = MODE.get().recorder
    if recorder is not None:
        outs = (result,) if isinstance(result, Traced) else tuple(result) if isinstance(result, (tuple, list)) else ()
        if not outs or not all(isinstance(o, Traced) for o in outs):
            recorder.read(f"np.{name}, which returns Python values", "")
        constants = repr([structure, *("." if any(x is t for t in tensors) else x for x in leaves)])
        op = Op(name, run, "call", outs=len(outs), open_size=lambda *_, **__: True)
        recorder.record(op, tuple(tensors), {"constants": constants}, outs)
    return result


def general_ufunc(self: Any, ufunc: np.ufunc, method: str, inputs: Any, kwargs: dict[str, Any]) -> Any:
    """A ufunc with keyword arguments, or one of its methods."""
    run = ufunc if method == "__call__" else getattr(ufunc, method)
    if versions and method != "at":
        check_current(ufunc.__name__, *leaves_of(inputs))
    if not is_heard(inputs, kwargs):
        return run_plain(self, run, inputs, kwargs, written=inputs[:1] if method == "at" else ())
    if method == "at" and ufunc in UFUNCS:
        _store(inputs[0], ufunc_methods.at(ufunc, *inputs))
        return None
    out, _, kwargs = without_out(run, (), kwargs)
    inputs = tuple(map(arrayed, inputs)) if method in ("__call__", "outer") else inputs
    result = _ufunc_result(self, ufunc, method, run, inputs, out, kwargs)
    if out is not None and method != "__call__" and np.shape(out) != np.shape(result):
        what = f"out= has shape {np.shape(out)}, the result {np.shape(result)}"
        raise ValueError(explain(f"{ufunc.__name__}.{method}", what))
    return result if out is None else _store(out, result)


def _ufunc_result(self: Any, ufunc: np.ufunc, method: str, run: Any, inputs: Any, out: Any, kwargs: Any) -> Any:
    known = UFUNCS.get(ufunc)
    if method == "__call__" and known is not None and kwargs.keys() <= _UNDERSTOOD:
        return _table_call(ufunc, inputs, out, **kwargs)
    if method == "outer" and known is not None and not ufunc.signature:
        left, right = inputs
        return ufunc(np.reshape(left, (*np.shape(left), *(1,) * np.ndim(right))), right, **kwargs)
    if method == "__call__" or (known is not None and known.differentiable):
        body = ufunc_methods.find(ufunc, method)
        if body is not None and accepted(body).issuperset(kwargs):
            return body(*inputs, **kwargs)
    if out is None:
        return library_call(self, run, inputs, kwargs)
    return library_call(self, _into_copy(run), (*inputs, out), kwargs)


def _into_copy(run: Callable[..., Any]) -> Callable[..., Any]:
    """`run`, whose last argument is what `out` holds before: to be written into a copy of that, which is the result."""

    @functools.wraps(run, assigned=("__name__",), updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        *inputs, out = args
        copied = tuple(o if o is None else o.copy() for o in out) if isinstance(out, tuple) else out.copy()
        return run(*inputs, out=copied, **kwargs)

    return call


_UNDERSTOOD = {"where", "dtype", "order", "subok"}


def _table_call(ufunc: np.ufunc, inputs: Any, out: Any, where: Any = True, dtype: Any = None, **_: Any) -> Any:
    op = UFUNCS[ufunc]
    if dtype is not None:
        kinds = [getattr(x, "dtype", type(x)) for x in inputs]
        outs = [np.dtype(dtype)] * ufunc.nout
        loop = ufunc.resolve_dtypes((*kinds, *(None for _ in outs)), signature=(*(None for _ in kinds), *outs))
        cast = lambda x, t: x.astype(t) if isinstance(x, Traced) else np.asarray(x, t)
        inputs = tuple(map(cast, inputs, loop))
    if isinstance(out, tuple):
        shape = np.broadcast_shapes(*(o.shape for o in out if o is not None))
        inputs = (np.broadcast_to(inputs[0], np.broadcast_shapes(np.shape(inputs[0]), shape)), *inputs[1:])
    if where is True:
        return bind(op, *kept(ufunc, inputs, out))
    if out is None or ufunc.nout > 1:
        what = "where= without out= leaves the other elements undefined"
        raise ValueError(explain(ufunc.__name__, what, "np.where(mask, result, other)"))
    domain = (*op.domain, *((0.0, 1.0),) * len(inputs))
    safe = [_masked(x, where, sum(ends) / 2) for x, ends in zip(inputs, domain, strict=False)]
    return np.where(where, bind(op, *safe), out)


def _masked(x: Any, where: Any, filler: float) -> Any:
    """`x` with a harmless value where the result is not wanted, lest a NaN from there reach the gradient."""
    dtype = np.result_type(plain(x))
    return np.where(where, x, np.asarray(filler if dtype.kind in "fc" else 1, dtype))


def _store(out: Any, result: Any) -> Any:
    if isinstance(out, tuple):
        return tuple(r if o is None else _store(o, r) for o, r in zip(out, result, strict=True))
    if isinstance(out, Traced):
        return write(out, result)
    if isinstance(result, Traced) and result._node is not None:
        what = "out= is a plain array, which cannot carry the gradient of this result"
        raise UnrecordedError(explain("out", what, "pass a Tensor as out=, or leave it away"))
    recorder = MODE.get().recorder
    if recorder is not None and isinstance(result, Traced) and np.can_cast(result.dtype, out.dtype, "same_kind"):
        result = bind(OPS["assign"], out, result)
        recorder.rebind([(out, result)], out)
    np.copyto(out, plain(result), casting="same_kind")
    return out


@functools.cache
def accepted(body: Callable[..., Any]) -> set[str]:
    """The names of the arguments that a function takes."""
    code = inspect.unwrap(getattr(body, "func", body)).__code__
    return set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])


# ---- in place ------------------------------------------------------------------------------------------------------


def write(target: Any, value: Any, part: Any = None) -> Any:
    """`target[...] = value`: writes the memory; where it matters the Tensor takes the value's place in the graph.

    Only the elements of `part`, a plain view of the memory, are different, if it is given.
    """
    if not np.can_cast(np.result_type(plain(value)), target.dtype, "same_kind"):
        raise TypeError(f"[assign] cannot write {np.result_type(plain(value))} into {target.dtype} in place.")
    check_current("assign", value)
    if not is_heard(target, value):
        np.copyto(target._plain(), plain(value), casting="same_kind")
        note_change(target, whole=True)
        return target
    _check_writable(target)
    pairs = [(target, bind(OPS["assign"], target, value))]
    for base, op, params in above(target):  # what it is a view of holds something else, too
        assert op.unview is not None
        pairs.append((base, bind(OPS["assign"], base, op.unview(base, pairs[-1][1], **params))))
    recorder = MODE.get().recorder
    part = target._raw if part is None else part
    if recorder is not None:
        recorder.rebind(pairs, part)
    np.copyto(target._plain(), pairs[0][1]._raw)
    touch(part)
    count = new_version(target._raw) if recorder is None else 0
    for tensor, new in pairs:
        if MODE.get().grad:
            _replace_node(tensor, new)
        if recorder is None:
            tensor._version = count
    return target


def above(tensor: Any) -> list[tuple[Any, Op, dict[str, Any]]]:
    """The Tensors that `tensor` is a view of, with the operation that made it, as far as they are up to date."""
    found: list[tuple[Any, Op, dict[str, Any]]] = []
    root = owner(tensor._plain())
    while tensor._base is not None and tensor._version == version(tensor._plain()):
        ref, op, params = tensor._base
        base = ref()
        if base is None or owner(base._plain()) is not root or base._version != version(base._plain()):
            break
        found.append((base, op, params))
        tensor = base
    return found


def note_change(tensor: Any, whole: bool = False) -> None:
    """Note that the memory of `tensor` was written through it, all of it if `whole`, where nothing was recorded."""
    raw, node = tensor._plain(), tensor._node
    current = [tensor, *(base for base, _, _ in above(tensor))] if versions else []
    touch(raw)
    if node is not None and node.op is not None:
        new_version(raw)  # its own node does not know of it
    elif versions:
        before = version(raw)
        if before:
            new_version(raw)
        for t in current:
            if (whole and t is tensor) or t._version == before:
                t._version = version(raw)


def is_own_view(tensor: Any, item: Any, value: Any) -> bool:
    """Whether `value` is `tensor[item]`: `t[i] += v` changes that, and `t` with it, and then assigns it to `t[i]`."""
    if not isinstance(value, Traced) or value._base is None or value._base[0]() is not tensor:
        return False
    if tensor._version != version(tensor._plain()) or value._version != tensor._version:
        return False
    place = tensor._plain()[plain_all(item)]
    at = lambda x: (x.ctypes.data, x.shape, x.strides, x.dtype)
    return isinstance(place, np.ndarray) and at(place) == at(value._plain())  # a NumPy scalar is a copy


def kept(func: Callable[..., Any], inputs: Any, target: Any) -> tuple[Any, ...]:
    """The inputs of an operation that will overwrite `target`, in copies where they are on the same memory.

    The gradient rules may want to see them as they were; those of `add` and `subtract` do not.
    """
    if func in (np.add, np.subtract) or not isinstance(target, Traced):
        return tuple(inputs)
    root = owner(target._plain())
    copies = {id(x): np.copy(x) for x in inputs if isinstance(x, Traced) and owner(x._plain()) is root}
    return tuple(copies.get(id(x), x) for x in inputs)


def _replace_node(target: Any, new: Any) -> None:
    """Give `target` the history of `new`, by a node made after the write, so that the sweep can tell that it knows."""
    before = target._node
    if new._node is not None:
        new._node.parents[0] = None  # what was there before does not matter any more
        new._node = new._node if new._node.parents[1] is not None else None
    if (before is None) is not (new._node is None):
        new_leaf_epoch()
    target._node = None if new._node is None else Node(ALIAS, [new._raw], [new._node], {}, target._raw)
    if target.keep_grad:  # `.grad` is by the value that the Tensor has in the end
        for node, ref in ((before, None), (target._node, weakref.ref(target))):
            if node is not None:
                node.tensor = ref


def _check_writable(target: Any) -> None:
    """A leaf that requires a gradient may not change while gradients are recorded, nor may a view of one."""
    node = target._node if is_grad_enabled() else None
    while node is not None and node.op is not None and node.op.kind == "view":
        node = node.parents[0] if node.parents else None
    if node is not None and node.op is None and owner(node.out) is owner(target._plain()):
        what = "a leaf that requires a gradient was changed in place while gradients are recorded"
        raise GradientError(explain("in-place", what, "do it under sadl.no_grad(), or compute a new Tensor"))


# ---- ndarray's methods and attributes ------------------------------------------------------------------------------


def method(name: str) -> Callable[..., Any]:
    """An ndarray method: NumPy's own where nothing listens, else what np.<name> is on Tensors."""
    native, fn = getattr(np.ndarray, name), getattr(np, name)
    body = METHODS.get(name) or FUNCTIONS.get(fn)
    known, place = accepted(body) if body else set(), place_written(fn)

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        mode = MODE.get()
        if versions:
            check_current(name, self)
        if "out" in kwargs or len(args) >= place:
            pass
        elif mode.recorder is not None or (mode.grad and self._node is not None):
            if body is not None and known.issuperset(kwargs):
                return body(self, *args, **kwargs)
        else:
            unheard = plain_unless_tracked(args, kwargs, mode.grad)
            if unheard is not None:
                return rewrap(self, native(self._plain(), *unheard[0], **unheard[1]))
        if not is_heard(self, args, kwargs):
            return run_plain(self, native, (self, *args), kwargs)
        return function_call(self, fn if body is None else native, body, (self, *args), kwargs)

    return run


def in_place(op: Op) -> Callable[[Any, Any], Any]:
    """An operator like `+=`."""

    def method(self: Any, other: Any) -> Any:
        if is_heard(self, other):
            return write(self, bind(op, *kept(op.fn, (self, other), self)))
        if versions:
            check_current(op.name, self, other)
        op.fn(self._plain(), plain(other), out=self._raw)
        note_change(self)
        return self

    return method


def on_memory(name: str, *, changes: bool = False, exposes: bool = False) -> Callable[..., Any]:
    """An ndarray method on raw memory, which it reads, changes or exposes: the last two where no gradient is lost."""
    native = getattr(np.ndarray, name)

    def on_memory(self: Any, *args: Any, **kwargs: Any) -> Any:
        if name not in WRITES:
            read(self, f"t.{name}()")
        if changes or exposes:
            check_current(name, self)
        if changes and name in WRITES and is_heard(self, args, kwargs):
            return write_call(name, (self, *args), kwargs)
        if name == "view" and not (args or kwargs):
            return self[...]
        if (changes or exposes) and is_heard(self):
            what = f"t.{name}() works on the memory itself and is not recorded"
            advice = f", or use np.{name}" if hasattr(np, name) else ""
            raise UnrecordedError(explain(name, what, f"call it under sadl.no_grad(){advice}"))
        result = native(self._plain(), *plain_all(args), **kwargs)
        if changes and (result is None or result is self._raw):
            note_change(self)
            return result if result is None else self
        return result if any(a is np.ndarray for a in args) else rewrap(self, result)

    return on_memory


def attribute(name: str) -> property:
    """An attribute of the memory's layout, which may be assigned to where no gradient is lost."""
    native = getattr(np.ndarray, name)

    def assign(self: Any, value: Any) -> None:
        if name == "shape" and is_heard(self) and not (self._node is not None and self._node.op is None):
            new: Any = np.reshape(self, tuple(np.ravel(value).tolist()))
            native.__set__(self, new.shape)
            self._raw, self._node = new._raw, new._node
            return
        if is_heard(self):
            what = f"assigning to t.{name} is not recorded"
            raise UnrecordedError(explain(name, what, "t.reshape(...), t.astype(...), or assign under sadl.no_grad()"))
        native.__set__(self, value)
        self._raw = None

    return property(native.__get__, assign)


def part(name: str) -> property:
    """The real or the imaginary part, which may be assigned to."""
    fn = getattr(np, name)

    def assign(self: Any, value: Any) -> None:
        fn(self)[...] = value

    return property(fn, assign)
