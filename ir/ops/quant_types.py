"""Helpers of quantized operators: parameters of types as arrays, multipliers, and the proof that an accumulator fits i32.

All arithmetic on scales is float64. A product of two f32 scales is exact there, so a multiplier is rounded once, to f32.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..op import Const, Op, Value
from ..types import STORAGE, Tensor, Uniform

if TYPE_CHECKING:
    import torch

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
#: Accumulators lie within -LIMIT + 1 to LIMIT - 1.
LIMIT = 2**31

#: Sums of the positive and of the negative elements of the rows of constants that were read; an entry is dropped with its array.
_ROW_SUMS: dict[tuple[int, str, tuple[int, ...]], tuple[weakref.ref[np.ndarray], I64, I64]] = {}


# -- checks ------------------------------------------------------------------------------------


def uniform(op: Op, name: str, *, bits: int = 32, per_tensor: bool = False) -> Uniform:
    """Quantized type of an operand, stored in at most `bits` bits; zero points other than 0 only below 32 bits and without an axis."""
    v: Value = getattr(op, name)
    elem = v.type.elem
    if not isinstance(elem, Uniform) or elem.storage not in STORAGE or STORAGE[elem.storage][0] > bits:
        raise op.fail(f"{name} must hold !quant.uniform of at most {bits} bits, got {v.type}")
    if per_tensor and elem.axis is not None:
        raise op.fail(f"{name} must have one scale for the tensor, got scales along axis {elem.axis}: {v.type}")
    check_zero_points(op, name, elem)
    return elem


def check_zero_points(op: Op, name: str, elem: Uniform) -> None:
    """Zero points must be 0 along an axis, and where elements are stored in 32 bits."""
    if any(elem.zero_points) and (elem.axis is not None or STORAGE[elem.storage][0] > 16):
        raise op.fail(f"{name} must have zero point 0, got {elem.zero_points} in {elem}")


def result_type(op: Op, to: Uniform, *, per_tensor: bool = False) -> None:
    """Fail unless an op can round to this type: at most 16 bits, one scale where it must have one."""
    if not isinstance(to, Uniform) or to.storage not in STORAGE or STORAGE[to.storage][0] > 16 or (per_tensor and to.axis is not None):
        raise op.fail(f"to must be !quant.uniform of at most 16 bits{' with one scale' if per_tensor else ''}, got {to}")
    check_zero_points(op, "to", to)


# -- parameters --------------------------------------------------------------------------------


def scales(type: Tensor) -> F64:
    """Scales of a type, 0-d or shaped so that they broadcast against its tensor."""
    assert isinstance(type.elem, Uniform)
    return along(np.array(type.elem.scales, np.float64), type.elem.axis, type.rank)


def along(values: np.ndarray, axis: int | None, rank: int) -> np.ndarray:
    """Values of an axis, shaped (1, …, n, …, 1); the only value as 0-d where there is no axis."""
    return values.reshape(()) if axis is None else values.reshape([-1 if i == axis else 1 for i in range(rank)])


def zero_point(elem: Uniform) -> int:
    """The zero point of a checked type: along an axis all are 0."""
    return elem.zero_points[0] if elem.axis is None else 0


def multiplier(x: Tensor, to: Uniform) -> F64:
    """S_x / S_to in float64, shaped to broadcast against x."""
    return scales(x) / np.float64(to.scales[0])


def single(values: F64 | float) -> F32:
    """Rounded to f32."""
    return np.asarray(values, np.float32)


def accumulator(x: Uniform, w_scales: tuple[float, ...], axis: int | None) -> Uniform:
    """`i32` of scale S_x S_w."""
    products = tuple(x.scales[0] * s for s in w_scales)
    return Uniform("i32", products, (0,) * len(products), axis)


def centered(stored: torch.Tensor, elem: Uniform) -> torch.Tensor:
    """q - Z as i32."""
    import torch

    return stored.to(torch.int32) - zero_point(elem)


def store(values: torch.Tensor, type: Tensor) -> torch.Tensor:
    """Integers that are in range, in the dtype that holds the type."""
    from ..types import storage_elem
    from .namespace import torch_dtype

    return values.to(torch_dtype(storage_elem(type.elem)))


# -- the proof that accumulators fit -----------------------------------------------------------


def row_sums(op: Op, w: Value, rows: np.ndarray) -> tuple[I64, I64]:
    """Sums of the positive and of the negative elements of each row of a constant; cached, because `infer` runs often."""
    assert isinstance(w.op, Const)
    array, key = w.op.array, (id(w.op.array), op.name, rows.shape)
    known = _ROW_SUMS.get(key)
    if known is not None and known[0]() is array:
        return known[1:]
    positive = np.maximum(rows, 0).sum(axis=1, dtype=np.int64)
    negative = np.minimum(rows, 0).sum(axis=1, dtype=np.int64)
    _ROW_SUMS[key] = (weakref.ref(array, lambda _: _ROW_SUMS.pop(key, None)), positive, negative)
    return positive, negative


def span(elem: Uniform) -> tuple[int, int]:
    """Smallest and largest q - Z, with 0 included (padding is 0)."""
    low, high = elem.range
    return min(0, low - zero_point(elem)), max(0, high - zero_point(elem))


def accumulator_range(op: Op, x: Uniform, w: Value, rows: np.ndarray | None, terms: int, b: Value | None) -> tuple[int, int]:
    """Smallest and largest accumulator of a product sum; fails where that is not within i32.

    rows: a constant w as (outputs, terms), for the exact bound; without it every weight may be the largest of its type.
    """
    low, high = span(x)
    if rows is not None:
        positive, negative = row_sums(op, w, rows)
    else:
        assert isinstance(w.type.elem, Uniform)
        first, last = span(w.type.elem)
        positive, negative = np.array([terms * last], np.int64), np.array([terms * first], np.int64)
    lowest, highest = positive * low + negative * high, positive * high + negative * low
    if b is not None and isinstance(b.op, Const):
        bias = np.asarray(b.op.array, np.int64)
        lowest, highest = lowest + bias, highest + bias
    worst = int(lowest.min(initial=0)), int(highest.max(initial=0))
    if worst[0] <= -LIMIT or worst[1] >= LIMIT:
        raise op.fail(
            f"its accumulator may reach {worst[0] if -worst[0] > worst[1] else worst[1]}, but i32 ends at {LIMIT - 1}: "
            "fewer terms, fewer bits or a smaller bias would fit"
        )
    return worst
