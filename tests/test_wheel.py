"""The wheel, alone in an environment of its own: what it must hold is in it, and the command works from there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Not part of the sources.
BESIDE = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "tests", "bench", "docs")


def call(*command: str | Path, cwd: Path) -> str:
    """What a command prints; it fails with what it says."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_environment(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    sources = tmp_path / "sources"
    shutil.copytree(ROOT, sources, ignore=BESIDE)
    call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, sources, cwd=tmp_path)
    (wheel,) = tmp_path.glob("tersor-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "tersor/py.typed",
        "tersor/reports/page.html.j2",
        "tersor/reports/page.js",
        "tersor/backend/tuned/znver4.json",
        "tersor/backend/emit/head.cu",
    } <= names
    assert not [n for n in names if n.startswith(("tersor/tests", "tersor/bench/", "tersor/docs"))]
    python = tmp_path / "env" / "bin" / "python"
    venv.create(tmp_path / "env", with_pip=False)
    # its libraries are those that the tests run with: only the wheel itself is installed
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    call(sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    tersor = tmp_path / "env" / "bin" / "tersor"
    assert Path(call(python, "-c", "import tersor; print(tersor.__file__)", cwd=tmp_path).strip()).is_relative_to(site)
    assert call(tersor, "--version", cwd=tmp_path) == f"tersor {version}\n"
    assert "compile" in call(tersor, "--help", cwd=tmp_path)
    call(tersor, "trace", "torch.nn:ReLU", "-o", "m.tersor", "--shape", "1x3x8x8", cwd=tmp_path)
    call(tersor, "compile", "m.tersor", "-o", "m.tso", cwd=tmp_path)
    assert "1x3x8x8" in call(tersor, "run", "m.tso", cwd=tmp_path)
    call(tersor, "report", "m.tersor", "-o", "m.html", cwd=tmp_path)
    assert "relu" in (tmp_path / "m.html").read_text()
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
