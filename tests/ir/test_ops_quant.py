"""Quantized operators against plain integer loops that know nothing of them: every bit."""

from __future__ import annotations

from typing import Any

import integer_oracle as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quant_cases import SCALES, Given, activations, bias_of, per_tensor, stored, weights_of

from tersor.ir import Const, Graph, Tensor, VerifyError
from tersor.ir import ops as nn
from tersor.ir.types import Uniform

SEEDS = st.integers(0, 2**31)
ROUNDINGS = st.sampled_from(["f32", "fixed"])
RESCALE = {"f32": oracle.rescale_f32, "fixed": oracle.rescale_fixed}
ADD = {"f32": oracle.add_f32, "fixed": oracle.add_fixed}
FEW = settings(max_examples=60, deadline=None)


def pair(draw: st.DrawFn, low: int, high: int) -> tuple[int, int]:
    return draw(st.integers(low, high)), draw(st.integers(low, high))


# -- quantize, dequantize, requantize ----------------------------------------------------------


@FEW
@given(activations(), SEEDS)
def test_quantize(to: Uniform, seed: int) -> None:
    scale, zero = to.scales[0], to.zero_points[0]
    rng = np.random.default_rng(seed)
    ties = (np.arange(-300, 300) + 0.5) * scale
    special = [0.0, -0.0, np.inf, -np.inf, 3e38, -3e38, 1e-42]
    x = np.concatenate([ties, rng.standard_normal(200) * 200 * scale, special]).astype(np.float32)
    case = Given()
    got = case.run(nn.Quantize(case.add(x, "f32"), to))
    np.testing.assert_array_equal(got, oracle.quantize(x, scale, zero, *to.range))


@FEW
@given(activations(), SEEDS)
def test_quantize_by_division(to: Uniform, seed: int) -> None:
    """As ONNX defines QuantizeLinear; a scale of 0.37 shows that the reciprocal gives other integers."""
    scale, zero = to.scales[0], to.zero_points[0]
    x = np.concatenate([(np.arange(-300, 300) + 0.5) * scale, np.random.default_rng(seed).standard_normal(200) * 200 * scale, [np.inf, -3e38]])
    case = Given()
    got = case.run(nn.Quantize(case.add(x.astype(np.float32), "f32"), to, "onnx"))
    np.testing.assert_array_equal(got, oracle.quantize_onnx(x.astype(np.float32), scale, zero, *to.range))


def test_a_division_and_a_reciprocal_differ() -> None:
    case = Given()
    x = case.add(((np.arange(-100, 100) + 0.5) * 0.0123).astype(np.float32), "f32")
    by_reciprocal, by_division = (case.run(nn.Quantize(x, per_tensor("i8", 0.0123, 0), rounding)) for rounding in ("f32", "onnx"))
    assert 0 < (by_reciprocal != by_division).sum() < 100


def test_quantize_of_nan_is_the_lowest_integer() -> None:
    case = Given()
    got = case.run(nn.Quantize(case.add(np.array([np.nan, 1.0], np.float32), "f32"), per_tensor("u8", 0.5, 10)))
    assert got.tolist() == [0, 12]


def test_quantize_is_the_same_when_all_else_is_float64() -> None:
    import torch

    from tersor.ir.evaluate import evaluate

    case = Given()
    x = np.float32(np.random.default_rng(0).standard_normal(1000))
    expected = case.run(nn.Quantize(case.add(x, "f32"), per_tensor("u8", 0.013, 100)))
    (got,) = evaluate(case.graph, [torch.from_numpy(x)], dtype=torch.float64)
    np.testing.assert_array_equal(got.numpy(), expected)


@FEW
@given(activations(), SEEDS)
def test_dequantize(elem: Uniform, seed: int) -> None:
    q = stored(np.random.default_rng(seed), elem, (50,))
    case = Given()
    got = case.run(nn.Dequantize(case.add(q, elem)))
    expected = (q.astype(np.int64) - elem.zero_points[0]).astype(np.float32) * np.float32(elem.scales[0])
    np.testing.assert_array_equal(got, expected)


