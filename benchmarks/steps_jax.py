"""The measured steps in jax.jit. Takes a workload; gives a function that makes a step.

Each model is a function of the parameters, the inputs and the targets that gives the loss.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from workloads import GPT, WORKLOADS, arrays


def cross_entropy(z: Any, y: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(z), y[..., None], -1).mean()


def standardised(x: Any, axis: Any) -> Any:
    centred = x - x.mean(axis, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(axis, keepdims=True) + 1e-5)


def conv(x: Any, w: Any, b: Any, padding: str) -> Any:
    y = jax.lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=("NCHW", "OIHW", "NCHW"))
    return y + b[:, None, None]


def pool(x: Any) -> Any:
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def mlp(p: Any, h: Any, y: Any) -> Any:
    for i in range(n := len(p) // 2):
        h = h @ p[f"W{i}"] + p[f"b{i}"]
        h = jax.nn.relu(h) if i < n - 1 else h
    return cross_entropy(h, y)


def gpt(p: Any, ids: Any, y: Any) -> Any:
    batch, time, dim, heads, _, layers = GPT.values()
    seen = jnp.tril(jnp.ones((time, time), bool))
    norm = lambda h, i, k: standardised(h, -1) * p[f"{i}g{k}"] + p[f"{i}h{k}"]
    h = p["tokens"][ids] + p["positions"]
    for i in range(layers):
        a = norm(h, i, 1) @ p[f"{i}Wqkv"] + p[f"{i}bqkv"]
        q, k, v = (t.reshape(batch, time, heads, -1).transpose(0, 2, 1, 3) for t in jnp.split(a, 3, -1))
        scores = jnp.where(seen, q @ k.swapaxes(-1, -2) / np.sqrt(dim // heads), -1e30)
        a = (jax.nn.softmax(scores, -1) @ v).transpose(0, 2, 1, 3).reshape(batch, time, dim)
        h = h + a @ p[f"{i}Wout"] + p[f"{i}bout"]
        a = jax.nn.gelu(norm(h, i, 2) @ p[f"{i}Wup"] + p[f"{i}bup"])
        h = h + a @ p[f"{i}Wdown"] + p[f"{i}bdown"]
    return cross_entropy((standardised(h, -1) * p["g"] + p["h"]) @ p["head"], y)


def lenet(p: Any, x: Any, y: Any) -> Any:
    h = pool(jax.nn.relu(conv(x, p["Wc1"], p["bc1"], "VALID")))
    h = pool(jax.nn.relu(conv(h, p["Wc2"], p["bc2"], "VALID")))
    h = jax.nn.relu(h.reshape(len(x), -1) @ p["Wf1"] + p["bf1"])
    return cross_entropy(h @ p["Wf2"] + p["bf2"], y)


def resblock(p: Any, x: Any, y: Any) -> Any:
    norm = lambda h, i: standardised(h, (0, 2, 3)) * p[f"g{i}"][:, None, None] + p[f"h{i}"][:, None, None]
    h = jax.nn.relu(norm(conv(x, p["Wc1"], p["bc1"], "SAME"), 1))
    h = jax.nn.relu(x + norm(conv(h, p["Wc2"], p["bc2"], "SAME"), 2))
    return cross_entropy(h.mean((2, 3)) @ p["Wf"] + p["bf"], y)


def rows(p: Any, x: Any, y: Any) -> Any:
    return cross_entropy(standardised(x, -1) * p["g"] + p["h"], y)


def chain(p: Any, x: Any, y: Any) -> Any:
    h = jnp.tanh(x * p["a"]) + jnp.exp(-x * x) * p["a"]
    h = jax.nn.sigmoid(h) * jnp.log1p(h * h) + jnp.sqrt(h * h + 1)
    return (h * jnp.sin(h)).mean()


tree = jax.tree.map


def sgd(p: Any, m: Any, v: Any, t: Any, g: Any) -> Any:
    m = tree(lambda m, g: 0.9 * m + g, m, g)
    return tree(lambda p, m: p - 0.01 * m, p, m), m, v


def adam(p: Any, m: Any, v: Any, t: Any, g: Any) -> Any:
    m = tree(lambda m, g: 0.9 * m + 0.1 * g, m, g)
    v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
    scale, root = 1e-3 / (1 - 0.9**t), jnp.sqrt(1 - 0.999**t)
    return tree(lambda p, m, v: p - scale * m / (jnp.sqrt(v) / root + 1e-8), p, m, v), m, v


def step(workload: str, mode: str) -> Callable[[], float]:
    x, y, parameters = arrays(workload)
    name, _, optimizer = WORKLOADS[workload]
    loss_of, update = globals()[name], globals()[optimizer]

    def whole(p: Any, m: Any, v: Any, t: Any, x: Any, y: Any) -> Any:
        loss, g = jax.value_and_grad(loss_of)(p, x, y)
        return *update(p, m, v, t, g), t + 1, loss

    compiled = jax.jit(whole, donate_argnums=(0, 1, 2))
    p = tree(jnp.asarray, parameters)
    state = [p, tree(jnp.zeros_like, p), tree(jnp.zeros_like, p), jnp.float32(1)]
    jx, jy = jnp.asarray(x), jnp.asarray(y)

    def train() -> float:
        *state[:], loss = compiled(*state, jx, jy)
        return float(loss)

    return train
