"""`tersor.evaluate` and `tersor eval` against counts made by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import tersor
from tersor.cli import app
from tersor.ir.graph import Graph

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((37, 3, 4, 4)).astype(np.float32)
LABELS = RNG.integers(0, 8, 37)


class Classes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(48, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.flatten(1))


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return Classes().eval()


@pytest.fixture(scope="module")
def graph(module: nn.Module) -> Graph:
    return tersor.trace(module, (torch.from_numpy(IMAGES[:2]),))


def other_of(graph: Graph) -> Graph:
    torch.manual_seed(1)
    return tersor.trace(Classes().eval(), (torch.from_numpy(IMAGES[:2]),))


def test_counts_are_those_of_torch(graph: Graph, module: nn.Module) -> None:
    logits = module(torch.from_numpy(IMAGES)).detach()
    found = tersor.evaluate(graph, (IMAGES, LABELS), other := other_of(graph))
    top5 = logits.topk(5).indices.numpy()
    assert found.images == 37
    assert found.top1 == sum(logits.argmax(1).numpy() == LABELS) / 37
    assert found.top5 == sum(label in row for label, row in zip(LABELS, top5)) / 37
    theirs = other(torch.from_numpy(IMAGES))
    assert found.agreement == float((theirs.argmax(1) == logits.argmax(1)).sum()) / 37
    noise = (logits.double() - theirs.double()).square().sum()
    assert found.sqnr == pytest.approx(float(10 * torch.log10(theirs.double().square().sum() / noise)), abs=1e-4)


def test_a_compiled_model_fills_up_its_batch(graph: Graph) -> None:
    exe = tersor.compile(graph, batch=4)
    found = tersor.evaluate(exe, (IMAGES, LABELS), graph)
    assert found.agreement == 1 and found.top1 == tersor.evaluate(graph, (IMAGES, LABELS)).top1
    assert found.sqnr is not None and found.sqnr > 100


def test_equal_outputs_count_as_argmax_has_it() -> None:
    flat = tersor.trace(nn.Sequential(nn.Flatten(), nn.Linear(48, 8, bias=False)).eval().requires_grad_(False), (torch.zeros(2, 3, 4, 4),))
    zeros = np.zeros((16, 3, 4, 4), np.float32)
    found = tersor.evaluate(flat, (zeros, np.arange(16) % 8))
    assert found.top1 == 1 / 8 and found.top5 == 5 / 8


def test_mistakes_are_said(graph: Graph) -> None:
    with pytest.raises(tersor.TersorError, match="nothing to measure by"):
        tersor.evaluate(graph, IMAGES)
    with pytest.raises(tersor.TersorError, match="classes 0 to 7"):
        tersor.evaluate(graph, (IMAGES, LABELS + 1))
    with pytest.raises(tersor.TersorError, match="a label for each image"):
        tersor.evaluate(graph, (IMAGES, LABELS[:-1]))
    with pytest.raises(tersor.TersorError, match="logits"):
        tersor.evaluate(tersor.trace(nn.ReLU(), (torch.zeros(2, 3, 4, 4),)), IMAGES, graph)


def test_the_command_reads_npz_and_folders(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    graph.save("m.tersor")
    np.savez("data.npz", x=IMAGES, labels=LABELS)
    runner = CliRunner()
    got = json.loads(runner.invoke(app, ["eval", "m.tersor", "data.npz", "--against", "m.tersor", "--json"]).stdout)
    assert got == {"images": 37, "top1": tersor.evaluate(graph, (IMAGES, LABELS)).top1, "top5": got["top5"], "agreement": 1.0, "sqnr": "inf"}
    assert math.isclose(got["top5"], tersor.evaluate(graph, (IMAGES, LABELS)).top5 or 0)
    assert runner.invoke(app, ["eval", "m.tersor", "data.npz", "--limit", "9"]).stdout.startswith("9 images, top-1 ")
    pixels = RNG.integers(0, 256, (6, 4, 4, 3), np.uint8)
    for i, p in enumerate(pixels):
        Path(f"photos/{i % 2}").mkdir(parents=True, exist_ok=True)
        image.fromarray(p).save(f"photos/{i % 2}/{i}.png")
    x = ((pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255) - 0.5) / 0.25
    expected = tersor.evaluate(graph, (x, np.arange(6) % 2))
    got = json.loads(runner.invoke(app, ["eval", "m.tersor", "photos", "--mean", "0.5", "--std", "0.25", "--json"]).stdout)
    assert (got["images"], got["top1"], got["top5"]) == (6, expected.top1, expected.top5)
    # the images of one class alone have no labels
    failed = runner.invoke(app, ["eval", "m.tersor", "photos/0", "--mean", "0.5", "--std", "0.25"])
    assert failed.exit_code == 1 and "nothing to measure by" in str(failed.exception)
