"""Ops and graphs as data: construction, uses, edits, copies, batches, and the errors of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pass_cases import c, graph_of, names

from tersor.ir import Const, Graph, Loc, Op, Tensor, TersorError, Value
from tersor.ir import ops as nn
from tersor.ir.graph import unique_names


def small() -> Graph:
    """y = relu(-x), z = y + 2"""
    return graph_of(lambda x: (y := nn.Relu(nn.Neg(x))) and [y, nn.Add(y, c(2))], (1, 3))


# -- ops ---------------------------------------------------------------------------------------


class Fields(Op, name="test.fields"):
    """One field of each kind."""

    a: Value
    b: Value | None
    xs: list[Value]
    size: tuple[int, int] = (1, 1)

    def infer(self) -> Tensor:
        return self.a.type


def test_fields_say_what_they_are() -> None:
    assert [(f.name, f.kind, f.required) for f in Fields.fields] == [
        ("a", "value", True),
        ("b", "optional", True),
        ("xs", "list", True),
        ("size", "attr", False),
    ]


def test_operands_come_in_order_and_an_op_counts_as_its_result() -> None:
    one, two, three = nn.Neg(c(1)), nn.Neg(c(2)), nn.Neg(c(3))
    op = Fields(one, None, [two, three.out], size=[2, 3])
    assert op.operands == [one.out, two.out, three.out]
    assert op.attrs == {"size": (2, 3)}
    assert not one.out.uses, "an op that is in no graph reads nothing yet"


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((1, 2, 3, 4, 5), {}, "takes at most 4 arguments"),
        ((), {"a": c(1), "b": None}, "is missing 'xs'; fields: a, b, xs, size"),
        ((c(1),), {"a": c(1)}, "a second value for 'a'"),
        ((c(1),), {"z": 1}, "an unknown field 'z'; fields: a, b, xs, size"),
    ],
)
def test_wrong_arguments(args: Any, kwargs: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Fields(*args, **kwargs)


def test_an_op_name_belongs_to_one_class() -> None:
    with pytest.raises(TersorError, match=r"op 'nn.relu' is already registered by tersor\.ir\.ops\..*Relu"):

        class Mine(Op, name="nn.relu"):
            pass


def test_rebuilt_changes_fields_and_keeps_the_location() -> None:
    clip = nn.Clip(nn.Neg(c(1)), 0.0, 6.0, loc=Loc("act"))
    new = clip.rebuilt(max=3.0)
    assert (new.attrs, new.loc, new.graph) == ({"min": 0.0, "max": 3.0}, Loc("act"), None)
    assert new.operands == clip.operands


def test_constants_are_read_only_and_leave_the_array_alone() -> None:
    array = np.zeros(3, np.float32)
    const = Const(array)
    with pytest.raises(ValueError, match="read-only"):
        const.array[0] = 1
    array[0] = 1
    assert array.flags.writeable


@pytest.mark.parametrize(
    ("loc", "text"),
    [(Loc(), "unknown location"), (Loc("a.b"), "a.b"), (Loc("a.b", "net.py", 3), "a.b at net.py:3"), (Loc("", "net.py", 3), "net.py:3")],
)
def test_locations(loc: Loc, text: str) -> None:
    assert str(loc) == text


# -- uses and edits ----------------------------------------------------------------------------


def test_uses_count_operands_and_outputs() -> None:
    graph = graph_of(lambda x: [nn.Mul(x, x), x], (1, 3))
    (x,) = graph.inputs
    assert x.uses == {graph.ops[0]: 2, None: 1}
    assert x.users == [graph.ops[0]]
    assert not x.single_use
    assert graph.outputs[0].single_use


def test_replace_uses_reaches_lists_and_outputs() -> None:
    graph = graph_of(lambda x: (y := nn.Neg(x)) and [nn.Concat([y, x, y], 1), y], (1, 3))
    neg, concat = graph.ops
    graph.replace_uses(neg.out, graph.inputs[0])
    assert concat.operands == [graph.inputs[0]] * 3
    assert graph.outputs[1] is graph.inputs[0]
    assert not neg.out.uses
    assert graph.remove_dead() == 1
    graph.verify()


def test_a_value_that_is_read_cannot_be_erased() -> None:
    graph = small()
    with pytest.raises(TersorError, match=r"cannot erase nn.relu .*is still read"):
        graph.erase(graph.find(nn.Relu)[0])


def test_replace_needs_as_many_results() -> None:
    class Two(Op, name="test.two_results"):
        x: Value

        def infer_all(self) -> list[Tensor]:
            return [self.x.type] * 2

    graph = small()
    with pytest.raises(TersorError, match=r"cannot replace nn.relu .* with 1 results by 2"):
        graph.replace(graph.find("nn.relu")[0], Two(graph.inputs[0]))


def test_add_inserts_what_the_op_reads() -> None:
    graph = Graph()
    x = graph.add_input(Tensor((2,)), "x")
    shared = nn.Neg(x)
    graph.set_outputs([graph.add(nn.Add(nn.Exp(shared), nn.Mul(shared, c(2))))])
    assert [op.name for op in graph] == ["nn.neg", "nn.exp", "nn.constant", "nn.mul", "nn.add"]


def test_find_takes_classes_bases_and_names() -> None:
    graph = small()
    assert len(graph.find(nn.Elementwise)) == 3
    assert graph.find("nn.neg") == graph.find(nn.Neg) == graph.ops[:1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g.add_input(Tensor((1,)), "x"), "duplicate input name 'x'"),
        (lambda g: g.set_outputs(g.outputs, ["a"]), "2 outputs need as many names, got 1"),
        (lambda g: g.at(0), "batch must be at least 1, got 0"),
    ],
)
def test_errors(call: Any, message: str) -> None:
    with pytest.raises(TersorError, match=message):
        call(small())


# -- copies and batches ------------------------------------------------------------------------


def test_a_clone_shares_arrays_and_nothing_else() -> None:
    graph = small()
    graph.report = object()
    copy = graph.clone()
    assert str(copy) == str(graph)
    assert copy.report is graph.report
    assert copy.find(Const)[0].array is graph.find(Const)[0].array
    copy.replace(copy.find(nn.Relu)[0], nn.Abs(copy.inputs[0]))
    copy.inputs[0].name = "other"
    assert names(graph.verify()) == ["neg", "relu", "add"]
    assert graph.inputs[0].name == "x"


def test_a_clone_clones_regions() -> None:
    class Holder(Op, name="test.holder"):
        x: Value
        body: Graph

        def infer(self) -> Tensor:
            return self.x.type

    graph = graph_of(lambda x: Holder(x, graph_of(nn.Relu, (1, 3))), (1, 3))
    copy = graph.clone()
    assert copy.ops[0].attrs["body"] is not graph.ops[0].attrs["body"]


def test_at_another_batch() -> None:
    graph = small()
    assert [v.shape for v in graph.at(5).outputs] == [(5, 3), (5, 3)]
    assert [v.shape for v in graph.outputs] == [(1, 3), (1, 3)]


def test_a_static_batch() -> None:
    graph = graph_of(lambda x: nn.Relu(x), (2, 3), batched=False)
    assert str(graph.at(2)) == str(graph)
    with pytest.raises(TersorError, match=r"traced with a static batch of \[2\], so it cannot run at batch 3"):
        graph.at(3)


def test_cost() -> None:
    graph = graph_of(lambda x: nn.Linear(x, c(1, shape=(5, 3)), c(1, shape=(5,))), (2, 3))
    assert graph.macs() == 2 * 5 * 3
    assert graph.at(4).macs() == 4 * 5 * 3
    assert graph.nbytes() == 4 * (15 + 5)


def test_structure_follows_the_outputs() -> None:
    assert graph_of(lambda x: nn.Relu(x), (1, 3)).structure == 0
    graph = small()
    assert (graph.structure, graph.output_names) == ((0, 1), ["output_0", "output_1"])
    assert repr(graph) == "<Graph main: 1 inputs, 3 ops, 2 outputs>"


def test_unique_names() -> None:
    assert unique_names(["a", "b", "a", "a_1", "a"]) == ["a", "b", "a_1", "a_1_1", "a_2"]
