"""Tuning: every candidate is measured and compared with the interpreter, a wrong one never wins, and compile uses what was found."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backend_run import arrays_for, assert_close, graph_of, reference
from conv_graphs import conv_graph
from tvm import tirx as t

import tersor
from tersor import Const, Database, Graph, Tensor, TersorError
from tersor.backend.kernels import template
from tersor.backend.kernels.cpu.conv.direct import Direct
from tersor.backend.lowering.assign_layouts import assign_layouts
from tersor.backend.lowering.fuse_chains import SEPARATE
from tersor.backend.lowering.fuse_epilogues import fuse_epilogues, wrap
from tersor.backend.target import cache_size, resolve
from tersor.backend.tile.ops import Fused, TileConv2d, blocked_type
from tersor.backend.tuned.database import SHIPPED, Entry, Timing, find
from tersor.backend.tuned.key import shape_key, target_key
from tersor.backend.tuning import build, search, timing
from tersor.ir.ops import Add, Clip, Conv2d, Linear, Matmul, Mul, Relu, Sub

CPU = resolve("cpu")


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "STAGES", ((2, 1.25), (1, 1.0)))


@pytest.fixture
def register() -> Iterator[Callable[[type], type]]:
    """Registers templates for convolutions, and forgets them after the test."""
    list(template.templates_for(TileConv2d.__new__(TileConv2d)))
    before = list(template.TEMPLATES[TileConv2d])
    yield template.kernel(TileConv2d)
    template.TEMPLATES[TileConv2d][:] = before


def small(**changes: Any) -> Graph:
    return conv_graph(**{"n": 1, "c": 32, "o": 32, "size": (9, 9), "kernel": (1, 1)} | changes)


def key_of(graph: Graph) -> str:
    (op,) = [
        op
        for op in assign_layouts(fuse_epilogues(graph.clone()), 16).ops
        if isinstance(op, Fused) and op.body.ops[0].name not in ("tile.pack", "tile.unpack")
    ]
    return shape_key(op)


def entry(name: str, params: dict[str, Any]) -> Entry:
    return Entry(name, params, {}, (Timing(name, params, 1.0, 3, 0.0),))


def database(graph: Graph, name: str, params: dict[str, Any]) -> Database:
    db = Database()
    db.add(CPU, 1, search.tasks_of([graph.at(1)], CPU, 1)[0].key, entry(name, params))
    return db


# -- keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("graph", "key"),
    [
        (conv_graph(1, 64, 64, (56, 56), (3, 3), padding=(1, 1, 1, 1)), "tile.conv2d 1x64x56x56 o64 k3 s1 p1 + relu"),
        (conv_graph(2, 64, 24, (7, 9), (1, 3), (2, 1), (0, 0, 1, 0), residual=True), "tile.conv2d 2x64x7x9 o24 k1x3 s2x1 p0,0,1,0 + add same + relu"),
        (conv_graph(1, 32, 32, (8, 8), (3, 3), dilation=(2, 2), groups=4, bias=False), "tile.conv2d 1x32x8x8 o32 k3 s1 p0 d2 g4 no bias + relu"),
        (conv_graph(1, 3, 8, (8, 8), (3, 3)), "tile.conv2d 1x3x8x8:plain o8 k3 s1 p0 + relu"),
        (graph_of(lambda x: Linear(x, Const(np.ones((5, 6), np.float32)), Const(np.ones(5, np.float32))), (2, 6)), "nn.linear 2x6 [5x6] [5]"),
        (graph_of(lambda x, y: Matmul(x, y), (2, 6), (6, 4)), "nn.matmul 2x6 6x4"),
        (graph_of(lambda x: Relu(Linear(x, Const(np.ones((5, 6), np.float32)), None)), (2, 6)), "nn.linear 2x6 [5x6] no b + relu"),
        (graph_of(lambda x: Linear(x, Const(np.ones((5, 6))), None), Tensor((2, 6), "f64")), "nn.linear 2x6:f64 [5x6:f64] no b"),
        (graph_of(lambda x, y: Clip(Matmul(x, y), 0.0, 6.0), (2, 6), (6, 4)), "nn.matmul 2x6 6x4 + clip min=0.0 max=6.0"),
        (graph_of(lambda x, y: Sub(Const(np.float32(1)), Matmul(x, y)), (2, 6), (6, 4)), "nn.matmul 2x6 6x4 + sub scalar %0"),
    ],
)
def test_keys_are_readable(graph: Graph, key: str) -> None:
    assert key_of(graph) == key


def test_keys_do_not_depend_on_names_weights_or_the_order_of_a_sum() -> None:
    def build(seed: int, swap: bool) -> Graph:
        graph, rng = Graph(), np.random.default_rng(seed)
        x = graph.add_input(Tensor((1, 16, 8, 8)), f"x{seed}")
        z = graph.add_input(Tensor((1, 16, 8, 8)), f"z{seed}")
        y = graph.add(Conv2d(x, Const(rng.standard_normal((16, 16, 1, 1)).astype(np.float32)), None))
        graph.set_outputs([graph.add(Add(z, y) if swap else Add(y, z))])
        return graph

    keys = {key for seed in (0, 1) for swap in (False, True) for key in [k.key for k in search.tasks_of([build(seed, swap)], CPU, 1)]}
    assert keys == {"tile.conv2d 1x16x8x8 o16 k1 s1 p0 no bias + add same"}


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 2},
        {"c": 33},
        {"o": 31},
        {"size": (9, 8)},
        {"kernel": (3, 1)},
        {"stride": (2, 2)},
        {"padding": (1, 1, 1, 0)},
        {"dilation": (2, 2)},
        {"groups": 2},
        {"bias": False},
        {"residual": True},
    ],
    ids=str,
)
def test_every_part_of_the_geometry_is_in_the_key(changes: dict[str, Any]) -> None:
    assert key_of(small(**changes)) != key_of(small())


def test_tails_tell_what_they_read() -> None:
    def epilogue(build: Callable[[Any], Any]) -> str:
        return key_of(graph_of(lambda x: build(Conv2d(x, Const(np.ones((16, 16, 1, 1), np.float32)), None).out), (1, 16, 4, 4))).partition(" + ")[2]

    assert epilogue(lambda y: Mul(y, Const(np.float32(2)))) == "mul scalar"
    assert epilogue(lambda y: Mul(y, Const(np.ones((1, 16, 1, 1), np.float32)))) == "mul channel"
    assert epilogue(lambda y: Mul(Relu(y).out, y)) == "relu + mul %0"


def test_keys_of_chained_convolutions() -> None:
    def conv(x: Any, o: int, groups: int = 1, kernel: int = 1) -> TileConv2d:
        w = Const(np.ones((o, x.type.layout.channels // groups, kernel, kernel), np.float32))
        return TileConv2d(x, w, Const(np.ones(o, np.float32)), padding=(kernel // 2,) * 4, groups=groups, lanes=16)

    graph = Graph()
    x = graph.add_input(blocked_type(Tensor((1, 24, 28, 28)), 16), "x")
    expand = conv(x, 96)
    relu = Relu(expand)
    depthwise = conv(relu.out, 96, 96, 3)
    project = conv(depthwise.out, 24)
    ops = [expand, relu, depthwise, project, Add(project, x)]
    for op in ops:
        graph.add(op)
    graph.set_outputs([ops[-1].out])
    expected = "tile.conv2d 1x24x28x28 o96 k1 s1 p0 + relu + conv2d o96 k3 s1 p1 g96 + conv2d o24 k1 s1 p0 + add same"
    assert shape_key(wrap(graph, ops)) == expected


def test_target_keys() -> None:
    assert target_key(resolve("cpu:znver3"), 1) == "x86_64 znver3, 1 thread"
    assert target_key(resolve("arm64:cortex-a72"), 4) == "aarch64 cortex-a72, 4 threads"


# -- the database --------------------------------------------------------------------------------


def test_database_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    timings = (Timing("winograd", {"m": 4, "pair": [1, 2]}, 0.25, 30, 1.5e-6), Timing("direct", {"chunk": 7}, 0.5, 5, 2e-7))
    db = Database()
    db.add(CPU, 2, "tile.conv2d a", Entry("winograd", timings[0].params, {"tvm": "0.27"}, timings))
    db.add(CPU, 1, "nn.linear b", entry("dense", {}))
    db.save(tmp_path / "db.json")
    again = Database.load(tmp_path / "db.json")
    assert again.targets == db.targets and len(again) == 2
    again.save()
    assert (tmp_path / "db.json").read_text() == db.to_json()
    assert json.loads(db.to_json())["format"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["db.json"]


DAMAGED = '{"format": 1, "targets": {"t": {"k": {"template": "direct", "params": {}, "versions": {}}}}}'
NO_WINNER = '{"format": 1, "targets": {"t": {"k": {"template": "direct", "params": {}, "versions": {}, "candidates": []}}}}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 2, "targets": {}}', "db.json has format 2; this Tersor reads format 1: tune again"),
        ('{"format": 1, "targets": {"t": {', "db.json is not a tuning database, or truncated: expected JSON, "),
        ("[]", 'db.json is not a tuning database: expected {"format": 1, "targets": …}'),
        (DAMAGED, "db.json is a damaged tuning database: an entry is missing 'candidates'; each has template, params, versions and candidates"),
        (NO_WINNER, "db.json is a damaged tuning database: an entry does not begin its candidates with the winner"),
        ('{"format": 1, "targets": 3}', "db.json is a damaged tuning database: an entry "),
        (None, "there is no tuning database db.json: tersor tune MODEL --db db.json makes one"),
    ],
)
def test_a_bad_file_is_one_line(text: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("db.json").write_text(text)
    with pytest.raises(TersorError, match=re.escape(message)) as error:
        tersor.compile(small(), tuned="db.json")
    assert "\n" not in str(error.value)


def test_tuned_takes_what_it_says() -> None:
    with pytest.raises(TersorError, match=r"tuned must be None \(the shipped database\), False \(none\), a path or a Database, got int"):
        tersor.compile(small(), tuned=3)  # type: ignore[arg-type]
    assert find(False, CPU) is None
    assert find(None, resolve("cpu:x86-64-v2")) is None
    db = Database()
    assert find(db, CPU) is db


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda p: p.name)
def test_shipped_entries_name_templates_that_exist(path: Path) -> None:
    list(template.templates_for(TileConv2d.__new__(TileConv2d)))
    known = {made.name for templates in (*template.TEMPLATES.values(), template.CHAINS) for made in templates} | {SEPARATE}
    entries = [e for section in Database.load(path).targets.values() for e in section.values()]
    assert entries and {e.template for e in entries} <= known


# -- choosing ------------------------------------------------------------------------------------


def test_compile_uses_the_entry_and_profile_says_so() -> None:
    graph = small()
    other = database(graph, "gemm", {"chunk": 27})
    rows = tersor.compile(graph, tuned=other).profile(rounds=1).rows
    assert [(r.template, r.params, r.chosen) for r in rows if r.macs] == [("gemm", {"chunk": 27}, "tuned")]
    assert {r.chosen for r in rows if not r.macs} == {"only"}
    assert "tuned" in str(tersor.compile(graph, tuned=other).profile(rounds=1))
    modelled = tersor.compile(graph, tuned=False).profile(rounds=1).rows
    assert [r.chosen for r in modelled if r.macs] == ["model"]
    # a database that knows other threads, and other shapes
    assert [r.chosen for r in tersor.compile(graph, threads=2, tuned=other).profile(rounds=1).rows if r.macs] == ["model"]
    assert [r.chosen for r in tersor.compile(small(o=48), tuned=other).profile(rounds=1).rows if r.macs] == ["model"]


@pytest.mark.parametrize("chunk", [1, 27, 81, 1000])
def test_entries_may_hold_values_that_are_no_candidates(chunk: int) -> None:
    """The candidates of another machine's caches; results stay right."""
    graph = small()
    given = arrays_for(graph)
    (y,) = [tersor.compile(graph, tuned=database(graph, "gemm", {"chunk": chunk}))(*given)]
    assert_close(y, reference(graph, given)[0], 1e-5)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("cooley_tukey", {}, "names template 'cooley_tukey', which is not registered for tile.conv2d; valid: "),
        ("direct", {"rows": 3}, "gives 'direct' the parameters {'rows': 3}; valid are such as chunk=9"),
        ("direct", {"chunk": 0}, "gives 'direct' the parameters {'chunk': 0}; valid are such as chunk=9"),
        ("direct", {"chunk": "7"}, "gives 'direct' the parameters {'chunk': '7'}; valid are such as chunk=9"),
    ],
)
def test_an_entry_that_cannot_be_used_is_one_line(name: str, params: dict[str, Any], message: str) -> None:
    graph = small()
    with pytest.raises(TersorError, match=re.escape(f"the tuning database: entry 'tile.conv2d 1x32x9x9 o32 k1 s1 p0 + relu' {message}")) as error:
        tersor.compile(graph, tuned=database(graph, name, params))
    assert "\n" not in str(error.value)


