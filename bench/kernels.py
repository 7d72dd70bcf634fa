"""Every kernel against the roofline that is measured in the same run: one thread, with warm and with cold caches.

    python -m tersor.bench.kernels [--groups pointwise depthwise ...] [--networks resnet18 ...] [--rounds 30] [--out bench/results]

times the layers of layers.py and every distinct kernel of the seven networks, and writes kernels.json, kernels.md and kernels.png.
`--networks` or `--groups` without a name leaves out all.

A kernel is bound by max(multiply-adds / FMA peak, bytes / bandwidth), where the bandwidth is that of copying as many bytes between two arrays,
also with warm and with cold caches. Multiply-adds are those of the direct convolution, so Winograd passes its bound.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

import tersor
from tersor.backend.measure import Profile
from tersor.backend.schedule import WINOGRAD

from .bandwidth import SIZES, copy_gbs
from .engines import machine
from .kernels_report import draw, markdown
from .layers import LAYERS, Layer
from .models import GMACS, build

#: Places in the source are told from here.
ROOT = Path(__file__).parents[1]
#: Layout changes at the borders of a one-layer module: no part of its kernel.
BORDER = ("pack", "unpack")


def main() -> None:
    groups = list(dict.fromkeys(layer.group for layer in LAYERS))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", nargs="*", default=groups, choices=groups, metavar="NAME", help=", ".join(groups))
    parser.add_argument("--networks", nargs="*", default=list(GMACS), choices=list(GMACS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    layers = [measure_layer(layer, args.rounds) for layer in LAYERS if layer.group in args.groups]
    networks = {name: measure_network(name, args.rounds) for name in args.networks}
    report = finished({"machine": machine(), "rounds": args.rounds, "layers": layers, "networks": networks})
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "kernels.json").write_text(json.dumps(report, indent=1) + "\n")
    text = markdown(report)
    (args.out / "kernels.md").write_text(text)
    draw(report, args.out / "kernels.png")
    print(text)


# -- measuring ---------------------------------------------------------------------------------


def profiles(exe: tersor.CompiledModel, rounds: int) -> tuple[Profile, Profile]:
    """With warm caches, as far as the kernels before leave them warm, and with cold ones."""
    return exe.profile(rounds=rounds), exe.profile(rounds=rounds, cold=True)


def measure_layer(layer: Layer, rounds: int) -> dict[str, Any]:
    """One layer by itself: its kernels together, without the layout changes around them."""
    graph = tersor.trace(layer.module(), (layer.input(),))
    exe = tersor.compile(graph, batch=layer.batch, winograd=WINOGRAD if layer.winograd else 0)
    warm, cold = profiles(exe, rounds)
    chosen = [i for i, r in enumerate(warm.rows) if r.op not in BORDER]
    rows = [warm.rows[i] for i in chosen]
    main = max(rows, key=lambda r: r.time)
    about = {"group": layer.group, "name": layer.name, "goal": [layer.goal.unit, layer.goal.value] if layer.goal else None}
    return about | record(
        main.template,
        main.params,
        main.chosen,
        macs=sum(r.macs for r in rows),
        nbytes=sum(size(r) for r in rows),
        warm=sum(r.time for r in rows),
        cold=sum(cold.rows[i].time for i in chosen),
        peak=max(warm.peak_gflops, cold.peak_gflops),
    )


def measure_network(name: str, rounds: int) -> list[dict[str, Any]]:
    """The distinct kernels of a network in the order of their share; `calls` share one kernel, times are means over them."""
    import torch

    exe = tersor.compile(tersor.trace(build(name), (torch.randn(1, 3, 224, 224),)))
    warm, cold = profiles(exe, rounds)
    calls: dict[str, list[int]] = {}
    for i, row in enumerate(warm.rows):
        calls.setdefault(row.kernel, []).append(i)
    found = []
    for steps in calls.values():
        row = warm.rows[steps[0]]
        times = {state: statistics.mean(p.rows[i].time for i in steps) for state, p in (("warm", warm), ("cold", cold))}
        about = {
            "op": row.op,
            "shape": list(row.shape),
            "loc": row.loc.replace(f"{ROOT}/", ""),
            "calls": len(steps),
            "share": sum(warm.rows[i].share for i in steps),
        }
        peak = max(warm.peak_gflops, cold.peak_gflops)
        found.append(about | record(row.template, row.params, row.chosen, row.macs, size(row), **times, peak=peak))
    return sorted(found, key=lambda r: -float(r["share"]))


def record(template: str, params: dict[str, Any], chosen: str, macs: int, nbytes: float, warm: float, cold: float, peak: float) -> dict[str, Any]:
    """What is known of one kernel; times in ms."""
    return {
        "template": template,
        "params": params,
        "chosen": chosen,
        "macs": macs,
        "bytes": round(nbytes),
        "warm": {"ms": warm, "copy_gbs": copy_gbs(nbytes, cold=False)},
        "cold": {"ms": cold, "copy_gbs": copy_gbs(nbytes, cold=True)},
        "peak_gflops": peak,
    }


def size(row: Any) -> float:
    """Bytes of operands and result: GB/s times ms."""
    return float(row.gbs * row.time * 1e6)


def finished(report: dict[str, Any]) -> dict[str, Any]:
    """With the peak of the run, and each kernel's part of its bound. The peak is the highest seen: nothing but another load makes it lower."""
    records = [*report["layers"], *(k for kernels in report["networks"].values() for k in kernels)]
    peak = max(r.pop("peak_gflops") for r in records)
    direct = {r["name"].partition(", without")[0]: r for r in report["layers"] if ", without" in r["name"]}
    for r in records:
        for s in (r["warm"], r["cold"]):
            bound = max(2 * r["macs"] / peak, r["bytes"] / s["copy_gbs"]) / 1e6
            s |= {"gflops": 2 * r["macs"] / s["ms"] / 1e6, "gbs": r["bytes"] / s["ms"] / 1e6, "of_bound": bound / s["ms"]}
    for r in report["layers"]:
        if r["goal"]:
            unit, least = r["goal"]
            speed = r["warm"]["gflops"]
            gain = direct[r["name"]]["cold"]["ms"] / r["cold"]["ms"] if unit == "direct" else math.nan
            reached = {"peak": speed / peak, "gflops": speed, "direct": gain}[unit]
            r["reached"], r["met"] = reached, reached >= least
    copies = {str(2**k): [copy_gbs(2**k, cold) for cold in (False, True)] for k in range(SIZES[0].bit_length() - 1, SIZES[1].bit_length(), 2)}
    return {"peak_gflops": peak, "copy_gbs": copies} | report


if __name__ == "__main__":
    main()
