"""Winograd on stored integers: its matrices, the bound of its sums, and its kernels against the loops of `integer_oracle`, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import integer_oracle as oracle
import numpy as np
import pytest
from backend_run import ALL_TARGETS, Compiled

from tersor.backend.kernels.cpu.conv.integer.winograd.template import IntegerWinograd
from tersor.backend.kernels.cpu.conv.integer.winograd.transforms import CENTER, TRANSFORMS
from tersor.backend.kernels.template import template_named
from tersor.backend.lowering import select_kernels as schedule_module
from tersor.backend.tile.integer import IntConv2d, Rescale, RescaledSum, RescaleFixed
from tersor.ir.graph import Graph
from tersor.ir.op import Const, Value
from tersor.ir.types import NUMPY, Tensor

LIMIT = 2**25


# -- matrices ----------------------------------------------------------------------------------


@pytest.mark.parametrize("m", TRANSFORMS)
def test_matrices_give_the_correlation_times_the_scale(m: int) -> None:
    """In two dimensions, modulo 2^32, and divided as the kernel does."""
    tr, rng = TRANSFORMS[m], np.random.default_rng(m)
    b, g, a = (np.array(matrix, np.int64) for matrix in (tr.input, tr.weights, tr.output))
    d, w = rng.integers(0, 256, (m + 2, m + 2)), rng.integers(-128, 128, (3, 3))
    y = a @ ((g @ w @ g.T) * (b @ d @ b.T)) @ a.T
    want = np.array([[(d[i : i + 3, j : j + 3] * w).sum() for j in range(m)] for i in range(m)])
    np.testing.assert_array_equal(y, tr.scale**2 * want)
    wrapped = (y * tr.inverse & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    np.testing.assert_array_equal(wrapped >> tr.shift, want)


@pytest.mark.parametrize("m", TRANSFORMS)
def test_transformed_operands_fit_16_bits(m: int) -> None:
    """Whatever activations and weights are; and a constant shows in one plane alone."""
    tr = TRANSFORMS[m]
    b, g = np.array(tr.input), np.array(tr.weights)
    for rows in product(b, repeat=2):
        taps = np.outer(*rows)
        assert 255 * np.maximum(taps, 0).sum() < 2**15 and 255 * np.minimum(taps, 0).sum() >= -(2**15)
    assert max(128 * np.abs(np.outer(*rows)).sum() for rows in product(g, repeat=2)) < 2**15
    ones = np.zeros((m + 2, m + 2))
    ones[1, 1] = tr.constant
    np.testing.assert_array_equal(b @ np.ones((m + 2, m + 2)) @ b.T, ones)
    low = min(-255 * -np.minimum(np.outer(b[1], b[1]), 0).sum() - CENTER * tr.constant, 0)
    assert low >= -(2**15)


def test_the_bound_is_that_of_all_activations() -> None:
    """Weights of two taps, in a transform whose limit is small: every pair of activations is tried."""
    small, rng = replace(TRANSFORMS[2], scale=2**10), np.random.default_rng(0)
    limit = 2 ** (31 - small.shift)
    x = np.arange(-128, 128)
    exact = []
    for pair in [*rng.integers(-16, 17, (300, 2)), (8, 8), (8, -8), (-8, -8), (7, 9), (16, 0), (-16, 0)]:
        sums = x[:, None] * pair[0] + x[None, :] * pair[1]
        exact.append(-limit <= sums.min() and sums.max() < limit)
        assert small.fits(np.array([pair], np.int8)) == exact[-1], pair
    assert 0.2 < np.mean(exact) < 0.8


# -- kernels -----------------------------------------------------------------------------------

#: (channels, outputs, padding, height, width, parameters): parts of channels, a last chunk that begins earlier, odd channels, maps below a tile.
SAME = (1, 1, 1, 1)
Geometry = tuple[int, int, tuple[int, int, int, int], int, int, dict[str, int]]
CASES: list[Geometry] = [
    (32, 48, SAME, 8, 8, {"m": 4, "tiles": 8, "depth": 16}),
    (33, 37, SAME, 13, 10, {"m": 4, "tiles": 5, "depth": 9}),
    (19, 16, (0, 0, 0, 0), 9, 7, {"m": 2, "tiles": 7, "depth": 10}),
    (16, 5, (2, 1, 0, 2), 5, 3, {"m": 4, "tiles": 3, "depth": 8}),
    (40, 80, (2, 2, 2, 2), 1, 2, {"m": 2, "tiles": 4, "depth": 7}),
    (17, 20, SAME, 11, 17, {"m": 4, "tiles": 30, "depth": 9}),
]
#: How they end, and the zero points of their inputs.
KINDS = ("packed", "residual", "fixed", "raw", "large", "i8")
ZEROS = (0, 255, 113, 128, 7, -128)


def force(monkeypatch: pytest.MonkeyPatch, cases: list[Geometry]) -> None:
    """Let the schedule choose Winograd with a case's parameters for every convolution, found by its channels."""
    original = schedule_module.choose

    def choose(fusion: Any, target: Any, *args: Any, **options: Any) -> Any:
        if not isinstance(fusion.anchor, IntConv2d):
            return original(fusion, target, *args, **options)
        template = template_named("integer_winograd", fusion.anchor)
        params = next(case[-1] for case in cases if case[0] == fusion.anchor.x.type.layout.channels)
        found = template.candidates(fusion, target, args[0])[0]
        return schedule_module.Choice("integer_winograd", {**found, **params}, "model")

    monkeypatch.setattr(schedule_module, "choose", choose)


