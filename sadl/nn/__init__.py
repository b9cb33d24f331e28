"""Layers: Functions with parameters and a shape of their own, one file per family.

Takes dimensions; gives callables on Tensors. The arithmetic is in `functional`, parameter traversal in `function`.
"""

from sadl.nn import init
from sadl.nn.activation import (
    ELU,
    GELU,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from sadl.nn.attention import MultiHeadAttention, TransformerBlock
from sadl.nn.container import Flatten, Mlp, Sequential
from sadl.nn.convolution import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from sadl.nn.dropout import Dropout
from sadl.nn.embedding import Embedding, SinusoidalPositions
from sadl.nn.linear import Linear
from sadl.nn.normalization import BatchNorm, BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm, RMSNorm
from sadl.nn.pooling import AdaptiveAvgPool2d, AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d
from sadl.nn.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "AdaptiveAvgPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "Dropout",
    "Embedding",
    "Flatten",
    "GRUCell",
    "GroupNorm",
    "LSTMCell",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool1d",
    "MaxPool2d",
    "Mlp",
    "MultiHeadAttention",
    "RMSNorm",
    "RNNCell",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SinusoidalPositions",
    "Softmax",
    "Softplus",
    "Tanh",
    "TransformerBlock",
    "init",
]
