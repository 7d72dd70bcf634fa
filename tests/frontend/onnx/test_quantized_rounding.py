"""Every quantized operator of ONNX and onnxruntime rounds as onnxruntime's own kernel does: equal, for scales that make ties and for others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_cases import results_of, run_ort
from onnx_made import model

import tersor
from tersor.frontend.onnx import load_onnx
from tersor.frontend.onnx.export.save import to_model
from tersor.ir.graph import remapped

SHAPE = (1, 3, 6, 8)
#: Name -> (domain, operands with a scale and a zero point each, their shapes, attributes); an operand of shape None is the input.
OPERATORS: dict[str, tuple[str, Sequence[Any], dict[str, Any]]] = {
    "QLinearAdd": ("com.microsoft", (None, (3, 6, 8)), {}),
    "QLinearAdd of one number": ("com.microsoft", (None, ()), {}),
    "QLinearAdd to one number": ("com.microsoft", ((), None), {}),
    "QLinearAdd of channels": ("com.microsoft", (None, (3, 1, 1)), {}),
    "QLinearAdd of rows": ("com.microsoft", (None, (8,)), {}),
    "QLinearMul": ("com.microsoft", (None, (3, 6, 8)), {}),
    "QLinearMul of channels": ("com.microsoft", (None, (3, 1, 1)), {}),
    "QLinearGlobalAveragePool": ("com.microsoft", (None,), {}),
    "QLinearAveragePool": ("com.microsoft", (None,), {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1], "count_include_pad": 1}),
    "QLinearSigmoid": ("com.microsoft", (None,), {}),
    "QLinearLeakyRelu": ("com.microsoft", (None,), {"alpha": 0.1}),
    "QLinearSoftmax": ("com.microsoft", (None,), {"axis": -1, "opset": 13}),
    "QLinearConv": ("", (None, (4, 3, 3, 3)), {}),
    "QLinearMatMul": ("", (None, (8, 5)), {}),
}


def quantized(operator: str, elem: Any, seed: int) -> Any:
    """A model of one operator between QuantizeLinear and DequantizeLinear. Every third has scales of which ties come."""
    domain, shapes, attributes = OPERATORS[operator]
    rng = np.random.default_rng(seed)
    low, high = np.iinfo(elem).min, np.iinfo(elem).max
    constants: dict[str, np.ndarray] = {}

    def number(name: str, array: Any) -> str:
        constants[name] = np.asarray(array)
        return name

    common = np.float32(rng.uniform(0.01, 0.05))

    def parameters(name: str) -> tuple[str, str]:
        scale = common * np.float32(rng.choice([0.5, 1, 2])) if seed % 3 == 0 else np.float32(rng.uniform(0.004, 0.06))
        return number(f"{name}_s", scale), number(f"{name}_z", elem(rng.integers(low, high + 1)))

    x_scale, x_zero = parameters("x")
    operands: list[str] = []
    for i, shape in enumerate(shapes):
        if shape is None:
            operands += ["q", x_scale, x_zero]
        elif operator.startswith(("QLinearConv", "QLinearMatMul")):
            scale = rng.uniform(0.001, 0.02, shape[0]) if operator == "QLinearConv" else rng.uniform(0.001, 0.02)
            operands += [number("w", rng.integers(-64, 65, shape).astype(np.int8)), number("w_s", np.asarray(scale, np.float32))]
            operands += [number("w_z", np.zeros(np.shape(scale), np.int8))]
        else:
            operands += [number(f"c{i}", rng.integers(low, high + 1, shape).astype(elem)), *parameters(f"c{i}")]
    result = parameters("y")
    bias = [number("b", rng.integers(-3000, 3000, 4).astype(np.int32))] if operator == "QLinearConv" else []
    nodes = [
        helper.make_node("QuantizeLinear", ["x", x_scale, x_zero], ["q"]),
        helper.make_node(operator.split()[0], [*operands, *result, *bias], ["r"], domain=domain, **attributes),
        helper.make_node("DequantizeLinear", ["r", *result], ["y"]),
    ]
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return model(nodes, {"x": SHAPE}, ["y"], constants, opset_imports=imports)


def data(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-8, 8, SHAPE).astype(np.float32)


@pytest.mark.parametrize("operator", OPERATORS)
def test_as_onnxruntime_rounds(operator: str) -> None:
    for seed in range(6):
        proto = quantized(operator, (np.uint8, np.int8)[seed % 2], seed)
        integer = tersor.transform(load_onnx(proto), "to-integer")
        assert not [op.name for op in integer if op.name.startswith("nn.") and op.name != "nn.constant"]
        np.testing.assert_array_equal(results_of(integer, [data(seed)])[0], run_ort(proto, [data(seed)])[0], err_msg=str(seed))


@pytest.mark.parametrize("target", ["cpu", "cpu:x86-64-v3"])
def test_compiled(target: str) -> None:
    """One graph of all operators that have an arithmetic of their own; interpreter and kernels give the same bits."""
    wanted, outputs, graph = [], [], tersor.Graph()
    x = graph.add_input(tersor.Tensor(SHAPE), "x")
    for seed, operator in enumerate(
        ["QLinearAdd", "QLinearAdd of one number", "QLinearAdd of channels", "QLinearMul", "QLinearConv", "QLinearSoftmax", "QLinearAveragePool"]
    ):
        one = tersor.transform(load_onnx(quantized(operator, np.uint8, 3 * seed)), "to-integer")
        wanted.append(results_of(one, [data(0)])[0])
        to = {one.inputs[0]: x}
        for op in one.ops:
            to[op.out] = graph.add(remapped(op, to))
        outputs.append(to[one.outputs[0]])
    graph.set_outputs(outputs)
    for got, exact in zip(tersor.compile(graph, target=target, threads=1)(data(0)), wanted, strict=True):
        np.testing.assert_array_equal(got, exact)


def test_quantize_linear_divides() -> None:
    """Numbers halfway between two integers, which a product with the reciprocal rounds otherwise."""
    scale = np.float32(0.0123)
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]), helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    proto = model(nodes, {"x": [1, 200]}, ["y"], {"s": scale, "z": np.uint8(100)})
    x = ((np.arange(-100, 100) + 0.5) * scale).astype(np.float32).reshape(1, 200)
    graph, (wanted,) = load_onnx(proto), run_ort(proto, [x])
    np.testing.assert_array_equal(results_of(graph, [x])[0], wanted)
    np.testing.assert_array_equal(tersor.compile(graph, threads=1)(x), wanted)
    (quantize,) = graph.find("quant.quantize")
    (reciprocal,) = results_of(rounded_by_reciprocal(graph), [x])
    assert quantize.rounding == "onnx" and (reciprocal != wanted).any()


def rounded_by_reciprocal(graph: tersor.Graph) -> tersor.Graph:
    graph = graph.clone()
    for op in list(graph.ops):
        if hasattr(op, "rounding"):
            graph.replace(op, op.rebuilt(rounding="f32"))
    return graph


def test_a_file_that_tersor_wrote_keeps_its_arithmetic() -> None:
    """Both ways: `onnx` is what a file means, and the metadata says where Tersor computed otherwise."""
    proto = quantized("QLinearAdd", np.uint8, 0)
    imported = tersor.transform(load_onnx(proto), "to-integer")
    for graph, rounding in ((imported, "onnx"), (rounded_by_reciprocal(imported), "f32")):
        written = to_model(graph)
        assert [p.value for p in written.metadata_props] == ([] if rounding == "onnx" else ["f32"])
        back = tersor.transform(load_onnx(written), "to-integer")
        assert {op.rounding for op in back if hasattr(op, "rounding")} == {rounding}
        np.testing.assert_array_equal(results_of(back, [data(1)])[0], results_of(graph, [data(1)])[0])


@pytest.mark.parametrize("declared", [TensorProto.UINT8, TensorProto.INT8])
def test_a_requantization_between_types_is_a_table(declared: int) -> None:
    """Q(DQ(x)) divides what was rounded to f32 before: onnxruntime's concat does so too."""
    elem = helper.tensor_dtype_to_np_dtype(declared).type
    parameters = {"a": (0.0123, 7), "b": (0.0246, 20)}
    constants = {f"{n}_{k}": v for n, (s, z) in parameters.items() for k, v in (("s", np.float32(s)), ("z", elem(z)))}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "a_s", "a_z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "a_s", "a_z"], ["d"]),
        helper.make_node("QuantizeLinear", ["d", "b_s", "b_z"], ["r"]),
        helper.make_node("DequantizeLinear", ["r", "b_s", "b_z"], ["y"]),
    ]
    proto = model(nodes, {"x": SHAPE}, ["y"], constants)
    integer = tersor.transform(load_onnx(proto), "to-integer")
    assert integer.find("quant.lookup") and not integer.find("quant.requantize")
    np.testing.assert_array_equal(results_of(integer, [data(2)])[0], run_ort(proto, [data(2)])[0])
