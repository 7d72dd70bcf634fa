"""Rewrite patterns and the greedy driver that applies them until none matches.

@rewrite
def relu_of_relu(op: Relu) -> Value | None:
    "relu(relu(x)) -> relu(x)"
    match op.x.op:
        case Relu():
            return op.x
    return None

greedy(graph, relu_of_relu)
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, overload

from .errors import TersorError
from .graph import Graph, unattached
from .op import Op, Value


@dataclass(frozen=True, slots=True)
class Refusal:
    """A pattern that almost matched, and why it must not be applied."""

    reason: str


def refuse(reason: str) -> Refusal:
    """`return refuse("w is not constant")` instead of None keeps the reason for a `Trace`."""
    return Refusal(reason)


Result = Op | Value | Refusal | None


@dataclass(frozen=True)
class Rewrite:
    """A pattern: `function(op)` returns the replacement of an op of the `matches` classes, None, or a `Refusal`."""

    name: str
    function: Callable[[Any], Result]
    matches: tuple[type[Op], ...]
    regions: bool = False

    @property
    def equation(self) -> str:
        """The pattern's docstring."""
        return inspect.getdoc(self.function) or ""

    def __call__(self, op: Op) -> Result:
        return self.function(op)


class Trace:
    """Refused matches of a `greedy` run, for the question "why was this not rewritten?"."""

    def __init__(self) -> None:
        self._reasons: dict[tuple[str, Op], str] = {}

    def add(self, pattern: str, op: Op, reason: str) -> None:
        self._reasons[pattern, op] = reason

    def applied(self, pattern: str, op: Op) -> None:
        """Forget the refusal of a pattern that has now matched the op."""
        self._reasons.pop((pattern, op), None)

    @property
    def refused(self) -> list[tuple[str, Op, str]]:
        """(pattern, op, reason) of every refusal; the op may since have been rewritten by another pattern."""
        return [(pattern, op, reason) for (pattern, op), reason in self._reasons.items()]

    def __str__(self) -> str:
        return "\n".join(f"{pattern} refused {op.name} %{op.outs[0].name} [{op.loc}]: {reason}" for pattern, op, reason in self.refused)


@overload
def rewrite(function: Callable[[Any], Result], /) -> Rewrite: ...
@overload
def rewrite(*, regions: bool = False) -> Callable[[Callable[[Any], Result]], Rewrite]: ...
def rewrite(function: Callable[[Any], Result] | None = None, /, *, regions: bool = False) -> Rewrite | Callable[[Callable[[Any], Result]], Rewrite]:
    """Make a pattern of a function of one op.

    The annotation of its parameter says what it matches: an op class, a base class or a union of them. It returns the op's
    replacement (a new Op with the unattached ops it depends on, or an existing Value), None, or `refuse("reason")`; the docstring is the equation.
    With `regions=True` it also looks at ops inside of regions (`tile.fused`).
    """
    names = sys._getframe(1).f_locals

    def make(f: Callable[[Any], Result]) -> Rewrite:
        return Rewrite(f.__name__, f, _matches(f, names), regions)

    return make if function is None else make(function)


def _matches(f: Callable[[Any], Result], names: Mapping[str, Any]) -> tuple[type[Op], ...]:
    wanted = "annotate its one parameter with an op class, a base class or a union of op classes"
    parameters = list(inspect.signature(f).parameters.values())
    if len(parameters) != 1 or parameters[0].annotation is inspect.Parameter.empty:
        raise TersorError(f"pattern {f.__name__!r}: {wanted}")
    annotation = parameters[0].annotation
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, f.__globals__, dict(names))
        except Exception as error:
            raise TersorError(f"pattern {f.__name__!r}: cannot resolve its annotation {annotation!r} ({error}); {wanted}") from error
    union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    classes: tuple[Any, ...] = typing.get_args(annotation) if union else (annotation,)
    for c in classes:
        if not (isinstance(c, type) and issubclass(c, Op)):
            raise TersorError(f"pattern {f.__name__!r}: {c!r} is not an op class; {wanted}")
    return classes


def greedy(graph: Graph, *patterns: Rewrite, max_rewrites: int | None = None, why: Trace | None = None) -> Counter[str]:
    """Apply patterns in place until none of them changes anything; returns how often each was applied.

    Earlier patterns win on an op. New ops, the users of their results and the producers of what they read are visited again, and ops
    that a rewrite leaves unread are erased. Only patterns made with `@rewrite(regions=True)` enter regions.

    max_rewrites: the number of rewrites after which the patterns are taken to loop, by default 1,000 plus ten per op; a `TersorError` names them.
    why: collects the reasons of refused matches.
    """
    counts: Counter[str] = Counter()
    inside = [p for p in patterns if p.regions]
    if inside:
        for op in graph.ops:
            for region in (v for v in op.attrs.values() if isinstance(v, Graph)):
                counts += greedy(region, *inside, max_rewrites=max_rewrites, why=why)
    run = _Run(graph, patterns, 1000 + 10 * len(graph) if max_rewrites is None else max_rewrites, why)
    while run.sweep():
        pass
    return counts + run.counts


