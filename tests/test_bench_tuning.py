"""What tuning gains: how often it agrees with itself, and the report."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tersor
from tersor.bench import tuning
from tersor.bench.tuning_report import tables


def test_tuned_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Sequential(nn.Conv2d(16, 16, 1), nn.ReLU()).eval()
    monkeypatch.setattr(tuning, "traced", lambda name: tersor.trace(module, (torch.zeros(1, 16, 6, 6),)))
    r = tuning.twice("small", 1)
    assert r["regions"] == 1 and r["same"] in (0, 1) and min(r["seconds"]) > 0
    # the first run's choice is the fastest by its own times, but for the 2 % within which the model's favourite wins
    assert r["cost"] == 0 if r["same"] else r["cost"] > -0.03


def test_report() -> None:
    row = {"network": "net", "threads": 2, "median_ms": {"model": 1.1, "tuned": 1.0}, "loss": 0.1, "loss_quartiles": [0.08, 0.12]}
    again = {"network": "net", "threads": 2, "seconds": [100.0, 98.0], "regions": 25, "same": 20, "cost": 0.004}
    machine = {"processor": "P", "date": "today", "commit": "abc"}
    lines = tables({"machine": machine, "rows": [row | {"regions_loss": 0.05, "unknown": ["a", "b"]}], "twice": [again]})
    assert "| net | 2 | 1.100 | 1.000 | 10.0% (8.0% to 12.0%) | 5.0% | 2 |" in lines
    assert lines[-1] == (
        "net tuned twice from nothing, 2 threads: 100 and 98 s. 20 of 25 regions got the same choice both times; by the first run's times, the "
        "second's choices cost 0.4% more."
    )
