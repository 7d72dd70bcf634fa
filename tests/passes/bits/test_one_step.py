"""One training step of each few-bit method, against loops in numpy written from the papers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pass_cases import graph_of

import tersor
from tersor.ir import Const, Value
from tersor.ir import ops as nn

F64 = NDArray[np.float64]
N, C, OUT, SIZE, K = 2, 3, 4, 5, 3
LR = 0.1


def data(seed: int = 0) -> tuple[F64, F64, F64, F64]:
    """Input, weight, bias, and the gradient of the loss by the result, of a 3x3 convolution with a border of 1."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, C, SIZE, SIZE)) * 0.8
    w = rng.standard_normal((OUT, C, K, K)) * 0.5
    w[0, 0, 0, 0] = x[0, 0, 0, 0] = 0.0
    w[1] *= 0.1
    return x, w, rng.standard_normal(OUT), rng.standard_normal((N, OUT, SIZE, SIZE))


def conv(x: F64, w: F64) -> F64:
    """Sums over the window; outside of x there are zeros."""
    y = np.zeros((N, len(w), SIZE, SIZE))
    for n, o, i, j in np.ndindex(y.shape):
        for ch, p, q in np.ndindex(w.shape[1:]):
            if 0 <= i + p - 1 < SIZE and 0 <= j + q - 1 < SIZE:
                y[n, o, i, j] += x[n, ch, i + p - 1, j + q - 1] * w[o, ch, p, q]
    return y


def conv_gradients(x: F64, w: F64, dy: F64) -> tuple[F64, F64]:
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for n, o, i, j in np.ndindex(dy.shape):
        for ch, p, q in np.ndindex(w.shape[1:]):
            if 0 <= i + p - 1 < SIZE and 0 <= j + q - 1 < SIZE:
                dx[n, ch, i + p - 1, j + q - 1] += dy[n, o, i, j] * w[o, ch, p, q]
                dw[o, ch, p, q] += dy[n, o, i, j] * x[n, ch, i + p - 1, j + q - 1]
    return dx, dw


# -- the papers, number by number -----------------------------------------------------------------


def binary(w: F64) -> F64:
    """1603.05279, equations 5 and 6"""
    b = np.zeros_like(w)
    for o in range(len(w)):
        alpha = sum(abs(v) for v in w[o].ravel()) / w[o].size
        for at in np.ndindex(w[o].shape):
            b[o][at] = alpha if w[o][at] >= 0 else -alpha
    return b


def ternary(w: F64) -> F64:
    """1605.04711, equations 3, 5 and 6"""
    t = np.zeros_like(w)
    for o in range(len(w)):
        delta = 0.7 * sum(abs(v) for v in w[o].ravel()) / w[o].size
        large = [abs(v) for v in w[o].ravel() if abs(v) > delta]
        for at in np.ndindex(w[o].shape):
            t[o][at] = 0 if abs(w[o][at]) <= delta else math.copysign(sum(large) / len(large), w[o][at])
    return t


def quantize(r: float, k: int) -> float:
    """1606.06160, equation 5; halves go to the even neighbour, as everywhere here"""
    return round(r * (2**k - 1)) / (2**k - 1)


def dorefa(w: F64, k: int) -> F64:
    """1606.06160, equations 7 to 9"""
    mean, top = np.abs(w).mean(), max(abs(math.tanh(v)) for v in w.ravel())
    one = [mean if v >= 0 else -mean for v in w.ravel()]
    more = [2 * quantize(math.tanh(v) / (2 * top) + 0.5, k) - 1 for v in w.ravel()]
    return np.array(one if k == 1 else more).reshape(w.shape)


def dorefa_gradient(w: F64, dw: F64, k: int) -> F64:
    """Of tanh w / max |tanh w|, for rounding passes gradients on as they are"""
    if k == 1:
        return dw
    t = np.tanh(w)
    top = np.unravel_index(np.abs(t).argmax(), t.shape)
    dt = dw / abs(t[top])
    dt[top] -= np.sign(t[top]) * float((dw * t).sum()) / t[top] ** 2
    result: F64 = dt * (1 - t**2)
    return result


def quantize_gradient(dr: F64, k: int, drawn: F64) -> F64:
    """1606.06160, equation 12; the maximum is over all but the examples"""
    q = np.zeros_like(dr)
    for n in range(len(dr)):
        top = np.abs(dr[n]).max()
        for at in np.ndindex(dr[n].shape):
            noise = (drawn[n][at] - 0.5) / (2**k - 1)
            q[n][at] = 2 * top * (quantize(dr[n][at] / (2 * top) + 0.5 + noise, k) - 0.5)
    return q


# -- the steps ---------------------------------------------------------------------------------------


