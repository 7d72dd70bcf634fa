"""Concats and slices that begin inside channel blocks: kernels write to parts of blocks, which ones may, and that nobody's lanes are lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from backend_run import ALL_TARGETS, check, conv, graph_of, lowered, resumes
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import execute
from sampling import some

from tersor.backend.kernels.cpu.conv.gathered_rows import GatheredRows
from tersor.backend.kernels.cpu.conv.inverted_residual import Rows
from tersor.backend.kernels.template import TEMPLATES
from tersor.backend.lowering.plan_memory import plan_memory
from tersor.backend.pipelines import lower
from tersor.backend.target import Target, resolve
from tersor.backend.tile.ops import Fused, TileConv2d
from tersor.ir.errors import VerifyError
from tersor.ir.graph import Graph
from tersor.ir.op import Value
from tersor.ir.ops import (
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    ChannelShuffle,
    Concat,
    MaxPool2d,
    Mul,
    PixelShuffle,
    Relu,
    Sigmoid,
    Slice,
    Upsample,
)
from tersor.ir.types import Tensor

SHAPE = (1, 3, 12, 10)
pytestmark = pytest.mark.skipif(not resolve("cpu").masks, reason="this machine's vectors have no masks")


def cut(x: Value, start: int, stop: int) -> Value:
    return Slice(x, 1, start, stop, 1).out


def two(x: Value) -> Value:
    """The first one's last block goes on with the second one's first channels."""
    return conv(Concat([Relu(conv(x, 20)).out, conv(x, 9, 3)], 1).out, 20, 3)


def many(x: Value) -> Value:
    """Parts within a block, over two, and over three."""
    return conv(Concat([conv(x, n, 3, seed=n) for n in (3, 5, 30, 1, 16, 40, 9)], 1).out, 20, 3)


def growing(x: Value) -> list[Value]:
    """Each layer reads all maps before it, and the beginning of one of them is that of all."""
    maps = [conv(x, 24)]
    for i in range(4):
        maps.append(Relu(conv(Concat(maps, 1).out if i else maps[0], 12, 3, seed=i)).out)
    return [conv(Concat(maps, 1).out, 20, 3), Concat(maps[:3], 1).out]


def every_reader(x: Value) -> list[Value]:
    y = Concat([conv(x, 20), Sigmoid(conv(x, 9, 3)).out], 1).out
    pooled = MaxPool2d(y, (2, 2), (2, 2), (0, 0, 0, 0)).out
    return [conv(y, 20), conv(pooled, 8, 3), y, Add(conv(y, 29), y).out, conv(y, 29, 3, groups=29)]


def every_writer(x: Value) -> Value:
    """All kernels that make maps."""
    y = Relu(conv(x, 40)).out
    small = AvgPool2d(y, (2, 2), (2, 2), (0, 0, 0, 0)).out
    parts = [
        conv(conv(ChannelShuffle(y, 4).out, 20, 3), 7),
        conv(y, 16, 5, groups=4),
        conv(y, 40, 3, groups=40),
        MaxPool2d(y, (3, 3), (1, 1), (1, 1, 1, 1)).out,
        Upsample(small, (12, 10), "bilinear", False, None).out,
        PixelShuffle(conv(small, 36, 3), 2).out,
        conv(conv(Relu(conv(y, 50)).out, 50, 3, groups=50), 18),
        conv(ChannelShuffle(y, 2).out, 40, 3, groups=40),
        conv(ChannelShuffle(Concat([y, conv(y, 8)], 1), 2).out, 11),
    ]
    return conv(Concat(parts, 1).out, 20, 3)


def means(x: Value) -> Value:
    """Of one pixel, and of a few."""
    y = conv(x, 21)
    parts = [AdaptiveAvgPool2d(v, (1, 1)).out for v in (y, conv(y, 9))]
    return Mul(conv(Concat(parts, 1).out, 30, 1), conv(y, 30, 3)).out


def sliced(x: Value) -> list[Value]:
    """Where only slices read a map, it may begin inside a block, so that one of them begins at one; the first one takes a block more then."""
    y, z = Relu(conv(x, 60, 3)).out, conv(x, 50, 3, seed=1)
    return [Add(conv(x, 20), conv(cut(y, 8, 45), 20, 3)).out, conv(Concat([cut(z, 3, 50), conv(x, 4)], 1).out, 20, 3)]


def added(x: Value) -> Value:
    """A part whose epilogue reads a map of its own."""
    y = conv(x, 20)
    return conv(Concat([conv(x, 7), Add(y, conv(x, 20, 3)).out, conv(y, 9, 3)], 1).out, 20, 3)


#: How many values each writes to parts of blocks.
CASES: dict[Callable[..., Any], int] = {
    two: 2, many: 7, growing: 5, every_reader: 2, every_writer: 11, means: 2, sliced: 3, added: 3
}  # fmt: skip


def inside(graph: Graph) -> list[int]:
    """The lanes at which results begin that share blocks with others."""
    return [op.lane_offset for op in graph.ops if isinstance(op, Fused) and op.lane_offset >= 0]


@pytest.mark.parametrize("case, threads, images", some(((c, t, n) for c in CASES for t, n in [(1, 1), (2, 1), (1, 3), (3, 2)]), 3))
def test_nothing_is_copied(case: Callable[..., Any], threads: int, images: int) -> None:
    compiled = check(graph_of(case, (images, *SHAPE[1:])), threads=threads)
    execute(compiled.graph, threads)
    # of several images those of a part do not follow each other, which an output has to, and what an epilogue reads beside a part that does
    if images == 1 or case not in (every_reader, added, growing):
        assert len(inside(compiled.graph)) == CASES[case]
        assert "channel_gather" not in compiled.templates


def test_where_they_lie() -> None:
    graph = lowered(graph_of(many, SHAPE))
    parts = {op.out.type.layout.channels: op for op in graph.ops if isinstance(op, Fused) and op.lane_offset >= 0 and op.out.type.layout}
    (view,) = [op for op in graph.ops if isinstance(op, Fused) and op.alias]
    block = 12 * 10 * 64
    where = {n: ((op.offset - view.offset) // block, op.lane_offset) for n, op in parts.items()}
    assert where == {3: (0, 0), 5: (0, 3), 30: (0, 8), 1: (2, 6), 16: (2, 7), 40: (3, 7), 9: (5, 15)}


def test_whoever_writes_last() -> None:
    """What lies behind the channels of a part is another's, who may have written it before."""
    graph = Graph()
    x = graph.add_input(Tensor(SHAPE), "x0")
    parts = [graph.add(conv(x, n, 3, seed=n).op) for n in (9, 5, 20)][::-1]  # type: ignore[arg-type]
    graph.set_outputs([graph.add(conv(Concat(parts, 1).out, 20, 3).op)])  # type: ignore[arg-type]
    assert inside(check(graph).graph) == [9, 4, 0]


