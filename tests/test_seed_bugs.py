"""One test for each known bug of py-sadl 1.0.2: what went wrong there is right here, or a clear error.

   1  the README's quick start crashes: no network with ReLU can be trained
   2  maximum and minimum never work
   3  views, slices, reshapes, transposes, copies and casts of a leaf lose their gradient silently
   4  a view of a non-leaf is a second copy of the same graph node
   5  a slice of a Parameter is a Parameter with the whole gradient
   6  sum and mean with an integer or positional axis, or keepdims, fail
   7  keyword arguments leak into the backward: mean(), std(), var(), +=, out=, where=, dtype=
   8  reduce, accumulate, outer, at, reduceat use the gradient of the call itself
   9  where= and initial= of reductions, and NaN, give gradients to the wrong elements or stop
  10  power does not broadcast; its exponent's gradient is NaN for bases <= 0
  11  matmul of 1-D operands and of broadcast batches fails
  12  operations without a gradient raise although nothing requires one
  13  under no_grad every result is wrapped in one Tensor
  14  Tensors passed by keyword are not tracked
  15  lists of Tensors become constants
  16  dtypes drift to float64
  17  in-place operations lose identity, are invisible, or change saved values silently
  18  the graph is kept although nothing requires a gradient
  19  a second backward does nothing; an activation of two losses loses a path
  20  the gradient of sigmoid is NaN at -100; that of a complex abs is wrong
  21  grad mode: ignored by ones_like, lost by nesting, shared by threads; no_grad_fn drops the name
  22  validation by assert; backward on Tensors instead of arrays
  23  Parameter(dtype=) and Tensor(dtype=) fail; an integer Parameter is accepted
  24  pickle loses the attributes
  25  "Xavier" weights are all positive
  26  weights cannot be seeded
  27  tied parameters are stepped twice; a reference to a parent recurses for ever
  28  layers without parameters cannot be switched to inference; there are no buffers
  29  copy_to_device to the same device replaces all Parameters
  30  load_parameters ignores unexpected keys, swaps found and expected, casts silently, is not atomic, aliases
  31  Linear takes 2-D input only
  32  tensor(device=0) without a GPU gives a CPU Tensor silently
  33  an optimizer cannot load the state it gave
  34  an optimizer takes lists only
  35  a frozen parameter makes step() raise; there is no loss.backward()
  36  damaged files give obscure errors; trailing bytes are ignored
  37  big-endian arrays are corrupted
  38  object and string arrays are written and cannot be read
  39  __single__, paths, integer keys and hostile shapes on disk
  40  what belongs to a training run cannot be saved; no py.typed

Takes the public names only. Compares with central differences or with values worked out by hand.
"""

import copy
import functools
import inspect
import pathlib
import pickle
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest

import sadl
from sadl import SGD, Adam, Function, GradientError, Linear, Mlp, Parameter, ReLU, Sigmoid, check_grads, tensor
from sadl.op import OPS

RNG = np.random.default_rng(0)
A = RNG.uniform(0.5, 2.0, (3, 4))
B = RNG.uniform(0.5, 2.0, (3, 4))
ERRORS = (TypeError, ValueError, RuntimeError)


def leaf(value=A, **options):
    return tensor(value, requires_grad=True, **options)


def grad(f, *values):
    """The gradients of sum(f) by each value."""
    leaves = [leaf(v) for v in values]
    np.sum(f(*leaves)).backward()
    return [t.grad for t in leaves] if len(leaves) > 1 else leaves[0].grad


def right_or_error(f, *values):
    """Never silently wrong: either the gradient agrees with differences, or there is an error."""
    try:
        check_grads(f, values, order=1)
    except ERRORS as error:
        assert len(str(error)) > 10, error


# ---- the core --------------------------------------------------------------------------------------------------


def test_bug_01_quick_start_with_relu_trains():
    model = Mlp([Linear(dim_in=4, dim_out=8, rng=0), ReLU(), Linear(dim_in=8, dim_out=2, rng=1)])
    optimizer = SGD(list(model.get_parameters().values()), lr=0.1)
    x, y = tensor(RNG.standard_normal((16, 4)).astype(np.float32)), tensor(np.ones((16, 2), np.float32))
    losses = []
    for _ in range(20):
        loss = ((model(x) - y) ** 2).mean()
        optimizer.zero_grad()
        optimizer.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("f", [np.maximum, np.minimum])
