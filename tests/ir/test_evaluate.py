"""The interpreter: memory, oracles in float64, observers, and calls by a user."""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
import weakref
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from op_cases import rand

from tersor.ir import Const, Graph, Loc, Op, Tensor, TersorError, Value
from tersor.ir.evaluate import at_batch_of, evaluate, to_numpy, to_torch
from tersor.ir.ops import Add, Concat, Conv2d, Linear, Mul, Relu, Reshape, Slice

W = rand(4, 3, 3, 3).astype(np.float32)
B = rand(4).astype(np.float32)


def small(batched: bool = True) -> Graph:
    """flatten(relu(conv(image) + bias) * 0.1)"""
    graph = Graph("small")
    x = graph.add_input(Tensor((1, 3, 6, 6)), "image", batched)
    y = Relu(Conv2d(x, Const(W), Const(B), padding=(1, 1, 1, 1)))
    graph.set_outputs([graph.add(Reshape(Mul(y, Const(np.float32(0.5))), (-1, 144) if batched else (1, 144)))])
    return graph


def small_oracle(x: torch.Tensor) -> torch.Tensor:
    w, b = (torch.from_numpy(a).to(x.dtype) for a in (W, B))
    return (F.conv2d(x, w, b, padding=1).relu() * 0.5).flatten(1)


def two_inputs(structure: Any) -> Graph:
    graph = Graph("pair")
    a = graph.add_input(Tensor((1, 4)), "a", True)
    b = graph.add_input(Tensor((1, 4)), "b", True)
    graph.set_outputs([graph.add(Add(a, b)), graph.add(Mul(a, b))], ["sum", "product"], structure)
    return graph


# -- evaluate ----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
def test_float64_widens_constants_and_inputs(batch: int) -> None:
    x = torch.from_numpy(rand(batch, 3, 6, 6))
    (got,) = evaluate(small().at(batch), [x.float()], dtype=torch.float64)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, small_oracle(x), rtol=1e-13, atol=1e-13)


def test_without_dtype_the_graph_computes_in_its_own() -> None:
    x = torch.from_numpy(rand(1, 3, 6, 6)).float()
    (got,) = evaluate(small(), [x])
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, small_oracle(x))


def test_gradients_flow() -> None:
    x = torch.from_numpy(rand(1, 3, 6, 6)).requires_grad_()
    (got,) = evaluate(small(), [x], dtype=torch.float64)
    (grad,) = torch.autograd.grad(got.square().sum(), [x])
    (expected,) = torch.autograd.grad(small_oracle(x).square().sum(), [x])
    torch.testing.assert_close(grad, expected)


def test_observe_sees_every_op_but_constants() -> None:
    seen: list[tuple[str, tuple[int, ...]]] = []
    evaluate(small(), [torch.zeros(1, 3, 6, 6)], observe=lambda op, y: seen.append((op.name, tuple(y.shape))))
    assert seen == [("nn.conv2d", (1, 4, 6, 6)), ("nn.relu", (1, 4, 6, 6)), ("nn.mul", (1, 4, 6, 6)), ("nn.reshape", (1, 144))]


def test_values_are_freed_after_their_last_use() -> None:
    graph = Graph()
    x = graph.add_input(Tensor((8,)), "x")
    held = first = graph.add(Add(x, x))
    for _ in range(6):
        held = graph.add(Add(held, held))
    for _ in range(3):
        graph.add(Relu(first))
    graph.set_outputs([graph.add(Add(held, first))])
    alive: list[weakref.ref[torch.Tensor]] = []
    counts: list[int] = []

    def observe(_: Op, y: torch.Tensor) -> None:
        alive.append(weakref.ref(y))
        counts.append(sum(r() is not None for r in alive))

    evaluate(graph, [torch.ones(8)], observe=observe)
    # the first sum, which the last op reads, the operand of this op, and its result
    assert max(counts) == 3
    assert sum(r() is not None for r in alive) == 0


def test_unread_inputs_ops_and_passed_through_inputs() -> None:
    graph = Graph()
    x = graph.add_input(Tensor((2,)), "x")
    graph.add_input(Tensor((2,)), "unread")
    graph.add(Relu(x))
    graph.set_outputs([x, x, graph.add(Const(np.arange(2)))])
    a, b, c = evaluate(graph, [torch.ones(2), torch.zeros(2)])
    assert a is b and a.tolist() == [1.0, 1.0] and c.tolist() == [0, 1]


def test_list_operands_and_optional_operands() -> None:
    graph = Graph()
    x = graph.add_input(Tensor((2, 4)), "x")
    parts = [Slice(x, 1, 0, 2).out, Slice(x, 1, 2, 4).out]
    graph.set_outputs([graph.add(Linear(Concat([parts[1], x, parts[0]], 1), Const(np.eye(8, dtype=np.float32))))])
    t = torch.arange(8.0).reshape(2, 4)
    assert torch.equal(evaluate(graph, [t])[0], torch.cat([t[:, 2:], t, t[:, :2]], 1))


