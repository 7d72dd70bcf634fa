"""Per-layer pruning ratios found by three agents at equal evaluations: DDPG (AMC, 1802.03494) beside greedy and random search.

    python -m tersor.bench.search_agents [--networks resnet20 mobilenet] [--macs 0.5] [--evaluations 60] [--seeds 0 1 2]

Networks trained on Fashion-MNIST (train.py) are pruned to a share of their multiply-accumulates and refitted, without fine-tuning. The reward is
the accuracy on 2,000 training images that calibration has not seen. The table has that of the test images too, which choose nothing, and beside the
agents the pass without a search. A killed run resumes: rows that are there are kept, and `search` goes on from its own file of evaluations.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import tersor

from .fashion import DataMissing, Images, fashion_mnist
from .finetuned import BATCH, mean, measured
from .latency import RESULTS
from .results_file import write_results
from .train import Recipe, cache_folder, trained

AGENTS = ("ddpg", "greedy", "random")
#: The pass without a search, for comparison.
PLAIN = {"by sensitivity": "", "uniform": " per_layer=uniform"}
NETWORKS = ("resnet20", "mobilenet")
#: Options of prune-channels: a choice that is cheap, with the refit.
OPTIONS = "method=l1"
#: Training images to refit on, and to reward by.
CALIBRATION, JUDGED = 256, 2000


@dataclass(frozen=True)
class Row:
    """One search. reward: accuracy on the images it was judged by. top1: of the test images. Per cent, both."""

    network: str
    macs: float
    agent: str
    evaluations: int
    seed: int
    float_top1: float
    reward: float
    top1: float
    seconds: float


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--agents", nargs="+", default=[*AGENTS, *PLAIN], choices=[*AGENTS, *PLAIN])
    parser.add_argument("--macs", type=float, default=0.5)
    parser.add_argument("--evaluations", type=int, default=60)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    path = args.out / "search_agents.json"
    rows = [Row(**r) for r in json.loads(path.read_text())] if path.is_file() else []
    try:
        for network in args.networks:
            for seed in args.seeds:
                for agent in args.agents:
                    evaluations = args.evaluations if agent in AGENTS else 1
                    if (network, args.macs, agent, evaluations, seed) in {(r.network, r.macs, r.agent, r.evaluations, r.seed) for r in rows}:
                        continue
                    rows.append(run(network, args.macs, agent, evaluations, seed))
                    write_results(path, [asdict(r) for r in rows])
                    path.with_suffix(".md").write_text(table(rows))
    except DataMissing as missing:
        raise SystemExit(str(missing)) from None
    print(table(rows), end="")


def run(network: str, macs: float, agent: str, evaluations: int, seed: int) -> Row:
    """One search, or one run of the pass, of one seed."""
    module, _ = trained(Recipe(network), lambda line: print(line, flush=True))
    train, test = fashion_mnist("train"), fashion_mnist("t10k")
    graph = tersor.transform(tersor.trace(module, (test.normalized(slice(0, 1)),)), "default")
    images = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    calibration = list(torch.split(train.normalized(images[:CALIBRATION]), BATCH))
    judged = Images(train.pixels[images[-JUDGED:]], train.labels[images[-JUDGED:]])

    def accuracy(small: tersor.Graph) -> float:
        x = judged.normalized(slice(None))
        right = sum(int((small(x[i : i + BATCH]).argmax(1) == judged.labels[i : i + BATCH]).sum()) for i in range(0, JUDGED, BATCH))
        return right / JUDGED

    if agent in AGENTS:
        folder = cache_folder() / "search-agents"
        folder.mkdir(parents=True, exist_ok=True)
        state = folder / f"{network}-{macs:g}-{agent}-{evaluations}-{seed}.jsonl"
        pipeline = f'search{{macs={macs:g} agent={agent} evaluations={evaluations} options="{OPTIONS}" state={json.dumps(str(state))}}}'
    else:
        pipeline = f"prune-channels{{macs={macs:g} {OPTIONS}{PLAIN[agent]}}}"
    start = time.perf_counter()
    small = tersor.transform(graph, pipeline, calibration=calibration, evaluate=accuracy if agent in AGENTS else None, seed=seed)
    seconds = time.perf_counter() - start
    (full, _), (top1, _) = (measured(g, test, "f32") for g in (graph, small))
    row = Row(network, macs, agent, evaluations, seed, full, 100 * accuracy(small), top1, seconds)
    print(f"{network:10} seed {seed} {agent:14} reward {row.reward:.2f} %, test {full:.2f} % -> {top1:.2f} %, {seconds:.0f} s", flush=True)
    return row


def table(rows: Sequence[Row]) -> str:
    """Mean and standard deviation over the seeds."""
    lines = ["| network | MACs | ratios by | networks tried | reward | test top-1 | float | seeds |", "|---|--:|---|--:|--:|--:|--:|--:|"]
    for key in dict.fromkeys((r.network, r.macs, r.agent, r.evaluations) for r in rows):
        here = [r for r in rows if (r.network, r.macs, r.agent, r.evaluations) == key]
        network, macs, agent, evaluations = key
        cells = f"{mean([r.reward for r in here])} | {mean([r.top1 for r in here])} | {here[0].float_top1:.2f} %"
        lines.append(f"| {network} | {macs:.0%} | {agent} | {evaluations} | {cells} | {len(here)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
