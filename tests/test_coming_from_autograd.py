"""docs/coming-from-autograd.md runs as printed; and three programs, as users of HIPS/autograd write them, work.

Each program is plain NumPy code with loops: its gradients agree with central differences, training it reduces the loss
to a stated bound, and steps that are compiled give what eager ones give.
"""

import contextlib
import doctest
import io
import re
from pathlib import Path

import pytest

import sadl
import sadl.numpy as np
from sadl import check_grads, grad, value_and_grad

npr = np.random
PAGE = Path(__file__).parent.parent / "docs/coming-from-autograd.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


# ---- what the three have in common ---------------------------------------------------------------------------------


def descend(loss, params, steps, rate, momentum=0.9, run=None):
    """Gradient descent with momentum on a dict of arrays; gives the parameters and the losses."""
    run = run or value_and_grad(loss)
    speed = {name: np.zeros_like(p) for name, p in params.items()}
    losses = []
    for _ in range(steps):
        value, slope = run(params)
        speed = {name: momentum * v - rate * slope[name] for name, v in speed.items()}
        params = {name: p + speed[name] for name, p in params.items()}
        losses.append(float(value))
    return params, losses


def check_program(loss, params, steps, rate, compiled_steps=5):
    """Gradients against differences, compiled steps against eager ones, and the losses of a training run."""
    names = list(params)
    check_grads(lambda *ps: loss(dict(zip(names, ps, strict=True))), tuple(params.values()), order=1)
    run = sadl.compile(value_and_grad(loss))
    _, compiled = descend(loss, params, compiled_steps, rate, run=run)
    _, eager = descend(loss, params, compiled_steps, rate)
    assert run.stats.programs == 1 and compiled_steps > 3
    np.testing.assert_allclose(compiled, eager, rtol=1e-8)
    for name, slope in value_and_grad(loss)(params)[1].items():
        np.testing.assert_allclose(run(params)[1][name], slope, rtol=1e-7, atol=1e-10)
    return descend(loss, params, steps, rate, run=run)


# ---- a Gaussian process --------------------------------------------------------------------------------------------


def make_gaussian_process(x, y):
    """The negative log likelihood of a smooth function seen with noise, and what it predicts."""

    def covariance(params, a, b):
        scale, length = np.exp(params["log_scale"]), np.exp(params["log_length"])
        return scale**2 * np.exp(-0.5 * ((a[:, None] - b[None, :]) / length) ** 2)

    def noisy(params):
        return covariance(params, x, x) + (np.exp(params["log_noise"]) ** 2 + 1e-6) * np.eye(len(x))

    def loss(params):
        lower = np.linalg.cholesky(noisy(params))
        weights = np.linalg.solve(lower, y - params["mean"])
        return 0.5 * weights @ weights + np.sum(np.log(np.diag(lower))) + 0.5 * len(x) * np.log(2 * np.pi)

    def loss_by_determinant(params):
        k, rest = noisy(params), y - params["mean"]
        _, logdet = np.linalg.slogdet(k)
        return 0.5 * rest @ np.linalg.solve(k, rest) + 0.5 * logdet + 0.5 * len(x) * np.log(2 * np.pi)

    def predict(params, new):
        return params["mean"] + covariance(params, new, x) @ np.linalg.solve(noisy(params), y - params["mean"])

    return loss, loss_by_determinant, predict


def test_gaussian_process_regression():
    rng = npr.default_rng(1)
    truth = lambda x: np.sin(2 * x) + 0.5
    x = np.sort(rng.uniform(-3, 3, 25))
    loss, by_determinant, predict = make_gaussian_process(x, truth(x) + 0.1 * rng.standard_normal(25))
    start = {name: np.array(0.0) for name in ("log_scale", "log_length", "log_noise", "mean")}

    a, b = value_and_grad(loss)(start), value_and_grad(by_determinant)(start)
    assert np.isclose(a[0], b[0])
    for name in start:
        assert np.isclose(a[1][name], b[1][name])
    check_grads(lambda *ps: by_determinant(dict(zip(start, ps, strict=True))), tuple(start.values()), order=2)

    params, losses = check_program(loss, start, steps=80, rate=0.005)
    assert losses[0] > 25 and losses[-1] < 1
    assert 0.05 < np.exp(params["log_noise"]) < 0.2  # it was 0.1
    new = np.linspace(-2.5, 2.5, 40)
    assert np.sqrt(np.mean((predict(params, new) - truth(new)) ** 2)) < 0.15


# ---- an ordinary differential equation -----------------------------------------------------------------------------


def simulate(field, state, times):
    """The path of a state under dstate/dt = field(state), by the classical Runge-Kutta method."""
    path = [state]
    for now, then in zip(times[:-1], times[1:], strict=True):
        h = then - now
        k1 = field(state)
        k2 = field(state + 0.5 * h * k1)
        k3 = field(state + 0.5 * h * k2)
        k4 = field(state + h * k3)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        path.append(state)
    return np.array(path)


