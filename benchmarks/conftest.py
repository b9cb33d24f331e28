"""What all benchmarks share: OpenBLAS chooses its own kernels, and figures that are no timings of a call get printed.

Takes nothing; gives the fixture `report`, whose lines come out below pytest-benchmark's table.
"""

import os
import sys
from collections.abc import Callable

import pytest

if os.environ.pop("OPENBLAS_CORETYPE", None) and "numpy" in sys.modules:
    raise RuntimeError("NumPy was imported with OPENBLAS_CORETYPE set: unset it and start again.")

_lines: list[str] = []


@pytest.fixture
def report() -> Callable[[str], None]:
    return _lines.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _lines:
        terminalreporter.section("other figures")
        for line in _lines:
            terminalreporter.write_line(line)
