"""Fusions of only elementwise operators, with any broadcasting and any mix of element types."""

from __future__ import annotations

from typing import Any

from ....ir.ops import Elementwise
from ...codegen.gpu import GpuKernel, coordinates
from ...target import Target
from ...tile.fusion import Fusion
from ...tile.ops import Copy
from ..template import kernel
from .template import ElementTemplate, GpuTemplate


@kernel(Elementwise)
class GpuElementwise(GpuTemplate):
    name = "gpu_elementwise"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        return all(isinstance(op, Elementwise) and op.out.shape == fusion.out.shape for op in fusion.op.body.ops)

    def write(self, k: GpuKernel, op: Any) -> None:
        shape = k.fusion.out.shape
        ops: list[Any] = k.fusion.op.body.ops
        tables = {v for op in ops for v in op.operands if v not in op.by_element}
        with k.each(k.fusion.out.size) as at:
            index = coordinates(at, shape)
            values: dict[Any, Any] = {}
            for v in k.fusion.op.body.inputs:
                if v.uses:
                    values[v] = k.args[v] if v in tables else k.b.value(k.b.load(k.args[v], at) if v.shape == shape else k.read(v, index))
            for step in ops:
                values[step.out] = k.b.value(step.f(k.math, *(values[v] for v in step.operands)))
            k.b.store(k.out, at, values[k.fusion.result])


@kernel(Copy)
class GpuCopy(ElementTemplate):
    name = "gpu_copy"

    def element(self, k: GpuKernel, op: Any, index: Any) -> Any:
        return k.read(op.x, index)
