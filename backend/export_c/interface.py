"""The C interface of a compiled model: the names of arguments, macros and files, and the header that declares them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from ...ir.errors import TersorError
from ..runtime.artifact import Entry, Manifest, Port

ALIGN = 64
#: C types of elements. Half floats are passed as their bits.
C_TYPES = {"bool": "uint8_t", "f16": "uint16_t", "bf16": "uint16_t", "f32": "float", "f64": "double", "u8": "uint8_t"}
C_TYPES |= {f"i{bits}": f"int{bits}_t" for bits in (8, 16, 32, 64)}


@dataclass(frozen=True)
class Argument:
    """An input or output: `name` in C, and the prefix of its macros."""

    port: Port
    name: str
    macro: str

    @property
    def ctype(self) -> str:
        return C_TYPES[self.port.elem]

    @property
    def shown(self) -> str:
        """`x: f32[1, 3, 8, 8]`, for a comment."""
        return f"{self.port.name}: {self.port.elem}{list(self.port.shape)}".replace("*/", "* /").replace("\n", " ")


@dataclass(frozen=True)
class Interface:
    """Names and sizes of an export. name: the prefix of functions and files."""

    name: str
    manifest: Manifest
    weights: int

    @cached_property
    def entry(self) -> Entry:
        """The one host function."""
        (entry,) = self.manifest.entries
        return entry

    @cached_property
    def inputs(self) -> list[Argument]:
        return _arguments(self.name, "in", self.entry.inputs)

    @cached_property
    def outputs(self) -> list[Argument]:
        return _arguments(self.name, "out", self.entry.outputs)

    @property
    def macro(self) -> str:
        return self.name.upper()

    @property
    def arena(self) -> int:
        """Bytes that the caller provides, including slack for vectors that straddle the end."""
        return -(-max(self.entry.arena, ALIGN) // ALIGN) * ALIGN + ALIGN

    @cached_property
    def signature(self) -> str:
        """The declaration of the function, without `;`."""
        given = [f"const {a.ctype} *{a.name}" for a in self.inputs] + [f"{a.ctype} *{a.name}" for a in self.outputs]
        return f"int {self.name}_run(const void *weights, {', '.join(given)}, void *arena)"

    def header(self) -> str:
        """The text of `NAME.h`."""
        m, target = self.macro, self.manifest.target
        lines = [
            f"/* {self.name}.h: a network compiled by Tersor for {target.name}. One thread, no state: threads may call at once, each with its arena.",
            "   Weights, arena, inputs and outputs begin at multiples of 64 bytes, and the 64 bytes behind an input can be read. Where",
            "   ..._UNALIGNED is 1, an input may begin anywhere and needs nothing behind it. The arena need not be cleared. */",
            f"#ifndef {m}_H",
            f"#define {m}_H",
            "",
            "#include <stdint.h>",
            "",
            f"#define {m}_TARGET {json.dumps(target.name)}",
            f"#define {m}_CPU_FEATURES {json.dumps(' '.join(target.features))} /* as /proc/cpuinfo names them; others cannot run this */",
            f"#define {m}_ALIGN {ALIGN}",
            f"#define {m}_WEIGHTS_SIZE {self.weights} /* bytes of {self.name}.bin */",
            f"#define {m}_ARENA_SIZE {self.arena} /* bytes */",
            f"#define {m}_MACS {sum(self.manifest.macs.values())}",
            "",
            f"#define {m}_OK 0",
            f"#define {m}_MISALIGNED 1 /* a pointer is no multiple of 64 */",
            f"#define {m}_BAD_INDEX 2 /* an index in an input is outside its range: outputs mean nothing */",
            f"#define {m}_FAILED 3",
        ]
        for argument in (*self.inputs, *self.outputs):
            lines += ["", *_macros(argument, argument in self.inputs)]
        return "\n".join([*lines, "", "#ifdef __cplusplus", 'extern "C" {', "#endif", "", f"{self.signature};", "", *_CLOSE, ""])


_CLOSE = ["#ifdef __cplusplus", "}", "#endif", "", "#endif"]


def check_name(name: str) -> None:
    """Raise unless the name is valid as a prefix of C names."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise TersorError(f"name={name!r} must be the start of C names: a letter, then letters, digits and _")


def _arguments(name: str, kind: str, ports: Sequence[Port]) -> list[Argument]:
    """Ports with valid C names. Names that would be equal in capitals get a number."""
    result: list[Argument] = []
    for port in ports:
        plain = base = "".join(c if c.isascii() and c.isalnum() else "_" for c in port.name)
        number = 1
        while any(a.name.upper() == f"{kind}_{plain}".upper() for a in result):
            number += 1
            plain = f"{base}_{number}"
        result.append(Argument(port, f"{kind}_{plain}", f"{name}_{kind}_{plain}".upper()))
    return result


def _macros(argument: Argument, given: bool) -> list[str]:
    port, m = argument.port, argument.macro
    dims = ", ".join(map(str, port.shape or (1,)))
    return [
        f"/* {argument.shown} */",
        f"#define {m}_TYPE {argument.ctype}",
        f'#define {m}_DTYPE "{port.elem}"',
        f"#define {m}_RANK {len(port.shape)}",
        f"#define {m}_SHAPE {{{dims}}}",
        f"#define {m}_SIZE {prod(port.shape)} /* elements */",
        f"#define {m}_BYTES {port.nbytes}",
        *([f"#define {m}_UNALIGNED {int(port.unaligned)}"] if given else []),
    ]
