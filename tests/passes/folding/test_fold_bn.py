"""fold-bn against the eager torch module in float64, in every case it folds, and in every case it must not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pass_cases import body, error64, graph_of, names, refusal

from tersor.ir import Const, Graph, Loc, Op, Value
from tersor.ir import ops as nn
from tersor.ir.rewrite import Rewrite, Trace
from tersor.passes import transform
from tersor.passes.folding.fold_bn import bn_to_scale_shift, fold_bn, fold_bn_forward

torch.manual_seed(0)


def const(p: torch.Tensor | None) -> Value | None:
    return None if p is None else Const(p.detach().float().numpy()).out


def random_bn(channels: int, kind: Any = torch.nn.BatchNorm2d, shift: bool = True) -> Any:
    """An eval-mode norm in float64 with float32 numbers, negative gammas among them; without shift, beta = mean * k exactly."""
    bn = kind(channels).double().eval()
    generator = torch.Generator().manual_seed(channels)
    bn.weight.data = torch.empty(channels, dtype=torch.float64).uniform_(-2, 2, generator=generator).float().double()
    bn.running_var = torch.empty(channels, dtype=torch.float64).uniform_(0.01, 3, generator=generator).float().double()
    if shift:
        bn.bias.data = torch.randn(channels, generator=generator).double()
        bn.running_mean = torch.randn(channels, generator=generator).double()
    return bn


def add_bn(x: Value | Op, bn: Any, loc: Loc | None = None) -> nn.BatchNorm:
    return nn.BatchNorm(x, const(bn.weight), const(bn.bias), const(bn.running_mean), const(bn.running_var), bn.eps, loc=loc)


def add_layer(x: Value | Op, m: Any, loc: Loc | None = None) -> Op:
    if isinstance(m, torch.nn.Linear):
        return nn.Linear(x, const(m.weight), const(m.bias), loc=loc)
    if isinstance(m, torch.nn.ConvTranspose2d):
        geometry = {"padding": m.padding, "output_padding": m.output_padding}
        return nn.ConvTranspose2d(x, const(m.weight), const(m.bias), stride=m.stride, dilation=m.dilation, groups=m.groups, loc=loc, **geometry)
    (h, w) = m.padding
    return nn.Conv2d(x, const(m.weight), const(m.bias), m.stride, (h, h, w, w), m.dilation, m.groups, loc=loc)


def rounded(m: Any) -> Any:
    """The module in float64 with float32 numbers."""
    return m.float().double().eval()


def check(build: Callable[[Any], Any], eager: Callable[..., torch.Tensor], shape: tuple[int, ...], left: list[str]) -> Graph:
    """Fold; compare with eager torch at two batch sizes within 1e-6."""
    graph = graph_of(build, shape)
    text = str(graph)
    after = transform(graph, "fold-bn")
    assert str(graph) == text
    assert names(after) == left
    for batch in (1, 3):
        x = torch.randn(batch, *shape[1:])
        assert error64(eager, after.at(batch), [x]) < 1e-6
    return after


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_conv_of_any_geometry(data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from([1, 2, 3, 4]))
    c_in, c_out = (groups * data.draw(st.integers(1, 4)) for _ in range(2))
    kernel, stride, dilation = (tuple(data.draw(st.integers(1, 3)) for _ in range(2)) for _ in range(3))
    padding = tuple(data.draw(st.integers(0, 2)) for _ in range(2))
    bias = data.draw(st.booleans())
    conv = rounded(torch.nn.Conv2d(c_in, c_out, kernel, stride, padding, dilation, groups, bias))
    bn = random_bn(c_out)
    check(lambda x: add_bn(add_layer(x, conv), bn), torch.nn.Sequential(conv, bn), (1, c_in, 9, 8), ["conv2d"])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_transposed_conv_of_any_geometry(data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from([1, 2, 3]))
    c_in, c_out = (groups * data.draw(st.integers(1, 3)) for _ in range(2))
    kernel, stride, dilation = (tuple(data.draw(st.integers(1, 3)) for _ in range(2)) for _ in range(3))
    padding = tuple(data.draw(st.integers(0, 1)) for _ in range(2))
    extra = tuple(data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation))
    assume(all(4 * s - 2 * p + d * (k - 1) + e + 1 >= 1 for s, p, d, k, e in zip(stride, padding, dilation, kernel, extra)))
    conv = rounded(torch.nn.ConvTranspose2d(c_in, c_out, kernel, stride, padding, extra, groups, data.draw(st.booleans()), dilation))
    bn = random_bn(c_out)
    check(lambda x: add_bn(add_layer(x, conv), bn), torch.nn.Sequential(conv, bn), (1, c_in, 5, 5), ["conv_transpose2d"])


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_before_an_unpadded_conv(data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from([1, 2, 3]))
    c_in, c_out = (groups * data.draw(st.integers(1, 4)) for _ in range(2))
    kernel, stride, dilation = (tuple(data.draw(st.integers(1, 3)) for _ in range(2)) for _ in range(3))
    conv = rounded(torch.nn.Conv2d(c_in, c_out, kernel, stride, 0, dilation, groups, data.draw(st.booleans())))
    bn = random_bn(c_in)
    check(lambda x: add_layer(add_bn(x, bn), conv), torch.nn.Sequential(bn, conv), (1, c_in, 9, 8), ["conv2d"])


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias: bool) -> None:
    linear, bn = rounded(torch.nn.Linear(6, 5, bias)), random_bn(5, torch.nn.BatchNorm1d)
    check(lambda x: add_bn(add_layer(x, linear), bn), torch.nn.Sequential(linear, bn), (2, 6), ["linear"])


@pytest.mark.parametrize("bias", [True, False])
def test_before_a_linear_layer(bias: bool) -> None:
    linear, bn = rounded(torch.nn.Linear(6, 5, bias)), random_bn(6, torch.nn.BatchNorm1d)
    check(lambda x: add_layer(add_bn(x, bn), linear), torch.nn.Sequential(bn, linear), (2, 6), ["linear"])


@pytest.mark.parametrize("make", [lambda: torch.nn.Conv2d(4, 6, 3, padding=1, groups=2), lambda: torch.nn.ConvTranspose2d(4, 6, 3, groups=2)])
def test_a_norm_without_shift_folds_into_a_padded_or_transposed_conv_behind_it(make: Callable[[], torch.nn.Module]) -> None:
    layer, bn = rounded(make()), random_bn(4, shift=False)
    left = "conv_transpose2d" if isinstance(layer, torch.nn.ConvTranspose2d) else "conv2d"
    check(lambda x: add_layer(add_bn(x, bn), layer), torch.nn.Sequential(bn, layer), (1, 4, 6, 6), [left])


@pytest.mark.parametrize("make", [lambda: torch.nn.Conv2d(4, 6, 3, padding=(0, 1)), lambda: torch.nn.ConvTranspose2d(4, 6, 3)])
def test_a_shift_before_a_border_of_zeros_stays_outside(make: Callable[[], torch.nn.Module]) -> None:
    layer, bn = rounded(make()), random_bn(4)
    left = ["mul", "add", "conv_transpose2d" if isinstance(layer, torch.nn.ConvTranspose2d) else "conv2d"]
    check(lambda x: add_layer(add_bn(x, bn), layer), torch.nn.Sequential(bn, layer), (1, 4, 6, 6), left)


@pytest.mark.parametrize(("shape", "kind"), [((2, 4), torch.nn.BatchNorm1d), ((2, 4, 5), torch.nn.BatchNorm1d), ((2, 4, 5, 3), torch.nn.BatchNorm2d)])
def test_nothing_to_fold_into_gives_a_scale_shift(shape: tuple[int, ...], kind: Any) -> None:
    bn = random_bn(4, kind)
    after = check(lambda x: add_bn(x, bn), bn, shape, ["mul", "add"])
    assert [op.out.shape for op in after.find(Const)] == [(1, 4, *[1] * (len(shape) - 2))] * 2


def test_between_two_layers_it_folds_into_the_first() -> None:
    a, b, bn = rounded(torch.nn.Conv2d(3, 4, 3)), rounded(torch.nn.Conv2d(4, 5, 1)), random_bn(4)
    after = check(lambda x: add_layer(add_bn(add_layer(x, a), bn), b), torch.nn.Sequential(a, bn, b), (1, 3, 6, 6), ["conv2d", "conv2d"])
    second = after.find(nn.Conv2d)[1]
    assert np.array_equal(second.operands[1].op.array, b.weight.detach().float().numpy())


def test_where_the_first_has_other_readers_it_folds_into_the_second() -> None:
    a, b, bn = rounded(torch.nn.Conv2d(3, 4, 3)), rounded(torch.nn.Conv2d(4, 4, 1)), random_bn(4)

    def build(x: Value) -> Op:
        y = add_layer(x, a)
        return nn.Add(add_layer(add_bn(y, bn), b), y)

    check(build, lambda x: b(bn(a(x))) + a(x), (1, 3, 6, 6), ["conv2d", "conv2d", "add"])


def test_a_conv_with_other_readers_keeps_its_weights() -> None:
    conv, bn = rounded(torch.nn.Conv2d(3, 4, 3, bias=False)), random_bn(4)

    def build(x: Value) -> Op:
        y = add_layer(x, conv)
        return nn.Add(add_bn(y, bn), y)

    check(build, lambda x: bn(conv(x)) + conv(x), (1, 3, 6, 6), ["conv2d", "mul", "add", "add"])


def test_shared_weights_are_copied() -> None:
    conv, one, two = rounded(torch.nn.Conv2d(3, 3, 3, padding=1)), random_bn(3), random_bn(3)
    two.weight.data += 1

    def build(x: Value) -> Op:
        w, b = const(conv.weight), const(conv.bias)
        first = add_bn(nn.Conv2d(x, w, b, padding=(1, 1, 1, 1)), one)
        return nn.Conv2d(add_bn(nn.Conv2d(first, w, b, padding=(1, 1, 1, 1)), two), w, b, padding=(1, 1, 1, 1))

    graph = graph_of(build, (1, 3, 6, 6))
    weights = {id(op): op.array.copy() for op in graph.find(Const)}
    after = check(build, lambda x: conv(two(conv(one(conv(x))))), (1, 3, 6, 6), ["conv2d"] * 3)
    transform(graph, "fold-bn")
    assert all(np.array_equal(op.array, weights[id(op)]) for op in graph.find(Const))
    assert len({id(op.operands[1]) for op in after.find(nn.Conv2d)}) == 3


def test_numbers_are_taken_in_float64_and_rounded_once() -> None:
    conv, bn = rounded(torch.nn.Conv2d(3, 8, 3)), random_bn(8)
    after = transform(graph_of(lambda x: add_bn(add_layer(x, conv), bn), (1, 3, 6, 6)), "fold-bn")
    w, b, gamma, beta, mean, var = (p.detach().numpy() for p in (conv.weight, conv.bias, bn.weight, bn.bias, bn.running_mean, bn.running_var))
    k = gamma / np.sqrt(var + bn.eps)
    folded = after.find(nn.Conv2d)[0]
    assert np.array_equal(folded.w.op.array, (w * k[:, None, None, None]).astype(np.float32))
    assert np.array_equal(folded.b.op.array, (b * k + (beta - mean * k)).astype(np.float32))


@pytest.mark.parametrize("elem", ["float16", "float64"])
def test_weights_keep_their_type(elem: str) -> None:
    bn = random_bn(4)

    def build(x: Value) -> Op:
        p = [Const(p.detach().numpy().astype(elem)) for p in (bn.weight, bn.bias, bn.running_mean, bn.running_var)]
        return nn.BatchNorm(nn.Conv2d(nn.Cast(x, {"float16": "f16", "float64": "f64"}[elem]), Const(np.ones((4, 3, 1, 1), elem))), *p)

    after = transform(graph_of(build, (1, 3, 2, 2)), "fold-bn", check=True)
    assert {op.array.dtype for op in after.find(Const)} == {np.dtype(elem)}


def test_locations_stay() -> None:
    conv, bn = rounded(torch.nn.Conv2d(3, 4, 3)), random_bn(4)
    graph = graph_of(lambda x: add_bn(add_layer(x, conv, loc=Loc("features.0", "net.py", 7)), bn, loc=Loc("features.1", "net.py", 8)), (1, 3, 6, 6))
    assert transform(graph, "fold-bn").find(nn.Conv2d)[0].loc == Loc("features.0", "net.py", 7)


def test_text(golden: Callable[[str, str], None]) -> None:
    """Backward, forward, and what is left between a padded convolution and a shared result."""
    c, d, e = rounded(torch.nn.Conv2d(2, 2, 1)), rounded(torch.nn.Conv2d(2, 2, 1)), rounded(torch.nn.Conv2d(2, 2, 3, padding=1))

    def build(x: Value) -> Op:
        one = nn.Relu(add_bn(add_layer(x, c), random_bn(2)))
        two = nn.Relu(add_layer(add_bn(one, random_bn(2)), d))
        return nn.Add(two, add_layer(add_bn(two, random_bn(2)), e))

    graph = graph_of(build, (1, 2, 4, 4))
    golden("passes/fold_bn.mlir", f"{body(graph)}\n// ->\n{body(transform(graph, 'fold-bn'))}\n")


# -- what must not be folded -------------------------------------------------------------------


def ones(*shape: int) -> Value:
    return Const(np.ones(shape, np.float32)).out


def inputs_as_weights(x: Value) -> Op:
    gamma = nn.Reshape(nn.Slice(nn.Slice(nn.Slice(x, 3, 0, 1), 2, 0, 1), 0, 0, 1), (4,))
    one = ones(4)
    return nn.BatchNorm(nn.Conv2d(x, ones(4, 4, 1, 1)), gamma, one, one, one)


def computed_weight(x: Value, forward: bool = False) -> Op:
    w = nn.Reshape(nn.Slice(nn.Slice(nn.Slice(x, 3, 0, 1), 2, 0, 1), 0, 0, 1), (4, 1, 1, 1))
    if forward:
        return nn.Conv2d(add_bn(x, random_bn(4)), w, groups=4)
    return add_bn(nn.Conv2d(x, w, groups=4), random_bn(4))


def negative_var(x: Value) -> Op:
    one = ones(4)
    return nn.BatchNorm(nn.Conv2d(x, ones(4, 4, 1, 1)), one, one, one, Const(-np.ones(4, np.float32)))


def overflowing(x: Value) -> Op:
    one = ones(4)
    gamma = Const(np.full(4, 1e38, np.float32))
    return nn.BatchNorm(nn.Conv2d(x, Const(np.full((4, 4, 1, 1), 10, np.float32))), gamma, one, one, one)


def conv_read_twice(x: Value) -> list[Any]:
    y = nn.Conv2d(x, ones(4, 4, 1, 1))
    return [add_bn(y, random_bn(4)), y]


def bn_read_twice(x: Value) -> list[Any]:
    y = add_bn(x, random_bn(4))
    return [nn.Conv2d(y, ones(4, 4, 1, 1)), y]


def linear_on_another_axis(x: Value) -> Op:
    return add_bn(nn.Linear(x, ones(4, 4)), random_bn(4))


def before_linear_on_another_axis(x: Value) -> Op:
    return nn.Linear(add_bn(x, random_bn(4)), ones(4, 4))


@pytest.mark.parametrize(
    ("pattern", "build", "reason"),
    [
        (fold_bn, inputs_as_weights, "gamma of the norm is not constant"),
        (bn_to_scale_shift, inputs_as_weights, "gamma of the norm is not constant"),
        (fold_bn_forward, lambda x: nn.Conv2d(inputs_as_weights(x), ones(4, 4, 1, 1)), "gamma of the norm is not constant"),
        (fold_bn, computed_weight, "the weights of nn.conv2d are not constant"),
        (fold_bn_forward, lambda x: computed_weight(x, True), "the weights of nn.conv2d are not constant"),
        (fold_bn, negative_var, "not positive"),
        (fold_bn, overflowing, "cannot hold"),
        (fold_bn, conv_read_twice, "the result of nn.conv2d [unknown location] has other readers"),
        (fold_bn_forward, bn_read_twice, "the norm has other readers"),
        (fold_bn, linear_on_another_axis, "last axis"),
        (fold_bn_forward, before_linear_on_another_axis, "last axis"),
        (fold_bn, lambda x: add_bn(nn.Relu(x), random_bn(4)), ""),
        (fold_bn_forward, lambda x: nn.Conv2d(x, ones(4, 4, 1, 1)), ""),
        (fold_bn_forward, lambda x: add_layer(add_bn(x, random_bn(4)), torch.nn.Conv2d(4, 4, 3, padding=1)), "pads with zeros"),
        (fold_bn_forward, lambda x: add_layer(add_bn(x, random_bn(4)), torch.nn.ConvTranspose2d(4, 4, 3)), "sums fewer terms"),
    ],
)
def test_refused(pattern: Rewrite, build: Callable[..., Any], reason: str) -> None:
    got = refusal(pattern, build, (2, 4, 4, 4))
    assert reason in got
    assert bool(reason) == bool(got)


def test_why_names_the_op_and_the_reason() -> None:
    graph = graph_of(conv_read_twice, (2, 4, 4, 4))
    graph.find(nn.BatchNorm)[0].loc = Loc("features.1", "net.py", 8)
    why = Trace()
    transform(graph, "fold-bn", why=why)
    assert str(why) == "fold_bn refused nn.batch_norm % [features.1 at net.py:8]: the result of nn.conv2d [unknown location] has other readers"
