"""Tests of `sadl.grad_ops`: gradients by name, and gradients of one's own in the graph.

Takes the table of operations as it is; what a test registers is taken out again.
"""

import functools

import numpy as np
import pytest

import sadl
from sadl import grad_ops
from sadl.errors import RuleError
from sadl.grad_ops import GradOpSpec, OpInputs, OpType, register_grad_op
from sadl.op import OPS, UFUNCS
from sadl.utils import copy_array

RNG = np.random.default_rng(0)
UNARY = ["absolute", "abs", "negative", "sqrt", "square", "exp", "log", "sin", "cos", "sum", "mean", "max", "min"]
UNARY += ["copy_to_device"]
BINARY = ["add", "subtract", "mul", "multiply", "div", "divide", "matmul", "power", "maximum", "minimum"]


@pytest.fixture
def table():
    """Whatever is registered in the test is forgotten after it."""
    before = dict(OPS), dict(UFUNCS), dict(grad_ops._registered)
    changed = {op: (op.pullback, op.differentiable) for op in OPS.values()}
    yield
    for held, old in zip((OPS, UFUNCS, grad_ops._registered), before, strict=True):
        held.clear()
        held.update(old)
    for op, (pullback, differentiable) in changed.items():
        op.pullback, op.differentiable = pullback, differentiable


def forward(name):
    if name == "copy_to_device":
        return lambda x: x.copy()
    return getattr(np, {"mul": "multiply", "div": "divide", "abs": "absolute"}.get(name, name))


def positive(*shape):
    return RNG.uniform(0.5, 2.0, shape)


def check(f, backward, inputs, **ctx):
    """Compare a gradient with central differences, by each input."""
    out = f(*inputs, **ctx)
    ct = RNG.standard_normal(np.shape(out))
    grads = backward(*inputs, compute_grad=(True,) * len(inputs), grad_out=ct, **ctx)
    assert isinstance(grads, tuple) and len(grads) == len(inputs)
    for i, (x, g) in enumerate(zip(inputs, grads, strict=True)):
        assert type(g) is np.ndarray and g.shape == x.shape and g.dtype == x.dtype
        d = RNG.standard_normal(x.shape)
        up, down = (f(*inputs[:i], x + s * d, *inputs[i + 1 :], **ctx) for s in (1e-6, -1e-6))
        assert np.allclose(np.sum(ct * (up - down)) / 2e-6, np.sum(g * d), rtol=1e-5, atol=1e-7)


# ---- by name ---------------------------------------------------------------------------------------------------


def test_all_names_of_py_sadl():
    assert len(UNARY + BINARY) == 24
    for name in UNARY + BINARY:
        spec = grad_ops.get_grad_op_spec(name)
        assert isinstance(spec, GradOpSpec) and name in spec.forward_names
        assert spec.op_inputs == (1 if name in UNARY else 2)
        assert grad_ops.get_grad_op(name) is not None


@pytest.mark.parametrize("name", UNARY)
def test_unary_gradients(name):
    check(forward(name), grad_ops.get_grad_op(name), (positive(3, 4),))


@pytest.mark.parametrize("name", BINARY)
def test_binary_gradients(name):
    check(forward(name), grad_ops.get_grad_op(name), (positive(4, 4), positive(4, 4)))


@pytest.mark.parametrize("name", [n for n in BINARY if n != "matmul"])
def test_binary_gradients_broadcast(name):
    check(forward(name), grad_ops.get_grad_op(name), (positive(3, 4), positive(4)))
    check(forward(name), grad_ops.get_grad_op(name), (positive(3, 1), positive(1, 4)))


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min"])
@pytest.mark.parametrize("ctx", [{"axis": 1}, {"axis": (0, -1), "keepdims": True}, {"axis": -2, "keepdims": False}])
def test_reductions_with_an_axis(name, ctx):
    check(forward(name), grad_ops.get_grad_op(name), (positive(2, 3, 4),), **ctx)


def test_only_the_wanted_gradients_are_computed():
    a, b = positive(2), positive(2)
    grads = grad_ops.get_grad_op("mul")(a, b, compute_grad=(False, True), grad_out=np.ones(2))
    assert grads[0] is None and np.array_equal(grads[1], a)
    (g, none) = grad_ops.get_grad_op("power")(a, 2, compute_grad=(True, False), grad_out=np.ones(2))
    assert np.allclose(g, 2 * a) and none is None


