"""Calls of functions and layers with random hyper-parameters, and the same in torch, whose values are the reference.

Takes nothing; gives cases by name, with float64 inputs made from a fixed seed. `make_reference` runs the torch side;
what must be equal is left to test_nn and test_functional. Only functions with a parameter `t` need torch.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np

STEPS, LR = 10, 0.05


class Case(NamedTuple):
    function: str  # its name in sadl.functional
    arrays: dict[str, np.ndarray]  # by argument; floats are differentiated
    settings: dict[str, Any]


class LayerCase(NamedTuple):
    layer: str  # its name in sadl.nn
    args: tuple[Any, ...]
    settings: dict[str, Any]
    x: np.ndarray
    call: dict[str, Any]  # keyword arguments of the call; those that are arrays of floats are not differentiated


def weights_of(shape: tuple[int, ...]) -> np.ndarray:
    """The cotangent that gradients are taken with: different for each element."""
    return np.cos(np.arange(np.prod(shape, dtype=int))).reshape(shape)


def grads_of(call: Any, tensor: Any, arrays: dict[str, Any], value: Any) -> dict[str, Any]:
    """The result of `call(**arrays)` under "y", and for each floating array the gradient of a weighted sum of it.

    `tensor` makes a Tensor that requires a gradient, of sadl or of torch; `value` gives an array of one.
    """
    tensors = {k: tensor(v) if v.dtype.kind == "f" else v for k, v in arrays.items()}
    y = call(**tensors)
    (y * value(weights_of(tuple(y.shape)))).sum().backward()
    return {"y": y, **{k: v.grad for k, v in tensors.items() if arrays[k].dtype.kind == "f"}}


# ---- functions -----------------------------------------------------------------------------------------------------

EXTREMES = np.array([[-1e4, -100, -20, -1, -1e-30, 0.0, 1e-30, 0.5, 1, 20, 100, 1e4]])
SCORES = np.array([[1e4, -1e4, 0, 3], [-1e4, -1e4, -1e4, -2e4], [0, -np.inf, 1, -np.inf], [1e4, 1e4, 1e4, 1e4]])


def cases() -> dict[str, Case]:
    rng = np.random.default_rng(4)
    found: dict[str, Case] = {}

    def add(function: str, arrays: dict[str, Any], **settings: Any) -> None:
        n = sum(case.function == function for case in found.values())
        found[f"{function} {n}"] = Case(function, {k: np.asarray(v) for k, v in arrays.items()}, settings)

    number = lambda low, high: round(float(rng.uniform(low, high)), 3)
    _activations(add, rng, number)
    _losses(add, rng, number)
    _normalisations(add, rng, number)
    _attention(add, rng, number)
    add("linear", {"x": rng.standard_normal((2, 3, 4)), "W": rng.standard_normal((4, 5)), "b": rng.standard_normal(5)})
    add("linear", {"x": rng.standard_normal((4,)), "W": rng.standard_normal((4, 2))})
    add("embedding", {"ids": rng.integers(0, 6, (3, 4)), "W": rng.standard_normal((6, 5))})
    add("embedding", {"ids": rng.integers(0, 2, ()), "W": rng.standard_normal((2, 3))})
    add("embedding", {"ids": rng.integers(0, 3, (4, 3)), "W": rng.standard_normal((3, 2))}, padding_idx=2)
    _cells(add, rng)
    return found


def _activations(add: Any, rng: Any, number: Any) -> None:
    options: dict[str, list[dict[str, Any]]] = {
        "relu": [{}],
        "leaky_relu": [{}, {"negative_slope": number(0.05, 0.5)}],
        "elu": [{}, {"alpha": number(0.3, 2)}],
        "gelu": [{}, {"approximate": "tanh"}],
        "silu": [{}],
        "sigmoid": [{}],
        "tanh": [{}],
        "softplus": [{}, {"beta": number(0.5, 3)}],
        "erf": [{}],
    }
    for function, settings in options.items():
        for s in settings:
            add(function, {"x": 3 * rng.standard_normal((4, 5))}, **s)
            add(function, {"x": EXTREMES}, **s)
    for function in ("softmax", "log_softmax", "logsumexp"):
        for axis in (-1, 0, 1):
            add(function, {"x": 3 * rng.standard_normal((3, 4, 2))}, axis=axis)
        add(function, {"x": SCORES if function != "log_softmax" else SCORES[:2]})
    add("logsumexp", {"x": 3 * rng.standard_normal((3, 4, 2))}, axis=(0, -1), keepdims=True)


def _losses(add: Any, rng: Any, number: Any) -> None:
    reductions = ("mean", "sum", "none")
    for reduction in reductions:
        x, y = rng.standard_normal((2, 3, 4))
        add("mse_loss", {"x": x, "targets": y}, reduction=reduction)
        add("l1_loss", {"x": x, "targets": y}, reduction=reduction)
        add("huber_loss", {"x": 2 * x, "targets": y}, reduction=reduction, delta=number(0.3, 2))
        logp = np.log(rng.dirichlet(np.ones(4), 3))
        target = np.where(rng.random((3, 4)) < 0.3, 0, rng.dirichlet(np.ones(4), 3))
        add("kl_div", {"log_probabilities": logp, "targets": target + 0.1}, reduction=reduction)
        add("kl_div", {"log_probabilities": logp}, targets=target, reduction=reduction)
        add(
            "kl_div", {"log_probabilities": logp, "targets": np.log(target + 0.1)}, reduction=reduction, log_target=True
        )
        _entropies(add, rng, number, reduction)
        p = {"probabilities": rng.uniform(0.001, 0.999, (3, 4)), "targets": rng.random((3, 4))}
        add("binary_cross_entropy", p, reduction=reduction)
        add("binary_cross_entropy", p, reduction=reduction, weight=rng.uniform(0.2, 2, (3, 1)))
    add("huber_loss", {"x": 2 * x, "targets": y})
    add("kl_div", {"log_probabilities": logp, "targets": target + 0.1}, reduction="batchmean")
    add("cross_entropy", {"logits": SCORES[[0, 3]], "targets": np.array([2, 1])})
    each = np.stack([EXTREMES, EXTREMES])
    add("binary_cross_entropy_with_logits", {"logits": each, "targets": [[[1.0]], [[0.0]]] * np.ones_like(each)})


def _entropies(add: Any, rng: Any, number: Any, reduction: str) -> None:
    logits, targets = 2 * rng.standard_normal((3, 4, 5)), rng.integers(0, 5, (3, 4))
    class_weights, some = (
        rng.uniform(0.2, 2, 5),
        {"label_smoothing": number(0.05, 0.4), "ignore_index": int(targets[0, 0])},
    )
    add("cross_entropy", {"logits": logits, "targets": targets}, reduction=reduction)
    add("cross_entropy", {"logits": logits, "targets": targets}, reduction=reduction, **some)
    add("cross_entropy", {"logits": logits, "targets": targets}, reduction=reduction, weight=class_weights, **some)
    far = np.where(rng.random((3, 4)) < 0.3, -100, targets)
    add(
        "cross_entropy",
        {"logits": logits, "targets": far},
        reduction=reduction,
        ignore_index=-100,
        weight=class_weights,
    )
    add("nll_loss", {"log_probabilities": logits, "targets": far}, reduction=reduction, ignore_index=-100)
    add("nll_loss", {"log_probabilities": logits, "targets": targets}, reduction=reduction, weight=class_weights)
    probabilities = rng.dirichlet(np.ones(5), (3, 4))
    add("cross_entropy", {"logits": logits, "targets": probabilities}, reduction=reduction)
    smoothing = number(0.1, 0.5)
    both = {"weight": class_weights, "label_smoothing": smoothing}
    add("cross_entropy", {"logits": logits, "targets": probabilities}, reduction=reduction, **both)
    yes = {"logits": 4 * rng.standard_normal((3, 5)), "targets": rng.random((3, 5))}
    add("binary_cross_entropy_with_logits", yes, reduction=reduction)
    weighted = {"weight": rng.uniform(0.2, 2, (3, 1)), "pos_weight": rng.uniform(0.2, 3, 5)}
    add("binary_cross_entropy_with_logits", yes, reduction=reduction, **weighted)


def _normalisations(add: Any, rng: Any, number: Any) -> None:
    for shape, inner in (((3, 4), (4,)), ((2, 3, 4, 5), (4, 5)), ((6,), (6,))):
        x, weight, bias = (rng.standard_normal(s) for s in (shape, inner, inner))
        axis = tuple(range(-len(inner), 0))
        add("layer_norm", {"x": x, "weight": weight, "bias": bias}, eps=number(1e-3, 0.5), axis=axis)
        add("layer_norm", {"x": x + 50}, axis=axis)
        add("layer_norm", {"x": x, "bias": bias}, axis=axis)
        add("rms_norm", {"x": x, "weight": weight}, eps=number(1e-3, 0.5), axis=axis)
        add("rms_norm", {"x": x}, axis=axis)
    for shape, groups in (((3, 6), 3), ((2, 4, 3), 1), ((2, 4, 3, 2), 2)):
        x, weight, bias = (rng.standard_normal(s) for s in (shape, shape[1], shape[1]))
        add("group_norm", {"x": x, "weight": weight, "bias": bias}, groups=groups, eps=number(1e-3, 0.5))
    add("group_norm", {"x": rng.standard_normal((2, 4, 3))}, groups=2)
    for shape in ((5, 3), (2, 3, 4), (2, 3, 4, 2)):
        x, weight, bias, mean = (rng.standard_normal(s) for s in (shape, 3, 3, 3))
        add("batch_norm", {"x": x, "weight": weight, "bias": bias}, training=True, eps=number(1e-3, 0.5))
        running = {"running_mean": mean, "running_var": rng.uniform(0.5, 2, 3)}
        add("batch_norm", {"x": x, "weight": weight, "bias": bias, **running}, eps=number(1e-3, 0.5))
    add("batch_norm", {"x": x}, training=True)


def _attention(add: Any, rng: Any, number: Any) -> None:
    q, k, v = (rng.standard_normal(s) for s in ((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)))
    mask = rng.random((4, 6)) < 0.6
    mask[1] = False
    each = rng.random((2, 1, 1, 6)) < 0.7
    name = "scaled_dot_product_attention"
    add(name, {"q": q, "k": k, "v": v})
    add(name, {"q": q, "k": k, "v": v}, scale=number(0.1, 2))
    add(name, {"q": q, "k": k, "v": v}, is_causal=True)
    add(name, {"q": q, "k": k, "v": v, "mask": mask})
    add(name, {"q": q, "k": k, "v": v, "mask": each})
    add(name, {"q": q, "k": k, "v": v, "mask": rng.standard_normal((3, 4, 6))})
    add(name, {"q": q, "k": k, "v": v}, mask=np.where(mask, 0.5, -np.inf))
    add(name, {"q": q, "k": k, "v": v, "mask": rng.standard_normal((1, 6))}, is_causal=True)
    add(name, {"q": 100 * q[0, 0], "k": 100 * k[0, 0], "v": v[0, 0]})


def _cells(add: Any, rng: Any) -> None:
    for cell, gates, parts in (("rnn_cell", 1, "h"), ("lstm_cell", 4, "hc"), ("gru_cell", 3, "h")):
        shapes = {"x": (2, 3), "W_ih": (gates * 4, 3), "W_hh": (gates * 4, 4), **dict.fromkeys(parts, (2, 4))}
        arrays = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
        biases = {name: rng.standard_normal(gates * 4) for name in ("b_ih", "b_hh")}
        add(cell, arrays)
        add(cell, arrays | biases)
    few = {name: v[:4] for name, v in (arrays | biases).items()}
    add("rnn_cell", few, nonlinearity="relu")


def _classes_second(call: Any) -> Any:
    """torch wants the classes on axis 1."""

    def wrapped(t: Any, x: Any, targets: Any, **settings: Any) -> Any:
        targets = t.movedim(targets, -1, 1) if targets.dtype.is_floating_point else targets
        ignored = settings.pop("ignore_index", None)
        settings |= {} if ignored is None else {"ignore_index": ignored}
        return call(t)(t.movedim(x, -1, 1) if x.ndim > 1 else x, targets, **settings)

    return wrapped


def _torch_norm(name: str) -> Any:
    def wrapped(t: Any, x: Any, *, axis: Any, **settings: Any) -> Any:
        return getattr(t.nn.functional, name)(x, x.shape[-len(axis) :], **settings)

    return wrapped


def _torch_batch_norm(t: Any, x: Any, running_mean: Any = None, running_var: Any = None, **settings: Any) -> Any:
    if settings.get("training"):
        return t.nn.functional.batch_norm(x, None, None, **settings)
    scale = settings.pop("weight") / t.sqrt(running_var + settings.pop("eps"))  # torch has no gradient by these two
    scale, shift, mean = (v.reshape(-1, *[1] * (x.ndim - 2)) for v in (scale, settings.pop("bias"), running_mean))
    return (x - mean) * scale + shift


def _torch_attention(t: Any, q: Any, k: Any, v: Any, mask: Any = None, **settings: Any) -> Any:
    if mask is not None and settings.pop("is_causal", False):  # not both, in torch
        later = t.ones(q.shape[-2], k.shape[-2], dtype=bool).triu(1)
        mask = mask + t.zeros(later.shape, dtype=mask.dtype).masked_fill(later, -t.inf)
    with t.nn.attention.sdpa_kernel(t.nn.attention.SDPBackend.MATH):
        return t.nn.functional.scaled_dot_product_attention(q, k, v, mask, **settings)


def _torch_cell(name: str) -> Any:
    def wrapped(t: Any, x: Any, h: Any, c: Any = None, nonlinearity: str = "tanh", **weights: Any) -> Any:
        ws = [weights.get(k) for k in ("W_ih", "W_hh", "b_ih", "b_hh")]
        if c is not None:
            return t.cat(t.lstm_cell(x, (h, c), *ws), -1)
        return getattr(t, f"rnn_{nonlinearity}_cell" if name == "rnn_cell" else name)(x, h, *ws)

    return wrapped


TORCH: dict[str, Any] = {
    **{name: lambda t, x, axis=-1, _n=name: getattr(t, _n)(x, axis) for name in ("softmax", "log_softmax")},
    "logsumexp": lambda t, x, axis=-1, keepdims=False: t.logsumexp(x, axis, keepdims),
    **{name: _torch_cell(name) for name in ("rnn_cell", "lstm_cell", "gru_cell")},
    "cross_entropy": _classes_second(lambda t: t.nn.functional.cross_entropy),
    "nll_loss": _classes_second(lambda t: t.nn.functional.nll_loss),
    "kl_div": lambda t, x, y, **s: t.nn.functional.kl_div(x, y, **s),
    "linear": lambda t, x, W, b=None: t.nn.functional.linear(x, W.T, b),
    "erf": lambda t, x: t.erf(x),
    "layer_norm": _torch_norm("layer_norm"),
    "rms_norm": _torch_norm("rms_norm"),
    "group_norm": lambda t, x, groups, **s: t.nn.functional.group_norm(x, groups, **s),
    "embedding": lambda t, ids, W, **s: t.nn.functional.embedding(ids, W, **s),
    "batch_norm": _torch_batch_norm,
    "scaled_dot_product_attention": _torch_attention,
}
POSITIONAL = ("x", "logits", "log_probabilities", "probabilities", "targets", "ids", "W", "b")


def torch_values(t: Any, case: Case) -> dict[str, np.ndarray]:
    """What torch gives for a case: the result and the gradients."""

    def call(**tensors: Any) -> Any:
        given = {k: t.as_tensor(v) if isinstance(v, np.ndarray) else v for k, v in (tensors | case.settings).items()}
        if case.function == "scaled_dot_product_attention":
            return _torch_attention(t, **given)
        first = [given.pop(k) for k in POSITIONAL if k in given]
        run = TORCH.get(case.function) or (lambda t, *a, **s: getattr(t.nn.functional, case.function)(*a, **s))
        return run(t, *first, **given)

    leaf = lambda v: t.tensor(v, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that kl_div's mean is one over elements
        return {k: v.detach().numpy() for k, v in grads_of(call, leaf, case.arrays, t.as_tensor).items()}


# ---- layers --------------------------------------------------------------------------------------------------------


def layer_cases() -> dict[str, LayerCase]:
    rng = np.random.default_rng(5)
    found: dict[str, LayerCase] = {}

    def add(layer: str, args: Any, x: Any, call: Any = None, **settings: Any) -> None:
        n = sum(case.layer == layer for case in found.values())
        found[f"{layer} {n}"] = LayerCase(layer, args, settings, np.asarray(x), call or {})

    normal = rng.standard_normal
    _dense_layers(add, rng, normal)
    _norm_layers(add, normal)
    _attention_layers(add, rng, normal)
    _window_layers(add, normal)
    _recurrent_layers(add, normal)
    return found


def _dense_layers(add: Any, rng: Any, normal: Any) -> None:
    add("Linear", (5, 3), normal((4, 5)))
    add("Linear", (4, 6), normal((2, 3, 4)), bias=False)
    add("Embedding", (7, 3), rng.integers(0, 7, (2, 5)))
    add("Embedding", (3, 2, 1), rng.integers(0, 3, (4,)))
    for layer in ("ReLU", "SiLU", "Sigmoid", "Tanh", "GELU", "ELU", "LeakyReLU", "Softplus", "Softmax", "LogSoftmax"):
        add(layer, (), normal((3, 4)))
    add("GELU", ("tanh",), normal((3, 4)))
    add("ELU", (0.4,), normal((3, 4)))
    add("LeakyReLU", (0.3,), normal((3, 4)))
    add("Softplus", (2.5,), normal((3, 4)))
    add("Softmax", (0,), normal((3, 4)))
    add("LogSoftmax", (0,), normal((3, 4)))
    add("Flatten", (), normal((2, 3, 2)))
    add("Flatten", (2,), normal((2, 1, 3, 2)))


def _norm_layers(add: Any, normal: Any) -> None:
    add("LayerNorm", (6,), normal((3, 6)), eps=0.01)
    add("LayerNorm", ((3, 4),), normal((2, 3, 4)))
    add("LayerNorm", (4,), normal((2, 4)), bias=False)
    add("LayerNorm", (5,), normal((2, 5)), affine=False)
    add("RMSNorm", (6,), normal((3, 6)))
    add("RMSNorm", (5,), normal((2, 3, 5)), eps=0.03)
    add("RMSNorm", (4,), normal((3, 4)), affine=False)
    add("GroupNorm", (2, 6), normal((3, 6, 4)), eps=0.02)
    add("GroupNorm", (1, 2), normal((3, 2, 4)), affine=False)
    add("BatchNorm1d", (4,), normal((6, 4)) * 2 + 1)
    add("BatchNorm1d", (3,), normal((4, 3, 5)), momentum=0.3, eps=0.01)
    add("BatchNorm1d", (2,), normal((4, 2)), affine=False, momentum=None)
    add("BatchNorm2d", (2,), normal((3, 2, 4, 3)) + 3, momentum=0.25, eps=0.02)
    add("BatchNorm2d", (3,), normal((2, 3, 2, 2)), momentum=None)
    add("BatchNorm2d", (2,), normal((3, 2, 2, 2)), affine=False)


def _attention_layers(add: Any, rng: Any, normal: Any) -> None:
    add("MultiHeadAttention", (6, 2), normal((2, 4, 6)))
    add("MultiHeadAttention", (8, 4), normal((2, 5, 8)), {"is_causal": True}, bias=False)
    add("MultiHeadAttention", (6, 3), normal((2, 4, 6)), {"key": normal((2, 3, 6))})
    both = {"key": normal((2, 5, 6)), "value": normal((2, 5, 6)), "mask": normal((3, 5))}
    add("MultiHeadAttention", (6, 2), normal((2, 3, 6)), both)
    add("MultiHeadAttention", (6, 3), normal((2, 4, 6)), {"mask": rng.random((4, 4)) < 0.8})
    add("TransformerBlock", (6, 2), normal((2, 4, 6)), hidden=10)
    add("TransformerBlock", (6, 3), normal((2, 3, 6)), {"mask": normal((3, 3))}, bias=False, norm_first=False)
    add("TransformerBlock", (8, 2), normal((2, 3, 8)), {"is_causal": True}, hidden=12, norm_first=False)


def _window_layers(add: Any, normal: Any) -> None:
    """(in_channels, out_channels, kernel_size, stride, padding, dilation, groups); transposed in torch's order."""
    add("Conv1d", (4, 6, 3, 2, 1, 2, 2), normal((2, 4, 7)))
    add("Conv1d", (2, 3, 2), normal((2, 2, 4)), bias=False)
    add("Conv2d", (2, 4, (3, 2), (1, 2), (1, 0), (2, 1), 2), normal((2, 2, 5, 4)), bias=False)
    add("Conv2d", (3, 2, 3), normal((2, 3, 4, 4)), padding="same")
    add("ConvTranspose1d", (4, 2, 3, 2, 1, 1, 2, True, 2), normal((2, 4, 3)))
    add("ConvTranspose1d", (2, 3, 2), normal((2, 2, 4)), bias=False)
    add("ConvTranspose2d", (2, 4, (3, 2), (1, 2), (1, 0), (0, 1), 2, False, (2, 1)), normal((2, 2, 3, 3)))
    add("ConvTranspose2d", (3, 2, 2), normal((2, 3, 2, 2)))
    for n, size in ((1, (7,)), (2, (7, 5))):
        add(f"MaxPool{n}d", (2,), normal((2, 2, *size)))
        add(f"MaxPool{n}d", (3, 2, 1, 2, True), normal((2, 2, *size)))
        add(f"AvgPool{n}d", (2,), normal((2, 2, *size)))
        add(f"AvgPool{n}d", (3, 2, 1, True, False), normal((2, 2, *size)))
    add("AdaptiveAvgPool2d", (2,), normal((2, 2, 4, 4)))
    add("AdaptiveAvgPool2d", ((3, None),), normal((2, 2, 5, 2)))