def step(pipeline: str, seed: int = 0) -> tuple[F64, F64, F64, F64]:
    """Result, and input gradient, weight and bias after one step of SGD, of Tersor's module in float64."""
    x, w, b, dy = data(seed)
    weight, bias = Const(w), Const(b)
    weight.out.name, bias.out.name = "w", "b"

    def build(v: Value) -> Any:
        return nn.Conv2d(v, weight, bias, padding=(1, 1, 1, 1))

    graph = tersor.transform(graph_of(build, tersor.Tensor((N, C, SIZE, SIZE), "f64")), pipeline)
    module = tersor.to_torch(graph).train()
    given = torch.from_numpy(x).requires_grad_()
    y = module(given)
    torch.manual_seed(3)
    (y * torch.from_numpy(dy)).sum().backward()
    torch.optim.SGD([module.get_parameter("w"), module.get_parameter("b")], LR).step()
    assert given.grad is not None
    return y.detach().numpy(), given.grad.numpy(), module.get_parameter("w").detach().numpy(), module.get_parameter("b").detach().numpy()


def check(found: tuple[F64, F64, F64, F64], y: F64, dx: F64, dw: F64, db: F64, seed: int = 0) -> None:
    _, w, b, _ = data(seed)
    for a, e in zip(found, (y, dx, w - LR * dw, b - LR * db)):
        np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ["binarize", "ternarize", "dorefa1", "dorefa2", "dorefa4"])
def test_weights(method: str) -> None:
    x, w, b, dy = data()
    k = int(method[6:] or 0) if method.startswith("dorefa") else 0
    few = {"binarize": binary, "ternarize": ternary}[method](w) if not k else dorefa(w, k)
    assert len(np.unique(few)) == {"binarize": 2 * OUT, "ternarize": 2 * OUT + 1}.get(method, 2**k)
    dx, dw = conv_gradients(x, few, dy)
    pipeline = f"{method}{{ends=true}}" if not k else f"dorefa{{ends=true w={k} a=none}}"
    check(step(pipeline), conv(x, few) + b[:, None, None], dx, dorefa_gradient(w, dw, k) if k else dw, dy.sum((0, 2, 3)))


@pytest.mark.parametrize("a", [1, 2, 4])
def test_activations_of_k_bits(a: int) -> None:
    x, w, b, dy = data()
    q = np.vectorize(lambda v: quantize(min(max(v, 0.0), 1.0), a))(x)
    few = dorefa(w, 2)
    dx, dw = conv_gradients(q, few, dy)
    inside = (x >= 0) & (x <= 1)
    check(step(f"dorefa{{ends=true w=2 a={a}}}"), conv(q, few) + b[:, None, None], dx * inside, dorefa_gradient(w, dw, 2), dy.sum((0, 2, 3)))


@pytest.mark.parametrize("g", [2, 6])
def test_gradients_of_k_bits(g: int) -> None:
    x, w, b, dy = data()
    few = dorefa(w, 1)
    torch.manual_seed(3)
    drawn = torch.rand(dy.shape, dtype=torch.float64).numpy()
    coarse = quantize_gradient(dy, g, drawn)
    assert all(len(np.unique(coarse[n])) <= 2**g for n in range(N)) and not np.allclose(coarse, dy)
    dx, dw = conv_gradients(x, few, coarse)
    check(step(f"dorefa{{ends=true w=1 a=none g={g}}}"), conv(x, few) + b[:, None, None], dx, dw, coarse.sum((0, 2, 3)))


@pytest.mark.parametrize("scale", [True, False])
def test_xnor(scale: bool) -> None:
    """sign(n) * binary(w), times K, plus b; n is the batch norm that the pass puts in front, with the statistics of the batch."""
    x, w, b, dy = data()
    mean, var = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    n = (x - mean) / np.sqrt(var + 1e-5)
    s, few = np.where(n >= 0, 1.0, -1.0), binary(w)
    sums = conv(s, few)
    box = np.full((1, 1, K, K), 1 / K**2)
    size = np.abs(n).mean(1, keepdims=True)
    factor = conv(size, box) if scale else np.ones((N, 1, SIZE, SIZE))
    ds, dw = conv_gradients(s, few, dy * factor)
    dn = ds * (np.abs(n) <= 1)
    if scale:
        dsize, _ = conv_gradients(size, box, (dy * sums).sum(1, keepdims=True))
        dn += dsize / C * np.sign(n)
    # batch norm, 1502.03167, section 3: through the mean and the variance of the batch
    m = N * SIZE * SIZE
    dx = (m * dn - dn.sum((0, 2, 3), keepdims=True) - n * (dn * n).sum((0, 2, 3), keepdims=True)) / (m * np.sqrt(var + 1e-5))
    found = step(f"binarize{{activations=true ends=true input_scale={str(scale).lower()}}}")
    check(found, sums * factor + b[:, None, None], dx, dw, dy.sum((0, 2, 3)))
