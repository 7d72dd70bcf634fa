"""The networks of the zoo and small configurations of transformers, each from torch to native code. bench/architectures.py does full sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import zoo
from end_to_end import check
from sampling import some

#: Model of transformers -> class, image size, and options of its configuration: one block of each kind, odd widths.
TINY: dict[str, tuple[str, int, dict[str, Any]]] = {
    "resnet": ("ResNetForImageClassification", 32, {"embedding_size": 8, "hidden_sizes": [12, 20], "depths": [1, 1]}),
    "efficientnet": (
        "EfficientNetForImageClassification",
        32,
        {
            "width_coefficient": 0.25,
            "hidden_dim": 320,
            "kernel_sizes": [3, 5],
            "in_channels": [32, 16],
            "out_channels": [16, 24],
            "strides": [1, 2],
            "num_block_repeats": [1, 1],
            "expand_ratios": [1, 6],
            "depthwise_padding": [],
        },
    ),
    "convnextv2": ("ConvNextV2ForImageClassification", 32, {"hidden_sizes": [10, 18], "depths": [1, 1], "num_stages": 2}),
    "regnet": ("RegNetForImageClassification", 32, {"embedding_size": 8, "hidden_sizes": [8, 24], "depths": [1, 1], "groups_width": 8}),
    "bit": ("BitForImageClassification", 32, {"embedding_size": 8, "hidden_sizes": [32, 64], "depths": [1, 1], "num_groups": 4}),
    "swin": (
        "SwinForImageClassification",
        32,
        {"image_size": 32, "embed_dim": 12, "depths": [2, 1], "num_heads": [2, 3], "window_size": 4},
    ),
    "levit": (
        "LevitForImageClassification",
        32,
        {"image_size": 32, "hidden_sizes": [16, 24, 32], "num_attention_heads": [1, 2, 2], "depths": [1, 1, 1], "key_dim": [8, 8, 8]},
    ),
    "poolformer": (
        "PoolFormerForImageClassification",
        32,
        {"hidden_sizes": [8, 12], "depths": [1, 1], "num_encoder_blocks": 2, "patch_sizes": [7, 3], "strides": [4, 2], "padding": [2, 1]},
    ),
    "segformer": (
        "SegformerForSemanticSegmentation",
        32,
        {
            "num_encoder_blocks": 2,
            "hidden_sizes": [8, 12],
            "depths": [1, 1],
            "sr_ratios": [2, 1],
            "patch_sizes": [7, 3],
            "strides": [4, 2],
            "num_attention_heads": [1, 2],
            "mlp_ratios": [2, 2],
            "decoder_hidden_size": 10,
        },
    ),
    "vit": (
        "ViTForImageClassification",
        16,
        {"image_size": 16, "patch_size": 4, "hidden_size": 12, "num_attention_heads": 2, "intermediate_size": 20, "num_hidden_layers": 1},
    ),
}

#: Published networks that are compiled at batch 1 as well; the others at 3 alone, for compiling is what takes time here.
BOTH = ("mobilenetv2", "two_input", "detector")
#: Compiled by `make test-all` only: their layers occur in the others.
LONG = (
    "inception_v3", "vgg16", "densenet121", "resnet50", "mobilenet_v3_large", "regnet_y_400mf", "levit", "segformer", "resnet18", "mobilenet_v1",
    "squeezenet1_1", "shared", "bit", "convnext_tiny", "detector", "shufflenetv2", "convnextv2", "regnet",
)  # fmt: skip

#: Vector widths of 8 and 4 floats and two threads, for a few.
ELSEWHERE = [
    ("resnet18", "cpu:znver3", 1),
    ("shufflenetv2", "cpu:x86-64-v2", 2),
    ("convnext_tiny", "cpu:x86-64-v2", 1),
    ("attention", "cpu:znver3", 2),
    ("super_resolution", "cpu:x86-64-v2", 2),
]


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in zoo.ZOO])
def test_network_of_the_zoo_agrees_with_eager_float64(name: str) -> None:
    module, inputs = zoo.built(name)
    check(module, inputs, batches=(1, 3) if name in BOTH or name not in zoo.NETWORKS else (3,), limit=5e-5)


@pytest.mark.parametrize(("name", "target", "threads"), some(ELSEWHERE, 2))
def test_network_on_narrower_vectors_and_two_threads(name: str, target: str, threads: int) -> None:
    module, inputs = zoo.built(name)
    check(module, inputs, batches=[3], target=target, threads=threads, limit=5e-5)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in TINY])
def test_architecture_of_transformers_agrees_with_eager_float64(name: str) -> None:
    pytest.importorskip("transformers")
    module, inputs = tiny(name)()
    check(module, inputs, batches=(3,), limit=5e-5)


def tiny(name: str) -> Callable[[], tuple[torch.nn.Module, tuple[torch.Tensor, ...]]]:
    from tersor.bench.others import from_config

    cls, size, options = TINY[name]
    return from_config(cls, size, **options)
