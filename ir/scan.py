"""The scanner of the text form: types, attributes and locations (grammar in text.py).

Compiled regular expressions match the text directly; parsed types are cached, because a network repeats a few of them.
"""

from __future__ import annotations

import difflib
import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np

from .errors import TersorError
from .op import Loc
from .text import ELEM_TEXT
from .types import FLOATS, NUMPY, STORAGE, BitsAffine, Elem, Layout, Tensor, Uniform

T = TypeVar("T")
ELEMS = {ELEM_TEXT.get(name, name): name for name in NUMPY}
WORDS: dict[str, Any] = {"true": True, "false": False, "none": None, "unit": True}
#: Limit on nested brackets, regions, locations and aliases.
MAX_DEPTH = 64
#: Elements that a splat (`dense<0.0> : tensor<64x64xf32>`) may expand to.
MAX_SPLAT = 1 << 24


def pattern(text: str) -> re.Pattern[str]:
    """`text` after white space and comments; `~` stands for white space inside, `STR` for a quoted string."""
    space = r"(?:\s|//[^\n]*+)*+"
    return re.compile(space + text.replace("~", space).replace("STR", r'"((?:[^"\\\n]|\\.)*+)"'), re.A)


SPACE = pattern("")
STRING = pattern("STR")
TENSOR = pattern(r"tensor<((?:\d{1,18}x)*+)(?:([a-z]\w*|![a-zA-Z_]\w*)(>|(?=\s*,)))?")
UNIFORM = pattern(r"!quant\.uniform<(\w+)(?:<(-?\d{1,18}):(-?\d{1,18})>)?:(\w+)(?::(\d{1,9}))?\s*,\s*(\{[^{}]*\}|[^{}<>]*)>")
AFFINE = pattern(r"!bits\.affine<(\w+)(?::(\d{1,9}))?\s*,\s*(\{[^{}]*\}|[^{}<>]*)>")
LAYOUT = pattern(r"#tile\.layout<STR~,~channels~=~(\d{1,18})~(?:,~halo~=~\[~(\d{1,9})~,~(\d{1,9})~\]~,~fill~=~(-?\d{1,18})~)?>")
ALIAS = pattern(r"([!#][A-Za-z_]\w*)(?![\w.])")
DEFINITION = pattern(r"([!#][A-Za-z_]\w*)\s*=")
DEFINITIONS = re.compile(r"^[ \t]*([!#][A-Za-z_]\w*)\s*=", re.A | re.M)
KEY = pattern(r"(?:([A-Za-z_][\w$.]*)|STR)")
NUMBER = pattern(r"(?:(0x[0-9A-Fa-f]+)|([-+]?\d+\.\d*(?:[eE][-+]?\d+)?)|(-?\d+))(?:\s*:\s*([a-z]+\d*))?(?![\w.])")
ARRAY = pattern(r"array<(\w+)(?:\s*:\s*([^<>]*))?>")
DENSE = pattern(r"dense<\s*([\w.+-]*)\s*>\s*:")
RESOURCE = pattern(r"dense_resource<([A-Za-z_][\w$.]*)>\s*:")
WORD = pattern(r"([A-Za-z_]\w*+)(?![<.])")
LINE = pattern(r":(\d{1,9}):\d+")
LOC = pattern(r"loc\(STR(?:\(STR:(\d{1,9}):\d+\)|:(\d{1,9}):\d+)?\)")
ESCAPE = re.compile(r"\\(?:([0-9A-Fa-f]{2})|(.))")


@dataclass(frozen=True, slots=True)
class Resource:
    """`dense_resource<key> : type`, looked up when the constant's name is known."""

    key: str
    type: Tensor
    pos: int


