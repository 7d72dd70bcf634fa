"""The GPU benchmark, on OpenCL and at a small size."""

from __future__ import annotations

import pytest
from opencl_run import needs_opencl

from tersor.bench.gpu import measure, table


@needs_opencl
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_every_engine_is_right(dtype: str) -> None:
    rows = measure("resnet18", 1, dtype, "opencl", 32, 2, None)
    assert [r.engine for r in rows] == ["tersor", "torch"] and all(r.right and r.ms[0] > 0 for r in rows)
    assert "2 of 2 right" in str(table(rows).title)
