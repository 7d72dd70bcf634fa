"""compile: Graph -> CompiledModel. One native module has a host function per batch size; these share weights and equal kernels."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ..ir.errors import TersorError, UnsupportedError
from ..ir.graph import Graph
from ..ir.op import Value
from .accuracy import accuracy
from .codegen.builder import TIR_DTYPE
from .codegen.peak import peak_functions
from .emit.code import Progress
from .emit.device import DeviceEmitter
from .emit.module import Emitter
from .export_c.export import export_c
from .kernels.cpu.integer_peak import integer_peak
from .kernels.template import template_named
from .lowering.select_kernels import WINOGRAD, WINOGRAD_TILES
from .pipelines import Observer, integers, lower
from .precision import REQUIRE, check_bits, check_int8, macs, precisions, require_bits, require_f32, require_int8
from .runtime.artifact import Entry, Manifest, Peak, Port
from .runtime.device.compiled import DeviceModel
from .runtime.model import CompiledModel
from .runtime.native import versions
from .target import Target, resolve
from .tile.fusion import Fusion, root
from .tile.ops import Fused
from .tuned.database import Tuned, find

#: Valid values of `dtype`.
DTYPES = ("f32", "f16", "bf16", "tf32")


def compile(
    graph: Graph,
    target: str | Target = "cpu",
    threads: int = 1,
    batch: int | Sequence[int] | None = None,
    require: str | None = None,
    observe: Observer | None = None,
    tuned: Tuned = None,
    winograd: int = WINOGRAD,
    progress: Progress | None = None,
    dtype: str = "f32",
) -> CompiledModel:
    """Native code for a graph. Quantize/dequantize pairs first become integer operators, by the pass `to-integer`.

    target: `"cpu"` (this machine), `"cpu:znver3"`, `"arm64:cortex-a72"`, `"opencl"`, `"cuda:sm_90"`, or a `Target`. For CUDA, nvcc makes
    the code where it is found (`TERSOR_NVCC`, or on the path); a model compiled without it can be saved and read, but not run.
    threads: how many threads each call uses, fixed here.
    batch: one batch size or several, each with its own code and all with the same weights (except those that
    Winograd transforms differently for another batch). None is 1 and the example's, or the traced size where the batch is static.
    require: makes some operators an error. `"f32"`: one that computes in another float type; `"int8"`: one that has multiply-accumulates in floats,
    or that computes in floats between integer operators; `"bits"`: a float layer whose weights or inputs have few bits.
    observe: called as `observe(stage, graph)` after each stage of lowering, for each batch.
    tuned: choices of kernels measured by `tune`: a `Database` or the path of one, None for the one that ships with Tersor for this processor
    (if any), False for none. For fusions not in the database the cost model chooses; `profile()` says which of the two did.
    winograd: the largest m for which a 3x3 convolution may use Winograd's F(m x m, 3x3): 0 none (the least memory), 2, 4 (as precise as a direct
    convolution), 6 (somewhat faster on large feature maps, ten times the rounding error).
    progress: called as `progress(done, functions)` while functions are compiled.
    dtype: for GPUs, the type in which f32 feature maps and weights are kept in memory: `"f16"` or `"bf16"` (less precise, with the range of f32)
    halves both, and lets tensor cores multiply. `"tf32"`, for CUDA: they stay f32, and tensor cores round to 11 bits what they multiply. Sums,
    inputs and outputs stay f32. `report.accuracy` says what it costs on random inputs, by the interpreter.

    Kernels are compiled on all cores, and their code is kept in a folder for the next compile (`TERSOR_CACHE`, see docs/compile-and-profile.md).

    Raises `TersorError` for an unknown target, a batch the graph cannot take, constants that hold nan or a damaged database, and
    `UnsupportedError` for an operator or element type without a kernel.
    """
    if not isinstance(graph, Graph):
        raise TersorError(f"compile takes a Graph, got {type(graph).__name__}: a torch.nn.Module becomes one by trace(module, example_inputs)")
    target = resolve(target)
    sizes = batch_sizes(graph, batch)
    if threads < 1:
        raise TersorError(f"threads must be at least 1, got {threads}")
    if require is not None and require not in REQUIRE:
        raise TersorError(f"unknown require={require!r}; valid: {', '.join(REQUIRE)}")
    if winograd not in WINOGRAD_TILES:
        raise TersorError(f"unknown winograd={winograd!r}; valid: 0 (none), {', '.join(map(str, WINOGRAD_TILES[1:]))}")
    if target.gpu and threads > 1:
        raise TersorError(f"threads are those of a CPU, got {threads} for target {target.name!r}: leave them out")
    if dtype not in DTYPES:
        raise TersorError(f"unknown dtype={dtype!r}; valid: {', '.join(DTYPES)}")
    if dtype != "f32" and not target.gpu:
        raise TersorError(f"dtype={dtype!r} is for GPUs, and target {target.name!r} stores and computes in f32: leave it out")
    if dtype != "f32" and require == "f32":
        raise TersorError(f"require='f32' and {dtype=} exclude each other: leave one out")
    if dtype == "tf32" and target.capability < 80:
        raise TersorError(f"dtype='tf32' is for tensor cores (CUDA from sm_80 on), which target {target.name!r} has not; valid: f32, f16, bf16")
    target = replace(target, elem=dtype) if target.gpu and dtype != "f32" else target
    _check_elements(graph.verify())
    if require == "int8":
        require_int8(integers(graph))
    elif require == "bits":
        require_bits(graph)
    database = find(tuned, target) or False

    def lowered() -> Iterator[tuple[int | None, Graph]]:
        for n in sizes:
            result = lower(graph if n is None else graph.at(n), target, threads, observe, database, winograd=winograd)
            if require == "f32":
                require_f32(result)
            elif require == "int8":
                check_int8(result)
            elif require == "bits":
                check_bits(result)
            yield n, result

    return build(lowered(), target, threads, progress, graph)


def build(
    lowered: Iterable[tuple[int | None, Graph]],
    target: Target,
    threads: int = 1,
    progress: Progress | None = None,
    source: Graph | None = None,
) -> CompiledModel:
    """Native code for planned graphs (what `lower` returns) and their batch sizes; each is taken after the one before is emitted.

    source: the graph before lowering, with which half precision is compared.
    """
    if target.gpu:
        return build_for_device(lowered, target, source)
    emitter = Emitter(target, threads, remember=True)
    entries, precision, products = [], {}, {}
    for n, graph in lowered:
        function = "main" if n is None else f"main_b{n}"
        steps, arena = emitter.add(graph, function)
        inputs = tuple(_port(v, v.name, _anywhere(graph, v)) for v in graph.inputs)
        outputs = tuple(_port(v, name) for v, name in zip(graph.outputs, graph.output_names))
        entries.append(Entry(function, n, inputs, outputs, tuple(sorted(graph.batched)), arena, tuple(steps)))
        name, structure, precision, products = graph.name, graph.structure, precisions(graph), macs(graph)
    functions, peak = peak_functions(target)
    used = {step.params["arithmetic"] for entry in entries for step in entry.steps if "arithmetic" in step.params}
    integer = {name: integer_peak(target, name) for name in sorted(used)}
    for made in (functions, *(made for made, _ in integer.values())):
        emitter.functions.update(made)
    with ThreadPoolExecutor(1, "tersor-blob") as beside:
        weights = beside.submit(emitter.weights.blob)
        code = emitter.code(progress)
    integer_peaks = {name: p for name, (_, p) in integer.items()}
    manifest = Manifest(name, versions(), target, threads, structure, tuple(entries), peak, precision, products, integer_peaks)
    return CompiledModel(manifest, weights.result(), code.function, code.shared_library, functools.partial(export_c, code))


def build_for_device(lowered: Iterable[tuple[int | None, Graph]], target: Target, source: Graph | None = None) -> DeviceModel:
    """`build` for a GPU: kernels as source or cubin, and the launch of each step."""
    emitter = DeviceEmitter(target)
    entries, launches, precision, products = [], {}, {}, {}
    measured: dict[str, float] = {}
    for n, graph in lowered:
        function = "main" if n is None else f"main_b{n}"
        steps, launches[function], arena = emitter.add(graph)
        if target.elem != "f32" and source is not None and not measured:
            measured = accuracy(source if n is None else source.at(n), graph)
        inputs = tuple(_port(v, v.name) for v in graph.inputs)
        outputs = tuple(_port(v, name) for v, name in zip(graph.outputs, graph.output_names))
        entries.append(Entry(function, n, inputs, outputs, tuple(sorted(graph.batched)), arena, tuple(steps)))
        name, structure, precision, products = graph.name, graph.structure, precisions(graph), macs(graph)
    code = emitter.code()
    manifest = Manifest(name, versions(), target, 1, structure, tuple(entries), Peak("", 0, 0), precision, products, {}, launches, measured)
    return DeviceModel(manifest, emitter.weights.blob(), lambda: code)


def batch_sizes(graph: Graph, batch: int | Sequence[int] | None) -> list[int | None]:
    """The batch sizes to compile for, by default 1 and the example's; None stands for a graph whose sizes are all fixed."""
    if batch is None:
        example = next((v.shape[0] for v in graph.inputs if v.name in graph.batched), None)
        return [None] if example is None else [*dict.fromkeys((1, example))]
    sizes: list[int | None] = [*batch] if isinstance(batch, Sequence) and not isinstance(batch, str) else [batch]
    if not sizes or len(set(sizes)) != len(sizes) or not all(isinstance(n, int) and n > 0 for n in sizes):
        raise TersorError(f"batch must be a positive size or a list of distinct ones, got {batch!r}")
    return sizes


def _port(v: Value, name: str, unaligned: bool = False) -> Port:
    return Port(name, v.shape, str(v.type.elem), unaligned)


def _anywhere(graph: Graph, v: Value) -> bool:
    """Whether all kernels that read an input load it element by element, so that it needs no alignment."""
    for op in (op for op in graph.ops if isinstance(op, Fused)):
        fusion = Fusion(op)
        read = [inner for outer, inner in zip(op.args, op.body.inputs) if root(outer) is v]
        named = template_named(op.template, fusion.anchor).unaligned_inputs(fusion) if read else []
        if any(inner not in named or set(inner.users) != {fusion.anchor} for inner in read):
            return False
    return True


def _check_elements(graph: Graph) -> None:
    """Refuse element types that no kernel computes in."""
    for v, where in [*((v, f"input {v.name!r}") for v in graph.inputs), *((o.out, f"{o.name} [{o.loc}]") for o in graph.ops)]:
        if isinstance(v.type.elem, str) and v.type.elem not in TIR_DTYPE:
            raise UnsupportedError(f"{where} is {v.type}: no kernel computes in {v.type.elem}; valid element types: {', '.join(TIR_DTYPE)}")
