"""The training loop: steps, epochs, the weights kept when training diverges, and checkpoints."""

from __future__ import annotations

import copy
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...ir.errors import TersorError
from ...ir.ops.fake import measuring_only
from ..core.context import Context
from .data import Batch, Data
from .loss import Loss
from .module import GraphModule, from_torch
from .processes import Processes
from .schedule import rate
from .state import Epoch, State, copied, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from .finetune import Finetune


class Diverged(Exception):
    """The loss or a weight is not finite."""


class Trainer:
    """Trains a module in place, as the options of a `Finetune` say."""

    def __init__(self, options: Finetune, module: GraphModule, data: Data, loss: Loss, ctx: Context, processes: Processes, made_by: str):
        self.options = options
        # torch's convolutions on CPUs and tensor cores are faster in this layout
        self.module = module.to(processes.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.data = data
        self.loss = loss
        self.ctx = ctx
        self.processes = processes
        self.made_by = made_by
        self.checkpoint = None if options.checkpoint is None else Path(options.checkpoint)
        self.seed = [ctx.seed if options.seed is None else options.seed, ctx.position]
        self.total, self.epochs = self._length()
        self.optimizer = optimizer_of(options, self.module)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.state = State()
        self.masks = module.masks()
        self._resume()
        self.wrapped = processes.wrapped(self.module, unused=len(module.graph.outputs) > 1)

    def run(self) -> State:
        """Train to the end; the module has the final weights then."""
        devices = [self.processes.device] if self.processes.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.enable_grad():
            try:
                while not self.state.finished:
                    self._epoch()
            except Diverged as error:
                self._fall_back(str(error))
        weights = self.state.best or self.state.ema
        if weights is not None:
            self.module.load_state_dict(weights)
        self.module.eval()
        return self.state

    # -- an epoch ------------------------------------------------------------------------------

    def _epoch(self) -> None:
        state = self.state
        self.module.train()
        for batch in self.data.epoch(state.epoch, state.step, self._draw_from):
            self._draw_from(state.epoch, state.step, self.processes.share.rank, 1)
            self._step(batch.to(self.processes.device))
            if state.done == self.total:
                break
            if self.options.every and state.done % self.options.every == 0:
                self._save()
        self._end_of_epoch()

    def _step(self, batch: Batch) -> None:
        state = self.state
        factor = rate(state.done, self.total, self.options.schedule, self.options.warmup, self.options.milestones, self.options.decay)
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.lr * factor
        self.optimizer.zero_grad()
        with measuring_only(state.done < self.options.quantize_after):
            loss, correct = self.loss(self.wrapped, batch)
        counts = self.processes.total(float(loss.detach()) * len(batch), len(batch), math.nan if correct is None else correct)
        if not math.isfinite(counts[0]):
            raise Diverged(f"the loss is {counts[0] / counts[1]} in step {state.step + 1} of epoch {state.epoch + 1}")
        loss.backward()  # type: ignore[no-untyped-call]
        if self.options.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.options.clip)
        self.optimizer.step()
        self.masks.update(state.done + 1, self.total)
        self.processes.average([b for b in self.module.buffers() if b.is_floating_point()])
        state.step, state.done = state.step + 1, state.done + 1
        state.loss, state.seen = state.loss + counts[0], state.seen + counts[1]
        state.right = None if correct is None else (state.right or 0.0) + counts[2]
        self._average_weights()
        self._show()

    def _average_weights(self) -> None:
        """ema <- d ema + (1 - d) weights, with d at most (1 + t) / (10 + t), so that the initial weights soon count for little."""
        if self.options.ema is None:
            return
        now = self.module.state_dict()
        if self.state.ema is None:
            self.state.ema = copied(now)
        decay = min(self.options.ema, (1 + self.state.done) / (10 + self.state.done))
        for name, average in self.state.ema.items():
            if average.is_floating_point():
                average.lerp_(now[name], 1 - decay)
            else:
                average.copy_(now[name])

    def _end_of_epoch(self) -> None:
        state = self.state
        self._check_weights()
        state.good = copied(state.ema or self.module.state_dict())
        validation = self._validation()
        # a network that is not yet sparse enough cannot be the best one
        if validation is not None and self.masks.complete(state.done, self.total):
            self._keep_best(validation)
        out_of_patience = self.options.patience is not None and state.stale >= self.options.patience
        accuracy = None if state.right is None else state.right / state.seen
        lr, loss = self.optimizer.param_groups[0]["lr"], state.loss / state.seen
        stopped = f"no better for {state.stale} epochs" if out_of_patience else ""
        state.epochs.append(Epoch(state.epoch + 1, state.step, lr, loss, accuracy, validation, stopped))
        state.epoch, state.step, state.loss, state.seen, state.right = state.epoch + 1, 0, 0.0, 0.0, None
        state.finished = out_of_patience or state.done >= self.total
        self._save()

    # -- best weights --------------------------------------------------------------------------

    def _validation(self) -> float | None:
        """Accuracy on the examples held out, else by the context's function where early stop needs one."""
        held_out = self.options.validate > 0
        if not held_out and (self.options.patience is None or self.ctx.evaluate is None):
            return None
        module = self.module
        if self.state.ema is not None:
            module = copy.deepcopy(module)
            module.load_state_dict(self.state.ema)
        module.eval()
        value = self._held_out(module) if held_out else float(self.ctx.evaluate(from_torch(module)))  # type: ignore[misc]
        self.module.train()
        # all processes must make the same decision
        return self.processes.total(value)[0] / self.processes.share.count

    def _held_out(self, module: GraphModule) -> float:
        """The share of labels that is right, or the negative loss where there are none."""
        correct = lost = count = 0.0
        with torch.no_grad():
            for batch in self.data.validation():
                loss, found = self.loss(module, batch.to(self.processes.device))
                lost, count = lost + float(loss) * len(batch), count + len(batch)
                correct = math.nan if found is None else correct + found
        return -lost / count if math.isnan(correct) else correct / count

    def _keep_best(self, validation: float) -> None:
        state = self.state
        if state.top is not None and not validation > state.top:
            state.stale += 1
            return
        state.top, state.stale = validation, 0
        if self.options.patience is not None:
            state.best = copied(state.ema or self.module.state_dict())

    def _check_weights(self) -> None:
        if not all(bool(p.isfinite().all()) for p in self.parameters):
            raise Diverged(f"a weight is not finite after step {self.state.step} of epoch {self.state.epoch + 1}")

    def _fall_back(self, what: str) -> None:
        """Keep the weights of the last complete epoch and warn; raise where there is none."""
        state = self.state
        advice = "a smaller lr, clip=1 or warmup=0.1 may help"
        if state.good is None:
            raise TersorError(f"{what}, before any epoch was complete: there are no good weights to keep; {advice}")
        kept = f"after epoch {state.epoch}" if state.best is None else "of the best epoch"
        warnings.warn(f"finetune: {what}; training stopped, and the weights are those {kept}; {advice}", stacklevel=2)
        state.ema = state.good
        state.epochs[-1] = Epoch(**vars(state.epochs[-1]) | {"stopped": what})
        state.finished = True

    # -- checkpoints ---------------------------------------------------------------------------

    def _save(self) -> None:
        if self.checkpoint is not None:
            self._check_weights()
            if self.processes.first:
                save_checkpoint(self.checkpoint, self.made_by, self.state, dict(self.module.state_dict()), self.optimizer.state_dict())
            self.processes.wait()

    def _resume(self) -> None:
        found = None if self.checkpoint is None else load_checkpoint(self.checkpoint, self.made_by, self.processes.device)
        if found is not None:
            self.state, weights, optimizer = found
            self.module.load_state_dict(weights)
            self.optimizer.load_state_dict(optimizer)
        self.processes.wait()

    # -- helpers -------------------------------------------------------------------------------

    def _length(self) -> tuple[int, int]:
        """Steps in all, and epochs if their number is known."""
        options, steps = self.options, self.data.steps
        if options.steps is not None:
            return options.steps, -(-options.steps // steps) if steps else 0
        if steps is None:
            raise TersorError("the training data does not say how many batches an epoch has (__len__): give finetune{steps=...} instead of epochs")
        if not steps:
            raise TersorError(f"the training data has fewer batches than there are processes ({self.processes.share.count})")
        return options.epochs * steps, options.epochs

    def _draw_from(self, *place: int) -> None:
        """Seed torch for a place in training, so that its random numbers there do not depend on where the run started."""
        torch.manual_seed(int(np.random.SeedSequence([*self.seed, len(place), *place]).generate_state(1)[0]))

    def _show(self) -> None:
        if self.ctx.progress is not None and self.processes.first:
            state = self.state
            accuracy = "" if state.right is None else f", accuracy {100 * state.right / state.seen:.1f} %"
            epochs = f"/{self.epochs}" if self.epochs else ""
            text = f"finetune: epoch {state.epoch + 1}{epochs}, loss {state.loss / state.seen:.4f}{accuracy}"
            self.ctx.progress(text, state.done, self.total)


def optimizer_of(options: Finetune, module: GraphModule) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, Adam or AdamW; only weights of two dimensions and more decay, not biases and norms."""
    trained = [p for p in module.parameters() if p.requires_grad]
    if not trained:
        raise TersorError("the graph has no constant that training may change (to_torch(graph) has no parameters)")
    matrices, vectors = [p for p in trained if p.dim() > 1], [p for p in trained if p.dim() <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": options.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, nesterov=options.momentum > 0)
    return (torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam)(groups, lr=options.lr)
