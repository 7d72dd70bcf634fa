"""Costs of pruning a network: seconds, peak memory, rows of each least-squares problem, and SQNR of the outputs.

    python -m tersor.bench.pruning_costs [--network resnet50] [--methods obs lasso] [--images 256] [--macs 0.5] [--threads 2] [--out bench/results]

Random weights and smooth random images, both with a seed: time and memory do not depend on them, the SQNR does (photographs and trained weights:
accuracy.py). Each method runs in a process of its own, whose peak memory is what the kernel counted (getrusage). Time is that of the whole
`transform`, its own measurement of the loss included. Writes pruning_costs.json and pruning_costs.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from .engines import machine
from .results_file import write_results

if TYPE_CHECKING:
    import torch

    from tersor.ir.graph import Graph

#: Goals for ResNet-50 with 256 images on two cores.
MINUTES, GB = 15, 6
#: Rows per kept unknown where the maps allow.
RATIO = 2
#: Images on which the pruned network is evaluated.
OTHERS = 64


def smooth_images(count: int, size: int, seed: int) -> torch.Tensor:
    """f32 (count, 3, size, size): noise of a quarter of the size, enlarged, so that neighbouring pixels are correlated."""
    import torch
    import torch.nn.functional as F

    coarse = torch.randn(count, 3, max(size // 4, 1), max(size // 4, 1), generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(size, size), mode="bilinear")


@contextmanager
def fits_recorded() -> Iterator[list[dict[str, Any]]]:
    """Each final refit of a layer inside: its location, the pixels of its map, rows, and unknowns of a response."""
    from tersor.passes.prune import layerwise
    from tersor.passes.reconstruct.rows import pixels, refit

    fits: list[dict[str, Any]] = []

    def recorded(layer: Any, *args: Any, **kwargs: Any) -> Any:
        solved = refit(layer, *args, **kwargs)
        # without the machine's paths
        where = f"{layer.name} [{layer.loc}]".replace(f"{Path(__file__).resolve().parents[1]}/", "")
        fits.append({"layer": where, "pixels": pixels(layer), "rows": solved.rows, "unknowns": solved.unknowns})
        return solved

    with mock.patch.object(layerwise, "refit", recorded):
        yield fits


def prune(graph: Graph, images: torch.Tensor, others: torch.Tensor, method: str, macs: float) -> dict[str, Any]:
    """Prune once: seconds in all and by stage, MACs left, the fits, warnings, and dB of the outputs for `others`.

    sqnr_db counts the outputs as they are; varying_db only what differs from image to image, which random networks have little of.
    """
    import tersor

    stages: dict[str, float] = {}
    start, busy = time.perf_counter(), time.process_time()

    def progress(what: str, done: int, total: int) -> None:
        stages[what] = time.perf_counter() - start

    with fits_recorded() as fits, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pipeline = f"fold-bn,prune-channels{{macs={macs:g} method={method}}}"
        small = tersor.transform(graph, pipeline, calibration=[images[i : i + 32] for i in range(0, len(images), 32)], seed=0, progress=progress)
    seconds, cpu = time.perf_counter() - start, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    y, z = (g(others).double() for g in (graph, small))
    noise, mean = (y - z).square().sum(), y.mean(0)
    return {
        "method": method,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "pass_seconds": small.report["prune-channels"].seconds,
        "until": {what: at for what, at in stages.items() if what != "passes"},
        "peak_gb": peak,
        "macs": small.macs() / graph.macs(),
        "parameters": small.report[-1].parameters / small.report[0].parameters,
        "sqnr_db": float(10 * (y.square().sum() / noise).log10()),
        "varying_db": float(10 * ((y - mean).square().sum() / ((y - z) - (y - z).mean(0)).square().sum()).log10()),
        "fits": fits,
        "warnings": [str(w.message) for w in caught],
    }


def one(network: str, method: str, images: int, size: int, macs: float) -> dict[str, Any]:
    """`prune` of a network of bench/models.py in this process."""
    import torch

    import tersor

    from .models import build

    graph = tersor.trace(build(network), (torch.zeros(1, 3, size, size),))
    return prune(graph, smooth_images(images, size, 1), smooth_images(OTHERS, size, 2), method, macs)


def fresh(network: str, method: str, images: int, size: int, macs: float, threads: int) -> dict[str, Any]:
    """`one` in a new process with so many threads."""
    env = os.environ | {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    code = f"import json; from tersor.bench.pruning_costs import one; print(json.dumps(one({network!r}, {method!r}, {images}, {size}, {macs})))"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, env=env)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def ratios(fits: Sequence[dict[str, Any]]) -> list[tuple[float, dict[str, Any]]]:
    """Rows per unknown of each fit, fewest first."""
    return sorted(((fit["rows"] / max(fit["unknowns"], 1), fit) for fit in fits), key=lambda pair: pair[0])


def markdown(report: dict[str, Any]) -> str:
    """pruning_costs.md"""
    m, n = report["machine"], report["images"]
    header = ["method", "minutes", "CPU minutes", "sensitivities, minutes", "peak, GB", "MACs", "parameters", "SQNR, dB", "of what varies, dB"]
    header += ["refits", "fewest rows per unknown"]
    lines = [
        "# What pruning costs",
        "",
        f"{report['network']}, random weights, {n} images of {report['size']} pixels, to {report['macs']:.0%} of the MACs; "
        f"{report['threads']} threads, each method in a process of its own; {m['processor']}, {m['date']}, commit {m['commit'] or 'unknown'}. "
        f"SQNR on {OTHERS} other images, and of what varies from image to image alone.",
        f"Asked of ResNet-50 at 224 pixels with 256 images: under {MINUTES} minutes and {GB} GB.",
        "",
        f"| {' | '.join(header)} |",
        f"|---{'|--:' * (len(header) - 1)}|",
    ]
    for run in report["runs"]:
        by_ratio = ratios(run["fits"])
        sensitivity = next((at for what, at in run["until"].items() if "sensitivity" in what), 0.0)
        minutes = [f"{run[key] / 60:.1f}" for key in ("seconds", "cpu_seconds")]
        cells = [run["method"], *minutes, f"{sensitivity / 60:.1f}", f"{run['peak_gb']:.2f}", f"{run['macs']:.3f}"]
        cells += [f"{run['parameters']:.3f}", f"{run['sqnr_db']:.1f}", f"{run['varying_db']:.1f}", str(len(run["fits"]))]
        lines.append(f"| {' | '.join([*cells, f'{by_ratio[0][0]:.2f}' if by_ratio else ''])} |")
    lines += ["", f"Refits with fewer than {RATIO} rows per unknown:", ""]
    few = [f"- {run['method']}: {told(ratio, fit, n)}" for run in report["runs"] for ratio, fit in ratios(run["fits"]) if ratio < RATIO]
    lines += few or ["- none"]
    return "\n".join([*lines, *(f"\n{run['method']} warns: {text}" for run in report["runs"] for text in run["warnings"])]) + "\n"


def told(ratio: float, fit: dict[str, Any], images: int) -> str:
    """One refit with few rows, and whether its map has more."""
    most = fit["pixels"] * images
    why = "its map has no more" if fit["rows"] == most else f"of {most:,} that its map has"
    return f"{fit['layer']}: {fit['rows']:,} rows, {why}; {fit['unknowns']:,} unknowns, {ratio:.2f}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--methods", nargs="+", default=["obs", "lasso"])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--macs", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args(argv)
    about = {"machine": machine(), "network": args.network, "images": args.images, "size": args.size, "macs": args.macs, "threads": args.threads}
    args.out.mkdir(parents=True, exist_ok=True)
    runs: list[dict[str, Any]] = []
    for method in args.methods:
        runs.append(fresh(args.network, method, args.images, args.size, args.macs, args.threads))
        # after each method, so that results survive when a later one fails
        report = about | {"runs": runs}
        write_results(args.out / "pruning_costs.json", report)
        (args.out / "pruning_costs.md").write_text(markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
