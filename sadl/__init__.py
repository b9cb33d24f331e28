"""sadl: Tensors that are NumPy arrays, differentiated as they run and compiled when they are to run fast.

The public names, and nothing else. What needs a GPU's library or the compiler is imported at its first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from sadl import errors, grad_ops
from sadl._version import __version__
from sadl.autograd import backward, check_grads, grad, value_and_grad, vjp
from sadl.backend import TensorDevice
from sadl.config import config, show_config
from sadl.creation import copy_to_device, eye, ones, ones_like, tensor, zeros, zeros_like
from sadl.errors import (
    CaptureError,
    CompileError,
    FileFormatError,
    GradientError,
    RuleError,
    ShapeError,
    StaleValueError,
    UnrecordedError,
    VerifyError,
)
from sadl.tape import enable_grad, no_grad, no_grad_fn, set_global_grad_mode
from sadl.tape import is_grad_enabled as get_current_global_grad_mode
from sadl.tape import is_grad_enabled as is_global_grad_mode_enabled
from sadl.tensor import Parameter, Tensor

if TYPE_CHECKING:  # imported at first use, by `__getattr__`
    from sadl import data, debug, functional, nn, random, schedules
    from sadl.backend import BACKEND, xp
    from sadl.bars import progress
    from sadl.checkpoints import Gradients, load_checkpoint, save_checkpoint
    from sadl.compiler.api import compile, make_ir
    from sadl.disk import load, save
    from sadl.function import Buffer, Function
    from sadl.layer_table import summary
    from sadl.logs import Log
    from sadl.nn import Linear, LogSoftmax, Mlp, ReLU, Sigmoid, Softmax
    from sadl.optimizer import SGD, Adagrad, Adam, AdamW, Lion, Optimizer, RMSprop, clip_grad_norm, clip_grad_value
    from sadl.transforms import checkpoint, custom_vjp, elementwise_grad, hessian, hvp, jacobian, jvp

_LATER = {
    "sadl.backend": ("BACKEND", "xp"),
    "sadl.bars": ("progress",),
    "sadl.checkpoints": ("Gradients", "load_checkpoint", "save_checkpoint"),
    "sadl.compiler.api": ("compile", "make_ir"),
    "sadl.data": ("data",),
    "sadl.debug": ("debug",),
    "sadl.disk": ("load", "save"),
    "sadl.function": ("Buffer", "Function"),
    "sadl.functional": ("functional",),
    "sadl.layer_table": ("summary",),
    "sadl.logs": ("Log",),
    "sadl.nn": ("nn", "Linear", "LogSoftmax", "Mlp", "ReLU", "Sigmoid", "Softmax"),
    "sadl.optimizer": (
        *("SGD", "Adagrad", "Adam", "AdamW", "Lion", "Optimizer", "RMSprop"),
        *("clip_grad_norm", "clip_grad_value"),
    ),
    "sadl.random": ("random",),
    "sadl.schedules": ("schedules",),
    "sadl.transforms": ("checkpoint", "custom_vjp", "elementwise_grad", "hessian", "hvp", "jacobian", "jvp"),
}
_MODULE_OF = {name: module for module, names in _LATER.items() for name in names}

__all__ = [
    "BACKEND",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Buffer",
    "CaptureError",
    "CompileError",
    "FileFormatError",
    "Function",
    "GradientError",
    "Gradients",
    "Linear",
    "Lion",
    "Log",
    "LogSoftmax",
    "Mlp",
    "Optimizer",
    "Parameter",
    "RMSprop",
    "ReLU",
    "RuleError",
    "ShapeError",
    "Sigmoid",
    "Softmax",
    "StaleValueError",
    "Tensor",
    "TensorDevice",
    "UnrecordedError",
    "VerifyError",
    "__version__",
    "backward",
    "check_grads",
    "checkpoint",
    "clip_grad_norm",
    "clip_grad_value",
    "compile",
    "config",
    "copy_to_device",
    "custom_vjp",
    "data",
    "debug",
    "elementwise_grad",
    "enable_grad",
    "errors",
    "eye",
    "functional",
    "get_current_global_grad_mode",
    "grad",
    "grad_ops",
    "hessian",
    "hvp",
    "is_global_grad_mode_enabled",
    "jacobian",
    "jvp",
    "load",
    "load_checkpoint",
    "make_ir",
    "nn",
    "no_grad",
    "no_grad_fn",
    "ones",
    "ones_like",
    "progress",
    "random",
    "save",
    "save_checkpoint",
    "schedules",
    "set_global_grad_mode",
    "show_config",
    "summary",
    "tensor",
    "value_and_grad",
    "vjp",
    "xp",
    "zeros",
    "zeros_like",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'sadl' has no attribute {name!r}")
    module = importlib.import_module(_MODULE_OF[name])
    value = globals()[name] = module if module.__name__ == f"sadl.{name}" else getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
