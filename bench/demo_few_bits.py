"""The second part of the demo: a small network is trained, made binary with inputs of two bits, trained again, and runs on packed kernels."""

from __future__ import annotations

import time

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import tersor
from tersor.ir import Graph

from .fashion import CLASSES, DataMissing, Images, drawn, fashion_mnist
from .finetuned import measured

#: Images to test with.
TEST = 2000
FLOAT = "finetune{epochs=2 lr=0.004}"
FEW_BITS = "dorefa{w=1 a=2},finetune{epochs=2 lr=0.004 distill_weight=0.7},to-bits"


def few_bits(console: Console, count: int) -> None:
    """Print top-1, bytes and latency of a float network trained on `count` images and of the same one in few bits."""
    train, test, what = images(console, count)
    examples = train.normalized(), train.labels
    start = time.perf_counter()
    full = tersor.transform(network(), FLOAT, train=examples)
    small = tersor.transform(full, FEW_BITS, train=examples)
    seconds = time.perf_counter() - start
    rows = {"float32": (full, "f32"), "weights of 1 bit, inputs of 2": (small, "bits")}
    title = f"A network trained on {len(train)} images of {what} and then by {FEW_BITS.split(',')[0]}, {seconds:.0f} s in all"
    table = Table(title=title, title_justify="left")
    for column in ("network", f"top-1 of {len(test)}", "KiB", "latency, ms"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for name, (graph, require) in rows.items():
        top1, size = measured(graph, test, require)
        latency = tersor.compile(graph, batch=1, require=require).benchmark(repeat=200).median
        table.add_row(name, f"{top1:.1f} %", f"{size / 1024:.0f}", f"{latency:.3f}")
    console.print(table)
    console.print("Its first and its last layer stay in floats.\n")


def images(console: Console, count: int) -> tuple[Images, Images, str]:
    """Images to train on, images to test with, and what they are; a message where Fashion-MNIST is not installed."""
    try:
        train, test = (fashion_mnist(part) for part in ("train", "t10k"))
    except DataMissing as missing:
        console.print(f"[yellow]{missing}[/]\nDrawn boxes take its place.")
        return drawn(count, 0), drawn(TEST, 1), "drawn boxes"
    return Images(train.pixels[:count], train.labels[:count]), Images(test.pixels[:TEST], test.labels[:TEST]), "Fashion-MNIST"


def network() -> Graph:
    """Three convolutions and a linear layer, not trained."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for cin, cout in ((1, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2)]
    return tersor.trace(nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 9, CLASSES)).eval(), (torch.zeros(1, 1, 28, 28),))
