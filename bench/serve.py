"""The process of one engine under measurement: `python -m tersor.bench.serve`, started and told what to do by engines.py.

It answers commands, one JSON object a line, until standard input ends. What engines print goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np

#: Calls before the engine counts as ready: thread pools are up, buffers allocated.
WARMUP = 3


def serve() -> None:
    """First line: {"engine", "path", "input", "threads", "cpus"}; then {"runs": n} for times in ms, or {"input", "output"} for a result."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    first = json.loads(sys.stdin.readline())
    os.sched_setaffinity(0, first["cpus"])
    from .peers import ADAPTERS

    try:
        run = ADAPTERS[first["engine"]].open(first["path"], first["threads"])
        x = np.load(first["input"])
        for _ in range(WARMUP):
            run(x)
    except Exception as error:  # any kind: the other side reports it beside the engine's name
        answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        raise
    answers.write("{}\n")
    for text in sys.stdin:
        command = json.loads(text)
        if "runs" in command:
            milliseconds = []
            for _ in range(command["runs"]):
                start = time.perf_counter()
                run(x)
                milliseconds.append(1e3 * (time.perf_counter() - start))
            answers.write(json.dumps(milliseconds) + "\n")
        else:
            np.save(command["output"], run(np.load(command["input"])))
            answers.write("{}\n")


if __name__ == "__main__":
    serve()
