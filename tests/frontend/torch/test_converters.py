"""Each family of aten converters, one small module at a time, against eager torch in float64 at batch 1 and 3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from frontend_checks import agrees
from torch import nn

IMAGE = (1, 4, 6, 8)


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def positive(*shape: int) -> torch.Tensor:
    return rand(*shape).abs() + 0.5


ACTIVATIONS: dict[str, Callable[[torch.Tensor], Any]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.7),
    "clamp": lambda x: x.clamp(-0.3, 0.4),
    "clamp_min": lambda x: x.clamp(min=0.1),
    "clamp_max": lambda x: torch.clamp_max(x, 0.1),
    "clamp_crossed": lambda x: x.clamp(0.5, -0.5),
    "clamp_tensor": lambda x: x.clamp(torch.tensor(-0.25), torch.tensor([0.5])),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "silu": F.silu,
    "mish": F.mish,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "elu": lambda x: F.elu(x, 0.7),
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 0.5),
    "softplus": F.softplus,
    "softplus_beta": lambda x: F.softplus(x, 2.0, 1.0),
    "logsigmoid": F.logsigmoid,
    "threshold": lambda x: F.threshold(x, 0.1, 7.0),
    "hardshrink": F.hardshrink,
    "softshrink": F.softshrink,
    "tanhshrink": F.tanhshrink,
    "softsign": F.softsign,
    "tanh": torch.tanh,
    "glu": lambda x: F.glu(x, 1),
    "exp": torch.exp,
    "expm1": torch.expm1,
    "neg": torch.neg,
    "abs": torch.abs,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": lambda x: torch.round(x * 2),
    "trunc": torch.trunc,
    "sign": torch.sign,
    "erf": torch.erf,
    "square": torch.square,
    "isnan": lambda x: torch.isnan(x / x),
    "isinf": lambda x: torch.isinf(x / 0),
    "isfinite": torch.isfinite,
    "exp2": torch.exp2,
    "dropout": lambda x: F.dropout(x, 0.5, training=False),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_functions_of_one_tensor(name: str) -> None:
    agrees(ACTIVATIONS[name], [rand(*IMAGE) * 2])


POSITIVE: dict[str, Callable[[torch.Tensor], Any]] = {
    "log": torch.log,
    "log2": torch.log2,
    "log10": torch.log10,
    "log1p": torch.log1p,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "pow_scalar": lambda x: x**1.7,
    "pow_small_integers": lambda x: (x**0 + x**1 + x**2 + x**3, x**4),
    "pow_roots": lambda x: x**0.5 + x**-0.5 + x**-1,
    "pow_tensor": lambda x: x**x,
    "pow_of_scalar": lambda x: 2.0**x,
}


@pytest.mark.parametrize("name", POSITIVE)
def test_functions_of_positive_numbers(name: str) -> None:
    # the oracle's batches are redrawn with both signs, so the function makes them positive itself
    agrees(lambda x: POSITIVE[name](x.abs() + 0.5), [positive(*IMAGE)])


BINARY: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "add": lambda a, b: a + b,
    "add_scalar": lambda a, b: a + 3 + b,
    "add_alpha": lambda a, b: torch.add(a, b, alpha=0.5),
    "add_alpha_scalar": lambda a, b: torch.add(a, 2, alpha=0.5) + b,
    "sub": lambda a, b: a - b,
    "rsub": lambda a, b: 1 - a - b,
    "rsub_alpha": lambda a, b: torch.rsub(a, b, alpha=2),
    "mul": lambda a, b: a * b * 0.5,
    "div": lambda a, b: a / (b.abs() + 1),
    "div_scalar": lambda a, b: a / 3 + 2 / (b.abs() + 1),
    "div_floor": lambda a, b: torch.div(a, b.abs() + 1, rounding_mode="floor"),
    "div_trunc": lambda a, b: torch.div(a * 5, b.abs() + 1, rounding_mode="trunc"),
    "floor_divide": lambda a, b: a // (b.abs() + 1),
    "remainder": lambda a, b: a % (b.abs() + 1),
    "remainder_scalar": lambda a, b: (a + b) % 0.75,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "max_other": torch.max,
    "min_other": torch.min,
    "addcmul": lambda a, b: torch.addcmul(a, a, b, value=0.5),
    "addcdiv": lambda a, b: torch.addcdiv(a, a, b.abs() + 1),
    "lerp": lambda a, b: torch.lerp(a, b, 0.3),
    "where": lambda a, b: torch.where(a > b, a, b * 2),
    "where_scalar": lambda a, b: torch.where(a > 0, 1.5, b),
    "masked_fill": lambda a, b: a.masked_fill(b > 0, float("-inf")),
    "comparisons": lambda a, b: (a == b, a != b, a < b, a <= 0.1, a > b, b >= -0.2),
    "logic": lambda a, b: ((a > 0) & (b > 0), (a > 0) | (b > 0), (a > 0) ^ (b > 0), ~(a > 0), torch.logical_not(a), torch.logical_xor(a, b > 0)),
    "bool_arithmetic": lambda a, b: ((a > 0) * (b > 0), (a > 0) + (b > 0), (a > 0) * b, (a > 0).float().sum(1)),
    "broadcast": lambda a, b: a * b.mean((2, 3), keepdim=True) + b[:, :1],
    "constants": lambda a, b: a * torch.arange(8) + torch.ones(6, 1) * torch.tensor(0.5) - b,
    "bools_compared": lambda a, b: ((a > 0) == (b > 0), (a > 0) < (b > 0)),
}


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_tensors(name: str) -> None:
    agrees(BINARY[name], [rand(*IMAGE), rand(*IMAGE, seed=1)])


def conv(*args: Any, **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(*args, **kwargs)


CONVOLUTIONS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "plain": (lambda: conv(4, 6, 3), IMAGE),
    "no_bias": (lambda: conv(4, 6, 3, bias=False, padding=1), IMAGE),
    "stride_dilation_groups": (lambda: conv(4, 6, 3, stride=2, dilation=2, groups=2, padding=2), IMAGE),
    "depthwise": (lambda: conv(4, 8, 3, groups=4, padding=1), IMAGE),
    "asymmetric": (lambda: conv(4, 5, (1, 7), padding=(0, 3), stride=(2, 1)), IMAGE),
    "same_even_kernel": (lambda: conv(4, 5, 4, padding="same"), IMAGE),
    "same_dilated": (lambda: conv(4, 5, (2, 3), padding="same", dilation=(3, 2)), IMAGE),
    "valid": (lambda: conv(4, 5, 3, padding="valid"), IMAGE),
    "reflect": (lambda: conv(4, 5, 3, padding=1, padding_mode="reflect"), IMAGE),
    "circular": (lambda: conv(4, 5, 3, padding=1, padding_mode="circular"), IMAGE),
    "replicate": (lambda: conv(4, 5, 3, padding=2, padding_mode="replicate"), IMAGE),
    "one_dimension": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (1, 4, 9)),
    "one_dimension_same": (lambda: nn.Conv1d(4, 6, 4, padding="same"), (1, 4, 9)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), IMAGE),
    "transposed_groups_dilation": (lambda: nn.ConvTranspose2d(4, 6, (3, 2), stride=(1, 2), groups=2, dilation=(2, 1), bias=False), IMAGE),
    "transposed_one_dimension": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1), (1, 4, 9)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    make, shape = CONVOLUTIONS[name]
    agrees(make(), [rand(*shape)])


def test_convolution_of_an_image_without_a_batch() -> None:
    agrees(conv(4, 6, 3), [rand(4, 6, 8)], static=True)


NORMALIZATIONS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "batch_norm": (lambda: nn.BatchNorm2d(4, eps=1e-3), IMAGE),
    "batch_norm_plain": (lambda: nn.BatchNorm2d(4, affine=False), IMAGE),
    "batch_norm_1d": (lambda: nn.BatchNorm1d(5), (1, 5)),
    "batch_norm_1d_sequence": (lambda: nn.BatchNorm1d(5), (1, 5, 3)),
    "batch_norm_without_statistics": (lambda: nn.BatchNorm2d(4, track_running_stats=False), IMAGE),
    "layer_norm": (lambda: nn.LayerNorm(8), IMAGE),
    "layer_norm_axes": (lambda: nn.LayerNorm((6, 8), elementwise_affine=False), IMAGE),
    "group_norm": (lambda: nn.GroupNorm(2, 4), IMAGE),
    "instance_norm": (lambda: nn.InstanceNorm2d(4), IMAGE),
    "instance_norm_affine": (lambda: nn.InstanceNorm2d(4, affine=True), IMAGE),
    "instance_norm_tracking": (lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True), IMAGE),
    "rms_norm": (lambda: nn.RMSNorm(8, eps=1e-6), IMAGE),
    "local_response_norm": (lambda: nn.LocalResponseNorm(3), IMAGE),
}


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_normalizations(name: str) -> None:
    make, shape = NORMALIZATIONS[name]
    module = make()
    generator = torch.Generator().manual_seed(3)
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    agrees(module, [rand(*shape)])


POOLING: dict[str, Callable[[torch.Tensor], Any]] = {
    "max": lambda x: F.max_pool2d(x, 2),
    "max_padded_ceil": lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "max_dilated": lambda x: F.max_pool2d(x, 2, 1, 0, 2),
    "max_asymmetric": lambda x: F.max_pool2d(x, (1, 3), (1, 2), (0, 1)),
    "max_1d": lambda x: F.max_pool1d(x.flatten(2), 3, 2, 1),
    "avg": lambda x: F.avg_pool2d(x, 2),
    "avg_padded": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "avg_not_counting": lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
    "avg_larger_than_the_input": lambda x: F.avg_pool2d(x, 9, ceil_mode=True),
    "max_larger_than_the_input": lambda x: F.max_pool2d(x, (7, 9), ceil_mode=True),
    "avg_divisor": lambda x: F.avg_pool2d(x, (3, 2), 1, 0, divisor_override=5),
    "avg_1d": lambda x: F.avg_pool1d(x.flatten(2), 3, 2, 1),
    "adaptive_avg_one": lambda x: F.adaptive_avg_pool2d(x, 1),
    "adaptive_avg": lambda x: F.adaptive_avg_pool2d(x, (4, 3)),
    "adaptive_avg_keep": lambda x: F.adaptive_avg_pool2d(x, (None, 3)),
    "adaptive_avg_1d": lambda x: F.adaptive_avg_pool1d(x.flatten(2), 5),
    "adaptive_max": lambda x: F.adaptive_max_pool2d(x, (4, 3)),
    "adaptive_max_1d": lambda x: F.adaptive_max_pool1d(x.flatten(2), 5),
    "lp": lambda x: F.lp_pool2d(x, 2, 3, 1),
}


@pytest.mark.parametrize("name", POOLING)
def test_pooling(name: str) -> None:
    agrees(POOLING[name], [rand(*IMAGE)])


#: Weights by shape, made outside of what is traced.
WEIGHTS = [(3,), (5,), (6,), (8,), (4, 3), (5, 8), (6, 6), (8, 2), (8, 5), (192, 3)]
W: dict[Any, torch.Tensor] = {shape if len(shape) > 1 else shape[0]: rand(*shape) for shape in WEIGHTS}

PRODUCTS: dict[str, Callable[[torch.Tensor], Any]] = {
    "matmul": lambda x: x @ x.transpose(2, 3),
    "matmul_broadcast": lambda x: x @ W[8, 5].to(x.dtype),
    "matmul_vector": lambda x: x @ W[8].to(x.dtype),
    "vector_matmul": lambda x: W[6].to(x.dtype) @ x,
    "bmm": lambda x: torch.bmm(x.flatten(0, 1), x.flatten(0, 1).transpose(1, 2)),
    "mm": lambda x: x.flatten(1) @ W[192, 3].to(x.dtype),
    "addmm": lambda x: torch.addmm(W[3].to(x.dtype), x.flatten(1), W[192, 3].to(x.dtype), beta=0.5, alpha=2.0),
    "baddbmm": lambda x: torch.baddbmm(x[:, 0, :, :6], x[:, 0], x[:, 1].transpose(1, 2), beta=0.5),
    "einsum": lambda x: torch.einsum("nchw,ndhw->ncd", x, x),
    "einsum_outer": lambda x: torch.einsum("nchw,cd->ndhw", x, W[4, 3].to(x.dtype)),
    "tensordot": lambda x: torch.tensordot(x, W[8, 2].to(x.dtype), dims=1),
    "outer": lambda x: x[:, 0, 0, :, None] * x[:, 1, 0, None, :],
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "attention_causal": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.3),
    "attention_mask": lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=torch.eye(6, dtype=torch.bool) | (torch.arange(6) < 3)),
    "attention_bias": lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=W[6, 6].to(x.dtype)),
    "linear": lambda x: F.linear(x, W[5, 8].to(x.dtype), W[5].to(x.dtype)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str) -> None:
    agrees(PRODUCTS[name], [rand(*IMAGE)])


REDUCTIONS: dict[str, Callable[[torch.Tensor], Any]] = {
    "mean": lambda x: x.mean((2, 3)),
    "mean_keepdim": lambda x: x.mean(-1, keepdim=True),
    "mean_all": lambda x: x.mean(),
    "sum": lambda x: (x.sum(1), x.sum(), x.sum((-1, 1), keepdim=True)),
    "sum_of_bool": lambda x: (x > 0).sum(1),
    "prod": lambda x: (x.prod(1), x.prod()),
    "extremes": lambda x: (x.amax((1, 2)), x.amin(-1, keepdim=True), x.max(), x.min()),
    "max_dim": lambda x: x.max(1).values * 2 + x.max(1).indices,
    "min_dim": lambda x: x.min(-1, keepdim=True),
    "argmax": lambda x: (x.argmax(1), x.argmin(-1, keepdim=True)),
    "argmax_flat": lambda x: (x[:, 1].argmax(), x.argmin()),
    "any_all": lambda x: ((x > 1).any(1), (x > -1).all(2), (x > 5).any()),
    "softmax": lambda x: x.softmax(1),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "softmin": lambda x: F.softmin(x, 2),
    "logsumexp": lambda x: torch.logsumexp(x * 50, (1, 3)),
    "cumsum": lambda x: x.cumsum(2),
    "var": lambda x: (x.var((2, 3)), x.var(1, unbiased=False, keepdim=True)),
    "std": lambda x: x.std(-1, correction=2),
    "var_mean": lambda x: torch.var_mean(x, (1, 2), keepdim=True),
    "norm": lambda x: (x.norm(dim=1), x.norm(p=1, dim=(2, 3)), torch.linalg.vector_norm(x, 3, dim=1)),
    "norm_limits": lambda x: (torch.linalg.vector_norm(x, float("inf"), dim=1), torch.linalg.vector_norm(x.relu(), 0, dim=2)),
    "normalize": lambda x: F.normalize(x, dim=1),
    "cosine_similarity": lambda x: F.cosine_similarity(x, x.flip(1), dim=1),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name: str) -> None:
    agrees(REDUCTIONS[name], [rand(*IMAGE)])


SHAPES: dict[str, Callable[[torch.Tensor], Any]] = {
    "view": lambda x: x.view(x.size(0), -1),
    "view_minus_one_first": lambda x: x.view(-1, 4, 48),
    "view_merges_batch": lambda x: x.reshape(-1, 8) * 2,
    "view_splits_batch_again": lambda x: (x.view(-1, 6, 8) + 1).view(x.shape),
    "flatten": lambda x: (x.flatten(1), x.flatten(2), torch.flatten(x)),
    "unflatten": lambda x: x.unflatten(1, (2, 2)),
    "squeeze": lambda x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(2),
    "unsqueeze": lambda x: x.unsqueeze(1).unsqueeze(-1),
    "transpose": lambda x: x.transpose(1, -1),
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "batch_moves": lambda x: x.permute(1, 0, 2, 3).reshape(4, x.shape[0], 48) * 2,
    "movedim": lambda x: x.movedim(1, -1),
    "expand": lambda x: x[:, :1].expand(-1, 5, -1, -1),
    "expand_leading": lambda x: x[:, 0].expand(3, -1, 6, 8),
    "expand_to_batch": lambda x: x + torch.arange(8).expand(x.shape[0], 4, 6, 8),
    "parameter_to_batch": lambda x: torch.cat([x, torch.full((1, 2, 6, 8), 0.5).expand(x.shape[0], -1, -1, -1)], 1),
    "expand_as": lambda x: x.mean(1, keepdim=True).expand_as(x),
    "view_as": lambda x: x.view_as(x) + x.transpose(1, 2).reshape_as(x),
    "repeat": lambda x: x.repeat(1, 2, 1, 3),
    "repeat_batch": lambda x: x.repeat(2, 1, 1, 1),
    "repeat_to_batch": lambda x: torch.ones(1, 3).repeat(x.shape[0], 2) + x.mean((1, 2, 3), keepdim=True).flatten(1),
    "repeat_interleave": lambda x: x.repeat_interleave(3, dim=1),
    "tile": lambda x: x.tile(2, 1, 1),
    "slice": lambda x: x[:, 1:3, ::2, -3:],
    "slice_clipped": lambda x: x[:, 1:100, :, :-1],
    "narrow": lambda x: x.narrow(2, 1, 3),
    "select": lambda x: (x[:, 1], x[..., -1], x.select(2, 3)),
    "chunk": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "chunk_uneven": lambda x: x.chunk(4, 2),
    "split": lambda x: x.split(3, 3),
    "split_sizes": lambda x: x.split([1, 5, 2], 3)[1],
    "tensor_split": lambda x: x.tensor_split(3, 3),
    "unbind": lambda x: x.unbind(1)[2],
    "stack": lambda x: torch.stack([x, x * 2], 1),
    "stack_last": lambda x: torch.stack([x, x * 2], -1),
    "cat": lambda x: torch.cat([x, x * 2, torch.tensor([])], 2),
    "cat_of_nothing": lambda x: torch.cat([x.new_zeros(x.shape[0], 0, *x.shape[2:]), x], 1),
    "cat_promotes": lambda x: torch.cat([x, (x > 0)], 1),
    "roll": lambda x: x.roll((1, -2), (2, 3)),
    "flip": lambda x: x.flip(1, 3),
    "unfold_axis": lambda x: x.unfold(3, 3, 2),
    "channel_shuffle": lambda x: F.channel_shuffle(x, 2),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "unfold_image": lambda x: F.unfold(x, 3, padding=1, stride=2),
    "fold_image": lambda x: F.fold(F.unfold(x, 3, padding=1, stride=2), (6, 8), 3, padding=1, stride=2),
    "fold_patches": lambda x: F.fold(F.unfold(x, (3, 2), stride=(3, 2)) * 2, (6, 8), (3, 2), stride=(3, 2)),
    "meshgrid": lambda x: x * torch.meshgrid(torch.arange(6), torch.arange(8), indexing="ij")[1],
    "tril": lambda x: x * torch.ones(6, 8).tril(),
    "zeros_of_batch": lambda x: torch.cat([x, x.new_zeros(x.shape[0], 2, 6, 8), torch.ones_like(x), torch.full_like(x, 3)], 1),
    "zeros_off_the_first_axis": lambda x: torch.zeros(2, x.shape[0], 8) + x[:, 0, 0],
    "fill": lambda x: x.clone().fill_(2.0) + x,
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name: str) -> None:
    agrees(SHAPES[name], [rand(*IMAGE)])


INDEXING: dict[str, Callable[[torch.Tensor], Any]] = {
    "list": lambda x: x[:, [2, 0, -1]],
    "matrix": lambda x: x[:, torch.tensor([[0, 1], [3, 2]])],
    "two_adjacent": lambda x: x[:, :, torch.tensor([0, 5]), torch.tensor([7, -2])],
    "two_broadcast": lambda x: x[:, :, torch.tensor([[0], [5]]), torch.tensor([7, 1, 2])],
    "two_apart": lambda x: x[:, torch.tensor([0, 3]), :, torch.tensor([7, -2])],
    "index_select": lambda x: x.index_select(3, torch.tensor([1, 1, 6])),
    "computed": lambda x: torch.arange(10.0)[x[:, 0, 0].argmax(1)],
}


@pytest.mark.parametrize("name", INDEXING)
def test_indexing(name: str) -> None:
    agrees(INDEXING[name], [rand(*IMAGE)])


def test_embedding_of_tokens() -> None:
    torch.manual_seed(0)
    graph = agrees(nn.Embedding(11, 3, padding_idx=0), [torch.tensor([[1, 10, 0, 4]])])
    assert [op.name for op in graph.ops] == ["nn.constant", "nn.reshape", "nn.index_select", "nn.reshape"]


PADS: dict[str, Callable[[torch.Tensor], Any]] = {
    "constant": lambda x: F.pad(x, (1, 2, 0, 3), value=0.5),
    "crop": lambda x: F.pad(x, (-1, 2, -2, -1)),
    "channels": lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)),
    "nothing": lambda x: F.pad(x, (0, 0)) * 2,
    "reflect": lambda x: F.pad(x, (3, 2, 1, 0), mode="reflect"),
    "replicate": lambda x: F.pad(x, (3, 2, 1, 0), mode="replicate"),
    "circular": lambda x: F.pad(x, (3, 2, 1, 0), mode="circular"),
    "reflect_1d": lambda x: F.pad(x.flatten(2), (3, 2), mode="reflect"),
}


@pytest.mark.parametrize("name", PADS)
def test_padding(name: str) -> None:
    agrees(PADS[name], [rand(*IMAGE)])


RESIZES: dict[str, Callable[[torch.Tensor], Any]] = {
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "nearest_size": lambda x: F.interpolate(x, size=(9, 5)),
    "nearest_fraction": lambda x: F.interpolate(x, scale_factor=(1.7, 0.6)),
    "nearest_recomputed": lambda x: F.interpolate(x, scale_factor=(1.7, 0.6), recompute_scale_factor=True),
    "nearest_exact": lambda x: F.interpolate(x, size=(9, 5), mode="nearest-exact"),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear_corners": lambda x: F.interpolate(x, size=(11, 13), mode="bilinear", align_corners=True),
    "bilinear_fraction": lambda x: F.interpolate(x, scale_factor=1.3, mode="bilinear"),
    "bilinear_down": lambda x: F.interpolate(x, size=x.shape[2] // 2, mode="bilinear"),
    "bicubic": lambda x: F.interpolate(x, size=(9, 5), mode="bicubic"),
    "linear_1d": lambda x: F.interpolate(x.flatten(2), scale_factor=1.5, mode="linear"),
    "nearest_1d": lambda x: F.interpolate(x.flatten(2), size=31),
}


@pytest.mark.parametrize("name", RESIZES)
def test_resizing(name: str) -> None:
    agrees(RESIZES[name], [rand(*IMAGE)])


class SelfAttention(nn.Module):
    def __init__(self, attention: nn.Module):
        super().__init__()
        self.attention = attention

    def forward(self, x: torch.Tensor) -> Any:
        return self.attention(x, x, x)


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "prelu": (lambda: nn.PReLU(4, 0.3), IMAGE),
    "prelu_one": (lambda: nn.PReLU(), IMAGE),
    "linear": (lambda: nn.Linear(8, 5), IMAGE),
    "linear_no_bias": (lambda: nn.Linear(8, 5, bias=False), (1, 8)),
    "attention": (lambda: nn.MultiheadAttention(8, 2, batch_first=True), (1, 5, 8)),
    "transformer_layer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True), (1, 5, 8)),
    "lstm": (lambda: nn.LSTM(8, 4, batch_first=True), (1, 5, 8)),
    "gru": (lambda: nn.GRU(8, 4, batch_first=True), (1, 5, 8)),
    "bilinear_upsample": (lambda: nn.UpsamplingBilinear2d(scale_factor=2), IMAGE),
    "weight_norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 5, 3)), IMAGE),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules(name: str) -> None:
    torch.manual_seed(0)
    make, shape = MODULES[name]
    module = make()
    inputs = rand(*shape)
    agrees(SelfAttention(module) if name == "attention" else module, [inputs])
