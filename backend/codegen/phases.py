"""Split a kernel for several threads into phases: its outermost parallel loops, and the statements between them.

Every thread calls the function for each phase, with the phase's number and its own; between phases there is a barrier. So phases share only
memory. Names, and statements that only store to thread-private arrays, are repeated in every later phase.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as t
from tvm.tirx import analysis
from tvm.tirx.buffer import BufferType


@dataclass
class Phase:
    """Statements of which each thread runs its share."""

    body: list[Any]


def split(statements: Sequence[Any], private: Mapping[Any, bool], phase: Any, worker: Any, team: int) -> tuple[list[Any], int]:
    """The statements of a function of `phase` and `worker`, and how many phases there are.

    Serial statements that write memory run on thread 0 only. private: thread-private arrays, and whether their lifetime is the whole
    function. Raises `ValueError` for a statement that stores both to such an array and to memory: it would have to run on every thread and on one.
    """
    if not any(isinstance(stmt, Phase) for stmt in statements):
        return _first_threads(statements, worker)
    result: list[Any] = []
    alone: list[Any] = []
    count = 0

    def add(body: list[Any], *conditions: Any) -> None:
        nonlocal count
        if body:
            result.append(t.IfThenElse(t.all(t.EQ(phase, count), *conditions), sequence(body), None))
            count += 1

    def end() -> None:
        add(alone.copy(), t.EQ(worker, 0))
        alone.clear()

    for stmt in statements:
        if isinstance(stmt, Phase):
            end()
            # the conditions tell TVM's analyzer the range of the thread number
            add(stmt.body, worker >= 0, worker < team)
            continue
        to = {private.get(buffer) for buffer in stored(stmt)}
        if None not in to:
            if alone and _reads_memory(stmt, private):
                end()
            result.append(stmt if isinstance(stmt, (t.Bind, t.DeclBuffer, t.AllocBuffer)) else t.IfThenElse(phase >= count, stmt, None))
        elif True in to:
            raise ValueError("a statement between parallel loops writes both to memory and to a thread-private array: split the statement")
        else:
            alone.append(stmt)
    end()
    return result, count


def _first_threads(statements: Sequence[Any], worker: Any) -> tuple[list[Any], int]:
    """A function without parallel loops: one phase, if any."""
    pointers = [stmt for stmt in statements if isinstance(stmt, t.DeclBuffer)]
    rest = [stmt for stmt in statements if not isinstance(stmt, t.DeclBuffer)]
    return ([*pointers, t.IfThenElse(t.EQ(worker, 0), sequence(rest), None)], 1) if rest else (pointers, 0)


def stored(stmt: Any) -> Iterator[Any]:
    """The buffers that a statement stores to; None for a call, which may store anywhere."""
    if isinstance(stmt, t.BufferStore):
        yield stmt.buffer
    elif isinstance(stmt, t.Evaluate):
        yield None
    elif isinstance(stmt, t.SeqStmt):
        for one in stmt.seq:
            yield from stored(one)
    elif isinstance(stmt, t.IfThenElse):
        yield from stored(stmt.then_case)
        if stmt.else_case is not None:
            yield from stored(stmt.else_case)
    elif isinstance(stmt, (t.For, t.While, t.AttrStmt)):
        yield from stored(stmt.body)


def _reads_memory(stmt: Any, private: Mapping[Any, bool]) -> bool:
    """Whether a statement uses a buffer that is not a thread-private array."""
    found = analysis.undefined_vars(stmt.value if isinstance(stmt, t.Bind) else stmt, [])
    return any(isinstance(v.ty, BufferType) and v not in private for v in found)


def sequence(stmts: Sequence[Any]) -> Any:
    """One statement of several."""
    return stmts[0] if len(stmts) == 1 else t.SeqStmt(list(stmts))
