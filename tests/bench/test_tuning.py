"""What tuning gains: how often it agrees with itself, and the report."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tersor
from tersor.backend.target import resolve
from tersor.backend.tuned.database import Database, Entry, Timing
from tersor.backend.tuning.report import Comparison, Tuning
from tersor.bench import tuning
from tersor.bench.tuning_report import tables


def test_tuned_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second run chooses what took the first 3 ms instead of 2, twice in the network, and agrees on a region of 1 ms."""
    graph = tersor.trace(nn.Conv2d(16, 16, 1).eval(), (torch.zeros(1, 16, 6, 6),))
    a, b = Timing("gemm", {"chunk": 12}, 2.0, 30, 0.0), Timing("direct", {"chunk": 6}, 3.0, 30, 0.0)
    same = Timing("gemm", {"chunk": 4}, 1.0, 30, 0.0)

    def tune(graph: tersor.Graph, threads: int, seed: int) -> Tuning:
        database = Database()
        first, second = (a, b) if seed == 0 else (b, a)
        for key, best in (("twice", (first, second)), ("once", (same,))):
            database.add(resolve("cpu"), threads, key, Entry(best[0].template, best[0].params, {}, best))
        rows = tuple(Comparison(key, count, 10, 2, "", "", None, None) for key, count in (("twice", 2), ("once", 1)))
        return Tuning(rows, (), database, "cpu", threads, 10.0 + seed, 2, 0)

    monkeypatch.setattr(tuning, "traced", lambda name: graph)
    monkeypatch.setattr(tersor, "tune", tune)
    r = tuning.twice("small", 1)
    assert r == {"network": "small", "threads": 1, "seconds": [10.0, 11.0], "regions": 2, "same": 1, "cost": pytest.approx(7 / 5 - 1)}


def test_report() -> None:
    row = {"network": "net", "threads": 2, "median_ms": {"model": 1.1, "tuned": 1.0}, "loss": 0.1, "loss_quartiles": [0.08, 0.12]}
    again = {"network": "net", "threads": 2, "seconds": [100.0, 98.0], "regions": 25, "same": 20, "cost": 0.004}
    machine = {"processor": "P", "date": "today", "commit": "abc"}
    lines = tables({"machine": machine, "rows": [row | {"regions_loss": 0.05, "unknown": ["a", "b"]}], "twice": [again]})
    assert "| net | 2 | 1.100 | 1.000 | 10.0% (8.0% to 12.0%) | 5.0% | 2 |" in lines
    assert lines[-1] == (
        "net tuned twice from nothing, 2 threads: 100 and 98 s. 20 of 25 fusions got the same choice both times; by the first run's times, the "
        "second's choices cost 0.4% more."
    )
