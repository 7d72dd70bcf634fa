"""The layers that bench/kernels.py times one by one: shapes of the seven networks and odd ones, with the goal of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Goal:
    """At least `value`: a part of the FMA peak (`peak`), GFLOP/s (`gflops`), both with warm caches, or a multiple of the direct kernel's speed
    with cold caches (`direct`)."""

    unit: str
    value: float

    def __str__(self) -> str:
        return {"peak": f"{self.value:.0%} of peak", "gflops": f"{self.value:g} GFLOP/s", "direct": f"{self.value:g}x direct, cold"}[self.unit]


@dataclass(frozen=True)
class Layer:
    """A convolution with ReLU, or with `kind` dense, max_pool or mean another layer. `size`: height and width of the input; padding keeps it.

    winograd: whether Winograd may be chosen; without, the direct kernel is measured.
    """

    group: str
    cin: int
    cout: int = 0
    size: int = 1
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    dilation: int = 1
    batch: int = 1
    padding: int | None = None
    kind: str = "conv"
    winograd: bool = True
    goal: Goal | None = None

    @property
    def name(self) -> str:
        """Its geometry in one line."""
        if self.kind == "dense":
            return f"{self.cin} to {self.cout}"
        parts = [f"{self.cin}x{self.size}x{self.size}"]
        if self.kind == "conv":
            parts.append(f"to {self.cout}, {self.kernel}x{self.kernel}")
        elif self.kind == "max_pool":
            parts.append(f"{self.kernel}x{self.kernel}")
        facts = {"stride": self.stride, "groups": self.groups, "dilation": self.dilation, "batch": self.batch}
        parts += [f"{k} {v}" for k, v in facts.items() if v != 1 and not (k == "groups" and v == self.cin)]
        return ", ".join([" ".join(parts[:2]), *parts[2:], *(() if self.winograd else ("without winograd",))])

    def module(self) -> nn.Module:
        """With random weights, in evaluation mode."""
        torch.manual_seed(0)
        padding = self.dilation * (self.kernel // 2) if self.padding is None else self.padding
        if self.kind == "dense":
            return nn.Linear(self.cin, self.cout).eval()
        if self.kind == "max_pool":
            return nn.MaxPool2d(self.kernel, self.stride, padding).eval()
        if self.kind == "mean":
            return nn.AdaptiveAvgPool2d(1).eval()
        conv = nn.Conv2d(self.cin, self.cout, self.kernel, self.stride, padding, self.dilation, self.groups)
        return nn.Sequential(conv, nn.ReLU()).eval()

    def input(self) -> torch.Tensor:
        shape = (self.batch, self.cin) if self.kind == "dense" else (self.batch, self.cin, self.size, self.size)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))


#: Goals of the compute-bound kinds; those of depthwise by the size of the result: 80 GFLOP/s at 56 and above, 70 at 28, 55 at 14, 40 at 7.
OF_PEAK, STEM = Goal("peak", 0.92), Goal("gflops", 75)
DEPTHWISE = ((56, 80), (28, 70), (14, 55), (7, 40))


def pointwise() -> Iterator[Layer]:
    """1x1 at stride 1 with at least 64 input and 32 output channels: compute-bound."""
    shapes = [(56, 64, 64), (56, 64, 256), (56, 256, 64), (56, 128, 128), (28, 128, 512), (28, 512, 128), (28, 256, 256), (28, 116, 116)]
    shapes += [(14, 256, 1024), (14, 1024, 256), (14, 512, 512), (14, 232, 232), (14, 96, 576), (14, 576, 96)]
    shapes += [(7, 512, 2048), (7, 2048, 512), (7, 1024, 1024), (7, 464, 1024), (7, 160, 960), (7, 960, 320), (28, 192, 32), (13, 512, 1000)]
    for size, cin, cout in shapes:
        yield Layer("pointwise", cin, cout, size, goal=OF_PEAK)


def square() -> Iterator[Layer]:
    """3x3 at stride 1: as the compiler chooses, and without Winograd."""
    for size, channels, direct in [
        (224, 64, 2.7),
        (112, 128, 2.7),
        (56, 64, 2.7),
        (56, 256, 2.7),
        (28, 128, 2.7),
        (28, 512, 2.7),
        (14, 256, 2.4),
        (14, 512, 2.4),
    ]:
        yield Layer("3x3", channels, channels, size, 3, goal=Goal("direct", direct))
        yield Layer("3x3", channels, channels, size, 3, winograd=False, goal=OF_PEAK)
    yield Layer("3x3", 512, 512, 7, 3)
    yield Layer("3x3", 512, 512, 7, 3, winograd=False, goal=OF_PEAK)


def stems() -> Iterator[Layer]:
    """The first layers."""
    yield Layer("stem", 3, 64, 224, 7, 2, goal=STEM)
    yield Layer("stem", 3, 32, 224, 3, 2, goal=STEM)
    yield Layer("stem", 3, 24, 224, 3, 2, goal=STEM)
    yield Layer("stem", 3, 64, 224, 3, 2, padding=0, goal=STEM)
    yield Layer("stem", 3, 64, 224, 3, 1, goal=STEM)


def depthwise() -> Iterator[Layer]:
    for size, channels in [(112, 32), (56, 128), (28, 256), (14, 512), (7, 1024)]:
        for stride in (1, 2):
            goal = next((g for least, g in DEPTHWISE if size // stride >= least), None)
            yield Layer("depthwise", channels, channels, size, 3, stride, channels, goal=Goal("gflops", goal) if goal else None)
    yield Layer("depthwise", 96, 96, 112, 3, 2, 96, goal=Goal("gflops", 80))
    yield Layer("depthwise", 144, 144, 56, 3, 1, 144, goal=Goal("gflops", 80))


def others() -> Iterator[Layer]:
    """Strided, grouped, dilated, large and odd convolutions; dense layers and pools, which are bound by memory."""
    yield Layer("strided", 256, 512, 56, 1, 2)
    yield Layer("strided", 64, 128, 56, 3, 2)
    yield Layer("strided", 256, 512, 14, 3, 2)
    yield Layer("odd", 120, 120, 28, 5, 1, 120)
    yield Layer("odd", 96, 96, 56, 7, 1, 96)
    yield Layer("odd", 64, 64, 28, 3, dilation=2)
    yield Layer("odd", 128, 128, 28, 3, groups=16)
    yield Layer("odd", 37, 53, 29, 3)
    yield Layer("odd", 37, 53, 29, 1)
    yield Layer("odd", 128, 128, 28, 1, batch=4)
    yield Layer("odd", 128, 128, 28, 3, batch=4)
    for cin, cout in [(512, 1000), (2048, 1000), (4096, 4096), (25088, 4096)]:
        yield Layer("dense", cin, cout, kind="dense")
    yield Layer("pool", 64, size=112, kernel=3, stride=2, kind="max_pool")
    yield Layer("pool", 64, size=224, kernel=2, stride=2, padding=0, kind="max_pool")
    yield Layer("pool", 2048, size=7, kind="mean")


LAYERS = (*pointwise(), *square(), *stems(), *depthwise(), *others())
