"""Bars: how far a loop is, on the screen, with the numbers that it wants to show.

Takes anything that can be iterated; gives its items one by one, unchanged. The bar is that of the package tqdm where it
is installed, else there are a few plain lines. Keeping numbers in files is left to `logs`.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np

from sadl.errors import explain
from sadl.tape import MODE, plain

Item = TypeVar("Item")
SECONDS = 10.0  # between two plain lines


def progress(items: Iterable[Item], text: str = "") -> "Progress[Item]":
    """`items`, for a `for` loop that shows on stderr how far it is: `for x, y in (bar := sadl.progress(loader)):`.

    With the package tqdm (`pip install tqdm`) it is a bar; without it a line at the end, and one every ten seconds.
    Where a `DataLoader` goes on in the middle of an epoch, so does the bar.

    Args:
        items: anything that can be iterated; how much is left is shown if it has a length.
        text: what stands in front.
    """
    return Progress(items, text)


class Progress(Generic[Item]):
    """What `progress` gives: the items, and `show` for numbers beside the bar."""

    def __init__(self, items: Iterable[Item], text: str = "") -> None:
        if not isinstance(items, Iterable) and not hasattr(items, "__getitem__"):
            raise TypeError(explain("progress", f"a {type(items).__name__} cannot be iterated", "range(n) to count"))
        self.items, self.text = items, text
        self._values: dict[str, Any] = {}
        self._bar: Any = None

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Item]:
        source = iter(self.items)
        at = getattr(self.items, "position", 0)
        bar = self._bar = _bar(_length(self.items), at if isinstance(at, int) else 0, self.text)
        try:
            for item in source:
                yield item
                bar.update()
        finally:
            bar.close()

    def show(self, **values: Any) -> None:
        """Show numbers, Tensors of one number, or text beside the bar from now on: `bar.show(loss=loss, lr=0.1)`."""
        recorder = MODE.get().recorder
        if recorder is not None:
            recorder.read("progress.show", "return the value and show it outside")
        self._values |= values
        if self._bar is not None:
            text = ", ".join(f"{name}={_short(value)}" for name, value in self._values.items())
            self._bar.set_postfix_str(text, refresh=False)


def _length(items: Any) -> int | None:
    try:
        return len(items)
    except TypeError:  # a generator
        return None


def _short(value: Any) -> str:
    value = plain(value)
    if isinstance(value, (np.ndarray, np.generic)) and value.size == 1:
        value = value.item()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _bar(total: int | None, at: int, text: str) -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        return _PlainLines(total, at, text)
    return tqdm(desc=text or None, total=total, initial=at, unit="step", dynamic_ncols=True)


class _PlainLines:
    """What is used of tqdm, as plain lines."""

    def __init__(self, total: int | None, at: int, text: str) -> None:
        self.n, self.total, self.text, self.values = at, total, text, ""
        self.begun_at, self.begun = at, time.monotonic()
        self.printed = self.begun

    def set_postfix_str(self, values: str, refresh: bool = False) -> None:
        self.values = values

    def update(self) -> None:
        self.n += 1
        if time.monotonic() - self.printed >= SECONDS:
            self.close()

    def close(self) -> None:
        """Print a line."""
        self.printed = time.monotonic()
        took = self.printed - self.begun
        name, of = f"{self.text}: " if self.text else "", "" if self.total is None else f" of {self.total}"
        rate = (self.n - self.begun_at) / max(took, 1e-9)
        values = f", {self.values}" if self.values else ""
        print(f"{name}{self.n}{of} steps in {took:.1f} s, {rate:.3g} per second{values}", file=sys.stderr, flush=True)
