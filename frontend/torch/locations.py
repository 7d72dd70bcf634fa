"""Where in the user's code a node of a torch.export graph, or an error of the export, comes from."""

from __future__ import annotations

import os
import re
import sysconfig
import traceback
from pathlib import Path
from typing import Any

import sympy
import torch
from torch import fx

from ...ir.op import Loc

_TORCH = str(Path(torch.__file__).parent) + os.sep
_SYMPY = str(Path(sympy.__file__).parent) + os.sep
_STDLIB = sysconfig.get_paths()["stdlib"] + os.sep
_FRONTEND = str(Path(__file__).parents[1]) + os.sep
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_CALL_COUNT = re.compile(r"@\d+")


def node_loc(node: fx.Node) -> Loc:
    """Module path of the innermost module that made `node` and the innermost source line outside torch."""
    file, line = "", 0
    for name, number in reversed(_FRAME.findall(node.meta.get("stack_trace") or "")):
        if _is_users(name):
            file, line = _short(name), int(number)
            break
    return Loc(_module_path(node), file, line)


def error_source(error: BaseException) -> str:
    """`file:line` of the innermost frame outside torch and tersor that led to `error`, or an empty string."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename) and not f.filename.startswith(_FRONTEND)]
    return f"{_short(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""


def _module_path(node: fx.Node) -> str:
    stack: dict[str, Any] = node.meta.get("nn_module_stack") or {}
    for path, _ in reversed([v for v in stack.values() if isinstance(v, tuple)]):
        # a module that is called twice appears as `block@1`
        return _CALL_COUNT.sub("", str(path))
    return ""


def _is_users(file: str) -> bool:
    if file.startswith((_TORCH, _SYMPY, "torch" + os.sep, "<")):
        return False
    return not file.startswith(_STDLIB) or "site-packages" in file


def _short(file: str) -> str:
    """The path relative to the working directory if it is below, so that texts of one project agree between machines."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
