"""Every switch of sadl, declared once: its type, its default, its environment variable and what it does.

Takes `SADL_<NAME>` at first use and `with sadl.config(name=value):` later; gives typed values as attributes.
What a switch does is left to the code that reads it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WORDS = {"0": False, "false": False, "off": False, "1": True, "true": True, "on": True}


def _flag(text: str) -> bool:
    return _WORDS[text.strip().lower()]


def _level(text: str) -> int:
    return range(6)[int(text)]


def _count(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _default_cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sadl"


@dataclass(frozen=True)
class Switch:
    """One setting: `parse` reads the environment's text, `valid` says in words what it accepts."""

    parse: Callable[[str], Any]
    valid: str
    default: Callable[[], Any]
    help: str


SWITCHES = {
    "debug": Switch(_level, "0 to 5", lambda: 0, "1 compilations, 2 kernel times, 3 IR, 4 kernel source, 5 rewrites"),
    "jit": Switch(_flag, "0 or 1", lambda: True, "0 runs kernels as plain Python functions, so that pdb works"),
    "compile": Switch(_flag, "0 or 1", lambda: True, "0 makes sadl.compile the identity"),
    "verify": Switch(_flag, "0 or 1", lambda: False, "1 checks the graph after every pass"),
    "threads": Switch(
        _count, "1 or more", _processors, "threads that run a program together; results do not depend on it"
    ),
    "cache": Switch(_flag, "0 or 1", lambda: True, "0 keeps compiled kernels in memory only"),
    "cache_dir": Switch(Path, "a folder", _default_cache_dir, "where kernels and their machine code are kept"),
}


class Config:
    """The settings in force: `sadl.config.debug`, or `with sadl.config(debug=3):` for a while."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name not in SWITCHES:
            raise AttributeError(f"[config] no switch {name!r}. Instead: one of {', '.join(SWITCHES)}.")
        if name not in self._values:
            self._values[name] = _from_environment(name)
        return self._values[name]

    @contextmanager
    def __call__(self, **settings: Any) -> Iterator["Config"]:
        checked = {name: _checked(name, value) for name, value in settings.items()}
        before = {name: getattr(self, name) for name in checked}
        self._values.update(checked)
        try:
            yield self
        finally:
            self._values.update(before)


def _from_environment(name: str) -> Any:
    text = os.environ.get(f"SADL_{name.upper()}")
    return SWITCHES[name].default() if text is None else _checked(name, text)


def _checked(name: str, value: Any) -> Any:
    if name not in SWITCHES:
        raise ValueError(f"[config] no switch {name!r}. Instead: one of {', '.join(SWITCHES)}.")
    try:
        return SWITCHES[name].parse(str(int(value)) if isinstance(value, bool) else str(value))
    except (ValueError, KeyError, IndexError):
        valid = SWITCHES[name].valid
        raise ValueError(f"[config] SADL_{name.upper()}={value!r} is not valid. Instead: {valid}.") from None


config = Config()


def show_config() -> None:
    """Print every switch with its value, its environment variable and its meaning."""
    for name, switch in SWITCHES.items():
        print(f"SADL_{name.upper():10s} {getattr(config, name)!s:30s} {switch.help} ({switch.valid})")
