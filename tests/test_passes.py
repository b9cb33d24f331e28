"""Tests of the passes: none changes what a graph means, each rule of simplify fires where it may and only there.

Takes the corpus and random programs; compares `evaluate` before and after each pass, and with the program that results.
What is wrong with a pass must be noticed, so deliberately broken ones are tried as well.
"""

import logging
from dataclasses import replace

import numpy as np
import pytest
from corpus import CORPUS, close, graph_of, inputs_of, programs
from hypothesis import given, settings

import sadl
import sadl.compiler.blocks
import sadl.functional as F
from sadl.compiler.blocks import blocks
from sadl.compiler.cse import cse
from sadl.compiler.dce import dce
from sadl.compiler.fuse import _Fusion, fuse
from sadl.compiler.ir import Var, evaluate, verify
from sadl.compiler.pipeline import optimise, plan
from sadl.compiler.program import Program
from sadl.compiler.recompute import recompute
from sadl.compiler.shot import take
from sadl.compiler.simplify import ALWAYS, RULES, simplify
from sadl.errors import VerifyError
from sadl.op import OPS, Aval
from sadl.tree import flatten


def recompute_fused(graph):
    return recompute(fuse(graph))


def blocks_of_any_size(graph):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sadl.compiler.blocks, "LEAST", 1)
        patch.setattr(sadl.compiler.blocks, "FEWEST", 2)
        return blocks(fuse(graph))


PASSES = [simplify, cse, dce, fuse, recompute_fused, blocks_of_any_size, optimise]


def check_pass(run, graph, inputs):
    """The one thing that must hold of a pass."""
    with np.errstate(all="ignore"):
        expected = evaluate(graph, *inputs)
        got = evaluate(verify(run(graph), run.__name__), *inputs)
    assert len(got) == len(expected)
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert close(a, b), f"{run.__name__} changed output {i}:\n{a}\n{b}\n{graph}\n{run(graph)}"


def check_program(graph, inputs, jit):
    """The program computes what `evaluate` does, and writes donated outputs into the memory of their inputs."""
    with np.errstate(all="ignore"), sadl.config(jit=jit):
        expected = evaluate(graph, *(a.copy() for a in inputs))
        arrays = [a.copy() for a in inputs]
        returned = iter(Program(plan(graph))(arrays))
    got = [arrays[graph.donated[i]] if i in graph.donated else next(returned) for i in range(len(graph.outputs))]
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert close(a, b, 10), f"output {i}:\n{a}\n{b}\n{graph}"


@pytest.mark.parametrize("name", CORPUS)
@pytest.mark.parametrize("run", PASSES, ids=lambda run: run.__name__)
def test_a_pass_keeps_the_meaning(run, name):
    check_pass(run, *graph_of(name))


@pytest.mark.parametrize("name", CORPUS)
def test_the_program_means_what_the_graph_means(name):
    check_program(*graph_of(name), jit=False)


@pytest.mark.parametrize("name", CORPUS)
def test_the_program_with_small_blocks(monkeypatch, name):
    monkeypatch.setattr(sadl.compiler.blocks, "LEAST", 1)
    monkeypatch.setattr(sadl.compiler.blocks, "FEWEST", 2)
    check_program(*graph_of(name), jit=False)


@settings(max_examples=200)
@given(programs())
def test_random_programs_as_python(drawn):
    graph = drawn.graph()
    inputs = inputs_of(graph, *drawn.args)
    for run in PASSES:
        check_pass(run, graph, inputs)
    check_program(graph, inputs, jit=False)


@settings(max_examples=40)
@given(programs())
def test_random_programs_as_machine_code(drawn):
    graph = drawn.graph()
    check_program(graph, inputs_of(graph, *drawn.args), jit=True)


# ---- the rules of simplify, one by one -------------------------------------------------------------------------------

F32, F64, I64, U8 = np.ones((2, 3), np.float32), np.ones((2, 3)), np.ones((2, 3), int), np.ones((2, 3), np.uint8)
ROW = np.ones(3, np.float32)


