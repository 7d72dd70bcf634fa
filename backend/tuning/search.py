"""tune: measure every template and parameter choice of each distinct fusion of a graph on this machine."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...passes.core.context import Progress, open_progress
from ..lowering.select_kernels import candidates, choice_key, modelled
from ..pipelines import lower
from ..remote.device import Device, named
from ..remote.session import DeviceLost
from ..runtime.model import require_host
from ..runtime.native import versions
from ..target import Target, resolve
from ..tile.fusion import Fusion
from ..tile.ops import Fused
from ..tuned.database import Database, Entry, Timing, plain
from . import build_device, metaschedule
from .build import Built, Candidate, Group, Task, build, built
from .chains import chain_tasks
from .far import race_there, send
from .metaschedule import Searched
from .report import Problem, Tuning, compared
from .timing import STAGES, check, race, ranked, score

#: Ways to search, and the default number of kernels that MetaSchedule measures for each fusion.
SEARCHES, TRIALS = ("templates", "metaschedule"), 64
#: Kernels and bytes that are built and measured together: enough to share the cost of a build, few enough to stop soon between groups.
KERNELS, BYTES = 24, 1 << 30
#: Seconds after which a tracker has noticed that a machine is gone.
RETRY = 1.0


def tune(
    graph: Graph,
    target: str | Target = "cpu",
    threads: int = 1,
    batch: int | Sequence[int] | None = None,
    db: Database | str | Path | None = None,
    seconds: float | None = None,
    seed: int = 0,
    again: bool = False,
    progress: Progress | bool | None = None,
    search: str = "templates",
    trials: int = TRIALS,
    dtype: str = "f32",
    device: str | Device | None = None,
) -> Tuning:
    """Measure the kernels that can compute each fusion of a graph, on cold data, and keep the fastest.

    target, threads, batch, dtype: as for `compile`; the target must be this machine, its GPU, or the device.
    device: a machine that measures in place of this one, or its address (see `tersor.device`); `target="cpu"` is then its processor. Each group of
    kernels takes a machine of a tracker's anew, and one that goes away is replaced by another.
    db: where results go: a `Database`, or a file that is read if it exists and written after each group of kernels. None: only in the result.
    seconds: stop between two groups of kernels after this time; fusions with the most time by the cost model come first. A search by
    MetaSchedule is killed then, and the kernels found so far count.
    seed: of the operands, of the order of the calls in each round, and of MetaSchedule.
    again: also measure fusions that the database already has.
    progress: True for a bar on a terminal, or a function (what, done, total).
    search: `"templates"`, or `"metaschedule"`: after the templates that are not in the database yet, TVM's MetaSchedule searches a kernel for
    each fusion, one at a time, each in a separate process. trials: how many kernels it measures for each fusion.

    Every kernel's result is compared with the interpreter's: one that is wrong, or does not build, never wins and is listed in `problems`.
    `compile(graph, tuned=result.database)` or `tuned="file.json"` uses the choices. Raises `TersorError` for a target that is not this machine,
    and for a damaged database.
    """
    from ..compile import DTYPES, batch_sizes

    started = time.monotonic()
    if not isinstance(graph, Graph):
        raise TersorError(f"tune takes a Graph, got {type(graph).__name__}: a torch.nn.Module becomes one by trace(module, example_inputs)")
    far = named(device)
    if far is not None and search != "templates":
        raise TersorError("search='metaschedule' measures on this machine: leave device= out")
    target = far.target if far is not None and target == "cpu" else resolve(target)
    valid = [d for d in DTYPES if d == "f32" or (target.gpu and (d != "tf32" or target.capability >= 80))]
    if dtype not in valid:
        raise TersorError(f"dtype={dtype!r} of tune must be one of compile's for {target.name}: {', '.join(valid)}")
    if target.gpu:
        if search != "templates" or threads != 1:
            raise TersorError(f"for target {target.name!r} tune measures templates, with one caller: leave search and threads out")
        if far is not None:
            raise TersorError(f"kernels for {target.name!r} are tuned on this machine's GPU: leave device= out")
        target = replace(target, elem=dtype)
    elif far is None:
        require_host(target, "a kernel to be tuned")
    else:
        far.require(target, "a kernel to be tuned")
    if threads < 1:
        raise TersorError(f"threads must be at least 1, got {threads}")
    if search not in SEARCHES:
        raise TersorError(f"unknown search={search!r}; valid: {', '.join(SEARCHES)}")
    if trials < 1:
        raise TersorError(f"trials must be at least 1, got {trials}")
    database = open_database(db)
    graphs = [graph if n is None else graph.at(n) for n in batch_sizes(graph, batch)]
    every = tasks_of(graphs, target, threads)
    known = database.section(target, threads)
    open_tasks = open_of(every, known, again)
    problems: list[Problem] = []
    rng, done = np.random.default_rng(seed), 0
    stop = None if seconds is None else started + seconds
    with open_progress(progress) as show:

        def measured(tasks: list[Task]) -> int:
            """Measure tasks until `stop`, but one group at least; returns how many."""
            count = 0
            for group in groups(tasks):
                if stop is not None and done + count and time.monotonic() > stop:
                    break
                problems.extend(measure(group, target, threads, seed, rng, database, _ticks(show, count, len(group), len(tasks)), far))
                count += len(group)
                if database.path is not None:
                    database.save()
            return count

        done += measured(open_tasks)
        # only now are the kernels known that a chain competes with
        chains = [] if target.gpu else chain_tasks(graphs, target, threads, database)
        open_chains = open_of(chains, database.section(target, threads), again)
        done += measured(open_chains)
        left = len(open_tasks) + len(open_chains) - done
        searched: list[Searched] = []
        if search == "metaschedule":
            searched, missed = with_metaschedule(every, target, threads, trials, seed, stop, database, again, show)
            left += missed
    rows = compared([*every, *chains], database.section(target, threads))
    took = time.monotonic() - started
    return Tuning(tuple(rows), tuple(problems), database, target.name, threads, took, done, left, tuple(searched))


def with_metaschedule(
    tasks: Sequence[Task],
    target: Target,
    threads: int,
    trials: int,
    seed: int,
    stop: float | None,
    database: Database,
    again: bool,
    show: Progress | None,
) -> tuple[list[Searched], int]:
    """Run MetaSchedule for one fusion after the other until `stop`; returns the outcomes, and for how many fusions there was no time."""
    known = database.section(target, threads)
    wanted = [task for task in tasks if (entry := known.get(task.key)) is None or again or entry.found is None]
    searched: list[Searched] = []
    for i, task in enumerate(wanted):
        left = None if stop is None else stop - time.monotonic()
        if task.key not in known or (left is not None and left <= 0):
            return searched, len(wanted) - i
        searched.append(metaschedule.search(task, target, threads, trials, seed, left, database))
        if searched[-1].kept and database.path is not None:
            database.save()
        if show is not None:
            show("searching", i + 1, len(wanted))
    return searched, 0


def compare(
    graph: Graph,
    target: str | Target = "cpu",
    threads: int = 1,
    batch: int | Sequence[int] | None = None,
    db: Database | str | Path | None = None,
) -> Tuning:
    """The report of `tune` from the contents of a database (None: the shipped one), without measuring anything."""
    from ..compile import batch_sizes
    from ..tuned.database import find

    target = resolve(target)
    database = find(db, target) or Database()
    graphs = [graph if n is None else graph.at(n) for n in batch_sizes(graph, batch)]
    every = tasks_of(graphs, target, threads)
    known = database.section(target, threads)
    left = sum(task.key not in known for task in every)
    if not target.gpu:
        every += [task for task in chain_tasks(graphs, target, threads, database) if task.key in known]
    return Tuning(tuple(compared(every, known)), (), database, target.name, threads, 0.0, 0, left)


def open_database(db: Database | str | Path | None) -> Database:
    """A database to add to; empty where the file does not exist yet."""
    if isinstance(db, Database):
        return db
    if db is None:
        return Database()
    path = Path(db)
    if not path.resolve().parent.is_dir():
        raise TersorError(f"cannot write {path}: there is no folder {path.parent}")
    return Database.load(path) if path.exists() else Database(path)


def tasks_of(graphs: Sequence[Graph], target: Target, threads: int) -> list[Task]:
    """Distinct fusions with more than one option, the slowest by the model first; the options of each start with the model's choice."""
    tasks: dict[str, Task] = {}
    costs: dict[str, float] = {}
    single: set[str] = set()
    for graph in graphs:
        for op in lower(graph, target, threads, until="store-half" if target.gpu else "assign-layouts").ops:
            if not isinstance(op, Fused):
                continue
            key = choice_key(op, target)
            if key in tasks:
                tasks[key].count += 1
            elif key not in single:
                fusion = Fusion(op)
                options = candidates(fusion, target, threads)
                if len(options) < 2:
                    single.add(key)
                    continue
                best = modelled(fusion, target, options)
                options.sort(key=lambda o: (o[0].name, o[1]) != (best.template, best.params))
                tasks[key] = Task(key, op, options)
                costs[key] = options[0][0].cost(fusion, target, options[0][1])
    return sorted(tasks.values(), key=lambda task: -costs[task.key] * task.count)


