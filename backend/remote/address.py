"""Addresses of devices: `rpc://host:port`, `rpc://tracker-host:port/key`, `ssh://[user@]host[:port]`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...ir.errors import TersorError

FORMS = "rpc://host:port, rpc://tracker-host:port/key, ssh://[user@]host[:port]"
_RPC = re.compile(r"rpc://(?P<host>\[[^\]]+\]|[^/:@\s]+):(?P<port>\d+)(?:/(?P<key>[^/:\s]+))?/?")
_SSH = re.compile(r"ssh://(?P<host>(?!-)[^/:\s]+)(?::(?P<port>\d+))?/?")


@dataclass(frozen=True)
class Address:
    """Where a device is. scheme: `rpc` or `ssh`. key: of a tracker's devices. port: 0 where ssh takes its own."""

    scheme: str
    host: str
    port: int
    key: str = ""

    def __str__(self) -> str:
        port = f":{self.port}" if self.port else ""
        return f"{self.scheme}://{self.host}{port}" + (f"/{self.key}" if self.key else "")


def parse(text: str) -> Address:
    """The address in a text. Raises `TersorError` with the valid forms."""
    match = _RPC.fullmatch(text) or _SSH.fullmatch(text)
    port = int(match["port"] or 0) if match else 0
    if match is None or port > 65535:
        raise TersorError(f"unknown device {text!r}; valid: {FORMS}")
    scheme = text.partition(":")[0]
    return Address(scheme, match["host"].strip("[]"), port, (match["key"] or "") if scheme == "rpc" else "")


def endpoint(text: str, port: int) -> tuple[str, int]:
    """`host`, `host:port` -> (host, port)."""
    match = re.fullmatch(r"(\[[^\]]+\]|[^:\s]+)(?::(\d+))?", text)
    if match is None or int(match[2] or port) > 65535:
        raise TersorError(f"expected host:port, got {text!r}")
    return match[1].strip("[]"), int(match[2] or port)
