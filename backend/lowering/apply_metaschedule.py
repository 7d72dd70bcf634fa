"""select-kernels with MetaSchedule: where the database has a kernel of MetaSchedule, it replaces the template that `select_kernels` chose."""

from __future__ import annotations

import warnings

from ...ir.graph import Graph
from ..kernels.metaschedule.te_definition import define, refusal
from ..kernels.metaschedule.template import NAME, scheduled
from ..target import Target
from ..tile.fusion import Fusion
from ..tile.ops import Fused
from ..tuned.database import Database
from ..tuned.key import shape_key
from .select_kernels import WINOGRAD, select_kernels


def select_with_metaschedule(graph: Graph, target: Target, threads: int, tuned: Database | None = None, winograd: int = WINOGRAD) -> Graph:
    """`select_kernels`, and then the kernels of MetaSchedule that are in the database, in place."""
    select_kernels(graph, target, threads, tuned, winograd)
    entries = tuned.section(target, threads) if tuned is not None else {}
    fits: dict[str, bool] = {}
    for op in graph.ops:
        if not isinstance(op, Fused):
            continue
        entry = entries.get(key := shape_key(op))
        if tuned is None or entry is None or entry.found is None:
            continue
        if key not in fits:
            fits[key] = applies(Fusion(op), target, entry.found.trace, f"{tuned.name}: entry {key!r}")
        if fits[key]:
            op.template, op.params, op.chosen = NAME, {"trace": entry.found.trace}, NAME
    return graph


def applies(fusion: Fusion, target: Target, trace: str, where: str) -> bool:
    """Whether a trace fits the definition of the fusion in this version; else a warning says why it is ignored."""
    why = refusal(fusion)
    if not why:
        try:
            scheduled(define(fusion, target), trace)
            return True
        except Exception as error:
            why = " ".join(str(error).split())[-200:]
    warnings.warn(
        f"{where}: the kernel that MetaSchedule found is ignored, because its trace does not fit any more: {why}. Tune it again", stacklevel=3
    )
    return False
