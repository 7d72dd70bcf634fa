"""Convolutions on packed bits: every geometry and combination of bits against the interpreter, which is a float64 convolution of levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backend_run import TARGETS, check
from bits_networks import conv_of_bits

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


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_sums_are_exact(name: str, target: str) -> None:
    graph = conv_of_bits(**CASES[name])
    compiled = check(graph, inputs=[levels_input(graph.inputs[0].shape)], target=target, tolerance=1e-7)
    assert ("popcount_conv" in compiled.templates) and not any("gemm" in t and "integer" not in t for t in compiled.templates)


@pytest.mark.parametrize("name", ["signs", "two bits again"])
def test_two_threads(name: str) -> None:
    graph = conv_of_bits(**CASES[name])
    check(graph, inputs=[levels_input(graph.inputs[0].shape)], threads=2, tolerance=1e-7)


def levels_input(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Around 0 for signs and around the levels of 0 to 1; zeros, halves between levels and NaN among them."""
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    x.reshape(-1)[:6] = (0.0, -0.0, 0.5, 1.0, 1e30, np.nan)
    return x
