"""`tersor run`, `bench` and `profile`: run and measure a compiled model (or a graph)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ..ir.errors import TersorError
from . import show
from .build import Imports, Json, Shapes, Tuned, Weights, database_of, load_imports
from .export_c import recorded_inputs, runs_here
from .remote import On, bench_by_ssh, bench_there, bundle, host_at, over_ssh
from .sources import COMPILED, leaves, random_array, read_graph, read_inputs

if TYPE_CHECKING:
    from ..backend.remote.device import Device, RemoteModel
    from ..backend.runtime.model import CompiledModel
    from ..backend.static_profile import StaticProfile
    from ..backend.target import Target as Facts

Source = Annotated[str, typer.Argument(metavar="IN", help="A .tso, or a .tersor, .mlir or .onnx graph.")]
Target = Annotated[str, typer.Option("--target", "-t", help="For a graph: what to compile it for.")]
Threads = Annotated[int, typer.Option(help="For a graph: threads of one call.")]
Batch = Annotated[int | None, typer.Option(help="Batch size: one of those in a .tso, any for a graph.")]


def run(
    source: Source,
    inputs: Annotated[list[str] | None, typer.Option("--input", "-i", help="x.npy, NAME=x.npy, or an .npz; random without it.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="An .npy for one output, an .npz for all.")] = None,
    device: On = None,
    target: Target = "cpu",
    weights: Weights = None,
    shape: Shapes = None,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Run a model once: a .tso natively, a graph by the reference interpreter, or compiled on a device."""
    load_imports(imports)
    from .. import load_compiled

    if output is not None and Path(output).suffix not in (".npy", ".npz"):
        raise TersorError(f"cannot write {output}: expected a name that ends in .npy or .npz")
    model: Any
    if device is not None and over_ssh(device):
        _, _, arrays_there = bundle(host_at(device), source, target, None, None, weights, shape, inputs, 1)
        report_outputs({port.name: y for port, y in arrays_there}, output, as_json)
        return
    if is_compiled(source) or device is not None:
        model = load_compiled(source) if device is None else on_device(device, source, None, target, 1, None, weights, shape)
        shapes = {n: (p.shape, p.type.dtype) for n, p in model.inputs.items()}
        names, structure = list(model.outputs), model.manifest.structure
    else:
        model = read_graph(source, weights, shape)
        shapes = {v.name: (v.shape, v.type.dtype) for v in model.inputs}
        names, structure = model.output_names, model.structure
    rng = np.random.default_rng(0)
    arrays = read_inputs(inputs, list(shapes)) if inputs else {n: random_array(rng, *s) for n, s in shapes.items()}
    with show.working(f"running {source}"):
        results = dict(zip(names, leaves(structure, model(**arrays))))
    report_outputs(results, output, as_json)


def report_outputs(results: dict[str, np.ndarray], output: str | None, as_json: bool) -> None:
    """Write the outputs to a file if one is named, and print shapes and ranges."""
    if output is not None:
        write_arrays(output, results)
    summaries = [summary(n, y) for n, y in results.items()]
    if as_json:
        show.emit_json(summaries)
    else:
        rows = [(s["output"], s["dtype"], "x".join(map(str, s["shape"])), *(f"{s[k]:.6g}" for k in ("min", "max", "mean"))) for s in summaries]
        show.table(["output", "dtype", "shape", "min", "max", "mean"], rows, left=2)


def bench(
    source: Source,
    against: Annotated[str | None, typer.Option(help="Another .tso or graph, or an .onnx for onnxruntime: their calls take turns.")] = None,
    repeat: Annotated[int, typer.Option(help="How many calls are timed, at least.")] = 50,
    warmup: Annotated[int, typer.Option(help="Calls before them, after the first.")] = 5,
    callers: Annotated[int, typer.Option(help="Also measure throughput: threads that call at once.")] = 0,
    seconds: Annotated[float, typer.Option(help="How long to measure: throughput with --callers, else single calls.")] = 0.0,
    device: On = None,
    batch: Batch = None,
    target: Target = "cpu",
    threads: Threads = 1,
    tuned: Tuned = None,
    weights: Weights = None,
    shape: Shapes = None,
    imports: Imports = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV on standard output: a line for each model.")] = False,
    as_json: Json = False,
) -> None:
    """Load time, first call, warm-up, steady time, memory and throughput of a compiled model, or of a graph compiled here."""
    load_imports(imports)
    if device is not None and over_ssh(device):
        if against or callers or seconds or threads != 1 or as_csv:
            raise TersorError(
                "over ssh one model is timed, on one thread: leave --against, --callers, --seconds, --threads and --csv out, or use rpc://"
            )
        bench_by_ssh(device, as_json, source, target, batch, database_of(tuned), weights, shape, None, repeat)
        return
    if device is not None:
        far, sources = open_device(device), [source] if against is None else [source, against]
        if against is not None and against.endswith(".onnx"):
            raise TersorError(f"onnxruntime is timed on this machine only: leave --device out, or --against {against}")
        chosen = far.target if target == "cpu" else target
        models = [s if is_compiled(s) else compiled(s, batch, chosen, threads, tuned, weights, shape) for s in sources]
        options = {"repeat": repeat, "warmup": warmup, "batch": batch, "callers": callers, "seconds": seconds}
        bench_there(far, sources, models, as_csv, as_json, **options)
        return
    from ..backend.runtime.bench import benchmark

    def opened(path: str, onnx: bool) -> Any:
        return path if is_compiled(path) or onnx else compiled(path, batch, target, threads, tuned, weights, shape)

    model = opened(source, False)
    other = None if against is None else opened(against, against.endswith(".onnx"))
    names = [Path(p).name for p in (source, against) if p is not None]
    with show.working("timing"):
        result = benchmark(model, other, repeat=repeat, warmup=warmup, batch=batch, callers=callers, seconds=seconds, names=names)
    if as_json:
        print(result.to_json())
    elif as_csv:
        print(result.to_csv(), end="")
    else:
        show.line(str(result))


