"""Tests of the transforms: jvp, jacobian, hessian, hvp, elementwise_grad, has_aux, custom_vjp, checkpoint.

Each is compared with a path of its own: central differences, stacked pullbacks, the plain function; eager and compiled.
"""

import inspect
import operator
from collections import namedtuple

import numpy as np
import pytest

import sadl
from sadl import (
    GradientError,
    RuleError,
    ShapeError,
    StaleValueError,
    check_grads,
    checkpoint,
    custom_vjp,
    elementwise_grad,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    no_grad,
    value_and_grad,
    vjp,
)
from sadl.autograd import reachable
from sadl.tape import Traced, plain
from sadl.tree import flatten, unflatten

RNG = np.random.default_rng(0)
A, B, V, W = RNG.standard_normal((4, 3, 4))
S = RNG.standard_normal((4, 4))
Z, DZ = RNG.standard_normal((2, 3)) + 1j * RNG.standard_normal((2, 3))
Pair = namedtuple("Pair", "first second")


def leaf(x):
    return sadl.Tensor(np.array(x), requires_grad=True)


def compiled(f, *args):
    """The result of the program, after the calls that it was made from."""
    run = sadl.compile(f)
    for _ in range(4):
        result = run(*args)
    assert run.stats.programs == 1
    return result


def same(found, expected, **tolerance):
    """Compare two nested results, leaf by leaf."""
    (a, structure), (b, other) = flatten(found), flatten(expected)
    assert structure == other
    for x, y in zip(a, b, strict=True):
        assert np.shape(x) == np.shape(y) and np.result_type(plain(x)) == np.result_type(plain(y))
        np.testing.assert_allclose(plain(x), plain(y), **{"rtol": 1e-9, "atol": 1e-12, **tolerance})


def moved(f, args, tangents, eps=1e-6):
    """The derivative of `f` in a direction, by central differences."""
    (xs, structure), (vs, _) = flatten(args), flatten(tangents)
    ends = [flatten(f(*unflatten(structure, [x + s * v for x, v in zip(xs, vs, strict=True)]))) for s in (eps, -eps)]
    steps = [(np.asarray(u) - np.asarray(d)) / (2 * eps) for u, d in zip(ends[0][0], ends[1][0], strict=True)]
    return unflatten(ends[0][1], steps)


def has_history(x):
    return isinstance(x, Traced) and x._node is not None


# ---- jvp -----------------------------------------------------------------------------------------------------------

FUNCTIONS = {  # function, primals, tangents
    "product": (lambda x: np.sin(x) @ x.T, (A,), (V,)),
    "two arguments": (lambda x, y: np.exp(x * 0.3) * y, (A, B), (V, W)),
    "broadcasting": (lambda x, y: np.tanh(x + y), (A, B[0]), (V, W[0])),
    "reduction": (lambda x: np.max(x, axis=0) * np.sum(x), (A,), (V,)),
    "number": (lambda x: np.sum(x * x), (A,), (V,)),
    "0-d": (lambda x: x * x + 1 / x, (np.array(2.0),), (np.array(0.5),)),
    "nested": (
        lambda t, p: {"a": t["x"] * p.second[0], "b": [np.sum(p.first), t["x"]]},
        ({"x": A}, Pair(B, (A[:, :1],))),
        ({"x": V}, Pair(W, (V[:, :1],))),
    ),
    "in place": (lambda x: operator.iadd(x * 2, np.cos(x)), (A,), (V,)),
    "one of two": (lambda x, y: np.sin(y), (A, B), (V, W)),
    "the same twice": (lambda x: (x, x, np.stack([x, x])), (A,), (V,)),
    "complex": (lambda z: np.exp(z) * z, (Z,), (DZ,)),
    "not holomorphic": (lambda z: z * np.conj(z) * z, (Z,), (DZ,)),
    "complex to real": (lambda z: np.abs(z) ** 2 + np.real(z), (Z,), (DZ,)),
    "real to complex": (lambda x: np.exp(1j * x), (A,), (V,)),
    "gradient": (lambda x: grad(lambda y: np.sum(np.sin(y) * y**2))(x), (A,), (V,)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_jvp_agrees_with_differences(name):
    f, primals, tangents = FUNCTIONS[name]
    out, tangent = jvp(f, primals, tangents)
    same(out, f(*primals))
    same(tangent, moved(f, primals, tangents), rtol=1e-5, atol=1e-7)
    assert not any(map(has_history, flatten((out, tangent))[0]))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_jvp_compiled(name):
    f, primals, tangents = FUNCTIONS[name]
    both = lambda xs, vs: jvp(f, xs, vs)
    same(compiled(both, primals, tangents), both(primals, tangents), rtol=1e-7)


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if "complex" not in n and "holomorphic" not in n])
def test_jvp_can_be_differentiated(name):
    f, primals, tangents = FUNCTIONS[name]
    xs, structure = flatten((primals, tangents))
    check_grads(lambda *ys: jvp(f, *unflatten(structure, ys)), tuple(xs), order=2)


def test_jvp_and_vjp_are_transposes():
    for name, (f, primals, tangents) in FUNCTIONS.items():
        out, pullback = vjp(f, *primals)
        cts = unflatten(flatten(out)[1], [np.asarray(RNG.standard_normal(o.shape), o.dtype) for o in flatten(out)[0]])
        dot = lambda a, b: sum(
            np.sum(np.asarray(x) * np.asarray(y)).real for x, y in zip(flatten(a)[0], flatten(b)[0], strict=True)
        )
        ahead, back = dot(cts, jvp(f, primals, tangents)[1]), dot(pullback(cts), tangents)
        assert np.isclose(ahead, back), name


