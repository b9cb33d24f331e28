"""Schedules: how learning rates change over time, in the closed forms that torch.optim.lr_scheduler documents.

Takes an optimizer; `step()` counts in a Tensor and writes the rates into the optimizer's own, outside of a compiled
step or within one, which stays the same program. When to step (per batch or per epoch) is left to the caller.
"""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sadl.creation import tensor
from sadl.errors import explain
from sadl.function import copy_state, snapshot
from sadl.functional.checks import number
from sadl.ops.checking import require_number
from sadl.optimizer import Optimizer
from sadl.tape import MODE, no_grad


class Schedule(ABC):
    """Sets the rates of an optimizer and its groups as a function of the number of steps; a subclass says which.

    The first rates are set at once, for t = 0. What the rate was before the first schedule of an optimizer is the base
    of all of them; `optimizer.lr = 0.1` gives the next schedule another base, and is overwritten by the next step.

    Args:
        optimizer: an Optimizer; groups with a rate of their own have a base of their own.
    Attributes:
        t: the number of steps taken, an int64 Tensor ().
        base: the rates that those of all steps are computed from, a float64 Tensor (n,): that of the optimizer, then
            those of its groups with one of their own.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                explain(type(self).__name__, f"a {type(optimizer).__name__} is no Optimizer", "sadl.SGD(model)")
            )
        self.optimizer = optimizer
        own = [group for group in optimizer.groups if group.lr is not optimizer.lr]
        self._rated = [optimizer, *own]
        self.t = tensor(0, dtype=np.int64)
        self.base = tensor([vars(x.lr).setdefault("initial", float(x.lr)) for x in self._rated], dtype=np.float64)
        self._write(0)

    @abstractmethod
    def rates(self, base: list[Any], t: Any) -> list[Any]:
        """The rates after `t` steps: of numbers, or of Tensors () while a program is captured."""

    def step(self) -> None:
        """Go on by one step, and set the rates. Where one of them is none, nothing is changed.

        Raises:
            ValueError: a rate is no finite number >= 0, in programs as well.
        """
        self._write(1)

    def _write(self, steps: int) -> None:
        captured = MODE.get().recorder is not None  # then values cannot be read, and everything is recorded
        with no_grad():
            t = self.t + steps
            base = [self.base[i] for i in range(len(self.base))] if captured else self.base.tolist()
            rates = self.rates(base, t if captured else int(t))
            rates = rates if captured else [float(rate) for rate in rates]
            for rate in rates:
                require_number(type(self).__name__, "the rate", rate)
            self.t[...] = t
            for x, rate in zip(self._rated, rates, strict=True):
                x.lr[...] = rate

    def get_state(self) -> OrderedDict[str, Any]:
        """Copies of `t` and `base`. The rates are in the state of the optimizer."""
        return snapshot({"t": self.t, "base": self.base})

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from where `get_state` was called: in the same Tensors. The rates are left as they are.

        Raises:
            KeyError: keys are missing or unexpected.
            ValueError: an entry has another shape or kind of dtype. Nothing was changed then.
        """
        targets = {"t": self.t, "base": self.base}
        copy_state("load_state", "State", targets, state, match_device=False, partial=False)


class _OneFormula(Schedule):
    """A schedule that computes each rate from its base in the same way."""

    def rates(self, base: list[Any], t: Any) -> list[Any]:
        return [self.rate(b, t) for b in base]

    @abstractmethod
    def rate(self, base: Any, t: Any) -> Any:
        """One of the `rates`."""


class StepLR(_OneFormula):
    """base * gamma ** (t // step_size): times `gamma` every `step_size` steps."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = _count(self, "step_size", step_size)
        self.gamma = number(type(self).__name__, "gamma", gamma, 0)
        super().__init__(optimizer)

    def rate(self, base: Any, t: Any) -> Any:
        return base * self.gamma ** (t // self.step_size)


class MultiStepLR(_OneFormula):
    """base * gamma ** (how many milestones are <= t): times `gamma` at each of these steps, which do not fall."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones = _milestones(self, milestones)
        self.gamma = number(type(self).__name__, "gamma", gamma, 0)
        super().__init__(optimizer)

    def rate(self, base: Any, t: Any) -> Any:
        return base * self.gamma ** sum(t >= m for m in self.milestones)


class ExponentialLR(_OneFormula):
    """base * gamma ** t."""

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = number(type(self).__name__, "gamma", gamma, 0)
        super().__init__(optimizer)

    def rate(self, base: Any, t: Any) -> Any:
        return base * self.gamma**t


