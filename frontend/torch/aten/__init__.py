"""Converters of torch's aten operators, by theme; importing the package registers them."""

from . import (
    activations,
    arithmetic,
    constants,
    convolution,
    gathering,
    indexing,
    normalization,
    pooling,
    products,
    reductions,
    shapes,
    spatial,
    trigonometry,
)

__all__ = [
    "activations",
    "arithmetic",
    "constants",
    "convolution",
    "gathering",
    "indexing",
    "normalization",
    "pooling",
    "products",
    "reductions",
    "shapes",
    "spatial",
    "trigonometry",
]
