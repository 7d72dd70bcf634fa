"""Pooling over one, two and three axes, with or without a batch.

Windows over one axis are windows over two, of height 1. Over three axes they are taken along height and width first, and then along depth:
maxima of maxima are maxima, and means of means of as many elements are means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ....ir.op import Op, Value
from ....ir.ops import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d, Mul
from ...call import Call
from ...registry import converter
from .windows import adaptive_sources, places_of_maxima, window_sources

#: A pooling of maps (N, C, H, W) with kernel, stride, padding and dilation along H and W.
Pool = Callable[[Value, list[int], list[int], list[int], list[int]], Op]


@converter("aten.max_pool1d.default", "aten.max_pool2d.default", "aten.max_pool3d.default")
def max_pool(
    call: Call,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Value:
    def pool(image: Value, k: list[int], s: list[int], p: list[int], d: list[int]) -> Op:
        sides = (p[0], p[0], p[1], p[1])
        return MaxPool2d(image, _window(image, k, sides, ceil_mode), (s[0], s[1]), sides, (d[0], d[1]), ceil_mode)

    return _pooled(call, x, pool, kernel, stride, padding, dilation)


@converter("aten.max_pool1d_with_indices.default", "aten.max_pool2d_with_indices.default", "aten.max_pool3d_with_indices.default")
def max_pool_with_indices(
    call: Call,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> list[Value]:
    space = _space(call)
    geometry = zip(x.shape[-space:], *(_spread(v, space) for v in (kernel, stride or kernel, padding, dilation)))
    sources = [window_sources(size, k, s, p, d, ceil_mode) for size, k, s, p, d in geometry]
    return [max_pool(call, x, kernel, stride, padding, dilation, ceil_mode), places_of_maxima(call, x, sources)]


@converter("aten.avg_pool1d.default", "aten.avg_pool2d.default", "aten.avg_pool3d.default")
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
    # two passes give sums, divided once after them
    once = divisor_override is not None and _space(call) == 3
    divisor = 1 if once else divisor_override

    def pool(image: Value, k: list[int], s: list[int], p: list[int], d: list[int]) -> Op:
        sides = (p[0], p[0], p[1], p[1])
        return AvgPool2d(image, _window(image, k, sides, ceil_mode), (s[0], s[1]), sides, ceil_mode, count_include_pad, divisor)

    y = _pooled(call, x, pool, kernel, stride, padding, (1,))
    return Mul(y, call.cast(1 / divisor_override, call.elem)).out if once and divisor_override else y


@converter("aten.adaptive_avg_pool1d.default", "aten.adaptive_avg_pool2d.default", "aten.adaptive_avg_pool3d.default")
@converter("aten._adaptive_avg_pool2d.default", "aten._adaptive_avg_pool3d.default")
def adaptive_avg_pool(call: Call, x: Value, size: Sequence[int]) -> Value:
    return _adaptive(call, AdaptiveAvgPool2d, x, size)


@converter("aten.adaptive_max_pool1d.default", "aten.adaptive_max_pool2d.default", "aten.adaptive_max_pool3d.default")
def adaptive_max_pool(call: Call, x: Value, size: Sequence[int]) -> list[Value]:
    sources = [adaptive_sources(n, count) for n, count in zip(x.shape[-_space(call) :], _spread(size, _space(call)))]
    return [_adaptive(call, AdaptiveMaxPool2d, x, size), places_of_maxima(call, x, sources)]


def _pooled(call: Call, x: Value, pool: Pool, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]) -> Value:
    """Windows over all axes of space."""
    space = _space(call)
    given = [_spread(v, space) for v in (kernel, stride or kernel, padding, dilation)]
    still = [1, 1, 0, 1]
    if not x.type.is_float and "avg" in call.target:
        raise call.unsupported(f"an average of {x.type.elem}; valid: floats")
    image = _image(call, x, space)
    if space < 3:
        k, s, p, d = ([n, *v] if space == 1 else v for n, v in zip(still, given))
        return call.reshape(pool(image, k, s, p, d), call.shape)
    k, s, p, d = (v[1:] for v in given)
    # local response norm has windows along the channels only, as the depth of a volume
    plane = image if (k, s, p) == ([1, 1], [1, 1], [0, 0]) else pool(image, k, s, p, d).out
    k, s, p, d = ([v[0], n] for n, v in zip(still, given))
    return call.reshape(pool(_lines(call, x, plane), k, s, p, d), call.shape)


def _adaptive(call: Call, kind: type[Op], x: Value, size: Sequence[int]) -> Value:
    space = _space(call)
    size, image = _spread(size, space), _image(call, x, space)
    if space < 3:
        return call.reshape(kind(image, size=(1, size[0]) if space == 1 else (size[0], size[1])), call.shape)
    plane = kind(image, size=(size[1], size[2])).out
    return call.reshape(kind(_lines(call, x, plane), size=(size[0], size[1] * size[2])), call.shape)


def _space(call: Call) -> int:
    """The number of axes that windows slide along."""
    return next(n for n in (1, 2, 3) if f"pool{n}d" in call.target)


def _spread(values: Sequence[int], space: int) -> list[int]:
    return list(values) if len(values) == space else list(values) * space


def _image(call: Call, x: Value, space: int) -> Value:
    """x as (N, C, H, W), or (N, C*D, H, W)."""
    dims = call.dims(x)
    n, c, *sizes = dims if len(dims) == space + 2 else (1, *dims)
    if space == 3:
        return call.reshape(x, (n, -1 if c < 0 else c * sizes[0], *sizes[1:]))
    return call.reshape(x, (n, c, *(1,) * (2 - space), *sizes))


def _lines(call: Call, x: Value, plane: Value) -> Value:
    """What became of the planes of a volume x, (N, C*D, H, W), as maps (N, C, D, H*W)."""
    dims = call.dims(x)
    n, c, depth, *_ = dims if len(dims) == 5 else (1, *dims)
    return call.reshape(plane, (n, c, depth, plane.shape[2] * plane.shape[3]))


def _window(x: Value, kernel: list[int], sides: tuple[int, int, int, int], ceil_mode: bool) -> tuple[int, int]:
    """The kernel; with ceil_mode torch allows one that exceeds the padded input, and cuts its one window off there."""
    if not ceil_mode:
        return (kernel[0], kernel[1])
    height, width = x.shape[2] + sides[0] + sides[1], x.shape[3] + sides[2] + sides[3]
    return (min(kernel[0], height), min(kernel[1], width))
