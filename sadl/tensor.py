"""The Tensor: a NumPy array whose operations are recorded. Its protocol, its CPU class, Parameter, and how to make one.

Takes whatever NumPy takes; every NumPy function, method, operator and index on a Tensor arrives at `tape.bind`, or is
declared not differentiable, or raises. Walking the record backward is left to `autograd`, a GPU's arrays to `cuda`.
"""

import copy
import operator
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from sadl import ops
from sadl.backend import Device, check_device
from sadl.calls import (
    ENTRIES,
    adopt,
    as_plain,
    attribute,
    function_call,
    general_ufunc,
    in_place,
    is_heard,
    is_own_view,
    leaves_of,
    method,
    note_change,
    on_memory,
    part,
    plain_all,
    plain_unless_tracked,
    read,
    rewrap,
    run_plain,
    write,
)
from sadl.errors import GradientError, ShapeError, UnrecordedError, explain
from sadl.op import HOST, METADATA, METHODS, OPS, UFUNCS, Op
from sadl.ops.indexing import getitem as GETITEM
from sadl.ops.indexing import is_basic, take_item
from sadl.ops.movement import reshape_, transpose_
from sadl.tape import (
    MODE,
    Node,
    Traced,
    arrayed,
    bind,
    check_current,
    is_grad_enabled,
    new_leaf_epoch,
    plain,
    require_float,
    touch,
    version,
    versions,
)
from sadl.watch import CONVERTED, tell

_view: Any = np.ndarray.view
_ndarray = np.ndarray
_OVERWRITING = {"out", "overwrite_input", "copy"}  # arguments by which a function may be told to write


