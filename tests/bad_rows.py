"""What is refused: calls with bad arguments, and what the error has to say, for every public name.

Takes nothing; gives tables of rows: of functions, of layers when they are made and when they are called, of
initialisers, optimizers and schedules. Calling, and in which modes, is left to test_bad_configuration.
"""

from typing import Any, NamedTuple

import numpy as np

import sadl
from sadl import Parameter, nn

AxisError = np.exceptions.AxisError


class Bad(NamedTuple):
    error: type[Exception]
    message: str  # what the message has to say: a regular expression
    args: tuple[Any, ...]
    settings: dict[str, Any]


def bad(error: type[Exception], message: str, *args: Any, **settings: Any) -> Bad:
    return Bad(error, message, args, settings)


def ones(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.ones(shape, dtype)


NAN = float("nan")
X, IMAGES, ROWS = ones(2, 3), ones(2, 4, 5, 6), ones(2, 4, 5)  # the latter also as (N, T, features)
WORDS, NOTHING = np.array([["a"]]), None
TEXT = [bad(TypeError, r"of <U1 \(1, 1\) was given", WORDS), bad(TypeError, "of object", NOTHING)]
COMPLEX = bad(TypeError, r"of complex \(2, 3\) was given.*two arrays", X * 1j)
NUMBERS = [*TEXT, COMPLEX]
WEIGHTS = ones(6, 4, 3, 3)
INDICES = np.zeros(2, int)

# ---- functions -----------------------------------------------------------------------------------------------------

AXIS = [
    bad(AxisError, r"axis=2 is none of an input of shape \(2, 3\).*an axis from -2 to 1", X, 2),
    bad(AxisError, r"axis=\(0, -3\) is none", X, (0, -3)),
    bad(ValueError, r"axis=\(1, -1\) names an axis twice", X, (1, -1)),
    bad(TypeError, r"axis=1\.5 is no axis", X, 1.5),
    bad(TypeError, r"axis='last' is no axis", X, "last"),
    bad(ValueError, r"axis=-1 of an input of shape \(2, 0\) has no elements", X[:, :0]),
]
LOSS = [
    bad(ValueError, r'no reduction \'avg\'\. Instead: "mean", "sum" or "none"', X, X, "avg"),
    bad(ValueError, r"no reduction \['mean'\]", X, X, ["mean"]),
    bad(ValueError, "no reduction None", X, X, None),
    bad(ValueError, r"shape \(2, 3\) and targets of shape \(3,\) differ.*reshape", X, X[0]),
    bad(ValueError, r"shape \(2, 1\) and targets of shape \(2,\) differ", X[:, :1], X[:, 0]),
    bad(ValueError, r"targets of shape \(\) differ", X, 1.0),
    bad(TypeError, r"an input of complex \(2, 3\)", X * 1j, X),
    bad(TypeError, r"targets of <U1 \(1, 1\)", X, WORDS),
]
ENTROPY = [
    bad(ValueError, r"no reduction 'batchmean'.*\"none\"", X, INDICES, "batchmean"),
    bad(
        IndexError, r"class index is outside 0 \.\. 2, for rows of float32 \(2, 3\): found 3.*ignore_index=", X, [0, 3]
    ),
    bad(IndexError, "found -100", X, [-100, 1]),
    bad(
        ValueError,
        r"targets of shape \(3,\) do not fit an input of shape \(2, 3\).*one class index per row",
        X,
        [0] * 3,
    ),
    bad(
        ValueError,
        r"targets of shape \(2, 6\) do not fit .*\(2, 5, 6\).*last axis",
        ones(2, 5, 6),
        np.zeros((2, 6), int),
    ),
    bad(ValueError, r"shape \(2, 0\) has no classes", X[:, :0], INDICES),
    bad(ValueError, r"shape \(\) has no classes", np.float32(1), 0),
    bad(TypeError, r"must be integers, found bool \(2,\).*astype", X, INDICES > 0),
    bad(TypeError, r"must be integers, found <U1", X, WORDS),
    bad(TypeError, r"ignore_index=1\.5 is no index", X, INDICES, ignore_index=1.5),
    bad(
        ValueError, r"weight of shape \(2,\) does not fit .*\(2, 3\).*one weight per class", X, INDICES, weight=ones(2)
    ),
    bad(TypeError, r"weight of complex \(3,\)", X, INDICES, weight=1j * ones(3)),
    bad(TypeError, "an input of complex", X * 1j, INDICES),
]
POOL = [
    bad(ValueError, r"kernel_size=0 was given.*whole number >= 1", IMAGES, 0),
    bad(ValueError, r"kernel_size=\(1, 2, 3\)", IMAGES, (1, 2, 3)),
    bad(ValueError, r"stride=0 was given", IMAGES, 2, 0),
    bad(ValueError, r"stride=True was given", IMAGES, 2, True),
    bad(ValueError, r"padding=-1 was given.*>= 0", IMAGES, 2, None, -1),
    bad(ValueError, r"padding=2 is more than half of kernel_size=2", IMAGES, 2, None, 2),
    bad(ValueError, r"kernel of size \(6, 6\).*more than the padded input, \(5, 6\).*larger inputs", IMAGES, 6),
    bad(ValueError, r"input of shape \(2, 4, 5\) was given.*\(N, C, H, W\)", ROWS, 2),
    bad(TypeError, "of complex", IMAGES * 1j, 2),
]
ROW_POOL = [
    bad(ValueError, r"kernel_size=-1 was given\. Instead: a whole number >= 1\.", ROWS, -1),
    bad(ValueError, r"kernel of size \(6,\).*padded input, \(5,\)", ROWS, 6),
    bad(ValueError, r"input of shape \(2, 4, 5, 6\).*\(N, C, L\)", IMAGES, 2),
]


def convolution(weights: Any) -> list[Bad]:
    return [
        bad(ValueError, r"input of shape \(2, 4, 5\) was given.*\(N, C, H, W\)", ROWS, weights),
        bad(ValueError, r"weights of shape \(., 4, 3\) were given", IMAGES, weights[..., 0]),
        bad(ValueError, r"stride=0 was given", IMAGES, weights, stride=0),
        bad(ValueError, r"padding=-1 was given", IMAGES, weights, padding=-1),
        bad(ValueError, r"dilation=1\.5 was given", IMAGES, weights, dilation=1.5),
        bad(ValueError, r"groups=0 was given", IMAGES, weights, groups=0),
        bad(ValueError, r"divide into 3 groups.*that groups divides", IMAGES, weights, groups=3),
        bad(TypeError, "an input of <U1", WORDS, weights),
        bad(TypeError, "weights of <U1", IMAGES, WORDS),
    ]


NORM = [
    bad(ValueError, r"eps=-1e-05 is out of range.*>= 0", X, eps=-1e-5),
    bad(ValueError, r"eps=nan is out of range", X, eps=NAN),
    bad(TypeError, r"eps='small' is no number", X, eps="small"),
    bad(AxisError, r"axis=2 is none", X, axis=2),
    bad(ValueError, r"shape \(2, 0\) has no elements", X[:, :0]),
    bad(ValueError, r"shape \(\) has no axis", np.float32(1)),
    bad(ValueError, r"weight of shape \(2,\) does not fit an input of shape \(2, 3\) .*normalised axes", X, ones(2)),
    bad(TypeError, r"weight of <U1", X, WORDS),
    COMPLEX,
]
CELL = {"W_ih": ones(4, 3), "W_hh": ones(4, 4)}
LSTM_CELL = {"W_ih": ones(16, 3), "W_hh": ones(16, 4)}
GRU_CELL = {"W_ih": ones(12, 3), "W_hh": ones(12, 4)}
STATE = ones(2, 4)


def cell(h: Any, weights: Any) -> list[Bad]:
    return [
        bad(ValueError, r"input of shape \(3,\) was given.*\(N, input\)", X[0], h, **weights),
        bad(ValueError, r"W_ih of shape \(2, 2\), not \(\d+, 3\)", X, h, **{**weights, "W_ih": ones(2, 2)}),
        bad(ValueError, r"b_ih of shape \(5,\), not \(\d+,\)", X, h, **weights, b_ih=ones(5)),
        bad(
            ValueError,
            r"a state of shapes \[.*\], not \[\(2, 4\)",
            X,
            [s[:1] for s in h] if h is PAIR else h[:1],
            **weights,
        ),
        bad(TypeError, "input of complex", X * 1j, h, **weights),
    ]


PAIR = (STATE, STATE)
FUNCTIONS: dict[str, list[Bad]] = {
    **dict.fromkeys(("erf", "relu", "sigmoid", "silu", "tanh"), NUMBERS),
    "leaky_relu": [
        *NUMBERS,
        bad(TypeError, r"negative_slope='a' is no number. Instead: a finite number", X, "a"),
        bad(ValueError, "negative_slope=nan is out of range", X, NAN),
        bad(ValueError, r"negative_slope of shape \(2,\) does not broadcast to \(2, 3\)", X, ones(2)),
    ],
    "elu": [*NUMBERS, bad(TypeError, "alpha=None is no number", X, None), bad(ValueError, "alpha=inf", X, np.inf)],
    "gelu": [*NUMBERS, bad(ValueError, r'no approximation \'fast\'\. Instead: "none" or "tanh"', X, "fast")],
    "softplus": [
        *NUMBERS,
        bad(ValueError, r"beta=0 is out of range. Instead: a finite number > 0", X, 0),
        bad(TypeError, "beta='1' is no number", X, "1"),
    ],
    **{name: [*NUMBERS, *AXIS] for name in ("softmax", "log_softmax", "logsumexp")},
    "linear": [
        bad(ValueError, r"input of shape \(2, 3\) does not fit W of shape \(4, 2\).*\(\.\.\., 4\)", X, ones(4, 2)),
        bad(ValueError, r"input of shape \(\) does not fit", np.float32(1), ones(4, 2)),
        bad(ValueError, r"W of shape \(3,\) is no matrix", X, ones(3)),
        bad(
            ValueError,
            r"b of shape \(1, 2\) does not fit W of shape \(3, 2\).*b of shape \(2,\)",
            X,
            ones(3, 2),
            ones(1, 2),
        ),
        bad(TypeError, "an input of <U1", WORDS, ones(1, 2)),
        bad(TypeError, "W of <U1", X, WORDS),
    ],
    "one_hot": [
        bad(IndexError, r"class index is outside 0 \.\. 4, for num_classes=5: found 5.*num_classes > 5", [0, 5], 5),
        bad(IndexError, "found -1", [-1], 5),
        bad(ValueError, "num_classes=0", [0], 0),
        bad(ValueError, r"num_classes=2\.5", [0], 2.5),
        bad(TypeError, r"integers, found float64 \(1,\).*indices\.astype", [0.5], 5),
    ],
    "embedding": [
        bad(
            IndexError,
            r"id is outside 0 \.\. 2, for a table of float32 \(3, 2\): found 3.*more rows than 3",
            [3],
            ones(3, 2),
        ),
        bad(IndexError, "found -1", [[-1]], ones(3, 2)),
        bad(TypeError, r"ids must be integers, found float64 \(1,\).*ids\.astype", [0.5], ones(3, 2)),
        bad(TypeError, "found bool", [True], ones(3, 2)),
        bad(ValueError, r"W of shape \(3,\) is no table of rows.*\(n, dim\)", [0], ones(3)),
        bad(ValueError, "padding_idx=3", [0], ones(3, 2), 3),
    ],
    "mse_loss": LOSS,
    "l1_loss": LOSS,
    "huber_loss": [
        *LOSS,
        bad(ValueError, "delta=0 is out of range.*> 0", X, X, delta=0),
        bad(TypeError, "delta=None is no number", X, X, delta=None),
    ],
    "kl_div": [*LOSS[1:], bad(ValueError, r"shape \(0, 3\) has no examples", X[:0], X[:0], "batchmean")],
    "binary_cross_entropy": LOSS,
    "binary_cross_entropy_with_logits": [
        *LOSS,
        bad(ValueError, r"pos_weight of shape \(2,\) does not broadcast to \(2, 3\)", X, X, pos_weight=ones(2)),
        bad(ValueError, r"weight of shape \(5, 2, 3\) does not", X, X, weight=ones(5, 2, 3)),
        bad(TypeError, "weight of <U1", X, X, weight=WORDS),
    ],
    "nll_loss": ENTROPY,
    "cross_entropy": [
        *ENTROPY,
        bad(ValueError, r"targets of shape \(2,\) do not fit .*probabilities of the shape", X, ones(2)),
        bad(ValueError, r"label_smoothing=1\.1 is out of range.*from 0 to 1", X, INDICES, label_smoothing=1.1),
        bad(ValueError, r"label_smoothing=nan", X, INDICES, label_smoothing=NAN),
        bad(TypeError, r"label_smoothing='a' is no number", X, INDICES, label_smoothing="a"),
        bad(ValueError, r"ignore_index=1 was given, but targets are probabilities", X, X, ignore_index=1),
    ],
    "layer_norm": [*NORM, bad(ValueError, r"bias of shape \(2, 1, 3\)", X, None, ones(2, 1, 3))],
    "rms_norm": NORM,
    "group_norm": [
        bad(ValueError, r"3 channels cannot be divided into 2 groups.*divides 3", X, 2),
        bad(ValueError, "groups=0", X, 0),
        bad(ValueError, r"groups=1\.5", X, 1.5),
        bad(ValueError, r"shape \(3,\) has no channels", X[0], 1),
        bad(ValueError, r"weight of shape \(2,\) does not fit .*\(3,\)", X, 1, ones(2)),
        bad(ValueError, r"shape \(2, 4, 0\) has empty groups", ROWS[..., :0], 2),
        bad(ValueError, "eps=-1 is out of range", X, 1, eps=-1),
        bad(TypeError, "of complex", X * 1j, 1),
    ],
    "batch_norm": [
        bad(ValueError, r"shape \(1, 3\) has 1 element per channel.*larger batch", X[:1], training=True),
        bad(ValueError, r"shape \(0, 3\) has no elements", X[:0], training=True),
        bad(ValueError, r"shape \(3,\) has no channels", X[0], training=True),
        bad(ValueError, "outside training running statistics are needed", X),
        bad(ValueError, "running_var alone is None", X, ones(3), training=True),
        bad(ValueError, r"running_mean of shape \(2,\) does not fit", X, ones(2), ones(3)),
        bad(TypeError, "running_mean, a int64, cannot follow", X, np.zeros(3, int), ones(3), training=True),
        bad(TypeError, "running_mean, a list, cannot follow", X, [0.0] * 3, [1.0] * 3, training=True),
        bad(ValueError, r"momentum=2 is out of range", X, ones(3), ones(3), training=True, momentum=2),
        bad(ValueError, "eps=-1 is out of range", X, training=True, eps=-1),
        bad(TypeError, "of complex", X * 1j, training=True),
    ],
    "dropout": [
        bad(ValueError, r"p=1\.5 is out of range. Instead: a number from 0 to 1", X, 1.5),
        bad(ValueError, r"p=-0\.1", X, -0.1),
        bad(ValueError, "p=nan", X, NAN),
        bad(TypeError, "p=True is no number", X, True),
        bad(TypeError, r"p=.*\(\[0\.5\].* is no number", X, np.array([0.5])),
        bad(TypeError, "'a' is no seed", X, 0.5, rng="a"),
        bad(TypeError, "an input of <U1", WORDS, 0.5),
    ],
    "scaled_dot_product_attention": [
        bad(ValueError, r"q \(2, 4, 5\), k \(2, 4, 4\) and v \(2, 4, 5\) do not fit", ROWS, ROWS[..., :4], ROWS),
        bad(ValueError, r"q \(5,\), .* do not fit together", ROWS[0, 0], ROWS, ROWS),
        bad(ValueError, r"leading axes of .*do not broadcast", ROWS, ones(3, 4, 5), ROWS),
        bad(ValueError, "nothing to attend to", ROWS, ROWS[:, :0], ROWS[:, :0]),
        bad(
            ValueError,
            r"a mask of shape \(3, 4, 4\) does not broadcast to \(2, 4, 4\)",
            ROWS,
            ROWS,
            ROWS,
            ones(3, 4, 4),
        ),
        bad(
            TypeError, r"a mask of int64 could mean two things.*astype\(bool\)", ROWS, ROWS, ROWS, np.ones((4, 4), int)
        ),
        bad(ValueError, r"dropout=2 is out of range", ROWS, ROWS, ROWS, dropout=2),
        bad(TypeError, "scale='a' is no number", ROWS, ROWS, ROWS, scale="a"),
        bad(ValueError, "scale=nan", ROWS, ROWS, ROWS, scale=NAN),
        bad(TypeError, "k of complex", ROWS, ROWS * 1j, ROWS),
    ],
    "sinusoidal_positions": [
        bad(ValueError, "length=-1", -1, 4),
        bad(ValueError, "dim=0", 3, 0),
        bad(ValueError, "dtype=int64 is not floating", 3, 4, int),
        bad(TypeError, "dtype='f33' is none of NumPy's", 3, 4, "f33"),
    ],
    "conv1d": [
        bad(ValueError, r"input of shape \(2, 4, 5, 6\).*\(N, C, L\)", IMAGES, ones(3, 4, 2)),
        bad(ValueError, r"kernel of size \(6,\).*padded input, \(5,\)", ROWS, ones(3, 4, 6)),
    ],
    "conv2d": [
        *convolution(WEIGHTS),
        bad(ValueError, r"has 4 channels, weights of shape \(6, 3, 3, 3\) take 3", IMAGES, WEIGHTS[:, :3]),
        bad(ValueError, r"kernel of size \(6, 6\).*padded input, \(5, 6\)", IMAGES, ones(3, 4, 6, 6)),
        bad(ValueError, r"a bias of shape \(4,\) for 6 output channels", IMAGES, WEIGHTS, ones(4)),
        bad(ValueError, r"no padding 'reflect'.*np\.pad", IMAGES, WEIGHTS, padding="reflect"),
        bad(ValueError, r'padding="same" with stride=\(2, 2\)', IMAGES, WEIGHTS, stride=2, padding="same"),
    ],
    "conv_transpose1d": [bad(ValueError, r"padding=9 leaves a result of size", ROWS, ones(4, 3, 2), padding=9)],
    "conv_transpose2d": [
        *convolution(WEIGHTS[:4]),
        bad(ValueError, "output_padding=1 is not smaller than stride", IMAGES, ones(4, 2, 2, 2), output_padding=1),
        bad(ValueError, "padding='same' was given", IMAGES, ones(4, 2, 2, 2), padding="same"),
    ],
    "unfold": [
        bad(ValueError, r"kernel of size \(7, 7\)", IMAGES, 7),
        bad(ValueError, "stride=0", IMAGES, 2, stride=0),
        bad(ValueError, r"input of shape \(2, 4, 5\)", ROWS, 2),
        bad(TypeError, "of <U1", WORDS, 2),
    ],
    "max_pool2d": [*POOL, bad(ValueError, "dilation=0", IMAGES, 2, dilation=0)],
    "avg_pool2d": POOL,
    "max_pool1d": ROW_POOL,
    "avg_pool1d": ROW_POOL,
    "adaptive_avg_pool2d": [
        bad(ValueError, r"output_size=\[0, 0\] was given", IMAGES, 0),
        bad(ValueError, r"output_size=\(1, 2, 3\)", IMAGES, (1, 2, 3)),
        bad(ValueError, r"images of size \(0, 6\) have no mean", IMAGES[:, :, :0], 2),
        bad(ValueError, r"input of shape \(2, 4, 5\)", ROWS, 2),
    ],
    "rnn_cell": [*cell(STATE, CELL), bad(ValueError, "'gelu'", X, STATE, **CELL, nonlinearity="gelu")],
    "gru_cell": cell(STATE, GRU_CELL),
    "lstm_cell": [*cell(PAIR, LSTM_CELL), bad(TypeError, "a state of type NoneType", X, None, **LSTM_CELL)],
}


# ---- layers --------------------------------------------------------------------------------------------------------

DTYPE = [
    bad(ValueError, "dtype=int64 is not floating.*np.float32", dtype=int),
    bad(TypeError, "dtype='f33' is none of NumPy's", dtype="f33"),
]
SEED = [bad(TypeError, "'a' is no seed.*an integer >= 0", rng="a"), bad(ValueError, "-1 is no seed", rng=-1)]
INIT = [
    bad(ValueError, "no initialiser 'glorot'.*xavier_uniform", init="glorot"),
    bad(TypeError, "3 is no initialiser", init=3),
    bad(ValueError, r"gave float64 \(1,\), not float32", init=lambda shape, dtype, rng: np.ones(1)),
    bad(ValueError, "gave int64", init=lambda shape, dtype, rng: np.ones(shape, int)),
    bad(ValueError, "gave complex128 .* not float32", init=lambda shape, dtype, rng: 1j * np.ones(shape)),
]


def with_first(rows: list[Bad], *args: Any) -> list[Bad]:
    return [row._replace(args=args) for row in rows]


SIZES = [
    bad(ValueError, r"sizes must be whole numbers >= 1, found \w+=0", 0, 3),
    bad(ValueError, r"found \w+=3 and \w+=2\.5", 3, 2.5),
    bad(ValueError, r"found \w+=True", True, 3),
]
EPS = [bad(ValueError, "eps=-1 is out of range.*>= 0", eps=-1), bad(TypeError, "eps='a' is no number", eps="a")]
CONVOLUTIONS = [
    bad(ValueError, "in_channels=0", 0, 4, 3),
    bad(ValueError, r"in_channels=3 and out_channels=4 do not divide into groups=2", 3, 4, 3, groups=2),
    bad(ValueError, "kernel_size=0 was given", 2, 4, 0),
    bad(ValueError, "stride=0 was given", 2, 4, 3, stride=0),
    bad(ValueError, "padding=-1 was given", 2, 4, 3, padding=-1),
    bad(ValueError, "dilation='a' was given", 2, 4, 3, dilation="a"),
    *with_first([*DTYPE, *SEED, *INIT], 2, 4, 3),
]
TRANSPOSED = [
    *CONVOLUTIONS,
    bad(ValueError, "output_padding=2 is not smaller than stride", 2, 4, 3, 2, output_padding=2),
]
WINDOWS = [
    bad(ValueError, "kernel_size=0 was given", 0),
    bad(ValueError, r"stride=\(1, 0, 1\)", 2, (1, 0, 1)),
    bad(ValueError, "padding=2 is more than half of kernel_size=2", 2, None, 2),
]
RECURRENT = [
    *SIZES,
    bad(ValueError, "num_layers=0", 3, 4, 0),
    bad(ValueError, "dropout=2 is out of range", 3, 4, dropout=2),
    *with_first([*DTYPE, *SEED], 3, 4),
]
AFFINE = [*with_first([*DTYPE, *EPS], 3)]
AXES = [bad(TypeError, r"axis='last' is no axis", "last"), bad(TypeError, r"axis=1\.5 is no axis", 1.5)]
PROBABILITY = [
    bad(ValueError, r"p=1\.5 is out of range.*a number from 0 to 1", 1.5),
    bad(TypeError, "p=None is no number", None),
]

MADE: dict[str, list[Bad]] = {
    **{name: [] for name in ("ReLU", "SiLU", "Sigmoid", "Tanh")},
    "LeakyReLU": [bad(TypeError, "negative_slope='a' is no number", "a"), bad(ValueError, "negative_slope=nan", NAN)],
    "ELU": [bad(TypeError, "alpha=None is no number", None)],
    "GELU": [bad(ValueError, r'no approximation \'exact\'.*"none" or "tanh"', "exact")],
    "Softplus": [bad(ValueError, "beta=-1 is out of range.*> 0", -1)],
    "Softmax": AXES,
    "LogSoftmax": AXES,
    "Dropout": PROBABILITY,
    "Flatten": [bad(TypeError, "start='a' is no axis", "a")],
    "Sequential": [
        bad(TypeError, r"layers are Functions, found int.*can be called", 3),
        bad(TypeError, "found NoneType", None),
        bad(TypeError, r"found the class ReLU.*ReLU\(\)", nn.ReLU),
        bad(TypeError, "found str, str", ["ab", "c"]),
    ],
    "Mlp": [bad(TypeError, "in a list, found ReLU", nn.ReLU()), bad(TypeError, "found NoneType", None)],
    "Linear": [*SIZES, *with_first([*DTYPE, *SEED, *INIT], 3, 2)],
    "Embedding": [*SIZES, bad(ValueError, "padding_idx=3", 3, 2, 3), *with_first([*DTYPE, *SEED, *INIT], 3, 2)],
    "SinusoidalPositions": [*SIZES, *with_first(DTYPE, 4, 3)],
    "LayerNorm": [bad(ValueError, r"dim=0", 0), bad(ValueError, r"dim\[1\]=-2", (3, -2)), *AFFINE],
    "RMSNorm": [bad(ValueError, "dim=0", 0), bad(ValueError, "found dim='a'", "a"), *AFFINE],
    "GroupNorm": [
        *SIZES,
        bad(ValueError, "6 channels cannot be divided into 4 groups", 4, 6),
        *with_first([*DTYPE, *EPS], 2, 4),
    ],
    **{
        name: [
            bad(ValueError, "channels=0", 0),
            bad(ValueError, "momentum=2 is out of range.*0 to 1", 3, momentum=2),
            *AFFINE,
        ]
        for name in ("BatchNorm", "BatchNorm1d", "BatchNorm2d")
    },
    "MultiHeadAttention": [
        *SIZES,
        bad(ValueError, "dim=6 features cannot be divided among heads=4.*multiple of 4", 6, 4),
        bad(ValueError, "dropout=-1 is out of range", 6, 2, -1),
        *with_first([*DTYPE, *SEED], 6, 2),
    ],
    "TransformerBlock": [
        bad(ValueError, "dim=6 features cannot be divided among heads=4", 6, 4),
        bad(ValueError, "dim_out=0", 6, 2, 0),
        bad(ValueError, "dropout=2 is out of range", 6, 2, dropout=2),
        bad(TypeError, "found str", 6, 2, activation="relu"),
        *with_first([*DTYPE, *SEED], 6, 2),
    ],
    "Conv1d": [*CONVOLUTIONS, bad(ValueError, r"kernel_size=\(3, 3\) was given", 2, 4, (3, 3))],
    "Conv2d": [*CONVOLUTIONS, bad(ValueError, r"no padding 'reflect'.*np\.pad", 2, 4, 3, padding="reflect")],
    "ConvTranspose1d": TRANSPOSED,
    "ConvTranspose2d": TRANSPOSED,
    "MaxPool1d": WINDOWS,
    "MaxPool2d": [*WINDOWS, bad(ValueError, "dilation=0 was given", 2, dilation=0)],
    "AvgPool1d": WINDOWS,
    "AvgPool2d": WINDOWS,
    "AdaptiveAvgPool2d": [bad(ValueError, r"output_size=\[0, 0\]", 0), bad(ValueError, "'a'", "a")],
    "RNN": [*RECURRENT, bad(ValueError, "'gelu'", 3, 4, nonlinearity="gelu")],
    "LSTM": RECURRENT,
    "GRU": RECURRENT,
    **{name: [*SIZES, *with_first([*DTYPE, *SEED], 3, 4)] for name in ("RNNCell", "LSTMCell", "GRUCell")},
}
STEPS = ones(2, 5, 3)
ALL_CELLS, ALL_RECURRENT = (nn.RNNCell, nn.LSTMCell, nn.GRUCell), (nn.RNN, nn.LSTM, nn.GRU)
ELEMENTWISE = (nn.ReLU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.GELU, nn.LeakyReLU, nn.Softplus)
CALLED: list[tuple[sadl.Function, Bad]] = [
    *((layer(), row) for layer in (*ELEMENTWISE, nn.Softmax, nn.LogSoftmax) for row in NUMBERS),
    (nn.LeakyReLU(Parameter(ones(2))), bad(ValueError, r"negative_slope of shape \(2,\) does not broadcast to", X)),
    (nn.Softmax(2), bad(AxisError, r"axis=2 is none of an input of shape \(2, 3\)", X)),
    (nn.LogSoftmax((0, 2)), bad(AxisError, r"axis=\(0, 2\)", X)),
    (nn.Dropout(0.5), bad(TypeError, "an input of <U1", WORDS)),
    (nn.Flatten(3), bad(ValueError, r"Flatten\(start=3\) was given an input of shape \(2, 3\).*at least 3 axes", X)),
    (nn.Sequential(nn.Linear(4, 3)), bad(ValueError, r"Linear\(dim_in=4, dim_out=3\) was given .*\(2, 3\)", X)),
    (nn.Mlp([nn.Linear(4, 3)]), bad(ValueError, r"Linear\(dim_in=4, dim_out=3\) was given .*\(\.\.\., 4\)", X)),
    (nn.Linear(4, 3), bad(ValueError, r"was given an input of shape \(\)", np.float32(1))),
    (nn.Linear(1, 3), bad(TypeError, "an input of <U1", WORDS)),
    (nn.Embedding(3, 2), bad(IndexError, r"outside 0 \.\. 2, for a table of float32 \(3, 2\): found 7", [[7]])),
    (nn.Embedding(3, 2), bad(IndexError, r"found -1.*ids from 0 to 2, or", [-1])),
    (nn.Embedding(3, 2), bad(TypeError, "ids must be integers, found float32", X)),
    (nn.SinusoidalPositions(3, 4), bad(ValueError, r"max_length=4\) was given an input of shape \(2, 5, 3\)", STEPS)),
    (nn.SinusoidalPositions(4, 4), bad(ValueError, r"dim=4.*shape \(2, 3\)", X)),
    (nn.LayerNorm(4), bad(ValueError, r"LayerNorm\(dim=4\) was given .*\(2, 3\).*\(\.\.\., 4\)", X)),
    (nn.LayerNorm((5, 3)), bad(ValueError, r"dim=\(5, 3\)\) was given .*\(2, 3\)", X)),
    (nn.LayerNorm(1), bad(TypeError, "an input of <U1", WORDS)),
    (nn.RMSNorm(4), bad(ValueError, r"RMSNorm\(dim=4\) was given", X)),
    (nn.GroupNorm(2, 4), bad(ValueError, r"groups=2, channels=4\) was given .*\(2, 3\).*\(n, 4, \.\.\.\)", X)),
    (nn.BatchNorm(4), bad(ValueError, r"BatchNorm\(channels=4\) was given", X)),
    (nn.BatchNorm1d(3), bad(ValueError, r"shape \(n, 3\) or \(n, 3, l\)", ones(2, 3, 4, 4))),
    (nn.BatchNorm1d(3), bad(ValueError, r"\(1, 3\) has 1 element per channel.*a larger batch", X[:1])),
    (nn.BatchNorm2d(4), bad(ValueError, r"\(0, 4, 5, 6\) has no elements per channel", IMAGES[:0])),
    (nn.BatchNorm2d(3), bad(ValueError, r"BatchNorm2d\(channels=3\) .*\(n, 3, h, w\)", IMAGES)),
    (nn.MultiHeadAttention(6, 2), bad(ValueError, r"heads=2\) was given inputs of shapes \(2, 5, 3\)", STEPS)),
    (nn.MultiHeadAttention(3, 1), bad(ValueError, r"a mask of shape \(3, 5, 5\)", STEPS, mask=ones(3, 5, 5) > 0)),
    (nn.MultiHeadAttention(3, 1), bad(TypeError, "a mask of int64", STEPS, mask=np.ones((5, 5), int))),
    (nn.MultiHeadAttention(3, 1), bad(ValueError, "was given inputs", STEPS, STEPS, STEPS[:, :2])),
    (nn.TransformerBlock(6, 2), bad(ValueError, r"LayerNorm\(dim=6\) was given .*\(2, 5, 3\)", STEPS)),
    (nn.TransformerBlock(3, 1), bad(ValueError, r"MultiHeadAttention\(.*\) was given", ones(3))),
    *((layer(3, 2, 2), bad(ValueError, r"\(N, 3, L\)", ROWS)) for layer in (nn.Conv1d, nn.ConvTranspose1d)),
    *((layer(3, 2, 2), bad(ValueError, r"\(N, 3, H, W\)", IMAGES)) for layer in (nn.Conv2d, nn.ConvTranspose2d)),
    (nn.Conv2d(4, 2, 7), bad(ValueError, r"kernel of size \(7, 7\).*more than the padded input, \(5, 6\)", IMAGES)),
    (nn.ConvTranspose2d(4, 2, 2, padding=5), bad(ValueError, r"padding=\(5, 5\) leaves a result of size", IMAGES)),
    *((layer(9), bad(ValueError, r"a kernel of size \(9,\)", ROWS)) for layer in (nn.MaxPool1d, nn.AvgPool1d)),
    *((layer(9), bad(ValueError, r"a kernel of size \(9, 9\)", IMAGES)) for layer in (nn.MaxPool2d, nn.AvgPool2d)),
    (nn.AdaptiveAvgPool2d(2), bad(ValueError, r"input of shape \(2, 4, 5\)", ROWS)),
    *((layer(4, 2), bad(ValueError, r"\(4, 2\) was given .*\(N, T, 4\)", STEPS)) for layer in ALL_RECURRENT),
    *((layer(3, 2), bad(ValueError, r"shape \(2, 0, 3\).*T >= 1", STEPS[:, :0])) for layer in ALL_RECURRENT),
    (nn.GRU(3, 2, 2), bad(ValueError, r"2 sequences and 2 cells.* 1 of shape \(2, 2, 2\)", STEPS, ones(1, 2, 2))),
    (nn.LSTM(3, 2), bad(ValueError, r"2 of shape \(1, 2, 2\)", STEPS, (ones(1, 2, 2),))),
    (nn.LSTM(3, 2), bad(TypeError, "a state of type int was given", STEPS, 0)),
    *((layer(4, 2), bad(ValueError, r"\(4, 2\) was given .*\(N, 4\)", X)) for layer in ALL_CELLS),
    *((layer(3, 2), bad(ValueError, r"a state of shapes \[\(2, 4\)", X, STATE)) for layer in (nn.RNNCell, nn.GRUCell)),
    (nn.LSTMCell(3, 2), bad(ValueError, r"a state of shapes \[\(2, 4\), \(2, 4\)\]", X, PAIR)),
]  # fmt: skip


# ---- first values --------------------------------------------------------------------------------------------------

SHAPES = [
    bad(ValueError, r"shape=\(-1, 3\) is none.*>= 0", (-1, 3)),
    bad(ValueError, r"shape=\(2\.5, 3\)", (2.5, 3)),
    bad(ValueError, "dtype=int64 is not floating", (3, 3), int),
]
FANS = [
    *SHAPES,
    bad(ValueError, r"shape \(3,\) has no fans.*\(out, in, \*kernel\)", (3,)),
    bad(ValueError, r"shape \(0, 3\) has no fans", (0, 3)),
    bad(ValueError, "no gain 'rely'.*relu", (3, 3), gain="rely"),
    bad(TypeError, "gain=None is no number", (3, 3), gain=None),
]
MODE = bad(ValueError, "no mode 'in'.*fan_in", (3, 3), mode="in")
INITIALIZERS = {
    "zeros": SHAPES,
    "ones": SHAPES,
    "uniform": [*SHAPES, bad(ValueError, r"low=1\.0 is above high=0\.0", (3,), low=1, high=0), *with_first(SEED, (3,))],
    "normal": [*SHAPES, bad(ValueError, "std=-1 is out of range", (3,), std=-1), *with_first(SEED, (3,))],
    "truncated_normal": [*SHAPES, bad(ValueError, "cut=0 is out of range", (3,), cut=0)],
    "orthogonal": FANS,
    "xavier_uniform": FANS,
    "xavier_normal": FANS,
    "kaiming_uniform": [*FANS, MODE],
    "kaiming_normal": [*FANS, MODE],
}


# ---- optimizers and schedules -------------------------------------------------------------------------------------


def parameters():
    return [Parameter(ones(2))]


RATES = [
    bad(ValueError, r"lr=-1 is out of range\. Instead: a finite number >= 0", parameters(), -1),
    *(bad(ValueError, "is out of range", parameters(), lr) for lr in (NAN, np.inf, "a", None, [1, 2])),
    bad(ValueError, "at least one parameter.*a generator gives its items only once", []),
    bad(ValueError, "at least one parameter", iter([])),
    bad(ValueError, "at least one parameter", nn.ReLU()),
    bad(TypeError, r"of type Parameter, unlike 0: a CpuTensor.*sadl\.Parameter\(array\)", [sadl.tensor(X)]),
    bad(TypeError, r"of type Parameter, unlike 0.*\[p\] for a single one", Parameter(X)),
    bad(TypeError, "the class Linear has no Parameters yet", nn.Linear),
    bad(TypeError, "found a NoneType", None),
]
BETAS = [
    bad(ValueError, r"betas=\(0\.9, 1\.0\) is out of range.*< 1", parameters(), betas=(0.9, 1.0)),
    bad(ValueError, r"betas=-0\.1 is out of range", parameters(), betas=(-0.1, 0.9)),
    bad(ValueError, r"betas are two numbers, found 0\.9", parameters(), betas=0.9),
    bad(ValueError, "weight_decay=-1 is out of range", parameters(), weight_decay=-1),
]
OPTIMIZERS = {
    "SGD": [
        *RATES,
        bad(ValueError, "momentum=-1 is out of range", parameters(), momentum=-1),
        bad(TypeError, "momentum=None is no number", parameters(), momentum=None),
        bad(TypeError, "nesterov='no' is neither True nor False", parameters(), momentum=0.9, nesterov="no"),
        bad(ValueError, r"nesterov=True with momentum=0\.0", parameters(), nesterov=True),
        bad(ValueError, "no option 'momentun'.*momentum", [{"params": parameters(), "momentun": 1}]),
    ],
    "Adam": [*RATES, *BETAS, bad(ValueError, "eps=-1 is out of range", parameters(), eps=-1)],
    "AdamW": [*RATES, *BETAS],
    "RMSprop": [*RATES, bad(ValueError, r"alpha=1\.0 is out of range.*< 1", parameters(), alpha=1)],
    "Adagrad": [*RATES, bad(ValueError, "lr_decay=nan is out of range", parameters(), lr_decay=NAN)],
    "Lion": [*RATES, *BETAS],
    "clip_grad_norm": [
        bad(ValueError, "max_norm=-1 is out of range.*>= 0", parameters(), -1),
        bad(ValueError, "norm_type=0 is out of range.*> 0", parameters(), 1, 0),
        bad(TypeError, "max_norm='a' is no number", parameters(), "a"),
        bad(TypeError, r"max_norm=a Tensor of float32 \(2, 3\) is no number", parameters(), sadl.tensor(ones(2, 3))),
        bad(ValueError, r"max_norm=-1\.0 is out of range.*>= 0", parameters(), sadl.tensor(-1.0)),
        bad(TypeError, "norm_type='fro' is no number", parameters(), 1, "fro"),
    ],
    "clip_grad_value": [bad(ValueError, "clip_value=nan is out of range", parameters(), NAN)],
}

COUNT = [bad(ValueError, "=0 is out of range.*an integer >= 1", 0), bad(ValueError, r"=1\.5 is out of range", 1.5)]
STONES = [
    bad(TypeError, r"milestones=3 is no list", 3),
    bad(ValueError, r"milestones=\[3, 2\] are not in order.*sorted", [3, 2]),
    bad(ValueError, "milestones=-1 is out of range", [-1]),
]
SCHEDULES = {
    "StepLR": [*COUNT, bad(ValueError, "gamma=-1 is out of range", 1, -1)],
    "MultiStepLR": STONES,
    "ExponentialLR": [bad(ValueError, "gamma=nan is out of range", NAN)],
    "CosineAnnealingLR": COUNT,
    "CosineAnnealingWarmRestarts": COUNT,
    "LinearLR": [bad(ValueError, "start_factor=-1", -1), bad(ValueError, "total_iters=0", total_iters=0)],
    "LambdaLR": [
        bad(TypeError, "lr_lambda=None is no function", None),
        bad(TypeError, r"lr_lambda=\[1\] is no function", [1]),
        bad(ValueError, "2 functions were given for 1 rates", [abs, abs]),
        bad(TypeError, "lr_lambda gave 'a'.*a number for each step", lambda t: "a"),
        bad(ValueError, r"the rate=-0\.001 is out of range", lambda t: -1),
    ],
    "SequentialLR": [
        bad(TypeError, "schedules=None is no list", None, [1]),
        bad(TypeError, "no schedules: int", [1], []),
        bad(ValueError, "0 schedules and 1 milestones", [], [1]),
    ],
}
