"""sparsify: masks against numpy, repair against brute force, the schedule, and zeros that stay."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from train_cases import accuracy, graph, same, shapes

import tersor
from tersor.ir import Graph
from tersor.ir.errors import TersorError
from tersor.passes.reconstruct.moments import Moments
from tersor.passes.sparse.gradual import cubic
from tersor.passes.sparse.pattern import Pattern, largest_of_all
from tersor.passes.sparse.repair import compressed, least_squares, normal_of


def calibration() -> list[torch.Tensor]:
    return [shapes(64)[0]]


def dense(g: Graph) -> list[np.ndarray]:
    frozen = tersor.transform(g, "freeze-sparsity", check=True)
    return [op.w.op.array for op in (*frozen.find("nn.conv2d"), *frozen.find("nn.linear"))]


def test_the_smallest_weights_of_each_layer_go() -> None:
    small = tersor.transform(graph(), "sparsify{sparsity=0.75}")
    for before, after in zip(dense(graph()), dense(small)):
        threshold = np.sort(np.abs(before).reshape(-1))[round(0.75 * before.size)]
        assert np.array_equal(after, np.where(np.abs(before) >= threshold, before, 0))
    rows = small.report["sparsify"].layers
    assert [r.sparsity for r in rows] == [pytest.approx(float((w == 0).mean())) for w in dense(small)]
    errors = [np.linalg.norm(a - b) / np.linalg.norm(a) for a, b in zip(dense(graph()), dense(small))]
    assert [r.error for r in rows] == [pytest.approx(e, rel=1e-5) for e in errors]


def test_one_threshold_for_all_layers() -> None:
    small = tersor.transform(graph(), "sparsify{sparsity=0.75 scope=global}")
    every, kept = (np.concatenate([w.reshape(-1) for w in dense(g)]) for g in (graph(), small))
    assert np.array_equal(kept != 0, np.abs(every) >= np.sort(np.abs(every))[round(0.75 * every.size)])
    # a layer never goes as a whole
    low, high = np.full((2, 2), 0.1), np.full((4, 4), 9.0)
    assert [m.sum() for m in largest_of_all([low, high], [1, 1], 0.5)] == [1, 10]


def test_layers_have_sparsities_of_their_own_and_some_stay() -> None:
    small = tersor.transform(graph(), 'sparsify{sparsity=0.5 layers={"4": {sparsity=0.9}} exclude=["9"]}')
    shares = [float((w == 0).mean()) for w in dense(small)]
    assert shares == [pytest.approx(0.5, abs=0.01), pytest.approx(0.9, abs=0.01), 0]
    assert [r.kept for r in small.report["sparsify"].layers] == ["", "", "excluded"]


def test_patterns() -> None:
    w = np.random.default_rng(0).standard_normal((6, 8))
    two_of_four = Pattern.parse(None, "2:4").kept(w, 0.0).reshape(6, 2, 4)
    assert (two_of_four.sum(axis=2) == 2).all()
    for row, mask in zip(np.abs(w).reshape(12, 4), two_of_four.reshape(12, 4)):
        assert row[mask].min() > row[~mask].max()
    tall = Pattern.parse("4x1", None).kept(w, 0.5)
    assert all(len(set(column)) == 1 for part in (tall[:4], tall[4:]) for column in part.T) and tall.sum() in range(20, 29)
    wide = Pattern.parse("1x3", None).kept(w, 0.5)
    assert all(len(set(row[a : a + 3])) == 1 for row in wide for a in (0, 3, 6))


def test_repair_is_the_least_squares_fit_and_the_compressor_chooses_best() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 5)) @ rng.standard_normal((5, 5))
    w = rng.standard_normal((5, 2))
    moments = Moments(5, 2)
    moments.add(x, x @ w)
    normal = normal_of(moments, w)

    def error(kept: tuple[int, ...], j: int) -> float:
        a = np.column_stack([x[:, kept], np.ones(len(x))])
        return float(((x @ w[:, j] - a @ np.linalg.lstsq(a, x @ w[:, j], rcond=None)[0]) ** 2).sum())

    kept = np.array([[1, 1, 0, 1, 0], [1, 0, 1, 0, 1]], bool).T
    fitted = least_squares(normal, kept)
    for j in range(2):
        rows = np.flatnonzero(kept[:, j])
        a = np.column_stack([x[:, rows], np.ones(len(x))])
        assert np.allclose(fitted[rows, j], np.linalg.lstsq(a, x @ w[:, j], rcond=None)[0][:-1], rtol=2e-2)
    assert not fitted[~kept].any()
    # one weight of ten goes: the one that costs least when the others are refitted, of all outputs
    (mask,) = compressed([normal], 0.1, 1)
    costs = {(i, j): error(tuple(k for k in range(5) if k != i), j) for i, j in itertools.product(range(5), range(2))}
    assert [tuple(map(int, p)) for p in np.argwhere(~mask)] == [min(costs, key=costs.__getitem__)]


def test_repair_lowers_the_error_and_the_compressor_more() -> None:
    def lost(repair: str) -> float:
        g = tersor.transform(graph(), f"sparsify{{sparsity=0.7 repair={repair}}}", calibration=calibration())
        x = shapes(64, seed=3)[0]
        assert [round(r.sparsity, 2) for r in g.report["sparsify"].layers] == pytest.approx([0.7] * 3, abs=0.011)
        return float((g(x) - graph()(x)).norm() / graph()(x).norm())

    none, refitted, obc = (lost(r) for r in ("none", "least-squares", "obc"))
    assert obc < refitted < none


def test_the_cubic_schedule() -> None:
    assert [cubic(t, 100, 0.2, 0.6, 0.1, 0.9) for t in (0, 20, 60, 100)] == pytest.approx([0.1, 0.1, 0.9, 0.9])
    assert cubic(40, 100, 0.2, 0.6, 0.1, 0.9) == pytest.approx(0.9 - 0.8 * 0.5**3)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_zeros_come_during_training_and_stay(scope: str, tmp_path: Path) -> None:
    pipeline = f"sparsify{{sparsity=0.8 gradual=true every=4 scope={scope}}},finetune{{epochs=4 batch=32 lr=0.006 schedule=exponential}}"
    small = tersor.transform(graph(), pipeline, train=shapes(512))
    zeros = [w == 0 for w in dense(small)]
    total = sum(z.sum() for z in zeros) / sum(z.size for z in zeros)
    assert total == pytest.approx(0.8, abs=0.005)
    assert scope == "global" or [z.mean() for z in zeros] == pytest.approx([0.8] * 3, abs=0.01)
    assert accuracy(small) > 0.8
    again = tersor.transform(small, "finetune{epochs=1 optimizer=sgd lr=0.01 weight_decay=0.001}", train=shapes(256))
    assert all(np.array_equal(a, b == 0) for a, b in zip(zeros, dense(again)))
    assert not all(np.array_equal(a, b) for a, b in zip(dense(small), dense(again)))
    if scope == "layer":
        exe = tersor.compile(small)
        x = shapes(1)[0]
        assert torch.allclose(exe(x), small(x), atol=1e-4)


def test_a_killed_training_ends_with_the_same_zeros(tmp_path: Path) -> None:
    start = tersor.transform(graph(), "sparsify{sparsity=0.8 gradual=true every=2}")
    whole = tersor.transform(start, "finetune{steps=12 batch=32 ema=0.9}", train=shapes(128))
    step = f'finetune{{steps=12 batch=32 ema=0.9 checkpoint="{tmp_path}/c" every=1}}'

    class Killed(Exception):
        pass

    def kill(what: str, done: int, total: int) -> None:
        if what.startswith("finetune") and done == 7:
            raise Killed

    with pytest.raises(TersorError, match="Killed"):
        tersor.transform(start, step, train=shapes(128), progress=kill)
    assert same(tersor.transform(start, step, train=shapes(128)), whole)


def test_masks_print_parse_and_save(tmp_path: Path) -> None:
    small = tersor.transform(graph(), "sparsify{sparsity=0.6 gradual=true}")
    small.save(tmp_path / "m.tersor")
    again = tersor.load(tmp_path / "m.tersor")
    assert str(again) == str(small) and again.find("sparse.masked")[0].sparsity == 0.6
    with pytest.raises(TersorError, match="to be made sparse by finetune, which has not run"):
        tersor.transform(small, "freeze-sparsity")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "expected sparsity="),
        ("sparsity=1.0", "from 0 to below 1; got 1"),
        ("sparsity=-0.1", "from 0 to below 1; got -0.1"),
        ('sparsity=0.5 layers={"4": {sparsity=1.5}}', "got 1.5"),
        ('sparsity=0.5 block="2x2"', 'block is "1xN"'),
        ('sparsity=0.5 block="four"', 'block is "1xN"'),
        ('nm="4:2"', "0 < N < M"),
        ('nm="2:4" sparsity=0.5', "takes no sparsity"),
        ('nm="2:4" block="1x4"', "expected block= or nm="),
        ('nm="2:4"', "needs weights of each output that 4 divides, and there are 9"),
        ('sparsity=0.5 block="4x1" repair=obc', "repair=obc"),
        ("sparsity=0.5 repair=obc scope=global", "repair=obc"),
        ("sparsity=0.5 gradual=true repair=obc", "gradual=true"),
        ("sparsity=0.5 gradual=true begin=0.9 end=0.5", "0 <= begin < end <= 1"),
        ("sparsity=0.5 every=0", "every must be at least 1"),
        ("sparsity=0.5 repair=obc", "needs calibration batches"),
        ('sparsity=0.5 exclude=["nothing"]', "matches no op"),
        ('sparsity=0.5 exclude=["*"]', "there is no layer to change: excluded"),
        ('sparsity=0.5 scope=global layers={"4": {sparsity=0.2}}', "one threshold for all layers"),
    ],
)
def test_bad_options(options: str, message: str) -> None:
    with warnings.catch_warnings(), pytest.raises(TersorError, match=message):
        tersor.transform(graph(), f"sparsify{{{options}}}")
