"""Pooling against torch: ceil_mode's last window, which padding counts, asymmetric padding, dilation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from op_cases import check, ints, rand, refuses, value_of

from tersor.ir.ops import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d

POOLS = [
    # size, kernel, stride, padding of torch (h, w), ceil_mode
    ((8, 8), (2, 2), (2, 2), (0, 0), False),
    ((7, 9), (3, 3), (2, 2), (1, 1), False),
    ((7, 9), (3, 3), (2, 2), (1, 1), True),
    ((6, 6), (3, 2), (3, 1), (1, 0), True),
    ((5, 5), (2, 2), (2, 2), (1, 1), True),
    ((5, 6), (3, 3), (1, 2), (0, 1), False),
    # the last window would start in the bottom and right padding: torch drops it
    ((3, 3), (2, 2), (2, 2), (1, 1), True),
    ((1, 4), (2, 2), (3, 3), (1, 1), True),
    # global
    ((4, 5), (4, 5), (4, 5), (0, 0), False),
]


@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "ceil"), POOLS)
def test_max_pool2d(size: Any, kernel: Any, stride: Any, padding: Any, ceil: bool) -> None:
    t, le = padding

    def oracle(x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(x, kernel, stride, padding, 1, ceil)

    check(MaxPool2d, [rand(3, 2, *size)], oracle, kernel=kernel, stride=stride, padding=(t, t, le, le), ceil_mode=ceil)


@pytest.mark.parametrize("divisor", [None, 3])
@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "ceil"), POOLS)
def test_avg_pool2d(size: Any, kernel: Any, stride: Any, padding: Any, ceil: bool, include: bool, divisor: int | None) -> None:
    t, le = padding

    def oracle(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, kernel, stride, padding, ceil, include, divisor)

    attrs = {"kernel": kernel, "stride": stride, "padding": (t, t, le, le), "ceil_mode": ceil, "count_include_pad": include, "divisor": divisor}
    check(AvgPool2d, [rand(3, 2, *size)], oracle, **attrs)


def test_ceil_mode_drops_a_window_that_starts_behind_the_input() -> None:
    x = value_of((1, 1, 3, 3))
    # 3 + 1 + 1 = 5 rows padded: ceil((5 - 2) / 2) + 1 = 3 windows, the third starts at padded row 4 = the bottom padding
    assert MaxPool2d(x, (2, 2), (2, 2), (1, 1, 1, 1), ceil_mode=True).out.shape == (1, 1, 2, 2)
    # one row more, and it starts at the last row of the input
    assert MaxPool2d(value_of((1, 1, 4, 4)), (2, 2), (2, 2), (1, 1, 1, 1), ceil_mode=True).out.shape == (1, 1, 3, 3)


def test_count_include_pad_never_counts_what_ceil_mode_adds() -> None:
    x = np.ones((1, 1, 4, 4))
    op = AvgPool2d(value_of(x.shape), (3, 3), (2, 2), ceil_mode=True)
    # no padding: the last window covers 2 rows of the input and one row that is not there
    assert op.counts(0, 4) == [3, 2]
    assert torch.equal(op.evaluate(torch.from_numpy(x)), torch.ones(1, 1, 2, 2, dtype=torch.float64))
    # size 6, padding 1: windows at -1, 2, 5 (the last covers row 5, the padding behind it, and two rows that are not there)
    assert AvgPool2d(value_of((1, 1, 6, 6)), (4, 4), (3, 3), (1, 1, 1, 1), ceil_mode=True).counts(0, 6) == [4, 4, 2]
    assert AvgPool2d(value_of((1, 1, 6, 6)), (4, 4), (3, 3), (1, 1, 1, 1), True, False).counts(0, 6) == [3, 4, 1]


@st.composite
def pool_cases(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[str, Any], tuple[int, int]]:
    def pair(low: int, high: int) -> tuple[int, int]:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    kernel, dilation, stride = pair(1, 4), pair(1, 3), pair(1, 4)
    padding = tuple(draw(st.integers(0, kernel[i] // 2)) for i in (0, 1))
    size = tuple(draw(st.integers(max(1, dilation[i] * (kernel[i] - 1) + 1 - 2 * padding[i]), 12)) for i in (0, 1))
    attrs = {"kernel": kernel, "stride": stride, "padding": (padding[0], padding[0], padding[1], padding[1]), "ceil_mode": draw(st.booleans())}
    return size, attrs, dilation


@settings(max_examples=200, deadline=None)
@given(pool_cases())
def test_max_pool2d_is_torch_on_random_geometry(case: Any) -> None:
    size, attrs, dilation = case
    x = torch.from_numpy(rand(2, 2, *size))
    op = MaxPool2d(value_of(x.shape), dilation=dilation, **attrs)
    expected = F.max_pool2d(x, attrs["kernel"], attrs["stride"], attrs["padding"][::2], dilation, attrs["ceil_mode"])
    assert op.out.shape == tuple(expected.shape)
    assert torch.equal(op.evaluate(x), expected)


@settings(max_examples=200, deadline=None)
@given(pool_cases(), st.booleans())
def test_avg_pool2d_is_torch_on_random_geometry(case: Any, include: bool) -> None:
    size, attrs, _ = case
    size = tuple(max(s, k) for s, k in zip(size, attrs["kernel"]))
    x = torch.from_numpy(rand(2, 2, *size))
    op = AvgPool2d(value_of(x.shape), count_include_pad=include, **attrs)
    expected = F.avg_pool2d(x, attrs["kernel"], attrs["stride"], attrs["padding"][::2], attrs["ceil_mode"], include)
    assert op.out.shape == tuple(expected.shape)
    torch.testing.assert_close(op.evaluate(x), expected)


@st.composite
def lopsided(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, int], tuple[int, int], tuple[int, ...]]:
    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    pads = tuple(draw(st.integers(0, kernel[i // 2] - 1)) for i in range(4))
    size = tuple(draw(st.integers(kernel[i], 9)) for i in (0, 1))
    return size, kernel, (draw(st.integers(1, 3)), draw(st.integers(1, 3))), pads


def windows(size: int, kernel: int, stride: int, lo: int, hi: int) -> list[tuple[int, int]]:
    """First and last-but-one padded index of each whole window, in coordinates of the input."""
    return [(s - lo, s - lo + kernel) for s in range(0, size + lo + hi - kernel + 1, stride)]


@settings(max_examples=100, deadline=None)
@given(lopsided(), st.booleans())
def test_asymmetric_padding_is_a_plain_loop_over_windows(case: Any, include: bool) -> None:
    size, kernel, stride, pads = case
    x = rand(1, 2, *size)
    rows, columns = (windows(size[i], kernel[i], stride[i], pads[2 * i], pads[2 * i + 1]) for i in (0, 1))
    parts = [[x[:, :, max(a, 0) : b, max(c, 0) : d] for c, d in columns] for a, b in rows]
    top = np.stack([np.stack([p.max((2, 3)) for p in line], -1) for line in parts], -2)
    total = np.stack([np.stack([p.sum((2, 3)) for p in line], -1) for line in parts], -2)
    count = np.array([[kernel[0] * kernel[1] if include else p.shape[2] * p.shape[3] for p in line] for line in parts])
    v, t = value_of(x.shape), torch.from_numpy(x)
    np.testing.assert_array_equal(MaxPool2d(v, kernel, stride, pads).evaluate(t).numpy(), top)
    mean = AvgPool2d(v, kernel, stride, pads, count_include_pad=include).evaluate(t).numpy()
    np.testing.assert_allclose(mean, total / count, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64"])
def test_max_pool2d_of_integers_never_lets_padding_win(dtype: str) -> None:
    x = ints(1, 2, 5, 5, low=0 if dtype == "uint8" else -9, high=-1 if dtype != "uint8" else 9, dtype=dtype)
    op = MaxPool2d(value_of(x.shape, {"uint8": "u8", "int8": "i8", "int32": "i32", "int64": "i64"}[dtype]), (3, 3), (2, 2), (1, 1, 1, 1))
    got = op.evaluate(torch.from_numpy(x))
    assert got.dtype == torch.from_numpy(x).dtype
    assert torch.equal(got.double(), F.max_pool2d(torch.from_numpy(x).double(), 3, 2, 1))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
def test_max_pool2d_of_integers_in_any_memory_order(dtype: str) -> None:
    """Channels that lie together, as those of a decoded image do, on a map of more than 255 elements."""
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 120, (2, 20, 18, 5)).astype(dtype)).permute(0, 3, 1, 2)
    got = MaxPool2d(value_of((2, 5, 20, 18), {"uint8": "u8", "int8": "i8", "int32": "i32"}[dtype]), (3, 3), (2, 2), (1, 1, 1, 1)).evaluate(x)
    assert torch.equal(got.double(), F.max_pool2d(x.double(), 3, 2, 1))


def test_max_pool2d_passes_nan_on() -> None:
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 3, 3] = float("nan")
    assert MaxPool2d(value_of((1, 1, 4, 4)), (2, 2), (2, 2)).evaluate(x).isnan().flatten().tolist() == [False, False, False, True]


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (7, 5), (8, 11)])
def test_adaptive_pools(size: tuple[int, int]) -> None:
    check(AdaptiveAvgPool2d, [rand(3, 2, 7, 9)], lambda x: F.adaptive_avg_pool2d(x, size), size=size)
    check(AdaptiveMaxPool2d, [rand(3, 2, 7, 9)], lambda x: F.adaptive_max_pool2d(x, size), size=size)


def test_refusals() -> None:
    x = value_of((1, 2, 5, 5))
    for kind in (MaxPool2d, AvgPool2d):
        refuses(r"x must be 4-d", kind, value_of((2, 5, 5)), (2, 2), (2, 2))
        refuses(r"padding must be below the window's extent \[2, 2\], got \[0, 2, 0, 0\]", kind, x, (2, 2), (2, 2), (0, 2, 0, 0))
        refuses(r"window \[6, 2\] exceeds the padded input", kind, x, (6, 2), (2, 2))
        refuses(r"kernel must be 2 integers of at least 1", kind, x, (0, 2), (2, 2))
        refuses(r"stride must be 2 integers of at least 1", kind, x, (2, 2), (2,))
    refuses(r"window \[7, 1\] exceeds", MaxPool2d, x, (3, 1), (1, 1), dilation=(3, 1))
    refuses(r"dilation must be 2 integers of at least 1", MaxPool2d, x, (3, 1), (1, 1), dilation=(0, 1))
    refuses(r"divisor must be at least 1, got 0", AvgPool2d, x, (2, 2), (2, 2), divisor=0)
    refuses(r"x must hold f16", AvgPool2d, value_of((1, 2, 5, 5), "i32"), (2, 2), (2, 2))
    refuses(r"size must be 2 integers of at least 1, got \(0, 1\)", AdaptiveAvgPool2d, x, (0, 1))
    refuses(r"x must be 4-d", AdaptiveMaxPool2d, value_of((5, 5)), (1, 1))
