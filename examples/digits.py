"""Learn handwritten digits, first in eager mode, then with one added line: `sadl.compile`.

    python examples/digits.py [--epochs N]

Data: scikit-learn's copy of the UCI digits, 1,797 images of 8x8 pixels, which comes with the package.
The same network is trained twice from the same start; the losses agree and the accuracy is that of both.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import sadl
import sadl.functional as F

BATCH = 32


def make_model() -> sadl.Mlp:
    sadl.random.seed(0)
    return sadl.Mlp(
        [
            sadl.Linear(dim_in=64, dim_out=64),
            sadl.ReLU(),
            sadl.Linear(dim_in=64, dim_out=32),
            sadl.ReLU(),
            sadl.Linear(dim_in=32, dim_out=10),
        ]
    )


def make_step(model: sadl.Mlp) -> Callable[[Any, Any], Any]:
    """One training step: forward, backward, update."""
    optimizer = sadl.SGD(model, lr=0.05, momentum=0.9)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def batches(x: np.ndarray, y: np.ndarray, epochs: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Shuffled batches of one size, the same for both runs."""
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(x))[: len(x) // BATCH * BATCH].reshape(-1, BATCH) for _ in range(epochs)]
    return [(x[i], y[i]) for order in orders for i in order]


def train(name: str, step: Callable[[Any, Any], Any], data: list[Any]) -> tuple[list[float], float]:
    """The loss and the median microseconds of each step."""
    losses, times = [], []
    with tqdm(data, desc=name, unit="step", mininterval=0.2) as progress:
        for x, y in progress:
            start = time.perf_counter()
            loss = step(x, y)
            times.append(time.perf_counter() - start)
            losses.append(float(loss))
            if len(losses) % 50 == 0:
                progress.set_postfix(loss=f"{losses[-1]:.4f}")
    return losses, statistics.median(times) * 1e6


def accuracy(model: sadl.Mlp, x: np.ndarray, y: np.ndarray) -> float:
    with sadl.no_grad():
        return float(np.mean(np.argmax(model(x), axis=1) == y))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    epochs = parser.parse_args().epochs

    images, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split((images / 16).astype(np.float32), labels, test_size=0.2, random_state=0)
    data = batches(x, y, epochs)

    eager_model, compiled_model = make_model(), make_model()
    eager_losses, eager_us = train("eager   ", make_step(eager_model), data)
    step = sadl.compile(make_step(compiled_model))  # the one added line
    compiled_losses, compiled_us = train("compiled", step, data)

    difference = np.max(np.abs(np.subtract(eager_losses, compiled_losses)[:20]) / np.abs(eager_losses[:20]))
    scores = accuracy(eager_model, x_test, y_test), accuracy(compiled_model, x_test, y_test)
    rows = [
        ("", "eager", "compiled"),
        ("test accuracy", *(f"{a:.4f}" for a in scores)),
        ("final loss", f"{eager_losses[-1]:.6f}", f"{compiled_losses[-1]:.6f}"),
        ("us per step (median)", f"{eager_us:.0f}", f"{compiled_us:.0f}"),
        ("compile seconds", "", f"{step.stats.compile_seconds:.2f}"),
        ("kernels", "", f"{len(step.kernels)}"),
        ("of them compiled now", "", f"{step.stats.kernels_compiled}"),
        ("found in the cache", "", f"{step.stats.cache_hits}"),
    ]
    print()
    for label, eager, compiled in rows:
        print(f"{label:24s}{eager:>12s}{compiled:>12s}")
    print(f"\n{eager_us / compiled_us:.1f} times as fast")
    print(f"losses of the first 20 steps differ by {difference:.1e} (relative)")
    if min(scores) < 0.95:
        raise SystemExit(f"test accuracy {min(scores):.4f} is below 0.95")


if __name__ == "__main__":
    main()
