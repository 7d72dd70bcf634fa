"""The fastest int8 model that each tool gives at equal accuracy: two trained ImageNet networks, Tersor beside onnxruntime, openvino (nncf), LiteRT.

    python -m tersor.bench.int8_best [--networks lite0 mobilenetv2] [--macs 0.9 0.8] [--seed 0] [--rounds 5] [--out bench/results]

Accuracy is the agreement of the top-1 with float32 on crops of photographs that calibration has not seen (quantization.py). The level is the
highest agreement of another tool; a model counts if it is at most one point below. The fastest that count are compared. Ours are the preset
`int8`, and channels pruned to a share of the multiply-accumulates before it. One thread, batch 1, interleaved.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

import tersor

from . import litert_int8
from .engines import Ratio, machine
from .fashion import DataMissing
from .int8_peers import ROUND_MS, Run, milliseconds
from .latency import RESULTS
from .peers import Unavailable
from .photo_crops import WALLPAPERS, Crops, crops
from .quantization import BATCH, CHUNK, NETWORKS, SETTINGS, TOOLS, logits, normalized, spread, sqnr
from .results_file import write_results

#: What counts as equal: percentage points of agreement.
POINTS = 1.0
#: Settings of the other tools that are tried; quantization.py compares more.
OTHERS = ("onnxruntime minmax", "onnxruntime percentile", "nncf mixed", "LiteRT")


@dataclass(frozen=True)
class Row:
    """agreement: with float32, in per cent. sqnr: of the logits, in dB. ms: median of the rounds. ratio: to our plain int8, of each round."""

    network: str
    tool: str
    setting: str
    agreement: float
    sqnr: float
    ms: float
    ratio: Ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--macs", nargs="*", type=float, default=[0.9, 0.8])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--photographs", type=Path, default=WALLPAPERS)
    parser.add_argument("--calibration", type=int, default=64)
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    try:
        given = crops(12, args.seed, args.photographs)
    except DataMissing as missing:
        raise SystemExit(str(missing)) from None
    for name in args.networks:
        rows += measured(name, args.macs, given, args.calibration, args.images, args.rounds)
        found = {"machine": machine(), "rounds": args.rounds, "seed": args.seed, "images": args.images, "rows": [asdict(r) for r in rows]}
        write_results(args.out / "int8_best.json", found)
        (args.out / "int8_best.md").write_text(f"{machine()['processor']}, one thread, batch 1, {args.rounds} rounds.\n\n{markdown(rows)}")


def measured(name: str, macs: Sequence[float], given: Crops, calibration: int, images: int, rounds: int) -> list[Row]:
    """A row for each model of one network, the times interleaved."""
    build, mean_and_std = NETWORKS[name]
    few, many = (normalized(spread(x, n), mean_and_std) for x, n in ((given.calibration, calibration), (given.evaluation, images)))
    batches = list(np.split(few, range(CHUNK, len(few), CHUNK)))
    module = build()
    graph = tersor.transform(tersor.trace(module, (torch.from_numpy(few[:1]),)), "default")
    expected = logits(graph, many)
    runs: dict[tuple[str, str], Run] = {}
    for pipeline in ("int8", *(f"prune-channels{{macs={share:g}}},int8" for share in macs)):
        runs["tersor", pipeline] = ours(graph, pipeline, batches)
    for setting in OTHERS:
        try:
            runs[setting.split()[0], setting] = other(setting, module, graph, batches)
        except (ImportError, Unavailable) as missing:
            print(f"{setting}: {missing}", flush=True)
    image = many[:1]
    counts = {key: max(3, round(ROUND_MS / min(milliseconds(run, image, 3)))) for key, run in runs.items()}
    times: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for i in range(rounds):
        for key in list(runs)[:: 1 if i % 2 == 0 else -1]:
            times[key].append(statistics.median(milliseconds(runs[key], image, counts[key])))
    base = times["tersor", "int8"]
    rows = []
    for (tool, setting), run in runs.items():
        got = np.concatenate([np.asarray(run(x[None])).reshape(1, -1) for x in many])
        agreement = 100 * float((got.argmax(1) == expected.argmax(1)).mean())
        ms = times[tool, setting]
        rows.append(Row(name, tool, setting, agreement, sqnr(expected, got), statistics.median(ms), Ratio.of([a / b for a, b in zip(ms, base)])))
        print(f"{name:12} {tool:12} {setting:36} {agreement:5.1f} %  {rows[-1].sqnr:5.2f} dB  {rows[-1].ms:7.2f} ms", flush=True)
    return rows


def ours(graph: tersor.Graph, pipeline: str, batches: list[np.ndarray]) -> Run:
    small = tersor.transform(graph, pipeline.replace("int8", SETTINGS["int8"]), calibration=batches)
    model = tersor.compile(small, batch=[1, BATCH], require="int8")
    return lambda x: model(x)


def other(setting: str, module: torch.nn.Module, graph: tersor.Graph, batches: list[np.ndarray]) -> Run:
    if setting == "LiteRT":
        return litert_int8.quantized(module, batches)
    quantized: Callable[..., Run]
    quantized, option = TOOLS[setting]
    return quantized(graph, batches, option)


def best(rows: Sequence[Row]) -> tuple[float, dict[str, Row]]:
    """The level of agreement, and of each tool the fastest model of one network that is at most POINTS below it."""
    level = max(r.agreement for r in rows if r.tool != "tersor")
    enough = sorted((r for r in rows if r.agreement >= level - POINTS), key=lambda r: -r.ms)
    return level, {r.tool: r for r in enough}


def markdown(rows: Sequence[Row]) -> str:
    """All models, then the comparison at equal accuracy."""
    lines = ["| network | tool | model | agreement | SQNR | ms | time / our int8 |", "|---|---|---|--:|--:|--:|--:|"]
    lines += [f"| {r.network} | {r.tool} | {r.setting} | {r.agreement:.1f} % | {r.sqnr:.2f} dB | {r.ms:.2f} | {r.ratio} |" for r in rows]
    lines += ["", "| network | level | ours | ms | best other | ms | ours / other |", "|---|--:|---|--:|---|--:|--:|"]
    for network in dict.fromkeys(r.network for r in rows):
        level, chosen = best([r for r in rows if r.network == network])
        others = [r for tool, r in chosen.items() if tool != "tersor"]
        fastest, own = min(others, key=lambda r: r.ms), chosen.get("tersor")
        mine = f"{own.setting} | {own.ms:.2f}" if own else "none | "
        share = f"{own.ms / fastest.ms:.2f}" if own else ""
        lines.append(f"| {network} | {level:.1f} % | {mine} | {fastest.tool}: {fastest.setting} | {fastest.ms:.2f} | {share} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
