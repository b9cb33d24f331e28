"""Convolutions, pooling and recurrent layers with random hyper-parameters, and the same in torch.

Takes nothing; gives cases with float64 inputs made from a fixed seed, small enough for their reference values to be
stored. `make_reference` runs the torch side; what must be equal is left to test_convolution and test_recurrent.
"""

import warnings
from typing import Any, NamedTuple

import nn_cases
import numpy as np
from nn_cases import Case

KINDS = ("RNN", "LSTM", "GRU")

PARTS = {"RNN": 1, "LSTM": 2, "GRU": 1}


# ---- convolution and pooling ---------------------------------------------------------------------------------------


def cases(seed: int = 8, rounds: int = 10, channels: int = 2, size: int = 5) -> dict[str, Case]:
    """Each function once per round; the names of functions and arguments are torch's."""
    rng = np.random.default_rng(seed)
    found: dict[str, Case] = {}
    for n in range(rounds):
        for ndim in (1, 2):
            for function, arrays, settings in _round(rng, ndim, channels, size):
                found[f"{function} {n}"] = Case(function, arrays, settings)
    return found


def _round(rng: Any, ndim: int, channels: int, size: int) -> Any:
    draw = lambda low, high: tuple(int(k) for k in rng.integers(low, high, ndim))
    kernel, dilation = draw(1, 4), draw(1, 3)
    stride = draw(1, 4) if rng.random() < 0.6 else (1,) * ndim
    padding: Any = draw(0, 3)
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    image = tuple(r + int(m) for r, m in zip(reach, rng.integers(0, size, ndim), strict=True))
    groups = int(rng.integers(1, 3))
    c, o = (groups * int(k) for k in rng.integers(1, channels + 1, 2))
    x = rng.standard_normal((int(rng.integers(1, 4)), c, *image))
    how = {"stride": stride, "dilation": dilation, "groups": groups}
    named = {"stride": (1,) * ndim, "padding": str(rng.choice(["same", "valid"]))} if rng.random() < 0.4 else {}
    bias = lambda: {"b": rng.standard_normal(o)} if rng.random() < 0.7 else {}
    w = rng.standard_normal((o, c // groups, *kernel))
    yield f"conv{ndim}d", {"x": x, "w": w, **bias()}, {**how, "padding": padding, **named}
    w = rng.standard_normal((c, o // groups, *kernel))
    more = {"padding": tuple(min(p, r // 2) for p, r in zip(padding, reach, strict=True))}
    more["output_padding"] = tuple(int(rng.integers(0, s)) for s in stride)
    yield f"conv_transpose{ndim}d", {"x": x, "w": w, **bias()}, how | more
    pool = {"kernel_size": kernel, "stride": stride if rng.random() < 0.6 else None}
    pool["padding"] = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
    pool["ceil_mode"] = bool(rng.random() < 0.4)
    apart = {"dilation": dilation} if rng.random() < 0.4 and not any(pool["padding"]) else {}
    yield f"max_pool{ndim}d", {"x": x}, pool | apart
    yield f"avg_pool{ndim}d", {"x": x}, pool | {"count_include_pad": bool(rng.random() < 0.5)}
    if ndim == 2:
        yield "adaptive_avg_pool2d", {"x": x}, {"output_size": draw(1, 6)}
        yield "unfold", {"x": x}, {"kernel_size": kernel, "dilation": dilation, "padding": padding, "stride": stride}


def torch_values(torch: Any, case: Case) -> dict[str, np.ndarray]:
    function = getattr(torch.nn.functional, case.function)
    call = lambda x, w=None, b=None: function(*[t for t in (x, w, b) if t is not None], **case.settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of a copy that it makes for padding="same"
        found = nn_cases.grads_of(call, lambda v: torch.tensor(v, requires_grad=True), case.arrays, torch.tensor)
    return {k: v.detach().numpy() for k, v in found.items()}


# ---- recurrent layers ----------------------------------------------------------------------------------------------


class LayerCase(NamedTuple):
    kind: str  # the name of the layer
    settings: dict[str, Any]  # of the layer; the names are torch's
    arrays: dict[str, np.ndarray]  # "x", perhaps "h" and "c", and weights by their names in torch
    lengths: np.ndarray | None = None


def layer_cases(seed: int = 3, rounds: int = 6) -> dict[str, LayerCase]:
    rng = np.random.default_rng(seed)
    found = {f"{kind} {n}": _layer_case(rng, kind) for n in range(rounds) for kind in KINDS}
    rng = np.random.default_rng(seed + 1)
    return found | {f"{kind} padded {n}": _padded(rng, _layer_case(rng, kind)) for n in range(4) for kind in KINDS}


def _padded(rng: Any, case: LayerCase) -> LayerCase:
    """The same with sequences of several lengths, the longest of which is that of the inputs (or torch would cut)."""
    n, steps = case.arrays["x"].shape[:2] if case.settings["batch_first"] else case.arrays["x"].shape[1::-1]
    lengths = rng.integers(1, steps + 1, n)
    lengths[rng.integers(n)] = steps
    return case._replace(lengths=lengths)


def _layer_case(rng: Any, kind: str) -> LayerCase:
    size, hidden, layers, n, steps = (int(k) for k in rng.integers(1, 4, 5))
    bias, batch_first, bidirectional = (bool(k) for k in rng.integers(0, 2, 3))
    settings = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional}
    settings |= {"input_size": size, "hidden_size": hidden, "num_layers": layers}
    arrays = {"x": rng.standard_normal((n, steps, size) if batch_first else (steps, n, size))}
    cells = layers * (1 + bidirectional)
    if rng.random() < 0.6:
        arrays |= {part: rng.standard_normal((cells, n, hidden)) for part in "hc"[: PARTS[kind]]}
    rows = {"RNN": 1, "LSTM": 4, "GRU": 3}[kind] * hidden
    for k in range(cells):
        layer, direction = divmod(k, 1 + bidirectional)
        inputs = hidden * (1 + bidirectional) if layer else size
        shapes = {"weight_ih": (rows, inputs), "weight_hh": (rows, hidden), "bias_ih": (rows,), "bias_hh": (rows,)}
        for name, shape in shapes.items():
            if bias or "weight" in name:
                arrays[f"{name}_l{layer}{'_reverse' * direction}"] = rng.standard_normal(shape)
    return LayerCase(kind, settings, arrays)


def torch_run(torch: Any, call: Any, case: LayerCase) -> Any:
    """`call` of an input and a state, of packed sequences where they have lengths."""
    if case.lengths is None:
        return call
    rnn, first = torch.nn.utils.rnn, case.settings["batch_first"]

    def packed(x: Any, state: Any) -> Any:
        given = rnn.pack_padded_sequence(x, torch.tensor(case.lengths), batch_first=first, enforce_sorted=False)
        y, last = call(given, state)
        return rnn.pad_packed_sequence(y, batch_first=first)[0], last

    return packed


def outputs(run: Any, kind: str, tensors: dict[str, Any], value: Any) -> tuple[list[Any], Any]:
    """What the layer gives, output and last states, and a number that all of them have a part in."""
    state = tuple(tensors[part] for part in "hc" if part in tensors)
    y, last = run(tensors["x"], (state if kind == "LSTM" else state[0]) if state else None)
    outs = [y, *(last if kind == "LSTM" else (last,))]
    return outs, sum((o * value(nn_cases.weights_of(tuple(o.shape)))).sum() for o in outs)


def torch_layer_values(torch: Any, case: LayerCase) -> dict[str, np.ndarray]:
    tensors = {k: torch.tensor(v, requires_grad=True) for k, v in case.arrays.items()}
    layer = getattr(torch.nn, case.kind)(**case.settings, dtype=torch.float64)
    weights = {k: tensors[k] for k, _ in layer.named_parameters()}
    run = lambda x, state: torch.func.functional_call(layer, weights, (x, state))
    outs, total = outputs(torch_run(torch, run, case), case.kind, tensors, torch.tensor)
    total.backward()
    found = {f"out{i}": o for i, o in enumerate(outs)} | {k: t.grad for k, t in tensors.items()}
    return {k: v.detach().numpy() for k, v in found.items()}
