"""Stores element types with many scales as arrays of a file: as text, 40,000 scales of an int8 network would take a quarter of its size.

The scales of an accumulator are those of its weights times that of its input, products that f32 does not hold. They are stored as the key of
the weights' scales and one factor. As f64 numbers they would be 0.7 % of EfficientNet-Lite0 in f32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import TersorError
from .types import FLOATS, STORAGE, Elem, Uniform

#: Prefix of the keys of type arrays; no identifier of a constant starts with it.
PREFIX = "!"


def pack_types(types: Mapping[str, Elem]) -> tuple[str, dict[str, np.ndarray], dict[str, Elem]]:
    """(JSON by alias, arrays by key, types that stay in the text): equal arrays are stored once, scales as f32 or as products where that is exact."""
    about: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    keys: dict[bytes, str] = {}
    #: Keys of f32 scales by their number: candidates for products.
    short: dict[int, list[str]] = {}

    def store(array: np.ndarray) -> str:
        key = keys.setdefault(array.dtype.str.encode() + array.tobytes(), f"{PREFIX}{len(keys)}")
        arrays[key] = array
        return key

    uniform = {alias: elem for alias, elem in types.items() if isinstance(elem, Uniform)}
    narrow = {alias: _narrow(elem.scales) for alias, elem in uniform.items()}
    scales: dict[str, dict[str, Any]] = {alias: {"scales": store(array)} for alias, array in narrow.items() if array is not None}
    for key, array in arrays.items():
        short.setdefault(len(array), []).append(key)
    for alias, elem in uniform.items():
        wide = np.array(elem.scales, np.float64)
        products = ((key, _factor(arrays[key], wide)) for key in short.get(len(wide), []) if len(wide) > 1) if alias not in scales else ()
        found = next(((key, factor) for key, factor in products if factor is not None), None)
        if found is not None:
            scales[alias] = {"scales": found[0], "times": found[1]}
        elif alias not in scales:
            scales[alias] = {"scales": store(wide)}
        zeros = {"zero_points": store(np.array(elem.zero_points, np.int32))} if any(elem.zero_points) else {}
        fields = {"storage": elem.storage, "axis": elem.axis, "expressed": elem.expressed, "qmin": elem.qmin, "qmax": elem.qmax}
        about[alias] = fields | scales[alias] | zeros
    return json.dumps(about), arrays, {alias: elem for alias, elem in types.items() if alias not in uniform}


def has_products(table: str) -> bool:
    """Whether some scales of a table are stored as products, which readers of format versions 1 and 2 do not know."""
    return any("times" in fields for fields in json.loads(table).values())


def unpack_types(about: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Elem]:
    """Inverse of `pack_types`; raises TersorError where the file does not fit together."""
    types: dict[str, Elem] = {}
    try:
        for alias, fields in json.loads(about).items():
            array, factor = arrays[fields.pop("scales")], fields.pop("times", None)
            scales = tuple((array if factor is None else array.astype(np.float64) * float(factor)).tolist())
            zeros = fields.pop("zero_points", None)
            points = (0,) * len(scales) if zeros is None else tuple(arrays[zeros].tolist())
            _check(scales, points, **fields)
            types[alias] = Uniform(scales=scales, zero_points=points, **fields)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TersorError(f"its table of element types is damaged: {type(error).__name__}: {error}") from None
    return types


def _check(scales: Any, points: Any, storage: Any, axis: Any, expressed: Any, qmin: Any, qmax: Any) -> None:
    """Raise ValueError for fields that no `Uniform` may have; the verifier checks whether a type fits its tensor."""
    if storage not in STORAGE or expressed not in FLOATS:
        raise ValueError(f"storage {storage!r} of {expressed!r}")
    if not all(type(s) is float for s in scales) or not all(type(z) is int for z in points):
        raise ValueError("scales are a row of floats, zero points a row of integers")
    if not all(n is None or type(n) is int for n in (axis, qmin, qmax)):
        raise ValueError(f"axis {axis!r}, range {qmin!r} to {qmax!r}; valid: integers or nothing")


def _narrow(scales: tuple[float, ...]) -> np.ndarray | None:
    """Scales as f32; None where that would change one."""
    wide = np.array(scales, np.float64)
    with np.errstate(over="ignore", under="ignore"):
        short = wide.astype(np.float32)
    return short if (short == wide).all() else None


def _factor(short: np.ndarray, wide: np.ndarray) -> float | None:
    """The factor for which `short * factor` in f64 equals `wide`, bit for bit; None where there is none."""
    with np.errstate(all="ignore"):
        # f64 holds a product of two f32 numbers, so dividing by one of them gives the other exactly
        factor = float(wide[0] / np.float64(short[0]))
        return factor if np.array_equal(short.astype(np.float64) * factor, wide) else None
