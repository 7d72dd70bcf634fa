"""Benchmark compiled models: load time, first call, warm-up, steady time, memory and throughput, with two models interleaved.

Nothing here loads torch or TVM's compiler; onnxruntime only for an .onnx file.
"""

from __future__ import annotations

import csv
import io
import json
import resource
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.errors import TersorError
from .measure import Benchmark, random_inputs
from .model import CompiledModel, load_compiled
from .native import runtime

#: Slices in which two models alternate when throughput is measured.
SLICES = 4


@dataclass(frozen=True)
class Throughput:
    """Calls of several threads at once: calls and samples per second, and median and 90th percentile of one call in ms."""

    callers: int
    seconds: float
    calls: int
    calls_per_second: float
    samples_per_second: float
    median: float
    p90: float


@dataclass(frozen=True)
class Cost:
    """The costs of one model, times in ms.

    load: from the file to a callable, with the runtime already loaded; None for a model that was loaded before. first: the first call.
    warmup: the calls after it until they are steady. rss: growth of the process's memory in bytes since before the load, mapped weights included.
    """

    name: str
    load: float | None
    first: float
    warmup: float
    steady: Benchmark
    rss: int
    throughput: Throughput | None = None

    def __str__(self) -> str:
        load = "" if self.load is None else f"load {self.load:.1f} ms, "
        lines = [f"{load}first call {self.first:.2f} ms, warm-up {self.warmup:.1f} ms, memory {self.rss / 2**20:.1f} MiB", str(self.steady)]
        if (t := self.throughput) is not None:
            lines.append(
                f"{t.callers} callers for {t.seconds:.1f} s: {t.calls_per_second:.1f} calls/s, {t.samples_per_second:.1f} samples/s; "
                f"median {t.median:.3f} ms, p90 {t.p90:.3f}"
            )
        return "\n".join(lines)

    def flat(self) -> dict[str, Any]:
        """The costs as a flat dict."""
        steady = {k: v for k, v in asdict(self.steady).items() if k != "versions"}
        first = {"model": self.name, "load": self.load, "first": self.first, "warmup": self.warmup, "rss": self.rss}
        throughput = {} if self.throughput is None else {k: v for k, v in asdict(self.throughput).items() if k not in ("median", "p90")}
        return first | steady | throughput


@dataclass(frozen=True)
class Comparison:
    """The costs of one model, or of two whose calls alternated."""

    costs: tuple[Cost, ...]

    @property
    def ratio(self) -> float | None:
        """Median time of the other model over that of the first: above 1, the first is faster."""
        return self.costs[1].steady.median / self.costs[0].steady.median if len(self.costs) == 2 else None

    def __str__(self) -> str:
        if self.ratio is None:
            return str(self.costs[0])
        one, other = self.costs
        faster, slower, times = (one, other, self.ratio) if self.ratio >= 1 else (other, one, 1 / self.ratio)
        parts = [f"{c.name}\n{c}" for c in self.costs]
        return "\n".join([*parts, f"{faster.name} is {times:.2f} times as fast as {slower.name} (medians of interleaved calls)"])

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Comparison:
        """The reverse of `as_dict`, also after a trip through JSON."""
        return cls(tuple(_cost(c) for c in data["costs"]))

    def to_json(self) -> str:
        """A JSON object of the first model's numbers; for two models also `against`, those of the other, and `ratio`."""
        rows = [c.flat() | {"versions": c.steady.versions} for c in self.costs]
        return json.dumps(rows[0] if self.ratio is None else rows[0] | {"against": rows[1], "ratio": self.ratio}, indent=1)

    def to_csv(self) -> str:
        """A header, and a line for each model."""
        file = io.StringIO()
        rows = [c.flat() for c in self.costs]
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return file.getvalue()


def _cost(data: dict[str, Any]) -> Cost:
    throughput = data["throughput"]
    return Cost(**data | {"steady": Benchmark(**data["steady"]), "throughput": throughput and Throughput(**throughput)})


class _Side:
    """A model to be timed: `call` runs it once."""

    def __init__(self, source: str | Path | CompiledModel, like: _Side | None, batch: int | None, name: str | None):
        before = _resident()
        start = time.perf_counter_ns()
        self.model: CompiledModel | _Session = source if isinstance(source, CompiledModel) else _open(source, like)
        self.load: float | None = None if isinstance(source, CompiledModel) else _since(start)
        self.name = name or (source.manifest.name if isinstance(source, CompiledModel) else Path(source).name)
        if isinstance(self.model, CompiledModel):
            entry = self.model.entry(batch if like is None else like.batch)
            self.batch: int | None = entry.batch
            self.threads, self.target = self.model.threads, self.model.target.name
            self.versions, self.arrays = self.model.manifest.versions, random_inputs(entry)
            model = self.model
            self.call: Callable[[], Any] = lambda: model(*self.arrays)
        else:
            assert like is not None
            self.batch, self.threads, self.target = like.batch, like.threads, "onnxruntime"
            self.versions, self.arrays = {"onnxruntime": self.model.version}, like.arrays
            session = self.model
            self.call = lambda: session(self.arrays)
        self.first = _timed(self.call)
        self.rss = max(_resident() - before, 0)

    def cost(self, warmup: float, times: list[float], throughput: Throughput | None) -> Cost:
        steady = sorted(times)
        median, p90 = statistics.median(steady), _p90(steady)
        spread = (p90 - steady[0]) / median
        result = Benchmark(median, steady[0], p90, spread, len(steady), self.batch, self.threads, self.target, self.versions)
        return Cost(self.name, self.load, self.first, warmup, result, self.rss, throughput)


