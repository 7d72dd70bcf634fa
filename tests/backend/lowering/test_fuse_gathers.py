"""Gathers of channels that the kernels behind them do: which are absorbed, and that results stay right. Here no kernel writes to parts of blocks
(test_lanes.py), so all that is ragged has to be gathered."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from backend_run import ALL_TARGETS, check, conv, graph_of, lowered, resumes
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import execute
from sampling import some

from tersor.backend.kernels.cpu.conv import gathered_rows
from tersor.backend.kernels.cpu.conv.gemm import Gemm
from tersor.backend.lowering.legalize import legalize
from tersor.backend.pipelines import lower, resume
from tersor.backend.target import Target, resolve
from tersor.backend.tile.fusion import Fusion
from tersor.backend.tile.ops import ChannelGather, Fused
from tersor.backend.tuning.chains import chain_tasks
from tersor.ir.op import Const, Value
from tersor.ir.ops import AdaptiveAvgPool2d, Add, AvgPool2d, ChannelShuffle, Concat, Conv2d, MaxPool2d, Mul, Relu, Sigmoid, Slice

SHAPE = (1, 3, 12, 10)


@pytest.fixture(autouse=True, scope="module")
def whole_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Target, "masks", False)
        yield


def cut(x: Value, start: int, stop: int, step: int = 1) -> Value:
    return Slice(x, 1, start, stop, step).out


def shuffle_unit(x: Value) -> Value:
    """Half of the channels goes on, the other half is convolved, and both are shuffled (ShuffleNetV2)."""
    y = Relu(conv(x, 58)).out
    for i in range(3):
        left, right = cut(y, 0, 29), cut(y, 29, 58)
        branch = conv(conv(Relu(conv(right, 29, seed=i)).out, 29, 3, groups=29), 29, seed=i + 1)
        y = ChannelShuffle(Concat([left, Relu(branch).out], 1).out, 2).out
    return conv(y, 33)


def normed(x: Value) -> Value:
    """A batch norm and an activation stand between (DenseNet)."""
    y = Concat([Relu(conv(x, 20)).out, conv(x, 32, 3), conv(x, 7, 3)], 1).out
    rng = np.random.default_rng(0)
    scale, shift = (Const(rng.standard_normal((1, 59, 1, 1)).astype(np.float32)) for _ in range(2))
    return conv(Relu(Add(Mul(y, scale.out), shift.out)).out, 40)


def exponentials(x: Value) -> Value:
    y = Concat([conv(x, 20), conv(x, 20, 3)], 1).out
    return Sigmoid(conv(Mul(y, Sigmoid(y)).out, 20)).out


def few_outputs(x: Value) -> Value:
    """Outputs that are dot products beside whole vectors."""
    return conv(Concat([conv(x, 24), conv(x, 24, 3)], 1).out, 18)


def residual(x: Value) -> Value:
    y = conv(x, 20)
    return Relu(Add(conv(Concat([y, conv(x, 9, 3)], 1).out, 20), y)).out


def strided(x: Value) -> Value:
    """Every second channel."""
    return conv(Concat([cut(conv(x, 40), 1, 40, 2), conv(x, 5, 3)], 1).out, 70)


def repeated(x: Value) -> Value:
    y = conv(x, 20)
    return conv(Concat([y, conv(x, 5, 3), y], 1).out, 20)


def two_readers(x: Value) -> Value:
    y = Concat([conv(x, 20), conv(x, 9, 3)], 1).out
    return Add(conv(y, 20), conv(Relu(conv(y, 30)).out, 20)).out


def stage_end(x: Value) -> Value:
    """A depthwise convolution and one of single pixels read shuffled channels (ShuffleNetV2)."""
    y = ChannelShuffle(Concat([Relu(conv(x, 58)).out, Relu(conv(x, 58, 3)).out], 1), 2).out
    left = conv(Relu(conv(y, 116, 3, stride=2, groups=116)).out, 20)
    right = conv(conv(Relu(conv(y, 30)).out, 30, 3, stride=2, groups=30), 20, seed=1)
    return Add(left, right).out


def pooled_between(x: Value) -> Value:
    """A pooling of a concat (SqueezeNet, pruned), and one that leaves as many pixels (Inception)."""
    y = MaxPool2d(Concat([Relu(conv(x, 20)).out, Relu(conv(x, 25, 3)).out], 1), (3, 3), (2, 2), (1, 1, 0, 0)).out
    y = AvgPool2d(Concat([conv(y, 7), conv(y, 29)], 1), (3, 3), (1, 1), (1, 1, 1, 1)).out
    return conv(Relu(y).out, 20)


def averaged(x: Value) -> Value:
    return conv(AdaptiveAvgPool2d(Concat([conv(x, 20), conv(x, 9, 3)], 1), (3, 1)).out, 20)


def pooled(x: Value) -> Value:
    return MaxPool2d(Concat([conv(x, 20), conv(x, 9, 3)], 1), (2, 2), (2, 2), (0, 0, 0, 0)).out


def pooled_wide(x: Value) -> Value:
    """With an epilogue before and behind, windows over the border, and rows that no window reads."""
    y = Sigmoid(Concat([conv(x, 20), conv(x, 9, 3)], 1)).out
    return Sigmoid(AvgPool2d(y, (2, 5), (5, 1), (0, 0, 2, 2), count_include_pad=False)).out


def pooled_dilated(x: Value) -> Value:
    return MaxPool2d(Concat([conv(x, 20), conv(x, 9, 3)], 1), (3, 2), (1, 2), (2, 2, 0, 0), (2, 1)).out


def depthwise_output(x: Value) -> Value:
    return conv(Concat([conv(x, 20), conv(x, 9, 3)], 1).out, 29, 3, groups=29)


def depthwise_of_shuffled(x: Value) -> Value:
    """5x5, and channels in another order."""
    y = ChannelShuffle(Concat([conv(x, 20), conv(x, 10, 3)], 1), 3).out
    return Sigmoid(conv(y, 30, 5, 2, groups=30)).out


def many_small_parts(x: Value) -> Value:
    return conv(conv(Concat([conv(x, 4, seed=i) for i in range(8)], 1).out, 32, 3, groups=32), 20)


def added_to_depthwise(x: Value) -> Value:
    """The epilogue reads a map where the result lies."""
    y = conv(Concat([conv(x, 20), conv(x, 9, 3)], 1).out, 29, 3, groups=29)
    return Add(y, conv(x, 29)).out


GEMM, ROWS, POOL = "gathered_gemm", "gathered_depthwise", "gathered_pool"
ABSORBED: dict[Callable[..., Any], dict[str, int]] = {
    shuffle_unit: {GEMM: 4}, normed: {GEMM: 1}, exponentials: {GEMM: 1}, few_outputs: {GEMM: 1}, residual: {GEMM: 1}, strided: {GEMM: 1},
    repeated: {GEMM: 1}, two_readers: {GEMM: 2}, stage_end: {GEMM: 1, ROWS: 1}, pooled_between: {POOL: 2}, averaged: {POOL: 1}, pooled: {POOL: 1},
    pooled_wide: {POOL: 1}, pooled_dilated: {POOL: 1}, depthwise_output: {ROWS: 1}, depthwise_of_shuffled: {ROWS: 1}, many_small_parts: {ROWS: 1},
    added_to_depthwise: {ROWS: 1},
}  # fmt: skip


HOW = [(1, ALL_TARGETS[0], 1), (2, ALL_TARGETS[0], 1), (3, ALL_TARGETS[0], 2), (1, ALL_TARGETS[1], 3), (2, ALL_TARGETS[2], 2)]


@pytest.mark.parametrize("case, threads, target, images", some(((case, *how) for case in ABSORBED for how in HOW), 2))
def test_no_kernel_is_left(case: Callable[..., Any], threads: int, target: str, images: int) -> None:
    compiled = check(graph_of(case, (images, *SHAPE[1:])), threads=threads, target=target)
    if target == ALL_TARGETS[0] and resolve(target).lanes == 16:
        assert Counter(t for t in compiled.templates if "gather" in t) == ABSORBED[case]
        execute(compiled.graph, threads)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("size, stride", [((1, 2), 1), ((7, 7), 2), ((2, 33), 3), ((90, 9), 1), ((61, 50), 2)])
def test_rows_of_a_step(size: tuple[int, int], stride: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step or many, with rows that two of them read, and threads that have none."""
    monkeypatch.setattr(gathered_rows, "PART", 512)

    def network(x: Value) -> Value:
        y = Concat([conv(x, 20), conv(x, 9, 3)], 1).out
        return Concat([conv(y, 29, 3, stride, groups=29), MaxPool2d(y, (3, 3), (stride, stride), (1, 1, 1, 1))], 1).out

    templates = check(graph_of(network, (2, 3, *size)), threads=threads).templates
    assert ROWS in templates and POOL in templates


