"""Inference engines under measurement: each in a process of its own, timed in turns.

A process holds one engine with one model and runs a batch of timings when it is told to, so that A B A B is possible, thread pools never
share a process, and all engines are bound to the same processors. `python -m tersor.bench.engines` is such a process.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]


# -- inside the process ------------------------------------------------------------------------


def open_tersor(path: str, threads: int) -> Run:
    """A .tso; its thread count is in its code."""
    import tersor

    exe = tersor.load_compiled(path)
    return lambda x: np.asarray(exe(x))


def open_onnxruntime(path: str, threads: int) -> Run:
    """An .onnx on the CPU provider, all graph optimizations on."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: np.asarray(session.run(None, {name: x})[0])


def open_torch(path: str, threads: int) -> Run:
    """A module saved by torch.save, run eagerly in inference mode."""
    import torch

    torch.set_num_threads(threads)
    module = torch.load(path, weights_only=False).eval()

    def run(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(x)).numpy())

    return run


ENGINES: dict[str, Callable[[str, int], Run]] = {"tersor": open_tersor, "onnxruntime": open_onnxruntime, "torch": open_torch}


def serve() -> None:
    """Answer commands, one JSON object a line, until standard input ends. What engines print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    first = json.loads(sys.stdin.readline())
    os.sched_setaffinity(0, first["cpus"])
    run = ENGINES[first["engine"]](first["path"], first["threads"])
    x = np.load(first["input"])
    for _ in range(3):
        run(x)
    answers.write("{}\n")
    for text in sys.stdin:
        command = json.loads(text)
        if "runs" in command:
            milliseconds = []
            for _ in range(command["runs"]):
                start = time.perf_counter()
                run(x)
                milliseconds.append(1e3 * (time.perf_counter() - start))
            answers.write(json.dumps(milliseconds) + "\n")
        else:
            np.save(command["output"], run(np.load(command["input"])))
            answers.write("{}\n")


# -- outside -----------------------------------------------------------------------------------


class Engine:
    """One engine with one model and input in its own process, bound to the first `threads` of the given processors."""

    def __init__(self, name: str, path: Path, example: Path, threads: int, cpus: Sequence[int]):
        self.name = name
        self.folder = example.parent
        # TVM binds a pool of its own to the first cores otherwise, whatever the process is bound to
        env = os.environ | {"TVM_NUM_THREADS": str(threads), "TVM_BIND_THREADS": "0", "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "tersor.bench.engines"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self._ask({"engine": name, "path": str(path), "input": str(example), "threads": threads, "cpus": list(cpus[:threads])})

    def _ask(self, command: Mapping[str, Any]) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"the process of {self.name} ended with code {self.process.wait()}; its message is above")
        return json.loads(answer)

    def time(self, runs: int) -> list[float]:
        """Milliseconds of each of `runs` runs."""
        return list(self._ask({"runs": runs}))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        given, got = self.folder / f"{self.name}_in.npy", self.folder / f"{self.name}_out.npy"
        np.save(given, x)
        self._ask({"input": str(given), "output": str(got)})
        return np.asarray(np.load(got))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@contextlib.contextmanager
def opened(models: Mapping[str, Path], example: Path, threads: int) -> Iterator[list[Engine]]:
    """The engines of `{engine: model file}`, closed at the end. The last processors are taken: the first serve most interrupts."""
    cpus = sorted(os.sched_getaffinity(0), reverse=True)
    with contextlib.ExitStack() as stack:
        engines = []
        for name, path in models.items():
            engine = Engine(name, path, example, threads, cpus)
            stack.callback(engine.close)
            engines.append(engine)
        yield engines


@dataclass(frozen=True)
class Latency:
    """Medians of the rounds of one engine, in milliseconds."""

    rounds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def spread(self) -> tuple[float, float]:
        """Fastest and slowest round."""
        return min(self.rounds), max(self.rounds)


@dataclass(frozen=True)
class Ratio:
    """Time of one engine as a multiple of another's, round by round, so that drift of the machine cancels."""

    median: float
    low: float
    high: float


def interleaved(
    engines: Sequence[Engine], rounds: int, seconds: float = 0.25, progress: Callable[[int], None] = lambda done: None
) -> dict[str, Latency]:
    """A B C A B C ...: in every round each engine runs for about `seconds`; the order turns by one from round to round."""
    runs = {e.name: max(1, int(1e3 * seconds / min(e.time(2)))) for e in engines}
    medians: dict[str, list[float]] = {e.name: [] for e in engines}
    for r in range(rounds):
        for i in range(len(engines)):
            engine = engines[(i + r) % len(engines)]
            # the spinning threads of the engine before it come to rest
            time.sleep(0.02)
            medians[engine.name].append(statistics.median(engine.time(runs[engine.name])))
        progress(r + 1)
    return {name: Latency(times) for name, times in medians.items()}


def ratio(ours: Latency, peer: Latency) -> Ratio:
    """ours / peer."""
    each = [a / b for a, b in zip(ours.rounds, peer.rounds)]
    return Ratio(statistics.median(each), min(each), max(each))


# -- models for the engines --------------------------------------------------------------------


def prepare(module: Any, x: np.ndarray, folder: Path, threads: int) -> dict[str, Path]:
    """Files that the three engines open, for a torch module at the input `x`."""
    import torch

    import tersor

    example = torch.from_numpy(x)
    models = {"tersor": folder / f"model_{threads}.tso", "onnxruntime": folder / "model.onnx", "torch": folder / "model.pt"}
    if not models["onnxruntime"].exists():
        torch.save(module, models["torch"])
        export_onnx(module, example, models["onnxruntime"])
    graph = tersor.trace(module, (example,))
    tersor.compile(graph, threads=threads, batch=len(x)).save(models["tersor"])
    return models


def export_onnx(module: Any, example: Any, path: Path) -> None:
    """Torch's own exporter: batch norms folded, opset 17."""
    import logging
    import warnings

    import torch

    with warnings.catch_warnings():
        # the exporter that is not deprecated needs onnxscript, and gives the same graph for these networks
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            torch.onnx.export(module, (example,), str(path), opset_version=17, dynamo=False)
        finally:
            logging.disable(logging.NOTSET)


def machine() -> dict[str, Any]:
    """What a figure depends on: processor, system, versions."""
    import platform
    from importlib import metadata

    facts: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for text in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = text.partition(":")
            facts.setdefault(key.strip(), value.strip())
    wanted = ("sse4_2", "avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni")
    packages = ("tersor", "torch", "onnxruntime", "apache-tvm", "apache-tvm-ffi", "numpy")
    return {
        "processor": facts.get("model name", platform.processor()),
        "features": [f for f in wanted if f in facts.get("flags", "").split()],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {p: metadata.version(p) for p in packages},
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def commit() -> str:
    """The commit of the sources, with a plus sign where they were changed; empty outside of a repository."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+" if changed else "")


if __name__ == "__main__":
    serve()
