"""Every prunable channel of every prunable layer, topology by topology: what is left equals the masked original."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from prune_cases import check_every_channel, prunable, trained
from torch import nn

import tersor
from tersor.passes.coupling import Coupling, explain


def conv(cin: int, cout: int, kernel: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, kernel, padding=kernel // 2, **options)


class Net(nn.Module):
    """Modules by name and a function of them and x."""

    def __init__(self, forward: Callable[..., Any], **modules: nn.Module):
        super().__init__()
        self.m = nn.ModuleDict(modules)
        self.function = forward

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self.m, x)


def chain() -> nn.Module:
    return nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), conv(4, 5), nn.SiLU(), conv(5, 2, 1))


def residual() -> nn.Module:
    return Net(
        lambda m, x: m["last"](F.relu((y := m["stem"](x)) + m["b"](F.relu(m["a"](y))))), stem=conv(3, 4), a=conv(4, 3), b=conv(3, 4), last=conv(4, 2)
    )


def projection() -> nn.Module:
    return Net(
        lambda m, x: m["last"](F.relu(m["short"](y := m["stem"](x)) + m["b"](F.relu(m["a"](y))))),
        stem=conv(3, 4),
        a=conv(4, 3, stride=2),
        b=nn.Sequential(conv(3, 6), nn.BatchNorm2d(6)),
        short=conv(4, 6, 1, stride=2),
        last=conv(6, 2),
    )


def dense_concat() -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m["stem"](x)
        for name in ("a", "b"):
            y = torch.cat([y, m[name](y)], 1)
        return m["last"](y)  # type: ignore[no-any-return]

    layer = lambda c: nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), conv(c, 3))  # noqa: E731
    return Net(forward, stem=conv(3, 4), a=layer(4), b=layer(7), last=conv(10, 2))


def cascaded_concat() -> nn.Module:
    return Net(
        lambda m, x: m["last"](torch.cat([torch.cat([m["a"](x), F.relu(m["b"](x))], 1), m["c"](x)], 1)),
        a=conv(3, 2),
        b=conv(3, 3),
        c=conv(3, 2),
        last=conv(7, 2),
    )


def concat_then_split() -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        left, right = torch.cat([m["a"](x), m["b"](x)], 1).split([5, 2], 1)
        return m["c"](left) + m["d"](right)  # type: ignore[no-any-return]

    return Net(forward, a=conv(3, 4), b=conv(3, 3), c=conv(5, 2), d=conv(2, 2))


def inception() -> nn.Module:
    return Net(
        lambda m, x: m["last"](torch.cat([m["a"](x), m["c"](F.relu(m["b"](x))), m["d"](F.max_pool2d(x, 3, 1, 1))], 1)),
        a=conv(3, 2, 1),
        b=conv(3, 4, 1),
        c=conv(4, 3),
        d=conv(3, 2, 1),
        last=conv(7, 2),
    )


def inverted_residual() -> nn.Module:
    body = nn.Sequential(conv(4, 8, 1), nn.BatchNorm2d(8), nn.ReLU6(), conv(8, 8, groups=8), nn.BatchNorm2d(8), nn.ReLU6(), conv(8, 4, 1))
    return Net(lambda m, x: m["last"]((y := m["stem"](x)) + m["body"](y)), stem=conv(3, 4), body=body, last=conv(4, 2))


def squeeze_excite() -> nn.Module:
    gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(6, 3, 1), nn.ReLU(), conv(3, 6, 1), nn.Hardsigmoid())
    return Net(lambda m, x: m["last"]((y := F.silu(m["a"](x))) * m["gate"](y)), a=conv(3, 6), gate=gate, last=conv(6, 2))


def squeeze_excite_linear() -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(m["a"](x))
        s = m["fc2"](F.relu(m["fc1"](y.mean((2, 3))))).sigmoid()
        return m["last"](y * s.view(s.shape[0], -1, 1, 1).expand_as(y))  # type: ignore[no-any-return]

    return Net(forward, a=conv(3, 6), fc1=nn.Linear(6, 3), fc2=nn.Linear(3, 6), last=conv(6, 2))


def channel_shuffle() -> nn.Module:
    return nn.Sequential(conv(3, 8, 1), nn.ReLU(), nn.ChannelShuffle(2), conv(8, 8, groups=8), nn.ReLU(), conv(8, 2, 1))


def channel_shuffle_by_reshape() -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(m["a"](x))
        n, c, h, w = y.shape
        return m["b"](y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))  # type: ignore[no-any-return]

    return Net(forward, a=conv(3, 8), b=conv(8, 2))


def grouped() -> nn.Module:
    return nn.Sequential(conv(3, 6), nn.ReLU(), conv(6, 8, groups=2), nn.ReLU(), conv(8, 2))


def depthwise_multiplier() -> nn.Module:
    return nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 8, groups=4), nn.ReLU(), conv(8, 2))


def unet() -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        skip = F.relu(m["down"](x))
        deep = F.relu(m["deep"](F.avg_pool2d(skip, 2)))
        up = F.interpolate(deep, scale_factor=2.0, mode="bilinear")
        return m["last"](F.relu(m["merge"](torch.cat([up, skip], 1))))  # type: ignore[no-any-return]

    return Net(forward, down=conv(3, 4), deep=conv(4, 5), merge=conv(9, 4), last=conv(4, 2, 1))


def transposed() -> nn.Module:
    # no bias reaches the strided one, whose phases no single bias would fit
    return nn.Sequential(
        conv(3, 4, bias=False),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 6, 2, 2),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 4, 3, padding=1, groups=2),
        nn.ReLU(),
        conv(4, 2),
    )


def flatten_into_linear() -> nn.Module:
    return nn.Sequential(conv(3, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))


def channels_last() -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m["b"](F.gelu(m["a"](m["stem"](x).permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
        return m["last"](y.flatten(1))  # type: ignore[no-any-return]

    return Net(forward, stem=conv(3, 4), a=nn.Linear(4, 6), b=nn.Linear(6, 3), last=nn.Linear(192, 3))


def shared_weights() -> nn.Module:
    return Net(
        lambda m, x: m["last"](m["tower"](x) - m["tower"](x.flip(3) * 0.5)), tower=nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 3)), last=conv(3, 2)
    )


def two_outputs() -> nn.Module:
    return Net(
        lambda m, x: {"a": m["a"](y := F.relu(m["stem"](x))), "b": m["b"](F.relu(m["c"](y)))},
        stem=conv(3, 4),
        a=conv(4, 2),
        c=conv(4, 3),
        b=conv(3, 2),
    )


def weight_tying() -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        code = F.relu(F.linear(x.flatten(2).transpose(1, 2), m["tied"].weight, m["tied"].bias))
        return F.linear(code, m["tied"].weight.t())

    return Net(forward, tied=nn.Linear(3, 5))


def pixel_shuffle() -> nn.Module:
    return nn.Sequential(conv(3, 8, bias=False), nn.ReLU(), nn.PixelShuffle(2), conv(2, 4, 1), nn.PixelUnshuffle(2), conv(16, 2))


def padded_shortcut() -> nn.Module:
    return Net(
        lambda m, x: m["last"](m["b"](y := m["a"](x)) + F.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))),
        a=conv(3, 4),
        b=conv(4, 6, stride=2),
        last=conv(6, 2),
    )


def norms() -> nn.Module:
    return nn.Sequential(conv(3, 6), nn.GroupNorm(3, 6), nn.ReLU(), conv(6, 4), nn.InstanceNorm2d(4, affine=True), nn.PReLU(4), conv(4, 2))


def matrix_product() -> nn.Module:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = conv(3, 5)
            self.w = nn.Parameter(torch.randn(5, 4))
            self.last = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.last(F.relu(self.a(x).permute(0, 2, 3, 1) @ self.w))
            return y

    return Product()


def index_select() -> nn.Module:
    order = torch.tensor([3, 0, 2, 5, 0])
    return Net(lambda m, x: m["b"](F.relu(m["a"](x)).index_select(1, order)), a=conv(3, 6), b=conv(5, 2))


#: The layers whose output channels may be pruned, all or a number of them.
TOPOLOGIES: dict[Callable[[], nn.Module], dict[str, int]] = {
    chain: {"0": 4, "4": 5},
    residual: {"m.stem": 4, "m.a": 3, "m.b": 4},
    projection: {"m.stem": 4, "m.a": 3, "m.b.0": 6, "m.short": 6},
    dense_concat: {"m.stem": 4, "m.a.2": 3, "m.b.2": 3},
    cascaded_concat: {"m.a": 2, "m.b": 3, "m.c": 2},
    concat_then_split: {"m.a": 4, "m.b": 3},
    inception: {"m.a": 2, "m.b": 4, "m.c": 3, "m.d": 2},
    inverted_residual: {"m.stem": 4, "m.body.0": 8, "m.body.3": 8, "m.body.6": 4},
    squeeze_excite: {"m.a": 6, "m.gate.1": 3, "m.gate.3": 6},
    squeeze_excite_linear: {"m.a": 6, "m.fc1": 3, "m.fc2": 6},
    channel_shuffle: {"0": 8, "3": 8},
    channel_shuffle_by_reshape: {"m.a": 8},
    grouped: {"0": 6, "2": 8},
    depthwise_multiplier: {"0": 4, "2": 8},
    unet: {"m.down": 4, "m.deep": 5, "m.merge": 4},
    transposed: {"0": 4, "2": 6, "4": 4},
    flatten_into_linear: {"0": 4, "4": 5},
    channels_last: {"m.stem": 4, "m.a": 6, "m.b": 3},
    shared_weights: {"m.tower.0": 4, "m.tower.2": 3},
    two_outputs: {"m.stem": 4, "m.c": 3},
    weight_tying: {"": 5},
    pixel_shuffle: {"0": 8, "3": 4},
    padded_shortcut: {"m.a": 4, "m.b": 6},
    norms: {"0": 6, "3": 4},
    matrix_product: {"a": 5, "": 4},
    index_select: {"m.a": 6},
}


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=lambda f: f.__name__)
def test_every_channel(topology: Callable[[], nn.Module]) -> None:
    graph = tersor.trace(trained(topology(), (4, 3, 8, 8)), (torch.randn(2, 3, 8, 8),))
    assert prunable(graph) == TOPOLOGIES[topology]
    check_every_channel(graph)


def test_batch_norms_folded_first() -> None:
    graph = tersor.trace(trained(inverted_residual(), (4, 3, 8, 8)), (torch.randn(2, 3, 8, 8),))
    check_every_channel(tersor.transform(graph, "fold-bn"))


def test_barriers_are_named_with_their_place() -> None:
    module = nn.Sequential(conv(3, 4), nn.Softmax(1), conv(4, 4), nn.LayerNorm([4, 8, 8]), conv(4, 2))
    found = explain(tersor.trace(module.eval(), (torch.randn(1, 3, 8, 8),)))
    assert [e.prunable for e in found] == [0, 0, 0]
    first, second, last = (str(e.blockers[0]) for e in found)
    assert first.startswith("nn.softmax [1]: ") and "axis 1 of x" in first
    assert second.startswith("nn.layer_norm [3]: ")
    assert last == "it is the graph's output 'output'"


def test_a_set_that_is_all_of_an_axis_stays() -> None:
    module = nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 1), nn.ReLU(), conv(1, 2))
    found = explain(tersor.trace(module.eval(), (torch.randn(1, 3, 8, 8),)))
    assert [e.prunable for e in found] == [4, 0, 0]
    assert "nothing would be left of axis" in str(found[1].blockers[0])


def test_a_barred_set_is_refused() -> None:
    graph = tersor.trace(chain().eval(), (torch.randn(1, 3, 8, 8),))
    coupling = Coupling(graph)
    last = graph.find("nn.conv2d")[-1]
    with pytest.raises(tersor.TersorError, match=r"cannot be removed: it is the graph's output 'output'"):
        coupling.mask([int(coupling.sets(last.w, 0)[0])])  # type: ignore[attr-defined]


def test_the_work_for_a_graph_grows_with_its_size() -> None:
    import sys

    from tersor.ir import Const, Graph, Tensor
    from tersor.ir.ops import Add, Conv2d, Relu

    def calls(blocks: int) -> int:
        """Function calls that the coupling of a residual network takes."""
        graph = Graph()
        x = graph.add_input(Tensor((1, 256, 4, 4)), "x", True)
        w = np.zeros((256, 256, 1, 1), np.float32)
        for _ in range(blocks):
            y = Conv2d(x, Const(w))
            x = graph.add(Relu(Add(x if x.op else y, y)))
        graph.set_outputs([x])
        count = 0

        def profile(frame: object, event: str, arg: object) -> None:
            nonlocal count
            count += event.endswith("call")

        before = sys.getprofile()
        sys.setprofile(profile)
        try:
            coupling = Coupling(graph)
        finally:
            sys.setprofile(before)
        assert coupling.count < 256 * 3
        return count

    calls(1)  # imports and tables
    assert calls(400) < 2.2 * calls(200)
