"""Which channel sets of a space stay: LASSO on a reader's response, or a score of each set alone.

Every method gives an order, best first; how many stay is decided elsewhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np

from ...ir.errors import TersorError
from ...ir.op import Const
from ...ir.ops import BatchNorm
from ...ir.ties import Index, Mask
from ..coupling import Coupling, inputs_of, outputs_of, source, weight
from ..reconstruct.holdout import Evidence
from ..reconstruct.moments import F64, Moments
from ..reconstruct.rows import Fitted, weights_of
from .constants import array_of
from .obs import elimination_order
from .spaces import Space
from .strength import strengths
from .swap import exchanged

Method = Literal["lasso", "obs", "dcp", "l1", "bn-gamma", "random", "first-k"]
#: Methods that look at a reader's response.
BY_RESPONSE = ("lasso", "obs")


def by_score(method: Method, coupling: Coupling, space: Space, rng: np.random.Generator) -> Index:
    """The sets of a space in the order of a score that looks at no data; except for random and first-k, sets with filters of zeros come last."""
    sets = space.sets
    match method:
        case "random":
            return rng.permutation(sets)
        case "first-k":
            return sets[np.argsort(_first_channel(coupling, space))]
        case "bn-gamma":
            score = np.where(strengths(coupling, space) > 0, _gammas(coupling, space), 0)
        case _:
            score = strengths(coupling, space)
    return sets[np.argsort(-score, kind="stable")]


def _first_channel(coupling: Coupling, space: Space) -> Index:
    """For each set, the first channel of the first layer that holds it."""
    first = np.full(coupling.count, np.iinfo(np.int64).max)
    axes = [inputs_of(r) for r in space.readers] if space.sampled else [outputs_of(p) for p in space.producers]
    for labels in (coupling.sets(*axis) for axis in reversed(axes) if axis is not None):
        first[labels[::-1]] = np.arange(len(labels))[::-1]
    return first[space.sets]


def _gammas(coupling: Coupling, space: Space) -> F64:
    """|gamma| of the batch norms on the channels (Liu et al., 1708.06519), each norm's relative to their mean."""
    score = np.zeros(coupling.count)
    found = np.zeros(coupling.count, np.bool_)
    for op in coupling.graph.find(BatchNorm):
        assert isinstance(op, BatchNorm)
        labels = coupling.sets(op.gamma, 0)
        if isinstance(op.gamma.op, Const) and len(labels):
            gamma = np.abs(op.gamma.op.array.astype(np.float64))
            np.add.at(score, labels, gamma / (gamma.mean() or 1))
            found[labels] = True
    if not found[space.sets].all():
        raise TersorError(
            f"method=bn-gamma finds no batch norm on the channels of {space.name}; prune before fold-bn, exclude the layer, or use another method"
        )
    return score[space.sets]


def by_response(
    method: Method, scoring_layer: Fitted, evidence: Evidence, sensitivity: F64, labels: Index, sets: Index, lost: Mask, keep: int
) -> Index:
    """The sets in the order of a method that looks at the scoring layer's response, the first `keep` at least; arguments as in `lasso_order`."""
    sensitivity = proportions(sensitivity)
    if method == "lasso":
        return lasso_order(scoring_layer, evidence.all, sensitivity, labels, sets, lost, keep)
    # the ridge that fits the scoring layer when as many sets go, spread evenly
    going = sets[np.linspace(0, len(sets), len(sets) - keep, endpoint=False).astype(np.int64)]
    ridge = evidence.ridge(scoring_layer, array_of(weight(scoring_layer)), ~(lost | np.isin(labels, going)))
    return elimination_order(scoring_layer, evidence.all, sensitivity, labels, sets, lost, ridge)


def settled(
    scoring_layer: Fitted,
    evidence: Evidence,
    sensitivity: F64,
    labels: Index,
    spaces: Sequence[tuple[Space, int]],
    orders: Sequence[Index],
    lost: Mask,
) -> list[Index]:
    """The orders after sets were exchanged (`swap`), unchanged where sets differ in size. spaces: each with how many of its sets stay."""
    if not all(space.even for space, _ in spaces):
        return list(orders)
    pairs = [(order, k) for (_, k), order in zip(spaces, orders)]
    going = np.concatenate([order[k:] for order, k in pairs])
    ridge = evidence.ridge(scoring_layer, array_of(weight(scoring_layer)), ~(lost | np.isin(labels, going)))
    return exchanged(scoring_layer, evidence.all, proportions(sensitivity), labels, pairs, lost, ridge)


