"""`tersor trace`, `opt` and `compile`: from a torch module to a graph, between graphs, from a graph to native code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..ir.errors import TersorError
from ..ir.graph import Graph
from ..reproducer import reproducing
from . import show
from .images import Mean, Size, Std, accuracy_on, calibration_of, first_process, read_images, with_image_input
from .sources import COMPILED, GRAPHS, example, import_module, read_graph, read_module

Weights = Annotated[str | None, typer.Option("--weights", help="A .safetensors file with the constants of an .mlir graph.")]
Shapes = Annotated[list[str] | None, typer.Option("--shape", "-s", help="For an .onnx model with free sizes: x=1x3x224x224, or in order.")]
Failure = Annotated[str | None, typer.Option("--reproducer", help="Where this fails, write graph, options and inputs to this .repro file.")]
Imports = Annotated[list[str] | None, typer.Option("--import", "-I", help="A module or file.py to import first, for its passes, ops and kernels.")]
Tuned = Annotated[str | None, typer.Option("--tuned", help="A database of `tersor tune`, or `none`; without it the shipped one.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def trace(
    source: Annotated[str, typer.Argument(metavar="MODULE:FACTORY", help="A torch module, its class or a function that makes it: models.py:build.")],
    shape: Annotated[list[str], typer.Option("--shape", "-s", help="Shape of an input, in order: 1x3x224x224, or ids=1x16:i64.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The .tersor (or .mlir) file to write.")],
    static: Annotated[bool, typer.Option("--static", help="Fix the batch to the example's.")] = False,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Trace a torch module to a graph."""
    load_imports(imports)
    check_suffix(output, GRAPHS)
    from .. import trace as trace_module

    module = read_module(source)
    with show.working(f"tracing {source}"):
        graph = trace_module(module, example(shape), batch=not static)
        graph.save(output)
    summarize(graph, output, as_json)


