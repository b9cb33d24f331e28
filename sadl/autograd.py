"""The backward sweep, and what stands on it: backward, grad, value_and_grad, vjp, check_grads.

Takes recorded Tensors and functions of arrays; calls the rules of the table and gives cotangents.
A rule runs on plain arrays; on Tensors when its own result is to be differentiated or captured.
"""

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np

from sadl.errors import GradientError, RuleError, ShapeError, StaleValueError, explain
from sadl.tape import (
    ALIAS,
    ITEM,
    MODE,
    Node,
    Traced,
    check_current,
    enable_grad,
    item_node,
    no_grad,
    plain,
    version,
    written_at,
    written_last,
)
from sadl.tensor import CpuTensor, Tensor, as_recorded, leaf_node
from sadl.tree import flatten, unflatten

# ---- the sweep -----------------------------------------------------------------------------------------------------


def sweep(seeds: dict[Node, Any], wanted: Iterable[Node] | None = None, recorded: bool = False) -> dict[Node, Any]:
    """Cotangents of the `wanted` nodes (of all leaves and kept nodes if None), from those of the `seeds`.

    `recorded` runs the rules on Tensors, so that what they do is recorded and captured in turn.
    """
    if recorded:
        seeds = {node: g if isinstance(g, Traced) else as_recorded(g, None) for node, g in seeds.items()}
    ends, needed = (set(), None) if wanted is None else _limits(seeds, set(wanted))
    last_write = written_last()
    cotangents, found = dict(seeds), {}
    newest = [(-node.tick, node) for node in seeds]  # a heap: all that leads to a node is newer than the node itself
    heapify(newest)
    while newest:
        node = heappop(newest)[1]
        g, op = cotangents.pop(node), node.op
        if node in ends or (wanted is None and node.tensor is not None):
            found[node] = g
        if op is None or node in ends:
            continue
        inputs, parents, out = node.inputs, node.parents, node.out
        if recorded or last_write > node.tick or inputs is None:
            inputs, out = _values(node, recorded)
        shares = None if op.pullback is None else op.pullback(g, out, *inputs, **node.params)
        rules = op.vjp if shares is None else shares
        if len(rules) < len(parents):
            _require_rules(node, len(rules))
        for i, parent in enumerate(parents):  # written out, since all of a backward's own cost is here
            if parent is None or rules[i] is None or (needed is not None and parent not in needed):
                continue
            share = rules[i](g, out, *inputs, **node.params) if shares is None else shares[i]
            if share is None:
                continue
            raw = node.inputs[i]
            if share.__class__ is not list and (share.shape != raw.shape or share.dtype != raw.dtype):
                share = _fit(share, raw, node)
            if parent in cotangents:
                cotangents[parent] = _add(cotangents[parent], share)
            else:
                cotangents[parent] = share
                heappush(newest, (-parent.tick, parent))
    return found


def reachable(roots: Iterable[Node], ends: set[Node]) -> set[Node]:
    """All nodes on the way back from `roots`, not going past the `ends`."""
    seen = set(roots)
    stack = list(seen)
    while stack:
        node = stack.pop()
        for parent in node.parents or () if node not in ends else ():
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return seen


def _limits(seeds: Iterable[Node], wanted: set[Node]) -> tuple[set[Node], set[Node] | None]:
    """Where a sweep for the `wanted` nodes ends, and what leads to them: None if everything does."""
    nodes = reachable(seeds, wanted)
    if all(node.op is not None or node in wanted for node in nodes):
        return wanted, None
    needed = set(wanted)
    for node in sorted(nodes, key=lambda node: node.tick):
        if any(parent in needed for parent in node.parents or ()):
            needed.add(node)
    return wanted, needed


def _add(a: Any, b: Any) -> Any:
    if isinstance(a, list):  # one cotangent per result of an operation with several
        return [x if y is None else y if x is None else x + y for x, y in zip(a, b, strict=True)]
    return a + b


