"""Quantized graphs: text, file, copies at other batch sizes; operators that only move stored integers; pruning stops at them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from quant_cases import Given, per_tensor, stored

from tersor.ir import Const, Graph, Op, Tensor, TersorError, Value, VerifyError
from tersor.ir import ops as nn
from tersor.ir.evaluate import evaluate, to_torch
from tersor.ir.save import from_bytes, load, read_arrays, to_bytes
from tersor.ir.type_tables import has_products, pack_types, unpack_types
from tersor.ir.types import BitsAffine, Uniform

U8 = per_tensor("u8", 0.05, 17)
MOVES: list[Callable[[Value], Op]] = [
    lambda x: nn.Reshape(x, (2, 8, -1)),
    lambda x: nn.Transpose(x, (0, 2, 3, 1)),
    lambda x: nn.Slice(x, 1, 0, 3, 2),
    lambda x: nn.IndexSelect(x, Const(np.array([3, 0, 0])), 1),
    lambda x: nn.Expand(nn.Slice(x, 2, 0, 1), (-1, -1, 4, -1)),
    lambda x: nn.Pad(x, (0, 0, 0, 0, 1, 2, 0, 1)),
    lambda x: nn.Pad(x, (0, 0, 0, 0, 1, 2, 0, 1), "constant", 0.62),
    lambda x: nn.Pad(x, (0, 0, 0, 0, 1, 0, 0, 1), "reflect"),
    lambda x: nn.MaxPool2d(x, (3, 2), (2, 1), (1, 1, 0, 1)),
    lambda x: nn.AdaptiveMaxPool2d(x, (3, 2)),
    lambda x: nn.Upsample(x, (8, 7)),
    lambda x: nn.PixelShuffle(x, 2),
    lambda x: nn.PixelUnshuffle(x, 2),
    lambda x: nn.ChannelShuffle(x, 2),
    lambda x: nn.ReduceMax(x, (2, 3)),
    lambda x: nn.ReduceMin(x, (1,), True),
    lambda x: nn.Concat([x, x], 1),
]


def network() -> Graph:
    """Every operator of the dialect: a strided stem, a residual block with squeeze and excitation, a transposed convolution, a classifier."""
    rng = np.random.default_rng(0)
    graph = Graph("integers")
    x = graph.add_input(Tensor((1, 3, 6, 6)), "image", batched=True)
    fine, s8 = per_tensor("u8", 0.02, 0), per_tensor("i8", 0.11, -5)

    def bias(x: Uniform, w: Const) -> Const:
        scales = tuple(x.scales[0] * s for s in w.elem.scales)
        return Const(rng.integers(-2000, 2000, len(scales)).astype(np.int32), Uniform("i32", scales, (0,) * len(scales), 0))

    def weights(*shape: int, axis: int = 0) -> Const:
        elem = Uniform("i8", tuple((rng.integers(1, 64, shape[axis]) / 4096).tolist()), (0,) * shape[axis], axis, qmin=-127, qmax=127)
        return Const(stored(rng, elem, shape), elem)

    w = weights(4, 3, 3, 3)
    stem = nn.QuantConv2d(nn.Quantize(x, U8), w, bias(U8, w), (2, 2), (1, 1, 1, 1))
    y = nn.Requantize(stem, U8, low=17, rounding="fixed")
    gate = nn.Lookup(nn.Requantize(nn.QuantSum(y, (2, 3), True, 9), fine), Const(rng.integers(0, 256, 256).astype(np.uint8), fine))
    y = nn.QuantMul(y, gate, s8)
    acc = nn.QuantConv2d(y, weights(4, 1, 3, 3), None, (1, 1), (1, 1, 1, 1), groups=4)
    y = nn.QuantAdd(acc, nn.MaxPool2d(y, (1, 1), (1, 1)), s8, high=100)
    y = nn.Requantize(nn.QuantConvTranspose2d(y, weights(4, 2, 2, 2, axis=1), stride=(2, 2)), U8)
    y = nn.QuantAvgPool2d(y, (1, 1), (1, 1), (0, 0, 0, 0), U8, high=200)
    y = nn.Requantize(nn.QuantSumPool2d(y, (2, 2), (2, 2), divisor=4), U8)
    flat = nn.Reshape(y, (-1, 18))
    product = nn.QuantMatmul(flat, Const(stored(rng, s8, (18, 5)), s8))
    logits = nn.QuantLinear(nn.QuantSoftmax(nn.Requantize(product, U8), 1, U8), weights(7, 5))
    graph.set_outputs([graph.add(nn.Dequantize(logits))])
    return graph.verify()


def test_text(golden: Callable[[str, str], None]) -> None:
    golden("ir/quant.mlir", str(network()))


def test_file_and_text_give_the_same_graph_and_bits(tmp_path: Path) -> None:
    graph = network()
    x = np.random.default_rng(1).standard_normal((3, 3, 6, 6)).astype(np.float32)
    expected = graph(x)
    graph.save(tmp_path / "net.tersor")
    loaded = load(tmp_path / "net.tersor")
    loaded.verify()
    assert str(loaded) == str(graph)
    np.testing.assert_array_equal(loaded(x), expected)
    np.testing.assert_array_equal(np.concatenate([graph(x[i : i + 1]) for i in range(3)]), expected)
    graph.save(tmp_path / "net.mlir")
    with pytest.raises(Exception, match="weights"):
        load(tmp_path / "net.mlir")


@pytest.mark.parametrize("move", MOVES)
def test_moving_integers_is_moving_the_numbers(move: Callable[[Value], Op]) -> None:
    """dequantize(move(q)) is move(dequantize(q)), bit for bit; types stay."""
    for elem in (U8, per_tensor("i8", 0.2, -3)):
        case = Given()
        q = stored(np.random.default_rng(0), elem, (2, 4, 4, 4))
        x = case.add(q, elem)
        moved = move(x)
        assert moved.out.type.elem == elem
        got = case.run(nn.Dequantize(moved))
        real = case.graph.add(move(nn.Dequantize(x).out))
        case.graph.set_outputs([real])
        (expected,) = evaluate(case.graph.verify(), [to_torch(q)])
        if isinstance(moved, nn.Pad) and moved.value:
            np.testing.assert_allclose(got, expected.numpy(), atol=elem.scales[0] / 2 + 1e-6)
        else:
            np.testing.assert_array_equal(got, expected.numpy())


@pytest.mark.parametrize("move", MOVES[:-1])
def test_scales_along_an_axis_do_not_move(move: Callable[[Value], Op]) -> None:
    elem = Uniform("i8", (1.0, 1.0, 1.0, 1.0), (0,) * 4, axis=1)
    with pytest.raises(VerifyError, match="x must have one scale for the tensor, got scales along axis 1"):
        move(Graph().add_input(Tensor((2, 4, 4, 4), elem), "x"))


def test_concat_takes_one_type() -> None:
    graph = Graph()
    a, b = (graph.add_input(Tensor((2, 4), e), n) for n, e in (("a", U8), ("b", per_tensor("u8", 0.05, 18))))
    with pytest.raises(VerifyError, match="xs must hold one element type"):
        nn.Concat([a, b], 1)
    with pytest.raises(VerifyError, match="xs must have one scale for the tensor"):
        nn.Concat([graph.add_input(Tensor((2, 4), Uniform("i8", (1.0, 2.0), (0, 0), 0)), "c")], 1)


def test_what_computes_takes_no_quantized_type() -> None:
    x: Any = Graph().add_input(Tensor((1, 4, 4, 4), U8), "x")
    for build in (nn.Relu, nn.Neg, nn.Sigmoid, lambda x: nn.Add(x, x), lambda x: nn.AvgPool2d(x, (2, 2), (2, 2)), lambda x: nn.Mean(x, (2,))):
        with pytest.raises(VerifyError, match="must hold"):
            build(x)
    with pytest.raises(VerifyError, match="must hold f16 or bf16"):
        nn.Upsample(x, (8, 8), "bilinear")
    with pytest.raises(VerifyError, match="a constant cannot fill"):
        nn.Pad(Graph().add_input(Tensor((2,), BitsAffine("i1", (0.5,), (0.25,))), "x"), (1, 1))


def test_quantized_operators_are_barriers_for_pruning() -> None:
    for op in network():
        if op.name.startswith("quant."):
            assert list(op.ties()) == []


def test_macs() -> None:
    graph = network()
    assert graph.macs() == 4 * 9 * 27 + 4 * 9 * 9 + 4 * 9 * 8 + 18 * 5 + 5 * 7


def test_scales_are_arrays_of_the_file(tmp_path: Path) -> None:
    """As text they would be most of it; equal ones are there once, and every bit comes back."""
    graph = network()
    graph.save(tmp_path / "net.tersor")
    arrays, header = read_arrays(tmp_path / "net.tersor")
    assert "0.01318359375" in str(graph) and "0.01318359375" not in header["text"]
    elems = {op.out.type.elem for op in graph if isinstance(op.out.type.elem, Uniform) and op.out.type.elem.axis is not None}
    assert len([key for key in arrays if key.startswith("!")]) <= len({e.scales for e in elems}) < len(elems)
    assert {op.out.type.elem for op in load(tmp_path / "net.tersor")} == {op.out.type.elem for op in graph}


def accumulators(factor: float, change: float = 0.0) -> Graph:
    """A convolution of 64 channels with f32 scales, and its accumulators. change: of one scale, so that they are no product."""
    rng = np.random.default_rng(3)
    w = Uniform("i8", tuple(rng.uniform(1e-4, 1, 64).astype(np.float32).tolist()), (0,) * 64, 0, qmin=-127)
    products = np.array(w.scales, np.float64) * factor
    products[7] += change
    graph = Graph()
    graph.set_outputs([graph.add(Const(stored(rng, elem, (64, 3)), elem)) for elem in (w, Uniform("i32", tuple(products.tolist()), (0,) * 64, 0))])
    return graph


def test_scales_of_accumulators_are_products_in_the_file(tmp_path: Path) -> None:
    """Not a second list, but a factor; every bit comes back, and readers that do not know it refuse the file."""
    factor, path = float(np.float32(0.0478)), tmp_path / "net.tersor"
    for graph, stored_lists, version in ((accumulators(factor), 1, "3"), (accumulators(factor, change=1e-12), 2, "1")):
        graph.save(path)
        arrays, header = read_arrays(path)
        assert (sum(key.startswith("!") for key in arrays), header["format_version"]) == (stored_lists, version)
        assert [op.out.type.elem for op in load(path)] == [op.out.type.elem for op in graph]
        assert str(load(path)) == str(graph) == str(from_bytes(to_bytes(graph)))
    accumulators(factor).save(path, entropy=True)
    assert read_arrays(path)[1]["format_version"] == "3" and str(load(path)) == str(accumulators(factor))


@pytest.mark.parametrize("seed", range(20))
def test_products_come_back_bit_for_bit(seed: int) -> None:
    """Of all magnitudes; tiny and huge products, and factors that f32 does not hold, may be stored as they are."""
    rng = np.random.default_rng(seed)
    scales = (rng.uniform(0.5, 1, 16) * 2.0 ** rng.integers(-140, 120, 16)).astype(np.float32)
    factor = float(rng.uniform(0.5, 1) if seed % 2 else np.float32(rng.uniform(0.5, 1) * 2.0 ** rng.integers(-140, 120)))
    wide = scales.astype(np.float64) * factor
    types: dict[str, Any] = {"w": Uniform("i8", tuple(scales.tolist()), (0,) * 16, 0), "acc": Uniform("i32", tuple(wide.tolist()), (0,) * 16, 1)}
    table, arrays, rest = pack_types(types)
    assert unpack_types(table, arrays) == types and rest == {}
    assert seed % 2 or has_products(table)


@pytest.mark.parametrize(
    "table",
    [
        "[]",
        '{"!q0": {}}',
        '{"!q0": {"scales": "!77"}}',
        "{",
        '{"!q0": {"scales": "!0", "colour": 1}}',
        '{"!q0": {"scales": "!0", "times": []}}',
        '{"!q0": {"storage": "c8", "axis": 0, "expressed": "f32", "qmin": null, "qmax": null, "scales": "!0"}}',
        '{"!q0": {"storage": "i8", "axis": "0", "expressed": "f32", "qmin": null, "qmax": null, "scales": "!0"}}',
        '{"!q0": {"storage": "i8", "axis": 0, "expressed": 32, "qmin": null, "qmax": null, "scales": "!0"}}',
    ],
)
def test_a_damaged_table_of_types(tmp_path: Path, table: str) -> None:
    network().save(tmp_path / "net.tersor")
    arrays, header = read_arrays(tmp_path / "net.tersor")
    safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, tmp_path / "bad.tersor", header | {"types": table})
    with pytest.raises(TersorError, match=r"bad.tersor: (its table of element types is damaged|.*!q0 is not defined)"):
        load(tmp_path / "bad.tersor")