def test_scales_along_an_axis() -> None:
    elem = Uniform("i8", (0.5, 2.0, 0.25), (0, 0, 0), axis=1, qmin=-127, qmax=127)
    case = Given()
    x = case.add(np.array([[1.2, 3.0, -40.0], [-0.75, 1e9, 0.125]], np.float32), "f32")
    q = nn.Quantize(x, elem)
    assert case.run(q).tolist() == [[2, 2, -127], [-2, 127, 0]]
    case.graph.set_outputs([case.graph.add(nn.Dequantize(q))])
    assert case.graph(case.arrays[0]).tolist() == [[1.0, 4.0, -31.75], [-1.0, 254.0, 0.0]]


@st.composite
def accumulators(draw: st.DrawFn) -> np.ndarray:
    """i32 of every size: small ones (ties), odd ones above 2^24, the extremes."""
    rng = np.random.default_rng(draw(SEEDS))
    extremes = [-(2**31) + 1, 2**31 - 1, 2**24 + 1, -(2**24) - 1, 2**25 + 3, 0, 1, -1]
    return np.concatenate([extremes, rng.integers(-600, 600, 100), rng.integers(-(2**31) + 1, 2**31, 100)]).astype(np.int32)


@FEW
@given(accumulators(), st.sampled_from([2.0**-1, 2.0**-3, 2.0**-20, 1.0, 3.0, 0.7, 1e-3, 3e-9, 5e-11, 1e6]), activations(), ROUNDINGS)
def test_requantize(acc: np.ndarray, multiplier: float, to: Uniform, rounding: Any) -> None:
    """M from below 2^-32 to above 1, with ties."""
    source = per_tensor("i32", multiplier * to.scales[0], 0)
    case = Given()
    got = case.run(nn.Requantize(case.add(acc, source), to, rounding=rounding))
    m = source.scales[0] / to.scales[0]
    expected = RESCALE[rounding](acc.astype(np.int64), m, to.zero_points[0], *to.range)
    np.testing.assert_array_equal(got, expected)


@FEW
@given(activations(), activations(), SEEDS, ROUNDINGS, st.data())
def test_requantize_between_activations(x: Uniform, to: Uniform, seed: int, rounding: Any, data: st.DataObject) -> None:
    low, high = sorted(data.draw(st.integers(*to.range)) for _ in range(2))
    q = stored(np.random.default_rng(seed), x, (40,))
    case = Given()
    got = case.run(nn.Requantize(case.add(q, x), to, low, high, rounding))
    acc = q.astype(np.int64) - x.zero_points[0]
    np.testing.assert_array_equal(got, RESCALE[rounding](acc, x.scales[0] / to.scales[0], to.zero_points[0], low, high))


def test_the_roundings_differ_at_ties_alone() -> None:
    """f32 rounds halves to even, fixed rounds them up."""
    case = Given()
    acc = case.add(np.array([-3, -1, 1, 3, 5], np.int32), per_tensor("i32", 0.5, 0))
    to = per_tensor("i8", 1.0, 0)
    assert case.run(nn.Requantize(acc, to)).tolist() == [-2, 0, 0, 2, 2]
    assert case.run(nn.Requantize(acc, to, rounding="fixed")).tolist() == [-1, 0, 1, 2, 3]


