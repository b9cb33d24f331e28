"""What does one operation cost in eager mode? See overhead.py, which prints the same as one table."""

from typing import Any

import pytest
from overhead import CHAIN, OPERATIONS, WAYS, chain


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_chain_of_operations(benchmark: Any, name: str, way: str) -> None:
    benchmark.group = f"{CHAIN} x {name}"
    benchmark(chain(name, way))
    if benchmark.stats:
        benchmark.extra_info["us_per_op"] = benchmark.stats.stats.median * 1e6 / CHAIN
