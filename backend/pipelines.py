"""The stages of lowering, a list for each kind of target: a graph of nn operators becomes a sequence of kernels with memory offsets.

The graph after every stage can be printed, parsed in another process, and lowered further to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..ir.errors import TersorError
from ..ir.graph import Graph
from ..ir.ops import Dequantize, Fake, FakeConvNorm2d
from ..ir.verify import verify
from ..passes import transform
from .lowering.alias_concats import alias_concats
from .lowering.apply_metaschedule import select_with_metaschedule
from .lowering.assign_layouts import assign_layouts
from .lowering.fuse_chains import fuse_chains
from .lowering.fuse_epilogues import fuse_epilogues
from .lowering.fuse_gathers import fuse_gathers
from .lowering.legalize import legalize
from .lowering.own_outputs import own_outputs
from .lowering.partition_rows import partition_rows
from .lowering.plan_memory import plan_memory
from .lowering.select_kernels import WINOGRAD, select_kernels
from .lowering.store_half import store_half
from .target import Target
from .tuned.database import Tuned, find

Stage = Callable[[Graph, Target, int], Graph]
Observer = Callable[[str, Graph], None]


def integers(graph: Graph) -> Graph:
    """The graph with its quantize/dequantize pairs, such as those of a quantized ONNX model, as integer operators (`to-integer`)."""
    return transform(graph, "to-integer") if any(map(graph.find, (Dequantize, Fake, FakeConvNorm2d))) else graph


#: x86-64 and 64-bit ARM.
CPU_STAGES: dict[str, Stage] = {
    # masked and shared weights become constants, quantize/dequantize pairs integer operators; then the preset `default` folds batch norms,
    # computes constants and removes dead code
    "prepare": lambda graph, target, threads: transform(integers(transform(graph, "freeze-sparsity")), "default"),
    # afterwards every operator has a kernel
    "legalize": lambda graph, target, threads: legalize(graph, target),
    # before layouts are assigned, since an epilogue has the layout of its anchor
    "fuse-epilogues": lambda graph, target, threads: fuse_epilogues(graph),
    # block feature maps by the vector width; packs convert between plain and blocked
    "assign-layouts": lambda graph, target, threads: assign_layouts(graph, target.lanes),
    # the stages that follow ask the chosen templates what they can address
    "select-kernels": select_with_metaschedule,
    # concats and slices whose operands share the result's memory need no kernel
    "alias-concats": alias_concats,
    # the gathers that are left go into the kernels that read them
    "fuse-gathers": fuse_gathers,
    # merge neighbouring kernels, so that the feature map between them stays in cache; after fuse-gathers, whose fusions are not merged
    "fuse-chains": fuse_chains,
    # after the last change of kernels: store each thread's rows of a feature map together, where producer and consumers support it
    "partition-rows": partition_rows,
    # last, when all sizes and strides are known: an arena offset for each result
    "plan-memory": plan_memory,
}
#: OpenCL and CUDA: feature maps stay plain (N, C, H, W).
GPU_STAGES: dict[str, Stage] = {
    "prepare": CPU_STAGES["prepare"],
    "legalize": CPU_STAGES["legalize"],
    "fuse-epilogues": CPU_STAGES["fuse-epilogues"],
    # kernels write outputs to the caller's memory
    "own-outputs": lambda graph, target, threads: own_outputs(graph),
    # after own-outputs, since outputs stay f32; before kernels are selected, some of which are for f16
    "store-half": lambda graph, target, threads: store_half(graph, target),
    "select-kernels": select_kernels,
    "plan-memory": plan_memory,
}
#: By kind of target.
PIPELINES: dict[str, dict[str, Stage]] = {"cpu": CPU_STAGES, "opencl": GPU_STAGES, "cuda": GPU_STAGES}


def stages_of(target: Target) -> dict[str, Stage]:
    """The stages for a target."""
    return PIPELINES[target.kind]


def lower(
    graph: Graph,
    target: Target,
    threads: int = 1,
    observe: Observer | None = None,
    tuned: Tuned = None,
    until: str | None = None,
    winograd: int = WINOGRAD,
) -> Graph:
    """Lower a copy of a graph; `observe(stage, graph)` sees it after each stage.

    tuned, winograd: as for `compile`. until: the last stage to run.
    """
    names = list(stages_of(target))
    return _run(graph, names[: names.index(until) + 1] if until else names, target, threads, observe, tuned, winograd)


def resume(
    graph: Graph,
    stage: str,
    target: Target,
    threads: int = 1,
    observe: Observer | None = None,
    tuned: Tuned = None,
    winograd: int = WINOGRAD,
) -> Graph:
    """Continue with the stages after `stage`, from the graph after that stage. Target and threads must be the same as before."""
    names = list(stages_of(target))
    if stage not in names:
        raise TersorError(f"unknown stage {stage!r}; stages: {', '.join(names)}")
    return _run(graph, names[names.index(stage) + 1 :], target, threads, observe, tuned, winograd)


def _run(graph: Graph, stages: list[str], target: Target, threads: int, observe: Observer | None, tuned: Tuned, winograd: int) -> Graph:
    graph = graph.clone()
    database = find(tuned, target)
    run = dict(stages_of(target))
    if target.kind == "cpu":
        run["select-kernels"] = partial(select_with_metaschedule, tuned=database, winograd=winograd)
        run["fuse-chains"] = partial(fuse_chains, tuned=database)
    else:
        run["select-kernels"] = partial(select_kernels, tuned=database)
    for name in stages:
        graph = run[name](graph, target, threads)
        verify(graph, constants=False)
        if observe is not None:
            observe(name, graph)
    return graph
