"""Constant shuffles of vector lanes."""

from __future__ import annotations

from tvm import tirx as t

from .builder import Expr, lanes_of


def transposed(vectors: list[Expr]) -> list[Expr]:
    """B vectors of A lanes (B a power of two) as the same number of vectors that hold the A x B transpose in row-major order."""
    lanes, half = lanes_of(vectors[0]), len(vectors) // 2
    rounds = len(vectors).bit_length() - 1
    for _ in range(rounds):
        result = []
        for i in range(half):
            pair = [vectors[i], vectors[i + half]]
            woven = [x for j in range(lanes) for x in (j, lanes + j)]
            result += [shuffle(pair, woven[:lanes]), shuffle(pair, woven[lanes:])]
        vectors = result
    return vectors


def shuffle(vectors: list[Expr], indices: list[int]) -> Expr:
    """Lanes picked from the concatenation of vectors."""
    return t.Shuffle(vectors, [t.IntImm("int32", i) for i in indices])
