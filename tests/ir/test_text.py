"""Golden texts, and one small test per rule of printing."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from ir_graphs import BLOCKED, Everything, features, named, small

from tersor.ir.errors import TersorError
from tersor.ir.graph import Graph
from tersor.ir.op import Const, Loc
from tersor.ir.ops import Relu
from tersor.ir.text import format_attr, format_float, format_loc, format_op, format_string, format_with_weights
from tersor.ir.types import BitsAffine, Layout, Tensor, Uniform


def test_golden_small(golden: Callable[[str, str], None]) -> None:
    golden("text_small.mlir", str(small()))


def test_golden_every_feature(golden: Callable[[str, str], None]) -> None:
    golden("text_features.mlir", str(features()))


@pytest.mark.parametrize(
    ("type", "text"),
    [
        (Tensor(()), "tensor<f32>"),
        (Tensor((1, 0), "bool"), "tensor<1x0xi1>"),
        (Tensor((2,), "u8"), "tensor<2xui8>"),
        (Tensor((2,), Uniform("u8", (0.02,), (3,))), "tensor<2x!quant.uniform<u8:f32, 0.02:3>>"),
        (Tensor((2,), Uniform("i8", (0.5, 1e-05), (0, 3), 0)), "tensor<2x!quant.uniform<i8:f32:0, {0.5, 1.0e-05:3}>>"),
        (Tensor((2,), Uniform("i2", (1.0,), (0,), qmin=-1, qmax=1)), "tensor<2x!quant.uniform<i2<-1:1>:f32, 1.0>>"),
        (Tensor((2,), Uniform("i8", (1.0,), (0,), qmin=-128, qmax=127)), "tensor<2x!quant.uniform<i8:f32, 1.0>>"),
        (Tensor((2,), BitsAffine("i1", (0.5,), (-0.25,))), "tensor<2x!bits.affine<i1, 0.5, -0.25>>"),
        (Tensor((1,), BitsAffine("u2", (0.5,), (0.0,), 0)), "tensor<1x!bits.affine<u2:0, {0.5:0.0}>>"),
        (Tensor((1, 3, 6, 6, 8), "f32", BLOCKED), 'tensor<1x3x6x6x8xf32, #tile.layout<"NCHW8c", channels = 20, halo = [1, 1], fill = -3>>'),
        (Tensor((1, 3, 6, 6, 8), "f32", Layout("NCHW8c", 20)), 'tensor<1x3x6x6x8xf32, #tile.layout<"NCHW8c", channels = 20>>'),
    ],
)
def test_types(type: Tensor, text: str) -> None:
    assert str(type) == text


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (1e-05, "1.0e-05"),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (1e22, "1.0e+22"),
        (1.5e300, "1.5e+300"),
        (2.0, "2.0"),
        (math.inf, "0x7FF0000000000000"),
        (-math.inf, "0xFFF0000000000000"),
    ],
)
def test_floats_have_a_point_or_are_hex(x: float, text: str) -> None:
    assert format_float(x) == text


def test_nan_keeps_its_bits() -> None:
    payload = struct.unpack("d", struct.pack("Q", 0x7FF8000000000123))[0]
    assert format_float(payload) == "0x7FF8000000000123"
    assert format_attr(payload) == "0x7FF8000000000123 : f64"


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain", '"plain"'),
        ('a"b\\', '"a\\"b\\\\"'),
        ("line\n", '"line\\0A"'),
        ("é", '"\\C3\\A9"'),
        ("", '""'),
    ],
)
def test_strings(text: str, quoted: str) -> None:
    assert format_string(text) == quoted


@pytest.mark.parametrize(
    ("loc", "text"),
    [
        (Loc("a.b", "f.py", 12), '"a.b"("f.py":12:0)'),
        (Loc("a.b"), '"a.b"'),
        (Loc("", "f.py", 3), '"f.py":3:0'),
        (Loc(), ""),
    ],
)
def test_locations(loc: Loc, text: str) -> None:
    assert format_loc(loc) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((), "[]"),
        ((1, 2), "array<i64: 1, 2>"),
        ((True,), "array<i1: true>"),
        ((1, 2.0), "[1, 2.0]"),
        ((1, True), "[1, true]"),
        (None, "none"),
        ({"a b": 1, "c": ()}, '{"a b" = 1, c = []}'),
        (1 << 62, str(1 << 62)),
    ],
)
def test_attributes(value: object, text: str) -> None:
    assert format_attr(value) == text


@pytest.mark.parametrize("value", [[1], np.int64(1), {1: 2}, {"": 1}, 1 << 63, (1, [2]), 1j, (1 << 64,)])
def test_attributes_that_text_cannot_hold_are_refused(value: object) -> None:
    with pytest.raises(TersorError):
        format_attr(value)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.float32(0.1), "dense<0.1> : tensor<f32>"),
        (np.full((1, 1), 1e-05, np.float32), "dense<1.0e-05> : tensor<1x1xf32>"),
        (np.float16(0.1), "dense<0.1> : tensor<f16>"),
        (np.array(np.inf, np.float32), "dense<0x7F800000> : tensor<f32>"),
        (np.array(-np.inf, np.float16), "dense<0xFC00> : tensor<f16>"),
        (np.array(np.nan, ml_dtypes.bfloat16), "dense<0x7FC0> : tensor<bf16>"),
        (np.float64(1) / 3, "dense<0.3333333333333333> : tensor<f64>"),
        (np.array([True]), "dense<true> : tensor<1xi1>"),
        (np.array(200, np.uint8), "dense<200> : tensor<ui8>"),
        (np.int64(-(1 << 63)), "dense<-9223372036854775808> : tensor<i64>"),
        (np.zeros((0, 3), np.float32), "dense<> : tensor<0x3xf32>"),
    ],
)
def test_single_elements_print_inline(array: np.ndarray, text: str) -> None:
    graph = Graph()
    graph.set_outputs([graph.add(Const(np.asarray(array)))])
    assert f"{{value = {text}}}" in str(graph)


def test_optional_and_variadic_operands_have_segments() -> None:
    text = str(features())
    assert '"test.optional"(%y, %7, %y, %y) {operandSegmentSizes = array<i32: 1, 0, 1, 2>}' in text


def test_names_are_sanitized_made_unique_and_kept_in_the_location() -> None:
    graph = Graph()
    x = graph.add_input(Tensor((1,)), "x")
    for name in ("a b", "a_b", "0.w", "0", "é", "x", "ok.name"):
        x = graph.add(named(Relu(x), name))
    graph.set_outputs([x])
    lines = [line.strip() for line in str(graph).splitlines() if "nn.relu" in line]
    assert [line.split(" ")[0] for line in lines] == ["%a_b", "%a_b_1", "%_0.w", "%_0", "%_", "%x_1", "%ok.name"]
    assert [line.partition(" loc(")[2] for line in lines] == [
        'fused<"a b">[unknown])',
        'fused<"a_b">[unknown])',
        'fused<"0.w">[unknown])',
        'fused<"0">[unknown])',
        'fused<"\\C3\\A9">[unknown])',
        'fused<"x">[unknown])',
        "",
    ]


def test_one_array_has_one_resource_key() -> None:
    text, weights = format_with_weights(features())
    assert text.count("dense_resource<_0.weight>") == 2
    assert list(weights) == ["_0.weight", "q", "constant", "constant_1", "constant_2"]


def test_repr_of_one_op_is_its_line_in_the_graph() -> None:
    graph = small()
    lines = [line.strip() for line in str(graph).splitlines()]
    assert all(repr(op) in lines for op in graph.ops)


def test_repr_of_an_op_outside_any_graph() -> None:
    x = Graph().add_input(Tensor((2,)), "x")
    assert format_op(Relu(Relu(x))) == '%1 = "nn.relu"(%0) : (tensor<2xf32>) -> tensor<2xf32>'


def test_default_none_is_not_printed_but_other_none_is() -> None:
    x = Graph().add_input(Tensor((2,)), "x")
    text = repr(Everything(x, maybe=None))
    assert "maybe = none" in text and "options" not in text
