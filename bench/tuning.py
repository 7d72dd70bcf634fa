"""Loss of the cost model against tuned choices: per fusion from the database, and for whole networks measured here.

    python -m tersor.bench.tuning [--networks resnet18 vgg16] [--threads 1 2] [--twice resnet50] [--db FILE] [--out bench/results] [--name tuning]

Without --db the shipped database is used; fusions that it does not have are named. Whole networks are compiled with the database and with the
cost model alone, and called in turns. Networks after --twice are tuned twice from nothing: how long that takes, and whether it agrees with itself.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import tersor
from tersor.backend.target import resolve
from tersor.backend.tuning.search import compare

from .engines import machine
from .latency import RESULTS
from .models import GMACS
from .results_file import write_results
from .tune_seven import traced

#: Goal: largest loss of the defaults against tuned choices.
ALLOWED = 0.15


def measure(name: str, threads: int, db: Path | None, rounds: int) -> dict[str, Any]:
    """One network: loss of its fusions, and times of whole calls in ms with both ways of choosing."""
    graph = traced(name)
    fusions = compare(graph, threads=threads, db=db)
    models = {"tuned": tersor.compile(graph, threads=threads, tuned=db), "model": tersor.compile(graph, threads=threads, tuned=False)}
    x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    times: dict[str, list[float]] = {key: [] for key in models}
    for i in range(rounds + 3):
        for key in sorted(models, reverse=bool(i % 2)):
            start = time.perf_counter()
            models[key](x)
            if i >= 3:
                times[key].append(1e3 * (time.perf_counter() - start))
    median = {key: float(np.median(t)) for key, t in times.items()}
    ratios = [a / b for a, b in zip(times["model"], times["tuned"])]
    return {
        "network": name,
        "threads": threads,
        "median_ms": median,
        "loss": float(np.median(ratios)) - 1,
        "loss_quartiles": [float(np.quantile(ratios, q)) - 1 for q in (0.25, 0.75)],
        "regions_loss": fusions.loss,
        "regions": json.loads(fusions.to_json())["rows"],
        "unknown": [r.key for r in fusions.rows if r.tuned_ms is None or r.model_ms is None],
    }


def twice(name: str, threads: int) -> dict[str, Any]:
    """A network tuned from nothing with two seeds: seconds, and what the second's choices cost against the first's, by the first's times."""
    graph = traced(name)
    first, second = (tersor.tune(graph, threads=threads, seed=seed) for seed in (0, 1))
    here, there = (t.database.section(resolve("cpu"), threads) for t in (first, second))
    pairs = [(r.count, here[r.key], there[r.key]) for r in first.rows if not r.chain and r.key in here and r.key in there]
    # kernels that the first run could not build have no time there
    timed = [(n, a, b, other) for n, a, b in pairs if (other := a.of(b.template, b.params)) is not None]
    return {
        "network": name,
        "threads": threads,
        "seconds": [first.seconds, second.seconds],
        "regions": len(timed),
        "same": sum((a.template, a.params) == (b.template, b.params) for _, a, b, _ in timed),
        "cost": sum(n * other.ms for n, _, _, other in timed) / sum(n * a.ms for n, a, _, _ in timed) - 1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(GMACS), choices=list(GMACS), metavar="NAME")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--twice", nargs="*", default=["resnet50"], choices=list(GMACS), metavar="NAME")
    parser.add_argument("--db", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--name", default="tuning", help="of the file that is written, without .json")
    args = parser.parse_args()
    rows = []
    print(f"{'network':14} threads   model, ms   tuned, ms    loss   of the fusions, cold    worst fusion")
    for name in args.networks:
        for threads in args.threads:
            row = measure(name, threads, args.db, args.rounds)
            rows.append(row)
            ms = row["median_ms"]
            known = [r for r in row["regions"] if r["loss"] is not None]
            worst = max(known, key=lambda r: r["loss"]) if known else {"loss": 0.0, "key": "none measured"}
            print(
                f"{name:14} {threads:7} {ms['model']:11.3f} {ms['tuned']:11.3f} {row['loss']:7.1%} {row['regions_loss']:14.1%}"
                f"            {worst['loss']:.0%} {worst['key']}",
                flush=True,
            )
            for key in row["unknown"]:
                print(f"{'':14} not in the database: {key}")
    above = [f"{r['network']} ({r['threads']} threads)" for r in rows if r["loss"] > ALLOWED]
    print(f"loss above {ALLOWED:.0%}: {', '.join(above) or 'none'}; the largest {max(r['loss'] for r in rows):.1%}")
    again = [twice(name, max(args.threads)) for name in args.twice]
    for t in again:
        print(
            f"{t['network']} twice: {t['seconds'][0]:.0f} and {t['seconds'][1]:.0f} s, {t['same']} of {t['regions']} the same, {t['cost']:.1%} more"
        )
    args.out.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine(), "allowed": ALLOWED, "rows": rows, "twice": again}
    write_results(args.out / f"{args.name}.json", report)


if __name__ == "__main__":
    main()
