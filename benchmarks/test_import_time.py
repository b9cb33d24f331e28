"""What does `import sadl` add to `import numpy`? Medians of processes that take turns."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

ROUNDS = 9
CHILD = """
import json, sys, time
start = time.perf_counter()
import {module}
seconds = time.perf_counter() - start
print(json.dumps([seconds, sorted({{"numba", "llvmlite", "cupy"}} & set(sys.modules))]))
"""


def import_seconds(module: str) -> float:
    """Seconds to import `module` in a new process, which must not have imported what is for later."""
    command = [sys.executable, "-c", CHILD.format(module=module)]
    seconds, heavy = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert not heavy, f"import {module} also imports {', '.join(heavy)}"
    return seconds


def test_import(benchmark: Any, report: Callable[[str], None]) -> None:
    import_seconds("sadl")  # writes what bytecode is missing
    found: dict[str, list[float]] = {"numpy": [], "sadl": []}

    def one_of_each() -> None:
        for module, times in found.items():
            times.append(import_seconds(module))

    benchmark.pedantic(one_of_each, rounds=ROUNDS)
    numpy_ms, sadl_ms = (1e3 * statistics.median(found[module]) for module in ("numpy", "sadl"))
    benchmark.extra_info.update(numpy_ms=numpy_ms, sadl_ms=sadl_ms)
    report(f"import sadl {sadl_ms:.0f} ms, import numpy {numpy_ms:.0f} ms: {sadl_ms - numpy_ms:.0f} ms more")
