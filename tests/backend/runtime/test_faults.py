"""Indexes that come from data: one outside its range is an error by a sentence, and nothing foreign is read."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from backend_run import graph_of

import tersor
from tersor import TersorError
from tersor.backend.runtime.artifact import Entry
from tersor.backend.runtime.model import CompiledModel
from tersor.ir.graph import Graph
from tersor.ir.op import Const, Op, Value
from tersor.ir.ops import Add, ArgMax, IndexSelect, Mul, Relu, Reshape
from tersor.ir.types import Tensor

ROWS, COLUMNS = 7, 33
OUTSIDE = [ROWS, -1, -(2**63), 2**63 - 1, 2**32 + 3, 50_000_000]


def lookups() -> Graph:
    """Rows and columns of a matrix at given places, rows of a table at places that are computed, and at constant ones, which nothing checks."""

    def build(x: Value, rows: Value, columns: Value) -> list[Op]:
        flat = Reshape(rows, (4,))
        table = Const(np.arange(60, dtype=np.float32).reshape(12, 5))
        doubled = Mul(columns, Const(np.asarray(2, np.int64)))
        known = IndexSelect(x, Const(np.array([0, 6, 6])), 0)
        return [Relu(IndexSelect(x, flat, 0)), IndexSelect(x, columns, 1), IndexSelect(table, doubled, 0), known]

    return graph_of(build, (ROWS, COLUMNS), Tensor((2, 2), "i64"), Tensor((6,), "i64"))


@cache
def model(threads: int) -> CompiledModel:
    return tersor.compile(lookups(), threads=threads)


def given(**outside: int) -> list[np.ndarray]:
    """Valid inputs, but for one place each of those named."""
    x = np.random.default_rng(0).standard_normal((ROWS, COLUMNS)).astype(np.float32)
    arrays = {"x0": x, "x1": np.array([[0, 6], [3, 3]]), "x2": np.array([5, 0, 1, 2, 3, 4])}
    for name, value in outside.items():
        arrays[name].reshape(-1)[-1] = value
    return list(arrays.values())


def assert_right(results: tuple[np.ndarray, ...], x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
    table = np.arange(60).reshape(12, 5)
    wanted = [np.maximum(x[rows.reshape(-1)], 0), x[:, columns], table[2 * columns], x[[0, 6, 6]]]
    for result, expected in zip(results, wanted, strict=True):
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("value", OUTSIDE)
def test_an_index_outside_is_refused_and_the_next_call_is_right(threads: int, value: int) -> None:
    exe = model(threads)
    with pytest.raises(TersorError, match=rf"input 'x1' holds {value}, expected 0 to {ROWS - 1}, for index_select\+relu"):
        exe(*given(x1=value))
    assert_right(exe(*given()), *given())


def test_the_sentence_says_where_an_index_comes_from() -> None:
    exe = model(1)
    with pytest.raises(TersorError, match=f"input 'x2' holds 40, expected 0 to {COLUMNS - 1}"):
        exe(*given(x2=40))
    # twice 6 is no row of the table of 12; the column itself is there
    with pytest.raises(TersorError, match="an index computed from input 'x2' holds 12, expected 0 to 11"):
        exe(*given(x2=6))
    with pytest.raises(TersorError, match="input 'x1' holds 9"):
        exe(*given(x1=9, x2=40))


def test_an_index_that_no_input_gives() -> None:
    def build(x: Value) -> Op:
        place = Add(ArgMax(x, 1), Const(np.asarray(2, np.int64)))
        return IndexSelect(x, place, 1)

    exe = tersor.compile(graph_of(build, (1, 6)))
    np.testing.assert_array_equal(exe(np.eye(6, dtype=np.float32)[[3]]), [[0]])
    with pytest.raises(TersorError, match="computed from input 'x0' holds 7, expected 0 to 5"):
        exe(np.eye(6, dtype=np.float32)[[5]])


def test_threads_that_share_a_table_out_see_its_faults() -> None:
    exe = tersor.compile(graph_of(lambda x, i: IndexSelect(x, i, 1), (64, 20), Tensor((640,), "i64")), threads=2)
    x, places = np.random.default_rng(1).standard_normal((64, 20)).astype(np.float32), np.arange(640) % 20
    np.testing.assert_array_equal(exe(x, places), x[:, places])
    places[639] = 20
    with pytest.raises(TersorError, match="input 'x1' holds 20, expected 0 to 19"):
        exe(x, places)


def test_callers_do_not_see_the_faults_of_others() -> None:
    exe = model(1)

    def call(number: int) -> bool:
        if number % 2:
            assert_right(exe(*given()), *given())
            return True
        with pytest.raises(TersorError, match=f"holds {ROWS + number}"):
            exe(*given(x1=ROWS + number))
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(call, range(200)))


def test_profile_and_benchmark_refuse_too() -> None:
    for measure in (model(1).benchmark, model(1).profile):
        with pytest.raises(TersorError, match="input 'x1' holds 7"):
            measure(inputs=given(x1=7))


def test_a_saved_model_checks_where_neither_torch_nor_the_compiler_is(tmp_path: Path) -> None:
    path = tmp_path / "model.tso"
    model(2).save(path)
    code = f"""
import sys
import numpy as np
import tersor
exe = tersor.load_compiled({str(path)!r})
x, rows, columns = np.ones(({ROWS}, {COLUMNS}), np.float32), np.zeros((2, 2), np.int64), np.zeros(6, np.int64)
exe(x, rows, columns)
rows[1, 0] = {ROWS}
try:
    exe(x, rows, columns)
except tersor.TersorError as error:
    print(error)
assert "torch" not in sys.modules and "tvm" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and f"input 'x1' holds {ROWS}, expected 0 to {ROWS - 1}" in done.stdout, done


def test_only_computed_indexes_are_checked() -> None:
    (entry,) = model(1).entries
    checks = [step.check for step in entry.steps if step.check is not None]
    assert sorted((c.index, c.size) for c in checks) == [("an index computed from input 'x2'", 12), ("input 'x1'", ROWS), ("input 'x2'", COLUMNS)]
    assert entry.records == 16 * len(checks)
    assert Entry("f", None, (), (), (), 0, ()).records == 0


def test_other_targets_have_the_checks() -> None:
    steps = tersor.compile(lookups(), target="arm64:cortex-a72").entries[0].steps
    assert sum(step.check is not None for step in steps) == 3
