"""Small modules that the tests of compiled models run, and their expected results."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import tersor
from tersor.backend.runtime.model import CompiledModel
from tersor.ir.graph import Graph

ROOT = Path(__file__).resolve().parents[2]


class TwoHeads(nn.Module):
    """Convolution, residual add and relu; a dict with a tuple in it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 20, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(20)
        self.body = nn.Conv2d(20, 20, 3, padding=1)
        self.head = nn.Conv2d(20, 7, 1)

    def forward(self, image: torch.Tensor) -> dict[str, Any]:
        x = torch.relu(self.norm(self.stem(image)))
        y = torch.relu(self.body(x) + x)
        return {"features": y, "heads": (self.head(y), [torch.relu(self.head(x))])}


class Sum(nn.Module):
    """Two inputs, one result."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(left) + right)


def seeded(module: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    net = module().eval()
    for name, buffer in net.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            buffer.normal_()
    return net


EXAMPLES: dict[type[nn.Module], tuple[tuple[int, ...], ...]] = {TwoHeads: ((3, 24, 20),), Sum: ((8, 9, 11), (8, 9, 11))}


def inputs_of(module: type[nn.Module], batch: int = 1, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((batch, *shape)).astype(np.float32) for shape in EXAMPLES[module]]


@functools.cache
def traced(module: type[nn.Module]) -> Graph:
    return tersor.trace(seeded(module), tuple(torch.from_numpy(x) for x in inputs_of(module)))


@functools.cache
def compiled(module: type[nn.Module] = TwoHeads, threads: int = 1, batches: tuple[int, ...] = (1, 3)) -> CompiledModel:
    return tersor.compile(traced(module), threads=threads, batch=list(batches))


def flat(result: Any) -> list[np.ndarray]:
    """Leaves of a structure, as numpy."""
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, list | tuple):
        return [leaf for part in result for leaf in flat(part)]
    return [np.asarray(result)]


def expected(module: type[nn.Module], inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The eager module's results in float64."""
    with torch.no_grad():
        return flat(seeded(module).double()(*(torch.from_numpy(x).double() for x in inputs)))


def assert_right(result: Any, module: type[nn.Module], inputs: list[np.ndarray], tolerance: float = 1e-5) -> None:
    wanted = expected(module, inputs)
    got = flat(result)
    assert len(got) == len(wanted)
    for y, y64 in zip(got, wanted):
        assert y.dtype == np.float32
        assert y.shape == y64.shape
        assert np.abs(y - y64).max() <= tolerance * np.abs(y64).max()


def python(code: str, *arguments: str | Path, **environment: str) -> str:
    """Run code in a new Python process; returns its output. The package is found as in this process.

    TVM's workers yield 300,000 times before they sleep or end, each time for milliseconds where all cores are busy.
    """
    env = os.environ | {"TVM_THREAD_POOL_SPIN_COUNT": "1000"} | environment
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=env, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout
