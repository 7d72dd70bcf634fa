"""Run a network twice over the calibration data, layer after layer: the original and the current one.

Activations of both runs are carried forward and freed after their last reader, so nothing is computed twice from the input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ...ir.errors import TersorError
from ...ir.evaluate import run, to_torch
from ...ir.graph import Graph
from ...ir.op import Const, Op, Value
from ...ir.ops import Add, BatchNorm, Conv2d, ConvTranspose2d, Linear, Matmul
from ..core.context import Batch, Context
from ..core.samples import arguments, tensors
from ..coupling import Layer

if TYPE_CHECKING:
    import torch

Chunks = list[Any]
T = TypeVar("T", bound=Op)


class Replay:
    """Two runs of `graph` side by side.

    Iteration yields each layer (convolution, linear, matmul) once, when its operands are known in both runs and its response is known in the
    original one. Until the next step `replace_layer(op, new)` may replace it: `new` is an unattached op that reads values of the graph,
    directly or through other unattached ops. The order is the graph's, except that the other term of a residual sum comes before the
    branch's last layer.

    images: at most so many are used. chunk: at most so many are run at a time.
    """

    def __init__(self, graph: Graph, calibration: Sequence[Batch], ctx: Context, what: str, images: int | None = None, chunk: int = 32):
        self.graph = graph
        self.ctx = ctx
        self.what = what
        self.put_in: dict[Op, Op] = {}
        inputs = list(inputs_in_chunks(graph, calibration, images, chunk))
        self.chunks = len(inputs)
        self.images = sum(len(x[0]) for x in inputs)
        self._old: dict[Value, Chunks] = {v: [x[i] for x in inputs] for i, v in enumerate(graph.inputs)}
        self._new: dict[Value, Chunks] = dict(self._old)
        self._reads: dict[Value, int] = {}
        for op in graph.ops:
            for v in op.operands:
                self._reads[v] = self._reads.get(v, 0) + 1

    # -- the two runs --------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Layer]:
        layers: Iterator[Any] = self.walk((Conv2d, ConvTranspose2d, Linear, Matmul))
        return layers

    def walk(self, stops: tuple[type[T], ...]) -> Iterator[T]:
        """The iteration, for ops of other classes."""
        import torch

        order = residual_order(self.graph)
        layers = [op for op in order if isinstance(op, stops)]
        last = order.index(layers[-1]) if layers else -1
        done = 0
        with torch.no_grad():
            for op in order[: last + 1]:
                if isinstance(op, Const):
                    continue
                if isinstance(op, stops):
                    self._old[op.out] = [self._run(op, self._old, i) for i in range(self.chunks)]
                    yield op
                    done += 1
                    self._step(op)
                    if self.ctx.progress is not None:
                        self.ctx.progress(self.what, done, len(layers))
                else:
                    self._step(op)

    def changes(self, op: Op) -> bool:
        """Whether an op without a replacement still differs in the second run."""
        return False

    def replace_layer(self, op: Op, new: Op) -> None:
        """From now on `new` replaces `op` in the second run."""
        self.put_in[op] = new

    def original(self, value: Value, i: int) -> torch.Tensor:
        """A value in the original network, for chunk i; one not reached yet is computed and not kept."""
        y: torch.Tensor = self._peek(value, i, self._old, {})
        return y

    def current(self, value: Value, i: int) -> torch.Tensor:
        """A value in the current network, for chunk i: of the graph, or the result of an unattached op."""
        y: torch.Tensor = self._peek(value, i, self._new, {})
        return y

    def missing(self, op: Op, i: int) -> torch.Tensor | None:
        """The error of the other term of the residual sum that `op` goes into, in units of the op's own result: (Y1 - Y1') of He et al.,
        1707.06168, section 3.3. None where `op` is not the last layer before a sum, or where the other term has no error."""
        found = summand(op)
        if found is None:
            return None
        other, scale = found
        if other not in self._old or self._old[other] is self._new[other]:
            return None
        lost: torch.Tensor = self._old[other][i] - self._new[other][i]
        if lost.shape != (len(lost), *op.out.shape[1:]):
            return None
        return lost if scale is None else lost * to_torch(scale.astype(np.float32)).to(lost.dtype).reshape(-1, *[1] * (lost.dim() - 2))

    def other(self, op: Op) -> Value | None:
        """The other term of the sum that `op` goes into directly, where it is known in the current network."""
        found = summand(op)
        if found is None or found[1] is not None or found[0] not in self._new or found[0].shape != op.out.shape:
            return None
        return found[0]

    def same(self, value: Value) -> bool:
        """Whether the two runs still agree on a value that both have reached."""
        return self._old[value] is self._new[value]

    def counterpart(self, op: Op) -> Op:
        """The replacement of an op of the graph, or the op itself."""
        return self.put_in.get(op, op)

    def outputs_if(self, op: Op, y: torch.Tensor, i: int) -> list[torch.Tensor]:
        """The outputs of the original network, for chunk i, if `op`, the current one of the iteration, gave `y`."""
        env = {v: chunks for v, chunks in self._old.items() if v is not op.out}
        memo: dict[Value, Any] = {op.out: y}
        reads = {op.out: len(op.out.users)}
        for step in self.graph.ops:
            if any(v in memo for v in step.operands):
                memo[step.out] = self._evaluated(step, i, env, memo)
                reads[step.out] = len(step.out.users)
                for v in {v for v in step.operands if v in reads}:
                    reads[v] -= 1
                    if not reads[v] and v not in self.graph.outputs:
                        del memo[v]
        return [self._peek(v, i, env, memo) for v in self.graph.outputs]

    # -- evaluation ----------------------------------------------------------------------------

    def _step(self, op: Op) -> None:
        """Evaluate an op in both runs, chunk by chunk, and free values after their last reader."""
        new = self.counterpart(op)
        shared = new is op and not self.changes(op) and all(isinstance(v.op, Const) or self.same(v) for v in op.operands)
        free = []
        for v in op.operands:
            if not isinstance(v.op, Const):
                self._reads[v] -= 1
                if not self._reads[v]:
                    free.append(v)
        old_known = op.out in self._old
        if not old_known:
            self._old[op.out] = [None] * self.chunks
        self._new[op.out] = self._old[op.out] if shared else [None] * self.chunks
        for i in range(self.chunks):
            if not old_known:
                self._old[op.out][i] = self._run(op, self._old, i)
            if not shared:
                self._new[op.out][i] = self._run(new, self._new, i)
            for v in free:
                self._old[v][i] = self._new[v][i] = None
        for v in free:
            del self._old[v], self._new[v]
        if not self._reads.get(op.out):
            del self._old[op.out], self._new[op.out]

    def _run(self, op: Op, env: dict[Value, Chunks], i: int) -> torch.Tensor:
        return self._evaluated(op, i, env, {})

    def _peek(self, v: Value, i: int, env: dict[Value, Chunks], memo: dict[Value, Any]) -> Any:
        if v in env:
            return env[v][i]
        if v not in memo:
            op = v.op
            assert op is not None
            if isinstance(op, Const):
                return to_torch(op.array)
            memo[v] = self._evaluated(self.counterpart(op) if env is self._new else op, i, env, memo)
        return memo[v]

    def _evaluated(self, op: Op, i: int, env: dict[Value, Chunks], memo: dict[Value, Any]) -> torch.Tensor:
        arguments: list[Any] = []
        for f in op.operand_fields:
            v = getattr(op, f.name)
            arguments.append([self._peek(o, i, env, memo) for o in v] if f.kind == "list" else None if v is None else self._peek(v, i, env, memo))
        return run(op, arguments)[0]


def summand(op: Op) -> tuple[Value, np.ndarray | None] | None:
    """The other term of the sum that a layer's result goes into, directly or through one batch norm, and 1/k of that norm."""
    out, scale = op.out, None
    if (
        out.single_use
        and isinstance(norm := out.users[0] if out.users else None, BatchNorm)
        and isinstance(norm.gamma.op, Const)
        and isinstance(norm.var.op, Const)
    ):
        k = norm.gamma.op.array / np.sqrt(norm.var.op.array + norm.eps)
        out, scale = norm.out, np.divide(1, k, out=np.zeros_like(k), where=np.abs(k) > 1e-3 * np.abs(k).max())
    if not out.single_use or not out.users or not isinstance(add := out.users[0], Add):
        return None
    other = add.b if add.a is out else add.a
    return None if isinstance(other.op, Const) or other is out else (other, scale)


