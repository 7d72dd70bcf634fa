"""Low-bit methods on a network trained on Fashion-MNIST: top-1 of all 10,000 test images and bytes, with and without distillation.

    python -m tersor.bench.few_bits [--methods BWN TWN ...] [--seeds 0 1 2] [--epochs 3] [--again]

Every run starts from one float ResNet-20 (train.py; kept in its cache), changes it by a method, trains for a few epochs on labels, or on labels
and the float network (`distill_weight`), and compiles the result with `require`. A seed draws the order and noise of training. A row that is
already in the results, with the same options, is not run again, so a killed run resumes. The test images choose nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tersor

from .fashion import DataMissing, Images, fashion_mnist
from .latency import RESULTS
from .results_file import write_results
from .train import Recipe, batches, trained

BATCH = 100
#: Calibration images, for methods that need them.
CALIBRATION = 512
#: Weight of the distillation loss.
DISTILL = 0.7


@dataclass(frozen=True)
class Method:
    """One method. change: passes before training. finish: passes after it. require: of `compile`. lr: the largest learning rate of Adam."""

    change: str
    finish: str = "to-bits"
    require: str = "bits"
    lr: float = 2e-3


METHODS = {
    "float": Method("", "default", "f32", 5e-4),
    "int8 QAT": Method("quantize{qat=true}", "to-integer,canonicalize", "int8", 5e-4),
    "BWN": Method("binarize"),
    "TWN": Method("ternarize"),
    "XNOR": Method("binarize{activations=true}"),
    "w1a2": Method("dorefa{w=1 a=2}"),
    "w2a2": Method("dorefa{w=2 a=2}"),
    "w2a2 g6": Method("dorefa{w=2 a=2 g=6}"),
    "w2a4": Method("dorefa{w=2 a=4}"),
    "w4a4": Method("dorefa{w=4 a=4}"),
}


@dataclass(frozen=True)
class Row:
    """One run. float_top1, top1: per cent of the test images, before and after, by compiled networks. bytes: of the .tersor file."""

    method: str
    pipeline: str
    distilled: bool
    seed: int
    epochs: int
    float_top1: float
    top1: float
    float_bytes: int
    bytes: int
    seconds: float

    @property
    def key(self) -> tuple[Any, ...]:
        """The key that identifies a run."""
        return self.pipeline, self.distilled, self.seed, self.epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="run what is in the results, too")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    file = args.out / "few_bits.json"
    rows = [Row(**r) for r in json.loads(file.read_text())] if file.is_file() and not args.again else []
    try:
        for row in runs(args.methods, args.seeds, args.epochs, {r.key for r in rows}):
            rows.append(row)
            write_results(file, [asdict(r) for r in rows])
            (args.out / "few_bits.md").write_text(markdown(rows))
    except DataMissing as missing:
        raise SystemExit(str(missing)) from None
    print(markdown(rows), end="")


def runs(methods: Sequence[str], seeds: Sequence[int], epochs: int, done: set[tuple[Any, ...]]) -> Iterator[Row]:
    """Rows that are not `done`, one after the other."""
    module, _ = trained(Recipe("resnet20"), lambda line: print(line, flush=True))
    train, test = fashion_mnist("train"), fashion_mnist("t10k")
    graph = tersor.trace(module, (test.normalized(slice(0, 1)),))
    full = measured(tersor.transform(graph, "default"), test, "f32")
    for seed in seeds:
        for name in methods:
            for distilled in (False, True):
                pipeline = pipeline_of(METHODS[name], epochs, distilled)
                if (pipeline, distilled, seed, epochs) in done:
                    continue
                start = time.perf_counter()
                calibration = list(torch.split(train.sample(CALIBRATION, seed), BATCH))
                small = tersor.transform(graph, pipeline, train=Augmented(train, seed), calibration=calibration, seed=seed)
                top1, size = measured(small, test, METHODS[name].require)
                row = Row(name, pipeline, distilled, seed, epochs, full[0], top1, full[1], size, time.perf_counter() - start)
                print(f"seed {seed} {name:8} {'distilled' if distilled else '':9} {full[0]:.2f} % -> {top1:.2f} %, {row.seconds:.0f} s", flush=True)
                yield row


def pipeline_of(method: Method, epochs: int, distilled: bool) -> str:
    """The passes of a run."""
    steps = len(fashion_mnist("train")) // Recipe.batch
    options = f"steps={epochs * steps} lr={method.lr:g}" + (f" distill_weight={DISTILL}" if distilled else "")
    return ",".join(part for part in ("trainable", method.change, f"finetune{{{options}}}", method.finish) if part)


class Augmented:
    """Batches of an epoch, shifted and mirrored, drawn by the seed and the epoch."""

    def __init__(self, images: Images, seed: int):
        self.images = images
        self.seed = seed

    def __call__(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        random = torch.Generator().manual_seed(1000 * self.seed + epoch)
        return ((x, y) for x, y in batches(self.images, Recipe.batch, random) if len(y) == Recipe.batch)


def measured(graph: tersor.Graph, test: Images, require: str) -> tuple[float, int]:
    """Top-1 in per cent of the compiled network, and the bytes of its file."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.tersor"
        graph.save(file)
        size = file.stat().st_size
    model = tersor.compile(graph, batch=[BATCH], require=require)
    parts = [model(test.normalized(slice(i, i + BATCH)).numpy()) for i in range(0, len(test), BATCH)]
    return 100 * float((np.concatenate(parts).argmax(1) == test.labels.numpy()).mean()), size


def markdown(rows: Sequence[Row]) -> str:
    """Mean and standard deviation over the seeds."""
    lines = [
        "| method | pipeline | epochs | top-1 | distilled | float | KiB | of float's | seeds |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in dict.fromkeys(r.method for r in rows):
        here = [r for r in rows if r.method == name]
        plain, distilled = ([r.top1 for r in here if r.distilled == d] for d in (False, True))
        size = here[0].bytes
        lines.append(
            f"| {name} | `{METHODS[name].change}` | {here[0].epochs} | {_mean(plain)} | {_mean(distilled)} | {here[0].float_top1:.2f} % "
            f"| {size / 1024:.0f} | {size / here[0].float_bytes:.1%} | {len({r.seed for r in here})} |"
        )
    return "\n".join(lines) + "\n"


def _mean(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread} %"


if __name__ == "__main__":
    main()
