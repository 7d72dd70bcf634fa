"""Latency of networks beside every other engine that is installed: interleaved, each engine in its own process, on the same cores.

    python -m tersor.bench.latency [--networks resnet18 vgg16] [--engines onnxruntime openvino] [--threads 1 2] [--batch 1] [--size 224]
                                   [--rounds 15] [--keep] [--out bench/results] [--name latency]

writes latency.json (every round of every engine, results against float64 torch, the machine, the versions), latency.md and latency.png;
--name gives them another name.
Engines that are not installed or refuse a network are named with the reason. `make peers` installs them all.
--networks takes the seven networks that are the default and the others of `--list`.
--keep adds to the records of an earlier run on the same machine with the same versions, and replaces those of the same network, batch and threads.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .engines import Engine, commit, interleaved, machine, opened, ratio
from .latency_report import draw, markdown
from .models import GMACS, build
from .more_models import MORE
from .peers import ADAPTERS, Source
from .results_file import write_results

#: One image in, one tensor out.
OTHERS = tuple(name for name in MORE if name not in ("two_input", "detector"))
#: Below this SQNR an engine counts as wrong. MNN's Winograd is at 49 dB on some networks.
SAME_DB = 30
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", "--models", nargs="+", default=list(GMACS), choices=[*GMACS, *OTHERS], metavar="NAME")
    parser.add_argument("--engines", nargs="+", default=list(ADAPTERS), choices=list(ADAPTERS), metavar="NAME", help=", ".join(ADAPTERS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.25, help="of one engine in one round")
    parser.add_argument("--keep", action="store_true", help="keep the other records of the JSON file")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--name", default="latency", help="of the files that are written, without .json")
    parser.add_argument("--list", action="store_true", help="print the names of networks and engines and stop")
    args = parser.parse_args()
    if args.list:
        print("networks:", *GMACS, *OTHERS, "\nengines:", *ADAPTERS)
        return
    engines = ["tersor", *(e for e in args.engines if e != "tersor")]
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{args.name}.json"
    about = machine() | {"packages": versions(engines)}
    results = kept(path, about) if args.keep and path.exists() else []
    for name in args.networks:
        new = measure_network(name, engines, args.threads, (args.batch, 3, args.size, args.size), args.rounds, args.seconds)
        results = [r for r in results if key(r) not in map(key, new)] + new
        # after each network, so that results survive when a later one fails
        report = {"machine": about, "results": sorted(results, key=place)}
        write_results(path, report)
    text = markdown(report)
    path.with_suffix(".md").write_text(text)
    draw(report, path.with_suffix(".png"))
    print(text)


def versions(engines: Sequence[str]) -> dict[str, str]:
    """Versions of the installed engines; missing ones are in the failures of each record."""
    found = machine()["packages"]
    for name in engines:
        found |= ADAPTERS[name].installed()
    return dict(found)


def kept(path: Path, about: dict[str, Any]) -> list[dict[str, Any]]:
    """The records of an earlier run, if they may stand in one table with new ones."""
    report = json.loads(path.read_text())
    for fact in ("processor", "cores", "packages"):
        if report["machine"][fact] != about[fact]:
            raise SystemExit(f"{path} was measured with another {fact} ({report['machine'][fact]}; now {about[fact]}): leave --keep out")
    return list(report["results"])


def key(record: dict[str, Any]) -> tuple[Any, ...]:
    return record["network"], tuple(record["shape"]), record["threads"]


def place(record: dict[str, Any]) -> tuple[Any, ...]:
    """Order in the report: the seven networks first, as they are listed."""
    return record["shape"], record["threads"], [*GMACS, *OTHERS].index(record["network"])


def measure_network(
    name: str, engines: Sequence[str], threads: Sequence[int], shape: tuple[int, ...], rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """One record per thread count: latencies, ratios, each engine's SQNR against float64 torch, and why engines are missing."""
    import torch

    module = build(name)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    with torch.no_grad():
        exact = module.double()(torch.from_numpy(x).double()).numpy()
    module.float()
    records = []
    with tempfile.TemporaryDirectory() as folder:
        source = Source(module, x, Path(folder))
        example = source.folder / "x.npy"
        np.save(example, x)
        gmacs = source.graph.at(len(x)).macs() / 1e9
        for count in threads:
            models, failures = prepared(source, engines, count)
            with opened(models, example, count, failures) as running:
                sqnrs = compared(running, x, exact, failures)
                times = measure(name, [e for e in running if e.name in sqnrs], count, rounds, seconds)
            record = {"network": name, "shape": list(shape), "threads": count, "gmacs": gmacs, "commit": commit()}
            records.append(record | times | {"sqnr_db": sqnrs, "failures": failures})
    return records


def prepared(source: Source, engines: Sequence[str], threads: int) -> tuple[dict[str, Path], dict[str, str]]:
    """The file that each engine opens, and the reasons of those that have none."""
    models, failures = {}, {}
    for name in engines:
        try:
            ADAPTERS[name].require()
            models[name] = ADAPTERS[name].prepare(source, threads)
        except Exception as error:  # any kind: a converter may raise what it likes, and the table says so
            failures[name] = f"{type(error).__name__}: {error}"
    return models, failures


def compared(engines: Sequence[Engine], x: np.ndarray, exact: np.ndarray, failures: dict[str, str]) -> dict[str, float]:
    """SQNR of each engine in dB. One that computes another function is a failure, however fast."""
    result = {}
    for engine in engines:
        try:
            result[engine.name] = sqnr(engine(x), exact)
            if result[engine.name] < SAME_DB:
                raise ValueError(f"another function: SQNR {result.pop(engine.name):.0f} dB against float64 torch")
        except (ValueError, RuntimeError) as error:
            failures[engine.name] = str(error)
    return result


def measure(name: str, engines: Sequence[Engine], threads: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Times in ms of each engine, and ours as a multiple of each peer's."""

    def show(done: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{name}, {threads} threads: round {done} of {rounds} " + ("\n" if done == rounds else ""))

    times = interleaved(engines, rounds, seconds, show)
    peers = [e for e in times if e != "tersor"] if "tersor" in times else []
    return {
        "rounds": rounds,
        "seconds_per_round": seconds,
        "median_ms": {e: t.median for e, t in times.items()},
        "rounds_ms": {e: t.rounds for e, t in times.items()},
        "ratio": {e: asdict(ratio(times["tersor"], times[e])) for e in peers},
        "best": min(peers, key=lambda e: times[e].median, default=None),
    }


def sqnr(y: np.ndarray, y64: np.ndarray) -> float:
    """10 log10(sum y64^2 / sum (y - y64)^2), in dB; raises where the shapes differ: the engine computes something else."""
    if y.size != y64.size or len(y) != len(y64):
        raise ValueError(f"a result of shape {y.shape}, expected {y64.shape}")
    noise = float(((y.reshape(y64.shape) - y64) ** 2).sum())
    return float(10 * np.log10((y64**2).sum() / noise)) if noise else float("inf")


if __name__ == "__main__":
    main()
