"""The latency report: tables and a plot of what latency.py measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .engines import Ratio

Record = dict[str, Any]


def markdown(report: dict[str, Any]) -> str:
    """latency.md: the machine, and the tables of each group."""
    return "\n".join(["# Latency", "", *about(report), *tables(report)]) + "\n"


def about(report: dict[str, Any]) -> list[str]:
    """Which machine, which versions, how it was measured."""
    m = report["machine"]
    rounds = sorted({r["rounds"] for r in report["results"]})
    seconds = sorted({r["seconds_per_round"] for r in report["results"]})
    commits = sorted({r["commit"] or "unknown" for r in report["results"]})
    return [
        f"{m['processor']}, {m['cores']} cores, {' '.join(m['features'])}; {m['date']}, commit {', '.join(commits)}; "
        f"{', '.join(f'{p} {v}' for p, v in m['packages'].items())}.",
        "",
        f"float32. Medians of {spoken(rounds)} interleaved rounds of {spoken(seconds)} s per engine, each engine in a process of its own, "
        "all bound to the same cores.",
        "A ratio below 1 means that Tersor is faster: the median over the rounds, in brackets the lowest and the highest.",
        "SQNR = 10 log10(sum y64^2 / sum (y - y64)^2) against the same network in float64 torch.",
    ]


def spoken(values: Sequence[Any]) -> str:
    return " or ".join(map(str, values))


def groups(report: dict[str, Any]) -> Iterator[tuple[str, list[Record]]]:
    """Records of one input shape and thread count, with their title."""
    for shape, threads in sorted({(tuple(r["shape"]), r["threads"]) for r in report["results"]}):
        title = f"{threads} thread{'s' if threads > 1 else ''}, batch {shape[0]}, {shape[2]}x{shape[3]}"
        yield title, [r for r in report["results"] if (tuple(r["shape"]), r["threads"]) == (shape, threads)]


def engines_of(records: Sequence[Record]) -> list[str]:
    """Every engine that was asked for, in order."""
    return list(dict.fromkeys(e for r in records for e in (*r["median_ms"], *r["failures"])))


def geometric_mean(records: Sequence[Record]) -> float | None:
    """Of the ratio to the best peer; None where a network has no ratio."""
    ratios = [r["ratio"][r["best"]]["median"] if r["best"] else None for r in records]
    if not ratios or None in ratios:
        return None
    return math.exp(sum(math.log(q) for q in ratios if q) / len(ratios))


def tables(report: dict[str, Any], level: str = "##") -> list[str]:
    """Lines: per group the times with the ratio to the best peer, then SQNR, then what failed."""
    lines: list[str] = []
    for title, records in groups(report):
        names = engines_of(records)
        columns = ["network", "GMACs", *(f"{e}, ms" for e in names), "best peer", "tersor / best peer"]
        lines += ["", f"{level} {title}", "", *_head(columns)]
        for r in records:
            cells = [r["network"], f"{r['gmacs']:.3f}", *(_ms(r, e) for e in names)]
            lines.append(f"| {' | '.join([*cells, r['best'] or '', _ratio(r)])} |")
        if (mean := geometric_mean(records)) is not None:
            lines.append(f"| geometric mean |{' |' * (len(columns) - 2)} **{mean:.3f}** |")
        lines += ["", "SQNR, dB:", "", *_head(["network", *names])]
        lines += [f"| {' | '.join([r['network'], *(_db(r, e) for e in names)])} |" for r in records]
        if failed := [(r["network"], e, why) for r in records for e, why in r["failures"].items()]:
            lines += ["", "Not measured:", "", *(f"- {e} on {network}: {why}" for network, e, why in failed)]
    return lines


def _head(columns: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|---" + "|--:" * (len(columns) - 1) + "|"]


def _ms(r: Record, engine: str) -> str:
    if engine not in r["median_ms"]:
        return "failed"
    text = f"{r['median_ms'][engine]:.2f}"
    return f"**{text}**" if engine == r["best"] else text


def _ratio(r: Record) -> str:
    if not r["best"]:
        return ""
    return str(Ratio(**r["ratio"][r["best"]]))


def _db(r: Record, engine: str) -> str:
    return f"{r['sqnr_db'][engine]:.0f}" if engine in r["sqnr_db"] else ""


def draw(report: dict[str, Any], path: Path) -> None:
    """Per group a panel: time of each engine as a multiple of the best peer's; Tersor's whiskers go from the lowest to the highest round."""
    from matplotlib.figure import Figure

    panels = list(groups(report))
    figure = Figure(figsize=(10, 3.4 * len(panels)), layout="constrained")
    for axis, (title, records) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels):
        shown = [r for r in records if r["best"]]
        for k, engine in enumerate(e for e in engines_of(shown) if e != "tersor"):
            points = [(i, r["median_ms"][engine] / r["median_ms"][r["best"]]) for i, r in enumerate(shown) if engine in r["median_ms"]]
            axis.scatter([i for i, _ in points], [q for _, q in points], s=36, marker="osD^vP*Xph"[k % 10], label=engine, zorder=3)
        ratios = [r["ratio"][r["best"]] for r in shown]
        middle = [q["median"] for q in ratios]
        whiskers = [[q["median"] - q["low"] for q in ratios], [q["high"] - q["median"] for q in ratios]]
        axis.bar(range(len(shown)), middle, 0.5, yerr=whiskers, capsize=3, color="lightsteelblue", label="tersor")
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set_yscale("log", base=2)
        axis.set_yticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
        axis.set_xticks(range(len(shown)), [r["network"].replace("_", "\n") for r in shown])
        axis.set_ylabel("time / best peer's")
        axis.set_title(title, loc="left")
        axis.legend(fontsize="small", ncols=2, loc="upper right", bbox_to_anchor=(1.28, 1.0))
    figure.savefig(path, dpi=110)
