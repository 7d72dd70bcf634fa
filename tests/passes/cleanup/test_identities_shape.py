"""Identities of operators that move elements: bits against eager torch, a negative for each guard, and batch sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pass_cases import Identity, awkward, c, check_identity, graph_of, names, refusal, run, same_bits

from tersor.ir import Graph, Tensor, TersorError
from tersor.ir import ops as nn
from tersor.ir.rewrite import Rewrite
from tersor.passes.cleanup import identities_shape as i
from tersor.passes.cleanup.canonicalize import canonicalize

SQUARE = (2, 3, 4, 4)


def index(*values: int) -> Any:
    return c(*values, dtype="int64", shape=(len(values),))


CASES = [
    Identity(i.moves_nothing, lambda x: nn.Transpose(x, (0, 1, 2, 3)), lambda x: x.permute(0, 1, 2, 3), []),
    Identity(i.moves_nothing, lambda x: nn.Reshape(x, (2, 3, 4, 5)), lambda x: x.reshape(2, 3, 4, 5), []),
    Identity(i.moves_nothing, lambda x: nn.Expand(x, (-1, 3, -1, 5)), lambda x: x.expand(-1, 3, -1, 5), []),
    Identity(
        i.transpose_of_transpose,
        lambda x: nn.Transpose(nn.Transpose(x, (1, 2, 3, 0)), (0, 2, 1, 3)),
        lambda x: x.permute(1, 2, 3, 0).permute(0, 2, 1, 3),
        ["transpose"],
    ),
    Identity(
        i.reshape_of_reshape, lambda x: nn.Reshape(nn.Reshape(x, (-1, 20)), (-1, 12, 5)), lambda x: x.reshape(-1, 20).reshape(-1, 12, 5), ["reshape"]
    ),
    Identity(
        i.expand_of_expand,
        lambda x: nn.Expand(nn.Expand(x, (-1, 3, 4)), (2, -1, -1, -1)),
        lambda x: x.expand(-1, 3, 4).expand(2, -1, -1, -1),
        ["expand"],
        [(2, 1, 4)],
    ),
    Identity(
        i.expand_is_broadcast,
        lambda x, y: nn.Add(nn.Expand(y, (2, 3, 4, 5)), x),
        lambda x, y: y.expand(2, 3, 4, 5) + x,
        ["add"],
        [(2, 3, 4, 5), (2, 1, 4, 1)],
    ),
    Identity(
        i.expand_is_broadcast,
        lambda x, y: nn.Where(nn.Less(nn.Expand(y, (2, 3, 4, 5)), x), x, nn.Neg(x)),
        lambda x, y: torch.where(y.expand(2, 3, 4, 5) < x, x, -x),
        ["less", "neg", "where"],
        [(2, 3, 4, 5), (2, 1, 4, 1)],
    ),
    Identity(
        i.moved_and_back,
        lambda x: nn.Transpose(nn.Abs(nn.Transpose(x, (0, 2, 3, 1))), (0, 3, 1, 2)),
        lambda x: x.permute(0, 2, 3, 1).abs().permute(0, 3, 1, 2),
        ["abs"],
    ),
    Identity(i.moved_and_back, lambda x: nn.Reshape(nn.Neg(nn.Reshape(x, (-1, 60))), (2, 3, 4, 5)), lambda x: -x, ["neg"]),
    Identity(i.slice_of_all, lambda x: nn.Slice(x, 2, 0, 4), lambda x: x[:, :, 0:4], []),
    Identity(i.slice_of_slice, lambda x: nn.Slice(nn.Slice(x, 3, 1, 5, 2), 3, 1, 2), lambda x: x[..., 1:5:2][..., 1:2], ["slice"]),
    Identity(i.slice_of_slice, lambda x: nn.Slice(nn.Slice(x, 1, 1, 12), 1, 2, 11, 3), lambda x: x[:, 1:12][:, 2:11:3], ["slice"], [(2, 13)]),
    Identity(
        i.slice_of_concat,
        lambda x, y: nn.Slice(nn.Concat([x, y], 1), 1, 3, 5),
        lambda x, y: torch.cat([x, y], 1)[:, 3:5],
        ["slice"],
        [(2, 3, 4), (2, 3, 4)],
    ),
    Identity(i.concat_of_one, lambda x: nn.Concat([x], 1), lambda x: torch.cat([x], 1), []),
    Identity(
        i.concat_of_concat,
        lambda x: nn.Concat([x, nn.Concat([nn.Neg(x), x], 1), x], 1),
        lambda x: torch.cat([x, torch.cat([-x, x], 1), x], 1),
        ["neg", "concat"],
    ),
    Identity(
        i.concat_of_slices,
        lambda x: nn.Concat([nn.Slice(x, 3, 0, 2), nn.Slice(x, 3, 2, 3), nn.Slice(x, 3, 3, 5)], 3),
        lambda x: torch.cat(x.split([2, 1, 2], 3), 3),
        ["slice", "concat"],
    ),
    Identity(i.pad_by_nothing, lambda x: nn.Pad(x, (0,) * 8), lambda x: F.pad(x, (0, 0)), []),
    Identity(
        i.pad_of_pad,
        lambda x: nn.Pad(nn.Pad(x, (0, 0, 0, 0, 1, 2, 3, 0), value=1.5), (0, 0, 1, 0, 0, 0, 1, 1), value=1.5),
        lambda x: F.pad(F.pad(x, (3, 0, 1, 2), value=1.5), (1, 1, 0, 0, 1, 0), value=1.5),
        ["pad"],
    ),
    Identity(i.index_to_slice, lambda x: nn.IndexSelect(x, index(1, 3), 3), lambda x: x.index_select(3, torch.tensor([1, 3])), ["slice"]),
    Identity(i.index_to_slice, lambda x: nn.IndexSelect(x, index(2), 1), lambda x: x.index_select(1, torch.tensor([2])), ["slice"]),
    Identity(
        i.shuffle_by_hand,
        lambda x: nn.Reshape(nn.Transpose(nn.Reshape(x, (-1, 2, 3, 4, 5)), (0, 2, 1, 3, 4)), (-1, 6, 4, 5)),
        lambda x: x.reshape(-1, 2, 3, 4, 5).transpose(1, 2).reshape(-1, 6, 4, 5),
        ["channel_shuffle"],
        [(2, 6, 4, 5)],
    ),
    Identity(i.shuffles_nothing, lambda x: nn.ChannelShuffle(x, 3), lambda x: F.channel_shuffle(x, 3), []),
    Identity(i.shuffles_nothing, lambda x: nn.PixelShuffle(nn.PixelUnshuffle(x, 1), 1), lambda x: x.clone(), []),
    Identity(
        i.shuffle_and_back, lambda x: nn.PixelShuffle(nn.PixelUnshuffle(x, 2), 2), lambda x: F.pixel_shuffle(F.pixel_unshuffle(x, 2), 2), [], [SQUARE]
    ),
    Identity(i.resize_to_same, lambda x: nn.Upsample(x, (4, 5)), lambda x: F.interpolate(x, (4, 5)), []),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.pattern.name)
def test_bits_of_eager_torch(case: Identity) -> None:
    check_identity(case)


def test_every_identity_has_a_case() -> None:
    assert {case.pattern.name for case in CASES} == {pattern.name for pattern in i.SHAPES}


def test_text(golden: Callable[[str, str], None]) -> None:
    golden("passes/identities_shape.mlir", "\n".join(check_identity(case) for case in CASES))


def square(x: Any) -> Any:
    return nn.Expand(nn.Mean(x, (1, 2, 3)), (2, 2, 2))


def twice_read(x: Any) -> list[Any]:
    neg = nn.Neg(nn.Transpose(x, (0, 2, 3, 1)))
    return [nn.Transpose(neg, (0, 3, 1, 2)), neg]


def concat_read_twice(x: Any) -> list[Any]:
    inner = nn.Concat([x, x], 1)
    return [nn.Concat([inner, x], 1), inner]


@pytest.mark.parametrize(
    ("pattern", "build", "reason"),
    [
        (i.moves_nothing, lambda x: nn.Transpose(x, (0, 1, 3, 2)), ""),
        (i.moves_nothing, lambda x: nn.Reshape(x, (2, 4, 3, 5)), ""),
        (i.moves_nothing, lambda x: nn.Expand(x, (1, 2, 3, 4, 5)), ""),
        (i.expand_is_broadcast, lambda x: nn.Add(nn.Expand(c(1, shape=(1, 1, 1, 5)), (2, 3, 4, 5)), nn.Mean(x, (0,), True)), ""),
        (i.moved_and_back, lambda x: nn.Transpose(nn.Neg(nn.Transpose(x, (0, 2, 3, 1))), (0, 2, 3, 1)), ""),
        (i.moved_and_back, lambda x: nn.Reshape(nn.Neg(nn.Reshape(x, (2, 60))), (2, 4, 3, 5)), ""),
        (i.moved_and_back, lambda x: nn.Reshape(nn.Neg(nn.Transpose(x, (0, 2, 3, 1))), (2, 3, 4, 5)), ""),
        (i.moved_and_back, lambda x: nn.Transpose(nn.Neg(nn.Transpose(square(x), (1, 2, 0))), (1, 2, 0)), ""),
        (i.moved_and_back, twice_read, "other readers"),
        (i.slice_of_all, lambda x: nn.Slice(x, 3, 0, 4), ""),
        (i.slice_of_all, lambda x: nn.Slice(x, 3, 0, 5, 2), ""),
        (i.slice_of_slice, lambda x: nn.Slice(nn.Slice(x, 3, 1, 4), 2, 1, 4), ""),
        (i.slice_of_concat, lambda x: nn.Slice(nn.Concat([x, x], 1), 1, 2, 4), ""),
        (i.slice_of_concat, lambda x: nn.Slice(nn.Concat([x, x], 1), 2, 0, 1), ""),
        (i.concat_of_concat, lambda x: nn.Concat([nn.Concat([x, x], 1), nn.Concat([x, x], 1)], 2), ""),
        (i.concat_of_concat, concat_read_twice, ""),
        (i.concat_of_slices, lambda x: nn.Concat([nn.Slice(x, 3, 0, 2), nn.Slice(x, 3, 3, 5)], 3), ""),
        (i.concat_of_slices, lambda x: nn.Concat([nn.Slice(x, 3, 0, 2), nn.Slice(x, 3, 2, 5, 2)], 3), ""),
        (i.concat_of_slices, lambda x: nn.Concat([nn.Slice(x, 3, 0, 2), nn.Slice(nn.Neg(x), 3, 2, 4)], 3), ""),
        (i.concat_of_slices, lambda x: nn.Concat([nn.Slice(x, 2, 0, 2), nn.Slice(x, 2, 2, 4)], 3), ""),
        (i.pad_by_nothing, lambda x: nn.Pad(x, (0, 0, 0, 0, 0, 0, 1, -1)), ""),
        (i.pad_of_pad, lambda x: nn.Pad(nn.Pad(x, (0,) * 7 + (1,)), (0,) * 7 + (1,), value=1.0), "two values"),
        (i.pad_of_pad, lambda x: nn.Pad(nn.Pad(x, (0,) * 7 + (1,)), (0,) * 7 + (-1,)), "crop"),
        (i.pad_of_pad, lambda x: nn.Pad(nn.Pad(x, (0,) * 7 + (1,), "reflect"), (0,) * 7 + (1,), "reflect"), ""),
        (i.index_to_slice, lambda x: nn.IndexSelect(x, index(3, 1), 3), ""),
        (i.index_to_slice, lambda x: nn.IndexSelect(x, index(0, 1, 3), 3), ""),
        (i.index_to_slice, lambda x: nn.IndexSelect(x, index(1, 1), 3), ""),
        (i.shuffle_by_hand, lambda x: nn.Reshape(nn.Transpose(nn.Reshape(x, (2, 2, 6, 5)), (0, 2, 1, 3)), (2, 3, 4, 5)), ""),
        (i.shuffle_by_hand, lambda x: nn.Reshape(nn.Transpose(nn.Reshape(x, (2, 3, 2, 2, 5)), (0, 1, 3, 2, 4)), (2, 3, 4, 5)), ""),
        (i.shuffle_by_hand, lambda x: nn.Reshape(nn.Transpose(nn.Reshape(x, (2, 3, 1, 4, 5)), (0, 2, 1, 3, 4)), (2, 3, 20)), ""),
        (i.shuffles_nothing, lambda x: nn.ChannelShuffle(nn.Concat([x, x], 1), 2), ""),
        (i.shuffle_and_back, lambda x: nn.PixelShuffle(nn.PixelUnshuffle(nn.Concat([x] * 4, 2), 4), 2), ""),
        (i.resize_to_same, lambda x: nn.Upsample(x, (4, 5), "bilinear"), ""),
        (i.resize_to_same, lambda x: nn.Upsample(x, (4, 5), scales=(1.1, 1.1)), ""),
        (i.resize_to_same, lambda x: nn.Upsample(x, (8, 5)), ""),
    ],
)
def test_refused(pattern: Rewrite, build: Callable[..., Any], reason: str) -> None:
    types = [(2, 3, 16, 16)] if pattern is i.shuffle_and_back else []
    assert reason in refusal(pattern, build, *types)
    assert bool(reason) == bool(refusal(pattern, build, *types))


# -- shapes that agree at one batch size only --------------------------------------------------


def same_at_every_batch(build: Callable[..., Any], eager: Callable[..., torch.Tensor], left: list[str], shape: tuple[int, ...]) -> Graph:
    graph = graph_of(build, shape)
    after = graph.clone()
    canonicalize(after)
    after.verify()
    assert names(after) == left
    assert after.inputs[0].type == graph.inputs[0].type
    for batch in (1, 3):
        x = awkward(Tensor((batch, *shape[1:])))
        assert same_bits(run(after.at(batch), [x])[0], eager(x).numpy())
    return after


def test_a_slice_of_the_batch_is_no_identity_although_batch_1_looks_so() -> None:
    same_at_every_batch(lambda x: nn.Slice(x, 0, 0, 1), lambda x: x[0:1], ["slice"], (1, 3))


def test_a_reshape_that_moves_the_batch_is_no_identity() -> None:
    same_at_every_batch(lambda x: nn.Reshape(x, (1, -1)), lambda x: x.reshape(1, -1), ["reshape"], (1, 3))


def test_a_reshape_with_a_free_batch_is_an_identity() -> None:
    same_at_every_batch(lambda x: nn.Reshape(nn.Neg(x), (-1, 3)), lambda x: -x, ["neg"], (1, 3))


def test_a_slice_within_a_concat_of_batches_depends_on_their_sizes() -> None:
    def build(x: Any) -> Any:
        return nn.Slice(nn.Concat([x, nn.Neg(x)], 0), 0, 1, 2)

    same_at_every_batch(build, lambda x: torch.cat([x, -x])[1:2], ["neg", "concat", "slice"], (1, 3))


def test_an_index_into_the_batch_stays() -> None:
    same_at_every_batch(lambda x: nn.IndexSelect(x, index(0), 0), lambda x: x[[0]], ["index_select"], (1, 3))


def test_a_graph_that_claims_a_free_batch_and_has_none_is_an_error() -> None:
    graph = graph_of(lambda x: nn.Reshape(x, (4, 3)), (2, 6))
    with pytest.raises(TersorError, match=r"batch of input x is free, but the graph does not work at every batch size: nn.reshape"):
        canonicalize(graph)
    assert graph.inputs[0].shape == (2, 6)


def test_types_are_restored() -> None:
    graph = graph_of(lambda x: nn.Relu(nn.Neg(x)), (1, 6))
    with i.far_batch(graph):
        assert all(op.out.shape == (i.FAR_BATCH, 6) for op in graph)
    assert all(op.out.shape == (1, 6) for op in graph)
    assert np.array_equal(run(graph, [torch.ones(1, 6)])[0], np.zeros((1, 6)))
