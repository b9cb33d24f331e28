"""Products and rows as launches of compiled loops: they give what NumPy gives, for every layout of the operands.

Takes nothing; compares compiled functions with eager ones. That shapes are wrong is left to the tests of operations.
"""

import numpy as np
import pytest

import sadl

RNG = np.random.default_rng(3)


def array(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


def compare(fn, *args, native=True):
    """The compiled function gives NumPy's values; `native`: without asking NumPy for them."""
    compiled = sadl.compile(fn)
    for _ in range(3):
        got = compiled(*args)
    expected = fn(*args)
    assert got.dtype == expected.dtype and got.shape == expected.shape
    eps = 1e-4 if got.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(got, expected, rtol=eps, atol=eps)
    kinds = ("matmul (", "gather_rows (", "scatter_rows (")
    assert any(kind in compiled.explain().splitlines()[-1] for kind in kinds) != native
    return compiled


SHAPES = [
    ((4, 3), (3, 5)),
    ((3,), (3, 5)),
    ((4, 3), (3,)),
    ((3,), (3,)),
    ((2, 4, 3), (3, 5)),
    ((2, 6, 4, 3), (3, 5)),
    ((2, 4, 3), (3,)),
    ((4, 3), (2, 3, 5)),
    ((2, 4, 3), (2, 3, 5)),
    ((2, 1, 4, 3), (6, 3, 5)),
    ((2, 6, 4, 3), (2, 6, 3, 5)),
    ((7, 1, 3), (3, 1)),
    ((1, 4, 3), (2, 1, 3, 5)),
    ((40, 1, 1), (40, 1, 1)),
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stacks_of_matrices(shapes, dtype):
    a, b = (array(*s, dtype=dtype) for s in shapes)
    compare(lambda a, b: np.matmul(a * 2, b * 3), a, b)


TURNED = {
    "left": lambda a, b: np.matmul(np.swapaxes(a, -1, -2), b),
    "right": lambda a, b: np.matmul(a, np.swapaxes(b, -1, -2)),
    "both": lambda a, b: np.matmul(np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2)),
    "outer axes": lambda a, b: np.matmul(np.swapaxes(a, 0, 1), np.swapaxes(b, 0, 1)),
    "heads": lambda a, b: np.matmul(np.transpose(a, (1, 2, 0, 3)), np.transpose(b, (1, 2, 3, 0))),
    "parts": lambda a, b: np.matmul(a[..., 1:3], b[..., :2, :]),
    "one of a stack": lambda a, b: np.matmul(a[1:2], b),
    "one for all": lambda a, b: np.matmul(a, b[0, 0]),
    "part for all": lambda a, b: np.matmul(a[:, 1:, ::2], b[1, 2]),
}


@pytest.mark.parametrize("name", TURNED)
def test_layouts_that_blas_reads(name):
    a, b = array(4, 4, 4, 4), array(4, 4, 4, 4)
    compare(lambda a, b: TURNED[name](a + 1, b - 1), a, b)


def test_layouts_that_it_does_not_read():
    compare(lambda a, b: np.matmul((a + 1)[:, ::2, ::2], b), array(3, 4, 6), array(3, 3, 2), native=False)
    compare(lambda a, b: np.matmul(a.astype(np.int64), b.astype(np.int64)), array(3, 4, 6), array(6, 2), native=False)


def test_empty_products():
    for shapes in (((0, 2, 3), (3, 4)), ((2, 2, 0), (0, 4))):
        compare(lambda a, b: np.matmul(a * 2, b), *(array(*s) for s in shapes), native=False)


def test_a_stack_times_one_matrix_is_one_product():
    w = array(3, 5)
    compiled = compare(lambda x: np.matmul(x * 2, w), array(2, 4, 3))
    assert sum(upper == 8 for _, _, upper, _ in compiled._runners[0]._program._rows) == 1  # all rows of the stack


@pytest.mark.parametrize("threads", [1, 3])
def test_large_stacks_are_cut_into_tiles(threads):
    """Every size of tile, and the same bits for any number of threads."""
    a, b = array(64, 96, 32), array(64, 32, 96)
    with sadl.config(threads=threads):
        compiled = compare(lambda a, b: np.matmul(a * 1.5, b), a, b)
    assert any(tile < upper for _, _, upper, tile in compiled._runners[0]._program._rows)


def test_the_gradient_of_shared_weights_is_one_product():
    x, w = array(2, 4, 3), array(3, 5)
    loss = lambda w: np.sum(np.matmul(x, w) ** 2)
    graph = sadl.make_ir(sadl.grad(loss))(w)
    assert [e.out.aval.shape for e in graph.eqns if e.op.name == "matmul"] == [(2, 4, 5), (3, 5)]
    sadl.check_grads(lambda x, w: np.sum(np.sin(np.matmul(x, w))), (x.astype(float), w.astype(float)), order=2)


# ---- rows by index ---------------------------------------------------------------------------------------------------

INDICES = [np.array([0, -1, 3, 3]), np.array([[6, 5], [-7, 0]]), np.array(2), np.array([1, 2], np.int32)]


@pytest.mark.parametrize("i", INDICES, ids=str)
@pytest.mark.parametrize("shape", [(7,), (7, 5), (7, 2, 3)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_by_index(i, shape, dtype):
    x = array(*shape, dtype=dtype)
    compare(lambda x: (x * 2)[i], x)
    compare(sadl.grad(lambda x: np.sum((x * 2)[i] ** 3)), x)


def test_rows_of_another_dtype_are_numpys():
    compare(lambda x: (x * 2)[np.array([0, 2])], np.arange(12).reshape(3, 4), native=False)


def test_many_rows_are_cut_into_tiles():
    i = RNG.integers(0, 100, 3000)
    compiled = compare(sadl.grad(lambda x: np.sum(np.sin(x[i]))), array(100, 300))
    assert sum(tile < upper for _, _, upper, tile in compiled._runners[0]._program._rows) >= 2


@pytest.mark.parametrize("wrong", [7, -8, 10**12])
def test_an_index_that_is_not_there(wrong):
    """The loops touch nothing outside, and the check says which index it is; nothing was written."""
    total = sadl.Tensor(np.zeros(5))

    def step(x, i):
        total[...] = total + np.sum(x[i], axis=0)

    compiled = sadl.compile(step)
    x, i = sadl.Tensor(array(7, 5, dtype=float)), np.array([1, 2, 3])
    for _ in range(3):
        compiled(x, i)
    before = np.array(total)
    with pytest.raises(IndexError, match=f"{wrong} is out of bounds"):
        compiled(x, np.array([1, wrong, 3]))
    assert np.array_equal(total, before)
    compiled(x, i)
    assert not np.array_equal(total, before)