def test_an_entry_whose_template_refuses_the_region_is_ignored_and_said_so() -> None:
    graph = small()
    db = database(graph, "depthwise", {"width": 8, "chunk": 9})
    with pytest.warns(
        UserWarning, match=r"entry 'tile.conv2d .*' is ignored, because template 'depthwise' does not take such a fusion any more; valid: "
    ):
        exe = tersor.compile(graph, tuned=db)
    (row,) = [r for r in exe.profile(rounds=1).rows if r.macs]
    assert row.chosen == "stale"
    (plain,) = [r for r in tersor.compile(graph, tuned=False).profile(rounds=1).rows if r.macs]
    assert (row.template, row.params) == (plain.template, plain.params)


# -- measuring -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tuned() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "STAGES", ((2, 1.25), (1, 1.0)))
        return tersor.tune(small(residual=True))


def test_tune_measures_every_candidate(tuned: Any) -> None:
    (row,) = tuned.rows
    (task,) = search.tasks_of([small(residual=True).at(1)], CPU, 1)
    assert row.key == task.key == "tile.conv2d 1x32x9x9 o32 k1 s1 p0 + add same + relu"
    assert (row.count, row.candidates, tuned.measured, tuned.left, tuned.problems) == (1, len(task.options), 1, 0, ())
    found = tuned.database.section(CPU, 1)[row.key]
    assert {(c.template, str(c.params)) for c in found.candidates} == {(a.name, str(p)) for a, p in task.options}
    assert found.candidates[0].is_of(found.template, found.params)
    assert all(c.ms > 0 and 2 <= c.samples <= 3 and c.error < 1e-5 for c in found.candidates)
    assert found.versions["tvm"] and found.versions["tersor"]
    # the winner is the fastest, or as good as that
    assert found.ms <= timing.EQUAL * min(c.ms for c in found.candidates if c.samples == 3)
    assert row.loss == row.model_ms / row.tuned_ms - 1 and row.loss > 1 / timing.EQUAL - 1


