"""Tests of the IR: what the printer writes, what the verifier refuses, what a graph means.

Takes graphs written by hand, so that nothing here depends on capturing; passes are in test_passes.py.
"""

from dataclasses import replace

import numpy as np
import pytest

import sadl
from sadl.compiler.ir import Eqn, Graph, Literal, Var, evaluate, print_graph, resolve, substitute, verify
from sadl.errors import VerifyError
from sadl.op import OPS, Aval, Op

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def var(*shape, dtype=F32):
    return Var(Aval(shape, dtype))


def eqn(name, *inputs, out, where="", **params):
    return Eqn(OPS[name], inputs, params, (out,), where)


A, B, SUM, MEAN, CONST = var(2, 3), var(3), var(2, 3), var(2), var()
EQNS = (
    eqn("add", A, B, out=SUM, where="model.py:7"),
    eqn("sum", SUM, out=MEAN, axis=(1,), keepdims=False),
)
GRAPH = Graph((A, B), EQNS, (MEAN, SUM), donated={1: 0})
INPUTS = np.arange(6, dtype=F32).reshape(2, 3), np.ones(3, F32)


def test_printed():
    assert str(GRAPH) == (
        "graph(%0: f32[2,3], %1: f32[3])\n"
        "  %2: f32[2,3] = add(%0, %1)\n"
        "  %3: f32[2] = sum(%2, axis=(1,), keepdims=False)\n"
        "  return %3, %2 -> %0"
    )


def test_printed_with_lines_constants_literals_and_a_body():
    scaled, done = var(2), var(2)
    inner = Graph((MEAN, CONST), (eqn("multiply", MEAN, CONST, out=scaled),), (scaled,))
    cluster = Eqn(OPS["copy"], (MEAN, CONST), {"body": inner, "over": "2"}, (done,))
    graph = Graph((A, B), (*EQNS, cluster), (done, Literal(0.5)), {CONST: np.array(2, F32)})
    assert print_graph(graph, lines=True) == (
        "graph(%0: f32[2,3], %1: f32[3])\n"
        "  %2: f32[] = const\n"
        "  %3: f32[2,3] = add(%0, %1)  # model.py:7\n"
        "  %4: f32[2] = sum(%3, axis=(1,), keepdims=False)\n"
        "  %5: f32[2] = copy(%4, %2, over=2) {\n"
        "    graph(%0: f32[2], %1: f32[])\n"
        "      %2: f32[2] = multiply(%0, %1)\n"
        "      return %2\n"
        "  }\n"
        "  return %5, 0.5"
    )


def test_equal_graphs_print_equally():
    fn = lambda x: np.tanh(x) * 2 + x
    first, second = (str(sadl.make_ir(fn)(np.ones(3))) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "value, text",
    [
        (2, "2"),
        (0.5, "0.5"),
        (True, "True"),
        (np.float32(0.5), "0.5:f32"),
        (np.int64(3), "3:i64"),
        (np.bool_(0), "False:b8"),
    ],
)
def test_literals_show_whether_their_dtype_is_weak(value, text):
    assert str(Literal(value)) == text


# ---- literals take part in dtypes as NumPy's numbers do --------------------------------------------------------------

NUMBERS = [2, 0.5, np.float32(2), np.float64(0.5), np.int8(3), np.int64(3), np.bool_(True)]


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "i8", "?"])
@pytest.mark.parametrize("number", NUMBERS, ids=lambda n: f"{type(n).__name__}")
@pytest.mark.parametrize("name", ["add", "multiply", "divide", "maximum", "less"])
def test_literal_dtypes(name, number, dtype):
    array = np.ones(2, dtype)
    aval = OPS[name].aval(Aval((2,), array.dtype), Literal(number).aval)
    expected = getattr(np, name)(array, number)
    assert aval == Aval(expected.shape, expected.dtype)


def test_where_of_literals():
    aval = OPS["where"].aval(Aval((2,), np.dtype(bool)), Literal(1).aval, Literal(np.float32(0)).aval)
    assert aval.dtype == np.where(np.ones(2, bool), 1, np.float32(0)).dtype == F32


# ---- the verifier ----------------------------------------------------------------------------------------------------