def test_gradients_keep_float32():
    x = positive(3).astype(np.float32)
    for name in UNARY:
        ct = np.ones(np.shape(forward(name)(x)), np.float32)
        assert grad_ops.get_grad_op(name)(x, compute_grad=(True,), grad_out=ct)[0].dtype == np.float32


def test_other_operations_of_the_table():
    assert grad_ops.get_grad_op_spec("tanh").op_type is OpType.ELEMENTWISE
    assert grad_ops.get_grad_op_spec("matmul").op_type is OpType.LINALG
    assert grad_ops.get_grad_op_spec("sum").op_type is OpType.REDUCTION
    assert grad_ops.get_grad_op_spec("log").constraints
    for name in ("floor", "argmax", "nonsense", "getitem", "put", "cast"):
        assert grad_ops.get_grad_op(name) is None, name


def test_names():
    normalize = grad_ops.normalize_grad_op_name
    assert normalize(name="add") == "add" and normalize(name="add", is_reduce=True) == "sum"
    assert normalize(name="maximum", is_reduce=True) == "max" and normalize(name="minimum", is_reduce=True) == "min"
    assert normalize(name="mul") == "multiply"


def test_make_axis():
    assert grad_ops.make_axis(3, None) == (0, 1, 2)
    assert grad_ops.make_axis(3, -1) == (2,)
    assert grad_ops.make_axis(3, (2, 0)) == (0, 2)
    with pytest.raises(ValueError):
        grad_ops.make_axis(2, 2)


def test_a_spec_that_skips_needs_a_reason():
    with pytest.raises(ValueError, match="without a reason"):
        GradOpSpec(lambda: (), OpType.ELEMENTWISE, OpInputs.UNARY, ("f",), skip_test=True)
    spec = GradOpSpec(lambda: (), OpType.ELEMENTWISE, OpInputs.UNARY, ("f",), skip_test=True, skip_reason="why")
    with pytest.raises(AttributeError):
        spec.skip_test = False


# ---- of one's own ----------------------------------------------------------------------------------------------


def cube(x, scale=1.0):
    raw = np.asarray(x)
    return sadl.Tensor(scale * raw**3, src=(x,), creator_op="cube", op_ctx={"scale": scale})


@pytest.fixture
def cube_backward(table):
    @register_grad_op(op_type=OpType.ELEMENTWISE, op_inputs=OpInputs.UNARY)
    def cube_backward(x, *, compute_grad, grad_out, scale):
        assert compute_grad == (True,)
        return (grad_out * scale * 3 * x**2,)

    return cube_backward


def test_a_user_defined_op_is_differentiated(cube_backward):
    x = sadl.tensor([1.0, 2.0], requires_grad=True)
    np.sum(cube(x * 1, scale=2.0) * 5).backward()
    assert np.allclose(x.grad, 2 * 5 * 3 * np.array([1, 4]))
    assert grad_ops.get_grad_op("cube") is cube_backward
    assert grad_ops.get_grad_op_spec("cube").forward_names == ("cube",)


def test_a_user_defined_op_to_the_second_order(cube_backward):
    x = sadl.tensor([1.0, 2.0], requires_grad=True)
    np.sum(cube(x)).backward(create_graph=True)
    g = x.grad
    x.grad = None
    np.sum(g).backward()
    assert np.allclose(x.grad, 6 * np.array([1, 2]))


def test_several_inputs_names_and_broadcasting(table):
    @register_grad_op(op_type=OpType.ELEMENTWISE, op_inputs=OpInputs.BINARY, forward_names=("mix", "blend"))
    @grad_ops.broadcastable
    def any_name(x, y, *, compute_grad, grad_out):
        return grad_out * y, (grad_out * x if compute_grad[1] else None)

    for name in ("mix", "blend"):
        x, y = sadl.tensor(positive(3, 4), requires_grad=True), sadl.tensor(positive(4), requires_grad=True)
        z = sadl.Tensor(np.asarray(x) * np.asarray(y), src=(x, y), creator_op=name)
        np.sum(z * z).backward()
        assert np.allclose(x.grad, 2 * np.asarray(z) * np.asarray(y))
        assert y.grad.shape == (4,) and np.allclose(y.grad, np.sum(2 * np.asarray(z) * np.asarray(x), axis=0))
    grads = any_name(positive(3, 1), positive(4), compute_grad=(True, True), grad_out=np.ones((3, 4)))
    assert [g.shape for g in grads] == [(3, 1), (4,)]


