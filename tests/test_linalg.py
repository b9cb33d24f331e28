"""Tests of np.linalg: solvers, determinants, decompositions and norms, generated from tables of expressions.

Takes expressions in the arrays of `REAL` and `COMPLEX`; compares with NumPy and with differences, eager and compiled.
Products and their aliases in np.linalg are tested elsewhere.
"""

import warnings

import numpy as np
import pytest
from expressions import (
    assert_close,
    assert_compiled_is_eager,
    assert_gradients,
    assert_gradients_of_any_layout,
    assert_single_precision,
    assert_value_is_numpys,
    both_of,
    function,
    texts,
)

import sadl
from sadl import GradientError, UnrecordedError, check_grads, tensor

RNG = np.random.default_rng(11)
linalg, LinAlgError = np.linalg, np.linalg.LinAlgError


def noise(*shape, dtype=float):
    values = RNG.standard_normal(shape)
    return values + 1j * RNG.standard_normal(shape) if dtype is complex else values


def definite(*shape, dtype=float):
    a = noise(*shape, dtype=dtype)
    return a @ a.conj().swapaxes(-1, -2) + np.diag(np.arange(1.0, shape[-1] + 1))


def mixed(v):
    """What the phases of the columns of `v` do not change."""
    return v[..., :, None, :] * np.conjugate(v)[..., None, :, :]


def paired(usv):
    """What a common phase of each pair of singular vectors does not change."""
    u, s, vh = usv
    return u[..., :, None, :] * np.swapaxes(vh, -1, -2)[..., None, :, :], s


def beyond(v, k):
    """The projection on the columns of `v` from the k-th on."""
    rest = v[..., k:]
    return rest @ np.conjugate(np.swapaxes(rest, -1, -2))


HELPERS = {"mixed": mixed, "paired": paired, "beyond": beyond}
REAL = {
    "A": noise(4, 4) + np.diag([4.0, 2.0, -3.0, 6.0]),
    "B": noise(2, 3, 3) + np.diag([4.0, 2.0, -3.0]),
    "S": definite(4, 4),
    "P": definite(2, 3, 3),
    "tall": noise(5, 3),
    "wide": noise(3, 5),
    "talls": noise(2, 4, 3),
    "wides": noise(2, 3, 4),
    "b": noise(4),
    "c": noise(4, 2),
    "d": noise(2, 3, 2),
    "e": noise(3),
    "f": noise(5),
    "g": noise(5, 2),
    "X": noise(2, 3, 4, 5),
    "K": noise(4, 6),
    "L": noise(24, 4, 6),
    "M": noise(4, 6, 24),
    "O": noise(4, 6, 8, 3),
    "Q": noise(6, 2, 3),
}
COMPLEX = {name: noise(*a.shape, dtype=complex) for name, a in REAL.items()}
COMPLEX |= {"S": definite(4, 4, dtype=complex), "P": definite(2, 3, 3, dtype=complex), "R": REAL["A"], "r": REAL["b"]}

