"""Concats and slices that move nothing: which are found, that results stay right, and that those that must copy do."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from backend_run import ALL_TARGETS, DISTINCT_TARGETS, check, conv, graph_of, lowered, resumes
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import execute
from sampling import some
from zoo import traced

from tersor.backend.kernels.cpu.conv.inverted_residual import Rows
from tersor.backend.kernels.cpu.pool import Pool
from tersor.backend.lowering.plan_memory import plan_memory
from tersor.backend.pipelines import lower
from tersor.backend.target import resolve
from tersor.backend.tile.ops import Fused
from tersor.ir.errors import VerifyError
from tersor.ir.graph import Graph
from tersor.ir.op import Value
from tersor.ir.ops import AdaptiveAvgPool2d, Add, Concat, MaxPool2d, Mul, PixelShuffle, Relu, Sigmoid, Slice, Upsample

SHAPE = (1, 3, 12, 10)


def gathers(graph: Graph) -> list[str]:
    """What has become of each gather."""
    found = [op for op in graph.ops if isinstance(op, Fused) and op.body.ops[0].name == "tile.channel_gather"]
    return ["view" if op.alias else "copied" if op.template == "channel_gather" else "absorbed" for op in found]


def cut(x: Value, start: int, stop: int) -> Value:
    return Slice(x, 1, start, stop, 1).out


def fire(x: Value) -> Value:
    squeezed = Relu(conv(x, 16)).out
    return MaxPool2d(Concat([Relu(conv(squeezed, 32)).out, Relu(conv(squeezed, 48, 3)).out], 1), (3, 3), stride=(2, 2)).out


def dense(x: Value) -> Value:
    """Each layer reads all maps before it."""
    maps = [conv(x, 32)]
    for i in range(4):
        joined = Concat(maps, 1).out if i else maps[0]
        maps.append(Relu(conv(joined, 16, 3, seed=i)).out)
    return conv(Concat(maps, 1).out, 20)


def split(x: Value) -> Value:
    """Half of a map goes on, and all of it is joined with what came of the half."""
    y = Relu(conv(x, 64)).out
    left, right = cut(y, 0, 32), cut(y, 32, 64)
    onward = Relu(conv(right, 32, 3)).out
    return conv(Concat([left, right, onward, Add(conv(onward, 32, 3), onward)], 1).out, 20)


def skip(x: Value) -> Value:
    """A map that is read again late."""
    early = Relu(conv(x, 32)).out
    late = early
    for i in range(3):
        late = Relu(conv(late, 32, 3, seed=i)).out
    return conv(Concat([late, early], 1).out, 20)


def twice(x: Value) -> Value:
    """The same map twice: it cannot lie at two places."""
    y = Relu(conv(x, 32)).out
    return conv(MaxPool2d(Concat([y, y], 1).out, (2, 2), stride=(2, 2)).out, 20)


def contested(x: Value) -> Value:
    """Two maps that both would lie behind a third: the later one is copied."""
    y = Relu(conv(x, 32)).out
    first, second = Concat([y, conv(y, 16)], 1).out, Concat([y, conv(y, 16, seed=1)], 1).out
    return Add(conv(first, 20), conv(second, 20)).out


def ragged(x: Value) -> Value:
    """A block that is not full lies before another: see test_lanes.py."""
    return conv(Concat([Relu(conv(x, 20)).out, conv(x, 16)], 1).out, 20)


def ragged_end(x: Value) -> Value:
    return conv(Concat([Relu(conv(x, 16)).out, conv(x, 20)], 1).out, 20)


def interleaved(x: Value) -> Value:
    y = Relu(conv(x, 64)).out
    return conv(Concat([cut(y, 8, 40), conv(y, 16)], 1).out, 20)


CASES = {
    fire: ["view"],
    dense: ["view"] * 4,
    split: ["view", "view"],
    skip: ["view"],
    twice: ["absorbed"],
    contested: ["view", "absorbed"],
    ragged: ["view"],
    ragged_end: ["view"],
    interleaved: ["absorbed"],
}


@pytest.mark.parametrize(
    "case, threads, target", some(((c, *how) for c in CASES for how in [(1, ALL_TARGETS[0]), (2, ALL_TARGETS[0]), (1, DISTINCT_TARGETS[-1])]), 2)
)
def test_who_is_a_view(case: object, threads: int, target: str) -> None:
    compiled = check(graph_of(case, SHAPE), threads=threads, target=target)  # type: ignore[arg-type]
    found = gathers(compiled.graph)
    if resolve(target).lanes == 16:
        assert found == CASES[case]  # type: ignore[index]
    assert compiled.templates.count("channel_gather") == found.count("copied")
    execute(compiled.graph, threads)


def everywhere(x: Value) -> list[Value]:
    """Parts of maps before and behind every kind of kernel."""
    y = Relu(conv(x, 64)).out
    left, right = cut(y, 0, 32), cut(y, 32, 64)
    pooled = AdaptiveAvgPool2d(y, (1, 1)).out
    gate = cut(Sigmoid(conv(pooled, 64)).out, 32, 64)
    gated = Mul(gate, Relu(conv(left, 32, 3, 2, groups=32)).out).out
    smaller = [conv(right, 16, 3, 2), MaxPool2d(left, (3, 3), stride=(2, 2), padding=(1, 1, 1, 1)).out, gated]
    joined = Concat([*smaller, conv(AdaptiveAvgPool2d(right, (6, 5)).out, 16, 5, groups=4)], 1).out
    wide = Concat([Upsample(joined, (12, 10), "nearest", False, None).out, PixelShuffle(conv(cut(joined, 48, 96), 64), 2).out, y], 1).out
    return [conv(Add(cut(wide, 0, 80), Mul(cut(wide, 96, 176), gate_of(wide)).out).out, 20, 3), conv(cut(wide, 64, 112), 9)]


def gate_of(x: Value) -> Value:
    return cut(conv(AdaptiveAvgPool2d(x, (1, 1)).out, 96), 16, 96)


@pytest.mark.parametrize(
    "images, threads, target",
    [(2, 1, ALL_TARGETS[0]), (3, 2, ALL_TARGETS[0]), (2, 2, ALL_TARGETS[1]), (2, 1, ALL_TARGETS[2]), (1, 2, ALL_TARGETS[0])],
)
def test_every_kind_of_kernel(images: int, threads: int, target: str) -> None:
    compiled = check(graph_of(everywhere, (images, *SHAPE[1:])), threads=threads, target=target)
    assert gathers(compiled.graph).count("view") >= 6
    if target == ALL_TARGETS[0]:
        execute(compiled.graph, threads)


def test_images_of_a_view_lie_apart() -> None:
    graph = check(graph_of(fire, (3, *SHAPE[1:]))).graph
    (view,) = [op for op in graph.ops if isinstance(op, Fused) and op.alias]
    image = view.out.type.nbytes // 3
    assert view.stride == image
    first, second = (v.op for v in view.args)
    assert isinstance(first, Fused) and isinstance(second, Fused) and first.stride == second.stride == image
    assert [first.offset, second.offset] == [view.offset, view.offset + first.out.type.nbytes // 3]


def test_a_template_that_does_not_find_them_never_meets_images_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pool, "strided_batch", False)
    assert gathers(check(graph_of(fire, (2, *SHAPE[1:]))).graph) == ["absorbed"]
    assert gathers(check(graph_of(fire, SHAPE)).graph) == ["view"]


def test_nor_does_a_chain_that_does_not_find_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def network(x: Value) -> Value:
        y = Relu(conv(x, 32)).out
        z = conv(Relu(conv(Relu(conv(y, 48)).out, 48, 3, groups=48)).out, 32)
        return MaxPool2d(Concat([y, z], 1).out, (2, 2), stride=(2, 2)).out

    graph = graph_of(network, (2, *SHAPE[1:]))
    assert "inverted_residual" in check(graph, threads=2).templates
    monkeypatch.setattr(Rows, "strided_batch", False)
    found = check(graph, threads=2)
    assert gathers(found.graph) == ["view"] and not {"inverted_residual", "depthwise_pointwise"} & set(found.templates)
    assert "pointwise_depthwise" not in found.templates


def test_what_a_tail_reads_lies_as_its_result_does() -> None:
    """Several images of a part of a concat lie apart, those of what is added to them do not: then it is no part."""

    def network(x: Value) -> Value:
        y = conv(x, 32)
        joined = Concat([Add(y, conv(x, 32, 3)), conv(y, 16)], 1).out
        return conv(MaxPool2d(joined, (2, 2), stride=(2, 2)).out, 20)

    assert gathers(check(graph_of(network, (2, *SHAPE[1:]))).graph) == ["absorbed"]
    assert gathers(check(graph_of(network, SHAPE)).graph) == ["view"]


def test_an_output_is_copied() -> None:
    """What the caller gets lies in the caller's memory, blocked or not, and so does what is read of it."""

    def both(x: Value) -> list[Value]:
        y = Relu(conv(x, 32)).out
        joined = Concat([y, conv(y, 32, 3)], 1).out
        return [joined, y]

    check(graph_of(both, SHAPE))


