"""Converters of ONNX operators, by theme; importing the package registers them."""

from . import (
    activations,
    convolution,
    elementwise,
    indexing,
    normalization,
    pooling,
    products,
    quantized,
    reductions,
    resize,
    shapes,
    slices,
    trigonometry,
)

__all__ = [
    "activations",
    "convolution",
    "elementwise",
    "grids",
    "indexing",
    "normalization",
    "pooling",
    "products",
    "quantized",
    "reductions",
    "resize",
    "shapes",
    "slices",
    "trigonometry",
]
