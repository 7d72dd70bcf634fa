"""The database of tuned choices: a JSON file, by target and thread count, then by the key of a fusion.

    {"format": 1, "targets": {"x86_64 znver5, 1 thread": {"tile.conv2d 1x64x56x56 o64 k3 s1 p1 + relu": {
      "template": "winograd", "params": {…}, "versions": {…}, "candidates": [{"template": …, "params": …, "ms": …, "samples": …, "error": …}, …]}}}}

An entry may also have a kernel of MetaSchedule, which `compile` then uses: {"template": …, "found": {"trace": …, "ms": …, "template_ms": …, …},
"candidates": […]}.

The file is written completely or not at all. Every candidate's time is kept, the winner's first, so that a cost model can be compared with it.
"""

from __future__ import annotations

import functools
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...ir.errors import TersorError
from ..target import Target
from .key import target_key

FORMAT = 1
SHIPPED = Path(__file__).parent


@dataclass(frozen=True)
class Timing:
    """One measured candidate. ms: first quartile of `samples` cold calls; error: max|y - y64| / max|y64| against the interpreter."""

    template: str
    params: dict[str, Any]
    ms: float
    samples: int
    error: float

    def is_of(self, template: str, params: dict[str, Any]) -> bool:
        return self.template == template and self.params == plain(params)


@dataclass(frozen=True)
class Found:
    """A kernel that MetaSchedule found and that was faster than every template. trace: of its schedule, as JSON.

    ms, template_ms: its time and that of the fastest template in the same race; samples, error: as in `Timing`; made: versions, and trials, seed
    and cost model of the search.
    """

    trace: str
    ms: float
    template_ms: float
    samples: int
    error: float
    made: dict[str, str]


@dataclass(frozen=True)
class Entry:
    """The measurements of one fusion. candidates: the fastest template first. versions: of the packages that made the code."""

    template: str
    params: dict[str, Any]
    versions: dict[str, str]
    candidates: tuple[Timing, ...]
    found: Found | None = None

    @property
    def ms(self) -> float:
        """Time of the fastest kernel. One of MetaSchedule was timed in a later race, so its time is taken relative to the template's there."""
        ratio = self.found.ms / self.found.template_ms if self.found is not None else 1.0
        return ratio * self.candidates[0].ms

    def of(self, template: str, params: dict[str, Any]) -> Timing | None:
        """The timing of a candidate; None where it was not measured."""
        return next((c for c in self.candidates if c.is_of(template, params)), None)


@dataclass
class Database:
    """Entries by target (`target_key`) and fusion (`shape_key`)."""

    path: Path | None = None
    targets: dict[str, dict[str, Entry]] = field(default_factory=dict)

    def section(self, target: Target, threads: int) -> dict[str, Entry]:
        """Entries of a target and a thread count; empty where there are none."""
        return self.targets.get(target_key(target, threads), {})

    def add(self, target: Target, threads: int, key: str, entry: Entry) -> None:
        self.targets.setdefault(target_key(target, threads), {})[key] = entry

    @property
    def name(self) -> str:
        return str(self.path) if self.path is not None else "the tuning database"

    def __len__(self) -> int:
        return sum(map(len, self.targets.values()))

    def save(self, path: str | Path | None = None) -> None:
        """Write the file; without a path the one it was read from."""
        path = Path(path) if path is not None else self.path
        if path is None:
            raise TersorError("this tuning database came from no file: save(path)")
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            try:
                part.write_text(self.to_json())
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise TersorError(f"cannot write {path}: {error.strerror or error}") from None

    def to_json(self) -> str:
        """JSON with a line for each candidate, so that diffs are readable."""
        sections = []
        for target, entries in sorted(self.targets.items()):
            rows = [f"  {json.dumps(key, ensure_ascii=False)}: {_entry_json(entry)}" for key, entry in sorted(entries.items())]
            sections.append(f" {json.dumps(target)}: {{\n" + ",\n".join(rows) + "\n }")
        return f'{{"format": {FORMAT}, "targets": {{\n' + ",\n".join(sections) + "\n}}\n"

    @classmethod
    def load(cls, path: str | Path) -> Database:
        """Read a file; `TersorError` when it is missing, damaged or of another format."""
        path = Path(path)
        try:
            data = json.loads(path.read_text())
        except FileNotFoundError:
            raise TersorError(f"there is no tuning database {path}: tersor tune MODEL --db {path} makes one") from None
        except OSError as error:
            raise TersorError(f"cannot read {path}: {error.strerror or error}") from None
        except ValueError as error:
            raise TersorError(f"{path} is not a tuning database, or truncated: expected JSON, {error}") from None
        if not isinstance(data, dict) or "format" not in data:
            raise TersorError(f'{path} is not a tuning database: expected {{"format": {FORMAT}, "targets": …}}')
        if data["format"] != FORMAT:
            raise TersorError(f"{path} has format {data['format']!r}; this Tersor reads format {FORMAT}: tune again")
        try:
            targets = {t: {k: _entry(e) for k, e in entries.items()} for t, entries in data["targets"].items()}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            what = f"is missing {error}" if isinstance(error, KeyError) else str(error)
            raise TersorError(f"{path} is a damaged tuning database: an entry {what}; each has template, params, versions and candidates") from None
        return cls(path, targets)


def _entry(data: dict[str, Any]) -> Entry:
    timings = tuple(Timing(c["template"], dict(c["params"]), float(c["ms"]), int(c["samples"]), float(c["error"])) for c in data["candidates"])
    if not timings or not timings[0].is_of(data["template"], data["params"]):
        raise ValueError("does not begin its candidates with the winner")
    found = data.get("found")
    return Entry(str(data["template"]), dict(data["params"]), dict(data["versions"]), timings, None if found is None else _found(found))


def _found(data: dict[str, Any]) -> Found:
    json.loads(data["trace"])
    return Found(data["trace"], float(data["ms"]), float(data["template_ms"]), int(data["samples"]), float(data["error"]), dict(data["made"]))


def _entry_json(entry: Entry) -> str:
    data = {"template": entry.template, "params": entry.params, "versions": entry.versions}
    if entry.found is not None:
        data["found"] = asdict(entry.found)
    head = json.dumps(data)[:-1]
    lines = [
        json.dumps({"template": c.template, "params": c.params, "ms": round(c.ms, 5), "samples": c.samples, "error": float(f"{c.error:.1e}")})
        for c in entry.candidates
    ]
    return head + ', "candidates": [\n   ' + ",\n   ".join(lines) + "]}"


def plain(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters as JSON reads them back: tuples are lists."""
    result: dict[str, Any] = json.loads(json.dumps(params))
    return result


Tuned = Database | str | Path | bool | None


def find(tuned: Tuned, target: Target) -> Database | None:
    """The database for the argument `tuned` of `compile`: None or True is the shipped one of the target, False none, else the given one."""
    if isinstance(tuned, Database):
        return tuned
    if tuned is False:
        return None
    if tuned is None or tuned is True:
        return shipped(target.mcpu)
    if isinstance(tuned, (str, Path)):
        return Database.load(tuned)
    raise TersorError(f"tuned must be None (the shipped database), False (none), a path or a Database, got {type(tuned).__name__}")


@functools.cache
def shipped(mcpu: str) -> Database | None:
    """The database that ships with Tersor for a processor; None where there is none."""
    path = SHIPPED / f"{mcpu}.json"
    return Database.load(path) if path.is_file() else None
