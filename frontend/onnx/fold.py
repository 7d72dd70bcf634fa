"""Constant folding at load time: nodes whose inputs are all known, computed by the evaluator of the onnx package."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, helper
from onnx.reference import ReferenceEvaluator

from ..errors import FormError

#: Operators that must not be computed: they draw random numbers, or they mark a weight as quantized.
KEPT = {
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
}
#: Most elements of a folded constant, which a small file could make huge.
LIMIT = 1 << 27


def may_fold(node: Any) -> bool:
    """Whether a node may be computed now, given that its inputs are known."""
    return not node.domain and node.op_type not in KEPT and not any(a.HasField("g") or a.graphs for a in node.attribute)


def constant_of(node: Any) -> np.ndarray:
    """The array of a `Constant` node."""
    attributes = attributes_of(node)
    if len(attributes) != 1 or "sparse_value" in attributes:
        raise FormError(f"it has {', '.join(attributes) or 'no attribute'}; valid: one value that is not sparse")
    ((key, value),) = attributes.items()
    kinds: dict[str, Any] = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}
    return np.asarray(value, kinds.get(key))


def fold(node: Any, arrays: Sequence[np.ndarray | None], opsets: Mapping[str, int]) -> list[np.ndarray] | None:
    """The results of a node; None where the evaluator cannot compute it."""
    _check_size(node, arrays)
    inputs = [f"i{k}" if a is not None else "" for k, a in enumerate(arrays)]
    outputs = [f"o{k}" if name else "" for k, name in enumerate(node.output)]
    copy = type(node)()
    copy.CopyFrom(node)
    del copy.input[:], copy.output[:]
    copy.input.extend(inputs)
    copy.output.extend(outputs)
    names = [o for o in outputs if o]
    domains = [helper.make_opsetid(d, v) for d, v in opsets.items()]
    function = helper.make_function("fold", "one", [i for i in inputs if i], names, [copy], domains)
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(function).run(names, {i: a for i, a in zip(inputs, arrays) if a is not None}, {})
    except Exception:  # whatever it raises, the converter may still know the operator
        return None
    found = dict(zip(names, results))
    if not all(isinstance(v, np.ndarray | np.generic) for v in found.values()):
        return None
    return [np.asarray(found[o]) if o else np.empty(0) for o in outputs]


def _check_size(node: Any, arrays: Sequence[np.ndarray | None]) -> None:
    """Refuse a result that would fill the memory, before it is computed."""
    known = [a for a in arrays if a is not None]
    count = _COUNTS.get(node.op_type)
    if count is None or len(known) < count[0] or any(a.dtype.kind not in "biuf" for a in known[1 : count[0]]):
        return
    try:
        size = float(count[1](*known))
    except (ValueError, OverflowError, ZeroDivisionError):  # not one number, or none: the evaluator refuses it
        return
    if size > LIMIT:
        raise FormError(f"a constant of {size:.3g} elements; at most {LIMIT} are computed when a model is loaded")


#: Operators whose results grow with the numbers in their inputs: the number of inputs that decide it, and the number of elements of the result.
_COUNTS: dict[str, tuple[int, Callable[..., Any]]] = {
    "ConstantOfShape": (1, lambda shape, *rest: math.prod(shape.reshape(-1).tolist())),
    "Expand": (2, lambda x, shape, *rest: x.size * math.prod(shape.reshape(-1).tolist())),
    "Tile": (2, lambda x, repeats, *rest: x.size * math.prod(repeats.reshape(-1).tolist())),
    "Range": (3, lambda start, limit, delta, *rest: (limit.item() - start.item()) / delta.item()),
    "OneHot": (2, lambda indices, depth, *rest: indices.size * float(depth.reshape(-1)[0])),
    "Pad": (2, lambda x, pads, *rest: math.prod(n + abs(lo) + abs(hi) for n, lo, hi in zip(x.shape, *np.split(pads.astype(float), 2)))),
    **dict.fromkeys(("BlackmanWindow", "HammingWindow", "HannWindow"), (1, lambda size, *rest: size.item())),
}


def attributes_of(node: Any) -> dict[str, Any]:
    """Attributes as Python values: strings decoded, lists as tuples, tensors as arrays."""
    from .prepare import array_of

    result: dict[str, Any] = {}
    for a in node.attribute:
        if a.type == AttributeProto.TENSOR:
            result[a.name] = array_of(a.t, node.op_type)
        elif a.type in (AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.FLOATS, AttributeProto.INTS):
            value = helper.get_attribute_value(a)
            result[a.name] = value if isinstance(value, int | float) else tuple(value)
        elif a.type == AttributeProto.STRING:
            result[a.name] = a.s.decode("utf-8", "replace")
        elif a.type == AttributeProto.STRINGS:
            result[a.name] = tuple(s.decode("utf-8", "replace") for s in a.strings)
        else:
            result[a.name] = helper.get_attribute_value(a)
    return result
