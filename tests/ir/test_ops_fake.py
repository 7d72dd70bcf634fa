"""quant.fake against torch's own fake-quantize and observers: values, gradients, running ranges; and against integers counted by hand."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from pass_cases import graph_of
from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver

import tersor
from tersor.ir import Const, Value, VerifyError
from tersor.ir.ops import Conv2d, Fake, Linear

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    ACTIVATIONS: Any = FakeQuantize.with_args(
        observer=MovingAverageMinMaxObserver, quant_min=0, quant_max=255, dtype=torch.quint8, averaging_constant=0.25
    )
    WEIGHTS: Any = FakeQuantize.with_args(
        observer=MovingAveragePerChannelMinMaxObserver,
        quant_min=-127,
        quant_max=127,
        dtype=torch.qint8,
        qscheme=torch.per_channel_symmetric,
        averaging_constant=1.0,
        ch_axis=0,
    )


def constant(array: Any, name: str) -> Value:
    op = Const(np.asarray(array, np.float32))
    op.out.name = name
    return op.out


def test_a_network_trains_as_with_torchs_fake_quantize() -> None:
    """conv(fake(x), fake(w)) -> fake -> sum: three steps of SGD, ranges by moving average, then evaluation."""
    rng = np.random.default_rng(0)
    w0, x0 = rng.standard_normal((4, 3, 3, 3)).astype(np.float32), torch.randn(5, 3, 6, 6)
    eager_w = torch.nn.Parameter(torch.from_numpy(w0.copy()))
    fx, fw, fy = ACTIVATIONS(), WEIGHTS(), ACTIVATIONS()
    # torch's observers begin with the range of the first batch, ours with what calibration gave
    first = torch.nn.functional.conv2d(fx(x0), fw(eager_w))
    fy(first)
    ends = [[o.activation_post_process.min_val.numpy().copy(), o.activation_post_process.max_val.numpy().copy()] for o in (fx, fw, fy)]

    def build(x: Value) -> Any:
        (xl, xh), (wl, wh), (yl, yh) = ([constant(e, f"{n}_{side}") for e, side in zip(pair, ("low", "high"))] for pair, n in zip(ends, "xwy"))
        q = Fake(constant(w0, "w"), wl, wh, "i8", 0, True, 1.0)
        return Fake(Conv2d(Fake(x, xl, xh, momentum=0.25), q), yl, yh, momentum=0.25)

    module = tersor.to_torch(graph_of(build, (5, 3, 6, 6))).train()
    assert [n for n, _ in module.named_parameters()] == ["w"]
    for step in range(3):
        x = torch.randn(5, 3, 6, 6) * (1 + step)
        y, expected = module(x), fy(torch.nn.functional.conv2d(fx(x), fw(eager_w)))
        torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
        for z, p in ((y, module.get_parameter("w")), (expected, eager_w)):
            p.grad = None
            (z.sin() * torch.linspace(0, 1, 4)[:, None, None]).sum().backward()
        found = module.get_parameter("w").grad
        assert found is not None and eager_w.grad is not None
        torch.testing.assert_close(found, eager_w.grad, rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            for p in (module.get_parameter("w"), eager_w):
                p -= 0.01 * p.grad
    for name, o in zip("xwy", (fx, fw, fy)):
        observed = o.activation_post_process
        torch.testing.assert_close(module.get_buffer(f"{name}_low"), observed.min_val, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(module.get_buffer(f"{name}_high"), observed.max_val, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("storage", "narrow", "low", "high"),
    [
        ("u8", False, -1.0, 3.0),
        ("u8", False, 0.5, 3.0),
        ("i8", True, -2.0, 1.0),
        ("u4", False, -3.0, -1.0),
        ("i4", False, -1.0, 1.0),
        ("u8", False, 0.0, 0.0),
    ],
)
def test_levels_are_those_of_the_integers(storage: str, narrow: bool, low: float, high: float) -> None:
    """Each value is S (q - Z) for an integer q of the type; the nearest one, or the end; 0 is exact; gradients are 1 inside and 0 outside."""
    bits, signed = int(storage[1:]), storage[0] == "i"
    qmin, qmax = (-(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    lo, hi = min(low, 0.0), max(high, 0.0)
    scale = max(max(-lo, hi) / qmax if signed else (hi - lo) / (qmax - qmin), 2.0**-52)
    zero = 0 if signed else qmin - round(lo / scale)
    op = Fake(constant(np.zeros((1, 201)), "x"), constant(low, "l"), constant(high, "h"), storage, None, narrow)
    x = torch.linspace(-5, 5, 201, dtype=torch.float64)[None].requires_grad_()
    y = op.evaluate(x, torch.tensor(low).double(), torch.tensor(high).double())
    y.sum().backward()
    assert x.grad is not None
    for v, out, grad in zip(x.detach()[0].tolist(), y.detach()[0].tolist(), x.grad[0].tolist()):
        q = round(v * (1 / scale)) + zero
        assert out == pytest.approx(scale * (min(max(q, qmin), qmax) - zero), abs=1e-12)
        assert grad == (qmin <= q <= qmax)
    assert y[0, 100] == 0


def test_ranges_that_make_no_sense() -> None:
    x, one, three = constant(np.zeros((2, 3)), "x"), constant(0.0, "l"), constant(np.zeros(3), "h")
    for args, message in (
        ((x, one, one, "i16"), "storage must have at most 8 bits"),
        ((x, one, one, "u8", 2), "axis must be from 0 to 1, got 2"),
        ((x, one, three), r"high must have shape \[\], got \[3\]"),
        ((x, one, one, "u8", 1), r"low must have shape \[3\], got \[\]"),
        ((x, one, one, "i1"), "has no two levels"),
        ((x, one, one, "u8", None, False, 0.0), "momentum must be above 0"),
    ):
        with pytest.raises(VerifyError, match=message):
            Fake(*args)


def test_finetune_trains_through_it_and_keeps_the_ranges() -> None:
    w = constant(np.random.default_rng(0).standard_normal((3, 4)), "w")
    ends = [constant(v, n) for v, n in ((-1.0, "x.low"), (1.0, "x.high"), (np.zeros(3), "w.low"), (np.zeros(3), "w.high"))]
    graph = graph_of(lambda x: Linear(Fake(x, *ends[:2], momentum=0.5), Fake(w, *ends[2:], "i8", 0, True, 1.0)), (1, 4))
    x = torch.randn(64, 4)
    trained = tersor.transform(graph, "finetune{epochs=2 lr=0.05}", train=(x * 2, x[:, :3].argmax(1)))
    after = {op.out.name: op.array for op in trained if isinstance(op, Const)}
    assert after["x.low"] < -1.5 and after["x.high"] > 1.5
    # before the last step the weights were within a step of Adam of what they are now
    assert np.abs(after["w.low"] - after["w"].min(1)).max() < 0.1 and np.abs(after["w.high"] - after["w"].max(1)).max() < 0.1
    assert trained.report["finetune"].layers[1].loss < trained.report["finetune"].layers[0].loss
    assert str(tersor.transform(trained, "canonicalize")).count("quant.fake") == 2