def test_bug_02_maximum_and_minimum(f):
    check_grads(f, (A, B))
    check_grads(f, (A, B[0]))
    check_grads(lambda x: f(x, 1.0), (A,))
    assert np.array_equal(grad(f, np.ones(2), np.ones(2)), np.full((2, 2), 0.5))


VIEWS = {
    "index": lambda x: x[1],
    "slice": lambda x: x[::2, 1:],
    "ellipsis": lambda x: x[..., None, 0],
    "array": lambda x: x[np.array([0, 0, 2])],
    "mask": lambda x: x[np.asarray(A) > 1],
    "T": lambda x: x.T,
    "transpose": lambda x: x.transpose(1, 0),
    "reshape": lambda x: x.reshape(2, 6),
    "ravel": lambda x: x.ravel(),
    "flatten": lambda x: x.flatten(),
    "copy": lambda x: x.copy(),
    "astype": lambda x: x.astype(np.float64),
    "take": lambda x: x.take([0, 5, 5]),
    "take axis": lambda x: x.take([1, 1], axis=1),
    "dot": lambda x: x.dot(B.T),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "squeeze": lambda x: x[None].squeeze(0),
    "iteration": lambda x: functools.reduce(lambda a, b: a * b, list(x)),
    "unpacking": lambda x: (lambda a, b, c: a * b + c)(*x),
}


@pytest.mark.parametrize("name", VIEWS)
def test_bug_03_views_of_a_leaf_keep_the_gradient(name):
    check_grads(lambda x: VIEWS[name](x) ** 2, (A,))
    check_grads(lambda p: VIEWS[name](p * 1) ** 2, (A,), order=1)


@pytest.mark.parametrize("f", [lambda x: x.repeat(2), lambda x: x.flat[3], lambda x: x.diagonal(), lambda x: x.trace()])
def test_bug_03_other_methods_are_right_or_an_error(f):
    right_or_error(f, A)


def test_bug_04_a_view_of_a_non_leaf_is_a_node_of_its_own():
    g = grad(lambda a: (a * np.array([[1.0, 10], [100, 1000]])).T * np.array([[1.0, 1], [0, 0]]), np.ones((2, 2)))
    assert np.array_equal(g, [[1, 0], [100, 0]])
    check_grads(lambda a: (a * 2).reshape(4, 3)[1:].T, (A,))


def test_bug_05_a_slice_of_a_parameter_is_a_tensor_without_a_gradient():
    p = Parameter(A.copy())
    np.sum(p * p).backward()
    part = p[0]
    assert not isinstance(part, Parameter) and not part.is_leaf() and part.grad is None and not part.keep_grad
    assert isinstance(part, sadl.Tensor)


@pytest.mark.parametrize("f", [np.sum, np.mean, np.max, np.min])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_bug_06_reductions_with_an_axis(f, axis, keepdims):
    check_grads(lambda x: f(x, axis=axis, keepdims=keepdims) ** 2, (A,), order=1)
    check_grads(lambda x: f(x, axis) ** 2, (A,), order=1)


METHODS = {
    "mean": lambda x: x.mean(),
    "mean axis": lambda x: x.mean(0),
    "std": lambda x: x.std(axis=1),
    "var": lambda x: x.var(axis=0, ddof=1, keepdims=True),
    "sum dtype": lambda x: x.sum(axis=0, dtype=np.float64),
    "dtype=": lambda x: np.multiply(x, x, dtype=np.float64),
    "out=": lambda x: np.multiply(x, x, out=tensor(np.zeros((3, 4)))),
    "where=, out=": lambda x: np.multiply(x, x, where=B > 1, out=tensor(np.ones((3, 4)))),
}


@pytest.mark.parametrize("name", METHODS)
def test_bug_07_keyword_arguments(name):
    check_grads(METHODS[name], (A,), order=1)


def test_bug_07_augmented_assignment():
    def f(x, y):
        t = x * 2
        t += y
        t *= 3
        t -= x * y
        t /= 2
        return t * x

    check_grads(f, (A, B))


def test_bug_07_augmented_assignment_of_a_saved_value():
    def f(x, y):
        t = x * 2
        t *= y  # its gradient by y needs the t that the next line overwrites
        t += 1
        return t

    right_or_error(f, A, B)


