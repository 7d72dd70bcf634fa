"""to-fire: a convolution as a squeeze and two expansions side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...ir.graph import Graph
from ...ir.op import Const, Op, Value
from ...ir.ops import Concat, Conv2d, IndexSelect, Relu, Slice
from ..core.base import register_pass
from ..core.context import Context
from .base import FactorizePass
from .design import Design, Factors, beyond_middle, lowest, part_of, share_of, small_conv
from .permute import sink_permutations
from .response import F64, Response, principal, solve

if TYPE_CHECKING:
    from ..reconstruct import Replay


@register_pass
@dataclass(frozen=True)
class ToFire(FactorizePass):
    """Replace convolutions by fire modules: a 1x1 squeeze, then 1x1 and k x k expansions side by side.

    conv(x, w; k x k, C -> N)  ->  concat(1x1(z, e1), conv(z, e3; k x k)),   z = 1x1(x, s; C -> S),   w[n,c,t] ~ sum_j e[n,j,t] s[j,c]

    Start: s holds the first principal directions of w over its input channels; the outputs whose squeezed kernels have the least outside
    their middle tap get the 1x1 kernel. With calibration, s is weighted by the covariance of the inputs, and every output is fitted to its
    responses by least squares both ways: those that lose the least with 1x1 get it, the exact minimum for that s. The order of the outputs
    moves into the layers that follow where they are convolutions, else it stays as a gather of channels. Exact for S = C and pct_3x3 = 1.

    activation: a ReLU after the squeeze, as in the paper. The convolution replaced is linear, so a ReLU alone would only add error. So the
    squeeze gets a bias that keeps every value of the calibration images above 0, and the expansions subtract it again: on images like those
    of the calibration the error is the same as without. The ReLU is there for training that may follow.
    squeeze_ratio: squeeze channels for each output channel, 0.25 if not given. pct_3x3: share of the outputs with a k x k kernel. From a
    list, `max_error` or `macs` choose for each layer; if no ratio is given, from 0.125, 0.25, 0.5 and 0.75.

    Iandola et al., 1602.07360 (both ratios: section 5).
    """

    name = "to-fire"

    squeeze_ratio: float | tuple[float, ...] | None = None
    pct_3x3: float | tuple[float, ...] = 0.5
    activation: bool = False

    def check_sizes(self) -> None:
        self.in_range("squeeze_ratio", self._ratios, "squeeze channels for each output channel, above 0", lambda r: r > 0)
        self.in_range("pct_3x3", self._wide, "the share of outputs with a k x k kernel, above 0 and at most 1", lambda p: 0 < p <= 1)

    def designs(self) -> Sequence[Design]:
        return [FireDesign(r, p, self.activation) for r in self._ratios for p in self._wide]

    @property
    def _ratios(self) -> tuple[float, ...]:
        return self.sizes(self.squeeze_ratio, 0.25, (0.125, 0.25, 0.5, 0.75))

    @property
    def _wide(self) -> tuple[float, ...]:
        return self.pct_3x3 if isinstance(self.pct_3x3, tuple) else (self.pct_3x3,)

    def run(self, graph: Graph, ctx: Context) -> None:
        if self.activation:
            ctx.need_calibration(self)
        super().run(graph, ctx)
        ctx.record(sink_permutations(graph))


@dataclass(frozen=True)
class Fire(Factors):
    """squeeze (S, C), point (N1, S), wide (N3, S, kh, kw); outputs (N,): which output each row of point, then of wide, is.

    opening: the biases (S,) before the ReLU, None without one.
    """

    squeeze: F64
    point: F64
    wide: F64
    outputs: NDArray[np.int64]
    opening: F64 | None = None

    def expansion(self) -> F64:
        """Both expansions as one kernel (N, S, kh, kw)."""
        n1, (_, s, kh, kw) = len(self.point), self.wide.shape
        e = np.zeros((len(self.outputs), s, kh, kw))
        e[self.outputs[:n1], :, kh // 2, kw // 2] = self.point
        e[self.outputs[n1:]] = self.wide
        return e

    def kernel(self) -> F64:
        result: F64 = np.einsum("nspq,sc->ncpq", self.expansion(), self.squeeze, optimize=True)
        return result

    def build(self, conv: Conv2d, bias: F64 | None) -> Op:
        n1 = len(self.point)
        stride, padding, inner = conv.stride, conv.padding, beyond_middle(conv)
        z: Op = small_conv(conv, conv.x, "squeeze", self.squeeze[:, :, None, None])
        middle: Op = z
        if self.opening is not None:
            # pad first: the border then holds what the ReLU gives for zeros, so subtracting the bias is exact there, too
            z = Relu(small_conv(conv, conv.x, "squeeze", self.squeeze[:, :, None, None], self.opening, padding=padding), loc=part_of(conv, "squeeze"))
            bias = (0 if bias is None else bias) - self.expansion().sum(axis=(2, 3)) @ self.opening
            middle, padding, inner = cropped(z, conv), (0, 0, 0, 0), (0, 0, 0, 0)
        b1, b3 = (None, None) if bias is None else (bias[self.outputs[:n1]], bias[self.outputs[n1:]])
        wide = small_conv(conv, z, "expand_kxk", self.wide, b3, stride=stride, padding=padding, dilation=conv.dilation)
        both: Op = wide
        if n1:
            point = small_conv(conv, middle, "expand_1x1", self.point[:, :, None, None], b1, stride=stride, padding=inner)
            both = Concat([point, wide], 1, loc=conv.loc)
        order = np.argsort(self.outputs)
        return both if (order == np.arange(len(order))).all() else IndexSelect(both, Const(order, loc=conv.loc), 1, loc=conv.loc)


def cropped(z: Op, conv: Conv2d) -> Op:
    """The pixels of a padded z that the middle tap of `conv` reads."""
    value: Value | Op = z
    for axis, k, d in ((2, conv.kernel[0], conv.dilation[0]), (3, conv.kernel[1], conv.dilation[1])):
        size, before = z.out.shape[axis], k // 2 * d
        value = Slice(value, axis, before, size - ((k - 1) * d - before), loc=part_of(conv, "expand_1x1"))
    assert isinstance(value, Op)
    return value


@dataclass(frozen=True)
class FireDesign(Design):
    squeeze_ratio: float
    pct_3x3: float
    activation: bool

    @property
    def label(self) -> str:
        return f"squeeze_ratio={self.squeeze_ratio} pct_3x3={self.pct_3x3}"

    def refuses(self, conv: Conv2d) -> str | None:
        return "its padding is less than half its kernel, so the 1x1 expansion would not fit" if min(beyond_middle(conv)) < 0 else None

    def start(self, w: F64) -> Fire:
        n, c, kh, kw = w.shape
        squeeze, rest = self._squeeze(w, np.eye(c))
        kernels = rest.reshape(-1, n, kh, kw).transpose(1, 0, 2, 3)
        point = kernels[:, :, kh // 2, kw // 2]
        return self._split(squeeze, point, kernels, (kernels**2).sum(axis=(1, 2, 3)) - (point**2).sum(axis=1))

    def fit(self, w: F64, response: Response) -> Fire:
        n, c, kh, kw = w.shape
        squeeze, rest = self._squeeze(w, response.covariance(0, (c, kh * kw)))
        s, mixed = len(squeeze), response.mixed(squeeze)
        prior = rest.reshape(s, n, kh * kw).transpose(0, 2, 1).reshape(-1, n)
        middle = np.arange(s) * kh * kw + kh // 2 * kw + kw // 2
        gram1, cross1 = mixed.gram[np.ix_(middle, middle)], mixed.cross[middle]
        point, wide = solve(gram1, cross1, prior[middle]), solve(mixed.gram, mixed.cross, prior)
        losses = _losses(gram1, cross1, point) - _losses(mixed.gram, mixed.cross, wide)
        return self._split(squeeze, point.T, wide.T.reshape(n, s, kh, kw), losses)

    def opened(self, factors: Factors, replay: Replay, conv: Conv2d) -> Factors:
        assert isinstance(factors, Fire)
        if not self.activation:
            return factors
        z = small_conv(conv, conv.x, "squeeze", factors.squeeze[:, :, None, None])
        return replace(factors, opening=np.maximum(0, -lowest(replay, z)))

    def _squeeze(self, w: F64, covariance: F64) -> tuple[F64, F64]:
        n, c = w.shape[:2]
        rank = min(c, max(1, round(self.squeeze_ratio * n)))
        return principal(w.transpose(1, 0, 2, 3).reshape(c, -1), covariance, rank)

    def _split(self, squeeze: F64, point: F64, wide: F64, losses: F64) -> Fire:
        """point (N, S), wide (N, S, kh, kw), losses (N,): the error that a 1x1 kernel adds to each output."""
        n = len(wide)
        order = np.argsort(losses, kind="stable")
        n1 = n - share_of(self.pct_3x3, n)
        # each kind keeps its order, so that as little as possible moves
        small, large = np.sort(order[:n1]), np.sort(order[n1:])
        return Fire(squeeze, point[small], wide[large], np.concatenate([small, large]))


def _losses(gram: F64, cross: F64, w: F64) -> F64:
    """|Y - X w|^2 of each response, up to the same constant."""
    result: F64 = (w * (gram @ w)).sum(axis=0) - 2 * (w * cross).sum(axis=0)
    return result
