"""Output of the commands: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def line(text: str, style: str = "") -> None:
    """One line on standard output, never wrapped or read as markup."""
    out.print(Text(text, style=style), soft_wrap=True)


def note(text: str, style: str = "") -> None:
    """One line on standard error."""
    err.print(Text(text, style=style), soft_wrap=True)


def emit_json(value: Any) -> None:
    """Print a value as JSON; numbers that JSON does not have (inf, nan) become strings."""
    print(json.dumps(_plain(value), indent=1, default=str))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> None:
    """A table whose first `left` columns hold words and the others numbers."""
    result = Table()
    for i, name in enumerate(columns):
        result.add_column(name, justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        result.add_row(*(Text(cell) for cell in row))
    rich(result)


def rich(shown: RenderableType) -> None:
    """Print a table or the like: folded to the width of a terminal, at full width in a pipe."""
    if out.is_terminal:
        out.print(shown)
    else:
        wide = Console(width=10_000, highlight=False)
        wide.width = max(80, wide.measure(shown).maximum)
        wide.print(shown)


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner while something long runs, on a terminal only."""
    if err.is_terminal:
        with err.status(what):
            yield
    else:
        yield


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar while something long runs, on a terminal only. Gives a function to call with the parts done and their number."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)
