"""Inputs of the commands: modules, graphs, compiled models, arrays."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ir.errors import TersorError
from ..ir.graph import Graph
from ..ir.types import NUMPY

if TYPE_CHECKING:
    import torch

GRAPHS = (".tersor", ".mlir")
COMPILED = ".tso"


def import_module(name: str) -> Any:
    """A module by its dotted name (the working folder included) or by the path of its file."""
    path = Path(name)
    try:
        if path.suffix == ".py":
            if not path.is_file():
                raise TersorError(f"there is no file {name}")
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules.setdefault(path.stem, module)
            spec.loader.exec_module(module)
            return module
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.insert(0, here)
        return importlib.import_module(name)
    except TersorError:
        raise
    except ModuleNotFoundError as error:
        raise TersorError(f"cannot import {name}: {error}; expected a module on the path or in this folder, or a file.py") from None
    except Exception as error:
        raise TersorError(f"importing {name} failed with {type(error).__name__}: {error}") from error


def is_factory(spec: str) -> bool:
    """Whether a source is `MODULE:FACTORY`, not a file."""
    return ":" in spec and not Path(spec).exists()


def read_module(spec: str) -> torch.nn.Module:
    """`package.models:build` or `models.py:build` -> the torch module in evaluation mode.

    `build` is a module, its class, or a function of no arguments.
    """
    from torch import nn

    where, _, name = spec.rpartition(":")
    if not where or not name:
        raise TersorError(f"expected MODULE:FACTORY such as models.py:build, got {spec!r}")
    found: Any = import_module(where)
    for part in name.split("."):
        if not hasattr(found, part):
            public = ", ".join(n for n in vars(found) if not n.startswith("_")) or "nothing"
            raise TersorError(f"{where} has no {part!r}; it has {public}")
        found = getattr(found, part)
    if not isinstance(found, nn.Module):
        try:
            found = found()
        except Exception as error:
            raise TersorError(f"{spec}() failed with {type(error).__name__}: {error}") from error
    if not isinstance(found, nn.Module):
        raise TersorError(f"{spec} must be or return a torch.nn.Module, got {type(found).__name__}")
    return found.eval()


SHAPE = re.compile(r"(?:(?P<name>[^=]+)=)?(?P<dims>\d+(?:x\d+)*|)(?::(?P<elem>\w+))?")


def parse_shape(text: str) -> tuple[str, tuple[int, ...], str]:
    """`1x3x224x224`, `ids=1x16:i64` -> name (may be empty), shape, element type."""
    match = SHAPE.fullmatch(text)
    elem = (match["elem"] or "f32") if match else ""
    if match is None or elem not in NUMPY:
        raise TersorError(f"expected a shape such as 1x3x224x224 or ids=1x16:i64 (element types: {', '.join(NUMPY)}), got {text!r}")
    return match["name"] or "", tuple(int(d) for d in match["dims"].split("x") if d), elem


def example(shapes: Sequence[str]) -> Any:
    """Seeded example inputs for the shapes of a command line: a tuple, or a dict when they are named."""
    from ..ir.evaluate import to_torch

    rng = np.random.default_rng(0)
    parsed = [parse_shape(s) for s in shapes]
    arrays = [to_torch(random_array(rng, shape, NUMPY[elem])) for _, shape, elem in parsed]
    names = [name for name, _, _ in parsed if name]
    if not names:
        return tuple(arrays)
    if len(set(names)) != len(arrays):
        raise TersorError(f"name every input once or none, got {', '.join(shapes)}")
    return dict(zip(names, arrays))


def random_array(rng: np.random.Generator, shape: Sequence[int], dtype: Any) -> np.ndarray:
    """Normal floats, integers 0 and 1 (valid as any index), random booleans."""
    kind = np.dtype(dtype).kind
    return np.asarray(rng.integers(0, 2, shape) if kind in "biu" else rng.standard_normal(shape)).astype(dtype)


def read_graph(path: str, weights: str | None = None, shapes: Sequence[str] | None = None) -> Graph:
    """A graph from a file that `tersor.load` reads; shapes are those of an .onnx file's inputs."""
    from .. import load

    return load(path, weights, shapes=given_shapes(shapes) if shapes else None)


