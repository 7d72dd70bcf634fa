"""What the few-bit passes make of a graph: the rewrite, the layers that stay, the place of the batch norm, and what compile makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pass_cases import body, graph_of, names
from train_cases import accuracy, graph, shapes

import tersor
from tersor.ir import Const, Graph, Loc, Value
from tersor.ir import ops as nn
from tersor.passes.bits.layers import FewBits

PIPELINES = {
    "binarize": "binarize",
    "xnor": "binarize{activations=true}",
    "ternarize": "ternarize",
    "dorefa": "dorefa{w=2 a=2 g=6}",
}


def const(*shape: int, seed: int = 0) -> Value:
    return Const(np.random.default_rng(seed).standard_normal(shape).astype(np.float32)).out


def norm(x: Any, channels: int = 4) -> nn.BatchNorm:
    gamma, mean, var = (Const(np.random.default_rng(i).uniform(0.5, 1.5, channels).astype(np.float32)) for i in range(3))
    return nn.BatchNorm(x, gamma, Const(np.linspace(-0.5, 0.5, channels, dtype=np.float32)), mean, var)


def layer(x: Any, path: str = "", **options: Any) -> nn.Conv2d:
    groups = options.get("groups", 1)
    return nn.Conv2d(x, const(4, 4 // groups, 3, 3), const(4), padding=(1, 1, 1, 1), loc=Loc(path), **options)


def between(middle: Callable[[Any], Any], **options: Any) -> Graph:
    """A first layer, what stands in front of a second one, that, and a last one."""
    return graph_of(lambda x: layer(nn.Relu(layer(middle(layer(x, "first")), "second", **options)), "last"), (1, 4, 6, 6))


def rows(g: Graph) -> list[FewBits]:
    return list(g.report[-1].layers)


@pytest.mark.parametrize("name", PIPELINES)
def test_before_and_after(name: str, golden: Callable[[str, str], None]) -> None:
    before = between(lambda x: nn.Relu(norm(x)))
    after = tersor.transform(before, PIPELINES[name])
    golden(f"passes/bits/{name}.mlir", f"// {PIPELINES[name]}\n{body(before)}\n// ->\n{body(after)}\n")
    second = FewBits(
        "second", *{"binarize": ("binary", "float"), "xnor": ("binary", "binary"), "ternarize": ("ternary", "float")}.get(name, ("2 bits",) * 2)
    )
    assert rows(after) == [FewBits("first", "float", "float", "first layer"), second, FewBits("last", "float", "float", "last layer")]


@pytest.mark.parametrize("name", PIPELINES)
def test_they_are_kept_by_text_file_and_default_pipeline(name: str, tmp_path: Path) -> None:
    small = tersor.transform(graph(), f"{PIPELINES[name]},trainable,default")
    x = shapes(8)[0]
    expected = tersor.transform(graph(), PIPELINES[name])(x)
    torch.testing.assert_close(small(x), expected, rtol=1e-4, atol=1e-4)
    small.save(tmp_path / "m.tersor")
    torch.testing.assert_close(tersor.load(tmp_path / "m.tersor")(x), small(x), rtol=0, atol=0)
    assert [op.name for op in small if op.name.startswith("bits.") and "weight" in op.name]


@pytest.mark.parametrize(
    ("middle", "in_front"),
    [
        (lambda x: nn.Relu(norm(x)), ["batch_norm"]),
        (lambda x: nn.Clip(norm(x), 0.0, 6.0), ["batch_norm"]),
        (lambda x: norm(x), ["batch_norm"]),
        (lambda x: nn.Relu(x), ["batch_norm"]),
        (lambda x: nn.Sigmoid(norm(x)), ["batch_norm", "sigmoid", "batch_norm"]),
        (lambda x: nn.MaxPool2d(nn.Relu(norm(x)), (2, 2), (1, 1)), ["batch_norm", "max_pool2d", "batch_norm"]),
        (lambda x: nn.Relu(nn.Add(norm(x), norm(x))), ["batch_norm", "batch_norm", "add", "batch_norm"]),
    ],
)
def test_the_sign_is_taken_of_a_batch_norm(middle: Callable[[Any], Any], in_front: list[str]) -> None:
    after = tersor.transform(between(middle), "binarize{activations=true}")
    order = names(after)
    assert order[1 : order.index("bits.sign")] == in_front
    (sign,) = after.find("bits.sign")
    assert isinstance(sign, nn.Sign) and isinstance(sign.x.op, nn.BatchNorm)
    # in training its inputs fall on both sides, as they would not behind a ReLU
    module = tersor.to_torch(after).train()
    found: list[torch.Tensor] = []
    evaluate = nn.Sign.evaluate

    def watched(self: nn.Sign, *xs: Any) -> torch.Tensor:
        found.append(y := evaluate(self, *xs))
        return y

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Sign, "evaluate", watched)
        module(torch.randn(16, 4, 6, 6))
    assert 0.1 < float((found[0] > 0).float().mean()) < 0.9


def test_without_a_norm_the_sign_is_that_of_the_sum() -> None:
    """As in Bi-Real Net: binary branches of a stream of floats, which run on packed kernels."""

    def build(x: Any) -> Any:
        stream = norm(layer(x, "first"))
        for name in ("second", "third"):
            stream = nn.Add(norm(layer(stream, name)), stream)
        return layer(stream, "last")

    after = tersor.transform(graph_of(build, (1, 4, 6, 6)), "binarize{activations=true input_scale=false insert_norm=false}")
    assert [sign.operands[0].op.name for sign in after.find("bits.sign")] == ["nn.batch_norm", "nn.add"]
    exe = tersor.compile(tersor.transform(after, "to-bits"), require="bits")
    x = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(exe(x), after(x), rtol=1e-5, atol=1e-5)


def test_a_relu_that_others_read_stays() -> None:
    """The shortcut of a residual block reads what it did."""

    def build(x: Any) -> Any:
        relu = nn.Relu(norm(layer(x, "first")))
        return layer(nn.Relu(nn.Add(layer(relu, "second"), relu)), "last")

    after = tersor.transform(graph_of(build, (1, 4, 6, 6)), "binarize{activations=true}")
    (add,) = [op for op in after.find("nn.add") if any(isinstance(v.op, nn.Relu) for v in op.operands)]
    assert [op.name for op in after].count("nn.relu") == 2 and add.graph is after


@pytest.mark.parametrize(
    ("build", "pipeline", "why"),
    [
        (lambda: between(nn.Relu, groups=2), "binarize{activations=true}", "it is grouped"),
        (lambda: between(nn.Relu, dilation=(2, 2)), "binarize{activations=true}", "must not be dilated"),
        (lambda: between(nn.Relu), 'binarize{exclude=["second"]}', "first layer; excluded; last layer"),
        (lambda: graph_of(lambda x: nn.Relu(x), (1, 4, 6, 6)), "ternarize", "there is no convolution and no linear layer"),
        (lambda: graph_of(lambda x: layer(x), (1, 4, 6, 6)), "dorefa", "first layer"),
        (lambda: tersor.transform(between(nn.Relu), "binarize"), "ternarize{ends=false}", "its weights are not constant but of bits.binarize_weight"),
    ],
)
def test_where_no_layer_can_have_few_bits(build: Callable[[], Graph], pipeline: str, why: str) -> None:
    with pytest.raises(tersor.TersorError, match=f"no layer can get few bits: .*{why}"):
        tersor.transform(build(), pipeline)


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("ternarize{threshold=-1}", "threshold must be at least 0, got -1.0"),
        ('binarize{exclude=["fourth"]}', "exclude pattern 'fourth' matches no op; module paths: first, last, second"),
        ("dorefa{w=9}", "bits must be from 1 to 8, got 9"),
        ("dorefa{a=0}", "bits must be from 1 to 8, got 0"),
    ],
)
def test_bad_options(pipeline: str, message: str) -> None:
    with pytest.raises(tersor.TersorError, match=message):
        tersor.transform(between(nn.Relu), pipeline)


def test_layers_have_options_of_their_own() -> None:
    after = tersor.transform(between(lambda x: nn.Relu(norm(x))), 'dorefa{w=1 a=2 ends=true layers={"second": {w=1 a=4} "first": {a=none}}}')
    assert [(r.layer, r.weights, r.inputs) for r in rows(after)] == [
        ("first", "1 bit", "float"),
        ("second", "1 bit", "4 bits"),
        ("last", "1 bit", "2 bits"),
    ]


def test_layers_without_a_norm_behind_them_are_named() -> None:
    with pytest.warns(UserWarning, match="no batch norm follows second, so nothing takes up the scale of the new weights: run dorefa before fold-bn"):
        tersor.transform(between(nn.Relu), "dorefa{w=2}")


EVERY_LAYER = {
    "binarize": "binarize{ends=true}",
    "xnor": "binarize{activations=true ends=true}",
    "ternarize": "ternarize{ends=true}",
    "dorefa": "dorefa{w=2 a=2 g=6 ends=true}",
}


@pytest.fixture(scope="module")
def trained() -> dict[str, Graph]:
    """A float network that knows the shapes, and what a few epochs make of each method, taught by it."""
    full = tersor.transform(graph(), "finetune{epochs=8 lr=0.01}", train=shapes(512), seed=1)
    tune = "finetune{epochs=6 lr=0.01 distill_weight=0.5}"
    return {"float": full} | {name: tersor.transform(full, f"{p},{tune}", train=shapes(512)) for name, p in EVERY_LAYER.items()}


def test_training_brings_the_accuracy_back(trained: dict[str, Graph]) -> None:
    assert accuracy(trained["float"]) > 0.98
    for name in ("xnor", "dorefa"):
        assert accuracy(tersor.transform(trained["float"], EVERY_LAYER[name])) < 0.5, "else there was nothing to bring back"
    assert min(accuracy(trained[name]) for name in EVERY_LAYER) > 0.96


@pytest.mark.parametrize("name", PIPELINES)
def test_frozen_it_keeps_every_bit_and_compiles_as_a_float_simulation(trained: dict[str, Graph], name: str) -> None:
    small = trained[name]
    if name == "dorefa":
        with pytest.raises(tersor.UnsupportedError, match=r"bits.dorefa_weight .* run to-bits, .* or freeze-bits, .* float simulation"):
            tersor.compile(small)
    frozen = tersor.transform(small, "freeze-bits", check=True)
    rows = frozen.report["freeze-bits"].layers
    assert [row.layer for row in rows] == ["0", "4", "9"]
    values = {"binarize": 2, "xnor": 2, "ternarize": 3, "dorefa": 4}[name]
    assert all(row.values == values or (name == "dorefa" and 1 < row.values < 4) for row in rows)
    assert {row.runs for row in rows} == {"float simulation"}
    assert not frozen.find("bits.quantize_gradient")
    x = shapes(8, seed=3)[0]
    torch.testing.assert_close(frozen(x), small(x), rtol=0, atol=0)
    if name in ("xnor", "dorefa"):
        torch.testing.assert_close(tersor.compile(frozen, batch=8)(x), small(x), rtol=1e-3, atol=1e-3)
    assert tersor.transform(frozen, "freeze-bits").report["freeze-bits"].rewrites == {}
