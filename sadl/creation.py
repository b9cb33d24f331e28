"""New Tensors: from data, of zeros, of ones, like another; and on another device.

Takes data or a shape, and a device; gives Tensors that own their memory. What a Tensor is stands in `tensor`.
"""

from typing import Any

import numpy as np

from sadl.backend import Device, check_device
from sadl.tape import plain
from sadl.tensor import Tensor
from sadl.watch import CONVERTED, tell


def tensor(
    data: Any, *, dtype: Any = None, device: Device = "cpu", requires_grad: bool = False, keep_grad: bool = False
) -> Any:
    """A new Tensor with a copy of `data` on `device`; see `Tensor` for the arguments and errors."""
    check_device(device)
    copied = np.array(plain(data), dtype=dtype)
    tell(CONVERTED, "sadl.tensor", data, copied)
    return Tensor(copied, requires_grad=requires_grad, keep_grad=keep_grad)


def zeros(shape: Any, *, dtype: Any = None, device: Device = "cpu", requires_grad: bool = False) -> Any:
    """A Tensor of zeros, float32 unless `dtype` says otherwise."""
    return tensor(np.zeros(shape, dtype or np.float32), device=device, requires_grad=requires_grad)


def ones(shape: Any, *, dtype: Any = None, device: Device = "cpu", requires_grad: bool = False) -> Any:
    """A Tensor of ones, float32 unless `dtype` says otherwise."""
    return tensor(np.ones(shape, dtype or np.float32), device=device, requires_grad=requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Device = "cpu", requires_grad: bool = False) -> Any:
    """The (n, m) identity matrix, float32 unless `dtype` says otherwise."""
    return tensor(np.eye(n, m, dtype=dtype or np.float32), device=device, requires_grad=requires_grad)


def zeros_like(other: Any, *, dtype: Any = None, requires_grad: bool = False) -> Any:
    """A Tensor of zeros with the shape and dtype of `other`."""
    return Tensor(np.zeros(np.shape(other), dtype or np.result_type(plain(other))), requires_grad=requires_grad)


def ones_like(other: Any, *, dtype: Any = None, requires_grad: bool = False) -> Any:
    """A Tensor of ones with the shape and dtype of `other`."""
    return Tensor(np.ones(np.shape(other), dtype or np.result_type(plain(other))), requires_grad=requires_grad)


def copy_to_device(tensor: Any, device: Device) -> Any:
    """`tensor` on `device`: itself if it is there."""
    return tensor.copy_to_device(device)
