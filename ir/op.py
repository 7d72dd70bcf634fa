"""Values and operations. One class defines an operation: operands, attributes, type inference, semantics and cost."""

from __future__ import annotations

import inspect
import types
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .errors import TersorError, VerifyError
from .types import Layout, Tensor, elem_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from .graph import Graph
    from .ties import Kept, Tie

OPS: dict[str, type[Op]] = {}


@dataclass(frozen=True, slots=True)
class Loc:
    """Where an op comes from: module path in the user's model and the innermost source line outside torch."""

    path: str = ""
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        source = f"{self.file}:{self.line}" if self.file else ""
        return " at ".join(part for part in (self.path, source) if part) or "unknown location"


class Value:
    """The result of an op, or an input of a graph (`op is None`)."""

    __slots__ = ("name", "op", "type", "uses")

    def __init__(self, type: Tensor, op: Op | None = None, name: str = ""):
        self.type = type
        self.op = op
        self.name = name
        #: ops attached to a graph that read this value, with the number of operands that do; a graph's outputs count as `None`.
        self.uses: dict[Op | None, int] = {}

    @property
    def single_use(self) -> bool:
        """Read exactly once (a graph output is a read)."""
        return len(self.uses) == 1 and next(iter(self.uses.values())) == 1

    @property
    def users(self) -> list[Op]:
        return [op for op in self.uses if op is not None]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape

    def __repr__(self) -> str:
        return f"Value(%{self.name or '?'}: {self.type})"


@dataclass(frozen=True, slots=True)
class Field:
    """One annotated field of an op class."""

    name: str
    kind: str  # "value" | "optional" | "list" | "attr"
    annotation: Any
    required: bool
    default: Any = None


def _kind(annotation: Any) -> str:
    if annotation is Value:
        return "value"
    origin = typing.get_origin(annotation)
    if origin is list and typing.get_args(annotation) == (Value,):
        return "list"
    if origin in (types.UnionType, typing.Union) and Value in typing.get_args(annotation):
        return "optional"
    return "attr"


