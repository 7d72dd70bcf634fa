"""Files of benchmark results: JSON with three or four digits a number and one line a row, so that a new measurement changes few lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: Significant digits of a measured number.
DIGITS = 4


def write_results(path: Path, report: Any) -> None:
    """Write a report. Numbers are rounded to `DIGITS` significant digits; a dict or list that holds no dict takes one line.
    Its folder is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_text(_rounded(report), 0) + "\n")


def _rounded(x: Any) -> Any:
    if isinstance(x, float):
        return float(f"{x:.{DIGITS}g}")
    if isinstance(x, dict):
        return {k: _rounded(v) for k, v in x.items()}
    return [_rounded(v) for v in x] if isinstance(x, (list, tuple)) else x


def _text(x: Any, depth: int) -> str:
    nested = x.values() if isinstance(x, dict) else x if isinstance(x, list) else ()
    if not any(isinstance(v, dict) or (isinstance(v, list) and any(isinstance(e, dict) for e in v)) for v in nested):
        return json.dumps(x)
    pad, end = "\n" + " " * (depth + 1), "\n" + " " * depth
    if isinstance(x, dict):
        return "{" + ",".join(f"{pad}{json.dumps(str(k))}: {_text(v, depth + 1)}" for k, v in x.items()) + end + "}"
    return "[" + ",".join(pad + _text(v, depth + 1) for v in x) + end + "]"