UFUNC_METHODS = {
    "add.reduce": np.add.reduce,
    "multiply.reduce": lambda x: np.multiply.reduce(x, axis=1),
    "maximum.reduce": np.maximum.reduce,
    "minimum.reduce": lambda x: np.minimum.reduce(x, axis=1),
    "max()": lambda x: x.max(axis=0),
    "add.accumulate": np.add.accumulate,
    "multiply.accumulate": lambda x: np.multiply.accumulate(x, axis=1),
    "add.outer": lambda x: np.add.outer(x, B),
    "subtract.outer": lambda x: np.subtract.outer(B[0], x),
    "multiply.outer": lambda x: np.multiply.outer(x, B) * 3,
    "divide.outer": lambda x: np.divide.outer(x, x),
    "add.reduceat": lambda x: np.add.reduceat(x, [0, 1]),
}


@pytest.mark.parametrize("name", UFUNC_METHODS)
def test_bug_08_ufunc_methods_are_right_or_an_error(name):
    right_or_error(UFUNC_METHODS[name], A)


@pytest.mark.parametrize(
    "name", ["add.reduce", "maximum.reduce", "minimum.reduce", "max()", "multiply.outer", "divide.outer"]
)
def test_bug_08_the_usual_ufunc_methods_are_right(name):
    check_grads(UFUNC_METHODS[name], (A,))


def test_bug_08_ufunc_at():
    with pytest.raises(GradientError, match="leaf"):
        np.add.at(leaf(), [0, 0], 1.0)

    def f(x, v):
        y = x * 1
        np.add.at(y, [0, 0], v)
        return y * y

    check_grads(f, (A, B[:2]))
    t = tensor([1.0, 2.0])
    assert np.add.at(t, [0, 0], 1.0) is None and np.array_equal(t, [3, 2])


def test_bug_09_where_and_initial_of_reductions():
    mask = B > 1.2
    check_grads(lambda x: np.max(x, where=mask, initial=0.0), (A,))
    check_grads(lambda x: np.max(x, axis=0, initial=9.0), (A,))
    check_grads(lambda x: np.sum(x, axis=1, where=mask), (A,))
    check_grads(lambda x: np.mean(x, axis=0, where=np.array([True, False, True])[:, None]), (A,))
    x = np.array([1.0, 5.0, 5.0])
    assert np.array_equal(grad(lambda t: np.max(t, where=np.array([True, True, False]), initial=0.0), x), [0, 1, 0])


def test_bug_09_nan_in_max_does_not_stop():
    with np.errstate(invalid="ignore"):  # no element is the maximum: 0 / 0
        g = grad(np.max, np.array([1.0, np.nan, 2.0]))
    assert g.shape == (3,) and not np.any(g[[0, 2]] > 0)


def test_bug_10_power():
    check_grads(np.power, (A, B[0]))
    check_grads(np.power, (A[:, :1], B))
    check_grads(lambda x: x**3 + x**2 + x**-1.0 + 2.0**x, (A,))
    base, exponent = grad(np.power, np.array([0.0, -2.0, 3.0]), np.array([2.0, 3.0, 2.0]))
    assert np.allclose(base, [0, 12, 6]) and np.allclose(exponent, [0, 0, 9 * np.log(3)])
    assert np.array_equal(grad(lambda x: x**2, np.array([0.0, -3.0])), [0, -6])


@pytest.mark.parametrize(
    "a, b",
    [((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 2)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (2, 4, 3))],
)
def test_bug_11_matmul_of_any_ranks(a, b):
    check_grads(np.matmul, (RNG.standard_normal(a), RNG.standard_normal(b)))


def test_bug_12_without_gradients_everything_runs():
    t = tensor(A)
    assert (t > 1).dtype == bool and np.argmax(t) == np.argmax(A) and np.shape(t) == (3, 4)
    assert np.allclose(t, A) is True and np.array_equal(np.zeros_like(t), np.zeros((3, 4)))
    assert np.allclose(np.tanh(t), np.tanh(A)) and np.concatenate([t, t]).shape == (6, 4)
    assert np.allclose(np.cumprod(t), np.cumprod(A)) and np.allclose(np.linalg.det(t[:, :3]), np.linalg.det(A[:, :3]))


def test_bug_12_comparisons_and_argmax_of_what_requires_a_gradient():
    x = leaf()
    assert np.array_equal(x > 1, A > 1) and not (x > 1).requires_grad
    assert np.array_equal(np.argmax(x, axis=1), np.argmax(A, axis=1))
    check_grads(lambda x: np.where(x > 1, x * x, 0.5 * x), (A,))


