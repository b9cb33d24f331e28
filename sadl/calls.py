"""What a NumPy call on a Tensor becomes when it is more than one entry of the table.

Takes ufuncs with keyword arguments or by a method, functions without an entry, `out=` and writes in place; gives the
same as NumPy, recorded, or an error that says what to do. One plain entry goes to `tape.bind` directly.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from sadl.errors import GradientError, UnrecordedError, explain
from sadl.op import CONSTANT, OPS, UFUNC_METHODS, UFUNCS, Op
from sadl.tape import ALIAS, MODE, Node, Traced, bind, is_grad_enabled, new_leaf_epoch, plain, touch
from sadl.tree import flatten, unflatten

# ---- arguments that hold Tensors -----------------------------------------------------------------------------------


def plain_all(value: Any) -> Any:
    """`value` with plain arrays in place of Tensors, at any depth of lists, tuples and dicts."""
    if isinstance(value, Traced):
        return value._plain()
    if isinstance(value, (tuple, list)):
        return type(value)([plain_all(v) for v in value])
    return {k: plain_all(v) for k, v in value.items()} if isinstance(value, dict) else value


def plain_unless_tracked(args: Any, kwargs: dict[str, Any], grad: bool) -> tuple[list[Any], dict[str, Any]] | None:
    """`plain_all` of the arguments of a call; None if `grad` and a Tensor among them requires a gradient."""
    plains = []
    for v in args:
        if isinstance(v, Traced):
            if grad and v._node is not None:
                return None
            plains.append(v._plain() if v._raw is None else v._raw)
        elif v.__class__ in _NESTED:
            if grad and _is_tracked(v):
                return None
            plains.append(plain_all(v))
        else:
            plains.append(v)
    for v in kwargs.values():
        if isinstance(v, Traced) or v.__class__ in _NESTED:
            return None if grad and _is_tracked(kwargs.values()) else (plains, plain_all(kwargs))
    return plains, kwargs


_NESTED = {list, tuple, dict}


def _leaves(value: Any) -> list[Any]:
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
        elif isinstance(v, (tuple, list)) and _is_tracked(v):
            return True
        elif isinstance(v, dict) and _is_tracked(v.values()):
            return True
    return False


def read(tensor: Any, how: str, instead: str = "") -> None:
    recorder = MODE.get().recorder
    if recorder is not None:
        recorder.read(how, instead)


def rewrap(like: Any, result: Any) -> Any:
    """NumPy's result with its arrays as Tensors; what is not an array stays."""
    if result.__class__ is np.ndarray:
        return like._wrap(result)
    if isinstance(result, np.ndarray) or (isinstance(result, np.generic) and result.dtype.kind in "fciub"):
        return like._wrap(result)
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return type(result)(*(rewrap(like, r) for r in result))
    if isinstance(result, (tuple, list)):
        return type(result)(rewrap(like, r) for r in result)
    return result


# ---- calls that are not a plain table entry ------------------------------------------------------------------------


