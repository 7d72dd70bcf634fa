"""Converters of ONNX operators, by theme; importing the package registers them."""

from . import (
    activations,
    contrib,
    convolution,
    elementwise,
    indexing,
    normalization,
    pooling,
    products,
    quantized,
    reductions,
    resize,
    sampling,
    shapes,
    slices,
    trigonometry,
)

__all__ = [
    "activations",
    "contrib",
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
    "sampling",
    "shapes",
    "slices",
    "trigonometry",
]
