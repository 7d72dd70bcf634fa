"""A killed finetune ends with the weights of one that was not killed; two processes end with the same weights."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from train_cases import graph, same, shapes, weights

import tersor

X, Y = shapes()
#: What the graph, the images and the labels are saved as, for programs that read them.
HEAD = """
import os, signal, sys, torch, tersor
folder = sys.argv[1]
torch.set_num_threads(1)
x, y = torch.load(f"{folder}/data.pt")
"""
KILLED = (
    HEAD
    + """
def progress(what, done, total):
    if what.startswith("finetune") and done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

tersor.transform(tersor.load(f"{folder}/0.tersor"), sys.argv[2], train=(x, y), progress=progress)
"""
)
RANK = (
    HEAD
    + """
rank = os.environ["RANK"]
for i, pipeline in enumerate(sys.argv[2:]):
    found = tersor.transform(tersor.load(f"{folder}/{i}.tersor"), pipeline, train=(x, y), progress=True)
    found.save(f"{folder}/{i}-{rank}.tersor")
    print(i, [(e.steps, round(e.loss, 6), e.accuracy) for e in found.report["finetune"].layers])
"""
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    graph().save(tmp_path / "0.tersor")
    graph(norm=False).save(tmp_path / "1.tersor")
    torch.save((X, Y), tmp_path / "data.pt")
    return tmp_path


def start(program: str, *args: Any, **env: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, args)]
    return subprocess.Popen(command, env=os.environ | env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


OPTIONS = "epochs=2 lr=0.01 ema=0.9 validate=0.125 patience=1 distill_weight=0.3"


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(folder: Path) -> None:
    file = folder / "run.ckpt"
    resumable = f'finetune{{{OPTIONS} checkpoint="{file}" every=2}}'
    process = start(KILLED, folder, resumable, 5)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors
    assert file.exists()
    whole = tersor.transform(graph(), f"finetune{{{OPTIONS}}}", train=(X, Y))
    done: list[int] = []
    resumed = tersor.transform(graph(), resumable, train=(X, Y), progress=lambda what, n, total: done.append(n) if "loss" in what else None)
    # three steps an epoch; killed in the fifth, before a checkpoint of it
    assert done == [5, 6]
    assert same(resumed, whole)
    assert resumed.report["finetune"].layers == whole.report["finetune"].layers
    again = tersor.transform(graph(), resumable, train=(X, Y), progress=lambda what, n, total: done.append(n) if "loss" in what else None)
    assert same(again, whole) and done == [5, 6], "what is complete does not run again"
    assert [p.name for p in folder.iterdir() if "ckpt" in p.name] == ["run.ckpt"]


def test_any_step_can_be_the_last(tmp_path: Path) -> None:
    """Interrupted at each step in turn, noise of augmentation included."""

    class Stop(Exception):
        pass

    class Noisy(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 96

        def __getitem__(self, i: int) -> Any:
            return X[i] + torch.randn(X[i].shape), Y[i]

    options = "epochs=2 batch=32 optimizer=sgd"
    loader = torch.utils.data.DataLoader(Noisy(), 32, shuffle=True)
    for train in (Noisy(), loader):
        whole = tersor.transform(graph(), f"finetune{{{options}}}", train=train)
        for last in range(1, 7):
            pipeline = f'finetune{{{options} checkpoint="{tmp_path / f"{last}{type(train).__name__}"}" every=1}}'

            def stop(what: str, done: int, total: int, last: int = last) -> None:
                if "loss" in what and done == last:
                    raise Stop

            with pytest.raises(tersor.TersorError, match="Stop"):
                tersor.transform(graph(), pipeline, train=train, progress=stop)
            assert same(tersor.transform(graph(), pipeline, train=train), whole)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.ckpt"
    first = f'finetune{{checkpoint="{file}"}}'
    tersor.transform(graph(), first, train=(X, Y))
    for g, pipeline in ((graph(), first.replace("{", "{lr=0.01 ")), (graph(seed=1), first), (graph(norm=False), first)):
        with pytest.raises(tersor.TersorError, match=r"run.ckpt is of another training:\n  there .*\n  here .*\nname another file, or delete it"):
            tersor.transform(g, pipeline, train=(X, Y))
    file.write_bytes(b"text")
    with pytest.raises(tersor.TersorError, match=r"run.ckpt is not a checkpoint of finetune"):
        tersor.transform(graph(), first, train=(X, Y))
    with pytest.raises(tersor.TersorError, match="cannot write the checkpoint"):
        tersor.transform(graph(), f'finetune{{checkpoint="{tmp_path}/no/file"}}', train=(X, Y))


def test_two_processes_end_with_the_same_weights(folder: Path) -> None:
    """The same as one process with batches of twice the size, where no batch norm looks at a process's own part alone."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    pipelines = [
        f'finetune{{epochs=2 batch=16 validate=0.125 checkpoint="{folder}/run.ckpt"}}',
        "finetune{epochs=2 batch=16 optimizer=sgd distill_weight=0.5}",
    ]
    env = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    ranks = [start(RANK, folder, *pipelines, RANK=str(i), LOCAL_RANK=str(i), **env) for i in range(2)]
    try:
        told = [p.communicate(timeout=120) for p in ranks]
    finally:
        for p in ranks:
            p.kill()
    assert [p.returncode for p in ranks] == [0, 0], told
    assert told[0][0] == told[1][0]
    assert all("finetune" not in errors for _, errors in told), "the bar is silent in a pipe"
    for i in range(2):
        a, b = (tersor.load(folder / f"{i}-{rank}.tersor") for rank in range(2))
        assert same(a, b) and not same(a, graph(norm=i == 0))
    alone = tersor.transform(graph(norm=False), pipelines[1].replace("batch=16", "batch=32"), train=(X, Y))
    for name, value in weights(alone).items():
        torch.testing.assert_close(weights(b)[name], value, rtol=1e-4, atol=1e-5)
