"""Rules of the legalize stage for transposed convolutions and pixel shuffles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from backend_run import arrays_for, assert_close, check, graph_of, reference
from hypothesis import given, settings
from hypothesis import strategies as st
from legal import becomes, const, conv, gathers, legal, names, stays, transposed

from tersor.backend.lowering.legalize import legalize
from tersor.backend.target import resolve
from tersor.ir.op import Op, Value
from tersor.ir.ops import (
    Conv2d,
    ConvTranspose2d,
    PixelShuffle,
    PixelUnshuffle,
    Relu,
)

#: What phases of stride 2 become that have two taps and one.
OF_THREE = "conv2d conv2d conv2d conv2d channel_gather"


def test_transposed_convolution_of_whole_blocks() -> None:
    becomes(lambda x: transposed(x, 32, (2, 2), stride=(2, 2)), "conv2d depth_to_space", (0, 5, 6, 7))
    becomes(
        lambda x: transposed(x, 40, (3, 3), stride=(2, 2), padding=(1, 1), output_padding=(1, 1)),
        "conv2d " * 4 + "channel_gather depth_to_space",
        (0, 5, 6, 7),
    )


def test_transposed_convolution_to_few_channels() -> None:
    becomes(lambda x: transposed(x, 3, (2, 2), stride=(2, 2)), "conv2d reshape transpose reshape", (0, 5, 6, 7))
    becomes(lambda x: transposed(x, 3, (4, 4), stride=(2, 2), padding=(1, 1)), "conv2d reshape transpose as_strided", (0, 5, 6, 7))


def test_transposed_convolution_of_stride_1_is_a_convolution() -> None:
    result = becomes(lambda x: transposed(x, 6, (3, 2), padding=(1, 0), dilation=(2, 1)), "conv2d", (0, 5, 6, 7))
    (op,) = (op for op in result.ops if isinstance(op, Conv2d))
    assert (op.padding, op.dilation, op.w.shape) == ((3, 3, 1, 1), (2, 1), (6, 5, 3, 2))


def test_padding_that_reaches_past_the_kernel_crops() -> None:
    becomes(lambda x: transposed(x, 6, (1, 1), padding=(2, 2)), "as_strided conv2d", (0, 5, 6, 7))


def test_transposed_convolution_in_groups() -> None:
    becomes(lambda x: transposed(x, 8, (3, 3), stride=(2, 2), groups=2), OF_THREE + " reshape transpose as_strided", (0, 6, 4, 5))
    becomes(
        lambda x: transposed(x, 6, (2, 2), stride=(2, 2), groups=6), "channel_gather mul add channel_gather reshape transpose reshape", (0, 6, 4, 5)
    )


@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
def test_transposed_convolution_by_computed_weights(stride: tuple[int, int]) -> None:
    """Weights that are an input become a product of matrices, and compile."""
    graph = graph_of(lambda x, w: ConvTranspose2d(x, w, stride=stride, padding=(1, 0)), (2, 4, 3, 4), (4, 5, 2, 3))
    result = names(legal(graph.clone()))
    assert "matmul" in result
    assert "conv_transpose2d" not in result
    check(graph)


@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_by_computed_weights(groups: int) -> None:
    graph = graph_of(
        lambda x, w, b: Conv2d(x, w, b, stride=(2, 1), padding=(1, 0, 2, 1), dilation=(1, 2), groups=groups),
        (2, 4, 7, 6),
        (6, 4 // groups, 3, 2),
        (6,),
    )
    assert "conv2d" not in names(legal(graph.clone()))
    check(graph)


axis = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(0, 4), st.integers(0, 2), st.integers(3, 6))


@settings(max_examples=150, deadline=None)
@given(axis, axis, st.sampled_from([(1, 3, 5), (1, 4, 33), (2, 4, 6), (3, 3, 3)]))
def test_any_transposed_convolution(rows: tuple[int, ...], columns: tuple[int, ...], channels: tuple[int, int, int]) -> None:
    """Against torch's own conv_transpose2d: kernels, strides, dilations, paddings and output paddings, each axis its own."""
    groups, c, o = channels
    (kh, sh, dh, ph, eh, h), (kw, sw, dw, pw, ew, w) = rows, columns
    eh, ew = min(eh, max(sh, dh) - 1), min(ew, max(sw, dw) - 1)
    if (h - 1) * sh - 2 * ph + dh * (kh - 1) + eh + 1 < 1 or (w - 1) * sw - 2 * pw + dw * (kw - 1) + ew + 1 < 1:
        return
    weight, bias = const(c, o // groups, kh, kw), const(o)
    graph = graph_of(lambda x: ConvTranspose2d(x, weight, bias, (sh, sw), (ph, pw), (eh, ew), (dh, dw), groups), (3, c, h, w))
    result = legalize(graph, resolve("cpu:znver3")).verify()
    assert "conv_transpose2d" not in names(result)
    (x,) = arrays_for(graph)
    given_, w64, b64 = (torch.from_numpy(a.astype(np.float64)) for a in (x, weight.array, bias.array))
    wanted = torch.nn.functional.conv_transpose2d(given_, w64, b64, (sh, sw), (ph, pw), (eh, ew), groups, (dh, dw))
    assert_close(reference(result, [x])[0], wanted.numpy(), 1e-12)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "taps"),
    [((4, 4), (2, 2), (1, 1), ["2x2"]), ((3, 3), (2, 2), (1, 1), ["2x2", "2x1", "1x2", "1x1"]), ((5, 2), (3, 1), (1, 1), ["2x2", "1x2"]),
     ((1, 1), (2, 2), (1, 1), ["1x1"]), ((3, 1), (2, 1), (2, 1), ["3x1"])],
)  # fmt: skip
def test_phases_read_no_more_pixels_than_they_have_taps_for(
    kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], taps: list[str]
) -> None:
    """One convolution for neighbouring phases that read the same pixels, and no tap of zeros; results between the taps are the bias."""
    result = legal(graph_of(lambda x: transposed(x, 32, kernel, stride=stride, dilation=dilation), (1, 5, 6, 7)), "cpu:x86-64-v3")
    convolutions = [op for op in result.ops if isinstance(op, Conv2d)]
    assert ["x".join(map(str, op.kernel)) for op in convolutions] == taps
    assert all(np.any(op.w.op.array, axis=(0, 1)).all() for op in convolutions)  # type: ignore[union-attr]
    assert names(result).count("expand") == (0 if kernel != (1, 1) and dilation == (1, 1) else 1)


