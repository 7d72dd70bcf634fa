"""What takes more than one operator of ours: three dimensions of space, places of maxima, sampling; tensors without elements."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from onnx_cases import assert_equal, inputs_for, results_of, run_ort
from onnx_made import N, check, model, weights
from sampling import some

import tersor
from tersor.frontend.onnx import load_onnx


def volume(node: Any, w: np.ndarray, b: np.ndarray | None, shape: tuple[int, ...] = (4, 5, 6, 7)) -> Any:
    """A convolution of x (N, *shape)."""
    constants = {"w": w} | ({} if b is None else {"b": b})
    return model([node], {"x": ["N", *shape]}, ["y"], constants)


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], bool, dict[str, Any]]] = {
    "plain": ((6, 4, 3, 2, 3), True, {}),
    "strides and uneven pads": ((6, 4, 3, 3, 2), False, {"strides": [2, 1, 2], "pads": [1, 0, 2, 0, 1, 1]}),
    "dilated, grouped": ((6, 2, 2, 2, 2), True, {"dilations": [2, 1, 3], "group": 2, "pads": [1, 1, 1, 1, 1, 1]}),
    "depthwise": ((8, 1, 3, 3, 3), True, {"group": 4, "auto_pad": "SAME_UPPER", "strides": [2, 2, 1]}),
    "one slice deep": ((3, 4, 1, 1, 1), True, {"strides": [3, 1, 1]}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv_over_three_dimensions(name: str) -> None:
    """onnxruntime's result at every batch."""
    shape, biased, attributes = CONVOLUTIONS[name]
    b = weights(shape[0], seed=2) if biased else None
    check(volume(N("Conv", ["x", "w", "b"][: 2 + biased], ["y"], kernel_shape=shape[2:], **attributes), weights(*shape), b))


TRANSPOSED: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "plain": ((4, 3, 2, 3, 2), {}),
    "strides and padding": ((4, 3, 3, 3, 3), {"strides": [2, 1, 3], "pads": [1, 0, 1, 1, 0, 1], "output_padding": [1, 0, 2]}),
    "dilated, grouped, uneven": ((4, 2, 3, 2, 2), {"dilations": [2, 1, 1], "group": 2, "pads": [1, 0, 1, 0, 1, 0], "strides": [1, 2, 1]}),
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_conv_over_three_dimensions(name: str) -> None:
    shape, attributes = TRANSPOSED[name]
    out = shape[1] * attributes.get("group", 1)
    check(volume(N("ConvTranspose", ["x", "w", "b"], ["y"], kernel_shape=shape[2:], **attributes), weights(*shape), weights(out, seed=2)))


@pytest.mark.parametrize(
    "kind, shape, options", [("Conv", (6, 2, 3, 3, 3), {"group": 2}), ("ConvTranspose", (4, 3, 2, 2, 2), {"strides": [2, 2, 2]})]
)
def test_volumes_against_torch_compiled(kind: str, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    w = weights(*shape)
    graph = load_onnx(volume(N(kind, ["x", "w"], ["y"], **options), w, None))
    x = np.random.default_rng(3).standard_normal((2, 4, 5, 6, 7)).astype(np.float32)
    wide = torch.from_numpy(x).double(), torch.from_numpy(w).double()
    y = F.conv3d(*wide, groups=2) if kind == "Conv" else F.conv_transpose3d(*wide, stride=2)
    assert_equal([np.asarray(tersor.compile(graph, threads=1, batch=2)(x))], [y.float().numpy()], 1e-5)


POOLS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "plain": ((2, 3, 7, 6), {"kernel_shape": [2, 3]}),
    "pads and strides": ((2, 3, 7, 6), {"kernel_shape": [3, 3], "pads": [1, 1, 0, 1], "strides": [2, 3]}),
    "dilated, rounded up": ((1, 2, 8, 9), {"kernel_shape": [2, 2], "dilations": [2, 3], "strides": [3, 2], "ceil_mode": 1}),
    "columns first": ((2, 2, 5, 4), {"kernel_shape": [2, 2], "storage_order": 1}),
    "one dimension": ((2, 3, 9), {"kernel_shape": [3], "pads": [1, 1], "strides": [2]}),
}


