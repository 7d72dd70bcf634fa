"""Load time of an ONNX file beside the reading of its bytes, and calls through `torch.compile(backend="tersor")` beside our own compiled model.

    python -m tersor.bench.start_up [--models resnet50 squeezenet1_1 ...] [--rounds 15] [--seconds 0.2] [--out bench/results]

Load: `tersor.load` of the network exported by Tersor, the least of five; `onnx.load` alone is the reading of its bytes.
Calls: batch 1, one thread, both in this process, interleaved; the ratio of the medians in each round, and its median over the rounds.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
import torch

import tersor

from .engines import machine
from .latency import RESULTS
from .models import SEVEN, build
from .results_file import write_results

IMAGE = (1, 3, 224, 224)


@dataclass(frozen=True)
class Row:
    """One network. load_s, read_s: seconds; own_ms, dynamo_ms, unguarded_ms: median time of a call; ratios: to own_ms.

    unguarded: dynamo without its checks of the model's layers (`skip_guard_on_inbuilt_nn_modules_unsafe`).
    """

    model: str
    load_s: float
    read_s: float
    own_ms: float
    dynamo_ms: float
    unguarded_ms: float
    ratio: float
    unguarded_ratio: float


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet50", "squeezenet1_1"], choices=list(SEVEN), metavar="NAME", help=", ".join(SEVEN))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.2, help="of one side in one round")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    rows = [measured(name, args.rounds, args.seconds) for name in args.models]
    args.out.mkdir(parents=True, exist_ok=True)
    write_results(args.out / "start_up.json", {"machine": machine(), "rounds": args.rounds, "rows": [asdict(r) for r in rows]})
    (args.out / "start_up.md").write_text(f"{machine()['processor']}, {args.rounds} rounds, batch 1, one thread.\n\n{table(rows)}\n")
    print(table(rows))


def measured(name: str, rounds: int, seconds: float) -> Row:
    """One row."""
    x = torch.randn(IMAGE)
    module = build(name)
    graph = tersor.trace(module, (x,))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        graph.to_onnx(path)
        load, read = (min(timed(lambda f=f: f(path)) for _ in range(5)) for f in (tersor.load, onnx.load))  # type: ignore[misc]
    own = tersor.compile(graph, threads=1)
    options: dict[str, Any] = {"threads": 1}
    dynamo = torch.compile(module, backend="tersor", options=dict(options))
    # a module of its own: dynamo keeps compiled code and its checks by module
    unguarded = torch.compile(
        copy.deepcopy(module), backend="tersor", options=options | {"guard_filter_fn": torch.compiler.skip_guard_on_inbuilt_nn_modules_unsafe}
    )
    with torch.no_grad():
        calls: list[Callable[[], object]] = [lambda: own(x), lambda: dynamo(x), lambda: unguarded(x)]
        for call in calls:
            call()
        times = [[median(call, seconds) for call in calls] for _ in range(rounds)]
    medians = (1e3 * statistics.median(column) for column in zip(*times))
    ratios = (statistics.median(row[i] / row[0] for row in times) for i in (1, 2))
    return Row(name, load, read, *medians, *ratios)


def timed(function: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def median(function: Callable[[], object], seconds: float) -> float:
    """The median time of as many calls as fit."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        times.append(timed(function))
    return statistics.median(times)


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| model | load, s | reading alone, s | own call, ms | torch.compile, ms | without its checks, ms | ratios to own |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|")
    for r in rows:
        ratios = f"{r.ratio:.3f}, {r.unguarded_ratio:.3f}"
        lines.append(f"| {r.model} | {r.load_s:.2f} | {r.read_s:.2f} | {r.own_ms:.3f} | {r.dynamo_ms:.3f} | {r.unguarded_ms:.3f} | {ratios} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