def _require_rules(node: Node, n: int) -> None:
    """An operation may have more inputs than rules only where these inputs need no gradient."""
    if any(node.parents[n:]):
        what = f"it has {n} gradient rules for {len(node.parents)} inputs"
        raise RuleError(explain(node.op.name, what, "give one per input: None where there is no gradient"))


def _fit(share: Any, raw: Any, node: Node) -> Any:
    """A cotangent summed over the axes that broadcasting had added, and in the dtype of the input."""
    extra = share.ndim - raw.ndim
    if extra < 0 or any(n not in (1, m) for n, m in zip(raw.shape, share.shape[extra:], strict=True)):
        raise RuleError(_blame(node, share, raw))
    if share.shape != raw.shape:
        axes = tuple(range(extra)) + tuple(
            i + extra for i, n in enumerate(raw.shape) if n == 1 and share.shape[i + extra] != 1
        )
        share = np.sum(share, axis=axes, keepdims=True) if axes else share
        share = np.reshape(share, raw.shape)
    if share.dtype == raw.dtype:
        return share
    outs = node.out if isinstance(node.out, tuple) else (node.out,)
    if all(o.dtype == raw.dtype for o in outs):
        raise RuleError(_blame(node, share, raw))
    return share.real.astype(raw.dtype) if share.dtype.kind == "c" != raw.dtype.kind else share.astype(raw.dtype)


def _blame(node: Node, share: Any, raw: Any) -> str:
    what = f"its gradient rule gave {share.dtype} {share.shape} for an input of {raw.dtype} {raw.shape}"
    return explain(node.op.name, what, "correct the rule in sadl/ops (a Python scalar does not change a dtype)")


def _values(node: Node, recorded: bool) -> tuple[list[Any], Any]:
    """The inputs and the output of a node as its rule is to see them."""
    if node.inputs is None:
        what = "the graph of this value was freed by an earlier backward"
        raise GradientError(explain("backward", what, "backward(retain_graph=True) the first time"))
    inputs = [_checked(raw, parent, node) for raw, parent in zip(node.inputs, node.parents, strict=True)]
    outs = node.out if isinstance(node.out, tuple) else (node.out,)
    present = tuple(o if written_at(o) <= node.tick else _Stale(o, node) for o in outs)
    out = present if isinstance(node.out, tuple) else present[0]
    if not recorded:
        return inputs, out
    tensors = [as_recorded(*pair) for pair in zip(inputs, node.parents, strict=True)]
    if isinstance(out, tuple):
        return tensors, tuple(as_recorded(o, item_node(node, i)) for i, o in enumerate(out))
    return tensors, as_recorded(out, node)


def written_at_any(out: Any) -> int:
    return max(map(written_at, out), default=0) if isinstance(out, tuple) else written_at(out)


def _checked(raw: Any, parent: Node | None, node: Node) -> Any:
    when = written_at(raw)
    if not when:
        return raw
    if parent is not None and parent.op is not None and parent.tick < when <= node.tick:
        what = "an input shares memory with a Tensor that was changed in place before this use, which was not recorded"
        raise StaleValueError(explain(node.op.name, what, "change a copy: t = t.copy()"))
    return raw if when <= node.tick else _Stale(raw, node)


class _Stale:
    """Stands for a value that is no longer there: its shape and dtype may be read, its elements not."""

    def __init__(self, array: Any, node: Node) -> None:
        self.shape, self.dtype, self.ndim, self.size, self._node = (
            array.shape,
            array.dtype,
            array.ndim,
            array.size,
            node,
        )

    def _fail(self, *_: Any, **__: Any) -> Any:
        what = "a value that its gradient needs was changed in place after it had been used"
        raise StaleValueError(explain(self._node.op.name, what, "change a copy: t = t.copy(), or change it earlier"))

    __getattr__ = __array__ = __array_ufunc__ = __array_function__ = __getitem__ = _fail
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _fail
    __neg__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = __eq__ = __ne__ = _fail
    __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __len__ = _fail


