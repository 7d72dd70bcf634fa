"""Agents that choose ratios: random search, greedy hill climbing, and deep deterministic policy gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...ir.errors import TersorError
from .environment import Environment, Trial

#: agent(environment, evaluations, seed, progress); progress(done) is called after each evaluation.
Agent = Callable[[Environment, int, int, Callable[[int], None]], None]
#: How far greedy changes a ratio at first.
STRIDE = 0.2
#: Standard deviation of DDPG's noise at first, and its decay after each episode (AMC: 0.5, 0.95).
NOISE, DECAY = 0.5, 0.95


def random(environment: Environment, evaluations: int, seed: int, progress: Callable[[int], None]) -> None:
    """Ratios drawn from a uniform distribution."""
    rng = np.random.default_rng(seed)
    for i in range(evaluations):
        environment.evaluate(environment.ratios(rng.uniform(0, environment.most, environment.size).tolist()))
        progress(i + 1)


def greedy(environment: Environment, evaluations: int, seed: int, progress: Callable[[int], None]) -> None:
    """Hill climbing from the same ratio everywhere: change one layer at a time, keep what is worth more, halve the stride when nothing is."""
    rng = np.random.default_rng(seed)
    low, high = 0.0, environment.most
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if environment.knobs.cost([middle] * environment.size) <= environment.budget else (middle, high)
    best = environment.evaluate(environment.ratios([high] * environment.size))
    progress(1)
    moves: list[list[int]] = []
    stride, failed = STRIDE, 0
    for i in range(1, evaluations):
        if not moves:
            moves = rng.permutation([(j, s) for j in range(environment.size) for s in (-1, 1)]).tolist()
        layer, sign = moves.pop()
        ratios = list(best.ratios)
        ratios[layer] += sign * stride
        trial = environment.evaluate(environment.ratios(refilled(environment, ratios, layer)))
        if environment.worth(trial) > environment.worth(best):
            best, failed = trial, 0
        else:
            failed += 1
        if failed >= 2 * environment.size:
            stride, failed = stride / 2, 0
        progress(i + 1)


def refilled(environment: Environment, ratios: list[float], fixed: int) -> list[float]:
    """The ratios with all but one shifted alike, so that the budget is spent."""

    def at(shift: float) -> list[float]:
        return [min(environment.most, max(0.0, r + (0 if i == fixed else shift))) for i, r in enumerate(ratios)]

    low, high = -environment.most, environment.most
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (low, middle) if environment.knobs.cost(at(middle)) <= environment.budget / environment.factor else (middle, high)
    return at(high)


def ddpg(environment: Environment, evaluations: int, seed: int, progress: Callable[[int], None]) -> None:
    """Deep deterministic policy gradients of stable-baselines3, an episode for each evaluation, with decaying noise (AMC, 1802.03494)."""
    try:
        import gymnasium
        from stable_baselines3 import DDPG
        from stable_baselines3.common.noise import NormalActionNoise
    except ImportError as error:
        raise TersorError(f"agent=ddpg needs stable-baselines3 ({error}): pip install tersor[search], or use agent=greedy or agent=random") from None
    import torch

    size = len(environment.state([]))
    noise = NormalActionNoise(np.zeros(1), np.full(1, NOISE))

    class Walk(gymnasium.Env):  # type: ignore[misc]
        """An episode is a walk through the layers; its reward comes at the end."""

        def __init__(self) -> None:
            self.observation_space = gymnasium.spaces.Box(-10.0, 10.0, (size,), np.float32)
            self.action_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
            self.before: list[float] = []
            self.done = 0
            self.mean = 0.0

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            self.before = []
            return environment.state(self.before), {}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            self.before.append(round(environment.limited(self.before, float(action[0]) * environment.most), 4))
            end = len(self.before) == environment.size
            reward = self.finish(environment.evaluate(tuple(self.before))) if end else 0.0
            return environment.state(self.before), reward, end, False, {}

        def finish(self, trial: Trial) -> float:
            """The reward minus its moving mean, so that few episodes are enough to learn from."""
            worth = environment.worth(trial)
            self.mean = worth if not self.done else 0.95 * self.mean + 0.05 * worth
            self.done += 1
            noise._sigma = np.full(1, NOISE * DECAY**self.done)
            progress(self.done)
            return worth - self.mean

    with torch.random.fork_rng(), torch.enable_grad():
        agent = DDPG(
            "MlpPolicy", Walk(), seed=seed, gamma=1.0, batch_size=64, learning_starts=2 * environment.size, action_noise=noise,
            policy_kwargs={"net_arch": [300, 300]}, device="cpu",
        )  # fmt: skip
        agent.learn(evaluations * environment.size)


AGENTS: dict[str, Agent] = {"ddpg": ddpg, "random": random, "greedy": greedy}
