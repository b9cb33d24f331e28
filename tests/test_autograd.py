"""Tests of the sweep and what stands on it: backward, grad, value_and_grad, vjp, grad mode, and check_grads itself.

Takes functions whose gradients are known in closed form or by differences; the checker is tested with wrong rules.
What single operations do is in test_ops, in-place changes in test_inplace.
"""

import asyncio
import contextvars
import threading
from collections import namedtuple

import numpy as np
import pytest

import sadl
from sadl import GradientError, RuleError, ShapeError, check_grads, enable_grad, no_grad, tensor, value_and_grad, vjp
from sadl.op import Op
from sadl.tape import bind, is_grad_enabled

RNG = np.random.default_rng(1)
A, B = RNG.uniform(0.5, 2.0, (3, 4)), RNG.uniform(0.5, 2.0, (3, 4))
Pair = namedtuple("Pair", "left right")


def leaf(value=A, **options):
    return tensor(value, requires_grad=True, **options)


# ---- backward ------------------------------------------------------------------------------------------------------


def test_gradients_accumulate():
    x = leaf()
    for n in (1, 2, 3):
        np.sum(x * x).backward()
        np.testing.assert_allclose(x.grad, n * 2 * A)
    x.grad = None
    np.sum(3 * x).backward()
    np.testing.assert_allclose(x.grad, np.full((3, 4), 3))


@pytest.mark.parametrize("value", [2.0, np.float32(2), [2.0], A])
def test_a_gradient_is_a_plain_array_of_shape_and_dtype(value):
    x = leaf(value)
    for _ in range(2):
        np.sum(np.exp(x) * x).backward()
        assert type(x.grad) is np.ndarray and (x.grad.shape, x.grad.dtype) == (x.shape, x.dtype)


def test_one_value_used_many_times():
    check_grads(lambda x: x * x + x * np.sin(x) - x / (x + x), (A,))
    check_grads(lambda x: np.stack([x, x]) @ x.T, (A,))


def test_a_deep_graph_needs_no_recursion():
    x = y = leaf(1.0)
    for _ in range(5000):
        y = y * 1.0001
    y.backward()
    assert np.isclose(x.grad, 1.0001**5000)


def test_an_activation_shared_by_two_losses():
    x = leaf()
    hidden = x * 2
    np.sum(hidden).backward()
    np.sum(hidden * hidden).backward()
    np.testing.assert_allclose(x.grad, 2 + 8 * A)


def test_a_second_backward_is_an_error_unless_the_graph_is_retained():
    x = leaf()
    loss = np.sum(x * x)
    loss.backward(retain_graph=True)
    loss.backward()
    np.testing.assert_allclose(x.grad, 4 * A)
    for again in (loss, loss * 2):
        with pytest.raises(GradientError, match="earlier backward"):
            again.backward()
    assert loss.src == () and not loss.is_leaf()


def test_a_loss_frees_what_only_it_held():
    x = leaf()
    loss = np.sum(x * x)
    before = loss._node.parents[0]
    loss.backward()
    assert loss._node.parents is None and before.inputs is not None


@pytest.mark.parametrize(
    "loss", [lambda x: 3.0, lambda x: A, lambda x: tensor(A).sum(), lambda x: (x > 1).sum(), lambda x: None]
)
def test_a_value_without_a_graph_is_an_error(loss):
    with pytest.raises(GradientError, match="does not depend"):
        sadl.backward(loss(leaf()))


def test_what_was_computed_without_gradients_has_no_graph():
    with no_grad():
        loss = np.sum(leaf())
    with pytest.raises(GradientError, match="does not depend"):
        loss.backward()