def set_all(x):
    y = x + 1
    y[...] = x - 1
    return y


def halves(x):
    return sadl.grad(lambda x: np.sum((p := np.split(x, [1], axis=1))[0] ** 2) + np.sum(p[1] * 3))(x)


def rows_apart(x):
    return sadl.grad(lambda x: np.sum(x[0] ** 2) + np.sum(x[1] * 3))(x)


def overlapping(x):
    return sadl.grad(lambda x: np.sum(x[:, :2] ** 2) + np.sum(x[:, 1:] ** 3))(x)


def corners(x):
    return sadl.grad(lambda x: np.sum(x[0, :2] ** 2) + np.sum(x[1, 2:] ** 3))(x)


HALVES = ["getitem", "broadcast_to", "multiply", "multiply"]
FIRES = [  # rule, function, argument, the operations that are left
    ("fold_constants", lambda x: x * (np.full_like(x[0, 0], 2) * 3), F32, ["multiply"]),
    ("fold_full", lambda x: x * np.ones_like(np.sum(x)), F32, []),
    ("drop_broadcast", lambda x: np.broadcast_to(x, (2, 3)) * F32, ROW, ["multiply"]),
    ("late_broadcast", lambda x: np.exp(np.broadcast_to(x, (2, 3))), ROW, ["exp", "broadcast_to"]),
    ("drop_neutral", lambda x: x + 0, F32, []),
    ("drop_neutral", lambda x: 0 + x, I64, []),
    ("drop_neutral", lambda x: x - 0, F32, []),
    ("drop_neutral", lambda x: 1 * (x * 1.0), F32, []),
    ("drop_neutral", lambda x: x / 1, F32, []),
    ("add_negative", lambda x: (-x) + F32, F32, ["subtract"]),
    ("double_negative", lambda x: -(-x), F32, []),
    ("drop_cast", lambda x: x.astype(np.float32), F32, []),
    ("drop_copy", lambda x: np.copy(+x), F32, []),
    ("drop_view", lambda x: np.reshape(np.broadcast_to(x, (2, 3)), (2, 3)), F32, []),
    ("merge_reshape", lambda x: np.reshape(np.reshape(x, 6), (3, 2)), F32, ["reshape"]),
    ("merge_broadcast", lambda x: np.broadcast_to(np.broadcast_to(x, (1, 3)), (2, 3)), ROW, ["broadcast_to"]),
    ("merge_transpose", lambda x: x.T.T, F32, []),
    ("merge_transpose", lambda x: np.transpose(x, (0, 1)), F32, []),
    ("power_to_product", lambda x: x**2, F32, ["square"]),
    ("power_to_product", lambda x: x**0.5, F64, ["sqrt"]),
    ("power_to_product", lambda x: x**-1, F32, ["reciprocal"]),
    ("power_to_product", lambda x: x**1, F64, []),
    ("reduce_nothing", lambda x: np.sum(x, axis=0), F32[:1], ["reshape"]),
    ("reduce_nothing", lambda x: np.max(x, axis=()), F32, []),
    (
        "constant_reshape",
        lambda x: x * np.reshape(np.broadcast_to(np.full_like(x[0, 0], 1), (1, 2)), 2),
        F32[:, :2],
        [],
    ),
    ("drop_assign", set_all, F32, ["subtract"]),
    ("join_slices", halves, F32, [*HALVES, "concatenate"]),
    ("join_slices", rows_apart, F32, [*HALVES, "reshape", "reshape", "concatenate"]),
]
STAYS = [  # rule, function, argument: where it would be wrong
    ("fold_full", lambda x: x + np.ones_like(x), F32),
    ("fold_full", lambda x: np.full_like(np.sum(x), x[0, 0]), F32),
    ("power_to_product", lambda x: x**2, I64),  # the others do not exist for integers
    ("power_to_product", lambda x: x ** np.float64(2), F32),  # the result is float64
    ("power_to_product", lambda x: x**3, F32),
    ("drop_neutral", lambda x: x * np.float64(1), F32),
    ("drop_neutral", lambda x: x + np.float64(0), F32),
    ("drop_neutral", lambda x: x + 0.0, I64),
    ("drop_neutral", lambda x: x * 1, F64 > 0),
    ("drop_neutral", lambda x: x + np.zeros(3, np.float32), F32[:, :1]),  # the result is larger
    ("drop_neutral", lambda x: 0 - x, F32),
    ("join_slices", overlapping, F32),
    ("join_slices", corners, F32),
    ("drop_neutral", lambda x: 1 / x, F32),
    ("add_negative", lambda x: I64 + (-x), U8),  # -1 is 255 there
    ("drop_cast", lambda x: x.astype(np.float64), F32),
    ("drop_view", lambda x: np.reshape(x, (3, 2)), F32),
    ("merge_transpose", lambda x: x.T, F32),
    ("reduce_nothing", lambda x: np.sum(x, axis=0), F32),
    ("reduce_nothing", lambda x: np.any(x, axis=0), F32[:1]),  # the result is bool
    ("reduce_nothing", lambda x: np.sum(x, axis=0), F32[:1] > 0),  # the result is int64
    ("drop_broadcast", lambda x: np.broadcast_to(x, (2, 3)) * 2, ROW),  # nothing else gives the shape
    ("late_broadcast", lambda x: np.broadcast_to(x, (2, 3)) + ROW[:1], ROW),
    ("constant_reshape", lambda x: np.reshape(x, (3, 2)), F32),
    ("fold_constants", lambda x: np.exp(x), ROW[0:1].reshape(())),
]


