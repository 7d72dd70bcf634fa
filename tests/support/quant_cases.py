"""Operands of quantized operators, drawn and built, for property tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from tersor.ir import Const, Graph, Op, Tensor, Value
from tersor.ir.evaluate import evaluate, to_numpy, to_torch
from tersor.ir.types import Uniform, storage_range

#: Scales that float32 holds: powers of two make ties, the others do not.
SCALES = [2.0**-7, 2.0**-6, 0.5, 1.0, 2.0, *(float(np.float32(s)) for s in (0.0123, 0.37, 3.1, 1e-4))]


def per_tensor(storage: str, scale: float, zero: int) -> Uniform:
    return Uniform(storage, (float(scale),), (int(zero),))


@st.composite
def activations(draw: st.DrawFn, storage: str | None = None) -> Uniform:
    """u8 or i8 of any zero point."""
    kind = storage or draw(st.sampled_from(["u8", "u8", "i8"]))
    low, high = storage_range(kind)
    return per_tensor(kind, draw(st.sampled_from(SCALES)), draw(st.sampled_from([low, high, *range(low, high, 37)]) | st.integers(low, high)))


def stored(rng: np.random.Generator, elem: Uniform, shape: Sequence[int]) -> np.ndarray:
    """Integers of a type: uniform, or only its extremes."""
    low, high = elem.range
    values = rng.integers(low, high + 1, shape) if rng.random() < 0.7 else rng.choice([low, high], shape)
    return values.astype(Tensor((), elem).dtype)


def weights_of(rng: np.random.Generator, shape: Sequence[int], axis: int | None) -> Const:
    """i8 weights within -127 to 127, with scales along an axis or one."""
    count = 1 if axis is None else shape[axis]
    elem = Uniform("i8", tuple(float(s) for s in rng.choice(SCALES, count)), (0,) * count, axis, qmin=-127, qmax=127)
    return Const(stored(rng, elem, shape), elem)


def bias_of(rng: np.random.Generator, x: Uniform, scales: Sequence[float], per_channel: bool, count: int) -> Const:
    """i32 of the scales S_x S_w."""
    products = tuple(x.scales[0] * s for s in scales)
    elem = Uniform("i32", products, (0,) * len(products), 0 if per_channel else None)
    return Const(rng.integers(-50_000, 50_000, count).astype(np.int32), elem)


class Given:
    """Inputs of one graph, and what it gives for them."""

    graph: Graph

    def __init__(self) -> None:
        self.graph = Graph()
        self.arrays: list[np.ndarray] = []

    def add(self, array: np.ndarray, elem: Any) -> Value:
        self.arrays.append(array)
        return self.graph.add_input(Tensor(array.shape, elem), f"x{len(self.arrays)}")

    def run(self, op: Op) -> np.ndarray:
        """The stored integers of the op's result; dtype and shape are those of its type."""
        self.graph.set_outputs([self.graph.add(op)])
        self.graph.verify()
        (y,) = evaluate(self.graph, [to_torch(a) for a in self.arrays])
        assert isinstance(y, torch.Tensor)
        result = to_numpy(y)
        assert result.shape == op.out.shape and result.dtype == op.out.type.dtype
        return result
