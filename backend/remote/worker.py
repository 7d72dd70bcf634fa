"""One job on a device: `python -m tersor.backend.remote.worker FOLDER` reads job.json, does the job and writes result.json.

Each job is a process of its own, so that code that crashes ends no server. It ends when its standard input does, with the server's session.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.errors import TersorError
from ..runtime.artifact import Port
from ..runtime.bench import benchmark
from ..runtime.measure import empty
from ..runtime.model import load_compiled

JOB, RESULT = "job.json", "result.json"
#: Jobs of other parts of the backend, which import this one: module and function.
ELSEWHERE = {"outputs": "tersor.backend.tuning.far", "race": "tersor.backend.tuning.far"}


def bench_job(folder: Path, models: list[str], names: list[str], **options: Any) -> dict[str, Any]:
    """`benchmark` of one or two models; its result as a dict."""
    first, *others = (folder / m for m in models)
    return benchmark(first, *others, names=names, **options).as_dict()


def profile_job(folder: Path, model: str, rounds: int, batch: int | None, cold: bool) -> dict[str, Any]:
    """The profile of a model, as a dict."""
    return asdict(load_compiled(folder / model).profile(rounds=rounds, batch=batch, cold=cold))


def run_job(folder: Path, model: str, batch: int | None) -> None:
    """Inputs in `in.npz` -> outputs in `out.npz`, both as bytes in order."""
    exe = load_compiled(folder / model)
    entry = exe.entry(batch)
    outputs = exe.program(entry).run(unpacked(folder / "in.npz", entry.inputs))
    pack(folder / "out.npz", outputs)


def pack(path: Path, arrays: list[np.ndarray]) -> None:
    """Write the bytes of arrays to an .npz."""
    np.savez(path, allow_pickle=False, **{f"a{i}": np.ascontiguousarray(a).reshape(-1).view(np.uint8) for i, a in enumerate(arrays)})


def unpacked(path: Path, ports: tuple[Port, ...]) -> list[np.ndarray]:
    """The arrays that `pack` wrote, aligned, with the types of ports."""
    result = [empty(p) for p in ports]
    with np.load(path, allow_pickle=False) as file:
        for i, array in enumerate(result):
            array.reshape(-1).view(np.uint8)[...] = file[f"a{i}"]
    return result


_JOBS: dict[str, Callable[..., Any]] = {"benchmark": bench_job, "profile": profile_job, "run": run_job}


def do(folder: Path) -> None:
    """Do the job of a folder. Its result, or its error in one line, goes to a file."""
    try:
        job = json.loads((folder / JOB).read_text())
        kind, options = job["kind"], job["options"]
        work = _JOBS[kind] if kind in _JOBS else vars(importlib.import_module(ELSEWHERE[kind]))[kind]
        said = {"result": work(folder, **options)}
    except TersorError as error:
        said = {"error": str(error)}
    except Exception as error:
        traceback.print_exc()
        said = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
    (folder / RESULT).write_text(json.dumps(said))


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    do(Path(sys.argv[1]))
