"""Accuracy against multiply-accumulates and measured latency, without fine-tuning, for every compression method.

python -m tersor.bench.accuracy [--networks resnet20] [--groups curve ablation] [--labels obs l1] [--macs 0.5 0.25] [--seeds 0 1 2] [--train]
python -m tersor.bench.accuracy --latency      # times the compiled networks of earlier runs; needs an idle machine
python -m tersor.bench.accuracy --report       # only writes the tables and plots again

Every run is one row of accuracy.json, written at once. Runs with a row are not repeated, failed ones are. A seed draws the calibration
images and the random choices of a method; the network is always the one trained with seed 0. Trained networks come from the cache of
train.py; with --train missing ones are trained first. Where a run fails, the exit code is 1 and tables are not written.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tersor
from tersor.ir.graph import Graph

from . import dependency_graph
from .accuracy_report import Row, draw, markdown
from .accuracy_runs import LITE0, NETWORKS, SEEDS, SHARES, Run, runs
from .engines import commit, machine
from .fashion import Images, fashion_mnist
from .latency import sqnr
from .train import Recipe, cache_folder, restored, trained

#: Images per call of the compiled network when its accuracy is measured.
BATCH = 50
GROUPS = ("original", "curve", "blocks", "all layers", "same share", "ablation", "separable", "torch-pruning", "scratch", "imagenet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=[*NETWORKS, LITE0], default=[*NETWORKS, LITE0])
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--labels", nargs="+", metavar="LABEL", help="only rows with these labels: lasso, l1, ...")
    parser.add_argument("--macs", nargs="+", type=float, default=list(SHARES), help="shares of MACs to leave; EfficientNet-Lite0 has its own")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--train", action="store_true", help="train the networks that are missing, some minutes each")
    parser.add_argument("--again", action="store_true", help="run what stands in the results, too")
    parser.add_argument("--latency", action="store_true", help="time the compiled networks of earlier runs")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--rounds", type=int, default=9, help="of --latency")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    results = Results(args.out / "accuracy.json")
    wanted = [r for r in runs(args.macs, args.seeds) if r.network in args.networks and (r.group in args.groups or r.group == "original")]
    wanted = [r for r in wanted if not args.labels or r.label in args.labels]
    if args.latency:
        for network in args.networks:
            measure_latency(results, [r for r in wanted if r.network == network], args.rounds)
    elif not args.report:
        for run in wanted:
            if args.again or not results.has(run):
                row = attempt(run, lambda run: execute(run, args.train))
                results.put(row)
                print(line(row), flush=True)
    refuse_failed(results, wanted)
    report(results, args.out)


class Results:
    """accuracy.json: rows by their run's key. Several processes may write to one file: each adds its rows to those in the file."""

    def __init__(self, path: Path):
        self.path = path
        self.rows = self._stored()

    def _stored(self) -> dict[str, Row]:
        return {r["key"]: r for r in json.loads(self.path.read_text())["rows"]} if self.path.is_file() else {}

    def has(self, run: Run) -> bool:
        """Whether there is a row of the same run that did not fail."""
        row = self.rows.get(run.key)
        return row is not None and row["run"] == asdict(run) and "failed" not in row

    def put(self, *rows: Row) -> None:
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.rows = self._stored() | {row["key"]: row for row in rows}
            partial = self.path.with_suffix(".partial")
            partial.write_text(json.dumps({"machine": machine(), "rows": list(self.rows.values())}, indent=1) + "\n")
            partial.replace(self.path)


def attempt(run: Run, work: Callable[[Run], dict[str, Any]]) -> Row:
    """The row of a run, with its warnings, or a row with the reason of a failure."""
    row: Row = {"key": run.key, "run": asdict(run), "commit": commit(), "date": time.strftime("%Y-%m-%d")}
    start = time.process_time()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        try:
            row |= work(run)
        except (Exception, SystemExit) as error:  # of any kind: the table says what did not run and why
            row["failed"] = f"{type(error).__name__}: {error}"
    texts = [str(w.message) for w in said if issubclass(w.category, UserWarning)]
    return row | {"seconds": round(time.process_time() - start, 1), "warnings": list(dict.fromkeys(texts))}


