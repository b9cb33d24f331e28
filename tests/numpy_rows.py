"""Expressions in NumPy for every function of the table: what the tests of differentiation and docs/coverage.md work on.

Takes nothing; gives `ROWS`, name -> expressions, and `INPUTS`, the arrays that may occur in them, away from ties, kinks
and the ends of domains. Statements before the last `;` are run first. How they are checked is left to `test_numpy`.
"""

import numpy as np


def _distinct(shape: tuple[int, ...], low: float, high: float, seed: int) -> np.ndarray:
    n = int(np.prod(shape))
    rng = np.random.default_rng(seed)
    grid = np.linspace(low, high, n) + rng.uniform(-0.3, 0.3, n) * (high - low) / max(n, 1)
    return rng.permutation(grid).reshape(shape)


X = _distinct((3, 4), 0.15, 0.9, 1)
INPUTS = {
    "x": X,
    "y": _distinct((3, 4), 0.2, 0.95, 2),
    "z": _distinct((3, 4), -0.85, 0.8, 3) + 0.013,  # both signs
    "b": _distinct((3, 4), 1.3, 2.4, 4),  # above 1
    "v": _distinct((4,), 0.15, 0.9, 5),
    "w": _distinct((4,), 0.2, 0.8, 6),
    "u": _distinct((3,), 0.3, 1.7, 7),
    "t": _distinct((2, 3, 4), 0.1, 1.1, 8),
    "o": np.array(0.7),  # 0-d
    "a": np.diag([1.0, 2.2, 3.7]) + 0.25 * _distinct((3, 3), 0, 1, 9),  # square
    "s": np.diag([1.0, 2.0, 3.5]) + 0.2 * (lambda q: q @ q.T)(_distinct((3, 3), 0, 1, 10)),  # positive definite
    "n": np.where(np.arange(12).reshape(3, 4) % 5 == 2, np.nan, X),  # with NaN
}
CONSTANTS = {
    "k": np.array([[2, 1, 3, 1], [1, 3, 2, 2], [3, 1, 1, 2]]),
    "i": np.array([2, 0, 2]),
    "m": X > 0.5,
    "e": np.eye(4),
    "j": np.argsort(INPUTS["y"], axis=1),
}

