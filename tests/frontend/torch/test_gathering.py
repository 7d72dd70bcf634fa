"""Gathers, scatters, trigonometry and remainders of torch, against eager torch in float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from frontend_checks import Calls, agrees

import tersor

FUNCTIONS: dict[str, Callable[[torch.Tensor], Any]] = {
    "sin": lambda x: torch.sin(x * 9),
    "cos": lambda x: torch.cos(x * 9),
    "tan": torch.tan,
    "asin": lambda x: torch.asin(torch.tanh(x)),
    "acos": lambda x: torch.acos(torch.tanh(x)),
    "atan": lambda x: torch.atan(x * 5),
    "atan2": lambda x: torch.atan2(x, x.flip(1) + 0.01),
    "atan2_axes": lambda x: torch.atan2(torch.sign(x), torch.sign(x) * torch.tensor([0.0, 1.0, -1.0, 0.0, 1.0])),
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "asinh": torch.asinh,
    "acosh": lambda x: torch.acosh(x.abs() + 1.01),
    "atanh": lambda x: torch.atanh(torch.tanh(x)),
    "fmod": lambda x: (torch.fmod(x * 7, 2), torch.fmod(x, -0.3), torch.fmod(x, x.flip(1))),
    "signbit": lambda x: torch.signbit(torch.round(x)),
}
PLACES = torch.tensor([[2, 0, 1], [3, 3, 3], [0, 1, 2], [1, 0, 3]])


def assigned(x: torch.Tensor, places: Any, value: Any) -> torch.Tensor:
    y = x.clone()
    y[places] = value
    return y


#: Of x (4, 5), computed indices and constant ones; the batch is fixed.
INDEXED: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "gather": lambda x, i: (torch.gather(x, 1, i), torch.gather(x, 0, i % 4)),
    "take_along_dim": lambda x, i: torch.take_along_dim(x, i, 1),
    "take": lambda x, i: torch.take(x, i),
    "scatter": lambda x, i: x.scatter(1, i, x.flip(1)),
    "scatter_value": lambda x, i: x.scatter(1, i, 7.0),
    "scatter_add": lambda x, i: x.scatter_add(1, i, x),
    "index_put": lambda x, i: x.index_put((i[:, 0], i[:, 1]), x[:, 0]),
    "index_put_add": lambda x, i: x.index_put((i[:, 0],), x, accumulate=True),
    "index_put_axis": lambda x, i: assigned(x, (slice(None), i[:2, 0]), 3.0),
    "index_put_negative": lambda x, i: assigned(x, (-1 - i[:, 0],), x),
    "index_put_mask": lambda x, i: torch.index_put(x, (x > 0,), torch.tensor(-1.0)),
    "index_copy": lambda x, i: x.index_copy(1, torch.tensor([4, 0]), x[:, 1:3]),
    "index_fill": lambda x, i: x.index_fill(0, torch.tensor([1, 3]), 0.5),
    "index_add": lambda x, i: x.index_add(0, i[:, 1], x, alpha=2),
    "scatter_reduce": lambda x, i: [
        x.scatter_reduce(1, i, x * 2, r, include_self=s) for r in ("sum", "prod", "mean", "amax", "amin") for s in (True, False)
    ],
    "scatter_reduce of integers": lambda x, i: [i.scatter_reduce(0, i % 4, i + 5, r, include_self=False) for r in ("mean", "amax", "amin", "prod")],
    "index_reduce": lambda x, i: x.index_reduce(1, i[0], x[:, :3], "mean", include_self=False),
    "index": lambda x, i: (x[i[:, :1], i], x[i], x[:, i[0]], x[i[:, 0], torch.tensor([0, -1, 2, 1])]),
    "index apart": lambda x, i: x.reshape(2, 2, 5)[i[:, :1] % 2, :, i],
    "index_put by a column": lambda x, i: assigned(x.reshape(2, 2, 5), (slice(None), i[:2] % 2, i[:2]), x[0, 0]),
    "values by a mask": lambda x, i: torch.index_put(x, (torch.tensor([True, False, False, True]),), x[1:3]),
    "masked_scatter": lambda x, i: (x.masked_scatter(x > 0, x.flip(0)), x.masked_scatter(torch.tensor([True, False, True, True, False]), x.abs())),
    "diagonal": lambda x, i: (x.diagonal(), x.diagonal(1), torch.diagonal(x.reshape(2, 2, 5), -1, 1, 2)),
}


#: Those that work at any batch.
BATCHED = ("index_put_mask", "scatter_reduce of integers")


def x() -> torch.Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("call", ["gather", "index", "scatter", "put"])
def test_an_index_out_of_range_never_reads_its_neighbour(call: str) -> None:
    """Places in rows of five: 7 in one row would be 2 in the next."""
    functions: dict[str, Callable[..., torch.Tensor]] = {
        "gather": lambda x, i: torch.gather(x, 1, i),
        "index": lambda x, i: x[i[:, 0] * 0, i[:, 0]],
        "scatter": lambda x, i: x.scatter(1, i, 1.0),
        "put": lambda x, i: x.index_put((i[:, 0] * 0, i[:, 0]), x[:, 0]),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = tersor.trace(Calls(functions[call]).eval(), (x(), PLACES))
    wrong = PLACES.clone()
    wrong[1, 0] = 7
    for run in (graph, tersor.compile(graph)):
        run(x(), PLACES)
        with pytest.raises(tersor.TersorError, match=r"holds (7, expected 0 to 4|-1, expected 0 to 19)"):
            run(x(), wrong)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    agrees(FUNCTIONS[name], [x()])


@pytest.mark.parametrize("name", INDEXED)
def test_indexed(name: str) -> None:
    agrees(INDEXED[name], [x(), PLACES], static=name not in BATCHED)
