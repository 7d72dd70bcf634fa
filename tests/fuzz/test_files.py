"""Mutated files are refused by a sentence or give a result of the types they declare: no other exception, no hang, no large memory.

A short run here; `make fuzz` is the long one: `python tests/fuzz/test_files.py 20000`.
"""

from __future__ import annotations

import random
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import mutations

#: Seconds that one file may take, of processor time, and bytes that the process may grow by.
SECONDS, MEMORY = 10, 1 << 30


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    found = mutations.seeds(tmp_path_factory.mktemp("seeds"))
    assert {p.name: mutations.read(p) for p in found} == {p.name: "loaded" if p.suffix == ".tso" else "ran" for p in found}
    return found


def one(files: list[Path], count: int) -> tuple[Path, str]:
    """The file that case `count` makes, and what came of it."""
    source = files[count % len(files)]
    rng = random.Random(count)
    path = source.with_name(f"case{source.suffix}")
    path.write_bytes(mutations.mutated(source.read_bytes(), source.suffix, rng))
    return path, mutations.read(path)


def test_mutated_files(files: list[Path]) -> None:
    found = Counter(one(files, count)[1] for count in range(240))
    assert found["refused"] > 100 and found["ran"] and found["loaded"], found


def _node(operator: str, inputs: list[str], outputs: list[str]) -> Any:
    from onnx import helper

    return helper.make_node(operator, inputs, outputs)


#: What the long run found once.
FOUND: dict[str, Callable[[Any], Any]] = {
    "if without a condition": lambda m: (m.graph.node[0].__setattr__("op_type", "If"), m.graph.node[0].ClearField("input")),
    "expand without a shape": lambda m: (m.graph.node[0].__setattr__("op_type", "Expand"), m.graph.node[0].input.__delitem__(slice(1, None))),
    "a constant to expand without a shape": lambda m: m.graph.node.insert(0, _node("Expand", [m.graph.initializer[0].name], ["spare"])),
    "if without a branch": lambda m: m.graph.node[0].__setattr__("op_type", "If"),
    "an output that nothing makes": lambda m: m.graph.output[0].__setattr__("name", "nowhere"),
    "a tensor of strings without any": lambda m: m.graph.initializer[0].MergeFrom(type(m.graph.initializer[0])(data_type=8)),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found(name: str, files: list[Path], tmp_path: Path) -> None:
    import onnx

    model: Any = onnx.load(next(p for p in files if p.suffix == ".onnx"))
    FOUND[name](model)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert mutations.read(tmp_path / "m.onnx") == "refused"


def main(count: int, first: int = 0) -> None:
    """The long run: stops at nothing, and lists what is wrong by kind with the number of a case."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    files = mutations.seeds(folder)
    wrong: dict[str, int] = {}
    found: Counter[str] = Counter()
    signal.signal(signal.SIGVTALRM, _too_long)
    used = Path("/proc/self/statm").read_text().split()[0]
    limit = int(used) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for case in range(first, first + count):
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        try:
            found[one(files, case)[1]] += 1
        except (Exception, MemoryError) as error:
            kind = f"{files[case % len(files)].suffix} {type(error).__name__}: {str(error)[:120]}"
            wrong.setdefault(kind, case)
            found["wrong"] += 1
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    print(dict(found))
    for kind, case in wrong.items():
        print(f"case {case}: {kind}")
    sys.exit(bool(wrong))


def _too_long(*_: Any) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
