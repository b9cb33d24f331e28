"""Random numbers from a counter: Philox4x32-10 as operations of a key and a counter, which are their whole state.

Takes a key and a counter of blocks, 0-d int64 each; gives words, uniform and normal numbers, or a permutation: each is
a function of the state and of its own place, on any number of threads. Advancing the counter is left to `sadl.random`.
"""

import functools
import math
from typing import Any

import numpy as np

from sadl.op import Aval, Op, call, elementwise
from sadl.ops.elementwise import iota
from sadl.tape import bind

ROUNDS = 10
CHUNK = 8192  # blocks at a time, which stay in the cache
GROUP = 1024  # blocks that are made at once for several small draws
_MULTIPLIERS = np.array([[0xD2511F53], [0xCD9E8D57]], np.uint64)
_WEYL = np.arange(ROUNDS)[:, None] * np.array([0x9E3779B9, 0xBB67AE85])  # what is added to the key in each round
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox4x32(counter: Any, key: Any) -> np.ndarray:
    """Philox4x32-10 of each block: (4, n) counters and a (2,) key, of uint32, to (4, n) uint32 words.

    Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3.
    """
    even, odd, product, high = np.empty((4, 2, np.shape(counter)[1]), np.uint64)
    even[...], odd[...] = counter[0::2], counter[1::2]
    for round_key in (_WEYL + key).astype(np.uint64)[:, :, None] & _LOW:
        np.multiply(even, _MULTIPLIERS, out=product)
        np.right_shift(product[::-1], _HALF, out=high)
        np.bitwise_xor(high, odd, out=high)
        np.bitwise_xor(high, round_key, out=even)
        np.bitwise_and(product[::-1], _LOW, out=odd)
    return np.array([even[0], odd[0], even[1], odd[1]], np.uint32)


def _of_blocks(blocks: Any, key: Any) -> np.ndarray:
    """The words (4, n) of these blocks (n,), numbered by uint64."""
    counter = np.zeros((4, len(blocks)), np.uint64)
    np.bitwise_and(blocks, _LOW, out=counter[0])
    np.right_shift(blocks, _HALF, out=counter[1])
    return philox4x32(counter, np.array([key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF]))


def _from(start: int, stop: int, key: int) -> np.ndarray:
    """The words of the blocks from `start` to `stop`, in order."""
    out = np.empty((stop - start, 4), np.uint32)
    for i in range(start, stop, CHUNK):
        blocks = np.arange(i, min(i + CHUNK, stop), dtype=np.uint64)
        out[i - start : i - start + CHUNK] = _of_blocks(blocks, key).T
    return out.reshape(-1)


@functools.lru_cache(16)
def _group(number: int, key: int) -> np.ndarray:
    out = _from(number * GROUP, (number + 1) * GROUP, key)
    out.flags.writeable = False
    return out


def key_of(seed: Any) -> int:
    """The key, an int64, that a seed stands for: an integer >= 0 or a sequence of them; None for another each time."""
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64).astype(np.int64)[0])


