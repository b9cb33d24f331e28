"""First values of parameters, by name: what they are drawn from, for a shape.

Takes a shape, a dtype and a generator; gives an array. Which one a layer starts from is left to it.

All are drawn in float64 and then rounded, so that every dtype starts from the same numbers. A matrix is (in, out), as
in `Linear`; with more axes it is (out, in, *kernel), as in convolutions.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sadl import random
from sadl.errors import ShapeError, explain
from sadl.functional.checks import floating_dtype, is_whole, number
from sadl.tape import plain

Shape = tuple[int, ...]

# How much a function shrinks the scale of what it is given: He et al., 2015, for the rectifiers.
GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}


def gain_of(gain: float | str, slope: float = 0.01) -> float:
    """A gain by the name of the activation that follows ("leaky_relu": with that slope), or as a number."""
    if gain == "leaky_relu":
        return math.sqrt(2 / (1 + slope * slope))
    if isinstance(gain, str) and gain not in GAINS:
        raise ValueError(explain("init", f"no gain {gain!r}", f"a number, leaky_relu, {', '.join(GAINS)}"))
    return GAINS[gain] if isinstance(gain, str) else number("init", "gain", gain)


def _shape(shape: Any) -> Shape:
    """Whole numbers in a tuple, or one number."""
    found = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if not all(is_whole(n) and n >= 0 for n in found):
        raise ValueError(explain("init", f"shape={shape!r} is none", "a tuple of whole numbers >= 0"))
    return found


def fans(shape: Shape) -> tuple[int, int]:
    """How many inputs each output has, and how many outputs each input."""
    shape = _shape(shape)
    if len(shape) < 2 or 0 in shape:
        raise ShapeError(explain("init", f"shape {shape} has no fans", "a matrix, or (out, in, *kernel), not empty"))
    field = math.prod(shape[2:])
    fan_in, fan_out = shape if len(shape) == 2 else (shape[1] * field, shape[0] * field)
    return fan_in, fan_out


def zeros(shape: Shape, dtype: Any = np.float32, rng: Any = None) -> np.ndarray:
    return np.zeros(_shape(shape), floating_dtype("zeros", dtype))


def ones(shape: Shape, dtype: Any = np.float32, rng: Any = None) -> np.ndarray:
    return np.ones(_shape(shape), floating_dtype("ones", dtype))


def uniform(shape: Shape, dtype: Any = np.float32, rng: Any = None, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    """Uniform in [low, high)."""
    low, high = number("uniform", "low", low), number("uniform", "high", high)
    if low > high:
        raise ValueError(explain("uniform", f"low={low} is above high={high}", "low <= high"))
    return random.generator(rng).uniform(low, high, _shape(shape)).astype(floating_dtype("uniform", dtype))


def normal(shape: Shape, dtype: Any = np.float32, rng: Any = None, mean: float = 0.0, std: float = 1.0) -> np.ndarray:
    mean, std = number("normal", "mean", mean), number("normal", "std", std, 0)
    return random.generator(rng).normal(mean, std, _shape(shape)).astype(floating_dtype("normal", dtype))


def truncated_normal(
    shape: Shape, dtype: Any = np.float32, rng: Any = None, mean: float = 0.0, std: float = 1.0, cut: float = 2.0
) -> np.ndarray:
    """Normal, but what is further than `cut` times `std` from the mean is drawn again."""
    op, dtype = "truncated_normal", floating_dtype("truncated_normal", dtype)
    mean, std, cut = number(op, "mean", mean), number(op, "std", std, 0), number(op, "cut", cut, 0, above=True)
    source = random.generator(rng)
    x = source.standard_normal(_shape(shape))
    while (far := np.absolute(x) > cut).any():
        x[far] = source.standard_normal(np.count_nonzero(far))
    return (mean + std * x).astype(dtype)


def xavier_uniform(shape: Shape, dtype: Any = np.float32, rng: Any = None, gain: float | str = 1.0) -> np.ndarray:
    """Uniform in +-gain * sqrt(6 / (fan_in + fan_out)).

    Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010,
    equation 16.
    """
    bound = gain_of(gain) * math.sqrt(6 / sum(fans(shape)))
    return uniform(shape, dtype, rng, -bound, bound)


def xavier_normal(shape: Shape, dtype: Any = np.float32, rng: Any = None, gain: float | str = 1.0) -> np.ndarray:
    """Normal with standard deviation gain * sqrt(2 / (fan_in + fan_out)): Glorot & Bengio, equation 12."""
    return normal(shape, dtype, rng, 0, gain_of(gain) * math.sqrt(2 / sum(fans(shape))))


def _fan(shape: Shape, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(explain("init", f"no mode {mode!r}", '"fan_in" or "fan_out"'))
    return fans(shape)[mode == "fan_out"]


def kaiming_uniform(
    shape: Shape, dtype: Any = np.float32, rng: Any = None, gain: float | str = "relu", mode: str = "fan_in"
) -> np.ndarray:
    """Uniform in +-gain * sqrt(3 / fan): the variance of `kaiming_normal`."""
    bound = gain_of(gain) * math.sqrt(3 / _fan(shape, mode))
    return uniform(shape, dtype, rng, -bound, bound)


def kaiming_normal(
    shape: Shape, dtype: Any = np.float32, rng: Any = None, gain: float | str = "relu", mode: str = "fan_in"
) -> np.ndarray:
    """Normal with standard deviation gain / sqrt(fan).

    He, Zhang, Ren & Sun, "Delving deep into rectifiers", ICCV 2015, equation 10 (`fan_in`) and 14 (`fan_out`).
    """
    return normal(shape, dtype, rng, 0, gain_of(gain) / math.sqrt(_fan(shape, mode)))


def orthogonal(shape: Shape, dtype: Any = np.float32, rng: Any = None, gain: float | str = 1.0) -> np.ndarray:
    """`gain` times a matrix with orthonormal rows, or columns if these are fewer; axes behind the first count as one.

    Saxe, McClelland & Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks",
    2013. Uniform among all of them, by the signs of Mezzadri, "How to generate random matrices from the classical
    compact groups", 2006, section 5.
    """
    fans(shape)
    rows, columns = shape[0], math.prod(shape[1:])
    dtype = floating_dtype("orthogonal", dtype)
    q, r = np.linalg.qr(random.generator(rng).standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.where(np.diagonal(r) < 0, -1, 1)
    return (gain_of(gain) * (q if rows >= columns else q.T)).reshape(shape).astype(dtype)


Initializer = Callable[..., np.ndarray]
INITIALIZERS: dict[str, Initializer] = {
    f.__name__: f
    for f in (
        *(zeros, ones, uniform, normal, truncated_normal, orthogonal),
        *(xavier_uniform, xavier_normal, kaiming_uniform, kaiming_normal),
    )
}


def initial(init: str | Initializer, shape: Shape, dtype: Any = np.float32, rng: Any = None) -> np.ndarray:
    """An array of first values by the name of what it is drawn from, or by a function (shape, dtype, rng).

    What a function gives in another floating dtype is converted.
    Raises:
        ValueError: there is no initialiser of that name, or the function gave another shape, whole numbers, or complex
            ones for a real dtype.
        TypeError: `init` is neither a name nor a function.
    """
    known = f"a function (shape, dtype, rng), or {', '.join(INITIALIZERS)}"
    if isinstance(init, str) and init not in INITIALIZERS:
        raise ValueError(explain("init", f"no initialiser {init!r}", known))
    if not isinstance(init, str) and not callable(init):
        raise TypeError(explain("init", f"{init!r} is no initialiser", known))
    values = np.asarray(plain((INITIALIZERS[init] if isinstance(init, str) else init)(shape, dtype, rng)))
    kinds = "fc" if np.dtype(dtype).kind == "c" else "f"
    if values.shape != shape or values.dtype.kind not in kinds:
        what = f"the initialiser gave {values.dtype} {values.shape}, not {np.dtype(dtype)} {shape}"
        raise ShapeError(explain("init", what, "an array of the shape and dtype it is called with"))
    return values.astype(dtype, copy=False)
