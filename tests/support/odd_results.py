"""Odd heads, inputs and results."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from odd import odd
from torch import nn

from tersor.bench.models import conv_bn

T = torch.Tensor


class Predictions(NamedTuple):
    scores: T
    boxes: T


@odd((1, 3, 32, 32))
class SsdHeads(nn.Module):
    """Scores and boxes of two levels by permute, reshape and concat; a named tuple comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.Sequential(conv_bn(3, 8, 3, 2), conv_bn(8, 12, 3, 2)), conv_bn(12, 10, 3, 2)])
        self.scores = nn.ModuleList([nn.Conv2d(12, 2 * 4, 3, padding=1), nn.Conv2d(10, 3 * 4, 3, padding=1)])
        self.boxes = nn.ModuleList([nn.Conv2d(12, 2 * 4, 3, padding=1), nn.Conv2d(10, 3 * 4, 3, padding=1)])

    def forward(self, x: T) -> Predictions:
        scores, boxes = [], []
        for stage, s, b in zip(self.stages, self.scores, self.boxes):
            x = stage(x)
            scores.append(s(x).permute(0, 2, 3, 1).contiguous().view(x.shape[0], -1, 4))
            boxes.append(b(x).permute(0, 2, 3, 1).reshape(x.size(0), -1, 4))
        return Predictions(torch.cat(scores, 1).softmax(-1), torch.cat(boxes, 1))


@odd((1, 3, 32, 32))
class FeaturePyramid(nn.Module):
    """Top-down pyramid with a head whose weights all levels share (1612.03144)."""

    def __init__(self) -> None:
        super().__init__()
        self.c2, self.c3, self.c4 = conv_bn(3, 8, 3, 2), conv_bn(8, 12, 3, 2), conv_bn(12, 20, 3, 2)
        self.lateral = nn.ModuleList(nn.Conv2d(c, 10, 1) for c in (8, 12, 20))
        self.smooth, self.head = nn.Conv2d(10, 10, 3, padding=1), nn.Sequential(conv_bn(10, 10), nn.Conv2d(10, 3, 1))

    def forward(self, x: T) -> dict[str, list[T]]:
        maps = [self.c2(x)]
        maps.append(self.c3(maps[-1]))
        maps.append(self.c4(maps[-1]))
        top = None
        result = []
        for lateral, m in reversed(list(zip(self.lateral, maps))):
            top = lateral(m) if top is None else lateral(m) + F.interpolate(top, scale_factor=2.0, mode="nearest")
            result.append(self.smooth(top))
        return {"features": result, "scores": [self.head(p) for p in result]}


@odd((1, 3, 32, 32))
class YoloDecode(nn.Module):
    """Boxes from a grid: sigmoid of offsets, exp of sizes, anchors, flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(conv_bn(3, 9, 3, 4), conv_bn(9, 16, 3, 2))
        self.head = nn.Conv2d(16, 3 * 7, 1)
        self.register_buffer("anchors", torch.tensor([[1.0, 1.5], [2.0, 1.0], [3.0, 3.5]]).view(1, 3, 1, 1, 2))

    def forward(self, x: T) -> T:
        y = self.head(self.backbone(x))
        n, _, h, w = y.shape
        y = y.view(n, 3, 7, h, w).permute(0, 1, 3, 4, 2).contiguous()
        gy, gx = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        grid = torch.stack((gx, gy), 2).view(1, 1, h, w, 2).to(y.dtype)
        xy = (y[..., 0:2].sigmoid() * 2.0 - 0.5 + grid) * 8.0
        wh = torch.exp(y[..., 2:4].clamp(max=2)) * self.anchors
        return torch.cat((xy, wh, y[..., 4:].sigmoid()), -1).view(n, -1, 7)


@odd((1, 3, 16, 16))
class KeyPoints(nn.Module):
    """Soft-argmax over heat maps, and the hard argmax beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.heat = nn.Sequential(conv_bn(3, 8, 3, 2), nn.Conv2d(8, 5, 3, padding=1))

    def forward(self, x: T) -> tuple[T, T, T]:
        h = self.heat(x)
        p = h.flatten(2).softmax(-1).view_as(h)
        along = torch.linspace(-1, 1, h.shape[-1], dtype=h.dtype)
        xs, ys = (p.sum(2) * along).sum(-1), (p.sum(3) * along).sum(-1)
        return torch.stack([xs, ys], -1), h.flatten(2).argmax(-1), h.amax((-2, -1))


