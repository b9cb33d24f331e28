"""Tests of `sadl.function` and `sadl.nn`: paths, ties, modes, loading, the epoch, and what the layers compute.

Takes small Functions made for each case. Losses and activations are tested in test_functional.py.
"""

import copy
import functools
import pickle
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest

import sadl
from sadl import Buffer, Function, Linear, LogSoftmax, Mlp, Parameter, ReLU, Sigmoid, Softmax, Tensor
from sadl.compiler.capture import Capture
from sadl.function import StateKeyError, structure_epoch
from sadl.tape import MODE, Mode


class Holder(Function):
    """Holds whatever it is given."""

    def __init__(self, **parts):
        for name, part in parts.items():
            setattr(self, name, part)

    def __call__(self, x):
        return x


def param(*shape, dtype=np.float64):
    return Parameter(np.arange(np.prod(shape, dtype=int), dtype=dtype).reshape(shape))


def mlp(dtype=np.float32):
    return Mlp([Linear(dim_in=3, dim_out=4, dtype=dtype), ReLU(), Linear(dim_in=4, dim_out=2, dtype=dtype)])


def values(function):
    return {path: p.copy() for path, p in function.get_state().items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


# ---- traversal -------------------------------------------------------------------------------------------------


def test_function_is_abstract():
    with pytest.raises(TypeError):
        Function()


def test_paths_in_the_order_of_the_attributes():
    f = Holder(
        z=param(1), layers=[Linear(dim_in=1, dim_out=1)], payload={"key": Linear(dim_in=1, dim_out=1, bias=False)}
    )
    f.a = Holder(b=param(2))
    f.t = (1, {"q": param(3)})
    f.nested = [[param(1)], {"k": [param(1)]}]
    paths = ["z", "layers[0].W", "layers[0].b", "payload{key}.W", "a.b", "t[1]{q}", "nested[0][0]", "nested[1]{k}[0]"]
    assert list(f.get_parameters()) == paths
    assert isinstance(f.get_parameters(), OrderedDict)
    assert [id(p) for p in f.parameters] == [id(p) for p in f.get_parameters().values()]


def test_parameters_are_the_objects_themselves():
    f = mlp()
    assert f.get_parameters()["layers[0].W"] is f.layers[0].W
    assert f.get_parameters("cpu")["layers[0].W"] is f.layers[0].W
    with pytest.raises(ValueError, match="GPU 0"):
        f.get_parameters(0)


@pytest.mark.parametrize(
    "part", [param(1), Linear(dim_in=1, dim_out=1), Buffer(1.0)], ids=["Parameter", "Linear", "Buffer"]
)
def test_a_part_directly_in_a_tuple_or_set_is_an_error(part):
    with pytest.raises(TypeError, match=r"directly in a tuple \(x\[0\]\).*Use a list instead\."):
        Holder(x=(part,)).get_parameters()
    with pytest.raises(TypeError, match="no stable ordering"):
        Holder(x={part}).get_parameters()
    with pytest.raises(TypeError, match="no stable ordering"):
        Holder(x=[frozenset([part])]).train()


def test_tied_parameters_are_visited_once_under_the_first_path():
    shared = param(2)
    f = Holder(a=Holder(W=shared), b=[shared], c=shared)
    assert list(f.get_parameters()) == ["a.W"]
    assert list(f.get_state()) == ["a.W"]


def test_a_replaced_tied_parameter_is_replaced_everywhere():
    shared, new = param(2), param(2)
    f = Holder(a=Holder(W=shared), b=[shared], c={"k": shared}, d=shared)
    f.traverse_parameters(lambda path, p: new)
    assert f.a.W is f.b[0] is f.c["k"] is f.d is new


def test_traverse_parameters_calls_and_replaces():
    f = mlp()
    seen = []
    f.traverse_parameters(lambda path, p: seen.append((path, p)))
    assert seen == list(f.get_parameters().items())
    old = f.layers[2].b
    f.traverse_parameters(lambda path, p: Parameter(p * 0 + 7) if path.endswith("b") else None)
    assert f.layers[2].b is not old and np.all(f.layers[2].b == 7)
    with pytest.raises(TypeError, match=r"returned a float for layers\[0\]\.W"):
        f.traverse_parameters(lambda path, p: 1.0)


def test_cycles_end():
    child = Holder(w=param(1))
    parent = Holder(child=child)
    child.parent = parent
    child.ring = [child]
    child.ring.append(child.ring)
    assert list(parent.get_parameters()) == ["child.w"]
    assert list(child.get_parameters()) == ["w"]
    assert not parent.inference().is_training() and not child.is_training()


def test_a_function_in_two_places_counts_once():
    layer = Linear(dim_in=2, dim_out=2)
    assert list(Mlp([layer, layer]).get_parameters()) == ["layers[0].W", "layers[0].b"]


def test_a_wrapped_function_is_seen_through():
    class Wrapper:
        def __init__(self, fn):
            functools.update_wrapper(self, fn, updated=())

        def __call__(self, x):
            return self.__wrapped__(x)

    layer = Linear(dim_in=2, dim_out=2)
    f = Mlp([Wrapper(layer), ReLU()])
    assert list(f.get_parameters()) == ["layers[0].W", "layers[0].b"] and f.layers[0].__wrapped__ is layer
    assert not f.inference().layers[0].__wrapped__.is_training()


def test_two_parameters_with_the_same_path_are_an_error():
    f = Holder(d={1: param(1), "1": param(1)})
    with pytest.raises(ValueError, match=r"same path: d\{1\}"):
        f.get_parameters()


# ---- buffers ---------------------------------------------------------------------------------------------------


def test_buffers_are_state_but_not_parameters():
    array = np.zeros(3)
    f = Holder(w=param(2), stats={"mean": Buffer(array)}, scale=Buffer(1, dtype=np.float32))
    assert list(f.get_parameters()) == ["w"]
    assert list(f.get_buffers()) == ["stats{mean}", "scale"]
    assert list(f.get_state()) == ["w", "stats{mean}", "scale"]
    mean = f.stats["mean"]
    assert isinstance(mean, Tensor) and isinstance(mean, np.ndarray) and isinstance(mean, Buffer)
    assert not isinstance(mean, Parameter) and not mean.requires_grad
    assert f.scale.shape == () and f.scale.dtype == np.float32
    with sadl.no_grad():
        mean[...] = 5
    assert array[0] == 5  # the memory is shared


def test_what_is_computed_from_a_buffer_is_a_plain_tensor():
    b = Buffer(np.ones(3))
    for result in (b + 1, b[:2], b.copy(), np.sum(b)):
        assert isinstance(result, Tensor) and not isinstance(result, Buffer)


@pytest.mark.parametrize("again", [copy.deepcopy, copy.copy, lambda b: pickle.loads(pickle.dumps(b))])
def test_a_copied_buffer_is_a_buffer(again):
    b = again(Buffer([1.0, 2.0]))
    assert isinstance(b, Buffer) and np.array_equal(b, [1, 2])


# ---- modes -----------------------------------------------------------------------------------------------------


def test_modes_without_parameters():
    f = ReLU()
    assert f.is_training() is True
    assert f.inference() is f and f.is_training() is False
    assert f.train() is f and f.is_training() is True


def test_modes_reach_all_parts_and_parameters_keep_step():
    f = Mlp([Linear(dim_in=1, dim_out=1), ReLU()])
    f.inference()
    assert not any(part.is_training() for part in (f, *f.layers))
    assert not any(p.is_training for p in f.parameters)
    f.layers[1].train()
    assert f.layers[1].is_training() and not f.is_training()
    f.train()
    assert all(p.is_training for p in f.parameters)


def test_is_training_tells_a_capture():
    recorder, f = Capture(), ReLU()
    before = MODE.get()
    MODE.set(Mode(True, recorder))
    try:
        assert f.is_training()
    finally:
        MODE.set(before)
    ((check, value),) = recorder.guards
    assert value is True and check() is True
    f.inference()
    assert check() is False and len(recorder.guards) == 1


def test_requires_grad_of_all():
    f = mlp()
    assert f.requires_grad
    f.layers[0].W.requires_grad = False
    assert not f.requires_grad
    f.requires_grad = False
    assert not any(p.requires_grad for p in f.parameters)
    f.requires_grad = True
    assert f.requires_grad


def test_device():
    f = mlp()
    w = f.layers[0].W
    assert f.device == ("cpu",) and ReLU().device is None
    assert f.copy_to_device("cpu") is f and f.layers[0].W is w
    with pytest.raises(ValueError, match="GPU 0"):
        f.copy_to_device(0)
    with pytest.raises(ValueError, match='Only "cpu"'):
        f.copy_to_device("gpu")


# ---- the epoch -------------------------------------------------------------------------------------------------


def changes(action):
    before = structure_epoch()
    action()
    return structure_epoch() != before


@pytest.mark.parametrize(
    "change",
    [
        lambda f: setattr(f, "w", param(2)),
        lambda f: setattr(f, "w", None),
        lambda f: setattr(f, "new", ReLU()),
        lambda f: setattr(f, "new", [{"k": param(1)}]),
        lambda f: setattr(f, "new", Buffer(0.0)),
        lambda f: setattr(f, "count", 3),
        lambda f: setattr(f, "mask", np.ones(2)),
        lambda f: setattr(f, "mask", sadl.ones(2)),
        lambda f: delattr(f, "w"),
        lambda f: f.traverse_parameters(lambda path, p: param(2)),
        lambda f: f.parts[0].traverse_parameters(lambda path, p: param(2)),
    ],
)
def test_epoch_changes_with_the_structure(change):
    f = Holder(w=param(2), parts=[Holder(x=param(1))])
    assert changes(lambda: change(f))


@pytest.mark.parametrize(
    "use",
    [
        lambda f: setattr(f, "w", f.w),
        lambda f: setattr(f, "hidden", (sadl.zeros(2), [np.ones(2)])),
        lambda f: setattr(f.w, "requires_grad", False),
        lambda f: f.inference(),
        lambda f: f.load_state(f.get_state()),
        lambda f: f.get_parameters(),
        lambda f: mlp(),
    ],
)
def test_epoch_stays_while_only_values_change(use):
    f = Holder(w=param(2))
    assert not changes(lambda: use(f))


def test_in_place_update_of_an_attribute_is_no_new_structure():
    f = Holder(w=param(2), mean=Buffer(1.0))

    def update():
        f.mean *= 0.9
        with sadl.no_grad():
            f.w -= 1

    assert not changes(update)


# ---- loading ---------------------------------------------------------------------------------------------------


def test_state_round_trip_copies():
    f, g = mlp(), mlp()
    state = f.get_state()
    assert all(type(t) is type(sadl.tensor(0.0)) and not t.requires_grad for t in state.values())
    objects = list(g.parameters)
    assert g.load_state(state) is g
    assert same(values(f), values(g)) and all(a is b for a, b in zip(objects, g.parameters, strict=True))
    state["layers[0].W"][...] = 99
    assert not np.any(f.layers[0].W == 99) and not np.any(g.layers[0].W == 99)


def test_load_parameters_keeps_objects_and_memory():
    f, g = mlp(), mlp()
    memory = g.layers[0].W._plain()
    assert g.load_parameters(parameters=f.get_parameters()) is g
    assert same(values(f), values(g)) and np.shares_memory(memory, g.layers[0].W)
    assert not np.shares_memory(f.layers[0].W, g.layers[0].W)
    assert all(p.requires_grad and p.is_leaf() for p in g.parameters)


def test_load_accepts_plain_arrays_and_lists():
    f = Holder(w=param(2), b=Buffer([0, 0]))
    f.load_state({"w": np.array([5.0, 6.0]), "b": [3, 4]})
    assert np.array_equal(f.w, [5, 6]) and np.array_equal(f.b, [3, 4])


def test_missing_and_unexpected_keys():
    f = mlp()
    parameters = f.get_parameters()
    moved = parameters.pop("layers[0].W")
    parameters["layers[9].W"] = moved
    before = values(f)
    with pytest.raises(
        KeyError, match=r'Parameter data not found for "layers\[0\]\.W".*Unexpected.*"layers\[9\]\.W"'
    ) as e:
        f.load_parameters(parameters=parameters)
    assert isinstance(e.value, ValueError) and isinstance(e.value, StateKeyError)
    assert "\\" not in str(e.value)  # as written, not the repr that KeyError shows
    with pytest.raises(KeyError, match="Unexpected"):
        f.load_parameters(parameters=parameters, partial=True)
    assert same(before, values(f))


def test_partial_loading():
    f = mlp()
    before = values(f)
    f.load_parameters(parameters={"layers[2].b": np.array([1, 2], np.float32)}, partial=True)
    assert np.array_equal(f.layers[2].b, [1, 2])
    assert np.array_equal(f.layers[0].W, before["layers[0].W"])


def test_every_problem_is_in_one_message_and_nothing_changes():
    f = Holder(ok=param(2), shape=param(2), kind=param(2), missing=param(1))
    before = values(f)
    bad = {"ok": np.ones(2), "shape": np.ones(3), "kind": np.ones(2, np.int64), "surplus": np.ones(1)}
    with pytest.raises(KeyError) as error:
        f.load_parameters(parameters=bad)
    for text in (
        'Parameter data not found for "missing"',
        'Unexpected parameter data for "surplus"',
        'Shape mismatch for parameter "shape": expected (2,), found (3,)',
        'Dtype mismatch for parameter "kind": expected float64, found int64',
    ):
        assert text in str(error.value)
    assert same(before, values(f))


def test_shape_mismatch_names_expected_and_found():
    f = Holder(w=param(2, 3))
    with pytest.raises(
        ValueError, match=r'Shape mismatch for parameter "w": expected \(2, 3\), found \(3, 2\)'
    ) as error:
        f.load_parameters(parameters={"w": np.ones((3, 2))})
    assert not isinstance(error.value, KeyError)


def test_a_read_only_parameter_is_found_before_anything_is_written():
    fixed = np.zeros(2)
    fixed.flags.writeable = False
    f = Holder(a=param(2), b=Parameter(fixed))
    before = values(f)
    with pytest.raises(ValueError, match='"b" is read-only'):
        f.load_parameters(parameters={"a": np.ones(2), "b": np.ones(2)})
    assert same(before, values(f))


@pytest.mark.parametrize(
    "target, source", [(np.float32, np.float64), (np.float64, np.float32), (np.float32, np.float16)]
)
def test_floats_of_another_width_are_converted(target, source):
    f = Holder(w=param(3, dtype=target))
    f.load_parameters(parameters={"w": np.array([0.5, 1.5, 2.5], source)})
    assert f.w.dtype == target and np.array_equal(f.w, [0.5, 1.5, 2.5])


@pytest.mark.parametrize("source", [np.int64, np.complex64, bool, object])
def test_other_kinds_are_refused(source):
    f = Holder(w=param(2))
    with pytest.raises(ValueError, match="Dtype mismatch"):
        f.load_parameters(parameters={"w": np.ones(2, source)})


def test_an_overflow_while_converting_changes_nothing():
    f = Holder(a=param(1, dtype=np.float32), b=param(1, dtype=np.float32))
    with pytest.raises(RuntimeWarning):
        f.load_parameters(parameters={"a": np.ones(1), "b": np.array([1e300])})
    assert np.array_equal(f.a, [0])


def test_loading_from_itself_swapped():
    f = Holder(a=Parameter([1.0, 2.0]), b=Parameter([3.0, 4.0]))
    f.load_parameters(parameters={"a": f.b, "b": f.a})
    assert np.array_equal(f.a, [3, 4]) and np.array_equal(f.b, [1, 2])


def test_load_needs_a_mapping():
    with pytest.raises(TypeError, match="list was given"):
        mlp().load_parameters(parameters=[1])


def test_loading_makes_a_saved_forward_stale():
    f = Holder(w=param(2))
    loss = np.sum(f.w * f.w)
    f.load_parameters(parameters={"w": np.ones(2)})
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


def test_save_and_load(tmp_path):
    f, g = mlp(), mlp()
    sadl.save(f.get_state(), tmp_path / "model.sadl")
    g.load_state(sadl.load(tmp_path / "model.sadl"))
    assert same(values(f), values(g))
    sadl.save(f.get_parameters(), tmp_path / "parameters.sadl")
    g.load_parameters(parameters=sadl.load(tmp_path / "parameters.sadl"))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f))])