def fired(caplog, fn, arg):
    """The graph of `fn`, what simplify makes of it, and the rules it used on the way."""
    graph = sadl.make_ir(fn)(np.array(arg))
    consts = {v: np.array(a) for v, a in zip(graph.inputs[1:], held(fn, arg), strict=True)}
    graph = replace(graph, inputs=graph.inputs[:1], consts=consts)
    with caplog.at_level(logging.INFO, "sadl.compiler"), sadl.config(debug=5):
        simple = simplify(graph)
    return graph, simple, {record.args[0] for record in caplog.records}


def held(fn, arg):
    """The arrays that `fn` reads besides its argument."""
    return take(fn, *flatten(((np.array(arg),), {}))).capture.raws[1:]


@pytest.mark.parametrize("rule, fn, arg, left", FIRES, ids=[f"{n}-{r[0]}" for n, r in enumerate(FIRES)])
def test_a_rule_fires(caplog, rule, fn, arg, left):
    graph, simple, rules = fired(caplog, fn, arg)
    assert rule in rules, f"{rules}\n{graph}"
    assert [e.op.name for e in dce(simple).eqns] == left, str(simple)
    check_pass(simplify, graph, [np.array(arg)])


@pytest.mark.parametrize("rule, fn, arg", STAYS, ids=[f"{n}-{r[0]}" for n, r in enumerate(STAYS)])
def test_a_rule_does_not_fire(caplog, rule, fn, arg):
    graph, simple, rules = fired(caplog, fn, arg)
    assert rule not in rules, str(simple)
    check_pass(simplify, graph, [np.array(arg)])


def test_every_rule_is_tested():
    assert {r.__name__ for rules in (*RULES.values(), ALWAYS) for r in rules} == {row[0] for row in FIRES}


def test_negated_small_integers_wrap():
    graph = sadl.make_ir(lambda x, y: x + (-y))(I64, U8)
    (result,) = evaluate(simplify(graph), I64, U8)
    assert result.tolist() == (I64 + (-U8)).tolist() and result[0, 0] == 256


# ---- the other passes ------------------------------------------------------------------------------------------------


def names(graph):
    return [e.op.name for e in graph.eqns]


