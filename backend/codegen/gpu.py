"""TensorIR for GPUs: the program of one thread, the grid of blocks around it, and the maths that OpenCL and CUDA share.

A kernel is a function of pointers, each followed by an element offset, because OpenCL has no pointers to arbitrary bytes of a buffer. TVM prints
it as OpenCL or CUDA source without running passes over it, so no simplifier treats floats as reals.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tvm import ir
from tvm import tirx as t
from tvm.ir import PointerType, PrimType, StringImm

from ...ir.errors import UnsupportedError
from ...ir.op import Value
from .builder import TIR_DTYPE, Buffer, Builder, Expr, expression, int32
from .ieee import is_float
from .kernel_builder import KernelBuilder

#: Element type of memory whose values, f16 or bf16, kernels read and write as f32.
HALF = "float16"


@dataclass
class OffsetBuffer(Buffer):
    """A flat view of a pointer plus `offset` elements. Bools are bytes in memory. half: its f32 elements are f16 or bf16 in memory."""

    offset: Any = 0
    half: bool = False


@dataclass
class Grid:
    """How many blocks there are along x, y and z, and the threads of each."""

    blocks: tuple[int, int, int] = (1, 1, 1)
    threads: int = 1


class GpuBuilder(Builder):
    """Collects the statements of one thread. elem: of feature maps and weights, as in `Target`."""

    def __init__(self, name: str, elem: str = "f32"):
        super().__init__(name)
        self.elem = elem
        self.grid = Grid()
        self.thread = t.Var("thread", "int32")
        self.block = tuple(t.Var(f"block_{axis}", "int32") for axis in "xyz")
        self._offsets: list[Any] = []
        self._staged: list[Any] = []

    def launch(self, blocks: Sequence[int], threads: int) -> None:
        """Set the size of the grid; axes left out have size 1."""
        x, y, z = (*blocks, 1, 1)[:3]
        self.grid = Grid((x, y, z), threads)

    def param(self, name: str, dtype: str, size: int) -> Buffer:
        stored = {"bool": "uint8", HALF: "uint16"}.get(dtype, dtype)
        var, offset = t.Var(name, PointerType(PrimType(stored), "global")), t.Var(f"{name}_offset", "int32")
        self.params.append(var)
        self._offsets.append(offset)
        raw = t.decl_buffer((t.Var(f"{name}_size", "int32"),), stored, name, data=var)
        self.emit(t.DeclBuffer(raw, data=var))
        return OffsetBuffer(raw, "float32" if dtype == HALF else dtype, offset, dtype == HALF)

    def local(self, size: int, dtype: str = "float32", hint: bool = False) -> Buffer:
        """Registers of one thread, where every index is known."""
        return self._array(size, dtype, "local")

    def shared(self, size: int, dtype: str = "float32") -> Buffer:
        """Memory of a block of threads."""
        buffer = self._array(size, dtype, "shared")
        self._staged.append(self._stack[-1].pop())
        return buffer

    def _array(self, size: int, dtype: str, scope: str) -> Buffer:
        self._count += 1
        raw = t.decl_buffer((size,), dtype, f"{scope}{self._count}", scope=scope)
        self.emit(t.AllocBuffer(raw))
        return Buffer(raw, dtype)

    def barrier(self) -> None:
        """A barrier for the threads of the block; afterwards each sees what the others stored."""
        self.emit(t.Evaluate(t.call_intrin("int32", "tirx.tvm_storage_sync", StringImm("shared"))))

    def load(self, buffer: Buffer, index: Expr, lanes: int = 1) -> Expr:
        value = t.BufferLoad(buffer.raw, [self._at(buffer, index)])
        if isinstance(buffer, OffsetBuffer) and buffer.half:
            return t.call_pure_extern("float32", "tersor_float", value)
        return t.NE(value, t.IntImm("uint8", 0)) if buffer.dtype == "bool" else value

    def store(self, buffer: Buffer, index: Expr, value: Expr, lanes: int = 1) -> None:
        if buffer.dtype == "bool":
            value = choose(value, t.IntImm("uint8", 1), t.IntImm("uint8", 0))
        if isinstance(buffer, OffsetBuffer) and buffer.half:
            value = t.call_pure_extern("uint16", "tersor_half", value)
        self.emit(t.BufferStore(buffer.raw, value, [self._at(buffer, index)]))

    def bits(self, buffer: Buffer, index: Expr) -> Expr:
        """An element as an unsigned integer: bytes as they are, floats in half precision or as tf32."""
        value = t.BufferLoad(buffer.raw, [self._at(buffer, index)])
        if self.elem == "tf32" and buffer.dtype == "float32":
            return t.call_pure_extern("uint32", "tersor_tf32", value)
        if buffer.dtype == "float32":
            return value if isinstance(buffer, OffsetBuffer) and buffer.half else t.call_pure_extern("uint16", "tersor_half", value)
        return t.Cast("uint8", value)

    def pointer(self, buffer: Buffer, index: Expr) -> Expr:
        """The address of an element."""
        return t.address_of(t.BufferLoad(buffer.raw, [self._at(buffer, index)]))

    def call(self, name: str, *arguments: Expr) -> None:
        """Run a function of the source's head."""
        self.emit(t.Evaluate(t.call_extern("int32", name, *arguments)))

    def _at(self, buffer: Buffer, index: Expr) -> Expr:
        return buffer.offset + index if isinstance(buffer, OffsetBuffer) else int32(index)

    def value(self, value: Expr) -> Expr:
        """An intermediate result that is read more than once, in a register. Bools stay expressions."""
        value = expression(value)
        if isinstance(value, (int, t.Var, t.IntImm, t.FloatImm)) or id(value) in self._values:
            return value
        dtype = str(value.ty.dtype)
        if dtype == "bool":
            return value
        slot = self.local(1, dtype)
        self.store(slot, 0, value)
        result = self.load(slot, 0)
        self._values[id(result)] = result
        return result

    def let(self, name: str, value: Expr) -> Expr:
        return self.value(value)

    def function(self) -> Any:
        """The device function: its statements in a grid of threads."""
        body: Any = t.SeqStmt([*self._staged, *self._stack[0]])
        tags = zip((*self.block, self.thread), ("blockIdx.x", "blockIdx.y", "blockIdx.z", "threadIdx.x"), (*self.grid.blocks, self.grid.threads))
        for var, tag, extent in tags:
            axis = t.IterVar(ir.Range(0, extent), var, t.IterVar.ThreadIndex, tag)
            body = t.AttrStmt(axis, "thread_extent", int32(extent), body)
        func = t.PrimFunc([*self.params, *self._offsets], body)
        return func.with_attr("global_symbol", self.name).with_attr("tirx.noalias", True).with_attr("calling_conv", 2).with_attr("s_tir", True)


