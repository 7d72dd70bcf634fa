"""The ONNX writer: every op, judged by onnx.checker and onnxruntime and read back; what it refuses, and names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_cases import CASES, assert_equal, case, exported, inputs_for, results_of, run_ort

import tersor
from tersor.frontend.onnx import load_onnx
from tersor.ir import Const, Graph, Tensor
from tersor.ir.op import OPS, Loc
from tersor.ir.ops import Add, Conv2d, Elementwise, Relu
from tersor.ir.types import BitsAffine


@pytest.mark.parametrize("name", CASES)
def test_onnxruntime_agrees_and_the_model_reads_back(name: str) -> None:
    graph = case(name)
    model = exported(graph)
    back = load_onnx(model)
    assert back.batched == graph.batched
    for batch in (1, 3) if graph.batched else (None,):
        inputs = inputs_for(graph, batch)
        wanted = results_of(graph, inputs)
        assert_equal(run_ort(model, inputs), wanted, 2e-6)
        assert_equal(results_of(back, inputs), wanted, 1e-6)


def test_every_operator_has_a_case() -> None:
    covered = {op.name for name in CASES for op in case(name)}
    assert {name for name, cls in OPS.items() if name.startswith("nn.") and cls.__module__.startswith("tersor.ir.")} <= covered


def chain(path: str = "") -> Graph:
    graph = Graph("net")
    x = graph.add_input(Tensor((1, 3, 6, 6)), "input:0", batched=True)
    w = Const(np.ones((2, 3, 1, 1), np.float32), loc=Loc("head.conv.weight"))
    w.out.name = "head.conv.weight"
    conv = Conv2d(x, w, loc=Loc(path or "head.conv"))
    graph.add(conv).name = "a b"
    graph.set_outputs([graph.add(Relu(conv)), conv.out, conv.out], ["y", "features", "again"])
    return graph


def test_names_and_the_free_batch_are_kept(tmp_path: Path) -> None:
    chain().to_onnx(tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [o.name for o in model.graph.output] == ["y", "features", "again"]
    assert [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == ["batch", 3, 6, 6]
    assert [t.name for t in model.graph.initializer] == ["head.conv.weight"]
    assert model.graph.node[0].name == "head.conv"
    back = tersor.load(tmp_path / "m.onnx")
    assert [v.name for v in back.inputs] == ["input:0"] and back.batched == {"input:0"}
    assert back.output_names == ["y", "features", "again"]
    assert back.find("nn.conv2d")[0].loc.path == "head.conv"
    inputs = inputs_for(back, 2)
    assert_equal(results_of(back, inputs), run_ort(tmp_path / "m.onnx", inputs), 1e-6)


class Cubed(Elementwise, name="test.cubed"):
    """x * x * x below 1, else sqrt|x|"""

    x: tersor.Value

    def infer(self) -> Tensor:
        return self.x.type

    def f(self, m, x):  # type: ignore[no-untyped-def]
        return m.where(x < m.const(x, 1), x * x * x, m.sqrt(m.abs(x)))


def test_an_elementwise_operator_of_the_users_is_written_out() -> None:
    graph = Graph()
    x = graph.add_input(Tensor((2, 9)), "x")
    graph.set_outputs([graph.add(Cubed(x))])
    inputs = [3 * a for a in inputs_for(graph)]
    assert_equal(run_ort(exported(graph), inputs), results_of(graph, inputs), 1e-6)


def test_names_of_nodes_differ_where_locations_and_values_share_names() -> None:
    graph = Graph()
    x = graph.add_input(Tensor((2, 9)), "x")
    first = Cubed(x, loc=Loc("s"))
    graph.add(first).name = "y"
    second = Relu(first, loc=Loc("s"))
    graph.add(second).name = "s"
    graph.set_outputs([second.out])
    names = [n.name for n in exported(graph).graph.node]
    assert len(set(names)) == len(names)
    assert_equal(run_ort(exported(graph), inputs_for(graph)), results_of(graph, inputs_for(graph)), 1e-6)


class Odd(tersor.Op, name="test.onnx_odd"):
    x: tersor.Value

    def infer(self) -> Tensor:
        return self.x.type


def test_all_that_cannot_be_exported_is_one_error(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.add_input(Tensor((4,)), "x")
    bits = Const(np.zeros(4, np.int8), elem=BitsAffine("i8", (0.5,), (0.5,)))
    graph.add(bits).name = "bits"
    odd = [Odd(x, loc=Loc(f"layer{i}")) for i in range(2)]
    values = [graph.add(o) for o in odd]
    graph.set_outputs([graph.add(Add(*values)), bits.out])
    with pytest.raises(tersor.UnsupportedError) as error:
        graph.to_onnx(tmp_path / "m.onnx")
    text = str(error.value)
    assert "2 operators" in text and "layer0" in text and "layer1" in text and "bits" in text and "onnx_exporter" in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["m.pb", "nowhere/m.onnx"])
def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(tersor.TersorError, match=r"cannot (export|write)"):
        chain().to_onnx(tmp_path / name)
