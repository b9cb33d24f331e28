"""Products of matrices, run by the BLAS that NumPy carries.

Takes operands of any rank that `np.matmul` takes; transposes are views, which compiled programs turn into BLAS flags.
Decompositions and solvers belong here, too.
"""

from typing import Any

import numpy as np

from sadl.op import UFUNCS, Aval, Op, call, numpy_function
from sadl.tape import Traced, arrayed, bind


def _mT(x: Any) -> Any:
    return x.swapaxes(-1, -2)


def _vjp_left(g: Any, z: Any, a: Any, b: Any) -> Any:
    if b.ndim == 1:
        return np.expand_dims(g, -1) * b
    if a.ndim == 1:
        return np.matmul(b, np.expand_dims(g, -1))[..., 0] if b.ndim > 2 else np.matmul(b, g)
    return np.matmul(g, _mT(b))


def _vjp_right(g: Any, z: Any, a: Any, b: Any) -> Any:
    if a.ndim == 1:
        return np.expand_dims(a, -1) * np.expand_dims(g, -2) if b.ndim > 1 else g * a
    if b.ndim == 1:
        return np.matmul(_mT(a), np.expand_dims(g, -1))[..., 0]
    return np.matmul(_mT(a), g)


def _infer_matmul(op: Op, a: Aval, b: Aval) -> Aval:
    rows, columns = a.shape[-2:-1], b.shape[-1:] if len(b.shape) > 1 else ()
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return Aval((*batch, *rows, *columns), np.result_type(a.dtype, b.dtype))


matmul = call("matmul", np.matmul, [_vjp_left, _vjp_right], infer=_infer_matmul, fn=np.matmul)
UFUNCS[np.matmul] = matmul


@numpy_function(np.dot, method="dot")
def dot(a: Any, b: Any) -> Any:
    a, b = (x if isinstance(x, Traced) else np.asarray(x) for x in (arrayed(a), arrayed(b)))
    if a.ndim == 0 or b.ndim == 0:
        return np.multiply(a, b)
    if b.ndim > 2:
        raise ValueError(f"[dot] {a.shape} and {b.shape}: more than two dimensions on the right. Instead: np.matmul.")
    return bind(matmul, a, b)