class Tensor(Traced):
    """A NumPy array that records what is done to it, so that it can be differentiated and compiled.

    `Tensor(data)` shares memory with an ndarray. `isinstance(t, sadl.Tensor)` holds on every device;
    on the CPU `isinstance(t, numpy.ndarray)` holds too.

    Args:
        data: an array, a number or nested sequences; `None` is an empty float32 array.
        src, creator_op, op_ctx: the inputs, the name and the keyword arguments of an operation that made `data`,
            to give a hand-computed result its place in the graph.
        requires_grad: whether gradients by this Tensor are wanted; False while gradients are switched off.
        keep_grad: whether `.grad` is kept on a Tensor that is not a leaf.
        dtype: convert to this dtype first.
    Raises:
        ValueError: `requires_grad` for a dtype that is not floating, or `creator_op` without a gradient rule.
    """

    __slots__ = ()
    __array_priority__ = 100.0
    _grad: Any = None

    def __new__(
        cls,
        data: Any = None,
        *,
        src: Sequence[Any] | None = None,
        creator_op: str | None = None,
        op_ctx: dict[str, Any] | None = None,
        requires_grad: bool = False,
        keep_grad: bool = False,
        dtype: Any = None,
    ) -> Any:
        self = _from_data(data, dtype, CpuTensor)
        if data.__class__ is not _ndarray and not src:
            tell(CONVERTED, "sadl.Tensor", data, self)
        if src:
            adopt(self, src, creator_op, op_ctx or {})
        elif requires_grad and is_grad_enabled():
            self.requires_grad = True
        self.keep_grad = keep_grad
        return self

    # ---- NumPy's two protocols ----------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "__call__" and not kwargs:
            op = UFUNCS.get(ufunc)
            if op is not None:
                return bind(op, *inputs)
        return general_ufunc(self, ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        mode = MODE.get()
        body, known, place = ENTRIES[func]
        simple = len(args) <= place and not (kwargs and _OVERWRITING.intersection(kwargs))
        unheard = None if mode.recorder is not None else plain_unless_tracked(args, kwargs, mode.grad)
        if unheard is not None:
            if simple:
                result = func(*unheard[0], **unheard[1])
                return self._wrap(result) if result.__class__ is _ndarray else rewrap(self, result)
            return run_plain(self, func, args, kwargs)
        if simple and body is not None and known.issuperset(kwargs):
            return body(*args, **kwargs)
        if func in METADATA or func in HOST:
            if func in HOST:
                read(self, f"np.{func.__name__}")
            return rewrap(self, func(*plain_all(args), **plain_all(kwargs)))
        return function_call(self, func, body, args, kwargs)

    # ---- the graph ----------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to this Tensor: set on a leaf, inherited by whatever is computed from one."""
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if wanted and self._node is None:
            require_float(self.dtype, type(self).__name__.removeprefix("Cpu"))
            self._node = leaf_node(self)
            new_leaf_epoch()
        elif not wanted and not self.is_leaf():
            what = "requires_grad cannot be switched off on the result of an operation"
            raise GradientError(explain("requires_grad", what, "use t.detach()"))
        elif not wanted and self._node is not None:
            self._node = None
            new_leaf_epoch()

    @property
    def grad(self) -> Any:
        """The gradient: a plain array of the Tensor's shape and dtype, or None; a Tensor after `create_graph=True`."""
        recorder = MODE.get().recorder
        return self._grad if recorder is None else recorder.read_grad(self)

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None and np.shape(value) != self.shape:
            what = f"a gradient of shape {np.shape(value)} for a Tensor of shape {self.shape}"
            raise ShapeError(explain("grad", what))
        recorder = MODE.get().recorder
        if recorder is not None:
            recorder.write_grad(self)
        if value is not None and getattr(value, "dtype", None) != self.dtype:
            value = value.astype(self.dtype) if isinstance(value, Tensor) else np.asarray(value, self.dtype)
        self._grad = value

    @property
    def keep_grad(self) -> bool:
        """Whether `.grad` is filled although this Tensor is not a leaf."""
        return self.__dict__.get("_keep_grad", False)

    @keep_grad.setter
    def keep_grad(self, wanted: bool) -> None:
        self._keep_grad = bool(wanted)
        if self._node is not None and self._node.op is not None:
            self._node.tensor = weakref.ref(self) if wanted else None

    def is_leaf(self) -> bool:
        """True for a Tensor that no recorded operation made."""
        return self._node is None or self._node.op is None

    @property
    def src(self) -> tuple[Any, ...]:
        """The inputs of the operation that made this Tensor; empty for a leaf."""
        node = self._node
        if node is None or not node.inputs:
            return ()
        return tuple(as_recorded(raw, parent) for raw, parent in zip(node.inputs, node.parents, strict=True))

    @property
    def backward_fn(self) -> Any:
        """The gradient rules of the operation that made this Tensor, or None."""
        return None if self.is_leaf() else self._node.op.vjp or self._node.op.pullback

    @property
    def op_ctx(self) -> dict[str, Any]:
        """The params of the operation that made this Tensor."""
        return {} if self.is_leaf() else dict(self._node.params)

    def detach(self, *, in_place: bool = False) -> Any:
        """This Tensor without its history, a copy unless `in_place`; `requires_grad` and `keep_grad` are kept."""
        wanted, keep = self.requires_grad, self.keep_grad
        target = self if in_place else bind(OPS["detach"], self)
        if in_place:
            self._node = None
            new_leaf_epoch()
        if wanted:
            target.requires_grad = True
        target.keep_grad = keep
        target.grad = self.grad if keep else None
        return target

    # ---- devices ------------------------------------------------------------------------------------------------

    def cpu(self) -> Any:
        """This Tensor on the CPU: itself if it is there."""
        return self.copy_to_device("cpu")

    def gpu(self, device_id: int = 0) -> Any:
        """This Tensor on GPU `device_id`. Raises ValueError where there is none."""
        return self.copy_to_device(device_id)

    def copy_to_device(self, device: Device) -> Any:
        """This Tensor on `device` ("cpu" or the number of a GPU): itself if it is there."""
        check_device(device)
        return self

    # ---- values read into Python --------------------------------------------------------------------------------

    def item(self, *args: Any) -> Any:
        read(self, "t.item()")
        return self._plain().item(*args)

    def tolist(self) -> Any:
        read(self, "t.tolist()")
        return self._plain().tolist()

    def __bool__(self) -> bool:
        read(self, "bool(t), as in `if t:`")
        return bool(self._plain())

    def __int__(self) -> int:
        read(self, "int(t)")
        return int(self._plain())

    def __index__(self) -> int:
        read(self, "using t as an index or a count")
        return operator.index(self._plain())

    def __float__(self) -> float:
        read(self, "float(t)")
        return float(self._plain())

    def __complex__(self) -> complex:
        read(self, "complex(t)")
        return complex(self._plain())

    def __format__(self, spec: str) -> str:
        read(self, "format(t), as in f'{t}'")
        return format(self._plain(), spec)

    def __contains__(self, value: Any) -> bool:
        return bool(np.any(self == value))

    def __repr__(self) -> str:
        body = np.array2string(self._plain(), separator=", ", prefix="Tensor(")
        kind = "Parameter" if isinstance(self, Parameter) else "Tensor"
        grad = ", requires_grad=True" if self.requires_grad and kind == "Tensor" else ""
        return f"{kind}({body}, dtype={self.dtype}{grad})"

    def __str__(self) -> str:
        return str(self._plain())

    def __hash__(self) -> int:
        return id(self)

    def __len__(self) -> int:
        return len(self._plain())

    def _is_unheard(self, name: str) -> bool:
        """Whether nobody wants to know of an operation on this Tensor alone: no gradient, no capture."""
        if self._node is not None or MODE.get().recorder is not None:
            return False
        if versions:
            check_current(name, self)
        return True

    # ---- shape and indexing -------------------------------------------------------------------------------------

    def __getitem__(self, item: Any) -> Any:
        if self._is_unheard("getitem"):
            part = self._wrap(self._plain()[plain_all(item)])
            if is_basic(item):
                part._base = (weakref.ref(self), GETITEM, {"index": item})
            return part
        return take_item(self, item)

    def __setitem__(self, item: Any, value: Any) -> None:
        whole = item is Ellipsis or (isinstance(item, (tuple, slice)) and item in ((), slice(None)))
        if is_own_view(self, item, value):
            return
        if versions:
            check_current("setitem", *(() if whole else (self,)), *leaves_of(value))
        if not is_heard(self, value):
            self._plain()[plain_all(item)] = plain(value)
            note_change(self, whole)
            return
        place = self._plain()[plain_all(item)]  # also checks the index
        value = arrayed(value)
        value = value if isinstance(value, Traced) else np.asarray(value, self.dtype)
        if value.ndim > place.ndim:  # NumPy allows more axes in front if their size is 1
            value = np.reshape(value, value.shape[value.ndim - place.ndim :])
        if whole:
            write(self, value)
        else:
            layout, arrays = ops.indexing.encode(item)
            is_view = isinstance(place, np.ndarray) and np.may_share_memory(place, self._plain())
            write(self, bind(OPS["put"], self, value, *arrays, layout=layout), place if is_view else None)

    def __iter__(self) -> Iterator[Any]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return (self[i] for i in range(len(self)))

    @property
    def T(self) -> Any:
        return self._wrap(self._plain().T) if self._is_unheard("T") else transpose_(self)

    @property
    def mT(self) -> Any:
        return np.swapaxes(self, -1, -2)

    def reshape(self, *shape: Any, order: Any = "C") -> Any:
        if self._is_unheard("reshape"):
            raw = self._plain()
            return self._wrap(raw.reshape(*shape) if order == "C" else raw.reshape(*shape, order=order))
        return reshape_(self, shape[0] if len(shape) == 1 else shape, order)

    def transpose(self, *axes: Any) -> Any:
        return transpose_(self, (axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes) or None)

    def compress(self, condition: Any, axis: Any = None, out: Any = None) -> Any:
        return np.compress(condition, self, axis, out)

    def flatten(self, order: Any = "C") -> Any:
        return np.copy(np.ravel(self, order))

    @property
    def flat(self) -> Any:
        """All elements in order, to be read or written; a view that is recorded where a gradient is wanted."""
        if not is_heard(self):
            touch(self._plain())  # it may be written through what is handed out
            return self._plain().flat
        if not self.flags.c_contiguous:
            what = "t.flat of an array that is not contiguous cannot be written through"
            raise UnrecordedError(explain("flat", what, "t.reshape(-1), a copy"))
        return self.reshape(-1)

    @flat.setter
    def flat(self, value: Any) -> None:
        if is_heard(self, value):
            self[...] = np.reshape(value, self.shape if np.size(value) == self.size else ())
        else:
            check_current("flat", value)
            self._plain().flat = plain(value)
            note_change(self)

    def fill(self, value: Any) -> None:
        self[...] = value

    # ---- copies -------------------------------------------------------------------------------------------------

    def __reduce__(self) -> Any:
        read(self, "pickling t")
        return _rebuild, (type(self), self._plain(), self.requires_grad and self.is_leaf(), self._extra())

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__reduce__()

    def __copy__(self) -> Any:
        if self.requires_grad and not isinstance(self, Parameter):
            return np.copy(self)
        return self._copied(self._extra())

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if not self.is_leaf():
            return memo.setdefault(id(self), np.copy(self))
        state = copy.deepcopy(self._extra(), memo)
        memo[id(self)] = result = self._copied(state)
        return result

    def _copied(self, state: dict[str, Any]) -> Any:
        raw = bind(OPS["detach"], self)._raw  # recorded, so that a program copies as well
        tensor = _rebuild(type(self), raw, self.requires_grad, state)
        tensor._raw = raw
        return tensor

    def _extra(self) -> dict[str, Any]:
        """What belongs to a copy besides the array and its place in the graph."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_raw", "_node", "_version", "_base")}


class CpuTensor(Tensor, np.ndarray):  # type: ignore[misc]
    """A Tensor in the computer's own memory: a numpy.ndarray."""

    _array = np.ndarray

    def _plain(self) -> np.ndarray:
        if self._raw is None:
            if isinstance(self.base, Traced) and self.base._node is not None:
                what = "NumPy made a Tensor of one that requires a gradient without telling, so its history is lost"
                raise UnrecordedError(explain("Tensor", what, "np.stack or np.concatenate in place of np.c_"))
            self._raw = _view(self, np.ndarray)
        return self._raw

    def _wrap(self, array: Any) -> "CpuTensor":
        if array.__class__ is not _ndarray:
            array = as_plain(array)
        tensor = _view(array, CpuTensor)
        tensor._raw = array
        if versions:
            tensor._version = version(array)
        return tensor


class Parameter(Tensor):
    """A Tensor that a model learns: it requires a gradient, keeps it, and knows whether it is being trained.

    Args:
        data: a floating array or nested sequences of floats; memory is shared with an ndarray.
        is_training: whether the Function it belongs to is in training mode.
        dtype: convert to this floating dtype first.
    Raises:
        ValueError: the data are not floating.
    """

    __slots__ = ()
    is_training: bool

    def __new__(cls, data: Any = None, *, is_training: bool = True, dtype: Any = None) -> Any:
        self = _from_data(data, dtype, CpuParameter)
        tell(CONVERTED, "sadl.Parameter", data, self)
        if self.dtype.kind not in "fc":
            kind = {"i": "int", "u": "int", "b": "bool"}.get(self.dtype.kind, str(self.dtype))
            raise GradientError(f"Parameter must have float type, found {kind}.")
        self._node = leaf_node(self)
        self.keep_grad, self.is_training = True, is_training
        return self

    def copy_to_device(self, device: Device) -> Any:
        """This Parameter on `device`: itself if it is there, so that optimizers keep hold of it."""
        check_device(device)
        return self


class CpuParameter(Parameter, CpuTensor):  # type: ignore[misc]
    """A Parameter in the computer's own memory."""


def leaf_node(tensor: Any) -> Node:
    node = Node(None, (), (), {}, tensor._plain())
    node.tensor = weakref.ref(tensor)
    return node


def as_recorded(raw: Any, node: Node | None) -> Any:
    """The Tensor that stands for `raw` in the graph: the leaf itself, or a new Tensor on the same memory and node."""
    if not isinstance(raw, np.ndarray):
        return raw
    tensor = node.tensor() if node is not None and node.op is None and node.tensor is not None else None
    if tensor is None:
        tensor = _view(raw, CpuTensor)
        tensor._raw, tensor._node, tensor._version = raw, node, version(raw)
    return tensor


def _from_data(data: Any, dtype: Any, cls: type) -> Any:
    data = np.empty(0, np.float32) if data is None else data
    array = np.asarray(plain(data), dtype=dtype)
    tensor = _view(array, cls)
    tensor._raw = _view(array, np.ndarray)
    tensor._version = version(array)
    return tensor


def _rebuild(cls: type, array: Any, requires_grad: bool, state: dict[str, Any]) -> Any:
    tensor = _view(np.asarray(array), cls)
    tensor.__dict__.update(state)
    if requires_grad:
        tensor.requires_grad = True
    return tensor


# ---- operators and methods -----------------------------------------------------------------------------------------


_SIMPLE = (Traced, np.ndarray, float, int, np.generic)
_USUAL = {CpuTensor, CpuParameter, np.ndarray, float, int}  # the same, found faster


def _binary(op: Op) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    ufunc = op.fn

    def forward(self: Any, other: Any) -> Any:
        if other.__class__ in _USUAL or isinstance(other, _SIMPLE):
            return bind(op, self, other)
        return NotImplemented if _declines(other) else ufunc(self, other)

    def reflected(self: Any, other: Any) -> Any:
        if other.__class__ in _USUAL or isinstance(other, _SIMPLE):
            return bind(op, other, self)
        return NotImplemented if _declines(other) else ufunc(other, self)

    return forward, reflected


def _declines(other: Any) -> bool:
    """Whether an operand wants to handle operators with arrays itself."""
    return getattr(type(other), "__array_ufunc__", True) is None


def _equality(name: str, op: Op) -> Callable[[Any, Any], Any]:
    """`==` and `!=`, which know an answer for what is not a number, too."""
    forward, native = _binary(op)[0], getattr(np.ndarray, name)

    def method(self: Any, other: Any) -> Any:
        if isinstance(other, (*_SIMPLE, complex, list, tuple)):
            return forward(self, other)
        return rewrap(self, native(self._plain(), other))

    return method


_ARITHMETIC = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "pow": np.power,
    "matmul": np.matmul,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}
