"""Matrix products."""

from __future__ import annotations

from dataclasses import replace

from ....ir.op import Const, Op, Value
from ....ir.ops import Add, Dequantize, Linear, Matmul, Mul, Transpose
from ....ir.types import Uniform
from ..node import Node
from ..registry import onnx_converter


@onnx_converter("MatMul")
def matmul(node: Node, a: Value, b: Value) -> Value | Op:
    """A constant matrix on the right makes a linear layer. A vector is a row on the left and a column on the right."""
    _need_floats(node, a)
    if b.type.rank == 2 and is_constant(b):
        return Linear(a, swapped(b))
    if a.type.rank > 1 and b.type.rank > 1:
        return Matmul(a, b)
    left = node.reshape(a, (1, *node.dims(a))) if a.type.rank == 1 else a
    right = node.reshape(b, (*node.dims(b), 1)) if b.type.rank == 1 else b
    product = Matmul(left, right).out
    dims = node.dims(product)
    if a.type.rank == 1:
        dims = (*dims[:-2], dims[-1])
    return node.reshape(product, dims[:-1] if b.type.rank == 1 else dims)


@onnx_converter("Gemm")
def gemm(
    node: Node, a: Value, b: Value, c: Value | None = None, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0
) -> Op | Value:
    """alpha * a @ b + beta * c"""
    _need_floats(node, a)
    a = Transpose(a, (1, 0)).out if transA else a
    if is_constant(b):
        n = b.shape[0] if transB else b.shape[1]
        bias = c if c is not None and alpha == beta == 1 and c.type.size == n and c.shape[-1:] == (n,) else None
        product: Op = Linear(a, b if transB else swapped(b), None if bias is None else node.reshape(bias, (n,)))
        c = None if bias is not None else c
    else:
        product = Matmul(a, Transpose(b, (1, 0)) if transB else b)
    if alpha != 1:
        product = Mul(product, node.like(a, alpha))
    if c is not None and beta != 0:
        product = Add(product, c if beta == 1 else Mul(c, node.like(a, beta)))
    return product


def _need_floats(node: Node, a: Value) -> None:
    if not a.type.is_float:
        raise node.unsupported(f"a product of matrices of {a.type.elem}; valid: floats")


def is_constant(w: Value) -> bool:
    """Whether a weight is known: as floats, or as dequantized integers."""
    return isinstance(w.op, Const) or (isinstance(w.op, Dequantize) and isinstance(w.op.x.op, Const))


def swapped(w: Value) -> Value:
    """The transposed matrix of a known weight."""
    if isinstance(w.op, Dequantize):
        return Dequantize(swapped(w.op.x), loc=w.op.loc).out
    assert isinstance(w.op, Const)
    elem = w.type.elem
    if isinstance(elem, Uniform) and elem.axis is not None:
        elem = replace(elem, axis=1 - elem.axis)
    return Const(w.op.array.T.copy(), None if isinstance(elem, str) else elem, loc=w.op.loc).out
