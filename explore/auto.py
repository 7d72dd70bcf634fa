"""auto: search pipelines with optuna for quality, measured latency and size."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backend.compile import compile as compile_graph
from ..backend.latency import AT_LEAST_MS, AT_LEAST_RUNS
from ..ir.errors import TersorError
from ..ir.graph import Graph
from ..passes.core.check import outputs, sqnr
from ..passes.core.context import Progress, batches, open_progress
from ..passes.core.samples import arguments, tensors
from ..passes.core.transform import transform
from .front import Budget, Front, Point, pareto
from .space import Space

if TYPE_CHECKING:
    from ..backend.runtime.model import CompiledModel

#: Trials that are drawn at random before the sampler learns from them.
RANDOM = 8


def auto(
    graph: Graph,
    *,
    calibration: Any,
    train: Any = None,
    evaluate: Callable[[Graph], float] | None = None,
    held: Any = None,
    budget: str | None = None,
    target: str = "cpu",
    trials: int = 30,
    ways: Sequence[str] | None = None,
    epochs: int = 1,
    latency: Callable[[Graph], float] | None = None,
    storage: str | Path | None = None,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> Front:
    """The Pareto front of quality, latency and size that pipelines reach on a graph.

    calibration: batches without labels, for refits and ranges. held: other batches, to measure quality on where `evaluate` is not given: by
    agreement, the share of positions whose largest output is that of the original graph, or, where the outputs are not logits, by SQNR in dB.
    Without `held` a part of the calibration is held out; `transform` reproduces a point from the rest.
    train: data for fine-tuning (`epochs` after passes that lose accuracy). evaluate: quality of a graph, larger is better.
    budget: "5 ms", "2 MB", "-1 %" (of quality, in points), or several with commas: the search prefers points within it, and `Front.best` is the
    best of them. target: what to compile for. latency: measures a graph, in ms, if not on this machine with one thread.
    trials: networks in all, those in the storage included; the first is the original graph. ways: of prune, factorize, sparsify, int8, ternary.
    storage: a file, or a database URL of optuna's. Another process with the same arguments joins the search; a killed one resumes.

    Raises TersorError for a budget that is not valid, ways that do not exist, a storage of another search, and where optuna is missing.
    """
    optuna = _optuna()
    if trials < 1 or epochs < 1:
        raise TersorError(f"trials and epochs must be at least 1, got {trials} and {epochs}")
    limits = Budget.parse(budget)
    given = batches(calibration)
    if not given:
        raise TersorError("auto needs calibration batches: auto(graph, calibration=[batch, ...])")
    judged = batches(held)
    fitted, judging = (given, judged or []) if judged or evaluate is not None else split(graph, given)
    space = Space.of(graph, None if ways is None else tuple(ways), train is not None, epochs)
    judge, measure = (evaluate, "accuracy") if evaluate is not None else agreement(graph, judging)

    def make(pipeline: str) -> Graph:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return transform(graph, pipeline, calibration=fitted, train=train, seed=seed)

    def build(small: Graph) -> CompiledModel:
        return compile_graph(small, target)

    def point(pipeline: str) -> Point:
        small = make(pipeline)
        return Point(pipeline, float(judge(small)), latency(small) if latency is not None else _fastest(build(small)), coded_bytes(small))

    study = _study(optuna, storage, _signature(graph, space, limits, target, seed, measure))
    study.enqueue_trial(space.nothing(), skip_if_exists=True)
    with open_progress(progress) as show:
        while (done := len(_finished(optuna, study))) < trials:
            # those that other processes have begun count too, so that no two propose the same
            study.sampler = _sampler(optuna, seed + len(study.get_trials(deepcopy=False)), limits)
            _one(optuna, study, space, point, limits)
            if show is not None:
                show(f"auto: {len(study.best_trials)} on the front", done + 1, trials)
    points, failed = _points(optuna, study)
    if not points:
        pipeline, error = next(iter(failed.items()))
        raise TersorError(f"none of {len(failed)} pipelines worked; {pipeline}: {error}")
    first = next((p for p in points if p.pipeline == "default"), points[0])
    return Front(measure, limits, first, pareto(points), points, failed, make, build)


# -- quality, latency, size --------------------------------------------------------------------


def split(graph: Graph, given: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Batches to calibrate on and batches to evaluate on: the last quarter of them, or the last half of a single one."""
    if len(given) > 1:
        count = max(1, len(given) // 4)
        return list(given[:-count]), list(given[-count:])
    values = tensors(arguments(graph, given[0]))
    half = len(values[0]) // 2
    if not graph.batched or not half:
        raise TersorError("auto holds out a part of the calibration data to judge by: give two batches at least, or one of several images")
    return [tuple(v[:half] for v in values)], [tuple(v[half:] for v in values)]


def agreement(graph: Graph, held: Sequence[Any]) -> tuple[Callable[[Graph], float], str]:
    """How close a graph's outputs are to those of the original, on batches held out: a function and its name."""
    inputs = [tensors(arguments(graph, batch)) for batch in held]
    logits = len(graph.outputs) == 1 and graph.outputs[0].type.rank >= 2 and graph.outputs[0].type.is_float
    if not logits:
        return lambda small: min(200.0, _decibels(sqnr(graph, small, inputs[0]))), "SQNR"
    wanted = [outputs(graph, x)[0].argmax(1) for x in inputs]

    def agrees(small: Graph) -> float:
        got = [outputs(small, x)[0].argmax(1) for x in inputs]
        return float(sum(int((a == b).sum()) for a, b in zip(wanted, got)) / sum(a.size for a in wanted))

    return agrees, "agreement"


def _decibels(db: float | None) -> float:
    return -math.inf if db is None else db


def _fastest(model: CompiledModel) -> float:
    """ms of the fastest of many runs, the one least disturbed by other processes."""
    once = model.benchmark(repeat=3, warmup=2).min
    return float(model.benchmark(repeat=max(AT_LEAST_RUNS, round(AT_LEAST_MS / once)), warmup=0).min)


def coded_bytes(graph: Graph) -> int:
    """Bytes of the entropy-coded file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.tersor"
        graph.save(path, entropy=True)
        return path.stat().st_size


# -- the study ---------------------------------------------------------------------------------


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise TersorError(f"auto needs optuna ({error}): pip install tersor[search]") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _signature(graph: Graph, space: Space, budget: Budget, target: str, seed: int, measure: str) -> str:
    content = hashlib.sha256(str(graph).encode())
    for op in graph.find("nn.constant"):
        content.update(op.array.tobytes())  # type: ignore[attr-defined]
    train = f", train for {space.epochs} epochs" if space.train else ""
    return f"{', '.join(space.ways)}{train}, budget {budget.text!r}, {target}, seed {seed}, {measure}, graph {content.hexdigest()[:16]}"


def _study(optuna: Any, storage: str | Path | None, made_by: str) -> Any:
    """The study in a storage, created if missing."""
    url = None if storage is None else str(storage) if "://" in str(storage) else f"sqlite:///{Path(storage).absolute()}"
    try:
        try:
            study = _opened(optuna, url)
        except Exception as error:
            if not any(text in str(error) for text in ("already exists", "duplicate key")):
                raise
            # another worker made the tables at the same moment
            time.sleep(1)
            study = _opened(optuna, url)
        before = study.user_attrs.get("made_by")
        if before is None:
            study.set_user_attr("made_by", made_by)
    except Exception as error:
        raise TersorError(f"cannot open the storage {storage} ({type(error).__name__}: {str(error).splitlines()[0]})") from error
    if before not in (None, made_by):
        raise TersorError(f"the storage {storage} is of another search:\n  there {before}\n  here  {made_by}\nname another file, or delete it")
    return study


def _opened(optuna: Any, url: str | None) -> Any:
    return optuna.create_study(storage=url, study_name="tersor", directions=["maximize", "minimize", "minimize"], load_if_exists=True)


def _sampler(optuna: Any, seed: int, budget: Budget) -> Any:
    constrained = budget.text != ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constraints are experimental in optuna
        options = {"constraints_func": lambda trial: trial.user_attrs.get("excess", [1.0])} if constrained else {}
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM, multivariate=True, group=True, **options)


def _finished(optuna: Any, study: Any) -> list[Any]:
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    found: list[Any] = study.get_trials(deepcopy=False, states=states)
    return found


def _one(optuna: Any, study: Any, space: Space, measured: Callable[[str], Point], budget: Budget) -> None:
    """Run one trial. A pipeline that was tried before keeps its values; for one that fails the error is stored."""

    def objective(trial: Any) -> tuple[float, float, float]:
        pipeline = space.pipeline(trial)
        trial.set_user_attr("pipeline", pipeline)
        trial.set_user_attr("worker", f"{platform.node()}:{os.getpid()}")
        before, failed = _points(optuna, study)
        known = next((p for p in before if p.pipeline == pipeline), None)
        try:
            if pipeline in failed:
                raise TersorError(failed[pipeline])
            found = known or measured(pipeline)
        except TersorError as error:
            trial.set_user_attr("error", str(error))
            raise optuna.TrialPruned() from None
        first = next((p for p in before if p.pipeline == "default"), found)
        trial.set_user_attr("excess", budget.excess(found, first))
        return found.quality, found.latency, found.nbytes

    study.optimize(objective, n_trials=1)


def _points(optuna: Any, study: Any) -> tuple[list[Point], dict[str, str]]:
    """All networks that were measured, each once, and the errors of the others by pipeline."""
    points: dict[str, Point] = {}
    failed: dict[str, str] = {}
    for trial in _finished(optuna, study):
        pipeline = trial.user_attrs.get("pipeline", "")
        if trial.state == optuna.trial.TrialState.COMPLETE:
            quality, latency, nbytes = trial.values
            points.setdefault(pipeline, Point(pipeline, quality, latency, int(nbytes)))
        else:
            failed[pipeline] = trial.user_attrs.get("error", "stopped")
    return list(points.values()), failed
