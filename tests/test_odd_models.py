"""Small modules of third-party habits, each from torch to native code at batch 1 and 3."""

from __future__ import annotations

import odd_attention  # noqa: F401  registers its modules
import odd_edges  # noqa: F401
import odd_norms  # noqa: F401
import odd_resizes  # noqa: F401
import odd_results  # noqa: F401
import odd_wiring  # noqa: F401
import pytest
from end_to_end import check
from odd import ODD, STATIC
from sampling import some


@pytest.mark.parametrize("name", some(ODD, 2))
def test_odd_module_agrees_with_eager_float64(name: str) -> None:
    module, inputs = ODD[name]()
    check(module, inputs, static=name in STATIC)


@pytest.mark.parametrize(
    ("name", "target", "threads"),
    [
        ("Aspp", "cpu:znver3", 1),
        ("WindowAttention", "cpu:znver3", 2),
        ("Activations", "cpu:x86-64-v2", 1),
        ("OddDense", "cpu:x86-64-v2", 2),
        ("Segmentation", "cpu", 2),
    ],
)
def test_odd_module_on_narrower_vectors_and_two_threads(name: str, target: str, threads: int) -> None:
    module, inputs = ODD[name]()
    check(module, inputs, batches=[3], target=target, threads=threads)