def test_report(tuned: Any, tmp_path: Path) -> None:
    text = str(tuned)
    assert text.splitlines()[0].split() == ["fusion", "model", "tuned", "times", "candidates", "model,", "ms", "tuned,", "ms", "loss"]
    assert "1 distinct fusions with a choice, 1 measured now" in text
    data = json.loads(tuned.to_json(tmp_path / "report.json"))
    assert data["rows"][0]["key"] == tuned.rows[0].key and data["loss"] == tuned.loss
    assert json.loads((tmp_path / "report.json").read_text()) == data


def test_what_is_in_the_database_is_not_measured_again(tuned: Any) -> None:
    graph = small(residual=True)
    again = tersor.tune(graph, db=tuned.database)
    assert (again.measured, again.left) == (0, 0) and again.rows == tuned.rows
    key = again.rows[0].key
    before = tuned.database.section(CPU, 1)[key]
    missing = replace(before, candidates=before.candidates[:1])
    tuned.database.add(CPU, 1, key, missing)
    assert tersor.tune(graph, db=tuned.database).measured == 1
    assert len(tuned.database.section(CPU, 1)[key].candidates) == len(before.candidates)
    exe = tersor.compile(graph, tuned=tuned.database)
    given = arrays_for(graph)
    assert_close(exe(*given), reference(graph, given)[0], 1e-5)
    assert [s.chosen for s in exe.entry().steps if s.macs] == ["tuned"]


