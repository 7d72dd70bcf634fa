"""Search for how much of each layer goes: an agent tries per-layer ratios and is rewarded by what the network keeps."""

from .search import Search

__all__ = ["Search"]
