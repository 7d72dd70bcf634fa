"""prune-channels as a pass: budgets, repair, composition, and what it refuses."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from prune_cases import trained
from sampling import some
from torch import nn

import tersor
from tersor.ir import Const, Graph
from tersor.ir.ops import Conv2d, IndexSelect, Linear
from tersor.passes.core.context import Context
from tersor.passes.coupling import Coupling
from tersor.passes.prune.curvature import curvature
from tersor.passes.prune.layerwise import Pruning, Settings
from tersor.passes.prune.sensitivity import sensitivities
from tersor.passes.prune.spaces import Choice, spaces_of
from tersor.passes.reconstruct import Replay, holdout, rows


class Block(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int = 1):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout))
        self.b = nn.Sequential(nn.Conv2d(cout, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout))
        self.short = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout)) if cin != cout else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.b(F.relu(self.a(x))) + self.short(x))


def resnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), Block(8, 8), Block(8, 16, 2), Block(16, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    )


@cache
def graph() -> Graph:
    return tersor.trace(trained(resnet(), (16, 3, 12, 12)), (torch.randn(1, 3, 12, 12),))


@cache
def images(count: int = 48) -> list[torch.Tensor]:
    """Smooth images, whose channels say much of each other, in batches of 16."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.randn(count, 3, 4, 4, generator=generator)
    return list(F.interpolate(coarse, size=(12, 12), mode="bilinear").split(16))


def prune(options: str, g: Graph | None = None, before: str = "fold-bn,", **given: Any) -> Graph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return tersor.transform(g or graph(), f"{before}prune-channels{{{options}}}", **{"calibration": images()} | given)


def error(small: Graph, x: torch.Tensor | None = None) -> float:
    """Relative error against the network as it was."""
    x = torch.cat(images()) if x is None else x
    y, z = graph()(x), small(x)
    return float((y - z).norm() / (y - y.mean(0)).norm())


def arrays(g: Graph) -> list[np.ndarray]:
    return [op.array for op in g if isinstance(op, Const)]


# -- how much ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["obs", "lasso", "l1", "random", "first-k"])
@pytest.mark.parametrize("per_layer", ["uniform", "sensitivity"])
def test_macs_are_met(method: str, per_layer: str) -> None:
    small = prune(f"macs=0.6 method={method} per_layer={per_layer}")
    assert 0.5 < small.macs() / graph().macs() <= 0.6
    assert small.nbytes() < graph().nbytes()


def test_ratio_removes_that_share() -> None:
    small = prune("ratio=0.25 per_layer=uniform")
    assert [c.out.shape[1] for c in small.find(Conv2d) if c.loc.path.endswith("a.0")] == [6, 12, 12]


def test_ratio_by_sensitivity_costs_the_same() -> None:
    uniform, sensitive = prune("ratio=0.5 per_layer=uniform"), prune("ratio=0.5")
    assert 0.85 * uniform.macs() < sensitive.macs() <= uniform.macs()


def test_round_to() -> None:
    small = prune("macs=0.7 round_to=4")
    assert all(c.out.shape[1] % 4 == 0 for c in small.find(Conv2d))


def test_layers_have_their_own_ratio() -> None:
    small = prune('ratio=0.5 per_layer=uniform layers={"3.a.*": {ratio=0} "4.a.*": {ratio=0.75}}')
    assert [c.out.shape[1] for c in small.find(Conv2d) if c.loc.path.endswith("a.0")] == [4, 16, 4]


def test_excluded_layers_keep_their_channels() -> None:
    small = prune('macs=0.8 exclude=["3.*"]')
    assert [c.out.shape[1] for c in small.find(Conv2d) if c.loc.path.startswith("3.a")] == [16]


def test_layers_that_lose_nothing_are_refitted_when_all_are() -> None:
    """The classifier reads a residual stream, whose channels stay and err; the first layer of the network is given what it was."""
    before, x = prune("macs=0.5 sample_inputs=false"), torch.cat(images())
    after = prune("macs=0.5 sample_inputs=false refit_all=true")
    folded = tersor.transform(graph(), "fold-bn")

    def weights(g: Graph) -> dict[str, np.ndarray]:
        return {op.loc.path: op.w.op.array for op in g.ops if isinstance(op, Conv2d | Linear) and isinstance(op.w.op, Const)}

    was, readers, every = weights(folded), weights(before), weights(after)
    assert np.array_equal(readers["7"], was["7"]) and not np.array_equal(every["7"], was["7"])
    assert np.array_equal(every["0"], was["0"]) and not np.array_equal(every["4.a.0"], was["4.a.0"])
    y = folded(x)
    assert float((after(x) - y).square().sum()) < 0.9 * float((before(x) - y).square().sum())


