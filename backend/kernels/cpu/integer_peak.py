"""Peak kernels: for each integer arithmetic one that only multiplies and accumulates, which `profile` compares kernels with.

A register tile of the widest shape over operands that stay in L1: nothing is rounded or stored, and there are no borders.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx as t

from ...codegen.builder import Builder
from ...codegen.peak import peak_of
from ...target import Target
from .arithmetic.integers import arithmetic_named
from .integer_tile import IntegerTile, max_rows

#: Steps of a round, vectors of a tile, and how many rounds read different operands, so that LLVM moves nothing out of the loop.
STEPS, VECTORS, VARIED = 4, 2, 8


def integer_peak(target: Target, name: str) -> tuple[dict[Any, Any], Any]:
    """The functions of the kernel `peak_<arithmetic>(buffer, rounds)`, and its `Peak`."""
    arithmetic = arithmetic_named(name)
    lanes, rows = target.lanes, max_rows(target, VECTORS, arithmetic)
    panel, line = STEPS * VECTORS * lanes * arithmetic.each, STEPS * arithmetic.channels
    b = Builder(f"peak_{arithmetic.name}_kernel")
    sizes = (("x", arithmetic.x_dtype, (rows + VARIED) * line), ("w", arithmetic.dtype, VARIED * panel), ("out", "int32", rows * VECTORS * lanes))
    x, w, out = buffers = [b.param(*size) for size in sizes]
    rounds = t.Var("rounds", "int32")
    b.params.append(rounds)
    tile = IntegerTile(b, arithmetic, rows, VECTORS, lanes)
    tile.start(lambda j, _: b.load(out, j * lanes, lanes))
    with b.loop("round", 0, rounds) as i:
        turn = b.let("turn", t.bitwise_and(i, VARIED - 1))
        tile.steps(x, [(row, b.let("at", (turn + row) * line)) for row in range(rows)], w, turn * panel, STEPS)
    for row in range(rows):
        for j in range(VECTORS):
            b.store(out, (row * VECTORS + j) * lanes, tile.value(row, j), lanes)
    return peak_of(b, f"peak_{arithmetic.name}", buffers, rounds, 2 * rows * VECTORS * lanes * arithmetic.channels * STEPS)
