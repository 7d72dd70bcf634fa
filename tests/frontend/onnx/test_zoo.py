"""torch -> Tersor -> ONNX -> onnxruntime on the networks of the suite, f32 and int8, and back: load(export(g)) equals g."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import integer_zoo
import numpy as np
import onnx
import pytest
import torch
from onnx_cases import assert_equal, results_of, run_optimized, run_ort
from sampling import some
from torch import nn
from zoo import ZOO, built, leaves, traced, with_batch

import tersor
from tersor.bench import models
from tersor.ir.evaluate import evaluate, to_numpy
from tersor.ir.graph import Graph

#: Rounded before sums, 7-bit weights: what onnxruntime runs on integers, without saturation on any processor.
QDQ = "default,quantize{sums=rounded weights=s7},to-integer,canonicalize"


def eager(module: nn.Module, inputs: tuple[torch.Tensor, ...], dtype: torch.dtype) -> list[np.ndarray]:
    """The module's results computed in another float type, floats as f32."""
    wide = tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)
    try:
        with torch.no_grad():
            return [(y.float() if y.is_floating_point() else y).numpy() for y in leaves(module.to(dtype)(*wide))]
    finally:
        module.float()


def flat(graph: Graph, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The outputs in order, without the structure that the module gives them."""
    with torch.no_grad():
        return [to_numpy(y) for y in evaluate(graph, [torch.from_numpy(a) for a in arrays])]


def rounding(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """The largest difference over the largest value."""
    return max(float(np.abs(x - y).max() / np.abs(y).max()) for x, y in zip(a, b))


@pytest.mark.parametrize("name", some(list(ZOO), 3))
def test_float_networks(name: str, tmp_path: Path) -> None:
    """onnxruntime on the exported file gives what the module gives in float64, as far as f32 goes; the file read back is the same function."""
    graph = traced(name)
    graph.to_onnx(tmp_path / "m.onnx")
    back = tersor.load(tmp_path / "m.onnx")
    assert back.batched == graph.batched
    for batch in (1, 3):
        inputs = with_batch(built(name)[1], batch)
        arrays = [x.numpy() for x in inputs]
        exact, single = (eager(built(name)[0], inputs, dtype) for dtype in (torch.float64, torch.float32))
        assert_equal(run_ort(tmp_path / "m.onnx", arrays), exact, max(1e-5, 4 * rounding(single, exact)))
        assert_equal(results_of(back, arrays), flat(graph.at(batch), arrays), 1e-6)


def operators(graph: Graph) -> list[str]:
    return [op.name for op in graph if op.name != "nn.constant"]


def integer_graph(name: str) -> Graph:
    build, _ = integer_zoo.NETWORKS[name]
    torch.manual_seed(0)
    module = models.randomize(build(), (integer_zoo.images(name, 8, 1),))
    return tersor.transform(tersor.trace(module, (integer_zoo.images(name, 1, 0),)), QDQ, calibration=[integer_zoo.images(name, 4, 1)])


def check_integer(name: str, folder: Path) -> tuple[Any, Any]:
    """Export, run and read back; the report, and the operators of onnxruntime's optimized graph."""
    graph = integer_graph(name)
    report = graph.to_onnx(folder / "m.onnx")
    onnx.checker.check_model(onnx.load(folder / "m.onnx"), full_check=True)
    x = integer_zoo.images(name, 3, 5)
    wanted = graph(x).numpy()
    result, found = run_optimized(folder / "m.onnx", x.numpy())
    # a tie that rounds the other way early in a network moves what follows by steps, also between onnxruntime's own two results; so not every image
    rest = tuple(range(1, wanted.ndim))
    assert np.median(np.square(result - wanted).sum(rest) / np.square(wanted).sum(rest)) < 2e-3
    back = tersor.transform(tersor.load(folder / "m.onnx"), "to-integer,canonicalize")
    assert operators(back) == operators(graph)
    assert torch.equal(back(x), graph(x))
    return report, found


@pytest.mark.parametrize("name", some(["mobilenetv2", "resnet18", "shufflenetv2"], 3))
def test_every_convolution_runs_on_integers_in_onnxruntime(name: str, tmp_path: Path) -> None:
    report, found = check_integer(name, tmp_path)
    assert report.floats == []
    assert found["QLinearConv"] == sum(row.op == "quant.conv2d" for row in report) > 0
    assert found["Conv"] + found["FusedConv"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in integer_zoo.NETWORKS if n not in ("mobilenetv2", "resnet18", "shufflenetv2")])
def test_integer_networks(name: str, tmp_path: Path) -> None:
    """What the report calls float is float there, and nothing else."""
    report, found = check_integer(name, tmp_path)
    convolutions = [row for row in report if row.op.endswith("conv2d")]
    assert found["QLinearConv"] == sum(not row.reason for row in convolutions)
