"""partition-rows: which maps are partitioned, where the planner puts them, and that every kernel finds them, against the interpreter in float64."""

from __future__ import annotations

import random

import pytest
from backend_run import TARGETS, check, conv, graph_of, lowered, resumes
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import traced

from tersor.backend.emit.module import kernel_key
from tersor.backend.kernels.cpu.conv.gemm import Gemm
from tersor.backend.lowering import fuse_chains as chain_module
from tersor.backend.lowering.plan_memory import PAGE
from tersor.backend.target import resolve
from tersor.backend.tile.fusion import Fusion, RowLayout
from tersor.backend.tile.ops import Fused
from tersor.ir.graph import Graph
from tersor.ir.op import Value
from tersor.ir.ops import AdaptiveAvgPool2d, AdaptiveMaxPool2d, Add, MaxPool2d, Mul, Relu, Sigmoid, Silu

#: Heights of maps: those of a network are halved by its strides.
HEIGHTS = (4, 6, 8, 12, 14, 24)


def random_network(x: Value, seed: int) -> list[Value]:
    """A first layer, then convolutions, pointwise and depthwise ones, with epilogues, residuals and squeeze-and-excitation; up to two outputs."""
    rng = random.Random(seed)
    y = Relu(conv(x, rng.randint(5, 40), 3)).out
    maps = [y]
    for i in range(rng.randint(2, 8)):
        c = y.shape[1]
        match rng.randrange(7):
            case 0:
                y = Relu(conv(y, rng.randint(3, 50), seed=i)).out
            case 1:
                y = Silu(conv(y, c, seed=i)).out
            case 2:
                y = Relu(conv(y, c, rng.choice([3, 5]), rng.choice([1, 1, 2]), c, i)).out
            case 3:
                y = Add(conv(y, c, seed=i), y).out
            case 4:
                y = conv(Relu(conv(Relu(conv(y, 2 * c, seed=i)).out, 2 * c, 3, rng.choice([1, 2]), 2 * c, i)).out, c, seed=i)
            case 5:
                y = Mul(y, Sigmoid(conv(AdaptiveAvgPool2d(y, (1, 1)).out, c, seed=i)).out).out
            case 6:
                y = Relu(conv(y, rng.randint(3, 50), 3, rng.choice([1, 2]), seed=i)).out
        maps.append(y)
    return [y, *([Relu(rng.choice(maps)).out] if rng.randrange(3) == 0 else [])]


def banded(graph: Graph) -> list[Fused]:
    return [op for op in graph.ops if isinstance(op, Fused) and op.partitions > 1]


def network(x: Value) -> Value:
    """First layer, depthwise, pointwise with a residual, a depthwise of stride 2, pointwise."""
    y = Relu(conv(x, 32, 3)).out
    z = Relu(conv(y, 32, 3, groups=32)).out
    y = Add(conv(z, 32), y).out
    y = Relu(conv(y, 32, 3, 2, 32)).out
    return conv(y, 40)


@pytest.fixture
def separate(monkeypatch: pytest.MonkeyPatch) -> None:
    """No chains."""
    monkeypatch.setattr(chain_module, "separate_cost", lambda *_: -1.0)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), threads=st.integers(2, 4), height=st.sampled_from(HEIGHTS), width=st.integers(1, 20))
def test_any_network(seed: int, threads: int, height: int, width: int) -> None:
    graph = graph_of(lambda x: random_network(x, seed), (1, 3, height, width))
    check(graph, threads=threads)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize("threads", [2, 3, 4])
def test_every_kernel_finds_its_rows(threads: int, chained: bool, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "separate_cost", lambda ops, *_: (1e15 if chained else -1e15) * len(ops))
    compiled = check(graph_of(network, (1, 3, 24, 20)), threads=threads, target=target)
    found = banded(compiled.graph)
    assert len(found) >= 2 and all(op.partitions == threads for op in found)
    expected = {"direct", "depthwise_pointwise"} if chained else {"direct", "depthwise", "gemm"}
    assert expected <= {op.template for op in found}


@pytest.mark.usefixtures("separate")
@pytest.mark.parametrize("threads", [2, 3])
def test_squeeze_and_excitation(threads: int) -> None:
    """Pooling to one pixel merges partitions, and what multiplies the map by it keeps to them; sizes at which threads share elementwise kernels."""

    def build(x: Value) -> list[Value]:
        y = Relu(conv(x, 33, 3)).out
        for kernel, pool in ((3, AdaptiveAvgPool2d), (5, AdaptiveMaxPool2d)):
            y = Silu(conv(y, 33, kernel, groups=33)).out
            y = Mul(y, Sigmoid(conv(pool(y, (1, 1)).out, 33)).out).out
        return [MaxPool2d(Relu(conv(y, 8)).out, (2, 2), (2, 2), (0, 0, 0, 0)).out]

    compiled = check(graph_of(build, (1, 3, 48, 40)), threads=threads)
    assert {"direct", "depthwise", "elementwise"} <= {op.template for op in banded(compiled.graph)}
    pools = [op for op in compiled.graph.ops if isinstance(op, Fused) and op.template == "adaptive_pool"]
    assert len(pools) == 2 and all(op.scratch >= 0 and op.args[0].op in banded(compiled.graph) for op in pools)


