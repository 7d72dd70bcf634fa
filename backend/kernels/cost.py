"""Costs that the models of several templates, and of stages, share."""

from __future__ import annotations


def beyond_l2(nbytes: int) -> float:
    """Modelled cycles to write so many bytes that do not stay in L2, and to read them back."""
    return nbytes / 16
