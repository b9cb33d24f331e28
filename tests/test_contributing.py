"""CONTRIBUTING.md's walk, "Adding an op", performed as written: in a fresh process, from a table without that op."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OP = "logaddexp2"

BEFORE = f"""
import numpy as np
import sadl
from sadl.errors import UnrecordedError
from sadl.op import OPS, UFUNCS, elementwise

OPS.pop({OP!r}, None), UFUNCS.pop(np.{OP}, None)  # whether or not sadl knows it by now
try:
    np.{OP}(sadl.Tensor([1.0], requires_grad=True), 1.0)
except UnrecordedError:
    pass
else:
    raise AssertionError("the op works before it is added")
"""


def section(heading: str) -> str:
    return PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]


def walk() -> str:
    """The section's code as one program, in which each block has the lines it has in the page."""
    first = PAGE.count("\n", 0, PAGE.index("## Adding an op\n")) + 1
    text = section("Adding an op")
    code = [BEFORE]
    for m in BLOCK.finditer(text):
        if m[1] == "python":
            line = first + text.count("\n", 0, m.start()) + 1
            code.append(f"exec(compile({chr(10) * line + m[2]!r}, 'CONTRIBUTING.md', 'exec'))")
    return "\n".join(code)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    environment = {**os.environ, "SADL_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}
    command = [sys.executable, "-W", "error", "-c", walk()]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_adding_an_op_works_as_written(printed: str) -> None:
    shown = "".join(m[2] for m in BLOCK.finditer(section("Adding an op")) if m[1] == "text")
    same = doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert same, f"CONTRIBUTING.md shows something else than what is printed now:\n{printed}"


def test_the_op_is_fused(printed: str) -> None:
    assert "True 1\n" in printed  # equal to eager, in one kernel
    assert "exp2, log, log1p" in printed


def test_every_module_has_its_line() -> None:
    table = section("Where things are")
    for path in sorted((ROOT / "sadl").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        folder, stem = f"`{path.parent.relative_to(ROOT).as_posix()}/`", path.stem
        package = folder in table and (path.name == "__init__.py" or f"`{stem}`" in table or folder == "`sadl/nn/`")
        known = f"`{name}`" in table or package or name in ("sadl/_version.py", "sadl/compiler/__init__.py")
        assert known or name == "sadl/kernels/__init__.py", f"{name} is not in 'Where things are' of CONTRIBUTING.md"


def test_simplify_rule_is_that_of_the_code() -> None:
    rule = next(m[2] for m in BLOCK.finditer(section("Adding a simplify rule")))
    body = rule.split("\n", 1)[1]
    assert body in (ROOT / "sadl/compiler/simplify.py").read_text()