@pytest.mark.usefixtures("separate")
def test_small_chunks_and_dot_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that end inside a partition, and outputs that are dot products: 33 = 2 * 16 + 1."""
    monkeypatch.setattr(Gemm, "candidates", lambda *_: [{"chunk": 9}])

    def build(x: Value) -> list[Value]:
        y = Relu(conv(x, 32, 3)).out
        y = Relu(conv(y, 33)).out
        return [conv(Relu(conv(y, 33, 5, groups=33)).out, 20)]

    compiled = check(graph_of(build, (1, 3, 12, 10)), threads=2)
    gemm, *_ = [op for op in banded(compiled.graph) if op.template == "gemm"]
    assert gemm.params == {"chunk": 9} and gemm.out.type.layout.channels == 33  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("why", "shape", "threads"),
    [("one thread", (1, 3, 24, 20), 1), ("a thread for each image", (2, 3, 24, 20), 2), ("odd heights", (1, 3, 25, 20), 2)],
)
def test_where_threads_do_not_divide_rows_evenly_nothing_is_in_bands(why: str, shape: tuple[int, ...], threads: int) -> None:
    assert banded(check(graph_of(network, shape), threads=threads).graph) == [], why


@pytest.mark.usefixtures("separate")
def test_all_readers_must_find_bands() -> None:
    """A map that pooling reads too, an output, and what is added to either lie as usual."""

    def build(x: Value) -> list[Value]:
        first = Relu(conv(x, 32, 3)).out
        second = Add(conv(first, 32), first).out
        third = Relu(conv(second, 32, 3, groups=32)).out
        fourth = Add(conv(third, 32), third).out
        return [MaxPool2d(first, (2, 2), (2, 2), (0, 0, 0, 0)).out, conv(Relu(conv(fourth, 32, 3, groups=32)).out, 40)]

    graph = check(graph_of(build, (1, 3, 24, 20)), threads=2).graph
    fusions = [op for op in graph.ops if isinstance(op, Fused) and op.template != "repack"]
    by_ops = [("+".join(o.name.removeprefix("tile.").removeprefix("nn.") for o in op.body.ops), op.partitions) for op in fusions]
    assert sorted(by_ops) == [
        ("conv2d", 1), ("conv2d+add", 1), ("conv2d+add", 2), ("conv2d+relu", 1), ("conv2d+relu", 2), ("conv2d+relu", 2), ("max_pool2d", 1)
    ]  # fmt: skip


@pytest.mark.usefixtures("separate")
def test_an_operand_that_is_read_in_two_ways_lies_as_both_ask() -> None:
    """A product reads its map in partitions, but where the same map is added to an output it lies as the output does."""

    def build(x: Value) -> list[Value]:
        y = Relu(conv(x, 32, 3)).out
        return [Add(conv(y, 32), y).out]

    assert banded(check(graph_of(build, (1, 3, 24, 20)), threads=2).graph) == []


@pytest.mark.usefixtures("separate")
def test_a_template_that_does_not_say_so_never_meets_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Gemm, "row_partitioned")
    graph = check(graph_of(network, (1, 3, 24, 20)), threads=2).graph
    readers = [(op, v.op) for op in graph.ops if isinstance(op, Fused) and op.template == "gemm" for v in op.args if isinstance(v.op, Fused)]
    assert readers and all(source.partitions == 1 and op.partitions == 1 for op, source in readers)


@pytest.mark.parametrize("threads", [2, 4])
def test_a_band_lies_where_all_maps_have_that_band(threads: int) -> None:
    found = banded(lowered(traced("mobilenetv2").at(batch=1), threads=threads))
    (apart,) = {op.stride for op in found}
    assert len(found) > 10 and apart % PAGE == 0
    assert all(op.offset + op.out.type.nbytes // threads <= apart for op in found)


def test_rows_of_a_map() -> None:
    op = next(op for op in banded(lowered(graph_of(network, (1, 3, 24, 20)), threads=3)) if op.template == "direct")
    rows, lanes = Fusion(op).map_rows(op.body.outputs[0]), resolve("cpu").lanes
    assert rows == RowLayout(32 // lanes, 8, 20 * lanes, 3, op.stride // 4)
    places = {
        int(rows.at(plane, y, partition)) for partition in range(3) for plane in range(rows.blocks) for y in range(8 * partition, 8 * partition + 8)
    }
    assert len(places) == rows.blocks * 24 and min(places) == 0
    assert max(places) + rows.elements == Fusion(op).size(op.body.outputs[0])


@pytest.mark.usefixtures("separate")
def test_kernels_of_other_bands_are_other_kernels() -> None:
    graph = lowered(graph_of(network, (1, 3, 24, 20)), threads=2)
    op = next(op for op in banded(graph) if op.template == "gemm")
    key = kernel_key(op)
    op.stride += PAGE
    assert kernel_key(op) != key
    op.stride -= PAGE
    source = op.args[0].op
    assert isinstance(source, Fused) and kernel_key(op) == key
    source.partitions = 1
    assert kernel_key(op) != key


def test_stage_resumes() -> None:
    seen = resumes(graph_of(network, (1, 3, 24, 20)), "fuse-chains", "partition-rows", threads=2)
    assert "partitions = 2" in str(seen["partition-rows"]) and "stride = " in str(seen["plan-memory"])
