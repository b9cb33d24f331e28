"""Dropout: elements set to 0 by chance while a model is trained.

Takes an input of any shape; gives the same shape. When a model is in training is left to `nn`.
"""

from typing import Any

import numpy as np

from sadl import random
from sadl.functional.checks import flag, number, numbers, shape_of


def dropout(x: Any, p: float = 0.5, training: bool = True, rng: Any = None) -> Any:
    """Each element of `x` 0 with probability `p`, else divided by 1 - p, so that the expected value stays.

    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 2014, with the
    division in training. Shape of `x`, its dtype if floating, else float64. Compiled programs draw new elements on each
    call, the same as eager code would.

    Args:
        x: an array or a Tensor; the result is a Tensor where anything is drawn.
        p: the probability, in [0, 1]; 0 gives `x` itself.
        training: whether to do anything at all.
        rng: a `sadl.random.Generator` or a seed; the generator that `sadl.random.seed` seeds if None.
    Raises:
        ValueError: `p` is not in [0, 1].
    """
    p = number("dropout", "p", p, 0, 1)
    if not flag("dropout", "training", training) or p == 0:
        return x
    scaled = numbers("dropout", x) / (1 - p or 1)  # before anything is drawn, which an error would waste
    return np.where(random.bernoulli(1 - p, shape_of(x), bool, rng), scaled, 0)