def refuse_failed(results: Results, wanted: Sequence[Run]) -> None:
    """Stop with exit code 1 and each reason once where rows of these runs failed: their tables would be worse than the existing ones."""
    failed = [row for r in wanted if (row := results.rows.get(r.key)) is not None and "failed" in row]
    if failed:
        reasons = "\n".join(f"  {reason}" for reason in dict.fromkeys(row["failed"] for row in failed))
        raise SystemExit(f"{len(failed)} of {len(wanted)} runs failed, so no table is written:\n{reasons}")


def line(row: Row) -> str:
    """One line of progress."""
    if "failed" in row:
        return f"{row['key']}: failed, {row['failed']}"
    scores = ", ".join(f"{name} {row[name]:.2f}" for name in ("top1", "agreement", "sqnr_db") if name in row)
    return f"{row['key']}: {row['share']:.1%} of MACs, {scores}, {row['seconds']:.0f} s"


# -- one run -----------------------------------------------------------------------------------


def execute(run: Run, train: bool = False) -> dict[str, Any]:
    """Execute a run: share of MACs, parameters, and top-1 or agreement."""
    if run.network == LITE0:
        return execute_lite0(run)
    calibration = list(torch.split(fashion_mnist("train").sample(run.images, run.seed), 64))
    original = traced(run.network, train)
    graph = made(run, original, calibration, train)
    return sizes(graph, original) | {"top1": compiled_top1(graph, fashion_mnist("t10k"), compiled_file(run))}


def made(run: Run, original: Graph, calibration: Sequence[torch.Tensor], train: bool) -> Graph:
    """The network that the run is about."""
    if run.group == "scratch":
        assert run.macs is not None
        return tersor.transform(trace(network(Recipe(run.network, run.macs, run.seed), train)), run.pipeline)
    if run.variant is None:
        return tersor.transform(original, run.pipeline, calibration=calibration, seed=run.seed)
    assert run.macs is not None
    labelled = chosen(fashion_mnist("train"), run.images, run.seed)
    removed = dependency_graph.prune(network(Recipe(run.network), train), run.macs, run.variant, labelled)
    if run.repair == "least squares":
        return dependency_graph.repaired(tersor.transform(original, "fold-bn"), removed, calibration, run.seed)
    pipeline = "fold-bn" if run.repair == "none" else "recalibrate-bn,fold-bn"
    return tersor.transform(trace(removed.module), pipeline, calibration=calibration, seed=run.seed)


