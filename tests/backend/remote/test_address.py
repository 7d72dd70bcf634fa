"""Addresses of devices, and what is wrong with others."""

from __future__ import annotations

import pytest

from tersor import TersorError
from tersor.backend.remote.address import Address, endpoint, parse


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("rpc://board:9090", Address("rpc", "board", 9090)),
        ("rpc://10.0.0.7:9190/pi4", Address("rpc", "10.0.0.7", 9190, "pi4")),
        ("rpc://[::1]:9090", Address("rpc", "::1", 9090)),
        ("ssh://board", Address("ssh", "board", 0)),
        ("ssh://me@board:2222", Address("ssh", "me@board", 2222)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse(text) == address
    assert "[" in text or str(address) == text


@pytest.mark.parametrize("text", ["board", "rpc://board", "rpc://board:99999", "http://board:1", "ssh://-oProxyCommand=x", "rpc://a:1/b/c", ""])
def test_others_are_refused_with_the_valid_forms(text: str) -> None:
    with pytest.raises(TersorError, match=r"unknown device .*; valid: rpc://host:port, rpc://tracker-host:port/key, ssh://"):
        parse(text)


def test_endpoints() -> None:
    assert endpoint("farm", 9190) == ("farm", 9190) and endpoint("farm:7", 9190) == ("farm", 7)
    with pytest.raises(TersorError, match="expected host:port, got 'a:b'"):
        endpoint("a:b", 1)
