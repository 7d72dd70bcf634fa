"""Weights of 24 bits: what packing loses, and that kernels read what was packed."""

from __future__ import annotations

import numpy as np
import pytest
from backend_run import check, lowered
from conv_graphs import conv_graph
from hypothesis import given, settings
from hypothesis import strategies as st

import tersor
from tersor.backend.kernels.cpu.arithmetic.fixed24 import channel_factors, pack24, value_factors, words
from tersor.backend.kernels.cpu.conv.winograd.plan import Plan, make_plan
from tersor.backend.target import resolve
from tersor.backend.tile.fusion import Fusion
from tersor.backend.tile.ops import Fused
from tersor.ir.graph import Graph
from tersor.ir.op import Const
from tersor.ir.ops import Conv2d
from tersor.ir.types import Tensor

SAME = (1, 1, 1, 1)


def unpack(packed: np.ndarray, channels: int, outputs: int) -> np.ndarray:
    """The weights (channels, outputs) in float64, by the words of the docstring: three bytes, and the lowest of them once more below."""
    scales = packed[:outputs].view(np.float32).astype(np.float64) * value_factors(np.ones(1, np.float32)).astype(np.float64)
    raw = packed[outputs:].view(np.uint8).reshape(channels, outputs, 3).astype(np.int64)
    word = raw[..., 0] + (raw[..., 0] << 8) + (raw[..., 1] << 16) + (raw[..., 2] << 24)
    signed: np.ndarray = np.where(word >= 2**31, word - 2**32, word)
    return signed * scales


@settings(max_examples=60, deadline=None)
@given(
    channels=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    magnitude=st.floats(-20, 20),
    zeros=st.floats(0, 1),
)
def test_an_error_is_half_a_step(channels: int, seed: int, magnitude: float, zeros: float) -> None:
    rng = np.random.default_rng(seed)
    w = (rng.standard_normal((channels, 16)) * 10**magnitude * (rng.random((channels, 16)) >= zeros)).astype(np.float32)
    packed = pack24(w)
    assert packed.dtype == np.int32
    assert packed.size == 16 + channels * words(16)
    got, most = unpack(packed, channels, 16), np.abs(w).max(0).astype(np.float64)
    assert (np.abs(got - w) <= most * 2**-24 * 1.01).all()
    assert (got[w == 0] == 0).all()
    assert (got[:, most == 0] == 0).all()


def test_every_byte_that_is_copied() -> None:
    """Words around all steps of the lowest two bytes, and the largest of either sign."""
    exact = np.concatenate([np.arange(-(2**17), 2**17, 37), [2**31 - 1, -(2**31) + 1]]).astype(np.float64)
    w = np.repeat(exact[:, None] / (2**31 - 1), 16, 1).astype(np.float32)
    got = unpack(pack24(w), len(exact), 16)
    assert np.abs(got - w).max() <= 2**-24 * 1.01


def test_factors_are_powers_of_two() -> None:
    sizes = np.array([0, 1e-30, 0.7, 1, 3, 1e30])[:, None]
    factors = channel_factors((sizes * np.array([1, -1, 1])).astype(np.float32)[None])
    assert factors.tolist() == [1, 2**-48, 0.5, 1, 4, 2**48]


@pytest.mark.parametrize(("size", "target", "fixed"), [(14, "cpu:x86-64-v4", True), (56, "cpu:x86-64-v4", False), (14, "cpu:x86-64-v3", False)])
def test_maps_of_few_tiles_have_them(size: int, target: str, fixed: bool) -> None:
    graph = lowered(conv_graph(1, 64, 64, (size, size), (3, 3), padding=SAME), target)
    fusion = next(Fusion(op) for op in graph.ops if isinstance(op, Fused) and op.template == "winograd")
    assert make_plan(fusion, fusion.op.params, 1).fixed == fixed


def compiled_conv(w: np.ndarray, x: np.ndarray, threads: int = 1) -> np.ndarray:
    """What the compiled 3x3 convolution by Winograd gives."""
    graph = Graph()
    graph.set_outputs([graph.add(Conv2d(graph.add_input(Tensor(x.shape), "x"), Const(w), None, padding=SAME))])  # type: ignore[arg-type]
    compiled = tersor.compile(graph, threads=threads, tuned=False)
    assert "winograd" in {step.template for step in compiled.entry().steps}
    result: np.ndarray = compiled(x)
    return result


def convolution(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The same in float64."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    result: np.ndarray = np.einsum("ncyxrs,ocrs->noyx", windows, w.astype(np.float64), optimize=True)
    return result


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [14, 28])
def test_small_weights_of_large_values(size: int, threads: int) -> None:
    """Channels of very different size, made up for by their weights, are as precise as others: here each has an equal share in the result."""
    rng = np.random.default_rng(0)
    channels = 64
    spread = np.exp2(rng.integers(-20, 21, channels)).astype(np.float32)
    w = rng.standard_normal((96, channels, 3, 3)).astype(np.float32) / spread[:, None, None]
    x = rng.standard_normal((1, channels, size, size)).astype(np.float32) * spread[:, None, None]
    got, want = compiled_conv(w, x, threads), convolution(w, x)
    assert 10 * np.log10(np.square(want).sum() / np.square(got - want).sum()) > 110


def test_they_add_less_error_than_the_transforms_have(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    w, x = rng.standard_normal((96, 64, 3, 3)).astype(np.float32), rng.standard_normal((1, 64, 14, 14)).astype(np.float32)
    fixed = compiled_conv(w, x)
    monkeypatch.setattr(Plan, "fixed", False)
    whole, want = compiled_conv(w, x), convolution(w, x)
    assert not np.array_equal(fixed, whole) or resolve("cpu").lanes != 16
    assert np.square(fixed - want).sum() < 2 * np.square(whole - want).sum()


@pytest.mark.parametrize("size", [1e-26, 1e30, 1e35])
def test_large_and_small_values(size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """No intermediate overflows long before the result does; vectors of 8 stand in where there are none of 16."""
    monkeypatch.setattr(Plan, "fixed", property(lambda plan: plan.tiles <= 24))
    rng = np.random.default_rng(0)
    w = rng.standard_normal((64, 64, 3, 3)).astype(np.float32) * np.float32(1 / 24)
    x = (rng.standard_normal((1, 64, 14, 14)) * size).astype(np.float32)
    got, want = compiled_conv(w, x), convolution(w, x)
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()


@pytest.mark.skipif(resolve("cpu").lanes != 16, reason="this machine has no AVX-512")
def test_without_instructions_that_move_any_byte() -> None:
    """AVX-512 without VBMI."""
    check(conv_graph(1, 32, 64, (14, 14), (3, 3), padding=SAME), target="cpu:x86-64-v4", legal=False, tolerance=5e-6)
