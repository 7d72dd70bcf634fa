"""Break one rule at a time and see a test turn red: `make mutants`, or `python tests/mutants.py [PART OF A NAME]`.

Each mutant of mutant_rules.py, mutant_rules_backend.py and mutant_rules_train.py changes one line in a copy of the tree; the tests named beside
it must fail there. One that survives is a rule that no test guards.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutant_rules import MUTANTS, Mutant
from mutant_rules_backend import BACKEND
from mutant_rules_train import TRAINING

ROOT = Path(__file__).parents[1]
#: Copies of the tree that are tested at a time.
COPIES = 2


def main() -> int:
    chosen = [m for m in (*MUTANTS, *BACKEND, *TRAINING) if all(part in f"{m.rule} {m.file}" for part in sys.argv[1:])]
    with tempfile.TemporaryDirectory() as folder:
        copies = [copy_tree(Path(folder) / str(i) / "tersor") for i in range(COPIES)]
        with ThreadPoolExecutor(COPIES) as pool:
            green = list(pool.map(lambda tests: (tests, run(copies[0], tests)), sorted({m.tests for m in chosen})))
        if broken := [tests for tests, code in green if code != 0]:
            print(f"red before anything is broken: {', '.join(broken)}")
            return 1
        free = list(copies)

        def attempt(mutant: Mutant) -> str:
            tree = free.pop()
            try:
                return verdict(tree, mutant)
            finally:
                free.append(tree)

        survivors = 0
        width = max(len(m.rule) for m in chosen)
        with ThreadPoolExecutor(COPIES) as pool:
            for mutant, result in zip(chosen, pool.map(attempt, chosen)):
                survivors += result != "killed"
                print(f"{mutant.rule:{width}}  {mutant.file:32}  {result}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants killed")
    return int(survivors > 0)


def copy_tree(target: Path) -> Path:
    """The files that git knows, or would take, in a folder called tersor."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


def run(tree: Path, tests: str) -> int:
    """pytest's exit code in a copy, which comes before the installed package on the path."""
    env = os.environ | {"PYTHONPATH": str(tree.parent), "OMP_NUM_THREADS": "1", "TVM_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests.split()]
    return subprocess.run(command, cwd=tree, env=env, capture_output=True).returncode


def verdict(tree: Path, mutant: Mutant) -> str:
    """`killed` when a test failed or the process crashed; pytest's codes above 2 say that it could not run the tests at all."""
    path = tree / mutant.file
    source = path.read_text()
    if source.count(mutant.old) != 1:
        return f"DOES NOT APPLY: its line occurs {source.count(mutant.old)} times"
    path.write_text(source.replace(mutant.old, mutant.new))
    try:
        code = run(tree, mutant.tests)
    finally:
        path.write_text(source)
    return "killed" if code == 1 or code < 0 else f"SURVIVED (pytest ended with code {code})"


if __name__ == "__main__":
    sys.exit(main())
