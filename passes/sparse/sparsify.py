"""sparsify: set single weights or blocks of weights to zero; they stay zero."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Const, Op
from ...ir.ops import Masked
from ...ir.ties import Mask
from ..core.base import LayerPass, register_pass
from ..core.context import Context
from ..reconstruct.moments import F64, Moments
from ..reconstruct.replay import Replay
from ..reconstruct.rows import array_of_weights, gather, refittable, weights_of
from .layers import Layer, dense_of, name_of, select
from .pattern import Pattern, largest_of_all
from .repair import compressed, least_squares, normal_of

Repair = Literal["least-squares", "obc"]
#: Responses of a layer per unknown, where its feature maps have them.
ROWS_PER_UNKNOWN = 4


@dataclass(frozen=True)
class SparseLayer:
    """A layer: the current share of zeros, and the share that training will raise it to, if any; or why it stays.

    error: |Y - Y'| / |Y - mean Y| of its response to calibration data where measured, else |W - W'| / |W|.
    """

    layer: str
    shape: tuple[int, ...]
    sparsity: float
    to_come: float = 0.0
    error: float | None = None
    measured: bool = False
    kept: str = ""


@register_pass
@dataclass(frozen=True)
class Sparsify(LayerPass):
    """Set the smallest weights to zero; they stay zero through training.

    conv(x, w, b)  ->  conv(x, sparse.masked(w, |w| large), b)

    sparsity: the share of weights set to zero (Zhu and Gupta, 1710.01878). scope: of each layer, or of all layers by one threshold.
    block: weights go in blocks: "1x4" four neighbours of an output, "16x1" the weights of sixteen outputs for one input. nm: "2:4", of every four
    weights of an output two stay; instead of sparsity.
    repair: of the weights that stay. none; least-squares: each output is refitted on calibration data to its original response, on its current
    inputs; obc: the weights are also chosen so that the refitted error is least (Optimal Brain Compressor, 2208.11580).
    gradual: the zeros come during a later `finetune`, by the cubic schedule s_t = s - (s - s_0) (1 - (t - t_0) / (n dt))^3, from the share `begin`
    to `end` of its steps, with new masks by magnitude every `every` steps.
    depthwise: depthwise convolutions too, which have few weights. exclude: patterns of module paths that stay. layers: another sparsity for
    some layers. samples: images used. positions: responses per image at least.
    """

    name = "sparsify"
    keeps = "lossy"

    sparsity: float | None = None
    scope: Literal["layer", "global"] = "layer"
    block: str | None = None
    nm: str | None = None
    repair: Repair | None = None
    gradual: bool = False
    begin: float = 0.0
    end: float = 0.75
    every: int = 100
    depthwise: bool = False
    exclude: tuple[str, ...] = ()
    samples: int = 512
    positions: int = 10

    def run(self, graph: Graph, ctx: Context) -> None:
        pattern = self._check()
        chosen, kept = select(graph, self.exclude, self.depthwise)
        place: dict[Op, int] = {op: i for i, op in enumerate(graph.ops)}
        masks = self._masks(chosen, pattern) if not self.gradual else {}
        if self.gradual:
            rows = {layer: self._begin(graph, layer, pattern) for layer in chosen}
        elif self.repair is None:
            rows = {layer: self._mask(graph, layer, masks[layer], None, None) for layer in chosen}
        else:
            rows = self._repaired(graph, ctx, chosen, masks, pattern)
        rows |= {layer: SparseLayer(name_of(layer), layer.w.shape, zeros(layer), kept=why) for layer, why in kept.items()}
        ctx.layers.extend(row for _, row in sorted(rows.items(), key=lambda item: place[item[0]]))
        graph.remove_dead()
        ctx.record(Counter({"layers": len(chosen)}))

    # -- options -------------------------------------------------------------------------------

    def _check(self) -> Pattern:
        pattern = Pattern.parse(self.block, self.nm)
        if self.nm is not None and (self.sparsity is not None or self.gradual or self.scope == "global" or self.repair == "obc"):
            raise TersorError(f'nm="{self.nm}" alone says which weights go: it takes no sparsity, gradual, scope=global or repair=obc')
        if self.nm is None and self.sparsity is None:
            raise TersorError('expected sparsity=, the share of weights that become zero, or nm=: sparsify{sparsity=0.9} or sparsify{nm="2:4"}')
        own = [options["sparsity"] for options in self.layers.values() if "sparsity" in options]
        for value in [self.sparsity, *own]:
            if value is not None and not 0 <= value < 1:
                raise TersorError(f"sparsity is the share of weights that become zero, from 0 to below 1; got {value:g}")
        if any(set(options) - {"sparsity"} for options in self.layers.values()):
            raise TersorError("layers of sparsify may differ in sparsity alone")
        if own and self.scope == "global":
            raise TersorError("scope=global has one threshold for all layers: layers cannot have a sparsity of their own; exclude= leaves some out")
        if self.repair == "obc" and (pattern.block[0] > 1 or self.scope == "global"):
            raise TersorError('repair=obc chooses the weights of each output of a layer: it takes scope=layer and no block, or one such as "1x4"')
        if self.gradual and self.repair is not None:
            raise TersorError(f"gradual=true is repaired by the training it happens in: leave out repair={self.repair}")
        if not 0 <= self.begin < self.end <= 1:
            raise TersorError(f"begin and end are shares of the steps, 0 <= begin < end <= 1; got begin={self.begin:g} end={self.end:g}")
        for option in ("every", "samples", "positions"):
            if getattr(self, option) < 1:
                raise TersorError(f"{option} must be at least 1, got {getattr(self, option)}")
        return pattern

    def _sparsity(self, layer: Op) -> float:
        value = self.at(layer).sparsity
        return 0.0 if value is None else value

    # -- masks ---------------------------------------------------------------------------------

    def _masks(self, layers: Sequence[Layer], pattern: Pattern) -> dict[Layer, Mask]:
        """Masks by magnitude."""
        matrices = [matrix(layer) for layer in layers]
        if self.scope == "global":
            assert self.sparsity is not None
            size = math.prod(pattern.block)
            found = largest_of_all([pattern.scores(w) for w in matrices], [size] * len(matrices), self.sparsity)
            return {layer: pattern.spread(mask, w.shape) for layer, mask, w in zip(layers, found, matrices)}
        masks = {}
        for layer, w in zip(layers, matrices):
            try:
                masks[layer] = pattern.kept(w, self._sparsity(layer))
            except TersorError as error:
                raise TersorError(f"{name_of(layer)}: {error}") from None
        return masks

    def _mask(self, graph: Graph, layer: Layer, mask: Mask, new: tuple[np.ndarray, np.ndarray] | None, error: float | None) -> SparseLayer:
        """Replace a layer's weight by a masked one. mask: of the matrix. new: refitted weights and bias, if any."""
        old = dense_of(layer.w)
        assert old is not None
        w, bias = (old, None) if new is None else new
        shaped = mask.reshape(old.shape)
        masked = _masked(layer, np.where(shaped, w, 0).astype(old.dtype), shaped)
        changes = {"w": masked} if bias is None else {"w": masked, "b": _named(bias.astype(old.dtype), layer, layer.b, "bias")}
        row = SparseLayer(name_of(layer), old.shape, 1 - float(shaped.mean()), error=error, measured=error is not None)
        if error is None:
            norm = float(np.linalg.norm(old.astype(np.float64)))
            lost = float(np.linalg.norm(np.where(shaped, 0, old).astype(np.float64)))
            row = SparseLayer(name_of(layer), old.shape, 1 - float(shaped.mean()), error=lost / norm if norm else 0.0)
        graph.replace(layer, layer.rebuilt(**changes))
        return row

    def _begin(self, graph: Graph, layer: Layer, pattern: Pattern) -> SparseLayer:
        """Give a layer a mask that training will make sparser."""
        old, target = dense_of(layer.w), self._sparsity(layer)
        assert old is not None
        had = layer.w.op
        mask = had.mask.op.array if isinstance(had, Masked) and isinstance(had.mask.op, Const) else np.ones(old.shape, np.bool_)
        schedule = {"begin": self.begin, "end": self.end, "every": self.every, "whole": self.scope == "global", "block": pattern.block}
        graph.replace(layer, layer.rebuilt(w=_masked(layer, old, mask, sparsity=target, **schedule)))
        return SparseLayer(name_of(layer), old.shape, 1 - float(mask.mean()), to_come=target)

    # -- repair --------------------------------------------------------------------------------

    def _repaired(self, graph: Graph, ctx: Context, chosen: Sequence[Layer], masks: dict[Layer, Mask], pattern: Pattern) -> dict[Layer, SparseLayer]:
        """Refit layer after layer: responses of the original network, inputs of the current one."""
        calibration, wanted, rng = ctx.need_calibration(self), set(chosen), ctx.rng
        found: dict[Layer, tuple[Mask, tuple[np.ndarray, np.ndarray] | None, float | None]] = {}
        replay = Replay(graph, calibration, ctx, self.name, self.samples)
        for layer in replay:
            if not isinstance(layer, Layer) or layer not in wanted:
                continue
            old = dense_of(layer.w)
            assert old is not None
            plain = layer.rebuilt(w=Const(old))
            if not refittable(plain):
                found[layer] = masks[layer], None, None
            else:
                per_image = max(self.positions, math.ceil(ROWS_PER_UNKNOWN * old[0].size / replay.images))
                moments = gather(replay, layer, layer, rng, per_image)
                found[layer] = self._refit(layer, old, moments, masks[layer], pattern)
            mask, new, _ = found[layer]
            w, b = (old * mask.reshape(old.shape), None) if new is None else new
            changes: dict[str, Any] = {"w": Const(w.astype(old.dtype))} | ({} if b is None else {"b": Const(b.astype(old.dtype))})
            replay.replace_layer(layer, layer.rebuilt(**changes))
        return {layer: self._mask(graph, layer, *found[layer]) for layer in chosen}

    def _refit(
        self, layer: Layer, old: np.ndarray, moments: Sequence[Moments], mask: Mask, pattern: Pattern
    ) -> tuple[Mask, tuple[np.ndarray, np.ndarray], float]:
        parts = weights_of(layer, old)
        normals = [normal_of(m, w) for m, w in zip(moments, parts)]
        if self.repair == "obc":
            kept = compressed(normals, self._sparsity(layer), pattern.block[1])
        else:
            kept = [part.T for part in np.split(mask, len(parts))]
        new: list[F64] = [least_squares(normal, k) for normal, k in zip(normals, kept)]
        bias = np.concatenate([(m.y - m.x @ w) / max(m.rows, 1) for m, w in zip(moments, new)])
        left = sum(float(m.error_of(w, b).sum()) for m, w, b in zip(moments, new, np.split(bias, len(moments))))
        total = sum(m.variance for m in moments)
        w = array_of_weights(layer, new, old.shape)
        return np.concatenate([k.T for k in kept]), (w, bias), math.sqrt(left / total) if total else 0.0


def matrix(layer: Layer) -> F64:
    """The weights as (outputs, inputs times taps)."""
    array = dense_of(layer.w)
    assert array is not None
    return array.reshape(len(array), -1).astype(np.float64)


def zeros(layer: Layer) -> float:
    """The share of a layer's weights that is zero."""
    array = dense_of(layer.w)
    return 0.0 if array is None else float((array == 0).mean())


def _masked(layer: Layer, w: np.ndarray, mask: np.ndarray, **schedule: object) -> Masked:
    source = layer.w.op.w if isinstance(layer.w.op, Masked) else layer.w
    weight = _named(w, layer, source, "weight")
    keep = Const(np.ascontiguousarray(mask), loc=layer.loc)
    keep.out.name = f"{weight.out.name}.mask"
    return Masked(weight, keep, **schedule, loc=layer.loc)


def _named(array: np.ndarray, layer: Layer, like: object, name: str) -> Const:
    """A constant with the name of the one it replaces, since training and its checkpoints use names."""
    const = Const(np.ascontiguousarray(array), loc=layer.loc)
    const.out.name = getattr(like, "name", "") or f"{name_of(layer)}.{name}"
    return const
