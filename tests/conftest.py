"""Settings of every run: graphs are verified, kernels go to a folder of the run's own, skips are counted at the end.

Takes SADL_VERIFY and SADL_CACHE_DIR from the environment where it has them, and the flag --update-golden.
Which graphs and models the tests work on is left to `corpus`.
"""

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import hypothesis
import pytest

from sadl import ops

ops.load_rest()  # tests are generated from the whole table
GOLDEN = Path(__file__).parent / "golden"
_made = pytest.StashKey[str]()

hypothesis.settings.register_profile("sadl", deadline=None, database=None, derandomize=True)
hypothesis.settings.load_profile("sadl")


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden instead of comparing with it")


def pytest_configure(config):
    os.environ.setdefault("SADL_VERIFY", "1")
    if "SADL_CACHE_DIR" not in os.environ:
        config.stash[_made] = os.environ["SADL_CACHE_DIR"] = tempfile.mkdtemp(prefix="sadl-test-")


def pytest_unconfigure(config):
    if _made in config.stash:
        shutil.rmtree(config.stash[_made], ignore_errors=True)
        del os.environ["SADL_CACHE_DIR"]


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    terminalreporter.section(f"{len(skipped)} tests skipped")
    for reason, n in Counter(map(_reason, skipped)).most_common():
        terminalreporter.line(f"{n:5d}  {reason}")


def _reason(report):
    """Why a test was skipped, without the place: pytest gives (file, line, "Skipped: reason")."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ").splitlines()[0]


@pytest.fixture
def golden(request):
    """A function that compares a text with the file of that name in tests/golden, or rewrites the file."""

    def check(name, text):
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"{path} is missing: run pytest --update-golden, and read what it wrote"
        assert text == path.read_text(), f"{name} changed: if that is right, run pytest --update-golden"

    return check
