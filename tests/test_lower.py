"""Tests of lowering and rendering: the text of kernels, what it depends on, and that Python and machine code agree.

Takes five typical graphs, whose IR and kernels are kept in tests/golden (pytest --update-golden rewrites them).
What kernels compute in general is tested in test_passes.py on the corpus and on random programs.
"""

import re

import numpy as np
import pytest
from corpus import batches, inputs_of, mlp, training_step

import sadl
import sadl.functional as F
from sadl.compiler.ir import print_graph
from sadl.compiler.pipeline import optimise, plan
from sadl.compiler.program import Program
from sadl.compiler.render import BLOCK

ROWS, COLUMNS = 37, 53  # sizes that no kernel would mention by chance


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def elementwise(x, row, column):
    return np.tanh(x * row + column) * 0.731


def softmax_xent(x, y):
    return sadl.value_and_grad(lambda x: F.cross_entropy(x, y))(x)


def column_sum(x, bias):
    return np.tanh(np.sum(x * x, axis=0) * 0.02 + bias)


def whole_sum(x):
    return np.mean(np.square(x)) + 1


def optimizer_update(x):
    parameter = sadl.Parameter(floats(ROWS, COLUMNS, seed=1))
    optimizer = sadl.SGD([parameter], lr=0.0123, momentum=0.917)
    parameter.grad = x * 2
    optimizer.step()


CASES = {
    "elementwise": (elementwise, (floats(ROWS, COLUMNS), floats(COLUMNS), floats(ROWS, 1))),
    "softmax_xent": (softmax_xent, (floats(ROWS, COLUMNS), np.arange(ROWS))),
    "column_sum": (column_sum, (floats(ROWS, COLUMNS), floats(COLUMNS))),
    "whole_sum": (whole_sum, (floats(ROWS, COLUMNS),)),
    "optimizer_update": (optimizer_update, (floats(ROWS, COLUMNS),)),
}


def graph_of(name):
    fn, args = CASES[name]
    graph = sadl.make_ir(fn)(*args)
    return graph, inputs_of(graph, *args)


def program_of(graph, jit=False):
    with sadl.config(jit=jit):
        return Program(plan(graph))


def code(kernel):
    """The text without the user's lines, which move with every edit of this file."""
    return re.sub(r"  # \S+:\d+$", "", kernel.source, flags=re.MULTILINE)


# ---- golden files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_text(golden, name):
    graph, _ = graph_of(name)
    parts = [str(graph), "---- optimised", print_graph(optimise(graph))]
    for kernel in program_of(graph).kernels:
        parts += ["---- kernel", code(kernel)]
    golden(f"{name}.txt", "\n".join(parts))


def test_every_golden_file_is_used():
    from conftest import GOLDEN

    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)


# ---- what the text depends on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_no_size_and_no_number_is_in_the_text(name):
    graph, _ = graph_of(name)
    for kernel in program_of(graph).kernels:
        body = code(kernel).split("def ")[1].partition("\n")[2]
        assert set(re.findall(r"(?<![\w.])\d+(?:\.\d+)?", body)) <= {"0", "1", str(BLOCK)}, body


@pytest.mark.parametrize("name", CASES)
def test_the_users_line_is_in_the_text(name):
    graph, _ = graph_of(name)
    assert any(re.search(r"  # \w+/\w+\.py:\d+\n", k.source) for k in program_of(graph).kernels)


def kernel_names(fn, *args):
    return {k.name for k in program_of(sadl.make_ir(fn)(*args)).kernels}


def test_another_size_has_the_same_kernels():
    step = training_step(model := mlp(), sadl.SGD(model, lr=0.1, momentum=0.9))
    small, large = batches(1, size=32)[0], batches(1, size=64)[0]
    assert kernel_names(step, *small) == kernel_names(step, *large)


def test_other_numbers_have_the_same_kernels():
    x = floats(3, 4)
    assert kernel_names(lambda x: x * 0.5 + 1, x) == kernel_names(lambda x: x * 0.25 + 3, x)


def test_other_structure_has_other_kernels():
    x, fn = floats(3, 4), lambda x: x * 0.5 + 1
    assert not kernel_names(fn, x) & kernel_names(lambda x: 1 - x * 0.5, x)
    assert not kernel_names(fn, x) & kernel_names(fn, x.astype(np.float64))


def test_twelve_equal_layers_share_kernels():
    def step_of(model):
        return training_step(model, sadl.SGD(model, lr=0.1))

    x, y = floats(8, 6), np.zeros(8, int)
    three, twelve = (kernel_names(step_of(mlp(sizes=(6,) * n)), x, y) for n in (4, 13))
    assert three == twelve


def test_a_kernel_names_its_arrays_and_numbers():
    (kernel,) = program_of(graph_of("elementwise")[0]).kernels
    assert [t for _, t in kernel.parameters].count("float32*") == 4  # three are read, one is written
    assert [n for n, t in kernel.parameters if t == "float32"] == ["s0"]


# ---- Python and machine code -----------------------------------------------------------------------------------------


ULPS = {"whole_sum": 16}  # Python adds one by one, machine code in several lanes at once


def in_ulps(got, expected):
    """The largest difference, in units of the last place of the largest value."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected)
    return np.max(np.abs(got - expected)) / np.spacing(np.max(np.abs(expected)))


@pytest.mark.parametrize("name", CASES)
def test_python_and_machine_code_agree(name):
    graph, inputs = graph_of(name)
    results = []
    for jit in (False, True):
        arrays = [a.copy() for a in inputs]
        results.append([*program_of(graph, jit)(arrays), *(arrays[i] for i in graph.donated.values())])
    for python, machine in zip(*results, strict=True):
        assert python.dtype == machine.dtype and in_ulps(machine, python) <= ULPS.get(name, 2)


EXACT = {
    "comparisons": lambda x, y: (x < y, x == y, (x > 0) & (y > 0), np.where(x > y, x, 0)),
    "moving": lambda x, y: (np.maximum(x, y), np.abs(x), np.clip(x, -0.5, 0.5), np.max(x, axis=1), x.T * 1.0),
    "one operation": lambda x, y: (x + y, x / y, np.sqrt(np.abs(y))),
}


@pytest.mark.parametrize("name", EXACT)
def test_what_does_not_round_twice_is_the_same_to_the_bit(name):
    x, y = floats(ROWS, COLUMNS), floats(ROWS, COLUMNS, seed=3)
    graph = sadl.make_ir(EXACT[name])(x, y)
    python, machine = (program_of(graph, jit)([x, y]) for jit in (False, True))
    assert all(
        np.array_equal(a, b) and np.array_equal(a, c)
        for a, b, c in zip(python, machine, EXACT[name](x, y), strict=True)
    )


def test_a_long_float32_sum_stays_accurate():
    x = np.full(10 * BLOCK + 17, 0.1, np.float32)
    graph = sadl.make_ir(lambda x: np.sum(x))(x)
    exact = np.sum(x.astype(np.float64))
    assert abs(program_of(graph, jit=True)([x])[0] - exact) < 1e-6 * exact


def test_python_kernels_check_their_bounds():
    graph, inputs = graph_of("column_sum")
    program = program_of(graph)
    with pytest.raises(IndexError, match="kernel reads or writes element"):
        program([inputs[0][:2], inputs[1]])
