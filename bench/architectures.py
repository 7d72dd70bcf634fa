"""The architecture matrix: every network is traced, compiled and compared with its own eager module in float64.

    python -m tersor.bench.architectures [NAME ...] [--threads 1] [--target cpu] [--out bench/results/architectures.json]

Three random inputs at batch 1 and three at batch 3; error = max|y - y64| / max|y64|, the largest over inputs and outputs; for integers
and bools the share of elements that differ. Ends with a non-zero code when a network fails, its error is above 1e-4, or its results hardly change
from input to input (random weights can do that), so that the comparison would say nothing.
NAME is a part of a network's name; `--list` prints them. Below the table are the slow kernels: more than 3 % of a network's time, and more than
twice as long as the processor's peak and the bandwidth of a copy allow.
"""

from __future__ import annotations

import argparse
import copy
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import tersor

from .bandwidth import copy_gbs
from .models import SEVEN, build
from .more_models import MORE, NOT_IMAGES
from .others import TRAINED, TRANSFORMERS, Model
from .results_file import write_results

LIMIT = 1e-4
BATCHES = (1, 3)
SEEDS = (11, 12, 13)
#: Between two inputs some result must change by this part of its largest value, or the comparison says nothing.
SIGNAL = 0.01
#: A kernel is slow with more than this share of a network's time, and at less than this part of its roofline.
SHARE, ROOFLINE = 0.03, 0.5

console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def own(name: str) -> Callable[[], Model]:
    """A network of bench/models.py or more_models.py with an example input."""

    def make() -> Model:
        generator = torch.Generator().manual_seed(2)
        sample = NOT_IMAGES[name](generator) if name in NOT_IMAGES else (torch.randn(1, 3, 224, 224, generator=generator),)
        return build(name), tuple(x[:1] for x in sample)

    return make


ARCHITECTURES: dict[str, Callable[[], Model]] = {**TRAINED, **{name: own(name) for name in (*SEVEN, *MORE)}, **TRANSFORMERS}


@dataclass
class Row:
    """The results for one network.

    errors: of each output at each batch, the largest of three inputs; signal: how much the results change from input to input;
    ms: median of a call at batch 1.
    """

    name: str
    ops: int = 0
    steps: int = 0
    gmacs: float = 0.0
    errors: dict[str, dict[int, float]] = field(default_factory=dict)
    signal: float = 0.0
    trace_seconds: float = 0.0
    compile_seconds: float = 0.0
    ms: float = 0.0
    failure: str = ""
    slow: list[dict[str, Any]] = field(default_factory=list)

    @property
    def error(self) -> float:
        return max((e for batches in self.errors.values() for e in batches.values()), default=float("nan"))

    @property
    def passed(self) -> bool:
        return not self.failure and self.error <= LIMIT and self.signal >= SIGNAL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--batch", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--no-times", action="store_true", help="compare only")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    args = parser.parse_args()
    names = [n for n in ARCHITECTURES if not args.names or any(part in n for part in args.names)]
    if args.list or not names:
        print("\n".join(ARCHITECTURES))
        raise SystemExit(0 if args.list else f"no network has {' or '.join(args.names)} in its name")
    rows = []
    for name in names:
        rows.append(row := check(name, args.target, args.threads, args.batch, not args.no_times))
        said = row.failure or f"error {row.error:.1e}, signal {row.signal:.1e}, {row.ms:.1f} ms"
        console.print(f"{name}: {said}, compiled in {row.compile_seconds:.0f} s", style=None if row.passed else "red", markup=False)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        report = {"limit": LIMIT, "target": args.target, "threads": args.threads, "networks": [{**asdict(r), "error": r.error} for r in rows]}
        write_results(args.out, report)
    console.print(table(rows))
    if any(r.slow for r in rows):
        console.print(slow_table(rows))
    failed = [r.name for r in rows if not r.passed]
    if failed:
        raise SystemExit(f"{len(failed)} of {len(rows)} networks fail: {', '.join(failed)}")


def check(name: str, target: str = "cpu", threads: int = 1, batches: Sequence[int] = BATCHES, measure: bool = True) -> Row:
    """Trace, compile and compare one network; errors are recorded in its row. measure: its time too, and its slow kernels."""
    row = Row(name)
    try:
        module, example = ARCHITECTURES[name]()
        exact = copy.deepcopy(module).double()
        start = time.perf_counter()
        with warnings.catch_warnings():
            # a batch that cannot be symbolic is a failure here
            warnings.simplefilter("error")
            graph = tersor.trace(module, example)
        row.trace_seconds = time.perf_counter() - start
        row.ops, row.gmacs = graph.count_ops(), graph.macs() / 1e9
        start = time.perf_counter()
        exe = tersor.compile(graph, target=target, threads=threads, batch=list(batches))
        row.compile_seconds = time.perf_counter() - start
        row.steps = len(exe.entries[0].steps)
        for batch in batches:
            before: dict[str, torch.Tensor] = {}
            for seed in SEEDS:
                inputs = random_like(example, batch, seed)
                with torch.inference_mode():
                    wanted = exact(*(x.double() if x.is_floating_point() else x for x in inputs))
                for path, got, reference in leaves(exe(*inputs), wanted):
                    errors = row.errors.setdefault(path, {})
                    errors[batch] = max(errors.get(batch, 0.0), error(got, reference))
                    row.signal = max(row.signal, error(before.get(path, reference), reference))
                    before[path] = reference
        if measure:
            row.ms = exe.benchmark(repeat=5, warmup=2, batch=batches[0]).median
            row.slow = slow_kernels(exe, batches[0])
    except Exception as err:  # any kind: the matrix says what happened to each network
        row.failure = f"{type(err).__name__}: {err}"
    return row


