"""Convolutions replaced by products of smaller ones: weights carried over by their algebra, then repaired on calibration data."""

from .fire import ToFire
from .inverted_residual import ToInvertedResidual
from .low_rank import LowRank
from .report import LayerReport, LayerTable
from .separable import ToDepthwiseSeparable

__all__ = ["LayerReport", "LayerTable", "LowRank", "ToDepthwiseSeparable", "ToFire", "ToInvertedResidual"]
