"""The node tests that the onnx package generates: which are in scope, how one is run, and which are known to fail."""

from __future__ import annotations

import functools
import importlib
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case import node as generated
from onnx.backend.test.loader import load_model_tests

import tersor
from tersor.frontend.onnx import load_onnx
from tersor.ir.evaluate import evaluate, to_numpy
from tersor.ir.graph import Graph

#: The element types of our operators that these tests use; the others (f16, f64, u16, complex, strings, ...) are left out.
ELEMENTS = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.INT32,
    onnx.TensorProto.INT64,
    onnx.TensorProto.UINT8,
    onnx.TensorProto.INT8,
    onnx.TensorProto.BOOL,
}
#: Operators that a static network in inference does not need or cannot have.
OUT_OF_SCOPE: dict[str, Sequence[str]] = {
    "training": ("Adagrad", "Adam", "Momentum"),
    "loops, and networks with a state": ("Loop", "Scan", "LSTM", "GRU", "RNN", "CausalConvWithState", "LinearAttention", "TensorScatter"),
    "attention operators": ("Attention", "FlexAttention", "RotaryEmbedding"),
    "sequences and optional values": ("OptionalGetElement", "OptionalHasElement", "Optional", "SequenceMap"),
    "shapes that depend on data": ("NonMaxSuppression", "NonZero", "Unique"),
    "signals, images and text": ("DFT", "STFT", "MelWeightMatrix", "ImageDecoder", "TfIdfVectorizer"),
    "random numbers": ("Bernoulli",),
    "bits of floats": ("BitCast",),
}
#: They are run twice: with scales and zero points as inputs, and with all but the first input known when the model is loaded.
QUANTIZED = (
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
)
#: Operators that a convolutional network in inference consists of, 92 of them. Of the cases of one node each, 736 are theirs, 547 in `ELEMENTS`.
CORE = frozenset(
    re.findall(
        r"\w+",
        """
        Abs Add ArgMax ArgMin AveragePool BatchNormalization Cast CastLike Ceil Clip Concat Constant ConstantOfShape Conv ConvTranspose
        DepthToSpace Div Dropout Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool
        GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LRN
        LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Mean Min Mish Mod Mul Neg Not OneHot PRelu Pad Pow
        Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu
        Reshape Resize Round Selu Shape Sigmoid Slice Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Tile Transpose
        Unsqueeze Where
        """,
    )
)
#: Element types of theirs that our graphs hold in the next wider type, i16 beside them.
NARROW = {onnx.TensorProto.UINT16: np.int32, onnx.TensorProto.UINT4: np.uint8, onnx.TensorProto.INT4: np.int8, onnx.TensorProto.INT16: np.int16}
#: Operators whose float inputs are settings, not data: they become constants, as integer inputs do.
SETTINGS = {"Resize", "Range", "Dropout", "OneHot", "Upsample", "ConstantOfShape", "If", "BlackmanWindow", "HammingWindow", "HannWindow"}
KNOWN = Path(__file__).parent / "onnx_known_failures.txt"


def all_cases() -> list[Any]:
    """Every case in scope; generating them takes a quarter of a minute."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return list(_in_scope(load_model_tests(kind="node")))


def cases_of(*operators: str) -> list[Any]:
    """The cases of some operators only, which is fast."""
    for name in operators:
        module = name.replace("BatchN", "Batch_N").replace("InstanceN", "Instance_N").lower()
        importlib.import_module(f"onnx.backend.test.case.node.{module}")
    found = {c.name: c for c in _in_scope(generated._NodeTestCases)}
    return [c for c in found.values() if operator_of(c).lower() in {o.lower() for o in operators}]


def _in_scope(cases: Sequence[Any]) -> Iterator[Any]:
    out = {o for group in OUT_OF_SCOPE.values() for o in group}
    for case in cases:
        graph = case.model.graph
        values = [*graph.input, *graph.output]
        if len(graph.node) != 1 or graph.node[0].domain or graph.node[0].op_type in out:
            continue
        elements = ELEMENTS | NARROW.keys() if graph.node[0].op_type in QUANTIZED else ELEMENTS
        if all(v.type.HasField("tensor_type") and v.type.tensor_type.elem_type in elements for v in values):
            yield case


def is_core(case: Any) -> bool:
    """One of the 547: a core operator on `ELEMENTS`, and no expansion of it by the package."""
    return operator_of(case) in CORE and "_expanded" not in case.name


def operator_of(case: Any) -> str:
    operator: str = case.model.graph.node[0].op_type
    return operator


@functools.cache
def known_failures() -> dict[str, str]:
    """Reason by name."""
    lines = [line for line in KNOWN.read_text().splitlines() if line and not line.startswith("#")]
    return dict(re.split(r":\s+", line, maxsplit=1) for line in lines)


def run_case(case: Any, compiled: bool) -> None:
    """Load the case's model, run it and compare, by the interpreter and, if asked, compiled."""
    for inputs, outputs in case.data_sets:
        arrays = {proto.name: plain_array(a) for proto, a in zip(case.model.graph.input, inputs)}
        loads = [load_case(case, arrays)]
        if operator_of(case) in QUANTIZED and len(arrays) > 1:
            loads.append(_bound(case, arrays, list(arrays)[1:]))
        for graph, names in loads:
            given = [held(arrays[n]) for n in names]
            _compare(_interpreted(graph, given), outputs, case)
            if compiled:
                _compare(_leaves(tersor.compile(graph, threads=1)(*given)), outputs, case)


