"""The `tersor` command: a function for each subcommand."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated, Any

import typer

from ..ir.errors import TersorError
from . import show
from .auto import auto
from .build import compile, opt, trace
from .cache import cache
from .catalogue import passes
from .device import device
from .diff import diff
from .evaluate import evaluate
from .execute import bench, profile, run
from .export import export
from .export_c import export_c
from .reduce import reduce
from .report import report
from .reproduce import reproduce
from .save import save
from .sensitivity import sensitivity
from .summary import show as show_layers
from .tune import tune

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
MAKE = (trace, opt, save, compile, export, export_c, tune, auto)
LOOK = (run, show_layers, report, bench, profile, passes, sensitivity, diff, reproduce, reduce, cache, device)
for command in (*MAKE, *LOOK):
    app.command()(command)
# `eval` is a builtin of Python
app.command("eval")(evaluate)


def _version(asked: bool) -> None:
    if asked:
        from importlib import metadata

        show.line(f"tersor {metadata.version('tersor')}")
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False) -> None:
    """Tersor makes trained CNNs small and fast."""


def main() -> None:
    """Entry point of `tersor`: a `TersorError` becomes one red line and exit code 1, a wrong command line exit code 2."""
    warnings.showwarning = _warn
    try:
        app()
    except TersorError as error:
        show.note(f"error: {error}", style="red")
        sys.exit(1)
    except BrokenPipeError:
        # the reader of a pipe has left; flushing at exit would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _warn(message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: str | None = None) -> None:
    if issubclass(category, UserWarning):
        show.note(f"warning: {message}", style="yellow")


if __name__ == "__main__":
    main()