def test_jvp_of_jvp_is_the_second_derivative_in_two_directions():
    f = lambda x: np.sum(np.exp(x * 0.5) * x)
    found = jvp(lambda x: jvp(f, (x,), (V,))[1], (A,), (W,))[1]
    assert np.isclose(float(found), V.ravel() @ np.asarray(hessian(f)(A)).reshape(12, 12) @ W.ravel())


def test_perturbations_are_not_confused():
    inner = lambda x: jvp(lambda y: x + y, (np.ones(()),), (np.ones(()),))[1]
    assert jvp(lambda x: x * inner(x), (np.array(5.0),), (np.ones(()),))[1] == 1
    nested = jvp(lambda x: jvp(lambda y: x * y * y, (x,), (np.ones(()),))[1], (np.array(3.0),), (np.ones(()),))[1]
    assert nested == 2 * 3 + 2 * 3
    mixed = grad(lambda x: x * jvp(lambda y: x + y, (1.0,), (1.0,))[1])
    assert mixed(np.array(5.0)) == 1


def test_jvp_keeps_float32():
    x, v = A.astype(np.float32), V.astype(np.float32)
    out, tangent = jvp(lambda x: np.tanh(x) * 2.0, (x,), (v,))
    assert out.dtype == tangent.dtype == np.float32
    same(tangent, 2 * (1 - np.tanh(x) ** 2) * v, rtol=1e-5)


def test_jvp_reaches_a_parameter_from_outside():
    w = sadl.Parameter(B)
    np.sum(jvp(lambda x: np.sin(x * w), (A,), (V,))[1] * W).backward()
    same(w.grad, W * V * (np.cos(A * B) - A * B * np.sin(A * B)))
    out, tangent = jvp(lambda x: x * w, (A,), (V,))
    assert has_history(out) and has_history(tangent)
    with no_grad():
        assert not has_history(jvp(lambda x: x * w, (A,), (V,))[1])


def test_jvp_of_a_captured_parameter():
    w, f = sadl.Parameter(B), lambda x: np.sum(jvp(lambda v: np.sin(v * x), (w,), (V,))[1])
    run = sadl.compile(f)
    for _ in range(4):
        run(A).backward()
        found, w.grad = w.grad, None
        f(A).backward()
        same(found, w.grad)
        w.grad = None


def test_what_does_not_depend_on_the_primals_has_tangent_zero_or_none():
    out, tangent = jvp(lambda x: (x > 0, 3.0, np.ones(2), np.argmax(x), x, "text" if x is None else None), (A,), (V,))
    assert tangent[0] is None and tangent[3] is None and tangent[5] is None
    assert float(tangent[1]) == 0 and np.all(tangent[2] == np.zeros(2))
    same(tangent[4], V)
    assert not np.shares_memory(tangent[4], V)


