"""to-depthwise-separable: a convolution as depthwise kernels and a pointwise convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.op import Op
from ...ir.ops import Conv2d
from ..core.base import register_pass
from .base import FactorizePass
from .design import Design, Factors, small_conv
from .response import F64, Response, solve

#: Depthwise kernels are refitted where they have at most this many weights: the normal equations have the square of that.
MOST_UNKNOWNS = 6144


@register_pass
@dataclass(frozen=True)
class ToDepthwiseSeparable(FactorizePass):
    """Replace convolutions by depthwise and pointwise ones.

    conv(x, w; k x k, M -> N)  ->  pointwise(depthwise(x, d; r kernels per channel), p),   w[n,m] ~ sum_a p[n,m,a] d[m,a]

    M*N*k*k multiply-accumulates a pixel become r*M*k*k + r*M*N. Start: for each input channel m the rank-r SVD of w[:,m] as an N x k*k
    matrix, exact from r = min(N, k*k). With calibration, p = argmin |Y - Y'|^2 by least squares, Y the layer's response in the original
    network; then d and p in turn, `sweeps` times, each the exact minimum with the other fixed.

    rank: kernels per input channel, 1 if not given. From a list, `max_error` or `macs` choose for each layer; if not given, from 1 to 4.

    Howard et al., 1704.04861 (depthwise-separable); Guo et al., 1808.01363 (the split by SVD).
    """

    name = "to-depthwise-separable"

    rank: int | tuple[int, ...] | None = None
    sweeps: int = 3

    def check_sizes(self) -> None:
        self.in_range("rank", self._ranks, "depthwise kernels per input channel, at least 1", lambda r: r >= 1)
        self.in_range("sweeps", [self.sweeps], "alternations of the refit, at least 0", lambda s: s >= 0)

    def designs(self) -> Sequence[Design]:
        return [SeparableDesign(r, self.sweeps) for r in self._ranks]

    @property
    def _ranks(self) -> tuple[int, ...]:
        return self.sizes(self.rank, 1, (1, 2, 3, 4))


@dataclass(frozen=True)
class Separable(Factors):
    """depthwise (M, r, kh, kw), pointwise (N, M, r)."""

    depthwise: F64
    pointwise: F64

    def kernel(self) -> F64:
        result: F64 = np.einsum("nma,mapq->nmpq", self.pointwise, self.depthwise)
        return result

    def build(self, conv: Conv2d, bias: F64 | None) -> Op:
        m, r, kh, kw = self.depthwise.shape
        geometry: dict[str, Any] = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation}
        spatial = small_conv(conv, conv.x, "depthwise", self.depthwise.reshape(m * r, 1, kh, kw), groups=m, **geometry)
        return small_conv(conv, spatial, "pointwise", self.pointwise.reshape(-1, m * r, 1, 1), bias)


@dataclass(frozen=True)
class SeparableDesign(Design):
    rank: int
    sweeps: int

    @property
    def label(self) -> str:
        return f"rank={self.rank}"

    def start(self, w: F64) -> Separable:
        return split(w, self.rank)

    def fit(self, w: F64, response: Response) -> Separable:
        return refit(split(w, self.rank), response, self.sweeps)


def split(w: F64, rank: int) -> Separable:
    """The best rank-`rank` split of each input channel's slice of w (N, M, kh, kw), by SVD; at most min(N, kh*kw) terms."""
    n, m, kh, kw = w.shape
    u, s, vt = np.linalg.svd(w.transpose(1, 0, 2, 3).reshape(m, n, kh * kw), full_matrices=False)
    r = min(rank, s.shape[1])
    # the scale is split evenly, so that the weights of both factors have similar sizes
    root = np.sqrt(s[:, :r])
    return Separable((vt[:, :r] * root[:, :, None]).reshape(m, r, kh, kw), (u[:, :, :r] * root[:, None, :]).transpose(1, 0, 2))


def refit(start: Separable, response: Response, sweeps: int) -> Separable:
    """Least squares for the pointwise weights, then for either factor in turn."""
    factors = refit_pointwise(start, response)
    if start.depthwise.size <= MOST_UNKNOWNS:
        for _ in range(sweeps):
            factors = refit_pointwise(refit_depthwise(factors, response), response)
    return factors


def refit_pointwise(f: Separable, response: Response) -> Separable:
    """p = argmin |Y - Y'|^2 over the depthwise results, d fixed."""
    m, r, kh, kw = f.depthwise.shape
    d = f.depthwise.reshape(m, r, kh * kw)
    half = d @ response.gram.reshape(m, kh * kw, -1)
    gram = (d @ half.reshape(m * r, m, kh * kw).transpose(1, 2, 0)).reshape(m * r, m * r)
    cross = (d @ response.cross.reshape(m, kh * kw, -1)).reshape(m * r, -1)
    p = solve(gram, cross, f.pointwise.reshape(-1, m * r).T)
    return Separable(f.depthwise, p.T.reshape(-1, m, r))


def refit_depthwise(f: Separable, response: Response) -> Separable:
    """d = argmin |Y - Y'|^2, p fixed: the normal equations of d are the patches' moments times the products p'p of its channels."""
    m, r, kh, kw = f.depthwise.shape
    taps = kh * kw
    p = f.pointwise
    products = np.einsum("nma,nlb->malb", p, p, optimize=True)
    gram = np.einsum("mtls,malb->matlbs", response.gram.reshape(m, taps, m, taps), products).reshape(m * r * taps, -1)
    cross = np.einsum("mtn,nma->mat", response.cross.reshape(m, taps, -1), p, optimize=True)
    d = solve(gram, cross.reshape(-1, 1), f.depthwise.reshape(-1, 1))
    return Separable(d.reshape(m, r, kh, kw), p)
