"""Matrix products, normalizations and reductions against torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from op_cases import check, ints, rand, refuses, value_of

from tersor.ir import Tensor
from tersor.ir import ops as o


@pytest.mark.parametrize("lead", [(3,), (3, 4), (3, 2, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(lead: tuple[int, ...], bias: bool) -> None:
    op = check(o.Linear, [rand(*lead, 7), rand(5, 7), rand(5) if bias else None], F.linear)
    assert op.macs() == 35 * np.prod(lead) // 3


@pytest.mark.parametrize(("a", "b"), [((3, 4, 5), (3, 5, 6)), ((3, 4, 5), (5, 6)), ((3, 1, 4, 5), (2, 5, 1)), ((3, 5), (5, 2))])
def test_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    batched = len(b) < 3 or b[0] != 3
    op = check(o.Matmul, [rand(*a), rand(*b, seed=1)], torch.matmul, batched=batched)
    assert op.macs() == np.prod(op.out.shape) * a[-1]


def test_matmul_macs() -> None:
    assert o.Matmul(value_of((8, 1, 16, 32)), value_of((4, 32, 10))).macs() == 8 * 4 * 16 * 32 * 10


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (3, 4), (3, 4, 7)])
@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_batch_norm(shape: tuple[int, ...], eps: float) -> None:
    operands = [rand(*shape), rand(4), rand(4, seed=1), rand(4, seed=2), rand(4, seed=3, low=0.001, high=2.0)]

    def oracle(x: torch.Tensor, g: torch.Tensor, b: torch.Tensor, m: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        # F.batch_norm is the value; it refuses gradients of its statistics, which the paper's formula has
        column = (-1, *[1] * (x.dim() - 2))
        y = (x - m.reshape(column)) / (v.reshape(column) + eps).sqrt() * g.reshape(column) + b.reshape(column)
        torch.testing.assert_close(y, F.batch_norm(x.detach(), m.detach(), v.detach(), g.detach(), b.detach(), eps=eps))
        return y

    check(o.BatchNorm, operands, oracle, tolerance=1e-11, eps=eps)


@pytest.mark.parametrize("affine", ["both", "gamma", "none"])
@pytest.mark.parametrize(("shape", "axes"), [((3, 4, 6), 1), ((3, 4, 6), 2), ((3, 5), 1)])
def test_layer_norm(shape: tuple[int, ...], axes: int, affine: str) -> None:
    tail = shape[-axes:]
    operands = [rand(*shape), None if affine == "none" else rand(*tail, seed=1), rand(*tail, seed=2) if affine == "both" else None]
    check(o.LayerNorm, operands, lambda x, g, b: F.layer_norm(x, tail, g, b, 1e-6), axes=axes, eps=1e-6)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("groups", "shape"), [(1, (3, 6, 4, 5)), (2, (3, 6, 4, 5)), (3, (3, 6, 7)), (6, (3, 6, 4, 5))])
def test_group_norm(groups: int, shape: tuple[int, ...], affine: bool) -> None:
    operands = [rand(*shape), rand(6) if affine else None, rand(6, seed=1) if affine else None]
    check(o.GroupNorm, operands, lambda x, g, b: F.group_norm(x, groups, g, b, 1e-4), groups=groups, eps=1e-4)
    if groups == 6:
        check(o.GroupNorm, operands, lambda x, g, b: F.instance_norm(x, None, None, g, b, True, 0.1, 1e-4), groups=6, eps=1e-4)


def test_group_norm_of_one_value_is_beta() -> None:
    got = o.GroupNorm(value_of((1, 2, 1, 1)), groups=2).evaluate(torch.full((1, 2, 1, 1), 5.0), None, torch.tensor([1.0, 2.0]))
    assert got.flatten().tolist() == pytest.approx([1.0, 2.0], abs=1e-3)


def test_product_refusals() -> None:
    x, w = value_of((2, 7)), value_of((5, 7))
    refuses(r"x must end in the 6 columns of w, got x \[2, 7\] and w \[5, 6\]", o.Linear, x, value_of((5, 6)))
    refuses(r"w must be 2-d \(N, K\)", o.Linear, x, value_of((7,)))
    refuses(r"b must have shape \[5\], got \[7\]", o.Linear, x, w, value_of((7,)))
    refuses(r"x and w must hold the same element type", o.Linear, x, value_of((5, 7), "f64"))
    refuses(r"x must hold f16", o.Linear, value_of((2, 7), "i64"), w)
    refuses(r"operands must be \(..., M, K\) and \(..., K, N\), got \[2, 7\] and \[5, 7\]", o.Matmul, x, w)
    refuses(r"operands must be", o.Matmul, x, value_of((7,)))
    refuses(r"operands must broadcast together", o.Matmul, value_of((2, 4, 7)), value_of((3, 7, 4)))


def test_norm_refusals() -> None:
    x, four, three = value_of((1, 4, 6)), value_of((4,)), value_of((3,))
    refuses(r"mean must have shape \[4\], got \[3\]", o.BatchNorm, x, four, four, three, four)
    refuses(r"x must be \(N, C, ...\), got shape \[4\]", o.BatchNorm, four, four, four, four, four)
    refuses(r"x and var must hold the same element type", o.BatchNorm, x, four, four, four, value_of((4,), "f64"))
    refuses(r"gamma must have shape \[4, 6\], got \[4\]", o.LayerNorm, x, four, axes=2)
    refuses(r"axes must be from 1 to 3, got 4", o.LayerNorm, x, axes=4)
    refuses(r"C a multiple of the 3 groups, got shape \[1, 4, 6\]", o.GroupNorm, x, groups=3)
    refuses(r"beta must have shape \[4\], got \[3\]", o.GroupNorm, x, four, three, groups=2)


REDUCTIONS = [
    (o.Mean, lambda x, axes, keep: x.mean(axes, keep)),
    (o.Sum, lambda x, axes, keep: x.sum(axes, keep)),
    (o.ReduceMax, lambda x, axes, keep: x.amax(axes, keep)),
    (o.ReduceMin, lambda x, axes, keep: x.amin(axes, keep)),
]


@pytest.mark.parametrize(("kind", "oracle"), REDUCTIONS, ids=lambda p: getattr(p, "name", None))
@pytest.mark.parametrize("keepdim", [True, False])
@pytest.mark.parametrize("axes", [(2, 3), (1,), (3,), (0, 2), (0, 1, 2, 3)])
def test_reductions(kind: Any, oracle: Any, axes: tuple[int, ...], keepdim: bool) -> None:
    check(kind, [rand(3, 4, 5, 6)], lambda x: oracle(x, axes, keepdim), axes=axes, keepdim=keepdim)


@pytest.mark.parametrize("keepdim", [True, False])
@pytest.mark.parametrize("axes", [(1,), (1, 2), (0, 2)])
def test_prod(axes: tuple[int, ...], keepdim: bool) -> None:
    x = rand(3, 2, 4)

    def oracle(t: torch.Tensor) -> torch.Tensor:
        # torch multiplies over one axis at a time
        for axis in axes:
            t = t.prod(axis, True)
        return t if keepdim else t.squeeze(axes)

    check(o.Prod, [x], oracle, axes=axes, keepdim=keepdim)
    np.testing.assert_allclose(oracle(torch.from_numpy(x)).numpy(), np.prod(x, axis=axes, keepdims=keepdim))


@pytest.mark.parametrize("kind", [o.Mean, o.Sum, o.Prod, o.ReduceMax, o.ReduceMin])
def test_no_axes_reduce_nothing(kind: Any) -> None:
    check(kind, [rand(3, 4)], lambda x: x.clone(), axes=())


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int64", "bool"])
def test_reductions_of_integers(dtype: str) -> None:
    x = ints(3, 4, 5, low=0, high=4, dtype=dtype)
    check(o.Sum, [x], lambda t: t.sum((1, 2)), axes=(1, 2))
    check(o.Prod, [x], lambda t: t.prod(1), axes=(1,))
    check(o.Sum, [x], torch.Tensor.long, axes=())
    check(o.Prod, [x], torch.Tensor.long, axes=())
    check(o.CumSum, [x], lambda t: t.cumsum(1), axis=1)
    check(o.ReduceMax, [x], lambda t: t.amax((1, 2)), axes=(1, 2))
    check(o.ReduceMin, [x], lambda t: t.amin((1,)), axes=(1,))
    assert o.Sum(value_of((2, 3), "i32"), (1,)).out.type == Tensor((2,), "i64")


@pytest.mark.parametrize("keepdim", [True, False])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_arg_reductions(axis: int, keepdim: bool) -> None:
    x = ints(3, 5, 6, high=-2, dtype="float64")
    expected = {kind: fn(x, axis=axis, keepdims=keepdim) for kind, fn in ((o.ArgMax, np.argmax), (o.ArgMin, np.argmin))}
    for kind, want in expected.items():
        # many ties: numpy takes the first
        check(kind, [x], lambda t, want=want: torch.from_numpy(want), axis=axis, keepdim=keepdim, batched=False)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_along_an_axis(axis: int) -> None:
    x = 5 * rand(3, 4, 5)
    check(o.Softmax, [x], lambda t: F.softmax(t, axis), axis=axis)
    check(o.LogSoftmax, [x], lambda t: F.log_softmax(t, axis), axis=axis)
    check(o.CumSum, [x], lambda t: torch.cumsum(t, axis), axis=axis)


def test_softmax_of_large_values_does_not_overflow() -> None:
    assert o.Softmax(value_of((1, 2)), 1).evaluate(torch.tensor([[1e4, 1e4]])).tolist() == [[0.5, 0.5]]


def test_reduction_refusals() -> None:
    x = value_of((2, 3, 4))
    for axes in ((3,), (-1,), (1, 0), (1, 1)):
        refuses(r"axes must ascend within 0 to 2, got", o.Mean, x, axes)
    refuses(r"x must hold f16", o.Mean, value_of((2, 3), "i64"), (1,))
    refuses(r"axis must be from 0 to 2, got 3", o.ArgMax, x, 3)
    refuses(r"axis must be from 0 to 2, got -1", o.Softmax, x, -1)
    refuses(r"axis must be from 0 to 2, got 3", o.CumSum, x, 3)
    refuses(r"x must hold f16", o.Softmax, value_of((2, 3), "i64"), 1)
    refuses(r"x must hold i8", o.ArgMin, value_of((2, 3), "bool"), 1)
