"""Learn handwritten digits, first in eager mode, then compiled.

    python examples/digits.py [--steps N]

Data: scikit-learn's copy of the UCI digits, 1,797 images of 8x8 pixels, which comes with the package.
The same network is trained twice from the same start; the losses agree and the accuracy is that of both.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import side_by_side
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import sadl
import sadl.functional as F

STEPS = 880  # 20 epochs
GOAL = 0.95  # test accuracy


@cache
def load() -> Any:
    """Images and labels: for training and for the test."""
    images, labels = load_digits(return_X_y=True)
    x = (images / 16).astype(np.float32)
    x, x_test, y, y_test = train_test_split(x, labels, test_size=0.2, random_state=0)
    return (x, y), (x_test, y_test)


def batches(steps: int) -> side_by_side.Batches:
    dataset = sadl.data.ArrayDataset(*load()[0])
    loader = sadl.data.DataLoader(dataset, batch_size=32, shuffle=True, drop_last=True, seed=0)
    return side_by_side.first_batches(loader, steps)


def start() -> tuple[sadl.Mlp, side_by_side.Step]:
    """A new network, and one training step of it: forward, backward, update."""
    sadl.random.seed(0)
    model = sadl.Mlp(
        [
            sadl.Linear(dim_in=64, dim_out=64),
            sadl.ReLU(),
            sadl.Linear(dim_in=64, dim_out=32),
            sadl.ReLU(),
            sadl.Linear(dim_in=32, dim_out=10),
        ]
    )
    optimizer = sadl.SGD(model, lr=0.05, momentum=0.9)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return model, step


def accuracy(model: sadl.Mlp) -> float:
    x, y = load()[1]
    with sadl.no_grad():
        return float(np.mean(np.argmax(model(x), axis=1) == y))


def main(args: Sequence[str] | None = None) -> float:
    runs = side_by_side.train(__doc__, start, batches, STEPS, args=args)
    return side_by_side.report(runs, "test accuracy", accuracy, at_least=GOAL)


if __name__ == "__main__":
    main()
