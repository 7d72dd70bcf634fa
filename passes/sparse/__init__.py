"""Sparsity and weight sharing: zeros among the weights, and weights that share a few values."""

from .freeze import FreezeSparsity
from .share import ShareWeights
from .sparsify import Sparsify

__all__ = ["FreezeSparsity", "ShareWeights", "Sparsify"]
