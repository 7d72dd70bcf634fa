"""Each rule of the verifier, turned red by one small broken graph."""

from __future__ import annotations

import gc
import math
import re
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from ir_graphs import BLOCKED, Everything, Fused, Typed, features, named, small

from tersor.ir.errors import VerifyError
from tersor.ir.graph import Graph
from tersor.ir.op import OPS, Const, Loc, Op, Value
from tersor.ir.ops import Add, Relu
from tersor.ir.types import BitsAffine, Layout, Tensor, Uniform
from tersor.ir.verify import _LIMITS, verify


def refused(graph: Graph, message: str) -> None:
    with pytest.raises(VerifyError, match=re.escape(message)) as caught:
        verify(graph)
    assert "\n" not in str(caught.value)


def typed(type: Tensor) -> Graph:
    """A graph with one value of that type."""
    graph = Graph()
    x = graph.add_input(Tensor((2,)), "x")
    graph.set_outputs([graph.add(named(Typed(x, type, loc=Loc("layer", "f.py", 3)), "v"))])
    return graph


def constant(array: Any, elem: Any = None) -> Graph:
    graph = Graph()
    graph.set_outputs([graph.add(named(Const(np.asarray(array), elem, loc=Loc("layer", "f.py", 3)), "w"))])
    return graph


def fused() -> tuple[Graph, Fused]:
    graph = Graph()
    x = graph.add_input(Tensor((2,)), "x")
    body = Graph()
    a = body.add_input(Tensor((2,)), "a")
    body.set_outputs([body.add(Relu(a))])
    op = named(Fused([x], body), "f")
    graph.set_outputs([graph.add(op)])
    return graph, op


@pytest.mark.parametrize("build", [small, features, lambda: fused()[0]])
def test_sound_graphs_pass_and_stay_as_they_are(build: Callable[[], Graph]) -> None:
    graph = build()
    before = str(graph)
    verify(graph)
    assert graph.verify() is graph and str(graph) == before


# -- types and attributes ----------------------------------------------------------------------


def test_result_type_that_is_not_what_the_op_infers() -> None:
    graph = small()
    graph.ops[1].out.type = Tensor((1, 4, 9, 9))
    refused(graph, "nn.conv2d: its result is typed tensor<1x4x9x9xf32>, but it infers tensor<1x4x8x8xf32> [features.0 at model.py:12]")
    graph.ops[1].out.type = Tensor((1, 4, 8, 8), "f16")
    refused(graph, "nn.conv2d: its result is typed tensor<1x4x8x8xf16>, but it infers tensor<1x4x8x8xf32> [features.0 at model.py:12]")


def test_operand_type_that_the_op_refuses() -> None:
    graph = small()
    graph.inputs[0].type = Tensor((1, 5, 8, 8))
    with pytest.raises(VerifyError, match=r"features\.0"):
        verify(graph)


def test_number_of_results() -> None:
    graph, op = fused()
    op.outs.append(Value(Tensor((2,)), op))
    refused(graph, "test.fused: has 2 results, but infers 1")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("i", 1.5),
        ("i", np.int64(3)),
        ("i", True),
        ("ints", [1]),
        ("ints", (1, 2.0)),
        ("s", None),
        ("mode", "c"),
        ("mixed", ([1],)),
        ("options", {1: 2}),
        ("options", {"a": np.float32(1)}),
        ("f", "1"),
        ("b", 1),
    ],
)
def test_attribute_that_does_not_fit_its_annotation(field: str, value: object) -> None:
    graph = Graph()
    x = graph.add_input(Tensor((2,)), "x")
    op = Everything(x)
    setattr(op, field, value)
    graph.set_outputs([graph.add(op)])
    refused(graph, f"test.everything: attribute {field!r} must be ")


def test_an_int_is_a_float() -> None:
    graph = Graph()
    graph.set_outputs([graph.add(Everything(graph.add_input(Tensor((2,)), "x"), f=3))])
    verify(graph)


def test_unregistered_op() -> None:
    class Nameless(Relu):
        pass

    graph = Graph()
    graph.set_outputs([graph.add(Nameless(graph.add_input(Tensor((2,)), "x")))])
    refused(graph, "Nameless is not a registered op")
    assert OPS["nn.relu"] is Relu


