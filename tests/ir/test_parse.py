"""Round trips, and what the parser says about text that is wrong."""

from __future__ import annotations

import math
import random
import re
import struct
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_graphs import Everything, Optional, Typed, features, named, small

from tersor.ir import ops
from tersor.ir.equal import difference, graph_equal
from tersor.ir.errors import TersorError
from tersor.ir.graph import Graph
from tersor.ir.op import Const, Loc
from tersor.ir.ops import Relu
from tersor.ir.parse import parse_graph, parse_type
from tersor.ir.text import format_graph, format_with_weights
from tersor.ir.types import NUMPY, STORAGE, BitsAffine, Layout, Tensor, Uniform
from tersor.ir.verify import verify


def round_trip(graph: Graph) -> Graph:
    text, constants = format_with_weights(graph)
    back = parse_graph(text, {key: op.array for key, op in constants.items()})
    assert difference(graph, back) is None
    assert format_graph(back) == text
    return back


def with_attribute(**attrs: Any) -> Graph:
    graph = Graph()
    x = graph.add_input(Tensor((2,)), "x")
    graph.set_outputs([graph.add(Everything(x, **attrs))])
    return graph


# -- round trips -------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [small, features])
def test_round_trip(build: Callable[[], Graph]) -> None:
    graph = build()
    back = round_trip(graph)
    assert back.batched == graph.batched and back.structure == graph.structure and back.name == graph.name
    for op in back.ops:
        assert op.graph is back and all(v.op is op for v in op.outs)
    for a, b in zip(graph.ops, back.ops):
        assert [sorted(v.uses.values()) for v in a.outs] == [sorted(v.uses.values()) for v in b.outs]


def test_operators_with_their_attributes() -> None:
    graph = Graph()
    x = graph.add_input(Tensor((2, 8, 8, 8)), "x", batched=True)
    w = Const(np.ones((8, 1, 3, 3), np.float32))
    index = Const(np.array([1, 0, 3], np.int64))
    p = [Const(np.full(8, i + 1, np.float32)) for i in range(4)]
    built = [
        ops.Conv2d(x, w, p[0], stride=(2, 1), padding=(1, 0, 2, 1), dilation=(1, 2), groups=8),
        ops.BatchNorm(x, *p, eps=1e-5),
        ops.ConvTranspose2d(x, Const(np.ones((8, 2, 2, 2), np.float32)), None, stride=(2, 2), groups=2),
        ops.Prelu(x, p[0]),
        ops.LayerNorm(x, None, Const(np.ones(8, np.float32)), axes=1, eps=1e-6),
        ops.GroupNorm(x, None, None, groups=4, eps=1e-5),
        ops.Clip(x, min=0.0, max=math.inf),
        ops.LeakyRelu(x, slope=0.01),
        ops.Gelu(x, approximate="tanh"),
        ops.Cast(x, elem="bf16"),
        ops.MaxPool2d(x, (3, 3), (2, 2), (1, 1, 1, 1), ceil_mode=True),
        ops.AvgPool2d(x, (2, 2), (2, 2), (0, 0, 0, 0), divisor=3),
        ops.AvgPool2d(x, (2, 2), (2, 2), (0, 0, 0, 0)),
        ops.AdaptiveAvgPool2d(x, (1, 1)),
        ops.Mean(x, (2, 3), keepdim=True),
        ops.ArgMax(x, 1),
        ops.Reshape(x, (-1, 512)),
        ops.Transpose(x, (0, 2, 3, 1)),
        ops.Concat([x, x], axis=1),
        ops.Slice(x, 1, 0, 4),
        ops.IndexSelect(x, index, 1),
        ops.Pad(x, (0, 0, 0, 0, 1, -1, 2, 2), value=-math.inf),
        ops.Upsample(x, (16, 16), mode="bilinear", scales=(2.0, 2.0)),
        ops.Where(ops.Less(x, Const(np.float32(0))), x, x),
        ops.PixelShuffle(x, 2),
        ops.Softmax(x, 1),
    ]
    graph.set_outputs([graph.add(op) for op in built])
    verify(round_trip(graph))


