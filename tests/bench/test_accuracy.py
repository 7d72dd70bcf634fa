"""Networks for the accuracy benchmark train and come back from the cache; its runs end in rows, its rows in tables and plots."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sampling import some

import tersor
from tersor.bench import accuracy, dependency_graph, train
from tersor.bench.accuracy_report import markdown
from tersor.bench.accuracy_runs import NETWORKS, Run, runs
from tersor.bench.dependency_graph import Variant
from tersor.bench.fashion import FOLDER, MEAN, STD, DataMissing, Images, fashion_mnist, read_idx
from tersor.bench.fashion_networks import build, count_macs
from tersor.bench.photo_crops import photographs_on_disk
from tersor.bench.train import Recipe
from tersor.ir.errors import TersorError
from tersor.ir.ops import Conv2d


def noise(count: int, seed: int = 0) -> Images:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 1, 28, 28), np.uint8)
    return Images(torch.from_numpy(pixels), torch.from_numpy(rng.integers(0, 10, count)))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    accuracy.traced.cache_clear()


# -- data --------------------------------------------------------------------------------------


def test_idx(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "a.gz"
    header = bytes([0, 0, 8, 3]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes()))
    assert (read_idx(path) == array).all()
    path.write_bytes(gzip.compress(header + array.tobytes()[:-1]))
    with pytest.raises(TersorError, match="24 bytes of data, 23 follow"):
        read_idx(path)
    path.write_bytes(gzip.compress(b"\0\0\x0d\1"))
    with pytest.raises(TersorError, match="begins with 00 00 0d 01"):
        read_idx(path)


def test_missing_data_names_the_packages(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="apt-get install dataset-fashion-mnist"):
        fashion_mnist("train", tmp_path)
    with pytest.raises(DataMissing, match="apt-get install lomiri-wallpapers"):
        photographs_on_disk(tmp_path)


@pytest.mark.skipif(not FOLDER.is_dir(), reason="Fashion-MNIST is not there: apt-get install dataset-fashion-mnist")
def test_fashion_mnist() -> None:
    images = fashion_mnist("train")
    assert len(images) == 60000 and (torch.bincount(images.labels) == 6000).all()
    pixels = images.pixels.double() / 255
    assert float(pixels.mean()) == pytest.approx(MEAN, abs=1e-4) and float(pixels.std()) == pytest.approx(STD, abs=1e-4)


# -- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("macs", some([0.25, 0.5, 1.0], 3))
def test_networks_have_the_size_asked_for(name: str, macs: float) -> None:
    small, whole = (tersor.trace(build(name, m).eval(), (torch.zeros(1, 1, 28, 28),)).macs() for m in (macs, 1.0))
    assert count_macs(build(name, macs)) == small
    assert 0.9 * macs < small / whole <= macs


def test_two_steps_of_training() -> None:
    recipe = Recipe("vgg", 0.25, epochs=1, batch=32, bf16=False)
    said: list[str] = []
    images, others = noise(64), noise(50, 1)
    module, top1 = train.train(recipe, images, others, said.append)
    again, _ = train.train(recipe, images, others, said.append)
    other, _ = train.train(Recipe("vgg", 0.25, seed=1, epochs=1, batch=32, bf16=False), images, others, said.append)
    x = others.normalized()
    with torch.no_grad():
        y, start = module(x), build("vgg", 0.25).eval()(x)
        assert torch.equal(y, again(x)) and not torch.equal(y, other(x)) and not torch.equal(y, start)
    assert top1 == 100 * float((y.argmax(1) == others.labels).double().mean())
    assert f"epoch 1/1: loss {said[1].split()[3]} test top-1 {top1:.2f} %" in said[1]

    assert train.restored(recipe) is None
    train.save(recipe, module, top1)
    found = train.restored(recipe)
    assert found is not None and found[1] == pytest.approx(top1, abs=0.005)
    # the tensors, not logits: the trained module is channels-last, which rounds otherwise
    was, now = module.state_dict(), found[0].state_dict()
    assert was.keys() == now.keys() and all(torch.equal(was[k], now[k]) for k in was) and not found[0].training
    with pytest.raises(SystemExit, match="was made by another recipe"):
        train.restored(Recipe("vgg", 0.25, epochs=1, batch=16, bf16=False))


def test_batches_are_shifted_and_mirrored_images() -> None:
    images = Images(torch.arange(784, dtype=torch.int64).remainder(251).byte().reshape(1, 1, 28, 28).repeat(64, 1, 1, 1), torch.arange(64) % 10)
    padded = np.pad(images.pixels[0, 0].numpy(), 2)
    valid = {v.tobytes() for i in range(5) for j in range(5) for c in [padded[i : i + 28, j : j + 28]] for v in (c, c[:, ::-1])}
    seen, labels = set(), []
    for x, y in train.batches(images, 16, torch.Generator().manual_seed(0)):
        pixels = ((x[:, 0] * STD + MEAN) * 255).round().to(torch.uint8).numpy()
        seen |= {p.tobytes() for p in pixels}
        labels += y.tolist()
    assert seen <= valid and len(seen) > 20
    assert sorted(labels) == sorted(images.labels.tolist())


# -- Torch-Pruning -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*Give at least")
@pytest.mark.parametrize("variant", [Variant(), Variant(branches=True, one_ranking=True), Variant("taylor", branches=True)])
def test_torch_pruning_and_repair_agree_on_the_channels(variant: Variant) -> None:
    pytest.importorskip("torch_pruning", reason="Torch-Pruning is not installed: pip install torch-pruning")
    module, images = build("resnet20").eval(), noise(32)
    removed = dependency_graph.prune(module, 0.4, variant, images)
    assert count_macs(removed.module) <= 0.4 * count_macs(module)
    graph = tersor.transform(accuracy.trace(module), "fold-bn")
    small = dependency_graph.repaired(graph, removed, [images.normalized()], 0)
    theirs = tersor.transform(accuracy.trace(removed.module), "fold-bn")
    assert {op.loc.path: op.w.shape for op in small.find(Conv2d)} == {op.loc.path: op.w.shape for op in theirs.find(Conv2d)}
    stream = next(op for op in small.find(Conv2d) if op.loc.path == "features.0.0")
    assert (stream.w.shape[0] == 16) == variant.branches


# -- the harness -------------------------------------------------------------------------------


def test_runs_are_distinct() -> None:
    every = list(runs())
    assert len({r.key for r in every}) == len({r.file for r in every}) == len(every)


@pytest.mark.slow
def test_harness_on_random_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(accuracy, "fashion_mnist", lambda part: noise(128))
    asked = [
        Run("mobilenet", "original", "original", 1.0, 0, "default"),
        Run("mobilenet", "curve", "l1", 0.5, 0, "fold-bn,prune-channels{macs=0.5 method=l1 per_layer=uniform}", images=4),
        Run("mobilenet", "scratch", "trained at that size", 0.5, 0, "default"),
    ]
    monkeypatch.setattr(accuracy, "runs", lambda macs, seeds: asked)
    monkeypatch.setattr(sys, "argv", ["accuracy", "--networks", "mobilenet", "--out", str(tmp_path)])
    with pytest.raises(
        SystemExit, match=r"3 of 3 runs failed, so no table is written:\n  SystemExit: not trained: python -m tersor.bench.train mobil"
    ):
        accuracy.main()
    train.save(Recipe("mobilenet"), build("mobilenet"), 0.0)
    with pytest.raises(SystemExit, match=r"1 of 3 runs failed, so no table is written:\n  .* mobilenet --macs 0.5 --seed 0$"):
        accuracy.main()
    assert not (tmp_path / "accuracy.md").exists()
    rows = {r["key"]: r for r in json.loads((tmp_path / "accuracy.json").read_text())["rows"]}
    original, pruned, scratch = (rows[r.key] for r in asked)
    images = noise(100)  # whole batches of the 128
    with torch.no_grad():
        y = build("mobilenet").eval()(noise(128).normalized())[:100]
    assert original["top1"] == pytest.approx(100 * float((y.argmax(1) == noise(128).labels[: len(images)]).double().mean()))
    assert original["share"] == 1 and 0.4 < pruned["share"] <= 0.5
    assert any("Give at least" in w for w in pruned["warnings"])
    assert scratch["failed"] == "SystemExit: not trained: python -m tersor.bench.train mobilenet --macs 0.5 --seed 0"

    # what is there is not run again, what failed is; another definition of a run makes it another run
    capsys.readouterr()
    monkeypatch.setattr(accuracy, "trained", lambda recipe: (build(recipe.network, recipe.macs).eval(), 0.0))
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--train"])
    accuracy.main()
    out = capsys.readouterr().out
    assert "mobilenet/scratch" in out and "mobilenet/curve" not in out and "mobilenet/original" not in out

    monkeypatch.setattr(sys, "argv", [*sys.argv[:-1], "--latency", "--rounds", "2"])
    accuracy.main()
    rows = {r["key"]: r for r in json.loads((tmp_path / "accuracy.json").read_text())["rows"]}
    assert rows[asked[0].key]["faster"] == 1 and rows[asked[1].key]["ms"] > 0
    text = (tmp_path / "accuracy.md").read_text()
    assert "| trained at that size | 50% |" in text and "failed" not in text
    assert (tmp_path / "accuracy-mobilenet.png").read_bytes().startswith(b"\x89PNG")


def test_train_reaches_every_network_that_the_tables_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """The full-size networks, those of other pruners, and those trained at a smaller size: on a fresh machine nothing is in the cache."""

    class Asked(Exception):
        pass

    def trained(recipe: Recipe) -> None:
        raise Asked(recipe)

    monkeypatch.setattr(accuracy, "trained", trained)
    monkeypatch.setattr(accuracy, "fashion_mnist", lambda part: noise(64))
    original = tersor.trace(build("mobilenet").eval(), (torch.zeros(1, 1, 28, 28),))
    for run in (r for r in runs() if r.network in NETWORKS):
        with pytest.raises(Asked, match=f"network='{run.network}', macs=1.0"):
            accuracy.execute(run, train=True)
        if run.group == "scratch" or run.variant is not None:
            size = run.macs if run.group == "scratch" else 1.0
            with pytest.raises(Asked, match=f"network='{run.network}', macs={size}"):
                accuracy.made(run, original, [], train=True)


def test_report_is_mean_and_spread_over_seeds() -> None:
    def row(group: str, macs: float, seed: int, **more: object) -> dict[str, object]:
        return {"run": {"network": "vgg", "group": group, "label": "lasso", "macs": macs}, "macs": 5e6, "share": macs, "top1": 90.0} | more

    rows = [row("original", 1.0, 0), row("curve", 0.5, 0, top1=88.0, faster=1.9), row("curve", 0.5, 1, top1=89.0)]
    text = markdown([*rows, {"run": {"network": "vgg", "group": "curve", "label": "lasso", "macs": 0.5}, "failed": "why not"}])
    assert "Original: 5.00 M MACs, top-1 90.00 %." in text
    assert "| lasso | 50% | 50.0% | 88.50 (88.00 to 89.00) | 1.50 | 2, 1 failed: why not | 1.90x |" in text
