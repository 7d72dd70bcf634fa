"""Spaces: values of a network whose channels can be scaled together without changing its function.

    y = conv(x, w1, b1);  z = conv'(relu(y + v), w2)        y, v, y + v and relu(y + v) are one space: producers divide by s, readers multiply

Sums, relu and pooling commute with a positive scale per channel. A clip to [0, b] does not, but a relu may replace it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...ir.graph import Graph
from ...ir.op import Op, Value
from ...ir.ops import Add, Clip, Conv2d
from ..folding.affine import constant
from .domains import Domains


@dataclass(eq=False)
class Space:
    """values: f32 (N, C, H, W) with the same C. producers make some of them, readers read them; clips stand between."""

    values: list[Value] = field(default_factory=list)
    producers: list[Conv2d] = field(default_factory=list)
    readers: list[Conv2d] = field(default_factory=list)
    clips: list[Clip] = field(default_factory=list)

    @property
    def channels(self) -> int:
        return self.values[0].shape[1]


def spaces_of(graph: Graph) -> list[Space]:
    """All spaces of a graph whose every producer and reader is a convolution of constant weights."""
    joined = Domains()
    for op in graph.ops:
        if passes(op):
            for v in op.operands:
                joined.join(op.out, v)
    values = [v for op in graph.ops if isinstance(op, Conv2d) or passes(op) for v in (op.out, *(op.operands if passes(op) else ()))]
    found = []
    for group in joined.groups(dict.fromkeys(values)):
        space = Space(group)
        if all(_fill(space, v, graph) for v in group) and space.readers:
            found.append(space)
    return found


def passes(op: Op) -> bool:
    """Whether a scale per channel passes through an operator."""
    if isinstance(op, Clip) and not (op.min == 0 and op.max > 0):
        return False
    if isinstance(op, Add):
        return op.a.shape == op.b.shape == op.out.shape and op.out.type.rank == 4
    return op.passes_scale and op.out.type.rank == 4


def _fill(space: Space, v: Value, graph: Graph) -> bool:
    """Add the producers and readers of a value; returns whether all of them can be scaled."""
    op = v.op
    if op is None or v in graph.outputs or v.type.elem != "f32":
        return False
    if isinstance(op, Conv2d) and _scalable(op):
        space.producers.append(op)
    elif not passes(op):
        return False
    if isinstance(op, Clip):
        space.clips.append(op)
    for user in v.users:
        if isinstance(user, Conv2d) and user.x is v and _scalable(user):
            space.readers.append(user)
        elif not passes(user):
            return False
    return True


def _scalable(op: Conv2d) -> bool:
    return constant(op.w) and constant(op.b) and op.w.op is not None
