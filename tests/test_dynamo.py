"""`torch.compile(backend="tersor")` and `tersor.compile(module, x)`: torch's own results, breaks of the graph, changed weights, what is refused."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tersor
from tersor import dynamo
from tersor.ir.errors import TersorError


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.manual_seed(0)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Two(nn.Module):
    """Two outputs in a dict, and a break of the graph between them."""

    def __init__(self, breaks: bool = False):
        super().__init__()
        self.conv, self.bn, self.breaks = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), breaks
        self.bn.running_mean.uniform_(-1, 1)

    def forward(self, x: torch.Tensor, k: float = 2.0) -> dict[str, Any]:
        y = self.bn(self.conv(x)).relu() * k
        if self.breaks:
            torch._dynamo.graph_break()
        return {"y": y, "more": [y.mean((2, 3)), x.shape[0]]}


def test_results_shapes_and_changed_weights() -> None:
    module = Two().eval()
    fast = torch.compile(module, backend="tersor", dynamic=False)
    with torch.no_grad():
        for batch in (2, 3, 2):
            x = torch.randn(batch, 3, 8, 8)
            for a, b in zip(torch.utils._pytree.tree_leaves(fast(x)), torch.utils._pytree.tree_leaves(module(x))):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
        module.conv.weight.mul_(2)
        torch.testing.assert_close(fast(x)["y"], module(x)["y"], atol=1e-5, rtol=1e-5)


def test_weights_that_changed_without_checks_of_dynamo() -> None:
    module = Two().eval()
    fast = torch.compile(module, backend="tersor", options={"guard_filter_fn": torch.compiler.skip_guard_on_inbuilt_nn_modules_unsafe})
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        fast(x)
        for change in (lambda: module.conv.weight.mul_(2), lambda: setattr(module.conv, "bias", nn.Parameter(torch.ones(4)))):
            change()
            torch.testing.assert_close(fast(x)["y"], module(x)["y"], atol=1e-5, rtol=1e-5)


def test_sizes_that_dynamo_leaves_free_and_a_break() -> None:
    module = Two(breaks=True).eval()
    fast = torch.compile(module, backend="tersor")
    with torch.inference_mode():
        for batch in (2, 3):
            x = torch.randn(batch, 3, 6, 6)
            torch.testing.assert_close(fast(x)["more"][0], module(x)["more"][0], atol=1e-5, rtol=1e-5)
            assert fast(x)["more"][1] == batch


def test_gradients_run_eagerly_with_a_warning() -> None:
    dynamo._warn_of_gradients.cache_clear()
    module = nn.Linear(4, 3)
    fast = torch.compile(module, backend="tersor")
    with pytest.warns(UserWarning, match="no gradients"):
        fast(torch.randn(2, 4)).sum().backward()
    assert module.weight.grad is not None


def test_unknown_operators_are_an_error_or_torchs_fallback() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svdvals(x)

    x = torch.randn(4, 4)
    with pytest.raises(Exception, match=r"svd") as error, torch.no_grad():
        torch.compile(f, backend="tersor")(x)
    assert isinstance(error.value.__cause__ or error.value, TersorError) or "UnsupportedError" in str(error.value)
    torch._dynamo.reset()
    with torch._dynamo.config.patch(suppress_errors=True), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.testing.assert_close(torch.compile(f, backend="tersor")(x), f(x))


def test_options() -> None:
    with pytest.raises(Exception, match="unknown option 'batch'"), torch.no_grad():
        torch.compile(nn.ReLU(), backend="tersor", options={"batch": 3})(torch.ones(2))
    with torch.no_grad():
        fast = torch.compile(
            nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)).eval(), backend="tersor", options={"pipeline": "default", "threads": 1}
        )
        assert fast(torch.ones(1, 2, 3, 3)).shape == (1, 2, 3, 3)


def test_torch_finds_the_backend_without_an_import() -> None:
    """In a process of its own: torch loads the entry point and registers what it finds."""
    code = "from torch._dynamo.backends.registry import lookup_backend; print(lookup_backend('tersor').__module__)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["tersor.dynamo"]


def test_the_entry_point_is_the_backend() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["torch_dynamo_backends"]["tersor"].partition(":")
    assert getattr(importlib.import_module(module), name) is dynamo.backend


def test_compile_takes_a_module() -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU()).eval()
    x = torch.randn(2, 2, 5, 5)
    torch.testing.assert_close(tersor.compile(module, x, threads=1)(x), module(x), atol=1e-5, rtol=1e-5)
    with pytest.raises(TersorError, match="example inputs"):
        tersor.compile(module)
    with pytest.raises(TersorError, match="takes a Graph"):
        tersor.compile("model.onnx")  # type: ignore[arg-type]
