"""Kernels of stored integers against the loops of `integer_oracle`: every geometry, zero point, epilogue and arithmetic, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import integer_oracle as oracle
import numpy as np
import pytest
from backend_run import ALL_TARGETS, Compiled
from integer_cases import Case, accumulators, add_conv, pools, random_case, rescale, rounding, scalar

import tersor
from tersor.backend.kernels.cpu.arithmetic.base import pmaddwd_on
from tersor.backend.kernels.cpu.arithmetic.integers import Maddubs
from tersor.backend.kernels.cpu.conv.integer.gemm import IntegerGemm
from tersor.backend.kernels.cpu.conv.integer.padded import IntegerPadded
from tersor.backend.kernels.cpu.conv.integer.paired_depthwise import PairedDepthwise
from tersor.backend.kernels.cpu.conv.integer.winograd.template import IntegerWinograd
from tersor.backend.target import host_features, resolve
from tersor.backend.tile.integer import IntLinear, RescaledSum, RescaleFixed
from tersor.ir.graph import Graph
from tersor.ir.op import Const, Value
from tersor.ir.ops import MaxPool2d, QuantAvgPool2d, Quantize, QuantSoftmax, StorageCast
from tersor.ir.types import NUMPY, Tensor, Uniform

#: vpdpbusd in vectors of 8: a processor that has it and no AVX-512.
avx_vnni = pytest.mark.skipif("avx_vnni" not in host_features(), reason="this processor has no AVX-VNNI")


@pytest.mark.parametrize(
    ("target", "seed", "threads"),
    [
        (ALL_TARGETS[0], 0, 1),
        (ALL_TARGETS[0], 1, 2),
        (ALL_TARGETS[1], 2, 1),
        (ALL_TARGETS[2], 3, 1),
        pytest.param("cpu:alderlake", 4, 1, marks=avx_vnni),
    ],
)
def test_convolutions(target: str, seed: int, threads: int) -> None:
    """Eight random ones in one graph: accumulators of some, others rounded in the same kernel."""
    rng = np.random.default_rng(seed)
    cases, graph, expected = [random_case(rng) for _ in range(8)], Graph(), []
    values = [graph.add_input(Tensor(c["x"].shape, "u8" if c["x"].dtype == np.uint8 else "i8"), f"x{i}") for i, c in enumerate(cases)]
    outputs = []
    for x, case in zip(values, cases):
        acc, wanted = add_conv(graph, x, case), accumulators(case)
        if rng.random() < 0.7:
            scale = rng.uniform(0.5, 1.5, len(case["w"])) * 200 / max(1, np.abs(wanted).max())
            zero, low, high = rounding(rng)
            acc = graph.add(rescale(acc, scale, zero, low, high))
            wanted = np.stack([oracle.rescale_f32(wanted[:, c], float(np.float32(m)), zero, low, high) for c, m in enumerate(scale)], 1)
        outputs.append(acc)
        expected.append(wanted)
    graph.set_outputs(outputs)
    compiled = Compiled(graph, target, threads)
    for got, wanted in zip(compiled(*(c["x"] for c in cases)), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_kernels_are_shared_by_equal_roundings_only() -> None:
    """A zero point of 0 and the clamp to all bytes have their own code."""
    case = random_case(np.random.default_rng(3))
    wanted, graph = accumulators(case), Graph()
    x = graph.add_input(Tensor(case["x"].shape, "u8" if case["x"].dtype == np.uint8 else "i8"), "x")
    scale = np.full(len(case["w"]), 200 / np.abs(wanted).max(), np.float32)
    roundings = [(0, 0, 255), (0, 3, 255), (0, 0, 200), (9, 0, 255), (9, 5, 90), (0, 0, 255), (9, 0, 255)]
    graph.set_outputs([graph.add(rescale(add_conv(graph, x, case), scale, *how)) for how in roundings])
    compiled = Compiled(graph, "cpu", 1)
    for got, how in zip(compiled(case["x"]), roundings, strict=True):
        np.testing.assert_array_equal(got, oracle.rescale_f32(wanted, float(scale[0]), *how))
    assert len({step.kernel for step in compiled.steps if step.macs}) == 4


#: (channels, outputs, groups, kernel, stride, padding, dilation, height, width): what each template treats apart. Narrow maps whose tiles are whole
#: rows, groups of three vectors, a last block of few dwords; a first layer; strides; windows that reach over both sides; groups within a block.
DIRECT = [
    (24, 48, 1, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 7, 7),
    (3, 16, 1, (7, 7), (2, 2), (3, 3, 3, 3), (1, 1), 13, 34),
    (17, 20, 1, (1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 5, 6),
    (16, 5, 1, (3, 4), (2, 1), (2, 0, 1, 3), (2, 2), 6, 17),
    (24, 36, 3, (2, 3), (1, 1), (1, 1, 1, 1), (1, 1), 3, 5),
    (36, 16, 1, (3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 3, 3),
]
DEPTHWISE = [
    (20, 20, 20, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 5, 19),
    (16, 16, 16, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 6, 34),
    (33, 33, 33, (2, 4), (1, 3), (0, 1, 2, 3), (2, 1), 5, 7),
    (5, 5, 5, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, 2),
    (18, 18, 18, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 3, 4),
]


#: How the cases end.
KINDS = ("packed", "residual", "packed", "large", "fixed", "raw")


#: Pointwise layers with zeros among the weights: odd numbers of channels, of pixels and of vectors of them; a chunk that is not whole.
SPARSE = [
    (40, 20, 1, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 7, 9),
    (16, 33, 1, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 12, 11),
    (7, 16, 1, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 2, 3),
] * 2


def extreme_case(rng: np.random.Generator, geometry: tuple[Any, ...], zero: int) -> Case:
    """Weights and activations are mostly the lowest and the highest; the border of the map counts as `zero`."""
    c, o, groups, kernel, stride, padding, dilation, h, w = geometry
    x = np.where(rng.random((2, c, h, w)) < 0.5, rng.choice([0, 255], (2, c, h, w)), rng.integers(0, 256, (2, c, h, w))).astype(np.uint8)
    weights = rng.choice([-128, -1, 0, 127, 127], (o, c // groups, *kernel)).astype(np.int8)
    conv = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return {"x": x, "w": weights, "b": rng.integers(-(2**16), 2**16, o), "zero": zero, "geometry": conv}


def residual(acc: Value, other: Value, a: np.ndarray, b: float, zeros: tuple[int, int], low: int, high: int) -> RescaledSum:
    multipliers = Const(a.astype(np.float32).reshape(1, -1, 1, 1)), scalar(b, np.float32)
    of_b, zero = zeros
    bounds = scalar(zero, np.int32), scalar(low - zero, np.float32), scalar(high - zero, np.float32)
    return RescaledSum(acc, other, scalar(0, np.int32), scalar(of_b, np.int32), *multipliers, *bounds, "u8")


@pytest.mark.parametrize(
    ("target", "threads", "geometries", "others"),
    [
        *((target, 1 + i % 2, SPARSE, (IntegerGemm,)) for i, target in enumerate(ALL_TARGETS)),
        (ALL_TARGETS[0], 1, DIRECT, ()),
        (ALL_TARGETS[0], 2, DEPTHWISE, ()),
        (ALL_TARGETS[1], 1, DIRECT[:2] + DEPTHWISE, ()),
        (ALL_TARGETS[1], 2, DEPTHWISE[:3], (PairedDepthwise,)),
    ],
)
def test_borders_and_tails(
    target: str, threads: int, geometries: list[tuple[Any, ...]], others: tuple[type, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every zero point at every border, and every way to round: packed, a residual, fixed, multipliers that packs do not allow, no rounding.

    others: templates that are left out, so that those are tested in whose place they are used.
    """
    for other in (IntegerWinograd, IntegerPadded, *others):
        monkeypatch.setattr(other, "accepts", lambda self, fusion, target: False)
    rng = np.random.default_rng(7)
    graph, outputs, expected, arrays = Graph(), [], [], []
    for i, geometry in enumerate(geometries):
        case = extreme_case(rng, geometry, (0, 255, 113, 255, 7, 1)[i % len(KINDS)])
        if geometries is SPARSE:
            case["w"][rng.random(case["w"].shape) < 0.8] = 0
        wanted, arrays = accumulators(case), [*arrays, case["x"]]
        acc = add_conv(graph, graph.add_input(Tensor(case["x"].shape, "u8"), f"x{i}"), case)
        # some channels leave 0 .. 255 by far on both sides
        scale = (rng.choice([1, 1, 200, 40000], len(case["w"])) * 150 / max(1, np.abs(wanted).max())).clip(max=0.2).astype(np.float32)
        zero, low, high = rounding(rng)
        kind = KINDS[i % len(KINDS)]
        if kind == "residual":
            other = rng.integers(0, 256, wanted.shape).astype(np.uint8)
            arrays.append(other)
            acc = graph.add(residual(acc, graph.add_input(Tensor(other.shape, "u8"), "other"), scale, 0.7, (11, zero), low, high))
            each = [oracle.add_f32(wanted[:, c], other[:, c].astype(np.int64) - 11, float(m), 0.7, zero, low, high) for c, m in enumerate(scale)]
            wanted = np.stack(each, 1)
        elif kind == "fixed":
            (factors, shifts) = zip(*(oracle.split(float(m), 31) for m in scale))
            shift = np.array(shifts, np.int64).reshape(1, -1, 1, 1) + 31
            given = (Const(np.array(factors, np.int64).reshape(1, -1, 1, 1)), Const(np.int64(1) << (shift - 1)), Const(shift))
            bounds = scalar(zero, np.int32), scalar(low - zero, np.int64), scalar(high - zero, np.int64)
            acc = graph.add(RescaleFixed(acc, *given, *bounds, "u8"))
            wanted = np.stack([oracle.rescale_fixed(wanted[:, c], float(m), zero, low, high) for c, m in enumerate(scale)], 1)
        elif kind != "raw":
            scale = scale if kind == "packed" else scale * np.float32(1e5)
            acc = graph.add(rescale(acc, scale, zero, low, high))
            wanted = np.stack([oracle.rescale_f32(wanted[:, c], float(m), zero, low, high) for c, m in enumerate(scale)], 1)
        outputs.append(acc)
        expected.append(wanted)
    graph.set_outputs(outputs)
    compiled = Compiled(graph, target, threads)
    facts, steps = resolve(target), [s for s in compiled.steps if s.op.startswith("int_conv2d")]
    depthwise = "integer_depthwise" if others or not pmaddwd_on(facts) else "paired_depthwise"
    depthwise = "byte_depthwise" if facts.dot == "vnni" and "avx512vbmi" in facts.features else depthwise
    rest = "sparse_integer_pointwise" if geometries is SPARSE else depthwise
    assert [s.template for s in steps] == ["integer_direct" if g in DIRECT else rest for g in geometries]
    if facts.lanes > 4:
        assert [s.params["packs"] for s in steps] == [kind in ("packed", "residual") for kind in (KINDS * 2)[: len(steps)]]
    for got, wanted, geometry in zip(compiled(*arrays), expected, geometries, strict=True):
        np.testing.assert_array_equal(got, wanted, err_msg=str(geometry))