@pytest.mark.parametrize("target", [ALL_TARGETS[1], ALL_TARGETS[2], "cpu:x86-64-v4"])
def test_targets(target: str) -> None:
    """Without masks they are gathered as before."""
    graph = check(graph_of(every_reader, SHAPE), target=target, threads=2).graph
    assert bool(inside(graph)) == (target == "cpu:x86-64-v4")


def also_read(x: Value) -> list[Value]:
    """A kernel reads the second part itself, which then has to begin a block; that reads the first one may well be."""
    y, z = conv(x, 20), conv(x, 9, 3)
    return [conv(Concat([y, z], 1).out, 20, 3), conv(z, 4, 3)]


def first_read(x: Value) -> list[Value]:
    y, z = conv(x, 20), conv(x, 9, 3)
    return [conv(Concat([y, z], 1).out, 20, 3), conv(y, 4, 3)]


def tail_alone(x: Value) -> Value:
    """A kernel of elementwise operators knows of no channels."""
    y = conv(x, 20)
    z = Mul(Add(y, conv(x, 20, 3)).out, AdaptiveAvgPool2d(y, (1, 1)).out).out
    return conv(Concat([Mul(z, y).out, conv(x, 9, 3)], 1).out, 20, 3)


def halves(x: Value) -> Value:
    """Of two slices one at most can begin a block."""
    y = conv(x, 40, 3)
    return Add(conv(cut(y, 0, 20), 20, 3), conv(cut(y, 20, 40), 20, 3)).out


def twice(x: Value) -> Value:
    y = conv(x, 20)
    return conv(MaxPool2d(Concat([y, conv(x, 3), y], 1), (2, 2), (2, 2), (0, 0, 0, 0)).out, 20, 3)


@pytest.mark.parametrize("case, lanes, copied", [(also_read, 0, 1), (first_read, 2, 0), (tail_alone, 0, 1), (halves, 0, 1), (twice, 0, 0)])
def test_who_may(case: Callable[..., Any], lanes: int, copied: int) -> None:
    compiled = check(graph_of(case, SHAPE))
    assert len(inside(compiled.graph)) == lanes
    assert compiled.templates.count("channel_gather") == copied
    execute(compiled.graph)


@pytest.mark.parametrize("threads, size", some(product([1, 2], [(7, 7), (5, 9), (14, 14), (12, 10)]), 3))
def test_results_that_are_stored_before_they_are_done(size: tuple[int, int], threads: int) -> None:
    """Winograd's stages on small maps add to the result, and a long epilogue works on results that lie there."""

    def network(x: Value) -> Value:
        y = Relu(conv(x, 70)).out
        parts = [Sigmoid(conv(y, 9)).out, conv(y, 40, 3), Sigmoid(conv(y, 21, 3, seed=1)).out, Sigmoid(conv(y, 70, 3, groups=70)).out]
        return conv(Concat(parts, 1).out, 20, 3)

    compiled = check(graph_of(network, (1, 3, *size)), threads=threads)
    assert len(inside(compiled.graph)) == 4 and (size == (5, 9) or "winograd" in compiled.templates)


