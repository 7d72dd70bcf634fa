"""Passes: Graph -> Graph. Importing the package registers the built-in ones."""

from . import canonicalize, fold_affine, fold_bn, fold_pad, recalibrate_bn, simplify
from .base import LayerPass, Pass, find_pass, known_passes, register_pass
from .context import Context
from .factorize import LowRank, ToDepthwiseSeparable, ToFire, ToInvertedResidual
from .instruments import DumpAfterEach, Instrument, Step, StopAtFirstBad, Timing
from .pipeline import Pipeline
from .presets import PRESETS, Preset
from .prune import prune_channels
from .report import Ledger, Row
from .transform import transform

__all__ = [
    "PRESETS",
    "Context",
    "DumpAfterEach",
    "Instrument",
    "LayerPass",
    "Ledger",
    "LowRank",
    "Pass",
    "Pipeline",
    "Preset",
    "Row",
    "Step",
    "StopAtFirstBad",
    "Timing",
    "ToDepthwiseSeparable",
    "ToFire",
    "ToInvertedResidual",
    "canonicalize",
    "find_pass",
    "fold_affine",
    "fold_bn",
    "fold_pad",
    "known_passes",
    "prune_channels",
    "recalibrate_bn",
    "register_pass",
    "simplify",
    "transform",
]