def test_bug_13_results_that_are_no_arrays_under_no_grad():
    x = leaf()
    with sadl.no_grad():
        assert np.shape(x) == (3, 4) and type(np.shape(x)) is tuple
        parts = np.split(x, 3)
        assert isinstance(parts, list) and [p.shape for p in parts] == [(1, 4)] * 3
        values, vectors = np.linalg.eigh(x.T @ x)
        assert values.shape == (4,) and vectors.shape == (4, 4) and isinstance(values, sadl.Tensor)
        fraction, whole = np.modf(x)
        assert np.allclose(fraction + whole, A)
        assert np.allclose(x, A) is True
        assert not any(t.requires_grad for t in (*parts, values, vectors, fraction, whole))


def test_bug_14_tensors_passed_by_keyword():
    assert np.array_equal(grad(lambda x: np.sum(a=x), A), np.ones((3, 4)))
    check_grads(lambda x: np.mean(a=x, axis=0) + np.max(a=x, axis=0), (A,))
    right_or_error(lambda x: np.clip(a=x, a_min=0.7, a_max=1.5), A)


def test_bug_15_lists_of_tensors():
    check_grads(lambda x, y: np.concatenate([x, y, x]) ** 2, (A, B))
    check_grads(lambda x, y: np.stack([x, y], axis=1) ** 2, (A, B))
    right_or_error(lambda x, y: np.block([[x, y], [y, x]]) ** 2, A, B)
    right_or_error(lambda x, y: np.vstack([x, y]) ** 2, A, B)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_bug_16_dtypes_do_not_drift(dtype):
    p = Parameter(A.astype(dtype))
    y = sadl.functional.relu(p * 2.0 + 1) ** 2
    assert y.dtype == dtype
    np.sum(y).backward()
    assert p.grad.dtype == dtype and type(p.grad) is np.ndarray
    layer = Linear(dim_in=4, dim_out=2, dtype=dtype)
    assert layer.W.dtype == layer(p).dtype == ReLU()(p).dtype == Sigmoid()(p).dtype == dtype
    optimizer = Adam([p])
    optimizer.step()
    assert p.dtype == dtype and all(t.dtype == np.result_type(dtype, "f") for t in optimizer.state if t.ndim)


def test_bug_17_in_place_on_a_parameter_keeps_its_identity():
    p = Parameter(A.copy())
    same = p
    with pytest.raises(ValueError, match="in-place"):
        p += 1
    with sadl.no_grad():
        p += 1
    assert p is same and isinstance(p, Parameter) and np.allclose(p, A + 1)


def test_bug_17_out_is_returned():
    x, out = tensor(A), tensor(np.zeros((3, 4)))
    assert np.multiply(x, 2.0, out=out) is out and np.allclose(out, 2 * A)


def test_bug_17_a_saved_value_that_changed_is_an_error():
    x = leaf()
    q = x * 1
    r = q**2
    q *= 2
    with pytest.raises(RuntimeError, match="changed in place"):
        np.sum(r).backward()
    with pytest.raises(RuntimeError, match="changed in place"):
        p = Parameter(A.copy())
        loss = np.sum(p * p)
        with sadl.no_grad():
            p[...] = 0
        loss.backward()


def test_bug_17_item_assignment_is_in_the_graph():
    def f(x, y):
        q = x * 2
        q[1] = y[0] * 3
        q[:, 2] = 0
        return q**2

    check_grads(f, (A, B))


def test_bug_18_no_graph_where_nothing_requires_a_gradient():
    e = tensor([1.0])
    for _ in range(50):
        e = e * 0.9 + 0.1
    assert e.is_leaf() and e.src == () and not e.requires_grad and len(sadl.optimizer.toposort(e)) == 1


def test_bug_19_a_second_backward_is_an_error():
    p = Parameter([2.0])
    loss = np.sum(p * 3)
    loss.backward()
    with pytest.raises(ValueError, match="earlier backward"):
        loss.backward()
    with pytest.raises(ValueError, match="does not depend"):
        tensor(1.0).backward()
    assert p.grad == 3