def test_integer_inputs_ask_for_no_gradient(table):
    asked = []

    @register_grad_op(op_type=OpType.MOVEMENT, op_inputs=OpInputs.BINARY)
    def pick_backward(x, i, *, compute_grad, grad_out):
        asked.append(compute_grad)
        g = np.zeros_like(x)
        g[i] = grad_out
        return g, None

    x, i = sadl.tensor([1.0, 2.0, 3.0], requires_grad=True), np.array([2])
    np.sum(sadl.Tensor(np.asarray(x)[i], src=(x, i), creator_op="pick")).backward()
    assert asked == [(True, False)] and np.array_equal(x.grad, [0, 0, 1])


def test_an_unknown_op_has_no_gradient():
    x = sadl.tensor([1.0], requires_grad=True)
    with pytest.raises(ValueError, match='Gradient propagation not supported for op "nonsense"'):
        sadl.Tensor(np.ones(1), src=(x,), creator_op="nonsense")


def test_the_gradient_of_a_ufunc_sadl_does_not_know(table, monkeypatch):
    x = sadl.tensor([30.0, 60.0], requires_grad=True)
    monkeypatch.delitem(UFUNCS, np.deg2rad)
    monkeypatch.delitem(OPS, "deg2rad")
    with pytest.raises(TypeError, match="no gradient rule"):
        np.deg2rad(x)

    @register_grad_op(op_type=OpType.ELEMENTWISE, op_inputs=OpInputs.UNARY, forward_names=("deg2rad",))
    def backward(x, *, compute_grad, grad_out):
        return (grad_out * (np.pi / 180),)

    np.sum(np.deg2rad(x)).backward()
    assert np.allclose(x.grad, np.pi / 180)


def test_a_gradient_of_sadl_is_replaced(table):
    @register_grad_op(op_type=OpType.ELEMENTWISE, op_inputs=OpInputs.BINARY, forward_names=("mul",))
    def straight(x, y, *, compute_grad, grad_out):
        return grad_out, None

    x = sadl.tensor([3.0], requires_grad=True)
    np.sum(x * 7.0).backward()
    assert x.grad == 1 and grad_ops.get_grad_op("multiply") is straight


def test_a_composition_cannot_be_replaced(table):
    with pytest.raises(ValueError, match=r"np\.mean is composed of other operations"):
        register_grad_op(op_type=OpType.REDUCTION, op_inputs=OpInputs.UNARY, forward_names=("mean",))(lambda: ())


@pytest.mark.parametrize("result", [None, (), 3.0, (1, 2)], ids=repr)
def test_a_gradient_that_breaks_the_contract_is_named(table, result):
    register_grad_op(op_type=OpType.ELEMENTWISE, op_inputs=OpInputs.UNARY, forward_names=("bad",))(
        lambda x, compute_grad, grad_out: result
    )
    x = sadl.tensor([1.0], requires_grad=True)
    with pytest.raises(RuleError, match=r"\[bad\] its gradient must give a tuple"):
        np.sum(sadl.Tensor(np.ones(1), src=(x,), creator_op="bad")).backward()


def test_a_gradient_of_the_wrong_shape_is_named(table):
    register_grad_op(op_type=OpType.ELEMENTWISE, op_inputs=OpInputs.UNARY, forward_names=("bad",))(
        lambda x, compute_grad, grad_out: (np.ones(5),)
    )
    x = sadl.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(RuleError, match=r"\[bad\] its gradient rule gave"):
        np.sum(sadl.Tensor(np.ones(2), src=(x,), creator_op="bad")).backward()


def test_without_gradients_nothing_is_kept(cube_backward):
    x = sadl.tensor([1.0], requires_grad=True)
    with sadl.no_grad():
        assert not cube(x).requires_grad
    assert not cube(sadl.tensor([1.0])).requires_grad


def test_broadcastable_keeps_name_and_documentation():
    def f(x, *, compute_grad, grad_out):
        """What it does."""
        return (grad_out,)

    wrapped = grad_ops.broadcastable(f)
    assert (wrapped.__name__, wrapped.__doc__) == ("f", "What it does.")
    assert isinstance(functools.partial(wrapped).func, type(f))


def test_copy_array():
    for x in (positive(2, 3), sadl.tensor(positive(2)), np.float64(1.0)):
        y = copy_array(x, "cpu")
        assert np.array_equal(x, y) and not isinstance(y, sadl.Tensor)
        assert not np.shares_memory(x, y)
    with pytest.raises(ValueError, match="GPU 0"):
        copy_array(positive(1), 0)