# ---- t.backward() --------------------------------------------------------------------------------------------------


def backward(
    loss: Any, grad: Any = None, *, retain_graph: bool = False, create_graph: bool = False, leaves: bool = True
) -> None:
    """Add the gradient of `loss` to `.grad` of every leaf that requires one and every Tensor with `keep_grad`.

    Args:
        loss: a Tensor made from Tensors that require a gradient; of size 1 unless `grad` is given.
        grad: the cotangent of `loss`, of its shape; ones if None.
        retain_graph: keep what the graph needs for a second backward from this same Tensor.
        create_graph: record the backward itself, so that `.grad` can be differentiated; then `.grad` is a Tensor.
        leaves: also fill leaves without `keep_grad`.
    Raises:
        ValueError: `loss` has no graph, was used already, or is not of size 1.
    """
    if not isinstance(loss, Tensor) or loss._node is None:
        what = "this value does not depend on anything that requires a gradient"
        raise GradientError(
            explain("backward", what, "make the inputs with requires_grad=True, outside sadl.no_grad()")
        )
    seed = _seed(loss, grad)
    require_current(loss._node)
    recorded = create_graph or MODE.get().recorder is not None
    with enable_grad() if create_graph else no_grad():
        found = sweep({loss._node: seed}, recorded=recorded)
        _accumulate(found, recorded, leaves, seed)
    if not (retain_graph or create_graph) and loss._node.op is not None:
        loss._node.inputs = loss._node.parents = None  # whatever only this loss held is freed with it


def _seed(value: Any, grad: Any) -> Any:
    if grad is None:
        if value.dtype.kind != "f":
            what = f"gradients start from a real floating number, found {value.dtype}"
            raise GradientError(explain("backward", what, "np.real(z), np.abs(z), or x.astype(float)"))
        if value.size != 1:
            what = f"gradients start from one number, found shape {value.shape}"
            raise GradientError(explain("backward", what, "reduce it (loss.mean()), or pass its cotangent"))
        return _ones(value)
    if np.shape(grad) != value.shape:
        raise ShapeError(explain("backward", f"cotangent of shape {np.shape(grad)} for a value of shape {value.shape}"))
    return grad if isinstance(grad, Tensor) and grad.dtype == value.dtype else np.asarray(plain(grad), value.dtype)


def _ones(value: Any) -> Any:
    """The cotangent of one number by itself; a constant in a program, where an array were an input made anew."""
    if MODE.get().recorder is None or not isinstance(value, Tensor):
        return np.ones(np.shape(value), np.result_type(plain(value)))
    with no_grad():
        return np.ones_like(value)


def require_current(node: Node) -> None:
    """The gradient is by what a Tensor was when it was computed; that must be what it is now."""
    if node.op is not None and written_at_any(node.out) > node.tick:
        what = "the value to be differentiated was changed in place since, which was not recorded"
        raise StaleValueError(explain("backward", what, "change a copy: t = t.copy()"))


def _accumulate(found: dict[Node, Any], recorded: bool, leaves: bool, seed: Any) -> None:
    given = {id(plain(seed))}
    for node, g in found.items():
        tensor = node.tensor()
        if tensor is None or not (tensor.keep_grad or leaves):
            continue
        held = tensor.grad
        if held is not None:
            g = held + g
        if MODE.get().recorder is None:
            g = _own(g, given)
        tensor.grad = g


def _own(g: Any, given: set[int]) -> Any:
    """`g` as an array that nothing else shares: rules may pass the same array on to several inputs, or a view."""
    g = g if isinstance(g, Traced) else np.asarray(g)
    raw = plain(g)
    if id(raw) in given or raw.base is not None:
        g = g.copy()
    given.add(id(plain(g)))
    return g


def _backward_method(self: Any, grad: Any = None, *, retain_graph: bool = False, create_graph: bool = False) -> None:
    backward(self, grad, retain_graph=retain_graph, create_graph=create_graph)


_backward_method.__doc__ = backward.__doc__
Tensor.backward = _backward_method  # type: ignore[attr-defined]