def test_batches_and_threads_have_entries_of_their_own() -> None:
    db = Database()
    tersor.tune(small(), threads=2, batch=[1, 3], db=db)
    assert {k: sorted(v) for k, v in db.targets.items()} == {
        target_key(CPU, 2): ["tile.conv2d 1x32x9x9 o32 k1 s1 p0 + relu", "tile.conv2d 3x32x9x9 o32 k1 s1 p0 + relu"]
    }


def test_a_wrong_or_broken_kernel_never_wins(register: Callable[[type], type]) -> None:
    class Cheap(Direct):
        def cost(self, *_: Any) -> float:
            return 0.5

        def candidates(self, *_: Any) -> list[dict[str, Any]]:
            return [{"chunk": 9}]

    @register
    class Wrong(Cheap):
        """One element is off."""

        name = "wrong"

        def emit(self, k: Any) -> None:
            super().emit(k)
            k.b.store(k.out, 5, k.b.load(k.out, 5) + t.const(0.5, "float32"))

    @register
    class Lazy(Cheap):
        """Writes nothing, so the result would be that of whoever ran before."""

        name = "lazy"

        def emit(self, k: Any) -> None:
            k.b.emit(t.Evaluate(t.IntImm("int32", 0)))

    @register
    class Raises(Cheap):
        name = "raises"

        def emit(self, k: Any) -> None:
            raise ValueError("no\nsuch thing")

    @register
    class Uncompilable(Cheap):
        name = "uncompilable"

        def emit(self, k: Any) -> None:
            super().emit(k)
            k.b.store(k.out, 0, t.Var("nowhere", "float32"))

    result = tersor.tune(small())
    said = {p.template: p.message for p in result.problems}
    assert said["wrong"].startswith("wrong: error ") and said["wrong"].endswith("against the interpreter, at most 1e-04 is right")
    assert said["lazy"].startswith("wrong: error nan")
    assert said["raises"] == "ValueError: no such thing"
    assert set(said) == {"wrong", "lazy", "raises", "uncompilable"} and "\n" not in said["uncompilable"]
    found = result.database.section(CPU, 1)[result.rows[0].key]
    assert {c.template for c in found.candidates} >= {"direct", "gemm"}
    assert not {c.template for c in found.candidates} & set(said)
    # the model preferred one of them, of which there is no time
    assert result.rows[0].model.startswith("wrong") and result.rows[0].model_ms is None and result.rows[0].loss is None
    assert "wrong: error" in str(result)