class Op:
    """Base of every operation.

    `class Relu(Op, name="nn.relu")` registers the class. Fields annotated `Value`, `Value | None` or `list[Value]` are operands;
    all others are attributes with plain Python values (int, float, bool, str, tuples of them, element types, Graph for a region).
    The result type is inferred at construction; an op belongs to no graph until it is inserted, and only then counts as a use.
    """

    name: ClassVar[str] = ""
    # Traits: facts about an operator, stated on its class, so that no stage keeps a list of classes.
    #: Computes each channel (axis 1) of the result from the same channel of `x`, in the same way for every channel.
    channelwise: ClassVar[bool] = False
    #: Slides a window over a feature map (N, C, H, W).
    windowed: ClassVar[bool] = False
    #: Its result is a feature map that kernels store blocked by channels.
    feature_map: ClassVar[bool] = False
    #: Works on rows whose channels are the last axis, as matrix products do.
    row_wise: ClassVar[bool] = False
    #: Moves or repeats elements and computes none.
    moves: ClassVar[bool] = False
    #: Every element of the result is one element of an operand, moved, repeated or chosen: it takes any per-tensor quantized type as it is.
    selects: ClassVar[bool] = False
    #: A positive scale per channel of `x` passes to the result (`f(s x) = s f(x)`, a clip's bounds scaled too).
    passes_scale: ClassVar[bool] = False
    #: Scales or shifts one operand by the other, as a folded batch norm or a layer scale does.
    affine: ClassVar[bool] = False
    #: Sums products of `x` and weights: convolutions and matrix products.
    contraction: ClassVar[bool] = False
    #: Its results are written in no order or more than once, so kernels fuse no elementwise operators that follow it.
    alone: ClassVar[bool] = False
    #: Sums stored integers into i32. What follows rounds them, so its epilogue may change the element type.
    accumulates: ClassVar[bool] = False
    #: Multiplies operands of few bits, which are stored as bits.
    few_bits: ClassVar[bool] = False

    fields: ClassVar[tuple[Field, ...]] = ()
    operand_fields: ClassVar[tuple[Field, ...]] = ()
    attr_fields: ClassVar[tuple[Field, ...]] = ()
    #: operand fields that training may change where they are constants: weights, biases, slopes
    learned: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, name: str = "", **kwargs: Any):
        super().__init_subclass__(**kwargs)
        fields: list[Field] = []
        for base in reversed(cls.__mro__[: cls.__mro__.index(Op)]):
            for key, hint in inspect.get_annotations(base, locals={"Value": Value}, eval_str=True).items():
                origin: Any = typing.get_origin(hint)
                if origin is ClassVar:
                    continue
                fields = [f for f in fields if f.name != key]
                fields.append(Field(key, _kind(hint), hint, not hasattr(cls, key), getattr(cls, key, None)))
        cls.fields = tuple(fields)
        cls.operand_fields = tuple(f for f in fields if f.kind != "attr")
        cls.attr_fields = tuple(f for f in fields if f.kind == "attr")
        setattr(cls, "__match_args__", tuple(f.name for f in fields))  # noqa: B010 - dataclass_transform would type it as fixed
        if name:
            if name in OPS and OPS[name].__qualname__ != cls.__qualname__:
                raise TersorError(f"op {name!r} is already registered by {OPS[name].__module__}.{OPS[name].__qualname__}")
            cls.name = name
            OPS[name] = cls

    def __init__(self, *args: Any, loc: Loc | None = None, **kwargs: Any):
        names = [f.name for f in self.fields]
        if len(args) > len(names):
            raise TypeError(f"{type(self).__name__} takes at most {len(names)} arguments ({', '.join(names)}), got {len(args)}")
        given = dict(zip(names, args))
        for key, value in kwargs.items():
            if key not in names or key in given:
                raise TypeError(
                    f"{type(self).__name__} got {'a second value for' if key in given else 'an unknown field'} {key!r}; fields: {', '.join(names)}"
                )
            given[key] = value
        for f in self.fields:
            if f.name in given:
                value = given[f.name]
                if f.kind != "attr" and isinstance(value, Op):
                    value = value.out
                elif isinstance(value, list):
                    value = [v.out if isinstance(v, Op) else v for v in value] if f.kind == "list" else tuple(value)
                setattr(self, f.name, value)
            elif f.required:
                raise TypeError(f"{type(self).__name__} is missing {f.name!r}; fields: {', '.join(names)}")
            else:
                setattr(self, f.name, [] if f.kind == "list" else f.default)
        self.graph: Graph | None = None
        self.loc = loc or Loc()
        self.outs: list[Value] = [Value(t, self) for t in self.infer_all()]

    # -- what a subclass defines ---------------------------------------------------------------

    def infer(self) -> Tensor:
        """Type of the result from operand types and attributes; raises `VerifyError` (via `self.fail`) when they do not fit."""
        raise NotImplementedError(f"{type(self).__name__}.infer")

    def evaluate(self, *xs: Any) -> torch.Tensor:
        """Semantics in torch. One argument per operand field: a tensor, None for a missing optional, a list for `list[Value]`."""
        raise NotImplementedError(f"{type(self).__name__}.evaluate")

    def evaluate_training(self, *xs: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Semantics in training: the result, and what was measured for the running statistics it reads, by operand field. By default `evaluate`."""
        return self.evaluate(*xs), {}

    def macs(self) -> int:
        """Multiply-accumulates; 0 for ops that do not sum products."""
        return 0

    def addresses(self) -> Iterable[tuple[Value, int]]:
        """(operand, size) for each operand that holds indices into another one: valid indices are 0 to size - 1."""
        return ()

    def ties(self) -> Iterable[Tie]:
        """Which positions of operands and result are removed together; an axis that no tie names is a barrier, by default every axis."""
        return ()

    def narrowed(self, kept: Kept, operands: dict[str, Any]) -> Op:
        """This op after pruning: `operands` are the narrowed operands by field name, `kept(value, axis)` masks the positions of old values that stay.

        Ops whose attributes count positions override it. It must handle every removal that `ties` allows.
        """
        return self.rebuilt(**operands)

    # -- what all share ------------------------------------------------------------------------

    def infer_all(self) -> list[Tensor]:
        return [self.infer()]

    @property
    def out(self) -> Value:
        """The one result."""
        return self.outs[0]

    @property
    def operands(self) -> list[Value]:
        """Values read, in field order, missing optionals left out."""
        result: list[Value] = []
        for f in self.operand_fields:
            v = getattr(self, f.name)
            if f.kind == "list":
                result.extend(v)
            elif v is not None:
                result.append(v)
        return result

    @property
    def attrs(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in self.attr_fields}

    def replace_operand(self, old: Value, new: Value) -> None:
        """Read `new` wherever this op reads `old`; keeps the use counts."""
        count = 0
        for f in self.operand_fields:
            v = getattr(self, f.name)
            if f.kind == "list":
                count += sum(o is old for o in v)
                setattr(self, f.name, [new if o is old else o for o in v])
            elif v is old:
                count += 1
                setattr(self, f.name, new)
        if count and self.graph is not None:
            drop_use(old, self, count)
            add_use(new, self, count)

    def rebuilt(self, *, loc: Loc | None = None, **changes: Any) -> Op:
        """A new, unattached op of this class with some fields changed; its type is inferred anew."""
        fields = {f.name: getattr(self, f.name) for f in self.fields} | changes
        return type(self)(**fields, loc=loc or self.loc)

    def fail(self, message: str) -> VerifyError:
        """The error to raise when operands or attributes do not fit."""
        return VerifyError(f"{self.name}: {message} [{self.loc}]" if self.__dict__.get("loc") else f"{self.name}: {message}")

    def __repr__(self) -> str:
        from .text import format_op

        return format_op(self)


def add_use(value: Value, op: Op | None, count: int = 1) -> None:
    value.uses[op] = value.uses.get(op, 0) + count


def drop_use(value: Value, op: Op | None, count: int = 1) -> None:
    left = value.uses.get(op, 0) - count
    if left > 0:
        value.uses[op] = left
    else:
        value.uses.pop(op, None)


class Const(Op, name="nn.constant"):
    """A read-only array.

    `elem` overrides the element type of the array's dtype (a quantized type over int8); `layout` says which logical tensor a packed array holds.
    """

    array: np.ndarray
    elem: Any = None
    layout: Layout | None = None

    def infer(self) -> Tensor:
        array = np.asarray(self.array)
        if array.flags.writeable:
            array = array.view()
            array.flags.writeable = False
        self.array = array
        return Tensor(tuple(array.shape), self.elem if self.elem is not None else elem_of(array.dtype), self.layout)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        from .evaluate import to_torch

        return to_torch(self.array)


def having(trait: str) -> tuple[type[Op], ...]:
    """The registered operator classes with a trait, such as `contraction`."""
    return tuple(dict.fromkeys(cls for cls in OPS.values() if getattr(cls, trait)))
