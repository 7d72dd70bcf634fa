"""Latency of seven networks beside torch and onnxruntime: batch 1, 224x224, interleaved, each engine in its own process.

    python -m tersor.bench.latency [--networks resnet18 vgg16] [--threads 1 2] [--rounds 15] [--out bench/results]

writes latency.json (every round of every engine, the machine, the versions), latency.md and latency.png. Needs `pip install tersor[bench]`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .engines import Engine, interleaved, machine, opened, prepare, ratio
from .models import GMACS, build

PEERS = ("onnxruntime", "torch")
COLUMNS = (
    "network",
    "GMACs",
    "tersor, ms",
    "onnxruntime, ms",
    "torch, ms",
    "tersor / onnxruntime",
    "tersor / torch",
    "tersor, GFLOP/s",
    "error, tersor",
    "error, onnxruntime",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(GMACS), choices=list(GMACS), metavar="NAME")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.25, help="of one engine in one round")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    results = []
    for name in args.networks:
        results += measure_network(name, args.threads, args.rounds, args.seconds)
    report = {"machine": machine(), "rounds": args.rounds, "seconds_per_round": args.seconds, "results": results}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "latency.json").write_text(json.dumps(report, indent=1) + "\n")
    text = markdown(report)
    (args.out / "latency.md").write_text(text)
    draw(report, args.out / "latency.png")
    print(text)


def measure_network(name: str, threads: Sequence[int], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """One record per thread count: latencies, ratios, and each engine's error against float64 torch."""
    import torch

    module = build(name)
    x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    with torch.no_grad():
        exact = module.double()(torch.from_numpy(x).double()).numpy()
    module.float()
    records = []
    with tempfile.TemporaryDirectory() as folder:
        example = Path(folder) / "x.npy"
        np.save(example, x)
        for count in threads:
            models = prepare(module, x, Path(folder), count)
            with opened(models, example, count) as engines:
                records.append(measure(name, engines, count, x, exact, rounds, seconds))
    return records


def measure(name: str, engines: Sequence[Engine], threads: int, x: np.ndarray, exact: np.ndarray, rounds: int, seconds: float) -> dict[str, Any]:
    errors = {e.name: float(np.abs(e(x) - exact).max() / np.abs(exact).max()) for e in engines}

    def show(done: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{name}, {threads} threads: round {done} of {rounds} " + ("\n" if done == rounds else ""))

    times = interleaved(engines, rounds, seconds, show)
    ours = times["tersor"]
    return {
        "network": name,
        "threads": threads,
        "gmacs": GMACS[name],
        "median_ms": {e: t.median for e, t in times.items()},
        "rounds_ms": {e: t.rounds for e, t in times.items()},
        "gflops": {e: 2 * GMACS[name] / t.median * 1e3 for e, t in times.items()},
        "ratio": {peer: asdict(ratio(ours, times[peer])) for peer in PEERS},
        "error": errors,
    }


def markdown(report: dict[str, Any]) -> str:
    """The tables: times, ratios with their spread over the rounds, errors."""
    m = report["machine"]
    versions = ", ".join(f"{p} {v}" for p, v in m["packages"].items())
    lines = [
        "# Latency, batch 1, 224x224",
        "",
        f"{m['processor']}, {m['cores']} cores, {' '.join(m['features'])}; {versions}; commit {m['commit'] or 'unknown'}, {m['date']}.",
        f"Medians of {report['rounds']} interleaved rounds of {report['seconds_per_round']} s per engine, each in its own process on the same cores.",
        "A ratio below 1 means that Tersor is faster; in brackets the lowest and the highest round.",
        "Errors: max|y - y64| / max|y64| against float64 torch.",
    ]
    for threads in sorted({r["threads"] for r in report["results"]}):
        rows = [r for r in report["results"] if r["threads"] == threads]
        lines += [
            "",
            f"## {threads} thread{'s' if threads > 1 else ''}",
            "",
            f"| {' | '.join(COLUMNS)} |",
            "|---" + "|--:" * (len(COLUMNS) - 1) + "|",
        ]
        for r in rows:
            ms = [f"{r['median_ms'][e]:.2f}" for e in ("tersor", *PEERS)]
            ratios = [f"{q['median']:.2f} ({q['low']:.2f} to {q['high']:.2f})" for q in (r["ratio"][p] for p in PEERS)]
            errors = [f"{r['error'][e]:.1e}" for e in ("tersor", "onnxruntime")]
            lines.append("| " + " | ".join([r["network"], f"{r['gmacs']:.3f}", *ms, *ratios, f"{r['gflops']['tersor']:.0f}", *errors]) + " |")
    return "\n".join(lines) + "\n"


def draw(report: dict[str, Any], path: Path) -> None:
    """Bars: time as a multiple of onnxruntime's, one panel per thread count, whiskers from the lowest to the highest round."""
    from matplotlib.figure import Figure

    counts = sorted({r["threads"] for r in report["results"]})
    figure = Figure(figsize=(10, 3.2 * len(counts)), layout="constrained")
    for axis, threads in zip(figure.subplots(len(counts), 1, squeeze=False)[:, 0], counts):
        rows = [r for r in report["results"] if r["threads"] == threads]
        for k, engine in enumerate(("tersor", *PEERS)):
            ratios = [[a / b for a, b in zip(r["rounds_ms"][engine], r["rounds_ms"]["onnxruntime"])] for r in rows]
            middle = [float(np.median(q)) for q in ratios]
            whiskers = [[m - min(q) for m, q in zip(middle, ratios)], [max(q) - m for m, q in zip(middle, ratios)]]
            axis.bar([i + 0.27 * (k - 1) for i in range(len(rows))], middle, 0.25, yerr=whiskers, label=engine, capsize=2)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set_xticks(range(len(rows)), [r["network"] for r in rows])
        axis.set_ylabel("time / onnxruntime's")
        axis.set_title(f"{threads} thread{'s' if threads > 1 else ''}", loc="left")
        axis.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
