"""to-bits: what becomes of a simulation, thresholds at every accumulator, and the bytes of a layer on disk and in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pass_cases import body, graph_of
from torch import nn

import tersor
from tersor.ir import Const, Graph, Loc, Value
from tersor.ir import ops as ir
from tersor.ir.evaluate import evaluate
from tersor.ir.ops.bits_layers import SIGNS
from tersor.passes.bits.thresholds import as_threshold
from tersor.passes.bits.to_bits import Packed


def const(*shape: int, seed: int = 0) -> Value:
    return Const(np.random.default_rng(seed).standard_normal(shape).astype(np.float32)).out


def norm(x: Any, channels: int = 4) -> ir.BatchNorm:
    """Gammas of both signs, and one of 0."""
    gamma = np.linspace(-1, 1, channels, dtype=np.float32)
    gamma[1] = 0
    return ir.BatchNorm(x, Const(gamma), const(channels, seed=1), const(channels, seed=2), Const(np.full(channels, 0.7, np.float32)))


def layer(x: Any, path: str, **options: Any) -> ir.Conv2d:
    groups = options.get("groups", 1)
    return ir.Conv2d(x, const(4, 4 // groups, 3, 3), const(4), padding=(1, 1, 1, 1), loc=Loc(path), **options)


def network(**options: Any) -> Graph:
    def build(x: Any) -> Any:
        for path in ("first", "second", "third", "last"):
            x = ir.Relu(norm(layer(x, path, **(options if path == "third" else {}))))
        return x

    return graph_of(build, (1, 4, 6, 6))


@pytest.mark.parametrize("name", ["xnor", "ternarize", "dorefa"])
def test_before_and_after(name: str, golden: Callable[[str, str], None]) -> None:
    pipeline = {"xnor": "binarize{activations=true input_scale=false}", "ternarize": "ternarize", "dorefa": "dorefa{w=1 a=2}"}[name]
    before = tersor.transform(network(), pipeline)
    after = tersor.transform(before, "to-bits", check=True)
    golden(f"passes/bits/to_bits_{name}.mlir", f"// {pipeline},to-bits\n{body(before)}\n// ->\n{body(after)}\n")
    bits, inputs = {"xnor": ("1 bit", "1 bit"), "ternarize": ("2 bits", "float"), "dorefa": ("1 bit", "2 bits")}[name]
    nbytes = 36 if name == "ternarize" else 18
    assert list(after.report["to-bits"].layers) == [Packed(path, bits, inputs, nbytes) for path in ("second", "third")]


@pytest.mark.parametrize("quantizer", [ir.SignBit, lambda v: ir.ToLevels(v, 1), lambda v: ir.ToLevels(v, 2), lambda v: ir.ToLevels(v, 4)])
def test_thresholds_are_right_at_every_accumulator(quantizer: Any) -> None:
    """A pointwise convolution of 9 signs, in all 2^9 ways: every accumulator occurs, and the chain in float64 says what it becomes."""

    def build(x: Any) -> Any:
        w = Const(np.random.default_rng(0).integers(0, 2, (5, 9, 1, 1)).astype(np.uint8), SIGNS)
        acc = ir.Dequantize(ir.BitsConv2d(ir.SignBit(x), w))
        y = quantizer(ir.Relu(norm(ir.Add(ir.Mul(acc, const(1, 5, 1, 1)), const(5, 1, 1)), 5)))
        return ir.Dequantize(ir.BitsConv2d(y, Const(np.eye(5, dtype=np.uint8).reshape(5, 5, 1, 1), SIGNS)))

    graph = graph_of(build, (512, 9, 1, 1))
    (op,) = [op for op in graph if isinstance(op, ir.SignBit | ir.ToLevels) and isinstance(op.x.op, ir.Relu)]
    x = torch.from_numpy(2.0 * ((np.arange(512)[:, None] >> np.arange(9)) & 1) - 1).float().reshape(512, 9, 1, 1)
    (wanted,) = evaluate(graph, [x], dtype=torch.float64)
    threshold = as_threshold(op)
    assert threshold is not None
    graph.replace(op, threshold)
    graph.remove_dead()
    assert not graph.find(ir.BatchNorm) and torch.equal(evaluate(graph, [x], dtype=torch.float64)[0], wanted)


@pytest.mark.parametrize("shared", ["accumulator", "result"])
def test_what_others_read_stays(shared: str) -> None:
    """A residual sum reads the floats behind an accumulator, so they are computed and nothing is fused."""

    def build(x: Any) -> Any:
        w = Const(np.ones((4, 4, 1, 1), np.uint8), SIGNS)
        acc = ir.Dequantize(ir.BitsConv2d(ir.SignBit(x), w))
        y = ir.Relu(norm(acc))
        again = ir.Dequantize(ir.BitsConv2d(ir.ToLevels(y, 2), w))
        return ir.Add(again, acc if shared == "accumulator" else y)

    (op,) = graph_of(build, (1, 4, 3, 3)).find(ir.ToLevels)
    assert as_threshold(op) is None


def test_small_groups_are_kept_and_named() -> None:
    after = tersor.transform(tersor.transform(network(groups=2), "ternarize"), "to-bits", check=True)
    assert [row.kept for row in after.report["to-bits"].layers] == ["", "its groups have fewer than 32 channels"]
    with pytest.raises(tersor.TersorError, match=r"require='bits': nn.conv2d \[third\] computes in floats"):
        tersor.compile(after, require="bits")


@pytest.mark.parametrize("pipeline", ["binarize", "binarize{activations=true input_scale=false}", "ternarize", "dorefa{w=1 a=2}", "dorefa{w=4 a=4}"])
def test_groups_of_a_word_or_more_are_packed(pipeline: str) -> None:
    random = np.random.default_rng(0)

    def conv(x: Any, path: str, groups: int = 1, out: int = 80) -> ir.Conv2d:
        w = Const(random.standard_normal((out, x.out.shape[1] // groups, 3, 3)).astype(np.float32))
        return ir.Conv2d(x, w, None, padding=(1, 1, 1, 1), groups=groups, loc=Loc(path))

    def build(x: Any) -> Any:
        grouped = conv(norm(conv(ir.Relu(x), "first"), 80), "grouped", 2)
        return conv(ir.Relu(norm(grouped, 80)), "last", out=4)

    simulation = tersor.transform(graph_of(build, (1, 3, 6, 6)), pipeline)
    packed = tersor.transform(simulation, "to-bits", check=True)
    assert [row.kept for row in packed.report["to-bits"].layers] == [""]
    exe = tersor.compile(packed, require="bits")
    x = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    wanted = evaluate(simulation, [x], dtype=torch.float64)[0].numpy()
    np.testing.assert_allclose(exe(x), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_without_a_simulation() -> None:
    with pytest.raises(tersor.TersorError, match="run binarize, ternarize or dorefa first"):
        tersor.transform(network(), "to-bits")


def test_bytes_of_a_layer(tmp_path: Path) -> None:
    """A layer of one bit: at most 1/30 of its f32 bytes in the file and 1/16 in memory, scales, names and types included."""
    module = nn.Sequential(nn.Conv2d(256, 256, 3, bias=False)).eval()
    whole = 4 * 256 * 256 * 9
    packed = tersor.transform(tersor.trace(module, (torch.zeros(1, 256, 5, 5),)), "binarize{ends=true},to-bits")
    packed.save(tmp_path / "packed.tersor")
    empty = graph_of(lambda x: ir.MaxPool2d(x, (3, 3), (1, 1)), (1, 256, 5, 5))
    empty.save(tmp_path / "empty.tersor")
    assert (tmp_path / "packed.tersor").stat().st_size - (tmp_path / "empty.tersor").stat().st_size <= whole / 30
    assert body(tersor.load(tmp_path / "packed.tersor")) == body(packed)
    assert tersor.compile(packed, batch=1, require="bits").report.weights <= whole / 16
    # with inputs of two bits, tables of sums included
    binary = tersor.transform(tersor.trace(module, (torch.zeros(1, 256, 5, 5),)), "dorefa{w=1 a=2 ends=true},to-bits")
    for target in ("cpu", "cpu:x86-64-v3"):
        assert tersor.compile(binary, batch=1, target=target, require="bits").report.weights <= whole / 16
