"""The `.tso` file: a manifest, a native library and a weights blob in one file, which is memory-mapped.

    offset 0    magic (8 bytes), length of the manifest (u64), CRC-32 of the manifest (u32), zero (u32)
    24          manifest, JSON
    …           shared library, at a multiple of 64
    …           weights, at a multiple of 4,096; the file ends where they do

A file is written completely or not at all, and never changed in place, so a mapping of it stays valid.
"""

from __future__ import annotations

import io
import json
import mmap
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...ir.errors import TersorError
from ...ir.types import Tensor
from ..target import Target
from .device.launch import Launch
from .faults import RECORD, Check

FORMAT_VERSION = 6
MAGIC = b"\x89TSO\r\n\x1a\n"
_HEAD = struct.Struct("<8sQII")
_LIBRARY_ALIGN, _WEIGHTS_ALIGN = 64, 4096


@dataclass(frozen=True)
class Port:
    """An input or output of a compiled model. unaligned: whether its memory may start at any address, not only at a multiple of 64."""

    name: str
    shape: tuple[int, ...]
    elem: str
    unaligned: bool = False

    @cached_property
    def type(self) -> Tensor:
        return Tensor(self.shape, self.elem)

    @cached_property
    def dtype(self) -> np.dtype:
        return self.type.dtype

    @cached_property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.type.size * self.dtype.itemsize


@dataclass(frozen=True)
class Step:
    """One kernel call of a host function, as `profile` reports it. `bytes` counts operands and result once.

    check: the index that it checks, see `faults`. chosen: `tuned` (measured before), `model` (lowest modelled cost), `only` (no
    alternative), `stale` (`model`, since the database's entry is outdated). note: the template's remark on the choice.
    """

    op: str
    kernel: str
    template: str
    params: dict[str, Any]
    macs: int
    bytes: int
    shape: tuple[int, ...]
    loc: str
    chosen: str = ""
    check: Check | None = None
    note: str = ""


@dataclass(frozen=True)
class Entry:
    """A host function: the model at one batch size. `batched` holds the names of inputs whose dimension 0 is the batch; `arena` counts bytes."""

    function: str
    batch: int | None
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    batched: tuple[str, ...]
    arena: int
    steps: tuple[Step, ...]

    @cached_property
    def records(self) -> int:
        """Bytes at the end of the arena for the fault records of steps."""
        return RECORD * sum(step.check is not None for step in self.steps)


@dataclass(frozen=True)
class Peak:
    """The function that runs multiply-adds in registers, to measure the peak: `flops` in each of its rounds."""

    function: str
    flops: int
    size: int


@dataclass(frozen=True)
class Manifest:
    """The description of compiled code. `versions`: tersor, tvm, ffi. `precision`: ops by the class they run in, `int8` or an
    element type; `macs`: multiply-accumulates by class. integer_peaks: by arithmetic, as named in kernel parameters.
    launches: for a GPU, the launch of each step of a host function; a GPU has no peaks. accuracy: of half precision, `sqnr` in dB and `error`
    (relative to the largest value) on random inputs; empty in f32."""

    name: str
    versions: dict[str, str]
    target: Target
    threads: int
    structure: Any
    entries: tuple[Entry, ...]
    peak: Peak
    precision: dict[str, dict[str, int]]
    macs: dict[str, int]
    integer_peaks: dict[str, Peak] = field(default_factory=dict)
    launches: dict[str, tuple[Launch, ...]] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"structure": _structure_out(self.structure)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Manifest:
        return cls(
            data["name"],
            data["versions"],
            Target(**data["target"] | {"features": tuple(data["target"]["features"])}),
            data["threads"],
            _structure_in(data["structure"]),
            tuple(_entry(e) for e in data["entries"]),
            Peak(**data["peak"]),
            data["precision"],
            data["macs"],
            {name: Peak(**peak) for name, peak in data.get("integer_peaks", {}).items()},
            {name: tuple(map(Launch.from_json, launches)) for name, launches in data.get("launches", {}).items()},
            data.get("accuracy", {}),
        )


def _entry(data: dict[str, Any]) -> Entry:
    ports = {key: tuple(Port(**p | {"shape": tuple(p["shape"])}) for p in data[key]) for key in ("inputs", "outputs")}
    checks = [s.get("check") for s in data["steps"]]
    steps = tuple(Step(**s | {"shape": tuple(s["shape"]), "check": c and Check(**c)}) for s, c in zip(data["steps"], checks))
    return Entry(data["function"], data["batch"], ports["inputs"], ports["outputs"], tuple(data["batched"]), data["arena"], steps)


