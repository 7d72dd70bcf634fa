"""What a factorizing pass did to each convolution, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ...ir.op import Op
from .design import Cost

#: Before and after the refit.
Errors: TypeAlias = tuple[float | None, float | None]


@dataclass(frozen=True)
class LayerReport:
    """One convolution.

    layer, source: its module path and source line. shape: of its weights. done: the size it was factorized to (`rank=2`), or "" where it
    stays and `reason` says why. measured: errors are |Y - Y'| / |Y - mean Y| of its responses to calibration data, in the current network up
    to that layer against the original network; otherwise |W - W'| / |W| of its weights. before, after: the error before and after the refit.
    macs, parameters: before and after, at the graph's batch.
    """

    layer: str
    source: str
    shape: tuple[int, ...]
    done: str
    reason: str
    measured: bool
    before: float | None
    after: float | None
    macs: tuple[int, int]
    parameters: tuple[int, int]

    @classmethod
    def of(cls, op: Op, was: Cost, now: Cost, done: str = "", reason: str = "", errors: Errors = (None, None), measured: bool = False) -> LayerReport:
        source = f"{op.loc.file}:{op.loc.line}" if op.loc.file else ""
        macs, parameters = (was.macs, now.macs), (was.parameters, now.parameters)
        return cls(op.loc.path, source, tuple(op.operands[1].shape), done, reason, measured, *errors, macs, parameters)


class LayerTable(list[LayerReport]):
    """Reports in the order of the graph; `str()` is a plain table."""

    def __str__(self) -> str:
        header = ["layer", "weights", "became", "before", "after", "MACs", "parameters", ""]
        lines = [
            [
                r.layer,
                "x".join(map(str, r.shape)),
                r.done or "kept",
                _error(r.before, r.measured),
                _error(r.after, r.measured),
                _change(r.macs),
                _change(r.parameters),
                r.reason,
            ]
            for r in self
        ]
        widths = [max(map(len, column)) for column in zip(header, *lines)]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in [header, *lines])


def _error(error: float | None, measured: bool) -> str:
    return "" if error is None else f"{error:.4f}" + ("" if measured else " (weights)")


def _change(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]} -> {pair[1]}"