def slow_kernels(exe: Any, batch: int = 1) -> list[dict[str, Any]]:
    """Kernels that take `SHARE` of a run and are below `ROOFLINE`, equal ones together, the longest first. None on a device without a known peak."""
    profile = exe.profile(rounds=5, batch=batch)
    if not profile.peak_gflops:
        return []
    bandwidth = copy_gbs(2**27) * exe.threads
    total = sum(r.fastest for r in profile.rows)
    kernels: dict[str, dict[str, Any]] = {}
    for r in profile.rows:
        about = {"op": r.op, "template": r.template, "shape": list(r.shape), "loc": re.sub(r"\S*site-packages/", "", r.loc)}
        entry = kernels.setdefault(r.kernel, {**about, "calls": 0, "ms": 0.0, "least_ms": 0.0})
        entry["calls"] += 1
        entry["ms"] += r.fastest
        # gbs * time are the bytes in MB
        entry["least_ms"] += max(2 * r.macs / profile.peak_gflops / 1e6, r.gbs * r.time / bandwidth)
    slow = [{**e, "share": e["ms"] / total, "roofline": e["least_ms"] / e["ms"]} for e in kernels.values()]
    return sorted((e for e in slow if e["share"] > SHARE and e["roofline"] < ROOFLINE), key=lambda e: -e["ms"])


def random_like(example: tuple[torch.Tensor, ...], batch: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Normal floats of the example's shapes at a batch; integers in the example's range."""
    generator = torch.Generator().manual_seed(seed)

    def fresh(x: torch.Tensor) -> torch.Tensor:
        shape = (batch, *x.shape[1:])
        if x.is_floating_point():
            return torch.randn(shape, generator=generator).to(x.dtype)
        return torch.randint(int(x.min()), int(x.max()) + 1, shape, generator=generator, dtype=x.dtype)

    return tuple(fresh(x) for x in example)


def leaves(got: Any, wanted: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Pairs of tensors of two results of one structure, with their place in it."""
    if isinstance(wanted, torch.Tensor):
        yield path or "result", got, wanted
        return
    keys = list(wanted) if isinstance(wanted, dict) else range(len(wanted))
    if isinstance(wanted, dict) and list(got) != keys:
        raise ValueError(f"the result{path} has the keys {list(got)}, eager {keys}")
    if len(got) != len(wanted):
        raise ValueError(f"the result{path} has {len(got)} entries, eager {len(wanted)}")
    for key in keys:
        yield from leaves(got[key], wanted[key], f"{path}[{key!r}]")


def error(y: torch.Tensor, y64: torch.Tensor) -> float:
    """max|y - y64| / max|y64|; of integers and bools the share of differing elements; infinite where shape or kind differ or y is not finite."""
    if y.shape != y64.shape or y.is_floating_point() != y64.is_floating_point():
        return float("inf")
    if not y.is_floating_point():
        return float((y != y64).double().mean())
    if not bool(torch.isfinite(y).all()):
        return float("inf")
    scale = float(y64.abs().max())
    return float((y.double() - y64).abs().max()) / (scale or 1.0)


def table(rows: list[Row]) -> Table:
    result = Table(title=f"{sum(r.passed for r in rows)} of {len(rows)} networks within {LIMIT:.0e} of float64 eager torch", title_justify="left")
    result.add_column("network")
    for column in ("ops", "kernels", "GMACs", "error, batch 1", "error, batch 3", "compile, s", "ms"):
        result.add_column(column, justify="right")
    for r in rows:
        worst = [max((e.get(b, float("nan")) for e in r.errors.values()), default=float("nan")) for b in BATCHES]
        cells = [f"{r.ops}", f"{r.steps}", f"{r.gmacs:.2f}", *(f"{e:.1e}" for e in worst), f"{r.compile_seconds:.1f}", f"{r.ms:.2f}"]
        result.add_row(r.name, *cells, style=None if r.passed else "red")
    return result


def slow_table(rows: list[Row]) -> Table:
    result = Table(title=f"Kernels above {SHARE:.0%} of a network's time and under {ROOFLINE:.0%} of their roofline", title_justify="left")
    for column in ("network", "kernel", "template", "shape"):
        result.add_column(column)
    for column in ("calls", "share", "ms", "of roofline"):
        result.add_column(column, justify="right")
    for r in rows:
        for e in r.slow:
            shape = "x".join(map(str, e["shape"]))
            result.add_row(r.name, e["op"], e["template"], shape, f"{e['calls']}", f"{e['share']:.0%}", f"{e['ms']:.2f}", f"{e['roofline']:.0%}")
    return result


if __name__ == "__main__":
    main()
