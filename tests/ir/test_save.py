"""Graphs on disk: round trips, mapping without a copy, packed integers, and files that are damaged."""

from __future__ import annotations

import copy
import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from ir_graphs import features, small

from tersor.ir.equal import difference
from tersor.ir.errors import TersorError
from tersor.ir.graph import Graph
from tersor.ir.op import Const
from tersor.ir.save import from_bytes, load, pack, read_arrays, save, to_bytes, unpack
from tersor.ir.text import format_with_weights
from tersor.ir.types import STORAGE, Uniform, storage_range


def constants(graph: Graph) -> list[np.ndarray]:
    return [op.array for op in graph.ops if isinstance(op, Const)]


@pytest.mark.parametrize("build", [small, features])
def test_tersor_round_trip(build: type[Graph], tmp_path: Path) -> None:
    graph = build()
    graph.save(tmp_path / "model.tersor")
    assert difference(load(tmp_path / "model.tersor"), graph) is None
    assert os.listdir(tmp_path) == ["model.tersor"]


@pytest.mark.parametrize("build", [small, features])
def test_a_graph_pickles_and_copies_as_its_file(build: type[Graph]) -> None:
    graph = build()
    pickled, copied = pickle.loads(pickle.dumps(graph)), copy.deepcopy(graph)
    for again in (pickled, copied):
        assert again is not graph and difference(again, graph) is None
    assert not any(a is b for a, b in zip(constants(pickled), constants(graph)))
    # a copy shares the arrays of its constants, which nobody can write to
    assert not any(a.flags.writeable for a in constants(copied))


def test_a_pickled_graph_of_another_version_is_refused() -> None:
    data = to_bytes(small()).replace(b'"format_version":"1"', b'"format_version":"9"')
    with pytest.raises(TersorError, match="a pickled graph has format version 9"):
        from_bytes(data)


def test_the_file_is_safetensors_with_the_text_in_its_header(tmp_path: Path) -> None:
    path = tmp_path / "m.tersor"
    save(small(), path)
    with safetensors.safe_open(path, "numpy") as file:
        about = file.metadata()
        assert list(file.keys()) == ["features.0.weight"]
        assert np.array_equal(file.get_tensor("features.0.weight"), constants(small())[0])
    assert about["format"] == "tersor" and about["format_version"] == "1" and about["text"] == str(small()) and about["tersor_version"]


def test_arrays_are_read_only_views_of_the_mapped_file(tmp_path: Path) -> None:
    graph = Graph()
    values = [graph.add(Const(np.full((1000, 1000), i, np.float32))) for i in range(3)]
    graph.set_outputs(values)
    save(graph, tmp_path / "m.tersor")
    before = _mapped_bytes()
    back = load(tmp_path / "m.tersor")
    assert _mapped_bytes() - before < 6_000_000  # three arrays of 4 MB: neither copied nor read
    for i, array in enumerate(constants(back)):
        assert not array.flags.writeable and not array.flags.owndata and array.flags.aligned
        assert (array == i).all()


