"""Generate docs/performance.md from the results of latency.py, costs.py, precision.py, tuning.py and kernels.py.

python -m tersor.bench.performance [--results bench/results] [--out docs/performance.md]
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from . import costs_report, kernels_report, latency_report, precision_report, tuning_report

ROOT = Path(__file__).parents[1]
#: Least share of its network's time for a kernel on the page; all are in kernels.md.
SHARE = 0.05
SOURCES = ("latency", "other_geometry", "costs", "precision", "tuning", "kernels")
#: The same of another processor, from files of this suffix.
OTHER, OTHERS = "_znver5", ("latency", "other_geometry", "precision", "tuning", "kernels")

INTRODUCTION = """\
# Performance

This page is generated from the JSON files in `bench/results` and holds no figure of its own: `make bench` measures, writes them and this page.
Figures of another machine say little about yours; [measure on your own](#on-your-own-machine).

## Networks beside other engines

Seven networks with random weights. A comparison that is lost stays in the table, and an engine that does not run is named with its reason.
"""

OTHER_GEOMETRY = """\
## Other geometry

Batches of four, and networks with other convolutions than the seven have: grouped (regnet_y_400mf), depthwise 5x5 (mobilenet_v3_large,
efficientnet_b0) and 7x7 (convnext_tiny), 1x7 and 7x1 (inception_v3), transposed (unet), dilated (dilated_resnet18), odd channel counts
(odd_resnet18), and a batch norm before each convolution (densenet121). ncnn takes no batch: its time is that of its images one after another.
"""

COSTS = """\
## Compile time, first result, memory

Nothing but the saved model is needed to run it: neither torch nor the compiler is imported. Winograd's transformed weights are in its file and in
memory; `compile(winograd=0)` does without.
"""

PRECISION = """\
## Precision

Trained networks, and networks with random weights, on real images. `compile(winograd=...)` is the setting; where no 3x3 convolution is of a kind
that Winograd takes, it changes nothing. The figures of every image are in [precision.json]({results}/precision.json).
"""

TUNING = """\
## With and without the tuned database

What the cost model's choices lose against those of the [database](tuning.md) that ships for this processor, `compile(tuned=False)` against
`compile()`.
"""

KERNELS = """\
## Kernels against the machine

Layers by themselves, each as one compiled module without the layout changes at its borders, and then the kernels with the largest shares of each
network; all of them are in [kernels.md]({results}/kernels.md).
"""

ANOTHER = """\
## Another processor

A Zen 5 machine, which has vectors of the same length and more than twice the multiply-adds a second; the commits say which code ran.
"""

OWN_MACHINE = """\
## On your own machine

```
make peers    # the other engines, and the converter of LiteRT in an environment of its own
make bench    # latency of the seven networks and of others, precision, all kernels, this page
```

On an idle machine that takes about an hour. Parts of it, in an environment with `pip install -c constraints.txt -e .[bench]`:

```
python -m tersor.bench.latency --networks resnet18 --engines onnxruntime openvino --threads 1 --rounds 7
python -m tersor.bench.latency --networks densenet121 unet --batch 4 --name more
python -m tersor.bench.kernels --groups depthwise pointwise --networks
```

How each engine is run is in `bench/peers.py`. Two things matter on a shared machine: other processes, which the interleaved rounds cannot hide
altogether, and the frequency, which the FMA peak of the same run shows. One kernel alone:

```python
import torch

import tersor

layer = torch.nn.Sequential(torch.nn.Conv2d(64, 64, 3, padding=1), torch.nn.ReLU()).eval()
exe = tersor.compile(tersor.trace(layer, (torch.randn(1, 64, 28, 28),)))
print(exe.profile(rounds=20))  # caches as the kernels before leave them
print(exe.profile(rounds=5, cold=True))  # emptied before each kernel
```
"""


def page(results: Path, out: Path) -> str:
    """The text of the page at `out`, from the JSON files in `results`: SOURCES, and OTHERS of the other processor."""
    report: dict[str, Any] = {name: json.loads((results / f"{name}.json").read_text()) for name in (*SOURCES, *(n + OTHER for n in OTHERS))}
    link = Path(os.path.relpath(results.resolve(), out.resolve().parent)).as_posix()

    def compared(name: str, level: str, picture: bool = False) -> list[str]:
        """Tables of engines beside each other."""
        shown = ["", f"![Time of each engine as a multiple of the best peer's]({link}/{name}.png)"] if picture else []
        return [*latency_report.about(report[name]), *latency_report.tables(report[name], level), *shown, ""]

    def goals(name: str, level: str) -> list[str]:
        """Kernels that missed their goals, and whole networks beside their multiply-adds."""
        missed = kernels_report.missed_goals(report[name], level)
        return [*kernels_report.about(report[name]), *missed, "", f"{level} Whole runs", "", *kernels_report.whole_runs(report[name]), ""]

    lines = [
        INTRODUCTION,
        *compared("latency", "###", picture=True),
        OTHER_GEOMETRY,
        *compared("other_geometry", "###", picture=True),
        COSTS,
        *costs_report.tables(report["costs"]),
        "",
        PRECISION.format(results=link),
        *precision_report.tables(report["precision"]),
        "",
        TUNING,
        *tuning_report.tables(report["tuning"]),
        "",
        KERNELS.format(results=link),
        *goals("kernels", "###"),
        f"![Kernels under the roofline]({link}/kernels.png)",
        *kernels_report.layer_tables(report["kernels"], level="###"),
        *kernels_report.network_tables(report["kernels"], level="###", share=SHARE),
        "",
        ANOTHER,
        "### The seven networks",
        "",
        *compared("latency" + OTHER, "####"),
        "### Networks of other geometry",
        "",
        *compared("other_geometry" + OTHER, "####"),
        "### Precision there",
        "",
        *precision_report.tables(report["precision" + OTHER]),
        "",
        "### With and without its tuned database",
        "",
        *tuning_report.tables(report["tuning" + OTHER]),
        "",
        f"### Its kernels\n\nEvery layer is in [kernels{OTHER}.md]({link}/kernels{OTHER}.md).\n",
        *goals("kernels" + OTHER, "####"),
        OWN_MACHINE,
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "bench/results")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/performance.md")
    args = parser.parse_args()
    args.out.write_text(page(args.results, args.out))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