class Scanner:
    """A cursor over the text."""

    def __init__(self, text: str):
        self.text = text
        self.pos = 0
        self.depth = 0
        self.types: dict[str, Tensor] = {}
        self.elems: dict[str, Elem] = {}
        self.definitions = {m[1]: m.end() for m in DEFINITIONS.finditer(text)}
        self.aliases: dict[str, Any] = {}

    # -- errors and small steps ----------------------------------------------------------------

    def error(self, message: str, pos: int | None = None) -> TersorError:
        """One line: where, `message`, and the offending line."""
        pos = min(self.pos if pos is None else pos, len(self.text))
        start = self.text.rfind("\n", 0, pos) + 1
        end = self.text.find("\n", pos)
        line = self.text[start : len(self.text) if end < 0 else end]
        column = pos - start
        shown = line.strip() if len(line) <= 160 else f"…{line[max(0, column - 40) : column + 100]}…"
        return TersorError(f"line {self.text.count(chr(10), 0, pos) + 1}, column {column + 1}: {' '.join(message.split())}; the line reads: {shown}")

    def fail(self, expected: str) -> NoReturn:
        pos = self.here()
        got = re.compile(r"\w+|\S|$").match(self.text, pos)
        raise self.error(f"expected {expected}, got {repr(got[0]) if got and got[0] else 'the end of the text'}", pos)

    def here(self) -> int:
        """Position of the next token."""
        match = SPACE.match(self.text, self.pos)
        return match.end() if match else self.pos

    def take(self, pattern: re.Pattern[str], expected: str) -> re.Match[str]:
        match = self.try_take(pattern)
        if match is None:
            self.fail(expected)
        return match

    def try_take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.pos)
        if match is not None:
            self.pos = match.end()
        return match

    def at(self, token: str) -> bool:
        return self.text.startswith(token, self.here())

    def skip(self, token: str) -> bool:
        pos = self.here()
        if self.text.startswith(token, pos):
            self.pos = pos + len(token)
            return True
        return False

    def expect(self, token: str) -> None:
        if not self.skip(token):
            self.fail(repr(token))

    def nested(self, read: Callable[[], T]) -> T:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"the text nests deeper than {MAX_DEPTH}")
        result = read()
        self.depth -= 1
        return result

    def list_until(self, close: str, item: Callable[[], T]) -> list[T]:
        """Items separated by commas; the opening bracket is already read."""
        items: list[T] = []
        if not self.skip(close):
            while True:
                items.append(self.nested(item))
                if self.skip(close):
                    break
                if not self.skip(","):
                    self.fail(f"',' or {close!r}")
        return items

    def end(self) -> None:
        if self.here() < len(self.text):
            self.fail("the end of the text")

    def string(self, raw: str) -> str:
        """The text of a string literal without its quotes."""
        if "\\" not in raw:
            return raw
        named = {"n": b"\n", "t": b"\t"}
        data, pos = bytearray(), 0
        for m in ESCAPE.finditer(raw):
            data += raw[pos : m.start()].encode("utf-8", "surrogatepass")
            data += bytes.fromhex(m[1]) if m[1] else named.get(m[2], m[2].encode("utf-8", "surrogatepass"))
            pos = m.end()
        data += raw[pos:].encode("utf-8", "surrogatepass")
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise self.error(f"the string {raw!r} is not UTF-8") from None

    def alias(self, name: str, pos: int, read: Callable[[], T]) -> T:
        """What `!name` or `#name` stands for, read where it is defined."""
        if name not in self.aliases:
            if name not in self.definitions:
                raise self.error(f"{name} is not defined{near(name, self.definitions)}", pos)
            back, self.pos = self.pos, self.definitions[name]
            self.aliases[name] = self.nested(read)
            self.pos = back
        result: T = self.aliases[name]
        return result

    # -- types ---------------------------------------------------------------------------------

    def type(self) -> Tensor:
        match = self.take(TENSOR, "a type 'tensor<…>'")
        text, name = match[0], match[2]
        if match[3] == ">" and (known := self.types.get(text)) is not None:
            return known
        shape = tuple(map(int, match[1].split("x")[:-1]))
        if name and name[0] != "!":
            if name not in ELEMS:
                raise self.error(f"unknown element type {name!r}; valid: {', '.join(ELEMS)}, !quant.uniform<…>, !bits.affine<…>", match.start(2))
            elem: Elem = ELEMS[name]
        else:
            elem = self.alias(name, match.start(2), self.elem) if name else self.elem()
        if match[3] == ">":
            result = self.types[text] = Tensor(shape, elem)
            return result
        layout = self.layout() if self.skip(",") else None
        self.expect(">")
        return Tensor(shape, elem, layout)

    def elem(self) -> Elem:
        start = self.pos
        if match := self.try_take(UNIFORM) or self.try_take(AFFINE):
            if match[0] not in self.elems:
                self.elems[match[0]] = self._quantized(match)
            return self.elems[match[0]]
        if match := self.try_take(ALIAS):
            return self.alias(match[1], match.start(1), self.elem)
        word = self.try_take(WORD)
        if word is None or word[1] not in ELEMS:
            self.pos = start
            self.fail(f"a static dimension or an element type ({', '.join(ELEMS)}, !quant.uniform<…>, !bits.affine<…>)")
        return ELEMS[word[1]]

    def _quantized(self, match: re.Match[str]) -> Elem:
        storage, uniform = match[1], match.re is UNIFORM
        axis, body = (match[5], match[6].strip()) if uniform else (match[2], match[3].strip())
        if storage not in STORAGE:
            raise self.error(f"unknown storage type {storage!r}; valid: {', '.join(STORAGE)}", match.start(1))
        if uniform and match[4] not in FLOATS:
            raise self.error(f"unknown expressed type {match[4]!r}; valid: {', '.join(FLOATS)}", match.start(4))
        if body.startswith("{") is (axis is None):
            raise self.error("expected one scale without an axis, or an axis and a list of scales in braces", match.start(1))
        pairs = [p.split(":") for p in body.strip("{}").split(",")] if uniform or axis else [body.split(",")]
        try:
            scales = tuple([_decimal(p[0]) for p in pairs])
            if not uniform:
                return BitsAffine(storage, scales, tuple([_decimal(offset) for _, offset in pairs]), int(axis) if axis else None)
            zeros = tuple([0 if len(p) == 1 else _int64(p[1].strip()) if len(p) == 2 else _bad(p) for p in pairs])
        except ValueError:
            raise self.error(f"expected numbers like {'0.02:3, 0.5' if uniform else '0.5:-0.25'} in {body[:60]!r}", match.start(1)) from None
        limits = (int(match[2]), int(match[3])) if match[2] else (None, None)
        return Uniform(storage, scales, zeros, int(axis) if axis else None, match[4], *limits)

    def layout(self) -> Layout:
        if alias := self.try_take(ALIAS):
            return self.alias(alias[1], alias.start(1), self.layout)
        m = self.take(LAYOUT, '#tile.layout<"name", channels = n> or …, channels = n, halo = [h, w], fill = n>')
        return Layout(self.string(m[1]), int(m[2]), (int(m[3]), int(m[4])) if m[3] else (0, 0), int(m[5] or 0))

    def signature(self) -> tuple[list[Tensor], list[Tensor]]:
        """`(tensor, …) -> tensor` or `-> (tensor, …)`."""
        self.expect("(")
        ins = self.list_until(")", self.type)
        self.expect("->")
        return ins, self.list_until(")", self.type) if self.skip("(") else [self.type()]

    # -- attributes ----------------------------------------------------------------------------

    def attrs(self) -> dict[str, Any]:
        """The inside of `{a = 1, b}` and the closing brace."""
        result: dict[str, Any] = {}

        def item() -> None:
            m = self.take(KEY, "an attribute name")
            key = m[1] or self.string(m[2])
            if key in result:
                raise self.error(f"attribute {key!r} is given twice")
            result[key] = self.attr() if self.skip("=") else True

        self.list_until("}", item)
        return result

    def attr(self) -> Any:
        if m := self.try_take(NUMBER):
            return self._number(m)
        if m := self.try_take(ARRAY):
            return self._array(m)
        if m := self.try_take(STRING):
            return self.string(m[1])
        if m := self.try_take(WORD):
            if m[1] in WORDS:
                return WORDS[m[1]]
            if m[1] in ELEMS:
                return ELEMS[m[1]]
            raise self.error(f"expected an attribute value, got {m[1]!r}", m.start(1))
        if m := self.try_take(RESOURCE):
            return Resource(m[1], self.type(), m.start(1))
        if m := self.try_take(DENSE):
            return self._dense(m)
        if self.skip("["):
            return tuple(self.list_until("]", self.attr))
        if self.skip("{"):
            return self.attrs()
        for start, read in (("tensor<", self.type), ("!", self.elem), ("#", self.layout), ("(", self.signature)):
            if self.at(start):
                return read()
        self.fail("an attribute value")

    def _number(self, m: re.Match[str]) -> int | float:
        suffix = m[4]
        try:
            if m[2] and (suffix is None or suffix in FLOATS):
                return float(m[2])
            if m[1] and suffix in FLOATS:
                return _decimal(m[1])
            if not m[2] and (suffix is None or re.fullmatch(r"[us]?i\d+|index", suffix)):
                return _int64(m[1] or m[3])
        except (ValueError, OverflowError):
            raise self.error("expected a number of 64 bits", m.start()) from None
        raise self.error(f"a number like this cannot be of type {suffix!r}", m.start())

    def _array(self, m: re.Match[str]) -> tuple[Any, ...]:
        read: dict[str, Callable[[str], Any]] = {"i64": _int64, "i32": _int64, "f64": _decimal, "i1": _bool}
        if m[1] not in read:
            raise self.error(f"unknown array type {m[1]!r}; valid: {', '.join(read)}", m.start(1))
        try:
            return tuple([read[m[1]](p.strip()) for p in m[2].split(",")]) if m[2] else ()
        except (ValueError, OverflowError):
            raise self.error(f"expected {m[1]} elements in {m[2][:60]!r}", m.start(1)) from None

    def _dense(self, m: re.Match[str]) -> np.ndarray:
        type, word = self.type(), m[1]
        if not isinstance(type.elem, str) or type.layout is not None:
            raise self.error(f"dense<…> needs a plain tensor type, got {type}", m.start(1))
        if not word and not type.size:
            return np.zeros(type.shape, type.dtype)
        if type.size > MAX_SPLAT:
            raise self.error(f"dense<{word}> would expand to more than {MAX_SPLAT} elements", m.start(1))
        try:
            return np.full(type.shape, _element(word, type.dtype))
        except (ValueError, OverflowError):
            raise self.error(f"{word!r} is not an element of {type}", m.start(1)) from None

    # -- locations -----------------------------------------------------------------------------

    def loc(self) -> tuple[Loc, list[str] | None]:
        """The location after an op, and the true names of its results if it gives them."""
        if m := self.try_take(LOC):
            first = self.string(m[1])
            if m[2] is not None:
                return Loc(first, self.string(m[2]), int(m[3])), None
            return (Loc("", first, int(m[4])) if m[4] else Loc(first)), None
        if not self.skip("loc("):
            return Loc(), None
        result = self._where()
        self.expect(")")
        return result

    def _where(self) -> tuple[Loc, list[str] | None]:
        if m := self.try_take(ALIAS):
            return self.alias(m[1], m.start(1), self.loc)
        if self.skip("unknown"):
            return Loc(), None
        if self.skip("fused"):
            names = None
            if self.skip("<"):
                true = self.attr()
                names = [true] if isinstance(true, str) else list(true) if isinstance(true, tuple) else []
                if not names or not all(isinstance(n, str) for n in names):
                    self.fail("the true names of the results as strings")
                self.expect(">")
            self.expect("[")
            parts = self.list_until("]", self._where)
            return next((loc for loc, _ in parts if loc != Loc()), Loc()), names
        text = self.string(self.take(STRING, 'a location: unknown, "file":line:column, "path"(…), fused[…]')[1])
        if self.skip("("):
            inner = self.nested(self._where)[0]
            self.expect(")")
            return Loc(text, inner.file, inner.line), None
        line = self.try_take(LINE)
        return Loc("", text, int(line[1])) if line else Loc(text), None


