"""Measure candidates on a device: their code and operands are sent, outputs and times come back. `outputs` and `race` are jobs of its worker."""

from __future__ import annotations

import io
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..codegen.link import link
from ..remote.session import Session
from ..remote.worker import pack
from ..runtime.native import Function, Library, aligned
from ..target import Target
from . import timing
from .build import Built, Candidate, Group, Task, loaded

SHIPPED, OPERANDS, OUTPUTS = "shipped.json", "operands.npz", "outputs.npz"


@dataclass
class Shipped:
    """What a device knows of a candidate. steps: kernels of one call; chain: its arena is swept too; there: whether it has code."""

    task: str
    arena: int
    steps: int
    chain: bool
    there: bool


@dataclass
class _Stub(Candidate):
    """A candidate on the device."""

    count: int = 1

    @property
    def steps(self) -> int:
        return self.count


def send(made: Built, session: Session) -> None:
    """Send everything that both jobs read, and take the outputs of every candidate: `Candidate.run` copies them here."""
    modules = list(dict.fromkeys(map(id, made.modules.values())))
    libraries = {name: modules.index(id(m)) for name, m in made.modules.items()}
    candidates = [
        Shipped(c.task.key, c.arena, c.steps, bool(c.task.parts), not c.problem and c.same is None and f"c{i}" in made.modules)
        for i, c in enumerate(made.candidates)
    ]
    shapes = {key: (out.shape, str(out.dtype)) for key, out in made.outputs.items()}
    given = {key: [(x.shape, str(x.dtype)) for x in arrays] for key, arrays in made.inputs.items()}
    described = {
        "candidates": [asdict(c) for c in candidates],
        "libraries": libraries,
        "outputs": shapes,
        "inputs": given,
        "arena": made.arena,
        "weights": made.weights.nbytes,
        "target": made.target.as_dict(),
        "threads": made.threads,
    }
    files = {SHIPPED: json.dumps(described).encode()}
    by_id = {id(m): m for m in made.modules.values()}
    for i, number in enumerate(modules):
        files[f"lib{i}.so"] = _linked(by_id[number], made.target)
    session.upload(OPERANDS, [made.weights, *(x for arrays in made.inputs.values() for x in arrays)])
    there = session.job("outputs", files)
    with np.load(io.BytesIO(session.download(OUTPUTS)), allow_pickle=False) as file:
        results = [file[f"a{i}"] for i in range(len(there))]
    for i, result in zip(there, results):
        candidate = made.candidates[i]
        candidate.run = _copier(made.outputs[candidate.task.key], result)


def race_there(made: Built, session: Session, seed: int) -> None:
    """Time the candidates that have code and no problem; their samples come back."""
    alive = [i for i, c in enumerate(made.candidates) if c.run is not None and not c.problem]
    for i, samples in zip(alive, session.job("race", alive=alive, seed=seed)):
        made.candidates[i].samples = samples


def _linked(module: Any, target: Target) -> bytes:
    with tempfile.TemporaryDirectory(prefix="tersor-") as folder:
        source = Path(folder) / "group.o"
        module.write_to_file(str(source), "o")
        return link([source], target)


def _copier(out: np.ndarray, result: np.ndarray) -> Any:
    def run() -> None:
        out.reshape(-1).view(np.uint8)[...] = result

    return run


# -- on the device -------------------------------------------------------------------------------


def outputs(folder: Path) -> list[int]:
    """Run each candidate once; writes the results and returns the numbers of the candidates that have one."""
    group = _received(folder)
    there = [i for i, c in enumerate(group.candidates) if c.run is not None]
    results = []
    for i in there:
        candidate, out = group.candidates[i], group.outputs[group.candidates[i].task.key]
        out.reshape(-1).view(np.uint8).fill(0xFF)
        group.arena.fill(0xFF)
        assert candidate.run is not None
        candidate.run()
        results.append(out.copy())
    pack(folder / OUTPUTS, results)
    return there


def race(folder: Path, alive: list[int], seed: int) -> list[list[float]]:
    """`timing.race` of some candidates: the samples of each in ms."""
    group = _received(folder)
    chosen = [group.candidates[i] for i in alive]
    group.candidates = chosen
    timing.race(group, np.random.default_rng(seed))
    return [c.samples for c in chosen]


def _filled(shape: list[int], dtype: str, data: np.ndarray | None) -> np.ndarray:
    """An aligned array; of zeros without data."""
    kind = np.dtype(dtype)
    array = aligned(int(np.prod(shape)) * kind.itemsize)
    if data is not None:
        array[...] = data
    return array.view(kind).reshape(shape)


def _received(folder: Path) -> Group:
    described = json.loads((folder / SHIPPED).read_text())
    described["target"]["features"] = tuple(described["target"]["features"])
    target = Target(**described["target"])
    with np.load(folder / OPERANDS, allow_pickle=False) as file:
        blobs = [file[f"a{i}"] for i in range(len(file.files))]
    weights = aligned(described["weights"])
    weights[...] = blobs.pop(0)
    inputs = {}
    for key, ports in described["inputs"].items():
        inputs[key] = [_filled(shape, dtype, blobs.pop(0)) for shape, dtype in ports]
    results = {key: _filled(shape, dtype, None) for key, (shape, dtype) in described["outputs"].items()}
    candidates: list[Candidate] = []
    for shipped in (Shipped(**c) for c in described["candidates"]):
        task: Any = Task(shipped.task, None, (), parts=(None,) if shipped.chain else ())  # type: ignore[arg-type]
        problem = "" if shipped.there else "not sent"
        candidates.append(_Stub(task, None, {}, arena=shipped.arena, problem=problem, count=shipped.steps))  # type: ignore[arg-type]
    libraries = [Library((folder / f"lib{i}.so").read_bytes()) for i in range(1 + max(described["libraries"].values()))]

    def function(name: str) -> Function:
        number: int = described["libraries"][name]
        return libraries[number][name]

    made = Built(candidates, {}, weights, described["arena"], inputs, results, target, described["threads"])
    return loaded(made, function, target, described["threads"])