def test_equal_code_is_built_and_timed_once(register: Callable[[type], type], monkeypatch: pytest.MonkeyPatch) -> None:
    @register
    class Twins(Direct):
        name = "twins"

        def candidates(self, *_: Any) -> list[dict[str, Any]]:
            return [{"chunk": 9, "ignored": i} for i in range(3)]

    sizes = []
    monkeypatch.setattr(search, "build", lambda *a: (made := build.build(*a), sizes.append(sum(c.run is not None for c in made.candidates)))[0])
    result = tersor.tune(small())
    found = result.database.section(CPU, 1)[result.rows[0].key]
    twins = [c for c in found.candidates if c.template == "twins"]
    assert len(twins) == 3 and len({(c.ms, c.samples) for c in twins}) == 1
    # `direct` has the same code as well
    assert sizes == [len(found.candidates) - 3]


def test_the_cap_keeps_the_costliest_and_says_what_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(search, "KERNELS", 1)
    graph = Graph()
    x = graph.add_input(Tensor((4, 64)), "x")
    rng = np.random.default_rng(0)
    for width in (32, 160, 64):
        x = graph.add(Linear(x, Const(rng.standard_normal((width, x.shape[1])).astype(np.float32)), None))
    graph.set_outputs([x])
    path = tmp_path / "db.json"
    result = tersor.tune(graph, db=path, seconds=0)
    assert (result.measured, result.left) == (1, 2) and list(Database.load(path).section(CPU, 1)) == ["nn.linear 4x160 [64x160] no b"]
    assert [r.tuned_ms is None for r in result.rows] == [False, True, True]
    rest = tersor.tune(graph, db=path)
    assert (rest.measured, rest.left) == (2, 0) and len(Database.load(path)) == 3