UNLIKE = {  # primals, tangents, what is said
    "shape": ((A,), (V[0],), ShapeError, r"tangent of primal 0 is float64 \(4,\).*float64 \(3, 4\)"),
    "dtype": ((A, B), (V, W.astype(np.float32)), GradientError, "tangent of primal 1 is float32"),
    "integer": ((A, np.arange(3)), (V, np.arange(3)), GradientError, "primal 1 is int64"),
    "Python integer": ((3,), (1,), GradientError, "primal 0 is int64"),
    "integer tangent": ((3.0,), (1,), GradientError, "int64"),
    "nesting": (([A],), ({"a": V},), GradientError, "nested"),
    "number": ((A, B), (V,), GradientError, "nested"),
    "no tuple": (A, V, TypeError, "not a tuple"),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_tangents_must_be_like_primals(name):
    primals, tangents, error, message = UNLIKE[name]
    with pytest.raises(error, match=message):
        jvp(lambda *xs: xs, primals, tangents)


# ---- jacobian, hessian, hvp ----------------------------------------------------------------------------------------


def by_differences(f, x):
    """The Jacobian of one array by one real array."""
    columns = []
    for k in range(x.size):
        e = np.zeros(x.size)
        e[k] = 1
        columns.append(moved(f, (x,), (e.reshape(x.shape),)))
    stacked = np.array(columns).reshape((*x.shape, *np.shape(columns[0])))
    return np.moveaxis(stacked, range(x.ndim), range(-x.ndim, 0))


ONE_TO_ONE = {
    "matrix": (lambda x: np.sin(x) @ x.T, A),
    "vector": (lambda x: x * np.sum(x), A[0]),
    "number": (lambda x: np.sum(x**3), A),
    "0-d": (lambda x: x**3, np.array(1.5)),
    "from a number": (lambda x: x * A, np.array(1.5)),
    "constant": (lambda x: np.ones(2), A),
    "complex value": (lambda x: np.exp(1j * x[0]) * x[1, 0], A),
}


@pytest.mark.parametrize("name", ONE_TO_ONE)
def test_jacobian_agrees_with_differences(name):
    f, x = ONE_TO_ONE[name]
    found = jacobian(f)(x)
    assert found.shape == np.shape(f(x)) + x.shape and not has_history(found)
    np.testing.assert_allclose(found, by_differences(f, x), rtol=1e-6, atol=1e-8)
    same(compiled(jacobian(f), x), found)


def test_jacobian_is_stacked_pullbacks():
    f = lambda x: np.tanh(x @ S)[:, :2]
    _, pullback = vjp(f, A)
    rows = [pullback(e.reshape(3, 2))[0] for e in np.eye(6)]
    same(jacobian(f)(A), np.stack(rows).reshape(3, 2, 3, 4))


def test_jacobian_runs_the_function_once():
    calls = []
    jacobian(lambda x: calls.append(1) or x * x)(A)
    assert calls == [1]


def test_jacobian_of_nested_values_by_nested_arguments():
    f = lambda t, y: {"s": t["a"] * y, "n": [np.sum(t["b"][0])]}
    t, y = {"a": A[0], "b": (B,)}, V[0]
    both = jacobian(f, (0, 1))(t, y)
    by_t, by_y = both["s"]
    same(by_t["a"], np.diag(y))
    assert by_t["b"][0].shape == (4, 3, 4) and not np.any(by_t["b"][0])
    same(by_y, np.diag(t["a"]))
    same(both["n"][0][0]["b"][0], np.ones((3, 4)))
    same(jacobian(f)(t, y)["s"], by_t)
    same(jacobian(f, -1)(t, y)["s"], by_y)


def test_jacobian_of_nothing():
    assert jacobian(lambda x: x[:0])(A).shape == (0, 4, 3, 4)
    assert jacobian(lambda x: x)(A[:0]).shape == (0, 4, 0, 4)


def test_jacobian_can_be_differentiated():
    check_grads(jacobian(lambda x: np.sin(x) * np.sum(x * x)), (A[0],), order=2)
    w = sadl.Parameter(A[1])
    np.sum(jacobian(lambda x: x * x * w)(A[0])).backward()
    same(w.grad, 2 * A[0])


def test_jacobian_of_holomorphic_functions():
    found = jacobian(lambda z: np.exp(z) * z[::-1])(Z)
    expected = np.diag(np.exp(Z) * Z[::-1]) + np.exp(Z)[:, None] * np.eye(3)[::-1]
    np.testing.assert_allclose(found, expected)
    for wrong in (np.conj, lambda z: z * np.abs(z), lambda z: np.real(z) + 0j):
        with pytest.raises(GradientError, match="holomorphic"):
            jacobian(wrong)(Z)
    same(jacobian(lambda z: np.abs(z) ** 2)(Z), np.diag(2 * np.conj(Z)))


def test_jacobian_wants_floating_values():
    with pytest.raises(GradientError, match="the value is bool"):
        jacobian(lambda x: x > 0)(A)
    with pytest.raises(GradientError, match="argument 1 is int64"):
        jacobian(np.multiply, (0, 1))(A, np.ones((3, 4), int))


SCALARS = {
    "cubic": lambda x: np.sum(x**3) * np.sum(x),
    "softplus": lambda x: np.sum(np.log1p(np.exp(x @ x.T))),
    "norm": lambda x: np.sqrt(np.sum(x * x)),
}


@pytest.mark.parametrize("name", SCALARS)
def test_hessian(name):
    f = SCALARS[name]
    found = hessian(f)(A)
    assert found.shape == (3, 4, 3, 4)
    matrix = np.asarray(found).reshape(12, 12)
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found, by_differences(grad(f), A), rtol=1e-5, atol=1e-7)
    same(compiled(hessian(f), A), found, rtol=1e-8)


@pytest.mark.parametrize("name", SCALARS)
def test_hvp_is_the_hessian_times_the_vector(name):
    f = SCALARS[name]
    found = hvp(f, (A,), (V,))
    same(found, np.tensordot(np.asarray(hessian(f)(A)), V, 2), rtol=1e-8)
    same(found, grad(lambda x: np.sum(grad(f)(x) * V))(A), rtol=1e-8)
    same(found, jvp(grad(f), (A,), (V,))[1])
    same(compiled(lambda x, v: hvp(f, (x,), (v,)), A, V), found, rtol=1e-8)
    check_grads(lambda x, v: hvp(f, (x,), (v,)), (A, V), order=1)


def test_hessian_and_hvp_by_several_arguments():
    f = lambda x, y: np.sum(np.sin(x) * y["w"] ** 2)
    y, dy = {"w": B[0]}, {"w": W[0]}
    blocks = hessian(f, (0, 1))(A[0], y)
    same(blocks[0][0], np.diag(-np.sin(A[0]) * B[0] ** 2))
    same(blocks[1]["w"][0], np.diag(2 * np.cos(A[0]) * B[0]))
    by_x, by_y = hvp(f, (A[0], y), (V[0], dy))
    same(by_x, np.asarray(blocks[0][0]) @ V[0] + np.asarray(blocks[0][1]["w"]) @ W[0])
    same(by_y["w"], np.asarray(blocks[1]["w"][0]) @ V[0] + np.asarray(blocks[1]["w"][1]["w"]) @ W[0])


def test_elementwise_grad():
    same(elementwise_grad(np.tanh)(A), 1 - np.tanh(A) ** 2)
    second = elementwise_grad(elementwise_grad(lambda x, n: x**n))
    same(second(A, 3), 6 * A)
    same(elementwise_grad(np.multiply, (0, 1))(A, B[0]), (A * 0 + B[0], np.sum(A, 0)))
    same(elementwise_grad(lambda x: [x * x, x])(A), 2 * A + 1)
    same(compiled(elementwise_grad(np.sin), A), np.cos(A))
    with pytest.raises(GradientError, match="complex"):
        elementwise_grad(np.exp)(Z)


# ---- argnums and has_aux -------------------------------------------------------------------------------------------

TAKE_ARGNUMS = {"grad": grad, "value_and_grad": value_and_grad, "jacobian": jacobian, "hessian": hessian}