def plain_array(value: Any) -> np.ndarray:
    """The array of a test's input, which for 4-bit integers is a TensorProto."""
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def held(array: np.ndarray) -> np.ndarray:
    """The array in the type that our graphs hold it in."""
    wider = {str(onnx.helper.tensor_dtype_to_np_dtype(t)): dtype for t, dtype in NARROW.items()}
    return array.astype(wider.get(str(array.dtype), array.dtype))


def load_case(case: Any, arrays: dict[str, np.ndarray]) -> tuple[Graph, list[str]]:
    """The graph and the names of its inputs. Axes, sizes and pads are inputs in these tests: those that must be known become constants."""
    operator = operator_of(case)
    try:
        return _bound(case, arrays, [])
    except tersor.TersorError:
        every = operator in SETTINGS
        first = operator in SETTINGS - {"Resize", "Dropout", "OneHot", "Upsample"}
        settings = [n for i, (n, a) in enumerate(arrays.items()) if (i or first) and (a.dtype.kind in "iub" or every)]
        if not settings:
            raise
        return _bound(case, arrays, settings)


def _bound(case: Any, arrays: dict[str, np.ndarray], constants: list[str]) -> tuple[Graph, list[str]]:
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    model.graph.initializer.extend(numpy_helper.from_array(arrays[n], n) for n in constants)
    shapes = {n: a.shape for n, a in arrays.items() if n not in constants}
    names = [n for n in arrays if n not in constants]
    return load_onnx(model, {n: s for n, s in shapes.items() if s}, batch=False), names


def _interpreted(graph: Graph, given: list[np.ndarray]) -> list[np.ndarray]:
    if not given:
        return [to_numpy(y) for y in evaluate(graph, [])]
    return _leaves(graph(*given))


def _leaves(result: Any) -> list[np.ndarray]:
    values = list(result) if isinstance(result, tuple) else [result]
    return [v if isinstance(v, np.ndarray) else to_numpy(v) for v in values]


def _compare(got: Sequence[np.ndarray], wanted: Sequence[Any], case: Any) -> None:
    """As the onnx package compares: its own tolerances, types and shapes equal."""
    for a, b in zip(got, (held(plain_array(w)) for w in wanted), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=case.rtol, atol=case.atol)


def table(cases: Sequence[Any], failures: dict[str, str]) -> str:
    """Markdown: how many cases of each operator pass, and why others do not."""
    counts: dict[str, list[int]] = {}
    reasons: dict[str, dict[str, int]] = {}
    for case in cases:
        row = counts.setdefault(operator_of(case), [0, 0])
        row[1] += 1
        row[0] += case.name not in failures
        if case.name in failures:
            by = reasons.setdefault(operator_of(case), {})
            by[failures[case.name]] = by.get(failures[case.name], 0) + 1
    lines = ["| operator | cases right | the others |", "|---|---|---|"]
    for operator, (right, total) in sorted(counts.items()):
        lines.append(f"| {operator} | {right} of {total} | {'; '.join(f'{n}: {why}' for why, n in reasons.get(operator, {}).items())} |")
    return "\n".join(lines)


def judge(cases: Sequence[Any], compiled: bool) -> list[str]:
    """What contradicts the list of known failures: cases that fail and are not in it, cases that pass and are."""
    wrong = []
    for case in cases:
        try:
            run_case(case, compiled)
        except Exception as error:  # of any kind: the case does not pass
            if case.name not in known_failures():
                wrong.append(f"{case.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        else:
            if case.name in known_failures() and (compiled or not known_failures()[case.name].startswith("compiled")):
                wrong.append(f"{case.name} passes: take it off {KNOWN.name}")
    return wrong


def main() -> None:
    """Write the table of operators into its page."""
    page = Path(__file__).parents[2] / "docs/onnx-operators.md"
    text = page.read_text()
    head = text[: text.index("| operator |")]
    cases, failures = all_cases(), known_failures()
    right = sum(c.name not in failures for c in cases)
    head = re.sub(r"\d+ of \d+ cases", f"{right} of {len(cases)} cases", head)
    core = [c for c in cases if is_core(c)]
    head = re.sub(r"\d+ of \d+ of core", f"{sum(c.name not in failures for c in core)} of {len(core)} of core", head)
    page.write_text(f"{head}{table(cases, failures)}\n")


if __name__ == "__main__":
    main()
