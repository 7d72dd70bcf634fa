"""Third-party networks: `transformers` models of tiny configurations, against the eager module in float64 at batch 1 and 3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from frontend_checks import agrees
from sampling import some

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

WIDTHS = [8, 16, 24, 32]
VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32, "patch_size": 8}
SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4}
MOBILEVIT = {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 32, 64], "image_size": 64, "num_attention_heads": 2}

#: Model class, its configuration, its options, side of the image.
MODELS: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "resnet": ("ResNetForImageClassification", "ResNetConfig", {"embedding_size": 8, "hidden_sizes": WIDTHS, "depths": [1, 1, 1, 1]}, 32),
    "mobilenet_v1": ("MobileNetV1ForImageClassification", "MobileNetV1Config", {"depth_multiplier": 0.25, "image_size": 64}, 64),
    "mobilenet_v2": ("MobileNetV2ForImageClassification", "MobileNetV2Config", {"depth_multiplier": 0.25, "image_size": 64}, 64),
    "regnet": (
        "RegNetForImageClassification",
        "RegNetConfig",
        {"embedding_size": 8, "hidden_sizes": WIDTHS, "depths": [1, 1, 2, 1], "groups_width": 8},
        32,
    ),
    "efficientnet": (
        "EfficientNetForImageClassification",
        "EfficientNetConfig",
        {"width_coefficient": 0.25, "depth_coefficient": 0.3, "image_size": 64, "hidden_dim": 320},
        64,
    ),
    "convnext": ("ConvNextForImageClassification", "ConvNextConfig", {"hidden_sizes": WIDTHS, "depths": [1, 1, 2, 1]}, 64),
    "convnext_v2": ("ConvNextV2ForImageClassification", "ConvNextV2Config", {"hidden_sizes": WIDTHS, "depths": [1, 1, 1, 1]}, 64),
    "mobilevit": ("MobileViTForImageClassification", "MobileViTConfig", MOBILEVIT, 64),
    "mobilevit_v2": ("MobileViTV2ForImageClassification", "MobileViTV2Config", {"width_multiplier": 0.25, "image_size": 64}, 64),
    "segformer": (
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16},
        64,
    ),
    "poolformer": ("PoolFormerForImageClassification", "PoolFormerConfig", {"hidden_sizes": WIDTHS, "depths": [1, 1, 1, 1]}, 64),
    "levit": (
        "LevitForImageClassification",
        "LevitConfig",
        {"hidden_sizes": [16, 32, 48], "key_dim": [8, 8, 8], "num_attention_heads": [2, 2, 2], "depths": [1, 1, 1], "image_size": 64},
        64,
    ),
    "swiftformer": ("SwiftFormerForImageClassification", "SwiftFormerConfig", {"embed_dims": WIDTHS, "depths": [1, 1, 1, 1]}, 64),
    "bit": ("BitForImageClassification", "BitConfig", {"embedding_size": 8, "hidden_sizes": WIDTHS, "depths": [1, 1, 1, 1], "num_groups": 4}, 64),
    "vit": ("ViTForImageClassification", "ViTConfig", VIT, 32),
    "swin": ("SwinForImageClassification", "SwinConfig", SWIN, 32),
    "swin_sr": ("Swin2SRForImageSuperResolution", "Swin2SRConfig", SWIN | {"image_size": 16, "patch_size": 1, "depths": [2], "num_heads": [2]}, 16),
    "depth": (
        "DPTForDepthEstimation",
        "DPTConfig",
        VIT
        | {"num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8, "is_hybrid": False},
        32,
    ),
    "detector": ("YolosForObjectDetection", "YolosConfig", VIT | {"image_size": [32, 32], "num_detection_tokens": 5}, 32),
}


@pytest.mark.parametrize("name", some(MODELS, 2))
def test_transformers_model(name: str) -> None:
    model, config, options, side = MODELS[name]
    build: Callable[[Any], torch.nn.Module] = getattr(transformers, model)
    torch.manual_seed(0)
    options = options if name in ("swin_sr", "depth") else options | {"num_labels": 5}
    module = build(getattr(transformers, config)(**options)).eval()
    graph = agrees(module, [torch.randn(1, 3, side, side)])
    assert isinstance(graph.structure, dict)
    assert [v.name for v in graph.inputs] == ["pixel_values"]
