"""The training steps of the benchmarks do in sadl what they do in torch: the losses of ten steps, eager and compiled.

Takes the workloads of `benchmarks/` and torch's losses of `make_reference`. How fast they are is for the benchmarks.
"""

import functools
import sys
from pathlib import Path

import make_reference
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import workloads

reference = functools.cache(make_reference.reference)


@pytest.mark.parametrize("framework", ["sadl eager", "sadl"])
@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_losses_equal_torchs(name, framework):
    expected = reference("training_steps")[name]
    run = workloads.step(framework, name)
    np.testing.assert_allclose([run() for _ in expected], expected, rtol=1e-4)
    assert len(set(expected)) == len(expected)  # the parameters did move


def test_every_workload_has_reference_losses():
    assert reference("training_steps").keys() == workloads.WORKLOADS.keys()
