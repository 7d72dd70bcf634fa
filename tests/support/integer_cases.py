"""Random integer convolutions, and the operators that round them."""

from __future__ import annotations

from typing import Any

import integer_oracle as oracle
import numpy as np

from tersor.backend.tile.integer import IntConv2d, IntSumPool2d, Rescale
from tersor.ir.graph import Graph
from tersor.ir.op import Const, Value
from tersor.ir.ops import MaxPool2d
from tersor.ir.types import NUMPY

Case = dict[str, Any]


def random_case(rng: np.random.Generator) -> Case:
    """A convolution of a random geometry; its weights are wild, or such that pmaddubsw does not saturate."""
    groups = int(rng.choice([1, 1, 1, 2, 3, 8]))
    depthwise = rng.random() < 0.25
    per_in, per_out = (1, 1) if depthwise else (int(rng.integers(1, 40 // groups + 2)), int(rng.integers(1, 40 // groups + 2)))
    groups = int(rng.integers(2, 40)) if depthwise else groups
    kernel, stride, dilation = (tuple(int(v) for v in rng.integers(1, high, 2)) for high in (4, 3, 3))
    padding = tuple(int(v) for v in rng.integers(0, 3, 4))
    h, w = (int(rng.integers(max(1, dilation[i] * (kernel[i] - 1) + 1 - padding[2 * i] - padding[2 * i + 1]), 12)) for i in (0, 1))
    low, high = (-64, 64) if rng.random() < 0.5 else (-127, 127)
    weights = rng.choice([low, 0, high, int(rng.integers(low, high))], (groups * per_out, per_in, *kernel)).astype(np.int8)
    elem = str(rng.choice(["u8", "u8", "u8", "i8"]))
    limits = np.iinfo(NUMPY[elem])
    x = rng.choice([limits.min, limits.max, int(rng.integers(limits.min, limits.max))], (int(rng.integers(1, 3)), groups * per_in, h, w))
    b = rng.integers(-(2**20), 2**20, groups * per_out) if rng.random() < 0.7 else None
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    zero = int(rng.integers(limits.min, limits.max + 1))
    return {"x": x.astype(NUMPY[elem]), "w": weights, "b": b, "zero": zero, "geometry": geometry}


def add_conv(graph: Graph, x: Value, case: Case) -> Value:
    """acc of a case, whose image is x."""
    b = None if case["b"] is None else Const(case["b"].astype(np.int32))
    return graph.add(IntConv2d(x, Const(case["w"]), b, **case["geometry"], zero=Const(np.array(case["zero"], case["x"].dtype))))


def accumulators(case: Case) -> oracle.I64:
    b = np.zeros(len(case["w"]), np.int64) if case["b"] is None else case["b"]
    g = case["geometry"]
    wide = case["x"].astype(np.int64), case["w"].astype(np.int64)
    return oracle.conv(wide[0], case["zero"], wide[1], b, g["stride"], g["padding"], g["dilation"], g["groups"])


def scalar(value: float, dtype: Any) -> Const:
    return Const(np.array(value, dtype))


def rescale(acc: Value, multiplier: np.ndarray, zero: int, low: int, high: int) -> Rescale:
    m = Const(multiplier.astype(np.float32).reshape(1, -1, 1, 1) if acc.type.rank == 4 else multiplier.astype(np.float32))
    return Rescale(acc, m, scalar(zero, np.int32), scalar(low - zero, np.float32), scalar(high - zero, np.float32), "u8")


def rounding(rng: np.random.Generator) -> tuple[int, int, int]:
    """A zero point, and the least and the most byte; often 0, and all bytes, for which kernels leave instructions out."""
    zero = int(rng.integers(0, 256)) if rng.random() < 0.6 else 0
    return (zero, 0, 255) if rng.random() < 0.5 else (zero, int(rng.integers(0, 100)), int(rng.integers(100, 256)))


def pools(x: Value, zero: Const) -> list[tuple[Any, tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]]]:
    """Maxima and sums of windows: with and without padding, of the whole map."""
    geometries: list[Any] = [((3, 2), (2, 1), (1, 1, 0, 1)), ((2, 3), (1, 2), (0, 0, 1, 2)), (x.shape[2:], (1, 1), (0, 0, 0, 0))]
    return [(kind, g) for g in geometries for kind in (MaxPool2d(x, *g), IntSumPool2d(x, *g, zero=zero))]