def test_copies_of_a_function_are_independent(again):
    f = Mlp([Linear(dim_in=2, dim_out=2), ReLU()]).inference()
    f.layers.append(f.layers[0])
    g = again(f)
    assert same(values(f), values(g)) and g.layers[2] is g.layers[0] and not g.is_training()
    assert all(isinstance(p, Parameter) and p.requires_grad for p in g.parameters)
    assert not np.shares_memory(f.layers[0].b, g.layers[0].b)


# ---- layers ----------------------------------------------------------------------------------------------------


def test_linear_attributes():
    layer = Linear(dim_in=3, dim_out=5)
    assert (layer.dim_in, layer.dim_out, Linear.INPUT_N_DIM) == (3, 5, 2)
    assert layer.W.shape == (3, 5) and layer.b.shape == (5,) and np.all(layer.b == 0)
    assert layer.W.dtype == layer.b.dtype == np.float32
    assert Linear(dim_in=3, dim_out=5, bias=False).b is None


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_linear_keeps_its_dtype(dtype):
    layer = Linear(dim_in=2, dim_out=3, dtype=dtype)
    y = layer(np.ones((4, 2), dtype))
    assert layer.W.dtype == y.dtype == dtype
    y.sum().backward()
    assert layer.W.grad.dtype == layer.b.grad.dtype == dtype


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 4, 3), (0, 3)])
def test_linear_on_any_rank(shape):
    layer = Linear(dim_in=3, dim_out=5, dtype=np.float64, rng=0)
    x = np.random.default_rng(0).standard_normal(shape)
    y = layer(x)
    assert np.allclose(y, x @ layer.W._plain() + layer.b._plain()) and y.shape == (*shape[:-1], 5)
    sadl.check_grads(sadl.functional.linear, (x, layer.W._plain(), layer.b._plain()))


