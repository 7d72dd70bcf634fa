"""Seconds to compile the seven networks: with an empty kernel cache, again in the same process, and for another batch.

    python -m tersor.bench.compile_time [--networks resnet50] [--threads 1] [--out bench/results]

Every network is compiled by its own process, whose imports are not counted. Writes compile_time.json and compile_time.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .engines import machine
from .models import GMACS
from .results_file import write_results

CHILD = """
import json, sys, time
import torch, tersor
from tersor.bench.models import build
x = torch.randn(1, 3, 224, 224)
graph = tersor.trace(build(sys.argv[1]), (x,))
# imports of the compiler
tersor.compile(tersor.trace(torch.nn.Conv2d(3, 8, 1), (x,)), threads=int(sys.argv[2]))
seconds = []
for batch in (1, 1, 2):
    start = time.perf_counter()
    exe = tersor.compile(graph, threads=int(sys.argv[2]), batch=batch)
    exe(x.expand(batch, -1, -1, -1).contiguous())
    seconds.append(time.perf_counter() - start)
print(json.dumps(seconds))
"""
COLUMNS = ("first", "again", "another_batch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(GMACS), choices=list(GMACS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    rows = []
    for name in args.networks:
        rows.append({"network": name} | dict(zip(COLUMNS, seconds(name, args.threads))))
        print(rows[-1], flush=True)
    write_results(args.out / "compile_time.json", {"machine": machine(), "cores": os.cpu_count(), "threads": args.threads, "rows": rows})
    (args.out / "compile_time.md").write_text(table(rows) + "\n")


def seconds(name: str, threads: int) -> list[float]:
    """Compile and first call in a new process with an empty cache: the first time, again, and for a batch of 2."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"TERSOR_CACHE": cache}
        done = subprocess.run([sys.executable, "-c", CHILD, name, str(threads)], capture_output=True, text=True, env=environment, check=True)
    result: list[float] = json.loads(done.stdout.splitlines()[-1])
    return result


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = ["| network | first compile, s | again | another batch |", "|---|--:|--:|--:|"]
    lines += [f"| {row['network']} | " + " | ".join(f"{row[c]:.1f}" for c in COLUMNS) + " |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