class SumAndDifference(Op, name="test.sum_and_difference"):
    """An op with two results."""

    a: Value
    b: Value

    def infer_all(self) -> list[Tensor]:
        return [self.a.type, self.a.type]

    def evaluate(self, *xs: Any) -> Any:
        return xs[0] + xs[1], xs[0] - xs[1]


def test_ops_with_several_results() -> None:
    graph = Graph()
    a, b = graph.add_input(Tensor((2,)), "a"), graph.add_input(Tensor((2,)), "b")
    op = SumAndDifference(a, b)
    graph.add(op)
    graph.set_outputs([op.outs[1], graph.add(Mul(op.outs[0], op.outs[1]))])
    seen: list[list[float]] = []
    difference, product = evaluate(graph, [torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0])], observe=lambda _, y: seen.append(y.tolist()))
    assert difference.tolist() == [2.0, 0.0] and product.tolist() == [8.0, 0.0]
    assert seen == [[4.0, 2.0], [2.0, 0.0], [8.0, 0.0]]


def test_a_failing_op_is_named() -> None:
    graph = Graph()
    x = graph.add_input(Tensor((2, 3)), "x")
    graph.set_outputs([graph.add(Reshape(x, (6,), loc=Loc("head.flatten", "net.py", 7)))])
    with pytest.raises(RuntimeError) as caught:
        evaluate(graph, [torch.zeros(5)])
    assert caught.value.__notes__ == ["while evaluating nn.reshape [head.flatten at net.py:7]"]


def test_the_number_of_inputs_is_checked() -> None:
    with pytest.raises(TersorError, match=r"pair takes 2 inputs \(a, b\), got 1"):
        evaluate(two_inputs(None), [torch.zeros(1, 4)])


# -- arrays ------------------------------------------------------------------------------------

DTYPES = [np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_go_to_torch_and_back_without_a_copy(dtype: Any) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = to_torch(array)
    assert tensor.data_ptr() == array.ctypes.data
    assert str(tensor.dtype).removeprefix("torch.") == array.dtype.name
    back = to_numpy(tensor)
    assert back.dtype == array.dtype and back.ctypes.data == array.ctypes.data
    np.testing.assert_array_equal(back, array)
    assert not array.flags.writeable


@pytest.mark.parametrize("view", [np.s_[:, ::2], np.s_[::-1], np.s_[1:1], np.s_[0, 0], np.s_[...]])
def test_strided_negative_empty_and_scalar_arrays(view: Any) -> None:
    base = np.arange(12.0).reshape(3, 4)
    base.flags.writeable = False
    array = np.asarray(base[view])
    assert to_torch(array).shape == array.shape
    np.testing.assert_array_equal(to_torch(array).numpy(), array)


def test_transposed_bfloat16() -> None:
    array = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16).T
    assert to_torch(array).tolist() == array.astype(np.float32).tolist()


def test_the_array_lives_as_long_as_the_tensor() -> None:
    array = np.full(1000, 7.0)
    array.flags.writeable = False
    tensor = to_torch(array)
    death = weakref.ref(array)
    del array
    gc.collect()
    assert death() is not None and tensor.sum().item() == 7000.0
    del tensor
    gc.collect()
    assert death() is None


def test_to_numpy_detaches() -> None:
    assert to_numpy(torch.ones(2, requires_grad=True)).tolist() == [1.0, 1.0]


# -- calls -------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_call_gives_back_the_kind_it_got(batch: int) -> None:
    graph, x = small(), rand(batch, 3, 6, 6).astype(np.float32)
    expected = small_oracle(torch.from_numpy(x))
    for got in (graph(torch.from_numpy(x)), graph(image=torch.from_numpy(x))):
        assert isinstance(got, torch.Tensor) and not got.requires_grad
        torch.testing.assert_close(got, expected)
    got = graph(x)
    assert isinstance(got, np.ndarray)
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_call_records_no_gradients() -> None:
    assert not small()(torch.zeros(1, 3, 6, 6, requires_grad=True)).requires_grad


@pytest.mark.parametrize(
    ("structure", "expected"),
    [
        (None, ([4.0], [3.0])),
        (1, [3.0]),
        ((1, 0), ([3.0], [4.0])),
        ([0], [[4.0]]),
        ({"p": 1, "both": (0, [1])}, {"p": [3.0], "both": ([4.0], [[3.0]])}),
    ],
)
def test_call_returns_the_models_structure(structure: Any, expected: Any) -> None:
    def plain(y: Any) -> Any:
        if isinstance(y, dict):
            return {k: plain(v) for k, v in y.items()}
        return type(y)(plain(v) for v in y) if isinstance(y, (list, tuple)) else y[0, :1].tolist()

    graph = two_inputs(structure)
    got = graph(torch.full((2, 4), 1.0), b=torch.full((2, 4), 3.0))
    assert plain(got) == expected


