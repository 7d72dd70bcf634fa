"""A network made smaller and trained again in one pipeline: top-1 of all 10,000 test images of Fashion-MNIST, MACs and bytes.

    python -m tersor.bench.small_networks [--pipelines prune factorize ...] [--seeds 0 1 2] [--epochs 6] [--again]

Every run starts from one float ResNet-20 (train.py; kept in its cache), prunes or factorizes it or both to a quarter of its MACs, and trains what
is left on labels and the float network. A seed draws the calibration images, the order and the noise of training. A row that is already in the
results, with the same options, is not run again, so a killed run resumes. The test images choose nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import tersor

from .fashion import DataMissing, fashion_mnist
from .few_bits import BATCH, DISTILL, Augmented, _mean, measured
from .latency import RESULTS
from .results_file import write_results
from .train import Recipe, trained

#: Calibration images.
CALIBRATION = 1024


@dataclass(frozen=True)
class Change:
    """Passes before training, which leave a quarter of the MACs. lr: the largest learning rate of Adam: without a batch norm between its factors a
    factorized convolution diverges at a rate that suits a pruned one."""

    passes: str
    lr: float


PIPELINES = {
    "prune": Change("prune-channels{macs=0.25}", 3e-3),
    "factorize": Change("low-rank{method=tucker macs=0.25}", 5e-4),
    "prune, factorize": Change("prune-channels{macs=0.5},low-rank{method=tucker macs=0.5}", 5e-4),
}


@dataclass(frozen=True)
class Row:
    """One run. float_top1, top1: per cent of the test images, before and after, by compiled networks.
    macs: share of the float network's. bytes: of the .tersor file."""

    name: str
    pipeline: str
    seed: int
    epochs: int
    float_top1: float
    top1: float
    macs: float
    float_bytes: int
    bytes: int
    seconds: float

    @property
    def key(self) -> tuple[Any, ...]:
        """The key that identifies a run."""
        return self.pipeline, self.seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipelines", nargs="+", default=list(PIPELINES), choices=list(PIPELINES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="run what is in the results, too")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    file = args.out / "small_networks.json"
    rows = [Row(**r) for r in json.loads(file.read_text())] if file.is_file() and not args.again else []
    try:
        for row in runs(args.pipelines, args.seeds, args.epochs, {r.key for r in rows}):
            rows.append(row)
            write_results(file, [asdict(r) for r in rows])
            (args.out / "small_networks.md").write_text(markdown(rows))
    except DataMissing as missing:
        raise SystemExit(str(missing)) from None
    print(markdown(rows), end="")


def runs(names: Sequence[str], seeds: Sequence[int], epochs: int, done: set[tuple[Any, ...]]) -> Iterator[Row]:
    """Rows that are not `done`, one after the other."""
    module, _ = trained(Recipe("resnet20"), lambda line: print(line, flush=True))
    train, test = fashion_mnist("train"), fashion_mnist("t10k")
    graph = tersor.trace(module, (test.normalized(slice(0, 1)),))
    full = measured(tersor.transform(graph, "default"), test, "f32")
    steps = epochs * (len(train) // Recipe.batch)
    for seed in seeds:
        for name in names:
            pipeline = f"trainable,{PIPELINES[name].passes},finetune{{steps={steps} lr={PIPELINES[name].lr:g} distill_weight={DISTILL}}},default"
            if (pipeline, seed) in done:
                continue
            start = time.perf_counter()
            calibration = list(torch.split(train.sample(CALIBRATION, seed), BATCH))
            small = tersor.transform(graph, pipeline, train=Augmented(train, seed), calibration=calibration, seed=seed)
            top1, size = measured(small, test, "f32")
            row = Row(name, pipeline, seed, epochs, full[0], top1, small.macs() / graph.macs(), full[1], size, time.perf_counter() - start)
            print(
                f"seed {seed} {name}: {full[0]:.2f} % -> {top1:.2f} %, {row.macs:.3f} of the MACs, {row.seconds:.0f} s",
                flush=True,
            )
            yield row


def markdown(rows: Sequence[Row]) -> str:
    """Mean and standard deviation over the seeds."""
    lines = [
        "| | pipeline | epochs | MACs | top-1 before training | after | float | KiB | of float's | seeds |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in dict.fromkeys(r.name for r in rows):
        here = [r for r in rows if r.name == name]
        size = here[0].bytes
        lines.append(
            f"| {name} | `{PIPELINES[name].passes}` | {here[0].epochs} | {max(r.macs for r in here):.1%} "
            f"| {_mean([r.top1 for r in here])} | {here[0].float_top1:.2f} % | {size / 1024:.0f} | {size / here[0].float_bytes:.1%} | {len(here)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
