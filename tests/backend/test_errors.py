"""Mistakes at the level of compile and call: one sentence each, that says what is valid."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from runtime_models import Sum, compiled, inputs_of, traced

import tersor
from tersor import Const, Graph, Tensor, TersorError, UnsupportedError
from tersor.ir.ops import Add, Conv2d, Relu


def says(message: str, run: Callable[[], Any], kind: type[TersorError] = TersorError) -> None:
    with pytest.raises(kind, match=re.escape(message)) as error:
        run()
    assert "\n" not in str(error.value)


# -- compile -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("gpu", "unknown target 'gpu'; valid: cpu (this machine), cpu:<llvm cpu name> such as cpu:znver3, arm64:"),
        ("cpu:zen9", "unknown processor 'zen9' in target 'cpu:zen9'; valid are LLVM's names for x86_64, among them"),
        ("arm64:m1", "unknown processor 'm1' in target 'arm64:m1'; valid are LLVM's names for aarch64"),
    ],
)
def test_unknown_target(target: str, message: str) -> None:
    says(message, lambda: tersor.compile(traced(Sum), target=target))


def test_nan_in_the_weights() -> None:
    graph = traced(Sum).clone()
    conv = graph.find(Conv2d)[0]
    w = conv.w.op.array.copy()  # type: ignore[attr-defined]
    w[0, 0, 0, 0] = np.nan
    graph.replace(conv.w.op, Const(w, loc=conv.loc))  # type: ignore[attr-defined]
    says("weights must be numbers", lambda: tersor.compile(graph))


def test_graph_that_breaks_a_rule() -> None:
    graph = Graph()
    graph.add_input(Tensor((1, 3)), "x")
    says("the graph has no outputs: call set_outputs", lambda: tersor.compile(graph))


@pytest.mark.parametrize("batch", [0, -1, [], [1, 1], [1, 0], "2", 1.5])
def test_batch_that_is_none(batch: Any) -> None:
    says(f"batch must be a positive size or a list of distinct ones, got {batch!r}", lambda: tersor.compile(traced(Sum), batch=batch))


def test_batch_of_a_static_graph() -> None:
    graph = Graph()
    graph.set_outputs([graph.add(Relu(graph.add_input(Tensor((2, 3)), "x")))])
    says("traced with a static batch of [2], so it cannot run at batch 5", lambda: tersor.compile(graph, batch=5))


def test_a_module_is_no_graph() -> None:
    says("a torch module is compiled with example inputs: tersor.compile(module, x)", lambda: tersor.compile(torch.nn.ReLU()))  # type: ignore[arg-type]


def test_threads() -> None:
    says("threads must be at least 1, got 0", lambda: tersor.compile(traced(Sum), threads=0))


def test_require() -> None:
    says("unknown require='int4'; valid: f32, int8", lambda: tersor.compile(traced(Sum), require="int4"))
    assert "f32" in tersor.compile(traced(Sum), require="f32").report.precision
    graph = Graph()
    x = graph.add_input(Tensor((4, 4), "f64"), "x")
    graph.set_outputs([graph.add(Add(x, Relu(x)))])
    says("require='f32': nn.relu [", lambda: tersor.compile(graph, require="f32"))
    says("(and 1 more) computes in f64", lambda: tersor.compile(graph, require="f32"))


def test_element_type_without_kernels() -> None:
    graph = Graph()
    graph.set_outputs([graph.add(Relu(graph.add_input(Tensor((4, 4), "bf16"), "x")))])
    says("input 'x' is tensor<4x4xbf16>: no kernel computes in bf16; valid element types: bool, i8", lambda: tersor.compile(graph), UnsupportedError)


def test_operator_without_a_kernel() -> None:
    class Odd(tersor.Op, name="test.odd"):
        x: tersor.Value

        def infer(self) -> Tensor:
            return self.x.type

    graph = Graph()
    graph.set_outputs([graph.add(Odd(graph.add_input(Tensor((4, 4)), "x"), loc=tersor.ir.Loc("odd", "net.py", 7)))])
    says("no kernel for test.odd tensor<4x4xf32> [odd at net.py:7]", lambda: tersor.compile(graph), UnsupportedError)


# -- call --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((1, 3, 24, 21), np.float32), "input 'image' of main must be f32[1, 3, 24, 20] (float32), got float32[1, 3, 24, 21]"),
        (np.zeros((3, 24, 20), np.float32), "must be f32[1, 3, 24, 20] (float32), got float32[3, 24, 20]"),
        (np.zeros((1, 3, 24, 20)), "must be f32[1, 3, 24, 20] (float32), got float64[1, 3, 24, 20]"),
        (np.zeros((1, 3, 24, 20), ">f4"), "must be f32[1, 3, 24, 20] (float32), got >f4[1, 3, 24, 20]"),
        (torch.zeros(1, 3, 24, 20, dtype=torch.bfloat16), "(float32), got torch.bfloat16[1, 3, 24, 20]"),
        (torch.zeros(1, 3, 24, 20, device="meta"), "must be a dense tensor on the CPU, got torch.strided on meta"),
        (torch.zeros(1, 3, 24, 20).to_sparse(), "must be a dense tensor on the CPU, got torch.sparse_coo on cpu"),
        ([1.0], "must be a torch tensor or a numpy array, got list"),
        (None, "must be a torch tensor or a numpy array, got NoneType"),
        (np.zeros((2, 3, 24, 20), np.float32), "input 'image' of main has batch 2; compiled batches: 1, 3. For others: compile(graph, batch=[1,"),
        (np.zeros((0, 3, 24, 20), np.float32), "input 'image' of main has batch 0; compiled batches: 1, 3"),
    ],
)
def test_input(given: Any, message: str) -> None:
    says(message, lambda: compiled()(given))


def test_inputs() -> None:
    exe, (left, right) = compiled(Sum), inputs_of(Sum)
    says("main takes 2 inputs (left: f32[batch, 8, 9, 11], right: f32[batch, 8, 9, 11]), got 3", lambda: exe(left, right, left))
    says("main is missing input 'right'; inputs: left: f32[batch", lambda: exe(left))
    says("main is missing input 'left', 'right'", lambda: exe())
    says("main has no input 'middle'; inputs: left: ", lambda: exe(left, right, middle=left))
    says("main got input 'left' twice, by position and by name", lambda: exe(left, left=left))
    says("input 'right' of main must be f32[3, 8, 9, 11] (float32), got float32[1, 8, 9, 11]", lambda: exe(inputs_of(Sum, 3)[0], right))


def test_measuring() -> None:
    says("main was not compiled for batch 2; compiled batches: 1, 3", lambda: compiled().benchmark(batch=2))
    says("main was not compiled for batch 2", lambda: compiled().profile(batch=2))
    says("main is missing input 'right'", lambda: compiled(Sum).benchmark(inputs=inputs_of(Sum)[:1]))


def test_public_names() -> None:
    with pytest.raises(AttributeError, match=r"module 'tersor' has no attribute 'optimize'; public names: .*compile.*transform"):
        tersor.optimize  # noqa: B018
    assert set(tersor.__all__) <= set(dir(tersor))
    for name in tersor.__all__:
        assert getattr(tersor, name) is not None
