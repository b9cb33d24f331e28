"""The measured steps in torch. Takes a workload and a mode ("" or "compile"); gives a function that makes a step.

Each model is a function of the parameters, the inputs and the targets that gives the loss.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from workloads import GPT, WORKLOADS, arrays


def mlp(p: Any, h: Any, y: Any) -> Any:
    for i in range(n := len(p) // 2):
        h = torch.addmm(p[f"b{i}"], h, p[f"W{i}"])
        h = F.relu(h) if i < n - 1 else h
    return F.cross_entropy(h, y)


def gpt(p: Any, ids: Any, y: Any) -> Any:
    batch, time, dim, heads, vocab, layers = GPT.values()
    h = F.embedding(ids, p["tokens"]) + p["positions"]
    for i in range(layers):
        a = F.layer_norm(h, (dim,), p[f"{i}g1"], p[f"{i}h1"]) @ p[f"{i}Wqkv"] + p[f"{i}bqkv"]
        q, k, v = (t.view(batch, time, heads, dim // heads).transpose(1, 2) for t in a.split(dim, 2))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, time, dim)
        h = h + a @ p[f"{i}Wout"] + p[f"{i}bout"]
        a = F.layer_norm(h, (dim,), p[f"{i}g2"], p[f"{i}h2"]) @ p[f"{i}Wup"] + p[f"{i}bup"]
        h = h + F.gelu(a, approximate="tanh") @ p[f"{i}Wdown"] + p[f"{i}bdown"]
    logits = F.layer_norm(h, (dim,), p["g"], p["h"]) @ p["head"]
    return F.cross_entropy(logits.view(-1, vocab), y.view(-1))


def lenet(p: Any, x: Any, y: Any) -> Any:
    h = F.max_pool2d(F.relu(F.conv2d(x, p["Wc1"], p["bc1"])), 2)
    h = F.max_pool2d(F.relu(F.conv2d(h, p["Wc2"], p["bc2"])), 2)
    h = F.relu(h.flatten(1) @ p["Wf1"] + p["bf1"])
    return F.cross_entropy(h @ p["Wf2"] + p["bf2"], y)


def resblock(p: Any, x: Any, y: Any) -> Any:
    norm = lambda h, i: F.batch_norm(h, None, None, p[f"g{i}"], p[f"h{i}"], True)
    h = F.relu(norm(F.conv2d(x, p["Wc1"], p["bc1"], padding=1), 1))
    h = F.relu(x + norm(F.conv2d(h, p["Wc2"], p["bc2"], padding=1), 2))
    return F.cross_entropy(h.mean((2, 3)) @ p["Wf"] + p["bf"], y)


def rows(p: Any, x: Any, y: Any) -> Any:
    return F.cross_entropy(F.layer_norm(x, (512,), p["g"], p["h"]), y)


def chain(p: Any, x: Any, y: Any) -> Any:
    h = torch.tanh(x * p["a"]) + torch.exp(-x * x) * p["a"]
    h = torch.sigmoid(h) * torch.log1p(h * h) + torch.sqrt(h * h + 1)
    return (h * torch.sin(h)).mean()


def step(workload: str, mode: str) -> Callable[[], float]:
    x, y, parameters = arrays(workload)
    name, _, optimizer_name = WORKLOADS[workload]
    p = {k: torch.nn.Parameter(torch.from_numpy(v.copy())) for k, v in parameters.items()}
    adam = optimizer_name == "adam"
    optimizer: Any = torch.optim.Adam(p.values(), lr=1e-3) if adam else torch.optim.SGD(p.values(), 0.01, momentum=0.9)
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    loss_of, update = globals()[name], optimizer.step
    if mode == "compile":
        loss_of, update = torch.compile(loss_of), torch.compile(optimizer.step)

    def train() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(p, tx, ty)
        loss.backward()
        update()
        return loss.item()

    return train
