"""Writes docs/coverage.md: which NumPy functions have a gradient, to which order, and what they become when compiled.

    python tests/coverage_page.py            writes the page
    python tests/coverage_page.py --check    fails if the page is not what it would write

Everything on the page is found out by trying: gradients by differences, kernels by compiling, the rest from the tables.
"""

import contextlib
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.testing import overrides
from numpy_rows import DECIDES, ROWS
from test_numpy import both
from test_protocol import CALLS, is_float, over_arrays, plausible

import sadl
from sadl.compiler.pipeline import plan
from sadl.compiler.program import LAUNCHES
from sadl.op import CONSTANT, FUNCTIONS, HOST, METADATA, UFUNC_METHODS, UFUNCS, WRITES
from sadl.tree import flatten

PAGE = Path(__file__).parent.parent / "docs" / "coverage.md"
VERSION = ".".join(np.__version__.split(".")[:2])
HEAD = f"""# Which NumPy functions are differentiable

Written by `make coverage` with NumPy {VERSION}; the tests
check that it is current. Each row was tried: `tests/numpy_rows.py` has the expressions, `tests/test_numpy.py` compares
values with NumPy's, gradients with central differences to second order, float32 with float64, and compiled with eager,
second order included.

Compiled, "fused" says that value and gradient become kernels of sadl's own (products of matrices go to BLAS); otherwise
the library routines are named that the program calls.
`g` is the cotangent of a complex `z` if dL = Re(sum(g * dz)): the convention of JAX and HIPS/autograd.

| function | expressions | gradient | second order | compiled |
|---|---|---|---|---|
"""
KINDS = (
    ("Differentiable", "recorded, with a gradient"),
    ("Written in place", "recorded: the array takes a new value in the graph"),
    ("Constant", "no gradient, since the result does not change with small changes of the input, or is no number"),
    ("About shapes and dtypes", "give plain values"),
    ("Read values", "give Python values or write files; an error in a compiled function"),
    ("Not differentiable in sadl", "raise UnrecordedError on a Tensor that requires a gradient, and run on any other"),
)


def holds(check: Any, *args: Any, **kwargs: Any) -> bool:
    try:
        check(*args, **kwargs)
    except AssertionError:
        return False
    return True


def row(name: str, texts: list[str]) -> str:
    first, second, calls = True, True, set()
    for text in texts:
        loss, arrays = both(text)
        first = first and holds(sadl.check_grads, loss, arrays, order=1)
        second = second and holds(sadl.check_grads, loss, arrays, order=2)
        calls |= {"decided by values"} if text in DECIDES else library_calls(text)
    compiled = "fused" if not calls else ", ".join(sorted(calls))
    return f"| {name} | {len(texts)} | {'yes' if first else 'NO'} | {'yes' if second else 'first only'} | {compiled} |"


def library_calls(text: str) -> set[str]:
    loss, arrays = both(text)
    run = sadl.value_and_grad(loss, tuple(range(len(arrays))))
    return {e.op.name for e in plan(sadl.make_ir(run)(*arrays)).eqns} - {"cluster", *LAUNCHES}


def kind(name: str, function: Any) -> int:
    """The position in KINDS of a NumPy function or ufunc."""
    if function in WRITES:
        return 1
    if function in METADATA:
        return 3
    if function in HOST:
        return 4
    op = UFUNCS.get(function)
    if function in CONSTANT or (op is not None and not op.differentiable):
        return 2
    if op is None and (function, "__call__") not in UFUNC_METHODS and function not in FUNCTIONS:
        return 5
    return 0 if isinstance(function, np.ufunc) or has_gradient(name) else 2


def has_gradient(name: str) -> bool:
    """Whether any way to call it gives something that can be differentiated."""
    for call in plausible(name):
        for factor in (1, 1j):
            args, kwargs = over_arrays(lambda a, c=factor: leaf(a * c) if is_float(a) else sadl.tensor(a), call)
            with contextlib.suppress(TypeError, ValueError, IndexError, Warning):
                result = flatten(CALLS[name](*args, **kwargs))[0]
                if any(getattr(r, "requires_grad", False) for r in result):
                    return True
    return False


def leaf(array: Any) -> Any:
    return sadl.tensor(array, requires_grad=True)


def everything() -> list[tuple[str, Any]]:
    """Name and object of every function and numeric ufunc that NumPy lets others handle."""
    functions = {f"{f.__module__}.{f.__name__}"[6:]: f for f in overrides.get_overridable_numpy_array_functions()}
    functions |= {f"fft.{n}": getattr(np.fft, n) for n in np.fft.__all__ if hasattr(getattr(np.fft, n), "__wrapped__")}
    numeric = [u for u in overrides.get_overridable_numpy_ufuncs() if set("dlbO?") & set("".join(u.types))]
    return sorted(functions.items()) + sorted((u.__name__, u) for u in numeric if not u.__name__.startswith("_"))


def page() -> str:
    lines = [row(name, texts) for name, texts in ROWS.items()]
    parts = [HEAD + "\n".join(lines), "\n## Every function that NumPy lets sadl handle\n"]
    groups: list[list[str]] = [[] for _ in KINDS]
    for name, function in everything():
        groups[kind(name, function)].append(name)
    for (title, what), names in zip(KINDS, groups, strict=True):
        parts.append(f"**{title}** ({len(set(names))}; {what}): {', '.join(f'`{n}`' for n in dict.fromkeys(names))}\n")
    return "\n".join(parts)


def main() -> int:
    current = PAGE.read_text() if PAGE.exists() else ""
    if "--check" in sys.argv and f"with NumPy {VERSION};" not in current:
        print(f"docs/coverage.md was written with another NumPy than {VERSION}")
        return 0
    text = page()
    if "--check" in sys.argv:
        print("docs/coverage.md is " + ("current" if current == text else "not current: run make coverage"))
        return int(current != text)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
