"""Quantized ONNX models: what onnxruntime's quantizer writes runs on integers here, and integers leave as what onnxruntime runs on integers."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx_cases import run_optimized
from onnx_made import N, model
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from quant_networks import images, networks, traced

import tersor
from tersor.frontend.onnx import load_onnx
from tersor.ir.graph import Graph
from tersor.passes import Precision

#: weights of 7 bits, so that onnxruntime does not saturate on processors without VNNI
FORMATS: dict[str, dict[str, Any]] = {
    "qdq": {"quant_format": QuantFormat.QDQ, "per_channel": True, "activation_type": QuantType.QUInt8, "reduce_range": True},
    "qdq s8": {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QInt8, "reduce_range": True},
    "operators": {"quant_format": QuantFormat.QOperator, "per_channel": True, "activation_type": QuantType.QUInt8, "reduce_range": True},
}
#: Share of outputs that may be a step away: means of four integers are often ties, and so few outputs each read many.
SHARE = {"classifier": 0.25}
NETWORKS = ["residual", "concat", "excite", "tables", "classifier"]


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.batches = iter([{"x": images(4, seed).numpy()} for seed in (1, 2)])

    def get_next(self) -> Any:
        return next(self.batches, None)


def quantized_by_onnxruntime(folder: Path, network: str, format: str) -> Path:
    graph = tersor.trace(networks()[network].eval(), (images(1),), input_names=["x"])
    tersor.transform(graph, "default").to_onnx(folder / "float.onnx")
    logging.disable(logging.WARNING)
    try:
        quantize_static(folder / "float.onnx", folder / "int8.onnx", Reader(), weight_type=QuantType.QInt8, **FORMATS[format])
    finally:
        logging.disable(logging.NOTSET)
    return folder / "int8.onnx"


def steps(a: np.ndarray, b: np.ndarray, graph: Graph) -> float:
    """Largest difference in steps of the outputs' type."""
    last = graph.outputs[0].op
    assert last is not None and last.name == "quant.dequantize"
    return float(np.abs(a - b).max() / max(last.operands[0].type.elem.scales))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("network", NETWORKS)
def test_what_onnxruntime_quantized_runs_on_integers(network: str, format: str, tmp_path: Path) -> None:
    """Equal to onnxruntime with its optimizations, which runs the model on integers too."""
    path = quantized_by_onnxruntime(tmp_path, network, format)
    x = images(4, 9).numpy()
    wanted, _ = run_optimized(path, x)
    graph = tersor.load(path)
    integer = tersor.transform(graph, "to-integer") if graph.find("quant.dequantize") else graph
    assert Precision.of(integer).islands == [] and Precision.of(integer).macs("float") == 0
    np.testing.assert_array_equal(integer(x), wanted)
    # with pairs, sums and means are of floats: one step on ties
    assert steps(np.asarray(graph(x)), wanted, integer) <= 1.001
    assert np.mean(np.abs(np.asarray(graph(x)) - wanted) > 1e-6 * np.abs(wanted).max()) <= SHARE.get(network, 0.05)


def test_compiled_on_integers(tmp_path: Path) -> None:
    path = quantized_by_onnxruntime(tmp_path, "excite", "qdq")
    graph = tersor.load(path)
    exe = tersor.compile(graph, threads=1, batch=3, require="int8")
    x = images(3, 9).numpy()
    np.testing.assert_array_equal(exe(x), tersor.transform(graph, "to-integer")(x))


def test_weights_with_a_zero_point_stay_float_and_right(tmp_path: Path) -> None:
    graph = tersor.trace(networks()["chain"].eval(), (images(1),), input_names=["x"])
    tersor.transform(graph, "default").to_onnx(tmp_path / "f.onnx")
    quantize_static(tmp_path / "f.onnx", tmp_path / "q.onnx", Reader(), weight_type=QuantType.QUInt8, activation_type=QuantType.QUInt8)
    x = images(4, 9).numpy()
    wanted, _ = run_optimized(tmp_path / "q.onnx", x)
    integer = tersor.transform(tersor.load(tmp_path / "q.onnx"), "to-integer")
    np.testing.assert_allclose(integer(x), wanted, atol=2e-2 * np.abs(wanted).max())
    assert Precision.of(integer).macs("float") > 0


# -- out ---------------------------------------------------------------------------------------


@functools.cache
def quantized(network: str, pipeline: str) -> Graph:
    return tersor.transform(traced(networks()[network]), pipeline, calibration=[images(16)])


EXPORTED = "default,quantize{sums=rounded weights=s7}"