def test_layers_that_lose_nothing_stay_where_responses_are_few() -> None:
    """Of the classifier there are 12 responses for 16 unknowns."""
    few = prune("macs=0.5 sample_inputs=false refit_all=true samples=12")
    (fc,) = few.find(Linear)
    (was,) = graph().find(Linear)
    assert np.array_equal(fc.w.op.array, was.w.op.array)  # type: ignore[union-attr]


def test_latency_is_what_is_measured() -> None:
    """Here a kernel's time is its MACs and a start-up cost."""
    measured: list[int] = []

    def latency(g: Graph) -> float:
        measured.append(g.macs())
        return g.macs() + 1e5

    small = prune("latency=0.7", latency=latency)
    assert 0.6 < (small.macs() + 1e5) / (graph().macs() + 1e5) <= 0.7
    assert 3 < len(measured) < 12


def test_layers_shrink_where_time_goes() -> None:
    """Reading the weights of the linear layers takes long: they shrink first, also where the budget is in products, which are in the convolutions."""
    module = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        *(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 5)),
    )
    whole = tersor.trace(trained(module, (2, 3, 16, 16)), (torch.randn(1, 3, 16, 16),))
    batches = [torch.randn(32, 3, 16, 16, generator=torch.Generator().manual_seed(0))]

    def small(budget: str) -> Graph:
        return tersor.transform(
            whole, f"prune-channels{{{budget} method=l1 reconstruct=false}}", calibration=batches, latency=lambda g: float(g.nbytes())
        )

    fast, few = small("latency=0.3"), small("macs=0.7")
    assert fast.nbytes() <= 0.3 * whole.nbytes()
    assert [len(c.w.op.array) for c in fast.find(Conv2d)] == [16, 8]  # type: ignore[union-attr]
    assert few.nbytes() <= 0.3 * whole.nbytes() and few.macs() <= 0.7 * whole.macs() < fast.macs()


