"""Helpers of the tests of the factorizing passes: convolutions with given kernels, and patches computed by numpy loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pass_cases import graph_of

from tersor.ir import Const, Graph, Loc
from tersor.ir import ops as nn

torch.set_num_threads(1)

#: stride, padding (top, bottom, left, right), dilation
GEOMETRIES: list[dict[str, Any]] = [
    {"padding": (1, 1, 1, 1)},
    {"stride": (2, 1), "padding": (1, 2, 2, 1)},
    {"padding": (2, 2, 4, 4), "dilation": (2, 3)},
]
UNPADDED: dict[str, Any] = {"stride": (2, 2)}


def conv_graph(w: np.ndarray, b: np.ndarray | None = None, size: tuple[int, int] = (9, 8), **geometry: Any) -> Graph:
    """One convolution of the module path `layer`, then a ReLU; batch 2."""
    bias = None if b is None else Const(b.astype(np.float32))
    layer = lambda x: nn.Conv2d(x, Const(w.astype(np.float32)), bias, **geometry, loc=Loc("layer", "net.py", 3))  # noqa: E731
    return graph_of(lambda x: nn.Relu(layer(x)), (2, w.shape[1], *size))


def error(graph: Graph, other: Graph, batch: int, seed: int = 0) -> float:
    """max|y - y'| / max|y| on normal inputs."""
    x = torch.randn(batch, *graph.inputs[0].shape[1:], generator=torch.Generator().manual_seed(seed))
    y = graph(x)
    return float((other(x) - y).abs().max() / y.abs().max())


def im2col(x: np.ndarray, kernel: tuple[int, int], stride: Any = (1, 1), padding: Any = (0, 0, 0, 0), dilation: Any = (1, 1)) -> np.ndarray:
    """Patches (pixels of all images, C*kh*kw) of x (n, C, H, W), one at a time."""
    top, bottom, left, right = padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    kh, kw = kernel
    oh = (x.shape[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    ow = (x.shape[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    rows = []
    for image in x:
        for i in range(oh):
            for j in range(ow):
                a, b = i * stride[0], j * stride[1]
                rows.append(image[:, a : a + kh * dilation[0] : dilation[0], b : b + kw * dilation[1] : dilation[1]].ravel())
    return np.array(rows, np.float64)


def ridged(x: np.ndarray, y: np.ndarray, prior: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """argmin |y - x w - b|^2 + sum_i r_i |w_i - prior_i|^2 by numpy's lstsq, r_i = ridge * (|x_i - mean|^2 + a thousandth of their mean)."""
    c = x - x.mean(0)
    scale = (c**2).sum(0)
    r = np.sqrt(ridge * (scale + 1e-3 * scale.mean()))
    w = np.linalg.lstsq(np.vstack([c, np.diag(r)]), np.vstack([y - y.mean(0), r[:, None] * prior]), rcond=None)[0]
    return w, y.mean(0) - x.mean(0) @ w
