"""Registration: users' passes and rewrites, plugins of other packages, and custom operators."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest
import torch
from pass_cases import c, graph_of, names

from tersor.ir import Const, Graph, Op, Tensor, TersorError, Value
from tersor.ir import ops as nn
from tersor.ir.rewrite import Result, greedy, rewrite
from tersor.passes import Context, Pass, Pipeline, find_pass, known_passes, register_pass, transform
from tersor.passes.core import base


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test has its own registry."""
    monkeypatch.setattr(base, "PASSES", dict(base.PASSES))
    base.load_plugins.cache_clear()
    yield
    base.load_plugins.cache_clear()


# -- rewrites ----------------------------------------------------------------------------------


def test_a_rewrite_is_a_pass() -> None:
    @register_pass(keeps="lossy")
    @rewrite
    def relu6_to_relu(op: nn.Clip) -> Result:
        """clip(x, 0, 6) -> relu(x)"""
        return nn.Relu(op.x) if (op.min, op.max) == (0.0, 6.0) else None

    graph = graph_of(lambda x: nn.Clip(nn.Clip(x, 0.0, 6.0), 0.0, 3.0), (2, 3))
    after = transform(graph, "relu6-to-relu", check=True)
    assert names(after) == ["relu", "clip"]
    assert after.report[1].rewrites == {"relu6_to_relu": 1}
    assert after.report[1].keeps == "lossy"
    assert find_pass("relu6-to-relu").help() == "clip(x, 0, 6) -> relu(x)"
    assert str(Pipeline.of(relu6_to_relu)) == "relu6-to-relu"
    assert greedy(graph.clone(), relu6_to_relu) == {"relu6_to_relu": 1}


def test_a_rewrite_is_held_to_be_exact_unless_it_says_otherwise() -> None:
    def twice(op: nn.Relu) -> Result:
        """relu(x) -> x + x"""
        return nn.Add(op.x, op.x)

    register_pass(name="test-twice")(rewrite(twice))
    register_pass(name="test-twice-numeric", keeps="numeric", tolerance=2.0)(rewrite(twice))
    graph = graph_of(lambda x: nn.Relu(x), (2, 3))
    with pytest.raises(TersorError, match=r"pass 'test-twice' .* it declares 'exact', but"):
        transform(graph, "test-twice", check=True)
    assert names(transform(graph, "test-twice-numeric", check=True)) == ["add"]


# -- classes -----------------------------------------------------------------------------------


def make(name: str, keeps: str | None = "exact", frozen: bool = True) -> Any:
    body: dict[str, Any] = {"__doc__": "A pass.", "name": name, "__module__": __name__}
    if keeps is not None:
        body["keeps"] = keeps
    cls = type(f"Made_{name}", (Pass,), body)
    return dataclass(frozen=True)(cls) if frozen else cls


def test_the_same_name_twice_is_an_error() -> None:
    with pytest.raises(TersorError, match=r"pass 'fold-bn' of .*Made_fold-bn is already registered by tersor.passes.folding.fold_bn.FoldBatchNorm"):
        register_pass(make("fold-bn"))


def test_the_same_class_again_replaces_itself() -> None:
    first, second = make("test-again"), make("test-again")
    register_pass(first)
    register_pass(second)
    assert find_pass("test-again") is second


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (make("test-none", keeps=None), "pass 'test-none' must declare what it keeps: exact, numeric, lossy"),
        (make("test-odd", keeps="mostly"), "must declare what it keeps"),
        (make("test-plain", frozen=False), "must be a frozen dataclass with a `name`"),
        (make(""), "must be a frozen dataclass with a `name`"),
        (3, "takes a Pass dataclass or a @rewrite function, got 3"),
        (int, "takes a Pass dataclass or a @rewrite function, got <class 'int'>"),
    ],
)
def test_what_cannot_be_registered(what: Any, message: str) -> None:
    with pytest.raises(TersorError, match=message):
        register_pass(what)


def test_options_whose_types_do_not_resolve() -> None:
    @register_pass
    @dataclass(frozen=True)
    class Bad(Pass):
        """A pass."""

        name = "test-bad-annotation"
        keeps = "exact"
        option: Nowhere = 1  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(TersorError, match="pass 'test-bad-annotation': cannot resolve the annotations of its options"):
        Pipeline.parse("test-bad-annotation")


def test_a_pass_without_a_body() -> None:
    register_pass(make("test-empty"))
    with pytest.raises(TersorError, match=r"^pass 'test-empty' \(1 of 1\): NotImplementedError: Made_test-empty.run"):
        transform(graph_of(lambda x: nn.Relu(x), (2, 3)), "test-empty")


def test_all_passes_are_listed_with_help() -> None:
    known = known_passes()
    assert {"canonicalize", "fold-bn", "fold-affine", "fold-pad", "simplify"} <= set(known)
    assert list(known) == sorted(known)
    for cls in known.values():
        if cls.__module__.startswith("tersor."):
            assert "->" in cls.help(), f"{cls.name} shows no before -> after"
            assert cls.help().splitlines()[0].endswith(".")


# -- plugins -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class PluginPass(Pass):
    """A pass of another package."""

    name = "plugin-pass"
    keeps = "exact"

    def run(self, graph: Graph, ctx: Context) -> None:
        pass


