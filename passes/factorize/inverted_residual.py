"""to-inverted-residual: a convolution as a 1x1 expansion, a depthwise convolution and a linear 1x1 projection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...ir.graph import Graph
from ...ir.op import Op
from ...ir.ops import Conv2d, Relu
from ..core.base import register_pass
from ..core.context import Context
from .base import FactorizePass
from .design import Design, Factors, lowest, part_of, small_conv
from .response import F64, Response, principal, solve
from .separable import MOST_UNKNOWNS, Separable, refit

if TYPE_CHECKING:
    from ..reconstruct import Replay


@register_pass
@dataclass(frozen=True)
class ToInvertedResidual(FactorizePass):
    """Replace convolutions by a 1x1 expansion, a depthwise convolution and a linear 1x1 projection.

    conv(x, w; k x k, C -> N)  ->  1x1(depthwise(1x1(x, u; C -> H), d; k x k), p; H -> N),   w[n,c,t] ~ sum_j p[n,j] d[j,t] u[j,c]

    Start: w in two bases, its principal directions over the input channels and the channels themselves. In each basis the slice of every
    direction is split by SVD into terms p d', and the H largest terms are kept; the basis with the smaller error is used. Exact when H is the
    sum of the slices' ranks, at most C * min(N, k*k). With calibration the directions are weighted by the covariance of the inputs; p is
    fitted by least squares to what the layer gave in the original network, then d and p in turn, `sweeps` times.
    It costs H*C + H*k*k + H*N multiply-accumulates a pixel: with H = expansion * C it saves only for an expansion below about k*k*N / (C + N).

    activation: ReLUs after the expansion and the depthwise convolution, as in the paper. The convolution replaced is linear, so ReLUs alone
    would only add error. So each gets a bias that keeps every value of the calibration images above 0, and the next layer subtracts it again:
    on images like those of the calibration the error is the same as without. The ReLUs are there for training that may follow.
    expansion: hidden channels for each input channel, 2 if not given. From a list, `max_error` or `macs` choose for each layer; if not given,
    from 0.5, 1, 2 and 3. No residual sum is added around it.

    Sandler et al., 1801.04381; the sum of products is the canonical polyadic form of w, Lebedev et al., 1412.6553.
    """

    name = "to-inverted-residual"

    expansion: float | tuple[float, ...] | None = None
    activation: bool = False
    sweeps: int = 3

    def check_sizes(self) -> None:
        self.in_range("expansion", self._expansions, "hidden channels for each input channel, above 0", lambda e: e > 0)
        self.in_range("sweeps", [self.sweeps], "alternations of the refit, at least 0", lambda s: s >= 0)

    def designs(self) -> Sequence[Design]:
        return [InvertedDesign(e, self.sweeps, self.activation) for e in self._expansions]

    @property
    def _expansions(self) -> tuple[float, ...]:
        return self.sizes(self.expansion, 2.0, (0.5, 1.0, 2.0, 3.0))

    def run(self, graph: Graph, ctx: Context) -> None:
        if self.activation:
            ctx.need_calibration(self)
        super().run(graph, ctx)


@dataclass(frozen=True)
class Inverted(Factors):
    """up (H, C), depthwise (H, kh, kw), down (N, H); opening: the biases (H,) before the two ReLUs, None without them."""

    up: F64
    depthwise: F64
    down: F64
    opening: tuple[F64, F64] | None = None

    def kernel(self) -> F64:
        result: F64 = np.einsum("nj,jpq,jc->ncpq", self.down, self.depthwise, self.up, optimize=True)
        return result

    def build(self, conv: Conv2d, bias: F64 | None) -> Op:
        up, spatial, down = self.up[:, :, None, None], self.depthwise[:, None], self.down[:, :, None, None]
        geometry: dict[str, Any] = {"stride": conv.stride, "dilation": conv.dilation, "groups": len(up)}
        if self.opening is None:
            hidden: Op = small_conv(conv, small_conv(conv, conv.x, "up", up), "depthwise", spatial, padding=conv.padding, **geometry)
            return small_conv(conv, hidden, "down", down, bias)
        first, second = self.opening
        # pad first: the border then holds what the ReLU gives for zeros, so subtracting the bias is exact there, too
        hidden = Relu(small_conv(conv, conv.x, "up", up, first, padding=conv.padding), loc=part_of(conv, "up"))
        hidden = Relu(small_conv(conv, hidden, "depthwise", spatial, second, **geometry), loc=part_of(conv, "depthwise"))
        constant = first * self.depthwise.sum(axis=(1, 2)) + second
        return small_conv(conv, hidden, "down", down, (0 if bias is None else bias) - self.down @ constant)


@dataclass(frozen=True)
class InvertedDesign(Design):
    expansion: float
    sweeps: int
    activation: bool

    @property
    def label(self) -> str:
        return f"expansion={self.expansion}"

    def start(self, w: F64) -> Inverted:
        white = Response.of_weights(w)
        return min(self._bases(w, np.eye(w.shape[1])), key=lambda f: white.error(f.kernel()))

    def fit(self, w: F64, response: Response) -> Inverted:
        covariance = response.covariance(0, (w.shape[1], w.shape[2] * w.shape[3]))
        return min((self._refit(f, response) for f in self._bases(w, covariance)), key=lambda f: response.error(f.kernel()))

    def opened(self, factors: Factors, replay: Replay, conv: Conv2d) -> Factors:
        assert isinstance(factors, Inverted)
        if not self.activation:
            return factors
        up = small_conv(conv, conv.x, "up", factors.up[:, :, None, None])
        geometry: dict[str, Any] = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation, "groups": len(factors.up)}
        spatial = small_conv(conv, up, "depthwise", factors.depthwise[:, None], **geometry)
        first = np.maximum(0, -lowest(replay, up))
        second = np.maximum(0, -(lowest(replay, spatial) + first * factors.depthwise.sum(axis=(1, 2))))
        return replace(factors, opening=(first, second))

    def _bases(self, w: F64, covariance: F64) -> Sequence[Inverted]:
        n, c, kh, kw = w.shape
        unfolded = w.transpose(1, 0, 2, 3).reshape(c, -1)
        rotated, rest = principal(unfolded, covariance, c)
        scale = np.sqrt(np.maximum(np.diag(covariance), 1e-12 * covariance.max()))
        own = (np.diag(1 / scale), unfolded * scale[:, None])
        return [self._largest(u, r.reshape(-1, n, kh, kw)) for u, r in ((rotated, rest), own)]

    def _largest(self, directions: F64, slices: F64) -> Inverted:
        """The largest terms of the SVDs of the slices (C, N, kh, kw) of the directions (C, C)."""
        c, n, kh, kw = slices.shape
        u, s, vt = np.linalg.svd(slices.reshape(c, n, kh * kw), full_matrices=False)
        hidden = max(1, round(self.expansion * directions.shape[1]))
        at, term = np.unravel_index(np.sort(np.argsort(-s, axis=None, kind="stable")[:hidden]), s.shape)
        root = np.sqrt(s[at, term])
        return Inverted(directions[at], (vt[at, term] * root[:, None]).reshape(-1, kh, kw), (u[at, :, term] * root[:, None]).T)

    def _refit(self, f: Inverted, response: Response) -> Inverted:
        if f.depthwise.size <= MOST_UNKNOWNS:
            new = refit(Separable(f.depthwise[:, None], f.down[:, :, None]), response.mixed(f.up), self.sweeps)
            return replace(f, depthwise=new.depthwise[:, 0], down=new.pointwise[:, :, 0])
        features = np.einsum("jc,jpq->jcpq", f.up, f.depthwise).reshape(len(f.up), -1)
        return replace(f, down=solve(features @ response.gram @ features.T, features @ response.cross, f.down.T).T)
