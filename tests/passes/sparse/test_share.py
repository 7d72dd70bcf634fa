"""share-weights: few values, zeros that stay, and gradients that are summed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from train_cases import accuracy, graph, shapes

import tersor
from tersor.ir import Graph
from tersor.ir.errors import TersorError
from tersor.passes.sparse.share import clusters
from tersor.passes.sparse.sizes import sizes


def weights(g: Graph) -> list[np.ndarray]:
    frozen = tersor.transform(g, "freeze-sparsity")
    return [op.w.op.array for op in (*frozen.find("nn.conv2d"), *frozen.find("nn.linear"))]


def test_clusters_are_where_means_of_their_weights_are() -> None:
    w = np.random.default_rng(0).standard_normal((30, 40))
    w[::3] = 0
    centres, index = clusters(w, 8, 100)
    assert len(centres) == 8 and (np.diff(centres) > 0).all() and np.array_equal(index == 0, w == 0)
    for i, centre in enumerate(centres, 1):
        assert centre == pytest.approx(w[index == i].mean(), abs=1e-6)
    nearest = np.abs(w[w != 0][:, None] - centres).argmin(1) + 1
    assert (nearest == index[w != 0]).mean() > 0.99
    # fewer different weights than values are kept as they are
    few = np.array([[0.0, 2.0, -1.0, 2.0]])
    assert clusters(few, 4, 10)[0].tolist() == [-1, 2] and clusters(few, 4, 10)[1].tolist() == [[0, 2, 1, 2]]
    assert clusters(np.zeros((2, 2)), 4, 10)[1].tolist() == [[0, 0], [0, 0]]


def test_shared_weights_stay_equal_and_zeros_zero_in_training() -> None:
    start = tersor.transform(graph(), "sparsify{sparsity=0.5},share-weights{bits=3}")
    trained = tersor.transform(start, "finetune{epochs=2 batch=32 lr=0.01}", train=shapes(256))
    assert accuracy(trained) > accuracy(start)
    for before, after in zip(weights(start), weights(trained)):
        assert np.array_equal(before == 0, after == 0) and not np.array_equal(before, after)
        for value in np.unique(before):
            assert len(np.unique(after[before == value])) == 1
    rows = start.report["share-weights"].layers
    assert [r.values for r in rows] == [8, 8, 8] and {r.runs for r in rows} == {"expanded"}


def test_the_gradient_of_a_value_is_the_sum_of_its_weights() -> None:
    shared = tersor.transform(graph(), "share-weights{bits=2}")
    x, y = shapes(16)
    found = []
    for g in (shared, tersor.transform(shared, "freeze-sparsity")):
        net = tersor.to_torch(g)
        torch.nn.functional.cross_entropy(net(x), y).backward()
        found.append(dict(net.named_parameters())["9.weight"].grad)
    summed, whole = found
    assert summed is not None and whole is not None and whole.dim() == 2
    index = torch.from_numpy(shared.find("sparse.shared")[-1].index.op.array.copy())
    assert torch.allclose(summed, torch.stack([whole[index == k].sum() for k in range(1, 5)]), atol=1e-5)


def test_sizes_after_each_stage(tmp_path: Path) -> None:
    small = tersor.transform(graph(), "sparsify{sparsity=0.9},share-weights{bits=4}")
    found = sizes(small)
    assert found.dense == sizes(graph()).dense == sum(op.array.nbytes for op in graph().find("nn.constant"))
    assert found.shared < found.pruned < 0.35 * found.dense
    small.save(tmp_path / "m.tersor", entropy=True)
    again = tersor.load(tmp_path / "m.tersor")
    x = shapes(2)[0]
    assert torch.equal(again(x), small(x)) and sizes(again) == found


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("share-weights{bits=0}", "bits of a shared weight are 1 to 8, got 0"),
        ("share-weights{bits=9}", "got 9"),
        ('share-weights{layers={"4": {bits=12}}}', "got 12"),
        ("share-weights{iterations=0}", "iterations must be at least 1"),
        ("share-weights,share-weights", "its weights are not constant but of sparse.shared"),
        ("sparsify{sparsity=0.5 gradual=true},share-weights", "run finetune before share-weights"),
        ("deep-compress", "needs training data"),
    ],
)
def test_bad_pipelines(pipeline: str, message: str) -> None:
    with pytest.raises(TersorError, match=message):
        tersor.transform(graph(), pipeline)
