"""NumPy functions that need no gradient: of shape and dtype only, constant almost everywhere, or read into Python.

Takes nothing; fills METADATA, CONSTANT and HOST. A function that is neither here nor in the other files raises on a
Tensor that requires a gradient, and runs as a plain library call on any other.
"""

import numpy as np

from sadl.op import CONSTANT, HOST, METADATA

METADATA |= {
    np.shape,
    np.ndim,
    np.size,
    np.result_type,
    np.can_cast,
    np.common_type,
    np.min_scalar_type,
    np.iscomplexobj,
    np.isrealobj,
    np.may_share_memory,
    np.shares_memory,
}
CONSTANT |= {  # also new arrays, which only are of the kind of the Tensor given as `like`
    np.arange,
    np.empty,
    np.frombuffer,
    np.fromfile,
    np.fromiter,
    np.fromstring,
    np.zeros,
    np.isclose,
    np.diag_indices_from,
    np.einsum_path,
    np.linalg.matrix_rank,
    np.tril_indices_from,
    np.triu_indices_from,
    np.argwhere,
    np.nonzero,
    np.flatnonzero,
    np.count_nonzero,
    np.digitize,
    np.lexsort,
    np.isin,
    np.iscomplex,
    np.isreal,
    np.isposinf,
    np.isneginf,
    np.nanargmax,
    np.nanargmin,
}
HOST |= {
    np.allclose,
    np.array_equal,
    np.array_equiv,
    np.array_repr,
    np.array_str,
    np.array2string,
    np.save,
    np.savez,
    np.savez_compressed,
    np.savetxt,
}
