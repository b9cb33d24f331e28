"""Update rules: what becomes of one parameter and of its state in one step.

Takes arrays of one shape and dtype (parameter, gradient, state) and the numbers of this step, 0-d of that dtype; gives
the new parameter and state. All are pure and call only `np.*`. Where the numbers come from is left to `optimizers`.
"""

from typing import Any

import numpy as np

State = tuple[Any, ...]
Updated = tuple[Any, State]


def sgd(p: Any, g: Any, state: State, lr: Any, *, momentum: float, nesterov: bool, weight_decay: float) -> Updated:
    """m' = momentum m + g; p' = p - lr m' (Nesterov: p - lr (g + momentum m')); g includes weight_decay p.

    Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013, in the form that
    torch.optim.SGD has. `state` is (m,), or () without momentum.
    """
    g = _with_decay(g, p, weight_decay)
    if not momentum:
        return p - lr * g, ()
    m = momentum * state[0] + g
    return p - lr * (g + momentum * m if nesterov else m), (m,)


def adam(
    p: Any, g: Any, state: State, rate: Any, root: Any, *, betas: tuple[float, float], eps: float, weight_decay: float
) -> Updated:
    """m' = b1 m + (1 - b1) g; v' = b2 v + (1 - b2) g**2; p' = p - rate m' / (sqrt(v') / root + eps).

    Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1, with its bias corrections in
    rate = lr / (1 - b1**t) and root = sqrt(1 - b2**t); g includes weight_decay p. `state` is (m, v).
    """
    m, v = state
    g = _with_decay(g, p, weight_decay)
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * np.square(g)
    return p - rate * m / (np.sqrt(v) / root + eps), (m, v)


def adamw(
    p: Any,
    g: Any,
    state: State,
    rate: Any,
    root: Any,
    lr: Any,
    *,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> Updated:
    """`adam` less lr weight_decay p: the decay does not go through the means of the gradient.

    Loshchilov & Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, algorithm 2, with the decay times the
    learning rate, as torch.optim.AdamW has it.
    """
    return adam(p - lr * weight_decay * p, g, state, rate, root, betas=betas, eps=eps, weight_decay=0.0)


def rmsprop(
    p: Any,
    g: Any,
    state: State,
    lr: Any,
    *,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    centered: bool,
) -> Updated:
    """v' = alpha v + (1 - alpha) g**2; p' = p - lr g / (sqrt(v') + eps); g includes weight_decay p.

    Tieleman & Hinton, "Lecture 6.5: RMSprop", COURSERA, 2012. With momentum, b' = momentum b + g / (sqrt(v') + eps)
    and p' = p - lr b'. Centered: less the square of a mean like v', but of g (Graves, "Generating Sequences With
    Recurrent Neural Networks", 2013, equation 40). `state` is (v,), then b with momentum, then that mean if centered.
    """
    v, *rest = state
    g = _with_decay(g, p, weight_decay)
    v = square = alpha * v + (1 - alpha) * np.square(g)
    new = [v]
    mean = []
    if centered:
        mean = [alpha * rest[-1] + (1 - alpha) * g]
        square = np.maximum(v - np.square(mean[0]), 0)  # a variance, but for rounding
    update = g / (np.sqrt(square) + eps)
    if momentum:
        update = momentum * rest[0] + update
        new.append(update)
    return p - lr * update, (*new, *mean)


def adagrad(p: Any, g: Any, state: State, rate: Any, *, eps: float, weight_decay: float) -> Updated:
    """s' = s + g**2; p' = p - rate g / (sqrt(s') + eps); g includes weight_decay p.

    Duchi, Hazan & Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization", JMLR 2011,
    section 1.1, with diagonal matrices. `state` is (s,).
    """
    g = _with_decay(g, p, weight_decay)
    s = state[0] + np.square(g)
    return p - rate * g / (np.sqrt(s) + eps), (s,)


def lion(p: Any, g: Any, state: State, lr: Any, *, betas: tuple[float, float], weight_decay: float) -> Updated:
    """p' = p - lr (sign(b1 m + (1 - b1) g) + weight_decay p); m' = b2 m + (1 - b2) g.

    Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023, algorithm 2. `state` is (m,).
    """
    (m,) = state
    ahead = g - m  # both means start from it, which puts them into one kernel
    update = np.sign(m + (1 - betas[0]) * ahead)
    update = update + weight_decay * p if weight_decay else update
    return p - lr * update, (m + (1 - betas[1]) * ahead,)


def _with_decay(g: Any, p: Any, weight_decay: float) -> Any:
    return g + weight_decay * p if weight_decay else g
