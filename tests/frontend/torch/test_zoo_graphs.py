"""Every model of the zoo: the graph means what the eager module means, at batch 1 and 3, and comes out the same each time."""

from __future__ import annotations

import pytest
import torch
import zoo
from frontend_checks import compare
from sampling import some

from tersor.frontend import trace
from tersor.ir.op import Const


@pytest.mark.parametrize("name", some(zoo.ZOO, 2))
def test_graph_equals_the_eager_module_in_float64(name: str) -> None:
    module, inputs = zoo.built(name)
    graph = zoo.traced(name)
    assert graph.batched == {v.name for v in graph.inputs}
    compare(graph, module, inputs, (1, 3))


@pytest.mark.parametrize("name", zoo.ZOO)
def test_graph_verifies_and_every_op_has_a_name_and_a_place(name: str) -> None:
    graph = zoo.traced(name)
    graph.verify()
    graph.at(3).verify()
    names = [v.name for op in graph.ops for v in op.outs]
    assert all(names) and len(set(names)) == len(names)
    for op in graph.ops:
        assert op.loc.path or op.loc.file, f"%{op.out.name} has no location"


@pytest.mark.parametrize("name", ["mobilenet_v3_large", "detector"])
def test_trace_is_deterministic(name: str) -> None:
    module, inputs = zoo.built(name)
    first, second = zoo.traced(name), trace(module, inputs)
    assert [(o.name, o.out.name, o.out.type, o.loc) for o in first.ops] == [(o.name, o.out.name, o.out.type, o.loc) for o in second.ops]


@pytest.mark.parametrize("name", zoo.ZOO)
def test_activations_keep_their_scale(name: str) -> None:
    module, inputs = zoo.built(name)
    with torch.no_grad():
        floats = [t for t in zoo.leaves(module(*inputs)) if t.is_floating_point()]
    assert all(0.01 < float(t.std()) < 30 for t in floats)


def test_no_constant_is_left_that_nobody_reads() -> None:
    graph = zoo.traced("resnet18")
    assert all(op.out.uses for op in graph.ops if isinstance(op, Const))
    assert not any("num_batches_tracked" in op.out.name for op in graph.ops)


def test_dict_output_keeps_the_models_structure() -> None:
    graph = zoo.traced("detector")
    module, inputs = zoo.built("detector")
    assert graph.output_names == ["scores", "labels", "boxes", "features_0", "features_1"]
    result, expected = graph(*inputs), module(*inputs)
    assert list(result) == list(expected) and isinstance(result["features"], list)
    assert torch.equal(result["labels"], expected["labels"])


def test_shared_weight_is_one_constant() -> None:
    graph = zoo.traced("shared")
    weights = [op for op in graph.ops if isinstance(op, Const) and op.out.type.rank == 4]
    assert [op.out.name for op in weights] == ["first.weight"]
    assert sum(weights[0].out.uses.values()) == 3
