"""Elementwise identities: bits against eager torch on awkward numbers, a negative for each guard, and the texts."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from pass_cases import Identity, c, check_identity, graph_of, refusal, same_bits

from tersor.ir import Tensor, Value
from tersor.ir import ops as nn
from tersor.ir.rewrite import Rewrite
from tersor.passes.cleanup import identities as i

I32 = Tensor((2, 3, 4, 5), "i32")
BOOL = Tensor((2, 3, 4, 5), "bool")
F16 = Tensor((2, 3, 4, 5), "f16")
relu = torch.relu

CASES = [
    Identity(i.constant_right, lambda x: nn.Add(c(2), x), lambda x: 2 + x, ["add"]),
    Identity(i.constant_right, lambda x: nn.Mul(c(1, 2, 3, 4, 5), x), lambda x: torch.tensor([1.0, 2, 3, 4, 5]) * x, ["mul"]),
    Identity(i.add_zero, lambda x: nn.Add(x, c(0, dtype="int32")), lambda x: x + 0, [], [I32]),
    Identity(i.add_zero, lambda x: nn.Add(x, c(-0.0)), lambda x: x + -0.0, []),
    Identity(i.add_zero, lambda x: nn.Add(nn.Exp(x), c(0.0)), lambda x: torch.exp(x) + 0.0, ["exp"]),
    Identity(i.sub_zero, lambda x: nn.Sub(x, c(0.0, shape=(5,))), lambda x: x - 0.0, []),
    Identity(i.times_one, lambda x: nn.Mul(x, c(1)), lambda x: x * 1.0, []),
    Identity(i.times_one, lambda x: nn.Div(x, c(1, shape=(1, 3, 1, 1))), lambda x: x / 1.0, []),
    Identity(i.times_one, lambda x: nn.Pow(x, c(1)), lambda x: x**1.0, []),
    Identity(i.divide_by_power_of_two, lambda x: nn.Div(x, c(2, -4, 0.5, 8, 1)), lambda x: x / torch.tensor([2, -4, 0.5, 8, 1]), ["mul"]),
    Identity(i.divide_by_power_of_two, lambda x: nn.Div(x, c(2.0**14, dtype="float16")), lambda x: x / 2.0**14, ["mul"], [F16]),
    Identity(i.double_negation, lambda x: nn.Neg(nn.Neg(x)), lambda x: x.neg().neg(), []),
    Identity(i.double_not, lambda x: nn.LogicalNot(nn.LogicalNot(x)), lambda x: ~~x, [], [BOOL]),
    Identity(i.idempotent, lambda x: nn.Relu(nn.Relu(nn.Relu(x))), lambda x: relu(relu(relu(x))), ["relu"]),
    Identity(i.idempotent, lambda x: nn.Abs(nn.Abs(x)), lambda x: x.abs().abs(), ["abs"]),
    Identity(i.idempotent, lambda x: nn.Round(nn.Round(x)), lambda x: x.round().round(), ["round"]),
    Identity(i.same_operands, lambda x: nn.Maximum(x, x), lambda x: torch.maximum(x, x), []),
    Identity(i.same_operands, lambda x: nn.LogicalAnd(x, x), lambda x: x & x, [], [BOOL]),
    Identity(i.where_decided, lambda x, y: nn.Where(c(True, dtype="bool"), x, y), lambda x, y: x.clone(), [], [(2, 20), (2, 20)]),
    Identity(i.where_decided, lambda x, y: nn.Where(c(False, dtype="bool"), x, y), lambda x, y: y.clone(), [], [(2, 20), (2, 20)]),
    Identity(i.where_decided, lambda k, x: nn.Where(k, x, x), lambda k, x: torch.where(k, x, x), [], [BOOL, (2, 3, 4, 5)]),
    Identity(i.silu, lambda x: nn.Mul(x, nn.Sigmoid(x)), lambda x: x * torch.sigmoid(x), ["silu"]),
    Identity(i.silu, lambda x: nn.Mul(nn.Sigmoid(x), x), lambda x: torch.sigmoid(x) * x, ["silu"]),
    Identity(i.bound_to_clip, lambda x: nn.Maximum(x, c(0.1)), lambda x: torch.clamp(x, min=0.1), ["clip"]),
    Identity(i.bound_to_clip, lambda x: nn.Minimum(x, c(6, shape=(1, 1, 1))), lambda x: torch.clamp(x, max=6), ["clip"]),
    Identity(i.clip_to_relu, lambda x: nn.Clip(x, 0.0, math.inf), relu, ["relu"]),
    Identity(i.clip_to_relu, lambda x: nn.Clip(x), lambda x: torch.clamp(x, -math.inf, math.inf), []),
    Identity(i.relu_of_clip, lambda x: nn.Relu(nn.Clip(x, -1.0, 6.0)), lambda x: relu(torch.clamp(x, -1, 6)), ["clip"]),
    Identity(i.relu_of_clip, lambda x: nn.Relu(nn.Clip(x, 0.0, 6.0)), lambda x: relu(torch.clamp(x, 0, 6)), ["clip"]),
    Identity(i.clip_of_relu, lambda x: nn.Clip(nn.Relu(x), -2.0, 6.0), lambda x: torch.clamp(relu(x), -2, 6), ["clip"]),
    Identity(i.clip_of_relu, lambda x: nn.Clip(nn.Relu(x), 1.0, 6.0), lambda x: torch.clamp(relu(x), 1, 6), ["clip"]),
    Identity(i.clip_of_clip, lambda x: nn.Clip(nn.Clip(x, -1.0, 6.0), 0.5, 7.0), lambda x: x.clamp(-1, 6).clamp(0.5, 7), ["clip"]),
    Identity(i.clip_of_clip, lambda x: nn.Clip(nn.Clip(x, 0.0, 1.0), 2.0, 3.0), lambda x: x.clamp(0, 1).clamp(2, 3), ["clip"]),
    Identity(i.clip_of_clip, lambda x: nn.Clip(nn.Clip(x, 5.0, 6.0), -1.0, 3.0), lambda x: x.clamp(5, 6).clamp(-1, 3), ["clip"]),
    Identity(i.cast_to_same, lambda x: nn.Cast(x, "f32"), lambda x: x.float(), []),
    Identity(i.cast_of_cast, lambda x: nn.Cast(nn.Cast(x, "f64"), "f32"), lambda x: x.double().float(), []),
    Identity(i.cast_of_cast, lambda x: nn.Cast(nn.Cast(x, "f32"), "f64"), lambda x: x.float().double(), ["cast"], [F16]),
    Identity(i.cast_of_cast, lambda x: nn.Cast(nn.Cast(x, "i64"), "f32"), lambda x: x.long().float(), ["cast"], [I32]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.pattern.name)
def test_bits_of_eager_torch(case: Identity) -> None:
    check_identity(case)


def test_every_identity_has_a_case() -> None:
    assert {case.pattern.name for case in CASES} == {pattern.name for pattern in i.ELEMENTWISE}


def test_text(golden: Callable[[str, str], None]) -> None:
    golden("passes/identities.mlir", "\n".join(check_identity(case) for case in CASES))


@pytest.mark.parametrize(
    ("pattern", "build", "reason"),
    [
        (i.constant_right, lambda x: nn.Add(c(1), c(2)), ""),
        (i.constant_right, lambda x: nn.Add(x, c(2)), ""),
        (i.add_zero, lambda x: nn.Add(x, c(0.0)), "-0.0"),
        (i.add_zero, lambda x: nn.Add(nn.Relu(x), c(0.0)), "-0.0"),
        (i.add_zero, lambda x: nn.Add(x, c(-0.0, 0.0, -0.0, -0.0, -0.0)), ""),
        (i.add_zero, lambda x: nn.Add(x, c(-0.0, shape=(1, 1, 1, 1, 1))), ""),
        (i.sub_zero, lambda x: nn.Sub(x, c(-0.0)), "-0.0"),
        (i.sub_zero, lambda x: nn.Sub(c(0.0), x), ""),
        (i.sub_zero, lambda x: nn.Sub(x, c(0.0, shape=(7, 2, 3, 4, 5))), ""),
        (i.times_one, lambda x: nn.Mul(x, c(1, 1, 1, 1, 2)), ""),
        (i.times_one, lambda x: nn.Div(c(1), x), ""),
        (i.times_one, lambda x: nn.Mul(x, c(1, shape=(7, 2, 3, 4, 5))), ""),
        (i.divide_by_power_of_two, lambda x: nn.Div(x, c(3)), ""),
        (i.divide_by_power_of_two, lambda x: nn.Div(c(1), x), ""),
        (i.divide_by_power_of_two, lambda x: nn.Div(c(1), c(2)), ""),
        (i.divide_by_power_of_two, lambda x: nn.Div(x, c(2, 2, 2, 2, 3)), ""),
        (i.divide_by_power_of_two, lambda x: nn.Div(x, c(2.0**127)), ""),
        (i.divide_by_power_of_two, lambda x: nn.Div(x, c(0)), ""),
        (i.double_negation, lambda x: nn.Neg(nn.Abs(x)), ""),
        (i.idempotent, lambda x: nn.Relu(nn.Abs(x)), ""),
        (i.idempotent, lambda x: nn.Floor(nn.Ceil(x)), ""),
        (i.same_operands, lambda x: nn.Maximum(x, nn.Abs(x)), ""),
        (i.where_decided, lambda x: nn.Where(nn.Less(x, c(0)), x, nn.Abs(x)), ""),
        (i.where_decided, lambda x: nn.Where(c(True, dtype="bool", shape=(7, 2, 3, 4, 5)), x, x), ""),
        (i.silu, lambda x: nn.Mul(x, nn.Sigmoid(nn.Abs(x))), ""),
        (i.bound_to_clip, lambda x: nn.Maximum(x, c(0, 1, 0, 0, 0)), ""),
        (i.clip_to_relu, lambda x: nn.Clip(x, -0.0, math.inf), ""),
        (i.clip_to_relu, lambda x: nn.Clip(x, 0.0, 6.0), ""),
        (i.relu_of_clip, lambda x: nn.Relu(nn.Clip(x, -6.0, -1.0)), "upper bound"),
        (i.relu_of_clip, lambda x: nn.Relu(nn.Clip(x, -0.0, 1.0)), "upper bound"),
        (i.clip_of_relu, lambda x: nn.Clip(nn.Relu(x), -6.0, -1.0), "upper bound"),
        (i.clip_of_clip, lambda x: nn.Clip(nn.Clip(x, -0.0, 1.0), 0.0, 1.0), "-0.0"),
        (i.cast_to_same, lambda x: nn.Cast(x, "f64"), ""),
        (i.cast_of_cast, lambda x: nn.Cast(nn.Cast(x, "f16"), "f32"), "f16 does not hold every f32"),
        (i.cast_of_cast, lambda x: nn.Cast(nn.Cast(x, "i32"), "f32"), "i32 does not hold every f32"),
        (i.cast_of_cast, lambda x: nn.Cast(nn.Cast(x, "f64"), "i32"), "no defined cast"),
    ],
)
def test_refused(pattern: Rewrite, build: Callable[..., Value], reason: str) -> None:
    assert reason in refusal(pattern, build)
    assert bool(reason) == bool(refusal(pattern, build))


def test_signed_zeros_are_why_x_plus_zero_is_no_identity() -> None:
    x = torch.tensor([-0.0])
    (y,) = [graph_of(lambda v: nn.Add(v, c(0.0)), (1,))(x)]
    assert not same_bits(y.numpy(), x.numpy())