def test_a_loss_of_many_numbers_needs_a_cotangent():
    x = leaf()
    with pytest.raises(GradientError, match="one number"):
        (x * 2).backward()
    (x * 2).backward(B)
    np.testing.assert_allclose(x.grad, 2 * B)
    for shape in [(3, 1), (4,), (2, 3, 4)]:
        with pytest.raises(ShapeError):
            (x * 2).backward(np.ones(shape))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_loss_of_one_number_of_any_rank(shape):
    x = leaf(np.full(shape, 3.0))
    (x * x).backward()
    assert np.array_equal(x.grad, np.full(shape, 6.0))


def test_a_leaf_is_a_loss():
    x = leaf(2.0)
    x.backward()
    x.backward()
    assert x.grad == 2.0


def test_cotangents_may_be_lists_tensors_and_of_another_dtype():
    for cotangent in ([1.0, 2.0], tensor([1.0, 2.0]), np.array([1, 2]), np.array([1, 2], np.float32)):
        x = leaf([1.0, 1.0])
        (x * 2).backward(cotangent)
        assert np.array_equal(x.grad, [2, 4]) and x.grad.dtype == np.float64


def test_only_leaves_and_kept_values_get_a_gradient():
    x, y = leaf(), tensor(B)
    middle, other = x * y, x + 1
    middle.keep_grad = True
    np.sum(middle * other).backward()
    np.testing.assert_allclose(middle.grad, A + 1)
    assert other.grad is None and y.grad is None and not other.is_leaf() and x.is_leaf()
    np.testing.assert_allclose(x.grad, B * (A + 1) + A * B)


def test_keep_grad_can_be_switched_off():
    middle = leaf() * 2
    middle.keep_grad = True
    middle.keep_grad = False
    np.sum(middle).backward()
    assert middle.grad is None and not middle.keep_grad


def test_a_tensor_that_is_gone_gets_nothing():
    x = leaf()
    np.sum((leaf() * 2) * x).backward()
    assert x.grad is not None


def test_a_wrong_grad_cannot_be_assigned():
    x = leaf()
    with pytest.raises(ShapeError):
        x.grad = np.ones(3)
    x.grad = B
    np.sum(x).backward()
    np.testing.assert_allclose(x.grad, B + 1)


