"""`load`: a graph from any file that holds one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..ir import save
from ..ir.errors import TersorError
from ..ir.graph import Graph


def load(
    path: str | Path,
    weights: str | Path | Mapping[str, np.ndarray] | None = None,
    *,
    shapes: Mapping[str, Sequence[int]] | Sequence[Sequence[int]] | None = None,
    batch: bool = True,
) -> Graph:
    """Read `model.tersor`, `model.mlir` with its `weights` (a .safetensors file or a mapping of arrays), or `model.onnx`.

    shapes: for an ONNX model, sizes of inputs where it leaves more than the batch free: by name, `{"x": (1, 3, 224, 224)}`, or in order.
    batch: for an ONNX model, whether a free batch stays free.

    A saved graph is verified, but uncoded arrays stay unread: NaN in weights is found by the next transform or compile.
    Raises TersorError.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        if weights is not None:
            raise TersorError(f"{path} holds its weights or names the files that do; weights= belongs to a .mlir file")
        from .onnx.load import load_onnx

        return load_onnx(path, shapes, batch=batch)
    if path.suffix not in (".tersor", ".mlir"):
        raise TersorError(f"cannot load {path}: expected a .tersor, .mlir or .onnx file")
    if shapes is not None:
        raise TersorError(f"{path} has fixed shapes; shapes= belongs to an .onnx file")
    return save.load(path, weights)
