"""Tests of np.fft: every transform with every argument, real and complex, generated from tables of expressions.

Takes expressions in the arrays of `VALUES`; compares with NumPy and with differences, eager and compiled.
"""

import numpy as np
import pytest
from expressions import (
    assert_close,
    assert_compiled_is_eager,
    assert_gradients,
    assert_gradients_of_any_layout,
    assert_single_precision,
    assert_value_is_numpys,
    function,
    texts,
)

import sadl
from sadl import UnrecordedError, check_grads, tensor
from sadl.op import FUNCTIONS

RNG = np.random.default_rng(5)
fft = np.fft


def noise(*shape):
    return RNG.standard_normal(shape)


VALUES = {"x": noise(3, 5), "y": noise(2, 3, 4), "v": noise(6), "z": noise(2, 3, 4) + 1j * noise(2, 3, 4)}
VALUES |= {"w": noise(5) + 1j * noise(5), "one": noise(3, 1)}

# Expressions without `np.fft.`.
TABLE = """
fft(x) | fft(z) | fft(v) | fft(x, 3) | fft(x, 8, 0, "ortho") | fft(z, 7, 1, "forward") | fft(z, axis=-2) | fft(one)
ifft(x) | ifft(z) | ifft(z, 3, -2, "ortho") | ifft(v, 9, norm="forward") | ifft(w, n=1, norm="backward")
rfft(x) | rfft(v) | rfft(x, 4) | rfft(x, 7, 0, "ortho") | rfft(x, 1) | rfft(v, 2) | rfft(x, 2, 0, "forward") | rfft(one)
irfft(z) | irfft(w) | irfft(z, 5) | irfft(z, 4, 1, "ortho") | irfft(z, 9, 0, "forward") | irfft(x) | irfft(z, 1)
irfft(z, 2) | irfft(v, 8) | irfft(w, 7)
hfft(z) | hfft(w, 5) | hfft(z, 5, 1, "ortho") | hfft(x) | hfft(z, norm="forward") | ihfft(x) | ihfft(x, 6, 0, "forward")
ihfft(v, norm="ortho") | ihfft(v, 3)
fft2(z) | fft2(x, (4, 6)) | ifft2(z, (3, -1)) | ifft2(x, norm="ortho") | rfft2(x) | rfft2(x, (5, 3), norm="ortho")
rfft2(y, (2, -1), (0, 1)) | irfft2(z) | irfft2(z, (3, 4), (0, 1)) | irfft2(x, norm="forward") | irfft2(z, s=(2, 5))
fftn(z) | fftn(x, axes=(0,)) | fftn(z, (2, 5), (1, 1), "forward") | fftn(y, axes=(0, 2, 0))
fftn(z, [4, -1, 2], [0, 1, 2]) | ifftn(z, (4, -1), (0, 2)) | ifftn(y) | ifftn(z, axes=[1], norm="ortho")
rfftn(y) | rfftn(y, axes=(1, 1, 2))
rfftn(y, (3, 2, 5), (0, 1, 2), "ortho") | rfftn(y, axes=(0,)) | irfftn(z) | irfftn(z, axes=(0, 1)) | irfftn(y)
irfftn(z, (3, -1), (2, 1)) | irfftn(z, axes=(0, 0)) | irfftn(z, (2, 3, 5), (0, 1, 2), "forward")
fftshift(z) | fftshift(z, 1) | fftshift(x, axes=(0, -1)) | ifftshift(z, (0, -1)) | ifftshift(x) | ifftshift(v, 0)
"""
CASES = [f"np.fft.{text}" for text in texts(TABLE)]
CASES += texts("""
np.fft.irfft(np.fft.rfft(v, 5), 5) | np.abs(np.fft.fft(x)) ** 2 | np.real(np.fft.ifft(np.fft.fft(x) * np.fft.fft(x[0])))
np.angle(np.fft.rfft(v)) | np.fft.fftshift(np.fft.fft2(x)) | np.fft.irfft2(np.fft.rfft2(x), (3, 5)) | np.fft.fft(w).imag
np.fft.hfft(np.fft.ihfft(v), 6) | np.fft.ifftn(np.fft.fftn(y) * np.conj(z))
""")
each_case = pytest.mark.parametrize("text", CASES, ids=lambda text: text.replace("np.fft.", ""))


def test_every_function_is_in_the_table():
    names = {name for name in fft.__all__ if hasattr(getattr(fft, name), "__wrapped__")}
    assert all(getattr(fft, name) in FUNCTIONS and any(f"fft.{name}(" in text for text in CASES) for name in names)


@each_case
def test_value_is_numpys(text):
    assert_value_is_numpys(*function(text, VALUES))