@pytest.mark.parametrize("owner", [True, False], ids=["optimizer.backward", "loss.backward"])
def test_bug_19_an_activation_shared_by_two_losses(owner):
    p = Parameter([1.0])
    optimizer = SGD([p])
    hidden = p * 2
    for loss in (np.sum(hidden), np.sum(hidden * 3)):
        optimizer.backward(loss) if owner else loss.backward()
    assert p.grad == 2 + 6


def test_bug_20_sigmoid_far_out():
    for dtype in (np.float32, np.float64):
        x = np.array([-1e4, -100, -20, 0, 20, 100, 1e4], dtype)
        g = grad(sadl.functional.sigmoid, x)
        assert np.all(np.isfinite(g)) and g[3] == 0.25 and np.isclose(g[2], np.exp(-20), rtol=1e-4)


def test_bug_20_complex_abs_is_right_or_an_error():
    z = np.array([3 + 4j, -1j])
    x = leaf(z)
    try:
        np.sum(np.abs(x)).backward()
    except ERRORS:
        return
    assert np.allclose(x.grad, z / np.abs(z)) or np.allclose(x.grad, (z / np.abs(z)).conj())


def test_bug_21_ones_like_sees_the_grad_mode():
    x = leaf()
    sadl.set_global_grad_mode(False)
    try:
        assert not sadl.ones_like(x, requires_grad=True).requires_grad
        assert not sadl.zeros_like(x, requires_grad=True).requires_grad
        assert not sadl.get_current_global_grad_mode() and not sadl.is_global_grad_mode_enabled()
    finally:
        sadl.set_global_grad_mode(True)
    assert sadl.ones_like(x, requires_grad=True).requires_grad
    assert sadl.get_current_global_grad_mode() is True


def test_bug_21_one_no_grad_nested_in_itself():
    off = sadl.no_grad()
    with off:
        with off:
            assert not sadl.is_global_grad_mode_enabled()
        assert not sadl.is_global_grad_mode_enabled()
    assert sadl.is_global_grad_mode_enabled()
    with pytest.raises(KeyError), off:
        raise KeyError
    assert sadl.is_global_grad_mode_enabled()


