"""Reports for people: a table of layers, and a page with the graph, its costs and its ledger."""

from .layers import Layer, Layers, layers
from .measures import sqnrs, times

__all__ = ["Layer", "Layers", "layers", "sqnrs", "times"]
