"""Convolutions, dense layers and matrix products on tensor cores: CUDA of compute capability 8.0 or later; f16, bf16 and tf32 with f32 sums, bytes
with i32.

A block of 128 threads, four warps two by two, computes 64 x 64 results, weights times pixels. Both tiles lie in shared memory along the depth, 64
bytes of it at a time, so `ldmatrix` reads fragments of both without a transpose, and `mma.sync` m16n8k16 (f16, bf16), m16n8k8 (tf32) or
m16n8k32 (bytes) multiplies them. While a step is multiplied, the weights of the next are copied by `cp.async`, and its pixels are gathered into
registers; of a product of two computed matrices both are gathered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx as t

from ....ir.op import Value
from ....ir.ops import Conv2d, Linear, Matmul
from ...codegen.builder import Buffer, Expr
from ...codegen.gpu import GpuKernel, choose, coordinates, div, flat, mod
from ...target import Target
from ...tile.fusion import Fusion
from ...tile.integer import IntConv2d, IntLinear
from ..template import Params, kernel
from .gemm import GemmConv, Product, matmul_product, up
from .template import GpuTemplate

#: Rows and columns of a block, and of a warp.
BLOCK, WARP = 64, 32
THREADS = 128
#: Bytes of depth in a step, and 32-bit words from one row of a tile to the next: an odd number of 16 bytes, so that `ldmatrix` meets every bank.
STEP, PITCH = 64, 20
#: The first compute capability with these instructions.
FIRST = 80
#: Gives the stored bits of an element of an operand, as u32, from its depth.
Bits = Callable[[Expr], Expr]
#: Gives that of a matrix and one of its rows, or columns.
Gather = Callable[[Expr, Expr], Bits]


@dataclass(frozen=True)
class Kind:
    """The type of the products: of the sums, bytes of a factor, and the helper that multiplies, by the element type of x. cost: modelled, of a
    multiply-add, relative to one of operands in registers."""

    acc: str
    nbytes: int
    instruction: dict[str, str]
    cost: float


#: By the target's `elem`.
FLOATS = {
    "f16": Kind("float32", 2, {"f32": "tersor_mma_f16"}, 0.1),
    "bf16": Kind("float32", 2, {"f32": "tersor_mma_bf16"}, 0.1),
    "tf32": Kind("float32", 4, {"f32": "tersor_mma_tf32"}, 0.2),
}
BYTES = Kind("int32", 1, {"u8": "tersor_mma_u8", "i8": "tersor_mma_i8"}, 0.1)


class Gathered:
    """An operand that is read element by element: each thread holds half of a row's step in registers, until the step before is multiplied."""

    def __init__(self, k: GpuKernel, kind: Kind, depth: int, tile: Buffer, first: Expr, size: int, gather: Gather):
        b = k.b
        self.b, self.kind, self.tile = b, kind, tile
        self.words = b.local(8, "uint32")
        self.line, self.chunk = b.value(mod(b.thread, BLOCK)), b.value(div(b.thread, BLOCK))
        self.bits = gather(b.block[2], b.value(first + self.line))
        #: depth of the row; 0 beyond the last one
        self.inside = b.value(choose(first + self.line < size, t.IntImm("int32", depth), t.IntImm("int32", 0)))

    def load(self, step: Expr) -> None:
        """Read the elements of a step."""
        b, kind = self.b, self.kind
        each = 4 // kind.nbytes
        for word in range(8):
            piece = self.chunk if word < 4 else self.chunk + 2
            start = b.value(step * (STEP // kind.nbytes) + piece * (16 // kind.nbytes) + word % 4 * each)
            total: Expr = None
            for i in range(each):
                at = b.value(start + i)
                one = b.value(choose(at < self.inside, self.bits(at), t.IntImm("uint32", 0)))
                shifted = one if not i else t.shift_left(one, t.IntImm("uint32", 8 * kind.nbytes * i))
                total = shifted if total is None else t.bitwise_or(total, shifted)
            b.store(self.words, word, total)

    def put(self, half: Expr) -> None:
        """Store them in a half of the shared tile."""
        b = self.b
        for part in range(2):
            at = b.value((half * BLOCK + self.line) * PITCH + (self.chunk + 2 * part) * 4)
            for i in range(4):
                b.store(self.tile, at + i, b.load(self.words, 4 * part + i))


class TensorCores(GpuTemplate):
    """Base: rows are outputs, columns pixels or rows of x."""

    kinds = ("cuda",)

    def product(self, op: Any) -> Product:
        raise NotImplementedError

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        return super().accepts(fusion, target) and target.capability >= FIRST

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        op: Any = fusion.anchor
        p, kind = self.product(op), kind_of(op, target)
        deep = STEP // kind.nbytes
        return kind.cost * p.matrices * up(p.m, BLOCK) * up(p.n, BLOCK) * up(p.depth, deep)

    def tile(self, k: GpuKernel, op: Any, right: Gather, store: Callable[[Expr, Expr, Expr], None], left: Gather | None = None) -> None:
        """Call store(row, column, sum) for each result; rows count on from matrix to matrix. right, left: the operands; without
        `left` that is the packed weights."""
        b, p, kind = k.b, self.product(op), kind_of(op, k.target)
        deep = STEP // kind.nbytes
        steps, depth, rows = -(-p.depth // deep), up(p.depth, deep), up(p.m, BLOCK)
        b.launch([-(-p.n // BLOCK), rows // BLOCK, p.matrices], THREADS)
        first_row, first_column = b.value(b.block[1] * BLOCK), b.value(b.block[0] * BLOCK)
        of_rows, of_columns = (b.shared(2 * BLOCK * PITCH, "uint32") for _ in range(2))
        acc = b.local(WARP * WARP // 32, kind.acc)
        for i in range(WARP * WARP // 32):
            b.store(acc, i, t.const(0, kind.acc))
        gathered = [Gathered(k, kind, p.depth, of_columns, first_column, p.n, right)]
        if left is not None:
            gathered.append(Gathered(k, kind, p.depth, of_rows, first_row, p.m, left))

        def copy_weights(step: Expr, half: Expr) -> None:
            for part in range(BLOCK * STEP // 16 // THREADS):
                at = b.value(b.thread + part * THREADS)
                row, piece = b.value(div(at, STEP // 16)), b.value(mod(at, STEP // 16))
                source = ((b.block[2] * rows + first_row + row) * depth + step * deep) + piece * (16 // kind.nbytes)
                b.call("tersor_copy16", b.pointer(of_rows, (half * BLOCK + row) * PITCH + piece * 4), b.pointer(k.args[op.w], source))

        def fetch(step: Expr, half: Expr) -> None:
            if left is None:
                copy_weights(step, half)
            for operand in gathered:
                operand.load(step)

        def put(half: Expr) -> None:
            for operand in gathered:
                operand.put(half)

        lane = b.value(mod(b.thread, 32))
        warp = b.value(div(b.thread, 32))
        warp_row, warp_column = b.value(div(warp, 2) * WARP), b.value(mod(warp, 2) * WARP)
        of_a, of_b = b.local(8, "uint32"), b.local(8, "uint32")
        # where a lane's row of the 8 x 8 matrices begins: of a, rows 0 to 15 and then the second half of the depth; of b, the depth alternates first
        row_a = b.value(warp_row + mod(lane, 16))
        row_b = b.value(warp_column + mod(lane, 8) + div(lane, 16) * 8)
        word_a, word_b = b.value(div(lane, 16) * 4), b.value(mod(div(lane, 8), 2) * 4)

        def multiply(half: Expr) -> None:
            for piece in range(STEP // 32):
                for i in range(2):
                    b.call(
                        "tersor_ldmatrix", b.pointer(of_a, 4 * i), b.pointer(of_rows, (half * BLOCK + row_a + 16 * i) * PITCH + word_a + 8 * piece)
                    )
                    b.call(
                        "tersor_ldmatrix", b.pointer(of_b, 4 * i), b.pointer(of_columns, (half * BLOCK + row_b + 16 * i) * PITCH + word_b + 8 * piece)
                    )
                for i in range(2):
                    for j in range(4):
                        instruction = kind.instruction[str(op.operands[0].type.elem)]
                        b.call(instruction, b.pointer(acc, 4 * (4 * i + j)), b.pointer(of_a, 4 * i), b.pointer(of_b, 2 * j))

        fetch(0, 0)
        put(0)
        b.call("tersor_copied")
        b.barrier()
        with b.loop("step", 0, steps) as step:
            half = b.value(mod(step, 2))
            more = step + 1 < steps
            with b.when(more):
                fetch(step + 1, 1 - half)
            multiply(half)
            with b.when(more):
                put(1 - half)
            b.call("tersor_copied")
            b.barrier()
        for i in range(2):
            for j in range(4):
                for c in range(4):
                    row = b.value(first_row + warp_row + (16 * i + c // 2 * 8) + div(lane, 4))
                    at = b.value(first_column + warp_column + (8 * j + c % 2) + mod(lane, 4) * 2)
                    with contextlib.ExitStack() as stack:
                        limits = [row < p.m] * (p.m % BLOCK > 0) + [at < p.n] * (p.n % BLOCK > 0)
                        if limits:
                            stack.enter_context(b.when(t.all(*limits) if len(limits) > 1 else limits[0]))
                        o = b.value(b.block[2] * p.m + row)
                        total = b.load(acc, 4 * (4 * i + j) + c)
                        if kind is BYTES:
                            sums = b.pointer(k.args[op.w], p.matrices * rows * depth + 4 * o)
                            zero = k.math.convert(b.load(k.args[op.zero], 0), "int32")
                            total = total - t.call_pure_extern("int32", "tersor_int", sums) * zero
                        bias = op.b if left is None else None
                        store(o, at, b.value(total if bias is None else total + b.load(k.args[bias], o)))


class ByWeights(TensorCores):
    """Base: the left operand is constant weights."""

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        constant = super().accepts(fusion, target) and fusion.array(op.w) is not None
        return constant and (op.accumulates or fusion.half(op.w))

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        """(O, …) -> (groups, rows, depth), both padded with zeros to whole tiles; after bytes follow the sums of the rows, as i32."""
        op: Any = fusion.anchor
        w, p, kind = fusion.array(op.w), self.product(op), kind_of(op, target)
        assert w is not None
        flat = w.reshape(p.matrices, p.m, p.depth)
        padded = np.zeros((p.matrices, up(p.m, BLOCK), up(p.depth, STEP // kind.nbytes)), w.dtype)
        padded[:, : p.m, : p.depth] = flat
        if kind is not BYTES:
            return {op.w: padded}
        sums = flat.sum(-1, dtype=np.int32).reshape(-1)
        return {op.w: np.concatenate([padded.reshape(-1), sums.view(np.int8)])}


def kind_of(op: Any, target: Target) -> Kind:
    return BYTES if op.accumulates else FLOATS[target.elem]


def stored_bits(k: GpuKernel, v: Value, place: Expr) -> Expr:
    """An element of an argument as it is multiplied, in the low bits of a u32."""
    return t.Cast("uint32", k.b.bits(k.args[v], place))


def zero_bits(k: GpuKernel, op: Any) -> Expr:
    """What stands outside an image: 0, or the zero point."""
    return k.b.value(t.Cast("uint32", k.b.bits(k.args[op.zero], 0))) if op.accumulates else t.IntImm("uint32", 0)


@kernel(Conv2d, IntConv2d)
class TensorCoreConv(ByWeights):
    name = "gpu_mma_conv"
    product = GemmConv.product

    def write(self, k: GpuKernel, op: Any) -> None:
        b = k.b
        _, per_group, kh, kw = op.w.shape
        (h, w), (oh, ow) = op.x.shape[2:], op.out.shape[2:]
        fill = zero_bits(k, op)

        def pixels(group: Expr, column: Expr) -> Bits:
            n, i, j = (b.value(v) for v in coordinates(column, (op.out.shape[0], oh, ow)))
            top, start = b.value(i * op.stride[0] - op.padding[0]), b.value(j * op.stride[1] - op.padding[2])
            plane = b.value(n * op.x.shape[1] + group * per_group)

            def bits(depth: Expr) -> Expr:
                y = b.value(top + mod(div(depth, kw), kh) * op.dilation[0])
                x = b.value(start + mod(depth, kw) * op.dilation[1])
                value = stored_bits(k, op.x, ((plane + div(depth, kh * kw)) * h + y) * w + x)
                return choose(t.all(y >= 0, y < h, x >= 0, x < w), value, fill) if any(op.padding) else value

            return bits

        def store(o: Expr, column: Expr, total: Expr) -> None:
            n, i, j = (b.value(v) for v in coordinates(column, (op.out.shape[0], oh, ow)))
            k.store(total, [n, o, i, j])

        self.tile(k, op, pixels, store)


@kernel(Linear, IntLinear)
class TensorCoreLinear(ByWeights):
    name = "gpu_mma_linear"

    def product(self, op: Any) -> Product:
        outputs, depth = op.w.shape
        return Product(1, outputs, op.out.type.size // outputs, depth)

    def write(self, k: GpuKernel, op: Any) -> None:
        b, size = k.b, op.w.shape[1]

        def rows(group: Expr, column: Expr) -> Bits:
            return lambda depth: stored_bits(k, op.x, column * size + depth)

        def store(o: Expr, column: Expr, total: Expr) -> None:
            k.store(total, [*(b.value(i) for i in coordinates(column, op.x.shape[:-1])), o])

        self.tile(k, op, rows, store)


@kernel(Matmul)
class TensorCoreMatmul(TensorCores):
    """One product for each index of the leading axes."""

    name = "gpu_mma_matmul"

    def product(self, op: Any) -> Product:
        return matmul_product(op)

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        floats = target.elem in FLOATS and op.out.type.elem == "f32"
        return floats and super().accepts(fusion, target) and self.product(op).matrices < 1 << 16

    def write(self, k: GpuKernel, op: Any) -> None:
        b = k.b
        lead = [b.value(i) for i in coordinates(b.block[2], op.out.shape[:-2])]

        def row(matrix: Expr, row: Expr) -> Bits:
            return lambda depth: stored_bits(k, op.a, flat([*lead, row, depth], op.a.shape))

        def column(matrix: Expr, column: Expr) -> Bits:
            return lambda depth: stored_bits(k, op.b, flat([*lead, depth, column], op.b.shape))

        self.tile(k, op, column, lambda i, j, total: k.store(total, [*(b.value(at) for at in coordinates(i, op.out.shape[:-1])), j]), row)