def given_shapes(shapes: Sequence[str]) -> dict[str, tuple[int, ...]] | list[tuple[int, ...]]:
    """The shapes of a command line by name, or in order where they have none."""
    parsed = [parse_shape(s) for s in shapes]
    named = {name: dims for name, dims, _ in parsed if name}
    if named and len(named) != len(parsed):
        raise TersorError(f"name every shape once or none, got {', '.join(shapes)}")
    return named or [dims for _, dims, _ in parsed]


def read_arrays(path: str) -> np.ndarray | dict[str, np.ndarray]:
    """An .npy file as an array, an .npz file as a dict."""
    try:
        data = np.load(path)
        return data if isinstance(data, np.ndarray) else {k: data[k] for k in data.files}
    except FileNotFoundError:
        raise TersorError(f"there is no file {path}") from None
    except (OSError, ValueError, EOFError) as error:
        raise TersorError(f"{path} is no .npy or .npz file of plain arrays: {' '.join(str(error).split())}") from None


def read_inputs(items: Sequence[str], names: Sequence[str]) -> dict[str, np.ndarray]:
    """`x.npy`, `x=a.npy` or `all.npz` -> arrays by input name; files without a name fill the inputs in order."""
    given: dict[str, np.ndarray] = {}
    for item in items:
        name, eq, path = item.rpartition("=")
        arrays = read_arrays(path)
        free = [n for n in names if n not in given]
        if isinstance(arrays, dict):
            arrays = _named(arrays, names, path)
        elif eq:
            arrays = {name: arrays}
        elif free:
            arrays = {free[0]: arrays}
        else:
            raise TersorError(f"{path} is one input too many; inputs: {', '.join(names)}")
        for key, array in arrays.items():
            if key not in names:
                raise TersorError(f"there is no input {key!r}; inputs: {', '.join(names)}")
            given[key] = array
    return given


def _named(arrays: Mapping[str, np.ndarray], names: Sequence[str], path: str) -> dict[str, np.ndarray]:
    if len(names) == len(arrays) == 1:
        return dict(zip(names, arrays.values()))
    missing = [n for n in names if n not in arrays]
    if missing:
        raise TersorError(f"{path} has no array {missing[0]!r}; it has {', '.join(arrays) or 'none'}, the inputs are {', '.join(names)}")
    return {n: arrays[n] for n in names}


def read_calibration(path: str, graph: Graph) -> list[dict[str, np.ndarray]]:
    """An .npz (or .npy) of samples along axis 0 -> batches, of 16 samples or of the graph's own batch where that is fixed."""
    names = [v.name for v in graph.inputs]
    arrays = read_inputs([path], names)
    if missing := [n for n in names if n not in arrays]:
        raise TersorError(f"calibration data {path} has nothing for input {missing[0]!r}; write an .npz with {', '.join(names)}")
    counts = {len(a) if a.ndim else 0 for a in arrays.values()}
    size = 16 if graph.batched else (graph.inputs[0].shape or (1,))[0]
    (count,) = counts if len(counts) == 1 else (0,)
    if count < 1:
        raise TersorError(f"the arrays of {path} must hold the same number of samples along axis 0, got {sorted(counts)}")
    stop = count if graph.batched else count - count % size
    if not stop:
        raise TersorError(f"{path} holds {count} samples, and the graph takes {size} at a time")
    return [{n: a[i : i + size] for n, a in arrays.items()} for i in range(0, stop, size)]


def leaves(structure: Any, result: Any) -> list[Any]:
    """Outputs in order, out of the structure a model returned them in."""
    found: dict[int, Any] = {}

    def visit(s: Any, r: Any) -> None:
        if isinstance(s, dict):
            for k in s:
                visit(s[k], r[k])
        elif isinstance(s, (list, tuple)):
            for a, b in zip(s, r):
                visit(a, b)
        else:
            found[s] = r

    visit(structure, result)
    return [found[i] for i in sorted(found)]
