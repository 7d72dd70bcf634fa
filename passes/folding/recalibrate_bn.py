"""recalibrate-bn: running statistics of batch norms measured again, after their inputs have changed."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Const
from ...ir.ops import BatchNorm
from ..core.base import Pass, register_pass
from ..core.context import Batch, Context
from ..reconstruct import Replay
from ..reconstruct.shortage import named


@register_pass
@dataclass(frozen=True)
class RecalibrateBatchNorm(Pass):
    """Measure mean and variance of every batch norm on calibration data, in order: each sees the new statistics of those before it.

    batch_norm(x; mean, var)  ->  batch_norm(x; E[x], E[(x - E[x])^2])   per channel, over images and pixels

    For networks that still hold their batch norms: run it after prune-channels and before fold-bn. samples: images used.
    (He et al., 1811.07275, section 3; Sun et al., 1907.09382.)
    """

    name = "recalibrate-bn"
    keeps = "lossy"

    samples: int = 1024

    def run(self, graph: Graph, ctx: Context) -> None:
        if not graph.find(BatchNorm):
            raise TersorError("the graph holds no batch norm: run recalibrate-bn before fold-bn")
        if self.samples < 1:
            raise TersorError(f"samples must be at least 1, got {self.samples}")
        count = recalibrate(graph, ctx.need_calibration(self), ctx, self.samples, self.name)
        ctx.record(Counter({"recalibrated": count}))


def recalibrate(graph: Graph, calibration: Sequence[Batch], ctx: Context, samples: int | None = None, what: str = "recalibrate-bn") -> int:
    """Recalibrate in place; returns how many norms were. The variance is the unbiased one, as in training (1502.03167, algorithm 2)."""
    replay = Replay(graph, calibration, ctx, what, samples)
    single: list[str] = []
    for norm in replay.walk((BatchNorm,)):
        n, total, squares = 0, np.zeros(norm.x.shape[1]), np.zeros(norm.x.shape[1])
        # squares around the old mean, so that a mean far from zero does not cost digits
        around = np.asarray(norm.mean.op.array, np.float64) if isinstance(norm.mean.op, Const) else np.zeros_like(total)
        for i in range(replay.chunks):
            x = replay.current(norm.x, i).movedim(1, 0).flatten(1).double().numpy() - around[:, None]
            n += x.shape[1]
            total += x.sum(axis=1)
            squares += (x * x).sum(axis=1)
        if n < 2:
            single.append(f"{norm.name} [{norm.loc}]")
            continue
        mean = total / n
        var = np.maximum(squares / n - mean**2, 0) * n / (n - 1)
        dtype = norm.x.type.dtype
        replay.replace_layer(norm, norm.rebuilt(mean=Const((mean + around).astype(dtype), loc=norm.loc), var=Const(var.astype(dtype), loc=norm.loc)))
    if single:
        norms = "1 norm sees" if len(single) == 1 else f"{len(single)} norms see"
        warnings.warn(
            f"{what}: {norms} one value per channel, which has no variance, and stay as before: {named(single)}. Give more images", stacklevel=2
        )
    for old, new in replay.put_in.items():
        graph.replace(old, new)
    graph.remove_dead()
    return len(replay.put_in)
