"""auto with two workers on one PostgreSQL server, which is started for the test."""

from __future__ import annotations

import getpass
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from train_cases import graph, shapes

import tersor

optuna = pytest.importorskip("optuna")
pytest.importorskip("psycopg")

pytestmark = pytest.mark.slow


def programs() -> Path:
    """The folder of initdb and pg_ctl."""
    folders = [Path(p).parent for p in [shutil.which("initdb")] if p] + sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = next((f for f in folders if (f / "initdb").exists() and (f / "pg_ctl").exists()), None)
    if found is None:
        pytest.skip("needs a PostgreSQL server (Debian: postgresql)")
    return found


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server on a socket in a folder of its own, with an empty database."""
    bin_, data = programs(), tmp_path / "data"
    # the server does not run as root
    user = "postgres" if getpass.getuser() == "root" else getpass.getuser()
    prefix = ["runuser", "-u", user, "--"] if getpass.getuser() == "root" else []
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == getpass.getuser() and folder != Path(folder.anchor):
            folder.chmod(folder.stat().st_mode | 0o711)
    tmp_path.chmod(0o777)

    def run(*command: str | Path) -> None:
        subprocess.run([*prefix, *map(str, command)], check=True, cwd="/", stdout=subprocess.DEVNULL)

    run(bin_ / "initdb", "-D", data, "-A", "trust", "--no-sync")
    run(bin_ / "pg_ctl", "-D", data, "-w", "-l", tmp_path / "log", "-o", f"-c listen_addresses='' -c unix_socket_directories={tmp_path}", "start")
    try:
        yield f"postgresql+psycopg://{user}@/postgres?host={tmp_path}"
    finally:
        run(bin_ / "pg_ctl", "-D", data, "-m", "immediate", "stop")


def test_two_workers_share_a_study(url: str, tmp_path: Path) -> None:
    graph().save(tmp_path / "m.tersor")
    np.savez(tmp_path / "x.npz", x=shapes(24)[0].numpy())
    options = {"calibration": "x.npz", "ways": "prune,sparsify", "trials": "10", "storage": url}
    run = "from tersor.cli import main; main()"
    command = [sys.executable, "-c", run, "auto", "m.tersor", *(part for name, value in options.items() for part in (f"--{name}", value))]
    workers = [
        subprocess.Popen([*command, "-o", f"front{i}"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for i in range(2)
    ]
    texts = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], texts
    trials = optuna.load_study(study_name="tersor", storage=url).get_trials()
    done = [t for t in trials if t.state.is_finished()]
    # each worker may be one trial ahead of what it saw
    assert 10 <= len(done) <= 11 and len({t.user_attrs["worker"] for t in done}) == 2
    assert len({t.user_attrs["pipeline"] for t in done}) > 5
    # a third joins: nothing is left to do, and it has the front of all
    front = tersor.auto(tersor.load(tmp_path / "m.tersor"), calibration=tersor_batches(tmp_path), ways=["prune", "sparsify"], trials=10, storage=url)
    assert {p.pipeline for p in front.tried} <= {t.user_attrs["pipeline"] for t in done}


def tersor_batches(folder: Path) -> list[np.ndarray]:
    return [np.load(folder / "x.npz")["x"]]
