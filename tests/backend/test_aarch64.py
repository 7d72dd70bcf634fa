"""Kernels built for aarch64 run under qemu and agree with this machine's: nothing in them assumes the host."""

from __future__ import annotations

import copy
import os
import warnings
from pathlib import Path
from typing import Any

import integer_zoo
import numpy as np
import odd_attention  # noqa: F401  registers its modules
import odd_edges  # noqa: F401
import odd_norms  # noqa: F401
import odd_resizes  # noqa: F401
import odd_results  # noqa: F401
import odd_wiring  # noqa: F401
import pytest
import torch
import zoo
from aarch64_run import TARGET, emulated, needs_gcc, needs_qemu
from bits_networks import METHODS, images, simulated, trained
from end_to_end import compare, eager
from odd import ODD
from torch import nn

import tersor
from tersor import TersorError
from tersor.backend.kernels.cpu import pool
from tersor.ir.evaluate import structured

foreign = pytest.mark.skipif(os.uname().machine == "aarch64", reason="this machine is an aarch64 one")


class Small(nn.Module):
    """Convolutions (first layer, depthwise, pointwise, grouped, strided), pools, activations, concat, dense."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 18, 3, stride=2, padding=1), nn.BatchNorm2d(18), nn.ReLU6())
        self.depthwise = nn.Sequential(nn.Conv2d(18, 18, 3, padding=1, groups=18), nn.Hardswish())
        self.pointwise = nn.Sequential(nn.Conv2d(18, 24, 1), nn.SiLU())
        self.grouped = nn.Conv2d(24, 24, (1, 5), padding=(0, 2), groups=3)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.dense = nn.Linear(42, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.pointwise(self.depthwise(x))
        y = torch.sigmoid(self.grouped(y) + y)
        z = self.pool(torch.cat([x, y], 1))
        return torch.softmax(self.dense(torch.tanh(z.mean((2, 3)))), 1)


def model() -> tuple[nn.Module, np.ndarray]:
    torch.manual_seed(0)
    return Small().eval(), np.random.default_rng(0).standard_normal((2, 3, 21, 26)).astype(np.float32)


@needs_gcc
@needs_qemu
@pytest.mark.parametrize("threads", [1, 2])
def test_a_network_runs_under_qemu(tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # with one thread, the pooling is as those of maps beyond L2 are
    monkeypatch.setattr(pool, "beyond_l2", lambda g, target: threads == 1)
    net, x = model()
    graph = tersor.trace(net, (torch.from_numpy(x),))
    (result,), steps = emulated(tmp_path, graph, [x], threads)
    assert {"conv2d", "max_pool2d", "linear"} <= {part for s in steps for part in s.op.split("+")}

    with torch.no_grad():
        oracle = net.double()(torch.from_numpy(x).double()).numpy()
    assert np.abs(result - oracle).max() <= 1e-5 * np.abs(oracle).max()
    own = tersor.compile(graph, batch=2)(x)
    assert np.abs(result - own).max() <= 1e-5 * np.abs(own).max()


#: A processor for each arithmetic on bytes that ARM has.
ARITHMETICS = {"smlal": TARGET, "sdot": "arm64:neoverse-n1", "usdot": "arm64:neoverse-v1"}


@needs_gcc
@needs_qemu
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_an_integer_network_runs_under_qemu(arithmetic: str, tmp_path: Path) -> None:
    """On two threads, to the bits of the interpreter; depthwise, pointwise, strided and grouped convolutions, tables and pools."""
    net, x = model()
    layers: Any = net
    graph = tersor.trace(nn.Sequential(layers.stem, layers.pool, layers.depthwise, layers.pointwise, layers.grouped).eval(), (torch.from_numpy(x),))
    graph = tersor.transform(graph, "int8", calibration=[x])
    expected = graph(x)
    (result,), steps = emulated(tmp_path, graph, [x], 2, ARITHMETICS[arithmetic])
    assert {"integer_gemm", "integer_depthwise", "integer_pool"} <= {s.template for s in steps}
    assert {s.params["arithmetic"] for s in steps if "arithmetic" in s.params} == {arithmetic}
    np.testing.assert_array_equal(result, expected)


#: Each network on one thread and on two, one image and three, and on one of the processors.
ZOO = [(name, 1 + i % 2, (1, 3)[i // 2 % 2], list(ARITHMETICS.values())[i % 3]) for i, name in enumerate(integer_zoo.NETWORKS)]


@needs_gcc
@needs_qemu
@pytest.mark.slow
@pytest.mark.parametrize(("name", "threads", "batch", "target"), ZOO)
def test_integer_networks_of_the_zoo_run_under_qemu(name: str, threads: int, batch: int, target: str, tmp_path: Path) -> None:
    """To the bits of numpy loops that know nothing of operators."""
    x, expected = (part[:batch].copy() for part in integer_zoo.expected(name))
    (result,), _ = emulated(tmp_path, integer_zoo.integer(name).at(batch), [x], threads, target)
    np.testing.assert_array_equal(result, expected)


#: Networks in f32, each on one of the processors and on one thread or two.
F32 = [(name, 1 + i % 2, list(ARITHMETICS.values())[i % 3]) for i, name in enumerate([*zoo.ZOO, *ODD])]


@needs_gcc
@needs_qemu
@pytest.mark.slow
@pytest.mark.parametrize(("name", "threads", "target"), F32)
def test_networks_run_under_qemu(name: str, threads: int, target: str, tmp_path: Path) -> None:
    """The reduced networks and the odd modules, against eager torch in float64."""
    module, inputs = zoo.built(name) if name in zoo.ZOO else ODD[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a batch that cannot change
        graph = tersor.trace(module, inputs)
    graph = graph.at(1) if graph.batched else graph
    outputs, _ = emulated(tmp_path, graph, [x.contiguous().numpy() for x in inputs], threads, target)
    result = structured(graph.structure, [torch.from_numpy(y) for y in outputs])
    compare(result, eager(copy.deepcopy(module).double(), inputs), 1e-4)


@needs_gcc
@needs_qemu
def test_a_sparse_kernel_runs_under_qemu(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(48, 64, 1), nn.ReLU(), nn.Conv2d(64, 30, 1), nn.SiLU()).eval()
    x = np.random.default_rng(0).standard_normal((2, 48, 13, 11)).astype(np.float32)
    graph = tersor.transform(tersor.trace(net, (torch.from_numpy(x),)), "sparsify{sparsity=0.96}")
    expected = graph(x)
    (result,), steps = emulated(tmp_path, graph, [x])
    assert [s.template for s in steps if s.macs] == ["sparse_pointwise"] * 2
    np.testing.assert_allclose(result, expected, atol=1e-5)


@needs_gcc
@needs_qemu
@pytest.mark.parametrize(
    ("method", "threads"),
    [("w1a2", 2), *(pytest.param(m, n, marks=pytest.mark.slow) for m in METHODS for n in (1, 2) if (m, n) != ("w1a2", 2))],
)
def test_networks_of_few_bits_run_under_qemu(method: str, threads: int, tmp_path: Path) -> None:
    """Against the trained simulation in float64."""
    simulation, x = trained(method), images()[0][:2]
    wanted = simulated(simulation, x)
    graph = tersor.transform(simulation, "to-bits").at(2)
    (result,), steps = emulated(tmp_path, graph, [x.numpy()], threads)
    assert {s.template for s in steps} & {"popcount_conv", "lookup_conv", "bit_weight_conv", "integer_gemm"}
    assert np.abs(result - wanted).max() <= 1e-6 * np.abs(wanted).max()


@foreign
def test_a_model_for_another_architecture_says_so() -> None:
    exe = tersor.compile(tersor.trace(nn.Conv2d(3, 8, 3).eval(), (torch.zeros(1, 3, 8, 8),)), target=TARGET)
    with pytest.raises(TersorError, match=r"main was compiled for arm64:cortex-a72 \(aarch64\), this machine is .*: run it there"):
        exe(np.zeros((1, 3, 8, 8), np.float32))


@foreign
@needs_gcc
def test_saving_for_another_architecture(tmp_path: Path) -> None:
    exe = tersor.compile(tersor.trace(nn.Conv2d(3, 8, 3).eval(), (torch.zeros(1, 3, 8, 8),)), target=TARGET)
    exe.save(tmp_path / "arm.tso")
    with pytest.raises(TersorError, match=r"arm\.tso was compiled for arm64:cortex-a72 \(aarch64\), this machine is"):
        tersor.load_compiled(tmp_path / "arm.tso")


@foreign
def test_no_cross_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exe = tersor.compile(tersor.trace(nn.Conv2d(3, 8, 3).eval(), (torch.zeros(1, 3, 8, 8),)), target=TARGET)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TersorError, match=r"there is none \(aarch64-linux-gnu-gcc\): apt-get install gcc-aarch64-linux-gnu"):
        exe.save(tmp_path / "arm.tso")
