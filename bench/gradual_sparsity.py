"""Gradual sparsity (Zhu and Gupta, 1710.01878) beside zeros set at once, with the same fine-tuning: a ResNet-8 on Fashion-MNIST.

    python -m tersor.bench.gradual_sparsity [--methods "gradual 0.9" "at once 0.9" ...] [--seeds 0 1 2]

Both train for three epochs with the same schedule, masks by magnitude over all weights. finetuned.py says how a table resumes.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import finetuned
from .finetuned import RESNET8, Method, Row, losses, steps

SPARSITIES = (0.5, 0.8, 0.9, 0.95)
EPOCHS = 3
WAYS = {"gradual": " gradual=true every=50", "at once": ""}


def pipeline_of(way: str, sparsity: float) -> str:
    """The passes of a run."""
    train = f"finetune{{steps={steps(EPOCHS)} lr=0.002 schedule=exponential}}"
    return f"trainable,sparsify{{sparsity={sparsity:g} scope=global{WAYS[way]}}},{train},freeze-sparsity,default"


METHODS = {f"{way} {sparsity:g}": Method(pipeline_of(way, sparsity), "f32") for sparsity in SPARSITIES for way in WAYS}


def markdown(rows: Sequence[Row]) -> str:
    """Mean and standard deviation over the seeds."""

    def cells(name: str) -> str:
        way, sparsity = name.rsplit(" ", 1)
        return f"{float(sparsity):.0%} | {way}"

    return losses(rows, METHODS, "zeros | way", cells)


if __name__ == "__main__":
    finetuned.main(__doc__, "gradual_sparsity", METHODS, markdown, RESNET8)
