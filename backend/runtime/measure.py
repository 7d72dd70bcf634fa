"""Measure a compiled model: latency of whole calls, time of each kernel within a run, memory and precision."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..target import cache_size
from .artifact import Entry, Peak, Port
from .native import Arguments, aligned

if TYPE_CHECKING:
    from .model import CompiledModel

#: Inputs to measure with: in order, by name, or a single one; None for random ones.
Inputs = Any
#: Seconds of multiply-adds in one measurement of the peak.
_PEAK_SECONDS = 0.004
#: Short kernels are measured in more rounds: until all rounds took this many seconds, and at most this many rounds.
_SECONDS, _ROUNDS = 0.03, 1000
#: A time is resolved if it is at least this many times the interquartile range of empty calls plus the step of the clock.
_RESOLVED = 3


@dataclass(frozen=True)
class Benchmark:
    """Latency of one call in ms: median, fastest, 90th percentile, and spread = (p90 - min) / median."""

    median: float
    min: float
    p90: float
    spread: float
    repeat: int
    batch: int | None
    threads: int
    target: str
    versions: dict[str, str]

    def __str__(self) -> str:
        batch = "" if self.batch is None else f", batch {self.batch}"
        made = ", ".join(f"{k} {v}" for k, v in self.versions.items())
        return (
            f"median {self.median:.3f} ms, min {self.min:.3f}, p90 {self.p90:.3f}, spread {self.spread:.1%}; "
            f"{self.repeat} runs{batch}, {self.threads} thread{'s' * (self.threads > 1)}, {self.target} ({made})"
        )

    def to_json(self, path: str | Path | None = None) -> str:
        return _json(asdict(self), path)


@dataclass(frozen=True)
class Row:
    """One kernel call.

    time: median in ms, fastest: the shortest; share: of all kernels; gflops, peak: GFLOP/s and their share of the peak, that of FMA or
    of the arithmetic that an integer kernel has as parameter;
    gbs: GB/s of operands and result. chosen: how template and params were chosen (see `Step`).
    """

    step: int
    op: str
    kernel: str
    template: str
    params: dict[str, Any]
    shape: tuple[int, ...]
    time: float
    fastest: float
    share: float
    macs: int
    gflops: float
    peak: float
    gbs: float
    loc: str
    chosen: str


@dataclass(frozen=True)
class Profile:
    """Kernels in order. `peak_gflops` is the FMA peak of all threads, `integer_peaks` those of integer arithmetics; `total` the sum of the rows and
    `run` a whole run, in ms. A time below `resolution` ms cannot be distinguished from an empty call, so its speed is unknown: "-" in
    the table."""

    rows: tuple[Row, ...]
    peak_gflops: float
    total: float
    run: float
    batch: int | None
    threads: int
    target: str
    resolution: float = 0.0
    integer_peaks: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Profile:
        """The reverse of `dataclasses.asdict`, also after a trip through JSON."""
        return cls(**data | {"rows": tuple(Row(**r | {"shape": tuple(r["shape"])}) for r in data["rows"])})

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Header and lines of the table."""
        header = ["step", "ops", "kernel", "template", "chosen", "shape", "ms", "share", "GFLOP/s", "of peak", "GB/s", "source"]
        return header, [
            [
                str(r.step),
                r.op,
                r.kernel,
                r.template + (f" {{{' '.join(f'{k}={brief(v)}' for k, v in r.params.items())}}}" if r.params else ""),
                r.chosen,
                "x".join(map(str, r.shape)),
                *self._speed(r),
                r.loc,
            ]
            for r in self.rows
        ]

    def _speed(self, r: Row) -> tuple[str, ...]:
        """The cells from ms to GB/s."""
        if r.time < self.resolution:
            return f"<{self.resolution:.4f}", "-", *(("-", "-", "") if r.macs else ("", "", "-"))
        share = f"{r.peak:.0%}" if r.peak else "-"
        speed = (f"{r.gflops:.1f}", share, "") if r.macs else ("", "", f"{r.gbs:.1f}")
        return f"{r.time:.4f}", f"{r.share:.1%}", *speed

    def __str__(self) -> str:
        header, lines = self.cells()
        widths = [max(map(len, column)) for column in zip(header, *lines)]
        left = ("ops", "kernel", "template", "chosen", "shape", "source")
        text = [header, ["-" * w for w in widths], *lines]
        table = ["  ".join(c.ljust(w) if h in left else c.rjust(w) for h, c, w in zip(header, line, widths)).rstrip() for line in text]
        return "\n".join([*table, self.summary])

    @property
    def summary(self) -> str:
        macs = sum(r.macs for r in self.rows)
        gflops = 2 * macs / self.total / 1e6 if self.total else 0.0
        peaks = "".join(f", {name} {peak:.0f}" for name, peak in self.integer_peaks.items())
        of = f" of an FMA peak of {self.peak_gflops:.0f}{peaks}" if self.peak_gflops else ""
        return (
            f"{len(self.rows)} kernels {self.total:.3f} ms, a whole run {self.run:.3f} ms; {gflops:.1f} GFLOP/s{of} "
            f"({self.threads} thread{'s' * (self.threads > 1)}, {self.target})"
        )

    def to_json(self, path: str | Path | None = None) -> str:
        """Everything as a JSON object, written to a file if one is named."""
        return _json(asdict(self), path)


