"""The narrow floats in which GPUs keep or multiply f32 values: f16, bf16 (8 bits of precision, the range of f32) and tf32 (11 bits, in 4 bytes).

Values are rounded to the nearest, ties to even; tf32's ties away from zero, as `cvt.rna.tf32.f32` rounds (PTX ISA).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...ir.types import NUMPY

if TYPE_CHECKING:
    import torch

#: Bytes of an element in memory.
NBYTES = {"f16": 2, "bf16": 2, "tf32": 4}
#: What rounding to tf32 adds to the bits of an f32, and the bits that it keeps.
_HALF_STEP, _KEPT = 0x1000, -0x2000


def rounded(x: torch.Tensor, elem: str) -> torch.Tensor:
    """The values that `elem` holds, in the dtype of x."""
    import torch

    if elem != "tf32":
        return x.to(torch.float16 if elem == "f16" else torch.bfloat16).to(x.dtype)
    bits = x.to(torch.float32).contiguous().view(torch.int32)
    near = ((bits + _HALF_STEP) & _KEPT).view(torch.float32)
    return torch.where(x.isfinite(), near.to(x.dtype), x)


def stored(array: np.ndarray, elem: str) -> np.ndarray:
    """An f32 array as it lies in memory: float16, the bits of bf16 as uint16, or tf32's values as float32."""
    import torch

    if elem == "tf32":
        near: np.ndarray = rounded(torch.from_numpy(np.array(array, np.float32, order="C")), elem).numpy()
        return near
    with np.errstate(over="ignore"):
        narrow = array.astype(NUMPY[elem])
    return narrow.view(np.uint16) if elem == "bf16" else narrow


def loaded(array: np.ndarray, elem: str) -> np.ndarray:
    """The f32 values of what `stored` gives."""
    return (array.view(NUMPY["bf16"]) if elem == "bf16" else array).astype(np.float32)