def test_pixel_shuffle_permutes_the_convolution_before_it() -> None:
    becomes(lambda x: PixelShuffle(conv(x, 64), 2), "conv2d depth_to_space", (0, 4, 4, 6))
    becomes(lambda x: PixelShuffle(conv(x, 9 * 40), 3), "conv2d depth_to_space", (0, 4, 4, 6))


def test_pixel_shuffle_of_other_maps_gathers() -> None:
    becomes(lambda x: PixelShuffle(Relu(conv(x, 64)), 2), "conv2d relu channel_gather depth_to_space", (0, 4, 4, 6))

    def shared(x: Value) -> list[Op]:
        y = conv(x, 64)
        return [PixelShuffle(y, 2), y]

    assert names(legal(graph_of(shared, (1, 4, 4, 6)))) == ["conv2d", "channel_gather", "depth_to_space"]


def test_pixel_shuffle_of_few_channels_or_of_no_map_is_a_transpose() -> None:
    becomes(lambda x: PixelShuffle(conv(x, 12), 2), "conv2d reshape transpose reshape", (0, 4, 4, 6))
    becomes(lambda x: PixelShuffle(x, 2), "reshape transpose reshape", (0, 64, 4, 6))
    becomes(lambda x: PixelUnshuffle(x, 2), "reshape transpose reshape", (0, 3, 4, 6))


def test_depthwise_convolution_with_a_multiplier() -> None:
    result = becomes(lambda x: Conv2d(x, const(12, 1, 3, 3), const(12), padding=(1, 1, 1, 1), groups=4), "channel_gather conv2d", (0, 4, 5, 5))
    assert gathers(result) == [(1, (0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3))]
    stays(lambda x: Conv2d(x, const(4, 1, 3, 3), groups=4), (3, 4, 5, 5))
    stays(lambda x: Conv2d(x, const(4, 2, 3, 3), groups=2), (3, 4, 5, 5))
    stays(lambda x: Conv2d(x, const(4, 1, 3, 3)), (3, 1, 5, 5))
