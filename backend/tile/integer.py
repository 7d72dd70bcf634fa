"""Quantized operators with their types erased: stored integers are plain u8, i8 and i32, and every scale and zero point is an operand.

A quantized type holds its scales, so each layer would need its own code. With erased types, layers of one shape share a kernel:

    quant.conv2d -> quant.requantize   =>   int_conv2d(x, w, b, zero) -> rescale(acc, multiplier, zero, least, most)

Parameters are constants: scalars, or one value for each channel. Rounding is that of `ir.ops.quant_arithmetic`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...ir.op import Op, Value
from ...ir.ops import Conv, ConvTranspose, Dense, Elementwise, Math, Matmul, Pool2d, torch_dtype
from ...ir.ops.check import broadcast, broadcast_type
from ...ir.ops.quant_arithmetic import nearest_within, product_onnx, shifted_within, sum_onnx
from ...ir.types import Elem, Tensor
from .ops import Blocked

if TYPE_CHECKING:
    import torch

BYTES = ("u8", "i8")


def check(op: Op, valid: tuple[str, ...], *names: str) -> Elem:
    """The element type of the first of the named operands; raises where one has an element type that is not valid."""
    for name in names:
        v: Value | None = getattr(op, name)
        if v is not None and v.type.elem not in valid:
            raise op.fail(f"{name} must hold {' or '.join(valid)}, got {v.type}")
    first: Value = getattr(op, names[0])
    return first.type.elem


def zero_like(op: Op, name: str, of: str) -> None:
    """Raise unless an operand is a scalar with the element type of another operand."""
    v: Value = getattr(op, name)
    elem = getattr(op, of).type.elem
    if v.type.size != 1 or v.type.elem != elem:
        raise op.fail(f"{name} must be one {elem}, got {v.type}")


# -- sums of products --------------------------------------------------------------------------


class IntConv2d(Conv, name="nn.int_conv2d"):
    """acc = b + sum (x - zero) * w in i32; the border of an image counts as zero. x u8 or i8, w i8, b i32, zero a scalar like x."""

    windowed = True
    feature_map = True
    contraction = True
    accumulates = True

    zero: Value

    def infer(self) -> Tensor:
        _operands(self)
        return Tensor(self.out_shape(), "i32")

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch.nn.functional as F

        x, w, b = _doubles(*xs)
        top, bottom, left, right = self.padding
        return F.conv2d(F.pad(x, (left, right, top, bottom)), w, b, self.stride, 0, self.dilation, self.groups).to(torch_dtype("i32"))


class TileIntConv2d(Blocked, IntConv2d, name="tile.int_conv2d"):
    plain = IntConv2d


class IntConvTranspose2d(ConvTranspose, name="nn.int_conv_transpose2d"):
    """The transposed convolution of x - zero by w, plus b, in i32."""

    zero: Value

    def infer(self) -> Tensor:
        _operands(self)
        return Tensor(self.out_shape(), "i32")

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch.nn.functional as F

        x, w, b = _doubles(*xs)
        y = F.conv_transpose2d(x, w, b, self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return y.to(torch_dtype("i32"))


class IntLinear(Dense, name="tile.int_linear"):
    """acc = b + (x - zero) @ w.T in i32."""

    accumulates = True

    zero: Value

    def infer(self) -> Tensor:
        _operands(self)
        return Tensor(self.out_shape(), "i32")

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch.nn.functional as F

        return F.linear(*_doubles(*xs)).to(torch_dtype("i32"))


class IntMatmul(Matmul, name="tile.int_matmul"):
    """a @ b of i32, modulo 2^32."""

    accumulates = True

    def infer(self) -> Tensor:
        check(self, ("i32",), "a", "b")
        a, b = self.a.shape, self.b.shape
        if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
            raise self.fail(f"operands must be (..., M, K) and (..., K, N), got {list(a)} and {list(b)}")
        return Tensor((*broadcast(self, a[:-2], b[:-2]), a[-2], b[-1]), "i32")

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        return torch.matmul(*(x.double() for x in xs)).to(torch.int32)


class IntSumPool2d(Pool2d, name="nn.int_sum_pool2d"):
    """Sum of x - zero over each window, in i32; padding adds 0."""

    accumulates = True

    zero: Value
    ceil_mode: bool = False

    def infer(self) -> Tensor:
        check(self, BYTES, "x")
        zero_like(self, "zero", "x")
        return Tensor(self.out_shape((1, 1), self.ceil_mode), "i32")

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch.nn.functional as F

        x = self.padded(xs[0].double() - xs[1].double(), (1, 1), self.ceil_mode, 0.0)
        return F.avg_pool2d(x, self.kernel, self.stride, divisor_override=1).to(torch_dtype("i32"))


class TileIntSumPool2d(Blocked, IntSumPool2d, name="tile.int_sum_pool2d"):
    plain = IntSumPool2d


def _operands(op: Op) -> None:
    check(op, BYTES, "x")
    check(op, ("i8",), "w")
    check(op, ("i32",), "b") if op.b is not None else None  # type: ignore[attr-defined]
    zero_like(op, "zero", "x")


def _doubles(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, zero: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """x - zero, w and b in float64, in which every accumulator that fits i32 is exact."""
    return x.double() - zero.double(), w.double(), None if b is None else b.double()


# -- elementwise -------------------------------------------------------------------------------


class Rounding(Elementwise):
    """Base of operators on stored integers, of any shapes that broadcast."""

    @property
    def elem(self) -> str:
        """Element type of the result."""
        return "i32"

    def infer(self) -> Tensor:
        return broadcast_type(self, [v.type for v in self.by_element], self.elem)


class Rounded(Rounding):
    """Base of operators whose result is stored integers of the element type `to`."""

    to: str

    @property
    def elem(self) -> str:
        return self.to


class RoundedReal(Rounded):
    """Base of clamp(rint(real), least, most) + zero, as `to`; zero i32, least and most f32 are the last operands."""

    def f(self, m: Math, *xs: Any) -> Any:
        *_, zero, least, most = xs
        return m.cast(nearest_within(m, self.real(m, *xs), least, most) + zero, self.to)

    def real(self, m: Math, *xs: Any) -> Any:
        """The f32 that is rounded."""
        raise NotImplementedError(f"{type(self).__name__}.real")

    @property
    def terms(self) -> list[tuple[Value, Value]]:
        """The integers that `real` adds up, and their multipliers."""
        raise NotImplementedError(f"{type(self).__name__}.terms")


@dataclass(frozen=True)
class ByteRange:
    """What is known of a rounded u8 result: whether its zero point is 0, and whether its clamp is the full range 0 .. 255, as saturation's is."""

    zero_point_0: bool = False
    full: bool = False


