"""Constants that are packed straight into the weights blob, for large ones."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Packed:
    """A constant in the form that a kernel reads, which is written when its place in memory is known: packed weights are never held twice.

    size: elements of `dtype`. source: the array whose values it has. form: what else its bytes depend on, so that equal sources of equal forms are
    one constant. write: fills an array (size,); it may be called on any thread.
    """

    size: int
    dtype: str
    source: np.ndarray
    form: Hashable
    write: Callable[[np.ndarray], None]

    def array(self) -> np.ndarray:
        """(size,), written now."""
        result = np.empty(self.size, self.dtype)
        self.write(result)
        return result