@pytest.mark.parametrize("name", TAKE_ARGNUMS)
def test_argnums_name_arguments(name):
    f, transform = lambda x, y, k: np.sum(x * x * y), TAKE_ARGNUMS[name]
    forms = {"": transform(f, 1), "negative": transform(f, -2)}
    same(forms[""](A[0], B[0], 3), forms["negative"](A[0], B[0], 3))
    for argnums, message in [(3, "argument 3"), (-4, "argument -4"), ((0, -3), "argument 0 twice"), (2, "argument 2")]:
        with pytest.raises(GradientError, match=message):
            transform(f, argnums)(A[0], B[0], 3)


def test_has_aux():
    def f(x, y):
        z = x * y
        return np.sum(z * z), {"z": z, "name": "aux"}

    (value, aux), (gx, gy) = value_and_grad(f, (0, 1), has_aux=True)(A, B)
    same(value, np.sum((A * B) ** 2))
    same(aux["z"], A * B)
    assert aux["name"] == "aux" and not has_history(aux["z"])
    same((gx, gy), (2 * A * B * B, 2 * A * A * B))
    g, aux = grad(f, has_aux=True)(A, B)
    same(g, gx)
    same(aux["z"], A * B)
    same(compiled(grad(lambda x: (np.sum(x**3), x + 1), has_aux=True), A), (3 * A * A, A + 1))


def test_aux_belongs_to_the_surroundings():
    def outer(x):
        g, aux = grad(lambda y: (np.sum(y**3), y * y), has_aux=True)(x)
        return np.sum(g * aux)

    same(grad(outer)(A), 12 * A**3)
    w = sadl.Parameter(B)
    aux = grad(lambda y: (np.sum(y), y * w), has_aux=True)(A)[1]
    np.sum(aux).backward()
    same(w.grad, A)


@pytest.mark.parametrize("out", [lambda x: np.sum(x), lambda x: (np.sum(x), 1, 2), lambda x: [np.sum(x), 1]])
def test_has_aux_wants_a_pair(out):
    with pytest.raises(GradientError, match="pair"):
        grad(out, has_aux=True)(A)


# ---- custom_vjp ----------------------------------------------------------------------------------------------------


def written_by_hand(fwd, bwd, f=None, name="f"):
    """A custom_vjp function from its two halves."""

    def value(*args):
        return fwd(*args)[0]

    made = custom_vjp(f or value)
    made._name = name
    made.defvjp(fwd, bwd)
    return made


def scaled_exp(x, y):
    return np.exp(x) * y


def scaled_exp_fwd(x, y):
    e = np.exp(x)
    return e * y, (e, y)


def scaled_exp_bwd(residuals, g):
    e, y = residuals
    return g * e * y, g * e


def of_trees(t, pair):
    return [t["a"] * pair[0], np.sum(pair[1])]


def of_trees_fwd(t, pair):
    return of_trees(t, pair), {"t": t, "first": pair[0], "second": pair[1]}


def of_trees_bwd(kept, g):
    return {"a": g[0] * kept["first"]}, (g[0] * kept["t"]["a"], np.ones_like(kept["second"]) * g[1])


HAND = {  # fwd, bwd, the plain function, arguments
    "residuals from fwd": (scaled_exp_fwd, scaled_exp_bwd, scaled_exp, (A, B)),
    "arguments kept": (
        lambda x, y: (np.sin(x) * y, (x, y)),
        lambda kept, g: (g * np.cos(kept[0]) * kept[1], g * np.sin(kept[0])),
        lambda x, y: np.sin(x) * y,
        (A, B),
    ),
    "value kept": (
        lambda x: ((y := np.tanh(x)), y),
        lambda y, g: (g * (1 - y * y),),
        lambda x: np.tanh(x),
        (A,),
    ),
    "trees": (of_trees_fwd, of_trees_bwd, of_trees, ({"a": A}, (B, S))),
    "number": (lambda x: (np.sum(x * x), x), lambda x, g: (2 * g * x,), lambda x: np.sum(x * x), (A,)),
    "the argument itself": (lambda x: (x, None), lambda _, g: (g,), lambda x: x, (A,)),
    "two values": (
        lambda x: ((x * x, np.sum(x)), x),
        lambda x, g: (2 * x * g[0] + g[1],),
        lambda x: (x * x, np.sum(x)),
        (A,),
    ),
}


@pytest.mark.parametrize("name", HAND)
def test_custom_vjp_agrees_with_the_plain_function(name):
    fwd, bwd, f, args = HAND[name]
    g, plain_f = written_by_hand(fwd, bwd, f), f
    same(g(*args), f(*args))
    xs, structure = flatten(args)
    flat = lambda h: lambda *ys: h(*unflatten(structure, ys))
    check_grads(flat(g), tuple(xs), order=3)
    out, pullback = vjp(g, *args)
    cts = unflatten(flatten(out)[1], [RNG.standard_normal(np.shape(o)) for o in flatten(out)[0]])
    same(pullback(cts), vjp(plain_f, *args)[1](cts))