def _recurrent_layers(add: Any, normal: Any) -> None:
    for layer, parts in (("RNN", 1), ("LSTM", 2), ("GRU", 1)):
        cell = {"state" if parts == 2 else "h": normal((parts, 3, 4)) if parts == 2 else normal((3, 4))}
        add(f"{layer}Cell", (2, 4), normal((3, 2)), cell)
        add(f"{layer}Cell", (3, 2, False), normal((3, 3)))
        add(layer, (2, 3, 2, True, True, 0.0, True), normal((2, 2, 2)))
        add(layer, (3, 2), normal((2, 2, 3)), bias=False, batch_first=False)
    add("RNNCell", (2, 3), normal((3, 2)), nonlinearity="relu")
    add("RNN", (2, 3), normal((2, 3, 2)), nonlinearity="relu")


def first_state(case: LayerCase, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Random first values for the parameters of a layer, by our names."""
    rng = np.random.default_rng(len(case.layer))
    draw = lambda shape: rng.uniform(0.3, 1.2, shape) * rng.choice([-1, 1], shape) / np.sqrt(len(shape) * shape[0])
    return {path: draw(shape) for path, shape in shapes.items()}


def _torch_block(t: Any) -> Any:
    def make(dim: int, heads: int, hidden: int | None = None, norm_first: bool = True, bias: bool = True) -> Any:
        return t.nn.TransformerEncoderLayer(dim, heads, hidden or 4 * dim, 0, "gelu", 1e-5, True, norm_first, bias)

    return make


def _torch_affine(layer: str) -> Any:
    """Where torch calls it so, or elementwise_affine."""
    name = "elementwise_affine" if layer in ("LayerNorm", "RMSNorm") else "affine"
    return lambda t: lambda *args, affine=True, **s: getattr(t.nn, layer)(*args, **{name: affine}, **s)


def _torch_recurrent(layer: str) -> Any:
    names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")

    def make(t: Any) -> Any:
        first = {"batch_first": True}
        return lambda *args, **s: getattr(t.nn, layer)(**(first | dict(zip(names, args, strict=False)) | s))

    return make


MAKE: dict[str, Any] = {  # where torch's arguments are others, or in another order
    "MultiHeadAttention": lambda t: lambda *a, **s: t.nn.MultiheadAttention(*a, batch_first=True, **s),
    "TransformerBlock": _torch_block,
    **{name: _torch_affine(name) for name in ("LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm1d", "BatchNorm2d")},
    **{name: _torch_recurrent(name) for name in ("RNN", "LSTM", "GRU")},
    "Softmax": lambda t: lambda axis=-1: t.nn.Softmax(axis),
    "LogSoftmax": lambda t: lambda axis=-1: t.nn.LogSoftmax(axis),
}


def torch_layer(t: Any, case: LayerCase) -> Any:
    make = MAKE[case.layer](t) if case.layer in MAKE else getattr(t.nn, case.layer)
    return make(*case.args, **case.settings).double()


PLAIN = {"W": "weight", "b": "bias"}
CELL = {"W_ih": "weight_ih", "W_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}
ATTENTION = {
    "projection.W": "in_proj_weight",
    "projection.b": "in_proj_bias",
    "out.W": "out_proj.weight",
    "out.b": "out_proj.bias",
}
NAMES: dict[str, dict[str, str]] = {  # ours to torch's
    **dict.fromkeys(("Linear", "Embedding", "Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"), PLAIN),
    **dict.fromkeys(("RNNCell", "LSTMCell", "GRUCell"), CELL),
    **{
        name: {
            f"layers[{k}][{direction}].{ours}": f"{theirs}_l{k}{'_reverse' * direction}"
            for k in range(2)
            for direction in range(2)
            for ours, theirs in CELL.items()
        }
        for name in ("RNN", "LSTM", "GRU")
    },
    "MultiHeadAttention": ATTENTION,
    "TransformerBlock": {
        **{f"attention.{ours}": f"self_attn.{theirs}" for ours, theirs in ATTENTION.items()},
        **{
            f"layers.layers[{k}].{ours}": f"linear{n}.{theirs}"
            for n, k in ((1, 0), (2, 3))
            for ours, theirs in PLAIN.items()
        },
    },
}
TURNED = ("Linear", "MultiHeadAttention", "TransformerBlock")


def torch_name(case: LayerCase, path: str) -> str:
    return NAMES.get(case.layer, {}).get(path, path)


def turned(case: LayerCase, path: str, array: Any) -> Any:
    """The matrices of these layers are (in, out), torch's (out, in)."""
    return array.T if path.endswith("W") and case.layer in TURNED else array


def shapes_of(case: LayerCase, module: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of our parameters, from torch's."""
    ours = {theirs: path for path, theirs in NAMES.get(case.layer, {}).items()}
    named = {ours.get(name, name): p for name, p in module.named_parameters()}
    return {path: tuple(turned(case, path, p).shape) for path, p in sorted(named.items())}


def first_of(y: Any) -> Any:
    """The result, without the state that some layers give with it."""
    return y[0] if isinstance(y, tuple) else y


def _torch_call(t: Any, case: LayerCase, module: Any, x: Any) -> Any:
    given = {k: t.as_tensor(v) if isinstance(v, np.ndarray) else v for k, v in case.call.items()}
    mask = given.get("mask")
    hidden = ~mask if mask is not None and mask.dtype == t.bool else mask
    if given.get("is_causal"):
        hidden = t.triu(t.ones(x.shape[1], x.shape[1], dtype=bool), diagonal=1)
    if case.layer == "MultiHeadAttention":
        key = given.get("key", x)
        return module(x, key, given.get("value", key), attn_mask=hidden, need_weights=False)[0]
    if case.layer == "TransformerBlock":
        return module(x, src_mask=hidden)
    state = [tuple(given["state"])] if "state" in given else [given["h"]] if "h" in given else []
    return first_of(module(x, *state))


def torch_training(t: Any, case: LayerCase) -> dict[str, np.ndarray]:
    """Gradients of the first of ten steps of descent, losses, final input, parameters and statistics, and inference."""
    module = torch_layer(t, case)
    named = dict(module.named_parameters())
    for path, value in first_state(case, shapes_of(case, module)).items():
        with t.no_grad():
            named[torch_name(case, path)][...] = t.as_tensor(turned(case, path, value))
    paths = list(shapes_of(case, module))
    x = t.tensor(case.x, requires_grad=case.x.dtype.kind == "f")
    learned = {"x": x} if x.requires_grad else {}
    learned |= {path: named[torch_name(case, path)] for path in paths}
    found: dict[str, Any] = {}
    for step in range(STEPS):
        y = _torch_call(t, case, module, x)
        loss = (y * y * t.as_tensor(2 + weights_of(tuple(y.shape)))).mean()
        loss.backward()
        found[f"loss/{step}"] = loss
        if step == 0:
            found["y"] = y.clone()
            found |= {f"grad/{path}": turned(case, path, p.grad).clone() for path, p in learned.items()}
        with t.no_grad():
            for p in learned.values():
                p -= LR * p.grad
                p.grad = None
    module.eval()
    with t.no_grad():
        found["inference"] = _torch_call(t, case, module, x)
    found |= {f"last/{path}": turned(case, path, p) for path, p in learned.items()}
    found |= {f"last/{STATISTICS[k]}": v for k, v in module.named_buffers() if k in STATISTICS}
    if case.settings.get("momentum", 0) is not None:
        found.pop("last/batches", None)
    return {k: v.detach().numpy() for k, v in found.items()}


STATISTICS = {"running_mean": "mean", "running_var": "var", "num_batches_tracked": "batches"}
