"""`tersor device`: serve this machine to others, for `--device` of bench, profile, run and tune."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from . import show


def device(
    address: Annotated[str | None, typer.Argument(metavar="[ADDRESS]", help="Describe the device at rpc://... instead of serving.")] = None,
    host: Annotated[str, typer.Option(help="The interface to serve on. Whoever reaches it can run any code.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; the first free one from it on.")] = 9090,
    tracker: Annotated[str | None, typer.Option(help="Register with TVM's tracker at HOST:PORT, which shares machines of one key.")] = None,
    key: Annotated[str | None, typer.Option(help="The key for the tracker; the architecture without it.")] = None,
    announce: Annotated[str | None, typer.Option(help="For the tracker: the name or address under which its clients reach this machine.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Serve this machine over TVM's RPC until interrupted, or describe one that serves."""
    if address is not None:
        from .. import device as open_device

        found = open_device(address)
        if as_json:
            show.emit_json({"address": str(found), "target": found.target.as_dict(), "facts": found.facts.as_dict()})
        else:
            show.line(f"{found}: {found.target.name}; {found.facts}")
        return
    from ..backend.remote.address import endpoint
    from ..backend.remote.facts import facts
    from ..backend.remote.server import serve

    where = None if tracker is None else endpoint(tracker, 9190)
    name = (key or os.uname().machine) if where else ""

    def ready(chosen: int) -> None:
        shared = f", key {name} of tracker {where[0]}:{where[1]}" if where else ""
        print(f"rpc://{host}:{chosen}{shared}: {facts()}", flush=True)

    serve(host, port, name, where, announce, ready)
