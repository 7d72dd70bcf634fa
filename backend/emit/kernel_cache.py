"""Object code of kernels, kept in a folder between processes.

A file's name is the hash of all that its content depends on, so a file is never outdated, only unused. It begins with the
hash of its code, and is written under another name and renamed: an interrupted or concurrent compile leaves complete
files, and a damaged file counts as missing.

    TERSOR_CACHE=/path     the folder; by default `tersor/kernels` in `$XDG_CACHE_HOME` or `~/.cache`
    TERSOR_CACHE=off       keep nothing
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

#: Most bytes of the cache; above it the least recently used files are removed, until a tenth is free.
LIMIT = 1 << 30
SUFFIX = ".kernel"
OFF = "off"
_DIGEST = 16


def _digest(code: bytes) -> bytes:
    return hashlib.blake2b(code, digest_size=_DIGEST).digest()


@dataclass(frozen=True)
class KernelCache:
    """A folder of object files by hash. Nothing is kept without a folder, or where it cannot be written."""

    folder: Path | None

    @classmethod
    def default(cls) -> KernelCache:
        """The cache that the environment names."""
        named = os.environ.get("TERSOR_CACHE")
        if named == OFF:
            return cls(None)
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        return cls(Path(named) if named else Path(base) / "tersor" / "kernels")

    def get(self, key: str) -> bytes | None:
        """The data stored under the key, None if missing; marks it as used now."""
        if self.folder is None:
            return None
        path = self.folder / f"{key}{SUFFIX}"
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        digest, code = content[:_DIGEST], content[_DIGEST:]
        return code if _digest(code) == digest else None

    def put(self, key: str, code: bytes) -> None:
        if self.folder is None:
            return
        part = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".part", delete=False) as file:
                part = Path(file.name)
                file.write(_digest(code) + code)
            part.replace(self.folder / f"{key}{SUFFIX}")
        except OSError:
            return
        finally:
            if part is not None:
                part.unlink(missing_ok=True)

    def files(self) -> list[Path]:
        return [] if self.folder is None or not self.folder.is_dir() else [*self.folder.glob(f"*{SUFFIX}")]

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(size for size, _, _ in self._used())

    def trim(self, limit: int = LIMIT) -> None:
        """Remove the least recently used files, when all take more than `limit` bytes."""
        used = sorted(self._used(), key=lambda entry: entry[1])
        total = sum(size for size, _, _ in used)
        if total <= limit:
            return
        for size, _, path in used:
            if total <= limit * 9 // 10:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size

    def clear(self) -> int:
        """Remove all files; returns how many there were."""
        files = self.files()
        for path in files:
            path.unlink(missing_ok=True)
        return len(files)

    def _used(self) -> list[tuple[int, float, Path]]:
        """Size, time of last use and path of each file that is still there."""
        result = []
        for path in self.files():
            with contextlib.suppress(OSError):
                stat = path.stat()
                result.append((stat.st_size, stat.st_mtime, path))
        return result
