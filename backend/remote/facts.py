"""Facts of a machine that bear on measured times, where Linux tells them: processor, clocks, governor, temperatures, memory, load."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

#: Files that hold the facts, as patterns below the root.
FILES = (
    "proc/cpuinfo",
    "proc/meminfo",
    "proc/loadavg",
    "sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq",
    "sys/devices/system/cpu/cpu*/cpufreq/scaling_max_freq",
    "sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
    "sys/class/thermal/thermal_zone*/type",
    "sys/class/thermal/thermal_zone*/temp",
)


@dataclass(frozen=True)
class Facts:
    """clocks, highest: MHz of each core now, and the most it may have; governors: of each core; temperatures: degrees Celsius by sensor;
    memory: bytes; load: processes that ran or waited in the last minute. Empty or None where the system does not tell."""

    machine: str
    processor: str
    cores: int
    features: tuple[str, ...]
    clocks: tuple[float, ...] = ()
    highest: tuple[float, ...] = ()
    governors: tuple[str, ...] = ()
    temperatures: dict[str, float] = field(default_factory=dict)
    memory: int | None = None
    load: float | None = None

    def __str__(self) -> str:
        parts = [f"{self.processor or 'unknown processor'} ({self.machine}), {self.cores} core{'s' * (self.cores > 1)}"]
        if self.clocks:
            most = f" of at most {max(self.highest):.0f}" if self.highest else ""
            parts.append(f"clocks {_span(self.clocks)}{most} MHz")
        else:
            parts.append("clocks unknown")
        parts.append(f"governor {', '.join(sorted({*self.governors}))}" if self.governors else "governor unknown")
        hottest = max(self.temperatures, key=lambda name: self.temperatures[name], default=None)
        parts.append("temperature unknown" if hottest is None else f"{hottest} {self.temperatures[hottest]:.0f} °C")
        if self.load is not None:
            parts.append(f"load {self.load:.2f}")
        return ", ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Facts:
        """The reverse of `as_dict`, also after a trip through JSON."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**fields)


def _span(values: tuple[float, ...]) -> str:
    low, high = min(values), max(values)
    return f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}"


def facts(root: Path = Path("/")) -> Facts:
    """Of this machine; root: another folder with `proc` and `sys`, for tests."""
    texts: dict[str, str] = {}
    for pattern in FILES:
        for path in root.glob(pattern):
            try:
                texts[str(path.relative_to(root))] = path.read_text(errors="replace")
            except OSError:
                continue  # some sensors cannot be read at all times
    return from_files(texts, os.uname().machine, len(os.sched_getaffinity(0)))


def from_files(texts: dict[str, str], machine: str, cores: int) -> Facts:
    """Facts in the contents of files, by path without the leading slash."""
    info = texts.get("proc/cpuinfo", "")
    name = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", info, re.M) or re.search(r"^CPU part\s*:\s*(.+)$", info, re.M)
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", info, re.M)
    clocks = _per_core(texts, "scaling_cur_freq") or [float(v) for v in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", info, re.M)]
    memory = re.search(r"^MemTotal:\s*(\d+) kB", texts.get("proc/meminfo", ""), re.M)
    load = re.match(r"[\d.]+", texts.get("proc/loadavg", ""))
    return Facts(
        machine,
        name[1].strip() if name else "",
        cores,
        tuple(found[1].split()) if found else (),
        tuple(clocks),
        tuple(_per_core(texts, "scaling_max_freq")),
        tuple(texts[p].strip() for p in sorted(texts) if p.endswith("/scaling_governor")),
        _temperatures(texts),
        int(memory[1]) << 10 if memory else None,
        float(load[0]) if load else None,
    )


def _per_core(texts: dict[str, str], name: str) -> list[float]:
    """MHz of each core from files in kHz."""
    values = [texts[path].strip() for path in sorted(texts) if path.endswith(f"/{name}")]
    return [int(v) / 1e3 for v in values if v.isdigit()]


def _temperatures(texts: dict[str, str]) -> dict[str, float]:
    """Degrees by sensor; equal names are numbered."""
    result: dict[str, float] = {}
    for path in sorted(p for p in texts if p.endswith("/temp")):
        zone = path.removesuffix("/temp")
        name = texts.get(f"{zone}/type", zone.rpartition("/")[2]).strip()
        if re.fullmatch(r"-?\d+", texts[path].strip()):
            result[name if name not in result else f"{name} {zone.rpartition('zone')[2]}"] = int(texts[path]) / 1e3
    return result
