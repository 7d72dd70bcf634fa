"""Convolutions: values and gradients against torch, shapes of random geometries, MACs, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from op_cases import check, graph_of, rand, refuses, value_of

from tersor.ir.evaluate import evaluate
from tersor.ir.ops import Conv2d, ConvTranspose2d, out_size

CONVS = [
    # C, O, kernel, stride, padding (t, b, l, r), dilation, groups, bias
    (3, 8, (3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 1, True),
    (3, 8, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1, False),
    (4, 6, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, True),
    (4, 6, (1, 1), (3, 2), (0, 0, 0, 0), (1, 1), 2, True),
    (6, 6, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 6, True),
    (6, 12, (5, 5), (2, 2), (2, 2, 2, 2), (1, 1), 6, False),
    (4, 4, (3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 1, True),
    (2, 3, (1, 7), (1, 1), (0, 0, 3, 3), (1, 1), 1, True),
    (2, 3, (3, 2), (2, 2), (0, 1, 0, 1), (1, 1), 1, True),
    (3, 3, (2, 4), (1, 3), (1, 0, 2, 1), (3, 1), 3, False),
]


@pytest.mark.parametrize(("c", "o", "kernel", "stride", "padding", "dilation", "groups", "bias"), CONVS)
def test_conv2d(c: int, o: int, kernel: tuple[int, int], stride: Any, padding: tuple[int, ...], dilation: Any, groups: int, bias: bool) -> None:
    t, b, le, r = padding

    def oracle(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return F.conv2d(F.pad(x, (le, r, t, b)), w, bias, stride, 0, dilation, groups)

    operands = [rand(3, c, 9, 10), rand(o, c // groups, *kernel), rand(o) if bias else None]
    op = check(Conv2d, operands, oracle, stride=stride, padding=padding, dilation=dilation, groups=groups)
    assert op.depthwise == (groups == c and groups > 1)
    assert op.kernel == kernel


DECONVS = [
    # C, O, kernel, stride, padding, output_padding, dilation, groups
    (4, 3, (2, 2), (2, 2), (0, 0), (0, 0), (1, 1), 1),
    (4, 6, (4, 4), (2, 2), (1, 1), (0, 0), (1, 1), 2),
    (3, 3, (3, 3), (2, 3), (1, 0), (1, 2), (1, 1), 3),
    (2, 5, (3, 2), (1, 2), (0, 1), (1, 0), (2, 1), 1),
]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("c", "o", "kernel", "stride", "padding", "extra", "dilation", "groups"), DECONVS)
def test_conv_transpose2d(c: int, o: int, kernel: Any, stride: Any, padding: Any, extra: Any, dilation: Any, groups: int, bias: bool) -> None:
    def oracle(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None) -> torch.Tensor:
        return F.conv_transpose2d(x, w, b, stride, padding, extra, groups, dilation)

    operands = [rand(3, c, 5, 6), rand(c, o // groups, *kernel), rand(o) if bias else None]
    check(ConvTranspose2d, operands, oracle, stride=stride, padding=padding, output_padding=extra, dilation=dilation, groups=groups)


@st.composite
def conv_cases(draw: st.DrawFn) -> tuple[int, int, tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    groups = draw(st.integers(1, 3))
    c, o = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))

    def pair(low: int, high: int) -> tuple[int, int]:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    kernel, dilation, pads = pair(1, 5), pair(1, 3), pair(0, 4) + pair(0, 4)
    size = tuple(draw(st.integers(max(1, dilation[i] * (kernel[i] - 1) + 1 - pads[2 * i] - pads[2 * i + 1]), 14)) for i in (0, 1))
    return c, o, kernel, size, {"stride": pair(1, 4), "padding": pads, "dilation": dilation, "groups": groups}


@settings(max_examples=150, deadline=None)
@given(conv_cases(), st.integers(1, 3))
def test_conv2d_shape_is_torch_shape(case: Any, batch: int) -> None:
    c, o, kernel, size, attrs = case
    x, w = rand(batch, c, *size), rand(o, c // attrs["groups"], *kernel)
    graph = graph_of(Conv2d, [x, w, None], **attrs)
    (got,) = evaluate(graph, [torch.from_numpy(x), torch.from_numpy(w)], dtype=torch.float64)
    t, b, le, r = attrs["padding"]
    expected = F.conv2d(F.pad(torch.from_numpy(x), (le, r, t, b)), torch.from_numpy(w), None, attrs["stride"], 0, attrs["dilation"], attrs["groups"])
    assert graph.outputs[0].shape == tuple(expected.shape)
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)


@st.composite
def deconv_cases(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int], dict[str, Any]]:
    def pair(low: int, high: int) -> tuple[int, int]:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    kernel, stride, dilation, size = pair(1, 4), pair(1, 3), pair(1, 2), pair(1, 6)
    extra = tuple(draw(st.integers(0, max(stride[i], dilation[i]) - 1)) for i in (0, 1))
    full = [(size[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + extra[i] + 1 for i in (0, 1)]
    padding = tuple(draw(st.integers(0, min(3, (full[i] - 1) // 2))) for i in (0, 1))
    return size, kernel, {"stride": stride, "padding": padding, "output_padding": extra, "dilation": dilation}


@settings(max_examples=80, deadline=None)
@given(deconv_cases())
def test_conv_transpose2d_shape_is_torch_shape(case: Any) -> None:
    size, kernel, attrs = case
    x, w = torch.from_numpy(rand(2, 2, *size)), torch.from_numpy(rand(2, 3, *kernel))
    op = ConvTranspose2d(value_of(x.shape), value_of(w.shape), **attrs)
    expected = F.conv_transpose2d(x, w, None, attrs["stride"], attrs["padding"], attrs["output_padding"], 1, attrs["dilation"])
    assert op.out.shape == tuple(expected.shape)
    torch.testing.assert_close(op.evaluate(x, w, None), expected)


def test_macs() -> None:
    x = value_of((2, 32, 14, 14))
    assert Conv2d(x, value_of((64, 32, 3, 3)), padding=(1, 1, 1, 1)).macs() == 2 * 64 * 14 * 14 * 32 * 9
    assert Conv2d(x, value_of((32, 1, 5, 5)), stride=(2, 2), padding=(2, 2, 2, 2), groups=32).macs() == 2 * 32 * 7 * 7 * 25
    assert Conv2d(x, value_of((64, 8, 1, 1)), groups=4).macs() == 2 * 64 * 14 * 14 * 8
    # every input element meets each of its O/groups * kh * kw weights
    assert ConvTranspose2d(x, value_of((32, 4, 3, 3)), stride=(2, 2), groups=2).macs() == 2 * 32 * 14 * 14 * 4 * 9


def test_macs_follow_the_batch() -> None:
    graph = graph_of(Conv2d, [rand(1, 3, 8, 8), rand(4, 3, 3, 3), None], 1)
    assert graph.macs() == 4 * 36 * 27
    assert graph.at(5).macs() == 5 * graph.macs()


def test_out_size() -> None:
    assert out_size(7, 3, 2, 0, 0) == 3
    assert out_size(8, 3, 2, 0, 0) == 3
    assert out_size(8, 3, 2, 0, 0, ceil_mode=True) == 4
    assert out_size(8, 3, 2, 1, 0) == 4
    assert out_size(7, 3, 1, 0, 0, dilation=3) == 1
    assert out_size(6, 3, 1, 0, 0, dilation=3) == 0
    assert out_size(1, 9, 4, 0, 0) == 0


def test_conv2d_refusals() -> None:
    x, w = value_of((1, 8, 6, 6)), value_of((4, 8, 3, 3))
    refuses(r"x must be 4-d \(N, C, H, W\), got shape \[8, 6, 6\]", Conv2d, value_of((8, 6, 6)), w)
    refuses(r"w must be 4-d", Conv2d, x, value_of((4, 8)))
    refuses(r"w must have 8 input channels \(8 in 1 groups\), got shape \[4, 3, 3, 3\]", Conv2d, x, value_of((4, 3, 3, 3)))
    refuses(r"groups must divide the 8 input and 4 output channels, got 3", Conv2d, x, w, groups=3)
    refuses(r"groups must divide", Conv2d, x, w, groups=0)
    refuses(r"b must have shape \[4\], got \[8\]", Conv2d, x, w, value_of((8,)))
    refuses(r"stride must be 2 integers of at least 1, got \(0, 1\)", Conv2d, x, w, stride=(0, 1))
    refuses(r"padding must be 4 integers of at least 0, got \(1, 1\)", Conv2d, x, w, padding=(1, 1))
    refuses(r"padding must be 4 integers", Conv2d, x, w, padding=(-1, 0, 0, 0))
    refuses(r"dilation must be 2 integers of at least 1", Conv2d, x, w, dilation=(1,))
    refuses(r"kernel \[3, 3\] with dilation \[3, 1\] exceeds the padded input", Conv2d, x, w, dilation=(3, 1))
    refuses(r"x and w must hold the same element type, got f32 and f64", Conv2d, x, value_of((4, 8, 3, 3), "f64"))
    refuses(r"x must hold f16 or bf16 or f32 or f64", Conv2d, value_of((1, 8, 6, 6), "i8"), w)


def test_conv_transpose2d_refusals() -> None:
    x, w = value_of((1, 4, 5, 5)), value_of((4, 3, 2, 2))
    refuses(r"w must have 4 input channels, got shape \[3, 4, 2, 2\]", ConvTranspose2d, x, value_of((3, 4, 2, 2)))
    refuses(r"groups must divide the 4 input channels, got 3", ConvTranspose2d, x, w, groups=3)
    refuses(r"output_padding must be below stride or dilation, got \[1, 0\]", ConvTranspose2d, x, w, output_padding=(1, 0))
    refuses(r"b must have shape \[6\], got \[3\]", ConvTranspose2d, x, w, value_of((3,)), groups=2)
    refuses(r"the result must not be empty, got 0x6", ConvTranspose2d, x, w, padding=(3, 0))
    refuses(r"padding must be 2 integers of at least 0", ConvTranspose2d, x, w, padding=(0, 0, 0, 0))
