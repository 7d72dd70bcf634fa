"""The error of a network's outputs when a space of channels shrinks: the measure by which layers are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...ir.op import Op
from ...ir.ties import Index
from ..core.context import Batch, Context
from ..coupling import Coupling, source, weight
from ..reconstruct.holdout import Evidence
from ..reconstruct.moments import F64
from ..reconstruct.replay import Replay
from ..reconstruct.rows import Fitted, Refit, draw, refit, refittable
from .constants import array_of
from .layerwise import Pruning, Settings, changed_layer, shortfall, without
from .select import BY_RESPONSE, by_response, by_score
from .spaces import Space

if TYPE_CHECKING:
    import torch

#: Shares at which the network is run with a layer's refit, and the fewest images for that.
PROBED = (0.25, 0.5)
PROBE_IMAGES = 64
#: An error that counts as zero.
TINY = 1e-12
#: Outputs of a network, by chunk of the calibration images.
Outputs = dict[int, list["torch.Tensor"]]


def sensitivities(
    coupling: Coupling,
    spaces: Sequence[Space],
    shares: Sequence[float],
    settings: Settings,
    ctx: Context,
    calibration: Sequence[Batch],
    sensitivity: Mapping[Op, F64],
) -> list[np.ndarray]:
    """For each space, how much the squared error of the outputs grows when shares of it stay and its readers are refitted, all else unchanged.

    The result is the geometric mean of two estimates. `curvature` takes errors as small and independent from pixel to pixel. The errors of a
    refit are neither, so it is too small (most of all before a global pool). `effect` measures the refit's own error, at two shares. It is too
    large, since later layers can correct errors that neighbouring pixels share. `effect` needs a run of the network: for a layer that
    reads several spaces it is run for the first, and its ratio to `curvature` is used for all.

    A space's sets are removed in the order of its scoring layer; for LASSO in the order of elimination, where sets are exchanged.
    """
    errors = [np.zeros(len(shares)) for _ in spaces]
    orders: dict[int, Index] = {}
    before: Outputs = {}
    replay = Replay(coupling.graph, calibration, ctx, f"{settings.name}: sensitivity", settings.samples)
    walk = Pruning(coupling, spaces, np.array([len(s.sets) for s in spaces]), settings, ctx, sensitivity)
    later = settings.repaired_later / len(sensitivity) if settings.reconstruct else 0.0
    for done, layer in enumerate(replay, 1):
        mine = [(i, s) for i, s in enumerate(spaces) if s.scoring_layer is layer or (i in orders and layer in s.readers)]
        if not mine:
            continue
        repaired = math.exp(-later * (len(sensitivity) - done))
        if not refittable(layer):
            for i, space in mine:
                if i not in orders:
                    orders[i] = by_score("l1" if settings.method in BY_RESPONSE else settings.method, coupling, space, walk.rng)
                labels = coupling.sets(*source(layer))
                for j, share in enumerate(shares):
                    lost = np.isin(labels, orders[i][space.keep(share) if share else 0 :])
                    errors[i][j] += repaired * float(shortfall(replay, layer, without(layer, array_of(weight(layer)), lost))[1] @ sensitivity[layer])
            continue
        evidence = Evidence.of(draw(replay, layer, layer, walk.rng, settings.per_image(layer, replay.images)))
        w = array_of(weight(layer))
        labels = coupling.sets(*source(layer))
        factor: F64 | None = None
        for i, space in mine:
            if i not in orders and settings.method in BY_RESPONSE:
                # LASSO's selection is exchanged for the planned size only: elimination estimates its result at every size
                none, method = np.zeros(len(labels), np.bool_), "obs" if space.even else settings.method
                orders[i] = by_response(method, layer, evidence, sensitivity[layer], labels, space.sets, none, space.keep(shares[-1]))
            elif i not in orders:
                orders[i] = by_score(settings.method, coupling, space, walk.rng)
            counts = [space.keep(share) if share else 0 for share in (*shares, *PROBED)]
            kept = {count: ~np.isin(labels, orders[i][count:]) for count in dict.fromkeys(counts)}
            ridge = evidence.ridge(layer, w, kept[counts[-1]])
            errs = {count: evidence.expected(layer, w, mask, ridge) @ sensitivity[layer] for count, mask in kept.items()}
            small = np.array([errs[count] for count in counts])
            if factor is None:
                probes = [refit(layer, evidence.all, w, kept[count], ridge) for count in counts[len(shares) :]]
                real = np.array([effect(replay, layer, fit, before) for fit in probes])
                # the geometric mean of the estimate that is too small and the one that is too large
                factor = np.sqrt(np.exp(np.interp(shares, PROBED, np.log((real + TINY) / (small[len(shares) :] + TINY)))))
            errors[i] += repaired * factor * small[: len(shares)]
    return errors


def effect(replay: Replay, layer: Fitted, fit: Refit, before: Outputs) -> float:
    """How much the squared error of the outputs grows, in the units of `curvature`, if a layer had other weights; over some images.

    before: outputs of the original network, by chunk, kept between calls.
    """
    changed = changed_layer(layer, fit.w, fit.b)
    total, images = 0.0, 0
    for i in range(replay.chunks):
        y = replay.original(layer.out, i)
        if i not in before:
            before[i] = replay.outputs_if(layer, y, i)
        for was, now in zip(before[i], replay.outputs_if(layer, replay.current(changed.out, i), i)):
            if was.is_floating_point():
                total += float(((now - was) / (was.std() + TINY)).square().sum())
        images += len(y)
        if images >= PROBE_IMAGES:
            break
    return total / images
