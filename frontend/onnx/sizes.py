"""Sizes that depend on the batch: integers a * batch + b, and arrays of them, for the shape arithmetic of ONNX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import StaticBatchNeeded

Dim = Any  # int | Size
Array = np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class Size:
    """scale * batch + offset with scale != 0. An operation whose result is not of this form raises `StaticBatchNeeded`."""

    scale: int
    offset: int = 0

    @property
    def is_batch(self) -> bool:
        return self.scale == 1 and self.offset == 0

    def at(self, batch: int) -> int:
        return self.scale * batch + self.offset

    def __add__(self, other: Dim) -> Dim:
        if isinstance(other, Size):
            return sized(self.scale + other.scale, self.offset + other.offset)
        return sized(self.scale, self.offset + other)

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return Size(-self.scale, -self.offset)

    def __sub__(self, other: Dim) -> Dim:
        return self + -other

    def __rsub__(self, other: Dim) -> Dim:
        return -self + other

    def __mul__(self, other: Dim) -> Dim:
        if isinstance(other, Size):
            raise StaticBatchNeeded("a shape is computed from the square of the batch")
        return sized(self.scale * other, self.offset * other)

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        """floor((a*n + b) / k) = (a/k)*n + floor(b/k) where k divides a."""
        if isinstance(other, Size):
            ratio = self.scale // other.scale
            if self.scale == ratio * other.scale and self.offset == ratio * other.offset:
                return ratio
        elif other and self.scale % other == 0:
            return sized(self.scale // other, self.offset // other)
        raise StaticBatchNeeded(f"the batch is divided by {'itself and more' if isinstance(other, Size) else other}")

    __truediv__ = __floordiv__

    def __rfloordiv__(self, other: Dim) -> Dim:
        raise StaticBatchNeeded("a shape is divided by the batch")

    __rtruediv__ = __rfloordiv__

    def __mod__(self, other: Dim) -> Dim:
        if isinstance(other, Size) or other == 0 or self.scale % other:
            raise StaticBatchNeeded("a remainder of the batch decides a shape")
        return self.offset % other

    def __eq__(self, other: object) -> bool:
        """A size of at least 1 differs from 0 and -1, which models use as marks for unknown sizes; any other comparison depends on the batch."""
        if isinstance(other, Size):
            if (self.scale, self.offset) == (other.scale, other.offset):
                return True
        elif isinstance(other, int | float | np.number) and other <= 0 and self.scale > 0 and self.offset >= 0:
            return False
        raise StaticBatchNeeded(f"the batch is compared with {other}")

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.scale, self.offset))

    def _order(self, other: Any, above: bool) -> bool:
        if not isinstance(other, Size) and other <= 0 < self.scale and self.offset >= 0:
            return above
        raise StaticBatchNeeded(f"the batch is compared with {other}")

    def __lt__(self, other: Any) -> bool:
        return self._order(other, False)

    def __le__(self, other: Any) -> bool:
        return self._order(other, False)

    def __gt__(self, other: Any) -> bool:
        return self._order(other, True)

    def __ge__(self, other: Any) -> bool:
        return self._order(other, True)

    def __str__(self) -> str:
        return f"{'' if self.scale == 1 else f'{self.scale}*'}batch{f'{self.offset:+d}' if self.offset else ''}"


def sized(scale: Any, offset: Any) -> Dim:
    """The size, or a plain number where the batch cancels; raises `StaticBatchNeeded` where it is not an integer."""
    if scale == 0:
        return int(offset) if offset == int(offset) else offset
    if scale != int(scale) or offset != int(offset):
        raise StaticBatchNeeded("a fraction of the batch decides a shape")
    return Size(int(scale), int(offset))


def same(a: Dim, b: Dim) -> bool:
    """Whether two dimensions are equal at every batch."""
    if isinstance(a, Size) and isinstance(b, Size):
        return (a.scale, a.offset) == (b.scale, b.offset)
    return not isinstance(a, Size) and not isinstance(b, Size) and bool(a == b)


def same_shape(a: Any, b: Any) -> bool:
    return len(a) == len(b) and all(map(same, a, b))


def is_partial(array: Any) -> bool:
    """Whether an array holds sizes that depend on the batch."""
    return isinstance(array, np.ndarray) and array.dtype == object


def settled(array: Array) -> Array:
    """The array as i64 where no size in it depends on the batch any more (bool stays bool)."""
    if array.dtype != object or any(isinstance(v, Size) for v in array.flat):
        return array
    kind = np.bool_ if array.size and all(isinstance(v, bool | np.bool_) for v in array.flat) else np.int64
    return array.astype(kind)


def array_of(dims: Any) -> Array:
    """A shape as an array."""
    array = np.empty(len(dims), object)
    array[:] = list(dims)
    return settled(array)


# -- the operators that shapes are computed with ----------------------------------------------

ARITHMETIC: dict[str, Callable[..., Array]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a // b,
    "Mod": lambda a, b, fmod=0: a % b,
    "Neg": lambda a: -a,
    "Equal": lambda a, b: np.asarray(a == b),
    "Greater": lambda a, b: np.asarray(a > b),
    "Less": lambda a, b: np.asarray(a < b),
    "Where": lambda c, a, b: np.asarray(np.where(c.astype(bool), a, b)),
    "Cast": lambda a, to, saturate=1, round_mode="": a,
    "Floor": lambda a: a,
    "Ceil": lambda a: a,
    "Concat": lambda *xs, axis: np.concatenate(xs, axis),
    "Gather": lambda x, i, axis=0: np.take(x, i.astype(np.int64), axis),
    "Unsqueeze": lambda x, axes: np.expand_dims(x, tuple(axes.astype(int))),
    "Squeeze": lambda x, axes=None: np.squeeze(x, None if axes is None else tuple(axes.astype(int))),
    "Reshape": lambda x, shape, allowzero=0: x.reshape(tuple(shape.astype(int))),
    "ReduceProd": lambda x, axes=None, keepdims=1, noop_with_empty_axes=0: _reduced(np.multiply, x, keepdims),
    "ReduceSum": lambda x, axes=None, keepdims=1, noop_with_empty_axes=0: _reduced(np.add, x, keepdims),
    "Slice": lambda x, starts, ends, axes=None, steps=None: _slice(x, starts, ends, axes, steps),
}


def _reduced(function: Any, x: Array, keepdims: int) -> Array:
    """Reduce a shape, which has one axis."""
    return np.asarray(function.reduce(x, keepdims=bool(keepdims)), x.dtype)


def _slice(x: Array, starts: Array, ends: Array, axes: Array | None, steps: Array | None) -> Array:
    cuts = [slice(None)] * x.ndim
    for i, start in enumerate(starts):
        cuts[0 if axes is None else int(axes[i])] = slice(int(start), int(ends[i]), 1 if steps is None else int(steps[i]))
    return x[tuple(cuts)]


def compute(op_type: str, arrays: list[Array | None], attributes: dict[str, Any]) -> Array | None:
    """The result of an operator on shapes; None where it is not one of shape arithmetic."""
    function = ARITHMETIC.get(op_type)
    if function is None or (op_type.startswith("Reduce") and any(a is not None and a.ndim > 1 for a in arrays)):
        return None
    return settled(np.asarray(function(*arrays, **attributes)))
