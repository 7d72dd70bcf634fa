"""Quantization: ranges and types from calibration data, repairs, and the translation to integer operators."""

from .correct_bias import CorrectBias
from .equalize import Equalize
from .quantize import QuantizePass
from .to_integer import ToInteger

__all__ = ["CorrectBias", "Equalize", "QuantizePass", "ToInteger"]
