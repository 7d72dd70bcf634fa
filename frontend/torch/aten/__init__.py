"""Converters of torch's aten operators, by theme; importing the package registers them."""

from . import activations, arithmetic, constants, convolution, indexing, normalization, pooling, products, reductions, shapes, spatial

__all__ = [
    "activations",
    "arithmetic",
    "constants",
    "convolution",
    "indexing",
    "normalization",
    "pooling",
    "products",
    "reductions",
    "shapes",
    "spatial",
]