def test_cse_tells_literals_apart():
    graph = sadl.make_ir(lambda x: (x * 1, x * 1.0, x * np.float32(1), x * True, x * 0.0, x * -0.0, x * 1))(F32)
    assert len(cse(graph).eqns) == 6
    assert cse(graph).outputs[0] is cse(graph).outputs[6]


def test_cse_follows_chains():
    graph = cse(sadl.make_ir(lambda x: (np.exp(x + 1), np.exp(x + 1)))(F32))
    assert names(graph) == ["add", "exp"] and graph.outputs[0] is graph.outputs[1]


def test_dce_keeps_what_can_raise():
    def fn(x, i):
        np.exp(x)
        np.take_along_axis(x, i, 1)
        return x + 1

    graph = dce(sadl.make_ir(fn)(F32, np.zeros((2, 1), int)))
    assert "exp" not in names(graph) and names(graph)[-1] == "add"
    assert any(e.op.checks for e in graph.eqns)


def test_fuse_puts_a_whole_loss_into_one_kernel():
    def loss(x):
        shifted = x - np.max(x, axis=1, keepdims=True)
        return shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))

    assert names(optimise(sadl.make_ir(loss)(F32))) == ["cluster"]


def test_fuse_does_not_close_a_circle():
    """exp feeds cumsum, and both feed the sum: one kernel would have to run before and after cumsum."""
    with sadl.no_grad():
        graph = optimise(sadl.make_ir(lambda x: (y := np.exp(x)) + np.cumsum(y, axis=0))(F32))
    assert names(graph) == ["cluster", "cumsum", "cluster"]


def test_recompute_keeps_less():
    """The backward of tanh(u) * exp(u) reads u = cumsum(x) alone; where exp makes u, it is not worth it."""
    x = np.ones((64, 64), np.float32)
    loss = lambda x: np.sum(np.cumsum(np.tanh(u := np.cumsum(x, 1) + 1) * (u * u + u), 1) ** 2)
    graph = fuse(dce(simplify(cse(sadl.make_ir(sadl.grad(loss))(x)))))
    handed_on = lambda g: sum(len(e.inputs) + len(e.outs) for e in g.eqns if e.op.name == "cluster")
    less = recompute(graph)
    assert handed_on(less) < handed_on(graph)
    check_pass(recompute, graph, inputs_of(graph, x))


def test_recompute_leaves_comparisons_alone():
    """A mask is kept, so that backward and forward agree about each element."""
    loss = lambda x, w: np.sum(np.cumsum(F.relu(np.cumsum(x, 0) * w), 0) ** 2)
    graph = optimise(sadl.make_ir(sadl.grad(loss, (0, 1)))(np.ones((64, 64), np.float32), np.ones(64, np.float32)))
    compared = [e for c in graph.eqns if "body" in c.params for e in c.params["body"].eqns if e.op.name == "less_equal"]
    assert len(compared) == 1


