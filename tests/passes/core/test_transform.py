"""transform: what it promises of its input, its checks, its ledger, its instruments and its errors."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from pass_cases import graph_of, names, run
from transform_cases import network

from tersor.ir import Const, Graph, Op, Tensor, TersorError, Value
from tersor.ir import ops as nn
from tersor.passes import Context, DumpAfterEach, Instrument, Ledger, Pass, Step, StopAtFirstBad, Timing, register_pass, transform
from tersor.passes.core.check import outputs, relative_error
from tersor.passes.core.samples import random_inputs, samples, tensors

# -- the input stays ---------------------------------------------------------------------------


def test_the_input_is_never_changed_and_arrays_are_shared() -> None:
    graph = network()
    text, report = str(graph), graph.report
    arrays = [op.array for op in graph if isinstance(op, Const)]
    after = transform(graph, "canonicalize,test-scale")
    assert str(graph) == text
    assert graph.report is report
    assert after is not graph
    assert any(op.array is arrays[1] for op in after if isinstance(op, Const))
    assert all(not a.flags.writeable for a in arrays)


def test_an_empty_pipeline_is_a_copy() -> None:
    graph = network()
    after = transform(graph, "")
    assert str(after) == str(graph)
    assert [row.name for row in after.report] == ["input"]


@pytest.mark.parametrize("how", ["key", "type", "invalid"])
def test_on_an_error_nothing_is_half_done(how: str) -> None:
    graph = network()
    text = str(graph)
    with pytest.raises(TersorError, match=r"^pass 'test-fails' \(2 of 3\): "):
        transform(graph, f"canonicalize,test-fails{{how={how}}},canonicalize")
    assert str(graph.verify()) == text
    assert graph.report is None


def test_errors_say_what_happened() -> None:
    with pytest.raises(TersorError, match="KeyError: 'key'") as caught:
        transform(network(), "test-fails")
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(TersorError, match="run must change the graph in place and return None, or return a new graph, got int"):
        transform(network(), "test-fails{how=type}")


def test_a_pass_may_return_a_new_graph() -> None:
    @register_pass
    @dataclass(frozen=True)
    class AtThree(Pass):
        """The graph at batch 3."""

        name = "test-at-three"
        keeps = "exact"

        def run(self, graph: Graph, ctx: Context) -> Graph:
            return graph.at(3)

    after = transform(network(), "test-at-three")
    assert after.inputs[0].shape == (3, 3, 6, 6)
    assert after.report[1].macs == 3 * after.report[0].macs


# -- check -------------------------------------------------------------------------------------


def test_a_kept_declaration_passes() -> None:
    after = transform(network(), "test-claim-exact,test-claim-numeric{by=1.0000001},canonicalize", check=True)
    assert [row.error is None for row in after.report] == [True, True, False, True]
    assert 1e-8 < (after.report[2].error or 0) < 1e-6


@pytest.mark.parametrize("batched", [True, False])
def test_a_broken_exact_declaration_is_an_error_with_numbers(batched: bool) -> None:
    with pytest.raises(TersorError) as caught:
        transform(network(batched), "canonicalize,test-claim-exact{by=1.0000001}", check=True)
    message = str(caught.value)
    assert message.startswith("pass 'test-claim-exact' (2 of 2): it declares 'exact', but ")
    for part in ("of output 'output' differ for inputs of shape [1, 3, 6, 6], the first at [0, ", " became ", "declare keeps = 'numeric' or"):
        assert part in message


def test_a_broken_numeric_declaration_is_an_error_with_numbers() -> None:
    with pytest.raises(
        TersorError, match=r"'test-claim-numeric' \(1 of 1\): it declares 'numeric' within 1.0e-06, but its outputs differ by 1.0e-03"
    ):
        transform(network(), "test-claim-numeric{by=1.001}", check=True)


def test_without_check_nothing_is_tested() -> None:
    transform(network(), "test-claim-exact{by=2.0}")


def test_the_other_batch_size_is_tested_too() -> None:
    @register_pass
    @dataclass(frozen=True)
    class OneBatch(Pass):
        """Right at batch 1 only."""

        name = "test-one-batch"
        keeps = "exact"

        def run(self, graph: Graph, ctx: Context) -> None:
            x = graph.outputs[0]
            graph.set_outputs([graph.add(nn.Expand(nn.Slice(x, 0, 0, 1), x.shape))])

    with pytest.raises(TersorError, match=r"'test-one-batch' .* output 'output' is float32\[1, 4, 6, 6\] where it was float32\[3, 4, 6, 6\]"):
        transform(network(), "test-one-batch", check=True)


def test_coarser_weights_widen_the_tolerance() -> None:
    def half(x: Value) -> Op:
        return nn.Relu(nn.Mul(x, Const(np.float16(2))))

    @register_pass
    @dataclass(frozen=True)
    class Off(Pass):
        """Add one part in 4,000."""

        name = "test-off"
        keeps = "numeric"

        def run(self, graph: Graph, ctx: Context) -> None:
            graph.set_outputs([graph.add(nn.Mul(graph.outputs[0], Const(np.array(1 + 2**-10, graph.outputs[0].type.dtype))))])

    transform(graph_of(half, Tensor((2, 3), "f16")), "test-off", check=True)
    with pytest.raises(TersorError, match=r"differ by 9\.8e-04"):
        transform(network(), "test-off", check=True)


@pytest.mark.parametrize(
    ("got", "error"),
    [([1.0, 4.0], 0.0), ([1.0, 4.4], 0.1), ([2.0, 4.0], 0.25), ([1.0, np.inf], np.inf), ([np.nan, 4.0], np.inf)],
)
def test_relative_error(got: list[float], error: float) -> None:
    assert relative_error([np.float32([1, 4])], [np.float32(got)]) == pytest.approx(error)


def test_relative_error_of_what_is_not_finite() -> None:
    odd = np.float32([np.nan, np.inf, 2])
    assert relative_error([odd], [odd + np.float32(0.5)]) == pytest.approx(0.25)
    assert relative_error([odd], [-odd]) == math.inf
    assert relative_error([np.float32([0, 0])], [np.float32([0, 0.5])]) == 0.5
    assert relative_error([np.zeros(0, np.float32)], [np.zeros(0, np.float32)]) == 0
    with pytest.raises(TersorError, match=r"its outputs have shapes \[\(3,\)\], where its input's have \[\(2,\)\]"):
        relative_error([odd[:2]], [odd])


def test_calibration_is_what_is_checked_on() -> None:
    zeros = torch.zeros(2, 3, 6, 6)
    graph = graph_of(lambda x: nn.Relu(x), (1, 3, 6, 6), batched=False)
    with pytest.raises(TersorError, match="input 'x' of main must be"):
        transform(graph, "test-claim-exact", check=True, calibration=[zeros])
    # all zeros hide the factor
    transform(graph, "test-claim-exact{by=2.0}", check=True, calibration=[zeros[:1]])


def test_random_inputs_have_the_inputs_types() -> None:
    types = [Tensor((2, 3)), Tensor((2,), "i64"), Tensor((2,), "bool"), Tensor((2, 1), "f16")]
    graph = graph_of(lambda *xs: list(xs), *types)
    first, second = samples(graph, None, 0)
    assert [tuple(x.shape) for x in second] == [(1, 3), (1,), (1,), (1, 1)]
    assert [x.dtype for x in first] == [torch.float32, torch.int64, torch.bool, torch.float16]
    again = random_inputs(graph, np.random.default_rng(0))
    assert all(torch.equal(a, b) for a, b in zip(first, again))


def test_changed_inputs_are_no_exact_pass() -> None:
    @register_pass
    @dataclass(frozen=True)
    class Wider(Pass):
        """Take float64."""

        name = "test-wider"
        keeps = "exact"

        def run(self, graph: Graph, ctx: Context) -> Graph:
            return graph_of(conv_bn_relu_64, Tensor((1, 3), "f64"))

    def conv_bn_relu_64(x: Value) -> Op:
        return nn.Relu(x)

    with pytest.raises(TersorError, match="changed the inputs of the graph; declare keeps = 'lossy'"):
        transform(network(), "test-wider", check=True)


# -- lossy passes and accuracy -----------------------------------------------------------------


def expected_sqnr(graph: Graph, after: Graph, x: torch.Tensor) -> float:
    (y64,), (y,) = run(graph, [x], torch.float64), run(after, [x])
    return float(10 * np.log10(np.square(y64).sum() / np.square(y64 - y).sum()))


def test_sqnr_is_against_the_first_graph_in_float64() -> None:
    graph, x = network(), torch.randn(2, 3, 6, 6)
    once = transform(graph, "test-scale", calibration=[x])
    assert once.report[1].sqnr == pytest.approx(expected_sqnr(graph, once, x))
    twice = transform(graph, "test-scale,fold-bn,test-scale", calibration=[x])
    assert twice.report[2].sqnr is None
    assert twice.report[3].sqnr == pytest.approx(expected_sqnr(graph, twice, x))
    assert twice.report[3].sqnr < twice.report[1].sqnr


def test_sqnr_needs_calibration_or_check() -> None:
    assert transform(network(), "test-scale").report[1].sqnr is None
    assert transform(network(), "test-scale", check=True).report[1].sqnr > 20


def test_no_difference_is_infinite() -> None:
    graph = graph_of(lambda x: nn.Neg(x), (1, 3))
    ledger = transform(graph, "test-scale", check=True).report
    assert ledger[1].sqnr == math.inf
    assert json.loads(ledger.to_json())[1]["sqnr"] == "inf"
    assert "inf dB" in str(ledger)


@register_pass
@dataclass(frozen=True)
class Crop(Pass):
    """Give fewer outputs."""

    name = "test-crop"
    keeps = "lossy"

    def run(self, graph: Graph, ctx: Context) -> None:
        graph.set_outputs([graph.add(nn.Slice(graph.outputs[0], 1, 0, 1))])


def test_outputs_of_another_shape_have_no_sqnr() -> None:
    assert transform(network(), "test-crop", check=True).report[1].sqnr is None


def test_accuracy_is_measured_at_first_and_after_inexact_passes() -> None:
    seen: list[Graph] = []

    def accuracy(graph: Graph) -> float:
        seen.append(graph)
        return 0.9 - 0.1 * len(seen)

    ledger = transform(network(), "canonicalize,fold-bn,test-scale", evaluate=accuracy).report
    assert [row.accuracy for row in ledger] == [pytest.approx(0.8), None, pytest.approx(0.7), pytest.approx(0.6)]


# -- the ledger --------------------------------------------------------------------------------


def test_rows() -> None:
    ledger = transform(network(), "fold-bn,canonicalize").report
    first, folded, _ = ledger
    assert (first.name, first.ops, first.parameters, first.macs, first.nbytes) == ("input", 3, 108 + 16, 4 * 36 * 27, 4 * 124)
    assert (folded.name, folded.keeps, folded.ops, folded.parameters, folded.rewrites) == ("fold-bn", "numeric", 2, 112, {"fold_bn": 1})
    assert ledger["fold-bn"] is folded
    assert ledger[0] is first
    assert len(ledger) == 3
    assert ledger.seconds == sum(row.seconds for row in ledger) > 0
    with pytest.raises(TersorError, match="has no pass 'prune'; passes: input, fold-bn, canonicalize"):
        ledger["prune"]


def test_the_last_row_of_a_pass_by_its_name() -> None:
    ledger = transform(network(), "test-scale{by=2.0},test-scale{by=3.0}").report
    assert ledger["test-scale"].name == "test-scale{by=3.0}"
    assert ledger["test-scale{by=2.0}"] is ledger[1]


def test_the_table_is_plain_text() -> None:
    ledger = transform(network(), "fold-bn,canonicalize").report
    lines = str(ledger).splitlines()
    assert lines[0].split() == ["pass", "keeps", "time", "ops", "parameters", "MACs", "bytes", "rewrites"]
    assert lines[2].split() == ["input", "3", "124", "3.89", "k", "496", "B"]
    assert lines[3].split()[:2] == ["fold-bn", "numeric"]
    assert "\x1b" not in str(ledger)
    assert len({len(line) for line in lines[:2]}) == 1


def test_the_rich_table() -> None:
    from rich.console import Console

    ledger = transform(network(), "test-scale{by=2.0}").report
    out = io.StringIO()
    Console(file=out, width=200).print(ledger)
    assert "test-scale{by=2.0}" in out.getvalue()
    assert "lossy" in out.getvalue()


def test_json_and_picture(tmp_path: Path) -> None:
    ledger = transform(network(), "fold-bn,test-scale", check=True, evaluate=lambda graph: 0.5).report
    text = ledger.to_json(tmp_path / "ledger.json")
    rows = json.loads((tmp_path / "ledger.json").read_text())
    assert json.loads(text) == rows
    assert [row["name"] for row in rows] == ["input", "fold-bn", "test-scale"]
    assert rows[1]["error"] < 1e-6
    ledger.draw(tmp_path / "ledger.png")
    assert (tmp_path / "ledger.png").read_bytes().startswith(b"\x89PNG")


def test_drawing_without_matplotlib_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(TersorError, match="drawing a ledger needs matplotlib: pip install matplotlib"):
        Ledger().draw("nowhere.png")


# -- instruments -------------------------------------------------------------------------------


class Recorder(Instrument):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def before(self, step: Step) -> None:
        self.seen.append(f"before {step} {len(names(step.graph))} {step.row}")

    def after(self, step: Step) -> None:
        assert step.row is not None
        self.seen.append(f"after {step} {len(names(step.graph))} {step.row.ops}")


def test_instruments_are_called_around_every_pass() -> None:
    recorder = Recorder()
    transform(network(), "fold-bn,canonicalize", instruments=[recorder])
    assert recorder.seen == [
        "before pass 'fold-bn' (1 of 2) 3 None",
        "after pass 'fold-bn' (1 of 2) 2 2",
        "before pass 'canonicalize' (2 of 2) 2 None",
        "after pass 'canonicalize' (2 of 2) 2 2",
    ]


def test_dump_to_a_folder(tmp_path: Path) -> None:
    graph = network()
    after = transform(graph, "fold-bn,test-scale{by=2.0}", instruments=[DumpAfterEach(tmp_path / "dump")])
    assert sorted(p.name for p in (tmp_path / "dump").iterdir()) == ["00-input.mlir", "01-fold-bn.mlir", "02-test-scale.mlir"]
    assert (tmp_path / "dump" / "00-input.mlir").read_text() == str(graph)
    assert (tmp_path / "dump" / "02-test-scale.mlir").read_text() == str(after)


def test_dump_to_a_stream() -> None:
    out = io.StringIO()
    graph = network()
    after = transform(graph, "test-scale{by=2.0}", instruments=[DumpAfterEach(out)])
    assert out.getvalue() == f"// ---- 0 input\n{graph}\n// ---- 1 test-scale{{by=2.0}}\n{after}\n"


def test_timing() -> None:
    out = io.StringIO()
    transform(network(), "fold-bn,canonicalize", instruments=[Timing(out)])
    one, two = out.getvalue().splitlines()
    assert one.split()[1:] == ["ms", "fold-bn", "2", "ops", "fold_bn", "1"]
    assert two.split()[1:] == ["ms", "canonicalize", "2", "ops"]


def test_stop_at_the_first_bad_pass() -> None:
    recorder = Recorder()
    graph, x = network(), torch.randn(2, 3, 6, 6)
    stop = StopAtFirstBad(x)
    y, doubled = (outputs(g, tensors([x]))[0] for g in (graph, transform(graph, "test-scale{by=2.0}")))
    error = abs(y - doubled).max() / abs(y).max()
    said = f"pass 'test-scale' (3 of 4) is the first bad one: its outputs differ from the input's by {error:.1e}, more than 1.0e-03"
    with pytest.raises(TersorError, match=f"^{re.escape(said)}$"):
        transform(graph, "canonicalize,fold-bn,test-scale{by=2.0},test-crop", instruments=[recorder, stop])
    assert len(recorder.seen) == 6


def test_stop_takes_any_question() -> None:
    stop = StopAtFirstBad(is_bad=lambda graph: not graph.find(nn.BatchNorm))
    with pytest.raises(TersorError, match=r"^pass 'fold-bn' \(2 of 3\) is the first after which the graph is bad"):
        transform(network(), "canonicalize,fold-bn,canonicalize", instruments=[stop])
    transform(network(), "canonicalize", instruments=[stop])
    with pytest.raises(TersorError, match="needs a batch to compare on, or a function"):
        StopAtFirstBad()
