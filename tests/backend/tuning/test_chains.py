"""Chains are measured against separate kernels, and compile does what was faster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from backend_run import arrays_for, assert_close, reference

import tersor
from tersor import Const, Graph, Tensor
from tersor.backend.kernels.template import chain_templates
from tersor.backend.lowering import fuse_chains as chain_module
from tersor.backend.lowering.fuse_chains import SEPARATE
from tersor.backend.pipelines import lower
from tersor.backend.target import resolve
from tersor.backend.tuned.database import Database, Entry, Timing
from tersor.backend.tuning import chains, search, timing
from tersor.backend.tuning.build import Separate, build
from tersor.ir.ops import Clip, Conv2d

CPU = resolve("cpu")
WHOLE = "conv2d 1x16x9x9 o48 k1 s1 p0 no bias + clip min=0.0 max=6.0 + conv2d o48 k3 s1 p1 g48 no bias + conv2d o16 k1 s1 p0 no bias"
PARTS = WHOLE.split(" + conv2d ")
FRONT, BACK = f"tile.{PARTS[0]} + conv2d {PARTS[1]}", f"tile.conv2d 1x48x9x9 {PARTS[1]} + conv2d {PARTS[2]}"
WHOLE = f"tile.{WHOLE}"


def block(blocks: int = 1) -> Graph:
    """Inverted residuals without the residual."""
    rng, graph = np.random.default_rng(0), Graph()
    x = graph.add_input(Tensor((1, 16, 9, 9)), "x", True)
    for _ in range(blocks):
        for o, c, k, groups in ((48, 16, 1, 1), (48, 1, 3, 48), (16, 48, 1, 1)):
            w = (rng.standard_normal((o, c, k, k)) / np.sqrt(c * k * k)).astype(np.float32)
            x = graph.add(Conv2d(x, Const(w), None, padding=(k // 2,) * 4, groups=groups))  # type: ignore[arg-type]
            if o > c > 1:
                x = graph.add(Clip(x, 0.0, 6.0))
    graph.set_outputs([x])
    return graph


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rounds, and few options of each chain and fusion."""
    monkeypatch.setattr(timing, "STAGES", ((1, 100.0), (2, 1.0)))
    for template in chain_templates():
        monkeypatch.setattr(type(template), "candidates", lambda *_: [{"rows": 1}, {"rows": 9}])
    tasks_of = search.tasks_of
    monkeypatch.setattr(search, "tasks_of", lambda *given: [replace(task, options=task.options[:2]) for task in tasks_of(*given)])


def timed(monkeypatch: pytest.MonkeyPatch, ms: dict[str, float]) -> None:
    """A machine without noise: milliseconds by the template's name, 1 for all others."""
    monkeypatch.setattr(timing, "_cold", lambda _, c: ms.get(c.template.name, 1.0))
    monkeypatch.setattr(timing, "_idle", lambda _: 0.0)


def test_chains_of_a_graph() -> None:
    tasks = chains.chain_tasks([block(2).at(1)], CPU, 1, None)
    # the second block's expansion follows the first one's projection: no template takes two pointwise convolutions
    assert {task.key: (task.count, len(task.parts)) for task in tasks} == {WHOLE: (2, 3), FRONT: (2, 2), BACK: (2, 2)}
    for task in tasks:
        names = [template.name for template, _ in task.options]
        assert names.count(SEPARATE) == 1 and len(names) > 1
        assert all(part.template and part.chosen == "model" for part in task.parts)


@pytest.mark.parametrize("threads", [1, 2])
def test_both_ways_give_the_same_and_need_their_kernels(threads: int) -> None:
    tasks = chains.chain_tasks([block().at(1)], CPU, threads, None)
    group = build(tasks, CPU, threads, 0)
    timing.check(group)
    assert not [c.problem for c in group.candidates if c.problem]
    apart = [c for c in group.candidates if isinstance(c.template, Separate)]
    assert sorted(c.steps for c in apart) == [2, 2, 3]
    assert all(c.error < 1e-5 and len(c.functions) >= c.steps + 1 for c in apart)
    # one kernel less, and the result is not there
    (whole,) = [c for c in apart if c.steps == 3]
    group.outputs[whole.task.key].fill(np.nan)
    group.arena.fill(0)
    assert whole.idle is not None and whole.run is not None
    whole.idle()
    assert np.isnan(group.outputs[whole.task.key]).all()
    whole.run()
    assert not np.isnan(group.outputs[whole.task.key]).any()


def steps(graph: Graph, database: Database) -> list[tuple[str, str]]:
    given = arrays_for(graph)
    exe = tersor.compile(graph, tuned=database)
    assert_close(exe(*given), reference(graph, given)[0], 1e-5)
    return [(s.template, s.chosen) for s in exe.entry().steps if s.macs]


def test_compile_does_what_was_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, database = block(), Database()
    timed(monkeypatch, {SEPARATE: 1.0, "inverted_residual": 1.5, "depthwise_pointwise": 1.2, "pointwise_depthwise": 1.1})
    result = tersor.tune(graph, db=database)
    rows = {r.key: r for r in result.rows if r.chain}
    assert set(rows) == {WHOLE, FRONT, BACK} and {r.tuned for r in rows.values()} == {SEPARATE}
    assert "3 distinct fusions with a choice and 3 chains" in result.summary
    # chains do not count twice in the sum
    assert result.tuned_ms == sum(r.count * r.tuned_ms for r in result.rows if not r.chain and r.tuned_ms)
    assert len(steps(graph, database)) == 3 and {chosen for _, chosen in steps(graph, database)} == {"tuned"}
    # whatever the model says
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain_module, "separate_cost", lambda *_: 1e15)
        assert len(steps(graph, database)) == 3
    assert tersor.tune(graph, db=database).measured == 0
    assert [r.key for r in search.compare(graph, db=database).rows if r.chain] == [r.key for r in result.rows if r.chain]

    for whole, front, expected in ((0.5, 0.6, ["inverted_residual"]), (0.9, 0.7, ["pointwise_depthwise"])):
        # the chain that saves most is made, and what it shares with others is taken
        for key, template, ms in ((WHOLE, "inverted_residual", whole), (FRONT, "pointwise_depthwise", front), (BACK, "depthwise_pointwise", 0.8)):
            both = (Timing(template, {"rows": 9}, ms, 3, 0.0), Timing(SEPARATE, {}, 1.0, 3, 0.0))
            database.add(CPU, 1, key, Entry(template, {"rows": 9}, {}, both))
        names = [name for name, chosen in steps(graph, database) if chosen == "tuned"]
        assert names[:1] == expected and len(names) == (1 if whole < front else 2)


def test_a_chain_whose_separate_kernels_were_not_timed_is_taken() -> None:
    database = Database()
    timing_ = Timing("inverted_residual", {"rows": 9}, 1.0, 3, 0.0)
    database.add(CPU, 1, WHOLE, Entry("inverted_residual", {"rows": 9}, {}, (timing_,)))
    lowered: Any = lower(block().at(1), CPU, tuned=database)
    assert [(op.template, op.params, op.chosen) for op in lowered.ops if getattr(op, "template", "") == "inverted_residual"] == [
        ("inverted_residual", {"rows": 9}, "tuned")
    ]


def test_the_cap_leaves_chains_for_later() -> None:
    database = Database()
    first = tersor.tune(block(), db=database, seconds=0)
    assert first.left == 3 and not any(r.chain for r in first.rows if r.tuned_ms)
    assert (first.measured, len(database)) == (3, 3)