@pytest.mark.parametrize("low", [False, True], ids=["", "far below zero"])
@pytest.mark.parametrize("name", POOLS)
def test_places_of_maxima(name: str, low: bool) -> None:
    """Padding is never a maximum, however low the others are; equal ones count once, the first."""
    shape, attributes = POOLS[name]
    proto = model([N("MaxPool", ["x"], ["y", "places"], **attributes)], {"x": list(shape)}, ["y"])
    proto.graph.output.append(helper.make_tensor_value_info("places", TensorProto.INT64, None))
    graph = load_onnx(proto)
    x = np.random.default_rng(0).integers(0, 4, shape).astype(np.float32) - (1e6 if low else 0)
    wanted = run_ort(proto, [x])
    assert_equal(results_of(graph, [x]), wanted, 0)
    if not low:
        assert_equal(list(tersor.compile(graph, threads=1)(x)), wanted, 0)


def test_a_window_of_padding_alone_is_refused() -> None:
    proto = model([N("MaxPool", ["x"], ["y", "p"], kernel_shape=[1, 1], pads=[1, 1, 1, 1])], {"x": [1, 1, 3, 3]}, ["y", "p"])
    with pytest.raises(tersor.UnsupportedError, match="holds padding alone"):
        load_onnx(proto)


GRIDS = list(itertools.product(("linear", "nearest", "cubic"), ("zeros", "border", "reflection"), (0, 1)))


@pytest.mark.parametrize("mode, padding, corners", GRIDS)
def test_sampling_by_a_grid(mode: str, padding: str, corners: int) -> None:
    """Points inside, at the edges and far outside; the batch stays free."""
    node = N("GridSample", ["x", "grid"], ["y"], mode=mode, padding_mode=padding, align_corners=corners)
    proto = model([node], {"x": ["N", 3, 5, 7], "grid": ["N", 4, 6, 2]}, ["y"])
    graph = load_onnx(proto)
    assert graph.batched == {"x", "grid"}
    for batch in (1, 2):
        x, _ = inputs_for(graph, batch)
        # no point lies halfway between two pixels, where "nearest" is a matter of rounding
        grid = np.random.default_rng(batch).uniform(-2.5, 2.5, (batch, 4, 6, 2)).astype(np.float32)
        assert_equal(results_of(graph, [x, grid]), run_ort(proto, [x, grid]), 1e-5)


@pytest.mark.parametrize("mode, padding, corners", some([("linear", "zeros", 0), ("cubic", "border", 1), ("nearest", "reflection", 0)], 3))
def test_sampling_against_torch_compiled(mode: str, padding: str, corners: int) -> None:
    node = N("GridSample", ["x", "grid"], ["y"], mode=mode, padding_mode=padding, align_corners=corners)
    graph = load_onnx(model([node], {"x": ["N", 3, 5, 7], "grid": ["N", 4, 6, 2]}, ["y"]))
    rng = np.random.default_rng(0)
    x, grid = rng.standard_normal((2, 3, 5, 7)).astype(np.float32), rng.uniform(-0.95, 0.95, (2, 4, 6, 2)).astype(np.float32)
    names = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}
    y = F.grid_sample(torch.from_numpy(x).double(), torch.from_numpy(grid).double(), names[mode], padding, align_corners=bool(corners))
    assert_equal([np.asarray(tersor.compile(graph, threads=1, batch=2)(x, grid))], [y.float().numpy()], 1e-5)


def test_points_that_are_no_numbers_read_inside_the_tensor() -> None:
    node = N("GridSample", ["x", "grid"], ["y"], mode="nearest", padding_mode="border")
    graph = load_onnx(model([node], {"x": [1, 1, 2, 2], "grid": [1, 1, 4, 2]}, ["y"]))
    grid = np.array([[[[np.nan, 0.5], [np.inf, -0.5], [-np.inf, 0.5], [1e30, 0.5]]]], np.float32)
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    (y,) = results_of(graph, [x, grid])
    assert y[0, 0, 0, 1:].tolist() == [1, 2, 3] and y[0, 0, 0, 0] in x


def test_a_tensor_without_elements_is_known_when_the_model_is_loaded() -> None:
    """Zero stands for a free size in some files, so it is given in `shapes`."""
    proto = model([N("ReduceSum", ["x", "axes"], ["y"])], {"x": [2, 0, 3]}, ["y"], {"axes": np.array([1])})
    assert load_onnx(proto, {"x": (2, 4, 3)}).outputs[0].shape == (2, 1, 3)
    graph = load_onnx(proto, {"x": (2, 0, 3)})
    empty = np.empty((2, 0, 3), np.float32)
    for run in (graph, tersor.compile(graph, threads=1)):
        assert_equal([np.asarray(run(empty))], [np.zeros((2, 1, 3), np.float32)], 0)
    with pytest.raises(tersor.TersorError, match="0 for a tensor without elements"):
        load_onnx(proto, {"x": (2, -1, 3)})


