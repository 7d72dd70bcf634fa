"""A network made smaller and trained again in one pipeline: top-1 of all 10,000 test images of Fashion-MNIST, MACs and bytes.

    python -m tersor.bench.small_networks [--methods prune factorize ...] [--seeds 0 1 2]

Every run starts from one float ResNet-20, prunes or factorizes it or both to a quarter of its multiply-accumulates, and trains what is left for six
epochs on labels and the float network. finetuned.py says how a table resumes.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import finetuned
from .few_bits import DISTILL
from .finetuned import Method, Row, mean, steps

EPOCHS = 6
#: Passes before training, and the largest learning rate of Adam: without a batch norm between its factors a layer diverges at a high one.
CHANGES = {
    "prune": ("prune-channels{macs=0.25}", 3e-3),
    "factorize": ("low-rank{method=tucker macs=0.25}", 5e-4),
    "prune, factorize": ("prune-channels{macs=0.5},low-rank{method=tucker macs=0.5}", 5e-4),
}
METHODS = {
    name: Method(f"trainable,{change},finetune{{steps={steps(EPOCHS)} lr={lr:g} distill_weight={DISTILL}}},default", "f32")
    for name, (change, lr) in CHANGES.items()
}


def markdown(rows: Sequence[Row]) -> str:
    """Mean and standard deviation over the seeds."""
    lines = ["| | passes before training | MACs | top-1 | loss | float | KiB | of float's | seeds |", "|---|---|--:|--:|--:|--:|--:|--:|--:|"]
    for name, (change, _) in CHANGES.items():
        if here := [r for r in rows if r.name == name]:
            top1, loss = mean([r.top1 for r in here]), mean([r.float_top1 - r.top1 for r in here])
            size = here[0].bytes
            lines.append(
                f"| {name} | `{change}` | {max(r.macs for r in here):.1%} | {top1} | {loss} | {here[0].float_top1:.2f} % "
                f"| {size / 1024:.0f} | {size / here[0].float_bytes:.1%} | {len(here)} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    finetuned.main(__doc__, "small_networks", METHODS, markdown)