def test_readers_that_cannot_be_refitted_are_judged_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A linear layer with more inputs than second moments are kept of, behind a transposed convolution, which is refitted."""
    module = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.ConvTranspose2d(8, 8, 2, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(8 * 144, 10)),
    )
    monkeypatch.setattr(rows, "MOST_UNKNOWNS", 1000)
    g = tersor.trace(trained(module, (16, 3, 12, 12)), (torch.randn(1, 3, 12, 12),))
    coupling, ctx = Coupling(g), Context(images())
    spaces = spaces_of(coupling, Choice())
    sensitivity = curvature(g, images(), 48, ctx.rng)
    curves = sensitivities(coupling, spaces, (0.0, 0.5, 1.0), Settings("obs", 48, 10, True, True, "test"), ctx, images(), sensitivity)
    assert [s.scoring_layer.name for s in spaces if s.scoring_layer] == ["nn.conv_transpose2d", "nn.conv2d", "nn.linear"]
    assert curves[2][0] > curves[2][1] > curves[2][2] == 0
    assert curves[0][0] > curves[0][1] > 1e6 * curves[0][2]
    repaired, not_repaired = (prune(f"macs=0.5 per_layer=uniform reconstruct={r}", g) for r in ("true", "false"))
    x = torch.cat(images())
    assert (g(x) - repaired(x)).norm() < 0.9 * (g(x) - not_repaired(x)).norm()
    with pytest.warns(UserWarning, match=r"1 layer has more than 16,384 unknowns and is not refitted.*nn.linear \[7\]"):
        tersor.transform(g, "prune-channels{macs=0.5 per_layer=uniform}", calibration=images())


def test_lasso_is_planned_by_elimination_where_it_is_settled_by_exchange() -> None:
    g = graph()
    coupling, ctx = Coupling(g), Context(images())
    spaces = spaces_of(coupling, Choice())
    sensitivity = curvature(g, images(), 48, ctx.rng)
    assert all(s.even for s in spaces)
    shares = (0.0, 0.25, 0.5, 1.0)
    lasso, obs, l1 = (
        sensitivities(coupling, spaces, shares, Settings(method, 48, 10, True, True, "test"), Context(images()), images(), sensitivity)
        for method in ("lasso", "obs", "l1")
    )
    np.testing.assert_array_equal(lasso, obs)
    assert np.sum(obs) < np.sum(l1)


# -- what is left ------------------------------------------------------------------------------


def test_least_squares_repair() -> None:
    """Repair beats none by far, on images that it has not seen, too."""
    unseen = F.interpolate(torch.randn(16, 3, 4, 4, generator=torch.Generator().manual_seed(9)), size=(12, 12), mode="bilinear")
    for method in ("lasso", "random"):
        repaired, not_repaired = (prune(f"macs=0.6 method={method} per_layer=uniform reconstruct={r}") for r in ("true", "false"))
        assert error(repaired, unseen) < 0.5 * error(not_repaired, unseen)


@pytest.mark.parametrize("method", ["obs", "lasso"])
def test_what_looks_at_the_response_beats_random(method: str) -> None:
    others = [error(prune("macs=0.5 per_layer=uniform method=random", seed=seed)) for seed in range(3)]
    assert error(prune(f"macs=0.5 per_layer=uniform method={method}")) < min(others)


def test_errors_of_early_layers_count_less() -> None:
    """So the first space, which the same share elsewhere would cost more, gives more; and never where nothing is refitted."""
    early = {w: prune(f"macs=0.6 method=l1 repaired_later={w}").find(Conv2d)[1].w.shape[0] for w in (0, 6)}
    assert early[6] < early[0]
    bare = [arrays(prune(f"macs=0.6 method=l1 reconstruct=false repaired_later={w}")) for w in (0, 6)]
    assert [a.shape for a in bare[0]] == [a.shape for a in bare[1]]


def test_what_a_relu_cuts_off_does_not_count() -> None:
    unseen = F.interpolate(torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(9)), size=(12, 12), mode="bilinear")
    clamped, linear = (
        error(prune(f"macs=0.5 per_layer=uniform sample_inputs=false clamped={c}", calibration=images(256)), unseen) for c in ("true", "false")
    )
    assert clamped < linear


def test_the_corrected_target_keeps_the_sum() -> None:
    kept, lost = (error(prune(f"macs=0.5 per_layer=uniform residual_target={r}")) for r in ("true", "false"))
    assert kept < lost


@pytest.mark.parametrize("options", ["macs=0.6", "macs=0.6 method=l1 streams=true", "macs=0.6 sample_inputs=true", "macs=0.7 reconstruct=false"])
def test_the_network_is_the_one_that_was_carried_forward(options: str) -> None:
    """What the walk saw at the last layer is what the pruned graph computes there: removal changes nothing that the walk did."""
    g = tersor.transform(graph(), "fold-bn")
    coupling = Coupling(g)
    spaces = spaces_of(coupling, Choice(streams="streams" in options, sample_inputs="sample" in options))
    method = "l1" if "l1" in options else "lasso"
    keep = np.array([s.keep(0.6) for s in spaces])
    sensitivity = curvature(g, images(), 48, np.random.default_rng(0))
    walk = Pruning(coupling, spaces, keep, Settings(method, 64, 10, "reconstruct" not in options, True, "test"), Context(), sensitivity)  # type: ignore[arg-type]
    seen: list[torch.Tensor] = []
    plain = Replay.__iter__

    def watched(self: Replay) -> Iterator[Any]:
        for layer in plain(self):
            yield layer
            if layer.loc.path == "7":
                seen.extend(self.current(layer.x, i) for i in range(self.chunks))

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        patch.setattr(Replay, "__iter__", watched)
        walk.run(images())
    small = walk.result().verify()
    (fc,) = small.find("nn.linear")
    small.set_outputs([fc.operands[0]])
    labels = coupling.sets(g.find("nn.linear")[0].x, 1)  # type: ignore[attr-defined]
    expected = torch.cat(seen)[:, ~walk.gone[labels]]
    got = small(torch.cat(images()))
    if "reconstruct" in options:
        # without repair the walk sees what a removed channel held, the graph only its constant
        assert expected.shape == got.shape
    else:
        torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-3)


def test_sampled_inputs_are_gathered_in_front_of_the_branch() -> None:
    small = prune("ratio=0.5 per_layer=uniform sample_inputs=true")
    gathers = small.find(IndexSelect)
    assert {g.loc.path for g in gathers} == {"2.a.0", "3.a.0", "3.short.0", "4.a.0"}
    (first,) = (c for c in small.find(Conv2d) if c.loc.path == "2.a.0")
    assert first.w.shape[:2] == (4, 4) and first.x.op in gathers  # type: ignore[attr-defined]


def test_streams() -> None:
    thin = prune("ratio=0.5 per_layer=uniform streams=true")
    assert [c.out.shape[1] for c in thin.find(Conv2d)] == [4, 4, 4, 8, 8, 8, 8, 8]
    assert [c.out.shape[1] for c in prune("ratio=0.5 per_layer=uniform").find(Conv2d) if c.loc.path.endswith("b.0")] == [8, 16, 16]


def test_batch_norms_need_not_be_folded() -> None:
    small = prune("macs=0.6 method=bn-gamma", before="")
    assert small.find("nn.batch_norm") and 0.5 < small.macs() / graph().macs() <= 0.6
    assert error(small) < 1


# -- a pass like any other ---------------------------------------------------------------------


def test_it_is_deterministic_and_changes_nothing_it_is_given() -> None:
    before = str(graph())
    first, second, other = (arrays(prune("macs=0.6 method=random", seed=s)) for s in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert len(first) != len(other) or any(a.shape != b.shape or not np.array_equal(a, b) for a, b in zip(first, other))
    assert str(graph()) == before


def test_composition_and_ledger() -> None:
    calls: list[tuple[str, int, int]] = []
    small = prune("macs=0.6 samples=32", progress=lambda *call: calls.append(call))
    assert [r.name.partition("{")[0] for r in small.report.rows] == ["input", "fold-bn", "prune-channels"]
    row = small.report["prune-channels"]
    assert row.sqnr is not None and row.rewrites["channel sets removed"] > 0
    assert {what for what, _, _ in calls} >= {"prune-channels", "prune-channels: sensitivity"}
    assert all(done <= total for _, done, total in calls)
    twice = tersor.transform(small, "canonicalize,prune-channels{ratio=0.2 method=l1 reconstruct=false per_layer=uniform}")
    assert twice.macs() < small.macs()
    assert twice(torch.randn(2, 3, 12, 12)).shape == (2, 10)


def test_memory_does_not_grow_with_chunks() -> None:
    """The result does not depend on how the images are batched."""
    whole, parts = (prune("macs=0.6 positions=999", calibration=c) for c in ([torch.cat(images())], images()))
    for a, b in zip(arrays(whole), arrays(parts), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize(
    "options, given, message",
    [
        ("ratio=0", {}, "ratio is the share of channels to remove, above 0 and below 1; got 0"),
        ("ratio=1.5", {}, "above 0 and below 1; got 1.5"),
        ("macs=1", {}, "macs is the share of MACs to leave, above 0 and below 1; got 1"),
        ("method=l1", {}, "expected one of ratio=, macs= and latency=, got none"),
        ("ratio=0.5 macs=0.5", {}, "expected one of ratio=, macs= and latency=, got ratio=0.5 and macs=0.5"),
        ("macs=0.001", {}, "macs=0.001 cannot be reached: 0.001 is wanted, the least that pruning can leave here is 0."),
        ('ratio=0.5 exclude=["nowhere.*"]', {}, "exclude='nowhere.*' matches no layer; layers: 0, 2.a.0"),
        ("ratio=0.5 method=best", {}, "expected one of .*lasso.*, got"),
        ("ratio=0.5 round_to=0", {}, "round_to must be at least 1, got 0"),
        ("ratio=0.5", {"calibration": None}, "needs calibration batches: transform"),
        (
            "ratio=0.5",
            {"calibration": [torch.randn(4, 3, 10, 10)]},
            r"input 'input' of main must be f32\[batch, 3, 12, 12\], got shape \[4, 3, 10, 10\]",
        ),
        ("ratio=0.5 method=bn-gamma", {}, "prune before fold-bn"),
    ],
)
def test_refusals_are_one_line(options: str, given: dict[str, Any], message: str) -> None:
    before = str(graph())
    with pytest.raises(tersor.TersorError, match=message.replace("(", r"\(")) as caught:
        prune(options, **given)
    assert "\n" not in str(caught.value)
    assert str(graph()) == before


def test_nothing_to_prune() -> None:
    single = tersor.trace(nn.Conv2d(3, 4, 3).eval(), (torch.randn(1, 3, 8, 8),))
    with pytest.raises(tersor.TersorError, match="no channel of the graph can be pruned"):
        prune("ratio=0.5", single, before="", calibration=[torch.randn(2, 3, 8, 8)])


class AllResidual(nn.Module):
    """x + linear(x), again and again: one stream and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 9), nn.Linear(9, 9), nn.Linear(9, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        y: torch.Tensor = self.c(x + self.b(x).relu())
        return y


def test_nothing_but_streams() -> None:
    g = tersor.trace(AllResidual().eval(), (torch.randn(1, 6),))
    with pytest.raises(tersor.TersorError, match="only channels that residual sums run through can be pruned, and these go with streams=true"):
        prune("ratio=0.5", g, calibration=[torch.randn(32, 6)])
    assert prune("ratio=0.5 streams=true", g, calibration=[torch.randn(32, 6)]).macs() < g.macs()


class PowerMean(nn.Module):
    """A parameter of no axes among the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = (x.clamp(min=1e-3) ** self.p).mean((2, 3)) ** (1 / self.p)
        return y


def test_parameters_without_axes() -> None:
    """What removed channels contribute goes through the powers, whose exponents canonicalize computes."""
    module = nn.Sequential(nn.Conv2d(3, 8, 3), PowerMean(), nn.Linear(8, 4)).eval()
    g = tersor.trace(module, (torch.randn(1, 3, 12, 12),))
    small = prune("ratio=0.5 per_layer=uniform method=first-k reconstruct=false", g, before="canonicalize,")
    masked = nn.Sequential(nn.Conv2d(3, 8, 3), PowerMean(), nn.Linear(8, 4)).eval()
    masked.load_state_dict(module.state_dict())
    with torch.no_grad():
        masked[0].weight[4:] = 0
        torch.testing.assert_close(small(images()[0]), masked(images()[0]), atol=1e-5, rtol=1e-4)


def test_few_samples_are_warned_of_once_and_harmless() -> None:
    """One image: far fewer responses than unknowns. One warning for all layers, the worst first, and what would be enough."""
    with pytest.warns(UserWarning) as said:
        small = tersor.transform(
            graph(), "fold-bn,prune-channels{ratio=0.25 method=l1 per_layer=uniform streams=true}", calibration=[images()[0][:1]]
        )
    assert error(small) < 1.5
    (text,) = [str(w.message) for w in said if "calibration images" in str(w.message)]
    assert re.match(r"prune-channels: \d+ layers have no more responses in the 1 calibration images than unknowns", text)
    assert re.search(r"near their old ones: nn.linear \[7\] \((\d+) unknowns, 1 responses\); .*; and \d+ more. Give at least \d+ images", text)


@pytest.mark.parametrize(
    "name", some(["mobilenetv2", "densenet121", "efficientnet_b0", "inception_v3", "shufflenetv2", "squeezenet1_1", "unet", "regnet_y_400mf"], 2)
)
def test_networks(name: str) -> None:
    from zoo import traced

    g = traced(name)
    x = torch.randn(8, *g.inputs[0].shape[1:])
    small = prune("macs=0.7 per_layer=uniform", g, calibration=[x])
    assert 0.4 < small.macs() / g.macs() <= 0.7
    assert [v.shape for v in small.outputs] == [v.shape for v in g.outputs]
    small(x)


def test_the_ridge_that_images_held_out_choose_is_better_on_other_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight images give the last layer eight responses, which its 16 channels fit without error."""

    def few() -> float:
        return error(prune("macs=0.7 method=obs streams=true", calibration=[images()[0][:8]]), images()[1])

    chosen = few()
    monkeypatch.setattr(holdout, "RIDGES", holdout.RIDGES[:1])
    assert chosen < 0.8 * few()