def library_call(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Run a function that has no entry in the table. Raises if a gradient would be lost."""
    leaves, structure = flatten((args, kwargs))
    tensors = [x for x in leaves if isinstance(x, Traced)]
    name = getattr(func, "__name__", str(func))
    if is_grad_enabled() and func not in CONSTANT and any(t._node is not None for t in tensors):
        what = f"np.{name} has no gradient rule, so its result could not be differentiated"
        raise UnrecordedError(
            explain(name, what, "call it under sadl.no_grad(), or add it (CONTRIBUTING.md, 'Adding an op')")
        )

    def run(*raws: Any, constants: str = "") -> Any:
        values = iter(raws)
        filled = unflatten(structure, [next(values) if isinstance(x, Traced) else x for x in leaves])
        return func(*filled[0], **filled[1])

    result = rewrap(tensors[0], run(*map(plain, tensors)))
    recorder = MODE.get().recorder
    if recorder is not None:
        outs = (result,) if isinstance(result, Traced) else tuple(result) if isinstance(result, (tuple, list)) else ()
        if not outs or not all(isinstance(o, Traced) for o in outs):
            recorder.read(f"np.{name}, which returns Python values", "")
        constants = repr([structure, *("." if isinstance(x, Traced) else x for x in leaves)])
        recorder.record(Op(name, run, "call", outs=len(outs)), tuple(tensors), {"constants": constants}, outs)
    return result


def general_ufunc(ufunc: np.ufunc, method: str, inputs: Any, kwargs: dict[str, Any]) -> Any:
    """A ufunc with keyword arguments, or one of its methods."""
    out = kwargs.pop("out", None)
    out = out[0] if isinstance(out, tuple) and len(out) == 1 else out
    if method == "at":
        return _ufunc_at(ufunc, inputs)
    if out is None and not is_heard(inputs, kwargs):
        return rewrap(_leaves(inputs)[0], getattr(ufunc, method)(*plain_all(inputs), **plain_all(kwargs)))
    if method == "__call__":
        result = _table_call(ufunc, inputs, out, **kwargs)
    elif method == "outer":
        left, right = inputs
        result = ufunc(np.reshape(left, (*np.shape(left), *(1,) * np.ndim(right))), right, **kwargs)
    else:
        body = UFUNC_METHODS.get((ufunc, method))
        if method == "reduce" and body is not None and kwargs.keys() <= accepted(body):
            axis = inputs[1] if len(inputs) > 1 else kwargs.pop("axis", 0)
            result = body(inputs[0], axis=axis, **kwargs)
        else:
            result = library_call(getattr(ufunc, method), inputs, kwargs)
    return result if out is None else _store(out, result)


def _table_call(ufunc: np.ufunc, inputs: Any, out: Any, where: Any = True, dtype: Any = None, **kwargs: Any) -> Any:
    op = UFUNCS.get(ufunc)
    if op is None:
        return library_call(ufunc, inputs, kwargs)
    if dtype is not None:
        inputs = tuple(np.astype(x, dtype) if isinstance(x, Traced) else np.asarray(x, dtype) for x in inputs)
    result = bind(op, *inputs)
    if where is True:
        return result
    if out is None:
        what = "where= without out= leaves the other elements undefined"
        raise ValueError(explain(ufunc.__name__, what, "np.where(mask, result, other)"))
    return np.where(where, result, out)


def _ufunc_at(ufunc: np.ufunc, inputs: Any) -> None:
    target, rest = inputs[0], inputs[1:]
    if is_heard(inputs):
        what = "ufunc.at changes its argument in place and is not recorded"
        raise UnrecordedError(explain(f"{ufunc.__name__}.at", what, "t[i] += v, or call it under sadl.no_grad()"))
    ufunc.at(plain(target), *plain_all(rest))
    touch(plain(target))


def _store(out: Any, result: Any) -> Any:
    if isinstance(out, Traced):
        return write(out, result)
    if isinstance(result, Traced) and result._node is not None:
        what = "out= is a plain array, which cannot carry the gradient of this result"
        raise UnrecordedError(explain("out", what, "pass a Tensor as out=, or leave it away"))
    np.copyto(out, plain(result), casting="same_kind")
    return out


@functools.cache
def accepted(body: Callable[..., Any]) -> set[str]:
    """The names of the arguments that a function takes."""
    code = body.__code__
    return set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])


# ---- in place ------------------------------------------------------------------------------------------------------


def write(target: Any, value: Any) -> Any:
    """`target[...] = value`: the memory is written, and where it matters the Tensor takes the value's place in the graph."""
    if not np.can_cast(np.result_type(plain(value)), target.dtype, "same_kind"):
        raise TypeError(f"[assign] cannot write {np.result_type(plain(value))} into {target.dtype} in place.")
    if not is_heard(target, value):
        np.copyto(target._plain(), plain(value), casting="same_kind")
        touch(target._raw)
        return target
    _check_writable(target)
    new = bind(OPS["assign"], target, value)
    recorder = MODE.get().recorder
    if recorder is not None:
        recorder.rebind(target, new)
    np.copyto(target._plain(), new._raw)
    touch(target._raw)
    if MODE.get().grad:  # a node made after the write, so that the sweep can tell it from writes that nobody recorded
        if (target._node is None) is not (new._node is None):
            new_leaf_epoch()
        target._node = None if new._node is None else Node(ALIAS, [new._raw], [new._node], {}, target._raw)
    return target


def _check_writable(target: Any) -> None:
    """A leaf that requires a gradient may not change while gradients are recorded, nor may a view of one."""
    node = target._node if is_grad_enabled() else None
    while node is not None and node.op is not None and node.op.kind == "view":
        node = node.parents[0]
    if node is not None and node.op is None:
        what = "a leaf that requires a gradient was changed in place while gradients are recorded"
        raise GradientError(explain("in-place", what, "do it under sadl.no_grad(), or compute a new Tensor"))
