"""`tersor reproduce`: run a reproducer again."""

from __future__ import annotations

from typing import Annotated

import typer

from . import show
from .build import Imports, load_imports


def reproduce(
    source: Annotated[str, typer.Argument(metavar="FILE", help="What --reproducer of opt or compile has written.")],
    imports: Imports = None,
) -> None:
    """Run a failing pipeline or compilation again from its reproducer: the error comes again, with exit code 1, or is gone."""
    load_imports(imports)
    from ..reproducer import load_reproducer

    run = load_reproducer(source)
    count = f", {len(run.calibration)} batches" if run.calibration else ""
    show.note(f"{run.kind} of {len(run.graph)} ops{count}, {', '.join(f'{k}={v}' for k, v in run.options.items())}")
    show.note(f"it failed with {run.error}")
    run.run()
    show.line("it does not fail here", style="green")
