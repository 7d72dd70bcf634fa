"""int8 convolutions beside float32's and beside the integer peak, one thread, batch 1, interleaved.

    python -m tersor.bench.int8_kernels [--target cpu] [--rounds 7] [--out bench/results] [--name int8_kernels]

Each convolution is in a small network: ReLU, convolution, ReLU, average; quantized by the preset `int8`, so that its result is u8. Its time is that
of its kernel in whole runs (`profile`), requantize included. The peak is that of the kernel's own multiply-add instructions, measured in the same
run; a Winograd kernel may be above it, for multiply-accumulates of the window are counted. Each result is compared with the interpreter, bit for
bit, before it is timed.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import tersor

from .engines import Ratio, machine
from .latency import RESULTS
from .results_file import write_results

#: (input channels, outputs, rows and columns, kernel, stride, groups)
SHAPES = {
    "64@56 3x3": (64, 64, 56, 3, 1, 1),
    "128@28 3x3": (128, 128, 28, 3, 1, 1),
    "256@14 3x3": (256, 256, 14, 3, 1, 1),
    "512@7 3x3": (512, 512, 7, 3, 1, 1),
    "64->128@56 3x3 s2": (64, 128, 56, 3, 2, 1),
    "64->256@56 1x1": (64, 256, 56, 1, 1, 1),
    "256->64@56 1x1": (256, 64, 56, 1, 1, 1),
    "128->512@28 1x1": (128, 512, 28, 1, 1, 1),
    "256->1024@14 1x1": (256, 1024, 14, 1, 1, 1),
    "1024->256@14 1x1": (1024, 256, 14, 1, 1, 1),
    "64@112 depthwise": (64, 64, 112, 3, 1, 64),
    "256@28 depthwise": (256, 256, 28, 3, 1, 256),
    "512@14 depthwise": (512, 512, 14, 3, 1, 512),
}


@dataclass(frozen=True)
class Row:
    """One kernel. us: median of the rounds. peak: share of the peak, the median. over_float: how many times faster than float32's, of each round."""

    shape: str
    kernel: str
    template: str
    us: float
    gops: float
    peak: float
    over_float: Ratio


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--name", default="int8_kernels", help="of the files of results")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    rows: list[Row] = []
    for name in args.shapes:
        here = measured(name, args.target, args.rounds)
        print(table(here), flush=True)
        rows += here
        found = {"machine": machine(), "target": args.target, "rounds": args.rounds, "rows": [asdict(r) for r in rows]}
        write_results(args.out / f"{args.name}.json", found)
        heading = f"{machine()['processor']}, target {args.target}, one thread, {args.rounds} rounds."
        (args.out / f"{args.name}.md").write_text(f"{heading}\n\n{table(rows)}\n")


def measured(name: str, target: str, rounds: int) -> list[Row]:
    """float32, int8 as chosen, and int8 without Winograd where that was chosen."""
    c, o, size, kernel, stride, groups = SHAPES[name]
    torch.manual_seed(0)
    module = nn.Sequential(nn.ReLU(), nn.Conv2d(c, o, kernel, stride, kernel // 2, groups=groups), nn.ReLU(), nn.AdaptiveAvgPool2d(1)).eval()
    x = torch.randn(1, c, size, size)
    graph = tersor.trace(module, (x,))
    small = tersor.transform(graph, "int8", calibration=[x])
    models = {"float32": tersor.compile(graph, target=target), "int8": tersor.compile(small, target=target, require="int8")}
    models["int8 direct"] = tersor.compile(small, target=target, require="int8", winograd=0)
    for which in ("int8", "int8 direct"):
        if not np.array_equal(np.asarray(models[which](x)), np.asarray(small(x))):
            raise SystemExit(f"{name}: the compiled {which} convolution differs from the interpreter")
    times: dict[str, list[float]] = {which: [] for which in models}
    shares: dict[str, list[float]] = {which: [] for which in models}
    templates: dict[str, str] = {}
    for i in range(rounds):
        for which in list(models)[:: 1 if i % 2 else -1]:
            step = max(models[which].profile(rounds=9).rows, key=lambda row: row.macs)
            times[which].append(1000 * step.time)
            shares[which].append(step.peak)
            templates[which] = step.template
    rows = []
    for which, own in times.items():
        if which == "int8 direct" and templates[which] == templates["int8"]:
            continue
        us, macs = statistics.median(own), graph.macs()
        faster = Ratio.of([a / b for a, b in zip(times["float32"], own)])
        rows.append(Row(name, which, templates[which], us, 2e-3 * macs / us, statistics.median(shares[which]), faster))
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| layer | kernel | template | us | GOP/s | of peak | over float32 |", "|---|---|---|--:|--:|--:|--:|"]
    lines += [f"| {r.shape} | {r.kernel} | {r.template} | {r.us:.0f} | {r.gops:.0f} | {r.peak:.0%} | {r.over_float} |" for r in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