def _mapped_bytes() -> int:
    """Resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("storage", [s for s, (bits, _) in STORAGE.items() if bits < 8])
def test_packing_of_fewer_than_eight_bits(storage: str) -> None:
    lo, hi = storage_range(storage)
    signed = storage[0] == "i"
    array = np.random.default_rng(0).integers(lo, hi, (7, 13), np.int8 if signed else np.uint8, endpoint=True)
    data = pack(array, storage)
    assert data.dtype == np.uint8 and data.size == -(-7 * 13 * STORAGE[storage][0] // 8)
    back = unpack(data, storage, (7, 13))
    assert back.dtype == array.dtype and np.array_equal(back, array)


def test_packing_order_is_lowest_bits_first() -> None:
    assert pack(np.array([1, -2, -1, 0], np.int8), "i2").tolist() == [0b00_11_10_01]
    assert pack(np.array([1, 2, 3], np.uint8), "u4").tolist() == [0x21, 0x03]


def test_packed_on_disk_and_int8_in_memory(tmp_path: Path) -> None:
    graph = Graph()
    array = np.random.default_rng(0).integers(-1, 1, (100, 100), np.int8, endpoint=True)
    graph.set_outputs([graph.add(Const(array, Uniform("i2", (0.5,), (0,), qmin=-1, qmax=1)))])
    save(graph, tmp_path / "m.tersor")
    assert (tmp_path / "m.tersor").stat().st_size < 2500 + 2000
    back = load(tmp_path / "m.tersor")
    assert constants(back)[0].dtype == np.int8 and difference(back, graph) is None


def test_every_plain_dtype_is_stored(tmp_path: Path) -> None:
    graph = Graph()
    dtypes = [np.bool_, np.uint8, np.int8, np.int16, np.int32, np.int64, np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
    graph.set_outputs([graph.add(Const(np.array([[0, 1, 1]]).astype(d))) for d in dtypes])
    save(graph, tmp_path / "m.tersor")
    assert difference(load(tmp_path / "m.tersor"), graph) is None


def test_non_contiguous_constants(tmp_path: Path) -> None:
    graph = Graph()
    graph.set_outputs([graph.add(Const(np.arange(6, dtype=np.float32).reshape(2, 3).T))])
    save(graph, tmp_path / "m.tersor")
    assert constants(load(tmp_path / "m.tersor"))[0].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_mlir_with_weights(tmp_path: Path) -> None:
    graph = features()
    save(graph, tmp_path / "x.mlir", weights=tmp_path / "w.safetensors")
    assert (tmp_path / "x.mlir").read_text() == str(graph)
    assert difference(load(tmp_path / "x.mlir", weights=tmp_path / "w.safetensors"), graph) is None
    arrays = {key: op.array for key, op in format_with_weights(graph)[1].items()}
    assert difference(load(tmp_path / "x.mlir", weights=arrays), graph) is None


def test_weights_saved_by_torch_users_under_true_names(tmp_path: Path) -> None:
    save(small(), tmp_path / "x.mlir")
    safetensors.numpy.save_file({"features.0.weight": constants(small())[0]}, tmp_path / "w.safetensors")
    assert difference(load(tmp_path / "x.mlir", weights=tmp_path / "w.safetensors"), small()) is None


def test_saving_replaces_the_file_under_a_loaded_graph(tmp_path: Path) -> None:
    path = tmp_path / "m.tersor"
    save(small(), path)
    first = load(path)
    save(features(), path)
    assert difference(first, small()) is None and difference(load(path), features()) is None


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.tersor"
    save(small(), path)

    def full(*args: object) -> None:
        Path(str(args[1])).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(TersorError, match=r"cannot write .*m.tersor: No space left on device"):
        save(features(), path)
    monkeypatch.undo()
    assert difference(load(path), small()) is None and os.listdir(tmp_path) == ["m.tersor"]


# -- files that are wrong ----------------------------------------------------------------------


def refused(path: Path, message: str, weights: Path | None = None) -> None:
    with pytest.raises(TersorError, match=message) as caught:
        load(path, weights)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)


def edited(path: Path, change: object) -> Path:
    """A .tersor file with its header rewritten by `change(header)`."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)  # type: ignore[operator]
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data[8 + length :])
    return path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(features(), tmp_path / "model.tersor")
    return tmp_path / "model.tersor"


def test_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.tersor", "none.tersor does not exist$")
    refused(tmp_path / "none.mlir", "none.mlir does not exist$")


def test_directory(tmp_path: Path) -> None:
    (tmp_path / "d.tersor").mkdir()
    (tmp_path / "d.mlir").mkdir()
    refused(tmp_path / "d.tersor", "d.tersor")
    refused(tmp_path / "d.mlir", "cannot read .*d.mlir: Is a directory")


def test_other_suffix(tmp_path: Path) -> None:
    refused(tmp_path / "model.pt", r"cannot load .*model.pt: expected a .tersor or .mlir file")
    with pytest.raises(TersorError, match=r"expected model.tersor, or model.mlir"):
        save(small(), tmp_path / "model.pt")


