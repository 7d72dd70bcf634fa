"""Accuracy loss of int8 with default options on networks trained on Fashion-MNIST: top-1 of all 10,000 test images, before and after.

    python -m tersor.bench.fashion_int8 [--networks resnet20] [--seeds 0 1 2] [--calibration 512] [--epochs 15] [--macs 1]

Networks come from the cache of train.py, which trains those that are missing, some minutes each. A seed draws the calibration images, out of
those for training; the network is always the one trained with seed 0. Both networks run compiled.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

import tersor

from .fashion import DataMissing, Images, fashion_mnist
from .fashion_networks import NETWORKS
from .latency import RESULTS
from .results_file import write_results
from .train import Recipe, trained

BATCH = 50


@dataclass(frozen=True)
class Row:
    """macs: share of the full network's. f32, int8: right answers among `images`. agreement: share of images with the same answer."""

    network: str
    macs: float
    epochs: int
    seed: int
    images: int
    f32: int
    int8: int
    agreement: float

    @property
    def drop(self) -> float:
        """Points of top-1."""
        return 100 * (self.f32 - self.int8) / self.images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["resnet20"], choices=list(NETWORKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--calibration", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--macs", type=float, default=1.0, help="share of the full network's multiply-accumulates: a narrower network")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        rows = [row for name in args.networks for row in measured(Recipe(name, args.macs, epochs=args.epochs), args.seeds, args.calibration)]
    except DataMissing as missing:
        raise SystemExit(str(missing)) from None
    write_results(args.out / "fashion_int8.json", [asdict(r) | {"drop": r.drop} for r in rows])
    (args.out / "fashion_int8.md").write_text(markdown(rows))
    print(markdown(rows), end="")


def measured(recipe: Recipe, seeds: Sequence[int], calibration: int) -> list[Row]:
    module, _ = trained(recipe, lambda line: print(line, flush=True))
    test = fashion_mnist("t10k")
    graph = tersor.trace(module, (test.normalized(slice(0, 1)),))
    full = answers(tersor.transform(graph, "default"), test)
    rows = []
    for seed in seeds:
        images = list(torch.split(fashion_mnist("train").sample(calibration, seed), BATCH))
        small = answers(tersor.transform(graph, "int8", calibration=images), test, require="int8")
        labels = test.labels.numpy()
        rows.append(
            Row(
                recipe.network,
                recipe.macs,
                recipe.epochs,
                seed,
                len(test),
                int((full == labels).sum()),
                int((small == labels).sum()),
                float((full == small).mean()),
            )
        )
    return rows


def answers(graph: tersor.Graph, images: Images, require: str | None = None) -> np.ndarray:
    """The class of each image, by a compiled network."""
    model = tersor.compile(graph, batch=[BATCH], require=require)
    parts = [model(images.normalized(slice(i, i + BATCH)).numpy()) for i in range(0, len(images), BATCH)]
    result: np.ndarray = np.concatenate(parts).argmax(1)
    return result


def markdown(rows: Sequence[Row]) -> str:
    lines = ["| network | MACs | epochs | seed | f32 top-1 | int8 top-1 | drop, points | agreement |", "|---|--:|--:|--:|--:|--:|--:|--:|"]
    for r in rows:
        f32, int8 = 100 * r.f32 / r.images, 100 * r.int8 / r.images
        lines.append(f"| {r.network} | {r.macs:.0%} | {r.epochs} | {r.seed} | {f32:.2f} % | {int8:.2f} % | {r.drop:.2f} | {r.agreement:.2%} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
