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
        "canonicalize,raise,fold-bn,simplify,fold-affine,fold-pad,canonicalize",
        "What compile runs before lowering. canonicalize first, since dead readers and transposes that cancel hide a layer from its norm; "
        "raise while the arithmetic is as the exporter wrote it; "
        "fold-bn before fold-affine, since a norm that folds whole is rounded once, its scale and its shift twice; simplify between them, "
        "since it merges the constants that fold-affine then moves; fold-affine takes what fold-bn had to leave as a scale-shift; fold-pad "
        "after all folding, since a shift in front folds only into an unpadded convolution; canonicalize last, for constants now equal.",
    ),
    "int8": Preset(
        "freeze-sparsity,default,equalize,quantize,correct-bias,to-integer,canonicalize",
        "Post-training int8; it needs calibration images. freeze-sparsity first, since scales are those of constants; default before them, since "
        "norms must be folded by then; equalize before quantize, since it changes ranges; correct-bias after it, since it measures what rounding "
        "shifts; to-integer last, since biases become integers there; canonicalize merges what became equal.",
    ),
    "deep-compress": Preset(
        "sparsify{sparsity=0.9 gradual=true},finetune{epochs=4 schedule=exponential},share-weights{bits=5},finetune{epochs=1 lr=0.0001}",
        "Deep Compression (1510.00149); it needs training data, and the result is saved with entropy=True. sparsify before share-weights, since "
        "zeros take no value of their own; finetune after each, since it repairs what they cost: weights around the zeros, then the shared values.",
    ),
    "qdq": Preset(
        "default,equalize,quantize{sums=rounded},correct-bias,to-integer,canonicalize",
        "int8 for onnxruntime and other runtimes that read QDQ models: as int8, but a residual sum reads rounded results, since they run a "
        "convolution on integers only where its own result is rounded. Precision is somewhat less than that of int8.",
    ),
    "clean": Preset(
        "canonicalize",
        "Only exact rewrites: the same bits with fewer ops.",
    ),
    "trainable": Preset(
        "canonicalize{merge_constants=false fold_constants=false}",
        "What may run before training: equal weights stay separate parameters, and nothing that is learned is computed away.",
    ),
}
