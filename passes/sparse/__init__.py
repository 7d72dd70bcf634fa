"""Zeros among the weights, and weights that share a few values."""

from .freeze import FreezeSparsity
from .sparsify import Sparsify

__all__ = ["FreezeSparsity", "Sparsify"]
