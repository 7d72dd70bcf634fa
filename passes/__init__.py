"""Passes: Graph -> Graph. Importing the package registers the built-in ones."""

from . import canonicalize, fold_affine, fold_bn, fold_pad, simplify
from .base import LayerPass, Pass, find_pass, known_passes, register_pass
from .context import Context
from .instruments import DumpAfterEach, Instrument, Step, StopAtFirstBad, Timing
from .pipeline import Pipeline
from .presets import PRESETS, Preset
from .report import Ledger, Row
from .transform import transform

__all__ = [
    "PRESETS",
    "Context",
    "DumpAfterEach",
    "Instrument",
    "LayerPass",
    "Ledger",
    "Pass",
    "Pipeline",
    "Preset",
    "Row",
    "Step",
    "StopAtFirstBad",
    "Timing",
    "canonicalize",
    "find_pass",
    "fold_affine",
    "fold_bn",
    "fold_pad",
    "known_passes",
    "register_pass",
    "simplify",
    "transform",
]