@pytest.mark.parametrize(
    ("elem", "message"),
    [
        ("f31", "the unknown element type 'f31'; valid: bool, i8"),
        (Uniform("i9", (1.0,), (0,)), "the unknown storage type 'i9'; valid: i1"),
        (Uniform("i8", (0.0,), (0,)), "the scale 0.0; scales are positive and finite"),
        (Uniform("i8", (1.0, -1.0), (0, 0), 0), "the scale -1.0"),
        (Uniform("i8", (math.inf,), (0,)), "the scale inf"),
        (Uniform("i8", (1.0, math.nan), (0, 0), 0), "the scale nan"),
        (Uniform("i8", (1.0,), (0,), 0), "1 scales and 1 zero points, but needs 2"),
        (Uniform("i8", (1.0, 1.0), (0,), 0), "2 scales and 1 zero points, but needs 2"),
        (Uniform("i8", (1.0, 1.0), (0, 0)), "2 scales and 2 zero points, but needs 1"),
        (Uniform("i8", (1.0, 1.0), (0, 0), 1), "quantization axis 1, but rank 1"),
        (Uniform("i8", (1.0, 1.0), (0, 0), -1), "quantization axis -1"),
        (Uniform("i8", (1.0,), (128,)), "the zero point 128, outside the storage range -128:127"),
        (Uniform("u8", (1.0,), (-1,)), "the zero point -1, outside the storage range 0:255"),
        (Uniform("i8", (1.0,), (-128,), qmin=-127), "the zero point -128, outside the storage range -127:127"),
        (Uniform("i2", (1.0,), (0,), qmin=-3), "the storage range -3:1, which does not fit i2 (-2:1)"),
        (Uniform("i8", (1.0,), (0,), qmin=5, qmax=5), "the storage range 5:5"),
        (Uniform("i8", (1.0,), (0,), expressed="i32"), "the expressed type 'i32'; valid: f16"),
        (BitsAffine("i1", (0.0,), (0.0,)), "the scale 0.0"),
        (BitsAffine("i1", (1.0,), (math.nan,)), "an offset that is not finite"),
        (BitsAffine("i1", (1.0, 1.0), (0.0,), 0), "2 scales and 1 offsets, but needs 2"),
    ],
)
def test_element_types(elem: Any, message: str) -> None:
    refused(typed(Tensor((2,), elem)), f"test.typed %v [layer at f.py:3]: its type has {message}")


def test_types_of_inputs_are_checked_too() -> None:
    graph = Graph()
    graph.set_outputs([graph.add_input(Tensor((2,), Uniform("i8", (0.0,), (0,))), "x")])
    refused(graph, "input 'x': its type has the scale 0.0")


@pytest.mark.parametrize(
    ("type", "message"),
    [
        (Tensor((1, -2)), "negative dimensions"),
        (Tensor((1, 3, 6, 6), "f32", BLOCKED), "the layout 'NCHW8c' of 5 axes, but rank 4"),
        (Tensor((1, 3, 6, 6, 4), "f32", BLOCKED), "blocks of [4], but the layout is 'NCHW8c'"),
        (Tensor((1, 3, 6, 6, 8), "f32", Layout("NCHW 8c", 20)), "the layout 'NCHW 8c'"),
        (Tensor((1, 3, 6, 6, 8), "f32", Layout("NCHW8c", 20, (-1, 0))), "a negative halo"),
        (Tensor((1, 3, 6, 6, 8), Uniform("i8", (1.0,) * 24, (0,) * 24, 1), Layout("NCHW8c", 20)), "24 scales and 24 zero points, but needs 20"),
    ],
)
def test_shapes_and_layouts(type: Tensor, message: str) -> None:
    refused(typed(type), f"test.typed %v [layer at f.py:3]: its type has {message}")


def test_per_channel_scales_of_a_blocked_layout_count_logical_channels() -> None:
    verify(typed(Tensor((1, 3, 6, 6, 8), Uniform("i8", (1.0,) * 20, (0,) * 20, 1), Layout("NCHW8c", 20))))


def test_nn_ops_take_no_quantized_operands() -> None:
    graph = Graph()
    x = graph.add_input(Tensor((2,)), "x")
    graph.set_outputs([graph.add(Relu(x))])
    x.type = graph.ops[0].out.type = Tensor((2,), Uniform("i8", (1.0,), (0,)))
    with pytest.raises(VerifyError, match=r"nn.relu: x must hold .*, got tensor<2x!quant"):
        verify(graph)


# -- constants ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_weights_that_are_not_numbers(dtype: Any) -> None:
    array = np.ones((3, 4), dtype)
    array[1, 2] = np.nan
    graph = constant(array)
    refused(graph, "nn.constant: the constant %w holds nan; weights must be numbers [layer at f.py:3]")
    refused(graph, "nan")  # also from the cache
    verify(graph, constants=False)


@pytest.mark.parametrize("value", [3.4e38, -3.4e38, np.inf, -np.inf])
def test_large_and_infinite_constants_pass(value: float) -> None:
    """A mask of -inf before softmax is a constant like others."""
    verify(constant(np.array([value, 1.0], np.float32)))


def test_stored_integers_out_of_range() -> None:
    ternary = Uniform("i2", (1.0,), (0,), qmin=-1, qmax=1)
    verify(constant(np.array([-1, 0, 1], np.int8), ternary))
    refused(constant(np.array([-2, 0, 1], np.int8), ternary), "the constant %w holds integers from -2 to 1, outside -1:1 of its type")
    refused(constant(np.array([0, 1], np.int8), BitsAffine("i1", (1.0,), (0.0,))), "outside -1:0")


def test_array_of_another_dtype() -> None:
    graph = constant(np.array([1, 2], np.int16), Uniform("i8", (1.0,), (0,)))
    refused(graph, "%w holds int16, but its type tensor<2x!quant.uniform<i8:f32, 1.0>> is stored as i8")


