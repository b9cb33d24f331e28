"""Reference values from torch: `python tests/make_reference.py [FAMILY ...]` writes tests/reference/<family>.npz.

Takes torch where it is installed; gives for each family a mapping of names to float64 arrays.
Tests ask `reference(family)`, which computes the values with torch where it is, and else reads the file.
"""

import json
import math
import sys
from pathlib import Path

import nn_cases
import numpy as np
import window_cases

FOLDER = Path(__file__).parent / "reference"
FAMILIES = {}


def family(make):
    """Decorator: a function without arguments that gives the arrays of the family of its name."""
    FAMILIES[make.__name__] = make
    return make


def reference(name):
    try:
        import torch  # noqa: F401
    except ImportError:
        return stored(name)
    return FAMILIES[name]()


def stored(name):
    """The arrays of a family from its file, which has all numbers in one row, and an index of names and shapes."""
    with np.load(FOLDER / f"{name}.npz") as file:
        index, row = json.loads(str(file["index"])), file["row"]
    ends = np.cumsum([0, *(math.prod(shape) for shape in index.values())])
    return {name: row[a:b].reshape(index[name]) for name, a, b in zip(index, ends, ends[1:], strict=False)}


def store(name):
    found = {key: np.asarray(value, np.float64) for key, value in FAMILIES[name]().items()}
    index = json.dumps({key: value.shape for key, value in found.items()})
    path = FOLDER / f"{name}.npz"
    np.savez_compressed(path, index=index, row=np.concatenate([value.ravel() for value in found.values()]))
    print(f"{name}: {path.stat().st_size} bytes")


# ---- optimizers ----------------------------------------------------------------------------------------------------

