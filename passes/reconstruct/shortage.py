"""One warning for all layers of a pass with too little calibration data, instead of one for each."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from ...ir.op import Op

#: Layers that a warning names; the others are counted.
NAMED = 3


@dataclass(frozen=True)
class Short:
    """A layer with no more rows of calibration data than unknowns per response."""

    layer: Op
    unknowns: int
    responses: int

    def __str__(self) -> str:
        return f"{self.layer.name} [{self.layer.loc}] ({self.unknowns:,} unknowns, {self.responses:,} responses)"


def warn_short(what: str, found: Sequence[Short], images: int, held: str) -> None:
    """Warn of layers with too few responses, the worst ones named; `images` were used, `held` names what a ridge keeps them near."""
    if not found:
        return
    worst = sorted(found, key=lambda s: s.responses / s.unknowns)
    enough = math.ceil(images * worst[0].unknowns / max(worst[0].responses, 1)) + 1
    warnings.warn(
        f"{what}: {counted(len(found), 'has', 'have')} no more responses in the {images} calibration images than unknowns, so a ridge holds "
        f"{'its' if len(found) == 1 else 'their'} weights near {held}: {named(worst)}. Give at least {enough:,} images, or exclude these layers",
        stacklevel=3,
    )


def counted(layers: int, one: str, several: str) -> str:
    """`1 layer has`, `60 layers have`."""
    return f"1 layer {one}" if layers == 1 else f"{layers} layers {several}"


def named(things: Sequence[object]) -> str:
    """The first few, and how many more there are."""
    return "; ".join(map(str, things[:NAMED])) + (f"; and {len(things) - NAMED} more" if len(things) > NAMED else "")