def test_shared_arrays_stay_shared() -> None:
    first, second, *_ = [op.array for op in round_trip(features()).find(Const) if isinstance(op, Const)]
    assert first is second or np.shares_memory(first, second)


scalars = st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), st.floats(), st.booleans(), st.text(max_size=5), st.none())
plain = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4).map(tuple), st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3)),
    max_leaves=10,
)


@settings(max_examples=150, deadline=None)
@given(value=plain)
def test_any_plain_attribute_comes_back_equal_in_value_and_type(value: Any) -> None:
    round_trip(with_attribute(mixed=(value,), options={"k": value}))


@settings(max_examples=60, deadline=None)
@given(
    ints=st.lists(st.integers(-(1 << 63), (1 << 63) - 1)).map(tuple),
    floats=st.lists(st.floats()).map(tuple),
    bools=st.lists(st.booleans()).map(tuple),
    words=st.lists(st.text(max_size=4)).map(tuple),
    name=st.text(max_size=8),
    path=st.text(max_size=8),
    line=st.integers(0, 10**6),
)
def test_arrays_names_and_locations(ints: Any, floats: Any, bools: Any, words: Any, name: str, path: str, line: int) -> None:
    graph = Graph(name or "main")
    x = graph.add_input(Tensor((2,)), name or "in")
    op = named(Everything(x, ints=ints, floats=floats, bools=bools, words=words, s=path, loc=Loc(path, name, line)), name)
    graph.set_outputs([graph.add(op)], [name])
    round_trip(graph)


quantized = st.builds(
    Uniform,
    st.sampled_from(sorted(STORAGE)),
    st.tuples(st.floats(1e-30, 1e30)),
    st.tuples(st.integers(-1000, 1000)),
    st.sampled_from([None, 0, 2]),
    st.sampled_from(["f16", "bf16", "f32", "f64"]),
    st.sampled_from([None, -1]),
    st.sampled_from([None, 1]),
)
affine = st.builds(
    BitsAffine, st.sampled_from(sorted(STORAGE)), st.tuples(st.floats(1e-30, 1e30)), st.tuples(st.floats(-5, 5)), st.sampled_from([None, 1])
)
layouts = st.builds(
    Layout, st.sampled_from(["NCHW8c", "OIHW4i8o", "a b"]), st.integers(1, 999), st.tuples(st.integers(0, 3), st.integers(0, 3)), st.integers(-9, 9)
)
elems = st.one_of(st.sampled_from(sorted(NUMPY)), quantized, affine)


@settings(max_examples=200, deadline=None)
@given(shape=st.lists(st.integers(0, 9999), max_size=5).map(tuple), elem=elems, layout=st.none() | layouts)
def test_types(shape: Any, elem: Any, layout: Any) -> None:
    type = Tensor(shape, elem, layout)
    assert parse_type(str(type)) == type


@pytest.mark.parametrize("elem", sorted(NUMPY))
def test_single_elements_come_back_bit_for_bit(elem: str) -> None:
    dtype = NUMPY[elem]
    if dtype.kind == "b":
        arrays = [np.array(True), np.array([False])]
    elif dtype.kind in "iu":
        arrays = [np.array(np.iinfo(dtype).min, dtype), np.array([[np.iinfo(dtype).max]], dtype)]
    else:
        bits = np.random.default_rng(0).integers(0, 1 << (8 * dtype.itemsize), 300, dtype=f"u{dtype.itemsize}", endpoint=False)
        special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1 / 3]
        arrays = [*bits.view(dtype), *[np.array([x]).astype(dtype) for x in special]]
    graph = Graph()
    graph.set_outputs([graph.add(Const(np.asarray(a))) for a in arrays])
    back = parse_graph(str(graph))
    assert [op.array.tobytes() for op in back.ops if isinstance(op, Const)] == [np.asarray(a).tobytes() for a in arrays]


