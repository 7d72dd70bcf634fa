"""Average pooling and softmax of stored integers with erased types, in ONNX Runtime's arithmetic: f32, whose sums have an order.

quant.avg_pool2d   =>   scaled_sum_pool2d -> average_quotient
quant.softmax      =>   max; shifted_lookup -> ordered_sum -> rescale_share
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...ir.op import Value
from ...ir.ops import Math, Pool2d, Sum, torch_dtype
from ...ir.ops.quant_arithmetic import average_onnx, share_onnx
from ...ir.ops.quant_pool import ordered_sum
from ...ir.ops.quant_softmax import added_in_order
from ...ir.types import Tensor
from .integer import BYTES, RoundedReal, Rounding, check, zero_like
from .ops import Blocked

if TYPE_CHECKING:
    import torch


class ScaledSumPool2d(Pool2d, name="nn.scaled_sum_pool2d"):
    """Sum of f32(x - zero) * scale over each window, row after row; each product and each sum is rounded to f32. Padding adds 0."""

    accumulates = True

    zero: Value
    scale: Value
    ceil_mode: bool = False

    def infer(self) -> Tensor:
        check(self, BYTES, "x")
        check(self, ("f32",), "scale")
        zero_like(self, "zero", "x")
        return Tensor(self.out_shape((1, 1), self.ceil_mode), "f32")

    def evaluate(self, *xs: Any) -> torch.Tensor:
        x, zero, scale = xs
        return ordered_sum(self, (x.to(torch_dtype("i32")) - zero.to(torch_dtype("i32"))).float() * scale, self.ceil_mode)


class TileScaledSumPool2d(Blocked, ScaledSumPool2d, name="tile.scaled_sum_pool2d"):
    plain = ScaledSumPool2d


class AverageQuotient(RoundedReal, name="tile.average_quotient"):
    """clamp(rint(x / count / scale + offset), least, most) + zero, as `to`; each operation is rounded (QLinearAveragePool of onnxruntime).

    All but zero i32 are f32.
    """

    x: Value
    count: Value
    scale: Value
    offset: Value
    zero: Value
    least: Value
    most: Value
    to: str

    def real(self, m: Math, x: Any, count: Any, scale: Any, offset: Any, *rest: Any) -> Any:
        return average_onnx(m, x, count, scale, offset)

    @property
    def terms(self) -> list[tuple[Value, Value]]:
        return [(self.x, self.scale)]


class ShiftedLookup(Rounding, name="tile.shifted_lookup"):
    """table[255 - (largest - x)]; x and largest u8 or i8, the table f32 of 256 elements."""

    tables = ("table",)

    x: Value
    largest: Value
    table: Value

    @property
    def elem(self) -> str:
        return "f32"

    def f(self, m: Math, x: Any, largest: Any, table: Any) -> Any:
        index = m.cast(x, "i32") - m.cast(largest, "i32")
        return m.take(table, index + m.const(index, 255))


class OrderedSum(Sum, name="tile.ordered_sum"):
    """Sum of f32 over the axes, one element after the other, rounded to f32 after each."""

    def evaluate(self, *xs: Any) -> torch.Tensor:
        total: torch.Tensor = xs[0]
        for axis in self.axes:
            total = added_in_order(total, axis)
        return total if self.keepdim else total.squeeze(self.axes)


class RescaleShare(RoundedReal, name="tile.rescale_share"):
    """clamp(rint(e * steps / total), least, most) + zero, as `to`; all but zero i32 are f32; each operation is rounded."""

    e: Value
    steps: Value
    total: Value
    zero: Value
    least: Value
    most: Value
    to: str

    def real(self, m: Math, e: Any, steps: Any, total: Any, *rest: Any) -> Any:
        return share_onnx(m, e, steps, total)

    @property
    def terms(self) -> list[tuple[Value, Value]]:
        return [(self.e, self.steps)]
