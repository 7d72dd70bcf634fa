"""Tune the seven networks on this machine, to make the database that ships with Tersor.

    python -m tersor.bench.tune_seven [--networks resnet18 vgg16] [--threads 1 2] [--db FILE] [--again]

writes backend/tuned/<processor>.json (or FILE). Existing entries stay, unless --again. The machine should be idle.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

import tersor
from tersor.backend.target import resolve
from tersor.backend.tuned.database import SHIPPED

from .models import GMACS, build


def traced(name: str) -> tersor.Graph:
    """A network of ours at 224x224, as a graph."""
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32))
    return tersor.transform(tersor.trace(build(name), (x,)), "default")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(GMACS), choices=list(GMACS), metavar="NAME")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--db", type=Path, default=SHIPPED / f"{resolve('cpu').mcpu}.json")
    parser.add_argument("--again", action="store_true", help="measure what is in the database already, too")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.db.parent.mkdir(exist_ok=True)
    for name in args.networks:
        graph = traced(name)
        for threads in args.threads:
            result = tersor.tune(graph, threads=threads, db=args.db, seed=args.seed, again=args.again, progress=True)
            print(f"{name:14} {result.summary}", *result.complaints, sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
