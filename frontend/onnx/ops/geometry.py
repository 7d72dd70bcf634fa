"""Window geometry over one, two or three dimensions of space: explicit padding from auto_pad, and two-dimensional forms."""

from __future__ import annotations

from collections.abc import Sequence

from ....ir.op import Value
from ..node import Node

Sides = tuple[tuple[int, int], ...]


def spread(node: Node, values: Sequence[int] | None, space: int, what: str) -> tuple[int, ...]:
    """One number for each dimension of space, 1 without any."""
    if values is None:
        return (1,) * space
    if len(values) != space:
        raise node.unsupported(f"{what} {list(values)} for {space} dimensions of space; valid: {space} numbers")
    return tuple(values)


def sides_of(
    node: Node, x: Value, auto_pad: str, pads: Sequence[int] | None, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Sides:
    """(before, after) for each dimension of space. SAME: ceil(size / stride) windows, the odd one after (UPPER) or before (LOWER)."""
    space = len(kernel)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        result = []
        for i in range(space):
            size = node.static(x, 2 + i)
            count = -(-size // stride[i])
            total = max(0, (count - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 - size)
            less, more = total // 2, total - total // 2
            result.append((less, more) if auto_pad == "SAME_UPPER" else (more, less))
        return tuple(result)
    if auto_pad not in ("NOTSET", "VALID", ""):
        raise node.unsupported(f"auto_pad {auto_pad!r}; valid: NOTSET, VALID, SAME_UPPER, SAME_LOWER")
    if pads is None or auto_pad == "VALID":
        return ((0, 0),) * space
    if len(pads) != 2 * space:
        raise node.unsupported(f"pads {list(pads)} for {space} dimensions of space; valid: {2 * space} numbers")
    return tuple(zip(pads[:space], pads[space:]))


def as_image(node: Node, x: Value, space: int) -> Value:
    """x (N, C, W) as (N, C, 1, W)."""
    dims = node.dims(x)
    return node.reshape(x, (*dims[:2], *(1,) * (2 - space), *dims[2:]))


def pair(values: Sequence[int], lead: int) -> tuple[int, int]:
    """Numbers for height and width; a missing height takes `lead`."""
    return (values[0], values[1]) if len(values) == 2 else (lead, values[0])


def four(sides: Sides) -> tuple[int, int, int, int]:
    """(top, bottom, left, right)"""
    (top, bottom), (left, right) = sides if len(sides) == 2 else ((0, 0), sides[0])
    return top, bottom, left, right
