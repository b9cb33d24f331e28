"""Logistic regression in plain NumPy: a loss, its gradient from `sadl.value_and_grad`, and `w -= lr * g`.

    python examples/logistic_regression.py [--steps N]

Data: scikit-learn's breast cancer data, thirty measurements of 569 tumours, benign or malignant.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import side_by_side
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import sadl

STEPS = 1000
GOAL = 0.95  # test accuracy
RATE, DECAY = 0.5, 1e-3

Weights = dict[str, np.ndarray]


@cache
def load() -> Any:
    """Measurements (n, 30), and 1 for benign and -1 for malignant (n,): for training and for the test."""
    x, y = load_breast_cancer(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, 2 * y - 1, test_size=0.2, random_state=0)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    scaled = [((a - mean) / deviation).astype(np.float32) for a in (x, x_test)]
    return (scaled[0], y.astype(np.float32)), (scaled[1], y_test)


def batches(steps: int) -> side_by_side.Batches:
    return [load()[0]] * steps  # all tumours on each step


def log_odds(weights: Weights, x: Any) -> Any:
    return x @ weights["w"] + weights["b"]


def loss(weights: Weights, x: Any, y: Any) -> Any:
    """-log(probability of y), and something for large weights."""
    return np.mean(np.logaddexp(0, -y * log_odds(weights, x))) + DECAY * np.sum(weights["w"] ** 2)


def start() -> tuple[Weights, side_by_side.Step]:
    weights = {"w": np.zeros(30, np.float32), "b": np.zeros((), np.float32)}
    loss_and_slope = sadl.value_and_grad(loss)

    def step(x: Any, y: Any) -> Any:
        value, slope = loss_and_slope(weights, x, y)
        for name in weights:
            weights[name] -= RATE * slope[name]
        return value

    return weights, step


def accuracy(weights: Weights) -> float:
    x, y = load()[1]
    return float(np.mean(np.sign(log_odds(weights, x)) == y))


def main(args: Sequence[str] | None = None) -> float:
    runs = side_by_side.train(__doc__, start, batches, STEPS, args=args)
    return side_by_side.report(runs, "test accuracy", accuracy, at_least=GOAL)


if __name__ == "__main__":
    main()
