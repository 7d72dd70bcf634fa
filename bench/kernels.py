"""Every kernel against the roofline measured in the same run: one thread, with warm and with cold caches.

    python -m tersor.bench.kernels [--groups pointwise depthwise ...] [--networks resnet18 ...] [--rounds 30]
                                   [--out bench/results] [--name kernels]

times the layers of layers.py and every distinct kernel of the seven networks, and writes kernels.json, kernels.md and kernels.png; --name gives
them another name.
`--networks` or `--groups` without a name leaves out all.

A kernel is bound by max(multiply-adds / FMA peak, bytes / bandwidth), where the bandwidth is that of copying as many bytes between two arrays,
also with warm and with cold caches. Multiply-adds are those of the direct convolution, so Winograd passes its bound.

The rounds are divided into passes over all layers, and then over all networks, so that a disturbance of a minute on a shared machine affects only one
pass of a kernel. Each pass measures the FMA peak beside the kernel, and a layer with Winograd beside the same without: the clock drifts by a tenth
within minutes, a ratio within a pass does not. The result of a layer is the median of its passes' ratios.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import tersor
from tersor.backend.lowering.select_kernels import WINOGRAD
from tersor.backend.runtime.measure import Profile, Row, peak_gflops

from .bandwidth import SIZES, copy_gbs
from .engines import Ratio, machine
from .kernels_report import draw, markdown
from .layers import LAYERS, Layer
from .models import GMACS, build
from .results_file import write_results

#: Source locations are shown relative to this folder.
ROOT = Path(__file__).parents[1]
#: Layout changes at the borders of a one-layer module, which are not part of its kernel.
BORDER = ("pack", "unpack")
STATES = ("warm", "cold")
#: Suffix of the name of a layer that is compiled without Winograd.
WITHOUT = ", without winograd"
#: Passes that the rounds are divided into.
PASSES = 5
#: ms that whole networks run before they are timed, and while they are: an idle core needs some tens of calls to be fast again.
WARMING, TIMED = 200.0, 200.0
#: Threads that whole networks are timed with; their kernels are timed with one.
THREADS = (1, 2)
#: Kernels of a run, and runs, that measure the cost of dividing a small kernel among threads.
SMALL, CALLS = 16, 500
#: Times of one layer or kernel in a pass, ms with warm and with cold caches, and the FMA peak meanwhile, GFLOP/s.
Pass = dict[str, float]


def main() -> None:
    groups = list(dict.fromkeys(layer.group for layer in LAYERS))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", nargs="*", default=groups, choices=groups, metavar="NAME", help=", ".join(groups))
    parser.add_argument("--networks", nargs="*", default=list(GMACS), choices=list(GMACS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--name", default="kernels", help="of the files that are written, without .json")
    args = parser.parse_args()
    layers = measure_layers(together(args.groups), args.rounds)
    networks = measure_networks(args.networks, args.rounds)
    report = finished({"machine": machine(), "rounds": args.rounds, "layers": layers, "networks": networks})
    args.out.mkdir(parents=True, exist_ok=True)
    write_results(args.out / f"{args.name}.json", report)
    text = markdown(report)
    (args.out / f"{args.name}.md").write_text(text)
    draw(report, args.out / f"{args.name}.png")
    print(text)


# -- measuring ---------------------------------------------------------------------------------


def together(groups: Sequence[str]) -> list[Layer]:
    """The layers of the groups in the order in which they are measured: one with Winograd and the same without side by side."""
    found: dict[tuple[str, str], list[Layer]] = {}
    for layer in LAYERS:
        if layer.group in groups:
            found.setdefault((layer.group, with_winograd(layer.name)), []).append(layer)
    return [layer for beside in found.values() for layer in beside]


def with_winograd(name: str) -> str:
    return name.partition(WITHOUT)[0]


def passes_of(rounds: int) -> list[int]:
    """How many of the rounds each pass has."""
    return [max(rounds // PASSES, 1)] * min(PASSES, rounds)


def profiled(exe: tersor.CompiledModel, rounds: int) -> tuple[Profile, Profile]:
    """With warm caches, as far as the kernels before leave them warm, and with cold ones."""
    return exe.profile(rounds=rounds), exe.profile(rounds=rounds, cold=True)


def measure_layers(layers: Sequence[Layer], rounds: int) -> list[dict[str, Any]]:
    """Each layer by itself: its kernels together, without the layout changes around them."""
    models = [tersor.compile(tersor.trace(x.module(), (x.input(),)), batch=x.batch, winograd=WINOGRAD if x.winograd else 0) for x in layers]
    passes = [[profiled(exe, count) for exe in models] for count in passes_of(rounds)]
    return [layer_record(layer, of_layer) for layer, of_layer in zip(layers, zip(*passes))]


def layer_record(layer: Layer, passes: Sequence[tuple[Profile, Profile]]) -> dict[str, Any]:
    rows = passes[0][0].rows
    steps = [i for i, r in enumerate(rows) if r.op not in BORDER]
    main = max((rows[i] for i in steps), key=lambda r: r.time)
    about = {"group": layer.group, "name": layer.name, "goal": [layer.goal.unit, layer.goal.value] if layer.goal else None}
    return about | record(main, sum(rows[i].macs for i in steps), sum(size(rows[i]) for i in steps), taken(passes, steps))


def measure_networks(names: Sequence[str], rounds: int) -> dict[str, dict[str, Any]]:
    networks = {name: Network(build(name)) for name in names}
    for count in passes_of(rounds):
        for network in networks.values():
            network.measure(count)
    return {name: network.record() for name, network in networks.items()}


class Network:
    """Whole calls, and the distinct kernels of one thread in the order of their share; `calls` share one kernel, times are means over them.

    `to_direct` of a kernel with Winograd: how many times as long the same layers take in the network that is compiled without.
    """

    def __init__(self, module: Any):
        import torch

        graph = tersor.trace(module, (torch.randn(1, 3, 224, 224),))
        self.models, self.small = ([tersor.compile(g, threads=n) for n in THREADS] for g in (graph, small_graph()))
        self.direct = tersor.compile(graph, winograd=0)
        self.passes: list[tuple[Profile, Profile]] = []
        self.without: list[dict[str, float]] = []
        self.shared: list[float] = []
        self.runs: dict[str, list[dict[str, float]]] = {str(n): [] for n in THREADS}

    def measure(self, rounds: int) -> None:
        """One pass."""
        self.passes.append(profiled(self.models[0], rounds))
        self.without.append({r.loc: r.time for r in self.direct.profile(rounds=rounds).rows})
        for exe in self.models:
            self.runs[str(exe.threads)].append({"run": sustained(exe), "peak": peak_gflops(exe)})
        self.shared.append(shared_us(*self.small))

    def record(self) -> dict[str, Any]:
        rows = self.passes[0][0].rows
        calls: dict[str, list[int]] = {}
        for i, row in enumerate(rows):
            calls.setdefault(row.kernel, []).append(i)
        kernels = sorted((self._kernel(rows, steps) for steps in calls.values()), key=lambda r: -float(r["share"]))
        return {"macs": sum(r.macs for r in rows), "runs": self.runs, "shared_us": spread(self.shared), "kernels": kernels}

    def _kernel(self, rows: Sequence[Row], steps: Sequence[int]) -> dict[str, Any]:
        """The kernel that these steps share."""
        row = rows[steps[0]]
        about = {
            "op": row.op,
            "shape": list(row.shape),
            "loc": row.loc.replace(f"{ROOT}/", ""),
            "calls": len(steps),
            "share": statistics.median(sum(warm.rows[i].share for i in steps) for warm, _ in self.passes),
            "to_direct": None,
        }
        if row.template == "winograd":
            pairs = [([times[rows[i].loc] for i in steps], [warm.rows[i].time for i in steps]) for times, (warm, _) in zip(self.without, self.passes)]
            about["to_direct"] = spread([sum(slow) / sum(fast) for slow, fast in pairs])
        means = [{k: p[k] if k == "peak" else p[k] / len(steps) for k in p} for p in taken(self.passes, steps)]
        return about | record(row, row.macs, size(row), means)


def sustained(exe: tersor.CompiledModel) -> float:
    """ms of a call, the median over `TIMED` ms after `WARMING` ms of calls."""
    about = exe.benchmark(repeat=3).median
    return exe.benchmark(repeat=max(3, round(TIMED / about)), warmup=round(WARMING / about)).median


def small_graph() -> tersor.Graph:
    """A map of 256 KB through small kernels, of which each thread reads again what it wrote."""
    import torch

    return tersor.trace(torch.nn.Sequential(*[torch.nn.MaxPool2d(3, 1, 1) for _ in range(SMALL)]), (torch.zeros(1, 64, 32, 32),))


def shared_us(one: tersor.CompiledModel, two: tersor.CompiledModel) -> float:
    """Time of two threads for each kernel of a run beyond half of the time of one, us: it differs several times over between machines, and on
    shared ones by the minute."""
    whole, half = (exe.profile(rounds=CALLS) for exe in (one, two))
    return 1e3 * (half.run - whole.run / 2) / len(half.rows)


def taken(passes: Sequence[tuple[Profile, Profile]], steps: Sequence[int]) -> list[Pass]:
    """The times of the steps, summed, for each pass."""
    return [
        {
            "warm": sum(warm.rows[i].time for i in steps),
            "cold": sum(cold.rows[i].time for i in steps),
            "peak": max(warm.peak_gflops, cold.peak_gflops),
        }
        for warm, cold in passes
    ]


def record(row: Row, macs: int, nbytes: float, passes: list[Pass]) -> dict[str, Any]:
    """The record of one kernel."""
    kernel = {"template": row.template, "params": row.params, "chosen": row.chosen}
    return kernel | {"macs": macs, "bytes": round(nbytes), "passes": passes, "copy_gbs": {s: copy_gbs(nbytes, cold=s == "cold") for s in STATES}}


def size(row: Any) -> float:
    """Bytes of operands and result: GB/s times ms."""
    return float(row.gbs * row.time * 1e6)


def finished(report: dict[str, Any]) -> dict[str, Any]:
    """With medians over the passes, each kernel's part of its bound, and what layers reached: median, lowest and highest of the passes' ratios.

    `of_limit` of a network, by threads: whole runs as multiples of the time that its multiply-adds, those of direct convolutions, take at the
    peak of as many threads at once, measured beside the run. `scaling`: how many times faster the same than one thread.
    """
    records = [*report["layers"], *(k for net in report["networks"].values() for k in net["kernels"])]
    for r in records:
        peak = statistics.median(p["peak"] for p in r["passes"])
        for state in STATES:
            ms = statistics.median(p[state] for p in r["passes"])
            bound = max(2 * r["macs"] / peak, r["bytes"] / r["copy_gbs"][state]) / 1e6
            r[state] = {"ms": ms, "gflops": 2 * r["macs"] / ms / 1e6, "gbs": r["bytes"] / ms / 1e6, "of_bound": bound / ms}
        r["peak_gflops"] = peak
    direct = {with_winograd(r["name"]): r for r in report["layers"] if WITHOUT in r["name"]}
    for r in report["layers"]:
        if r["goal"]:
            unit, least = r["goal"]
            ratios = gains(r, direct[r["name"]]) if unit == "direct" else speeds(unit, r)
            r["reached"], *r["range"] = spread(ratios)
            r["met"] = r["reached"] >= least
    for net in report["networks"].values():
        net["ms"], net["of_limit"], net["scaling"] = {}, {}, {}
        for n, runs in net["runs"].items():
            net["ms"][n] = statistics.median(p["run"] for p in runs)
            net["of_limit"][n] = spread([p["run"] / (2 * net["macs"] / p["peak"] / 1e6) for p in runs])
            net["scaling"][n] = spread([one["run"] / p["run"] for one, p in zip(net["runs"]["1"], runs)])
    peaks = [p["peak"] for r in records for p in r["passes"]]
    copies = {str(2**k): [copy_gbs(2**k, cold) for cold in (False, True)] for k in range(SIZES[0].bit_length() - 1, SIZES[1].bit_length(), 2)}
    return {"peak_gflops": [min(peaks), max(peaks)], "copy_gbs": copies} | report


def spread(values: Sequence[float]) -> list[float]:
    """Median, lowest, highest."""
    return list(astuple(Ratio.of(values)))


def gains(r: dict[str, Any], direct: dict[str, Any]) -> list[float]:
    """How many times faster than the direct kernel a layer was in each pass, with cold caches."""
    return [slow["cold"] / fast["cold"] for slow, fast in zip(direct["passes"], r["passes"])]


def speeds(unit: str, r: dict[str, Any]) -> list[float]:
    """The speed of a layer in each pass: GFLOP/s, or their share of the peak."""
    gflops = [2 * r["macs"] / p["warm"] / 1e6 for p in r["passes"]]
    return gflops if unit == "gflops" else [g / p["peak"] for g, p in zip(gflops, r["passes"])]


if __name__ == "__main__":
    main()
