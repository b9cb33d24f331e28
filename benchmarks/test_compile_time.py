"""How long until a compiled step runs? In a process that finds no kernels (cold), and in the next one (warm).

Times of the table are those of whole processes; the seconds of the steps, without imports, are printed below it.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from workloads import WORKLOADS

ROUNDS = 3
CHILD = """
import json, sys, time
sys.path.insert(0, {here!r})
from workloads import step
import sadl.compiler.api
from sadl.kernels import store

run = step("sadl", {workload!r})
start = time.perf_counter()
run()
first = time.perf_counter() - start
run(), run()
ready = time.perf_counter() - start
print(json.dumps(dict(first=first, ready=ready, compiled=store.stats.compiled, loaded=store.stats.loaded)))
"""


def in_process(workload: str, cache: Path) -> dict[str, float]:
    """Three steps in a new process: seconds of the first and of all three, kernels compiled and loaded."""
    program = CHILD.format(here=str(Path(__file__).parent), workload=workload)
    environment = {**os.environ, "SADL_CACHE_DIR": str(cache)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def describe(name: str, found: list[dict[str, float]]) -> str:
    first, ready = (statistics.median(f[key] for f in found) for key in ("first", "ready"))
    compiled, loaded = found[-1]["compiled"], found[-1]["loaded"]
    return f"{name:16s} first step {first:6.3f} s, three {ready:6.3f} s, kernels: {compiled} compiled, {loaded} loaded"


@pytest.mark.parametrize("workload", WORKLOADS)
def test_cold(benchmark: Any, report: Callable[[str], None], tmp_path: Path, workload: str) -> None:
    folders = iter(range(10 * ROUNDS))
    found: list[dict[str, float]] = []
    benchmark.group = "processes of three steps"
    benchmark.pedantic(lambda: found.append(in_process(workload, tmp_path / str(next(folders)))), rounds=ROUNDS)
    assert found[-1]["compiled"] > 0 == found[-1]["loaded"]
    benchmark.extra_info.update(found[-1])
    report(describe(f"cold {workload}", found))


@pytest.mark.parametrize("workload", WORKLOADS)
def test_warm(benchmark: Any, report: Callable[[str], None], tmp_path: Path, workload: str) -> None:
    in_process(workload, tmp_path)
    found: list[dict[str, float]] = []
    benchmark.group = "processes of three steps"
    benchmark.pedantic(lambda: found.append(in_process(workload, tmp_path)), rounds=ROUNDS)
    assert found[-1]["loaded"] > 0 == found[-1]["compiled"]
    benchmark.extra_info.update(found[-1])
    report(describe(f"warm {workload}", found))
