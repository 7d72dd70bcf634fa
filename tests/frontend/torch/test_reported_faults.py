"""Kinds of fault that public reports led to: threads that trace at once, indexes from data, numbers read from tensors, masks that leave nothing."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from frontend_checks import Calls, agrees
from torch import nn

import tersor
from tersor.ir.errors import TersorError, UnsupportedError

NAN, INF = math.nan, math.inf


def test_threads_that_trace_at_once_wait_for_each_other() -> None:
    wrong: list[BaseException] = []

    def work(width: int) -> None:
        layer, x = nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, 3)).eval(), torch.randn(2, 5)
        try:
            graph = tersor.trace(layer, (x,))
            with torch.no_grad():
                torch.testing.assert_close(graph(x), layer(x))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(width,)) for width in (4, 8, 16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("function", [lambda x: x.max().item(), lambda x: (x, {"n": x.sum().item()}), lambda x: bool(x[0, 0].item() > 1) or x.item()])
@pytest.mark.parametrize("x", [torch.tensor([[3, 5]]), torch.tensor([[0.5, 2.5]])], ids=["integers", "floats"])
def test_the_value_of_a_tensor_as_a_number_is_refused_by_a_sentence(function: Any, x: torch.Tensor) -> None:
    with pytest.raises(TersorError, match=r"Calls.forward|cannot trace Calls"):
        tersor.trace(Calls(function).eval(), (x,))


def test_a_returned_number_is_named_with_its_place() -> None:
    with pytest.raises(UnsupportedError, match=r"returns the value of a tensor as a Python number in its result\[1\]\['n'\]; return the tensor"):
        tersor.trace(Calls(lambda x: (x, {"n": x.sum().item()})).eval(), (torch.tensor([[3, 5]]),))


def test_a_tensor_made_of_a_number_that_was_a_tensor() -> None:
    with pytest.raises(UnsupportedError, match=r"aten\.scalar_tensor\.default .*as a Python number; keep it a tensor"):
        tersor.trace(Calls(lambda x: torch.tensor(x.max().item())).eval(), (torch.tensor([[3, 5]]),))


INDEXED = {
    "embedding": (lambda table, i: F.embedding(i, table), False),
    "index_select": (lambda x, i: x.index_select(1, i[0]), False),
    "x[:, i]": (lambda x, i: x[:, i], True),
}


@pytest.mark.parametrize("name", list(INDEXED))
@pytest.mark.parametrize("value", [13, 50_000_000, -14, -1])
def test_the_interpreter_names_an_index_out_of_range(name: str, value: int) -> None:
    function, wraps = INDEXED[name]
    graph = tersor.trace(Calls(function).eval(), (torch.randn(13, 13), torch.tensor([[1, 2, 3]])), input_names=["x", "places"])
    given = torch.tensor([[1, value, 3]])
    if wraps and value == -1:
        torch.testing.assert_close(graph(torch.eye(13), given), torch.eye(13)[:, given])
        return
    what = "an index computed from input 'places'" if wraps else "input 'places'"
    with pytest.raises(TersorError, match=rf"main: {what} holds {value}, expected 0 to 12, for nn\.index_select \[.*\.py:\d+\]"):
        graph(torch.eye(13), given)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_negative_indexes_count_from_the_end(dtype: torch.dtype) -> None:
    index = torch.tensor([1, 25, 2, 0] if dtype == torch.uint8 else [1, -1, 2, -26]).to(dtype)
    x = torch.arange(26.0).reshape(1, 26)
    graph = tersor.trace(Calls(lambda x, i: x[:, i.long()]).eval(), (x, index))
    for run in (graph, tersor.compile(graph)):
        torch.testing.assert_close(run(x, index), x[:, index.long()])


def masked(kind: str) -> torch.Tensor:
    mask = torch.ones(1, 1, 4, 5, dtype=torch.bool)
    mask[..., 2, :] = False
    mask[..., 0, 3:] = False
    return mask if kind == "bool" else torch.zeros(1, 1, 4, 5).masked_fill(~mask, -INF)


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_attention_whose_mask_leaves_a_row_nothing_is_zero_there(kind: str) -> None:
    q, k, v = (torch.randn(1, 2, n, 8, generator=torch.Generator().manual_seed(n)) for n in (4, 5, 5))
    graph = tersor.trace(Calls(F.scaled_dot_product_attention).eval(), (q, k, v, masked(kind)))
    wanted = F.scaled_dot_product_attention(q, k, v, masked(kind))
    assert (wanted[:, :, 2] == 0).all()
    for run in (graph, tersor.compile(graph)):
        torch.testing.assert_close(run(q, k, v, masked(kind)), wanted)
    held = agrees(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, masked(kind)), (q, k, v))
    assert any(op.name == "nn.where" and op.out is held.outputs[0] for op in held.ops)


def test_attention_with_a_constant_mask_that_leaves_each_row_something_needs_no_choice() -> None:
    q, k, v = (torch.randn(1, 2, 5, 8) for _ in range(3))
    graph = agrees(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.ones(5, 5).tril().log()), (q, k, v))
    assert "nn.where" not in {op.name for op in graph.ops}


def test_a_product_with_beta_zero_does_not_read_its_bias() -> None:
    agrees(lambda b, x, y: torch.addmm(b, x, y, beta=0), [torch.full((2, 3), NAN), torch.randn(2, 4), torch.randn(4, 3)])
