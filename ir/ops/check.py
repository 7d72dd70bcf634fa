"""Helpers of type inference: operand checks that fail with expected and got, and shape arithmetic."""

from __future__ import annotations

from ..op import Op, Value
from ..types import FLOATS, NUMPY, Elem, Layout, Tensor


def plain(op: Op, *names: str, boolean: bool = False) -> Elem:
    """Element type of the named operands, which must be one plain type (never quantized; bool only when allowed)."""
    return _same(op, names, tuple(e for e in NUMPY if boolean or e != "bool"))


def movable(op: Op, name: str = "x", *, boolean: bool = True) -> Elem:
    """Element type of an operand that is only moved or compared: plain, or quantized with one scale for the tensor.

    Scales are positive, so stored integers are ordered as the numbers that they stand for.
    """
    type: Tensor = getattr(op, name).type
    if isinstance(type.elem, str):
        return plain(op, name, boolean=boolean)
    if type.elem.axis is not None:
        raise op.fail(f"{name} must have one scale for the tensor, got scales along axis {type.elem.axis}: {type}")
    return type.elem


def floats(op: Op, *names: str) -> Elem:
    """Element type of the named operands, which must be one float type."""
    return _same(op, names, FLOATS)


def exactly(op: Op, elem: str, *names: str) -> None:
    """The named operands must hold `elem`."""
    _same(op, names, (elem,))


def _same(op: Op, names: tuple[str, ...], valid: tuple[str, ...]) -> Elem:
    operands: dict[str, Value | None] = {name: getattr(op, name) for name in names}
    given = [(name, v) for name, v in operands.items() if v is not None]
    for name, v in given:
        if v.type.elem not in valid:
            raise op.fail(f"{name} must hold {' or '.join(valid)}, got {v.type}")
    first, *rest = given
    for name, v in rest:
        if v.type.elem != first[1].type.elem:
            raise op.fail(f"{first[0]} and {name} must hold the same element type, got {first[1].type.elem} and {v.type.elem}")
    return first[1].type.elem


def rank(op: Op, name: str, expected: int, axes: str) -> tuple[int, ...]:
    """Shape of an operand that must have `expected` dimensions, called `axes` in the message."""
    v: Value = getattr(op, name)
    if v.type.rank != expected:
        raise op.fail(f"{name} must be {expected}-d {axes}, got shape {list(v.shape)}")
    return v.shape


def has_shape(op: Op, name: str, expected: tuple[int, ...]) -> None:
    """An operand that is present must have exactly this shape."""
    v: Value | None = getattr(op, name)
    if v is not None and v.shape != expected:
        raise op.fail(f"{name} must have shape {list(expected)}, got {list(v.shape)}")


def axis_in_range(op: Op, axis: int, dims: int) -> None:
    if not 0 <= axis < dims:
        raise op.fail(f"axis must be from 0 to {dims - 1}, got {axis}")


def at_least(op: Op, name: str, count: int, low: int) -> tuple[int, ...]:
    """An attribute that must be `count` integers, none below `low`."""
    values: tuple[int, ...] = getattr(op, name)
    if not isinstance(values, tuple) or len(values) != count or any(not isinstance(v, int) or v < low for v in values):
        raise op.fail(f"{name} must be {count} integers of at least {low}, got {values}")
    return values


def broadcast(op: Op, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """numpy's broadcasting of shapes."""
    result: list[int] = []
    for i in range(-max(map(len, shapes), default=0), 0):
        sizes = {s[i] for s in shapes if -i <= len(s)} - {1}
        if len(sizes) > 1:
            raise op.fail(f"operands must broadcast together, got shapes {' and '.join(str(list(s)) for s in shapes)}")
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)


def broadcast_type(op: Op, types: list[Tensor], elem: Elem) -> Tensor:
    """Type of an elementwise result; the layout is that of the operands which have the result's shape."""
    shape = broadcast(op, *(t.shape for t in types))
    layouts: list[Layout | None] = list(dict.fromkeys(t.layout for t in types if t.shape == shape))
    if len(layouts) > 1:
        raise op.fail(f"operands of one shape must have one layout, got {' and '.join(str(t) for t in types)}")
    return Tensor(shape, elem, layouts[0] if layouts else None)


def out_size(size: int, kernel: int, stride: int, lo: int, hi: int, dilation: int = 1, ceil_mode: bool = False) -> int:
    """Windows along one axis: floor or ceil of (size + lo + hi - dilation*(kernel-1) - 1) / stride, plus 1.

    With `ceil_mode` the last window must start inside the input or the padding before it (torch's rule). 0 or less when no window fits.
    """
    span = size + lo + hi - dilation * (kernel - 1) - 1
    if span < 0:
        return 0
    count = (span + (stride - 1 if ceil_mode else 0)) // stride + 1
    return count - 1 if ceil_mode and (count - 1) * stride >= size + lo else count
