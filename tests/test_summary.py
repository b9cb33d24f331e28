"""Tests of `sadl.summary`: what the table says, and that the model is as it was."""

import numpy as np
import pytest

import sadl
from sadl import Buffer, Function, Linear, Mlp, Parameter, ReLU, random

X = np.ones((8, 6), np.float32)


def rows(text):
    """The cells of the table, without its head."""
    lines = text.splitlines()
    rules = [i for i, line in enumerate(lines) if set(line) == {"-"}]
    starts = [lines[0].index(word) for word in ("path", "type", "output")]
    cut = lambda line: [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
    return [[*cut(line)[:2], *cut(line)[2].rsplit(maxsplit=1)] for line in lines[rules[0] + 1 : rules[1]]]


def test_a_table():
    model = Mlp([Linear(dim_in=6, dim_out=400), ReLU(), Linear(dim_in=400, dim_out=3, bias=False)])
    model.layers[0].b.requires_grad = False
    text = sadl.summary(model, X)
    assert (
        text
        == """\
path       type    output      parameters
-----------------------------------------
(model)    Mlp     f32[8,3]             0
layers[0]  Linear  f32[8,400]       2,800
layers[1]  ReLU    f32[8,400]           0
layers[2]  Linear  f32[8,3]         1,200
-----------------------------------------
4,000 parameters (16,000 bytes), of which 400 are frozen"""
    )


class Odd(Function):
    """Uses a layer twice, another never, shares a parameter, holds one itself, and gives a tuple."""

    def __init__(self):
        self.scale = Parameter(np.ones(5))
        self.parts = {"a": Linear(dim_in=6, dim_out=6, rng=0), "b": [Linear(dim_in=6, dim_out=6, rng=1)]}
        self.unused = Linear(dim_in=2, dim_out=2)
        self.parts["b"][0].W = self.parts["a"].W
        self.again = self.parts["a"]
        self.seen = Buffer(np.zeros(3))

    def __call__(self, x, n, flag=False):
        with sadl.no_grad():
            self.seen += 1
        self.modes = [f.is_training() for f in (self, self.again, self.unused)]
        self.grad = sadl.get_current_global_grad_mode()
        y = self.again(self.parts["a"](x) * random.bernoulli(0.5, x.shape))
        return {"y": y, "z": (self.parts["b"][0](y[:4]), n)}, flag


def test_shared_unused_and_nested():
    text = sadl.summary(Odd(), X, 2, flag=True)
    assert rows(text) == [
        ["(model)", "Odd", "({'y': f32[8,6], 'z': (f32[4,6], 2)}, True)", "5"],
        ["parts{a}", "Linear", "f32[8,6]", "42"],
        ["parts{b}[0]", "Linear", "f32[4,6]", "6"],
        ["unused", "Linear", "not called", "6"],
    ]
    assert text.endswith("59 parameters (256 bytes), of which 0 are frozen; 3 numbers in buffers")


def test_a_layer_with_several_shapes():
    class Twice(Function):
        def __init__(self):
            self.f = ReLU()

        def __call__(self, x):
            return np.sum(self.f(self.f(x[:2]))) + np.sum(self.f(x))

    assert rows(sadl.summary(Twice(), X))[1] == ["f", "ReLU", "f32[2,6], f32[8,6]", "0"]


def test_nothing_is_changed():
    model = Odd()
    model.unused.inference()
    model.again.W.is_training = False
    random.seed(0)
    model.scale.grad = np.ones(5)
    before, classes = model.get_state(), [type(f) for f in (model, model.again, model.unused)]
    for _ in range(2):
        sadl.summary(model, X, 1)
        assert model.modes == [False] * 3 and model.grad is False
        assert [f.is_training() for f in (model, model.again, model.unused)] == [True, True, False]
        assert model.scale.is_training and not model.again.W.is_training
        assert all(np.array_equal(v, before[k]) for k, v in model.get_state().items())
        assert [type(f) for f in (model, model.again, model.unused)] == classes
        assert random.get_state()["counter"] == 0 and model.scale.grad.tolist() == [1] * 5
        assert sadl.get_current_global_grad_mode()


def test_nothing_is_changed_by_an_error():
    model = Odd()
    before, random_before = model.get_state(), random.get_state()
    with pytest.raises(ValueError, match="Linear"):
        sadl.summary(model, X[:, :5], 1)
    assert type(model) is Odd and type(model.again) is Linear and model.is_training() and model.unused.is_training()
    assert all(np.array_equal(v, before[k]) for k, v in model.get_state().items())
    assert random.get_state()["counter"] == random_before["counter"]


def test_compiled_models_and_parts():
    model = Mlp([Linear(dim_in=6, dim_out=4), ReLU()])
    expected = sadl.summary(model, X)
    assert sadl.summary(sadl.compile(model), X) == expected
    model.layers[0] = sadl.compile(model.layers[0])
    assert rows(sadl.summary(model, X)) == [
        ["(model)", "Mlp", "f32[8,4]", "0"],
        ["layers[0]", "Linear", "f32[8,4]", "28"],
        ["layers[1]", "ReLU", "f32[8,4]", "0"],
    ]
    assert model.layers[0].stats.captures == 0


def test_programs_go_on():
    model = Mlp([Linear(dim_in=6, dim_out=4), ReLU()])
    run = sadl.compile(model)
    for _ in range(3):
        run(X)
    sadl.summary(run, X)
    run(X)
    assert run.stats.captures == 2


def test_refused():
    with pytest.raises(TypeError, match="a function is no Function"):
        sadl.summary(lambda x: x, X)
