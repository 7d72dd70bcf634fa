"""ncnn's post-training int8 of a network: what its tools `ncnn2table` and `ncnn2int8` write, which its Python package lacks.

A convolution or linear layer has in its file, after the bias, the scales of its weights, one for each output channel, and the scale of its
input; ncnn rounds the float weights when it loads them. Scales are 127 / max|x|, of 3x3 weights with stride 1 31 / max|x|, since ncnn's int8
Winograd needs that. A convolution whose readers are all convolutions also has the scale of its result, and then gives integers.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .peers import ADAPTERS, Run, Source, open_ncnn, prepare_ncnn

#: Layers that have int8 kernels, and those of them that can give integers.
LAYERS, CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise", "InnerProduct"), ("Convolution", "ConvolutionDepthWise")
#: Keys of a layer's parameters (docs/developer-guide/operators.md of ncnn).
OUTPUTS, KERNEL, DILATION, STRIDE, BIAS, WEIGHTS, GROUPS, INT8 = 0, 1, 2, 3, 5, 6, 7, 8
INNER_BIAS, INNER_WEIGHTS = 1, 2
#: Added to the int8 mode of a layer that gives integers.
INTEGERS_OUT = 100


@dataclass
class Layer:
    """A line of a .param file. weights: its tensors in the .bin file, in order, as they are."""

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    parameters: dict[int, str]
    weights: list[bytes] = field(default_factory=list)

    def get(self, key: int, default: int = 0) -> int:
        return int(self.parameters.get(key, default))

    def line(self) -> str:
        blobs = [str(len(self.inputs)), str(len(self.outputs)), *self.inputs, *self.outputs]
        return " ".join([self.kind, self.name, *blobs, *(f"{k}={v}" for k, v in self.parameters.items())])


def quantized(module: torch.nn.Module, calibration: Sequence[np.ndarray], threads: int = 1) -> Run:
    """A function from images (1, 3, H, W) to logits. Raises Unavailable without the packages ncnn and pnnx."""
    ADAPTERS["ncnn"].require()
    images = np.concatenate(list(calibration))
    with tempfile.TemporaryDirectory() as name:
        full = prepare_ncnn(Source(module, images[:1], Path(name)), threads)
        layers = read(full)
        ranges = largest(full, layers, images)
        for layer in layers:
            if layer.kind in LAYERS:
                quantize(layer, layers, ranges)
        small = Path(name) / "int8.param"
        write(small, layers)
        return open_ncnn(str(small), threads)


def read(path: Path) -> list[Layer]:
    """The layers of a .param file, with their weights from the .bin file beside it."""
    _, _, *lines = path.read_text().splitlines()
    layers = []
    data = path.with_suffix(".bin").read_bytes()
    at = 0
    for line in lines:
        kind, name, inputs, outputs, *rest = line.split()
        n, m = int(inputs), int(inputs) + int(outputs)
        layer = Layer(kind, name, rest[:n], rest[n:m], {int(k): v for k, v in (p.split("=") for p in rest[m:])})
        for size in sizes(layer):
            layer.weights.append(data[at : at + size])
            at += size
        layers.append(layer)
    if at != len(data):
        raise RuntimeError(f"{path}: {len(data) - at} bytes of weights belong to layers that this bench does not know")
    return layers


def sizes(layer: Layer) -> list[int]:
    """Bytes of the tensors of a layer: weights behind a tag of four bytes, and biases."""
    inner = layer.kind == "InnerProduct"
    if layer.kind not in LAYERS:
        return []
    weights, bias = layer.get(INNER_WEIGHTS if inner else WEIGHTS), layer.get(INNER_BIAS if inner else BIAS)
    return [4 + 4 * weights, *([4 * layer.get(OUTPUTS)] if bias else [])]


def write(path: Path, layers: Sequence[Layer]) -> None:
    blobs = sum(len(layer.outputs) for layer in layers)
    path.write_text("\n".join(["7767517", f"{len(layers)} {blobs}", *(layer.line() for layer in layers)]) + "\n")
    path.with_suffix(".bin").write_bytes(b"".join(part for layer in layers for part in layer.weights))


def largest(path: Path, layers: Sequence[Layer], images: np.ndarray) -> dict[str, float]:
    """max|x| of the input of each layer with int8 kernels over the images."""
    import ncnn

    net: Any = ncnn.Net()
    net.opt.lightmode = False
    net.load_param(str(path))
    net.load_model(str(path.with_suffix(".bin")))
    found: dict[str, float] = {}
    for image in images:
        extractor = net.create_extractor()
        extractor.input(net.input_names()[0], ncnn.Mat(image))
        for blob in {layer.inputs[0] for layer in layers if layer.kind in LAYERS}:
            _, value = extractor.extract(blob)
            found[blob] = max(found.get(blob, 0.0), float(np.abs(np.array(value)).max()))
    return found


def quantize(layer: Layer, layers: Sequence[Layer], ranges: dict[str, float]) -> None:
    """Give a layer its int8 mode, and append its scales to its weights."""
    groups = layer.get(GROUPS, 1) if layer.kind == "ConvolutionDepthWise" else layer.get(OUTPUTS)
    w = np.frombuffer(layer.weights[0][4:], np.float32).reshape(groups, -1)
    winograd = layer.kind == "Convolution" and (layer.get(KERNEL), layer.get(STRIDE, 1), layer.get(DILATION, 1)) == (3, 1, 1)
    weights = (31 if winograd else 127) / np.maximum(np.abs(w).max(1), 1e-30)
    mode, scales = (1 if layer.kind == "ConvolutionDepthWise" else 2), [*weights, scale(ranges[layer.inputs[0]])]
    after = readers(layer, layers) if layer.kind in CONVOLUTIONS else []
    if after and all(reader.kind in CONVOLUTIONS for reader in after):
        mode += INTEGERS_OUT
        scales.append(scale(ranges[after[0].inputs[0]]))
    layer.parameters[INT8] = str(mode)
    layer.weights.append(np.asarray(scales, np.float32).tobytes())


def readers(layer: Layer, layers: Sequence[Layer]) -> list[Layer]:
    """The layers that read the result of a layer, directly or through a split."""
    direct = [reader for reader in layers if set(layer.outputs) & set(reader.inputs)]
    return [found for reader in direct for found in (readers(reader, layers) if reader.kind == "Split" else [reader])]


def scale(largest: float) -> float:
    return 127 / largest if largest > 0 and math.isfinite(largest) else 1.0
