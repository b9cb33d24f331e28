"""Linear regression in plain NumPy: a loss, its gradient from `sadl.value_and_grad`, and `w -= lr * g`.

    python examples/linear_regression.py [--steps N]

Data: scikit-learn's diabetes data, ten measurements of 442 patients and how the illness went on.
What gradient descent finds is compared with the solution in closed form.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import side_by_side
from sklearn.datasets import load_diabetes

import sadl

STEPS, EAGER_STEPS = 4000, 1000
GOAL = 1e-4  # how far the predictions are from the best ones, in standard deviations of what is predicted
RATE = 0.2

Weights = dict[str, np.ndarray]


@cache
def load() -> tuple[np.ndarray, np.ndarray]:
    """Measurements (n, 10), each with mean 0 and variance 1, and outcomes (n,) with variance 1."""
    x, y = load_diabetes(return_X_y=True)
    return ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32), (y / y.std()).astype(np.float32)


def batches(steps: int) -> side_by_side.Batches:
    return [load()] * steps  # all patients on each step


def predict(weights: Weights, x: Any) -> Any:
    return x @ weights["w"] + weights["b"]


def mean_square(weights: Weights, x: Any, y: Any) -> Any:
    return np.mean((predict(weights, x) - y) ** 2)


def start() -> tuple[Weights, side_by_side.Step]:
    weights = {"w": np.zeros(10, np.float32), "b": np.zeros((), np.float32)}
    loss_and_slope = sadl.value_and_grad(mean_square)

    def step(x: Any, y: Any) -> Any:
        loss, slope = loss_and_slope(weights, x, y)
        for name in weights:
            weights[name] -= RATE * slope[name]
        return loss

    return weights, step


def distance(weights: Weights) -> float:
    """Root of the mean square of the difference to the predictions of the closed form."""
    x, y = load()
    columns = np.column_stack([x, np.ones(len(x))])
    best, *_ = np.linalg.lstsq(columns, y)
    return float(np.sqrt(np.mean((predict(weights, x) - columns @ best) ** 2)))


def main(args: Sequence[str] | None = None) -> float:
    runs = side_by_side.train(__doc__, start, batches, STEPS, EAGER_STEPS, args=args)
    return side_by_side.report(runs, "distance from closed form", distance, at_most=GOAL)


if __name__ == "__main__":
    main()
