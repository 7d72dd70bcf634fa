"""The rewrite engine: what matches, what is visited again, what is refused, and what is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pass_cases import c, graph_of, names

from tersor.ir import Graph, Loc, Op, Tensor, TersorError, Value
from tersor.ir import ops as nn
from tersor.ir.rewrite import Result, Trace, greedy, refuse, rewrite


@rewrite
def relu_of_relu(op: nn.Relu) -> Result:
    """relu(relu(x)) -> relu(x)"""
    return op.x if isinstance(op.x.op, nn.Relu) else None


@rewrite
def double_negation(op: nn.Neg) -> Result:
    """-(-x) -> x"""
    return op.x.op.x if isinstance(op.x.op, nn.Neg) else None


@rewrite
def neg_of_relu(op: nn.Neg) -> Result:
    """-relu(x) -> relu of something, with two new ops"""
    return nn.Abs(nn.Floor(op.x.op.x)) if isinstance(op.x.op, nn.Relu) else None


def chain(*kinds: Callable[[Any], Any]) -> Graph:
    def build(x: Value) -> Value:
        for kind in kinds:
            x = kind(x)
        return x

    return graph_of(build, (2, 3))


# -- matching ----------------------------------------------------------------------------------


def test_name_and_equation() -> None:
    assert (relu_of_relu.name, relu_of_relu.equation, relu_of_relu.matches) == ("relu_of_relu", "relu(relu(x)) -> relu(x)", (nn.Relu,))


def test_a_union_and_a_base_class_match_their_members() -> None:
    @rewrite
    def union(op: nn.Relu | nn.Abs) -> Result:
        return nn.Floor(op.x)

    @rewrite
    def base(op: nn.Elementwise) -> Result:
        return nn.Exp(op.x) if isinstance(op, nn.Floor | nn.Ceil) else None

    assert union.matches == (nn.Relu, nn.Abs)
    graph = chain(nn.Relu, nn.Abs, nn.Ceil, nn.Neg)
    assert greedy(graph, union, base) == {"union": 2, "base": 3}
    assert names(graph) == ["exp", "exp", "exp", "neg"]


def test_a_local_op_class_resolves() -> None:
    class Local(Op, name="test.local_for_rewrite"):
        x: Value

        def infer(self) -> Tensor:
            return self.x.type

    @rewrite
    def local(op: Local) -> Result:
        return op.x

    graph = chain(Local)
    assert greedy(graph, local) == {"local": 1}
    assert names(graph) == []


def unresolvable() -> Any:
    def p(op: Nowhere) -> Result:  # type: ignore[name-defined]  # noqa: F821
        return None

    return p


def no_annotation() -> Any:
    def p(op):  # type: ignore[no-untyped-def]
        return None

    return p


def two_parameters() -> Any:
    def p(a: nn.Relu, b: nn.Relu) -> Result:
        return None

    return p


def no_op_class() -> Any:
    def p(op: nn.Relu | int) -> Result:
        return None

    return p


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (unresolvable, r"'p': cannot resolve its annotation 'Nowhere'"),
        (no_annotation, r"'p': annotate its one parameter with an op class"),
        (two_parameters, r"'p': annotate its one parameter"),
        (no_op_class, r"'p': <class 'int'> is not an op class"),
    ],
)
def test_a_bad_annotation_is_an_error(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(TersorError, match=message):
        rewrite(make())


# -- application -------------------------------------------------------------------------------


def test_applied_until_nothing_matches(golden: Callable[[str, str], None]) -> None:
    graph = chain(nn.Relu, nn.Relu, nn.Neg, nn.Neg, nn.Relu, nn.Neg)
    before = str(graph)
    assert greedy(graph, relu_of_relu, double_negation) == {"relu_of_relu": 2, "double_negation": 1}
    golden("ir/rewrite.mlir", f"{before}\n// ->\n{graph.verify()}\n")


def test_a_reader_that_goes_makes_a_value_single_use() -> None:
    @rewrite
    def only_reader(op: nn.Abs) -> Result:
        return nn.Floor(op.x) if op.x.single_use else None

    @rewrite
    def drop(op: nn.Mul) -> Result:
        return op.a

    def build(x: Value) -> Any:
        y = nn.Neg(x)
        return nn.Mul(nn.Abs(y), y)

    graph = graph_of(build, (2, 3))
    assert greedy(graph, only_reader, drop) == {"drop": 1, "only_reader": 1}
    assert names(graph) == ["neg", "floor"]


def test_unread_ops_are_erased_with_the_constants_behind_them() -> None:
    @rewrite
    def forget(op: nn.Mul) -> Result:
        return op.a

    graph = graph_of(lambda x: nn.Mul(x, nn.Add(nn.Neg(c(1)), c(2))), (2, 3))
    greedy(graph, forget)
    assert len(graph.verify()) == 0


def test_new_ops_stand_in_place_and_take_location_and_name() -> None:
    graph = chain(nn.Relu, nn.Neg, nn.Exp)
    relu, neg, _ = graph.ops
    neg.loc = Loc("block.act", "net.py", 3)
    neg.out.name = "act"
    greedy(graph, neg_of_relu)
    assert names(graph.verify()) == ["floor", "abs", "exp"]
    assert [op.loc.path for op in graph] == ["block.act", "block.act", ""]
    assert graph.ops[1].out.name == "act"
    assert relu.graph is None


def test_earlier_patterns_win() -> None:
    @rewrite
    def to_floor(op: nn.Relu) -> Result:
        return nn.Floor(op.x)

    @rewrite
    def to_ceil(op: nn.Relu) -> Result:
        return nn.Ceil(op.x)

    graph = chain(nn.Relu)
    assert greedy(graph, to_ceil, to_floor) == {"to_ceil": 1}


def test_an_output_that_is_replaced_by_an_input() -> None:
    graph = chain(nn.Neg, nn.Neg)
    greedy(graph, double_negation)
    assert graph.verify().outputs == graph.inputs


class Pair(Op, name="test.pair"):
    """Two results, as an op with a region may have."""

    x: Value

    def infer_all(self) -> list[Tensor]:
        return [self.x.type, self.x.type.with_shape((1,))]


class OtherPair(Pair, name="test.other_pair"):
    pass


def pairs() -> Graph:
    graph = Graph()
    x = graph.add_input(Tensor((2, 3)), "x")
    pair = Pair(x)
    graph.add(pair)
    graph.set_outputs([*pair.outs])
    return graph


def test_several_results_are_replaced_one_by_one() -> None:
    @rewrite
    def other(op: Pair) -> Result:
        return OtherPair(op.x) if type(op) is Pair else None

    graph = pairs()
    assert greedy(graph, other) == {"other": 1}
    assert [v.op is graph.ops[0] for v in graph.outputs] == [True, True]
    assert isinstance(graph.ops[0], OtherPair)


def test_several_results_need_as_many() -> None:
    @rewrite
    def fewer(op: Pair) -> Result:
        return nn.Neg(op.x)

    with pytest.raises(TersorError, match=r"'fewer' on test.pair .*: expected a replacement with 2 results, got 1"):
        greedy(pairs(), fewer)


class Region(Op, name="test.region"):
    x: Value
    body: Graph

    def infer(self) -> Tensor:
        return self.x.type


def test_regions_are_entered_only_on_request() -> None:
    @rewrite(regions=True)
    def inside(op: nn.Abs) -> Result:
        return nn.Floor(op.x)

    graph = chain(nn.Neg, nn.Neg, nn.Abs)
    region = Region(graph.inputs[0], chain(nn.Neg, nn.Neg, nn.Abs))
    graph.add(region)
    graph.set_outputs([graph.outputs[0], region.out])
    assert greedy(graph, double_negation, inside) == {"double_negation": 1, "inside": 2}
    assert names(region.body) == ["neg", "neg", "floor"]
    assert names(graph) == ["floor", "test.region"]


# -- refusals ----------------------------------------------------------------------------------


@rewrite
def wary(op: nn.Abs) -> Result:
    """abs(x) -> x, only after floor"""
    return op.x if isinstance(op.x.op, nn.Floor) else refuse("x is not rounded")


def test_why_keeps_reasons() -> None:
    graph = chain(nn.Neg, nn.Abs)
    graph.ops[1].loc = Loc("head.abs", "net.py", 12)
    why = Trace()
    assert not greedy(graph, wary, why=why)
    assert [(pattern, op.name, reason) for pattern, op, reason in why.refused] == [("wary", "nn.abs", "x is not rounded")]
    assert str(why) == f"wary refused nn.abs %{graph.ops[1].out.name} [head.abs at net.py:12]: x is not rounded"


def test_a_refusal_is_forgotten_when_the_pattern_applies_later() -> None:
    @rewrite
    def to_floor(op: nn.Neg) -> Result:
        return nn.Floor(op.x)

    @rewrite
    def late(op: nn.Exp) -> Result:
        return nn.Neg(op.x)

    why = Trace()
    graph = chain(nn.Exp, nn.Abs)
    assert greedy(graph, wary, late, to_floor, why=why) == {"late": 1, "to_floor": 1, "wary": 1}
    assert not why.refused


# -- errors ------------------------------------------------------------------------------------


def test_a_looping_pattern_is_named() -> None:
    @rewrite
    def grow(op: nn.Neg) -> Result:
        return nn.Neg(nn.Abs(op.x))

    graph = chain(nn.Neg)
    graph.ops[0].loc = Loc("head", "net.py", 4)
    with pytest.raises(TersorError, match=r"^pattern 'grow' did not converge in 30 rewrites, the last on nn.neg \[head at net.py:4\]"):
        greedy(graph, double_negation, grow, max_rewrites=30)


def test_two_patterns_that_undo_each_other_are_named() -> None:
    @rewrite
    def there(op: nn.Floor) -> Result:
        return nn.Ceil(op.x)

    @rewrite
    def back(op: nn.Ceil) -> Result:
        return nn.Floor(op.x)

    with pytest.raises(TersorError, match=r"pattern '(there|back)' and '(there|back)' did not converge in 1010 rewrites"):
        greedy(chain(nn.Floor), there, back)


def retype(op: nn.Relu) -> Result:
    return nn.Cast(op.x, "f64")


def itself(op: nn.Relu) -> Result:
    return op


def around(op: nn.Relu) -> Result:
    return nn.Neg(op)


def misfit(op: nn.Relu) -> Result:
    return nn.Reshape(op.x, (7,))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (retype, r"'retype' on nn.relu \[act at net.py:9\]: expected a replacement of type tensor<2x3xf32>, got tensor<2x3xf64>"),
        (itself, r"'itself' on nn.relu .* returned the op that it matched"),
        (around, r"'around' on nn.relu .* reads the result that it replaces"),
        (misfit, r"'misfit' on nn.relu .* nn.reshape: shape \[7\] cannot hold"),
    ],
)
def test_a_bad_replacement_is_an_error_and_changes_nothing(function: Callable[[Any], Result], message: str) -> None:
    graph = chain(nn.Relu)
    graph.ops[0].loc = Loc("act", "net.py", 9)
    with pytest.raises(TersorError, match=message):
        greedy(graph, rewrite(function))
    assert names(graph.verify()) == ["relu"]


def test_a_bug_in_a_pattern_keeps_its_own_error_with_a_note() -> None:
    @rewrite
    def buggy(op: nn.Relu) -> Result:
        raise KeyError("alpha")

    with pytest.raises(KeyError) as caught:
        greedy(chain(nn.Relu), buggy)
    assert caught.value.__notes__ == ["in pattern 'buggy' on nn.relu [unknown location]"]


# -- the graph's pending edits -----------------------------------------------------------------


def test_edits_keep_the_order_of_a_list() -> None:
    graph = chain(nn.Relu, nn.Neg)
    relu, neg = graph.ops
    a, b, d = nn.Abs(relu), nn.Floor(relu), nn.Ceil(relu)
    graph.insert_before(neg, a)
    graph.insert_before(neg, b)
    graph.insert_before(b, d)
    graph.erase(a)
    graph.insert_before(relu, a2 := nn.Exp(graph.inputs[0]))
    assert graph.ops == [a2, relu, d, b, neg]
    graph.erase(b)
    graph.insert_before(relu, b)
    assert graph.ops.index(b) == graph.ops.index(relu) - 1
    assert graph.ops.count(b) == 1


def test_an_op_of_another_graph_is_no_anchor() -> None:
    one, two = chain(nn.Relu), chain(nn.Relu)
    with pytest.raises(TersorError, match=r"cannot insert before nn.relu .*: it is not in this graph"):
        one.insert_before(two.ops[0], nn.Neg(one.inputs[0]))
    with pytest.raises(TersorError, match=r"cannot erase nn.relu .*: it is not in this graph"):
        one.erase(two.ops[0])


def test_work_grows_with_the_graph_and_not_with_its_square() -> None:
    """Every op is visited a bounded number of times, in a chain of 4,000 as in one of 40."""

    def visits(length: int) -> float:
        count = 0

        @rewrite
        def pairwise(op: nn.Neg) -> Result:
            nonlocal count
            count += 1
            return double_negation(op)

        graph = chain(*[nn.Neg, nn.Neg, nn.Abs] * length)
        greedy(graph, pairwise)
        assert names(graph) == ["abs"] * length
        return count / length

    assert visits(1300) == visits(13)
