"""Deep Compression (Han et al., 1510.00149) of LeNet-300-100 and LeNet-5 on MNIST, and of a VGG-like network on Fashion-MNIST, trained here:
accuracy and bytes after each stage.

python -m tersor.bench.deep_compression [lenet300 lenet5 vgg] [--epochs 8] [--out bench/results/deep_compression.json]

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
from .fashion import fashion_mnist
from .mnist import mnist
from .results_file import write_results
from .train import cache_folder

RESULTS = Path(__file__).parent / "results" / "deep_compression.json"


@dataclass(frozen=True)
class Recipe:
    """How a network is compressed: the share of zeros by layer pattern, and the bits of shared weights. data: `MNIST` or `Fashion-MNIST`."""

    build: Callable[[], nn.Module]
    sparsity: dict[str, float]
    bits: dict[str, int]
    lr: float = 1e-3
    data: str = "MNIST"


def lenet300() -> nn.Module:
    """784-300-100-10 (LeCun et al., 1998)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


def lenet5() -> nn.Module:
    """Caffe's LeNet-5, the one of the paper: 5x5 convolutions of 20 and 50 channels, 500 hidden units."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)
    )


def vgg() -> nn.Module:
    """Four 3x3 convolutions of 16 to 64 channels in two stages; nine tenths of the weights are of a hidden layer of 256 units, as in VGG."""
    layers: list[nn.Module] = []
    for cin, cout, pool in ((1, 16, False), (16, 32, True), (32, 64, False), (64, 64, True)):
        layers += [nn.Conv2d(cin, cout, 3, padding=1), nn.ReLU(), *([nn.MaxPool2d(2)] if pool else [])]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 7 * 7, 256), nn.ReLU(), nn.Linear(256, 10))


RECIPES = {
    "lenet300": Recipe(lenet300, {"1": 0.93, "3": 0.91, "5": 0.6}, {"1": 5, "3": 5, "5": 5}),
    "lenet5": Recipe(lenet5, {"0": 0.34, "2": 0.88, "5": 0.94, "7": 0.8}, {"0": 6, "2": 5, "5": 4, "7": 5}),
    "vgg": Recipe(
        vgg,
        {"0": 0.2, "2": 0.6, "5": 0.7, "7": 0.75, "11": 0.95, "13": 0.7},
        {"0": 6, "2": 5, "5": 5, "7": 5, "11": 4, "13": 5},
        data="Fashion-MNIST",
    ),
}


def data(name: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """`train` and `t10k`: normalized images and labels."""
    if name == "MNIST":
        return mnist()
    return {part: (images.normalized(), images.labels) for part in ("train", "t10k") for images in (fashion_mnist(part),)}


def error(graph: Graph, on: str) -> float:
    """Of 10,000 test images, in per cent."""
    x, y = data(on)["t10k"]
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
            transform(before, pipeline.replace("CKPT", json.dumps(checkpoint)), train=data(recipe.data)["train"], seed=seed).save(path)
        result = load(path)
        report(f"{name}: {pipeline}: error {error(result, recipe.data):.2f} %")
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
    assert error(again, recipe.data) == error(shared, recipe.data)
    result = {
        "error": {k: error(g, recipe.data) for k, g in (("trained", trained), ("pruned", pruned), ("shared", again))},
        "bytes": asdict(found) | {"file": size},
        "times": {"pruned": found.times(found.pruned), "shared": found.times(found.shared), "file": found.times(size)},
        "recipe": {"sparsity": recipe.sparsity, "bits": recipe.bits, "epochs": epochs, "seed": seed, "data": recipe.data},
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
        write_results(args.out, {"networks": results})
    print(table(results))


if __name__ == "__main__":
    main()
