"""Functions of functions beyond the gradient: jvp, jacobian, hessian, hvp, custom_vjp, checkpoint.

Takes functions of arrays, or of nested lists, tuples and dicts of arrays; gives functions or values of the same form.
Everything is made of the sweep and the nodes that `autograd` and `tape` have, so that all of it nests.
"""

import functools
import inspect
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

from sadl.autograd import (
    chosen_arguments,
    grad,
    has_history,
    input_of,
    is_outer,
    let_go,
    pull_back,
    replaced,
    require_floats,
    sweep,
)
from sadl.errors import GradientError, RuleError, ShapeError, StaleValueError, explain
from sadl.op import Op
from sadl.random import noted, rewound
from sadl.tape import (
    MODE,
    Node,
    Traced,
    arrayed,
    check_current,
    enable_grad,
    item_node,
    no_grad,
    plain,
    tick,
    written_at,
)
from sadl.tensor import Tensor, as_recorded
from sadl.tree import LEAF, Structure, flatten, unflatten

# ---- directions, and matrices of derivatives -----------------------------------------------------------------------


def jvp(f: Callable[..., Any], primals: Any, tangents: Any) -> tuple[Any, Any]:
    """`f(*primals)` and its derivative in the direction `tangents`: the Jacobian times them.

    The pullback of `f` is linear in the cotangent, and its own pullback is the derivative (J. Townsend, "A new trick
    for calculating Jacobian vector products", 2017). Costs about three times what `f` does.

    Args:
        primals: a tuple or list of arguments: floating arrays, or nested lists, tuples and dicts of them.
        tangents: the same with the shapes and dtypes of the primals.
    Returns:
        The value and its tangent, which has the form of the value, with None where that is not floating. For complex
        numbers the tangent is dz itself; nothing is conjugated.
    Raises:
        ValueError: a primal is not floating, or a tangent has not the nesting, shape or dtype of its primal.
    """
    xs, vs, structure = _matched(primals, tangents)
    inputs = [input_of(x) for x in xs]
    with enable_grad():
        out = f(*unflatten(structure, inputs))
    outs, out_structure = flatten(out)
    return let_go(out, inputs), unflatten(out_structure, _pushed(outs, inputs, vs))


def _pushed(outs: list[Any], inputs: list[Any], tangents: list[Any]) -> list[Any]:
    """The tangents of `outs`."""
    live = [o for o in outs if has_history(o)]
    own = {x._node for x in inputs}
    outer = any(map(has_history, tangents)) or is_outer({o._node: None for o in live}, own)
    cotangents = [input_of(np.zeros(o.shape, o.dtype)) for o in live]  # any values will do
    with enable_grad():
        grads = pull_back(live, cotangents, inputs, outer=True)
    found = iter(pull_back(grads, tangents, cotangents, outer=MODE.get().grad and outer))
    return [next(found) if has_history(o) else _no_tangent(o) for o in outs]


def _no_tangent(out: Any) -> Any:
    """The tangent of a value that does not depend on the primals."""
    dtype = np.result_type(plain(out))
    return Tensor(np.zeros(np.shape(out), dtype)) if dtype.kind in "fc" else None


def _matched(primals: Any, tangents: Any) -> tuple[list[Any], list[Any], Structure]:
    for name, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, (tuple, list)):
            what = f"{name} is a {type(given).__name__}, not a tuple with one entry for each argument"
            raise TypeError(explain("jvp", what, f"({name},)"))
    xs, structure = flatten(tuple(primals))
    vs, other = flatten(tuple(tangents))
    if structure != other:
        raise GradientError(explain("jvp", "the tangents are not nested like the primals"))
    for i, (x, v) in enumerate(zip(primals, tangents, strict=True)):
        require_floats("jvp", f"primal {i}", x)
        for a, b in zip(flatten(x)[0], flatten(v)[0], strict=True):
            _require_same(f"the tangent of primal {i}", a, b)
    return xs, vs, structure