# Expressions without `np.linalg.`, for real and for complex arrays.
FOR_BOTH = """
solve(A, b) | solve(A, c) | solve(B, e) | solve(B, d) | solve(B, d[0]) | solve(B[0], d) | inv(A) | inv(B)
det(A) | det(B) | det(A[:1, :1]) | det(A[:2, :2]) | slogdet(A) | slogdet(B) | slogdet(B)[0] | slogdet(B)[1]
matrix_power(A, 3) | matrix_power(A, 1) | matrix_power(B, 6) | matrix_power(B, -2) | matrix_power(A, -1)
tensorsolve(M, K) | tensorsolve(L, K, axes=(0,)) | tensorsolve(L, K, (0,)) | tensorinv(O) | tensorinv(Q, ind=1)
pinv(A) | pinv(tall) | pinv(wide) | pinv(talls) | pinv(wides) | pinv(S, hermitian=True) | pinv(A, hermitian=True)
pinv(tall, 1e-3) | pinv(tall, rtol=1e-10) | pinv(wide, rtol=None) | pinv(talls, [1e-3, 1e-4]) | pinv(tall, rcond=0.0)
lstsq(tall, f) | lstsq(tall, g) | lstsq(tall, g)[0] | lstsq(tall, g)[1] | lstsq(tall, f)[3] | lstsq(A, b)
lstsq(wide, e)
lstsq(wide, e, rcond=-1)[0] | lstsq(tall, g, 1e-6)[:2]
cholesky(S) | cholesky(P) | cholesky(P, upper=True) | cholesky(S[:1, :1])
qr(A) | qr(B) | qr(tall) | qr(wide) | qr(talls) | qr(wides) | qr(tall, "r") | qr(wides, mode="r")
qr(wide, "complete")
qr(tall, "complete")[0][:, :3] | qr(tall, "complete")[1]
eigh(S)[0] | eigh(A, "U")[0] | eigvalsh(A) | eigvalsh(B, "u") | eig(A) | eig(B) | eig(B)[1] | eigvals(A) | eigvals(B)
svd(A)[1] | svdvals(A) | svdvals(wides) | svd(talls, compute_uv=False) | svd(tall)[1] | svd(S, hermitian=True)[1]
svd(A, hermitian=True, compute_uv=False)
norm(b) | norm(A) | norm(X) | norm(A, "fro") | norm(A, "f") | norm(wide, "nuc") | norm(A, np.inf) | norm(A, -np.inf)
norm(A, 1) | norm(A, -1) | norm(A, 2) | norm(tall, -2) | norm(b, 2) | norm(b, 1) | norm(b, np.inf) | norm(b, -np.inf)
norm(b, 3) | norm(b, 0.5) | norm(b, -1) | norm(b, -2) | norm(b, np.float64(2.5)) | norm(A, keepdims=True)
norm(b, 3, keepdims=True)
norm(X, axis=1) | norm(X, 3, axis=-2, keepdims=True) | norm(X, axis=(3, 1)) | norm(X, "nuc", (0, 2), True)
norm(X, 2, (-1, 0))
norm(X, 1, (2, 0), True) | norm(X, np.inf, (3, 0)) | norm(X, -1, (0, 3)) | norm(X, -np.inf, (1, 2))
norm(X, np.inf, 2)
vector_norm(X) | vector_norm(X, axis=(0, 2)) | vector_norm(X, axis=(0, -2), keepdims=True, ord=3)
vector_norm(X, axis=1)
vector_norm(X, keepdims=True, ord=1) | vector_norm(X, ord=np.inf) | matrix_norm(X)
matrix_norm(X, keepdims=True, ord="nuc")
matrix_norm(X, ord=2) | matrix_norm(A, ord=1)
cond(A) | cond(B, 2) | cond(A, -2) | cond(A, "fro") | cond(A, 1) | cond(B, np.inf) | cond(tall) | cond(B, "nuc")
cond(A, -1)
"""
FOR_REAL = """
eigh(S) | eigh(P) | eigh(A) | eigh(P, "U") | eigh(B, UPLO="U")[1] | eig(S) | svd(A) | svd(B) | svd(tall, False)
svd(wide, full_matrices=False)
svd(talls, False) | svd(wides, False) | svd(tall)[2] | svd(tall)[0][:, :3] | svd(wide)[2][:3] | svd(B, hermitian=True)
svd(A, True, True, True)
svd(talls) | svd(wides) | qr(talls, "complete") | svd(tall[:, :1].T @ tall)[1]
"""
FOR_COMPLEX = """
solve(A, r) | solve(R, b) | lstsq(R, b)[0] | lstsq(A, r)[:2] | eig(R) | eigvals(R)
"""
# With `np.linalg.` written out.
WHOLE = {
    "real": """
    beyond(np.linalg.svd(tall)[0], 3) | beyond(np.linalg.qr(tall, "complete")[0], 3)
    np.linalg.eigh(S).eigenvectors ** 2 @ np.linalg.inv(S)
    np.linalg.norm(np.linalg.solve(S, b) - np.linalg.pinv(S) @ b * 2)
    np.linalg.norm(b - A[0]) + np.linalg.slogdet(S).logabsdet | np.linalg.matrix_norm(np.linalg.cholesky(S) @ A)
    """,
    "complex": """
    mixed(np.linalg.eigh(S)[1]) | mixed(np.linalg.eigh(P, "U")[1]) | np.abs(np.linalg.eigh(A)[1])
    mixed(np.linalg.svd(tall, False)[0])
    paired(np.linalg.svd(A)) | paired(np.linalg.svd(tall, False)) | paired(np.linalg.svd(wide, False))
    paired(np.linalg.svd(talls, False))
    mixed(np.linalg.svd(B)[2].swapaxes(-1, -2)) | mixed(np.linalg.svd(S, hermitian=True)[0])
    beyond(np.linalg.svd(tall)[0], 3) | beyond(np.linalg.qr(tall, "complete")[0], 3)
    mixed(np.linalg.qr(talls, "complete")[0])
    """,
}
CASES = [("real", f"np.linalg.{text}") for text in texts(FOR_BOTH + FOR_REAL)]
CASES += [("complex", f"np.linalg.{text}") for text in texts(FOR_BOTH + FOR_COMPLEX)]
CASES += [(kind, text) for kind, table in WHOLE.items() for text in texts(table)]
each_case = pytest.mark.parametrize(("kind", "text"), CASES, ids=lambda value: value.replace("np.linalg.", ""))