def test_bug_21_grad_mode_is_per_thread():
    seen = []
    with sadl.no_grad():
        thread = threading.Thread(target=lambda: seen.append(sadl.is_global_grad_mode_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_bug_21_no_grad_fn_keeps_name_documentation_and_signature():
    @sadl.no_grad_fn
    def f(a, *, b=1):
        """What it does."""
        return sadl.is_global_grad_mode_enabled()

    assert f(1) is False and (f.__name__, f.__doc__) == ("f", "What it does.")
    assert str(inspect.signature(f)) == "(a, *, b=1)"


def test_bug_22_validation_without_asserts():
    code = """if 1:
        import numpy as np, sadl
        p = sadl.Parameter([1.0, 2.0])
        for bad in (
            lambda: sadl.Linear(dim_in=3, dim_out=2)(np.ones((2, 4))),
            lambda: sadl.SGD([p]).backward(p * 2),
            lambda: sadl.SGD([p]).step(),
            lambda: np.matmul(p, np.ones(3)),
            lambda: sadl.Tensor(np.ones(2), src=(p,), creator_op="x"),
        ):
            try:
                bad()
            except ValueError:
                continue
            raise SystemExit("not raised")
    """
    run = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_bug_22_rules_run_on_plain_arrays(monkeypatch):
    seen = []

    def rule(g, y, x):
        seen.extend([type(g), type(y), type(x)])
        return g * np.cos(x)

    monkeypatch.setattr(OPS["sin"], "vjp", (rule,))
    g = grad(lambda x: np.sin(x * 1) * 2, A)
    assert seen == [np.ndarray] * 3 and type(g) is np.ndarray and np.allclose(g, 2 * np.cos(A))


def test_bug_23_dtype_of_the_constructors():
    assert Parameter([1.0, 2.0], dtype=np.float32).dtype == np.float32
    assert sadl.Tensor([1, 2], dtype=np.float32).dtype == np.float32
    assert Parameter([1, 2], dtype=np.float64).requires_grad
    with pytest.raises(ValueError, match="Parameter must have float type, found int"):
        Parameter([1, 2])


@pytest.mark.parametrize("again", [lambda t: pickle.loads(pickle.dumps(t)), copy.deepcopy, copy.copy])
def test_bug_24_copies_keep_the_attributes(again):
    p = Parameter(A.copy(), is_training=False)
    p.grad = B
    q = again(p)
    assert isinstance(q, Parameter) and q.requires_grad and q.keep_grad and q.is_training is False and q.is_leaf()
    assert np.array_equal(q, A) and np.array_equal(q.grad, B) and not np.shares_memory(p, q)
    t = again(leaf())
    assert t.requires_grad and not t.keep_grad and t.is_leaf() == (again is not copy.copy)  # which is recorded
    assert not again(tensor(A)).requires_grad


# ---- functions -------------------------------------------------------------------------------------------------


def test_bug_25_weights_are_glorot_uniform():
    W = Linear(dim_in=100, dim_out=100, rng=0).W._plain()
    bound = np.sqrt(6 / 200)
    assert W.min() < -0.95 * bound and W.max() > 0.95 * bound and abs(W).max() <= bound * (1 + 1e-6)
    assert abs(W.mean()) < 0.05 * bound


def test_bug_26_weights_can_be_seeded():
    def build():
        sadl.random.seed(1)
        return Mlp([Linear(dim_in=2, dim_out=2), Linear(dim_in=2, dim_out=2)])

    a, b = build(), build()
    assert np.array_equal(a.layers[0].W, b.layers[0].W) and np.array_equal(a.layers[1].W, b.layers[1].W)
    assert not np.array_equal(a.layers[0].W, a.layers[1].W)


class Tied(Function):
    def __init__(self):
        self.a = Linear(dim_in=2, dim_out=2, bias=False)
        self.b = [self.a.W]
        self.parent = self

    def __call__(self, x):
        return x @ self.a.W @ self.b[0]


def test_bug_27_tied_parameters_are_stepped_once():
    f = Tied()
    assert list(f.get_parameters()) == ["a.W"]
    before = f.a.W.copy()
    f.a.W.grad = np.ones((2, 2), np.float32)
    SGD([*f.parameters, f.b[0]], lr=1.0).step()
    assert np.allclose(f.a.W, before - 1)


def test_bug_28_every_layer_has_a_mode_and_buffers_are_saved():
    assert ReLU().inference().is_training() is False and ReLU().train().is_training() is True
    layer = ReLU()
    layer.mean = sadl.Buffer(np.ones(2))
    other = copy.deepcopy(layer)
    layer.mean[...] = 3
    assert list(other.load_state(layer.get_state()).get_state()) == ["mean"] and np.all(other.mean == 3)


def test_bug_29_the_same_device_keeps_the_parameters():
    f = Linear(dim_in=2, dim_out=2)
    W, optimizer = f.W, SGD(f)
    assert f.copy_to_device("cpu").W is W and f.W.cpu() is W
    optimizer.backward(np.sum(f(np.ones((1, 2), np.float32))))
    optimizer.step()


def test_bug_30_load_parameters():
    f = Linear(dim_in=2, dim_out=3)
    before = f.get_state()
    good = {k: np.ones(p.shape, np.float32) for k, p in before.items()}
    for bad, text in (
        (good | {"x": np.ones(1)}, 'Unexpected parameter data for "x"'),
        ({"W": good["W"]}, 'Parameter data not found for "b"'),
        (good | {"b": np.ones(4, np.float32)}, r"expected \(3,\), found \(4,\)"),
        (good | {"b": np.ones(3, np.int64)}, "expected float32, found int64"),
        (good | {"b": np.ones(3, np.complex64)}, "expected float32, found complex64"),
    ):
        with pytest.raises((KeyError, ValueError), match=text):
            f.load_parameters(parameters=bad)
        assert all(np.array_equal(before[k], p) for k, p in f.get_parameters().items())
    f.load_parameters(parameters=good)
    good["W"][...] = 5
    assert np.all(f.W == 1)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (5, 2, 3)])
def test_bug_31_linear_on_any_rank(shape):
    f = Linear(dim_in=3, dim_out=2)
    y = f(np.ones(shape, np.float32))
    assert y.shape == (*shape[:-1], 2)
    np.sum(y).backward()
    assert f.W.grad.shape == (3, 2) and np.allclose(f.b.grad, np.prod(shape[:-1]))


def test_bug_32_a_device_that_is_not_there_is_an_error():
    for action in (
        lambda: tensor([1.0], device=0),
        lambda: tensor([1.0]).gpu(),
        lambda: sadl.zeros(2, device=1),
        lambda: sadl.copy_to_device(tensor([1.0]), 0),
        lambda: tensor([1.0], device="cuda"),
    ):
        with pytest.raises(ValueError):
            action()


