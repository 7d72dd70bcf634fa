"""Search for per-layer ratios: an agent tries ratios, and its reward is the quality that the network keeps."""

from .search import Search

__all__ = ["Search"]