def test_mixed_kinds_give_torch() -> None:
    assert isinstance(two_inputs(0)(np.ones((1, 4), np.float32), torch.ones(1, 4)), torch.Tensor)


def test_bfloat16_arrays() -> None:
    graph = Graph()
    x = graph.add_input(Tensor((2,), "bf16"), "x")
    graph.set_outputs([graph.add(Add(x, Const(np.array([1, 2], ml_dtypes.bfloat16))))])
    got = graph(np.array([0.5, 0.25], ml_dtypes.bfloat16))
    assert got.dtype == ml_dtypes.bfloat16 and got.tolist() == [1.5, 2.25]


@pytest.mark.parametrize(
    ("inputs", "named", "message"),
    [
        ((), {}, r"small is missing input 'image'; inputs: image: f32\[batch, 3, 6, 6\]"),
        ((np.zeros((1, 3, 6, 6), np.float32),) * 2, {}, r"small takes 1 inputs \(image: f32\[batch, 3, 6, 6\]\), got 2"),
        ((), {"img": 0}, r"small has no input 'img'; inputs: image"),
        ((np.zeros((1, 3, 6, 6), np.float32),), {"image": 0}, r"small got input 'image' twice, by position and by name"),
        (([1.0],), {}, r"input 'image' of small must be a torch tensor or a numpy array, got list"),
        ((np.zeros((1, 3, 6, 6)),), {}, r"must be f32\[batch, 3, 6, 6\] \(float32\), got dtype float64"),
        ((torch.zeros(1, 3, 6, 6, dtype=torch.int64),), {}, r"\(torch.float32\), got dtype torch.int64"),
        ((torch.zeros(2, 3, 6, 7),), {}, r"must be f32\[batch, 3, 6, 6\], got shape \[2, 3, 6, 7\]"),
        ((torch.zeros(3, 6, 6),), {}, r"got shape \[3, 6, 6\]"),
        ((torch.zeros(()),), {}, r"got shape \[\]"),
        ((torch.zeros(0, 3, 6, 6),), {}, r"got shape \[0, 3, 6, 6\]"),
    ],
)
def test_wrong_calls(inputs: Any, named: Any, message: str) -> None:
    with pytest.raises(TersorError, match=message) as caught:
        small()(*inputs, **named)
    assert "\n" not in str(caught.value)


def test_a_static_batch_is_not_free() -> None:
    with pytest.raises(TersorError, match=r"must be f32\[1, 3, 6, 6\], got shape \[2, 3, 6, 6\]"):
        small(batched=False)(torch.zeros(2, 3, 6, 6))


def test_batched_inputs_share_their_batch() -> None:
    with pytest.raises(TersorError, match=r"batched inputs of pair must share one batch, got a: 2, b: 3"):
        two_inputs(None)(torch.zeros(2, 4), torch.zeros(3, 4))


def test_copies_at_a_batch_are_kept_until_the_graph_changes() -> None:
    graph = small()
    x = torch.zeros(3, 3, 6, 6)
    assert at_batch_of(graph, [x[:1]]) is graph
    three = at_batch_of(graph, [x])
    assert three is at_batch_of(graph, [x]) and three.inputs[0].shape == (3, 3, 6, 6)
    assert at_batch_of(graph, [x[:2]]) is not three and at_batch_of(graph, [x]) is three


def test_a_changed_graph_is_seen_at_every_batch() -> None:
    x = torch.ones(2, 4)
    graph = Graph()
    v = graph.add_input(Tensor((1, 4)), "x", True)
    scale = Const(np.float32(2))
    product = Mul(v, scale)
    graph.set_outputs([graph.add(product)])
    assert graph(x)[0, 0] == 2
    scale.array = np.float32(3)  # written back by a trainer
    assert graph(x)[0, 0] == 3
    product.replace_operand(scale.out, graph.insert_before(product, Const(np.float32(4))))
    assert graph(x)[0, 0] == 4
    product.replace_operand(v, product.b)
    assert graph(x) == 16
    graph.replace(product, Add(v, v))
    assert graph(x)[0, 0] == 2
    graph.set_outputs([v])
    assert graph(x)[0, 0] == 1


def test_a_graph_that_was_called_is_freed() -> None:
    graph = small()
    graph(torch.zeros(3, 3, 6, 6))
    death = weakref.ref(graph)
    del graph
    gc.collect()
    assert death() is None


def test_importing_the_ir_loads_no_torch() -> None:
    code = "import sys, tersor.ir, tersor.ir.evaluate; sys.exit('torch' in sys.modules or 'tvm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