def case(kind, text):
    return function(text, REAL if kind == "real" else COMPLEX, **HELPERS)


@each_case
def test_value_is_numpys(kind, text):
    assert_value_is_numpys(*case(kind, text))


@each_case
def test_gradients_to_second_order(kind, text):
    assert_gradients(*case(kind, text))


@each_case
def test_gradients_of_any_layout(kind, text):
    assert_gradients_of_any_layout(*case(kind, text))


@each_case
def test_single_precision(kind, text):
    assert_single_precision(*case(kind, text), rtol=3e-2)


@each_case
def test_compiled_is_eager(kind, text):
    assert_compiled_is_eager(*case(kind, text))


@pytest.mark.parametrize(
    "text", ["np.linalg.norm(X, 3, 1)", "np.linalg.norm(A)", "np.linalg.cholesky(P)", "np.linalg.cond(A, 'fro')"]
)
def test_compiled_to_machine_code(text):
    assert_compiled_is_eager(*case("real", text), jit=True)


def test_programs_return_numpys_named_tuples():
    for f in (linalg.eigh, linalg.eig, linalg.svd, linalg.qr, linalg.slogdet):
        run = sadl.compile(f)
        for _ in range(3):
            result = run(REAL["S"])
        assert type(result) is type(f(REAL["S"])) and all(isinstance(part, sadl.Tensor) for part in result)
        assert_close(result, f(REAL["S"]))


# ---- which triangle is read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "lower"),
    [
        (linalg.cholesky, True),
        (lambda a: linalg.cholesky(a, upper=True), False),
        (lambda a: linalg.eigh(a)[1], True),
        (lambda a: linalg.eigvalsh(a, "U"), False),
        (lambda a: linalg.pinv(a, hermitian=True), True),
        (lambda a: linalg.svd(a, hermitian=True)[0], True),
    ],
)
def test_the_triangle_that_is_not_read_has_the_gradient_zero(f, lower):
    grad = sadl.grad(lambda a: np.sum(f(a) ** 3))(REAL["S"])
    unread = np.triu(grad, 1) if lower else np.tril(grad, -1)
    assert not np.any(unread) and np.all(grad[np.tril_indices(4) if lower else np.triu_indices(4)])


# ---- singular and degenerate matrices ------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", range(5))
@pytest.mark.parametrize("dtype", [float, complex])
def test_determinant_of_a_matrix_of_any_rank(rank, dtype):
    a = noise(4, rank, dtype=dtype) @ noise(rank, 4, dtype=dtype)
    assert_gradients(linalg.det, (np.stack([a, noise(4, 4, dtype=dtype)]),))


def test_determinant_of_equal_singular_values():
    for a in (np.eye(3), np.zeros((3, 3)), np.diag([2.0, 2.0, 0.0]), np.ones((1, 1))):
        check_grads(linalg.det, (a,))


def test_determinant_of_single_precision_is_as_good_as_its_inverse():
    a = noise(6, 6).astype(np.float32)
    grad = sadl.grad(linalg.det)(a)
    assert grad.dtype == np.float32
    np.testing.assert_allclose(grad, linalg.det(a) * linalg.inv(a).T, rtol=1e-3)