@pytest.mark.parametrize("name", HAND)
def test_custom_vjp_compiled(name):
    fwd, bwd, f, args = HAND[name]
    g = written_by_hand(fwd, bwd, f)
    total = lambda h: lambda *xs: sum(np.sum(np.sin(o)) for o in flatten(h(*xs))[0])
    everything = tuple(range(len(args)))
    same(compiled(grad(total(g), everything), *args), grad(total(f), everything)(*args), rtol=1e-8)
    xs = [leaf(x) for x in flatten(args)[0]]
    tensors = unflatten(flatten(args)[1], xs)
    run = sadl.compile(g)
    for _ in range(4):  # differentiated by the surroundings, and by what the program keeps for them
        for x in xs:
            x.grad = None
        sum(np.sum(np.sin(o)) for o in flatten(run(*tensors))[0]).backward()
        same([x.grad for x in xs], flatten(grad(total(f), everything)(*args))[0], rtol=1e-8)


def test_custom_vjp_uses_the_gradient_that_is_given():
    """Not that of the function: here a step with the gradient of the identity, and a reversed gradient."""
    step = written_by_hand(lambda x: (np.sign(x), None), lambda _, g: (g,))
    reverse = written_by_hand(lambda x: (x, None), lambda _, g: (-g,))
    same(grad(lambda x: np.sum(step(x) * B))(A), B)
    for f in (reverse, sadl.compile(reverse)):
        x = leaf(A)
        for _ in range(4):
            x.grad = None
            np.sum(f(x) * B).backward()
            same(x.grad, -B)


def test_custom_vjp_in_a_compiled_training_step():
    model = sadl.Linear(dim_in=4, dim_out=2, rng=0)
    clip = written_by_hand(lambda x: (x, None), lambda _, g: (np.clip(g, -0.01, 0.01),))
    x = A.astype(np.float32)

    def step():
        optimizer.zero_grad()
        loss = np.sum(clip(model(x)) ** 2)
        loss.backward()
        optimizer.step()
        return loss

    losses = {}
    start = model.get_state()
    for mode in ("eager", "compiled"):
        model.load_state(start)
        optimizer = sadl.SGD(model, lr=0.1)
        run = step if mode == "eager" else sadl.compile(step)
        losses[mode] = [float(run()) for _ in range(6)]
    np.testing.assert_allclose(losses["eager"], losses["compiled"], rtol=1e-5)
    assert 0 < losses["eager"][0] - losses["eager"][1] < 0.3  # the steps are as small as the clipped gradient


def test_custom_vjp_of_a_captured_parameter():
    w, f = sadl.Parameter(B), written_by_hand(scaled_exp_fwd, scaled_exp_bwd, scaled_exp)
    run = sadl.compile(lambda x: np.sum(f(w, x)))
    for _ in range(4):
        w.grad = None
        run(A).backward()
        same(w.grad, np.exp(B) * A)
    w.requires_grad = False
    assert not has_history(run(A))


def test_bwd_runs_on_plain_arrays_unless_it_is_recorded():
    seen = []

    def bwd(residuals, g):
        seen.append((type(g), type(residuals)))
        return (2 * residuals * g,)

    square = written_by_hand(lambda x: (x * x, x), bwd)
    x = leaf(A)
    np.sum(square(x)).backward()
    assert type(x.grad) is np.ndarray and seen == [(np.ndarray, np.ndarray)]
    np.sum(square(x)).backward(create_graph=True)
    assert issubclass(seen[1][0], sadl.Tensor) and issubclass(seen[1][1], sadl.Tensor)


def test_without_a_gradient_the_function_itself_runs():
    def fwd(x):
        raise AssertionError

    f = written_by_hand(fwd, fwd, lambda x: x * 2)
    same(f(A), 2 * A)
    assert type(f(A)) is np.ndarray
    with no_grad():
        same(f(leaf(A)), 2 * A)
    same(compiled(f, A), 2 * A)


def test_functions_that_numpy_alone_can_run():
    """Without rules for what `fwd` does: a first derivative, and more if it keeps arguments and value only."""
    one_by_one = lambda x: sadl.Tensor([[float(np.tanh(v)) for v in row] for row in np.asarray(x)])
    f = written_by_hand(lambda x: ((y := one_by_one(x)), y), lambda y, g: (g * (1 - y * y),))
    check_grads(f, (A,), order=3)


def test_arguments_without_a_gradient_have_cotangent_none():
    f = written_by_hand(
        lambda x, i, how, n: (x[i] * n, (x, i, how, n)),
        lambda kept, g: (put(kept[0], kept[1], g * kept[3]), None, None, None),
        lambda x, i, how="up", n=2.0: x[i] * n,
    )

    def put(x, i, g):
        out = np.zeros_like(x)
        out[i] = g
        return out

    check_grads(lambda x: f(x, np.array([0, 2])), (A[0],))
    same(grad(lambda x: np.sum(f(x, n=3.0, i=1)))(A[0]), np.array([0, 3.0, 0, 0]))
    same(vjp(lambda x: f(x, 1, n=np.array(2.0)), A[0])[1](1.0)[0], np.array([0, 2.0, 0, 0]))


def test_a_value_that_is_not_floating_has_cotangent_none():
    seen = []

    def bwd(x, g):
        seen.append(g[1])
        return (g[0] * 2,)

    f = written_by_hand(lambda x: ((x * 2, np.argmax(x), "text"), x), bwd)
    same(grad(lambda x: np.sum(f(x)[0]))(A), 2 + 0 * A)
    assert seen == [None]


def test_a_value_that_nobody_uses_has_cotangent_zero():
    f = written_by_hand(lambda x: ((x * 2, x * 3), None), lambda _, g: (2 * g[0] + 3 * g[1],))
    same(grad(lambda x: np.sum(f(x)[1]))(A), 3 + 0 * A)
    same(grad(lambda y: np.sum(grad(lambda x: np.sum(f(x)[1] ** 2))(y)))(A), 18 + 0 * A)


