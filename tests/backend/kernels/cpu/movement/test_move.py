"""Data movement kernels against numpy and torch, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from backend_run import DISTINCT_TARGETS, TARGETS, Compiled, arrays_for, graph_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.backend.kernels.cpu.movement.copies import Segment, segments
from tersor.ir.op import Const, Op, Value
from tersor.ir.ops import Add, Concat, Expand, IndexSelect, Mul, Pad, Relu, Slice, Transpose
from tersor.ir.types import Tensor

ELEMENTS = ("f32", "f64", "i64", "i32", "u8", "bool")
Build = Callable[..., Op]
Oracle = Callable[..., np.ndarray]


def moves(build: Build, oracle: Oracle, *types: Tensor, target: str = "cpu", threads: int = 1, inputs: list[np.ndarray] | None = None) -> None:
    """The compiled op (not legalized) gives the oracle's bits."""
    graph = graph_of(build, *types)
    given_ = inputs if inputs is not None else arrays_for(graph)
    (got,) = Compiled(graph, target, threads, legal=False)(*given_)
    np.testing.assert_array_equal(got, oracle(*given_))


def all_move(cases: list[tuple[str, Build, Oracle, Tensor]], target: str = "cpu", threads: int = 1) -> None:
    """The same for many ops of one operand, in one library: building one costs more than a kernel of it."""
    graph = graph_of(lambda *xs: [build(x) for (_, build, _, _), x in zip(cases, xs)], *(type_ for _, _, _, type_ in cases))
    inputs = arrays_for(graph)
    for (name, _, oracle, _), x, got in zip(cases, inputs, Compiled(graph, target, threads, legal=False)(*inputs), strict=True):
        np.testing.assert_array_equal(got, oracle(x), err_msg=name)


TRANSPOSES = [
    # contiguous in the input along another axis: square tiles, whole, overlapping, and smaller than a vector
    ((3, 32, 16), (0, 2, 1)),
    ((3, 37, 50), (0, 2, 1)),
    ((1, 19, 7, 9), (0, 2, 3, 1)),
    ((3, 7, 9, 40), (0, 3, 1, 2)),
    ((5, 2), (1, 0)),
    # a short axis: woven, unwoven
    ((3, 3, 17, 9), (0, 2, 3, 1)),
    ((1, 17, 9, 3), (0, 3, 1, 2)),
    ((1, 3, 2, 2, 5, 20), (0, 1, 4, 2, 5, 3)),
    # runs
    ((3, 5, 4, 33), (0, 2, 1, 3)),
    ((4, 3, 2, 3), (2, 0, 1, 3)),
    # everything moves
    ((2, 5, 9, 4), (3, 2, 1, 0)),
]


def transpose(shape: tuple[int, ...], perm: tuple[int, ...], elem: str = "f32") -> tuple[str, Build, Oracle, Tensor]:
    return f"{elem} {shape} by {perm}", lambda x: Transpose(x, perm), lambda x: x.transpose(perm), Tensor(shape, elem)


@pytest.mark.parametrize("target", TARGETS)
def test_transpose(target: str) -> None:
    all_move([transpose(shape, perm) for shape, perm in TRANSPOSES], target)


@pytest.mark.parametrize("target", TARGETS)
def test_transpose_of_every_element_type(target: str) -> None:
    all_move([transpose(shape, perm, elem) for shape, perm in TRANSPOSES[1:8:2] for elem in ELEMENTS], target)


def test_any_permutation_in_one_kernel_each() -> None:
    shape = (2, 3, 4, 17)
    x = np.arange(2 * 3 * 4 * 17, dtype=np.float32).reshape(shape)
    graph = graph_of(lambda v: [Relu(Transpose(v, p)) for p in permutations(range(4))], shape)
    for perm, got in zip(permutations(range(4)), Compiled(graph, legal=False)(x), strict=True):
        np.testing.assert_array_equal(got, x.transpose(perm), err_msg=str(perm))


