"""legalize: rewrite a graph of nn operators into operators that have kernels, in forms that keep feature maps blocked where possible.

Each rule is a pattern with its equation; `greedy` applies them until nothing changes.
"""

from __future__ import annotations

from ....ir.errors import TersorError, UnsupportedError
from ....ir.graph import Graph
from ....ir.ops.bits import WeightQuantizer
from ....ir.rewrite import Rewrite, greedy
from ....passes.cleanup.identities_shape import expand_is_broadcast, moves_nothing, reshape_of_reshape, transpose_of_transpose
from ....passes.folding.fold_bn import bn_to_scale_shift
from ...target import Target
from . import channels, computed, elementwise, groups, matrices, nhwc, pad_crop, pooling, shapes, spatial
from .bits import pack_bits
from .integers import erase_types

#: Element types that have kernels.
COMPILED = ("f32", "f64", "i8", "i16", "i32", "i64", "u8", "bool")

#: Element types of feature maps that windowed operators (convolutions, pools) read.
MAPS = ("f32", "u8", "i8", "i32")

#: Patterns registered by `lowering`.
LOWERINGS: list[Rewrite] = []


def lowering(pattern: Rewrite) -> Rewrite:
    """Register a `@rewrite` that expresses a custom operator by others; it is applied before the built-in rules."""
    if not isinstance(pattern, Rewrite):
        raise TersorError(f"lowering takes a @rewrite function, got {pattern!r}: put @tersor.lowering above @tersor.rewrite")
    LOWERINGS.append(pattern)
    return pattern


def rules(target: Target) -> tuple[Rewrite, ...]:
    """Every pattern; those whose results others match come first."""
    return (
        *LOWERINGS,
        bn_to_scale_shift,
        *elementwise.RULES,
        *channels.RULES,
        *pad_crop.RULES,
        *pooling.RULES,
        *computed.RULES,
        *spatial.rules(target.lanes),
        *groups.rules(target),
        *matrices.RULES,
        *shapes.RULES,
        *nhwc.RULES,
        moves_nothing,
        reshape_of_reshape,
        transpose_of_transpose,
        expand_is_broadcast,
        shapes.moves_are_one,
    )


def legalize(graph: Graph, target: Target) -> Graph:
    """Rewrite in place, for a target; a quantized graph becomes a new one. Raises `UnsupportedError` for element types that have no kernels."""
    graph = erase_types(pack_bits(graph, target))
    for op in graph.ops:
        if isinstance(op, WeightQuantizer):
            raise UnsupportedError(
                f"{op.name} [{op.loc}] makes the weights of a network in training: run to-bits, after which it is compiled to packed kernels, "
                "or freeze-bits, after which they are constants and it is compiled as a float simulation"
            )
        valid = MAPS if op.windowed else COMPILED
        for v in (*op.operands, *op.outs):
            if v.type.elem not in valid:
                raise UnsupportedError(
                    f"{op.name} [{op.loc}] has a value of type {v.type}: compiled are f32 everywhere, and {', '.join(COMPILED[1:])} in plain "
                    "kernels (elementwise, reductions, matrices, data movement). Cast the model, for example by module.float()"
                )
    greedy(graph, *rules(target))
    return graph


__all__ = ["COMPILED", "legalize", "lowering", "rules"]