class CosineAnnealingLR(_OneFormula):
    """eta_min + (base - eta_min) * (1 + cos(pi * t / T_max)) / 2: from `base` to `eta_min` in `T_max` steps, and back.

    Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, equation 5.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max = _count(self, "T_max", T_max)
        self.eta_min = number(type(self).__name__, "eta_min", eta_min, 0)
        super().__init__(optimizer)

    def rate(self, base: Any, t: Any) -> Any:
        return self.eta_min + (base - self.eta_min) * (1 + np.cos(np.pi * t / self.T_max)) / 2


class CosineAnnealingWarmRestarts(_OneFormula):
    """Half waves from `base` to `eta_min`, as in `CosineAnnealingLR`, each of which starts from `base` again: the first
    takes `T_0` steps, each later one `T_mult` times as many as the one before.

    Loshchilov & Hutter, as there, section 3.
    """

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> None:
        self.T_0, self.T_mult = _count(self, "T_0", T_0), _count(self, "T_mult", T_mult)
        self.eta_min = number(type(self).__name__, "eta_min", eta_min, 0)
        lengths = [self.T_0 * self.T_mult**k for k in range(62 if self.T_mult > 1 else 0)]
        self._restarts = np.cumsum([n for n in lengths if n < 2**62])
        super().__init__(optimizer)

    def rate(self, base: Any, t: Any) -> Any:
        start, length = self._cycle(t)
        return self.eta_min + (base - self.eta_min) * (1 + np.cos(np.pi * (t - start) / length)) / 2

    def _cycle(self, t: Any) -> tuple[Any, Any]:
        """Where the half wave of step `t` starts, and how long it is."""
        if self.T_mult == 1:
            return t - t % self.T_0, self.T_0
        length = self.T_0 * self.T_mult ** np.searchsorted(self._restarts, t, side="right")
        return (length - self.T_0) // (self.T_mult - 1), length


class LinearLR(_OneFormula):
    """base times a factor that goes from `start_factor` to `end_factor` in `total_iters` steps, and stays there."""

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        self.start_factor = number(type(self).__name__, "start_factor", start_factor, 0)
        self.end_factor = number(type(self).__name__, "end_factor", end_factor, 0)
        self.total_iters = _count(self, "total_iters", total_iters)
        super().__init__(optimizer)

    def rate(self, base: Any, t: Any) -> Any:
        done = np.minimum(t, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * done)


class LambdaLR(Schedule):
    """base times what a function gives for t.

    Args:
        lr_lambda: a function of `t`, an integer, or a list of them: one for each entry of `base`. In a compiled
            function, `step` gives it a Tensor () of int64, for which it may use `np.*` only:
            `lambda t: np.minimum(1, t / 10)`. A function that decides in Python (`if t < 10`) raises an error there;
            call `step` outside.
    Raises:
        ValueError: another number of functions than of rates; a rate that is no finite number >= 0.
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[Any], Any] | Sequence[Callable[[Any], Any]]) -> None:
        self.lr_lambda = lr_lambda
        super().__init__(optimizer)

    def rates(self, base: list[Any], t: Any) -> list[Any]:
        functions = [self.lr_lambda] * len(base) if callable(self.lr_lambda) else self.lr_lambda
        if not isinstance(functions, Sequence) or not all(map(callable, functions)):
            what = f"lr_lambda={functions!r} is no function"
            raise TypeError(explain("LambdaLR", what, "a function of the step, or a list of them"))
        if len(functions) != len(base):
            what = f"{len(functions)} functions were given for {len(base)} rates"
            raise ValueError(explain("LambdaLR", what, "one function for all, or one for each entry of `base`"))
        return [b * self._factor(function(t)) for b, function in zip(base, functions, strict=True)]

    def _factor(self, value: Any) -> Any:
        if not isinstance(value, (int, float, np.number, np.ndarray)):
            raise TypeError(explain("LambdaLR", f"lr_lambda gave {value!r}", "a number for each step"))
        return value


class SequentialLR(Schedule):
    """Several schedules one after the other, each counting from its own start.

    Args:
        schedules: Schedules over the same optimizer. What they count themselves does not matter.
        milestones: at which steps the second and all later ones start; one fewer than there are schedules.
    """

    def __init__(self, optimizer: Optimizer, schedules: Sequence[Schedule], milestones: Sequence[int]) -> None:
        self.schedules, self.milestones = _listed(self, "schedules", schedules), _milestones(self, milestones)
        others = [type(s).__name__ for s in self.schedules if not isinstance(s, Schedule)]
        if others:
            raise TypeError(explain("SequentialLR", f"no schedules: {', '.join(others)}", "objects of sadl.schedules"))
        if len(self.schedules) != len(self.milestones) + 1:
            what = f"{len(self.schedules)} schedules and {len(self.milestones)} milestones were given"
            raise ValueError(explain("SequentialLR", what, "a milestone for each schedule but the first"))
        if any(s.optimizer is not optimizer for s in self.schedules):
            raise ValueError(explain("SequentialLR", "a schedule is over another optimizer", "one optimizer for all"))
        super().__init__(optimizer)

    def rates(self, base: list[Any], t: Any) -> list[Any]:
        starts = [0, *self.milestones]
        if isinstance(t, int):
            i = bisect_right(self.milestones, t)
            return self.schedules[i].rates(base, t - starts[i])
        chosen, *later = [
            s.rates(base, np.maximum(t - start, 0)) for s, start in zip(self.schedules, starts, strict=True)
        ]
        for start, rates in zip(self.milestones, later, strict=True):
            chosen = [np.where(t >= start, new, old) for new, old in zip(rates, chosen, strict=True)]
        return chosen


# ---- checking what was given ---------------------------------------------------------------------------------------


def _count(schedule: Schedule, name: str, value: Any) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise ValueError(explain(type(schedule).__name__, f"{name}={value!r} is out of range", "an integer >= 1"))
    return int(value)


def _listed(schedule: Schedule, name: str, values: Any) -> list[Any]:
    if not isinstance(values, (Sequence, np.ndarray)):
        raise TypeError(explain(type(schedule).__name__, f"{name}={values!r} is no list", f"{name}=[...]"))
    return list(values)


def _milestones(schedule: Schedule, milestones: Sequence[int]) -> list[int]:
    found = [_count(schedule, "milestones", m) for m in _listed(schedule, "milestones", milestones)]
    if found != sorted(found):
        raise ValueError(explain(type(schedule).__name__, f"milestones={found} are not in order", "sorted(milestones)"))
    return found