class _Session:
    """A model of onnxruntime with as many threads as the other side."""

    def __init__(self, path: Path, threads: int):
        onnxruntime = _onnxruntime()
        self.path, self.version = path, str(onnxruntime.__version__)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
        if not path.is_file():
            raise TersorError(f"there is no file {path}")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises many kinds
            raise TersorError(f"onnxruntime cannot load {path}: {' '.join(str(error).split())[:300]}") from error
        self._names = [i.name for i in self._session.get_inputs()]

    def __call__(self, arrays: Sequence[np.ndarray]) -> Any:
        if len(arrays) != len(self._names):
            raise TersorError(f"{self.path} has {len(self._names)} inputs ({', '.join(self._names)}), the other model {len(arrays)}")
        try:
            return self._session.run(None, dict(zip(self._names, arrays)))
        except Exception as error:
            shapes = ", ".join(f"{a.dtype}{list(a.shape)}" for a in arrays)
            raise TersorError(f"onnxruntime cannot run {self.path} on {shapes}: {' '.join(str(error).split())[:300]}") from error


def benchmark(
    model: str | Path | CompiledModel,
    against: str | Path | CompiledModel | None = None,
    *,
    repeat: int = 50,
    warmup: int = 5,
    batch: int | None = None,
    callers: int = 0,
    seconds: float = 0.0,
    names: Sequence[str] = (),
) -> Comparison:
    """Measure a model (a `.tso` or a compiled one), or two whose calls alternate, so that other load on the machine affects both alike.

    against: another, or an `.onnx` file, which onnxruntime runs on the same inputs with as many threads. repeat: calls timed; with `seconds`, as many
    as fit, at least `repeat`. callers: also call from this many threads at once, for `seconds` (by default 1). names: of the models, for the report.

    Raises TersorError for a file that is none of these, models whose inputs differ, and where onnxruntime is missing.
    """
    if repeat < 1 or warmup < 0 or callers < 0 or seconds < 0:
        raise TersorError(f"expected repeat of at least 1 and no negative numbers, got repeat={repeat}, {warmup=}, {callers=}, {seconds=}")
    runtime()
    if isinstance(against, str | Path) and Path(against).suffix == ".onnx":
        _onnxruntime()
    sides = [_Side(model, None, batch, next(iter(names), None))]
    if against is not None:
        sides.append(_Side(against, sides[0], batch, names[1] if len(names) > 1 else None))
        _same_inputs(*sides)
    warm = [0.0] * len(sides)
    for _ in range(warmup):
        for i, side in enumerate(sides):
            warm[i] += _timed(side.call)
    times: list[list[float]] = [[] for _ in sides]
    end = time.perf_counter() + (0 if callers else seconds) * len(sides)
    while len(times[0]) < repeat or time.perf_counter() < end:
        for side, found in zip(sides, times):
            found.append(_timed(side.call))
    together = _throughput(sides, callers, seconds or 1.0) if callers else [None] * len(sides)
    return Comparison(tuple(side.cost(w, found, several) for side, w, found, several in zip(sides, warm, times, together)))


def _open(source: str | Path, like: _Side | None) -> CompiledModel | _Session:
    path = Path(source)
    if path.suffix == ".tso":
        return load_compiled(path)
    if path.suffix == ".onnx" and like is not None:
        return _Session(path, like.threads)
    raise TersorError(f"cannot time {path}: expected a .tso" + (" or an .onnx file" if like is not None else ""))


def _same_inputs(one: _Side, other: _Side) -> None:
    a, b = ([f"{x.dtype}{list(x.shape)}" for x in side.arrays] for side in (one, other))
    if a != b:
        raise TersorError(f"the inputs differ: {one.name} takes {', '.join(a)}, {other.name} takes {', '.join(b)}")


def _throughput(sides: Sequence[_Side], callers: int, seconds: float) -> list[Throughput | None]:
    """Each side in turn, called from several threads."""
    found: list[list[float]] = [[] for _ in sides]
    spent = [0.0] * len(sides)
    slices = SLICES if len(sides) > 1 else 1
    for _ in range(slices):
        for i, side in enumerate(sides):
            start = time.perf_counter()
            found[i] += _together(side.call, callers, seconds / slices)
            spent[i] += time.perf_counter() - start
    result: list[Throughput | None] = []
    for side, times, took in zip(sides, found, spent):
        rate = len(times) / took
        samples = rate * (side.batch or (len(side.arrays[0]) if side.arrays and side.arrays[0].ndim else 1))
        result.append(Throughput(callers, took, len(times), rate, samples, statistics.median(times), _p90(sorted(times))))
    return result


def _together(call: Callable[[], Any], callers: int, seconds: float) -> list[float]:
    """Times of calls from `callers` threads for `seconds`, at least one call each. Raises what a call raises."""
    times: list[list[float]] = [[] for _ in range(callers)]
    failed: list[BaseException] = []
    ready = threading.Barrier(callers)

    def work(own: list[float]) -> None:
        try:
            ready.wait()
            end = time.perf_counter() + seconds
            while not own or time.perf_counter() < end:
                own.append(_timed(call))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(own,)) for own in times]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return [t for own in times for t in own]


def _timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter_ns()
    call()
    return _since(start)


def _since(start: int) -> float:
    return (time.perf_counter_ns() - start) / 1e6


def _p90(times: Sequence[float]) -> float:
    return times[min(len(times) - 1, int(0.9 * len(times)))]


def _resident() -> int:
    """Bytes of this process in memory (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise TersorError("timing an .onnx file needs onnxruntime: pip install onnxruntime, or give a .tso") from None
    return onnxruntime
