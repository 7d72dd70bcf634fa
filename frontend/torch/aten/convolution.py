"""Convolutions. One-dimensional and unbatched ones become two-dimensional ones between reshapes, three-dimensional ones sums of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....ir.op import Op, Value
from ....ir.ops import Conv2d, ConvTranspose2d, Transpose
from ...call import Call
from ...registry import converter
from .volumes import convolution3d, transposed_convolution3d


@converter("aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default")
def conv(
    call: Call,
    x: Value,
    w: Value,
    b: Value | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Value:
    return convolution(call, x, w, b, stride, padding, dilation, False, (0,), groups)


@converter("aten.conv1d.padding", "aten.conv2d.padding", "aten.conv3d.padding")
def conv_padding(
    call: Call,
    x: Value,
    w: Value,
    b: Value | None = None,
    stride: Sequence[int] = (1,),
    padding: str = "valid",
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Value:
    """padding="same": dilation * (kernel - 1) zeros in all, the odd one at the end."""
    kernel = w.shape[2:]
    dilation = _spread(dilation, len(kernel))
    total = [d * (k - 1) if padding == "same" else 0 for k, d in zip(kernel, dilation)]
    sides = [side for n in total for side in (n // 2, n - n // 2)]
    return _forward(call, x, w, b, stride, sides, dilation, groups)


@converter("aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")
def conv_transpose(
    call: Call,
    x: Value,
    w: Value,
    b: Value | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    output_padding: Sequence[int] = (0,),
    groups: int = 1,
    dilation: Sequence[int] = (1,),
) -> Value:
    return convolution(call, x, w, b, stride, padding, dilation, True, output_padding, groups)


@converter("aten._convolution.default", "aten._convolution.deprecated")
def private_convolution(call: Call, *args: Any) -> Value:
    """The arguments after the ninth are settings of torch's backends."""
    return convolution(call, *args[:9])


@converter("aten.convolution.default")
def convolution(
    call: Call,
    x: Value,
    w: Value,
    b: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Value:
    space = w.type.rank - 2
    padding = _spread(padding, space)
    if not transposed:
        return _forward(call, x, w, b, stride, [side for p in padding for side in (p, p)], dilation, groups)
    if space == 3:
        step, extra, apart = (_spread(v, space) for v in (stride, output_padding, dilation))
        return transposed_convolution3d(call, x, w, b, step, padding, extra, apart, groups)
    image = _image(call, x, w)
    lead = (0,) * (2 - space)
    op = ConvTranspose2d(
        image,
        _kernel(call, w),
        b,
        stride=_pair(stride, space, 1),
        padding=(*lead, *padding)[-2:],
        output_padding=(*lead, *_spread(output_padding, space))[-2:],
        dilation=_pair(dilation, space, 1),
        groups=groups,
    )
    return call.reshape(op, call.shape)


def _forward(
    call: Call, x: Value, w: Value, b: Value | None, stride: Sequence[int], sides: Sequence[int], dilation: Sequence[int], groups: int
) -> Value:
    """A convolution with padding (lo, hi) for each dimension of space."""
    space = w.type.rank - 2
    if space == 3:
        return convolution3d(call, x, w, b, _spread(stride, space), sides, _spread(dilation, space), groups)
    image = _image(call, x, w)
    top, bottom, left, right = (*(0, 0) * (2 - space), *sides)
    op: Op = Conv2d(
        image,
        _kernel(call, w),
        b,
        stride=_pair(stride, space, 1),
        padding=(top, bottom, left, right),
        dilation=_pair(dilation, space, 1),
        groups=groups,
    )
    return call.reshape(op, call.shape)


def _image(call: Call, x: Value, w: Value) -> Value:
    """x as (N, C, H, W): a missing batch and a missing height become 1."""
    space = w.type.rank - 2
    if space not in (1, 2):
        raise call.unsupported(f"a convolution over {space} dimensions; valid: 1, 2 and 3")
    dims = call.dims(x)
    batched = dims if len(dims) == space + 2 else (1, *dims)
    return call.reshape(x, (*batched[:2], *(1,) * (2 - space), *batched[2:]))


def _kernel(call: Call, w: Value) -> Value:
    return call.reshape(w, (*w.shape[:2], *(1,) * (4 - w.type.rank), *w.shape[2:]))


def _spread(values: Sequence[int], space: int) -> list[int]:
    return list(values) if len(values) == space else list(values) * space


def _pair(values: Sequence[int], space: int, lead: int) -> tuple[int, int]:
    spread = _spread(values, space)
    return (lead, spread[0]) if space == 1 else (spread[0], spread[1])


@converter("aten.conv_tbc.default")
def conv_tbc(call: Call, x: Value, w: Value, b: Value, pad: int = 0) -> Value:
    """A convolution over time of x (time, batch, channels) by w (taps, channels, outputs)."""
    image = Transpose(x, (1, 2, 0)).out
    kernel = Transpose(w, (2, 1, 0)).out
    n, c, size = image.shape
    y = Conv2d(call.reshape(image, (n, c, 1, size)), call.reshape(kernel, (*kernel.shape[:2], 1, kernel.shape[2])), b, padding=(0, 0, pad, pad)).out
    return Transpose(call.reshape(y, (n, y.shape[1], y.shape[3])), (2, 0, 1)).out