# ---- functions of functions ----------------------------------------------------------------------------------------


def vjp(f: Callable[..., Any], *args: Any) -> tuple[Any, Callable[[Any], Any]]:
    """`f(*args)` and its pullback, which takes a cotangent like the output and gives one like each argument.

    Arguments and output may be nested lists, tuples and dicts of arrays. Where the surroundings are themselves
    differentiated, the cotangents can be differentiated again.
    """
    leaves, structure = flatten(args)
    inputs = [input_of(x) for x in leaves]
    with enable_grad():
        out = f(*unflatten(structure, inputs))
    outs, out_structure = flatten(out)

    def pullback(cotangent: Any) -> Any:
        cotangents, _ = flatten(cotangent)
        if len(cotangents) != len(outs):
            raise GradientError(explain("vjp", f"{len(cotangents)} cotangents for {len(outs)} outputs"))
        found = pull_back(outs, cotangents, inputs)
        grads = unflatten(structure, found)
        return grads

    return unflatten(out_structure, outs), pullback


def input_of(x: Any) -> Any:
    """A Tensor on the memory of `x` with a node of its own, linked to that of `x`."""
    if not hasattr(x, "dtype") and not isinstance(x, (float, complex)):
        return x
    raw = plain(x) if isinstance(x, Traced) else np.asarray(x)
    if raw.dtype.kind not in "fc":
        return x
    recorder = MODE.get().recorder
    if recorder is not None:
        recorder.value(x)  # what a program reads on each call is the caller's own object, not the Tensor made here
    tensor = np.ndarray.view(raw, CpuTensor)
    tensor._raw, tensor._version = raw, version(raw)
    parent = x._node if isinstance(x, Traced) and MODE.get().grad else None
    if parent is not None:
        check_current("vjp", x)
    tensor._node = leaf_node(tensor) if parent is None else Node(ALIAS, [raw], [parent], {}, raw)
    return tensor


def pull_back(outs: list[Any], cotangents: list[Any], inputs: list[Any], outer: bool | None = None) -> list[Any]:
    """Cotangents of `inputs` from those of `outs`; `outer`: whether they are to be differentiated, if that is known."""
    wanted = [x._node for x in inputs if isinstance(x, Tensor) and x._node is not None]
    seeds: dict[Node, Any] = {}
    for out, cotangent in zip(outs, cotangents, strict=True):
        if isinstance(out, Tensor) and out._node is not None:
            seed = _seed(out, cotangent)
            require_current(out._node)
            seeds[out._node] = seed if out._node not in seeds else seeds[out._node] + seed
    mode = MODE.get()
    outer = mode.grad and is_outer(seeds, set(wanted)) if outer is None else outer
    recorded = outer or mode.recorder is not None
    with enable_grad() if outer else no_grad():
        found = sweep(seeds, wanted, recorded)
    given = {id(plain(g)) for g in seeds.values()}
    return [cotangent_of(x, found, given) for x in inputs]


def is_outer(seeds: dict[Node, Any], wanted: set[Node]) -> bool:
    """Whether somebody outside may differentiate the cotangents: they depend on nodes that are not our own."""
    if any(isinstance(g, Traced) and g._node is not None for g in seeds.values()):
        return True
    nodes = reachable(seeds, wanted)
    return any(n.op is None and n not in wanted for n in nodes) or any(n.op is ALIAS for n in wanted)


def cotangent_of(x: Any, found: dict[Node, Any], given: set[int]) -> Any:
    if not isinstance(x, Tensor) or x._node is None:
        return None
    g = found.get(x._node)
    if g is None:
        return x._wrap(np.zeros_like(x._raw))
    g = _own(g, given)
    return g if isinstance(g, Tensor) else x._wrap(g)


