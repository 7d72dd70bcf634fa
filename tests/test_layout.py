"""The house rules that no type checker knows: what is packaged, who imports whom, what an import costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OUTSIDE = {"tests", "bench", "docs", "build", "dist"}
#: Layers by folder, and the layers each may import. `""` is the root: `__init__.py`.
MAY_IMPORT = {
    "ir": {"ir"},
    "frontend": {"ir", "frontend"},
    "passes": {"ir", "passes"},
    "backend": {"ir", "passes", "backend"},
    "cli": {"ir", "frontend", "passes", "backend", "cli", ""},
    "": {"ir", "frontend", "passes", "backend", "cli", ""},
}
#: Libraries that only one layer may know.
ONLY_IN = {"tvm": "backend", "tvm_ffi": "backend", "torch.fx": "frontend", "torch.export": "frontend", "onnx": "frontend", "typer": "cli"}


def sources() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT)
        if relative.parts[0] not in OUTSIDE and not relative.parts[0].startswith("."):
            yield relative


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything a file imports; the package's own modules as `tersor.…`."""
    package = ("tersor", *path.parts[:-1])
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def layer(dotted: str) -> str:
    """`tersor.ir.graph.Graph` -> `ir`; a name of the root module -> `""`."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in MAY_IMPORT else ""


@pytest.mark.parametrize("path", list(sources()), ids=str)
def test_imports_run_one_way(path: Path) -> None:
    own = path.parts[0] if len(path.parts) > 1 else ""
    wrong = [f"{path}:{line} imports {name}" for line, name in imports(path) if name.split(".")[0] == "tersor" and layer(name) not in MAY_IMPORT[own]]
    assert not wrong


@pytest.mark.parametrize("path", list(sources()), ids=str)
def test_libraries_stay_in_their_layer(path: Path) -> None:
    own = path.parts[0] if len(path.parts) > 1 else ""
    wrong = [
        f"{path}:{line} imports {name}"
        for line, name in imports(path)
        for library, where in ONLY_IN.items()
        if (name == library or name.startswith(library + ".")) and own != where
    ]
    assert not wrong


def test_packages_match_the_tree() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(("tersor", *path.parts[:-1])) for path in sources() if path.name == "__init__.py"}
    assert sorted(listed) == sorted(found)
    folders = {path.parent for path in sources()}
    assert all((ROOT / f / "__init__.py").exists() for f in folders), "a folder with code but no __init__.py is not in the wheel"


def test_nothing_makes_pytest_import_the_package_twice() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))
    assert not (ROOT / "conftest.py").exists()


def test_modules_are_loaded_only_as_part_of_the_package() -> None:
    import tersor.ir.graph  # noqa: F401

    wrong = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(ROOT) and not re.match(r"(tests|\.venv)/", str(Path(file).relative_to(ROOT))):
            wrong += [f"{name} from {file}"] if name.split(".")[0] not in ("tersor", "__main__") else []
    assert not wrong


@pytest.mark.parametrize("code", ["import tersor", "import tersor; tersor.Graph", "import tersor.cli", "import tersor.ir"])
def test_import_is_light(code: str) -> None:
    program = f"{code}\nimport sys; print(*({{'torch', 'tvm', 'tvm_ffi', 'onnxruntime'}} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
