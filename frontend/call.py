"""`Call`: one operator call as its converter sees it, with helpers that many converters share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import torch

from ..ir.errors import TersorError, UnsupportedError
from ..ir.op import Const, Loc, Op, Value
from ..ir.ops import Cast, Equal, Expand, NotEqual, Reshape, Slice, Where, torch_dtype
from ..ir.types import NUMPY
from .errors import FormError, StaticBatchNeeded

TORCH: dict[str, torch.dtype] = {elem: torch_dtype(elem) for elem in NUMPY}
__all__ = ["TORCH", "Call", "FormError", "Number", "StaticBatchNeeded", "elem_of", "to_numpy"]

_ELEM = {dtype: elem for elem, dtype in TORCH.items()}

Number = bool | int | float


def elem_of(dtype: torch.dtype, what: str) -> str:
    """Element name of a torch dtype; `what` names the tensor in the error."""
    if dtype not in _ELEM:
        kind = "complex numbers are not supported" if dtype.is_complex else f"{dtype} is not supported"
        raise UnsupportedError(
            f"{what} is {dtype}: {kind}; valid: {', '.join(str(d).removeprefix('torch.') for d in _ELEM)} (others are out of scope)"
        )
    return _ELEM[dtype]


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A contiguous copy; bfloat16 through ml_dtypes."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.int16)
        array: np.ndarray = tensor.numpy().view(ml_dtypes.bfloat16)
        return array.copy()
    return np.array(tensor.numpy())


class Call:
    """One operator call in torch's graph.

    target: the operator's full name, such as `aten.add.Tensor`.
    elem, shape: element type and shape of the (first) result as torch computed them; a dimension that depends on the batch is -1 in `shape`.
    sizes: the same shape at the batch of the example.
    batch_axes: axes of the result whose size is the batch itself, not a multiple of it.
    plain(): whether every tensor that it reads covers, in torch, all of its storage in row-major order.
    """

    def __init__(
        self,
        target: str,
        loc: Loc,
        elem: str = "f32",
        shape: tuple[int, ...] = (),
        sizes: tuple[int, ...] = (),
        batch_axes: tuple[int, ...] = (),
        dims: Callable[[Value], tuple[int, ...]] = lambda x: x.shape,
        batch_input: Value | None = None,
        plain: Callable[[], bool] = lambda: True,
    ):
        self.target = target
        self.loc = loc
        self.elem = elem
        self.shape = shape
        self.sizes = sizes
        self.batch_axes = batch_axes
        self._dims = dims
        self._batch_input = batch_input
        self.plain = plain

    # -- questions -----------------------------------------------------------------------------

    def dims(self, x: Value) -> tuple[int, ...]:
        """Shape of an argument, -1 where it depends on the batch."""
        return self._dims(x)

    def axis(self, axis: int, rank: int) -> int:
        """A non-negative axis; 0 for a scalar."""
        return axis % rank if rank else 0

    def static(self, x: Value, axis: int) -> int:
        """Size of an axis that must not depend on the batch."""
        if self.dims(x)[axis] < 0:
            raise StaticBatchNeeded(f"{self.target} works along the batch [{self.loc}]")
        return x.shape[axis]

    def promote(self, *xs: Value | Number) -> str:
        """torch's common element type of tensors and Python numbers."""
        stand_ins: list[Any] = [x if not isinstance(x, Value) else torch.empty((1,) * min(x.type.rank, 1), dtype=TORCH[str(x.type.elem)]) for x in xs]
        if len(stand_ins) == 1:
            return self.promote(xs[0], xs[0])
        dtype = torch.result_type(*stand_ins[:2])
        for other in stand_ins[2:]:
            dtype = torch.promote_types(dtype, torch.result_type(other, other))
        return elem_of(dtype, f"the result of {self.target}")

    def constant(self, x: Value) -> np.ndarray | None:
        """The array of a constant argument, None for a computed one."""
        return x.op.array if isinstance(x.op, Const) else None

    def unsupported(self, message: str) -> TersorError:
        """The error to raise for a form of the operator that has no equivalent."""
        return FormError(message)

    # -- small steps ---------------------------------------------------------------------------

    def const(self, array: Any, elem: str) -> Value:
        """A constant of an element type, from a number or an array."""
        return Const(np.asarray(array).astype(NUMPY[elem])).out

    def cast(self, x: Value | Op | Number, elem: str) -> Value:
        """`x` with an element type; a Python number becomes a 0-d constant, a constant is converted at once."""
        if isinstance(x, Op):
            x = x.out
        if not isinstance(x, Value):
            return self.const(x, elem)
        if x.type.elem == elem:
            return x
        if isinstance(x.op, Const):
            value = self.const(x.op.array, elem)
            value.name = x.name
            return value
        return Cast(x, elem).out

    def truth(self, x: Value) -> Value:
        """`x` as bool: what is not zero is true."""
        return x if x.type.elem == "bool" else NotEqual(x, self.const(0, str(x.type.elem))).out

    def reshape(self, x: Value | Op, shape: Sequence[int]) -> Value:
        """Reshape, unless x has the shape already; one entry may be -1, the batch."""
        x = x.out if isinstance(x, Op) else x
        fresh = x.op is not None and x.op.graph is None and not isinstance(x.op, Const)
        fits = len(shape) == x.type.rank and all(a in (b, -1) for a, b in zip(shape, x.shape))
        # the batch axes of an argument are known; a new op is assumed to have them where the shape says
        if self.dims(x) == tuple(shape) or (fresh and fits):
            return x
        if sum(n < 0 for n in shape) > 1:
            raise StaticBatchNeeded(f"{self.target} makes a shape that holds the batch twice [{self.loc}]")
        return Reshape(x, tuple(shape)).out

    def expand(self, x: Value, dims: Sequence[int], shape: Sequence[int]) -> Value:
        """Broadcast `x`, whose dimensions are `dims` (-1 for the batch), to `shape` (-1 for the batch)."""
        dims = (1,) * (len(shape) - len(dims)) + tuple(dims)
        x = self.reshape(x, dims)
        batch = [i for i, (a, b) in enumerate(zip(dims, shape)) if a == 1 and b < 0]
        target = tuple(-1 if a == b or i in batch else b for i, (a, b) in enumerate(zip(dims, shape)))
        if any(a != -1 for a in target):
            x = Expand(x, target).out
        for axis in batch:
            x = self._expand_batch(x, axis)
        return x

    def _expand_batch(self, x: Value, axis: int) -> Value:
        """Repeat an axis of size 1 as often as the batch.

        `where(c, x, x)` is x for every c, and broadcasts it to c's shape, so that no attribute needs to hold the batch.
        """
        source = self._batch_input
        if source is None or axis not in self.batch_axes:
            raise StaticBatchNeeded(f"{self.target} expands to the batch [{self.loc}]")
        for i in range(1, source.type.rank):
            if source.shape[i] != 1:
                source = Slice(source, i, 0, 1).out
        rank = x.type.rank
        column = Reshape(source, (1,) * axis + (-1,) + (1,) * (rank - axis - 1)).out
        return Where(Equal(column, column), x, x).out
