"""The options that all factorizing passes share, and their checks."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ..core.base import LayerPass
from ..core.context import Context
from ..core.options import nearest
from .design import Design

T = TypeVar("T")


@dataclass(frozen=True)
class FactorizePass(LayerPass):
    """max_error: factorize a layer only where its relative error |Y - Y'| / |Y - mean Y| is at most this, with the cheapest size that meets it.
    macs: the share of the graph's multiply-accumulates to leave at most; layers and sizes are chosen by their error per MAC saved.
    exclude: patterns of module paths that stay. Layers that would cost as much as before stay, too.
    reconstruct: refit by least squares. This needs calibration; without it the factors are fitted to the weights alone, errors are those of
    the weights, and the ledger says so.
    samples: images used at most. positions: responses per image at least; more where a layer has many unknowns.

    The ledger's row holds a table of the layers, `graph.report[name].layers`: error before and after, MACs, parameters, reasons.
    """

    keeps = "lossy"

    max_error: float | None = None
    macs: float | None = None
    exclude: tuple[str, ...] = ()
    reconstruct: bool = True
    samples: int = 1024
    positions: int = 10

    def designs(self) -> Sequence[Design]:
        """The sizes to choose from, by the options."""
        raise NotImplementedError(f"{type(self).__name__}.designs")

    def check_sizes(self) -> None:
        """Raise where an option of the pass's own is out of range."""
        raise NotImplementedError(f"{type(self).__name__}.check_sizes")

    @property
    def chooses(self) -> bool:
        """Whether errors decide what is factorized."""
        return self.max_error is not None or self.macs is not None

    def run(self, graph: Graph, ctx: Context) -> None:
        # imported here: layerwise imports this class
        from .layerwise import factorize

        factorize(graph, self, ctx)

    @classmethod
    def help(cls) -> str:
        return f"{inspect.cleandoc(cls.__doc__ or '')}\n\n{inspect.cleandoc(FactorizePass.__doc__ or '')}"

    # -- checks --------------------------------------------------------------------------------

    def check(self, graph: Graph) -> None:
        """Raise where an option is out of range or names what the graph does not have."""
        if self.max_error is not None and not self.max_error > 0:
            raise TersorError(f"max_error is the largest relative error of a layer, above 0; got {self.max_error:g}")
        if self.macs is not None and not 0 < self.macs < 1:
            raise TersorError(f"macs is the share of MACs to leave, above 0 and below 1; got {self.macs:g}")
        for option in ("samples", "positions"):
            self.in_range(option, [getattr(self, option)], "at least 1", lambda x: x >= 1)
        self.check_sizes()
        paths = sorted({op.loc.path for op in graph if op.loc.path})
        for pattern in self.exclude:
            if not fnmatch.filter(paths, pattern):
                shown = ", ".join(paths[:12]) + (", …" if len(paths) > 12 else "")
                raise TersorError(f"exclude: {pattern!r} matches no layer{nearest(pattern, paths)}; module paths: {shown or 'none'}")

    def check_choice(self) -> None:
        """Raise where several sizes are given and nothing decides between them."""
        if len(sizes := self.designs()) > 1 and not self.chooses:
            raise TersorError(f"{', '.join(d.label for d in sizes)}: max_error= or macs= must say which of these a layer gets")

    def in_range(self, option: str, values: Sequence[T], meaning: str, valid: Callable[[T], bool]) -> None:
        """Raise for the first value that is not valid, and for an empty option."""
        wrong = [f"{value}" for value in values if not valid(value)] if values else ["an empty list"]
        if wrong:
            raise TersorError(f"{option} is {meaning}; got {wrong[0]}")

    def sizes(self, given: Any, alone: T, choice: tuple[T, ...]) -> tuple[T, ...]:
        """The sizes of an option as a tuple: those given; else `choice` where errors decide, and `alone` where not."""
        if given is None:
            return choice if self.chooses else (alone,)
        return given if isinstance(given, tuple) else (given,)
