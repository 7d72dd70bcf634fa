"""The direct convolution from a widened, padded copy against the loops of `integer_oracle`, bit for bit."""

from __future__ import annotations

from typing import Any

import integer_oracle as oracle
import numpy as np
import pytest
from backend_run import ALL_TARGETS, Compiled

from tersor.backend.kernels.template import template_named
from tersor.backend.lowering import select_kernels as schedule_module
from tersor.backend.tile.integer import IntConv2d
from tersor.ir.graph import Graph
from tersor.ir.op import Const
from tersor.ir.types import NUMPY, Tensor

#: (channels, outputs, kernel, stride, padding, dilation, height, width, images): pixels of 1 to 4 channels, whose kernel rows are odd and even runs;
#: kernels of one row or column, which skip others; a last block that is not full; windows that reach over both sides.
CASES: list[Any] = [
    (3, 20, (7, 7), (2, 2), (3, 3, 3, 3), (1, 1), 13, 34, 2),
    (37, 33, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 9, 11, 1),
    (16, 64, (1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 7, 7, 2),
    (17, 20, (1, 3), (3, 2), (2, 1, 1, 3), (1, 2), 8, 9, 2),
    (3, 20, (3, 1), (2, 3), (2, 1, 2, 5), (2, 1), 8, 9, 2),
    (20, 16, (3, 4), (2, 1), (2, 0, 1, 3), (2, 2), 8, 17, 1),
    (1, 5, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 6, 5, 1),
    (4, 5, (3, 3), (1, 1), (4, 4, 4, 4), (2, 2), 4, 3, 1),
    (2, 48, (2, 5), (1, 3), (1, 1, 4, 0), (1, 1), 9, 14, 1),
]


def force(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Let the schedule choose the template, with chunks of so many rows at most."""
    original = schedule_module.choose

    def choose(fusion: Any, target: Any, threads: int, *args: Any, **options: Any) -> Any:
        if not isinstance(fusion.anchor, IntConv2d):
            return original(fusion, target, threads, *args, **options)
        template = template_named("integer_padded", fusion.anchor)
        if not template.accepts(fusion, target):  # one channel: pmaddubsw has no pair that could saturate
            assert fusion.anchor.x.type.layout.channels == 1
            return original(fusion, target, threads, *args, **options)
        params = template.candidates(fusion, target, threads)[0]
        return schedule_module.Choice("integer_padded", {**params, "chunk": min(chunk, params["chunk"])}, "model")

    monkeypatch.setattr(schedule_module, "choose", choose)


@pytest.mark.parametrize(
    ("target", "threads", "elem", "chunk"),
    [
        (ALL_TARGETS[1], 2, "u8", 2),
        (ALL_TARGETS[0], 1, "i8", 99),
        pytest.param(ALL_TARGETS[1], 1, "u8", 99, marks=pytest.mark.slow),
        pytest.param(ALL_TARGETS[2], 1, "i8", 3, marks=pytest.mark.slow),
    ],
)
def test_kernels(target: str, threads: int, elem: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Extreme weights and activations, any zero point."""
    force(monkeypatch, chunk)
    rng, graph, arrays, outputs, expected = np.random.default_rng(chunk), Graph(), [], [], []
    limits = np.iinfo(NUMPY[elem])
    for c, o, kernel, stride, padding, dilation, h, w, n in CASES:
        x = rng.choice([limits.min, limits.max, int(rng.integers(limits.min, limits.max))], (n, c, h, w)).astype(NUMPY[elem])
        # two weights of 127 in a pair: pmaddubsw would saturate
        weights = rng.choice([-128, 127, 127, 5], (o, c, *kernel)).astype(np.int8)
        weights[0, :2] = 127
        b, zero = rng.integers(-(2**20), 2**20, o), int(rng.integers(limits.min, limits.max + 1))
        arrays.append(x)
        source = graph.add_input(Tensor(x.shape, elem), f"x{len(arrays)}")
        geometry = {"stride": stride, "padding": padding, "dilation": dilation}
        conv = IntConv2d(source, Const(weights), Const(b.astype(np.int32)), **geometry, zero=Const(np.array(zero, NUMPY[elem])))
        outputs.append(graph.add(conv))
        expected.append(oracle.conv(x.astype(np.int64), zero, weights.astype(np.int64), b, stride, padding, dilation, 1))
    graph.set_outputs(outputs)
    for got, wanted, case in zip(Compiled(graph, target, threads)(*arrays), expected, CASES, strict=True):
        np.testing.assert_array_equal(got, wanted, err_msg=str(case))
