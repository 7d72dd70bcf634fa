"""Rules of the legalize stage: what each makes of a graph, the numbers in float64 against torch's own operator, and what each leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from backend_run import DISTINCT_TARGETS, arrays_for, check, graph_of
from hypothesis import given, settings
from hypothesis import strategies as st
from legal import becomes, const, conv, gathers, legal, names, stays, transposed
from sampling import some

from tersor.backend.lowering.legalize import legalize
from tersor.backend.target import resolve
from tersor.backend.tile.ops import ChannelGather
from tersor.ir.errors import UnsupportedError
from tersor.ir.graph import Graph
from tersor.ir.op import Const, Op, Value
from tersor.ir.ops import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    Add,
    AvgPool2d,
    BatchNorm,
    ChannelShuffle,
    Concat,
    Conv2d,
    Expand,
    IndexSelect,
    Linear,
    MaxPool2d,
    Mean,
    Mul,
    Pad,
    PixelShuffle,
    Prelu,
    ReduceMax,
    Relu,
    Reshape,
    Slice,
    Sum,
    Transpose,
    Upsample,
)
from tersor.ir.types import Tensor

# -- elementwise ---------------------------------------------------------------------------------


def variance() -> Const:
    return Const(np.array([0.5, 1, 2, 3], "f"))


def test_batch_norm_becomes_scale_and_shift() -> None:
    becomes(lambda x: BatchNorm(x, const(4), const(4), const(4), variance(), 1e-3), "mul add", (0, 4, 5, 3))
    becomes(lambda x: BatchNorm(x, const(4), const(4), const(4), variance(), 1e-3), "mul add", (0, 4))


def test_batch_norm_of_computed_parameters() -> None:
    becomes(lambda x, b: BatchNorm(x, const(4), b, const(4), variance(), 0.1), "sub add sqrt div reshape mul reshape add", (0, 4, 5, 3), Tensor((4,)))


def test_prelu_by_channel_joins_the_convolution() -> None:
    result = becomes(lambda x: Prelu(conv(x, 20), const(20)), "conv2d prelu", (0, 4, 5, 5))
    assert result.ops[-1].operands[1].shape == (1, 20, 1, 1)
    becomes(lambda x: Prelu(x, const(20)), "prelu", (0, 20))
    becomes(lambda x: Prelu(x, const(1)), "prelu", (0, 20, 3))
    assert check(graph_of(lambda x: Prelu(conv(x, 20), const(20)), (3, 4, 5, 5))).templates[-1] not in ("elementwise",)


def test_an_expand_that_elementwise_ops_broadcast_disappears() -> None:
    becomes(lambda x, y: Add(Expand(x, (-1, 4, 5)), y), "add", (0, 1, 5), (0, 4, 5))
    stays(lambda x, y: Add(Expand(x, (3, 4, 5)), y), (3, 1, 5), (3, 1, 5))


def test_operands_of_maps_get_full_rank() -> None:
    becomes(lambda x, c: Mul(x, c), "reshape mul", (0, 4, 5, 3), Tensor((4, 1, 1)))
    result = becomes(lambda x: Mul(const(4, 1, 1), conv(x, 4)), "conv2d mul", (0, 4, 5, 3))
    assert result.ops[-1].operands[0].shape == (1, 4, 1, 1)
    stays(lambda x: Mul(x, Const(np.float32(2))), (3, 4, 5, 3))
    stays(lambda x: Mul(x, const(3)), (3, 4, 3))


def test_a_depthwise_convolution_of_one_tap_is_a_scale() -> None:
    becomes(lambda x: Conv2d(x, const(4, 1, 1, 1), const(4), groups=4), "mul add", (0, 4, 5, 3))
    becomes(lambda x: Conv2d(x, const(4, 1, 1, 1), groups=4, dilation=(2, 3)), "mul", (0, 4, 5, 3))
    becomes(lambda x, w: Conv2d(x, w, const(4), groups=4), "reshape mul add", (0, 4, 5, 3), Tensor((4, 1, 1, 1)))
    for other in ({"stride": (1, 2)}, {"padding": (0, 0, 1, 0)}):
        stays(lambda x: Conv2d(x, const(4, 1, 1, 1), groups=4, **other), (2, 4, 5, 3))  # noqa: B023
    becomes(lambda x: Conv2d(x, const(8, 1, 1, 1), groups=4), "channel_gather mul", (0, 4, 5, 3))


# -- channels ------------------------------------------------------------------------------------


def test_concat_of_maps_is_a_gather() -> None:
    result = becomes(lambda x: Concat([conv(x, 5), x], 1), "conv2d channel_gather", (0, 4, 3, 3))
    assert gathers(result) == [(2, tuple(range(9)))]


def test_a_map_that_appears_twice_is_one_operand() -> None:
    def build(x: Value) -> Op:
        y = conv(x, 2).out
        return Concat([y, y], 1)

    assert gathers(becomes(build, "conv2d channel_gather", (0, 4, 3, 3))) == [(1, (0, 1, 0, 1))]


def test_plain_values_and_other_axes_are_no_gathers() -> None:
    stays(lambda x: Concat([x, x], 1), (3, 4, 3, 3))
    stays(lambda x: Concat([conv(x, 5), conv(x, 5)], 2), (3, 4, 3, 3))
    stays(lambda x: Slice(x, 1, 0, 2), (3, 4, 3, 3))
    stays(lambda x: Concat([Relu(Reshape(conv(x, 5), (3, 45))), Reshape(x, (3, 36))], 1), (3, 4, 3, 3))


def test_slice_and_select_of_a_map() -> None:
    assert gathers(becomes(lambda x: Slice(conv(x, 9), 1, 1, 8, 3), "conv2d channel_gather", (0, 4, 3, 3))) == [(1, (1, 4, 7))]
    index = np.array([3, 3, 0, 19])
    assert gathers(becomes(lambda x: IndexSelect(Relu(conv(x, 20)), Const(index), 1), "conv2d relu channel_gather", (0, 4, 3, 3))) == [
        (1, (3, 3, 0, 19))
    ]


def test_a_computed_index_stays() -> None:
    graph = graph_of(lambda x, i: IndexSelect(conv(x, 20), i, 1), (3, 4, 3, 3), Tensor((3,), "i64"))
    assert names(legalize(graph.clone(), resolve("cpu"))) == ["conv2d", "index_select"]
    check(graph, inputs=[arrays_for(graph)[0], np.array([4, 0, 19])])


def test_channel_shuffle() -> None:
    assert gathers(becomes(lambda x: ChannelShuffle(conv(x, 6), 2), "conv2d channel_gather", (0, 4, 3, 3))) == [(1, (0, 3, 1, 4, 2, 5))]
    becomes(lambda x: ChannelShuffle(x, 4), "reshape transpose reshape", (0, 20, 3))


def by_hand(x: Op, groups: int, perm: tuple[int, ...] = (0, 2, 1, 3, 4)) -> Op:
    n, c, h, w = x.out.shape
    return Reshape(Transpose(Reshape(x, (n, groups, c // groups, h, w)), perm), (n, c, h, w))


def test_channel_shuffle_by_hand() -> None:
    assert gathers(becomes(lambda x: by_hand(conv(x, 6), 3), "conv2d channel_gather", (0, 4, 3, 3))) == [(1, (0, 2, 4, 1, 3, 5))]
    stays(lambda x: by_hand(conv(x, 6), 3, (0, 2, 1, 4, 3)), (3, 4, 3, 3))
    stays(lambda x: by_hand(Relu(x), 2), (3, 4, 3, 3))


def shuffle_unit(x: Value) -> Op:
    """Two units of ShuffleNetV2."""
    y: Op = conv(x, 20)
    for _ in range(2):
        left, right = Slice(y, 1, 0, 10), Relu(conv(Slice(y, 1, 10, 20), 10))
        y = by_hand(Concat([left.out, right.out], 1), 2)
    return Slice(y, 1, 0, 10)


def test_concat_shuffle_and_chunk_are_one_gather_each() -> None:
    # per unit: one gather for the right half, and what the left half is read through at the end
    result = becomes(shuffle_unit, "conv2d channel_gather conv2d relu channel_gather conv2d relu channel_gather", (0, 4, 3, 3))
    assert all(not isinstance(x.op, ChannelGather) for op in result.ops if isinstance(op, ChannelGather) for x in op.xs)
    check(graph_of(shuffle_unit, (3, 4, 3, 3)))


def test_a_gather_of_everything_in_order_disappears() -> None:
    def build(x: Value) -> Op:
        y = conv(x, 8)
        return Concat([Slice(y, 1, 0, 3).out, Slice(y, 1, 3, 8).out], 1)

    becomes(build, "conv2d", (0, 4, 3, 3))


def test_shared_gathers_stay_for_their_other_readers() -> None:
    def build(x: Value) -> list[Op]:
        y = Concat([conv(x, 5).out, x], 1)
        return [y, Slice(y, 1, 5, 9)]

    result = legal(graph_of(build, (3, 4, 3, 3)))
    # the slice is x itself: nothing of the concat is left in it
    assert names(result) == ["conv2d", "channel_gather"] and result.outputs[1] is result.inputs[0]


# -- pixels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pads_of_maps(mode: str) -> None:
    result = becomes(lambda x: Pad(conv(x, 5), (0, 0, 0, 0, 2, 1, -1, 2), mode), "conv2d pad_crop", (0, 4, 4, 5))
    corner = {"constant": -1, "reflect": 2, "replicate": 0, "circular": 2}[mode]
    assert result.ops[-1].attrs["rows"][0] == corner and result.ops[-1].attrs["columns"][0] == 1
    stays(lambda x: Pad(x, (0, 0, 0, 0, 2, 1, -1, 2), mode), (3, 4, 4, 5))
    stays(lambda x: Pad(conv(x, 5), (0, 0, 1, 0, 2, 1, -1, 2), mode), (3, 4, 4, 5))


def test_crops_of_maps_are_one() -> None:
    result = becomes(lambda x: Slice(Slice(conv(x, 5), 3, 1, 5, 2), 2, 0, 3), "conv2d pad_crop", (0, 4, 4, 5))
    assert result.ops[-1].attrs == {"rows": (0, 1, 2), "columns": (1, 3), "value": 0.0}


def test_pads_of_pads() -> None:
    def pads(first: float, second: float) -> Callable[[Value], Op]:
        sides = (0, 0, 0, 0, 1, 1, 1, 1)
        return lambda x: Pad(Pad(conv(x, 5), sides, value=first), sides, value=second)

    becomes(pads(2, 2), "conv2d pad_crop", (0, 4, 4, 5))
    becomes(pads(2, 1), "conv2d pad_crop pad_crop", (0, 4, 4, 5))
    result = becomes(lambda x: Pad(Slice(conv(x, 5), 2, 1, 3), (0, 0, 0, 0, 1, 0, 0, 0), value=3), "conv2d pad_crop", (0, 4, 4, 5))
    assert result.ops[-1].attrs["rows"] == (-1, 1, 2) and result.ops[-1].attrs["value"] == 3


# -- pooling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, expected", [(Mean, "adaptive_avg_pool2d"), (Sum, "adaptive_avg_pool2d mul"), (ReduceMax, "adaptive_max_pool2d")])
def test_reductions_over_pixels_are_pools(kind: type[Op], expected: str) -> None:
    becomes(lambda x: kind(Relu(conv(x, 20)), (2, 3), True), f"conv2d relu {expected}", (0, 4, 5, 6))
    becomes(lambda x: kind(conv(x, 20), (2, 3)), f"conv2d {expected} reshape", (0, 4, 5, 6))
    stays(lambda x: kind(x, (2, 3)), (3, 4, 5, 6))
    stays(lambda x: kind(conv(x, 20), (1, 3)), (3, 4, 5, 6))


def test_adaptive_pools_of_whole_windows() -> None:
    becomes(lambda x: AdaptiveAvgPool2d(x, (2, 3)), "avg_pool2d", (0, 4, 4, 6))
    becomes(lambda x: AdaptiveMaxPool2d(x, (2, 3)), "max_pool2d", (0, 4, 4, 6))
    becomes(lambda x: Relu(AdaptiveAvgPool2d(x, (4, 6))), "relu", (0, 4, 4, 6))
    stays(lambda x: AdaptiveAvgPool2d(x, (3, 3)), (3, 4, 4, 6))
    stays(lambda x: AdaptiveAvgPool2d(x, (1, 1)), (3, 4, 4, 6))


def test_a_window_of_the_whole_map() -> None:
    becomes(lambda x: AvgPool2d(x, (4, 6), (1, 1)), "adaptive_avg_pool2d", (0, 4, 4, 6))
    becomes(lambda x: AvgPool2d(x, (4, 6), (1, 1), divisor=24), "adaptive_avg_pool2d", (0, 4, 4, 6))
    stays(lambda x: AvgPool2d(x, (4, 6), (1, 1), divisor=20), (3, 4, 4, 6))
    stays(lambda x: AvgPool2d(x, (4, 6), (1, 1), (1, 0, 0, 0)), (3, 4, 4, 6))
    stays(lambda x: MaxPool2d(x, (4, 6), (1, 1)), (3, 4, 4, 6))


# -- maps and rows -------------------------------------------------------------------------------


def convnext(x: Value) -> Op:
    """A block of ConvNeXt (without its norm): rows between two transposes, a layer scale, a residual."""
    y = Conv2d(x, const(x.shape[1], 1, 3, 3), padding=(1, 1, 1, 1), groups=x.shape[1])
    rows = Linear(Relu(Linear(Transpose(y, (0, 2, 3, 1)), const(50, x.shape[1]))), const(x.shape[1], 50))
    return conv(Add(Mul(Transpose(rows, (0, 3, 1, 2)), const(x.shape[1], 1, 1)), x), 4)


def tokens(x: Value) -> Op:
    """Attention-style tokens of a map, and a map of tokens."""
    y = conv(x, 20)
    n, c, h, w = y.out.shape
    rows = Linear(Transpose(Reshape(y, (n, c, h * w)), (0, 2, 1)), const(20, 20))
    return conv(Reshape(Transpose(rows, (0, 2, 1)), (n, c, h, w)), 4)


def test_transposes_between_maps_and_rows() -> None:
    becomes(convnext, "conv2d to_nhwc linear relu linear from_nhwc mul add conv2d", (0, 20, 5, 7))
    becomes(tokens, "conv2d to_nhwc reshape linear reshape from_nhwc conv2d", (0, 4, 5, 7))


def test_transposes_of_other_values_stay() -> None:
    stays(lambda x: Transpose(x, (0, 2, 3, 1)), (3, 4, 5, 7))
    stays(lambda x: Transpose(conv(x, 5), (0, 3, 2, 1)), (3, 4, 5, 7))
    stays(lambda x: Relu(Transpose(x, (0, 3, 1, 2))), (3, 5, 7, 4))
    stays(lambda x: Transpose(Reshape(conv(x, 4), (3, 2, 70)), (0, 2, 1)), (3, 4, 5, 7))


# -- matrices, shapes, types ---------------------------------------------------------------------


def test_linear_of_a_computed_matrix() -> None:
    becomes(lambda x, w: Linear(x, w, const(7)), "transpose matmul add", (0, 5), Tensor((7, 5)))
    becomes(lambda x, w: Linear(x, w), "reshape transpose matmul reshape", Tensor((5,)), Tensor((7, 5)))
    stays(lambda x: Linear(x, const(7, 5)), (3, 5))


def test_a_transpose_that_moves_only_axes_of_size_1_is_a_reshape() -> None:
    becomes(lambda x: Transpose(x, (0, 2, 3, 1)), "reshape", (0, 5, 1, 1))
    stays(lambda x: Transpose(x, (0, 2, 3, 1)), (3, 5, 2, 1))
    # dimension 0 is of size 1 at one batch size only
    assert names(legal(graph_of(lambda x: Transpose(x, (1, 0)), (1, 5)))) == ["reshape"]
    assert names(legal(graph_of(lambda x: Transpose(x, (1, 0)), (3, 5)))) == ["transpose"]


def test_chains_of_reshapes_and_transposes_are_one() -> None:
    becomes(lambda x: Reshape(Reshape(x, (3, 20)), (3, 5, 4)), "reshape", Tensor((3, 4, 5)))
    becomes(lambda x: Transpose(Transpose(x, (0, 2, 1)), (1, 0, 2)), "transpose", Tensor((3, 4, 5)))


def keys(x: Value) -> Op:
    """The second of queries, keys and values."""
    apart = Transpose(Reshape(x, (x.shape[0], 6, 3, 2, 4)), (2, 0, 3, 1, 4))
    return Reshape(Slice(apart, 0, 1, 2), (-1, 2, 6, 4))


def test_moves_of_moves_are_one_copy() -> None:
    becomes(lambda x: Slice(Slice(x, 1, 1, 3), 2, 0, 5, 2), "as_strided", (0, 4, 5))
    becomes(lambda x: Slice(Transpose(x, (0, 2, 1)), 1, 2, 4), "as_strided", (0, 4, 5))
    becomes(lambda x: Transpose(Expand(x, (-1, 4, 5)), (0, 2, 1)), "as_strided", Tensor((3, 1, 5)))
    becomes(keys, "as_strided reshape", (0, 6, 24))
    result = becomes(lambda x: Transpose(Slice(Slice(x, 1, 1, 3), 2, 0, 5, 2), (0, 2, 1)), "as_strided", (0, 4, 5))
    assert result.ops[-1].attrs == {"shape": (3, 3, 2), "strides": (20, 2, 5), "offset": 5}


def test_a_reshape_without_fixed_steps_ends_a_copy() -> None:
    becomes(lambda x: Slice(Reshape(Transpose(x, (0, 2, 1)), (x.shape[0], 20)), 1, 3, 9), "transpose reshape slice", Tensor((3, 4, 5)))
    becomes(lambda x: Transpose(Slice(Reshape(Transpose(x, (0, 2, 1)), (3, 4, 5)), 1, 1, 3), (0, 2, 1)), "transpose as_strided", Tensor((3, 4, 5)))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_chain_of_moves(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    graph = Graph()
    value: Value | Op = graph.add_input(Tensor(tuple(shape)), "x")
    for kind in data.draw(st.lists(st.sampled_from(["slice", "transpose", "reshape", "expand"]), min_size=1, max_size=6)):
        v = value.out if isinstance(value, Op) else value
        if kind == "transpose":
            value = Transpose(v, tuple(data.draw(st.permutations(range(v.type.rank)))))
        elif kind == "slice":
            axis = data.draw(st.integers(0, v.type.rank - 1))
            start = data.draw(st.integers(0, v.shape[axis] - 1))
            value = Slice(v, axis, start, data.draw(st.integers(start + 1, v.shape[axis])), data.draw(st.integers(1, 2)))
        elif kind == "expand":
            value = Expand(v, tuple(data.draw(st.integers(2, 3)) if n == 1 else -1 for n in v.shape))
        else:
            factors = data.draw(st.permutations([f for n in v.shape for f in ((2, n // 2) if n % 2 == 0 else (n,))]))
            cut = data.draw(st.integers(0, len(factors) - 1))
            value = Reshape(v, (*factors[:cut], int(np.prod(factors[cut:]))))
    graph.set_outputs([graph.add(Relu(value))])
    result = legal(graph)
    assert len([n for n in names(result) if n != "reshape"]) <= len([n for n in names(graph) if n != "reshape"])


#: Two pixels times their shares, along each axis.
BETWEEN_TWO = " ".join(["index_select mul index_select mul add"] * 2)


@pytest.mark.parametrize("scales", [None, (1.7, 1.3)])
@pytest.mark.parametrize(
    "mode, corners, expected",
    [("nearest", False, "index_select index_select"), ("bilinear", False, BETWEEN_TWO), ("bilinear", True, BETWEEN_TWO)],
)
def test_upsampling_of_doubles(mode: str, corners: bool, expected: str, scales: tuple[float, float] | None) -> None:
    becomes(lambda x: Upsample(x, (7, 5), mode, corners, scales), expected, Tensor((3, 2, 4, 3), "f64"))
    stays(lambda x: Upsample(x, (7, 5), mode, corners, scales), (3, 2, 4, 3))


@pytest.mark.parametrize("elem", ["f16", "bf16"])
def test_half_precision_is_refused(elem: str) -> None:
    graph = graph_of(lambda x: Relu(x), Tensor((3, 4), elem))
    with pytest.raises(UnsupportedError, match=rf"nn.relu \[.*\] has a value of type tensor<3x4x{elem}>: compiled are f32 everywhere"):
        legalize(graph, resolve("cpu"))


@pytest.mark.parametrize("kind", [lambda x: conv64(x), lambda x: MaxPool2d(x, (2, 2), (2, 2)), lambda x: AdaptiveAvgPool2d(x, (1, 1))])
def test_maps_of_doubles_are_refused(kind: Callable[[Value], Op]) -> None:
    graph = graph_of(kind, Tensor((3, 4, 6, 6), "f64"))
    with pytest.raises(UnsupportedError, match=r"nn.\w+2d \[.*\] has a value of type tensor<3x4x6x6xf64>: compiled are f32 everywhere"):
        legalize(graph, resolve("cpu"))


def conv64(x: Value) -> Op:
    return Conv2d(x, const(4, 4, 1, 1, dtype="d"))


# -- compiled ------------------------------------------------------------------------------------

COMPILED: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "transposed, whole blocks": (lambda x: Relu(transposed(x, 32, (3, 3), stride=(2, 2), padding=(1, 1), output_padding=(1, 1))), (5, 6, 7)),
    "transposed, 40 channels": (lambda x: transposed(x, 40, (2, 3), stride=(2, 3)), (5, 6, 7)),
    "transposed, few channels": (lambda x: transposed(x, 3, (4, 4), stride=(2, 2), padding=(1, 1)), (20, 6, 7)),
    "transposed, grouped": (lambda x: transposed(x, 64, (2, 2), stride=(2, 2), groups=4), (8, 6, 7)),
    "transposed, depthwise": (lambda x: transposed(x, 20, (4, 4), stride=(2, 2), padding=(1, 1), groups=20), (20, 6, 7)),
    "pixel shuffle": (lambda x: Mul(PixelShuffle(conv(x, 160), 2), const(1, 40, 1, 1)), (20, 6, 7)),
    "pixel shuffle behind relu": (lambda x: PixelShuffle(Relu(conv(x, 80 * 4)), 2), (20, 3, 5)),
    "multiplier": (lambda x: Conv2d(conv(x, 20), const(60, 1, 3, 3), const(60), padding=(1, 1, 1, 1), groups=20), (4, 6, 7)),
    "shuffle": (lambda x: ChannelShuffle(conv(x, 20), 4), (4, 3, 3)),
    "mean": (lambda x: Sum(conv(x, 20), (2, 3)), (4, 3, 5)),
    "rows in the middle": (convnext, (20, 5, 7)),
    "rows of tokens": (tokens, (4, 7, 9)),
    "rows at the end": (lambda x: Relu(Transpose(conv(x, 21), (0, 2, 3, 1))), (4, 7, 7)),
    "strided": (lambda x: Relu(Slice(Transpose(Slice(x, 1, 3, 19), (0, 3, 2, 1)), 2, 1, 5, 2)), (20, 6, 17)),
    "reflection": (lambda x: conv(Relu(Pad(conv(x, 20), (0, 0, 0, 0, 1, 2, 3, 1), "reflect")), 20, 3), (4, 6, 7)),
    "border": (lambda x: Pad(conv(x, 20), (0, 0, 0, 0, 1, 2, 3, 1), value=1.5), (4, 6, 7)),
    "crop": (lambda x: Mul(Slice(Slice(conv(x, 20), 3, 1, 6), 2, 0, 6, 2), const(1, 20, 1, 1)), (4, 6, 7)),
    "prelu": (lambda x: Prelu(x, const(20)), (20, 3, 5)),
}


@pytest.mark.parametrize("batch, threads, target", some(((1, 1, DISTINCT_TARGETS[-1]), *((3, 2, target) for target in DISTINCT_TARGETS)), 3))
def test_compiled(batch: int, threads: int, target: str) -> None:
    """All in one library: building one costs more than a kernel of it."""
    graph = graph_of(lambda *xs: [build(x) for (build, _), x in zip(COMPILED.values(), xs)], *((batch, *shape) for _, shape in COMPILED.values()))
    graph.set_outputs(graph.outputs, [name.replace(",", "").replace(" ", "_") for name in COMPILED])
    check(graph, target=target, threads=threads)