@pytest.mark.parametrize("shape", [(), (4,), (3, 2)])
def test_linear_names_itself_and_the_shapes(shape):
    with pytest.raises(ValueError, match=r"\[Linear\] Linear\(dim_in=3, dim_out=5\) was given an input of shape \("):
        Linear(dim_in=3, dim_out=5)(np.ones(shape))


def test_linear_refuses_bad_sizes_and_dtypes():
    with pytest.raises(ValueError, match="dim_in=0"):
        Linear(dim_in=0, dim_out=2)
    with pytest.raises(ValueError, match="float"):
        Linear(dim_in=1, dim_out=2, dtype=np.int64)


def test_first_weights_are_glorot_uniform_and_reproducible():
    sadl.random.seed(3)
    a, b = Linear(dim_in=100, dim_out=100), Linear(dim_in=100, dim_out=100)
    sadl.random.seed(3)
    again = Linear(dim_in=100, dim_out=100)
    assert np.array_equal(a.W, again.W) and not np.array_equal(a.W, b.W)
    bound = np.sqrt(6 / 200)
    w = a.W._plain()
    assert abs(w).max() <= bound * (1 + 1e-6) and w.min() < -0.9 * bound and abs(w.mean()) < 0.005
    assert abs(w.var() - bound**2 / 3) < 3e-4