def _structure_out(structure: Any) -> Any:
    """JSON that distinguishes tuples from lists and keeps the types of dict keys."""
    match structure:
        case dict():
            return {"dict": [[k, _structure_out(v)] for k, v in structure.items()]}
        case list() | tuple():
            return {type(structure).__name__: [_structure_out(v) for v in structure]}
    return structure


def _structure_in(data: Any) -> Any:
    match data:
        case {"dict": pairs}:
            return {k: _structure_in(v) for k, v in pairs}
        case {"list": items}:
            return [_structure_in(v) for v in items]
        case {"tuple": items}:
            return tuple(_structure_in(v) for v in items)
    return data


def write(path: str | Path, manifest: Manifest, library: bytes | memoryview, weights: np.ndarray) -> None:
    """Write a `.tso` file. library: a shared library. weights: bytes (uint8)."""
    path = Path(path)
    if path.suffix != ".tso":
        raise TersorError(f"cannot save {path}: a compiled model is a .tso file")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            with part.open("wb") as file:
                _write(file, manifest, library, weights)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise TersorError(f"cannot write {path}: {error.strerror or error}") from None


def to_bytes(manifest: Manifest, library: bytes | memoryview, weights: np.ndarray) -> bytes:
    """The bytes that `write` writes."""
    file = io.BytesIO()
    _write(file, manifest, library, weights)
    return file.getvalue()


def _write(file: BinaryIO, manifest: Manifest, library: bytes | memoryview, weights: np.ndarray) -> None:
    header = {
        "format_version": FORMAT_VERSION,
        "library": [len(library), zlib.crc32(library)],
        "weights": weights.nbytes,
        "manifest": json.loads(manifest.to_json()),
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    library_at, weights_at = _offsets(len(text), len(library))
    file.write(_HEAD.pack(MAGIC, len(text), zlib.crc32(text), 0) + text)
    file.seek(library_at)
    file.write(library)
    file.seek(weights_at)
    file.write(weights.data)


def _offsets(header: int, library: int) -> tuple[int, int]:
    """Where the library and the weights start."""
    library_at = -(-(_HEAD.size + header) // _LIBRARY_ALIGN) * _LIBRARY_ALIGN
    return library_at, -(-(library_at + library) // _WEIGHTS_ALIGN) * _WEIGHTS_ALIGN


def read(path: str | Path) -> tuple[Manifest, memoryview, np.ndarray]:
    """Map a `.tso` file: manifest, library, and weights as a read-only view of the file."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) if size else memoryview(b"")
    except FileNotFoundError:
        raise TersorError(f"{path} does not exist") from None
    except OSError as error:
        raise TersorError(f"cannot read {path}: {error.strerror or error}") from None
    return parts(path, mapped)


def parts(path: str | Path, mapped: memoryview) -> tuple[Manifest, memoryview, np.ndarray]:
    """Manifest, library and weights of a `.tso` file in memory, as views of it; `path` names it in errors."""
    size = len(mapped)
    if mapped[:8] != MAGIC:
        raise TersorError(f"{path} is not a compiled model: a .tso file starts with {MAGIC!r}, this one with {bytes(mapped[:8])!r}")
    header, length = _header(path, mapped)
    library_size, library_crc = header["library"]
    library_at, weights_at = _offsets(length, library_size)
    expected = weights_at + header["weights"]
    if size != expected:
        raise TersorError(f"{path} is truncated or damaged: expected {expected:,} bytes, got {size:,}")
    library = mapped[library_at : library_at + library_size]
    if zlib.crc32(library) != library_crc:
        raise TersorError(f"{path} is damaged: the checksum of its library does not match")
    return Manifest.from_json(header["manifest"]), library, np.frombuffer(mapped, np.uint8, header["weights"], weights_at)


def _header(path: str | Path, mapped: memoryview) -> tuple[dict[str, Any], int]:
    if len(mapped) < _HEAD.size:
        raise TersorError(f"{path} is truncated: it ends inside its head")
    _, length, crc, _ = _HEAD.unpack(mapped[: _HEAD.size])
    text = mapped[_HEAD.size : _HEAD.size + length]
    if len(text) != length:
        raise TersorError(f"{path} is truncated: it ends inside its manifest")
    if zlib.crc32(text) != crc:
        raise TersorError(f"{path} is damaged or was edited: the checksum of its manifest does not match")
    header: dict[str, Any] = json.loads(bytes(text))
    if header["format_version"] != FORMAT_VERSION:
        version = header["format_version"]
        raise TersorError(f"{path} has format version {version}; this Tersor reads version {FORMAT_VERSION}: compile the model again")
    return header, length


def batches_of(entries: Sequence[Entry]) -> str:
    """`1, 8`, for messages."""
    return ", ".join(str(e.batch) for e in entries)
