"""The environment of an agent: a walk through the layers, and the evaluations that give its rewards, kept in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...ir.errors import TersorError
from .knobs import Knobs

#: How far above the budget a measured latency may be.
SLACK = 0.03


@dataclass(frozen=True)
class Trial:
    """An evaluation. cost: the share of multiply-accumulates left; measured: of the latency, where that is the budget."""

    ratios: tuple[float, ...]
    reward: float
    cost: float
    measured: float | None = None


@dataclass
class Environment:
    """Layers in order. An action is the share of a layer to remove, from 0 to `most`, raised where the budget could not be met otherwise.

    budget: share of multiply-accumulates to leave at most. judge(ratios) gives the reward and the measured share of latency (or None).
    latency: whether the budget is one of latency; then multiply-accumulates are its proxy, in the proportion last measured.
    """

    knobs: Knobs
    budget: float
    most: float
    judge: Callable[[Sequence[float]], tuple[float, float | None]]
    latency: bool = False
    log: Path | None = None
    made_by: str = ""
    trials: list[Trial] = field(default_factory=list)
    known: dict[tuple[float, ...], Trial] = field(default_factory=dict)

    def __post_init__(self) -> None:
        least = self.knobs.cost([self.most] * self.size)
        if least > self.budget and not self.latency:
            raise TersorError(f"a budget of {self.budget:g} cannot be met: the least that most={self.most:g} of every layer leaves is {least:.3g}")
        self.factor = 1.0
        if self.log is not None:
            self._read()

    @property
    def size(self) -> int:
        return len(self.knobs.knobs)

    # -- the walk ------------------------------------------------------------------------------

    def limited(self, before: Sequence[float], action: float) -> float:
        """The ratio of the next layer: the action, or more where all later layers at `most` would not meet the budget (AMC, algorithm 1)."""
        rest = [self.most] * (self.size - len(before) - 1)
        ratio = min(self.most, max(0.0, action))
        budget = self.budget / self.factor
        if self.knobs.cost([*before, ratio, *rest]) <= budget:
            return ratio
        low, high = ratio, self.most
        for _ in range(12):
            middle = (low + high) / 2
            low, high = (low, middle) if self.knobs.cost([*before, middle, *rest]) <= budget else (middle, high)
        return high

    def ratios(self, actions: Sequence[float]) -> tuple[float, ...]:
        """The ratios of a whole walk."""
        done: list[float] = []
        for action in actions:
            done.append(round(self.limited(done, float(action)), 4))
        return tuple(done)

    def state(self, before: Sequence[float]) -> NDArray[np.float32]:
        """Index, facts and MACs of the next layer, MACs saved so far, MACs of later layers, the last action; each from 0 to about 1."""
        t = min(len(before), self.size - 1)
        facts = np.array([k.facts for k in self.knobs.knobs])
        macs = np.array([k.macs for k in self.knobs.knobs], np.float64)
        normal = facts[t] / np.maximum(facts.max(axis=0), 1)
        whole = self.knobs.whole
        saved = 1 - self.knobs.cost([*before, *[0.0] * (self.size - len(before))])
        rest = [macs[t] / whole, saved, macs[t + 1 :].sum() / whole, before[-1] if before else 0.0]
        return np.array([t / max(self.size - 1, 1), *normal, *rest], np.float32)

    # -- evaluations ---------------------------------------------------------------------------

    def evaluate(self, ratios: tuple[float, ...]) -> Trial:
        """Evaluate a network with these ratios, or take the evaluation from the file."""
        trial = self.known.get(ratios)
        if trial is None:
            reward, measured = self.judge(ratios)
            trial = Trial(ratios, reward, self.knobs.cost(ratios), measured)
            self.known[ratios] = trial
            if self.log is not None:
                with self.log.open("a") as file:
                    file.write(json.dumps({"ratios": ratios, "reward": reward, "measured": measured}) + "\n")
        if trial.measured is not None:
            self.factor = trial.measured / max(trial.cost, 1e-9)
        self.trials.append(trial)
        return trial

    def fits(self, trial: Trial) -> bool:
        """Whether a trial keeps to the budget."""
        if self.latency:
            return trial.measured is not None and trial.measured <= self.budget * (1 + SLACK)
        return trial.cost <= self.budget * (1 + 1e-9)

    def worth(self, trial: Trial) -> float:
        """The reward, reduced where the budget is exceeded."""
        return trial.reward if self.fits(trial) else trial.reward - 1

    @property
    def best(self) -> Trial | None:
        return max((t for t in self.trials if self.fits(t)), key=lambda t: t.reward, default=None)

    def _read(self) -> None:
        assert self.log is not None
        if not self.log.exists():
            try:
                self.log.write_text(json.dumps({"made_by": self.made_by}) + "\n")
            except OSError as error:
                raise TersorError(f"cannot write the state {self.log}: {error.strerror}") from None
            return
        lines = self.log.read_text().splitlines()
        try:
            made_by = json.loads(lines[0])["made_by"]
            for i, line in enumerate(lines[1:], 1):
                try:
                    entry = json.loads(line)
                except ValueError:
                    # a kill may leave an incomplete last line
                    if i == len(lines) - 1:
                        self.log.write_text("\n".join(lines[:-1]) + "\n")
                        break
                    raise
                ratios = tuple(float(r) for r in entry["ratios"])
                self.known[ratios] = Trial(ratios, float(entry["reward"]), self.knobs.cost(ratios), entry["measured"])
        except (ValueError, KeyError, IndexError, TypeError):
            raise TersorError(f"{self.log} is not the state of a search: name another file, or delete it") from None
        if made_by != self.made_by:
            raise TersorError(
                f"the state {self.log} is of another search:\n  there {made_by}\n  here  {self.made_by}\nname another file, or delete it"
            )
