"""Graphs on disk.

`model.tersor` is one safetensors file: the text of the graph and the format's version are strings in its header, the constants its tensors.
Scales of per-channel element types are tensors too; a table in the header names them by the alias of the type (`type_tables`).
Reading maps the file; arrays are read-only views of it. Elements below 8 bits are packed on disk and int8 (or uint8) in memory. Arrays with
many zeros are stored as a bitmap and the nonzero elements; `entropy=True` Huffman-codes every array that this makes smaller (`entropy.py`). Format
version 2 adds coded arrays, version 3 adds scales stored as products; a file has the lowest version that can read it. A file with coded arrays has
a digest of its header, and one saved with `entropy=True` a digest of header and arrays.
`model.mlir` is the text alone.
"""

from __future__ import annotations

import hashlib
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

from .entropy import Damaged, bitmap, huffman_coded, restore
from .errors import TersorError
from .graph import Graph
from .op import Const
from .parse import parse_graph
from .text import format_apart, format_definitions, format_graph, format_with_weights
from .type_tables import has_products, pack_types, unpack_types
from .types import NUMPY, STORAGE
from .verify import verify

FORMAT_VERSION = "1"
#: Version of a file with coded arrays.
CODED_VERSION = "2"
#: Prefix of a digest of header and arrays.
ALL = "all"
#: Version of a file with scales stored as products (`type_tables`), its arrays coded or not.
PRODUCTS_VERSION = "3"
VERSIONS = (FORMAT_VERSION, CODED_VERSION, PRODUCTS_VERSION)
#: safetensors writes our element names in capitals.
_DTYPES: dict[str, np.dtype] = {elem.upper(): dtype for elem, dtype in NUMPY.items()}
_BY_NAME: dict[str, np.dtype] = {dtype.name: dtype for dtype in NUMPY.values()}


def save(graph: Graph, path: str | Path, weights: str | Path | None = None, entropy: bool = False) -> None:
    """Write `model.tersor`, or the text alone as `model.mlir` (and its constants to the safetensors file `weights`).

    A failed write leaves no partial file.
    entropy: Huffman-code the arrays that this makes smaller: weights with zeros or few values (`.tersor` only).
    """
    path = Path(path)
    if entropy and path.suffix != ".tersor":
        raise TersorError(f"cannot save {path}: entropy=True codes the weights of a .tersor file")
    if path.suffix == ".mlir":
        if weights is None:
            _write_text(path, format_graph(graph))
            return
        text, constants = format_with_weights(graph)
        _write_text(path, text)
        _write(Path(weights), {}, constants)
    elif path.suffix == ".tersor" and weights is None:
        tensors, header = _stored(graph, coded=True, entropy=entropy)
        _replace(path, lambda part: safetensors.numpy.save_file(tensors, part, header))
    else:
        raise TersorError(f"cannot save {path}: expected model.tersor, or model.mlir with or without weights=")


def to_bytes(graph: Graph) -> bytes:
    """A `model.tersor` file in memory, its arrays not coded: the pickled form of a graph."""
    tensors, header = _stored(graph)
    data: bytes = safetensors.numpy.save(tensors, header)
    return data


def from_bytes(data: bytes) -> Graph:
    """Inverse of `to_bytes`."""
    return _parsed("a pickled graph", *_parts("a pickled graph", data))


def load(path: str | Path, weights: str | Path | Mapping[str, np.ndarray] | None = None) -> Graph:
    """Read `model.tersor`, or `model.mlir` with its `weights` (a .safetensors file or a mapping of arrays).

    The graph is verified, but uncoded arrays stay unread: NaN in weights is found by the next transform or compile. Raises TersorError.
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
    if version not in VERSIONS:
        writer = header.get("tersor_version")
        raise TersorError(
            f"{source} has format version {version} (written by Tersor {writer}); this Tersor reads versions {VERSIONS[0]} to {VERSIONS[-1]}"
        )
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
    coded: dict[str, Any] = json.loads(about.get("coded", "{}"))
    arrays = {}
    for key, info in header.items():
        if info["dtype"] not in _DTYPES:
            raise TersorError(f"{source} holds a tensor of type {info['dtype']!r}; valid: {', '.join(_DTYPES)}")
        dtype, shape = _DTYPES[info["dtype"]], tuple(info["shape"])
        count = (info["data_offsets"][1] - info["data_offsets"][0]) // dtype.itemsize
        array = np.frombuffer(data, dtype, count, 8 + length + info["data_offsets"][0]).reshape(shape)
        arrays[key] = array
    # either name triggers the check, so damage to one of them cannot disable it
    if ("digest" in about or "coded" in about) and digest(about, arrays, about.get("digest", "")[:3] == ALL) != about.get("digest"):
        raise TersorError(f"{source} is damaged: it does not hold what was written (its digest differs)")
    for key, info in packed.items():
        arrays[key] = unpack(arrays[key], info["storage"], tuple(info["shape"]))
    for key, info in coded.items():
        try:
            arrays[key] = restore(arrays[key], info, _BY_NAME[info["dtype"]])
        except Damaged as error:
            raise TersorError(f"{source} is damaged: tensor {key!r}: {error}") from None
    return arrays, about


def digest(about: Mapping[str, str], arrays: Mapping[str, np.ndarray], everything: bool) -> str:
    """SHA-256 of the header strings and the arrays' names, dtypes and shapes; `everything`: also of their stored bytes, which are read for it."""
    content = hashlib.sha256()
    for name in sorted(set(about) - {"digest"}):
        content.update(json.dumps([name, about[name]]).encode())
    for key in sorted(arrays):
        content.update(json.dumps([key, str(arrays[key].dtype), list(arrays[key].shape)]).encode())
        if everything:
            content.update(np.ascontiguousarray(arrays[key]).tobytes())
    return f"{ALL if everything else 'header'} {content.hexdigest()}"


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


def _stored(graph: Graph, coded: bool = False, entropy: bool = False) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and header of a `.tersor` file. coded: leave out zeros of arrays that have many; entropy: code every array that this makes smaller."""
    text, constants, types = format_apart(graph)
    table, arrays, rest = pack_types(types)
    version = PRODUCTS_VERSION if has_products(table) else FORMAT_VERSION
    about = {"format": "tersor", "format_version": version, "tersor_version": _tersor_version(), "text": format_definitions(rest) + text}
    tensors, header = _packed(about | ({"types": table} if arrays else {}), constants, arrays)
    return _coded(tensors, header, constants, entropy) if coded else (tensors, header)


def _coded(
    tensors: dict[str, np.ndarray], header: dict[str, str], constants: Mapping[str, Const], entropy: bool
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and header with the constants coded where that is smaller."""
    packed: dict[str, Any] = json.loads(header.get("packed", "{}"))
    coded: dict[str, Any] = {}
    for key, op in constants.items():
        options = [huffman_coded(op.array), bitmap(op.array)] if entropy else [None if key in packed else bitmap(op.array)]
        found = min((o for o in options if o is not None), key=lambda o: o[0].nbytes, default=None)
        if found is not None and found[0].nbytes < tensors[key].nbytes:
            tensors[key] = found[0]
            coded[key] = found[1] | {"dtype": op.array.dtype.name}
            packed.pop(key, None)
    header = {name: text for name, text in header.items() if name != "packed"} | ({"packed": json.dumps(packed)} if packed else {})
    if coded or entropy:
        header |= {"format_version": max(header["format_version"], CODED_VERSION), "coded": json.dumps(coded)}
        header["digest"] = digest(header, tensors, entropy)
    return tensors, header


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