@pytest.mark.parametrize("target", DISTINCT_TARGETS)
def test_a_gather_that_reads_a_map_twice(target: str) -> None:
    """Its kernel has the map as one argument."""

    def joined(x: Value) -> list[Value]:
        y = Relu(conv(x, 16, seed=1)).out
        pair = Concat([y, conv(y, 16, 3, seed=1)], 1).out
        return [conv(Concat([pair, y], 1).out, 5), conv(Concat([y, y, cut(y, 0, 16)], 1).out, 4), conv(Concat([y, cut(y, 8, 16), y], 1).out, 4)]

    compiled = check(graph_of(joined, SHAPE), target=target)
    execute(compiled.graph, 1)


def test_a_tail_is_computed() -> None:
    compiled = check(graph_of(lambda x: conv(Relu(Concat([conv(x, 16), conv(x, 32, 3)], 1)).out, 20, 3), SHAPE))
    assert gathers(compiled.graph) == ["copied"]


def random_network(x: Value, seed: int) -> list[Value]:
    """Convolutions, joined and cut in all ways."""
    rng = random.Random(seed)
    maps = [Relu(conv(x, rng.choice([16, 32, 48, 20]))).out]
    for i in range(rng.randint(3, 9)):
        y = rng.choice(maps)
        match rng.randrange(4):
            case 0:
                maps.append(Relu(conv(y, rng.choice([16, 32, 24]), rng.choice([1, 3]), seed=i)).out)
            case 1:
                maps.append(Concat([rng.choice(maps) for _ in range(rng.randint(2, 3))], 1).out)
            case 2:
                step = rng.choice([8, 16])
                start = step * rng.randrange(y.shape[1] // step) if y.shape[1] > step else 0
                maps.append(cut(y, start, rng.randint(start + 1, y.shape[1])))
            case 3:
                maps.append(Concat([y, conv(y, 16, 3, seed=i)], 1).out)
    return [conv(maps[-1], 5), conv(rng.choice(maps), 4)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 3))
