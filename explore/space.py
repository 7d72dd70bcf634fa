"""The search space: the choices of a trial, and the pipeline string that they give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ..ir.errors import TersorError
from ..ir.graph import Graph
from ..passes.coupling import Coupling
from ..passes.prune.spaces import Choice, spaces_of

#: The ways to make a network smaller; a search may be limited to some.
WAYS = ("prune", "factorize", "sparsify", "int8", "ternary")


class Chooser(Protocol):
    """The methods of optuna's Trial that are used here."""

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...
    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None) -> float: ...


@dataclass(frozen=True)
class Space:
    """ways: the members of `WAYS` that the graph and the data allow. train: whether there is data for `finetune`; epochs: of `finetune`."""

    ways: tuple[str, ...]
    train: bool
    epochs: int

    @classmethod
    def of(cls, graph: Graph, ways: tuple[str, ...] | None, train: bool, epochs: int) -> Space:
        """The space of a graph: the ways that it and the data allow."""
        unknown = [w for w in ways or () if w not in WAYS]
        if unknown:
            raise TersorError(f"unknown way {unknown[0]!r}; valid: {', '.join(WAYS)}")
        if ways is not None and "ternary" in ways and not train:
            raise TersorError("ternary weights need training data: auto(..., train=data)")
        possible = [w for w in ways or WAYS if w != "ternary" or train]
        if "prune" in possible and not spaces_of(Coupling(graph), Choice()):
            possible.remove("prune")
        return cls(tuple(possible), train, epochs)

    def pipeline(self, trial: Chooser) -> str:
        """The pipeline of a trial, which draws its choices."""
        passes = []
        if self._use(trial, "prune"):
            passes.append(f"prune-channels{{macs={trial.suggest_float('prune macs', 0.3, 0.95, step=0.05):.2f}}}")
        if self._use(trial, "factorize"):
            passes.append(f"low-rank{{max_error={trial.suggest_float('factorize error', 0.05, 0.3, step=0.05):.2f}}}")
        # ternary weights exclude sparsify and int8
        ternary = self._use(trial, "ternary")
        if not ternary and self._use(trial, "sparsify"):
            share = trial.suggest_float("sparsity", 0.5, 0.95, step=0.05)
            scope = trial.suggest_categorical("sparsify scope", ["layer", "global"])
            passes.append(f"sparsify{{sparsity={share:.2f} scope={scope} repair=least-squares}}")
        if ternary:
            passes.append("ternarize")
        if self.train and (passes or self._use(trial, "finetune")):
            passes.append(f"finetune{{epochs={self.epochs}}}")
        if any(p.startswith("ternarize") for p in passes):
            passes.append("freeze-bits")
        if any(p.startswith("sparsify") for p in passes):
            passes.append("freeze-sparsity")
        if not ternary and self._use(trial, "int8"):
            passes.append("int8")
        return ",".join(["default", *passes])

    def _use(self, trial: Chooser, way: str) -> bool:
        return (way in self.ways or (way == "finetune" and self.train)) and bool(trial.suggest_categorical(way, [False, True]))

    def nothing(self) -> dict[str, Any]:
        """The choices that leave the network unchanged."""
        return dict.fromkeys((*self.ways, *(("finetune",) if self.train else ())), False)
