"""Tiles of rows: the heights that cost least, found in bounded time."""

from __future__ import annotations

import random

import pytest

from tersor.backend.kernels.cpu.register_tile import FAR, cover, far, runs


def whole_search(n: int, biggest: int, vectors: int) -> list[tuple[int, ...]]:
    """Tiles of 0 to n rows by one search from the first row to the last."""
    cost = [(0.0, 0)]
    result: list[tuple[int, ...]] = [()]
    for k in range(1, n + 1):
        cost.append(min((cost[k - m][0] + max(m * vectors, 8.5) / vectors + 0.35 + 0.4 / vectors, m) for m in range(1, min(biggest, k) + 1)))
        result.append(tuple(sorted((*result[k - cost[k][1]], cost[k][1]), reverse=True)))
    return result


#: Tallest tiles and vectors of targets with 16 and 32 registers.
SHAPES = [(12, 1), (6, 2), (5, 2), (4, 3), (24, 1), (14, 2), (13, 2), (9, 3), (6, 4), (5, 4), (4, 6)]


@pytest.mark.parametrize(("biggest", "vectors"), SHAPES)
def test_tiles_of_near_rows_are_those_of_a_whole_search(biggest: int, vectors: int) -> None:
    numbers = list(range(420))
    random.Random(0).shuffle(numbers)
    expected = whole_search(420, biggest, vectors)
    assert all(cover(n, biggest, vectors) == expected[n] for n in numbers)


@pytest.mark.parametrize(("biggest", "vectors"), [(12, 1), (6, 2), (14, 2)])
def test_far_rows_go_in_equal_tiles(biggest: int, vectors: int) -> None:
    for n in (FAR + 1, 640 * 640, 3072 * 3072 + 5):
        height, count = far(n, biggest, vectors)
        tiles = cover(n, biggest, vectors)
        assert sum(tiles) == n and height == biggest
        assert 0 <= FAR - (n - count * height) < height
        assert tiles.count(height) >= count and len(runs(tiles)) <= 4
    assert far(FAR, biggest, vectors)[1] == 0
