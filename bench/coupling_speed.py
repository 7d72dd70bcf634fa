"""Time of channel coupling, `Coupling(graph)` and `spaces_of`, on large graphs.

    python -m tersor.bench.coupling_speed [--repeat 7] [--out bench/results]

DenseNet-121 (concatenations of concatenations), and 2,000 operators in residual blocks with 16 channels and with 2,048, so that the work per
channel counts; their weights are never computed with. Writes coupling_speed.json and coupling_speed.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tersor.ir.graph import Graph
from tersor.ir.op import Const, Loc
from tersor.ir.ops import Add, Conv2d, Relu
from tersor.ir.types import Tensor

from .engines import machine
from .results_file import write_results

#: Goal: seconds of both steps together.
LIMIT = 2.0


def wide_blocks(ops: int, channels: int) -> Graph:
    """relu(conv3x3(relu(conv1x1(x))) + x), ops // 5 times. All weights are views of one number: only shapes count."""
    graph = Graph()
    x = graph.add_input(Tensor((1, channels, 7, 7)), "x", batched=True)

    def weights(*shape: int) -> Const:
        return Const(np.broadcast_to(np.float32(0), shape))

    for i in range(ops // 5):
        loc = Loc(f"blocks.{i}")
        inner = Relu(Conv2d(x, weights(channels, channels, 1, 1), weights(channels), loc=loc), loc=loc)
        y = Conv2d(inner, weights(channels, channels, 3, 3), weights(channels), padding=(1, 1, 1, 1), loc=loc)
        x = graph.add(Relu(Add(y, x, loc=loc), loc=loc))
    graph.set_outputs([x])
    return graph


def densenet() -> Graph:
    import torch

    import tersor

    from .models import build

    return tersor.trace(build("densenet121"), (torch.zeros(1, 3, 224, 224),))


def small_blocks() -> Graph:
    """The 2,000 operators of ir_speed.py, constants among them."""
    from .ir_speed import residual_blocks

    return residual_blocks(2000)


GRAPHS: dict[str, Callable[[], Graph]] = {
    "DenseNet-121": densenet,
    "residual blocks, 16 channels": small_blocks,
    "residual blocks, 2,048 channels": lambda: wide_blocks(2000, 2048),
}


def measure(name: str, graph: Graph, repeat: int) -> dict[str, Any]:
    """Seconds of each step, every run of it, and what was found."""
    from tersor.passes.coupling import Coupling
    from tersor.passes.prune.spaces import Choice, spaces_of

    seconds: dict[str, list[float]] = {"coupling": [], "spaces": []}
    for _ in range(repeat):
        start = time.perf_counter()
        coupling = Coupling(graph)
        coupled = time.perf_counter()
        spaces = spaces_of(coupling, Choice(sample_inputs=True))
        seconds["coupling"].append(coupled - start)
        seconds["spaces"].append(time.perf_counter() - coupled)
    ops = graph.count_ops()
    found = {"ops": ops, "constants": len(graph) - ops, "sets": coupling.count, "removable": int(coupling.removable.sum()), "spaces": len(spaces)}
    return {"graph": name} | found | {"seconds": seconds}


def markdown(report: dict[str, Any]) -> str:
    """coupling_speed.md"""
    m = report["machine"]
    lines = [
        "# Time to find coupled channels",
        "",
        f"Median of {report['repeat']} runs (fastest to slowest), seconds; {LIMIT:g} asked for both steps together. "
        f"{m['processor']}, {m['date']}, commit {m['commit'] or 'unknown'}.",
        "",
        "| graph | operators | constants | sets of channels | that can go | spaces | Coupling | spaces_of | both |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in report["graphs"]:
        steps = [row["seconds"]["coupling"], row["seconds"]["spaces"]]
        both = [sum(pair) for pair in zip(*steps)]
        cells = [row["graph"], *(f"{row[key]:,}" for key in ("ops", "constants", "sets", "removable", "spaces"))]
        cells += [f"{statistics.median(t):.2f} ({min(t):.2f} to {max(t):.2f})" for t in (*steps, both)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args(argv)
    graphs = [measure(name, build(), args.repeat) for name, build in GRAPHS.items()]
    report = {"machine": machine(), "repeat": args.repeat, "graphs": graphs}
    args.out.mkdir(parents=True, exist_ok=True)
    write_results(args.out / "coupling_speed.json", report)
    (args.out / "coupling_speed.md").write_text(markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
