"""Costs of a network besides latency: seconds to compile, to load and to a first result in a fresh process, and peak memory.

    python -m tersor.bench.costs [--networks resnet50] [--threads 1] [--rounds 5] [--out bench/results]

Loading and memory are those of a new process that has torch installed, with a saved model and 10 runs; engines alternate. Peak memory is
VmHWM, which counts the touched pages of mapped files. `tersor, winograd=0` has no transformed weights: the option that trades speed for
memory. Writes costs.json and costs.md.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .costs_report import markdown
from .engines import machine
from .models import GMACS, build
from .results_file import write_results

RUNS = 10
ENGINES = ("tersor", "tersor, winograd=0", "onnxruntime")
#: Runs in the new process: times from before the first import of the engine to its first result.
CHILD = """
import re, sys, time
import numpy as np
start = time.perf_counter()
engine, path, example, threads = sys.argv[1], sys.argv[2], np.load(sys.argv[3]), int(sys.argv[4])
if engine == "onnxruntime":
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    run = lambda x: session.run(None, {name: x})
else:
    import tersor
    run = tersor.load_compiled(path)
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


def measure(network: str, threads: int, rounds: int, folder: Path) -> dict[str, Any]:
    """One network: seconds to trace and to compile in this process, and of each engine the size of its file and what `fresh` says, by median."""
    import torch

    import tersor

    from .peers import Source

    x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    np.save(folder / "x.npy", x)
    source = Source(build(network), x, folder)
    start = time.perf_counter()
    graph = tersor.trace(source.module, (torch.from_numpy(x),))
    traced = time.perf_counter()
    exe = tersor.compile(graph, threads=threads)
    compiled = time.perf_counter()
    paths = {"tersor": folder / "model.tso", "tersor, winograd=0": folder / "direct.tso", "onnxruntime": source.onnx}
    exe.save(paths["tersor"])
    tersor.compile(graph, threads=threads, winograd=0).save(paths["tersor, winograd=0"])
    runs: dict[str, list[dict[str, Any]]] = {engine: [] for engine in ENGINES}
    for _ in range(rounds):
        for engine in ENGINES:
            runs[engine].append(fresh(engine, paths[engine], folder / "x.npy", threads))
    engines = {
        engine: {"file_mb": paths[engine].stat().st_size / 2**20}
        | {key: statistics.median(run[key] for run in mine) for key in ("load_s", "first_s", "process_s", "peak_mb")}
        | {"torch": any(run["torch"] for run in mine)}
        for engine, mine in runs.items()
    }
    return {"network": network, "trace_s": traced - start, "compile_s": compiled - traced, "engines": engines}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(GMACS), choices=list(GMACS), metavar="NAME")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args(argv)
    networks = []
    for network in args.networks:
        with tempfile.TemporaryDirectory() as name:
            networks.append(measure(network, args.threads, args.rounds, Path(name)))
        print(json.dumps(networks[-1]), flush=True)
    report = {"machine": machine(), "threads": args.threads, "rounds": args.rounds, "runs": RUNS, "networks": networks}
    args.out.mkdir(parents=True, exist_ok=True)
    write_results(args.out / "costs.json", report)
    (args.out / "costs.md").write_text(markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
