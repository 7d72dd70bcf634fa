"""The inner loops of kernels, judged without running them: multiply-adds per cycle by llvm-mca, loads and spills by disassembly.

llvm-mca simulates the loop on a model of the processor's pipelines: no caches, no memory, no mispredicted branches. It gives no time,
only the cycles of a loop whose operands are in registers or L1.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..ir.errors import TersorError
from ..ir.graph import Graph
from .codegen.calls import symbol_of
from .emit.module import Emitter
from .pipelines import lower
from .target import PORTS, Target, resolve

#: Iterations that llvm-mca simulates; the first of them fill the pipelines and are subtracted.
LONG, SHORT = 110, 10
#: Multiply-adds of an instruction, by architecture: pattern of the disassembly -> how many. A width in bits is divided by that of an element.
_MACS: dict[str, list[tuple[re.Pattern[str], int]]] = {
    "aarch64": [
        (re.compile(r"^fml[as]\s+v\d+\.4s"), 4),
        (re.compile(r"^fml[as]\s+v\d+\.2d"), 2),
        (re.compile(r"^fml[as]\s+v\d+\.8h"), 8),
        (re.compile(r"^(?:[us]|us|su)dot\s+v\d+\.4s"), 16),
        (re.compile(r"^(?:[us]|us)mmla\s"), 32),
        (re.compile(r"^[us]ml[as]l2?\s+v\d+\.4s"), 4),
        (re.compile(r"^[us]ml[as]l2?\s+v\d+\.8h"), 8),
        (re.compile(r"^ml[as]\s+v\d+\.4s"), 4),
        (re.compile(r"^ml[as]\s+v\d+\.8h"), 8),
    ],
    "x86_64": [
        (re.compile(r"^vfn?m(?:add|sub)\d+ps\s.*%zmm"), 16),
        (re.compile(r"^vfn?m(?:add|sub)\d+ps\s.*%ymm"), 8),
        (re.compile(r"^vfn?m(?:add|sub)\d+ps\s.*%xmm"), 4),
        (re.compile(r"^vpdpbusd\s.*%zmm"), 64),
        (re.compile(r"^vpdpbusd\s.*%ymm"), 32),
        (re.compile(r"^vpmaddubsw\s.*%zmm"), 64),
        (re.compile(r"^vpmaddubsw\s.*%ymm"), 32),
        (re.compile(r"^vpmaddwd\s.*%zmm"), 32),
        (re.compile(r"^vpmaddwd\s.*%ymm"), 16),
    ],
}
_LOAD = {"aarch64": re.compile(r"^(?:ld[rp]|ldur|ld[1234]r?)\s"), "x86_64": re.compile(r"^(?!lea|nop|prefetch)\S+\s.*\([^)]*\)[^,]*,")}
_STORE = {"aarch64": re.compile(r"^(?:st[rp]|stur|st[1234])\s"), "x86_64": re.compile(r"^v?mov\S*\s+%[xyz]mm\d+, .*\([^)]*\)$")}
_STACK = {"aarch64": re.compile(r"[qdv]\d+.*\[(?:sp|x29)[,\]]"), "x86_64": re.compile(r"\(%r[sb]p[,)].*%[xyz]mm|%[xyz]mm.*\(%r[sb]p[,)]")}
_BRANCH = {
    "aarch64": re.compile(r"^(?:b\.\w+|cbn?z|tbn?z)\s.*?(?:0x)?([0-9a-f]+)(?: <|$)"),
    "x86_64": re.compile(r"^j(?!mp)\w+\s+(?:0x)?([0-9a-f]+)"),
}
_LINE = re.compile(r"^\s*([0-9a-f]+):\s+(.*)$")


@dataclass(frozen=True)
class Loop:
    """An innermost loop. macs: multiply-adds of one iteration; instructions: those that do them; cycles: by llvm-mca; spills: accesses of vectors on
    the stack."""

    macs: int
    instructions: int
    loads: int
    stores: int
    spills: int
    cycles: float
    text: tuple[str, ...] = ()


@dataclass(frozen=True)
class StaticRow:
    """A kernel and its inner loop with most multiply-adds; None where it has none. share: of the most that the ports do (1 is the bound)."""

    step: int
    op: str
    kernel: str
    template: str
    params: dict[str, object]
    macs: int
    loop: Loop | None
    share: float


@dataclass(frozen=True)
class StaticProfile:
    """Kernels in order. model: the processor that llvm-mca simulated; ports: instructions of multiply-adds that it starts in a cycle."""

    rows: tuple[StaticRow, ...]
    target: str
    model: str
    ports: int
    tool: str

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Header and lines of the table."""
        header = ["step", "ops", "kernel", "template", "MACs/cycle", "of the bound", "loads/MAC instr.", "spills"]
        return header, [[str(r.step), r.op, r.kernel, r.template + _brief(r.params), *_judged(r)] for r in self.rows]

    @property
    def summary(self) -> str:
        return (
            f"inner loops on {self.model} by {self.tool}, {self.ports} multiply-add instruction{'s' * (self.ports > 1)} a cycle at most; "
            f"operands in registers and L1: no time follows from it ({self.target})"
        )

    def __str__(self) -> str:
        header, lines = self.cells()
        widths = [max(map(len, column)) for column in zip(header, *lines)]
        table = ["  ".join(c.ljust(w) if i < 4 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip() for line in [header, *lines]]
        return "\n".join([*table, self.summary])

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def _brief(params: dict[str, object]) -> str:
    return f" {{{' '.join(f'{k}={v}' for k, v in params.items())}}}" if params else ""


def _judged(r: StaticRow) -> tuple[str, ...]:
    if r.loop is None:
        return ("-", "-", "-", "-")
    return f"{r.loop.macs / r.loop.cycles:.2f}", f"{r.share:.0%}", f"{r.loop.loads / r.loop.instructions:.2f}", str(r.loop.spills)


def static_profile(graph: Graph, target: str | Target, batch: int | None = None, tuned: object = None) -> StaticProfile:
    """Judge the inner loops of a graph's kernels on one thread, without running them.

    target: a CPU whose pipelines LLVM models; where LLVM's model is that of another processor, an error names one to take instead.

    Raises `TersorError` where llvm-mca or llvm-objdump is missing.
    """
    facts = resolve(target)
    if facts.gpu:
        raise TersorError(f"a static profile is of CPU kernels, got target {facts.name!r}")
    model, ports = modelled(facts)
    mca, objdump = tool("llvm-mca"), tool("llvm-objdump")
    graph = graph.at(batch or 1) if graph.batched else graph
    emitter = Emitter(facts, 1)
    planned = lower(graph, facts, 1, tuned=False if tuned is None else tuned)  # type: ignore[arg-type]
    steps, _ = emitter.add(planned, "main")
    symbols = {var.name_hint: symbol_of(function) for var, function in emitter.functions.items()}
    arch = facts.triple.partition("-")[0]
    with tempfile.TemporaryDirectory(prefix="tersor-") as folder:
        path = Path(folder) / "model.o"
        emitter.code().write_object(path)
        code = disassembled(objdump, path)
    measured: dict[str, Loop | None] = {}
    rows = []
    for i, s in enumerate(steps):
        if s.kernel not in measured:
            measured[s.kernel] = main_loop(code[symbols[s.kernel]], arch, mca, model)
        loop = measured[s.kernel]
        share = loop.instructions / ports / loop.cycles if loop else 0.0
        rows.append(StaticRow(i, s.op, s.kernel, s.template, dict(s.params), s.macs, loop, share))
    version = re.search(r"-(\d+)$", Path(mca).name)
    return StaticProfile(tuple(rows), facts.name, model, ports, f"llvm-mca{' ' + version[1] if version else ''}")


def modelled(target: Target) -> tuple[str, int]:
    """The name of the processor's model in LLVM, and how many multiply-add instructions it starts in a cycle."""
    if target.mcpu in PORTS:
        return target.mcpu, PORTS[target.mcpu]
    raise TersorError(f"LLVM has no model of {target.mcpu}'s own pipelines that is right; a static profile takes {', '.join(PORTS)}")


def tool(name: str) -> str:
    """The newest of LLVM's tools on the path."""
    for found in (f"{name}-{version}" for version in range(30, 18, -1)):
        if path := shutil.which(found):
            return path
    raise TersorError(f"a static profile takes {name} of LLVM 19 or later, and there is none: apt-get install llvm-19")


def disassembled(objdump: str, path: Path) -> dict[str, list[tuple[int, str]]]:
    """Functions of an object: (address, instruction) by symbol."""
    text = _output(objdump, "-d", "--no-show-raw-insn", str(path))
    functions: dict[str, list[tuple[int, str]]] = {}
    current: list[tuple[int, str]] = []
    for line in text.splitlines():
        if head := re.match(r"^[0-9a-f]+ <([^>]+)>:$", line):
            # local labels inside a function are no function
            if not head[1].startswith((".L", "$")):
                current = functions.setdefault(head[1], [])
        elif found := _LINE.match(line):
            current.append((int(found[1], 16), re.sub(r"\s*(?://|# |<).*$", "", found[2]).replace("\t", " ").strip()))
    return functions


def loops(code: Sequence[tuple[int, str]], arch: str) -> list[list[str]]:
    """Instructions of each innermost loop, without its branch back."""
    found = []
    index = {address: i for i, (address, _) in enumerate(code)}
    for end, (address, text) in enumerate(code):
        target = _BRANCH[arch].match(text)
        if target and (start := index.get(int(target[1], 16))) is not None and int(target[1], 16) <= address:
            found.append((start, end))
    inner = [(a, b) for a, b in found if not any((c, d) != (a, b) and a <= c and d <= b for c, d in found)]
    return [[text for _, text in code[a:b]] for a, b in inner]


def main_loop(code: Sequence[tuple[int, str]], arch: str, mca: str, model: str) -> Loop | None:
    """The innermost loop with most multiply-adds, of those in which they are half of the instructions if there is one: transforms have some, too."""
    best: tuple[bool, int, list[str]] = (False, 0, [])
    for body in loops(code, arch):
        products = [n for n in (macs_of(text, arch) for text in body) if n]
        best = max(best, (2 * len(products) >= len(body), sum(products), body), key=lambda found: found[:2])
    _, macs, body = best
    if not macs:
        return None
    count = sum(macs_of(text, arch) > 0 for text in body)
    loads, stores, spills = (sum(bool(p.search(text)) for text in body) for p in (_LOAD[arch], _STORE[arch], _STACK[arch]))
    return Loop(macs, count, loads, stores, spills, simulated(body, arch, mca, model), tuple(body))


def macs_of(text: str, arch: str) -> int:
    """Multiply-adds of an instruction."""
    return next((macs for pattern, macs in _MACS[arch] if pattern.match(text)), 0)


def simulated(body: Sequence[str], arch: str, mca: str, model: str) -> float:
    """Cycles of one iteration of a loop."""
    # branches out of the loop name addresses of another file
    source = "\n".join(text for text in body if not re.match(r"^(b|bl|b\.\w+|cbn?z|tbn?z|j\w+|call\w*)\s", text)) + "\n"

    def total(iterations: int) -> int:
        text = _output(mca, f"-mtriple={arch}", f"-mcpu={model}", f"-iterations={iterations}", "-", given=source)
        match = re.search(r"^Total Cycles:\s+(\d+)$", text, re.M)
        assert match is not None
        return int(match[1])

    return (total(LONG) - total(SHORT)) / (LONG - SHORT)


def _output(*command: str, given: str | None = None) -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    if done.returncode:
        raise TersorError(f"{Path(command[0]).name} failed: {' '.join(done.stderr.split())[:300]}")
    return done.stdout
