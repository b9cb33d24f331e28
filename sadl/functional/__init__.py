"""The functions that layers are made of, each a composition of NumPy functions, one file per family.

Takes plain arrays or Tensors and gives the same kind. Keeping parameters is left to `nn`.
"""

from sadl.functional.activation import (
    elu,
    erf,
    gelu,
    leaky_relu,
    log_softmax,
    logsumexp,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from sadl.functional.attention import scaled_dot_product_attention, sinusoidal_positions
from sadl.functional.convolution import conv1d, conv2d, conv_transpose1d, conv_transpose2d, unfold
from sadl.functional.dropout import dropout
from sadl.functional.linear import embedding, linear, one_hot
from sadl.functional.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
)
from sadl.functional.normalization import batch_norm, group_norm, layer_norm, rms_norm
from sadl.functional.pooling import adaptive_avg_pool2d, avg_pool1d, avg_pool2d, max_pool1d, max_pool2d
from sadl.functional.recurrent import gru_cell, lstm_cell, rnn_cell

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "elu",
    "embedding",
    "erf",
    "gelu",
    "group_norm",
    "gru_cell",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsumexp",
    "lstm_cell",
    "max_pool1d",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "relu",
    "rms_norm",
    "rnn_cell",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "sinusoidal_positions",
    "softmax",
    "softplus",
    "tanh",
    "unfold",
]
