"""The kernel report: tables and the roofline plot of what kernels.py measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .engines import Ratio
from .layers import Goal

Record = dict[str, Any]
SPEED = ("ms", "GFLOP/s", "GB/s", "of bound")
COLD = tuple(f"cold: {column}" for column in SPEED)
LAYER_COLUMNS = ("layer", "kernel", *SPEED, *COLD, "goal", "reached")
KERNEL_COLUMNS = ("kernel", "shape", "calls", "share", *SPEED, *COLD, "times direct", "first at")


def markdown(report: dict[str, Any]) -> str:
    """kernels.md: the machine, all layers, all distinct kernels of the networks."""
    return "\n".join(["# Kernels", "", *about(report), *layer_tables(report), *network_tables(report)]) + "\n"


def about(report: dict[str, Any]) -> list[str]:
    m = report["machine"]
    warm, cold = zip(*report["copy_gbs"].values())
    low, high = report["peak_gflops"]
    return [
        f"{m['processor']}, {' '.join(m['features'])}; {m['date']}, commit {m['commit'] or 'unknown'}.",
        f"One thread, {report['rounds']} runs in passes, medians over the passes.",
        "",
        f"FMA peak of this run {low:.0f} to {high:.0f} GFLOP/s; copies read and write together {min(warm):.0f} to {max(warm):.0f} GB/s "
        f"with warm caches and {min(cold):.0f} to {max(cold):.0f} GB/s with cold ones, by size.",
        "A kernel's bound is max(multiply-adds / peak, bytes / bandwidth of a copy of as many bytes). Multiply-adds are those of the direct",
        "convolution: Winograd does fewer and passes it. Cold: a buffer of twice the last level of cache is read before each call.",
        "Each pass measures the FMA peak beside the kernel, and a layer without Winograd beside the same with it: what was reached is the median of",
        "the passes' ratios, in brackets the lowest and the highest. Times direct: how many times as long the same layers of the network take when",
        "it is compiled without Winograd, in whole runs: weights come from where the rest of the network leaves them, activations are near.",
    ]


def layer_tables(report: dict[str, Any], level: str = "##") -> list[str]:
    """One table per group of layers."""
    lines: list[str] = []
    for group in dict.fromkeys(r["group"] for r in report["layers"]):
        rows = [r for r in report["layers"] if r["group"] == group]
        lines += ["", f"{level} {group}", "", *head(LAYER_COLUMNS, 2)]
        lines += map(layer_line, rows)
    return lines


def missed_goals(report: dict[str, Any], level: str = "##") -> list[str]:
    """How many of the layers reached their goals, and those that did not."""
    meant = [r for r in report["layers"] if r["goal"]]
    missed = [r for r in meant if not r["met"]]
    lines = ["", f"{level} Layers below their goals", "", f"Of {len(meant)} layers {len(meant) - len(missed)} reach what they are meant to."]
    if missed:
        lines += ["", *head(LAYER_COLUMNS, 2)]
        lines += map(layer_line, missed)
    return lines


def whole_runs(report: dict[str, Any]) -> list[str]:
    """Calls of each network beside the limit of direct convolution."""
    lines = [line(("network", "threads", "ms", "times its multiply-adds at the peak", "times as fast as one thread")), "|---|--:|--:|--:|--:|"]
    for name, net in report["networks"].items():
        lines += [line((name, n, f"{ms:.2f}", str(Ratio(*net["of_limit"][n])), str(Ratio(*net["scaling"][n])))) for n, ms in net["ms"].items()]
    return lines


def network_tables(report: dict[str, Any], level: str = "##", share: float = 0.0) -> list[str]:
    """The distinct kernels of each network with at least `share` of its time."""
    lines: list[str] = []
    for name, net in report["networks"].items():
        runs = [
            f"{ms:.2f} ms on {n} thread{'s' if n != '1' else ''}, {Ratio(*net['of_limit'][n])} times its multiply-adds at the peak"
            + (f" and {Ratio(*net['scaling'][n])} times as fast" if n != "1" else "")
            for n, ms in net["ms"].items()
        ]
        whole = f"A call takes {'; '.join(runs)}. Sharing out a small kernel cost {Ratio(*net['shared_us'])} us."
        lines += ["", f"{level} {name}", "", whole, "", *head(KERNEL_COLUMNS, 2)]
        for r in (r for r in net["kernels"] if r["share"] >= share):
            place = [f"{r['op']}: {r['template']}{params(r)}", "x".join(map(str, r["shape"])), str(r["calls"]), f"{r['share']:.1%}"]
            lines.append(line([*place, *speed(r, "warm"), *speed(r, "cold"), str(Ratio(*r["to_direct"])) if r["to_direct"] else "", str(r["loc"])]))
    return lines


def layer_line(r: Record) -> str:
    return line([r["name"], r["template"] + params(r), *speed(r, "warm"), *speed(r, "cold"), *goal(r)])


def head(columns: Sequence[str], left: int) -> list[str]:
    return [line(columns), "|---" * left + "|--:" * (len(columns) - left) + "|"]


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def params(r: Record) -> str:
    return f" {' '.join(f'{k}={v}' for k, v in r['params'].items())}" if r["params"] else ""


def speed(r: Record, state: str) -> list[str]:
    s = r[state]
    return [f"{s['ms']:.3f}", f"{s['gflops']:.0f}" if r["macs"] else "", f"{s['gbs']:.0f}", f"{s['of_bound']:.0%}"]


def goal(r: Record) -> list[str]:
    """The goal of a layer and its result; a missed goal is bold."""
    if not r["goal"]:
        return ["", ""]
    unit, least = r["goal"]
    form = {"peak": "{:.1%}", "gflops": "{:.0f}", "direct": "{:.2f}x"}[unit]
    reached, low, high = (form.format(value) for value in (r["reached"], *r["range"]))
    return [str(Goal(unit, least)), f"{reached if r['met'] else f'**{reached}**'} ({low} to {high})"]


def draw(report: dict[str, Any], path: Path) -> None:
    """GFLOP/s over multiply-adds' intensity, on logarithmic axes, with cold caches and with warm ones; lines: the peak, and copies by size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="constrained")
    records = [r for r in report["layers"] if r["macs"]]
    groups = list(dict.fromkeys(r["group"] for r in records))
    peak = max(report["peak_gflops"])
    for axis, state in zip(figure.subplots(1, 2, sharey=True), ("warm", "cold")):
        for k, group in enumerate(groups):
            rows = [r for r in records if r["group"] == group]
            axis.scatter(
                [2 * r["macs"] / r["bytes"] for r in rows], [r[state]["gflops"] for r in rows], s=24, marker="osD^vP*X"[k % 8], label=group, zorder=3
            )
        speeds = [c[state == "cold"] for c in report["copy_gbs"].values()]
        intensity = [0.3, 1000.0]
        for gbs, style in ((max(speeds), "-"), (min(speeds), "--")):
            knee = peak / gbs
            axis.plot([intensity[0], knee, intensity[1]], [gbs * intensity[0], peak, peak], style, color="black", linewidth=0.9)
            axis.annotate(f"{gbs:.0f} GB/s", (intensity[0], gbs * intensity[0]), fontsize="small", va="bottom")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("FLOP of the direct convolution / byte of operands and result")
        axis.set_title(f"{state} caches; FMA peak {peak:.0f} GFLOP/s", loc="left")
    figure.axes[0].set_ylabel("GFLOP/s")
    figure.axes[0].legend(fontsize="small", loc="lower right")
    figure.savefig(path, dpi=110)
