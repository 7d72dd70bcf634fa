"""Layered graph drawing, from top to bottom (Sugiyama, Tagawa and Toda, 1981)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx

#: Pixels of a node and between nodes.
WIDTH, HEIGHT, GAP, STEP = 150, 36, 24, 78
#: Sweeps that order the layers, and sweeps that move nodes to their neighbours.
SWEEPS = 6


@dataclass(frozen=True)
class Layout:
    """The centre of every node, the points of every edge (source, target, key), and the size of the picture."""

    places: dict[Any, tuple[float, float]]
    routes: dict[tuple[Any, Any, int], list[tuple[float, float]]]
    width: float
    height: float


def layered(graph: Any) -> Layout:
    """Lay out an acyclic `networkx.MultiDiGraph`.

    A node's layer is its distance from the inputs; an edge over several layers runs through a point in each, which is ordered like a node.
    """
    level = {node: i for i, generation in enumerate(networkx.topological_generations(graph)) for node in generation}
    thin = networkx.DiGraph()
    thin.add_nodes_from(level)
    chains: dict[tuple[Any, Any, int], list[Any]] = {}
    for a, b, key in graph.edges(keys=True):
        points = [("via", a, b, key, i) for i in range(level[a] + 1, level[b])]
        level |= {point: point[-1] for point in points}
        chains[a, b, key] = [a, *points, b]
        networkx.add_path(thin, chains[a, b, key])
    rows: list[list[Any]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for node, i in level.items():
        rows[i].append(node)
    _order(thin, rows)
    x = _columns(thin, rows)
    left = min(x.values(), default=0.0)
    places = {node: (x[node] - left + WIDTH / 2 + GAP, float(i * STEP + HEIGHT)) for i, row in enumerate(rows) for node in row}
    width = max((px for px, _ in places.values()), default=0.0) + WIDTH / 2 + GAP
    routes = {edge: [places[n] for n in chain] for edge, chain in chains.items()}
    return Layout({n: places[n] for n in graph.nodes}, routes, width, len(rows) * STEP + GAP)


def _order(thin: Any, rows: list[list[Any]]) -> None:
    """Order each row by the mean position of its neighbours in the row above, then below, in several sweeps."""
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        neighbours = thin.predecessors if down else thin.successors
        for i in range(1, len(rows)) if down else range(len(rows) - 2, -1, -1):
            beside = {n: j for j, n in enumerate(rows[i - 1 if down else i + 1])}
            own = {n: j for j, n in enumerate(rows[i])}
            rows[i].sort(key=lambda n: _mean([beside[m] for m in neighbours(n)], own[n]))


def _columns(thin: Any, rows: Sequence[Sequence[Any]]) -> dict[Any, float]:
    """x of every node: near its neighbours, in the row's order, without overlap."""
    x = {n: j * (WIDTH + GAP) - (len(row) - 1) * (WIDTH + GAP) / 2 for row in rows for j, n in enumerate(row)}
    for sweep in range(SWEEPS):
        neighbours = thin.predecessors if sweep % 2 == 0 else thin.successors
        for row in rows if sweep % 2 == 0 else reversed(rows):
            _apart(row, {n: _mean([x[m] for m in neighbours(n)], x[n]) for n in row}, x)
    return x


def _apart(row: Sequence[Any], wanted: Mapping[Any, float], x: dict[Any, float]) -> None:
    """Place a row near the wanted positions without overlap: the mean of pushing nodes from the left and from the right."""
    right: list[float] = []
    for j, n in enumerate(row):
        right.append(wanted[n] if j == 0 else max(wanted[n], right[-1] + _distance(row[j - 1], n)))
    left = [0.0] * len(row)
    for j in range(len(row) - 1, -1, -1):
        left[j] = wanted[row[j]] if j == len(row) - 1 else min(wanted[row[j]], left[j + 1] - _distance(row[j], row[j + 1]))
    for n, a, b in zip(row, left, right):
        x[n] = (a + b) / 2


def _distance(a: Any, b: Any) -> float:
    """Least distance between the centres of two neighbours; points of edges need less room than nodes."""
    return sum(GAP / 2 if isinstance(n, tuple) else (WIDTH + GAP) / 2 for n in (a, b))


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default
