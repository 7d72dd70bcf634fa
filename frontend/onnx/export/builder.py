"""Builder of an ONNX graph: nodes, constants and names that are unique."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from ....ir.errors import UnsupportedError
from ....ir.types import NUMPY, Elem, Tensor

DATA_TYPES: dict[str, int] = {
    "bool": TensorProto.BOOL,
    "i8": TensorProto.INT8,
    "i16": TensorProto.INT16,
    "i32": TensorProto.INT32,
    "i64": TensorProto.INT64,
    "u8": TensorProto.UINT8,
    "f16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
    "f32": TensorProto.FLOAT,
    "f64": TensorProto.DOUBLE,
}


class NotExported(UnsupportedError):
    """An op has no ONNX form; the writer goes on and reports all such ops at the end."""


def data_type(elem: Elem) -> int:
    """The number of an element type in ONNX."""
    if not isinstance(elem, str):
        raise NotExported(f"element type {Tensor((), elem)}; valid: {', '.join(DATA_TYPES)}")
    return DATA_TYPES[elem]


class Builder:
    """Nodes and constants written so far.

    stem: the prefix of the names of an op's nodes before the last one. loc: the module path of the op.
    """

    def __init__(self, reserved: Sequence[str]):
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.used = set(reserved)
        self.node_names: set[str] = set()
        self.stem = "value"
        self.loc = ""
        self.known: dict[tuple[Any, ...], str] = {}

    def unique(self, wanted: str) -> str:
        name, count = wanted or "value", 0
        while name in self.used:
            count += 1
            name = f"{wanted or 'value'}_{count}"
        self.used.add(name)
        return name

    def node(self, op_type: str, *inputs: str | None, output: str | None = None, skipped: int = 0, **attributes: Any) -> str:
        """Write a node; returns the name of its output, the first after `skipped` unread ones. A None input is left out."""
        name = output or self.unique(f"{self.stem}_{op_type.lower()}")
        given = [i or "" for i in inputs]
        while given and not given[-1]:
            given.pop()
        label = self.label(self.loc or name, name)
        outputs = [*(self.unique(f"{name}_unread") for _ in range(skipped)), name]
        self.nodes.append(helper.make_node(op_type, given, outputs, name=label, **{k: v for k, v in attributes.items() if v is not None}))
        return name

    def label(self, wanted: str, other: str) -> str:
        """A unique name for a node: its location, else the name of its output."""
        label, count = wanted if wanted not in self.node_names else other, 0
        while label in self.node_names:
            count += 1
            label = f"{other}_{count}"
        self.node_names.add(label)
        return label

    def rename(self, old: str, new: str) -> None:
        """Give the output of the last node another name."""
        if not self.nodes or self.nodes[-1].output[0] != old:
            self.node("Identity", old, output=new)
            return
        self.nodes[-1].output[0] = new
        if self.nodes[-1].name == old:
            self.nodes[-1].name = self.label(new, new)

    def const(self, array: Any, elem: str, name: str = "") -> str:
        """A constant of an element type; small equal ones without a name are shared."""
        values = np.asarray(array).astype(NUMPY[elem])
        key = (values.dtype.str, values.shape, values.tobytes()) if values.size <= 64 and not name else None
        if key is None or key not in self.known:
            made = name or self.unique(f"{self.stem}_const")
            self.initializers.append(_tensor(values, made))
            if key is None:
                return made
            self.known[key] = made
        return self.known[key]

    def ints(self, values: Sequence[int]) -> str:
        """A vector of i64: axes, sizes."""
        return self.const(list(values), "i64")

    def cast(self, x: str, elem: str) -> str:
        return self.node("Cast", x, to=data_type(elem))


def _tensor(values: np.ndarray, name: str) -> Any:
    if values.dtype == ml_dtypes.bfloat16:
        return helper.make_tensor(name, TensorProto.BFLOAT16, values.shape, values.tobytes(), raw=True)
    return numpy_helper.from_array(np.array(values, order="C"), name)
