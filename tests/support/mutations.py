"""Files broken at random: bytes changed, cut, repeated and swapped, ONNX models changed field by field, and the allowed outcomes of reading them."""

from __future__ import annotations

import json
import random
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

import tersor
from tersor.ir.errors import TersorError
from tersor.ir.evaluate import evaluate, to_torch
from tersor.ir.save import save

#: Integers that break what reads sizes, counts and offsets.
NUMBERS = (0, 1, -1, 2, 3, 7, 255, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 63) - 1, -(1 << 63))
OPERATORS = ("Identity", "Reshape", "If", "Loop", "Relu", "Gather", "Tile", "Expand", "Pad")
#: A loaded graph of more elements is not run.
LARGE = 1 << 22


def seeds(folder: Path) -> list[Path]:
    """A valid file of each kind."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)).eval()
    x = torch.randn(2, 2, 4, 4)
    graph = tersor.trace(net, (x,))
    small = tersor.transform(graph, "qdq", calibration=[x])
    graph.save(folder / "net.tersor")
    small.save(folder / "int8.tersor")
    graph.to_onnx(folder / "net.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small.to_onnx(folder / "int8.onnx")
    save(small, folder / "net.mlir", folder / "weights.safetensors")
    tersor.compile(small, threads=1, batch=2).save(folder / "net.tso")
    for path in folder.glob("*.tersor"):
        path.write_bytes(_in_order(path.read_bytes()))
    return [folder / n for n in ("net.tersor", "int8.tersor", "net.onnx", "int8.onnx", "net.mlir", "net.tso")]


def _in_order(data: bytes) -> bytes:
    """A safetensors file with its header sorted, which is written in another order by every process: a case must be the same in the next run."""
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def mutated(data: bytes, suffix: str, rng: random.Random) -> bytes:
    """One to four changes. Most keep what is checked first whole: a protobuf, the text of a graph, the header of a safetensors file."""
    change = {".onnx": changed_model, ".tersor": changed_header, ".mlir": changed_text}.get(suffix)
    if change is not None and rng.random() < 0.7:
        return change(data, rng)
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = rng.choice(CHANGES)(data, rng)
    return data


def _place(data: bytes, rng: random.Random) -> int:
    """Anywhere, and as often near the beginning, where headers are."""
    return rng.randrange(len(data) if rng.random() < 0.5 else min(len(data), 2048)) if data else 0


def flip(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: _place(data, rng)]


def drop(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + rng.randrange(1, 64) :]


def repeat(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    size = rng.randrange(1, 64)
    return data[: at + size] + data[at : at + size] * rng.choice((1, 2, 50)) + data[at + size :]


def number(data: bytes, rng: random.Random) -> bytes:
    """A decimal number in text, or eight bytes as a number."""
    places = [i for i in range(len(data)) if data[i : i + 1].isdigit()] if len(data) < 1 << 16 else []
    value = rng.choice(NUMBERS)
    if places and rng.random() < 0.7:
        at = rng.choice(places)
        end = at
        while data[end : end + 1].isdigit():
            end += 1
        return data[:at] + str(value).encode() + data[end:]
    at = _place(data, rng)
    return data[:at] + int(value).to_bytes(8, "little", signed=value < 0) + data[at + 8 :]


CHANGES: Sequence[Callable[[bytes, random.Random], bytes]] = (flip, cut, drop, repeat, number, number)


def changed_model(data: bytes, rng: random.Random) -> bytes:
    """An ONNX model that is still a protobuf: nodes, attributes, shapes, types and names changed."""
    model = onnx.ModelProto.FromString(data)
    graph = model.graph
    for _ in range(rng.choice((1, 1, 2, 3))):
        node = rng.choice(graph.node) if graph.node else None
        match rng.randrange(9):
            case 0 if node is not None and node.attribute:
                a = rng.choice(node.attribute)
                if len(a.ints):
                    a.ints[rng.randrange(len(a.ints))] = rng.choice(NUMBERS)
                elif a.HasField("i"):
                    a.i = rng.choice(NUMBERS)
                elif a.HasField("f"):
                    a.f = rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e30))
            case 1 if node is not None and node.attribute:
                del node.attribute[rng.randrange(len(node.attribute))]
            case 2 if node is not None:
                node.op_type = rng.choice(
                    [n.op_type for n in graph.node] + ["Identity", "Reshape", "If", "Loop", "Relu", "Gather", "Tile", "Expand", "Pad"]
                )
            case 3 if node is not None and node.input:
                names = [i for n in graph.node for i in (*n.input, *n.output)] + [""]
                node.input[rng.randrange(len(node.input))] = rng.choice(names)
            case 4 if node is not None and node.input:
                del node.input[rng.randrange(len(node.input))]
            case 5 if len(graph.initializer):
                t = rng.choice(graph.initializer)
                if len(t.dims):
                    t.dims[rng.randrange(len(t.dims))] = rng.choice(NUMBERS)
            case 6 if len(graph.initializer):
                t = rng.choice(graph.initializer)
                t.raw_data = mutated(t.raw_data, "", rng) if t.raw_data else b""
            case 7 if len(graph.initializer):
                rng.choice(graph.initializer).data_type = rng.randrange(0, 24)
            case _:
                dims = graph.input[0].type.tensor_type.shape.dim
                if len(dims):
                    dims[rng.randrange(len(dims))].dim_value = rng.choice(NUMBERS)
    return bytes(model.SerializeToString())


TOKEN = re.compile(r"%[\w.:#-]+|![\w.]+|\"[^\"\n]*\"|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|[A-Za-z_][\w.]*|\S")


def changed_text(data: bytes, rng: random.Random) -> bytes:
    """The text of a graph with tokens replaced by others of it or by numbers, removed or doubled, and lines moved."""
    text = data.decode()
    for _ in range(rng.choice((1, 1, 2, 3))):
        tokens = list(TOKEN.finditer(text))
        if not tokens:
            break
        at = rng.choice(tokens)
        kind = _kind(at[0])
        match rng.randrange(8):
            case 0 | 1 | 2:
                new = rng.choice([t[0] for t in tokens if _kind(t[0]) == kind])
            case 3 | 4:
                new = str(rng.choice((*NUMBERS, 0.5, "nan", "1e400"))) if kind == "0" else rng.choice(tokens)[0]
            case 5:
                new = ""
            case 6:
                new = at[0] * 2
            case _:
                lines = text.splitlines(keepends=True)
                line = lines.pop(rng.randrange(len(lines)))
                for place in sorted(rng.sample(range(len(lines) + 1), rng.randrange(min(3, len(lines) + 1))), reverse=True):
                    lines.insert(place, line)
                text = "".join(lines)
                continue
        text = text[: at.start()] + new + text[at.end() :]
    return text.encode()


def _kind(token: str) -> str:
    """Tokens of one kind may stand in each other's place."""
    return "0" if token.lstrip("-")[:1].isdigit() else token[0] if token[0] in '%!"' else "a" if token[0].isalpha() else "."


