"""MetaSchedule: a search in a process of its own, its kernels right, in the database and back."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backend_run import arrays_for, assert_close, graph_of, reference
from conv_graphs import conv_graph

import tersor
from tersor import Const, Database, Graph, TersorError
from tersor.backend.kernels.metaschedule.te_definition import define, refusal
from tersor.backend.kernels.metaschedule.template import STACK, lowered, nbytes, scheduled
from tersor.backend.pipelines import lower, resume
from tersor.backend.target import resolve
from tersor.backend.tile.fusion import Fusion
from tersor.backend.tuned.database import Entry, Found, Timing, plain
from tersor.backend.tuning import metaschedule, search, timing
from tersor.backend.tuning.build import Task
from tersor.backend.tuning.metaschedule import Searched
from tersor.ir.ops import Linear, Matmul, Relu, Silu

#: Each search runs TVM's workers in processes of their own, for many seconds.
pytestmark = pytest.mark.slow

CPU = resolve("cpu")
RNG = np.random.default_rng(0)


def weights(*shape: int) -> Const:
    return Const(RNG.standard_normal(shape).astype(np.float32))


GRAPHS = {
    "padded": conv_graph(1, 20, 36, (9, 7), (3, 3), (2, 1), (1, 0, 2, 1), residual=True),
    "planes": conv_graph(1, 3, 24, (9, 9), (3, 3), (2, 2), (1, 1, 1, 1)),
    "depthwise": conv_graph(1, 36, 36, (7, 7), (3, 3), padding=(1, 1, 1, 1), groups=36),
    "linear": graph_of(lambda x: Relu(Linear(x, weights(37, 65), weights(37))), (3, 65)),
}


def task_of(graph: Graph, threads: int = 1) -> Task:
    (task,) = search.tasks_of([graph.at(1) if graph.batched else graph], CPU, threads)
    return task


def with_trace(task: Task, trace: str, threads: int = 1) -> Database:
    """A database in which a kernel that was found beats the first template."""
    template, params = task.options[0]
    entry = Entry(template.name, plain(params), {}, (Timing(template.name, plain(params), 1.0, 1, 0.0),), Found(trace, 0.5, 1.0, 1, 0.0, {}))
    database = Database()
    database.add(CPU, threads, task.key, entry)
    return database


@pytest.fixture(scope="module")
def traces() -> list[str]:
    """What a search of four kernels found for `padded`, in a process of its own."""
    lines, note = metaschedule.run(Fusion(task_of(GRAPHS["padded"]).op), CPU, 1, 4, 0, 60.0)
    assert not note and len(lines) == 4, (note, lines)
    return [json.dumps(line["trace"]) for line in lines if line.get("ms", 0.0) > 0]


def test_every_kernel_found_is_right_and_profile_says_where_it_comes_from(traces: list[str]) -> None:
    graph = GRAPHS["padded"]
    given = arrays_for(graph)
    assert len(set(traces)) == 4
    for trace in traces:
        exe = tersor.compile(graph, tuned=with_trace(task_of(graph), trace))
        assert_close(exe(*given), reference(graph, given)[0], 1e-5)
    profile = exe.profile(rounds=1)
    assert [(r.template, r.params, r.chosen) for r in profile.rows if r.macs] == [("metaschedule", {"trace": trace}, "metaschedule")]
    assert f"metaschedule {{trace={len(trace)} characters}}" in str(profile) and trace not in str(profile)


@pytest.mark.parametrize("name", ["planes", "depthwise", "linear"])
def test_other_operators_on_two_threads(name: str) -> None:
    graph = GRAPHS[name]
    task = task_of(graph, 2)
    lines, note = metaschedule.run(Fusion(task.op), CPU, 2, 1, 3, 60.0)
    assert not note
    trace = json.dumps(lines[0]["trace"])
    given = arrays_for(graph)
    exe = tersor.compile(graph, threads=2, tuned=with_trace(task, trace, 2))
    assert_close(exe(*given), reference(graph, given)[0], 1e-5)
    assert "metaschedule" in [s.template for s in exe.entry().steps]


def test_a_saved_model_and_a_resumed_graph_hold_the_kernel(traces: list[str], tmp_path: Path) -> None:
    graph = GRAPHS["padded"]
    task = task_of(graph)
    # with an array between stages that does not fit on the stack
    (trace, *_) = [x for x in traces if max(allocated(lowered(scheduled(define(Fusion(task.op), CPU), x)).body), default=0) >= STACK]
    database = with_trace(task, trace)
    given = arrays_for(graph)
    exe = tersor.compile(graph, tuned=database)
    exe.save(tmp_path / "model.tso")
    np.testing.assert_array_equal(tersor.load_compiled(tmp_path / "model.tso")(*given), exe(*given))
    seen: dict[str, str] = {}
    lower(graph.at(1), CPU, tuned=database, observe=lambda stage, after: seen.update({stage: str(after)}))
    database.save(tmp_path / "db.json")
    assert Database.load(tmp_path / "db.json").targets == database.targets
    graphs: dict[str, Graph] = {}
    lower(graph.at(1), CPU, tuned=tmp_path / "db.json", observe=lambda stage, after: graphs.update({stage: after.clone()}))
    assert str(resume(graphs["select-kernels"], "select-kernels", CPU)) == seen["plan-memory"] == str(graphs["plan-memory"])


def allocated(stmt: Any) -> list[int]:
    """Bytes of the arrays of a lowered kernel."""
    if type(stmt).__name__ == "AllocBuffer":
        return [nbytes(stmt.buffer)]
    parts = getattr(stmt, "seq", None) or [getattr(stmt, "body", None)]
    return [size for part in parts if part is not None for size in allocated(part)]


def test_what_has_no_definition_says_why() -> None:
    def why(graph: Graph) -> str:
        return refusal(Fusion(task_of(graph).op))

    assert why(GRAPHS["padded"]) == ""
    assert why(conv_graph(1, 32, 32, (9, 9), (3, 3), groups=2)) == "grouped convolution"
    assert why(graph_of(lambda x: Silu(Linear(x, weights(64, 65), None)), (3, 65))) == "nn.silu in the epilogue has exponentials"
    assert why(graph_of(lambda x, y: Matmul(x, y), (64, 32), (32, 48))) == "nn.matmul is no convolution and no linear layer"
    task = task_of(conv_graph(1, 32, 32, (9, 9), (3, 3), groups=2))
    assert metaschedule.search(task, CPU, 1, 1, 0, None, Database()) == Searched(task.key, note="grouped convolution")


@pytest.mark.parametrize("trace", ["[[], []]", '[[["GetSBlock", [], ["gone", "main"], ["b0"]]], []]'])
def test_a_trace_that_does_not_fit_is_ignored_with_a_warning(trace: str) -> None:
    graph = GRAPHS["padded"]
    database = with_trace(task_of(graph), trace)
    if trace == "[[], []]":
        # no schedule at all is a schedule
        assert "metaschedule" in str(lower(graph.at(1), CPU, tuned=database))
        return
    with pytest.warns(UserWarning, match="the kernel that MetaSchedule found is ignored, because its trace does not fit any more: .*Tune it again"):
        exe = tersor.compile(graph, tuned=database)
    assert [s.chosen for s in exe.entry().steps if s.macs] == ["tuned"]


def test_tune_keeps_what_is_faster_and_only_that(monkeypatch: pytest.MonkeyPatch, traces: list[str], tmp_path: Path) -> None:
    graph, path = GRAPHS["padded"], tmp_path / "db.json"
    monkeypatch.setattr(timing, "STAGES", ((1, 100.0), (1, 1.0)))
    calls: list[tuple[Any, ...]] = []
    lines = [{"ms": 1.0 + i, "trace": json.loads(trace)} for i, trace in enumerate(traces)]
    monkeypatch.setattr(metaschedule, "run", lambda *given: (calls.append(given[3:]), ([*lines, {"error": "no"}], ""))[1])
    cold = {"template": 1.0, "metaschedule": 2.0}
    monkeypatch.setattr(timing, "_cold", lambda _, c: cold["metaschedule" if c.template.name == "metaschedule" else "template"])
    monkeypatch.setattr(timing, "_idle", lambda _: 0.0)
    slower = tersor.tune(graph, db=path, search="metaschedule", trials=5, seed=7, seconds=100)
    (done,) = slower.searched
    assert (done.tried, done.failed, done.ms, done.template_ms, done.kept) == (4, 1, 2.0, 1.0, False)
    assert calls[0][:2] == (5, 7) and 0 < calls[0][2] <= 100
    assert re.search(r"4 kernels in \d+ s, 1 more failed, the best 2.0000 ms against 1.0000 of the template: not faster", str(slower))
    assert Database.load(path).section(CPU, 1)[done.key].found is None
    cold["metaschedule"] = 0.5
    faster = tersor.tune(graph, db=path, search="metaschedule", trials=5, seed=7)
    assert faster.measured == 0 and faster.searched[0].kept
    found = Database.load(path).section(CPU, 1)[done.key].found
    assert found is not None and (found.ms, found.template_ms) == (0.5, 1.0) and found.made["seed"] == "7" and found.made["trials"] == "5"
    assert [(r.tuned, r.tuned_ms) for r in faster.rows] == [("metaschedule", 0.5)]
    # known now, so not searched again; templates measured anew leave it
    assert tersor.tune(graph, db=path, search="metaschedule").searched == ()
    assert tersor.tune(graph, db=path, again=True).database.section(CPU, 1)[done.key].found == found


def test_a_wrong_kernel_is_not_kept(monkeypatch: pytest.MonkeyPatch, traces: list[str]) -> None:
    task = task_of(GRAPHS["padded"])
    monkeypatch.setattr(timing, "STAGES", ((1, 1.0),))
    monkeypatch.setattr(metaschedule, "run", lambda *_: ([{"ms": 1.0, "trace": json.loads(traces[0])}], ""))
    monkeypatch.setattr(timing, "_error", lambda *_: 1.0)
    database = with_trace(task, traces[0])
    entry = database.section(CPU, 1)[task.key]
    database.add(CPU, 1, task.key, replace(entry, found=None))
    done = metaschedule.search(task, CPU, 1, 1, 0, None, database)
    assert (done.ms, done.kept) == (None, False) and "none of them right" in str(done)
    assert database.section(CPU, 1)[task.key].found is None


def test_the_cap_kills_and_what_was_written_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    fusion = Fusion(task_of(GRAPHS["padded"]).op)
    assert metaschedule.run(fusion, CPU, 1, 1000, 0, 0.2) == ([], "killed after 0 s")
    monkeypatch.setattr(metaschedule, "cost_model", lambda: "unheard of")
    lines, note = metaschedule.run(fusion, CPU, 1, 2, 0, 60.0)
    assert lines == [] and re.fullmatch("its process failed: .*unheard of.*", note)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"search": "random"}, "unknown search='random'; valid: templates, metaschedule"), ({"trials": 0}, "trials must be at least 1, got 0")],
)
def test_arguments(given: dict[str, Any], message: str) -> None:
    with pytest.raises(TersorError, match=re.escape(message)):
        tersor.tune(GRAPHS["padded"], **given)