@pytest.mark.parametrize("target", TARGETS)
def test_threads_share_large_copies(target: str) -> None:
    moves(lambda x: Transpose(x, (0, 2, 1)), lambda x: x.transpose(0, 2, 1), Tensor((1, 250, 333)), target=target, threads=2)
    moves(lambda x: Pad(x, (0, 0, 1, 2, 3, 0)), lambda x: np.pad(x, ((0, 0), (1, 2), (3, 0))), Tensor((3, 120, 133)), target=target, threads=2)
    moves(lambda a, b: Concat([a, b], 1), lambda a, b: np.concatenate([a, b], 1), Tensor((1, 900, 40)), Tensor((1, 33, 40)), target=target, threads=2)


SLICES = [
    ((3, 9, 4, 5), 1, 2, 7, 1),
    ((4, 50), 0, 1, 3, 1),
    ((2, 3, 4, 40), 3, 1, 40, 2),
    ((2, 3, 1, 41), 3, 0, 41, 2),
    ((2, 3, 45), 2, 1, 44, 3),
    ((3, 9, 5), 1, 0, 9, 4),
]


def sliced(elem: str, shape: tuple[int, ...], axis: int, start: int, stop: int, step: int) -> tuple[str, Build, Oracle, Tensor]:
    index = (slice(None),) * axis + (slice(start, stop, step),)
    return f"{elem} {shape}[{index}]", lambda x: Slice(x, axis, start, stop, step), lambda x: x[index], Tensor(shape, elem)


