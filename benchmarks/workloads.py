"""The training steps that are measured: inputs and initial parameters, the same for every framework.

Takes the name of a workload; `arrays` gives its data, `step(framework, workload)` a function that makes one training
step and returns the loss as a float. What a step does is written in `steps_sadl`, `steps_torch` and `steps_jax`, of
which only the one that is asked for is imported.
"""

import importlib
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

FRAMEWORKS = ("sadl", "sadl eager", "torch", "torch.compile", "jax")
GPT = {"batch": 8, "time": 128, "dim": 256, "heads": 4, "vocab": 65, "layers": 2}
Data = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]


class Workload(NamedTuple):
    model: str  # the function that makes it in each of the modules
    data: Callable[[np.random.Generator], Data]
    optimizer: str  # sgd: lr 0.01, momentum 0.9; adam: lr 0.001


def arrays(workload: str) -> Data:
    """(x, y, parameters): float32 inputs, or int64 tokens; int64 classes; float32 parameters by name, in order."""
    return WORKLOADS[workload].data(np.random.default_rng(0))


def step(framework: str, workload: str) -> Callable[[], float]:
    """A function that makes one training step of a workload in a framework; it returns the loss."""
    name, _, mode = framework.replace(".compile", " compile").partition(" ")
    return importlib.import_module(f"steps_{name}").step(workload, mode)


def _single(a: Any) -> np.ndarray:
    return np.asarray(a, np.float32)


def _mlp(batch: int, *sizes: int) -> Callable[[np.random.Generator], Data]:
    """Scaled normal weights (inputs, outputs) and zero biases, layer by layer."""

    def data(rng: np.random.Generator) -> Data:
        parameters = {}
        for i, (a, b) in enumerate(itertools.pairwise(sizes)):
            parameters[f"W{i}"] = _single(rng.standard_normal((a, b)) / np.sqrt(a))
            parameters[f"b{i}"] = np.zeros(b, np.float32)
        return _single(rng.standard_normal((batch, sizes[0]))), rng.integers(0, sizes[-1], batch), parameters

    return data


def _gpt(rng: np.random.Generator) -> Data:
    """Tokens, and the parameters of a decoder that normalises first; weights (inputs, outputs)."""
    dim, vocab, shape = GPT["dim"], GPT["vocab"], (GPT["batch"], GPT["time"])
    weight = lambda *shape: _single(0.02 * rng.standard_normal(shape))
    parameters = {"tokens": weight(vocab, dim), "positions": weight(GPT["time"], dim)}
    for i in range(GPT["layers"]):
        for norm in (1, 2):
            parameters |= {f"{i}g{norm}": np.ones(dim, np.float32), f"{i}h{norm}": np.zeros(dim, np.float32)}
        for name, a, b in (("qkv", dim, 3 * dim), ("out", dim, dim), ("up", dim, 4 * dim), ("down", 4 * dim, dim)):
            parameters |= {f"{i}W{name}": weight(a, b), f"{i}b{name}": np.zeros(b, np.float32)}
    parameters |= {"g": np.ones(dim, np.float32), "h": np.zeros(dim, np.float32), "head": weight(dim, vocab)}
    return rng.integers(0, vocab, shape), rng.integers(0, vocab, shape), parameters


def _images(batch: int, image: tuple[int, ...], **weights: tuple[int, ...]) -> Callable[[np.random.Generator], Data]:
    """Convolutions (outputs, inputs, height, width), products (inputs, outputs), their biases, scales and shifts."""

    def data(rng: np.random.Generator) -> Data:
        parameters: dict[str, np.ndarray] = {}
        for name, shape in weights.items():
            if name.startswith("g"):
                parameters |= {name: np.ones(shape, np.float32), name.replace("g", "h"): np.zeros(shape, np.float32)}
                continue
            outputs = shape[0] if len(shape) == 4 else shape[1]
            parameters[f"W{name}"] = _single(0.05 * rng.standard_normal(shape))
            parameters[f"b{name}"] = np.zeros(outputs, np.float32)
        return _single(rng.standard_normal((batch, *image))), rng.integers(0, 10, batch), parameters

    return data


def _rows(rng: np.random.Generator) -> Data:
    parameters = {"g": np.ones(512, np.float32), "h": np.zeros(512, np.float32)}
    return _single(rng.standard_normal((4096, 512))), rng.integers(0, 512, 4096), parameters


def _chain(rng: np.random.Generator) -> Data:
    x, a = _single(rng.standard_normal((2, 1 << 20)))
    return x, np.zeros(1, np.int64), {"a": a}


_LENET = {"c1": (16, 1, 5, 5), "c2": (32, 16, 5, 5), "f1": (512, 128), "f2": (128, 10)}
_RESBLOCK = {"c1": (32, 32, 3, 3), "g1": (32,), "c2": (32, 32, 3, 3), "g2": (32,), "f": (32, 10)}

WORKLOADS = {
    "mlp_tiny": Workload("mlp", _mlp(8, 2, 16, 16, 2), "sgd"),
    "mlp_small": Workload("mlp", _mlp(64, 784, 256, 128, 10), "sgd"),
    "mlp_adam": Workload("mlp", _mlp(128, 784, 512, 512, 10), "adam"),
    "mlp_large": Workload("mlp", _mlp(256, 784, 1024, 1024, 10), "sgd"),
    "gpt": Workload("gpt", _gpt, "adam"),
    "lenet": Workload("lenet", _images(64, (1, 28, 28), **_LENET), "sgd"),
    "resblock": Workload("resblock", _images(16, (32, 32, 32), **_RESBLOCK), "sgd"),
    "rows": Workload("rows", _rows, "sgd"),  # a layer norm, then cross entropy of 512 classes
    "chain": Workload("chain", _chain, "adam"),  # a dozen operations on each of a million elements
}
