"""What `check=True` runs a graph on, and how: integers that the graph can divide and index by, bits that do not depend on memory layout."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pass_cases import graph_of, run

import tersor
from tersor.ir import Const, Op, Tensor, Value
from tersor.ir import ops as nn
from tersor.ir.evaluate import evaluate
from tersor.passes.core.by_value import DEFINED, PIECE, ValueMath, by_value
from tersor.passes.core.samples import samples

LONG = Tensor((4,), "i64")
TABLE = np.arange(6, dtype=np.float32).reshape(3, 2)


def divided(a: Value, b: Value) -> Op:
    return nn.Remainder(a, b)


def divided_and_indexed(a: Value, b: Value, i: Value) -> list[Op]:
    """A divisor must not be 0, an index not above 2."""
    return [nn.Remainder(a, b), nn.IndexSelect(Const(TABLE), i, 0)]


def divided_less_one(a: Value, b: Value) -> Op:
    return nn.Remainder(a, nn.Sub(b, Const(np.int64(1))))


# -- integers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [divided, divided_and_indexed, divided_less_one])
def test_random_integers_are_such_that_the_graph_runs(build: Callable[..., Any]) -> None:
    graph = graph_of(build, *[LONG] * (3 if build is divided_and_indexed else 2))
    for inputs in samples(graph, None, 0):
        run(graph.at(batch=len(inputs[0])), inputs)
    tersor.transform(graph, "default", check=True)


def test_integers_come_from_calibration() -> None:
    graph = graph_of(divided, LONG, LONG)
    a, b = torch.tensor([100, -7, 2**40, 3]), torch.tensor([-9, 1000, 7, 5])
    first, second = samples(graph, [(a, b)], 0)
    assert torch.equal(first[0], a)
    assert torch.equal(first[1], b)
    assert [x.tolist() for x in second] == [[100], [-9]]
    tersor.transform(graph, "default", check=True, calibration=[(a, b)])


def test_no_integers_that_run_are_an_error_that_asks_for_some() -> None:
    graph = graph_of(lambda a: nn.Remainder(a, nn.Sub(a, a)), LONG)
    with pytest.raises(tersor.TersorError, match=r"no random integers that the graph runs on \(nn.remainder .* divides an integer by zero\): give"):
        tersor.transform(graph, "default", check=True)


def test_division_by_zero_is_one_sentence_with_its_place() -> None:
    class Rest(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a % b

    a, b = torch.arange(4), torch.tensor([1, 2, 0, 3])
    graph = tersor.trace(Rest().eval(), (a, b))
    with pytest.raises(tersor.TersorError, match=r"^nn.remainder \[.*test_check_inputs.py:\d+\] divides an integer by zero$"):
        graph(a, b)


def test_a_division_by_zero_of_constants_is_left_to_run() -> None:
    zero = Const(np.zeros(4, np.int64))
    graph = graph_of(lambda a: [nn.Remainder(Const(np.arange(4)), zero), a], LONG)
    assert tersor.transform(graph, "canonicalize").find("nn.remainder")


COMPILED = """
import numpy as np, torch, tersor
class Rest(torch.nn.Module):
    def forward(self, a, b, c, d, e, f): return a % b, c % d, e % f
low = np.iinfo(np.int64).min
pairs = []
for dtype in ("int64", "int32", "uint8"):
    top = np.iinfo(dtype)
    a = np.array([7, top.min, -7 if top.min else 9, top.max, 5, 6, 0, 11, 12], dtype)
    b = np.array([0, -1 if top.min else 255, 3, 0, 2, 255 if top.max > 127 else 1, 0, 4, 5], dtype)
    pairs += [a, b]
x = tuple(torch.from_numpy(p) for p in pairs)
exe = tersor.compile(tersor.trace(Rest().eval(), x), threads=1, batch=9)
for y, a, b in zip(exe(*pairs), pairs[::2], pairs[1::2]):
    right = [int(p) % int(q) if q else 0 for p, q in zip(a, b)]
    assert y.tolist() == right, (y, right)
print("right")
"""


def test_compiled_remainders_by_zero_are_zero_and_by_minus_one_do_not_trap() -> None:
    """In a process of its own: a division that the processor traps would kill it."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "right"), done.stderr[-2000:]


# -- layouts -----------------------------------------------------------------------------------


