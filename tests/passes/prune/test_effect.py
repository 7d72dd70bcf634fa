"""What a layer's new weights do to the outputs, against the eager network with these weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import tersor
from tersor.passes.core.context import Context
from tersor.passes.coupling import Coupling, weight
from tersor.passes.prune import sensitivity
from tersor.passes.prune.constants import array_of
from tersor.passes.prune.curvature import curvature
from tersor.passes.prune.layerwise import Settings
from tersor.passes.prune.spaces import Choice, spaces_of
from tersor.passes.reconstruct.replay import Replay
from tersor.passes.reconstruct.rows import Refit, refittable


class Net(nn.Module):
    """A residual branch, a concatenation, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
        self.c, self.fc = nn.Conv2d(6, 4, 1), nn.Linear(10, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.relu(self.stem(x))
        y = x + self.b(torch.relu(self.a(x)))
        z = torch.cat([torch.relu(y), self.c(x)], 1)
        return self.fc(z.mean((2, 3))), y * y


def network() -> tuple[Net, torch.Tensor, tersor.Graph]:
    torch.manual_seed(0)
    module, x = Net().eval(), torch.randn(40, 2, 9, 9)
    return module, x, tersor.trace(module, (x[:1],))


def test_outputs_if_a_layer_gave_something_else() -> None:
    module, x, graph = network()
    replay = Replay(graph, [x], Context(), "test", chunk=16)
    names = [name for name, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    seen = []
    for layer in replay:
        name = next(n for n in names if n == layer.loc.path)
        seen.append(name)
        for i, part in enumerate(x.split(16)):
            y = replay.original(layer.out, i).tanh()
            with module.get_submodule(name).register_forward_hook(lambda m, args, out, y=y: y):
                wanted = module(part)
            for got, want in zip(replay.outputs_if(layer, y, i), wanted, strict=True):
                torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert sorted(seen) == sorted(names)


def test_effect_is_the_error_of_the_outputs() -> None:
    module, x, graph = network()
    with torch.no_grad():
        before = module(x)
    kept: sensitivity.Outputs = {}
    for layer in Replay(graph, [x], Context(), "test", chunk=40):
        assert refittable(layer)
        own = module.get_submodule(layer.loc.path)
        w, b = array_of(weight(layer)) * 0.5, np.full(layer.out.shape[1], 0.25)
        replay = Replay(graph, [x], Context(), "test", chunk=40)
        here = next(op for op in replay if op is layer)
        got = sensitivity.effect(replay, here, Refit(w, b, np.zeros(0), 0.0, 0, 0), kept)  # type: ignore[arg-type]
        saved = {k: v.clone() for k, v in own.state_dict().items()}
        own.load_state_dict({"weight": torch.from_numpy(w), "bias": torch.from_numpy(b)})
        with torch.no_grad():
            after = module(x)
        own.load_state_dict(saved)
        want = sum(float(((p - q) / q.std()).square().sum()) for p, q in zip(after, before)) / len(x)
        assert got == pytest.approx(want, rel=1e-4)
        assert want > 0


def test_sensitivities_lie_between_small_errors_and_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    _, x, graph = network()
    coupling = Coupling(graph)
    spaces = spaces_of(coupling, Choice((), False, True, 1))
    importance = curvature(graph, [x], 40, np.random.default_rng(0))
    settings = Settings("obs", 40, 10, True, True, "test")

    def found(effect: float) -> np.ndarray:
        monkeypatch.setattr(sensitivity, "effect", lambda *args: effect)
        return np.array(sensitivity.sensitivities(coupling, spaces, (0.25, 0.5, 0.75), settings, Context([x]), [x], importance))

    one, hundred = found(1.0), found(100.0)
    assert (one > 0).all()
    np.testing.assert_allclose(hundred / one, 10, rtol=1e-6)


class Two(nn.Module):
    """Channels that a convolution reads, and a linear layer behind a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.c = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 6, 3), nn.Linear(6, 4), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        y: torch.Tensor = self.b(torch.relu(self.a(x)).mean((2, 3))) + self.c(x.mean((2, 3)))
        return y


def test_every_reader_of_a_space_is_run_to_the_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What errors of one layer do, relative to small ones, says nothing of another's: nearer to the outputs less of them averages out."""
    torch.manual_seed(0)
    x = torch.randn(40, 2, 9, 9)
    graph = tersor.trace(Two().eval(), (x[:1],))
    coupling = Coupling(graph)
    spaces = spaces_of(coupling, Choice())
    importance = curvature(graph, [x], 40, np.random.default_rng(0))
    settings = Settings("obs", 40, 10, True, True, "test")

    def found(of_c: float) -> list[float]:
        monkeypatch.setattr(sensitivity, "effect", lambda replay, layer, *_: of_c if layer.loc.path == "c" else 1.0)
        errors = sensitivity.sensitivities(coupling, spaces, (0.5,), settings, Context([x]), [x], importance)
        return [float(e[0]) for _, e in sorted(zip((s.producers[0].loc.path for s in spaces), errors), key=lambda t: t[0])]

    (a, one), (same, hundred) = found(1.0), found(100.0)
    assert same == a
    # the convolution's part stays, the linear layer's is ten times as much
    none = found(0.0)[1]
    assert 0 < none < one
    assert hundred - none == pytest.approx(10 * (one - none), rel=1e-3)