def residual_order(graph: Graph) -> list[Op]:
    """The ops in an order in which the other term of a sum precedes the last layer of a branch, where it does not need that layer."""
    done: dict[Op, None] = {}
    open_: set[Op] = set()

    def needs(op: Op) -> list[Op]:
        before = [v.op for v in op.operands if v.op is not None]
        if isinstance(op, Conv2d | Linear) and (found := summand(op)) is not None and (other := found[0].op) is not None:
            # the other branch may be waiting for this one: then keep the graph's order
            waiting = {other, other.x.op} if isinstance(other, BatchNorm) else {other}
            if open_.isdisjoint(o for o in waiting if o is not None):
                before.append(other)
        return before

    for root in graph.ops:
        stack: list[tuple[Op, bool]] = [(root, False)]
        while stack:
            op, ready = stack.pop()
            if op in done:
                continue
            if ready:
                done[op] = None
                open_.discard(op)
            elif op not in open_:
                open_.add(op)
                stack.append((op, True))
                stack.extend((o, False) for o in reversed(needs(op)) if o not in done and o not in open_)
    return list(done)


def inputs_in_chunks(graph: Graph, calibration: Sequence[Batch], images: int | None, chunk: int) -> Iterator[list[torch.Tensor]]:
    """The calibration batches as inputs of the graph, cut into chunks, up to a number of images."""
    left = images
    for batch in calibration:
        values = tensors(arguments(graph, batch))
        size = len(values[0])
        if not graph.batched:
            chunk = size
        elif len(graph.batched) < len(graph.inputs):
            raise TersorError("calibration needs every input of the graph to have the batch")
        for start in range(0, size, chunk):
            stop = min(start + chunk, size, start + (size if left is None else left))
            if stop > start:
                yield [v[start:stop] for v in values]
                left = None if left is None else left - (stop - start)
        if left == 0:
            # no batch is read in vain: one may be images that are still on disk
            return
