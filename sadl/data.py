"""Data in batches: datasets, and a loader that shuffles by a seed, prepares batches ahead, and can go on in mid-epoch.

Takes samples by number or from a generator; gives batches as plain arrays, nested as the samples are.
Everything random depends on seed, epoch and place alone, never on threads; other randomness is left to `sadl.random`.
"""

import contextvars
import itertools
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import closing
from typing import Any

import numpy as np

from sadl.creation import tensor
from sadl.errors import explain
from sadl.function import copy_state, snapshot
from sadl.functional.checks import flag
from sadl.ops.random import key_of, random_permutation
from sadl.tape import MODE, plain
from sadl.tree import flatten, unflatten

# ---- datasets ------------------------------------------------------------------------------------------------------


class Dataset(ABC):
    """Samples by number: what a subclass has to define. Anything else with these two methods will do as well.

    A sample is an array or a number, or nested lists, tuples and dicts of them. Where whole batches are faster to get
    than samples, define `batch(indices)`, which takes an integer array (n,) and gives arrays of n rows.
    """

    @abstractmethod
    def __len__(self) -> int:
        """How many samples there are."""

    @abstractmethod
    def __getitem__(self, index: int) -> Any:
        """Sample number `index`."""


class ArrayDataset(Dataset):
    """Samples that are the rows of arrays: sample i is the tuple of all `array[i]`.

    Args:
        arrays: arrays or Tensors with the same number of rows, at least one.
    Raises:
        ValueError: none, or one of another length, or without an axis.
    """

    def __init__(self, *arrays: Any) -> None:
        self.arrays = tuple(np.asarray(plain(a)) for a in arrays)
        if len({a.shape[:1] for a in self.arrays}) != 1 or self.arrays[0].ndim == 0:
            shapes = ", ".join(str(a.shape) for a in self.arrays) or "none"
            raise ValueError(explain("ArrayDataset", f"arrays of shapes {shapes} have no common number of rows"))

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: Any) -> tuple[np.ndarray, ...]:
        return tuple(a[index] for a in self.arrays)

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(np.take(a, indices, axis=0) for a in self.arrays)


class GeneratorDataset:
    """Samples in the order in which a generator gives them; they cannot be shuffled.

    Args:
        make: a function that gives a new generator (or other iterable) of samples for each epoch. For a run to go on
            in mid-epoch, it has to give the same samples again.
        length: how many samples an epoch has; more are not asked for, fewer are an error. Unknown if None.
    """

    def __init__(self, make: Callable[[], Iterable[Any]], length: int | None = None) -> None:
        if not callable(make):
            what = f"a {type(make).__name__} lasts for one epoch only"
            raise TypeError(explain("GeneratorDataset", what, "a function that gives a new one: lambda: make(...)"))
        self.make = make
        self.length = None if length is None else _count("GeneratorDataset", "length", length, 1)

    def __iter__(self) -> Iterator[Any]:
        """The samples of one epoch.

        Raises:
            ValueError: there are fewer than `length`, or none at all.
        """
        n = 0
        for n, sample in enumerate(itertools.islice(self.make(), self.length), 1):  # noqa: B007
            yield sample
        if n < (self.length or 1):
            wanted = "at least 1" if self.length is None else f"the {self.length} that `length` says"
            what = f"the generator ended after {n} samples, before {wanted}"
            raise ValueError(explain("GeneratorDataset", what, "its true length, and a new generator from each call"))


def collate(samples: list[Any]) -> Any:
    """A batch: the leaves of nested samples stacked along a new first axis. Dicts may have their keys in any order.

    Raises:
        ValueError: samples differ in nesting or shape.
        TypeError: a leaf is neither an array nor a number nor text.
    """
    rows, structures = zip(*map(flatten, samples), strict=True)
    odd = next((i for i, s in enumerate(structures) if s != structures[0]), None)
    if odd is not None:
        ordered = [_in_order(s, samples[0]) for s in samples]
        if any(flatten(s)[1] != structures[0] for s in ordered):
            what = f"the samples 0 and {odd} of a batch are nested in different ways"
            raise ValueError(explain("collate", what, f"nest all like {samples[0]!r:.100}"))
        rows = tuple(flatten(s)[0] for s in ordered)
    return unflatten(structures[0], [_stacked(column) for column in zip(*rows, strict=True)])


