"""Graphs and ops that exercise every feature of the text form, for the tests of text, parser, verifier and save."""

from __future__ import annotations

from typing import Any, Literal

import ml_dtypes
import numpy as np

from tersor.ir.graph import Graph
from tersor.ir.op import Const, Loc, Op, Value
from tersor.ir.ops import Add, Concat, Conv2d, Relu
from tersor.ir.types import BitsAffine, Elem, Layout, Tensor, Uniform


class Everything(Op, name="test.everything"):
    """One attribute of every kind."""

    x: Value
    i: int = 0
    f: float = 0.0
    b: bool = False
    s: str = ""
    ints: tuple[int, ...] = ()
    floats: tuple[float, ...] = ()
    bools: tuple[bool, ...] = ()
    words: tuple[str, ...] = ()
    mixed: tuple[Any, ...] = ()
    options: dict[str, Any] | None = None
    maybe: int | None = 7
    mode: Literal["a", "b"] = "a"
    elem: Elem = "f32"
    type: Tensor | None = None
    layout: Layout | None = None

    def infer(self) -> Tensor:
        return self.x.type


class Optional(Op, name="test.optional"):
    """Optional and variadic operands in one op."""

    x: Value
    a: Value | None = None
    b: Value | None = None
    rest: list[Value]

    def infer(self) -> Tensor:
        return self.x.type


class Typed(Op, name="test.typed"):
    """A result of any type, as the ops of the quant, bits and tile dialects have."""

    x: Value
    type: Tensor

    def infer(self) -> Tensor:
        return self.type


class Fused(Op, name="test.fused"):
    """A region, and as many results as it yields."""

    xs: list[Value]
    body: Graph
    note: str = ""

    def infer_all(self) -> list[Tensor]:
        return [v.type for v in self.body.outputs]


PER_CHANNEL = Uniform("i8", (0.1, 1e-05, 0.25), (0, 3, -4), axis=0, qmin=-127, qmax=127)
LEVELS = BitsAffine("i1", (0.5, 0.25), (-0.25, 0.125), axis=0)
BLOCKED = Layout("NCHW8c", channels=20, halo=(1, 1), fill=-3)


def small() -> Graph:
    """conv + relu + add of a scalar: one input, one output."""
    graph = Graph()
    x = graph.add_input(Tensor((1, 3, 8, 8)), "x", batched=True)
    rng = np.random.default_rng(0)
    loc = Loc("features.0", "model.py", 12)
    w = named(Const(rng.standard_normal((4, 3, 3, 3)).astype(np.float32), loc=loc), "features.0.weight")
    conv = named(Conv2d(x, w, padding=(1, 1, 1, 1), loc=loc), "features.0")
    graph.set_outputs([graph.add(Add(Relu(conv, loc=Loc("features.1")), Const(np.float32(3))))])
    return graph


def named(op: Op, *names: str) -> Any:
    for v, name in zip(op.outs, names):
        v.name = name
    return op


def features() -> Graph:
    """Every feature of the text in one graph."""
    graph = Graph("net")
    x = graph.add_input(Tensor((1, 2, 4, 4)), "image 0", batched=True)
    y = graph.add_input(Tensor((3,), "i64"), "y")
    rng = np.random.default_rng(0)
    w = named(Const(rng.standard_normal((4, 2, 1, 1)).astype(np.float32), loc=Loc("0", "a b.py", 3)), "0.weight")
    same = named(Const(w.array), "copy of 0")
    conv = named(Conv2d(x, w, loc=Loc("0", "a b.py", 3)), "conv")
    again = named(Conv2d(x, same, loc=Loc("", "only_file.py", 4)), "conv")
    joined = graph.add(Concat([conv.out, again.out], axis=1))
    quantized = graph.add(named(Const(np.array([[1, 2], [3, -4], [5, 6]], np.int8), PER_CHANNEL), "q"))
    unsigned = graph.add(Const(np.array([0, 15], np.uint8), Uniform("u4", (0.5,), (8,))))
    bits = graph.add(Const(np.array([[-1], [0]], np.int8), LEVELS))
    scalar_bits = graph.add(Const(np.array([-1, 0], np.int8), BitsAffine("i1", (0.5,), (0.25,))))
    half = graph.add(Const(np.array([[1e-3]], ml_dtypes.bfloat16)))
    blocked = graph.add(Typed(x, Tensor((1, 3, 6, 6, 8), "f32", BLOCKED)))
    packed = graph.add(Typed(joined, Tensor((1, 1, 4, 4, 8), Uniform("u8", (0.02,), (3,)), Layout("NCHW8c", 8))))
    every = graph.add(
        Everything(
            y,
            i=-3,
            f=1e-05,
            b=True,
            s='tab\t "quoted" \\ é',
            ints=(1, -2),
            floats=(0.1, float("inf"), 3.0),
            bools=(True, False),
            words=("a", "b"),
            mixed=(1, 2.0, True, "x", (), (1,), ((2.0,), None)),
            options={"k": 1, "a b": {"deep": (1, 2)}, "none": None, "empty": {}},
            maybe=None,
            mode="b",
            elem=PER_CHANNEL,
            type=Tensor((2, 3), "u8"),
            layout=BLOCKED,
            loc=Loc("every.thing"),
        )
    )
    sparse = graph.add(Optional(y, b=every, rest=[y, y]))
    body = Graph("inner")
    a = body.add_input(conv.out.type, "conv")
    b = body.add_input(again.out.type, "b")
    body.set_outputs([body.add(named(Relu(a), "r")), body.add(Add(a, b))], ["first", "second"])
    fused = named(Fused([conv.out, again.out], body, "two results"), "left", "")
    graph.add(fused)
    outputs = [joined, quantized, unsigned, bits, scalar_bits, half, blocked, packed, sparse, *fused.outs]
    graph.set_outputs(outputs, [f"out {i}" for i in range(len(outputs))], {"a": 0, "rest": [1, 2, (3, 4, 5)], "more": (6, 7, None, [8, 9, 10])})
    return graph