def byte_range(op: Op, array: Callable[[Value], np.ndarray | None]) -> ByteRange:
    """array: of an operand, None where it is not constant."""
    if not isinstance(op, RoundedReal) or op.to != "u8":
        return ByteRange()
    zero, least, most = (array(v) for v in op.operands[-3:])
    if zero is None or least is None or most is None:
        return ByteRange()
    return ByteRange(not zero.any(), bool((least + zero <= 0).all() and (most + zero >= 255).all()))


class Centered(Rounding, name="tile.centered"):
    """i32(x) - zero; x u8, i8 or i32, zero i32."""

    x: Value
    zero: Value

    def f(self, m: Math, x: Any, zero: Any) -> Any:
        return m.cast(x, "i32") - zero


class CenteredProduct(Rounding, name="tile.centered_product"):
    """(a - zero_a) * (b - zero_b) in i32."""

    a: Value
    b: Value
    zero_a: Value
    zero_b: Value

    def f(self, m: Math, a: Any, b: Any, zero_a: Any, zero_b: Any) -> Any:
        return (m.cast(a, "i32") - zero_a) * (m.cast(b, "i32") - zero_b)


class ToFloat(Rounding, name="tile.to_float"):
    """f32(x) * scale of i32 x, rounded."""

    x: Value
    scale: Value

    @property
    def elem(self) -> str:
        return "f32"

    def f(self, m: Math, x: Any, scale: Any) -> Any:
        return m.mul(m.cast(x, "f32"), scale)


class Rescale(RoundedReal, name="tile.rescale"):
    """clamp(rint(f32(x) * multiplier), least, most) + zero, as `to`. x i32 or f32; multiplier, least and most f32; zero i32."""

    x: Value
    multiplier: Value
    zero: Value
    least: Value
    most: Value
    to: str

    def real(self, m: Math, x: Any, multiplier: Any, *rest: Any) -> Any:
        return m.mul(m.cast(x, "f32"), multiplier)

    @property
    def terms(self) -> list[tuple[Value, Value]]:
        return [(self.x, self.multiplier)]


class Quotient(RoundedReal, name="tile.quotient"):
    """clamp(rint(x / scale), least, most) + zero, as `to`. x, scale, least and most f32; zero i32."""

    x: Value
    scale: Value
    zero: Value
    least: Value
    most: Value
    to: str

    def real(self, m: Math, x: Any, scale: Any, *rest: Any) -> Any:
        return x / scale

    @property
    def terms(self) -> list[tuple[Value, Value]]:
        return [(self.x, self.scale)]


