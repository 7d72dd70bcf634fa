"""Layers refitted by least squares: what they should give in the network as it was, from what they are given in the network as it is now."""

from .moments import Fit, Moments
from .replay import Replay
from .rows import Refit, gather, refit

__all__ = ["Fit", "Moments", "Refit", "Replay", "gather", "refit"]
