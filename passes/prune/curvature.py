"""How much an error in each layer's response changes the network's outputs: the measure by which layers, and channels in a layer, are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...ir.errors import TersorError
from ...ir.evaluate import evaluate
from ...ir.graph import Graph
from ...ir.op import Op
from ..core.context import Batch
from ..coupling import layers_of
from ..reconstruct.moments import F64
from ..reconstruct.replay import inputs_in_chunks
from ..reconstruct.rows import channel_axis

if TYPE_CHECKING:
    import torch


def curvature(graph: Graph, calibration: Sequence[Batch], images: int, rng: np.random.Generator, chunk: int = 8) -> dict[Op, F64]:
    """For each layer, per output channel (O,): the squared gradient of the outputs, summed over its pixels, mean over images.

    This times the mean squared error of the channel's response estimates the growth of the outputs' squared error, for errors that are small
    and independent. It is the diagonal of the Gauss-Newton matrix (Fisher pruning, Theis et al., 1801.05787, with outputs instead of a loss,
    so that no labels are needed). The squared gradients summed over the elements of an output have the same mean as the squared gradient of
    its product with random signs (Hutchinson, 1990). Each output counts relative to its own variance.
    """
    import torch

    total: dict[Op, F64] = {layer: np.zeros(layer.out.shape[channel_axis(layer)]) for layer in layers_of(graph)}
    seen = 0
    for inputs in inputs_in_chunks(graph, calibration, images, chunk):
        responses: dict[Op, torch.Tensor] = {}

        def watch(op: Op, y: torch.Tensor, responses: dict[Op, torch.Tensor] = responses) -> None:
            if op in total and y.is_floating_point():
                responses[op] = y if y.requires_grad else y.requires_grad_()

        with torch.enable_grad():
            outputs = [y for y in evaluate(graph, inputs, observe=watch) if y.requires_grad]
            probe = sum((_signs(y, rng) @ y.reshape(-1) / (y.detach().std() + 1e-12) for y in outputs), torch.zeros(()))
        gradients = torch.autograd.grad(probe, list(responses.values()), allow_unused=True) if outputs else ()
        for op, g in zip(responses, gradients):
            if g is not None:
                axis = channel_axis(op)
                total[op] += g.double().square().movedim(axis, -1).reshape(-1, g.shape[axis]).sum(dim=0).numpy()
        seen += len(inputs[0])
    if not any(t.any() for t in total.values()):
        raise TersorError(
            "no output of the graph has a gradient, so pruning cannot tell what an error in a layer does to it; prune the part of the graph "
            "that computes floating-point values"
        )
    return {op: t / seen for op, t in total.items()}


def _signs(y: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    import torch

    return torch.from_numpy(rng.choice(np.array([-1, 1], np.float32), y.numel())).to(y.dtype)
