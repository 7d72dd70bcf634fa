"""The modules of two other compilers' test suites, traced and run by the interpreter, against eager torch.

    python -m tersor.bench.peer_suites PATH [--only NAME ...] [--out bench/results]

PATH: a checkout of apache/tvm (its tests of models that torch.export made) or of llvm/torch-mlir (its end-to-end tests of convolution,
pooling, norms, padding, reductions, elementwise and basic operators, products, reshapes and slices). Their files are imported from there; nothing
of them runs but what makes a module and its inputs. What they import and this machine lacks is replaced by an object that does nothing.

right: every result equals eager torch's, integers exactly, floats within 1e-4 of the largest value.
refused: an error of Tersor that says "out of scope", or not. not runnable: eager torch itself fails, or the test needs a package that is missing.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.util
import itertools
import re
import signal
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import torch

import tersor

from .latency import RESULTS
from .results_file import write_results

TVM_TESTS = Path("tests/python/relax/test_frontend_from_exported_program.py")
TORCH_MLIR = Path("projects/pt1/python")
#: Parts of torch-mlir's suite that are about the operators of convolutional networks.
PARTS = (
    "conv",
    "pooling",
    "norm_like",
    "padding",
    "reduction",
    "elementwise",
    "elementwise_comparison",
    "matmul",
    "reshape_like",
    "slice_like",
    "basic",
)
VERDICTS = ("right", "refused in scope", "refused out of scope", "wrong", "not runnable")
SECONDS, TOLERANCE = 60, 1e-4


@dataclass(frozen=True)
class Case:
    """A module that is made by `build`, and its arguments."""

    name: str
    build: Callable[[], tuple[torch.nn.Module, tuple[Any, ...]]]


@dataclass(frozen=True)
class Row:
    """One module that is not right. why: the error, or the difference."""

    module: str
    verdict: str
    why: str


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--only", nargs="+", help="parts of names of modules")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    suite, cases = ("tvm", tvm_cases(args.path)) if (args.path / TVM_TESTS).exists() else ("torch_mlir", torch_mlir_cases(args.path))
    rows: list[Row] = []
    counts = dict.fromkeys(VERDICTS, 0)
    for case in cases:
        if args.only and not any(part in case.name for part in args.only):
            continue
        verdict, why = judged(case)
        counts[verdict] += 1
        if verdict != "right":
            rows.append(Row(case.name, verdict, why))
            print(f"{case.name}: {verdict}: {why}", flush=True)
    report = {"suite": suite, "torch": torch.__version__, "modules": sum(counts.values()), "counts": counts, "rows": [asdict(r) for r in rows]}
    if not args.only:
        write_results(args.out / f"peer_suites_{suite}.json", report)
    print(table({suite: counts}))


def table(suites: dict[str, dict[str, int]]) -> str:
    """Counts in Markdown."""
    lines = [f"| suite | modules | {' | '.join(VERDICTS)} |", "|---|--:|" + "--:|" * len(VERDICTS)]
    lines += [f"| {name} | {sum(counts.values())} | {' | '.join(str(counts[v]) for v in VERDICTS)} |" for name, counts in suites.items()]
    return "\n".join(lines)


# -- judging -----------------------------------------------------------------------------------


class OutOfTime(Exception):
    """A module takes longer than SECONDS."""


@contextmanager
def limited() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise OutOfTime(f"more than {SECONDS} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def judged(case: Case) -> tuple[str, str]:
    """The verdict on a module, and why it is not right."""
    try:
        with limited(), torch.no_grad():
            torch.manual_seed(0)
            module, args = case.build()
            module = module.eval()
            wanted = tensors(module(*copied(args)))
    except Exception as error:  # of any kind: it is their code
        return "not runnable", line(error)
    try:
        with limited(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            graph = tersor.trace(module, copied(args), batch=False)
            given = [a for a in torch.utils._pytree.tree_leaves(args) if isinstance(a, torch.Tensor)]
            got = tensors(graph(*given))
    except (tersor.TersorError, tersor.UnsupportedError) as error:
        return f"refused {'out of' if 'out of scope' in str(error) else 'in'} scope", line(error)
    except Exception as error:  # anything else is a fault of Tersor's
        return "wrong", f"{type(error).__name__}: {line(error)}"
    why = difference(got, wanted)
    if why and undefined(module, args, wanted):
        return "not runnable", "its results are not defined: they depend on random numbers or memory that is not initialized"
    return ("wrong", why) if why else ("right", "")


def undefined(module: torch.nn.Module, args: tuple[Any, ...], wanted: Sequence[torch.Tensor]) -> bool:
    """Whether eager torch gives other results where it fills new memory with NaN, and draws other random numbers."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(difference(tensors(module(*copied(args))), wanted))
    finally:
        torch.use_deterministic_algorithms(False)


