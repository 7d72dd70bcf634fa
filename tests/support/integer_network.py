"""Run a whole integer network by the loops of `integer_oracle`, from the graph's structure and types: no operator's own code runs."""

from __future__ import annotations

from typing import Any

import integer_oracle as oracle
import numpy as np

RESCALE = {"f32": oracle.rescale_f32, "fixed": oracle.rescale_fixed}


def run(graph: Any, *inputs: np.ndarray) -> list[np.ndarray]:
    """Outputs of the graph at its own batch."""
    known: dict[Any, np.ndarray] = dict(zip(graph.inputs, inputs))
    for op in graph.ops:
        known[op.outs[0]] = step(op, known)
        assert known[op.outs[0]].shape == op.outs[0].shape, op
    return [known[v] for v in graph.outputs]


def step(op: Any, known: dict[Any, np.ndarray]) -> np.ndarray:
    """The result of one operator: int64 for stored integers."""
    kind = op.name
    if kind == "nn.constant":
        return np.asarray(op.array) if op.array.dtype.kind == "f" else np.asarray(op.array, np.int64)
    x = known[op.operands[0]]
    if kind == "quant.quantize":
        return oracle.quantize(x, op.to.scales[0], op.to.zero_points[0], *op.to.range)
    if kind == "quant.dequantize":
        return centered(op.x, x).astype(np.float32) * scales(op.x).astype(np.float32)
    if kind == "quant.requantize":
        return rescale(op, centered(op.x, x), scales(op.x) / op.to.scales[0])
    if kind == "quant.conv2d":
        return oracle.conv(x, zero(op.x), known[op.w], bias(op, known), op.stride, op.padding, op.dilation, op.groups)
    if kind == "quant.conv_transpose2d":
        given = (op.stride, op.padding, op.output_padding, op.dilation, op.groups)
        return oracle.conv_transpose(x, zero(op.x), known[op.w], bias(op, known), *given)
    if kind == "quant.linear":
        return oracle.linear(x, zero(op.x), known[op.w], bias(op, known))
    if kind == "quant.add":
        a, b = np.broadcast_arrays(*(centered(v, known[v]) for v in (op.a, op.b)))
        m_a, m_b = (np.broadcast_to(scales(v) / op.to.scales[0], a.shape) for v in (op.a, op.b))
        return add(op, a, b, m_a, m_b)
    if kind == "quant.mul":
        product = centered(op.a, known[op.a]) * centered(op.b, known[op.b])
        return RESCALE[op.rounding](product, float(scales(op.a) * scales(op.b) / op.to.scales[0]), *bounds(op))
    if kind == "quant.lookup":
        first = -(1 << 7) if op.x.type.elem.storage == "i8" else 0
        return known[op.table][x - first]
    if kind == "quant.sum":
        return centered(op.x, x).sum(op.axes, keepdims=op.keepdim)
    if kind == "quant.sum_pool2d":
        return oracle.sum_pool(x, zero(op.x), op.kernel, op.stride, padding(op, x))
    if kind == "quant.softmax":
        result = oracle.softmax_onnx(np.moveaxis(x, op.axis, -1), float(scales(op.x)), (op.to.scales[0], op.to.zero_points[0]))
        return np.moveaxis(np.clip(result, *op.clamp), -1, op.axis)
    if kind == "quant.avg_pool2d":
        given, to = (float(scales(op.x)), zero(op.x)), (op.to.scales[0], op.to.zero_points[0])
        return np.clip(oracle.avg_pool_onnx(x, given, op.kernel, op.stride, padding(op, x), op.divisor, to), *op.clamp)
    return moved(op, kind, x, known)


