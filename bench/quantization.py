"""int8 of two trained ImageNet networks: agreement with float32 on photographs that calibration has not seen, and SQNR of the logits.

    python -m tersor.bench.quantization [--networks lite0 mobilenetv2] [--settings NAME ...] [--seeds 0 1 2] [--calibration 64] [--images 200]

Beside it onnxruntime's static int8 of the same images (`onnxruntime_int8.py`; its u8 times s8 is exact on processors with VNNI alone) and
nncf's, run by openvino (`nncf_int8.py`), where they are installed. A seed draws the crops. Our networks run compiled, which is bit-exact.
Photographs and weights come out of packages (`make demo`; bench/photo_crops.py names the Debian packages); no photograph is used both to
calibrate and to evaluate.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tersor

from . import nncf_int8, onnxruntime_int8
from .fashion import DataMissing
from .latency import RESULTS
from .others import mobilenetv2_trained
from .photo_crops import WALLPAPERS, Crops, crops
from .photos import efficientnet_lite0
from .results_file import write_results

HALF, IMAGENET = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
Statistics = tuple[tuple[float, ...], tuple[float, ...]]
NETWORKS: dict[str, tuple[Callable[[], torch.nn.Module], Statistics]] = {
    "lite0": (efficientnet_lite0, HALF),
    "mobilenetv2": (mobilenetv2_trained, IMAGENET),
}
#: Pipelines after `default`.
SETTINGS = {
    "minmax": "quantize{range=minmax},to-integer",
    "percentile 99.99": "quantize{range=percentile},to-integer",
    "mse": "quantize{range=mse},to-integer",
    "mse, correct-bias": "quantize,correct-bias,to-integer",
    "int8": "equalize,quantize,correct-bias,to-integer,canonicalize",
    "mse, adaround": "quantize,adaround,to-integer",
    "mse, weights=pairs": "quantize{weights=pairs},to-integer",
    "mse, weights=s7": "quantize{weights=s7},to-integer",
    "mse, fixed": "quantize,to-integer{rounding=fixed}",
    "tensor": "quantize{granularity=tensor},correct-bias,to-integer,canonicalize",
    "tensor, equalize": "equalize{by=weights},quantize{granularity=tensor},correct-bias,to-integer,canonicalize",
}
#: Other tools, by setting: the function that quantizes a graph with calibration batches, and its option.
TOOLS = {name: (onnxruntime_int8.quantized, option) for name, option in onnxruntime_int8.METHODS.items()}
TOOLS |= {name: (nncf_int8.quantized, option) for name, option in nncf_int8.METHODS.items()}
#: Images of a calibration batch, and of an evaluated one.
CHUNK, BATCH = 16, 8


@dataclass(frozen=True)
class Row:
    """agreement: share of images whose top-1 is float32's. sqnr: dB over all logits of all images. seconds: of quantizing.

    pipeline: of ours; for other tools how they choose ranges.
    """

    network: str
    seed: int
    setting: str
    pipeline: str
    images: int
    agreement: float
    sqnr: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--settings", nargs="+", default=[*SETTINGS, *TOOLS], help="names, or pipelines after `default`")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--photographs", type=Path, default=WALLPAPERS, help="folder of .jpg and .png files, at least 20 with those of scikit-learn")
    parser.add_argument("--calibration", type=int, default=64)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    try:
        for seed in args.seeds:
            given = crops(12, seed, args.photographs)
            for name in args.networks:
                rows += measured(name, seed, args.settings, given, args.calibration, args.images)
                write_results(args.out / "quantization.json", [asdict(r) for r in rows])
                (args.out / "quantization.md").write_text(markdown(rows))
    except DataMissing as missing:
        raise SystemExit(str(missing)) from None


def measured(name: str, seed: int, settings: Sequence[str], given: Crops, calibration: int, images: int) -> list[Row]:
    """A row for each setting, printed as it comes."""
    build, statistics = NETWORKS[name]
    few, many = (normalized(spread(x, n), statistics) for x, n in ((given.calibration, calibration), (given.evaluation, images)))
    graph = tersor.transform(tersor.trace(build(), (torch.from_numpy(few[:1]),)), "default")
    expected = logits(graph, many)
    batches = list(np.split(few, range(CHUNK, len(few), CHUNK)))
    rows = []
    for setting in settings:
        start = time.perf_counter()
        if setting in TOOLS:
            quantized, pipeline = TOOLS[setting]
            try:
                run = quantized(graph, batches, pipeline)
            except ImportError as missing:
                print(f"{setting}: {missing}", flush=True)
                continue
            seconds = time.perf_counter() - start
        else:
            pipeline = SETTINGS.get(setting, setting)
            small = tersor.transform(graph, pipeline, calibration=batches)
            seconds = time.perf_counter() - start
            run = tersor.compile(small, batch=[BATCH], require="int8")
        got = logits(run, many)
        agreement = float((got.argmax(1) == expected.argmax(1)).mean())
        rows.append(Row(name, seed, setting, pipeline, len(many), agreement, sqnr(expected, got), seconds))
        print(f"{name:12} {seed} {setting:24} agreement {agreement:6.1%}  SQNR {rows[-1].sqnr:5.2f} dB  {seconds:6.1f} s", flush=True)
    return rows


def spread(x: np.ndarray, count: int) -> np.ndarray:
    """`count` images evenly out of all, in whole batches."""
    chosen: np.ndarray = x[np.linspace(0, len(x) - 1, min(count, len(x)) // BATCH * BATCH).astype(int)]
    return chosen


def normalized(x: np.ndarray, statistics: Statistics) -> np.ndarray:
    """Images of mean and standard deviation 0.5 as the network wants them."""
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in statistics)
    result: np.ndarray = ((x * 0.5 + 0.5 - mean) / std).astype(np.float32)
    return result


def logits(graph: Callable[..., Any], x: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.concatenate([np.asarray(graph(x[i : i + BATCH])) for i in range(0, len(x), BATCH)])
    return result


def sqnr(expected: np.ndarray, got: np.ndarray) -> float:
    wide = expected.astype(np.float64)
    return 10 * math.log10(float(np.square(wide).sum() / np.square(got - wide).sum()))


def markdown(rows: Sequence[Row]) -> str:
    """Means over the seeds, and the lowest."""
    lines = [
        "| network | setting | agreement with float32 | lowest | SQNR of the logits | lowest | images | seeds |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, setting in dict.fromkeys((r.network, r.setting) for r in rows):
        here = [r for r in rows if (r.network, r.setting) == (name, setting)]
        agreement, ratio = [r.agreement for r in here], [r.sqnr for r in here]
        lines.append(
            f"| {name} | {setting} | {np.mean(agreement):.1%} | {min(agreement):.1%} | {np.mean(ratio):.2f} dB | {min(ratio):.2f} dB "
            f"| {here[0].images} | {len(here)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