def _require_same(name: str, x: Any, v: Any) -> None:
    wanted, found = ((np.shape(a), np.result_type(plain(a))) for a in (x, v))
    if wanted != found:
        what = f"{name} is {found[1]} {found[0]}, but the primal is {wanted[1]} {wanted[0]}"
        raise (ShapeError if wanted[0] != found[0] else GradientError)(explain("jvp", what))


def jacobian(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function that gives the derivatives of all elements of `f(*args)` by all elements of the arguments `argnums`.

    For one array out and one in, an array of shape out.shape + in.shape and the dtype of the argument, complex if the
    value is. For nested ones, the form of the value with the form of the argument (for a tuple of `argnums`, a tuple
    of arguments) in place of each leaf. `f` runs once, then one backward for each element of the value.

    A real number's derivatives by complex ones follow the convention of `sadl.grad`. The derivatives of a complex
    number by complex ones exist where `f` is holomorphic, which is checked.
    Raises:
        ValueError: a value is not floating, or not holomorphic; or as `sadl.grad`.
    """

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        chosen = chosen_arguments("jacobian", argnums, args)
        xs, structure = flatten(tuple(args[i] for i in chosen))
        inputs = [input_of(x) for x in xs]
        with enable_grad():
            out = f(*replaced(args, chosen, unflatten(structure, inputs)), **kwargs)
        outs, out_structure = flatten(out)
        blocks = [unflatten(structure, _blocks(o, inputs)) for o in outs]
        return unflatten(out_structure, blocks if isinstance(argnums, tuple) else [b[0] for b in blocks])

    return wrapped


def _blocks(out: Any, inputs: list[Any]) -> list[Any]:
    """The Jacobian of one array by each of the inputs."""
    require_floats("jacobian", "the value", out)
    blocks = _stacked(out, inputs, 1)
    if np.result_type(plain(out)).kind != "c":
        return blocks
    imaginary = _stacked(out, inputs, -1j)  # the imaginary part of y is the real part of -1j * y
    pairs = zip(blocks, imaginary, strict=True)
    return [_holomorphic(a, b) if a.dtype.kind == "c" else a + 1j * b for a, b in pairs]


def _stacked(out: Any, inputs: list[Any], unit: complex) -> list[Any]:
    """What each element of `out` gives as cotangents of the inputs, if its own cotangent is `unit`."""
    shape, rows = np.shape(out), []
    for k in range(np.size(out)):
        seed = np.zeros(np.size(out), np.result_type(plain(out)))
        seed[k] = unit
        rows.append(pull_back([out], [seed.reshape(shape)], inputs))
    if not rows:
        return [Tensor(np.zeros((*shape, *x.shape), x.dtype)) for x in inputs]
    columns = zip(inputs, zip(*rows, strict=True), strict=True)
    return [np.stack(column).reshape((*shape, *x.shape)) for x, column in columns]


def _holomorphic(a: Any, b: Any) -> Any:
    """dy/dz from the gradients of the real and of the imaginary part of y, which agree if it exists."""
    if _differs(-1j * plain(a), plain(b)):
        what = "a complex value by complex arguments has a Jacobian only where it is holomorphic, and it is not here"
        instead = "take real and imaginary parts apart: jacobian(lambda x, y: f(x + 1j * y), (0, 1))"
        raise GradientError(explain("jacobian", what, instead))
    return a


def _differs(a: Any, b: Any) -> bool:
    """Whether two arrays differ by more than rounding; what is no array, or was changed since, is not compared."""
    if not isinstance(a, np.ndarray):
        return False
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return True
    if a.dtype.kind not in "fc" or not a.size:
        return not np.array_equal(a, b)
    scale = np.max(np.abs(a), where=np.isfinite(a), initial=0.0)
    return not np.allclose(a, b, rtol=0, atol=1000 * np.finfo(a.dtype).eps * float(scale), equal_nan=True)


def hessian(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function that gives the second derivatives of the one number that `f` returns, by the arguments `argnums`.

    For an array, of shape in.shape + in.shape; for nested arguments as `jacobian` of `grad`, which it is.
    """
    return jacobian(grad(f, argnums), argnums)


def hvp(f: Callable[..., Any], primals: Any, tangents: Any) -> Any:
    """The Hessian of the one number that `f(*primals)` is, times `tangents`: the derivative of the gradient.

    Args:
        primals: a tuple or list of arguments; the gradient is by all of them.
        tangents: the same with the shapes and dtypes of the primals.
    Returns:
        Something of the form of the one primal, or a tuple for several. The Hessian itself is never made.
    Raises:
        ValueError: as `jvp` and `sadl.grad`.
    """
    argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))
    return jvp(grad(f, argnums), primals, tangents)[1]