@pytest.mark.parametrize("size", [(1, 2), (7, 7), (5, 3), (28, 28), (1, 33)])
@pytest.mark.parametrize("threads", [1, 2])
def test_sizes(size: tuple[int, int], threads: int) -> None:
    assert "gathered_gemm" in check(graph_of(normed, (1, 3, *size)), threads=threads).templates


def also_read_by_3x3(x: Value) -> list[Value]:
    y = Concat([conv(x, 20), conv(x, 9, 3)], 1).out
    return [conv(y, 20), conv(y, 20, 3)]


def product_of_patches(x: Value) -> list[Value]:
    """Another convolution that the template `gemm` computes."""
    return [
        conv(
            Concat([conv(MaxPool2d(x, (5, 3), (1, 1), (0, 0, 0, 0)).out, 20), conv(MaxPool2d(x, (5, 3), (1, 1), (0, 0, 0, 0)).out, 9, 3)], 1).out,
            128,
            5,
            2,
        )
    ]


def added_too(x: Value) -> list[Value]:
    y = Concat([conv(x, 20), conv(x, 9, 3)], 1).out
    return [Add(conv(y, 29), y).out]


def an_output(x: Value) -> list[Value]:
    y = Concat([conv(x, 20), conv(x, 9, 3)], 1).out
    return [conv(y, 20), y]


