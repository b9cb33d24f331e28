"""The optimizers: for each rule its options, the state it needs, and the numbers of a step.

Takes what `Optimizer` takes, and options, which may differ between groups; gives objects with `step`.
Keeping state and writing it is left to `shell`, the formulas to `rules`.
"""

from typing import Any

import numpy as np

from sadl.errors import explain
from sadl.optimizer import rules
from sadl.optimizer.shell import Options, Params, RuleOptimizer, require_below_one


def _option(name: str, doc: str) -> Any:
    def refuse(self: Any, value: Any) -> None:
        what = f"{name} is fixed once and for all, as programs and the state are made for it"
        instead = f"another optimizer made with {name}={value!r}, and load_state of this one's get_state"
        raise AttributeError(explain(type(self).__name__, what, instead))

    return property(lambda self: self.options[name], refuse, doc=doc + " Groups may have their own.")


class SGD(RuleOptimizer):
    """Stochastic gradient descent; the rule is `rules.sgd`.

    Args:
        params, lr: as for `Optimizer`.
        momentum: how much of the last update goes on, >= 0. It and the following are fixed once and for all.
        nesterov: look ahead by the momentum; needs momentum.
        weight_decay: adds weight_decay * parameter to the gradient, >= 0.
    """

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)

    rule = staticmethod(rules.sgd)
    momentum = _option("momentum", "How much of the last update goes on.")
    nesterov = _option("nesterov", "Whether to look ahead by the momentum.")
    weight_decay = _option("weight_decay", "What of each parameter is added to its gradient.")

    def _check(self, options: Options) -> None:
        if options["nesterov"] and options["momentum"] == 0:
            raise ValueError(explain("SGD", "nesterov=True with momentum=0.0 is out of range", "a momentum > 0"))

    def _slots(self, options: Options) -> list[str]:
        return ["m"] if options["momentum"] else []


class Adam(RuleOptimizer):
    """Adam; the rule is `rules.adam`.

    Args:
        params, lr: as for `Optimizer`.
        betas: decay of the running means of the gradient and of its square, each in [0, 1). They and the following
            are fixed once and for all.
        eps: keeps the denominator from zero, >= 0.
        weight_decay: adds weight_decay * parameter to the gradient, >= 0.
    Attributes:
        t: the number of steps taken, a float64 Tensor of shape ().
    """

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay)

    rule: Any = staticmethod(rules.adam)
    counts = True
    betas = _option("betas", "Decay of the running means of the gradient and of its square.")
    eps = _option("eps", "What keeps the denominator from zero.")
    weight_decay = _option("weight_decay", "What of each parameter is added to its gradient, or taken from it.")

    def _check(self, options: Options) -> None:
        require_below_one(type(self).__name__, betas=options["betas"])

    def _slots(self, options: Options) -> list[str]:
        return ["m", "v"]

    def _numbers(self, lr: Any, t: Any, options: Options) -> tuple[tuple[Any, ...], Options]:
        b1, b2 = options["betas"]
        return (lr / (1 - b1**t), np.sqrt(1 - b2**t)), options


class AdamW(Adam):
    """Adam with decoupled weight decay; the rule is `rules.adamw`.

    Args:
        params, lr, betas, eps: as for `Adam`.
        weight_decay: each step takes lr * weight_decay * parameter from the parameter, >= 0.
    Attributes:
        t: the number of steps taken, a float64 Tensor of shape ().
    """

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    rule = staticmethod(rules.adamw)

    def _numbers(self, lr: Any, t: Any, options: Options) -> tuple[tuple[Any, ...], Options]:
        return (*super()._numbers(lr, t, options)[0], lr), options


class RMSprop(RuleOptimizer):
    """RMSprop; the rule is `rules.rmsprop`.

    Args:
        params, lr: as for `Optimizer`.
        alpha: decay of the running mean of the squared gradient, in [0, 1). It and the following are fixed once and
            for all.
        eps: keeps the denominator from zero, >= 0.
        weight_decay: adds weight_decay * parameter to the gradient, >= 0.
        momentum: how much of the last update goes on, >= 0.
        centered: divide by an estimate of the standard deviation instead of the root of the mean square.
    """

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(
            params, lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum, centered=centered
        )

    rule = staticmethod(rules.rmsprop)
    alpha = _option("alpha", "Decay of the running mean of the squared gradient.")
    eps = _option("eps", "What keeps the denominator from zero.")
    weight_decay = _option("weight_decay", "What of each parameter is added to its gradient.")
    momentum = _option("momentum", "How much of the last update goes on.")
    centered = _option("centered", "Whether to divide by a standard deviation.")

    def _check(self, options: Options) -> None:
        require_below_one("RMSprop", alpha=options["alpha"])

    def _slots(self, options: Options) -> list[str]:
        return ["v", *(["b"] if options["momentum"] else []), *(["a"] if options["centered"] else [])]


class Adagrad(RuleOptimizer):
    """Adagrad; the rule is `rules.adagrad`.

    Args:
        params, lr: as for `Optimizer`.
        lr_decay: the rate of step t = 0, 1, 2 ... is lr / (1 + t * lr_decay), >= 0. It and the following are fixed
            once and for all.
        weight_decay: adds weight_decay * parameter to the gradient, >= 0.
        initial_accumulator_value: what the sum of squares starts from, >= 0.
        eps: keeps the denominator from zero, >= 0.
    Attributes:
        t: the number of steps taken, a float64 Tensor of shape ().
    """

    def __init__(
        self,
        params: Params,
        lr: Any = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        super().__init__(
            params,
            lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
        )
        for group in self.groups:
            for path in group.params:
                self._state[path]["s"][...] = group.options["initial_accumulator_value"]

    rule = staticmethod(rules.adagrad)
    counts = True
    lr_decay = _option("lr_decay", "How fast the rate falls.")
    weight_decay = _option("weight_decay", "What of each parameter is added to its gradient.")
    initial_accumulator_value = _option("initial_accumulator_value", "What the sum of squares starts from.")
    eps = _option("eps", "What keeps the denominator from zero.")

    def _slots(self, options: Options) -> list[str]:
        return ["s"]

    def _numbers(self, lr: Any, t: Any, options: Options) -> tuple[tuple[Any, ...], Options]:
        constants = {name: options[name] for name in ("eps", "weight_decay")}
        return (lr / (1 + (t - 1) * options["lr_decay"]),), constants


class Lion(RuleOptimizer):
    """Lion; the rule is `rules.lion`.

    Args:
        params, lr: as for `Optimizer`.
        betas: weight of the mean in the update, and decay of the mean, each in [0, 1). They and the following are
            fixed once and for all.
        weight_decay: each step takes lr * weight_decay * parameter from the parameter, >= 0.
    """

    def __init__(
        self, params: Params, lr: Any = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, lr, betas=betas, weight_decay=weight_decay)

    rule = staticmethod(rules.lion)
    betas = _option("betas", "Weight of the mean in the update, and decay of the mean.")
    weight_decay = _option("weight_decay", "What is taken from each parameter, times the rate.")

    def _check(self, options: Options) -> None:
        require_below_one("Lion", betas=options["betas"])

    def _slots(self, options: Options) -> list[str]:
        return ["m"]
