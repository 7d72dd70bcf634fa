"""The report of tuning: tables of what tuning.py measured."""

from __future__ import annotations

from typing import Any


def tables(report: dict[str, Any]) -> list[str]:
    """Lines: what was measured, a row per network and number of threads, and what tuning itself takes."""
    m = report["machine"]
    lines = [
        f"Whole calls in turns, medians, in brackets the quartiles; kernels: their cold times while tuned, summed. {m['processor']}, {m['date']}, "
        f"commit {m['commit'] or 'unknown'}. A loss below 0 is a gain.",
        "",
        "| network | threads | by the model, ms | tuned, ms | loss | loss of the kernels | fusions not in the database |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for r in report["rows"]:
        low, high = r["loss_quartiles"]
        cells = [r["network"], str(r["threads"]), f"{r['median_ms']['model']:.3f}", f"{r['median_ms']['tuned']:.3f}"]
        cells += [f"{r['loss']:.1%} ({low:.1%} to {high:.1%})", f"{r['regions_loss']:.1%}", str(len(r["unknown"]))]
        lines.append(f"| {' | '.join(cells)} |")
    for r in report["twice"]:
        first, second = r["seconds"]
        lines += [
            "",
            f"{r['network']} tuned twice from nothing, {r['threads']} thread{'s' if r['threads'] > 1 else ''}: {first:.0f} and {second:.0f} s. "
            f"{r['same']} of {r['regions']} fusions got the same choice both times; by the first run's times, the second's choices cost "
            f"{r['cost']:.1%} more.",
        ]
    return lines
