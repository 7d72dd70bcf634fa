"""Which cases of a parametrized test `make test` runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def some(cases: Iterable[Any], every: int) -> list[Any]:
    """All cases; `make test` runs every `every`-th, starting with the first, and the others are marked slow. A tuple holds several arguments."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=[pytest.mark.slow] if i % every else []) for i, case in enumerate(cases)
    ]
