"""docs/transcript.md: its commands run in a new folder, and print what stands there but for numbers; `--update-golden` writes the page anew."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from page import BLOCK, commands

PAGE = Path(__file__).parents[1] / "docs/transcript.md"
#: Options of passes, which must agree; and numbers, which need not.
OPTIONS_OR_NUMBER = re.compile(r"\{[^}]*\}|[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def masked(text: str) -> list[str]:
    """Lines without numbers, rules and spaces. Options keep their numbers."""
    lines = (re.sub(r"[━─-]{3,}", "", OPTIONS_OR_NUMBER.sub(lambda m: m[0] if m[0][0] == "{" else "#", line)) for line in text.splitlines())
    return [found for line in lines if (found := " ".join(line.split()))]


def ran(command: str, folder: Path) -> str:
    env = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120", "TERM": "dumb"}
    tersor = shutil.which("tersor", path=str(Path(sys.executable).parent)) or "tersor"
    done = subprocess.run(
        tersor + command.removeprefix("tersor"), shell=True, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


@pytest.mark.slow
def test_the_commands_print_what_the_page_shows(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    text = PAGE.read_text()
    (tmp_path / "setup.py").write_text("".join(m[2] for m in BLOCK.finditer(text) if m[1] == "python"))
    subprocess.run([sys.executable, "setup.py"], cwd=tmp_path, check=True)

    def again(match: re.Match[str]) -> str:
        if match[1] != "console":
            return match[0]
        shown = "\n\n".join(f"$ {command}\n{ran(command, tmp_path)}" for command in commands(match[2]))
        return f"```console\n{shown}\n```"

    now = BLOCK.sub(again, text)
    if request.config.getoption("--update-golden"):
        PAGE.write_text(now)
    assert masked(PAGE.read_text()) == masked(now)


def test_each_way_takes_at_most_four_commands() -> None:
    blocks = [list(commands(m[2])) for m in BLOCK.finditer(PAGE.read_text()) if m[1] == "console"]
    assert len(blocks) == 7 and max(map(len, blocks)) <= 4