# -- layers ------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_conv2d(data: st.DataObject) -> None:
    """Zero points 0 to 255 with padding, stride, dilation, groups and odd channels; extremes in adjacent channels."""
    groups = data.draw(st.integers(1, 3))
    c, o = groups * data.draw(st.integers(1, 3)), groups * data.draw(st.integers(1, 3))
    kernel, dilation, stride = pair(data.draw, 1, 3), pair(data.draw, 1, 2), pair(data.draw, 1, 3)
    padding = pair(data.draw, 0, 2) + pair(data.draw, 0, 2)
    size = [max(1, dilation[i] * (kernel[i] - 1) + 1 - padding[2 * i] - padding[2 * i + 1]) + data.draw(st.integers(0, 4)) for i in (0, 1)]
    rng = np.random.default_rng(data.draw(SEEDS))
    elem, axis = data.draw(activations()), data.draw(st.sampled_from([0, None]))
    case = Given()
    q = stored(rng, elem, (2, c, *size))
    w = weights_of(rng, (o, c // groups, *kernel), axis)
    b = bias_of(rng, elem, w.elem.scales, axis is not None, o) if data.draw(st.booleans()) else None
    op = nn.QuantConv2d(case.add(q, elem), w, b, stride=stride, padding=padding, dilation=dilation, groups=groups)
    got = case.run(op)
    bias = np.zeros(o, np.int64) if b is None else b.array.astype(np.int64)
    expected = oracle.conv(q.astype(np.int64), elem.zero_points[0], w.array.astype(np.int64), bias, stride, padding, dilation, groups)
    np.testing.assert_array_equal(got, expected)
    assert op.out.type.elem == Uniform("i32", tuple(elem.scales[0] * s for s in w.elem.scales), w.elem.zero_points, None if axis is None else 1)
    lowest, highest = op.accumulators()
    assert lowest <= expected.min() and expected.max() <= highest


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_conv_transpose2d(data: st.DataObject) -> None:
    groups = data.draw(st.integers(1, 3))
    c, o = groups * data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3))
    kernel, stride, dilation, size = pair(data.draw, 1, 3), pair(data.draw, 1, 3), pair(data.draw, 1, 2), pair(data.draw, 1, 4)
    extra = tuple(data.draw(st.integers(0, max(stride[i], dilation[i]) - 1)) for i in (0, 1))
    full = [(size[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + extra[i] + 1 for i in (0, 1)]
    padding = tuple(data.draw(st.integers(0, min(2, (full[i] - 1) // 2))) for i in (0, 1))
    rng = np.random.default_rng(data.draw(SEEDS))
    elem = data.draw(activations())
    depthwise = groups > 1 and groups == c
    axis = data.draw(st.sampled_from([0, 1, None] if depthwise else [1, None]))
    case = Given()
    q, w = stored(rng, elem, (2, c, *size)), weights_of(rng, (c, o, *kernel), axis)
    scales = w.elem.scales if axis is None else w.elem.scales * groups if axis == 1 else tuple(np.repeat(w.elem.scales, o).tolist())
    b = bias_of(rng, elem, scales, axis is not None, o * groups)
    op = nn.QuantConvTranspose2d(case.add(q, elem), w, b, stride=stride, padding=padding, output_padding=extra, dilation=dilation, groups=groups)
    got = case.run(op)
    expected = oracle.conv_transpose(
        q.astype(np.int64), elem.zero_points[0], w.array.astype(np.int64), b.array.astype(np.int64), stride, padding, extra, dilation, groups
    )
    np.testing.assert_array_equal(got, expected)
    assert op.out.type.elem.scales == tuple(elem.scales[0] * s for s in scales)
    lowest, highest = op.accumulators()
    assert lowest <= expected.min() and expected.max() <= highest


@FEW
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 5), activations(), st.sampled_from([0, None]), SEEDS)
def test_linear(shape: list[int], n: int, elem: Uniform, axis: int | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    case = Given()
    q, w = stored(rng, elem, shape), weights_of(rng, (n, shape[-1]), axis)
    b = bias_of(rng, elem, w.elem.scales, axis is not None, n)
    op = nn.QuantLinear(case.add(q, elem), w, b)
    got = case.run(op)
    np.testing.assert_array_equal(got, oracle.linear(q.astype(np.int64), elem.zero_points[0], w.array.astype(np.int64), b.array.astype(np.int64)))
    assert op.out.type.elem.axis == (None if axis is None else len(shape) - 1)


@FEW
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 4), activations(), activations(), SEEDS)
def test_matmul(m: int, k: int, n: int, a: Uniform, b: Uniform, seed: int) -> None:
    rng = np.random.default_rng(seed)
    case = Given()
    x, y = stored(rng, a, (2, m, k)), stored(rng, b, (k, n))
    got = case.run(nn.QuantMatmul(case.add(x, a), case.add(y, b)))
    for i in range(2):
        np.testing.assert_array_equal(got[i], oracle.matmul(x[i].astype(np.int64), a.zero_points[0], y.astype(np.int64), b.zero_points[0]))


def test_sums_beyond_2_to_the_24_are_exact() -> None:
    """Where float32 would lose the last bit."""
    rng = np.random.default_rng(0)
    elem = per_tensor("u8", 1.0, 3)
    q, w = np.full((1, 700, 2, 2), 255, np.uint8), weights_of(rng, (4, 700, 1, 1), None)
    w = Const(np.where(rng.random(w.array.shape) < 0.02, 126, 127).astype(np.int8), w.elem)
    case = Given()
    got = case.run(nn.QuantConv2d(case.add(q, elem), w))
    assert got.min() > 2**24
    np.testing.assert_array_equal(
        got, oracle.conv(q.astype(np.int64), 3, w.array.astype(np.int64), np.zeros(4, np.int64), (1, 1), (0, 0, 0, 0), (1, 1), 1)
    )


def test_an_accumulator_just_below_2_to_the_31_is_exact() -> None:
    elem = per_tensor("u8", 1.0, 0)
    weights = Const(np.full((1, 66_000), 127, np.int8), Uniform("i8", (1.0,), (0,), qmin=-127, qmax=127))
    bias = Const(np.array([2**31 - 1 - 66_000 * 127 * 255], np.int32), per_tensor("i32", 1.0, 0))
    case = Given()
    assert case.run(nn.QuantLinear(case.add(np.full((1, 66_000), 255, np.uint8), elem), weights, bias)).tolist() == [[2**31 - 1]]
    too_much = Const(bias.array + 1, bias.elem)
    with pytest.raises(VerifyError, match=r"its accumulator may reach 2147483648, but i32 ends at 2147483647"):
        nn.QuantLinear(case.graph.inputs[0], weights, too_much)


def test_overflow_is_judged_by_the_weights_that_are_there() -> None:
    elem = per_tensor("u8", 1.0, 0)
    w = Uniform("i8", (1.0,), (0,), qmin=-127, qmax=127)
    x = Graph().add_input(Tensor((1, 100_000), elem), "x")
    with pytest.raises(VerifyError, match="its accumulator may reach 3238500000"):
        nn.QuantLinear(x, Const(np.full((1, 100_000), 127, np.int8), w))
    nn.QuantLinear(x, Const(np.full((1, 100_000), 60, np.int8), w))
    with pytest.raises(VerifyError, match="its accumulator may reach"):
        nn.QuantLinear(x, Graph().add_input(Tensor((1, 100_000), w), "w"))


# -- arithmetic, pooling, tables ---------------------------------------------------------------


@FEW
@given(activations(), activations(), activations(), SEEDS, ROUNDINGS)
def test_add(a: Uniform, b: Uniform, to: Uniform, seed: int, rounding: Any) -> None:
    rng = np.random.default_rng(seed)
    case = Given()
    x, y = stored(rng, a, (3, 40)), stored(rng, b, (3, 40))
    got = case.run(nn.QuantAdd(case.add(x, a), case.add(y, b), to, rounding=rounding))
    wide = [v.astype(np.int64) - e.zero_points[0] for v, e in ((x, a), (y, b))]
    expected = ADD[rounding](*wide, a.scales[0] / to.scales[0], b.scales[0] / to.scales[0], to.zero_points[0], *to.range)
    np.testing.assert_array_equal(got, expected)


@FEW
@given(
    activations(), activations(), activations(), SEEDS, st.sampled_from([((2, 3, 4), ""), ((3, 1), "b"), ((2, 1, 1), "b"), ((1, 4), ""), ((), "b")])
)
def test_add_as_onnxruntime_adds(a: Uniform, b: Uniform, to: Uniform, seed: int, other: tuple[tuple[int, ...], str]) -> None:
    """In either order; a repeated operand is added first, and apart."""
    rng = np.random.default_rng(seed)
    shape, repeated = other
    x, y = stored(rng, a, (2, 3, 4)), stored(rng, b, shape)
    low, high = sorted(rng.integers(to.range[0], to.range[1] + 1, 2).tolist())
    case, turned = Given(), Given()
    got = case.run(nn.QuantAdd(case.add(x, a), case.add(y, b), to, low, high, "onnx"))
    scales, zeros = (a.scales[0], b.scales[0]), (a.zero_points[0], b.zero_points[0])
    result, p, q = (to.scales[0], to.zero_points[0]), x.astype(np.int64), y.astype(np.int64)
    np.testing.assert_array_equal(got, oracle.add_onnx(p, q, scales, zeros, result, low, high, repeated))
    got = turned.run(nn.QuantAdd(turned.add(y, b), turned.add(x, a), to, low, high, "onnx"))
    wanted = oracle.add_onnx(q, p, scales[::-1], zeros[::-1], result, low, high, "a" if repeated else "")
    np.testing.assert_array_equal(got, wanted)


@FEW
@given(activations(), activations(), activations(), SEEDS)
def test_mul_as_onnxruntime_multiplies(a: Uniform, b: Uniform, to: Uniform, seed: int) -> None:
    """The zero point is added before the rounding, so an odd one sends halves the other way."""
    rng = np.random.default_rng(seed)
    case = Given()
    x, y = stored(rng, a, (2, 40)), stored(rng, b, (40,))
    got = case.run(nn.QuantMul(case.add(x, a), case.add(y, b), to, rounding="onnx"))
    wide = [v.astype(np.int64) - e.zero_points[0] for v, e in ((x, a), (y, b))]
    np.testing.assert_array_equal(got, oracle.mul_onnx(*wide, (a.scales[0], b.scales[0]), (to.scales[0], to.zero_points[0]), *to.range))


@FEW
@given(accumulators(), st.sampled_from([0.0123, 3.1, 1e-4]), st.sampled_from([0.37, 0.011]), activations(), st.sampled_from([1, 7, 49]))
def test_requantize_as_onnxruntime_does(acc: np.ndarray, x: float, w: float, to: Uniform, divisor: int) -> None:
    """M = (S_x S_w) / (S_y divisor), each operation in f32."""
    product = np.float64(np.float32(x)) * np.float64(np.float32(w))
    case = Given()
    got = case.run(nn.Requantize(case.add(acc, per_tensor("i32", product / divisor, 0)), to, rounding="onnx", divisor=divisor))
    m = np.float32(x) * np.float32(w) / (np.float32(to.scales[0]) * np.float32(divisor))
    np.testing.assert_array_equal(got, oracle.rescale_f32(acc.astype(np.int64), m, to.zero_points[0], *to.range))


@FEW
@given(activations(), activations(), SEEDS, ROUNDINGS)
def test_add_on_an_accumulator(b: Uniform, to: Uniform, seed: int, rounding: Any) -> None:
    """The residual sum: i32 with scales along the channels, and u8."""
    rng = np.random.default_rng(seed)
    acc_type = Uniform("i32", tuple(float(s) * 1e-3 for s in rng.choice(SCALES, 3)), (0, 0, 0), axis=1)
    acc = rng.integers(-(2**31) + 1, 2**31, (2, 3, 4, 4)) >> rng.integers(0, 24, (2, 3, 4, 4))
    case = Given()
    y = stored(rng, b, acc.shape)
    low, high = to.zero_points[0], to.range[1]
    got = case.run(nn.QuantAdd(case.add(acc.astype(np.int32), acc_type), case.add(y, b), to, low, high, rounding))
    for channel, scale in enumerate(acc_type.scales):
        wide = y[:, channel].astype(np.int64) - b.zero_points[0]
        m_a, m_b = scale / to.scales[0], b.scales[0] / to.scales[0]
        expected = ADD[rounding](acc[:, channel].astype(np.int64), wide, m_a, m_b, to.zero_points[0], low, high)
        np.testing.assert_array_equal(got[:, channel], expected)


@FEW
@given(activations(), activations(), activations(), SEEDS, ROUNDINGS)
def test_mul_broadcasts(a: Uniform, b: Uniform, to: Uniform, seed: int, rounding: Any) -> None:
    rng = np.random.default_rng(seed)
    case = Given()
    x, y = stored(rng, a, (2, 3, 4, 4)), stored(rng, b, (2, 3, 1, 1))
    got = case.run(nn.QuantMul(case.add(x, a), case.add(y, b), to, rounding=rounding))
    product = (x.astype(np.int64) - a.zero_points[0]) * (y.astype(np.int64) - b.zero_points[0])
    m = np.float64(a.scales[0]) * np.float64(b.scales[0]) / np.float64(to.scales[0])
    np.testing.assert_array_equal(got, RESCALE[rounding](product, float(m), to.zero_points[0], *to.range))


@FEW
@given(activations(), st.data(), SEEDS)
def test_sum_pool2d(elem: Uniform, data: st.DataObject, seed: int) -> None:
    kernel, stride = pair(data.draw, 1, 3), pair(data.draw, 1, 3)
    padding = tuple(data.draw(st.integers(0, k - 1)) for k in np.repeat(kernel, 2))
    case = Given()
    q = stored(np.random.default_rng(seed), elem, (2, 3, 5, 6))
    op = nn.QuantSumPool2d(case.add(q, elem), kernel, stride, padding, kernel[0] * kernel[1])
    np.testing.assert_array_equal(case.run(op), oracle.sum_pool(q.astype(np.int64), elem.zero_points[0], kernel, stride, padding))
    assert op.out.type.elem.scales == (elem.scales[0] / (kernel[0] * kernel[1]),)


@FEW
@given(activations(), activations(), st.data(), SEEDS)
def test_avg_pool2d(elem: Uniform, to: Uniform, data: st.DataObject, seed: int) -> None:
    """Floats whose sums depend on their order."""
    kernel, stride = pair(data.draw, 1, 3), pair(data.draw, 1, 3)
    padding = tuple(data.draw(st.integers(0, k - 1)) for k in np.repeat(kernel, 2))
    case = Given()
    q = stored(np.random.default_rng(seed), elem, (1, 2, 5, 6))
    op = nn.QuantAvgPool2d(case.add(q, elem), kernel, stride, padding, to, divisor=kernel[0] * kernel[1])
    parameters = [(e.scales[0], e.zero_points[0]) for e in (elem, to)]
    expected = oracle.avg_pool_onnx(q.astype(np.int64), parameters[0], kernel, stride, padding, op.divisor, parameters[1])
    np.testing.assert_array_equal(case.run(op), np.clip(expected, *to.range))


@FEW
@given(st.sampled_from(["u8", "i8"]), st.sampled_from([0.003, 0.04, 0.6]), st.integers(2, 40), SEEDS)
def test_softmax(storage: str, scale: float, size: int, seed: int) -> None:
    elem, to = Uniform(storage, (scale,), (7,)), per_tensor(storage, 1 / 256, -128 if storage == "i8" else 0)
    case = Given()
    q = stored(np.random.default_rng(seed), elem, (2, size, 3))
    expected = oracle.softmax_onnx(q.astype(np.int64).swapaxes(1, 2), scale, (1 / 256, to.zero_points[0])).swapaxes(1, 2)
    np.testing.assert_array_equal(case.run(nn.QuantSoftmax(case.add(q, elem), 1, to)), np.clip(expected, *to.range))


@FEW
@given(activations(), activations(), SEEDS, ROUNDINGS)
def test_mean(elem: Uniform, to: Uniform, seed: int, rounding: Any) -> None:
    case = Given()
    q = stored(np.random.default_rng(seed), elem, (2, 5, 7, 7))
    total = nn.QuantSum(case.add(q, elem), (2, 3), True, 49)
    got = case.run(nn.Requantize(total, to, rounding=rounding))
    acc = (q.astype(np.int64) - elem.zero_points[0]).sum((2, 3), keepdims=True)
    np.testing.assert_array_equal(got, RESCALE[rounding](acc, elem.scales[0] / 49 / to.scales[0], to.zero_points[0], *to.range))


@pytest.mark.parametrize("storage", ["u8", "i8", "u4"])
def test_lookup(storage: str) -> None:
    elem, to = Uniform(storage, (0.1,), (3,)), per_tensor("u8", 0.02, 128)
    low, high = elem.range
    table = np.random.default_rng(0).integers(0, 256, high - low + 1).astype(np.uint8)
    q = np.arange(low, high + 1).astype(Tensor((), elem).dtype)[::-1].copy()
    case = Given()
    got = case.run(nn.Lookup(case.add(q, elem), Const(table, to)))
    assert got.tolist() == [int(table[int(v) - low]) for v in q]


# -- refusals ----------------------------------------------------------------------------------


def value(shape: tuple[int, ...], elem: Any) -> Any:
    return Graph().add_input(Tensor(shape, elem), "x")


U8, I8 = per_tensor("u8", 0.5, 3), Uniform("i8", (0.5,), (0,), qmin=-127, qmax=127)
PER_CHANNEL, ALONG_1 = (Uniform("i8", (0.5, 0.25), (0, 0), axis=axis) for axis in (0, 1))
ACC = per_tensor("i32", 1.0, 0)
IMAGE, KERNEL = (1, 2, 3, 3), (1, 2, 1, 1)
REFUSED: list[tuple[str, Any]] = [
    ("quant.quantize: x must hold f32, got tensor<2xf64>", lambda: nn.Quantize(value((2,), "f64"), U8)),
    ("to must be !quant.uniform of at most 16 bits, got", lambda: nn.Quantize(value((2,), "f32"), per_tensor("i32", 1.0, 0))),
    ("to must have zero point 0, got", lambda: nn.Quantize(value((2,), "f32"), Uniform("i8", (1.0, 1.0), (0, 1), axis=0))),
    ("quant.dequantize: x must hold !quant.uniform of at most 32 bits, got tensor<2xf32>", lambda: nn.Dequantize(value((2,), "f32"))),
    ("to must be !quant.uniform of at most 16 bits with one scale", lambda: nn.Requantize(value((2, 2), U8), PER_CHANNEL)),
    ("low and high must ascend within 0 to 255, got 5 and 4", lambda: nn.Requantize(value((2,), U8), U8, 5, 4)),
    ("low and high must ascend within 0 to 255, got -1 and None", lambda: nn.Requantize(value((2,), U8), U8, -1)),
    ("a multiplier of 2e\\+09 is too large", lambda: nn.Requantize(value((2,), per_tensor("i32", 1e9, 0)), U8, rounding="fixed")),
    ("x must have one scale for the tensor", lambda: nn.QuantConv2d(value(IMAGE, ALONG_1), value(KERNEL, I8))),
    ("w must have zero point 0", lambda: nn.QuantConv2d(value(IMAGE, U8), value(KERNEL, per_tensor("i8", 1.0, 1)))),
    ("w must have one scale, or scales along axis 0", lambda: nn.QuantConv2d(value(IMAGE, U8), value(KERNEL, ALONG_1))),
    ("b must hold i32 with the scales S_x S_w", lambda: nn.QuantConv2d(value(IMAGE, U8), value(KERNEL, I8), value((1,), ACC))),
    ("b must hold i32 with the scales S_x S_w", lambda: nn.QuantConv2d(value(IMAGE, U8), value(KERNEL, I8), value((1,), "i32"))),
    ("groups must divide", lambda: nn.QuantConv2d(value(IMAGE, U8), value(KERNEL, I8), groups=3)),
    ("a must hold !quant.uniform of at most 8 bits", lambda: nn.QuantMul(value((2,), per_tensor("i32", 1.0, 0)), value((2,), U8), U8)),
    ("operands must broadcast together", lambda: nn.QuantAdd(value((2,), U8), value((3,), U8), U8)),
    ("a has scales along an axis, so it must have the 2 dim", lambda: nn.QuantAdd(value((2,), PER_CHANNEL), value((2, 2), U8), U8)),
    ("table must have shape \\[256\\]", lambda: nn.Lookup(value((2,), U8), value((16,), U8))),
    ("divisor must be at least 1", lambda: nn.QuantSum(value((2, 2), U8), (1,), False, 0)),
    ("a sum of 100000000 elements may exceed i32", lambda: nn.QuantSum(value((10000, 10000), U8), (0, 1), False, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("message", "build"), REFUSED)
def test_refusals(message: str, build: Any) -> None:
    with pytest.raises(VerifyError, match=message):
        build()