def moved(op: Any, kind: str, x: np.ndarray, known: dict[Any, np.ndarray]) -> np.ndarray:
    """Operators that move or compare stored integers."""
    if kind == "nn.reshape":
        return x.reshape(op.shape)
    if kind == "nn.concat":
        return np.concatenate([known[v] for v in op.xs], op.axis)
    if kind == "nn.max_pool2d":
        (top, bottom, left, right), (kh, kw), (sh, sw) = padding(op, x), op.kernel, op.stride
        wide = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=-(2**40))
        oh, ow = (wide.shape[2] - kh) // sh + 1, (wide.shape[3] - kw) // sw + 1
        assert tuple(op.dilation) == (1, 1)
        taps = [wide[:, :, p : p + (oh - 1) * sh + 1 : sh, q : q + (ow - 1) * sw + 1 : sw] for p in range(kh) for q in range(kw)]
        return np.maximum.reduce(taps)
    if kind == "nn.channel_shuffle":
        n, c, *rest = x.shape
        return x.reshape(n, op.groups, c // op.groups, *rest).swapaxes(1, 2).reshape(x.shape)
    if kind == "nn.slice":
        return x[(slice(None),) * op.axis + (slice(op.start, op.stop, op.step),)]
    if kind == "nn.upsample":
        rows, columns = (np.arange(n) * size // n for n, size in zip(op.size, x.shape[2:]))
        return x[:, :, rows][:, :, :, columns]
    raise NotImplementedError(kind)


def padding(op: Any, x: np.ndarray) -> tuple[int, int, int, int]:
    """top, bottom, left, right of a pooling; with `ceil_mode` to where the last window ends that begins within the map or its first border."""
    top, bottom, left, right = op.padding
    if not op.ceil_mode:
        return top, bottom, left, right
    ends = []
    for size, k, s, first, last in zip(x.shape[2:], op.kernel, op.stride, (top, left), (bottom, right)):
        count = -(-(size + first + last - k) // s) + 1
        count -= (count - 1) * s >= size + first
        ends.append(max(last, (count - 1) * s + k - first - size))
    return top, ends[0], left, ends[1]


def zero(v: Any) -> int:
    return int(v.type.elem.zero_points[0])


def centered(v: Any, x: np.ndarray) -> np.ndarray:
    return x - zero(v)


def scales(v: Any) -> np.ndarray:
    """Scales that broadcast against the tensor."""
    elem = v.type.elem
    values = np.array(elem.scales, np.float64)
    return values.reshape(()) if elem.axis is None else values.reshape([-1 if i == elem.axis else 1 for i in range(len(v.shape))])


def bias(op: Any, known: dict[Any, np.ndarray]) -> np.ndarray:
    return np.zeros(op.outs[0].shape[-1 if op.name == "quant.linear" else 1], np.int64) if op.b is None else known[op.b]


def bounds(op: Any) -> tuple[int, int, int]:
    low, high = op.to.range
    return int(op.to.zero_points[0]), low if op.low is None else op.low, high if op.high is None else op.high


def rescale(op: Any, acc: np.ndarray, multipliers: np.ndarray) -> np.ndarray:
    """The accumulators rounded; by integers alone, multiplier by multiplier."""
    if op.rounding == "f32":
        return oracle.rescale_f32(acc, multipliers, *bounds(op))
    wide, result = np.broadcast_to(multipliers, acc.shape), np.zeros(acc.shape, np.int64)
    for m in np.unique(multipliers):
        result[wide == m] = oracle.rescale_fixed(acc[wide == m], float(m), *bounds(op))
    return result


def add(op: Any, a: np.ndarray, b: np.ndarray, m_a: np.ndarray, m_b: np.ndarray) -> np.ndarray:
    if op.rounding == "f32":
        return oracle.add_f32(a, b, m_a, m_b, *bounds(op))
    result = np.zeros(a.shape, np.int64)
    for x, y in {(float(x), float(y)) for x, y in zip(m_a.ravel(), m_b.ravel())}:
        here = (m_a == x) & (m_b == y)
        result[here] = oracle.add_fixed(a[here], b[here], x, y, *bounds(op))
    return result
