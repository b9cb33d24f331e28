"""The thread team: threads of this process that help to run a table of launches.

Takes the address of the native `work` loop and a number of threads; gives the address of the state they share, for as
long as it is held. Nobody depends on them: a thread that gets no processor takes no tile. Between steps they look for
work for a moment, then sleep. A forked child starts with a team of its own.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

KERNEL = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
)
STATE_WORDS = 64
_unused = np.zeros(8, np.int64)  # where Numba's calling convention puts a result, which there is none of
UNUSED = _unused.ctypes.data


class Team:
    """`size - 1` helpers, started when they are first needed."""

    def __init__(self, size: int, work_address: int) -> None:
        self.size = size
        memory = np.zeros(STATE_WORDS + 8, np.int64)
        skip = -memory.ctypes.data % 64 // 8
        self._memory = memory[skip : skip + STATE_WORDS]  # on cache lines of its own
        self._state = self._memory.ctypes.data
        self._work = KERNEL(work_address)
        self._busy = threading.Lock()
        self._helpers: list[_Helper] = []

    @contextmanager
    def held(self) -> Iterator[int]:
        """The address of the state, with the helpers awake; 0 while another thread of this process has the team."""
        if not self._busy.acquire(blocking=False):
            yield 0
            return
        try:
            self.wake()
            yield self._state
        finally:
            self._busy.release()

    def wake(self) -> None:
        while len(self._helpers) < self.size - 1:
            self._helpers.append(_Helper(lambda: self._work(UNUSED, UNUSED, self._state, 0, 0)))
        for helper in self._helpers:
            helper.wake()


class _Helper:
    def __init__(self, work: Callable[[], object]) -> None:
        self._work, self._awake, self._event = work, False, threading.Event()
        threading.Thread(target=self._loop, name="sadl-team", daemon=True).start()

    def wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._event.set()

    def _loop(self) -> None:
        while True:
            self._event.wait()
            self._event.clear()
            self._work()
            self._awake = False


_teams: dict[int, Team] = {}
os.register_at_fork(after_in_child=_teams.clear)


def get_team(size: int, work_address: Callable[[], int]) -> Team | None:
    """The team of this process with so many threads; None for one thread, who needs no team."""
    if size > 1 and size not in _teams:
        _teams[size] = Team(size, work_address())
    return _teams.get(size)
