"""What the examples share: the same training twice from the same start, eager and compiled, and a table of both.

Takes a function that makes a new start, and one that makes batches; gives the trained models, their losses, and the
time of a step. Data, model, step and result are each example's own.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

import sadl

Batches = Sequence[tuple[Any, ...]]
Step = Callable[..., Any]  # takes the arrays of a batch, changes what it trains, gives the loss
Start = Callable[[], tuple[Any, Step]]  # seeds the generators; gives a new model and its step

COMPARED = 20  # steps whose losses are compared: later on, rounding may have led the two to different places
AGREEMENT = 1e-4  # relative


@dataclass
class Run:
    """A model that was trained."""

    model: Any
    step: Any
    losses: list[float]
    microseconds: float  # the median step


@dataclass
class Runs:
    """The two, and whether they had all steps, after which a result is promised."""

    eager: Run
    compiled: Run
    full: bool


def train(
    about: str | None,
    start: Start,
    batches: Callable[[int], Batches],
    steps: int,
    eager_steps: int | None = None,
    args: Sequence[str] | None = None,
) -> Runs:
    """Train one model eagerly, and then an equal one compiled.

    Args:
        about: the example's docstring.
        start: gives a new model and its training step, the same ones on each call.
        batches: gives so many batches.
        steps, eager_steps: how many, if the command line does not say; eager ones as many as compiled ones if None.
        args: those of the command line if None.
    """
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=steps, help="fewer for a short look (default: %(default)s)")
    parser.add_argument("--eager-steps", type=int, default=eager_steps or steps, help="(default: %(default)s)")
    wanted = parser.parse_args(args)
    if min(wanted.steps, wanted.eager_steps) < 1:
        parser.error("at least one step is needed")
    data = batches(wanted.steps)
    eager = run("eager", *start(), data[: wanted.eager_steps])
    model, step = start()
    step = sadl.compile(step)  # the one added line
    step.prepare(*data[0])  # builds the program now, for the first step to take no longer than others
    return Runs(eager, run("compiled", model, step, data), wanted.steps >= steps)


def run(name: str, model: Any, step: Step, batches: Batches) -> Run:
    """One step for each batch."""
    losses, seconds = [], []
    with tqdm(batches, desc=f"{name:8s}", unit="step", mininterval=0.2) as progress:
        for batch in progress:
            before = time.perf_counter()
            loss = step(*batch)
            seconds.append(time.perf_counter() - before)
            losses.append(float(loss))
            if len(losses) % 50 == 0:
                progress.set_postfix(loss=f"{losses[-1]:.4f}")
    return Run(model, step, losses, statistics.median(seconds) * 1e6)


def first_batches(loader: sadl.data.DataLoader, steps: int) -> Batches:
    """So many batches, in as many epochs as it takes."""
    epochs = itertools.repeat(loader)
    return list(itertools.islice(itertools.chain.from_iterable(epochs), steps))


def report(
    runs: Runs,
    name: str,
    score: Callable[[Any], float],
    at_least: float = -np.inf,
    at_most: float = np.inf,
) -> float:
    """Print a table of both runs, and give the score of the compiled model.

    Args:
        runs: what `train` gave.
        name, score: what is said about a model, and a function of it.
        at_least, at_most: what is promised for full runs.
    Raises:
        SystemExit: the first losses of the two differ, or a promise is not kept.
    """
    eager, compiled = runs.eager, runs.compiled
    n, found, stats = len(eager.losses), score(compiled.model), compiled.step.stats
    same_length = n == len(compiled.losses)
    rows = [
        ("", "eager", "compiled"),
        ("steps", f"{n}", f"{len(compiled.losses)}"),
        (f"loss of step {n}", f"{eager.losses[-1]:.6f}", f"{compiled.losses[n - 1]:.6f}"),
        (name, f"{score(eager.model):.4g}" if same_length else "", f"{found:.4g}"),
        ("us per step (median)", f"{eager.microseconds:.0f}", f"{compiled.microseconds:.0f}"),
        ("compile seconds", "", f"{stats.compile_seconds:.2f}"),
        ("kernels", "", f"{len(compiled.step.kernels)}"),
        ("of them compiled now", "", f"{stats.kernels_compiled}"),
        ("found in the cache", "", f"{stats.cache_hits}"),
    ]
    print()
    for label, left, right in rows:
        print(f"{label:32s}{left:>12s}{right:>12s}")
    print(f"\n{eager.microseconds / compiled.microseconds:.1f} times as fast")
    a, b = np.array(eager.losses[:COMPARED]), np.array(compiled.losses[:n][:COMPARED])
    difference = np.max(np.abs(a - b) / np.abs(a))
    print(f"losses of the first {len(a)} steps differ by {difference:.1e} (relative)")
    if not difference <= AGREEMENT:
        raise SystemExit(f"the losses of eager and compiled steps differ by more than {AGREEMENT} (relative)")
    if runs.full and not at_least <= found <= at_most:
        limit = f"at least {at_least}" if np.isinf(at_most) else f"at most {at_most}"
        raise SystemExit(f"{name}: {found:.4g}, but {limit} is promised")
    return found
