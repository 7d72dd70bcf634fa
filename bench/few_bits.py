"""Low-bit methods on a network trained on Fashion-MNIST: top-1 of all 10,000 test images and bytes, with and without distillation.

    python -m tersor.bench.few_bits [--methods BWN "BWN, distilled" ...] [--seeds 0 1 2]

Every run starts from one float ResNet-8, changes it by a method, trains for a few epochs on labels, or on labels and the float network, and compiles
the result with `require`. Learning rates were chosen on 5,000 held-out training images. finetuned.py says how a table resumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import finetuned
from .finetuned import RESNET8, Method, Row, mean, steps

#: Weight of the distillation loss.
DISTILL = 0.7
DISTILLED = ", distilled"


@dataclass(frozen=True)
class Change:
    """What a method does. before, after: passes around training. require: of `compile`. lr: the largest learning rate of Adam."""

    before: str
    after: str
    require: str
    epochs: int
    lr: float


#: Fewer bits leave less of the float network's weights, so they take longer.
CHANGES = {
    "float": Change("", "default", "f32", 2, 5e-4),
    "int8 QAT": Change("quantize{qat=true}", "to-integer,canonicalize", "int8", 1, 1e-4),
    "BWN": Change("binarize", "to-bits", "bits", 4, 2e-3),
    "TWN": Change("ternarize", "to-bits", "bits", 3, 2e-3),
    "XNOR": Change("binarize{activations=true}", "to-bits", "bits", 8, 5e-3),
    "w1a2": Change("dorefa{w=1 a=2}", "to-bits", "bits", 4, 2e-3),
    "w2a2": Change("dorefa{w=2 a=2}", "to-bits", "bits", 4, 2e-3),
    "w2a2 g6": Change("dorefa{w=2 a=2 g=6}", "to-bits", "bits", 4, 2e-3),
    "w2a4": Change("dorefa{w=2 a=4}", "to-bits", "bits", 8, 2e-3),
    "w4a4": Change("dorefa{w=4 a=4}", "to-bits", "bits", 3, 2e-3),
}


def pipeline_of(change: Change, distilled: bool) -> str:
    """The passes of a run."""
    options = f"steps={steps(change.epochs)} lr={change.lr:g}" + (f" distill_weight={DISTILL}" if distilled else "")
    return ",".join(part for part in ("trainable", change.before, f"finetune{{{options}}}", change.after) if part)


METHODS = {
    name + (DISTILLED if distilled else ""): Method(pipeline_of(change, distilled), change.require)
    for name, change in CHANGES.items()
    for distilled in (False, True)
}


def markdown(rows: Sequence[Row]) -> str:
    """Mean and standard deviation over the seeds."""
    lines = ["| method | pass | epochs | top-1 | distilled | float | KiB | of float's | seeds |", "|---|---|--:|--:|--:|--:|--:|--:|--:|"]
    for name, change in CHANGES.items():
        plain, distilled = ([r for r in rows if r.name == name + suffix] for suffix in ("", DISTILLED))
        if here := plain + distilled:
            cells = f"{mean([r.top1 for r in plain])} | {mean([r.top1 for r in distilled])} | {here[0].float_top1:.2f} %"
            size = f"{here[0].bytes / 1024:.0f} | {here[0].bytes / here[0].float_bytes:.1%}"
            lines.append(f"| {name} | `{change.before}` | {change.epochs} | {cells} | {size} | {len({r.seed for r in here})} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    finetuned.main(__doc__, "few_bits", METHODS, markdown, RESNET8)