@each_case
def test_gradients_to_second_order(text):
    assert_gradients(*function(text, VALUES))


@each_case
def test_gradients_of_any_layout(text):
    assert_gradients_of_any_layout(*function(text, VALUES))


@each_case
def test_single_precision(text):
    assert_single_precision(*function(text, VALUES), rtol=1e-3)


@each_case
def test_compiled_is_eager(text):
    assert_compiled_is_eager(*function(text, VALUES))


def test_compiled_to_machine_code():
    assert_compiled_is_eager(*function("np.abs(np.fft.rfft(x, 7)) ** 2", VALUES), jit=True)


@pytest.mark.parametrize("n", range(1, 10))
@pytest.mark.parametrize("norm", [None, "backward", "ortho", "forward"])
def test_every_length_and_norm(n, norm):
    for m in (1, 4, 5):
        x, z = noise(m), noise(m) + 1j * noise(m)
        for f, a in ((fft.fft, z), (fft.ifft, z), (fft.rfft, x), (fft.irfft, z), (fft.hfft, z), (fft.ihfft, x)):
            assert_gradients(lambda a, f=f: f(a, n, norm=norm), (a,))


@pytest.mark.parametrize("shape", [(0, 4), (2, 0, 3)])
def test_empty_batches(shape):
    for f in (fft.fft, fft.rfft, fft.irfft, fft.ifftshift):
        assert_value_is_numpys(f, (np.zeros(shape),))
        assert_gradients(f, (np.zeros(shape),))


def test_nothing_is_filled_up_with_zeros():
    assert_value_is_numpys(lambda a: fft.fft(a, 3), (np.zeros((2, 0)),))
    assert_gradients(lambda a: fft.fft(a, 3), (np.zeros((2, 0)),))


def test_other_dtypes_are_numpys():
    for dtype in (np.float16, np.float32, np.longdouble, np.complex64):
        a = noise(4).astype(dtype)
        for f in (fft.fft, fft.ifft, fft.irfft, fft.hfft, *((fft.rfft,) if a.dtype.kind == "f" else ())):
            result = f(tensor(a, requires_grad=True))
            assert result.dtype == f(a).dtype
            (np.real(result) * 1.5).sum().backward()
    run = sadl.compile(lambda a: [fft.fft(a), fft.rfft(a), fft.irfft(a)])
    whole = np.arange(5)
    for _ in range(3):
        assert_close(run(whole), [fft.fft(whole), fft.rfft(whole), fft.irfft(whole)])


# ---- arguments -----------------------------------------------------------------------------------------------------


def test_results_written_to_tensors_are_recorded():
    for f, n in ((fft.fft, 6), (fft.rfft, 4), (fft.fftn, 6)):
        out = tensor(np.zeros(n, complex))
        x = tensor(VALUES["v"], requires_grad=True)
        result = f(x, out=out)
        assert result is out
        assert_close(result, f(VALUES["v"]))
        check_grads(lambda x, f=f, n=n: np.real(f(x, out=tensor(np.zeros(n, complex)) * 1)), (VALUES["v"],))
    with pytest.raises(UnrecordedError, match="plain array"):
        fft.fft(x, out=np.zeros(6, complex))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: fft.fft(x, norm="none"),
        lambda x: fft.hfft(x, norm="none"),
        lambda x: fft.fft(x, 0),
        lambda x: fft.irfft(x[:, :1]),
        lambda x: fft.fft(x, axis=2),
        lambda x: fft.rfft(1j * x),
        lambda x: fft.ihfft(1j * x),
        lambda x: fft.fftn(x, (2,), (0, 1)),
        lambda x: fft.fftn(x, axes=(0, 2)),
        lambda x: fft.fftshift(x, 2),
    ],
)
def test_wrong_arguments_raise(f):
    with pytest.raises((ValueError, TypeError, IndexError)):
        f(tensor(VALUES["x"], requires_grad=True))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_sizes_that_numpy_deprecates():
    for f, a in (
        (lambda a: fft.fftn(a, (2, 6)), VALUES["y"]),
        (lambda a: fft.irfftn(a, (3, None), (0, 1)), VALUES["z"]),
    ):
        assert_value_is_numpys(f, (a,))
        assert_gradients(f, (a,))


def test_the_checker_sees_a_sign():
    """The gradient of a transform in the other direction is another."""
    crossed = lambda x: fft.fft(np.asarray(x)) + fft.ifft(x - np.asarray(x)) * 6
    with pytest.raises(AssertionError, match="by the rules"):
        assert_gradients(crossed, (VALUES["v"],), order=1)