def with_a_map(x: Value) -> list[Value]:
    """The epilogue of the gather reads a map, which lies elsewhere than what is gathered."""
    y, z = Concat([conv(x, 20), conv(x, 9, 3)], 1).out, conv(x, 29)
    return [conv(Relu(Add(y, z)).out, 20)]


@pytest.mark.parametrize(
    "case",
    [also_read_by_3x3, product_of_patches, added_too, an_output, with_a_map],
    ids=lambda case: case.__name__,
)
def test_what_must_copy(case: Callable[..., Any]) -> None:
    templates = check(graph_of(case, SHAPE)).templates
    assert [t for t in templates if "gather" in t] == ["channel_gather"]


def test_other_templates_give_way() -> None:
    """A convolution that the database computes by `direct` gathers as well; what the model chooses then is right for any gemm."""
    target = resolve("cpu")
    graph = lower(graph_of(two_readers, SHAPE), target, tuned=False, until="alias-concats")
    (gather,) = [op for op in graph.ops if isinstance(op, Fused) and op.template == "channel_gather"]
    readers = [op for op in gather.out.users if isinstance(op, Fused)]
    assert len(readers) == 2
    for op in readers:
        op.template, op.params, op.chosen = "direct", {"chunk": 4}, "tuned"
    absorbed = [op for op in resume(graph, "alias-concats", target).ops if isinstance(op, Fused) and op.template == "gathered_gemm"]
    assert len(absorbed) == 2 and all(op.chosen == "model" and op.params in Gemm().candidates(Fusion(op).segments[1], target, 1) for op in absorbed)


def test_bands() -> None:
    """Sources and result lie in partitions, each by itself."""

    def network(x: Value) -> Value:
        y = Relu(conv(x, 20)).out
        z = conv(Concat([conv(y, 20), conv(y, 9, seed=1)], 1).out, 32)
        return conv(conv(z, 32, 3, groups=32), 20)

    for threads in (2, 3):
        graph = check(graph_of(network, (1, 3, 12, 10)), threads=threads).graph
        (op,) = [op for op in graph.ops if isinstance(op, Fused) and op.template == "gathered_gemm"]
        assert op.partitions == threads and all(v.op.partitions == threads for v in op.args if isinstance(v.op, Fused))