def test_what_mlir_opt_makes_of_a_type() -> None:
    text = "tensor<2x!quant.uniform<i8<-127:127>:f32:0, {1.000000e-01,0.30000000999999998:3}>>"
    assert parse_type(text) == Tensor((2,), Uniform("i8", (0.1, 0.30000001), (0, 3), 0, qmin=-127, qmax=127))


def test_module_comments_suffixes_aliases_and_counted_results() -> None:
    graph = parse_graph("""
        // a comment
        #loc = loc("m"("f.py":3:0))
        !t = !quant.uniform<i8:f32, 0.5>
        "builtin.module"() ({
          "func.func"() <{sym_name = "main"}> ({
          ^bb0(%arg0: tensor<2xf32>):  // the input
            %0:2 = "test.fused"(%arg0) ({
            ^bb0(%a: tensor<2xf32>):
              "tile.yield"(%a, %a) : (tensor<2xf32>, tensor<2xf32>) -> ()
            }) : (tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>)
            %1 = "test.everything"(%0#1) {i = 3 : i32, f = 1.000000e-05 : f64, b} : (tensor<2xf32>) -> tensor<2xf32> loc(#loc)
            %2 = "nn.constant"() {value = dense<> : tensor<0xi8>} : () -> tensor<0x!t>
            "func.return"(%1) : (tensor<2xf32>) -> () loc(#loc9)
          }) : () -> ()
        }) : () -> ()
        #loc9 = loc(unknown)
    """)
    assert [op.name for op in graph.ops] == ["test.fused", "test.everything", "nn.constant"]
    assert graph.ops[1].operands == [graph.ops[0].outs[1]]
    assert graph.ops[1].loc == Loc("m", "f.py", 3)
    assert (graph.ops[1].attrs["i"], graph.ops[1].attrs["f"], graph.ops[1].attrs["b"]) == (3, 1e-05, True)
    assert graph.ops[2].out.type.elem == Uniform("i8", (0.5,), (0,))
    assert graph.inputs[0].name == "arg0" and graph.output_names == ["output"]


def test_segments_may_be_left_out_when_clear() -> None:
    text = re.sub(r", operandSegmentSizes = array<i32: 1, 1, 0>", "", str(small()))
    assert "operandSegmentSizes" not in text
    weights = {"features.0.weight": small().ops[0].array}  # type: ignore[attr-defined]
    assert graph_equal(parse_graph(text, weights), small())


def test_a_splat_expands() -> None:
    graph = Graph()
    graph.set_outputs([graph.add(Const(np.ones((), np.float32)))])
    back = parse_graph(str(graph).replace("tensor<f32>", "tensor<2x3xf32>"))
    assert back.ops[0].array.tolist() == [[1, 1, 1], [1, 1, 1]]  # type: ignore[attr-defined]


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 8), (1, 40, 1, 1, 8)])
def test_a_packed_constant_keeps_its_layout(shape: tuple[int, ...]) -> None:
    graph = Graph()
    packed = Const(np.ones(shape, np.float32), None, Layout("NCHW8c", shape[1] * 8 - 3))
    graph.set_outputs([graph.add(packed)])
    assert round_trip(graph).ops[0].out.type.layout == packed.layout


def test_weights_are_found_by_key_or_true_name_and_stay_read_only() -> None:
    graph = features()
    text, constants = format_with_weights(graph)
    weights = {key: op.array.copy() for key, op in constants.items()}
    weights["0.weight"] = weights.pop("_0.weight")
    weights["copy of 0"] = weights["0.weight"]
    back = parse_graph(text, weights)
    assert graph_equal(back, graph)
    with pytest.raises(ValueError, match="read-only"):
        back.ops[0].array[0] = 0  # type: ignore[attr-defined]


# -- text that is wrong ------------------------------------------------------------------------

