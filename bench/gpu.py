"""Latency on a GPU beside torch, eager and compiled, with every result checked against float64.

    python -m tersor.bench.gpu [--target cuda:sm_90] [--networks resnet18 vgg16] [--batch 1 32] [--dtype f32 f16] [--size 224] [--out FILE.json]

For CUDA this needs a GPU, its driver, nvcc and a torch with CUDA. torch runs channels_last with cudnn.benchmark, and compiled with max-autotune
(which uses CUDA graphs); f32 is measured without and with tf32. Tersor runs as it is called, and as a CUDA graph. Inputs and results stay on the
device. Each engine's time is the median of `--repeat` calls between two CUDA events; the engines take turns.

With `--target opencl` Tersor runs on the first OpenCL device and torch eagerly on the CPU, so that the script can be tried without a GPU, for example
by `--size 32 --batch 1 --repeat 3 --networks resnet18`.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import tersor

from .architectures import error
from .models import build
from .results_file import write_results

NETWORKS = ("resnet18", "resnet50", "mobilenetv2", "vgg16", "efficientnet_b0", "unet")
#: Largest max|y - y64| / max|y64| by the type of the engine.
LIMITS = {"f32": 1e-4, "tf32": 2e-2, "f16": 5e-2, "bf16": 2e-1}
Call = Callable[[], torch.Tensor]


@dataclass
class Row:
    """One engine on one network. dtype: of its products; ms: median, first and third quartile."""

    network: str
    batch: int
    engine: str
    dtype: str
    error: float
    ms: tuple[float, float, float] = (0.0, 0.0, 0.0)
    failure: str = ""

    @property
    def right(self) -> bool:
        return not self.failure and self.error <= LIMITS[self.dtype]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default=None, help="cuda:sm_<capability of this GPU> by default")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--dtype", nargs="+", default=["f32", "f16"], choices=list(LIMITS))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeat", type=int, default=100)
    parser.add_argument("--tuned", default=None, help="a database of `tersor tune`")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    target = args.target or capability()
    console, rows = Console(highlight=False), []
    for name in args.networks:
        for batch in args.batch:
            for dtype in args.dtype:
                rows += measure(name, batch, dtype, target, args.size, args.repeat, args.tuned)
                console.print(f"{name}, batch {batch}, {dtype}: done", markup=False)
    console.print(table(rows))
    if args.out:
        device = torch.cuda.get_device_name() if target.startswith("cuda") else target
        about = {"target": target, "device": device, "torch": torch.__version__, "size": args.size}
        write_results(args.out, about | {"rows": [asdict(r) for r in rows]})
    if wrong := [f"{r.network} {r.engine} {r.dtype}: {r.failure or f'error {r.error:.1e}'}" for r in rows if not r.right]:
        raise SystemExit(f"{len(wrong)} of {len(rows)} fail: {'; '.join(wrong)}")


def capability() -> str:
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device: name another target, such as --target opencl")
    major, minor = torch.cuda.get_device_capability()
    return f"cuda:sm_{major}{minor}"


def measure(name: str, batch: int, dtype: str, target: str, size: int, repeat: int, tuned: str | None) -> list[Row]:
    """All engines on one network at one batch and type."""
    device = "cuda" if target.startswith("cuda") else "cpu"
    module = build(name)
    x = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = copy.deepcopy(module).double().to(device)(x.double().to(device)).cpu()
    rows, calls = [], []
    for engine, kind, make in engines(module, x, dtype, target, device, tuned):
        row = Row(name, batch, engine, kind, float("nan"))
        rows.append(row)
        try:
            call = make()
            row.error = error(call().float().cpu(), exact)
            calls.append((row, call))
        except Exception as failure:  # of any kind: the table says what happened to each engine
            row.failure = f"{type(failure).__name__}: {' '.join(str(failure).split())[:200]}"
    times: dict[int, list[float]] = {id(row): [] for row, _ in calls}
    for call in [call for _, call in calls] * 3:
        call()
    for _ in range(repeat):
        for row, call in calls:
            times[id(row)].append(timed(call, device))
    for row, _ in calls:
        low, median, high = statistics.quantiles(times[id(row)], n=4) if repeat > 1 else times[id(row)] * 3
        row.ms = (median, low, high)
    return rows


def engines(
    module: torch.nn.Module, x: torch.Tensor, dtype: str, target: str, device: str, tuned: str | None
) -> Iterator[tuple[str, str, Callable[[], Call]]]:
    """Name, type of the products, and a function that makes a call on inputs that lie on the device."""

    def own() -> Call:
        exe = tersor.compile(tersor.trace(module, x), target=target, batch=len(x), dtype=dtype, tuned=tuned)
        given = x.to(device)
        return lambda: exe(given)

    yield "tersor", dtype, own
    if device == "cuda":
        yield "tersor, CUDA graph", dtype, lambda: as_graph(own())
    for compiled in (False, True) if device == "cuda" else (False,):
        yield "torch.compile" if compiled else "torch", dtype, torch_call(module, x, dtype, device, compiled)


def torch_call(module: torch.nn.Module, x: torch.Tensor, products: str, device: str, compiled: bool) -> Callable[[], Call]:
    element = {"f16": torch.float16, "bf16": torch.bfloat16}.get(products, torch.float32)

    def make() -> Call:
        torch.backends.cudnn.benchmark = True
        model: Any = copy.deepcopy(module).to(device, element).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        given = x.to(device, element, memory_format=torch.channels_last)
        if compiled:
            torch._dynamo.reset()
            model = torch.compile(model, mode="max-autotune")

        def call() -> torch.Tensor:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = products == "tf32"
            with torch.inference_mode():
                return model(given)  # type: ignore[no-any-return]

        return call

    return make


def as_graph(call: Call) -> Call:
    """The same launches, recorded once and replayed."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()

    def replay() -> torch.Tensor:
        graph.replay()
        return result

    return replay


def timed(call: Call, device: str) -> float:
    """Milliseconds of one call."""
    if device != "cuda":
        start = time.perf_counter_ns()
        call()
        return (time.perf_counter_ns() - start) / 1e6
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    first.record()
    call()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last))


def table(rows: list[Row]) -> Table:
    result = Table(title=f"{sum(r.right for r in rows)} of {len(rows)} right", title_justify="left")
    for column in ("network", "batch", "engine", "products", "error", "ms", "Tersor's best / its"):
        result.add_column(column, justify="left" if column in ("network", "engine", "products") else "right")
    for r in rows:
        # tf32 is an answer to f32
        kind = r.dtype.removeprefix("t")
        own = [o.ms[0] for o in rows if (o.network, o.batch, o.dtype) == (r.network, r.batch, kind) and o.engine.startswith("tersor") and o.right]
        cells = ("-", "-", "-") if r.failure else (f"{r.error:.1e}", f"{r.ms[0]:.3f}", f"{min(own) / r.ms[0]:.2f}" if own else "-")
        result.add_row(r.network, str(r.batch), r.engine, r.dtype, *cells, style=None if r.right else "red")
    return result


if __name__ == "__main__":
    main()
