"""What the range check of indices costs: kernels that read rows by indices that are data, with the check and without, interleaved.

python -m tersor.bench.index_checks [--rounds 15] [--calls 400] [--out bench/results]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn
from tvm import tirx as t

import tersor

from ..backend.codegen.builder import Buffer, Expr
from ..backend.codegen.kernel_builder import KernelBuilder
from .engines import Ratio, machine
from .latency import RESULTS
from .results_file import write_results


class Columns(nn.Module):
    """x[:, i]"""

    def forward(self, x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        return x[:, i]


CASES: dict[str, Callable[[], tuple[nn.Module, tuple[torch.Tensor, ...]]]] = {
    "embedding, 512 rows of 16": lambda: (nn.Embedding(10000, 16), (torch.randint(0, 10000, (1, 512)),)),
    "embedding, 512 rows of 256": lambda: (nn.Embedding(10000, 256), (torch.randint(0, 10000, (1, 512)),)),
    "x[:, i], 64 maps of 28x28": lambda: (Columns(), (torch.randn(1, 256, 28, 28), torch.randint(0, 256, (64,)))),
}


@dataclass(frozen=True)
class Row:
    """us: medians of the rounds. ratio: with the check / without, of each round."""

    case: str
    checked_us: float
    unchecked_us: float
    ratio: Ratio


def unchecked(self: KernelBuilder, table: Buffer, at: Expr, size: int, record: bool = True) -> Expr:
    return self.b.let("index", t.Cast("int32", self.b.load(table, at)))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    rows = [measured(name, args.rounds, args.calls) for name in CASES]
    write_results(args.out / "index_checks.json", {"machine": machine(), "rounds": args.rounds, "rows": [asdict(r) for r in rows]})
    lines = ["| indices | with the check, us | without | with / without |", "|---|--:|--:|--:|"]
    lines += [f"| {r.case} | {r.checked_us:.1f} | {r.unchecked_us:.1f} | {r.ratio} |" for r in rows]
    (args.out / "index_checks.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def measured(name: str, rounds: int, calls: int) -> Row:
    torch.manual_seed(0)
    module, inputs = CASES[name]()
    graph = tersor.trace(module.eval(), inputs, batch=False)
    models = [tersor.compile(graph)]
    with mock.patch.object(KernelBuilder, "place", unchecked):
        models.append(tersor.compile(graph))
    arrays = [x.numpy() for x in inputs]
    times: list[list[float]] = [[], []]
    for i in range(rounds):
        for which in ((0, 1), (1, 0))[i % 2]:
            times[which].append(microseconds(models[which], arrays, calls))
    return Row(name, statistics.median(times[0]), statistics.median(times[1]), Ratio.of([a / b for a, b in zip(*times)]))


def microseconds(model: Any, arrays: Sequence[Any], calls: int) -> float:
    model(*arrays)
    start = time.perf_counter()
    for _ in range(calls):
        model(*arrays)
    return 1e6 * (time.perf_counter() - start) / calls


if __name__ == "__main__":
    main()