@pytest.mark.parametrize("target", TARGETS)
def test_slice(target: str) -> None:
    all_move([sliced(elem, *case) for case in SLICES for elem in ("f32", "bool", "i64")], target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("axis", range(4))
def test_concat(axis: int, target: str) -> None:
    shapes = [tuple(k if i == axis else s for i, s in enumerate((3, 4, 5, 6))) for k in (3, 17, 1)]
    moves(lambda a, b, c: Concat([a, b, a, c], axis), lambda a, b, c: np.concatenate([a, b, a, c], axis), *map(Tensor, shapes), target=target)


@pytest.mark.parametrize("elem", ELEMENTS)
def test_concat_of_every_element_type(elem: str) -> None:
    moves(lambda a, b: Concat([a, b], 1), lambda a, b: np.concatenate([a, b], 1), Tensor((3, 21), elem), Tensor((3, 2), elem))


PADS = [(0, 0, 0, 0, 1, 2, 2, 1), (0, 0, 0, 0, -1, 2, 2, -1), (0, 0, 2, 1, 0, 0, 3, 0), (1, 0, 0, 0, 0, 0, 0, -3)]


def padded(pads: tuple[int, ...], mode: str) -> tuple[str, Build, Oracle, Tensor]:
    def oracle(x: np.ndarray) -> np.ndarray:
        sides = list(zip(pads[::2], pads[1::2]))
        modes: dict[str, Any] = {"replicate": "edge", "circular": "wrap"}
        grown = np.pad(x, [(max(a, 0), max(b, 0)) for a, b in sides], modes.get(mode, mode))
        return grown[tuple(slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(sides, grown.shape))]

    return f"{mode} {pads}", lambda x: Pad(x, pads, mode), oracle, Tensor((3, 4, 6, 23))


@pytest.mark.parametrize("target", TARGETS)
def test_pad(target: str) -> None:
    all_move([padded(pads, mode) for pads in PADS for mode in ("constant", "reflect", "replicate", "circular")], target)


def test_pad_value() -> None:
    def case(value: float, elem: str) -> tuple[str, Build, Oracle, Tensor]:
        fill = Tensor((), elem).dtype.type(value)
        return elem, lambda x: Pad(x, (1, 0, 2, 1), value=value), lambda x: np.pad(x, ((1, 0), (2, 1)), constant_values=fill), Tensor((3, 20), elem)

    all_move([case(v, e) for v, e in [(1.5, "f32"), (-np.inf, "f32"), (-2.0, "i64"), (1.0, "bool"), (0.25, "f64")]])


EXPANDS = [((3, 1, 1), (3, 5, 6)), ((1, 20), (4, 20)), ((3, 1), (3, 20)), ((3, 1), (2, 3, 4)), ((1, 3, 1, 5), (3, 3, 4, 5)), ((1,), (7,))]


def test_expand() -> None:
    def case(shape: tuple[int, ...], to: tuple[int, ...], elem: str) -> tuple[str, Build, Oracle, Tensor]:
        return f"{elem} {shape} to {to}", lambda x: Expand(x, to), lambda x: np.broadcast_to(x, to), Tensor(shape, elem)

    all_move([case(shape, to, elem) for shape, to in EXPANDS for elem in ("f32", "bool")])


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("elem", ["f32", "i64", "bool"])
@pytest.mark.parametrize("constant", [True, False])
def test_index_select(axis: int, elem: str, constant: bool) -> None:
    index = np.array([3, 1, 1, 0, 2])
    x = Tensor((4, 5, 36), elem)
    if constant:
        moves(lambda v: IndexSelect(v, Const(index), axis), lambda v: v.take(index, axis), x)
    else:
        given_ = [*arrays_for(graph_of(lambda v: Relu(v) if elem != "bool" else Slice(v, 0, 0, 1), x)), index]
        moves(lambda v, i: IndexSelect(v, i, axis), lambda v, i: v.take(i, axis), x, Tensor((5,), "i64"), inputs=given_)


def test_a_tail_runs_in_the_copy() -> None:
    def build(x: Value, y: Value) -> Op:
        return Relu(Add(Mul(Transpose(x, (0, 2, 1)), Const(np.float32(-2))), y))

    graph = graph_of(build, (3, 20, 7), (3, 7, 20))
    compiled = Compiled(graph)
    x, y = arrays_for(graph)
    (got,) = compiled(x, y)
    assert compiled.templates == ["move"]
    np.testing.assert_allclose(got, np.maximum(x.transpose(0, 2, 1) * -2 + y, 0), rtol=1e-6)


def test_a_channel_operand_does_not_join_a_copy() -> None:
    graph = graph_of(lambda x, c: Mul(Transpose(x, (0, 3, 1, 2)), c), (3, 5, 6, 7), (1, 7, 1, 1))
    compiled = Compiled(graph)
    x, c = arrays_for(graph)
    (got,) = compiled(x, c)
    assert len(compiled.steps) == 2
    np.testing.assert_array_equal(got, x.transpose(0, 3, 1, 2) * c)


def test_segments_walk_forwards_backwards_or_stay() -> None:
    assert segments((None, i) for i in (2, 1, 0, 1, 2, 3)) == [Segment(3, 2, -1), Segment(3, 1, 1)]
    assert segments((None, i) for i in (0, 0, 0, 1, 2)) == [Segment(3, 0, 0), Segment(2, 1, 1)]
    assert segments([(0, 4), (0, 5), (1, 6)]) == [Segment(2, 4, 1, 0), Segment(1, 6, 1, 1)]
    assert segments([(0, 0), (0, 7), (0, 8)]) == [Segment(1, 0, 1, 0), Segment(2, 7, 1, 0)]
    assert segments([(0, 1), (0, 4), (0, 7)]) == [Segment(3, 1, 3, 0)]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_transposes_of_random_shapes(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 21), min_size=2, max_size=4)))
    perm = tuple(data.draw(st.permutations(range(len(shape)))))
    target = data.draw(st.sampled_from(DISTINCT_TARGETS))
    moves(lambda x: Transpose(x, perm), lambda x: torch.from_numpy(x).permute(perm).numpy(), Tensor(shape), target=target)
