"""Evaluate operators so that each element depends on its operands alone, not on its place in memory.

torch computes exp, sigmoid and the like in vectors where elements are contiguous, and one by one at the end of a row or with a stride; the
two differ in the last bit. Moving a slice or a permutation past such a function is still correct. So `check=True` compares results that are
computed here: operands are contiguous, and these functions run on whole vectors only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from ...ir.op import Op
from ...ir.ops.elementwise import Elementwise
from ...ir.ops.namespace import TorchMath

if TYPE_CHECKING:
    import torch

#: Functions of `Math` that IEEE 754 defines to the last bit, or that only select: the same wherever an element lies.
DEFINED = frozenset({"max", "min", "sqrt", "rint", "floor", "ceil", "abs", "mod", "where", "mul", "add", "signbit"})
#: The same of integers.
DEFINED |= {"bitwise_and", "bitwise_or", "bitwise_xor", "shift_left", "shift_right"}
#: Elements that one step of torch's vector loops takes, at most (two registers of 32).
VECTOR = 64
#: Elements at a time: fewer than torch splits among threads, since such a split may end inside a vector.
PIECE = 256 * VECTOR


class ValueMath(TorchMath):
    """`Math` over torch tensors whose functions run on whole vectors only."""

    def __init__(self) -> None:
        super().__init__()
        for name, function in list(vars(self).items()):
            if name not in DEFINED:
                setattr(self, name, in_vectors(function))


value_math = cache(ValueMath)


def in_vectors(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """An elementwise function of tensors, run on pieces of whole vectors: what is missing in the last one is filled with ones."""

    def run(*xs: torch.Tensor) -> torch.Tensor:
        import torch
        from torch.nn.functional import pad

        whole = torch.broadcast_tensors(*xs)  # type: ignore[no-untyped-call]
        shape, size, flat = whole[0].shape, whole[0].numel(), [x.reshape(-1) for x in whole]
        if not size:
            return function(*xs)
        pieces = [[pad(p, (0, -len(p) % VECTOR), value=1) for p in torch.split(x, PIECE)] for x in flat]
        return torch.cat([function(*piece) for piece in zip(*pieces)])[:size].reshape(shape)

    return run


def by_value(op: Op, *operands: Any) -> Any:
    """`op.evaluate(*operands)`, with the same bits wherever elements lie."""
    if isinstance(op, Elementwise) and type(op).evaluate is Elementwise.evaluate:
        return op.f(value_math(), *operands)
    return op.evaluate(*(_contiguous(x) for x in operands))


def _contiguous(x: Any) -> Any:
    """A tensor, or each tensor of a list, made contiguous; anything else as it is."""
    if isinstance(x, list):
        return [_contiguous(v) for v in x]
    return x if x is None else x.contiguous()
