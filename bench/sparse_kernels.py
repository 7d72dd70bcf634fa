"""Pointwise convolutions with zeros among the weights: the sparse kernel beside the dense one, layer by layer, and MobileNetV1 whole.

python -m tersor.bench.sparse_kernels build [--int8] [--target cpu]    # compile, which takes a minute, into the cache folder of `bench.train`
python -m tersor.bench.sparse_kernels measure [--int8] [--target cpu] [--out bench/results/sparse_kernels.json]

All kernels of a layer are in one model, so a run times them one after the other, interleaved; the fastest of all runs counts. Zeros are random.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import compile as compile_graph
from .. import load_compiled, trace, transform
from ..backend.compile import build
from ..backend.kernels.cpu.sparse.integer import SparseIntPointwise
from ..backend.kernels.cpu.sparse.pointwise import VECTORS, SparseConv, SparsePointwise
from ..backend.pipelines import lower, resume
from ..backend.target import resolve
from ..backend.tile.fusion import Fusion
from ..backend.tile.integer import TileIntConv2d
from ..backend.tile.ops import Fused, TileConv2d
from ..ir.graph import Graph
from ..ir.op import Const
from ..ir.ops import Conv2d, Dequantize, QuantConv2d, Quantize, Relu, Requantize
from ..ir.types import Tensor, Uniform
from .models import mobilenet_v1
from .results_file import write_results
from .train import cache_folder

RESULTS = Path(__file__).parent / "results" / "sparse_kernels.json"
#: Input channels, output channels, height and width: the pointwise layers of MobileNetV1 at 224x224.
LAYERS = ((64, 128, 56), (128, 128, 56), (128, 256, 28), (256, 256, 28), (256, 512, 14), (512, 512, 14), (512, 1024, 7), (1024, 1024, 7))
SPARSITIES = (0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Setting:
    """int8: on u8 maps, with i8 weights, instead of float32."""

    target: str
    int8: bool

    @property
    def template(self) -> SparseConv:
        return SparseIntPointwise() if self.int8 else SparsePointwise()

    def file(self, name: str) -> Path:
        """Where a compiled model is kept."""
        return cache_folder() / "sparse-kernels" / f"{name}-{self.target.replace(':', '-')}{'-int8' if self.int8 else ''}.tso"


def layer_graph(cin: int, cout: int, size: int, int8: bool) -> Graph:
    """One dense convolution and ReLU, and one for each sparsity and number of vectors, all of one input."""
    rng = np.random.default_rng(0)
    graph = Graph()
    x = graph.add_input(Tensor((1, cin, size, size)), "x")
    u8 = Uniform("u8", (1 / 64,), (0,))
    stored = Quantize(x, u8)
    outputs = []
    for share in (0.0, *(s for s in SPARSITIES for _ in VECTORS)):
        w = rng.standard_normal((cout, cin, 1, 1)).astype(np.float32)
        w[rng.random(w.shape) < share] = 0
        if int8:
            bytes_ = np.rint(w * 30).clip(-127, 127).astype(np.int8)
            scaled = Const(bytes_, Uniform("i8", (1 / 1024,) * cout, (0,) * cout, 0))
            outputs.append(graph.add(Dequantize(Requantize(QuantConv2d(stored, scaled, None), Uniform("u8", (1 / 8,), (0,))))))
        else:
            outputs.append(graph.add(Relu(Conv2d(x, Const(w), Const(rng.standard_normal(cout).astype(np.float32))))))
    graph.set_outputs(outputs)
    return graph


def build_all(setting: Setting) -> None:
    """Compile what is missing."""
    target, template = resolve(setting.target), setting.template
    for layer in LAYERS:
        path = setting.file("x".join(map(str, layer)))
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        graph = lower(layer_graph(*layer, setting.int8), target, until="select-kernels")
        convs = [op for op in graph.ops if isinstance(op, Fused) and isinstance(op.body.ops[0], TileConv2d | TileIntConv2d)]
        # the dense one stays as it is
        for i, op in enumerate(convs[1:]):
            params = {p["vectors"]: p for p in template.candidates(Fusion(op), target, 1)}
            op.template, op.chosen = template.name, "model"
            op.params = params.get(VECTORS[i % len(VECTORS)]) or next(iter(params.values()))
            assert template.accepts(Fusion(op), target)
        build([(None, resume(graph, "select-kernels", target))], target).save(path)
        print(path, flush=True)
    for name in ("dense", "sparse"):
        path = setting.file(f"mobilenet_v1-{name}")
        if not path.exists():
            graph = network(name == "sparse", setting.int8)
            exe = compile_graph(graph, setting.target, batch=1, require="int8" if setting.int8 else None)
            exe.save(path)
            print(path, exe.report, flush=True)


def network(sparse: bool, int8: bool) -> Graph:
    """MobileNetV1 with random weights, 90 % of those of its pointwise layers zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        graph = trace(mobilenet_v1().eval(), (torch.zeros(1, 3, 224, 224),))
        images = torch.randn(4, 3, 224, 224)
    if sparse:
        others = [op.loc.path for op in graph.find(Conv2d) if op.kernel != (1, 1)]  # type: ignore[attr-defined]
        graph = transform(graph, f"sparsify{{sparsity=0.9 exclude={json.dumps(others)}}},freeze-sparsity")
    return transform(graph, "int8", calibration=[images]) if int8 else graph


def measure(setting: Setting, rounds: int) -> dict[str, Any]:
    """Milliseconds: of each layer dense, and sparse by sparsity and vectors; of the network."""
    layers = []
    for layer in LAYERS:
        rows = [r for r in load_compiled(setting.file("x".join(map(str, layer)))).profile(rounds=rounds).rows if r.macs]
        dense, sparse = rows[0].time, [r.time for r in rows[1:]]
        n = len(VECTORS)
        times = {f"{s:g}": dict(zip(map(str, VECTORS), sparse[i * n : (i + 1) * n])) for i, s in enumerate(SPARSITIES)}
        layers.append({"cin": layer[0], "cout": layer[1], "size": layer[2], "dense": dense, "template": rows[0].template, "sparse": times})
    models = {name: load_compiled(setting.file(f"mobilenet_v1-{name}")) for name in ("dense", "sparse")}
    best: dict[str, float] = {}
    for _ in range(5):
        for name, model in models.items():
            best[name] = min(best.get(name, np.inf), model.benchmark(repeat=10, warmup=2).min)
    return {"processor": processor(), "target": setting.target, "int8": setting.int8, "layers": layers, "mobilenet_v1": best}


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
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--int8", action="store_true", help="u8 maps and i8 weights")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    setting = Setting(args.target, args.int8)
    if args.what == "build":
        build_all(setting)
        return
    results = measure(setting, args.rounds)
    write_results(args.out, results)
    print(table(results))


if __name__ == "__main__":
    main()
