"""The real mlir-opt reads what we print, and we read what it prints."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pytest
from ir_graphs import features, small

from tersor.ir.equal import difference
from tersor.ir.graph import Graph
from tersor.ir.parse import parse_graph
from tersor.ir.text import format_with_weights

MLIR_OPT = next((path for name in ("mlir-opt", *(f"mlir-opt-{v}" for v in range(19, 30))) if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(MLIR_OPT is None, reason="mlir-opt is not installed (Debian: apt-get install mlir-19-tools)")


def mlir_opt(text: str, *flags: str) -> str:
    assert MLIR_OPT is not None
    command = [MLIR_OPT, "--allow-unregistered-dialect", "--mlir-print-op-generic", *flags]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("flags", [(), ("--mlir-print-debuginfo",), ("--mlir-print-debuginfo", "--mlir-print-local-scope")])
@pytest.mark.parametrize("build", [small, features])
def test_what_mlir_opt_prints_parses_to_the_same_graph(build: Callable[[], Graph], flags: tuple[str, ...]) -> None:
    graph = build()
    text, constants = format_with_weights(graph)
    back = parse_graph(mlir_opt(text, *flags), {key: op.array for key, op in constants.items()})
    assert difference(graph, back, names=False, locations=False) is None
    if flags:
        known = [(a.loc, b.loc) for a, b in zip(graph.ops, back.ops) if a.loc.path or a.loc.file]
        assert known and all(a == b for a, b in known)


def test_true_names_pass_through_mlir_opt_in_locations() -> None:
    graph = features()
    text, constants = format_with_weights(graph)
    back = parse_graph(mlir_opt(text, "--mlir-print-debuginfo"), {key: op.array for key, op in constants.items()})
    assert [back.ops[i].out.name for i in (0, 2, 3)] == ["0.weight", "copy of 0", "conv"]


def test_mlir_opt_refuses_text_that_we_refuse() -> None:
    text = str(small()).replace('"nn.relu"(%features.0)', '"nn.relu"(%nothing)')
    with pytest.raises(AssertionError, match="undeclared SSA value"):
        mlir_opt(text)
