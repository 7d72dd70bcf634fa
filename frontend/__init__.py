"""Model importers. `trace` turns a torch.nn.Module into a graph; `converter` adds a torch operator to those it knows."""

from .registry import converter

__all__ = ["converter"]
