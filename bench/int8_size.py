"""Size of an int8 network's `.tersor` file beside the same in f32.

python -m tersor.bench.int8_size [--networks lite0 mobilenetv2] [--out bench/results]

The networks are trained (`make demo`) and calibrated on noise: sizes do not depend on the values of the integers.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import tersor

from .latency import RESULTS
from .quantization import NETWORKS
from .results_file import write_results


@dataclass(frozen=True)
class Size:
    """Bytes of the files. The f32 network has its norms folded."""

    network: str
    f32: int
    int8: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measured(name) for name in args.networks]
    write_results(args.out / "int8_size.json", [asdict(r) for r in rows])
    (args.out / "int8_size.md").write_text(markdown(rows))
    print(markdown(rows), end="")


def measured(name: str) -> Size:
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    graph = tersor.transform(tersor.trace(NETWORKS[name][0](), (x,)), "default")
    small = tersor.transform(graph, "equalize,quantize{range=minmax},to-integer,canonicalize", calibration=[x])
    return Size(name, stored(graph), stored(small))


def stored(graph: tersor.Graph) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tersor"
        graph.save(path)
        return path.stat().st_size


def markdown(rows: Sequence[Size]) -> str:
    lines = ["| network | f32 | int8 | int8 / f32 |", "|---|--:|--:|--:|"]
    lines += [f"| {r.network} | {r.f32 / 1e6:.2f} MB | {r.int8 / 1e6:.2f} MB | {r.int8 / r.f32:.2%} |" for r in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
