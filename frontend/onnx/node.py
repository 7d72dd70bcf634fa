"""`Node`: one ONNX node as its converter sees it, with helpers that many converters share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from ...ir.errors import TersorError
from ...ir.op import Const, Loc, Op, Value
from ...ir.ops import Cast, Equal, Expand, Reshape, Slice, Where
from ...ir.types import NUMPY, Elem, Tensor
from ..errors import FormError, StaticBatchNeeded
from .sizes import Dim, Size, same, same_shape


def reshaped_elem(type: Tensor, shape: tuple[int, ...]) -> Elem:
    """The element type of a constant in another shape; scales along axis 0 stay there."""
    elem = type.elem
    if not isinstance(elem, str) and elem.axis is not None and (elem.axis != 0 or shape[:1] != type.shape[:1]):
        raise FormError(f"a constant of {type} in the shape {list(shape)}; its scales lie along another axis")
    return elem


class Node:
    """One node of an ONNX graph.

    operator: `Conv`, or `com.microsoft.FusedConv` in another domain than ONNX's own. loc: its name in the model.
    outputs: names of its outputs, empty where one is not used. storages: element type of each input as the model declares it.
    rounding: the arithmetic of quantize operators.
    """

    def __init__(
        self,
        operator: str,
        loc: Loc,
        outputs: Sequence[str],
        dims: Callable[[Value], tuple[Dim, ...]],
        batch_input: Value | None,
        storages: Sequence[str] = (),
        rounding: Literal["f32", "onnx"] = "onnx",
    ):
        self.operator = operator
        self.loc = loc
        self.outputs = tuple(outputs)
        self.rounding: Literal["f32", "onnx"] = rounding
        self._storages = tuple(storages)
        self._dims = dims
        self._batch_input = batch_input

    # -- questions -----------------------------------------------------------------------------

    def dims(self, x: Value) -> tuple[Dim, ...]:
        """Shape of a value; a dimension that depends on the batch is a `Size`."""
        return self._dims(x)

    def storage(self, index: int) -> str:
        """Element type of an input as the model declares it; u16 and 4-bit integers are held in wider ones. Empty for one that is left out."""
        return self._storages[index] if index < len(self._storages) else ""

    def elem(self, data_type: int) -> str:
        """Element name of an ONNX data type."""
        from .inputs import elem_type

        return elem_type(data_type, "an attribute")

    def static(self, x: Value, axis: int) -> int:
        """Size of an axis that must not depend on the batch."""
        if isinstance(self.dims(x)[axis], Size):
            raise self.needs_static("works along the batch")
        return x.shape[axis]

    def axis(self, axis: int, rank: int) -> int:
        """A non-negative axis; 0 for a scalar."""
        if rank and not -rank <= axis < rank:
            raise self.unsupported(f"axis {axis} of a tensor of {rank} dimensions; valid: {-rank} to {rank - 1}")
        return axis % rank if rank else 0

    def axes(self, axes: Sequence[int] | None, rank: int) -> tuple[int, ...]:
        """Ascending non-negative axes; None means all."""
        return tuple(range(rank)) if axes is None else tuple(sorted({self.axis(a, rank) for a in axes}))

    def constant(self, x: Value | None) -> np.ndarray | None:
        """The array of a constant input, None when it is computed or left out."""
        return x.op.array if x is not None and isinstance(x.op, Const) else None

    def used(self, index: int) -> bool:
        """Whether the model names this output."""
        return index < len(self.outputs) and bool(self.outputs[index])

    def unsupported(self, message: str) -> TersorError:
        """The error to raise for a form of the operator that has no equivalent."""
        return FormError(message)

    def needs_static(self, what: str) -> StaticBatchNeeded:
        """The exception to raise where only a fixed batch can be converted."""
        return StaticBatchNeeded(f"{self.operator} [{self.loc}] {what}")

    # -- small steps ---------------------------------------------------------------------------

    def const(self, array: Any, elem: str) -> Value:
        """A constant of an element type, from a number or an array."""
        return Const(np.asarray(array).astype(NUMPY[elem])).out

    def like(self, x: Value, number: float) -> Value:
        """A 0-d constant of x's element type."""
        return self.const(number, str(x.type.elem))

    def cast(self, x: Value | Op, elem: str) -> Value:
        """`x` with an element type; a constant is converted at once."""
        x = x.out if isinstance(x, Op) else x
        if x.type.elem == elem:
            return x
        if isinstance(x.op, Const):
            with np.errstate(invalid="ignore", over="ignore"):
                return self.const(x.op.array, elem)
        return Cast(x, elem).out

    def reshape(self, x: Value | Op, shape: Sequence[Dim]) -> Value:
        """Reshape, unless x has the shape already; one entry may depend on the batch."""
        x = x.out if isinstance(x, Op) else x
        if same_shape(self.dims(x), shape):
            return x
        if isinstance(x.op, Const) and not any(isinstance(n, Size) for n in shape):
            return Const(x.op.array.reshape(tuple(shape)), reshaped_elem(x.type, tuple(shape))).out
        if sum(isinstance(n, Size) for n in shape) > 1:
            raise self.needs_static("makes a shape that holds the batch twice")
        return Reshape(x, tuple(-1 if isinstance(n, Size) else int(n) for n in shape)).out

    def expand(self, x: Value, shape: Sequence[Dim]) -> Value:
        """Broadcast `x` to `shape`."""
        dims = self.dims(x)
        dims = (1,) * (len(shape) - len(dims)) + dims
        x = self.reshape(x, dims)
        batch = [i for i, (a, b) in enumerate(zip(dims, shape)) if same(a, 1) and isinstance(b, Size)]
        target = tuple(-1 if same(a, b) or i in batch else b for i, (a, b) in enumerate(zip(dims, shape)))
        if any(a != -1 for a in target):
            x = Expand(x, target).out
        for axis in batch:
            x = self._expand_batch(x, axis, shape[axis])
        return x

    def _expand_batch(self, x: Value, axis: int, size: Size) -> Value:
        """Repeat an axis of size 1 as often as the batch: `where(c, x, x)` is x for every c, and broadcasts it to c's shape."""
        source = self._batch_input
        if source is None or not size.is_batch:
            raise self.needs_static(f"expands to {size}")
        for i in range(1, source.type.rank):
            if source.shape[i] != 1:
                source = Slice(source, i, 0, 1).out
        column = Reshape(source, (1,) * axis + (-1,) + (1,) * (x.type.rank - axis - 1)).out
        return Where(Equal(column, column), x, x).out

    def broadcast(self, *values: Value) -> tuple[Dim, ...]:
        """The dimensions that operands broadcast to."""
        shapes = [self.dims(v) for v in values]
        rank = max(map(len, shapes))
        columns = zip(*((1,) * (rank - len(s)) + s for s in shapes))
        return tuple(next((n for n in column if not same(n, 1)), 1) for column in columns)
