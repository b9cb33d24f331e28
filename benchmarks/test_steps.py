"""What does a training step cost, eager and compiled? The same steps beside other frameworks: peers.py."""

import math
from typing import Any

import pytest
from workloads import WORKLOADS, step


@pytest.mark.parametrize("framework", ["sadl eager", "sadl"])
@pytest.mark.parametrize("workload", WORKLOADS)
def test_step(benchmark: Any, workload: str, framework: str) -> None:
    run = step(framework, workload)
    for _ in range(3):  # the first two calls of a compiled step run the Python
        run()
    benchmark.group = workload
    assert math.isfinite(benchmark(run))
