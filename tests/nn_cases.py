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
    call: dict[str, Any]  # keyword arguments of the call


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
        add("rms_norm", {"x": x, "weight": weight}, eps=number(1e-3, 0.5), axis=axis)
        add("rms_norm", {"x": x}, axis=axis)
    for shape, groups in (((3, 6), 3), ((2, 4, 3), 1), ((2, 4, 3, 2), 2)):
        x, weight, bias = (rng.standard_normal(s) for s in (shape, shape[1], shape[1]))
        add("group_norm", {"x": x, "weight": weight, "bias": bias}, groups=groups, eps=number(1e-3, 0.5))
    for shape in ((5, 3), (2, 3, 4), (2, 3, 4, 2)):
        x, weight, bias, mean = (rng.standard_normal(s) for s in (shape, 3, 3, 3))
        add("batch_norm", {"x": x, "weight": weight, "bias": bias}, training=True, eps=number(1e-3, 0.5))
        running = {"running_mean": mean, "running_var": rng.uniform(0.5, 2, 3)}
        add("batch_norm", {"x": x, "weight": weight, "bias": bias, **running}, eps=number(1e-3, 0.5))


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
    add(name, {"q": 100 * q[0, 0], "k": 100 * k[0, 0], "v": v[0, 0]})


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
    with t.nn.attention.sdpa_kernel(t.nn.attention.SDPBackend.MATH):
        return t.nn.functional.scaled_dot_product_attention(q, k, v, mask, **settings)


TORCH: dict[str, Any] = {
    **{
        name: lambda t, x, axis=-1, _n=name: getattr(t, _n)(x, axis) for name in ("softmax", "log_softmax", "logsumexp")
    },
    "cross_entropy": _classes_second(lambda t: t.nn.functional.cross_entropy),
    "nll_loss": _classes_second(lambda t: t.nn.functional.nll_loss),
    "kl_div": lambda t, x, y, **s: t.nn.functional.kl_div(x, y, **s),
    "linear": lambda t, x, W, b=None: t.nn.functional.linear(x, W.T, b),
    "erf": lambda t, x: t.erf(x),
    "layer_norm": _torch_norm("layer_norm"),
    "rms_norm": _torch_norm("rms_norm"),
    "group_norm": lambda t, x, groups, **s: t.nn.functional.group_norm(x, groups, **s),
    "batch_norm": _torch_batch_norm,
    "scaled_dot_product_attention": _torch_attention,
}
POSITIONAL = ("x", "logits", "log_probabilities", "targets", "ids", "W", "b", "q", "k", "v", "mask")


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
    add("Linear", (5, 3), normal((4, 5)))
    add("Linear", (4, 6), normal((2, 3, 4)), bias=False)
    add("Embedding", (7, 3), rng.integers(0, 7, (2, 5)))
    add("LayerNorm", (6,), normal((3, 6)), eps=0.01)
    add("LayerNorm", ((3, 4),), normal((2, 3, 4)))
    add("LayerNorm", (4,), normal((2, 4)), bias=False)
    add("RMSNorm", (6,), normal((3, 6)))
    add("RMSNorm", (5,), normal((2, 3, 5)), eps=0.03)
    add("GroupNorm", (2, 6), normal((3, 6, 4)), eps=0.02)
    add("BatchNorm1d", (4,), normal((6, 4)) * 2 + 1)
    add("BatchNorm1d", (3,), normal((4, 3, 5)), momentum=0.3, eps=0.01)
    add("BatchNorm2d", (2,), normal((3, 2, 4, 3)) + 3, momentum=0.25)
    add("BatchNorm2d", (2,), normal((3, 2, 2, 2)), affine=False)
    add("MultiHeadAttention", (6, 2), normal((2, 4, 6)))
    add("MultiHeadAttention", (8, 4), normal((2, 5, 8)), {"is_causal": True}, bias=False)
    add("MultiHeadAttention", (6, 3), normal((2, 4, 6)), {"mask": rng.random((4, 4)) < 0.8})
    add("TransformerBlock", (6, 2), normal((2, 4, 6)), hidden=10)
    add("TransformerBlock", (8, 2), normal((2, 3, 8)), {"is_causal": True}, hidden=12, norm_first=False)
    return found


