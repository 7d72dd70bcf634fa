"""Sizes in an exported program: numbers, or expressions in the one symbol that stands for the batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sympy
import torch

from ...ir.errors import UnsupportedError
from ...ir.op import Loc
from ..call import Call, StaticBatchNeeded


class Sizes:
    """Reads sizes at a batch.

    module: name for errors. symbol: dimension 0 of the batched inputs, None in a static program. batch: the example's.
    """

    def __init__(self, module: str, symbol: sympy.Symbol | None, batch: int | None):
        self.module = module
        self.symbol = symbol
        self.batch = batch

    def dims(self, sizes: Iterable[Any]) -> tuple[int, ...]:
        """-1 where a size depends on the batch."""
        return tuple(-1 if isinstance(n, torch.SymInt) and n.node.expr.free_symbols else int(n) for n in sizes)

    def batch_axes(self, sizes: Iterable[Any]) -> tuple[int, ...]:
        """Axes whose size is the batch itself."""
        return tuple(i for i, n in enumerate(sizes) if isinstance(n, torch.SymInt) and n.node.expr == self.symbol)

    def at(self, sizes: Iterable[Any], batch: int | None = None, loc: Loc | None = None) -> tuple[int, ...]:
        """The sizes at a batch, the example's by default."""
        exprs = [n.node.expr if isinstance(n, torch.SymInt) else sympy.Integer(n) for n in sizes]
        self._check(exprs, loc, "makes a tensor whose shape depends on the values of another; shapes must be static", " (out of scope)")
        return tuple(int(e.subs({self.symbol: batch or self.batch}) if e.free_symbols else e) for e in exprs)

    def number(self, x: Any, call: Call, symbolic: bool) -> Any:
        """A number given to a call: -1 for one that depends on the batch, if the converter takes such."""
        if isinstance(x, int | float):
            return x
        expr = x.node.expr
        if not expr.free_symbols:
            return int(expr) if isinstance(x, torch.SymInt) else float(expr)
        self._check([expr], call.loc, f"gives the value of a tensor to {call.target} as a Python number; keep it a tensor (no .item())", "")
        if not symbolic or isinstance(x, torch.SymFloat):
            raise StaticBatchNeeded(f"{call.target} computes with the batch size [{call.loc}]")
        return -1

    def _check(self, exprs: Iterable[Any], loc: Loc | None, what: str, scope: str) -> None:
        """Raise when a size or number is a symbol other than the batch: its value depends on data."""
        if set().union(*(e.free_symbols for e in exprs)) - {self.symbol}:
            raise UnsupportedError(f"{self.module}.forward {what}{f' [{loc}]' if loc else ''}{scope}")


def is_symbolic(val: Any) -> bool:
    """Whether a node's value, a tensor's shape or a number, depends on a symbol."""
    flat = val if isinstance(val, tuple | list) else [val]
    sizes = [n for v in flat for n in (v.shape if isinstance(v, torch.Tensor) else [v])]
    return any(isinstance(n, torch.SymInt | torch.SymFloat) and n.node.expr.free_symbols for n in sizes)