@pytest.mark.parametrize("form", ["", ",to-integer,canonicalize"], ids=["pairs", "integers"])
@pytest.mark.parametrize("network", [*NETWORKS, "norm in front", "shuffle"])
def test_export(network: str, form: str, tmp_path: Path) -> None:
    """onnxruntime agrees, within a step of what is rounded last, and the model reads back as the same operators and bits."""
    graph = quantized(network, EXPORTED + form)
    report = graph.to_onnx(tmp_path / "m.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "m.onnx"), full_check=True)
    x = images(4, 9)
    wanted = graph(x).numpy()
    result, operators = run_optimized(tmp_path / "m.onnx", x.numpy())
    np.testing.assert_allclose(result, wanted, atol=1e-2 * np.abs(wanted).max())
    assert np.mean(np.abs(result - wanted) > 1e-5 * np.abs(wanted).max()) <= SHARE.get(network, 0.2)
    convolutions = [row for row in report if row.op.endswith("conv2d")]
    assert operators["QLinearConv"] == sum(not row.reason for row in convolutions)
    assert not form or operators["QLinearConv"] >= len(convolutions) - 1
    assert operators["Conv"] + operators["FusedConv"] == sum(bool(row.reason) for row in convolutions)
    back = tersor.transform(tersor.load(tmp_path / "m.onnx"), "to-integer,canonicalize")
    integer = tersor.transform(graph, "to-integer,canonicalize")
    assert [op.name for op in back if op.name != "nn.constant"] == [op.name for op in integer if op.name != "nn.constant"]
    assert torch.equal(back(x), integer(x))


def test_the_report_says_why_a_layer_stays_float(tmp_path: Path) -> None:
    graph = quantized("residual", "default,quantize,to-integer")
    with pytest.warns(UserWarning, match=r"VNNI.*weights=s7"):
        report = graph.to_onnx(tmp_path / "m.onnx")
    _, operators = run_optimized(tmp_path / "m.onnx", images(1).numpy())
    assert [row.reason.split(";")[0] for row in report] == ["", "an add reads its accumulator", "its result is not quantized"]
    assert operators["QLinearConv"] == 1
    assert "1 of 3 layers run on integers" in str(report)


@pytest.mark.parametrize("zero, high, fuses", [(0, 6.0, True), (0, None, True), (3, None, False), (0, 7.0, False)])
def test_relu_in_front_of_a_rounding(zero: int, high: float | None, fuses: bool, tmp_path: Path) -> None:
    """A clamp that the type does not imply stands behind the rounding of an integer convolution; in a graph with pairs it is reported."""
    from tersor.ir import Const, Tensor, Uniform
    from tersor.ir.ops import Clip, Conv2d, Dequantize, Quantize, Relu

    rng = np.random.default_rng(0)
    graph = Graph()
    x = graph.add_input(Tensor((1, 8, 6, 6)), "x")
    to = Uniform("u8", (6 / 255,), (zero,))
    w = Const(rng.integers(-60, 61, (8, 8, 3, 3)).astype(np.int8), Uniform("i8", (0.01,) * 8, (0,) * 8, 0))
    conv = Conv2d(Dequantize(Quantize(x, Uniform("u8", (0.02,), (128,)))), Dequantize(w))
    clamped = Relu(conv) if high is None else Clip(conv, 0.0 if high == 6 else 0.5, high)
    graph.set_outputs([graph.add(Dequantize(Quantize(clamped, to)))])
    data = rng.standard_normal((1, 8, 6, 6)).astype(np.float32)
    wanted = graph(data)
    for form, integer in ((graph, fuses), (tersor.transform(graph, "to-integer"), True)):
        (row,) = form.to_onnx(tmp_path / "m.onnx")
        result, operators = run_optimized(tmp_path / "m.onnx", data)
        assert (operators["QLinearConv"] == 1) == integer == (not row.reason)
        np.testing.assert_allclose(result, wanted, atol=6.001 / 255)


@pytest.mark.parametrize("form", ["pair", "operator"])
def test_a_bias_that_the_accumulator_cannot_take_up_is_added_in_floats(form: str) -> None:
    """onnxruntime's quantizer gives a channel of tiny weights a bias at the end of i32; the sum with it may pass that end."""
    rng = np.random.default_rng(0)
    w = rng.integers(-60, 61, (3, 4, 3, 3)).astype(np.int8)
    bias = np.array([5, -(2**31) + 100, 7], np.int32)
    scales = np.array([0.01, 1e-9, 0.02], np.float32)
    constants = {"xs": np.float32(0.02), "z": np.uint8(128), "w": w, "ws": scales, "wz": np.zeros(3, np.int8), "b": bias}
    constants |= {"bs": scales * np.float32(0.02), "bz": np.zeros(3, np.int32), "ys": np.float32(0.03)}
    quantized_x = N("QuantizeLinear", ["x", "xs", "z"], ["q"])
    if form == "pair":
        layer = [
            N("DequantizeLinear", ["q", "xs", "z"], ["dx"]),
            N("DequantizeLinear", ["w", "ws", "wz"], ["dw"], axis=0),
            N("DequantizeLinear", ["b", "bs", "bz"], ["db"], axis=0),
            N("Conv", ["dx", "dw", "db"], ["c"]),
            N("QuantizeLinear", ["c", "ys", "z"], ["r"]),
        ]
    else:
        layer = [N("QLinearConv", ["q", "xs", "z", "w", "ws", "wz", "ys", "z", "b"], ["r"])]
    proto = model([quantized_x, *layer, N("DequantizeLinear", ["r", "ys", "z"], ["y"])], {"x": [1, 4, 6, 6]}, ["y"], constants)
    graph = load_onnx(proto)
    x = rng.standard_normal((1, 4, 6, 6)).astype(np.float32)
    real = (np.clip(np.rint(x / np.float32(0.02)) + 128, 0, 255) - 128) * 0.02
    expected = F.conv2d(torch.from_numpy(real).double(), torch.from_numpy(w * scales[:, None, None, None].astype(np.float64)))
    expected = expected + torch.from_numpy(bias * scales.astype(np.float64) * 0.02).reshape(3, 1, 1)
    steps = (np.clip(np.rint(expected.numpy() / 0.03) + 128, 0, 255) - 128) * np.float32(0.03)
    for each in (graph, tersor.transform(graph, "to-integer"), tersor.compile(graph, threads=1, require="int8")):
        np.testing.assert_allclose(np.asarray(each(x)), steps, atol=0.031 * (np.abs(steps - expected.numpy()) > 0.0149).max())
    assert tersor.transform(graph, "to-integer").find("quant.conv2d")
