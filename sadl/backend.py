"""Which array libraries there are: NumPy always, CuPy where a GPU is; and the names of devices.

Takes nothing at import and imports no CuPy; `BACKEND` and `xp` are found out at first use.
Moving arrays is left to `tensor` and `cuda`.
"""

import importlib.util
import logging
from types import ModuleType
from typing import Any, Literal

import numpy as np

TensorDevice = Literal["cpu"] | int
Device = TensorDevice

_found: dict[str, Any] = {}


def _find() -> tuple[str, ModuleType]:
    """CuPy if it imports and reports a device, else NumPy, with one logged warning."""
    try:
        if importlib.util.find_spec("cupy") is not None:
            import cupy

            if cupy.cuda.runtime.getDeviceCount():
                return "cupy", cupy
    except Exception as error:  # a CuPy without its CUDA libraries fails in many ways, all of which mean "no GPU"
        logging.getLogger("sadl").debug("CuPy cannot be used: %s", error)
    logging.getLogger("sadl").warning("CuPy is unavailable; Tensors live on the CPU.")
    return "numpy", np


def __getattr__(name: str) -> Any:
    if name not in ("BACKEND", "xp"):
        raise AttributeError(f"module 'sadl.backend' has no attribute {name!r}")
    if not _found:
        _found["BACKEND"], _found["xp"] = _find()
    return _found[name]


def check_device(device: Any) -> None:
    """Raise ValueError for a device that does not exist here."""
    if isinstance(device, str):
        if device != "cpu":
            raise ValueError(f'Only "cpu" allowed as string device. Found {device!r}.')
    elif isinstance(device, bool) or not isinstance(device, int):
        raise ValueError(f'[device] {device!r} is not a device. Instead: "cpu" or the number of a GPU.')
    else:
        raise ValueError(f"[device] moving to GPU {device} is only possible when using cupy as the backend.")