def test_jvp_of_custom_vjp():
    f = written_by_hand(scaled_exp_fwd, scaled_exp_bwd, scaled_exp)
    same(jvp(f, (A, B), (V, W)), jvp(scaled_exp, (A, B), (V, W)))


def test_custom_vjp_of_complex_numbers():
    f = written_by_hand(lambda z: (z * z, z), lambda z, g: (2 * z * g,))
    same(vjp(f, Z)[1](DZ), vjp(lambda z: z * z, Z)[1](DZ))


def test_custom_vjp_as_a_method():
    class Scale:
        k = 3.0

        @custom_vjp
        def times(self, x):
            return self.k * x

    Scale.times.defvjp(lambda self, x: (self.k * x, self), lambda self, g: (None, self.k * g))
    same(grad(lambda x: np.sum(Scale().times(x)))(A), 3 + 0 * A)
    assert inspect.signature(Scale.times) == inspect.signature(Scale.times.f)


WRONG = {  # what bwd gives for f(x, n), what is said
    "too many": (lambda kept, g: (g, None, None), "for each of 2 arguments, but gave 3"),
    "too few": (lambda kept, g: (g,), "for each of 2 arguments, but gave 1"),
    "no tuple": (lambda kept, g: g, "but gave a"),
    "shape": (lambda kept, g: (g[0], None), r"argument 0 is float64 \(4,\), but the argument is float64 \(3, 4\)"),
    "dtype": (lambda kept, g: (g.astype(np.float32), None), "argument 0 is float32"),
    "a list": (lambda kept, g: ([1.0, 2.0], None), "argument 0 is list"),
    "integer": (lambda kept, g: (g, g), "argument 1 is no floating-point array"),
    "nesting": (lambda kept, g: ((g, g), None), "argument 0 is tuple"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_cotangents_are_errors(name):
    bwd, message = WRONG[name]
    f = written_by_hand(lambda x, n: (x * n, None), bwd, name="triple")
    with pytest.raises(RuleError, match=rf"^\[triple\] .*{message}"):
        grad(lambda x: np.sum(f(x, 3)))(A)


@pytest.mark.parametrize("cotangent", [{"b": A}, {"a": A, "b": A}, [A], [A, A], A])
def test_wrong_nesting_is_an_error(cotangent):
    f = written_by_hand(lambda t: (t["a"] * 2, None), lambda _, g: (cotangent,))
    with pytest.raises(RuleError, match="argument 0 is not nested like the argument"):
        grad(lambda t: np.sum(f(t)))({"a": A})


def test_other_wrong_halves():
    @custom_vjp
    def lonely(x):
        return x * 2

    same(lonely(A), A * 2)
    with pytest.raises(GradientError, match=r"\[lonely\].*no gradient.*defvjp"):
        grad(lambda x: np.sum(lonely(x)))(A)
    with pytest.raises(RuleError, match="pair"):
        grad(lambda x: np.sum(written_by_hand(lambda x: [x, None], None)(x)))(A)

    @custom_vjp
    def named(x, *, n=1):
        return x

    with pytest.raises(TypeError, match="n can be given by keyword only"):
        named(A, n=2)


def test_a_closed_over_tensor_is_an_error():
    w = leaf(B)
    f = written_by_hand(lambda x: (x * w, None), lambda _, g: (g,))
    for x in (A, leaf(A)):
        with pytest.raises(GradientError, match="without being an argument"):
            f(x)
    with pytest.raises(GradientError, match="without being an argument"):
        grad(lambda v: grad(lambda x: np.sum(written_by_hand(lambda y: (y * v, None), lambda _, g: (g,))(x)))(A[0][0]))(
            2.0
        )


def test_bwd_cannot_change_the_cotangent():
    def bwd(_, g):
        g *= 2
        return (g,)

    f = written_by_hand(lambda x: (x * 2, None), bwd)
    for run in (grad(lambda x: np.sum(f(x))), grad(lambda y: np.sum(grad(lambda x: np.sum(f(x) ** 2))(y)))):
        with pytest.raises(ValueError, match="read-only"):
            run(A)
    with pytest.raises(ValueError, match="read-only"):
        sadl.compile(grad(lambda x: np.sum(f(x))))(A)


def test_fwd_cannot_change_an_argument():
    def fwd(x):
        x *= 2
        return x + 1, None

    x = leaf(A) * 1
    with pytest.raises(StaleValueError, match="in place"):
        written_by_hand(fwd, lambda _, g: (g,))(x)


def test_stale_residuals_are_errors():
    f = written_by_hand(lambda x: ((y := np.exp(x)), y), lambda y, g: (g * y,))
    x = leaf(A)
    y = f(x)
    y += 1
    with pytest.raises(StaleValueError):
        np.sum(y).backward()
    f = written_by_hand(lambda x: (x * x, x), lambda x, g: (2 * g * x,))
    y = f(x)
    with no_grad():
        x *= 2
    with pytest.raises(StaleValueError):
        np.sum(y).backward()


def test_random_residuals_are_an_error_at_second_order():
    rng = np.random.default_rng(0)

    def fwd(x):
        mask = rng.random(x.shape)
        return x * mask, mask

    f = written_by_hand(fwd, lambda mask, g: (g * mask,))
    assert np.all(grad(lambda x: np.sum(f(x)))(A) <= 1)
    with pytest.raises(GradientError, match="fwd gave other residuals"):
        grad(lambda y: np.sum(grad(lambda x: np.sum(f(x) ** 2))(y)))(A)


# ---- checkpoint ----------------------------------------------------------------------------------------------------


def block(x):
    for _ in range(5):
        x = np.tanh(x) * 1.1 + np.sin(x)
    return x


CHECKPOINTED = {  # function, arguments
    "chain": (block, (A,)),
    "two arguments": (lambda x, y: np.exp(x * 0.1) @ y.T, (A, B)),
    "nested": (lambda t: {"s": t["x"] * t["y"][0], "n": np.sum(t["x"])}, ({"x": A, "y": (B,)},)),
    "the argument itself": (lambda x: (x, x * 2), (A,)),
    "in place on a copy": (lambda x: operator.imul(x + 1, x), (A,)),
    "checkpoint within": (lambda x: checkpoint(block)(x * 2) + checkpoint(np.sin)(x), (A,)),
    "one unused": (lambda x, y: np.sin(x), (A, B)),
}


@pytest.mark.parametrize("name", CHECKPOINTED)
def test_checkpoint_agrees_with_the_plain_function(name):
    f, args = CHECKPOINTED[name]
    xs, structure = flatten(args)
    flat = lambda h: lambda *ys: h(*unflatten(structure, ys))
    same(checkpoint(f)(*args), f(*args))
    check_grads(flat(checkpoint(f)), tuple(xs), order=3)
    out, pullback = vjp(checkpoint(f), *args)
    cts = unflatten(flatten(out)[1], [RNG.standard_normal(np.shape(o)) for o in flatten(out)[0]])
    same(pullback(cts), vjp(f, *args)[1](cts))


@pytest.mark.parametrize("name", CHECKPOINTED)
def test_checkpoint_compiled(name):
    f, args = CHECKPOINTED[name]
    total = lambda h: lambda *xs: sum(np.sum(np.sin(o)) for o in flatten(h(*xs))[0])
    everything = tuple(range(len(args)))
    found = compiled(grad(total(checkpoint(f)), everything), *args)
    same(found, grad(total(f), everything)(*args), rtol=1e-8)


def test_checkpoint_reaches_what_is_closed_over():
    """Parameters, values computed outside, and a value that is an argument and closed over."""
    w, x = sadl.Parameter(B), leaf(A)

    def run(wrap):
        w.grad = x.grad = None
        h = np.sin(w * 2)
        f = wrap(lambda y: np.exp(0.3 * y * w) * h + y * x * h)
        np.sum(f(x) * V).backward()
        return w.grad, x.grad

    same(run(checkpoint), run(lambda f: f))


def test_checkpoint_of_what_only_closes_over():
    w = sadl.Parameter(B)
    np.sum(checkpoint(lambda x: x * w)(A)).backward()
    same(w.grad, A)
    w.grad = None
    np.sum(checkpoint(lambda: w * w)()).backward()
    same(w.grad, 2 * B)


def test_checkpointed_layers_train_like_plain_ones():
    start = [sadl.Linear(dim_in=4, dim_out=4, rng=i).get_state() for i in range(3)]
    losses = {}
    for wrap in (checkpoint, lambda f: f):
        layers = [sadl.Linear(dim_in=4, dim_out=4, rng=0).load_state(s) for s in start]
        model = sadl.Mlp(layers)
        optimizer = sadl.SGD(model, lr=0.1)
        found = losses.setdefault(wrap is checkpoint, [])
        for _ in range(5):
            optimizer.zero_grad()
            y = A.astype(np.float32)
            for layer in layers:
                y = wrap(lambda v, layer=layer: np.tanh(layer(v)))(y)
            loss = np.sum((y - 0.5) ** 2)
            loss.backward()
            optimizer.step()
            found.append(float(loss))
    np.testing.assert_allclose(losses[True], losses[False], rtol=1e-6)


def test_checkpoint_of_second_order_by_what_is_closed_over():
    def outer(wrap):
        return lambda w: np.sum(grad(lambda x: np.sum(wrap(lambda y: np.sin(y * w) * w)(x)))(A))

    same(grad(outer(checkpoint))(B), grad(outer(lambda f: f))(B))
    w = leaf(B)
    np.sum(checkpoint(lambda x: np.exp(x * w))(A)).backward(create_graph=True)
    g, w.grad = w.grad, None
    np.sum(g * V).backward()
    same(w.grad, V * A * A * np.exp(A * B))
    same(jvp(lambda x: checkpoint(block)(x), (A,), (V,)), jvp(block, (A,), (V,)))


def test_a_loop_that_rebinds_what_is_closed_over_is_an_error():
    x = leaf(A)
    for w in (leaf(B), leaf(V)):
        x = checkpoint(lambda y: y * w)(x)  # noqa: B023  that is the mistake
    with pytest.raises(GradientError, match="gave something else when it ran again"):
        np.sum(x).backward()


def test_changes_between_forward_and_backward_are_errors():
    for i, error in enumerate((StaleValueError, StaleValueError, GradientError)):
        used = [leaf(A) * 1, sadl.Parameter(B), np.ones(4)]
        y = np.sum(checkpoint(lambda v, used=used: v * used[1] * used[2])(used[0]))
        with no_grad():
            used[i] *= 2
        with pytest.raises(error):
            y.backward()


def test_the_result_may_be_changed_in_place():
    x = leaf(A)
    y = checkpoint(block)(x)
    y *= B
    np.sum(y).backward()
    same(x.grad, grad(lambda v: np.sum(block(v) * B))(A))


def test_a_checkpointed_function_must_not_change_what_is_outside():
    x, h = leaf(A) * 1, leaf(B) * 1
    with pytest.raises(StaleValueError, match="in place"):
        checkpoint(lambda v: operator.imul(v, 2))(x)
    with pytest.raises(StaleValueError, match="in place"):
        checkpoint(lambda v: v * operator.iadd(h, 1))(leaf(A))


def test_random_numbers_are_drawn_again():
    sadl.random.seed(0)
    dropout = lambda x: x * (sadl.random.generator().random(x.shape) > 0.5)
    x = leaf(A)
    y = checkpoint(lambda v: dropout(v) * 2)(x)
    after = sadl.random.generator().random()
    np.sum(y).backward()
    same(x.grad, 2.0 * (np.asarray(y) != 0))
    following = sadl.random.generator().random()
    sadl.random.seed(0)
    sadl.random.generator().random(x.shape)
    assert [after, following] == [sadl.random.generator().random() for _ in range(2)]
    rng = np.random.default_rng(0)
    with pytest.raises(GradientError, match="something else"):
        np.sum(checkpoint(lambda v: v * rng.random(v.shape))(x)).backward()


def held(result):
    """How many nodes, and how many bytes of arrays, are kept for the backward from a result."""
    nodes = reachable([result._node], set())
    arrays = {}
    for node in nodes:
        outs = node.out if isinstance(node.out, tuple) else (node.out,)
        for a in (*(node.inputs or ()), *outs):
            if isinstance(a, np.ndarray):
                root = a if a.base is None else a.base
                arrays[id(root)] = root
    return len(nodes), sum(a.nbytes for a in arrays.values())


def test_checkpoint_holds_less():
    x = leaf(RNG.standard_normal((50, 50)))
    sizes = {}
    for name, f in (("plain", block), ("checkpointed", checkpoint(block))):
        y = x
        for _ in range(4):
            y = f(y)
        sizes[name] = held(np.sum(y))
    (nodes, size), (few, small) = sizes["plain"], sizes["checkpointed"]
    assert nodes > 4 * 20 and few <= 2 + 4 * 2
    assert small <= 6 * x.nbytes and size > 40 * x.nbytes


def test_checkpoint_without_gradients_and_as_a_decorator():
    calls = []

    @checkpoint
    def f(x, *, scale=1.0):
        """Some text."""
        calls.append(type(x))
        return x * scale

    assert f.__name__ == "f" and f.__doc__ == "Some text."
    same(f(A, scale=2.0), 2 * A)
    with no_grad():
        assert not has_history(f(leaf(A)))
    assert len(calls) == 2 and type(f(A)) is np.ndarray
    np.sum(f(leaf(A), scale=3.0)).backward()
    assert len(calls) == 5
    same(compiled(lambda x: f(x, scale=2.0), A), 2 * A)


def test_a_checkpointed_model():
    model = sadl.Mlp([sadl.Linear(dim_in=4, dim_out=4, rng=0), sadl.ReLU()])
    x, run = A.astype(np.float32), checkpoint(model)
    grads = []
    for f in (model, run):
        for p in model.parameters:
            p.grad = None
        np.sum(f(x) ** 2).backward()
        grads.append([p.grad for p in model.parameters])
    same(grads[0], grads[1])


# ---- what they stand on --------------------------------------------------------------------------------------------


def test_one_of_several_results_may_be_changed_in_place():
    x = leaf(A)
    part, whole = np.modf(x * 3)
    part *= B
    np.sum(part * part + whole).backward()
    same(x.grad, 6 * np.modf(3 * A)[0] * B * B)


def test_a_view_that_is_out_of_date_is_no_argument():
    x = leaf(A) * 1
    view = x[0]
    x *= 2
    for transform in (lambda v: grad(np.sum)(v), lambda v: jvp(np.sin, (v,), (V[0],)), checkpoint(np.sin)):
        with pytest.raises(StaleValueError):
            transform(view)


# ---- all of them together ------------------------------------------------------------------------------------------


def test_transforms_nest():
    custom = written_by_hand(scaled_exp_fwd, scaled_exp_bwd, scaled_exp)
    f = lambda h, c: lambda x: np.sum(h(lambda v: c(v * 0.5, B[0]) ** 2)(x))
    ours, plain_one = f(checkpoint, custom), f(lambda g: g, scaled_exp)
    same(hessian(ours)(A[0]), hessian(plain_one)(A[0]))
    same(hvp(ours, (A[0],), (V[0],)), hvp(plain_one, (A[0],), (V[0],)))
    same(compiled(hessian(ours), A[0]), hessian(plain_one)(A[0]), rtol=1e-8)


def test_transforms_of_compiled_functions():
    f = lambda x: np.sin(x) * np.sum(x * x)
    run = sadl.compile(f)
    for _ in range(4):
        same(jvp(run, (A[0],), (V[0],)), jvp(f, (A[0],), (V[0],)), rtol=1e-8)
        same(jacobian(run)(A[0]), jacobian(f)(A[0]), rtol=1e-8)
        same(hvp(lambda x: np.sum(run(x)), (A[0],), (V[0],)), hvp(lambda x: np.sum(f(x)), (A[0],), (V[0],)), rtol=1e-8)
        same(grad(lambda x: np.sum(checkpoint(run)(x)))(A[0]), grad(lambda x: np.sum(f(x)))(A[0]), rtol=1e-8)


def test_everything_is_exported():
    for name in ("checkpoint", "custom_vjp", "elementwise_grad", "hessian", "hvp", "jacobian", "jvp"):
        assert name in sadl.__all__ and inspect.getdoc(getattr(sadl, name))