def _in_order(sample: Any, first: Any) -> Any:
    """`sample` with the keys of its dicts in the order of those of `first`, where they are the same."""
    if isinstance(sample, dict) and isinstance(first, dict) and sample.keys() == first.keys():
        ordered = sample.copy()
        ordered.clear()
        ordered.update((key, _in_order(sample[key], first[key])) for key in first)
        return ordered
    is_sequence = isinstance(sample, (list, tuple)) and isinstance(first, (list, tuple)) and len(sample) == len(first)
    if not is_sequence:
        return sample
    items = [_in_order(a, b) for a, b in zip(sample, first, strict=True)]
    return type(sample)(*items) if hasattr(sample, "_fields") else type(sample)(items)


def _stacked(values: Any) -> np.ndarray:
    arrays = [np.asarray(plain(v)) for v in values]
    odd = next((i for i, a in enumerate(arrays) if a.shape != arrays[0].shape), None)
    if odd is not None:
        what = f"the samples 0 and {odd} of a batch have shapes {arrays[0].shape} and {arrays[odd].shape}"
        instead = "pad or crop them in the dataset, or DataLoader(..., collate=) with a function that does"
        raise ValueError(explain("collate", what, instead))
    batch = np.stack(arrays)
    if batch.dtype == object:
        kinds = ", ".join(sorted({type(v).__name__ for v in values}))
        raise TypeError(explain("collate", f"a batch cannot be made of {kinds}", "samples of arrays and numbers"))
    return batch


# ---- the loader ----------------------------------------------------------------------------------------------------