def groups(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Tasks in order, as many at a time as `KERNELS` and `BYTES` allow."""
    group: list[Task] = []
    for task in tasks:
        full = sum(len(t.options) for t in group) + len(task.options) > KERNELS or sum(t.nbytes for t in group) + task.nbytes > BYTES
        if group and full:
            yield group
            group = []
        group.append(task)
    if group:
        yield group


def measure(
    tasks: Sequence[Task],
    target: Target,
    threads: int,
    seed: int,
    rng: np.random.Generator,
    database: Database,
    tick: Callable[[float], None],
    device: Device | None = None,
) -> list[Problem]:
    """Build a group, check and time its candidates, and put the results into the database; returns the problems."""
    group: Group | Built
    if device is not None:
        group = measured_there(built(tasks, target, threads, seed), device, int(rng.integers(1 << 32)))
        tick(1.0)
    else:
        group = build_device.build(tasks, target, seed) if target.gpu else build(tasks, target, threads, seed)
        check(group)
        rounds, total = 0, sum(n for n, _ in STAGES)

        def count() -> None:
            nonlocal rounds
            rounds += 1
            tick(rounds / total)

        race(group, rng, count)
    made = versions()
    for task in tasks:
        order = ranked((c for c in group.candidates if c.task is task), threads)
        if order:
            order += [c for c in group.candidates if c.task is task and c.same in order]
            timings = [_timing(c, c.same or c) for c in order]
            before = database.section(target, threads).get(task.key)
            found = before.found if before is not None else None
            database.add(target, threads, task.key, Entry(timings[0].template, timings[0].params, made, tuple(timings), found))
    return [Problem(c.task.key, c.template.name, c.params, c.problem) for c in group.candidates if c.problem]


def measured_there(group: Built, device: Device, seed: int) -> Built:
    """Check and time a group on a device. Where the machine of a tracker goes away, another one does it, as long as there is one."""
    while True:
        try:
            with device.session() as session:
                device.same(session)
                send(group, session)
                check(group)
                race_there(group, session, seed)
            return group
        except DeviceLost as error:
            if not device.address.key:
                raise
            warnings.warn(f"{error}: another machine measures these kernels", stacklevel=2)
            time.sleep(RETRY)


def _timing(candidate: Candidate, measured: Candidate) -> Timing:
    """The timing to store; candidates with equal code share the timing of one of them."""
    return Timing(candidate.template.name, plain(candidate.params), score(measured), len(measured.samples), measured.error)


def open_of(tasks: Sequence[Task], known: dict[str, Entry], again: bool) -> list[Task]:
    """Tasks to be measured: those that are not in the database with all their options, or all."""
    return [task for task in tasks if again or not _complete(known.get(task.key), task)]


def _complete(entry: Entry | None, task: Task) -> bool:
    """Whether an entry has a time for every current candidate."""
    return entry is not None and all(entry.of(template.name, params) for template, params in task.options)


def _ticks(show: Progress | None, done: int, count: int, total: int) -> Callable[[float], None]:
    """Progress within a group, in fusions."""

    def tick(part: float) -> None:
        if show is not None:
            show("tuning", int(100 * (done + part * count)), 100 * total)

    return tick
