"""First values of parameters: their distribution, their scale, their seed, and what cannot be drawn.

Takes large shapes, so that moments are close to what they are meant to be. Which layer starts from what is in test_nn.
"""

import numpy as np
import pytest

import sadl
from sadl import nn
from sadl.nn import init

SHAPE, KERNEL = (400, 300), (64, 32, 5, 3)
FANS = {SHAPE: (400, 300), KERNEL: (32 * 15, 64 * 15)}
STANDARD = {  # the standard deviation, by the fans
    "xavier_uniform": lambda i, o: np.sqrt(2 / (i + o)),
    "xavier_normal": lambda i, o: np.sqrt(2 / (i + o)),
    "kaiming_uniform": lambda i, o: np.sqrt(2 / i),
    "kaiming_normal": lambda i, o: np.sqrt(2 / i),
    "uniform": lambda i, o: np.sqrt(1 / 3),
    "normal": lambda i, o: 1.0,
    "truncated_normal": lambda i, o: 0.87963,  # of a normal distribution cut at 2: 1 - 4 phi(2) / (2 Phi(2) - 1)
    "zeros": lambda i, o: 0.0,
}


@pytest.mark.parametrize("shape", [SHAPE, KERNEL])
@pytest.mark.parametrize("name", STANDARD)
def test_scale(name, shape):
    x = init.INITIALIZERS[name](shape, np.float64, 0)
    expected = STANDARD[name](*FANS[shape])
    assert x.shape == shape and abs(x.std() - expected) <= 0.02 * expected and abs(x.mean()) <= 0.02 * expected


@pytest.mark.parametrize("name", ["xavier_uniform", "kaiming_uniform", "uniform"])
def test_uniform_ones_are_bounded(name):
    x = init.INITIALIZERS[name](SHAPE, np.float64, 0)
    bound = STANDARD[name](*SHAPE) * np.sqrt(3)
    assert 0.999 * bound < abs(x).max() <= bound and x.min() < 0


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (4, 2, 3, 1), (2, 3, 3)])
def test_orthogonal(shape):
    x = init.orthogonal(shape, np.float64, 3, gain=2.0)
    m = x.reshape(shape[0], -1)
    m = m if m.shape[0] <= m.shape[1] else m.T
    assert x.shape == shape and np.allclose(m @ m.T, 4 * np.eye(len(m)))


def test_orthogonal_has_no_preferred_sign():
    diagonal = [np.diagonal(init.orthogonal((2, 2), np.float64, seed)) for seed in range(200)]
    assert abs(np.mean(np.sign(diagonal))) < 0.2


def test_truncated_normal_is_cut():
    x = init.truncated_normal((10000,), np.float64, 0, mean=3, std=0.5, cut=1.5)
    assert abs(x - 3).max() <= 0.75 and abs(x - 3).max() > 0.74
    with pytest.raises(ValueError, match="cut=0"):
        init.truncated_normal((3,), cut=0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", init.INITIALIZERS)
def test_every_dtype_starts_from_the_same_numbers(name, dtype):
    x = init.INITIALIZERS[name]((3, 4), dtype, 7)
    assert x.dtype == dtype and np.array_equal(x, init.INITIALIZERS[name]((3, 4), np.float64, 7).astype(dtype))


@pytest.mark.parametrize("name", [n for n in init.INITIALIZERS if n not in ("zeros", "ones")])
def test_seeds(name):
    draw = lambda rng=None: init.INITIALIZERS[name]((3, 4), np.float64, rng)
    sadl.random.seed(5)
    a, b = draw(), draw()
    sadl.random.seed(5)
    assert np.array_equal(a, draw()) and not np.array_equal(a, b)
    assert np.array_equal(draw(7), draw(np.random.default_rng(7))) and not np.array_equal(draw(7), draw(8))


def test_gains():
    assert init.gain_of("relu") == np.sqrt(2) and init.gain_of(0.3) == 0.3
    assert init.gain_of("leaky_relu", 1.0) == 1.0 and init.gain_of("tanh") == 5 / 3
    a, b = (init.xavier_uniform((3, 4), np.float64, 0, gain) for gain in ("linear", "tanh"))
    assert np.allclose(b, a * 5 / 3)
    a, b = (init.kaiming_normal((3, 12), np.float64, 0, mode=mode) for mode in ("fan_in", "fan_out"))
    assert np.allclose(a, b * 2)


@pytest.mark.parametrize(
    ("problem", "call"),
    [
        (r"\[init\] shape \(3,\) has no fans", lambda: init.xavier_normal((3,))),
        (r"no gain 'rely'.*relu", lambda: init.kaiming_normal((3, 3), gain="rely")),
        ("no mode 'in'.*fan_in", lambda: init.kaiming_normal((3, 3), mode="in")),
        ("no initialiser 'he'.*kaiming_normal", lambda: init.initial("he", (3, 3))),
    ],
)
def test_what_cannot_be_drawn(problem, call):
    with pytest.raises(ValueError, match=problem):
        call()


@pytest.mark.parametrize("name", init.INITIALIZERS)
def test_layers_start_by_name_or_function(name):
    layer = nn.Linear(3, 4, rng=1, init=name)
    assert np.array_equal(layer.W, init.INITIALIZERS[name]((3, 4), np.float32, 1))
    function = lambda shape, dtype, rng: init.normal(shape, dtype, rng, std=0.02)
    assert np.array_equal(nn.Embedding(3, 4, rng=1, init=function).W, init.normal((3, 4), np.float32, 1, std=0.02))


def test_defaults():
    assert np.array_equal(nn.Linear(3, 4, rng=1).W, init.xavier_uniform((3, 4), np.float32, 1))
    assert np.array_equal(nn.Embedding(3, 4, rng=1).W, init.normal((3, 4), np.float32, 1))
    attention = nn.MultiHeadAttention(4, 2, rng=1)
    assert np.array_equal(attention.projection.W, init.xavier_uniform((4, 12), np.float32, 1))
    assert not np.any(attention.projection.b) and not np.array_equal(attention.out.W, attention.projection.W[:, :4])
    for layer in (nn.LayerNorm(3), nn.GroupNorm(1, 3), nn.BatchNorm1d(3)):
        assert np.array_equal(layer.weight, np.ones(3)) and np.array_equal(layer.bias, np.zeros(3))
