"""Trained simulations of few bits against what they compile to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bits_networks import METHODS, images, simulated, trained

import tersor
from tersor.ir import Const, Graph
from tersor.ir.types import BitsAffine


def stored_bits(graph: Graph) -> int:
    return sum(isinstance(op.out.type.elem, BitsAffine) for op in graph.find(Const))


@pytest.mark.parametrize("method", METHODS)
def test_the_compiled_network_is_the_trained_simulation(method: str) -> None:
    simulation, x = trained(method), images()[0][:2]
    packed = tersor.transform(simulation, "to-bits", check=True)
    assert stored_bits(packed) == 4 and not [op for op in packed if op.name in ("bits.sign", "bits.quantize_activation")]
    exe = tersor.compile(packed, batch=2, require="bits")
    wanted = simulated(simulation, x)
    assert np.abs(exe(x).numpy() - wanted).max() <= 1e-6 * np.abs(wanted).max()
    classes = exe.manifest.macs
    assert classes.get("bits", 0) + classes.get("int8", 0) > 0 and sum(classes.values()) == packed.at(2).macs()


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("target", ["cpu", "cpu:x86-64-v3", "cpu:x86-64-v2"])
@pytest.mark.parametrize("method", METHODS)
def test_on_other_targets_and_with_threads(method: str, target: str, threads: int) -> None:
    simulation, x = trained(method), images()[0][:3]
    exe = tersor.compile(tersor.transform(simulation, "to-bits"), target=target, threads=threads, batch=3, require="bits")
    wanted = simulated(simulation, x)
    assert np.abs(exe(x).numpy() - wanted).max() <= 1e-6 * np.abs(wanted).max()


def test_what_is_left_of_a_float_simulation_is_named() -> None:
    simulation = trained("w1a2")
    with pytest.raises(
        tersor.TersorError, match=r"require='bits': nn.conv2d \[3.*\] \(and 3 more\) .* its input is made by bits.quantize_activation"
    ):
        tersor.compile(tersor.transform(simulation, "freeze-bits"), require="bits")
    with pytest.raises(tersor.TersorError, match=r"its weights take at most 3 values in a filter"):
        tersor.compile(tersor.transform(trained("twn"), "freeze-bits"), require="bits")
    with pytest.raises(tersor.TersorError, match="no layer has few bits"):
        tersor.compile(tersor.trace(torch.nn.Linear(3, 2).eval(), (torch.zeros(1, 3),)), require="bits")
