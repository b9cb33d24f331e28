"""That nothing public is left out: every function, layer, optimizer and schedule has cases beside torch, which vary
every hyper-parameter; and the stored reference values are those of these cases.

Takes the cases of `nn_cases`, `window_cases` and `make_reference`; what must be equal in each is left to the tests that
run them. What has no counterpart in torch is listed here, with the test that has another reference.
"""

import inspect
import re
from pathlib import Path

import make_reference
import nn_cases
import numpy as np
import pytest
import window_cases

import sadl
from sadl import functional, nn, optimizer, schedules

TESTS = Path(__file__).parent

# What torch has no counterpart of, or gives no gradient of: the test that compares it with something else. A layer's
# `dtype` is both in every case, `rng` and `init` are in test_init.
ELSEWHERE = {
    "functional.one_hot": "test_functional.test_one_hot",
    "functional.sinusoidal_positions": "test_functional.test_sinusoidal_positions",
    "functional.dropout": "test_functional.test_dropout_keeps_the_expected_value",
    "functional.scaled_dot_product_attention.dropout": "test_nn.test_dropout_of_attention_is_that_of_its_weights",
    "functional.batch_norm.momentum": "test_functional.test_batch_norm_follows_with_the_unbiased_variance",
    "nn.Dropout": "test_nn.test_inference_keeps_statistics_and_drops_nothing",
    "nn.Mlp": "test_nn.test_sequential",
    "nn.Sequential": "test_nn.test_sequential",
    "nn.SinusoidalPositions": "test_nn.test_positions",
    "nn.BatchNorm": "test_nn.test_batch_norm_of_any_rank",
    "nn.MultiHeadAttention.dropout": "test_nn.test_dropout_of_attention_only_in_training",
    "nn.TransformerBlock.dropout": "test_nn.test_twenty_compiled_steps_are_twenty_eager_steps",
    "nn.TransformerBlock.activation": "test_nn.test_activation_of_a_block",
    "nn.RNN.dropout": "test_recurrent.test_dropout_between_layers",
    "nn.LSTM.dropout": "test_recurrent.test_dropout_between_layers",
    "nn.GRU.dropout": "test_recurrent.test_dropout_between_layers",
}
DRAWN = {"dtype", "rng", "init"}


def public(module):
    names = {name: getattr(module, name) for name in module.__all__}
    return {name: x for name, x in names.items() if callable(x)}


def subclasses(module, base):
    found = {name: x for name, x in vars(module).items() if inspect.isclass(x) and issubclass(x, base)}
    return {name: x for name, x in found.items() if not name.startswith("_") and not inspect.isabstract(x)}


PUBLIC = {
    "functional": public(functional),
    "nn": public(nn),
    "optimizer": subclasses(optimizer, sadl.Optimizer),
    "schedules": subclasses(schedules, schedules.Schedule),
}


# ---- what the cases vary -------------------------------------------------------------------------------------------


def called_functions():
    for case in (*nn_cases.cases().values(), *window_cases.cases().values()):
        known = inspect.signature(PUBLIC["functional"][case.function]).parameters
        given = case.arrays | case.settings
        given |= {"state": (given["h"], given["c"])} if "c" in given else {}
        yield f"functional.{case.function}", {k: v for k, v in given.items() if k in known}


def called_layers():
    for case in nn_cases.layer_cases().values():
        known = inspect.signature(PUBLIC["nn"][case.layer]).bind(*case.args, **case.settings)
        yield f"nn.{case.layer}", known.arguments
        call = inspect.signature(PUBLIC["nn"][case.layer].__call__)
        yield f"nn.{case.layer}()", call.bind(None, case.x, **case.call).arguments
    for case in window_cases.layer_cases().values():
        yield f"nn.{case.kind}", case.settings
        state = {"state" if case.kind == "LSTM" else "h": case.arrays["h"]} if "h" in case.arrays else {}
        yield f"nn.{case.kind}()", {"x": case.arrays["x"], "lengths": case.lengths, **state}


def called_optimizers():
    for name, *options in make_reference.OPTIMIZERS:
        for given in ({"lr": make_reference.OPTIMIZER_LR, **o} for o in options):
            yield f"optimizer.{name}", {"params": "those of the problem", **given}


class Recorder:
    """Stands for a module of schedules: notes what is made, and with which arguments."""

    def __init__(self):
        self.made = []

    def __getattr__(self, name):
        def make(*args, **kwargs):
            arguments = inspect.signature(PUBLIC["schedules"][name]).bind(*args, **kwargs).arguments
            self.made.append((f"schedules.{name}", arguments))
            return name

        return make