def test_random_networks_on_paper(seed: int, threads: int, images: int) -> None:
    execute(lowered(graph_of(lambda x: random_network(x, seed), (images, *SHAPE[1:])), threads=threads), threads)


@pytest.mark.parametrize("seed", some(range(8), 4))
def test_random_networks(seed: int) -> None:
    check(graph_of(lambda x: random_network(x, seed), (1 + seed % 3, *SHAPE[1:])), threads=1 + seed % 2)


@pytest.mark.parametrize("name, expected", [("squeezenet1_1", {"view": 8}), ("shufflenetv2", {"absorbed": 18})])
def test_networks(name: str, expected: dict[str, int]) -> None:
    assert Counter(gathers(lowered(traced(name)))) == expected


def test_bands_and_views() -> None:
    """A map that is joined of others lies in partitions where all of them do."""

    def network(x: Value) -> Value:
        y = Relu(conv(x, 32)).out
        return conv(Concat([conv(y, 16), conv(y, 32, seed=1)], 1).out, 16)

    compiled = check(graph_of(network, SHAPE), threads=2)
    (view,) = [op for op in compiled.graph.ops if isinstance(op, Fused) and op.alias]
    assert view.partitions == 2
    assert all(isinstance(v.op, Fused) and v.op.partitions == 2 and v.op.stride == view.stride for v in view.args)


def test_a_stage_can_be_resumed() -> None:
    assert "alias = true" in str(resumes(graph_of(split, SHAPE), "alias-concats", threads=2)["alias-concats"])


def test_a_view_that_is_none_is_said() -> None:
    target = resolve("cpu")
    graph = lower(graph_of(twice, SHAPE), target, until="partition-rows")
    for op in graph.ops:
        if isinstance(op, Fused) and op.body.ops[0].name == "tile.channel_gather":
            op.alias = True
    with pytest.raises(VerifyError, match="its operands do not lie in its memory"):
        plan_memory(graph, target, 1)