@dataclass(frozen=True)
class Report:
    """precision: class (`int8` or an element type) -> op -> how many run in it; macs: multiply-accumulates by class, of the last batch.

    Bytes of the weights, and of the arena by batch. notes: by layer, which kernel weights with zeros run on, and why. accuracy: of half
    precision on random inputs: `sqnr` in dB, and `error` relative to the largest value.
    """

    precision: dict[str, dict[str, int]]
    macs: dict[str, int]
    weights: int
    arena: dict[int | None, int]
    target: str
    threads: int
    notes: dict[str, str]
    accuracy: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [
            f"{e}: {sum(ops.values())} ops, {self.macs.get(e, 0):,} MACs ({', '.join(f'{n} {k}' for k, n in sorted(ops.items()))})"
            for e, ops in self.precision.items()
        ]
        arenas = ", ".join(f"{size:,} bytes" + ("" if batch is None else f" at batch {batch}") for batch, size in self.arena.items())
        lines += [f"{layer}: {note}" for layer, note in self.notes.items()]
        if self.accuracy:
            error = self.accuracy["error"]
            lines.append(f"against float64 on random inputs: SQNR {self.accuracy['sqnr']:.1f} dB, largest error {error:.1e} of the largest value")
        return "\n".join([*lines, f"weights {self.weights:,} bytes, arena {arenas}; {self.target}, {self.threads} thread{'s' * (self.threads > 1)}"])


def brief(value: Any) -> str:
    """A parameter as text for a table, without the long trace of a schedule."""
    text = str(value)
    return text if len(text) <= 40 else f"{len(text)} characters"


def benchmark(model: CompiledModel, repeat: int, warmup: int, inputs: Inputs, batch: int | None) -> Benchmark:
    """Time whole calls of the model, checks and results included."""
    entry, arrays = _inputs(model, inputs, batch)
    for _ in range(warmup):
        model(*arrays)
    times = sorted(_timed(lambda: model(*arrays)) for _ in range(max(repeat, 1)))
    median, p90 = statistics.median(times), times[min(len(times) - 1, int(0.9 * len(times)))]
    about = model.manifest.versions
    return Benchmark(median, times[0], p90, (p90 - times[0]) / median, len(times), entry.batch, model.threads, model.target.name, about)


def profile(model: CompiledModel, rounds: int, inputs: Inputs, batch: int | None, cold: bool) -> Profile:
    """Time each step inside whole runs: medians over the rounds (more of them where they take little time), the cost of an empty call subtracted.
    cold: caches are emptied before each step."""
    entry, given = _inputs(model, inputs, batch)
    arrays = model.arrays(given, entry)
    outputs = [empty(p) for p in entry.outputs]
    with model.program(entry).session(arrays, outputs) as run:
        count = len(entry.steps)
        run(0, count)
        flush = Flush(model.threads) if cold else None

        def timed(first: int, last: int) -> float:
            if flush is not None:
                flush()
            return _timed(lambda: run(first, last))

        empty_calls = [timed(0, 0) for _ in range(20 if cold else 100)]
        whole = statistics.median(timed(0, count) for _ in range(max(rounds, 1)))
        times: list[list[float]] = []
        end = time.perf_counter() + _SECONDS
        while len(times) < max(rounds, 1) or (time.perf_counter() < end and len(times) < _ROUNDS):
            empty_calls.append(timed(0, 0))
            times.append([timed(i, i + 1) for i in range(count)])
    idle = statistics.median(empty_calls)
    medians, fastest = ([max(of(column) - idle, 1e-6) for column in zip(*times)] for of in (statistics.median, min))
    total, fma = sum(medians), peak_gflops(model)
    peaks = {name: peak_gflops(model, peak) for name, peak in model.manifest.integer_peaks.items()}
    rows = []
    for i, (s, ms) in enumerate(zip(entry.steps, medians)):
        gflops, gbs = 2 * s.macs / ms / 1e6, s.bytes / ms / 1e6
        made = (i, s.op, s.kernel, s.template, s.params, s.shape)
        peak = peaks.get(str(s.params.get("arithmetic")), fma)
        rows.append(Row(*made, ms, fastest[i], ms / total, s.macs, gflops, gflops / peak if peak else 0.0, gbs, s.loc, s.chosen))
    about = (entry.batch, model.threads, model.target.name)
    return Profile(tuple(rows), fma, total, max(whole - idle, 0.0), *about, _resolution(sorted(empty_calls)), peaks)


