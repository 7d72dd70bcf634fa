"""Entropy-coded arrays and files: round trips, sizes, and damage, which is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.ir import Const, Graph, Tensor
from tersor.ir.entropy import Damaged, bitmap, huffman_coded, restore
from tersor.ir.errors import TersorError
from tersor.ir.huffman import code_lengths, decode, encode
from tersor.ir.ops import Linear
from tersor.ir.save import load


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 60))
def test_symbols_come_back(symbols: list[int], times: int) -> None:
    array = np.array(symbols * times, np.int64)
    assert np.array_equal(decode(encode(array)), array)


def test_codes_are_as_short_as_entropy_allows_and_none_is_too_long() -> None:
    counts = np.array([2 ** min(i, 30) for i in range(40)])
    lengths = code_lengths(counts)
    assert lengths.max() <= 15 and (2.0**-lengths).sum() == 1
    few = np.array([50, 25, 13, 12])
    share = few / few.sum()
    entropy, mean = -(share * np.log2(share)).sum(), (share * code_lengths(few)).sum()
    assert entropy <= mean < entropy + 0.05


def sparse(dtype: str = "float32", share: float = 0.9) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = (rng.integers(1, 9, (50, 40)) * rng.choice([-1, 1], (50, 40))).astype(dtype)
    return np.where(rng.random((50, 40)) < share, np.zeros((), dtype), values)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "bool", "int64"])
@pytest.mark.parametrize("share", [0.0, 0.9, 0.999, 1.0])
def test_arrays_come_back_bit_for_bit(dtype: str, share: float) -> None:
    array = sparse(dtype, share)
    for coder in (bitmap, huffman_coded):
        if (coded := coder(array)) is not None:
            again = restore(*coded, array.dtype)
            assert again.dtype == array.dtype and again.tobytes() == array.tobytes()
            assert coded[0].nbytes < array.nbytes
    assert share < 0.9 or bitmap(array) is not None


def test_a_negative_zero_and_a_nan_stay() -> None:
    array = np.zeros(4000, np.float32)
    array[[0, 1000, 3000]] = [-0.0, np.nan, 1]
    for coder in (bitmap, huffman_coded):
        coded = coder(array)
        assert coded is not None and restore(*coded, array.dtype).tobytes() == array.tobytes()


def test_few_values_and_many_zeros_take_what_their_entropy_says() -> None:
    array = sparse()
    coded = huffman_coded(array)
    assert coded is not None
    there = int((array != 0).sum())
    p = there / array.size
    bits = array.size * -(p * math.log2(p) + (1 - p) * math.log2(1 - p)) + there * 4
    assert coded[0].nbytes < 1.1 * bits / 8 + 200


def network(array: np.ndarray) -> Graph:
    g = Graph()
    x = g.add_input(Tensor((1, array.shape[1])), "x", batched=True)
    g.set_outputs([g.add(Linear(x, Const(array), Const(np.arange(len(array), dtype=np.float32))))])
    return g


def test_files_are_smaller_and_load_to_the_same_bits(tmp_path: Path) -> None:
    graph = network(sparse())
    paths = {}
    for name, save in {"plain": lambda p: graph.save(p), "coded": lambda p: graph.save(p, entropy=True)}.items():
        paths[name] = tmp_path / f"{name}.tersor"
        save(paths[name])
        again = load(paths[name])
        assert all(a.array.tobytes() == b.array.tobytes() for a, b in zip(again.find("nn.constant"), graph.find("nn.constant")))
    dense = tmp_path / "dense.tersor"
    network(sparse(share=0.0)).save(dense)
    coded, plain = (paths[n].stat().st_size for n in ("coded", "plain"))
    assert coded < plain < 0.4 * dense.stat().st_size


def test_every_byte_of_a_coded_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "m.tersor"
    network(sparse()).save(path, entropy=True)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    named = data.index(b'"digest"')
    for at in [0, 8, *range(named, named + 10), *rng.integers(0, len(data), 60).tolist(), len(data) - 1]:
        changed = bytearray(data)
        changed[at] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(changed)
        with pytest.raises(TersorError):
            load(path)
    for size in (0, 5, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(TersorError):
            load(path)
    path.write_bytes(data + b"x")
    with pytest.raises(TersorError):
        load(path)


def test_damaged_streams_are_refused_without_a_digest() -> None:
    array = sparse()
    for coder in (bitmap, huffman_coded):
        coded = coder(array)
        assert coded is not None
        data, info = coded
        rng = np.random.default_rng(1)
        for at in rng.integers(0, len(data), 60):
            changed = data.copy()
            changed[at] ^= 1 << int(rng.integers(0, 8))
            try:
                again = restore(changed, info, array.dtype)
            except Damaged:
                continue
            # padding bits behind the last code word say nothing
            assert again.tobytes() == array.tobytes()
        for size in (0, 7, len(data) - 1):
            with pytest.raises(Damaged):
                restore(data[:size], info, array.dtype)


def test_only_tersor_files_are_coded(tmp_path: Path) -> None:
    with pytest.raises(TersorError, match="entropy=True codes the weights"):
        network(sparse()).save(tmp_path / "m.mlir", entropy=True)