def first_state(case: LayerCase, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Random first values for the parameters of a layer, by our names."""
    rng = np.random.default_rng(len(case.layer))
    draw = lambda shape: rng.uniform(0.3, 1.2, shape) * rng.choice([-1, 1], shape) / np.sqrt(len(shape) * shape[0])
    return {path: draw(shape) for path, shape in shapes.items()}


def _norms(t: Any, layer: str) -> Any:
    name = {"LayerNorm": "LayerNorm", "RMSNorm": "RMSNorm"}.get(layer, layer)

    def make(*args: Any, affine: bool = True, **settings: Any) -> Any:
        settings |= {} if affine else {"affine": False}
        return getattr(t.nn, name)(*args, **settings)

    return make


def _torch_block(t: Any) -> Any:
    def make(dim: int, heads: int, hidden: int, norm_first: bool = True) -> Any:
        return t.nn.TransformerEncoderLayer(dim, heads, hidden, 0, "gelu", 1e-5, True, norm_first)

    return make


def torch_layer(t: Any, case: LayerCase) -> Any:
    make: Any = {
        "Linear": t.nn.Linear,
        "Embedding": t.nn.Embedding,
        "MultiHeadAttention": lambda *a, **s: t.nn.MultiheadAttention(*a, batch_first=True, **s),
        "TransformerBlock": _torch_block(t),
    }.get(case.layer) or _norms(t, case.layer)
    return make(*case.args, **case.settings).double()


ATTENTION = {
    "projection.W": "in_proj_weight",
    "projection.b": "in_proj_bias",
    "out.W": "out_proj.weight",
    "out.b": "out_proj.bias",
}
NAMES: dict[str, dict[str, str]] = {
    "Linear": {"W": "weight", "b": "bias"},
    "Embedding": {"W": "weight"},
    "MultiHeadAttention": ATTENTION,
    "TransformerBlock": {
        **{f"attention.{ours}": f"self_attn.{theirs}" for ours, theirs in ATTENTION.items()},
        "layers.layers[0].W": "linear1.weight",
        "layers.layers[0].b": "linear1.bias",
        "layers.layers[3].W": "linear2.weight",
        "layers.layers[3].b": "linear2.bias",
    },
}


def torch_name(case: LayerCase, path: str) -> str:
    return NAMES.get(case.layer, {}).get(path, path)


def turned(case: LayerCase, path: str, array: Any) -> Any:
    """Our matrices are (in, out), torch's (out, in); a table of rows is the same in both."""
    return array.T if path.endswith("W") and case.layer != "Embedding" else array


def shapes_of(case: LayerCase, module: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of our parameters, from torch's."""
    ours = {theirs: path for path, theirs in NAMES.get(case.layer, {}).items()}
    named = {ours.get(name, name): p for name, p in module.named_parameters()}
    return {path: tuple(turned(case, path, p).shape) for path, p in sorted(named.items())}


def _torch_call(t: Any, case: LayerCase, module: Any, x: Any) -> Any:
    mask = case.call.get("mask")
    hidden = None if mask is None else t.as_tensor(~mask)
    if case.call.get("is_causal"):
        hidden = t.triu(t.ones(x.shape[1], x.shape[1], dtype=bool), diagonal=1)
    if case.layer == "MultiHeadAttention":
        return module(x, x, x, attn_mask=hidden, need_weights=False)[0]
    return module(x, src_mask=hidden) if case.layer == "TransformerBlock" else module(x)


def torch_training(t: Any, case: LayerCase) -> dict[str, np.ndarray]:
    """Gradients of the first of ten steps of descent, losses, final parameters and statistics, and inference."""
    module = torch_layer(t, case)
    named = dict(module.named_parameters())
    for path, value in first_state(case, shapes_of(case, module)).items():
        with t.no_grad():
            named[torch_name(case, path)][...] = t.as_tensor(turned(case, path, value))
    found: dict[str, Any] = {}
    paths = list(shapes_of(case, module))
    for step in range(STEPS):
        x = t.tensor(case.x, requires_grad=case.x.dtype.kind == "f")
        y = _torch_call(t, case, module, x)
        loss = (y * y * t.as_tensor(2 + weights_of(tuple(y.shape)))).mean()
        module.zero_grad()
        loss.backward()
        found[f"loss/{step}"] = loss
        if step == 0:
            found["y"] = y
            found |= {"grad/x": x.grad} if x.grad is not None else {}
            found |= {f"grad/{path}": turned(case, path, named[torch_name(case, path)].grad).clone() for path in paths}
        with t.no_grad():
            for p in module.parameters():
                p -= LR * p.grad
    module.eval()
    with t.no_grad():
        found["inference"] = _torch_call(t, case, module, t.as_tensor(case.x))
    found |= {f"last/{path}": turned(case, path, named[torch_name(case, path)]) for path in paths}
    found |= {f"last/{k.removeprefix('running_')}": v for k, v in module.named_buffers() if "running" in k}
    return {k: v.detach().numpy() for k, v in found.items()}
