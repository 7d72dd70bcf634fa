"""The report of costs: a table of what costs.py measured."""

from __future__ import annotations

from typing import Any


def markdown(report: dict[str, Any]) -> str:
    """costs.md"""
    return "\n".join(["# Compile time, first result, memory", "", *tables(report)]) + "\n"


def tables(report: dict[str, Any]) -> list[str]:
    """Lines: what was measured, then a row per network and engine."""
    m, threads = report["machine"], report["threads"]
    lines = [
        f"A saved model in a fresh process that has torch installed, median of {report['rounds']} processes, engines in turns; peak memory (VmHWM) "
        f"after {report['runs']} runs more; {threads} thread{'s' if threads > 1 else ''}; {m['processor']}, {m['date']}, "
        f"commit {m['commit'] or 'unknown'}.",
        "Compiling is without tracing, from a graph.",
        "",
        "| network | engine | compile, s | file, MB | load, s | first result, s | peak, MB | peak, times onnxruntime's |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for n in report["networks"]:
        peer = n["engines"]["onnxruntime"]["peak_mb"]
        for engine, e in n["engines"].items():
            compiled = f"{n['compile_s']:.1f}" if engine == "tersor" else ""
            cells = [n["network"], engine, compiled, f"{e['file_mb']:.1f}", f"{e['load_s']:.3f}", f"{e['first_s']:.3f}"]
            cells += [f"{e['peak_mb']:.0f}", f"{e['peak_mb'] / peer:.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return lines
