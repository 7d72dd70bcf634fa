"""Pooling; one-dimensional pooling and inputs without a batch go through reshapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....ir.op import Op, Value
from ....ir.ops import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d
from ...call import Call
from ...registry import converter


@converter("aten.max_pool2d.default", "aten.max_pool1d.default")
def max_pool(
    call: Call,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Value:
    space = 1 if "pool1d" in call.target else 2
    image, sides = _image(call, x, space), _sides(padding, space)
    op = MaxPool2d(
        image,
        kernel=_window(image, _pair(kernel, space, 1), sides, ceil_mode),
        stride=_pair(stride or kernel, space, 1),
        padding=sides,
        dilation=_pair(dilation, space, 1),
        ceil_mode=ceil_mode,
    )
    return call.reshape(op, call.shape)


@converter("aten.max_pool2d_with_indices.default", "aten.max_pool1d_with_indices.default")
def max_pool_with_indices(call: Call, *args: Any, **kwargs: Any) -> list[Value | None]:
    return [max_pool(call, *args, **kwargs), None]


@converter("aten.avg_pool2d.default", "aten.avg_pool1d.default")
def avg_pool(
    call: Call,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    space = 1 if "pool1d" in call.target else 2
    image, sides = _image(call, x, space), _sides(padding, space)
    op = AvgPool2d(
        image,
        kernel=_window(image, _pair(kernel, space, 1), sides, ceil_mode),
        stride=_pair(stride or kernel, space, 1),
        padding=sides,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor=divisor_override,
    )
    return call.reshape(op, call.shape)


@converter("aten.avg_pool3d.default")
def avg_pool_channels(
    call: Call,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """Windows along the channels only, as local response norm has them: x is (N, 1, C, H, W)."""
    window, step, sides = ([*v] * 3 if len(v) == 1 else [*v] for v in (kernel, stride or kernel, padding))
    if window[1:] != [1, 1] or step[1:] != [1, 1] or sides[1:] != [0, 0]:
        raise call.unsupported("pooling in three dimensions")
    dims = call.dims(x)
    image = call.reshape(x, (*dims[:-2], x.shape[-2] * x.shape[-1]))
    op = AvgPool2d(
        image,
        kernel=(window[0], 1),
        stride=(step[0], 1),
        padding=(sides[0], sides[0], 0, 0),
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor=divisor_override,
    )
    return call.reshape(op, call.shape)


@converter("aten.adaptive_avg_pool2d.default", "aten._adaptive_avg_pool2d.default", "aten.adaptive_avg_pool1d.default")
def adaptive_avg_pool(call: Call, x: Value, size: Sequence[int]) -> Value:
    return _adaptive(call, AdaptiveAvgPool2d, x, size)


@converter("aten.adaptive_max_pool2d.default", "aten.adaptive_max_pool1d.default")
def adaptive_max_pool(call: Call, x: Value, size: Sequence[int]) -> list[Value | None]:
    return [_adaptive(call, AdaptiveMaxPool2d, x, size), None]


def _adaptive(call: Call, kind: type[Op], x: Value, size: Sequence[int]) -> Value:
    space = 1 if "pool1d" in call.target else 2
    return call.reshape(kind(_image(call, x, space), size=_pair(size, space, 1)), call.shape)


def _image(call: Call, x: Value, space: int) -> Value:
    """x as (N, C, H, W)."""
    dims = call.dims(x)
    batched = dims if len(dims) == space + 2 else (1, *dims)
    return call.reshape(x, (*batched[:2], *(1,) * (2 - space), *batched[2:]))


def _window(x: Value, kernel: tuple[int, int], sides: tuple[int, int, int, int], ceil_mode: bool) -> tuple[int, int]:
    """The kernel; with ceil_mode torch allows one that exceeds the padded input, and cuts its one window off there."""
    if not ceil_mode:
        return kernel
    height, width = x.shape[2] + sides[0] + sides[1], x.shape[3] + sides[2] + sides[3]
    return (min(kernel[0], height), min(kernel[1], width))


def _pair(values: Sequence[int], space: int, lead: int) -> tuple[int, int]:
    if space == 1:
        return (lead, values[0])
    return (values[0], values[-1])


def _sides(padding: Sequence[int], space: int) -> tuple[int, int, int, int]:
    height, width = _pair(padding, space, 0)
    return (height, height, width, width)