def let_go(values: Any, inputs: list[Any]) -> Any:
    """`values` (nested) without their history, unless it leads to something other than our own `inputs`."""
    leaves, structure = flatten(values)
    own = {x._node for x in inputs if isinstance(x, Tensor)}
    if is_outer({x._node: None for x in leaves if has_history(x)}, own):
        return values
    return unflatten(structure, [as_recorded(x._raw, None) if has_history(x) else x for x in leaves])


def has_history(x: Any) -> bool:
    return isinstance(x, Tensor) and x._node is not None


def value_and_grad(
    f: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """A function that gives (f(*args), its gradient by the arguments `argnums`).

    `f` returns one number; an argument may be an array or a nested list, tuple or dict of arrays, and its gradient
    has the same form. For a tuple of `argnums` the gradient is a tuple; negative ones count from the last argument.
    With `has_aux`, `f` returns (the number, anything else), and the result is ((f's number, anything else), gradient).
    Raises:
        ValueError: the value is not of size 1, or an argument is not there, named twice, or not floating.
    """

    def wrapped(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        chosen = chosen_arguments("grad", argnums, args)
        inputs: list[Any] = []
        aux: list[Any] = []

        def of_chosen(*xs: Any) -> Any:
            inputs[:] = flatten(xs)[0]
            out = f(*replaced(args, chosen, xs), **kwargs)
            if not has_aux:
                return out
            value, more = _pair(out)
            aux.append(more)
            return value

        value, pullback = vjp(of_chosen, *(args[i] for i in chosen))
        if np.size(value) != 1 or getattr(value, "dtype", np.dtype(type(value))).kind != "f":
            what = f"the function must return one number, real and floating, found {_described(value)}"
            raise GradientError(explain("grad", what, "reduce it, or use sadl.vjp"))
        grads = pullback(_ones(value))
        value, *aux = let_go([value, *aux], inputs)
        return (value, aux[0]) if has_aux else value, grads if isinstance(argnums, tuple) else grads[0]

    return wrapped


def _described(value: Any) -> str:
    return f"{value.dtype} of shape {value.shape}" if hasattr(value, "dtype") else f"a {type(value).__name__}"


def _pair(out: Any) -> Any:
    if not isinstance(out, tuple) or len(out) != 2:
        what = f"with has_aux=True the function must return a pair (value, aux), found {type(out).__name__}"
        raise GradientError(explain("grad", what))
    return out


def chosen_arguments(who: str, argnums: int | tuple[int, ...], args: tuple[Any, ...]) -> tuple[int, ...]:
    """The positions that `argnums` names, counted from 0; errors if one is not there, named twice or not floating."""
    given = argnums if isinstance(argnums, tuple) else (argnums,)
    if not all(isinstance(i, (int, np.integer)) for i in given):
        raise TypeError(explain(who, f"argnums is an integer or a tuple of them, found {argnums!r}"))
    for i in given:
        if not -len(args) <= i < len(args):
            raise GradientError(explain(who, f"argnums names argument {i}, but {len(args)} were given"))
    chosen = tuple(i % len(args) for i in given)
    for i in chosen:
        if chosen.count(i) > 1:
            raise GradientError(explain(who, f"argnums={argnums} names argument {i} twice"))
        require_floats(who, f"argument {i}", args[i])
    return chosen


def require_floats(who: str, name: str, tree: Any) -> None:
    """Raise if a leaf of `tree` is not floating; `name` says in the message which argument it is."""
    for leaf in flatten(tree)[0]:
        dtype = np.result_type(plain(leaf))
        if dtype.kind not in "fc":
            what = f"{name} is {dtype}, and only floating-point values have a gradient"
            raise GradientError(explain(who, what, "convert with .astype(np.float32), or hold it constant"))


def replaced(args: tuple[Any, ...], chosen: tuple[int, ...], values: Any) -> list[Any]:
    """`args` with `values` at the positions `chosen`."""
    full = list(args)
    for i, value in zip(chosen, values, strict=True):
        full[i] = value
    return full


def grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that gives the gradient of `f` by the arguments `argnums`; see `value_and_grad`.

    With `has_aux`, `f` returns (the number, anything else), and the result is (gradient, anything else).
    """
    both = value_and_grad(f, argnums, has_aux)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapped


# ---- checking ------------------------------------------------------------------------------------------------------


def check_grads(
    f: Callable[..., Any], args: tuple[Any, ...], order: int = 2, *, rtol: float | None = None, seed: int = 0
) -> None:
    """Compare the gradients of `f` at `args`, up to `order`, with central differences in random directions.

    Args:
        f: a function of arrays that returns an array or a nested list, tuple or dict of arrays.
        args: floating arrays, or nested lists, tuples and dicts of them.
        rtol: relative tolerance; 2e-5 for float64 and 2e-2 for float32 if None.
    Raises:
        AssertionError: a gradient is wrong, or has not the shape and dtype of its argument.
    """
    rng = np.random.default_rng(seed)
    leaves, structure = flatten(args)
    leaves = [np.asarray(plain(x)) for x in leaves]
    flat = lambda *xs: f(*unflatten(structure, xs))
    _check_order(flat, leaves, order, rtol, rng, "")


def _check_order(
    f: Callable[..., Any], xs: list[Any], order: int, rtol: float | None, rng: "np.random.Generator", of: str
) -> None:
    out, pullback = vjp(f, *xs)
    outs, ct_structure = flatten(out)
    cts = [_like(rng, o) for o in outs]
    of = of or f" of {_ops_behind(outs)}"
    grads = pullback(unflatten(ct_structure, cts))
    for x, g in zip(xs, grads, strict=True):
        assert (g.shape, g.dtype) == (x.shape, x.dtype), f"gradient{of}: {g.dtype} {g.shape}, not {x.dtype} {x.shape}"
    _compare(f, xs, cts, grads, rtol, rng, of)
    if order > 1:
        n = len(xs)
        second = lambda *ys: vjp(f, *ys[:n])[1](unflatten(ct_structure, ys[n:]))
        _check_order(second, [*xs, *cts], order - 1, rtol, rng, f" of the gradient{of}")


def _compare(f: Any, xs: Any, cts: Any, grads: Any, rtol: float | None, rng: "np.random.Generator", of: str) -> None:
    coarse = any(x.dtype.kind in "fc" and np.finfo(x.dtype).eps > 1e-10 for x in (*xs, *cts))
    eps, rtol = (1e-2, rtol or 2e-2) if coarse else (1e-6, rtol or 2e-5)
    directions = [_like(rng, x) for x in xs]
    up, down = (flatten(f(*(x + s * d for x, d in zip(xs, directions, strict=True))))[0] for s in (eps, -eps))
    steps = [(np.asarray(plain(u)) - np.asarray(plain(v))) / (2 * eps) for u, v in zip(up, down, strict=True)]
    numeric = sum(_dot(c, s) for c, s in zip(cts, steps, strict=True))
    analytic = sum(_dot(g, d) for g, d in zip(grads, directions, strict=True))
    scale = 1 + sum(abs(_dot(abs(np.asarray(plain(g))), abs(d))) for g, d in zip(grads, directions, strict=True))
    error = abs(numeric - analytic)
    assert error <= rtol * scale, f"gradient{of}: {analytic} by the rules, {numeric} by differences"


def _ops_behind(outs: list[Any]) -> str:
    """The names of the operations that made `outs`, for the message that one of their rules is wrong."""
    nodes = reachable([o._node for o in outs if isinstance(o, Traced) and o._node is not None], set())
    ordered = sorted((n for n in nodes if n.op not in (None, ALIAS, ITEM)), key=lambda node: node.tick)
    return ", ".join(dict.fromkeys(n.op.name for n in ordered)) or "a constant"


def _dot(a: Any, b: Any) -> float:
    return float(np.sum(np.asarray(plain(a)) * np.asarray(plain(b))).real)


def _like(rng: "np.random.Generator", x: Any) -> np.ndarray:
    return np.asarray(rng.standard_normal(np.shape(x)), dtype=x.dtype)
