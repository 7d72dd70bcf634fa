"""A machine that is reached by ssh and needs nothing but an operating system: a C export is linked statically here, copied, and run there."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...ir.errors import TersorError
from ..codegen.link import linker
from ..target import Target
from .address import Address
from .facts import FILES, Facts, from_files

#: The command that connects, in place of `ssh`: `TERSOR_SSH="ssh -i board.key"`.
COMMAND = "TERSOR_SSH"
_TIMES = re.compile(r"^median ([\d.]+) ms, min ([\d.]+), p90 ([\d.]+); (\d+) calls$", re.M)
_MARK = "@@tersor "


@dataclass(frozen=True)
class Times:
    """Milliseconds of one call, and what the program printed."""

    median: float
    min: float
    p90: float
    repeat: int
    said: str


@dataclass
class Host:
    """A machine at `ssh://[user@]host[:port]`. facts: found by the first question."""

    address: Address
    facts: Facts = field(init=False)

    def __post_init__(self) -> None:
        files = " ".join(f"/{pattern}" for pattern in FILES)
        script = f'uname -m; nproc; for f in {files}; do [ -r "$f" ] && echo "{_MARK}$f" && cat "$f" 2>/dev/null; done; true'
        head, *parts = self.run(script).decode(errors="replace").split(_MARK)
        try:
            machine, cores = head.split()
            texts = {part.partition("\n")[0].strip().lstrip("/"): part.partition("\n")[2] for part in parts}
            self.facts = from_files(texts, machine, int(cores))
        except ValueError:
            raise TersorError(f"{self.address} does not answer as Linux does, but with {head.strip()[:100]!r}") from None

    def target_name(self) -> str:
        """A target for its processor that is safe: the widest of a few whose features it has."""
        features = {*self.facts.features}
        if self.facts.machine == "aarch64":
            return "arm64:neoverse-n1" if "asimddp" in features else "arm64:cortex-a72"
        if self.facts.machine == "x86_64":
            wide = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"}
            return f"cpu:x86-64-v{4 if wide <= features else 3 if {'avx2', 'fma', 'bmi2'} <= features else 2}"
        raise TersorError(f"{self.address} is {self.facts.machine}: there are targets for x86_64 and aarch64")

    def require(self, target: Target) -> None:
        """Raise unless the machine runs code for a target."""
        arch = target.triple.partition("-")[0]
        if arch != self.facts.machine:
            raise TersorError(f"{target.name} is {arch}, and {self.address} is {self.facts.machine}: leave --target out")
        if self.facts.features and (missing := [f for f in target.features if f not in self.facts.features]):
            raise TersorError(f"{target.name} needs {', '.join(missing)}, which {self.address} lacks: leave --target out")

    def call(self, folder: Path, target: Target, calls: int, name: str = "model") -> tuple[Times, bytes]:
        """Build the example of a C export, run it there, and return its times and the bytes of its outputs."""
        command = ["make", "-s", "-C", str(folder), f"{name}_test", "LDFLAGS=-static", f"CC={linker(target)}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise TersorError(f"the program for {self.address} did not build: {' '.join(done.stderr.split())[:300]}")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for file in (f"{name}_test", f"{name}.bin", f"{name}_test.bin"):
                archive.add(folder / file, file)
        run = f"./{name}_test {calls} out.bin > said.txt 2>&1; code=$?; cat said.txt >&2; [ $code = 0 ] && cat out.bin; exit $code"
        script = f'd=$(mktemp -d) && cd "$d" && tar xf - && {{ ({run}); code=$?; cd /; rm -rf "$d"; exit $code; }}'
        done_there = self._ssh(script, packed.getvalue())
        said = done_there.stderr.decode(errors="replace")
        if done_there.returncode:
            raise TersorError(f"{self.address}: the model failed with code {done_there.returncode}: {' '.join(said.split())[-300:]}")
        if (found := _TIMES.search(said)) is None:
            raise TersorError(f"{self.address}: the program printed no times: {' '.join(said.split())[-300:]}")
        return Times(float(found[1]), float(found[2]), float(found[3]), int(found[4]), said), done_there.stdout

    def run(self, script: str) -> bytes:
        """What a shell script prints there."""
        done = self._ssh(script)
        if done.returncode:
            raise TersorError(
                f"{self.address}: a command ended with code {done.returncode}: {' '.join(done.stderr.decode(errors='replace').split())[:300]}"
            )
        return done.stdout

    def _ssh(self, script: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        done = _started([*ssh_command(self.address), script], data)
        if done.returncode == 255:
            raise TersorError(f"ssh does not reach {self.address}: {' '.join(done.stderr.decode(errors='replace').split())[-300:]}")
        return done


def ssh_command(address: Address, *options: str) -> list[str]:
    """The command that connects, which a script may follow."""
    own = shlex.split(os.environ.get(COMMAND, "ssh"))
    port = ["-p", str(address.port)] if address.port else []
    return [*own, "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=10", *options, *port, address.host]


def _started(command: Sequence[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, input=data, capture_output=True)
    except FileNotFoundError:
        raise TersorError(f"{command[0]} was not found: apt-get install openssh-client, or set {COMMAND}") from None
