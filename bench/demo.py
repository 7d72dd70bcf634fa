"""The demo: a trained network, folded and compiled, classifies real photographs; then a small one is trained in few bits.

make demo        or        python -m tersor.bench.demo [--rounds 7] [--threads 1 2] [--images 3000]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import tersor

from .demo_few_bits import few_bits
from .engines import interleaved, opened, ratio
from .peers import prepare
from .photos import Photo, class_names, efficientnet_lite0, photographs

console = Console(highlight=False, width=None if os.isatty(1) else 120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="of the latency table; 0 leaves it out")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--images", type=int, default=3000, help="on which the network of few bits is trained")
    args = parser.parse_args()

    # the reference is not timed here, and threads that wait for each other are slow on a busy machine
    torch.set_num_threads(1)
    module, photos = efficientnet_lite0(), photographs()
    example = torch.from_numpy(photos[0].pixels)

    start = time.perf_counter()
    graph = tersor.trace(module, (example,))
    console.print(f"Traced EfficientNet-Lite0: {graph.count_ops()} ops, {graph.macs() / 1e6:.0f} M MACs, in {time.perf_counter() - start:.1f} s")

    small = tersor.transform(graph, "default", check=True)
    console.print("The passes, each checked on real inputs:")
    console.print(small.report)

    start = time.perf_counter()
    exe = tersor.compile(small, threads=1)
    console.print(f"Compiled for this processor in {time.perf_counter() - start:.1f} s\n")

    classify(module, exe, photos)
    few_bits(console, args.images)
    if args.rounds:
        latency(module, photos[0].pixels, args.threads, args.rounds)


def classify(module: torch.nn.Module, exe: Any, photos: Sequence[Photo]) -> None:
    """Print the top-5 of each photograph, and how often the result is right and equal to torch's."""
    name_of = class_names()
    table = Table(title=f"{len(photos)} photographs, top-5 of the compiled network", title_justify="left")
    for column in ("photograph", "label", "top-5"):
        table.add_column(column, overflow="fold")
    top1 = top5 = agree = 0
    error = 0.0
    for photo in photos:
        logits = exe(photo.pixels)[0]
        with torch.inference_mode():
            eager = module(torch.from_numpy(photo.pixels)).numpy()[0]
        error = max(error, float(np.abs(logits - eager).max() / np.abs(eager).max()))
        probability = np.exp(logits - logits.max())
        probability /= probability.sum()
        best = [int(i) for i in np.argsort(-logits)[:5]]
        top1 += best[0] == photo.label
        top5 += photo.label in best
        agree += best[0] == int(eager.argmax())
        shown = ", ".join(("[green]{}[/]" if i == photo.label else "{}").format(f"{name_of(i)} {percent(probability[i])}") for i in best)
        table.add_row(photo.name, name_of(photo.label), shown)
    console.print(table)
    n = len(photos)
    console.print(f"Right: {top1} of {n} in the first place, {top5} of {n} among the first five (an anecdote, not an accuracy).")
    console.print(f"The same first place as eager torch: {agree} of {n}; largest difference of logits, relative to the largest logit: {error:.1e}\n")
    if error > 1e-4 or agree < n:
        raise SystemExit("the compiled network does not agree with torch")


def percent(p: float) -> str:
    return f"{p:.0%}" if p >= 0.01 else "<1%"


def latency(module: torch.nn.Module, x: np.ndarray, threads: Sequence[int], rounds: int) -> None:
    """Latency beside torch and onnxruntime, interleaved, each engine in its own process."""
    table = Table(title=f"Latency of one photograph, medians of {rounds} interleaved rounds (fastest to slowest)", title_justify="left")
    for column in ("threads", "tersor, ms", "onnxruntime, ms", "torch, ms", "tersor / onnxruntime", "tersor / torch"):
        table.add_column(column, justify="right", no_wrap=True)
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        example = Path(folder) / "x.npy"
        np.save(example, x)
        for count in (t for t in threads if t <= cores):
            models = prepare(module, x, Path(folder), count)
            with console.status(f"timing with {count} threads"), opened(models, example, count) as engines:
                times = interleaved(engines, rounds)
            cells = [f"{t.median:.2f} ({t.spread[0]:.1f}-{t.spread[1]:.1f})" for t in (times[e] for e in ("tersor", "onnxruntime", "torch"))]
            ratios = [f"{ratio(times['tersor'], times[peer]).median:.2f}" for peer in ("onnxruntime", "torch")]
            table.add_row(str(count), *cells, *ratios)
    console.print(table)


if __name__ == "__main__":
    main()
