"""Search with MetaSchedule (TVM 0.27), for one fusion at a time, in a process that is killed at its time limit.

The process (`worker`) ranks the kernels that it finds. The best of them race here against the fusion's fastest template, on the same operands,
layouts and cold caches, each checked against the interpreter. Only one that is correct and faster goes into the database.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from ..kernels.metaschedule.te_definition import define, refusal
from ..kernels.metaschedule.template import NAME, module
from ..kernels.template import Params, Template, template_named
from ..runtime.native import versions
from ..target import Target
from ..tile.fusion import Fusion
from ..tuned.database import Database, Entry, Found
from .build import Separate, Task, build
from .timing import check, race, ranked, score
from .worker import FOUND, TASK, Job

#: Most seconds of one process, even where the whole search has no limit.
CAP = 600.0
#: Kernels of a search that are timed against the template.
FINALISTS = 3


@dataclass(frozen=True)
class Searched:
    """The outcome of the search for one fusion.

    tried, failed: kernels that ran, and that did not build or run; ms, template_ms: times of the best of them and of the template, in one race
    (None: there was none); kept: whether it is now in the database; note: why there was no search, or why it ended early.
    """

    key: str
    tried: int = 0
    failed: int = 0
    ms: float | None = None
    template_ms: float | None = None
    kept: bool = False
    note: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        if not self.tried:
            return f"{self.key}: {NAME}: {self.note or 'no kernel ran'}"
        end = f"; {self.note}" if self.note else ""
        what = f"{self.tried} kernels in {self.seconds:.0f} s" + (f", {self.failed} more failed" if self.failed else "")
        if self.ms is None or self.template_ms is None:
            return f"{self.key}: {NAME}: {what}, none of them right{end}"
        kept = "kept" if self.kept else "not faster"
        return f"{self.key}: {NAME}: {what}, the best {self.ms:.4f} ms against {self.template_ms:.4f} of the template: {kept}{end}"


def cost_model() -> str:
    """The cost model that guides the search: gradient boosting where xgboost is installed, else none (`random`)."""
    return "xgb" if importlib.util.find_spec("xgboost") else "random"


def search(task: Task, target: Target, threads: int, trials: int, seed: int, seconds: float | None, database: Database) -> Searched:
    """Search kernels for a fusion whose templates the database has measured; the best goes into the database where it is correct and faster."""
    started = time.monotonic()
    fusion = Fusion(task.op)
    if why := refusal(fusion):
        return Searched(task.key, note=why)
    lines, note = run(fusion, target, threads, trials, seed, min(CAP, CAP if seconds is None else seconds))
    found = sorted((line for line in lines if "ms" in line), key=lambda line: line["ms"])
    done = Searched(task.key, len(found), len(lines) - len(found), note=note)
    if found:
        entry = database.section(target, threads)[task.key]
        traces = [{"trace": json.dumps(line["trace"], separators=(",", ":"))} for line in found[:FINALISTS]]
        options = [fastest(task, entry), *((template_named(NAME, fusion.anchor), trace) for trace in traces)]
        group = build([replace(task, options=options)], target, threads, seed)
        check(group)
        race(group, np.random.default_rng(seed))
        template, *others = group.candidates
        order = ranked(group.candidates, threads)
        right = [c for c in order if c in others]
        if right and template in order:
            best, kept = right[0], order[0] is not template
            done = replace(done, ms=score(best), template_ms=score(template), kept=kept)
            if kept:
                how = {"trials": str(trials), "seed": str(seed), "cost model": cost_model()}
                made = Found(best.params["trace"], score(best), score(template), len(best.samples), best.error, versions() | how)
                database.add(target, threads, task.key, replace(entry, found=made))
    return replace(done, seconds=time.monotonic() - started)


def fastest(task: Task, entry: Entry) -> tuple[Template | Separate, Params]:
    """The fastest option of a fusion by the database."""
    return next(((t, p) for c in entry.candidates for t, p in task.options if c.is_of(t.name, p)), task.options[0])


def run(fusion: Fusion, target: Target, threads: int, trials: int, seed: int, seconds: float) -> tuple[list[dict[str, Any]], str]:
    """Search in a separate process: the kernels that it recorded, and how it ended if not by itself."""
    facts = {"kind": "llvm", "mtriple": target.triple, "mcpu": target.mcpu, "num-cores": threads}
    definition = tvm.ir.save_json(module(define(fusion, target)))
    with tempfile.TemporaryDirectory(prefix="tersor-") as name:
        folder = Path(name)
        (folder / TASK).write_text(Job(definition, facts, threads, trials, seed, cost_model()).to_json())
        note = ""
        try:
            command = [sys.executable, "-m", f"{__package__}.worker", name]
            environment = os.environ | {"TVM_NUM_THREADS": str(threads), "TVM_BIND_THREADS": "0"}
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment)
            if done.returncode < 0:
                note = f"its process died of {signal.Signals(-done.returncode).name}"
            elif done.returncode:
                note = f"its process failed: {(done.stderr.strip().splitlines() or ['no message'])[-1][:200]}"
        except subprocess.TimeoutExpired:
            note = f"killed after {seconds:.0f} s"
        written = folder / FOUND
        return [json.loads(line) for line in written.read_text().splitlines()] if written.exists() else [], note