def test_a_template_that_does_not_say_so_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for template in TEMPLATES[TileConv2d]:
        monkeypatch.setattr(type(template), "masked_stores", False)
    assert not inside(check(graph_of(two, SHAPE)).graph)


def test_nor_becomes_a_chain_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def network(x: Value) -> Value:
        y = Relu(conv(x, 32)).out
        return conv(Concat([conv(Relu(conv(Relu(conv(y, 48)).out, 48, 3, groups=48)).out, 18), conv(y, 9, 3)], 1).out, 20, 3)

    graph = graph_of(network, (2, *SHAPE[1:]))
    before = check(graph, threads=2)
    assert "inverted_residual" in before.templates
    monkeypatch.setattr(Rows, "masked_stores", False)
    after = check(graph, threads=2)
    assert len(inside(after.graph)) == len(inside(before.graph)) == 2
    assert not {"inverted_residual", "depthwise_pointwise"} & set(after.templates)


def test_nor_takes_a_gather_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def network(x: Value) -> Value:
        y = conv(ChannelShuffle(Concat([conv(x, 20), conv(x, 10, 3)], 1), 3).out, 30, 3, groups=30)
        return conv(Concat([y, conv(x, 9, 3)], 1).out, 20, 3)

    graph = graph_of(network, SHAPE)
    assert "gathered_depthwise" in check(graph).templates
    monkeypatch.setattr(GatheredRows, "masked_stores", False)
    after = check(graph)
    assert inside(after.graph) == [0, 14] and "gathered_depthwise" not in after.templates and "channel_gather" in after.templates


def test_bands() -> None:
    """Blocks lie in partitions of rows, and parts of blocks do."""

    def network(x: Value) -> Value:
        y = Relu(conv(x, 32)).out
        return conv(Concat([conv(y, n, seed=n) for n in (9, 20, 32)], 1).out, 16)

    graph = check(graph_of(network, SHAPE), threads=2).graph
    (view,) = [op for op in graph.ops if isinstance(op, Fused) and op.alias]
    assert view.partitions == 2 and all(isinstance(v.op, Fused) and v.op.partitions == 2 and v.op.stride == view.stride for v in view.args)
    assert inside(graph) == [0, 9, 13]


def random_network(x: Value, seed: int) -> list[Value]:
    """Convolutions, poolings, concats and slices of any channel counts, read by all kinds of kernels."""
    rng = random.Random(seed)
    maps = [Relu(conv(x, rng.randint(1, 40))).out]
    for i in range(rng.randint(3, 9)):
        y = rng.choice(maps)
        match rng.randrange(6):
            case 0 | 1:
                maps.append(Relu(conv(y, rng.randint(1, 40), rng.choice([1, 3]), seed=i)).out)
            case 2 | 3:
                own = [conv(y, rng.randint(1, 20), rng.choice([1, 3]), seed=i + 20 * j) for j in range(rng.randint(1, 4))]
                rng.shuffle(own := [*own, y])
                maps.append(Concat(own, 1).out)
            case 4:
                start = rng.randrange(y.shape[1])
                maps.append(cut(y, start, rng.randint(start + 1, y.shape[1])))
            case 5:
                maps.append(rng.choice([MaxPool2d(y, (3, 3), (1, 1), (1, 1, 1, 1)).out, conv(y, y.shape[1], 3, groups=y.shape[1], seed=i)]))
    return [conv(maps[-1], 5, 3), conv(rng.choice(maps), 4)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 3))
def test_random_networks_on_paper(seed: int, threads: int, images: int) -> None:
    execute(lowered(graph_of(lambda x: random_network(x, seed), (images, *SHAPE[1:])), threads=threads), threads)


@pytest.mark.parametrize("seed", some(range(12), 4))
def test_random_networks(seed: int) -> None:
    check(graph_of(lambda x: random_network(x, seed), (1 + seed % 3, *SHAPE[1:])), threads=1 + seed % 2)


def test_a_stage_can_be_resumed() -> None:
    assert "lane_offset = 8" in str(resumes(graph_of(many, SHAPE), "alias-concats", threads=2)["alias-concats"])


def test_a_kernel_that_would_write_over_others_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    target = resolve("cpu")
    graph = lower(graph_of(two, SHAPE), target, until="partition-rows")
    for template in TEMPLATES[TileConv2d]:
        monkeypatch.setattr(type(template), "masked_stores", False)
    with pytest.raises(VerifyError, match="writes whole channel blocks"):
        plan_memory(graph, target, 1)


def test_a_machine_without_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "masks", False)
    assert not inside(check(graph_of(many, SHAPE)).graph)