@odd((1, 3, 12, 12))
class Segmentation(nn.Module):
    """Class of each pixel as i64, its confidence, and a boolean mask."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(conv_bn(3, 9), nn.Conv2d(9, 6, 1))

    def forward(self, x: T) -> dict[str, T]:
        y = self.net(x)
        p = F.softmax(y, dim=1)
        best, label = p.max(dim=1)
        return {"label": label, "again": y.argmax(1), "confidence": best, "sure": best > 0.5, "foreground": (label != 0) & (best > 0.3)}


@odd((1, 3, 20, 20))
class EmbeddingHead(nn.Module):
    """Generalized mean pooling and an L2-normalized embedding, cosine similarity to stored classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = conv_bn(3, 17, 3, 2), nn.Linear(17, 8, bias=False)
        self.p, self.classes = nn.Parameter(torch.tensor(3.0)), nn.Parameter(torch.randn(6, 8))

    def forward(self, x: T) -> tuple[T, T]:
        y = self.conv(x).clamp(min=1e-6).pow(self.p)
        y = F.avg_pool2d(y, y.shape[-2:]).pow(1.0 / self.p).flatten(1)
        e = F.normalize(self.fc(y), dim=1)
        return e, F.linear(e, F.normalize(self.classes)) * 30


@odd(inputs=lambda: (torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]]), torch.randn(1, 8, 3)))
class Tokens(nn.Module):
    """Integers: an embedding, a mask of padding, arithmetic and comparison of i64, a mean over what is not masked."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.fc = nn.Embedding(10, 6, padding_idx=1), nn.Linear(9, 5)

    def forward(self, tokens: T, extra: T) -> tuple[T, T, T]:
        mask = (tokens != 1) & (tokens < 9)
        y = torch.tanh(self.fc(torch.cat([self.table(tokens), extra], -1))).masked_fill(~mask.unsqueeze(-1), 0.0)
        mean = y.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return mean, (tokens * 2 + 1) % 7, tokens.cumsum(1)


@odd(inputs=lambda: (torch.randn(1, 4, 5, 5), torch.rand(1, 1, 5, 5) > 0.5))
class Masked(nn.Module):
    """A boolean input: where, masked fill, any and all."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: T, mask: T) -> tuple[T, T, T]:
        y = torch.where(mask, self.conv(x), -x)
        return y.masked_fill(~mask, -1e4).softmax(-1), mask.flatten(1).any(1), (y > 0).all(dim=1)


@odd(inputs=lambda: (torch.randint(0, 256, (1, 10, 12, 3), dtype=torch.uint8),))
class Bytes(nn.Module):
    """A camera's image: u8, channels last, normalized inside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv_bn(3, 8, 3, 2)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, x: T) -> T:
        y = x.permute(0, 3, 1, 2).to(self.mean.dtype) / 255
        return self.conv((y - self.mean) / self.std)


@odd((1, 3, 6, 6))
class Unchanged(nn.Module):
    """Results that are the input itself, a view of it, a parameter and the same tensor twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.w = nn.Conv2d(3, 4, 1), nn.Parameter(torch.randn(2, 3))

    def forward(self, x: T) -> tuple[T, T, T, T, T, T]:
        y = self.conv(x)
        return x, x.flatten(1), self.w, y, y, y.reshape(y.shape[0], 4, -1)


@odd((1, 5))
class Nothing(nn.Module):
    """No operator at all."""

    def forward(self, x: T) -> T:
        return nn.Identity()(x)


@odd((1, 4, 6, 6))
class Nested(nn.Module):
    """A result of tuples in lists in dicts, with None and one-element parts."""

    def forward(self, x: T) -> dict[str, Any]:
        return {"a": [x + 1, (x * 2,)], "none": None, "b": {"c": x.mean(), "d": [x.sum((1, 2, 3))]}}


@odd((1, 3, 8, 8), (1, 6, 4, 4), (1, 2))
class ManyInputs(nn.Module):
    """Three inputs, one of which only scales."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 1)

    def forward(self, image: T, features: T, scale: T) -> T:
        return self.a(image) * scale[:, 0].view(-1, 1, 1, 1) + self.b(features) * scale[:, 1:, None, None]


@odd((1, 4, 6, 6), static=True)
class FixedBatch(nn.Module):
    """A reshape that writes the batch of the example down."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 9, 3, padding=1)

    def forward(self, x: T) -> T:
        return self.conv(x).reshape(1, 3, 3, 36).permute(0, 2, 1, 3).reshape(9, 36)


@odd((1, 4, 6, 6))
class AcrossTheBatch(nn.Module):
    """A softmax and a sum over the batch itself."""

    def forward(self, x: T) -> T:
        return (x.mean((2, 3)).softmax(0)[..., None, None] * x).sum(0, keepdim=True)


@odd((1, 5, 6), (1, 5, 6))
class Similarity(nn.Module):
    """Cosine similarity, distance and all pairs of two sets of vectors."""

    def forward(self, a: T, b: T) -> tuple[T, T, T]:
        return F.cosine_similarity(a, b, dim=-1), F.pairwise_distance(a, b), torch.einsum("bik,bjk->bij", a, b)