class DataLoader:
    """Goes through a dataset in batches, once per `for` loop; a thread prepares the next ones meanwhile.

    The order depends on the seed and the number of the epoch. A loop that was left early is over: the next one is the
    next epoch, except after `load_state`, when it goes on where the state was taken. So a run that may be resumed is
    written `while loader.epoch < epochs: for x, y in loader: ...`.

    Args:
        dataset: a `Dataset`, anything with `len()` and `[i]`, a `GeneratorDataset` or the function for one, or anything
            else that gives its samples anew each time it is iterated.
        batch_size: samples per batch; the last one may be shorter.
        shuffle: another order in each epoch.
        drop_last: leave the last batch away if it is shorter.
        seed: an integer >= 0, or a sequence of them; from the operating system's entropy if None.
        transform: a function of a batch and a numpy.random.Generator, which is the same whenever this batch of this
            epoch is made; its result takes the place of the batch. For augmentation: what a dataset draws elsewhere, as
            from `sadl.random`, depends on how far ahead the thread is.
        prefetch: how many batches are prepared ahead; 0 makes each when it is asked for, without a thread.
        collate: a function that makes a batch of a list of samples, such as have to be padded; if None, `collate`, or
            the dataset's own `batch` where it has one.
    Attributes:
        epoch: the number of the epoch, from 0: that of the loop that is running, else of the next one.
        position: how many batches of it were handed out.
    Raises:
        ValueError: a number is out of range; no batch is left; shuffling a generator.
        TypeError: something that is no dataset; `shuffle` or `drop_last` is neither True nor False.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: Any = None,
        *,
        transform: Callable[[Any, "np.random.Generator"], Any] | None = None,
        prefetch: int = 2,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        self.dataset, self.collate = _dataset(dataset), collate
        self.batch_size = _count("DataLoader", "batch_size", batch_size, 1)
        self.shuffle, self.drop_last = (
            flag("DataLoader", "shuffle", shuffle),
            flag("DataLoader", "drop_last", drop_last),
        )
        self.transform = transform
        self.prefetch = _count("DataLoader", "prefetch", prefetch, 0)
        if shuffle and isinstance(self.dataset, GeneratorDataset):
            what = "the samples of a generator come in its own order"
            raise ValueError(explain("DataLoader", what, "shuffle=False, or shuffle where they are made"))
        n = self._length()
        if n is not None and _batches_in(n, self.batch_size, self.drop_last) == 0:
            what = f"{n} samples make no batch of {self.batch_size} with drop_last={self.drop_last}"
            raise ValueError(explain("DataLoader", what))
        layout = [-1 if n is None else n, self.batch_size, self.shuffle, self.drop_last]
        numbers = {"epoch": 0, "position": 0, "layout": layout}
        self._state = {name: tensor(value, dtype=np.int64) for name, value in numbers.items()}
        self._state["key"] = tensor(np.random.SeedSequence(seed).generate_state(2))
        self._goes_on = False  # whether the next loop is in mid-epoch
        self._current: Any = None  # stands for the loop that is running

    @property
    def epoch(self) -> int:
        return int(self._state["epoch"])

    @property
    def position(self) -> int:
        return int(self._state["position"])

    def __len__(self) -> int:
        """The number of batches of an epoch.

        Raises:
            TypeError: a generator of unknown length.
        """
        n = self._length()
        if n is None:
            what = "the generator has no known length"
            raise TypeError(explain("DataLoader", what, "sadl.data.GeneratorDataset(make, length)"))
        return _batches_in(n, self.batch_size, self.drop_last)

    def _length(self) -> int | None:
        return self.dataset.length if isinstance(self.dataset, GeneratorDataset) else len(self.dataset)

    def __iter__(self) -> Iterator[Any]:
        recorder = MODE.get().recorder
        if recorder is not None:
            recorder.read("a loop over a DataLoader", "pass each batch to the compiled function as an argument")
        if self.position and not self._goes_on:
            self._go_to(self.epoch + 1, 0)
        self._goes_on, self._current = False, object()
        return self._loop(self._current)

    def _loop(self, current: Any) -> Iterator[Any]:
        made: Any = self._made(self.epoch, self.position)
        source: Any = _ahead(made, self.prefetch) if self.prefetch else made
        with closing(source):
            for batch in source:
                self._require_current(current)
                self._go_to(self.epoch, self.position + 1)
                yield batch
        self._require_current(current)
        self._go_to(self.epoch + 1, 0)

    def _require_current(self, current: Any) -> None:
        if self._current is not current:
            what = "another loop over this loader, or load_state, came before the end of this one"
            raise RuntimeError(explain("DataLoader", what, "one loader for each loop"))

    def _go_to(self, epoch: int, position: int) -> None:
        plain(self._state["epoch"])[...], plain(self._state["position"])[...] = epoch, position

    # ---- making batches --------------------------------------------------------------------------------------------

    def _made(self, epoch: int, start: int) -> Iterator[Any]:
        """The batches of an epoch from number `start` on."""
        key = plain(self._state["key"]).tolist()
        by_number = not isinstance(self.dataset, GeneratorDataset)
        made = self._by_number([*key, epoch], start) if by_number else self._from_generator(start)
        number = start
        try:
            for number, batch in enumerate(made, start):
                if self.transform is not None:
                    batch = self.transform(batch, np.random.default_rng([*key, epoch, number]))
                yield batch
                number += 1
        except Exception as error:
            of = f", of {self._length()} samples as len() of the dataset says" if by_number else ""
            error.add_note(f"While a DataLoader made batch {number} of epoch {epoch}{of}.")
            raise

    def _by_number(self, key: list[int], start: int) -> Iterator[Any]:
        n = len(self.dataset)
        order = np.arange(n)
        if self.shuffle:
            order = random_permutation.run(key_of(key), 0, n=n)
        whole = None if self.collate else getattr(self.dataset, "batch", None)
        for i in range(start, len(self)):
            rows = order[i * self.batch_size : (i + 1) * self.batch_size]
            yield whole(rows) if whole else self._collated([self.dataset[i] for i in rows.tolist()])

    def _collated(self, samples: list[Any]) -> Any:
        return (self.collate or collate)(samples)

    def _from_generator(self, start: int) -> Iterator[Any]:
        samples = iter(self.dataset)
        skipped = sum(1 for _ in itertools.islice(samples, start * self.batch_size))
        if start and skipped <= (start - 1) * self.batch_size:
            what = f"the generator ended after {skipped} samples, before the batch {start} at which to go on"
            raise ValueError(explain("DataLoader", what, "a generator that gives the same samples again"))
        count = start
        while rows := list(itertools.islice(samples, self.batch_size)):
            if len(rows) == self.batch_size or not self.drop_last:
                count += 1
                yield self._collated(rows)
        if not count:
            what = f"the generator ended before the first batch of {self.batch_size}"
            raise ValueError(explain("DataLoader", what, "drop_last=False"))

    # ---- state -----------------------------------------------------------------------------------------------------

    def get_state(self) -> OrderedDict[str, Any]:
        """Copies of `epoch`, `position`, `key` (from the seed) and `layout`, for `sadl.save` and `load_state`.

        Within a loop, the batch that was handed out last counts as used.
        """
        return snapshot(self._state)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from where `get_state` was called: the next loop begins with the batch after that.

        Raises:
            KeyError: keys are missing or unexpected.
            ValueError: an entry does not fit; the number of samples, `batch_size`, `shuffle` or `drop_last` was
                another. Nothing was changed then.
        """
        loaded = snapshot(self._state)
        copy_state("load_state", "State", loaded, state, match_device=False, partial=False)
        names = ("samples", "batch_size", "shuffle", "drop_last")
        own, other = self._state["layout"].tolist(), loaded["layout"].tolist()
        wrong = [f"{n}={b} (now {a})" for n, a, b in zip(names, own, other, strict=True) if a != b]
        if wrong or loaded["position"] < 0 or loaded["epoch"] < 0:
            what = f"the state is of a loader with {', '.join(wrong) or 'a negative position'}"
            raise ValueError(explain("DataLoader", what, "the loader as it was when the state was taken"))
        copy_state("load_state", "State", self._state, state, match_device=False, partial=False)
        self._goes_on, self._current = True, None


