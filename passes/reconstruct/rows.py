"""Rows of least-squares problems: patches of a layer's input and its responses, at sampled pixels of every calibration image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from ...ir.op import Const, Op
from ...ir.ops import Conv2d, ConvTranspose2d, Linear, Matmul
from ...ir.ties import Mask
from ..coupling import source, weight
from .moments import F64, Fit, Index, Moments

if TYPE_CHECKING:
    import torch

    from .replay import Replay

#: One in this many calibration images is held out to validate fits.
HELD_OUT = 4

#: Layers that are linear in their weights.
Fitted = Conv2d | ConvTranspose2d | Linear | Matmul
#: The layers among them that have groups and pixels.
Convolution = Conv2d | ConvTranspose2d

#: Most unknowns per response of a layer that is refitted: second moments hold the square of this.
MOST_UNKNOWNS = 16384


def refittable(layer: Op) -> TypeGuard[Fitted]:
    """Whether a layer can be refitted: it is linear in constant weights, and they are not too many."""
    if not isinstance(layer, Fitted) or not isinstance((w := weight(layer)).op, Const):
        return False
    return w.type.size // filters(layer) <= MOST_UNKNOWNS


def filters(layer: Fitted) -> int:
    """How many responses the weights make, each with its own unknowns."""
    return layer.out.shape[channel_axis(layer)]


def groups_of(layer: Fitted) -> int:
    """Groups of a convolution; 1 for a product."""
    return layer.groups if isinstance(layer, Convolution) else 1


def weights_of(layer: Fitted, array: np.ndarray) -> list[F64]:
    """The weights of each group as (k, m): y = x @ w. k counts channels, then taps; a transposed convolution's array is (C, O/groups, kh, kw)."""
    array = np.asarray(array, np.float64)
    if isinstance(layer, Matmul):
        return [array]
    parts = np.split(array, groups_of(layer))
    if isinstance(layer, ConvTranspose2d):
        return [part.transpose(0, 2, 3, 1).reshape(-1, part.shape[1]) for part in parts]
    return [part.reshape(len(part), -1).T for part in parts]


