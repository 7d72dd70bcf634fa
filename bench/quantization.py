"""What int8 costs two trained ImageNet networks: agreement with float32 on photographs that calibration has not seen, and SQNR of the logits.

    python -m tersor.bench.quantization [--networks lite0 mobilenetv2] [--settings NAME ...] [--calibration 64] [--images 200] [--out bench/results]

Integer graphs run in the interpreter, which is bit-exact. Photographs and weights come out of packages (`make demo`; bench/photo_crops.py
names the Debian packages); no photograph is used both to calibrate and to evaluate.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

import tersor

from .latency import RESULTS
from .others import mobilenetv2_trained
from .photo_crops import Crops, crops
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
}
CHUNK = 16


@dataclass(frozen=True)
class Row:
    """agreement: share of images whose top-1 is float32's. sqnr: dB over all logits of all images. seconds: of the transform."""

    network: str
    setting: str
    pipeline: str
    images: int
    agreement: float
    sqnr: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), help="names, or pipelines after `default`")
    parser.add_argument("--calibration", type=int, default=64)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    given = crops(12)
    rows = [row for name in args.networks for row in measured(name, args.settings, given, args.calibration, args.images)]
    write_results(args.out / "quantization.json", [asdict(r) for r in rows])
    (args.out / "quantization.md").write_text(markdown(rows))


def measured(name: str, settings: Sequence[str], given: Crops, calibration: int, images: int) -> list[Row]:
    """A row for each setting, printed as it comes."""
    build, statistics = NETWORKS[name]
    few, many = (normalized(spread(x, n), statistics) for x, n in ((given.calibration, calibration), (given.evaluation, images)))
    graph = tersor.transform(tersor.trace(build(), (torch.from_numpy(few[:1]),)), "default")
    expected = logits(graph, many)
    rows = []
    for setting in settings:
        pipeline = SETTINGS.get(setting, setting)
        start = time.perf_counter()
        small = tersor.transform(graph, pipeline, calibration=list(np.split(few, range(CHUNK, len(few), CHUNK))))
        seconds = time.perf_counter() - start
        got = logits(small, many)
        agreement = float((got.argmax(1) == expected.argmax(1)).mean())
        rows.append(Row(name, setting, pipeline, len(many), agreement, sqnr(expected, got), seconds))
        print(f"{name:12} {setting:24} agreement {agreement:6.1%}  SQNR {rows[-1].sqnr:5.2f} dB  {seconds:6.1f} s", flush=True)
    return rows


def spread(x: np.ndarray, count: int) -> np.ndarray:
    """`count` images evenly out of all."""
    chosen: np.ndarray = x[np.linspace(0, len(x) - 1, min(count, len(x))).astype(int)]
    return chosen


def normalized(x: np.ndarray, statistics: Statistics) -> np.ndarray:
    """Images of mean and standard deviation 0.5 as the network wants them."""
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in statistics)
    result: np.ndarray = ((x * 0.5 + 0.5 - mean) / std).astype(np.float32)
    return result


def logits(graph: tersor.Graph, x: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.concatenate([np.asarray(graph(x[i : i + CHUNK])) for i in range(0, len(x), CHUNK)])
    return result


def sqnr(expected: np.ndarray, got: np.ndarray) -> float:
    wide = expected.astype(np.float64)
    return 10 * math.log10(float(np.square(wide).sum() / np.square(got - wide).sum()))


def markdown(rows: Sequence[Row]) -> str:
    lines = ["| network | setting | agreement with float32 | SQNR of the logits | images |", "|---|---|--:|--:|--:|"]
    lines += [f"| {r.network} | {r.setting} | {r.agreement:.1%} | {r.sqnr:.2f} dB | {r.images} |" for r in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