def choose(condition: Expr, a: Expr, b: Expr) -> Expr:
    """a where the condition holds, else b; only that one is evaluated."""
    return t.if_then_else(expression(condition), expression(a), expression(b))


def div(a: Expr, b: int) -> Expr:
    """a / b of integers that are not negative."""
    if b == 1:
        return a
    return a // b if isinstance(a, int) else t.truncdiv(a, int32(b))


def mod(a: Expr, b: int) -> Expr:
    """The remainder of integers that are not negative."""
    if b == 1:
        return 0
    return a % b if isinstance(a, int) else t.truncmod(a, int32(b))


def coordinates(at: Expr, shape: Sequence[int]) -> list[Expr]:
    """The index along each axis, from a flat index."""
    index: list[Expr] = []
    for axis, size in enumerate(reversed(shape)):
        index.append(at if axis == len(shape) - 1 else mod(at, size))
        at = div(at, size)
    return index[::-1]


def flat(index: Sequence[Expr], shape: Sequence[int]) -> Expr:
    """The flat index, with broadcasting: axes of size 1 and missing leading axes do not count."""
    place: Expr = 0
    step = 1
    for i, size in zip(reversed(index), reversed(shape)):
        if size > 1:
            place = place + (i * step if step > 1 else i)
        step *= size
    return place