ALIASING = {
    "add": lambda x, y: x + y,
    "the same twice": lambda x, y: x + x + y,
    "reshape": lambda x, y: x.reshape(-1)[::-1].reshape(3, 4) + y.T.T,
    "broadcast": lambda x, y: np.broadcast_to(x[0], (3, 4)) + y,
    "concatenate": lambda x, y: np.concatenate([x, y])[:3] + y,
    "copy": lambda x, y: x.copy() + y,
    "stack": lambda x, y: np.stack([x, y])[0] + y,
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", ALIASING)
def test_gradients_share_memory_with_nothing(name, create_graph):
    x, y, cotangent = leaf(), leaf(B), np.ones((3, 4))
    out = ALIASING[name](x, y)
    out.backward(cotangent, create_graph=create_graph)
    arrays = [np.asarray(a) for a in (x.grad, y.grad, x, y, out, cotangent)]
    for i in (0, 1):
        assert not any(np.may_share_memory(arrays[i], a) for k, a in enumerate(arrays) if k != i)
        assert arrays[i].flags.writeable


@pytest.mark.parametrize("name", ALIASING)
def test_cotangents_of_vjp_share_memory_with_nothing(name):
    cotangent = np.ones((3, 4))
    out, pullback = vjp(ALIASING[name], A, B)
    arrays = [np.asarray(a) for a in (*pullback(cotangent), A, B, out, cotangent)]
    assert not any(np.may_share_memory(arrays[i], a) for i in (0, 1) for k, a in enumerate(arrays) if k != i)


# ---- gradients of gradients ----------------------------------------------------------------------------------------


def test_create_graph():
    x = leaf()
    np.sum(x**3).backward(create_graph=True)
    first, x.grad = x.grad, None
    np.testing.assert_allclose(first, 3 * A**2)
    np.sum(first * B).backward()
    np.testing.assert_allclose(x.grad, 6 * A * B)


def test_create_graph_accumulates_both_paths():
    x = leaf(2.0)
    loss = x**3
    loss.backward(create_graph=True)
    (loss + x.grad * x.grad).backward()  # x**3 + (3 x**2)**2, on top of the 3 x**2 that is there
    assert np.isclose(float(x.grad), 3 * 4 + 3 * 4 + 36 * 8)


def test_a_gradient_without_create_graph_is_a_constant():
    x = leaf(2.0)
    (x * x).backward()
    (x * x.grad).backward()
    assert x.grad == 4 + 4


def test_gradient_of_gradient():
    f = lambda x: np.sum(np.exp(x) * x**2)
    np.testing.assert_allclose(sadl.grad(f)(A), np.exp(A) * (A**2 + 2 * A))
    second = sadl.grad(lambda x: np.sum(sadl.grad(f)(x) * B))
    np.testing.assert_allclose(second(A), B * np.exp(A) * (A**2 + 4 * A + 2))
    third = sadl.grad(lambda x: np.sum(second(x)))
    np.testing.assert_allclose(third(A), B * np.exp(A) * (A**2 + 6 * A + 6))


def test_the_inner_gradient_may_depend_on_an_outer_argument():
    f = lambda x, w: np.sum(np.sin(x * w))
    outer = sadl.grad(lambda w: np.sum(sadl.grad(lambda x: f(x, w))(A)))
    np.testing.assert_allclose(outer(B), np.cos(A * B) - A * B * np.sin(A * B))


def test_the_inner_gradient_may_depend_on_a_leaf_outside():
    w = leaf(B)
    np.sum(sadl.grad(lambda x: np.sum(x * x * w))(A)).backward()
    np.testing.assert_allclose(w.grad, 2 * A)


def test_perturbations_are_not_confused():
    outer = sadl.grad(lambda x: x * sadl.grad(lambda y: x + y)(np.ones(())))
    assert outer(np.array(5.0)) == 1.0
    nested = sadl.grad(lambda x: sadl.grad(lambda y: x * y * y)(x))
    assert nested(np.array(3.0)) == 2 * 3 + 2 * 3


def test_a_gradient_inside_no_grad_of_an_outer_function_is_a_constant():
    def f(x):
        with no_grad():
            slope = sadl.grad(lambda y: np.sum(y * y))(x)
        return np.sum(slope * x)

    np.testing.assert_allclose(sadl.grad(f)(A), 2 * A)


# ---- grad, value_and_grad, vjp -------------------------------------------------------------------------------------


def test_value_and_grad():
    value, g = value_and_grad(lambda x, y, scale=1.0: scale * np.sum(x * y))(A, B, scale=2.0)
    assert np.isclose(float(value), 2 * np.sum(A * B)) and isinstance(g, sadl.Tensor)
    np.testing.assert_allclose(g, 2 * B)


@pytest.mark.parametrize("argnums", [0, 1, (0,), (1, 0), (0, 1), -1])
def test_argnums(argnums):
    g = sadl.grad(lambda x, y: np.sum(x * y * y), argnums)(A, B)
    expected = [B * B, 2 * A * B]
    assert isinstance(g, tuple) == isinstance(argnums, tuple)
    for i, found in zip(np.atleast_1d(argnums), g if isinstance(g, tuple) else (g,), strict=True):
        np.testing.assert_allclose(found, expected[i])


TREES = {
    "list": [A, B],
    "tuple": (A, [B]),
    "dict": {"a": A, "b": {"c": B}},
    "named tuple": Pair(A, (B,)),
    "None inside": {"a": A, "none": None, "b": B},
    "tensors": [tensor(A), leaf(B)],
}


@pytest.mark.parametrize("name", TREES)
def test_trees(name):
    tree = TREES[name]
    g = sadl.grad(lambda t: np.sum(np.sin(sadl.tree.flatten(t)[0][0]) * sadl.tree.flatten(t)[0][1]))(tree)
    leaves, structure = sadl.tree.flatten(g)
    assert structure == sadl.tree.flatten(tree)[1]
    np.testing.assert_allclose(leaves[0], np.cos(A) * B)
    np.testing.assert_allclose(leaves[1], np.sin(A))


def test_trees_of_results():
    out, pullback = vjp(lambda x, y: {"sum": x + y, "parts": [x * y, x[0]]}, A, B)
    assert list(out) == ["sum", "parts"]
    gx, gy = pullback({"sum": np.ones((3, 4)), "parts": [B, np.zeros(4)]})
    np.testing.assert_allclose(gx, 1 + B * B)
    np.testing.assert_allclose(gy, 1 + A * B)


def test_a_pullback_can_be_used_again():
    _, pullback = vjp(lambda x: x * x, A)
    for scale in (1.0, 2.0):
        np.testing.assert_allclose(pullback(np.full((3, 4), scale))[0], 2 * scale * A)


def test_arguments_that_do_not_matter_have_zeros():
    gx, gy = sadl.grad(lambda x, y: np.sum(y), (0, 1))(A.astype(np.float32), B)
    assert not np.any(gx) and gx.shape == (3, 4) and gx.dtype == np.float32 and np.all(gy == 1)
    assert not np.any(sadl.grad(lambda x: 3.0)(A))


def test_the_arguments_themselves_are_left_alone():
    x = leaf()
    before = x._node
    sadl.grad(lambda t: np.sum(t * t))(x)
    assert x.grad is None and x._node is before
    assert type(A) is np.ndarray


def test_arguments_are_python_numbers_and_numpy_scalars():
    for value in (3.0, np.float64(3), np.array(3.0)):
        assert float(sadl.grad(lambda x: x * x)(value)) == 6.0
    assert sadl.grad(lambda x: x * x)(np.float32(3)).dtype == np.float32


@pytest.mark.parametrize(
    ("f", "args", "message"),
    [
        (lambda x: x * 2, (A,), "one number"),
        (np.sum, (np.arange(3),), "floating"),
        (np.sum, (3,), "floating"),
        (lambda x: [x.sum(), x.sum()], (A,), "one number|cotangents"),
    ],
)
def test_what_grad_cannot_do_is_an_error(f, args, message):
    with pytest.raises(GradientError, match=message):
        sadl.grad(f)(*args)


def test_argnums_beyond_the_arguments_are_an_error():
    with pytest.raises(GradientError, match="argument 2"):
        sadl.grad(np.sum, 2)(A)


def test_a_wrong_cotangent_is_an_error():
    _, pullback = vjp(lambda x: (x, x * 2), A)
    for wrong in ((A,), (A, A[0]), A[0]):
        with pytest.raises((GradientError, ShapeError)):
            pullback(wrong)


def test_gradients_are_taken_also_where_they_are_switched_off():
    with no_grad():
        np.testing.assert_allclose(sadl.grad(lambda x: np.sum(x * x))(A), 2 * A)


def test_integer_arguments_of_vjp_have_no_cotangent():
    _, pullback = vjp(lambda x, i: x[i], A, np.array([0, 0]))
    gx, gi = pullback(np.ones((2, 4)))
    assert gi is None and gx[0, 0] == 2


# ---- the checker is checked ----------------------------------------------------------------------------------------


def call(rule, name="wrong", run=np.sin, **more):
    """np.sin with a gradient rule of one's own."""
    op = Op(name, run, "call", (rule,) if callable(rule) else rule, **more)
    return lambda *xs: bind(op, *xs)


def frozen(x):
    """The value of `x` as a constant, as a rule that leaves NumPy would have it."""
    return np.asarray(x)


WRONG = {
    "a factor": lambda g, y, x: g * np.cos(x) * 2.001,
    "a sign": lambda g, y, x: -g * np.cos(x),
    "another function": lambda g, y, x: g * np.sin(x),
    "no use of the cotangent": lambda g, y, x: np.cos(x),
    "nothing": lambda g, y, x: np.zeros_like(x),
    "one element": lambda g, y, x: g * np.cos(x) + (np.arange(12.0).reshape(3, 4) == 5) * 0.01,
}
WRONG_AT_SECOND_ORDER = {
    "a constant": lambda g, y, x: g * frozen(np.cos(x)),
    "a constant cotangent": lambda g, y, x: frozen(g) * np.cos(x),
    "half of it": lambda g, y, x: g * (0.5 * np.cos(x) + 0.5 * frozen(np.cos(x))),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_checker_finds_a_wrong_rule(name):
    with pytest.raises(AssertionError, match=r"gradient of wrong: .* by the rules, .* by differences"):
        check_grads(call(WRONG[name]), (A,), order=1)
    with pytest.raises(AssertionError, match="multiply, wrong"):
        check_grads(lambda x: call(WRONG[name])(x * 2), (A,))


@pytest.mark.parametrize("name", WRONG_AT_SECOND_ORDER)
def test_the_checker_finds_a_rule_that_is_wrong_at_second_order(name):
    f = call(WRONG_AT_SECOND_ORDER[name])
    check_grads(f, (A,), order=1)
    with pytest.raises(AssertionError, match="gradient of the gradient of wrong"):
        check_grads(f, (A,), order=2)


def test_the_checker_finds_a_rule_that_is_wrong_at_third_order():
    def cosine(x):
        return call(lambda g, y, x: -g * frozen(np.sin(x)), "inner", np.cos)(x)

    f = call(lambda g, y, x: g * cosine(x))
    check_grads(f, (A,), order=2)
    with pytest.raises(AssertionError, match="gradient of the gradient of the gradient"):
        check_grads(f, (A,), order=3)


def test_the_checker_finds_a_wrong_gradient_by_one_of_two_inputs():
    f = call((lambda g, z, x, y: g * y, lambda g, z, x, y: g * x * 1.01), run=np.multiply)
    with pytest.raises(AssertionError):
        check_grads(f, (A, B), order=1)


def test_the_checker_finds_a_missing_rule():
    with pytest.raises(AssertionError):
        check_grads(call((lambda g, z, x, y: g * y, None), run=np.multiply), (A, B), order=1)


def test_the_checker_works_in_single_precision():
    check_grads(np.sin, (A.astype(np.float32),), order=1)
    with pytest.raises(AssertionError):
        check_grads(call(WRONG["a sign"]), (A.astype(np.float32),), order=1)


def test_the_checker_accepts_trees_and_functions_of_several_results():
    check_grads(lambda t: {"a": np.sin(t["x"]), "b": (t["y"][0] * t["x"],)}, ({"x": A, "y": [B]},))


@pytest.mark.parametrize(
    ("rule", "dtype"),
    [
        (lambda g, y, x: (g * np.cos(x)).astype(np.float32), np.float64),
        (lambda g, y, x: g * np.cos(x) * np.float64(1), np.float32),
        (lambda g, y, x: g[0] * np.cos(x[0]), np.float64),
        (lambda g, y, x: np.sum(g), np.float64),
        (lambda g, y, x: g.T, np.float64),
        (lambda g, y, x: g[:, :1], np.float64),
    ],
)
def test_a_wrong_shape_or_dtype_is_blamed_on_the_rule(rule, dtype):
    x = leaf(A.astype(dtype))
    with pytest.raises(RuleError, match=r"^\[wrong\] its gradient rule gave"):
        np.sum(call(rule)(x)).backward()


def test_too_few_rules_are_an_error():
    with pytest.raises(RuleError, match="1 gradient rules for 2 inputs"):
        np.sum(call((lambda g, z, x, y: g * y,), run=np.multiply)(leaf(), leaf(B))).backward()


def test_an_operation_without_rules_is_an_error_where_a_gradient_is_wanted():
    f = call(None, run=np.sin)
    np.testing.assert_allclose(f(tensor(A)), np.sin(A))
    with pytest.raises(sadl.UnrecordedError, match=r"\[wrong\]"):
        f(leaf())
    with no_grad():
        assert not f(leaf()).requires_grad


# ---- grad mode -----------------------------------------------------------------------------------------------------


def recorded():
    return (leaf_made_outside * 2).requires_grad


leaf_made_outside = leaf()


def test_no_grad_and_enable_grad_nest():
    with no_grad():
        assert not recorded()
        with enable_grad():
            assert recorded()
            with no_grad():
                assert not recorded()
            assert recorded()
        assert not recorded()
    assert recorded()


def test_one_instance_may_be_entered_while_it_is_entered():
    off = no_grad()
    with off, enable_grad():
        with off:
            assert not recorded()
            with off:
                assert not recorded()
        assert recorded()
    assert recorded()


def test_grad_mode_is_restored_after_an_error():
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert recorded()


def test_as_decorators():
    @no_grad()
    def off(x, *, y=1):
        """Documented."""
        return recorded()

    @enable_grad()
    def on():
        return recorded()

    @sadl.no_grad_fn
    def also_off():
        return recorded()

    assert not off(1) and not also_off() and off.__name__ == "off" and off.__doc__ == "Documented."
    with no_grad():
        assert on()
    assert recorded()


def test_a_decorated_function_may_call_itself():
    @no_grad()
    def count(n):
        return n if n == 0 else count(n - 1) + (not recorded())

    assert count(5) == 5 and recorded()


def test_the_global_switch_holds_until_the_surrounding_block_ends():
    sadl.set_global_grad_mode(False)
    assert not recorded() and not is_grad_enabled()
    sadl.set_global_grad_mode(True)
    with no_grad():
        sadl.set_global_grad_mode(True)
        assert recorded()
    with enable_grad():
        sadl.set_global_grad_mode(False)
    assert recorded()


def test_leaves_made_under_no_grad_want_nothing():
    with no_grad():
        assert not leaf().requires_grad and sadl.Parameter(A).requires_grad


def test_threads_have_a_mode_of_their_own():
    seen, inside, leave = {}, threading.Event(), threading.Event()

    def other():
        with no_grad():
            inside.set()
            leave.wait(5)
            seen["other"] = recorded()
        seen["after"] = recorded()

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(5)
    seen["here"] = recorded()
    leave.set()
    thread.join()
    assert seen == {"here": True, "other": False, "after": True}


def test_one_instance_may_be_shared_by_threads():
    shared, order, seen = no_grad(), [threading.Event() for _ in range(3)], []

    def other():
        with enable_grad(), no_grad():  # what is to be restored here differs from what is to be restored there
            with shared:
                order[0].set()
                order[1].wait(5)
            seen.append(recorded())
        order[2].set()

    thread = threading.Thread(target=other)
    thread.start()
    order[0].wait(5)
    with shared:
        order[1].set()
        order[2].wait(5)
    thread.join()
    assert seen == [False] and recorded()


def test_tasks_have_a_mode_of_their_own():
    async def task(context, times):
        seen = []
        for _ in range(times):
            with context:
                await asyncio.sleep(0)
                seen.append(recorded())
                await asyncio.sleep(0)
        return seen

    async def both():
        return await asyncio.gather(task(no_grad(), 3), task(enable_grad(), 4))

    assert asyncio.run(both()) == [[False] * 3, [True] * 4]


def test_contexts_have_a_mode_of_their_own():
    contextvars.copy_context().run(sadl.set_global_grad_mode, False)
    assert recorded()


def test_gradients_in_threads_do_not_mix():
    def work(results, i):
        x = leaf(np.full(3, float(i)))
        for _ in range(50):
            x.grad = None
            np.sum(x * x).backward()
        results[i] = x.grad

    results = {}
    threads = [threading.Thread(target=work, args=(results, i)) for i in range(4)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert all(np.array_equal(results[i], np.full(3, 2.0 * i)) for i in range(4))
