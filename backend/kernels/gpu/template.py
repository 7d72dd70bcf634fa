"""Base classes of GPU templates: which fusions they accept, and two kinds of grid, a thread for each element and a block for each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...codegen.builder import TIR_DTYPE, Expr
from ...codegen.gpu import GpuKernel, coordinates
from ...codegen.kernel_builder import KernelBuilder
from ...target import Target
from ...tile.fusion import Fusion
from ...tile.integer import IntConv2d, IntLinear, IntSumPool2d
from ...tile.integer_onnx import ScaledSumPool2d
from ..template import Template


class GpuTemplate(Template):
    """Base of GPU templates. It accepts any epilogue, which works on one element with known coordinates."""

    kinds: tuple[str, ...] = ("opencl", "cuda")

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        return fusion.out.layout is None and fusion.out.shape == fusion.anchor.out.shape

    def emit(self, k: KernelBuilder) -> None:
        assert isinstance(k, GpuKernel)
        self.write(k, k.anchor)

    def write(self, k: GpuKernel, op: Any) -> None:
        """Write the code; `op` is the anchor."""
        raise NotImplementedError(f"template {self.name!r} defines no write")


#: Operators with the zero point of x as an operand.
ZEROS = (IntConv2d, IntLinear, IntSumPool2d, ScaledSumPool2d)


def centered(k: GpuKernel, op: Any, value: Expr) -> Expr:
    """A factor of a sum of products: itself, or x - zero in i32 where x is a stored integer and `op` has a zero point."""
    return k.math.convert(value, "int32") - k.math.convert(k.b.load(k.args[op.zero], 0), "int32") if isinstance(op, ZEROS) else value


def total_dtype(op: Any) -> str:
    """The type in which an operator sums."""
    return "int32" if op.accumulates else TIR_DTYPE[str(op.out.type.elem)]


class ElementTemplate(GpuTemplate):
    """A thread computes one element of the result."""

    def write(self, k: GpuKernel, op: Any) -> None:
        with k.each(k.fusion.out.size) as at:
            index = [i if isinstance(i, int) else k.b.value(i) for i in coordinates(at, k.fusion.out.shape)]
            k.store(self.element(k, op, index), index)

    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        """The anchor's result at an index, before the epilogue."""
        raise NotImplementedError(f"template {self.name!r} defines no element")