def called_schedules():
    recorder = Recorder()
    for make in make_reference.SCHEDULES.values():
        make(recorder, "the optimizer")
    return recorder.made


def values_seen():
    """What each parameter of each public name was given, as text; an omitted one as its default."""
    seen = {}
    for name, arguments in (*called_functions(), *called_layers(), *called_optimizers(), *called_schedules()):
        of_name = seen.setdefault(name, {})
        for parameter, default in parameters_of(name).items():
            of_name.setdefault(parameter, set()).add(text_of(arguments.get(parameter, default)))
    return seen


def text_of(value):
    """An array as such, since its elements are no setting."""
    whole = (value,) if not isinstance(value, tuple) else value
    return "an array" if any(isinstance(v, np.ndarray) for v in whole) else repr(value)


def parameters_of(name):
    """The parameters of a public name, or of the calls of a layer, with their defaults."""
    kind, public_name = name.removesuffix("()").split(".")
    target, called = PUBLIC[kind][public_name], name.endswith("()")
    parameters = list(inspect.signature(target.__call__ if called else target).parameters.values())[called:]
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {p.name: p.default for p in parameters if p.kind not in kinds}


SEEN = values_seen()
NAMES = [f"{kind}.{name}" for kind, names in PUBLIC.items() for name in names]
NAMES += [name for name in SEEN if name.endswith("()")]


def is_constant(name, parameter):
    """Whether all cases give a hyper-parameter the same value. Inputs and weights are other arrays each time."""
    values = SEEN[name][parameter]
    return len(values) == 1 and values != {"an array"} and parameter not in DRAWN


NEVER_VARIED = {"params", "optimizer", "x"}  # what an optimizer or schedule is for; the input of a layer


def problem(name, elsewhere):
    """What the cases lack of a public name, but for what is listed; "" if nothing."""
    if name not in SEEN and name not in elsewhere:
        return f"{name} has no case beside torch: add one to nn_cases, window_cases or make_reference"
    constant = [p for p in SEEN.get(name, ()) if is_constant(name, p) and p not in NEVER_VARIED]
    missing = [p for p in constant if f"{name}.{p}" not in elsewhere]
    return f"no case of {name} varies {', '.join(missing)}" if missing else ""


@pytest.mark.parametrize("name", NAMES)
def test_every_hyper_parameter_is_varied(name):
    assert not problem(name, ELSEWHERE)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_tested_elsewhere_is(name):
    module, test = ELSEWHERE[name].split(".")
    assert re.search(rf"^def {test}\(", (TESTS / f"{module}.py").read_text(), re.MULTILINE)
    kind, public_name, *parameter = name.split(".")
    assert public_name in PUBLIC[kind]
    if parameter:
        assert is_constant(f"{kind}.{public_name}", *parameter), f"{name} is varied: it need not be listed"
    else:
        assert name not in SEEN, f"{name} has a case: it need not be listed"


def test_the_inventory_sees_what_is_missing():
    assert "nn.Dropout has no case" in problem("nn.Dropout", {})
    assert problem("functional.batch_norm", {}) == "no case of functional.batch_norm varies momentum"
    assert problem("nn.LSTM", {}) == "no case of nn.LSTM varies dropout"
    assert set(PUBLIC["optimizer"]) == {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Lion"}
    assert len(PUBLIC["schedules"]) == 8 and len(NAMES) > 120


# ---- stored values -------------------------------------------------------------------------------------------------

CASES = {
    "functions": nn_cases.cases(),
    "layers": nn_cases.layer_cases(),
    "windows": window_cases.cases(),
    "recurrent": window_cases.layer_cases(),
    "optimizers": map(make_reference.optimizer_name, make_reference.OPTIMIZERS),
    "schedules": make_reference.SCHEDULES,
}


@pytest.mark.parametrize("family", CASES)
def test_there_are_stored_values_of_every_case_and_of_nothing_else(family):
    stored = {key if family == "schedules" else key.split("/")[0] for key in make_reference.stored(family)}
    assert stored == set(CASES[family])


@pytest.mark.parametrize("family", make_reference.FAMILIES)
def test_stored_values_are_those_of_torch(family):
    pytest.importorskip("torch", reason="torch is not installed")
    stored, found = make_reference.stored(family), make_reference.FAMILIES[family]()
    assert stored.keys() == found.keys()
    for key, value in found.items():
        np.testing.assert_allclose(stored[key], value, rtol=1e-10, atol=1e-12, err_msg=key)
