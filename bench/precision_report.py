"""The precision report: a table of what precision.py measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any


def markdown(report: dict[str, Any]) -> str:
    """precision.md"""
    return "\n".join(["# Precision of whole networks", "", *tables(report)]) + "\n"


def tables(report: dict[str, Any]) -> list[str]:
    """Lines: what was measured, then a row per network."""
    m, settings = report["machine"], report["settings"]
    names = {name: f"winograd={largest}" + (", the default" if name == "default" else "") for name, largest in settings.items()}
    columns = [
        "network",
        "weights",
        "images",
        *(f"{names[s]}, dB" for s in settings),
        "eager float32 torch, dB",
        "Winograd kernels",
        f"{report['goal_db']} dB",
    ]
    lines = [
        f"SQNR of the logits against the eager module in float64, mean over {report['images']} images, the lowest in brackets; "
        f"{report['threads']} thread{'s' if report['threads'] > 1 else ''}; {m['processor']}, {m['date']}, commit {m['commit'] or 'unknown'}.",
        "The last column says whether the default reaches the goal on every image.",
        "",
        f"| {' | '.join(columns)} |",
        "|---|---|---" + "|--:" * (len(settings) + 1) + "|---|---|",
    ]
    for r in report["networks"]:
        about = [r["network"], r["weights"], r["source"]]
        if r["missing"]:
            lines.append(f"| {' | '.join(about)} | not measured: {r['missing']} |" + " |" * (len(columns) - 4))
            continue
        figures = [spoken(r["settings"][s]["db"]) for s in settings]
        kernels = "; ".join(dict.fromkeys(f"{s}: {counts(r['settings'][s]['winograd'])}" for s in settings if r["settings"][s]["winograd"]))
        reached = "yes" if min(r["settings"]["default"]["db"]) >= report["goal_db"] else "no"
        lines.append(f"| {' | '.join([*about, *figures, spoken(r['eager_db']), kernels or 'none', reached])} |")
    return lines


def counts(kernels: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in kernels.items())


def spoken(db: Sequence[float]) -> str:
    return f"{statistics.mean(db):.1f} ({min(db):.1f})"
