"""Types of values: a frozen `Tensor` of a shape, an element type and, after layout selection in the backend, a layout.

An element type is a plain name (`"f32"`) or a quantized type that carries its own parameters, so that no side table is needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np

from .errors import TersorError

NUMPY: dict[str, np.dtype] = {
    "bool": np.dtype(np.bool_),
    "i8": np.dtype(np.int8),
    "i16": np.dtype(np.int16),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "u8": np.dtype(np.uint8),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
}
FLOATS = ("f16", "bf16", "f32", "f64")
#: Distance from 1 to the next larger number, by float type.
EPSILON = {"f64": 2.0**-52, "f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}
#: The smallest positive normal number, by float type.
SMALLEST_NORMAL = {"f64": 2.0**-1022, "f32": 2.0**-126, "f16": 2.0**-14, "bf16": 2.0**-126}
_ELEM_OF = {dtype: name for name, dtype in NUMPY.items()}

#: Integers a quantized element is stored in: bits and signedness (`i1`, `i2`, `u4`, `i8`, …).
STORAGE = {f"{sign}{bits}": (bits, sign == "i") for sign in "iu" for bits in (1, 2, 3, 4, 5, 6, 7, 8, 16, 32)}


@dataclass(frozen=True, slots=True)
class Uniform:
    """`!quant.uniform`: real = scale * (stored - zero_point), integer zero points (Jacob et al., 1712.05877).

    One scale for the tensor (`axis=None`), or one per index of `axis`. `qmin`/`qmax` narrow the storage range.
    """

    storage: str
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None
    expressed: str = "f32"
    qmin: int | None = None
    qmax: int | None = None

    def __post_init__(self) -> None:
        # the full range has one spelling, so that types that mean the same are equal
        full = storage_range(self.storage) if self.storage in STORAGE else None
        limits = (None, None) if full is None or self.range == full else self.range
        object.__setattr__(self, "qmin", limits[0])
        object.__setattr__(self, "qmax", limits[1])

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest stored integer."""
        lo, hi = storage_range(self.storage)
        return (lo if self.qmin is None else self.qmin, hi if self.qmax is None else self.qmax)


@dataclass(frozen=True, slots=True)
class BitsAffine:
    """`!bits.affine`: real = scale * stored + offset, for levels whose zero point is a half-integer (+-alpha, DoReFa)."""

    storage: str
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    axis: int | None = None


Elem = str | Uniform | BitsAffine


def storage_range(storage: str) -> tuple[int, int]:
    """Smallest and largest integer of a storage type: `i8` -> (-128, 127)."""
    bits, signed = STORAGE[storage]
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a logical tensor lies in memory, `#tile.layout<"NCHW8c", channels = 20, halo = [1, 1], fill = 0>`.

    `name` gives the axes; a number before a lower-case letter splits that axis into blocks. `channels` is the logical count of
    the blocked axis: lanes past it hold unspecified values that no live lane may depend on. `halo` rows and columns of `fill` surround H and W.
    """

    name: str
    channels: int
    halo: tuple[int, int] = (0, 0)
    fill: int = 0


@dataclass(frozen=True, slots=True)
class Tensor:
    """Type of a value. Shapes are static; the batch is re-inferred by `graph.at(batch=n)`.

    With a layout, `shape` is the physical shape (`1x8x56x56x8` for NCHW8c).
    """

    shape: tuple[int, ...]
    elem: Elem = "f32"
    layout: Layout | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """numpy dtype of the stored elements; below 8 bits one int8 or uint8 each."""
        return NUMPY[storage_elem(self.elem)]

    @property
    def nbytes(self) -> int:
        """Bytes when stored; elements below 8 bits count as packed."""
        bits = STORAGE[self.elem.storage][0] if not isinstance(self.elem, str) else self.dtype.itemsize * 8
        return (self.size * bits + 7) // 8

    @property
    def is_float(self) -> bool:
        return self.elem in FLOATS

    def with_shape(self, shape: tuple[int, ...]) -> Tensor:
        return replace(self, shape=tuple(shape))

    def __str__(self) -> str:
        from .text import format_type

        return format_type(self)


def storage_elem(elem: Elem) -> str:
    """Name of the plain element that holds `elem` in memory: `!quant.uniform<u4…>` -> `u8`."""
    if isinstance(elem, str):
        return elem
    bits, signed = STORAGE[elem.storage]
    return f"{'i' if signed or bits > 8 else 'u'}{max(8, bits)}"


def elem_of(dtype: np.dtype) -> str:
    """Element name of a numpy dtype: `float32` -> `f32`."""
    try:
        return _ELEM_OF[np.dtype(dtype)]
    except KeyError:
        raise TersorError(f"dtype {dtype} is not supported; valid: {', '.join(str(d) for d in _ELEM_OF)}") from None
