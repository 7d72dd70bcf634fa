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
OUTSIDE = {"tests", "bench", "docs", "tools", "build", "dist"}
#: Layers by folder, and the layers each may import. `""` is the root: `__init__.py`.
MAY_IMPORT = {
    "ir": {"ir"},
    "frontend": {"ir", "frontend"},
    "passes": {"ir", "passes"},
    "backend": {"ir", "passes", "backend"},
    "explore": {"ir", "passes", "backend", "reports", "explore"},
    "reports": {"ir", "passes", "backend", "reports"},
    "cli": {"ir", "frontend", "passes", "backend", "explore", "reports", "cli", ""},
    "": {"ir", "frontend", "passes", "backend", "explore", "reports", "cli", ""},
}
#: Rooms inside `backend/`, and the rooms each may import; from one line to the next there is no way back. `""`: compile.py, pipelines.py, …
ROOMS = {
    "target": set(),
    "runtime": {"target"},
    "tile": {"target"},
    "codegen": {"target", "runtime", "tile"},
    "remote": {"target", "runtime", "codegen"},
    "kernels": {"target", "tile", "codegen"},
    "kernels/cpu/arithmetic": {"target", "codegen"},
    "kernels/cpu": {"target", "tile", "codegen", "kernels", "kernels/cpu/arithmetic"},
    "kernels/cpu/bits": {"target", "tile", "codegen", "kernels", "kernels/cpu"},
    "kernels/cpu/movement": {"target", "tile", "codegen", "kernels", "kernels/cpu"},
    "kernels/cpu/conv": {"target", "tile", "codegen", "kernels", "kernels/cpu", "kernels/cpu/arithmetic", "kernels/cpu/movement"},
    "kernels/cpu/sparse": {"target", "tile", "codegen", "kernels", "kernels/cpu", "kernels/cpu/conv"},
    "kernels/gpu": {"target", "tile", "codegen", "kernels"},
    "kernels/metaschedule": {"target", "tile", "codegen", "kernels", "kernels/cpu/conv"},
    "tuned": {"target", "tile"},
    "lowering/legalize": {"target", "tile", "kernels/cpu", "kernels/cpu/conv"},
    "lowering": {"target", "tile", "kernels", "kernels/metaschedule", "tuned"},
    "emit": {"target", "runtime", "tile", "codegen", "kernels", "lowering"},
    "export_c": {"target", "runtime", "codegen", "emit"},
    "": {"target", "runtime", "tile", "codegen", "kernels", "kernels/cpu", "tuned", "lowering", "lowering/legalize", "emit", "export_c"},
    "tuning": {
        "target",
        "runtime",
        "remote",
        "tile",
        "codegen",
        "kernels",
        "kernels/cpu",
        "kernels/cpu/conv",
        "kernels/metaschedule",
        "tuned",
        "lowering",
        "emit",
        "",
    },
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


def test_imports_run_one_way() -> None:
    own = {path: path.parts[0] if len(path.parts) > 1 else "" for path in sources()}
    ours = [(path, line, name) for path in own for line, name in imports(path) if name.split(".")[0] == "tersor"]
    assert not [f"{path}:{line} imports {name}" for path, line, name in ours if layer(name) not in MAY_IMPORT[own[path]]]


def room(inside: tuple[str, ...]) -> str:
    """The room of a module of `backend/`, by its path or dotted name inside: the longest path that `ROOMS` knows."""
    paths = ["/".join(inside[:n]) for n in range(len(inside), 0, -1)]
    return next((p for p in paths if p in ROOMS), "")


def test_rooms_of_the_backend_import_what_they_may() -> None:
    wrong = []
    for path in (p for p in sources() if p.parts[0] == "backend"):
        own = room(path.with_suffix("").parts[1:])
        inside = [(line, name) for line, name in imports(path) if name.startswith("tersor.backend.")]
        wrong += [f"{path}:{line} imports {name}" for line, name in inside if room(tuple(name.split(".")[2:])) not in {own, *ROOMS[own]}]
    assert not wrong


def test_the_order_of_rooms_has_no_circle() -> None:
    seen: set[str] = set()
    for name, below in ROOMS.items():
        assert below <= seen, f"{name or 'the root'} may import only rooms named before it, not {below - seen}"
        seen.add(name)


@pytest.mark.parametrize("folder", ["kernels", "lowering", "emit", "codegen", "tile"])
def test_facts_are_declared(folder: str) -> None:
    """Facts of templates and operators are attributes with a type: no `getattr` with a literal name, no default for one that is missing."""
    for path in (ROOT / "backend" / folder).rglob("*.py"):
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
        named = [n for n in calls if n.func.id in ("getattr", "hasattr") and isinstance(n.args[1], ast.Constant)]
        assert not [f"{path}:{n.lineno}" for n in named]


def test_facts_about_operators_stand_on_operators() -> None:
    """No list of operator classes outside `ir/`: one that is missing there would be slower or left out, and nothing would fail."""
    from tersor.ir import ops

    wrong = []
    for path in (p for p in sources() if p.parts[0] != "ir"):
        for node in ast.parse((ROOT / path).read_text()).body:
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, (ast.Tuple, ast.List, ast.Set)):
                names = [n.id for n in node.value.elts if isinstance(n, ast.Name) and n.id in ops.__all__ and n.id[0].isupper()]
                wrong += [f"{path}:{node.lineno} lists {', '.join(names)}"] if len(names) > 2 else []
    assert not wrong


def test_libraries_stay_in_their_layer() -> None:
    wrong = []
    for path in sources():
        own = path.parts[0] if len(path.parts) > 1 else ""
        for line, name in imports(path):
            elsewhere = [lib for lib, where in ONLY_IN.items() if (name == lib or name.startswith(lib + ".")) and own != where]
            wrong += [f"{path}:{line} imports {name}"] if elsewhere else []
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


@pytest.mark.parametrize(
    "code", ["import tersor", "import tersor; tersor.Graph", "import tersor.cli", "import tersor.ir", "import tersor.backend.runtime.model"]
)
def test_import_is_light(code: str) -> None:
    program = f"{code}\nimport sys; print(*({{'torch', 'tvm', 'tvm_ffi', 'onnx', 'onnxruntime'}} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
