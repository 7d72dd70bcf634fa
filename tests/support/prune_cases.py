"""Helpers of the tests of channel pruning: the masked original, an oracle in float64 that removes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tersor.ir import Const, Graph, Op
from tersor.ir.evaluate import evaluate, to_torch
from tersor.ir.ops import Conv2d, ConvTranspose2d, Linear, Matmul
from tersor.passes.coupling import Coupling, explain, inputs_of, layers_of, outputs_of
from tersor.passes.prune.remove import remove_channels

torch.set_num_threads(1)


def trained(module: nn.Module, shape: tuple[int, ...], seed: int = 0) -> nn.Module:
    """Random weights, biases and running statistics, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.5 if p.dim() > 1 else 1))
        module.train()
        for m in module.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.momentum = None
        module(torch.randn(shape, generator=generator))
    return module.eval()


def prunable(graph: Graph) -> dict[str, int]:
    """Number of prunable output channels by module path, where there are any."""
    return {e.layer.loc.path: e.prunable for e in explain(graph) if e.prunable}


def masked(graph: Graph, coupling: Coupling, removed: set[int], x: torch.Tensor) -> list[torch.Tensor]:
    """The outputs when the filters of the removed channels are zero, in float64.

    A convolution that pads has the constant of a removed channel in its border, too; a removed channel that is not constant counts as zero.
    """
    env: dict[Any, Any] = dict(zip(graph.inputs, [x.double()]))
    for op in graph.ops:
        if isinstance(op, Const):
            y = to_torch(op.array.copy())
            env[op.out] = y.double() if y.is_floating_point() else y
            continue
        args = [[env[o] for o in v] if isinstance(v := getattr(op, f.name), list) else None if v is None else env[v] for f in op.operand_fields]
        env[op.out] = _layer(op, args, coupling, removed) if op in layers_of(graph) else op.evaluate(*args)
    return [env[v] for v in graph.outputs]


def _layer(op: Op, args: list[Any], coupling: Coupling, removed: set[int]) -> torch.Tensor:
    def lost(value: Any, axis: int) -> np.ndarray:
        return np.isin(coupling.sets(value, axis), list(removed))

    assert isinstance(op, Conv2d | ConvTranspose2d | Linear | Matmul)
    x, w, *b = args
    w = w.clone()
    axis = op.out.type.rank - 1 if isinstance(op, Linear | Matmul) else 1
    out_axis = outputs_of(op)
    if out_axis[0] is op.out:
        # (C, O/groups, kh, kw): the rows of a group make its channels
        grouped = w.view(op.groups, -1, *w.shape[1:])  # type: ignore[union-attr]
        grouped[torch.from_numpy(lost(op.out, 1).reshape(grouped.shape[0], -1))[:, None].expand(*grouped.shape[:3])] = 0
    else:
        w.transpose(0, out_axis[1])[lost(*out_axis)] = 0
    source = op.a if isinstance(op, Matmul) else op.x
    gone = lost(source, axis if not isinstance(op, Linear | Matmul) else source.type.rank - 1)
    if isinstance(op, Conv2d) and inputs_of(op) is not None:
        t, bo, le, r = op.padding
        x = F.pad(x, (le, r, t, bo))
        for c in np.flatnonzero(gone):
            inside = x[:, c, t : x.shape[2] - bo, le : x.shape[3] - r]
            constant = torch.allclose(inside, inside.reshape(-1)[0].expand_as(inside), atol=1e-12)
            x[:, c] = inside.reshape(-1)[0].clone() if constant else 0
        return F.conv2d(x, w, b[0] if b else None, op.stride, 0, op.dilation, op.groups)
    return op.evaluate(x, w, *b)


def check_every_channel(graph: Graph, rtol: float = 1e-5) -> None:
    """Each removable set of each layer alone, and a random half of them: the result verifies and equals the masked original at two batches."""
    coupling = Coupling(graph)
    per_layer = [np.unique(labels[coupling.removable[labels]]) for layer in layers_of(graph) if len(labels := coupling.sets(*outputs_of(layer)))]
    single = {int(s) for labels in per_layer for s in labels}
    assert single
    rng = np.random.default_rng(0)
    half: set[int] = set()
    for labels in per_layer:
        half |= {int(s) for s in rng.permutation(labels)[: len(labels) // 2]}
    kept_one = half if all(_leaves_some(coupling, half, v) for v in coupling.axes()) else set()
    for removed in [{s} for s in sorted(single)] + [kept_one] * bool(kept_one):
        pruned = remove_channels(graph, coupling, removed).verify()
        assert pruned.nbytes() < graph.nbytes()
        for batch in (2, 3):
            x = torch.randn(batch, *graph.inputs[0].shape[1:], generator=torch.Generator().manual_seed(batch))
            expected = masked(graph, coupling, removed, x)
            got = evaluate(pruned.at(batch=batch), [x], dtype=torch.float64)
            for a, b in zip(expected, got, strict=True):
                assert float((a - b).abs().max() / a.abs().max()) < rtol, removed


def _leaves_some(coupling: Coupling, removed: set[int], axis: Any) -> bool:
    return not np.isin(axis[1], list(removed)).all()
