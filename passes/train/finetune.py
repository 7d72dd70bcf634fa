"""finetune: a graph's weights trained by gradient descent, on labels, on a teacher, or on both."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ..core.base import Pass, register_pass
from ..core.context import Context
from ..core.pipeline import format_pass
from .schedule import Schedule

if TYPE_CHECKING:
    from .processes import Processes


@register_pass
@dataclass(frozen=True)
class Finetune(Pass):
    """Train the weights; batch norms that are still there train too.

    layer(x; w)  ->  layer(x; w'),   w' = argmin (1 - distill_weight) CE(labels) + distill_weight T^2 KL(teacher_T || student_T)

    It needs `transform(..., train=data)`. The teacher is `transform(..., teacher=)`, by default the graph before the pipeline. With
    distill_weight=1 no labels are needed (Hinton et al., 1503.02531). Under `torchrun` each process takes a part of every batch.

    epochs, or steps in all. batch: examples of one process in a step. optimizer: sgd (Nesterov momentum), adam, adamw; weight_decay acts on
    weights of two dimensions and more. lr: the largest learning rate. schedule: cosine, constant, exponential (falling to `decay`), or step
    (times `decay` at each share of `milestones`), after a linear rise over the share `warmup` of all steps. clip: largest norm of the
    gradient. ema: decay of averaged weights, which are then the result. smoothing: of the labels. temperature: T of the distillation.
    validate: share of the examples held out to measure accuracy on. patience: stop after so many epochs without a better one, on the
    examples held out or by `transform(..., evaluate=)`, and keep the best weights.
    quantize_after: steps in which fake-quantize operators (`quantize{qat=true}`) measure ranges and round nothing.
    seed: of order and noise, by default the transform's. device: cpu, cuda or cuda:N.
    checkpoint: a file written after each epoch, and each `every` steps. A run that finds it resumes there, and ends with the same weights as
    a run that was never killed; a complete one is not run again.

    A loss that is not finite stops training with a warning, and the weights of the last complete epoch are kept; in the first epoch it is
    an error.
    """

    name = "finetune"
    keeps = "lossy"

    epochs: int = 1
    steps: int | None = None
    batch: int = 64
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    lr: float = 1e-3
    schedule: Schedule = "cosine"
    warmup: float = 0.0
    milestones: tuple[float, ...] = (0.5, 0.75)
    decay: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip: float | None = None
    ema: float | None = None
    smoothing: float = 0.0
    distill_weight: float = 0.0
    temperature: float = 4.0
    validate: float = 0.0
    patience: int | None = None
    quantize_after: int = 0
    seed: int | None = None
    device: str = "cpu"
    checkpoint: str | None = None
    every: int | None = None

    def run(self, graph: Graph, ctx: Context) -> Graph:
        from ..sparse.gradual import settled
        from .data import data_of
        from .loop import Trainer
        from .module import from_torch, to_torch
        from .processes import join_processes

        self._check(ctx)
        train = ctx.need_train(self)
        processes = join_processes(self.device)
        with self._loss(ctx, processes) as loss:
            seed = ctx.seed if self.seed is None else self.seed
            data = data_of(graph, train, self.batch, self.validate, (seed, ctx.position), processes.share)
            module = to_torch(graph)
            trainer = Trainer(self, module, data, loss, ctx, processes, f"{self._signature(graph, ctx, processes)}, {data.steps} steps an epoch")
            state = trainer.run()
            result = from_torch(module.cpu())
            if trainer.masks.complete(state.done, trainer.total):
                result = settled(result)
        ctx.record(Counter({"steps": state.done}))
        ctx.layers.extend(state.epochs)
        return result

    def _check(self, ctx: Context) -> None:
        """Check option values beyond their types."""
        ranges = {"epochs": 1, "steps": 1, "batch": 1, "patience": 1, "every": 1}
        for option, low in ranges.items():
            value = getattr(self, option)
            if value is not None and value < low:
                raise TersorError(f"{option} must be at least {low}, got {value}")
        if self.quantize_after < 0:
            raise TersorError(f"quantize_after must be at least 0, got {self.quantize_after}")
        for option in ("lr", "temperature", "clip", "decay"):
            value = getattr(self, option)
            if value is not None and not value > 0:
                raise TersorError(f"{option} must be above 0, got {value}")
        for option in ("warmup", "ema", "smoothing", "validate", "momentum"):
            value = getattr(self, option)
            if value is not None and not 0 <= value < 1:
                raise TersorError(f"{option} must be from 0 to below 1, got {value}")
        if not 0 <= self.distill_weight <= 1:
            raise TersorError(f"distill_weight must be from 0 to 1, got {self.distill_weight}")
        if self.patience is not None and not self.validate and ctx.evaluate is None:
            raise TersorError("patience needs something to judge by: validate=0.1 holds out a tenth of the data, or transform(..., evaluate=f)")
        if self.every is not None and self.checkpoint is None:
            raise TersorError("every says when to write the checkpoint, and there is none: add checkpoint=FILE")

    @contextmanager
    def _loss(self, ctx: Context, processes: Processes) -> Iterator[Any]:
        """The loss with its teacher on the device, in evaluation mode."""
        import torch
        from torch import nn

        from .loss import Loss
        from .module import to_torch

        teacher = ctx.need_teacher(self) if self.distill_weight else None
        if isinstance(teacher, Graph):
            teacher = to_torch(teacher).to(processes.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        elif teacher is not None and not callable(teacher):
            raise TersorError(f"a teacher is a graph, a torch module or a function of the inputs, got {type(teacher).__name__}")
        was_training = isinstance(teacher, nn.Module) and teacher.training
        if isinstance(teacher, nn.Module):
            teacher.eval()
        try:
            yield Loss(self.distill_weight, self.temperature, self.smoothing, teacher)
        finally:
            if isinstance(teacher, nn.Module):
                teacher.train(was_training)

    def _signature(self, graph: Graph, ctx: Context, processes: Processes) -> str:
        """A hash that a checkpoint must match: of the options that decide the weights, the seed, and the graph."""
        options = format_pass(replace(self, device="cpu", checkpoint=None, every=None))
        content = hashlib.sha256(str(graph).encode())
        for op in graph.find("nn.constant"):
            content.update(op.array.tobytes())  # type: ignore[attr-defined]
        return f"{options}, seed {ctx.seed}, pass {ctx.position}, {processes.share.count} processes, graph {content.hexdigest()[:16]}"
