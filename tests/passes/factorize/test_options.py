"""Options out of range, and what else a user may get wrong: one sentence that says what is valid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from factorize_cases import conv_graph

import tersor

W = np.random.default_rng(4).standard_normal((8, 6, 3, 3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("to-depthwise-separable{rank=0}", "rank is depthwise kernels per input channel, at least 1; got 0"),
        ("to-depthwise-separable{rank=[1, 0]}", "rank is depthwise kernels per input channel, at least 1; got 0"),
        ("to-depthwise-separable{rank=[]}", "rank is depthwise kernels per input channel, at least 1; got an empty list"),
        ("to-depthwise-separable{rank=1.5}", "option 'rank': expected int or a list of int or none, got 1.5"),
        ("to-depthwise-separable{sweeps=-1}", "sweeps is alternations of the refit, at least 0; got -1"),
        ("to-depthwise-separable{rank=[1, 2]}", "rank=1, rank=2: max_error= or macs= must say which of these a layer gets"),
        ("to-depthwise-separable{macs=1.5}", "macs is the share of MACs to leave, above 0 and below 1; got 1.5"),
        ("to-depthwise-separable{macs=0}", "macs is the share of MACs to leave, above 0 and below 1; got 0"),
        ("to-depthwise-separable{max_error=0}", "max_error is the largest relative error of a layer, above 0; got 0"),
        ("to-depthwise-separable{samples=0}", "samples is at least 1; got 0"),
        ("to-depthwise-separable{positions=0}", "positions is at least 1; got 0"),
        ('to-depthwise-separable{exclude=["layr"]}', "exclude: 'layr' matches no layer (did you mean 'layer'?); module paths: layer"),
        ('to-depthwise-separable{layers={"layer": {rank=0}}}', "rank is depthwise kernels per input channel, at least 1; got 0"),
        ('to-depthwise-separable{layers={"layer": {macs=0.5}}}', "macs is a budget of the whole graph: it cannot differ by layer"),
        ('to-depthwise-separable{layers={"nothing": {rank=2}}}', "layer pattern 'nothing' matches no op"),
        ("low-rank{method=cp}", 'option \'method\': expected one of "svd", "tucker", got "cp"'),
        ("low-rank{rank=0}", "rank is an integer of at least 1, or a float as a share of the full rank, above 0 and at most 1; got 0"),
        ("low-rank{rank=1.5}", "above 0 and at most 1; got 1.5"),
        ("low-rank{rank=0.0}", "above 0 and at most 1; got 0.0"),
        ("low-rank{rank=true}", "option 'rank'"),
        ("to-fire{squeeze_ratio=0}", "squeeze_ratio is squeeze channels for each output channel, above 0; got 0"),
        ("to-fire{pct_3x3=1.1}", "pct_3x3 is the share of outputs with a k x k kernel, above 0 and at most 1; got 1.1"),
        ("to-fire{activation=true}", "needs calibration batches"),
        ("to-inverted-residual{expansion=0}", "expansion is hidden channels for each input channel, above 0; got 0"),
        ("to-inverted-residual{activation=true}", "needs calibration batches"),
        ("to-inverted-residual{expand=2}", "has no option 'expand' (did you mean 'expansion'?)"),
    ],
)
def test_said_in_one_line(text: str, message: str) -> None:
    graph = conv_graph(W, padding=(1, 1, 1, 1))
    before = str(graph)
    with pytest.raises(tersor.TersorError) as error:
        tersor.transform(graph, text)
    assert message in str(error.value)
    assert text.partition("{")[0] in str(error.value)
    assert str(graph) == before


@pytest.mark.parametrize("shape", [(2, 5, 9, 8), (2, 6, 9, 9), (6, 9, 8)])
def test_calibration_of_a_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(tersor.TersorError, match=r"to-depthwise-separable.*must be f32"):
        tersor.transform(conv_graph(W, padding=(1, 1, 1, 1)), "to-depthwise-separable", calibration=[torch.randn(shape)])


def test_help_names_the_shared_options() -> None:
    from tersor.passes import known_passes

    for name in ("to-depthwise-separable", "low-rank", "to-fire", "to-inverted-residual"):
        text = known_passes()[name].help()
        assert all(f"{option}:" in text for option in ("max_error", "macs", "exclude", "samples", "reconstruct"))
        assert "->" in text
