"""Run the code of a documentation page in order: `python tests/support/page.py PAGE`.

Python blocks share one namespace. Of other blocks the lines that start with `tersor ` run as commands in the same folder.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
SHELL = ("", "sh", "console")


def blocks(page: Path) -> Iterator[tuple[str, int, str]]:
    """(language, line number of the first line, text) of every fenced block."""
    text = page.read_text()
    for match in BLOCK.finditer(text):
        yield match[1], text.count("\n", 0, match.start(2)) + 1, match[2]


def commands(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        if line.removeprefix("$ ").startswith("tersor "):
            yield line.removeprefix("$ ").partition("  #")[0]


def run(page: Path) -> int:
    """How many blocks and commands ran; the first that fails ends it with its own traceback."""
    # dataclasses and op classes look their annotations up in the module that they name
    module = sys.modules["page_code"] = types.ModuleType("page_code")
    count = 0
    tersor = shutil.which("tersor", path=str(Path(sys.executable).parent)) or "tersor"
    for language, line, text in blocks(page):
        if language == "python":
            # leading blank lines give tracebacks the line numbers of the page
            exec(compile("\n" * (line - 1) + text, str(page), "exec", dont_inherit=True), vars(module))
            count += 1
        elif language in SHELL:
            for command in commands(text):
                done = subprocess.run(tersor + command.removeprefix("tersor"), shell=True, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(f"{page.name}:{line}: {command}\n{done.stdout}{done.stderr}")
                count += 1
    return count


if __name__ == "__main__":
    print(run(Path(sys.argv[1]).resolve()))