# ---- optimizer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [SGD, Adam])
def test_bug_33_an_optimizer_loads_its_own_state(cls):
    p = Parameter([1.0])
    optimizer = cls([p], lr=0.25)
    p.grad = np.ones(1)
    optimizer.step()
    optimizer.load_state(state=optimizer.get_state())
    fresh = cls([Parameter([1.0])])
    fresh.load_state(state=optimizer.get_state())
    assert [t.tolist() for t in fresh.state] == [t.tolist() for t in optimizer.state]


def test_bug_34_an_optimizer_takes_any_collection():
    f = Linear(dim_in=2, dim_out=2)
    for params in (f.parameters, (p for p in f.parameters), f.get_parameters(), tuple(f.parameters), f):
        assert len(SGD(params).params) == 2


def test_bug_35_frozen_parameters_and_loss_backward():
    f = Mlp([Linear(dim_in=2, dim_out=2), Linear(dim_in=2, dim_out=2)])
    f.layers[0].requires_grad = False
    frozen = f.layers[0].W.copy()
    optimizer = Adam(f)
    np.mean(f(np.ones((1, 2), np.float32))).backward()
    optimizer.step()
    assert np.array_equal(f.layers[0].W, frozen) and f.layers[0].W.grad is None
    assert f.layers[1].W.grad is not None


# ---- disk ------------------------------------------------------------------------------------------------------


def test_bug_36_damaged_files(tmp_path):
    path = tmp_path / "t.sadl"
    sadl.save({"a": tensor(A), "b": tensor([1, 2])}, path)
    whole = path.read_bytes()
    for damaged in (*(whole[:n] for n in range(len(whole))), whole + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(sadl.FileFormatError, match=r"t\.sadl, byte"):
            sadl.load(path)


def test_bug_37_big_endian_arrays(tmp_path):
    values = np.arange(5, dtype=">f4")
    sadl.save(sadl.Tensor(values), tmp_path / "t.sadl")
    assert np.array_equal(sadl.load(tmp_path / "t.sadl"), values)


@pytest.mark.parametrize("values", [np.array([1, None]), np.array(["a"]), np.zeros(2, [("x", "f4")])], ids=str)
def test_bug_38_what_cannot_be_read_is_not_written(tmp_path, values):
    path = tmp_path / "t.sadl"
    with pytest.raises(ValueError):
        sadl.save({"x": values.view(type(tensor(0.0)))}, path)
    assert not path.exists()


def test_bug_39_keys_paths_and_hostile_shapes(tmp_path):
    path = pathlib.Path(tmp_path) / "t.sadl"
    with pytest.raises(ValueError, match="__single__"):
        sadl.save({"__single__": tensor(A)}, path)
    with pytest.raises(TypeError, match="key 1"):
        sadl.save({1: tensor(A)}, path)
    assert not path.exists()
    sadl.save(tensor(A), path)
    assert np.array_equal(sadl.load(str(path)), A)
    path.write_bytes(b"SADL" + struct.pack("<BII1sB7sB2Q", 1, 1, 1, b"k", 7, b"float32", 2, 2**33, 2**31))
    with pytest.raises(sadl.FileFormatError):
        sadl.load(path)


def test_bug_40_a_training_run_is_saved_and_continued(tmp_path):
    f = Mlp([Linear(dim_in=2, dim_out=2, rng=0)])
    optimizer = Adam(f, lr=0.1)
    x = np.ones((1, 2), np.float32)

    def step(f, optimizer):
        optimizer.zero_grad()
        optimizer.backward(np.sum(f(x) ** 2))
        optimizer.step()

    step(f, optimizer)
    sadl.save(f.get_state(), tmp_path / "model.sadl")
    sadl.save(optimizer.get_state(), tmp_path / "optimizer.sadl")
    g = Mlp([Linear(dim_in=2, dim_out=2)]).load_state(sadl.load(tmp_path / "model.sadl"))
    resumed = Adam(g)
    resumed.load_state(sadl.load(tmp_path / "optimizer.sadl"))
    step(f, optimizer)
    step(g, resumed)
    assert all(np.array_equal(a, b) for a, b in zip(f.parameters, g.parameters, strict=True))
    assert (pathlib.Path(sadl.__file__).parent / "py.typed").exists()