def changed_header(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file whose header is still JSON: its texts changed by tokens, its numbers and names by others."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    about = header.get("__metadata__", {})
    texts = [k for k in ("text", "types", "packed") if k in about]
    if texts and rng.random() < 0.7:
        key = rng.choice(texts)
        about[key] = changed_text(about[key].encode(), rng).decode()
    else:
        _change_json(header, rng)
    new = json.dumps(header).encode()
    return len(new).to_bytes(8, "little") + new + data[8 + size :]


def _change_json(node: Any, rng: random.Random) -> None:
    """One value somewhere inside becomes another, or goes."""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.9:
            node = node[key]
            continue
        if rng.random() < 0.2:
            del node[key]
        else:
            node[key] = rng.choice((*NUMBERS, "F32", "I8", "BOOL", "", None, [], {}, True, -0.5, "1"))
        return


def read(path: Path) -> str:
    """The outcome of a read: "refused", "loaded", or "ran" with a result of the shapes that it declares. Other errors than TersorError propagate."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return _run(path)
        except TersorError as error:
            assert str(error).strip()
            return "refused"


def _run(path: Path) -> str:
    if path.suffix == ".tso":
        model: Any = tersor.load_compiled(path)
        return "loaded" if model.inputs else "refused"
    graph = tersor.load(path, path.with_name("weights.safetensors")) if path.suffix == ".mlir" else tersor.load(path)
    graph.verify()
    values = [*graph.inputs, *(v for op in graph.ops for v in op.outs)]
    if any(v.type.size > LARGE for v in values) or sum(op.macs() for op in graph.ops) > LARGE * 64:
        return "loaded"
    rng = np.random.default_rng(0)
    given = [np.asarray(rng.integers(0, 2, v.shape) if v.type.dtype.kind in "iub" else rng.standard_normal(v.shape)) for v in graph.inputs]
    arrays = [a.astype(v.type.dtype) for a, v in zip(given, graph.inputs)]
    with torch.no_grad():
        results = evaluate(graph, [to_torch(a) for a in arrays])
    assert [tuple(y.shape) for y in results] == [v.shape for v in graph.outputs]
    return "ran"