def test_the_order_of_channels_is_in_the_weights() -> None:
    """Of a shuffle nothing is left before a convolution: each operand's channels lie side by side."""
    graph = graph_of(lambda x: Conv2d(ChannelShuffle(Relu(conv(x, 6)), 2), Const(np.arange(12, dtype=np.float32).reshape(2, 6, 1, 1))), SHAPE)
    target = resolve("cpu")
    (last,) = [op for op in legalize(graph, target).ops if isinstance(op, Conv2d) and op.out.shape[1] == 2]
    assert not isinstance(last.x.op, ChannelGather)
    assert isinstance(last.w.op, Const) and last.w.op.array[0, :, 0, 0].tolist() == [0, 2, 4, 1, 3, 5]


def test_a_channel_that_is_read_twice_is_read_once() -> None:
    """With the sum of its weights: of the same map beside itself no gather is left."""
    graph = graph_of(
        lambda x: Conv2d(Concat([y := Relu(conv(x, 3)).out, y], 1).out, Const(np.arange(6, dtype=np.float32).reshape(1, 6, 1, 1))), SHAPE
    )
    (last,) = [op for op in legalize(graph.clone(), resolve("cpu")).ops if isinstance(op, Conv2d) and op.out.shape[1] == 1]
    assert not isinstance(last.x.op, ChannelGather)
    assert isinstance(last.w.op, Const) and last.w.op.array[0, :, 0, 0].tolist() == [3, 5, 7]
    check(graph)


def test_no_chain_is_tuned_for_what_a_gather_is_absorbed_in() -> None:
    def network(x: Value) -> Value:
        return conv(conv(conv(Concat([conv(x, 20), conv(x, 9, 3)], 1).out, 48), 48, 3, groups=48), 32)

    keys = [task.key for task in chain_tasks([graph_of(network, SHAPE)], resolve("cpu"), 1, None)]
    assert len(keys) == 1 and "g48" in keys[0].split(" + ")[0]


def random_network(x: Value, seed: int) -> list[Value]:
    """Maps joined, cut, shuffled, pooled and convolved by channel in all ways, with and without epilogues, before convolutions of one pixel."""
    rng = random.Random(seed)
    maps = [Relu(conv(x, rng.choice([16, 20, 33]))).out]
    for i in range(rng.randint(3, 8)):
        y = rng.choice(maps)
        match rng.randrange(5):
            case 0:
                y = Concat([rng.choice(maps) for _ in range(rng.randint(2, 3))], 1).out
            case 1:
                start = rng.randrange(y.shape[1])
                y = cut(y, start, rng.randint(start + 1, y.shape[1]), rng.randint(1, 3))
            case 2:
                y = ChannelShuffle(y, rng.choice([g for g in range(1, 5) if y.shape[1] % g == 0])).out
            case 3:
                y = MaxPool2d(y, (3, 3), (1, 1), (1, 1, 1, 1)).out
            case 4:
                y = conv(y, y.shape[1], 3, groups=y.shape[1], seed=i)
        y = Relu(y).out if rng.randrange(2) else y
        maps.append(Relu(conv(y, rng.choice([9, 16, 40]), seed=i)).out)
    return [conv(maps[-1], 5)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 3))
def test_random_networks_on_paper(seed: int, threads: int, images: int) -> None:
    execute(lowered(graph_of(lambda x: random_network(x, seed), (images, *SHAPE[1:])), threads=threads), threads)


@pytest.mark.parametrize("seed", range(6))
def test_random_networks(seed: int) -> None:
    check(graph_of(lambda x: random_network(x, seed), (1 + seed % 3, *SHAPE[1:])), threads=1 + seed % 2)


def test_a_stage_can_be_resumed() -> None:
    assert "gathered_gemm" in str(resumes(graph_of(shuffle_unit, SHAPE), "fuse-gathers", threads=2)["fuse-gathers"])
