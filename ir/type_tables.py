"""Element types with many scales as arrays of a file: as text, 40,000 scales of an int8 network would take a quarter of its size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import TersorError
from .types import Elem, Uniform

#: Keys of arrays that belong to types; no identifier of a constant starts so.
PREFIX = "!"


def pack_types(types: Mapping[str, Elem]) -> tuple[str, dict[str, np.ndarray], dict[str, Elem]]:
    """(JSON by alias, arrays by key, types that stay in the text): scales that f32 holds are stored so, and equal arrays once."""
    about: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    keys: dict[bytes, str] = {}

    def store(array: np.ndarray) -> str:
        key = keys.setdefault(array.dtype.str.encode() + array.tobytes(), f"{PREFIX}{len(keys)}")
        arrays[key] = array
        return key

    rest: dict[str, Elem] = {}
    for alias, elem in types.items():
        if not isinstance(elem, Uniform):
            rest[alias] = elem
            continue
        zeros = {"zero_points": store(np.array(elem.zero_points, np.int32))} if any(elem.zero_points) else {}
        fields = {"storage": elem.storage, "axis": elem.axis, "expressed": elem.expressed, "qmin": elem.qmin, "qmax": elem.qmax}
        about[alias] = fields | {"scales": store(_narrow(elem.scales))} | zeros
    return json.dumps(about), arrays, rest


def unpack_types(about: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Elem]:
    """Inverse of `pack_types`; raises TersorError where the file does not fit together."""
    types: dict[str, Elem] = {}
    try:
        for alias, fields in json.loads(about).items():
            scales = tuple(arrays[fields.pop("scales")].tolist())
            zeros = fields.pop("zero_points", None)
            points = (0,) * len(scales) if zeros is None else tuple(arrays[zeros].tolist())
            types[alias] = Uniform(scales=scales, zero_points=points, **fields)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TersorError(f"its table of element types is damaged: {type(error).__name__}: {error}") from None
    return types


def _narrow(scales: tuple[float, ...]) -> np.ndarray:
    wide = np.array(scales, np.float64)
    with np.errstate(over="ignore", under="ignore"):
        short = wide.astype(np.float32)
    return short if (short == wide).all() else wide
