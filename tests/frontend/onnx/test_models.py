"""Trained ONNX models that packages carry, of four exporters and opsets 11 to 15: loaded, folded, compiled and quantized, against onnxruntime."""

from __future__ import annotations

import functools
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx_cases import assert_equal, results_of, run_ort
from onnx_layers import roundings

import tersor
from tersor.bench.onnx_models import onnxruntime_results, quantized
from tersor.bench.onnx_zoo import MODELS, Model
from tersor.ir.evaluate import evaluate
from tersor.passes import Precision

#: Those of the packages that `make test` installs, at small sizes.
SMALL = {
    "mtcnn pnet": (1, 48, 40, 3),
    "mtcnn rnet": (1, 24, 24, 3),
    "mtcnn onet": (1, 48, 48, 3),
    "text direction": (1, 3, 48, 192),
    "page orientation": (1, 3, 224, 224),
    "text recognition v4": (1, 3, 48, 96),
    "text detection v4": (1, 3, 64, 96),
}
#: Its last sigmoid is so steep that no two programs agree to 1e-5 in f32; onnxruntime's own distance from float64 is the measure.
STEEP = {"text detection v4"}


def model(name: str) -> Model:
    return replace(MODELS[name], shape=SMALL[name])


def path_of(name: str) -> Path:
    path = MODELS[name].path()
    assert path is not None, f"{MODELS[name].distribution} is not installed: run make test"
    return path


@functools.cache
def load(name: str) -> tersor.Graph:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph = tersor.load(path_of(name), shapes=[SMALL[name]])
    assert graph.batched == {graph.inputs[0].name}
    return graph


def image(name: str, batch: int) -> np.ndarray:
    return model(name).images(batch, seed=batch)


def exact(graph: tersor.Graph, x: np.ndarray) -> list[np.ndarray]:
    """The interpreter's results in float64, rounded once."""
    with torch.no_grad():
        return [y.float().numpy() for y in evaluate(graph.at(len(x)), [torch.from_numpy(x)], dtype=torch.float64)]


def check(name: str, x: np.ndarray, got: list[np.ndarray]) -> None:
    """Within 1e-5 of onnxruntime's results; of a steep function, as near to float64 as onnxruntime is, or four times as far."""
    theirs = run_ort(path_of(name), [x])
    if name not in STEEP:
        assert_equal(got, theirs, 1e-5)
        return
    wanted = exact(load(name), x)
    assert_equal(got, wanted, 4 * max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(theirs, wanted)))


@pytest.mark.parametrize("name", SMALL)
def test_onnxruntime_agrees(name: str) -> None:
    x = image(name, 2)
    check(name, x, results_of(load(name), [x]))


def test_what_paddle_writes_out_gets_its_names() -> None:
    small = tersor.transform(load("text recognition v4"), "default")
    counts = {kind: len(small.find(kind)) for kind in ("nn.hard_swish", "nn.layer_norm", "nn.silu", "nn.batch_norm", "nn.div", "nn.pow")}
    assert counts == {"nn.hard_swish": 28, "nn.layer_norm": 5, "nn.silu": 7, "nn.batch_norm": 0, "nn.div": 0, "nn.pow": 0}


def test_compiled() -> None:
    run_compiled("mtcnn rnet")


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SMALL if n != "mtcnn rnet"])
def test_compiled_larger(name: str) -> None:
    run_compiled(name)


def run_compiled(name: str) -> None:
    graph = load(name)
    exe = tersor.compile(graph, threads=1, batch=[1, 3])
    for batch in (1, 3):
        x = image(name, batch)
        result = exe(x)
        check(name, x, list(result) if isinstance(result, tuple) else [result])


@pytest.mark.parametrize("name", ["text direction", "mtcnn onet"])
def test_exported_again(name: str, tmp_path: Path) -> None:
    """load(export(g)) equals g, and so does onnxruntime on the exported file."""
    small = tersor.transform(load(name), "default")
    small.to_onnx(tmp_path / "m.onnx")
    x = image(name, 2)
    wanted = results_of(small, [x])
    assert_equal(run_ort(tmp_path / "m.onnx", [x]), wanted, 1e-5)
    assert_equal(results_of(tersor.load(tmp_path / "m.onnx"), [x]), wanted, 1e-5)


# -- quantized by onnxruntime ------------------------------------------------------------------


@pytest.mark.parametrize("form", ["qdq", "operators"])
def test_quantized(form: str, tmp_path: Path) -> None:
    run_quantized("mtcnn rnet", form, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["qdq", "operators"])
@pytest.mark.parametrize("name", [n for n in SMALL if n != "mtcnn rnet"])
def test_quantized_larger(name: str, form: str, tmp_path: Path) -> None:
    run_quantized(name, form, tmp_path)


def run_quantized(name: str, form: str, folder: Path) -> None:
    """Every rounding is onnxruntime's, or one step away on a tie; the integer operators are what is compiled, bit for bit."""
    path = quantized(model(name), folder / "m.onnx", form)
    x = image(name, 1)
    graph = tersor.load(path, shapes=[x.shape])
    integer = tersor.transform(graph, "to-integer")
    assert Precision.of(integer).macs("int8") > 0.9 * integer.macs()
    for each in (graph, integer):
        found = roundings(path, each, x)
        assert len(found) >= 9
        assert max(steps for steps, _ in found.values()) <= 1
        # sums of two tensors of like scales and means of few integers are often ties, all else hardly ever
        assert np.mean([share for _, share in found.values()]) < 5e-3
    got = leaves(tersor.compile(graph, threads=1)(x))
    np.testing.assert_array_equal(np.asarray(got[0]), np.asarray(leaves(integer(x))[0]))
    # layer norms are computed in floats between the integers
    if form == "qdq" and not integer.find("nn.layer_norm"):
        for mine, its in zip(got, onnxruntime_results(path, x, optimized=True), strict=True):
            np.testing.assert_array_equal(np.asarray(mine), its)


def leaves(result: object) -> list[np.ndarray]:
    return [np.asarray(y) for y in (result if isinstance(result, tuple) else [result])]
