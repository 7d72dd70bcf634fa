"""Which kernels fetch the weights of a dense layer behind them, and that they ask for all of those and for nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import tvm
from torch import nn
from tvm import ir, tirx

import tersor
from tersor.backend.codegen.builder import Buffer, Builder, Expr, const, int32
from tersor.backend.codegen.prefetch import LINE, PACE, NextWeights
from tersor.backend.emit.next_weights import next_weights
from tersor.backend.kernels.cpu.dense import ROOM, ROWS
from tersor.backend.pipelines import lower
from tersor.backend.runtime.native import Arguments, address, aligned, function_object
from tersor.backend.target import resolve
from tersor.backend.tile.fusion import Fusion

TARGET = "cpu:znver4"


def head(conv: nn.Module, channels: int, classes: int = 64) -> nn.Sequential:
    return nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class Halves(nn.Module):
    """The last convolution reads one half of a map, and what another makes of the other half."""

    def __init__(self) -> None:
        super().__init__()
        self.whole, self.right, self.last = nn.Conv2d(16, 120, 1), nn.Conv2d(60, 60, 3, padding=1), nn.Conv2d(120, 256, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.whole(x).relu().chunk(2, 1)
        return self.last(torch.cat([left, self.right(right).relu()], 1))


def pairs(module: nn.Module, *shape: int) -> list[tuple[str, str]]:
    """The anchors of the fusions that fetch and of those that they fetch for."""
    graph = lower(tersor.trace(module.eval(), (torch.zeros(shape),)), resolve(TARGET))
    return [(Fusion(a).anchor.name, Fusion(b).anchor.name) for a, b in next_weights(graph, resolve(TARGET)).items()]


def test_the_convolution_before_a_dense_layer_fetches_its_weights() -> None:
    assert pairs(head(nn.Conv2d(64, 64, 1), 64), 1, 64, 7, 7) == [("tile.conv2d", "nn.linear")]
    assert pairs(head(nn.Conv2d(64, 64, 1), 64), ROWS, 64, 7, 7) == [("tile.conv2d", "nn.linear")]


def test_each_kernel_fetches_for_one_layer() -> None:
    two = nn.Sequential(*head(nn.Conv2d(64, 64, 1), 64), nn.ReLU(), nn.Linear(64, 32))
    assert pairs(two, 1, 64, 7, 7) == [("tile.conv2d", "nn.linear")]


@pytest.mark.parametrize(
    "module, shape",
    [
        (head(nn.Conv2d(64, 64, 1), 64), (ROWS + 1, 64, 7, 7)),  # weights that serve many rows
        (head(nn.Conv2d(4, 1024, 1), 1024, ROOM * resolve(TARGET).l2 // 4096 + 1), (1, 4, 7, 7)),  # more than the third-level cache has room for
        (head(nn.Conv2d(64, 64, 3, groups=64), 64), (1, 64, 9, 9)),  # too little to multiply meanwhile
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 64)), (1, 64, 1, 1)),  # nothing before
        (nn.Sequential(nn.Conv2d(64, 64, 1), nn.Upsample(scale_factor=8), *head(nn.ReLU(), 64)), (1, 64, 14, 14)),  # too much between
    ],
)
def test_others_do_not(module: nn.Module, shape: tuple[int, ...]) -> None:
    assert pairs(module, *shape) == []


def mark(b: Builder, buffer: Buffer, index: Expr, write: bool = False, locality: str = "L1") -> None:
    """Write where a kernel would ask for a line of another's weights."""
    if buffer.raw.name == "next_weights":
        assert locality == "L2"
        b.store(buffer, index, const(123.0))


def test_many_threads_ask_for_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five lines, four threads, three lines at a time: the last thread's part begins behind the end."""
    monkeypatch.setattr(Builder, "prefetch", mark)
    b = Builder("kernel", team=4)
    weights = NextWeights(b, b.param("next_weights", "float32", 16 * LINE), 5 * LINE, 1)
    with b.loop("task", 0, 4, "parallel"):
        weights.ask(3 * PACE)
    port, kernel = tirx.decl_buffer((16 * LINE,), "float32", "x"), ir.GlobalVar("kernel")
    calls = [tirx.Evaluate(ir.Call(kernel, [port.data, int32(0), int32(i)], ret_ty=ir.PrimType("int32"))) for i in range(4)]
    main = tirx.PrimFunc([port], tirx.SeqStmt(calls)).with_attr("global_symbol", "main").with_attr("s_tir", True)
    module = tvm.compile(tvm.IRModule({kernel: b.function(), ir.GlobalVar("main"): main}), target=resolve("cpu").tvm(1)).mod
    x = aligned(4 * 16 * LINE).view(np.float32)
    arguments = Arguments([(x.dtype, x.size)], 0)
    arguments.point(0, address(x))
    function_object(module["main"])(arguments)
    assert list(np.flatnonzero(x)) == [0, LINE, 2 * LINE, 3 * LINE, 4 * LINE]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "conv, winograd, least",
    [
        (nn.Conv2d(128, 256, 1), 0, 0.9),
        (nn.Conv2d(64, 256, 3, padding=1), 0, 0.9),
        (nn.Conv2d(256, 256, 3, padding=1), 4, 0.2),  # it multiplies less than it says, and takes less time
        (nn.Sequential(nn.Conv2d(256, 256, 3, padding=1, groups=256), nn.ReLU(), nn.Conv2d(256, 256, 1)), 0, 0.9),
        (Halves(), 0, 0.9),
        (nn.Conv2d(16, 256, 1), 0, 0.05),  # soon done
    ],
)
def test_what_is_asked_for(conv: nn.Module, winograd: int, least: float, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Builder, "prefetch", mark)
    size = next(m for m in conv.modules() if isinstance(m, nn.Conv2d)).in_channels
    module, x = head(conv, 256, 192).eval(), torch.randn(1, size, 14, 14)
    exe = tersor.compile(tersor.trace(module, (x,)), threads=threads, winograd=winograd)
    before = exe._weights.copy()
    exe(x)
    weights = module[-1].weight.detach().numpy()
    first = np.flatnonzero((before.view(np.float32).reshape(-1, 16)[:, :4] == weights[:4, 0]).all(1))[0] * 64
    (changed,) = np.nonzero(before != exe._weights)
    assert ((changed >= first) & (changed < first + weights.nbytes)).all()
    marked = np.flatnonzero(exe._weights[first : first + weights.nbytes].view(np.float32) == 123.0)
    assert not (marked % 16).any()
    assert least <= 16 * len(marked) / weights.size <= 1
