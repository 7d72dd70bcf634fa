"""Named pipelines, each with the reason for its order. A preset's name stands in a pipeline string like a pass."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A pipeline string and why its passes come in this order."""

    pipeline: str
    why: str


PRESETS: dict[str, Preset] = {
    "default": Preset(
        "canonicalize,fold-bn,fold-affine,fold-pad,canonicalize",
        "What compile runs before lowering. canonicalize first, since dead readers and transposes that cancel hide a convolution from its batch norm; "
        "fold-bn before fold-affine, since a batch norm that folds whole costs one rounding where its scale and shift would cost two; fold-affine then takes "
        "the scale-shifts that fold-bn had to leave and the model's own constant factors; fold-pad after both, since a batch norm between pad and convolution "
        "folds only into an unpadded one; canonicalize last, for the constants and shared weights that folding left behind.",
    ),
    "clean": Preset(
        "canonicalize",
        "Only exact rewrites: the same bits with fewer ops.",
    ),
    "trainable": Preset(
        "canonicalize{merge_constants=false fold_constants=false}",
        "What may run before training: equal weights stay separate parameters and nothing that is learned is computed away, so the order of later passes is free.",
    ),
}
