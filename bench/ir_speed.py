"""Speed of the graph: print, parse, verify and fold the batch norms of 2,000 ops, and of one whose types carry 37,000 scales.

python -m tersor.bench.ir_speed [--json PATH]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tersor.bench.results_file import write_results
from tersor.ir.graph import Graph
from tersor.ir.op import Const, Loc, Op, Value
from tersor.ir.ops import Add, BatchNorm, Conv2d, Relu
from tersor.ir.parse import parse_graph
from tersor.ir.text import format_graph, format_with_weights
from tersor.ir.types import Tensor, Uniform
from tersor.ir.verify import verify
from tersor.passes.folding.fold_bn import fold_batch_norms

#: Goals in milliseconds.
LIMITS = {
    ("2,000 ops", "print"): 50,
    ("2,000 ops", "parse"): 150,
    ("2,000 ops", "verify"): 20,
    ("2,000 ops", "fold-bn"): 100,
    ("37,000 scales", "parse"): 500,
}


class Dequantize(Op, name="bench.dequantize"):
    """Reads a quantized constant, as the integer operators do."""

    x: Value

    def infer(self) -> Tensor:
        return Tensor(self.x.shape)


def residual_blocks(ops: int) -> Graph:
    """conv + batch_norm + relu + add with their constants, 10 ops a block, each with names and a location."""
    graph = Graph()
    x = graph.add_input(Tensor((1, 16, 14, 14)), "x", batched=True)
    rng = np.random.default_rng(0)
    for i in range(ops // 10):

        def const(name: str, *shape: int, i: int = i) -> Const:
            op = Const(rng.random(shape, np.float32), loc=Loc(f"layer{i // 4}.{i % 4}", "model.py", 10 + i))
            op.out.name = f"layer{i // 4}.{i % 4}.{name}"
            return op

        loc = Loc(f"layer{i // 4}.{i % 4}", "model.py", 10 + i)
        conv = Conv2d(x, const("conv.weight", 16, 16, 3, 3), const("conv.bias", 16), padding=(1, 1, 1, 1), loc=loc)
        norm = BatchNorm(conv, *(const(f"bn.{p}", 16) for p in ("weight", "bias", "running_mean", "running_var")), loc=loc)
        x = graph.add(Add(Relu(norm, loc=loc), x, loc=loc))
    graph.set_outputs([x])
    return graph


def per_channel(scales: int) -> Graph:
    """int8 weights with one scale per output channel, each read by an op: every type stands in the text twice or more."""
    graph = Graph()
    graph.add_input(Tensor((1,)), "x")
    rng = np.random.default_rng(0)
    outputs = []
    for i, start in enumerate(range(0, scales, 1000)):
        channels = min(1000, scales - start)
        elem = Uniform("i8", tuple(rng.random(channels).tolist()), (0,) * channels, 0, qmin=-127)
        weight = Const(rng.integers(-127, 128, (channels, 8), np.int8), elem)
        weight.out.name = f"layer{i}.weight"
        outputs.append(graph.add(Dequantize(weight)))
    graph.set_outputs(outputs)
    return graph


def milliseconds(run: Callable[[Any], Any], prepare: Callable[[], Any], repeat: int = 7) -> tuple[float, float]:
    """Median wall time and median CPU time of a run on what `prepare` makes, which is not timed.

    They differ when other processes use the cores; then only the CPU time is meaningful."""
    wall, cpu = [], []
    for _ in range(repeat):
        given = prepare()
        start, busy = time.perf_counter(), time.process_time()
        run(given)
        wall.append((time.perf_counter() - start) * 1e3)
        cpu.append((time.process_time() - busy) * 1e3)
    return statistics.median(wall), statistics.median(cpu)


def _parse(text: str, arrays: dict[str, np.ndarray], graph: Graph) -> Graph:
    return parse_graph(text, arrays)


def _same(graph: Graph) -> Graph:
    return graph


def measure() -> list[dict[str, Any]]:
    rows = []
    for title, graph in (("2,000 ops", residual_blocks(2000)), ("37,000 scales", per_channel(37_000))):
        text, constants = format_with_weights(graph)
        arrays = {key: op.array for key, op in constants.items()}
        verify(graph)
        runs: dict[str, Callable[[Graph], Any]] = {"print": format_graph, "parse": partial(_parse, text, arrays), "verify": verify}
        if graph.find(BatchNorm):
            runs["fold-bn"] = fold_batch_norms
        for what, run in runs.items():
            wall, cpu = milliseconds(run, graph.clone if what == "fold-bn" else partial(_same, graph))
            rows.append(
                {
                    "graph": title,
                    "step": what,
                    "ops": len(graph),
                    "kbytes": len(text) / 1e3,
                    "wall_ms": wall,
                    "cpu_ms": cpu,
                    "limit_ms": LIMITS.get((title, what)),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    args = parser.parse_args()
    rows = measure()
    print(f"{'graph':<14} {'step':<7} {'ops':>5} {'kB':>7} {'wall ms':>8} {'CPU ms':>7} {'limit ms':>9}")
    for r in rows:
        limit = r["limit_ms"] or "-"
        print(f"{r['graph']:<14} {r['step']:<7} {r['ops']:>5} {r['kbytes']:>7.0f} {r['wall_ms']:>8.1f} {r['cpu_ms']:>7.1f} {limit:>9}")
    if args.json:
        write_results(args.json, rows)


if __name__ == "__main__":
    main()
