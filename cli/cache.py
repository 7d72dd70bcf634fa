"""`tersor cache`: show or clear the cache of compiled kernels."""

from __future__ import annotations

from typing import Annotated

import typer

from . import show
from .build import Json


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all kernels.")] = False,
    as_json: Json = False,
) -> None:
    """Show or clear the folder of compiled kernels (TERSOR_CACHE names another, or `off`)."""
    from ..backend.emit.kernel_cache import KernelCache

    kept = KernelCache.default()
    removed = kept.clear() if clear else 0
    files, nbytes = len(kept.files()), kept.nbytes
    if as_json:
        show.emit_json({"folder": None if kept.folder is None else str(kept.folder), "kernels": files, "bytes": nbytes, "removed": removed})
    elif kept.folder is None:
        show.line("off: TERSOR_CACHE=off")
    else:
        show.line(f"{kept.folder}: {files} kernels, {nbytes:,} bytes" + (f"; {removed} removed" if clear else ""))