def test_an_operand_that_is_computed_is_an_input() -> None:
    graph = graph_of(lambda x, y: Matmul(x, y), (64, 32), (32, 48))
    result = tersor.tune(graph)
    assert [r.key for r in result.rows] == ["nn.matmul 64x32 32x48"] and not result.problems


@pytest.mark.parametrize("threads", [1, 2])
def test_sweep_reads_more_than_the_caches_hold_then_what_they_are_to_hold(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, float]] = []
    flush_of = build._flush

    def recording(*args: Any) -> Callable[[np.ndarray], np.ndarray]:
        flush = flush_of(*args)

        def record(array: np.ndarray) -> np.ndarray:
            sums = flush(array)
            read.append((array.nbytes, float(sums.sum(dtype=np.float64))))
            return sums

        return record

    monkeypatch.setattr(build, "_flush", recording)
    (task,) = search.tasks_of([small().at(1)], CPU, threads)
    group = build.build([replace(task, options=task.options[:1])], CPU, threads, 0)
    arrays = [np.full(size, value, np.float32) for size, value in ((1 << 16, 2), (1 << 12, 3))]
    group.sweep(arrays)
    # every element was read: an array's sums say so
    assert read[1:3] == [(4 << 16, 2.0 * (1 << 16)), (4 << 12, 3.0 * (1 << 12))]
    (spilled, total), *last = read[0], *read[3:]
    assert spilled >= 2 * cache_size(3) + threads * 4 * CPU.l2 and total == pytest.approx(spilled // 4, rel=1e-3)
    # with threads, what each wrote into its own cache is driven out of it
    assert len(last) == threads - 1 and all(size >= threads * 2 * CPU.l2 for size, _ in last)
    assert cache_size(3) >= cache_size(2) >= cache_size(1) > 0


def test_halving_drops_losers_and_near_ties_go_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timings of a machine without noise."""
    monkeypatch.setattr(timing, "STAGES", ((5, 1.25), (10, 1.08), (15, 1.0)))
    (task,) = search.tasks_of([small().at(1)], CPU, 1)
    group = search.build([task], CPU, 1, 0)
    ms = {"favourite": 1.01, "best": 1.0, "near": 1.05, "far": 1.2, "lost": 2.0}
    candidates = [replace(group.candidates[0], samples=[]) for _ in ms]
    time_of = {id(c): value for c, value in zip(candidates, ms.values())}
    monkeypatch.setattr(timing, "_cold", lambda _, candidate: time_of[id(candidate)])
    monkeypatch.setattr(timing, "_idle", lambda _: 0.0)
    timing.race(replace(group, candidates=candidates), np.random.default_rng(0))
    assert [len(c.samples) for c in candidates] == [30, 30, 30, 15, 5]
    assert [round(timing.score(c), 2) for c in timing.ranked(candidates)] == [1.01, 1.0, 1.05, 1.2, 2.0]
    time_of[id(candidates[0])] = 1.03
    for c in candidates:
        c.samples.clear()
    timing.race(replace(group, candidates=candidates), np.random.default_rng(0))
    assert timing.ranked(candidates)[0] is candidates[1]
    # 3 % are not enough where threads share the work
    assert timing.ranked(candidates, threads=2)[0] is candidates[0]


def test_tune_says_what_it_takes() -> None:
    with pytest.raises(TersorError, match="tune takes a Graph, got int: a"):
        tersor.tune(3)  # type: ignore[arg-type]
    with pytest.raises(TersorError, match="a kernel to be tuned was compiled for"):
        tersor.tune(small(), target="arm64:cortex-a72")
    with pytest.raises(TersorError, match=re.escape("cannot write nowhere/db.json: there is no folder nowhere")):
        tersor.tune(small(), db="nowhere/db.json")
    with pytest.raises(TersorError, match="threads must be at least 1, got 0"):
        tersor.tune(small(), threads=0)
