"""Convolutions of few bits beside the float32 and int8 kernels of the same shape, and whole binary networks beside float32; all Tersor's, one
thread, batch 1, interleaved.

    python -m tersor.bench.bits_kernels [--rounds 7] [--shapes "256@14 3x3"] [--networks Bi-Real-18] [--out bench/results]

The shapes with 3x3 windows are those of the binary convolutions of Bi-Real-18 and QuickNet at 224 pixels. "direct" leaves out Winograd.

Each convolution is in a small compiled network, and its time is that of its kernel in whole runs (`profile`), epilogue included: ReLU for float,
rounding to u8 for int8, thresholds and packing of the next map for few bits, scale and shift where only weights have few bits. GOP/s counts two
operations for each multiply-accumulate of the window, border included. Each result is compared with the interpreter before it is timed.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tersor
from tersor.ir import Const, Graph, Op, Tensor, Uniform
from tersor.ir import ops as ir
from tersor.ir.ops.bits_layers import SIGNS, TERNARY, unsigned_levels, weight_levels

from .binary_networks import NETWORKS, network
from .engines import Ratio, machine
from .results_file import write_results

#: (input channels, outputs, rows and columns, kernel, stride)
SHAPES = {
    "64@56 3x3": (64, 64, 56, 3, 1),
    "128@28 3x3": (128, 128, 28, 3, 1),
    "256@14 3x3": (256, 256, 14, 3, 1),
    "512@7 3x3": (512, 512, 7, 3, 1),
    "256@28 3x3": (256, 256, 28, 3, 1),
    "64->128@56 3x3 s2": (64, 128, 56, 3, 2),
    "128->256@28 3x3 s2": (128, 256, 28, 3, 2),
    "256->512@14 3x3 s2": (256, 512, 14, 3, 2),
    "256@28 1x1": (256, 256, 28, 1, 1),
}
#: Bits of inputs (0: signs) and of weights.
BITS = {"w1a1 (signs)": (0, 1), "w1a2": (2, 1), "w2a2": (2, 2)}


@dataclass(frozen=True)
class Row:
    """us: median of the rounds. over_float, over_int8: how many times faster than the best float32 and the best int8 kernel, of each round."""

    shape: str
    kernel: str
    template: str
    us: float
    gops: float
    over_float: Ratio
    over_int8: Ratio


@dataclass(frozen=True)
class Whole:
    """A whole network. ms, float_ms: medians of the binary and the float one. times: how many times faster the binary one is, of each round."""

    network: str
    ms: float
    float_ms: float
    times: Ratio


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args(argv)
    rows = [row for name in args.shapes for row in measured(name, args.rounds)]
    wholes = [measured_network(name, args.rounds) for name in args.networks]
    print(network_table(wholes))
    if args.out:
        report = {"machine": machine(), "rounds": args.rounds, "rows": [asdict(r) for r in rows], "networks": [asdict(w) for w in wholes]}
        write_results(args.out / "bits_kernels.json", report)
        text = f"{machine()['processor']}, one thread, {args.rounds} rounds.\n\n{table(rows)}\n\n{network_table(wholes)}\n"
        (args.out / "bits_kernels.md").write_text(text)


def measured(name: str, rounds: int) -> list[Row]:
    """Every kernel of one shape."""
    c, _, size, *_ = SHAPES[name]
    graphs = {"float32": float_conv(name), "int8": int8_conv(name)}
    graphs |= {kernel: bits_conv(name, *bits) for kernel, bits in BITS.items()}
    graphs |= {"BWN (f32 inputs)": weight_conv(name, 1), "TWN (f32 inputs)": weight_conv(name, 2)}
    x = torch.randn(1, c, size, size, generator=torch.Generator().manual_seed(0))
    models = {kernel: tersor.compile(graph, batch=1) for kernel, graph in graphs.items()}
    models |= {f"{kernel} direct": tersor.compile(graphs[kernel], batch=1, winograd=0) for kernel in ("float32", "int8")}
    for kernel, model in models.items():
        wanted = graphs[kernel.removesuffix(" direct")](x).numpy()
        if np.abs(model(x).numpy() - wanted).max() > 1e-5 * np.abs(wanted).max():
            raise SystemExit(f"{name}, {kernel}: the compiled network differs from the interpreter")
    times: dict[str, list[float]] = {kernel: [] for kernel in models}
    templates: dict[str, str] = {}
    for i in range(rounds):
        for kernel in list(models)[:: 1 if i % 2 else -1]:
            step = max(models[kernel].profile(rounds=9).rows, key=lambda row: row.macs)
            times[kernel].append(1000 * step.time)
            templates[kernel] = step.template
    best_float, best_int8 = ([min(pair) for pair in zip(times[kernel], times[f"{kernel} direct"])] for kernel in ("float32", "int8"))
    macs = next(op.macs() for op in graphs["float32"].at(1) if op.macs())
    rows = []
    for kernel, own in times.items():
        over_float, over_int8 = ([a / b for a, b in zip(other, own)] for other in (best_float, best_int8))
        us = statistics.median(own)
        rows.append(Row(name, kernel, templates[kernel], us, 2e-3 * macs / us, Ratio.of(over_float), Ratio.of(over_int8)))
    print(table(rows), flush=True)
    return rows


def measured_network(name: str, rounds: int) -> Whole:
    """A binary network beside the float one that it was made from."""
    graphs = dict(zip(("float", "binary"), network(name)))
    models = {"float": tersor.compile(graphs["float"], batch=1), "binary": tersor.compile(graphs["binary"], batch=1, require="bits")}
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for kind, model in models.items():
        wanted = graphs[kind](x).numpy()
        if np.abs(model(x).numpy() - wanted).max() > 1e-4 * np.abs(wanted).max():
            raise SystemExit(f"{name}, {kind}: the compiled network differs from the interpreter")
    times: dict[str, list[float]] = {kind: [] for kind in models}
    for i in range(rounds):
        for kind in list(models)[:: 1 if i % 2 else -1]:
            times[kind].append(models[kind].benchmark(repeat=30).median)
    ratio = Ratio.of([a / b for a, b in zip(times["float"], times["binary"])])
    return Whole(name, statistics.median(times["binary"]), statistics.median(times["float"]), ratio)


# -- graphs ------------------------------------------------------------------------------------


def _start(name: str) -> tuple[Graph, Op, np.random.Generator, tuple[int, ...], dict[str, Any]]:
    """A graph with an input of the shape, the shape of a weight, and the geometry."""
    c, o, size, kernel, stride = SHAPES[name]
    graph = Graph()
    x = graph.add_input(Tensor((1, c, size, size)), "x", batched=True)
    border = (kernel // 2,) * 4
    # a ReLU in front, so that the convolution reads what another kernel made
    return graph, ir.Relu(x), np.random.default_rng(0), (o, c, kernel, kernel), {"stride": (stride, stride), "padding": border}


def float_conv(name: str) -> Graph:
    """conv2d + relu in float32"""
    graph, x, random, shape, window = _start(name)
    w = Const(random.standard_normal(shape).astype(np.float32))
    graph.set_outputs([graph.add(ir.Relu(ir.Conv2d(x, w, None, **window)))])
    return graph


def int8_conv(name: str) -> Graph:
    """quant.conv2d + requantize, of u8 inputs and full-range i8 weights"""
    graph, x, random, shape, window = _start(name)
    u8 = Uniform("u8", (1 / 64,), (0,))
    w = Const(random.integers(-127, 128, shape).astype(np.int8), Uniform("i8", (1 / 1024,) * shape[0], (0,) * shape[0], 0))
    y = ir.Requantize(ir.QuantConv2d(ir.Quantize(x, u8), w, None, **window), Uniform("u8", (1 / 8,), (0,)))
    graph.set_outputs([graph.add(ir.Dequantize(y))])
    return graph


def bits_conv(name: str, x_bits: int, w_bits: int) -> Graph:
    """bits.conv2d + threshold to the bits of the input again"""
    graph, x, random, shape, window = _start(name)
    w = Const(random.integers(0, 1 << w_bits, shape).astype(np.uint8), weight_levels(w_bits))
    conv = ir.BitsConv2d(ir.ToLevels(x, x_bits) if x_bits else ir.SignBit(x), w, **window)
    elem = unsigned_levels(x_bits) if x_bits else SIGNS
    edges = np.sort(random.normal(0, np.sqrt(conv.bound), (shape[0], (1 << max(x_bits, 1)) - 1)), 1).astype(np.int32)
    last = Const(random.integers(0, 2, (8, shape[0], 1, 1)).astype(np.uint8), SIGNS)
    graph.set_outputs([graph.add(ir.Dequantize(ir.BitsConv2d(ir.Threshold(conv, Const(edges), elem), last)))])
    return graph


def weight_conv(name: str, bits: int) -> Graph:
    """bits.weight_conv2d, scale and bias, of float32 inputs and weights of +-1 or of -1, 0 and 1"""
    graph, x, random, shape, window = _start(name)
    w = Const(random.integers(0, 1 + bits, shape).astype(np.uint8), SIGNS if bits == 1 else TERNARY)
    column = [Const(random.standard_normal((1, shape[0], 1, 1)).astype(np.float32)) for _ in range(2)]
    graph.set_outputs([graph.add(ir.Relu(ir.Add(ir.Mul(ir.BitsWeightConv2d(x, w, **window), column[0]), column[1])))])
    return graph


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| layer | kernel | template | us | GOP/s | over float32 | over int8 |", "|---|---|---|--:|--:|--:|--:|"]
    lines += [f"| {r.shape} | {r.kernel} | {r.template} | {r.us:.0f} | {r.gops:.0f} | {r.over_float} | {r.over_int8} |" for r in rows]
    return "\n".join(lines)


def network_table(wholes: Sequence[Whole]) -> str:
    """Whole networks in Markdown."""
    lines = ["| network, 224 pixels | binary, ms | float32, ms | times faster |", "|---|--:|--:|--:|"]
    return "\n".join([*lines, *(f"| {w.network} | {w.ms:.2f} | {w.float_ms:.2f} | {w.times} |" for w in wholes)])


if __name__ == "__main__":
    main()
