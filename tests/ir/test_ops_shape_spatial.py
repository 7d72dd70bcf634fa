"""Operators that move elements, resize and rearrange, against torch and numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from op_cases import check, constant, ints, rand, refuses, value_of

from tersor.ir import Uniform
from tersor.ir import ops as o


@pytest.mark.parametrize("shape", [(-1, 24), (-1, 4, 2, 3), (-1,), (-1, 6, 4, 1)])
def test_reshape(shape: tuple[int, ...]) -> None:
    check(o.Reshape, [rand(3, 4, 6)], lambda x: x.reshape(shape), shape=shape)


def test_reshape_that_moves_the_batch() -> None:
    check(o.Reshape, [rand(3, 4, 6)], lambda x: x.reshape(2, -1, 12), shape=(2, -1, 12))


def test_reshape_static() -> None:
    check(o.Reshape, [rand(2, 6)], lambda x: x.reshape(3, 4), shape=(3, 4), batched=False)
    check(o.Reshape, [rand(1, 1)], lambda x: x.reshape(()), shape=(), batched=False)


@pytest.mark.parametrize("perm", [(0, 2, 3, 1), (1, 0, 2, 3), (3, 2, 1, 0), (0, 1, 2, 3)])
def test_transpose(perm: tuple[int, ...]) -> None:
    check(o.Transpose, [rand(3, 4, 5, 6)], lambda x: x.permute(perm), perm=perm)


@pytest.mark.parametrize(("old", "new"), [((3, 1, 5), (-1, 4, -1)), ((3, 1, 1), (-1, 2, 7)), ((3, 1), (2, -1, 4)), ((3, 4), (-1, 4))])
def test_expand(old: tuple[int, ...], new: tuple[int, ...]) -> None:
    check(o.Expand, [rand(*old)], lambda x: x.expand(new), shape=new)


CONCATS = [([(3, 2, 4), (3, 5, 4)], 1), ([(3, 4), (3, 4), (3, 4)], 1), ([(3, 2, 4), (3, 2, 1)], 2), ([(3, 2)], 0)]


@pytest.mark.parametrize(("shapes", "axis"), CONCATS)
def test_concat(shapes: Any, axis: int) -> None:
    check(o.Concat, [[rand(*s, seed=i) for i, s in enumerate(shapes)]], lambda xs: torch.cat(xs, axis), axis=axis)


@pytest.mark.parametrize(("axis", "start", "stop", "step"), [(1, 0, 3, 1), (1, 2, 7, 2), (2, 3, 4, 1), (1, 0, 7, 3), (2, 1, 5, 9)])
def test_slice(axis: int, start: int, stop: int, step: int) -> None:
    index = (slice(None),) * axis + (slice(start, stop, step),)
    check(o.Slice, [rand(3, 7, 5)], lambda x: x[index], axis=axis, start=start, stop=stop, step=step)


def test_index_select() -> None:
    index = np.array([2, 0, 0, 3])
    check(o.IndexSelect, [rand(3, 5, 4), index], lambda x, i: x[:, :, i], axis=2)
    check(o.IndexSelect, [rand(7, 4), index], lambda table, i: F.embedding(i, table), axis=0, batched=False)


PADS = [((0, 0, 0, 0, 1, 2, 3, 4), "constant"), ((0, 0, 1, 0, 0, 0, 2, 2), "constant"), ((0, 0, 0, 0, -1, 2, 1, -2), "constant")]
PADS += [((0, 0, 0, 0, 1, 2, 3, 4), mode) for mode in ("reflect", "replicate", "circular")]
PADS += [((0, 0, 0, 0, 0, 0, 2, 1), mode) for mode in ("reflect", "replicate", "circular")]


@pytest.mark.parametrize(("pads", "mode"), PADS)
def test_pad(pads: tuple[int, ...], mode: str) -> None:
    value = 1.5 if mode == "constant" else 0.0
    tail = tuple(p for i in range(3, 0 if mode == "constant" else 1, -1) for p in pads[2 * i : 2 * i + 2])

    def oracle(x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, tail, mode, value if mode == "constant" else None)

    check(o.Pad, [rand(3, 2, 5, 6)], oracle, pads=pads, mode=mode, value=value)


NUMPY_MODES = [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")]


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 7), st.integers(-3, 9), st.integers(-3, 9), st.sampled_from(NUMPY_MODES))
def test_pad_of_one_axis_is_numpys(size: int, lo: int, hi: int, mode: tuple[str, str]) -> None:
    ours, theirs = mode
    limit = {"reflect": size - 1, "circular": size}.get(ours, 99)
    lo, hi = min(lo, limit), min(hi, limit)
    if size + min(lo, 0) + min(hi, 0) < 1:
        refuses(r"pads must leave something of x", o.Pad, value_of((size, 3)), (lo, hi, 0, 0), ours)
        return
    x = np.arange(size * 3.0).reshape(size, 3)
    # both pads read x itself, what is cropped included
    expected = np.pad(x, ((max(lo, 0), max(hi, 0)), (0, 0)), theirs)[max(-lo, 0) : -max(-hi, 0) or None]
    op = o.Pad(value_of(x.shape), (lo, hi, 0, 0), ours)
    got = op.evaluate(torch.from_numpy(x))
    assert op.out.shape == tuple(got.shape)
    np.testing.assert_array_equal(got.numpy(), expected)


def test_pad_of_integers_and_bools() -> None:
    check(o.Pad, [ints(3, 2)], lambda x: F.pad(x, (1, 1), value=-7), pads=(0, 0, 1, 1), value=-7.0)
    check(o.Pad, [rand(3, 2) > 0], lambda x: F.pad(x, (1, 1), value=False), pads=(0, 0, 1, 1))


@pytest.mark.parametrize("scale", [(2.0, 2.0), (1.5, 0.5), (2.3, 1.9), (3.0, 1.0)])
@pytest.mark.parametrize(("mode", "align"), [("nearest", False), ("bilinear", False), ("bilinear", True)])
def test_upsample(scale: tuple[float, float], mode: str, align: bool) -> None:
    x = rand(3, 2, 5, 7)
    size = (int(5 * scale[0]), int(7 * scale[1]))
    corners = align if mode == "bilinear" else None
    by_size = check(o.Upsample, [x], lambda t: F.interpolate(t, size, mode=mode, align_corners=corners), size=size, mode=mode, align_corners=align)
    assert by_size.out.shape == (1, 2, *size)
    check(
        o.Upsample,
        [x],
        lambda t: F.interpolate(t, scale_factor=scale, mode=mode, align_corners=corners),
        size=size,
        mode=mode,
        align_corners=align,
        scales=scale,
    )


def test_explicit_scales_change_the_sampling() -> None:
    x = torch.from_numpy(rand(1, 1, 5, 7))
    size = (11, 13)
    plain, scaled = (o.Upsample(value_of(x.shape), size, "bilinear", scales=s).evaluate(x) for s in (None, (2.3, 1.9)))
    assert not torch.allclose(plain, scaled)


def test_shuffles() -> None:
    check(o.PixelShuffle, [rand(3, 12, 4, 5)], lambda x: F.pixel_shuffle(x, 2), factor=2)
    check(o.PixelShuffle, [rand(3, 18, 2, 2)], lambda x: F.pixel_shuffle(x, 3), factor=3)
    check(o.PixelUnshuffle, [rand(3, 3, 4, 6)], lambda x: F.pixel_unshuffle(x, 2), factor=2)
    check(o.ChannelShuffle, [rand(3, 12, 4, 5)], lambda x: F.channel_shuffle(x, 3), groups=3, gradients=False)
    check(o.ChannelShuffle, [rand(3, 6)], lambda x: x.reshape(-1, 2, 3).transpose(1, 2).reshape(-1, 6), groups=2)


def test_shape_refusals() -> None:
    x = value_of((2, 3, 4))
    refuses(r"shape \[5, -1\] cannot hold the 24 elements of x \[2, 3, 4\]", o.Reshape, x, (5, -1))
    refuses(r"shape \[5, 5\] cannot hold the 24 elements", o.Reshape, x, (5, 5))
    refuses(r"shape \[0, -1\] cannot hold", o.Reshape, x, (0, -1))
    refuses(r"at most one -1, got \[-1, -1\]", o.Reshape, x, (-1, -1))
    refuses(r"at most one -1, got \[-2, 12\]", o.Reshape, x, (-2, 12))
    refuses(r"perm must order the axes 0 to 2, got \[0, 1\]", o.Transpose, x, (0, 1))
    refuses(r"perm must order the axes", o.Transpose, x, (0, 1, 1))
    for shape in ((2, 3), (-1, 5, -1), (-1, 2, 3, 4), (2, 3, -2)):
        refuses(r"x \[2, 3, 4\] cannot expand to", o.Expand, x, shape)
    refuses(r"0 <= start < stop <= 3 and step >= 1 must hold on axis 1, got 0:4:1", o.Slice, x, 1, 0, 4)
    for bounds in ((2, 2), (-1, 2), (0, 2, 0), (0, 2, -1)):
        refuses(r"0 <= start < stop <= 3", o.Slice, x, 1, *bounds)
    refuses(r"axis must be from 0 to 2, got 3", o.Slice, x, 3, 0, 1)
    along_axis = value_of((2, 3, 4), Uniform("i8", (0.5,) * 3, (0,) * 3, axis=1))
    refuses(r"x must have one scale for the tensor, got scales along axis 1", o.Reshape, along_axis, (6, 4))
    refuses(r"xs must have one scale for the tensor", o.Concat, [along_axis, along_axis], 1)


def test_concat_refusals() -> None:
    x = value_of((2, 3, 4))
    refuses(r"xs must hold at least one tensor, got none", o.Concat, [], 0)
    refuses(r"xs must agree but for axis 1, got shapes \[2, 3, 4\] and \[2, 3, 5\]", o.Concat, [x, value_of((2, 3, 5))], 1)
    refuses(r"xs must agree but for axis 1", o.Concat, [x, value_of((2, 3))], 1)
    refuses(r"xs must hold one element type", o.Concat, [x, value_of((2, 3, 4), "i32")], 1)
    refuses(r"axis must be from 0 to 2, got -1", o.Concat, [x], -1)


def test_index_and_pad_refusals() -> None:
    x = value_of((2, 3, 4))
    refuses(r"index must hold i64", o.IndexSelect, x, value_of((2,), "i32"), 1)
    refuses(r"index must be 1-d, got shape \[2, 2\]", o.IndexSelect, x, value_of((2, 2), "i64"), 1)
    refuses(r"index must lie within 0 to 2, got 0 to 3", o.IndexSelect, x, constant(0, 3), 1)
    refuses(r"index must lie within 0 to 2, got -1 to 1", o.IndexSelect, x, constant(-1, 1), 1)
    refuses(r"axis must be from 0 to 2, got 5", o.IndexSelect, x, constant(0), 5)
    refuses(r"pads must be 6 integers, two for each axis, got \[1, 1\]", o.Pad, x, (1, 1))
    refuses(r"mode must be one of constant, reflect, replicate, circular, got 'edge'", o.Pad, x, (0,) * 6, "edge")
    refuses(r"value belongs to mode 'constant', got 1.0 with mode 'reflect'", o.Pad, x, (0,) * 6, "reflect", 1.0)
    refuses(r"reflect can pad an axis of size 3 by at most 2, got 0 and 3", o.Pad, x, (0, 0, 0, 3, 0, 0), "reflect")
    refuses(r"circular can pad an axis of size 3 by at most 3, got 4 and 0", o.Pad, x, (0, 0, 4, 0, 0, 0), "circular")
    refuses(r"pads must leave something", o.Pad, x, (-1, -1, 0, 0, 0, 0))


def test_spatial_refusals() -> None:
    x = value_of((1, 6, 4, 6))
    refuses(r"mode must be 'nearest' or 'bilinear', got 'bicubic'", o.Upsample, x, (8, 8), "bicubic")
    refuses(r"align_corners belongs to mode 'bilinear'", o.Upsample, x, (8, 8), align_corners=True)
    refuses(r"size must be 2 integers of at least 1", o.Upsample, x, (0, 8))
    refuses(r"scales must be two positive numbers, got \(0.0, 2.0\)", o.Upsample, x, (8, 8), scales=(0.0, 2.0))
    refuses(r"x must be 4-d", o.Upsample, value_of((6, 4, 6)), (8, 8))
    refuses(r"channels must be a multiple of factor squared, got 6 channels and factor 2", o.PixelShuffle, x, 2)
    refuses(r"height and width must be multiples of factor, got 4x6 and factor 4", o.PixelUnshuffle, x, 4)
    refuses(r"C a multiple of the 4 groups, got shape \[1, 6, 4, 6\]", o.ChannelShuffle, x, 4)
