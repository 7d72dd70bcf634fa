"""The inputs of an ONNX model: element types, sizes, and which dimension is the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from ...ir.errors import TersorError, UnsupportedError
from ...ir.types import NUMPY, elem_of

#: Sizes of inputs by name, or of all inputs in order.
Shapes = Mapping[str, Sequence[int]] | Sequence[Sequence[int]]
_BF16 = TensorProto.BFLOAT16
#: Integers without an element type of their own: the name of their storage, and the wider type that holds them.
WIDENED = {TensorProto.UINT16: ("u16", "i32"), TensorProto.UINT4: ("u4", "u8"), TensorProto.INT4: ("i4", "i8")}


@dataclass(frozen=True)
class Input:
    """One input at the sizes of the graph. batched: dimension 0 is free in the file, and is taken for the batch.

    narrow: the storage type that `elem` holds, where that is wider. An input without elements becomes a constant.
    """

    name: str
    elem: str
    shape: tuple[int, ...]
    batched: bool
    narrow: str = ""


def elem_type(data_type: int, what: str) -> str:
    """Element name of an ONNX data type."""
    if data_type == _BF16:
        return "bf16"
    if data_type in WIDENED:
        return WIDENED[data_type][1]
    try:
        return elem_of(np.dtype(helper.tensor_dtype_to_np_dtype(data_type)))
    except (TersorError, KeyError, TypeError):
        kind = TensorProto.DataType.Name(data_type) if data_type in TensorProto.DataType.values() else data_type
        raise UnsupportedError(f"{what} holds {kind}; valid element types: {', '.join(NUMPY)}") from None


def read_inputs(graph: Any, shapes: Shapes | None, name: str) -> list[Input]:
    """The inputs, in order. Raises TersorError for sizes that are free and not given, or given and not possible."""
    names = [i.name for i in graph.input]
    given = _by_name(shapes or {}, names, name)
    if unknown := [k for k in given if k not in names]:
        raise TersorError(f"{name} has no input {unknown[0]!r}; inputs: {', '.join(names) or 'none'}")
    known: dict[str, int] = {}
    for proto in graph.input:
        _check_given(proto, given.get(proto.name), name, known)
    batch = next((given[i.name][0] for i in graph.input if i.name in given and given[i.name] and _free(i)[:1] == [0]), 1)
    result = [_resolved(i, given.get(i.name), known, batch) for i in graph.input]
    if missing := [(p, axes) for p, r in zip(graph.input, result) if isinstance(r, list) for axes in [r]]:
        raise TersorError(_ask(missing, name))
    return [r for r in result if isinstance(r, Input)]


def _by_name(shapes: Shapes, names: Sequence[str], name: str) -> dict[str, tuple[int, ...]]:
    if isinstance(shapes, Mapping):
        return {k: tuple(v) for k, v in shapes.items()}
    if len(shapes) != len(names):
        raise TersorError(f"{name} has {len(names)} inputs ({', '.join(names)}), got {len(shapes)} shapes; name the inputs to give some of them")
    return {k: tuple(v) for k, v in zip(names, shapes)}


def _dims(proto: Any) -> list[int | str] | None:
    """Each dimension as a number or the name of a free one (`?` without a name); None where the rank is unknown too."""
    type = proto.type.tensor_type
    if not type.HasField("shape"):
        return None
    return [d.dim_value if d.dim_value > 0 else d.dim_param or "?" for d in type.shape.dim]


def _free(proto: Any) -> list[int]:
    return [i for i, d in enumerate(_dims(proto) or ()) if isinstance(d, str)]


def _check_given(proto: Any, given: tuple[int, ...] | None, name: str, known: dict[str, int]) -> None:
    if not proto.type.HasField("tensor_type"):
        kind = proto.type.WhichOneof("value") or "nothing"
        raise UnsupportedError(f"input {proto.name!r} of {name} is a {kind.removesuffix('_type')}; inputs are tensors")
    if given is None:
        return
    dims = _dims(proto)
    if any(not isinstance(n, int) or n < 0 for n in given):
        raise TersorError(f"the shape of input {proto.name!r} must be integers of at least 1, or 0 for a tensor without elements; got {given}")
    if dims is None:
        return
    if len(given) != len(dims) or any(isinstance(d, int) and d != n for d, n in zip(dims, given)):
        raise TersorError(f"input {proto.name!r} of {name} has shape {_shown(dims)}, got {'x'.join(map(str, given))}")
    for d, n in zip(dims[1:], given[1:]):
        if isinstance(d, str) and d != "?":
            known.setdefault(d, n)


def _resolved(proto: Any, given: tuple[int, ...] | None, known: dict[str, int], batch: int) -> Input | list[int]:
    """The input, or the axes whose sizes are missing."""
    data_type = proto.type.tensor_type.elem_type
    elem, narrow = elem_type(data_type, f"input {proto.name!r}"), WIDENED.get(data_type, ("", ""))[0]
    dims = _dims(proto)
    if given is not None:
        return Input(proto.name, elem, given, _free(proto)[:1] == [0] and 0 not in given, narrow)
    if dims is None:
        return [-1]
    sizes = [d if isinstance(d, int) else batch if i == 0 else known.get(d, 0) for i, d in enumerate(dims)]
    missing = [i for i, n in enumerate(sizes) if not n]
    return missing or Input(proto.name, elem, tuple(sizes), _free(proto)[:1] == [0], narrow)


def _shown(dims: Sequence[int | str]) -> str:
    return "x".join(map(str, dims))


def _ask(missing: list[tuple[Any, list[int]]], name: str) -> str:
    places, example = [], []
    for proto, axes in missing:
        dims = _dims(proto)
        if dims is None:
            places.append(f"the shape of {proto.name!r}")
            example.append(f'"{proto.name}": (1, 3, 224, 224)')
            continue
        named = [f"{i} ({dims[i]})" if dims[i] != "?" else str(i) for i in axes]
        places.append(f"dimension {', '.join(named)} of {proto.name!r} ({_shown(dims)})")
        sizes = [str(d) if isinstance(d, int) else "1" if i == 0 else "224" for i, d in enumerate(dims)]
        example.append(f'"{proto.name}": ({", ".join(sizes)})')
    flag = f"--shape {missing[0][0].name}={example[0].partition('(')[2].rstrip(')').replace(', ', 'x')}"
    return f"{name} leaves free {'; '.join(places)}: give sizes, such as shapes={{{', '.join(example)}}} or {flag}; only the batch stays free"
