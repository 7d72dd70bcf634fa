"""Pad the groups of grouped convolutions so that they align with vectors.

    conv2d(x, w; groups)   =>   gather(conv2d(x, w'; groups), live)        w' = w with zero filters after each group's own

A vector of outputs from several groups reads the inputs of all of them, and multiplies most by zero. When every group has its own vectors (or
a vector holds several whole groups) it reads only its own inputs. The rule applies where the added filters cost less than that.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ....ir.op import Const, Value
from ....ir.ops import Conv2d
from ....ir.rewrite import Result, Rewrite, refuse, rewrite
from ...kernels.cpu.conv.direct import direct_cycles
from ...kernels.cpu.window import window
from ...target import Target
from ...tile.ops import ChannelGather

#: Cycles to gather one vector, and the factor by which vectors of several groups are slower than the model (measured: 1.1 to 1.6).
GATHER, MIXED = 10, 1.25


def aligned(per_out: int, lanes: int) -> int:
    """The least width from `per_out` on that is a multiple of a vector or divides it."""
    if per_out >= lanes:
        return -(-per_out // lanes) * lanes
    return next(width for width in range(per_out, lanes + 1) if lanes % width == 0)


def cycles(conv: Conv2d, width: int, target: Target) -> float:
    """Modelled cycles of a convolution whose groups have `width` outputs each, and of the gather after it where these include added ones."""
    g = window(conv.x, conv.out.type, conv.kernel, conv.stride, conv.padding, conv.dilation, conv.groups)
    wide = replace(g, o=conv.groups * width, block_in=target.lanes, lanes=target.lanes)
    moved = 0 if wide.o == g.o else g.n * -(-g.o // target.lanes) * g.oh * g.ow
    return direct_cycles(wide, target) + GATHER * moved


def rules(target: Target) -> tuple[Rewrite, ...]:
    """The pattern for a target."""

    @rewrite
    def spread_groups(conv: Conv2d) -> Result:
        """conv2d(x, w; groups) = gather(conv2d(x, w'; groups), live channels), where every group has `aligned` outputs"""
        if not isinstance(conv.w.op, Const) or (conv.b is not None and not isinstance(conv.b.op, Const)) or conv.out.type.elem != "f32":
            return None
        groups, per_in = conv.groups, conv.w.shape[1]
        per_out = conv.w.shape[0] // groups
        width = aligned(per_out, target.lanes)
        if groups == 1 or width == per_out or (per_in, per_out) == (1, 1):
            return None
        if cycles(conv, width, target) > cycles(conv, per_out, target) * MIXED:
            return refuse("dead filters would cost more than the zeros they avoid")

        def widened(array: np.ndarray) -> Const:
            apart = array.reshape(groups, per_out, *array.shape[1:])
            pad = np.zeros((groups, width - per_out, *array.shape[1:]), array.dtype)
            return Const(np.concatenate([apart, pad], 1).reshape(groups * width, *array.shape[1:]), loc=conv.loc)

        b = None if conv.b is None else widened(constant(conv.b))
        wide = conv.rebuilt(w=widened(constant(conv.w)).out, b=None if b is None else b.out)
        return ChannelGather([wide.out], tuple(g * width + i for g in range(groups) for i in range(per_out)), loc=conv.loc)

    return (spread_groups,)


def constant(v: Value) -> np.ndarray:
    assert isinstance(v.op, Const)
    return v.op.array
