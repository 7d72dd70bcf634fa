"""`tersor opt --train`: images from folders and Fashion-MNIST, what it writes, and what it refuses."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from train_cases import CLASSES, graph, same, shapes

import tersor
from tersor.passes.train.images import FASHION_MNIST, ImageFolder, fashion_mnist

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command line in a folder that holds m.tersor; gives its exit code and what it wrote."""
    from tersor.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    graph().save("m.tersor")

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tersor", *args])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        return code, *capsys.readouterr()

    return run


def write_images(folder: Path, count: int = 160) -> tuple[torch.Tensor, torch.Tensor]:
    """Shapes as PNG files, a folder for each class, in the order of the files; u8 (N, 1, 12, 12) and labels."""
    images, labels = shapes(count)
    pixels = ((images + 2) * 50).clamp(0, 255).round().to(torch.uint8)
    order = labels.argsort(stable=True)
    for i, k in enumerate(order.tolist()):
        path = folder / f"class {labels[k]}" / f"{i:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[k, 0].numpy()).save(path)
    (folder / "class 0" / "notes.txt").write_text("not an image")
    return pixels[order], labels[order]


def test_folders_are_trained_on(cli: Cli) -> None:
    pixels, labels = write_images(Path("data"))
    images = ["--train", "data", "--test", "data", "--mean", "0.4", "--std", "0.2"]
    code, out, err = cli("opt", "m.tersor", "-p", "ternarize,finetune{epochs=6 lr=0.01 distill_weight=0.3}", "-o", "s.tersor", "--json", *images)
    assert code == 0 and not err, err
    rows = json.loads(out)
    assert rows[2]["accuracy"] > 0.9 > rows[0]["accuracy"]
    assert [e["epoch"] for e in rows[2]["layers"]] == [1, 2, 3, 4, 5, 6]
    x = (pixels.float() / 255 - 0.4) / 0.2
    small = tersor.load("s.tersor")
    assert float((small(x).argmax(1) == labels).double().mean()) == pytest.approx(rows[2]["accuracy"])
    expected = tersor.transform(graph(), "ternarize,finetune{epochs=6 lr=0.01 distill_weight=0.3}", train=(x, labels))
    assert same(small, expected)


def test_a_network_that_takes_bytes(cli: Cli) -> None:
    """--image-input: calibrated and evaluated on the files' bytes; what it gives is what the network gives for normalized images."""
    pixels, labels = write_images(Path("data"), 40)
    images = ["--calibration", "data", "--test", "data", "--mean", "0.4", "--std", "0.2"]
    code, out, err = cli("opt", "m.tersor", "-p", "int8", "-o", "s.tersor", "--image-input", "--json", *images)
    assert code == 0 and not err, err
    small = tersor.load("s.tersor")
    assert str(small.inputs[0].type.elem) == "u8"
    x = pixels.byte().permute(0, 2, 3, 1)
    y, z = small(x), graph()((pixels.float() / 255 - 0.4) / 0.2)
    assert (y - z).square().sum() < 1e-2 * z.square().sum()
    measured = [row["accuracy"] for row in json.loads(out) if row["accuracy"] is not None]
    assert float((y.argmax(1) == labels).double().mean()) == pytest.approx(measured[-1])
    code, _, err = cli("opt", "s.tersor", "-p", "canonicalize", "-o", "t.tersor", *images)
    assert code == 1 and "takes bytes, and its mean and std are in the network" in err
    code, _, err = cli("opt", "m.tersor", "-p", "canonicalize", "-o", "t.tersor", "--image-input")
    assert code == 1 and "--image-input needs --mean and --std" in err


