"""The onnx package's own node tests: a sample by the interpreter here, all of them, and compiled, with the slow tests."""

from __future__ import annotations

from pathlib import Path

import onnx_nodes
import pytest

PAGE = Path(__file__).parents[3] / "docs/onnx-operators.md"
SAMPLE = (
    "BatchNormalization",
    "Clip",
    "Conv",
    "ConvTranspose",
    "Gemm",
    "InstanceNormalization",
    "LayerNormalization",
    "MatMul",
    "MaxPool",
    "Pad",
    "PRelu",
    "ReduceMean",
    "Reshape",
    "Slice",
    "Split",
    "Transpose",
)
PARTS = 12


def test_quantized_node_cases() -> None:
    """26 of them, each with its scales as inputs and as constants."""
    cases = onnx_nodes.cases_of(*onnx_nodes.QUANTIZED)
    assert len(cases) == 26
    assert onnx_nodes.judge(cases, compiled=False) == []


@pytest.mark.parametrize("operator", SAMPLE)
def test_node_cases_of_an_operator(operator: str) -> None:
    cases = onnx_nodes.cases_of(operator)
    assert len(cases) >= 2
    assert onnx_nodes.judge(cases, compiled=False) == []


def test_shifts_of_bytes_compiled() -> None:
    """A comparison of unsigned numbers with 0 once stopped the compiler."""
    cases = [c for c in onnx_nodes.cases_of("BitShift") if "uint8" in c.name]
    assert len(cases) == 2
    assert onnx_nodes.judge(cases, compiled=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_node_case_interpreted_and_compiled(part: int) -> None:
    assert onnx_nodes.judge(onnx_nodes.all_cases()[part::PARTS], compiled=True) == []


@pytest.mark.slow
def test_the_table_of_operators_is_that_of_the_cases() -> None:
    """`python tests/support/onnx_nodes.py` writes it."""
    cases, failures = onnx_nodes.all_cases(), onnx_nodes.known_failures()
    assert set(failures) <= {c.name for c in cases}
    assert onnx_nodes.table(cases, failures) in PAGE.read_text()
    core = [c for c in cases if onnx_nodes.is_core(c)]
    assert len(core) == 547
    assert sum(c.name not in failures for c in core) >= 541
    assert sum(c.name not in failures for c in cases) >= 851
