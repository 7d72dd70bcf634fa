"""A failing run as one file (graph, pipeline or target, and inputs), which `tersor reproduce FILE` runs again (like mlir-opt --run-reproducer)."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .ir.errors import TersorError
from .ir.graph import Graph

SUFFIX = ".repro"


@dataclass
class Reproducer:
    """What ran, and how it failed.

    kind: `transform` (options: pipeline, seed, check) or `compile` (options: those of `tersor.compile`). calibration: batches, arrays by input name.
    """

    kind: Literal["transform", "compile"]
    graph: Graph
    options: dict[str, Any]
    calibration: Sequence[Mapping[str, np.ndarray]] = ()
    error: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        """Run it again; its error propagates."""
        if self.kind == "compile":
            from .backend.compile import compile

            compile(self.graph, **self.options)
            return
        from . import transform

        transform(self.graph, self.options["pipeline"], calibration=list(self.calibration) or None, **_without(self.options, "pipeline"))

    def save(self, path: str | Path) -> None:
        """Write one zip file: `run.json`, `graph.tersor`, and the batches as .npz."""
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            self.graph.save(Path(folder) / "graph.tersor")
            out.write(Path(folder) / "graph.tersor", "graph.tersor")
            out.writestr(
                "run.json", json.dumps({"kind": self.kind, "options": self.options, "error": self.error, "versions": self.versions}, indent=1)
            )
            for i, batch in enumerate(self.calibration):
                data = io.BytesIO()
                arrays: dict[str, Any] = {k: np.asarray(v) for k, v in batch.items()}
                np.savez(data, **arrays)
                out.writestr(f"batch{i}.npz", data.getvalue())


def load_reproducer(path: str | Path) -> Reproducer:
    """Read a file of `Reproducer.save`. Raises TersorError for any other file."""
    from . import load

    try:
        with zipfile.ZipFile(path) as file, tempfile.TemporaryDirectory() as folder:
            said = json.loads(file.read("run.json"))
            (Path(folder) / "graph.tersor").write_bytes(file.read("graph.tersor"))
            graph = load(Path(folder) / "graph.tersor")
            graph.verify()
            names = [n for n in file.namelist() if n.endswith(".npz")]
            batches = [dict(np.load(io.BytesIO(file.read(f"batch{i}.npz")))) for i in range(len(names))]
            return Reproducer(said["kind"], graph, said["options"], batches, said["error"], said["versions"])
    except FileNotFoundError:
        raise TersorError(f"there is no file {path}") from None
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError) as error:
        raise TersorError(f"{path} is no file that --reproducer writes: {error}") from None


@contextmanager
def reproducing(
    path: str | Path | None,
    kind: Literal["transform", "compile"],
    graph: Graph,
    options: dict[str, Any],
    calibration: Any = None,
    note: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Write a reproducer if the block fails with any error; does nothing without a path. note: called with where it is."""
    try:
        yield
    except Exception as error:
        if path is not None:
            batches = [b if isinstance(b, Mapping) else dict(zip((v.name for v in graph.inputs), _tuple(b))) for b in calibration or ()]
            Reproducer(kind, graph, options, batches, f"{type(error).__name__}: {error}", _versions()).save(path)
            if note is not None:
                note(f"written to {path}: tersor reproduce {path} runs it again")
        raise


def _tuple(batch: Any) -> tuple[Any, ...]:
    return tuple(batch) if isinstance(batch, tuple | list) else (batch,)


def _without(options: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in options.items() if k != key}


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("tersor", "torch", "apache-tvm", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found