def array_of_weights(layer: Fitted, parts: Sequence[F64], shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `weights_of`; `shape` is that of the array."""
    if isinstance(layer, Matmul):
        return parts[0].reshape(shape)
    if isinstance(layer, ConvTranspose2d):
        _, per_group, *kernel = shape
        return np.concatenate([p.reshape(-1, *kernel, per_group).transpose(0, 3, 1, 2) for p in parts])
    return np.concatenate([p.T for p in parts]).reshape(shape)


def pixels(layer: Fitted) -> int:
    """Responses per image: pixels of a convolution, middle axes of a product."""
    shape = layer.out.shape
    return math.prod(shape[2:]) if isinstance(layer, Convolution) else math.prod(shape[1:-1])


def sample(rng: np.random.Generator, images: int, pixels: int, count: int) -> tuple[Index, Index]:
    """(image, pixel) of `count` distinct pixels of each image, or of all its pixels where it has no more."""
    every = np.tile(np.arange(pixels), (images, 1))
    chosen = every if count >= pixels else np.argsort(rng.random((images, pixels)), axis=1)[:, :count]
    return np.repeat(np.arange(images), chosen.shape[1]), chosen.reshape(-1)


def patches(layer: Fitted, x: torch.Tensor, image: Index, pixel: Index) -> list[np.ndarray]:
    """The layer's patches at the pixels, one array (rows, k) per group."""
    import torch

    n = torch.from_numpy(image)
    if not isinstance(layer, Convolution):
        return [x.reshape(x.shape[0], -1, x.shape[-1])[n, torch.from_numpy(pixel)].numpy()]
    width = layer.out.shape[3]
    (rows, high), (columns, wide) = (
        inputs_at(layer, axis, torch.from_numpy(at), x.shape[2 + axis]) for axis, at in enumerate((pixel // width, pixel % width))
    )
    taken = x[n[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    there = high[:, :, None] & wide[:, None, :]
    taken = taken if there.all() else taken.masked_fill(~there[:, None], 0)
    return [part.reshape(len(n), -1).numpy() for part in taken.chunk(layer.groups, 1)]


def inputs_at(layer: Convolution, axis: int, at: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """For results at `at` (rows,) along H (axis 0) or W (1): where each tap reads, (rows, taps), and whether that is inside.

    conv:       x[at * stride + tap * dilation - padding]             inside x
    transposed: x[(at + padding - tap * dilation) / stride]           inside x, where the division has no remainder
    """
    import torch

    taps = torch.arange(layer.kernel[axis]) * layer.dilation[axis]
    stride, padding = layer.stride[axis], layer.padding[axis if isinstance(layer, ConvTranspose2d) else 2 * axis]
    if isinstance(layer, ConvTranspose2d):
        from_start = at[:, None] + padding - taps
        where, there = from_start.div(stride, rounding_mode="floor"), from_start % stride == 0
    else:
        where = at[:, None] * stride + taps - padding
        there = torch.ones_like(where, dtype=torch.bool)
    return where.clamp(0, size - 1), there & (where >= 0) & (where < size)


def responses(y: torch.Tensor, channel: int, image: Index, pixel: Index) -> np.ndarray:
    """The values (rows, channels) at the pixels; `channel` is the axis of the channels."""
    import torch

    flat = y.movedim(channel, -1).reshape(y.shape[0], -1, y.shape[channel])
    rows: np.ndarray = flat[torch.from_numpy(image), torch.from_numpy(pixel)].numpy()
    return rows


def channel_axis(layer: Op) -> int:
    """Axis of a layer's result that holds its channels."""
    return 1 if isinstance(layer, Conv2d | ConvTranspose2d) else layer.out.type.rank - 1


@dataclass(frozen=True)
class Rows:
    """Patches in the current network and responses in the original one, at the same pixels: one array (rows, k) and one (rows, m) per
    group. other: the current other term of a sum that the response goes into, (rows, m) per group, where it is known.
    held (rows,): rows of the images held out."""

    x: list[np.ndarray]
    y: list[F64]
    held: Mask
    other: list[F64] | None = None


def draw(replay: Replay, reader: Fitted, target: Op, rng: np.random.Generator, per_image: int, residual: bool = True) -> Iterator[Rows]:
    """Rows of a layer's patches in the current network and of `target`'s responses in the original one, chunk by chunk.

    reader: `target` itself, or an unattached layer that replaces it; it may read other unattached ops. `per_image` pixels are drawn
    from each image. residual: where the response goes into a sum, the error of the other term is added to the target.
    """
    groups = groups_of(reader)
    axis, seen = channel_axis(target), 0
    for i in range(replay.chunks):
        x = replay.current(source(reader)[0], i)
        image, pixel = sample(rng, len(x), pixels(reader), per_image)
        y = responses(replay.original(target.out, i), axis, image, pixel).astype(np.float64)
        if residual and (missing := replay.missing(target, i)) is not None:
            y += responses(missing, axis, image, pixel)
        other = None if (value := replay.other(target)) is None else np.split(responses(replay.current(value, i), axis, image, pixel), groups, axis=1)
        # with fewer images than that, single rows are held out
        turn = seen + image if replay.images >= HELD_OUT else np.arange(len(image))
        yield Rows(patches(reader, x, image, pixel), np.split(y, groups, axis=1), turn % HELD_OUT == HELD_OUT - 1, other)
        seen += len(x)


def moments_of(drawn: Iterable[Rows]) -> list[Moments]:
    """Second moments of rows, one for each group."""
    moments: list[Moments] = []
    for rows in drawn:
        add_rows(moments, rows.x, rows.y)
    return moments


def add_rows(moments: list[Moments], x: Sequence[np.ndarray], y: Sequence[F64]) -> None:
    """Add rows of each group; an empty list is first filled with empty moments."""
    if not moments:
        moments += [Moments(a.shape[1], b.shape[1]) for a, b in zip(x, y)]
    for m, a, b in zip(moments, x, y):
        m.add(a, b)


def gather(replay: Replay, reader: Fitted, target: Op, rng: np.random.Generator, per_image: int, residual: bool = True) -> list[Moments]:
    """Second moments of `draw`'s rows, which are not kept."""
    return moments_of(draw(replay, reader, target, rng, per_image, residual))


@dataclass(frozen=True)
class Refit:
    """New weights of a layer in its own layout, its bias (O,), the residual sum of squares of each response (O,), and that of all as a share."""

    w: np.ndarray
    b: np.ndarray
    left: F64
    error: float
    rows: int
    unknowns: int


def refit(layer: Fitted, moments: Sequence[Moments], prior: np.ndarray, kept: Mask | None = None, ridge: float = 1e-4) -> Refit:
    """min |Y - X W - b|^2, with a ridge towards `prior` (the layer's weights, in its layout): He et al., 1707.06168, equation 5.

    kept: the input channels (C,) that the layer may read; the weights of the others are zero.
    """
    fits: list[Fit] = []
    unknowns = 0
    for m, w, columns in zip(moments, weights_of(layer, prior), columns_of(layer, moments, kept), strict=True):
        fit = m.solve(columns, w[columns], ridge)
        whole = np.zeros_like(w)
        whole[columns] = fit.w
        fits.append(Fit(whole, fit.b, fit.left, fit.error))
        unknowns = max(unknowns, len(columns))
    total = sum(m.variance for m in moments)
    left = np.concatenate([f.left for f in fits])
    error = float(left.sum()) / total if total else 0.0
    w = array_of_weights(layer, [f.w for f in fits], prior.shape)
    return Refit(w, np.concatenate([f.b for f in fits]), left, error, moments[0].rows, unknowns)


def columns_of(layer: Fitted, moments: Sequence[Moments], kept: Mask | None) -> list[Index]:
    """For each group, the columns of its patches that belong to kept channels."""
    if kept is None:
        return [np.arange(len(m.x)) for m in moments]
    taps = math.prod(layer.kernel) if isinstance(layer, Convolution) else 1
    return [np.flatnonzero(np.repeat(part, taps)) for part in np.split(kept, len(moments))]
