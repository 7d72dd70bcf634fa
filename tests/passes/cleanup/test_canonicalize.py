"""canonicalize: dead code, common subexpressions, constants, and all identities together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pass_cases import awkward, body, c, graph_of, names, run, same_bits

from tersor.ir import Const, Graph, Op, Tensor, TersorError, Uniform, Value
from tersor.ir import ops as nn
from tersor.ir.rewrite import Trace, greedy
from tersor.passes import transform
from tersor.passes.cleanup.canonicalize import Canonicalize, canonicalize
from tersor.passes.cleanup.cse import merge_equal
from tersor.passes.cleanup.fold_constants import constant_folding


def messy(x: Value) -> list[Any]:
    """Something of everything; what is left is stated in the golden text."""
    nhwc = nn.Transpose(x, (0, 2, 3, 1))
    gate = nn.Mul(nn.Sigmoid(x), x)
    again = nn.Mul(nn.Sigmoid(x), x)
    halves = [nn.Slice(gate, 1, 0, 2), nn.Slice(again, 1, 2, 4)]
    scale = nn.Mul(nn.Reshape(c(1, 2, 3, 4), (1, 4, 1, 1)), nn.Reshape(c(2), (1, 1, 1, 1)))
    y = nn.Add(nn.Concat(halves, 1), nn.Transpose(nn.Relu(nn.Clip(nhwc, -3.0, 3.0)), (0, 3, 1, 2)))
    return [nn.Mul(scale, y), nn.Reshape(nn.Reshape(y, (-1, 8)), (-1, 4, 2, 2))]


def test_text_and_bits(golden: Callable[[str, str], None]) -> None:
    graph = graph_of(messy, (1, 4, 2, 2))
    graph.add(nn.Exp(graph.inputs[0]))
    after = transform(graph, "canonicalize", check=True)
    golden("passes/canonicalize.mlir", f"{body(graph)}\n// ->\n{body(after)}\n")
    assert names(after) == ["silu", "clip", "add", "mul"]
    for batch in (1, 3):
        x = awkward(Tensor((batch, 4, 2, 2)))
        gate, clipped = torch.sigmoid(x) * x, x.clamp(-3, 3).relu()
        expected = [(gate + clipped) * torch.tensor([2.0, 4, 6, 8])[:, None, None], gate + clipped]
        for got, want in zip(run(after.at(batch), [x]), expected):
            # + 0: torch leaves the sign of relu(-0.0) open
            assert same_bits(got + 0, want.numpy() + 0)


def test_it_changes_nothing_twice() -> None:
    after = transform(graph_of(messy, (1, 4, 2, 2)), "canonicalize")
    again = after.clone()
    assert not canonicalize(again)
    assert str(again) == str(after)


# -- dead code ---------------------------------------------------------------------------------


def test_dead_code_goes_and_inputs_stay() -> None:
    graph = graph_of(lambda x, y: nn.Relu(x), (2, 3), (2, 3))
    graph.add(nn.Mul(nn.Add(graph.inputs[1], c(1)), c(2)))
    after = transform(graph, "canonicalize")
    assert names(after) == ["relu"]
    assert [v.name for v in after.inputs] == ["x", "x1"]
    assert after.report[1].rewrites == {"remove_dead": 4}


# -- common subexpressions ---------------------------------------------------------------------


def merged(build: Callable[..., Any], shape: tuple[int, ...] = (2, 4), constants: bool = True) -> tuple[int, list[str]]:
    graph = graph_of(build, shape)
    count = merge_equal(graph, constants)
    graph.verify()
    return count, names(graph)


def test_equal_ops_are_one() -> None:
    assert merged(lambda x: nn.Add(nn.Exp(nn.Neg(x)), nn.Exp(nn.Neg(x)))) == (2, ["neg", "exp", "add"])


def test_equal_outputs_become_one_value() -> None:
    graph = graph_of(lambda x: [nn.Neg(x), nn.Neg(x)], (2, 4))
    assert merge_equal(graph) == 1
    assert graph.verify().outputs[0] is graph.outputs[1]


@pytest.mark.parametrize(
    "build",
    [
        lambda x: nn.Add(nn.Slice(x, 1, 0, 2), nn.Slice(x, 1, 2, 4)),
        lambda x: nn.Add(nn.Clip(x, 0.0, 1.0), nn.Clip(x, -0.0, 1.0)),
        lambda x: nn.Add(nn.Sub(x, c(1)), nn.Sub(c(1), x)),
        lambda x: nn.Add(nn.Floor(x), nn.Ceil(x)),
        lambda x: nn.Concat([nn.Concat([x, nn.Neg(x)], 0), nn.Concat([nn.Neg(x), x], 0)], 0),
    ],
)
def test_ops_that_differ_stay(build: Callable[..., Any]) -> None:
    graph = graph_of(build, (2, 4))
    before = run(graph, [awkward(Tensor((2, 4)))])
    merge_equal(graph)
    assert same_bits(run(graph, [awkward(Tensor((2, 4)))])[0], before[0])
    assert len(names(graph)) >= 3


def test_optional_operands_have_their_place() -> None:
    gamma = c(1, 2, 3, 4)
    assert merged(lambda x: nn.Add(nn.LayerNorm(x, gamma), nn.LayerNorm(x, None, gamma)))[0] == 0


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (np.float32([1, 2]), np.float32([1, 2]), True),
        (np.float32([0, 1]), np.float32([-0.0, 1]), False),
        (np.float32([1, 2]), np.float32([[1, 2]]), False),
        (np.float32(1), np.float32(1), True),
        (np.float32(1), np.int32(1), False),
        (np.zeros((4, 4), np.float32).T, np.zeros((4, 4), np.float32), True),
        (np.arange(4, dtype=np.float32).reshape(2, 2).T, np.arange(4, dtype=np.float32).reshape(2, 2), False),
        (np.zeros((0,), np.float32), np.zeros((0,), np.float32), True),
    ],
)
def test_constants_are_equal_by_type_and_bytes(a: np.ndarray, b: np.ndarray, equal: bool) -> None:
    graph = Graph()
    one, two = graph.add(Const(a)), graph.add(Const(b))
    graph.set_outputs([one, two])
    assert merge_equal(graph) == int(equal)
    assert merge_equal(graph, constants=False) == 0


def test_the_element_type_of_a_constant_counts() -> None:
    graph = Graph()
    types = [None, Uniform("i8", (0.5,), (0,)), Uniform("i8", (0.25,), (0,)), Uniform("i8", (0.5,), (0,))]
    graph.set_outputs([graph.add(Const(np.zeros(3, np.int8), elem)) for elem in types])
    assert merge_equal(graph) == 1


def test_equal_weights_stay_apart_before_training() -> None:
    def build(x: Value) -> Op:
        return nn.Linear(nn.Linear(x, c(0, shape=(4, 4))), c(0, shape=(4, 4)))

    assert len(transform(graph_of(build, (2, 4)), "canonicalize").find(Const)) == 1
    assert len(transform(graph_of(build, (2, 4)), "trainable").find(Const)) == 2


class Opaque(Op, name="test.opaque"):
    x: Value
    thing: Any

    def infer(self) -> Tensor:
        return self.x.type


@pytest.mark.parametrize(
    ("a", "b", "count"), [([1, {"k": 2.0}], [1, {"k": 2.0}], 1), ({"k": 1}, {"k": True}, 0), (Graph(), Graph(), 0), ({1}, {1}, 0)]
)
def test_attributes_of_any_kind(a: Any, b: Any, count: int) -> None:
    graph = Graph()
    x = graph.add_input(Tensor((1,)), "x")
    graph.set_outputs([graph.add(Opaque(x, a)), graph.add(Opaque(x, b))])
    assert merge_equal(graph) == count


def test_array_attributes_are_compared_by_content() -> None:
    graph = Graph()
    x = graph.add_input(Tensor((1,)), "x")
    graph.set_outputs([graph.add(Opaque(x, np.arange(3))), graph.add(Opaque(x, np.arange(3))), graph.add(Opaque(x, np.arange(4)))])
    assert merge_equal(graph) == 1


# -- constants ---------------------------------------------------------------------------------


def fold(build: Callable[..., Any], max_bytes: int = 1 << 20, shape: tuple[int, ...] = (2, 4)) -> tuple[Graph, str]:
    graph = graph_of(build, shape)
    why = Trace()
    greedy(graph, constant_folding(max_bytes), why=why)
    return graph.verify(), str(why)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int64", "uint8"])
def test_constants_keep_their_type(dtype: str) -> None:
    graph, _ = fold(lambda x: [nn.Add(c(1, 2, dtype=dtype), nn.Mul(c(3, dtype=dtype), c(5, 6, dtype=dtype))), x])
    (folded,) = graph.find(Const)
    assert folded.array.dtype == np.dtype(dtype)
    assert folded.array.tolist() == [16, 20]


def test_shapes_comparisons_and_casts_fold() -> None:
    graph, _ = fold(lambda x: [nn.Transpose(nn.Reshape(c(1, 2, 3, 4), (2, 2)), (1, 0)), nn.Cast(nn.Less(c(1), c(2)), "i64"), x])
    arrays = [op.array for op in graph.find(Const)]
    assert arrays[0].tolist() == [[1, 3], [2, 4]]
    assert arrays[0].flags.c_contiguous
    assert arrays[1] == 1
    assert names(graph) == []


def test_lists_and_missing_operands_fold() -> None:
    graph, _ = fold(lambda x: [nn.Concat([c(1, 2), c(3, 4)], 0), nn.Linear(c(1, 2), c(1, 1, shape=(1, 2))), x])
    assert [op.array.tolist() for op in graph.find(Const)] == [[1, 2, 3, 4], [3]]


class Dequantize(Op, name="quant.test_dequantize"):
    x: Value

    def infer(self) -> Tensor:
        return self.x.type

    def evaluate(self, *xs: Any) -> Any:
        return xs[0]


class Wrong(Op, name="test.wrong_evaluate"):
    x: Value
    mode: str

    def infer(self) -> Tensor:
        return self.x.type

    def evaluate(self, *xs: Any) -> Any:
        if self.mode == "raise":
            raise RuntimeError("not implemented for 'Half'")
        return xs[0].double()


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda x: nn.Add(x, c(1)), ""),
        (lambda x: [nn.Expand(c(1), (1000, 1000)), x], "an expanded constant"),
        (lambda x: [nn.Pad(c(1, 2), (0, 300000)), x], "more than max_bytes=1048576"),
        (lambda x: [nn.Div(c(0), c(0)), x], "hold nan"),
        (lambda x: [nn.Log(c(-1)), x], "hold nan"),
        (lambda x: [Dequantize(c(1)), x], ""),
        (lambda x: [Wrong(c(1), "raise"), x], "torch cannot compute it here: not implemented for 'Half'"),
        (lambda x: [Wrong(c(1), "double"), x], "evaluate gave float64[] instead of tensor<f32>"),
    ],
)
def test_what_is_not_folded(build: Callable[..., Any], reason: str) -> None:
    graph, why = fold(build)
    assert reason in why
    assert bool(reason) == bool(why)
    assert len(names(graph)) == 1


def test_quantized_constants_are_not_folded() -> None:
    class Codes(Op, name="test.codes"):
        x: Value

        def infer(self) -> Tensor:
            return Tensor(self.x.shape, "f32")

    quantized = Const(np.zeros(3, np.int8), Uniform("i8", (0.5,), (0,)))
    _, why = fold(lambda x: [Codes(quantized), x])
    assert "quantized types" in why


def test_a_large_result_no_larger_than_its_operands_folds() -> None:
    graph, why = fold(lambda x: [nn.Transpose(c(1, shape=(600, 700)), (1, 0)), x], max_bytes=10)
    assert (names(graph), why) == ([], "")


def test_options_of_the_pass() -> None:
    graph = graph_of(lambda x: nn.Mul(x, nn.Pad(c(1, 2), (1, 1))), (2, 4))
    assert names(transform(graph, "canonicalize")) == ["mul"]
    assert names(transform(graph, "canonicalize{fold_constants=false}")) == ["pad", "mul"]
    assert names(transform(graph, "canonicalize{max_bytes=15}")) == ["pad", "mul"]
    assert names(transform(graph, Canonicalize(max_bytes=16))) == ["mul"]


def test_infinite_bounds_survive() -> None:
    assert names(transform(graph_of(lambda x: nn.Clip(nn.Relu(x), -math.inf, 5.0), (2, 4)), "canonicalize")) == ["clip"]


def test_a_broken_graph_is_an_error_that_names_the_pass() -> None:
    graph = graph_of(lambda x: nn.Reshape(x, (4, 3)), (2, 6))
    with pytest.raises(TersorError, match=r"^pass 'canonicalize' \(1 of 1\): the batch of input x is free"):
        transform(graph, "canonicalize")
