"""Reduce a failing run to the fewest operators, passes and batches that fail in the same way (like mlir-reduce)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .ir.errors import TersorError
from .ir.evaluate import at_batch_of, evaluate, to_numpy, to_torch
from .ir.graph import Graph, remapped
from .ir.op import Const, Op, Value, add_use
from .reproducer import Reproducer

Note = Callable[[str], None]


def reduce(run: Reproducer, note: Note | None = None) -> Reproducer:
    """A smaller run that fails with the same type of error and the same sentence, except for numbers, quoted names, locations and parentheses.

    Drops batches, then passes, then the operators after the one that fails, then those before it, whose results become inputs.
    note: called with what was left out. Raises TersorError where the run does not fail.
    """
    wanted = failure(run)
    if wanted is None:
        raise TersorError("the run does not fail here, so there is nothing to reduce")

    def fails(candidate: Reproducer) -> bool:
        return failure(candidate) == wanted

    for smaller in (_fewer_batches, _fewer_passes, _fewer_outputs, _fewer_inputs):
        for candidate in smaller(run, fails):
            if note is not None:
                note(f"{len(candidate.graph)} ops, {len(candidate.calibration)} batches, {candidate.options.get('pipeline', candidate.kind)}")
            run = candidate
    return replace(run, error=_error(run))


def failure(run: Reproducer) -> str | None:
    """The signature of a failure, equal for two failures of one fault; None where the run does not fail."""
    found = _error(run)
    return re.sub(r"\[[^\]]*\]| ?\([^)]*\)| and \d+ more|\d+(\.\d+)?|'[^']*'|%\w+", "#", found) if found else None


def _error(run: Reproducer) -> str:
    try:
        run.run()
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return ""


# -- what may be left out ----------------------------------------------------------------------

Fails = Callable[[Reproducer], bool]


def _fewer_batches(run: Reproducer, fails: Fails) -> Iterator[Reproducer]:
    """One batch, or none."""
    for batches in ((), *((batch,) for batch in run.calibration)):
        if len(batches) < len(run.calibration) and fails(candidate := replace(run, calibration=batches)):
            yield candidate
            return


def _fewer_passes(run: Reproducer, fails: Fails) -> Iterator[Reproducer]:
    """Passes left out one by one, the last first."""
    if run.kind != "transform":
        return
    from .passes import Pipeline
    from .passes.core.pipeline import format_pass

    passes = [format_pass(p) for p in Pipeline.of(run.options["pipeline"])]
    for i in reversed(range(len(passes))):
        left = passes[:i] + passes[i + 1 :]
        if left and fails(candidate := replace(run, options=run.options | {"pipeline": ",".join(left)})):
            passes = left
            yield candidate


def _fewer_outputs(run: Reproducer, fails: Fails) -> Iterator[Reproducer]:
    """The graph up to the first operator with which it fails, by bisection, then from operand to operand, since branches may mislead bisection."""
    graph = run.graph
    places = [op for op in graph.ops if not isinstance(op, Const)]
    low, high = 0, len(places) - 1
    while low < high:
        middle = (low + high) // 2
        at_middle = fails(replace(run, graph=extract(graph, places[middle].outs, {})))
        low, high = (low, middle) if at_middle else (middle + 1, high)
    steps = [places[low]] if places else []
    while steps:
        op = steps.pop(0)
        if fails(candidate := replace(run, graph=extract(graph, op.outs, {}))):
            yield candidate
            steps = [v.op for v in op.operands if v.op is not None and not isinstance(v.op, Const)]


def _fewer_inputs(run: Reproducer, fails: Fails) -> Iterator[Reproducer]:
    """Replace results of operators by inputs, the last first; the operators that computed them are dropped."""
    tried: set[str] = set()
    while True:
        graph = run.graph
        computed = [op for op in graph.ops if not isinstance(op, Const) and not any(v in graph.outputs for v in op.outs)]
        candidates = [op for op in reversed(computed) if _place(op) not in tried]
        if not candidates:
            return
        op = candidates[0]
        tried.add(_place(op))
        try:
            candidate = replace(run, graph=cut(graph, op), calibration=_computed(graph, op, run.calibration))
        except TersorError:
            continue
        if fails(candidate):
            run = candidate
            yield run


def _place(op: Op) -> str:
    return f"{op.name} {op.loc} {op.out.name}"


def cut(graph: Graph, op: Op) -> Graph:
    """The graph with the results of an operator as inputs instead of the operator."""
    return extract(graph, graph.outputs, {v: v.name or f"cut_{i}" for i, v in enumerate(op.outs)})


def extract(graph: Graph, outputs: Sequence[Value], cuts: dict[Value, str]) -> Graph:
    """The part of a graph that computes `outputs` from its inputs and from the values of `cuts`, which become inputs with these names."""
    needed: set[Op] = set()
    stack = list(outputs)
    while stack:
        v = stack.pop()
        if v.op is not None and v not in cuts and v.op not in needed:
            needed.add(v.op)
            stack.extend(v.op.operands)
    read = {v for op in needed for v in op.operands} | set(outputs)
    new = Graph(graph.name)
    to = {v: new.add_input(v.type, v.name, v.name in graph.batched) for v in graph.inputs if v in read}
    for v, name in cuts.items():
        if v in read:
            batched = bool(graph.batched) and bool(v.type.rank)
            to[v] = new.add_input(v.type, name if all(i.name != name for i in new.inputs) else f"{name}_cut", batched)
    for op in graph.ops:
        if op in needed:
            copy = remapped(op, to)
            copy.graph = new
            for v in copy.operands:
                add_use(v, copy)
            new.ops.append(copy)
            for a, b in zip(op.outs, copy.outs):
                b.name = a.name
                to.setdefault(a, b)
    new.set_outputs([to[v] for v in outputs])
    return new.verify()


def _computed(graph: Graph, op: Op, batches: Sequence[Any]) -> list[dict[str, np.ndarray]]:
    """The calibration batches as inputs of the cut graph."""
    inputs = cut(graph, op).inputs
    place = graph.ops.index(op)
    result = []
    for batch in batches:
        found = _values(graph, place, [to_torch(np.asarray(batch[v.name])) for v in graph.inputs])
        kept = {v.name: np.asarray(batch[v.name]) for v in inputs if v.name in batch}
        result.append(kept | dict(zip((v.name for v in inputs if v.name not in batch), found)))
    return result


def _values(graph: Graph, place: int, inputs: list[Any]) -> list[np.ndarray]:
    """The results of the operator at a position of the graph, for the given inputs."""
    run = at_batch_of(graph, inputs)
    found: list[np.ndarray] = []
    evaluate(run, inputs, observe=lambda op, y: found.append(to_numpy(y)) if op is run.ops[place] else None)
    return found
