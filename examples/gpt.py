"""Learn to write like Python's manual, character by character: a small GPT.

    python examples/gpt.py [--steps N]

Data: what `help("while")` and its like print, about half a million characters that come with Python; the last tenth is
kept for validation.
Model: after Radford et al., "Language models are unsupervised multitask learners", 2019, in small.
"""

from collections.abc import Sequence
from functools import cache
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import side_by_side

import sadl
import sadl.functional as F
from sadl import nn

STEPS, EAGER_STEPS = 1000, 50
GOAL = 1.75  # nats per character in the validation
BATCH, LENGTH, DIM, HEADS, LAYERS = 16, 64, 64, 4, 2


@cache
def load() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The text as numbers of characters, for training and for validation; the characters."""
    text = "\n\n".join(dict.fromkeys(topics.values()))  # some topics have the same text
    letters = sorted(set(text))
    number = {letter: i for i, letter in enumerate(letters)}
    ids = np.array([number[letter] for letter in text])
    end = len(ids) * 9 // 10
    return ids[:end], ids[end:], letters


def windows(ids: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The characters from each start, and those that follow each of them."""
    places = starts[:, None] + np.arange(LENGTH)
    return ids[places], ids[places + 1]


def batches(steps: int) -> side_by_side.Batches:
    ids, rng = load()[0], np.random.default_rng(0)
    return [windows(ids, rng.integers(len(ids) - LENGTH, size=BATCH)) for _ in range(steps)]


class GPT(sadl.Function):
    def __init__(self, letters: int) -> None:
        self.letters = nn.Embedding(letters, DIM, init="xavier_uniform")
        self.places = nn.Embedding(LENGTH, DIM, init="xavier_uniform")
        self.drop = nn.Dropout(0.05)
        self.blocks = [nn.TransformerBlock(DIM, HEADS, dropout=0.05, bias=False) for _ in range(LAYERS)]
        self.norm = nn.LayerNorm(DIM, bias=False)
        self.head = nn.Linear(DIM, letters, bias=False)

    def __call__(self, ids: Any) -> Any:
        """(n, length) -> (n, length, letters): for each character, how likely each one is to follow."""
        x = self.drop(self.letters(ids) + self.places(np.arange(ids.shape[1])))
        for block in self.blocks:
            x = block(x, is_causal=True)
        return self.head(self.norm(x))


def start() -> tuple[GPT, side_by_side.Step]:
    sadl.random.seed(0)
    model = GPT(len(load()[2]))
    optimizer = sadl.AdamW(model, lr=1e-2, weight_decay=0.01)
    warm_up = sadl.schedules.LinearLR(optimizer, start_factor=0.01, total_iters=50)
    decay = sadl.schedules.CosineAnnealingLR(optimizer, T_max=STEPS - 50, eta_min=5e-4)
    schedule = sadl.schedules.SequentialLR(optimizer, [warm_up, decay], milestones=[50])

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        sadl.clip_grad_norm(model, 1.0)
        optimizer.step()
        schedule.step()  # in the step, so that it is compiled as well
        return loss

    return model, step


def validation(model: GPT) -> float:
    """Nats per character of the validation text."""
    ids = load()[1]
    x, y = windows(ids, np.arange(0, len(ids) - LENGTH, LENGTH))
    model.inference()
    with sadl.no_grad():
        parts = [F.cross_entropy(model(x[i : i + 64]), y[i : i + 64], reduction="sum") for i in range(0, len(x), 64)]
    return float(sum(parts)) / y.size


def sample(model: GPT, text: str, n: int) -> str:
    """`text` and `n` characters after it."""
    letters, rng = load()[2], np.random.default_rng(0)
    ids = [letters.index(letter) for letter in text]
    model.inference()
    with sadl.no_grad():
        for _ in range(n):
            likely = F.softmax(model(np.array([ids[-LENGTH:]]))[0, -1].astype(np.float64))
            ids.append(int(rng.choice(len(letters), p=np.asarray(likely))))
    return "".join(letters[i] for i in ids)


def main(args: Sequence[str] | None = None) -> float:
    runs = side_by_side.train(__doc__, start, batches, STEPS, EAGER_STEPS, args=args)
    score = side_by_side.report(runs, "validation nats per character", validation, at_most=GOAL)
    print("\n" + sample(runs.compiled.model, "The ", 300))
    return score


if __name__ == "__main__":
    main()
