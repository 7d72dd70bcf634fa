"""Names, locations, structures, constants and element types of traced graphs."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from frontend_checks import Calls, agrees, error
from torch import nn

from tersor.frontend import trace
from tersor.ir.evaluate import evaluate
from tersor.ir.op import Const


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return torch.sigmoid(y) * 0.5


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return F.relu(self.block(image))


def test_values_are_named_after_the_calls_and_constants_after_the_parameters() -> None:
    graph = trace(Net(), torch.randn(1, 3, 4, 4))
    assert [v.name for v in graph.inputs] == ["image"]
    assert [op.out.name for op in graph.ops] == ["block.conv.weight", "block.conv.bias", "conv2d", "sigmoid", "mul_constant", "mul", "relu"]
    assert graph.output_names == ["output"]


def test_locations_are_the_module_path_and_the_users_line() -> None:
    graph = trace(Net(), torch.randn(1, 3, 4, 4))
    by_name = {op.out.name: op.loc for op in graph.ops}
    first = Block.forward.__code__.co_firstlineno
    assert (by_name["conv2d"].path, by_name["conv2d"].line) == ("block.conv", first + 1)
    assert (by_name["sigmoid"].path, by_name["sigmoid"].line) == ("block", first + 2)
    assert (by_name["relu"].path, by_name["relu"].line) == ("", Net.forward.__code__.co_firstlineno + 1)
    assert by_name["conv2d"].file == "tests/frontend/torch/test_names_and_types.py"
    assert by_name["block.conv.weight"].path == "block.conv.weight"


def test_a_module_called_twice_keeps_its_path() -> None:
    relu = nn.ReLU()
    graph = trace(nn.Sequential(collections.OrderedDict(a=relu, b=nn.Sigmoid(), c=relu)), torch.randn(1, 3))
    assert {op.loc.path for op in graph.find("nn.relu")} <= {"a", "c"}


def test_input_names_are_the_callers() -> None:
    graph = trace(Net(), torch.randn(1, 3, 4, 4), input_names=["pixels"])
    assert [v.name for v in graph.inputs] == ["pixels"] and graph.batched == {"pixels"}


class Nested(nn.Module):
    def forward(self, features: dict[str, Any], scale: float = 2.0, extra: torch.Tensor | None = None) -> Any:
        y = features["low"]["x"] * scale + features["high"][0]
        return y if extra is None else y + extra


def test_nested_inputs_are_flattened_with_clear_names() -> None:
    x = torch.randn(1, 3)
    graph = trace(Nested(), ({"low": {"x": x}, "high": [x + 1]},))
    assert [v.name for v in graph.inputs] == ["features_low_x", "features_high_0"]
    assert torch.allclose(graph(x, x + 1), x * 2 + x + 1)


def test_keyword_inputs_and_numbers_that_are_compiled_in() -> None:
    x = torch.randn(1, 3)
    graph = trace(Nested(), {"features": {"low": {"x": x}, "high": [x]}, "scale": 5.0, "extra": x})
    assert torch.allclose(graph(x, x, x), x * 7)
    assert "extra" in [v.name for v in graph.inputs]


def test_an_unused_input_stays() -> None:
    graph = trace(Calls(lambda a, b: a * 2), (torch.randn(1, 3), torch.randn(1, 5)))
    assert len(graph.inputs) == 2


@dataclasses.dataclass
class Result:
    logits: torch.Tensor
    features: list[torch.Tensor]


torch.export.register_dataclass(Result, serialized_type_name="tersor_test_result")
Pair = collections.namedtuple("Pair", ["first", "second"])

STRUCTURES: dict[str, tuple[Any, Any, list[str]]] = {
    "one": (lambda x: x * 2, 0, ["output"]),
    "tuple": (lambda x: (x * 2, x * 3), (0, 1), ["output_0", "output_1"]),
    "list": (lambda x: [x * 2, x * 3], [0, 1], ["output_0", "output_1"]),
    "dict": (lambda x: {"b": x * 2, "a": x * 3}, {"b": 0, "a": 1}, ["b", "a"]),
    "nested": (lambda x: (x * 2, {"a": [x * 3, x * 4]}), (0, {"a": [1, 2]}), ["output_0", "output_1_a_0", "output_1_a_1"]),
    "named tuple": (lambda x: Pair(x * 2, x * 3), (0, 1), ["output_0", "output_1"]),
    "dataclass": (lambda x: Result(x * 2, [x * 3]), {"logits": 0, "features": [1]}, ["logits", "features_0"]),
    "keys that are no names": (lambda x: {"p/1": x * 2, "2": x * 3}, {"p/1": 0, "2": 1}, ["p_1", "_2"]),
    "the input itself": (lambda x: (x, x), (0, 1), ["output_0", "output_1"]),
    "none": (lambda x: (x * 2, None), (0, None), ["output_0"]),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_of_results(name: str) -> None:
    function, structure, names = STRUCTURES[name]
    graph = trace(Calls(function), torch.randn(1, 3))
    assert graph.structure == structure
    if isinstance(structure, dict):
        assert list(graph.structure) == list(structure)
    assert graph.output_names == names


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.embedding(tokens))


def test_a_tied_weight_is_one_constant_under_its_first_name() -> None:
    graph = agrees(Tied(), [torch.tensor([[1, 6, 0]])])
    (weight,) = [op for op in graph.ops if isinstance(op, Const)]
    assert weight.out.name == "embedding.weight" and sum(weight.out.uses.values()) == 2


def test_constants_are_copies_that_cannot_be_written() -> None:
    module = nn.Linear(2, 2)
    graph = trace(module, torch.randn(1, 2))
    (weight,) = [op for op in graph.ops if op.out.name == "weight"]
    before = weight.array.copy()
    with torch.no_grad():
        module.weight.zero_()
    assert np.array_equal(weight.array, before)
    assert not weight.array.flags.writeable


def test_what_depends_on_constants_only_is_one_constant() -> None:
    graph = agrees(lambda x: x + torch.linspace(0, 1, 4).view(2, 2).tril().sum(0), [torch.randn(1, 2)])
    assert [op.name for op in graph.ops] == ["nn.constant", "nn.add"]


def test_a_constant_may_pass_through_a_type_that_graphs_do_not_have() -> None:
    graph = agrees(lambda x: x + torch.arange(4).to(torch.uint16).float(), [torch.randn(1, 4)])
    assert [op.name for op in graph.ops] == ["nn.constant", "nn.add"]


def test_a_result_of_constants_with_several_parts() -> None:
    graph = agrees(lambda x: x * torch.arange(6.0).view(2, 3).max(0).values, [torch.randn(1, 3)])
    assert [op.name for op in graph.ops] == ["nn.constant", "nn.mul"]


def test_a_buffer_of_integers_indexes() -> None:
    class Permuted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("order", torch.tensor([2, 0, 1]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, self.order]

    graph = agrees(Permuted(), [torch.randn(1, 3, 2)])
    assert [op.name for op in graph.ops] == ["nn.constant", "nn.index_select"]


FLOATS = {torch.float16: ("f16", np.float16, 2e-3), torch.bfloat16: ("bf16", ml_dtypes.bfloat16, 2e-2), torch.float64: ("f64", np.float64, 1e-12)}


@pytest.mark.parametrize("dtype", FLOATS)
def test_models_of_other_float_types_keep_them(dtype: torch.dtype) -> None:
    elem, kind, tolerance = FLOATS[dtype]
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Hardswish(), nn.Flatten(), nn.Linear(36, 5)).eval().to(dtype)
    x = torch.randn(1, 3, 5, 5).to(dtype)
    graph = trace(module, x)
    assert {v.type.elem for op in graph.ops for v in op.outs} == {elem}
    assert all(op.array.dtype == kind for op in graph.ops if isinstance(op, Const))
    with torch.no_grad():
        assert error(evaluate(graph, [x])[0], module.double()(x.double())) < tolerance


PROMOTIONS: dict[str, tuple[Any, torch.dtype, str]] = {
    "int + float scalar": (lambda x: x + 1.5, torch.int32, "f32"),
    "int + int scalar": (lambda x: x + 1, torch.int32, "i32"),
    "int / int": (lambda x: x / 2, torch.int64, "f32"),
    "int // int": (lambda x: x // 2, torch.int64, "i64"),
    "int % int": (lambda x: x % 3, torch.int64, "i64"),
    "int div trunc": (lambda x: torch.div(x, 2, rounding_mode="trunc"), torch.int32, "i32"),
    "bool * float": (lambda x: (x > 0) * 0.5, torch.int32, "f32"),
    "bool + int": (lambda x: (x > 0) + x, torch.int32, "i32"),
    "f16 + f32 tensor": (lambda x: x + torch.ones(3), torch.float16, "f32"),
    "f16 + 0-d f32": (lambda x: x + torch.tensor(1.5), torch.float16, "f16"),
    "f16 + scalar": (lambda x: x * 2.5, torch.float16, "f16"),
    "sum of ints": (lambda x: x.sum(1), torch.int32, "i64"),
    "sum as float": (lambda x: x.sum(1, dtype=torch.float32), torch.int32, "f32"),
    "mean as float": (lambda x: x.mean(1, dtype=torch.float32), torch.int32, "f32"),
    "sqrt of ints": (lambda x: torch.sqrt(x * x), torch.int32, "f32"),
    "where of mixed": (lambda x: torch.where(x > 0, x, 0.5), torch.int32, "f32"),
    "clamp of ints": (lambda x: x.clamp(-1, 2), torch.int64, "i64"),
    "clamp of ints by floats": (lambda x: x.clamp(-0.5, 1.5), torch.int64, "f32"),
    "to float and back": (lambda x: (x.float() * 0.7).to(torch.int64), torch.int32, "i64"),
    "type_as": (lambda x: torch.ones(3).type_as(x) + x, torch.float64, "f64"),
    "u8 images": (lambda x: x.float() / 255, torch.uint8, "f32"),
    "comparison of int and float": (lambda x: x > 0.5, torch.int32, "bool"),
    "abs of ints": (lambda x: x.abs(), torch.int32, "i32"),
    "pow of ints": (lambda x: x**2, torch.int32, "i32"),
    "argmax": (lambda x: x.argmax(1), torch.int32, "i64"),
    "bool": (lambda x: ~x, torch.bool, "bool"),
}


@pytest.mark.parametrize("name", PROMOTIONS)
def test_promotions_give_torchs_types_and_values(name: str) -> None:
    function, dtype, elem = PROMOTIONS[name]
    x = torch.tensor([[-3, 1, 5]]).abs().to(dtype) if dtype in (torch.uint8, torch.bool) else torch.tensor([[-3, 1, 5]]).to(dtype)
    graph = trace(Calls(function), x)
    assert graph.outputs[0].type.elem == elem
    expected = function(x)
    assert graph(x).dtype == expected.dtype
    assert torch.equal(graph(x), expected)