def scalar(value: float, dtype: Any) -> Const:
    return Const(np.array(value, dtype))


def extremes(rng: np.random.Generator, shape: tuple[int, ...], elem: str) -> np.ndarray:
    """Mostly the lowest and the highest integer."""
    limits = np.iinfo(NUMPY[elem])
    some = rng.integers(limits.min, limits.max + 1, shape)
    return np.where(rng.random(shape) < 0.5, rng.choice([limits.min, limits.max], shape), some).astype(NUMPY[elem])


class Network:
    """Convolutions beside each other in one graph, each with its epilogue, and what the oracle gives for them."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.graph = Graph()
        self.arrays: list[np.ndarray] = []
        self.outputs: list[Value] = []
        self.expected: list[np.ndarray] = []

    def input(self, array: np.ndarray, elem: str) -> Value:
        self.arrays.append(array)
        return self.graph.add_input(Tensor(array.shape, elem), f"x{len(self.arrays)}")

    def add(self, case: Geometry, kind: str, zero: int, images: int = 2) -> None:
        c, o, padding, h, w, _ = case
        elem = "i8" if kind == "i8" else "u8"
        weights = self.rng.choice([-128, -1, 0, 127, 127], (o, c, 3, 3)).astype(np.int8)
        self.conv(extremes(self.rng, (images, c, h, w), elem), weights, padding, kind, zero, elem)

    def conv(self, x: np.ndarray, w: np.ndarray, padding: tuple[int, ...], kind: str, zero: int, elem: str = "u8") -> None:
        rng, b = self.rng, self.rng.integers(-(2**16), 2**16, len(w))
        acc = self.graph.add(IntConv2d(self.input(x, elem), Const(w), Const(b.astype(np.int32)), padding=padding, zero=scalar(zero, x.dtype)))
        sums = oracle.conv(x.astype(np.int64), zero, w.astype(np.int64), b, (1, 1), padding, (1, 1), 1)
        # some channels leave 0 .. 255 by far on both sides
        scale = (rng.choice([1, 1, 200], len(w)) * 150 / max(1, np.abs(sums).max())).clip(max=0.2).astype(np.float32)
        value, wanted = self._ended(acc, sums, scale * np.float32(1e5 if kind == "large" else 1), kind)
        self.outputs.append(value)
        self.expected.append(wanted)

    def _ended(self, acc: Value, sums: oracle.I64, scale: np.ndarray, kind: str) -> tuple[Value, np.ndarray]:
        rng, add = self.rng, self.graph.add
        zero, low, high = int(rng.integers(0, 256)), int(rng.integers(0, 60)), int(rng.integers(190, 256))
        m, zeros = Const(scale.reshape(1, -1, 1, 1)), scalar(zero, np.int32)
        bounds = scalar(low - zero, np.float32), scalar(high - zero, np.float32)
        if kind == "raw":
            return acc, sums
        if kind == "residual":
            other = rng.integers(0, 256, sums.shape).astype(np.uint8)
            operands = (acc, self.input(other, "u8"), scalar(0, np.int32), scalar(11, np.int32), m, scalar(0.7, np.float32))
            each = [oracle.add_f32(sums[:, c], other[:, c].astype(np.int64) - 11, float(s), 0.7, zero, low, high) for c, s in enumerate(scale)]
            return add(RescaledSum(*operands, zeros, *bounds, "u8")), np.stack(each, 1)
        if kind == "fixed":
            factors, shifts = zip(*(oracle.split(float(s), 31) for s in scale))
            shift = np.array(shifts, np.int64).reshape(1, -1, 1, 1) + 31
            given = (Const(np.array(factors, np.int64).reshape(1, -1, 1, 1)), Const(np.int64(1) << (shift - 1)), Const(shift))
            wide = scalar(low - zero, np.int64), scalar(high - zero, np.int64)
            each = [oracle.rescale_fixed(sums[:, c], float(s), zero, low, high) for c, s in enumerate(scale)]
            return add(RescaleFixed(acc, *given, zeros, *wide, "u8")), np.stack(each, 1)
        each = [oracle.rescale_f32(sums[:, c], float(s), zero, low, high) for c, s in enumerate(scale)]
        return add(Rescale(acc, m, zeros, *bounds, "u8")), np.stack(each, 1)

    def compiled(self, target: str, threads: int = 1) -> Compiled:
        self.graph.set_outputs(self.outputs)
        return Compiled(self.graph, target, threads)

    def check(self, compiled: Compiled) -> None:
        for i, (got, wanted) in enumerate(zip(compiled(*self.arrays), self.expected, strict=True)):
            np.testing.assert_array_equal(got, wanted, err_msg=f"convolution {i}")


@pytest.mark.parametrize(
    ("target", "threads", "first"),
    [
        (ALL_TARGETS[1], 1, 0),
        (ALL_TARGETS[0], 2, 4),
        (ALL_TARGETS[1], 2, 3),
        pytest.param(ALL_TARGETS[0], 1, 2, marks=pytest.mark.slow),
        pytest.param(ALL_TARGETS[2], 1, 1, marks=pytest.mark.slow),
    ],
)
def test_kernels(target: str, threads: int, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way to end and every zero point, with extreme weights and activations, at borders on all sides. first: turns kinds around the cases.

    Where it is odd, maps are one image, and some parameters name more tiles than it has, as a database may.
    """
    force(monkeypatch, CASES)
    network = Network(first)
    for i, case in enumerate(CASES):
        turn = (i + first) % len(KINDS)
        network.add(case, KINDS[turn], ZEROS[turn], 2 - first % 2)
    compiled = network.compiled(target, threads)
    assert {s.template for s in compiled.steps if s.op.startswith("int_conv2d")} == {"integer_winograd"}
    network.check(compiled)


