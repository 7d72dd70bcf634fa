"""Inference engines under measurement: each in its own process, with interleaved timings.

A process holds one engine with one model and runs a batch of timings on command, so that A B A B is possible, thread pools never
share a process, and all engines are bound to the same processors. peers.py defines how each runs, serve.py is the process.
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

#: Seconds between two engines: worker threads of the previous one spin for up to 20 ms before they sleep (onnxruntime).
REST = 0.1


class Engine:
    """One engine with one model and input in its own process, bound to the first `threads` of the given processors."""

    def __init__(self, name: str, path: Path, example: Path, threads: int, cpus: Sequence[int]):
        self.name = name
        self.folder = example.parent
        # otherwise TVM binds its pool to the first cores, whatever the process is bound to
        env = os.environ | {"TVM_NUM_THREADS": str(threads), "TVM_BIND_THREADS": "0", "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "tersor.bench.serve"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        try:
            self._ask({"engine": name, "path": str(path), "input": str(example), "threads": threads, "cpus": list(cpus[:threads])})
        except RuntimeError:
            self.close()
            raise

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
        result = json.loads(answer)
        if isinstance(result, dict) and "error" in result:
            raise RuntimeError(f"{self.name} does not run: {result['error']}")
        return result

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
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


@contextlib.contextmanager
def opened(models: Mapping[str, Path], example: Path, threads: int, failures: dict[str, str] | None = None) -> Iterator[list[Engine]]:
    """The engines of `{engine: model file}`, closed at the end. The last processors are taken: the first serve most interrupts.

    An engine that does not start raises, or is left out and written to `failures`, if given, with the reason.
    """
    cpus = sorted(os.sched_getaffinity(0), reverse=True)
    with contextlib.ExitStack() as stack:
        engines = []
        for name, path in models.items():
            try:
                engine = Engine(name, path, example, threads, cpus)
            except RuntimeError as error:
                if failures is None:
                    raise
                failures[name] = str(error)
                continue
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

    @classmethod
    def of(cls, each: Sequence[float]) -> Ratio:
        """The ratio of every round."""
        return cls(statistics.median(each), min(each), max(each))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def interleaved(
    engines: Sequence[Engine], rounds: int, seconds: float = 0.25, progress: Callable[[int], None] = lambda done: None
) -> dict[str, Latency]:
    """A B C A B C ...: in every round each engine runs for about `seconds`; the order rotates by one from round to round."""
    runs = {e.name: max(1, int(1e3 * seconds / min(e.time(2)))) for e in engines}
    medians: dict[str, list[float]] = {e.name: [] for e in engines}
    for r in range(rounds):
        for i in range(len(engines)):
            engine = engines[(i + r) % len(engines)]
            time.sleep(REST)
            medians[engine.name].append(statistics.median(engine.time(runs[engine.name])))
        progress(r + 1)
    return {name: Latency(times) for name, times in medians.items()}


def ratio(ours: Latency, peer: Latency) -> Ratio:
    """ours / peer."""
    return Ratio.of([a / b for a, b in zip(ours.rounds, peer.rounds)])


def machine() -> dict[str, Any]:
    """The machine on which a figure was measured: processor, system, versions."""
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