# One line per function: its name, then expressions. NumPy's names without `np.`.
TABLE = """
add: x + y | np.add(x, v) | 1.0 + x | np.add(x, y, dtype=np.float64) | np.add(o, x)
subtract: x - y | 2.0 - x | x - v[:, None][:3]
multiply: x * y | 2 * x | x * m
divide: x / y | 1.0 / x | np.true_divide(x, 3)
power: x ** y | x ** 2 | z ** 3 | 2.0 ** x | x ** v | x ** -1.5 | np.power(x, k)
float_power: np.float_power(x, y)
remainder: np.remainder(b + x, y) | (b + 1.5) % 0.7
fmod: np.fmod(b + x, y) | np.fmod(z, 0.3)
divmod: divmod(b + 1.5, y)[1] | np.divmod(b, 0.7)[1]
floor_divide: (b + 1.5) // y + x
modf: np.modf(b)[0] | np.modf(b)[0] * np.modf(b)[1]
frexp: np.frexp(x)[0]
ldexp: np.ldexp(x, k)
negative: -x
positive: +x
absolute: abs(z) | np.abs(z + 1j * x)
fabs: np.fabs(z)
sign: np.sign(z) * x | np.sign(z + 1j * x)
square: np.square(x)
sqrt: np.sqrt(x)
cbrt: np.cbrt(z)
reciprocal: np.reciprocal(x)
exp: np.exp(x) | np.exp(x * 1j)
exp2: np.exp2(z)
expm1: np.expm1(z)
log: np.log(x)
log2: np.log2(x)
log10: np.log10(x)
log1p: np.log1p(x)
sin: np.sin(z)
cos: np.cos(z)
tan: np.tan(z)
arcsin: np.arcsin(z)
arccos: np.arccos(z)
arctan: np.arctan(z)
arctan2: np.arctan2(z, x)
sinh: np.sinh(z)
cosh: np.cosh(z)
tanh: np.tanh(z)
arcsinh: np.arcsinh(z)
arccosh: np.arccosh(b)
arctanh: np.arctanh(z)
hypot: np.hypot(x, z)
logaddexp: np.logaddexp(x, z)
logaddexp2: np.logaddexp2(x, z)
degrees: np.degrees(x) | np.rad2deg(x)
radians: np.radians(x) | np.deg2rad(x)
copysign: np.copysign(x, z)
nextafter: np.nextafter(x, y)
heaviside: np.heaviside(z, x) + z
maximum: np.maximum(x, y) | np.maximum(z, 0.1)
minimum: np.minimum(x, y)
fmax: np.fmax(y, n)
fmin: np.fmin(y, n)
clip: np.clip(x, 0.3, 0.6) | x.clip(0.3) | np.clip(x, None, y) | np.clip(x, min=0.4)
where: np.where(m, x, y) | np.where(z > 0, x, 0.5) | x[np.where(m)]
conjugate: np.conj(x + 1j * y) | x.conj() | (x + 1j * y).conjugate()
real: np.real((x + 1j * y) ** 2) | (x * 1j + y).real
imag: np.imag((x + 1j * y) ** 2) | (x + 1j * y).imag | np.imag(x) + x
angle: np.angle(z + 1j * x) | np.angle(z + 1j * x, deg=True)
real_if_close: np.real_if_close(x * 2)
round: np.round(x, 1) + x | x.round()
rint: np.rint(x) + x
fix: np.fix(b) + x
floor: np.floor(b) + x
ceil: np.ceil(b) + x
trunc: np.trunc(b) * x
sinc: np.sinc(z)
i0: np.i0(z)
nan_to_num: np.nan_to_num(n) | np.nan_to_num(n, nan=2.0)
unwrap: np.unwrap(x * 10) | np.unwrap(x * 5, axis=0, period=3)
copy: np.copy(x) | x.copy()
astype: x.astype(np.float64) * 2 | np.astype(x, np.complex128) * 1j
isnan: np.where(np.isnan(n), 0.5, n)
comparisons: (x > y) * x | np.less_equal(x, y) * y | np.not_equal(k, 2) * x | (x != y) * x
logic: np.logical_and(x > 0.3, y > 0.3) * x | np.logical_not(m) * x | (m & (y > 0.5)) * y
sum: np.sum(x) | x.sum(0) | np.sum(x, axis=(0, 1), keepdims=True) | np.sum(x, axis=-1, where=m, initial=2.0) | t.sum((0, 2))
prod: np.prod(x) | x.prod(1) | np.prod(t, axis=(0, 2)) | np.prod(x * (k > 1), axis=1) | np.prod(x, axis=0, where=m, initial=2.0)
mean: np.mean(x) | x.mean(axis=0, keepdims=True) | np.mean(x, axis=1, where=x > 0.2) | np.mean(t, (0, 1))
var: np.var(x) | x.var(1, ddof=1) | np.var(x, axis=0, where=x > 0.2) | np.var(x, correction=1) | np.var(x + 1j * y)
std: np.std(x) | np.std(x, axis=1, ddof=1) | x.std(axis=0, keepdims=True) | np.std(x, axis=1, mean=np.mean(x, axis=1, keepdims=True))
max: np.max(x) | x.max(axis=1) | np.amax(x, 0) | np.max(x, axis=1, where=m, initial=0.1)
min: np.min(x) | x.min(axis=(0, 1)) | np.min(x, axis=0, initial=0.4)
ptp: np.ptp(x) | np.ptp(x, axis=1)
any and all: np.any(m, axis=1) * u | np.all(m, axis=0, keepdims=True) * x
argmax: x[np.arange(3), np.argmax(x, axis=1)] | np.argmin(x) * x
nansum: np.nansum(n) | np.nansum(n, axis=1, keepdims=True)
nanprod: np.nanprod(n, axis=1)
nanmean: np.nanmean(n) | np.nanmean(n, axis=0)
nanvar: np.nanvar(n, axis=1) | np.nanvar(n, ddof=1)
nanstd: np.nanstd(n, axis=1)
nanmax: np.nanmax(n, axis=1) | np.nanmax(n)
nanmin: np.nanmin(n, axis=0)
nancumsum: np.nancumsum(n, axis=1)
nancumprod: np.nancumprod(n, axis=1)
nanmedian: np.nanmedian(n) | np.nanmedian(n, axis=1)
nanquantile: np.nanquantile(n, 0.3, axis=1) | np.nanpercentile(n, [30.0, 80.0])
average: np.average(x, axis=0, weights=y) | np.average(x, axis=1, weights=w) | np.average(x, weights=y, returned=True) | np.average(x)
median: np.median(x) | np.median(x, axis=1, keepdims=True) | np.median(t, axis=(0, 2))
quantile: np.quantile(x, 0.3) | np.quantile(x, [0.1, 0.7], axis=1) | np.quantile(x, 0.4, method="hazen") | np.quantile(x, o, axis=0)
percentile: np.percentile(x, 35.0, axis=0) | np.percentile(x, 20, method="inverted_cdf")
cumsum: np.cumsum(x) | x.cumsum(axis=1) | np.cumulative_sum(x, axis=0, include_initial=True)
cumprod: np.cumprod(x, axis=1) | np.cumprod(x * (k > 1), axis=0) | np.cumulative_prod(v)
diff: np.diff(x) | np.diff(x, n=2, axis=0) | np.diff(x, prepend=0.0) | np.diff(v, append=w[:2])
ediff1d: np.ediff1d(x) | np.ediff1d(v, to_end=w[:1], to_begin=0.3)
gradient: np.gradient(x, axis=0) | np.gradient(v, 0.3) | np.gradient(x)[1] | np.gradient(v, np.cumsum(w)) | np.gradient(v, edge_order=2)
trapezoid: np.trapezoid(x) | np.trapezoid(x, dx=0.2, axis=0) | np.trapezoid(v, np.cumsum(w))
add.reduce: np.add.reduce(x) | np.add.reduce(x, axis=1, where=m, initial=1.0) | np.add.reduce(t, axis=(0, 1), keepdims=True)
multiply.reduce: np.multiply.reduce(x, axis=1)
maximum.reduce: np.maximum.reduce(x, axis=1) | np.minimum.reduce(x) | np.fmax.reduce(n, axis=1)
logaddexp.reduce: np.logaddexp.reduce(x) | np.logaddexp.reduce(x, axis=1, keepdims=True)
ufunc.reduce: np.subtract.reduce(x) | np.divide.reduce(x, axis=0) | np.hypot.reduce(x, axis=1) | np.logaddexp2.reduce(v)
ufunc.accumulate: np.add.accumulate(x, axis=1) | np.multiply.accumulate(x) | np.maximum.accumulate(x, axis=1) | np.minimum.accumulate(x) | np.subtract.accumulate(v) | np.logaddexp.accumulate(v)
ufunc.reduceat: np.add.reduceat(x, [0, 2], axis=1) | np.multiply.reduceat(v, [0, 3, 1]) | np.maximum.reduceat(v, [0, 2])
ufunc.outer: np.multiply.outer(v, w) | np.subtract.outer(v, u) | np.power.outer(u, v) | np.maximum.outer(v, w)
ufunc.at: q = x.copy(); np.add.at(q, i, y); q * q | q = x.copy(); np.multiply.at(q, (i, 1), u); q | q = x.copy(); np.negative.at(q, i); q | q = x.copy(); np.subtract.at(q, [0, 0], v); q
ufunc where= and out=: np.sqrt(x, out=y * 1, where=m) | np.add(x, y, out=x * 2) | q = x.copy(); np.exp(x, out=q); q * q | np.log(z, out=x * 1, where=z > 0.1)
reshape: x.reshape(4, 3) | np.reshape(x, -1) | x.reshape((2, 6), order="F") | np.reshape(x, (3, -1, 2))
ravel: np.ravel(x) | x.flatten() | x.ravel("F")
transpose: x.T | np.transpose(t, (2, 0, 1)) | t.transpose(1, 0, 2) | np.permute_dims(t, (1, 2, 0)) | np.matrix_transpose(t) | t.mT
moveaxis: np.moveaxis(t, 0, -1) | np.swapaxes(t, 0, 2) | np.rollaxis(t, 2) | t.swapaxes(1, 2) | np.moveaxis(t, [0, 1], [-1, -2])
expand_dims: np.expand_dims(x, 1) | x[:, None] | np.expand_dims(v, (0, 2))
squeeze: np.squeeze(x[:, None]) | x[None].squeeze(axis=0)
atleast: np.atleast_1d(o) | np.atleast_2d(v) | np.atleast_3d(x) | np.atleast_2d(v, o)
broadcast_to: np.broadcast_to(v, (3, 4)) | np.broadcast_to(x[:, :1], (2, 3, 5)) | np.broadcast_arrays(v, x)
concatenate: np.concatenate([x, y]) | np.concatenate([x, y[:, :2]], axis=1) | np.concatenate([x, v], axis=None) | np.concat([v, w])
stack: np.stack([x, y]) | np.stack([v, w], axis=-1) | np.vstack([x, v]) | np.hstack([x, y]) | np.dstack([x, y]) | np.column_stack([v, w])
block: np.block([[x, y], [y, x]])
append: np.append(x, y) | np.append(x, y, axis=1)
split: np.split(x, 3) | np.array_split(x, 3, axis=1) | np.hsplit(x, 2) | np.vsplit(x, [1]) | np.dsplit(t, 2) | np.unstack(x)
flip: np.flip(x) | np.flip(x, 0) | np.fliplr(x) | np.flipud(x) | x[::-1]
rot90: np.rot90(x) | np.rot90(x, 2) | np.rot90(t, -1, axes=(1, 2))
roll: np.roll(x, 1) | np.roll(x, (1, 2), axis=(0, 1)) | np.roll(x, -1, axis=1)
tile: np.tile(v, 3) | np.tile(x, (2, 2)) | np.tile(x, (2, 1, 1))
repeat: np.repeat(x, 2) | x.repeat(2, axis=1) | np.repeat(v, [1, 0, 2, 3])
pad: np.pad(x, 1) | np.pad(x, ((1, 0), (2, 1)), constant_values=0.3) | np.pad(x, 1, mode="edge") | np.pad(x, 2, mode="reflect") | np.pad(x, 2, mode="symmetric") | np.pad(x, 1, mode="wrap") | np.pad(x, 1, mode="linear_ramp", end_values=0.2) | np.pad(x, 1, mode="mean") | np.pad(x, 1, mode="maximum") | np.pad(x, (2, 1), mode="minimum", stat_length=2) | np.pad(v, 2, mode="reflect", reflect_type="odd") | np.pad(v, 2, mode="median") | np.pad(x, 1, mode="empty")[1:-1, 1:-1] | np.pad(v, 3, mode="symmetric", reflect_type="odd") | np.pad(x, {0: 1})
insert: np.insert(v, 1, w[0]) | np.insert(x, [0, 2], v, axis=0) | np.insert(x, 1, 0.5, axis=1)
delete: np.delete(x, 1, axis=0) | np.delete(v, [0, 2])
resize: np.resize(x, (2, 5))
trim_zeros: np.trim_zeros(np.concatenate([np.zeros(2), v, np.zeros(1)]))
sliding_window_view: np.lib.stride_tricks.sliding_window_view(x, 2, axis=1) | np.lib.stride_tricks.sliding_window_view(x, (2, 2))
diagonal: np.diagonal(x) | x.diagonal(1) | np.diagonal(t, 0, 1, 2) | np.linalg.diagonal(t)
diag: np.diag(v) | np.diag(x) | np.diag(v, 1) | np.diagflat(v)
trace: np.trace(x) | x.trace(1) | np.linalg.trace(t)
tri: np.tril(x) | np.triu(x, 1) | np.tril(t, -1)
vander: np.vander(v) | np.vander(v, 3, increasing=True)
meshgrid: np.meshgrid(v, w) | np.meshgrid(v, u, indexing="ij", sparse=True)
ix_: x[np.ix_([0, 2], [1, 3])]
getitem: x[1] | x[1, 2] | x[-1] | x[0:2] | x[:, 0:4:2] | x[::-1] | x[..., 0] | x[None, :, 1] | x[i] | x[np.arange(3), [0, 1, 3]] | x[x > 0.4] | x[[True, False, True]] | x[[]].sum() + x.sum() | x[i, 1:3] | x[:, [0, 1, 0]] | x[i[:, None], [0, 2]] | x[1:][0] | x[np.argmax(x, axis=0)] | t[:, i] | t[0, :, [0, 1]] | x[m] | x.flat[3] * 2 | o[...] * 2
iteration: sum(r * (c + 1.0) for c, r in enumerate(x)) | np.stack([r * 2 for r in x])
take: np.take(x, [0, 2], axis=1) | x.take([1, 5, 5]) | np.take(x, i, axis=0) | np.take(x, [5, -1], axis=1, mode="wrap") | np.take(x, [7, -3], axis=1, mode="clip")
take_along_axis: np.take_along_axis(x, j, 1) | np.take_along_axis(x, j[:, :1], axis=1) | np.take_along_axis(x, np.argmax(x, 1)[:, None], 1)
compress: np.compress([True, False, True], x, axis=0) | x.compress(m[0], axis=1) | np.compress(m[0], v) | np.extract(m, x)
choose: np.choose(k % 2, [x, y]) | np.choose(k[0], [v, w], mode="wrap") | np.choose([0, 1, 1, 0], [v, 0.5])
select: np.select([x > 0.6, x > 0.3], [x, y], default=0.1) | np.select([m], [x * y], z)
piecewise: np.piecewise(x, [x > 0.5], [np.sin, lambda q: q * q]) | np.piecewise(z, [z < 0, z >= 0], [lambda q: -q, 2.0])
setitem: q = x.copy(); q[0] = y[1]; q * q | q = x.copy(); q[:, 1:3] = y[:, :2]; q * q | q = x.copy(); q[m] = 0.5; q * q | q = x.copy(); q[i] = y; q * q | q = x.copy(); q[m] *= 2; q * q | q = x.copy(); q[0] += y[1]; q * q | q = x.copy(); q[...] = v; q * q | q = x.copy(); q[1, 2] = o; q * q | q = x.copy(); q[0][1:] *= y[0, 1:]; q * q | q = x.copy(); r = q.T; r[0] = u; q * q
in place: q = x.copy(); q += y; q * q | q = x.copy(); q *= y; q | q = x.copy(); q -= v; q | q = x.copy(); q /= y; q | q = x.copy(); q **= 2; q | q = x.copy(); q %= 0.4; q | q = x.copy(); q @= e; q | q = x.copy(); q.fill(0.5); q * x | q = x.copy(); q.flat = y; q * q
filling a buffer: q = sadl.zeros(3, dtype=float); q[0] = v[0]; q[1] = w[1]; q[2] = q[0] * q[1]; q * q | q = sadl.zeros((3, 4), dtype=float); q[0] = v; q[1:] += y[1:]; np.exp(q)
writing functions: q = x.copy(); np.put_along_axis(q, j[:, :1], y[:, :1], 1); q * q | q = x.copy(); np.put(q, [0, 5], v[:2]); q * q | q = x.copy(); np.putmask(q, m, y); q * q | q = x.copy(); np.place(q, m, v[:2]); q * q | q = x.copy(); np.copyto(q, y, where=m); q * q | q = x.copy(); np.fill_diagonal(q, o); q * q | q = x.copy(); q.put([1, 2], 0.5); q * q
sort: np.sort(x) | np.sort(x, axis=0) | np.sort(x, axis=None) | q = x.copy(); q.sort(axis=1); q * q | np.sort(x, kind="stable") | np.sort_complex(v)
partition: np.sort(np.partition(x, 1, axis=1)[:, :2]) | q = v.copy(); q.partition(2); q[2]
argsort: np.take_along_axis(x, np.argsort(y, axis=1), 1) | x[np.argsort(u)] | v[np.argpartition(w, 1)[:1]]
unique: np.unique(x) | np.unique(x, return_index=True)[0] | np.union1d(v, w) | np.intersect1d(v, v) | np.setdiff1d(v, w)
searchsorted: v[np.minimum(np.searchsorted(np.sort(v), w), 3)] | np.digitize(x, [0.3, 0.6]) * x
interp: np.interp(x, np.linspace(0, 1, 4), v) | np.interp(v, np.cumsum(w), v, left=0.1, right=o) | np.interp(x * 5, np.cumsum(w), v, period=2.0)
dot: np.dot(v, w) | x.dot(v) | np.dot(x, y.T) | np.dot(t, x.T) | np.dot(t, t[0].T) | np.dot(t, np.stack([y.T, x.T])) | np.dot(2.0, x)
matmul: x @ y.T | x @ v | v @ y.T | v @ w | t @ x.T | t @ np.swapaxes(t, -1, -2) | v @ np.swapaxes(t, 1, 2) | np.matmul(t, v) | np.linalg.matmul(x, y.T) | np.matmul(x, y, axes=[(0, 1), (1, 0), (0, 1)])
vecdot: np.vecdot(x, y) | np.vecdot(x, y, axis=0) | np.matvec(x, v) | np.vecmat(v, y.T) | np.linalg.vecdot(t, t[1]) | np.vecdot(x * 1j, y + 1j)
inner: np.inner(v, w) | np.inner(x, y) | np.inner(t, v)
outer: np.outer(v, u) | np.linalg.outer(v, w)
vdot: np.vdot(x, y) | np.vdot(x + 1j, y * 1j)
tensordot: np.tensordot(x, y.T, axes=1) | np.tensordot(t, x, axes=([1, 2], [0, 1])) | np.tensordot(v, w, axes=0) | np.linalg.tensordot(t, x, axes=([2], [1]))
einsum: np.einsum("ij,kj->ik", x, y) | np.einsum("ij->j", x) | np.einsum("ii", x[:, :3]) | np.einsum("ii->i", x[:, :3]) | np.einsum("ij,jk", x, y.T) | np.einsum("...j,j->...", t, v) | np.einsum("i,j,ij->", u, v, x) | np.einsum("ij,ij,kj->ik", x, y, x, optimize=True) | np.einsum(x, [0, 1], v, [1], [0]) | np.einsum("abc,bc->ca", t, x)
kron: np.kron(x, y) | np.kron(v, x)
cross: np.cross(x[:, :3], y[:, :3]) | np.linalg.cross(a, s) | np.cross(a, s, axis=0)
multi_dot: np.linalg.multi_dot([x, y.T, x, v])
convolve: np.convolve(v, w) | np.convolve(x.ravel(), v, "same") | np.convolve(v, x[0, :2], "valid") | np.correlate(x.ravel(), v) | np.correlate(v, w, "full") | np.correlate(v, u, "same")
cov: np.cov(x) | np.cov(v, w) | np.cov(x, rowvar=False, ddof=0) | np.cov(x, aweights=w) | np.corrcoef(x) | np.corrcoef(v, w)
linspace: np.linspace(o, 2.0, 5) | np.linspace(v, w, 3, endpoint=False) | np.logspace(o, 1.0, 4) | np.geomspace(o, 3.0, 4) | np.linspace(0.0, v, 3, axis=-1)
polyval: np.polyval(v, x) | np.polyval([1.0, 2.0], x) | np.polyadd(v, u) | np.polysub(v, w) | np.polymul(v, u) | np.polydiv(v, u)[0] | np.polyder(v) | np.polyint(v, k=o) | np.poly(u) | np.real(np.poly(a)) | np.polyfit(u, x[:, 0], 1) | np.abs(np.roots(b[0]))
bincount: np.bincount([0, 1, 1, 2], weights=v)
apply_along_axis: np.apply_along_axis(lambda r: r * np.sum(r), 1, x) | np.apply_along_axis(np.sum, 0, x) | np.apply_over_axes(np.sum, t, [0, 2])
emath: np.real(np.emath.sqrt(z)) | np.emath.log(x) | np.emath.power(x, 2) | np.emath.logn(2.0, x) | np.imag(np.emath.arccos(b))
full_like: np.full_like(x, 2.0) * x | np.zeros_like(x) + x | np.ones_like(x) * x | np.full_like(x, o) * x | sadl.ones_like(x) * x
linalg.solve: np.linalg.solve(a, u) | np.linalg.solve(a, x) | np.linalg.solve(np.stack([a, s]), np.stack([x, y]))
linalg.inv: np.linalg.inv(a) | np.linalg.inv(np.stack([a, s])) | np.linalg.tensorinv(a, ind=1) | np.linalg.tensorsolve(a, u)
linalg.det: np.linalg.det(a) | np.linalg.det(np.stack([a, s])) | np.linalg.slogdet(a)[1]
linalg.cholesky: np.linalg.cholesky(s + s.T) | np.linalg.cholesky(s + s.T, upper=True)
linalg.qr: np.abs(np.linalg.qr(a)[1]) | np.linalg.qr(a, mode="r") ** 2 | np.linalg.qr(x.T)[0] ** 2
linalg.eigh: np.linalg.eigh(s + s.T)[0] | np.linalg.eigvalsh(s + s.T) | np.linalg.eigh(s + s.T)[1] ** 2
linalg.eig: np.real(np.linalg.eig(a)[0]) | np.real(np.linalg.eigvals(a))
linalg.svd: np.linalg.svd(x)[1] | np.linalg.svd(x, full_matrices=False)[0] ** 2 | np.linalg.svdvals(a) | np.linalg.svd(x, compute_uv=False)
linalg.pinv: np.linalg.pinv(x) | np.linalg.lstsq(x.T, v)[0]
linalg.norm: np.linalg.norm(x) | np.linalg.norm(v, 3) | np.linalg.norm(x, "nuc") | np.linalg.norm(x, 2) | np.linalg.norm(x, 1) | np.linalg.norm(x, -np.inf) | np.linalg.norm(x, axis=1, keepdims=True) | np.linalg.norm(x, np.inf, axis=0) | np.linalg.vector_norm(t, axis=(0, 1)) | np.linalg.matrix_norm(t) | np.linalg.cond(a)
linalg.matrix_power: np.linalg.matrix_power(a, 3) | np.linalg.matrix_power(a, -2) | np.linalg.matrix_power(a, 0) + a
fft.fft: np.fft.fft(x) | np.fft.fft(x, n=6, axis=0, norm="ortho") | np.real(np.fft.ifft(np.fft.fft(x))) | np.fft.ifft(x, n=3)
fft.rfft: np.fft.rfft(x) | np.fft.irfft(x) | np.fft.irfft(np.fft.rfft(x), n=4) | np.fft.rfft(x, norm="forward")
fft.fftn: np.fft.fftn(x) | np.fft.fft2(t) | np.fft.ifftn(x) | np.fft.rfftn(t) | np.fft.irfftn(t) | np.fft.rfft2(x) | np.fft.irfft2(x) | np.fft.ifft2(t, axes=(0, 1))
fft.hfft: np.fft.hfft(x) | np.fft.ihfft(x)
fft.fftshift: np.fft.fftshift(x) | np.fft.ifftshift(x, axes=0)
compositions: np.where(np.abs(x - y) < 0.2, 0.5 * (x - y) ** 2, 0.2 * (np.abs(x - y) - 0.1)) | (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5) | np.log(np.sum(np.exp(x), axis=1))
"""
# What such a function does depends on values, so that no program can do it: an error under capture.
ROWS = {name: parts.split(" | ") for name, _, parts in (line.partition(": ") for line in TABLE.strip().splitlines())}
DECIDES = {"np.polydiv(v, u)[0]", "np.abs(np.roots(b[0]))", *ROWS["emath"]}