def at_the_bound(extra: int) -> np.ndarray:
    """Weights of 256 channels, of one sign in each output: their sum is so much above the most that F(4x4, 3x3) takes."""
    total = 2**18 - 1 + extra
    w = np.zeros((2, 256 * 9), np.int8)
    w[:, : total // 127] = 127
    w[:, total // 127] = total % 127
    w[1] *= -1
    return w.reshape(2, 256, 3, 3)


def test_sums_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest weights that are accepted are exact at 0 and at 255; of larger ones the result would be wrong, and they are not accepted."""
    padding, params = (0, 0, 0, 0), {"m": 4, "tiles": 1, "depth": 64}
    force(monkeypatch, [(256, 2, padding, 6, 6, params)])
    x = np.zeros((2, 256, 6, 6), np.uint8)
    x[1] = 255
    assert TRANSFORMS[4].fits(at_the_bound(0)) and not TRANSFORMS[4].fits(at_the_bound(20)) and TRANSFORMS[2].fits(at_the_bound(20))
    network = Network(0)
    network.conv(x, at_the_bound(0), padding, "raw", 0)
    network.check(network.compiled(ALL_TARGETS[1]))
    monkeypatch.setattr(IntegerWinograd, "sizes", lambda self, fusion: [4])
    beyond = Network(0)
    beyond.conv(x, at_the_bound(20), padding, "raw", 0)
    assert not np.array_equal(beyond.compiled(ALL_TARGETS[1])(x)[0], beyond.expected[0])


def test_the_model_chooses_by_shape_and_weights() -> None:
    """On AVX2: Winograd where it multiplies less by far, F(2x2) where weights are too large for F(4x4), a direct one for few channels."""
    rng, network = np.random.default_rng(1), Network(1)
    x = rng.integers(0, 256, (1, 256, 14, 14)).astype(np.uint8)
    w = rng.normal(0, 30, (64, 256, 3, 3)).clip(-127, 127).astype(np.int8)
    network.conv(x, w, SAME, "packed", 3)
    network.conv(x, np.where(w < 0, -128, 127).astype(np.int8), SAME, "packed", 3)
    network.conv(x[:, :3], w[:16, :3], SAME, "packed", 3)
    compiled = network.compiled(ALL_TARGETS[1])
    convs = [s for s in compiled.steps if s.op.startswith("int_conv2d")]
    assert [(s.template, s.params.get("m")) for s in convs] == [("integer_winograd", 4), ("integer_winograd", 2), ("integer_padded", None)]
    network.check(compiled)
