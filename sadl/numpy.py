"""NumPy's namespace, `import sadl.numpy as np`, in which the functions that make arrays from data keep the graph.

Takes and gives what NumPy does; where there is no Tensor among the arguments, each function is NumPy's own.
All that NumPy hands on to Tensors by itself is left to `tensor`; `np.sum([t, u])` and the like still lose the graph.
"""

import sys
from typing import Any

import numpy as np

from sadl.errors import UnrecordedError, explain
from sadl.tape import Traced, arrayed, plain

__all__ = list(np.__all__)
for _name in ("fft", "linalg", "polynomial", "random"):
    sys.modules[f"{__name__}.{_name}"] = getattr(np, _name)  # so that `import sadl.numpy.random as npr` finds it


def __getattr__(name: str) -> Any:
    return getattr(np, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(np)})


def _holds_tensor(x: Any) -> bool:
    return isinstance(x, Traced) or (isinstance(x, (list, tuple)) and any(map(_holds_tensor, x)))


def _cast(x: Any, dtype: Any, order: Any = None) -> Any:
    """A Tensor, or nested sequences with Tensors in them, as one Tensor of that dtype and order: itself if it is so."""
    t = arrayed(x)
    t = t if dtype is None or t.dtype == np.dtype(dtype) else np.astype(t, np.dtype(dtype))
    if order == "C" and not t.flags.c_contiguous:
        return np.copy(t)
    return np.copy(t.T).T if order == "F" and not t.flags.f_contiguous else t


def _made(x: Any, dtype: Any, order: Any, copy: Any) -> Any:
    """The same; a new one if `copy`, and none that is new if `copy` is False."""
    t = _cast(x, dtype, order)
    if copy is False and t is not x:
        raise ValueError(explain("array", "copy=False, but this cannot be done without a copy", "copy=None"))
    return np.copy(t) if copy and t is x else t


def array(object: Any, dtype: Any = None, *, copy: Any = True, order: Any = "K", ndmin: int = 0, **more: Any) -> Any:
    """As `numpy.array`; Tensors in nested lists and tuples are stacked, at any depth, so that gradients reach them."""
    if not _holds_tensor(object):
        return np.array(object, dtype, copy=copy, order=order, ndmin=ndmin, **more)
    t = _made(object, dtype, order, copy)
    return np.reshape(t, (1,) * (ndmin - t.ndim) + t.shape) if t.ndim < ndmin else t


def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, **more: Any) -> Any:
    """As `numpy.asarray`; a Tensor stays itself, and nested lists and tuples of Tensors are stacked."""
    if not _holds_tensor(a):
        return np.asarray(a, dtype, order, copy=copy, **more)
    return _made(a, dtype, order, copy)


def asanyarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, **more: Any) -> Any:
    """As `numpy.asanyarray`, and `asarray` for Tensors."""
    if not _holds_tensor(a):
        return np.asanyarray(a, dtype, order, copy=copy, **more)
    return _made(a, dtype, order, copy)


def ascontiguousarray(a: Any, dtype: Any = None, **more: Any) -> Any:
    """As `numpy.ascontiguousarray`: rows one after the other in memory, at least one axis."""
    return np.atleast_1d(_cast(a, dtype, "C")) if _holds_tensor(a) else np.ascontiguousarray(a, dtype, **more)


def asfortranarray(a: Any, dtype: Any = None, **more: Any) -> Any:
    """As `numpy.asfortranarray`: columns one after the other in memory, at least one axis."""
    return np.atleast_1d(_cast(a, dtype, "F")) if _holds_tensor(a) else np.asfortranarray(a, dtype, **more)


def full(shape: Any, fill_value: Any, dtype: Any = None, order: Any = "C", **more: Any) -> Any:
    """As `numpy.full`; the gradient by `fill_value` is the sum over what was filled with it."""
    if not _holds_tensor(fill_value):
        return np.full(shape, fill_value, dtype, order, **more)
    return _cast(np.copy(np.broadcast_to(_cast(fill_value, dtype), shape)), None, order)


def full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None, **more: Any
) -> Any:
    """As `numpy.full_like`; the gradient by `fill_value` is as that of `full`."""
    if not _holds_tensor(fill_value):
        return np.full_like(a, fill_value, dtype, order, subok, shape, **more)
    like = plain(arrayed(a))
    return full(np.shape(like) if shape is None else shape, fill_value, dtype or np.result_type(like), order)


def arange(*args: Any, **more: Any) -> Any:
    """As `numpy.arange`, which takes Tensors for numbers.

    Raises:
        TypeError: a gradient by an argument would be lost.
    """
    if any(isinstance(x, Traced) and x._node is not None for x in (*args, *more.values())):
        what = "its length depends on values, so the gradient by its ends would be lost"
        raise UnrecordedError(explain("arange", what, "start + step * np.arange(n), or np.linspace(start, stop, n)"))
    return np.arange(*args, **more)
