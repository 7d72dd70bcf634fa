"""Sensitivity to int8 and pruning: the error of the network's outputs when each layer alone is changed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..backend.latency import latency
from ..ir.errors import TersorError
from ..ir.graph import Graph
from ..ir.op import Const, Op
from ..passes.core.check import sqnr
from ..passes.core.context import Progress, batches, open_progress
from ..passes.core.pipeline import format_pass
from ..passes.core.presets import PRESETS
from ..passes.core.samples import arguments, tensors
from ..passes.core.transform import transform
from ..passes.prune.prune_channels import PruneChannels
from ..passes.quantize.quantize import QuantizePass
from ..reports.measures import times


@dataclass(frozen=True)
class Sensitivity:
    """One layer, by its module path. error: |y' - y| / |y| of the network's outputs (Euclidean) where this layer alone is quantized (int8), or loses
    `ratio` of its output channels (pruned); None where that is impossible, with the reason. ms saved: measured; None where it was not."""

    layer: str
    op: str
    macs: int
    int8: float | None
    int8_ms: float | None
    pruned: float | None
    pruned_macs: int | None
    pruned_ms: float | None
    why: str = ""


@dataclass(frozen=True)
class Sensitivities:
    """Layers in the order of the graph. ratio: of the pruning."""

    rows: tuple[Sensitivity, ...]
    ratio: float

    def __iter__(self) -> Any:
        return iter(self.rows)

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Header and lines of the table, without the columns that no row fills. The first two hold words."""
        header = ["layer", "op", "MACs", "int8 error", "int8 ms saved", "pruned error", "pruned MACs", "pruned ms saved", "note"]
        lines = [
            [r.layer, r.op, f"{r.macs:,}", *(_error(r.int8), _ms(r.int8_ms), _error(r.pruned)), _count(r.pruned_macs), _ms(r.pruned_ms), r.why]
            for r in self.rows
        ]
        shown = [c for c in range(len(header)) if any(line[c] for line in lines)]
        return [header[c] for c in shown], [[line[c] for c in shown] for line in lines]

    def __str__(self) -> str:
        header, lines = self.cells()
        widths = [max(map(len, column)) for column in zip(header, *lines)]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in [header, *lines])

    def to_json(self) -> str:
        return json.dumps({"ratio": self.ratio, "layers": [asdict(r) for r in self.rows]}, indent=1)

    def int8_pipeline(self, above: float) -> str:
        """The preset int8, without the layers whose error is above `above`."""
        skip = tuple(r.layer for r in self.rows if r.int8 is not None and r.int8 > above)
        if all(r.layer in skip for r in self.rows if r.int8 is not None):
            raise TersorError(f"every layer errs by more than {above:g}: nothing would run on integers")
        return PRESETS["int8"].pipeline.replace(",quantize,", f",{format_pass(QuantizePass(skip=skip))},")

    def prune_pipeline(self, above: float) -> str:
        """prune-channels by `ratio` in every layer, as measured, without the layers whose error is above `above`."""
        exclude = tuple(r.layer for r in self.rows if r.pruned is None or r.pruned > above)
        if all(r.layer in exclude for r in self.rows):
            raise TersorError(f"every layer errs by more than {above:g}: nothing would be pruned")
        return f"default,{format_pass(_pruning(self.ratio, exclude))}"


def sensitivity(
    graph: Graph,
    *,
    calibration: Any,
    what: Sequence[str] = ("int8", "prune"),
    ratio: float = 0.5,
    measure: bool = False,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> Sensitivities:
    """Quantize, and prune by `ratio`, each layer alone, and compare the network's outputs on the first calibration batch.

    measure: also compile for one thread of this machine, and report how many ms each layer saves: for int8 the difference of its kernels in the
    quantized network, for pruning that of the whole run (compiles once for each layer). Errors of layers do not add up: several quantized at
    once may give less or more than the sum.

    Raises TersorError without calibration data, for a graph without layers to change, and for `what` that is neither int8 nor prune.
    """
    if unknown := [w for w in what if w not in ("int8", "prune")]:
        raise TersorError(f"there is no sensitivity to {unknown[0]!r}; valid: int8, prune")
    given = batches(calibration)
    if not given:
        raise TersorError("sensitivity needs calibration batches: sensitivity(graph, calibration=[batch, ...])")
    plain = transform(graph, "freeze-sparsity,default")
    layers: dict[str, Op] = {}
    for op in plain.ops:
        if op.contraction and op.loc.path:
            layers.setdefault(op.loc.path, op)
    if not layers:
        raise TersorError("the graph has no layer with a module path that sums products: nothing to judge")
    paths = sorted({op.loc.path for op in plain.ops if op.loc.path and not isinstance(op, Const)})
    inputs = tensors(arguments(graph, given[0]))
    saved = _int8_ms(plain, given, seed) if measure and "int8" in what else {}
    whole = latency(plain) if measure and "prune" in what else None
    rows = []
    with open_progress(progress) as show:
        for done, (path, op) in enumerate(layers.items()):
            if show is not None:
                show(f"sensitivity: {path}", done, len(layers))
            int8, pruned, small, notes = None, None, None, []
            if "int8" in what:
                small, why = _tried(plain, QuantizePass(skip=tuple(p for p in paths if p != path)), given, seed)
                int8, notes = (None, [f"int8: {why}"]) if small is None else (_relative(plain, small, inputs), [])
            if "prune" in what:
                others = tuple(p for p in layers if p != path)
                small, why = _tried(plain, _pruning(ratio, others), given, seed)
                pruned = None if small is None else _relative(plain, small, inputs)
                notes += [f"prune: {why}"] if small is None else []
            cut = small if "prune" in what else None
            macs = None if cut is None else plain.macs() - cut.macs()
            ms = None if cut is None or whole is None else whole - latency(cut)
            rows.append(Sensitivity(path, op.name.removeprefix("nn."), op.macs(), int8, saved.get(path), pruned, macs, ms, "; ".join(notes)))
    return Sensitivities(tuple(rows), ratio)


def _pruning(ratio: float, exclude: tuple[str, ...]) -> PruneChannels:
    return PruneChannels(ratio=ratio, per_layer="uniform", exclude=exclude, sample_inputs=False)


def _tried(graph: Graph, what: Any, given: Any, seed: int) -> tuple[Graph | None, str]:
    """The graph after a pass, or None and the first sentence of the pass's error."""
    try:
        return transform(graph, [what], calibration=given, seed=seed), ""
    except TersorError as error:
        return None, str(error).partition(": ")[2].partition(";")[0].splitlines()[0]


def _relative(graph: Graph, small: Graph, inputs: Any) -> float:
    db = sqnr(graph, small, inputs)
    return math.inf if db is None else 10 ** (-db / 20)


def _int8_ms(plain: Graph, given: Any, seed: int) -> dict[str, float]:
    """By module path, ms that int8 kernels save against float ones."""
    from ..backend.compile import compile as compile_graph

    found: list[dict[str, float]] = []
    for graph in (plain, transform(plain, PRESETS["int8"].pipeline, calibration=given, seed=seed)):
        exe = compile_graph(graph)
        ms = times(graph, exe.profile())
        by_path: dict[str, float] = {}
        for row in graph.to_networkx(ms).nodes.values():
            if row["path"] and "ms" in row:
                by_path[row["path"]] = by_path.get(row["path"], 0.0) + row["ms"]
        found.append(by_path)
    floats, integers = found
    return {path: ms - integers[path] for path, ms in floats.items() if path in integers}


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:.2e}"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
