"""Low-bit methods on a network trained on Fashion-MNIST: top-1 of all 10,000 test images and bytes, with and without distillation.

    python -m tersor.bench.few_bits [--methods BWN "BWN, distilled" ...] [--seeds 0 1 2]

Every run starts from one float ResNet-8 of 32, 64 and 96 channels, changes it by a method, trains for three epochs (XNOR: eight)
on labels, or on labels and the float network, and compiles the result with `require`. finetuned.py says how a table resumes.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import finetuned
from .finetuned import Method, Row, mean, steps

EPOCHS = 3
#: Inputs of one bit leave less of the float network's weights, so they take longer.
LONGER = {"XNOR": 8}
#: Weight of the distillation loss.
DISTILL = 0.7
DISTILLED = ", distilled"
#: Passes before training, passes after it, what `compile` requires, the largest learning rate of Adam.
CHANGES = {
    "float": ("", "default", "f32", 5e-4),
    "int8 QAT": ("quantize{qat=true}", "to-integer,canonicalize", "int8", 5e-4),
    "BWN": ("binarize", "to-bits", "bits", 2e-3),
    "TWN": ("ternarize", "to-bits", "bits", 2e-3),
    "XNOR": ("binarize{activations=true}", "to-bits", "bits", 2e-3),
    "w1a2": ("dorefa{w=1 a=2}", "to-bits", "bits", 2e-3),
    "w2a2": ("dorefa{w=2 a=2}", "to-bits", "bits", 2e-3),
    "w2a2 g6": ("dorefa{w=2 a=2 g=6}", "to-bits", "bits", 2e-3),
    "w2a4": ("dorefa{w=2 a=4}", "to-bits", "bits", 2e-3),
    "w4a4": ("dorefa{w=4 a=4}", "to-bits", "bits", 2e-3),
}


def pipeline_of(name: str, distilled: bool) -> str:
    """The passes of a run."""
    change, finish, _, lr = CHANGES[name]
    options = f"steps={steps(LONGER.get(name, EPOCHS))} lr={lr:g}" + (f" distill_weight={DISTILL}" if distilled else "")
    return ",".join(part for part in ("trainable", change, f"finetune{{{options}}}", finish) if part)


METHODS = {
    name + (DISTILLED if distilled else ""): Method(pipeline_of(name, distilled), CHANGES[name][2]) for name in CHANGES for distilled in (False, True)
}


def markdown(rows: Sequence[Row]) -> str:
    """Mean and standard deviation over the seeds."""
    lines = [
        f"ResNet-8 (32, 64 and 96 channels), {EPOCHS} epochs for each run ({', '.join(f'{k}: {v}' for k, v in LONGER.items())}).",
        "",
        "| method | pass | top-1 | distilled | float | KiB | of float's | seeds |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, (change, *_) in CHANGES.items():
        plain, distilled = ([r for r in rows if r.name == name + suffix] for suffix in ("", DISTILLED))
        if here := plain + distilled:
            cells = f"{mean([r.top1 for r in plain])} | {mean([r.top1 for r in distilled])} | {here[0].float_top1:.2f} %"
            size = here[0].bytes
            lines.append(f"| {name} | `{change}` | {cells} | {size / 1024:.0f} | {size / here[0].float_bytes:.1%} | {len({r.seed for r in here})} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    finetuned.main(__doc__, "few_bits", METHODS, markdown, "resnet8")
