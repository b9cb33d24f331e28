"""Random numbers: `normal`, `uniform`, `bernoulli` and `permutation` from a counter, and the generator of first values.

Takes a seed; gives Tensors, the same in eager code and in compiled programs, where the counter advances as well.
How bits become numbers is in `ops.random`. NumPy's generator, from which layers start, cannot be part of a program.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from sadl.creation import tensor
from sadl.errors import explain
from sadl.function import Buffer, Function, copy_state
from sadl.op import Op
from sadl.ops.random import (
    blocks_for,
    key_of,
    philox4x32,
    random_normal,
    random_permutation,
    random_uniform,
    words_for,
)
from sadl.tape import MODE, Traced, bind, no_grad, plain

__all__ = [
    "Generator",
    "bernoulli",
    "generator",
    "get_state",
    "load_state",
    "normal",
    "permutation",
    "philox4x32",
    "seed",
    "uniform",
]

_current: dict[str, Any] = {}  # "numpy": NumPy's generator; "counter": a Generator
_lock = threading.RLock()


class Generator(Function):
    """A source of random numbers, whose state is two Buffers: programs read and advance them as eager code does.

    They are part of the state of a Function that holds a Generator. Called, it gives what `uniform` does.

    Each number is a function of the key and of its own place in the stream (Philox4x32-10: Salmon et al., "Parallel
    random numbers: as easy as 1, 2, 3", SC 2011), so that they do not depend on how many threads there are.

    Args:
        seed: an integer >= 0 or a sequence of them; from the operating system's entropy if None.
    Attributes:
        key: a Buffer () of int64, made from the seed by numpy.random.SeedSequence.
        counter: a Buffer () of int64: how many blocks of four 32-bit words were used.
    Raises:
        ValueError, TypeError: `seed` is negative, or no integer.
    """

    def __init__(self, seed: Any = None) -> None:
        self.key = Buffer(np.array(_seeded(key_of, seed), np.int64))
        self.counter = Buffer(np.array(0, np.int64))

    def seed(self, n: Any) -> None:
        """Start anew, in the same Tensors, which programs hold."""
        self._write(_seeded(key_of, n), 0)

    def _write(self, key: Any, counter: Any) -> None:
        with _lock, no_grad():
            self.key[...] = key
            self.counter[...] = counter

    def __repr__(self) -> str:
        return f"Generator(key={int(self.key)}, counter={int(self.counter)})"

    def __call__(self, shape: Any, low: Any = 0.0, high: Any = 1.0, dtype: Any = np.float32) -> Any:
        return uniform(shape, low, high, dtype, self)

    def uniform(self, shape: Any, low: Any = 0.0, high: Any = 1.0, dtype: Any = np.float32) -> Any:
        """As `sadl.random.uniform`."""
        return uniform(shape, low, high, dtype, self)

    def normal(self, shape: Any, mean: Any = 0.0, std: Any = 1.0, dtype: Any = np.float32) -> Any:
        """As `sadl.random.normal`."""
        return normal(shape, mean, std, dtype, self)

    def bernoulli(self, p: Any, shape: Any, dtype: Any = np.float32) -> Any:
        """As `sadl.random.bernoulli`."""
        return bernoulli(p, shape, dtype, self)

    def permutation(self, n: int) -> Any:
        """As `sadl.random.permutation`."""
        return permutation(n, self)


# ---- the generators of the process ---------------------------------------------------------------------------------


def seed(n: Any) -> None:
    """Start all generators of the process anew, so that what is drawn from now on is the same in every run.

    Args:
        n: an integer >= 0, or a sequence of them.
    Raises:
        ValueError: `n` is negative.
        TypeError: `n` is not an integer.
        RuntimeError: within a compiled function.
    """
    recorder = MODE.get().recorder
    if recorder is not None:
        recorder.read("sadl.random.seed", "seed outside the compiled function, or a sadl.random.Generator inside")
    _current["numpy"] = _seeded(np.random.default_rng, n)
    _counting().seed(n)


def generator(rng: Any = None) -> "np.random.Generator":
    """NumPy's generator of this process, or the one that `rng` stands for, from which layers draw their first values.

    Without a call of `seed` before, it starts from the operating system's entropy. Drawing is safe from several
    threads at once, but in which order they get their numbers is not fixed.

    Args:
        rng: a numpy.random.Generator or a seed; or a `Generator`, whose state is the seed, and which goes on.
    """
    if isinstance(rng, Generator):
        key, counter = _state_of(rng)
        rng._write(key, counter + 1)
        return np.random.default_rng([key % 2**64, counter])
    if rng is not None:
        return _seeded(np.random.default_rng, rng)
    return _current.get("numpy") or _current.setdefault("numpy", np.random.default_rng())


def _seeded(make: Callable[[Any], Any], seed: Any) -> Any:
    """What `make` makes of a seed."""
    try:
        return make(seed)
    except (TypeError, ValueError) as error:
        need = "an integer >= 0, a sequence of them, or a sadl.random.Generator"
        raise type(error)(explain("random", f"{seed!r} is no seed ({error})", need)) from None


def _counting(rng: Any = None) -> Generator:
    """The Generator that `rng` stands for: itself, a new one from a seed, or that of the process."""
    if isinstance(rng, Generator):
        return rng
    if isinstance(rng, np.random.Generator):
        what = "NumPy's generators cannot be part of a compiled program, which would repeat the numbers of its capture"
        raise TypeError(explain("random", what, "rng=sadl.random.Generator(seed)"))
    if rng is not None:
        return Generator(rng)
    with _lock:
        return _current.get("counter") or _current.setdefault("counter", Generator())


# ---- drawing -------------------------------------------------------------------------------------------------------


def uniform(shape: Any, low: Any = 0.0, high: Any = 1.0, dtype: Any = np.float32, rng: Any = None) -> Any:
    """Numbers in [low, high), all equally likely: a Tensor of this shape and dtype.

    Args:
        shape: an integer or a tuple of them.
        low, high: numbers, or arrays that broadcast to `shape`, in which the result is differentiable. While a program
            is captured, the values of Tensors are not looked at: there, they are not checked.
        dtype: float16, float32 or float64.
        rng: a `Generator` or a seed; the one that `sadl.random.seed` seeds if None.
    Raises:
        ValueError: a bad shape or dtype; `low` above `high`.
        TypeError: `rng` is a generator of NumPy's.
    """
    if not (_is_number(low) and _is_number(high)):
        _require_all("uniform", lambda low, high: low <= high, "low <= high", low=low, high=high)
        return low + (high - low) * uniform(shape, dtype=dtype, rng=rng)
    if not low <= high:
        raise ValueError(explain("uniform", f"low={low} and high={high} are no interval", "low <= high"))
    return _draw_floats("uniform", random_uniform, shape, dtype, rng, float(low), float(high))


def normal(shape: Any, mean: Any = 0.0, std: Any = 1.0, dtype: Any = np.float32, rng: Any = None) -> Any:
    """Normally distributed numbers: a Tensor of this shape and dtype. Arguments and errors as in `uniform`.

    Computed by NumPy in compiled programs as well, so that the last bits are the same (on one kind of machine).

    Args:
        mean, std: numbers, or arrays that broadcast to `shape`, in which the result is differentiable; std >= 0.
    """
    if not (_is_number(mean) and _is_number(std)):
        _require_all("normal", lambda std: std >= 0, "std >= 0", std=std)
        return mean + std * normal(shape, dtype=dtype, rng=rng)
    if not std >= 0:
        raise ValueError(explain("normal", f"std={std} is out of range", "std >= 0"))
    return _draw_floats("normal", random_normal, shape, dtype, rng, float(mean), float(std))


def bernoulli(p: Any, shape: Any, dtype: Any = np.float32, rng: Any = None) -> Any:
    """1 with probability `p` and else 0: a Tensor of this shape and dtype. It has no gradient by `p`.

    Args:
        p: a number, or an array that broadcasts to `shape`, in [0, 1]; a probability is a multiple of 2**-24.
        dtype: any, bool included.
        shape, rng: as for `uniform`.
    """
    if not _is_number(p):
        _require_all("bernoulli", lambda p: (p >= 0) & (p <= 1), "0 <= p <= 1", p=p)
    elif not 0 <= p <= 1:
        raise ValueError(explain("bernoulli", f"p={p} is no probability", "0 <= p <= 1"))
    return (uniform(shape, rng=rng) < p).astype(dtype)


def permutation(n: int, rng: Any = None) -> Any:
    """The numbers from 0 to n - 1 in random order: a Tensor (n,) of int64. `x[permutation(len(x))]` shuffles rows."""
    if not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < 0:
        raise ValueError(
            explain("permutation", f"n={n!r} is no number of things", "x[permutation(len(x))] for an array")
        )
    return _draw(random_permutation, 2 * int(n), rng, n=int(n))


def _draw_floats(name: str, op: Op, shape: Any, dtype: Any, rng: Any, *numbers: float) -> Any:
    dtype = np.dtype(dtype)
    if dtype not in (np.float16, np.float32, np.float64):
        raise ValueError(explain(name, f"dtype={dtype} is not float16, float32 or float64", ".astype on the result"))
    try:
        shape = tuple(int(n.__index__()) for n in (shape if isinstance(shape, (tuple, list)) else (shape,)))
    except AttributeError:
        shape = (-1,)
    if any(n < 0 for n in shape):
        raise ValueError(explain(name, "the shape is no tuple of integers >= 0", "(n, m)"))
    return _draw(op, words_for(math.prod(shape), dtype), rng, *numbers, shape=shape, dtype=dtype)


def _require_all(op: str, holds: Callable[..., Any], need: str, **values: Any) -> None:
    """Raise unless all elements of these arrays are as they must be, where they can be read."""
    if MODE.get().recorder is not None and any(isinstance(x, Traced) for x in values.values()):
        return
    wrong = ~holds(*(np.asarray(plain(x)) for x in values.values()))  # NaN included
    if np.any(wrong):
        arrays = np.broadcast_arrays(wrong, *map(plain, values.values()))[1:]
        found = " and ".join(f"{name}={x[wrong][0]}" for name, x in zip(values, arrays, strict=True))
        what = f"{found} is out of range, as {np.count_nonzero(wrong)} of {wrong.size} elements are"
        raise ValueError(explain(op, what, need))


def _is_number(x: Any) -> bool:
    return isinstance(x, (int, float, np.number))


def _draw(op: Op, n_words: int, rng: Any, *inputs: float, **params: Any) -> Any:
    """Run `op` on the state of a generator, which goes on by so many words."""
    source = _counting(rng)
    with _lock:
        for log in _logs.get():
            log.setdefault(source, _state_of(source))
        counter = source.counter
        out = bind(op, source.key, counter, *inputs, **params)
        counter += blocks_for(n_words)
    return out


# ---- states --------------------------------------------------------------------------------------------------------


def get_state() -> OrderedDict[str, Any]:
    """The state of the generators of the process: `key` and `counter`, and NumPy's as six integers, `numpy`."""
    bits = generator().bit_generator.state
    inner = [bits["state"][name] >> shift & _WORD for name in ("state", "inc") for shift in (64, 0)]
    words = np.array([*inner, bits["has_uint32"], bits["uinteger"]], np.uint64)
    return OrderedDict({**_counting().get_state(), "numpy": tensor(words)})


def load_state(state: Mapping[str, Any]) -> None:
    """Put the generators of the process back to what `get_state` gave.

    Raises:
        KeyError: keys are missing or unexpected.
        ValueError: an entry has another shape or kind of dtype. Nothing was changed then.
    """
    places = {**_counting().get_buffers(), "numpy": tensor(np.zeros(6, np.uint64))}
    copy_state("load_state", "State", places, state, match_device=False, partial=False)
    a, b, c, d, has_uint32, uinteger = places["numpy"].tolist()
    inner = {"state": a << 64 | b, "inc": c << 64 | d}
    bits = {"bit_generator": "PCG64", "state": inner, "has_uint32": has_uint32, "uinteger": uinteger}
    generator().bit_generator.state = bits


_WORD = (1 << 64) - 1

_Log = dict[Any, Any]  # a generator -> its state before it was first drawn from
_logs: ContextVar[tuple[_Log, ...]] = ContextVar("sadl_random_logs", default=())


def _state_of(source: Any) -> Any:
    if isinstance(source, Generator):
        return int(source.key), int(source.counter)
    return source.bit_generator.state


def _put_back(source: Any, state: Any) -> None:
    if isinstance(source, Generator):
        source._write(*state)
    else:
        source.bit_generator.state = state


@contextmanager
def noted() -> Iterator[_Log]:
    """Within it, write down the state from which each generator is drawn from, but of NumPy's that of the process."""
    log: _Log = {}
    source = generator()
    before = _state_of(source)
    token = _logs.set((*_logs.get(), log))
    try:
        yield log
    finally:
        _logs.reset(token)
        if _state_of(source) != before:
            log[source] = before


@contextmanager
def rewound(log: _Log) -> Iterator[None]:
    """Within it, these generators start from the states that `noted` wrote down; then they go on as before."""
    now = {source: _state_of(source) for source in log}
    for source, state in log.items():
        _put_back(source, state)
    try:
        yield
    finally:
        for source, state in now.items():
            _put_back(source, state)


@contextmanager
def undrawn() -> Iterator[None]:
    """What is drawn within it from these generators (as in `noted`) is drawn again after it."""
    log: _Log = {}
    try:
        with noted() as log:
            yield
    finally:
        for source, state in log.items():
            _put_back(source, state)
