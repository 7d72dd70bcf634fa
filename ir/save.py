"""Graphs on disk.

`model.tersor` is one safetensors file: the text of the graph and the format's version are strings in its header, the constants its tensors.
Element types with a scale per channel are tensors too, under the name that the text calls them by (`type_tables`).
Reading maps the file; arrays are read-only views of it. Elements below 8 bits are packed on disk and int8 (or uint8) in memory.
`model.mlir` is the text alone.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from .errors import TersorError
from .graph import Graph
from .op import Const
from .parse import parse_graph
from .text import format_apart, format_definitions, format_graph, format_with_weights
from .type_tables import pack_types, unpack_types
from .types import NUMPY, STORAGE
from .verify import verify

FORMAT_VERSION = "1"
#: safetensors writes our element names in capitals.
_DTYPES: dict[str, np.dtype] = {elem.upper(): dtype for elem, dtype in NUMPY.items()}


def save(graph: Graph, path: str | Path, weights: str | Path | None = None) -> None:
    """Write `model.tersor`, or the text alone as `model.mlir` (and its constants to the safetensors file `weights`). Whole or not at all."""
    path = Path(path)
    if path.suffix == ".mlir":
        if weights is None:
            _write_text(path, format_graph(graph))
            return
        text, constants = format_with_weights(graph)
        _write_text(path, text)
        _write(Path(weights), {}, constants)
    elif path.suffix == ".tersor" and weights is None:
        tensors, header = _stored(graph)
        _replace(path, lambda part: safetensors.numpy.save_file(tensors, part, header))
    else:
        raise TersorError(f"cannot save {path}: expected model.tersor, or model.mlir with or without weights=")


def to_bytes(graph: Graph) -> bytes:
    """What `save` writes to `model.tersor`: how a graph is pickled and copied."""
    tensors, header = _stored(graph)
    data: bytes = safetensors.numpy.save(tensors, header)
    return data


def from_bytes(data: bytes) -> Graph:
    """Inverse of `to_bytes`."""
    return _parsed("a pickled graph", *_parts("a pickled graph", data))


def load(path: str | Path, weights: str | Path | Mapping[str, np.ndarray] | None = None) -> Graph:
    """Read `model.tersor`, or `model.mlir` with its `weights` (a .safetensors file or a mapping of arrays).

    The graph is verified, but its arrays stay unread: whether weights are finite is checked by the first pass. Raises TersorError.
    """
    path = Path(path)
    if path.suffix == ".mlir":
        text = _read_text(path)
        arrays = read_arrays(weights)[0] if isinstance(weights, str | Path) else weights
    elif path.suffix == ".tersor":
        if weights is not None:
            raise TersorError(f"{path} holds its weights; weights= belongs to a .mlir file")
        return _parsed(str(path), *read_arrays(path))
    else:
        raise TersorError(f"cannot load {path}: expected a .tersor or .mlir file")
    return _verified(str(path), text, arrays)


def _parsed(source: str, arrays: Mapping[str, np.ndarray], header: Mapping[str, str]) -> Graph:
    """The graph of a safetensors file; `source` names it in errors."""
    version = header.get("format_version")
    if header.get("format") != "tersor" or "text" not in header:
        raise TersorError(f"{source} is a safetensors file but holds no Tersor graph")
    if version != FORMAT_VERSION:
        writer = header.get("tersor_version")
        raise TersorError(f"{source} has format version {version} (written by Tersor {writer}); this Tersor reads version {FORMAT_VERSION}")
    return _verified(source, header["text"], arrays, header.get("types"))


def _verified(source: str, text: str, arrays: Mapping[str, np.ndarray] | None, types: str | None = None) -> Graph:
    try:
        graph = parse_graph(text, arrays, unpack_types(types, arrays or {}) if types is not None else None)
        verify(graph, constants=False)
    except TersorError as error:
        raise type(error)(f"{source}: {error}") from None
    return graph


def read_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and header strings of a safetensors file; the arrays are read-only views of the mapped file."""
    path = Path(path)
    try:
        with safetensors.safe_open(path, "numpy"):  # checks sizes and offsets of the whole header
            pass
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _parts(str(path), mapped)
    except FileNotFoundError:
        raise TersorError(f"{path} does not exist") from None
    except OSError as error:
        raise TersorError(f"cannot read {path}: {error.strerror or error}") from None
    except TersorError:
        raise
    except (safetensors.SafetensorError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise TersorError(f"{path} is damaged or no safetensors file: {' '.join(str(error).split())}") from None


def _parts(source: str, data: Any) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors, as views of `data`, and header strings of a safetensors file in memory."""
    length = struct.unpack("<Q", data[:8])[0]
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    about: dict[str, str] = header.pop("__metadata__", {})
    packed: dict[str, Any] = json.loads(about.get("packed", "{}"))
    arrays = {}
    for key, info in header.items():
        if info["dtype"] not in _DTYPES:
            raise TersorError(f"{source} holds a tensor of type {info['dtype']!r}; valid: {', '.join(_DTYPES)}")
        dtype, shape = _DTYPES[info["dtype"]], tuple(info["shape"])
        count = (info["data_offsets"][1] - info["data_offsets"][0]) // dtype.itemsize
        array = np.frombuffer(data, dtype, count, 8 + length + info["data_offsets"][0]).reshape(shape)
        arrays[key] = unpack(array, packed[key]["storage"], tuple(packed[key]["shape"])) if key in packed else array
    return arrays, about


def pack(array: np.ndarray, storage: str) -> np.ndarray:
    """Integers of fewer than 8 bits -> u8 vector, the first element in the lowest bits (two's complement)."""
    bits = STORAGE[storage][0]
    planes = np.unpackbits(np.ascontiguousarray(array).view(np.uint8).reshape(-1, 1), axis=1, bitorder="little")[:, :bits]
    return np.packbits(planes, bitorder="little")


def unpack(data: np.ndarray, storage: str, shape: tuple[int, ...]) -> np.ndarray:
    """Inverse of `pack`."""
    bits, signed = STORAGE[storage]
    if data.size != (bits * math.prod(shape) + 7) // 8:
        raise ValueError(f"{data.size} bytes cannot hold {shape} elements of {storage}")
    planes = np.unpackbits(data, count=bits * math.prod(shape), bitorder="little").reshape(-1, bits)
    values = np.packbits(planes, axis=1, bitorder="little").reshape(shape)
    if not signed:
        return values
    # shift the sign bit to bit 7 and back
    return (values << (8 - bits)).view(np.int8) >> (8 - bits)


def _stored(graph: Graph) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and header of a `.tersor` file."""
    text, constants, types = format_apart(graph)
    table, arrays, rest = pack_types(types)
    about = {"format": "tersor", "format_version": FORMAT_VERSION, "tersor_version": _tersor_version(), "text": format_definitions(rest) + text}
    return _packed(about | ({"types": table} if arrays else {}), constants, arrays)


def _write(path: Path, about: dict[str, str], constants: Mapping[str, Const]) -> None:
    tensors, header = _packed(about, constants, {})
    _replace(path, lambda part: safetensors.numpy.save_file(tensors, part, header))


def _packed(about: dict[str, str], constants: Mapping[str, Const], arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and header of a safetensors file; elements below 8 bits packed."""
    packed: dict[str, Any] = {}
    tensors = dict(arrays)
    for key, op in constants.items():
        array, elem = op.array, op.out.type.elem
        if not isinstance(elem, str) and STORAGE[elem.storage][0] < 8:
            packed[key] = {"storage": elem.storage, "shape": list(array.shape)}
            array = pack(array, elem.storage)
        tensors[key] = np.ascontiguousarray(array)
    return tensors, about | ({"packed": json.dumps(packed)} if packed else {})


def _write_text(path: Path, text: str) -> None:
    _replace(path, lambda part: part.write_text(text, encoding="utf-8"))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside `path`, then rename: a reader (or a mapping) of the old file never sees half of the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            write(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, safetensors.SafetensorError) as error:
        raise TersorError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise TersorError(f"{path} does not exist") from None
    except OSError as error:
        raise TersorError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise TersorError(f"{path} is not UTF-8 text") from None


def _tersor_version() -> str:
    try:
        return metadata.version("tersor")
    except metadata.PackageNotFoundError:
        return "unknown"
