"""Small networks of few bits: trained simulations, and single convolutions of stored bits."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import nn

import tersor
from tersor.ir import Const, Graph, Tensor, Value
from tersor.ir import ops as ir
from tersor.ir.evaluate import evaluate, to_numpy
from tersor.ir.ops.bits_layers import unsigned_levels, weight_levels

#: Pipelines that make a simulation, by the name of the method.
METHODS = {
    "bwn": "binarize",
    "xnor": "binarize{activations=true}",
    "xnor-plain": "binarize{activations=true input_scale=false}",
    "twn": "ternarize",
    "w1a1": "dorefa{w=1 a=1}",
    "w1a2": "dorefa{w=1 a=2 g=6}",
    "w2a2": "dorefa{w=2 a=2}",
    "w2a4": "dorefa{w=2 a=4}",
    "w4a4": "dorefa{w=4 a=4}",
}


def block(cin: int, cout: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]


def images() -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy boxes of four widths, and their labels."""
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (96,), generator=random)
    x = 0.3 * torch.randn(96, 3, 12, 12, generator=random)
    for image, label in zip(x, labels):
        image[:, 2:10, 2 : 4 + 2 * int(label)] += 1
    return x, labels


@functools.cache
def trained(method: str) -> Graph:
    """A simulation after a few steps of training: gammas of both signs, a pooling, a hidden linear layer."""
    torch.manual_seed(0)
    hidden = [nn.Flatten(), nn.Linear(21 * 9, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 4)]
    module = nn.Sequential(*block(3, 12), *block(12, 40, 2), *block(40, 37), nn.MaxPool2d(2), *block(37, 21), *hidden).eval()
    for layer in module:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    graph = tersor.trace(module, (torch.zeros(2, 3, 12, 12),))
    return tersor.transform(graph, f"{METHODS[method]},finetune{{steps=4 batch=32 lr=0.01}}", train=images())


def simulated(graph: Graph, x: torch.Tensor) -> np.ndarray[Any, Any]:
    """Outputs of a simulation in float64, where its sums and thresholds are exact."""
    return to_numpy(evaluate(graph.at(len(x)), [x], dtype=torch.float64)[0])


def conv_of_bits(
    x_bits: int,
    w_bits: int,
    shape: tuple[int, int, int, int] = (2, 40, 9, 7),
    outputs: int = 20,
    kernel: tuple[int, int] = (3, 3),
    then: int = 0,
    **window: Any,
) -> Graph:
    """dequantize(bits.conv2d) of random weights; x_bits 0 are signs. then: thresholds to so many bits, and a convolution that reads them."""
    random = np.random.default_rng(1)
    graph = Graph()
    x = graph.add_input(Tensor(shape), "x", batched=True)
    levels: ir.SignBit | ir.ToLevels = ir.ToLevels(x, x_bits) if x_bits else ir.SignBit(x)
    w = weight(random, w_bits, (outputs, shape[1], *kernel))
    conv = ir.BitsConv2d(levels, w, **window)
    if then:
        edges = np.sort(random.integers(-conv.bound // 8, conv.bound // 8, (outputs, (1 << then) - 1)), 1).astype(np.int32)
        conv = ir.BitsConv2d(ir.Threshold(conv, Const(edges), unsigned_levels(then)), weight(random, 1, (8, outputs, 1, 1)))
    graph.set_outputs([graph.add(ir.Dequantize(conv))])
    return graph


def weight(random: np.random.Generator, bits: int, shape: tuple[int, ...]) -> Value:
    return Const(random.integers(0, 1 << bits, shape).astype(np.uint8), weight_levels(bits)).out
