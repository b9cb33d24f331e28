"""Tell prose from code with an LSTM that reads a line of a Python file character by character.

    python examples/lstm.py [--steps N]

Data: lines of Python's own library, as many of docstrings (prose, and some examples) as of code; comments are left out.
Python's parser knows which is which; the network sees nothing but the line, without its indentation.
The lines of the test are from modules that the training has not seen. Guessing is right half of the time.
"""

import ast
import inspect
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import side_by_side

import sadl
import sadl.functional as F
from sadl import nn

STEPS, EAGER_STEPS = 600, 40
GOAL = 0.92  # test accuracy
LENGTH = 24  # how many characters of a line are read
TRAIN = "argparse codecs configparser difflib doctest email.message enum inspect ipaddress logging mailbox optparse"
TRAIN += " pydoc statistics subprocess tarfile threading typing unittest.case unittest.mock urllib.parse zipfile"
TEST = "collections contextlib random shutil smtplib socket socketserver textwrap"


def lines_of(module: str) -> tuple[list[str], list[str]]:
    """The lines of code and of docstrings."""
    source = inspect.getsource(import_module(module))
    in_docstring: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        kinds = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
        if isinstance(node, kinds) and ast.get_docstring(node) is not None:
            first = node.body[0]
            in_docstring.update(range(first.lineno, (first.end_lineno or 0) + 1))
    found: tuple[list[str], list[str]] = [], []
    for number, line in enumerate(source.splitlines(), 1):
        if len(line.strip()) >= 8 and not line.strip().startswith("#"):
            found[number in in_docstring].append(line.strip())
    return found


def lines(modules: str) -> tuple[np.ndarray, np.ndarray]:
    """Characters as numbers (n, LENGTH), with 0 in front of short lines, and which lines are of docstrings (n,)."""
    found = [lines_of(module) for module in modules.split()]
    code = [line for of_module, _ in found for line in of_module]
    prose = [line for _, of_module in found for line in of_module]
    code = np.random.default_rng(0).choice(code, len(prose), replace=False).tolist()  # there is more of it
    ids = [[0] * (LENGTH - len(line)) + [min(ord(c), 127) for c in line[:LENGTH]] for line in code + prose]
    return np.array(ids), np.arange(len(ids)) >= len(code)


@cache
def load() -> Any:
    """Lines and kinds: for training and for the test."""
    return lines(TRAIN), lines(TEST)


def batches(steps: int) -> side_by_side.Batches:
    dataset = sadl.data.ArrayDataset(*load()[0])
    loader = sadl.data.DataLoader(dataset, batch_size=64, shuffle=True, drop_last=True, seed=0)
    return side_by_side.first_batches(loader, steps)


class Reader(sadl.Function):
    def __init__(self) -> None:
        self.characters = nn.Embedding(128, 16)
        self.lstm = nn.LSTM(16, 32)
        self.head = nn.Linear(32, 1)

    def __call__(self, ids: Any) -> Any:
        """(n, length) -> (n,): above 0 for prose."""
        outputs, _ = self.lstm(self.characters(ids))
        return self.head(outputs[:, -1])[:, 0]


def start() -> tuple[Reader, side_by_side.Step]:
    sadl.random.seed(0)
    model = Reader()
    optimizer = sadl.Adam(model, lr=5e-3)

    def step(ids: Any, kinds: Any) -> Any:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(ids), kinds)
        loss.backward()
        sadl.clip_grad_norm(model, 1.0)
        optimizer.step()
        return loss

    return model, step


def accuracy(model: Reader) -> float:
    ids, kinds = load()[1]
    with sadl.no_grad():
        return float(np.mean((model(ids) > 0) == kinds))


def main(args: Sequence[str] | None = None) -> float:
    runs = side_by_side.train(__doc__, start, batches, STEPS, EAGER_STEPS, args=args)
    return side_by_side.report(runs, "test accuracy", accuracy, at_least=GOAL)


if __name__ == "__main__":
    main()
