"""Passes: Graph -> Graph. Importing the package registers the built-in ones."""

from .bits import Binarize, Dorefa, FreezeBits, Ternarize
from .cleanup import argmax_output, canonicalize, raise_ops, simplify
from .core.base import LayerPass, Pass, find_pass, known_passes, register_pass
from .core.context import Context
from .core.instruments import DumpAfterEach, Instrument, Step, StopAtFirstBad, Timing
from .core.pipeline import Pipeline
from .core.presets import PRESETS, Preset
from .core.report import Ledger, Row
from .core.transform import transform
from .factorize import LowRank, ToDepthwiseSeparable, ToFire, ToInvertedResidual
from .folding import fold_affine, fold_bn, fold_pad, recalibrate_bn
from .precision import Precision
from .prune import prune_channels
from .quantize import QuantizePass, ToInteger
from .search import Search
from .sparse import FreezeSparsity, ShareWeights, Sparsify
from .train import Finetune

__all__ = [
    "PRESETS",
    "Binarize",
    "Context",
    "Dorefa",
    "DumpAfterEach",
    "Finetune",
    "FreezeBits",
    "FreezeSparsity",
    "Instrument",
    "LayerPass",
    "Ledger",
    "LowRank",
    "Pass",
    "Pipeline",
    "Precision",
    "Preset",
    "QuantizePass",
    "Row",
    "Search",
    "ShareWeights",
    "Sparsify",
    "Step",
    "StopAtFirstBad",
    "Ternarize",
    "Timing",
    "ToDepthwiseSeparable",
    "ToFire",
    "ToInteger",
    "ToInvertedResidual",
    "argmax_output",
    "canonicalize",
    "find_pass",
    "fold_affine",
    "fold_bn",
    "fold_pad",
    "known_passes",
    "prune_channels",
    "raise_ops",
    "recalibrate_bn",
    "register_pass",
    "simplify",
    "transform",
]
