"""Latency of seven networks in int8 beside the same networks in float32, both compiled by Tersor, interleaved.

    python -m tersor.bench.int8_latency [--networks resnet18 ...] [--target cpu] [--threads 1] [--rounds 5] [--graphs FOLDER]
        [--out bench/results] [--name int8_latency] [--keep]

The int8 networks are compiled with `require="int8"`, and each is compared with the interpreter bit for bit before it is timed. Weights are
random (bench/models.py) and calibration images are noise: like trained ones, such weights do not fit pmaddubsw, and do fit Winograd's bound.
A folder for graphs keeps them from one run to the next, since quantizing takes longer than measuring. --name: of the files that are written.
--keep: with the rows of other networks that they have.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tersor

from ..passes.core.presets import PRESETS
from .engines import Ratio, machine
from .latency import RESULTS
from .models import SEVEN, build
from .results_file import write_results

#: Milliseconds that each model runs in a round, at least.
ROUND_MS = 250.0


@dataclass(frozen=True)
class Row:
    """ms: medians of the rounds. ratio: int8 / float32 of each round. bytes: weights and arena at batch 1."""

    network: str
    threads: int
    float_ms: float
    int8_ms: float
    ratio: Ratio
    float_bytes: int
    int8_bytes: int


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(SEVEN), choices=list(SEVEN))
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--graphs", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--name", default="int8_latency")
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args(argv)
    file = args.out / f"{args.name}.json"
    rows = kept(file, args.target) if args.keep else {}
    for name in args.networks:
        rows[name] = measured(name, args.target, args.threads, args.rounds, args.graphs)
        print(table([rows[name]]), flush=True)
    every = [rows[name] for name in SEVEN if name in rows]
    write_results(file, {"machine": machine(), "target": args.target, "rounds": args.rounds, "rows": [asdict(r) for r in every]})
    file.with_suffix(".md").write_text(f"{machine()['processor']}, target {args.target}, {args.rounds} rounds, batch 1.\n\n{table(every)}\n")


def kept(file: Path, target: str) -> dict[str, Row]:
    """The rows of a file of results, by network. Raises `SystemExit` where they are of another target or processor."""
    if not file.exists():
        return {}
    found = json.loads(file.read_text())
    was, now = (found.get("target"), found["machine"]["processor"]), (target, machine()["processor"])
    if was != now:
        raise SystemExit(f"{file} has rows of target {was[0]} on {was[1]}, this is {now[0]} on {now[1]}: leave out --keep, or give another --name")
    return {row["network"]: Row(**{**row, "ratio": Ratio(**row["ratio"])}) for row in found["rows"]}


def graphs(name: str, x: torch.Tensor, folder: Path | None, weights: str = "s8") -> tuple[tersor.Graph, tersor.Graph]:
    """A network in floats and in integers, by the preset `int8` with `quantize{weights=...}`; from files in the folder, where there are any."""
    paths = None if folder is None else [folder / f"{name}.{kind}.tersor" for kind in ("f32", "int8" if weights == "s8" else f"int8-{weights}")]
    if paths is not None and all(p.exists() for p in paths):
        return tersor.load(paths[0]), tersor.load(paths[1])
    graph = tersor.trace(build(name), (x,))
    images = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    small = tersor.transform(graph, PRESETS["int8"].pipeline.replace("quantize", f"quantize{{weights={weights}}}"), calibration=[images])
    for g, path in zip((graph, small), paths or ()):
        path.parent.mkdir(parents=True, exist_ok=True)
        g.save(path)
    return graph, small


def measured(name: str, target: str, threads: int, rounds: int, folder: Path | None = None) -> Row:
    """Both models of one network, checked and then timed."""
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    graph, small = graphs(name, x, folder)
    models = [tersor.compile(graph, target=target, threads=threads), tersor.compile(small, target=target, threads=threads, require="int8")]
    with torch.no_grad():
        wanted = np.asarray(small(x))
    if not np.array_equal(np.asarray(models[1](x)), wanted):
        raise SystemExit(f"{name}: the compiled int8 network differs from the interpreter")
    times: list[list[float]] = [[], []]
    counts = [max(3, round(ROUND_MS / model.benchmark(repeat=2, warmup=1).min)) for model in models]
    for i in range(rounds):
        for which in ((0, 1), (1, 0))[i % 2]:
            times[which].append(models[which].benchmark(repeat=counts[which], warmup=1).median)
    sizes = [memory(model) for model in models]
    each = [b / a for a, b in zip(*times)]
    return Row(name, threads, statistics.median(times[0]), statistics.median(times[1]), Ratio.of(each), *sizes)


def memory(model: Any) -> int:
    """Bytes of weights and of the arena at batch 1."""
    report = model.report
    return int(report.weights + next(iter(report.arena.values())))


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| network | threads | float32 ms | int8 ms | int8 / float32 | weights and arena |", "|---|--:|--:|--:|--:|--:|"]
    lines += [f"| {r.network} | {r.threads} | {r.float_ms:.2f} | {r.int8_ms:.2f} | {r.ratio} | {r.int8_bytes / r.float_bytes:.2f} |" for r in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
