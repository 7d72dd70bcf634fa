"""Block reconstruction: train whole blocks of a smaller network to give what they gave before, so that layers correct each other's errors.

    min over the weights of a block   mean |f(x) - f'(x')|^2 / var f(x)

f is the original block on its original input x, f' the current block on its current input x'. Blocks are fitted in order, so that each corrects
errors of those before it. The optimizer is Adam (Kingma and Ba, 1412.6980) on unlabelled calibration images (Li et al., 2102.05426, section 3,
here after pruning). Least squares fits each layer to its own old response; here a layer may give something else if a later one can use it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...ir.evaluate import operand, run, to_numpy, to_torch
from ...ir.graph import Graph
from ...ir.op import Const, Op, Value
from ...ir.ties import Mask
from ..core.context import Batch, Context
from .replay import inputs_in_chunks

if TYPE_CHECKING:
    import torch

    Env = dict[Value, torch.Tensor]
    Data = list[list[torch.Tensor]]

#: One of this many chunks of images validates the fits to the others.
HELD_OUT = 8
#: Images of a step.
CHUNK = 32


@dataclass(frozen=True)
class Then:
    """A value's counterpart in the old graph, and which positions are left along axes that lost some."""

    value: Value
    kept: Mapping[int, Mask]

    def of(self, y: torch.Tensor) -> torch.Tensor:
        """The target of the smaller network: the old value without the lost positions."""
        import torch

        for axis, kept in self.kept.items():
            y = y.index_select(axis, torch.from_numpy(np.flatnonzero(kept)))
        return y


@dataclass(frozen=True)
class Block:
    """Ops between two places that all data passes through, in the graph and in the old one; the results, and their counterparts."""

    current: list[Op]
    original: list[Op]
    outs: list[Value]
    wanted: list[Then]


@dataclass(frozen=True)
class BlockFit:
    """Relative squared error of a block's results on chunks held out, before and after; where it did not fall, the block stays as it was."""

    name: str
    before: float
    after: float


def refit_blocks(
    graph: Graph,
    old: Graph,
    pairs: Mapping[Value, Then],
    calibration: Sequence[Batch],
    ctx: Context,
    what: str,
    *,
    images: int,
    epochs: int,
    rate: float = 0.05,
    depth: int = 4,
) -> list[BlockFit]:
    """Fit the blocks of `graph` in place to those of `old`, in order.

    pairs: counterparts in `old` of values of the graph; outputs must be among them. epochs: passes over the images for each block.
    rate: largest step, relative to the root mean square of each constant. depth: fewest layers of a block.
    """
    import torch

    blocks = list(blocks_of(graph, old, pairs, depth))
    now: Data = list(inputs_in_chunks(graph, calibration, images, CHUNK))
    then, at, was = now, graph.inputs, old.inputs
    found = []
    for i, block in enumerate(blocks):
        with torch.no_grad():
            target = [results(block.original, dict(zip(was, x)), [w.value for w in block.wanted]) for x in then]
        wanted = [[w.of(y) for w, y in zip(block.wanted, ys)] for ys in target]
        weights = trained(block, graph)
        fitted = fit(block, weights, at, now, wanted, ctx.rng, epochs, rate) if weights else None
        if fitted is not None:
            found.append(fitted)
        with torch.no_grad():
            now = [results(block.current, dict(zip(at, x)) | weights, block.outs) for x in now]
        then, at, was = target, block.outs, [w.value for w in block.wanted]
        for value, w in weights.items():
            assert value.op is not None
            graph.replace(value.op, Const(to_numpy(w).copy(), loc=value.op.loc))
        if ctx.progress is not None:
            ctx.progress(what, i + 1, len(blocks))
    return found


# -- blocks ------------------------------------------------------------------------------------