@rewrite
def plugin_rewrite(op: nn.Relu) -> Result:
    """relu(relu(x)) -> relu(x)"""
    return op.x if isinstance(op.x.op, nn.Relu) else None


def install(monkeypatch: pytest.MonkeyPatch, **points: str) -> list[str]:
    """Entry points of the group; returns the list of those loaded so far."""
    loaded: list[str] = []

    class Counting(EntryPoint):
        def load(self) -> Any:
            loaded.append(self.name)
            return super().load()

    found = [Counting(name.replace("_", "-"), value, base.GROUP) for name, value in points.items()]
    monkeypatch.setattr(base, "entry_points", lambda group: found if group == base.GROUP else [])
    monkeypatch.setitem(__import__("sys").modules, "plugin_for_tests", __import__("sys").modules[__name__])
    return loaded


def test_plugins_are_loaded_when_a_name_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = install(monkeypatch, plugin_pass="plugin_for_tests:PluginPass", plugin_rewrite="plugin_for_tests:plugin_rewrite")
    Pipeline.parse("fold-bn")
    assert loaded == []
    assert str(Pipeline.parse("plugin-pass,plugin-rewrite")) == "plugin-pass,plugin-rewrite"
    assert loaded == ["plugin-pass", "plugin-rewrite"]
    assert "plugin-pass" in known_passes()
    assert len(loaded) == 2
    graph = graph_of(lambda x: nn.Relu(nn.Relu(x)), (2, 3))
    assert names(transform(graph, "plugin-rewrite", check=True)) == ["relu"]


def test_a_broken_plugin_is_named_and_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, broken="plugin_for_tests:no_such_name", plugin_pass="plugin_for_tests:PluginPass")
    Pipeline.parse("plugin-pass")
    with pytest.raises(
        TersorError,
        match=r"unknown pass 'broken'.*; plugin 'broken' \(plugin_for_tests:no_such_name\) failed to load: AttributeError: .*no_such_name",
    ):
        Pipeline.parse("broken")


def test_a_plugin_that_takes_a_known_name_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = make("fold-bn")
    monkeypatch.setattr("sys.modules", {**__import__("sys").modules})
    install(monkeypatch, mine="plugin_for_tests:taken")
    monkeypatch.setitem(globals(), "taken", taken)
    with pytest.raises(TersorError, match=r"plugin 'mine' .* failed to load: TersorError: pass 'fold-bn' of .* is already registered"):
        Pipeline.parse("nothing")


# -- custom operators --------------------------------------------------------------------------


class Mish(Op, name="test.mish"):
    """x * tanh(softplus(x)) (1908.08681): a user's operator, all in one class."""

    x: Value
    beta: float = 1.0

    def infer(self) -> Tensor:
        if not self.x.type.is_float:
            raise self.fail(f"x must be a float, got {self.x.type}")
        return self.x.type

    def evaluate(self, *xs: Any) -> Any:
        return xs[0] * torch.tanh(torch.nn.functional.softplus(xs[0] * self.beta))

    def macs(self) -> int:
        return 2 * self.out.type.size


def test_a_custom_op_in_pipelines_ledger_and_checks() -> None:
    def build(x: Value) -> Any:
        y = nn.Relu(nn.Relu(x))
        return nn.Add(nn.Add(Mish(y), Mish(y)), nn.Add(Mish(y, 2.0), Mish(c(1, 2, 3))))

    after = transform(graph_of(build, (1, 3)), "default", check=True)
    assert names(after) == ["relu", "test.mish", "add", "test.mish", "add", "add"]
    assert [row.macs for row in after.report] == [24, 12, 12, 12, 12, 12, 12, 12]
    x = torch.randn(4, 3)
    y = x.relu()
    mish = torch.nn.functional.mish
    expected = 2 * mish(y) + y * torch.tanh(torch.nn.functional.softplus(2 * y)) + mish(torch.tensor([1.0, 2, 3]))
    torch.testing.assert_close(after(x), expected)


def test_a_rewrite_of_a_custom_op() -> None:
    @register_pass(name="test-lower-mish", keeps="numeric")
    @rewrite
    def lower_mish(op: Mish) -> Result:
        """mish(x) -> x * tanh(softplus(beta * x))"""
        return nn.Mul(op.x, nn.Tanh(nn.Softplus(nn.Mul(op.x, Const(np.array(op.beta, op.x.type.dtype))))))

    after = transform(graph_of(lambda x: Mish(Mish(x), 2.0), (1, 3)), "test-lower-mish,canonicalize", check=True)
    assert names(after) == ["softplus", "tanh", "mul", "mul", "softplus", "tanh", "mul"]


def test_a_custom_op_that_is_built_wrong_is_an_error_of_the_pass() -> None:
    @register_pass(name="test-wrong-mish")
    @rewrite
    def wrong_mish(op: nn.Relu) -> Result:
        """relu(x) -> mish of an integer"""
        return Mish(nn.Cast(op.x, "i32"))

    with pytest.raises(
        TersorError,
        match=r"^pass 'test-wrong-mish' \(1 of 1\): pattern 'wrong_mish' on nn.relu .*: test.mish: x must be a float, got tensor<2x3xi32>",
    ):
        transform(graph_of(lambda x: nn.Relu(x), (2, 3)), "test-wrong-mish")
