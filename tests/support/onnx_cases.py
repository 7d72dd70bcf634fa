"""Graphs of one op each for the ONNX writer, and onnxruntime as the oracle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from tersor.frontend.onnx.export.save import to_model
from tersor.ir import Const, Graph, Op, Tensor, Value
from tersor.ir.ops import (
    Abs,
    Acos,
    Acosh,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    Add,
    ArgMax,
    ArgMin,
    ArgSort,
    Asin,
    Asinh,
    Atan,
    Atan2,
    Atanh,
    AvgPool2d,
    BatchNorm,
    BitwiseAnd,
    BitwiseOr,
    BitwiseXor,
    Cast,
    Ceil,
    ChannelShuffle,
    Clip,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Cos,
    Cosh,
    CumMax,
    CumMin,
    CumProd,
    CumSum,
    Div,
    Elu,
    Equal,
    Erf,
    Exp,
    Expand,
    Expm1,
    Floor,
    FloorDivide,
    Gather,
    Gelu,
    Greater,
    GreaterEqual,
    GroupNorm,
    HardSigmoid,
    HardSwish,
    IndexSelect,
    LayerNorm,
    LeakyRelu,
    Less,
    LessEqual,
    Linear,
    Log,
    Log1p,
    Log2,
    Log10,
    LogCumSumExp,
    LogicalAnd,
    LogicalNot,
    LogicalOr,
    LogSoftmax,
    Matmul,
    Maximum,
    MaxPool2d,
    Mean,
    Minimum,
    Mul,
    Neg,
    NotEqual,
    Pad,
    PixelShuffle,
    PixelUnshuffle,
    Pow,
    Prelu,
    Prod,
    ReduceMax,
    ReduceMin,
    Relu,
    Remainder,
    Reshape,
    Round,
    Rsqrt,
    Scatter,
    ShiftLeft,
    ShiftRight,
    Sigmoid,
    Signbit,
    Silu,
    Sin,
    Sinh,
    Slice,
    Softmax,
    Softplus,
    Sqrt,
    Sub,
    Sum,
    Tan,
    Tanh,
    Transpose,
    TruncDivide,
    Upsample,
    Where,
)

Build = Callable[..., Op]


def weight(*shape: int, seed: int = 1) -> Value:
    """A constant f32 tensor."""
    return Const(np.random.default_rng(seed).standard_normal(shape).astype(np.float32)).out


def positive(*shape: int) -> Value:
    return Const(np.random.default_rng(2).uniform(0.5, 2, shape).astype(np.float32)).out


IMAGE, FLAT = Tensor((1, 4, 7, 9)), Tensor((2, 5))
UNARY = (
    Abs,
    Ceil,
    Cos,
    Cosh,
    Erf,
    Sin,
    Sinh,
    Tan,
    Atan,
    Exp,
    Floor,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Neg,
    Relu,
    Round,
    Sigmoid,
    Silu,
    Softplus,
    Tanh,
    Elu,
    Expm1,
    Asinh,
)
UNARY += (Sin, Cos, Tan, Atan, Sinh, Cosh)
BINARY = (Add, Div, Equal, Greater, GreaterEqual, Less, LessEqual, Maximum, Minimum, Mul, NotEqual, Remainder, Sub, FloorDivide, TruncDivide)

BITS = (BitwiseAnd, BitwiseOr, BitwiseXor, ShiftLeft, ShiftRight)

#: Name -> (types of the inputs, function that makes the op from them). Every operator of the `nn` dialect occurs.
CASES: dict[str, tuple[Sequence[Tensor], Build]] = {
    **{kind.name: ((IMAGE,), kind) for kind in UNARY},
    **{kind.name: ((IMAGE, Tensor((1, 1, 9))), kind) for kind in BINARY},
    **{kind.name: ((IMAGE,), lambda x, kind=kind: kind(Mul(Tanh(x), Const(np.float32(0.9))))) for kind in (Asin, Acos, Atanh)},
    "acosh": ((IMAGE,), lambda x: Acosh(Exp(Abs(x)))),
    "atan2": ((IMAGE, IMAGE), Atan2),
    "atan2 on the axes": ((IMAGE, IMAGE), lambda a, b: Atan2(Round(a), Mul(Round(b), weight()))),
    "sign": ((IMAGE,), lambda x: Signbit(Mul(Round(x), Const(np.float32(-1))))),
    **{f"{kind.name} {elem}": ((Tensor((9,), elem), Tensor((9,), elem)), kind) for kind in BITS for elem in ("u8", "i32", "i64")},
    "shift of all bits": ((Tensor((9,), "i32"),), lambda x: ShiftRight(Sub(x, Const(np.int32(2))), Const(np.int32(31)))),
    "sqrt": ((IMAGE,), lambda x: Sqrt(Abs(x))),
    "rsqrt": ((IMAGE,), lambda x: Rsqrt(Exp(x))),
    "log": ((IMAGE,), lambda x: Log(Exp(x))),
    "log1p": ((IMAGE,), lambda x: Log1p(Abs(x))),
    "log2": ((IMAGE,), lambda x: Log2(Exp(x))),
    "log10": ((IMAGE,), lambda x: Log10(Exp(x))),
    "floor of integers": ((Tensor((4,), "i32"),), lambda x: FloorDivide(x, Const(np.int32(-3)))),
    "quotient of integers": ((Tensor((4,), "i32"),), lambda x: TruncDivide(x, Const(np.int32(-3)))),
    "pow": ((IMAGE,), lambda x: Pow(Abs(x), Const(np.float32(1.5)))),
    "gelu tanh": ((IMAGE,), lambda x: Gelu(x, "tanh")),
    "clip": ((IMAGE,), lambda x: Clip(x, -0.5, 0.25)),
    "clip above": ((IMAGE,), lambda x: Clip(x, max=0.25)),
    "clip of integers": ((Tensor((4,), "i32"),), lambda x: Clip(x, min=1)),
    "remainder of integers": ((Tensor((4,), "i32"),), lambda x: Remainder(x, Const(np.int32(-3)))),
    "neg of bytes": ((Tensor((4,), "u8"),), Neg),
    "round of integers": ((Tensor((4,), "i32"),), Round),
    "prelu": ((IMAGE,), lambda x: Prelu(x, weight(4))),
    "prelu of one slope": ((IMAGE,), lambda x: Prelu(x, weight(1))),
    "prelu of rows": ((FLAT,), lambda x: Prelu(x, weight(5))),
    "where": ((IMAGE, IMAGE), lambda a, b: Where(Less(a, b), a, b)),
    "logic": ((IMAGE, IMAGE), lambda a, b: LogicalOr(LogicalAnd(Less(a, b), Greater(a, Const(np.float32(0)))), LogicalNot(Less(b, a)))),
    "cast to integers": ((IMAGE,), lambda x: Cast(x, "i32")),
    "cast to bool": ((Tensor((4,), "i64"),), lambda x: Cast(x, "bool")),
    "cast of bytes": ((Tensor((4,), "u8"),), lambda x: Cast(x, "f32")),
    "conv": ((IMAGE,), lambda x: Conv2d(x, weight(6, 4, 3, 2), weight(6), stride=(2, 1), padding=(1, 0, 0, 2), dilation=(1, 2))),
    "grouped conv": ((IMAGE,), lambda x: Conv2d(x, weight(8, 1, 3, 3), groups=4)),
    "conv transpose": (
        (IMAGE,),
        lambda x: ConvTranspose2d(x, weight(4, 3, 3, 2), weight(6), stride=(2, 3), padding=(1, 0), output_padding=(1, 2), groups=2),
    ),
    "linear": ((FLAT,), lambda x: Linear(x, weight(3, 5), weight(3))),
    "linear without bias": ((FLAT,), lambda x: Linear(x, weight(3, 5))),
    "linear of rows of rows": ((IMAGE,), lambda x: Linear(x, weight(3, 9), weight(3))),
    "linear of a computed weight": ((IMAGE, Tensor((3, 9))), Linear),
    "matmul": ((IMAGE, Tensor((4, 9, 2))), Matmul),
    "batch norm": ((IMAGE,), lambda x: BatchNorm(x, weight(4), weight(4, seed=3), weight(4, seed=4), positive(4), 1e-3)),
    "layer norm": ((IMAGE,), lambda x: LayerNorm(x, weight(7, 9), weight(7, 9, seed=3), axes=2)),
    "layer norm without scale": ((IMAGE,), lambda x: LayerNorm(x, axes=1, eps=1e-3)),
    "group norm": ((IMAGE,), lambda x: GroupNorm(x, weight(4), weight(4, seed=3), groups=2)),
    "instance norm": ((IMAGE,), lambda x: GroupNorm(x, groups=4, eps=1e-3)),
    "max pool": ((IMAGE,), lambda x: MaxPool2d(x, (3, 2), (2, 2), (1, 0, 0, 1))),
    "max pool, dilated, rounded up": ((IMAGE,), lambda x: MaxPool2d(x, (2, 2), (3, 2), dilation=(2, 1), ceil_mode=True)),
    "avg pool": ((IMAGE,), lambda x: AvgPool2d(x, (3, 2), (2, 2), (1, 0, 0, 1))),
    "avg pool of the map alone": ((IMAGE,), lambda x: AvgPool2d(x, (3, 2), (2, 2), (1, 0, 0, 1), count_include_pad=False)),
    "avg pool, rounded up": ((IMAGE,), lambda x: AvgPool2d(x, (2, 2), (2, 2), (1, 1, 0, 1), ceil_mode=True)),
    "avg pool of the map alone, rounded up": ((IMAGE,), lambda x: AvgPool2d(x, (2, 2), (2, 2), (1, 1, 0, 1), True, False)),
    "avg pool with a divisor": ((IMAGE,), lambda x: AvgPool2d(x, (3, 3), (2, 2), (1, 1, 1, 1), divisor=4)),
    "adaptive avg pool to one": ((IMAGE,), lambda x: AdaptiveAvgPool2d(x, (1, 1))),
    "adaptive avg pool to parts": ((IMAGE,), lambda x: AdaptiveAvgPool2d(x, (7, 3))),
    "adaptive avg pool": ((IMAGE,), lambda x: AdaptiveAvgPool2d(x, (3, 4))),
    "adaptive max pool to one": ((IMAGE,), lambda x: AdaptiveMaxPool2d(x, (1, 1))),
    "adaptive max pool to parts": ((IMAGE,), lambda x: AdaptiveMaxPool2d(x, (1, 3))),
    "adaptive max pool": ((IMAGE,), lambda x: AdaptiveMaxPool2d(x, (3, 4))),
    "mean": ((IMAGE,), lambda x: Mean(x, (1, 3), True)),
    "mean over nothing": ((IMAGE,), lambda x: Mean(x, ())),
    "sum of integers": ((Tensor((4, 3), "i32"),), lambda x: Sum(x, (1,))),
    "sum of bools": ((IMAGE,), lambda x: Sum(Greater(x, Const(np.float32(0))), (1,))),
    "prod": ((FLAT,), lambda x: Prod(x, (1,))),
    "max": ((IMAGE,), lambda x: ReduceMax(x, (2, 3))),
    "max of bools": ((IMAGE,), lambda x: ReduceMax(Greater(x, Const(np.float32(1))), (3,))),
    "min": ((IMAGE,), lambda x: ReduceMin(x, (1,), True)),
    "arg max": ((IMAGE,), lambda x: ArgMax(x, 1)),
    "arg min": ((IMAGE,), lambda x: ArgMin(x, 2, True)),
    "softmax": ((IMAGE,), lambda x: Softmax(x, 1)),
    "log softmax": ((IMAGE,), lambda x: LogSoftmax(x, 3)),
    "cum sum": ((IMAGE,), lambda x: CumSum(x, 2)),
    "cum sum of integers": ((Tensor((4, 3), "i32"),), lambda x: CumSum(x, 0)),
    **{kind.name: ((IMAGE,), lambda x, kind=kind: kind(x, 3)) for kind in (CumProd, CumMax, CumMin, LogCumSumExp)},
    "cum prod of integers": ((Tensor((4, 3), "i32"),), lambda x: CumProd(x, 0)),
    "cum max of integers": ((Tensor((4, 3), "i32"),), lambda x: CumMax(x, 0)),
    "arg sort": ((IMAGE,), lambda x: ArgSort(x, 2)),
    "arg sort, descending, of equals": ((Tensor((4, 9), "i32"),), lambda x: ArgSort(x, 1, True)),
    "gather": ((IMAGE, Tensor((1, 4, 7, 2), "i64")), lambda x, i: Gather(x, i, 3)),
    **{
        f"scatter, {mode}": ((Tensor((5, 3)), Tensor((3, 3))), lambda x, u, mode=mode: Scatter(x, Const(np.array([4, 0, 2])), u, mode))
        for mode in ("set", "add", "mul", "max", "min")
    },
    "reshape": ((IMAGE,), lambda x: Reshape(x, (-1, 36, 7))),
    "transpose": ((IMAGE,), lambda x: Transpose(x, (0, 2, 3, 1))),
    "expand": ((Tensor((1, 4, 1, 9)),), lambda x: Expand(x, (-1, -1, 7, -1))),
    "concat": ((IMAGE, IMAGE), lambda a, b: Concat([a, b, a], 1)),
    "slice": ((IMAGE,), lambda x: Slice(x, 3, 1, 8, 3)),
    "index select": ((IMAGE,), lambda x: IndexSelect(x, Const(np.array([3, 0, 0])), 1)),
    "index select by data": ((IMAGE, Tensor((3,), "i64")), lambda x, i: IndexSelect(x, i, 2)),
    "pad": ((IMAGE,), lambda x: Pad(x, (0, 0, 0, 0, 1, 2, -1, 3), "constant", 1.5)),
    "pad of integers": ((Tensor((4,), "i64"),), lambda x: Pad(x, (2, 1), "constant", 7.0)),
    **{f"pad {mode}": ((IMAGE,), lambda x, mode=mode: Pad(x, (0, 0, 0, 0, 1, 2, -1, 3), mode)) for mode in ("reflect", "replicate", "circular")},
    "pixel shuffle": ((Tensor((1, 8, 3, 2)),), lambda x: PixelShuffle(x, 2)),
    "pixel unshuffle": ((Tensor((1, 2, 6, 4)),), lambda x: PixelUnshuffle(x, 2)),
    "channel shuffle": ((Tensor((1, 6, 3, 2)),), lambda x: ChannelShuffle(x, 3)),
    "upsample": ((IMAGE,), lambda x: Upsample(x, (14, 27))),
    "upsample by no multiple": ((IMAGE,), lambda x: Upsample(x, (10, 5))),
    "upsample by scales": ((IMAGE,), lambda x: Upsample(x, (9, 16), scales=(1.3, 1.8))),
    "bilinear": ((IMAGE,), lambda x: Upsample(x, (10, 13), "bilinear")),
    "bilinear by scales": ((IMAGE,), lambda x: Upsample(x, (9, 16), "bilinear", scales=(1.3, 1.8))),
    "bilinear to the corners": ((IMAGE,), lambda x: Upsample(x, (10, 13), "bilinear", True)),
}


def case(name: str) -> Graph:
    """The graph of a case; inputs of four dimensions are batched."""
    types, build = CASES[name]
    graph = Graph()
    values = [graph.add_input(t, f"x:{i}", t.rank == 4) for i, t in enumerate(types)]
    graph.set_outputs([graph.add(build(*values))], ["y"])
    return graph


def inputs_for(graph: Graph, batch: int | None = None) -> list[np.ndarray]:
    """Normal floats (no two of them equal), small integers."""
    rng = np.random.default_rng(0)
    result = []
    for v in graph.inputs:
        shape = (batch, *v.shape[1:]) if batch and v.name in graph.batched else v.shape
        result.append(np.asarray(rng.standard_normal(shape) if v.type.is_float else rng.integers(0, 5, shape)).astype(v.type.dtype))
    return result


def run_ort(model: Any, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """onnxruntime without optimizations on a file or a ModelProto, inputs in order."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    source = str(model) if not hasattr(model, "SerializeToString") else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    results: list[np.ndarray] = session.run(None, dict(zip((i.name for i in session.get_inputs()), inputs)))
    return results


def run_optimized(path: Path, x: np.ndarray) -> tuple[np.ndarray, Counter[str]]:
    """onnxruntime's result with all optimizations, and the operators of its optimized graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path.with_suffix(".optimized"))
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x})
    return y, Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def exported(graph: Graph) -> Any:
    return to_model(graph)


def results_of(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Outputs of the interpreter in order."""
    result = graph(*inputs)
    return list(result) if isinstance(result, tuple) else [result]


def assert_equal(got: Sequence[np.ndarray], wanted: Sequence[np.ndarray], tolerance: float) -> None:
    """max|a - b| / max|b| at most the tolerance; integers, bools, types and shapes equal."""
    for a, b in zip(got, wanted, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if b.dtype.kind != "f":
            np.testing.assert_array_equal(a, b)
        else:
            scale = float(np.abs(b).max(initial=0)) or 1.0
            np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=tolerance)
