"""The code of README.md and of docs/*.md does what the pages say, each page in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from page import BLOCK

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


#: Pages that measure many kernels, or start a server.
LONG = {"tuning.md", "device.md"}
#: A page that test_transcript.py runs.
ELSEWHERE = {"transcript.md"}
CODE = [pytest.param(p, marks=pytest.mark.slow) if p.name in LONG else p for p in PAGES if p.name not in ELSEWHERE]


@pytest.mark.parametrize("page", CODE, ids=lambda p: p.name)
def test_code_runs(page: Path, tmp_path: Path) -> None:
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(ROOT / "tests/support/page.py"), str(page)], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-4000:]}"
    expected = sum(m[1] == "python" for m in BLOCK.finditer(page.read_text()))
    assert int(done.stdout.split()[-1]) >= max(expected, 1)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", re.sub(BLOCK, "", page.read_text()))
    assert [t for t in targets if "://" not in t and not (page.parent / t).exists()] == []


def test_readme_shows_the_commands_and_a_pass_in_its_first_screen() -> None:
    screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:60])
    for wanted in ("make demo", "make test", "@tersor.register_pass", "@tersor.rewrite"):
        assert wanted in screen


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make (\w+)", (ROOT / "README.md").read_text())):
        assert re.search(rf"^{target}:", makefile, re.M), target