class _Run:
    """One run of `greedy`: the worklist, the counts and the cap."""

    def __init__(self, graph: Graph, patterns: Iterable[Rewrite], cap: int, why: Trace | None):
        self.graph = graph
        self.patterns = tuple(patterns)
        self.cap = cap
        self.why = why
        self.counts: Counter[str] = Counter()
        self.recent: deque[str] = deque(maxlen=50)
        self.total = 0
        self.by_class: dict[type[Op], list[Rewrite]] = {}
        self.queue: deque[Op] = deque()
        self.queued: set[Op] = set()

    def candidates(self, op: Op) -> list[Rewrite]:
        kind = type(op)
        if kind not in self.by_class:
            self.by_class[kind] = [p for p in self.patterns if issubclass(kind, p.matches)]
        return self.by_class[kind]

    def push(self, op: Op | None) -> None:
        if op is not None and op not in self.queued and self.candidates(op):
            self.queued.add(op)
            self.queue.append(op)

    def sweep(self) -> bool:
        """Visit every op, and the ops that rewrites affect; returns whether anything changed."""
        before = self.total
        for op in self.graph.ops:
            self.push(op)
        while self.queue:
            op = self.queue.popleft()
            self.queued.discard(op)
            if op.graph is self.graph:
                self.visit(op)
        return self.total > before

    def visit(self, op: Op) -> None:
        for pattern in self.candidates(op):
            try:
                result = pattern(op)
            except TersorError as error:
                raise TersorError(f"pattern {pattern.name!r} on {op.name} [{op.loc}]: {error}") from error
            except Exception as error:
                error.add_note(f"in pattern {pattern.name!r} on {op.name} [{op.loc}]")
                raise
            if isinstance(result, Refusal):
                if self.why is not None:
                    self.why.add(pattern.name, op, result.reason)
            elif result is not None:
                self.apply(pattern, op, result)
                return

    def apply(self, pattern: Rewrite, op: Op, result: Op | Value) -> None:
        self.total += 1
        if self.total > self.cap:
            names = " and ".join(repr(name) for name, _ in Counter([*self.recent, pattern.name]).most_common(3))
            raise TersorError(
                f"pattern {names} did not converge in {self.cap} rewrites, the last on {op.name} [{op.loc}]: the patterns undo each other"
            )
        self.counts[pattern.name] += 1
        if self.why is not None:
            self.why.applied(pattern.name, op)
        self.recent.append(pattern.name)
        values = result.outs if isinstance(result, Op) else [result]
        new = unattached(values[0].op) if values[0].op is not None else []
        _check(pattern, op, values, new)
        self.graph.replace(op, result)
        for o in new:
            self.push(o)
            for v in o.operands:
                self.push(v.op)
        for value in values:
            for user in value.users:
                self.push(user)
        self.forget(op)

    def forget(self, erased: Op) -> None:
        """Erase producers that only `erased` read; queue the other producers, and the one user that an operand is left with."""
        stack = [erased]
        while stack:
            for v in stack.pop().operands:
                producer = v.op
                if producer is not None and producer.graph is self.graph:
                    if not any(out.uses for out in producer.outs):
                        self.graph.erase(producer)
                        stack.append(producer)
                        continue
                    self.push(producer)
                if len(v.uses) == 1:
                    for user in v.users:
                        self.push(user)


def _check(pattern: Rewrite, op: Op, values: list[Value], new: list[Op]) -> None:
    """Raise TersorError unless the replacement has as many results, of the same types, and does not read what it replaces."""
    where = f"pattern {pattern.name!r} on {op.name} [{op.loc}]"
    if len(values) != len(op.outs):
        raise TersorError(f"{where}: expected a replacement with {len(op.outs)} results, got {len(values)}")
    for old, value in zip(op.outs, values):
        if value is old:
            raise TersorError(f"{where}: returned the op that it matched; return None where nothing changes")
        if value.type != old.type:
            raise TersorError(f"{where}: expected a replacement of type {old.type}, got {value.type}")
    if any(v in op.outs for o in new for v in o.operands):
        raise TersorError(f"{where}: the replacement reads the result that it replaces")
