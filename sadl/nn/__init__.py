"""Layers: Functions with parameters and a shape of their own, one file per family.

Takes dimensions; gives callables on Tensors. The arithmetic is in `functional`, parameter traversal in `function`.
"""

from sadl.nn.activation import LogSoftmax, ReLU, Sigmoid, Softmax
from sadl.nn.container import Mlp
from sadl.nn.linear import Linear

__all__ = ["Linear", "LogSoftmax", "Mlp", "ReLU", "Sigmoid", "Softmax"]