def blocks_for(n_words: int) -> int:
    """How far the counter goes on for so many words."""
    return -(-n_words // 4)


def words(key: Any, counter: Any, n: int) -> np.ndarray:
    """`n` uint32 words, four from each block; not to be written, since small draws share them."""
    start, key = int(counter), int(key)
    stop = start + blocks_for(n)
    first, last = start // GROUP, (stop - 1) // GROUP
    if n > GROUP or first != last:
        return _from(start, stop, key)[:n]
    return _group(first, key)[4 * (start % GROUP) :][:n]


# ---- words as numbers ----------------------------------------------------------------------------------------------

_DIGITS = {np.dtype(np.float16): 11, np.dtype(np.float32): 24}  # of the mantissa


def words_for(n: int, dtype: Any) -> int:
    """How many words so many numbers of a floating dtype are made of."""
    return 2 * n if np.dtype(dtype) == np.float64 else n


def _fractions(key: Any, counter: Any, n: int, dtype: np.dtype) -> np.ndarray:
    """`n` multiples of half the dtype's eps in [0, 1), all equally likely; no operation rounds."""
    if dtype == np.float64:
        a, b = words(key, counter, 2 * n).reshape(n, 2).T
        return ((a >> 5) * 2.0**26 + (b >> 6)) * 2.0**-53
    digits = _DIGITS[dtype]
    return (words(key, counter, n) >> (32 - digits)).astype(dtype) * dtype.type(2.0**-digits)


def _run_uniform(key: Any, counter: Any, low: Any, high: Any, *, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    x = _fractions(key, counter, math.prod(shape), dtype).reshape(shape)
    if (low, high) == (0, 1):
        return x
    low, high = dtype.type(low), dtype.type(high)
    return np.minimum(low + (high - low) * x, max(low, np.nextafter(high, low)))  # the sum may round up to `high`


def _run_normal(key: Any, counter: Any, mean: Any, std: Any, *, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The transform of Box & Muller, "A note on the generation of random normal deviates", 1958."""
    n, inner = math.prod(shape), np.result_type(dtype, np.float32)
    half = -(-n // 2)
    if inner == np.float64:
        u, v = _fractions(key, counter, 2 * half, inner).reshape(half, 2).T
        u = 1 - u
    else:  # all 32 bits, so that small numbers, and with them the tails, are fine
        u, v = words(key, counter, 2 * half).reshape(half, 2).T.astype(np.float32) * np.float32(2.0**-32)
        u = u + np.float32(2.0**-33)
    radius, angle = np.sqrt(-2 * np.log(u)), v * inner.type(2 * np.pi)
    z = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:n].reshape(shape)
    return (z if (mean, std) == (0, 1) else inner.type(mean) + inner.type(std) * z).astype(dtype, copy=False)


def _run_permutation(key: Any, counter: Any, *, n: int) -> np.ndarray:
    a, b = words(key, counter, 2 * n).reshape(n, 2).T
    return np.argsort(a.astype(np.uint64) << _HALF | b, kind="stable")


# ---- in kernels ----------------------------------------------------------------------------------------------------


def _run_bits(place: Any, counter: Any, key: Any, shift: int) -> np.ndarray:
    blocks = np.asarray(counter).astype(np.uint64) + (np.ravel(place) // 4).astype(np.uint64)
    found = _of_blocks(blocks, int(key))[np.ravel(place) % 4, np.arange(np.size(place))]
    return (found >> shift).astype(np.int64).reshape(np.shape(place))


def _bits(digits: int) -> Op:
    """The leading binary digits of the word at a place behind a counter: three int64s to one."""
    shift = 32 - digits
    run = lambda place, counter, key: _run_bits(place, counter, key, shift)
    name, expr = f"random_bits_{digits}", f"philox({{c}}, {{x}}, {{y}}) >> {shift}"
    return elementwise(run, expr, _NONE[:3], name, tested=False, infer=lambda op, place, *_: place)


def _in_kernel(key: Any, counter: Any, low: Any, high: Any, *, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """`random_uniform` by operations that fuse with what the numbers are for, to the same bits."""
    if (low, high) != (0, 1) or dtype == np.float16 or not math.prod(shape) or not shape:
        return None
    like = np.broadcast_to(counter, shape)
    steps = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    along = [bind(iota, like, axis=i) * step for i, step in enumerate(steps) if shape[i] > 1] or [like * 0]
    place = functools.reduce(np.add, along)
    if dtype == np.float32:
        return bind(random_bits_24, place, counter, key).astype(dtype) * 2.0**-24
    a, b = bind(random_bits_27, place * 2, counter, key), bind(random_bits_26, place * 2 + 1, counter, key)
    return (a * 2**26 + b).astype(dtype) * 2.0**-53


def _infer(op: Op, *_: Any, shape: tuple[int, ...], dtype: np.dtype) -> Aval:
    return Aval(shape, dtype)


_NONE = (None, None, None, None)
random_bits_24, random_bits_26, random_bits_27 = map(_bits, (24, 26, 27))
random_uniform = call("random_uniform", _run_uniform, _NONE, infer=_infer, expand=_in_kernel, tested=False)
random_normal = call("random_normal", _run_normal, _NONE, infer=_infer, tested=False)
random_permutation = call(
    "random_permutation",
    _run_permutation,
    _NONE[:2],
    infer=lambda op, *_, n: Aval((n,), np.dtype(np.int64)),
    tested=False,
)
