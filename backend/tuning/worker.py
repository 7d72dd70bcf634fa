"""The process in which MetaSchedule searches: `python -m tersor.backend.tuning.worker FOLDER`.

FOLDER/task.json says what to do (`Job`). Every kernel that ran becomes a line {"ms": …, "trace": […]} of FOLDER/found.jsonl after its batch, so
that results survive when this process is killed or crashes. TVM's own builder and runner start further processes and need psutil;
here kernels are built and run in this process, which may crash without harm.
"""

from __future__ import annotations

import json
import sys
import types
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

#: The module with TVM's tensor intrinsics: its import takes ten to twenty seconds, and none is used.
INTRINSICS = "tvm.s_tir.tensor_intrin"
#: Most iterations of one parallel loop for each thread, and of a vectorized one.
JOBS, WIDEST = 16, 64
#: Traces in a generation of the evolutionary search, and kernels that are measured before the next.
POPULATION, BATCH = 64, 8
#: Cold calls of each kernel; the shortest counts.
REPEAT = 5
TASK, FOUND = "task.json", "found.jsonl"


@dataclass(frozen=True)
class Job:
    """definition: the PrimFunc as TVM's JSON; target: the dict of TVM's target; trials: how many kernels to measure; model: `xgb` or `random`."""

    definition: str
    target: dict[str, Any]
    threads: int
    trials: int
    seed: int
    model: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def search(job: Job, found: Path) -> None:
    """Run MetaSchedule on one definition."""
    sys.modules.setdefault(INTRINSICS, types.ModuleType(INTRINSICS))
    import tvm
    from tvm.s_tir import meta_schedule as ms

    bench, population = Bench(), min(POPULATION, 8 * job.trials)
    ms.tune_tir(
        tvm.ir.load_json(job.definition),
        tvm.target.Target(job.target),
        work_dir=str(found.parent),
        max_trials_global=job.trials,
        num_trials_per_iter=min(BATCH, job.trials),
        builder=bench.builder(),
        runner=bench.runner(),
        database=ms.database.MemoryDatabase(),
        cost_model=_model(job),
        measure_callbacks=[_keep(found), ms.measure_callback.AddToDatabase(), ms.measure_callback.UpdateCostModel()],
        task_scheduler="round-robin",
        space=_space(job.threads),
        strategy=ms.search_strategy.EvolutionarySearch(population_size=population, init_min_unmeasured=population // 2),
        num_tuning_cores=1,
        seed=job.seed,
    )


def _model(job: Job) -> Any:
    from tvm.s_tir.meta_schedule.cost_model import RandomModel, XGBModel

    if job.model == "random":
        return RandomModel(seed=job.seed)
    if job.model == "xgb":
        return XGBModel(num_tuning_cores=1)
    raise ValueError(f"unknown cost model {job.model!r}")


def _space(threads: int) -> Any:
    """TVM's rules for CPUs without tensor intrinsics and without rfactor; parallel loops only where there are threads."""
    from tvm.s_tir import meta_schedule as ms
    from tvm.s_tir.meta_schedule import mutator, postproc, schedule_rule

    rules = [
        schedule_rule.AutoInline(
            into_producer=False,
            into_consumer=True,
            inline_const_tensor=True,
            disallow_if_then_else=True,
            require_injective=True,
            require_ordered=True,
        ),
        schedule_rule.MultiLevelTiling(
            structure="SSRSRS", max_innermost_factor=WIDEST, reuse_write=schedule_rule.ReuseType(req="may", levels=[1, 2], scope="global")
        ),
        schedule_rule.ParallelizeVectorizeUnroll(
            max_jobs_per_core=JOBS if threads > 1 else -1, max_vectorize_extent=WIDEST, unroll_max_steps=[0, 16, 64, 512], unroll_explicit=True
        ),
        schedule_rule.RandomComputeLocation(),
    ]
    post = [postproc.DisallowDynamicLoop(), postproc.RewriteParallelVectorizeUnroll(), postproc.RewriteReductionBlock()]
    moves = {mutator.MutateTileSize(): 0.9, mutator.MutateComputeLocation(): 0.05, mutator.MutateUnroll(): 0.05}
    return ms.space_generator.PostOrderApply(sch_rules=rules, postprocs=post, mutator_probs=moves)


class Bench:
    """Builds kernels and times them, in this process."""

    def __init__(self) -> None:
        self.modules: dict[str, Any] = {}

    def builder(self) -> Any:
        import tvm
        from tvm.ir.utils import derived_object
        from tvm.s_tir.meta_schedule.builder import BuilderResult, PyBuilder

        def build(given: Any) -> Any:
            name = str(len(self.modules))
            try:
                self.modules[name] = tvm.compile(given.mod, target=given.target).mod
            except Exception as error:
                return BuilderResult(None, f"{type(error).__name__}: {error}")
            return BuilderResult(name, None)

        @derived_object
        class Builder(PyBuilder):  # type: ignore[misc]
            def build(self, build_inputs: Any) -> list[Any]:
                return [build(given) for given in build_inputs]

        return Builder()

    def runner(self) -> Any:
        import tvm
        from tvm.ir.utils import derived_object
        from tvm.s_tir.meta_schedule.runner import PyRunner, PyRunnerFuture, RunnerResult

        @derived_object
        class Done(PyRunnerFuture):  # type: ignore[misc]
            def __init__(self, seconds: list[float]):
                super().__init__()
                self.seconds = seconds

            def done(self) -> bool:
                return True

            def result(self) -> Any:
                return RunnerResult(self.seconds, None)

        def run(given: Any) -> Any:
            rng = np.random.default_rng(0)
            arrays = [tvm.runtime.tensor(rng.standard_normal([int(n) for n in a.shape]).astype(a.dtype)) for a in given.args_info]
            module = self.modules.pop(given.artifact_path)
            # operands except the first, weights among them, are in no cache
            time = module.time_evaluator("main", tvm.cpu(), number=1, repeat=REPEAT, f_preproc="cache_flush_cpu_non_first_arg")
            return Done([float(s) for s in time(*arrays).results])

        @derived_object
        class Runner(PyRunner):  # type: ignore[misc]
            def run(self, runner_inputs: Any) -> list[Any]:
                return [run(given) for given in runner_inputs]

        return Runner()


def _keep(found: Path) -> Any:
    """The callback that records kernels that ran: fastest sample and trace."""
    from tvm.ir.utils import derived_object
    from tvm.s_tir.meta_schedule.measure_callback import PyMeasureCallback

    @derived_object
    class Keep(PyMeasureCallback):  # type: ignore[misc]
        def apply(self, task_scheduler: Any, task_id: int, measure_candidates: Any, builder_results: Any, runner_results: Any) -> None:
            with found.open("a") as file:
                for candidate, built, ran in zip(measure_candidates, builder_results, runner_results):
                    if ran.run_secs is None:
                        line: dict[str, Any] = {"error": str(built.error_msg or ran.error_msg)}
                    else:
                        line = {"ms": 1e3 * min(float(s) for s in ran.run_secs), "trace": _plain(candidate.sch.trace.as_json())}
                    file.write(json.dumps(line) + "\n")

    return Keep()


def _plain(value: Any) -> Any:
    """TVM's JSON objects as Python's."""
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if hasattr(value, "items"):
        return {str(k): _plain(v) for k, v in value.items()}
    if hasattr(value, "__iter__"):
        return [_plain(v) for v in value]
    return value.value


def main() -> None:
    folder = Path(sys.argv[1])
    search(Job(**json.loads((folder / TASK).read_text())), folder / FOUND)


if __name__ == "__main__":
    main()
