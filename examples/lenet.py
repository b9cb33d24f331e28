"""Read handwritten digits with convolutions: a small LeNet with batch normalisation and dropout.

    python examples/lenet.py [--steps N]

Data: scikit-learn's copy of the UCI digits, 1,797 images of 8x8 pixels, which comes with the package.
Model: after LeCun et al., "Gradient-based learning applied to document recognition", 1998, for smaller images.
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
from sadl import nn

STEPS = 660  # 15 epochs
GOAL = 0.97  # test accuracy


@cache
def load() -> Any:
    """Images (n, 1, 8, 8) and labels (n,): for training and for the test."""
    data = load_digits()
    x = (data.images / 16).astype(np.float32)[:, None]
    x, x_test, y, y_test = train_test_split(x, data.target, test_size=0.2, random_state=0)
    return (x, y), (x_test, y_test)


def batches(steps: int) -> side_by_side.Batches:
    dataset = sadl.data.ArrayDataset(*load()[0])
    loader = sadl.data.DataLoader(dataset, batch_size=32, shuffle=True, drop_last=True, seed=0)
    return side_by_side.first_batches(loader, steps)


def start() -> tuple[nn.Sequential, side_by_side.Step]:
    sadl.random.seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),  # to 4x4
        nn.Conv2d(8, 16, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),  # to 2x2
        nn.Flatten(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Linear(64, 10),
    )
    optimizer = sadl.Adam(model, lr=2e-3)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return model, step


def accuracy(model: nn.Sequential) -> float:
    """Without dropout, and with the statistics that batch normalisation has gathered."""
    x, y = load()[1]
    model.inference()
    with sadl.no_grad():
        return float(np.mean(np.argmax(model(x), axis=1) == y))


def main(args: Sequence[str] | None = None) -> float:
    runs = side_by_side.train(__doc__, start, batches, STEPS, args=args)
    return side_by_side.report(runs, "test accuracy", accuracy, at_least=GOAL)


if __name__ == "__main__":
    main()
