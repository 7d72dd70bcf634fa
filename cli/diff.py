"""`tersor diff A B`: the first op whose values differ.

Values are matched by name: a value that a pass puts in another's place has its name. A torch module gives the results of its
submodules, under the names that `trace` gives them; `compiled:model.tersor` compiles a graph here and gives the result of every kernel;
`ort:model.onnx` gives every float tensor as onnxruntime computes it, unoptimized; a .tso gives only its outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ..ir.errors import TersorError
from ..ir.graph import Graph
from . import show
from .build import Imports, Json, load_imports
from .sources import COMPILED, example, given_shapes, is_factory, leaves, random_array, read_graph, read_inputs, read_module

if TYPE_CHECKING:
    import torch


@dataclass
class Values:
    """What one side computed: (value name -> (op, location, array)) in order, and its outputs by name."""

    outputs: dict[str, np.ndarray]
    inner: dict[str, tuple[str, str, np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One compared value. error: max|b - a| / max|a|; sqnr: 10 log10(sum a^2 / sum (b - a)^2) in dB."""

    value: str
    op: str
    loc: str
    error: float
    sqnr: float


def diff(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="The reference: MODULE:FACTORY, a .tersor, .mlir or .onnx graph, compiled:GRAPH, ort:MODEL.onnx (onnxruntime), or a .tso.",
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="What is compared with it: any of the same.")],
    inputs: Annotated[list[str] | None, typer.Option("--input", "-i", help="x.npy, NAME=x.npy or an .npz; without it seeded random inputs.")] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option("--shape", "-s", help="Shapes of the inputs, where no side says them."),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Values part where max|b - a| / max|a| is larger.")] = 1e-4,
    target: Annotated[str, typer.Option("--target", "-t", help="For compiled:GRAPH: what to compile it for.")] = "cpu",
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Compare two models value by value and name the first op that differs. Exit code 1 when an output does."""
    load_imports(imports)
    sides = [open_side(s, target, shape) for s in (a, b)]
    arrays = make_inputs(sides, inputs or [], shape or [])
    values = []
    for name, side in zip((a, b), sides):
        with show.working(f"running {name}"):
            values.append(run_side(side, arrays))
    inner, outputs = compare(*values)
    first = next((r for r in inner if not r.error <= tolerance), None)
    bad = [r for r in outputs if not r.error <= tolerance]
    if as_json:
        show.emit_json(
            {"first": vars(first) if first else None, "agree": not bad, "outputs": list(map(vars, outputs)), "values": list(map(vars, inner))}
        )
    else:
        report(inner, outputs, first, bad, tolerance)
    if bad:
        raise typer.Exit(1)


def report(inner: Sequence[Row], outputs: Sequence[Row], first: Row | None, bad: Sequence[Row], tolerance: float) -> None:
    """The table, and one sentence that sums it up."""
    lines = [(r.value, r.op, f"{r.error:.1e}", f"{r.sqnr:.1f}", r.loc) for r in [*inner, *outputs]]
    show.table(["value", "op", "max error", "SQNR, dB", "location"], lines, left=2)
    if not bad:
        moved = sum(not r.error <= tolerance for r in inner)
        note = f"; {moved} values on the way do not: a rewrite gave them another meaning" if moved else ""
        show.line(f"the outputs agree within {tolerance:.0e} ({len(inner)} values compared on the way){note}", style="green")
    elif first is not None:
        show.line(f"first to part: %{first.value} of {first.op} [{first.loc}], max error {first.error:.1e}, SQNR {first.sqnr:.1f} dB", style="red")
    else:
        where = "no value on the way could be compared" if not inner else f"all {len(inner)} values compared on the way agree"
        show.line(f"output {bad[0].value!r} parts: max error {bad[0].error:.1e}, SQNR {bad[0].sqnr:.1f} dB; {where}", style="red")


@dataclass(frozen=True)
class Compiled:
    """A graph to be compiled for a target."""

    graph: Graph
    target: str


def open_side(source: str, target: str, shapes: Sequence[str] | None = None) -> Any:
    """A torch module, a Graph, a Graph to compile, a model for onnxruntime, or a compiled model."""
    if source.startswith("ort:"):
        from ..frontend.onnx.runtime import OnnxRuntime

        return OnnxRuntime(source.removeprefix("ort:"), given_shapes(shapes) if shapes else None)
    if source.startswith("compiled:"):
        return Compiled(open_graph(source.removeprefix("compiled:"), shapes), target)
    if is_factory(source):
        return read_module(source)
    if Path(source).suffix == COMPILED:
        from .. import load_compiled

        return load_compiled(source)
    return open_graph(source, shapes)


def open_graph(source: str, shapes: Sequence[str] | None) -> Graph:
    """A graph; only an .onnx model asks for shapes."""
    return read_graph(source, None, shapes if Path(source).suffix == ".onnx" else None)


def make_inputs(sides: Sequence[Any], files: Sequence[str], shapes: Sequence[str]) -> list[np.ndarray]:
    """Arrays in the order of the inputs: from files, else random in the given shapes or in those of the first side that knows its inputs."""
    known = next((k for k in map(known_inputs, sides) if k), None)
    if shapes and not files and known is None:
        given = example(shapes)
        return [x.numpy() for x in (given.values() if isinstance(given, dict) else given)]
    if not files:
        if known is None:
            raise TersorError("torch modules do not say what to put in: give --input or --shape")
        rng = np.random.default_rng(0)
        return [random_array(rng, *s) for s in known.values()]
    names = list(known) if known else [f"input_{i}" for i in range(len(files))]
    arrays = read_inputs(files, names)
    if missing := [n for n in names if n not in arrays]:
        raise TersorError(f"no --input for {', '.join(missing)}; inputs: {', '.join(names)}")
    return [arrays[n] for n in names]


def known_inputs(side: Any) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and dtype of the inputs by name; empty for a torch module."""
    if isinstance(side, Compiled):
        side = side.graph
    if isinstance(side, Graph):
        return {v.name: (v.shape, v.type.dtype) for v in side.inputs}
    if hasattr(side, "path"):
        return dict(side.inputs)
    return {n: (p.shape, p.type.dtype) for n, p in side.inputs.items()} if hasattr(side, "manifest") else {}