#: Every third number, some from the middle, those behind the pieces, the numbers in another order.
VIEWS: list[Callable[[torch.Tensor], torch.Tensor]] = [lambda x: x[::3], lambda x: x[5:40], lambda x: x[PIECE + 3 :], lambda x: x.reshape(3, -1).T]


def test_functions_give_the_same_bits_wherever_numbers_lie() -> None:
    """Each function that torch vectorizes: also of two operands, those of a power and an angle. Some give NaN for numbers above 1."""
    math, rng = ValueMath(), np.random.default_rng(0)
    x = torch.from_numpy(np.abs(rng.standard_normal(2 * PIECE + 37)).astype(np.float32))
    for name in set(vars(math)) - DEFINED:
        xs = (x, x.flip(0)) if name in ("pow", "atan2") else (x,)
        y = getattr(math, name)(*xs)
        for view in VIEWS:
            again = getattr(math, name)(*map(view, xs))
            assert torch.equal(again.view(torch.int32), view(y).contiguous().view(torch.int32)), name


def test_by_value_is_what_evaluate_gives() -> None:
    x = torch.randn(2, 3, 5, 7).permute(0, 2, 3, 1)
    value = graph_of(lambda x: x, (2, 5, 7, 3)).inputs[0]
    w = Const(np.array([0.5], np.float32))
    for op in (nn.Sigmoid(value), nn.Silu(value), nn.Gelu(value), nn.Softplus(value), nn.Softmax(value, axis=3), nn.Prelu(value, w)):
        operands = (x, torch.tensor([0.5])) if isinstance(op, nn.Prelu) else (x,)
        torch.testing.assert_close(by_value(op, *operands), op.evaluate(*operands), rtol=1e-6, atol=1e-6)
    pieces = [torch.randn(2, 3).T, torch.randn(4, 2).T[:, :2].T]
    concat = nn.Concat([graph_of(lambda a, b: [a, b], (3, 2), (2, 2)).inputs[0]], 0)
    assert torch.equal(by_value(concat, pieces), torch.cat(pieces))
    empty = torch.zeros(0, 3)
    assert by_value(nn.Exp(value), empty).shape == (0, 3)


def moved(x: Value) -> list[Op]:
    """Slices, permutations and windows of functions, which passes may move past them: in front of what reads them or behind."""
    parts = [nn.Slice(x, 1, 0, 3), nn.Slice(x, 1, 3, 7)]
    back = nn.Transpose(nn.Sigmoid(nn.Transpose(x, (0, 2, 3, 1))), (0, 3, 1, 2))
    return [nn.Exp(parts[0]), nn.Tanh(parts[1]), nn.Erf(back)]


def test_check_allows_what_moves_past_a_function() -> None:
    """The same functions of other views, as a pass of the user's would move them."""

    @tersor.register_pass(name="test-slice-behind", keeps="exact")
    @tersor.rewrite
    def slice_behind(op: nn.Exp | nn.Tanh | nn.Erf) -> Op | None:
        """f(x[a:b]) -> f(x)[a:b]"""
        match op.x.op:
            case nn.Slice() as part:
                return part.rebuilt(x=op.rebuilt(x=part.x))
        return None

    graph = graph_of(moved, (2, 7, 5, 3))
    small = tersor.transform(graph, "canonicalize,test-slice-behind", check=True)
    assert small.report["test-slice-behind"].rewrites == {"slice_behind": 2}  # type: ignore[index, union-attr]
    assert not small.find("nn.transpose")
    x = torch.randn(2, 7, 5, 3)
    for a, b in zip(evaluate(graph, [x]), evaluate(small, [x]), strict=True):
        torch.testing.assert_close(a, b)


def test_check_still_sees_one_bit() -> None:
    @tersor.register_pass(name="test-one-bit", keeps="exact")
    @tersor.rewrite
    def one_bit(op: nn.Sigmoid) -> Op | None:
        """sigmoid(x) -> 1 / (1 + exp(-x)), which rounds three times"""
        one = Const(np.float32(1))
        return nn.Div(one, nn.Add(nn.Exp(nn.Neg(op.x)), one))

    with pytest.raises(tersor.TersorError, match="it declares 'exact', but"):
        tersor.transform(graph_of(lambda x: nn.Sigmoid(x), (64, 33)), "test-one-bit", check=True)
