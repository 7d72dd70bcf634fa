"""The symbolic batch: which inputs carry it, models that forbid it, and the graph at other batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from frontend_checks import Calls, agrees, compare
from torch import nn

from tersor.frontend import trace
from tersor.ir.errors import TersorError


def test_types_are_those_of_the_example() -> None:
    graph = trace(nn.Conv2d(3, 4, 1), torch.randn(1, 3, 5, 5))
    assert graph.inputs[0].shape == (1, 3, 5, 5) and graph.outputs[0].shape == (1, 4, 5, 5)
    assert trace(nn.Conv2d(3, 4, 1), torch.randn(2, 3, 5, 5)).inputs[0].shape == (2, 3, 5, 5)


def test_an_example_of_batch_4_gives_a_graph_for_every_batch() -> None:
    module = Calls(lambda x: x.view(x.shape[0], -1).softmax(1))
    graph = trace(module, torch.randn(4, 3, 2))
    compare(graph, module, [torch.randn(4, 3, 2)], (1, 2, 4, 7))


def test_reshape_holds_minus_one_where_the_batch_is() -> None:
    graph = agrees(lambda x: x.view(x.shape[0], 2, -1), [torch.randn(1, 4, 6)])
    assert [op.attrs["shape"] for op in graph.find("nn.reshape")] == [(-1, 2, 12)]


def test_without_batch_every_size_is_static() -> None:
    graph = trace(Calls(lambda x: x.view(x.shape[0], -1)), torch.randn(1, 3, 2), batch=False)
    assert graph.batched == set()
    with pytest.raises(TersorError, match="static batch"):
        graph.at(3)


def test_inputs_that_do_not_carry_the_batch() -> None:
    x, scale, table, flag = torch.randn(1, 3, 4), torch.tensor(2.0), torch.randn(5, 4), torch.randn(7)
    module = Calls(lambda x, s, t, f: F.linear(x * s, t) + f.sum())
    graph = agrees(module, [x, scale, table, flag])
    assert graph.batched == {"args_0"}


def test_an_input_of_leading_size_one_that_is_not_the_batch() -> None:
    # both have dimension 0 of size 1 in the example, but only one can grow with the batch
    graph = agrees(lambda x, scale: x * scale, [torch.randn(1, 3, 4), torch.randn(1)])
    assert graph.batched == {"args_0"}


def test_two_batched_inputs_share_the_batch() -> None:
    graph = agrees(lambda x, y: torch.cat([x.mean(2), y], 1), [torch.randn(1, 3, 4), torch.randn(1, 6)])
    assert graph.batched == {"args_0", "args_1"}


def test_a_shape_may_hold_the_batch_off_the_first_axis_and_twice() -> None:
    agrees(lambda x: x @ x.t() + x.new_ones(x.shape[0], x.shape[0]) + x[:, 0].expand(x.shape[0], -1), [torch.randn(1, 6)])


STATIC: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "view of fixed size": (lambda x: x.view(2, -1), r"specialized it to be a constant \(2\)"),
    "divided by the batch": (lambda x: x / x.shape[0], r"aten\.div\.Tensor computes with the batch size \[.*\.py:\d+\]"),
    "counted": (lambda x: x + torch.arange(x.shape[0])[:, None], r"makes a tensor from the batch size"),
    "squeezed": (lambda x: x[:, :1].squeeze(), r"aten\.squeeze\.default removes the batch dimension at batch 1 only"),
    "last example": (lambda x: x[-1], r"aten\.select\.int works along the batch"),
    "cut": (lambda x: x[:2] * 2, r"aten\.slice\.Tensor works along the batch"),
    "flipped": (lambda x: x.flip(0), r"aten\.flip\.default works along the batch"),
    "rolled": (lambda x: x.roll(1, 0), r"aten\.roll\.default works along the batch"),
    "rolled flat": (lambda x: x.roll(1), r"aten\.roll\.default moves elements across the batch"),
    "padded": (lambda x: F.pad(x, (0, 0, 1, 0)), r"aten\.pad\.default works along the batch"),
    "unbiased variance": (lambda x: x.var(0), r"aten\.var\.dim divides by the batch size less 1"),
    "only even": (lambda x: x * (2 if x.shape[0] % 2 == 0 else 3), r"Not all values of batch .* satisfy the generated guard"),
    "returned": (lambda x: x.new_zeros(x.shape[0] * 2, 3), r"aten\.new_zeros\.default expands to the batch"),
}


@pytest.mark.parametrize("name", STATIC)
def test_a_model_that_fixes_its_batch_is_traced_at_the_examples_batch_with_the_reason(name: str) -> None:
    function, why = STATIC[name]
    module = Calls(function)
    x = torch.randn(2, 6)
    with pytest.warns(UserWarning, match=rf"Calls is traced at the example's batch only: .*{why}"):
        graph = trace(module, x)
    assert graph.batched == set()
    compare(graph, module, [x], (2,))


def test_a_converter_that_holds_the_batch_is_found_out() -> None:
    from tersor.frontend import converter
    from tersor.frontend.registry import CONVERTERS
    from tersor.ir.ops import Reshape

    name = "aten.flatten.using_ints"
    before = CONVERTERS[name]
    try:
        converter(name)(lambda call, x, *dims: Reshape(x, call.sizes))
        with pytest.warns(UserWarning, match="does not hold for another batch|has shape"):
            graph = trace(nn.Flatten(), torch.randn(1, 3, 4))
    finally:
        CONVERTERS[name] = before
    assert graph.batched == set()


def test_no_warning_for_a_plain_model() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trace(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(16, 2)), torch.randn(1, 3, 2, 2))