def proportions(sensitivity: F64) -> F64:
    """The weight of each response, with mean 1; all equal where no output depends on the scoring layer."""
    return sensitivity / sensitivity.mean() if sensitivity.any() else np.ones_like(sensitivity)


# -- LASSO -------------------------------------------------------------------------------------


def channel_products(scoring_layer: Fitted, moments: Sequence[Moments], weights: Sequence[F64], sensitivity: F64) -> tuple[F64, F64]:
    """Z'DZ (C, C) and Z'DY (C,) of the channels' contributions Z_i = X_i W_i' to a response, centred; summed over groups.

    Both follow from the moments of the patches: Z_i'DZ_j = sum over taps of (X'X * WDW')[i, j]. weights: (k, m) of each group. sensitivity: the
    diagonal of D (O,), how much each output channel matters.
    """
    total = source(scoring_layer)[0].shape[source(scoring_layer)[1]]
    channels = total // len(moments)
    zz, zy = np.zeros((total, total)), np.zeros(total)
    for g, (m, w, d) in enumerate(zip(moments, weights, np.split(sensitivity, len(moments)))):
        taps = len(w) // channels
        mine = slice(g * channels, (g + 1) * channels)
        covariance = m.covariance()
        # by blocks of rows, since the products are as large as the covariance
        step = max(taps, 512 // taps * taps)
        for start in range(0, len(w), step):
            rows = slice(start, min(start + step, len(w)))
            block = covariance[rows] * ((w[rows] * d) @ w.T)
            c = slice(g * channels + rows.start // taps, g * channels + rows.stop // taps)
            zz[c, mine] = block.reshape(-1, taps, channels, taps).sum(axis=(1, 3))
        zy[mine] = (m.cross() * w * d).reshape(channels, -1).sum(axis=1)
    return zz, zy


def lasso_order(scoring_layer: Fitted, moments: Sequence[Moments], sensitivity: F64, labels: Index, sets: Index, lost: Mask, keep: int) -> Index:
    """`sets` in the order in which min 1/2N |Y - sum_i b_i Z_i|^2 + lambda |b|_1 selects them as lambda falls, until `keep` are in.

    Z_i is the contribution of a set's channels to the scoring layer's response, with |W_i| = 1 (He et al., 1707.06168, equation 2). sensitivity (O,):
    weight of the squared error of each channel of the response (only the proportions count).
    labels: the set of each input channel of the scoring layer. lost: channels that are removed already; channels of no set in `sets` stay,
    with weight 1.
    """
    weights = weights_of(scoring_layer, array_of(weight(scoring_layer)))
    zz, zy = channel_products(scoring_layer, moments, weights, sensitivity)
    place = {int(s): i for i, s in enumerate(sets)}
    column = np.array([place.get(int(label), -1) for label in labels])
    fixed = (column < 0) & ~lost
    zy = zy - zz[:, fixed].sum(axis=1)
    member = np.zeros((len(labels), len(sets)))
    member[np.flatnonzero(column >= 0), column[column >= 0]] = 1
    a, b = member.T @ zz @ member, member.T @ zy
    channels = len(labels) // len(moments)
    norm = np.sqrt(member.T @ np.concatenate([(w * w).reshape(channels, -1).sum(axis=1) for w in weights]))
    norm[norm == 0] = 1
    return sets[_path_order(a / np.outer(norm, norm), b / norm, moments[0].rows, keep)]


def _path_order(gram: F64, xy: F64, rows: int, keep: int) -> Index:
    """Columns by their (last) entry into the LASSO path, which is followed until `keep` are in; the others by their correlation."""
    from sklearn.linear_model import lars_path_gram

    gram = gram + np.eye(len(gram)) * (np.trace(gram) / len(gram) * 1e-8)
    active: list[int] = []
    steps = 2 * keep
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # collinear channels are left out, as wanted
            _, _, coefs = lars_path_gram(xy, gram, n_samples=rows, max_iter=steps, method="lasso", alpha_min=0)
        for nonzero in coefs.T != 0:
            active = [i for i in active if nonzero[i]] + [int(i) for i in np.flatnonzero(nonzero) if i not in active]
            if len(active) >= keep:
                break
        if len(active) >= keep or coefs.shape[1] <= steps or steps > 8 * len(gram):
            break
        active, steps = [], 2 * steps
    active = active[:keep]
    left = np.array([i for i in np.argsort(-np.abs(xy), kind="stable") if i not in set(active)], np.int64)
    return np.concatenate([np.array(active, np.int64), left])