OPTIMIZERS = [  # a class, its options, and those of the second parameter alone, which is in a group of its own then
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "weight_decay": 0.01}),
    ("SGD", {"momentum": 0.8, "nesterov": True, "weight_decay": 0.02}),
    ("Adam", {}),
    ("Adam", {"betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    ("AdamW", {}),
    ("AdamW", {"betas": (0.7, 0.95), "eps": 1e-5, "weight_decay": 0.3}),
    ("RMSprop", {}),
    ("RMSprop", {"alpha": 0.9, "eps": 1e-4, "weight_decay": 0.05, "momentum": 0.7}),
    ("RMSprop", {"alpha": 0.8, "momentum": 0.5, "centered": True}),
    ("RMSprop", {"centered": True, "weight_decay": 0.01}),
    ("Adagrad", {}),
    ("Adagrad", {"lr_decay": 0.1, "weight_decay": 0.02, "initial_accumulator_value": 0.3, "eps": 1e-6}),
    ("Lion", {}),
    ("Lion", {"betas": (0.8, 0.9), "weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9}, {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1}),
    ("Adam", {"weight_decay": 0.1}, {"lr": 0.01, "betas": (0.5, 0.8), "weight_decay": 0.0}),
    ("AdamW", {}, {"lr": 0.1, "eps": 1e-4}),
    ("RMSprop", {"momentum": 0.5}, {"lr": 0.01, "alpha": 0.8, "centered": True}),
    ("Adagrad", {}, {"lr": 0.2, "lr_decay": 0.3}),
    ("Lion", {"weight_decay": 0.2}, {"lr": 0.01, "betas": (0.7, 0.8)}),
]
OPTIMIZER_LR, OPTIMIZER_STEPS = 0.03, 10


def optimizer_name(case):
    return f"{case[0]}{''.join(str(sorted(options.items())) for options in case[1:])}"


def in_groups(case, params):
    """What the optimizer of a case is given."""
    return params if len(case) == 2 else [{"params": params[:1]}, {"params": params[1:], **case[2]}]


def optimizer_problem():
    """Two parameters, the coefficients of a function of them, and the gradient of that: 2 a sin(p)**2 + b p, summed."""
    rng = np.random.default_rng(0)
    return [tuple(rng.standard_normal(shape) for _ in range(3)) for shape in ((3, 4), (5,))]


@family
def optimizers():
    import torch

    found = {}
    for case in OPTIMIZERS:
        problem = [tuple(map(torch.tensor, row)) for row in optimizer_problem()]
        params = [p.clone().requires_grad_() for p, _, _ in problem]
        optimizer = getattr(torch.optim, case[0], None) or _lion(torch)
        optimizer = optimizer(in_groups(case, params), lr=OPTIMIZER_LR, **case[1])
        for step in range(OPTIMIZER_STEPS):
            optimizer.zero_grad()
            sum(
                (2 * a * torch.sin(p) ** 2 + b * p).sum() for p, (_, a, b) in zip(params, problem, strict=True)
            ).backward()
            optimizer.step()
            for i, p in enumerate(params):
                found[f"{optimizer_name(case)}/{i}/{step}"] = p.detach().numpy().copy()
    return found


def _lion(torch):
    """torch has no Lion: that of Chen et al., 2023, algorithm 2, in NumPy."""

    class Lion(torch.optim.Optimizer):
        def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0.0):
            super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

        def step(self):
            for group in self.param_groups:
                lr, (b1, b2) = group["lr"], group["betas"]
                for p in group["params"]:
                    theta, g = p.detach().numpy(), p.grad.numpy()
                    m = self.state[p].setdefault("m", np.zeros_like(g))
                    c = b1 * m + (1 - b1) * g
                    theta -= lr * (np.sign(c) + group["weight_decay"] * theta)
                    m[...] = b2 * m + (1 - b2) * g

    return Lion


@family
def gradient_clipping():
    import torch

    found = {}
    for max_norm in (0.1, 2.0, 100.0):
        for norm_type in (1.0, 2.0, 3.0, float("inf")):
            params = [torch.tensor(p).requires_grad_() for p, _, _ in optimizer_problem()]
            for p, (_, a, _) in zip(params, optimizer_problem(), strict=True):
                p.grad = torch.tensor(a)
            norm = torch.nn.utils.clip_grad_norm_(params, max_norm, norm_type)
            found |= {f"{max_norm}/{norm_type}/{i}": p.grad.numpy() for i, p in enumerate(params)}
            found[f"{max_norm}/{norm_type}/norm"] = norm.numpy()
    for value in (0.2, 5.0):
        params = [torch.tensor(p).requires_grad_() for p, _, _ in optimizer_problem()]
        for p, (_, a, _) in zip(params, optimizer_problem(), strict=True):
            p.grad = torch.tensor(a)
        torch.nn.utils.clip_grad_value_(params, value)
        found |= {f"value {value}/{i}": p.grad.numpy() for i, p in enumerate(params)}
    return found


# ---- functions and layers ------------------------------------------------------------------------------------------


@family
def functions():
    import torch

    return {
        f"{name}/{k}": v
        for name, case in nn_cases.cases().items()
        for k, v in nn_cases.torch_values(torch, case).items()
    }


@family
def layers():
    import torch

    found = {name: nn_cases.torch_training(torch, case) for name, case in nn_cases.layer_cases().items()}
    return {f"{name}/{k}": v for name, values in found.items() for k, v in values.items()}


@family
def windows():
    import torch

    found = {name: window_cases.torch_values(torch, case) for name, case in window_cases.cases().items()}
    return {f"{name}/{k}": v for name, values in found.items() for k, v in values.items()}


@family
def recurrent():
    import torch

    found = {name: window_cases.torch_layer_values(torch, case) for name, case in window_cases.layer_cases().items()}
    return {f"{name}/{k}": v for name, values in found.items() for k, v in values.items()}


# ---- schedules -----------------------------------------------------------------------------------------------------

SCHEDULES = {
    "StepLR": lambda m, o: m.StepLR(o, 3, gamma=0.5),
    "StepLR 1": lambda m, o: m.StepLR(o, 1),
    "MultiStepLR": lambda m, o: m.MultiStepLR(o, [2, 5, 5, 11], gamma=0.3),
    "MultiStepLR []": lambda m, o: m.MultiStepLR(o, []),
    "ExponentialLR": lambda m, o: m.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda m, o: m.CosineAnnealingLR(o, 10, eta_min=0.01),
    "CosineAnnealingLR 25": lambda m, o: m.CosineAnnealingLR(o, 25),
    "CosineAnnealingWarmRestarts": lambda m, o: m.CosineAnnealingWarmRestarts(o, 4),
    "CosineAnnealingWarmRestarts 2": lambda m, o: m.CosineAnnealingWarmRestarts(o, 3, T_mult=2, eta_min=0.02),
    "LinearLR": lambda m, o: m.LinearLR(o),
    "LinearLR down": lambda m, o: m.LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=8),
    "LambdaLR": lambda m, o: m.LambdaLR(o, lambda t: 1 / (1 + 0.3 * t)),
    "LambdaLR 2": lambda m, o: m.LambdaLR(o, [lambda t: 0.9**t, lambda t: np.minimum(1.0, (t + 1) / 7)]),
    "SequentialLR": lambda m, o: m.SequentialLR(
        o,
        [m.LinearLR(o, 0.1, 1.0, 4), m.CosineAnnealingLR(o, 12, eta_min=0.02), m.ExponentialLR(o, 0.8)],
        [4, 15],
    ),
    "SequentialLR 1": lambda m, o: m.SequentialLR(o, [m.StepLR(o, 2, 0.5), m.StepLR(o, 3, 0.7)], [1]),
}
SCHEDULE_STEPS = 21  # the recursive form of the cosine in torch goes astray behind 2 T_max


@family
def schedules():
    """The two rates of an optimizer with groups, at the start and after each step: (steps + 1, 2)."""
    import torch

    found = {}
    for name, make in SCHEDULES.items():
        a, b = (torch.zeros(1, requires_grad=True) for _ in range(2))
        optimizer = torch.optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.4}], lr=0.1)
        schedule = make(torch.optim.lr_scheduler, optimizer)
        rates = [[group["lr"] for group in optimizer.param_groups]]
        for _ in range(SCHEDULE_STEPS):
            optimizer.step()
            schedule.step()
            rates.append([group["lr"] for group in optimizer.param_groups])
        found[name] = np.array(rates)
    return found


# ---- whole training steps ------------------------------------------------------------------------------------------


@family
def training_steps():
    """The losses of the first ten steps of each workload of the benchmarks."""
    sys.path.insert(0, str(FOLDER.parents[1] / "benchmarks"))
    import workloads

    found = {}
    for name in workloads.WORKLOADS:
        run = workloads.step("torch", name)
        found[name] = np.array([run() for _ in range(10)])
    return found


def main():
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or FAMILIES:
        store(name)


if __name__ == "__main__":
    main()
