"""Replace convolutions by chains of smaller ones: weights are factorized, then refitted on calibration data."""

from .fire import ToFire
from .inverted_residual import ToInvertedResidual
from .low_rank import LowRank
from .report import LayerReport, LayerTable
from .separable import ToDepthwiseSeparable

__all__ = ["LayerReport", "LayerTable", "LowRank", "ToDepthwiseSeparable", "ToFire", "ToInvertedResidual"]
