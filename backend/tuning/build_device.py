"""Build the candidates of several fusions for a GPU: each is a model of one kernel, whose operands and result stay on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...ir.graph import Graph
from ...ir.op import Const
from ..compile import build_for_device
from ..lowering.plan_memory import plan_memory
from ..runtime.device.compiled import DeviceModel
from ..runtime.device.model import DeviceProgram
from ..target import Target
from ..tile.half import loaded, stored
from ..tile.ops import Fused
from .build import Candidate, Group, Task, _empty, _random, _said


def build(group: Sequence[Task], target: Target, seed: int) -> Group:
    """Code of every candidate. A template's failure is recorded in its candidate and does not stop the others. Nothing empties a GPU's caches."""
    rng = np.random.default_rng(seed)
    candidates = [Candidate(task, *option) for task in group for option in task.options]
    inputs = {task.key: [_random(v, rng) for v in task.op.args if not isinstance(v.op, Const)] for task in group}
    outputs = {task.key: _empty(task.op.out) for task in group}
    for candidate in candidates:
        key = candidate.task.key
        try:
            _prepare(candidate, target, inputs[key], outputs[key])
        except Exception as error:
            candidate.problem = _said(error)
    return Group(candidates, inputs, outputs, lambda array: array, lambda arrays: None, np.zeros(0, np.uint8))


def _prepare(candidate: Candidate, target: Target, arrays: Sequence[np.ndarray], out: np.ndarray) -> None:
    op = candidate.task.op
    graph = Graph("fusion")
    args = [graph.add(v.op.rebuilt()) if isinstance(v.op, Const) else graph.add_input(v.type, f"x{i}") for i, v in enumerate(op.args)]
    graph.set_outputs([graph.add(Fused(args, op.body, candidate.template.name, candidate.params, half=op.half, half_elem=op.half_elem, loc=op.loc))])
    model: DeviceModel = build_for_device([(None, plan_memory(graph, target, 1))], target)
    program = model.program(model.entry())
    assert isinstance(program, DeviceProgram)
    numbers = [i for i, v in enumerate(op.args) if not isinstance(v.op, Const)]
    program.put([stored(a, op.half_elem) if i in op.half else a for i, a in zip(numbers, arrays)])
    result = stored(out, op.half_elem) if -1 in op.half else out

    def fetch() -> None:
        program.get([result])
        if result is not out:
            out[...] = loaded(result, op.half_elem)

    run: Callable[..., Any] = program.steps
    candidate.run, candidate.idle, candidate.fetch = (lambda: run(0, 1)), (lambda: run(0, 0)), fetch
