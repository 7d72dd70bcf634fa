"""200 random convolution geometries: each must be correct, and none much slower than its template's median.

    python -m tersor.bench.geometry --out bench/results/geometry.json

Channels 1 to 300, kernels 1 to 7, strides, dilations, groups, asymmetric padding, batch 1 to 4, from a seed. Speed is counted twice:

- GFLOP/s of whole vectors: output channels of each group rounded up to the lanes of a register (a half empty vector takes the time of a full
  one, and groups read different inputs; a depthwise convolution has its channels in the lanes);
- of the roofline: the time that the processor's peak allows for these, or that one thread needs to copy as many bytes as the input, weights
  and result have, whichever is longer, over the time taken. Small windows and large strides are bound by memory.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tersor
from tersor.backend.target import resolve

from .bandwidth import copy_gbs
from .results_file import write_results


@dataclass(frozen=True)
class Geometry:
    n: int
    c: int
    o: int
    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]
    groups: int

    @property
    def out(self) -> tuple[int, int]:
        span = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel)]
        pads = (self.padding[0] + self.padding[1], self.padding[2] + self.padding[3])
        return tuple((self.size[i] + pads[i] - span[i]) // self.stride[i] + 1 for i in (0, 1))  # type: ignore[return-value]

    def macs(self, lanes: int = 1) -> int:
        """Multiply-accumulates; with `lanes` those of whole vectors."""
        parts = 1 if self.groups == self.c == self.o else self.groups
        o = parts * -(-self.o // parts // lanes) * lanes
        return self.n * o * math.prod(self.out) * self.c // self.groups * math.prod(self.kernel)

    @property
    def nbytes(self) -> int:
        """Of input, weights and result."""
        return 4 * (self.n * (self.c * math.prod(self.size) + self.o * math.prod(self.out)) + self.o * self.c // self.groups * math.prod(self.kernel))


def random_geometry(rng: np.random.Generator) -> Geometry:
    """One convolution of 1 to 200 million multiply-accumulates."""
    while True:
        kind = rng.choice(["dense", "dense", "dense", "grouped", "depthwise"])
        c, o = int(rng.integers(1, 301)), int(rng.integers(1, 301))
        groups = 1
        if kind == "depthwise":
            o = groups = c
        elif kind == "grouped":
            groups = int(rng.integers(2, 9))
            c, o = -(-c // groups) * groups, -(-o // groups) * groups
        same = rng.random() < 0.6
        kernel = (int(rng.integers(1, 8)),) * 2 if same else (int(rng.integers(1, 8)), int(rng.integers(1, 8)))
        stride = (int(rng.choice([1, 1, 2, 3])),) * 2 if same else (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        dilation = (1, 1) if rng.random() < 0.7 else (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        padding = tuple(int(rng.integers(0, k // 2 * d + 1)) for k, d in zip(kernel, dilation) for _ in (0, 1))
        size = (int(rng.integers(4, 80)), int(rng.integers(4, 80)))
        g = Geometry(int(rng.integers(1, 5)), c, o, size, kernel, stride, dilation, padding, groups)  # type: ignore[arg-type]
        if min(g.out) >= 1 and min(s + p for s, p in zip(size, (padding[0] + padding[1], padding[2] + padding[3]))) >= 1 and 1e6 <= g.macs() <= 2e8:
            return g


class Model(torch.nn.Module):
    def __init__(self, g: Geometry):
        super().__init__()
        self.pad = (g.padding[2], g.padding[3], g.padding[0], g.padding[1])
        self.conv = torch.nn.Conv2d(g.c, g.o, g.kernel, g.stride, 0, g.dilation, g.groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(torch.nn.functional.pad(x, self.pad)))


def measure(g: Geometry, seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    model = Model(g).eval()
    x = torch.randn(g.n, g.c, *g.size)
    graph = tersor.transform(tersor.trace(model, (x,), batch=False), "default")
    exe = tersor.compile(graph, batch=g.n)
    want = model.double()(x.double()).detach()
    error = float((exe(x).double() - want).abs().max() / want.abs().max())
    profile = exe.profile(rounds=7)
    step = max(profile.rows, key=lambda row: row.macs)
    flops = 2 * g.macs(resolve("cpu").lanes)
    least = max(flops / profile.peak_gflops / 1e6, g.nbytes / copy_gbs(g.nbytes) / 1e6)
    return asdict(g) | {
        "template": step.template,
        "error": error,
        "ms": step.time,
        "gflops": 2 * g.macs() / step.time / 1e6,
        "vector_gflops": flops / step.time / 1e6,
        "of_roofline": least / step.time,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    rows = [measure(random_geometry(rng), args.seed + i) for i in range(args.count)]
    by_template: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_template[row["template"]].append(row)
    slow = []
    for name, group in by_template.items():
        for speed in ("vector_gflops", "of_roofline"):
            median = float(np.median([r[speed] for r in group]))
            for r in group:
                r[f"{speed}_of_median"] = r[speed] / median
            slowest = min(r[f"{speed}_of_median"] for r in group)
            print(f"{name:10} {len(group):4} geometries, {speed:14} median {median:7.2f}, slowest {slowest:.2f} of it")
        print(f"{name:10} largest error {max(r['error'] for r in group):.1e}")
        slow += [r for r in group if max(r["vector_gflops_of_median"], r["of_roofline_of_median"]) < 0.7]
    below = sum(r["vector_gflops_of_median"] < 0.7 for r in rows)
    print(
        f"{below} of {len(rows)} below 0.7 of their template's median GFLOP/s, {len(slow)} of these below 0.7 of the median share of the roofline too"
    )
    for r in sorted(slow, key=lambda r: r["of_roofline_of_median"]):
        print("  ", {k: round(v, 2) if isinstance(v, float) else v for k, v in r.items() if k != "error"})
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_results(args.out, {"seed": args.seed, "target": resolve("cpu").as_dict(), "rows": rows})


if __name__ == "__main__":
    main()
