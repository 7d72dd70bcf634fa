"""Pipelines: a sequence of passes, from a string, a file, a preset or Python objects, and back to a string."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ...ir.errors import TersorError
from ...ir.rewrite import Rewrite
from .base import Pass, find_pass, pass_of
from .options import OptionError, format_options
from .parse import Item, Source, parse
from .presets import PRESETS


@dataclass(frozen=True)
class Pipeline:
    """Passes in order. `str()` gives a string that parses to an equal pipeline, with presets and files expanded."""

    passes: tuple[Pass, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Pipeline:
        """Read `"fold-bn,prune{ratio=0.5},@more.pipeline"`; errors give the column and what is valid there."""
        return cls(tuple(_resolve(Source(text), Path("."), ())))

    @classmethod
    def read(cls, path: str | Path) -> Pipeline:
        """Read a file; files that it names (`@more.pipeline`) are relative to it."""
        return cls(tuple(_resolve(_source(Path(path)), Path(path).parent, (Path(path).resolve(),))))

    @classmethod
    def of(cls, what: PipelineLike) -> Pipeline:
        """A pipeline of a string, a `Path`, a pass, a rewrite, or a sequence of any of them."""
        match what:
            case Pipeline():
                return what
            case str():
                return cls.parse(what)
            case Path():
                return cls.read(what)
            case Pass():
                return cls((what,))
            case Rewrite():
                return cls((pass_of(what),))
            case type() if issubclass(what, Pass):
                return cls((what.with_options({}),))
            case Sequence():
                return cls(tuple(p for item in what for p in cls.of(item)))
        raise TersorError(f"a pipeline is a string, a Path, a Pass, a @rewrite function or a list of these, got {type(what).__name__}")

    def __iter__(self) -> Iterator[Pass]:
        return iter(self.passes)

    def __len__(self) -> int:
        return len(self.passes)

    def __str__(self) -> str:
        return ",".join(map(format_pass, self.passes))


PipelineLike: TypeAlias = "str | Path | Pass | Rewrite | type[Pass] | Pipeline | Sequence[PipelineLike]"


def format_pass(what: Pass) -> str:
    """`prune{ratio=0.5}`: the name, and the options that differ from their defaults."""
    options = what.changed_options()
    return what.name + (format_options(options) if options else "")


def _source(path: Path) -> Source:
    try:
        return Source(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise TersorError(f"cannot read the pipeline file {path}: {getattr(error, 'strerror', None) or error}") from None


def _resolve(source: Source, folder: Path, reading: tuple[Path, ...]) -> Iterator[Pass]:
    """The passes of a source. reading: the files that are being read, to detect one that reads itself."""
    for item in parse(source):
        if item.is_file:
            path = folder / item.name
            if path.resolve() in reading:
                raise source.error(item.start, f"file {path} reads itself")
            if not path.is_file():
                raise source.error(item.start, f"there is no pipeline file {path}")
            yield from _resolve(_source(path), path.parent, (*reading, path.resolve()))
        elif item.name in PRESETS:
            if item.options is not None:
                raise source.error(item.start, f"preset {item.name!r} takes no options; write out its passes: {PRESETS[item.name].pipeline}")
            yield from _resolve(Source(PRESETS[item.name].pipeline), folder, reading)
        else:
            yield _build(source, item)


def _build(source: Source, item: Item) -> Pass:
    try:
        cls = find_pass(item.name, PRESETS)
    except TersorError as error:
        raise source.error(item.start, f"{error}; presets: {', '.join(PRESETS)}") from None
    try:
        return cls.with_options(item.options or {})
    except TersorError as error:
        place = item.places.get(error.option, item.start) if isinstance(error, OptionError) else item.start
        raise source.error(place, str(error)) from None
