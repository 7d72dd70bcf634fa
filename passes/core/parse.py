"""The grammar of pipeline strings.

    pipeline = [item {"," item}]
    item     = name [options] | "@" file
    options  = "{" {key ("=" | ":") value [","]} "}"
    value    = number | true | false | none | inf | nan | word | "string" | "[" {value [","]} "]" | options

Space, line ends and comments (`#` to the end of the line) may stand between tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...ir.errors import TersorError
from .options import KEYWORDS, WORD

_SPACE = re.compile(r"(?:\s|#[^\n]*)+")
_NUMBER = re.compile(r"[+-]?(?:inf\b|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')
_DIGITS = "+-.0123456789"
_FILE = re.compile(r"[^,\s]+")


@dataclass(frozen=True)
class Item:
    """One pass, preset or file of a pipeline, and where it and its options stand."""

    name: str
    start: int
    options: dict[Any, Any] | None = None
    places: Mapping[Any, int] = field(default_factory=dict)
    is_file: bool = False


class Source:
    """Text with a place for errors: `pipeline 'fold-bn,,', column 9: …`, or file, line and column."""

    def __init__(self, text: str, file: str = ""):
        self.text = text
        self.file = file

    def error(self, at: int, message: str) -> TersorError:
        line = self.text.count("\n", 0, at) + 1
        column = at - (self.text.rfind("\n", 0, at) + 1) + 1
        if self.file:
            return TersorError(f"pipeline file {self.file}, line {line}, column {column}: {message}")
        place = f"column {column}" if "\n" not in self.text else f"line {line}, column {column}"
        return TersorError(f"pipeline {self.text!r}, {place}: {message}")


class Parser:
    """Recursive descent over one source."""

    def __init__(self, source: Source):
        self.source = source
        self.text = source.text
        self.at = 0

    def items(self) -> list[Item]:
        items: list[Item] = []
        self.space()
        while self.at < len(self.text):
            items.append(self.item())
            self.space()
            if self.at < len(self.text):
                self.expect(",", "',' or the end of the pipeline")
                self.space()
                if self.at == len(self.text):
                    raise self.error("a pass after ','")
        return items

    def item(self) -> Item:
        start = self.at
        if self.peek() == "@":
            self.at += 1
            return Item(self.token(_FILE, "a file name after '@'"), start, is_file=True)
        name = self.token(WORD, "a pass, a preset or '@file'")
        self.space()
        if self.peek() != "{":
            return Item(name, start)
        places: dict[Any, int] = {}
        return Item(name, start, self.options(places), places)

    def options(self, places: dict[Any, int] | None = None) -> dict[Any, Any]:
        """`{key=value …}`; the columns of the keys go into `places`."""
        self.at += 1
        result: dict[Any, Any] = {}
        self.space()
        while self.peek() != "}":
            start = self.at
            key = self.key()
            if places is not None:
                places[key] = start
            if key in result:
                raise self.source.error(start, f"option {key!r} is given twice")
            self.space()
            if self.peek() not in ("=", ":"):
                raise self.error(f"'=' after {key!r}")
            self.at += 1
            self.space()
            result[key] = self.value()
            self.separator("}")
        self.at += 1
        return result

    def key(self) -> Any:
        word = WORD.match(self.text, self.at)
        if word:
            self.at = word.end()
            return word.group()
        if self.peek("\"'"):
            return self.string()
        if self.peek(_DIGITS):
            return self.number()
        raise self.error("an option name or '}'")

    def value(self) -> Any:
        if self.peek("{"):
            return self.options()
        if self.peek("["):
            return self.list()
        if self.peek("\"'"):
            return self.string()
        if self.peek(_DIGITS):
            return self.number()
        word = self.token(WORD, "a value (a number, true, false, none, a word, a quoted string, [list] or {options})")
        return KEYWORDS.get(word, word)

    def list(self) -> list[Any]:
        self.at += 1
        result = []
        self.space()
        while self.peek() != "]":
            result.append(self.value())
            self.separator("]")
        self.at += 1
        return result

    def number(self) -> int | float:
        text = self.token(_NUMBER, "a number")
        after = WORD.match(self.text, self.at)
        if after:
            raise self.source.error(self.at - len(text), f"{text + after.group()!r} is not a number (quote it if it is a string)")
        return int(text) if text.lstrip("+-").isdecimal() else float(text)

    def string(self) -> str:
        text = self.token(_STRING, "a closing quote")
        if text[0] == '"':
            try:
                return str(json.loads(text))
            except ValueError as error:
                raise self.source.error(self.at - len(text), f"{text} is not a string ({error})") from None
        return text[1:-1].replace("\\'", "'").replace("\\\\", "\\")

    def separator(self, close: str) -> None:
        """After an entry: a comma, or space, or the closing bracket."""
        start = self.at
        self.space()
        if self.peek() == ",":
            self.at += 1
            self.space()
        elif self.peek() != close and (self.at == start or self.at == len(self.text)):
            raise self.error(f"',' or {close!r}")

    def space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        if found:
            self.at = found.end()

    def peek(self, among: str = "") -> str:
        """The next character, "" at the end; with `among`, only if it is one of those."""
        char = self.text[self.at : self.at + 1]
        return char if not among or char in among else ""

    def expect(self, char: str, wanted: str) -> None:
        if self.peek() != char:
            raise self.error(wanted)
        self.at += 1

    def token(self, pattern: re.Pattern[str], wanted: str) -> str:
        found = pattern.match(self.text, self.at)
        if not found:
            raise self.error(wanted)
        self.at = found.end()
        return found.group()

    def error(self, wanted: str) -> TersorError:
        got = f"{self.peek()!r}" if self.peek() else "the end"
        return self.source.error(self.at, f"expected {wanted}, got {got}")


def parse(source: Source) -> list[Item]:
    """The items of a pipeline, names not yet looked up."""
    return Parser(source).items()
