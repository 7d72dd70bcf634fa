"""The result of every kernel of a compiled graph, to find a wrong one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir.evaluate import bind
from ..ir.graph import Graph
from .compile import build
from .pipelines import lower, resume
from .target import Target, resolve
from .tile.ops import Fused, block, unpack_torch

#: Ops of a kernel, location of the last, result.
KernelValue = tuple[str, str, np.ndarray]


def kernel_values(graph: Graph, inputs: Sequence[np.ndarray], target: str | Target = "cpu", threads: int = 1) -> dict[str, KernelValue]:
    """Results by value name, in order, for every kernel of the graph at the batch of `inputs`.

    The kernels and their parameters are those of `compile`; only, each result has its own memory, so that nothing overwrites it.
    """
    target = resolve(target)
    arrays = bind(graph, tuple(inputs), {})
    batch = next((x.shape[0] for v, x in zip(graph.inputs, arrays) if v.name in graph.batched), None)
    scheduled: list[Graph] = []

    chosen = "select-kernels" if target.gpu else "fuse-chains"

    def observe(stage: str, lowered: Graph) -> None:
        if stage == chosen:
            scheduled.append(lowered.clone())

    lower(graph if batch is None else graph.at(batch), target, threads, observe)
    (all_results,) = scheduled
    kernels = [op for op in all_results.ops if isinstance(op, Fused)]
    names = [f"kernel_{i}" for i in range(len(kernels))]
    all_results.set_outputs([op.out for op in kernels], names)
    for op in kernels:
        op.alias = False
    model = build([(batch, resume(all_results, chosen, target, threads))], target, threads)
    results = model(*arrays)
    if len(kernels) == 1:
        results = (results,)
    values: dict[str, KernelValue] = {}
    for op, result in zip(kernels, results):
        if op.out.name:
            ops = "+".join(o.name.removeprefix("nn.").removeprefix("tile.") for o in op.body.ops)
            values[op.out.name] = (ops, str(op.body.ops[-1].loc), _plain(op, result))
    return values


def _plain(op: Fused, result: np.ndarray) -> np.ndarray:
    """A result in its plain layout."""
    import torch

    layout = op.out.type.layout
    if layout is None or not block(layout):
        return result
    plain: np.ndarray = unpack_torch(torch.from_numpy(result), layout.channels).numpy()
    return plain
