"""A budget of latency needs no function from the user: `tersor.transform` and the command compile and time for this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import tersor
from tersor.backend import latency as measuring
from tersor.ir import Graph

PIPELINE = "prune-channels{latency=0.6 method=l1 per_layer=uniform reconstruct=false}"


def graph(channels: int = 16) -> Graph:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, channels, 3), nn.ReLU(), nn.Conv2d(channels, channels, 3), nn.ReLU(), nn.Conv2d(channels, 4, 1))
    return tersor.trace(module.eval(), (torch.zeros(1, 3, 24, 24),))


@pytest.fixture
def by_macs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """The graphs that are measured; time is their MACs, so that the machine's load has no say."""
    measured: list[Graph] = []
    monkeypatch.setattr(measuring, "latency", lambda g: (measured.append(g), float(g.macs()))[1])
    return measured


def test_time_is_the_fastest_of_many_runs_of_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []

    def benchmark(model: tersor.CompiledModel, repeat: int, warmup: int) -> SimpleNamespace:
        assert model(np.zeros((1, 3, 24, 24), np.float32)).shape == (1, 4, 20, 20)
        runs.append(repeat)
        return SimpleNamespace(min=0.5, median=0.7)

    monkeypatch.setattr(tersor.CompiledModel, "benchmark", benchmark)
    assert measuring.latency(graph()) == 0.5
    assert runs == [3, 400]


def test_by_default_from_python(by_macs: list[Graph]) -> None:
    small = tersor.transform(graph(), PIPELINE)
    assert len(by_macs) > 3
    assert 0.5 * graph().macs() < small.macs() <= 0.6 * graph().macs()


def test_a_function_that_is_given_is_used(by_macs: list[Graph]) -> None:
    small = tersor.transform(graph(), PIPELINE, latency=lambda g: 1.0 + g.macs() / graph().macs())
    assert not by_macs and small.macs() <= 0.2 * graph().macs()


def test_by_default_from_the_command_line(by_macs: list[Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tersor.cli import main

    monkeypatch.chdir(tmp_path)
    graph().save("big.tersor")
    monkeypatch.setattr(sys, "argv", ["tersor", "opt", "big.tersor", "-p", PIPELINE, "-o", "small.tersor"])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert by_macs and tersor.load("small.tersor").macs() <= 0.6 * graph().macs()
