"""Latency of pruned networks beside the original and beside networks that were built at that size, and the same for a factorized one.

    python -m tersor.bench.pruned_latency [--networks resnet18 vgg16] [--winograd 4 0] [--threads 1] [--rounds 9] [--models DIR] [--prepare]
                                          [--keep] [--out bench/results]

Only sizes matter, not weights: these are random, channels are chosen by l1, nothing is refitted (accuracy.py has both for trained networks).
"Built" is the torch network whose convolutions have the channel counts of the pruned one: its batch norms folded, and where a branch reads some
channels of a stream, it reads the first ones. The cost model chooses all kernels, since the shipped database has only the original's. All models of
a network are interleaved, each in its own process. --models keeps the compiled ones; --prepare stops after compiling: only one plan, whose budget
is a latency, is timed meanwhile. --keep adds to an earlier run's records.
Writes pruned_latency.json and pruned_latency.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .engines import Engine, interleaved, machine, ratio
from .pruned_latency_report import markdown
from .results_file import write_results

if TYPE_CHECKING:
    from torch import nn

    from tersor.ir.graph import Graph

#: Label -> pipeline.
PLANS = {
    "uniform": "fold-bn,prune-channels{macs=0.5 round_to=16 method=l1 reconstruct=false per_layer=uniform}",
    "uniform, branches read whole streams": "fold-bn,prune-channels{macs=0.5 round_to=16 method=l1 reconstruct=false per_layer=uniform "
    "sample_inputs=false}",
    "by sensitivity": "fold-bn,prune-channels{macs=0.5 round_to=16 method=l1 reconstruct=false}",
    "by sensitivity, latency=0.5": "fold-bn,prune-channels{latency=0.5 round_to=16 method=l1 reconstruct=false}",
    "uniform, then depthwise-separable": "fold-bn,prune-channels{macs=0.7 round_to=16 method=l1 reconstruct=false per_layer=uniform},"
    "to-depthwise-separable{rank=1 reconstruct=false}",
}
#: Images that sensitivities are measured with.
IMAGES = 8
NETWORKS = ("resnet18", "vgg16")


def plans_of(network: str) -> dict[str, str]:
    """VGG-16 has no streams to read in parts."""
    return PLANS if network != "vgg16" else {label: text for label, text in PLANS.items() if "streams" not in label}


def built(module: nn.Module, graph: Graph) -> nn.Module:
    """The module with convolutions and linear layers of the sizes that stand at their places in the graph; the module is changed."""
    from torch import nn

    from tersor.ir.ops import Conv2d, IndexSelect, Linear

    class First(nn.Module):
        """The first channels."""

        def __init__(self, count: int):
            super().__init__()
            self.count = count

        def forward(self, x: Any) -> Any:
            return x[:, : self.count]

    def layer(op: Conv2d | IndexSelect | Linear) -> nn.Module:
        if isinstance(op, IndexSelect):
            return First(op.out.shape[1])
        if isinstance(op, Linear):
            return nn.Linear(op.w.shape[1], op.w.shape[0])
        top, bottom, left, right = op.padding
        assert (top, left) == (bottom, right)
        return nn.Conv2d(op.w.shape[1] * op.groups, op.w.shape[0], op.kernel, op.stride, (top, left), op.dilation, op.groups, op.b is not None)

    places: dict[str, list[nn.Module]] = {name: [] for name, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    for op in graph.ops:
        if isinstance(op, Conv2d | IndexSelect | Linear):
            # factors are called after the layer that they stand for
            places[next(name for name in places if f"{op.loc.path}.".startswith(f"{name}."))].append(layer(op))
    places |= {name: [nn.Identity()] for name, m in module.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for path, layers in places.items():
        parent, _, name = path.rpartition(".")
        setattr(module.get_submodule(parent), name, layers[0] if len(layers) == 1 else nn.Sequential(*layers))
    return module


def models(network: str, size: int) -> dict[tuple[str, str], Graph]:
    """(plan, variant) -> graph: the original, and of each plan what the passes make and the one built at its size."""
    import torch

    import tersor

    from .models import SEVEN, randomize
    from .pruning_costs import smooth_images

    example = torch.zeros(1, 3, size, size)

    def traced(module: nn.Module) -> Graph:
        return tersor.trace(randomize(module, (smooth_images(4, size, 1),)), (example,))

    original = traced(SEVEN[network]())
    found = {("", "original"): original}
    for plan, pipeline in plans_of(network).items():
        small = tersor.transform(original, pipeline, calibration=[smooth_images(IMAGES, size, 2)])
        found[plan, "by passes"] = small
        found[plan, "built"] = traced(built(SEVEN[network](), small))
    return found


def prepare(network: str, winograd: Sequence[int], threads: int, folder: Path, size: int = 224) -> None:
    """Compile what is not in the folder yet: model files, and beside each a record with its MACs, bytes and error against evaluation."""
    import torch

    import tersor

    missing = [w for w in winograd if not (folder / f"{network}-{threads}-{w}.json").exists()]
    graphs = models(network, size) if missing else {}
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(3))
    for w in missing:
        records = []
        for i, ((plan, variant), graph) in enumerate(graphs.items()):
            exe = tersor.compile(graph, threads=threads, winograd=w, tuned=False)
            path = folder / f"{network}-{threads}-{w}-{i}.tso"
            exe.save(path)
            y = graph(x).numpy()
            error = float(np.abs(exe(x.numpy()) - y).max() / np.abs(y).max())
            about = {"file": path.name, "macs": graph.macs(), "nbytes": graph.nbytes(), "error": error}
            records.append({"network": network, "threads": threads, "winograd": w, "plan": plan, "variant": variant} | about)
        (folder / f"{network}-{threads}-{w}.json").write_text(json.dumps(records))


def measure(network: str, winograd: int, threads: int, folder: Path, rounds: int, seconds: float, size: int = 224) -> list[dict[str, Any]]:
    """The records of `prepare` with times in ms: medians of the rounds, of convolutions alone, and the original's as a multiple."""
    import tersor

    records: list[dict[str, Any]] = json.loads((folder / f"{network}-{threads}-{winograd}.json").read_text())
    np.save(folder / "x.npy", np.random.default_rng(0).standard_normal((1, 3, size, size)).astype(np.float32))
    cpus = sorted(os.sched_getaffinity(0), reverse=True)
    with contextlib.ExitStack() as stack:
        engines = []
        for r in records:
            engine = Engine("tersor", folder / r["file"], folder / "x.npy", threads, cpus)
            stack.callback(engine.close)
            engine.name = r["file"]
            engines.append(engine)
        times = interleaved(engines, rounds, seconds)
    of_plan = {r["plan"]: times[r["file"]] for r in records if r["variant"] == "by passes"}
    for r in records:
        mine = times[r["file"]]
        rows = tersor.load_compiled(folder / r["file"]).profile(rounds=5).rows
        r |= {"rounds_ms": mine.rounds, "median_ms": mine.median, "conv_ms": sum(row.time for row in rows if "conv" in row.op)}
        r["faster"] = asdict(ratio(times[records[0]["file"]], mine))
        r["to_built"] = asdict(ratio(of_plan[r["plan"]], mine)) if r["variant"] == "built" else None
    return records


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--winograd", nargs="+", type=int, default=[4, 0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.25, help="of one model in one round")
    parser.add_argument("--models", type=Path, help="folder of compiled models, kept")
    parser.add_argument("--prepare", action="store_true", help="only compile")
    parser.add_argument("--keep", action="store_true", help="keep the other records of the JSON file")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args(argv)
    path = args.out / "pruned_latency.json"
    results = json.loads(path.read_text())["results"] if args.keep and path.exists() else []
    with contextlib.ExitStack() as stack:
        folder = args.models or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        for network in args.networks:
            prepare(network, args.winograd, args.threads, folder)
            for w in () if args.prepare else args.winograd:
                new = measure(network, w, args.threads, folder, args.rounds, args.seconds)
                results = [r for r in results if (r["network"], r["threads"], r["winograd"]) != (network, args.threads, w)] + new
    if args.prepare:
        return
    report = {"machine": machine(), "rounds": args.rounds, "seconds": args.seconds, "results": results}
    args.out.mkdir(parents=True, exist_ok=True)
    write_results(path, report)
    path.with_suffix(".md").write_text(markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