def test_arrays_are_read_once_and_forgotten_with_the_array() -> None:
    base = np.ones(8, np.float32)
    graph = constant(base)
    key = id(graph.ops[0].array)  # type: ignore[attr-defined]
    verify(graph)
    base[0] = np.nan  # behind the back of the constant, whose own view is read-only
    verify(graph)
    assert key in _LIMITS
    del graph
    gc.collect()
    assert key not in _LIMITS
    refused(constant(base), "holds nan")


# -- order, uses, interface --------------------------------------------------------------------


def test_operand_defined_later() -> None:
    graph = small()
    graph.ops.reverse()
    refused(graph, "before it is defined")


def test_operand_of_another_graph() -> None:
    graph = small()
    graph.ops[2].replace_operand(graph.ops[1].out, small().ops[1].out)
    refused(graph, "nn.relu [features.1] reads %features.0, the result of nn.conv2d %features.0 [features.0 at model.py:12], which is no value of")


def test_op_that_belongs_to_another_graph() -> None:
    graph = small()
    graph.ops[1].graph = None
    refused(graph, "nn.conv2d %features.0 [features.0 at model.py:12] is among the ops of the graph, but its .graph is None")
    graph.ops[1].graph = Graph()
    refused(graph, "its .graph is another graph")


def test_op_that_stands_twice() -> None:
    graph = small()
    graph.ops.insert(2, graph.ops[1])
    refused(graph, "nn.conv2d %features.0 [features.0 at model.py:12] is in the graph twice")


def test_result_that_points_to_another_op() -> None:
    graph = small()
    graph.ops[1].out.op = graph.ops[0]
    refused(graph, "shares a result with another op")


@pytest.mark.parametrize("wrong", [{}, {None: 1}])
def test_use_counts(wrong: dict[Op | None, int]) -> None:
    graph = small()
    graph.ops[1].out.uses = wrong
    refused(graph, "the uses of %features.0, the result of nn.conv2d")


def test_use_counts_of_a_value_read_twice_and_of_an_output() -> None:
    graph = Graph()
    x = graph.add_input(Tensor((2,)), "x")
    y = graph.add(Add(x, x))
    graph.set_outputs([y, y], ["a", "b"])
    verify(graph)
    x.uses[y.op] = 1
    refused(graph, "the uses of %x are counted as 1 by 1 reader, but there are 2 by 1 reader")
    x.uses[y.op] = 2
    y.uses[None] = 1
    refused(graph, "the uses of %?, the result of nn.add [unknown location] are counted as 1")


def test_graph_without_outputs() -> None:
    graph = Graph()
    graph.add_input(Tensor((2,)), "x")
    refused(graph, "the graph has no outputs")


def test_output_of_another_graph() -> None:
    graph = small()
    graph.outputs[0] = small().outputs[0]
    refused(graph, "output 'output' is %?, the result of nn.add")


def test_names_of_inputs_and_outputs() -> None:
    graph = features()
    graph.inputs[1].name = "image 0"
    refused(graph, "the names of the inputs must differ, got image 0, image 0")
    graph = features()
    graph.output_names[1] = "out 0"
    refused(graph, "11 outputs need as many distinct names")


def test_input_that_is_a_result() -> None:
    graph = small()
    graph.inputs[0].op = graph.ops[0]
    refused(graph, "input 'x' is the result of nn.constant")


def test_batched_names_that_are_no_inputs() -> None:
    graph = small()
    graph.batched.add("z")
    refused(graph, "batched names z, which are no inputs; inputs: x")


def test_batched_input_without_dimensions() -> None:
    graph = Graph()
    graph.set_outputs([graph.add_input(Tensor(()), "x", batched=True)])
    refused(graph, "input 'x' is batched but has no dimensions")


@pytest.mark.parametrize("structure", [1, (0, 1), {"a": -1}, [[True]], "x"])
def test_structure_of_outputs(structure: Any) -> None:
    graph = small()
    graph.structure = structure
    refused(graph, "the structure of the outputs names ")


# -- regions -----------------------------------------------------------------------------------


def test_region_that_captures() -> None:
    graph, op = fused()
    inner = op.body.ops[0]
    inner.replace_operand(op.body.inputs[0], graph.inputs[0])
    refused(graph, "nn.relu [unknown location] in the region of test.fused %f [unknown location] captures %x from outside its region; pass it as")


def test_region_arguments_that_differ_from_the_operands() -> None:
    graph, op = fused()
    op.body.add_input(Tensor((3,), "i64"), "b")
    refused(graph, "operands and block arguments must map one to one; operands: tensor<2xf32>; arguments: tensor<2xf32>, tensor<3xi64>")


def test_constant_in_a_region() -> None:
    graph, op = fused()
    op.body.add(Const(np.ones(2, np.float32)))
    refused(graph, "constants stay outside regions, pass it as an operand")


def test_rules_hold_inside_regions() -> None:
    graph, op = fused()
    op.body.ops[0].out.uses = {}
    refused(graph, "in the region of test.fused %f")