def predators_and_prey(params):
    birth, eaten, death, fed = (np.exp(params[name]) for name in ("birth", "eaten", "death", "fed"))

    def field(state):
        prey, predators = state
        return np.array([prey * (birth - eaten * predators), predators * (fed * prey - death)])

    return field


def test_fitting_an_ordinary_differential_equation():
    times = np.linspace(0.0, 3.0, 16)
    true = {"birth": np.log(1.1), "eaten": np.log(0.6), "death": np.log(0.8), "fed": np.log(0.4)}
    seen = np.asarray(simulate(predators_and_prey(true), np.array([2.0, 1.0]), times))

    def loss(params):
        path = simulate(predators_and_prey(params), params["start"], times)
        return np.mean((path - seen) ** 2)

    guess = {name: np.array(0.0) for name in true} | {"start": np.array([1.5, 1.5])}
    params, losses = check_program(loss, guess, steps=1500, rate=0.02)
    assert losses[0] > 3 and losses[-1] < 1e-5
    for name, value in true.items():
        assert abs(params[name] - value) < 0.05, name


# ---- a recurrent network -------------------------------------------------------------------------------------------

TEXT = "the cat sat on the mat "
LETTERS = sorted(set(TEXT))


def sigmoid(x):
    return 0.5 * (np.tanh(0.5 * x) + 1.0)


def one_hot(text):
    return np.eye(len(LETTERS))[[LETTERS.index(c) for c in text]]


def lstm_start(n, hidden, rng):
    params = {}
    for gate in ("forget", "write", "read", "new"):
        params[gate] = rng.standard_normal((n + hidden + 1, hidden)) * 0.3
    return params | {"out": rng.standard_normal((hidden + 1, n)) * 0.3}


def lstm_scores(params, inputs):
    """For each letter, the scores of the letters that may follow, given all before it."""
    hidden = params["out"].shape[0] - 1
    state, memory, scores = np.zeros(hidden), np.zeros(hidden), []
    for x in inputs:
        seen = np.concatenate([x, state, np.ones(1)])
        forget, write, read = (sigmoid(seen @ params[gate]) for gate in ("forget", "write", "read"))
        memory = forget * memory + write * np.tanh(seen @ params["new"])
        state = read * np.tanh(memory)
        scores.append(np.concatenate([state, np.ones(1)]) @ params["out"])
    return np.array(scores)


def test_recurrent_network():
    inputs, targets = one_hot(TEXT[:-1]), one_hot(TEXT[1:])

    def loss(params):
        scores = lstm_scores(params, inputs)
        highest = np.max(scores, axis=1, keepdims=True)
        log_total = highest[:, 0] + np.log(np.sum(np.exp(scores - highest), axis=1))
        return np.mean(log_total - np.sum(scores * targets, axis=1))

    params, losses = check_program(loss, lstm_start(len(LETTERS), 12, npr.default_rng(0)), steps=150, rate=0.2)
    assert losses[0] > 2 and losses[-1] < 0.1
    guesses = np.argmax(lstm_scores(params, inputs), axis=1)
    assert "".join(LETTERS[int(i)] for i in guesses) == TEXT[1:]


# ---- the page ------------------------------------------------------------------------------------------------------


def test_the_page_runs_as_printed():
    space, printed = {}, ""
    agree = doctest.OutputChecker().check_output
    text = PAGE.read_text()
    for m in BLOCK.finditer(text):
        line = text.count("\n", 0, m.start()) + 1
        if m[1] == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile("\n" * line + m[2], PAGE.name, "exec"), space)
            printed = out.getvalue()
        elif m[1] == "text":
            same = agree(m[2], printed, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
            assert same, f"{PAGE.name}, line {line}, shows something else than what is printed now:\n{printed}"
    assert space["step"].stats.programs == 1


def test_names_on_the_page_exist():
    text = PAGE.read_text()
    for name in set(re.findall(r"`@?sadl\.([a-zA-Z_.]+)", text)):
        here = sadl if not name.startswith("numpy") else np
        for part in name.removeprefix("numpy").strip(".").split("."):
            here = getattr(here, part) if part else here
    assert {"custom_vjp", "jvp", "hvp", "checkpoint"} <= set(re.findall(r"sadl\.([a-z_]+)", text))


def test_ties_and_complex_numbers_are_as_the_page_says():
    assert grad(np.max)(np.array([1.0, 3.0, 3.0])).tolist() == [0, 0.5, 0.5]
    assert grad(lambda x: np.sum(np.maximum(x, 3.0)))(np.array([1.0, 3.0, 4.0])).tolist() == [0, 0.5, 1]
    assert grad(lambda z: np.real(z) ** 2 + 3 * np.imag(z))(np.array(1 + 2j)) == 2 - 3j
    assert grad(lambda x: np.sum(np.float32(2) * x))(np.ones(2, np.float32)).dtype == np.float32
    with pytest.raises(sadl.GradientError):
        grad(lambda n: n * 1.0)(3)
