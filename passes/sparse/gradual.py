"""Gradual pruning: masks that get sparser while a network trains (Zhu and Gupta, 1710.01878)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...ir.graph import Graph
from ...ir.op import Const
from ...ir.ops import Masked
from .layers import dense_of
from .pattern import Pattern, largest, largest_of_all

if TYPE_CHECKING:
    import torch


def cubic(step: int, total: int, begin: float, end: float, first: float, last: float) -> float:
    """s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3: the sparsity in step `step` of `total`; begin, end: shares of the steps."""
    start, stop = begin * total, end * total
    left = 1 - min(1.0, max(0.0, (step - start) / (stop - start) if stop > start else float(step >= stop)))
    return last + (first - last) * left**3


@dataclass
class Growing:
    """A weight whose mask gets sparser: its operator, its tensors in the module, and the share of zeros at first."""

    op: Masked
    weight: torch.Tensor
    mask: torch.Tensor
    first: float


class Schedule:
    """The masks of a module that are not final; changes them in place."""

    def __init__(self, growing: Sequence[Growing]):
        self.growing = list(growing)

    def __bool__(self) -> bool:
        return bool(self.growing)

    def complete(self, done: int, total: int) -> bool:
        """Whether no mask changes after `done` steps."""
        return all(done >= last_step(g.op, total) for g in self.growing)

    def update(self, done: int, total: int) -> None:
        """Update the masks that are due after step `done` (from 1)."""
        whole: dict[Masked, Growing] = {}
        for g in self.growing:
            if not due(g.op, done, total):
                continue
            if g.op.whole:
                whole[g.op] = g
                continue
            pattern, matrix = Pattern(g.op.block), _matrix(g.weight)
            scores = pattern.scores(matrix)
            share = cubic(done, total, g.op.begin, g.op.end, g.first, g.op.sparsity)
            _write(g.mask, pattern.spread(largest(scores, round((1 - share) * scores.size)), matrix.shape))
        if whole:
            self._whole(list(whole.values()), done, total)

    def _whole(self, together: list[Growing], done: int, total: int) -> None:
        """One threshold for several weights."""
        matrices = [_matrix(g.weight) for g in together]
        patterns = [Pattern(g.op.block) for g in together]
        sizes = [m.size for m in matrices]
        first = float(np.average([g.first for g in together], weights=sizes))
        op = together[0].op
        share = cubic(done, total, op.begin, op.end, first, op.sparsity)
        masks = largest_of_all([p.scores(m) for p, m in zip(patterns, matrices)], [p.block[0] * p.block[1] for p in patterns], share)
        for g, p, mask, m in zip(together, patterns, masks, matrices):
            _write(g.mask, p.spread(mask, m.shape))


def last_step(op: Masked, total: int) -> int:
    """The step after which a mask is final."""
    return max(1, min(total, round(op.end * total)))


def due(op: Masked, done: int, total: int) -> bool:
    """Whether a mask changes after step `done`: every `every` steps from `begin` on, and at the end."""
    last = last_step(op, total)
    return done == last or (op.begin * total <= done < last and done % op.every == 0)


def settled(graph: Graph) -> Graph:
    """Make the current masks final, in place."""
    for op in graph.find(Masked):
        assert isinstance(op, Masked)
        if op.sparsity > 0 and isinstance(op.w.op, Const):
            # weights that are masked out for good need not be stored
            w = Const(dense_of(op.out), loc=op.w.op.loc)
            w.out.name = op.w.name
            graph.replace(op, op.rebuilt(w=w, sparsity=0.0))
    graph.remove_dead()
    return graph


def _matrix(weight: torch.Tensor) -> np.ndarray:
    return weight.detach().cpu().double().numpy().reshape(len(weight), -1)


def _write(mask: torch.Tensor, value: np.ndarray) -> None:
    import torch

    mask.copy_(torch.from_numpy(np.ascontiguousarray(value)).reshape(mask.shape))
