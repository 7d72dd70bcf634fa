"""The key of a fusion in the database: all that decides the speed of its kernels, as readable text.

    tile.conv2d 1x64x56x56 o64 k3 s1 p1 + add same + relu
    nn.linear 1x512 [1000x512] [1000]

The anchor comes first: the logical shape of each operand, constants in brackets, then attributes that are not the default. Each op of the
epilogue names what it reads besides the value so far: `same` shape, `scalar`, per `channel`, per `image`. Names of values and contents of
constants play no part, so equal layers of different networks share an entry.
"""

from __future__ import annotations

import hashlib
from typing import Any

from ...ir.op import Const, Op, Value
from ...ir.types import Tensor
from ..target import Target
from ..tile.fusion import Fusion, operand_kind
from ..tile.ops import Blocked, Fused, TileConv2d, logical_type

#: Attributes longer than this are named by a hash.
LONGEST = 40


def target_key(target: Target, threads: int) -> str:
    """`x86_64 znver5, 2 threads`, or `opencl, f16`: a database of OpenCL is for one device."""
    if target.gpu:
        return f"{target.name}, {target.elem}"
    return f"{target.triple.partition('-')[0]} {target.mcpu}, {threads} thread{'s' * (threads > 1)}"


def shape_key(op: Fused) -> str:
    """The key of a fusion."""
    constant = {inner for outer, inner in zip(op.args, op.body.inputs) if isinstance(outer.op, Const)}
    first, *rest = op.body.ops
    parts = [_conv(first, constant) if isinstance(first, TileConv2d) else _anchor(first, constant)]
    number = {o.out: i for i, o in enumerate(op.body.ops)}
    out = Fusion(op).out
    for i, o in enumerate(rest, 1):
        chained = isinstance(o, TileConv2d) and number.get(o.x) == i - 1
        parts.append(_conv(o, constant, chained) if chained else _epilogue(o, i, number, out))  # type: ignore[arg-type]
    return " + ".join(parts)


def _conv(op: TileConv2d, constant: set[Value], chained: bool = False) -> str:
    """`chained`: it reads the result of the op before, in the same fusion."""
    words = ["conv2d"] if chained else [op.name, _operand(op, op.x, set())]
    words += [f"o{logical_type(op.out.type).shape[1]}", f"k{_pair(op.kernel)}", f"s{_pair(op.stride)}"]
    top, bottom, left, right = op.padding
    words.append(f"p{top}" if top == bottom == left == right else f"p{top},{bottom},{left},{right}")
    if set(op.dilation) != {1}:
        words.append(f"d{_pair(op.dilation)}")
    if op.groups != 1:
        words.append(f"g{op.groups}")
    if op.b is None:
        words.append("no bias")
    words.extend(f"computed {name}" for name, v in (("w", op.w), ("b", op.b)) if v is not None and v not in constant)
    return " ".join([*words, *_plain_result(op)])


def _anchor(op: Op, constant: set[Value]) -> str:
    operands = [_operand(op, v, constant) for v in op.operands]
    missing = [f"no {f.name}" for f in op.operand_fields if f.kind == "optional" and getattr(op, f.name) is None]
    return " ".join([op.name, *operands, *missing, *_attributes(op), *_plain_result(op)])


def _epilogue(op: Op, position: int, number: dict[Value, int], out: Tensor) -> str:
    words = [op.name.partition(".")[2] or op.name]
    # a + b and b + a have one key
    swaps = op.name in ("nn.add", "nn.mul", "nn.maximum", "nn.minimum")
    for i, v in enumerate(op.operands):
        if v not in number:
            kind = operand_kind(v.type, out)
            elem = "" if v.type.elem == op.out.type.elem else f":{v.type.elem}"
            words.append((_shape(v.type) if kind == "other" else kind) + elem)
        elif (i and not swaps) or number[v] != position - 1:
            words.append(f"%{number[v]}")
    if op.out.type.elem != op.operands[0].type.elem:
        words.append(f"-> {op.out.type.elem}")
    return " ".join([*words, *_attributes(op)])


def _operand(op: Op, v: Value, constant: set[Value]) -> str:
    """Logical shape; the element type unless it is f32; the layout where it is not that of the op's name (`tile.*` blocked, others plain)."""
    text = _shape(v.type)
    if v.type.elem != "f32":
        text += f":{v.type.elem}"
    if v.type.layout is not None and not isinstance(op, Blocked):
        text += f":{v.type.layout.name}"
    elif v.type.layout is None and isinstance(op, Blocked):
        text += ":plain"
    return f"[{text}]" if v in constant else text


def _plain_result(op: Op) -> list[str]:
    return ["-> plain"] if isinstance(op, Blocked) and not op.lanes else []


def _attributes(op: Op) -> list[str]:
    given = [(f.name, getattr(op, f.name)) for f in op.attr_fields if f.required or getattr(op, f.name) != f.default]
    return [f"{name}={_text(value)}" for name, value in given if name != "lanes"]


def _text(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
    return text.replace(" ", "") if len(text) <= LONGEST else f"#{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"


def _shape(type: Tensor) -> str:
    return "x".join(map(str, logical_type(type).shape)) or "scalar"


def _pair(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"