class RescaleProduct(RoundedReal, name="tile.rescale_product"):
    """clamp(rint(f32(x) * multiplier + offset), least, most) + zero, as `to`; each operation is rounded (QLinearMul of onnxruntime)."""

    x: Value
    multiplier: Value
    offset: Value
    zero: Value
    least: Value
    most: Value
    to: str

    def real(self, m: Math, x: Any, multiplier: Any, offset: Any, *rest: Any) -> Any:
        return product_onnx(m, x, multiplier, offset)

    @property
    def terms(self) -> list[tuple[Value, Value]]:
        return [(self.x, self.multiplier)]


class RescaleFixed(Rounded, name="tile.rescale_fixed"):
    """clamp((x * factor + half) >> shift, least, most) + zero in i64, as `to`; x and zero i32."""

    x: Value
    factor: Value
    half: Value
    shift: Value
    zero: Value
    least: Value
    most: Value
    to: str

    def f(self, m: Math, x: Any, factor: Any, half: Any, shift: Any, zero: Any, least: Any, most: Any) -> Any:
        return m.cast(shifted_within(m, m.cast(x, "i64") * factor, half, shift, least, most) + zero, self.to)


class RescaledSum(RoundedReal, name="tile.rescaled_sum"):
    """clamp(rint(f32(a - zero_a) * multiplier_a + f32(b - zero_b) * multiplier_b), least, most) + zero, as `to`; each operation is rounded."""

    a: Value
    b: Value
    zero_a: Value
    zero_b: Value
    multiplier_a: Value
    multiplier_b: Value
    zero: Value
    least: Value
    most: Value
    to: str

    def real(self, m: Math, a: Any, b: Any, zero_a: Any, zero_b: Any, multiplier_a: Any, multiplier_b: Any, *rest: Any) -> Any:
        left = m.mul(m.cast(m.cast(a, "i32") - zero_a, "f32"), multiplier_a)
        right = m.mul(m.cast(m.cast(b, "i32") - zero_b, "f32"), multiplier_b)
        return m.add(left, right)

    @property
    def terms(self) -> list[tuple[Value, Value]]:
        return [(self.a, self.multiplier_a), (self.b, self.multiplier_b)]


class FusedSum(RoundedReal, name="tile.fused_sum"):
    """clamp(rint(fma(b, multiplier_b, fma(a, multiplier_a, offset))), least, most) + zero, as `to` (QLinearAdd of onnxruntime).

    fused: the inner multiply-add is rounded once; else the product and the sum are rounded.
    """

    a: Value
    b: Value
    multiplier_a: Value
    multiplier_b: Value
    offset: Value
    zero: Value
    least: Value
    most: Value
    to: str
    fused: bool = True

    def real(self, m: Math, a: Any, b: Any, multiplier_a: Any, multiplier_b: Any, offset: Any, *rest: Any) -> Any:
        return sum_onnx(m, a, b, multiplier_a, multiplier_b, offset, self.fused)

    @property
    def terms(self) -> list[tuple[Value, Value]]:
        return [(self.a, self.multiplier_a), (self.b, self.multiplier_b)]


class RescaledSumFixed(Rounded, name="tile.rescaled_sum_fixed"):
    """clamp(((a - zero_a) * factor_a + (b - zero_b) * factor_b + half) >> shift, least, most) + zero in i64, as `to`."""

    a: Value
    b: Value
    zero_a: Value
    zero_b: Value
    factor_a: Value
    factor_b: Value
    half: Value
    shift: Value
    zero: Value
    least: Value
    most: Value
    to: str

    def f(self, m: Math, *xs: Any) -> Any:
        a, b, zero_a, zero_b, factor_a, factor_b, half, shift, zero, least, most = xs
        left = m.cast(m.cast(a, "i32") - zero_a, "i64") * factor_a
        right = m.cast(m.cast(b, "i32") - zero_b, "i64") * factor_b
        return m.cast(shifted_within(m, left + right, half, shift, least, most) + zero, self.to)


class TableLookup(Rounding, name="tile.lookup"):
    """table[x - first]; x u8 or i8, first its lowest integer."""

    tables = ("table",)

    x: Value
    table: Value
    first: int

    def infer(self) -> Tensor:
        check(self, BYTES, "x", "table")
        return Tensor(self.x.shape, self.table.type.elem, self.x.type.layout)

    def f(self, m: Math, x: Any, table: Any) -> Any:
        index = m.cast(x, "i32")
        return m.take(table, index - m.const(index, self.first))


__all__ = [
    "BYTES",
    "Centered",
    "CenteredProduct",
    "FusedSum",
    "IntConv2d",
    "IntConvTranspose2d",
    "IntLinear",
    "IntMatmul",
    "IntSumPool2d",
    "Quotient",
    "Rescale",
    "RescaleFixed",
    "RescaleProduct",
    "RescaledSum",
    "RescaledSumFixed",
    "RoundedReal",
    "TableLookup",
    "TileIntConv2d",
    "TileIntSumPool2d",
    "ToFloat",
]
