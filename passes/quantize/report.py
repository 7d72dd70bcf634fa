"""The report of quantization: precision and noise of each layer, and why it is float."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...ir.op import Op


@dataclass(frozen=True)
class QuantizedLayer:
    """One layer.

    layer, source: module path and source line. op: its name. precision: int8 or float. alone: SQNR (dB) of its response when it alone is
    quantized; so_far: in the quantized network, against the network as it was. macs: at the graph's batch. reason: why it is float.
    """

    layer: str
    source: str
    op: str
    precision: Literal["int8", "float"]
    alone: float | None
    so_far: float | None
    macs: int
    reason: str = ""

    @classmethod
    def of(
        cls, op: Op, precision: Literal["int8", "float"], alone: float | None = None, so_far: float | None = None, reason: str = ""
    ) -> QuantizedLayer:
        source = f"{op.loc.file}:{op.loc.line}" if op.loc.file else ""
        return cls(op.loc.path, source, op.name, precision, alone, so_far, op.macs(), reason)


class QuantizedLayers(list[QuantizedLayer]):
    """Rows in the order of the graph; `str()` is a plain table."""

    def __str__(self) -> str:
        header = ["layer", "op", "precision", "SQNR alone", "so far", "MACs", ""]
        lines = [[r.layer, r.op, r.precision, _db(r.alone), _db(r.so_far), str(r.macs), r.reason] for r in self]
        widths = [max(map(len, column)) for column in zip(header, *lines)]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in [header, *lines])


def _db(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} dB"