def test_weights_with_a_tersor_file(saved: Path) -> None:
    refused(saved, "holds its weights; weights= belongs to a .mlir file", weights=saved)


def test_text_without_its_weights(tmp_path: Path) -> None:
    save(small(), tmp_path / "x.mlir")
    refused(tmp_path / "x.mlir", r"x.mlir: line 3, column \d+: the text needs the arrays of features.0.weight: give them as weights")


@pytest.mark.parametrize("size", [0, 4, 8, 100, -1, -100])
def test_truncated_file(saved: Path, size: int) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[:size])
    refused(saved, "is damaged or no safetensors file: ")


def test_file_of_another_kind(saved: Path) -> None:
    for data in (b"PK\x03\x04" * 100, b"\x00" * 200, os.urandom(1000)):
        saved.write_bytes(data)
        refused(saved, "is damaged or no safetensors file: ")


def test_safetensors_without_a_graph(saved: Path) -> None:
    safetensors.numpy.save_file({"a": np.zeros(3)}, saved)
    refused(saved, "is a safetensors file but holds no Tersor graph")


def test_unknown_format_version(saved: Path) -> None:
    edited(saved, lambda h: h["__metadata__"].update(format_version="99", tersor_version="7.0"))
    refused(saved, r"has format version 99 \(written by Tersor 7.0\); this Tersor reads versions 1 to 3")


def test_edited_text(saved: Path) -> None:
    text = features().__str__()
    edited(saved, lambda h: h["__metadata__"].update(text=text.replace('"nn.concat"', '"nn.konkat"')))
    refused(saved, r"line 9, column \d+: unknown op 'nn.konkat'; did you mean 'nn.concat'")


def test_edited_scale_breaks_a_rule(saved: Path) -> None:
    def define_in_text(header: Any) -> None:
        del header["__metadata__"]["types"]
        header["__metadata__"]["text"] = str(features()).replace("{0.1, ", "{-0.1, ")

    edited(saved, define_in_text)
    refused(saved, "the scale -0.1; scales are positive and finite")


def test_edited_table_breaks_a_rule(saved: Path) -> None:
    edited(saved, lambda h: h["__metadata__"].update(types=h["__metadata__"]["types"].replace('"qmax": 127', '"qmax": 300')))
    refused(saved, "the storage range -127:300, which does not fit i8")


def test_lost_array(saved: Path) -> None:
    edited(saved, lambda h: h.update({"other": h.pop("_0.weight")}))
    refused(saved, "the text needs the arrays of _0.weight")


def test_tensor_of_a_type_that_no_graph_has(saved: Path) -> None:
    safetensors.numpy.save_file({"a": np.zeros(2, np.uint32)}, saved)
    refused(saved, "holds a tensor of type 'U32'; valid: BOOL, I8")


@pytest.mark.parametrize(
    "packed", ["{", "[]", '{"constant": 1}', '{"constant": {"storage": "u4", "shape": [9]}}', '{"constant": {"storage": "u4", "shape": "x"}}']
)
def test_edited_packing(saved: Path, packed: str) -> None:
    edited(saved, lambda h: h["__metadata__"].update(packed=packed))
    refused(saved, "model.tersor")


def test_bytes_flipped_anywhere_give_a_graph_or_a_tersor_error(saved: Path) -> None:
    data = saved.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            broken[at] = rng.integers(0, 256)
        saved.write_bytes(broken)
        try:
            load(saved)
        except TersorError as error:
            assert "\n" not in str(error)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "x.mlir").write_bytes(b"\xff\xfe")
    refused(tmp_path / "x.mlir", "is not UTF-8 text")


def test_read_arrays_of_an_empty_file(tmp_path: Path) -> None:
    safetensors.numpy.save_file({}, tmp_path / "w.safetensors")
    assert read_arrays(tmp_path / "w.safetensors") == ({}, {})