_COMPARISONS = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_UNARY = {"neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert}

for _name, _fn in _ARITHMETIC.items():
    _forward, _reflected = _binary(UFUNCS[_fn])
    setattr(Tensor, f"__{_name}__", _forward)
    setattr(Tensor, f"__r{_name}__", _reflected)
    setattr(Tensor, f"__i{_name}__", in_place(UFUNCS[_fn]))
for _name, _fn in _COMPARISONS.items():
    setattr(Tensor, f"__{_name}__", _binary(UFUNCS[_fn])[0])
for _name, _fn in {"__eq__": np.equal, "__ne__": np.not_equal}.items():
    setattr(Tensor, _name, _equality(_name, UFUNCS[_fn]))
for _name, _fn in _UNARY.items():
    setattr(Tensor, f"__{_name}__", lambda self, _op=UFUNCS[_fn]: bind(_op, self))


for _name in [
    *METHODS,
    "argpartition",
    "argsort",
    "choose",
    "conj",
    "conjugate",
    "cumprod",
    "cumsum",
    "diagonal",
    "nonzero",
    "prod",
    "repeat",
    "searchsorted",
    "trace",
]:
    setattr(Tensor, _name, method(_name))
for _name in ["sort", "partition", "put", "resize", "setfield", "byteswap"]:
    setattr(Tensor, _name, on_memory(_name, changes=True))
for _name in ["getfield", "view"]:
    setattr(Tensor, _name, on_memory(_name, exposes=True))
for _name in ["tobytes", "tofile", "dump", "dumps"]:
    setattr(Tensor, _name, on_memory(_name))
for _name in ["shape", "dtype", "strides"]:
    setattr(CpuTensor, _name, attribute(_name))
for _name in ["real", "imag"]:
    setattr(Tensor, _name, part(_name))
