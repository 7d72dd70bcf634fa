"""Quantization: ranges and types from calibration data, corrections of its errors, and the translation to integer operators."""

from .adaround import AdaRound
from .correct_bias import CorrectBias
from .equalize import Equalize
from .quantize import QuantizePass
from .to_integer import ToInteger

__all__ = ["AdaRound", "CorrectBias", "Equalize", "QuantizePass", "ToInteger"]
