"""The measured steps in sadl. Takes a workload and a mode ("" or "eager"); gives a function that makes a step.

Each model is made of layers and takes the workload's parameters in the order in which it has them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from workloads import GPT, WORKLOADS, arrays

import sadl
import sadl.functional as F
from sadl import nn


def mlp(p: dict[str, np.ndarray]) -> sadl.Function:
    shapes = [w.shape for w in p.values() if w.ndim == 2]
    return sadl.Mlp([f for a, b in shapes for f in (nn.Linear(a, b), nn.ReLU())][:-1])


class Gpt(sadl.Function):
    def __init__(self, p: dict[str, np.ndarray]) -> None:
        dim, heads = GPT["dim"], GPT["heads"]
        block = lambda: nn.TransformerBlock(dim, heads, activation=nn.GELU("tanh"))
        self.tokens = nn.Embedding(GPT["vocab"], dim)
        self.positions = sadl.Parameter(p["positions"])
        self.blocks = [block() for _ in range(GPT["layers"])]
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, GPT["vocab"], bias=False)

    def __call__(self, ids: Any) -> Any:
        h = self.tokens(ids) + self.positions
        for block in self.blocks:
            h = block(h, is_causal=True)
        return self.head(self.norm(h))


def lenet(p: dict[str, np.ndarray]) -> sadl.Function:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


class Norm(sadl.Function):
    """By the statistics of the batch, without running ones, as in the other frameworks' steps."""

    def __init__(self, channels: int) -> None:
        self.weight, self.bias = sadl.Parameter(np.ones(channels, "f4")), sadl.Parameter(np.zeros(channels, "f4"))

    def __call__(self, x: Any) -> Any:
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True)


class Resblock(sadl.Function):
    def __init__(self, p: dict[str, np.ndarray]) -> None:
        self.conv1, self.norm1 = nn.Conv2d(32, 32, 3, padding=1), Norm(32)
        self.conv2, self.norm2 = nn.Conv2d(32, 32, 3, padding=1), Norm(32)
        self.head = nn.Linear(32, 10)

    def __call__(self, x: Any) -> Any:
        h = F.relu(self.norm1(self.conv1(x)))
        h = F.relu(x + self.norm2(self.conv2(h)))
        return self.head(np.mean(h, axis=(2, 3)))


def rows(p: dict[str, np.ndarray]) -> sadl.Function:
    return nn.LayerNorm(512)


class Chain(sadl.Function):
    def __init__(self, p: dict[str, np.ndarray]) -> None:
        self.a = sadl.Parameter(p["a"])

    def __call__(self, x: Any) -> Any:
        h = np.tanh(x * self.a) + np.exp(-x * x) * self.a
        h = F.sigmoid(h) * np.log1p(h * h) + np.sqrt(h * h + 1)
        return np.mean(h * np.sin(h))


MODELS: dict[str, Callable[[dict[str, np.ndarray]], sadl.Function]] = {
    "mlp": mlp,
    "gpt": Gpt,
    "lenet": lenet,
    "resblock": Resblock,
    "rows": rows,
    "chain": Chain,
}


def step(workload: str, mode: str) -> Callable[[], float]:
    x, y, parameters = arrays(workload)
    name, _, optimizer_name = WORKLOADS[workload]
    model = MODELS[name](parameters)
    model.load_parameters(dict(zip(model.get_parameters(), parameters.values(), strict=True)))
    adam = optimizer_name == "adam"
    optimizer = sadl.Adam(model, lr=1e-3) if adam else sadl.SGD(model, lr=0.01, momentum=0.9)

    def train(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        out = model(x)
        loss = out if out.ndim == 0 else F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
        return loss

    run = train if mode == "eager" else sadl.compile(train)
    return lambda: float(run(x, y))
