"""Lossless coding of arrays: a bitmap of zeros, or Huffman-coded gaps between nonzero elements and indices of values (Han et al., 1510.00149).

`bitmap`: one bit per element, set where it is not zero, then the nonzero elements unchanged.
`huffman`: the gap (number of zeros) before each nonzero element, then the index of each such element in a table of values (or the elements
unchanged, where nearly all differ). A gap of 255 or more takes several symbols: 255 stands for 255 zeros and no element.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any

import numpy as np

from . import huffman
from .errors import TersorError
from .huffman import Damaged

#: The symbol for 255 zeros and no element; one symbol alone holds a gap of at most 254.
FILL = 255
#: A table of values is used up to this many distinct values, if each occurs at least this often on average.
MOST_VALUES, AT_LEAST = 4096, 2
#: Arrays with fewer bytes stay as they are.
SMALL = 64


def bitmap(array: np.ndarray) -> tuple[np.ndarray, dict[str, Any]] | None:
    """The coded bytes (u8) and what `restore` needs; None where this saves less than a quarter."""
    bits = _bits(array)
    zero = bits == 0
    size = (bits.size + 7) // 8 + int((~zero).sum()) * bits.itemsize if array.dtype != np.bool_ else (bits.size + 7) // 8
    if array.nbytes < SMALL or size > 0.75 * array.nbytes:
        return None
    data = np.packbits(~zero).tobytes() + (b"" if array.dtype == np.bool_ else bits[~zero].tobytes())
    return np.frombuffer(data, np.uint8), _info("bitmap", array)


def huffman_coded(array: np.ndarray) -> tuple[np.ndarray, dict[str, Any]] | None:
    """The same for `huffman`; None where the result is not smaller than the bitmap coding (or the array, where that is None)."""
    if array.nbytes < SMALL:
        return None
    bits = _bits(array)
    there = np.flatnonzero(bits)
    gaps = np.diff(there, prepend=-1) - 1
    symbols = np.full(len(there) + int((gaps // FILL).sum()), FILL, np.int64)
    symbols[np.cumsum(gaps // FILL + 1) - 1] = gaps % FILL
    values, number = np.unique(bits[there], return_inverse=True)
    few = 0 < len(values) <= MOST_VALUES and AT_LEAST * len(values) <= len(there)
    streams = [huffman.encode(symbols), values.tobytes() if few else b"", huffman.encode(number.astype(np.int64)) if few else bits[there].tobytes()]
    data = struct.pack("<III", *map(len, streams)) + b"".join(streams)
    other = bitmap(array)
    if len(data) >= (array.nbytes if other is None else other[0].nbytes):
        return None
    return np.frombuffer(data, np.uint8), _info("huffman", array)


def restore(data: np.ndarray, info: dict[str, Any], dtype: np.dtype) -> np.ndarray:
    """The array. Raises `Damaged` where lengths do not fit or the checksum differs."""
    shape = tuple(info["shape"])
    bits = np.zeros(math.prod(shape), _unsigned(dtype))
    if info["coding"] == "bitmap":
        _restore_bitmap(data.tobytes(), bits, dtype)
    else:
        _restore_huffman(data.tobytes(), bits)
    if zlib.crc32(bits.tobytes()) != info["crc"]:
        raise Damaged("its checksum differs")
    return bits.view(dtype).reshape(shape)


def _restore_bitmap(data: bytes, bits: np.ndarray, dtype: np.dtype) -> None:
    size = (bits.size + 7) // 8
    if len(data) < size:
        raise Damaged(f"{len(data)} bytes, expected {size} at least")
    there = np.unpackbits(np.frombuffer(data, np.uint8, size), count=bits.size).astype(np.bool_)
    expected = 0 if dtype == np.bool_ else int(there.sum()) * bits.itemsize
    if len(data) - size != expected:
        raise Damaged(f"{len(data) - size} bytes of elements, expected {expected}")
    bits[there] = 1 if dtype == np.bool_ else np.frombuffer(data, bits.dtype, int(there.sum()), size)


def _restore_huffman(data: bytes, bits: np.ndarray) -> None:
    if len(data) < 12:
        raise Damaged(f"{len(data)} bytes, expected 12 at least")
    sizes = struct.unpack("<III", data[:12])
    if 12 + sum(sizes) != len(data):
        raise Damaged(f"{len(data)} bytes, expected {12 + sum(sizes)}")
    first, table, last = (data[12 + sum(sizes[:i]) : 12 + sum(sizes[: i + 1])] for i in range(3))
    symbols = huffman.decode(first)
    if symbols.max(initial=0) > FILL:
        raise Damaged(f"a gap of {int(symbols.max())}, expected at most {FILL}")
    ends = symbols < FILL
    there = (np.cumsum(symbols + ends) - 1)[ends]
    if len(there) and there[-1] >= bits.size:
        raise Damaged(f"an element at {int(there[-1])} of {bits.size}")
    if len(table) % bits.itemsize or (not table and len(last) != len(there) * bits.itemsize):
        raise Damaged(f"{len(table)} bytes of values and {len(last)} of elements for {len(there)} elements")
    if not table:
        bits[there] = np.frombuffer(last, bits.dtype)
        return
    values, number = np.frombuffer(table, bits.dtype), huffman.decode(last)
    if len(number) != len(there) or number.max(initial=-1) >= len(values):
        raise Damaged(f"{len(number)} numbers of {len(values)} values for {len(there)} elements")
    bits[there] = values[number]


def _unsigned(dtype: np.dtype) -> np.dtype:
    return np.dtype(f"u{dtype.itemsize}")


def _bits(array: np.ndarray) -> np.ndarray:
    """The elements as unsigned integers, so that -0.0 does not count as zero."""
    return np.ascontiguousarray(array).reshape(-1).view(_unsigned(array.dtype))


def _info(coding: str, array: np.ndarray) -> dict[str, Any]:
    return {"coding": coding, "shape": list(array.shape), "crc": zlib.crc32(_bits(array).tobytes())}


__all__ = ["Damaged", "TersorError", "bitmap", "huffman_coded", "restore"]