def _dataset(given: Any) -> Any:
    if isinstance(given, Mapping) or (isinstance(given, tuple) and any(isinstance(a, np.ndarray) for a in given)):
        what = f"a {type(given).__name__} of arrays has no samples by number"
        raise TypeError(explain("DataLoader", what, "sadl.data.ArrayDataset(x, y)"))
    if isinstance(given, GeneratorDataset) or (hasattr(given, "__len__") and hasattr(given, "__getitem__")):
        return given
    if callable(given):
        return GeneratorDataset(given)
    if isinstance(given, Iterator):
        what = f"a {type(given).__name__} lasts for one epoch only"
        raise TypeError(
            explain("DataLoader", what, "a function that gives a new one for each epoch: lambda: make(...)")
        )
    if isinstance(given, Iterable):
        return GeneratorDataset(given.__iter__, len(given) if isinstance(given, Sized) else None)
    raise TypeError(explain("DataLoader", f"a {type(given).__name__} is no dataset", "sadl.data.ArrayDataset(x, y)"))


def _count(op: str, name: str, value: Any, least: int) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise ValueError(explain(op, f"{name}={value!r} is out of range", f"an integer >= {least}"))
    return int(value)


def _batches_in(n: int, size: int, drop_last: bool) -> int:
    return n // size if drop_last else -(-n // size)


# ---- ahead of time -------------------------------------------------------------------------------------------------


class _Buffer:
    """Items on their way from one thread to another; at most `size` of them wait."""

    def __init__(self, size: int) -> None:
        self.size, self.items = size, deque[Any]()
        self.closed = False
        self.change = threading.Condition()

    def put(self, item: Any) -> bool:
        """Wait for a place, and say whether anybody still wants items."""
        with self.change:
            self.change.wait_for(lambda: self.closed or len(self.items) < self.size)
            self.items.append(item)
            self.change.notify_all()
            return not self.closed

    def take(self) -> Any:
        with self.change:
            self.change.wait_for(lambda: self.items)
            self.change.notify_all()
            return self.items.popleft()

    def close(self) -> None:
        with self.change:
            self.closed = True
            self.change.notify_all()


def _ahead(items: Iterator[Any], size: int) -> Iterator[Any]:
    """The same items, made by a thread that is at most `size` ahead; its errors are raised when it is their turn.

    The thread ends with the iteration, however that ends.
    """
    buffer = _Buffer(size)
    context = contextvars.copy_context()  # gradients are recorded, or not, as they would be here
    thread = threading.Thread(target=context.run, args=(_fill, buffer, items), name="sadl-data", daemon=True)
    thread.start()
    try:
        while True:
            item, error, is_last = buffer.take()
            if error is not None:
                raise error
            if is_last:
                return
            yield item
    finally:
        buffer.close()
        if thread is not threading.current_thread():  # a collection of garbage may end up here from anywhere
            thread.join()


def _fill(buffer: _Buffer, items: Any) -> None:
    try:
        with closing(items):
            for item in items:
                if not buffer.put((item, None, False)):
                    return
        buffer.put((None, None, True))
    except BaseException as error:
        buffer.put((None, error, False))
