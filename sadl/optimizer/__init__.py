"""Optimizers: pure update rules in a shell that keeps the state and writes in place; clipping of gradients.

Takes the Parameters of a Function, or groups of them, and their gradients; changes the Parameters' own memory.
How a rate changes over time is left to `schedules`.
"""

from sadl.optimizer.clipping import clip_grad_norm, clip_grad_value
from sadl.optimizer.optimizers import SGD, Adagrad, Adam, AdamW, Lion, RMSprop
from sadl.optimizer.order import toposort
from sadl.optimizer.shell import Group, Optimizer, Params

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Group",
    "Lion",
    "Optimizer",
    "Params",
    "RMSprop",
    "clip_grad_norm",
    "clip_grad_value",
    "toposort",
]