def difference(got: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> str:
    """Empty where all results are equal."""
    if len(got) != len(wanted):
        return f"{len(got)} results, not {len(wanted)}"
    for a, b in zip(got, wanted):
        if a.shape != b.shape or (a.dtype != b.dtype and b.dtype not in (torch.float16, torch.bfloat16)):
            return f"{a.dtype}{list(a.shape)}, not {b.dtype}{list(b.shape)}"
        x, y = (np.asarray(t.detach().to(torch.float64 if t.is_floating_point() else t.dtype)) for t in (a, b))
        finite = np.isfinite(y) if b.is_floating_point() else np.ones(y.shape, bool)
        scale = float(np.abs(y[finite]).max(initial=0)) or 1.0
        limit = (2e-2 if b.dtype in (torch.float16, torch.bfloat16) else TOLERANCE) * scale if b.is_floating_point() else 0
        if not np.array_equal(x[~finite], y[~finite], equal_nan=b.is_floating_point()):
            return "infinities or NaN differ"
        off = float(np.abs(x[finite].astype(np.float64) - y[finite].astype(np.float64)).max(initial=0))
        if not off <= limit:  # also where off is NaN
            return f"differs by {off:.3g} of {scale:.3g}"
    return ""


def tensors(result: Any) -> list[torch.Tensor]:
    """Results that are tensors, in order."""
    leaves = torch.utils._pytree.tree_leaves(result)
    return [torch.as_tensor(leaf) for leaf in leaves if isinstance(leaf, torch.Tensor | np.ndarray)]


def copied(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments that a module may change in place."""
    copy: tuple[Any, ...] = torch.utils._pytree.tree_map(lambda a: a.clone() if isinstance(a, torch.Tensor) else a, args)
    return copy


def line(error: BaseException) -> str:
    # without the folders of this machine
    return re.sub(r"/[^\s:]*/", "", " ".join(str(error).split()))[:300] or type(error).__name__


# -- apache/tvm --------------------------------------------------------------------------------


class Found(Exception):
    """Ends a test after its last model was found."""


def tvm_cases(root: Path) -> list[Case]:
    """Every model that a test of the file hands to one of its verifying functions, or exports itself."""
    import pytest

    module = imported(root / TVM_TESTS)
    # what a test expects of TVM is not built
    script = MagicMock(ir_module=lambda given=None, **_: given or (lambda c: c))
    vars(module).update(I=script, R=MagicMock(), T=MagicMock(), tvm=MagicMock(script=script))
    cases: list[Case] = []
    names: list[str] = []

    def found(model: Any, args: Any = (), *_: Any, **more: Any) -> Any:
        args = tuple(more.pop("example_args", args))
        cases.append(Case(f"{names[-1]}[{sum(c.name.startswith(f'{names[-1]}[') for c in cases)}]", lambda: (model, args)))
        return MagicMock()

    def ends(*_: Any, **__: Any) -> Any:
        raise Found

    module.verify_model = module.verify_model_numerically = module.export = found  # type: ignore[attr-defined]
    module.from_exported_program = ends  # type: ignore[attr-defined]
    for name, function in [(n, f) for n, f in vars(module).items() if n.startswith("test_") and callable(f)]:
        names.append(name)
        for arguments in parameters(function):
            # what a test does after its models were found is not our concern
            with suppress(Exception, pytest.skip.Exception):
                function(**arguments)
    return cases


def parameters(function: Any) -> Iterator[dict[str, Any]]:
    """The keyword arguments of each run of a test that pytest parametrizes."""
    marks = [m for m in getattr(function, "pytestmark", []) if m.name == "parametrize"]
    for values in itertools.product(*(m.args[1] for m in marks)):
        arguments: dict[str, Any] = {}
        for mark, value in zip(marks, values):
            keys = mark.args[0].replace(" ", "").split(",") if isinstance(mark.args[0], str) else list(mark.args[0])
            value = value.values if hasattr(value, "marks") else (value,) if len(keys) == 1 else value
            arguments |= zip(keys, value)
        yield arguments


# -- llvm/torch-mlir ---------------------------------------------------------------------------


class Recorder:
    """Stands for a module while its test calls it, and keeps the arguments of the first call."""

    args: tuple[Any, ...] | None = None

    def forward(self, *args: Any) -> Any:
        self.args = self.args or args
        raise Found


def torch_mlir_cases(root: Path) -> list[Case]:
    """The registered tests of PARTS."""
    folder = (root / TORCH_MLIR).resolve()
    if not folder.exists():
        raise SystemExit(f"{root} is no checkout of apache/tvm or llvm/torch-mlir: it has neither {TVM_TESTS} nor {TORCH_MLIR}")
    sys.path.insert(0, str(folder))
    packaged = importlib.import_module("packaging.version")
    version = MagicMock(torch_version_for_comparison=lambda: packaged.parse(torch.__version__.split("+")[0]), version=packaged)
    stubs = {"torch_mlir": MagicMock(), "torch_mlir._version": version}
    for name in ("multiprocess", "torchvision"):
        if importlib.util.find_spec(name) is None:
            stubs |= {name: MagicMock(), f"{name}.ops": MagicMock(), f"{name}.models": MagicMock()}
    with patch.dict(sys.modules, stubs):
        for part in PARTS:
            importlib.import_module(f"torch_mlir_e2e_test.test_suite.{part}")
        registry = importlib.import_module("torch_mlir_e2e_test.registry").GLOBAL_TEST_REGISTRY
        utils = importlib.import_module("torch_mlir_e2e_test.framework").TestUtils

    def build(test: Any) -> tuple[torch.nn.Module, tuple[Any, ...]]:
        module, recorder = test.program_factory(), Recorder()
        with suppress(Found):
            test.program_invoker(recorder, utils())
        if recorder.args is None:
            raise RuntimeError("the test calls no forward")
        return module, recorder.args

    return [Case(test.unique_name, functools.partial(build, test)) for test in registry]


# -- both --------------------------------------------------------------------------------------


def imported(path: Path) -> types.ModuleType:
    """A file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