def chosen(images: Images, count: int, seed: int) -> Images:
    """The images of `Images.sample`, with their labels."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(images))[:count])
    return Images(images.pixels[order], images.labels[order])


def network(recipe: Recipe, train: bool = False) -> torch.nn.Module:
    """The network of a recipe, from the cache, or trained now if `train`."""
    found = trained(recipe) if train else restored(recipe)
    if found is None:
        size = "" if recipe.macs == 1 else f" --macs {recipe.macs:g}"
        raise SystemExit(f"not trained: python -m tersor.bench.train {recipe.network}{size} --seed {recipe.seed}")
    return found[0]


@cache
def traced(name: str, train: bool = False) -> Graph:
    """The trained network of seed 0; `train` as in `network`."""
    return trace(network(Recipe(name), train))


def trace(module: torch.nn.Module) -> Graph:
    return tersor.trace(module, (torch.zeros(1, 1, 28, 28),))


def sizes(graph: Graph, original: Graph) -> dict[str, Any]:
    """MACs (and their share of the original's) and bytes of weights."""
    return {"macs": graph.macs(), "share": graph.macs() / original.macs(), "nbytes": graph.nbytes()}


def compiled_top1(graph: Graph, images: Images, file: Path | None = None) -> float:
    """Top-1 in per cent of the compiled network, which is kept in a file for --latency if one is given."""
    exe = tersor.compile(graph, batch=[1, BATCH] if file is not None else [BATCH])
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        exe.save(file)
    right = 0
    for start in range(0, len(images) - len(images) % BATCH, BATCH):
        part = slice(start, start + BATCH)
        right += int((exe(images.normalized(part)).argmax(1) == images.labels[part]).sum())
    return 100 * right / (len(images) - len(images) % BATCH)


def compiled_file(run: Run) -> Path | None:
    """Where the compiled network of a run is kept: only those of the first seed are timed, since the others cost the same."""
    return cache_folder() / "compiled" / run.file if run.seed == SEEDS[0] and run.group != "ablation" else None


# -- EfficientNet-Lite0 ------------------------------------------------------------------------


def execute_lite0(run: Run) -> dict[str, Any]:
    """Agreement with the original's top-1 and SQNR of the logits over unlabelled crops; no accuracy, since there are few labels."""
    original, calibration, evaluation, expected = lite0(run.images, run.seed)
    graph = tersor.transform(original, run.pipeline, calibration=calibration, seed=run.seed)
    exe = tersor.compile(graph, batch=1)
    if (file := compiled_file(run)) is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        exe.save(file)
    logits = np.concatenate([exe(x[None]) for x in evaluation])
    agreement = 100 * float((logits.argmax(1) == expected.argmax(1)).mean())
    found = {"agreement": agreement, "crops": len(evaluation)}
    # the original against itself has none, and JSON no infinity
    return sizes(graph, original) | found | ({} if np.array_equal(logits, expected) else {"sqnr_db": sqnr(logits, expected)})


@cache
def lite0(images: int, seed: int) -> tuple[Graph, list[torch.Tensor], np.ndarray, np.ndarray]:
    """The traced network, calibration batches drawn with the seed, evaluation crops, and the original's logits on them."""
    from .photo_crops import crops
    from .photos import efficientnet_lite0, photographs

    module, found = efficientnet_lite0(), crops()
    graph = tersor.trace(module, (torch.zeros(1, 3, 224, 224),))
    order = np.random.default_rng(seed).permutation(len(found.calibration))[:images]
    calibration = list(torch.split(torch.from_numpy(found.calibration[order]), 16))
    evaluation = np.concatenate([found.evaluation, *(p.pixels for p in photographs())])
    exe = tersor.compile(tersor.transform(graph, "default"), batch=1)
    return graph, calibration, evaluation, np.concatenate([exe(x[None]) for x in evaluation])


# -- latency -----------------------------------------------------------------------------------


def measure_latency(results: Results, wanted: Sequence[Run], rounds: int, repeat: int = 30) -> None:
    """Time the compiled networks of one architecture in turns, one thread, batch 1: ms, and how many times faster than the original."""
    files = {r.key: f for r in wanted if results.has(r) and (f := compiled_file(r)) is not None and f.is_file()}
    found = {key: tersor.load_compiled(f) for key, f in files.items()}
    base = next((r.key for r in wanted if r.group == "original"), None)
    if base not in found:
        print(f"no compiled original among {len(wanted)} runs: run them without --latency first")
        return
    keys = list(found)
    times: dict[str, list[float]] = {key: [] for key in keys}
    for r in range(rounds):
        for i in range(len(keys)):
            key = keys[(i + r) % len(keys)]
            times[key].append(found[key].benchmark(repeat=repeat, warmup=3, batch=1).median)
    rows = []
    for key in keys:
        ratios = sorted(a / b for a, b in zip(times[base], times[key]))
        found_here = {"ms": float(np.median(times[key])), "faster": float(np.median(ratios)), "faster_range": [ratios[0], ratios[-1]]}
        rows.append(results.rows[key] | found_here)
    results.put(*rows)


def report(results: Results, out: Path) -> None:
    """accuracy.md and the plots."""
    rows = list(results.rows.values())
    (out / "accuracy.md").write_text(markdown(rows))
    draw(rows, out)
    print(f"wrote {out / 'accuracy.md'}")


if __name__ == "__main__":
    main()
