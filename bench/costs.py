"""What a network costs around its latency: seconds to compile, to load and give a first result in a fresh process, and peak memory.

    python -m tersor.bench.costs [--network resnet50] [--threads 1] [--rounds 5] [--json bench/results/costs.json]

Loading and memory are those of a new process that has torch installed, with a saved model and 10 runs; engines take turns. Peak memory is
VmHWM, which counts mapped files as far as they were touched.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from .engines import machine
from .models import GMACS, build
from .peers import prepare

RUNS = 10
#: Runs in the new process: times from before the first import of the engine to its first result.
CHILD = """
import re, sys, time
import numpy as np
start = time.perf_counter()
engine, path, example, threads = sys.argv[1], sys.argv[2], np.load(sys.argv[3]), int(sys.argv[4])
if engine == "tersor":
    import tersor
    run = tersor.load_compiled(path)
else:
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    run = lambda x: session.run(None, {name: x})
loaded = time.perf_counter()
run(example)
first = time.perf_counter()
for _ in range(int(sys.argv[5])):
    run(example)
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
print(loaded - start, first - start, peak / 1024, "torch" in sys.modules)
"""


def fresh(engine: str, path: Path, example: Path, threads: int) -> dict[str, Any]:
    """One new process: seconds to load and to the first result, seconds with the interpreter's start, MB at the peak."""
    env = os.environ | {"TVM_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    command = [sys.executable, "-c", CHILD, engine, str(path), str(example), str(threads), str(RUNS)]
    text = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    whole = time.perf_counter() - start
    load, first, peak, torch = text.split()
    return {"load_s": float(load), "first_s": float(first), "process_s": whole, "peak_mb": float(peak), "torch": torch == "True"}


def compile_seconds(network: str, threads: int) -> tuple[float, float]:
    """Seconds to trace and to compile, in this process."""
    import torch

    import tersor

    module, x = build(network), torch.randn(1, 3, 224, 224)
    start = time.perf_counter()
    graph = tersor.trace(module, (x,))
    traced = time.perf_counter()
    tersor.compile(graph, threads=threads)
    return traced - start, time.perf_counter() - traced


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet50", choices=list(GMACS), metavar="NAME")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    trace_s, compile_s = compile_seconds(args.network, args.threads)
    rows: dict[str, list[dict[str, Any]]] = {"tersor": [], "onnxruntime": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
        np.save(folder / "x.npy", x)
        models = prepare(build(args.network), x, folder, args.threads)
        sizes = {engine: models[engine].stat().st_size / 2**20 for engine in rows}
        for _ in range(args.rounds):
            for engine, results in rows.items():
                results.append(fresh(engine, models[engine], folder / "x.npy", args.threads))
    print(f"{args.network}, {args.threads} thread(s): traced in {trace_s:.1f} s, compiled in {compile_s:.1f} s")
    print(f"{'':12} {'file MB':>8} {'load s':>8} {'first result s':>15} {'whole process s':>16} {'peak MB':>8}   median of {args.rounds}, in turns")
    for engine, results in rows.items():
        load, first, process, peak = (statistics.median(r[k] for r in results) for k in ("load_s", "first_s", "process_s", "peak_mb"))
        print(f"{engine:12} {sizes[engine]:8.1f} {load:8.3f} {first:15.3f} {process:16.2f} {peak:8.0f}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        result = {"network": args.network, "threads": args.threads, "trace_s": trace_s, "compile_s": compile_s, "file_mb": sizes, "rows": rows}
        args.json.write_text(json.dumps(result | {"machine": machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
