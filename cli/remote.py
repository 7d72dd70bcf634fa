"""`--device` of run, bench and profile: the model runs on another machine."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ..ir.errors import TersorError
from . import show
from .export_c import recorded_inputs, runs_here
from .sources import COMPILED, leaves, read_graph

if TYPE_CHECKING:
    from ..backend.remote.device import Device
    from ..backend.remote.ssh import Host, Times
    from ..backend.runtime.artifact import Port
    from ..backend.runtime.model import CompiledModel

On = Annotated[
    str | None,
    typer.Option("--device", help="Another machine: rpc://host:port, rpc://tracker-host:port/key (`tersor device` serves) or ssh://[user@]host."),
]


def over_ssh(device: str | None) -> bool:
    return device is not None and device.startswith("ssh:")


def bench_there(device: Device, sources: list[str], models: list[str | CompiledModel], as_csv: bool, as_json: bool, **options: Any) -> None:
    """Measure one or two models on a device, and print the result with the device's facts after it."""
    with show.working(f"timing on {device}"):
        result = device.benchmark(*models, names=[Path(s).name for s in sources], **options)
        facts = device.facts
    if as_json:
        show.emit_json(json.loads(result.to_json()) | {"device": {"address": str(device)} | facts.as_dict()})
    elif as_csv:
        print(result.to_csv(), end="")
    else:
        show.line(str(result))
        show.line(f"{device}: {facts}")


def bundle(
    host: Host,
    source: str,
    target: str,
    batch: int | None,
    tuned: Any,
    weights: str | None,
    shape: list[str] | None,
    inputs: list[str] | None,
    calls: int,
) -> tuple[CompiledModel, Times, list[tuple[Port, np.ndarray]]]:
    """Compile a graph for a machine, run its C export there over ssh, and return the model, times and outputs. The outputs were compared there."""
    if Path(source).suffix == COMPILED:
        raise TersorError(f"over ssh a graph is compiled to a program that needs nothing there; {source} is a .tso: use rpc:// and `tersor device`")
    from .. import compile
    from ..backend.target import resolve

    facts = resolve(host.target_name() if target == "cpu" else target)
    host.require(facts)
    graph = read_graph(source, weights, shape)
    given = batch or (1 if graph.batched else None)
    fixed = graph if given is None else graph.at(given)
    with show.working(f"compiling {source} for {facts.name}"):
        model = compile(graph, target=facts, batch=given, tuned=tuned)
        arrays = recorded_inputs(fixed, inputs)
        expected = None if runs_here(facts) else leaves(fixed.structure, fixed(*arrays))
    with show.working(f"running on {host.address}"), tempfile.TemporaryDirectory(prefix="tersor-") as folder:
        model.export_c(Path(folder) / "c", arrays, expected)
        times, data = host.call(Path(folder) / "c", facts, calls)
    outputs, at = [], 0
    for port in model.entries[0].outputs:
        outputs.append((port, np.frombuffer(data, port.dtype, port.type.size, at).reshape(port.shape)))
        at += port.nbytes
    return model, times, outputs


def host_at(device: str) -> Host:
    from ..backend.remote.address import parse
    from ..backend.remote.ssh import Host

    return Host(parse(device))


def bench_by_ssh(device: str, as_json: bool, *arguments: Any) -> None:
    """Compile, copy, time and print."""
    from ..backend.runtime.measure import Benchmark

    host = host_at(device)
    model, times, _ = bundle(host, *arguments)
    made = (model.entries[0].batch, 1, model.target.name, model.manifest.versions)
    result = Benchmark(times.median, times.min, times.p90, (times.p90 - times.min) / times.median, times.repeat, *made)
    if as_json:
        show.emit_json(json.loads(result.to_json()) | {"device": {"address": device} | host.facts.as_dict()})
        return
    show.line(str(result))
    show.line(f"{device}: {host.facts}")