def opt(
    source: Annotated[str, typer.Argument(metavar="IN", help="A .tersor, .mlir or .onnx graph.")],
    pipeline: Annotated[str, typer.Option("--pipeline", "-p", help='Passes or presets: "fold-bn,canonicalize", "default", "@file".')] = "",
    output: Annotated[str | None, typer.Option("--output", "-o", help="The graph to write; without it the text goes to standard output.")] = None,
    weights: Weights = None,
    shape: Shapes = None,
    calibration: Annotated[
        str | None, typer.Option(help="A folder of images, or an .npz of samples along axis 0, for passes that look at activations.")
    ] = None,
    train: Annotated[str | None, typer.Option(help="Images to train on: a folder with a sub-folder for each class, or fashion-mnist.")] = None,
    test: Annotated[str | None, typer.Option(help="Images to measure accuracy on before the first pass and after each inexact one.")] = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    as_bytes: Annotated[
        bool, typer.Option("--image-input", help="First make the input bytes, u8 (N, H, W, C): --mean and --std go into the network.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of passes that draw random numbers.")] = 0,
    dump_after_all: Annotated[bool, typer.Option("--dump-after-all", help="Write the graph after every pass to standard error.")] = False,
    dump_to: Annotated[Path | None, typer.Option(help="Write the graph after every pass to a file in this folder.")] = None,
    timing: Annotated[bool, typer.Option("--timing", help="Write the time of every pass to standard error.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Test what every pass declares (exact, numeric, lossy) on real inputs.")] = False,
    why: Annotated[bool, typer.Option("--why", help="Write refused matches and their reasons to standard error.")] = False,
    reproducer: Failure = None,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Run passes over a graph: what mlir-opt is to MLIR. --json prints the ledger."""
    load_imports(imports)
    if output is not None:
        check_suffix(output, GRAPHS)
    from .. import transform
    from ..ir.rewrite import Trace
    from ..passes import DumpAfterEach, Instrument, Timing

    graph = read_graph(source, weights, shape)
    if as_bytes:
        graph = with_image_input(graph, mean, std)
        mean = std = None
    instruments: list[Instrument] = []
    if dump_after_all:
        instruments.append(DumpAfterEach(sys.stderr))
    if dump_to is not None:
        instruments.append(DumpAfterEach(dump_to))
    if timing:
        instruments.append(Timing(sys.stderr))
    refused = Trace() if why else None
    data: dict[str, Any] = {"calibration": calibration_of(calibration, graph, mean, std, size) if calibration is not None else None}
    data["train"] = read_images(train, graph, mean, std, size, "train") if train is not None else None
    data["evaluate"] = accuracy_on(read_images(test, graph, mean, std, size, "t10k")) if test is not None else None
    again = {"pipeline": pipeline, "seed": seed, "check": check}
    with reproducing(reproducer, "transform", graph, again, data["calibration"], show.note):
        small = transform(graph, pipeline, **data, seed=seed, check=check, instruments=instruments, progress=True, why=refused)
    if not first_process():
        return
    if refused is not None and str(refused):
        show.note(str(refused))
    if output is not None:
        small.save(output)
    if as_json:
        show.emit_json(json.loads(small.report.to_json()))
    elif output is None:
        print(small)
    else:
        show.rich(small.report)


def compile(
    source: Annotated[str, typer.Argument(metavar="IN", help="A .tersor, .mlir or .onnx graph.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The .tso file to write.")],
    target: Annotated[str, typer.Option("--target", "-t", help="cpu, cpu:znver3, arm64:cortex-a72, opencl, cuda:sm_90, ...")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of one call, fixed in the code.")] = 1,
    batch: Annotated[
        str | None, typer.Option(help="Batch sizes in one artifact: 1,8. Without it 1 and the graph's, or the graph's alone where that is fixed.")
    ] = None,
    pipeline: Annotated[str, typer.Option("--pipeline", "-p", help="Passes that run before; lowering itself begins with `default`.")] = "default",
    tuned: Tuned = None,
    winograd: Annotated[int, typer.Option(help="Largest m of Winograd's F(m x m, 3x3): 0 none, 2, 4 or 6 (less precise).")] = 4,
    dtype: Annotated[
        str, typer.Option(help="For GPUs: f16 or bf16 stores feature maps and weights in half precision, tf32 multiplies in it.")
    ] = "f32",
    require: Annotated[str | None, typer.Option(help="f32, int8 or bits: an operator that computes in another precision is an error.")] = None,
    weights: Weights = None,
    shape: Shapes = None,
    reproducer: Failure = None,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Compile a graph to native code."""
    load_imports(imports)
    check_suffix(output, (COMPILED,))
    from .. import compile as compile_graph
    from .. import transform

    graph = read_graph(source, weights, shape)
    with show.counting(f"compiling {source} for {target}") as progress:
        options: dict[str, Any] = {
            "target": target,
            "threads": threads,
            "batch": batches_of(batch),
            "tuned": database_of(tuned),
            "winograd": winograd,
            "require": require,
            "dtype": dtype,
        }
        prepared = transform(graph, pipeline)
        with reproducing(reproducer, "compile", prepared, options, note=show.note):
            model = compile_graph(prepared, **options, progress=progress)
        model.save(output)
    size = Path(output).stat().st_size
    if as_json:
        show.emit_json({"file": output, "bytes": size} | vars(model.report))
    else:
        show.line(f"{output}: {size:,} bytes")
        show.line(str(model.report))


def load_imports(imports: list[str] | None) -> None:
    """Run the user's files that register passes, ops and kernels."""
    for name in imports or []:
        import_module(name)


def check_suffix(path: str, valid: tuple[str, ...]) -> None:
    """Fail before the work rather than after it."""
    if Path(path).suffix not in valid:
        raise TersorError(f"cannot write {path}: expected a name that ends in {' or '.join(valid)}")
    if not Path(path).resolve().parent.is_dir():
        raise TersorError(f"cannot write {path}: there is no folder {Path(path).parent}")


def database_of(text: str | None) -> str | bool | None:
    """The `tuned` argument of `compile` for `--tuned`: `none` means no database."""
    return False if text == "none" else text


def batches_of(text: str | None) -> list[int] | None:
    """`"1,8"` -> [1, 8]."""
    if text is None:
        return None
    parts = [p.strip() for p in text.split(",")]
    if not all(p.isdigit() and int(p) for p in parts):
        raise TersorError(f"expected batch sizes such as 1,8, got {text!r}")
    return [int(p) for p in parts]


def summarize(graph: Graph, path: str, as_json: bool) -> None:
    from ..passes.core.report import measure

    row = measure(graph, path)
    shapes = {v.name: f"{'batch x ' if v.name in graph.batched else ''}{v.type}" for v in graph.inputs}
    if as_json:
        outputs = {n: str(v.type) for n, v in zip(graph.output_names, graph.outputs)}
        inputs = {v.name: str(v.type) for v in graph.inputs}
        show.emit_json(
            {"file": path, "inputs": inputs, "outputs": outputs, "ops": row.ops, "parameters": row.parameters, "macs": row.macs, "bytes": row.nbytes}
        )
    else:
        given = ", ".join(f"{n}: {t}" for n, t in shapes.items())
        show.line(f"{path}: {row.ops} ops, {row.parameters:,} parameters, {row.macs:,} MACs; inputs {given}")