def test_values_that_are_equal_have_gradients():
    eye = np.eye(3)
    for f in (linalg.eigvalsh, linalg.svdvals, lambda a: linalg.eigh(a)[0], lambda a: linalg.svd(a)[1], linalg.eigvals):
        assert_close(sadl.grad(lambda a, f=f: np.sum(f(2 * a)) * 3)(eye), 6 * eye)
    assert_close(sadl.grad(lambda a: linalg.norm(a, "nuc"))(eye), eye)
    for f in (linalg.pinv, lambda a: linalg.pinv(a, 1e-3)):
        check_grads(f, (eye,))


@pytest.mark.parametrize("f", [lambda a: linalg.eigh(a)[1], lambda a: linalg.svd(a)[0], lambda a: linalg.eig(a)[1]])
def test_vectors_of_equal_values_have_no_finite_gradient(f):
    with np.errstate(all="ignore"):
        grad = sadl.grad(lambda a: np.sum(f(a) * np.arange(9.0).reshape(3, 3)))(np.eye(3))
    assert not np.all(np.isfinite(grad))


def test_singular_matrices_raise_or_have_numpys_value():
    zero, one = tensor(np.zeros((2, 2)), requires_grad=True), tensor(np.ones((3, 2, 2)), requires_grad=True)
    for f in (linalg.inv, lambda a: linalg.solve(a, np.ones(2)), lambda a: linalg.matrix_power(a, -1)):
        with pytest.raises(LinAlgError):
            f(zero)
    value = linalg.slogdet(zero)[1]
    assert value == -np.inf
    with pytest.raises(LinAlgError, match="Singular"):
        value.backward()
    for p in (None, 2, 1, "fro"):
        assert_close(linalg.cond(one, p), linalg.cond(np.ones((3, 2, 2)), p))
    both = np.stack([np.zeros((2, 2)), REAL["A"][:2, :2]])
    assert_close(linalg.cond(tensor(both, requires_grad=True), 1), linalg.cond(both, 1))
    assert_close(linalg.cond(tensor(both * np.nan, requires_grad=True), 1), linalg.cond(both * np.nan, 1))
    with pytest.raises(LinAlgError):
        linalg.cholesky(-tensor(np.eye(2), requires_grad=True))


def test_pseudoinverse_of_a_constant_rank():
    def of_rank_two(x, y):
        return linalg.pinv(x @ y)

    check_grads(of_rank_two, (noise(4, 2), noise(2, 5)))
    check_grads(lambda x, y: linalg.pinv(x @ y, 1e-9), (noise(4, 2), noise(2, 5)))


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize("shape", [(4, 4), (2, 5, 3), (3, 5)])
def test_pseudoinverse_that_cuts_off(shape, dtype):
    """What is cut off turns with the matrix, too; the second derivative is refused."""
    a = noise(*shape, dtype=dtype)
    s = linalg.svdvals(a)
    limit = np.mean(s[..., 1:3], axis=-1) / s[..., 0]
    f = lambda a: linalg.pinv(a, limit)
    assert_gradients(f, (a,), order=1)
    assert_compiled_is_eager(f, (a,))
    with pytest.raises(GradientError, match="first derivative"):
        assert_gradients(f, (a,), order=2)


def test_least_squares_of_a_matrix_without_full_rank():
    a, b = noise(5, 2) @ noise(2, 3), noise(5)
    assert_close(linalg.lstsq(tensor(a, requires_grad=True), b), linalg.lstsq(a, b))
    with pytest.raises(GradientError, match="full rank"):
        sadl.grad(lambda a: np.sum(linalg.lstsq(a, b)[0]))(a)
    grad = sadl.grad(lambda a: np.sum(linalg.lstsq(a, b[:3])[0]))
    run = sadl.compile(grad)
    for _ in range(3):
        assert_close(run(REAL["wide"]), grad(REAL["wide"]))
    with pytest.raises(GradientError, match="full rank"):
        run(noise(3, 2) @ noise(2, 5))
    check_grads(lambda x, y, b: linalg.pinv(x @ y, 1e-9) @ b, (noise(5, 2), noise(2, 3), b))  # what it says instead


