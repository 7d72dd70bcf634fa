"""`tersor reduce`: make a failing run small."""

from __future__ import annotations

from typing import Annotated

import typer

from . import show
from .build import Imports, load_imports


def reduce(
    source: Annotated[str, typer.Argument(metavar="FILE", help="What --reproducer of opt or compile has written.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The smaller .repro file to write.")],
    imports: Imports = None,
) -> None:
    """Leave out operators, passes and batches of a failing run while it fails in the same way."""
    load_imports(imports)
    from ..reducing import reduce as smaller
    from ..reproducer import load_reproducer

    run = load_reproducer(source)
    found = smaller(run, show.note)
    found.save(output)
    show.line(f"{output}: {len(found.graph)} of {len(run.graph)} ops; {found.error}")