def test_recompute_reads_what_is_compared():
    """A maximum is found again where it was: computed anew, an element may differ from it in its last bit."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((256, 64), (256, 3)))

    def loss(x, w):
        t, p, q = x * x, x * np.float32(0.3), x * np.float32(1.7)
        tops = np.stack([np.max(t + p, axis=-1), np.max(t + p - q, axis=-1)])
        return np.sum(np.square(tops @ w)) + np.sum(np.cumsum(np.sum(np.tanh(p) * np.sin(q), axis=-1)))

    gradient = sadl.compile(sadl.grad(loss))
    for _ in range(3):
        found = gradient(x, w)
    np.testing.assert_allclose(found, sadl.grad(loss)(x, w), rtol=1e-4, atol=1e-2)
    for e in optimise(sadl.make_ir(sadl.grad(loss))(x, w)).eqns:
        body = e.params.get("body")
        compared = {v for c in body.eqns if c.op.name == "equal" for v in c.inputs} if body else set()
        assert compared <= set(body.inputs if body else ())  # read, both of them


def test_blocks_do_not_depend_on_threads():
    x = np.random.default_rng(0).standard_normal(1 << 18).astype(np.float32)
    found = []
    for threads in (1, 2, 5):
        with sadl.config(threads=threads):
            total = sadl.compile(lambda x: (y := np.tanh(x), np.sum(y)))
            found.append([np.array(total(x)[1]).tobytes() for _ in range(3)][-1])
            assert len(total.kernels) == 2
    assert len(set(found)) == 1


@pytest.mark.parametrize("fn", [
    lambda x: x - np.mean(x),  # every element waits for the total
    lambda x: np.sum(x[:7]),  # small
    lambda x: np.sum(x[: 1 << 16 | 1]),  # a prime number of elements: no blocks of one size
])  # fmt: skip
def test_what_is_not_cut_into_blocks(fn):
    graph = fuse(dce(simplify(sadl.make_ir(fn)(np.ones(1 << 17, np.float32)))))
    assert names(blocks(graph)) == names(graph)


# ---- broken passes are noticed ---------------------------------------------------------------------------------------


def drop_an_equation(graph):
    return replace(graph, eqns=graph.eqns[1:])


def swap_operands(graph):
    return graph.with_eqns(replace(e, inputs=e.inputs[::-1]) if e.op.name == "subtract" else e for e in graph.eqns)


def change_a_dtype(graph):
    last = graph.eqns[-1]
    out = Var(Aval(last.out.aval.shape, np.dtype(np.float64)))
    return graph.with_eqns([*graph.eqns[:-1], replace(last, outs=(out,))], [out])


def other_operation(graph):
    return graph.with_eqns(replace(e, op=OPS["cos"]) if e.op.name == "sin" else e for e in graph.eqns)


def forget_an_output(graph):
    return replace(graph, outputs=graph.outputs[:-1])


BROKEN = [
    (drop_an_equation, VerifyError, "used before it is assigned"),
    (swap_operands, AssertionError, "swap_operands changed output 0"),
    (change_a_dtype, VerifyError, "change_a_dtype"),
    (other_operation, AssertionError, "changed output 0"),
    (forget_an_output, AssertionError, "0 == 1"),
]


@pytest.mark.parametrize("run, error, text", BROKEN, ids=[row[0].__name__ for row in BROKEN])
def test_a_broken_pass_is_noticed(run, error, text):
    graph = sadl.make_ir(lambda x: np.sin(x - ROW) * 2 + 1)(F32 * 3)
    check_pass(simplify, graph, inputs_of(graph, F32 * 3))
    with pytest.raises(error, match=text):
        check_pass(run, graph, inputs_of(graph, F32 * 3))


# ---- what fuse asks before it merges -------------------------------------------------------------------------------


def walked(fusion, members):
    """Whether something outside must run after one member and before another: by following all that use a result."""
    users = lambda group: {u for m in group for v in fusion.graph.eqns[m].outs for u in fusion.users.get(v, ())}
    ahead, seen = users(members) - members, set()
    while ahead:
        group = fusion._together(ahead.pop())
        if group & members:
            return True
        seen |= group
        ahead |= users(group) - seen
    return False


def test_what_must_run_between_is_found(monkeypatch):
    answers = []

    def asked(fusion, members, ask=_Fusion._has_outside_path):
        answers.append(ask(fusion, members))
        assert answers[-1] == walked(fusion, members)
        return answers[-1]

    monkeypatch.setattr(_Fusion, "_has_outside_path", asked)
    block, x = sadl.nn.TransformerBlock(8, 2, rng=0), np.ones((2, 3, 8), np.float32)
    step = sadl.grad(lambda x: np.sum(block(x) ** 2))
    for graph in (sadl.make_ir(step)(x), *(graph_of(name)[0] for name in CORPUS)):
        optimise(graph)
    assert answers.count(True) > 20 and answers.count(False) > 100
