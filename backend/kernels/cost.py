"""Costs shared by the models of several templates and stages."""

from __future__ import annotations


def beyond_l2(nbytes: int) -> float:
    """Modelled cycles to write `nbytes` bytes that do not stay in L2, and to read them back."""
    return nbytes / 16