GOOD = """"func.func"() <{sym_name = "main", arg_attrs = [{tersor.name = "x"}]}> ({
^bb0(%x: tensor<2xf32>):
  %a = "test.everything"(%x) {i = 1} : (tensor<2xf32>) -> tensor<2xf32>
  %b = "nn.constant"() {value = dense<1.0> : tensor<1xf32>} : () -> tensor<1xf32>
  %c = "nn.relu"(%a) : (tensor<2xf32>) -> tensor<2xf32> loc("m"("f.py":1:0))
  "func.return"(%c) : (tensor<2xf32>) -> ()
}) : () -> ()
"""


def test_the_good_text_is_good() -> None:
    assert len(parse_graph(GOOD)) == 3


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('"nn.relu"', '"nn.rellu"', 5, "unknown op 'nn.rellu'; did you mean 'nn.relu'"),
        ('"nn.relu"', '"my.op"', 5, "custom op must be imported"),
        ('"nn.relu"(%a)', '"nn.relu"(%aa)', 5, "%aa is not defined before this use; did you mean '%a'"),
        ('"nn.relu"(%a)', '"nn.relu"(%c)', 5, "%c is not defined before this use"),
        ('"nn.relu"(%a)', '"nn.relu"(%a, %a)', 5, "'nn.relu' has 2 operands but 1 operand types"),
        ('"nn.relu"(%a) : (tensor<2xf32>)', '"nn.relu"() : ()', 5, "nn.relu takes the operands x; got 0"),
        ('"nn.relu"(%a) : (tensor<2xf32>)', '"nn.relu"(%a) : (tensor<3xf32>)', 5, "%a is tensor<2xf32>, but the text says tensor<3xf32>"),
        ('"nn.relu"(%a) : (tensor<2xf32>)', '"nn.relu"(%a) : (tensor<2xf16>)', 5, "%a is tensor<2xf32>, but the text says tensor<2xf16>"),
        ("tensor<2xf32> loc", "tensor<3xf32> loc", 5, "nn.relu gives tensor<2xf32>, but the text says tensor<3xf32>"),
        ("-> tensor<2xf32> loc", "tensor<2xf32> loc", 5, "expected '->', got 'tensor'"),
        ("tensor<2xf32> loc", "tensor<?xf32> loc", 5, "expected a static dimension or an element type"),
        ("tensor<2xf32> loc", "tensor<2xf31> loc", 5, "unknown element type 'f31'; valid: i1, i8"),
        ("%c =", "%a =", 5, "%a is defined twice"),
        ("%c =", "%c:2 =", 5, "gives 1 results, but the text names 2"),
        ("%c = ", "", 5, "gives 1 results, but the text names 0"),
        ('"nn.relu"(%a)', '"nn.relu"(%a', 5, "expected the operands in parentheses"),
        ('"nn.relu"(%a)', '"nn.relu"(%a) {slope = 1.0}', 5, "nn.relu has no attribute 'slope'; valid: none"),
        ('"nn.relu"(%a)', '"nn.relu"(%a) ({})', 5, "expected an op"),
        ("i = 1}", "i = 1, i = 2}", 3, "attribute 'i' is given twice"),
        ("i = 1}", "i = 1.5}", 3, "attribute 'i' must be int, got 1.5"),
        ("i = 1}", "i = true}", 3, "attribute 'i' must be int, got True"),
        ("i = 1}", 'mode = "c"}', 3, "attribute 'mode' must be"),
        ("i = 1}", "ints = [1, 2.0]}", 3, "attribute 'ints' must be"),
        ("i = 1}", "ints = array<i64: 1, x>}", 3, "expected i64 elements"),
        ("i = 1}", "ints = array<u3: 1>}", 3, "unknown array type 'u3'; valid"),
        ("i = 1}", "j = 1}", 3, "no attribute 'j'; valid: i, f"),
        ("i = 1}", "i = }", 3, "expected an attribute value, got '}'"),
        ("i = 1}", "i = nope}", 3, "expected an attribute value, got 'nope'"),
        ("i = 1}", "i = 99999999999999999999}", 3, "64 bits"),
        ("i = 1}", "i = 1 : f31}", 3, "type 'f31'"),
        ("i = 1}", 's = "\\FF"}', 3, "not UTF-8"),
        ("i = 1}", "options = " + "{a = " * 80 + "1" + "}" * 81, 3, "nests deeper"),
        ("i = 1}", "elem = !quant.uniform<i9:f32, 1.0>}", 3, "unknown storage type 'i9'; valid: i1"),
        ("i = 1}", "elem = !quant.uniform<i8:i32, 1.0>}", 3, "unknown expressed type 'i32'"),
        ("i = 1}", "elem = !quant.uniform<i8:f32, 1.0:x>}", 3, "expected numbers like"),
        ("i = 1}", "elem = !quant.uniform<i8:f32, {1.0}>}", 3, "axis"),
        ("i = 1}", "elem = !quant.uniform<i8:f32:0, 1.0>}", 3, "axis"),
        ("i = 1}", "elem = !q7}", 3, "!q7 is not defined"),
        ("i = 1}", 'layout = #tile.layout<"NCHW8c">}', 3, "channels"),
        ("dense<1.0>", "dense<x>", 4, "'x' is not an element of tensor<1xf32>"),
        ("dense<1.0>", "dense<>", 4, "is not an element"),
        ("dense<1.0> : tensor<1xf32>", "dense<300> : tensor<1xui8>", 4, "'300' is not an element"),
        ("dense<1.0> : tensor<1xf32>", "dense<1> : tensor<1xi8>", 4, "stores f32, got i8"),
        ("dense<1.0> : tensor<1xf32>", "dense<1.0> : tensor<99999999x99999999xf32>", 4, "expand to more than"),
        ("{value = dense<1.0> : tensor<1xf32>}", "", 4, "nn.constant needs one attribute, value"),
        ("{value = dense<1.0> : tensor<1xf32>}", "{value = 1.0}", 4, "nn.constant needs one attribute, value"),
        ('"f.py":1:0', '"f.py":x', 5, "expected"),
        ('loc("m"("f.py":1:0))', "loc(here)", 5, "a location"),
        ('loc("m"("f.py":1:0))', "loc(#loc3)", 5, "#loc3 is not defined"),
        ('"func.return"', '"tile.yield"', 6, "expected 'func.return'"),
        ('"func.return"(%c)', '"func.return"(%d)', 6, "%d is not defined"),
        ("^bb0(%x: tensor<2xf32>)", "^bb0(%x: tensor<2xf32>, %x: tensor<2xf32>)", 2, "distinct names"),
        ('"func.func"', '"func.fun"', 1, 'expected "builtin.module" or "func.func"'),
        ('sym_name = "main"', "sym_name = 1", 1, "expected sym_name to be a str"),
        ('sym_name = "main"', "function_type = (tensor<3xf32>) -> tensor<2xf32>", 1, "function_type differs"),
        ('sym_name = "main"', 'res_attrs = [{tersor.name = "a"}, {tersor.name = "b"}]', 1, "as many names"),
        ("}) : () -> ()\n", '}) {tersor.structure = "[0"} : () -> ()\n', 1, "structure of the outputs is not understood"),
        ("}) : () -> ()\n", "}) : () -> ()\n}\n", 8, "expected the end of the text, got '}'"),
        ("}) : () -> ()\n", "", 7, "got the end of the text"),
    ],
)
def test_errors_name_line_and_expectation(old: str, new: str, line: int, message: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    with pytest.raises(TersorError, match=re.escape(message)) as caught:
        parse_graph(text)
    error = str(caught.value)
    assert error.startswith(f"line {line}, column ") and "\n" not in error
    shown = text.splitlines()[line - 1].strip() if line <= len(text.splitlines()) else ""
    assert shown in error or "…" in error


def test_an_error_in_line_17() -> None:
    text = str(features()).splitlines()
    text[16] = text[16].replace('"test.everything"(%y)', '"test.everything"(%y) oops')
    with pytest.raises(TersorError, match=r"^line 17, column 30: expected ':', got 'oops'; the line reads: ") as caught:
        parse_graph("\n".join(text), {k: op.array for k, op in format_with_weights(features())[1].items()})
    assert "\n" not in str(caught.value)


def test_a_region_may_not_capture() -> None:
    text, constants = format_with_weights(features())
    weights = {k: op.array for k, op in constants.items()}
    with pytest.raises(TersorError, match="regions are isolated, so pass it as an operand"):
        parse_graph(text.replace('"nn.relu"(%conv_2)', '"nn.relu"(%conv)'), weights)


def test_optional_operands_without_segments_are_ambiguous() -> None:
    graph = Graph()
    x = graph.add_input(Tensor((2,)), "x")
    graph.set_outputs([graph.add(Optional(x, b=x, rest=[]))])
    with pytest.raises(TersorError, match=r"test.optional needs operandSegmentSizes, the number of operands of each of x, a, b, rest"):
        parse_graph(str(graph).replace(" {operandSegmentSizes = array<i32: 1, 0, 1, 0>}", ""))
    with pytest.raises(TersorError, match=r"x, a \(optional\), b \(optional\), rest \(any number\); got 2, in segments \(1, 0, 0, 0\)"):
        parse_graph(str(graph).replace("1, 0, 1, 0", "1, 0, 0, 0"))


def test_missing_weights_are_named() -> None:
    text = str(features())
    with pytest.raises(TersorError, match=r"needs the arrays of _0.weight, q, constant, constant_1, constant_2: give them as weights") as caught:
        parse_graph(text)
    assert str(caught.value).startswith("line 5, column ")
    with pytest.raises(TersorError, match="needs the arrays of constant, constant_1"):
        parse_graph(text, {"_0.weight": np.zeros((4, 2, 1, 1), np.float32), "q": np.zeros((3, 2), np.int8)})


def test_weights_of_another_shape_or_type() -> None:
    text = str(small())
    for array in (np.zeros((4, 3, 3), np.float32), np.zeros((4, 3, 3, 3), np.float64)):
        with pytest.raises(TersorError, match=r"the weights hold features.0.weight as float.*but the text says tensor<4x3x3x3xf32>"):
            parse_graph(text, {"features.0.weight": array})


def test_an_op_that_chokes_on_its_attributes_is_an_error_of_the_text() -> None:
    class Chokes(Typed, name="test.chokes"):
        def infer(self) -> Tensor:
            raise ZeroDivisionError("modulo by zero")

    text = GOOD.replace('"nn.relu"(%a)', '"test.chokes"(%a) {type = tensor<2xf32>}')
    with pytest.raises(TersorError, match=r"line 5, column 8: test.chokes cannot be built: ZeroDivisionError: modulo by zero") as caught:
        parse_graph(text)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("text", ["", "tensor<", "tensor<2x", "tensor<f32> x", "tensor<2xf32", "f32", "tensor<2x!quant.uniform<i8:f32, 1.0>", "!a"])
def test_bad_types(text: str) -> None:
    with pytest.raises(TersorError, match="line"):
        parse_type(text)


def test_an_alias_of_itself() -> None:
    with pytest.raises(TersorError, match="nests deeper"):
        parse_graph("!a = !a\n" + GOOD.replace("tensor<2xf32>", "tensor<2x!a>"))


def test_unbalanced_text_of_one_million_brackets() -> None:
    for text in ("[" * 1_000_000, '"builtin.module"() ({' * 1000, GOOD.replace("i = 1", "mixed = " + "[" * 100_000)):
        with pytest.raises(TersorError):
            parse_graph(text)


def mutations(text: str, count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    pieces = re.findall(r"\w+|\s+|.", text)
    result = []
    for _ in range(count):
        kind = rng.randrange(5)
        i, j = sorted(rng.randrange(len(text)) for _ in range(2))
        if kind == 0:
            result.append(text[:i])
        elif kind == 1:
            result.append(text[:i] + text[min(j, i + rng.randrange(1, 20)) :])
        elif kind == 2:
            result.append(text[:i] + rng.choice('<>{}()[]",:=%#!^@-x0 \n\\\x00é') + text[i + rng.randrange(2) :])
        elif kind == 3:
            p, q = rng.randrange(len(pieces)), rng.randrange(len(pieces))
            result.append("".join([*pieces[:p], pieces[q], *pieces[p + 1 :]]))
        else:
            result.append(text[:i] + text[j : j + 30] + text[i:])
    return result


@pytest.mark.parametrize("seed", range(4))
def test_mutated_text_gives_a_graph_or_a_tersor_error(seed: int) -> None:
    text, constants = format_with_weights(features())
    weights = {key: op.array for key, op in constants.items()}
    errors = 0
    for broken in mutations(text, 400, seed):
        try:
            parse_graph(broken, weights)
        except TersorError as error:
            errors += 1
            assert re.match(r"line \d+, column \d+: ", str(error)) and "\n" not in str(error)
    assert errors > 200


def test_difference_sees_each_kind_of_change() -> None:
    def changed(change: Callable[[Graph], object]) -> str | None:
        other = features()
        change(other)
        return difference(features(), other)

    def every(g: Graph) -> Any:
        return g.find(Everything)[0]

    assert changed(lambda g: None) is None
    assert changed(lambda g: setattr(g, "name", "x"))
    assert changed(lambda g: setattr(g.inputs[0], "name", "x"))
    assert changed(lambda g: g.batched.clear())
    assert changed(lambda g: g.output_names.reverse())
    assert changed(lambda g: setattr(g, "structure", {"a": 0}))
    assert changed(lambda g: g.outputs.reverse())
    assert changed(lambda g: g.ops.pop())
    assert changed(lambda g: setattr(g.ops[2].outs[0], "name", "x"))
    assert changed(lambda g: setattr(g.ops[2], "loc", Loc("x")))
    assert changed(lambda g: setattr(every(g), "i", -3.0))
    assert changed(lambda g: setattr(every(g), "f", math.nan))
    assert changed(lambda g: setattr(every(g), "ints", (1, -2, 3)))
    assert changed(lambda g: setattr(every(g), "x", g.inputs[0]))
    assert changed(lambda g: setattr(g.ops[0], "array", -g.ops[0].array))  # type: ignore[attr-defined]
    assert changed(lambda g: setattr(g.ops[-1].body.ops[0], "x", g.ops[-1].body.inputs[1]))  # type: ignore[attr-defined]
    assert changed(lambda g: setattr(g.ops[0].out, "type", Tensor((1,))))


def test_equality_of_floats_is_by_bits() -> None:
    payload = struct.unpack("d", struct.pack("Q", 0x7FF8000000000123))[0]
    assert graph_equal(with_attribute(f=math.nan), with_attribute(f=math.nan))
    assert not graph_equal(with_attribute(f=math.nan), with_attribute(f=payload))
    assert not graph_equal(with_attribute(f=0.0), with_attribute(f=-0.0))
    assert graph_equal(with_attribute(mixed=(payload,)), round_trip(with_attribute(mixed=(payload,))))


def test_names_and_locations_may_be_ignored() -> None:
    a, b = small(), small()
    b.ops[1].loc = Loc("elsewhere")
    assert not graph_equal(a, b) and graph_equal(a, b, locations=False)
    b.ops[1].out.name = "other"
    assert not graph_equal(a, b, locations=False) and graph_equal(a, b, names=False, locations=False)


def test_bfloat16_weights() -> None:
    graph = Graph()
    x = graph.add(Const(np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)))
    graph.set_outputs([graph.add(Relu(x))])
    round_trip(graph)
