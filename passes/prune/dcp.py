"""Discrimination-aware channel pruning (Zhuang et al., 1810.11809): losses inside the network show which channels tell classes apart.

    L = L_M + lambda L_S,   L_M = |O - O'|^2 / 2Q of a reader's response,   L_S = CE of (batch norm, ReLU, average pooling, linear) on a map

In stages, first to last: the network is fine-tuned with the stage's L_S and its own loss; then each space of channels in the stage starts empty,
adds the sets whose weights have the largest gradient |dL/dW_k|, and trains the weights added by SGD, until enough are in or L hardly changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Const, Op, Value
from ...ir.ops import BatchNorm, Linear, Mean, Relu
from ...ir.ties import Index
from ..core.context import Context
from ..coupling import Coupling, Layer, inputs_of, weight
from ..reconstruct.blocks import narrow_places
from .spaces import Space

if TYPE_CHECKING:
    import torch

#: Rounds in which the sets of a space are added, at most.
ROUNDS = 8
#: Batches of the gradient in a round, and steps of SGD after it.
BATCHES, UPDATES = 2, 4
#: Name prefix of the constants of an intermediate loss.
HEAD = "dcp.head"


@dataclass(frozen=True)
class Options:
    """stages: number of intermediate losses. epochs, lr, batch: of the fine-tuning in each stage. balance: lambda. eps: relative change of L
    that ends a choice."""

    stages: int
    epochs: int
    lr: float
    batch: int
    balance: float
    eps: float


@dataclass(frozen=True)
class Stage:
    """A stage's row in the ledger. at: where its loss is. loss: of its fine-tuning, last epoch. taken: for each space, the sets that stay."""

    stage: int
    at: str
    loss: float
    spaces: tuple[str, ...]
    taken: tuple[int, ...]


@dataclass
class StageLoss:
    """CE of the network's logits plus CE of the head's: `Trainer` calls it instead of its own loss."""

    last: float = field(default=0.0, init=False)

    def __call__(self, student: Any, batch: Any) -> tuple[torch.Tensor, float | None]:
        import torch.nn.functional as F

        from ..train.loss import check_labels, right

        if batch.labels is None:
            raise TersorError("method=dcp prunes by labels, and the training data has none: give (inputs, labels)")
        results = student(*batch.inputs)
        outputs = list(results) if isinstance(results, tuple) else [results]
        labels = check_labels(batch.labels, outputs[0])
        loss = sum((F.cross_entropy(o.float(), labels) for o in outputs[1:]), F.cross_entropy(outputs[0].float(), labels))
        return loss, right(outputs[0], labels)


# -- intermediate losses -----------------------------------------------------------------------


def places(graph: Graph, count: int) -> list[Value]:
    """Up to `count` feature maps that all data passes through, at equal shares of the layers."""
    ops = [op for op in graph.ops if not isinstance(op, Const)]
    layers = np.cumsum([op.contraction for op in ops])
    found = [(v, int(layers[stop - 1])) for v, stop in narrow_places(graph, ops).items() if v.type.rank == 4 and stop < len(ops)]
    chosen: list[Value] = []
    for i in range(1, count + 1):
        wanted = layers[-1] * i / (count + 1)
        if found:
            best = min(found, key=lambda p: abs(p[1] - wanted))[0]
            if best not in chosen:
                chosen.append(best)
    return chosen


def check_output(graph: Graph) -> int:
    """The number of classes of a graph with one output of logits."""
    if len(graph.outputs) != 1 or graph.outputs[0].type.rank != 2:
        shapes = ", ".join(str(v.type) for v in graph.outputs)
        raise TersorError(f"method=dcp needs a network with one output of logits (N, classes), and this one gives {shapes}")
    return graph.outputs[0].shape[1]


def with_head(graph: Graph, at: Value, rng: np.random.Generator) -> Graph:
    """A copy with a second output: logits of the classes from the value `at` of the graph."""
    number = next((i, j) for i, op in enumerate(graph.ops) for j, v in enumerate(op.outs) if v is at)
    new = graph.clone()
    value = new.ops[number[0]].outs[number[1]]
    channels, classes, dtype = value.shape[1], check_output(graph), value.type.dtype
    constants = {
        "gamma": np.ones(channels), "beta": np.zeros(channels), "mean": np.zeros(channels), "var": np.ones(channels),
        "weight": rng.standard_normal((classes, channels)) / np.sqrt(channels), "bias": np.zeros(classes),
    }  # fmt: skip
    made = {}
    for name, array in constants.items():
        made[name] = Const(array.astype(dtype))
        made[name].out.name = f"{HEAD}.{name}"
    norm = BatchNorm(value, made["gamma"], made["beta"], made["mean"], made["var"])
    logits = new.add(Linear(Mean(Relu(norm), (2, 3), False), made["weight"], made["bias"]))
    new.set_outputs([new.outputs[0], logits], structure=(0, 1))
    return new