def elementwise_grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function that gives the derivative of each element of an elementwise `f` by its own element of the argument.

    It is the gradient of the sum of all elements, whatever `f` is; where arguments broadcast, derivatives add up.
    Raises:
        ValueError: the value is complex; or as `sadl.grad`.
    """
    return grad(lambda *args, **kwargs: np.sum(arrayed(f(*args, **kwargs))), argnums)


# ---- a gradient of one's own ---------------------------------------------------------------------------------------


class _Call(NamedTuple):
    """What is kept of a call, besides the leaves of its arguments and of its residuals."""

    args: Structure
    out: Structure
    residuals: Structure
    n_args: int  # how many leaves the arguments have
    links: list[Any]  # for each leaf of the residuals: which argument ("args", i) or value ("out", i) it is, or None


_BY_KEYWORD = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)


class custom_vjp:
    """Decorator for a function whose gradient is given by hand: `f.defvjp(fwd, bwd)`.

    `fwd(*args)` gives (the value of f, residuals). `bwd(residuals, g)` gives a tuple with one cotangent for each
    parameter of `f`, of the nesting, shapes and dtypes of the argument; None stands for whatever has no gradient.
    `g` has the form of the value, with None where that is not floating, and is read-only. Arguments and value may be
    nested lists, tuples and dicts of arrays; residuals may be anything.

    Where no gradient is wanted, `f` itself runs. Second derivatives are those of `bwd(residuals, g)`; if there is more
    among the residuals than arguments and values, `fwd` runs again for them, and has to give the same.
    Raises:
        ValueError: there is no `defvjp`, or a Tensor that requires a gradient is used without being an argument.
        RuntimeError: `bwd` gives cotangents that do not fit.
    """

    def __init__(self, f: Callable[..., Any]) -> None:
        functools.update_wrapper(self, f, updated=())
        self.f, self.fwd, self.bwd = f, _not_given, _not_given
        self._name = getattr(f, "__name__", repr(f))
        self._signature = inspect.signature(f)
        self._op = Op(self._name, _not_run, "call", pullback=self._pull_back, tested=False)

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Set the two functions that the gradient is made of."""
        self.fwd, self.bwd = fwd, bwd

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a decorator of methods: the instance is the first argument, and has no cotangent."""
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, structure = flatten(self._positional(args, kwargs))
        if not MODE.get().grad or not any(map(has_history, leaves)):
            out = self.f(*unflatten(structure, leaves))
            self._refuse_others(flatten(out)[0])
            return out
        if self.fwd is _not_given:
            raise GradientError(explain(self._name, "this custom_vjp function has no gradient yet", "call its defvjp"))
        check_current(self._name, *leaves)
        return self._recorded(leaves, structure)

    def _positional(self, args: Any, kwargs: Any) -> tuple[Any, ...]:
        bound = self._signature.bind(*args, **kwargs)
        by_keyword = [n for n in bound.arguments if self._signature.parameters[n].kind in _BY_KEYWORD]
        if by_keyword:
            what = f"{', '.join(by_keyword)} can be given by keyword only, but fwd takes all arguments by position"
            raise TypeError(explain(self._name, what))
        bound.apply_defaults()
        return bound.args

    def _recorded(self, leaves: list[Any], structure: Structure) -> Any:
        given, since = [_untracked(x) for x in leaves], tick()
        out, residuals = self._forward(unflatten(structure, given))
        outs, out_structure = flatten(out)
        saved, saved_structure = flatten(residuals)
        self._refuse_others(outs)
        _require_unwritten(self._name, given, since)
        known = {id(x): ("out", i) for i, x in enumerate(outs)} | {id(x): ("args", i) for i, x in enumerate(given)}
        links = [known.get(id(x)) if _is_floating(x) else None for x in saved]
        call = _Call(structure, out_structure, saved_structure, len(leaves), links)
        inputs = [plain(x) for x in (*given, *saved)]
        parents = [x._node if has_history(x) else None for x in leaves] + [None] * len(saved)
        return unflatten(out_structure, _results(self._op, inputs, parents, {"call": call}, outs))

    def _forward(self, args: Any) -> Any:
        pair = self.fwd(*args)
        if not isinstance(pair, tuple) or len(pair) != 2:
            self._blame(f"fwd must give a pair (value, residuals), but gave {type(pair).__name__}")
        return pair

    def _refuse_others(self, outs: list[Any]) -> None:
        """The arguments have no history here, so that a value with one has it from somewhere else."""
        if any(map(has_history, outs)):
            what = "a Tensor that requires a gradient is used without being an argument, so its gradient would be lost"
            raise GradientError(explain(self._name, what, "pass it as an argument"))

    def _pull_back(self, gs: list[Any], out: Any, *inputs: Any, call: _Call) -> list[Any]:
        recorded = any(isinstance(g, Traced) for g in gs)
        args, saved = inputs[: call.n_args], inputs[call.n_args :]
        gs = [_whole(g, o, recorded) for g, o in zip(gs, out, strict=True)]
        if recorded and MODE.get().grad:
            residuals = self._differentiable(args, out, saved, call)
        else:
            residuals = unflatten(call.residuals, saved)
        shares = self._by_leaf(self.bwd(residuals, unflatten(call.out, gs)), args, call.args)
        return [s if s is None else _as_share(s, recorded) for s in shares]

    def _differentiable(self, args: Any, out: Any, saved: Any, call: _Call) -> Any:
        """The residuals as functions of the arguments."""
        linked = {"args": args, "out": out}
        pairs = list(zip(saved, call.links, strict=True))
        if all(link or _is_constant(x) for x, link in pairs):
            return unflatten(call.residuals, [linked[link[0]][link[1]] if link else x for x, link in pairs])
        residuals = self._forward(unflatten(call.args, args))[1]
        again, structure = flatten(residuals)
        if structure != call.residuals or any(map(_differs, saved, again)):
            raise GradientError(_not_the_same(self._name, "fwd gave other residuals"))
        return residuals

    def _by_leaf(self, found: Any, args: Any, structure: Structure) -> list[Any]:
        """The cotangents of the leaves of the arguments, after everything about them was found to fit."""
        n = len(structure[2])
        if not isinstance(found, (tuple, list)) or len(found) != n:
            given = f"{len(found)} of them" if isinstance(found, (tuple, list)) else f"a {type(found).__name__}"
            self._blame(f"bwd must give a tuple with one cotangent for each of {n} arguments, but gave {given}")
        shares: list[Any] = []
        for i, (part, cotangent) in enumerate(zip(structure[2], found, strict=True)):
            try:
                leaves = _spread(part, cotangent)
            except ValueError:
                self._blame(f"the cotangent of argument {i} is not nested like the argument")
            shares += [self._fitting(i, args[k], leaf) for k, leaf in enumerate(leaves, len(shares))]
        return shares

    def _fitting(self, i: int, x: Any, share: Any) -> Any:
        if share is None:
            return None
        if not _is_floating(x):
            self._blame(f"argument {i} is no floating-point array, so its cotangent must be None")
        is_number = isinstance(share, (int, float, complex)) and not hasattr(share, "dtype")
        same_dtype = is_number or not hasattr(x, "dtype") or getattr(share, "dtype", None) == x.dtype
        if np.shape(share) != np.shape(x) or not same_dtype:
            self._blame(f"the cotangent of argument {i} is {_described(share)}, but the argument is {_described(x)}")
        return np.asarray(share, getattr(x, "dtype", None)) if is_number else share

    def _blame(self, what: str) -> None:
        raise RuleError(explain(self._name, what, "correct the functions given to defvjp"))


def _as_share(share: Any, recorded: bool) -> Any:
    """A cotangent as the sweep wants it: a Tensor where it is recorded, a plain array otherwise."""
    if not recorded:
        return np.asarray(plain(share))
    return share if isinstance(share, Traced) else as_recorded(np.asarray(share), None)


def _not_given(*_: Any) -> Any:
    raise AssertionError("defvjp was not called")


def _not_run(*_: Any, **__: Any) -> Any:
    raise AssertionError("this operation was run before it was recorded")


def _untracked(x: Any) -> Any:
    """A Tensor on the memory of `x` without its history."""
    if not has_history(x):
        return x
    recorder = MODE.get().recorder
    if recorder is not None:
        recorder.value(x)  # before another object stands for its memory
    return as_recorded(plain(x), None)


def _is_floating(x: Any) -> bool:
    return isinstance(x, (float, complex)) or (hasattr(x, "dtype") and x.dtype.kind in "fc")


def _is_constant(x: Any) -> bool:
    """Whether it surely holds no floating-point array."""
    return isinstance(x, (int, str, bytes, slice)) or (hasattr(x, "dtype") and not _is_floating(x))


def _described(x: Any) -> str:
    return f"{getattr(x, 'dtype', type(x).__name__)} {np.shape(x)}"


def _whole(g: Any, out: Any, recorded: bool) -> Any:
    """The cotangent of a value, read-only since others may have the same array; None if the value is not floating."""
    if not _is_floating(out):
        return None
    if g is None:
        g = np.zeros(out.shape, out.dtype)
        return as_recorded(g, None) if recorded else g
    if MODE.get().recorder is not None:
        g = np.reshape(g, g.shape)  # a view that the program knows
        plain(g).flags.writeable = False
        return g
    view = np.asarray(plain(g)).view()
    view.flags.writeable = False
    return as_recorded(view, g._node) if recorded else view


def _spread(structure: Structure, value: Any) -> list[Any]:
    """The leaves of `value`, which is nested like `structure` but may have None in place of any part."""
    if structure is None:
        return []
    if structure == LEAF:
        return [value]
    _, keys, children = structure
    if value is None:
        return [leaf for child in children for leaf in _spread(child, None)]
    is_like = isinstance(value, (tuple, list)) if keys is None else isinstance(value, dict) and set(value) == set(keys)
    if not is_like or len(value) != len(children):
        raise ValueError("nested in another way")
    parts = value if keys is None else [value[key] for key in keys]
    return [leaf for child, part in zip(children, parts, strict=True) for leaf in _spread(child, part)]


def _results(op: Op, inputs: list[Any], parents: list[Any], params: dict[str, Any], outs: list[Any]) -> list[Any]:
    """`outs` as the results of one operation on `inputs`; what is not floating stays as it is."""
    outs = [_array(x) if _is_floating(x) else x for x in outs]
    node = Node(op, inputs, parents, params, tuple(map(plain, outs)))
    return [as_recorded(plain(x), item_node(node, i)) if _is_floating(x) else x for i, x in enumerate(outs)]


def _array(x: Any) -> Any:
    """An array; a new one in a program, which tells values apart by their arrays."""
    if not isinstance(x, Traced):
        return np.asarray(x)
    return x if MODE.get().recorder is None else np.reshape(x, x.shape)


def _require_unwritten(name: str, values: Iterable[Any], since: int) -> None:
    if any(written_at(plain(x)) > since for x in values):
        what = "it changes an argument, or a Tensor from outside, in place"
        raise StaleValueError(explain(name, what, "let it change a copy"))


def _not_the_same(name: str, what: str) -> str:
    instead = "draw random numbers from sadl.random or outside, and leave what the function uses as it is"
    return explain(name, f"{what} when it ran again for the backward", instead)


# ---- less memory ---------------------------------------------------------------------------------------------------


class _Again(NamedTuple):
    """What is kept to run a function once more, besides the arrays of its arguments."""

    f: Callable[..., Any]
    structure: Structure
    leaves: list[Any]  # of the arguments; None for those with a history
    others: list[Node]  # from outside, used without being arguments
    random: Any  # the generators that the function drew from, and their states before


class _Run(NamedTuple):
    """What came of running a function on Tensors of its own."""

    outs: list[Any]
    structure: Structure
    own: list[Any]  # the nodes of the arguments' leaves, None for those without a history
    others: list[Node]  # those from outside that it used as well


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function with the values and gradients of `f` that keeps its arguments only, and runs `f` again for a backward.

    Arguments and value may be nested lists, tuples and dicts of arrays; anything else among them is handed on. Tensors
    that `f` uses without their being arguments, such as the Parameters of a model, get their gradients as well. `f`
    must give the same again, which is checked; what it draws from `sadl.random` is the same. It must change nothing
    outside, as that would happen twice: a BatchNorm in training updates its running statistics once more in the
    backward, so leave such layers outside of `f`, or put them into inference mode.

    While `sadl.compile` captures, `f` is captured like any code: what a program keeps is for the compiler to decide.
    Raises:
        RuntimeError: `f` changes an argument in place, or what it uses was changed before the backward.
        ValueError (in the backward): `f` gave another value.
    """

    @functools.wraps(f, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        mode = MODE.get()
        if not mode.grad or mode.recorder is not None:
            return f(*args, **kwargs)
        leaves, structure = flatten((args, kwargs))
        check_current("checkpoint", *leaves)
        since = tick()
        with noted() as random:
            run = _run(f, structure, leaves)
        _require_unwritten("checkpoint", [*leaves, *(n.out for n in run.others)], since)
        inputs = [plain(x) for x in leaves] + [n.out for n in run.others]
        parents = [x._node if has_history(x) else None for x in leaves] + run.others
        again = _Again(f, structure, [None if has_history(x) else x for x in leaves], run.others, random)
        live = [x for x in run.outs if has_history(x)]
        results = iter(_results(_CHECKPOINT, inputs, parents, {"again": again}, live)) if live else iter(())
        return unflatten(run.structure, [next(results) if has_history(x) else x for x in run.outs])

    return wrapped


def _run(f: Callable[..., Any], structure: Structure, leaves: list[Any]) -> _Run:
    """Run `f`, recorded, on Tensors that stand for those with a history among its arguments."""
    given = [input_of(x) if has_history(x) else x for x in leaves]
    own = [x._node if has_history(x) else None for x in given]
    since = tick()
    with enable_grad():
        args, kwargs = unflatten(structure, given)
        out = f(*args, **kwargs)
    outs, out_structure = flatten(out)
    older = _older({x._node for x in outs if has_history(x)}, since) - set(own)
    return _Run(outs, out_structure, own, sorted(older, key=lambda node: node.tick))


def _older(roots: set[Node], since: int) -> set[Node]:
    """The nodes older than `since` that `roots` are, or go back to directly."""
    seen: set[Node] = set()
    stack, older = list(roots), set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.tick < since:
            older.add(node)
        else:
            stack += [parent for parent in node.parents or () if parent is not None]
    return older


def _pull_back_again(gs: list[Any], out: Any, *inputs: Any, again: _Again) -> list[Any]:
    """The gradient of `f` from running it once more, by its arguments and by what it used besides."""
    for x in inputs:
        getattr(x, "nbytes", None)  # raises for one that was changed since
    recorded = any(isinstance(g, Traced) for g in gs)
    leaves = [_tracked(x) if kept is None else kept for kept, x in zip(again.leaves, inputs, strict=False)]
    with rewound(again.random):
        run = _run(again.f, again.structure, leaves)
    live = [x for x in run.outs if has_history(x)]
    if run.others != again.others or len(live) != len(out) or any(map(_differs, out, live)):
        raise GradientError(_not_the_same("checkpoint", "the function gave something else"))
    seeds: dict[Node, Any] = {}
    for x, g in zip(live, gs, strict=True):
        if g is not None:
            seeds[x._node] = g if x._node not in seeds else seeds[x._node] + g
    ends = [*run.own, *run.others]
    with nullcontext() if recorded else no_grad():
        found = sweep(seeds, [n for n in ends if n is not None], recorded)
    return [found.get(n) for n in ends]


_CHECKPOINT = Op("checkpoint", _not_run, "call", pullback=_pull_back_again, tested=False)


def _tracked(x: Any) -> Any:
    return x if has_history(x) else input_of(x)
