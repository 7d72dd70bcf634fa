"""Convolutions on packed bits: every geometry and combination of bits against the interpreter, which is a float64 convolution of levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backend_run import TARGETS, check
from bits_networks import conv_of_bits

from tersor.backend.kernels.cpu.bits.lookup_conv import LookupConv
from tersor.backend.kernels.cpu.bits.popcount_conv import PopcountConv
from tersor.ir import Const

CASES: dict[str, dict[str, Any]] = {
    "signs": {"x_bits": 0, "w_bits": 1, "padding": (1, 1, 1, 1)},
    "signs of whole words": {"x_bits": 0, "w_bits": 1, "shape": (1, 64, 5, 16), "outputs": 64, "padding": (1, 1, 1, 1)},
    "two bits": {"x_bits": 2, "w_bits": 1, "padding": (1, 1, 1, 1)},
    "strides and dilation": {
        "x_bits": 2, "w_bits": 2, "shape": (2, 20, 9, 17), "outputs": 70, "kernel": (3, 2), "stride": (2, 1), "dilation": (1, 2),
        "padding": (0, 1, 2, 0),
    },
    "two bits again": {"x_bits": 2, "w_bits": 1, "outputs": 70, "padding": (1, 1, 1, 1), "then": 2},
    "signs of two bits": {"x_bits": 0, "w_bits": 2, "outputs": 70, "padding": (2, 2, 2, 2), "then": 1},
    "four bits, in bytes": {"x_bits": 4, "w_bits": 4, "outputs": 33, "padding": (1, 1, 1, 1), "then": 4},
}  # fmt: skip


#: Inputs that fill the bytes and u16 of a lookup: all ones, and 200 channels.
FULL = {
    "signs": {"x_bits": 0, "w_bits": 1},
    "two bits": {"x_bits": 2, "w_bits": 1},
    "two bits by two": {"x_bits": 2, "w_bits": 2},
    "signs by two bits": {"x_bits": 0, "w_bits": 2, "outputs": 70, "then": 2},
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_sums_are_exact(name: str, target: str) -> None:
    graph = conv_of_bits(**CASES[name])
    compiled = check(graph, inputs=[levels_input(graph.inputs[0].shape)], target=target, tolerance=1e-7)
    assert {"popcount_conv", "lookup_conv"} & {*compiled.templates} and not any("gemm" in t and "integer" not in t for t in compiled.templates)


@pytest.mark.parametrize("name", ["signs", "two bits again"])
def test_two_threads(name: str) -> None:
    graph = conv_of_bits(**CASES[name])
    check(graph, inputs=[levels_input(graph.inputs[0].shape)], threads=2, tolerance=1e-7)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("name", "template"), [*((name, "lookup_conv") for name in FULL), ("two bits by two", "popcount_conv")])
def test_the_largest_sums_fit(name: str, template: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = PopcountConv if template == "lookup_conv" else LookupConv
    monkeypatch.setattr(other, "accepts", lambda *_: False)
    graph = conv_of_bits(shape=(1, 200, 6, 7), padding=(1, 1, 1, 1), **FULL[name])
    for op in graph.find("nn.constant"):
        if op.array.dtype == np.uint8:
            array = op.array.copy()
            array[:3], array[3:6] = array.max(), 0
            graph.replace(op, Const(array, op.elem))
    compiled = check(graph, inputs=[np.ones((1, 200, 6, 7), np.float32)], target=target, tolerance=1e-7)
    assert template in compiled.templates


def test_sums_beyond_16_bits_are_counted() -> None:
    """2,500 channels of 3 x 3 times 3 x 3 do not fit u16."""
    graph = conv_of_bits(x_bits=2, w_bits=2, shape=(1, 2500, 3, 3), outputs=4)
    compiled = check(graph, inputs=[np.ones((1, 2500, 3, 3), np.float32)], tolerance=1e-7)
    assert "lookup_conv" not in compiled.templates


def levels_input(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Around 0 for signs and around the levels of 0 to 1; zeros, halves between levels and NaN among them."""
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    x.reshape(-1)[:6] = (0.0, -0.0, 0.5, 1.0, 1e30, np.nan)
    return x