def _resolution(times: list[float]) -> float:
    """The shortest significant difference in ms, from sorted times of one call: its interquartile range and the step of the clock."""
    step = time.get_clock_info("perf_counter").resolution * 1e3
    return _RESOLVED * (times[len(times) * 3 // 4] - times[len(times) // 4] + step)


def peak_gflops(model: CompiledModel, peak: Peak | None = None) -> float:
    """GFLOP/s of multiply-adds in registers on as many threads as the model uses, all at once: the best of several short runs.

    peak: that of an integer arithmetic, instead of FMA's. Returns 0 for a GPU, where it is unknown.
    """
    peak = peak or model.manifest.peak
    if not peak.function:
        return 0.0
    function = model.native(peak.function)
    start = threading.Barrier(model.threads)

    def run(rounds: int) -> float:
        values = aligned(4 * peak.size).view(np.float32)
        values[:] = 0.5
        arguments = Arguments([(values.dtype, values.size)], 1)
        arguments.point(0, values.ctypes.data)
        arguments.integer(0, rounds)
        start.wait()
        ms = _timed(lambda: function(arguments))
        return peak.flops * rounds / ms / 1e6

    with ThreadPoolExecutor(model.threads) as pool:

        def together(rounds: int) -> float:
            return sum(pool.map(run, [rounds] * model.threads))

        rounds = 1000
        while (best := together(rounds)) * 1e9 * _PEAK_SECONDS > model.threads * peak.flops * rounds:
            rounds *= 2
        return max(best, *(together(rounds) for _ in range(20)))


class Flush:
    """Empties the caches when called: reads twice the size of the last-level cache, in as many threads as the model uses."""

    def __init__(self, threads: int):
        size = 2 * cache_size(3)
        self._parts = [np.ones(size // 8) for _ in range(threads)]

    def __call__(self) -> None:
        readers = [threading.Thread(target=part.sum) for part in self._parts[1:]]
        for reader in readers:
            reader.start()
        self._parts[0].sum()
        for reader in readers:
            reader.join()


def _inputs(model: CompiledModel, inputs: Inputs, batch: int | None) -> tuple[Entry, list[Any]]:
    """The host function and the inputs to measure with: the caller's, else random ones of a batch."""
    if inputs is None:
        return model.entry(batch), random_inputs(model.entry(batch))
    named = dict(inputs) if isinstance(inputs, Mapping) else {}
    values = model.bind([] if named else inputs if isinstance(inputs, list | tuple) else [inputs], named)
    return model.entry_for(values), values


def random_inputs(entry: Entry) -> list[np.ndarray]:
    """Aligned inputs of the right types: normally distributed floats, bytes of their whole range, and zeros, which are valid as indices too."""
    rng = np.random.default_rng(0)
    arrays = [empty(p) for p in entry.inputs]
    for port, array in zip(entry.inputs, arrays):
        if port.type.is_float:
            array[...] = rng.standard_normal(port.shape)
        elif port.elem in ("u8", "i8"):
            limits = np.iinfo(port.dtype)
            array[...] = rng.integers(limits.min, limits.max, port.shape, endpoint=True)
    return arrays


def empty(port: Port) -> np.ndarray:
    """An aligned array of zeros for an input or output."""
    return aligned(port.nbytes).view(port.dtype).reshape(port.shape)


def _timed(run: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1e6


def _json(data: dict[str, Any], path: str | Path | None) -> str:
    text = json.dumps(data, indent=1)
    if path is not None:
        Path(path).write_text(text)
    return text
