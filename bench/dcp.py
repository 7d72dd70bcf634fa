"""Discrimination-aware channel pruning (1810.11809) beside methods without labels, at the same number of training steps.

    python -m tersor.bench.dcp [--methods "dcp 0.25" "obs 0.25" ...] [--seeds 0 1 2]

ResNet-20 on Fashion-MNIST at half and at a quarter of its multiply-accumulates. DCP trains one epoch in each of its two stages and three after them;
the others train for five epochs after pruning. finetuned.py says how a table resumes.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import finetuned
from .finetuned import Method, Row, losses, steps

SHARES = (0.5, 0.25)
STAGES, AFTER = 2, 3
OTHERS = ("obs", "lasso", "l1", "random")


def pipeline_of(method: str, share: float) -> str:
    """The passes of a run."""
    stages = f" stages={STAGES}" if method == "dcp" else ""
    epochs = AFTER + (0 if method == "dcp" else STAGES)
    return f"trainable,prune-channels{{macs={share:g} method={method}{stages}}},finetune{{steps={steps(epochs)} lr=0.002}},default"


METHODS = {f"{method} {share:g}": Method(pipeline_of(method, share), "f32") for share in SHARES for method in ("dcp", *OTHERS)}


def markdown(rows: Sequence[Row]) -> str:
    """Mean and standard deviation over the seeds."""

    def cells(name: str) -> str:
        method, share = name.split()
        return f"{float(share):.0%} | {method}"

    return losses(rows, METHODS, "MACs | method", cells)


if __name__ == "__main__":
    finetuned.main(__doc__, "dcp", METHODS, markdown)
