"""The report of pruned_latency.py: a row for each model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from .engines import Ratio

#: How much faster a network with half of its multiply-accumulates is to be.
GOAL = 1.7


def markdown(report: dict[str, Any]) -> str:
    """pruned_latency.md"""
    m = report["machine"]
    lines = [
        "# Latency of pruned networks",
        "",
        f"Batch 1, 224 pixels, medians of {report['rounds']} interleaved rounds of {report['seconds']:g} s (fastest to slowest), each model in a "
        f"process of its own; {m['processor']}, {m['date']}, commit {m['commit'] or 'unknown'}. Ratios are taken round by round.",
        f"Asked: at half of the MACs at least {GOAL} times as fast as the original, and as fast as a network built at that size.",
        "Convolutions alone: from `profile()`. Error: of the compiled network against evaluation, relative to the largest output.",
        "",
    ]
    for key, records in groupby(report["results"], key=lambda r: (r["network"], r["threads"], r["winograd"])):
        lines += [*table(*key, list(records)), ""]
    return "\n".join(lines).rstrip() + "\n"


def table(network: str, threads: int, winograd: int, records: list[dict[str, Any]]) -> Iterator[str]:
    """Lines for one network, with or without Winograd."""
    original = records[0]
    how = f"Winograd up to F({winograd}x{winograd})" if winograd else "without Winograd"
    yield f"## {network}, {threads} thread{'s' * (threads > 1)}, {how}"
    yield ""
    yield "| network | MACs, M | of the original | MB | ms | convolutions alone, ms | times as fast | convolutions alone | passes / built | error |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    for r in records:
        name = r["variant"] if r is original else f"{r['plan']}; {r['variant']}"
        low, high = min(r["rounds_ms"]), max(r["rounds_ms"])
        cells = [name, f"{r['macs'] / 1e6:,.0f}", f"{r['macs'] / original['macs']:.3f}", f"{r['nbytes'] / 1e6:.1f}"]
        cells += [f"{r['median_ms']:.2f} ({low:.2f} to {high:.2f})", f"{r['conv_ms']:.2f}"]
        faster = "" if r is original else str(Ratio(**r["faster"]))
        cells += [faster, "" if r is original else f"{original['conv_ms'] / r['conv_ms']:.2f}", str(Ratio(**r["to_built"])) if r["to_built"] else ""]
        yield f"| {' | '.join([*cells, format(r['error'], '.0e')])} |"