def test_norms_of_zero_have_the_gradient_zero():
    x = np.array([[0.0, 0.0], [3.0, 4.0]])
    for order, expected in ((None, [0.6, 0.8]), (1, [1.0, 1.0]), (np.inf, [0.0, 1.0])):
        grad = sadl.grad(lambda x, order=order: np.sum(linalg.norm(x, order, axis=1)))(x)
        np.testing.assert_allclose(grad, [[0.0, 0.0], expected], rtol=1e-12)
    for z in (np.zeros(3), np.zeros(3, complex)):
        assert not np.any(sadl.grad(linalg.norm)(z)) and not np.any(sadl.grad(lambda z: linalg.norm(z, 3))(z))
    assert not linalg.norm(tensor(x, requires_grad=True), 0, axis=1).requires_grad  # counts: a constant


# ---- what is arbitrary is refused ----------------------------------------------------------------------------------

ARBITRARY = [
    ("real", "np.linalg.svd(tall)[0]", "basis"),
    ("real", "np.linalg.svd(wide)[2]", "basis"),
    ("real", 'np.linalg.qr(tall, "complete")[0]', "basis"),
    ("complex", 'np.linalg.qr(talls, "complete")[0]', "basis"),
    ("complex", "np.linalg.eigh(S)[1]", "phases"),
    ("complex", "np.linalg.svd(A)[0]", "phases"),
    ("complex", "np.linalg.svd(tall, False)[2]", "phases"),
]


@pytest.mark.parametrize(("kind", "text", "what"), ARBITRARY)
def test_gradients_that_depend_on_an_arbitrary_choice_are_refused(kind, text, what):
    f, args = case(kind, text)
    both = both_of(f, args)
    with pytest.raises(GradientError, match=rf"^\[\w+\] .*{what}.* Instead: "):
        both(*args)
    harmless = both_of(lambda a: np.abs(f(a)) ** 2 * 0, args)
    run = sadl.compile(lambda a, weight: sadl.grad(lambda a: np.sum(np.real(f(a)) * weight))(a))
    for _ in range(3):
        assert not np.any(run(args[0], 0.0 * np.ones(np.shape(f(*args))))) and not np.any(harmless(*args)[1][0])
    with pytest.raises(GradientError, match=what):
        run(args[0], noise(*np.shape(f(*args))))


def test_vectors_of_a_large_element_are_gradients_of_lapacks_normalisation():
    """The largest element of a complex eigenvector is real: what depends on phases has a gradient."""
    a = noise(5, 5, dtype=complex)
    assert_gradients(lambda a: linalg.eig(a)[1][0] ** 2 + linalg.eig(a)[1][1], (a,))


def test_an_eigenvalue_that_becomes_complex_is_an_error_in_a_program():
    real, turned = np.diag([1.0, 2.0]), np.array([[0.0, 1.0], [-1.0, 0.0]])
    run = sadl.compile(lambda a: linalg.eigvals(a))
    for _ in range(3):
        assert_close(run(real), linalg.eigvals(real))
    with pytest.raises(TypeError):
        run(turned)


def test_reflectors_have_no_gradient():
    a = REAL["tall"]
    assert_close(linalg.qr(tensor(a), "raw"), linalg.qr(a, "raw"))
    run = sadl.compile(lambda a: linalg.qr(a, "raw"))
    for _ in range(3):
        assert_close(run(a), linalg.qr(a, "raw"))
    for mode in ("raw", "economic"):
        with pytest.raises(UnrecordedError):
            linalg.qr(tensor(a, requires_grad=True), mode)


# ---- arguments -----------------------------------------------------------------------------------------------------

