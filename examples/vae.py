"""Invent handwritten digits with a variational auto-encoder.

    python examples/vae.py [--steps N]

Data: scikit-learn's copy of the UCI digits, 8x8 pixels, each made black or white.
Model: Kingma & Welling, "Auto-encoding variational Bayes", 2014. What is maximised is a lower bound of the logarithm of
the probability of an image (the ELBO); the loss is its negative, in nats per image.
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

STEPS = 1320  # 30 epochs
GOAL = 20.0  # nats per test image
LATENT = 8  # numbers that stand for an image


@cache
def load() -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 64) of zeros and ones: for training and for the test."""
    pixels, _ = load_digits(return_X_y=True)
    train, test = train_test_split((pixels >= 8).astype(np.float32), test_size=0.2, random_state=0)
    return train, test


def batches(steps: int) -> side_by_side.Batches:
    dataset = sadl.data.ArrayDataset(load()[0])
    loader = sadl.data.DataLoader(dataset, batch_size=32, shuffle=True, drop_last=True, seed=0)
    return side_by_side.first_batches(loader, steps)


class VAE(sadl.Function):
    def __init__(self) -> None:
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT, 128), nn.ReLU(), nn.Linear(128, 64))

    def __call__(self, x: Any) -> Any:
        """The negative ELBO of images (n, 64), from one draw for each."""
        mean, log_variance = np.split(self.encoder(x), 2, axis=-1)
        z = mean + np.exp(log_variance / 2) * sadl.random.normal(mean.shape)
        reconstruction = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        divergence = np.sum(mean**2 + np.exp(log_variance) - log_variance - 1) / 2
        return (reconstruction + divergence) / len(x)


def start() -> tuple[VAE, side_by_side.Step]:
    sadl.random.seed(0)
    model = VAE()
    optimizer = sadl.Adam(model, lr=3e-3)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = model(x)
        loss.backward()
        optimizer.step()
        return loss

    return model, step


def test_loss(model: VAE) -> float:
    sadl.random.seed(1)
    with sadl.no_grad():
        return float(model(load()[1]))


def drawing(model: VAE, n: int) -> str:
    """Images that nobody has written, side by side."""
    with sadl.no_grad():
        black = F.sigmoid(model.decoder(sadl.random.normal((n, LATENT))))
    rows = np.asarray(black).reshape(n, 8, 8).transpose(1, 0, 2)
    return "\n".join("   ".join("".join(" .+#"[int(4 * p)] for p in row) for row in line) for line in rows)


def main(args: Sequence[str] | None = None) -> float:
    runs = side_by_side.train(__doc__, start, batches, STEPS, args=args)
    score = side_by_side.report(runs, "nats per test image", test_loss, at_most=GOAL)
    print("\n" + drawing(runs.compiled.model, 8))
    return score


if __name__ == "__main__":
    main()