def profile(
    source: Source,
    rounds: Annotated[int, typer.Option(help="Runs over which each kernel's median is taken.")] = 20,
    batch: Batch = None,
    top: Annotated[int, typer.Option(help="Show only so many of the slowest kernels; 0 shows all in order.")] = 0,
    device: On = None,
    static: Annotated[bool, typer.Option("--static", help="Run nothing: the inner loops of a graph's kernels by llvm-mca, for a -t.")] = False,
    count: Annotated[bool, typer.Option("--count", help="With --static: also the instructions of one call of the model, counted by qemu.")] = False,
    target: Target = "cpu",
    threads: Threads = 1,
    tuned: Tuned = None,
    weights: Weights = None,
    shape: Shapes = None,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Time of every kernel: its template and tiles, how near it comes to the processor's peak, the source line."""
    load_imports(imports)
    if static:
        judged = static_of(source, target, batch, threads, device, tuned, weights, shape)
        instructions = counted(source, target, batch, tuned, weights, shape) if count else None
        if as_json:
            show.emit_json(json.loads(judged.to_json()) | ({} if instructions is None else {"instructions": instructions}))
            return
        show.table(*judged.cells(), left=4)
        show.line(judged.summary)
        if instructions is not None:
            show.line(f"{instructions:,} instructions for one call, counted by qemu")
        return
    if count:
        raise TersorError("--count goes with --static, which runs nothing on this processor")
    model: CompiledModel
    if device is not None:
        model = on_device(device, source, batch, target, threads, tuned, weights, shape)
    else:
        model = compiled(source, batch, target, threads, tuned, weights, shape)
    with show.working("profiling"):
        result = model.profile(rounds=rounds, batch=batch)
    if as_json:
        print(result.to_json())
        return
    header, lines = result.cells()
    order = sorted(range(len(lines)), key=lambda i: -result.rows[i].time)[:top] if top else range(len(lines))
    show.table(header, [lines[i] for i in order], left=6)
    show.line(result.summary)


def static_of(
    source: str, target: str, batch: int | None, threads: int, device: str | None, tuned: str | None, weights: str | None, shape: list[str] | None
) -> StaticProfile:
    """The static profile of a graph."""
    if threads != 1 or device is not None:
        raise TersorError("--static judges the code of one thread and runs nothing: leave --threads and --device out")
    if is_compiled(source):
        raise TersorError(f"--static takes a graph, whose kernels it compiles for --target; {source} is compiled already")
    from ..backend.static_profile import static_profile

    with show.working(f"compiling {source} for {target}"):
        return static_profile(read_graph(source, weights, shape), target, batch, database_of(tuned))


def counted(source: str, target: str, batch: int | None, tuned: str | None, weights: str | None, shape: list[str] | None) -> int:
    """Instructions of one call on random inputs."""
    from .. import compile
    from ..backend.instruction_count import instruction_count
    from ..backend.target import resolve

    graph = read_graph(source, weights, shape)
    fixed = graph.at(batch or 1) if graph.batched else graph
    arrays = recorded_inputs(fixed, None)
    with show.working("counting instructions"):
        model = compile(graph, target=target, batch=(batch or 1) if graph.batched else None, tuned=database_of(tuned))
        expected = None if runs_here(resolve(target)) else leaves(fixed.structure, fixed(*arrays))
        return instruction_count(model, arrays, expected)


def is_compiled(source: str) -> bool:
    return Path(source).suffix == COMPILED


def open_device(device: str) -> Device:
    """The device at an address."""
    from ..backend.remote.device import device as opened

    return opened(device)


def on_device(
    device: str, source: str, batch: int | None, target: str, threads: int, tuned: str | None, weights: str | None, shapes: Sequence[str] | None
) -> RemoteModel:
    """`compiled` for a device, on it; a graph is compiled for its processor unless a target is named."""
    far = open_device(device)
    if is_compiled(source):
        return far.load(source)
    return far.load(compiled(source, batch, far.target if target == "cpu" else target, threads, tuned, weights, shapes))


def compiled(
    source: str, batch: int | None, target: str | Facts, threads: int, tuned: str | None, weights: str | None, shapes: Sequence[str] | None = None
) -> CompiledModel:
    """The model of a .tso, or a graph compiled now."""
    if is_compiled(source):
        from .. import load_compiled

        return load_compiled(source)
    from .. import compile

    graph = read_graph(source, weights, shapes)
    with show.working(f"compiling {source} for {target if isinstance(target, str) else target.name}"):
        return compile(graph, target=target, threads=threads, batch=batch, tuned=database_of(tuned))


def write_arrays(path: str, arrays: dict[str, np.ndarray]) -> None:
    """One output as .npy, any number as .npz under their names."""
    if path.endswith(".npz"):
        np.savez(path, allow_pickle=False, **arrays)
        return
    if len(arrays) != 1:
        raise TersorError(f"the model has {len(arrays)} outputs ({', '.join(arrays)}): write them to an .npz")
    (array,) = arrays.values()
    np.save(path, array)


def summary(name: str, y: np.ndarray) -> dict[str, Any]:
    """Shape, type and range of an output."""
    wide = np.asarray(y, np.float64)
    low, high, mean = (float(f(wide)) if wide.size else float("nan") for f in (np.min, np.max, np.mean))
    return {"output": name, "dtype": str(y.dtype), "shape": list(y.shape), "min": low, "max": high, "mean": mean}
