"""Lowering stage by stage: each stage's graph is printed, parsed in a fresh process, and continued there to the same bits."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_models import TwoHeads, assert_right, flat, inputs_of, python, traced

from tersor import TersorError
from tersor.backend.compile import build
from tersor.backend.pipelines import CPU_STAGES, lower, resume
from tersor.backend.target import resolve
from tersor.ir.evaluate import evaluate
from tersor.ir.graph import Graph
from tersor.ir.save import load, save

RESUME = """
import json, sys
from pathlib import Path
import numpy as np
from tersor.backend.compile import build
from tersor.backend.pipelines import resume
from tersor.backend.target import resolve
from tersor.ir.save import load

folder, threads = Path(sys.argv[1]), int(sys.argv[2])
target = resolve("cpu")
said = {}
for stage in sys.argv[3:]:
    graph = load(folder / f"{stage}.mlir", folder / f"{stage}.safetensors")
    said[stage] = str(graph)
    exe = build([(1, resume(graph, stage, target, threads))], target, threads)
    result = exe(np.load(folder / "x.npy"))
    np.savez(folder / f"{stage}.npz", result["features"], result["heads"][0], result["heads"][1][0])
print(json.dumps(said))
"""


@functools.cache
def stages(threads: int = 1) -> dict[str, Graph]:
    """The graph after each stage; cloned, since later stages write on it."""
    seen: dict[str, Graph] = {}
    lower(traced(TwoHeads), resolve("cpu"), threads, lambda stage, graph: seen.update({stage: graph.clone()}))
    return seen


STAGE_NAMES = (
    "prepare, legalize, fuse-epilogues, assign-layouts, select-kernels, alias-concats, fuse-gathers, fuse-chains, partition-rows, plan-memory"
)


def test_stages_come_in_order_and_leave_the_input_alone() -> None:
    before = str(traced(TwoHeads))
    assert list(stages()) == STAGE_NAMES.split(", ") == list(CPU_STAGES)
    assert str(traced(TwoHeads)) == before


@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_every_stage_resumes_in_a_fresh_process_to_the_same_bits(tmp_path: Path, threads: int) -> None:
    (x,) = inputs_of(TwoHeads)
    target = resolve("cpu")
    result = build([(1, lower(traced(TwoHeads), target, threads))], target, threads)(x)
    assert_right(result, TwoHeads, [x])
    np.save(tmp_path / "x.npy", x)
    for stage, graph in stages(threads).items():
        save(graph, tmp_path / f"{stage}.mlir", tmp_path / f"{stage}.safetensors")
    said = json.loads(python(RESUME, tmp_path, str(threads), *CPU_STAGES))
    for stage, graph in stages(threads).items():
        assert said[stage] == str(graph)
        with np.load(tmp_path / f"{stage}.npz") as resumed:
            for k, y in zip(resumed, flat(result), strict=True):
                np.testing.assert_array_equal(resumed[k], y, err_msg=stage)


@pytest.mark.parametrize("stage", CPU_STAGES)
def test_every_stage_means_the_same(stage: str) -> None:
    """In float64 the interpreter computes the same on the graph of each stage: fusing, blocking and planning are exact."""
    inputs = [torch.from_numpy(x).double() for x in inputs_of(TwoHeads)]
    before = evaluate(stages()["prepare"], inputs, dtype=torch.float64)
    for a, b in zip(evaluate(stages()[stage], inputs, dtype=torch.float64), before, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_what_each_stage_adds() -> None:
    after = {stage: str(graph) for stage, graph in stages().items()}
    assert "nn.batch_norm" in str(traced(TwoHeads))
    assert "nn.batch_norm" not in after["prepare"]
    assert "tile.fused" not in after["legalize"]
    assert "tile.fused" in after["fuse-epilogues"] and "tile.layout" not in after["fuse-epilogues"]
    assert "tile.layout" in after["assign-layouts"] and 'template = ""' in after["assign-layouts"]
    assert 'template = ""' not in after["select-kernels"]
    assert after["plan-memory"] != after["select-kernels"]


def test_unknown_stage() -> None:
    with pytest.raises(
        TersorError,
        match=f"unknown stage 'tune'; stages: {STAGE_NAMES}",
    ):
        resume(traced(TwoHeads), "tune", resolve("cpu"))


def test_text_of_the_planned_graph_is_what_a_file_gives_back(tmp_path: Path) -> None:
    graph = stages()["plan-memory"]
    save(graph, tmp_path / "plan.tersor")
    assert str(load(tmp_path / "plan.tersor")) == str(graph)
