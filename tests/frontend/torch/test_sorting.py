"""Sorting, order statistics, scans, bits and bags of torch, against eager torch in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from frontend_checks import agrees
from torch import nn

import tersor


def x(*shape: int) -> torch.Tensor:
    return torch.randn(shape or (4, 5, 3), generator=torch.Generator().manual_seed(3))


LINES = torch.tensor([-1.0, 0.0, 1.0])
#: Of x (N, 5, 3) at any batch; results are values, and places where no two elements are equal.
FUNCTIONS: dict[str, Callable[[torch.Tensor], Any]] = {
    "sort": lambda x: (torch.sort(x), torch.sort(x, 1, descending=True)),
    "sort stable": lambda x: torch.sort(torch.round(x), dim=1, stable=True),
    "argsort": lambda x: (torch.argsort(x, 1), torch.argsort(torch.round(x), dim=1, descending=True, stable=True)),
    "topk": lambda x: (torch.topk(x, 2, 1), torch.topk(x, 1, largest=False)),
    "kthvalue": lambda x: (torch.kthvalue(x, 2, 1), torch.kthvalue(x, 1, 1, keepdim=True)),
    "median": lambda x: (torch.median(x, 1), torch.median(x, 2, keepdim=True)),
    "msort": lambda x: torch.msort(x.permute(1, 0, 2)),
    "quantile of a line": lambda x: torch.quantile(x, 0.3, dim=1),
    "cumprod": lambda x: (torch.cumprod(x, 1), torch.cumprod(torch.round(x).long(), 2)),
    "logcumsumexp": lambda x: torch.logcumsumexp(x * 50, 1),
    "cummax": lambda x: (torch.cummax(torch.round(x), 1), torch.cummin(torch.round(x), 2)),
    "bucketize": lambda x: (torch.bucketize(x, LINES), torch.bucketize(torch.round(x), LINES, right=True), torch.bucketize(x.long(), LINES)),
    "searchsorted": lambda x: torch.searchsorted(torch.sort(x, 2).values, torch.round(x), out_int32=True),
    "bits": lambda x: ((y := (x * 9).int()) & 6, y | 3, y ^ -1, ~y, y << 2, y >> 1, 1 << (y & 7), (x > 0) & (x < 1), ~(x > 0) ^ (x < 1)),
    "fmax": lambda x: (torch.fmax(x, x.flip(1)), torch.fmin(x, x.flip(1))),
    "round to decimals": lambda x: (torch.round(x, decimals=1), torch.round(x * 100, decimals=-1)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    agrees(FUNCTIONS[name], [x()])


@pytest.mark.parametrize("name", ["sort", "topk", "cumprod", "bits", "bucketize"])
def test_compiled(name: str) -> None:
    module = nn.Module()
    module.forward = FUNCTIONS[name]  # type: ignore[assignment]
    got = tersor.compile(tersor.trace(module.eval(), (x(),)))(x())
    wanted = FUNCTIONS[name](x())
    leaves = torch.utils._pytree.tree_leaves
    for g, w in zip(leaves(got), leaves(wanted), strict=True):
        torch.testing.assert_close(g, w)


def test_a_whole_tensor() -> None:
    agrees(lambda x: (torch.median(x), x.flatten().sort().values), [x()], static=True)


def test_scalars() -> None:
    agrees(lambda x: (torch.sort(x.sum()), torch.cumsum(x.sum(), 0), torch.topk(x.mean(), 1)), [x()])


INDEX, OFFSETS = torch.tensor([1, 2, 4, 5, 4, 3, 2, 9, 0]), torch.tensor([0, 4, 4, 7])


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("options", [{}, {"include_last_offset": True}, {"padding_idx": 4}], ids=str)
def test_embedding_bag(mode: str, options: dict[str, Any]) -> None:
    """The second bag is empty."""
    bag = nn.EmbeddingBag(10, 3, mode=mode, **options)
    agrees(bag, [INDEX, OFFSETS], static=True)


def test_embedding_bag_with_weights() -> None:
    table, weights = x(10, 3), x(9)
    agrees(lambda i, o: F.embedding_bag(i, table.double(), o, mode="sum", per_sample_weights=weights.double()), [INDEX, OFFSETS], static=True)


class Picked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
        self.register_buffer("places", torch.arange(8 * 6 * 3).reshape(1, 8, 6, 3) % 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x))
        return self.last(torch.gather(y, 3, self.places))


def test_a_gather_between_integer_layers_moves_integers() -> None:
    torch.manual_seed(0)
    data = torch.randn(1, 3, 8, 8)
    graph = tersor.transform(tersor.trace(Picked().eval(), (data,)), "int8", calibration=[data])
    assert not isinstance(graph.find("nn.gather")[0].out.type.elem, str)
    torch.testing.assert_close(tersor.compile(graph, require="int8")(data), graph(data), rtol=0, atol=0)


def test_places_repeated_as_often_as_data_says() -> None:
    agrees(lambda x, n: torch.repeat_interleave(x, n, dim=0, output_size=7), [x(), torch.tensor([2, 0, 4, 1])], static=True)