def test_first_weights_by_a_seed_or_generator_of_their_own():
    a, b = Linear(dim_in=2, dim_out=2, rng=7), Linear(dim_in=2, dim_out=2, rng=np.random.default_rng(7))
    double = Linear(dim_in=2, dim_out=2, rng=7, dtype=np.float64)
    assert np.array_equal(a.W, b.W) and np.array_equal(a.W, double.W.astype(np.float32))


@pytest.mark.parametrize("bad", [-1, 1.5, "x"])
def test_seed_refuses(bad):
    with pytest.raises((ValueError, TypeError)):
        sadl.random.seed(bad)


def test_activation_layers():
    x = np.array([[-1.0, 0.0, 2.0]])
    for layer, fn in (
        (ReLU(), sadl.functional.relu),
        (Sigmoid(), sadl.functional.sigmoid),
        (Softmax(), sadl.functional.softmax),
        (LogSoftmax(), sadl.functional.log_softmax),
    ):
        assert np.array_equal(layer(x), fn(x)) and not layer.get_parameters()
    assert np.array_equal(Softmax(axis=0)(x), np.ones((1, 3)))
    assert np.array_equal(LogSoftmax(axis=0)(x), np.zeros((1, 3)))


def test_mlp_applies_its_layers_in_order():
    f = Mlp(layers=[Linear(dim_in=2, dim_out=3, rng=0), ReLU()])
    x = np.ones((4, 2), np.float32)
    assert np.array_equal(f(x), f.layers[1](f.layers[0](x)))


# ---- the package -----------------------------------------------------------------------------------------------


def test_importing_sadl_imports_neither_compiler_nor_gpu_library():
    heavy = "'numba', 'llvmlite', 'cupy', 'sadl.compiler.api', 'scipy'"
    code = f"import sadl, sys; found = {{{heavy}}} & set(sys.modules); sys.exit(str(found) if found else 0)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_public_names():
    assert all(getattr(sadl, name) is not None for name in sadl.__all__)
    assert set(sadl.__all__) <= set(dir(sadl))
    assert sadl.BACKEND in ("numpy", "cupy") and sadl.xp.__name__ == sadl.BACKEND
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = sadl.nonsense
