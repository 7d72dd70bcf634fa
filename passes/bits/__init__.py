"""Passes for networks of few bits: layers get weights and inputs of few levels, which training then fits."""

from .binarize import Binarize
from .dorefa import Dorefa
from .freeze import FreezeBits
from .ternarize import Ternarize
from .to_bits import ToBits

__all__ = ["Binarize", "Dorefa", "FreezeBits", "Ternarize", "ToBits"]