@pytest.mark.parametrize("end", [2**31 - 1, 2**63 - 1])
def test_an_open_end_leaves_the_batch_free(end: int) -> None:
    """The largest i32 and i64 both mean the end."""
    constants = {"starts": np.array([0, 1]), "ends": np.array([end, end]), "axes": np.array([0, 1])}
    graph = check(model([N("Slice", ["x", "starts", "ends", "axes"], ["y"])], {"x": ["N", 5]}, ["y"], constants))
    assert graph.batched == {"x"}


# -- places that are computed ------------------------------------------------------------------

#: Operator -> (inputs beside x (4, 5, 3): shape and whether they are places, attributes).
PLACES: dict[str, tuple[dict[str, tuple[int, ...]], dict[str, Any]]] = {
    "GatherND": ({"i": (2, 6, 2)}, {}),
    "GatherND by batch": ({"i": (4, 6, 1)}, {"batch_dims": 1}),
    "GatherElements": ({"i": (2, 7, 3)}, {"axis": 1}),
    "ScatterElements": ({"i": (2, 5, 3), "u": (2, 5, 3)}, {"axis": 0}),
    "ScatterElements add": ({"i": (4, 6, 2), "u": (4, 6, 2)}, {"axis": 1, "reduction": "add"}),
    "ScatterND": ({"i": (3, 1), "u": (3, 5, 3)}, {}),
    "ScatterND max": ({"i": (2, 3, 2), "u": (2, 3, 3)}, {"reduction": "max"}),
}


@pytest.mark.parametrize("known", [False, True], ids=["computed", "known"])
@pytest.mark.parametrize("name", PLACES)
def test_places(name: str, known: bool) -> None:
    """Negative places count from the end; where places repeat, the last counts or they combine in order."""
    more, attributes = PLACES[name]
    operator = name.split()[0]
    size = {"GatherND by batch": 5, "GatherElements": 5, "ScatterElements add": 5}.get(name, 4)
    rng = np.random.default_rng(0)
    i = rng.integers(-size, size, more["i"])
    x, u = rng.standard_normal((4, 5, 3)).astype(np.float32), rng.standard_normal(more.get("u", ())).astype(np.float32)
    proto = model([N(operator, ["x", "i", *(["u"] if "u" in more else [])], ["y"], **attributes)], {"x": [4, 5, 3]}, ["y"], {"i": i} if known else {})
    if not known:
        proto.graph.input.append(helper.make_tensor_value_info("i", TensorProto.INT64, more["i"]))
    if "u" in more:
        proto.graph.input.append(helper.make_tensor_value_info("u", TensorProto.FLOAT, more["u"]))
    given = [x, *([] if known else [i]), *([u] if "u" in more else [])]
    graph = load_onnx(proto)
    wanted = run_ort(proto, given)
    assert_equal(results_of(graph, given), wanted, 1e-6)
    assert_equal([np.asarray(tersor.compile(graph, threads=1)(*given))], wanted, 1e-6)


@pytest.mark.parametrize("exclusive, reverse", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_running_products(exclusive: int, reverse: int) -> None:
    constants = {"axis": np.array(1)}
    proto = model([N("CumProd", ["x", "axis"], ["y"], exclusive=exclusive, reverse=reverse)], {"x": ["N", 4]}, ["y"], constants, opset=26)
    x = np.arange(1, 9, dtype=np.float32).reshape(2, 4)
    ordered = x[:, ::-1] if reverse else x
    y = np.cumprod(ordered, 1)
    y = np.concatenate([np.ones((2, 1)), y[:, :-1]], 1) if exclusive else y
    assert_equal(results_of(load_onnx(proto), [x]), [(y[:, ::-1] if reverse else y).astype(np.float32)], 0)


def test_what_follows_a_gather_or_a_scatter_compiled() -> None:
    """Their kernels take no elementwise operators behind them."""
    nodes = [
        N("GatherElements", ["x", "i"], ["g"], axis=1),
        N("Neg", ["g"], ["n"]),
        N("ScatterElements", ["x", "i", "n"], ["s"], axis=1),
        N("Relu", ["s"], ["y"]),
    ]
    proto = model(nodes, {"x": [4, 5, 3]}, ["n", "y"])
    proto.graph.input.append(helper.make_tensor_value_info("i", TensorProto.INT64, [4, 2, 3]))
    rng = np.random.default_rng(0)
    # places that differ within a line, as a scatter in parallel needs them
    given = [rng.standard_normal((4, 5, 3)).astype(np.float32), rng.permuted(np.tile(np.arange(5)[None, :, None], (4, 1, 3)), axis=1)[:, :2]]
    assert_equal(list(tersor.compile(load_onnx(proto), threads=1)(*given)), run_ort(proto, given), 1e-6)