@dataclass
class GpuKernel(KernelBuilder):
    """The builder of a GPU kernel; its epilogue works on one element at a time."""

    b: GpuBuilder
    index: Sequence[Expr] = field(default=(), init=False)
    math: Any = field(init=False)

    def __post_init__(self) -> None:
        self.math = GpuMath(self.b, self.target.kind)

    @contextlib.contextmanager
    def each(self, count: int) -> Iterator[Expr]:
        """Run a thread for each of `count` elements; yields its number."""
        b = self.b
        threads = min(256, self.target.block, 1 << max(5, (count - 1).bit_length()))
        b.launch([-(-count // threads)], threads)
        at = b.value(b.block[0] * threads + b.thread)
        with contextlib.ExitStack() as stack:
            if count % threads:
                stack.enter_context(b.when(at < count))
            yield at

    def read(self, v: Value, index: Sequence[Expr]) -> Expr:
        """An element of an argument."""
        return self.b.load(self.args[v], flat(index, v.shape))

    def store(self, value: Expr, index: Sequence[Expr]) -> None:
        """Run the epilogue on one element of the anchor's result and store it."""
        self.index = index
        self.b.store(self.out, flat(index, self.fusion.out.shape), self.apply(self.b.value(value), 0, None, None, 1))

    def _read(self, v: Value, kind: str, offset: Expr, channel: Expr, image: Expr, lanes: int) -> Expr:
        return self.b.value(self.read(v, self.index))

    def place(self, table: Buffer, at: Expr, size: int, record: bool = True) -> Expr:
        b = self.b
        said = b.value(b.load(table, at))
        if self.faults is None:
            return b.value(t.Cast("int32", said))
        inside = t.all(said >= t.const(0, "int64"), said < t.const(size, "int64"))
        with b.when(t.Not(inside)):
            b.store(self.faults, 1, said)
            b.store(self.faults, 0, t.const(1, "int64"))
        return b.value(t.Cast("int32", choose(inside, said, t.const(0, "int64"))))

    def reduced(self, size: int, dtype: str, identity: Expr, item: Callable[[Expr], Expr], combine: Callable[[Expr, Expr], Expr]) -> Expr:
        """`item(0) … item(size - 1)` combined by all threads of the block, whose number is a power of two; every thread has the result."""
        b, threads = self.b, self.b.grid.threads
        shared, acc = b.shared(threads, dtype), b.local(1, dtype)
        b.store(acc, 0, identity)
        with b.loop("i", 0, -(-size // threads)) as i:
            at = b.value(i * threads + b.thread)
            with b.when(at < size):
                b.store(acc, 0, combine(b.load(acc, 0), b.value(item(at))))
        b.store(shared, b.thread, b.load(acc, 0))
        b.barrier()
        step = threads // 2
        while step:
            with b.when(b.thread < step):
                b.store(shared, b.thread, combine(b.load(shared, b.thread), b.load(shared, b.thread + step)))
            b.barrier()
            step //= 2
        return b.value(b.load(shared, 0))


def _device(name: str) -> Callable[[GpuMath, Expr], Expr]:
    """A function of one float with the same name in OpenCL C and CUDA C++, for f32 and f64."""
    return lambda self, x: self.call(name, x)


class GpuMath:
    """`Math` over scalars of TensorIR that become OpenCL C or CUDA C++."""

    exp = _device("exp")
    expm1 = _device("expm1")
    log = _device("log")
    log1p = _device("log1p")
    log2 = _device("log2")
    log10 = _device("log10")
    sqrt = _device("sqrt")
    rint = _device("rint")
    floor = _device("floor")
    ceil = _device("ceil")
    tanh = _device("tanh")
    erf = _device("erf")
    sin = _device("sin")
    cos = _device("cos")
    tan = _device("tan")
    asin = _device("asin")
    acos = _device("acos")
    atan = _device("atan")
    sinh = _device("sinh")
    cosh = _device("cosh")
    acosh = _device("acosh")
    atanh = _device("atanh")

    def __init__(self, b: GpuBuilder, kind: str):
        self.b = b
        self.kind = kind

    def call(self, name: str, *xs: Expr) -> Expr:
        """A device function of floats whose result has their type."""
        xs = tuple(self.b.value(x) for x in xs)
        return self.b.value(t.call_pure_extern(str(xs[0].ty.dtype), name, *xs))

    def const(self, x: Expr, value: float) -> Expr:
        dtype = str(x.ty.dtype)
        return self.zero(dtype, str(value).startswith("-")) if value == 0 and dtype.startswith("float") else t.const(value, dtype)

    def zero(self, dtype: str, negative: bool = False) -> Expr:
        """0 or -0 of a float type, from its bits: with a constant zero TVM simplifies x * 0 to 0, which is wrong for NaN."""
        single = dtype == "float32"
        names = ("as_float", "as_double") if self.kind == "opencl" else ("__int_as_float", "__longlong_as_double")
        bits = t.IntImm("int32" if single else "int64", -(2 ** (31 if single else 63)) if negative else 0)
        if not single:
            bits = t.Cast("int64", bits)
        return t.call_pure_extern(dtype, names[0 if single else 1], bits)

    def isnan(self, x: Expr) -> Expr:
        return t.NE(t.call_pure_extern("int32", "isnan", self.b.value(x)), int32(0))

    def max(self, a: Expr, b: Expr) -> Expr:
        return self._extreme(a, b, lambda x, y: x > y)

    def min(self, a: Expr, b: Expr) -> Expr:
        return self._extreme(a, b, lambda x, y: x < y)

    def _extreme(self, a: Expr, b: Expr, beats: Callable[[Expr, Expr], Expr]) -> Expr:
        """Maximum or minimum; NaN if any operand is NaN, as in torch."""
        a, b = self.b.value(a), self.b.value(b)
        first = beats(a, b)
        return self.b.value(choose(t.any(first, self.isnan(a)) if is_float(a) else first, a, b))

    def abs(self, x: Expr) -> Expr:
        if is_float(x):
            return self.call("fabs", x)
        x = self.b.value(x)
        return x if str(x.ty.dtype).startswith("u") else choose(x < self.const(x, 0), self.const(x, 0) - x, x)

    def sigmoid(self, x: Expr) -> Expr:
        """1 / (1 + exp(-x)), for x < 0 as exp(x) / (1 + exp(x)): small results keep their relative accuracy."""
        x = self.b.value(x)
        z = self.exp(-self.abs(x))
        return self.b.value(choose(x >= self.const(x, 0), self.const(x, 1), z) / (self.const(x, 1) + z))

    def pow(self, a: Expr, b: Expr) -> Expr:
        if not is_float(a):
            raise UnsupportedError(f"nn.pow of {a.ty.dtype} has no GPU kernel; valid: f32 and f64. Cast the operands")
        return self.call("pow", a, b)

    def signbit(self, x: Expr) -> Expr:
        return t.NE(t.call_pure_extern("int32", "signbit", self.b.value(x)), int32(0))

    def atan2(self, a: Expr, b: Expr) -> Expr:
        return self.call("atan2", a, b)

    def bitwise_and(self, a: Expr, b: Expr) -> Expr:
        return self.b.value(t.bitwise_and(a, b))

    def bitwise_or(self, a: Expr, b: Expr) -> Expr:
        return self.b.value(t.bitwise_or(a, b))

    def bitwise_xor(self, a: Expr, b: Expr) -> Expr:
        return self.b.value(t.bitwise_xor(a, b))

    def shift_left(self, a: Expr, b: Expr) -> Expr:
        return self.b.value(t.shift_left(a, b))

    def shift_right(self, a: Expr, b: Expr) -> Expr:
        return self.b.value(t.shift_right(a, b))

    def mod(self, a: Expr, b: Expr) -> Expr:
        a, b = self.b.value(a), self.b.value(b)
        if is_float(a):
            rest = self.call("fmod", a, b)
            return self.b.value(choose(self._floored(rest, b), rest + b, rest))
        b = self._divisor(b)
        rest = self.b.value(t.truncmod(a, b))
        return rest if str(a.ty.dtype).startswith("u") else self.b.value(choose(self._floored(rest, b), rest + b, rest))

    def floordiv(self, a: Expr, b: Expr) -> Expr:
        """For floats (a - fmod(a, b)) / b, minus 1 where the remainder has the other sign, rounded; for integers 0 if b = 0."""
        a, b = self.b.value(a), self.b.value(b)
        if is_float(a):
            rest = self.call("fmod", a, b)
            quotient = self.b.value((a - rest) / b)
            quotient = self.b.value(choose(self._floored(rest, b), quotient - self.const(a, 1), quotient))
            return self.b.value(choose(t.EQ(b, self.const(b, 0)), a / b, self.rint(quotient)))
        zero, unsigned = self.const(a, 0), str(a.ty.dtype).startswith("u")
        divisor = self._divisor(b)
        quotient = self.b.value(t.truncdiv(a, divisor))
        if not unsigned:
            rest = self.b.value(t.truncmod(a, divisor))
            quotient = self.b.value(choose(self._floored(rest, divisor), quotient - self.const(a, 1), quotient))
            quotient = choose(t.EQ(b, self.const(b, -1)), zero - a, quotient)
        return self.b.value(choose(t.EQ(b, zero), zero, quotient))

    def _divisor(self, b: Expr) -> Expr:
        """b, but 1 for 0 and -1, for which the quotient may not exist."""
        special = t.EQ(b, self.const(b, 0))
        special = special if str(b.ty.dtype).startswith("u") else t.any(special, t.EQ(b, self.const(b, -1)))
        return self.b.value(choose(special, self.const(b, 1), b))

    def _floored(self, rest: Expr, b: Expr) -> Expr:
        zero = self.const(b, 0)
        return t.any(t.all(rest < zero, b > zero), t.all(rest > zero, b < zero))

    def where(self, c: Expr, a: Expr, b: Expr) -> Expr:
        return self.b.value(choose(c, a, b))

    def mul(self, a: Expr, b: Expr) -> Expr:
        """a * b, rounded, never contracted: the OpenCL source forbids contraction, CUDA has a function for it."""
        return a * b if self.kind == "opencl" else t.call_pure_extern("float32", "__fmul_rn", a, b)

    def add(self, a: Expr, b: Expr) -> Expr:
        return a + b if self.kind == "opencl" else t.call_pure_extern("float32", "__fadd_rn", a, b)

    def fma(self, a: Expr, b: Expr, c: Expr) -> Expr:
        """a * b + c, rounded once where it is a float."""
        return t.call_pure_extern(str(c.ty.dtype), "fma", a, b, c) if is_float(c) else a * b + c

    def cast(self, x: Expr, elem: str) -> Expr:
        """Convert; to small integers through i32, so that values out of range wrap as in torch."""
        return self.convert(x, TIR_DTYPE[elem])

    def convert(self, x: Expr, dtype: str) -> Expr:
        x = expression(x)
        own = str(x.ty.dtype)
        if dtype == own:
            return x
        if dtype == "bool":
            return t.Not(t.EQ(x, self.const(x, 0)))
        if own == "bool":
            return choose(x, t.const(1, dtype), t.const(0, dtype))
        if is_float(x) and dtype in ("int8", "int16", "uint8"):
            x = t.Cast("int32", x)
        return t.Cast(dtype, x)

    def take(self, table: Buffer, index: Expr) -> Expr:
        return self.b.load(table, index)
