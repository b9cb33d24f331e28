"""The functions that layers are made of, each a composition of NumPy functions, one file per family.

Takes plain arrays or Tensors and gives the same kind. Keeping parameters is left to `nn`.
"""

from sadl.functional.activation import log_softmax, logsumexp, relu, sigmoid, softmax, tanh
from sadl.functional.linear import linear, one_hot
from sadl.functional.loss import cross_entropy, mse_loss, nll_loss

__all__ = [
    "cross_entropy",
    "linear",
    "log_softmax",
    "logsumexp",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "relu",
    "sigmoid",
    "softmax",
    "tanh",
]
