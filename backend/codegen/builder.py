"""A small builder of TensorIR. It makes nodes directly, because parsing scripts costs two thirds of compile time.

A kernel is a function of raw pointers. Buffers are flat; an index is in elements; vectors are loads of a ramp.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tvm import tirx as t
from tvm.ir import PointerType, PrimType, StringImm
from tvm.ir._overload_prim_expr import EqualOp, NotEqualOp
from tvm.target.codegen import llvm_version_major

from ...ir.types import NUMPY
from .ieee import fence, is_float, keep_differences, same
from .phases import Phase, sequence, split

#: TVM has no stubs: an expression of TensorIR, or a Python integer that becomes one.
Expr = Any

#: TVM's names are numpy's; no kernel computes in bf16.
TIR_DTYPE = {elem: dtype.name for elem, dtype in NUMPY.items() if elem != "bf16"}

#: Assembly without instructions: LLVM does not unroll a loop that contains it.
_ROLLED = """
define linkonce_odr i32 @tersor_rolled() alwaysinline nounwind {
  call void asm sideeffect "", ""()
  ret i32 0
}
"""


@dataclass
class Buffer:
    """A flat view of a pointer."""

    raw: Any
    dtype: str


@dataclass
class Builder:
    """Collects the statements of one function.

    team: the threads that share its parallel loops, each of which becomes a phase (`function`); with 1, TVM launches threads for them.
    """

    name: str
    params: list[Any] = field(default_factory=list)
    team: int = 1
    worker: Any = field(default_factory=lambda: t.Var("worker", "int32"))
    #: Number of phases, set by `function`; None where parallel loops launch threads by themselves.
    phases: int | None = field(default=None, init=False)
    _stack: list[list[Any]] = field(default_factory=lambda: [[]])
    _count: int = 0
    _values: dict[int, Any] = field(default_factory=dict)
    #: Arrays on the stack, and whether their lifetime is the whole function.
    _private: dict[Any, bool] = field(default_factory=dict)
    #: Number of enclosing loops that do not start at 0.
    _shifted: int = 0
    #: Functions in LLVM IR that are called: name -> code.
    _foreign: dict[str, str] = field(default_factory=dict)

    # -- declarations --------------------------------------------------------------------------

    def param(self, name: str, dtype: str, size: int) -> Buffer:
        """A pointer parameter, seen as a flat buffer of `size` elements."""
        var = t.Var(name, PointerType(PrimType(dtype), "global"))
        self.params.append(var)
        raw = t.decl_buffer((max(size, 1),), dtype, name, data=var)
        self.emit(t.DeclBuffer(raw, data=var))
        return Buffer(raw, dtype)

    def local(self, size: int, dtype: str = "float32", hint: bool = False) -> Buffer:
        """A small array on the stack. Below 1,024 bytes it can live in registers; above, TVM allocates it on the heap.

        hint: its contents do not change results, like the address of a prefetch. A serial statement that writes it may then also write memory,
        and runs on thread 0 only.
        """
        bits = int("".join(c for c in dtype if c.isdigit()) or 8)
        if size * bits // 8 >= 1024:
            raise ValueError(f"a stack array of {size} {dtype} would become a heap call: keep it under 1,024 bytes")
        self._count += 1
        raw = t.decl_buffer((size,), dtype, f"local{self._count}", scope="")
        self.emit(t.AllocBuffer(raw))
        self._private[raw] = len(self._stack) == 1 and not hint
        return Buffer(raw, dtype)

    # -- statements ----------------------------------------------------------------------------

    def emit(self, stmt: Any) -> None:
        self._stack[-1].append(stmt)

    @contextlib.contextmanager
    def loop(self, name: str, lo: Expr, hi: Expr, kind: str = "serial") -> Iterator[Any]:
        """`for name in range(lo, hi)`; kind: serial, parallel, vectorized, unrolled, or rolled: serial and never unrolled, not even by LLVM.

        The hardware prefetcher tracks a stream per load instruction: on a Zen 4 a loop that reads a feature map from L3 is slower with five
        copies of its body.
        """
        if kind == "parallel" and self.team > 1:
            if lo != 0 or not isinstance(hi, int):
                raise ValueError(f"the parallel loop {name!r} of {self.name} must count from 0 to a known number, got {lo} to {hi}")
            with self._shared(name, hi) as var:
                yield var
            return
        var, count, shifted = t.Var(name, "int32"), hi - lo, not _is_zero(lo)
        if shifted and self._shifted:
            # TVM's CanonicalizeLoop loses the start of an outer loop in the bounds of this one, unless they have names
            lo, count = self.let("lo", lo), self.let("count", count)
        self._shifted += shifted
        self._stack.append([])
        yield var
        body = self._stack.pop()
        self._shifted -= shifted
        if body:
            if kind == "rolled":
                self._foreign["tersor_rolled"] = _ROLLED
                body.insert(0, t.Evaluate(t.call_extern("int32", "tersor_rolled")))
            kinds = {"serial": 0, "rolled": 0, "parallel": 1, "vectorized": 2, "unrolled": 3}
            self.emit(t.For(var, int32(lo), int32(count), t.ForKind(kinds[kind]), sequence(body)))

    @contextlib.contextmanager
    def _shared(self, name: str, count: int) -> Iterator[Any]:
        """A loop over `count`; each thread of the team runs a contiguous part."""
        if len(self._stack) > 1:
            raise ValueError(f"the parallel loop {name!r} of {self.name} lies within another statement: only outermost loops are shared out")
        self._stack.append([])
        if count <= self.team:
            with self.when(self.worker < count):
                yield self.worker
        else:
            each = -(-count // self.team)
            start = self.let("start", self.worker * each)
            with self.loop(name, start, start + each if count % self.team == 0 else t.min(start + each, count)) as var:
                yield var
        if body := self._stack.pop():
            self._stack[0].append(Phase(body))

    @contextlib.contextmanager
    def range(self, name: str, lo: int, hi: int, kind: str = "serial") -> Iterator[Any]:
        """A loop, or only its body when there is one iteration."""
        if hi - lo == 1:
            yield lo
        else:
            with self.loop(name, lo, hi, kind) as v:
                yield v

    @contextlib.contextmanager
    def when(self, condition: Expr) -> Iterator[None]:
        self._stack.append([])
        yield
        body = self._stack.pop()
        if body:
            self.emit(t.IfThenElse(condition, sequence(body), None))

    def let(self, name: str, value: Expr) -> Expr:
        """A named value, computed once (a Python integer stays one)."""
        if isinstance(value, int):
            return value
        var = t.Var(name, value.ty)
        self.emit(t.Bind(var, value))
        return var

    def value(self, value: Expr) -> Expr:
        """An intermediate result that is read more than once, kept in its own stack slot (a register, after LLVM).

        TVM's analyzer takes time exponential in the length of a chain of variables bound by `let`, but does not analyze loads.
        Vectors of bools stay expressions. Fences keep differences of equal floats from being simplified (`ieee`).
        """
        value = keep_differences(expression(value))
        dtype, lanes = str(value.ty.dtype).partition("x")[0], lanes_of(value)
        if dtype == "bool" or isinstance(value, t.Var) or id(value) in self._values:
            return value
        slot = self.local(lanes, dtype)
        self.store(slot, 0, value, lanes)
        result = self.load(slot, 0, lanes)
        self._values[id(result)] = result
        return result

    def load(self, buffer: Buffer, index: Expr, lanes: int = 1) -> Expr:
        return t.BufferLoad(buffer.raw, [ramp(index, lanes)])

    def store(self, buffer: Buffer, index: Expr, value: Expr, lanes: int = 1) -> None:
        self.emit(t.BufferStore(buffer.raw, value, [ramp(index, lanes)]))

    def load_strided(self, buffer: Buffer, index: Expr, stride: int, lanes: int) -> Expr:
        """`lanes` elements `stride` apart."""
        return t.BufferLoad(buffer.raw, [ramp(index, lanes, stride)])

    def store_strided(self, buffer: Buffer, index: Expr, stride: int, value: Expr, lanes: int) -> None:
        self.emit(t.BufferStore(buffer.raw, value, [ramp(index, lanes, stride)]))

    def store_lanes(self, buffer: Buffer, index: Expr, value: Expr, which: tuple[int, Expr], lanes: int) -> None:
        """Store only the lanes in a range, first to before last; memory of the others is not accessed and need not exist."""
        first, last = which
        numbers = ramp(0, lanes) if not first else t.Shuffle([t.const(i if i >= first else lanes, "int32") for i in range(lanes)], [*range(lanes)])
        address = t.address_of(t.BufferLoad(buffer.raw, [int32(index)]))
        mask = numbers < splat(int32(last), lanes)
        # LLVM 22 takes the alignment from the pointer, earlier versions as an operand
        align = () if llvm_version_major() >= 22 else (int32(4),)
        self.emit(t.Evaluate(t.call_llvm_intrin("void", f"llvm.masked.store.v{lanes}f32.p0", value, address, *align, mask)))

    def prefetch(self, buffer: Buffer, index: Expr, write: bool = False, locality: str = "L1") -> None:
        """Software prefetch of the cache line of an element. locality: `"L1"`, or `"L2"` for data that is read much later."""
        address = t.address_of(t.BufferLoad(buffer.raw, [int32(index)]))
        level = {"L1": 3, "L2": 2}[locality]
        self.emit(t.Evaluate(t.call_llvm_intrin("void", "llvm.prefetch", address, int32(int(write)), int32(level), int32(1))))

    def call_llvm(self, dtype: str, name: str, code: str, buffer: Buffer, index: Expr) -> Expr:
        """Call a function written in LLVM IR with the address of an element. code: its definition, `linkonce_odr` and without declarations."""
        return self.call_function(dtype, name, code, t.address_of(t.BufferLoad(buffer.raw, [int32(index)])))

    def call_function(self, dtype: str, name: str, code: str, *values: Expr) -> Expr:
        """Call a function written in LLVM IR with values. code: as for `call_llvm`."""
        self._foreign[name] = code
        return t.call_extern(dtype, name, *values)

    # -- result --------------------------------------------------------------------------------

    def function(self) -> Any:
        """The PrimFunc. It returns 0: a callee that holds a parallel loop must return an int32.

        With a team, it takes a phase number and a thread number after the pointers, and runs that thread's share of that phase. A phase is a
        parallel loop, or statements between two of them that store to memory, which thread 0 runs. There must be a barrier between phases.
        """
        body, params = self._stack[0], self.params
        if self.team > 1:
            phase = t.Var("phase", "int32")
            try:
                body, self.phases = split(body, self._private, phase, self.worker, self.team)
            except ValueError as error:
                raise ValueError(f"{self.name}: {error}") from None
            params = [*params, phase, self.worker]
        whole = sequence([*body, t.Return(t.IntImm("int32", 0))])
        for code in self._foreign.values():
            whole = t.AttrStmt(int32(0), "pragma_import_llvm", StringImm(code), whole)
        func = t.PrimFunc(params, whole, PrimType("int32"))
        return func.with_attr("tirx.noalias", True).with_attr("s_tir", True)


def _is_zero(value: Expr) -> bool:
    return isinstance(value, int) and value == 0


def int32(value: Expr) -> Expr:
    return t.IntImm("int32", value) if isinstance(value, int) else value


def expression(value: Expr) -> Expr:
    """The expression itself, also for `a == b` and `a != b`, which in TVM may mean equality of values or of nodes."""
    if isinstance(value, (EqualOp, NotEqualOp)):
        return equal(value.a, value.b) if isinstance(value, EqualOp) else not_equal(value.a, value.b)
    return value


def equal(a: Expr, b: Expr) -> Expr:
    """a == b; bools as bytes, because TVM compares vectors of them as floats, which LLVM refuses."""
    if is_float(a) and same(a, b):
        a = fence(a)
    return t.EQ(_bytes(a), _bytes(b))


def not_equal(a: Expr, b: Expr) -> Expr:
    """a != b, true for a NaN: TVM's NE is false there, and so is its Not of an EQ."""
    if is_float(a):
        lanes = lanes_of(a)
        return t.Select(equal(a, b), const(False, "bool", lanes), const(True, "bool", lanes))
    return t.NE(_bytes(a), _bytes(b))


def _bytes(x: Expr) -> Expr:
    lanes = lanes_of(x)
    return t.Cast(f"uint8x{lanes}" if lanes > 1 else "uint8", x) if str(x.ty.dtype).startswith("bool") else x


def ramp(index: Expr, lanes: int, stride: int = 1) -> Expr:
    return t.Ramp(int32(index), int32(stride), lanes) if lanes > 1 else int32(index)


def splat(value: Expr, lanes: int) -> Expr:
    """The same scalar in every lane."""
    return t.Broadcast(value, lanes) if lanes > 1 else value


def const(value: float | int | bool, dtype: str = "float32", lanes: int = 1) -> Expr:
    return splat(t.const(value, dtype), lanes)


def lanes_of(value: Expr) -> int:
    """Lanes of an expression: 8 for `float32x8`."""
    return int(str(value.ty.dtype).partition("x")[2] or 1)
