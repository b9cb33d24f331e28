"""Attention layers: projections to and from several heads, and the block of a transformer.

Takes vectors in a row, (..., length, dim); gives the same form. Attention itself is in `functional`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from sadl import functional, random
from sadl.errors import ShapeError, explain
from sadl.function import Function
from sadl.functional.checks import flag, floating_dtype, in_dtype_of, number, require_sizes, shape_of
from sadl.nn.activation import GELU
from sadl.nn.container import Sequential
from sadl.nn.dropout import Dropout
from sadl.nn.linear import Linear
from sadl.nn.normalization import LayerNorm


class MultiHeadAttention(Function):
    """Attention of several heads, each in a part of the `dim` features: Vaswani et al., 2017, section 3.2.2.

    Args:
        dim: the size of the vectors, a multiple of `heads`.
        heads: how many.
        dropout: the probability with which each attention weight is set to 0, in training.
        bias: whether the projections have biases.
        dtype, rng: as for `Linear`.
    Attributes:
        projection: Linear (dim, 3 * dim) to queries, keys and values, Glorot uniform; biases start at zero.
        out: Linear (dim, dim) from all heads, likewise.
    Raises:
        ValueError: sizes that do not fit; at the call, inputs or a mask of another form.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        dropout: float = 0.0,
        *,
        bias: bool = True,
        dtype: Any = np.float32,
        rng: Any = None,
    ) -> None:
        require_sizes("MultiHeadAttention", dim=dim, heads=heads)
        if dim % heads:
            what = f"dim={dim} features cannot be divided among heads={heads}"
            raise ValueError(explain("MultiHeadAttention", what, f"a dim that is a multiple of {heads}"))
        dtype = floating_dtype("MultiHeadAttention", dtype)
        rng = None if rng is None else random.generator(rng)
        self.dim, self.heads = dim, heads
        self.dropout = number("MultiHeadAttention", "dropout", dropout, 0, 1)
        self.projection = Linear(dim, 3 * dim, bias=bias, dtype=dtype, rng=rng)
        self.out = Linear(dim, dim, bias=bias, dtype=dtype, rng=rng)

    def __call__(
        self, query: Any, key: Any = None, value: Any = None, *, mask: Any = None, is_causal: bool = False
    ) -> Any:
        """What each query finds.

        Args:
            query: (..., targets, dim).
            key: (..., sources, dim); `query` if None.
            value: (..., sources, dim); `key` if None.
            mask: broadcasts to (..., heads, targets, sources); see `functional.scaled_dot_product_attention`.
                One that hides sources of single examples is (n, 1, 1, sources).
            is_causal: whether a target sees the sources up to its own place only.
        """
        key = query if key is None else key
        value = key if value is None else value
        self._require_fit(query, key, value)
        q, k, v = map(self._split, self._project(query, key, value))
        dropout = self.dropout if self.is_training() else 0
        found = functional.scaled_dot_product_attention(q, k, v, mask, is_causal, dropout)
        joined = np.swapaxes(found, -2, -3)
        return self.out(np.reshape(joined, (*joined.shape[:-2], self.dim)))

    def _project(self, query: Any, key: Any, value: Any) -> list[Any]:
        """Queries, keys and values: by one product if all are made of the same."""
        if query is key and key is value:
            return np.split(self.projection(query), 3, axis=-1)
        W, b = self.projection.W, self.projection.b
        query, key, value = (in_dtype_of(W, x) for x in (query, key, value))
        parts = [slice(i * self.dim, (i + 1) * self.dim) for i in range(3)]
        biases = [None if b is None else b[part] for part in parts]
        inputs = zip((query, key, value), parts, biases, strict=True)
        return [functional.linear(x, W[:, part], bias) for x, part, bias in inputs]

    def _split(self, x: Any) -> Any:
        """(..., length, dim) -> (..., heads, length, dim / heads)."""
        return np.swapaxes(np.reshape(x, (*x.shape[:-1], self.heads, self.dim // self.heads)), -2, -3)

    def _require_fit(self, *inputs: Any) -> None:
        shapes = [shape_of(x) for x in inputs]
        q, k, v = shapes
        if any(len(s) < 2 or s[-1] != self.dim for s in shapes) or k[-2] != v[-2] or not q[:-2] == k[:-2] == v[:-2]:
            what = f"MultiHeadAttention(dim={self.dim}, heads={self.heads}) was given inputs of shapes {q}, {k} and {v}"
            need = f"a query (..., targets, {self.dim}), key and value (..., sources, {self.dim})"
            raise ShapeError(explain("MultiHeadAttention", what, need))


class TransformerBlock(Function):
    """x + attention(x), then x + layers(x), both normalised: Vaswani et al., 2017, section 3.1.

    Args:
        dim, heads: as for `MultiHeadAttention`.
        hidden: the size between the two layers; 4 * dim if None.
        dropout: the probability for attention weights, between the layers, and for what is added, in training.
        norm_first: whether the inputs of attention and of the layers are normalised, as in GPT-2 (Radford et al.,
            2019, section 2.3), or, as in the paper, the sums.
        activation: the layer between the two; `GELU` if None.
        bias, dtype, rng: as for `Linear`.
    Attributes:
        attention, layers, norm1, norm2, drop: the parts.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int | None = None,
        dropout: float = 0.0,
        *,
        norm_first: bool = True,
        activation: Callable[..., Any] | None = None,
        bias: bool = True,
        dtype: Any = np.float32,
        rng: Any = None,
    ) -> None:
        rng = None if rng is None else random.generator(rng)
        hidden = 4 * dim if hidden is None else hidden
        self.norm_first = flag("TransformerBlock", "norm_first", norm_first)
        self.norm1, self.norm2 = (LayerNorm(dim, bias=bias, dtype=dtype) for _ in range(2))
        self.attention = MultiHeadAttention(dim, heads, dropout, bias=bias, dtype=dtype, rng=rng)
        self.layers = Sequential(
            Linear(dim, hidden, bias=bias, dtype=dtype, rng=rng),
            activation or GELU(),
            Dropout(dropout),
            Linear(hidden, dim, bias=bias, dtype=dtype, rng=rng),
        )
        self.drop = Dropout(dropout)

    def __call__(self, x: Any, *, mask: Any = None, is_causal: bool = False) -> Any:
        """(..., length, dim) -> the same; `mask` and `is_causal` as for `MultiHeadAttention`."""
        x = in_dtype_of(self.attention.projection.W, x)
        if self.norm_first:
            x = x + self.drop(self.attention(self.norm1(x), mask=mask, is_causal=is_causal))
            return x + self.drop(self.layers(self.norm2(x)))
        x = self.norm1(x + self.drop(self.attention(x, mask=mask, is_causal=is_causal)))
        return self.norm2(x + self.drop(self.layers(x)))
