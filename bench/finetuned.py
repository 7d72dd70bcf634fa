"""Tables of pipelines with training, all from one float network on Fashion-MNIST: a row for each run, kept, so that a killed table resumes.

A run changes a network of bench/weights by a pipeline, with labels and calibration images, and compiles the result. A seed draws the order of
training images and all that passes draw. A row that is in the results with the same pipeline and seed is not run again. The test images choose
nothing. few_bits.py, dcp.py and gradual_sparsity.py are such tables.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

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
#: Float networks of bench/weights.
RESNET20 = Recipe("resnet20")
RESNET8 = Recipe("resnet8", epochs=24)


@dataclass(frozen=True)
class Method:
    """pipeline: what makes the network, training included. require: of `compile`."""

    pipeline: str
    require: str | None = None


@dataclass(frozen=True)
class Row:
    """One run. float_top1, top1: per cent of the test images, by compiled networks. macs: share of multiply-accumulates left. bytes: of the .tersor
    file. seconds: of the pipeline."""

    name: str
    pipeline: str
    seed: int
    float_top1: float
    top1: float
    macs: float
    float_bytes: int
    bytes: int
    seconds: float


#: From all rows to Markdown.
Table = Callable[[Sequence[Row]], str]


def steps(epochs: float) -> int:
    """Steps of `epochs` passes over the training images, which leave out the last incomplete batch."""
    return round(epochs * (60000 // Recipe.batch))


def main(doc: str | None, file: str, methods: Mapping[str, Method], table: Table, base: Recipe = RESNET20) -> None:
    """The command of a table: `--methods`, `--seeds`, `--out`. file: of the results, without its suffix. base: of the float network."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(methods), choices=list(methods))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = args.out / f"{file}.json"
    try:
        done = {(r.pipeline, r.seed) for r in kept(path, methods)}
        for row in runs(base, {name: methods[name] for name in args.methods}, args.seeds, done):
            # another process may have added rows meanwhile
            rows = [*kept(path, methods), row]
            write_results(path, [asdict(r) for r in rows])
            path.with_suffix(".md").write_text(table(rows))
    except DataMissing as missing:
        raise SystemExit(str(missing)) from None
    print(table(kept(path, methods)), end="")


def kept(path: Path, methods: Mapping[str, Method]) -> list[Row]:
    """The rows of a file of results, if it exists, except those of methods that have other pipelines now."""
    rows = [Row(**r) for r in json.loads(path.read_text())] if path.is_file() else []
    return [r for r in rows if r.name in methods and methods[r.name].pipeline == r.pipeline]


def runs(base: Recipe, methods: Mapping[str, Method], seeds: Sequence[int], done: set[tuple[str, int]]) -> Iterator[Row]:
    """Rows that are not `done`, one after the other."""
    module, _ = trained(base, lambda line: print(line, flush=True))
    train, test = fashion_mnist("train"), fashion_mnist("t10k")
    graph = tersor.trace(module, (test.normalized(slice(0, 1)),))
    full = measured(tersor.transform(graph, "default"), test, "f32")
    for seed in seeds:
        for name, method in methods.items():
            if (method.pipeline, seed) in done:
                continue
            start = time.perf_counter()
            calibration = list(torch.split(train.sample(CALIBRATION, seed), BATCH))
            small = tersor.transform(graph, method.pipeline, train=Augmented(train, seed), calibration=calibration, seed=seed)
            seconds = time.perf_counter() - start
            top1, size = measured(small, test, method.require)
            row = Row(name, method.pipeline, seed, full[0], top1, small.macs() / graph.macs(), full[1], size, seconds)
            print(f"seed {seed} {name:20} {full[0]:.2f} % -> {top1:.2f} %, {row.macs:.0%} of the MACs, {seconds:.0f} s", flush=True)
            yield row


class Augmented:
    """Batches of an epoch, shifted and mirrored, drawn by the seed and the epoch."""

    def __init__(self, images: Images, seed: int):
        self.images = images
        self.seed = seed

    def __call__(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        random = torch.Generator().manual_seed(1000 * self.seed + epoch)
        return ((x, y) for x, y in batches(self.images, Recipe.batch, random) if len(y) == Recipe.batch)


def measured(graph: tersor.Graph, test: Images, require: str | None) -> tuple[float, int]:
    """Top-1 in per cent of the compiled network, and the bytes of its file."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.tersor"
        graph.save(file)
        size = file.stat().st_size
    model = tersor.compile(graph, batch=[BATCH], require=require)
    parts = [model(test.normalized(slice(i, i + BATCH)).numpy()) for i in range(0, len(test), BATCH)]
    return 100 * float((np.concatenate(parts).argmax(1) == test.labels.numpy()).mean()), size


def losses(rows: Sequence[Row], methods: Mapping[str, Method], columns: str, cells: Callable[[str], str]) -> str:
    """A Markdown table with a line for each method that has rows: the `columns` that tell it apart, filled by `cells(name)`, then what it lost."""
    head = f"{columns} | top-1 | loss | float | KiB | seeds |"
    lines = [f"| {head}", "|" + "--:|" * head.count("|")]
    for name in methods:
        if here := [r for r in rows if r.name == name]:
            top1, loss = mean([r.top1 for r in here]), mean([r.float_top1 - r.top1 for r in here])
            size = f"{here[0].bytes / 1024:.0f} | {len(here)} |"
            lines.append(f"| {cells(name)} | {top1} | {loss} | {here[0].float_top1:.2f} % | {size}")
    return "\n".join(lines) + "\n"


def mean(values: Sequence[float]) -> str:
    """Mean and standard deviation in per cent, and nothing for no values."""
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread} %"
