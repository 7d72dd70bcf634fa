"""Pointwise convolutions with zeros among the weights: the sparse kernel beside the dense one, layer by layer, and MobileNetV1 whole.

python -m tersor.bench.sparse_kernels build            # compile, which takes a minute, into the cache folder of `bench.train`
python -m tersor.bench.sparse_kernels measure [--out bench/results/sparse_kernels.json]

All kernels of a layer are in one model, so a run times them one after the other, interleaved; the fastest of all runs counts. Zeros are random.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import compile as compile_graph
from .. import load_compiled, trace, transform
from ..backend.compile import build
from ..backend.kernels.cpu.sparse.pointwise import VECTORS, SparsePointwise
from ..backend.pipelines import lower, resume
from ..backend.target import resolve
from ..backend.tile.fusion import Fusion
from ..backend.tile.ops import Fused, TileConv2d
from ..ir.graph import Graph
from ..ir.op import Const
from ..ir.ops import Conv2d, Relu
from ..ir.types import Tensor
from .models import mobilenet_v1
from .results_file import write_results
from .train import cache_folder

RESULTS = Path(__file__).parent / "results" / "sparse_kernels.json"
#: Input channels, output channels, height and width: the pointwise layers of MobileNetV1 at 224x224.
LAYERS = ((64, 128, 56), (128, 128, 56), (128, 256, 28), (256, 256, 28), (256, 512, 14), (512, 512, 14), (512, 1024, 7), (1024, 1024, 7))
SPARSITIES = (0.7, 0.8, 0.9, 0.95)


def layer_graph(cin: int, cout: int, size: int) -> Graph:
    """One dense convolution and ReLU, and one for each sparsity and number of vectors, all of one input."""
    rng = np.random.default_rng(0)
    graph = Graph()
    x = graph.add_input(Tensor((1, cin, size, size)), "x")
    outputs = []
    for share in (0.0, *(s for s in SPARSITIES for _ in VECTORS)):
        w = rng.standard_normal((cout, cin, 1, 1)).astype(np.float32)
        w[rng.random(w.shape) < share] = 0
        outputs.append(graph.add(Relu(Conv2d(x, Const(w), Const(rng.standard_normal(cout).astype(np.float32))))))
    graph.set_outputs(outputs)
    return graph


def folder() -> Path:
    return cache_folder() / "sparse-kernels"


def build_all() -> None:
    """Compile what is missing."""
    folder().mkdir(parents=True, exist_ok=True)
    target, template = resolve("cpu"), SparsePointwise()
    for layer in LAYERS:
        path = folder() / f"{'x'.join(map(str, layer))}.tso"
        if path.exists():
            continue
        graph = lower(layer_graph(*layer), target, until="select-kernels")
        convs = [op for op in graph.ops if isinstance(op, Fused) and isinstance(op.body.ops[0], TileConv2d)]
        for op in convs[:1]:
            assert op.template != template.name
        for i, op in enumerate(convs[1:]):
            op.template, op.params, op.chosen = template.name, {"vectors": VECTORS[i % len(VECTORS)]}, "model"
            assert template.accepts(Fusion(op), target)
        build([(None, resume(graph, "select-kernels", target))], target).save(path)
        print(path, flush=True)
    for name in ("dense", "sparse"):
        path = folder() / f"mobilenet_v1-{name}.tso"
        if not path.exists():
            with torch.random.fork_rng():
                torch.manual_seed(0)
                graph = trace(mobilenet_v1().eval(), (torch.zeros(1, 3, 224, 224),))
            if name == "sparse":
                others = [op.loc.path for op in graph.find(Conv2d) if op.kernel != (1, 1)]  # type: ignore[attr-defined]
                graph = transform(graph, f"sparsify{{sparsity=0.9 exclude={json.dumps(others)}}}")
            exe = compile_graph(graph, batch=1)
            exe.save(path)
            print(path, exe.report, flush=True)


def measure(rounds: int) -> dict[str, Any]:
    """Milliseconds: of each layer dense, and sparse by sparsity and vectors; of the network."""
    layers = []
    for layer in LAYERS:
        rows = [r for r in load_compiled(folder() / f"{'x'.join(map(str, layer))}.tso").profile(rounds=rounds).rows if r.macs]
        dense, sparse = rows[0].time, [r.time for r in rows[1:]]
        n = len(VECTORS)
        times = {f"{s:g}": dict(zip(map(str, VECTORS), sparse[i * n : (i + 1) * n])) for i, s in enumerate(SPARSITIES)}
        layers.append({"cin": layer[0], "cout": layer[1], "size": layer[2], "dense": dense, "template": rows[0].template, "sparse": times})
    models = {name: load_compiled(folder() / f"mobilenet_v1-{name}.tso") for name in ("dense", "sparse")}
    best: dict[str, float] = {}
    for _ in range(5):
        for name, model in models.items():
            best[name] = min(best.get(name, np.inf), model.benchmark(repeat=10, warmup=2).min)
    return {"processor": processor(), "layers": layers, "mobilenet_v1": best}


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def table(results: dict[str, Any]) -> str:
    """Markdown: how many times faster than dense, the best number of vectors."""
    lines = ["| layer | dense, ms | " + " | ".join(f"{100 * s:.0f} % zeros" for s in SPARSITIES) + " |", "|---" * (2 + len(SPARSITIES)) + "|"]
    for r in results["layers"]:
        best = {s: min(times.items(), key=lambda x: x[1]) for s, times in r["sparse"].items()}
        cells = [f"{r['dense'] / time:.2f}x ({v})" for v, time in best.values()]
        lines.append(f"| {r['cin']} to {r['cout']}, {r['size']}x{r['size']} | {r['dense']:.4f} | " + " | ".join(cells) + " |")
    net = results["mobilenet_v1"]
    lines.append(f"\nMobileNetV1, 90 % of the pointwise weights zero: {net['dense']:.2f} ms dense, {net['sparse']:.2f} ms sparse.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["build", "measure"])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.what == "build":
        build_all()
        return
    results = measure(args.rounds)
    write_results(args.out, results)
    print(table(results))


if __name__ == "__main__":
    main()