def near(name: str, valid: Iterable[str]) -> str:
    """`; did you mean 'a', 'b'?`, or nothing when no valid name is close."""
    close = difflib.get_close_matches(name, list(valid), n=3)
    return f"; did you mean {', '.join(map(repr, close))}?" if close else ""


def _bad(what: object) -> NoReturn:
    raise ValueError(what)


def _decimal(text: str) -> float:
    """A decimal, or the bits of a float64 in hex."""
    text = text.strip()
    return float(struct.unpack(">d", int(text, 16).to_bytes(8, "big"))[0]) if text.startswith("0x") else float(text)


def _int64(text: str) -> int:
    value = int(text, 16 if text.startswith("0x") else 10) if len(text) <= 24 else _bad(text)
    return value if -(1 << 63) <= value < 1 << 63 else _bad(text)


def _bool(text: str) -> bool:
    return text == "true" or (text != "false" and _bad(text))


def _element(word: str, dtype: np.dtype) -> np.ndarray:
    """One element of `dtype`: `true`, `3`, `1.5` or the bits of a float in hex."""
    if dtype == np.bool_:
        return np.array(_bool(word))
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.array(_int64(word) if info.min <= _int64(word) <= info.max else _bad(word), dtype)
    if word.startswith("0x"):
        return np.array(int(word, 16), f"u{dtype.itemsize}").view(dtype)
    with np.errstate(over="ignore"):
        return np.array(_decimal(word)).astype(dtype)
