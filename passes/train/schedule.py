"""The learning rate as a function of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

Schedule = Literal["cosine", "step", "constant", "exponential"]


def rate(step: int, total: int, schedule: Schedule, warmup: float = 0.0, milestones: Sequence[float] = (), decay: float = 0.1) -> float:
    """The factor of the learning rate in step `step` (from 0) of `total`.

    It rises linearly over the share `warmup` of the steps. Then it follows (1 + cos(pi t)) / 2 over the rest (Loshchilov and Hutter,
    1608.03983), or falls exponentially to `decay` at the end, or is multiplied by `decay` at each share of `milestones`, or stays constant.
    """
    rising = warmup * total
    if step < rising:
        return min(1.0, (step + 1) / rising)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / (total - rising)))
    if schedule == "exponential":
        return float(decay ** ((step - rising) / (total - rising)))
    return decay ** sum(step >= m * total for m in milestones) if schedule == "step" else 1.0