#: (channels, outputs, groups, height, width, images): odd channels, groups that begin inside a block, pixels that chunks do not divide.
POINTWISE = [(37, 64, 1, 9, 11, 1), (16, 20, 1, 5, 7, 2), (48, 96, 3, 4, 4, 3), (64, 33, 1, 30, 31, 1)]


@pytest.mark.parametrize(
    ("target", "threads", "elem"),
    [(ALL_TARGETS[1], 2, "u8"), pytest.param(ALL_TARGETS[1], 1, "i8", marks=pytest.mark.slow), (ALL_TARGETS[0], 2, "i8")],
)
def test_pointwise_of_widened_bytes(target: str, threads: int, elem: str) -> None:
    """Where no instruction multiplies these bytes, each thread widens its pixels, those of a chunk at a time."""
    rng, graph, arrays, expected = np.random.default_rng(5), Graph(), [], []
    limits, outputs = np.iinfo(NUMPY[elem]), []
    for c, o, groups, h, w, n in POINTWISE:
        x = rng.choice([limits.min, limits.max, int(rng.integers(limits.min, limits.max))], (n, c, h, w)).astype(NUMPY[elem])
        weights, b = rng.choice([-128, -1, 127], (o, c // groups, 1, 1)).astype(np.int8), rng.integers(-(2**20), 2**20, o)
        geometry = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": groups}
        case = {"x": x, "w": weights, "b": b, "zero": int(rng.integers(limits.min, limits.max + 1)), "geometry": geometry}
        arrays.append(x)
        outputs.append(add_conv(graph, graph.add_input(Tensor(x.shape, elem), f"x{len(arrays)}"), case))
        expected.append(accumulators(case))
    graph.set_outputs(outputs)
    compiled = Compiled(graph, replace(resolve(target), l2=16 << 10), threads)
    steps = [s for s in compiled.steps if s.op.startswith("int_conv2d")]
    assert {s.params["arithmetic"] for s in steps} == {"pairs" if resolve(target).dot != "vnni" else "pairs_vnni"}
    assert min(s.params["chunk"] for s in steps) < min(h * w for _, _, _, h, w, _ in POINTWISE[-1:])
    for got, wanted in zip(compiled(*arrays), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.skipif(resolve("cpu").dot != "vnni", reason="this machine has no AVX-512 VNNI")
def test_a_processor_that_hides_features() -> None:
    """A virtual machine that hides some of its processor's features gets code for a lesser one, which is asked for VNNI and VBMI by name."""
    rng, graph = np.random.default_rng(0), Graph()
    cases = [extreme_case(rng, geometry, 9) for geometry in (DIRECT[2], DEPTHWISE[0])]
    graph.set_outputs([add_conv(graph, graph.add_input(Tensor(c["x"].shape, "u8"), f"x{i}"), c) for i, c in enumerate(cases)])
    compiled = Compiled(graph, replace(resolve("cpu"), mcpu="x86-64-v4"))
    assert {s.params["arithmetic"] for s in compiled.steps if "arithmetic" in s.params} == {"vnni"}
    for got, case in zip(compiled(*(c["x"] for c in cases)), cases, strict=True):
        np.testing.assert_array_equal(got, accumulators(case))


@pytest.mark.parametrize(("target", "elem"), [(ALL_TARGETS[0], "u8"), (ALL_TARGETS[2], "i8")])
def test_pools_and_layers(target: str, elem: str) -> None:
    """Poolings of maps of three blocks, and linear layers of odd sizes behind them."""
    rng, dtype = np.random.default_rng(3), NUMPY[elem]
    limits, graph = np.iinfo(dtype), Graph()
    x = rng.integers(limits.min, limits.max + 1, (2, 37, 6, 7)).astype(dtype)
    rows = rng.integers(limits.min, limits.max + 1, (5, 2, 23)).astype(dtype)
    image, lines = graph.add_input(Tensor(x.shape, elem), "x"), graph.add_input(Tensor(rows.shape, elem), "rows")
    zero = int(rng.integers(limits.min, limits.max))
    made, expected = pools(image, scalar(zero, dtype)), []
    for op, (kernel, stride, pads) in made:
        wide = np.pad(x.astype(np.int64), ((0, 0), (0, 0), pads[:2], pads[2:]), constant_values=-(2**40))
        oh, ow = ((wide.shape[2 + i] - kernel[i]) // stride[i] + 1 for i in (0, 1))
        windows = [[wide[:, :, i * stride[0] :, j * stride[1] :][:, :, : kernel[0], : kernel[1]].max((2, 3)) for j in range(ow)] for i in range(oh)]
        largest = np.stack([np.stack(row, -1) for row in windows], 2)
        expected.append(largest if isinstance(op, MaxPool2d) else oracle.sum_pool(x.astype(np.int64), zero, kernel, stride, pads))
    outputs = [graph.add(op) for op, _ in made]
    for n in (1, 8, 21):
        w, b = rng.integers(-127, 128, (n, 23)).astype(np.int8), rng.integers(-999, 999, n)
        acc = graph.add(IntLinear(lines, Const(w), Const(b.astype(np.int32)), zero=scalar(zero, dtype)))
        multiplier = rng.uniform(0.001, 0.01, n).astype(np.float32)
        outputs.append(graph.add(rescale(acc, multiplier, 3, 3, 200)))
        sums = oracle.linear(rows.astype(np.int64), zero, w.astype(np.int64), b)
        expected.append(np.stack([oracle.rescale_f32(sums[..., c], float(m), 3, 3, 200) for c, m in enumerate(multiplier)], -1))
    graph.set_outputs(outputs)
    compiled = Compiled(graph, target)
    assert {"integer_pool", "integer_dense"} <= {*compiled.templates}
    for got, wanted in zip(compiled(x, rows), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("storage", ["u8", "i8"])
def test_averages_in_floats(storage: str) -> None:
    """ONNX Runtime's average pooling depends on the order of its sums."""
    rng, graph = np.random.default_rng(4), Graph()
    elem, to = (Uniform(storage, (scale,), (zero,)) for scale, zero in ((0.0371, 11), (0.0213, 90)))
    x = rng.integers(*elem.range, (2, 37, 6, 7), dtype=np.int64).astype(NUMPY[storage])
    image = graph.add_input(Tensor(x.shape, "f32"), "x")
    q = graph.add(Quantize(image, elem, "onnx"))
    geometries: list[Any] = [((3, 2), (3, 2), (0, 0, 0, 0)), ((3, 3), (1, 2), (1, 1, 1, 0))]
    made = [QuantAvgPool2d(q, *g, to, high=120, divisor=g[0][0] * g[0][1]) for g in geometries]
    graph.set_outputs([graph.add(StorageCast(graph.add(op))) for op in made])
    model = tersor.compile(graph, target="cpu:x86-64-v3" if storage == "i8" else "cpu")
    for g, op, got in zip(geometries, made, model(((x.astype(np.int64) - 11) * np.float32(0.0371)).astype(np.float32)), strict=True):
        wanted = oracle.avg_pool_onnx(x.astype(np.int64), (0.0371, 11), *g, op.divisor, (0.0213, 90))
        np.testing.assert_array_equal(got, np.clip(wanted, to.range[0], 120))


@pytest.mark.parametrize("axis", [1, 2])
def test_softmax(axis: int) -> None:
    """ONNX Runtime's: a table of exponentials that the largest element of a row shifts, and sums in order."""
    rng, graph = np.random.default_rng(5), Graph()
    elem, to = Uniform("u8", (0.0371,), (11,)), Uniform("u8", (1 / 256,), (0,))
    x = rng.integers(0, 256, (3, 37, 41), dtype=np.int64)
    q = graph.add(Quantize(graph.add_input(Tensor(x.shape, "f32"), "x"), elem, "onnx"))
    graph.set_outputs([graph.add(StorageCast(graph.add(QuantSoftmax(q, axis, to))))])
    got = tersor.compile(graph)(((x - 11) * np.float32(0.0371)).astype(np.float32))
    wanted = np.moveaxis(oracle.softmax_onnx(np.moveaxis(x, axis, -1), 0.0371, (1 / 256, 0)), -1, axis)
    np.testing.assert_array_equal(got, np.minimum(wanted, 255))


def test_pairs_that_saturate_are_refused() -> None:
    """The bound of maddubs is that of the worst activations, 0 or 255 each, whose products add up in i16."""
    rng = np.random.default_rng(0)
    pairs = np.concatenate(
        [rng.integers(-128, 128, (2000, 2)), [[127, 1], [127, 2], [-128, 0], [-127, -1], [-127, -2], [64, 64], [-64, -65], [127, -127]]]
    )
    for pair in pairs.astype(np.int8):
        sums = [255 * (a * int(pair[0]) + b * int(pair[1])) for a in (0, 1) for b in (0, 1)]
        exact = all(-(2**15) <= s < 2**15 for s in sums)
        assert Maddubs().fits("u8", np.array([*pair, 0, 0], np.int8)) == exact, pair
    assert not Maddubs().fits("i8", np.zeros(4, np.int8))
