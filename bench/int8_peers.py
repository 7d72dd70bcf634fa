"""Latency of seven networks in int8: Tersor beside onnxruntime (static QDQ), openvino (quantized by nncf), LiteRT, MNN and ncnn, interleaved.

    python -m tersor.bench.int8_peers [--networks resnet18 ...] [--threads 1] [--rounds 5] [--weights s8] [--graphs FOLDER]
                                       [--out bench/results]

Weights are random (bench/models.py) and calibration images are noise: times depend on neither. onnxruntime multiplies u8 by s8, as on processors
with VNNI; on others its sums of two products saturate, so its results are wrong there where they are large. `--weights pairs` gives Tersor weights
with which the same instruction is exact. nncf uses its default preset. openvino uses AMX where the processor has it, which our kernels do not yet:
`ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI` compares the same instructions. A tool that is not installed is left out and named.
ncnn's package has no quantizer, so `ncnn_int8.py` writes what its tools would. Accuracy is compared by `quantization.py`.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

import tersor

from . import litert_int8, mnn_int8, ncnn_int8, nncf_int8, onnxruntime_int8
from .engines import Ratio, machine
from .int8_latency import graphs
from .latency import RESULTS
from .models import SEVEN, build
from .peers import Unavailable
from .results_file import write_results

#: The variable that keeps openvino's kernels to a set of instructions: AVX512_CORE_VNNI leaves the matrix instructions of AMX out.
ISA = "ONEDNN_MAX_CPU_ISA"
Run = Callable[[np.ndarray], object]
#: Milliseconds that each engine runs in a round, at least.
ROUND_MS = 250.0


@dataclass(frozen=True)
class Row:
    """One network. ms: medians of the rounds, by engine. best: the fastest of the others. ratio: ours / best, of each round."""

    network: str
    threads: int
    ms: dict[str, float]
    best: str
    ratio: Ratio


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(SEVEN), choices=list(SEVEN))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--graphs", type=Path)
    parser.add_argument("--weights", default="s8", choices=["s8", "pairs", "s7"], help="of Tersor's models, as of `quantize`")
    parser.add_argument("--name", default="int8_peers", help="of the files of results")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    isa = os.environ.get(ISA, "")
    rows = []
    for name in args.networks:
        rows.append(measured(name, args.threads, args.rounds, args.graphs, args.weights))
        print(table(rows[-1:]), flush=True)
        found = {"machine": machine(), ISA: isa, "weights": args.weights, "rounds": args.rounds, "rows": [asdict(r) for r in rows]}
        write_results(args.out / f"{args.name}.json", found)
        (args.out / f"{args.name}.md").write_text(f"{heading(isa)}, weights {args.weights}, {args.rounds} rounds, batch 1.\n\n{table(rows)}\n")


def heading(isa: str) -> str:
    """The machine, and what openvino was kept to."""
    return str(machine()["processor"]) + (f", openvino kept to {isa}" if isa else "")


def measured(name: str, threads: int, rounds: int, folder: Path | None, weights: str) -> Row:
    """All engines on one network."""
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    graph, small = graphs(name, x, folder, weights)
    runs = {"tersor": ours(small, threads)} | others(build(name), tersor.transform(graph, "default"), threads)
    if len(runs) < 2:
        raise SystemExit("there is nothing to compare with: pip install onnxruntime onnx, or nncf openvino")
    image = x.numpy()
    counts = {engine: max(3, round(ROUND_MS / min(milliseconds(run, image, 3)))) for engine, run in runs.items()}
    times: dict[str, list[float]] = {engine: [] for engine in runs}
    for i in range(rounds):
        for engine in list(runs)[:: 1 if i % 2 == 0 else -1]:
            times[engine].append(statistics.median(milliseconds(runs[engine], image, counts[engine])))
    medians = {engine: statistics.median(ms) for engine, ms in times.items()}
    best = min((e for e in medians if e != "tersor"), key=medians.__getitem__)
    return Row(name, threads, medians, best, Ratio.of([a / b for a, b in zip(times["tersor"], times[best])]))


def ours(small: tersor.Graph, threads: int) -> Run:
    model = tersor.compile(small, threads=threads, require="int8")
    return lambda x: model(x)


def others(module: torch.nn.Module, graph: tersor.Graph, threads: int) -> dict[str, Run]:
    """The other engines that are installed, on the same f32 network: the module, or its graph with norms folded."""
    images = [torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(2)).numpy()]
    made: dict[str, Callable[[], Run]] = {
        "onnxruntime": lambda: onnxruntime_int8.quantized(graph, images, "MinMax", threads),
        "openvino": lambda: nncf_int8.quantized(graph, images, "mixed", threads),
        "LiteRT": lambda: litert_int8.quantized(module, images, threads),
        "MNN": lambda: mnn_int8.quantized(graph, images, "KL", threads),
        "ncnn": lambda: ncnn_int8.quantized(module, images, threads),
    }
    found: dict[str, Run] = {}
    for engine, make in made.items():
        try:
            found[engine] = make()
        except (ImportError, Unavailable) as missing:
            print(f"{engine}: {missing}", flush=True)
    return found


def milliseconds(run: Run, x: np.ndarray, count: int) -> list[float]:
    """Times of `count` calls, after one that is not counted."""
    run(x)
    found = []
    for _ in range(count):
        start = time.perf_counter()
        run(x)
        found.append(1e3 * (time.perf_counter() - start))
    return found


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, and the geometric mean of the ratios."""
    engines = list(dict.fromkeys(e for r in rows for e in r.ms))
    lines = [f"| network | threads | {' | '.join(f'{e} ms' for e in engines)} | ours / best |", f"|---|--:|{'--:|' * (len(engines) + 1)}"]
    for r in rows:
        cells = " | ".join(f"{r.ms[e]:.2f}" if e in r.ms else "" for e in engines)
        lines.append(f"| {r.network} | {r.threads} | {cells} | {r.ratio} |")
    if len(rows) > 1:
        mean = math.exp(statistics.mean(math.log(r.ratio.median) for r in rows))
        lines.append(f"| geometric mean | {rows[0].threads} |{' |' * len(engines)} {mean:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
