"""Cold timings in interleaved rounds: wrong candidates are dropped before the first round, clear losers early (successive halving)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np

from ...ir.evaluate import evaluate, to_numpy, to_torch
from ...ir.op import Const
from ..tile.ops import Fused, unpack_torch
from .build import Built, Candidate, Group, Task

#: Rounds of each stage, and how much slower than the best of its fusion a candidate may be to enter the next.
STAGES = ((5, 1.25), (10, 1.08), (15, 1.0))
#: Candidates within this ratio of the fastest count as equal: the cost model's choice among them wins, so that repeated runs agree.
EQUAL = 1.02
#: The same with several threads: the time of a single kernel does not show whether each thread finds its operands in its own cache.
EQUAL_SHARED = 1.05
#: Largest max|y - y64| / max|y64| of a kernel against the interpreter in float64, by element type; results of other types must be equal.
LIMITS = {"f64": 1e-9, "f32": 1e-4, "f16": 2e-2, "bf16": 5e-2, "tf32": 5e-3}
#: Multiply-adds from which the interpreter computes in the fusion's own precision: float64 would hold the operands a second time.
LARGE = 1 << 32


def check(group: Group | Built) -> None:
    """Run every candidate once and compare; one that is wrong gets a `problem` and is not timed."""
    for task in dict.fromkeys(c.task.key for c in group.candidates):
        own = [c for c in group.candidates if c.task.key == task]
        wanted = _reference(own[0].task, group.inputs[task])
        out = group.outputs[task]
        for candidate in own:
            if candidate.run is None:
                continue
            # makes elements visible that a kernel does not write, or reads before it writes them
            out.view(np.uint8).fill(0xFF)
            if isinstance(group, Group):
                group.arena.fill(0xFF)
            candidate.run()
            if candidate.fetch is not None:
                candidate.fetch()
            candidate.error = _error(_live(own[0].task.op, out), wanted)
            limit = LIMITS[own[0].task.op.half_elem] if own[0].task.op.half else LIMITS.get(str(own[0].task.op.out.type.elem), 0.0)
            if not candidate.error <= limit:
                candidate.problem = f"wrong: error {candidate.error:.1e} against the interpreter, at most {limit:.0e} is right"


def race(group: Group, rng: np.random.Generator, tick: Callable[[], None] = lambda: None) -> None:
    """Time the correct candidates. Each round calls every candidate still in the race once, in a new random order."""
    alive = [c for c in group.candidates if c.run is not None and not c.problem]
    idle = _idle(alive[0]) if alive else 0.0
    for rounds, keep in STAGES:
        for _ in range(rounds):
            for i in rng.permutation(len(alive)):
                alive[i].samples.append(max(_cold(group, alive[i]) - idle, 1e-6))
            tick()
        best = {key: min(score(c) for c in own) for key, own in _by_task(alive).items()}
        favourites = [own[0] for own in _by_task(alive).values()]
        alive = [c for c in alive if score(c) <= keep * best[c.task.key] or c in favourites]


def score(candidate: Candidate) -> float:
    """First quartile of the samples, in ms: noise from other load on the machine only adds time."""
    return float(np.quantile(candidate.samples, 0.25))


def ranked(candidates: Iterable[Candidate], threads: int = 1) -> list[Candidate]:
    """Timed candidates of one fusion, the winner first, then by time. Only a candidate that was in all rounds can win."""
    equal = EQUAL if threads == 1 else EQUAL_SHARED
    timed = [c for c in candidates if c.samples and not c.problem]
    most = max((len(c.samples) for c in timed), default=0)
    finalists = [c for c in timed if len(c.samples) == most]
    fastest = min((score(c) for c in finalists), default=0.0)
    winner = next((c for c in finalists if score(c) <= equal * fastest), None)
    return sorted(timed, key=lambda c: (c is not winner, score(c)))


def _by_task(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    result: dict[str, list[Candidate]] = {}
    for c in candidates:
        result.setdefault(c.task.key, []).append(c)
    return result


def _cold(group: Group, candidate: Candidate) -> float:
    """Milliseconds of one call with weights in no cache, and operands in the cache where the kernel before would leave them.

    For a chain the arena is read before the operands, too: in a network, the memory of feature maps between separate kernels was used just before.
    """
    assert candidate.run is not None
    arena = [group.arena[: candidate.arena]] if candidate.task.parts else []
    group.sweep([*arena, *group.inputs[candidate.task.key]])
    start = time.perf_counter_ns()
    candidate.run()
    return (time.perf_counter_ns() - start) / 1e6


def _idle(candidate: Candidate) -> float:
    """Milliseconds of a call that does nothing."""
    assert candidate.idle is not None
    times = []
    for _ in range(100):
        start = time.perf_counter_ns()
        candidate.idle()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return float(np.median(times))


def _reference(task: Task, inputs: list[np.ndarray]) -> np.ndarray:
    """The fusion's result by the interpreter."""
    import torch

    given = iter(inputs)
    arrays = [to_torch(v.op.array if isinstance(v.op, Const) else next(given)) for v in task.op.args]
    wide = torch.float64 if task.op.out.type.is_float and task.op.macs() < LARGE else None
    (result,) = evaluate(task.op.body, arrays, dtype=wide)
    return _logical(task.op, result)


def _live(op: Fused, out: np.ndarray) -> np.ndarray:
    return _logical(op, to_torch(out))


def _logical(op: Fused, result: object) -> np.ndarray:
    """The result without the padding lanes of a blocked feature map."""
    layout = op.out.type.layout
    return to_numpy(unpack_torch(result, layout.channels) if layout is not None else result)  # type: ignore[arg-type]


def _error(got: np.ndarray, wanted: np.ndarray) -> float:
    """max|y - y64| / max|y64|; nan where one is finite and the other is not."""
    if got.dtype.kind != "f":
        return 0.0 if np.array_equal(got, wanted) else float("inf")
    finite = np.isfinite(wanted)
    if not np.array_equal(finite, np.isfinite(got)):
        return float("nan")
    scale = max(float(np.abs(wanted[finite]).max(initial=0.0)), 1e-30)
    return float(np.abs(got[finite] - wanted[finite]).max(initial=0.0)) / scale