def without_head(graph: Graph) -> tuple[Graph, dict[Op, Op]]:
    """A copy without the second output, and for each op of the copy that of the graph."""
    new = graph.clone()
    of = dict(zip(new.ops, graph.ops))
    name = graph.output_names[0]
    new.set_outputs([new.outputs[0]], [name])
    new.remove_dead()
    return new, of


def fine_tuned(graph: Graph, options: Options, ctx: Context, stage: int) -> tuple[Graph, float]:
    """The network trained with the losses of its outputs, and the loss of the last epoch."""
    from ..train.data import data_of
    from ..train.finetune import Finetune
    from ..train.loop import Trainer
    from ..train.module import from_torch, to_torch
    from ..train.processes import join_processes

    settings = Finetune(epochs=options.epochs, lr=options.lr, batch=options.batch)
    processes = join_processes("cpu")
    data = data_of(graph, ctx.train, options.batch, 0.0, (ctx.seed, ctx.position, stage), processes.share)
    module: Any = to_torch(graph)
    loss: Any = StageLoss()
    state = Trainer(settings, module, data, loss, ctx, processes, "").run()
    return from_torch(module), state.epochs[-1].loss


# -- the choice --------------------------------------------------------------------------------


class Chooser:
    """Chooses sets in one stage. graph: with its head; `of` maps layers of `coupling` to it. final: for layers after the head, whose L_S is the
    loss of the network itself."""

    def __init__(self, graph: Graph, coupling: Coupling, of: dict[Op, Op], options: Options, ctx: Context, stage: int, final: bool = False):
        from ..train.data import Indexed, Share, data_of

        self.graph, self.coupling, self.of, self.options = graph, coupling, of, options
        self.output = 0 if final else -1
        data = data_of(graph, ctx.train, options.batch, 0.0, (ctx.seed, ctx.position, stage, 1), Share())
        batches = data.epoch(0, 0, lambda *place: None)
        self.batches = [batch for batch, _ in zip(batches, range(BATCHES + UPDATES if isinstance(data, Indexed) else BATCHES))]
        #: current weights of readers, by the value in `graph`
        self.weights: dict[Value, torch.Tensor] = {}

    def order(self, space: Space, keep: int) -> tuple[Index, int]:
        """The sets of a space in the order in which they were added, and how many were."""
        readers = [r for r in space.readers if inputs_of(r) is not None and isinstance(weight(r).op, Const)]
        labels = {r: self.coupling.sets(*axis) for r in readers if (axis := inputs_of(r)) is not None}
        mine = {r: self._value(r) for r in readers}
        if not readers:
            return space.sets, keep
        mine_sets = set(space.sets.tolist())
        whole = {r: self._tensor(mine[r]).clone() for r in readers}
        taken: list[int] = []
        for r in readers:
            self._restrict(r, labels[r], mine_sets, set(), whole[r])
        first = before = self._loss(readers)
        while len(taken) < keep:
            scores = np.zeros(self.coupling.count)
            for r, gradient in zip(readers, self._gradients(readers)):
                rows = gradient.movedim(self._axis(r), 0).flatten(1).square().sum(1).double().numpy()
                np.add.at(scores, labels[r], rows)
            left = np.array([s for s in space.sets.tolist() if s not in set(taken)])
            count = min(keep - len(taken), max(1, -(-keep // ROUNDS)))
            new = left[np.argsort(-scores[left], kind="stable")[:count]]
            taken += new.tolist()
            for r in readers:
                self._restrict(r, labels[r], mine_sets, set(taken), whole[r], fresh=set(new.tolist()))
            self._train(readers, labels, mine_sets, set(taken))
            now = self._loss(readers)
            if self.options.eps > 0 and abs(before - now) <= self.options.eps * abs(first):
                break
            before = now
        rest = [s for s in space.sets.tolist() if s not in set(taken)]
        return np.array(taken + rest, np.int64), len(taken)

    def _value(self, reader: Layer) -> Value:
        there = self.of[reader]
        assert isinstance(there, Layer)
        return weight(there)

    def _tensor(self, v: Value) -> torch.Tensor:
        from ...ir.evaluate import to_torch

        if v not in self.weights:
            assert isinstance(v.op, Const)
            self.weights[v] = to_torch(v.op.array).clone()
        return self.weights[v]

    @staticmethod
    def _axis(reader: Layer) -> int:
        axis = inputs_of(reader)
        assert axis is not None
        return axis[1]

    def _restrict(self, reader: Layer, labels: Index, mine: set[int], taken: set[int], whole: torch.Tensor, fresh: set[int] | None = None) -> None:
        """Zero the weights of the space's sets that were not added; sets that are new start with their original weights."""
        w = self._tensor(self._value(reader)).movedim(self._axis(reader), 0)
        old = whole.movedim(self._axis(reader), 0)
        for i, s in enumerate(labels.tolist()):
            if s in mine and s not in taken:
                w[i] = 0
            elif fresh is not None and s in fresh:
                w[i] = old[i]

    def _losses(self, batch: Any, readers: Sequence[Layer], given: dict[Value, torch.Tensor]) -> torch.Tensor:
        """L of a batch: the readers' responses against those of the original network, and the head's loss."""
        import torch
        import torch.nn.functional as F

        from ...ir.evaluate import at_batch_of, evaluate

        graph = at_batch_of(self.graph, batch.inputs)
        same = dict(zip([op for op in self.graph.ops if isinstance(op, Const)], [op for op in graph.ops if isinstance(op, Const)]))
        number = {op: i for i, op in enumerate(self.graph.ops)}
        watched = {graph.ops[number[self.of[r]]] for r in readers}

        def responses(values: dict[Value, torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
            seen: list[torch.Tensor] = []
            outputs = evaluate(
                graph, batch.inputs, observe=lambda op, y: seen.append(y) if op in watched else None,
                given={same[v.op].out: x for v, x in values.items() if isinstance(v.op, Const)},
            )  # fmt: skip
            return outputs, seen

        with torch.no_grad():
            _, wanted = responses({})
        outputs, got = responses(given)
        loss = sum(((a - b).square().mean() / (2 * a.var() + 1e-12) for a, b in zip(wanted, got)), torch.zeros(()))
        return loss + self.options.balance * F.cross_entropy(outputs[self.output], batch.labels)

    def _gradients(self, readers: Sequence[Layer]) -> list[torch.Tensor]:
        import torch

        values = [self._value(r) for r in readers]
        with torch.enable_grad():
            leaves = {v: self.weights[v].detach().clone().requires_grad_() for v in values}
            loss = sum((self._losses(b, readers, self.weights | leaves) for b in self.batches[:BATCHES]), torch.zeros(()))
            return list(torch.autograd.grad(loss, [leaves[v] for v in values]))

    def _train(self, readers: Sequence[Layer], labels: dict[Layer, Index], mine: set[int], taken: set[int]) -> None:
        """A few steps of SGD on the weights that were added."""
        import torch

        masks = {}
        for r in readers:
            w = self._tensor(self._value(r))
            mask = torch.ones_like(w)
            mask.movedim(self._axis(r), 0)[[i for i, s in enumerate(labels[r].tolist()) if s in mine and s not in taken]] = 0
            masks[self._value(r)] = mask
        for batch in self.batches[BATCHES:]:
            with torch.enable_grad():
                leaves = {v: self.weights[v].detach().clone().requires_grad_() for v in masks}
                gradients = torch.autograd.grad(self._losses(batch, readers, self.weights | leaves), list(leaves.values()))
            for v, g in zip(leaves, gradients):
                # steps in proportion to the weights, since layers differ in scale
                step = self.options.lr * self.weights[v].norm() / (g.norm() + 1e-12)
                self.weights[v] = self.weights[v] - step * g * masks[v]

    def _loss(self, readers: Sequence[Layer]) -> float:
        import torch

        with torch.no_grad():
            return float(sum(self._losses(b, readers, self.weights) for b in self.batches[:BATCHES]))


def stage_of(space: Space, ends: Sequence[int], order: dict[Op, int]) -> int:
    """The stage in which a space is pruned: that of the first loss after its readers."""
    last = max((order[r] for r in space.readers), default=0)
    return next((i for i, end in enumerate(ends) if last <= end), len(ends))


__all__ = ["Chooser", "Options", "Stage", "check_output", "fine_tuned", "places", "stage_of", "with_head", "without_head"]
