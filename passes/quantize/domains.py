"""Domains: values that must share one type, since an operator only moves integers from one to the other.

    concat(a, b) -> y,   max_pool(a) -> y,   reshape(a) -> y,   …        a, b and y are one domain

With one type no integer changes on the way, so the operands of a concat can be aliases of its result.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...ir.op import Op, Value
from .roles import data_operands


class Domains:
    """A union-find over values."""

    def __init__(self) -> None:
        self._parent: dict[Value, Value] = {}

    def root(self, v: Value) -> Value:
        """The representative of the domain of `v`."""
        self._parent.setdefault(v, v)
        while self._parent[v] is not v:
            self._parent[v] = self._parent[self._parent[v]]
            v = self._parent[v]
        return v

    def join(self, a: Value, b: Value) -> None:
        """Make two domains one."""
        self._parent[self.root(b)] = self.root(a)

    def groups(self, values: Iterable[Value]) -> list[list[Value]]:
        """The given values by domain, in the order given."""
        found: dict[Value, list[Value]] = {}
        for v in values:
            found.setdefault(self.root(v), []).append(v)
        return list(found.values())


def domains_of(moves: Iterable[Op]) -> Domains:
    """The domains made by operators that only move integers."""
    domains = Domains()
    for op in moves:
        for v in data_operands(op):
            domains.join(op.out, v)
    return domains
