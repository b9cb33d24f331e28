"""Small helpers on plain arrays.

Takes and gives arrays, not Tensors. Moving Tensors is left to `Tensor.copy_to_device`.
"""

from typing import Any

from sadl.backend import Device, check_device
from sadl.tape import plain


def copy_array(array: Any, device: Device) -> Any:
    """A copy of `array` (of any shape and dtype, on any device) as a plain array on `device`.

    Raises:
        ValueError: there is no such device.
    """
    check_device(device)
    array = plain(array)
    return array.get() if hasattr(array, "get") else array.copy()
