"""The training steps that are measured, in sadl and in the peers: same arrays, same initial parameters, same updates.

Takes the name of a workload; `arrays` gives its data, `step(framework, workload)` a function that makes one training
step and returns the loss as a float. torch and jax are imported only by their own steps.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

# name: (batch, layer sizes, optimizer); sgd has lr 0.01 and momentum 0.9, adam lr 0.001
WORKLOADS = {
    "mlp_tiny": (8, (2, 16, 16, 2), "sgd"),
    "mlp_small": (64, (784, 256, 128, 10), "sgd"),
    "mlp_adam": (128, (784, 512, 512, 10), "adam"),
    "mlp_large": (256, (784, 1024, 1024, 10), "sgd"),
}
FRAMEWORKS = ("sadl", "sadl eager", "torch", "torch.compile", "jax")


def arrays(workload: str) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """(x, y, [(W, b), ...]): float32 inputs, int64 classes, He-scaled weights and zero biases."""
    batch, sizes, _ = WORKLOADS[workload]
    rng = np.random.default_rng(0)
    layers = []
    for a, b in itertools.pairwise(sizes):
        layers.append(((rng.standard_normal((a, b)) / np.sqrt(a)).astype(np.float32), np.zeros(b, np.float32)))
    return rng.standard_normal((batch, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], batch), layers


def step(framework: str, workload: str) -> Callable[[], float]:
    if framework.startswith("sadl"):
        return sadl_step(workload, compiled=framework == "sadl")
    return jax_step(workload) if framework == "jax" else torch_step(workload, compiled=framework == "torch.compile")


def sadl_step(workload: str, compiled: bool) -> Callable[[], float]:
    import sadl
    import sadl.functional as F

    x, y, layers = arrays(workload)
    model = sadl.Mlp(
        [f for a, b in (w.shape for w, _ in layers) for f in (sadl.Linear(dim_in=a, dim_out=b), sadl.ReLU())][:-1]
    )
    model.load_parameters(
        parameters={
            f"layers[{2 * i}].{n}": sadl.Tensor(v)
            for i, pair in enumerate(layers)
            for n, v in zip("Wb", pair, strict=True)
        }
    )
    adam = WORKLOADS[workload][2] == "adam"
    optimizer = sadl.Adam(model, lr=1e-3) if adam else sadl.SGD(model, lr=0.01, momentum=0.9)

    def train(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run = sadl.compile(train) if compiled else train
    return lambda: float(run(x, y))


def torch_step(workload: str, compiled: bool) -> Callable[[], float]:
    import torch
    import torch.nn.functional as F

    x, y, layers = arrays(workload)
    weights = [tuple(torch.nn.Parameter(torch.from_numpy(v.copy())) for v in pair) for pair in layers]
    flat = [p for pair in weights for p in pair]
    adam = WORKLOADS[workload][2] == "adam"
    optimizer = torch.optim.Adam(flat, lr=1e-3) if adam else torch.optim.SGD(flat, lr=0.01, momentum=0.9)
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)

    def forward(h: Any, y: Any) -> Any:
        for i, (w, b) in enumerate(weights):
            h = torch.addmm(b, h, w)
            h = F.relu(h) if i < len(weights) - 1 else h
        return F.cross_entropy(h, y)

    loss_of, update = (torch.compile(forward), torch.compile(optimizer.step)) if compiled else (forward, optimizer.step)

    def train() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(tx, ty)
        loss.backward()
        update()
        return loss.item()

    return train


def jax_step(workload: str) -> Callable[[], float]:
    import jax
    import jax.numpy as jnp

    x, y, layers = arrays(workload)

    def loss_of(p: Any, h: Any, y: Any) -> Any:
        for i, (w, b) in enumerate(p):
            h = h @ w + b
            h = jax.nn.relu(h) if i < len(p) - 1 else h
        return -jnp.take_along_axis(jax.nn.log_softmax(h), y[:, None], -1).mean()

    tree = jax.tree.map

    def sgd(p: Any, m: Any, v: Any, t: Any, g: Any) -> Any:
        m = tree(lambda m, g: 0.9 * m + g, m, g)
        return tree(lambda p, m: p - 0.01 * m, p, m), m, v

    def adam(p: Any, m: Any, v: Any, t: Any, g: Any) -> Any:
        m = tree(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        scale, root = 1e-3 / (1 - 0.9**t), jnp.sqrt(1 - 0.999**t)
        return tree(lambda p, m, v: p - scale * m / (jnp.sqrt(v) / root + 1e-8), p, m, v), m, v

    update = adam if WORKLOADS[workload][2] == "adam" else sgd

    def whole(p: Any, m: Any, v: Any, t: Any, x: Any, y: Any) -> Any:
        loss, g = jax.value_and_grad(loss_of)(p, x, y)
        return *update(p, m, v, t, g), t + 1, loss

    compiled = jax.jit(whole, donate_argnums=(0, 1, 2))
    p = tree(jnp.asarray, layers)
    state = [p, tree(jnp.zeros_like, p), tree(jnp.zeros_like, p), jnp.float32(1)]
    jx, jy = jnp.asarray(x), jnp.asarray(y)

    def train() -> float:
        *state[:], loss = compiled(*state, jx, jy)
        return float(loss)

    return train
