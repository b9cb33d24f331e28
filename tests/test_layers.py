"""The shape of the house: imports point one way and stand at the top, Numba is in its corner, functions are short.

Takes the source text of the package, by AST; only what `import sadl` loads is found out by running it.
"""

import ast
import graphlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Each row may import the rows above it. A package stands for all its modules, which may import each other.
LAYERS = (
    ("errors", "config", "_version", "tree", "backend"),
    ("op",),
    ("tape",),
    ("ops", "utils", "watch"),
    ("calls",),
    ("tensor",),
    ("creation", "lines", "bars"),
    ("autograd",),
    ("function", "grad_ops", "disk", "numpy", "debug"),
    ("random", "logs"),
    ("functional", "transforms", "layer_table"),
    ("nn", "optimizer"),
    ("schedules", "data", "checkpoints"),
    ("compiler",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
USES_KERNELS = {"compiler"}
NUMBA_FILES = {"sadl.kernels.numba_cpu", "sadl.kernels.vmath_numba"}
LAZY_LIBRARIES = {"numba", "llvmlite", "cupy", "safetensors", "tqdm", "tensorboardX"}
LAZY_MODULES = {"sadl.kernels.numba_cpu"}  # imports Numba
BY_NAME = {"sadl", "sadl.disk", "sadl.ops"}  # where importlib.import_module may be called
LONG_FILES = {"sadl.kernels.vmath", "sadl.kernels.vmath_numba"}
MAX_LINES, MAX_FUNCTION, MEDIAN_FUNCTION = 600, 60, 8

Import = tuple[str, bool]  # what is imported, and whether at the top of the file


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


SOURCES = {module_name(path): path.read_text() for path in sorted((ROOT / "sadl").rglob("*.py"))}
TREES = {name: ast.parse(text) for name, text in SOURCES.items()}


def imports(tree: ast.Module) -> Iterator[Import]:
    """Every module that is imported; `from sadl import x` counts as sadl.x if there is such a module."""
    typing = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    top = {*tree.body, *(inner for n in typing for inner in n.body)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (full if full in SOURCES else str(node.module)), node in top


def part(module: str) -> str:
    """The layer's name: of sadl.ops.linalg `ops`."""
    return module.split(".")[1] if "." in module else ""


def misdirected(module: str, tree: ast.Module) -> list[str]:
    """Imports within sadl that point the wrong way."""
    wrong = []
    for name, _ in imports(tree):
        if name.split(".")[0] != "sadl" or part(name) == part(module):
            continue
        if part(module) == "kernels" or (part(name) == "kernels" and part(module) not in USES_KERNELS):
            wrong.append(name)
        elif part(name) != "kernels" and not RANK.get(part(name), len(RANK)) < RANK[part(module)]:
            wrong.append(name)
    return wrong


def test_every_module_has_a_layer() -> None:
    known = {*RANK, "kernels", ""}
    assert not [name for name in SOURCES if part(name) not in known], "give it a place in LAYERS"


@pytest.mark.parametrize("module", [name for name in SOURCES if name != "sadl"])
def test_imports_point_one_way(module: str) -> None:
    assert not misdirected(module, TREES[module])


def test_a_wrong_direction_is_seen() -> None:
    assert misdirected("sadl.tape", ast.parse("from sadl.tensor import Tensor")) == ["sadl.tensor"]
    assert misdirected("sadl.tape", ast.parse("def f():\n    from sadl import compiler")) == ["sadl.compiler"]
    assert misdirected("sadl.kernels.store", ast.parse("import sadl.errors")) == ["sadl.errors"]
    assert misdirected("sadl.optimizer", ast.parse("from sadl.kernels import store")) == ["sadl.kernels.store"]
    assert not misdirected("sadl.compiler.api", ast.parse("from sadl.kernels import store\nimport sadl.tape"))


def test_no_cycles() -> None:
    within = {name: {i for i, _ in imports(tree) if i in SOURCES} - {name} for name, tree in TREES.items()}
    packages = {name for name in SOURCES if any(other.startswith(name + ".") for other in SOURCES)}
    graph = {name: found - packages for name, found in within.items() if name not in packages}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) >= len(graph)


def test_the_package_itself_imports_the_compiler_late() -> None:
    run = [n for n in TREES["sadl"].body if not (isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")]
    names = {part(name) for name, _ in imports(ast.Module(run, []))}
    assert names and not names & {"compiler", "kernels", "nn", "optimizer", "transforms"}


LATE = """
import sys, numpy as np, sadl
assert not {"sadl.nn", "sadl.ops.linalg", "sadl.ops.fft"} & set(sys.modules)
t = sadl.tensor([[2.0, 1.0], [0.0, 1.0]], requires_grad=True)
total = np.sum(np.linalg.inv(t)) + np.sum(np.real(np.fft.fft(t))) + np.sum(np.gradient(t[0])) + np.linalg.norm(t)
total.backward()
assert t.grad.shape == (2, 2) and sadl.SGD and sadl.nn.Linear and sadl.functional.relu
assert set(sadl.__all__) <= set(dir(sadl))
"""


def test_what_comes_later_comes_when_it_is_needed() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", LATE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---- other libraries -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", SOURCES)
def test_other_libraries(module: str) -> None:
    allowed = {"numpy", "sadl", "cupy", "safetensors", "tqdm", "tensorboardX"}
    allowed = {"numpy", "numba", "llvmlite", "sadl"} if part(module) == "kernels" else allowed
    roots = {name.split(".")[0] for name, _ in imports(TREES[module])} - sys.stdlib_module_names
    assert roots <= allowed
    assert "numba" not in roots or module in NUMBA_FILES


def late(tree: ast.Module) -> list[str]:
    """Imports that are not at the top of the file, except those of what costs much to import."""
    found = [name for name, at_top in imports(tree) if not at_top]
    return [name for name in found if name.split(".")[0] not in LAZY_LIBRARIES and name not in LAZY_MODULES]


@pytest.mark.parametrize("module", SOURCES)
def test_imports_are_at_the_top(module: str) -> None:
    assert not late(TREES[module])
    assert "import_module" not in SOURCES[module] or module in BY_NAME


def test_a_late_import_is_seen() -> None:
    assert late(ast.parse("def f():\n    import json\n    import numba")) == ["json"]
    assert not late(ast.parse("import json\nif TYPE_CHECKING:\n    import abc"))


def test_heavy_libraries_are_imported_late() -> None:
    heavy = LAZY_LIBRARIES | {"sadl.compiler", "sadl.kernels"}
    code = f"import json, sys, sadl; print(json.dumps(sorted({heavy!r} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


# ---- sizes ---------------------------------------------------------------------------------------------------------


def function_lengths() -> dict[str, int]:
    return {
        f"{module}.{node.name}:{node.lineno}": (node.end_lineno or 0) - node.lineno + 1
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def test_functions_are_short() -> None:
    lengths = function_lengths()
    assert statistics.median(lengths.values()) <= MEDIAN_FUNCTION
    assert not {name: n for name, n in lengths.items() if n > MAX_FUNCTION}


@pytest.mark.parametrize("module", [name for name in SOURCES if name not in LONG_FILES])
def test_files_are_short(module: str) -> None:
    assert SOURCES[module].count("\n") <= MAX_LINES


def test_docstrings() -> None:
    """Every module says what it is for."""
    assert not [name for name, tree in TREES.items() if not ast.get_docstring(tree)]


def test_nothing_is_left_to_do() -> None:
    marks = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
    folders = ("sadl", "tests", "benchmarks", "examples")
    files = [p for folder in folders for p in (ROOT / folder).rglob("*.py")] + list(ROOT.glob("*.md"))
    assert not [f"{p.name}: {mark}" for p in files for mark in marks if mark in p.read_text()]
