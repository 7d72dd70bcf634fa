"""Sparsity patterns: which weights of a layer stay, chosen singly, in blocks, or N of every M."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ...ir.errors import TersorError
from ...ir.ties import Mask
from ..reconstruct.moments import F64


@dataclass(frozen=True)
class Pattern:
    """block: weights stay or go in blocks (rows, columns) of the matrix (outputs, inputs times taps). nm: (N, M), N of every M in a row stay."""

    block: tuple[int, int] = (1, 1)
    nm: tuple[int, int] | None = None

    @classmethod
    def parse(cls, block: str | None, nm: str | None) -> Pattern:
        """From the options `block="1x4"` and `nm="2:4"`."""
        if block is not None and nm is not None:
            raise TersorError(f'expected block= or nm=, got block="{block}" and nm="{nm}"')
        size = (1, 1)
        if block is not None:
            match = re.fullmatch(r"(\d+)x(\d+)", block)
            size = (int(match[1]), int(match[2])) if match else (0, 0)
            if min(size) != 1 or size == (1, 1):
                raise TersorError(f'block is "1xN" (N weights of an output) or "Nx1" (N outputs of an input), N of 2 and more; got {block!r}')
        if nm is None:
            return cls(size)
        match = re.fullmatch(r"(\d+):(\d+)", nm)
        if not match or not 0 < int(match[1]) < int(match[2]):
            raise TersorError(f'nm is "N:M", of every M weights N stay, 0 < N < M: "2:4"; got {nm!r}')
        return cls(size, (int(match[1]), int(match[2])))

    def scores(self, w: F64) -> F64:
        """The mean |w| of each block of a matrix; the last blocks of rows and columns may be short."""
        rows, columns = self.block
        high, wide = -(-w.shape[0] // rows), -(-w.shape[1] // columns)
        padded = np.zeros((high * rows, wide * columns))
        counts = np.zeros_like(padded)
        padded[: w.shape[0], : w.shape[1]] = np.abs(w)
        counts[: w.shape[0], : w.shape[1]] = 1
        total, count = (a.reshape(high, rows, wide, columns).sum(axis=(1, 3)) for a in (padded, counts))
        scores: F64 = total / count
        return scores

    def spread(self, blocks: Mask, shape: tuple[int, ...]) -> Mask:
        """A mask of blocks as a mask of weights."""
        rows, columns = self.block
        return np.repeat(np.repeat(blocks, rows, axis=0), columns, axis=1)[: shape[0], : shape[1]]

    def kept(self, w: F64, sparsity: float) -> Mask:
        """Which weights of a matrix stay: by magnitude, so that the share `sparsity` of them goes; with N:M the pattern gives the share."""
        if self.nm is not None:
            return self._of_every(w)
        scores = self.scores(w)
        return self.spread(largest(scores, round((1 - sparsity) * scores.size)), w.shape)

    def _of_every(self, w: F64) -> Mask:
        assert self.nm is not None
        n, m = self.nm
        if w.shape[1] % m:
            raise TersorError(f"nm={n}:{m} needs weights of each output that {m} divides, and there are {w.shape[1]}: exclude the layer")
        groups = np.abs(w).reshape(len(w), -1, m)
        rank = np.argsort(np.argsort(-groups, axis=2, kind="stable"), axis=2, kind="stable")
        return (rank < n).reshape(w.shape)


def largest(scores: F64, count: int) -> Mask:
    """The `count` largest scores, at least one; of equal ones the first."""
    mask = np.zeros(scores.size, np.bool_)
    mask[np.argsort(-scores.reshape(-1), kind="stable")[: max(1, count)]] = True
    return mask.reshape(scores.shape)


def largest_of_all(scores: list[F64], sizes: list[int], sparsity: float) -> list[Mask]:
    """Masks by one threshold for several layers, so that the share `sparsity` of all their weights goes; each layer keeps one block at least.

    sizes: weights that one score stands for.
    """
    flat = np.concatenate([s.reshape(-1) for s in scores])
    weight = np.concatenate([np.full(s.size, size) for s, size in zip(scores, sizes)])
    order = np.argsort(-flat, kind="stable")
    enough = np.searchsorted(np.cumsum(weight[order]), (1 - sparsity) * weight.sum() * (1 - 1e-12), side="left") + 1
    chosen = np.zeros(flat.size, np.bool_)
    chosen[order[:enough]] = True
    masks = []
    for part, s in zip(np.split(chosen, np.cumsum([s.size for s in scores])[:-1]), scores):
        masks.append(part.reshape(s.shape) if part.any() else largest(s, 1))
    return masks
