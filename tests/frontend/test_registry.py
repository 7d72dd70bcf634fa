"""Converters of the user's own: for torch's operators, for custom ones, in place of Tersor's; and what their mistakes say."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from frontend_checks import Calls, agrees
from torch import nn

from tersor.frontend import converter, trace
from tersor.frontend.call import Call
from tersor.frontend.registry import CONVERTERS
from tersor.ir.errors import TersorError
from tersor.ir.op import Op, Value
from tersor.ir.ops import Add, Mul, Relu, Reshape, Sqrt


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = dict(CONVERTERS)
    yield
    CONVERTERS.clear()
    CONVERTERS.update(before)


def test_a_converter_for_an_operator_that_has_none() -> None:
    with pytest.raises(TersorError, match=r"aten\.hypot\.default"):
        trace(Calls(torch.hypot), (torch.randn(1, 5), torch.randn(1, 5)))

    @converter("aten.hypot.default")
    def hypot(call: Call, x: Value, y: Value) -> Op:
        """sqrt(x^2 + y^2)"""
        return Sqrt(Add(Mul(x, x), Mul(y, y)))

    agrees(torch.hypot, [torch.tensor([[0.0, 1e-10, 0.3, -4.0, math.nan, math.inf]]), torch.tensor([[0.0, 1e-10, -0.4, 3.0, 1.0, 2.0]])])


def test_a_converter_for_a_custom_operator() -> None:
    @torch.library.custom_op("tersor_test::twice", mutates_args=())
    def twice(x: torch.Tensor, factor: float = 2.0) -> torch.Tensor:
        return x * factor

    twice.register_fake(lambda x, factor=2.0: torch.empty_like(x))

    @converter("tersor_test.twice.default")
    def convert(call: Call, x: Value, factor: float = 2.0) -> Op:
        return Mul(x, call.const(factor, call.elem))

    graph = agrees(lambda x: twice(x, 3.0), [torch.randn(1, 5)])
    assert [op.name for op in graph.ops] == ["nn.constant", "nn.mul"]


def test_a_later_registration_replaces_an_earlier_one() -> None:
    converter("aten.silu.default")(lambda call, x: Relu(x))
    assert [op.name for op in trace(nn.SiLU(), torch.randn(1, 3)).ops] == ["nn.relu"]


def test_a_name_that_is_no_overload() -> None:
    with pytest.raises(TersorError) as caught:
        converter("relu")
    assert str(caught.value) == 'a converter is registered for "namespace.operator.overload", such as "aten.relu.default"; got \'relu\''


def test_a_converter_that_fails_is_named_with_its_place() -> None:
    converter("aten.relu.default")(lambda call, x: [][1])
    with pytest.raises(TersorError, match=r"the converter of aten\.relu\.default failed \[0.*\]: IndexError: list index out of range"):
        trace(nn.Sequential(nn.ReLU()), torch.randn(1, 3))


def test_a_converter_of_the_wrong_type_is_found_out() -> None:
    converter("aten.relu.default")(lambda call, x: Reshape(x, (3, -1)))
    with pytest.raises(TersorError, match=r"the converter of aten\.relu\.default gives \(3, 1\) f32, torch \(1, 3\) f32"):
        trace(nn.Sequential(nn.ReLU()), torch.randn(1, 3))


def test_a_converter_that_returns_no_op_is_found_out() -> None:
    converter("aten.relu.default")(lambda call, x: 3)
    with pytest.raises(TersorError, match=r"the converter of aten\.relu\.default returned a int .*; valid: an op, a value, or a list of them"):
        trace(nn.Sequential(nn.ReLU()), torch.randn(1, 3))


def test_an_op_whose_rule_fails_names_the_operator_and_the_place() -> None:
    converter("aten.relu.default")(lambda call, x: Reshape(x, (7,)))
    with pytest.raises(TersorError, match=r"aten\.relu\.default \[0.*\]: nn\.reshape: shape \[7\] cannot hold"):
        trace(nn.Sequential(nn.ReLU()), torch.randn(1, 3))