def test_an_image_is_resized_cut_and_normalized(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a" / "x.png")
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    expected = (pixels / 255 - mean) / std
    (whole, label), *_ = [ImageFolder(tmp_path, (3, 20, 30), mean, std)[0]]
    assert label == 0 and whole.dtype == torch.float32
    np.testing.assert_allclose(whole.permute(1, 2, 0), expected, rtol=1e-5, atol=1e-6)
    middle = ImageFolder(tmp_path, (3, 10, 12), mean, std, resize=20)[0][0]
    np.testing.assert_allclose(middle.permute(1, 2, 0), expected[5:15, 9:21], rtol=1e-5, atol=1e-6)
    # shrunk by two: the shorter side becomes the crop; the mean brightness stays
    half = ImageFolder(tmp_path, (1, 10, 10), [0.0], [1.0])[0][0]
    grey = pixels @ [0.299, 0.587, 0.114] / 255
    assert half.shape == (1, 10, 10)
    assert float(half.mean()) == pytest.approx(grey[:, 5:25].mean(), abs=0.02)


def test_batches_of_a_folder_are_read_when_they_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path, 40)
    images = ImageFolder(tmp_path, (1, 12, 12), [0.4], [0.2], labels=False)
    batches, read = images.batches(16), []
    fetch = ImageFolder.__getitem__
    monkeypatch.setattr(ImageFolder, "__getitem__", lambda self, i: read.append(i) or fetch(self, i))
    assert [len(x) for x in batches] == [16, 16, 8] and len(images.batches(16, whole=True)) == 2
    assert torch.equal(batches[-1], batches[2]) and [len(x) for x in batches[1:]] == [16, 8]
    read.clear()
    small = tersor.transform(graph(), "default,quantize{samples=16},to-integer", calibration=batches)
    assert small.find("quant.conv2d") and max(read) == 15
    with pytest.raises(IndexError):
        batches[3]


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="Fashion-MNIST is not there: apt-get install dataset-fashion-mnist")
def test_fashion_mnist_is_normalized(cli: Cli) -> None:
    x, y = fashion_mnist("t10k")
    assert x.shape == (10000, 1, 28, 28) and (torch.bincount(y) == 1000).all()
    assert abs(float(x.mean())) < 0.02 and float(x.std()) == pytest.approx(1, abs=0.02)
    code, _, err = cli("opt", "m.tersor", "-p", "finetune", "--train", "fashion-mnist", "-o", "s.tersor")
    assert code == 1 and "fashion-mnist is 1x28x28, and the input 'input' of the graph is 1x12x12" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "needs training data"),
        (["--train", "nowhere", "--mean", "0", "--std", "1"], "there is no folder nowhere; expected one with a sub-folder of images for each class"),
        (["--train", "empty", "--mean", "0", "--std", "1"], "empty holds no images in sub-folders: expected empty/CLASS/IMAGE"),
        (["--train", "data"], "need --mean and --std, the numbers that the network was trained with"),
        (["--train", "data", "--mean", "half", "--std", "1"], "--mean expects numbers such as 0.485,0.456,0.406, got 'half'"),
        (["--train", "data", "--mean", "0,0", "--std", "1"], "mean needs one number, or one for each of 1 channels, got 2"),
        (["--train", "data", "--mean", "0", "--std", "1", "--size", "8"], "images resized to 8 cannot be cut to 12x12: expected 12 at least"),
        (["--train", "broken", "--mean", "0", "--std", "1"], "x.png is not an image that Pillow reads"),
        (["--train", "more", "--mean", "0", "--std", "1"], f"labels must be from 0 to {CLASSES - 1}, for the graph gives 4 logits; got "),
    ],
)
def test_mistakes_are_one_line(cli: Cli, args: list[str], message: str) -> None:
    Path("empty/a").mkdir(parents=True)
    Path("broken/a").mkdir(parents=True)
    Path("broken/a/x.png").write_text("text")
    write_images(Path("data"), 8)
    for i in range(6):
        Path(f"more/{i}").mkdir(parents=True)
        Image.new("L", (12, 12)).save(f"more/{i}/x.png")
    code, _, err = cli("opt", "m.tersor", "-p", "finetune", "-o", "s.tersor", *args)
    assert code == 1 and err.count("error: ") == 1 and message in err, err
    assert not Path("s.tersor").exists()


def test_only_the_first_process_writes(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    code, out, _ = cli("opt", "m.tersor", "-p", "canonicalize", "-o", "s.tersor")
    assert code == 0 and not out and not Path("s.tersor").exists()