def run_side(side: Any, arrays: Sequence[np.ndarray]) -> Values:
    """Run one side on inputs in order."""
    if isinstance(side, Graph):
        return run_graph(side, arrays)
    if isinstance(side, Compiled):
        return run_compiled(side, arrays)
    if hasattr(side, "path"):
        return Values(*side.run(arrays))
    if hasattr(side, "manifest"):
        return Values(dict(zip(side.outputs, leaves(side.manifest.structure, side(*arrays)))))
    return run_module(side, arrays)


def run_compiled(side: Compiled, arrays: Sequence[np.ndarray]) -> Values:
    """Outputs of the compiled graph, and the result of each of its kernels."""
    from .. import compile
    from ..backend.intermediates import kernel_values

    batch = next((x.shape[0] for v, x in zip(side.graph.inputs, arrays) if v.name in side.graph.batched), None)
    model = compile(side.graph, target=side.target, batch=batch)
    outputs = dict(zip(model.outputs, leaves(model.manifest.structure, model(*arrays))))
    return Values(outputs, kernel_values(side.graph, arrays, side.target))


def run_graph(graph: Graph, arrays: Sequence[np.ndarray]) -> Values:
    """Every named value of the reference evaluation."""
    import torch

    from ..ir.evaluate import at_batch_of, bind, evaluate, to_numpy, to_torch

    inner: dict[str, tuple[str, str, np.ndarray]] = {}

    def observe(op: Any, y: torch.Tensor) -> None:
        if len(op.outs) == 1 and op.out.name:
            inner[op.out.name] = (op.name, str(op.loc), to_numpy(y))

    given = bind(graph, tuple(arrays), {})
    with torch.no_grad():
        results = evaluate(at_batch_of(graph, given), [to_torch(x) for x in given], observe=observe)
    return Values(dict(zip(graph.output_names, map(to_numpy, results))), inner)


def run_module(module: torch.nn.Module, arrays: Sequence[np.ndarray]) -> Values:
    """Results of the eager module, and of those of its submodules that run once and whose result has a name in the trace."""
    import torch

    from .. import trace
    from ..ir.evaluate import to_numpy, to_torch

    inputs = tuple(to_torch(x) for x in arrays)
    graph = trace(module, inputs)
    calls: dict[str, list[Any]] = {}

    def keep(path: str, y: Any) -> None:
        calls.setdefault(path, []).append(y.detach().clone() if isinstance(y, torch.Tensor) else None)

    hooks = [m.register_forward_hook(lambda _m, _x, y, path=path: keep(path, y)) for path, m in module.named_modules() if path]
    with torch.no_grad():
        result = module(*inputs)
    for hook in hooks:
        hook.remove()
    last = {op.loc.path: op for op in graph.ops}
    inner = {}
    for path, op in last.items():
        once = calls.get(path, [])
        if len(once) == 1 and once[0] is not None and tuple(once[0].shape) == op.out.shape:
            inner[op.out.name] = (type(module.get_submodule(path)).__name__, str(op.loc), to_numpy(once[0]))
    return Values({n: to_numpy(y) for n, y in zip(graph.output_names, leaves(graph.structure, result))}, inner)


def compare(a: Values, b: Values) -> tuple[list[Row], list[Row]]:
    """Rows of the values that both sides have with the same name and shape, in the order of B (of A where only A knows it), and of the outputs."""
    inner = [
        row(name, op, loc, a.inner[name][2], y) for name, (op, loc, y) in b.inner.items() if name in a.inner and a.inner[name][2].shape == y.shape
    ]
    if len(a.outputs) != len(b.outputs):
        raise TersorError(f"A has {len(a.outputs)} outputs ({', '.join(a.outputs)}), B has {len(b.outputs)} ({', '.join(b.outputs)})")
    outputs = []
    for (name, x), y in zip(a.outputs.items(), b.outputs.values()):
        if x.shape != y.shape:
            raise TersorError(f"output {name!r} has shape {list(x.shape)} in A and {list(y.shape)} in B")
        outputs.append(row(name, "output", "", x, y))
    return inner, outputs


def row(name: str, op: str, loc: str, x: np.ndarray, y: np.ndarray) -> Row:
    """Error and SQNR of y against x; nan and inf must be in the same places."""
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(np.where(finite, 0.0, a), np.where(finite & np.isfinite(b), 0.0, b), equal_nan=True):
        return Row(name, op, loc, math.inf, -math.inf)
    gap, scale = np.abs(a - b)[finite], np.abs(a)[finite]
    if not gap.size or not gap.any():
        return Row(name, op, loc, 0.0, math.inf)
    signal, noise = float(np.square(scale).sum()), float(np.square(gap).sum())
    error = float(gap.max() / (scale.max() or 1.0))
    return Row(name, op, loc, error, 10 * math.log10(signal / noise) if signal else -math.inf)
