"""low-rank: a convolution as a chain of cheaper ones, by spatial SVD or Tucker-2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...ir.op import Op
from ...ir.ops import Conv2d
from ..core.base import register_pass
from .base import FactorizePass
from .design import Design, Factors, share_of, small_conv
from .response import F64, Response, principal, solve

Rank = int | float


@register_pass
@dataclass(frozen=True)
class LowRank(FactorizePass):
    """Replace convolutions by chains of lower rank.

    svd:     conv(x, w; kh x kw, C -> N)  ->  conv(conv(x, v; kh x 1, C -> r), h; 1 x kw, r -> N),   w[n,c,p,q] ~ sum_r h[n,r,q] v[r,c,p]
    tucker:  conv(x, w; kh x kw, C -> N)  ->  1x1 (s -> C', t -> N) around a core: conv(1x1(x, i; C -> s), g; kh x kw, s -> t), 1x1(., o; t -> N),
             w[n,c] ~ sum_st o[n,t] g[t,s] i[s,c]

    Start: svd cuts the SVD of w as a (C*kh) x (N*kw) matrix, the best of its rank; tucker takes the principal directions of the input and of
    the output channels of w and projects w on them (HOSVD). Both are exact at full rank. With calibration, svd takes v from the SVD weighted
    by the covariance of the inputs and h by least squares; tucker takes i the same way, and then g and o as the best map of rank t from i's
    results to the responses (reduced-rank regression), which is the exact minimum for that i.

    rank: an integer for r, or for both s and t; or a float, a share of the full rank: of min(C*kh, N*kw), or of C for s and N for t. 0.25 if
    not given. From a list, `max_error` or `macs` choose for each layer; if not given, from 0.125, 0.25, 0.5 and 0.75.

    Jaderberg et al., 1405.3866 (k x 1 and 1 x k); Kim et al., 1511.06530 (Tucker-2); Zhang et al., 1505.06798 (fitted to the responses).
    """

    name = "low-rank"

    method: Literal["svd", "tucker"] = "svd"
    rank: Rank | tuple[Rank, ...] | None = None

    def check_sizes(self) -> None:
        meaning = "an integer of at least 1, or a float as a share of the full rank, above 0 and at most 1"
        self.in_range("rank", self._ranks, meaning, lambda r: r >= 1 if isinstance(r, int) else 0 < r <= 1)

    def designs(self) -> Sequence[Design]:
        kind = SpatialDesign if self.method == "svd" else TuckerDesign
        return [kind(r) for r in self._ranks]

    @property
    def _ranks(self) -> tuple[Rank, ...]:
        return self.sizes(self.rank, 0.25, (0.125, 0.25, 0.5, 0.75))


@dataclass(frozen=True)
class _Ranked(Design):
    rank: Rank

    @property
    def label(self) -> str:
        return f"rank={self.rank}"

    def of(self, full: int) -> int:
        """The rank as an integer, given the full rank."""
        return min(self.rank, full) if isinstance(self.rank, int) else share_of(self.rank, full)


# -- spatial SVD -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spatial(Factors):
    """vertical (r, C, kh), horizontal (N, r, kw)."""

    vertical: F64
    horizontal: F64

    def kernel(self) -> F64:
        result: F64 = np.einsum("nrq,rcp->ncpq", self.horizontal, self.vertical, optimize=True)
        return result

    def build(self, conv: Conv2d, bias: F64 | None) -> Op:
        (sh, sw), (dh, dw), (top, bottom, left, right) = conv.stride, conv.dilation, conv.padding
        tall = small_conv(conv, conv.x, "vertical", self.vertical[:, :, :, None], stride=(sh, 1), padding=(top, bottom, 0, 0), dilation=(dh, 1))
        return small_conv(
            conv, tall, "horizontal", self.horizontal[:, :, None, :], bias, stride=(1, sw), padding=(0, 0, left, right), dilation=(1, dw)
        )


@dataclass(frozen=True)
class SpatialDesign(_Ranked):
    def refuses(self, conv: Conv2d) -> str | None:
        return "its kernel has one row or one column" if 1 in conv.kernel else None

    def start(self, w: F64) -> Spatial:
        return self._cut(w, np.eye(w.shape[1] * w.shape[2]))

    def fit(self, w: F64, response: Response) -> Spatial:
        _, c, kh, kw = w.shape
        start = self._cut(w, response.covariance(0, (c * kh, kw)))
        v = start.vertical.reshape(-1, c * kh)
        r = len(v)
        half = (v @ response.gram.reshape(c * kh, -1)).reshape(r * kw, c * kh, kw)
        gram = np.einsum("xks,bk->xbs", half, v, optimize=True).reshape(r * kw, r * kw)
        cross = (v @ response.cross.reshape(c * kh, -1)).reshape(r * kw, -1)
        h = solve(gram, cross, start.horizontal.transpose(1, 2, 0).reshape(r * kw, -1))
        return Spatial(start.vertical, h.reshape(r, kw, -1).transpose(2, 0, 1))

    def _cut(self, w: F64, covariance: F64) -> Spatial:
        """The best factors of this rank for inputs with a covariance (C*kh, C*kh)."""
        n, c, kh, kw = w.shape
        v, h = principal(w.transpose(1, 2, 0, 3).reshape(c * kh, n * kw), covariance, self.of(min(c * kh, n * kw)))
        return Spatial(v.reshape(-1, c, kh), h.reshape(-1, n, kw).transpose(1, 0, 2))


# -- Tucker-2 ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tucker(Factors):
    """inner (s, C), core (t, s, kh, kw), outer (N, t)."""

    inner: F64
    core: F64
    outer: F64

    def kernel(self) -> F64:
        result: F64 = np.einsum("nt,tspq,sc->ncpq", self.outer, self.core, self.inner, optimize=True)
        return result

    def build(self, conv: Conv2d, bias: F64 | None) -> Op:
        first = small_conv(conv, conv.x, "inner", self.inner[:, :, None, None])
        core = small_conv(conv, first, "core", self.core, stride=conv.stride, padding=conv.padding, dilation=conv.dilation)
        return small_conv(conv, core, "outer", self.outer[:, :, None, None], bias)


@dataclass(frozen=True)
class TuckerDesign(_Ranked):
    def start(self, w: F64) -> Tucker:
        n, c, kh, kw = w.shape
        outer = np.linalg.svd(w.reshape(n, -1), full_matrices=False)[0][:, : self.of(n)]
        inner, rest = principal(w.transpose(1, 0, 2, 3).reshape(c, -1), np.eye(c), self.of(c))
        core = np.einsum("nt,snpq->tspq", outer, rest.reshape(-1, n, kh, kw), optimize=True)
        return Tucker(inner, core, outer)

    def fit(self, w: F64, response: Response) -> Tucker:
        n, c, kh, kw = w.shape
        inner, rest = principal(w.transpose(1, 0, 2, 3).reshape(c, -1), response.covariance(0, (c, kh * kw)), self.of(c))
        mixed = response.mixed(inner)
        prior = rest.reshape(-1, n, kh * kw).transpose(0, 2, 1).reshape(-1, n)
        best = solve(mixed.gram, mixed.cross, prior)
        # the responses that `best` gives lie mostly in their first principal directions: those of its values' covariance
        directions = np.linalg.eigh(best.T @ mixed.gram @ best)[1][:, ::-1][:, : self.of(n)]
        core = (best @ directions).T.reshape(-1, len(inner), kh, kw)
        return Tucker(inner, core, directions)