WRONG_SHAPE, WRONG_DTYPE = var(3, 2), var(2, 3, dtype=F64)
MANY = Op("two_results", lambda x: (x, x), "call", outs=2)
INNER = Graph((SUM,), (), (SUM,))
REFUSED = {
    "use before definition": (replace(GRAPH, eqns=EQNS[::-1]), "used before it is assigned in equation 0"),
    "unknown value": (replace(GRAPH, inputs=(A,)), "used before it is assigned in equation 0"),
    "assigned twice": (replace(GRAPH, eqns=(*EQNS, EQNS[0])), "assigned twice in equation 2"),
    "assigned to an input": (Graph((A, B), (eqn("add", A, B, out=A),), (A,)), "assigned twice in equation 0"),
    "assigned twice at once": (Graph((A,), (Eqn(MANY, (A,), {}, (SUM, SUM)),), (SUM,)), "assigned twice"),
    "wrong shape": (
        Graph((A, B), (eqn("add", A, B, out=WRONG_SHAPE),), (WRONG_SHAPE,)),
        r"add gives f32\[2,3\], not f32\[3,2\]",
    ),
    "wrong dtype": (Graph((A, B), (eqn("add", A, B, out=WRONG_DTYPE),), (WRONG_DTYPE,)), "not f64"),
    "wrong params": (
        Graph((SUM,), (eqn("sum", SUM, out=MEAN, axis=(0,), keepdims=False),), (MEAN,)),
        r"gives f32\[3\]",
    ),
    "unbound output": (replace(GRAPH, outputs=(MEAN, WRONG_SHAPE), donated={}), "output is not bound"),
    "donated to another type": (replace(GRAPH, donated={0: 0}), "output 0 replaces an input of another type"),
    "literal donated": (replace(GRAPH, outputs=(MEAN, Literal(0.5))), "output 1 replaces an input of another type"),
    "body of another type": (
        Graph((A,), (Eqn(OPS["copy"], (A,), {"body": INNER}, (WRONG_SHAPE,)),), (WRONG_SHAPE,)),
        "body has other types",
    ),
    "broken body": (
        Graph((A,), (Eqn(OPS["copy"], (A,), {"body": replace(INNER, outputs=(MEAN,))}, (SUM,)),), (SUM,)),
        "output is not bound after fuse",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_verifier_refuses(name):
    graph, text = REFUSED[name]
    with pytest.raises(VerifyError, match=text):
        verify(graph, "a pass")


def test_the_verifier_names_the_pass_and_shows_the_graph():
    with pytest.raises(VerifyError, match=r"^\[verify\] .* after some_pass:\ngraph\(%0: f32\[2,3\]"):
        verify(replace(GRAPH, eqns=EQNS[::-1]), "some_pass")


def test_the_verifier_gives_a_good_graph_back():
    assert verify(GRAPH) is GRAPH


# ---- meaning ---------------------------------------------------------------------------------------------------------


def test_evaluate():
    mean, total = evaluate(GRAPH, *INPUTS)
    assert mean.tolist() == [6.0, 15.0] and total.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_evaluate_leaves_donated_inputs_alone():
    before = INPUTS[0].copy()
    evaluate(GRAPH, *INPUTS)
    assert np.array_equal(INPUTS[0], before)


def test_evaluate_constants_literals_and_several_results():
    x, y = var(), var()
    graph = Graph((A,), (Eqn(MANY, (CONST,), {}, (x, y)),), (Literal(0.5), CONST, x, y), {CONST: np.array(2, F32)})
    assert evaluate(graph, INPUTS[0]) == [0.5, 2, 2, 2]


def test_evaluate_wants_all_inputs():
    with pytest.raises(ValueError, match="shorter"):
        evaluate(GRAPH, INPUTS[0])


def test_evaluate_on_tensors_is_differentiable():
    x = sadl.tensor(INPUTS[0], requires_grad=True)
    evaluate(GRAPH, x, INPUTS[1])[0].sum().backward()
    assert x.grad.tolist() == np.ones((2, 3)).tolist()


# ---- rewriting -------------------------------------------------------------------------------------------------------


def test_substitute_follows_replacements_to_their_end():
    replaced = {SUM: A, A: B}
    assert resolve(SUM, replaced) is B
    assert substitute(EQNS[1], replaced).inputs == (B,)
    assert substitute(EQNS[0], {MEAN: A}) is EQNS[0]