def blocks_of(graph: Graph, old: Graph, pairs: Mapping[Value, Then], depth: int) -> Iterator[Block]:
    """The graph, cut where all data passes through one value with a known counterpart, after `depth` layers at least."""
    mine, theirs = [op for op in graph.ops if not isinstance(op, Const)], [op for op in old.ops if not isinstance(op, Const)]
    cuts, old_cuts = narrow_places(graph, mine), narrow_places(old, theirs)
    start, old_start = 0, 0
    for value, stop in cuts.items():
        then = pairs.get(value)
        if then is None or then.value not in old_cuts or stop == len(mine) or sum(op.contraction for op in mine[start:stop]) < depth:
            continue
        yield Block(mine[start:stop], theirs[old_start : old_cuts[then.value]], [value], [then])
        start, old_start = stop, old_cuts[then.value]
    if start < len(mine):
        yield Block(mine[start:], theirs[old_start:], graph.outputs, [pairs[v] for v in graph.outputs])


def narrow_places(graph: Graph, ops: Sequence[Op]) -> dict[Value, int]:
    """Floating-point values that alone feed everything after them, and how many of the ops come before."""
    reads: dict[Value, int] = {}
    for v in [v for op in ops for v in op.operands] + graph.outputs:
        reads[v] = reads.get(v, 0) + 1
    live = {v for v in graph.inputs if v in reads}
    places: dict[Value, int] = {}
    for done, op in enumerate(ops, 1):
        for v in op.operands:
            reads[v] -= 1
            if not reads[v]:
                live.discard(v)
        live.update(v for v in op.outs if v in reads)
        if len(live) == 1 and (value := next(iter(live))) in op.outs and value.type.is_float:
            places[value] = done
    return places


def results(ops: Sequence[Op], env: Env, wanted: Sequence[Value]) -> list[torch.Tensor]:
    """Evaluate ops in order. env: values already known; constants that it does not hold have their own values."""
    for op in ops:
        for v in op.operands:
            if v not in env and isinstance(v.op, Const):
                env[v] = to_torch(v.op.array)
        env.update(zip(op.outs, run(op, [operand(getattr(op, f.name), env) for f in op.operand_fields])))
    return [env[v] for v in wanted]


# -- fits --------------------------------------------------------------------------------------


def trained(block: Block, graph: Graph) -> Env:
    """A copy of each weight and bias (f32) of the block's layers that has no reader outside the block."""
    mine = set(block.current)
    weights: Env = {}
    for op in block.current:
        for v in op.operands if op.contraction else ():
            if isinstance(v.op, Const) and v.type.elem == "f32" and mine.issuperset(v.users) and v not in graph.outputs:
                weights[v] = to_torch(v.op.array).clone()
    return weights


def fit(block: Block, weights: Env, given: Sequence[Value], x: Data, y: Data, rng: np.random.Generator, epochs: int, rate: float) -> BlockFit:
    """Train the weights in place; where the error on the chunks held out does not fall they are put back."""
    import torch

    held = [i for i in range(len(x)) if i % HELD_OUT == HELD_OUT - 1] or list(range(len(x)))
    used = [i for i in range(len(x)) if i not in set(held)] or held
    variance = {j: float(torch.cat([ys[j] for ys in y]).var(correction=0)) for j, v in enumerate(block.outs) if v.type.is_float}

    def loss(i: int) -> torch.Tensor:
        now = results(block.current, dict(zip(given, x[i])) | weights, block.outs)
        return sum((((now[j] - y[i][j]) ** 2).mean() / max(v, 1e-30) for j, v in variance.items()), torch.zeros(()))

    def judged() -> float:
        with torch.no_grad():
            return float(sum(loss(i) for i in held)) / len(held)

    before, start = judged(), {v: w.clone() for v, w in weights.items()}
    # steps in proportion to the constant's own size, since layers differ in scale
    rates = [rate * max(float(w.square().mean().sqrt()), 1e-3) for w in weights.values()]
    groups: list[dict[str, Any]] = [{"params": [w.requires_grad_()], "lr": lr} for w, lr in zip(weights.values(), rates)]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=epochs * len(used) + 1, pct_start=0.1)
    with torch.enable_grad():
        for _ in range(epochs):
            for i in rng.permutation(used):
                optimizer.zero_grad()
                loss(int(i)).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    for w in weights.values():
        w.requires_grad_(False)
    after = judged()
    if not after < before:
        weights |= start
    return BlockFit(block.outs[0].name, before, min(after, before))
