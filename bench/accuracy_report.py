"""The accuracy report: tables and plots of the rows of accuracy.json. A row that failed gives its reason."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]

TITLES = {
    "curve": "prune-channels by method, the same repair and data",
    "blocks": "The same, then blocks fitted whole, without labels (block_epochs=10)",
    "all layers": "The same, layers that lose nothing refitted too (refit_all=true)",
    "same share": "The same share of channels in every layer (per_layer=uniform)",
    "ablation": "Ablation of prune-channels, method=obs",
    "torch-pruning": "Torch-Pruning at the same MACs",
    "scratch": "Trained from scratch at that size",
    "separable": "Depthwise-separable conversion",
    "imagenet": "Pruned, ImageNet-trained",
}
LINES = ("curve", "blocks", "torch-pruning", "scratch", "separable")


@dataclass(frozen=True)
class Group:
    """Rows that differ only in their seed."""

    network: str
    group: str
    label: str
    macs: float | None
    rows: list[Row]

    def mean(self, name: str) -> float | None:
        values = self.values(name)
        return statistics.mean(values) if values else None

    def values(self, name: str) -> list[float]:
        return [r[name] for r in self.rows if name in r]

    @property
    def failures(self) -> list[str]:
        return list(dict.fromkeys(r["failed"] for r in self.rows if "failed" in r))


def grouped(rows: Sequence[Row]) -> list[Group]:
    """In the order of first appearance."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        run = row["run"]
        found.setdefault((run["network"], run["group"], run["label"], run["macs"]), []).append(row)
    return [Group(network, group, label, macs, members) for (network, group, label, macs), members in found.items()]


def markdown(rows: Sequence[Row]) -> str:
    """accuracy.md: for each network its tables, then the failures."""
    groups = grouped(rows)
    lines = [
        "# Accuracy",
        "",
        "No fine-tuning. Each figure is the mean over the seeds, in brackets the lowest and highest; a seed draws the calibration images and what",
        "the method leaves to chance. Points lost are against the original network. Faster: measured, one thread, batch 1, against the original,",
        "in turns, only the first seed.",
    ]
    for network in dict.fromkeys(g.network for g in groups):
        mine = [g for g in groups if g.network == network]
        original = next((g for g in mine if g.group == "original"), None)
        lines += ["", f"## {network}", "", described(original)]
        for group, title in TITLES.items():
            if members := [g for g in mine if g.group == group]:
                lines += ["", f"### {title}", "", *table(members, original)]
    return "\n".join(lines) + "\n"


def described(original: Group | None) -> str:
    """One sentence about the network before anything was done to it."""
    if original is None:
        return "The original was not measured."
    if original.failures:
        return f"The original did not run: {original.failures[0]}"
    row = original.rows[0]
    what = f"top-1 {row['top1']:.2f} %" if "top1" in row else f"compared on {row['crops']} crops"
    time = f", {row['ms']:.3f} ms" if "ms" in row else ""
    return f"Original: {row['macs'] / 1e6:.2f} M MACs, {what}{time}."


def table(groups: Sequence[Group], original: Group | None) -> list[str]:
    """A line per label and share of MACs."""
    base = original.mean("top1") if original is not None else None
    photos = any(g.values("agreement") for g in groups)
    scores = ["agreement, %", "SQNR, dB"] if photos else ["top-1, %", "points lost"]
    lines = [f"| method | MACs asked | MACs left | {' | '.join(scores)} | seeds | faster |", "|---|---|---|---|---|---|---|"]
    for g in sorted(groups, key=lambda g: -(g.macs or 0)):
        asked = "" if g.macs is None else f"{g.macs:.0%}"
        share, faster = g.mean("share"), g.mean("faster")
        if share is None:
            lines.append(f"| {g.label} | {asked} | failed: {g.failures[0]} | | | {len(g.rows)} | |")
            continue
        if photos:
            cells = [spread(g.values("agreement"), 1), spread(g.values("sqnr_db"), 1)]
        else:
            top1 = g.mean("top1")
            cells = [spread(g.values("top1"), 2), "" if base is None or top1 is None else f"{base - top1:.2f}"]
        done = f"{len(g.values('share'))}" + (f", {len(g.rows) - len(g.values('share'))} failed: {g.failures[0]}" if g.failures else "")
        lines.append(f"| {g.label} | {asked} | {share:.1%} | {' | '.join(cells)} | {done} | {'' if faster is None else f'{faster:.2f}x'} |")
    return lines


def spread(values: Sequence[float], digits: int) -> str:
    """mean (lowest to highest)."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def draw(rows: Sequence[Row], out: Path) -> list[Path]:
    """accuracy-NETWORK.png: top-1 against the share of MACs, and against the share of measured time where that is known."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    groups = [g for g in grouped(rows) if g.mean("top1") is not None]
    files = []
    for network in dict.fromkeys(g.network for g in groups):
        mine = [g for g in groups if g.network == network]
        original = next((g for g in mine if g.group == "original"), None)
        axes: list[tuple[str, Callable[[Group], float | None]]] = [("share of MACs left", lambda g: g.mean("share"))]
        if any(g.values("faster") for g in mine):
            axes.append(("share of measured time left", lambda g: 1 / faster if (faster := g.mean("faster")) else None))
        figure, plots = plt.subplots(1, len(axes), figsize=(7 * len(axes), 5), squeeze=False, sharey=True)
        for plot, (title, place) in zip(plots[0], axes):
            labels = dict.fromkeys((g.group, g.label) for g in mine if g.group in LINES)
            for group, label in labels:
                points = [g for g in mine if (g.group, g.label) == (group, label)] + ([original] if original and group != "separable" else [])
                known = sorted(((x, g) for g in points if (x := place(g)) is not None), key=lambda point: point[0])
                if not known:
                    continue
                xs, ys = [x for x, _ in known], [g.mean("top1") or 0.0 for _, g in known]
                low = [y - min(g.values("top1")) for y, (_, g) in zip(ys, known)]
                high = [max(g.values("top1")) - y for y, (_, g) in zip(ys, known)]
                style = {"curve": "-o", "blocks": "-.*", "torch-pruning": "--s", "scratch": ":^", "separable": "D"}[group]
                plot.errorbar(xs, ys, yerr=[low, high], fmt=style, label=label if group == "curve" else f"{group}: {label}", capsize=3, markersize=4)
            plot.set_xlabel(title)
            plot.grid(alpha=0.3)
        plots[0][0].set_ylabel("top-1, %")
        plots[0][0].legend(fontsize=6)
        figure.suptitle(f"{network}, Fashion-MNIST, no fine-tuning")
        figure.tight_layout()
        files.append(out / f"accuracy-{network}.png")
        figure.savefig(files[-1], dpi=110)
        plt.close(figure)
    return files