WRONG = [
    lambda a: linalg.inv(a[0]),
    lambda a: linalg.solve(a, np.ones(3)),
    lambda a: linalg.det(a[:2]),
    lambda a: linalg.eigh(a, "X"),
    lambda a: linalg.qr(a, "none"),
    lambda a: linalg.pinv(a, 0.1, rtol=0.1),
    lambda a: linalg.norm(a, "nuc", axis=0),
    lambda a: linalg.norm(a, 3),
    lambda a: linalg.norm(a, "other"),
    lambda a: linalg.norm(a, [1, 2]),
    lambda a: linalg.norm(a, axis=(0, 1, 0)),
    lambda a: linalg.norm(a, axis=(0, -2)),
    lambda a: linalg.norm(a, axis=2),
    lambda a: linalg.cond(a[0]),
    lambda a: linalg.cond(a[:0]),
    lambda a: linalg.matrix_power(a, 0.5),
    lambda a: linalg.matrix_power(a[:2], 2),
    lambda a: linalg.tensorinv(a, 0),
    lambda a: linalg.tensorsolve(a, np.ones(3)),
    lambda a: linalg.lstsq(a, np.ones(3)),
    lambda a: linalg.svd(a, [True]),
]


@pytest.mark.parametrize("f", WRONG)
def test_wrong_arguments_raise(f):
    with pytest.raises((ValueError, TypeError)):
        f(tensor(REAL["A"], requires_grad=True))


def test_the_power_zero_is_a_constant():
    a = tensor(REAL["B"], requires_grad=True)
    assert_close(linalg.matrix_power(a, 0), linalg.matrix_power(REAL["B"], 0))
    assert not linalg.matrix_power(a, 0).requires_grad


def test_the_rank_is_a_constant():
    assert linalg.matrix_rank(tensor(REAL["A"], requires_grad=True)) == 4


def test_lists_and_plain_arrays_beside_a_tensor():
    x = tensor(REAL["b"], requires_grad=True)
    assert_close(linalg.solve(REAL["A"].tolist(), x), linalg.solve(REAL["A"], REAL["b"]))
    check_grads(lambda x: linalg.solve(REAL["A"].tolist(), x), (REAL["b"],))
    check_grads(lambda x: linalg.lstsq(REAL["tall"], x)[0], (REAL["f"],))
    check_grads(lambda a: linalg.solve(a, REAL["c"]), (REAL["A"],))


EMPTY = [(0, 3, 3), (2, 0, 0), (0, 0)]


@pytest.mark.parametrize("shape", EMPTY, ids=str)
@pytest.mark.parametrize(
    "f",
    [
        *(linalg.inv, linalg.det, linalg.slogdet, linalg.cholesky, linalg.qr, linalg.eigh, linalg.eigvalsh),
        *(linalg.eig, linalg.eigvals, linalg.svd, linalg.svdvals, linalg.pinv, linalg.matrix_norm),
        lambda a: linalg.matrix_power(a, 3),
        lambda a: linalg.norm(a, 1, axis=(-2, -1)),
        lambda a: linalg.solve(a, a),
    ],
    ids=lambda f: f.__name__,
)
def test_empty_matrices_and_batches(f, shape):
    assert_value_is_numpys(f, (np.zeros(shape),))
    check_grads(f, (np.zeros(shape),))


def test_norms_of_nothing():
    for order in (None, 1, 2, 3, np.inf, 0):
        assert_close(linalg.norm(tensor(np.zeros(0), requires_grad=True), order), linalg.norm(np.zeros(0), order))
    with pytest.raises(ValueError):
        linalg.norm(tensor(np.zeros(0), requires_grad=True), -np.inf)


@pytest.mark.parametrize(
    "text", ["solve(A, b)", "inv(A)", "norm(A)", "norm(A, 1)", "det(A)", "pinv(A)", "cond(A, 1)", "eigh(A)[0]"]
)
def test_integers_in_a_program(text):
    """Captured without gradients, where nothing else is called than for gradients."""
    f, args = function(f"np.linalg.{text}", {k: np.rint(3 * v).astype(int) for k, v in REAL.items()})
    run = sadl.compile(f)
    for _ in range(3):
        assert_close(run(*args), f(*args))


def test_nothing_warns_where_everything_is_finite():
    with warnings.catch_warnings(action="error"):
        for text in texts(FOR_BOTH):
            f, args = function(f"np.linalg.{text}", REAL)
            both_of(f, args)(*args)


def test_the_checker_sees_a_part_that_was_lost():
    lost = lambda a: linalg.inv(np.real(a) + 1j * np.asarray(np.imag(a)))
    with pytest.raises(AssertionError, match="by the rules"):
        assert_gradients(lost, (COMPLEX["A"],), order=1)
