"""Layer-wise reconstruction: refit layers by least squares to their responses in the original network, on their inputs in the current one."""

from .moments import Fit, Moments
from .replay import Replay
from .rows import Refit, gather, refit

__all__ = ["Fit", "Moments", "Refit", "Replay", "gather", "refit"]
