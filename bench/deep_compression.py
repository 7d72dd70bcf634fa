"""Deep Compression (Han et al., 1510.00149) of LeNet-300-100 and LeNet-5 on MNIST, trained here: accuracy and bytes after each stage.

python -m tersor.bench.deep_compression [lenet300 lenet5] [--epochs 8] [--out bench/results/deep_compression.json]

Trained networks and the checkpoints of every stage are kept in the cache folder of `bench.train`, so a killed run resumes. Sizes are
those of all constants, biases included, against float32; the last is that of the whole file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import load, trace, transform
from ..ir.graph import Graph
from ..passes.sparse.sizes import sizes
from .mnist import mnist
from .results_file import write_results
from .train import cache_folder

RESULTS = Path(__file__).parent / "results" / "deep_compression.json"


@dataclass(frozen=True)
class Recipe:
    """How a network is compressed: the share of zeros by layer pattern, and the bits of shared weights."""

    build: Callable[[], nn.Module]
    sparsity: dict[str, float]
    bits: dict[str, int]
    lr: float = 1e-3


def lenet300() -> nn.Module:
    """784-300-100-10 (LeCun et al., 1998)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


def lenet5() -> nn.Module:
    """Caffe's LeNet-5, the one of the paper: 5x5 convolutions of 20 and 50 channels, 500 hidden units."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)
    )


RECIPES = {
    "lenet300": Recipe(lenet300, {"1": 0.93, "3": 0.91, "5": 0.6}, {"1": 5, "3": 5, "5": 5}),
    "lenet5": Recipe(lenet5, {"0": 0.34, "2": 0.88, "5": 0.94, "7": 0.8}, {"0": 6, "2": 5, "5": 4, "7": 5}),
}


def error(graph: Graph) -> float:
    """Of 10,000 test images, in per cent."""
    x, y = mnist()["t10k"]
    right = sum(int((graph(x[i : i + 500]).argmax(1) == y[i : i + 500]).sum()) for i in range(0, len(x), 500))
    return 100 - 100 * right / len(x)


def layers(option: str, values: dict[str, Any]) -> str:
    """`layers={"1": {bits=5}}`"""
    return "layers={" + " ".join(f'"{path}": {{{option}={value}}}' for path, value in values.items()) + "}"


def run(name: str, epochs: int, seed: int, report: Callable[[str], None] = print) -> dict[str, Any]:
    """Train, prune, share, code; returns the results of each stage."""
    recipe, folder = RECIPES[name], cache_folder() / f"deep-compression-{name}-{epochs}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = recipe.build().eval()
    graph = trace(module, (torch.zeros(1, 1, 28, 28),))

    def stage(number: int, before: Graph, pipeline: str) -> Graph:
        """Run a pipeline, or load its earlier result."""
        path = folder / f"{number}.tersor"
        if not path.exists():
            checkpoint = str(folder / f"{number}.ckpt")
            transform(before, pipeline.replace("CKPT", json.dumps(checkpoint)), train=mnist()["train"], seed=seed).save(path)
        result = load(path)
        report(f"{name}: {pipeline}: error {error(result):.2f} %")
        return result

    tune = f"finetune{{epochs={epochs} batch=128 lr={recipe.lr} checkpoint=CKPT"
    trained = stage(0, graph, f"{tune} weight_decay=0.0001}}")
    sparse = f"sparsify{{sparsity=0.9 gradual=true end=0.6 every=50 {layers('sparsity', recipe.sparsity)}}}"
    pruned = stage(1, trained, f"{sparse},{tune} schedule=exponential decay=0.05}}")
    shared = stage(2, pruned, f"share-weights{{{layers('bits', recipe.bits)}}},finetune{{epochs=2 batch=128 lr=0.0001 checkpoint=CKPT}}")
    coded = folder / "coded.tersor"
    shared.save(coded, entropy=True)
    found, size = sizes(shared), coded.stat().st_size
    again = load(coded)
    assert error(again) == error(shared)
    result = {
        "error": {"trained": error(trained), "pruned": error(pruned), "shared": error(again)},
        "bytes": asdict(found) | {"file": size},
        "times": {"pruned": found.times(found.pruned), "shared": found.times(found.shared), "file": found.times(size)},
        "recipe": {"sparsity": recipe.sparsity, "bits": recipe.bits, "epochs": epochs, "seed": seed},
    }
    report(json.dumps(result))
    return result


def table(results: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| network | error, trained | pruned | shared | dense bytes | zeros left out | values shared | file | times smaller |", "|---" * 9 + "|"]
    for name, r in results.items():
        e, b = r["error"], r["bytes"]
        cells = [name, *(f"{e[k]:.2f} %" for k in ("trained", "pruned", "shared")), *(f"{b[k]:,}" for k in ("dense", "pruned", "shared", "file"))]
        lines.append("| " + " | ".join([*cells, f"{r['times']['file']:.1f}"]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(RECIPES), choices=[*RECIPES, []])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = json.loads(args.out.read_text())["networks"] if args.out.exists() else {}
    for name in args.networks:
        results[name] = run(name, args.epochs, args.seed, lambda line: print(line, flush=True))
        write_results(args.out, {"data": "MNIST", "networks": results})
    print(table(results))


if __name__ == "__main__":
    main()
